//! Launches that meet changes of the current release, a store that is slow or broken, and candidates that
//! nobody wants any more.

use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use super::rig::{Rig, SECOND, unknown};
use crate::deploy::manager::DeployError;
use crate::runtime::fake::Call;
use crate::store::Store;

const IMAGE: &str = "localhost:8080/shop:1";

#[tokio::test(start_paused = true)]
async fn a_launch_is_answered_also_when_its_release_becomes_current_meanwhile() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    rig.go_live("2").await;
    rig.asleep(&first).await;
    rig.fake.behave(rig.name(&first).as_str(), |behaviour| {
        behaviour.start_delay = 5 * SECOND;
    });
    let back = async {
        tokio::time::sleep(SECOND).await;
        rig.roll_back().await
    };
    let (launched, back) = tokio::join!(rig.launch(&first), back);
    assert!(launched.unwrap().existing);
    assert_eq!(back.unwrap().hash, first);
    // And is no candidate then.
    let status = rig.status();
    let told = status.releases.iter().find(|told| told.hash == first);
    assert_eq!(told.unwrap().role, "current");
    rig.go_live("3").await;
    rig.asleep(&first).await;
}

#[tokio::test(start_paused = true)]
async fn going_back_joins_a_launch_of_the_release_whose_container_is_gone() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    let name = rig.name(&first);
    rig.fake.remove_outside(name.as_str());
    rig.gone(&first).await;
    rig.fake.without_image(IMAGE);
    rig.fake.behave_pull(IMAGE, |pull| pull.delay = 60 * SECOND);
    let back = async {
        tokio::time::sleep(SECOND).await;
        rig.roll_back().await
    };
    let (launched, back) = tokio::join!(rig.launch(&first), back);
    launched.unwrap();
    assert_eq!(back.unwrap().hash, first);
    assert_eq!(rig.fake.pulls(IMAGE), 1);
    assert_eq!(rig.fake.count(&Call::Create(name.to_string())), 2);
    assert_eq!(rig.current(), Some(first));
    rig.asleep(&second).await;
}

