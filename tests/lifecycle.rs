//! The lifecycle as requests and operators see it, over an engine in memory and a paused clock.

#[path = "lifecycle/draining.rs"]
mod draining;
#[path = "lifecycle/past.rs"]
mod past;
#[path = "lifecycle/superseded.rs"]
mod superseded;

#[path = "lifecycle/health.rs"]
mod health;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Map, Value};
use wakegate::clock::Clock;
use wakegate::config::Config;
use wakegate::decision::{
    ContainerFacts, ContainerRules, CreateFrom, IdleRule, ReadyRule, ScriptFailure,
};
use wakegate::lifecycle::fleet::{Ask, Creation, Fleet, OrderError, Refusal};
use wakegate::lifecycle::gate::Lease;
use wakegate::names::WorkloadName;
use wakegate::runtime::fake::{Call, Fake};
use wakegate::runtime::{Health, Runtime, RuntimeError};
use wakegate::spec::WorkloadSpec;

const SECOND: Duration = Duration::from_secs(1);

/// Rules that a test sets, in place of scripts.
struct Rules {
    ready: Mutex<Result<ReadyRule, ScriptFailure>>,
    idle: Mutex<IdleRule>,
}

impl ContainerRules for Rules {
    fn ready(&self, _: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        self.ready.lock().clone().map(Some)
    }

    fn idle(&self, _: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        Ok(Some(self.idle.lock().clone()))
    }

    fn template(
        &self,
        name: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        let Some(Value::String(workload)) = vars.get("name") else {
            return Err(ScriptFailure {
                message: "made.rhai:3:5: no name".into(),
                source_line: None,
            });
        };
        Ok((name == "known").then(|| WorkloadSpec::new(self::name(workload), "image:1")))
    }
}

struct Bench {
    fake: Fake,
    fleet: Arc<Fleet>,
    rules: Arc<Rules>,
}

fn name(name: &str) -> WorkloadName {
    WorkloadName::new(name).unwrap()
}

fn create(template: &str, workload: &str) -> CreateFrom {
    CreateFrom {
        template: template.into(),
        vars: Map::from_iter([("name".to_owned(), Value::from(workload))]),
    }
}

impl Bench {
    fn over(fake: Fake, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let rules = Arc::new(Rules {
            ready: Mutex::new(Ok(ReadyRule::Wait(Duration::from_millis(100)))),
            idle: Mutex::new(IdleRule::StopAfter(60 * SECOND)),
        });
        let runtime: Arc<dyn Runtime> = Arc::new(fake.clone());
        let fleet = Fleet::open(
            &config,
            runtime,
            rules.clone(),
            Clock::new(),
            &mut Registry::default(),
        );
        Self { fake, fleet, rules }
    }

    /// One stopped container `a`.
    fn new() -> Self {
        let fake = Fake::new();
        fake.add(WorkloadSpec::new(name("a"), "image:1"));
        fake.behave("a", |a| a.start_delay = SECOND);
        Self::over(fake, |_| {})
    }

    async fn ask(&self, workload: &str, wait: Duration) -> Result<Lease, Refusal> {
        let workload = name(workload);
        let ask = Ask {
            workload: &workload,
            counts: true,
            wait,
            create: None,
            superseded: None,
        };
        self.fleet.acquire(ask).await
    }

    async fn lease(&self) -> Lease {
        self.ask("a", 60 * SECOND).await.expect("a wakes")
    }

    fn spawn_ask(&self, wait: Duration) -> tokio::task::JoinHandle<Result<Lease, Refusal>> {
        let fleet = self.fleet.clone();
        tokio::spawn(async move {
            let workload = name("a");
            fleet
                .acquire(Ask {
                    workload: &workload,
                    counts: true,
                    wait,
                    create: None,
                    superseded: None,
                })
                .await
        })
    }

    async fn refused_start(&self) -> (String, Duration) {
        match self.ask("a", 60 * SECOND).await {
            Err(Refusal::Failed {
                reason,
                retry_after,
                ..
            }) => (reason.to_string(), retry_after),
            other => panic!("it was to fail: {other:?}"),
        }
    }

