//! What is said of each route is what the router does, and the sentences fit.

use proptest::prelude::*;
use proptest::sample::select;

use super::Verdict;
use crate::script::error::Place;
use crate::script::routes::RouteTable;
use crate::script::routes::pattern::{Pattern, steps};

fn table(patterns: &[String]) -> RouteTable {
    let place = Place {
        file: "a.rhai".into(),
        line: 1,
        column: 1,
        source_line: None,
    };
    let routes: Vec<_> = patterns.iter().map(|p| (p.as_str(), &place)).collect();
    match RouteTable::build(&routes) {
        Ok(table) => table,
        Err(errors) => panic!("{patterns:?}: {}", errors[0]),
    }
}

const SEGMENTS: [&str; 12] = [
    "", "", "a", "b", "ab", "a", "%61", "a.b", "A", "*", "\u{e9}", "aa",
];

fn patterns() -> impl Strategy<Value = String> {
    let host = select(vec![
        "", "", "", "x", "h.x", "H.x.", "*.x", "*.h.x", "*.X", "a.h.x",
    ]);
    let segment = prop_oneof![
        select(&SEGMENTS[..]),
        select(vec!["{x}", "{x}", "{y}", "a{x}", "ab{x}", "%61{x}", "a{y}"]),
    ];
    let last = select(vec![
        None,
        None,
        None,
        Some("{*r}"),
        Some("{*r}"),
        Some("a{*r}"),
        Some("ab{*r}"),
    ]);
    (host, prop::collection::vec(segment, 0..4), last).prop_map(|(host, mut segments, last)| {
        segments.extend(last);
        format!("{host}/{}", segments.join("/"))
    })
}

/// Patterns that may stand beside one another.
fn tables() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(patterns(), 1..12).prop_map(|mut patterns| {
        let mut seen = Vec::new();
        patterns.retain(|text| {
            let pattern = Pattern::parse(text).unwrap();
            let matched = (
                pattern.host.clone(),
                steps(&pattern.segments).collect::<Vec<_>>(),
            );
            let is_new = !seen.contains(&matched);
            seen.push(matched);
            is_new
        });
        patterns
    })
}

