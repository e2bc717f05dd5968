//! What scripts can say: requests, decisions, rules, templates, imports.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::{Dir, Sent, ask, ask_sent, errors, load, said, texts};
use crate::decision::{
    Asleep, ContainerFacts, ContainerRules, CreateFrom, Decision, ErrorFacts, IdleRule,
    ProxyDecision, ReadyRule,
};
use crate::names::WorkloadName;
use crate::script::version::Version;

fn proxied(decision: Result<Option<Decision>, String>) -> ProxyDecision {
    match decision {
        Ok(Some(Decision::Proxy(proxy))) => proxy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_can_be_read_in_every_part() {
    let version = load(
        r#"route("/app/{name}/{*rest}", |req| {
            let seen = [
                req.method, req.scheme, req.host, req.path, req.query, req.client,
                req.segments.len(), req.segment(1), req.segment(99), req.segment(-1),
                req.param("name"), req.param("rest"), req.param("other"),
                req.header("x-one"), req.header("X-Many"), req.header("none"), req.header("no such"),
                req.header("x-one", "d"), req.header("none", "d"),
                req.query("a"), req.query("b c"), req.query("empty", "d"), req.query("none"), req.query("none", 7),
                req.cookie("id"), req.cookie("q"), req.cookie("none"), req.cookie("none", "d"),
                req.headers.get("x-one", "?"),
            ];
            let text = "";
            for value in seen { text += `[${value}]`; }
            respond(200, text)
        });"#,
    );
    let sent = Sent::get("/app/a%20b/x%2Fy/z?a=1%20+2&b+c=3&empty=&a=9")
        .with("x-one", "1")
        .with("x-many", "a")
        .with("x-many", "b")
        .with("cookie", "id=5; q=\"quoted\"")
        .with("cookie", "late=1");
    assert_eq!(
        said(&version, &sent),
        "[GET][https][example.com][/app/a%20b/x%2Fy/z][a=1%20+2&b+c=3&empty=&a=9][192.0.2.7]\
         [4][a b][][]\
         [a b][x/y/z][]\
         [1][a, b][][][1][d]\
         [1  2][3][][][7]\
         [5][quoted][][d]\
         [1]"
    );
}

