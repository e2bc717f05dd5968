//! What a drain does step by step: what it waits for, what ends it, and what opens it again.

use std::time::Duration;

use futures_util::FutureExt;

use super::tests::{SECOND, engine, in_phase, launch, rest, short, tcp};
use super::*;
use crate::runtime::EngineEventKind as Kind;

const NOW: Moment = Moment::from_millis(3_600_000);

fn wanted() -> Event {
    Event::Wanted { by_operator: false }
}

fn step(machine: &mut Machine, at: Moment, event: Event) -> String {
    let effects: Vec<String> = machine.step(at, event).iter().map(short).collect();
    effects.join(" ")
}

fn deadline(machine: &Machine) -> Duration {
    match machine.phase() {
        Phase::Draining { deadline, .. } => deadline.since(NOW),
        phase => panic!("it is {}", phase.name()),
    }
}

fn serial(machine: &Machine) -> u64 {
    let gate = machine.open_gate().expect("it is open");
    gate.endpoint().serial
}

#[test]
fn the_stop_comes_with_the_end_of_the_last_lease_or_at_the_limit() {
    for at_the_limit in [false, true] {
        let (mut machine, lease) = in_phase("draining to rest", NOW);
        let before = NOW + Duration::from_millis(59_999);
        assert_eq!(step(&mut machine, before, Event::Tick), "");
        assert_eq!(machine.wake_at(), Some(NOW + 60 * SECOND));
        let stopped = if at_the_limit {
            step(&mut machine, NOW + 60 * SECOND, Event::Tick)
        } else {
            drop(lease);
            step(&mut machine, before, Event::Tick)
        };
        assert_eq!(stopped, "stop");
        let done = Event::StopDone(machine.generation, Ok(()));
        assert_eq!(step(&mut machine, before, done), "");
        assert_eq!(machine.phase().name(), "stopped");
        assert_eq!(machine.wake_at(), None, "nothing wakes it by itself");
    }
}

#[test]
fn of_several_orders_the_earliest_end_counts() {
    let (mut machine, _lease) = in_phase("draining to rest", NOW);
    step(&mut machine, NOW, rest(90 * SECOND));
    assert_eq!(deadline(&machine), 60 * SECOND);
    step(&mut machine, NOW, rest(40 * SECOND));
    assert_eq!(deadline(&machine), 40 * SECOND);
    // A removal has 30 s from its own order on.
    let later = NOW + 5 * SECOND;
    assert_eq!(
        step(&mut machine, later, Event::RemoveOrdered),
        "refuse:gone"
    );
    assert_eq!(deadline(&machine), 35 * SECOND);
    step(&mut machine, later, rest(SECOND));
    assert_eq!(deadline(&machine), 35 * SECOND, "a removal stays one");
    assert_eq!(step(&mut machine, later, wanted()), "refuse:gone");
    assert_eq!(
        step(&mut machine, NOW + 35 * SECOND, Event::Tick),
        "stop",
        "in spite of the lease"
    );
    let done = Event::StopDone(machine.generation, Ok(()));
    assert_eq!(step(&mut machine, later, done), "remove");

    let (mut machine, _lease) = in_phase("draining to rest", NOW);
    let late = NOW + 50 * SECOND;
    step(&mut machine, late, Event::RemoveOrdered);
    assert_eq!(deadline(&machine), 60 * SECOND, "the removal comes late");
    assert_eq!(step(&mut machine, late, rest(Duration::ZERO)), "");
}

#[test]
fn an_order_without_time_stops_at_once_whoever_uses_it() {
    let (mut machine, lease) = in_phase("draining to rest", NOW);
    assert_eq!(step(&mut machine, NOW, rest(Duration::ZERO)), "stop");
    drop(lease);
    let (mut machine, _) = in_phase("ready", NOW);
    let _lease = machine.open_gate().and_then(|gate| gate.lease(true));
    assert_eq!(step(&mut machine, NOW, rest(Duration::ZERO)), "stop");
}

