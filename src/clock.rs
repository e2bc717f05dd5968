//! The only "now": a moment on the gateway's own monotonic clock.

use std::ops::{Add, Sub};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment, counted from the start of the [`Clock`] that made it.
///
/// Pure code takes moments as arguments and never asks for the time, so that tests choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

impl Moment {
    pub const ZERO: Moment = Moment(Duration::ZERO);

    /// The moment so many milliseconds after the clock's start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The moment so many microseconds after the clock's start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(Duration::from_micros(micros))
    }

    /// Microseconds since the clock's start; what fits an atomic (584,000 years).
    pub fn as_micros(self) -> u64 {
        self.0.as_micros() as u64
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(time))
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}

/// The date and time, in seconds since 1970-01-01 UTC: a fact about a request, for scripts. Nothing
/// is timed by it, as it may jump. The coarse clock is a read of shared memory and up to 4 ms late.
pub fn unix_seconds() -> i64 {
    clock_gettime(ClockId::RealtimeCoarse).tv_sec
}

/// The same in milliseconds, for records of what was done: two within a second are two.
pub fn unix_millis() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

/// Tells the time. Follows tokio's clock, so that a paused test clock rules everything.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    pub fn new() -> Self {
        Self {
            origin: tokio::time::Instant::now(),
        }
    }

    pub fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }

    /// The same moment for tokio's timers.
    pub fn instant(&self, moment: Moment) -> tokio::time::Instant {
        self.origin
            .checked_add(moment.0)
            .unwrap_or_else(|| self.origin + Duration::from_secs(86_400 * 365))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
