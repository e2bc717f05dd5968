//! What is asked of a workload that is used past the gateway, and what its answers come to.

use std::time::Duration;

use super::tests::{SECOND, in_phase, short};
use super::*;
use crate::decision::{BusySign, Sleep};
use crate::runtime::InstanceState;

const NOW: Moment = Moment::from_millis(3_600_000);

fn rule(sleep: Sleep) -> IdleRule {
    IdleRule::UnlessBusy {
        sleep,
        after: 60 * SECOND,
        sign: BusySign::SentBytes,
    }
}

fn step(machine: &mut Machine, at: Moment, event: Event) -> String {
    let effects: Vec<String> = machine.step(at, event).iter().map(short).collect();
    effects.join(" ")
}

/// Ready since now, and to sleep after a minute.
fn ready(sleep: Sleep) -> Machine {
    let (mut machine, _) = in_phase("ready", NOW);
    let id = InstanceId::new("1");
    let rule = rule(sleep);
    assert_eq!(step(&mut machine, NOW, Event::IdleRule { id, rule }), "");
    machine
}

/// Asks at the machine's own time and gives the answer at once; what comes of it, after how many
/// seconds.
fn told(machine: &mut Machine, told: Use) -> (u64, String) {
    let at = machine.wake_at().expect("it looks again");
    assert_eq!(step(machine, at, Event::Tick), "ask");
    let answer = Event::Use(machine.generation, told);
    (at.since(NOW).as_secs(), step(machine, at, answer))
}

fn nothing_at(seconds: u64) -> (u64, String) {
    (seconds, String::new())
}

fn unknown() -> Use {
    Use::Unknown("nobody answers".into())
}

#[test]
fn it_is_stopped_when_a_count_was_the_same_for_the_whole_time() {
    let mut machine = ready(Sleep::Stopped);
    for seconds in [0, 15, 30, 45] {
        assert_eq!(told(&mut machine, Use::Count(5)), nothing_at(seconds));
    }
    assert_eq!(told(&mut machine, Use::Count(5)), (60, "stop".into()));
    assert_eq!(machine.phase().name(), "stopping");
    assert!(machine.open_gate().is_none());
}

#[test]
fn another_count_begins_the_time_anew_at_the_look_that_told_it() {
    let mut machine = ready(Sleep::Stopped);
    for (seconds, count) in [(0, 5), (15, 5), (30, 6), (45, 6), (60, 6), (75, 6)] {
        assert_eq!(told(&mut machine, Use::Count(count)), nothing_at(seconds));
    }
    assert_eq!(told(&mut machine, Use::Count(6)), (90, "stop".into()));
    // A count that goes down is another one: whoever counts has begun anew.
    let mut machine = ready(Sleep::Stopped);
    for (seconds, count) in [(0, 5), (15, 5), (30, 5), (45, 0), (60, 0), (75, 0), (90, 0)] {
        assert_eq!(told(&mut machine, Use::Count(count)), nothing_at(seconds));
    }
    assert_eq!(told(&mut machine, Use::Count(0)), (105, "stop".into()));
}

#[test]
fn an_application_in_use_is_asked_again_and_stopped_after_its_whole_time() {
    let mut machine = ready(Sleep::Stopped);
    for (seconds, answer) in [
        (0, Use::Free),
        (15, Use::Free),
        (30, Use::Free),
        (45, Use::Busy),
        (60, Use::Busy),
        (75, Use::Free),
        (90, Use::Free),
        (105, Use::Free),
        (120, Use::Free),
    ] {
        assert_eq!(told(&mut machine, answer), nothing_at(seconds));
    }
    assert_eq!(told(&mut machine, Use::Free), (135, "stop".into()));
}