#[test]
fn a_proxy_decision_has_all_it_can_be_told() {
    let version = load(
        r#"
        template("t", |vars| #{name: "x", image: "i"});
        route("/all", |req| proxy("web-1")
            .port(8080).strip(2).path("/a%20b").timeout("1m30s").wait(5).asleep("page").counts(false)
            .create("t", #{id: 1, list: ["a", 1.5, true, ()]})
            .set_request_header("X-A", "1").drop_request_header("cookie")
            .set_header("x-b", 2).drop_header("server"));
        route("/plain", |req| proxy("web-1"));
        route("/steps", |req| { let p = proxy("web-1"); if req.path != "" { p.strip(1); p.port(1); } p });"#,
    );
    let proxy = proxied(ask(&version, "/all"));
    assert_eq!(proxy.workload, WorkloadName::new("web-1").unwrap());
    assert_eq!(
        (proxy.port, proxy.strip, proxy.path.as_deref()),
        (Some(8080), 2, Some("/a%20b"))
    );
    assert_eq!(proxy.timeout, Some(Duration::from_secs(90)));
    assert_eq!(proxy.wait, Some(Duration::from_secs(5)));
    assert_eq!((proxy.asleep, proxy.counts), (Asleep::Page, false));
    let vars = json!({"id": 1, "list": ["a", 1.5, true, null]});
    assert_eq!(
        proxy.create,
        Some(CreateFrom {
            template: "t".to_owned(),
            vars: vars.as_object().unwrap().clone()
        })
    );
    let edits = |edits: &crate::decision::HeaderEdits| -> Vec<String> {
        let edits = edits.edits.iter();
        edits
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect()
    };
    assert_eq!(
        edits(&proxy.request_headers),
        ["x-a=Some(\"1\")", "cookie=None"]
    );
    assert_eq!(
        edits(&proxy.response_headers),
        ["x-b=Some(\"2\")", "server=None"]
    );

    let plain = ProxyDecision::to(WorkloadName::new("web-1").unwrap());
    assert_eq!(proxied(ask(&version, "/plain")), plain);
    let steps = proxied(ask(&version, "/steps"));
    assert_eq!((steps.strip, steps.port), (1, Some(1)));
}

#[test]
fn answers_can_be_given_at_once() {
    let version = load(
        r#"
        route("/old", |req| redirect(308, "/new?x=1").header("x-a", "b").retry_after(2));
        route("/busy", |req| respond(503, "later").retry_after("1500ms").header("x-a", "b"));
        route("/empty", |req| respond(204));
        route("/none", |req| if req.method == "POST" { proxy("a") });"#,
    );
    let Ok(Some(Decision::Redirect(redirect))) = ask(&version, "/old") else {
        panic!()
    };
    assert_eq!(redirect.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(redirect.location, "/new?x=1");
    assert_eq!(redirect.headers.edits.len(), 2);
    let Ok(Some(Decision::Respond(reply))) = ask(&version, "/busy") else {
        panic!()
    };
    assert_eq!((reply.status.as_u16(), &*reply.body), (503, "later"));
    assert_eq!(reply.retry_after, Some(Duration::from_millis(1500)));
    assert_eq!(reply.headers.edits.len(), 1);
    assert!(matches!(ask(&version, "/empty"), Ok(Some(Decision::Respond(r))) if r.body.is_empty()));
    assert_eq!(ask(&version, "/none"), Ok(None), "no decision is no route");
    assert_eq!(ask(&version, "/unknown"), Ok(None));
}

#[test]
fn bad_values_are_errors_at_their_place() {
    for (bad, expected) in [
        ("proxy(\"a/b\")", "1:20: proxy: \"a/b\" is not a name"),
        ("proxy(\"\")", "1:20: proxy: a name is empty"),
        ("proxy(req.query)", "1:20: proxy: a name is empty"),
        ("proxy(1)", "1:20: Function not found: proxy (i64)"),
        ("proxy(\"a\").port(0)", "1:31: port: 0 is not a port"),
        (
            "proxy(\"a\").port(65536)",
            "1:31: port: 65536 is not a port",
        ),
        (
            "proxy(\"a\").strip(-1)",
            "1:31: strip: -1 is not a number of segments",
        ),
        (
            "proxy(\"a\").path(\"x\")",
            "1:31: path: \"x\" is not a path",
        ),
        (
            "proxy(\"a\").path(\"/x?y\")",
            "1:31: path: \"/x?y\" is not a path",
        ),
        (
            "proxy(\"a\").path(\"/x y\")",
            "1:31: path: \"/x y\" is not a path",
        ),
        (
            "proxy(\"a\").timeout(0)",
            "1:31: timeout: the time must be longer than zero",
        ),
        (
            "proxy(\"a\").wait(\"soon\")",
            "1:31: wait: \"soon\" is not a duration",
        ),
        (
            "proxy(\"a\").asleep(\"deep\")",
            "1:31: asleep: \"deep\" is none of",
        ),
        (
            "proxy(\"a\").create(\"none\", #{})",
            "1:1: create: there is no template \"none\"",
        ),
        (
            "proxy(\"a\").create(\"t\", #{f: |x| x})",
            "1:31: create: f: a function",
        ),
        (
            "proxy(\"a\").set_header(\"a b\", \"\")",
            "1:31: set_header: \"a b\" is not a header name",
        ),
        (
            "proxy(\"a\").set_header(\"a\", \"b\\nc\")",
            "1:31: set_header: \"b\\nc\" cannot be in a header",
        ),
        (
            "proxy(\"a\").set_header(\"a\", [1])",
            "1:31: set_header: \"[1]\" cannot be in a header",
        ),
        (
            "proxy(\"a\").drop_header(\"content-length\")",
            "1:31: drop_header: \"content-length\" belongs to the connection",
        ),
        ("redirect(200, \"/\")", "1:20: redirect: 200 is no redirect"),
        (
            "redirect(302, \"a\\nb\")",
            "1:20: redirect: \"a\\nb\" cannot be in a header",
        ),
        (
            "redirect(302, \"\")",
            "1:20: redirect: the location is empty",
        ),
        (
            "respond(99, \"\")",
            "1:20: respond: the status is not one of 200 to 599",
        ),
        (
            "respond(70000, \"\")",
            "1:20: respond: the status is not one of 200 to 599",
        ),
        (
            "[1]",
            "1:1: the route returned an array, which is no decision",
        ),
        (
            "never()",
            "1:1: the route returned an idle rule, which is no decision",
        ),
        (
            "\"web\"",
            "1:1: the route returned the text \"web\", which is no decision",
        ),
        ("|x| x", "1:1: the route returned a function"),
        ("throw \"no\"", "1:20: no"),
        ("#{}.missing", "1:24: there is no \"missing\" here"),
    ] {
        let failed = ask(&load(&format!("route(\"/\", |req| {{ {bad} }});")), "/").unwrap_err();
        assert!(
            failed.starts_with(&format!("a.rhai:{expected}")),
            "{bad}: {failed}"
        );
    }
}

#[test]
fn a_container_can_be_read_in_every_part_and_ruled() {
    let version = load(
        r#"
        ready(|c| switch c.name {
            "wait" => wait("2s"), "probe" => probe("/health"), "every" => probe("http://a:9/x?y=1", 0.5),
            "max" => probe("/", "1s", "5s"), "tcp" => tcp(), "tcp5" => tcp(5), "health" => health("1m"),
            "bad" => probe("ftp://x/"), "odd" => never(),
            _ => ()
        });
        ready(|c| if c.name == "second" { wait(0) });
        idle(|c| switch c.image {
            "env" => stop_after(duration(c.env("IDLE"), "10m")),
            "label" => pause_after(c.label("idle", 3)),
            "all" => stop_after(c.labels.len() * 100 + c.envs.len() * 10 + c.ports[0]),
            "health" => if c.has_healthcheck && c.id == "id1" { never() } else { stop_after(1) },
            "bad" => stop_after(c.env("none")),
            _ => ()
        });"#,
    );
    let ready = |name: &str| {
        version.ready(&ContainerFacts {
            name: name.to_owned(),
            ..Default::default()
        })
    };
    let seconds = Duration::from_secs;
    let probe = |target: &str, every: f64, max: u64| ReadyRule::Probe {
        target: target.to_owned(),
        every: Duration::from_secs_f64(every),
        max: seconds(max),
    };
    for (name, rule) in [
        ("wait", ReadyRule::Wait(seconds(2))),
        ("probe", probe("/health", 0.25, 60)),
        ("every", probe("http://a:9/x?y=1", 0.5, 60)),
        ("max", probe("/", 1.0, 5)),
        ("tcp", ReadyRule::Tcp { max: seconds(60) }),
        ("tcp5", ReadyRule::Tcp { max: seconds(5) }),
        ("health", ReadyRule::Health { max: seconds(60) }),
        ("second", ReadyRule::Wait(seconds(0))),
    ] {
        assert_eq!(ready(name).unwrap(), Some(rule), "{name}");
    }
    assert_eq!(ready("other").unwrap(), None, "the core's own rule holds");
    assert!(
        ready("bad")
            .unwrap_err()
            .message
            .contains("probe: \"ftp://x/\"")
    );
    assert!(
        ready("odd")
            .unwrap_err()
            .message
            .contains("ready returned an idle rule; it returns wait(…)")
    );

    let idle = |image: &str, envs: &[(&str, &str)]| {
        version.idle(&ContainerFacts {
            id: "id1".to_owned(),
            image: image.to_owned(),
            envs: texts(envs),
            labels: texts(&[("a", "b")]),
            ports: vec![3],
            has_healthcheck: true,
            ..Default::default()
        })
    };
    for (image, envs, rule) in [
        (
            "env",
            &[("IDLE", "1m0s")][..],
            Some(IdleRule::StopAfter(seconds(60))),
        ),
        ("env", &[], Some(IdleRule::StopAfter(seconds(600)))),
        ("label", &[], Some(IdleRule::PauseAfter(seconds(3)))),
        ("all", &[("A", "")], Some(IdleRule::StopAfter(seconds(113)))),
        ("health", &[], Some(IdleRule::Never)),
        ("other", &[], None),
    ] {
        assert_eq!(idle(image, envs).unwrap(), rule, "{image}");
    }
    assert!(
        idle("env", &[("IDLE", "soon")])
            .unwrap_err()
            .message
            .contains("\"soon\" is not a duration")
    );
    assert!(
        idle("bad", &[])
            .unwrap_err()
            .message
            .contains("stop_after: \"\" is not a duration")
    );
}

fn fill(version: &Version, vars: serde_json::Value) -> Result<serde_json::Value, String> {
    match version.template("t", vars.as_object().unwrap()) {
        Ok(spec) => Ok(serde_json::to_value(spec.unwrap()).unwrap()),
        Err(failure) => Err(failure.message[failure.message.rfind("a.rhai").unwrap()..].to_owned()),
    }
}

#[test]
fn a_template_makes_a_specification_from_vars() {
    let version = load(
        r#"template("t", |vars| #{
            name: "web-" + vars.id, image: vars.get("image", "web:1"), network: vars.get("net", ()),
            labels: #{ "a.b": `x ${vars.id}` }, envs: #{ N: `${vars.big}` }, port: 80,
            command: ["run", "--id", `${vars.id}`], memory: "64MiB", cpus: 0.5, pids: 10,
        });"#,
    );
    assert_eq!(
        fill(
            &version,
            json!({"id": "7", "big": 18_446_744_073_709_551_615u64, "extra": {"a": [1, null]}})
        ),
        Ok(json!({
            "name": "web-7", "image": "web:1", "labels": {"a.b": "x 7"}, "envs": {"N": "1.8446744073709552e19"},
            "port": 80, "command": ["run", "--id", "7"], "memory": 64 << 20, "cpus": 0.5, "pids": 10,
        }))
    );
    assert_eq!(
        fill(&version, json!({"id": 7, "big": 1})).unwrap()["name"],
        "web-7"
    );
    let missing = fill(&version, json!({"big": 1})).unwrap_err();
    assert!(
        missing.starts_with("a.rhai:2:33: there is no \"id\" here"),
        "{missing}"
    );
    assert!(matches!(
        version.template("other", &serde_json::Map::new()),
        Ok(None)
    ));
}

#[test]
fn a_specification_is_as_strict_as_in_json() {
    for (map, expected) in [
        (
            "#{name: \"a\", image: \"i\", memry: 1}",
            "memry: unknown field `memry`",
        ),
        ("#{image: \"i\"}", "the specification: missing field `name`"),
        (
            "#{name: \"a b\", image: \"i\"}",
            "the specification's name: \"a b\" is not a name",
        ),
        (
            "#{name: \"a\", image: \"i\", labels: #{x: 1}}",
            "the specification's labels.x: invalid type: integer `1`",
        ),
        (
            "#{name: \"a\", image: \"i\", port: 70000}",
            "the specification's port: invalid value",
        ),
        (
            "#{name: \"a\", image: \"i\", envs: #{f: |x| x}}",
            "envs: f: a function",
        ),
        ("()", "the template returned ()"),
        (
            "\"a\"",
            "the template returned the text \"a\"; it returns a map",
        ),
    ] {
        let failed =
            fill(&load(&format!("template(\"t\", |vars| {map});")), json!({})).unwrap_err();
        assert!(failed.starts_with("a.rhai:1:1: "), "{failed}");
        assert!(failed.contains(expected), "{map}: {failed}");
    }
}

#[test]
fn on_error_can_answer_in_its_own_words() {
    let version = load(
        r#"on_error(|req, err| {
            if err.kind == "unknown_workload" { return respond(404, `${req.path}: no ${err.workload}`); }
            if err.kind == "queue_full" { return respond(err.status, err.message).retry_after(err.retry_after); }
            if err.kind == "bad" { return redirect(302, "/"); }
        });"#,
    );
    let sent = Sent::get("/x");
    let on_error = |kind: &'static str| {
        let error = ErrorFacts {
            status: 503,
            kind,
            message: "full".to_owned(),
            workload: "w".to_owned(),
            retry_after_secs: Some(3),
        };
        version.on_error(&sent.facts(), &error)
    };
    let reply = on_error("unknown_workload").unwrap().unwrap();
    assert_eq!((reply.status.as_u16(), &*reply.body), (404, "/x: no w"));
    let reply = on_error("queue_full").unwrap().unwrap();
    assert_eq!(
        (reply.status.as_u16(), reply.retry_after),
        (503, Some(Duration::from_secs(3)))
    );
    assert_eq!(on_error("no_route").unwrap(), None);
    assert!(
        on_error("bad")
            .unwrap_err()
            .message
            .contains("on_error returned a redirect; it returns respond(…) or ()")
    );
}

