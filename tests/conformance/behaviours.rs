//! What every runtime does. Each behaviour is a sentence.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, join_all};
use wakegate::runtime::{EngineEvent, EngineEventKind as Kind, EngineTime, InstanceId};
use wakegate::runtime::{InstanceState, RegistryHealth, RuntimeError};

use crate::subject::{Bench, LONG, NO_IMAGE, NO_NETWORK, NO_REGISTRY, Others, PORT, Subject};

pub struct Behaviour {
    pub name: &'static str,
    pub run: fn(Bench) -> BoxFuture<'static, ()>,
    /// Whether it makes sense for this runtime at all.
    pub applies: fn(&Subject) -> bool,
}

macro_rules! behaviours {
    ($($name:ident $(if $applies:expr)?,)*) => {
        &[$(Behaviour {
            name: stringify!($name),
            run: |bench| $name(bench).boxed(),
            applies: behaviours!(@applies $($applies)?),
        },)*]
    };
    (@applies) => { |_| true };
    (@applies $applies:expr) => { $applies };
}

pub const BEHAVIOURS: &[Behaviour] = behaviours![
    a_created_one_is_listed_stopped_with_its_labels,
    a_started_one_runs_at_an_address_since_a_time,
    the_application_answers_at_the_address if |it| it.serves,
    envs_and_command_reach_the_application if |it| it.serves,
    starting_what_runs_is_a_success_and_changes_nothing,
    many_starts_at_once_are_one_run,
    a_stop_tells_ending_then_died,
    stopping_what_is_stopped_is_a_success,
    one_that_does_not_end_in_its_grace_time_is_killed,
    a_restarted_one_has_a_later_start,
    a_paused_one_goes_on_where_it_was,
    a_paused_one_can_be_stopped,
    what_is_stopped_cannot_be_paused,
    removing_a_running_one_leaves_nothing,
    a_removal_does_not_wait_for_a_stop_under_way,
    what_is_not_there_is_not_found,
    an_exit_is_told_with_its_code,
    one_that_exits_at_once_was_started_and_can_be_again,
    an_unknown_image_is_told_and_nothing_stays,
    an_unknown_network_is_told_and_nothing_stays if |it| it.has_networks,
    a_taken_name_is_told_and_its_owner_is_left_alone,
    names_are_resolved_as_the_container_sees_them,
    what_it_sends_is_counted_anew_in_each_run if |it| it.has_networks && it.serves,
    what_nobody_counts_is_refused if |it| !it.has_networks && it.serves,
    events_begin_when_the_call_returns,
    what_is_not_ours_is_not_there if |it| !matches!(it.others, Others::None),
    what_it_printed_can_be_read_also_when_it_has_ended,
    an_image_is_told_by_its_id_or_as_missing,
    an_image_that_is_used_is_not_removed,
    what_cannot_be_pulled_is_told_and_is_not_there,
    what_is_no_archive_of_an_image_is_refused,
];

async fn a_created_one_is_listed_stopped_with_its_labels(bench: Bench) {
    let mut spec = bench.spec("a");
    spec.labels = BTreeMap::from([
        ("healthcheck".to_owned(), "http://a:9000/status".to_owned()),
        ("odd".to_owned(), "PathPrefix(\"/ä/\") = $1".to_owned()),
    ]);
    let id = bench.runtime().create(&spec).await.unwrap();
    let listed = bench.listed().await;
    let [one] = listed.as_slice() else {
        panic!("not one but {listed:?}");
    };
    assert_eq!((&one.id, &one.name), (&id, &spec.name));
    let inspected = bench.inspect(&id).await;
    for seen in [one, &inspected] {
        assert_eq!(seen.image, spec.image);
        assert_eq!(seen.state, InstanceState::Stopped { exit_code: None });
        for (key, value) in &spec.labels {
            assert_eq!(seen.labels.get(key), Some(value));
        }
    }
    assert_eq!(inspected.address, None);
    assert_eq!(inspected.ports, [PORT]);
    assert_eq!(inspected.envs.get("IDLE").map(String::as_str), Some("1h"));
}

