//! The machine's exact table: each event in each phase.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::lifecycle::gate::Lease;
use crate::runtime::EngineEventKind as Kind;
use crate::runtime::{EngineTime, InstanceState};
use crate::spec::WorkloadSpec;

pub(super) const SECOND: Duration = Duration::from_secs(1);
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) fn machine(seed: u64) -> Machine {
    let limits = Limits {
        stop_grace: 10 * SECOND,
        drain: 30 * SECOND,
        outside_stop: 15 * SECOND,
        outside_rest: SECOND,
        backoff_min: SECOND,
        backoff_max: 60 * SECOND,
        settle: 10 * SECOND,
        retry: 2 * SECOND,
    };
    let name = WorkloadName::new("a").unwrap();
    Machine::new(name, limits, Clock::new(), Arc::default(), seed)
}

fn id(id: &str) -> InstanceId {
    InstanceId::new(id)
}

fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, "it failed")
}

pub(super) fn launch(started_at: i64, ready: ReadyRule) -> Launch {
    Launch {
        run: Run {
            started_at: EngineTime(started_at),
            address: ADDRESS,
        },
        port: Some(80),
        ready,
        idle: IdleRule::StopAfter(60 * SECOND),
        health: None,
        routed_past: false,
    }
}

pub(super) fn tcp() -> ReadyRule {
    ReadyRule::Tcp { max: 20 * SECOND }
}

/// The phases of the table, each reached by the events that lead there.
const PHASES: [&str; 22] = [
    "absent",
    "creating",
    "stopped",
    "launching",
    "adopting",
    "proving",
    "ready",
    "in doubt",
    "draining",
    "draining to rest",
    "stopping",
    "stopping to fail",
    "stopping to start",
    "stopped outside",
    "stopped outside to rest",
    "stopped outside to start",
    "ended outside",
    "pausing",
    "pausing to rest",
    "paused",
    "failed",
    "removing",
];

/// An event that depends on what the machine has come to.
type NextEvent<'a> = Box<dyn FnOnce(&mut Machine) -> Event + 'a>;

