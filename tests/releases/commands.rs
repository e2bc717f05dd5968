//! The commands: what they print, and the exit codes that scripts of others go by.

use std::time::Instant;

use serde_json::Value;

use crate::api::Api;
use crate::bench::{Kind, until};
use crate::between::Mode;
use crate::gate::{GATED, Gate};
use crate::gateway::Gateway;
use crate::lines;
use crate::seen;
use crate::servers::Registry;
use crate::setup::{Ran, Setup};
use crate::stage::{Stage, start};
use crate::stores::with_something_between;
use crate::traffic::Traffic;

lines![
    Both deploy_stores_launches_and_switches_in_one,
    Process deploy_takes_a_file_and_stores_its_bytes_as_they_are,
    Process a_deploy_that_does_not_get_healthy_ends_with_four_and_changes_nothing,
    Process a_deploy_whose_requests_fail_is_gone_back_from,
    Process a_deploy_as_a_canary_is_one_only,
    Process launch_switch_rollback_and_history_tell_what_they_did,
    Process launch_tells_how_far_it_is,
    Process what_was_launched_and_not_switched_to_is_discarded,
    S3 a_deploy_whose_switch_is_refused_takes_away_what_it_has_launched,
    Process a_hash_may_be_shortened_and_the_only_application_left_out,
    Process status_tells_people_and_programs,
    Process pause_resume_and_maintenance_are_carried_out,
    Process what_is_refused_ends_with_three,
    Process without_a_gateway_every_command_ends_with_five,
    Registry a_registry_that_is_away_ends_a_deploy_with_five,
    Process wrong_usage_ends_with_two,
    Process with_several_applications_one_has_to_be_named,
    Process the_token_of_the_configuration_is_used,
];

/// Runs the program's commands before one gateway.
struct Shell {
    setup: Setup,
    api: Api,
    /// Only held, so that it runs.
    _gateway: Gateway,
}

impl Shell {
    async fn open(setup: Setup) -> Self {
        let (gateway, api) = start(&setup).await;
        // The file says that the system chooses the port.
        let admin = gateway.client.admin_address().to_owned();
        Self {
            setup: setup.env("WAKEGATE_ADMIN_LISTEN", admin),
            api,
            _gateway: gateway,
        }
    }

    async fn run(&self, words: &[&str]) -> Ran {
        run(&self.setup, words).await
    }

    /// Its output, when it ends well.
    async fn out(&self, words: &[&str]) -> String {
        let ran = self.run(words).await;
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        ran.out
    }

    async fn json(&self, words: &[&str]) -> Value {
        let out = self.out(words).await;
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

/// The configuration is named before what follows `--`.
async fn run(setup: &Setup, words: &[&str]) -> Ran {
    let file = setup.file();
    let config = ["--config", file.to_str().expect("a path in UTF-8")];
    let end = words.iter().position(|word| *word == "--");
    let (before, after) = words.split_at(end.unwrap_or(words.len()));
    setup.run(&[before, &config, after].concat()).await
}

fn assert_told(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "no {word:?} in {ran:?}");
    }
}

/// What makes `wakegate deploy` make a release of the sample application.
fn deploy<'a>(image: &'a str, connstr: &'a str, line: &'a str) -> Vec<&'a str> {
    vec![
        "deploy", "shop", "--image", image, "--health", "/status", "-e", connstr, "-e", "IDLE=0",
        "-e", line, "--watch", "0s",
    ]
}

