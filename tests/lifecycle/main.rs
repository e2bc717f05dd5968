//! The lifecycle as requests and operators see it, over an engine in memory and a paused clock.

mod deploying;
mod draining;
mod failing;
mod health;
mod outside;
mod past;
mod superseded;
mod waking;

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
use wakegate::lifecycle::fleet::{Ask, Creation, Fleet, Refusal};
use wakegate::lifecycle::gate::Lease;
use wakegate::names::WorkloadName;
use wakegate::runtime::Runtime;
use wakegate::runtime::fake::{Call, Fake};
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

/// What a request asks for; what else it says goes before `..`.
fn asking<'a>(workload: &'a WorkloadName, create: Option<Creation<'a>>) -> Ask<'a> {
    Ask {
        workload,
        counts: true,
        wait: 60 * SECOND,
        create,
        superseded: None,
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
        let ask = asking(&workload, None);
        self.fleet.acquire(Ask { wait, ..ask }).await
    }

    async fn lease(&self) -> Lease {
        self.ask("a", 60 * SECOND).await.expect("a wakes")
    }

    fn spawn_ask(&self, wait: Duration) -> tokio::task::JoinHandle<Result<Lease, Refusal>> {
        let fleet = self.fleet.clone();
        tokio::spawn(async move {
            let workload = name("a");
            let ask = asking(&workload, None);
            fleet.acquire(Ask { wait, ..ask }).await
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
