//! Which release is which: what to go back to, what to keep asleep, what may be removed, and when a new release is worse than the old one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::names::{ReleaseHash, WorkloadName};

#[cfg(test)]
mod tests;

/// One change of the current release, as the history tells it. Oldest first in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    pub hash: ReleaseHash,
    /// It went back to this release, by an operator's word or by itself.
    pub back: bool,
}

/// A container of an application, as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub workload: WorkloadName,
    pub hash: ReleaseHash,
    pub image: String,
    /// It runs, or is about to: whatever is not asleep.
    pub awake: bool,
}

/// What an application's containers are to become.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sweep {
    /// To be put to sleep: nothing is routed to them.
    pub rest: Vec<WorkloadName>,
    pub remove: Vec<WorkloadName>,
    /// Images that nothing uses any more which stays. An engine refuses those that somebody else uses.
    pub images: BTreeSet<String>,
}

/// The releases that something is going to be done with.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    pub current: Option<ReleaseHash>,
    /// The store tells that no release was ever switched to.
    pub none_yet: bool,
    pub canary: Option<ReleaseHash>,
    /// Being launched, or launched and not yet switched to.
    pub candidates: BTreeSet<ReleaseHash>,
    /// Draining after a switch: they rest by themselves.
    pub draining: BTreeSet<ReleaseHash>,
    /// To be kept asleep.
    pub kept: BTreeSet<ReleaseHash>,
}

/// Where going back leads from the current release, again and again: each release once, the one that was
/// current before the present one became so first.
///
/// A switch puts a release on top of those before it. Going back takes the top away, so that going
/// back twice leads to the release before the previous one, and not to the one that was left.
pub fn way_back(history: &[Past]) -> Vec<ReleaseHash> {
    let mut line: Vec<&ReleaseHash> = Vec::new();
    for past in history {
        if past.back {
            // One that was cut off at the beginning of the history: what came between was left.
            let at = line.iter().rposition(|hash| **hash == past.hash);
            line.truncate(at.map_or(0, |at| at + 1));
        }
        if line.last() != Some(&&past.hash) {
            line.push(&past.hash);
        }
    }
    let Some(current) = line.pop() else {
        return Vec::new();
    };
    let mut way: Vec<ReleaseHash> = Vec::new();
    for hash in line.into_iter().rev() {
        if hash != current && !way.contains(hash) {
            way.push(hash.clone());
        }
    }
    way
}

/// How many releases stay asleep besides the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// In all, as long as there are so many.
    pub count: usize,
    /// Of those on the way back, whatever `count` says: the previous one, and the one before that while
    /// it is not known whether the current one is any good.
    pub back_min: usize,
}

/// The releases besides the current one that stay asleep: first those on the way back, then those that
/// were left, by when each was last current. One that is not `there` has no container to keep.
pub fn kept(
    history: &[Past],
    current: &ReleaseHash,
    keep: Keep,
    there: impl Fn(&ReleaseHash) -> bool,
) -> Vec<ReleaseHash> {
    let mut kept = Vec::new();
    for (n, hash) in way_back(history).into_iter().enumerate() {
        let is_kept = n < keep.back_min || kept.len() < keep.count;
        if is_kept && hash != *current && there(&hash) {
            kept.push(hash);
        }
    }
    for past in history.iter().rev() {
        if kept.len() >= keep.count {
            break;
        }
        if past.hash != *current && !kept.contains(&past.hash) && there(&past.hash) {
            kept.push(past.hash.clone());
        }
    }
    kept
}

/// What is to become of the containers that were found.
///
/// `left`: images that launches have brought and that no container was made of, or none that lasted.
///
/// Without a current release nothing is removed, unless the store tells that there never was one: else
/// it may be the wrong store.
pub fn sweep(found: &[Found], roles: &Roles, left: &BTreeSet<String>) -> Sweep {
    let is_busy = |hash: &ReleaseHash| {
        roles.current.as_ref() == Some(hash)
            || roles.canary.as_ref() == Some(hash)
            || roles.candidates.contains(hash)
            || roles.draining.contains(hash)
    };
    let may_go = |container: &&Found| {
        (roles.current.is_some() || roles.none_yet)
            && !is_busy(&container.hash)
            && !roles.kept.contains(&container.hash)
    };
    let (removed, stays): (Vec<&Found>, Vec<&Found>) = found.iter().partition(may_go);
    let rest = stays
        .iter()
        .filter(|container| container.awake && !is_busy(&container.hash));
    let used: BTreeSet<&str> = stays
        .iter()
        .map(|container| container.image.as_str())
        .collect();
    let images = removed
        .iter()
        .map(|container| &container.image)
        .chain(left)
        .filter(|image| !used.contains(image.as_str()))
        .cloned()
        .collect();
    Sweep {
        rest: rest.map(|container| container.workload.clone()).collect(),
        remove: removed
            .iter()
            .map(|container| container.workload.clone())
            .collect(),
        images,
    }
}

/// Requests to a release, and how many of them failed: 5xx of the application's, an answer that broke off, or
/// no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    pub requests: u64,
    pub failures: u64,
}

impl Tally {
    /// What came after `earlier`, a tally of the same release.
    pub fn since(self, earlier: Tally) -> Tally {
        Tally {
            requests: self.requests.saturating_sub(earlier.requests),
            failures: self.failures.saturating_sub(earlier.failures),
        }
    }

    /// The share of failures; 0 without requests.
    pub fn share(self) -> f64 {
        if self.requests == 0 {
            return 0.0;
        }
        self.failures as f64 / self.requests as f64
    }
}

/// When a release that was just switched to is left again by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Watch {
    /// So much larger than the old release's may the new one's share of failures be, 0 to 1.
    pub failures_max: f64,
    /// Fewer requests say nothing.
    pub requests_min: u64,
}

/// Why the new release is to be left, if it is: its share of failures exceeds the old one's by more
/// than the limit.
pub fn is_worse(watch: Watch, old: Tally, new: Tally) -> Option<String> {
    if new.requests < watch.requests_min.max(1) {
        return None;
    }
    let (was, is) = (old.share(), new.share());
    (is - was > watch.failures_max).then(|| {
        format!(
            "{} of {} requests failed on the new release ({:.1} %), beside {:.1} % on the old one",
            new.failures,
            new.requests,
            is * 100.0,
            was * 100.0
        )
    })
}
