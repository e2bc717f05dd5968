//! The way in to one run of a workload: counts its leases, closes once, and never opens again.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// One period in which a workload can be used.
///
/// The open flag and the number of leases share one word, so that "close if nobody uses it" is a
/// single compare-and-swap and taking a lease never waits.
#[derive(Debug)]
pub struct Gate {
    endpoint: Endpoint,
    word: AtomicU64,
    /// When the last counting lease ended, in microseconds of the clock.
    last_used: AtomicU64,
    clock: Clock,
    closed: CancellationToken,
    /// Told when the last lease of a closed gate ends.
    drained: Arc<Notify>,
}

const OPEN: u64 = 1 << 63;

impl Gate {
    pub fn open(endpoint: Endpoint, clock: Clock, drained: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            word: AtomicU64::new(OPEN),
            last_used: AtomicU64::new(clock.now().as_micros()),
            clock,
            closed: CancellationToken::new(),
            drained,
        })
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

    pub fn leases(&self) -> u64 {
        self.word.load(Ordering::Acquire) & !OPEN
    }

    pub fn is_open(&self) -> bool {
        self.word.load(Ordering::Acquire) & OPEN != 0
    }

    /// When the last counting lease ended, or the gate was opened.
    pub fn last_used(&self) -> Moment {
        Moment::from_micros(self.last_used.load(Ordering::Acquire))
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
        // A lease taken in between makes this fail, and its end moves `last_used`.
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

    /// Resolves when the gate is closed: idle connections to the endpoint are to be dropped.
    pub fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }
}

/// The right to send one request to a workload, held until the last byte of its answer.
/// Releases itself when it is dropped.
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
