//! Random lives of a workload over a simulated engine, held against what must always be true.

mod chance;
mod engine;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::tests::SECOND;
use super::*;
use crate::decision::{BusySign, Sleep};
use crate::lifecycle::gate::Lease;
use crate::runtime::EngineEventKind as Kind;
use crate::runtime::{EngineTime, InstanceState};
use crate::spec::WorkloadSpec;

/// What the engine really has.
#[derive(Debug, Clone)]
struct Container {
    id: InstanceId,
    state: InstanceState,
}

struct World {
    random: fastrand::Rng,
    now: Moment,
    engine_time: i64,
    made: u32,
    container: Option<Container>,
    machine: Machine,
    /// Orders that the engine has not carried out yet.
    orders: Vec<Effect>,
    /// Looks that were made and not told yet: what was seen, and when it was asked.
    looks: Vec<Event>,
    events: VecDeque<Event>,
    /// Each with the run that it is for.
    leases: Vec<(EngineTime, Lease)>,
    /// Those from before the run went out of the machine's hands.
    void_leases: Vec<(EngineTime, Lease)>,
    /// Nobody else acts on the engine.
    alone: bool,
    needs_listing: bool,
    /// How often it was used past the gateway, and when last.
    uses: u64,
    used_at: Moment,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            now: Moment::from_millis(1),
            engine_time: 1,
            made: 0,
            container: None,
            machine: tests::machine(seed),
            orders: Vec::new(),
            looks: Vec::new(),
            events: VecDeque::new(),
            leases: Vec::new(),
            void_leases: Vec::new(),
            alone: false,
            needs_listing: false,
            uses: 0,
            used_at: Moment::ZERO,
            log: Vec::new(),
        }
    }

    fn step(&mut self, event: Event) {
        // No two things happen at the same moment.
        self.now = self.now + Duration::from_micros(1);
        self.log.push(format!("{:?}: {event:?}", self.now));
        let drained_by = self.drained_by(&event);
        // How long nobody has used it before it is stopped for that.
        let quiet_min = match &self.machine.phase {
            Phase::Draining { .. } => 2 * SECOND,
            _ => 20 * SECOND,
        };
        let asked = matches!(event, Event::Use(..));
        let is_tick = matches!(event, Event::Tick);
        let effects = self.machine.step(self.now, event);
        self.log
            .push(format!("    {} {effects:?}", self.machine.phase.name()));
        self.spares_leases(&effects, drained_by);
        if asked && !effects.is_empty() {
            let quiet = self.now.since(self.used_at);
            assert!(quiet >= quiet_min, "it is in use: {}", self.story());
        }
        if let Phase::Draining { gate, past, .. } = &self.machine.phase {
            let waits = gate.leases() > 0 || past.is_some() || !is_tick;
            assert!(waits, "what does it wait for? {}", self.story());
        }
        let in_use = matches!(
            self.machine.phase,
            Phase::Ready { .. }
                | Phase::Draining { .. }
                | Phase::Starting {
                    former: Some(_),
                    ..
                }
        );
        if !in_use {
            self.void_leases.append(&mut self.leases);
        }
        for effect in effects {
            match effect {
                Effect::Look(id) => self.look(&id),
                Effect::Refuse(_) => {}
                effect => self.orders.push(effect),
            }
        }
        self.hold_to_the_rules();
    }

    /// Until when the leases that are out have time, when this event is told.
    fn drained_by(&self, event: &Event) -> Option<Moment> {
        let before = match &self.machine.phase {
            Phase::Draining { deadline, .. } => Some(*deadline),
            _ => None,
        };
        let ordered = match event {
            Event::RestOrdered { drain } => Some(self.now + *drain),
            Event::RemoveOrdered => Some(self.now + self.machine.limits.drain),
            _ => None,
        };
        before.into_iter().chain(ordered).min()
    }

    /// What is used is not stopped before its time, unless it was found not to answer any more.
    fn spares_leases(&self, effects: &[Effect], drained_by: Option<Moment>) {
        let failed = matches!(
            self.machine.phase,
            Phase::Stopping {
                then: Then::Fail { .. },
                ..
            }
        );
        let over = drained_by.is_some_and(|by| by <= self.now);
        let running = self.container.as_ref().map(|container| container.state);
        let is_used = self.leases.iter().any(|(run, _)| {
            let started_at = *run;
            running == Some(InstanceState::Running { started_at })
        });
        for effect in effects {
            let ends = matches!(
                effect,
                Effect::Stop(..) | Effect::Pause(..) | Effect::Remove(..)
            );
            assert!(
                !ends || !is_used || failed || over,
                "it is used: {}",
                self.story()
            );
        }
    }

    fn hold_to_the_rules(&self) {
        let ready = matches!(self.machine.phase, Phase::Ready { .. });
        assert_eq!(
            self.machine.open_gate().is_some_and(|gate| gate.is_open()),
            ready,
            "{}",
            self.story()
        );
        let current = self
            .orders
            .iter()
            .filter(|order| generation(order) == self.machine.generation);
        assert!(
            current.count() <= 1,
            "more than one order at a time: {}",
            self.story()
        );
        let waits_for_answer = matches!(
            self.machine.phase,
            Phase::Creating { .. }
                | Phase::Starting {
                    step: Step::Launching,
                    ..
                }
                | Phase::Pausing { .. }
                | Phase::Stopping {
                    by: StoppedBy::Us,
                    ..
                }
                | Phase::Removing
        );
        if waits_for_answer {
            let ordered = self
                .orders
                .iter()
                .any(|order| generation(order) == self.machine.generation);
            assert!(
                ordered,
                "it waits for an answer that nobody will give: {}",
                self.story()
            );
        }
    }

    fn story(&self) -> String {
        let from = self.log.len().saturating_sub(30);
        format!("{:?}\n{}", self.container, self.log[from..].join("\n"))
    }

    /// Nobody does anything any more: what is under way ends, and time passes.
    fn left_alone(&mut self) {
        self.leases.clear();
        self.void_leases.clear();
        self.settles();
        if self.needs_listing {
            self.list();
            self.settles();
        }
    }

    fn settles(&mut self) {
        for _ in 0..2_000 {
            self.now = self.now + Duration::from_millis(1);
            if !self.orders.is_empty() {
                let last = self.orders.len() - 1;
                self.order_at(if self.alone { 0 } else { last }, false);
            } else if !self.events.is_empty() {
                self.next_event();
            } else if !self.looks.is_empty() {
                let look = self.looks.remove(0);
                self.step(look);
            } else if let Some(at) = self.machine.wake_at() {
                self.now = self.now.max(at);
                self.step(Event::Tick);
            } else {
                return;
            }
        }
        panic!("it does not settle: {}", self.story());
    }

    /// What the machine believes is what the engine has.
    fn agrees_with_the_engine(&self) {
        let real = match &self.container {
            None => "absent",
            Some(container) => match container.state {
                InstanceState::Running { .. } => "ready",
                InstanceState::Paused { .. } => "paused",
                _ => "stopped",
            },
        };
        assert_eq!(self.machine.phase.name(), real, "{}", self.story());
        if let (Phase::Ready { run, .. }, Some(container)) = (&self.machine.phase, &self.container)
        {
            let started_at = run.started_at;
            assert_eq!(
                container.state,
                InstanceState::Running { started_at },
                "{}",
                self.story()
            );
        }
        let known = self.machine.id.as_ref();
        assert_eq!(
            known,
            self.container.as_ref().map(|container| &container.id),
            "{}",
            self.story()
        );
    }
}

