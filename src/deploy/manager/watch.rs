//! Looking after what was switched to, and after what releases depend on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::state::{FailedRollback, Health};
use super::{DeployError, Managed, now};
use crate::config::DEFAULT_REGISTRY;
use crate::deploy::lately::Span;
use crate::deploy::plan::{Tally, Watch, is_worse};
use crate::deploy::records::CurrentDocument;
use crate::deploy::route::Release;
use crate::deploy::stats::Snapshot;
use crate::runtime::{RegistryHealth, RuntimeError};
use crate::store::StoreError;

/// Between two looks at how the new release does.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often it is looked, in that time, how the current release does. A span is so much longer at most.
const LOOKS_PER_SPAN: u32 = 8;

/// Between two looks whether store and registry answer.
const HEALTH_EVERY: Duration = Duration::from_secs(15);

impl Managed {
    /// Goes back by itself when the new release fails more often than the old one did, within `time`, if
    /// that is configured. Until then the releases stay to which that one would be gone back from.
    ///
    /// Boxed, since going back is a switch, which is watched over.
    pub(super) fn watch_over(
        self: Arc<Self>,
        release: Arc<Release>,
        switch: CurrentDocument,
        time: Duration,
    ) -> BoxFuture<'static, ()> {
        let watching = async move {
            self.watch(&release, &switch, time).await;
            self.state
                .lock()
                .watched
                .take_if(|watched| *watched == switch);
            self.tidy().await;
        };
        watching.boxed()
    }

    /// What a new release is measured by: the old one in as long a time as the new one is given, and in as
    /// many requests as it takes.
    pub(super) fn span(&self) -> Span {
        Span {
            time: self.config.rollback_watch,
            requests: self.config.rollback_requests_min,
        }
    }

    /// Keeps an eye on the current release, for the switch that comes some day.
    pub(super) async fn look_after_shares(self: Arc<Self>) {
        let span = self.span();
        loop {
            let now = self.clock.now();
            self.state.lock().look(now, span);
            tokio::time::sleep(span.time / LOOKS_PER_SPAN).await;
        }
    }

    async fn watch(
        self: &Arc<Self>,
        release: &Arc<Release>,
        switch: &CurrentDocument,
        time: Duration,
    ) {
        let failures_max = self.config.rollback_failures_max;
        let mut watch = failures_max.map(|failures_max| Watch {
            failures_max,
            requests_min: self.config.rollback_requests_min,
        });
        let (old, before) = {
            let state = self.state.lock();
            // After a start of the gateway nothing is counted yet.
            let last = state.last_switch.as_ref();
            let before = last.and_then(|last| last.before.get(&release.hash));
            (state.before, before.cloned().unwrap_or_default())
        };
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            tokio::time::sleep(LOOK_EVERY).await;
            // Also when it was left and switched to again meanwhile: that is looked at anew.
            if self.state.lock().watched.as_ref() != Some(switch) {
                return;
            }
            let new = Tally::from(&release.stats.snapshot().since(&before));
            if let Some(reason) = watch.and_then(|watch| is_worse(watch, old, new)) {
                tracing::warn!(app = %self.name, release = release.hash.short(), reason, "the new release fails too often");
                let by = format!("the gateway: {reason}");
                let back = self.roll_back(Some(&release.hash), true, &by).await;
                match back {
                    // Something else may come of what is under way; it goes on failing, or not.
                    Err(DeployError::Busy(_)) => continue,
                    // Somebody else was faster.
                    Ok(_) | Err(DeployError::NotCurrent(_)) => {}
                    // It may be the first one; that it fails is told above.
                    Err(error @ DeployError::NothingToGoBackTo { .. }) => {
                        tracing::info!(app = %self.name, %error, "the new release serves on");
                        self.cannot_leave(release, reason, &error);
                        watch = None;
                        continue;
                    }
                    Err(error) => {
                        tracing::error!(app = %self.name, %error, "going back failed; the new release serves on");
                        // It is not tried again; an operator may go further back meanwhile.
                        self.cannot_leave(release, reason, &error);
                        watch = None;
                        continue;
                    }
                }
                return;
            }
        }
    }

    /// Shows that a release serves on although it was to be left, unless another one is current by now.
    fn cannot_leave(&self, release: &Release, reason: String, error: &DeployError) {
        {
            let mut state = self.state.lock();
            if state.current_hash() != Some(&release.hash) {
                return;
            }
            state.failed_rollback = Some(FailedRollback {
                hash: release.hash.clone(),
                at: now(),
                reason,
                error: error.to_string(),
            });
        }
        self.tell();
    }

    /// Whether the store answers, and has what it was given.
    async fn store_health(&self) -> Result<(), String> {
        let there = self.store_is_there().await.map_err(|e| e.to_string())?;
        if let Some(unreadable) = there {
            return Err(unreadable.to_string());
        }
        self.store
            .history()
            .await
            .map_err(|error| error.to_string())?;
        match &self.state.lock().pending {
            // It can be read only.
            Some(pending) => Err(pending.error.clone()),
            None => Ok(()),
        }
    }

    /// That the store answers and has not lost what it had; with what is wrong with its current
    /// release, which a switch writes anew.
    pub(super) async fn store_is_there(&self) -> Result<Option<StoreError>, DeployError> {
        let read = self.store.check().await?.current;
        let (is_in_store, is_store_lost) = {
            let state = self.state.lock();
            (state.is_in_store, state.is_store_lost)
        };
        match read {
            Ok(None) if is_in_store => Err(DeployError::StoreIsLost(self.store.describe())),
            Ok(None) if is_store_lost => Err(self.store_is_empty()),
            read => Ok(read.err()),
        }
    }

    /// Not asked while nobody needs it: that the default one does not answer says nothing to those who
    /// have none.
    async fn registry_health(&self) -> Result<RegistryHealth, RuntimeError> {
        let registry = self.config.registry.as_str();
        let is_from_there = |release: &Arc<Release>| {
            let rest = release.spec.image.strip_prefix(registry);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let is_needed =
            registry != DEFAULT_REGISTRY || self.state.lock().known.values().any(is_from_there);
        match is_needed {
            true => self.runtime.registry(registry).await,
            false => Ok(RegistryHealth::Unknown),
        }
    }

    /// Asks store and registry from time to time whether they answer.
    pub(super) async fn look_after_health(self: Arc<Self>) {
        loop {
            let (store, registry) = tokio::join!(self.store_health(), self.registry_health());
            let store = match store {
                Ok(()) => Health::Up,
                Err(reason) => Health::Down { reason },
            };
            let registry = match registry {
                Ok(RegistryHealth::Up) => Health::Up,
                Ok(RegistryHealth::Down(reason)) => Health::Down { reason },
                // The engine is told of elsewhere.
                Ok(RegistryHealth::Unknown) | Err(_) => Health::Unknown,
            };
            let changed = {
                let mut state = self.state.lock();
                let changed = state.store != store || state.registry != registry;
                (state.store, state.registry) = (store, registry);
                changed
            };
            if changed {
                self.tell();
            }
            tokio::time::sleep(HEALTH_EVERY).await;
        }
    }
}

/// What counts as a failure of a release: its own 5xx, an answer that it broke off, and that it could not be
/// reached or woken.
impl From<&Snapshot> for Tally {
    fn from(snapshot: &Snapshot) -> Self {
        Tally {
            requests: snapshot.visits(),
            failures: snapshot.failed,
        }
    }
}
