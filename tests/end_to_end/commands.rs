//! The command line: what a newcomer reads, what is checked, and what is said when it cannot start.

use crate::bench::Bench;
use crate::lines;
use crate::scripts;
use crate::setup::{Ran, Setup};
use crate::waking::GATED;

lines![
    Process check_tells_that_all_is_well,
    Process check_tells_everything_that_is_wrong_with_file_and_line,
    Process check_looks_at_the_scripts_that_a_broken_configuration_means,
    Process serve_refuses_what_check_refuses,
    Process the_definitions_for_editors_are_written_below_the_scripts,
    Process definitions_are_not_written_where_no_scripts_are,
    Process unknown_keys_are_refused_with_what_was_probably_meant,
    Process variables_of_the_environment_go_before_the_file,
    Process variables_that_are_not_known_are_refused,
    Process a_port_that_is_taken_is_one_sentence,
    Process a_state_folder_that_another_gateway_uses_is_one_sentence,
    Process without_an_engine_auto_takes_child_processes_and_says_so_in_one_line,
    Docker with_an_engine_auto_takes_it_and_says_so_in_one_line,
    Process the_help_names_the_commands_and_where_to_begin,
    Process a_configuration_that_is_not_there_is_one_sentence,
    Process the_log_can_be_json,
    Process the_gateway_and_the_engine_live_apart,
];

async fn run(setup: &Setup, command: &str) -> Ran {
    setup.write();
    let file = setup.file();
    setup
        .run(&[command, "--config", file.to_str().expect("a path in UTF-8")])
        .await
}

/// The number of the first line with that text, from 1.
fn line_of(text: &str, part: &str) -> usize {
    1 + text
        .lines()
        .position(|line| line.contains(part))
        .expect(part)
}

async fn check_tells_that_all_is_well(bench: Bench) {
    let ran = run(&bench.setup(), "check").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for told in [
        "/session/{name}/{*rest}",
        "session.rhai:",
        "minion",
        "ready",
        "idle",
    ] {
        assert!(ran.out.contains(told), "{told} is not in {ran:?}");
    }
    assert_eq!(ran.err, "");
}

fn much_is_wrong(bench: &Bench) -> (Setup, Vec<String>) {
    let script = scripts::shipped_and(
        "route(\"/a/{x}\", |req| proxy(req.parm(\"x\")));\nroute(\"/a/{y}\", |req| respond(200, \"\"));\n",
    );
    let unknown_function = line_of(&script, "parm");
    let setup = bench
        .setup()
        .script(script)
        .set("hold.time", "5 parsecs")
        .set("hold.queue_maxx", 5)
        .set("public.listen", "nowhere")
        .set("spec.pids_max", "many");
    setup.write();
    let config = std::fs::read_to_string(setup.file()).expect("it was written");
    let mut expected: Vec<String> = ["parsecs", "queue_maxx", "nowhere", "many"]
        .iter()
        .map(|part| format!("gateway.toml:{}:", line_of(&config, part)))
        .collect();
    expected.push(format!("session.rhai:{unknown_function}:"));
    (setup, expected)
}

async fn check_tells_everything_that_is_wrong_with_file_and_line(bench: Bench) {
    let (setup, expected) = much_is_wrong(&bench);
    let ran = run(&setup, "check").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for place in &expected {
        assert!(ran.err.contains(place), "{place} is not in\n{}", ran.err);
    }
    for help in ["5m", "queue_max", "parm"] {
        assert!(ran.err.contains(help), "{help} is not in\n{}", ran.err);
    }
}

async fn check_looks_at_the_scripts_that_a_broken_configuration_means(bench: Bench) {
    let script = scripts::shipped_and("route(\"/v\", |req| respond(200, vars.greeting));\n");
    let setup = bench.setup().script(script);
    let broken = |setup: &Setup| setup.clone().set("public.listen", "nowhere");
    let good = setup.clone().set("vars.greeting", "hello");
    let ran = run(&good, "check").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // The scripts' folder is beside the file, and it has what they need.
    let ran = run(&broken(&good), "check").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("nowhere"), "{ran:?}");
    assert!(!ran.err.contains("scripts"), "{ran:?}");
    let ran = run(&broken(&setup), "check").await;
    assert!(
        ran.err.contains("greeting") && ran.err.contains("nowhere"),
        "{ran:?}"
    );
    // What scripts need is itself what is wrong: no guesses about them.
    for (key, value) in [
        ("vars.other-name", "x"),
        ("scripts.dirr", "elsewhere"),
        ("scripts.shadow", "perhaps"),
        ("vaars.greeting", "hello"),
    ] {
        let ran = run(&setup.clone().set(key, value), "check").await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(!ran.err.contains("session.rhai"), "{key}: {ran:?}");
        assert!(ran.err.contains("are looked at when"), "{key}: {ran:?}");
    }
}

