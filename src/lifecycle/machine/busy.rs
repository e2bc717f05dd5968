//! Workloads that are used past the gateway: whether they are is asked before they fall asleep.
//!
//! A sign is looked at some times in each idle time. It has to be silent all that time; what it does
//! not tell counts as use, so that an unanswered question stops nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::decision::{BusySign, IdleRule, Sleep};
use crate::lifecycle::gate::Endpoint;
use crate::lifecycle::machine::{Effect, Generation, Machine, Phase, Then};

/// Looks in one idle time: a workload sleeps at the latest a quarter of it after that time.
const LOOKS: u32 = 4;

/// The shortest pause between two looks, whatever the idle time is.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Between two looks at what drains, of which the sign has to be silent for twice as long: who still
/// uses it sends something in that time.
const DRAIN_PAUSE: Duration = Duration::from_secs(1);

/// After so long without an answer the question is asked again. Longer than its limits add up to.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// What was told of a run's use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    Busy,
    Free,
    /// What only grows while it is used: bytes, requests.
    Count(u64),
    /// Nothing, for this reason.
    Unknown(Arc<str>),
}

/// What is known of a run's use past the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watch {
    /// Since when all answers said that nobody used it.
    quiet_since: Option<Moment>,
    count: Option<u64>,
    unknown: Option<Arc<str>>,
}

impl Watch {
    /// Why nothing was told of its use when that was asked last.
    pub fn unknown(&self) -> Option<&Arc<str>> {
        self.unknown.as_ref()
    }

    /// It was used, which says nothing about whether its sign can be asked.
    fn begin_anew(&mut self) {
        self.quiet_since = None;
        self.count = None;
    }

    fn take(&mut self, now: Moment, told: Use) {
        let before = std::mem::take(self);
        match told {
            Use::Busy => {}
            Use::Free => self.quiet_since = before.quiet_since.or(Some(now)),
            Use::Count(count) => {
                self.count = Some(count);
                // Another count than before tells of a use in between; what follows may be quiet.
                let same = before.count == self.count;
                self.quiet_since = before.quiet_since.filter(|_| same).or(Some(now));
            }
            Use::Unknown(why) => self.unknown = Some(why),
        }
    }
}

/// A drain's wait for the end of uses past the gateway.
#[derive(Debug, Clone)]
pub struct Past {
    pub sign: BusySign,
    pub watch: Watch,
    /// When to look at the sign, once there are no leases.
    pub look_at: Moment,
}

impl Past {
    pub fn watched(sign: BusySign, now: Moment) -> Self {
        Self {
            sign,
            watch: Watch::default(),
            look_at: now,
        }
    }
}

/// How long after it was opened a run is looked at for the first time.
pub(super) fn look_after(idle: &IdleRule) -> Duration {
    match idle.sleep() {
        None => Duration::ZERO,
        Some((after, _)) if idle.sign().is_some() => pause(after),
        Some((after, _)) => after,
    }
}

fn pause(after: Duration) -> Duration {
    (after / LOOKS).max(PAUSE_MIN)
}

impl Machine {
    /// Time for a look at the sign. What is used through the gateway need not be asked.
    pub(super) fn ask_use(&mut self, now: Moment) -> Vec<Effect> {
        let generation = self.order();
        let Phase::Ready {
            gate,
            idle,
            look_at,
            watch,
            ..
        } = &mut self.phase
        else {
            return Vec::new();
        };
        let (Some((after, _)), Some(sign)) = (idle.sleep(), idle.sign()) else {
            return Vec::new();
        };
        if gate.leases() > 0 {
            watch.begin_anew();
            *look_at = now + pause(after);
            return Vec::new();
        }
        *look_at = now + ANSWER_TIME;
        let (sign, endpoint) = (sign.clone(), gate.endpoint().clone());
        self.ask(now, generation, sign, endpoint)
    }

    /// The same of what drains.
    pub(super) fn ask_past(&mut self, now: Moment) -> Vec<Effect> {
        let generation = self.order();
        let Phase::Draining {
            gate,
            past: Some(past),
            ..
        } = &mut self.phase
        else {
            return Vec::new();
        };
        past.look_at = now + ANSWER_TIME;
        let (sign, endpoint) = (past.sign.clone(), gate.endpoint().clone());
        self.ask(now, generation, sign, endpoint)
    }

    fn ask(
        &mut self,
        now: Moment,
        generation: Generation,
        sign: BusySign,
        endpoint: Endpoint,
    ) -> Vec<Effect> {
        match self.id.clone() {
            Some(id) => vec![Effect::AskUse(generation, id, sign, endpoint)],
            None => self.gone(now),
        }
    }

    pub(super) fn use_told(&mut self, now: Moment, told: Use) -> Vec<Effect> {
        match self.phase {
            Phase::Draining { .. } => self.past_told(now, told),
            _ => self.sign_told(now, told),
        }
    }

    fn past_told(&mut self, now: Moment, told: Use) -> Vec<Effect> {
        let Phase::Draining {
            past: Some(past), ..
        } = &mut self.phase
        else {
            return Vec::new();
        };
        past.watch.take(now, told);
        past.look_at = now + DRAIN_PAUSE;
        match past.watch.quiet_since {
            Some(since) if since + 2 * DRAIN_PAUSE <= now => self.drained(now),
            _ => Vec::new(),
        }
    }

    fn sign_told(&mut self, now: Moment, told: Use) -> Vec<Effect> {
        let Phase::Ready {
            gate,
            idle,
            look_at,
            watch,
            ..
        } = &mut self.phase
        else {
            return Vec::new();
        };
        let (Some((after, sleep)), true) = (idle.sleep(), idle.sign().is_some()) else {
            return Vec::new();
        };
        watch.take(now, told);
        let next = now + pause(after);
        let Some(since) = watch.quiet_since else {
            *look_at = next;
            return Vec::new();
        };
        if since + after > now {
            *look_at = next.min(since + after);
            return Vec::new();
        }
        match gate.close_if_idle(now, after) {
            Ok(()) => self.fall_asleep(now, sleep),
            Err(due) => {
                *look_at = next.min(due);
                Vec::new()
            }
        }
    }

    /// Nobody has used it for long enough, and its gate is closed.
    pub(super) fn fall_asleep(&mut self, now: Moment, sleep: Sleep) -> Vec<Effect> {
        match sleep {
            Sleep::Paused => self.pause(now),
            Sleep::Stopped => {
                self.failures = 0;
                self.stop(now, Then::Rest { ordered: false })
            }
        }
    }
}