pub(super) fn in_phase(phase: &'static str, now: Moment) -> (Machine, Option<Lease>) {
    let mut machine = machine(1);
    let mut lease = None;
    let spec = || Box::new(WorkloadSpec::new(WorkloadName::new("a").unwrap(), "image"));
    let seen = |state| Event::Observed {
        asked: now,
        instance: Observation {
            id: id("1"),
            state,
            address: None,
            health: None,
        },
    };
    let stopped = || seen(InstanceState::Stopped { exit_code: None });
    let mut steps: Vec<NextEvent<'_>> = Vec::new();
    let wanted = |_: &mut Machine| Event::Wanted { by_operator: false };
    match phase {
        "absent" => {}
        "creating" => steps.push(Box::new(move |_| Event::CreateOrdered {
            spec: spec(),
            start: true,
        })),
        _ => steps.push(Box::new(move |_| stopped())),
    }
    let launched = |idle| {
        move |machine: &mut Machine| {
            let launch = Launch {
                idle,
                ..launch(100, tcp())
            };
            Event::Launched(machine.generation, Ok(launch))
        }
    };
    let running = matches!(
        phase,
        "proving"
            | "ready"
            | "in doubt"
            | "draining"
            | "draining to rest"
            | "stopping"
            | "stopping to fail"
            | "stopping to start"
            | "stopped outside"
            | "stopped outside to rest"
            | "stopped outside to start"
            | "ended outside"
            | "pausing"
            | "pausing to rest"
    );
    if running || phase == "launching" || phase == "failed" {
        steps.push(Box::new(wanted));
    }
    if running {
        let idle = if phase.starts_with("pausing") {
            IdleRule::PauseAfter(SECOND)
        } else {
            IdleRule::StopAfter(SECOND)
        };
        steps.push(Box::new(launched(idle)));
        if !matches!(phase, "proving" | "stopping to fail") {
            steps.push(Box::new(|machine: &mut Machine| {
                Event::Proved(machine.generation)
            }));
        }
    }
    match phase {
        "adopting" => steps.push(Box::new(move |_| {
            seen(InstanceState::Running {
                started_at: EngineTime(100),
            })
        })),
        "paused" => steps.push(Box::new(move |_| {
            seen(InstanceState::Paused {
                started_at: EngineTime(100),
            })
        })),
        outside if outside.contains(" outside") => {
            steps.push(Box::new(|_: &mut Machine| engine(Kind::Ending, 200)));
        }
        "failed" => steps.push(Box::new(|machine: &mut Machine| {
            Event::Launched(
                machine.generation,
                Err(failure(FailureKind::NotRunning { clean: false })),
            )
        })),
        "removing" => steps.push(Box::new(|_: &mut Machine| Event::RemoveOrdered)),
        _ => {}
    }
    for step in steps {
        let event = step(&mut machine);
        machine.step(now, event);
    }
    match phase {
        "draining" => {
            lease = machine.open_gate().and_then(|gate| gate.lease(true));
            machine.step(now, Event::RemoveOrdered);
        }
        "draining to rest" => {
            lease = machine.open_gate().and_then(|gate| gate.lease(true));
            machine.step(now, rest(60 * SECOND));
        }
        "in doubt" => {
            lease = machine.open_gate().and_then(|gate| gate.lease(true));
            let unanswered = unanswered(&machine);
            machine.step(now, unanswered);
        }
        "stopping" | "pausing" => {
            machine.step(now + 5 * SECOND, Event::Tick);
        }
        "stopping to start" => {
            machine.step(now + 5 * SECOND, Event::Tick);
            machine.step(now + 5 * SECOND, Event::Wanted { by_operator: false });
        }
        "pausing to rest" => {
            machine.step(now + 5 * SECOND, Event::Tick);
            machine.step(now + 5 * SECOND, rest(SECOND));
        }
        "stopped outside to rest" => {
            machine.step(now + SECOND, rest(SECOND));
        }
        "stopped outside to start" | "ended outside" => {
            machine.step(now + SECOND, Event::Wanted { by_operator: false });
            if phase == "ended outside" {
                let exit_code = Some(0);
                // A second before the event of the table.
                machine.step(now + 20 * SECOND, engine(Kind::Died { exit_code }, 250));
            }
        }
        "stopping to fail" => {
            machine.step(now + 20 * SECOND, Event::Tick);
        }
        _ => {}
    }
    (machine, lease)
}

pub(super) fn rest(drain: Duration) -> Event {
    Event::RestOrdered { drain }
}

fn unanswered(machine: &Machine) -> Event {
    Event::Unanswered {
        serial: machine.open_gate().map_or(0, |gate| gate.endpoint().serial),
    }
}

pub(super) fn engine(kind: Kind, at: i64) -> Event {
    Event::Engine {
        id: id("1"),
        at: EngineTime(at),
        kind,
    }
}

/// The events of the table: those that may come at any time, and the answers.
fn events(machine: &Machine, now: Moment) -> Vec<(&'static str, Event)> {
    let generation = machine.generation;
    let seen = |state| Event::Observed {
        asked: now,
        instance: Observation {
            id: id("1"),
            state,
            address: None,
            health: None,
        },
    };
    let exit_code = Some(0);
    let started_at = EngineTime(100);
    vec![
        ("wanted", Event::Wanted { by_operator: false }),
        ("wanted by operator", Event::Wanted { by_operator: true }),
        ("remove", Event::RemoveOrdered),
        ("rest", rest(30 * SECOND)),
        ("tick", Event::Tick),
        ("created", Event::Created(generation, Ok(id("1")))),
        (
            "not created",
            Event::Created(generation, Err(failure(FailureKind::Refused))),
        ),
        (
            "launched",
            Event::Launched(generation, Ok(launch(100, tcp()))),
        ),
        (
            "not launched",
            Event::Launched(generation, Err(failure(FailureKind::Other))),
        ),
        (
            "engine away",
            Event::Launched(generation, Err(failure(FailureKind::EngineUnreachable))),
        ),
        (
            "exited",
            Event::Launched(
                generation,
                Err(failure(FailureKind::NotRunning { clean: false })),
            ),
        ),
        ("proved", Event::Proved(generation)),
        ("stop done", Event::StopDone(generation, Ok(()))),
        (
            "stop failed",
            Event::StopDone(generation, Err(failure(FailureKind::Other))),
        ),
        ("pause done", Event::PauseDone(generation, Ok(()))),
        (
            "pause failed",
            Event::PauseDone(generation, Err(failure(FailureKind::Other))),
        ),
        ("remove done", Event::RemoveDone(generation, Ok(()))),
        (
            "remove failed",
            Event::RemoveDone(generation, Err(failure(FailureKind::Other))),
        ),
        ("e:started", engine(Kind::Started, 300)),
        ("e:ending", engine(Kind::Ending, 300)),
        ("e:died", engine(Kind::Died { exit_code }, 300)),
        ("e:died before", engine(Kind::Died { exit_code }, 50)),
        ("e:paused", engine(Kind::Paused, 300)),
        ("e:unpaused", engine(Kind::Unpaused, 300)),
        ("e:destroyed", engine(Kind::Destroyed, 300)),
        ("seen running", seen(InstanceState::Running { started_at })),
        ("seen stopped", seen(InstanceState::Stopped { exit_code })),
        ("seen paused", seen(InstanceState::Paused { started_at })),
        (
            "seen nothing",
            Event::Missing {
                asked: now,
                id: id("1"),
            },
        ),
        (
            "idle rule",
            Event::IdleRule {
                id: id("1"),
                rule: IdleRule::Never,
            },
        ),
        ("unanswered", unanswered(machine)),
        ("free", Event::Use(generation, Use::Free)),
    ]
}

