//! Waking for requests, and falling asleep when nothing is used.

use wakegate::decision::{IdleRule, ReadyRule};
use wakegate::lifecycle::fleet::Refusal;
use wakegate::runtime::Health;
use wakegate::runtime::fake::{Call, Fake};
use wakegate::spec::WorkloadSpec;

use crate::{Bench, SECOND, name};

#[tokio::test(start_paused = true)]
async fn a_request_wakes_what_sleeps_and_many_requests_start_it_once() {
    let bench = Bench::new();
    let asks: Vec<_> = (0..100).map(|_| bench.spawn_ask(60 * SECOND)).collect();
    let mut serials = Vec::new();
    for ask in asks {
        serials.push(ask.await.unwrap().expect("a lease").endpoint().serial);
    }
    serials.dedup();
    assert_eq!(serials.len(), 1, "all got the same run");
    assert_eq!(bench.fake.starts("a"), 1);
}

#[tokio::test(start_paused = true)]
async fn it_sleeps_when_nothing_used_it_for_the_time_and_not_while_a_lease_is_out() {
    let bench = Bench::new();
    let lease = bench.lease().await;
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(bench.phase(), "ready", "a lease keeps it awake");
    drop(lease);
    tokio::time::sleep(59 * SECOND).await;
    assert_eq!(bench.phase(), "ready");
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(bench.phase(), "stopped");
    assert!(!bench.fake.is_running("a"));
    assert_eq!(bench.fake.stops("a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_changed_idle_rule_counts_for_what_is_awake_already() {
    let bench = Bench::new();
    drop(bench.lease().await);
    *bench.rules.idle.lock() = IdleRule::Never;
    bench.fleet.rules_changed().await;
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(bench.phase(), "ready");

    // It has been unused for longer than the new rule allows.
    *bench.rules.idle.lock() = IdleRule::StopAfter(60 * SECOND);
    bench.fleet.rules_changed().await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.phase(), "stopped");
    assert_eq!(bench.fake.stops("a"), 1);

    // What sleeps is asked when it starts.
    *bench.rules.idle.lock() = IdleRule::StopAfter(5 * SECOND);
    bench.fleet.rules_changed().await;
    assert_eq!(bench.phase(), "stopped");
    drop(bench.lease().await);
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!(bench.phase(), "ready");
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(bench.phase(), "stopped");
}

#[tokio::test(start_paused = true)]
async fn an_idle_rule_that_changes_during_the_start_counts_for_that_start() {
    let bench = Bench::new();
    *bench.rules.ready.lock() = Ok(ReadyRule::Wait(10 * SECOND));
    let ask = bench.spawn_ask(60 * SECOND);
    // Started, and not ready yet.
    bench
        .until("running", |bench| bench.fake.is_running("a"))
        .await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.phase(), "starting");
    *bench.rules.idle.lock() = IdleRule::StopAfter(5 * SECOND);
    bench.fleet.rules_changed().await;
    drop(ask.await.unwrap().expect("a wakes"));
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(bench.phase(), "stopped");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_does_not_count_does_not_put_sleep_off() {
    let bench = Bench::new();
    drop(bench.lease().await);
    for _ in 0..59 {
        tokio::time::sleep(SECOND).await;
        drop(
            bench
                .fleet
                .acquire_ready(&name("a"), false)
                .expect("it is ready"),
        );
    }
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(bench.phase(), "stopped");
}

#[tokio::test(start_paused = true)]
async fn a_request_during_a_stop_waits_for_it_and_gets_the_new_start() {
    let bench = Bench::new();
    bench.fake.behave("a", |a| a.stop_delay = 5 * SECOND);
    let first = bench.lease().await.endpoint().serial;
    bench.until_phase("stopping").await;
    assert!(
        bench.fleet.acquire_ready(&name("a"), true).is_none(),
        "the way in is closed"
    );
    let second = bench.lease().await;
    assert_ne!(second.endpoint().serial, first);
    assert_eq!((bench.fake.starts("a"), bench.fake.stops("a")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_over_leaves_the_wake_going_on() {
    let bench = Bench::new();
    let refusal = bench.ask("a", SECOND / 2).await.unwrap_err();
    assert_eq!(
        refusal,
        Refusal::TimedOut {
            workload: name("a"),
            waited: SECOND / 2
        }
    );
    bench.until_phase("ready").await;
    assert_eq!(bench.fake.starts("a"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_those_who_gave_up_take_no_place() {
    let fake = Fake::new();
    fake.add(WorkloadSpec::new(name("a"), "image:1"));
    fake.behave("a", |a| a.start_delay = 10 * SECOND);
    let bench = Bench::over(fake, |config| config.hold.queue_max = 2);
    let first = bench.spawn_ask(60 * SECOND);
    let second = bench.spawn_ask(60 * SECOND);
    bench.until_phase("starting").await;
    let full = bench.ask("a", SECOND).await.unwrap_err();
    assert!(matches!(full, Refusal::QueueFull { .. }), "{full:?}");
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    let third = bench.spawn_ask(60 * SECOND);
    assert!(first.await.unwrap().is_ok());
    assert!(third.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_total_of_held_requests_is_bounded_too() {
    let fake = Fake::new();
    for workload in ["a", "b"] {
        fake.add(WorkloadSpec::new(name(workload), "image:1"));
        fake.behave(workload, |a| a.start_delay = 10 * SECOND);
    }
    let bench = Bench::over(fake, |config| config.hold.total_max = 1);
    let first = bench.spawn_ask(60 * SECOND);
    bench.until_phase("starting").await;
    let full = bench.ask("b", SECOND).await.unwrap_err();
    assert!(matches!(full, Refusal::QueueFull { .. }), "{full:?}");
    assert!(first.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn readiness_comes_from_the_engines_own_check_when_the_rule_says_so() {
    let bench = Bench::new();
    *bench.rules.ready.lock() = Ok(ReadyRule::Health { max: 50 * SECOND });
    bench
        .fake
        .behave("a", |a| a.health_at_start = Some(Health::Starting));
    let waiting = bench.spawn_ask(60 * SECOND);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(bench.phase(), "starting");
    bench.fake.set_health("a", Some(Health::Healthy));
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn requests_before_the_first_listing_wait_for_it_and_strangers_are_unknown() {
    let bench = Bench::new();
    assert!(
        bench.fleet.engine().is_err(),
        "nothing has run yet: the engine was not even asked"
    );
    drop(bench.lease().await);
    let refusal = bench.ask("nobody", SECOND).await.unwrap_err();
    assert_eq!(refusal, Refusal::Unknown(name("nobody")));
}

#[tokio::test(start_paused = true)]
async fn it_pauses_instead_of_stopping_and_wakes_by_unpausing() {
    let bench = Bench::new();
    *bench.rules.idle.lock() = IdleRule::PauseAfter(5 * SECOND);
    drop(bench.lease().await);
    bench.until_phase("paused").await;
    drop(bench.lease().await);
    assert_eq!(bench.fake.starts("a"), 1);
    assert_eq!(bench.fake.count(&Call::Unpause("a".into())), 1);
}

#[tokio::test(start_paused = true)]
async fn starts_at_once_are_capped_and_the_oldest_request_goes_first() {
    let fake = Fake::new();
    let names: Vec<String> = (0..6).map(|n| format!("w{n}")).collect();
    for workload in &names {
        fake.add(WorkloadSpec::new(name(workload), "image:1"));
        fake.behave(workload, |w| w.start_delay = SECOND);
    }
    let bench = Bench::over(fake, |config| config.lifecycle.parallel_starts = 2);
    bench.until_engine(true).await;
    let begun = tokio::time::Instant::now();
    let waits = names
        .iter()
        .map(|workload| bench.ask(workload, 60 * SECOND));
    let leases = futures_util::future::join_all(waits).await;
    assert!(leases.iter().all(Result::is_ok));
    assert_eq!(begun.elapsed().as_secs(), 3, "three rounds of two");
    let started = |call| match call {
        Call::Start(name) => Some(name),
        _ => None,
    };
    let started: Vec<String> = bench.fake.calls().into_iter().filter_map(started).collect();
    assert_eq!(started, names);
}

#[tokio::test(start_paused = true)]
async fn a_drain_has_a_limit() {
    let bench = Bench::new();
    let lease = bench.lease().await;
    let begun = tokio::time::Instant::now();
    bench.fleet.remove("a").await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!(bench.fleet.views(), []);
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn a_nudge_wakes_without_waiting_and_tells_of_a_failure() {
    let bench = Bench::new();
    bench.until_engine(true).await;
    bench.fleet.nudge(&name("a"), None, None).unwrap();
    assert_eq!(bench.phase(), "starting");
    bench.until_phase("ready").await;
    bench.fleet.nudge(&name("a"), None, None).unwrap();
    assert_eq!(bench.fake.starts("a"), 1);
    let unknown = bench.fleet.nudge(&name("nobody"), None, None).unwrap_err();
    assert_eq!(unknown, Refusal::Unknown(name("nobody")));
    bench.fake.exit("a", 1);
    bench.until_phase("failed").await;
    assert!(matches!(
        bench.fleet.nudge(&name("a"), None, None),
        Err(Refusal::Failed { .. })
    ));
}
