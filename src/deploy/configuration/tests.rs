//! Both forms of a launch configuration, what is wrong with them, and what becomes of them.

mod errors;
mod spec;
mod wunderproxy;

use super::*;

fn read(text: &str) -> (LaunchConfiguration, Vec<String>) {
    LaunchConfiguration::read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Without a warning.
fn own(text: &str) -> LaunchConfiguration {
    let (read, warnings) = read(text);
    assert_eq!(warnings, [""; 0]);
    read
}

/// The problems, one a line.
fn problems(text: &str) -> String {
    let error = LaunchConfiguration::read(text.as_bytes()).expect_err(text);
    let problems: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    problems.join("\n")
}

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn hash() -> ReleaseHash {
    ReleaseHash::new(&"0123456789abcdef".repeat(4)).unwrap()
}

fn given() -> Given {
    Given {
        registry: "localhost:8080".to_owned(),
        env: BTreeMap::new(),
        network: None,
        health_path: None,
        health_timeout: Duration::from_secs(60),
    }
}

fn table<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
    let entries = entries.map(|(name, value)| (name.to_owned(), value.to_owned()));
    entries.into()
}

#[test]
fn every_key_reaches_its_place() {
    let text = r#"{
        "image": "registry.example/shop:42",
        "revision": "2024-11-24.3",
        "command": ["serve", ""],
        "envs": {"A": "1", "B": ""},
        "port": 9292,
        "memory": "256MiB",
        "cpus": 1.5,
        "pids": 100,
        "network": "shop",
        "binds": ["/srv/shop:/data:ro"],
        "labels": {"team": "blue", "wakegate.network": "shop"},
        "health": {"path": "/up?deep=1", "timeout": "90s", "interval": "250ms"},
        "archive": "images/shop-42.tar",
        "pull": "always",
        "privileged": true,
        "cap_add": ["NET_ADMIN"],
        "devices": ["/dev/kvm"]
    }"#;
    let expected = LaunchConfiguration {
        image: Some("registry.example/shop:42".to_owned()),
        revision: "2024-11-24.3".to_owned(),
        command: Some(vec!["serve".to_owned(), String::new()]),
        envs: table([("A", "1"), ("B", "")]),
        port: Some(9292),
        memory: Some(256 << 20),
        cpus: Some(1.5),
        pids: Some(100),
        network: Some("shop".to_owned()),
        binds: vec!["/srv/shop:/data:ro".to_owned()],
        labels: table([("team", "blue"), ("wakegate.network", "shop")]),
        health: Some(HealthCheck {
            path: "/up?deep=1".to_owned(),
            timeout: Some(Duration::from_secs(90)),
            interval: Some(Duration::from_millis(250)),
        }),
        archive: Some("images/shop-42.tar".to_owned()),
        pull: Pull::Always,
        privileged: true,
        cap_add: vec!["NET_ADMIN".to_owned()],
        devices: vec!["/dev/kvm".to_owned()],
    };
    assert_eq!(own(text), expected);
    // Every known key stands in the text above, so that none is forgotten in this test.
    let keys: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).unwrap();
    let mut known = own::KEYS.map(str::to_owned);
    known.sort();
    assert!(keys.keys().eq(&known), "{keys:?}");
}

#[test]
fn a_revision_alone_will_do_and_null_is_as_if_it_were_not_there() {
    let expected = LaunchConfiguration {
        revision: "feature/x ü\u{301}\"'\\".to_owned(),
        ..LaunchConfiguration::default()
    };
    assert_eq!(own(r#"{"revision": "feature/x ü\u0301\"'\\"}"#), expected);
    let nulls: Vec<String> = own::KEYS
        .iter()
        .filter(|key| **key != "revision")
        .map(|key| format!("{key:?}: null"))
        .collect();
    let text = format!(
        r#"{{"revision": "feature/x ü\u0301\"'\\", {}}}"#,
        nulls.join(", ")
    );
    assert_eq!(own(&text), expected);
    let health = own(r#"{"revision": "1", "health": {"path": "/", "timeout": null}}"#).health;
    assert_eq!(health.unwrap().timeout, None);
}

#[test]
fn a_mark_of_the_byte_order_is_passed_over() {
    let marked = own("\u{feff}{\"revision\": \"1\"}");
    assert_eq!(marked, own(r#"{"revision": "1"}"#));
}

#[test]
fn a_size_is_bytes_or_has_a_unit() {
    for (typed, bytes) in [
        ("1", 1),
        ("\"1\"", 1),
        ("\"1.5 MB\"", 1_500_000),
        ("67108864", 64 << 20),
    ] {
        let text = format!(r#"{{"revision": "1", "memory": {typed}}}"#);
        assert_eq!(own(&text).memory, Some(bytes), "{typed}");
    }
}

#[test]
fn the_tag_of_an_image_is_not_the_registrys_port() {
    for (image, tag) in [
        ("localhost:8080/shop:42", Some("42")),
        ("localhost:8080/shop", None),
        ("shop:42", Some("42")),
        ("shop:42@sha256:abc", Some("42")),
        ("ghcr.io/a/shop@sha256:abc", None),
        ("shop:", None),
    ] {
        assert_eq!(tag_of(image), tag, "{image}");
    }
}
