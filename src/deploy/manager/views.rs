//! Applications and their releases as programs and people are told of them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::deploy::manager::state::{FailedLaunch, FailedRollback, Health, LaunchPhase, Pending};
use crate::deploy::records::HistoryEntry;
use crate::deploy::stats::Snapshot;
use crate::names::{AppName, ReleaseHash, WorkloadName};

/// What a stored launch configuration answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored {
    pub app: AppName,
    pub hash: ReleaseHash,
    pub revision: String,
    /// What of the configuration is not carried out, and why.
    pub warnings: Vec<String>,
}

/// What a carried out launch answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Launched {
    pub app: AppName,
    pub hash: ReleaseHash,
    pub revision: String,
    pub workload: WorkloadName,
    pub image: String,
    /// It had a container already, which was woken.
    pub existing: bool,
    pub warnings: Vec<String>,
    /// From the order until it was healthy.
    pub took_ms: u64,
}

/// What a switch or a rollback answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Switched {
    pub app: AppName,
    pub hash: ReleaseHash,
    pub revision: String,
    /// The release that was current before.
    pub from: Option<ReleaseHash>,
    /// A part of the requests goes to it, as the scripts decide; the current one stays.
    pub canary: bool,
    /// It was current already.
    pub unchanged: bool,
    /// The canary that does not get requests any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gave_up: Option<ReleaseHash>,
    /// The store has not taken it yet; that is tried again until it does.
    pub pending: bool,
}

/// What a discard answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Discarded {
    pub app: AppName,
    pub hash: ReleaseHash,
    pub revision: String,
}

/// Everything about all applications.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub apps: Vec<AppStatus>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AppStatus {
    pub app: AppName,
    /// `open`, `paused`, `maintenance`.
    pub door: &'static str,
    /// Requests that are held by a pause, or until it is known which release is current.
    pub held: usize,
    /// Requests, since the gateway's start, that were answered 503 before any release was asked: during
    /// a maintenance, past the limits of a pause, or because it was not known which release is current.
    pub turned_away: u64,
    /// `ready` when requests have a current release, else `loading` or `none`.
    pub state: &'static str,
    /// Why there is no current release, or why it is not known yet which one that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub current: Option<ReleaseHash>,
    pub canary: Option<ReleaseHash>,
    /// What a rollback would go to.
    pub previous: Option<ReleaseHash>,
    pub releases: Vec<ReleaseStatus>,
    pub failed_launches: Vec<FailedLaunch>,
    pub last_switch: Option<LastSwitchView>,
    pub pending: Option<Pending>,
    /// The current release fails too often, and the gateway could not go back by itself.
    pub failed_rollback: Option<FailedRollback>,
    pub store: Part,
    pub registry: Part,
    /// Since when requests are counted: the gateway's start, RFC 3339. After a last switch that is older
    /// the numbers begin here.
    pub counted_since: String,
    /// Over all releases until the last switch, and from then on.
    pub before_last_switch: Option<Snapshot>,
    pub since_last_switch: Snapshot,
}

/// Something outside that releases depend on.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    pub place: String,
    #[serde(flatten)]
    pub health: Health,
}

#[derive(Debug, Clone, Serialize)]
pub struct LastSwitchView {
    #[serde(flatten)]
    pub entry: HistoryEntry,
    pub from: Option<ReleaseHash>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ReleaseStatus {
    pub hash: ReleaseHash,
    pub revision: String,
    /// `current`, `canary`, `candidate`, `draining`, `previous`, `kept`, `unclaimed`.
    pub role: &'static str,
    pub workload: Option<WorkloadName>,
    pub image: String,
    /// The workload's phase; `absent` while it has no container.
    pub phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How far its launch has come, while it is a candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch: Option<LaunchPhase>,
    pub leases: u64,
    pub waiting: usize,
    pub idle_seconds: Option<f64>,
    pub drain_seconds_left: Option<f64>,
    /// Since the gateway's start.
    pub total: Snapshot,
    /// Until the last switch, and from then on.
    pub before_last_switch: Option<Snapshot>,
    pub since_last_switch: Snapshot,
}

/// Snapshots by release.
pub type Snapshots = BTreeMap<ReleaseHash, Snapshot>;
