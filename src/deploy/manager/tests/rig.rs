//! An application over an engine and a store in memory, and what tests do with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::registry::Registry;
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::decision::{ContainerFacts, ContainerRules, IdleRule, ReadyRule, ScriptFailure};
use crate::deploy::configuration::workload_name;
use crate::deploy::manager::{AppStatus, DeployError, Discarded, Launched, Manager, Switched};
use crate::deploy::stats::Visit;
use crate::lifecycle::fleet::{Ask, Fleet};
use crate::lifecycle::gate::Lease;
use crate::names::{AppName, ReleaseHash, WorkloadName};
use crate::runtime::Runtime;
use crate::runtime::fake::Fake;
use crate::spec::WorkloadSpec;
use crate::store::Store;

pub const SECOND: Duration = Duration::from_secs(1);

/// The longest that anything is waited for, on the paused clock.
const LIMIT: Duration = Duration::from_secs(3_600);

pub struct Rig {
    pub app: AppName,
    pub fake: Fake,
    pub store: Store,
    pub manager: Arc<Manager>,
    fleet: Arc<Fleet>,
    config: Config,
    revisions: std::cell::RefCell<BTreeMap<ReleaseHash, String>>,
}

/// Ready after a moment, asleep after a minute.
struct Rules;

impl ContainerRules for Rules {
    fn ready(&self, _: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        Ok(Some(ReadyRule::Wait(Duration::from_millis(100))))
    }

    fn idle(&self, _: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        Ok(Some(IdleRule::StopAfter(60 * SECOND)))
    }

    fn template(
        &self,
        _: &str,
        _: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        Ok(None)
    }
}

/// A hash that no store has.
pub fn unknown() -> ReleaseHash {
    ReleaseHash::new(&"ab".repeat(32)).unwrap()
}

impl Rig {
    /// With nothing in its store; returns when that is known.
    pub async fn new(change: impl FnOnce(&mut config::App)) -> Self {
        Self::over(Store::in_memory(), change).await
    }

    pub async fn over(store: Store, change: impl FnOnce(&mut config::App)) -> Self {
        let app = AppName::new("shop").unwrap();
        let mut config = Config::default();
        let mut shop = config::App::new(&app);
        // A folder that cannot be: what is written here would outlive the test.
        shop.journal = "/dev/null/shop.json".into();
        change(&mut shop);
        config.apps.insert(app.clone(), shop);
        let revisions = std::cell::RefCell::default();
        let rig = Self::open(config, Fake::new(), store, revisions);
        rig.until_begun().await;
        rig
    }

    /// The gateway ended, however, and began again.
    pub async fn restart(self) -> Self {
        let rig = self.restart_at_once();
        rig.until_begun().await;
        rig
    }

    /// That, without a word from the engine or from the store yet.
    pub fn restart_at_once(self) -> Self {
        let Self {
            config,
            fake,
            store,
            manager,
            fleet,
            revisions,
            ..
        } = self;
        drop((manager, fleet));
        Self::open(config, fake, store, revisions)
    }

    async fn until_begun(&self) {
        self.until(|rig| rig.state() != "loading").await;
    }

    /// The same, and its store is another one.
    pub async fn restart_with(mut self, store: Store) -> Self {
        self.store = store;
        self.restart().await
    }

    fn open(
        config: Config,
        fake: Fake,
        store: Store,
        revisions: std::cell::RefCell<BTreeMap<ReleaseHash, String>>,
    ) -> Self {
        let app = AppName::new("shop").unwrap();
        let runtime: Arc<dyn Runtime> = Arc::new(fake.clone());
        let clock = Clock::new();
        let fleet = Fleet::open(
            &config,
            runtime.clone(),
            Arc::new(Rules),
            clock,
            &mut Registry::default(),
        );
        let stores = BTreeMap::from([(app.clone(), store.clone())]);
        let manager = Manager::with_stores(
            &config,
            &fleet,
            &runtime,
            clock,
            &mut Registry::default(),
            stores,
        );
        Self {
            app,
            fake,
            store,
            manager,
            fleet,
            config,
            revisions,
        }
    }

    pub fn status(&self) -> AppStatus {
        self.manager.status_of(&self.app).unwrap()
    }

