//! Pausing and maintenance: requests are held up to a limit, or answered 503, for one and for all.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::api::{Api, ms};
use crate::bench::{Bench, until};
use crate::client::Answer;
use crate::configuration::Configuration;
use crate::gate::{GATED, Gate};
use crate::lines;
use crate::seen;
use crate::setup::Setup;
use crate::stage::{Stage, start};
use crate::streams;

lines![
    Process a_paused_application_holds_requests_until_it_is_resumed,
    Process a_request_is_held_up_to_the_limit_and_then_503,
    Process past_the_places_for_held_requests_the_next_is_503_at_once,
    Process requests_held_by_a_pause_and_by_a_waking_container_have_one_limit_in_all,
    Process a_pause_does_not_break_off_what_is_under_way,
    Process maintenance_answers_503_until_it_is_over,
    Process maintenance_of_all_and_of_one,
    Process a_switch_behind_a_closed_door_counts_when_it_opens,
    Process maintenance_wakes_nothing,
];

fn held(api: &Api) -> tokio::task::JoinHandle<(Answer, Duration)> {
    let client = api.client.alone();
    tokio::spawn(async move {
        let began = Instant::now();
        let answer = Answer::to(client.request(Method::GET, "/held")).await;
        (answer, began.elapsed())
    })
}

/// The statuses tell nothing of requests that are held before a release is chosen, so that the
/// application has to: it has got none of them.
async fn assert_none_came(stage: &Stage, release: &Configuration, api: &Api, before: u64) {
    let told = api.release(&release.hash()).await;
    assert_eq!(
        told["total"]["statuses"]["2xx"].as_u64().unwrap_or(before),
        before,
        "{told}"
    );
    assert!(
        seen::container(stage.bench(), &release.container())
            .await
            .is_some()
    );
}

async fn a_paused_application_holds_requests_until_it_is_resumed(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let release = stage.release("one");
    api.deployed(&release).await;
    api.pause().await;
    assert_eq!(api.status().await["door"], "paused");
    let waiting = [held(&api), held(&api), held(&api)];
    api.until("all are held", |status| status["held"] == 3)
        .await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(waiting.iter().all(|one| !one.is_finished()));
    assert_eq!(api.status().await["held"], 3);
    assert_none_came(&stage, &release, &api, 0).await;
    let resumed = Instant::now();
    api.resume().await;
    for one in waiting {
        let (answer, _) = one.await.expect("an answer");
        assert_eq!(answer.ok()["connstr"], "one");
    }
    assert!(resumed.elapsed() < Duration::from_secs(10));
    assert_eq!(api.status().await["door"], "open");
    assert_eq!(api.answering().await, "one");
}

async fn a_request_is_held_up_to_the_limit_and_then_503(stage: Stage) {
    let setup = stage.setup().set("apps.shop.pause_max", "1s");
    let (_gateway, api) = start(&setup).await;
    api.deployed(&stage.release("one")).await;
    api.pause().await;
    let (answer, took) = held(&api).await.expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.text());
    answer.retry_after();
    assert!(took >= Duration::from_secs(1), "{} ms", ms(took));
    assert!(took < Duration::from_secs(10), "{} ms", ms(took));
    // Still paused: the limit is a request's, not the pause's.
    let status = api.status().await;
    assert_eq!(status["door"], "paused");
    assert_eq!(
        (&status["turned_away"], &status["held"]),
        (&1.into(), &0.into())
    );
    let (answer, _) = held(&api).await.expect("an answer");
    assert_eq!(answer.status, 503);
    api.resume().await;
    assert_eq!(api.answering().await, "one");
}

async fn past_the_places_for_held_requests_the_next_is_503_at_once(stage: Stage) {
    let setup = stage
        .setup()
        .set("hold.queue_max", 2)
        .set("apps.shop.pause_max", "1m");
    let (_gateway, api) = start(&setup).await;
    api.deployed(&stage.release("one")).await;
    api.pause().await;
    let mut waiting: Vec<_> = (0..6).map(|_| held(&api)).collect();
    until("four are refused", || async {
        let ended = waiting.iter().filter(|one| one.is_finished()).count();
        (ended == 4).then_some(())
    })
    .await;
    let (ended, still): (Vec<_>, Vec<_>) = waiting.drain(..).partition(|one| one.is_finished());
    for one in ended {
        let (answer, took) = one.await.expect("an answer");
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(took < Duration::from_secs(10), "{} ms", ms(took));
    }
    api.resume().await;
    for one in still {
        one.await.expect("an answer").0.ok();
    }
}

async fn requests_held_by_a_pause_and_by_a_waking_container_have_one_limit_in_all(stage: Stage) {
    let gate = Gate::new(stage.bench());
    let setup = gate
        .in_front_of(two_applications(stage.bench()))
        .set("hold.queue_max", 2)
        .set("hold.total_max", 2)
        .set("apps.cafe.pause_max", "1m");
    let (_gateway, api) = start(&setup).await;
    let cafe = Api::new(&api.client, "cafe");
    let release = stage.release("one").with("image", GATED);
    let hash = api.deployed(&release.sleeps_after("200ms")).await;
    cafe.pause().await;
    let paused = {
        let client = api.client.clone();
        tokio::spawn(async move { client.get("/cafe/x").await })
    };
    cafe.until("one is held", |status| status["held"] == 1)
        .await;
    api.until_phase(&hash, "stopped").await;
    gate.close();
    let waking = {
        let client = api.client.clone();
        tokio::spawn(async move { client.get("/shop/x").await })
    };
    api.until_release("one waits", &hash, |release| release["waiting"] == 1)
        .await;
    // One of each: there is no place left for either.
    for path in ["/shop/x", "/cafe/x"] {
        assert_eq!(api.client.get(path).await.status, 503, "{path}");
    }
    gate.open();
    waking.await.expect("an answer").ok();
    paused.abort();
}

