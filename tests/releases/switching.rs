//! The moment of a switch: who gets which request, and how the old release is let go.

use std::time::{Duration, Instant};

use crate::api::{Api, ms};
use crate::bench::{PATIENCE, in_time, until};
use crate::client::Answer;
use crate::lines;
use crate::seen;
use crate::stage::{Stage, start};
use crate::streams;
use crate::traffic::Traffic;

lines![
    Both a_switch_under_traffic_loses_no_request_and_all_after_it_go_to_the_new_release,
    Process fifty_switches_to_and_fro_lose_no_request,
    Process an_upload_in_progress_ends_on_the_old_release_and_sigterm_waits_for_it,
    Process an_event_stream_runs_on_until_the_drain_limit,
    Both websockets_are_told_to_go_away_and_not_all_at_once,
    Process without_anything_open_the_old_release_ends_at_once_and_sleeps,
    Process a_release_that_ignores_its_end_is_killed_and_the_switch_is_not_held_up,
    Process switches_at_once_leave_one_current_release,
    Process a_client_that_hangs_up_does_not_undo_its_switch,
];

/// After the answer to a switch, requests may go to the old release no longer than this.
const SWITCHED_WITHIN: Duration = Duration::from_millis(50);

/// For what should come at a moment: a busy machine may be so late.
const LATE_MAX: Duration = Duration::from_secs(20);

async fn leases(api: &Api, hash: &str) -> u64 {
    api.release(hash).await["leases"].as_u64().unwrap_or(0)
}

async fn until_leases(api: &Api, hash: &str, count: u64) {
    let what = format!("{count} leases");
    until(&what, || async {
        (leases(api, hash).await == count).then_some(())
    })
    .await;
}

/// Waits until it sleeps and can be gone back to. That it no longer drains is told a moment after its
/// container has stopped.
async fn until_previous(api: &Api, hash: &str) {
    api.until_release("it sleeps as the previous one", hash, |release| {
        release["phase"] == "stopped" && release["role"] == "previous"
    })
    .await;
}

async fn a_switch_under_traffic_loses_no_request_and_all_after_it_go_to_the_new_release(
    stage: Stage,
) {
    let (gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let traffic = Traffic::begin(&gateway.public, "/x", 8, 100);
    traffic.more(50).await;
    let new = stage.release("new");
    let hash = api.launched(&new).await;
    let told = Instant::now();
    let switched = api.switched(&hash).await;
    let answered = Instant::now();
    assert_eq!(switched["from"], old_hash);
    assert_eq!(stage.shelf().current_hash().await, hash);
    traffic.more(150).await;
    let all = traffic.end().await;
    all.assert_whole();
    all.answered_by(told).assert_all_by("old");
    all.since(answered + SWITCHED_WITHIN).assert_all_by("new");
    // The old one ends and sleeps; it is not removed.
    seen::until_running(stage.bench(), &[&new.container()]).await;
    let old_one = seen::container(stage.bench(), &old.container()).await;
    assert!(!old_one.expect("it is kept").runs);
    let status = api.status().await;
    assert_eq!(status["previous"], old_hash);
    until_previous(&api, &old_hash).await;
}

async fn fifty_switches_to_and_fro_lose_no_request(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let hashes = [
        api.deployed(&stage.release("even")).await,
        api.launched(&stage.release("odd")).await,
    ];
    let traffic = Traffic::begin(&gateway.public, "/x", 8, 150);
    for number in 1..=50 {
        let hash = &hashes[number % 2];
        // The one that was left may be asleep by now.
        api.launch(hash).await.ok();
        api.switched(hash).await;
        let answered = Instant::now();
        assert_eq!(api.answering().await, ["even", "odd"][number % 2]);
        assert!(answered.elapsed() < PATIENCE);
        traffic.more(5).await;
    }
    let all = traffic.end().await;
    all.assert_whole();
    let counts = all.by_release();
    assert!(counts["even"] > 50 && counts["odd"] > 50, "{counts:?}");
    let told = stage.shelf().told().await;
    assert_eq!(told.len(), 50, "the newest fifty are kept");
    assert_eq!(told[49], "switch even");
    assert_eq!(told[48], "switch odd");
}

async fn an_upload_in_progress_ends_on_the_old_release_and_sigterm_waits_for_it(stage: Stage) {
    // Whatever ends the old release in this line, it is not the limit.
    let setup = stage.setup().set("apps.shop.drain_timeout", "1h");
    let (gateway, api) = start(&setup).await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let id = seen::container(stage.bench(), &old.container())
        .await
        .expect("it runs")
        .id;
    let new = stage.release("new");
    let hash = api.launched(&new).await;
    let upload = streams::upload(&gateway.public, "/up").await;
    until_leases(&api, &old_hash, 1).await;
    api.switched(&hash).await;
    assert_eq!(api.answering().await, "new");
    let draining = api.release(&old_hash).await;
    assert_eq!(draining["role"], "draining", "{draining}");
    assert_eq!(draining["leases"], 1, "{draining}");
    assert!(
        draining["drain_seconds_left"].as_f64().is_some(),
        "{draining}"
    );
    // Far longer than it takes to end a release that has nothing open.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        !seen::was_told_to_end(stage.bench(), &id).await,
        "SIGTERM came before the upload's last part"
    );
    let uploaded = upload.finish().await.expect("an answer");
    assert_eq!(uploaded.by, "old");
    let told = seen::told_to_end(stage.bench(), &id).await;
    let late = told.saturating_duration_since(uploaded.at);
    assert!(late < LATE_MAX, "it came {} ms after it", ms(late));
    seen::until_running(stage.bench(), &[&new.container()]).await;
}

