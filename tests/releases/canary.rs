//! A canary: a part of the requests, as the scripts say, and each client keeps to its own.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;

use crate::api::Api;
use crate::client::Answer;
use crate::lines;
use crate::seen;
use crate::setup::Setup;
use crate::stage::{Stage, start};
use crate::traffic::Traffic;

lines![
    Process a_share_of_the_clients_goes_to_the_canary_and_keeps_to_it,
    Process a_header_that_the_script_looks_for_goes_to_the_canary_always,
    Process without_a_word_of_the_script_a_canary_gets_nothing,
    Both a_switch_makes_the_canary_the_current_release,
    Process going_back_gives_the_canary_up_without_a_lost_request,
    Process another_canary_takes_the_place_of_the_first,
    Process a_canary_that_cannot_be_reached_leaves_its_requests_to_the_current_release,
    Process a_canary_needs_a_current_release_beside_it,
];

const SCRIPT: &str = r#"
route("/{*rest}", |req| {
    if req.header("x-beta") == "1" { app("shop").canary(100) } else { app("shop").canary(SHARE) }
});
"#;

fn sharing(stage: &Stage, share: &str) -> Setup {
    stage.setup().script(SCRIPT.replace("SHARE", share))
}

/// A current release `old`, and `new` as its canary; gives their hashes.
async fn with_canary(stage: &Stage, api: &Api) -> [String; 2] {
    let old = api.deployed(&stage.release("old")).await;
    let new = api.launched(&stage.release("new")).await;
    let answer = api.try_out(&new).await.ok();
    assert_eq!(answer["canary"], true, "{answer}");
    [old, new]
}

/// Which release answers, and the cookie that comes with it.
async fn visit(api: &Api, cookie: Option<&str>) -> (String, Option<String>) {
    let request = api.client.request(Method::GET, "/x");
    let request = match cookie {
        Some(cookie) => request.header("cookie", cookie),
        None => request,
    };
    let answer = Answer::to(request).await;
    let by = answer.ok()["connstr"]
        .as_str()
        .expect("a release")
        .to_owned();
    let told = answer.headers.get("set-cookie");
    let told = told.map(|told| told.to_str().expect("text"));
    let pair = told.and_then(|told| told.split(';').next());
    (by, pair.map(str::to_owned))
}

async fn a_share_of_the_clients_goes_to_the_canary_and_keeps_to_it(stage: Stage) {
    let (_gateway, api) = start(&sharing(&stage, "30")).await;
    let [old, new] = with_canary(&stage, &api).await;
    let mut clients = Vec::new();
    for _ in 0..300 {
        let (by, cookie) = visit(&api, None).await;
        clients.push((by, cookie.expect("a cookie")));
    }
    let mut counts = BTreeMap::new();
    for (by, _) in &clients {
        *counts.entry(by.as_str()).or_insert(0) += 1;
    }
    // Thirty of a hundred: 90 of these, with a standard deviation of 8.
    let canaries = counts["new"];
    assert!((40..140).contains(&canaries), "{counts:?}");
    let told = api.release(&new).await;
    assert_eq!(told["role"], "canary", "{told}");
    assert_eq!(told["total"]["requests"], canaries, "{told}");
    assert_eq!(api.status().await["canary"], new);
    assert_eq!(api.status().await["current"], old);
    assert_eq!(stage.shelf().current_hash().await, old);
    for (by, cookie) in clients.iter().take(60) {
        let (again, _) = visit(&api, Some(&format!("theme=dark; {cookie}"))).await;
        assert_eq!(again, *by);
    }
    // The application sees its own cookies, and not the gateway's.
    let request = api.client.request(Method::GET, "/x");
    let request = request.header("cookie", format!("{}; theme=dark", clients[0].1));
    let report = Answer::to(request).await.ok();
    assert_eq!(report["headers"]["cookie"], json!(["theme=dark"]));
}

async fn a_header_that_the_script_looks_for_goes_to_the_canary_always(stage: Stage) {
    let (_gateway, api) = start(&sharing(&stage, "0")).await;
    with_canary(&stage, &api).await;
    for _ in 0..20 {
        let request = api.client.request(Method::GET, "/x").header("x-beta", "1");
        assert_eq!(Answer::to(request).await.ok()["connstr"], "new");
        assert_eq!(visit(&api, None).await.0, "old");
    }
}

async fn without_a_word_of_the_script_a_canary_gets_nothing(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let [_, new] = with_canary(&stage, &api).await;
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 100);
    traffic.more(100).await;
    traffic.end().await.assert_all_by("old");
    assert_eq!(api.release(&new).await["total"]["requests"], 0);
}

