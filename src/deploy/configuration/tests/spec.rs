//! What is made of a launch configuration: names, an image, a specification.

use proptest::prelude::*;

use super::*;
use crate::spec::{HEALTH_INTERVAL_LABEL, HEALTH_PATH_LABEL, HEALTH_TIMEOUT_LABEL};

#[test]
fn a_specification_has_everything_of_the_configuration_and_says_whose_it_is() {
    let configuration = own(r#"{
        "image": "shop:42", "revision": "feature/x", "command": ["serve"],
        "envs": {"A": "own", "B": "2"}, "port": 9292, "memory": 1048576, "cpus": 0.5, "pids": 10,
        "network": "shop", "binds": ["/srv:/srv"], "labels": {"team": "blue"},
        "health": {"path": "/up", "timeout": "90s"}, "privileged": true,
        "cap_add": ["NET_ADMIN"], "devices": ["/dev/kvm"]
    }"#);
    let given = Given {
        env: table([("A", "given"), ("C", "3")]),
        network: Some("default".to_owned()),
        health_path: Some("/other".to_owned()),
        ..given()
    };
    let expected = WorkloadSpec {
        network: Some("shop".to_owned()),
        port: Some(9292),
        labels: table([
            ("team", "blue"),
            ("wakegate.app", "shop"),
            ("wakegate.release", hash().as_str()),
            ("wakegate.revision", "feature/x"),
            ("wakegate.health.path", "/up"),
            ("wakegate.health.timeout", "1m 30s"),
            ("wakegate.health.interval", "1s"),
        ]),
        envs: table([("A", "own"), ("B", "2"), ("C", "3")]),
        command: Some(vec!["serve".to_owned()]),
        memory: Some(1 << 20),
        cpus: Some(0.5),
        pids: Some(10),
        binds: vec!["/srv:/srv".to_owned()],
        privileged: true,
        cap_add: vec!["NET_ADMIN".to_owned()],
        devices: vec!["/dev/kvm".to_owned()],
        ..WorkloadSpec::new(
            WorkloadName::new("shop-feature-x-01234567").unwrap(),
            "shop:42",
        )
    };
    assert_eq!(configuration.spec(&app("shop"), &hash(), &given), expected);
    assert_eq!(
        configuration.health_timeout(&given),
        Some(Duration::from_secs(90))
    );
}

#[test]
fn what_a_configuration_leaves_open_its_application_gives() {
    let configuration = own(r#"{"revision": "42"}"#);
    let bare = configuration.spec(&app("Shop"), &hash(), &given());
    assert_eq!(bare.image, "localhost:8080/shop:42");
    assert_eq!((bare.network, bare.port, bare.memory), (None, None, None));
    let health = [
        HEALTH_PATH_LABEL,
        HEALTH_TIMEOUT_LABEL,
        HEALTH_INTERVAL_LABEL,
    ];
    assert!(health.iter().all(|label| !bare.labels.contains_key(*label)));
    assert_eq!(configuration.health_timeout(&given()), None);

    let given = Given {
        registry: "registry.example/team".to_owned(),
        env: table([("A", "1")]),
        network: Some("shop".to_owned()),
        health_path: Some("/healthz".to_owned()),
        health_timeout: Duration::from_secs(5),
    };
    let full = configuration.spec(&app("Shop"), &hash(), &given);
    assert_eq!(full.image, "registry.example/team/shop:42");
    assert_eq!(full.network.as_deref(), Some("shop"));
    assert_eq!(full.envs, table([("A", "1")]));
    let labels = health.map(|label| full.labels[label].as_str());
    assert_eq!(labels, ["/healthz", "5s", "1s"]);
}

#[test]
fn a_release_of_another_hash_has_another_name() {
    let name =
        |app: &str, revision: &str| workload_name(&self::app(app), revision, &hash()).to_string();
    for (revision, expected) in [
        ("42", "shop-42-01234567"),
        ("2024-11-24.3", "shop-2024-11-24.3-01234567"),
        ("feature/x", "shop-feature-x-01234567"),
        ("V_1", "shop-V_1-01234567"),
        ("", "shop-01234567"),
        (" ?? ", "shop-01234567"),
        ("-.a._", "shop-a-01234567"),
        ("größe", "shop-gr--e-01234567"),
    ] {
        assert_eq!(name("shop", revision), expected, "{revision}");
    }
    let long = name(&"a".repeat(40), &"r".repeat(128));
    assert_eq!(
        long,
        format!("{}-{}-01234567", "a".repeat(40), "r".repeat(13))
    );
    // What is cut off leaves no separator behind.
    let cut = name(&"a".repeat(40), "123456789012-45");
    assert_eq!(cut, format!("{}-123456789012-01234567", "a".repeat(40)));
}

#[test]
fn a_revision_is_made_fit_for_a_tag() {
    for (revision, tag) in [
        ("2024-11-24.3", "2024-11-24.3"),
        ("feature/x", "feature-x"),
        ("_a", "_a"),
        ("../a b", "a-b"),
        ("é1", "1"),
        ("???", ""),
    ] {
        assert_eq!(fit_for_tag(revision), tag, "{revision}");
    }
}

#[test]
fn what_is_given_is_shown_without_its_secrets() {
    let given = Given {
        env: table([("TOKEN", "hunter2")]),
        ..given()
    };
    let shown = format!("{given:?}");
    assert!(
        shown.contains("TOKEN") && !shown.contains("hunter2"),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn every_release_has_a_name_and_a_tag(
        app in "[A-Za-z0-9][A-Za-z0-9_.-]{0,39}",
        revision in "[^\0]{0,128}",
    ) {
        let app = AppName::new(&app).unwrap();
        let name = workload_name(&app, &revision, &hash());
        prop_assert!(name.as_str().len() <= 63, "{}", name);
        prop_assert!(name.as_str().starts_with(app.as_str()));
        prop_assert!(name.as_str().ends_with("-01234567"));
        let tag = fit_for_tag(&revision);
        prop_assert!(tag.len() <= 128 && !tag.starts_with(['.', '-']), "{}", tag);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        prop_assert!(tag.bytes().all(fits), "{}", tag);
    }
}