async fn an_event_stream_runs_on_until_the_drain_limit(stage: Stage) {
    const LIMIT: Duration = Duration::from_secs(4);
    let setup = stage.setup().set("apps.shop.drain_timeout", "4s");
    let (gateway, api) = start(&setup).await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let id = seen::container(stage.bench(), &old.container())
        .await
        .expect("it runs")
        .id;
    let stream = streams::events(&gateway.public, "/events?every=50").await;
    let hash = api.launched(&stage.release("new")).await;
    let before = Instant::now();
    api.switched(&hash).await;
    let after = Instant::now();
    // However late it is here, the gateway means that limit.
    let left = api.release(&old_hash).await["drain_seconds_left"].as_f64();
    assert!(
        left.is_some_and(|left| left <= LIMIT.as_secs_f64()) || after.elapsed() >= LIMIT,
        "{left:?}"
    );
    let told = seen::told_to_end(stage.bench(), &id);
    let (streamed, told) = tokio::join!(in_time("the stream's end", stream), told);
    let streamed = streamed.expect("an end");
    assert_eq!(streamed.by, "old");
    assert!(streamed.in_order);
    // It was not cut off before, and not only left open: the application went on to send.
    let lived = streamed.ended.duration_since(before);
    assert!(lived >= LIMIT, "{} ms", ms(lived));
    let sent = streamed.last_event.duration_since(before);
    assert!(sent > LIMIT / 2, "{} ms", ms(sent));
    let waited = told.duration_since(before);
    assert!(waited >= LIMIT, "SIGTERM after {} ms", ms(waited));
    let waited = told.duration_since(after);
    assert!(waited < LIMIT + LATE_MAX, "SIGTERM after {} ms", ms(waited));
    assert_eq!(api.answering().await, "new");
    api.until_phase(&old_hash, "stopped").await;
}

