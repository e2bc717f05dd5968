//! Why a request is decided as it is, as `wakegate explain` tells it.

use super::load;
use crate::script::explain::{Explanation, RouteVerdict, Wish};

fn wish(method: &str, url: &str) -> Wish {
    Wish {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        client: None,
        at: None,
    }
}

fn explained(script: &str, wish: &Wish) -> Explanation {
    let version = load(script);
    version.explain(&wish.head(0).unwrap())
}

const SCRIPT: &str = "\
route(\"/app/{name}/{*rest}\", |req| {
    if req.header(\"x-debug\") != \"\" { return respond(400, \"no\"); }
    proxy(req.param(\"name\")).port(80)
});
route(\"/{*rest}\", |req| ());
route(\"shop.example.com/{*rest}\", |req| throw \"broken\");
route(\"/made/{id}\", |req| proxy(\"m\" + req.segment(1)).create(\"m\", #{ id: req.segment(1) }));
route(\"/all\", |req| respond(200, `${req.headers.len()}`));
template(\"m\", |vars| #{ name: \"m\" + vars.id, image: \"i:1\", labels: #{ health: \"/ok\" }, envs: #{ IDLE: \"5s\" } });
ready(|c| if c.label(\"health\") != \"\" { probe(c.label(\"health\")) });
idle(|c| if c.env(\"IDLE\") != \"\" { stop_after(c.env(\"IDLE\")) });
";

#[test]
fn what_matched_and_what_did_not_is_told_with_the_reason() {
    let told = explained(SCRIPT, &wish("GET", "http://h/app/a/x?q=1"));
    let verdicts: Vec<_> = told.routes.iter().map(|route| route.verdict).collect();
    use RouteVerdict::{NoMatch, Passed, Taken};
    assert_eq!(verdicts, [Taken, Passed, NoMatch, NoMatch, NoMatch]);
    assert!(
        told.routes[0].place.ends_with("a.rhai:1:1"),
        "{:?}",
        told.routes[0]
    );
    let why: Vec<_> = told.routes.iter().map(|route| route.why.as_str()).collect();
    assert_eq!(why[0], "");
    assert!(
        why[1].starts_with("/app/{name}/{*rest} goes before it: "),
        "{}",
        why[1]
    );
    assert!(why[2].contains("\"h\""), "{}", why[2]);
    assert!(why[3].contains("app"), "{}", why[3]);
}

#[test]
fn what_was_read_is_told_in_order_with_its_values() {
    let read = |wish: &Wish| {
        let told = explained(SCRIPT, wish);
        let reads = told.reads.into_iter();
        let reads: Vec<_> = reads.map(|read| (read.field, read.value)).collect();
        (reads, told.decision, told.remembered)
    };
    let field = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    assert_eq!(
        read(&wish("GET", "/app/a%20b/x")).0,
        [
            field("header x-debug", None),
            field("param name", Some("a b"))
        ]
    );
    let with_header = Wish {
        headers: vec![("X-Debug".to_owned(), "1".to_owned())],
        ..wish("GET", "/app/a/x")
    };
    assert_eq!(
        read(&with_header),
        (
            vec![field("header x-debug", Some("1"))],
            "respond 400 \"no\"".to_owned(),
            true
        )
    );
    let told = explained(SCRIPT, &wish("GET", "/all"));
    assert!(told.reads_all_headers && !told.remembered);
}

#[test]
fn the_workload_is_told_with_its_rules() {
    let told = explained(SCRIPT, &wish("GET", "/made/7"));
    let workload = told.workload.unwrap();
    assert_eq!(workload.name, "m7");
    assert_eq!(workload.rules_for, "a container made from template m");
    assert_eq!(workload.ready["target"], "/ok");
    assert_eq!(
        (&workload.idle["kind"], &workload.idle["after"]),
        (&"stop".into(), &5.0.into())
    );
    let told = explained(SCRIPT, &wish("GET", "/app/a/"));
    let workload = told.workload.unwrap();
    assert_eq!(
        (&workload.ready["kind"], &workload.idle["kind"]),
        (&"none".into(), &"none".into())
    );
    assert!(explained(SCRIPT, &wish("GET", "/")).workload.is_none());
}

#[test]
fn a_failure_is_told_with_its_place_and_line() {
    let told = explained(SCRIPT, &wish("GET", "http://shop.example.com/x"));
    assert_eq!((told.decision.as_str(), told.remembered), ("error", false));
    let error = told.error.unwrap();
    assert!(
        error.contains("a.rhai:6:41: broken") && error.contains("6 | route("),
        "{error}"
    );
}

#[test]
fn the_text_has_it_all() {
    let text = explained(SCRIPT, &wish("GET", "/made/7?x=1")).to_string();
    for part in [
        "GET http://localhost/made/7?x=1  (from 127.0.0.1, at 1970-01-01T00:00:00Z)\n",
        "scripts: version 1, ",
        "→ /made/{id}",
        "no match: ",
        "passed over: /made/{id} goes before it: ",
        "segment 1 = \"7\"",
        "decision\n  proxy m7 create m\n  remembered",
        "workload m7\n  phase  not known here\n  ready  probe every 0.25 s max 60.0 s target /ok\n  idle   stop after 5.0 s\n",
    ] {
        assert!(text.contains(part), "{part}\n\n{text}");
    }
}

#[test]
fn a_host_field_is_the_host_and_what_proxies_say_is_not_evaluated() {
    let with = |name: &str, value: &str| Wish {
        headers: vec![(name.to_owned(), value.to_owned())],
        ..wish("GET", "/x")
    };
    let told = explained(SCRIPT, &with("Host", "shop.example.com:8000"));
    assert_eq!(told.routes[2].verdict, RouteVerdict::Taken);
    assert!(told.notes.is_empty());
    let told = explained(SCRIPT, &with("X-Forwarded-For", "9.9.9.9"));
    assert_eq!(told.client.to_string(), "127.0.0.1");
    assert!(
        told.to_string()
            .contains("note: fields such as X-Forwarded-For")
    );
    assert!(with("Host", "a b").head(0).is_err());
}

#[test]
fn a_handler_that_reads_very_much_has_not_read_all_headers() {
    let script = "route(\"/\", |req| { for i in 0..70 { req.query(\"k\" + i); } });";
    let told = explained(script, &wish("GET", "/"));
    assert!(!told.reads_all_headers && !told.remembered);
    assert_eq!(told.reads.len(), 64);
}

#[test]
fn json_reads_back_as_the_same() {
    let told = explained(SCRIPT, &wish("GET", "/made/7"));
    let json = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), told);
}

#[test]
fn a_request_that_cannot_be_is_refused_in_words() {
    for (bad, expected) in [
        (wish("G T", "/"), "is not a method"),
        (wish("GET", "x"), "is neither"),
        (
            Wish {
                headers: vec![("a b".to_owned(), String::new())],
                ..wish("GET", "/")
            },
            "is not a header name",
        ),
        (
            Wish {
                at: Some("noon".to_owned()),
                ..wish("GET", "/")
            },
            "is not a time",
        ),
    ] {
        let refused = bad.head(0).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn what_is_only_explained_or_tested_counts_as_no_failure() {
    use crate::decision::ContainerRules as _;
    let version = load(
        "route(\"/\", |req| proxy(\"a\").create(\"t\", #{})); template(\"t\", |v| v.none);\n\
         ready(|c| c.none); on_error(|req, err| err.none);\n\
         fn test_t() { try { simulate_template(\"t\", #{}) } catch { } try { simulate_error(\"GET\", \"/\", #{}) } catch { } }",
    );
    let head = wish("GET", "/").head(0).unwrap();
    assert_eq!(version.explain(&head).decision, "proxy a create t");
    assert!(
        version
            .test(|_| true)
            .iter()
            .all(|test| test.result.is_ok())
    );
    assert_eq!(version.failures(), 0);
    assert!(version.template("t", &serde_json::Map::new()).is_err());
    assert_eq!(version.failures(), 1);
}