#[test]
fn a_question_without_an_answer_stops_nothing_and_is_shown() {
    let mut machine = ready(Sleep::Stopped);
    for seconds in [0, 15, 30, 45, 60, 75, 90] {
        assert_eq!(told(&mut machine, unknown()), nothing_at(seconds));
        assert_eq!(machine.phase().reason().as_deref(), Some("nobody answers"));
    }
    // Nor does what was told before count for the time in which nothing was told.
    for (seconds, answer) in [
        (105, Use::Count(1)),
        (120, Use::Count(1)),
        (135, unknown()),
        (150, Use::Count(1)),
        (165, Use::Count(1)),
        (180, Use::Count(1)),
        (195, Use::Count(1)),
    ] {
        assert_eq!(told(&mut machine, answer), nothing_at(seconds));
    }
    assert_eq!(machine.phase().reason(), None);
    assert_eq!(told(&mut machine, Use::Count(1)), (210, "stop".into()));
}

#[test]
fn an_answer_that_never_comes_is_asked_for_again() {
    let mut machine = ready(Sleep::Stopped);
    assert_eq!(step(&mut machine, NOW, Event::Tick), "ask");
    assert_eq!(machine.wake_at(), Some(NOW + 60 * SECOND));
    let lost = machine.generation;
    assert_eq!(step(&mut machine, NOW + 60 * SECOND, Event::Tick), "ask");
    // It comes after all, and the question has been asked anew.
    let late = Event::Use(lost, Use::Free);
    assert_eq!(step(&mut machine, NOW + 500 * SECOND, late), "");
    assert_eq!(machine.phase().name(), "ready");
}

#[test]
fn what_is_used_through_the_gateway_is_not_asked_and_has_its_whole_time_afterwards() {
    let mut machine = ready(Sleep::Stopped);
    assert_eq!(told(&mut machine, Use::Free), nothing_at(0));
    let gate = machine.open_gate().expect("it is open").clone();
    let lease = gate.lease(true).expect("it is open");
    for seconds in [15, 30, 45, 60, 75, 90] {
        let at = machine.wake_at().expect("it looks again");
        assert_eq!(at, NOW + Duration::from_secs(seconds));
        assert_eq!(step(&mut machine, at, Event::Tick), "");
    }
    drop(lease);
    for seconds in [105, 120, 135, 150] {
        assert_eq!(told(&mut machine, Use::Free), nothing_at(seconds));
    }
    assert_eq!(told(&mut machine, Use::Free), (165, "stop".into()));
}

#[test]
fn a_lease_that_is_taken_while_it_is_asked_goes_before_the_answer() {
    let mut machine = ready(Sleep::Stopped);
    for seconds in [0, 15, 30, 45] {
        assert_eq!(told(&mut machine, Use::Free), nothing_at(seconds));
    }
    let at = NOW + 60 * SECOND;
    assert_eq!(step(&mut machine, at, Event::Tick), "ask");
    let gate = machine.open_gate().expect("it is open").clone();
    let lease = gate.lease(true).expect("it is open");
    let answer = Event::Use(machine.generation, Use::Free);
    assert_eq!(step(&mut machine, at, answer), "");
    assert!(gate.is_open());
    drop(lease);
}

#[test]
fn an_answer_to_what_is_no_longer_asked_is_ignored() {
    let mut machine = ready(Sleep::Stopped);
    for seconds in [0, 15, 30, 45] {
        assert_eq!(told(&mut machine, Use::Free), nothing_at(seconds));
    }
    let at = NOW + 60 * SECOND;
    assert_eq!(step(&mut machine, at, Event::Tick), "ask");
    let asked = machine.generation;
    // It is in doubt meanwhile, and was ready again.
    let serial = machine.open_gate().expect("open").endpoint().serial;
    assert_eq!(
        step(&mut machine, at, Event::Unanswered { serial }),
        "adopt"
    );
    assert_eq!(step(&mut machine, at, Event::Use(asked, Use::Free)), "");
    assert_eq!(machine.phase().name(), "starting");
}

