//! Decisions for applications: what they can be told, what they cannot, and names that nothing has.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Dir, Sent, ask, ask_sent, load, proxied, unhurried};
use crate::config::Given;
use crate::decision::{Asleep, Canary, Destination, ProxyDecision};
use crate::names::AppName;
use crate::script::explain::{Application, Wish};

fn shop() -> AppName {
    AppName::new("shop").unwrap()
}

fn given(apps: &[&str]) -> Given {
    let names = apps.iter().map(|name| AppName::new(name).unwrap());
    Given {
        apps: Some(names.collect::<BTreeSet<_>>()),
        ..unhurried().into()
    }
}

/// The first lines of the errors of loading.
fn errors(files: &[(&str, &str)], apps: &[&str]) -> Vec<String> {
    let dir = Dir::new(files);
    let errors = dir.without_dir(dir.load_given(&given(apps)));
    let first = |error: String| error.lines().next().unwrap_or_default().to_owned();
    errors.into_iter().map(first).collect()
}

#[test]
fn an_application_can_be_told_what_a_container_can() {
    let version = load(
        r#"
        route("/plain", |req| app("shop"));
        route("/all", |req| app("shop").port(8080).strip(2).path("/a").timeout("1m30s").wait(5)
            .asleep("page").counts(false).canary(12.5)
            .set_request_header("x-a", "1").drop_header("server"));
        route("/steps", |req| { let a = app("shop"); a.canary(1); a.canary(100); a });
        "#,
    );
    assert_eq!(
        proxied(ask(&version, "/plain")),
        ProxyDecision::to_app(shop())
    );
    let all = proxied(ask(&version, "/all"));
    assert_eq!(
        all.destination,
        Destination::App {
            name: shop(),
            canary: Canary::Percent(12.5)
        }
    );
    assert_eq!((all.port, all.strip), (Some(8080), 2));
    assert_eq!(
        (all.path.as_deref(), all.asleep, all.counts),
        (Some("/a"), Asleep::Page, false)
    );
    assert_eq!(
        (all.timeout, all.wait),
        (Some(Duration::from_secs(90)), Some(Duration::from_secs(5)))
    );
    assert_eq!(all.request_headers.edits.len(), 1);
    assert_eq!(all.response_headers.edits.len(), 1);
    assert_eq!(
        proxied(ask(&version, "/steps")).destination,
        Destination::App {
            name: shop(),
            canary: Canary::Always
        }
    );
}

#[test]
fn zero_and_a_hundred_are_no_percentages_of_clients() {
    for (percent, expected) in [
        ("0", Canary::Never),
        ("0.0", Canary::Never),
        ("-0.0", Canary::Never),
        ("0.1", Canary::Percent(0.1)),
        ("99", Canary::Percent(99.0)),
        ("100", Canary::Always),
        ("100.0", Canary::Always),
    ] {
        let version = load(&format!(
            "route(\"/\", |req| app(\"shop\").canary({percent}));"
        ));
        let canary = match proxied(ask(&version, "/")).destination {
            Destination::App { canary, .. } => canary,
            Destination::Workload(name) => panic!("{name}"),
        };
        assert_eq!(canary, expected, "{percent}");
    }
}

#[test]
fn the_script_can_match_who_tries_a_release() {
    let version = load(
        r#"route("/", |req| if req.header("x-beta") == "1" { app("shop").canary(100) } else { app("shop").canary(0) });"#,
    );
    let canary = |sent: &Sent| proxied(ask_sent(&version, sent)).destination;
    let to = |canary| Destination::App {
        name: shop(),
        canary,
    };
    assert_eq!(
        canary(&Sent::get("/").with("x-beta", "1")),
        to(Canary::Always)
    );
    assert_eq!(canary(&Sent::get("/")), to(Canary::Never));
}

#[test]
fn what_an_application_cannot_be_told_is_an_error_at_its_place() {
    for (bad, expected) in [
        ("app(\"a/b\")", "1:20: app: \"a/b\" is not a name"),
        ("app(\"\")", "1:20: app: a name is empty"),
        (
            "app(\"aaaaaaaaaabbbbbbbbbbccccccccccdddddddddde\")",
            "1:20: app: an application's name has 41 bytes; 40 are allowed",
        ),
        (
            "app(\"a\").create(\"t\", #{})",
            "1:29: create: app(\"a\") goes to a release, which is made of its launch configuration; \
             proxy(…) can be told to create",
        ),
        (
            "proxy(\"a\").canary(5)",
            "1:31: canary: proxy(…) goes to one container; app(…) has releases to choose from",
        ),
        (
            "let n = -1; app(\"a\").canary(n)",
            "1:41: canary: the number -1 is no percentage: that is a number from 0 to 100",
        ),
        (
            "let n = 100.1; app(\"a\").canary(n)",
            "1:44: canary: the number 100.1 is",
        ),
        (
            "let n = \"10\"; app(\"a\").canary(n)",
            "1:43: canary: the text \"10\" is no percentage",
        ),
        ("let n = (); app(\"a\").canary(n)", "1:41: canary: "),
        (
            "let n = 1e400; app(\"a\").canary(n)",
            "1:44: canary: the number inf is",
        ),
        (
            "let n = 0.0 / 0.0; app(\"a\").canary(n)",
            "1:48: canary: the number NaN is",
        ),
        ("app(1)", "1:20: Function not found: app (i64)"),
    ] {
        let failed = ask(&load(&format!("route(\"/\", |req| {{ {bad} }});")), "/").unwrap_err();
        assert!(
            failed.starts_with(&format!("a.rhai:{expected}")),
            "{bad}: {failed}"
        );
    }
}

