//! Draining: closed to new requests, and stopped when the old ones have ended; or opened again.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::decision::{BusySign, IdleRule};
use crate::lifecycle::gate::{Endpoint, Gate};
use crate::lifecycle::machine::{
    Effect, Former, Machine, Past, Phase, Run, Step, Then, Watch, Why, busy,
};

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
        let Some(Former { gate, run, idle }) = self.in_use() else {
            return self.stop(now, then);
        };
        gate.close_within(limit);
        // What was being found out about it is of no interest any more.
        self.order();
        let deadline = now + limit;
        let past = self.used_past(&idle).map(|sign| Past::watched(sign, now));
        self.enter(
            now,
            Phase::Draining {
                gate,
                run,
                idle,
                deadline,
                then,
                past,
            },
        );
        self.tick(now)
    }

    /// The run that may be in use, if there is one.
    fn in_use(&mut self) -> Option<Former> {
        match &mut self.phase {
            Phase::Ready {
                gate, run, idle, ..
            } => Some(Former {
                gate: gate.clone(),
                run: *run,
                idle: idle.clone(),
            }),
            Phase::Starting { step, former, .. } => {
                // It was in doubt; those who use it are still to have their time.
                let former = former.take().filter(|former| former.gate.leases() > 0);
                let Step::Proving { launch, .. } = step else {
                    return former;
                };
                let launch = launch.clone();
                // A proxy beside the gateway does not wait until it is found to be ready.
                former.or_else(|| {
                    self.used_past(&launch.idle)?;
                    let endpoint = self.endpoint_of(&launch);
                    Some(Former {
                        gate: Gate::open(endpoint, self.clock, self.drained.clone()),
                        run: launch.run,
                        idle: launch.idle,
                    })
                })
            }
            _ => None,
        }
    }

    /// What tells of uses past the gateway, which have to end before it is stopped. Where a proxy
    /// beside the gateway routes to it and the rule names no sign, its network does.
    fn used_past(&self, idle: &IdleRule) -> Option<BusySign> {
        let sent = || self.routed_past.then_some(BusySign::SentBytes);
        idle.sign().cloned().or_else(sent)
    }

    /// Stops what drains when its time is over or nobody uses it any more.
    pub(super) fn drain_on(&mut self, now: Moment) -> Vec<Effect> {
        let Phase::Draining {
            gate,
            deadline,
            past,
            ..
        } = &self.phase
        else {
            return Vec::new();
        };
        let is_over = *deadline <= now;
        let is_left = gate.leases() == 0;
        match past {
            _ if is_over => self.drained(now),
            None if is_left => self.drained(now),
            Some(past) if is_left && past.look_at <= now => self.ask_past(now),
            _ => Vec::new(),
        }
    }

    pub(super) fn drained(&mut self, now: Moment) -> Vec<Effect> {
        let Phase::Draining { then, .. } = &self.phase else {
            return Vec::new();
        };
        let then = then.clone();
        self.failures = 0;
        self.stop(now, then)
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
        let (gate, run, idle) = (gate.reopen(endpoint), *run, idle.clone());
        self.open(now, gate, run, idle)
    }

    pub(super) fn open(
        &mut self,
        now: Moment,
        gate: Arc<Gate>,
        run: Run,
        idle: IdleRule,
    ) -> Vec<Effect> {
        let look_at = now + busy::look_after(&idle);
        self.enter(
            now,
            Phase::Ready {
                gate,
                run,
                idle,
                look_at,
                watch: Watch::default(),
            },
        );
        Vec::new()
    }
}