async fn a_switch_makes_the_canary_the_current_release(stage: Stage) {
    let (gateway, api) = start(&sharing(&stage, "50")).await;
    let [old, new] = with_canary(&stage, &api).await;
    let history = stage.shelf().history().await;
    assert_eq!(history.len(), 1, "a canary is no switch: {history:?}");
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 60);
    traffic.more(60).await;
    api.switched(&new).await;
    let answered = std::time::Instant::now();
    traffic.more(60).await;
    let all = traffic.end().await;
    all.assert_whole();
    let before = all.before(answered);
    assert_eq!(before.by_release().len(), 2, "{:?}", before.by_release());
    all.since(answered + std::time::Duration::from_millis(50))
        .assert_all_by("new");
    let status = api.status().await;
    assert_eq!(status["canary"], json!(null));
    assert_eq!(status["current"], new);
    assert_eq!(status["previous"], old);
    assert_eq!(stage.shelf().current_hash().await, new);
    api.until_phase(&old, "stopped").await;
    seen::assert_starts(stage.bench(), &stage.release("new").container(), 1).await;
}

async fn going_back_gives_the_canary_up_without_a_lost_request(stage: Stage) {
    let (gateway, api) = start(&sharing(&stage, "50")).await;
    let [old, new] = with_canary(&stage, &api).await;
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 60);
    traffic.more(60).await;
    api.roll_back().await.ok();
    let answered = std::time::Instant::now();
    traffic.more(60).await;
    let all = traffic.end().await;
    all.assert_whole();
    all.since(answered + std::time::Duration::from_millis(50))
        .assert_all_by("old");
    let status = api.status().await;
    assert_eq!(status["canary"], json!(null), "{status}");
    assert_eq!(status["current"], old, "{status}");
    assert_eq!(stage.shelf().history().await.len(), 1);
    // It ends; the current one stays as it was.
    seen::until_running(stage.bench(), &[&stage.release("old").container()]).await;
    seen::assert_starts(stage.bench(), &stage.release("old").container(), 1).await;
    // There is no release before the current one.
    api.roll_back().await.problem(409, "nothing_to_go_back_to");
    drop(new);
}

async fn another_canary_takes_the_place_of_the_first(stage: Stage) {
    let (_gateway, api) = start(&sharing(&stage, "100")).await;
    let [_, new] = with_canary(&stage, &api).await;
    assert_eq!(visit(&api, None).await.0, "new");
    let (_, cookie) = visit(&api, None).await;
    let third = api.launched(&stage.release("third")).await;
    api.try_out(&third).await.ok();
    assert_eq!(visit(&api, None).await.0, "third");
    // A client of the first canary is not kept from the second.
    assert_eq!(visit(&api, cookie.as_deref()).await.0, "third");
    assert_eq!(api.status().await["canary"], third);
    let gone = stage.release("new").container();
    crate::bench::until("the first canary does not run", || async {
        let running = seen::running(stage.bench()).await;
        (!running.contains(&gone)).then_some(())
    })
    .await;
    drop(new);
}

async fn a_canary_that_cannot_be_reached_leaves_its_requests_to_the_current_release(stage: Stage) {
    let (_gateway, api) = start(&sharing(&stage, "100")).await;
    api.deployed(&stage.release("old")).await;
    // It lives for a while and can then not be woken again.
    let marker = stage.dir().join("broken");
    drop(_gateway);
    let program = env!("CARGO_BIN_EXE_wakegate");
    let script = format!("test ! -e {} && exec {program} minion", marker.display());
    let setup = sharing(&stage, "100").image("fragile:latest", &["sh", "-c", &script]);
    let (_gateway, api) = start(&setup).await;
    api.until_ready().await;
    let new = stage.release("new").with("image", "fragile:latest");
    let hash = api.launched(&new).await;
    api.try_out(&hash).await.ok();
    assert_eq!(visit(&api, None).await.0, "new");
    std::fs::write(&marker, "").expect("a file");
    let id = seen::container(stage.bench(), &new.container())
        .await
        .expect("it is there")
        .id;
    stage.bench().kill(&id).await;
    for _ in 0..5 {
        assert_eq!(visit(&api, None).await.0, "old");
    }
}

async fn a_canary_needs_a_current_release_beside_it(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let hash = api.launched(&stage.release("one")).await;
    api.try_out(&hash).await.problem(409, "no_current_release");
    api.switched(&hash).await;
    api.try_out(&hash).await.problem(409, "is_current");
    assert_eq!(api.answering().await, "one");
}
