//! Containers that are used only through Traefik: not stopped while they are, asleep when they are not.
//!
//! The sample application never ends by itself here, so that every end is the gateway's doing. Each
//! line uses its container, past the gateway, for several times as long as its idle time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::Timestamp;
use reqwest::Method;
use tokio::task::JoinSet;

use crate::bench::{Bench, Sample, in_time, until};
use crate::client::{Answer, Client};
use crate::faults::failing_api;
use crate::lines;
use crate::visitor::{House, SHIPPED, router_of};

lines![
    with_never_the_gateway_stops_nothing_and_the_application_ends_by_itself,
    an_application_that_is_asked_whether_it_is_in_use_is_stopped_when_it_is_not,
    an_application_that_counts_its_uses_is_stopped_when_they_stay_the_same,
    by_the_engines_statistics_what_sends_nothing_is_stopped,
    by_the_engines_statistics_a_stream_is_use,
    by_traefiks_metrics_what_gets_no_requests_is_stopped,
    where_nobody_tells_of_its_use_nothing_is_stopped,
    without_traefiks_metrics_nothing_is_stopped,
    while_traefik_is_away_nothing_is_stopped_by_its_metrics,
    a_removal_waits_for_what_goes_on_past_the_gateway,
    a_removal_does_not_wait_for_ever,
    leases_alone_stop_what_is_in_use_past_the_gateway,
];

/// Short, as time itself is what is tested here.
const IDLE: Duration = Duration::from_secs(2);

/// Less than this lies between two uses of what is in use. Applications are asked whether they were
/// used within it.
const PACE: Duration = Duration::from_secs(1);

/// So often it is tried to keep that pace: on a busy machine the test itself may stall.
const ROUNDS_MAX: usize = 20;

/// What tells that a sign tells nothing.
const UNTOLD: &str = "nobody tells whether it is in use";

/// The shipped script with another idle rule.
fn script(rule: &str) -> String {
    let script = SHIPPED.replace("idle(|c| never());", &format!("idle(|c| {rule});"));
    let (script, _) = script.split_once("\nfn test_").expect("it has tests");
    assert!(script.contains(rule));
    script.to_owned()
}

async fn house(bench: &Bench, program: &Path, rule: &str) -> House {
    let script = script(rule);
    House::with(bench, program, &[], |setup| setup.script(script)).await
}

fn lasting(house: &House) -> Sample {
    house.routed("one").env("IDLE", "0")
}

/// Wakes it and uses it through Traefik alone, for several idle times: it is the same run all the
/// time. Gives the moment before the last use.
async fn use_it(house: &House, sample: &Sample, id: &str) -> Instant {
    for _ in 0..ROUNDS_MAX {
        if let Some(last) = uses(house, sample, id).await {
            return last;
        }
        // It may have fallen asleep rightly.
        house.until_asleep(sample).await;
    }
    panic!("the test itself stalled for {PACE:?} in each of {ROUNDS_MAX} rounds");
}

/// One round of it; `None` where the test did not keep its pace, so that it says nothing.
async fn uses(house: &House, sample: &Sample, id: &str) -> Option<Instant> {
    let before = house.bench.starts(id).await;
    let mut used = Timestamp::now();
    house.gateway.client.wake(sample.name()).await;
    // Where that takes an idle time, it may be asleep again.
    let router = router_of(sample);
    let has_route = house.traefik.until_router(&router, true);
    tokio::time::timeout(IDLE, has_route).await.ok()?;
    let requests = house.gateways_requests();
    let (mut last, now) = (Instant::now(), Timestamp::now());
    goes_straight(house, sample, id, used).await?;
    used = now;
    let since = last;
    while since.elapsed() < 4 * IDLE {
        tokio::time::sleep(IDLE / 10).await;
        let (asked, now) = (Instant::now(), Timestamp::now());
        goes_straight(house, sample, id, used).await?;
        if asked - last >= PACE {
            return None;
        }
        (last, used) = (asked, now);
    }
    let runs = house.bench.runs(id).await;
    let kept_pace = last.elapsed() < PACE;
    assert_eq!(house.bench.starts(id).await, before + 1);
    assert_eq!(house.gateways_requests(), requests, "past the gateway");
    assert!(runs || !kept_pace);
    kept_pace.then_some(last)
}