async fn serve_refuses_what_check_refuses(bench: Bench) {
    let (setup, expected) = much_is_wrong(&bench);
    let ran = run(&setup, "serve").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for place in &expected[..4] {
        assert!(ran.err.contains(place), "{place} is not in\n{}", ran.err);
    }
    // Scripts alone are reason enough.
    let script = "route(\"/a\", |req| prox(\"a\"));\n";
    let ran = run(&bench.setup().script(script), "serve").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("session.rhai:1:") && ran.err.contains("prox"),
        "{ran:?}"
    );
}

async fn the_definitions_for_editors_are_written_below_the_scripts(bench: Bench) {
    let setup = bench.setup();
    setup.write();
    let file = "scripts/.definitions/wakegate.d.rhai";
    let read = || std::fs::read_to_string(bench.dir().join(file)).expect(file);
    // By name, which needs no good configuration, and then by the configuration.
    let ran = setup.run(&["definitions", "scripts"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains(file), "{ran:?}");
    let first = read();
    for told in [
        "module static;\n",
        "\nfn proxy(name: String) -> ProxyDecision;\n",
        "\nfn get path(req: Request) -> String;\n",
    ] {
        assert!(first.contains(told), "{told} is not in\n{first}");
    }
    std::fs::write(bench.dir().join(file), "old").expect("it can be written");
    let ran = run(&setup, "definitions").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains(file), "{ran:?}");
    assert_eq!(read(), first);
    let ran = run(&setup, "check").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

async fn definitions_are_not_written_where_no_scripts_are(bench: Bench) {
    let setup = bench.setup();
    let ran = setup.run(&["definitions", "no/such"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("no/such"), "{ran:?}");
    assert!(!bench.dir().join("no").exists());
}

async fn unknown_keys_are_refused_with_what_was_probably_meant(bench: Bench) {
    let setup = bench
        .setup()
        .set("hold.tme", "1s")
        .set("lifecylce.idle_after", "1s");
    let ran = run(&setup, "check").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for told in ["tme", "time", "lifecylce", "lifecycle"] {
        assert!(ran.err.contains(told), "{told} is not in\n{}", ran.err);
    }
}

async fn variables_of_the_environment_go_before_the_file(bench: Bench) {
    let setup = crate::waking::gated(&bench, bench.setup())
        .set("hold.time", "1h")
        .env("WAKEGATE_HOLD_TIME", "200ms")
        .env("WAKEGATE_HOLD_QUEUE_MAX", "3");
    let gateway = setup.start().await;
    let sample = bench.sample("one").with("image", GATED);
    gateway.client.create(&sample).await;
    gateway
        .client
        .get(&sample.path(""))
        .await
        .problem(504, "hold_timeout");
    // An empty one counts as not set, as compose files make them; a wrong one is named.
    let wrong = bench
        .setup()
        .env("WAKEGATE_HOLD_TIME", "soon")
        .env("WAKEGATE_LOG_LEVEL", "");
    let ran = run(&wrong, "check").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("WAKEGATE_HOLD_TIME") && ran.err.contains("soon"),
        "{ran:?}"
    );
    assert!(!ran.err.contains("LOG_LEVEL"), "{ran:?}");
}

async fn variables_that_are_not_known_are_refused(bench: Bench) {
    let ran = run(&bench.setup().env("WAKEGATE_HOLD_TIMEE", "1s"), "check").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("WAKEGATE_HOLD_TIMEE"), "{ran:?}");
    assert!(ran.err.contains("WAKEGATE_HOLD_TIME\"") || ran.err.contains("WAKEGATE_HOLD_TIME"));
}

async fn a_port_that_is_taken_is_one_sentence(bench: Bench) {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("an address").to_string();
    for key in ["public.listen", "admin.listen"] {
        let ran = run(&bench.setup().set(key, address.as_str()), "serve").await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let said: Vec<_> = ran
            .err
            .lines()
            .filter(|line| line.contains(&address))
            .collect();
        assert!(said.iter().any(|line| line.contains("in use")), "{ran:?}");
        assert!(!ran.err.contains("panicked"), "{ran:?}");
    }
}

