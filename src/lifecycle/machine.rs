//! One workload's next step: what happens to it, decided without waiting for anything.
//!
//! `step` is the only place that decides to create, start, stop, pause or remove a container. It
//! is given the time and an event, changes the phase, and returns what is to be done; whoever
//! carries that out reports back with another event. Every order has a generation, and an answer
//! to an order that is no longer the current one is ignored.

mod busy;
mod drain;
mod event;
mod events;
mod phase;
mod start;
mod stop;

#[cfg(test)]
mod draining;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod using;

pub use self::busy::{Past, Use, Watch};
pub use self::event::{Effect, Event, Generation, How, Observation, Why};
pub use self::phase::{Failure, FailureKind, Former, Launch, Phase, Run, Step, StoppedBy, Then};

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::decision::{IdleRule, ReadyRule};
use crate::lifecycle::gate::Gate;
use crate::names::WorkloadName;
use crate::runtime::{EngineTime, InstanceId};

/// The times that rule a workload's life.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// For requests to end before a workload is removed.
    pub drain: Duration,
    /// How long a container may take to end that somebody else told to, before it is looked at.
    pub outside_stop: Duration,
    /// How long somebody else who has stopped or made a container has it for themselves, before it is
    /// started for those who wait for it.
    pub outside_rest: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// A crash sooner than this after readiness counts like a failed start.
    pub settle: Duration,
    /// Between two attempts to stop what could not be stopped, or to reach an engine that is away.
    pub retry: Duration,
}

/// The state machine of one workload.
#[derive(Debug)]
pub struct Machine {
    name: WorkloadName,
    id: Option<InstanceId>,
    /// Another container of this name, seen while an order for the known one was out.
    newcomer: Option<(Moment, InstanceId)>,
    /// When it was last heard that a container of this name was destroyed or unpaused. What was
    /// seen before may be older than that.
    heard_at: Moment,
    /// The last end of a run that the engine told of, with its exit code. It may be told before the
    /// answer to the start of that very run.
    last_death: Option<(EngineTime, Option<i64>)>,
    phase: Phase,
    /// When the phase began.
    since: Moment,
    generation: Generation,
    /// Whether a proxy beside the gateway routes to the container when it runs.
    routed_past: bool,
    /// Failed starts in a row.
    failures: u32,
    /// The last failure, for whoever ordered something and sees it not done.
    last_failure: Option<Failure>,
    /// How its last run or start failed, while it is at rest since.
    broke: Option<Arc<str>>,
    /// It failed, and runs on: it is looked at again.
    is_left_running: bool,
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
            heard_at: Moment::ZERO,
            last_death: None,
            phase: Phase::Absent,
            since: Moment::ZERO,
            generation: Generation::default(),
            routed_past: false,
            failures: 0,
            last_failure: None,
            broke: None,
            is_left_running: false,
            jitter: fastrand::Rng::with_seed(seed),
            limits,
            clock,
            drained,
        }
    }

    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// There is no container, also where those who wait are still held for another one.
    pub fn is_absent(&self) -> bool {
        match self.phase {
            Phase::Absent => true,
            Phase::Stopping {
                by: StoppedBy::OutsideUntil(_),
                ..
            } => self.id.is_none(),
            _ => false,
        }
    }

    pub fn since(&self) -> Moment {
        self.since
    }

    /// Why it is in its phase; at rest, how its last run or start failed, if it did.
    pub fn reason(&self) -> Option<Arc<str>> {
        self.phase.reason().or_else(|| self.broke.clone())
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
            Phase::Draining {
                gate,
                deadline,
                past: Some(past),
                ..
            } if gate.leases() == 0 => Some(past.look_at.min(*deadline)),
            Phase::Draining { deadline, .. } => Some(*deadline),
            Phase::Stopping {
                by: StoppedBy::UsAgainAt(at) | StoppedBy::OutsideUntil(at),
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
            Event::RestOrdered { drain } => self.rest_ordered(now, drain),
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
            Event::Use(generation, told) => {
                self.answer(generation, |machine| machine.use_told(now, told))
            }
            Event::Engine { id, at, kind } => self.engine_event(now, &id, at, kind),
            Event::Observed { asked, instance } => self.observed(now, asked, instance),
            Event::Made { asked, instance } => self.made(now, asked, instance),
            Event::Missing { asked, id } => self.missing(now, asked, &id),
            Event::IdleRule { id, rule } => self.idle_rule_changed(now, &id, rule),
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
            Phase::Absent
            | Phase::Removing
            | Phase::Draining {
                then: Then::Remove, ..
            } => vec![Effect::Refuse(Why::Gone)],
            Phase::Draining { .. } => self.reopen(now),
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
                then: Then::Rest { .. } | Then::Start,
                by: StoppedBy::UsAgainAt(_),
            } => self.launch(now, How::Start),
            Phase::Stopping {
                then: Then::Rest { .. } | Then::Start,
                by: StoppedBy::OutsideUntil(_),
            } if by_operator => self.launch(now, How::Start),
            Phase::Stopping { then, .. } | Phase::Pausing { then } => match then {
                Then::Rest { .. } | Then::Start => {
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

    fn tick(&mut self, now: Moment) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Starting {
                how,
                step:
                    Step::Proving {
                        launch,
                        deadline,
                        missed,
                    },
                former,
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
                let failure = Failure::new(FailureKind::NotReady, message);
                // What somebody else started is theirs, and may be in use in ways that are not seen
                // from here. One that was ready before is known to have broken.
                if *how == How::Adopt && former.is_none() {
                    return self.leave_running(now, failure);
                }
                self.fail_start(now, failure)
            }
            Phase::Ready {
                gate,
                idle,
                look_at,
                ..
            } if *look_at <= now => {
                let Some((after, sleep)) = idle.sleep() else {
                    return Vec::new();
                };
                if idle.sign().is_some() {
                    return self.ask_use(now);
                }
                match gate.close_if_idle(now, after) {
                    Err(due) => {
                        *look_at = due;
                        Vec::new()
                    }
                    Ok(()) => self.fall_asleep(now, sleep),
                }
            }
            Phase::Draining { .. } => self.drain_on(now),
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
            Phase::Stopping {
                by: StoppedBy::OutsideUntil(at),
                ..
            } if *at <= now => match self.id {
                Some(_) => self.after_stop(now),
                None => self.gone(now),
            },
            Phase::Failed { until, .. } if *until <= now && self.is_left_running => {
                self.enter(now, Phase::Stopped);
                self.look()
            }
            Phase::Failed { until, failure } if *until <= now => {
                let message = failure.message.clone();
                self.rest_broken(now, message)
            }
            _ => Vec::new(),
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
        self.broke = None;
        self.is_left_running = false;
    }

    /// At rest, and it is not known whether it could be used again.
    fn rest_broken(&mut self, now: Moment, how: Arc<str>) -> Vec<Effect> {
        self.enter(now, Phase::Stopped);
        self.broke = Some(how);
        Vec::new()
    }

    fn order(&mut self) -> Generation {
        self.generation.0 += 1;
        self.generation
    }
}