pub(super) fn short(effect: &Effect) -> String {
    match effect {
        Effect::Create(..) => "create".into(),
        Effect::Launch(_, _, how) => format!("{how:?}").to_lowercase(),
        Effect::Prove(..) => "prove".into(),
        Effect::Stop(..) => "stop".into(),
        Effect::Pause(..) => "pause".into(),
        Effect::Remove(..) => "remove".into(),
        Effect::AskUse(..) => "ask".into(),
        Effect::Look(_) => "look".into(),
        Effect::Refuse(Why::Gone) => "refuse:gone".into(),
        Effect::Refuse(Why::Superseded) => "refuse:superseded".into(),
        Effect::Refuse(Why::Failed { .. }) => "refuse:failed".into(),
    }
}

/// Each event in each phase: one line each, those that change nothing left out.
fn table() -> String {
    let mut lines = Vec::new();
    for phase in PHASES {
        let now = Moment::from_millis(3_600_000);
        let count = events(&in_phase(phase, now).0, now).len();
        for index in 0..count {
            let (mut machine, _lease) = in_phase(phase, now);
            let later = now + 21 * SECOND;
            let (name, event) = events(&machine, later).swap_remove(index);
            let before = machine.phase.name();
            let effects = machine.step(later, event);
            let after = machine.phase.name();
            if before == after && effects.is_empty() {
                continue;
            }
            let effects: Vec<String> = effects.iter().map(short).collect();
            lines.push(format!(
                "{phase} | {name} | {after} | {}",
                effects.join(" ")
            ));
        }
    }
    lines.join("\n")
}

#[test]
fn every_phase_takes_every_event_as_the_table_says() {
    let expected = include_str!("table.txt");
    let table = table();
    for (line, expected) in table.lines().zip(expected.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(table.lines().count(), expected.lines().count());
}

#[test]
fn an_end_that_is_told_before_the_answer_to_its_start_is_not_lost() {
    let now = Moment::from_millis(3_600_000);
    for (phase, expected) in [("launching", "start"), ("adopting", "")] {
        let (mut machine, _) = in_phase(phase, now);
        let exit_code = Some(0);
        assert_eq!(machine.step(now, engine(Kind::Died { exit_code }, 150)), []);
        let answer = Event::Launched(machine.generation, Ok(launch(100, tcp())));
        let effects: Vec<String> = machine.step(now, answer).iter().map(short).collect();
        assert_eq!(effects.join(" "), expected, "{phase}");
        // A later run is another matter.
        let answer = Event::Launched(machine.generation, Ok(launch(200, tcp())));
        let proves = machine
            .step(now, answer)
            .iter()
            .map(short)
            .collect::<Vec<_>>();
        assert_eq!(proves.len(), usize::from(phase == "launching"), "{phase}");
    }
}
