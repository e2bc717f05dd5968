//! Draining: closed to new requests, and stopped when the old ones have ended; or opened again.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::decision::IdleRule;
use crate::lifecycle::gate::{Endpoint, Gate};
use crate::lifecycle::machine::{Effect, Former, Machine, Phase, Run, Then, Why};

impl Machine {
    /// It is to sleep. What sleeps already, or will never wake again, stays as it is.
    pub(super) fn rest_ordered(&mut self, now: Moment, drain: Duration) -> Vec<Effect> {
        let rest = Then::Rest { ordered: true };
        match &mut self.phase {
            Phase::Absent | Phase::Stopped | Phase::Paused | Phase::Removing => Vec::new(),
            // It may have been started nevertheless, or run before it could not be looked at.
            Phase::Failed { until, failure } => {
                let (until, failure) = (*until, failure.clone());
                self.stop(now, Then::Fail { until, failure })
            }
            Phase::Creating { start } => {
                if std::mem::take(start) {
                    vec![Effect::Refuse(Why::Superseded)]
                } else {
                    Vec::new()
                }
            }
            Phase::Ready { .. } => self.drain(now, drain, rest),
            Phase::Starting { .. } => {
                let mut effects = vec![Effect::Refuse(Why::Superseded)];
                effects.extend(self.drain(now, drain, rest));
                effects
            }
            Phase::Draining {
                then: Then::Remove, ..
            } => Vec::new(),
            Phase::Draining { deadline, .. } => {
                *deadline = (*deadline).min(now + drain);
                self.tick(now)
            }
            Phase::Stopping { then, .. } | Phase::Pausing { then } => match then {
                Then::Rest { ordered } => {
                    *ordered = true;
                    Vec::new()
                }
                Then::Start => {
                    *then = rest;
                    vec![Effect::Refuse(Why::Superseded)]
                }
                Then::Fail { .. } | Then::Remove => Vec::new(),
            },
        }
    }

    /// Closes the way in and stops it as soon as nobody uses it, at the latest after `limit`; at
    /// once what nobody could use yet.
    pub(super) fn drain(&mut self, now: Moment, limit: Duration, then: Then) -> Vec<Effect> {
        let Former { gate, run, idle } = match &mut self.phase {
            Phase::Ready {
                gate, run, idle, ..
            } => Former {
                gate: gate.clone(),
                run: *run,
                idle: *idle,
            },
            // It was in doubt; those who use it are still to have their time.
            Phase::Starting { former, .. } => match former.take() {
                Some(former) if former.gate.leases() > 0 => former,
                _ => return self.stop(now, then),
            },
            _ => return self.stop(now, then),
        };
        gate.close_within(limit);
        // What was being found out about it is of no interest any more.
        self.order();
        let deadline = now + limit;
        self.enter(
            now,
            Phase::Draining {
                gate,
                run,
                idle,
                deadline,
                then,
            },
        );
        self.tick(now)
    }

    /// It is wanted after all, and runs: it is open again at once, with those who use it still.
    pub(super) fn reopen(&mut self, now: Moment) -> Vec<Effect> {
        let Phase::Draining {
            gate, run, idle, ..
        } = &self.phase
        else {
            return Vec::new();
        };
        let endpoint = Endpoint {
            serial: Endpoint::next_serial(),
            ..gate.endpoint().clone()
        };
        let (gate, run, idle) = (gate.reopen(endpoint), *run, *idle);
        self.open(now, gate, run, idle)
    }

    pub(super) fn open(
        &mut self,
        now: Moment,
        gate: Arc<Gate>,
        run: Run,
        idle: IdleRule,
    ) -> Vec<Effect> {
        let look_at = match idle {
            IdleRule::Never => now,
            IdleRule::StopAfter(after) | IdleRule::PauseAfter(after) => now + after,
        };
        self.enter(
            now,
            Phase::Ready {
                gate,
                run,
                idle,
                look_at,
            },
        );
        Vec::new()
    }
}
