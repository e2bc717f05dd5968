//! Deployments that cannot be made: refused with what and where, and nothing stays behind.

use serde_json::{Value, json};
use wakegate::names::WorkloadName;

use crate::bench::Bench;
use crate::client::Answer;
use crate::lines;
use crate::scripts;

lines![
    Process what_is_no_json_is_refused_with_its_place,
    Process unknown_and_wrong_fields_are_refused_by_name,
    Process names_that_none_can_have_are_refused,
    Process templates_that_do_not_exist_or_fail_are_refused,
    Both an_image_that_is_not_there_is_refused_and_nothing_stays,
    Docker a_network_that_is_not_there_is_refused_and_nothing_stays,
    Both a_name_that_is_taken_is_refused_and_its_container_untouched,
    Both what_the_configuration_does_not_allow_is_refused_and_nothing_is_made,
    Docker limits_of_the_configuration_are_on_the_engines_container,
    Process a_body_without_an_end_is_refused,
];

/// The refusal of a specification.
async fn refused(bench: &Bench, gateway: &crate::gateway::Gateway, spec: &Value) -> Answer {
    gateway.client.until_ready().await;
    let answer = gateway.client.post_deploy("", spec).await;
    assert!(
        (400..500).contains(&answer.status),
        "{} {}",
        answer.status,
        answer.text()
    );
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let listed = Answer::to(gateway.client.admin(reqwest::Method::GET, "/deploy"))
        .await
        .ok();
    assert_eq!(
        listed["instances"],
        json!([]),
        "something has stayed behind"
    );
    if let Some(name) = spec["name"]
        .as_str()
        .filter(|name| WorkloadName::new(name).is_ok())
    {
        assert!(!bench.exists(name).await, "{name} has stayed behind");
    }
    answer
}

fn detail(problem: &Value) -> &str {
    problem["detail"].as_str().expect("text")
}

async fn what_is_no_json_is_refused_with_its_place(bench: Bench) {
    let gateway = bench.setup().start().await;
    for (body, place) in [
        ("{\n  \"name\": \"a\",\n  oops\n}", "line 3"),
        ("{\"name\": \"a\"", "line 1"),
        ("{\"name\": \"a\"} trailing", "line 1"),
        ("", "empty"),
        ("   ", "empty"),
    ] {
        let request = gateway.client.admin(reqwest::Method::POST, "/deploy");
        let request = request
            .header("content-type", "application/json")
            .body(body);
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
        let problem = answer.json();
        assert!(detail(&problem).contains(place), "{body:?}: {problem}");
    }
    for body in ["[]", "7", "\"a\"", "null"] {
        let request = gateway.client.admin(reqwest::Method::POST, "/deploy");
        let request = request
            .header("content-type", "application/json")
            .body(body);
        Answer::to(request).await.problem(422, "invalid_body");
    }
}

async fn unknown_and_wrong_fields_are_refused_by_name(bench: Bench) {
    let gateway = bench.setup().start().await;
    let good = bench.sample("one");
    for (field, value, said) in [
        ("imgae", json!("x"), "imgae"),
        ("envs", json!({ "A": 1 }), "envs"),
        ("labels", json!(["a"]), "labels"),
        ("image", json!(7), "image"),
        ("port", json!(70_000), "port"),
        ("memory", json!("lots"), "memory"),
    ] {
        let answer = refused(&bench, &gateway, &good.clone().with(field, value).0).await;
        let problem = answer.problem(422, "invalid_body");
        assert!(detail(&problem).contains(said), "{problem}");
        assert!(problem["errors"][0]["line"].is_number(), "{problem}");
    }
    let answer = refused(&bench, &gateway, &json!({ "name": good.name() })).await;
    assert!(detail(&answer.problem(422, "invalid_body")).contains("image"));
    let answer = refused(
        &bench,
        &gateway,
        &json!({ "template": "minion", "var": {} }),
    )
    .await;
    assert!(detail(&answer.problem(422, "invalid_body")).contains("var"));
    let twice = gateway.client.post_deploy("?start=maybe", &good.0).await;
    twice.problem(400, "bad_request");
    assert!(!bench.exists(good.name()).await);
}

async fn names_that_none_can_have_are_refused(bench: Bench) {
    let gateway = bench.setup().start().await;
    let long = "x".repeat(129);
    for name in ["", "-a", "a/b", "a b", "../a", "ä", "a\nb", &long] {
        let spec = bench.sample("one").with("name", name);
        let answer = refused(&bench, &gateway, &spec.0).await;
        let problem = answer.problem(422, "invalid_body");
        assert!(detail(&problem).contains("name"), "{problem}");
    }
}

