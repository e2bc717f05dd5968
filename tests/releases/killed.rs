//! A gateway that is killed at any moment comes back to exactly one current release, without orphans.

use std::time::Duration;

use serde_json::Value;

use crate::api::Api;
use crate::bench::until;
use crate::client::Answer;
use crate::configuration::Configuration;
use crate::lines;
use crate::seen;
use crate::stage::{Stage, start};
use crate::streams;

lines![
    Both killed_while_it_launches,
    Both killed_while_it_switches,
    Both killed_while_the_old_release_drains,
    Both killed_while_it_goes_back,
    Process killed_while_it_tries_a_canary,
    Process killed_while_a_command_waits_for_it,
];

/// Moments after an order at which the gateway is killed, in milliseconds.
fn moments(stage: &Stage, spread: &[u64]) -> Vec<Duration> {
    // With an engine every start takes half a second, so there are fewer.
    let every = if stage.is_docker() { 3 } else { 1 };
    let chosen = spread.iter().step_by(every);
    chosen.map(|ms| Duration::from_millis(*ms)).collect()
}

/// Sends an order and kills the gateway after that time; what was answered, if anything was.
async fn killed_after<F>(
    gateway: crate::gateway::Gateway,
    moment: Duration,
    order: F,
) -> Option<Answer>
where
    F: Future<Output = Option<Answer>> + Send + 'static,
{
    let order = tokio::spawn(order);
    tokio::time::sleep(moment).await;
    gateway.kill();
    order.await.ok().flatten()
}

/// An order by the admin API that may get no answer.
async fn order(api: Api, path: &'static str, hash: String) -> Option<Answer> {
    let body = serde_json::json!({ "app": "shop", "hash": hash });
    let body = if path == "/rollback" {
        serde_json::json!({ "app": "shop" })
    } else {
        body
    };
    let request = api.client.alone().admin(reqwest::Method::POST, path);
    Answer::try_to(request.json(&body)).await.ok()
}

/// What has to hold after each start: one current release, the store's, which serves and is alone
/// awake; no container that is nobody's; all that runs is known. Gives the current hash.
async fn assert_whole(stage: &Stage, api: &Api, releases: &[&Configuration]) -> String {
    let shelf = stage.shelf();
    let answering = api.answering().await;
    let status = api.until_ready().await;
    let current = status["current"].as_str().expect("a release").to_owned();
    // The gateway's own journal knew of a switch that the store is being told of.
    shelf.until_current(&current).await;
    let history = until("the history has it", || async {
        let history = shelf.history().await;
        let is_last = history.last().is_some_and(|last| last["hash"] == current);
        is_last.then_some(history)
    })
    .await;
    let release = releases
        .iter()
        .find(|release| release.hash() == current)
        .expect("one of them");
    assert_eq!(answering, release.revision());
    seen::until_running(stage.bench(), &[&release.container()]).await;
    let known: Vec<&Value> = history.iter().map(|entry| &entry["hash"]).collect();
    until("no container is nobody's", || async {
        let there = seen::containers(stage.bench()).await;
        let mut hashes = there
            .iter()
            .map(|seen| seen.labels["wakegate.release"].clone());
        hashes
            .all(|hash| known.contains(&&Value::from(hash)))
            .then_some(())
    })
    .await;
    if !stage.is_docker() {
        assert_eq!(seen::processes(stage.bench()).len(), 1);
    }
    current
}

async fn killed_while_it_launches(stage: Stage) {
    let old = stage.release("old");
    let (mut gateway, mut api) = stage.start().await;
    let old_hash = api.deployed(&old).await;
    let spread = [0, 2, 5, 10, 20, 40, 80, 160, 320, 480, 640, 1000];
    for (round, moment) in moments(&stage, &spread).into_iter().enumerate() {
        let new = stage
            .release(&format!("new{round}"))
            .env("BOOT_DELAY", "400ms");
        let hash = api.stored(&new).await;
        killed_after(gateway, moment, order(api, "/launch", hash.clone())).await;
        (gateway, api) = stage.start().await;
        let current = assert_whole(&stage, &api, &[&old]).await;
        assert_eq!(current, old_hash);
        seen::until_there(stage.bench(), &[&old.container()]).await;
    }
    seen::assert_starts(stage.bench(), &old.container(), 1).await;
    // And it can be launched for all that.
    api.deployed(&stage.release("last")).await;
    assert_eq!(api.answering().await, "last");
    drop(gateway);
}

