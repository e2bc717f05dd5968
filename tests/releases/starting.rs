//! A gateway that starts: it takes up the release that was current, whatever has become of it meanwhile.

use bollard::query_parameters::RemoveContainerOptionsBuilder;
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;

use crate::api::release_of;
use crate::bench::{Kind, STATE_DIR, until};
use crate::configuration::md5;
use crate::gate::{GATED, Gate};
use crate::lines;
use crate::seen;
use crate::stage::{Stage, start};
use crate::streams;
use crate::world;

lines![
    Both the_running_current_release_is_adopted_as_it_is,
    Both a_current_release_that_sleeps_is_woken_or_left_asleep_and_serves,
    Both a_current_release_whose_container_is_gone_is_launched_again_while_requests_are_held,
    Process a_switch_while_the_current_release_is_launched_at_the_start_leaves_nothing_awake,
    Process nothing_was_ever_switched_to_and_that_is_said,
    Process the_listeners_are_open_before_the_current_release_is_awake,
    Process a_current_release_that_cannot_be_launched_is_told_and_mended_by_a_switch,
    Process a_current_json_that_cannot_be_read_is_told_and_nothing_is_removed,
    Process what_another_gateway_has_switched_to_meanwhile_counts,
    Process a_gateway_that_is_told_to_end_loses_nothing,
    Process history_and_way_back_outlive_the_gateway,
    Process a_store_that_wunderproxy_wrote_is_taken_up_and_can_be_gone_back_to,
];

async fn the_running_current_release_is_adopted_as_it_is(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let release = stage.release("one");
    let hash = api.deployed(&release).await;
    gateway.kill();
    assert_eq!(seen::running(stage.bench()).await, [release.container()]);
    let (_gateway, api) = stage.start().await;
    assert_eq!(api.answering().await, "one");
    assert_eq!(api.status().await["current"], hash);
    seen::assert_starts(stage.bench(), &release.container(), 1).await;
    assert_eq!(seen::names(stage.bench()).await, [release.container()]);
}

async fn a_current_release_that_sleeps_is_woken_or_left_asleep_and_serves(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let release = stage.release("one").sleeps_after("300ms");
    let hash = api.deployed(&release).await;
    api.until_phase(&hash, "stopped").await;
    gateway.kill();
    let (_gateway, api) = stage.start().await;
    assert_eq!(api.answering().await, "one");
    assert_eq!(api.status().await["current"], hash);
    assert_eq!(seen::names(stage.bench()).await, [release.container()]);
}

async fn a_current_release_whose_container_is_gone_is_launched_again_while_requests_are_held(
    stage: Stage,
) {
    let (gateway, api) = stage.start().await;
    let release = stage.release("one").env("BOOT_DELAY", "1s");
    let hash = api.deployed(&release).await;
    let id = seen::container(stage.bench(), &release.container())
        .await
        .expect("it is there")
        .id;
    gateway.kill();
    match stage.bench().kind() {
        Kind::Docker(engine) => {
            let options = RemoveContainerOptionsBuilder::default().force(true).build();
            let removed = engine.raw().remove_container(&id, Some(options)).await;
            removed.expect("it is removed");
        }
        Kind::Process => {
            world::signal_processes_of(&id, Signal::KILL);
            std::fs::remove_dir_all(stage.dir().join(STATE_DIR).join(&id)).expect("a folder");
        }
    }
    assert!(seen::names(stage.bench()).await.is_empty());
    let (_gateway, api) = stage.start().await;
    let held = (0..5).map(|_| {
        let api = api.clone();
        tokio::spawn(async move { api.answering().await })
    });
    for held in held.collect::<Vec<_>>() {
        assert_eq!(held.await.expect("an answer"), "one");
    }
    assert_eq!(api.status().await["current"], hash);
    assert_eq!(seen::running(stage.bench()).await, [release.container()]);
    seen::assert_starts(stage.bench(), &release.container(), 1).await;
    // It was current before and is so now: nothing has been switched.
    assert_eq!(stage.shelf().history().await.len(), 1);
}

