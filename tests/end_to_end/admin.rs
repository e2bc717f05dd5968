//! The admin API as operators use it: deploying, looking, starting, removing.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use crate::bench::{Bench, Kind, until};
use crate::client::{Answer, Upload};
use crate::lines;
use crate::scripts;

lines![
    Both a_specification_is_deployed_and_started,
    Both a_template_is_filled_deployed_and_started,
    Process a_deployment_that_is_not_to_start_is_only_made,
    Both containers_are_listed_and_shown_by_name_and_by_id,
    Both starting_is_answered_the_same_when_it_runs_and_waits_when_asked,
    Process waiting_for_readiness_ends_with_its_time,
    Both removing_drains_and_leaves_nothing,
    Process removing_cuts_off_what_does_not_end_in_its_time,
    Process removing_what_starts_answers_those_who_wait,
    Process a_name_can_be_used_again_after_it_was_removed,
    Process health_readiness_and_metrics_are_told,
    Process a_trailing_slash_makes_no_difference,
];

async fn delete(client: &crate::client::Client, name: &str) -> Answer {
    Answer::to(client.admin(Method::DELETE, &format!("/deploy/{name}"))).await
}

async fn a_specification_is_deployed_and_started(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench
        .sample("one")
        .label("a.b/c", "d e\"f")
        .env("LONG", &"x".repeat(10_000));
    let answer = gateway.client.post_deploy("", &sample.0).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    assert_eq!(made["name"], sample.name());
    let id = made["id"].as_str().expect("an id");
    assert!(
        ["starting", "ready"].contains(&made["state"].as_str().expect("a state")),
        "{made}"
    );
    assert_eq!(
        answer.header("location"),
        format!("/deploy/{}", sample.name())
    );
    assert!(bench.runs(id).await);
    let view = gateway.client.until_phase(sample.name(), "ready").await;
    assert_eq!(view["labels"]["a.b/c"], "d e\"f");
    assert_eq!(view["image"], bench.image());
    gateway.client.get(&sample.path("")).await.ok();
    bench.has_started(id, 1).await;
}

async fn a_template_is_filled_deployed_and_started(bench: Bench) {
    // Its names are the script's own, so they have to be made this line's.
    let script = scripts::SHIPPED.replace(
        "\"minion-\" + vars.id",
        "vars.mark + \"-minion-\" + vars.id",
    );
    let script = script.replace("minionapp:latest", &bench.image());
    assert_ne!(script, scripts::SHIPPED);
    let setup = bench.setup().script(script);
    let gateway = setup.start().await;
    let network = match bench.kind() {
        Kind::Docker(engine) => engine.network().to_owned(),
        Kind::Process => "traefiknet".to_owned(),
    };
    let vars = json!({ "id": "1", "mark": bench.mark(), "network": network });
    let wish = json!({ "template": "minion", "vars": vars });
    let answer = gateway.client.post_deploy("/", &wish).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let name = format!("{}-minion-1", bench.mark());
    assert_eq!(answer.json()["name"], name);
    let report = gateway
        .client
        .get(&format!("/session/{name}/hello"))
        .await
        .ok();
    assert_eq!(report["connstr"], "db 1");
    let labels = &gateway.client.view(&name).await["labels"];
    assert_eq!(labels["healthcheck"], format!("http://{name}:9000/status"));
    assert_eq!(labels["traefik.enable"], "true");
    let router = format!("traefik.http.routers.{name}");
    assert_eq!(labels[format!("{router}.entrypoints")], "web");
    assert_eq!(
        labels[format!("{router}.rule")],
        format!("PathPrefix(\"/session/{name}/\")")
    );
}

async fn a_deployment_that_is_not_to_start_is_only_made(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    let id = gateway.client.create(&sample).await;
    assert_eq!(gateway.client.phase(sample.name()).await, "stopped");
    assert!(!bench.runs(&id).await);
    assert_eq!(bench.starts(&id).await, 0);
}

