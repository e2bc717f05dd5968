//! What the engine tells and what was observed of it, as steps of the machine.

use std::sync::Arc;

use crate::clock::Moment;
use crate::decision::ReadyRule;
use crate::lifecycle::machine::{
    Effect, Failure, FailureKind, Former, How, Launch, Machine, Observation, Phase, Step,
    StoppedBy, Then,
};
use crate::runtime::{EngineEventKind, EngineTime, Health, InstanceId, InstanceState};

impl Machine {
    pub(super) fn engine_event(
        &mut self,
        now: Moment,
        id: &InstanceId,
        at: EngineTime,
        kind: EngineEventKind,
    ) -> Vec<Effect> {
        if matches!(kind, EngineEventKind::Destroyed | EngineEventKind::Unpaused) {
            self.heard_at = now;
        }
        if self.id.as_ref() != Some(id) {
            return Vec::new();
        }
        match kind {
            EngineEventKind::Changed => Vec::new(),
            EngineEventKind::Started => self.started_outside(now, at),
            EngineEventKind::Unpaused => match self.phase {
                Phase::Paused => self.launch(now, How::Adopt),
                _ => Vec::new(),
            },
            EngineEventKind::Ending => self.ending_outside(now, at),
            EngineEventKind::Died { exit_code } => self.died(now, at, exit_code),
            EngineEventKind::Paused => self.paused_outside(now),
            EngineEventKind::Health(Health::Healthy) => self.healthy(now),
            EngineEventKind::Health(_) => Vec::new(),
            EngineEventKind::Destroyed => match self.phase {
                // The answer to the removal is on its way.
                Phase::Removing => Vec::new(),
                _ => self.gone_outside(now),
            },
        }
    }

    fn started_outside(&mut self, now: Moment, at: EngineTime) -> Vec<Effect> {
        match &self.phase {
            Phase::Stopped | Phase::Failed { .. } => self.launch(now, How::Adopt),
            Phase::Stopping {
                then,
                by: StoppedBy::OutsideUntil(_),
            } => self.runs_again(now, then.clone()),
            // Our own start is told like any other; only a later one is another run.
            Phase::Ready { run, .. }
            | Phase::Draining {
                run,
                then: Then::Rest { .. },
                ..
            }
            | Phase::Starting {
                step:
                    Step::Proving {
                        launch: Launch { run, .. },
                        ..
                    },
                ..
            } if at > run.started_at => self.look(),
            _ => Vec::new(),
        }
    }

