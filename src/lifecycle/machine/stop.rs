//! Pausing, stopping and removing, and what comes after each.

use crate::clock::Moment;
use crate::lifecycle::machine::{
    Effect, Failure, FailureKind, How, Machine, Phase, StoppedBy, Then, Why,
};

impl Machine {
    pub(super) fn pause(&mut self, now: Moment) -> Vec<Effect> {
        let Some(id) = self.id.clone() else {
            return self.gone(now);
        };
        self.enter(
            now,
            Phase::Pausing {
                then: Then::Rest { ordered: false },
            },
        );
        vec![Effect::Pause(self.order(), id)]
    }

    pub(super) fn pause_done(&mut self, now: Moment, result: Result<(), Failure>) -> Vec<Effect> {
        let Phase::Pausing { then } = &self.phase else {
            return Vec::new();
        };
        match (result, then.clone()) {
            (Err(failure), _) if failure.kind == FailureKind::NotFound => self.gone(now),
            (_, Then::Remove) => self.remove(now),
            (Err(_), then @ Then::Rest { ordered: true }) => self.stop(now, then),
            // Whatever it is doing, the engine is asked, and it is used or left as it is.
            (Err(_), _) => self.launch(now, How::Adopt),
            (Ok(()), Then::Start) => self.launch(now, How::Unpause),
            (Ok(()), _) => {
                self.enter(now, Phase::Paused);
                Vec::new()
            }
        }
    }

    pub(super) fn stop(&mut self, now: Moment, then: Then) -> Vec<Effect> {
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

    pub(super) fn stop_done(&mut self, now: Moment, result: Result<(), Failure>) -> Vec<Effect> {
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
    pub(super) fn after_stop(&mut self, now: Moment) -> Vec<Effect> {
        let (Phase::Stopping { then, .. } | Phase::Draining { then, .. }) = &self.phase else {
            return Vec::new();
        };
        match then.clone() {
            Then::Rest { .. } => {
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

    pub(super) fn remove_ordered(&mut self, now: Moment) -> Vec<Effect> {
        let mut effects = vec![Effect::Refuse(Why::Gone)];
        effects.extend(match &mut self.phase {
            Phase::Absent
            | Phase::Creating { .. }
            | Phase::Draining {
                then: Then::Remove, ..
            }
            | Phase::Removing => {
                return Vec::new();
            }
            Phase::Stopped
            | Phase::Stopping {
                by: StoppedBy::OutsideUntil(_),
                ..
            }
            | Phase::Failed { .. }
            | Phase::Paused => self.remove(now),
            Phase::Starting { .. } | Phase::Ready { .. } => {
                self.drain(now, self.limits.drain, Then::Remove)
            }
            Phase::Draining { then, deadline, .. } => {
                *then = Then::Remove;
                *deadline = (*deadline).min(now + self.limits.drain);
                self.tick(now)
            }
            Phase::Stopping { then, .. } | Phase::Pausing { then } => {
                *then = Then::Remove;
                Vec::new()
            }
        });
        effects
    }

    pub(super) fn remove(&mut self, now: Moment) -> Vec<Effect> {
        let Some(id) = self.id.clone() else {
            return self.gone(now);
        };
        self.enter(now, Phase::Removing);
        vec![Effect::Remove(self.order(), id)]
    }

    pub(super) fn remove_done(&mut self, now: Moment, result: Result<(), Failure>) -> Vec<Effect> {
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
}
