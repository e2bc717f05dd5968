//! The releases of all applications: stored, launched, switched to, drained, gone back to.
//!
//! The manager decides which release is current and tells the workloads' own machines what it wants
//! of them; it starts and stops nothing itself. What has to outlive the gateway is in the store, and
//! which containers there are is the engine's to tell.

mod anew;
mod error;
mod launch;
mod metrics;
mod start;
mod state;
mod status;
mod switch;
mod tidy;
mod views;
mod watch;
mod writing;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::{RwLock, watch as channel};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::error::DeployError;
pub use self::state::{Health, LaunchPhase};
pub use self::views::{AppStatus, Discarded, Launched, Status, Stored, Switched};

use self::state::State;
use crate::clock::{Clock, unix_millis};
use crate::config::{self, Config};
use crate::deploy::configuration::{Given, LaunchConfiguration};
use crate::deploy::journal::{Journal, Noted};
use crate::deploy::records::HistoryEntry;
use crate::deploy::route::{App, AppLimits, Apps, Door};
use crate::lifecycle::fleet::{Fleet, View};
use crate::names::{AppName, ReleaseHash};
use crate::runtime::Runtime;
use crate::spec::{APP_LABEL, RELEASE_LABEL, SpecPolicy};
use crate::store::{Store, StoreError};

/// Every application of gateway.toml. Dropping it ends what it does in the background; containers
/// stay as they are.
pub struct Manager {
    apps: BTreeMap<AppName, Arc<Managed>>,
    routes: Apps,
    changed: channel::Sender<()>,
    _working: DropGuard,
}

/// One application with all that its releases need.
struct Managed {
    name: AppName,
    config: config::App,
    policy: SpecPolicy,
    /// For the engine to carry out a start, besides what a health check may take.
    start_timeout: Duration,
    route: Arc<App>,
    store: Store,
    journal: Arc<Journal>,
    /// The journal could not be written, which is told once.
    is_journal_lost: AtomicBool,
    fleet: Arc<Fleet>,
    runtime: Arc<dyn Runtime>,
    clock: Clock,
    /// When this gateway began, RFC 3339.
    began: String,
    state: Mutex<State>,
    /// Held while the current release changes.
    changing: tokio::sync::Mutex<()>,
    /// Launches hold it to read; what removes containers holds it to write.
    tidying: RwLock<()>,
    /// Told when something is to be shown anew.
    changed: channel::Sender<()>,
    /// Cancelled when the manager ends.
    ending: CancellationToken,
}

/// Why the manager could not be made: the application and what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("[apps.{app}]")]
pub struct OpenError {
    app: AppName,
    source: StoreError,
}

