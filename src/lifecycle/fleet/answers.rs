//! What may be asked of the fleet, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::decision::{ContainerRules, CreateFrom};
use crate::lifecycle::machine::{Failure, FailureKind};
use crate::names::WorkloadName;
use crate::spec::{SpecRefusal, WorkloadSpec};

/// A request's wish for a lease.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub workload: &'a WorkloadName,
    /// Whether the lease's end counts as activity.
    pub counts: bool,
    /// How long to wait for the workload to wake.
    pub wait: Duration,
    /// How to make the workload when it does not exist.
    pub create: Option<Creation<'a>>,
    /// Cancelled when the request is no longer meant for this workload. From then on it wakes
    /// nothing, and waiting ends with [`Refusal::Superseded`]. `None`: that never happens.
    pub superseded: Option<&'a CancellationToken>,
}

/// How to make a workload. What comes out is admitted by the policy either way.
#[derive(Clone, Copy)]
pub enum Creation<'a> {
    Template {
        from: &'a CreateFrom,
        /// The scripts that said so, which may no longer be the current ones; `None` asks those.
        by: Option<&'a dyn ContainerRules>,
    },
    Spec(&'a WorkloadSpec),
}

impl std::fmt::Debug for Creation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Creation::Template { from, .. } => f.debug_tuple("Template").field(from).finish(),
            Creation::Spec(spec) => f.debug_tuple("Spec").field(spec).finish(),
        }
    }
}

impl<'a> Creation<'a> {
    /// As the current scripts fill the template.
    pub fn from(from: &'a CreateFrom) -> Self {
        Self::template(from, None)
    }

    /// As `by` fills the template; `None`: as the current scripts do.
    pub fn template(from: &'a CreateFrom, by: Option<&'a dyn ContainerRules>) -> Self {
        Self::Template { from, by }
    }

    /// As the specification says, which must be that of the workload asked for.
    pub fn spec(spec: &'a WorkloadSpec) -> Self {
        Self::Spec(spec)
    }
}

/// Why there is no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no workload {0:?}")]
    Unknown(WorkloadName),
    /// As many requests as allowed wait already.
    #[error("too many requests wait for {workload:?} to wake")]
    QueueFull {
        workload: WorkloadName,
        retry_after: Duration,
    },
    /// The wait is over; the wake goes on.
    #[error("{workload:?} did not become ready within {:.1} s; it goes on starting", waited.as_secs_f64())]
    TimedOut {
        workload: WorkloadName,
        waited: Duration,
    },
    /// It could not be started, or not be made.
    #[error("{workload:?} cannot be used: {reason}")]
    Failed {
        workload: WorkloadName,
        reason: Arc<str>,
        retry_after: Duration,
    },
    #[error("{workload:?} cannot be woken: {reason}")]
    EngineUnreachable {
        workload: WorkloadName,
        reason: Arc<str>,
        retry_after: Duration,
    },
    /// Its template cannot be filled: a script's fault.
    #[error("the template for {workload:?} failed: {reason}")]
    Template {
        workload: WorkloadName,
        reason: Arc<str>,
    },
    /// The request is meant for another workload by now: who asked looks again for which.
    #[error("{0:?} has been superseded")]
    Superseded(WorkloadName),
}

/// What can go wrong when a workload is made, started or removed on an operator's word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("the specification asks for what is not allowed here")]
    NotAllowed(Vec<SpecRefusal>),
    #[error("there is no workload {0:?}")]
    Unknown(String),
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    #[error("there is no image {0:?} on the engine")]
    ImageMissing(String),
    #[error("there is no network {0:?} on the engine")]
    NetworkMissing(String),
    #[error("there is no image {0:?} in its registry")]
    ImageNotFound(String),
    /// In the engine's words, with what it was about.
    #[error("{0}")]
    RegistryUnreachable(String),
    /// Likewise.
    #[error("{0}")]
    RegistryDenied(String),
    /// In the engine's words, with who says so.
    #[error("{0}")]
    Refused(String),
    /// Likewise with why.
    #[error("{0}")]
    EngineUnreachable(String),
    #[error("{0}")]
    Failed(String),
    #[error("not done within {} s; it goes on", .0.as_secs_f64())]
    TimedOut(Duration),
}

/// A workload as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// The engine's identifier; empty while there is no container.
    pub id: String,
    pub name: WorkloadName,
    /// `absent`, `creating`, `stopped`, `starting`, `ready`, `draining`, `stopping`, `pausing`,
    /// `paused`, `failed`, `removing`.
    pub phase: &'static str,
    /// Why it is in this phase, where there is something to say; of one that is stopped, how its last
    /// run or start failed, if it did.
    pub reason: Option<String>,
    /// `address:port` while it is ready.
    pub address: Option<String>,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    /// Requests and streams that use it now.
    pub leases: u64,
    /// Requests that wait for it to wake.
    pub waiting: usize,
    /// Seconds without a lease; `None` while it is used or not ready.
    pub idle_seconds: Option<f64>,
    /// After how many of them it is put to sleep; `None` while it is not ready, or never.
    pub idle_stop_seconds: Option<f64>,
    /// Seconds after which it is stopped although it is used; `None` while it does not drain.
    pub drain_seconds_left: Option<f64>,
    /// Seconds in this phase.
    pub phase_seconds: f64,
}

impl From<Failure> for OrderError {
    fn from(failure: Failure) -> Self {
        let message = failure.message.to_string();
        match failure.kind {
            FailureKind::EngineUnreachable => OrderError::EngineUnreachable(message),
            FailureKind::NameTaken(name) => OrderError::NameTaken(name),
            FailureKind::ImageMissing(image) => OrderError::ImageMissing(image),
            FailureKind::NetworkMissing(network) => OrderError::NetworkMissing(network),
            FailureKind::ImageNotFound(image) => OrderError::ImageNotFound(image),
            FailureKind::RegistryUnreachable => OrderError::RegistryUnreachable(message),
            FailureKind::RegistryDenied => OrderError::RegistryDenied(message),
            FailureKind::Refused => OrderError::Refused(message),
            FailureKind::NotFound
            | FailureKind::NotRunning { .. }
            | FailureKind::IsPaused
            | FailureKind::NotReady
            | FailureKind::Other => OrderError::Failed(message),
        }
    }
}
