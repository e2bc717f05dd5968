//! The scripts as they are shown: what decides, what is refused and why, what can be gone back to.

use prometheus_client::registry::Registry;
use serde_json::json;

use super::*;
use crate::config::ScriptLimits;
use crate::script::current::Scripts;
use crate::script::decider::Decider;
use crate::script::head::Head;
use crate::script::history::History;
use crate::script::shadow::{Difference, Report};
use crate::script::trial::Trial;
use crate::script::version::Version;

fn version(text: &str, number: u64) -> Result<Version, Vec<crate::script::error::ScriptError>> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.rhai"), text).unwrap();
    let limits = ScriptLimits {
        load_cpu_time_max: Duration::from_secs(20),
        ..ScriptLimits::default()
    };
    Version::load(dir.path(), &limits.into(), number)
}

fn good(text: &str, number: u64) -> Version {
    version(text, number).unwrap_or_else(|errors| panic!("{}", errors[0]))
}

/// A house over real scripts, whose first version has a route, and whose second a template too.
async fn house_of_two() -> (House, Arc<History>) {
    let mut registry = Registry::with_prefix("wakegate");
    let first = good("route(\"/a\", |req| respond(200, \"1\"));", 1);
    let history = History::new(Scripts::new(first), &mut registry);
    let second = "route(\"/b\", |req| respond(200, \"2\"));\n\
                  template(\"web\", |vars| #{ name: \"web\", image: \"web:1\" });";
    history.take(good(second, 2), Trial::default(), false);
    let stage = Stage::new();
    let parts = Parts {
        templates: history.clone(),
        registry: Arc::new(registry),
        ..parts(&stage)
    };
    let running = crate::admin::start(&configured(), parts).await.unwrap();
    (House { stage, running }, history)
}

#[tokio::test]
async fn the_version_that_decides_is_shown_with_its_routes_and_those_before_it() {
    let (house, _) = house_of_two().await;
    let shown = house.get("/scripts").await.json();
    assert_eq!(shown["version"], 2);
    assert_eq!(shown["rolled_back"], false);
    assert_eq!(shown["routes"][0]["pattern"], "/b");
    assert_eq!(shown["routes"][0]["line"], 1);
    assert_eq!(shown["templates"], json!(["web"]));
    assert_eq!(shown["refused"], json!(null));
    let since = shown["since"].as_str().unwrap();
    assert!(humantime::parse_rfc3339(since).is_ok(), "{since}");
    let kept = shown["kept"].as_array().unwrap();
    let numbers: Vec<_> = kept.iter().map(|kept| &kept["version"]).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(kept[1]["hash"], shown["hash"]);
}

