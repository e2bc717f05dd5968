//! The memo tells nothing that the handler would not have told.

use std::sync::Arc;

use http::Method;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Dir, Sent, load, workload_of};
use crate::config::ScriptLimits;
use crate::decision::Decision;
use crate::script::current::Scripts;
use crate::script::decider::Decider;
use crate::script::version::Version;

/// Handlers that read different things in different orders, some of them only now and then.
const HANDLERS: &str = r#"
route("/const", |req| proxy("a"));
route("/path/{*rest}", |req| respond(200, req.path));
route("/param/{name}/{*rest}", |req| if req.param("name") == "" { () } else { respond(200, req.param("name") + "|" + req.param("rest")) });
route("/branch/{a}/{*rest}", |req| {
    if req.method == "POST" { return respond(405, req.header("x-a")); }
    switch req.param("a") {
        "q" => respond(200, req.query("k", "none") + req.query),
        "c" => respond(200, req.cookie("id", "none") + req.cookie("b")),
        "h" => respond(200, req.header("x-a", "none") + req.header("x-b")),
        "i" => respond(200, req.client + req.host + req.scheme),
        "s" => respond(200, `${req.segments} ${req.segment(2)} ${req.segment(7)}`),
        "t" => respond(200, `${req.hour} ${req.minute} ${req.weekday}`),
        "all" => respond(200, `${req.headers}`),
        "n" => (),
        "bad" => proxy(req.query("k")),
        "twice" => respond(200, req.method + req.method + req.header("x-a") + req.header("X-A")),
        "fn" => respond(200, ["x-a", "x-b"].map(|h| req.header(h)).reduce(|all, one| all + one, "")),
        _ => respond(200, "other"),
    }
});
route("/loop/{*rest}", |req| {
    let found = "";
    for s in req.segments { if req.query(s) != "" { found = s; break; } }
    respond(200, found)
});
route("/many/{*rest}", |req| {
    let text = "";
    for i in 0..100 { text += req.query("k" + i) + req.header("x-a"); }
    respond(200, text)
});
route("*.example.com/{*rest}", |req| respond(200, req.host));
"#;

fn requests() -> impl Strategy<Value = Sent> {
    let word = || {
        select(vec![
            "", "a", "b", "q", "c", "h", "i", "s", "t", "all", "n", "bad", "twice", "fn", "%41",
            "a%2Fb", "%ff", "x+y",
        ])
    };
    let path = prop_oneof![
        Just("/const".to_owned()),
        (
            select(vec![
                "path", "param", "branch", "branch", "branch", "loop", "many", "none"
            ]),
            prop::collection::vec(word(), 0..4)
        )
            .prop_map(|(route, words)| format!("/{route}/{}", words.join("/"))),
    ];
    let query = prop::collection::vec((select(vec!["k", "a", "b", "%6b", "k1"]), word()), 0..3)
        .prop_map(|pairs| {
            let pairs = pairs.iter();
            pairs
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>()
                .join("&")
        });
    let headers = prop::collection::vec(
        (
            select(vec!["x-a", "x-b", "cookie"]),
            select(vec!["", "1", "id=1", "id=2; b=3", "b=\"4\"", "\u{e9}"]),
        ),
        0..4,
    );
    let host = select(vec!["", "x.example.com", "X.Example.COM", "other"]);
    let client = select(vec!["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let at = select(vec![
        1_767_614_400,
        1_767_614_459,
        1_767_618_000,
        1_767_700_800,
    ]);
    (path, query, headers, host, client, at, any::<bool>()).prop_map(
        |(path, query, headers, host, client, at, post)| {
            let mut sent = Sent::get(&path);
            sent.at = at;
            sent.query = query;
            sent.host = host.to_owned();
            sent.client = client.parse().unwrap();
            if post {
                sent.method = Method::POST;
            }
            headers
                .into_iter()
                .fold(sent, |sent, (name, value)| sent.with(name, value))
        },
    )
}

pub type Told = Result<Option<(Decision, String)>, String>;

pub fn fresh(version: &Version, sent: &Sent) -> Told {
    match version.decide(&sent.facts()) {
        Ok(decided) => Ok(decided.map(|d| ((*d.decision).clone(), d.route.to_string()))),
        Err(failure) => Err(failure.message),
    }
}

pub fn remembered(decider: &mut Decider, sent: &Sent) -> Told {
    match decider.decide(&sent.facts()) {
        Ok(decided) => Ok(decided.map(|d| ((*d.decision).clone(), d.route.to_string()))),
        Err(failure) => Err(failure.message),
    }
}

