//! The way in to one run of a workload: counts its leases, closes once, and never opens again.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::clock::{Clock, Moment};
use crate::names::WorkloadName;

/// Where one run of a workload is reached. A later run has another endpoint, also at the same
/// address: connections are pooled by `serial`, so none outlives the run that it was made to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub workload: WorkloadName,
    pub address: IpAddr,
    /// The workload's own port: its port label or lowest exposed port.
    pub port: Option<u16>,
    /// Unique in this process.
    pub serial: u64,
}

impl Endpoint {
    /// A serial that no endpoint of this process has had.
    pub fn next_serial() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}

/// One period in which a run of a workload can be used.
///
/// The open flag and the number of leases share one word, so that "close if nobody uses it" is a
/// single compare-and-swap and taking a lease never waits.
///
/// A gate closes once. A run that is to be used again gets another gate, which knows those before
/// it: the run is idle when no gate to it has a lease, and what closes the new gate to drain it
/// drains them all.
#[derive(Debug)]
pub struct Gate {
    endpoint: Endpoint,
    word: AtomicU64,
    /// When the last counting lease ended, in microseconds of the clock.
    last_used: AtomicU64,
    /// The closed gates to the same run that still had leases when this one was opened.
    older: Vec<Arc<Gate>>,
    clock: Clock,
    closed: CancellationToken,
    draining: CancellationToken,
    /// When the leases that are out are to have ended.
    drained_by: OnceLock<Moment>,
    /// Told when the last lease of a closed gate ends.
    drained: Arc<Notify>,
}

const OPEN: u64 = 1 << 63;

impl Gate {
    pub fn open(endpoint: Endpoint, clock: Clock, drained: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self::new(endpoint, Vec::new(), clock, drained))
    }

    /// Another gate to the run that this closed one leads to, whose leases count for the new one
    /// too for as long as they are out.
    pub fn reopen(self: &Arc<Self>, endpoint: Endpoint) -> Arc<Self> {
        debug_assert!(!self.is_open(), "a run has one open gate");
        let before = self.older.iter().chain([self]);
        // No lease is ever added to a closed gate, so that one without any matters no more.
        let older = before.filter(|gate| gate.own_leases() > 0).cloned();
        let older = older.collect();
        Arc::new(Self::new(endpoint, older, self.clock, self.drained.clone()))
    }

    fn new(endpoint: Endpoint, older: Vec<Arc<Gate>>, clock: Clock, drained: Arc<Notify>) -> Self {
        Self {
            endpoint,
            word: AtomicU64::new(OPEN),
            last_used: AtomicU64::new(clock.now().as_micros()),
            older,
            clock,
            closed: CancellationToken::new(),
            draining: CancellationToken::new(),
            drained_by: OnceLock::new(),
            drained,
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes a lease, or `None` when the gate is closed. `counts`: whether its end is activity.
    pub fn lease(self: &Arc<Self>, counts: bool) -> Option<Lease> {
        let before = self.word.fetch_add(1, Ordering::AcqRel);
        // The lease exists from here on, so that a refused one gives back what it counted.
        let lease = Lease {
            gate: self.clone(),
            counts: counts && before & OPEN != 0,
        };
        (before & OPEN != 0).then_some(lease)
    }

    /// How many leases are out, those of earlier gates to the same run included.
    pub fn leases(&self) -> u64 {
        let older: u64 = self.older.iter().map(|gate| gate.own_leases()).sum();
        self.own_leases() + older
    }

    fn own_leases(&self) -> u64 {
        self.word.load(Ordering::Acquire) & !OPEN
    }

    pub fn is_open(&self) -> bool {
        self.word.load(Ordering::Acquire) & OPEN != 0
    }

    /// When the last counting lease ended, or the gate was opened.
    pub fn last_used(&self) -> Moment {
        let gates = self.older.iter().map(Arc::as_ref).chain([self]);
        let micros = gates.map(|gate| gate.last_used.load(Ordering::Acquire));
        Moment::from_micros(micros.max().unwrap_or_default())
    }

    /// Closes the gate when it has no lease and had none for `after`; otherwise the moment at
    /// which to ask again.
    pub fn close_if_idle(&self, now: Moment, after: Duration) -> Result<(), Moment> {
        let due = if self.leases() > 0 {
            now + after
        } else {
            self.last_used() + after
        };
        if due > now {
            return Err(due);
        }
        // A lease taken in between makes this fail, and its end moves `last_used`. At the older
        // gates none can be taken.
        match self
            .word
            .compare_exchange(OPEN, 0, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => {
                self.closed.cancel();
                Ok(())
            }
            Err(_) => Err(now + after),
        }
    }

    /// Closes the gate whoever uses it; leases that are out stay valid until they end.
    pub fn close(&self) {
        self.word.fetch_and(!OPEN, Ordering::AcqRel);
        self.closed.cancel();
    }

    /// The same because the run is to be stopped: when its leases have ended, or after `limit` at
    /// the latest. Who holds a lease without a foreseeable end learns it from
    /// [`draining`](Self::draining), at the earlier gates to the run too. A limit that was set
    /// before stays.
    pub fn close_within(&self, limit: Duration) {
        let by = self.clock.now() + limit;
        for gate in self.older.iter().map(Arc::as_ref).chain([self]) {
            let _ = gate.drained_by.set(by);
            gate.close();
            gate.draining.cancel();
        }
    }

    /// Resolves when the gate is closed: idle connections to the endpoint are to be dropped.
    pub fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }

    /// Whether the run is to be stopped, or was.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when the run is to be stopped, with the time that its leases have left. Never
    /// where it has ended, or where it is only in doubt.
    pub async fn draining(&self) -> Duration {
        self.draining.cancelled().await;
        let by = self.drained_by.get().copied().unwrap_or_default();
        by.since(self.clock.now())
    }
}

