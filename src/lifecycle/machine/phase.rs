//! The phases of a workload's life, and why an order could not be carried out.

use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Moment;
use crate::decision::{IdleRule, ReadyRule};
use crate::lifecycle::gate::Gate;
use crate::lifecycle::machine::{How, Past, Watch};
use crate::runtime::{EngineTime, Health, RuntimeError};

/// Where a workload stands.
#[derive(Debug)]
pub enum Phase {
    /// There is no container.
    Absent,
    Creating {
        start: bool,
    },
    Stopped,
    Starting {
        how: How,
        step: Step,
        /// The run as it was until it was in doubt.
        former: Option<Former>,
    },
    Ready {
        gate: Arc<Gate>,
        run: Run,
        idle: IdleRule,
        /// When to look whether it is idle.
        look_at: Moment,
        /// Of its use past the gateway, where the idle rule has a sign of that.
        watch: Watch,
    },
    /// Closed to new requests; the old ones end, and it is stopped then, at the latest at the
    /// deadline.
    Draining {
        gate: Arc<Gate>,
        run: Run,
        idle: IdleRule,
        deadline: Moment,
        then: Then,
        /// Where it is used past the gateway as well, that has to end too.
        past: Option<Past>,
    },
    Stopping {
        then: Then,
        by: StoppedBy,
    },
    Pausing {
        then: Then,
    },
    Paused,
    Failed {
        until: Moment,
        failure: Failure,
    },
    Removing,
}

#[derive(Debug)]
pub enum Step {
    /// The engine was told to, or its turn has not come.
    Launching,
    /// It runs; whether it can be used is being found out.
    Proving {
        launch: Launch,
        deadline: Moment,
        /// Why the last probe failed.
        missed: Option<Arc<str>>,
    },
}

/// What comes after a drain, a stop or a pause.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    Rest {
        /// It was told to sleep. Unless it is wanted again, nothing that goes wrong on the way
        /// leaves it awake.
        ordered: bool,
    },
    Start,
    Fail {
        until: Moment,
        failure: Failure,
    },
    Remove,
}

/// A run that could be used until its gate was closed, and that went on. Its leases may be out.
#[derive(Debug, Clone)]
pub struct Former {
    pub gate: Arc<Gate>,
    pub run: Run,
    pub idle: IdleRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoppedBy {
    /// The stop call is out.
    Us,
    /// The stop call failed; it is made again then.
    UsAgainAt(Moment),
    /// Somebody else; at the latest then the engine is asked how it went.
    Outside { look_at: Moment },
    /// It is at rest, and somebody else has just stopped or made it. Until then it is theirs, who may
    /// be about to replace it, or to connect and start it.
    OutsideUntil(Moment),
}

/// One run of a container: from a start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub started_at: EngineTime,
    pub address: IpAddr,
}

/// A container that was seen running, with what the scripts say of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    pub run: Run,
    pub port: Option<u16>,
    pub ready: ReadyRule,
    pub idle: IdleRule,
    pub health: Option<Health>,
    /// Whether a proxy beside the gateway routes to it, whatever its idle rule says.
    pub routed_past: bool,
}

/// Why an order could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    EngineUnreachable,
    NotFound,
    /// It had ended again before it could be looked at.
    NotRunning {
        /// It ended by itself and without an error (exit code 0).
        clean: bool,
    },
    /// Somebody had paused it.
    IsPaused,
    NotReady,
    NameTaken(String),
    ImageMissing(String),
    NetworkMissing(String),
    ImageNotFound(String),
    RegistryUnreachable,
    RegistryDenied,
    Refused,
    Other,
}

impl Phase {
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Absent => "absent",
            Phase::Creating { .. } => "creating",
            Phase::Stopped
            | Phase::Stopping {
                by: StoppedBy::OutsideUntil(_),
                ..
            } => "stopped",
            Phase::Starting { .. } => "starting",
            Phase::Ready { .. } => "ready",
            Phase::Draining { .. } => "draining",
            Phase::Stopping { .. } => "stopping",
            Phase::Pausing { .. } => "pausing",
            Phase::Paused => "paused",
            Phase::Failed { .. } => "failed",
            Phase::Removing => "removing",
        }
    }

    /// It came to rest, and nobody is known to want it awake.
    pub fn is_at_rest(&self) -> bool {
        matches!(
            self,
            Phase::Stopped
                | Phase::Paused
                | Phase::Stopping {
                    then: Then::Rest { .. },
                    by: StoppedBy::OutsideUntil(_),
                }
        )
    }

    /// Its container is being removed.
    pub fn is_leaving(&self) -> bool {
        matches!(
            self,
            Phase::Removing
                | Phase::Draining {
                    then: Then::Remove,
                    ..
                }
                | Phase::Stopping {
                    then: Then::Remove,
                    ..
                }
                | Phase::Pausing { then: Then::Remove }
        )
    }

    /// What there is to say of it, for people.
    pub fn reason(&self) -> Option<Arc<str>> {
        match self {
            Phase::Starting {
                step: Step::Proving { missed, .. },
                ..
            } => missed.clone(),
            Phase::Stopping {
                then: Then::Fail { failure, .. },
                ..
            }
            | Phase::Failed { failure, .. } => Some(failure.message.clone()),
            Phase::Ready { watch, .. }
            | Phase::Draining {
                past: Some(Past { watch, .. }),
                ..
            } => watch.unknown().cloned(),
            _ => None,
        }
    }
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let message = error.to_string();
        let kind = match error {
            RuntimeError::Unreachable(_) => FailureKind::EngineUnreachable,
            RuntimeError::NotFound(_) => FailureKind::NotFound,
            RuntimeError::NameTaken(name) => FailureKind::NameTaken(name),
            RuntimeError::ImageMissing(image) => FailureKind::ImageMissing(image),
            RuntimeError::NetworkMissing(network) => FailureKind::NetworkMissing(network),
            RuntimeError::ImageNotFound(image) => FailureKind::ImageNotFound(image),
            RuntimeError::RegistryUnreachable(_) => FailureKind::RegistryUnreachable,
            RuntimeError::RegistryDenied(_) => FailureKind::RegistryDenied,
            RuntimeError::Refused(_) => FailureKind::Refused,
            RuntimeError::Failed(_) => FailureKind::Other,
        };
        Self::new(kind, message)
    }
}
