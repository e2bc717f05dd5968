//! Which pattern a request finds, and which tables of patterns are refused.

use super::*;

fn place(line: usize) -> Place {
    Place {
        file: "a.rhai".into(),
        line,
        column: 1,
        source_line: None,
    }
}

fn build(patterns: &[&str]) -> Result<RouteTable, Vec<String>> {
    let places: Vec<_> = (1..=patterns.len()).map(place).collect();
    let routes: Vec<_> = patterns.iter().copied().zip(&places).collect();
    RouteTable::build(&routes).map_err(|errors| errors.iter().map(|e| e.to_string()).collect())
}

fn found(patterns: &[&str], host: &str, path: &str) -> Option<String> {
    let table = build(patterns).unwrap();
    let (route, captures) = table.find(host, path)?;
    let captures: Vec<_> = captures.iter().map(|(k, v)| format!("{k}={v}")).collect();
    Some(
        format!("{} {}", patterns[route], captures.join(" "))
            .trim()
            .to_owned(),
    )
}

#[test]
fn a_rest_is_everything_also_nothing() {
    let patterns = ["/app/{name}/{*rest}"];
    for (path, expected) in [
        ("/app/x/a/b", Some("name=x rest=a/b")),
        ("/app/x/", Some("name=x")),
        ("/app/x", Some("name=x")),
        ("/app/x//", Some("name=x rest=/")),
        ("/app/%20/a", Some("name=%20 rest=a")),
        ("/app/", None),
        ("/app", None),
        ("/ap/x", None),
    ] {
        let expected = expected.map(|e| format!("{} {e}", patterns[0]));
        assert_eq!(found(&patterns, "", path), expected, "{path}");
    }
    assert_eq!(found(&["/{*rest}"], "", "/").as_deref(), Some("/{*rest}"));
}

#[test]
fn the_more_special_pattern_wins_whatever_the_order() {
    let mut patterns = [
        "/{*rest}",
        "/app/{name}/{*rest}",
        "/app/{name}",
        "/app/status",
        "/app/{*rest}",
        "/{a}/{b}",
        "/application",
    ];
    for _ in 0..patterns.len() {
        patterns.rotate_left(1);
        for (path, expected) in [
            ("/app/status", "/app/status"),
            ("/app/x", "/app/{name} name=x"),
            ("/app/x/", "/app/{name}/{*rest} name=x"),
            ("/app/x/y", "/app/{name}/{*rest} name=x rest=y"),
            ("/app/", "/app/{*rest}"),
            ("/application", "/application"),
            ("/applications", "/{*rest} rest=applications"),
            ("/x/y", "/{a}/{b} a=x b=y"),
            ("/x/y/z", "/{*rest} rest=x/y/z"),
            ("/", "/{*rest}"),
        ] {
            assert_eq!(
                found(&patterns, "", path).as_deref(),
                Some(expected),
                "{path}"
            );
        }
    }
}

#[test]
fn a_host_goes_before_a_wildcard_and_both_before_none() {
    let patterns = [
        "/{*rest}",
        "shop.example.com/cart",
        "*.example.com/{*rest}",
        "*.eu.example.com/{*rest}",
    ];
    for (host, path, expected) in [
        ("shop.example.com", "/cart", "shop.example.com/cart"),
        ("SHOP.Example.com.", "/cart", "shop.example.com/cart"),
        ("shop.example.com", "/", "*.example.com/{*rest}"),
        ("a.eu.example.com", "/x", "*.eu.example.com/{*rest} rest=x"),
        ("example.com", "/cart", "/{*rest} rest=cart"),
        ("", "/cart", "/{*rest} rest=cart"),
    ] {
        assert_eq!(
            found(&patterns, host, path).as_deref(),
            Some(expected),
            "{host}"
        );
    }
}

#[test]
fn two_patterns_that_match_the_same_are_refused_with_both_places() {
    let errors = build(&["/a/{name}", "h/a/{name}", "/a/{other}"])
        .err()
        .unwrap();
    assert_eq!(
        errors,
        ["a.rhai:3:1: the route \"/a/{other}\" matches the same as \"/a/{name}\" at a.rhai:1:1"]
    );
}

#[test]
fn patterns_that_cannot_be_are_refused() {
    for bad in [
        "a",
        "",
        "/a b",
        "/a?x=1",
        "/{a}{b}",
        "/{*rest}/x",
        "/{",
        "a:80/x",
        "a.*/x",
        "*./x",
        "/{}",
    ] {
        assert_eq!(
            build(&[bad]).err().map(|errors| errors.len()),
            Some(1),
            "{bad}"
        );
    }
}

#[test]
fn a_rest_below_fixed_text_goes_before_one_above_it() {
    let patterns = ["/a/{x}", "/a/{*r}", "/{*r}"];
    assert_eq!(
        found(&patterns, "", "/a/b/c").as_deref(),
        Some("/a/{*r} r=b/c")
    );
}

#[test]
fn patterns_that_overlap_in_several_places_stand_side_by_side() {
    let patterns = ["/{x}/a/{y}", "/{x}/a/{*r}", "/{*r}", "/{x}/{*r}", "/b{*r}"];
    for (path, expected) in [
        ("/1/a/2", "/{x}/a/{y} x=1 y=2"),
        ("/1/a/2/3", "/{x}/a/{*r} x=1 r=2/3"),
        ("/1/2", "/{x}/{*r} x=1 r=2"),
        ("/b1/2", "/b{*r} r=1/2"),
        ("//a/", "/{x}/a/{*r} x="),
        ("/", "/{*r}"),
    ] {
        let found = found(&patterns, "", path);
        assert_eq!(found.as_deref(), Some(expected), "{path}");
    }
}

#[test]
fn a_pattern_has_no_more_names_than_the_router_can_count() {
    let names = |count: usize| "/{x}".repeat(count);
    assert!(build(&[&names(25)]).is_ok());
    let errors = build(&[&names(26)]).err().unwrap();
    assert!(errors[0].contains("more than 25 names"), "{errors:?}");
}

#[test]
fn a_dot_at_the_end_of_a_host_is_no_part_of_it() {
    assert_eq!(
        found(&["shop.example.com./x"], "shop.example.com", "/x").as_deref(),
        Some("shop.example.com./x")
    );
}
