//! Workloads that are told to sleep: who still uses them, who is refused, and who wakes them again.

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::*;

impl Bench {
    fn rest(&self, drain: Duration) {
        assert!(self.fleet.rest(&name("a"), drain), "there is a workload");
    }

    fn drain_seconds_left(&self) -> Option<f64> {
        self.fleet
            .view("a")
            .and_then(|view| view.drain_seconds_left)
    }

    async fn rested(&self) {
        let workload = name("a");
        let rested = self.fleet.rested(&workload);
        tokio::time::timeout(3600 * SECOND, rested)
            .await
            .expect("it comes to rest");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_and_uploads_run_on_and_the_stop_comes_with_the_end_of_the_last() {
    let bench = Bench::new();
    let (upload, stream) = (bench.lease().await, bench.lease().await);
    bench.rest(60 * SECOND);
    assert_eq!(bench.phase(), "draining");
    assert!(bench.fleet.acquire_ready(&name("a"), true).is_none());
    sleep(20 * SECOND).await;
    assert_eq!(bench.drain_seconds_left(), Some(40.0));
    drop(upload);
    sleep(20 * SECOND).await;
    assert_eq!((bench.phase(), bench.fake.stops("a")), ("draining", 0));
    assert!(bench.fake.is_running("a"));

    let ended = Instant::now();
    drop(stream);
    bench.rested().await;
    assert_eq!(
        ended.elapsed(),
        Duration::ZERO,
        "nothing else is waited for"
    );
    assert_eq!((bench.phase(), bench.fake.stops("a")), ("stopped", 1));
    assert!(!bench.fake.is_running("a"));
    assert_eq!(bench.drain_seconds_left(), None);
    sleep(600 * SECOND).await;
    assert_eq!((bench.phase(), bench.fake.starts("a")), ("stopped", 1));
}

#[tokio::test(start_paused = true)]
async fn what_runs_on_beyond_the_limit_is_stopped_then() {
    let bench = Bench::new();
    let stream = bench.lease().await;
    let ordered = Instant::now();
    bench.rest(30 * SECOND);
    let told = stream.gate().draining().await;
    assert_eq!((told, ordered.elapsed()), (30 * SECOND, Duration::ZERO));
    bench.fake.wait_until(|fake| fake.stops("a") == 1).await;
    assert_eq!(ordered.elapsed(), 30 * SECOND);
    bench.rested().await;
    assert!(!bench.fake.is_running("a"));
    // It ends later, and that is nobody's concern.
    drop(stream);
    sleep(600 * SECOND).await;
    assert_eq!((bench.fake.starts("a"), bench.fake.stops("a")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_stops_at_once_and_what_does_not_exist_rests_already() {
    let bench = Bench::new();
    drop(bench.lease().await);
    let ordered = Instant::now();
    bench.rest(30 * SECOND);
    bench.rested().await;
    assert_eq!(ordered.elapsed(), Duration::ZERO);
    assert_eq!(bench.fake.stops("a"), 1);
    bench.rest(30 * SECOND);
    assert_eq!((bench.phase(), bench.fake.stops("a")), ("stopped", 1));

    assert!(!bench.fleet.rest(&name("nobody"), SECOND));
    bench.fleet.rested(&name("nobody")).await;
    bench.fleet.remove("a").await.unwrap();
    assert!(!bench.fleet.rest(&name("a"), SECOND));
    bench.rested().await;
}

#[tokio::test(start_paused = true)]
async fn going_back_during_a_drain_opens_it_at_once_without_a_start() {
    let bench = Bench::new();
    let stream = bench.lease().await;
    bench.rest(30 * SECOND);
    let begun = Instant::now();
    let view = bench.fleet.start("a", Some(60 * SECOND)).await.unwrap();
    assert_eq!((view.phase, view.leases), ("ready", 1));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let request = bench.lease().await;
    assert_ne!(request.endpoint().serial, stream.endpoint().serial);
    assert_eq!(request.endpoint().address, stream.endpoint().address);
    drop(request);

    // Neither the limit of the drain that was broken off stops it, nor its idle time.
    sleep(600 * SECOND).await;
    assert_eq!((bench.phase(), bench.fake.stops("a")), ("ready", 0));
    // And the next drain waits for what was there before the first.
    bench.rest(30 * SECOND);
    sleep(29 * SECOND).await;
    assert_eq!((bench.phase(), bench.fake.stops("a")), ("draining", 0));
    drop(stream);
    bench.rested().await;
    assert_eq!((bench.fake.starts("a"), bench.fake.stops("a")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reopened_one_sleeps_when_it_is_idle_counted_from_the_end_of_its_last_stream() {
    let bench = Bench::new();
    let stream = bench.lease().await;
    bench.rest(30 * SECOND);
    drop(bench.lease().await);
    sleep(90 * SECOND).await;
    let ended = Instant::now();
    drop(stream);
    bench.fake.wait_until(|fake| fake.stops("a") == 1).await;
    let idle = ended.elapsed();
    // The idle time is a minute; while it was used it was looked at once a minute.
    assert!((60 * SECOND..=90 * SECOND).contains(&idle), "{idle:?}");
    assert_eq!(bench.fake.starts("a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_means_it_nevertheless_is_not_lost() {
    let bench = Bench::new();
    // During a drain it is opened again.
    let stream = bench.lease().await;
    bench.rest(30 * SECOND);
    let request = bench.lease().await;
    assert_eq!(bench.fake.starts("a"), 1);
    drop((stream, request));

    // While it is stopped, it is started again then.
    bench.fake.behave("a", |a| a.stop_delay = 5 * SECOND);
    bench.rest(30 * SECOND);
    assert_eq!(bench.phase(), "stopping");
    let request = bench.spawn_ask(60 * SECOND);
    drop(request.await.unwrap().expect("the next start"));
    assert_eq!((bench.fake.starts("a"), bench.fake.stops("a")), (2, 1));
    bench.rest(SECOND);
    bench.rested().await;

    // While it starts, that start is broken off, and the next one is its.
    let request = bench.spawn_ask(60 * SECOND);
    bench.until_phase("starting").await;
    bench.rest(SECOND);
    assert_eq!(bench.phase(), "stopping");
    let lease = request.await.unwrap().expect("the next start");
    assert_eq!(lease.gate().leases(), 1);
    assert_eq!(bench.phase(), "ready");
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_a_superseded_one_are_told_and_its_start_ends_in_sleep() {
    let bench = Bench::new();
    let superseded = CancellationToken::new();
    let workload = name("a");
    let ask = || Ask {
        superseded: Some(&superseded),
        ..asking(&workload, None)
    };
    let asked = Instant::now();
    let switch = async {
        bench.until_phase("starting").await;
        // As an application's manager does.
        superseded.cancel();
        bench.rest(30 * SECOND);
        assert_eq!(bench.phase(), "stopping");
    };
    let (one, two, ()) = tokio::join!(
        bench.fleet.acquire(ask()),
        bench.fleet.acquire(ask()),
        switch
    );
    for refused in [one, two] {
        assert_eq!(refused.unwrap_err(), Refusal::Superseded(workload.clone()));
    }
    assert!(asked.elapsed() < SECOND / 2, "the start takes a second");
    bench.rested().await;
    sleep(600 * SECOND).await;
    assert_eq!(bench.phase(), "stopped");
    assert!(!bench.fake.is_running("a"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_overtake_the_start_that_it_ends() {
    let bench = Bench::new();
    bench.fake.behave("a", |a| a.start_held = true);
    let waiting = bench.spawn_ask(60 * SECOND);
    bench.fake.wait_until(|fake| fake.starts("a") == 1).await;
    bench.rest(30 * SECOND);
    waiting.abort();
    sleep(5 * SECOND).await;
    assert_eq!((bench.phase(), bench.fake.stops("a")), ("stopping", 0));
    bench.fake.behave("a", |a| a.start_held = false);
    bench.rested().await;
    assert_eq!((bench.fake.starts("a"), bench.fake.stops("a")), (1, 1));
    assert_eq!(bench.fake.runs_begun("a"), 1);
    assert!(!bench.fake.is_running("a"));
}

#[tokio::test(start_paused = true)]
async fn what_is_being_made_is_made_and_sleeps() {
    let bench = Bench::over(Fake::new(), |_| {});
    let superseded = CancellationToken::new();
    let workload = name("a");
    let spec = WorkloadSpec::new(workload.clone(), "image:1");
    bench.until_engine(true).await;
    bench
        .fleet
        .nudge(&workload, Some(Creation::spec(&spec)), Some(&superseded))
        .unwrap();
    superseded.cancel();
    bench.rest(30 * SECOND);
    bench.rested().await;
    assert_eq!(bench.phase(), "stopped");
    assert_eq!(bench.fake.count(&Call::Create("a".into())), 1);
    assert_eq!(bench.fake.starts("a"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_operator_who_waits_for_a_start_is_told_that_it_was_broken_off() {
    let bench = Bench::new();
    bench.until_engine(true).await;
    bench.fake.behave("a", |a| a.stop_delay = SECOND);
    let fleet = bench.fleet.clone();
    let start = tokio::spawn(async move { fleet.start("a", Some(600 * SECOND)).await });
    bench.until_phase("starting").await;
    let begun = Instant::now();
    bench.rest(30 * SECOND);
    let error = start.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("came to rest"), "{error}");
    assert!(begun.elapsed() < 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_removal_during_a_drain_ends_it_within_its_own_limit() {
    let fake = Fake::new();
    fake.add(WorkloadSpec::new(name("a"), "image:1"));
    let bench = Bench::over(fake, |config| config.lifecycle.drain_timeout = 10 * SECOND);
    let stream = bench.lease().await;
    bench.rest(3600 * SECOND);
    let begun = Instant::now();
    let fleet = bench.fleet.clone();
    let removal = tokio::spawn(async move { fleet.remove("a").await });
    bench.fake.wait_until(|fake| fake.stops("a") == 1).await;
    assert_eq!(begun.elapsed(), 10 * SECOND);
    assert_eq!(removal.await.unwrap(), Ok(()));
    assert_eq!(bench.fake.get("a"), None);
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_at_the_end_of_a_drain_is_asked_until_it_has_stopped_it() {
    let bench = Bench::new();
    let stream = bench.lease().await;
    bench.rest(30 * SECOND);
    bench.fake.set_reachable(false);
    drop(stream);
    sleep(60 * SECOND).await;
    assert_eq!(bench.phase(), "stopping");
    bench.fake.set_reachable(true);
    bench.rested().await;
    assert!(!bench.fake.is_running("a"));
    sleep(600 * SECOND).await;
    assert_eq!((bench.phase(), bench.fake.starts("a")), ("stopped", 1));
}