/// The right to send one request to a workload, held until the last byte of its answer.
/// Releases itself when it is dropped.
///
/// It outlives the closing of its gate. While it is out, the workload is not stopped, neither for
/// being idle nor for being superseded or removed, but for three reasons: the limit that
/// [`Gate::draining`] tells is over, it did not answer any more and was found not to be ready, or
/// somebody else stops it.
#[derive(Debug)]
pub struct Lease {
    gate: Arc<Gate>,
    counts: bool,
}

impl Lease {
    pub fn endpoint(&self) -> &Endpoint {
        &self.gate.endpoint
    }

    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.counts {
            let now = self.gate.clock.now().as_micros();
            // Before the count goes down: who sees no lease also sees when the last one ended.
            self.gate.last_used.fetch_max(now, Ordering::AcqRel);
        }
        if self.gate.word.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.gate.drained.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn endpoint() -> Endpoint {
        Endpoint {
            workload: WorkloadName::new("a").unwrap(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: Some(80),
            serial: Endpoint::next_serial(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_leases_of_the_gates_before_count_until_they_end() {
        let clock = Clock::new();
        let first = Gate::open(endpoint(), clock, Arc::default());
        let (one, two) = (first.lease(true).unwrap(), first.lease(false).unwrap());
        first.close();
        let second = first.reopen(endpoint());
        let three = second.lease(true).unwrap();
        second.close();
        let third = second.reopen(endpoint());
        assert_eq!(third.older.len(), 2);
        assert_eq!((third.leases(), second.leases()), (3, 3));
        drop((two, three));
        assert_eq!(third.leases(), 1);

        let idle = |gate: &Gate| gate.close_if_idle(clock.now(), 5 * SECOND);
        tokio::time::advance(60 * SECOND).await;
        assert_eq!(idle(&third), Err(clock.now() + 5 * SECOND));
        assert!(third.is_open());
        drop(one);
        let ended = clock.now();
        assert_eq!((third.leases(), third.last_used()), (0, ended));
        tokio::time::advance(SECOND).await;
        assert_eq!(idle(&third), Err(ended + 5 * SECOND));
        tokio::time::advance(4 * SECOND).await;
        assert_eq!(idle(&third), Ok(()));
        assert!(third.lease(true).is_none());
        assert!(third.reopen(endpoint()).older.is_empty(), "none adds up");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_hold_a_lease_learn_how_much_time_a_drain_leaves_them() {
        let clock = Clock::new();
        let drained = Arc::new(Notify::new());
        let first = Gate::open(endpoint(), clock, drained.clone());
        let lease = first.lease(true).unwrap();
        first.close();
        assert!(first.closed().now_or_never().is_some());
        assert!(first.draining().now_or_never().is_none(), "it is in doubt");
        let second = first.reopen(endpoint());
        second.close_within(30 * SECOND);
        tokio::time::advance(10 * SECOND).await;
        first.close_within(SECOND);
        assert_eq!(first.draining().now_or_never(), Some(20 * SECOND));
        assert_eq!(second.draining().now_or_never(), Some(20 * SECOND));
        tokio::time::advance(60 * SECOND).await;
        assert_eq!(first.draining().now_or_never(), Some(Duration::ZERO));
        assert!(drained.notified().now_or_never().is_none());
        drop(lease);
        assert!(drained.notified().now_or_never().is_some());
    }
}
