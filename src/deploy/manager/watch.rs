//! Looking after what was switched to, and after what releases depend on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::state::Health;
use super::{DeployError, Managed};
use crate::deploy::plan::{Tally, Watch, is_worse};
use crate::deploy::route::Release;
use crate::deploy::stats::Snapshot;
use crate::names::ReleaseHash;
use crate::runtime::RegistryHealth;

/// Between two looks at how the new release does.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Between two looks whether store and registry answer.
const HEALTH_EVERY: Duration = Duration::from_secs(15);

impl Managed {
    /// Goes back by itself when the new release fails more often than the old one did.
    ///
    /// Boxed, since going back is a switch, which is watched over.
    pub(super) fn watch_over(
        self: Arc<Self>,
        release: Arc<Release>,
        from: Option<ReleaseHash>,
    ) -> BoxFuture<'static, ()> {
        async move { self.watch(&release, from.as_ref()).await }.boxed()
    }

    async fn watch(self: &Arc<Self>, release: &Arc<Release>, from: Option<&ReleaseHash>) {
        let Some(failures_max) = self.config.rollback_failures_max else {
            return;
        };
        let watch = Watch {
            failures_max,
            time: self.config.rollback_watch,
            requests_min: self.config.rollback_requests_min,
        };
        let (old, before) = {
            let state = self.state.lock();
            let Some(switch) = &state.last_switch else {
                return;
            };
            let before = |hash| switch.before.get(hash).cloned().unwrap_or_default();
            let old = from.map(before).unwrap_or_default();
            (tally(&old), before(&release.hash))
        };
        let end = self.clock.now() + watch.time;
        while self.clock.now() < end {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.state.lock().current_hash() != Some(&release.hash) {
                return;
            }
            let new = tally(&release.stats.snapshot().since(&before));
            if let Some(reason) = is_worse(watch, old, new) {
                tracing::warn!(app = %self.name, release = release.hash.short(), reason, "going back by itself");
                let by = format!("the gateway: {reason}");
                let back = self.roll_back(Some(&release.hash), true, &by).await;
                // Somebody else may have been faster.
                if let Err(error) = back
                    && !matches!(error, DeployError::NotCurrent(_))
                {
                    tracing::error!(app = %self.name, %error, "going back failed; the new release serves on");
                }
                return;
            }
        }
    }

    /// Asks store and registry from time to time whether they answer.
    pub(super) async fn look_after_health(self: Arc<Self>) {
        loop {
            let (store, registry) = tokio::join!(
                self.store.check(),
                self.runtime.registry(&self.config.registry)
            );
            let store = match store {
                Ok(()) => Health::Up,
                Err(error) => Health::Down {
                    reason: error.to_string(),
                },
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

/// What counts as a failure of a release: its own 5xx, and that it could not be reached or woken.
fn tally(snapshot: &Snapshot) -> Tally {
    Tally {
        requests: snapshot.requests + snapshot.turned_over,
        failures: snapshot.failed,
    }
}
