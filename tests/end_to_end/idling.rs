//! Containers that nobody uses: put to sleep, noticed when they end, and woken again.

use std::time::{Duration, Instant};

use crate::bench::{Bench, in_time};
use crate::lines;
use crate::scripts;

lines![
    Both an_application_that_gets_nothing_through_the_gateway_gets_sigterm_after_its_idle_time,
    Both an_application_that_ends_by_itself_is_noticed_and_the_next_request_wakes_it,
    Both a_request_during_a_slow_stop_waits_for_it_and_gets_the_new_start,
    Docker a_request_while_somebody_else_stops_it_gets_the_new_start,
    Both an_application_that_ignores_sigterm_is_killed_after_the_stop_timeout,
    Process every_request_begins_the_idle_time_anew,
    Process requests_that_do_not_count_keep_nothing_awake,
    Process a_request_under_way_keeps_its_container_awake,
    Both a_container_that_is_paused_when_idle_goes_on_where_it_was,
];

async fn an_application_that_gets_nothing_through_the_gateway_gets_sigterm_after_its_idle_time(
    bench: Bench,
) {
    const IDLE: Duration = Duration::from_secs(8);
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one").env("IDLE", "8s");
    let id = gateway.client.run(&sample).await;
    // Used by somebody else, so that it does not end by itself.
    let address = gateway.client.view(sample.name()).await["address"].clone();
    let address = address.as_str().expect("an address");
    let own_use = gateway
        .client
        .open(&format!("http://{address}/events?every=100000"))
        .await;
    assert_eq!(own_use.status(), 200);
    // Its idle time begins with the answer's end, which is some time after this.
    let asked = Instant::now();
    gateway.client.get(&sample.path("")).await.ok();
    gateway.client.until_phase(sample.name(), "stopped").await;
    assert!(asked.elapsed() >= IDLE, "{:?}", asked.elapsed());
    assert!(!bench.runs(&id).await);
    let output = bench.output(&id).await;
    assert!(output.contains("ends: SIGTERM"), "{output}");
    drop(own_use);
}

async fn an_application_that_ends_by_itself_is_noticed_and_the_next_request_wakes_it(bench: Bench) {
    // Long enough for a request to come to what was woken for it, also where the machine stalls.
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let sample = bench.sample("one").env("IDLE", "8s");
    let id = gateway.client.create(&sample).await;
    for starts in 1..=3 {
        let report = gateway.client.get(&sample.path("")).await.ok();
        assert_eq!(report["connstr"], "db one");
        gateway.client.until_phase(sample.name(), "stopped").await;
        assert!(!bench.runs(&id).await);
        let output = bench.output(&id).await;
        let ends = output.matches("ends: nobody used it").count();
        assert_eq!(ends, starts, "{output}");
        assert_eq!(output.matches("listens on").count(), starts, "{output}");
    }
}

/// While it stops, the old run still answers: none of its answers may be the request's.
async fn a_request_during_a_slow_stop_waits_for_it_and_gets_the_new_start(bench: Bench) {
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let sample = bench
        .sample("one")
        .env("IDLE", "0")
        .env("TERM_DELAY", "6s")
        .label("sleep", "300ms");
    let id = gateway.client.run(&sample).await;
    gateway.client.until_phase(sample.name(), "stopping").await;
    let asked = Instant::now();
    let report = gateway.client.get(&sample.path("")).await.ok();
    let uptime = Duration::from_millis(report["uptime_ms"].as_u64().expect("a number"));
    assert!(
        uptime < asked.elapsed(),
        "the old run has answered: {report}"
    );
    bench.has_started(&id, 2).await;
    let output = bench.output(&id).await;
    let (before, after) = output.split_once("ends: SIGTERM").expect("it got SIGTERM");
    assert_eq!(
        (
            before.matches("listens on").count(),
            after.matches("listens on").count()
        ),
        (1, 1)
    );
}

async fn a_request_while_somebody_else_stops_it_gets_the_new_start(bench: Bench) {
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let sample = bench.sample("one").env("IDLE", "0").env("TERM_DELAY", "6s");
    let id = gateway.client.run(&sample).await;
    let stop = {
        let (engine, id) = (bench.engine().clone(), id.clone());
        tokio::spawn(async move { engine.stop(&id).await })
    };
    gateway.client.until_phase(sample.name(), "stopping").await;
    let asked = Instant::now();
    let report = gateway.client.get(&sample.path("")).await.ok();
    let uptime = Duration::from_millis(report["uptime_ms"].as_u64().expect("a number"));
    assert!(
        uptime < asked.elapsed(),
        "the old run has answered: {report}"
    );
    bench.has_started(&id, 2).await;
    in_time("the stop ends", stop)
        .await
        .expect("it can be stopped");
}