#[tokio::test]
async fn a_refusal_is_shown_with_every_error_its_place_and_its_line() {
    let (house, history) = house_of_two().await;
    let text = "let a = 1;\nroute(\"/x\", |req| porxy(\"a\"));\nroute(\"/y\", |req| rdirect(1));";
    history.refuse(version(text, 3).err().unwrap());
    let shown = house.get("/scripts").await.json();
    assert_eq!(shown["version"], 2);
    let errors = shown["refused"]["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0]["file"].as_str().unwrap().ends_with("/a.rhai"));
    assert_eq!(
        (&errors[0]["line"], &errors[0]["column"]),
        (&json!(2), &json!(19))
    );
    assert!(errors[0]["message"].as_str().unwrap().contains("porxy"));
    let excerpt = "2 | route(\"/x\", |req| porxy(\"a\"));\n  |                   ^";
    assert_eq!(errors[0]["excerpt"], excerpt);
    assert_eq!(errors[1]["line"], 3);

    let metrics = house.get("/metrics").await.body;
    for line in [
        "wakegate_script_refused 1\n",
        "wakegate_script_version 2\n",
        "wakegate_script_reloads_total{result=\"refused\"} 1\n",
        "wakegate_script_reloads_total{result=\"loaded\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_rollback_and_its_end_change_what_decides() {
    let (house, history) = house_of_two().await;
    let answer = house.ask("POST", "/scripts/rollback", &[], "").await;
    assert_eq!(answer.json()["version"], 1);
    assert_eq!(answer.json()["rolled_back"], true);
    assert_eq!(history.scripts().current.load().number(), 1);
    let answer = house.ask("POST", "/scripts/activate", &[], "").await;
    assert_eq!(answer.json()["version"], 2);
    assert_eq!(answer.json()["rolled_back"], false);
    assert_eq!(history.scripts().current.load().number(), 2);
    let metrics = house.get("/metrics").await.body;
    assert!(metrics.contains("wakegate_script_version 2\n"));
    assert!(metrics.contains("wakegate_script_reloads_total{result=\"rolled_back\"} 1\n"));
}

#[tokio::test]
async fn what_a_change_decides_otherwise_and_what_is_held_for_it_is_shown() {
    let (house, history) = house_of_two().await;
    let report = Report {
        compared: 5,
        changed: 2,
        differences: vec![Difference {
            method: "GET".to_owned(),
            host: "h".to_owned(),
            path: "/b".to_owned(),
            before: "respond 200".to_owned(),
            after: "respond 204".to_owned(),
            requests: 2,
        }],
        ..Report::default()
    };
    let trial = Trial {
        tests: 7,
        shadow: Some(report),
    };
    history.take(good("route(\"/b\", |req| respond(204));", 3), trial, true);
    let shown = house.get("/scripts").await.json();
    assert_eq!(
        (&shown["version"], &shown["shadow"]),
        (&json!(2), &json!(null))
    );
    let held = &shown["held"];
    assert_eq!((&held["version"], &held["tests"]), (&json!(3), &json!(7)));
    let expected = json!({
        "compared": 5, "uncompared": 0, "left_out": 0, "changed": 2,
        "differences": [{ "method": "GET", "host": "h", "path": "/b", "before": "respond 200",
                          "after": "respond 204", "requests": 2 }],
    });
    assert_eq!(held["shadow"], expected);
    let metrics = house.get("/metrics").await.body;
    assert!(metrics.contains("wakegate_script_held 1\n"), "{metrics}");

    let shown = house.ask("POST", "/scripts/activate", &[], "").await.json();
    assert_eq!(
        (&shown["version"], &shown["held"]),
        (&json!(3), &json!(null))
    );
    assert_eq!((&shown["shadow"], &shown["tests"]), (&expected, &json!(7)));
}

#[tokio::test]
async fn decisions_are_counted_by_what_the_memo_did_for_them() {
    let (house, history) = house_of_two().await;
    let mut decider = Decider::new(history.scripts().clone());
    for path in ["/b", "/b", "/b", "/none"] {
        let head = Head::made_up("GET", path).unwrap();
        decider.decide(&head.facts()).unwrap();
    }
    history.take(
        good("route(\"/b\", |req| proxy(req.path));", 3),
        Trial::default(),
        false,
    );
    let head = Head::made_up("GET", "/b").unwrap();
    assert!(decider.decide(&head.facts()).is_err());
    let metrics = house.get("/metrics").await.body;
    for line in [
        "wakegate_script_decisions_total{memo=\"hit\"} 2\n",
        "wakegate_script_decisions_total{memo=\"miss\"} 1\n",
        "wakegate_script_decisions_total{memo=\"bypass\"} 1\n",
        "wakegate_script_decision_failures_total 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_decision_is_explained_with_the_workload_as_it_is() {
    let mut registry = Registry::with_prefix("wakegate");
    let text = "route(\"/w/{name}\", |req| proxy(req.param(\"name\")));\n\
                ready(|c| if c.label(\"health\") != \"\" { probe(c.label(\"health\")) });";
    let history = History::new(Scripts::new(good(text, 1)), &mut registry);
    let stage = Stage::new();
    let mut known = view("a", "ready");
    known.labels = [("health".to_owned(), "/ok".to_owned())].into();
    stage.views.lock().push(known);
    let parts = Parts {
        templates: history,
        registry: Arc::new(registry),
        ..parts(&stage)
    };
    let running = crate::admin::start(&configured(), parts).await.unwrap();
    let house = House { stage, running };
    let json_type = ["Content-Type: application/json"];
    let explain = async |body: &str| {
        house
            .ask("POST", "/scripts/explain", &json_type, body)
            .await
    };
    let told = explain("{\"method\": \"GET\", \"url\": \"/w/a\", \"headers\": [[\"x-a\", \"1\"]]}")
        .await
        .json();
    assert_eq!(told["decision"], "proxy a");
    assert_eq!(
        told["reads"][0],
        json!({ "field": "param name", "value": "a" })
    );
    assert_eq!(told["workload"]["state"]["phase"], "ready");
    assert_eq!(told["workload"]["ready"]["target"], "/ok");
    let told = explain("{\"method\": \"GET\", \"url\": \"/w/b\"}")
        .await
        .json();
    assert_eq!(told["workload"]["state"], json!(null));
    assert_eq!(told["workload"]["ready"]["kind"], "none");
    let refused = explain("{\"method\": \"GET\", \"url\": \"nowhere\"}").await;
    assert_eq!(
        (refused.status, &refused.json()["kind"]),
        (422, &json!("invalid_request"))
    );
    let refused = explain("{\"method\": \"GET\"}").await;
    assert_eq!(refused.status, 422);
}