async fn a_pause_does_not_break_off_what_is_under_way(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let hash = api.deployed(&stage.release("one")).await;
    let upload = streams::upload(&gateway.public, "/up").await;
    // For some seconds, so that it is still under way when that is looked at.
    let stream = streams::events(&gateway.public, "/events?every=50&count=160").await;
    until("both are under way", || async {
        (api.release(&hash).await["leases"] == 2).then_some(())
    })
    .await;
    api.pause().await;
    let streamed = stream.await.expect("an end");
    assert_eq!((streamed.events, streamed.in_order), (160, true));
    assert_eq!(upload.finish().await.expect("an answer").by, "one");
    api.resume().await;
}

async fn maintenance(api: &Api, way: &str, app: Option<&str>) -> Answer {
    let body = app.map_or(json!({}), |app| json!({ "app": app }));
    api.post(&format!("/maintenance/{way}"), body).await
}

async fn maintenance_answers_503_until_it_is_over(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let hash = api.deployed(&stage.release("one")).await;
    let stream = streams::events(&gateway.public, "/events?every=50&count=40").await;
    maintenance(&api, "up", Some("shop")).await.ok();
    assert_eq!(api.status().await["door"], "maintenance");
    let answer = api.client.get("/x").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    answer.retry_after();
    let page = api.client.navigate("/x").await;
    assert_eq!(page.status, 503);
    assert!(page.header("content-type").starts_with("text/html"));
    // What is under way runs on, and the release stays current.
    let streamed = stream.await.expect("an end");
    assert_eq!((streamed.events, streamed.in_order), (40, true));
    assert_eq!(api.status().await["current"], hash);
    maintenance(&api, "down", Some("shop")).await.ok();
    assert_eq!(api.answering().await, "one");
}

/// Two applications, told apart by the first segment of the path.
fn two_applications(bench: &Bench) -> Setup {
    bench
        .setup()
        .set("apps.shop.store", "file:store")
        .set("apps.cafe.store", "file:cafe")
        .script(
            r#"
            route("/shop/{*rest}", |req| app("shop").strip(1));
            route("/cafe/{*rest}", |req| app("cafe").strip(1));
            idle(|c| if c.label("sleep") == "" { never() } else { stop_after(c.label("sleep")) });
            "#,
        )
}

async fn maintenance_of_all_and_of_one(stage: Stage) {
    let (gateway, shop) = start(&two_applications(stage.bench())).await;
    let cafe = Api::new(&gateway.client, "cafe");
    shop.deployed(&stage.release("shop1")).await;
    cafe.deployed(&stage.release("cafe1")).await;
    let statuses = async || {
        let mut statuses = Vec::new();
        for app in ["shop", "cafe"] {
            let answer = shop.client.get(&format!("/{app}/x")).await;
            if answer.status == 200 {
                assert_eq!(answer.json()["connstr"], format!("{app}1").as_str());
            }
            statuses.push(answer.status);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 200]);
    let told = maintenance(&shop, "up", None).await.ok();
    assert_eq!(told.as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(statuses().await, [503, 503]);
    maintenance(&shop, "down", Some("cafe")).await.ok();
    assert_eq!(statuses().await, [503, 200]);
    maintenance(&shop, "down", None).await.ok();
    assert_eq!(statuses().await, [200, 200]);
    maintenance(&shop, "up", Some("shop")).await.ok();
    assert_eq!(statuses().await, [503, 200]);
    let unknown = maintenance(&shop, "up", Some("pub")).await;
    unknown.problem(404, "unknown_app");
    shop.post("/apps/cafe/pause", json!({})).await.ok();
    assert_eq!(shop.status().await["door"], "maintenance");
    assert_eq!(cafe.status().await["door"], "paused");
}

async fn a_switch_behind_a_closed_door_counts_when_it_opens(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    api.deployed(&stage.release("old")).await;
    api.pause().await;
    let waiting = [held(&api), held(&api)];
    api.until("both are held", |status| status["held"] == 2)
        .await;
    let hash = api.deployed(&stage.release("new")).await;
    assert!(waiting.iter().all(|one| !one.is_finished()));
    assert_eq!(api.status().await["door"], "paused");
    api.resume().await;
    for one in waiting {
        assert_eq!(one.await.expect("an answer").0.ok()["connstr"], "new");
    }
    maintenance(&api, "up", None).await.ok();
    api.roll_back().await.ok();
    assert_eq!(api.client.get("/x").await.status, 503);
    maintenance(&api, "down", None).await.ok();
    assert_eq!(api.answering().await, "old");
    drop(hash);
}

async fn maintenance_wakes_nothing(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let release = stage.release("one").sleeps_after("300ms");
    let hash = api.deployed(&release).await;
    api.until_phase(&hash, "stopped").await;
    maintenance(&api, "up", None).await.ok();
    for _ in 0..20 {
        assert_eq!(api.client.get("/x").await.status, 503);
    }
    assert!(seen::running(stage.bench()).await.is_empty());
    seen::assert_starts(stage.bench(), &release.container(), 1).await;
}