async fn an_application_that_ignores_sigterm_is_killed_after_the_stop_timeout(bench: Bench) {
    let setup = bench.setup().script(scripts::idle_by_label());
    // Long enough for it to say that it got the signal, also where the machine stalls.
    let gateway = setup.set("lifecycle.stop_timeout", "4s").start().await;
    let sample = bench
        .sample("one")
        .env("IDLE", "0")
        .env("TERM_DELAY", "1h")
        .label("sleep", "300ms");
    let id = gateway.client.run(&sample).await;
    gateway.client.until_phase(sample.name(), "stopped").await;
    assert!(!bench.runs(&id).await);
    let output = bench.output(&id).await;
    assert!(
        output.contains("got SIGTERM") && !output.contains("ends:"),
        "{output}"
    );
}

/// Time itself is what is tested here.
async fn every_request_begins_the_idle_time_anew(bench: Bench) {
    const IDLE: Duration = Duration::from_secs(4);
    // Less than this lies between two requests, so that one may be late by far and is still in time.
    const PACE: Duration = Duration::from_secs(1);
    const ROUNDS_MAX: usize = 20;
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let sample = bench.sample("one").env("IDLE", "0").label("sleep", "4s");
    let id = gateway.client.create(&sample).await;
    // Where the test itself stalls, it does not keep that pace. The rest of such a round shows nothing,
    // and another one begins.
    'rounds: for _ in 0..ROUNDS_MAX {
        let mut asked = Instant::now();
        gateway.client.get(&sample.path("")).await.ok();
        let before = bench.starts(&id).await;
        let began = asked;
        while began.elapsed() < 2 * IDLE + PACE {
            tokio::time::sleep(IDLE / 10).await;
            let asked_next = Instant::now();
            if asked_next - asked >= PACE {
                continue 'rounds;
            }
            gateway.client.get(&sample.path("")).await.ok();
            // Before its own time can excuse anything: what was stopped wrongly answers late.
            assert_eq!(bench.starts(&id).await, before);
            asked = asked_next;
        }
        gateway.client.until_phase(sample.name(), "stopped").await;
        assert_eq!(bench.starts(&id).await, before);
        return;
    }
    panic!("the test itself stalled for {PACE:?} in each of {ROUNDS_MAX} rounds");
}

async fn requests_that_do_not_count_keep_nothing_awake(bench: Bench) {
    let script = scripts::idle_by_label()
        + r#"route("/look/{name}/{*rest}", |req| proxy(req.param("name")).counts(false).asleep("refuse"));"#;
    let gateway = bench.setup().script(script).start().await;
    // Long enough for the first look to find it awake, also where the machine stalls.
    let sample = bench.sample("one").env("IDLE", "0").label("sleep", "6s");
    let id = gateway.client.run(&sample).await;
    let looking = format!("/look/{}/", sample.name());
    let mut answered = 0;
    // It is asked far more often than its idle time is long, until it sleeps.
    let asleep = crate::bench::until("it sleeps", || {
        answered += 1;
        let (client, looking) = (gateway.client.clone(), looking.clone());
        async move { (client.get(&looking).await.status == 503).then_some(()) }
    });
    asleep.await;
    assert!(answered > 1, "it was awake before");
    gateway.client.until_phase(sample.name(), "stopped").await;
    bench.has_started(&id, 1).await;
}

async fn a_request_under_way_keeps_its_container_awake(bench: Bench) {
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let sample = bench.sample("one").env("IDLE", "0").label("sleep", "300ms");
    let id = gateway.client.create(&sample).await;
    let report = gateway.client.get(&sample.path("slow?ms=2000")).await.ok();
    assert_eq!(report["connstr"], "db one");
    bench.has_started(&id, 1).await;
    gateway.client.until_phase(sample.name(), "stopped").await;
}

async fn a_container_that_is_paused_when_idle_goes_on_where_it_was(bench: Bench) {
    let script = scripts::idle_by_label().replace("stop_after", "pause_after");
    let gateway = bench.setup().script(script).start().await;
    let sample = bench.sample("one").env("IDLE", "0").label("sleep", "500ms");
    let id = gateway.client.run(&sample).await;
    for _ in 0..2 {
        gateway.client.until_phase(sample.name(), "paused").await;
        gateway.client.get(&sample.path("")).await.ok();
    }
    bench.has_started(&id, 1).await;
}
