//! A request to a container that sleeps: it is woken once, and everybody who waits is answered.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;

use crate::bench::{Bench, Kind, Sample, until};
use crate::lines;
use crate::setup::Setup;

lines![
    Both the_first_request_wakes_its_container_and_is_answered_by_it,
    Both many_first_requests_at_once_make_one_start,
    Process a_hundred_first_requests_at_once_make_one_start,
    Process requests_past_the_queue_are_refused_at_once_and_those_held_are_answered,
    Process after_the_hold_time_the_answer_is_504_and_the_wake_goes_on,
    Process a_client_that_leaves_does_not_end_the_wake,
    Process many_containers_wake_at_once,
    Process a_container_without_a_health_url_is_used_two_seconds_after_its_start,
];

/// An image of the process runtime whose application comes up when a file appears.
pub const GATED: &str = "gated:latest";

/// The setup with that image; the file is `open` in the line's folder.
pub fn gated(bench: &Bench, setup: Setup) -> Setup {
    let open = bench.dir().join("open");
    let script = format!(
        "until [ -e {} ]; do sleep 0.02; done; exec {} minion",
        open.display(),
        env!("CARGO_BIN_EXE_wakegate"),
    );
    setup.image(GATED, &["sh", "-c", &script])
}

pub fn open_gate(bench: &Bench) {
    std::fs::write(bench.dir().join("open"), "").expect("a file");
}

/// What the sample application has told is true of this container.
fn is_from(report: &Value, sample: &Sample) {
    assert_eq!(report["connstr"], sample.0["envs"]["CONNSTR"], "{report}");
}

async fn the_first_request_wakes_its_container_and_is_answered_by_it(bench: Bench) {
    let gateway = bench.setup().start().await;
    let (one, other) = (bench.sample("one"), bench.sample("other"));
    let id = gateway.client.create(&one).await;
    let other_id = gateway.client.create(&other).await;
    assert!(!bench.runs(&id).await);

    let report = gateway.client.get(&one.path("a/b?c=d")).await.ok();
    is_from(&report, &one);
    assert_eq!(report["path"], one.path("a/b"));
    assert_eq!(report["query"], "c=d");
    assert!(bench.runs(&id).await);
    bench.has_started(&id, 1).await;
    let view = gateway.client.view(one.name()).await;
    assert_eq!(view["phase"], "ready");
    let address = view["address"].as_str().expect("an address");
    let (ip, port) = address.rsplit_once(':').expect("a port");
    assert_eq!(port, "9000");
    let own = report["addresses"].as_array().expect("addresses");
    assert!(own.iter().any(|own| own == ip), "{report} is not at {ip}");
    // Nobody has asked for the other one.
    assert!(!bench.runs(&other_id).await);
    assert_eq!(gateway.client.phase(other.name()).await, "stopped");
    is_from(&gateway.client.get(&other.path("")).await.ok(), &other);
}

async fn wake_together(bench: &Bench, count: usize) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one").env("BOOT_DELAY", "500ms");
    let id = gateway.client.create(&sample).await;
    let path = sample.path("");
    let answers = join_all((0..count).map(|_| gateway.client.get(&path))).await;
    for answer in &answers {
        is_from(&answer.ok(), &sample);
    }
    assert_eq!(answers.len(), count);
    bench.has_started(&id, 1).await;
}

async fn many_first_requests_at_once_make_one_start(bench: Bench) {
    wake_together(&bench, 10).await;
}

async fn a_hundred_first_requests_at_once_make_one_start(bench: Bench) {
    wake_together(&bench, 100).await;
}

async fn requests_past_the_queue_are_refused_at_once_and_those_held_are_answered(bench: Bench) {
    let setup = gated(&bench, bench.setup()).set("hold.queue_max", 5);
    let gateway = setup.start().await;
    let (full, free) = (
        bench.sample("full").with("image", GATED),
        bench.sample("free"),
    );
    gateway.client.create(&full).await;
    gateway.client.create(&free).await;
    let held: Vec<_> = (0..5)
        .map(|_| {
            let (client, path) = (gateway.client.clone(), full.path(""));
            tokio::spawn(async move { client.get(&path).await })
        })
        .collect();
    until("five are held", || async {
        (gateway.client.view(full.name()).await["waiting"] == 5).then_some(())
    })
    .await;

    let refused = gateway.client.get(&full.path("")).await;
    let problem = refused.problem(503, "queue_full");
    assert_eq!(problem["workload"], full.name());
    assert!(refused.retry_after().as_secs() >= 1);
    assert!(held.iter().all(|held| !held.is_finished()));
    // Another container's requests do not wait in this queue.
    is_from(&gateway.client.get(&free.path("")).await.ok(), &free);

    open_gate(&bench);
    for held in join_all(held).await {
        is_from(&held.expect("an answer").ok(), &full);
    }
}

async fn after_the_hold_time_the_answer_is_504_and_the_wake_goes_on(bench: Bench) {
    let gateway = gated(&bench, bench.setup())
        .set("hold.time", "300ms")
        .start()
        .await;
    let sample = bench.sample("one").with("image", GATED);
    let id = gateway.client.create(&sample).await;
    let late = gateway.client.get(&sample.path("")).await;
    late.problem(504, "hold_timeout");
    assert_eq!(gateway.client.phase(sample.name()).await, "starting");
    let before = until("it is started", || async {
        let processes = crate::world::processes_of(&id);
        (!processes.is_empty()).then_some(processes)
    })
    .await;

    open_gate(&bench);
    gateway.client.until_phase(sample.name(), "ready").await;
    is_from(&gateway.client.get(&sample.path("")).await.ok(), &sample);
    bench.has_started(&id, 1).await;
    // The shell became the application: it is the process that the first request has started.
    assert!(
        crate::world::processes_of(&id)
            .iter()
            .all(|pid| before.contains(pid))
    );
}

async fn a_client_that_leaves_does_not_end_the_wake(bench: Bench) {
    let gateway = gated(&bench, bench.setup()).start().await;
    let sample = bench.sample("one").with("image", GATED);
    let id = gateway.client.create(&sample).await;
    let impatient = {
        let (client, path) = (gateway.client.clone(), sample.path(""));
        tokio::spawn(async move { client.get(&path).await })
    };
    let waiting = |count: u64| {
        let (client, name) = (&gateway.client, sample.name());
        until("the number of those who wait", move || async move {
            (client.view(name).await["waiting"] == count).then_some(())
        })
    };
    waiting(1).await;
    impatient.abort();
    waiting(0).await;
    open_gate(&bench);
    gateway.client.until_phase(sample.name(), "ready").await;
    bench.has_started(&id, 1).await;
}

async fn many_containers_wake_at_once(bench: Bench) {
    let gateway = bench
        .setup()
        .set("lifecycle.parallel_starts", 2)
        .start()
        .await;
    let samples: Vec<Sample> = (0..12).map(|n| bench.sample(&format!("n{n}"))).collect();
    for sample in &samples {
        gateway.client.create(sample).await;
    }
    let requests = samples.iter().map(|sample| async {
        let answer = gateway.client.get(&sample.path("")).await;
        is_from(&answer.ok(), sample);
    });
    join_all(requests).await;
}

/// As the shipped script says it.
async fn a_container_without_a_health_url_is_used_two_seconds_after_its_start(bench: Bench) {
    assert!(matches!(bench.kind(), Kind::Process));
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one").with("labels", serde_json::json!({}));
    gateway.client.create(&sample).await;
    // It is started some time after this.
    let asked = Instant::now();
    gateway.client.get(&sample.path("")).await.ok();
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(2), "it was used after {took:?}");
}
