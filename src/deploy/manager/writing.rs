//! What of a switch is to outlive the gateway: written to the store, and noted in the journal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::state::Pending;
use super::switch::STORE_WAIT;
use super::{DeployError, Managed};
use crate::deploy::journal::Noted;
use crate::deploy::records::{ChangeKind, HistoryEntry};
use crate::deploy::route::Door;
use crate::store::Recorded;

/// The first pause before a write that the store did not take is tried again; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

impl Managed {
    /// Writes the last switch to the store; what it does not take is tried again in the background. Who goes
    /// back does not wait for a store that hangs: the next change may have to come soon.
    pub(super) async fn record(self: &Arc<Self>, last: &HistoryEntry) {
        if self.state.lock().unwritten.len() != 1 {
            // What tries older ones goes on with this one, in order.
            return;
        }
        let managed = self.clone();
        let (tried, trying) = oneshot::channel();
        self.spawn(async move {
            let is_written = managed.write_next(false).await;
            let _ = tried.send(());
            // Others may have come after it.
            managed.keep_writing(if is_written {
                Duration::ZERO
            } else {
                RETRY_MIN
            });
        });
        if last.kind == ChangeKind::Switch {
            let _ = trying.await;
        } else if tokio::time::timeout(STORE_WAIT, trying).await.is_err() {
            self.is_on_its_way(last);
        }
    }

    /// Tries until the store has everything, for the first time after `pause`.
    pub(super) fn keep_writing(self: &Arc<Self>, mut pause: Duration) {
        let managed = self.clone();
        self.spawn(async move {
            while !managed.state.lock().unwritten.is_empty() {
                tokio::time::sleep(pause).await;
                pause = if managed.write_next(true).await {
                    Duration::ZERO
                } else {
                    (pause * 2).clamp(RETRY_MIN, RETRY_MAX)
                };
            }
        });
    }

    /// Writes down, on this machine, what must not be lost with the gateway.
    pub(super) async fn note(self: &Arc<Self>) {
        self.journalize(|managed| {
            managed.journal.write(|| Noted {
                in_maintenance: managed.is_in_maintenance(),
                ..managed.state.lock().noted()
            })
        })
        .await;
    }

    /// That, as far as the door is concerned: which release is current may not be known yet.
    pub(super) async fn note_door(self: &Arc<Self>) {
        self.journalize(|managed| {
            let amend = |noted: &mut Noted| noted.in_maintenance = managed.is_in_maintenance();
            managed.journal.amend(amend)
        })
        .await;
    }

    fn is_in_maintenance(&self) -> bool {
        self.route.door() == Door::Maintenance
    }

    async fn journalize(
        self: &Arc<Self>,
        write: impl FnOnce(&Self) -> io::Result<()> + Send + 'static,
    ) {
        let managed = self.clone();
        let writing = tokio::task::spawn_blocking(move || write(&managed));
        let written = writing
            .await
            .unwrap_or_else(|broken| Err(io::Error::other(broken)));
        let was_lost = self
            .is_journal_lost
            .swap(written.is_err(), Ordering::Relaxed);
        if let Err(error) = written
            && !was_lost
        {
            tracing::warn!(
                app = %self.name, journal = %self.journal.path().display(), %error,
                "the journal cannot be written: without it a gateway that starts does not know of a maintenance, \
                 nor which release is current while the store is away"
            );
        }
    }

    /// Writes the oldest switch that is not written. `is_late`: it was made some time ago. False: the
    /// store did not take it.
    async fn write_next(self: &Arc<Self>, is_late: bool) -> bool {
        let next = {
            let state = self.state.lock();
            let next = state.unwritten.front().cloned();
            next.map(|(current, entry)| Recorded {
                current,
                entry,
                known: state.noted().stored(),
                is_late,
            })
        };
        let Some(switch) = next else {
            return true;
        };
        let entry = switch.entry.clone();
        // A release may have taken minutes to wake since that was looked at.
        let written = match self.store_is_there().await {
            Ok(_) => self.store.record(switch).await.map_err(DeployError::from),
            // What is there is another place, such as one where nothing is mounted.
            Err(error) => Err(error),
        };
        let is_written = match written {
            Ok(is_current) => {
                if !is_current {
                    tracing::warn!(
                        app = %self.name, release = entry.hash.short(),
                        "somebody else has switched since: the store has their release as the current one"
                    );
                }
                self.is_written(&entry);
                self.note().await;
                true
            }
            Err(error) => {
                self.is_pending(&entry, &error);
                false
            }
        };
        self.tell();
        is_written
    }

    fn is_written(&self, entry: &HistoryEntry) {
        let mut state = self.state.lock();
        state.is_in_store = true;
        state.unwritten.pop_front_if(|front| front.1 == *entry);
        if state.unwritten.is_empty() && state.pending.take().is_some() {
            tracing::info!(app = %self.name, "the store has taken what was pending");
        }
    }

    /// Its first attempt takes longer than anybody waits for it.
    fn is_on_its_way(&self, entry: &HistoryEntry) {
        let mut state = self.state.lock();
        if !state.unwritten.iter().any(|(_, other)| other == entry) {
            return;
        }
        state.pending.get_or_insert_with(|| {
            let error = format!("it has not answered within {} s", STORE_WAIT.as_secs());
            Pending::of(entry, error, 0)
        });
    }

    fn is_pending(&self, entry: &HistoryEntry, error: &DeployError) {
        let mut state = self.state.lock();
        let attempts = state.pending.as_ref().map_or(0, |pending| pending.attempts) + 1;
        tracing::warn!(
            app = %self.name, release = entry.hash.short(), attempts, %error,
            "the switch is done, but the store has not taken it yet"
        );
        state.pending = Some(Pending::of(entry, error.to_string(), attempts));
    }
}
