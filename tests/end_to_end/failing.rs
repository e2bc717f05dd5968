//! Applications that do not come up: those who wait are told why, and the next tries back off.

use std::time::Duration;

use reqwest::Method;

use crate::bench::{Bench, until};
use crate::client::Answer;
use crate::lines;
use crate::scripts;

lines![
    Both an_application_that_never_gets_healthy_is_stopped_and_those_who_wait_are_told_why,
    Both an_application_that_crashes_before_it_is_ready_is_a_503_with_its_exit_code,
    Process each_failure_in_a_row_is_followed_by_a_longer_pause,
    Process after_the_pause_it_is_tried_again,
    Process a_program_that_is_not_there_is_a_503_that_names_it,
    Process a_ready_rule_that_fails_is_told_with_its_place,
    Process an_idle_rule_that_fails_stops_nothing,
    Both a_crash_while_it_is_used_is_noticed_and_the_next_request_wakes_it,
];

async fn an_application_that_never_gets_healthy_is_stopped_and_those_who_wait_are_told_why(
    bench: Bench,
) {
    // Long enough for it to listen before it is given up, or its own words would be others.
    let setup = bench.setup().script(scripts::giving_up_after("5s"));
    let gateway = setup.set("lifecycle.backoff_min", "50s").start().await;
    let sample = bench
        .sample("one")
        .env("FAIL_STATUS", "500")
        .env("IDLE", "0");
    let id = gateway.client.create(&sample).await;
    let path = sample.path("");
    let (one, other) = tokio::join!(gateway.client.get(&path), gateway.client.get(&path));
    for answer in [one, other] {
        let problem = answer.problem(503, "start_failed");
        let detail = problem["detail"].as_str().expect("text");
        assert!(
            detail.contains("not ready within") && detail.contains("500"),
            "{detail}"
        );
        assert!(answer.retry_after() > Duration::from_secs(10));
    }
    let view = gateway.client.until_phase(sample.name(), "failed").await;
    assert!(
        view["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("500")),
        "{view}"
    );
    assert!(
        !bench.runs(&id).await,
        "what did not get healthy is stopped"
    );
    assert!(bench.output(&id).await.contains("ends: SIGTERM"));

    // In its pause it is refused at once, and not started.
    let refused = gateway.client.get(&path).await;
    refused.problem(503, "start_failed");
    assert!(refused.retry_after() > Duration::from_secs(5));
    assert_eq!(gateway.client.phase(sample.name()).await, "failed");
    bench.has_started(&id, 1).await;
}

async fn an_application_that_crashes_before_it_is_ready_is_a_503_with_its_exit_code(bench: Bench) {
    let setup = bench.setup().set("lifecycle.backoff_min", "50s");
    let gateway = setup.start().await;
    let sample = bench
        .sample("one")
        .env("BOOT_DELAY", "1h")
        .env("CRASH_AFTER", "300ms");
    let id = gateway.client.create(&sample).await;
    let answer = gateway.client.get(&sample.path("")).await;
    let problem = answer.problem(503, "start_failed");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("code 1"), "{detail}");
    assert!(answer.retry_after() > Duration::from_secs(10));
    assert_eq!(gateway.client.phase(sample.name()).await, "failed");
    assert!(!bench.runs(&id).await);
}

async fn each_failure_in_a_row_is_followed_by_a_longer_pause(bench: Bench) {
    let setup = bench.setup().set("lifecycle.backoff_min", "20s");
    let gateway = setup.set("lifecycle.backoff_max", "2m").start().await;
    let sample = bench
        .sample("one")
        .env("BOOT_DELAY", "1h")
        .env("CRASH_AFTER", "50ms");
    gateway.client.create(&sample).await;
    // With a fifth of jitter either way, and what passes until it is asked.
    for (least, most) in [(5, 24), (25, 48), (60, 96), (90, 144), (90, 144)] {
        let begun = std::time::Instant::now();
        // An operator's word goes before the pause.
        let path = format!("/deploy/{}?wait=ready", sample.name());
        let failed = Answer::to(gateway.client.admin(Method::PUT, &path)).await;
        failed.problem(503, "failed");
        gateway.client.until_phase(sample.name(), "failed").await;
        let pause = gateway
            .client
            .get(&sample.path(""))
            .await
            .retry_after()
            .as_secs();
        let whole = pause + begun.elapsed().as_secs();
        assert!(
            whole >= least && pause <= most,
            "{pause} s of {whole} are not {least} to {most}"
        );
    }
}