async fn killed_while_it_switches(stage: Stage) {
    let setup = stage
        .setup()
        .set("apps.shop.keep", 1)
        .set("apps.shop.rollback_watch", "1s");
    let (mut gateway, mut api) = start(&setup).await;
    let mut current = stage.release("r0");
    api.deployed(&current).await;
    let spread = [0, 1, 2, 3, 4, 6, 8, 12, 16, 25, 50, 100, 200];
    let mut done = [0, 0];
    for (round, moment) in moments(&stage, &spread).into_iter().enumerate() {
        let new = stage.release(&format!("r{}", round + 1));
        let hash = api.launched(&new).await;
        let answer = killed_after(gateway, moment, order(api, "/switch", hash.clone())).await;
        (gateway, api) = start(&setup).await;
        let found = assert_whole(&stage, &api, &[&current, &new]).await;
        done[usize::from(found == hash)] += 1;
        // What was answered is done.
        if let Some(answer) = answer {
            assert_eq!(answer.ok()["pending"], false);
            assert_eq!(found, hash, "it was told that it is current");
        }
        if found == hash {
            current = new;
        }
    }
    println!(
        "killed while switching: {} times before, {} after",
        done[0], done[1]
    );
    drop(gateway);
}

async fn killed_while_the_old_release_drains(stage: Stage) {
    let setup = stage.setup().set("apps.shop.drain_timeout", "2s");
    let (mut gateway, mut api) = start(&setup).await;
    let mut current = stage.release("r0").env("TERM_DELAY", "300ms");
    api.deployed(&current).await;
    let spread = [
        0, 100, 500, 1500, 1990, 2010, 2050, 2100, 2200, 2300, 2400, 2600,
    ];
    for (round, moment) in moments(&stage, &spread).into_iter().enumerate() {
        let stream = streams::events(&gateway.public, "/events?every=50").await;
        let new = stage
            .release(&format!("r{}", round + 1))
            .env("TERM_DELAY", "300ms");
        let hash = api.launched(&new).await;
        api.switched(&hash).await;
        tokio::time::sleep(moment).await;
        gateway.kill();
        stream.abort();
        (gateway, api) = start(&setup).await;
        let found = assert_whole(&stage, &api, &[&current, &new]).await;
        assert_eq!(found, hash);
        assert_eq!(api.status().await["previous"], current.hash());
        current = new;
    }
    drop(gateway);
}

async fn killed_while_it_goes_back(stage: Stage) {
    let (mut gateway, mut api) = stage.start().await;
    let [one, two] =
        ["one", "two"].map(|revision| stage.release(revision).env("BOOT_DELAY", "200ms"));
    let both = [&one, &two];
    let hashes = both.map(Configuration::hash);
    api.deployed(&one).await;
    let spread = [0, 1, 3, 10, 50, 150, 190, 200, 210, 220, 240, 300, 500];
    let mut done = [0, 0];
    for moment in moments(&stage, &spread) {
        // The second is current, and the first before it.
        api.launched(&two).await;
        api.switched(&hashes[1]).await;
        api.until_phase(&hashes[0], "stopped").await;
        let answer = killed_after(gateway, moment, order(api, "/rollback", String::new())).await;
        (gateway, api) = stage.start().await;
        let found = assert_whole(&stage, &api, &both).await;
        done[usize::from(found == hashes[0])] += 1;
        if let Some(answer) = answer {
            answer.ok();
            assert_eq!(found, hashes[0], "it was told that it went back");
        }
        api.launch(&hashes[0]).await.ok();
        api.switch(&hashes[0]).await.ok();
    }
    println!(
        "killed while going back: {} times before, {} after",
        done[0], done[1]
    );
    drop(gateway);
}

async fn killed_while_it_tries_a_canary(stage: Stage) {
    let script = r#"route("/{*rest}", |req| app("shop").canary(50));"#;
    let setup = stage.setup().script(script);
    let (mut gateway, mut api) = start(&setup).await;
    let old = stage.release("old");
    api.deployed(&old).await;
    for (round, moment) in [0, 3, 10, 100].into_iter().enumerate() {
        let new = stage.release(&format!("new{round}"));
        let hash = api.launched(&new).await;
        let body = serde_json::json!({ "app": "shop", "hash": hash, "canary": true });
        let request = api
            .client
            .alone()
            .admin(reqwest::Method::POST, "/switch")
            .json(&body);
        let sent = async move { Answer::try_to(request).await.ok() };
        killed_after(gateway, Duration::from_millis(moment), sent).await;
        (gateway, api) = start(&setup).await;
        let found = assert_whole(&stage, &api, &[&old]).await;
        assert_eq!(found, old.hash());
    }
    drop(gateway);
}

async fn killed_while_a_command_waits_for_it(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let slow = stage.release("slow").env("FAIL_FIRST", "1000000");
    let hash = api.stored(&slow).await;
    let admin = gateway.client.admin_address().to_owned();
    let setup = stage.setup().env("WAKEGATE_ADMIN_LISTEN", &admin);
    let launching = tokio::spawn({
        let (file, hash) = (setup.file(), hash.clone());
        async move {
            let config = file.to_str().expect("a path in UTF-8");
            let words = ["launch", "shop", &hash, "--config", config];
            setup.run(&words).await
        }
    });
    api.until_release("it is launched", &hash, |release| {
        release["launch"]["phase"] == "checking"
    })
    .await;
    gateway.kill();
    let ran = launching.await.expect("it ended");
    assert_eq!(ran.code, Some(5), "{ran:?}");
    let words = format!("the gateway at {admin} was gone before it had answered");
    assert!(ran.err.contains(&words), "{ran:?}");
}
