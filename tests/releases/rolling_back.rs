//! Going back: to the release before, without a pull, by hand and by itself.

use std::time::{Duration, Instant};

use crate::bench::until;
use crate::lines;
use crate::seen;
use crate::servers::Registry;
use crate::stage::{Stage, start};
use crate::streams;
use crate::traffic::Traffic;

lines![
    Both the_previous_release_is_woken_and_switched_to_without_a_lost_request,
    Registry going_back_pulls_nothing,
    Process going_back_twice_leads_to_the_release_before_that,
    Process without_a_release_before_there_is_nothing_to_go_back_to,
    Process going_back_while_the_old_release_drains_takes_it_as_it_is,
    Process a_previous_release_that_cannot_be_woken_leaves_the_current_one,
    Process after_going_back_a_new_release_can_be_switched_to,
    Process a_release_that_answers_errors_is_left_by_itself,
    Process a_release_that_answers_well_is_not_left_by_itself,
    Process a_release_that_fails_no_more_than_the_one_before_is_not_left,
    Process without_the_setting_nothing_goes_back_by_itself,
    Process a_release_is_still_watched_when_the_gateway_has_started_anew,
];

async fn the_previous_release_is_woken_and_switched_to_without_a_lost_request(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    let old_hash = api.deployed(&old).await;
    let new_hash = api.deployed(&new).await;
    seen::until_running(stage.bench(), &[&new.container()]).await;
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 60);
    traffic.more(30).await;
    let told = Instant::now();
    let back = api.roll_back().await.ok();
    let answered = Instant::now();
    assert_eq!(back["hash"], old_hash, "{back}");
    assert_eq!(back["from"], new_hash, "{back}");
    traffic.more(60).await;
    let all = traffic.end().await;
    all.answered_by(told).assert_all_by("new");
    all.since(answered + Duration::from_millis(50))
        .assert_all_by("old");
    all.assert_whole();
    seen::until_running(stage.bench(), &[&old.container()]).await;
    seen::assert_starts(stage.bench(), &old.container(), 2).await;
    assert_eq!(stage.shelf().current_hash().await, old_hash);
    let told = stage.shelf().told().await;
    assert_eq!(told, ["switch old", "switch new", "rollback old"]);
    assert_eq!(seen::names(stage.bench()).await.len(), 2);
}

async fn going_back_pulls_nothing(stage: Stage) {
    let mut registry = Registry::start(stage.dir());
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str());
    let (_gateway, api) = start(&setup).await;
    let image = stage.bench().image();
    let mut releases = Vec::new();
    for revision in ["old", "new"] {
        registry.take(&stage, &image, "shop", revision).await;
        let release = stage.release(revision).without("image");
        api.deployed(&release).await;
        releases.push(release);
    }
    seen::until_running(stage.bench(), &[&releases[1].container()]).await;
    registry.end();
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "old");
    seen::until_running(stage.bench(), &[&releases[0].container()]).await;
}

async fn going_back_twice_leads_to_the_release_before_that(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    for revision in ["one", "two", "three"] {
        api.deployed(&stage.release(revision)).await;
    }
    for expected in ["two", "one"] {
        api.roll_back().await.ok();
        assert_eq!(api.answering().await, expected);
    }
    api.roll_back().await.problem(409, "nothing_to_go_back_to");
    assert_eq!(api.answering().await, "one");
    let told = stage.shelf().told().await;
    assert_eq!(told[3..], ["rollback two", "rollback one"]);
}

async fn without_a_release_before_there_is_nothing_to_go_back_to(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    api.roll_back().await.problem(409, "nothing_to_go_back_to");
    let hash = api.deployed(&stage.release("only")).await;
    api.roll_back().await.problem(409, "nothing_to_go_back_to");
    assert_eq!(api.answering().await, "only");
    assert_eq!(stage.shelf().current_hash().await, hash);
    assert_eq!(stage.shelf().history().await.len(), 1);
}

async fn going_back_while_the_old_release_drains_takes_it_as_it_is(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    let old_hash = api.deployed(&old).await;
    let stream = streams::events(&gateway.public, "/events?every=50").await;
    let new_hash = api.deployed(&new).await;
    assert_eq!(api.release(&old_hash).await["role"], "draining");
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "old");
    api.until_phase(&new_hash, "stopped").await;
    // The same process as before, and its stream goes on.
    seen::assert_starts(stage.bench(), &old.container(), 1).await;
    assert!(!stream.is_finished());
    stream.abort();
    until("its stream is given back", || async {
        (api.release(&old_hash).await["leases"] == 0).then_some(())
    })
    .await;
    seen::until_running(stage.bench(), &[&old.container()]).await;
    assert_eq!(api.answering().await, "old");
    seen::assert_starts(stage.bench(), &old.container(), 1).await;
}

