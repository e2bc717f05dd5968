//! Changing which release is current: forwards, as a canary, and back.

use std::sync::Arc;
use std::time::Duration;

use super::state::{LastSwitch, State};
use super::views::{Snapshots, Switched};
use super::{DeployError, Managed, now};
use crate::deploy::records::{ChangeKind, CurrentDocument, HistoryEntry};
use crate::deploy::route::{Current, Release};
use crate::names::ReleaseHash;
use crate::store::StoreError;

/// How long a change waits for another one: going back may have to wake a release first.
const CHANGE_WAIT: Duration = Duration::from_secs(10);

/// How long going back, and a start that has noted its release, wait for what the store tells. Much less
/// than the store's own limit: requests fail meanwhile.
pub(super) const STORE_WAIT: Duration = Duration::from_secs(2);

impl Managed {
    pub(super) async fn switch(
        self: &Arc<Self>,
        hash: &ReleaseHash,
        canary: bool,
        by: &str,
    ) -> Result<Switched, DeployError> {
        let _changing = self.changing().await?;
        let (is_launching, is_current) = {
            let state = self.state.lock();
            let is_current = state.current_hash() == Some(hash);
            (state.launching(hash).is_some(), is_current)
        };
        if is_launching {
            return Err(self.launching(hash));
        }
        if is_current && canary {
            return Err(DeployError::IsCurrent(hash.clone()));
        }
        // What is looked at here is not to be removed meanwhile, nor put to sleep while it wakes.
        let _staying = self.tidying.read().await;
        // Before anything is changed: a store that is away, or full, refuses the switch.
        self.store_is_there().await?;
        let release = self.launched_release(hash).await?;
        self.store.can_be_written().await?;
        match self.store.history().await {
            Ok(history) => {
                let mut state = self.state.lock();
                state.take_history(history);
                state.is_history_known = true;
            }
            Err(error @ StoreError::Malformed { .. }) => {
                tracing::warn!(app = %self.name, %error, "the switch sets it aside; what is known here is written");
            }
            Err(error) => return Err(error.into()),
        }
        if is_current {
            // Whatever was tried beside it is over.
            let gave_up = self.give_up_canary();
            return Ok(Switched {
                gave_up,
                ..self.switched(&release, Some(hash.clone()), true)
            });
        }
        self.prove(hash).await?;
        if canary {
            return self.try_out(release);
        }
        self.make_current(release, ChangeKind::Switch, by).await
    }

    /// Goes back to the previous release; `by_itself` because the new one fails. With `leaving`, only
    /// if that is the current one still: who wants to leave a release must not leave another one,
    /// because somebody else was faster.
    pub(super) async fn roll_back(
        self: &Arc<Self>,
        leaving: Option<&ReleaseHash>,
        by_itself: bool,
        by: &str,
    ) -> Result<Switched, DeployError> {
        let _changing = self.changing().await?;
        let current = self.state.lock().current_hash().cloned();
        if let Some(leaving) = leaving.filter(|leaving| current.as_ref() != Some(leaving)) {
            return Err(DeployError::NotCurrent(leaving.clone()));
        }
        let gave_up = match leaving {
            None => self.give_up_canary(),
            Some(_) => None,
        };
        if gave_up.is_some() {
            let state = self.state.lock();
            let current = state.current_release().cloned();
            drop(state);
            let no_current = || DeployError::NoCurrent {
                app: self.name.clone(),
            };
            let current = current.ok_or_else(no_current)?;
            return Ok(Switched {
                gave_up,
                ..self.switched(&current, Some(current.hash.clone()), true)
            });
        }
        // Going back must also be possible while the store is away: what is known then counts. And soon.
        let read = tokio::time::timeout(STORE_WAIT, self.store.history()).await;
        let unread = match read {
            Ok(Ok(history)) => {
                self.state.lock().take_history(history);
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(app = %self.name, %error, "going back by the history that was read last");
                Some(error)
            }
            Err(_) => {
                tracing::warn!(app = %self.name, "the store does not answer: going back by the history that was read last");
                None
            }
        };
        let Some(hash) = self.state.lock().previous() else {
            let nothing = || DeployError::NothingToGoBackTo {
                app: self.name.clone(),
            };
            return Err(unread.map_or_else(nothing, DeployError::from));
        };
        // Until it is current, nothing is routed to it: it would be put to sleep while it wakes.
        let _staying = self.tidying.read().await;
        let is_leaving = self.state.lock().leaving.contains(&hash);
        match self.listed_container(&hash).await?.filter(|_| !is_leaving) {
            Some(view) => self.wake(&hash, &view.name, None).await?,
            // Somebody has removed it; its configuration and the registry still have it.
            None => {
                let launched = self.bring_back(&hash).await;
                self.state.lock().settle_candidate(&hash);
                launched?;
            }
        }
        let release = self.woken_release(&hash).await?;
        let kind = if by_itself {
            ChangeKind::AutomaticRollback
        } else {
            ChangeKind::Rollback
        };
        self.make_current(release, kind, by).await
    }

