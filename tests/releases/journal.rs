//! What a gateway has noted of its last switch counts when the store was or is away.

use std::time::Duration;

use serde_json::json;

use crate::api::Api;
use crate::bench::until;
use crate::between::Mode;
use crate::gateway::Gateway;
use crate::lines;
use crate::seen;
use crate::setup::Setup;
use crate::shelf::Shelf;
use crate::stage::{Stage, start};
use crate::stores::with_something_between;
use crate::streams;

lines![
    S3 of_two_that_run_the_one_that_was_switched_to_serves_while_the_store_is_away,
    S3 going_back_is_possible_in_a_gateway_that_started_while_the_store_was_away,
    S3 without_a_journal_requests_wait_for_the_store,
    S3 a_switch_that_was_pending_when_the_gateway_was_killed_is_written_by_the_next,
    S3 a_switch_that_was_pending_is_current_also_while_the_store_is_still_away,
    S3 going_back_while_an_older_switch_is_pending_writes_both,
    S3 a_pending_switch_is_dropped_when_somebody_else_has_switched_since,
    Process a_store_that_is_not_mounted_is_not_taken_for_an_empty_one,
    Process a_store_that_has_lost_what_is_current_takes_no_release_away,
    Process a_store_that_goes_away_as_a_folder_refuses_a_switch_and_gets_a_way_back_later,
    Process a_history_that_is_lost_takes_no_release_away,
    Process a_history_that_cannot_be_read_is_written_whole_by_going_back,
    Process a_journal_that_cannot_be_written_is_told_once_and_harms_nothing,
    Process a_maintenance_outlives_the_gateway_and_a_pause_does_not,
    S3 a_maintenance_that_begins_while_the_store_is_away_forgets_no_release,
];

/// Two releases run, since the old one still has a stream, and the gateway is gone.
async fn killed_while_two_run(stage: &Stage, setup: &Setup) -> [String; 2] {
    let (gateway, api) = start(setup).await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    let old_hash = api.deployed(&old).await;
    let stream = streams::events(&gateway.public, "/events").await;
    let new_hash = api.deployed(&new).await;
    gateway.kill();
    let running = seen::running(stage.bench()).await;
    assert_eq!(running.len(), 2, "{running:?}");
    stream.abort();
    [old_hash, new_hash]
}

async fn of_two_that_run_the_one_that_was_switched_to_serves_while_the_store_is_away(stage: Stage) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let [_, new_hash] = killed_while_two_run(&stage, &setup).await;
    between.set(Mode::Away);
    let (_gateway, api) = start(&setup).await;
    assert_eq!(api.answering().await, "new");
    assert_eq!(api.status().await["current"], new_hash);
    // It is not known yet what may be removed.
    assert_eq!(seen::names(stage.bench()).await.len(), 2);
    between.set(Mode::Open);
    seen::until_running(stage.bench(), &[&stage.release("new").container()]).await;
    assert_eq!(api.answering().await, "new");
    assert_eq!(shelf.told().await, ["switch old", "switch new"]);
}

async fn without_a_journal_requests_wait_for_the_store(stage: Stage) {
    let (setup, _shelf, between) = with_something_between(&stage).await;
    killed_while_two_run(&stage, &setup).await;
    std::fs::remove_dir_all(stage.dir().join(".wakegate/journal")).expect("a folder");
    between.set(Mode::Away);
    let (_gateway, api) = start(&setup).await;
    let held = {
        let api = api.clone();
        tokio::spawn(async move { api.answering().await })
    };
    let status = api.until("it is told why", |status| !status["reason"].is_null());
    let status = status.await;
    assert_eq!(status["state"], "loading");
    assert!(status["reason"].to_string().contains("s3://"), "{status}");
    api.until("the request is held", |status| status["held"] == 1)
        .await;
    assert!(!held.is_finished());
    between.set(Mode::Open);
    assert_eq!(held.await.expect("an answer"), "new");
}

