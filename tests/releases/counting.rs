//! What is counted of releases, against what was really sent.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Api, release_of};
use crate::bench::{in_time, until};
use crate::client::Answer;
use crate::lines;
use crate::stage::Stage;
use crate::streams;

lines![
    Process requests_statuses_bytes_and_times_are_those_that_were_sent,
    Process what_is_open_is_told_by_its_state,
    Process what_was_before_the_last_switch_and_what_came_after_it_is_told_apart,
    Process the_stream_of_statuses_tells_a_switch,
];

async fn times(api: &Api, path: &str, count: usize) {
    for _ in 0..count {
        api.client.get(path).await;
    }
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

async fn requests_statuses_bytes_and_times_are_those_that_were_sent(stage: Stage) {
    const SENT: usize = 300_000;
    const FETCHED: u64 = 200_000;
    let (_gateway, api) = stage.start().await;
    let hash = api.deployed(&stage.release("one")).await;
    times(&api, "/x", 6).await;
    // Not a number of milliseconds.
    times(&api, "/slow?ms=no", 4).await;
    api.client.get("/slow?ms=300").await.ok();
    let request = api.client.request(Method::POST, "/up");
    Answer::to(request.body(vec![7_u8; SENT])).await.ok();
    let bytes = api.client.get(&format!("/bytes?n={FETCHED}")).await;
    assert_eq!(bytes.body.len() as u64, FETCHED);
    let counted = api.release(&hash).await["total"].clone();
    assert_eq!(counted["requests"], 13, "{counted}");
    assert_eq!(counted["statuses"]["2xx"], 9, "{counted}");
    assert_eq!(counted["statuses"]["4xx"], 4, "{counted}");
    assert_eq!(counted["statuses"]["5xx"], 0, "{counted}");
    assert_eq!(counted["failed"], 0, "{counted}");
    assert_eq!(number(&counted["bytes_from_clients"]), SENT as u64);
    let back = number(&counted["bytes_to_clients"]);
    // The reports of the others are some hundred bytes each.
    assert!((FETCHED..FETCHED + 20_000).contains(&back), "{back}");
    let of = |name: &str| counted["response_times"][name].as_f64().expect(name);
    assert!(of("p50_ms") < 250.0, "{counted}");
    assert!(of("p99_ms") >= 250.0, "{counted}");
    assert!(of("p50_ms") <= of("p90_ms") && of("p90_ms") <= of("p99_ms"));
}

async fn what_is_open_is_told_by_its_state(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let hash = api.deployed(&stage.release("one")).await;
    let stream = streams::events(&gateway.public, "/events?every=50").await;
    let sockets = [
        streams::websocket(&gateway.public, "/echo", Duration::from_millis(50)).await,
        streams::websocket(&gateway.public, "/echo", Duration::from_millis(50)).await,
    ];
    // Its answer waits for its end, and that for this line.
    let upload = streams::upload(&gateway.public, "/up").await;
    until("all are told", || async {
        let open = api.release(&hash).await["total"]["open"].clone();
        let expected = json!({ "held": 0, "waiting": 1, "streaming": 1, "upgraded": 2 });
        (open == expected).then_some(())
    })
    .await;
    upload.finish().await.expect("an answer");
    stream.abort();
    sockets.iter().for_each(tokio::task::JoinHandle::abort);
    until("nothing is open", || async {
        let open = api.release(&hash).await["total"]["open"].clone();
        let expected = json!({ "held": 0, "waiting": 0, "streaming": 0, "upgraded": 0 });
        (open == expected).then_some(())
    })
    .await;
}

async fn what_was_before_the_last_switch_and_what_came_after_it_is_told_apart(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = api.deployed(&stage.release("old")).await;
    times(&api, "/x", 7).await;
    let new = api.deployed(&stage.release("new")).await;
    times(&api, "/x", 3).await;
    let status = api.status().await;
    let counts = |value: &Value| {
        ["before_last_switch", "since_last_switch"].map(|part| number(&value[part]["requests"]))
    };
    assert_eq!(counts(&status), [7, 3], "{status}");
    assert_eq!(counts(&release_of(&status, &old)), [7, 0]);
    assert_eq!(counts(&release_of(&status, &new)), [0, 3]);
    let last = &status["last_switch"];
    assert_eq!(last["hash"], new, "{last}");
    assert_eq!(last["from"], old, "{last}");
    assert_eq!(last["by"], "a test", "{last}");
    api.roll_back().await.ok();
    times(&api, "/x", 2).await;
    let status = api.status().await;
    assert_eq!(counts(&status), [10, 2], "{status}");
    assert_eq!(counts(&release_of(&status, &old)), [7, 2]);
}

async fn the_stream_of_statuses_tells_a_switch(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let hash = api.launched(&stage.release("one")).await;
    let url = format!("http://{}/events", api.client.admin_address());
    let answer = api.client.open(&url).await;
    assert_eq!(answer.status(), 200);
    let mut parts = answer.bytes_stream();
    let mut text = String::new();
    let mut switched = false;
    loop {
        let part = in_time("a status", parts.next()).await.expect("a part");
        text.push_str(&String::from_utf8_lossy(&part.expect("a part")));
        let told = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
            .next_back();
        let Some(told) = told else { continue };
        let current = &told["apps"][0]["current"];
        if !switched {
            assert!(current.is_null(), "{current}");
            api.switched(&hash).await;
            switched = true;
        } else if *current == hash {
            return;
        }
    }
}
