//! What a worker counts of its decisions. Written by one thread, read by any.

use std::iter::Sum;
use std::sync::atomic::{AtomicU64, Ordering};

/// One worker's counts.
#[derive(Debug, Default)]
pub struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    bypasses: AtomicU64,
    failures: AtomicU64,
    /// The version that the next two belong to.
    version: AtomicU64,
    asked: AtomicU64,
    failed: AtomicU64,
}

/// Sums over workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Decisions that the memo had.
    pub hits: u64,
    /// Decisions that were made and are remembered from then on.
    pub misses: u64,
    /// Decisions that were made and cannot be remembered, failures included.
    pub bypasses: u64,
    /// Decisions that failed.
    pub failures: u64,
}

/// Where a decision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Hit,
    Miss,
    Bypass,
    Failure,
}

impl Counts {
    /// Counts one decision. To be called by the owning worker only.
    pub fn count(&self, source: Source) {
        let counter = match source {
            Source::Hit => &self.hits,
            Source::Miss => &self.misses,
            Source::Bypass => &self.bypasses,
            Source::Failure => {
                add_one(&self.failures);
                add_one(&self.failed);
                &self.bypasses
            }
        };
        add_one(counter);
        add_one(&self.asked);
    }

    /// From now on decisions are those of another version. To be called by the owning worker only.
    pub fn turn_to(&self, version: u64) {
        self.asked.store(0, Ordering::Relaxed);
        self.failed.store(0, Ordering::Relaxed);
        // Who reads the number finds counts that are not older than it.
        self.version.store(version, Ordering::Release);
    }

    pub fn totals(&self) -> Totals {
        Totals {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bypasses: self.bypasses.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Decisions that were asked of a version and those that failed; none while it is not the one
    /// that this worker asks.
    pub fn of(&self, version: u64) -> (u64, u64) {
        if self.version.load(Ordering::Acquire) != version {
            return (0, 0);
        }
        let failed = self.failed.load(Ordering::Relaxed);
        (self.asked.load(Ordering::Relaxed).max(failed), failed)
    }
}

/// There is one writer, so that counting needs no locked instruction.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(totals: I) -> Self {
        totals.fold(Self::default(), |all, one| Self {
            hits: all.hits + one.hits,
            misses: all.misses + one.misses,
            bypasses: all.bypasses + one.bypasses,
            failures: all.failures + one.failures,
        })
    }
}
