//! What does not start, does not answer or ends.

use std::time::Duration;

use wakegate::decision::{ReadyRule, ScriptFailure};
use wakegate::runtime::{Health, RuntimeError};

use crate::{Bench, SECOND};

#[tokio::test(start_paused = true)]
async fn one_that_does_not_get_ready_is_stopped_and_the_waiting_are_told_why() {
    let bench = Bench::new();
    *bench.rules.ready.lock() = Ok(ReadyRule::Health { max: 5 * SECOND });
    bench.fake.behave("a", |a| {
        a.health_at_start = Some(Health::Starting);
        a.stop_delay = SECOND / 2;
    });
    let begun = tokio::time::Instant::now();
    let (reason, _) = bench.refused_start().await;
    assert_eq!(begun.elapsed().as_secs(), 6, "told before the stop is over");
    assert!(reason.contains("not ready within 5s"), "{reason}");
    bench.until_phase("failed").await;
    assert!(!bench.fake.is_running("a"));

    let begun = tokio::time::Instant::now();
    let (_, retry_after) = bench.refused_start().await;
    assert!(begun.elapsed() < SECOND, "the reason comes at once");
    assert!(
        retry_after <= Duration::from_millis(1200),
        "{retry_after:?}"
    );
    assert_eq!(
        bench.fake.starts("a"),
        1,
        "in its backoff it is not started"
    );
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_wait_longer_each_time_and_a_success_forgets_them() {
    let bench = Bench::new();
    let error = Some(RuntimeError::Failed("no space".into()));
    bench.fake.behave("a", |a| a.start_error = error.clone());
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let (reason, retry_after) = bench.refused_start().await;
        assert!(reason.contains("no space"), "{reason}");
        pauses.push(retry_after.as_secs_f64());
        bench.until_phase("stopped").await;
    }
    for (expected, pause) in [1.0, 2.0, 4.0, 8.0].into_iter().zip(&pauses) {
        assert!(
            (expected * 0.79..expected * 1.21).contains(pause),
            "{pauses:?}"
        );
    }
    bench.fake.behave("a", |a| a.start_error = None);
    drop(bench.lease().await);
    bench.until_phase("stopped").await;
    bench.fake.behave("a", |a| a.start_error = error);
    let (_, retry_after) = bench.refused_start().await;
    assert!(retry_after.as_secs_f64() < 1.3, "{retry_after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_soon_after_readiness_counts_as_a_failed_start_and_a_late_one_does_not() {
    let bench = Bench::new();
    drop(bench.lease().await);
    bench.fake.exit("a", 1);
    bench.until_phase("failed").await;
    let (reason, _) = bench.refused_start().await;
    assert!(reason.contains("exited with code 1 soon after"), "{reason}");
    bench.until_phase("stopped").await;
    drop(bench.lease().await);
    tokio::time::sleep(20 * SECOND).await;
    bench.fake.exit("a", 1);
    bench.until_phase("stopped").await;
}

#[tokio::test(start_paused = true)]
async fn one_that_exits_before_it_is_ready_is_told_with_its_code() {
    let bench = Bench::new();
    *bench.rules.ready.lock() = Ok(ReadyRule::Wait(10 * SECOND));
    bench
        .fake
        .behave("a", |a| a.exits_after = Some((SECOND, 3)));
    let (reason, _) = bench.refused_start().await;
    assert!(
        reason.contains("exited with code 3 before it was ready"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_early_twice_in_a_row_has_failed_also_without_an_error() {
    let bench = Bench::new();
    *bench.rules.ready.lock() = Ok(ReadyRule::Wait(10 * SECOND));
    bench
        .fake
        .behave("a", |a| a.exits_after = Some((5 * SECOND, 0)));
    let (reason, _) = bench.refused_start().await;
    assert!(
        reason.contains("exited with code 0 before it was ready"),
        "{reason}"
    );
    assert_eq!(bench.fake.starts("a"), 2);
    bench.fake.behave("a", |a| a.exits_after = None);
    bench.until_phase("stopped").await;
    drop(bench.lease().await);
    assert_eq!(bench.fake.starts("a"), 3);
}

#[tokio::test(start_paused = true)]
async fn one_that_ended_early_once_is_used_when_its_second_start_is_ready() {
    let bench = Bench::new();
    *bench.rules.ready.lock() = Ok(ReadyRule::Wait(10 * SECOND));
    let waiting = bench.spawn_ask(60 * SECOND);
    bench
        .until("running", |bench| bench.fake.is_running("a"))
        .await;
    tokio::time::sleep(SECOND).await;
    bench.fake.exit("a", 0);
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(bench.fake.starts("a"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_ready_rule_that_fails_stops_what_was_started_but_not_what_ran_before() {
    let bench = Bench::new();
    let failure = ScriptFailure {
        message: "ready.rhai:1:1: oh".into(),
        source_line: None,
    };
    *bench.rules.ready.lock() = Err(failure);
    let (reason, _) = bench.refused_start().await;
    assert!(reason.contains("ready.rhai:1:1"), "{reason}");
    bench.until_phase("failed").await;
    assert!(!bench.fake.is_running("a"));

    bench.until_phase("stopped").await;
    bench.fake.start_outside("a");
    bench.until_phase("failed").await;
    assert!(bench.fake.is_running("a"));
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_answer_is_looked_at_and_started_anew_when_it_is_gone() {
    let bench = Bench::new();
    let lease = bench.lease().await;
    // It ends while nobody listens.
    bench.fake.set_reachable(false);
    bench.fake.stop_outside("a");
    bench.fake.set_reachable(true);
    assert_eq!(bench.phase(), "ready");
    bench.fleet.suspect(lease, 80).await;
    assert_ne!(bench.phase(), "ready");
    bench.until_engine(true).await;
    drop(bench.lease().await);
    assert_eq!(bench.fake.starts("a"), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_runs_and_does_not_answer_is_proved_again() {
    let bench = Bench::new();
    let lease = bench.lease().await;
    let first = lease.endpoint().serial;
    bench.fleet.suspect(lease, 80).await;
    assert_eq!(bench.phase(), "starting");
    assert_ne!(bench.lease().await.endpoint().serial, first);
    assert_eq!(bench.fake.starts("a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_port_of_one_route_closes_the_way_for_nobody() {
    let bench = Bench::new();
    bench.fake.behave("a", |a| a.ports = Some(vec![80]));
    let lease = bench.lease().await;
    let first = lease.endpoint().serial;
    bench.fleet.suspect(lease, 81).await;
    assert_eq!(bench.phase(), "ready");
    assert_eq!(bench.lease().await.endpoint().serial, first);
}

#[tokio::test(start_paused = true)]
async fn a_suspected_one_that_ends_while_it_is_proved_is_started_for_those_who_wait() {
    let bench = Bench::new();
    let lease = bench.lease().await;
    *bench.rules.ready.lock() = Ok(ReadyRule::Wait(5 * SECOND));
    bench.fleet.suspect(lease, 80).await;
    let waiting = bench.spawn_ask(60 * SECOND);
    tokio::time::sleep(SECOND).await;
    bench.fake.exit("a", 0);
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(bench.fake.starts("a"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_fails_is_tried_again_and_does_not_lock_requests_out() {
    let bench = Bench::new();
    drop(bench.lease().await);
    bench.fake.behave("a", |a| {
        a.stop_error = Some(RuntimeError::Failed("busy".into()))
    });
    bench.until_phase("stopping").await;
    tokio::time::sleep(5 * SECOND).await;
    assert!(bench.fake.stops("a") > 1, "tried again");
    drop(bench.lease().await);
    assert_eq!(bench.phase(), "ready");
    bench.fake.behave("a", |a| a.stop_error = None);
    bench.until_phase("stopped").await;
    assert!(!bench.fake.is_running("a"));
}