async fn deploy_stores_launches_and_switches_in_one(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    let (image, line) = (
        stage.bench().image(),
        format!("LINE={}", stage.bench().mark()),
    );
    let mut words = deploy(&image, "CONNSTR=a=b", &line);
    words.extend(["--revision", "r1", "--memory", "256MiB", "--by", "ada"]);
    let ran = shell.run(&words).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(shell.api.answering().await, "a=b");
    let shelf = stage.shelf();
    let hash = shelf.current_hash().await;
    assert!(ran.err.contains(&hash), "{ran:?}");
    assert!(
        ran.out.contains("r1") && ran.out.contains(&hash[..8]),
        "{ran:?}"
    );
    let entry = &shelf.history().await[0];
    assert_eq!(
        (entry["by"].as_str(), entry["revision"].as_str()),
        (Some("ada"), Some("r1"))
    );
    let stored = shelf.get(&format!("container.{hash}.json")).await;
    let stored: Value = serde_json::from_slice(&stored.expect("it is stored")).expect("JSON");
    assert_eq!(stored["health"]["path"], "/status", "{stored}");
    assert_eq!(stored["memory"], "256MiB", "{stored}");
    // The same again is the same release: nothing is done, and that is no failure.
    let again = shell.run(&words).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(shelf.history().await.len(), 1);
    assert_eq!(seen::names(stage.bench()).await.len(), 1);
    // Without a revision it is the image's tag.
    let next = shell.run(&deploy(&image, "CONNSTR=next", &line)).await;
    assert_eq!(next.code, Some(0), "{next:?}");
    assert_eq!(shelf.current().await["revision"], "latest");
    assert_eq!(shell.api.answering().await, "next");
}

fn write(stage: &Stage, bytes: &[u8]) -> String {
    let file = stage
        .dir()
        .join(format!("release-{:08x}.json", fastrand::u32(..)));
    std::fs::write(&file, bytes).expect("a file");
    file.to_str().expect("a path in UTF-8").to_owned()
}

async fn deploy_takes_a_file_and_stores_its_bytes_as_they_are(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    let release = stage.release("one");
    let bytes = [b"\n".to_vec(), release.bytes(), b"\n\n".to_vec()].concat();
    let file = write(&stage, &bytes);
    shell
        .out(&["deploy", "shop", "--file", &file, "--watch", "0s"])
        .await;
    let hash = crate::configuration::sha256(&bytes);
    let key = format!("container.{hash}.json");
    assert_eq!(stage.shelf().get(&key).await, Some(bytes));
    assert_eq!(shell.api.answering().await, "one");
    let bad = write(&stage, b"{\"revision\": \"x\", \"imgae\": \"y\"}");
    let ran = shell.run(&["deploy", "shop", "--file", &bad]).await;
    assert_told(&ran, 3, &["imgae"]);
    let ran = shell
        .run(&["deploy", "shop", "--file", "/nowhere/at/all"])
        .await;
    assert_told(&ran, 1, &["/nowhere/at/all"]);
}

async fn a_deploy_that_does_not_get_healthy_ends_with_four_and_changes_nothing(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    let old_hash = shell.api.deployed(&stage.release("old")).await;
    let (image, line) = (
        stage.bench().image(),
        format!("LINE={}", stage.bench().mark()),
    );
    let mut words = deploy(&image, "CONNSTR=bad", &line);
    words.extend(["-e", "FAIL_STATUS=503", "--health-timeout", "6s"]);
    let began = Instant::now();
    let ran = shell.run(&words).await;
    assert_told(&ran, 4, &["healthy", "listens on", "503"]);
    let took = began.elapsed();
    assert!((6..40).contains(&took.as_secs()), "{took:?}");
    assert_eq!(shell.api.answering().await, "old");
    assert_eq!(stage.shelf().current_hash().await, old_hash);
    seen::until_there(stage.bench(), &[&stage.release("old").container()]).await;
}

async fn a_deploy_whose_requests_fail_is_gone_back_from(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    let old_hash = shell.api.deployed(&stage.release("old")).await;
    let public = shell._gateway.public.clone();
    let traffic = Traffic::begin(&public, "/x", 2, 40);
    let file = write(
        &stage,
        &stage.release("bad").env("ANSWER_STATUS", "500").bytes(),
    );
    let ran = shell
        .run(&["deploy", "shop", "--file", &file, "--watch", "30s"])
        .await;
    assert_told(&ran, 4, &["failed"]);
    assert_eq!(shell.api.answering().await, "old");
    assert_eq!(shell.api.status().await["current"], old_hash);
    traffic.end().await;
    let told = stage.shelf().told().await;
    assert_eq!(told, ["switch old", "switch bad", "rollback old"]);
    // The same with the first release of all: there is nothing to go back to.
}