async fn a_started_one_runs_at_an_address_since_a_time(bench: Bench) {
    let id = bench.create("a").await;
    bench.runtime().start(&id).await.unwrap();
    let seen = bench.inspect(&id).await;
    assert!(seen.address.is_some());
    assert!(started_at(seen.state) > EngineTime::default());
    let listed = bench.listed().await;
    assert!(matches!(listed[0].state, InstanceState::Running { .. }));
}

async fn the_application_answers_at_the_address(bench: Bench) {
    let (a, b) = tokio::join!(bench.run(bench.spec("a")), bench.run(bench.spec("b")));
    assert_ne!(bench.address(&a).await, bench.address(&b).await);
    let report = bench.get(&a, "/some/path?q=1").await;
    assert_eq!(report["path"], "/some/path");
    assert_eq!(report["query"], "q=1");
}

/// The image alone runs `wakegate` without arguments, so that an answer proves the command.
async fn envs_and_command_reach_the_application(bench: Bench) {
    let mut spec = bench.spec("a");
    let connstr = "db 1; password = \"$x\" # ä".to_owned();
    spec.envs.insert("CONNSTR".to_owned(), connstr.clone());
    let id = bench.run(spec).await;
    assert_eq!(bench.get(&id, "/").await["connstr"], connstr);
    assert_eq!(bench.inspect(&id).await.envs["CONNSTR"], connstr);
}

async fn starting_what_runs_is_a_success_and_changes_nothing(bench: Bench) {
    let mut events = bench.events().await;
    let id = bench.run(bench.spec("a")).await;
    let before = bench.inspect(&id).await;
    bench.runtime().start(&id).await.unwrap();
    assert_eq!(bench.inspect(&id).await, before);
    bench.runtime().stop(&id, LONG).await.unwrap();
    let (seen, _) = events.until_died().await;
    assert_eq!(count(&seen, Kind::Started), 1);
}

async fn many_starts_at_once_are_one_run(bench: Bench) {
    let mut events = bench.events().await;
    let id = bench.create("a").await;
    let starts = join_all((0..8).map(|_| bench.runtime().start(&id))).await;
    assert!(starts.iter().all(Result::is_ok), "{starts:?}");
    bench.answers(&id).await;
    bench.runtime().stop(&id, LONG).await.unwrap();
    let (seen, _) = events.until_died().await;
    assert_eq!(count(&seen, Kind::Started), 1);
}

async fn a_stop_tells_ending_then_died(bench: Bench) {
    let mut events = bench.events().await;
    let id = bench.run(bench.spec("a")).await;
    let started_at = started_at(bench.state(&id).await);
    bench.runtime().stop(&id, LONG).await.unwrap();
    // The application ends cleanly when it is asked.
    let exit_code = Some(0);
    assert_eq!(bench.state(&id).await, InstanceState::Stopped { exit_code });
    assert_eq!(bench.inspect(&id).await.address, None);

    let (seen, told_code) = events.until_died().await;
    assert_eq!(told_code, exit_code);
    let started = position(&seen, Kind::Started);
    let ending = position(&seen, Kind::Ending);
    assert!(started < ending && ending < seen.len() - 1, "{seen:?}");
    assert!(seen.iter().all(|event| event.id == id));
    assert!(seen.is_sorted_by_key(|event| event.at), "{seen:?}");
    assert!(seen[ending].at > started_at, "{seen:?}, {started_at:?}");
}

async fn stopping_what_is_stopped_is_a_success(bench: Bench) {
    let mut events = bench.events().await;
    let id = bench.create("a").await;
    bench.runtime().stop(&id, LONG).await.unwrap();
    bench.runtime().start(&id).await.unwrap();
    bench.answers(&id).await;
    bench.runtime().stop(&id, LONG).await.unwrap();
    bench.runtime().stop(&id, LONG).await.unwrap();
    bench.runtime().remove(&id).await.unwrap();
    let seen = events.until(|kind| *kind == Kind::Destroyed).await;
    assert_eq!(count(&seen, Kind::Started), 1);
    let died = |event: &&EngineEvent| matches!(event.kind, Kind::Died { .. });
    assert_eq!(seen.iter().filter(died).count(), 1, "{seen:?}");
}

