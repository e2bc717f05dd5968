//! All workloads: who they are, what the engine says of them, and the way in for requests.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::decision::CreateFrom;
use crate::lifecycle::gate::Lease;
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
    pub create: Option<&'a CreateFrom>,
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
    #[error("{workload:?} did not become ready within {} s; it goes on starting", waited.as_secs_f64())]
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
    #[error("the engine refused: {0}")]
    Refused(String),
    #[error("the engine does not answer: {0}")]
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
    /// Why it is in this phase, where there is something to say.
    pub reason: Option<String>,
    /// `address:port` while it is ready.
    pub address: Option<String>,
    pub image: String,
    pub labels: std::collections::BTreeMap<String, String>,
    /// Requests and streams that use it now.
    pub leases: u64,
    /// Requests that wait for it to wake.
    pub waiting: usize,
    /// Seconds without a lease; `None` while it is used or not ready.
    pub idle_seconds: Option<f64>,
    /// Seconds in this phase.
    pub phase_seconds: f64,
}

/// Every workload of one engine.
pub struct Fleet {}

#[expect(unused_variables, clippy::unimplemented)]
impl Fleet {
    /// Gives a lease at once when the workload is ready; otherwise wakes it (or makes it) and
    /// waits. May be called from any thread's runtime. Dropping the future gives the place up;
    /// the wake goes on.
    pub async fn acquire(&self, ask: Ask<'_>) -> Result<Lease, Refusal> {
        unimplemented!()
    }

    /// A lease when the workload is ready this moment. Never wakes anything.
    pub fn acquire_ready(&self, workload: &WorkloadName, counts: bool) -> Option<Lease> {
        unimplemented!()
    }

    /// Wakes the workload without waiting, as a request that is not held would (a waiting page).
    /// An error when it cannot be woken now, with the reason.
    pub fn nudge(
        &self,
        workload: &WorkloadName,
        create: Option<&CreateFrom>,
    ) -> Result<(), Refusal> {
        unimplemented!()
    }

    /// A connection to the lease's endpoint could not be made or broke before an answer: the
    /// engine is asked whether that run still lives, and its gate is closed when it does not.
    /// Returns when that is known, so that the caller may ask for a lease again.
    pub async fn suspect(&self, lease: Lease) {
        unimplemented!()
    }

    pub fn views(&self) -> Vec<View> {
        unimplemented!()
    }

    /// By name, by id, or by a unique beginning of an id of at least 12 characters.
    pub fn view(&self, name_or_id: &str) -> Option<View> {
        unimplemented!()
    }

    /// Makes a workload and, with `start`, starts it; returns when it is made and its start has
    /// been carried out (not when it is ready). Nothing half-made stays behind on an error.
    pub async fn deploy(&self, spec: WorkloadSpec, start: bool) -> Result<View, OrderError> {
        unimplemented!()
    }

    /// Starts a workload, also in its backoff. `until_ready`: returns when it is ready, at the
    /// most after that time; otherwise when its start has been carried out.
    pub async fn start(
        &self,
        name_or_id: &str,
        until_ready: Option<Duration>,
    ) -> Result<View, OrderError> {
        unimplemented!()
    }

    /// Drains, stops and removes a workload; returns when it is gone.
    pub async fn remove(&self, name_or_id: &str) -> Result<(), OrderError> {
        unimplemented!()
    }

    /// `Ok` when the engine answers and all workloads are known, else what is wrong.
    pub fn engine(&self) -> Result<(), String> {
        unimplemented!()
    }
}
