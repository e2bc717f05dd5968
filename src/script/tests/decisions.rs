//! What routes can say: requests as they are read, decisions as they are built.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::{Sent, ask, load, proxied, said};
use crate::decision::{Asleep, CreateFrom, Decision, Destination, ProxyDecision};
use crate::names::WorkloadName;

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
            .port(8080).strip(2).path("/a%20b").timeout("1m30s").wait(5).asleep("page").follows(true).counts(false)
            .create("t", #{id: 1, list: ["a", 1.5, true, ()]})
            .set_request_header("X-A", "1").drop_request_header("cookie")
            .set_header("x-b", 2).drop_header("server"));
        route("/plain", |req| proxy("web-1"));
        route("/steps", |req| { let p = proxy("web-1"); if req.path != "" { p.strip(1); p.port(1); } p });"#,
    );
    let proxy = proxied(ask(&version, "/all"));
    let web_1 = WorkloadName::new("web-1").unwrap();
    assert_eq!(proxy.destination, Destination::Workload(web_1));
    assert_eq!(
        (proxy.port, proxy.strip, proxy.path.as_deref()),
        (Some(8080), 2, Some("/a%20b"))
    );
    assert_eq!(proxy.timeout, Some(Duration::from_secs(90)));
    assert_eq!(proxy.wait, Some(Duration::from_secs(5)));
    assert_eq!((proxy.asleep, proxy.counts), (Asleep::Page, false));
    assert!(proxy.follows);
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
fn a_path_of_more_segments_than_an_array_may_have_items_is_no_failure() {
    let version = load(
        "route(\"/{*rest}\", |req| respond(200, `${req.segments.len()} ${req.segment(1200)}`));",
    );
    let path = format!("/{}last", "x/".repeat(1_200));
    assert_eq!(said(&version, &Sent::get(&path)), "1000 last");
    assert_eq!(said(&version, &Sent::get("/a/b")), "2 ");
}