async fn a_switch_while_the_current_release_is_launched_at_the_start_leaves_nothing_awake(
    stage: Stage,
) {
    let (gateway, api) = stage.start().await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    let old_hash = api.deployed(&old).await;
    let new = new.env("BOOT_DELAY", "3s");
    api.deployed(&new).await;
    seen::until_running(stage.bench(), &[&new.container()]).await;
    gateway.kill();
    let id = container_id(&stage, &new.container()).await;
    world::signal_processes_of(&id, Signal::KILL);
    std::fs::remove_dir_all(stage.dir().join(STATE_DIR).join(&id)).expect("a folder");
    let (_gateway, api) = stage.start().await;
    // Before its containers are listed there is none to switch to.
    api.client.until_ready().await;
    api.switched(&old_hash).await;
    assert_eq!(api.answering().await, "old");
    // It had been begun and comes to its end; then it sleeps as the previous one.
    seen::until_there(stage.bench(), &[&new.container(), &old.container()]).await;
    seen::until_running(stage.bench(), &[&old.container()]).await;
}

async fn nothing_was_ever_switched_to_and_that_is_said(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let status = api.until("it has looked", |status| status["state"] == "none");
    let reason = status.await["reason"].to_string();
    assert!(reason.contains("switched"), "{reason}");
    let answer = api.client.get("/x").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let page = api.client.navigate("/x").await;
    assert_eq!(page.status, 503);
    assert!(page.header("content-type").starts_with("text/html"));
}

async fn the_listeners_are_open_before_the_current_release_is_awake(stage: Stage) {
    let gate = Gate::new(stage.bench());
    let setup = gate.in_front_of(stage.setup());
    let (gateway, api) = start(&setup).await;
    let release = stage.release("one").with("image", GATED);
    let hash = api.deployed(&release).await;
    gateway.kill();
    stage
        .bench()
        .kill(&container_id(&stage, &release.container()).await)
        .await;
    gate.close();
    // Returns when both listen.
    let (_gateway, api) = start(&setup).await;
    let waiting = {
        let api = api.clone();
        tokio::spawn(async move { api.answering().await })
    };
    api.until("it is taken and waits", |status| {
        release_of(status, &hash)["waiting"] == 1
    })
    .await;
    assert_eq!(api.release(&hash).await["phase"], "starting");
    assert!(!waiting.is_finished());
    gate.open();
    assert_eq!(waiting.await.expect("an answer"), "one");
}

async fn container_id(stage: &Stage, name: &str) -> String {
    let found = seen::container(stage.bench(), name).await;
    found.expect("it is there").id
}

async fn a_current_release_that_cannot_be_launched_is_told_and_mended_by_a_switch(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let release = stage.release("one");
    let hash = api.deployed(&release).await;
    gateway.kill();
    let id = container_id(&stage, &release.container()).await;
    world::signal_processes_of(&id, Signal::KILL);
    std::fs::remove_dir_all(stage.dir().join(STATE_DIR).join(&id)).expect("a folder");
    let shelf = stage.shelf();
    let file = stage.dir().join(format!("store/container.{hash}.json"));
    std::fs::rename(&file, stage.dir().join("away")).expect("a file");
    let (_gateway, api) = stage.start().await;
    let told = api.until("it is told why", |status| !status["reason"].is_null());
    let told = told.await;
    assert!(told["reason"].to_string().contains(&hash), "{told}");
    // A new release mends it.
    api.deployed(&stage.release("two")).await;
    assert_eq!(api.answering().await, "two");
    assert_eq!(shelf.told().await, ["switch one", "switch two"]);
}