async fn one_that_does_not_end_in_its_grace_time_is_killed(bench: Bench) {
    let id = bench.run(bench.deaf("a")).await;
    // The engine's API knows whole seconds only.
    let grace = Duration::from_secs(1);
    bench.runtime().stop(&id, grace).await.unwrap();
    let exit_code = Some(137);
    assert_eq!(bench.state(&id).await, InstanceState::Stopped { exit_code });
}

async fn a_restarted_one_has_a_later_start(bench: Bench) {
    let mut events = bench.events().await;
    let id = bench.run(bench.spec("a")).await;
    let first = started_at(bench.state(&id).await);
    bench.runtime().stop(&id, LONG).await.unwrap();
    let (seen, _) = events.until_died().await;
    let died_at = seen.last().unwrap().at;
    bench.runtime().start(&id).await.unwrap();
    let second = started_at(bench.state(&id).await);
    assert!(
        first < died_at && died_at < second,
        "{first:?}, {died_at:?}, {second:?}"
    );
    bench.answers(&id).await;
}

async fn a_paused_one_goes_on_where_it_was(bench: Bench) {
    let mut events = bench.events().await;
    let id = bench.run(bench.spec("a")).await;
    let running = bench.inspect(&id).await;
    for _ in 0..2 {
        bench.runtime().pause(&id).await.unwrap();
    }
    let paused = bench.inspect(&id).await;
    let started_at = started_at(running.state);
    assert_eq!(paused.state, InstanceState::Paused { started_at });
    assert_eq!(paused.address, running.address);
    // It has to be woken up, not started.
    let refused = bench.runtime().start(&id).await;
    assert!(
        matches!(refused, Err(RuntimeError::Refused(_))),
        "{refused:?}"
    );

    for _ in 0..2 {
        bench.runtime().unpause(&id).await.unwrap();
    }
    // Docker's runtime tells of the pause once more, and late: for a moment the engine may take
    // the container for a paused one again.
    let goes_on = async {
        while bench.inspect(&id).await != running {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let goes_on = tokio::time::timeout(LONG, goes_on).await;
    goes_on.expect("it runs as before");
    bench.answers(&id).await;
    let seen = events.until(|kind| *kind == Kind::Unpaused).await;
    assert_eq!(count(&seen, Kind::Paused), 1);
    assert_eq!(count(&seen, Kind::Started), 1);
}

async fn a_paused_one_can_be_stopped(bench: Bench) {
    let mut events = bench.events().await;
    let id = bench.run(bench.spec("a")).await;
    bench.runtime().pause(&id).await.unwrap();
    bench.runtime().stop(&id, LONG).await.unwrap();
    // It was asked, not killed.
    let exit_code = Some(0);
    assert_eq!(bench.state(&id).await, InstanceState::Stopped { exit_code });
    let (seen, _) = events.until_died().await;
    assert_eq!(count(&seen, Kind::Ending), 1);
}

async fn what_is_stopped_cannot_be_paused(bench: Bench) {
    let id = bench.create("a").await;
    let refused = bench.runtime().pause(&id).await;
    assert!(
        matches!(refused, Err(RuntimeError::Refused(_))),
        "{refused:?}"
    );
    let refused = bench.runtime().unpause(&id).await;
    assert!(
        matches!(refused, Err(RuntimeError::Refused(_))),
        "{refused:?}"
    );
}

async fn removing_a_running_one_leaves_nothing(bench: Bench) {
    let mut events = bench.events().await;
    let id = bench.run(bench.spec("a")).await;
    bench.runtime().remove(&id).await.unwrap();
    not_found(bench.runtime().inspect(&id).await, &id);
    assert_eq!(bench.listed().await, []);
    let seen = events.until(|kind| *kind == Kind::Destroyed).await;
    let died = seen
        .iter()
        .find(|one| matches!(one.kind, Kind::Died { .. }));
    let exit_code = Some(137);
    assert_eq!(died.map(|one| one.kind), Some(Kind::Died { exit_code }));
    // The name is free again.
    let again = bench.create("a").await;
    assert_ne!(again, id);
}

async fn a_removal_does_not_wait_for_a_stop_under_way(bench: Bench) {
    let mut events = bench.events().await;
    let id = bench.run(bench.deaf("a")).await;
    let stop = tokio::spawn({
        let (bench, id) = (bench.clone(), id.clone());
        async move { bench.runtime().stop(&id, 10 * LONG).await }
    });
    events.until(|kind| *kind == Kind::Ending).await;
    let removed = tokio::time::timeout(LONG, bench.runtime().remove(&id)).await;
    removed.expect("it does not wait").unwrap();
    not_found(bench.runtime().inspect(&id).await, &id);
    // It has ended, and it is gone: both are true.
    let stopped = stop.await.unwrap();
    let fine = matches!(stopped, Ok(()) | Err(RuntimeError::NotFound(_)));
    assert!(fine, "{stopped:?}");
}

async fn what_is_not_there_is_not_found(bench: Bench) {
    let never = InstanceId::new(&"0123456789abcdef".repeat(4));
    let gone = bench.create("a").await;
    bench.runtime().remove(&gone).await.unwrap();
    for id in [&never, &gone] {
        not_found(bench.runtime().inspect(id).await, id);
        not_found(bench.runtime().sent_bytes(id).await, id);
        not_found(bench.runtime().start(id).await, id);
        not_found(bench.runtime().stop(id, LONG).await, id);
        not_found(bench.runtime().pause(id).await, id);
        not_found(bench.runtime().unpause(id).await, id);
        not_found(bench.runtime().resolve("localhost", id).await, id);
        not_found(bench.runtime().logs(id, 1).await, id);
        assert_eq!(bench.runtime().remove(id).await, Ok(()));
    }
}

async fn an_exit_is_told_with_its_code(bench: Bench) {
    let mut events = bench.events().await;
    let spec = bench.crashing("a", Duration::from_millis(200));
    let id = bench.runtime().create(&spec).await.unwrap();
    bench.runtime().start(&id).await.unwrap();
    let (seen, exit_code) = events.until_died().await;
    assert_eq!(exit_code, Some(1));
    assert_eq!(
        count(&seen, Kind::Ending),
        0,
        "nobody asked it to: {seen:?}"
    );
    assert_eq!(bench.state(&id).await, InstanceState::Stopped { exit_code });
}

async fn one_that_exits_at_once_was_started_and_can_be_again(bench: Bench) {
    let mut events = bench.events().await;
    let spec = bench.crashing("a", Duration::ZERO);
    let id = bench.runtime().create(&spec).await.unwrap();
    for _ in 0..2 {
        bench.runtime().start(&id).await.unwrap();
        let (seen, exit_code) = events.until_died().await;
        assert_eq!(exit_code, Some(1));
        assert!(position(&seen, Kind::Started) < seen.len() - 1);
    }
}

async fn an_unknown_image_is_told_and_nothing_stays(bench: Bench) {
    let mut spec = bench.spec("a");
    spec.image = NO_IMAGE.to_owned();
    let missing = Err(RuntimeError::ImageMissing(NO_IMAGE.to_owned()));
    assert_eq!(bench.runtime().create(&spec).await, missing);
    assert_eq!(bench.listed().await, []);
    bench.create("a").await;
}

async fn an_unknown_network_is_told_and_nothing_stays(bench: Bench) {
    let mut spec = bench.spec("a");
    spec.network = Some(NO_NETWORK.to_owned());
    let missing = Err(RuntimeError::NetworkMissing(NO_NETWORK.to_owned()));
    assert_eq!(bench.runtime().create(&spec).await, missing);
    assert_eq!(bench.listed().await, []);
    bench.create("a").await;
}

async fn a_taken_name_is_told_and_its_owner_is_left_alone(bench: Bench) {
    let id = bench.run(bench.spec("a")).await;
    let before = bench.inspect(&id).await;
    let again = bench.runtime().create(&bench.spec("a")).await;
    let taken = RuntimeError::NameTaken(bench.name("a").to_string());
    assert_eq!(again, Err(taken));
    assert_eq!(bench.inspect(&id).await, before);
    assert_eq!(bench.listed().await.len(), 1);
}

async fn names_are_resolved_as_the_container_sees_them(bench: Bench) {
    let (a, b) = tokio::join!(bench.run(bench.spec("a")), bench.run(bench.spec("b")));
    let own = bench.address(&a).await;
    for host in [bench.name("a").as_str(), "localhost", "127.0.0.1"] {
        let found = bench.runtime().resolve(host, &a).await;
        assert_eq!(found, Ok(own), "{host}");
    }
    let other = bench.name("b");
    let found = bench.runtime().resolve(other.as_str(), &a).await;
    assert_eq!(found, Ok(bench.address(&b).await));
    let literal = bench.runtime().resolve("192.0.2.7", &a).await;
    assert_eq!(literal, Ok([192, 0, 2, 7].into()));
    let unknown = bench.name("c");
    let found = bench.runtime().resolve(unknown.as_str(), &a).await;
    assert!(matches!(found, Err(RuntimeError::NotFound(_))), "{found:?}");
}

async fn what_it_sends_is_counted_anew_in_each_run(bench: Bench) {
    let id = bench.run(bench.spec("a")).await;
    let sent = || async { bench.runtime().sent_bytes(&id).await };
    let before = sent().await.unwrap();
    for _ in 0..20 {
        bench.get(&id, "/").await;
    }
    let after = sent().await.unwrap();
    assert!(after > before + 20 * 200, "{before}, then {after}");
    bench.runtime().stop(&id, LONG).await.unwrap();
    let stopped = sent().await;
    assert!(
        matches!(stopped, Err(RuntimeError::Refused(_))),
        "{stopped:?}"
    );
    bench.runtime().start(&id).await.unwrap();
    let again = sent().await.unwrap();
    assert!(again < after, "{after}, and after another start {again}");
}

async fn what_nobody_counts_is_refused(bench: Bench) {
    let id = bench.run(bench.spec("a")).await;
    let counted = bench.runtime().sent_bytes(&id).await;
    assert!(
        matches!(counted, Err(RuntimeError::Refused(_))),
        "{counted:?}"
    );
}

async fn events_begin_when_the_call_returns(bench: Bench) {
    let mut early = bench.events().await;
    let id = bench.create("a").await;
    let mut late = bench.events().await;
    bench.runtime().start(&id).await.unwrap();
    assert_eq!(early.next().await.kind, Kind::Changed);
    let seen = late.until(|kind| *kind == Kind::Started).await;
    assert_eq!(seen[0].id, id);
    assert_eq!(count(&seen, Kind::Started), 1);
}

async fn what_is_not_ours_is_not_there(bench: Bench) {
    let name = bench.name("a");
    let id = match &bench.subject.others {
        Others::None => unreachable!("it does not apply"),
        Others::Fake(fake) => {
            fake.add_foreign(name.as_str());
            None
        }
        Others::Runtime(other) => Some(other.create(&bench.spec("a")).await.unwrap()),
    };
    assert_eq!(bench.listed().await, []);
    let taken = RuntimeError::NameTaken(name.to_string());
    assert_eq!(bench.runtime().create(&bench.spec("a")).await, Err(taken));
    if let (Some(id), Others::Runtime(other)) = (id, &bench.subject.others) {
        not_found(bench.runtime().inspect(&id).await, &id);
        not_found(bench.runtime().logs(&id, 1).await, &id);
        // Not even when it is asked for by its id.
        let removed = bench.runtime().remove(&id).await;
        let fine = matches!(removed, Ok(()) | Err(RuntimeError::NotFound(_)));
        assert!(fine, "{removed:?}");
        other.inspect(&id).await.expect("it is still there");
    }
}

async fn what_it_printed_can_be_read_also_when_it_has_ended(bench: Bench) {
    let mut events = bench.events().await;
    let spec = bench.printing("a");
    let id = bench.runtime().create(&spec).await.unwrap();
    assert_eq!(bench.runtime().logs(&id, 10).await, Ok(Vec::new()));
    let line = concat!("wakegate ", env!("CARGO_PKG_VERSION"));
    for runs in 1..=2 {
        bench.runtime().start(&id).await.unwrap();
        bench.printed(&spec, line);
        events.until_died().await;
        let printed = bench.runtime().logs(&id, 10).await;
        assert_eq!(printed, Ok(vec![line.to_owned(); runs]));
    }
    assert_eq!(
        bench.runtime().logs(&id, 1).await,
        Ok(vec![line.to_owned()])
    );
    assert_eq!(bench.runtime().logs(&id, 0).await, Ok(Vec::new()));
}

async fn an_image_is_told_by_its_id_or_as_missing(bench: Bench) {
    let image = bench.subject.image.as_str();
    let found = bench.runtime().image(image).await.unwrap();
    let found = found.expect("it is there");
    assert!(found.id.starts_with("sha256:"), "{found:?}");
    assert_eq!(bench.runtime().image(image).await, Ok(Some(found)));
    assert_eq!(bench.runtime().image(NO_IMAGE).await, Ok(None));
}

async fn an_image_that_is_used_is_not_removed(bench: Bench) {
    let image = bench.subject.image.as_str();
    let before = bench.runtime().image(image).await;
    let id = bench.create("a").await;
    assert_eq!(bench.runtime().remove_image(image).await, Ok(false));
    bench.runtime().start(&id).await.unwrap();
    assert_eq!(bench.runtime().remove_image(image).await, Ok(false));
    assert_eq!(bench.runtime().image(image).await, before);
    assert_eq!(bench.runtime().remove_image(NO_IMAGE).await, Ok(true));
}

async fn what_cannot_be_pulled_is_told_and_is_not_there(bench: Bench) {
    let image = format!("{NO_REGISTRY}/{NO_IMAGE}");
    let pulled = bench.runtime().pull(&image, None, &|_| {}).await;
    let told = matches!(
        pulled,
        Err(RuntimeError::RegistryUnreachable(_) | RuntimeError::Refused(_))
    );
    assert!(told, "{pulled:?}");
    assert_eq!(bench.runtime().image(&image).await, Ok(None));
    let health = bench.runtime().registry(NO_REGISTRY).await;
    let fits = matches!(
        health,
        Ok(RegistryHealth::Down(_) | RegistryHealth::Unknown)
    );
    assert!(fits, "{health:?}");
}

async fn what_is_no_archive_of_an_image_is_refused(bench: Bench) {
    let parts = [Ok(Bytes::from_static(b"\xffno archive")), Ok(Bytes::new())];
    let archive = futures_util::stream::iter(parts).boxed();
    let refused = bench.runtime().load(archive).await;
    assert!(
        matches!(refused, Err(RuntimeError::Refused(_))),
        "{refused:?}"
    );
}

fn started_at(state: InstanceState) -> EngineTime {
    match state {
        InstanceState::Running { started_at } => started_at,
        other => panic!("it does not run but is {other:?}"),
    }
}

fn count(events: &[EngineEvent], kind: Kind) -> usize {
    events.iter().filter(|event| event.kind == kind).count()
}

fn position(events: &[EngineEvent], kind: Kind) -> usize {
    let found = events.iter().position(|event| event.kind == kind);
    found.unwrap_or_else(|| panic!("no {kind:?} in {events:?}"))
}

fn not_found<T: std::fmt::Debug>(result: Result<T, RuntimeError>, id: &InstanceId) {
    let fits = matches!(result, Err(RuntimeError::NotFound(_)));
    assert!(fits, "{id:?} is not there, but the answer is {result:?}");
}
