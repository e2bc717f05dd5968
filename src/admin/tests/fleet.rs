//! The admin API over the real fleet and an engine in memory: what it promises, end to end.

use prometheus_client::registry::Registry;
use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::decision::{ContainerFacts, ContainerRules, IdleRule, ReadyRule};
use crate::lifecycle::fleet::Fleet;
use crate::runtime::Runtime;
use crate::runtime::fake::Fake;

/// Everything is ready at once, and sleeps after an hour.
struct Rules;

impl ContainerRules for Rules {
    fn ready(&self, _: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        Ok(Some(ReadyRule::Wait(Duration::ZERO)))
    }

    fn idle(&self, _: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        Ok(Some(IdleRule::StopAfter(Duration::from_secs(3600))))
    }

    fn template(
        &self,
        _: &str,
        _: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        Ok(None)
    }
}

/// Returns when the fleet knows what the engine has.
async fn over(fake: &Fake) -> House {
    let mut registry = Registry::default();
    let runtime: Arc<dyn Runtime> = Arc::new(fake.clone());
    let fleet = Fleet::open(
        &Config::default(),
        runtime,
        Arc::new(Rules),
        Clock::new(),
        &mut registry,
    );
    let stage = Stage::new();
    let parts = Parts {
        workloads: fleet,
        registry: Arc::new(registry),
        ..parts(&stage)
    };
    let running = crate::admin::start(&configured(), parts).await.unwrap();
    let house = House { stage, running };
    house.readyz_is(200).await;
    house
}

impl House {
    async fn readyz_is(&self, status: u16) {
        let is_so = async { while self.get("/readyz").await.status != status {} };
        tokio::time::timeout(LIMIT, is_so).await.unwrap();
    }
}

#[tokio::test]
async fn a_workload_is_made_shown_by_its_id_and_removed() {
    let fake = Fake::new();
    let house = over(&fake).await;
    let body = r#"{"name":"a","image":"image:1","port":80,"labels":{"k":"v"}}"#;
    let made = house.post("/deploy", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = fake.id("a").to_string();
    assert_eq!(made.json()["id"], id);
    let ready = house.ask("PUT", "/deploy/a?wait=ready", &[], "").await;
    assert_eq!(
        (ready.status, &ready.json()["state"]),
        (200, &json!("ready"))
    );
    let shown = house.get(&format!("/deploy/{id}")).await.json();
    assert_eq!(
        (&shown["name"], &shown["phase"], &shown["labels"]["k"]),
        (&json!("a"), &json!("ready"), &json!("v"))
    );
    let again = house.ask("PUT", "/deploy/a", &[], "").await;
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(fake.starts("a"), 1);
    let removed = house.ask("DELETE", "/deploy/a", &[], "").await;
    assert_eq!(
        (removed.status, &removed.json()["state"]),
        (200, &json!("removed"))
    );
    assert!(fake.get("a").is_none());
    house
        .get("/deploy/a")
        .await
        .problem(404, "unknown_workload");
}

#[tokio::test]
async fn one_that_is_only_made_is_not_started() {
    let fake = Fake::new();
    let house = over(&fake).await;
    let made = house
        .post("/deploy?start=false", r#"{"name":"a","image":"image:1"}"#)
        .await;
    assert_eq!(
        (made.status, &made.json()["state"]),
        (201, &json!("stopped"))
    );
    assert_eq!(fake.starts("a"), 0);
}

#[tokio::test]
async fn what_the_engine_lacks_is_named_and_nothing_stays_behind() {
    let fake = Fake::new();
    fake.add_foreign("theirs");
    fake.without_image("gone:1");
    fake.without_network("nowhere");
    let house = over(&fake).await;
    for (body, status, kind, word) in [
        (
            r#"{"name":"a","image":"gone:1"}"#,
            422,
            "image_missing",
            "gone:1",
        ),
        (
            r#"{"name":"a","image":"i","network":"nowhere"}"#,
            422,
            "network_missing",
            "nowhere",
        ),
        (
            r#"{"name":"theirs","image":"i"}"#,
            409,
            "name_taken",
            "theirs",
        ),
    ] {
        let detail = house.post("/deploy", body).await.problem(status, kind);
        assert!(detail.contains(word), "{detail}");
    }
    assert_eq!(house.get("/deploy").await.json(), json!({"instances": []}));
    house
        .get("/deploy/theirs")
        .await
        .problem(404, "unknown_workload");
}

#[tokio::test]
async fn a_start_that_fails_or_takes_too_long_says_so() {
    let fake = Fake::new();
    let spec = |name| WorkloadSpec::new(WorkloadName::new(name).unwrap(), "image:1");
    fake.add(spec("broken"));
    fake.behave("broken", |broken| {
        broken.start_error = Some(crate::runtime::RuntimeError::Failed("no space left".into()));
    });
    fake.add(spec("slow"));
    fake.behave("slow", |slow| slow.start_held = true);
    let house = over(&fake).await;
    let failed = house.ask("PUT", "/deploy/broken?wait=ready", &[], "").await;
    assert!(failed.problem(503, "failed").contains("no space left"));
    let target = "/deploy/slow?wait=ready&timeout=20ms";
    let late = house.ask("PUT", target, &[], "").await;
    late.problem(504, "timed_out");
    fake.behave("slow", |slow| slow.start_held = false);
    let ready = house.ask("PUT", "/deploy/slow?wait=ready", &[], "").await;
    assert_eq!(ready.json()["state"], "ready");
    assert_eq!(fake.starts("slow"), 1);
}

#[tokio::test]
async fn while_the_engine_is_away_orders_are_503_and_afterwards_they_work() {
    let fake = Fake::new();
    fake.add(WorkloadSpec::new(
        WorkloadName::new("a").unwrap(),
        "image:1",
    ));
    let house = over(&fake).await;
    fake.set_reachable(false);
    house.readyz_is(503).await;
    let body = r#"{"name":"b","image":"image:1"}"#;
    let refused = house.post("/deploy", body).await;
    refused.problem(503, "engine_unreachable");
    assert_eq!(refused.header("retry-after"), "5");
    assert_eq!(house.get("/deploy/a").await.status, 200);
    fake.set_reachable(true);
    house.readyz_is(200).await;
    assert_eq!(house.post("/deploy", body).await.status, 201);
}