#[test]
fn another_rule_begins_anew() {
    let mut machine = ready(Sleep::Stopped);
    for seconds in [0, 15, 30, 45] {
        assert_eq!(told(&mut machine, Use::Free), nothing_at(seconds));
    }
    let at = NOW + 59 * SECOND;
    let id = InstanceId::new("1");
    let rule = rule(Sleep::Paused);
    assert_eq!(step(&mut machine, at, Event::IdleRule { id, rule }), "");
    for seconds in [59, 74, 89, 104] {
        assert_eq!(told(&mut machine, Use::Free), nothing_at(seconds));
    }
    assert_eq!(told(&mut machine, Use::Free), (119, "pause".into()));
}

/// Ready under that rule, and drained by whoever removes it: half a minute at the most.
fn removed(rule: IdleRule, routed_past: bool) -> (Machine, String) {
    let (mut machine, _) = in_phase("launching", NOW);
    let launch = Launch {
        ready: ReadyRule::Wait(Duration::ZERO),
        idle: rule,
        routed_past,
        ..super::tests::launch(100, super::tests::tcp())
    };
    let launched = Event::Launched(machine.generation, Ok(launch));
    assert_eq!(step(&mut machine, NOW, launched), "");
    assert_eq!(machine.phase().name(), "ready");
    let effects = step(&mut machine, NOW, Event::RemoveOrdered);
    (machine, effects)
}

/// Found running by a gateway that starts, and not ready yet.
fn adopted(routed_past: bool) -> Machine {
    let (mut machine, _) = in_phase("stopped", NOW);
    let running = Observation {
        id: InstanceId::new("1"),
        state: InstanceState::Running {
            started_at: EngineTime(100),
        },
        address: None,
        health: None,
    };
    let seen = Event::Observed {
        asked: NOW,
        instance: running,
    };
    assert_eq!(step(&mut machine, NOW, seen), "adopt");
    let launch = Launch {
        routed_past,
        ..super::tests::launch(100, super::tests::tcp())
    };
    let launched = Event::Launched(machine.generation, Ok(launch));
    step(&mut machine, NOW, launched);
    assert_eq!(machine.phase().name(), "starting");
    machine
}

#[test]
fn what_somebody_else_has_started_is_not_stopped_because_it_does_not_get_ready() {
    let mut machine = adopted(false);
    let mut at = NOW;
    while machine.phase().name() == "starting" {
        at = machine.wake_at().expect("it has a limit");
        let effects = step(&mut machine, at, Event::Tick);
        assert!(!effects.contains("stop"), "{effects}");
    }
    assert!(at > NOW);
    assert_eq!(machine.phase().name(), "failed");
    // Who asks for it later wants it to be ready, and one that is not then is started anew.
    assert_eq!(
        step(&mut machine, at, Event::Wanted { by_operator: true }),
        "start"
    );
}

#[test]
fn what_may_be_used_past_the_gateway_is_drained_although_it_is_not_ready_yet() {
    let mut machine = adopted(true);
    assert_eq!(
        step(&mut machine, NOW, Event::RemoveOrdered),
        "refuse:gone ask"
    );
    assert_eq!(machine.phase().name(), "draining");
    let mut machine = adopted(false);
    assert_eq!(
        step(&mut machine, NOW, Event::RemoveOrdered),
        "refuse:gone stop"
    );
}

/// Answers the question that is out; a second later it is asked again.
fn still_drains(machine: &mut Machine, seconds: u64, told: Use) {
    let at = NOW + Duration::from_secs(seconds);
    let answer = Event::Use(machine.generation, told);
    assert_eq!(step(machine, at, answer), "", "{seconds}");
    assert_eq!(machine.phase().name(), "draining");
    assert_eq!(machine.wake_at(), Some(at + SECOND));
    assert_eq!(step(machine, at + SECOND, Event::Tick), "ask", "{seconds}");
}

#[test]
fn what_is_used_past_the_gateway_is_drained_until_its_sign_is_silent() {
    let (mut machine, effects) = removed(rule(Sleep::Stopped), false);
    assert_eq!(effects, "refuse:gone ask");
    for (second, count) in [5, 6, 7, 8, 8].into_iter().enumerate() {
        still_drains(&mut machine, second as u64, Use::Count(count));
    }
    let at = NOW + 5 * SECOND;
    let answer = Event::Use(machine.generation, Use::Count(8));
    assert_eq!(step(&mut machine, at, answer), "stop");
    let done = Event::StopDone(machine.generation, Ok(()));
    assert_eq!(step(&mut machine, at, done), "remove");
}

