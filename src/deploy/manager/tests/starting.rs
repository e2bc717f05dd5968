//! A manager that starts again: what it takes up, and what it takes away.

use super::rig::{Rig, SECOND};
use crate::deploy::records::{ChangeKind, CurrentDocument};
use crate::store::Store;

#[tokio::test(start_paused = true)]
async fn at_the_start_the_current_release_is_adopted_and_what_was_half_done_is_taken_away() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    let third = rig.store("3", &[]).await;
    rig.launch(&third).await.unwrap();
    let rig = rig.restart().await;
    assert_eq!(rig.current(), Some(second.clone()));
    rig.gone(&third).await;
    assert!(rig.is_running(&second) && rig.exists(&first) && !rig.is_running(&first));
    assert_eq!(rig.fake.starts(rig.name(&second).as_str()), 1);
    // Going back works as if nothing had happened.
    rig.roll_back().await.unwrap();
    assert_eq!(rig.current(), Some(first));
}

#[tokio::test(start_paused = true)]
async fn at_the_start_the_history_is_told_of_a_switch_that_was_recorded_by_half() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.store("2", &[]).await;
    rig.launch(&second).await.unwrap();
    let document = CurrentDocument {
        hash: second.clone(),
        revision: "2".to_owned(),
        at: "2026-01-01T00:00:00Z".to_owned(),
        by: "ada".to_owned(),
        kind: ChangeKind::Switch,
    };
    rig.store.set_current(document.clone()).await.unwrap();
    let rig = rig.restart().await;
    assert_eq!(rig.current(), Some(second));
    let history = rig.store.history().await.unwrap();
    assert_eq!(history.last(), Some(&document.change()));
    assert_eq!(rig.status().previous, Some(first.clone()));
    rig.asleep(&first).await;
    rig.roll_back().await.unwrap();
    assert_eq!(rig.current(), Some(first));
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_gateway_had_ordered_to_start_is_put_to_sleep() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    let rig = rig.restart().await;
    // The engine is late in doing what it was told before.
    tokio::time::sleep(SECOND).await;
    rig.fake.start_outside(rig.name(&first).as_str());
    assert!(rig.is_running(&first));
    let begun = tokio::time::Instant::now();
    rig.asleep(&first).await;
    // It is not the idle rule, of a minute, that has done it.
    assert!(begun.elapsed() < 30 * SECOND);
    assert!(rig.is_running(&second));
    assert_eq!(rig.current(), Some(second));
}

#[tokio::test(start_paused = true)]
async fn at_the_start_a_current_release_without_a_container_is_launched() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    rig.fake.remove_outside(rig.name(&first).as_str());
    let rig = rig.restart().await;
    assert_eq!(rig.current(), Some(first.clone()));
    assert!(rig.is_running(&first));
}

#[tokio::test(start_paused = true)]
async fn a_first_release_that_was_launched_only_is_taken_away_at_the_start() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.store("1", &[]).await;
    rig.launch(&first).await.unwrap();
    let rig = rig.restart().await;
    assert_eq!(rig.state(), "none");
    rig.gone(&first).await;
    // It can be launched and switched to as any other.
    assert!(!rig.launch(&first).await.unwrap().existing);
    rig.switch(&first).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_current_release_nothing_is_removed_whose_configuration_is_not_in_the_store() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.store("1", &[]).await;
    rig.launch(&first).await.unwrap();
    rig.asleep(&first).await;
    let rig = rig.restart_with(Store::in_memory()).await;
    assert_eq!(rig.state(), "none");
    tokio::time::sleep(60 * SECOND).await;
    assert!(rig.exists(&first));
    assert_eq!(rig.status().releases[0].role, "unclaimed");
}

/// Containers that the engine has not told of yet are not taken for missing ones.
#[tokio::test(start_paused = true)]
async fn what_is_asked_right_after_the_start_waits_for_the_engines_first_word() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    rig.fake.delay_listings(SECOND);
    let rig = rig.restart_at_once();
    assert!(rig.launch(&second).await.unwrap().existing);
    let rig = rig.restart_at_once();
    rig.switch(&first).await.unwrap();
    assert_eq!(rig.current(), Some(first.clone()));
    let rig = rig.restart_at_once();
    rig.roll_back().await.unwrap();
    assert_eq!(rig.current(), Some(second.clone()));
    rig.asleep(&first).await;
    assert!(rig.exists(&first) && rig.is_running(&second));
}