#[test]
fn files_are_one_version_in_name_order() {
    let dir = Dir::new(&[
        (
            "b.rhai",
            "route(\"/b\", |req| proxy(\"b\")); idle(|c| never());",
        ),
        (
            "a.rhai",
            "route(\"/a\", |req| proxy(\"a\")); template(\"t\", |v| #{});\nidle(|c| ());",
        ),
        (".hidden.rhai", "this is no script"),
        ("notes.txt", "nor is this"),
    ]);
    let version = dir.load().unwrap();
    let summary = version.summary();
    let routes: Vec<_> = summary
        .routes
        .iter()
        .map(|(p, at)| (p.as_str(), at.line))
        .collect();
    assert_eq!(routes, [("/a", 1), ("/b", 1)]);
    assert_eq!(summary.templates[0].0, "t");
    assert!(summary.idle[0].to_string().ends_with("a.rhai:2:1"));
    assert_eq!(
        (
            summary.idle.len(),
            summary.ready.len(),
            summary.on_error.len()
        ),
        (2, 0, 0)
    );
    assert_eq!(
        version.idle(&ContainerFacts::default()).unwrap(),
        Some(IdleRule::Never)
    );
    assert_eq!((version.number(), version.hash().len()), (1, 64));
    let same = Dir::new(&[("a.rhai", "let a = 1;")]).load().unwrap();
    let other = Dir::new(&[("a.rhai", "let a = 2;")]).load().unwrap();
    assert_eq!(
        same.hash(),
        Dir::new(&[("a.rhai", "let a = 1;")]).load().unwrap().hash()
    );
    assert_ne!(same.hash(), other.hash());
}

