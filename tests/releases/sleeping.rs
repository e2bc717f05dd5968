//! Releases sleep and wake like any workload; a switch of what sleeps wakes nothing.

use std::time::Duration;

use crate::api::Api;
use crate::bench::until;
use crate::gate::{GATED, Gate};
use crate::lines;
use crate::seen;
use crate::stage::{Stage, start};

lines![
    Both a_release_sleeps_and_wakes_like_any_workload,
    Both a_switch_while_all_sleeps_wakes_nothing_and_the_next_request_wakes_the_new_release,
    Process a_request_that_waits_for_a_waking_release_gets_the_one_that_was_switched_to,
    Process many_requests_that_wait_while_it_is_switched_are_all_answered,
    Process a_previous_release_that_sleeps_is_not_woken_by_requests,
];

/// Long enough for a wake that must not be, of an application that comes up in a tenth of it.
const NOTHING_HAPPENS: Duration = Duration::from_millis(1500);

async fn a_release_sleeps_and_wakes_like_any_workload(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let release = stage.release("one").sleeps_after("500ms");
    let hash = api.deployed(&release).await;
    // It may be asleep before the first request.
    api.until_phase(&hash, "stopped").await;
    seen::assert_starts(stage.bench(), &release.container(), 1).await;
    for starts in 2..=3 {
        assert_eq!(api.answering().await, "one");
        api.until_phase(&hash, "stopped").await;
        assert!(seen::running(stage.bench()).await.is_empty());
        seen::assert_starts(stage.bench(), &release.container(), starts).await;
    }
    assert_eq!(api.status().await["current"], hash);
    assert_eq!(api.release(&hash).await["role"], "current");
    assert_eq!(api.answering().await, "one");
}

async fn asleep(stage: &Stage, api: &Api, hashes: &[&str]) {
    for hash in hashes {
        api.until_phase(hash, "stopped").await;
    }
    seen::until_running(stage.bench(), &[]).await;
}

async fn a_switch_while_all_sleeps_wakes_nothing_and_the_next_request_wakes_the_new_release(
    stage: Stage,
) {
    let (_gateway, api) = stage.start().await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision).sleeps_after("400ms"));
    let old_hash = api.deployed(&old).await;
    let new_hash = api.launched(&new).await;
    asleep(&stage, &api, &[&old_hash, &new_hash]).await;
    let names = [old.container(), new.container()];
    for name in &names {
        seen::assert_starts(stage.bench(), name, 1).await;
    }
    api.switched(&new_hash).await;
    assert_eq!(stage.shelf().current_hash().await, new_hash);
    tokio::time::sleep(NOTHING_HAPPENS).await;
    assert!(seen::running(stage.bench()).await.is_empty());
    for name in &names {
        seen::assert_starts(stage.bench(), name, 1).await;
    }
    assert_eq!(api.answering().await, "new");
    // It may be asleep again by now; what it has printed stays.
    for (name, starts) in names.iter().zip([1, 2]) {
        seen::assert_starts(stage.bench(), name, starts).await;
    }
}

async fn a_request_that_waits_for_a_waking_release_gets_the_one_that_was_switched_to(stage: Stage) {
    let gate = Gate::new(stage.bench());
    let (_gateway, api) = start(&gate.in_front_of(stage.setup())).await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision).sleeps_after("400ms"));
    let old_hash = api.deployed(&old.with("image", GATED)).await;
    let new_hash = api.launched(&new).await;
    asleep(&stage, &api, &[&old_hash, &new_hash]).await;
    gate.close();
    let waiting = {
        let api = api.clone();
        tokio::spawn(async move { api.answering().await })
    };
    api.until_phase(&old_hash, "starting").await;
    until("a request waits", || async {
        (api.release(&old_hash).await["waiting"] == 1).then_some(())
    })
    .await;
    api.switched(&new_hash).await;
    assert_eq!(waiting.await.expect("an answer"), "new");
    gate.open();
    asleep(&stage, &api, &[&old_hash, &new_hash]).await;
}

async fn many_requests_that_wait_while_it_is_switched_are_all_answered(stage: Stage) {
    // The old release cannot answer before the switch, however long that takes.
    let gate = Gate::new(stage.bench());
    let (_gateway, api) = start(&gate.in_front_of(stage.setup())).await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision).sleeps_after("400ms"));
    let old_hash = api.deployed(&old.with("image", GATED)).await;
    let new_hash = api.launched(&new.env("BOOT_DELAY", "1s")).await;
    asleep(&stage, &api, &[&old_hash, &new_hash]).await;
    gate.close();
    // One begins every ten milliseconds, before, during and after the switch.
    let requests = (0..80_u64).map(|number| {
        let api = api.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10 * number)).await;
            api.answering().await
        })
    });
    let requests: Vec<_> = requests.collect();
    api.until_phase(&old_hash, "starting").await;
    api.switched(&new_hash).await;
    for request in requests {
        assert_eq!(request.await.expect("an answer"), "new");
    }
    gate.open();
    asleep(&stage, &api, &[&old_hash, &new_hash]).await;
}

async fn a_previous_release_that_sleeps_is_not_woken_by_requests(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    let old_hash = api.deployed(&old).await;
    api.deployed(&new).await;
    api.until_phase(&old_hash, "stopped").await;
    for _ in 0..50 {
        assert_eq!(api.answering().await, "new");
    }
    seen::assert_starts(stage.bench(), &old.container(), 1).await;
    seen::until_running(stage.bench(), &[&new.container()]).await;
}