/// Uses it once more, past the gateway; `None` where it had fallen asleep as it should, because the
/// test stalled. `used` is a moment before its last use.
async fn goes_straight(house: &House, sample: &Sample, id: &str, used: Timestamp) -> Option<()> {
    let visit = house.get(&sample.path("")).await;
    if visit.statuses() == [200] {
        return Some(());
    }
    // How long the visit took does not excuse it: who was stopped wrongly answers late. When it was
    // stopped tells whether that was too soon.
    let ended = until("its end is told", || async {
        let ended = ended_at(house, id).await;
        (ended > used).then_some(ended)
    })
    .await;
    let unused = Duration::try_from(ended.duration_since(used)).expect("it is later");
    assert!(unused >= IDLE, "stopped {unused:?} after a use: {visit:?}");
    None
}

/// When its last run ended, as the engine tells it.
async fn ended_at(house: &House, id: &str) -> Timestamp {
    let found = house.bench.engine().raw().inspect_container(id, None).await;
    let state = found.expect("a container").state.expect("a state");
    let told = state.finished_at.expect("a time");
    told.parse().expect("RFC 3339")
}

/// Nobody has used it after `since`: the gateway stops it, and not before its idle time is over.
async fn falls_asleep(house: &House, sample: &Sample, id: &str, since: Instant) {
    house.until_asleep(sample).await;
    assert!(since.elapsed() >= IDLE, "{:?}", since.elapsed());
    assert!(!house.bench.runs(id).await);
    let output = house.bench.output(id).await;
    let ends = output.matches("ends: SIGTERM").count();
    let starts = house.bench.starts(id).await;
    assert_eq!(ends, starts, "{output}");
    // And it wakes again; also once more, where it is asleep by the time that the client follows: each
    // time that it is sent on it was started for that.
    let visit = house.get(&sample.path("?again")).await;
    let statuses = visit.statuses();
    assert!(
        matches!(statuses[..], [307, 200] | [307, 307, 200]),
        "{visit:?}"
    );
    house
        .bench
        .has_started(id, starts + statuses.len() - 1)
        .await;
}

/// By this rule it is left awake while it is used past the gateway, and asleep when it is not.
async fn sleeps_when_unused(bench: &Bench, program: &Path, rule: &str) {
    let house = house(bench, program, rule).await;
    let sample = lasting(&house);
    let id = house.asleep(&sample).await;
    let last = use_it(&house, &sample, &id).await;
    falls_asleep(&house, &sample, &id, last).await;
}

async fn with_never_the_gateway_stops_nothing_and_the_application_ends_by_itself(
    bench: Bench,
    program: PathBuf,
) {
    let house = House::new(&bench, &program).await;
    let sample = house.routed("one").env("IDLE", "2s");
    let id = house.asleep(&sample).await;
    use_it(&house, &sample, &id).await;
    house.until_asleep(&sample).await;
    let output = bench.output(&id).await;
    let ends = output.matches("ends: nobody used it").count();
    assert_eq!(ends, bench.starts(&id).await, "{output}");
    assert!(!output.contains("SIGTERM"), "{output}");
}

async fn an_application_that_is_asked_whether_it_is_in_use_is_stopped_when_it_is_not(
    bench: Bench,
    program: PathBuf,
) {
    let rule = r#"stop_after("2s").unless_busy(busy_probe("/in-use?ms=1000"))"#;
    sleeps_when_unused(&bench, &program, rule).await;
}

async fn an_application_that_counts_its_uses_is_stopped_when_they_stay_the_same(
    bench: Bench,
    program: PathBuf,
) {
    let rule = r#"stop_after("2s").unless_busy(busy_count("/usage", "requests"))"#;
    sleeps_when_unused(&bench, &program, rule).await;
}

async fn by_the_engines_statistics_what_sends_nothing_is_stopped(bench: Bench, program: PathBuf) {
    let rule = r#"stop_after("2s").unless_busy(sent_bytes())"#;
    sleeps_when_unused(&bench, &program, rule).await;
}

