//! Health, readiness, metrics, scripts; paths and methods that there are not.

use serde_json::json;

use super::*;

#[tokio::test]
async fn healthz_needs_neither_a_token_nor_a_known_host() {
    let house = house_with(&with_token("secret")).await;
    for target in ["/healthz", "/healthz/"] {
        let answer = house
            .raw(&request("GET", target, &["Host: whatever.example"], ""))
            .await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"status": "ok"}))
        );
    }
}

#[tokio::test]
async fn readyz_says_what_is_missing() {
    let house = house().await;
    for target in ["/readyz", "/readyz/"] {
        assert_eq!(house.get(target).await.status, 200);
    }
    *house.stage.engine.lock() = Err("the engine does not answer".to_owned());
    let answer = house.get("/readyz").await;
    let detail = answer.problem(503, "not_ready");
    assert_eq!(detail, "engine: the engine does not answer");

    let stage = Stage::new();
    let parts = Parts {
        templates: Arc::new(Book { loaded: false }),
        ..parts(&stage)
    };
    let running = crate::admin::start(&configured(), parts).await.unwrap();
    let house = House { stage, running };
    let answer = house.get("/readyz").await;
    assert_eq!(
        answer.problem(503, "not_ready"),
        "scripts: no scripts are loaded"
    );
    assert_eq!(answer.json()["errors"][0]["field"], "scripts");
}

#[tokio::test]
async fn metrics_are_openmetrics_text() {
    let house = house().await;
    for target in ["/metrics", "/metrics/"] {
        let answer = house.get(target).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("content-type"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        assert!(
            answer.body.contains("wakegate_starts_total 1\n"),
            "{}",
            answer.body
        );
        assert!(answer.body.ends_with("# EOF\n"));
    }
}

#[tokio::test]
async fn scripts_are_shown_by_version_and_hash() {
    let house = house().await;
    for target in ["/scripts", "/scripts/"] {
        assert_eq!(
            house.get(target).await.json(),
            json!({
                "version": 3, "hash": "abc", "since": "2026-01-02T03:04:05.000Z",
                "rolled_back": false, "routes": [], "templates": ["broken", "web"],
                "refused": null, "kept": [], "tests": 0, "shadow": null, "held": null,
                "rolled_back_because": null,
            })
        );
    }
}

#[tokio::test]
async fn scripts_are_rolled_back_and_activated() {
    let house = house().await;
    let json_type = ["Content-Type: application/json"];
    let to = async |body: &str| {
        house
            .ask("POST", "/scripts/rollback", &json_type, body)
            .await
    };
    let answer = to("{\"version\": 2}").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["version"], 2);
    assert_eq!(answer.json()["rolled_back"], true);
    let detail = to("{\"version\": 7}")
        .await
        .problem(422, "version_not_kept");
    assert_eq!(detail, "version 7 is not kept (kept: 1, 2, 3)");
    to("{\"versoin\": 7}").await.problem(422, "invalid_body");

    let answer = house.ask("POST", "/scripts/rollback", &[], "").await;
    let detail = answer.problem(409, "no_version_before");
    assert_eq!(detail, "there is no good version before version 3");

    let answer = house.ask("POST", "/scripts/activate/", &[], "").await;
    assert_eq!(
        (answer.status, answer.json()["version"].as_u64()),
        (200, Some(3))
    );
}

#[tokio::test]
async fn an_unknown_path_is_a_404_that_names_the_known_ones() {
    let house = house().await;
    for target in ["/nope", "/page", "/deploy/a/b", "//deploy"] {
        let detail = house.get(target).await.problem(404, "unknown_path");
        assert!(detail.contains("/deploy"), "{detail}");
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_a_405_that_names_those_it_takes() {
    let house = house().await;
    for (method, target, allow) in [
        ("DELETE", "/deploy", "GET,HEAD,POST"),
        ("OPTIONS", "/deploy/", "GET,HEAD,POST"),
        ("POST", "/deploy/a", "GET,HEAD,PUT,DELETE"),
        ("PATCH", "/deploy/a/", "GET,HEAD,PUT,DELETE"),
        ("POST", "/healthz", "GET,HEAD"),
        ("POST", "/readyz", "GET,HEAD"),
        ("PUT", "/metrics", "GET,HEAD"),
        ("BREW", "/scripts", "GET,HEAD"),
        ("GET", "/scripts/rollback", "POST"),
    ] {
        let answer = house.ask(method, target, &[], "").await;
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allow, "{method} {target}");
    }
    let head = house.ask("HEAD", "/deploy", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}
