//! Changing which release is current: forwards, as a canary, and back.

use std::sync::Arc;
use std::time::Duration;

use super::state::{LastSwitch, Pending, State};
use super::views::{Snapshots, Switched};
use super::{DeployError, Managed, now};
use crate::deploy::records::{ChangeKind, CurrentDocument, HistoryEntry};
use crate::deploy::route::{Current, Release};
use crate::lifecycle::fleet::{OrderError, View};
use crate::names::ReleaseHash;

/// How long a change waits for another one: going back may have to wake a release first.
const CHANGE_WAIT: Duration = Duration::from_secs(10);

/// The first pause before a write that the store did not take is tried again; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

impl Managed {
    pub(super) async fn switch(
        self: &Arc<Self>,
        hash: &ReleaseHash,
        canary: bool,
        by: &str,
    ) -> Result<Switched, DeployError> {
        let _changing = self.changing().await?;
        let is_launching = {
            let state = self.state.lock();
            let candidate = state.candidates.get(hash);
            candidate.is_some_and(|candidate| candidate.outcome.borrow().is_none())
        };
        if is_launching {
            return Err(DeployError::Launching {
                app: self.name.clone(),
                hash: hash.clone(),
            });
        }
        let is_current = self.state.lock().current_hash() == Some(hash);
        if is_current && canary {
            return Err(DeployError::IsCurrent(hash.clone()));
        }
        let release = self.launched_release(hash).await?;
        // Before anything is changed: a store that is away refuses the switch.
        self.store.check().await?;
        let history = self.store.history().await?;
        {
            let mut state = self.state.lock();
            state.take_history(history);
            state.is_history_known = true;
        }
        if canary {
            return self.try_out(release);
        }
        if is_current {
            // Whatever was tried beside it is over.
            self.give_up_canary();
            return Ok(self.switched(&release, Some(hash.clone()), true));
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
        if leaving.is_none() && self.give_up_canary() {
            let state = self.state.lock();
            let current = state.current_release().cloned();
            drop(state);
            let no_current = || DeployError::NoCurrent {
                app: self.name.clone(),
            };
            let current = current.ok_or_else(no_current)?;
            return Ok(self.switched(&current, Some(current.hash.clone()), true));
        }
        // Going back must also be possible while the store is away: what is known then counts.
        match self.store.history().await {
            Ok(history) => self.state.lock().take_history(history),
            Err(error) => {
                tracing::warn!(app = %self.name, %error, "going back by the history that was read last");
            }
        }
        let Some(hash) = self.state.lock().previous() else {
            return Err(DeployError::NothingToGoBackTo {
                app: self.name.clone(),
            });
        };
        // Until it is current, nothing is routed to it: it would be put to sleep while it wakes.
        let _staying = self.tidying.read().await;
        match self.container(&hash) {
            Some(view) => self.wake(&hash, &view.name, None).await?,
            // Somebody has removed it; its configuration and the registry still have it.
            None => {
                self.carry_out_launch(&hash).await?;
            }
        }
        let release = self.launched_release(&hash).await?;
        let kind = if by_itself {
            ChangeKind::AutomaticRollback
        } else {
            ChangeKind::Rollback
        };
        self.make_current(release, kind, by).await
    }

    async fn changing(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, DeployError> {
        let turn = tokio::time::timeout(CHANGE_WAIT, self.changing.lock()).await;
        turn.map_err(|_| DeployError::Busy(self.name.clone()))
    }

    /// The release, if it has a container that can be used.
    async fn launched_release(&self, hash: &ReleaseHash) -> Result<Arc<Release>, DeployError> {
        let Some(view) = self.container(hash) else {
            // That there is no such release at all is the better answer.
            self.store.configuration(hash).await?;
            return Err(DeployError::NotLaunched {
                app: self.name.clone(),
                hash: hash.clone(),
            });
        };
        let is_unhealthy = self.state.lock().unhealthy.contains(hash);
        match view.phase {
            "failed" | "removing" => Err(cannot_be_used(&view).into()),
            // It is not proven that it would be otherwise now.
            "stopped" | "paused" if is_unhealthy => Err(DeployError::NotHealthy {
                hash: hash.clone(),
                reason: "its last start failed; launch it again first".to_owned(),
                log: Vec::new(),
            }),
            _ => self.known(hash).await,
        }
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
            state.candidates.remove(&release.hash);
            state.draining.remove(&release.hash);
            let before = state.canary.replace(release.clone());
            self.publish(&state);
            before.filter(|before| before.hash != release.hash)
        };
        if let Some(before) = before {
            self.lay_down(before);
        }
        tracing::info!(app = %self.name, release = release.hash.short(), "a canary gets requests");
        self.tell();
        let current = self.state.lock().current_hash().cloned();
        Ok(Switched {
            canary: true,
            ..self.switched(&release, current, false)
        })
    }

    /// Takes the canary's requests away. False: there is none.
    fn give_up_canary(self: &Arc<Self>) -> bool {
        let canary = {
            let mut state = self.state.lock();
            let canary = state.canary.take();
            self.publish(&state);
            canary
        };
        let Some(canary) = canary else {
            return false;
        };
        tracing::info!(app = %self.name, release = canary.hash.short(), "a canary was given up");
        self.lay_down(canary);
        self.tell();
        true
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
        let (old, canary) = {
            let mut state = self.state.lock();
            let before: Snapshots = state
                .known
                .iter()
                .map(|(hash, known)| (hash.clone(), known.stats.snapshot()))
                .collect();
            let old = state.current_release().cloned();
            let canary = state.canary.take();
            state.last_switch = Some(LastSwitch {
                entry: entry.clone(),
                from: old.as_ref().map(|old| old.hash.clone()),
                before,
            });
            state.candidates.remove(&release.hash);
            state.draining.remove(&release.hash);
            state.history.push(entry.clone());
            state.current = Current::Release(release.clone());
            self.publish(&state);
            (old, canary.filter(|canary| canary.hash != release.hash))
        };
        let from = old.as_ref().map(|old| old.hash.clone());
        tracing::info!(
            app = %self.name, release = release.hash.short(), revision = release.revision,
            from = from.as_ref().map(ReleaseHash::short), by, kind = %entry.kind,
            "another release is current"
        );
        for superseded in old.into_iter().chain(canary) {
            if superseded.hash != release.hash {
                self.lay_down(superseded);
            }
        }
        let document = CurrentDocument {
            hash: release.hash.clone(),
            revision: release.revision.clone(),
            at: entry.at.clone(),
            by: entry.by.clone(),
            kind,
        };
        self.record(document, entry).await;
        if kind == ChangeKind::Switch {
            self.spawn(self.clone().watch_over(release.clone(), from.clone()));
        }
        self.tell();
        Ok(self.switched(&release, from, false))
    }

    fn switched(&self, release: &Release, from: Option<ReleaseHash>, unchanged: bool) -> Switched {
        Switched {
            app: self.name.clone(),
            hash: release.hash.clone(),
            revision: release.revision.clone(),
            from,
            canary: false,
            unchanged,
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

    /// Writes a switch to the store; what it does not take is tried again in the background.
    async fn record(self: &Arc<Self>, document: CurrentDocument, entry: HistoryEntry) {
        let unwritten = {
            let mut state = self.state.lock();
            state.unwritten.push_back((document, entry));
            state.unwritten.len()
        };
        // A loop that tries older ones goes on with this one, in order.
        if unwritten > 1 {
            return;
        }
        if self.write_next().await {
            return;
        }
        let managed = self.clone();
        self.spawn(async move {
            let mut pause = RETRY_MIN;
            while !managed.state.lock().unwritten.is_empty() {
                tokio::time::sleep(pause).await;
                pause = if managed.write_next().await {
                    Duration::ZERO
                } else {
                    (pause * 2).clamp(RETRY_MIN, RETRY_MAX)
                };
            }
        });
    }

    /// Writes the oldest switch that is not written. False: the store did not take it.
    async fn write_next(&self) -> bool {
        let next = self.state.lock().unwritten.front().cloned();
        let Some((document, entry)) = next else {
            return true;
        };
        let (hash, since) = (document.hash.clone(), entry.at.clone());
        let written = self.store.record_switch(document, entry.clone()).await;
        let is_written = written.is_ok();
        let mut state = self.state.lock();
        match written {
            Ok(()) => {
                let is_front = |front: &(_, HistoryEntry)| front.1 == entry;
                state.unwritten.pop_front_if(|front| is_front(front));
                if state.unwritten.is_empty() && state.pending.take().is_some() {
                    tracing::info!(app = %self.name, "the store has taken what was pending");
                }
            }
            Err(error) => {
                let attempts = state.pending.as_ref().map_or(0, |pending| pending.attempts) + 1;
                tracing::warn!(
                    app = %self.name, release = hash.short(), attempts, %error,
                    "the switch is done, but the store has not taken it yet"
                );
                state.pending = Some(Pending {
                    hash,
                    since,
                    error: error.to_string(),
                    attempts,
                });
            }
        }
        drop(state);
        self.tell();
        is_written
    }
}

fn cannot_be_used(view: &View) -> OrderError {
    let reason = view.reason.as_deref().unwrap_or("it cannot be started");
    OrderError::Failed(format!("{} is {}: {reason}", view.name, view.phase))
}