/// A switch is done and not written, and the gateway is gone.
async fn killed_while_pending(stage: &Stage, setup: &Setup, mode: impl FnOnce()) -> [String; 2] {
    let (gateway, api) = start(setup).await;
    let old_hash = api.deployed(&stage.release("old")).await;
    let new_hash = api.launched(&stage.release("new")).await;
    mode();
    assert_eq!(api.switched(&new_hash).await["pending"], true);
    gateway.kill();
    [old_hash, new_hash]
}

async fn until_written(api: &Api, shelf: &Shelf, told: &[&str]) {
    api.until("nothing is pending", |status| status["pending"].is_null())
        .await;
    until("the history has all", || async {
        (shelf.told().await == told).then_some(())
    })
    .await;
}

async fn a_switch_that_was_pending_when_the_gateway_was_killed_is_written_by_the_next(
    stage: Stage,
) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let writes = || between.set(Mode::NoWrites);
    let [old_hash, new_hash] = killed_while_pending(&stage, &setup, writes).await;
    assert_eq!(shelf.current_hash().await, old_hash);
    between.set(Mode::Open);
    let (_gateway, api) = start(&setup).await;
    assert_eq!(api.answering().await, "new");
    shelf.until_current(&new_hash).await;
    until_written(&api, &shelf, &["switch old", "switch new"]).await;
    assert_eq!(api.status().await["previous"], old_hash);
    seen::until_running(stage.bench(), &[&stage.release("new").container()]).await;
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "old");
}

async fn a_switch_that_was_pending_is_current_also_while_the_store_is_still_away(stage: Stage) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let writes = || between.set(Mode::NoWrites);
    let [_, new_hash] = killed_while_pending(&stage, &setup, writes).await;
    between.set(Mode::Away);
    let (_gateway, api) = start(&setup).await;
    assert_eq!(api.answering().await, "new");
    let status = api.status().await;
    assert_eq!(status["current"], new_hash);
    assert_eq!(status["pending"]["hash"], new_hash);
    between.set(Mode::Open);
    shelf.until_current(&new_hash).await;
    until_written(&api, &shelf, &["switch old", "switch new"]).await;
}

async fn going_back_while_an_older_switch_is_pending_writes_both(stage: Stage) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let writes = || between.set(Mode::NoWrites);
    let [old_hash, _] = killed_while_pending(&stage, &setup, writes).await;
    // It can be read, so that it is known what to go back to.
    let (_gateway, api) = start(&setup).await;
    assert_eq!(api.answering().await, "new");
    api.until("the history is known", |status| {
        status["previous"] == old_hash
    })
    .await;
    assert_eq!(api.roll_back().await.ok()["pending"], true);
    assert_eq!(api.answering().await, "old");
    between.set(Mode::Open);
    let told = ["switch old", "switch new", "rollback old"];
    until_written(&api, &shelf, &told).await;
    shelf.until_current(&old_hash).await;
}

async fn a_pending_switch_is_dropped_when_somebody_else_has_switched_since(stage: Stage) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let writes = || between.set(Mode::NoWrites);
    killed_while_pending(&stage, &setup, writes).await;
    between.set(Mode::Open);
    // Another machine's gateway, whose store is the same.
    let other = stage.another_machine().await;
    let elsewhere = {
        let setup = crate::stage::of_one_application(&other);
        let Shelf::Bucket(bucket) = &shelf else {
            unreachable!("it is a bucket");
        };
        crate::stores::with_bucket(setup, bucket, &between.address.to_string())
    };
    let (theirs, their_api): (Gateway, Api) = start(&elsewhere).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let third = crate::configuration::Configuration::new(&other, "third");
    let third_hash = their_api.deployed(&third).await;
    theirs.kill();
    let (_gateway, api) = start(&setup).await;
    assert_eq!(api.answering().await, "third");
    let status = api.status().await;
    assert_eq!(status["current"], third_hash);
    assert_eq!(status["pending"], json!(null));
    assert_eq!(shelf.told().await, ["switch old", "switch third"]);
}

