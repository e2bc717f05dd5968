//! Creating and starting: from the wish to readiness, or to the backoff after a failure.

use std::sync::Arc;

use crate::clock::Moment;
use crate::decision::{IdleRule, ReadyRule};
use crate::lifecycle::gate::{Endpoint, Gate};
use crate::lifecycle::machine::{
    Effect, Failure, FailureKind, Former, How, Launch, Machine, Phase, Step, Then, Watch, Why,
};
use crate::runtime::{Health, InstanceId};
use crate::spec::WorkloadSpec;

impl Machine {
    pub(super) fn create_ordered(
        &mut self,
        now: Moment,
        spec: Box<WorkloadSpec>,
        start: bool,
    ) -> Vec<Effect> {
        if self.is_absent() {
            // Those who wait for the successor of one that somebody removed want it awake.
            let is_waited_for = matches!(
                self.phase,
                Phase::Stopping {
                    then: Then::Start,
                    ..
                }
            );
            let start = start || is_waited_for;
            self.enter(now, Phase::Creating { start });
            return vec![Effect::Create(self.order(), spec)];
        }
        match &mut self.phase {
            Phase::Creating { start: already } => {
                *already |= start;
                Vec::new()
            }
            // It exists by now. Who wanted it made because it was missing wants it awake.
            _ if start => self.wanted(now, false),
            _ => Vec::new(),
        }
    }

    pub(super) fn created(
        &mut self,
        now: Moment,
        result: Result<InstanceId, Failure>,
    ) -> Vec<Effect> {
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

    pub(super) fn launch(&mut self, now: Moment, how: How) -> Vec<Effect> {
        self.launch_after(now, how, None)
    }

    /// Adopts a run that could be used until now, and whose leases may be out.
    pub(super) fn prove_again(&mut self, now: Moment, former: Former) -> Vec<Effect> {
        self.launch_after(now, How::Adopt, Some(former))
    }

    fn launch_after(&mut self, now: Moment, how: How, former: Option<Former>) -> Vec<Effect> {
        let Some(id) = self.id.clone() else {
            return self.gone(now);
        };
        self.enter(
            now,
            Phase::Starting {
                how,
                step: Step::Launching,
                former,
            },
        );
        vec![Effect::Launch(self.order(), id, how)]
    }

    pub(super) fn launched(&mut self, now: Moment, result: Result<Launch, Failure>) -> Vec<Effect> {
        let Phase::Starting {
            how,
            step: Step::Launching,
            former,
        } = &mut self.phase
        else {
            return Vec::new();
        };
        let (how, former) = (*how, former.take());
        let launch = match result {
            Ok(launch) => launch,
            Err(failure) => return self.launch_failed(now, how, failure),
        };
        let Some(id) = self.id.clone() else {
            return self.gone(now);
        };
        self.routed_past = launch.routed_past;
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
        let run = launch.run;
        self.enter(
            now,
            Phase::Starting {
                how,
                step: Step::Proving {
                    launch,
                    deadline,
                    missed: None,
                },
                // The leases of a run that is over are none of this one's.
                former: former.filter(|former| former.run == run),
            },
        );
        let generation = self.order();
        // The engine was looked at before this run ended, and its end was told before that answer.
        if let Some((_, exit_code)) = self.last_death.filter(|(at, _)| *at >= run.started_at) {
            return self.ended(now, exit_code);
        }
        if proved {
            return self.proved(now);
        }
        if probed {
            vec![Effect::Prove(generation, id, order, deadline)]
        } else {
            Vec::new()
        }
    }

    pub(super) fn launch_failed(&mut self, now: Moment, how: How, failure: Failure) -> Vec<Effect> {
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
            FailureKind::NotRunning { .. } if how == How::Adopt => {
                self.enter(now, Phase::Stopped);
                Vec::new()
            }
            FailureKind::NotRunning { clean } => self.ended_early(now, clean, failure),
            // What somebody else started is not stopped because we failed to look at it.
            _ if how == How::Adopt => self.leave_running(now, failure),
            // The call may have got further than its answer: nothing that was begun stays running.
            _ => self.fail_start(now, failure),
        }
    }

