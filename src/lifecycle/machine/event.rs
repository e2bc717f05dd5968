//! What happens to a workload, and what is to be done then: the machine's language.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::decision::{BusySign, IdleRule};
use crate::lifecycle::gate::Endpoint;
use crate::lifecycle::machine::{Failure, Launch, Use};
use crate::runtime::{EngineEventKind, EngineTime, Health, Instance, InstanceId, InstanceState};
use crate::spec::WorkloadSpec;

/// Counts the orders that one workload was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Generation(pub(super) u64);

/// Something that happened to a workload.
#[derive(Debug)]
pub enum Event {
    /// Somebody wants it awake. An operator's wish goes before a backoff.
    Wanted {
        by_operator: bool,
    },
    CreateOrdered {
        spec: Box<WorkloadSpec>,
        start: bool,
    },
    RemoveOrdered,
    /// It was superseded: it is to sleep as soon as nobody uses it, and after `drain` at the
    /// latest. Those who wait for it are to look again whom they want.
    RestOrdered {
        drain: Duration,
    },
    /// The moment of `wake_at` has come, or the last lease of a closed gate ended.
    Tick,

    // Answers to effects.
    Created(Generation, Result<InstanceId, Failure>),
    Launched(Generation, Result<Launch, Failure>),
    Proved(Generation),
    Missed(Generation, Arc<str>),
    StopDone(Generation, Result<(), Failure>),
    PauseDone(Generation, Result<(), Failure>),
    RemoveDone(Generation, Result<(), Failure>),
    Use(Generation, Use),

    /// The engine tells of the container `id`.
    Engine {
        id: InstanceId,
        at: EngineTime,
        kind: EngineEventKind,
    },
    /// The engine was asked at `asked`: this is the container of that name.
    Observed {
        asked: Moment,
        instance: Observation,
    },
    /// The same of one that was made just now, and that nobody has started yet.
    Made {
        asked: Moment,
        instance: Observation,
    },
    /// The engine was asked at `asked`: there is no such container.
    Missing {
        asked: Moment,
        id: InstanceId,
    },
    /// The rules were changed: this is the idle rule of the container `id` now.
    IdleRule {
        id: InstanceId,
        rule: IdleRule,
    },
    /// A connection to the gate with this serial could not be made, although its run lives.
    Unanswered {
        serial: u64,
    },
}

/// What a listing or an inspection said of a container, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub id: InstanceId,
    pub state: InstanceState,
    /// `None` when the engine's answer does not tell.
    pub address: Option<IpAddr>,
    pub health: Option<Health>,
}

/// What is to be done. Everything with a generation is answered by the event of that name.
#[derive(Debug, PartialEq)]
pub enum Effect {
    Create(Generation, Box<WorkloadSpec>),
    Launch(Generation, InstanceId, How),
    /// Probe until it answers, reporting misses, at the most until the deadline.
    Prove(Generation, InstanceId, Launch, Moment),
    Stop(Generation, InstanceId, Duration),
    Pause(Generation, InstanceId),
    Remove(Generation, InstanceId),
    /// Find out whether it is used past the gateway.
    AskUse(Generation, InstanceId, BusySign, Endpoint),
    /// Ask the engine and report what was observed.
    Look(InstanceId),
    /// Answer everybody who waits.
    Refuse(Why),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Start,
    Unpause,
    /// It runs already.
    Adopt,
}

/// Why those who wait get no lease.
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// There is no container, or soon there will be none.
    Gone,
    /// It was told to sleep.
    Superseded,
    Failed {
        failure: Failure,
        retry_after: Duration,
    },
}

impl From<&Instance> for Observation {
    fn from(instance: &Instance) -> Self {
        Self {
            id: instance.id.clone(),
            state: instance.state,
            address: instance.address,
            health: instance.health,
        }
    }
}
