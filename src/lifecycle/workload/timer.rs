//! A workload's one timer: it ticks when the machine's own time has come.

use std::sync::{Arc, Weak};

use super::Workload;
use crate::lifecycle::machine::{Event, Phase};

impl Workload {
    /// Ticks when the machine's own time has come.
    pub(super) async fn keep_time(workload: Weak<Self>) {
        let Some(poke) = workload.upgrade().map(|workload| workload.poke.clone()) else {
            return;
        };
        loop {
            let Some(wake_at) = workload.upgrade().and_then(|workload| workload.next_tick()) else {
                return;
            };
            match wake_at {
                Some(wake_at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(wake_at) => {}
                        () = poke.notified() => {}
                    }
                }
                None => poke.notified().await,
            }
            if let Some(workload) = workload.upgrade() {
                workload.tick_if_due();
            }
        }
    }

    /// `None`: it is retired and needs no timer.
    #[expect(clippy::option_option)]
    fn next_tick(&self) -> Option<Option<tokio::time::Instant>> {
        let inner = self.inner.lock();
        if inner.retired {
            return None;
        }
        Some(
            inner
                .machine
                .wake_at()
                .map(|at| self.core.clock.instant(at)),
        )
    }

    fn tick_if_due(self: &Arc<Self>) {
        let due = {
            let inner = self.inner.lock();
            let timed = inner
                .machine
                .wake_at()
                .is_some_and(|at| at <= self.core.clock.now());
            let drained = matches!(
                inner.machine.phase(),
                Phase::Draining { gate, past: None, .. } if gate.leases() == 0
            );
            timed || drained
        };
        if due {
            drop(self.order(Event::Tick));
        }
    }
}
