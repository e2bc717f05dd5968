//! What is special to the fake; what all runtimes share stands in tests/conformance.rs.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use super::*;
use crate::config::Secret;
use crate::names::WorkloadName;
use crate::runtime::{PullProgress, Runtime};

fn fake_with_a() -> (Fake, InstanceId) {
    let fake = Fake::new();
    let a = WorkloadName::new("a").unwrap();
    let id = fake.add(WorkloadSpec::new(a, "image:1"));
    (fake, id)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn delays_follow_the_paused_clock() {
    let (fake, id) = fake_with_a();
    fake.behave("a", |a| {
        a.start_delay = SECOND;
        a.stop_delay = 3 * SECOND;
    });
    let begin = Instant::now();
    fake.start(&id).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 1);
    fake.stop(&id, 10 * SECOND).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 4);
    let exit_code = Some(0);
    assert_eq!(
        fake.get("a").unwrap().state,
        InstanceState::Stopped { exit_code }
    );

    fake.start(&id).await.unwrap();
    fake.stop(&id, SECOND).await.unwrap();
    assert_eq!(
        begin.elapsed().as_secs(),
        6,
        "past its grace time it is killed"
    );
    let exit_code = Some(KILLED);
    assert_eq!(
        fake.get("a").unwrap().state,
        InstanceState::Stopped { exit_code }
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_nobody_waits_for_any_more_goes_on() {
    let (fake, id) = fake_with_a();
    fake.behave("a", |a| a.start_delay = 5 * SECOND);
    assert!(timeout(SECOND, fake.start(&id)).await.is_err());
    assert!(!fake.is_running("a"));
    fake.wait_until(|fake| fake.is_running("a")).await;
    // One that is asked to start twice runs once.
    fake.start(&id).await.unwrap();
    assert_eq!((fake.starts("a"), fake.runs_begun("a")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_held_start_runs_when_it_is_let_go_or_fails_as_told() {
    let (fake, id) = fake_with_a();
    fake.behave("a", |a| a.start_held = true);
    assert!(timeout(60 * SECOND, fake.start(&id)).await.is_err());
    fake.behave("a", |a| a.start_held = false);
    fake.wait_until(|fake| fake.is_running("a")).await;

    fake.stop(&id, SECOND).await.unwrap();
    let refused = RuntimeError::Refused("no such device".to_owned());
    fake.behave("a", |a| a.start_error = Some(refused.clone()));
    assert_eq!(fake.start(&id).await, Err(refused));
    assert!(!fake.is_running("a"));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_away_ends_the_streams_and_its_containers_live_on() {
    let (fake, id) = fake_with_a();
    fake.start(&id).await.unwrap();
    let mut events = fake.events().await.unwrap();
    fake.set_reachable(false);
    assert_eq!(events.next().await, None);
    let unreachable = |error| matches!(error, RuntimeError::Unreachable(_));
    assert!(unreachable(fake.list().await.unwrap_err()));
    assert!(unreachable(fake.stop(&id, SECOND).await.unwrap_err()));
    assert!(fake.is_running("a"));
    fake.exit("a", 3);
    fake.set_reachable(true);
    let exit_code = Some(3);
    assert_eq!(
        fake.inspect(&id).await.unwrap().state,
        InstanceState::Stopped { exit_code }
    );
}

#[tokio::test(start_paused = true)]
async fn the_hook_sees_the_start_before_the_event_is_sent() {
    let (fake, _) = fake_with_a();
    let mut events = fake.events().await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    fake.on_start({
        let (fake, seen) = (fake.clone(), seen.clone());
        move |instance| {
            let running = fake.is_running("a");
            seen.lock().push((instance.address, running));
        }
    });
    fake.start_outside("a");
    assert_eq!(
        *seen.lock(),
        [(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), true)]
    );
    let event = events.next().await.unwrap();
    assert_eq!(event.kind, EngineEventKind::Started);
    assert!(fake.calls().iter().all(|call| *call == Call::Events));
}

#[tokio::test(start_paused = true)]
async fn one_that_exits_by_itself_takes_only_its_own_run_with_it() {
    let (fake, id) = fake_with_a();
    fake.behave("a", |a| a.exits_after = Some((10 * SECOND, 7)));
    fake.start(&id).await.unwrap();
    fake.stop(&id, SECOND).await.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    let begin = Instant::now();
    fake.start(&id).await.unwrap();
    fake.wait_until(|fake| !fake.is_running("a")).await;
    assert_eq!(begin.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_pull_brings_a_missing_image_and_one_that_is_dropped_does_not() {
    let fake = Fake::new();
    fake.without_image("shop:1");
    assert_eq!(fake.image("shop:1").await, Ok(None));
    fake.behave_pull("shop:1", |pull| pull.delay = 4 * SECOND);
    let told = Mutex::new(Vec::new());
    let progress = |it: PullProgress| told.lock().push((it.bytes_done, it.bytes_total));
    let given_up = timeout(SECOND, fake.pull("shop:1", None, &progress)).await;
    assert!(given_up.is_err());
    tokio::time::sleep(10 * SECOND).await;
    assert!(!fake.has_image("shop:1"));

    told.lock().clear();
    let begin = Instant::now();
    fake.pull("shop:1", None, &progress).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 4);
    let all = PullBehaviour::default().bytes;
    assert_eq!(*told.lock(), [(0, all), (all / 2, all), (all, all)]);
    let facts = fake.image("shop:1").await.unwrap().unwrap();
    assert_ne!(Some(facts), fake.image("shop:2").await.unwrap());
    assert_eq!(fake.pulls("shop:1"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_held_pull_ends_when_it_is_let_go_and_fails_as_told() {
    let fake = Fake::new();
    fake.without_image("shop:1");
    fake.behave_pull("shop:1", |pull| {
        pull.held = true;
        pull.error = Some(RuntimeError::RegistryDenied("who?".to_owned()));
    });
    let pull = fake.pull("shop:1", None, &|_| {});
    tokio::pin!(pull);
    assert!(timeout(60 * SECOND, &mut pull).await.is_err());
    fake.behave_pull("shop:1", |pull| pull.held = false);
    let denied = RuntimeError::RegistryDenied("who?".to_owned());
    assert_eq!(pull.await, Err(denied));
    assert!(!fake.has_image("shop:1"));
    fake.behave_pull("shop:1", |pull| pull.error = None);
    let credentials = RegistryCredentials::IdentityToken(Secret("t".to_owned()));
    fake.pull("shop:1", Some(&credentials), &|_| {})
        .await
        .unwrap();
    let asked = Call::Pull {
        image: "shop:1".to_owned(),
        credentials: Some(credentials),
    };
    assert_eq!(fake.count(&asked), 1);
}

#[tokio::test(start_paused = true)]
async fn an_archive_brings_its_images_and_a_used_one_stays() {
    let (fake, id) = fake_with_a();
    fake.without_image("shop:1");
    let loaded = fake.load(Fake::archive(&["shop:1", "shop:2"])).await;
    assert_eq!(loaded.unwrap(), ["shop:1", "shop:2"]);
    assert!(fake.has_image("shop:1"));
    let broken = io::Error::other("the store is away");
    let parts = [Ok(Bytes::from_static(b"shop:3")), Err(broken)];
    match fake.load(futures_util::stream::iter(parts).boxed()).await {
        Err(RuntimeError::Failed(words)) => assert!(words.contains("the store is away"), "{words}"),
        other => panic!("{other:?}"),
    }
    let full = RuntimeError::Failed("no space left".to_owned());
    fake.fail_loads(Some(full.clone()));
    assert_eq!(fake.load(Fake::archive(&["shop:4"])).await, Err(full));

    assert_eq!(fake.remove_image("image:1").await, Ok(false));
    fake.remove(&id).await.unwrap();
    assert_eq!(fake.remove_image("image:1").await, Ok(true));
    assert!(!fake.has_image("image:1"));
    assert_eq!(fake.remove_image("image:1").await, Ok(true));
}