    pub(super) async fn changing(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, DeployError> {
        let turn = tokio::time::timeout(CHANGE_WAIT, self.changing.lock()).await;
        turn.map_err(|_| DeployError::Busy(self.name.clone()))
    }

    /// The release, if it has a container that can be used.
    async fn launched_release(&self, hash: &ReleaseHash) -> Result<Arc<Release>, DeployError> {
        if self.container(hash).is_none() {
            // That there is no such release at all is the better answer.
            self.store.configuration(hash).await?;
        }
        let view = self.listed_container(hash).await?;
        let view = view.ok_or_else(|| self.not_launched(hash))?;
        if view.phase == "removing" || self.state.lock().leaving.contains(hash) {
            return Err(self.not_launched(hash));
        }
        self.known(hash).await
    }

    /// A release that is awake; as its container tells of it where the store is away.
    async fn woken_release(&self, hash: &ReleaseHash) -> Result<Arc<Release>, DeployError> {
        match (self.launched_release(hash).await, self.container(hash)) {
            (Err(error @ DeployError::Store(_)), Some(view)) => {
                let release = self.as_the_engine_has_it(hash, &view).await;
                release.ok_or(error)
            }
            (release, _) => release,
        }
    }

    pub(super) fn launching(&self, hash: &ReleaseHash) -> DeployError {
        DeployError::Launching {
            app: self.name.clone(),
            hash: hash.clone(),
        }
    }

    fn not_launched(&self, hash: &ReleaseHash) -> DeployError {
        DeployError::NotLaunched {
            app: self.name.clone(),
            hash: hash.clone(),
        }
    }

    /// Wakes a release that is to get requests, where sleeping on is not as good: while the current
    /// one is awake nobody is to wait for the new one, and one that failed last is to show that it
    /// does not any more. An application that sleeps is not woken for a switch.
    async fn prove(&self, hash: &ReleaseHash) -> Result<(), DeployError> {
        let Some(view) = self.container(hash) else {
            return Err(self.not_launched(hash));
        };
        let (is_unhealthy, current) = {
            let state = self.state.lock();
            let current = state.current_hash().cloned();
            (state.unhealthy.contains(hash), current)
        };
        let current = current.and_then(|current| self.container(&current));
        // Who waits for one that wakes gets the new one, which wakes as fast.
        let is_awake = current.is_some_and(|current| current.phase == "ready");
        let is_in_doubt = is_unhealthy || view.phase == "failed" || view.reason.is_some();
        if is_awake || is_in_doubt {
            self.wake(hash, &view.name, None).await?;
        }
        Ok(())
    }

    /// Lets a part of the requests go to a release, as the scripts decide.
    fn try_out(self: &Arc<Self>, release: Arc<Release>) -> Result<Switched, DeployError> {
        let before = {
            let mut state = self.state.lock();
            if state.current_release().is_none() {
                return Err(DeployError::NoCurrent {
                    app: self.name.clone(),
                });
            }
            state.settle_candidate(&release.hash);
            state.draining.remove(&release.hash);
            let before = state.canary.replace(release.clone());
            self.publish(&state);
            before.filter(|before| before.hash != release.hash)
        };
        let gave_up = before.as_ref().map(|before| before.hash.clone());
        if let Some(before) = before {
            self.lay_down(before);
        }
        tracing::info!(app = %self.name, release = release.hash.short(), "a canary gets requests");
        self.tell();
        let current = self.state.lock().current_hash().cloned();
        Ok(Switched {
            canary: true,
            gave_up,
            ..self.switched(&release, current, false)
        })
    }

    /// Takes the canary's requests away, if there is one.
    fn give_up_canary(self: &Arc<Self>) -> Option<ReleaseHash> {
        let canary = {
            let mut state = self.state.lock();
            let canary = state.canary.take();
            self.publish(&state);
            canary
        };
        let canary = canary?;
        let hash = canary.hash.clone();
        tracing::info!(app = %self.name, release = hash.short(), "a canary was given up");
        self.lay_down(canary);
        self.tell();
        Some(hash)
    }

    /// From here on the switch is done, whatever the store says.
    async fn make_current(
        self: &Arc<Self>,
        release: Arc<Release>,
        kind: ChangeKind,
        by: &str,
    ) -> Result<Switched, DeployError> {
        let entry = HistoryEntry {
            revision: release.revision.clone(),
            hash: release.hash.clone(),
            at: now(),
            by: by.to_owned(),
            kind,
        };
        let document = CurrentDocument::from(&entry);
        let (old, canary) = {
            let mut state = self.state.lock();
            let before: Snapshots = state
                .known
                .iter()
                .map(|(hash, known)| (hash.clone(), known.stats.snapshot()))
                .collect();
            let old = state.current_release().cloned();
            let canary = state.canary.take();
            state.failed_rollback = None;
            state.last_switch = Some(LastSwitch {
                entry: entry.clone(),
                from: old.as_ref().map(|old| old.hash.clone()),
                before,
            });
            state.before = state.lately();
            state.watched = (kind == ChangeKind::Switch).then(|| document.clone());
            state.settle_candidate(&release.hash);
            state.draining.remove(&release.hash);
            state.history.push(entry.clone());
            state.current = Current::Release(release.clone());
            state.document = Some(document.clone());
            // Of what it did before, as a canary or the last time, nothing counts.
            state.lately = None;
            state.look(self.clock.now(), self.span());
            state.unwritten.push_back((document.clone(), entry.clone()));
            self.publish(&state);
            (old, canary.filter(|canary| canary.hash != release.hash))
        };
        let from = old.as_ref().map(|old| old.hash.clone());
        tracing::info!(
            app = %self.name, release = release.hash.short(), revision = release.revision,
            from = from.as_ref().map(ReleaseHash::short), by, kind = %entry.kind,
            "another release is current"
        );
        let gave_up = canary.as_ref().map(|canary| canary.hash.clone());
        for superseded in old.into_iter().chain(canary) {
            if superseded.hash != release.hash {
                self.lay_down(superseded);
            }
        }
        self.note().await;
        self.record(&entry).await;
        if kind == ChangeKind::Switch {
            let watch = self.config.rollback_watch;
            self.spawn(self.clone().watch_over(release.clone(), document, watch));
        }
        self.tell();
        Ok(Switched {
            gave_up,
            ..self.switched(&release, from, false)
        })
    }

    fn switched(&self, release: &Release, from: Option<ReleaseHash>, unchanged: bool) -> Switched {
        Switched {
            app: self.name.clone(),
            hash: release.hash.clone(),
            revision: release.revision.clone(),
            from,
            canary: false,
            unchanged,
            gave_up: None,
            pending: self.state.lock().pending.is_some(),
        }
    }

    /// Requests see what the state says.
    pub(super) fn publish(&self, state: &State) {
        self.route
            .set_route(state.current.clone(), state.canary.clone());
    }

    /// Lets a superseded release end its requests and sleep; then removes what is no longer kept.
    fn lay_down(self: &Arc<Self>, release: Arc<Release>) {
        // The container's own name: an older gateway may have made it under another.
        let container = self.container(&release.hash);
        let workload = container.map_or_else(|| release.workload.clone(), |view| view.name);
        self.state.lock().draining.insert(release.hash.clone());
        self.fleet.rest(&workload, self.config.drain_timeout);
        let managed = self.clone();
        self.spawn(async move {
            managed.fleet.rested(&workload).await;
            managed.state.lock().draining.remove(&release.hash);
            managed.tell();
            managed.tidy().await;
        });
    }
}