#[test]
fn one_that_is_wanted_again_is_open_at_once_and_what_used_it_before_keeps_it_awake() {
    let (mut machine, lease) = in_phase("draining to rest", NOW);
    let old = lease.expect("it is used");
    let run = old.endpoint().clone();
    assert_eq!(step(&mut machine, NOW, wanted()), "", "nothing is started");
    assert_eq!(machine.phase().name(), "ready");
    assert_ne!(serial(&machine), run.serial);
    assert!(old.gate().lease(true).is_none(), "a gate opens once");
    let gate = machine.open_gate().unwrap().clone();
    assert_eq!(gate.endpoint().address, run.address);
    assert_eq!(gate.leases(), 1);

    // Its idle rule lets it sleep after a second without a lease.
    let mut at = NOW;
    for _ in 0..5 {
        at = machine.wake_at().expect("it may sleep some time");
        assert_eq!(step(&mut machine, at, Event::Tick), "", "it is used");
    }
    drop(old);
    let at = machine.wake_at().unwrap().max(at);
    assert_eq!(step(&mut machine, at, Event::Tick), "stop", "it is idle");
}

#[test]
fn a_second_drain_waits_for_the_leases_of_both_gates_and_tells_them_all() {
    let (mut machine, lease) = in_phase("draining to rest", NOW);
    let first = lease.expect("it is used");
    step(&mut machine, NOW, wanted());
    let second = machine.open_gate().and_then(|gate| gate.lease(true));
    let second = second.expect("it is open");
    assert_eq!(step(&mut machine, NOW, rest(20 * SECOND)), "");
    assert_eq!(deadline(&machine), 20 * SECOND);
    assert!(second.gate().draining().now_or_never().is_some());

    step(&mut machine, NOW, wanted());
    let third = machine.open_gate().and_then(|gate| gate.lease(true));
    let third = third.expect("it is open");
    assert_eq!(third.gate().leases(), 3);
    step(&mut machine, NOW, rest(20 * SECOND));
    drop(second);
    assert_eq!(step(&mut machine, NOW, Event::Tick), "");
    drop(third);
    assert_eq!(step(&mut machine, NOW, Event::Tick), "");
    drop(first);
    assert_eq!(step(&mut machine, NOW, Event::Tick), "stop");
}

#[test]
fn nobody_needs_what_is_being_made_or_started_and_it_does_not_wake_for_it() {
    let (mut machine, _) = in_phase("creating", NOW);
    assert_eq!(step(&mut machine, NOW, rest(SECOND)), "refuse:superseded");
    let created = Event::Created(machine.generation, Ok(InstanceId::new("1")));
    assert_eq!(step(&mut machine, NOW, created), "");
    assert_eq!(machine.phase().name(), "stopped");

    let (mut machine, _) = in_phase("launching", NOW);
    let late = machine.generation;
    let stops = step(&mut machine, NOW, rest(60 * SECOND));
    assert_eq!(stops, "refuse:superseded stop");
    let failure = Failure::new(FailureKind::Other, "it failed");
    assert_eq!(
        step(&mut machine, NOW, Event::Launched(late, Err(failure))),
        ""
    );
    let done = Event::StopDone(machine.generation, Ok(()));
    assert_eq!(step(&mut machine, NOW, done), "");
    assert_eq!(machine.phase().name(), "stopped");

    let (mut machine, _) = in_phase("stopping to start", NOW);
    assert_eq!(step(&mut machine, NOW, rest(SECOND)), "refuse:superseded");
    let done = Event::StopDone(machine.generation, Ok(()));
    assert_eq!(step(&mut machine, NOW, done), "");
    assert_eq!(machine.phase().name(), "stopped");
    // A later wish is a wish.
    assert_eq!(step(&mut machine, NOW, wanted()), "start");
}

