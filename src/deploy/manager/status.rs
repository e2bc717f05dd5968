//! One application's status, put together from its state and the engine's containers.

use std::collections::BTreeMap;

use super::state::State;
use super::views::{AppStatus, LastSwitchView, Part, ReleaseStatus};
use super::{Managed, release_of};
use crate::deploy::route::{Current, Door};
use crate::deploy::stats::Snapshot;
use crate::lifecycle::fleet::View;
use crate::names::ReleaseHash;
use crate::spec::REVISION_LABEL;

impl Managed {
    pub(super) fn status(&self) -> AppStatus {
        let views = self.containers();
        let state = self.state.lock();
        let previous = state.previous();
        let mut by_hash: BTreeMap<ReleaseHash, Option<&View>> = BTreeMap::new();
        for view in &views {
            if let Some(hash) = release_of(view) {
                by_hash.insert(hash, Some(view));
            }
        }
        let named = state.current_hash().into_iter().chain(&previous);
        for hash in named.chain(state.candidates.keys()) {
            by_hash.entry(hash.clone()).or_default();
        }
        let mut releases: Vec<ReleaseStatus> = by_hash
            .into_iter()
            .map(|(hash, view)| release_status(&state, previous.as_ref(), hash, view))
            .collect();
        releases.sort_by_key(|release| ORDER.iter().position(|role| *role == release.role));
        let (name, reason) = match &state.current {
            Current::Loading => ("loading", state.loading.clone()),
            Current::Nothing(reason) => ("none", Some(reason.to_string())),
            Current::Release(_) => ("ready", None),
        };
        let mut before = Snapshot::default();
        let mut since = Snapshot::default();
        for hash in state.known.keys() {
            let (release_before, release_since, _) = counted(&state, hash);
            before = before.plus(&release_before.unwrap_or_default());
            since = since.plus(&release_since);
        }
        AppStatus {
            app: self.name.clone(),
            door: match self.route.door() {
                Door::Open => "open",
                Door::Paused => "paused",
                Door::Maintenance => "maintenance",
            },
            held: self.route.held(),
            turned_away: self.route.turned_away(),
            state: name,
            reason,
            current: state.current_hash().cloned(),
            canary: state.canary.as_ref().map(|canary| canary.hash.clone()),
            previous,
            releases,
            failed_launches: state.failed.iter().cloned().collect(),
            last_switch: last_switch(&state),
            pending: state.pending.clone(),
            failed_rollback: state.failed_rollback.clone(),
            store: Part {
                place: self.store.describe(),
                health: state.store.clone(),
            },
            registry: Part {
                place: self.config.registry.clone(),
                health: state.registry.clone(),
            },
            counted_since: self.began.clone(),
            before_last_switch: state.last_switch.as_ref().map(|_| before),
            since_last_switch: since,
        }
    }
}

/// The last switch, also one of before the gateway's start.
fn last_switch(state: &State) -> Option<LastSwitchView> {
    if let Some(switch) = &state.last_switch {
        return Some(LastSwitchView {
            entry: switch.entry.clone(),
            from: switch.from.clone(),
        });
    }
    let entry = state.document.as_ref()?.change();
    let at = state.history.iter().rposition(|other| *other == entry);
    let from = at
        .and_then(|at| state.history[..at].last())
        .map(|before| before.hash.clone());
    Some(LastSwitchView { entry, from })
}

/// The order in which releases are told.
const ORDER: [&str; 7] = [
    "current",
    "canary",
    "candidate",
    "draining",
    "previous",
    "kept",
    "unclaimed",
];

fn release_status(
    state: &State,
    previous: Option<&ReleaseHash>,
    hash: ReleaseHash,
    view: Option<&View>,
) -> ReleaseStatus {
    let known = state.known.get(&hash);
    let (before, since, total) = counted(state, &hash);
    let labelled = view.and_then(|view| view.labels.get(REVISION_LABEL));
    let recorded = state.history.iter().rev().find(|entry| entry.hash == hash);
    let revision = known
        .map(|known| &known.revision)
        .or(labelled)
        .or(recorded.map(|entry| &entry.revision));
    let image = view
        .map(|view| view.image.clone())
        .filter(|image| !image.is_empty());
    ReleaseStatus {
        role: role(state, previous, &hash),
        revision: revision.cloned().unwrap_or_default(),
        workload: view
            .map(|view| view.name.clone())
            .or_else(|| known.map(|known| known.workload.clone())),
        image: image
            .or_else(|| known.map(|known| known.spec.image.clone()))
            .unwrap_or_default(),
        phase: view.map_or("absent", |view| view.phase).to_owned(),
        reason: view.and_then(|view| view.reason.clone()),
        launch: state
            .candidates
            .get(&hash)
            .map(|candidate| candidate.phase.clone()),
        leases: view.map_or(0, |view| view.leases),
        waiting: view.map_or(0, |view| view.waiting),
        idle_seconds: view.and_then(|view| view.idle_seconds),
        drain_seconds_left: view.and_then(|view| view.drain_seconds_left),
        total,
        before_last_switch: before,
        since_last_switch: since,
        hash,
    }
}

fn role(state: &State, previous: Option<&ReleaseHash>, hash: &ReleaseHash) -> &'static str {
    let is_told = || state.history.iter().any(|entry| entry.hash == *hash);
    if state.current_hash() == Some(hash) {
        "current"
    } else if state
        .canary
        .as_ref()
        .is_some_and(|canary| canary.hash == *hash)
    {
        "canary"
    } else if state.candidates.contains_key(hash) {
        "candidate"
    } else if state.draining.contains(hash) {
        "draining"
    } else if previous == Some(hash) {
        "previous"
    } else if is_told() || state.once_current.contains(hash) {
        "kept"
    } else {
        "unclaimed"
    }
}

/// Until the last switch, since then, and in all.
fn counted(state: &State, hash: &ReleaseHash) -> (Option<Snapshot>, Snapshot, Snapshot) {
    let total = state
        .known
        .get(hash)
        .map(|known| known.stats.snapshot())
        .unwrap_or_default();
    let Some(switch) = &state.last_switch else {
        return (None, total.clone(), total);
    };
    let before = switch.before.get(hash).cloned().unwrap_or_default();
    let since = total.since(&before);
    (Some(before), since, total)
}