#[test]
fn all_errors_of_all_files_come_at_once() {
    let dir = Dir::new(&[
        ("a.rhai", "let x = ;"),
        ("b.rhai", "porxy(\"a\");\nlet y = z;"),
        ("c.rhai", "route(\"/\", |req| nope());\nnada();"),
        ("d.rhai", "throw \"stop\";"),
        ("e.rhai", "route(\"/\", |a, b| proxy(\"a\"));"),
        ("f.rhai", "import \"lib/none\" as none;"),
        ("g.rhai", "route(\"/\", Fn(\"proxy\"));"),
    ]);
    let errors = dir.errors();
    let told: Vec<&str> = errors
        .iter()
        .map(|error| error.lines().next().unwrap())
        .collect();
    assert_eq!(
        told[..6],
        [
            "a.rhai:1:9: Unexpected ';'",
            "b.rhai:2:9: Undefined variable: z",
            "c.rhai:1:18: there is no function `nope`",
            "c.rhai:2:1: there is no function `nada`",
            "d.rhai:1:1: stop",
            "e.rhai:1:1: route calls its closure with one argument, this one takes 2",
        ]
    );
    assert!(
        told[6].starts_with("f.rhai:1:1: \"lib/none\" cannot be imported"),
        "{}",
        told[6]
    );
    assert_eq!(
        told[7],
        "g.rhai:1:1: route takes a closure or a function of this script; \"proxy\" is none"
    );
}

