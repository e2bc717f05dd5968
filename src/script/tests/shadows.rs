//! Two versions on the same requests, as the one who saved the second is told.

use std::time::Duration;

use super::{Sent, load};
use crate::script::current::Scripts;
use crate::script::decider::Decider;
use crate::script::error::ScriptError;
use crate::script::head::Head;
use crate::script::shadow::{Report, compare};

const LONG: Duration = Duration::from_secs(60);

/// What is kept of these requests by a worker with the first script, and what the second makes of it.
fn compared(before: &str, after: &str, sent: &[Sent]) -> Result<Report, Vec<ScriptError>> {
    let scripts = Scripts::new(load(before));
    let mut decider = Decider::new(scripts.clone());
    for sent in sent {
        drop(decider.decide(&sent.facts()));
    }
    compare(
        &scripts.current.load(),
        &load(after),
        &decider.recent(),
        LONG,
    )
}

fn gets(paths: &[&str]) -> Vec<Sent> {
    paths.iter().map(|path| Sent::get(path)).collect()
}

/// `path: before → after (requests)`
fn told(report: &Report) -> Vec<String> {
    let differences = report.differences.iter();
    differences
        .map(|d| format!("{}: {} → {} ({})", d.path, d.before, d.after, d.requests))
        .collect()
}

const PORT: &str = "route(\"/app/{name}/{*rest}\", |req| proxy(req.param(\"name\")).port(9000));";

#[test]
fn what_is_decided_otherwise_is_told_once_each_with_an_example() {
    let after = PORT.replace("9000", "9001");
    let sent = gets(&["/app/a/x", "/app/b/y", "/app/a/z", "/none"]);
    let report = compared(PORT, &after, &sent).unwrap();
    assert_eq!((report.compared, report.changed), (4, 3));
    assert_eq!(
        told(&report),
        [
            "/app/a/z: proxy a:9000 → proxy a:9001 (2)",
            "/app/b/y: proxy b:9000 → proxy b:9001 (1)"
        ]
    );
    let words = report.in_words().unwrap();
    assert_eq!(
        words,
        "3 of the last 4 requests are decided otherwise:\n  \
         /app/a/z: proxy a:9000 → proxy a:9001 (2 requests)\n  \
         /app/b/y: proxy b:9000 → proxy b:9001"
    );
}

#[test]
fn the_same_decisions_in_other_words_are_no_difference() {
    let after = "fn name(req) { req.segment(1) } route(\"/app/{n}\", |req| proxy(name(req)).port(9000)); \
                 route(\"/app/{n}/{*r}\", |req| { let p = proxy(name(req)); p.port(9000); p });";
    let report = compared(PORT, after, &gets(&["/app/a/x", "/app/b", "/none"])).unwrap();
    assert_eq!((report.compared, report.changed), (3, 0));
    assert_eq!(report.in_words(), None);
}

#[test]
fn a_route_that_goes_or_comes_is_a_difference() {
    let after = "route(\"/new\", |req| respond(200, \"new\"));";
    let report = compared(PORT, after, &gets(&["/app/a/", "/new"])).unwrap();
    assert_eq!(
        told(&report),
        [
            "/new: none → respond 200 \"new\" (1)",
            "/app/a/: proxy a:9000 → none (1)"
        ]
    );
}

#[test]
fn another_share_of_a_canary_is_a_difference() {
    let to = |answer: &str| format!("route(\"/\", |req| {answer});");
    let (none, ten) = (to("app(\"shop\")"), to("app(\"shop\").canary(10)"));
    let report = compared(&none, &ten, &gets(&["/"])).unwrap();
    assert_eq!(told(&report), ["/: app shop → app shop canary 10 (1)"]);
    let report = compared(&to("proxy(\"shop\")"), &none, &gets(&["/"])).unwrap();
    assert_eq!(told(&report), ["/: proxy shop → app shop (1)"]);
    let same = to("app(\"shop\").canary(5).canary(0)");
    assert_eq!(compared(&none, &same, &gets(&["/"])).unwrap().changed, 0);
}

#[test]
fn decisions_that_differ_where_a_line_does_not_show_it_are_told_so() {
    let with =
        |value: &str| format!("route(\"/\", |req| proxy(\"a\").set_header(\"x-a\", \"{value}\"));");
    let report = compared(&with("1"), &with("2"), &gets(&["/"])).unwrap();
    assert_eq!(
        told(&report),
        [
            "/: proxy a header x-a → proxy a header x-a (with other values, or another container made from its template) (1)"
        ]
    );
}

#[test]
fn a_new_error_is_told_with_its_place_and_an_old_one_is_nobody_s_fault() {
    let fragile = "route(\"/{name}\", |req| {\n    proxy(req.param(\"name\"))\n});";
    let sound =
        "route(\"/{name}\", |req| if is_name(req.param(\"name\")) { proxy(req.param(\"name\")) });";
    let sent = gets(&["/a", "/-", "/_"]);
    let errors = compared(sound, fragile, &sent).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((errors[0].line, errors[0].column), (2, 5));
    assert!(
        errors[0]
            .message
            .starts_with("GET /_: proxy: \"_\" is not a name"),
        "{}",
        errors[0]
    );
    let report = compared(fragile, fragile, &sent).unwrap();
    assert_eq!((report.compared, report.changed), (3, 0));
    let report = compared(fragile, sound, &sent).unwrap();
    assert_eq!(
        report.changed, 2,
        "an error that is gone is a change for the better"
    );
    assert!(
        told(&report)[0].starts_with("/_: error: proxy: "),
        "{:?}",
        told(&report)
    );
}

