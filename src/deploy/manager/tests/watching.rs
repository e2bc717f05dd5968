//! What is looked after by itself: how a new release does, and what releases depend on.

use serde_json::json;
use tracing::Level;

use super::rig::{Rig, SECOND};
use super::watched;
use crate::deploy::manager::state::Health;
use crate::log::captured::Captured;
use crate::runtime::RegistryHealth;

#[tokio::test(start_paused = true)]
async fn that_there_is_nothing_to_go_back_to_is_told_once_and_is_no_error() {
    let (log, _guard) = Captured::begin(Level::INFO);
    let rig = Rig::new(watched).await;
    let first = rig.go_live("1").await;
    rig.requests(&first, 20, 500);
    tokio::time::sleep(30 * SECOND).await;
    rig.requests(&first, 20, 500);
    tokio::time::sleep(40 * SECOND).await;
    assert_eq!(rig.current(), Some(first));
    let told = log.text();
    assert_eq!(log.lines_with("fails too often"), 1, "{told}");
    assert_eq!(log.lines_with("no release to go back to"), 1, "{told}");
    assert_eq!(log.lines_with("ERROR"), 0, "{told}");
    let told = rig.status().failed_rollback.expect("it is shown");
    assert!(told.reason.contains("20 of 20 requests failed"), "{told:?}");
    assert!(told.error.contains("no release to go back to"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn that_going_back_by_itself_failed_is_shown_until_another_release_is_current() {
    let rig = Rig::new(watched).await;
    let first = rig.go_live("1").await;
    let second = rig.go_live("2").await;
    rig.asleep(&first).await;
    rig.crashes(&first, "no database");
    assert!(rig.status().failed_rollback.is_none());
    rig.requests(&second, 20, 500);
    rig.until(|rig| rig.status().failed_rollback.is_some())
        .await;
    let told = rig.status().failed_rollback.unwrap();
    assert_eq!(told.hash, second);
    assert_eq!(rig.current(), Some(second));
    assert!(told.reason.contains("20 of 20 requests failed"), "{told:?}");
    assert!(told.error.contains("did not get healthy"), "{told:?}");
    rig.go_live("3").await;
    assert!(rig.status().failed_rollback.is_none());
}

/// Later than the next look at it.
async fn registry(rig: &Rig) -> Health {
    tokio::time::sleep(20 * SECOND).await;
    rig.status().registry.health
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_nobody_needs_is_not_told_as_down() {
    let down = RegistryHealth::Down("connection refused".to_owned());
    let told = Health::Down {
        reason: "connection refused".to_owned(),
    };
    let rig = Rig::new(|_| {}).await;
    rig.fake.set_registry("localhost:8080", down.clone());
    assert_eq!(registry(&rig).await, Health::Unknown);
    let other = json!({ "image": "localhost:5000/shop:1", "revision": "1", "port": 80 });
    let bytes = other.to_string().into_bytes();
    let stored = rig.manager.store(&rig.app, bytes.into()).await.unwrap();
    rig.launch(&stored.hash).await.unwrap();
    assert_eq!(registry(&rig).await, Health::Unknown);
    // This one's image is from there, as the engine's name for it tells.
    rig.go_live("2").await;
    assert_eq!(registry(&rig).await, told);

    // Who names one has one.
    let rig = Rig::new(|app| app.registry = "registry.example:5000".to_owned()).await;
    rig.fake.set_registry("registry.example:5000", down);
    assert_eq!(registry(&rig).await, told);
}

/// An outage of long ago does not excuse a new release.
#[tokio::test(start_paused = true)]
async fn what_counts_of_the_old_release_is_how_it_did_lately() {
    let rig = Rig::new(watched).await;
    let first = rig.go_live("1").await;
    rig.requests(&first, 500, 500);
    for _ in 0..10 {
        tokio::time::sleep(30 * SECOND).await;
        rig.requests(&first, 20, 200);
    }
    let second = rig.go_live("2").await;
    rig.requests(&second, 80, 200);
    rig.requests(&second, 20, 500);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(rig.current(), Some(first.clone()));

    // And what it failed at lately does: with so much of it, the new one is no worse.
    rig.requests(&first, 200, 500);
    tokio::time::sleep(30 * SECOND).await;
    let third = rig.go_live("3").await;
    rig.requests(&third, 20, 500);
    rig.requests(&third, 80, 200);
    tokio::time::sleep(70 * SECOND).await;
    assert_eq!(rig.current(), Some(third));
}
