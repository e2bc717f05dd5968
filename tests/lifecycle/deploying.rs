//! Deployments, removals, and what a request makes.

use std::time::Duration;

use serde_json::{Map, Value};
use wakegate::decision::{
    ContainerFacts, ContainerRules, CreateFrom, IdleRule, ReadyRule, ScriptFailure,
};
use wakegate::lifecycle::fleet::{Ask, Creation, OrderError, Refusal};
use wakegate::runtime::fake::{Call, Fake};
use wakegate::runtime::{Runtime, RuntimeError};
use wakegate::spec::WorkloadSpec;

use crate::{Bench, SECOND, asking, create, name};

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
    let ask = asking(&workload, Some(Creation::from(&known)));
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
                let ask = asking(&workload, Some(Creation::from(&known)));
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
    let ask = || asking(&workload, Some(Creation::from(&known)));
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
            wait: SECOND,
            ..asking(&other, Some(Creation::from(&create)))
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
    let ask = |by| asking(&workload, Some(Creation::template(&from, by)));
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
    let ask = asking(&workload, Some(Creation::from(&known)));
    let release = async {
        tokio::time::sleep(SECOND).await;
        drop(lease);
    };
    let (made, ()) = tokio::join!(bench.fleet.acquire(ask), release);
    assert!(made.is_ok(), "{made:?}");
    assert_eq!(bench.fake.count(&Call::Create("a".into())), 1);
    assert_eq!(removal.await.unwrap(), Ok(()));
}
