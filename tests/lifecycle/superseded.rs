//! Requests that turn out to be meant for another workload while they wait, or before.

use tokio_util::sync::CancellationToken;

use super::*;

fn ask<'a>(
    workload: &'a WorkloadName,
    create: Option<&'a WorkloadSpec>,
    superseded: &'a CancellationToken,
) -> Ask<'a> {
    Ask {
        superseded: Some(superseded),
        ..asking(workload, create.map(Creation::spec))
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_superseded_before_it_asks_wakes_and_makes_nothing() {
    let bench = Bench::new();
    bench.until_engine(true).await;
    let superseded = CancellationToken::new();
    superseded.cancel();
    let (known, unknown) = (name("a"), name("b"));
    let spec = WorkloadSpec::new(unknown.clone(), "image:1");
    for (workload, create) in [(&known, None), (&unknown, Some(&spec))] {
        let refusal = bench
            .fleet
            .acquire(ask(workload, create, &superseded))
            .await
            .unwrap_err();
        assert_eq!(refusal, Refusal::Superseded(workload.clone()));
        let create = create.map(Creation::spec);
        let nudged = bench.fleet.nudge(workload, create, Some(&superseded));
        assert_eq!(nudged, Err(Refusal::Superseded(workload.clone())));
    }
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(bench.fake.starts("a"), 0);
    assert_eq!(bench.fake.count(&Call::Create("b".into())), 0);
    assert_eq!(bench.phase(), "stopped");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_superseded_while_it_waits_is_told_at_once() {
    let bench = Bench::new();
    let superseded = CancellationToken::new();
    let workload = name("a");
    let begun = tokio::time::Instant::now();
    let cancel = async {
        bench
            .until("asked", |bench| bench.phase() == "starting")
            .await;
        superseded.cancel();
    };
    let (refusal, ()) = tokio::join!(
        bench.fleet.acquire(ask(&workload, None, &superseded)),
        cancel
    );
    assert_eq!(refusal.unwrap_err(), Refusal::Superseded(workload));
    assert!(begun.elapsed() < SECOND, "the start takes a second");
}

#[tokio::test(start_paused = true)]
async fn a_request_before_the_first_listing_is_told_too() {
    let fake = Fake::new();
    fake.set_reachable(false);
    let bench = Bench::over(fake, |_| {});
    let (superseded, workload) = (CancellationToken::new(), name("a"));
    let cancel = async { superseded.cancel() };
    let (refusal, ()) = tokio::join!(
        bench.fleet.acquire(ask(&workload, None, &superseded)),
        cancel
    );
    assert_eq!(refusal.unwrap_err(), Refusal::Superseded(workload));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_made_as_its_specification_says_when_that_is_allowed() {
    let bench = Bench::over(Fake::new(), |_| {});
    let (superseded, workload) = (CancellationToken::new(), name("a"));
    let mut privileged = WorkloadSpec::new(workload.clone(), "image:1");
    privileged.privileged = true;
    let another = WorkloadSpec::new(name("c"), "image:1");
    for (spec, expected) in [(privileged, "privileged"), (another, "names the workload")] {
        let refusal = bench
            .fleet
            .acquire(ask(&workload, Some(&spec), &superseded))
            .await
            .unwrap_err();
        assert!(matches!(refusal, Refusal::Failed { .. }), "{refusal:?}");
        assert!(refusal.to_string().contains(expected), "{refusal}");
        let nudged = bench
            .fleet
            .nudge(&workload, Some(Creation::spec(&spec)), Some(&superseded));
        assert_eq!(nudged, Err(refusal));
    }
    assert_eq!(bench.fake.count(&Call::Create("a".into())), 0);

    let spec = WorkloadSpec::new(workload.clone(), "image:7");
    let lease = bench
        .fleet
        .acquire(ask(&workload, Some(&spec), &superseded))
        .await;
    assert!(lease.is_ok(), "{lease:?}");
    assert_eq!(bench.fake.get("a").unwrap().image, "image:7");

    let other = WorkloadSpec::new(name("b"), "image:8");
    bench
        .fleet
        .nudge(&other.name, Some(Creation::spec(&other)), Some(&superseded))
        .unwrap();
    bench.fake.wait_until(|fake| fake.starts("b") == 1).await;
    assert_eq!(bench.fake.get("b").unwrap().image, "image:8");
}