#[test]
fn a_percentage_that_is_none_is_refused_when_scripts_are_loaded() {
    let file = "fn share(percent) { app(\"shop\").canary(percent) }\n\
                route(\"/a\", |req| app(\"shop\").canary(101));\n\
                route(\"/b\", |req| { let a = app(\"shop\"); canary(a, -0.5) });\n\
                route(\"/c\", |req| if req.path == \"/\" { app(\"shop\") } else { app(\"shop\").canary(\"10\") });\n\
                route(\"/d\", |req| share(99 + 1));";
    let range = "is no percentage: that is a number from 0 to 100";
    assert_eq!(
        errors(&[("a.rhai", file)], &["shop"]),
        [
            format!("a.rhai:2:38: canary: the number 101 {range}"),
            format!("a.rhai:3:52: canary: the number -0.5 {range}"),
            format!("a.rhai:4:80: canary: the text \"10\" {range}"),
        ]
    );
    let own = "fn canary(much) { much }\nroute(\"/\", |req| { canary(101); app(\"shop\") });";
    assert!(errors(&[("a.rhai", own)], &["shop"]).is_empty());
}

#[test]
fn an_application_that_gateway_toml_does_not_have_is_refused_when_scripts_are_loaded() {
    let files = [
        (
            "lib/b.rhai",
            "fn to() { app(\"shop\").port(80) }\nfn no() { app(\"blog\") }",
        ),
        (
            "a.rhai",
            "route(\"/a\", |req| app(\"shpo\").canary(10));\n\
             route(\"/b\", |req| { [1].map(|x| app(\"my-shopp\")); app(\"shop\") });\n\
             fn test_it() { app(\"other\"); }",
        ),
        (
            "c.rhai",
            "import \"lib/b\" as b;\nroute(\"/c\", |req| b::to());",
        ),
    ];
    let there = "(there are my-shop, shop)";
    assert_eq!(
        errors(&files, &["shop", "my-shop"]),
        [
            format!("a.rhai:1:23: there is no application \"shpo\"; is `shop` meant? {there}"),
            format!(
                "a.rhai:2:37: there is no application \"my-shopp\"; is `my-shop` meant? {there}"
            ),
            format!("a.rhai:3:20: there is no application \"other\" {there}"),
            format!("lib/b.rhai:2:15: there is no application \"blog\" {there}"),
        ]
    );
    let one = [("a.rhai", "route(\"/\", |req| app(\"shop\"));")];
    assert_eq!(
        errors(&one, &[]),
        ["a.rhai:1:22: there is no application \"shop\" ([apps] of gateway.toml has none)"]
    );
    assert!(errors(&one, &["shop"]).is_empty());
    // Where it is not known which there are, none is refused.
    assert!(Dir::new(&one).load().is_ok());
}

#[test]
fn a_name_that_is_only_known_then_and_a_function_of_the_scripts_own_are_not_looked_at() {
    let version = Dir::new(&[(
        "a.rhai",
        "const NAME = \"other\"; route(\"/{n}\", |req| app(req.param(\"n\"))); route(\"/\", |req| app(NAME));",
    )])
    .load_given(&given(&["shop"]));
    let version = version.unwrap_or_else(|errors| panic!("{}", errors[0]));
    let unknown = AppName::new("nobody").unwrap();
    assert_eq!(
        proxied(ask(&version, "/nobody")),
        ProxyDecision::to_app(unknown)
    );
    let own = [(
        "a.rhai",
        "fn app(name) { proxy(\"app-\" + name) } route(\"/\", |req| app(\"whatever\"));",
    )];
    assert!(errors(&own, &["shop"]).is_empty());
}

#[test]
fn a_message_lists_some_of_many_applications() {
    let names: Vec<String> = (0..50).map(|n| format!("n{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let told = errors(&[("a.rhai", "route(\"/\", |req| app(\"q\"));")], &names);
    assert!(told[0].contains("n18, n19, …)"), "{told:?}");
}

#[test]
fn it_is_explained_which_release_gets_the_request() {
    let version = load(
        r#"
        route("/n", |req| app("shop"));
        route("/p", |req| app("shop").canary(2.5));
        route("/a", |req| app("shop").canary(100));
        "#,
    );
    let explained = |url: &str| {
        let wish = Wish {
            method: "GET".to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            client: None,
            at: None,
        };
        version.explain(&wish.head(0).unwrap())
    };
    let told = explained("/p");
    assert_eq!(told.decision, "app shop canary 2.5");
    assert_eq!(told.workload, None);
    assert_eq!(
        told.app,
        Some(Application {
            name: "shop".to_owned(),
            releases:
                "the current one; while a release is tried as a canary, 2.5 of 100 clients that \
                       have no cookie of it yet go to it"
                    .to_owned(),
            now: Vec::new(),
        })
    );
    assert!(
        told.to_string()
            .ends_with("\napplication shop\n  release  the current one; while a release is tried as a canary, 2.5 of 100 clients that have no cookie of it yet go to it\n"),
        "{told}"
    );
    for (url, words) in [
        (
            "/n",
            "the current one, also while a release is tried as a canary",
        ),
        (
            "/a",
            "the one that is tried as a canary while there is one, else the current one",
        ),
    ] {
        assert_eq!(explained(url).app.unwrap().releases, words);
    }
    let json = serde_json::to_string(&told).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::script::explain::Explanation>(&json).unwrap(),
        told
    );
}