    pub fn state(&self) -> &'static str {
        self.status().state
    }

    pub fn current(&self) -> Option<ReleaseHash> {
        self.status().current
    }

    /// Waits, on the paused clock.
    pub async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting)
            .await
            .expect("it never came to that");
    }

    /// Stores a release of that revision.
    pub async fn store(&self, revision: &str, envs: &[(&str, &str)]) -> ReleaseHash {
        let envs: BTreeMap<&str, &str> = envs.iter().copied().collect();
        let configuration = json!({ "revision": revision, "envs": envs, "port": 80 });
        self.store_as(revision, configuration).await
    }

    /// The same with a launch configuration of its own, whose revision that is.
    pub async fn store_as(&self, revision: &str, configuration: Value) -> ReleaseHash {
        let bytes = configuration.to_string().into_bytes();
        let stored = self.manager.store(&self.app, bytes.into()).await.unwrap();
        self.revisions
            .borrow_mut()
            .insert(stored.hash.clone(), revision.to_owned());
        stored.hash
    }

    pub async fn launch(&self, hash: &ReleaseHash) -> Result<Launched, DeployError> {
        self.manager.launch(&self.app, hash).await
    }

    pub async fn switch(&self, hash: &ReleaseHash) -> Result<Switched, DeployError> {
        self.manager.switch(&self.app, hash, false, "tester").await
    }

    pub async fn canary(&self, hash: &ReleaseHash) -> Result<Switched, DeployError> {
        self.manager.switch(&self.app, hash, true, "tester").await
    }

    pub async fn discard(&self, hash: &ReleaseHash) -> Result<Discarded, DeployError> {
        self.manager.discard(&self.app, hash).await
    }

    pub async fn roll_back(&self) -> Result<Switched, DeployError> {
        self.manager.roll_back(&self.app, None, "tester").await
    }

    pub async fn leave(&self, hash: &ReleaseHash) -> Result<Switched, DeployError> {
        self.manager
            .roll_back(&self.app, Some(hash), "tester")
            .await
    }

    /// Stores, launches and switches.
    pub async fn go_live(&self, revision: &str) -> ReleaseHash {
        let hash = self.store(revision, &[]).await;
        self.launch(&hash).await.unwrap();
        self.switch(&hash).await.unwrap();
        hash
    }

    /// The name of a release's container.
    pub fn name(&self, hash: &ReleaseHash) -> WorkloadName {
        let revision = self.revisions.borrow()[hash].clone();
        workload_name(&self.app, &revision, hash)
    }

    pub fn exists(&self, hash: &ReleaseHash) -> bool {
        self.fake.get(self.name(hash).as_str()).is_some()
    }

    pub fn is_running(&self, hash: &ReleaseHash) -> bool {
        self.exists(hash) && self.fake.is_running(self.name(hash).as_str())
    }

    /// Waits until a release's container is there and does not run.
    pub async fn asleep(&self, hash: &ReleaseHash) {
        self.until(|rig| !rig.is_running(hash)).await;
        assert!(self.exists(hash), "it was removed");
    }

    /// Waits until a release's container is no more.
    pub async fn gone(&self, hash: &ReleaseHash) {
        self.until(|rig| !rig.exists(hash)).await;
    }

    pub async fn has_image(&self, image: &str) -> bool {
        self.fake.image(image).await.unwrap().is_some()
    }

    /// From now on the release ends at each start before it is ready, having said `line`.
    pub fn crashes(&self, hash: &ReleaseHash, line: &str) {
        let name = self.name(hash);
        self.fake.behave(name.as_str(), |behaviour| {
            behaviour.exits_after = Some((Duration::from_millis(10), 1));
        });
        let (fake, line) = (self.fake.clone(), line.to_owned());
        tokio::spawn(async move {
            let runs =
                |fake: &Fake| fake.get(name.as_str()).is_some() && fake.is_running(name.as_str());
            fake.wait_until(runs).await;
            fake.print(name.as_str(), &line);
        });
    }

    pub fn mend(&self, hash: &ReleaseHash) {
        self.fake.behave(self.name(hash).as_str(), |behaviour| {
            behaviour.exits_after = None;
        });
    }

    /// A request that uses the release's container.
    pub async fn lease(&self, hash: &ReleaseHash) -> Lease {
        let workload = self.name(hash);
        let ask = Ask {
            workload: &workload,
            counts: true,
            wait: 60 * SECOND,
            create: None,
            superseded: None,
        };
        self.fleet.acquire(ask).await.expect("it wakes")
    }

    /// Counts requests that a release has answered.
    pub fn requests(&self, hash: &ReleaseHash, count: u64, status: u16) {
        let managed = self.manager.managed(Some("shop")).unwrap();
        let stats = managed.state.lock().known[hash].stats.clone();
        let status = StatusCode::from_u16(status).unwrap();
        for _ in 0..count {
            Visit::new(stats.clone()).answered(status, Duration::from_millis(5));
        }
    }
}
