//! The scripts that are shipped do what the README says of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::json;
use wakegate::config::Given;
use wakegate::decision::{
    ContainerFacts, ContainerRules, Decision, ErrorFacts, IdleRule, ProxyDecision, ReadyRule,
    RequestFacts,
};
use wakegate::names::WorkloadName;
use wakegate::script::version::Version;

fn shipped() -> Version {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    match Version::load(&dir, &Given::default(), 1) {
        Ok(version) => version,
        Err(errors) => panic!("{}", errors[0]),
    }
}

fn facts<'a>(path: &'a str, headers: &'a HeaderMap) -> RequestFacts<'a> {
    RequestFacts {
        method: &Method::GET,
        scheme: "http",
        host: "localhost",
        path,
        query: "",
        headers,
        client: [127, 0, 0, 1].into(),
        at: 0,
    }
}

fn decide(path: &str) -> Option<Decision> {
    let decided = shipped().decide(&facts(path, &HeaderMap::new()));
    decided
        .unwrap()
        .map(|decided| Arc::unwrap_or_clone(decided.decision))
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn a_session_goes_to_the_container_of_its_name_with_its_path_as_it_is() {
    let to = |name| {
        Some(Decision::Proxy(ProxyDecision::to(
            WorkloadName::new(name).unwrap(),
        )))
    };
    assert_eq!(decide("/session/minion-1/"), to("minion-1"));
    assert_eq!(decide("/session/minion-1"), to("minion-1"));
    assert_eq!(decide("/session/minion-2/a/b%20c"), to("minion-2"));
    assert_eq!(decide("/"), None);
    assert_eq!(decide("/session/"), None);
}

#[test]
fn a_name_that_none_can_have_is_not_found_rather_than_a_failure() {
    for path in [
        "/session/a%2Fb/",
        "/session/%00/",
        "/session/..%2f/x",
        "/session/-/",
    ] {
        assert!(
            matches!(decide(path), Some(Decision::Respond(reply)) if reply.status == 404),
            "{path}"
        );
    }
}

#[test]
fn the_template_makes_a_minion() {
    let vars = |vars: serde_json::Value| vars.as_object().unwrap().clone();
    let spec = shipped()
        .template("minion", &vars(json!({"id": "1"})))
        .unwrap()
        .unwrap();
    assert_eq!(
        serde_json::to_value(&spec).unwrap(),
        json!({
            "name": "minion-1",
            "image": "minionapp:latest",
            "network": "traefiknet",
            "labels": {
                "healthcheck": "http://minion-1:9000/status",
                "traefik.enable": "true",
                "traefik.http.routers.minion-1.entrypoints": "web",
                "traefik.http.routers.minion-1.rule": "PathPrefix(\"/session/minion-1/\")",
            },
            "envs": { "CONNSTR": "db 1", "IDLE": "1m" },
        })
    );
    let spec = shipped()
        .template("minion", &vars(json!({"id": 2, "network": "other"})))
        .unwrap()
        .unwrap();
    assert_eq!(
        (spec.name.as_str(), spec.network.as_deref()),
        ("minion-2", Some("other"))
    );
    let missing = shipped().template("minion", &vars(json!({}))).unwrap_err();
    assert!(
        missing.message.contains("there is no \"id\""),
        "{}",
        missing.message
    );
}

#[test]
fn its_health_url_is_probed_or_two_seconds_are_waited() {
    let labels = |pairs| ContainerFacts {
        labels: texts(pairs),
        ..Default::default()
    };
    assert_eq!(
        shipped()
            .ready(&labels(&[("healthcheck", "http://minion-1:9000/status")]))
            .unwrap(),
        Some(ReadyRule::Probe {
            target: "http://minion-1:9000/status".to_owned(),
            every: Duration::from_millis(250),
            max: Duration::from_secs(60),
        })
    );
    let waits = Some(ReadyRule::Wait(Duration::from_secs(2)));
    assert_eq!(shipped().ready(&labels(&[])).unwrap(), waits);
}

#[test]
fn it_sleeps_after_the_time_in_its_environment() {
    let envs = |pairs| ContainerFacts {
        envs: texts(pairs),
        ..Default::default()
    };
    let after = |seconds| Some(IdleRule::StopAfter(Duration::from_secs(seconds)));
    assert_eq!(
        shipped().idle(&envs(&[("IDLE", "1m30s")])).unwrap(),
        after(90)
    );
    assert_eq!(shipped().idle(&envs(&[])).unwrap(), after(600));
    assert_eq!(
        shipped().idle(&envs(&[("IDLE", "0")])).unwrap(),
        Some(IdleRule::Never)
    );
}

#[test]
fn only_an_unknown_container_has_words_of_its_own() {
    let headers = HeaderMap::new();
    let on_error = |kind: &'static str| {
        let error = ErrorFacts {
            status: 404,
            kind: kind.into(),
            message: String::new(),
            workload: "minion-9".to_owned(),
            app: String::new(),
            retry_after_secs: None,
        };
        shipped()
            .on_error(&facts("/session/minion-9/", &headers), &error)
            .unwrap()
    };
    let reply = on_error("unknown_workload").unwrap();
    assert_eq!(
        (reply.status.as_u16(), &*reply.body),
        (404, "there is no container minion-9\n")
    );
    assert_eq!(on_error("hold_timeout"), None);
}
