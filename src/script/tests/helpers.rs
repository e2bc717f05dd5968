//! Patterns, codes, digests and names, as scripts use them.

use super::{Dir, Sent, ask_sent, errors, load, said, unhurried};
use crate::config::ScriptLimits;
use crate::script::version::Version;

/// What a handler says of an expression, in which `req` is a request for `/` with a header `x`.
fn value_with(expression: &str, x: &str) -> Result<String, String> {
    let version = load(&handler(expression));
    let sent = Sent::get("/").with("x", x);
    ask_sent(&version, &sent).map(|_| said(&version, &sent))
}

fn handler(expression: &str) -> String {
    format!("route(\"/\", |req| {{ let a = {expression}; respond(200, `${{a}}`) }});")
}

fn value(expression: &str) -> String {
    value_with(expression, "").unwrap()
}

/// The first line of the first error of loading a handler.
fn refused(expression: &str) -> String {
    let told = errors(&handler(expression));
    let first = told.first().and_then(|error| error.lines().next());
    first.unwrap_or_default().to_owned()
}

fn limited(expression: &str, limits: ScriptLimits) -> Version {
    Dir::new(&[("a.rhai", &handler(expression))])
        .load_with(&limits)
        .unwrap()
}

#[test]
fn a_glob_is_of_the_whole_text_and_knows_segments() {
    for (glob, text, fits) in [
        ("/a/*", "/a/b", true),
        ("/a/*", "/a/b/c", false),
        ("/a/*", "/a/", true),
        ("/a/**", "/a/b/c", true),
        ("/a/**", "/a", false),
        ("**", "/any/thing", true),
        ("/**/c", "/c", true),
        ("/**/c", "/a/b/c", true),
        ("/**/c", "/a/b/cc", false),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("[a-c]x", "bx", true),
        ("[!a-c]x", "bx", false),
        ("*.{png,jp{e,}g}", "a.jpeg", true),
        ("*.{png,jpg}", "a.gif", false),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("A*", "abc", false),
        ("a*", "a\\nb", true),
        ("é*ü", "é…ü", true),
        (r"\\*", "*", true),
        (r"\\*", "a", false),
        ("", "", true),
    ] {
        let expression = format!("glob(\"{glob}\", \"{text}\")");
        assert_eq!(value(&expression), fits.to_string(), "{expression}");
    }
}

#[test]
fn a_regular_expression_matches_anywhere_in_the_text() {
    for (text, regex, fits) in [
        ("/item/42", r"/item/\d+$", true),
        ("x/item/42/", r"/item/\d+$", false),
        ("Mozilla (Googlebot)", "(?i)bot|crawl", true),
        ("über", "^über$", true),
        ("a\nb", "^a.b$", false),
        ("a\nb", "(?s)^a.b$", true),
        ("", "", true),
        ("aab", "(a*)*b", true),
    ] {
        let expression = format!("matches(`{text}`, `{regex}`)");
        assert_eq!(value(&expression), fits.to_string(), "{expression}");
    }
    assert_eq!(value("req.path.matches(`^/`)"), "true");
}