async fn after_the_pause_it_is_tried_again(bench: Bench) {
    let setup = bench.setup().script(scripts::giving_up_after("500ms"));
    let gateway = setup.set("lifecycle.backoff_min", "100ms").start().await;
    let sample = bench.sample("one").env("FAIL_STATUS", "500");
    let id = gateway.client.create(&sample).await;
    until("it is started a second time", || async {
        let answer = gateway.client.get(&sample.path("")).await;
        answer.problem(503, "start_failed");
        (bench.starts(&id).await >= 2).then_some(())
    })
    .await;
}

async fn a_program_that_is_not_there_is_a_503_that_names_it(bench: Bench) {
    let setup = bench.setup().image("nothing:1", &["/no/such/program"]);
    let gateway = setup.start().await;
    let sample = bench.sample("one").with("image", "nothing:1");
    gateway.client.create(&sample).await;
    let answer = gateway.client.get(&sample.path("")).await;
    let problem = answer.problem(503, "start_failed");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|text| text.contains("/no/such/program"))
    );
}

async fn a_ready_rule_that_fails_is_told_with_its_place(bench: Bench) {
    let script = scripts::idle_by_label().replace("ready(|c| ", "ready(|c| 1 / 0 + ");
    let gateway = bench.setup().script(script).start().await;
    let sample = bench.sample("one");
    let id = gateway.client.create(&sample).await;
    let answer = gateway.client.get(&sample.path("")).await;
    answer.problem(503, "start_failed");
    gateway.client.until_phase(sample.name(), "failed").await;
    assert!(
        !bench.runs(&id).await,
        "what cannot be judged is not left running"
    );
    gateway.log.line_with("session.rhai:2:").await;
}

async fn an_idle_rule_that_fails_stops_nothing(bench: Bench) {
    let script = scripts::idle_by_label().replace("c.label(\"sleep\")", "c.env(1 / 0)");
    let gateway = bench.setup().script(script).start().await;
    let sample = bench.sample("one");
    gateway.client.run(&sample).await;
    let line = gateway.log.line_with("idle rule failed").await;
    assert!(line.contains("session.rhai:5:"), "{line}");
    let view = gateway.client.view(sample.name()).await;
    assert_eq!(view["idle_stop_seconds"], serde_json::Value::Null);
    gateway.client.get(&sample.path("")).await.ok();
}

async fn a_crash_while_it_is_used_is_noticed_and_the_next_request_wakes_it(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    let id = gateway.client.run(&sample).await;
    let slow = {
        let (client, path) = (gateway.client.clone(), sample.path("slow?ms=600000"));
        tokio::spawn(async move {
            let request = client.request(Method::POST, &path).body("once");
            Answer::to(request).await
        })
    };
    // By its own word: what the gateway has not sent yet when it ends is rightly sent to the next run.
    let address = gateway.client.view(sample.name()).await["address"].clone();
    let usage = format!("http://{}/usage", address.as_str().expect("an address"));
    until("the request has come to it", || async {
        (gateway.client.get_url(&usage).await.ok()["current"] == 1).then_some(())
    })
    .await;
    bench.kill(&id).await;
    // It may have been done: it is not sent a second time.
    slow.await
        .expect("an answer")
        .problem(502, "upstream_failed");
    gateway.client.until_phase(sample.name(), "stopped").await;
    gateway.client.get(&sample.path("")).await.ok();
    bench.has_started(&id, 2).await;
}