#[test]
fn one_that_is_in_doubt_keeps_the_leases_that_it_had() {
    // Proved again: the new gate knows the old one.
    let (mut machine, lease) = in_phase("in doubt", NOW);
    let same = launch(100, tcp());
    let again = Event::Launched(machine.generation, Ok(same.clone()));
    assert_eq!(step(&mut machine, NOW, again), "prove");
    let proved = Event::Proved(machine.generation);
    step(&mut machine, NOW, proved);
    assert_eq!(machine.open_gate().unwrap().leases(), 1);
    assert_eq!(step(&mut machine, NOW, rest(9 * SECOND)), "");
    assert_eq!(machine.phase().name(), "draining");
    assert!(lease.unwrap().gate().draining().now_or_never().is_some());

    // Superseded while it is asked: it has its time as any other.
    let (mut machine, lease) = in_phase("in doubt", NOW);
    let late = Event::Launched(machine.generation, Ok(same.clone()));
    step(&mut machine, NOW, rest(9 * SECOND));
    assert_eq!(deadline(&machine), 9 * SECOND);
    assert_eq!(step(&mut machine, NOW, late), "");
    drop(lease);
    assert_eq!(step(&mut machine, NOW, Event::Tick), "stop");

    // Nobody uses it, or another run than before was found: nothing to wait for.
    let (mut machine, lease) = in_phase("in doubt", NOW);
    drop(lease);
    let stops = step(&mut machine, NOW, rest(9 * SECOND));
    assert_eq!(stops, "refuse:superseded stop");
    let (mut machine, _lease) = in_phase("in doubt", NOW);
    let another = launch(500, tcp());
    let another = Event::Launched(machine.generation, Ok(another));
    step(&mut machine, NOW, another);
    let stops = step(&mut machine, NOW, rest(9 * SECOND));
    assert_eq!(stops, "refuse:superseded stop");
}

#[test]
fn one_that_somebody_else_ends_is_not_opened_again_but_started() {
    let (mut machine, _lease) = in_phase("draining to rest", NOW);
    step(&mut machine, NOW, engine(Kind::Ending, 300));
    assert_eq!(step(&mut machine, NOW, wanted()), "");
    assert_eq!(machine.phase().name(), "stopping");
    let died = engine(Kind::Died { exit_code: Some(0) }, 301);
    assert_eq!(step(&mut machine, NOW, died), "");
    assert_eq!(step(&mut machine, NOW + SECOND, Event::Tick), "start");
}

/// Compose stops a container, renames it, makes its successor, and removes it then, which the engine
/// refuses where it runs again.
#[test]
fn one_that_somebody_else_has_ended_is_left_to_them_for_a_moment() {
    let ended = || {
        let (mut machine, lease) = in_phase("ready", NOW);
        step(&mut machine, NOW, engine(Kind::Ending, 300));
        assert_eq!(step(&mut machine, NOW, wanted()), "");
        let died = || engine(Kind::Died { exit_code: Some(0) }, 301);
        assert_eq!(step(&mut machine, NOW, died()), "");
        // The same, told twice, and who waits beside the first one.
        assert_eq!(step(&mut machine, NOW, died()), "");
        assert_eq!(step(&mut machine, NOW, wanted()), "");
        assert_eq!(machine.wake_at(), Some(NOW + SECOND));
        assert_eq!(step(&mut machine, NOW + SECOND / 2, Event::Tick), "");
        (machine, lease)
    };
    let (mut machine, _lease) = ended();
    assert_eq!(step(&mut machine, NOW + SECOND, Event::Tick), "start");

    // Those who wait are held for its successor, and told when none comes.
    let (mut machine, _lease) = ended();
    let removed = || engine(Kind::Destroyed, 302);
    assert_eq!(step(&mut machine, NOW, removed()), "");
    assert_eq!(step(&mut machine, NOW + SECOND, Event::Tick), "refuse:gone");
    assert_eq!(machine.phase().name(), "absent");
    let (mut machine, _lease) = ended();
    step(&mut machine, NOW, removed());
    let successor = Observation {
        id: InstanceId::new("2"),
        state: crate::runtime::InstanceState::Running {
            started_at: EngineTime(400),
        },
        address: None,
        health: None,
    };
    let seen = Event::Observed {
        asked: NOW,
        instance: successor,
    };
    assert_eq!(step(&mut machine, NOW, seen), "adopt");
    let (mut machine, _lease) = ended();
    step(&mut machine, NOW, removed());
    assert_eq!(step(&mut machine, NOW, rest(SECOND)), "refuse:superseded");
    step(&mut machine, NOW + SECOND, Event::Tick);
    assert_eq!(machine.phase().name(), "absent");
    // One that the gateway itself is told to make is as good.
    let (mut machine, _lease) = ended();
    step(&mut machine, NOW, removed());
    let spec = crate::spec::WorkloadSpec::new(WorkloadName::new("a").unwrap(), "image");
    let ordered = Event::CreateOrdered {
        spec: Box::new(spec),
        start: false,
    };
    assert_eq!(step(&mut machine, NOW, ordered), "create");

    let (mut machine, _lease) = ended();
    let restarted = engine(Kind::Started, 302);
    assert_eq!(step(&mut machine, NOW, restarted), "adopt");

    let (mut machine, _lease) = ended();
    assert_eq!(
        step(&mut machine, NOW, Event::RemoveOrdered),
        "refuse:gone remove"
    );

    // Nobody waits: who asks in the next moment is held, and whoever asks for an order is not.
    let (mut machine, _lease) = in_phase("ready", NOW);
    step(&mut machine, NOW, engine(Kind::Ending, 300));
    let died = engine(Kind::Died { exit_code: Some(0) }, 301);
    assert_eq!(step(&mut machine, NOW, died), "");
    assert_eq!(step(&mut machine, NOW, wanted()), "");
    assert_eq!(step(&mut machine, NOW + SECOND, Event::Tick), "start");
    let (mut machine, _lease) = ended();
    let by_operator = Event::Wanted { by_operator: true };
    assert_eq!(step(&mut machine, NOW, by_operator), "start");
}

