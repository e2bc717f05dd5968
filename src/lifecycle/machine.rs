//! One workload's next step: what happens to it, decided without waiting for anything.
//!
//! `step` is the only place that decides to create, start, stop, pause or remove a container. It
//! is given the time and an event, changes the phase, and returns what is to be done; whoever
//! carries that out reports back with another event. Every order has a generation, and an answer
//! to an order that is no longer the current one is ignored.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::decision::{IdleRule, ReadyRule};
use crate::lifecycle::gate::{Endpoint, Gate};
use crate::names::WorkloadName;
use crate::runtime::{
    EngineEventKind, EngineTime, Health, Instance, InstanceId, InstanceState, RuntimeError,
};
use crate::spec::WorkloadSpec;

mod events;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod tests;

/// Counts the orders that one workload was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Generation(u64);

/// The times that rule a workload's life.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// For requests to end before a workload is removed.
    pub drain: Duration,
    /// How long a container may take to end that somebody else told to, before it is looked at.
    pub outside_stop: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// A crash sooner than this after readiness counts like a failed start.
    pub settle: Duration,
    /// Between two attempts to stop what could not be stopped, or to reach an engine that is away.
    pub retry: Duration,
}

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
    },
    Ready {
        gate: Arc<Gate>,
        run: Run,
        idle: IdleRule,
        /// When to look whether it is idle.
        look_at: Moment,
    },
    /// Closed to new requests; the old ones end.
    Draining {
        gate: Arc<Gate>,
        deadline: Moment,
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

/// What comes after a stop or a pause.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    Rest,
    Start,
    Fail { until: Moment, failure: Failure },
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoppedBy {
    /// The stop call is out.
    Us,
    /// The stop call failed; it is made again then.
    UsAgainAt(Moment),
    /// Somebody else; at the latest then the engine is asked how it went.
    Outside { look_at: Moment },
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
    NotRunning,
    /// Somebody had paused it.
    IsPaused,
    NotReady,
    NameTaken(String),
    ImageMissing(String),
    NetworkMissing(String),
    Refused,
    Other,
}

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
    /// The engine was asked at `asked`: there is no such container.
    Missing {
        asked: Moment,
        id: InstanceId,
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
    Failed {
        failure: Failure,
        retry_after: Duration,
    },
}

/// The state machine of one workload.
#[derive(Debug)]
pub struct Machine {
    name: WorkloadName,
    id: Option<InstanceId>,
    /// Another container of this name, seen while an order for the known one was out.
    newcomer: Option<(Moment, InstanceId)>,
    /// When it was last heard that a container of this name was destroyed.
    destroyed_at: Moment,
    phase: Phase,
    /// When the phase began.
    since: Moment,
    generation: Generation,
    /// Failed starts in a row.
    failures: u32,
    /// The last failure, for whoever ordered something and sees it not done.
    last_failure: Option<Failure>,
    jitter: fastrand::Rng,
    limits: Limits,
    clock: Clock,
    drained: Arc<tokio::sync::Notify>,
}

impl Machine {
    /// A workload without a container. `clock` and `drained` go into the gates that it opens.
    pub fn new(
        name: WorkloadName,
        limits: Limits,
        clock: Clock,
        drained: Arc<tokio::sync::Notify>,
        seed: u64,
    ) -> Self {
        Self {
            name,
            id: None,
            newcomer: None,
            destroyed_at: Moment::ZERO,
            phase: Phase::Absent,
            since: Moment::ZERO,
            generation: Generation::default(),
            failures: 0,
            last_failure: None,
            jitter: fastrand::Rng::with_seed(seed),
            limits,
            clock,
            drained,
        }
    }

    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    pub fn since(&self) -> Moment {
        self.since
    }

    pub fn id(&self) -> Option<&InstanceId> {
        self.id.as_ref()
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    pub fn last_failure(&self) -> Option<&Failure> {
        self.last_failure.as_ref()
    }

    /// The way in, while there is one.
    pub fn open_gate(&self) -> Option<&Arc<Gate>> {
        match &self.phase {
            Phase::Ready { gate, .. } => Some(gate),
            _ => None,
        }
    }

    /// When `Tick` is due, if nothing else happens before.
    pub fn wake_at(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Starting {
                step: Step::Proving { deadline, .. },
                ..
            } => Some(*deadline),
            Phase::Ready {
                idle: IdleRule::Never,
                ..
            } => None,
            Phase::Ready { look_at, .. } => Some(*look_at),
            Phase::Draining { deadline, .. } => Some(*deadline),
            Phase::Stopping {
                by: StoppedBy::UsAgainAt(at),
                ..
            } => Some(*at),
            Phase::Stopping {
                by: StoppedBy::Outside { look_at },
                ..
            } => Some(*look_at),
            Phase::Failed { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Takes one event and says what is to be done.
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Effect> {
        match event {
            Event::Wanted { by_operator } => self.wanted(now, by_operator),
            Event::CreateOrdered { spec, start } => self.create_ordered(now, spec, start),
            Event::RemoveOrdered => self.remove_ordered(now),
            Event::Tick => self.tick(now),
            Event::Created(generation, result) => {
                self.answer(generation, |machine| machine.created(now, result))
            }
            Event::Launched(generation, result) => {
                self.answer(generation, |machine| machine.launched(now, result))
            }
            Event::Proved(generation) => self.answer(generation, |machine| machine.proved(now)),
            Event::Missed(generation, why) => {
                self.answer(generation, |machine| machine.missed(why))
            }
            Event::StopDone(generation, result) => {
                self.answer(generation, |machine| machine.stop_done(now, result))
            }
            Event::PauseDone(generation, result) => {
                self.answer(generation, |machine| machine.pause_done(now, result))
            }
            Event::RemoveDone(generation, result) => {
                self.answer(generation, |machine| machine.remove_done(now, result))
            }
            Event::Engine { id, at, kind } => self.engine_event(now, &id, at, kind),
            Event::Observed { asked, instance } => self.observed(now, asked, instance),
            Event::Missing { asked, id } => self.missing(now, asked, &id),
            Event::Unanswered { serial } => self.unanswered(now, serial),
        }
    }

    fn answer(
        &mut self,
        generation: Generation,
        take: impl FnOnce(&mut Self) -> Vec<Effect>,
    ) -> Vec<Effect> {
        if generation == self.generation {
            take(self)
        } else {
            Vec::new()
        }
    }

    fn wanted(&mut self, now: Moment, by_operator: bool) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Absent | Phase::Removing | Phase::Draining { .. } => {
                vec![Effect::Refuse(Why::Gone)]
            }
            Phase::Creating { start } => {
                *start = true;
                Vec::new()
            }
            Phase::Stopped => self.launch(now, How::Start),
            Phase::Starting { .. } | Phase::Ready { .. } => Vec::new(),
            Phase::Paused => self.launch(now, How::Unpause),
            Phase::Failed { until, failure } => {
                if by_operator || *until <= now {
                    return self.launch(now, How::Start);
                }
                let why = Why::Failed {
                    failure: failure.clone(),
                    retry_after: until.since(now),
                };
                vec![Effect::Refuse(why)]
            }
            // Starting what may still run is safe: a start asks for a state.
            Phase::Stopping {
                then: Then::Rest | Then::Start,
                by: StoppedBy::UsAgainAt(_),
            } => self.launch(now, How::Start),
            Phase::Stopping { then, .. } | Phase::Pausing { then } => match then {
                Then::Rest | Then::Start => {
                    *then = Then::Start;
                    Vec::new()
                }
                Then::Fail { .. } if by_operator => {
                    *then = Then::Start;
                    Vec::new()
                }
                Then::Fail { until, failure } => vec![Effect::Refuse(Why::Failed {
                    failure: failure.clone(),
                    retry_after: until.since(now),
                })],
                Then::Remove => vec![Effect::Refuse(Why::Gone)],
            },
        }
    }

    fn create_ordered(&mut self, now: Moment, spec: Box<WorkloadSpec>, start: bool) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Absent => {
                self.enter(now, Phase::Creating { start });
                vec![Effect::Create(self.order(), spec)]
            }
            Phase::Creating { start: already } => {
                *already |= start;
                Vec::new()
            }
            // It exists by now. Who wanted it made because it was missing wants it awake.
            _ if start => self.wanted(now, false),
            _ => Vec::new(),
        }
    }

    fn created(&mut self, now: Moment, result: Result<InstanceId, Failure>) -> Vec<Effect> {
        let Phase::Creating { start } = self.phase else {
            return Vec::new();
        };
        match result {
            Ok(id) => {
                self.id = Some(id);
                self.newcomer = None;
                self.last_failure = None;
                if start {
                    self.launch(now, How::Start)
                } else {
                    self.enter(now, Phase::Stopped);
                    Vec::new()
                }
            }
            Err(failure) => {
                self.last_failure = Some(failure.clone());
                self.enter(now, Phase::Absent);
                let refuse = Effect::Refuse(Why::Failed {
                    failure,
                    retry_after: self.limits.backoff_min,
                });
                self.newcomer
                    .take()
                    .map(|(_, id)| Effect::Look(id))
                    .into_iter()
                    .chain([refuse])
                    .collect()
            }
        }
    }

    fn launch(&mut self, now: Moment, how: How) -> Vec<Effect> {
        let Some(id) = self.id.clone() else {
            return self.gone(now);
        };
        self.enter(
            now,
            Phase::Starting {
                how,
                step: Step::Launching,
            },
        );
        vec![Effect::Launch(self.order(), id, how)]
    }

    fn launched(&mut self, now: Moment, result: Result<Launch, Failure>) -> Vec<Effect> {
        let Phase::Starting {
            how,
            step: Step::Launching,
        } = self.phase
        else {
            return Vec::new();
        };
        let launch = match result {
            Ok(launch) => launch,
            Err(failure) => return self.launch_failed(now, how, failure),
        };
        let Some(id) = self.id.clone() else {
            return self.gone(now);
        };
        let (limit, probed) = match &launch.ready {
            ReadyRule::Wait(time) => (*time, false),
            ReadyRule::Probe { max, .. } | ReadyRule::Tcp { max } => (*max, true),
            ReadyRule::Health { max } => (*max, false),
        };
        let healthy = launch.health == Some(Health::Healthy);
        let proved = match &launch.ready {
            ReadyRule::Wait(time) => time.is_zero(),
            ReadyRule::Health { .. } => healthy,
            _ => false,
        };
        let deadline = now + limit;
        let order = launch.clone();
        self.enter(
            now,
            Phase::Starting {
                how,
                step: Step::Proving {
                    launch,
                    deadline,
                    missed: None,
                },
            },
        );
        let generation = self.order();
        if proved {
            return self.proved(now);
        }
        if probed {
            vec![Effect::Prove(generation, id, order, deadline)]
        } else {
            Vec::new()
        }
    }

    fn launch_failed(&mut self, now: Moment, how: How, failure: Failure) -> Vec<Effect> {
        match failure.kind {
            FailureKind::NotFound => self.gone(now),
            // Not the workload's fault, so no growing backoff.
            FailureKind::EngineUnreachable => {
                let until = now + self.limits.retry;
                self.rest_in_failure(now, until, failure)
            }
            FailureKind::IsPaused => {
                self.enter(now, Phase::Paused);
                Vec::new()
            }
            // It ran and has ended meanwhile, as it may: who waits for it starts it anew.
            FailureKind::NotRunning if how == How::Adopt => {
                self.enter(now, Phase::Stopped);
                Vec::new()
            }
            FailureKind::NotRunning => {
                let until = self.count_failure(now);
                self.rest_in_failure(now, until, failure)
            }
            // What somebody else started is not stopped because we failed to look at it.
            _ if how == How::Adopt => {
                let until = self.count_failure(now);
                self.rest_in_failure(now, until, failure)
            }
            // The call may have got further than its answer: nothing that was begun stays running.
            _ => self.fail_start(now, failure),
        }
    }

    fn proved(&mut self, now: Moment) -> Vec<Effect> {
        let Phase::Starting {
            step: Step::Proving { launch, .. },
            ..
        } = &self.phase
        else {
            return Vec::new();
        };
        let endpoint = Endpoint {
            workload: self.name.clone(),
            address: launch.run.address,
            port: launch.port,
            serial: Endpoint::next_serial(),
        };
        let (run, idle) = (launch.run, launch.idle);
        let look_at = match idle {
            IdleRule::Never => now,
            IdleRule::StopAfter(after) | IdleRule::PauseAfter(after) => now + after,
        };
        let gate = Gate::open(endpoint, self.clock, self.drained.clone());
        self.last_failure = None;
        self.enter(
            now,
            Phase::Ready {
                gate,
                run,
                idle,
                look_at,
            },
        );
        // Probes still under way have nothing to tell any more.
        self.order();
        Vec::new()
    }

    fn missed(&mut self, why: Arc<str>) -> Vec<Effect> {
        if let Phase::Starting {
            step: Step::Proving { missed, .. },
            ..
        } = &mut self.phase
        {
            *missed = Some(why);
        }
        Vec::new()
    }

    fn tick(&mut self, now: Moment) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Starting {
                step:
                    Step::Proving {
                        launch,
                        deadline,
                        missed,
                    },
                ..
            } if *deadline <= now => {
                if matches!(launch.ready, ReadyRule::Wait(_)) {
                    return self.proved(now);
                }
                let limit = deadline.since(self.since);
                let why = match (&launch.ready, missed) {
                    (_, Some(missed)) => missed.clone(),
                    (ReadyRule::Health { .. }, None) => {
                        "its health check did not say healthy".into()
                    }
                    (_, None) => "no probe was answered".into(),
                };
                let message = format!(
                    "not ready within {}: {why}",
                    humantime::format_duration(limit)
                );
                self.fail_start(now, Failure::new(FailureKind::NotReady, message))
            }
            Phase::Ready {
                gate,
                idle,
                look_at,
                ..
            } if *look_at <= now => {
                let after = match idle {
                    IdleRule::Never => return Vec::new(),
                    IdleRule::StopAfter(after) | IdleRule::PauseAfter(after) => *after,
                };
                match (gate.close_if_idle(now, after), *idle) {
                    (Err(due), _) => {
                        *look_at = due;
                        Vec::new()
                    }
                    (Ok(()), IdleRule::PauseAfter(_)) => self.pause(now),
                    (Ok(()), _) => {
                        self.failures = 0;
                        self.stop(now, Then::Rest)
                    }
                }
            }
            Phase::Draining { gate, deadline } if gate.leases() == 0 || *deadline <= now => {
                self.stop(now, Then::Remove)
            }
            Phase::Stopping {
                then,
                by: StoppedBy::UsAgainAt(at),
            } if *at <= now => {
                let then = then.clone();
                self.stop(now, then)
            }
            Phase::Stopping {
                by: StoppedBy::Outside { look_at },
                ..
            } if *look_at <= now => {
                *look_at = now + self.limits.retry;
                self.look()
            }
            Phase::Failed { until, .. } if *until <= now => {
                self.enter(now, Phase::Stopped);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn pause(&mut self, now: Moment) -> Vec<Effect> {
        let Some(id) = self.id.clone() else {
            return self.gone(now);
        };
        self.enter(now, Phase::Pausing { then: Then::Rest });
        vec![Effect::Pause(self.order(), id)]
    }

    fn pause_done(&mut self, now: Moment, result: Result<(), Failure>) -> Vec<Effect> {
        let Phase::Pausing { then } = &self.phase else {
            return Vec::new();
        };
        match (result, then.clone()) {
            (Err(failure), _) if failure.kind == FailureKind::NotFound => self.gone(now),
            (_, Then::Remove) => self.remove(now),
            // Whatever it is doing, the engine is asked, and it is used or left as it is.
            (Err(_), _) => self.launch(now, How::Adopt),
            (Ok(()), Then::Start) => self.launch(now, How::Unpause),
            (Ok(()), _) => {
                self.enter(now, Phase::Paused);
                Vec::new()
            }
        }
    }

    fn stop(&mut self, now: Moment, then: Then) -> Vec<Effect> {
        let Some(id) = self.id.clone() else {
            return self.gone(now);
        };
        self.enter(
            now,
            Phase::Stopping {
                then,
                by: StoppedBy::Us,
            },
        );
        vec![Effect::Stop(self.order(), id, self.limits.stop_grace)]
    }

    fn stop_done(&mut self, now: Moment, result: Result<(), Failure>) -> Vec<Effect> {
        let Phase::Stopping { by, .. } = &mut self.phase else {
            return Vec::new();
        };
        match result {
            Ok(()) => self.after_stop(now),
            Err(failure) if failure.kind == FailureKind::NotFound => self.gone(now),
            Err(failure) => {
                *by = StoppedBy::UsAgainAt(now + self.limits.retry);
                self.last_failure = Some(failure);
                // A request that came meanwhile need not wait for a stop that may never succeed.
                if matches!(
                    self.phase,
                    Phase::Stopping {
                        then: Then::Start,
                        ..
                    }
                ) {
                    return self.launch(now, How::Start);
                }
                Vec::new()
            }
        }
    }

    /// It has ended; on to what was meant to come then.
    fn after_stop(&mut self, now: Moment) -> Vec<Effect> {
        let Phase::Stopping { then, .. } = &self.phase else {
            return Vec::new();
        };
        match then.clone() {
            Then::Rest => {
                self.enter(now, Phase::Stopped);
                Vec::new()
            }
            Then::Start => self.launch(now, How::Start),
            Then::Fail { until, failure } => {
                self.enter(now, Phase::Failed { until, failure });
                Vec::new()
            }
            Then::Remove => self.remove(now),
        }
    }

    fn remove_ordered(&mut self, now: Moment) -> Vec<Effect> {
        let mut effects = vec![Effect::Refuse(Why::Gone)];
        effects.extend(match &mut self.phase {
            Phase::Absent | Phase::Creating { .. } | Phase::Draining { .. } | Phase::Removing => {
                return Vec::new();
            }
            Phase::Stopped | Phase::Failed { .. } | Phase::Paused => self.remove(now),
            Phase::Starting { .. } => self.stop(now, Then::Remove),
            Phase::Ready { gate, .. } => {
                gate.close();
                let gate = gate.clone();
                let deadline = now + self.limits.drain;
                self.enter(now, Phase::Draining { gate, deadline });
                self.tick(now)
            }
            Phase::Stopping { then, .. } | Phase::Pausing { then } => {
                *then = Then::Remove;
                Vec::new()
            }
        });
        effects
    }

    fn remove(&mut self, now: Moment) -> Vec<Effect> {
        let Some(id) = self.id.clone() else {
            return self.gone(now);
        };
        self.enter(now, Phase::Removing);
        vec![Effect::Remove(self.order(), id)]
    }

    fn remove_done(&mut self, now: Moment, result: Result<(), Failure>) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Removing) {
            return Vec::new();
        }
        match result {
            Err(failure) if failure.kind != FailureKind::NotFound => {
                self.last_failure = Some(failure);
                self.enter(now, Phase::Stopped);
                self.look()
            }
            _ => self.gone(now),
        }
    }

    /// There is no container any more.
    fn gone(&mut self, now: Moment) -> Vec<Effect> {
        self.close_gate();
        self.id = None;
        self.order();
        self.failures = 0;
        self.enter(now, Phase::Absent);
        let refuse = Effect::Refuse(Why::Gone);
        self.newcomer
            .take()
            .map(|(_, id)| Effect::Look(id))
            .into_iter()
            .chain([refuse])
            .collect()
    }

    /// Tells those who wait at once, stops what was started, and rests for the backoff.
    fn fail_start(&mut self, now: Moment, failure: Failure) -> Vec<Effect> {
        let until = self.count_failure(now);
        self.last_failure = Some(failure.clone());
        let mut effects = vec![Effect::Refuse(Why::Failed {
            failure: failure.clone(),
            retry_after: until.since(now),
        })];
        effects.extend(self.stop(now, Then::Fail { until, failure }));
        effects
    }

    /// The same for what has ended already.
    fn rest_in_failure(&mut self, now: Moment, until: Moment, failure: Failure) -> Vec<Effect> {
        self.close_gate();
        self.last_failure = Some(failure.clone());
        self.order();
        self.enter(
            now,
            Phase::Failed {
                until,
                failure: failure.clone(),
            },
        );
        vec![Effect::Refuse(Why::Failed {
            failure,
            retry_after: until.since(now),
        })]
    }

    /// Exponential, capped, and spread by a fifth either way, so that what failed together does
    /// not come back together.
    fn count_failure(&mut self, now: Moment) -> Moment {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let pause = (self.limits.backoff_min * 2u32.pow(doublings)).min(self.limits.backoff_max);
        now + pause.mul_f64(0.8 + 0.4 * self.jitter.f64())
    }

    fn look(&self) -> Vec<Effect> {
        self.id.clone().map(Effect::Look).into_iter().collect()
    }

    fn close_gate(&mut self) {
        if let Phase::Ready { gate, .. } = &self.phase {
            gate.close();
        }
    }

    fn enter(&mut self, now: Moment, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }

    fn order(&mut self) -> Generation {
        self.generation.0 += 1;
        self.generation
    }
}

impl Phase {
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Absent => "absent",
            Phase::Creating { .. } => "creating",
            Phase::Stopped => "stopped",
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
            RuntimeError::Refused(_) => FailureKind::Refused,
            RuntimeError::Failed(_) => FailureKind::Other,
        };
        Self::new(kind, message)
    }
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
