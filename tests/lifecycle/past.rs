//! Workloads that are used past the gateway: what their sign tells keeps them awake.

use std::time::Duration;

use wakegate::decision::{BusySign, IdleRule, Sleep};
use wakegate::runtime::fake::{Call, Fake};
use wakegate::spec::WorkloadSpec;

use crate::{Bench, SECOND, name};

fn by_sent_bytes(after: Duration) -> IdleRule {
    IdleRule::UnlessBusy {
        sleep: Sleep::Stopped,
        after,
        sign: BusySign::SentBytes,
    }
}

#[tokio::test(start_paused = true)]
async fn what_sends_bytes_past_the_gateway_stays_awake_and_sleeps_when_it_is_silent() {
    let bench = Bench::new();
    *bench.rules.idle.lock() = by_sent_bytes(60 * SECOND);
    drop(bench.lease().await);
    for _ in 0..60 {
        tokio::time::sleep(30 * SECOND).await;
        assert!(bench.fake.is_running("a"));
        bench.fake.send_bytes("a", 1);
    }
    let silent = tokio::time::Instant::now();
    bench.fake.wait_until(|fake| !fake.is_running("a")).await;
    let slept = silent.elapsed();
    assert!((60 * SECOND..=75 * SECOND).contains(&slept), "{slept:?}");
    assert_eq!(bench.fake.stops("a"), 1);
    // Four looks in each idle time and no more.
    let asked = bench.fake.count(&Call::SentBytes("a".to_owned()));
    assert!(asked <= 4 * 32 + 1, "{asked}");
}

#[tokio::test(start_paused = true)]
async fn without_use_it_sleeps_a_quarter_late_at_the_most() {
    let bench = Bench::new();
    *bench.rules.idle.lock() = by_sent_bytes(60 * SECOND);
    drop(bench.lease().await);
    let ended = tokio::time::Instant::now();
    bench.fake.wait_until(|fake| !fake.is_running("a")).await;
    let slept = ended.elapsed();
    assert!((60 * SECOND..=75 * SECOND).contains(&slept), "{slept:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_through_the_gateway_counts_as_ever() {
    let bench = Bench::new();
    *bench.rules.idle.lock() = by_sent_bytes(60 * SECOND);
    let lease = bench.lease().await;
    tokio::time::sleep(600 * SECOND).await;
    assert!(bench.fake.is_running("a"));
    assert_eq!(
        bench.fake.count(&Call::SentBytes("a".to_owned())),
        0,
        "it need not be asked"
    );
    drop(lease);
    bench.fake.wait_until(|fake| !fake.is_running("a")).await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_tell_stops_nothing_and_the_reason_is_shown() {
    let bench = Bench::new();
    *bench.rules.idle.lock() = by_sent_bytes(10 * SECOND);
    drop(bench.lease().await);
    bench.fake.set_reachable(false);
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(bench.fake.stops("a"), 0);
    let view = bench.fleet.view("a").expect("it is known");
    assert_eq!((view.phase, view.idle_stop_seconds), ("ready", Some(10.0)));
    let reason = view.reason.expect("a reason");
    assert!(reason.contains("the fake engine is away"), "{reason}");
    bench.fake.set_reachable(true);
    bench.fake.wait_until(|fake| !fake.is_running("a")).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_traefik_nothing_is_told_of_its_requests_and_nothing_stops() {
    let bench = Bench::new();
    *bench.rules.idle.lock() = IdleRule::UnlessBusy {
        sleep: Sleep::Stopped,
        after: 10 * SECOND,
        sign: BusySign::TraefikRequests,
    };
    drop(bench.lease().await);
    tokio::time::sleep(600 * SECOND).await;
    assert!(bench.fake.is_running("a"));
    let reason = bench.fleet.view("a").expect("it").reason.expect("a reason");
    assert_eq!(reason, "gateway.toml names no api under [traefik]");
}

/// Removes `a`; tells how long that took.
async fn time_of_removal(bench: &Bench) -> Duration {
    let since = tokio::time::Instant::now();
    bench.fleet.remove("a").await.expect("it can be removed");
    since.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_removal_waits_until_nothing_is_sent_any_more() {
    let bench = Bench::new();
    *bench.rules.idle.lock() = by_sent_bytes(600 * SECOND);
    drop(bench.lease().await);
    let fake = bench.fake.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..20 {
            fake.send_bytes("a", 1_000);
            tokio::time::sleep(SECOND / 2).await;
        }
    });
    let took = time_of_removal(&bench).await;
    assert!((11 * SECOND..=14 * SECOND).contains(&took), "{took:?}");
    sending.await.expect("it sent all");
    assert_eq!(bench.fake.stops("a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_removal_of_what_nobody_uses_takes_two_seconds() {
    let bench = Bench::new();
    *bench.rules.idle.lock() = by_sent_bytes(600 * SECOND);
    drop(bench.lease().await);
    let took = time_of_removal(&bench).await;
    assert!((2 * SECOND..4 * SECOND).contains(&took), "{took:?}");
}

/// Beside a Traefik that by its labels routes to it.
fn routed(api: Option<&str>) -> Bench {
    let fake = Fake::new();
    let mut spec = WorkloadSpec::new(name("a"), "image:1");
    let rule = ("traefik.http.routers.a.rule", "PathPrefix(`/a`)");
    spec.labels.insert(rule.0.to_owned(), rule.1.to_owned());
    fake.add(spec);
    let bench = Bench::over(fake, |config| config.traefik.api = api.map(str::to_owned));
    *bench.rules.idle.lock() = IdleRule::Never;
    bench
}

#[tokio::test(start_paused = true)]
async fn where_traefik_routes_a_removal_looks_at_what_is_sent_whatever_the_idle_rule_says() {
    let bench = routed(Some("http://127.0.0.1:1"));
    drop(bench.lease().await);
    assert!(time_of_removal(&bench).await >= 2 * SECOND);
    assert!(bench.fake.count(&Call::SentBytes("a".to_owned())) >= 3);

    let alone = routed(None);
    drop(alone.lease().await);
    assert!(time_of_removal(&alone).await < SECOND);
    assert_eq!(alone.fake.count(&Call::SentBytes("a".to_owned())), 0);
}