#[test]
fn a_death_before_its_own_start_does_not_end_a_drain() {
    for phase in ["draining", "draining to rest"] {
        let (mut machine, _lease) = in_phase(phase, NOW);
        let before = engine(Kind::Died { exit_code: Some(1) }, 50);
        assert_eq!(step(&mut machine, NOW, before), "");
        assert_eq!(machine.phase().name(), "draining");
    }
}

#[test]
fn somebody_elses_restart_during_a_drain_is_taken_up() {
    let (mut machine, _lease) = in_phase("draining to rest", NOW);
    let seen = |started_at| Event::Observed {
        asked: NOW,
        instance: Observation {
            id: InstanceId::new("1"),
            state: crate::runtime::InstanceState::Running {
                started_at: EngineTime(started_at),
            },
            address: None,
            health: None,
        },
    };
    assert_eq!(step(&mut machine, NOW, seen(100)), "");
    assert_eq!(machine.phase().name(), "draining");
    assert_eq!(step(&mut machine, NOW, seen(400)), "adopt");
}

#[test]
fn what_failed_to_start_is_made_sure_to_be_stopped_and_keeps_its_backoff() {
    let (mut machine, _) = in_phase("failed", NOW);
    assert_eq!(step(&mut machine, NOW, rest(SECOND)), "stop");
    assert_eq!(step(&mut machine, NOW, wanted()), "refuse:failed");
    let done = Event::StopDone(machine.generation, Ok(()));
    step(&mut machine, NOW, done);
    assert_eq!(machine.phase().name(), "failed");
    assert_eq!(step(&mut machine, NOW, wanted()), "refuse:failed");
}

/// Compose takes a new container from its network and puts it there again before it starts it.
#[test]
fn one_that_somebody_else_has_just_made_is_left_to_them_for_a_moment() {
    let made = |now| Event::Made {
        asked: now,
        instance: Observation {
            id: InstanceId::new("1"),
            state: crate::runtime::InstanceState::Stopped { exit_code: None },
            address: None,
            health: None,
        },
    };
    let (mut machine, _) = in_phase("absent", NOW);
    assert_eq!(step(&mut machine, NOW, made(NOW)), "");
    assert_eq!(machine.phase().name(), "stopped");
    assert_eq!(step(&mut machine, NOW, wanted()), "");
    assert_eq!(
        step(&mut machine, NOW, engine(Kind::Started, 300)),
        "adopt",
        "by whoever made it"
    );

    let (mut machine, _) = in_phase("absent", NOW);
    step(&mut machine, NOW, made(NOW));
    step(&mut machine, NOW, wanted());
    assert_eq!(step(&mut machine, NOW + SECOND, Event::Tick), "start");

    // Nobody wants it: it is stopped like any other.
    let (mut machine, _) = in_phase("absent", NOW);
    step(&mut machine, NOW, made(NOW));
    step(&mut machine, NOW + SECOND, Event::Tick);
    assert_eq!(step(&mut machine, NOW + SECOND, wanted()), "start");

    // One that is known, as those that the gateway itself has made, is not theirs.
    let (mut machine, _) = in_phase("stopped", NOW);
    assert_eq!(step(&mut machine, NOW + SECOND, made(NOW + SECOND)), "");
    assert_eq!(step(&mut machine, NOW + SECOND, wanted()), "start");
}
