//! Random lives of a workload over a simulated engine, held against what must always be true.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::lifecycle::gate::Lease;
use crate::runtime::EngineEventKind as Kind;
use crate::runtime::{EngineTime, InstanceState};
use crate::spec::WorkloadSpec;

const SECOND: Duration = Duration::from_secs(1);

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
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let limits = Limits {
            stop_grace: 10 * SECOND,
            drain: 30 * SECOND,
            outside_stop: 15 * SECOND,
            backoff_min: SECOND,
            backoff_max: 60 * SECOND,
            settle: 10 * SECOND,
            retry: 2 * SECOND,
        };
        let name = WorkloadName::new("a").unwrap();
        Self {
            random: fastrand::Rng::with_seed(seed),
            now: Moment::from_millis(1),
            engine_time: 1,
            made: 0,
            container: None,
            machine: Machine::new(name, limits, Clock::new(), Arc::default(), seed),
            orders: Vec::new(),
            looks: Vec::new(),
            events: VecDeque::new(),
            leases: Vec::new(),
            void_leases: Vec::new(),
            alone: false,
            needs_listing: false,
            log: Vec::new(),
        }
    }

    fn step(&mut self, event: Event) {
        // No two things happen at the same moment.
        self.now = self.now + Duration::from_micros(1);
        self.log.push(format!("{:?}: {event:?}", self.now));
        let drained_by = self.drained_by(&event);
        let is_tick = matches!(event, Event::Tick);
        let effects = self.machine.step(self.now, event);
        self.log
            .push(format!("    {} {effects:?}", self.machine.phase.name()));
        self.spares_leases(&effects, drained_by);
        if let Phase::Draining { gate, .. } = &self.machine.phase {
            let waits = gate.leases() > 0 || !is_tick;
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

    fn look(&mut self, id: &InstanceId) {
        self.now = self.now + Duration::from_micros(1);
        let asked = self.now;
        let seen = self
            .container
            .as_ref()
            .filter(|container| container.id == *id);
        self.looks.push(match seen {
            None => Event::Missing {
                asked,
                id: id.clone(),
            },
            Some(Container { id, state }) => Event::Observed {
                asked,
                instance: Observation {
                    id: id.clone(),
                    state: *state,
                    address: None,
                    health: None,
                },
            },
        });
    }

    /// A listing: by name, whatever the id is.
    fn list(&mut self) {
        let id = self
            .container
            .as_ref()
            .map(|container| container.id.clone());
        match (id, self.machine.id.clone()) {
            (Some(id), _) => self.look(&id),
            (None, Some(known)) => self.look(&known),
            (None, None) => {}
        }
    }

    fn tell(&mut self, kind: Kind) {
        self.engine_time += 1;
        if let Some(container) = &self.container {
            let event = Event::Engine {
                id: container.id.clone(),
                at: EngineTime(self.engine_time),
                kind,
            };
            self.events.push_back(event);
        }
    }

    /// What the engine does to its container, with the events that tell of it.
    fn engine(&mut self, kind: Kind) {
        let Some(container) = &mut self.container else {
            return;
        };
        let running = matches!(container.state, InstanceState::Running { .. });
        let paused = matches!(container.state, InstanceState::Paused { .. });
        match kind {
            Kind::Started if !running && !paused => {
                self.engine_time += 1;
                container.state = InstanceState::Running {
                    started_at: EngineTime(self.engine_time),
                };
                // The event's time is not before the start's own.
                self.tell(Kind::Started);
            }
            Kind::Died { exit_code } if running || paused => {
                container.state = InstanceState::Stopped { exit_code };
                self.tell(kind);
            }
            Kind::Paused => {
                if let InstanceState::Running { started_at } = container.state {
                    container.state = InstanceState::Paused { started_at };
                    self.tell(kind);
                }
            }
            Kind::Unpaused => {
                if let InstanceState::Paused { started_at } = container.state {
                    container.state = InstanceState::Running { started_at };
                    self.tell(kind);
                }
            }
            Kind::Destroyed => {
                if running || paused {
                    container.state = InstanceState::Stopped {
                        exit_code: Some(137),
                    };
                    self.tell(Kind::Died {
                        exit_code: Some(137),
                    });
                }
                self.tell(Kind::Destroyed);
                self.container = None;
            }
            Kind::Ending if running => self.tell(kind),
            _ => {}
        }
    }

    fn create(&mut self) -> Option<InstanceId> {
        if self.container.is_some() {
            return None;
        }
        self.made += 1;
        let id = InstanceId::new(&format!("c{}", self.made));
        let state = InstanceState::Stopped { exit_code: None };
        self.container = Some(Container {
            id: id.clone(),
            state,
        });
        self.tell(Kind::Changed);
        Some(id)
    }

    /// Carries an order out, or fails at it, and answers.
    fn carry_out(&mut self, order: Effect, may_fail: bool) {
        let adopts = matches!(order, Effect::Launch(_, _, How::Adopt));
        let fails = may_fail && self.random.u8(..10) == 0 && !(self.alone && adopts);
        // What runs and cannot be looked at is left as it is, until the next listing.
        self.needs_listing |= fails && adopts;
        let failed = || Failure::new(FailureKind::Other, "the engine failed");
        let exists = |world: &Self, id: &InstanceId| {
            if world
                .container
                .as_ref()
                .is_some_and(|container| container.id == *id)
            {
                Ok(())
            } else {
                Err(Failure::new(FailureKind::NotFound, "no such container"))
            }
        };
        let event = match order {
            Effect::Create(generation, _) if fails => Event::Created(generation, Err(failed())),
            Effect::Create(generation, _) => {
                let taken = || Failure::new(FailureKind::NameTaken("a".into()), "taken");
                Event::Created(generation, self.create().ok_or_else(taken))
            }
            Effect::Launch(generation, id, how) => {
                let done = exists(self, &id);
                if done.is_ok() && !(fails && self.random.bool()) {
                    match how {
                        How::Start => self.engine(Kind::Started),
                        How::Unpause => self.engine(Kind::Unpaused),
                        How::Adopt => {}
                    }
                }
                let launched =
                    done.and_then(|()| if fails { Err(failed()) } else { self.launch() });
                Event::Launched(generation, launched)
            }
            Effect::Prove(generation, _, _, deadline) => {
                let running = matches!(
                    self.container,
                    Some(Container {
                        state: InstanceState::Running { .. },
                        ..
                    })
                );
                if fails || !running || deadline <= self.now {
                    return;
                }
                Event::Proved(generation)
            }
            Effect::Stop(generation, id, _) => {
                let done = exists(self, &id);
                if done.is_ok() && !fails {
                    self.engine(Kind::Ending);
                    self.engine(Kind::Died { exit_code: Some(0) });
                }
                Event::StopDone(
                    generation,
                    done.and_then(|()| if fails { Err(failed()) } else { Ok(()) }),
                )
            }
            Effect::Pause(generation, id) => {
                let done = exists(self, &id);
                let running = matches!(
                    self.container,
                    Some(Container {
                        state: InstanceState::Running { .. } | InstanceState::Paused { .. },
                        ..
                    })
                );
                if done.is_ok() && !fails {
                    self.engine(Kind::Paused);
                }
                let fails = fails || !running;
                Event::PauseDone(
                    generation,
                    done.and_then(|()| if fails { Err(failed()) } else { Ok(()) }),
                )
            }
            Effect::Remove(generation, id) => {
                let done = exists(self, &id);
                if done.is_ok() && !fails {
                    self.engine(Kind::Destroyed);
                }
                Event::RemoveDone(
                    generation,
                    done.and_then(|()| if fails { Err(failed()) } else { Ok(()) }),
                )
            }
            Effect::Look(_) | Effect::Refuse(_) => return,
        };
        self.step(event);
    }

    fn launch(&mut self) -> Result<Launch, Failure> {
        if let Some(Container {
            state: InstanceState::Paused { .. },
            ..
        }) = self.container
        {
            return Err(Failure::new(FailureKind::IsPaused, "it is paused"));
        }
        let Some(Container {
            state: InstanceState::Running { started_at },
            ..
        }) = self.container
        else {
            return Err(Failure::new(
                FailureKind::NotRunning { clean: true },
                "it has ended",
            ));
        };
        let idle = match self.random.u8(..4) {
            0 => IdleRule::Never,
            1 => IdleRule::PauseAfter(20 * SECOND),
            _ => IdleRule::StopAfter(20 * SECOND),
        };
        let ready = match self.random.u8(..3) {
            0 => ReadyRule::Wait(SECOND),
            _ => ReadyRule::Tcp { max: 5 * SECOND },
        };
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Ok(Launch {
            run: Run {
                started_at,
                address,
            },
            port: Some(80),
            ready,
            idle,
            health: None,
        })
    }

    fn next_event(&mut self) {
        let Some(event) = self.events.pop_front() else {
            return;
        };
        // As the fleet does: a container that is not known by its id yet is looked at.
        let Event::Engine { id, kind, .. } = &event else {
            return;
        };
        let known = self.machine.id.as_ref() == Some(id);
        let id = id.clone();
        if *kind == Kind::Changed
            || (!known && matches!(kind, Kind::Started | Kind::Paused | Kind::Unpaused))
        {
            if self
                .container
                .as_ref()
                .is_some_and(|container| container.id == id)
            {
                self.look(&id);
            }
        } else {
            self.step(event);
        }
    }

    fn something_happens(&mut self) {
        if self.alone {
            return self.something_of_ours_happens();
        }
        let by_operator = self.random.u8(..5) == 0;
        let exit_code = Some(i64::from(self.random.u8(..2)));
        match self.random.u8(..100) {
            0..15 => self.step(Event::Wanted { by_operator }),
            15..20 => {
                let spec = WorkloadSpec::new(WorkloadName::new("a").unwrap(), "image");
                let start = self.random.bool();
                self.step(Event::CreateOrdered {
                    spec: Box::new(spec),
                    start,
                });
            }
            20 => self.step(Event::RemoveOrdered),
            21 => self.rest(),
            22..32 => self.lease(),
            32..42 => drop(self.leases.pop()),
            42..46 => self.engine(Kind::Died { exit_code }),
            46..48 => self.engine(Kind::Ending),
            48..50 => self.engine(Kind::Started),
            50 => self.engine(Kind::Paused),
            51 => self.engine(Kind::Unpaused),
            52 => self.engine(Kind::Destroyed),
            53 => drop(self.create()),
            54 => {
                // The stream broke: what it had is lost, and everything is listed.
                self.events.clear();
                self.list();
            }
            55 => self.doubt(),
            56..70 => self.next_event(),
            70..85 if !self.orders.is_empty() => {
                let any = self.random.usize(..self.orders.len());
                self.order_at(any, true);
            }
            85..90 if !self.looks.is_empty() => {
                let look = self.looks.remove(self.random.usize(..self.looks.len()));
                self.step(look);
            }
            _ => self.time_passes(),
        }
    }

    /// The same with nobody but the gateway at work on the engine.
    fn something_of_ours_happens(&mut self) {
        match self.random.u8(..100) {
            0..20 => {
                let by_operator = self.random.u8(..5) == 0;
                self.step(Event::Wanted { by_operator });
            }
            20..25 => {
                let spec = WorkloadSpec::new(WorkloadName::new("a").unwrap(), "image");
                let start = self.random.bool();
                self.step(Event::CreateOrdered {
                    spec: Box::new(spec),
                    start,
                });
            }
            25 => self.step(Event::RemoveOrdered),
            26..30 => self.rest(),
            30..42 => self.lease(),
            42..50 => drop(self.leases.pop()),
            50 => self.doubt(),
            51..65 => self.next_event(),
            65..85 if !self.orders.is_empty() => self.order_at(0, true),
            85..90 if !self.looks.is_empty() => {
                let look = self.looks.remove(0);
                self.step(look);
            }
            _ => self.time_passes(),
        }
    }

    fn rest(&mut self) {
        let drain = Duration::from_secs(self.random.u64(..20));
        self.step(Event::RestOrdered { drain });
    }

    fn lease(&mut self) {
        if let Phase::Ready { gate, run, .. } = &self.machine.phase {
            let lease = gate
                .lease(true)
                .expect("a gate is open as long as its run is ready");
            self.leases.push((run.started_at, lease));
        }
    }

    /// A connection to it could not be made.
    fn doubt(&mut self) {
        let serial = self
            .machine
            .open_gate()
            .map_or(0, |gate| gate.endpoint().serial);
        self.step(Event::Unanswered { serial });
    }

    fn time_passes(&mut self) {
        self.now = self.now + Duration::from_millis(self.random.u64(1..4_000));
        self.step(Event::Tick);
    }

    /// An order arrives at the engine. Those that start, stop or pause do so one after another, as
    /// the drivers see to; a start that was overtaken before its turn came is not made.
    fn order_at(&mut self, index: usize, may_fail: bool) {
        let waits = |order: &Effect| match order {
            Effect::Launch(_, _, how) => *how != How::Adopt,
            Effect::Stop(..) | Effect::Pause(..) => true,
            _ => false,
        };
        let index = if waits(&self.orders[index]) {
            self.orders.iter().position(waits).unwrap_or(index)
        } else {
            index
        };
        let order = self.orders.remove(index);
        let overtaken = matches!(
            &order,
            Effect::Launch(generation, _, How::Start | How::Unpause)
                if *generation != self.machine.generation
        );
        if !overtaken {
            self.carry_out(order, may_fail);
        }
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
        | Effect::Remove(generation, _) => *generation,
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
