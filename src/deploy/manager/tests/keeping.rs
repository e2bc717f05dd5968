//! What stays asleep to be gone back to, and what is removed with its image.

use serde_json::json;

use super::rig::{Rig, SECOND};
use crate::deploy::records::HISTORY_ENTRIES_MAX;
use crate::names::ReleaseHash;
use crate::runtime::RuntimeError;

#[tokio::test(start_paused = true)]
async fn older_releases_are_removed_with_their_images_and_the_previous_one_never() {
    let rig = Rig::new(|app| app.keep = 1).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    let third = rig.go_live("3").await;
    rig.gone(&first).await;
    assert!(rig.exists(&second) && rig.exists(&third));
    assert!(!rig.has_image("localhost:8080/shop:1").await);
    assert!(rig.has_image("localhost:8080/shop:2").await);
    // A release that is not the newest can be current: the newest stays.
    rig.switch(&second).await.unwrap();
    assert_eq!(rig.current(), Some(second.clone()));
    rig.asleep(&third).await;
    assert!(rig.exists(&third));
}

#[tokio::test(start_paused = true)]
async fn releases_that_had_to_be_left_push_out_none_that_can_be_gone_back_to() {
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    for revision in ["3", "4", "5"] {
        let bad = rig.go_live(revision).await;
        tokio::time::sleep(10 * SECOND).await;
        rig.leave(&bad).await.unwrap();
        assert_eq!(rig.current(), Some(second.clone()));
    }
    tokio::time::sleep(600 * SECOND).await;
    assert!(rig.has_image("localhost:8080/shop:1").await);
    rig.fake.without_image("localhost:8080/shop:1");
    rig.roll_back().await.unwrap();
    assert_eq!(rig.current(), Some(first));
}

#[tokio::test(start_paused = true)]
async fn until_a_release_has_shown_that_it_is_good_the_one_before_the_previous_one_stays() {
    let rig = Rig::new(|app| app.keep = 1).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    let bad = rig.go_live("3").await;
    tokio::time::sleep(60 * SECOND).await;
    rig.leave(&bad).await.unwrap();
    tokio::time::sleep(600 * SECOND).await;
    assert!(rig.exists(&first) && !rig.exists(&bad));
    let good = rig.go_live("4").await;
    tokio::time::sleep(60 * SECOND).await;
    assert!(rig.exists(&first));
    rig.gone(&first).await;
    assert!(rig.exists(&second) && rig.exists(&good));
}

/// With a previous release of which only the image is there. A release that was removed had the same.
async fn with_an_image_only() -> (Rig, ReleaseHash) {
    let rig = Rig::new(|app| {
        app.keep = 0;
        app.rollback_watch = SECOND;
    })
    .await;
    let mut of_one_image = Vec::new();
    for value in ["1", "2"] {
        let hash = rig.store("1", &[("A", value)]).await;
        rig.launch(&hash).await.unwrap();
        rig.switch(&hash).await.unwrap();
        of_one_image.push(hash);
    }
    let [oldest, previous] = of_one_image.try_into().unwrap();
    rig.asleep(&oldest).await;
    rig.fake.remove_outside(rig.name(&previous).as_str());
    rig.gone(&previous).await;
    rig.go_live("2").await;
    rig.gone(&oldest).await;
    tokio::time::sleep(60 * SECOND).await;
    (rig, previous)
}