fn requests() -> impl Strategy<Value = (String, String)> {
    let host = select(vec![
        "", "x", "h.x", "H.X.", "a.h.x", "b.h.x", "other", ".x",
    ]);
    let path = prop::collection::vec(select(&SEGMENTS[..]), 0..5)
        .prop_map(|segments| format!("/{}", segments.join("/")));
    let odd = select(vec!["", "*", "a", "/", "//", "///"]).prop_map(str::to_owned);
    (
        host.prop_map(str::to_owned),
        prop_oneof![9 => path, 1 => odd],
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_route_that_is_taken_is_the_one_that_is_found(
        patterns in tables(),
        requests in prop::collection::vec(requests(), 1..12),
    ) {
        let table = table(&patterns);
        for (host, path) in &requests {
            let told = table.verdicts(host, path);
            let found = table.find(host, path).map(|(route, _)| route);
            prop_assert_eq!(told.len(), patterns.len());
            for (route, verdict) in told.iter().enumerate() {
                let context = format!("{host:?} {path:?} {patterns:?} {route} {told:?}");
                let alone = self::table(&patterns[route..=route]);
                let matches = alone.find(host, path).is_some();
                match verdict {
                    Verdict::Taken => prop_assert!(found == Some(route) && matches, "{}", context),
                    Verdict::Passed { by, why } => {
                        prop_assert!(found == Some(*by) && *by != route && matches, "{}", context);
                        prop_assert!(!why.is_empty());
                    }
                    Verdict::Not { why } => {
                        prop_assert!(!matches && !why.is_empty(), "{}", context);
                    }
                }
            }
            let taken = told.iter().filter(|verdict| **verdict == Verdict::Taken).count();
            prop_assert_eq!(taken, usize::from(found.is_some()));
        }
    }

    #[test]
    fn the_order_of_the_file_makes_no_difference(
        patterns in tables(),
        (host, path) in requests(),
    ) {
        let found = |patterns: &[String]| {
            let table = table(patterns);
            table.find(&host, &path).map(|(route, _)| patterns[route].clone())
        };
        let turned: Vec<String> = patterns.iter().rev().cloned().collect();
        prop_assert_eq!(found(&patterns), found(&turned));
    }

    /// What can be read is what the router takes.
    #[test]
    fn a_pattern_is_refused_where_it_is_read(text in "[ab.]{0,3}/[/ab{}*%x]{0,10}") {
        if Pattern::parse(&text).is_ok() {
            table(&[text]);
        }
    }
}

fn said(patterns: &[&str], host: &str, path: &str) -> Vec<String> {
    let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
    let verdicts = table(&patterns).verdicts(host, path);
    let say = |verdict| match verdict {
        Verdict::Taken => "taken".to_owned(),
        Verdict::Passed { by, why } => format!("{by}: {why}"),
        Verdict::Not { why } => why,
    };
    verdicts.into_iter().map(say).collect()
}

#[test]
fn a_pattern_that_does_not_match_says_where_it_ends() {
    for (pattern, host, path, why) in [
        (
            "shop.example.com/",
            "x",
            "/",
            r#"the host is "x", not "shop.example.com""#,
        ),
        (
            "*.example.com/",
            "x",
            "/",
            r#"the host is "x", which is not below example.com"#,
        ),
        (
            "*.example.com/",
            "example.com",
            "/",
            r#"the host is "example.com", which is not below example.com"#,
        ),
        ("x/", "", "/", "the request has no host"),
        ("/a/{x}", "", "/b/c", r#"segment 1 is "b", not "a""#),
        ("/a/{x}", "", "/a", "the path ends after 1 segment"),
        ("/a/{x}", "", "/a/", "segment 2 is empty"),
        ("/a/{x}", "", "/a//", "segment 2 is empty"),
        ("/a/{x}", "", "/a/b/", r#"the path goes on after "/a/b""#),
        ("/a/b/c", "", "/a/b", "the path ends after 2 segments"),
        ("/a/b/", "", "/a/b", r#"the path has no "/" at its end"#),
        ("/a/b", "", "/a/b/c", r#"the path goes on after "/a/b""#),
        ("/a/", "", "/a/b", r#"the path goes on after "/a/""#),
        ("/", "", "/a", r#"the path goes on after "/""#),
        ("/a/b", "", "/a/", r#"segment 2 is empty, not "b""#),
        (
            "/a//b",
            "",
            "/a/b/b",
            r#"segment 2 is "b", where the pattern has an empty one"#,
        ),
        (
            "/a{x}",
            "",
            "/b",
            r#"segment 1 is "b", which does not begin with "a""#,
        ),
        ("/a{x}", "", "/a", r#"nothing follows "a" in segment 1"#),
        ("/a{*x}", "", "/a", r#"nothing follows "a" in segment 1"#),
        ("/{x}/{*rest}", "", "/", "segment 1 is empty"),
        ("/a", "", "*", r#""*" does not begin with "/""#),
        (
            "/a",
            "",
            "/%61",
            r#"segment 1 is "%61", not "a" (a path is matched as it was sent, percent-encoded)"#,
        ),
        (
            "/ab{x}",
            "",
            "/%61bc",
            r#"segment 1 is "%61bc", which does not begin with "ab" (a path is matched as it was sent, percent-encoded)"#,
        ),
    ] {
        assert_eq!(
            said(&[pattern], host, path),
            [why],
            "{pattern} {host} {path}"
        );
    }
    let long = said(&["/a"], "", &format!("/{}", "\u{e9}".repeat(1_000)));
    assert!(long[0].chars().count() < 100, "{long:?}");
}

#[test]
fn a_pattern_that_is_passed_over_says_by_which_rule() {
    for (first, second, path, why) in [
        (
            "h.x.y/{*r}",
            "/a",
            "/a",
            "a pattern with the request's host goes before one without",
        ),
        (
            "h.x.y/{*r}",
            "*.x.y/a",
            "/a",
            "a pattern with the request's host goes before *.x.y",
        ),
        (
            "*.y/{*r}",
            "/a",
            "/a",
            "a pattern with *.y goes before one without a host",
        ),
        (
            "*.x.y/{*r}",
            "*.y/a",
            "/a",
            "*.x.y is longer than *.y and goes before it",
        ),
        (
            "/a",
            "/{x}",
            "/a",
            r#"fixed text goes before {name} ("a" before "{x}" in segment 1)"#,
        ),
        (
            "/a/b{x}",
            "/a/{x}",
            "/a/bc",
            r#"fixed text goes before {name} ("b{x}" before "{x}" in segment 2)"#,
        ),
        (
            "/a/{*r}",
            "/{x}/b",
            "/a/b",
            r#"fixed text goes before {name} ("a" before "{x}" in segment 1)"#,
        ),
        (
            "/a/{*r}",
            "/{*r}",
            "/a/b",
            r#"fixed text goes before {*name} ("a" before "{*r}" in segment 1)"#,
        ),
        (
            "/{x}/{*r}",
            "/{*r}",
            "/a/b",
            r#"{name} goes before {*name} ("{x}" before "{*r}" in segment 1)"#,
        ),
        (
            "/a",
            "/a/{*r}",
            "/a",
            "a pattern that ends goes before {*name}, which stands for nothing here",
        ),
        (
            "/a/",
            "/a/{*r}",
            "/a/",
            r#"fixed text goes before {*name} (an empty segment before "{*r}" in segment 2)"#,
        ),
    ] {
        let told = said(&[second, first], "h.x.y", path);
        assert_eq!(
            told,
            [format!("1: {why}"), "taken".to_owned()],
            "{first} {second}"
        );
    }
}