async fn a_store_that_is_not_mounted_is_not_taken_for_an_empty_one(stage: Stage) {
    let [_, new_hash] = killed_while_two_run(&stage, &stage.setup()).await;
    let (store, away) = (stage.dir().join("store"), stage.dir().join("away"));
    std::fs::rename(&store, &away).expect("a folder");
    let (_gateway, api) = stage.start().await;
    assert_eq!(api.answering().await, "new");
    assert_eq!(api.status().await["current"], new_hash);
    assert_eq!(seen::names(stage.bench()).await.len(), 2);
    std::fs::rename(&away, &store).expect("a folder");
    seen::until_running(stage.bench(), &[&stage.release("new").container()]).await;
    assert_eq!(stage.shelf().told().await, ["switch old", "switch new"]);
}

async fn a_journal_that_cannot_be_written_is_told_once_and_harms_nothing(stage: Stage) {
    std::fs::write(stage.dir().join("file"), "").expect("a file");
    let setup = stage.setup().set("apps.shop.journal", "file/journal");
    let (_gateway, api) = start(&setup).await;
    api.deployed(&stage.release("one")).await;
    api.deployed(&stage.release("two")).await;
    assert_eq!(api.answering().await, "two");
    let story = stage.story();
    let told = story.matches("the journal cannot be written").count();
    assert_eq!(told, 1, "{story}");
}

async fn going_back_is_possible_in_a_gateway_that_started_while_the_store_was_away(stage: Stage) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let (gateway, api) = start(&setup).await;
    let old_hash = api.deployed(&stage.release("old")).await;
    api.deployed(&stage.release("new")).await;
    gateway.kill();
    between.set(Mode::Away);
    let (_gateway, api) = start(&setup).await;
    assert_eq!(api.answering().await, "new");
    assert_eq!(api.status().await["previous"], old_hash);
    assert_eq!(api.roll_back().await.ok()["pending"], true);
    assert_eq!(api.answering().await, "old");
    between.set(Mode::Open);
    shelf.until_current(&old_hash).await;
    until_written(&api, &shelf, &["switch old", "switch new", "rollback old"]).await;
}

/// Two releases were current one after the other, and the gateway is gone.
async fn after_two(stage: &Stage) -> [String; 2] {
    let (gateway, api) = stage.start().await;
    let old_hash = api.deployed(&stage.release("old")).await;
    let new_hash = api.deployed(&stage.release("new")).await;
    seen::until_running(stage.bench(), &[&stage.release("new").container()]).await;
    gateway.kill();
    [old_hash, new_hash]
}

/// Longer than the gateway waits before it looks for what nobody wants.
async fn assert_both_stay(stage: &Stage, api: &Api) {
    assert_eq!(api.answering().await, "new");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(seen::names(stage.bench()).await.len(), 2);
    assert_eq!(api.answering().await, "new");
}

async fn a_store_that_has_lost_what_is_current_takes_no_release_away(stage: Stage) {
    let [_, new_hash] = after_two(&stage).await;
    for document in ["current.json", "history.json"] {
        let file = stage.dir().join("store").join(document);
        std::fs::rename(file, stage.dir().join(document)).expect("a file");
    }
    let (_gateway, api) = stage.start().await;
    assert_both_stay(&stage, &api).await;
    for document in ["current.json", "history.json"] {
        let file = stage.dir().join("store").join(document);
        std::fs::rename(stage.dir().join(document), file).expect("a file");
    }
    api.until("it is as ever", |status| status["previous"] != json!(null))
        .await;
    assert_eq!(api.status().await["current"], new_hash);
}