async fn a_current_json_that_cannot_be_read_is_told_and_nothing_is_removed(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    api.deployed(&old).await;
    api.deployed(&new).await;
    seen::until_running(stage.bench(), &[&new.container()]).await;
    gateway.kill();
    let whole = stage
        .shelf()
        .get("current.json")
        .await
        .expect("it is there");
    stage
        .shelf()
        .put("current.json", b"{\"hash\": \"half")
        .await;
    let (gateway, api) = stage.start().await;
    // What runs and is the only one is taken for it, or the requests wait; none is lost for good.
    let status = api.until("it has looked", |status| {
        !status["reason"].is_null() || status["state"] == "ready"
    });
    let status = status.await;
    assert_eq!(seen::names(stage.bench()).await.len(), 2, "{status}");
    assert_eq!(seen::running(stage.bench()).await, [new.container()]);
    gateway.kill();
    stage.shelf().put("current.json", &whole).await;
    let (_gateway, api) = stage.start().await;
    assert_eq!(api.answering().await, "new");
    assert_eq!(api.status().await["previous"], old.hash());
}

/// The store is what counts, not what the engine has.
async fn what_another_gateway_has_switched_to_meanwhile_counts(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    let old_hash = api.deployed(&old).await;
    let new_hash = api.stored(&new).await;
    gateway.kill();
    let mut current = stage.shelf().current().await;
    current["hash"] = json!(new_hash);
    current["revision"] = json!("new");
    let text = serde_json::to_vec(&current).expect("JSON");
    stage.shelf().put("current.json", &text).await;
    let (_gateway, api) = stage.start().await;
    assert_eq!(api.answering().await, "new");
    assert_eq!(api.status().await["current"], new_hash);
    until("the old one does not run", || async {
        (seen::running(stage.bench()).await == [new.container()]).then_some(())
    })
    .await;
    drop(old_hash);
}

async fn a_gateway_that_is_told_to_end_loses_nothing(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let hash = api.deployed(&stage.release("one")).await;
    let upload = streams::upload(&gateway.public, "/up").await;
    until("it is under way", || async {
        (api.release(&hash).await["leases"] == 1).then_some(())
    })
    .await;
    gateway.terminate();
    until("it takes no more requests", || async {
        let refused = TcpStream::connect(&gateway.public).await.is_err();
        refused.then_some(())
    })
    .await;
    assert_eq!(upload.finish().await.expect("an answer").by, "one");
    assert_eq!(gateway.exit_code().await, Some(0));
    let (_gateway, api) = stage.start().await;
    assert_eq!(api.answering().await, "one");
    seen::assert_starts(stage.bench(), &stage.release("one").container(), 1).await;
}

async fn history_and_way_back_outlive_the_gateway(stage: Stage) {
    let (gateway, api) = stage.start().await;
    for revision in ["one", "two", "three"] {
        api.deployed(&stage.release(revision)).await;
    }
    let history = api.history().await;
    gateway.kill();
    let (_gateway, api) = stage.start().await;
    assert_eq!(api.history().await, history);
    // Before that it is not known what there is to go back from.
    api.until_ready().await;
    for expected in ["two", "one"] {
        api.roll_back().await.ok();
        assert_eq!(api.answering().await, expected);
    }
}

/// Its `current.json` is the bare hash, an MD5, and it keeps no history.
async fn a_store_that_wunderproxy_wrote_is_taken_up_and_can_be_gone_back_to(stage: Stage) {
    let old = stage.release("old");
    let hash = md5(&old.bytes());
    let shelf = stage.shelf();
    let key = format!("container.{hash}.json");
    shelf.put(&key, &old.bytes()).await;
    shelf
        .put("current.json", format!("\"{hash}\"").as_bytes())
        .await;
    let (_gateway, api) = stage.start().await;
    assert_eq!(api.answering().await, "old");
    assert_eq!(api.status().await["current"], hash.as_str());
    api.deployed(&stage.release("new")).await;
    assert_eq!(api.answering().await, "new");
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "old");
}
