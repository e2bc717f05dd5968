//! A bucket as the store: the whole way of a release, and what becomes of it when the bucket is away.

use std::time::Duration;

use serde_json::json;

use crate::bench::until;
use crate::between::{Between, Mode};
use crate::bucket::Bucket;
use crate::lines;
use crate::seen;
use crate::setup::Setup;
use crate::shelf::Shelf;
use crate::stage::{Stage, start};
use crate::traffic::Traffic;

lines![
    S3 a_release_goes_its_whole_way_over_a_bucket,
    S3 a_bucket_is_found_by_the_usual_variables_alone,
    S3 while_the_bucket_is_away_a_switch_is_refused_before_it_begins,
    S3 a_bucket_that_goes_away_during_a_switch_gets_it_later,
    S3 a_bucket_that_answers_errors_during_a_switch_gets_it_later,
    S3 switches_that_cannot_be_written_are_written_in_their_order,
    S3 going_back_is_possible_while_the_bucket_is_away,
    S3 a_gateway_that_starts_while_the_bucket_is_away_serves_what_runs,
    S3 a_bucket_that_is_not_there_is_told,
    Process a_folder_that_may_not_be_written_refuses_a_switch,
];

/// The application's store is that bucket, at that server.
pub fn with_bucket(setup: Setup, bucket: &Bucket, address: &str) -> Setup {
    setup
        .set("apps.shop.store", bucket.location())
        .set("apps.shop.store_endpoint", format!("http://{address}"))
        .set("apps.shop.store_region", "us-east-1")
        .set("apps.shop.store_path_style", true)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
}

/// A bucket with something before it that can fail.
pub async fn with_something_between(stage: &Stage) -> (Setup, Shelf, Between) {
    let bucket = Bucket::new().await;
    let between = Between::before(bucket.server()).await;
    let setup = with_bucket(stage.setup(), &bucket, &between.address.to_string());
    (setup, Shelf::Bucket(bucket), between)
}

async fn a_release_goes_its_whole_way_over_a_bucket(stage: Stage) {
    let bucket = Bucket::new().await;
    let shelf = Shelf::Bucket(bucket.clone());
    let setup = with_bucket(stage.setup(), &bucket, bucket.server());
    let (gateway, api) = start(&setup).await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    let old_hash = api.deployed(&old).await;
    let key = format!("container.{old_hash}.json");
    assert_eq!(shelf.get(&key).await, Some(old.bytes()));
    assert_eq!(shelf.current_hash().await, old_hash);
    let new_hash = api.deployed(&new).await;
    assert_eq!(shelf.current_hash().await, new_hash);
    api.roll_back().await.ok();
    assert_eq!(shelf.current_hash().await, old_hash);
    let told = ["switch old", "switch new", "rollback old"];
    assert_eq!(shelf.told().await, told);
    assert_eq!(api.history().await, shelf.history().await);
    let status = api.until("the store is looked at", |status| {
        status["store"]["state"] == "up"
    });
    let place = status.await["store"]["place"].to_string();
    assert!(place.contains("s3://"), "{place}");
    gateway.kill();
    let (_gateway, api) = start(&setup).await;
    assert_eq!(api.answering().await, "old");
    assert_eq!(api.history().await.len(), 3);
}

async fn a_bucket_is_found_by_the_usual_variables_alone(stage: Stage) {
    let bucket = Bucket::new().await;
    let setup = stage
        .setup()
        .set("apps.shop.store", bucket.location())
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ENDPOINT_URL", format!("http://{}", bucket.server()))
        .env("AWS_ALLOW_HTTP", "true");
    let (_gateway, api) = start(&setup).await;
    let hash = api.deployed(&stage.release("one")).await;
    assert_eq!(api.answering().await, "one");
    assert_eq!(Shelf::Bucket(bucket).current_hash().await, hash);
}

async fn while_the_bucket_is_away_a_switch_is_refused_before_it_begins(stage: Stage) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let (gateway, api) = start(&setup).await;
    let old_hash = api.deployed(&stage.release("old")).await;
    let new = stage.release("new");
    let new_hash = api.launched(&new).await;
    between.set(Mode::Away);
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 40);
    let problem = api
        .switch(&new_hash)
        .await
        .problem(503, "store_unreachable");
    let detail = problem["detail"].to_string();
    assert!(
        detail.contains("store") && detail.contains("s3://"),
        "{detail}"
    );
    let stored = api.store(stage.release("third").bytes()).await;
    stored.problem(503, "store_unreachable");
    let unknown = api.launch(&"0".repeat(64)).await;
    unknown.problem(503, "store_unreachable");
    let status = api.status().await;
    assert_eq!(status["current"], old_hash);
    assert_eq!(status["pending"], json!(null));
    traffic.more(40).await;
    traffic.end().await.assert_all_by("old");
    assert_eq!(shelf.current_hash().await, old_hash);
    // The candidate is still there for the time when the store is back.
    between.set(Mode::Open);
    api.switched(&new_hash).await;
    assert_eq!(api.answering().await, "new");
    assert_eq!(shelf.current_hash().await, new_hash);
}