async fn templates_that_do_not_exist_or_fail_are_refused(bench: Bench) {
    let more = "template(\"broken\", |vars| #{ name: vars.id + 1, image: 7 });";
    let gateway = bench
        .setup()
        .script(scripts::shipped_and(more))
        .start()
        .await;
    let wish = |template: &str, vars: Value| json!({ "template": template, "vars": vars });
    let answer = refused(&bench, &gateway, &wish("minoin", json!({}))).await;
    let problem = answer.problem(422, "unknown_template");
    assert!(
        detail(&problem).contains("minoin") && detail(&problem).contains("minion"),
        "{problem}"
    );
    for (template, vars) in [
        ("broken", json!({ "id": "1" })),
        ("minion", json!({})),
        ("minion", json!({ "id": "no/name" })),
    ] {
        let answer = refused(&bench, &gateway, &wish(template, vars)).await;
        let problem = answer.problem(422, "template_failed");
        assert!(detail(&problem).contains("session.rhai:"), "{problem}");
    }
}

async fn an_image_that_is_not_there_is_refused_and_nothing_stays(bench: Bench) {
    let gateway = bench.setup().start().await;
    let image = "wakegate-test-no-such-image:1";
    let answer = refused(
        &bench,
        &gateway,
        &bench.sample("one").with("image", image).0,
    )
    .await;
    let problem = answer.problem(422, "image_missing");
    assert!(detail(&problem).contains(image), "{problem}");
}

async fn a_network_that_is_not_there_is_refused_and_nothing_stays(bench: Bench) {
    let gateway = bench.setup().start().await;
    let network = "wakegate-test-no-such-network";
    for query in ["", "?start=false"] {
        let spec = bench.sample("one").with("network", network);
        let answer = gateway.client.post_deploy(query, &spec.0).await;
        let problem = answer.problem(422, "network_missing");
        assert!(detail(&problem).contains(network), "{problem}");
        assert!(!bench.exists(spec.name()).await);
    }
    // The name is free.
    gateway.client.create(&bench.sample("one")).await;
}

async fn a_name_that_is_taken_is_refused_and_its_container_untouched(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    let id = gateway.client.run(&sample).await;
    let same = sample.clone().env("CONNSTR", "another");
    for query in ["", "?start=false"] {
        let answer = gateway.client.post_deploy(query, &same.0).await;
        let problem = answer.problem(409, "name_taken");
        assert!(detail(&problem).contains(sample.name()), "{problem}");
    }
    let report = gateway.client.get(&sample.path("")).await.ok();
    assert_eq!(report["connstr"], "db one");
    assert_eq!(gateway.client.view(sample.name()).await["id"], *id);
    bench.has_started(&id, 1).await;
}

async fn what_the_configuration_does_not_allow_is_refused_and_nothing_is_made(bench: Bench) {
    let setup = bench
        .setup()
        .set("spec.memory_max", "64MiB")
        .set("spec.pids_max", 50);
    let gateway = setup
        .set("spec.allow_binds", vec!["/srv/data"])
        .start()
        .await;
    for (field, value) in [
        ("binds", json!(["/etc:/x"])),
        ("binds", json!(["/srv/data/../../etc:/x"])),
        ("binds", json!(["/srv/database:/x"])),
        ("privileged", json!(true)),
        ("cap_add", json!(["SYS_ADMIN"])),
        ("network", json!("host")),
        ("network", json!("container:other")),
        ("devices", json!(["/dev/mem"])),
        ("memory", json!("1GiB")),
        ("pids", json!(51)),
    ] {
        let answer = refused(&bench, &gateway, &bench.sample("one").with(field, value).0).await;
        let problem = answer.problem(422, "not_allowed");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    // All of it at once is all told at once.
    let spec = bench
        .sample("one")
        .with("privileged", true)
        .with("network", "host");
    let problem = refused(&bench, &gateway, &spec.0)
        .await
        .problem(422, "not_allowed");
    assert_eq!(
        problem["errors"].as_array().map(Vec::len),
        Some(2),
        "{problem}"
    );
}

async fn limits_of_the_configuration_are_on_the_engines_container(bench: Bench) {
    let setup = bench
        .setup()
        .set("spec.memory_max", "64MiB")
        .set("spec.cpus_max", 0.5);
    let gateway = setup.set("spec.pids_max", 50).start().await;
    let modest = bench
        .sample("modest")
        .with("memory", "32MiB")
        .with("cpus", 0.25)
        .with("pids", 20);
    for (sample, memory, cpus, pids) in [
        (bench.sample("silent"), 64 << 20, 500_000_000, 50),
        (modest, 32 << 20, 250_000_000, 20),
    ] {
        let id = gateway.client.create(&sample).await;
        let container = bench
            .engine()
            .raw()
            .inspect_container(&id, None)
            .await
            .expect("it");
        let limits = container.host_config.expect("limits");
        assert_eq!(
            (limits.memory, limits.nano_cpus),
            (Some(memory), Some(cpus))
        );
        assert_eq!(limits.pids_limit, Some(pids));
        assert_eq!(limits.privileged, Some(false));
    }
}

async fn a_body_without_an_end_is_refused(bench: Bench) {
    let gateway = bench.setup().start().await;
    let request = gateway.client.admin(reqwest::Method::POST, "/deploy");
    let body = format!("{{\"name\": \"{}\"}}", "x".repeat(2 << 20));
    let request = request
        .header("content-type", "application/json")
        .body(body);
    Answer::to(request).await.problem(413, "body_too_large");
}