async fn containers_are_listed_and_shown_by_name_and_by_id(bench: Bench) {
    let gateway = bench.setup().start().await;
    let list = || async {
        let answer = Answer::to(gateway.client.admin(Method::GET, "/deploy"))
            .await
            .ok();
        answer["instances"].as_array().expect("a list").clone()
    };
    gateway.client.until_ready().await;
    assert_eq!(list().await, Vec::<Value>::new());
    let samples = ["b", "a", "c"].map(|short| bench.sample(short));
    let mut ids = Vec::new();
    for sample in &samples {
        ids.push(gateway.client.create(sample).await);
    }
    gateway.client.get(&samples[0].path("")).await.ok();
    let listed = list().await;
    let names: Vec<_> = listed
        .iter()
        .map(|one| one["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["a", "b", "c"].map(|short| bench.name(short)));
    let running = &listed[1];
    assert_eq!(running["phase"], "ready");
    assert_eq!(running["leases"], 0);
    assert!(
        running["idle_seconds"]
            .as_f64()
            .is_some_and(|idle| idle < 60.0),
        "{running}"
    );
    assert_eq!(running["idle_stop_seconds"], 300.0);
    assert!(
        running["address"]
            .as_str()
            .is_some_and(|address| address.ends_with(":9000"))
    );
    for (sample, id) in samples.iter().zip(&ids) {
        for key in [sample.name(), id, &id[..12]] {
            assert_eq!(gateway.client.view(key).await["id"], **id, "by {key}");
        }
    }
    for nobody in ["nobody", &ids[0][..6], "0123456789ab"] {
        let path = format!("/deploy/{nobody}");
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = Answer::to(gateway.client.admin(method, &path)).await;
            answer.problem(404, "unknown_workload");
        }
    }
}

async fn starting_is_answered_the_same_when_it_runs_and_waits_when_asked(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one").env("BOOT_DELAY", "500ms");
    let id = gateway.client.create(&sample).await;
    let put = |key: &str, query: &str| {
        Answer::to(
            gateway
                .client
                .admin(Method::PUT, &format!("/deploy/{key}{query}")),
        )
    };
    let first = put(&id, "").await.ok();
    assert_eq!(
        (&first["id"], &first["name"]),
        (&id.as_str().into(), &sample.name().into())
    );
    assert!(bench.runs(&id).await);
    let ready = put(sample.name(), "?wait=ready").await.ok();
    assert_eq!(ready["state"], "ready");
    // At once, and without the gateway's help.
    let address = gateway.client.view(sample.name()).await["address"].clone();
    let url = format!("http://{}/", address.as_str().expect("an address"));
    gateway.client.get_url(&url).await.ok();
    assert_eq!(put(sample.name(), "").await.ok()["state"], "ready");
    bench.has_started(&id, 1).await;
}

async fn waiting_for_readiness_ends_with_its_time(bench: Bench) {
    let gateway = crate::waking::gated(&bench, bench.setup()).start().await;
    let sample = bench.sample("one").with("image", crate::waking::GATED);
    gateway.client.create(&sample).await;
    let path = format!("/deploy/{}", sample.name());
    let put =
        |query: &str| Answer::to(gateway.client.admin(Method::PUT, &format!("{path}{query}")));
    put("?wait=ready&timeout=200ms")
        .await
        .problem(504, "timed_out");
    assert_eq!(gateway.client.phase(sample.name()).await, "starting");
    for wrong in [
        "?wait=soon",
        "?wait=ready&timeout=never",
        "?timeout=1s",
        "?unknown=1",
    ] {
        put(wrong).await.problem(400, "bad_request");
    }
    crate::waking::open_gate(&bench);
    put("?wait=ready").await.ok();
}

async fn removing_drains_and_leaves_nothing(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    let id = gateway.client.run(&sample).await;
    let upload = Upload::begin(&gateway.client, &sample.path(""));
    until("it is used", || async {
        (gateway.client.view(sample.name()).await["leases"] == 1).then_some(())
    })
    .await;
    let removed = {
        let (client, name) = (gateway.client.clone(), sample.name().to_owned());
        tokio::spawn(async move { delete(&client, &name).await })
    };
    gateway.client.until_phase(sample.name(), "draining").await;
    // It takes no new requests, and ends the old one.
    let late = gateway.client.get(&sample.path("")).await;
    assert_eq!(late.status, 404, "{}", late.text());
    assert!(!upload.is_over() && !removed.is_finished());
    let report = upload.end().await.ok();
    assert_eq!(report["body"]["length"], "begin, end".len());
    let removed = removed.await.expect("an answer").ok();
    assert_eq!(
        (&removed["name"], &removed["state"]),
        (&sample.name().into(), &"removed".into())
    );
    assert!(!bench.runs(&id).await);
    assert!(!bench.exists(sample.name()).await);
    delete(&gateway.client, sample.name())
        .await
        .problem(404, "unknown_workload");
    assert_eq!(gateway.client.get(&sample.path("")).await.status, 404);
}

async fn removing_cuts_off_what_does_not_end_in_its_time(bench: Bench) {
    let gateway = bench
        .setup()
        .set("lifecycle.drain_timeout", "500ms")
        .start()
        .await;
    let sample = bench.sample("one");
    let id = gateway.client.run(&sample).await;
    let url = format!("http://{}{}", gateway.public, sample.path("events"));
    let stream = gateway.client.open(&url).await;
    let began = Instant::now();
    delete(&gateway.client, sample.name()).await.ok();
    assert!(began.elapsed().as_millis() >= 450, "{:?}", began.elapsed());
    assert!(!bench.runs(&id).await);
    drop(stream);
}

async fn removing_what_starts_answers_those_who_wait(bench: Bench) {
    let gateway = crate::waking::gated(&bench, bench.setup()).start().await;
    let sample = bench.sample("one").with("image", crate::waking::GATED);
    let id = gateway.client.create(&sample).await;
    let waiting = {
        let (client, path) = (gateway.client.clone(), sample.path(""));
        tokio::spawn(async move { client.get(&path).await })
    };
    until("it is held", || async {
        (gateway.client.view(sample.name()).await["waiting"] == 1).then_some(())
    })
    .await;
    delete(&gateway.client, sample.name()).await.ok();
    assert_eq!(waiting.await.expect("an answer").status, 404);
    // What its shell was waiting for has been killed with it, and may take a moment to end.
    until("nothing of it runs", || async {
        (!bench.runs(&id).await).then_some(())
    })
    .await;
}

async fn a_name_can_be_used_again_after_it_was_removed(bench: Bench) {
    let gateway = bench.setup().start().await;
    let mut ids = Vec::new();
    for round in ["first", "second"] {
        let sample = bench.sample("one").env("CONNSTR", round);
        ids.push(gateway.client.run(&sample).await);
        assert_eq!(
            gateway.client.get(&sample.path("")).await.ok()["connstr"],
            round
        );
        delete(&gateway.client, sample.name()).await.ok();
    }
    assert_ne!(ids[0], ids[1]);
}

async fn health_readiness_and_metrics_are_told(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    gateway.client.get(&sample.path("")).await.ok();
    gateway.client.get("/session/nobody-there/").await;
    let get = |path: &'static str| Answer::to(gateway.client.admin(Method::GET, path));
    assert_eq!(get("/healthz").await.ok()["status"], "ok");
    assert_eq!(get("/readyz").await.ok()["status"], "ready");
    let metrics = get("/metrics").await;
    let text = metrics.text();
    assert!(
        metrics
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    let start = text
        .lines()
        .find(|line| line.contains("starts_total") && line.contains(sample.name()));
    assert!(start.is_some_and(|line| line.ends_with(" 1")), "{text}");
    // Names that anybody may make up are no labels: they would be without number.
    assert!(!text.contains("nobody-there"), "{text}");
}

async fn a_trailing_slash_makes_no_difference(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    let answer = gateway.client.post_deploy("/?start=false", &sample.0).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let path = format!("/deploy/{}/", sample.name());
    Answer::to(gateway.client.admin(Method::GET, "/deploy/"))
        .await
        .ok();
    Answer::to(gateway.client.admin(Method::GET, &path))
        .await
        .ok();
    Answer::to(gateway.client.admin(Method::PUT, &path))
        .await
        .ok();
    Answer::to(gateway.client.admin(Method::DELETE, &path))
        .await
        .ok();
}
