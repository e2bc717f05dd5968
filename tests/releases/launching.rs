//! From a stored configuration to a release that answers: what is written, made and told.

use reqwest::Method;
use serde_json::json;

use crate::bench::until;
use crate::client::Answer;
use crate::configuration::{Configuration, md5, sha256};
use crate::gate::{GATED, Gate};
use crate::lines;
use crate::seen;
use crate::stage::{APP, Stage, start};

lines![
    Both a_release_is_stored_launched_switched_to_and_answers,
    Both wunderproxys_form_is_carried_out_and_what_is_not_is_a_warning,
    Process a_configuration_by_its_md5_name_is_launched,
    Process for_a_single_application_the_bare_hash_will_do,
    Process with_two_applications_the_bare_hash_is_refused,
    Both another_variable_with_the_same_image_is_another_release,
    Process launches_of_the_same_release_at_once_are_one,
    Process a_release_is_waited_for_until_its_checks_succeed,
    Docker a_release_has_the_limits_and_the_command_of_its_configuration,
];

async fn a_release_is_stored_launched_switched_to_and_answers(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let answer = api.client.get("/before").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(api.status().await["state"], "none");

    let release = stage.release("one");
    // With blanks of its own, which are part of what is stored.
    let bytes = [b"\n  ".to_vec(), release.bytes(), b" \n\n".to_vec()].concat();
    let hash = sha256(&bytes);
    let name = format!("{APP}-one-{}", &hash[..8]);
    let answer = api.store(bytes.clone()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let stored = answer.json();
    assert_eq!(stored["hash"], hash);
    assert_eq!(stored["revision"], "one");
    assert_eq!(stored["warnings"], json!([]));
    let shelf = stage.shelf();
    assert_eq!(
        shelf.get(&format!("container.{hash}.json")).await,
        Some(bytes)
    );
    assert!(seen::names(stage.bench()).await.is_empty());

    let launched = api.launch(&hash).await.ok();
    assert_eq!(launched["workload"], name.as_str());
    assert_eq!(launched["existing"], false);
    let made = seen::container(stage.bench(), &name).await.expect(&name);
    assert!(made.runs);
    assert_eq!(made.image, stage.bench().image());
    assert_eq!(made.envs["CONNSTR"], "one");
    assert_eq!(made.labels["wakegate.app"], APP);
    assert_eq!(made.labels["wakegate.release"], hash);
    // Nothing is current yet.
    assert_eq!(shelf.current_hash().await, "");
    assert_eq!(api.client.get("/between").await.status, 503);
    assert_eq!(api.release(&hash).await["role"], "candidate");

    let before = jiff::Timestamp::now();
    let switched = api.switched(&hash).await;
    assert_eq!(switched["from"], json!(null));
    assert_eq!(switched["pending"], false);
    assert_eq!(api.answering().await, "one");
    let current = shelf.current().await;
    assert_eq!(current["hash"], hash, "{current}");
    assert_eq!(current["revision"], "one", "{current}");
    let history = shelf.history().await;
    assert_eq!(history.len(), 1, "{history:?}");
    assert_eq!(history[0]["hash"], hash);
    assert_eq!(history[0]["revision"], "one");
    assert_eq!(history[0]["by"], "a test");
    let at: jiff::Timestamp = history[0]["at"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("RFC 3339");
    assert!((at.as_second() - before.as_second()).abs() < 30, "{at}");
    assert_eq!(api.history().await, history);
    let status = api.status().await;
    assert_eq!(status["current"], hash, "{status}");
    assert_eq!(status["state"], "ready", "{status}");
    let counted = &api.release(&hash).await["since_last_switch"];
    assert_eq!(counted["requests"], 1, "{counted}");

    // Switching to it again changes nothing.
    let again = api.switch(&hash).await.ok();
    assert_eq!(again["unchanged"], true, "{again}");
    assert_eq!(shelf.history().await.len(), 1);
    drop(gateway);
}

async fn wunderproxys_form_is_carried_out_and_what_is_not_is_a_warning(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = json!({
        "ContainerConfig": {
            "Image": stage.bench().image(),
            "Env": ["CONNSTR=old form", "IDLE=0", format!("LINE={}", stage.bench().mark())],
            "ExposedPorts": { "9000/tcp": {} },
            "Memory": 134_217_728,
            "StopSignal": "SIGINT",
        },
        "HostConfig": {
            "PublishAllPorts": true,
            "PortBindings": { "9000/tcp": [{ "HostPort": "1234" }] },
        },
        "HealthCheckPath": "/status",
        "Revision": "r7",
        "ForceReload": false,
        "Comment": "of another time",
    });
    let bytes = serde_json::to_vec(&old).expect("JSON");
    let hash = sha256(&bytes);
    let answer = api.store(bytes).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let stored = answer.json();
    assert_eq!(stored["hash"], hash);
    assert_eq!(stored["revision"], "r7");
    let warnings = stored["warnings"].to_string();
    for word in ["Comment", "StopSignal", "PortBindings"] {
        assert!(warnings.contains(word), "no {word} in {warnings}");
    }
    for word in ["Memory", "Env", "Revision", "\"ForceReload"] {
        assert!(!warnings.contains(word), "{word} in {warnings}");
    }
    let launched = api.launch(&hash).await.ok();
    assert_eq!(
        launched["workload"],
        format!("{APP}-r7-{}", &hash[..8]).as_str()
    );
    api.switched(&hash).await;
    assert_eq!(api.answering().await, "old form");
    if stage.is_docker() {
        let name = format!("{APP}-r7-{}", &hash[..8]);
        let found = stage.engine().raw().inspect_container(&name, None).await;
        let host = found.expect("a container").host_config.expect("it has one");
        assert_eq!(host.memory, Some(134_217_728));
        // Nothing is published on the host's addresses.
        assert_ne!(host.publish_all_ports, Some(true));
    }
}

/// Older buckets have MD5 names; the bytes are put there by somebody else.
async fn a_configuration_by_its_md5_name_is_launched(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let release = stage.release("older");
    let hash = md5(&release.bytes());
    let shelf = stage.shelf();
    let key = format!("container.{hash}.json");
    shelf.put(&key, &release.bytes()).await;
    let launched = api.launch(&hash).await.ok();
    assert_eq!(
        launched["workload"],
        format!("{APP}-older-{}", &hash[..8]).as_str()
    );
    api.switched(&hash).await;
    assert_eq!(api.answering().await, "older");
    assert_eq!(shelf.current_hash().await, hash);
}

/// As wunderproxy took it.
async fn for_a_single_application_the_bare_hash_will_do(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let hash = api.stored(&stage.release("one")).await;
    for path in ["/launch", "/switch"] {
        let request = api.client.admin(Method::POST, path);
        Answer::to(request.body(format!("{hash}\n"))).await.ok();
    }
    assert_eq!(api.answering().await, "one");
    // As JSON text it is one too.
    let request = api.client.admin(Method::POST, "/launch").json(&hash);
    assert_eq!(Answer::to(request).await.ok()["existing"], true);
    // And an order without a name.
    let order = json!({ "hash": hash });
    assert_eq!(api.post("/switch", order).await.ok()["unchanged"], true);
}

async fn with_two_applications_the_bare_hash_is_refused(stage: Stage) {
    let setup = stage.setup().set("apps.cafe.store", "file:cafe");
    let (_gateway, api) = start(&setup).await;
    let hash = api.stored(&stage.release("one")).await;
    let request = api.client.admin(Method::POST, "/launch").body(hash);
    let problem = Answer::to(request).await.problem(422, "which_app");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("cafe") && detail.contains(APP), "{detail}");
    let unknown = api
        .post("/launch", json!({ "app": "pub", "hash": "0" }))
        .await;
    unknown.problem(404, "unknown_app");
    assert!(seen::names(stage.bench()).await.is_empty());
}

async fn another_variable_with_the_same_image_is_another_release(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let one = stage.release("same");
    let other = one.clone().env("CONNSTR", "changed");
    assert_ne!(one.hash(), other.hash());
    api.deployed(&one).await;
    assert_eq!(api.answering().await, "same");
    api.deployed(&other).await;
    assert_eq!(api.answering().await, "changed");
    let names = [one.container(), other.container()];
    let mut there = seen::names(stage.bench()).await;
    there.retain(|name| names.contains(name));
    assert_eq!(there.len(), 2, "{there:?}");
    assert_eq!(api.status().await["previous"], one.hash());
}

async fn launches_of_the_same_release_at_once_are_one(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let release = stage.release("one").env("BOOT_DELAY", "500ms");
    let hash = api.stored(&release).await;
    let all = (0..8).map(|_| {
        let (api, hash) = (api.clone(), hash.clone());
        tokio::spawn(async move { api.launch(&hash).await })
    });
    for launch in all.collect::<Vec<_>>() {
        launch.await.expect("an answer").ok();
    }
    assert_eq!(seen::names(stage.bench()).await, [release.container()]);
    seen::assert_starts(stage.bench(), &release.container(), 1).await;
    assert_eq!(seen::processes(stage.bench()).len(), 1);
}

async fn a_release_is_waited_for_until_its_checks_succeed(stage: Stage) {
    let gate = Gate::new(stage.bench());
    gate.close();
    let (_gateway, api) = start(&gate.in_front_of(stage.setup())).await;
    let old = api.deployed(&stage.release("old")).await;
    let new = stage
        .release("new")
        .with("image", GATED)
        .env("FAIL_FIRST", "5");
    let hash = api.stored(&new).await;
    let launching = {
        let (api, hash) = (api.clone(), hash.clone());
        tokio::spawn(async move { api.launch(&hash).await })
    };
    // Meanwhile it can be seen that it is being checked, and it cannot be switched to.
    until("it is checked", || async {
        let release = api.release(&hash).await;
        (release["launch"]["phase"] == "checking").then_some(())
    })
    .await;
    api.switch(&hash).await.problem(409, "launching");
    assert_eq!(api.answering().await, "old");
    assert!(!launching.is_finished());
    gate.open();
    launching.await.expect("an answer").ok();
    assert_eq!(api.status().await["current"], old);
    api.switched(&hash).await;
    assert_eq!(api.answering().await, "new");
    // It fails five checks, whoever makes them: had it been taken for healthy before, so would this.
    assert_eq!(api.client.get("/status").await.status, 200);
}

async fn a_release_has_the_limits_and_the_command_of_its_configuration(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let release = Configuration::new(stage.bench(), "full")
        .with("memory", "96MiB")
        .with("pids", 40)
        .with("port", 9000)
        .with("labels", json!({ "team": "red" }));
    api.deployed(&release).await;
    assert_eq!(api.answering().await, "full");
    let found = stage
        .engine()
        .raw()
        .inspect_container(&release.container(), None)
        .await
        .expect("a container");
    let host = found.host_config.expect("it has one");
    assert_eq!(host.memory, Some(96 << 20));
    assert_eq!(host.pids_limit, Some(40));
    let config = found.config.expect("it has one");
    assert_eq!(config.labels.expect("labels")["team"], "red");
    // A host path that gateway.toml does not name is refused before anything is stored.
    let bound = release.with("binds", json!(["/etc:/host-etc:ro"]));
    let problem = api.store(bound.bytes()).await;
    assert!(
        problem.status == 422 || problem.status == 403,
        "{problem:?}"
    );
    assert!(problem.text().contains("/etc"), "{}", problem.text());
    let key = format!("container.{}.json", bound.hash());
    assert!(stage.shelf().get(&key).await.is_none());
}