fn generation(effect: &Effect) -> Generation {
    match effect {
        Effect::Create(generation, _)
        | Effect::Launch(generation, ..)
        | Effect::Prove(generation, ..)
        | Effect::Stop(generation, ..)
        | Effect::Pause(generation, _)
        | Effect::Remove(generation, _)
        | Effect::AskUse(generation, ..) => *generation,
        Effect::Look(_) | Effect::Refuse(_) => Generation(u64::MAX),
    }
}

#[test]
fn whatever_happens_it_settles_and_knows_what_the_engine_has() {
    for seed in 0..4_000 {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.something_happens();
        }
        world.left_alone();
        world.agrees_with_the_engine();
    }
}

#[test]
fn what_was_told_to_rest_comes_to_rest_and_is_not_started_again_whether_it_is_used_or_not() {
    let mut from = std::collections::BTreeMap::<&str, u32>::new();
    for seed in 0..4_000 {
        let mut world = World::new(seed);
        world.alone = true;
        drop(world.create());
        world.list();
        for _ in 0..world.random.usize(20..80) {
            world.something_happens();
        }
        *from.entry(world.machine.phase.name()).or_default() += 1;
        // The rest is told after the last wish.
        world.rest();
        let told = world.log.len();
        if world.random.bool() {
            world.leases.clear();
        }
        world.settles();
        let at_rest = ["absent", "stopped", "paused"];
        assert!(
            at_rest.contains(&world.machine.phase.name()),
            "{}",
            world.story()
        );
        let started = world.log[told..].iter().find(|line| {
            line.starts_with("    ") && (line.contains("Start)") || line.contains("Unpause)"))
        });
        assert_eq!(started, None, "{}", world.story());
        world.agrees_with_the_engine();
    }
    for phase in [
        "creating", "starting", "ready", "draining", "stopping", "pausing", "failed", "paused",
    ] {
        assert!(from.contains_key(phase), "no life was {phase}: {from:?}");
    }
}