async fn websockets_are_told_to_go_away_and_not_all_at_once(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(streams::websocket(&gateway.public, "/echo", Duration::from_millis(50)).await);
    }
    until_leases(&api, &old_hash, 10).await;
    let hash = api.launched(&stage.release("new")).await;
    let switched_at = Instant::now();
    api.switched(&hash).await;
    let mut ends = Vec::new();
    for socket in sockets {
        let closed = in_time("a websocket's end", socket).await.expect("an end");
        assert_eq!(closed.code, Some(1001), "{closed:?}");
        assert!(closed.at > switched_at, "it ended before the switch");
        assert!(closed.echoes > 1, "{closed:?}");
        ends.push(closed.at.duration_since(switched_at));
    }
    ends.sort_unstable();
    let spread = ends[9] - ends[0];
    assert!(
        spread > Duration::from_millis(100),
        "all went at once: {ends:?}"
    );
    // Within the drain limit, of half a minute.
    assert!(ends[9] < Duration::from_secs(30), "{ends:?}");
    let again = streams::websocket(&gateway.public, "/echo", Duration::from_millis(50)).await;
    until_leases(&api, &hash, 1).await;
    again.abort();
    api.until_phase(&old_hash, "stopped").await;
}

async fn without_anything_open_the_old_release_ends_at_once_and_sleeps(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    api.answering().await;
    let id = seen::container(stage.bench(), &old.container())
        .await
        .expect("it runs")
        .id;
    let hash = api.launched(&stage.release("new")).await;
    let switched_at = Instant::now();
    api.switched(&hash).await;
    let told = seen::told_to_end(stage.bench(), &id).await;
    let waited = told.saturating_duration_since(switched_at);
    assert!(
        waited < Duration::from_secs(10),
        "SIGTERM after {} ms",
        ms(waited)
    );
    api.until_phase(&old_hash, "stopped").await;
    let output = stage.bench().output(&id).await;
    assert!(output.contains("ends: SIGTERM"), "{output}");
}

async fn a_release_that_ignores_its_end_is_killed_and_the_switch_is_not_held_up(stage: Stage) {
    let setup = stage.setup().set("lifecycle.stop_timeout", "1s");
    let (_gateway, api) = start(&setup).await;
    let old = stage.release("old").env("TERM_DELAY", "1m");
    let old_hash = api.deployed(&old).await;
    let hash = api.launched(&stage.release("new")).await;
    let began = Instant::now();
    api.switched(&hash).await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(api.answering().await, "new");
    api.until_phase(&old_hash, "stopped").await;
    seen::until_running(stage.bench(), &[&stage.release("new").container()]).await;
}

async fn switches_at_once_leave_one_current_release(stage: Stage) {
    let (gateway, api) = stage.start().await;
    api.deployed(&stage.release("first")).await;
    let mut releases = Vec::new();
    for number in 0..4 {
        let release = stage.release(&format!("r{number}"));
        releases.push((api.launched(&release).await, release));
    }
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 80);
    let switches = releases.iter().map(|(hash, _)| {
        let (api, hash) = (api.clone(), hash.clone());
        tokio::spawn(async move { api.switch(&hash).await })
    });
    let switches: Vec<_> = switches.collect();
    for switch in switches {
        switch.await.expect("an answer").ok();
    }
    traffic.more(40).await;
    traffic.end().await.assert_whole();
    let shelf = stage.shelf();
    let current = api.status().await["current"].clone();
    assert_eq!(shelf.current_hash().await, current);
    let history = shelf.history().await;
    assert_eq!(history.len(), 5, "{history:?}");
    assert_eq!(history[4]["hash"], current);
    let (_, winner) = releases
        .iter()
        .find(|(hash, _)| *hash == current)
        .expect("one of them");
    assert_eq!(api.answering().await, winner.revision());
    seen::until_running(stage.bench(), &[&winner.container()]).await;
}

async fn a_client_that_hangs_up_does_not_undo_its_switch(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    api.deployed(&stage.release("old")).await;
    let new = stage.release("new");
    let hash = api.launched(&new).await;
    let body = serde_json::json!({ "app": "shop", "hash": hash });
    let mut wire = crate::client::Wire::open(api.client.admin_address()).await;
    let text = body.to_string();
    let request = format!(
        "POST /switch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    wire.send(request.as_bytes()).await;
    drop(wire);
    // Whether it was read at all is chance; asked again it is done whole.
    let answer: Answer = api.switch(&hash).await;
    answer.ok();
    assert_eq!(stage.shelf().current_hash().await, hash);
    assert_eq!(api.answering().await, "new");
    assert_eq!(stage.shelf().history().await.len(), 2);
}