async fn a_deploy_as_a_canary_is_one_only(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    let old_hash = shell.api.deployed(&stage.release("old")).await;
    let new = stage.release("new");
    let file = write(&stage, &new.bytes());
    let out = shell
        .out(&["deploy", "shop", "--file", &file, "--canary"])
        .await;
    assert!(out.contains("canary"), "{out}");
    let status = shell.api.status().await;
    assert_eq!(status["canary"], new.hash());
    assert_eq!(status["current"], old_hash);
    shell.out(&["switch", "shop", &new.hash()]).await;
    assert_eq!(shell.api.answering().await, "new");
}

async fn launch_switch_rollback_and_history_tell_what_they_did(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    assert!(!shell.out(&["history", "shop"]).await.is_empty());
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    for release in [&old, &new] {
        let hash = shell.api.stored(release).await;
        let out = shell.out(&["launch", "shop", &hash]).await;
        assert!(out.contains(&release.container()), "{out}");
        let out = shell.out(&["switch", "shop", &hash, "--by", "bo"]).await;
        assert!(out.contains(release.revision()), "{out}");
        assert_eq!(shell.api.answering().await, release.revision());
    }
    let out = shell.out(&["rollback", "shop", "--by", "cy"]).await;
    assert!(out.contains("old"), "{out}");
    assert_eq!(shell.api.answering().await, "old");
    let out = shell.out(&["history", "shop"]).await;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    for (line, words) in lines.iter().zip([
        ["switch", "old", "bo"],
        ["switch", "new", "bo"],
        ["rollback", "old", "cy"],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
    let history = shell.json(&["history", "shop", "--json"]).await;
    assert_eq!(
        history.as_array().cloned(),
        Some(stage.shelf().history().await)
    );
    // Who did it, when that is not said.
    let hash = new.hash();
    shell.out(&["launch", &hash]).await;
    shell.out(&["switch", &hash]).await;
    let by = stage.shelf().history().await[3]["by"].to_string();
    assert!(by.contains('@'), "{by}");
}

async fn launch_tells_how_far_it_is(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    // It takes seconds, so that the command looks at it in time, however late.
    let release = stage
        .release("slow")
        .env("FAIL_FIRST", "25")
        .health("interval", "200ms");
    let hash = shell.api.stored(&release).await;
    let ran = shell.run(&["launch", "shop", &hash]).await;
    assert_told(&ran, 0, &["healthy"]);
    assert!(ran.out.contains("healthy"), "{ran:?}");
}

async fn what_was_launched_and_not_switched_to_is_discarded(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    let old = stage.release("old");
    let old_hash = shell.api.deployed(&old).await;
    let hash = shell.api.launched(&stage.release("new")).await;
    let out = shell.out(&["discard", &hash[..8]]).await;
    assert!(out.contains("new") && out.contains("discarded"), "{out}");
    seen::until_there(stage.bench(), &[&old.container()]).await;
    let key = format!("container.{hash}.json");
    assert!(
        stage.shelf().get(&key).await.is_some(),
        "it can be launched"
    );
    let ran = shell.run(&["discard", "shop", &hash]).await;
    assert_told(&ran, 3, &["not one that was launched"]);
    let ran = shell.run(&["discard", "shop", &old_hash]).await;
    assert_told(&ran, 3, &["gets requests"]);
    assert_eq!(shell.api.answering().await, "old");
}

async fn a_deploy_whose_switch_is_refused_takes_away_what_it_has_launched(stage: Stage) {
    let (setup, shelf, between) = with_something_between(&stage).await;
    let gate = Gate::new(stage.bench());
    let shell = Shell::open(gate.in_front_of(setup)).await;
    let old = stage.release("old");
    let old_hash = shell.api.deployed(&old).await;
    gate.close();
    let new = stage.release("new").with("image", GATED);
    let file = write(&stage, &new.bytes());
    let words = ["deploy", "shop", "--file", &file];
    let (ran, ()) = tokio::join!(shell.run(&words), async {
        seen::until_running(stage.bench(), &[&old.container(), &new.container()]).await;
        between.set(Mode::Away);
        gate.open();
    });
    assert_told(&ran, 5, &["taken away again"]);
    between.set(Mode::Open);
    seen::until_there(stage.bench(), &[&old.container()]).await;
    assert_eq!(shelf.current_hash().await, old_hash);
    assert_eq!(shell.api.answering().await, "old");
}

async fn a_hash_may_be_shortened_and_the_only_application_left_out(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    shell.api.deployed(&old).await;
    shell.api.deployed(&new).await;
    let short = &old.hash()[..8];
    shell.out(&["launch", short]).await;
    shell.out(&["switch", short]).await;
    assert_eq!(shell.api.answering().await, "old");
    let explained = shell.out(&["explain", "--live", "GET", "/x"]).await;
    let now = format!("current is old ({short})");
    assert!(explained.contains(&now), "{explained}");
    for no_hash in ["abc", "nohash!!"] {
        let ran = shell.run(&["switch", no_hash]).await;
        assert_told(&ran, 2, &[no_hash]);
    }
    let ran = shell.run(&["switch", "00000000"]).await;
    assert_told(&ran, 3, &["00000000"]);
    assert_eq!(shell.api.answering().await, "old");
}

async fn status_tells_people_and_programs(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    let [old, new] = ["old", "new"].map(|revision| stage.release(revision));
    shell.api.deployed(&old).await;
    shell.api.deployed(&new).await;
    for _ in 0..3 {
        shell.api.answering().await;
    }
    let out = shell.out(&["status"]).await;
    for word in [
        "shop",
        "open",
        "current",
        "new",
        "previous",
        "old",
        &new.hash()[..8],
        "store",
    ] {
        assert!(out.contains(word), "no {word} in {out}");
    }
    let one = shell.json(&["status", "shop", "--json"]).await;
    assert_eq!(one["current"], new.hash());
    assert_eq!(one["previous"], old.hash());
    let all = shell.json(&["status", "--json"]).await;
    assert_eq!(all["apps"][0]["app"], "shop");
    // What the issue wants told of each release, from the other side: three requests.
    let release = crate::api::release_of(&one, &new.hash());
    let counted = &release["since_last_switch"];
    assert_eq!(counted["requests"], 3, "{counted}");
    assert!(counted.to_string().contains("2xx"), "{counted}");
    assert!(counted.to_string().contains("p99"), "{counted}");
    let ran = shell.run(&["status", "pub"]).await;
    assert_told(&ran, 3, &["pub"]);
    let ran = shell.run(&["status", "pub", "--json"]).await;
    assert_told(&ran, 3, &["pub"]);
}

async fn pause_resume_and_maintenance_are_carried_out(stage: Stage) {
    let shell = Shell::open(stage.setup().set("apps.shop.pause_max", "200ms")).await;
    shell.api.deployed(&stage.release("one")).await;
    for (words, door, status) in [
        (&["pause", "shop"][..], "paused", 503),
        (&["resume", "shop"], "open", 200),
        (&["pause"], "paused", 503),
        (&["resume"], "open", 200),
        (&["maintenance", "up", "shop"], "maintenance", 503),
        (&["maintenance", "down", "shop"], "open", 200),
        (&["maintenance", "up"], "maintenance", 503),
        (&["maintenance", "down"], "open", 200),
    ] {
        let out = shell.out(words).await;
        assert!(
            out.contains("shop") && out.contains(door),
            "{words:?}: {out}"
        );
        assert_eq!(shell.api.client.get("/x").await.status, status, "{words:?}");
    }
}

async fn what_is_refused_ends_with_three(stage: Stage) {
    let shell = Shell::open(stage.setup()).await;
    let nobodys = "0".repeat(64);
    let stored = shell.api.stored(&stage.release("one")).await;
    for (words, told) in [
        (vec!["launch", "shop", &nobodys], nobodys.as_str()),
        (vec!["switch", "shop", &nobodys], nobodys.as_str()),
        (vec!["switch", "shop", &stored], "launch"),
        (vec!["rollback", "shop"], "go back"),
        (vec!["launch", "pub", &stored], "pub"),
        (vec!["rollback", "pub"], "pub"),
        (vec!["history", "pub"], "pub"),
        (vec!["pause", "pub"], "pub"),
        (vec!["resume", "pub"], "pub"),
        (vec!["maintenance", "up", "pub"], "pub"),
        (vec!["deploy", "pub", "--image", "x:1"], "pub"),
        (
            vec!["deploy", "shop", "--image", "nobody/has:this", "-e", "A=b"],
            "nobody/has:this",
        ),
    ] {
        let ran = shell.run(&words).await;
        assert_told(&ran, 3, &[told]);
        assert_eq!(
            ran.err
                .lines()
                .filter(|line| line.starts_with("wakegate: "))
                .count(),
            1
        );
    }
}

async fn without_a_gateway_every_command_ends_with_five(stage: Stage) {
    // A port where nobody listens, and which is kept, so that no other line's gateway gets it.
    let kept = tokio::net::TcpSocket::new_v4().expect("a socket");
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    kept.bind(any).expect("a port");
    let address = kept.local_addr().expect("an address");
    let setup = stage.setup().set("admin.listen", address.to_string());
    setup.write();
    let hash = "0".repeat(64);
    for words in [
        vec!["status"],
        vec!["status", "shop", "--json"],
        vec!["history", "shop"],
        vec!["launch", "shop", &hash],
        vec!["switch", "shop", &hash],
        vec!["rollback", "shop"],
        vec!["pause", "shop"],
        vec!["resume", "shop"],
        vec!["maintenance", "up"],
        vec!["deploy", "shop", "--image", "x:1"],
    ] {
        let ran = run(&setup, &words).await;
        assert_told(&ran, 5, &[&address.to_string()]);
    }
    drop(kept);
}

async fn a_registry_that_is_away_ends_a_deploy_with_five(stage: Stage) {
    let mut registry = Registry::start(stage.dir());
    registry.end();
    assert!(matches!(stage.bench().kind(), Kind::Docker(_)));
    let setup = stage
        .setup()
        .set("apps.shop.registry", registry.name.as_str());
    let shell = Shell::open(setup).await;
    shell.api.deployed(&stage.release("old")).await;
    let ran = shell.run(&["deploy", "shop", "--revision", "42"]).await;
    assert_told(&ran, 5, &[&format!("{}/shop:42", registry.name)]);
    assert_eq!(shell.api.answering().await, "old");
}

async fn wrong_usage_ends_with_two(stage: Stage) {
    let setup = stage.setup();
    setup.write();
    for words in [
        vec!["launch"],
        vec!["switch"],
        vec!["maintenance"],
        vec!["maintenance", "sideways"],
        vec!["deploy"],
        vec!["deploy", "shop"],
        vec!["deploy", "shop", "--image", "localhost:8080/shop"],
        vec!["deploy", "shop", "-e", "NOVALUE"],
        vec!["deploy", "shop", "--image", "x:1", "--file", "y"],
        vec!["deploy", "shop", "--image", "x:1", "--watch", "5 parsecs"],
        vec!["status", "--xml"],
    ] {
        let ran = run(&setup, &words).await;
        assert_eq!(ran.code, Some(2), "{words:?}: {ran:?}");
    }
    for command in ["launch", "switch", "rollback", "deploy"] {
        let ran = setup.run(&[command, "--help"]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.contains("Exit codes"), "{ran:?}");
    }
}

async fn with_several_applications_one_has_to_be_named(stage: Stage) {
    let setup = stage.setup().set("apps.blog.store", "file:blog");
    let shell = Shell::open(setup).await;
    let hash = "0".repeat(64);
    for words in [
        vec!["launch", &hash],
        vec!["switch", &hash],
        vec!["rollback"],
        vec!["history"],
        vec!["pause"],
        vec!["resume"],
    ] {
        let ran = shell.run(&words).await;
        assert_told(&ran, 2, &["blog", "shop"]);
    }
}

async fn the_token_of_the_configuration_is_used(stage: Stage) {
    let setup = stage.setup().set("admin.token", "0123456789abcdef0123");
    let gateway = setup.start().await;
    let admin = gateway.client.admin_address().to_owned();
    let setup = setup.env("WAKEGATE_ADMIN_LISTEN", admin);
    let ran = run(&setup, &["status"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let other = setup.env("WAKEGATE_ADMIN_TOKEN", "fedcba9876543210fedc");
    let ran = run(&other, &["status"]).await;
    assert_told(&ran, 3, &[]);
    until("nothing was done", || async {
        seen::names(stage.bench()).await.is_empty().then_some(())
    })
    .await;
}
