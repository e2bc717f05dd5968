//! What is known of one application's releases, besides what its container engine tells.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::clock::Moment;
use crate::deploy::journal::{Noted, is_later};
use crate::deploy::lately::{Lately, Span};
use crate::deploy::manager::error::DeployError;
use crate::deploy::manager::views::Launched;
use crate::deploy::plan::{Keep, Past, Roles, Tally, kept, way_back};
use crate::deploy::records::{ChangeKind, CurrentDocument, HISTORY_ENTRIES_MAX, HistoryEntry};
use crate::deploy::route::{Current, Release};
use crate::deploy::stats::Snapshot;
use crate::names::ReleaseHash;

/// Launches that failed, of which so many are told.
const FAILED_LAUNCHES_MAX: usize = 5;

#[derive(Debug)]
pub struct State {
    pub current: Current,
    /// What made it the current one.
    pub document: Option<CurrentDocument>,
    /// The one that was taken up at the start, and is looked after since.
    pub taken_up: Option<CurrentDocument>,
    /// The store was seen to have a current release: when it has none, it has lost it.
    pub is_in_store: bool,
    /// At the start it had nothing, although there are releases: it may be another place than before.
    pub is_store_lost: bool,
    /// Why it is still being found out which one is current.
    pub loading: Option<String>,
    /// The store tells that no release was ever switched to.
    pub none_yet: bool,
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
    /// Releases that it has told of since the gateway's start, the last one first: a full one forgets
    /// the oldest.
    pub once_current: Vec<ReleaseHash>,
    /// Switches that are not in the store yet, oldest first.
    pub unwritten: VecDeque<(CurrentDocument, HistoryEntry)>,
    /// Why that is so, since when.
    pub pending: Option<Pending>,
    /// So many of them, the oldest, were made before this start of the gateway, and whether they still
    /// count is not known yet.
    pub carried_over: usize,
    /// How the release before the current one did lately when that was switched to.
    pub before: Tally,
    /// How the current one does, since it is so or was first looked at.
    pub lately: Option<(ReleaseHash, Lately)>,
    /// The switch that was made a short time ago, for as long as it is looked at how its release does.
    pub watched: Option<CurrentDocument>,
    pub last_switch: Option<LastSwitch>,
    /// Of the current release, which is to be left and cannot be.
    pub failed_rollback: Option<FailedRollback>,
    pub failed: VecDeque<FailedLaunch>,
    /// Containers that are being removed: they are of no use any more.
    pub leaving: BTreeSet<ReleaseHash>,
    /// Images that nothing needs and that could not be removed yet, or that failed launches brought.
    pub left_images: BTreeSet<String>,
    pub store: Health,
    pub registry: Health,
}

#[derive(Debug)]
pub struct Candidate {
    pub phase: LaunchPhase,
    /// How it went, once that is known.
    pub outcome: watch::Sender<Option<Result<Launched, DeployError>>>,
}

impl Candidate {
    /// Its launch is, so that nobody waits for that any more.
    pub fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }
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

impl Pending {
    pub fn of(entry: &HistoryEntry, error: String, attempts: u32) -> Self {
        Self {
            hash: entry.hash.clone(),
            since: entry.at.clone(),
            error,
            attempts,
        }
    }
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

/// The current release fails too often, and the gateway could not go back by itself.
#[derive(Debug, Clone, Serialize)]
pub struct FailedRollback {
    /// The release that serves on.
    pub hash: ReleaseHash,
    /// RFC 3339.
    pub at: String,
    /// Why it was to be left.
    pub reason: String,
    /// Why that could not be.
    pub error: String,
}

/// Whether something outside answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Health {
    Unknown,
    Up,
    Down { reason: String },
}

/// What became of the switches that an earlier gateway could not write.
#[derive(Debug, PartialEq)]
pub enum CarriedOver {
    /// There are none.
    Nothing,
    /// Somebody else has switched since.
    Overtaken,
    /// They are to be written; this is the last one.
    Counts(CurrentDocument),
}

