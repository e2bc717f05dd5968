//! Releases over an engine in memory, a store in memory and a paused clock.

mod keeping;
mod meeting;
mod rig;
mod starting;
mod watching;

use self::rig::{Rig, SECOND};
use super::DeployError;
use crate::config;
use crate::deploy::manager::state::Health;
use crate::deploy::route::Door;
use crate::store::Store;

#[tokio::test(start_paused = true)]
async fn a_release_is_launched_beside_the_current_one_and_switched_to() {
    let rig = Rig::new(|_| {}).await;
    assert_eq!(rig.state(), "none");
    let first = rig.store("1", &[]).await;
    let launched = rig.launch(&first).await.unwrap();
    assert_eq!(
        launched.workload.as_str(),
        format!("shop-1-{}", first.short())
    );
    assert!(rig.is_running(&first));
    // Launching alone changes nothing for requests.
    assert_eq!(rig.state(), "none");
    let switched = rig.switch(&first).await.unwrap();
    assert_eq!(
        (switched.from, switched.unchanged, switched.pending),
        (None, false, false)
    );
    assert_eq!(rig.current(), Some(first.clone()));
    // The store has it too.
    let document = rig.store.current().await.unwrap().unwrap();
    assert_eq!(
        (document.hash, document.by.as_str()),
        (first.clone(), "tester")
    );

    let second = rig.store("2", &[]).await;
    rig.launch(&second).await.unwrap();
    assert!(rig.is_running(&first) && rig.is_running(&second));
    assert_eq!(rig.current(), Some(first.clone()));
    let switched = rig.switch(&second).await.unwrap();
    assert_eq!(switched.from, Some(first.clone()));
    assert_eq!(rig.current(), Some(second.clone()));
    rig.asleep(&first).await;
    assert!(rig.exists(&first) && rig.is_running(&second));
    let history = rig.store.history().await.unwrap();
    let told: Vec<&str> = history
        .iter()
        .map(|entry| entry.revision.as_str())
        .collect();
    assert_eq!(told, ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_does_not_get_healthy_is_removed_and_its_log_is_told() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.store("2", &[]).await;
    rig.crashes(&second, "cannot open the database");
    let error = rig.launch(&second).await.unwrap_err();
    let DeployError::NotHealthy { log, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(log.last().unwrap(), "cannot open the database");
    assert!(!rig.exists(&second));
    assert_eq!(rig.current(), Some(first.clone()));
    assert!(rig.is_running(&first));
    assert_eq!(rig.fake.stops(rig.name(&first).as_str()), 0);
    let status = rig.status();
    assert_eq!(status.failed_launches[0].hash, second);
    assert_eq!(status.failed_launches[0].revision, "2");
    // It can be tried again once it is mended.
    rig.mend(&second);
    rig.launch(&second).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_launches_of_the_same_release_are_one() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.store("1", &[]).await;
    let (one, other) = tokio::join!(rig.launch(&first), rig.launch(&first));
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(rig.fake.starts(rig.name(&first).as_str()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_only_stopped_when_its_last_request_is_done_or_the_limit_is_reached() {
    let rig = Rig::new(|app| app.drain_timeout = 30 * SECOND).await;
    let first = rig.go_live("1").await;
    let lease = rig.lease(&first).await;
    let second = rig.go_live("2").await;
    tokio::time::sleep(29 * SECOND).await;
    assert_eq!(rig.fake.stops(rig.name(&first).as_str()), 0);
    drop(lease);
    rig.asleep(&first).await;

    let lease = rig.lease(&second).await;
    rig.go_live("3").await;
    tokio::time::sleep(29 * SECOND).await;
    assert!(rig.is_running(&second));
    tokio::time::sleep(2 * SECOND).await;
    rig.asleep(&second).await;
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn going_back_wakes_the_release_before_and_needs_no_image() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    rig.fake.without_image("localhost:8080/shop:1");
    let back = rig.roll_back().await.unwrap();
    assert_eq!(
        (back.hash, back.from),
        (first.clone(), Some(second.clone()))
    );
    assert!(rig.is_running(&first));
    assert_eq!(rig.current(), Some(first.clone()));
    rig.asleep(&second).await;
    let error = rig.roll_back().await.unwrap_err();
    assert!(
        matches!(error, DeployError::NothingToGoBackTo { .. }),
        "{error}"
    );
    let history = rig.store.history().await.unwrap();
    assert_eq!(history.last().unwrap().kind.to_string(), "rollback");
}

#[tokio::test(start_paused = true)]
async fn going_back_while_the_old_release_drains_does_not_restart_it() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let lease = rig.lease(&first).await;
    rig.go_live("2").await;
    rig.roll_back().await.unwrap();
    assert_eq!(rig.current(), Some(first.clone()));
    drop(lease);
    tokio::time::sleep(40 * SECOND).await;
    assert_eq!(rig.fake.starts(rig.name(&first).as_str()), 1);
    assert_eq!(rig.fake.stops(rig.name(&first).as_str()), 0);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_release_that_was_left_already_changes_nothing() {
    let rig = Rig::new(|_| {}).await;
    rig.go_live("1").await;
    let second = rig.go_live("2").await;
    let third = rig.go_live("3").await;
    let (one, other) = tokio::join!(rig.leave(&third), rig.leave(&third));
    let refused = one.and(other).unwrap_err();
    assert!(matches!(refused, DeployError::NotCurrent(_)), "{refused}");
    assert_eq!(rig.current(), Some(second));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_lost_everything_takes_no_release_away() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    // As a folder that is not mounted: the gateway ends and finds nothing.
    let rig = rig.restart_with(Store::in_memory()).await;
    rig.until(|rig| rig.current() == Some(second.clone())).await;
    tokio::time::sleep(30 * SECOND).await;
    assert!(rig.exists(&first) && rig.exists(&second));
    assert_eq!(rig.fake.stops(rig.name(&second).as_str()), 0);
    // Nor is it taken for a place to write to, where the next start would not look.
    assert!(matches!(rig.status().store.health, Health::Down { .. }));
    let is_empty = |error: DeployError| matches!(error, DeployError::StoreIsEmpty { .. });
    assert!(is_empty(rig.switch(&first).await.unwrap_err()));
    let configuration = br#"{ "revision": "3", "port": 80 }"#.as_slice();
    let stored = rig.manager.store(&rig.app, configuration.into()).await;
    assert!(is_empty(stored.unwrap_err()));
    assert_eq!(rig.current(), Some(second));
    assert!(rig.store.current().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_release_that_cannot_be_woken_is_not_gone_back_to() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    rig.crashes(&first, "no");
    let error = rig.roll_back().await.unwrap_err();
    assert!(matches!(error, DeployError::NotHealthy { .. }), "{error}");
    assert_eq!(rig.current(), Some(second.clone()));
    assert!(rig.is_running(&second) && rig.exists(&first));
}

#[tokio::test(start_paused = true)]
async fn another_environment_with_the_same_image_is_another_release() {
    let rig = Rig::new(|_| {}).await;
    let one = rig.store("1", &[("A", "1")]).await;
    let other = rig.store("1", &[("A", "2")]).await;
    assert_ne!(one, other);
    for release in [&one, &other] {
        rig.launch(release).await.unwrap();
        rig.switch(release).await.unwrap();
    }
    assert_ne!(rig.name(&one), rig.name(&other));
    assert_eq!(rig.current(), Some(other));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_launched_or_not_known_is_not_switched_to() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.store("2", &[]).await;
    let error = rig.switch(&second).await.unwrap_err();
    assert!(matches!(error, DeployError::NotLaunched { .. }), "{error}");
    let unknown = rig::unknown();
    let error = rig.switch(&unknown).await.unwrap_err();
    assert!(matches!(error, DeployError::Store(_)), "{error}");
    let error = rig.launch(&unknown).await.unwrap_err();
    assert!(matches!(error, DeployError::Store(_)), "{error}");
    assert_eq!(rig.current(), Some(first.clone()));
    assert!(rig.switch(&first).await.unwrap().unchanged);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_gone_back_to_is_not_put_to_sleep_while_it_wakes() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    rig.go_live("2").await;
    rig.asleep(&first).await;
    let going_back = rig.roll_back();
    let tidying = async {
        rig.until(|rig| rig.is_running(&first)).await;
        assert_ne!(rig.current(), Some(first.clone()), "it is not ready yet");
        rig.manager.managed(None).unwrap().tidy().await;
    };
    let (back, ()) = tokio::join!(going_back, tidying);
    back.unwrap();
    assert_eq!(rig.current(), Some(first.clone()));
    assert!(rig.is_running(&first));
}

#[tokio::test(start_paused = true)]
async fn a_canary_leaves_the_current_release_where_it_is_until_it_is_switched_to() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.store("2", &[]).await;
    rig.launch(&second).await.unwrap();
    let switched = rig.canary(&second).await.unwrap();
    assert!(switched.canary);
    assert_eq!(rig.current(), Some(first.clone()));
    assert_eq!(rig.status().canary, Some(second.clone()));
    // Giving it up is a rollback, and takes it away.
    let switched = rig.roll_back().await.unwrap();
    assert_eq!(
        (switched.hash, switched.gave_up),
        (first.clone(), Some(second.clone()))
    );
    assert_eq!(rig.current(), Some(first.clone()));
    assert_eq!(rig.status().canary, None);
    rig.gone(&second).await;

    rig.launch(&second).await.unwrap();
    rig.canary(&second).await.unwrap();
    rig.switch(&second).await.unwrap();
    assert_eq!(rig.current(), Some(second.clone()));
    assert_eq!(rig.status().canary, None);
    rig.asleep(&first).await;
    assert!(rig.is_running(&second));
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_another_release_puts_an_end_to_is_told() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let mut others = Vec::new();
    for revision in ["2", "3", "4", "5"] {
        let other = rig.store(revision, &[]).await;
        rig.launch(&other).await.unwrap();
        others.push(other);
    }
    let told = async |hash, canary| match canary {
        true => rig.canary(hash).await.unwrap().gave_up,
        false => rig.switch(hash).await.unwrap().gave_up,
    };
    assert_eq!(told(&others[0], true).await, None);
    assert_eq!(told(&others[1], true).await, Some(others[0].clone()));
    assert_eq!(told(&others[1], true).await, None, "it is the same one");
    assert_eq!(told(&others[2], false).await, Some(others[1].clone()));
    assert_eq!(told(&others[3], true).await, None);
    assert_eq!(told(&others[3], false).await, None, "it has become current");
    assert_eq!(told(&first, false).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_switch_while_the_application_sleeps_wakes_nothing() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.store("2", &[]).await;
    rig.launch(&second).await.unwrap();
    // Nobody uses either of them.
    rig.asleep(&first).await;
    rig.asleep(&second).await;
    let starts = |hash| rig.fake.starts(rig.name(hash).as_str());
    let before = (starts(&first), starts(&second));
    rig.switch(&second).await.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!((starts(&first), starts(&second)), before);
    assert!(!rig.is_running(&second));
    drop(rig.lease(&second).await);
    assert!(rig.is_running(&second));
}

#[tokio::test(start_paused = true)]
async fn while_the_current_release_is_awake_a_sleeping_one_is_woken_before_it_is_switched_to() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.store("2", &[]).await;
    rig.launch(&second).await.unwrap();
    rig.asleep(&first).await;
    rig.asleep(&second).await;
    let _used = rig.lease(&first).await;
    rig.switch(&second).await.unwrap();
    assert!(rig.is_running(&second));
}

/// Removing takes as long as what still uses it, such as a script that names it.
#[tokio::test(start_paused = true)]
async fn what_is_being_removed_is_not_switched_to_and_keeps_nobody_waiting() {
    let rig = Rig::new(|app| {
        app.keep = 1;
        app.rollback_watch = SECOND;
        // What is put to sleep again has time; what is removed has that of the lifecycle.
        app.drain_timeout = 3_600 * SECOND;
    })
    .await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    let used = rig.lease(&first).await;
    let third = rig.go_live("3").await;
    rig.asleep(&second).await;
    // Longer than the pause between two looks.
    tokio::time::sleep(6 * SECOND).await;
    assert!(rig.is_running(&first));
    let error = rig.switch(&first).await.unwrap_err();
    assert!(matches!(error, DeployError::NotLaunched { .. }), "{error}");
    let began = tokio::time::Instant::now();
    rig.roll_back().await.unwrap();
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
    assert_eq!(rig.current(), Some(second));
    assert!(rig.exists(&third));
    // Launching it again waits until the old container is gone.
    drop(used);
    assert!(!rig.launch(&first).await.unwrap().existing);
}

#[tokio::test(start_paused = true)]
async fn the_door_is_told_in_the_status() {
    let rig = Rig::new(|_| {}).await;
    for (what, is_on, word) in [
        (Door::Paused, true, "paused"),
        (Door::Maintenance, false, "paused"),
        (Door::Maintenance, true, "maintenance"),
        (Door::Paused, true, "maintenance"),
        (Door::Paused, false, "maintenance"),
        (Door::Maintenance, false, "open"),
        (Door::Paused, true, "paused"),
        (Door::Paused, false, "open"),
    ] {
        rig.manager.set_door(&rig.app, what, is_on).await.unwrap();
        assert_eq!(rig.status().door, word, "{what:?} {is_on}");
    }
}

/// Goes back by itself within a minute.
fn watched(app: &mut config::App) {
    app.rollback_failures_max = Some(0.1);
    app.rollback_requests_min = 10;
    app.rollback_watch = 60 * SECOND;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_more_often_than_the_old_one_is_left_by_itself() {
    let rig = Rig::new(watched).await;
    let first = rig.go_live("1").await;
    rig.requests(&first, 90, 200);
    let second = rig.go_live("2").await;
    rig.requests(&second, 9, 500);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(
        rig.current(),
        Some(second.clone()),
        "too few requests say nothing"
    );
    rig.requests(&second, 1, 500);
    rig.until(|rig| rig.current() == Some(first.clone())).await;
    let history = rig.store.history().await.unwrap();
    assert_eq!(
        history.last().unwrap().kind.to_string(),
        "automatic rollback"
    );
    assert!(
        history
            .last()
            .unwrap()
            .by
            .contains("10 of 10 requests failed")
    );
}

#[tokio::test(start_paused = true)]
async fn going_back_by_itself_waits_for_another_change_to_end() {
    let rig = Rig::new(watched).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    let managed = rig.manager.managed(None).unwrap().clone();
    let other = managed.changing.lock().await;
    rig.requests(&second, 10, 500);
    // Longer than a change waits for another one.
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(rig.current(), Some(second));
    drop(other);
    rig.until(|rig| rig.current() == Some(first.clone())).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_does_well_stays_and_is_not_watched_for_ever() {
    let rig = Rig::new(watched).await;
    rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.requests(&second, 100, 200);
    tokio::time::sleep(61 * SECOND).await;
    rig.requests(&second, 1000, 500);
    tokio::time::sleep(61 * SECOND).await;
    assert_eq!(rig.current(), Some(second));
}

#[tokio::test(start_paused = true)]
async fn numbers_are_told_until_the_last_switch_and_since_then() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    rig.requests(&first, 7, 200);
    let second = rig.go_live("2").await;
    rig.requests(&first, 1, 200);
    rig.requests(&second, 3, 404);
    let status = rig.status();
    assert_eq!(status.before_last_switch.unwrap().requests, 7);
    assert_eq!(status.since_last_switch.requests, 4);
    let of = |hash| {
        let release = status.releases.iter().find(|release| release.hash == hash);
        let release = release.unwrap();
        (
            release.before_last_switch.as_ref().unwrap().requests,
            release.since_last_switch.requests,
            release.total.requests,
        )
    };
    assert_eq!(of(first), (7, 1, 8));
    assert_eq!(of(second), (0, 3, 3));
}