async fn a_previous_release_that_cannot_be_woken_leaves_the_current_one(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let file = stage.dir().join("broken");
    let program = env!("CARGO_BIN_EXE_wakegate");
    // A program that only runs as long as nothing stands in its way.
    let script = format!("test ! -e {} && exec {program} minion", file.display());
    drop(gateway);
    let setup = stage
        .setup()
        .image("fragile:latest", &["sh", "-c", &script]);
    let (_gateway, api) = {
        drop(api);
        start(&setup).await
    };
    let old = stage.release("old").with("image", "fragile:latest");
    api.deployed(&old).await;
    let new = stage.release("new");
    let new_hash = api.deployed(&new).await;
    seen::until_running(stage.bench(), &[&new.container()]).await;
    std::fs::write(&file, "").expect("a file");
    let answer = api.roll_back().await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(api.answering().await, "new");
    assert_eq!(api.status().await["current"], new_hash);
    assert_eq!(stage.shelf().current_hash().await, new_hash);
    assert_eq!(stage.shelf().history().await.len(), 2);
    // It is there for another time.
    assert!(
        seen::container(stage.bench(), &old.container())
            .await
            .is_some()
    );
    std::fs::remove_file(&file).expect("a file");
    until("it can be gone back to", || async {
        (api.roll_back().await.status == 200).then_some(())
    })
    .await;
    assert_eq!(api.answering().await, "old");
}

async fn after_going_back_a_new_release_can_be_switched_to(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let [one, two, three] = ["one", "two", "three"].map(|revision| stage.release(revision));
    api.deployed(&one).await;
    api.deployed(&two).await;
    api.roll_back().await.ok();
    api.deployed(&three).await;
    assert_eq!(api.answering().await, "three");
    // What was before it is what it was switched from, not what was given up.
    assert_eq!(api.status().await["previous"], one.hash());
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "one");
}

/// Goes back when within ten seconds more than a fifth more of the requests fail than before.
fn watchful(stage: &Stage) -> crate::setup::Setup {
    stage
        .setup()
        .set("apps.shop.rollback_failures_max", 0.2)
        .set("apps.shop.rollback_watch", "10s")
        .set("apps.shop.rollback_requests_min", 10)
}

/// The store hears of it after it was done, of the history last.
async fn until_gone_back_is_told(stage: &Stage) {
    let expected = ["switch old", "switch bad", "automatic rollback old"];
    until("the history has it", || async {
        (stage.shelf().told().await == expected).then_some(())
    })
    .await;
}

async fn a_release_that_answers_errors_is_left_by_itself(stage: Stage) {
    let (gateway, api) = start(&watchful(&stage)).await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 60);
    traffic.more(40).await;
    let bad = stage.release("bad").env("ANSWER_STATUS", "500");
    let bad_hash = api.deployed(&bad).await;
    let back = api.until("it has gone back", |status| status["current"] == old_hash);
    back.await;
    let gone_back = Instant::now();
    traffic.more(60).await;
    let all = traffic.end().await;
    all.since(gone_back + Duration::from_millis(50))
        .assert_all_by("old");
    let failures = all.failures();
    assert!(failures.len() >= 10, "{}", failures.len());
    until_gone_back_is_told(&stage).await;
    let by = stage.shelf().history().await[2]["by"].to_string();
    assert!(by.contains("gateway"), "{by}");
    assert_eq!(stage.shelf().current_hash().await, old_hash);
    api.until_phase(&bad_hash, "stopped").await;
    seen::until_running(stage.bench(), &[&old.container()]).await;
}

async fn a_release_that_answers_well_is_not_left_by_itself(stage: Stage) {
    let setup = watchful(&stage).set("apps.shop.rollback_watch", "2s");
    let (gateway, api) = start(&setup).await;
    api.deployed(&stage.release("old")).await;
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 60);
    traffic.more(40).await;
    let hash = api.deployed(&stage.release("new")).await;
    // Past the time in which it is watched.
    traffic.more(240).await;
    traffic.end().await.assert_whole();
    assert_eq!(api.status().await["current"], hash);
    // What comes after that time is nobody's business.
    assert_eq!(stage.shelf().history().await.len(), 2);
}

async fn a_release_that_fails_no_more_than_the_one_before_is_not_left(stage: Stage) {
    let setup = watchful(&stage).set("apps.shop.rollback_watch", "2s");
    let (gateway, api) = start(&setup).await;
    api.deployed(&stage.release("old").env("ANSWER_STATUS", "500"))
        .await;
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 60);
    traffic.more(60).await;
    let hash = api
        .deployed(&stage.release("new").env("ANSWER_STATUS", "503"))
        .await;
    traffic.more(240).await;
    let all = traffic.end().await;
    assert_eq!(all.failures().len(), all.0.len());
    assert_eq!(api.status().await["current"], hash);
    assert_eq!(stage.shelf().history().await.len(), 2);
}

async fn without_the_setting_nothing_goes_back_by_itself(stage: Stage) {
    let (gateway, api) = stage.start().await;
    api.deployed(&stage.release("old")).await;
    let hash = api
        .deployed(&stage.release("bad").env("ANSWER_STATUS", "500"))
        .await;
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 60);
    traffic.more(240).await;
    traffic.end().await;
    assert_eq!(api.status().await["current"], hash);
    let counted = &api.release(&hash).await["since_last_switch"];
    assert!(counted["failed"].as_u64() >= Some(200), "{counted}");
}

async fn a_release_is_still_watched_when_the_gateway_has_started_anew(stage: Stage) {
    let setup = watchful(&stage).set("apps.shop.rollback_watch", "60s");
    let (gateway, api) = start(&setup).await;
    let old_hash = api.deployed(&stage.release("old")).await;
    api.deployed(&stage.release("bad").env("ANSWER_STATUS", "500"))
        .await;
    gateway.kill();
    let (gateway, api) = start(&setup).await;
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 60);
    api.until("it has gone back", |status| status["current"] == old_hash)
        .await;
    traffic.end().await;
    assert_eq!(api.answering().await, "old");
    until_gone_back_is_told(&stage).await;
}