impl State {
    /// Of a gateway that begins, with what an earlier start of it has left in the journal.
    pub fn new(noted: &Noted) -> Self {
        Self {
            current: Current::Loading,
            document: None,
            taken_up: None,
            is_in_store: false,
            is_store_lost: false,
            loading: None,
            none_yet: false,
            canary: None,
            candidates: BTreeMap::new(),
            draining: BTreeSet::new(),
            unhealthy: BTreeSet::new(),
            known: BTreeMap::new(),
            // Until the store tells.
            history: noted.history.clone(),
            once_current: Vec::new(),
            is_history_known: false,
            unwritten: noted.unwritten.iter().cloned().collect(),
            carried_over: noted.unwritten.len(),
            before: Tally::default(),
            lately: None,
            watched: None,
            pending: noted.unwritten.last().map(|(_, last)| {
                let error = "the gateway ended before the store had taken it";
                Pending::of(last, error.to_owned(), 0)
            }),
            last_switch: None,
            failed_rollback: None,
            failed: VecDeque::new(),
            leaving: BTreeSet::new(),
            left_images: BTreeSet::new(),
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

    /// Whether requests go to it: it is current, or a canary.
    pub fn gets_requests(&self, hash: &ReleaseHash) -> bool {
        let used = [self.current_release(), self.canary.as_ref()];
        used.into_iter().flatten().any(|used| used.hash == *hash)
    }

    /// Its launch, while that is under way.
    pub fn launching(&self, hash: &ReleaseHash) -> Option<&Candidate> {
        let candidate = self.candidates.get(hash);
        candidate.filter(|candidate| !candidate.is_over())
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
        here.or_else(|| way_back(&self.past()).into_iter().next())
            .filter(|hash| self.current_hash() != Some(hash))
    }

    /// The releases that requests go to or may go to without a launch.
    pub fn in_use(&self) -> Vec<ReleaseHash> {
        let canary = self.canary.as_ref().map(|canary| canary.hash.clone());
        let current = self.current_hash().cloned();
        let in_use = current.into_iter().chain(canary).chain(self.previous());
        in_use.collect()
    }

    /// The images of these; none while one of them is not known, besides what nobody can read.
    pub fn images_in_use(&self, unreadable: &BTreeSet<ReleaseHash>) -> Option<BTreeSet<String>> {
        let in_use = self.in_use().into_iter();
        let readable = in_use.filter(|hash| !unreadable.contains(hash));
        readable
            .map(|hash| Some(self.known.get(&hash)?.spec.image.clone()))
            .collect()
    }

    /// Keeps what a full history will forget.
    pub fn remember_history(&mut self) {
        let told = self.history.iter().rev().map(|entry| entry.hash.clone());
        let before = std::mem::take(&mut self.once_current);
        for hash in told.chain(before) {
            if !self.once_current.contains(&hash) {
                self.once_current.push(hash);
            }
        }
    }

    /// The role of every release that is not to be removed.
    pub fn roles(&self, keep: usize, there: &BTreeSet<ReleaseHash>) -> Roles {
        let current = self.current_hash().cloned();
        let kept = match &current {
            Some(current) => self.kept(current, keep, there),
            None => Vec::new(),
        };
        Roles {
            canary: self.canary.as_ref().map(|canary| canary.hash.clone()),
            candidates: self.candidates.keys().cloned().collect(),
            draining: self.draining.clone(),
            kept: kept.into_iter().chain(self.previous()).collect(),
            current,
            none_yet: self.none_yet,
        }
    }

    fn kept(
        &self,
        current: &ReleaseHash,
        count: usize,
        there: &BTreeSet<ReleaseHash>,
    ) -> Vec<ReleaseHash> {
        let is_watched = self.watched.is_some() && self.watched == self.document;
        let back_min = if is_watched { 2 } else { 1 };
        let past = self.past();
        let keep = Keep { count, back_min };
        let mut kept = kept(&past, current, keep, |hash| there.contains(hash));
        // What the history does not tell any more comes last.
        let is_told = |hash: &ReleaseHash| past.iter().any(|past| past.hash == *hash);
        let forgotten = self
            .once_current
            .iter()
            .filter(|hash| there.contains(*hash) && !is_told(hash));
        let room = count.saturating_sub(kept.len());
        kept.extend(forgotten.take(room).cloned());
        kept
    }

    /// What made the release current that is so since before this start.
    pub fn know(&mut self, document: &CurrentDocument, noted: &Noted) {
        self.document = Some(document.clone());
        self.before = if noted.current.as_ref() == Some(document) {
            noted.before
        } else {
            Tally::default()
        };
    }

    /// Looks at how the current release does.
    pub fn look(&mut self, now: Moment, span: Span) {
        let Some(release) = self.current_release() else {
            return;
        };
        let counted = Tally::from(&release.stats.snapshot());
        let hash = release.hash.clone();
        match &mut self.lately {
            Some((of, lately)) if *of == hash => lately.note(now, counted),
            _ => self.lately = Some((hash, Lately::begin(span, now, counted))),
        }
    }

    /// How the current release did lately; without a look at it, all that is counted.
    pub fn lately(&self) -> Tally {
        let Some(release) = self.current_release() else {
            return Tally::default();
        };
        let counted = Tally::from(&release.stats.snapshot());
        match &self.lately {
            Some((of, lately)) if *of == release.hash => lately.of(counted),
            _ => counted,
        }
    }

    /// What is to outlive this gateway, of releases.
    pub fn noted(&self) -> Noted {
        let too_many = self.history.len().saturating_sub(HISTORY_ENTRIES_MAX);
        Noted {
            current: self.document.clone(),
            before: self.before,
            history: self.history[too_many..].to_vec(),
            is_history_whole: self.is_history_known,
            unwritten: self.unwritten.iter().cloned().collect(),
            in_maintenance: false,
        }
    }

    /// Decides on the switches of before this start, now that the store tells which one is current:
    /// those that are missing in it are to be written; when somebody else has switched since, none is.
    pub fn settle_carried_over(&mut self, stored: Option<&CurrentDocument>) -> CarriedOver {
        let carried: Vec<_> = self
            .unwritten
            .drain(..std::mem::take(&mut self.carried_over))
            .collect();
        let Some((last, _)) = carried.last().cloned() else {
            return CarriedOver::Nothing;
        };
        // Of one that the store has as the current one, its history may not tell yet.
        if stored != Some(&last) && !is_later(&last, stored) {
            if self.unwritten.is_empty() {
                self.pending = None;
            }
            return CarriedOver::Overtaken;
        }
        for change in carried.into_iter().rev() {
            self.unwritten.push_front(change);
        }
        CarriedOver::Counts(last)
    }

    /// Lets go of releases that nothing is left of: candidates whose containers somebody has removed, and
    /// what is known of those that are neither there nor told of. Not while a launch is under way.
    pub fn forget_what_is_gone(&mut self, there: &BTreeSet<ReleaseHash>) {
        let gone: Vec<ReleaseHash> = self
            .candidates
            .extract_if(.., |hash, candidate| {
                candidate.is_over() && !there.contains(hash)
            })
            .map(|(hash, _)| hash)
            .collect();
        let images = gone.iter().filter_map(|hash| self.known.get(hash));
        self.left_images
            .extend(images.map(|known| known.spec.image.clone()));
        let in_use = self.in_use();
        self.known.retain(|hash, _| {
            there.contains(hash)
                || in_use.contains(hash)
                || self.candidates.contains_key(hash)
                || self.draining.contains(hash)
                || self.once_current.contains(hash)
                || self.failed.iter().any(|failed| failed.hash == *hash)
        });
    }

    /// What is used now is no candidate besides; one whose launch is under way is so until its end, which
    /// others may wait for.
    pub fn settle_candidate(&mut self, hash: &ReleaseHash) {
        if self.candidates.get(hash).is_some_and(Candidate::is_over) {
            self.candidates.remove(hash);
        }
    }

    pub fn remember_failure(&mut self, failed: FailedLaunch) {
        // One that is tried again and again is told once, with its last time.
        self.failed
            .retain(|told| told.hash != failed.hash || told.error != failed.error);
        self.failed.push_front(failed);
        self.failed.truncate(FAILED_LAUNCHES_MAX);
    }
}