fn limits(memo_entries_max: usize) -> ScriptLimits {
    ScriptLimits {
        cpu_time_max: std::time::Duration::from_secs(20),
        memo_entries_max,
        ..ScriptLimits::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_remembered_decision_is_the_one_that_would_be_made(
        sent in prop::collection::vec(requests(), 1..120),
        entries_max in select(vec![1, 5, 1_000]),
    ) {
        let dir = Dir::new(&[("a.rhai", HANDLERS)]);
        let version = dir.load_with(&limits(entries_max)).unwrap_or_else(|e| panic!("{}", e[0]));
        let scripts = Scripts::new(version);
        let mut decider = Decider::new(scripts.clone());
        let version = scripts.current.load_full();
        // Every request twice, so that what the first one left behind is used.
        for sent in sent.iter().chain(&sent) {
            prop_assert_eq!(remembered(&mut decider, sent), fresh(&version, sent), "{:?}", sent);
            prop_assert!(decider.remembered() <= entries_max);
        }
    }
}

fn decider(script: &str) -> (Arc<Scripts>, Decider) {
    let scripts = Scripts::new(load(script));
    (scripts.clone(), Decider::new(scripts))
}

fn counts(decider: &Decider) -> (u64, u64, u64) {
    let totals = decider.counts().totals();
    (totals.hits, totals.misses, totals.bypasses)
}

#[test]
fn only_what_a_handler_reads_makes_a_difference() {
    let (_, mut decider) = decider(
        "route(\"/{name}/{*rest}\", |req| if req.method == \"GET\" { proxy(req.param(\"name\")) } else { respond(405, \"\") });",
    );
    let mut ask = |sent: Sent| {
        decider.decide(&sent.facts()).unwrap().unwrap();
        counts(&decider)
    };
    assert_eq!(ask(Sent::get("/a/x")), (0, 1, 0));
    assert_eq!(ask(Sent::get("/a/y?q=1").with("x-a", "1")), (1, 1, 0));
    assert_eq!(ask(Sent::get("/b/x")), (1, 2, 0));
    let post = |target| Sent {
        method: Method::POST,
        ..Sent::get(target)
    };
    assert_eq!(ask(post("/a/x")), (1, 3, 0));
    assert_eq!(
        ask(post("/c/x")),
        (2, 3, 0),
        "the name is not read of a POST"
    );
}

#[test]
fn two_hits_are_the_same_decision() {
    let (_, mut decider) = decider("route(\"/{name}\", |req| proxy(req.param(\"name\")));");
    let sent = Sent::get("/a");
    let mut ask = || decider.decide(&sent.facts()).unwrap().unwrap();
    let (first, second) = (ask(), ask());
    assert!(Arc::ptr_eq(&first.decision, &second.decision));
    assert!(Arc::ptr_eq(&first.route, &second.route));
    assert_eq!(&*first.route, "/{name}");
}

#[test]
fn no_decision_is_remembered_and_a_failure_is_not() {
    let (_, mut decider) =
        decider("route(\"/none\", |req| ()); route(\"/bad\", |req| proxy(req.query));");
    for _ in 0..2 {
        assert!(
            decider
                .decide(&Sent::get("/none").facts())
                .unwrap()
                .is_none()
        );
        assert!(decider.decide(&Sent::get("/bad").facts()).is_err());
        assert!(
            decider
                .decide(&Sent::get("/nowhere").facts())
                .unwrap()
                .is_none()
        );
    }
    assert_eq!(counts(&decider), (1, 1, 2));
}

#[test]
fn reading_all_headers_or_too_much_is_not_remembered() {
    let (_, mut decider) = decider(HANDLERS);
    for _ in 0..2 {
        decider.decide(&Sent::get("/branch/all").facts()).unwrap();
        decider.decide(&Sent::get("/many/").facts()).unwrap();
    }
    assert_eq!(counts(&decider), (0, 0, 4));
    assert_eq!(decider.remembered(), 0);
}

#[test]
fn a_full_memo_starts_over() {
    let dir = Dir::new(&[(
        "a.rhai",
        "route(\"/{name}\", |req| proxy(req.param(\"name\")));",
    )]);
    let scripts = Scripts::new(dir.load_with(&limits(10)).unwrap());
    let mut decider = Decider::new(scripts);
    for n in 0..25 {
        decider
            .decide(&Sent::get(&format!("/a{n}")).facts())
            .unwrap();
        assert!(decider.remembered() <= 10);
    }
    decider.decide(&Sent::get("/a24").facts()).unwrap();
    assert_eq!(counts(&decider), (1, 25, 0));
}

#[test]
fn long_keys_fill_the_memo_too() {
    let (_, mut decider) =
        decider("route(\"/\", |req| respond(200, `${req.header(\"x-a\").len()}`));");
    let long = "x".repeat(60_000);
    for n in 0..300 {
        decider
            .decide(&Sent::get("/").with("x-a", &format!("{n}{long}")).facts())
            .unwrap();
        assert!(decider.remembered() <= 150, "more than 8 MiB");
    }
}

#[test]
fn a_memo_of_no_entries_is_no_memo() {
    let dir = Dir::new(&[("a.rhai", "route(\"/\", |req| proxy(\"a\"));")]);
    let mut decider = Decider::new(Scripts::new(dir.load_with(&limits(0)).unwrap()));
    for _ in 0..3 {
        assert!(decider.decide(&Sent::get("/").facts()).unwrap().is_some());
    }
    assert_eq!(counts(&decider), (0, 0, 3));
}

#[test]
fn a_new_version_is_asked_at_once_and_remembers_nothing_of_the_old() {
    let (scripts, mut decider) =
        decider("route(\"/a\", |req| proxy(\"old\")); route(\"/b\", |req| proxy(\"old\"));");
    let name = |decider: &mut Decider| {
        let decided = decider.decide(&Sent::get("/a").facts()).unwrap().unwrap();
        match &*decided.decision {
            Decision::Proxy(proxy) => (workload_of(proxy).to_owned(), decided.route.to_string()),
            other => panic!("{other:?}"),
        }
    };
    let told = |name: &str, route: &str| (name.to_owned(), route.to_owned());
    assert_eq!(name(&mut decider), told("old", "/a"));
    let before = decider.version();
    scripts
        .current
        .store(Arc::new(load("route(\"/{*rest}\", |req| proxy(\"new\"));")));
    assert_eq!(name(&mut decider), told("new", "/{*rest}"));
    assert_eq!(name(&mut decider), told("new", "/{*rest}"));
    assert!(!Arc::ptr_eq(&before, &decider.version()));
    assert!(Arc::ptr_eq(
        &scripts.current.load_full(),
        &decider.version()
    ));
    assert_eq!(counts(&decider), (1, 2, 0));
}