async fn a_state_folder_that_another_gateway_uses_is_one_sentence(bench: Bench) {
    let setup = bench.setup();
    let gateway = setup.start().await;
    let ran = run(&setup, "serve").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("in use by another gateway"), "{ran:?}");
    gateway
        .client
        .get("/nothing")
        .await
        .problem(404, "no_route");
}

async fn without_an_engine_auto_takes_child_processes_and_says_so_in_one_line(bench: Bench) {
    let setup = bench.setup().set("runtime.engine", "auto");
    let gateway = setup
        .env("DOCKER_HOST", "unix:///no/such/docker.sock")
        .start()
        .await;
    let said = gateway.log.lines_with("child processes");
    assert_eq!(said.len(), 1, "{}", gateway.log.text());
    assert!(said[0].contains("/no/such/docker.sock"), "{}", said[0]);
    let sample = bench.sample("one");
    let id = gateway.client.create(&sample).await;
    gateway.client.get(&sample.path("")).await.ok();
    assert_eq!(crate::world::processes_of(&id).len(), 1);
}

async fn with_an_engine_auto_takes_it_and_says_so_in_one_line(bench: Bench) {
    let gateway = bench.setup().set("runtime.engine", "auto").start().await;
    let said = gateway.log.lines_with("Docker");
    assert_eq!(said.len(), 1, "{}", gateway.log.text());
    let sample = bench.sample("one");
    let id = gateway.client.create(&sample).await;
    assert!(bench.engine().exists(&id).await);
}

async fn the_help_names_the_commands_and_where_to_begin(bench: Bench) {
    let setup = bench.setup();
    let ran = setup.run(&["--help"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for told in [
        "serve",
        "check",
        "definitions",
        "demo",
        "minion",
        "gateway.toml",
        "WAKEGATE_",
    ] {
        assert!(ran.out.contains(told), "{told} is not in\n{}", ran.out);
    }
    let ran = setup.run(&["serve", "--help"]).await;
    assert!(ran.out.contains("--config"), "{}", ran.out);
    let ran = setup.run(&["srve"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("serve"), "{ran:?}");
}

async fn a_configuration_that_is_not_there_is_one_sentence(bench: Bench) {
    let setup = bench.setup();
    for command in ["serve", "check"] {
        let ran = setup
            .run(&[command, "--config", "no/such/gateway.toml"])
            .await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("no/such/gateway.toml"), "{ran:?}");
        assert!(ran.err.contains("no such file"), "{ran:?}");
    }
}

async fn the_log_can_be_json(bench: Bench) {
    let setup = bench
        .setup()
        .set("log.format", "json")
        .set("log.requests", true);
    setup.write();
    let file = setup.file();
    let mut command = setup.command(&["serve", "--config", file.to_str().expect("UTF-8")]);
    let mut child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    let output = child.stderr.take().expect("its output");
    let first = tokio::task::spawn_blocking(move || {
        use std::io::BufRead;
        let lines = std::io::BufReader::new(output).lines();
        lines.map_while(Result::ok).take(3).collect::<Vec<_>>()
    });
    let lines = crate::bench::in_time("three lines", first).await;
    let _ = child.kill();
    let _ = tokio::task::block_in_place(|| child.wait());
    for line in lines.expect("lines") {
        let line: serde_json::Value = serde_json::from_str(&line).expect(&line);
        assert!(
            line["message"].is_string() && line["level"].is_string(),
            "{line}"
        );
    }
}

/// `docker.host` that means nothing is refused, and one that does not answer is waited for.
async fn the_gateway_and_the_engine_live_apart(bench: Bench) {
    let setup = bench.setup().set("runtime.engine", "docker");
    let ran = run(&setup.clone().set("docker.host", "ftp://x"), "serve").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("ftp://x") && ran.err.contains("gateway.toml:"),
        "{ran:?}"
    );
    let gateway = setup
        .set("docker.host", "unix:///no/such/docker.sock")
        .start()
        .await;
    let answer = gateway.client.get("/session/one/").await;
    let problem = answer.problem(503, "engine_unreachable");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|text| text.contains("/no/such/docker.sock"))
    );
    assert!(answer.retry_after().as_secs() >= 1);
    let listed = crate::client::Answer::to(gateway.client.admin(reqwest::Method::GET, "/deploy"));
    listed.await.problem(503, "engine_unreachable");
    let ready = crate::client::Answer::to(gateway.client.admin(reqwest::Method::GET, "/readyz"));
    assert_eq!(ready.await.status, 503);
    let spec = bench.sample("one");
    gateway
        .client
        .post_deploy("", &spec.0)
        .await
        .problem(503, "engine_unreachable");
}