/// From the moment of the switch on nothing can be written.
async fn written_later(stage: Stage, mode: Mode) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let (gateway, api) = start(&setup).await;
    let old_hash = api.deployed(&stage.release("old")).await;
    let new_hash = api.launched(&stage.release("new")).await;
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 40);
    between.set(mode);
    let answer = api.switch(&new_hash).await;
    if answer.status != 200 {
        // What is looked at before it begins is up to the gateway; then nothing has changed.
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(api.status().await["current"], old_hash);
        panic!(
            "a store that can be read refuses the switch: {}",
            answer.text()
        );
    }
    let switched = answer.ok();
    assert_eq!(switched["pending"], true, "{switched}");
    assert_eq!(api.answering().await, "new");
    let pending = &api.status().await["pending"];
    assert_eq!(pending["hash"], new_hash, "{pending}");
    assert!(
        pending["error"]
            .as_str()
            .is_some_and(|error| !error.is_empty())
    );
    assert_eq!(shelf.current_hash().await, old_hash);
    // Nothing is removed while the store does not know of it.
    assert_eq!(seen::names(stage.bench()).await.len(), 2);
    between.set(Mode::Open);
    shelf.until_current(&new_hash).await;
    api.until("nothing is pending", |status| status["pending"].is_null())
        .await;
    assert_eq!(shelf.told().await, ["switch old", "switch new"]);
    traffic.more(40).await;
    traffic.end().await.assert_whole();
}

async fn a_bucket_that_goes_away_during_a_switch_gets_it_later(stage: Stage) {
    written_later(stage, Mode::NoWrites).await;
}

async fn a_bucket_that_answers_errors_during_a_switch_gets_it_later(stage: Stage) {
    written_later(stage, Mode::Failing).await;
}

async fn switches_that_cannot_be_written_are_written_in_their_order(stage: Stage) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let (_gateway, api) = start(&setup).await;
    api.deployed(&stage.release("one")).await;
    let mut hashes = Vec::new();
    for revision in ["two", "three"] {
        hashes.push(api.launched(&stage.release(revision)).await);
    }
    between.set(Mode::NoWrites);
    for hash in &hashes {
        assert_eq!(api.switched(hash).await["pending"], true);
    }
    assert_eq!(api.status().await["previous"], hashes[0].as_str());
    assert_eq!(shelf.told().await, ["switch one"]);
    between.set(Mode::Open);
    shelf.until_current(&hashes[1]).await;
    let told = ["switch one", "switch two", "switch three"];
    until("the history has all", || async {
        (shelf.told().await == told).then_some(())
    })
    .await;
    api.roll_back().await.ok();
    assert_eq!(api.answering().await, "two");
}

async fn going_back_is_possible_while_the_bucket_is_away(stage: Stage) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let (_gateway, api) = start(&setup).await;
    let old_hash = api.deployed(&stage.release("old")).await;
    let new_hash = api.deployed(&stage.release("new")).await;
    between.set(Mode::Away);
    let back = api.roll_back().await.ok();
    assert_eq!(back["pending"], true, "{back}");
    assert_eq!(api.answering().await, "old");
    assert_eq!(shelf.current_hash().await, new_hash);
    between.set(Mode::Open);
    shelf.until_current(&old_hash).await;
    let told = ["switch old", "switch new", "rollback old"];
    until("the history has it", || async {
        (shelf.told().await == told).then_some(())
    })
    .await;
}

async fn a_gateway_that_starts_while_the_bucket_is_away_serves_what_runs(stage: Stage) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let (gateway, api) = start(&setup).await;
    let release = stage.release("one");
    let hash = api.deployed(&release).await;
    gateway.kill();
    between.set(Mode::Away);
    let (_gateway, api) = start(&setup).await;
    assert_eq!(api.answering().await, "one");
    seen::assert_starts(stage.bench(), &release.container(), 1).await;
    let told = api.until("the store is told as down", |status| {
        status["store"]["state"] == "down"
    });
    assert!(told.await["store"]["reason"].as_str().is_some());
    between.set(Mode::Open);
    // And when it is back, it is as ever.
    until("a new release can be made current", || async {
        let stored = api.store(stage.release("two").bytes()).await;
        (stored.status == 201).then_some(())
    })
    .await;
    api.deployed(&stage.release("two")).await;
    assert_eq!(api.answering().await, "two");
    let last = shelf.told().await.pop();
    assert_eq!(last.as_deref(), Some("switch two"));
    assert_ne!(shelf.current_hash().await, hash);
}

async fn a_bucket_that_is_not_there_is_told(stage: Stage) {
    let bucket = Bucket::new().await;
    let setup = with_bucket(stage.setup(), &bucket, bucket.server())
        .set("apps.shop.store", "s3://there-is-no-such-bucket/here");
    let (_gateway, api) = start(&setup).await;
    let answer = api.store(stage.release("one").bytes()).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let detail = answer.json()["detail"].to_string();
    assert!(detail.contains("there-is-no-such-bucket"), "{detail}");
    let told = api.until("the store is told as down", |status| {
        status["store"]["state"] == "down"
    });
    assert!(told.await["store"]["reason"].to_string().contains("bucket"));
}

/// For root no folder is closed, but one that is a file is.
async fn a_folder_that_may_not_be_written_refuses_a_switch(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let old_hash = api.deployed(&stage.release("old")).await;
    let new_hash = api.launched(&stage.release("new")).await;
    let (store, away) = (stage.dir().join("store"), stage.dir().join("away"));
    std::fs::rename(&store, &away).expect("a folder");
    std::fs::write(&store, "in the way").expect("a file");
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 40);
    let answer = api.switch(&new_hash).await;
    assert!(answer.status >= 500, "{} {}", answer.status, answer.text());
    assert!(answer.text().contains("store"), "{}", answer.text());
    assert_eq!(api.status().await["current"], old_hash);
    tokio::time::sleep(Duration::from_millis(200)).await;
    traffic.end().await.assert_all_by("old");
    std::fs::remove_file(&store).expect("a file");
    std::fs::rename(&away, &store).expect("a folder");
    api.switched(&new_hash).await;
    assert_eq!(api.answering().await, "new");
}