#[tokio::test(start_paused = true)]
async fn the_image_of_a_previous_release_whose_container_somebody_has_removed_stays() {
    let (rig, previous) = with_an_image_only().await;
    assert!(rig.has_image("localhost:8080/shop:1").await);
    rig.roll_back().await.unwrap();
    assert_eq!(rig.current(), Some(previous));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_was_kept_for_a_previous_release_without_a_container_goes_with_that_role() {
    let (rig, _) = with_an_image_only().await;
    rig.go_live("3").await;
    tokio::time::sleep(60 * SECOND).await;
    assert!(!rig.has_image("localhost:8080/shop:1").await);
}

#[tokio::test(start_paused = true)]
async fn a_current_release_whose_container_and_image_somebody_has_removed_is_launched_anew() {
    let rig = Rig::new(|_| {}).await;
    let current = rig.go_live("1").await;
    let name = rig.name(&current);
    rig.fake.remove_outside(name.as_str());
    rig.gone(&current).await;
    // With its image the next request makes it.
    tokio::time::sleep(60 * SECOND).await;
    assert!(!rig.exists(&current));
    rig.fake.without_image("localhost:8080/shop:1");
    rig.until(|rig| rig.exists(&current)).await;
    drop(rig.lease(&current).await);
    assert_eq!(rig.current(), Some(current));
    assert!(rig.has_image("localhost:8080/shop:1").await);
}

#[tokio::test(start_paused = true)]
async fn what_is_launched_anew_while_another_release_becomes_current_is_a_previous_one_and_sleeps()
{
    let rig = Rig::new(|_| {}).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    let image = "localhost:8080/shop:2";
    rig.fake.behave_pull(image, |pull| pull.held = true);
    rig.fake.remove_outside(rig.name(&second).as_str());
    rig.gone(&second).await;
    rig.fake.without_image(image);
    rig.until(|rig| rig.fake.pulls(image) == 1).await;
    rig.switch(&first).await.unwrap();
    rig.fake.behave_pull(image, |pull| pull.held = false);
    rig.until(|rig| rig.is_running(&second)).await;
    rig.asleep(&second).await;
    let status = rig.status();
    let told = status.releases.iter().find(|told| told.hash == second);
    assert_eq!(told.unwrap().role, "previous");
    assert_eq!(rig.current(), Some(first));
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_tried_again_and_again_is_told_once_as_failed() {
    let rig = Rig::new(|_| {}).await;
    let bad = rig.store("0", &[]).await;
    rig.crashes(&bad, "no");
    rig.launch(&bad).await.unwrap_err();
    let current = rig.go_live("1").await;
    let image = "localhost:8080/shop:1";
    rig.fake.behave_pull(image, |pull| {
        pull.error = Some(RuntimeError::Unreachable("away".to_owned()));
    });
    rig.fake.remove_outside(rig.name(&current).as_str());
    rig.gone(&current).await;
    rig.fake.without_image(image);
    rig.until(|rig| rig.fake.pulls(image) > 6).await;
    let failed: Vec<_> = rig
        .status()
        .failed_launches
        .into_iter()
        .map(|failed| failed.hash)
        .collect();
    assert_eq!(failed, [current, bad]);
}

/// Going back has failed, and further back is what may still help.
#[tokio::test(start_paused = true)]
async fn the_one_before_the_previous_one_stays_also_when_going_back_by_itself_fails() {
    let rig = Rig::new(|app| {
        app.keep = 1;
        app.rollback_failures_max = Some(0.1);
        app.rollback_requests_min = 10;
        app.rollback_watch = 300 * SECOND;
    })
    .await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    let bad = rig.go_live("3").await;
    rig.asleep(&second).await;
    rig.crashes(&second, "no");
    rig.requests(&bad, 10, 500);
    let name = rig.name(&second);
    let runs = rig.fake.runs_begun(name.as_str());
    rig.until(|rig| rig.fake.runs_begun(name.as_str()) > runs)
        .await;
    tokio::time::sleep(200 * SECOND).await;
    let tried = rig.fake.runs_begun(name.as_str());
    assert!(rig.exists(&first));
    rig.gone(&first).await;
    assert_eq!(rig.fake.runs_begun(name.as_str()), tried);
    assert_eq!(rig.current(), Some(bad));
}

#[tokio::test(start_paused = true)]
async fn releases_that_a_full_history_has_forgotten_are_kept_while_there_is_room_the_last_ones_first()
 {
    let rig = Rig::new(|app| app.keep = 3).await;
    let oldest = rig.go_live("1").await;
    let old = [rig.go_live("2").await, rig.go_live("3").await];
    let pair = [rig.go_live("4").await, rig.go_live("5").await];
    for n in 0..HISTORY_ENTRIES_MAX {
        rig.switch(&pair[n % 2]).await.unwrap();
    }
    tokio::time::sleep(600 * SECOND).await;
    assert!(!rig.exists(&oldest));
    for kept in old {
        assert!(rig.exists(&kept));
        let status = rig.status();
        let told = status.releases.iter().find(|told| told.hash == kept);
        assert_eq!(told.unwrap().role, "kept");
    }
}

#[tokio::test(start_paused = true)]
async fn the_image_that_a_failed_launch_has_brought_goes_and_one_that_was_there_stays() {
    let rig = Rig::new(|_| {}).await;
    rig.go_live("1").await;
    rig.fake.without_image("localhost:8080/shop:2");
    for revision in ["2", "3"] {
        let failing = rig.store(revision, &[]).await;
        rig.crashes(&failing, "no");
        rig.launch(&failing).await.unwrap_err();
    }
    tokio::time::sleep(60 * SECOND).await;
    assert!(!rig.has_image("localhost:8080/shop:2").await);
    assert!(rig.has_image("localhost:8080/shop:3").await);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_back_to_without_its_container_is_made_of_the_image_that_is_there() {
    let rig = Rig::new(|_| {}).await;
    let always = json!({ "revision": "1", "pull": "always", "port": 80 });
    let first = rig.store_as("1", always).await;
    rig.launch(&first).await.unwrap();
    rig.switch(&first).await.unwrap();
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    let image = "localhost:8080/shop:1";
    assert_eq!(rig.fake.pulls(image), 1);
    // Somebody has pruned what did not run, and the registry may have another one under that name by now.
    let name = rig.name(&first);
    rig.fake.remove_outside(name.as_str());
    rig.until(|rig| !rig.exists(&first)).await;
    rig.roll_back().await.unwrap();
    assert_eq!(rig.current(), Some(first.clone()));
    rig.asleep(&second).await;
    rig.fake.remove_outside(name.as_str());
    let rig = rig.restart().await;
    rig.until(|rig| rig.current() == Some(first.clone())).await;
    assert!(rig.exists(&first));
    assert_eq!(rig.fake.pulls(image), 1);
    // Who launches it has asked for what its configuration says.
    rig.launch(&first).await.unwrap();
    assert_eq!(rig.fake.pulls(image), 2);
}