async fn by_the_engines_statistics_a_stream_is_use(bench: Bench, program: PathBuf) {
    let house = house(
        &bench,
        &program,
        r#"stop_after("2s").unless_busy(sent_bytes())"#,
    )
    .await;
    let sample = lasting(&house);
    let id = house.asleep(&sample).await;
    let mut events = stream(&house, &sample).await;
    // Another run would have another end before it.
    let ended = ended_at(&house, &id).await;
    let since = Instant::now();
    while since.elapsed() < 4 * IDLE {
        assert_eq!(in_time("an event", events.next()).await, Some(true));
    }
    assert_eq!(ended_at(&house, &id).await, ended);
    assert!(house.bench.runs(&id).await);
    // The last one is one that had to be waited for: it was not sent long before.
    let last = loop {
        let asked = Instant::now();
        assert_eq!(in_time("an event", events.next()).await, Some(true));
        if asked.elapsed() >= EVERY / 3 {
            break asked;
        }
    };
    drop(events);
    falls_asleep(&house, &sample, &id, last - IDLE / 4).await;
}

async fn by_traefiks_metrics_what_gets_no_requests_is_stopped(bench: Bench, program: PathBuf) {
    let rule = r#"stop_after("2s").unless_busy(traefik_requests())"#;
    sleeps_when_unused(&bench, &program, rule).await;
}

async fn where_nobody_tells_of_its_use_nothing_is_stopped(bench: Bench, program: PathBuf) {
    let rule = r#"stop_after("500ms").unless_busy(busy_probe("/no-such-thing"))"#;
    let house = house(&bench, &program, rule).await;
    // The sample application answers everything with 200 but for what it is told to fail with.
    let sample = lasting(&house).env("ANSWER_STATUS", "500");
    let id = house.awake(&sample).await;
    stays_awake_untold(&house, &sample, &id, "/no-such-thing answered 500").await;
    // It was asked again and again.
    assert_eq!(times_told(&house), 1, "{}", house.gateway.log.text());
}

/// Nobody uses it, and nobody tells so, for this reason, which is shown: it runs on.
async fn stays_awake_untold(house: &House, sample: &Sample, id: &str, why: &str) {
    // Its word of its only start may still be on its way.
    let starts = house.bench.starts(id).await.max(1);
    let admin = &house.gateway.client;
    until(&format!("the reason is {why}"), || async {
        let view = admin.view(sample.name()).await;
        let reason = view["reason"].as_str().unwrap_or_default();
        reason.contains(why).then_some(())
    })
    .await;
    tokio::time::sleep(2 * IDLE).await;
    assert!(house.bench.runs(id).await);
    assert_eq!(house.bench.starts(id).await, starts);
}

/// How often the log has told that nobody tells.
fn times_told(house: &House) -> usize {
    house.gateway.log.lines_with(UNTOLD).len()
}

