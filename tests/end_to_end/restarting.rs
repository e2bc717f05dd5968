//! A gateway that ends, well or badly: its containers go on, and the next one finds them all.

use std::time::Instant;

use futures_util::StreamExt;
use reqwest::Method;

use crate::bench::{Bench, Kind, in_time, until};
use crate::client::{Answer, Upload, Wire};
use crate::lines;
use crate::scripts;

lines![
    Both a_gateway_that_was_killed_is_followed_by_one_that_forgets_no_container,
    Process a_container_that_ended_while_no_gateway_ran_is_found_asleep,
    Both a_killed_gateways_stop_is_brought_to_its_end_by_the_next,
    Process sigterm_lets_the_requests_under_way_end,
    Process sigterm_refuses_new_connections_at_once,
    Process a_second_sigterm_ends_it_at_once,
];

async fn a_gateway_that_was_killed_is_followed_by_one_that_forgets_no_container(bench: Bench) {
    let setup = bench.setup().script(scripts::idle_by_label());
    let gateway = setup.start().await;
    let sample = |short| bench.sample(short).env("IDLE", "10m").label("sleep", "3s");
    // Used once, and then not before the next gateway has come.
    let running = sample("running").label("sleep", "20s");
    // It is seen while it starts, and asked for before it sleeps, also where the machine stalls.
    let starting = sample("starting")
        .env("BOOT_DELAY", "8s")
        .label("sleep", "10s");
    let (stopped, stopping) = (
        sample("stopped"),
        sample("stopping").env("TERM_DELAY", "8s"),
    );
    let all = [&running, &starting, &stopped, &stopping];
    let mut ids = Vec::new();
    for sample in all {
        ids.push(gateway.client.create(sample).await);
    }
    gateway.client.wake(stopping.name()).await;
    gateway
        .client
        .until_phase(stopping.name(), "stopping")
        .await;
    gateway.client.get(&running.path("")).await.ok();
    let waiting = {
        let (client, path) = (gateway.client.clone(), starting.path(""));
        tokio::spawn(async move { Answer::try_to(client.request(Method::GET, &path)).await })
    };
    until("it starts", || async {
        (gateway.client.phase(starting.name()).await == "starting" && bench.runs(&ids[1]).await)
            .then_some(())
    })
    .await;
    gateway.kill();
    let cut_off = waiting.await.expect("an end");
    assert!(cut_off.is_err(), "nobody was there to answer: {cut_off:?}");
    assert!(
        bench.runs(&ids[0]).await,
        "containers go on without a gateway"
    );

    let gateway = setup.start().await;
    // What runs is used as it is, what comes up is waited for, what sleeps is woken.
    let began = Instant::now();
    for sample in all {
        let report = gateway.client.get(&sample.path("")).await.ok();
        assert_eq!(
            report["connstr"],
            sample.0["envs"]["CONNSTR"],
            "{:?}",
            began.elapsed()
        );
    }
    for (sample, id) in all.iter().zip(&ids) {
        assert_eq!(gateway.client.view(sample.name()).await["id"], **id);
    }
    for id in &ids[..3] {
        bench.has_started(id, 1).await;
    }
    // And all of them fall asleep again.
    for (sample, id) in all.iter().zip(&ids) {
        gateway.client.until_phase(sample.name(), "stopped").await;
        assert!(!bench.runs(id).await);
    }
}

async fn a_container_that_ended_while_no_gateway_ran_is_found_asleep(bench: Bench) {
    let setup = bench.setup().script(scripts::idle_by_label());
    let gateway = setup.start().await;
    let sample = bench.sample("one");
    let id = gateway.client.run(&sample).await;
    gateway.kill();
    bench.kill(&id).await;
    until("it has ended", || async {
        (!bench.runs(&id).await).then_some(())
    })
    .await;
    let gateway = setup.start().await;
    // Before it has listed the engine's containers, it tells of none.
    gateway.client.until_ready().await;
    gateway.client.until_phase(sample.name(), "stopped").await;
    gateway.client.get(&sample.path("")).await.ok();
    bench.has_started(&id, 2).await;
}

/// It is told to end and does not; nobody waits for it, and the next gateway's request comes.
async fn a_killed_gateways_stop_is_brought_to_its_end_by_the_next(bench: Bench) {
    let setup = bench.setup().script(scripts::idle_by_label());
    let gateway = setup.start().await;
    let sample = bench
        .sample("one")
        .env("IDLE", "0")
        .env("TERM_DELAY", "6s")
        .label("sleep", "500ms");
    let id = gateway.client.run(&sample).await;
    // By its own word, which stays: the phase may be over before it is seen.
    until("it got the signal", || async {
        bench
            .output(&id)
            .await
            .contains("got SIGTERM")
            .then_some(())
    })
    .await;
    gateway.kill();
    let gateway = setup.start().await;
    // Whether the old run is used to its end or not: each request is answered.
    let answered = Instant::now() + std::time::Duration::from_secs(8);
    while Instant::now() < answered {
        gateway.client.get(&sample.path("")).await.ok();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    gateway.client.until_phase(sample.name(), "stopped").await;
    assert!(!bench.runs(&id).await);
}

async fn sigterm_lets_the_requests_under_way_end(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    let id = gateway.client.run(&sample).await;
    let upload = Upload::begin(&gateway.client, &sample.path(""));
    let stream = format!(
        "http://{}{}",
        gateway.public,
        sample.path("events?every=50&count=200")
    );
    let mut stream = gateway.client.open(&stream).await.bytes_stream();
    until("both are under way", || async {
        (gateway.client.view(sample.name()).await["leases"] == 2).then_some(())
    })
    .await;
    gateway.terminate();
    gateway.log.line_with("ending: requests under way").await;
    let mut text = String::new();
    while let Some(part) = in_time("more of the stream", stream.next()).await {
        text.push_str(&String::from_utf8_lossy(&part.expect("the whole of it")));
    }
    assert!(text.contains("id: 200"), "{text}");
    assert!(!upload.is_over(), "it waits for the upload too");
    let report = upload.end().await.ok();
    assert_eq!(report["body"]["length"], "begin, end".len());
    assert_eq!(gateway.exit_code().await, Some(0));
    assert!(bench.runs(&id).await, "containers go on without a gateway");
}

async fn sigterm_refuses_new_connections_at_once(bench: Bench) {
    assert!(matches!(bench.kind(), Kind::Process));
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.run(&sample).await;
    let upload = Upload::begin(&gateway.client, &sample.path(""));
    let mut idle = Wire::open(&gateway.public).await;
    idle.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idle.until("\r\n\r\n").await;
    until("it is under way", || async {
        (gateway.client.view(sample.name()).await["leases"] == 1).then_some(())
    })
    .await;
    gateway.terminate();
    // An idle connection is closed, and none is opened.
    idle.rest().await;
    until("nobody listens", || async {
        let opened = tokio::net::TcpStream::connect(&gateway.public).await;
        opened.is_err().then_some(())
    })
    .await;
    assert!(!upload.is_over(), "the request under way goes on");
    upload.end().await.ok();
    assert_eq!(gateway.exit_code().await, Some(0));
}

async fn a_second_sigterm_ends_it_at_once(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.run(&sample).await;
    let url = format!("http://{}{}", gateway.public, sample.path("events"));
    let stream = gateway.client.open(&url).await;
    gateway.terminate();
    gateway.log.line_with("ending: requests under way").await;
    let told = Instant::now();
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0));
    assert!(
        told.elapsed().as_secs() < 25,
        "it has waited for its requests"
    );
    drop(stream);
}
