//! What a release has done: requests by status, their times, bytes, and what is open now.

mod histogram;
mod snapshot;
#[cfg(test)]
mod tests;
mod visit;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

use self::histogram::Histogram;

pub use self::histogram::Buckets;
pub use self::snapshot::{Open, ResponseTimes, Snapshot, Statuses};
pub use self::visit::{State, Visit};

/// Counted by all workers at once; reading it stops nobody. Requests count through a [`Visit`].
#[derive(Debug, Default)]
pub struct Stats {
    /// By class, 1xx first; each request once, with the status of its only answer.
    statuses: [AtomicU64; 5],
    connect_errors: AtomicU64,
    gateway_errors: AtomicU64,
    turned_over: AtomicU64,
    broken_off: AtomicU64,
    failed: AtomicU64,
    /// Of the failed ones, those that are counted as nothing else yet.
    unanswered: AtomicU64,
    response_times: Histogram,
    bytes_from_clients: AtomicU64,
    bytes_to_clients: AtomicU64,
    /// By [`State`].
    open: [AtomicU64; 4],
}

// Each count stands for itself; where two belong together, the order in which they are read says so.
fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Stats {
    /// The counts of this moment. Those of a request that is counted meanwhile may be there in part.
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [held, waiting, streaming, upgraded] = self.open.each_ref().map(read);
        // In this order no request is among the failed ones alone.
        let failed = read(&self.failed);
        let unanswered = read(&self.unanswered);
        Snapshot::new(
            Statuses::from(self.statuses.each_ref().map(read)),
            self.response_times.buckets(),
            Snapshot {
                connect_errors: read(&self.connect_errors),
                gateway_errors: read(&self.gateway_errors),
                turned_over: read(&self.turned_over),
                broken_off: read(&self.broken_off),
                failed,
                unanswered,
                bytes_from_clients: read(&self.bytes_from_clients),
                bytes_to_clients: read(&self.bytes_to_clients),
                open: Open {
                    held,
                    waiting,
                    streaming,
                    upgraded,
                },
                ..Snapshot::default()
            },
        )
    }

    /// Bytes of a body or a tunnel, on their way to the release.
    pub fn from_client(&self, bytes: u64) {
        add(&self.bytes_from_clients, bytes);
    }

    /// And on their way back.
    pub fn to_client(&self, bytes: u64) {
        add(&self.bytes_to_clients, bytes);
    }

    fn answer(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        add(&self.statuses[class], 1);
    }

    fn took(&self, time: Duration) {
        self.response_times.record(time);
    }
}
