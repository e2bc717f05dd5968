//! What others do to containers, and an engine that is away.

use wakegate::decision::{IdleRule, ReadyRule};
use wakegate::lifecycle::fleet::Refusal;
use wakegate::runtime::fake::Fake;
use wakegate::spec::WorkloadSpec;

use crate::{Bench, SECOND, name};

#[tokio::test(start_paused = true)]
async fn an_application_that_ends_by_itself_is_noticed_at_once_and_woken_by_the_next_request() {
    let bench = Bench::new();
    drop(bench.lease().await);
    bench.fake.exit("a", 0);
    bench.until_phase("stopped").await;
    drop(bench.lease().await);
    assert_eq!(bench.fake.starts("a"), 2);
    assert_eq!(bench.fake.stops("a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_by_somebody_else_closes_the_way_in_at_the_signal_not_at_the_end() {
    let bench = Bench::new();
    drop(bench.lease().await);
    bench.fake.end_signal("a");
    bench.until_phase("stopping").await;
    assert!(bench.fake.is_running("a"), "it is still on its way out");
    assert!(bench.fleet.acquire_ready(&name("a"), true).is_none());
    let waiting = bench.spawn_ask(60 * SECOND);
    tokio::time::sleep(SECOND).await;
    bench.fake.exit("a", 0);
    drop(waiting.await.unwrap().expect("the next start"));
    assert_eq!(bench.fake.starts("a"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_it_survives_does_not_keep_it_closed() {
    let bench = Bench::new();
    drop(bench.lease().await);
    bench.fake.end_signal("a");
    bench.until_phase("stopping").await;
    bench.until_phase("ready").await;
    assert_eq!(
        bench.fake.starts("a"),
        1,
        "it was taken up again, not started"
    );
}

#[tokio::test(start_paused = true)]
async fn what_runs_already_is_taken_up_and_its_idle_time_begins_then() {
    let fake = Fake::new();
    fake.add(WorkloadSpec::new(name("a"), "image:1"));
    fake.start_outside("a");
    let bench = Bench::over(fake, |_| {});
    bench.until_phase("ready").await;
    drop(bench.lease().await);
    assert_eq!(bench.fake.starts("a"), 0);
    bench.until_phase("stopped").await;
    assert!(!bench.fake.is_running("a"));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_stops_wakes_and_not_service_and_all_resumes_by_itself() {
    let fake = Fake::new();
    for workload in ["a", "b"] {
        fake.add(WorkloadSpec::new(name(workload), "image:1"));
    }
    let bench = Bench::over(fake, |_| {});
    *bench.rules.idle.lock() = IdleRule::Never;
    drop(bench.lease().await);
    bench.fake.set_reachable(false);
    bench.until_engine(false).await;
    drop(bench.lease().await);
    let refusal = bench.ask("b", 60 * SECOND).await.unwrap_err();
    assert!(
        matches!(refusal, Refusal::EngineUnreachable { .. }),
        "{refusal:?}"
    );
    bench.fake.stop_outside("a");
    assert_eq!(bench.phase(), "ready", "nobody could tell that it ended");
    bench.fake.set_reachable(true);
    bench.until_engine(true).await;
    bench.until_phase("stopped").await;
    drop(bench.ask("b", 60 * SECOND).await.expect("b wakes"));
    drop(bench.lease().await);
}

#[tokio::test(start_paused = true)]
async fn a_container_made_anew_under_the_same_name_is_another_endpoint() {
    let bench = Bench::new();
    let first = bench.lease().await.endpoint().serial;
    bench.fake.remove_outside("a");
    bench.until_phase("unknown").await;
    bench.fake.add(WorkloadSpec::new(name("a"), "image:2"));
    bench.until_phase("stopped").await;
    assert_eq!(bench.fleet.view("a").unwrap().image, "image:2");
    assert_ne!(bench.lease().await.endpoint().serial, first);
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_somebody_else_gives_a_new_endpoint() {
    let bench = Bench::new();
    let first = bench.lease().await;
    bench.fake.stop_outside("a");
    bench.fake.start_outside("a");
    bench.until("closed", |_| !first.gate().is_open()).await;
    bench.until_phase("ready").await;
    let second = bench.lease().await;
    assert_ne!(second.endpoint().serial, first.endpoint().serial);
    assert_eq!(bench.fake.starts("a"), 1);
}

/// By `docker stop`, or Compose.
#[tokio::test(start_paused = true)]
async fn what_somebody_stops_while_it_starts_stays_stopped_unless_somebody_waits_for_it() {
    let bench = Bench::new();
    *bench.rules.ready.lock() = Ok(ReadyRule::Wait(10 * SECOND));
    bench.until_engine(true).await;
    // Started by somebody else, by an operator's order, and by a request whose client has left.
    for round in 0..3 {
        match round {
            0 => bench.fake.start_outside("a"),
            1 => drop(bench.fleet.start("a", None).await.unwrap()),
            _ => drop(
                tokio::time::timeout(2 * SECOND, bench.lease())
                    .await
                    .unwrap_err(),
            ),
        }
        bench.until_phase("starting").await;
        bench
            .until("runs", |bench| bench.fake.is_running("a"))
            .await;
        let starts = bench.fake.starts("a");
        bench.fake.stop_outside("a");
        tokio::time::sleep(120 * SECOND).await;
        assert_eq!(bench.phase(), "stopped");
        assert_eq!(bench.fake.starts("a"), starts);
    }
    // Who orders it to be ready is told.
    let fleet = bench.fleet.clone();
    let order = tokio::spawn(async move { fleet.start("a", Some(60 * SECOND)).await });
    bench
        .until("runs", |bench| bench.fake.is_running("a"))
        .await;
    bench.fake.stop_outside("a");
    let error = order.await.unwrap().unwrap_err().to_string();
    assert!(
        error.contains("came to rest before it was ready"),
        "{error}"
    );
    // Who waits for it gets the next start.
    let starts = bench.fake.starts("a");
    let waiting = bench.spawn_ask(60 * SECOND);
    bench
        .until("runs", |bench| bench.fake.is_running("a"))
        .await;
    bench.fake.stop_outside("a");
    drop(waiting.await.unwrap().expect("it wakes"));
    assert_eq!(bench.fake.starts("a"), starts + 2);
}

/// Compose connects a new container to its network although it runs already.
#[tokio::test(start_paused = true)]
async fn what_is_started_without_a_network_is_given_time_to_get_one() {
    let bench = Bench::new();
    bench.until_engine(true).await;
    bench.fake.behave("a", |a| a.off_network = true);
    let waiting = bench.spawn_ask(60 * SECOND);
    bench
        .until("runs", |bench| bench.fake.is_running("a"))
        .await;
    tokio::time::sleep(SECOND).await;
    bench.fake.behave("a", |a| a.off_network = false);
    drop(waiting.await.unwrap().expect("it wakes"));
    assert_eq!((bench.fake.starts("a"), bench.fake.stops("a")), (1, 0));

    // Where none comes, those who wait are told.
    bench.fake.stop_outside("a");
    bench.until_phase("stopped").await;
    bench.fake.behave("a", |a| a.off_network = true);
    let refusal = bench.ask("a", 60 * SECOND).await.unwrap_err().to_string();
    assert!(refusal.contains("is it on a network?"), "{refusal}");
}

/// By Compose: the old one is stopped, renamed or removed, and another one of its name is started.
#[tokio::test(start_paused = true)]
async fn who_waits_for_what_somebody_replaces_gets_its_successor() {
    let bench = Bench::new();
    bench.until_engine(true).await;
    drop(bench.lease().await);
    bench.fake.stop_outside("a");
    bench.until_phase("stopped").await;
    let waiting = bench.spawn_ask(60 * SECOND);
    tokio::time::sleep(SECOND / 4).await;
    bench.fake.remove_outside("a");
    tokio::time::sleep(SECOND / 4).await;
    bench.fake.add(WorkloadSpec::new(name("a"), "image:2"));
    tokio::time::sleep(SECOND / 4).await;
    bench.fake.start_outside("a");
    drop(waiting.await.unwrap().expect("its successor"));
    // Only whoever replaced it has started it.
    assert_eq!(bench.fake.starts("a"), 1);

    // Where none comes, who waits is told, well before its own time is over.
    bench.fake.stop_outside("a");
    bench.until_phase("stopped").await;
    let waiting = bench.spawn_ask(60 * SECOND);
    tokio::time::sleep(SECOND / 4).await;
    bench.fake.remove_outside("a");
    let began = tokio::time::Instant::now();
    let refusal = waiting.await.unwrap().unwrap_err();
    assert!(matches!(refusal, Refusal::Unknown(_)), "{refusal}");
    assert!(began.elapsed() < 5 * SECOND);

    // The name is free meanwhile, for the gateway's own deployment too.
    let spec = WorkloadSpec::new(name("a"), "image:3");
    bench.fleet.deploy(spec.clone(), true).await.unwrap();
    bench.until_phase("ready").await;
    bench.fake.stop_outside("a");
    bench.until_phase("stopped").await;
    let waiting = bench.spawn_ask(60 * SECOND);
    tokio::time::sleep(SECOND / 4).await;
    bench.fake.remove_outside("a");
    tokio::time::sleep(SECOND / 4).await;
    bench.fleet.deploy(spec, false).await.expect("it is free");
    drop(waiting.await.unwrap().expect("what was deployed"));
}

/// A container that somebody makes while requests come for it, such as Compose, which starts it itself.
#[tokio::test(start_paused = true)]
async fn what_somebody_makes_is_left_to_them_for_a_moment_before_it_is_started() {
    let bench = Bench::over(Fake::new(), |_| {});
    bench.until_engine(true).await;
    bench.fake.add(WorkloadSpec::new(name("a"), "image:1"));
    bench.until_phase("stopped").await;
    let waiting = bench.spawn_ask(60 * SECOND);
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(bench.fake.starts("a"), 0);
    drop(waiting.await.unwrap().expect("it wakes all the same"));
    assert_eq!(bench.fake.starts("a"), 1);
}