    fn phase(&self) -> &'static str {
        self.fleet.view("a").map_or("unknown", |view| view.phase)
    }

    /// Waits until it is so; the paused clock jumps from one thing that is due to the next.
    async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !so(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let limit = tokio::time::timeout(3600 * SECOND, wait).await;
        assert!(limit.is_ok(), "never {what}: a is {}", self.phase());
    }

    async fn until_phase(&self, phase: &str) {
        self.until(phase, |bench| bench.phase() == phase).await;
    }

    async fn until_engine(&self, up: bool) {
        self.until("engine known", |bench| bench.fleet.engine().is_ok() == up)
            .await;
    }
}

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
async fn a_deployment_is_made_started_shown_and_removed() {
    let bench = Bench::over(Fake::new(), |_| {});
    bench.until_engine(true).await;
    let spec = WorkloadSpec::new(name("a"), "image:1");
    let view = bench.fleet.deploy(spec.clone(), true).await.unwrap();
    assert_eq!((view.name.as_str(), view.phase), ("a", "starting"));
    assert_eq!(bench.fleet.view(&view.id).unwrap().name, name("a"));
    let again = bench.fleet.deploy(spec, true).await.unwrap_err();
    assert_eq!(again, OrderError::NameTaken("a".into()));

    let lease = bench.lease().await;
    let fleet = bench.fleet.clone();
    let removal = tokio::spawn(async move { fleet.remove("a").await });
    bench.until_phase("draining").await;
    let refusal = bench.ask("a", SECOND).await.unwrap_err();
    assert_eq!(refusal, Refusal::Unknown(name("a")));
    tokio::time::sleep(5 * SECOND).await;
    assert!(bench.fake.is_running("a"), "a lease is out");
    drop(lease);
    removal.await.unwrap().unwrap();
    assert_eq!(bench.fleet.views(), []);
    assert_eq!(bench.fake.count(&Call::Remove("a".into())), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_before_the_first_listing_waits_for_it_and_leaves_alone_what_has_that_name() {
    let fake = Fake::new();
    let id = fake.add(WorkloadSpec::new(name("a"), "image:1"));
    let bench = Bench::over(fake, |_| {});
    let spec = WorkloadSpec::new(name("a"), "image:1");
    let taken = bench.fleet.deploy(spec, true).await.unwrap_err();
    assert_eq!(taken, OrderError::NameTaken("a".into()));
    assert_eq!(bench.fake.id("a"), id);
    assert_eq!(bench.fake.count(&Call::Create("a".into())), 0);
}

/// Whoever comes first makes it again; the others wait for that one.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_removal_finds_what_a_deployment_makes_right_behind_it() {
    let bench = Bench::over(Fake::new(), |_| {});
    bench.until_engine(true).await;
    let spec = WorkloadSpec::new(name("a"), "image:1");
    bench.fleet.deploy(spec.clone(), true).await.unwrap();
    bench.until_phase("ready").await;
    let lease = bench.lease().await;
    let fleet = bench.fleet.clone();
    let removal = tokio::spawn(async move { fleet.remove("a").await });
    bench.until_phase("draining").await;
    let (workload, known) = (name("a"), create("known", "a"));
    let ask = Ask {
        workload: &workload,
        counts: true,
        wait: 60 * SECOND,
        create: Some(Creation::from(&known)),
        superseded: None,
    };
    let mut asking = std::pin::pin!(bench.fleet.acquire(ask));
    assert!(futures_util::poll!(&mut asking).is_pending());
    drop(lease);
    // It is not looked at while the removal ends and the deployment begins.
    removal.await.unwrap().unwrap();
    bench.fleet.deploy(spec, true).await.unwrap();
    drop(asking.await.expect("it wakes"));
    assert_eq!(bench.fake.starts("a"), 2);
}

/// Who comes between the entry and the order to make it waits for what is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_first_requests_at_once_each_gets_what_one_of_them_makes() {
    const ROUNDS: usize = 1_000;
    let bench = Bench::over(Fake::new(), |_| {});
    *bench.rules.ready.lock() = Ok(ReadyRule::Wait(Duration::ZERO));
    bench.until_engine(true).await;
    for round in 0..ROUNDS {
        let workload = format!("a-{round}");
        let asking = (0..4).map(|_| {
            let (fleet, workload) = (bench.fleet.clone(), name(&workload));
            let known = create("known", workload.as_str());
            tokio::spawn(async move {
                let ask = Ask {
                    workload: &workload,
                    counts: true,
                    wait: 60 * SECOND,
                    create: Some(Creation::from(&known)),
                    superseded: None,
                };
                fleet.acquire(ask).await.map(drop)
            })
        });
        for asked in asking.collect::<Vec<_>>() {
            asked.await.unwrap().expect("it wakes");
        }
        assert_eq!(bench.fake.starts(&workload), 1);
        bench.fleet.remove(&workload).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_without_start_sleeps_until_it_is_wanted() {
    let bench = Bench::over(Fake::new(), |_| {});
    bench.until_engine(true).await;
    let spec = WorkloadSpec::new(name("a"), "image:1");
    assert_eq!(
        bench.fleet.deploy(spec, false).await.unwrap().phase,
        "stopped"
    );
    assert_eq!(bench.fake.starts("a"), 0);
    drop(bench.lease().await);
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
async fn a_deployment_that_cannot_be_made_or_started_leaves_nothing_behind() {
    let fake = Fake::new();
    fake.behave("a", |a| {
        a.start_error = Some(RuntimeError::NetworkMissing("net".into()))
    });
    fake.without_image("image:none");
    fake.add_foreign("c");
    let bench = Bench::over(fake, |_| {});
    bench.until_engine(true).await;
    for (workload, image, expected) in [
        ("a", "image:1", OrderError::NetworkMissing("net".into())),
        (
            "b",
            "image:none",
            OrderError::ImageMissing("image:none".into()),
        ),
        ("c", "image:1", OrderError::NameTaken("c".into())),
    ] {
        let spec = WorkloadSpec::new(name(workload), image);
        assert_eq!(bench.fleet.deploy(spec, true).await, Err(expected));
    }
    assert_eq!(bench.fleet.views(), []);
    assert_eq!(bench.fake.list().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_specification_that_asks_for_too_much_is_refused_before_anything_is_made() {
    let bench = Bench::over(Fake::new(), |_| {});
    bench.until_engine(true).await;
    let mut spec = WorkloadSpec::new(name("a"), "image:1");
    spec.privileged = true;
    let refused = bench.fleet.deploy(spec, true).await.unwrap_err();
    assert!(
        matches!(refused, OrderError::NotAllowed(refusals) if refusals[0].field == "privileged")
    );
    assert_eq!(bench.fake.count(&Call::Create("a".into())), 0);
}

#[tokio::test(start_paused = true)]
async fn an_operator_starts_it_also_in_its_backoff_and_may_wait_for_readiness() {
    let bench = Bench::new();
    bench.fake.behave("a", |a| {
        a.start_error = Some(RuntimeError::Failed("no space".into()))
    });
    bench.refused_start().await;
    bench.until_phase("failed").await;
    bench.fake.behave("a", |a| a.start_error = None);
    assert_eq!(
        bench.fleet.start("a", None).await.unwrap().phase,
        "starting"
    );
    assert_eq!(
        bench
            .fleet
            .start("a", Some(60 * SECOND))
            .await
            .unwrap()
            .phase,
        "ready"
    );
    assert_eq!(bench.fleet.start("a", None).await.unwrap().phase, "ready");
    let error = bench.fleet.start("nobody", None).await.unwrap_err();
    assert_eq!(error, OrderError::Unknown("nobody".into()));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_made_once_when_the_decision_says_how() {
    let bench = Bench::over(Fake::new(), |_| {});
    let workload = name("a");
    let known = create("known", "a");
    let ask = || Ask {
        workload: &workload,
        counts: true,
        wait: 60 * SECOND,
        create: Some(Creation::from(&known)),
        superseded: None,
    };
    let (one, two) = tokio::join!(bench.fleet.acquire(ask()), bench.fleet.acquire(ask()));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(bench.fake.count(&Call::Create("a".into())), 1);
    assert_eq!(bench.fake.starts("a"), 1);
    drop((one, two));

    bench.fake.remove_outside("a");
    bench.until_phase("unknown").await;
    assert!(bench.fleet.acquire(ask()).await.is_ok(), "made again");

    let other = name("b");
    let no_vars = CreateFrom {
        template: "known".into(),
        vars: Map::new(),
    };
    for (create, expected) in [
        (create("unknown", "b"), "no template"),
        (create("known", "c"), "names the workload"),
        (no_vars, "made.rhai:3:5"),
    ] {
        let ask = Ask {
            workload: &other,
            counts: true,
            wait: SECOND,
            create: Some(Creation::from(&create)),
            superseded: None,
        };
        let refusal = bench.fleet.acquire(ask).await.unwrap_err();
        assert!(refusal.to_string().contains(expected), "{refusal}");
    }
}

/// Scripts that were exchanged for others since they decided.
struct Former;

impl ContainerRules for Former {
    fn ready(&self, _: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        Ok(None)
    }

    fn idle(&self, _: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        Ok(None)
    }

    fn template(
        &self,
        name: &str,
        _: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        Ok((name == "former").then(|| WorkloadSpec::new(self::name("a"), "image:former")))
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_made_is_made_as_those_scripts_say_that_decided() {
    let bench = Bench::over(Fake::new(), |_| {});
    let (workload, from) = (name("a"), create("former", "a"));
    let ask = |by| Ask {
        workload: &workload,
        counts: true,
        wait: 60 * SECOND,
        create: Some(Creation::template(&from, by)),
        superseded: None,
    };
    let refusal = bench.fleet.acquire(ask(None)).await.unwrap_err();
    assert!(refusal.to_string().contains("no template"), "{refusal}");
    assert!(bench.fleet.acquire(ask(Some(&Former))).await.is_ok());
    assert_eq!(bench.fleet.view("a").unwrap().image, "image:former");
}

#[tokio::test(start_paused = true)]
async fn a_request_during_the_removal_makes_it_again_when_it_may() {
    let bench = Bench::new();
    let lease = bench.lease().await;
    let fleet = bench.fleet.clone();
    let removal = tokio::spawn(async move { fleet.remove("a").await });
    bench.until_phase("draining").await;
    let (workload, known) = (name("a"), create("known", "a"));
    let ask = Ask {
        workload: &workload,
        counts: true,
        wait: 60 * SECOND,
        create: Some(Creation::from(&known)),
        superseded: None,
    };
    let release = async {
        tokio::time::sleep(SECOND).await;
        drop(lease);
    };
    let (made, ()) = tokio::join!(bench.fleet.acquire(ask), release);
    assert!(made.is_ok(), "{made:?}");
    assert_eq!(bench.fake.count(&Call::Create("a".into())), 1);
    assert_eq!(removal.await.unwrap(), Ok(()));
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