#[test]
fn a_request_whose_secret_is_not_kept_says_nothing_about_scripts_that_read_it() {
    let blind = "route(\"/\", |req| respond(200));";
    let token = "route(\"/\", |req| if req.header(\"authorization\") == \"Bearer t\" { respond(200) } else { throw \"who?\" });";
    let cookie = "route(\"/\", |req| respond(200, req.cookie(\"id\")));";
    let sent = [
        Sent::get("/").with("authorization", "Bearer t"),
        Sent::get("/").with("cookie", "id=1; other=2"),
    ];
    let report = compared(blind, token, &sent[..1]).unwrap();
    assert_eq!((report.compared, report.uncompared), (0, 1));
    let report = compared(blind, cookie, &sent).unwrap();
    assert_eq!(
        (report.compared, report.uncompared, report.changed),
        (1, 1, 0)
    );
    // What the old scripts read is known, and good for comparing.
    let report = compared(
        token,
        &token.replace("respond(200)", "respond(204)"),
        &sent[..1],
    )
    .unwrap();
    assert_eq!((report.compared, report.changed), (1, 1));
    let report = compared(
        cookie,
        "route(\"/\", |req| respond(200, \"id=\" + req.cookie(\"id\")));",
        &sent,
    )
    .unwrap();
    assert_eq!(
        (report.compared, report.uncompared, report.changed),
        (2, 0, 2)
    );
}

#[test]
fn the_time_of_a_request_is_kept_with_it() {
    let scripts = Scripts::new(load("route(\"/\", |req| respond(200));"));
    let mut decider = Decider::new(scripts);
    let mut sent = Sent::get("/");
    sent.at = 12_345;
    decider.decide(&sent.facts()).unwrap();
    assert_eq!(decider.recent()[0].at, 12_345);
}

#[test]
fn trying_ends_when_its_time_is_over() {
    let slow = "route(\"/{*rest}\", |req| { for i in 0..20000 { } respond(200) });";
    let heads: Vec<Head> = (0..50)
        .map(|n| Head::made_up("GET", &format!("/{n}")).unwrap())
        .collect();
    let report = compare(&load(slow), &load(slow), &heads, Duration::ZERO).unwrap();
    assert_eq!(report.compared + report.left_out, 50);
    assert!(report.left_out > 0);
}

#[test]
fn what_a_script_read_of_a_secret_is_not_told() {
    let blind = "route(\"/\", |req| if req.cookie(\"id\") + req.header(\"authorization\") == \"\" { respond(200) });";
    let sent = [Sent::get("/")
        .with("cookie", "id=s3cret-cookie")
        .with("authorization", "Bearer s3cret-token")];
    for telling in [
        "respond(200, req.cookie(\"id\"))",
        "respond(200, req.header(\"authorization\"))",
        "respond(200, req.header(\"authorization\").sub_string(7))",
        "redirect(302, \"/\" + req.header(\"cookie\"))",
        "{ let s = \"\"; for c in req.header(\"cookie\").split(\"=\") { s = c; } redirect(302, \"/\" + s) }",
        "respond(200, req.headers[\"authorization\"])",
    ] {
        let after = format!("route(\"/\", |req| {telling});");
        // The header of all cookies was not read before, and so it is not kept.
        let before = if telling.contains("header(\"cookie") {
            "route(\"/\", |req| { let all = req.header(\"cookie\"); });"
        } else {
            blind
        };
        let report = compared(before, &after, &sent).unwrap();
        assert_eq!(report.changed, 1, "{telling}");
        let told = told(&report).concat();
        assert!(
            !told.contains("s3cret") && told.contains("***"),
            "{telling}: {told}"
        );
    }
    let errors = compared(
        blind,
        "route(\"/\", |req| proxy(\" \" + req.cookie(\"id\")));",
        &sent,
    )
    .unwrap_err();
    assert!(!errors[0].to_string().contains("s3cret"), "{}", errors[0]);
}

#[test]
fn a_comparison_says_nothing_where_the_old_scripts_read_what_is_not_kept() {
    let guarded = "route(\"/\", |req| if req.header(\"authorization\") == \"Bearer good\" { proxy(\"app\") } else { respond(401) });";
    let open = "route(\"/\", |req| proxy(\"app\"));";
    let scripts = Scripts::new(load(open));
    let mut decider = Decider::new(scripts.clone());
    let sent = Sent::get("/").with("authorization", "Bearer good");
    decider.decide(&sent.facts()).unwrap();
    let heads = decider.recent();
    let report = compare(&load(guarded), &load(open), &heads, LONG).unwrap();
    assert_eq!(
        (report.compared, report.uncompared, report.changed),
        (0, 1, 0)
    );
}

#[test]
fn templates_are_tried_too() {
    let script = |make: &str| {
        format!(
            "route(\"/\", |req| proxy(\"a\").create(\"t\", #{{ id: \"a\" }})); template(\"t\", |v| {make});"
        )
    };
    let before = script("#{ name: v.id, image: \"i:1\" }");
    let errors = compared(
        &before,
        &script("#{ name: v.idd, image: \"i:1\" }"),
        &gets(&["/"]),
    )
    .unwrap_err();
    assert!(errors[0].message.contains("\"idd\""), "{}", errors[0]);
    let report = compared(
        &before,
        &script("#{ name: v.id, image: \"i:2\" }"),
        &gets(&["/"]),
    )
    .unwrap();
    assert_eq!(report.changed, 1);
    assert!(
        told(&report)[0].contains("another container"),
        "{:?}",
        told(&report)
    );
    let report = compared(
        &before,
        &script("#{ image: \"i:1\", name: v.id }"),
        &gets(&["/"]),
    )
    .unwrap();
    assert_eq!(report.changed, 0);
}