    pub(super) fn endpoint_of(&self, launch: &Launch) -> Endpoint {
        Endpoint {
            workload: self.name.clone(),
            address: launch.run.address,
            port: launch.port,
            serial: Endpoint::next_serial(),
        }
    }

    pub(super) fn proved(&mut self, now: Moment) -> Vec<Effect> {
        let Phase::Starting {
            step: Step::Proving { launch, .. },
            former,
            ..
        } = &self.phase
        else {
            return Vec::new();
        };
        let endpoint = self.endpoint_of(launch);
        let (run, idle) = (launch.run, launch.idle.clone());
        let gate = match former {
            Some(former) => former.gate.reopen(endpoint),
            None => Gate::open(endpoint, self.clock, self.drained.clone()),
        };
        self.last_failure = None;
        // Probes still under way have nothing to tell any more.
        self.order();
        self.open(now, gate, run, idle)
    }

    /// Takes another idle rule for the run that is ready, or about to be, or may be again.
    pub(super) fn idle_rule_changed(
        &mut self,
        now: Moment,
        of: &InstanceId,
        rule: IdleRule,
    ) -> Vec<Effect> {
        if self.id.as_ref() != Some(of) {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::Ready {
                idle,
                look_at,
                watch,
                ..
            } => {
                *idle = rule;
                *watch = Watch::default();
                // The next tick finds when it is due.
                *look_at = now;
            }
            Phase::Starting {
                step: Step::Proving { launch, .. },
                ..
            } => launch.idle = rule,
            Phase::Draining { idle, .. } => *idle = rule,
            _ => {}
        }
        Vec::new()
    }

    pub(super) fn missed(&mut self, why: Arc<str>) -> Vec<Effect> {
        if let Phase::Starting {
            step: Step::Proving { missed, .. },
            ..
        } = &mut self.phase
        {
            *missed = Some(why);
        }
        Vec::new()
    }

    /// It has ended before it was ready. One that ended without an error gets a second start at
    /// once: on a busy engine an application that stops itself when nobody uses it may have done so
    /// before anybody could.
    pub(super) fn ended_early(
        &mut self,
        now: Moment,
        clean: bool,
        failure: Failure,
    ) -> Vec<Effect> {
        let until = self.count_failure(now);
        if clean && self.failures == 1 {
            self.last_failure = Some(failure);
            return self.launch(now, How::Start);
        }
        self.rest_in_failure(now, until, failure)
    }

    /// Tells those who wait at once, stops what was started, and rests for the backoff.
    pub(super) fn fail_start(&mut self, now: Moment, failure: Failure) -> Vec<Effect> {
        let until = self.count_failure(now);
        self.last_failure = Some(failure.clone());
        let mut effects = vec![Effect::Refuse(Why::Failed {
            failure: failure.clone(),
            retry_after: until.since(now),
        })];
        effects.extend(self.stop(now, Then::Fail { until, failure }));
        effects
    }

    /// The same for what is not ours to stop.
    pub(super) fn leave_running(&mut self, now: Moment, failure: Failure) -> Vec<Effect> {
        let until = self.count_failure(now);
        let effects = self.rest_in_failure(now, until, failure);
        self.is_left_running = true;
        effects
    }

    /// The same for what has ended already.
    pub(super) fn rest_in_failure(
        &mut self,
        now: Moment,
        until: Moment,
        failure: Failure,
    ) -> Vec<Effect> {
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
    pub(super) fn count_failure(&mut self, now: Moment) -> Moment {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let pause = (self.limits.backoff_min * 2u32.pow(doublings)).min(self.limits.backoff_max);
        now + pause.mul_f64(0.8 + 0.4 * self.jitter.f64())
    }
}
