//! Tests that scripts bring along, as their authors meet them.

use super::{Dir, load};
use crate::script::version::Version;

fn outcomes(version: &Version) -> Vec<(String, Result<(), String>)> {
    let outcomes = version.test(|_| true);
    outcomes
        .into_iter()
        .map(|outcome| {
            let result = outcome.result.map_err(|error| {
                let text = error.to_string();
                let at = text.find(".rhai").and_then(|end| text[..end].rfind('/'));
                text[at.map_or(0, |at| at + 1)..].to_owned()
            });
            (outcome.name, result)
        })
        .collect()
}

/// The failure of the one test of a script.
fn failure(script: &str) -> String {
    let mut outcomes = outcomes(&load(script));
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0).1.unwrap_err()
}

/// Fails with the test's own words when a test of the script fails.
fn pass(script: &str) {
    let outcomes = outcomes(&load(script));
    assert!(!outcomes.is_empty());
    for (name, result) in outcomes {
        if let Err(error) = result {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn tests_of_all_files_run_in_order_and_see_imports_and_constants() {
    let dir = Dir::new(&[
        ("lib/names.rhai", "fn upper(text) { text.to_upper() }"),
        (
            "a.rhai",
            "import \"lib/names\" as names;\nconst PORT = 9000;\n\
             fn port() { global::PORT }\n\
             route(\"/{name}\", |req| proxy(req.param(\"name\")).port(PORT));\n\
             fn test_b() { assert_eq(names::upper(\"x\"), \"X\"); }\n\
             fn test_a() { assert_eq(port(), simulate(\"GET\", \"/x\").port); }\n",
        ),
        (
            "b.rhai",
            "fn test_other() { assert_eq(simulate(\"GET\", \"/x\"), \"none\"); }",
        ),
    ]);
    let outcomes = outcomes(&dir.load().unwrap_or_else(|errors| panic!("{}", errors[0])));
    let names: Vec<_> = outcomes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["a.rhai::test_b", "a.rhai::test_a", "b.rhai::test_other"]
    );
    assert_eq!(outcomes[0].1, Ok(()));
    assert_eq!(outcomes[1].1, Ok(()));
    assert_eq!(
        outcomes[2].1.clone().unwrap_err(),
        "b.rhai:1:19: assert_eq: the left is \"proxy x:9000\", the right is \"none\"\n\
         1 | fn test_other() { assert_eq(simulate(\"GET\", \"/x\"), \"none\"); }\n  \
           |                   ^"
    );
}

#[test]
fn a_simulated_decision_has_its_fields() {
    pass(
        r#"
        route("/p/{*rest}", |req| proxy("a").port(80).strip(1).timeout("5s").wait(2).asleep("page").counts(false)
            .create("t", #{ id: 7 }).set_header("x-a", 1).drop_header("x-b").set_request_header("x-c", "2"));
        route("/r", |req| redirect(307, "/x").header("a", "b"));
        route("/a", |req| respond(503, "later").retry_after("90s"));
        route("/n", |req| ());
        template("t", |vars| #{ name: "t" + vars.id, image: "i", memory: "1MiB" });
        fn test_proxy() {
            let d = simulate("GET", "/p/x/y?q=1");
            assert_eq(d.kind, "proxy"); assert_eq(d.route, "/p/{*rest}"); assert_eq(d.workload, "a");
            assert_eq(d.port, 80); assert_eq(d.path, "/x/y"); assert_eq(d.strip, 1);
            assert_eq(d.timeout, 5); assert_eq(d.wait, 2.0); assert_eq(d.asleep, "page"); assert(!d.counts);
            assert_eq(d.template, "t"); assert_eq(d.vars, #{ id: 7 });
            assert_eq(d.headers, #{ "x-a": "1", "x-b": () }); assert_eq(d.request_headers, #{ "x-c": "2" });
            assert_eq(`${d}`, "proxy a:80 asleep page counts false strip 1 timeout 5s wait 2s create t request_header x-c header x-a header -x-b");
        }
        route("/app/{*rest}", |req| app("shop").port(80).strip(1).canary(10).asleep("page").set_request_header("x-c", "2"));
        route("/beta", |req| if req.header("x-beta") == "1" { app("shop").canary(100) } else { app("shop") });
        fn test_app() {
            let d = simulate("GET", "/app/x/y?q=1");
            assert_eq(d.kind, "app"); assert_eq(d.app, "shop"); assert_eq(d.canary, 10); assert_eq(d.route, "/app/{*rest}");
            assert_eq([d.port, d.path, d.strip, d.asleep, d.counts, d.wait], [80, "/x/y", 1, "page", true, 0.0]);
            assert_eq(d.request_headers, #{ "x-c": "2" }); assert_eq(d.headers, #{});
            assert_eq(d, "app shop:80 canary 10 asleep page strip 1 request_header x-c");
            assert_eq(simulate("GET", "/beta"), "app shop"); assert_eq(simulate("GET", "/beta").canary, 0.0);
            assert_eq(simulate("GET", "/beta", #{ "x-beta": "1" }), "app shop canary 100");
            for read in [|| d.workload, || d.template, || simulate("GET", "/p/x").app, || simulate("GET", "/p/x").canary] {
                let failed = false;
                try { read.call(); } catch { failed = true; }
                assert(failed);
            }
        }
        fn test_plain() { }
        fn test_others() {
            let r = simulate("GET", "/r"); assert_eq([r.kind, r.status, r.location, r.headers.a], ["redirect", 307, "/x", "b"]);
            let a = simulate("GET", "/a"); assert_eq([a.kind, a.status, a.body, a.retry_after], ["respond", 503, "later", 90.0]);
            let n = simulate("GET", "/n"); assert_eq([n.kind, n.route], ["none", "/n"]);
            let m = simulate("GET", "/missing"); assert_eq([m.kind, m.route], ["none", ""]);
            assert_ne(r, a); assert_ne(1, "1"); assert_eq(1, 1.0); assert_eq([#{ a: () }], [#{ a: () }]);
        }
        fn test_template() {
            let spec = simulate_template("t", #{ id: 1 });
            assert_eq(spec.name, "t1"); assert_eq(spec.image, "i"); assert_eq(spec.labels, #{});
        }
    "#,
    );
}

#[test]
fn a_request_may_come_from_anywhere_at_any_time() {
    pass(
        r#"
        route("shop.example.com/{*rest}", |req| respond(200,
            `${req.method} ${req.scheme} ${req.host} ${req.path} ${req.query("a")} ${req.client} ${req.header("x-a")} ${req.cookie("c")}`));
        fn test_all() {
            let d = simulate("POST", "https://Shop.example.com:8443/x?a=1", #{ "X-A": ["1", "2"], cookie: "c=3" }, #{ client: "2001:db8::1" });
            assert_eq(d.body, "POST https shop.example.com /x 1 2001:db8::1 1, 2 3");
        }
        fn test_host() {
            let d = simulate("GET", "/x", #{ host: "shop.example.com:8000" });
            assert_eq(d.route, "shop.example.com/{*rest}");
        }
    "#,
    );
}

#[test]
fn hooks_can_be_asked_too() {
    pass(
        r#"
        ready(|c| if c.label("health") != "" { probe(c.label("health"), "1s", "5s") } else if c.ports.len() > 0 { tcp("9s") });
        idle(|c| if c.env("IDLE") == "0" { never() } else if c.name == "p" { pause_after("2m") } else { stop_after(c.env("IDLE", "90s")) });
        on_error(|req, err| {
            if err.kind == "maintenance" { return respond(503, err.app); }
            if err.kind == "unknown_workload" { respond(404, req.path + err.workload + err.message + err.app).retry_after(err.retry_after) }
        });
        fn test_ready() {
            assert_eq(simulate_ready(#{ labels: #{ health: "/ok" } }), #{ kind: "probe", target: "/ok", every: 1, max: 5 });
            assert_eq(simulate_ready(#{ ports: [80] }), #{ kind: "tcp", max: 9 });
            assert_eq(simulate_ready(#{}), #{ kind: "none" });
        }
        fn test_idle() {
            assert_eq(simulate_idle(#{ envs: #{ IDLE: "0" } }).kind, "never");
            assert_eq(simulate_idle(#{ name: "p" }), #{ kind: "pause", after: 120 });
            assert_eq(simulate_idle(#{ envs: #{ IDLE: "5s" } }), #{ kind: "stop", after: 5.0 });
        }
        fn test_error() {
            let d = simulate_error("GET", "/x", #{ kind: "unknown_workload", status: 404, workload: "w", message: "m", retry_after: 3 });
            assert_eq([d.status, d.body, d.retry_after], [404, "/xwm", 3]);
            assert_eq(simulate_error("GET", "/x", #{ kind: "no_route" }).kind, "none");
            assert_eq(simulate_error("GET", "/x", #{ kind: "maintenance", app: "shop" }).body, "shop");
        }
    "#,
    );
}

#[test]
fn a_failure_tells_its_place_and_what_was_compared() {
    for (statement, expected) in [
        ("assert(1 > 2);", "a.rhai:2:15: assert: it is false"),
        ("assert(false, \"why\");", "a.rhai:2:15: assert: why"),
        (
            "assert_eq(#{ a: [1, \"x\"] }, 2.5, \"why\");",
            "a.rhai:2:15: assert_eq: why: the left is #{\"a\": [1, \"x\"]}, the right is 2.5",
        ),
        (
            "assert_ne(\"x\", 'x');",
            "a.rhai:2:15: assert_ne: both are \"x\"",
        ),
        ("throw \"own words\";", "a.rhai:2:15: own words"),
        (
            "simulate(\"GET\", \"/ok\").workload;",
            "a.rhai:2:38: the decision is \"respond 200\", which has no workload",
        ),
        (
            "simulate(\"GET\", \"/ok\").wrokload;",
            "a.rhai:2:38: Unknown property 'wrokload'",
        ),
        (
            "simulate(\"GET\", \"x\");",
            "a.rhai:2:15: simulate: \"x\" is neither",
        ),
        (
            "simulate(\"GET\", \"/\", #{}, #{ who: 1 });",
            "a.rhai:2:15: simulate: \"who\" is no fact",
        ),
        (
            "simulate(\"GET\", \"/\", #{}, #{ at: 1 });",
            "a.rhai:2:15: simulate: at: \"1\" is not a time",
        ),
        (
            "simulate_template(\"none\", #{});",
            "a.rhai:2:15: simulate_template: there is no template \"none\"",
        ),
        (
            "simulate_ready(#{ label: #{} });",
            "a.rhai:2:15: simulate_ready: unknown field `label`",
        ),
    ] {
        let script = format!("route(\"/ok\", |req| respond(200));\nfn test_x() {{ {statement} }}");
        let failed = failure(&script);
        assert!(failed.starts_with(expected), "{statement}: {failed}");
    }
}

#[test]
fn a_handler_that_fails_is_shown_with_its_own_place() {
    let failed = failure(
        "route(\"/x\", |req| {\n    proxy(req.query(\"name\"))\n});\nfn test_x() { simulate(\"GET\", \"/x?name=-\"); }",
    );
    assert!(
        failed.starts_with("a.rhai:4:15: simulate: the handler failed: "),
        "{failed}"
    );
    assert!(
        failed.contains("a.rhai:2:5: proxy: \"-\" is not a name"),
        "{failed}"
    );
    assert!(
        failed.contains("2 |     proxy(req.query(\"name\"))"),
        "{failed}"
    );
}

#[test]
fn a_test_has_limits_and_its_requests_have_their_own() {
    let failed = failure("fn test_x() { loop { } }");
    assert!(failed.contains("100000 operations"), "{failed}");
    let failed =
        failure("route(\"/\", |req| { loop { } }); fn test_x() { simulate(\"GET\", \"/\"); }");
    assert!(
        failed.contains("the handler failed") && failed.contains("100000 operations"),
        "{failed}"
    );
    pass(
        "route(\"/\", |req| { for i in 0..20000 { } () });\n\
         fn test_x() { for i in 0..20 { simulate(\"GET\", \"/\"); } }",
    );
    let failed = failure("fn f(n) { f(n + 1) } fn test_x() { f(0) }");
    assert!(failed.contains("a.rhai"), "{failed}");
}

#[test]
fn nothing_is_simulated_outside_of_a_test() {
    let script = "route(\"/{*rest}\", |req| { simulate(\"GET\", \"/\"); () });";
    let version = load(script);
    let failed = super::ask(&version, "/").unwrap_err();
    assert!(failed.contains("simulate belongs in a test"), "{failed}");
    // Nor by a handler that a test asks, which could go on for ever.
    let failed = failure(&format!(
        "{script} fn test_x() {{ simulate(\"GET\", \"/\"); }}"
    ));
    assert!(
        failed.contains("the handler failed") && failed.contains("belongs in a test"),
        "{failed}"
    );
    // And a hook is not registered by a test.
    let failed = failure("fn test_x() { route(\"/y\", |req| ()); }");
    assert!(failed.contains("belongs at the top level"), "{failed}");
}

#[test]
fn a_test_that_would_not_run_is_refused() {
    for (files, expected) in [
        (
            &[("a.rhai", "fn test_x(a) { }")][..],
            "a.rhai:1:14: test_x is a test and takes no arguments",
        ),
        (
            &[
                ("a.rhai", "import \"lib/x\" as x;"),
                ("lib/x.rhai", "fn test_x() { }"),
            ],
            "lib/x.rhai:1:13: a test in a file that is imported would not run",
        ),
        (
            &[("a.rhai", "route(\"/\", |req| ()); return; fn test_x() { }")],
            "a.rhai: the top level returns before its end",
        ),
        (
            &[("a.rhai", "collect_tests();")],
            "a.rhai:1:1: there is no function `collect_tests`",
        ),
    ] {
        let errors = Dir::new(files).errors();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(expected), "{}", errors[0]);
    }
}