#[test]
fn captures_are_found_by_number_and_by_name() {
    let dated = r"captures(req.header(`x`), `(?<year>\d{4})-(\d{2})(-\d+)?`)";
    let map = value_with(dated, "on 2026-01, and 2027-02").unwrap();
    assert_eq!(
        map,
        "#{\"0\": \"2026-01\", \"1\": \"2026\", \"2\": \"01\", \"3\": \"\", \"year\": \"2026\"}"
    );
    assert_eq!(value_with(dated, "never").unwrap(), "#{}");
    assert_eq!(
        value(r#"captures("/shop/7/x/y", `^/([a-z]+)/(\d+)(?:/(.*))?$`).get("3", "none")"#),
        "x/y"
    );
    assert_eq!(value(r#"captures("aXbX", `(.*?)X`)["1"]"#), "a");
    assert_eq!(value(r#"captures("zaab", `(a|aa)(b)`)["1"]"#), "aa");
    // A group that ends within a character is text all the same.
    assert_eq!(value(r#"captures("é", `(.)`)["1"].len()"#), "1");
}

#[test]
fn a_bad_pattern_is_refused_when_scripts_are_loaded() {
    for (expression, told) in [
        (
            r#"glob("a[", "x")"#,
            "a.rhai:1:33: glob: \"a[\" is no pattern: unclosed character class; missing ']'",
        ),
        (
            r#"req.path.matches("(?=x)")"#,
            "a.rhai:1:45: matches: \"(?=x)\" is no pattern: look-around, including look-ahead and \
             look-behind, is not supported",
        ),
        (
            "captures(req.path, `(a`)",
            "a.rhai:1:47: captures: \"(a\" is no pattern: unclosed group",
        ),
    ] {
        assert_eq!(refused(expression), told);
    }
    assert!(refused("matches(``, `[ab]*a[ab]{30}c`)").contains("is too much for one pattern"));
    let long = format!("matches(``, `{}`)", "a".repeat(1_001));
    assert!(refused(&long).contains("has 1001 bytes; a pattern may have 1000"));
    // A function of the script's own may have the name and other patterns.
    let own = "fn matches(text, how) { how } route(\"/\", |req| respond(200, matches(``, `(a`)));";
    assert_eq!(said(&load(own), &Sent::get("/")), "(a");
    // What is only known later fails then, in words.
    let failed = value_with("matches(``, req.header(`x`))", "(a").unwrap_err();
    assert!(
        failed.contains("matches: \"(a\" is no pattern: unclosed group"),
        "{failed}"
    );
}

#[test]
fn groups_that_would_take_too_long_to_find_are_an_error_and_anchored_ones_are_not() {
    let long = "ab".repeat(30_000);
    let text = "req.header(`x`)";
    let failed = value_with(
        &format!("captures({text}, `{}$`)", "([ab]*)".repeat(9)),
        &long,
    );
    assert!(
        failed
            .clone()
            .is_err_and(|why| why.contains("begin it with ^")),
        "{failed:?}"
    );
    let found = value_with(&format!("captures({text}, `^([ab]*)$`)[`1`].len()"), &long);
    assert!(
        found.is_err_and(|why| why.contains("the groups matched more than the 65536 bytes")),
        "twice 60,000 bytes are more than a map may hold"
    );
    let found = value_with(
        &format!("captures({text}, `^(a)[ab]*`)[`1`]"),
        &long[..30_000],
    );
    assert_eq!(found.unwrap(), "a");
}

#[test]
fn base64_is_written_and_every_kind_of_it_is_read() {
    for (expression, shown) in [
        (r#"base64_encode("héllo?>")"#, "aMOpbGxvPz4="),
        (r#"base64_decode("aMOpbGxvPz4=")"#, "héllo?>"),
        (r#"base64_decode("aMOpbGxvPz4")"#, "héllo?>"),
        (r#"base64_decode("Pz8_Pj4-")"#, "???>>>"),
        (r#"base64_decode("Pz8/Pj4+")"#, "???>>>"),
        (r#"base64_decode("")"#, ""),
        (r#"base64_decode("a")"#, ""),
        (r#"base64_decode("!!!!")"#, ""),
        (r#"base64_decode("/w==")"#, ""),
        (r#"base64_decode("", "none")"#, "none"),
        (r#"base64_decode("%", "none")"#, "none"),
        (r#"base64_decode("/w", ()) == ()"#, "true"),
        (r#"base64_decode("YQ", "none")"#, "a"),
        (r#""admin:x".base64_encode().base64_decode()"#, "admin:x"),
    ] {
        assert_eq!(value(expression), shown, "{expression}");
    }
    let limits = ScriptLimits {
        string_bytes_max: 256,
        ..unhurried()
    };
    let version = limited("base64_encode(req.header(`x`)).len()", limits);
    let long = |bytes: usize| ask_sent(&version, &Sent::get("/").with("x", &"x".repeat(bytes)));
    assert!(long(192).is_ok());
    assert!(long(193).unwrap_err().contains("Length of string"));
}

#[test]
fn digests_never_change() {
    // Scripts keep what they made of them: other values here would move every client.
    for (text, hash, bucket) in [
        ("", 7_183_457_195_969_485_844_i64, 44),
        ("a", 5_374_906_597_990_186_442, 42),
        ("wakegate", 1_826_998_962_472_131_218, 18),
        ("é", 5_375_421_630_974_772_051, 51),
    ] {
        assert_eq!(
            value(&format!("hash(\"{text}\")")),
            hash.to_string(),
            "{text}"
        );
        let shown = value(&format!("bucket(\"{text}\", 100)"));
        assert_eq!(shown, bucket.to_string(), "{text}");
    }
    assert_eq!(value("bucket(\"a\", 1)"), "0");
    for n in [0, -1] {
        let failed = value_with(&format!("bucket(\"a\", {n})"), "").unwrap_err();
        assert!(
            failed.contains("buckets are none to choose from"),
            "{failed}"
        );
    }
}

#[test]
fn buckets_are_about_as_full_as_one_another() {
    let counted = value(
        "{ let counts = [0, 0, 0, 0]; for i in 0..2000 { counts[bucket(`user-${i}`, 4)] += 1; } counts }",
    );
    let counts: Vec<usize> = serde_json::from_str(&counted).unwrap();
    assert!(
        counts.iter().all(|count| (430..570).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn secrets_are_the_same_when_all_of_them_is() {
    for (a, b, same) in [
        ("hunter2", "hunter2", true),
        ("hunter2", "hunter3", false),
        ("hunter2", "hunter", false),
        ("", "", false),
        ("", "x", false),
        ("x", "", false),
    ] {
        let expression = format!("same_secret(\"{a}\", \"{b}\")");
        assert_eq!(value(&expression), same.to_string(), "{expression}");
    }
}

#[test]
fn json_is_read_as_values_and_what_is_none_is_the_default() {
    for (json, shown) in [
        (
            r#"{"a": [1, -2.5, "x", true, null]}"#,
            "#{\"a\": [1, -2.5, \"x\", true, ()]}",
        ),
        ("18446744073709551615", "1.8446744073709552e19"),
        ("[]", "[]"),
        ("\"text\"", "text"),
        ("null", ""),
        ("", ""),
        ("{", ""),
        ("{} x", ""),
        ("{'a': 1}", ""),
        ("NaN", ""),
        (r#"{"a": 1, "a": 2}"#, "#{\"a\": 2}"),
    ] {
        assert_eq!(
            value_with("parse_json(req.header(`x`))", json).unwrap(),
            shown,
            "{json}"
        );
    }
    assert_eq!(
        value_with("parse_json(req.header(`x`), 7)", "{").unwrap(),
        "7"
    );
    assert_eq!(
        value_with("parse_json(req.header(`x`), 7) == ()", "null").unwrap(),
        "true"
    );
    let deep = "[".repeat(20_000);
    assert_eq!(
        value_with("parse_json(req.header(`x`), 7)", &deep).unwrap(),
        "7"
    );
}

#[test]
fn json_is_written_and_reads_back() {
    for (expression, json) in [
        (
            "#{ b: [1, 2.5, (), true, 'c'], a: \"é\\\"\\n\" }",
            r#"{"a":"é\"\n","b":[1,2.5,null,true,"c"]}"#,
        ),
        ("[]", "[]"),
        ("\"x\"", "\"x\""),
        ("()", "null"),
        ("parse_float(\"NaN\")", "null"),
        ("1.0", "1.0"),
    ] {
        assert_eq!(
            value(&format!("to_json({expression})")),
            json,
            "{expression}"
        );
    }
    assert_eq!(value("#{ a: #{ b: 1 } }.to_json()"), r#"{"a":{"b":1}}"#);
    assert_eq!(
        value("{ let x = [1]; let f = || x; to_json([x]) }"),
        "[[1]]"
    );
    for (expression, told) in [
        ("to_json(|x| x)", "to_json: a function"),
        (
            "to_json(#{ r: req })",
            "is no value that can be written down",
        ),
        (
            "{ let a = 1; for i in 0..200 { a = [a]; } to_json(a) }",
            "to_json: a value is nested more than 128 deep",
        ),
    ] {
        let failed = value_with(expression, "").unwrap_err();
        assert!(failed.contains(told), "{expression}: {failed}");
    }
}

#[test]
fn json_that_a_script_cannot_hold_is_an_error() {
    let limits = ScriptLimits {
        string_bytes_max: 256,
        array_items_max: 3,
        map_entries_max: 2,
        ..unhurried()
    };
    let version = limited("parse_json(req.header(`x`))", limits);
    let read = |json: &str| ask_sent(&version, &Sent::get("/").with("x", json));
    for (fits, too_large, told) in [
        ("[1, [2]]", "[1, [2, 3]]", "Size of array"),
        (
            r#"{"a": {"b": 1}}"#,
            r#"{"a": {"b": 1, "c": 2}}"#,
            "Size of object map",
        ),
    ] {
        assert!(read(fits).is_ok(), "{fits}");
        let failed = read(too_large).unwrap_err();
        assert!(failed.contains(told), "{too_large}: {failed}");
    }
    let version = limited("to_json([req.header(`x`)]).len()", limits);
    let write = |bytes: usize| ask_sent(&version, &Sent::get("/").with("x", &"\"".repeat(bytes)));
    assert!(write(126).is_ok());
    assert!(write(127).unwrap_err().contains("Length of string"));
}

#[test]
fn a_name_is_made_of_any_text_and_no_two_share_one() {
    for (text, name) in [
        ("shop-1", "shop-1"),
        ("a.b_c", "a.b_c"),
        ("Shop", "shop-"),
        ("a b", "a-b-"),
        ("a/b", "a-b-"),
        ("-a", "a-"),
        ("é", "x-"),
        ("", "x-"),
        ("a\u{0}", "a--"),
    ] {
        let made = value_with(
            "to_name(parse_json(req.header(`x`)))",
            &serde_json::json!(text).to_string(),
        );
        let made = made.unwrap();
        if name == text {
            assert_eq!(made, name);
        } else {
            assert!(
                made.starts_with(name) && made.len() == name.len() + 8,
                "{text}: {made}"
            );
        }
        assert_eq!(value(&format!("is_name(\"{made}\")")), "true", "{made}");
    }
    assert_eq!(value("to_name(\"Shop\")"), "shop-d00aae6b");
    let again = value("to_name(to_name(\"Shop\"))");
    assert!(
        again.starts_with("shop-") && again != value("to_name(\"Shop\")"),
        "{again}"
    );
    let long = "a".repeat(128);
    assert_eq!(value(&format!("to_name(\"{long}\")")), long);
    let longer = value(&format!("to_name(\"{long}a\")"));
    assert_eq!(longer.len(), 128);
    assert!(longer.starts_with(&long[..119]) && longer.as_bytes()[119] == b'-');
}