impl Manager {
    /// Opens the stores and begins to find out which release of each application is current; until
    /// that is known its requests are held. Must be called on the runtime that engine work runs on.
    pub fn open(
        config: &Config,
        fleet: &Arc<Fleet>,
        runtime: &Arc<dyn Runtime>,
        clock: Clock,
        registry: &mut Registry,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Arc<Self>, OpenError> {
        let mut stores = BTreeMap::new();
        for (name, app) in &config.apps {
            let opened = Store::open(&app.store, &app.store_options, env);
            let opened = opened.map_err(|source| OpenError {
                app: name.clone(),
                source,
            })?;
            stores.insert(name.clone(), opened);
        }
        Ok(Self::with_stores(
            config, fleet, runtime, clock, registry, stores,
        ))
    }

    /// The same with stores that are open; an application without one has none.
    fn with_stores(
        config: &Config,
        fleet: &Arc<Fleet>,
        runtime: &Arc<dyn Runtime>,
        clock: Clock,
        registry: &mut Registry,
        mut stores: BTreeMap<AppName, Store>,
    ) -> Arc<Self> {
        let changed = channel::Sender::new(());
        let ending = CancellationToken::new();
        let managed = config.apps.iter().filter_map(|(name, app)| {
            let limits = AppLimits {
                pause_max: app.pause_max,
                held_max: config.hold.queue_max,
            };
            let journal = Journal::new(&app.journal);
            let noted = noted(name, &journal);
            let managed = Managed {
                store: stores.remove(name)?,
                journal: Arc::new(journal),
                is_journal_lost: AtomicBool::new(false),
                name: name.clone(),
                config: app.clone(),
                policy: config.spec.clone(),
                start_timeout: config.lifecycle.start_timeout,
                route: App::new(name.clone(), limits),
                fleet: fleet.clone(),
                runtime: runtime.clone(),
                clock,
                began: now(),
                state: Mutex::new(State::new(&noted)),
                changing: tokio::sync::Mutex::new(()),
                tidying: RwLock::new(()),
                changed: changed.clone(),
                ending: ending.clone(),
            };
            if noted.in_maintenance {
                tracing::warn!(app = %name, "in maintenance since before this start, until `wakegate maintenance down`");
                managed.route.set_door(Door::Maintenance);
            }
            Some((Arc::new(managed), noted))
        });
        let managed: Vec<(Arc<Managed>, Noted)> = managed.collect();
        let apps: BTreeMap<AppName, Arc<Managed>> = managed
            .iter()
            .map(|(managed, _)| (managed.name.clone(), managed.clone()))
            .collect();
        metrics::register(registry, apps.values());
        for (managed, noted) in managed {
            managed.spawn(managed.clone().begin(noted));
            managed.spawn(managed.clone().look_after_health());
            if managed.config.rollback_failures_max.is_some() {
                managed.spawn(managed.clone().look_after_shares());
            }
        }
        Arc::new(Self {
            routes: Apps::new(
                apps.values().map(|managed| managed.route.clone()),
                fleet.places(),
            ),
            apps,
            changed,
            _working: ending.drop_guard(),
        })
    }

    /// Of no applications.
    pub fn of_none() -> Arc<Self> {
        Arc::new(Self {
            apps: BTreeMap::new(),
            routes: Apps::default(),
            changed: channel::Sender::new(()),
            _working: CancellationToken::new().drop_guard(),
        })
    }

    /// Where requests look up applications.
    pub fn routes(&self) -> Apps {
        self.routes.clone()
    }

    /// Told when something is to be shown anew; what is counted changes without it.
    pub fn changes(&self) -> channel::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn names(&self) -> impl Iterator<Item = &AppName> {
        self.apps.keys()
    }

    /// The application that is meant: the named one, or the only one.
    pub fn which(&self, named: Option<&str>) -> Result<AppName, DeployError> {
        self.managed(named).map(|managed| managed.name.clone())
    }

    fn managed(&self, named: Option<&str>) -> Result<&Arc<Managed>, DeployError> {
        match named {
            Some(name) => self
                .apps
                .get(name)
                .ok_or_else(|| DeployError::UnknownApp(name.to_owned())),
            None => self.only(),
        }
    }

    fn only(&self) -> Result<&Arc<Managed>, DeployError> {
        let mut apps = self.apps.values();
        match (apps.next(), apps.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(DeployError::WhichApp(
                "gateway.toml has no [apps.NAME]".to_owned(),
            )),
            _ => {
                let names: Vec<&str> = self.apps.keys().map(AppName::as_str).collect();
                let names = names.join(", ");
                Err(DeployError::WhichApp(format!("there are {names}")))
            }
        }
    }

    /// Checks a launch configuration and stores its bytes as they are.
    pub async fn store(&self, app: &AppName, bytes: Bytes) -> Result<Stored, DeployError> {
        let managed = self.managed(Some(app.as_str()))?;
        let (configuration, warnings) = LaunchConfiguration::read(&bytes)?;
        // What could never be launched is better said now.
        managed.admitted(&configuration, &ReleaseHash::of(&bytes))?;
        // What is not mounted is not written to.
        managed.store_is_there().await?;
        let hash = managed.store.put_configuration(bytes).await?;
        Ok(Stored {
            app: app.clone(),
            revision: configuration.revision,
            hash,
            warnings,
        })
    }

    /// Launches a stored release beside the current one; returns when it is healthy, or that it is
    /// not and is gone again. A launch under way is joined. The launch goes on when the returned
    /// future is dropped.
    pub async fn launch(&self, app: &AppName, hash: &ReleaseHash) -> Result<Launched, DeployError> {
        self.managed(Some(app.as_str()))?.launch(hash).await
    }

    /// Makes a launched release the current one, or the canary beside it.
    pub async fn switch(
        &self,
        app: &AppName,
        hash: &ReleaseHash,
        canary: bool,
        by: &str,
    ) -> Result<Switched, DeployError> {
        let managed = self.managed(Some(app.as_str()))?.clone();
        let (hash, by) = (hash.clone(), by.to_owned());
        whole(async move { managed.switch(&hash, canary, &by).await }).await
    }

    /// Goes back to the release that was current before; while there is a canary, gives that up.
    /// With `leaving`, only if that is the current one, and whatever canary there is.
    pub async fn roll_back(
        &self,
        app: &AppName,
        leaving: Option<&ReleaseHash>,
        by: &str,
    ) -> Result<Switched, DeployError> {
        let managed = self.managed(Some(app.as_str()))?.clone();
        let (leaving, by) = (leaving.cloned(), by.to_owned());
        whole(async move { managed.roll_back(leaving.as_ref(), false, &by).await }).await
    }

    /// Takes a launched release away that was not switched to. Its configuration stays in the store.
    pub async fn discard(
        &self,
        app: &AppName,
        hash: &ReleaseHash,
    ) -> Result<Discarded, DeployError> {
        let managed = self.managed(Some(app.as_str()))?.clone();
        let hash = hash.clone();
        whole(async move { managed.discard(&hash).await }).await
    }

    /// Who was current when, oldest first.
    pub async fn history(&self, app: &AppName) -> Result<Vec<HistoryEntry>, DeployError> {
        let managed = self.managed(Some(app.as_str()))?;
        Ok(managed.store.history().await?)
    }

    /// Opens or closes an application to requests. Opening ends only `what`: who resumes does not
    /// end a maintenance, and a pause does not take the place of one. A maintenance outlives the gateway.
    pub async fn set_door(
        &self,
        app: &AppName,
        what: Door,
        is_on: bool,
    ) -> Result<(), DeployError> {
        let managed = self.managed(Some(app.as_str()))?.clone();
        let door = match (managed.route.door(), what, is_on) {
            (before, _, false) if before != what => return Ok(()),
            (Door::Maintenance, Door::Paused, true) => return Ok(()),
            (_, _, false) => Door::Open,
            (_, _, true) => what,
        };
        managed.route.set_door(door);
        tracing::info!(%app, ?door, "the way to an application was changed");
        managed.tell();
        whole(async move {
            managed.note_door().await;
            Ok(())
        })
        .await
    }

    /// Everything that there is to be told.
    pub fn status(&self) -> Status {
        Status {
            apps: self.apps.values().map(|managed| managed.status()).collect(),
        }
    }

    pub fn status_of(&self, app: &AppName) -> Result<AppStatus, DeployError> {
        Ok(self.managed(Some(app.as_str()))?.status())
    }
}

/// What an earlier start of this gateway has left in the journal.
fn noted(app: &AppName, journal: &Journal) -> Noted {
    journal.read().unwrap_or_else(|error| {
        tracing::warn!(
            %app, journal = %journal.path().display(), %error,
            "the journal cannot be read; the store tells which release is current"
        );
        Noted::default()
    })
}

/// Carries a change out to its end, also when whoever asked for it goes away.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, DeployError>> + Send + 'static,
) -> Result<T, DeployError> {
    match tokio::spawn(change).await {
        Ok(done) => done,
        Err(broken) => std::panic::resume_unwind(broken.into_panic()),
    }
}