#[tokio::test(start_paused = true)]
async fn going_back_does_not_wait_for_a_store_that_hangs() {
    let (store, objects) = Store::throttled();
    let rig = Rig::over(store, |_| {}).await;
    let first = rig.go_live("1").await;
    rig.go_live("2").await;
    objects.config_mut(|config| {
        config.wait_get_per_call = 600 * SECOND;
        config.wait_list_per_call = 600 * SECOND;
        config.wait_put_per_call = 600 * SECOND;
    });
    let begun = tokio::time::Instant::now();
    let is_back = rig.until(|rig| rig.current() == Some(first.clone()));
    tokio::select! {
        () = is_back => {}
        back = rig.roll_back() => panic!("it is written before it counts: {back:?}"),
    }
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_goes_back_twice_over_a_store_that_hangs_waits_for_neither_and_nothing_is_lost() {
    let (store, objects) = Store::throttled();
    let rig = Rig::over(store, |_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.go_live("3").await;
    let hang = |time| {
        objects.config_mut(|config| {
            config.wait_get_per_call = time;
            config.wait_list_per_call = time;
            config.wait_put_per_call = time;
        });
    };
    hang(600 * SECOND);
    for (release, limit) in [(second, 5 * SECOND), (first.clone(), 10 * SECOND)] {
        let begun = tokio::time::Instant::now();
        let back = rig.roll_back().await.unwrap();
        assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
        assert_eq!((back.hash, back.pending), (release, true));
        assert!(rig.status().pending.is_some());
    }
    hang(Duration::ZERO);
    rig.until(|rig| rig.status().pending.is_none()).await;
    let told: Vec<_> = rig.store.history().await.unwrap();
    assert_eq!(told.len(), 5);
    assert_eq!(told.last().unwrap().hash, first);
    assert_eq!(rig.store.current().await.unwrap().unwrap().hash, first);
}

#[tokio::test(start_paused = true)]
async fn a_start_over_a_store_that_hangs_serves_what_runs_meanwhile() {
    let (store, objects) = Store::throttled();
    let rig = Rig::over(store, |_| {}).await;
    let first = rig.go_live("1").await;
    objects.config_mut(|config| config.wait_get_per_call = 10 * SECOND);
    let begun = tokio::time::Instant::now();
    let rig = rig.restart().await;
    assert_eq!(rig.current(), Some(first.clone()));
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
    // What the store tells in the end is the same.
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(rig.current(), Some(first.clone()));
    assert_eq!(rig.fake.starts(rig.name(&first).as_str()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_cannot_be_read_is_told_and_does_not_stop_a_switch() {
    let (store, objects) = Store::throttled();
    let rig = Rig::over(store, |_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.store("2", &[]).await;
    rig.launch(&second).await.unwrap();
    let broken = PutPayload::from_static(b"[{\"hash\":");
    objects
        .put(&Path::from("history.json"), broken)
        .await
        .unwrap();
    rig.until(|rig| format!("{:?}", rig.status().store.health).contains("history.json"))
        .await;
    rig.switch(&second).await.unwrap();
    assert_eq!(rig.current(), Some(second.clone()));
    let told: Vec<_> = rig.store.history().await.unwrap();
    let told: Vec<_> = told.into_iter().map(|entry| entry.hash).collect();
    assert_eq!(told, [first, second]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_lost_everything_is_told_also_of_a_release_that_is_not_known_here() {
    let (store, objects) = Store::throttled();
    let rig = Rig::over(store, |_| {}).await;
    rig.go_live("1").await;
    objects.delete(&Path::from("current.json")).await.unwrap();
    let error = rig.switch(&unknown()).await.unwrap_err();
    assert!(matches!(error, DeployError::StoreIsLost(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_is_discarded_with_its_image_and_nothing_else_is() {
    let rig = Rig::new(|_| {}).await;
    let refused = |error: DeployError| error.to_string();
    assert!(refused(rig.discard(&unknown()).await.unwrap_err()).contains("not one that"));
    let current = rig.go_live("1").await;
    let candidate = rig.store("2", &[]).await;
    rig.launch(&candidate).await.unwrap();
    assert!(refused(rig.discard(&current).await.unwrap_err()).contains("gets requests"));
    rig.canary(&candidate).await.unwrap();
    assert!(refused(rig.discard(&candidate).await.unwrap_err()).contains("gets requests"));
    rig.roll_back().await.unwrap();
    rig.gone(&candidate).await;

    rig.fake
        .behave_pull("localhost:8080/shop:2", |pull| pull.delay = 10 * SECOND);
    let early = async {
        tokio::time::sleep(SECOND).await;
        rig.discard(&candidate).await
    };
    let (launched, early) = tokio::join!(rig.launch(&candidate), early);
    launched.unwrap();
    let error = early.unwrap_err();
    assert!(matches!(error, DeployError::Launching { .. }), "{error}");
    assert_eq!(rig.discard(&candidate).await.unwrap().revision, "2");
    rig.gone(&candidate).await;
    tokio::time::sleep(60 * SECOND).await;
    assert!(!rig.has_image("localhost:8080/shop:2").await);
    assert!(rig.is_running(&current) || rig.exists(&current));
    // It can be launched anew.
    rig.launch(&candidate).await.unwrap();
    // A previous release that was launched again stays one.
    rig.switch(&candidate).await.unwrap();
    rig.launch(&current).await.unwrap();
    rig.discard(&current).await.unwrap();
    rig.asleep(&current).await;
    assert_eq!(rig.status().previous, Some(current));
}

#[tokio::test(start_paused = true)]
async fn a_candidate_whose_container_somebody_has_removed_is_forgotten_and_failures_do_not_add_up()
{
    let rig = Rig::new(|_| {}).await;
    rig.go_live("1").await;
    let candidate = rig.store("2", &[]).await;
    rig.launch(&candidate).await.unwrap();
    rig.fake.remove_outside(rig.name(&candidate).as_str());
    rig.until(|rig| rig.status().releases.len() == 1).await;
    tokio::time::sleep(60 * SECOND).await;
    assert!(!rig.has_image("localhost:8080/shop:2").await);
    for n in 0..20 {
        let failing = rig.store("3", &[("N", &n.to_string())]).await;
        rig.crashes(&failing, "no");
        rig.launch(&failing).await.unwrap_err();
    }
    tokio::time::sleep(60 * SECOND).await;
    // The current one, and the last failures that are told.
    let managed = rig.manager.managed(None).unwrap();
    assert_eq!(managed.state.lock().known.len(), 6);
}