#[test]
fn a_drain_takes_no_longer_than_its_limit_whatever_the_sign_tells() {
    for told in [Use::Busy, unknown()] {
        let (mut machine, _) = removed(rule(Sleep::Stopped), false);
        for second in 0..29 {
            still_drains(&mut machine, second, told.clone());
        }
        let is_unknown = told == unknown();
        assert_eq!(machine.phase().reason().is_some(), is_unknown);
        // Even while the last question is out.
        assert_eq!(machine.wake_at(), Some(NOW + 30 * SECOND));
        assert_eq!(step(&mut machine, NOW + 30 * SECOND, Event::Tick), "stop");
        let late = Event::Use(machine.generation, Use::Busy);
        assert_eq!(step(&mut machine, NOW + 31 * SECOND, late), "");
        assert_eq!(machine.phase().name(), "stopping");
    }
}

#[test]
fn leases_end_before_the_sign_of_what_drains_is_looked_at() {
    let mut machine = ready(Sleep::Stopped);
    let gate = machine.open_gate().expect("it is open").clone();
    let lease = gate.lease(true).expect("it is open");
    assert_eq!(step(&mut machine, NOW, Event::RemoveOrdered), "refuse:gone");
    assert_eq!(machine.wake_at(), Some(NOW + 30 * SECOND));
    let at = NOW + 7 * SECOND;
    assert_eq!(step(&mut machine, at, Event::Tick), "");
    drop(lease);
    assert_eq!(machine.wake_at(), Some(NOW), "it is due");
    assert_eq!(step(&mut machine, at, Event::Tick), "ask");
}

#[test]
fn what_a_proxy_beside_the_gateway_routes_to_is_drained_by_what_it_sends() {
    let (machine, effects) = removed(IdleRule::Never, true);
    assert_eq!(effects, "refuse:gone ask");
    let Phase::Draining {
        past: Some(past), ..
    } = machine.phase()
    else {
        panic!("it waits");
    };
    assert_eq!(past.sign, BusySign::SentBytes);
    // What nobody routes to past the gateway has only its leases.
    let (machine, effects) = removed(IdleRule::Never, false);
    assert_eq!(effects, "refuse:gone stop");
    assert_eq!(machine.phase().name(), "stopping");
}

#[test]
fn what_is_wanted_again_while_its_sign_is_asked_is_open_at_once() {
    let mut machine = ready(Sleep::Stopped);
    let rest = super::tests::rest(20 * SECOND);
    assert_eq!(step(&mut machine, NOW, rest), "ask");
    let wanted = Event::Wanted { by_operator: false };
    assert_eq!(step(&mut machine, NOW, wanted), "");
    assert_eq!(machine.phase().name(), "ready");
    // The answer is one about its use, and it has its whole time from now on.
    let answer = Event::Use(machine.generation, Use::Free);
    assert_eq!(step(&mut machine, NOW, answer), "");
    for seconds in [15, 30, 45] {
        assert_eq!(told(&mut machine, Use::Free), nothing_at(seconds));
    }
    assert_eq!(told(&mut machine, Use::Free), (60, "stop".into()));
}

#[test]
fn a_use_through_the_gateway_does_not_make_news_of_a_sign_that_tells_nothing() {
    let mut machine = ready(Sleep::Stopped);
    assert_eq!(told(&mut machine, unknown()), nothing_at(0));
    let gate = machine.open_gate().expect("it is open").clone();
    let lease = gate.lease(true).expect("it is open");
    let at = machine.wake_at().expect("it looks again");
    assert_eq!(step(&mut machine, at, Event::Tick), "");
    drop(lease);
    assert_eq!(machine.phase().reason().as_deref(), Some("nobody answers"));
}