    fn ending_outside(&mut self, now: Moment, at: EngineTime) -> Vec<Effect> {
        let look_at = now + self.limits.outside_stop;
        let by = StoppedBy::Outside { look_at };
        match &self.phase {
            Phase::Ready { gate, run, .. } if at >= run.started_at => {
                gate.close();
                self.order();
                self.enter(
                    now,
                    Phase::Stopping {
                        then: Then::Rest { ordered: false },
                        by,
                    },
                );
                Vec::new()
            }
            // Nobody is to be sent there again; it need not be told to end any more.
            Phase::Draining {
                run,
                then: then @ Then::Rest { .. },
                ..
            } if at >= run.started_at => {
                let then = then.clone();
                self.enter(now, Phase::Stopping { then, by });
                Vec::new()
            }
            // What somebody stops stays stopped, unless somebody waits for it: that is wished anew then.
            Phase::Starting {
                step: Step::Proving { launch, .. },
                ..
            } if at >= launch.run.started_at => {
                self.order();
                self.enter(
                    now,
                    Phase::Stopping {
                        then: Then::Rest { ordered: false },
                        by,
                    },
                );
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn died(&mut self, now: Moment, at: EngineTime, exit_code: Option<i64>) -> Vec<Effect> {
        self.last_death = Some((at, exit_code));
        match &self.phase {
            // The end of an earlier run, told late.
            Phase::Ready { run, .. } | Phase::Draining { run, .. } if at < run.started_at => {
                Vec::new()
            }
            Phase::Starting {
                step: Step::Proving { launch, .. },
                ..
            } if at < launch.run.started_at => Vec::new(),
            // An earlier run's end or this one's: the answer to the start will tell, by its time.
            Phase::Starting {
                step: Step::Launching,
                ..
            } => Vec::new(),
            // The answer to the stop tells it too, and its order is the one that counts.
            Phase::Stopping {
                by: StoppedBy::Us, ..
            } => Vec::new(),
            _ => self.ended(now, exit_code),
        }
    }

    /// The run that is known has ended.
    pub(super) fn ended(&mut self, now: Moment, exit_code: Option<i64>) -> Vec<Effect> {
        match &self.phase {
            Phase::Ready { gate, .. } => {
                gate.close();
                self.order();
                let crashed = exit_code.is_some_and(|code| code != 0);
                if crashed && now.since(self.since) < self.limits.settle {
                    let until = self.count_failure(now);
                    let message = format!("{} soon after it was ready", exit_text(exit_code));
                    return self.rest_in_failure(
                        now,
                        until,
                        Failure::new(FailureKind::NotRunning { clean: false }, message),
                    );
                }
                self.failures = 0;
                if crashed {
                    return self.rest_broken(now, exit_text(exit_code));
                }
                self.enter(now, Phase::Stopped);
                Vec::new()
            }
            // It had been ready once or was started by somebody else, and has ended like any other.
            Phase::Starting {
                how: How::Adopt,
                step: Step::Proving { .. },
                ..
            } => {
                self.order();
                self.enter(now, Phase::Stopped);
                Vec::new()
            }
            Phase::Starting {
                step: Step::Proving { .. },
                ..
            } => {
                let clean = exit_code == Some(0);
                let message = format!("{} before it was ready", exit_text(exit_code));
                let failure = Failure::new(FailureKind::NotRunning { clean }, message);
                self.ended_early(now, clean, failure)
            }
            // One that is replaced ends like this, and Compose cannot remove the old container when it
            // runs again.
            Phase::Stopping {
                then: then @ (Then::Start | Then::Rest { ordered: false }),
                by: StoppedBy::Outside { .. },
            } => {
                let by = StoppedBy::OutsideUntil(now + self.limits.outside_rest);
                let then = then.clone();
                self.enter(now, Phase::Stopping { then, by });
                Vec::new()
            }
            // That is known.
            Phase::Stopping {
                by: StoppedBy::OutsideUntil(_),
                ..
            } => Vec::new(),
            Phase::Stopping { .. } | Phase::Draining { .. } => self.after_stop(now),
            Phase::Paused => {
                self.enter(now, Phase::Stopped);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn paused_outside(&mut self, now: Moment) -> Vec<Effect> {
        match &self.phase {
            Phase::Ready { gate, .. } => {
                gate.close();
                self.order();
                self.enter(now, Phase::Paused);
                Vec::new()
            }
            Phase::Draining {
                then: Then::Rest { .. },
                ..
            } => {
                self.enter(now, Phase::Paused);
                Vec::new()
            }
            Phase::Stopped
            | Phase::Failed { .. }
            | Phase::Starting {
                step: Step::Proving { .. },
                ..
            } => self.look(),
            _ => Vec::new(),
        }
    }

    fn healthy(&mut self, now: Moment) -> Vec<Effect> {
        match &self.phase {
            Phase::Starting {
                step: Step::Proving { launch, .. },
                ..
            } if matches!(launch.ready, ReadyRule::Health { .. }) => self.proved(now),
            _ => Vec::new(),
        }
    }

    /// While an order is out its answer tells more than a look from the side.
    fn awaits_an_answer(&self) -> bool {
        matches!(
            self.phase,
            Phase::Creating { .. }
                | Phase::Starting {
                    step: Step::Launching,
                    ..
                }
                | Phase::Stopping {
                    by: StoppedBy::Us,
                    ..
                }
                | Phase::Pausing { .. }
                | Phase::Removing
        )
    }

    pub(super) fn missing(&mut self, now: Moment, asked: Moment, id: &InstanceId) -> Vec<Effect> {
        if self.id.as_ref() != Some(id) || self.awaits_an_answer() {
            return Vec::new();
        }
        if asked < self.since {
            return self.look();
        }
        self.gone_outside(now)
    }

    /// It is gone, or has another name. Where somebody is replacing it, those who wait are held for the
    /// one that takes its place.
    fn gone_outside(&mut self, now: Moment) -> Vec<Effect> {
        if let Phase::Stopping {
            then: Then::Start,
            by: StoppedBy::OutsideUntil(_),
        } = self.phase
        {
            self.id = None;
            return Vec::new();
        }
        self.gone(now)
    }

    pub(super) fn observed(
        &mut self,
        now: Moment,
        asked: Moment,
        instance: Observation,
    ) -> Vec<Effect> {
        if self.awaits_an_answer() {
            let newer = self
                .newcomer
                .as_ref()
                .is_none_or(|(before, _)| *before <= asked);
            if newer && self.id.as_ref() != Some(&instance.id) {
                self.newcomer = Some((asked, instance.id));
            }
            return Vec::new();
        }
        // What was asked before the last change may be older than it: ask again.
        if asked < self.since.max(self.heard_at) {
            return vec![Effect::Look(instance.id)];
        }
        if self.id.as_ref() != Some(&instance.id) {
            self.close_gate();
            self.order();
            self.id = Some(instance.id.clone());
            self.failures = 0;
            self.enter(now, Phase::Stopped);
        }
        match instance.state {
            InstanceState::Running { started_at } => self.seen_running(now, started_at, &instance),
            InstanceState::Paused { .. } => self.seen_paused(now),
            InstanceState::Stopped { exit_code } => self.ended(now, exit_code),
            InstanceState::Removing => self.gone(now),
        }
    }

    /// Whoever makes a container starts it as a rule, and may not be done with it: Compose takes it
    /// from its network and puts it there again first. Traefik would not hear of that any more.
    pub(super) fn made(
        &mut self,
        now: Moment,
        asked: Moment,
        instance: Observation,
    ) -> Vec<Effect> {
        let id = instance.id.clone();
        let is_known = self.id.as_ref() == Some(&id);
        let effects = self.observed(now, asked, instance);
        if !is_known && self.id == Some(id) && matches!(self.phase, Phase::Stopped) {
            let then = Then::Rest { ordered: false };
            let by = StoppedBy::OutsideUntil(now + self.limits.outside_rest);
            self.enter(now, Phase::Stopping { then, by });
        }
        effects
    }

    fn seen_paused(&mut self, now: Moment) -> Vec<Effect> {
        match &self.phase {
            Phase::Ready { .. } | Phase::Draining { .. } => self.paused_outside(now),
            Phase::Stopped | Phase::Failed { .. } | Phase::Starting { .. } => {
                self.order();
                self.enter(now, Phase::Paused);
                Vec::new()
            }
            // It was paused instead of ending.
            Phase::Stopping {
                by: StoppedBy::Outside { .. } | StoppedBy::OutsideUntil(_),
                then,
            } => match then {
                Then::Remove => self.remove(now),
                Then::Start => self.launch(now, How::Unpause),
                Then::Rest { .. } | Then::Fail { .. } => {
                    self.enter(now, Phase::Paused);
                    Vec::new()
                }
            },
            _ => Vec::new(),
        }
    }

    fn seen_running(
        &mut self,
        now: Moment,
        started_at: EngineTime,
        seen: &Observation,
    ) -> Vec<Effect> {
        let known = match &self.phase {
            Phase::Ready { run, .. } => Some(*run),
            Phase::Starting {
                step: Step::Proving { launch, .. },
                ..
            } => Some(launch.run),
            _ => None,
        };
        match (&self.phase, known) {
            (_, Some(run)) => {
                let same_place = seen.address.is_none_or(|address| address == run.address);
                if run.started_at == started_at && same_place {
                    if seen.health == Some(Health::Healthy) {
                        return self.healthy(now);
                    }
                    return Vec::new();
                }
                self.close_gate();
                self.launch(now, How::Adopt)
            }
            (
                Phase::Stopping {
                    by: StoppedBy::Outside { .. },
                    then,
                },
                _,
            ) => {
                // It may be on its way out, or have taken no notice of the signal.
                let survived = now.since(self.since) >= self.limits.outside_stop;
                if survived {
                    self.runs_again(now, then.clone())
                } else {
                    Vec::new()
                }
            }
            (
                Phase::Stopping {
                    by: StoppedBy::OutsideUntil(_),
                    then,
                },
                _,
            ) => self.runs_again(now, then.clone()),
            // Somebody started it anew, and it is used for that.
            (
                Phase::Draining {
                    run,
                    then: Then::Rest { .. },
                    ..
                },
                _,
            ) if run.started_at != started_at => self.launch(now, How::Adopt),
            (Phase::Stopped | Phase::Failed { .. } | Phase::Paused, _) => {
                self.launch(now, How::Adopt)
            }
            _ => Vec::new(),
        }
    }

    /// It runs although somebody else had told it to end.
    fn runs_again(&mut self, now: Moment, then: Then) -> Vec<Effect> {
        match then {
            Then::Rest { ordered: true } | Then::Remove => self.stop(now, then),
            _ => self.launch(now, How::Adopt),
        }
    }

    pub(super) fn unanswered(&mut self, now: Moment, serial: u64) -> Vec<Effect> {
        match &self.phase {
            // It runs and does not answer: nobody is sent there until a probe succeeds.
            Phase::Ready {
                gate, run, idle, ..
            } if gate.endpoint().serial == serial => {
                gate.close();
                let former = Former {
                    gate: gate.clone(),
                    run: *run,
                    idle: idle.clone(),
                };
                self.prove_again(now, former)
            }
            _ => Vec::new(),
        }
    }
}

fn exit_text(exit_code: Option<i64>) -> Arc<str> {
    match exit_code {
        Some(code) => format!("it exited with code {code}").into(),
        None => "it ended".into(),
    }
}