async fn a_store_that_goes_away_as_a_folder_refuses_a_switch_and_gets_a_way_back_later(
    stage: Stage,
) {
    let (_gateway, api) = stage.start().await;
    let old_hash = api.deployed(&stage.release("old")).await;
    let new_hash = api.deployed(&stage.release("new")).await;
    let third_hash = api.launched(&stage.release("third")).await;
    let (store, away) = (stage.dir().join("store"), stage.dir().join("away"));
    std::fs::rename(&store, &away).expect("a folder");
    let refused = api.switch(&third_hash).await.problem(503, "store_empty");
    assert!(refused["detail"].to_string().contains("lost"), "{refused}");
    assert_eq!(api.status().await["current"], new_hash);
    assert_eq!(api.roll_back().await.ok()["pending"], true);
    assert_eq!(api.answering().await, "old");
    // What is not mounted is not written to.
    let written = std::fs::read_dir(&store).map_or(0, Iterator::count);
    assert_eq!(written, 0);
    let _ = std::fs::remove_dir(&store);
    std::fs::rename(&away, &store).expect("a folder");
    stage.shelf().until_current(&old_hash).await;
    let told = ["switch old", "switch new", "rollback old"];
    until_written(&api, &stage.shelf(), &told).await;
}

async fn a_history_that_is_lost_takes_no_release_away(stage: Stage) {
    for has_journal in [true, false] {
        let stage_of = &stage;
        let [old_hash, new_hash] = after_two(stage_of).await;
        std::fs::remove_file(stage.dir().join("store/history.json")).expect("a file");
        if !has_journal {
            std::fs::remove_dir_all(stage.dir().join(".wakegate/journal")).expect("a folder");
        }
        let (gateway, api) = stage.start().await;
        assert_both_stay(&stage, &api).await;
        let status = api.status().await;
        assert_eq!(status["current"], new_hash);
        if has_journal {
            assert_eq!(status["previous"], old_hash);
        }
        gateway.kill();
        // And when it starts another time.
        let (gateway, api) = stage.start().await;
        assert_both_stay(&stage, &api).await;
        gateway.kill();
    }
}

async fn a_history_that_cannot_be_read_is_written_whole_by_going_back(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    for revision in ["one", "two", "three"] {
        api.deployed(&stage.release(revision)).await;
    }
    stage.shelf().put("history.json", b"[{\"half").await;
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "two");
    let told = ["switch one", "switch two", "switch three", "rollback two"];
    assert_eq!(stage.shelf().told().await, told);
    assert_eq!(api.status().await["previous"], stage.release("one").hash());
}

async fn a_maintenance_outlives_the_gateway_and_a_pause_does_not(stage: Stage) {
    let (gateway, api) = stage.start().await;
    api.deployed(&stage.release("one")).await;
    api.post("/maintenance/up", json!({})).await.ok();
    gateway.kill();
    let (gateway, api) = stage.start().await;
    let answer = api.client.get("/").await;
    answer.problem(503, "maintenance");
    assert_eq!(api.status().await["door"], "maintenance");
    gateway.log.line_with("in maintenance since before").await;
    api.post("/maintenance/down", json!({})).await.ok();
    assert_eq!(api.answering().await, "one");
    api.pause().await;
    gateway.kill();
    let (_gateway, api) = stage.start().await;
    assert_eq!(api.answering().await, "one");
    assert_eq!(api.status().await["door"], "open");
}

async fn a_maintenance_that_begins_while_the_store_is_away_forgets_no_release(stage: Stage) {
    let (setup, _shelf, between) = with_something_between(&stage).await;
    let [_, new_hash] = killed_while_two_run(&stage, &setup).await;
    between.set(Mode::Away);
    let (gateway, api) = start(&setup).await;
    api.post("/maintenance/up", json!({})).await.ok();
    gateway.kill();
    let (_gateway, api) = start(&setup).await;
    let status = api.until("it is known", |status| status["current"] == new_hash);
    assert_eq!(status.await["door"], "maintenance");
    api.post("/maintenance/down", json!({})).await.ok();
    assert_eq!(api.answering().await, "new");
}