#[test]
fn a_directory_without_scripts_is_an_error_that_says_what_to_do() {
    let dir = Dir::new(&[("readme.txt", "")]);
    let errors = dir.errors();
    assert!(
        errors[0].contains("there is no *.rhai file in the scripts directory"),
        "{errors:?}"
    );
    let missing = Version::load("/no/such/dir".as_ref(), &Default::default(), 1)
        .err()
        .unwrap();
    assert!(
        missing[0]
            .to_string()
            .starts_with("/no/such/dir: the scripts directory cannot be read")
    );
}

#[test]
fn the_same_template_or_route_twice_is_refused_with_both_places() {
    let errors = errors(
        "template(\"t\", |v| #{});\nroute(\"/{a}\", |r| ());\ntemplate(\"t\", |v| #{});\nroute(\"/{b}\", |r| ());",
    );
    let told: Vec<String> = errors
        .iter()
        .map(|error| error.lines().next().unwrap().to_owned())
        .collect();
    assert!(
        told[0].starts_with("a.rhai:3:1: there is a template \"t\" already at a.rhai:1:1"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with(
            "a.rhai:4:1: the route \"/{b}\" matches the same as \"/{a}\" at a.rhai:2:1"
        )
    );
}

#[test]
fn libraries_bring_functions_and_constants() {
    let dir = Dir::new(&[
        (
            "a.rhai",
            "import \"lib/names\" as names;\nimport \"more/deep\" as deep;\n\
          fn pick(req) { names::of(req.param(\"n\")) }\n\
          route(\"/{n}\", |req| proxy(pick(req)).port(names::PORT));\n\
          route(\"/deep/{n}\", |req| proxy(deep::twice(req.param(\"n\"))));",
        ),
        (
            "lib/names.rhai",
            "import \"more/deep\" as deep; export const PORT = 81; const PRE = \"web-\";\n\
          fn of(n) { global::PRE + n }\nfn all(n) { deep::twice(n) }",
        ),
        (
            "lib/more/deep.rhai",
            "fn twice(n) { helper(n) + n }\nfn helper(n) { n }",
        ),
    ]);
    let version = dir.load().unwrap_or_else(|errors| panic!("{}", errors[0]));
    let proxy = proxied(ask(&version, "/x"));
    assert_eq!((proxy.workload.as_str(), proxy.port), ("web-x", Some(81)));
    assert_eq!(proxied(ask(&version, "/deep/x")).workload.as_str(), "xx");
    let failed = ask_sent(&version, &Sent::get("/a%2Fb")).unwrap_err();
    assert!(
        failed.contains("a.rhai:4:21: proxy: \"web-a/b\" is not a name"),
        "{failed}"
    );
}

#[test]
fn an_error_in_a_library_is_shown_there() {
    let dir = Dir::new(&[
        (
            "a.rhai",
            "import \"lib/l\" as l;\nroute(\"/\", |req| l::f());",
        ),
        ("lib/l.rhai", "\nfn f() {\n  throw \"deep\"\n}"),
    ]);
    let failed = dir
        .load()
        .unwrap()
        .decide(&Sent::get("/").facts())
        .unwrap_err();
    assert!(
        failed.message.ends_with("lib/l.rhai:3:3: deep"),
        "{}",
        failed.message
    );
    assert_eq!(
        failed.source_line.as_deref(),
        Some("3 |   throw \"deep\"\n  |   ^")
    );
}

#[test]
fn imports_lead_nowhere_but_below_lib() {
    let outside = Dir::new(&[("secret.rhai", "fn f() { 1 }")]);
    let link = outside.path().join("secret.rhai");
    for (import, library, expected) in [
        (
            "import \"../secret\" as s;",
            "",
            "is no path below the lib directory",
        ),
        (
            "import \"/etc/passwd\" as s;",
            "",
            "is no path below the lib directory",
        ),
        (
            "import \"lib/../a\" as s;",
            "",
            "is no path below the lib directory",
        ),
        (
            "import \"link\" as s;",
            "",
            "leads out of the scripts directory",
        ),
        (
            "let p = \"l\"; import p as s;",
            "",
            "import takes a path in quotes",
        ),
        (
            "route(\"/\", |req| { import \"l\" as s; () });",
            "",
            "import belongs at the top level",
        ),
        (
            "import \"l\" as s;",
            "import \"l\" as s;",
            "is imported in a circle",
        ),
        (
            "import \"l\" as s;",
            "fn f() { nope() }",
            "lib/l.rhai:1:10: there is no function `nope`",
        ),
        (
            "import \"l\" as s;",
            "route(\"/\", |r| ());",
            "lib/l.rhai:1:1: a file that is imported cannot call route(…)",
        ),
        (
            "import \"l\" as s; s::reg();",
            "fn reg() { route(\"/\", |r| ()) }",
            "cannot call route(…)",
        ),
        (
            "import \"l\" as s;",
            "let n = 0; export const F = || { n += 1; n };",
            "lib/l.rhai:1:34: a closure uses the variable `n`",
        ),
        (
            "import \"l\" as s; s::nope();",
            "fn f() { 1 }",
            "a.rhai:1:21: there is no function `nope` in module `s`",
        ),
        (
            "import \"l\" as s; s::f(1);",
            "fn f() { 1 }",
            "a.rhai:1:21: `f` takes 0 arguments, not 1",
        ),
        (
            "import \"l\" as s; let x = s::X;",
            "fn f() { 1 }",
            "module `s` exports no `X`",
        ),
        ("let x = t::f();", "", "a.rhai:1:9: Undefined module: t"),
    ] {
        let dir = Dir::new(&[("a.rhai", import), ("lib/l.rhai", library)]);
        std::os::unix::fs::symlink(&link, dir.path().join("lib/link.rhai")).unwrap();
        let errors = dir.errors();
        assert_eq!(errors.len(), 1, "{import}: {errors:?}");
        assert!(errors[0].contains(expected), "{import}: {errors:?}");
    }
}
