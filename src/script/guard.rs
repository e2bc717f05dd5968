//! The minute after a change: whether the new version fails so often that the old one is to come back.

use std::time::{Duration, Instant};

/// How long a new version is looked at.
const WATCHED: Duration = Duration::from_secs(60);

/// Decisions below which a share says nothing.
const DECISIONS_MIN: u64 = 10;

/// Looks at one version since it began to serve.
#[derive(Debug)]
pub struct Guard {
    version: u64,
    until: Instant,
    /// The share of failures past which it goes back.
    failures_max: f64,
    /// Counts of before its minute, which say nothing about it.
    before: (u64, u64),
}

/// What is to be done with the version.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Not known yet.
    Watch,
    /// Its minute is over.
    Trusted,
    /// For the reason given.
    GoBack(String),
}

impl Guard {
    /// `before`: decisions that were asked of it and failures that it had so far.
    pub fn new(version: u64, failures_max: f64, now: Instant, before: (u64, u64)) -> Self {
        Self {
            before,
            version,
            until: now + WATCHED,
            failures_max,
        }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// `asked` decisions of the version so far, and `failed` failures of it, those of hooks other than
    /// routes included.
    pub fn judge(&self, now: Instant, asked: u64, failed: u64) -> Verdict {
        let asked = asked.saturating_sub(self.before.0);
        let failed = failed.saturating_sub(self.before.1);
        let share = failed as f64 / asked.max(1) as f64;
        if asked >= DECISIONS_MIN && share > self.failures_max {
            return Verdict::GoBack(format!(
                "version {} of the scripts failed {failed} times on {asked} requests, more than the share of {} \
                 that scripts.rollback_failures_max allows",
                self.version, self.failures_max
            ));
        }
        if now >= self.until {
            Verdict::Trusted
        } else {
            Verdict::Watch
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_goes_back_when_more_fails_than_may() {
        let begin = Instant::now();
        let guard = Guard::new(7, 0.1, begin, (0, 0));
        let soon = begin + Duration::from_secs(1);
        let over = begin + WATCHED;
        assert_eq!(guard.judge(soon, 0, 0), Verdict::Watch);
        assert_eq!(guard.judge(soon, 9, 9), Verdict::Watch, "too few to tell");
        assert_eq!(guard.judge(soon, 10, 1), Verdict::Watch);
        assert!(matches!(guard.judge(soon, 10, 2), Verdict::GoBack(_)));
        assert_eq!(guard.judge(over, 1_000, 100), Verdict::Trusted);
        assert!(matches!(guard.judge(over, 1_000, 101), Verdict::GoBack(_)));
        let strict = Guard::new(7, 0.0, begin, (0, 0));
        assert!(matches!(strict.judge(soon, 1_000, 1), Verdict::GoBack(_)));
        assert_eq!(strict.judge(soon, 1_000, 0), Verdict::Watch);
        let again = Guard::new(7, 0.1, begin, (100, 100));
        assert_eq!(again.judge(soon, 200, 105), Verdict::Watch);
        assert!(matches!(again.judge(soon, 200, 115), Verdict::GoBack(_)));
    }
}