impl Managed {
    /// Runs until its end or the manager's.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let work = self.ending.clone().run_until_cancelled_owned(work);
        tokio::spawn(work);
    }

    fn tell(&self) {
        self.changed.send_replace(());
    }

    /// The application's containers, as the engine has them.
    fn containers(&self) -> Vec<View> {
        let mut views = self.fleet.views();
        views.retain(|view| {
            view.labels
                .get(APP_LABEL)
                .is_some_and(|app| *app == self.name.as_str())
        });
        views
    }

    fn container(&self, hash: &ReleaseHash) -> Option<View> {
        self.containers()
            .into_iter()
            .find(|view| release_of(view).as_ref() == Some(hash))
    }

    /// The same, where that there is none has to be certain: also right after the gateway's start.
    async fn listed_container(&self, hash: &ReleaseHash) -> Result<Option<View>, DeployError> {
        if let Some(view) = self.container(hash) {
            return Ok(Some(view));
        }
        self.fleet.listed().await?;
        Ok(self.container(hash))
    }

    fn given(&self) -> Given {
        Given {
            registry: self.config.registry.clone(),
            env: self.config.env.clone(),
            network: self.config.network.clone(),
            health_path: self.config.health_path.clone(),
            health_timeout: self.config.health_timeout,
        }
    }
}

/// Which release a container belongs to, by its label.
fn release_of(view: &View) -> Option<ReleaseHash> {
    ReleaseHash::new(view.labels.get(RELEASE_LABEL)?).ok()
}

/// Whether it runs or is about to.
fn is_awake(view: &View) -> bool {
    matches!(view.phase, "ready" | "starting")
}

/// The time of day for records, RFC 3339 in UTC.
fn now() -> String {
    Timestamp::from_millisecond(unix_millis())
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}
