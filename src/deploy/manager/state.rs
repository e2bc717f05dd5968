//! What is known of one application's releases, besides what its container engine tells.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::deploy::manager::error::DeployError;
use crate::deploy::manager::views::Launched;
use crate::deploy::plan::{Past, Roles, kept, previous};
use crate::deploy::records::{ChangeKind, CurrentDocument, HistoryEntry};
use crate::deploy::route::{Current, Release};
use crate::deploy::stats::Snapshot;
use crate::names::ReleaseHash;

/// Launches that failed, of which so many are told.
const FAILED_LAUNCHES_MAX: usize = 5;

#[derive(Debug)]
pub struct State {
    pub current: Current,
    pub canary: Option<Arc<Release>>,
    /// Being launched, or launched and not yet switched to.
    pub candidates: BTreeMap<ReleaseHash, Candidate>,
    /// Superseded, and their last requests are not done.
    pub draining: BTreeSet<ReleaseHash>,
    /// Every release that requests have gone to or may go to.
    pub known: BTreeMap<ReleaseHash, Arc<Release>>,
    /// Those whose last start on an operator's word did not get healthy.
    pub unhealthy: BTreeSet<ReleaseHash>,
    /// As it was last read or written.
    pub history: Vec<HistoryEntry>,
    /// It was read. Until then it is not known which releases are to be kept.
    pub is_history_known: bool,
    /// Switches that are not in the store yet, oldest first.
    pub unwritten: VecDeque<(CurrentDocument, HistoryEntry)>,
    /// Why that is so, since when.
    pub pending: Option<Pending>,
    pub last_switch: Option<LastSwitch>,
    pub failed: VecDeque<FailedLaunch>,
    pub store: Health,
    pub registry: Health,
}

#[derive(Debug)]
pub struct Candidate {
    pub phase: LaunchPhase,
    /// How it went, once that is known.
    pub outcome: watch::Sender<Option<Result<Launched, DeployError>>>,
}

/// How far a launch has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
pub enum LaunchPhase {
    /// Its launch configuration is being read.
    Configuring,
    /// Its image is being pulled or loaded.
    Pulling {
        detail: String,
    },
    Creating,
    /// It runs; whether it is healthy is being found out.
    Checking,
    Ready,
}

/// A switch that the store does not know of yet.
#[derive(Debug, Clone, Serialize)]
pub struct Pending {
    pub hash: ReleaseHash,
    /// When it was made, RFC 3339.
    pub since: String,
    /// Why the last attempt failed.
    pub error: String,
    pub attempts: u32,
}

#[derive(Debug, Clone)]
pub struct LastSwitch {
    pub entry: HistoryEntry,
    pub from: Option<ReleaseHash>,
    /// What each release had done until then.
    pub before: BTreeMap<ReleaseHash, Snapshot>,
}

#[derive(Debug, Clone, Serialize)]
pub struct FailedLaunch {
    pub hash: ReleaseHash,
    pub revision: String,
    pub at: String,
    pub error: String,
    pub log: Vec<String>,
}

/// Whether something outside answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Health {
    Unknown,
    Up,
    Down { reason: String },
}

impl State {
    pub fn new() -> Self {
        Self {
            current: Current::Loading,
            canary: None,
            candidates: BTreeMap::new(),
            draining: BTreeSet::new(),
            unhealthy: BTreeSet::new(),
            known: BTreeMap::new(),
            history: Vec::new(),
            is_history_known: false,
            unwritten: VecDeque::new(),
            pending: None,
            last_switch: None,
            failed: VecDeque::new(),
            store: Health::Unknown,
            registry: Health::Unknown,
        }
    }

    pub fn current_release(&self) -> Option<&Arc<Release>> {
        match &self.current {
            Current::Release(release) => Some(release),
            Current::Loading | Current::Nothing(_) => None,
        }
    }

    pub fn current_hash(&self) -> Option<&ReleaseHash> {
        self.current_release().map(|release| &release.hash)
    }

    pub fn past(&self) -> Vec<Past> {
        let past = self.history.iter().map(|entry| Past {
            hash: entry.hash.clone(),
            back: entry.kind != ChangeKind::Switch,
        });
        past.collect()
    }

    /// Takes what the store tells. What is not written yet is only known here, and so is all of it
    /// when the store has lost its documents, which a history without the current release shows.
    pub fn take_history(&mut self, history: Vec<HistoryEntry>) {
        let is_whole = self
            .current_hash()
            .is_none_or(|current| history.iter().any(|entry| entry.hash == *current));
        if is_whole && self.unwritten.is_empty() {
            self.history = history;
        } else if !is_whole {
            tracing::warn!(
                "the store's history does not have the current release; the one known here counts"
            );
        }
    }

    /// What a rollback goes to: what this machine switched from, or else what the history tells,
    /// to which other machines may have added.
    pub fn previous(&self) -> Option<ReleaseHash> {
        let here = self.last_switch.as_ref().and_then(|switch| {
            let is_switch = switch.entry.kind == ChangeKind::Switch;
            switch.from.clone().filter(|_| is_switch)
        });
        here.or_else(|| previous(&self.past()))
            .filter(|hash| self.current_hash() != Some(hash))
    }

    /// The role of every release that is not to be removed.
    pub fn roles(&self, keep: usize) -> Roles {
        let current = self.current_hash().cloned();
        let kept = match &current {
            Some(current) => kept(&self.past(), current, keep),
            None => Vec::new(),
        };
        Roles {
            canary: self.canary.as_ref().map(|canary| canary.hash.clone()),
            candidates: self.candidates.keys().cloned().collect(),
            draining: self.draining.clone(),
            kept: kept.into_iter().chain(self.previous()).collect(),
            current,
        }
    }

    pub fn remember_failure(&mut self, failed: FailedLaunch) {
        self.failed.push_front(failed);
        self.failed.truncate(FAILED_LAUNCHES_MAX);
    }
}