async fn without_traefiks_metrics_nothing_is_stopped(bench: Bench, program: PathBuf) {
    let script = script(r#"stop_after("500ms").unless_busy(traefik_requests())"#);
    // Its API answers, and where its metrics are said to be there is something else.
    let metrics = failing_api().await;
    let house = House::with(&bench, &program, &[], |setup| {
        setup.script(script).set("traefik.metrics", metrics)
    })
    .await;
    let sample = lasting(&house);
    let id = house.awake(&sample).await;
    stays_awake_untold(&house, &sample, &id, " answered 500").await;
    assert_eq!(times_told(&house), 1, "{}", house.gateway.log.text());
}

async fn while_traefik_is_away_nothing_is_stopped_by_its_metrics(bench: Bench, program: PathBuf) {
    let rule = r#"stop_after("2s").unless_busy(traefik_requests())"#;
    let mut house = house(&bench, &program, rule).await;
    let sample = lasting(&house);
    let id = house.asleep(&sample).await;
    until("Traefik goes straight to it", || async {
        let visit = house.get(&sample.path("")).await;
        (visit.statuses() == [200]).then_some(())
    })
    .await;
    // In use all the time until Traefik ends, or the gateway might stop it rightly before that.
    let (visitor, url) = (house.visitor(), house.traefik.url(&sample.path("")));
    let mut in_use = JoinSet::new();
    in_use.spawn(async move {
        loop {
            drop(visitor.request(Method::GET, &url).send().await);
            tokio::time::sleep(IDLE / 10).await;
        }
    });
    // At its first look Traefik may not have had its route; after an idle time it was looked often.
    let since = Instant::now();
    until("its use is told", || async {
        let view = house.gateway.client.view(sample.name()).await;
        (view["reason"].is_null() && since.elapsed() >= IDLE).then_some(())
    })
    .await;
    let before = times_told(&house);
    house.traefik.end();
    in_use.shutdown().await;
    stays_awake_untold(&house, &sample, &id, "Connection refused").await;
    let told = times_told(&house);
    assert_eq!(told, before + 1, "{}", house.gateway.log.text());
}

/// Between two events of a stream.
const EVERY: Duration = Duration::from_millis(300);

/// A stream through Traefik, past the gateway, of which it is certain that it has begun. Where it
/// sleeps, it is woken first: each attempt has a URL of its own, for which nobody has gone round.
async fn stream(house: &House, sample: &Sample) -> impl futures_util::Stream<Item = bool> + Unpin {
    let visitor = house.visitor();
    let mut attempts = 0;
    let answer = until("Traefik goes straight to it", || {
        attempts += 1;
        let query = format!("every={}&attempt={attempts}", EVERY.as_millis());
        let url = house.traefik.url(&sample.path(&format!("events?{query}")));
        let asked = visitor.request(Method::GET, &url).send();
        async move {
            let answer = in_time("a stream", asked).await.expect("an answer");
            (answer.status() == 200).then_some(answer)
        }
    })
    .await;
    let mut events = Box::pin(answer.bytes_stream().map(|event| event.is_ok()));
    assert_eq!(in_time("an event", events.next()).await, Some(true));
    events
}

async fn remove(admin: &Client, name: &str) {
    let path = format!("/deploy/{name}");
    Answer::to(admin.admin(Method::DELETE, &path)).await.ok();
}

/// With the shipped script, in which the gateway stops nothing by itself.
async fn a_removal_waits_for_what_goes_on_past_the_gateway(bench: Bench, program: PathBuf) {
    let house = House::new(&bench, &program).await;
    let sample = lasting(&house);
    let id = house.awake(&sample).await;
    let mut events = stream(&house, &sample).await;
    let admin = house.gateway.client.clone();
    let name = sample.name().to_owned();
    let removal = tokio::spawn(async move { remove(&admin, &name).await });
    let since = Instant::now();
    while since.elapsed() < 3 * IDLE {
        assert_eq!(in_time("an event", events.next()).await, Some(true));
    }
    let view = house.gateway.client.view(sample.name()).await;
    assert_eq!(view["phase"], "draining", "{view}");
    assert!(bench.runs(&id).await && !removal.is_finished());
    drop(events);
    in_time("it is removed", removal).await.expect("removed");
    assert!(!bench.engine().exists(&id).await);
}

async fn a_removal_does_not_wait_for_ever(bench: Bench, program: PathBuf) {
    let house = House::with(&bench, &program, &[], |setup| {
        setup.set("lifecycle.drain_timeout", "3s")
    })
    .await;
    let sample = lasting(&house);
    let id = house.awake(&sample).await;
    let events = stream(&house, &sample).await;
    let since = Instant::now();
    remove(&house.gateway.client, sample.name()).await;
    assert!(since.elapsed() >= Duration::from_secs(3));
    assert!(!bench.engine().exists(&id).await);
    // The stream ended with it.
    let rest = in_time("its end", events.collect::<Vec<bool>>()).await;
    assert!(rest.len() > 3, "{rest:?}");
}

/// What all of this is for: without a sign, the gateway takes it for unused.
async fn leases_alone_stop_what_is_in_use_past_the_gateway(bench: Bench, program: PathBuf) {
    // So long that the stream has surely begun.
    let house = house(&bench, &program, r#"stop_after("5s")"#).await;
    let sample = lasting(&house);
    let id = house.awake(&sample).await;
    let events = stream(&house, &sample).await;
    house
        .gateway
        .client
        .until_phase(sample.name(), "stopped")
        .await;
    assert!(bench.output(&id).await.contains("ends: SIGTERM"));
    drop(events);
}
