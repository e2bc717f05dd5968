//! A directory as a version: its files, their errors, what they import.

use super::{Dir, Sent, ask, ask_sent, errors, proxied, workload_of};
use crate::decision::{ContainerFacts, ContainerRules, IdleRule};
use crate::script::version::Version;

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
    assert_eq!((workload_of(&proxy), proxy.port), ("web-x", Some(81)));
    assert_eq!(workload_of(&proxied(ask(&version, "/deep/x"))), "xx");
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

/// Each of the many errors of a long line once had a copy of it, which were gigabytes.
#[test]
fn a_file_with_nothing_but_errors_on_one_line_is_refused_with_a_few_of_them() {
    for wrong in ["import 1 as b; ", "{ import \"a\" as b; } ", "nope(); "] {
        let errors = errors(&wrong.repeat(20_000));
        assert_eq!(errors.len(), 100, "{wrong}");
        assert!(errors[0].len() < 200, "{}", errors[0].len());
    }
    let missing = (0..1_000).map(|n| format!("import \"m{n}\" as b;\n"));
    assert_eq!(errors(&missing.collect::<String>()).len(), 100);
}
