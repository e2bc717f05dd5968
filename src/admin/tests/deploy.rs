//! Making, showing, starting and removing workloads.

use serde_json::json;

use super::*;

const SPEC: &str =
    r#"{"name":"web-1","network":"lan","image":"web:1","labels":{"a":"b"},"envs":{"C":"d"}}"#;

#[tokio::test]
async fn a_specification_is_made_and_started() {
    let house = house().await;
    for target in ["/deploy", "/deploy/"] {
        let answer = house.post(target, SPEC).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("location"), "/deploy/web-1");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(
            answer.json(),
            json!({"result": "ok", "id": "id-of-web-1", "name": "web-1", "state": "starting"})
        );
    }
    assert_eq!(house.stage.orders()[0], "deploy web-1 start=true");
    assert_eq!(house.stage.views()[0].labels["a"], "b");
}

#[tokio::test]
async fn start_false_only_makes_it() {
    let house = house().await;
    let answer = house.post("/deploy?start=false", SPEC).await;
    assert_eq!(
        (answer.status, &answer.json()["state"]),
        (201, &json!("stopped"))
    );
    assert_eq!(house.stage.orders()[0], "deploy web-1 start=false");
}

#[tokio::test]
async fn a_query_that_means_nothing_is_refused() {
    let house = house().await;
    for (target, word) in [
        ("/deploy?start=perhaps", "start"),
        ("/deploy?strat=false", "strat"),
    ] {
        let detail = house.post(target, SPEC).await.problem(400, "bad_request");
        assert!(detail.contains(word), "{detail}");
    }
    assert!(house.stage.orders().is_empty());
}

#[tokio::test]
async fn a_template_is_filled_and_made() {
    let house = house().await;
    let answer = house
        .post("/deploy", r#"{"template":"web","vars":{"name":"w"}}"#)
        .await;
    assert_eq!((answer.status, &answer.json()["name"]), (201, &json!("w")));
    assert_eq!(house.stage.views()[0].image, "web:2");
}

#[tokio::test]
async fn an_unknown_template_is_refused_with_those_that_exist() {
    let house = house().await;
    let answer = house.post("/deploy", r#"{"template":"wbe"}"#).await;
    let detail = answer.problem(422, "unknown_template");
    assert_eq!(
        detail,
        r#"there is no template "wbe"; there are broken, web"#
    );
}

#[tokio::test]
async fn a_template_that_fails_is_refused_with_the_scripts_message_and_line() {
    let house = house().await;
    let answer = house.post("/deploy", r#"{"template":"broken"}"#).await;
    let detail = answer.problem(422, "template_failed");
    assert!(
        detail.contains("web.rhai:7:3: vars.id is missing"),
        "{detail}"
    );
    assert!(detail.contains("  vars.id\n  ^"), "{detail}");
}

#[tokio::test]
async fn everything_that_the_policy_refuses_is_listed_before_anything_is_made() {
    let house = house().await;
    let greedy = r#"{"name":"a","image":"","privileged":true,"network":"host"}"#;
    let answer = house.post("/deploy", greedy).await;
    let detail = answer.problem(422, "not_allowed");
    assert!(detail.contains("privileged"), "{detail}");
    let json = answer.json();
    let fields: Vec<_> = json["errors"].as_array().unwrap().iter().collect();
    let names: Vec<_> = fields.iter().map(|error| &error["field"]).collect();
    assert_eq!(names, ["image", "privileged", "network"]);
    assert!(fields.iter().all(|error| error["message"].is_string()));
    assert!(house.stage.orders().is_empty());
}

#[tokio::test]
async fn a_templates_specification_is_under_the_same_policy() {
    let house = house().await;
    let answer = house
        .post(
            "/deploy",
            r#"{"template":"web","vars":{"name":"w","privileged":1}}"#,
        )
        .await;
    answer.problem(422, "not_allowed");
    assert!(house.stage.orders().is_empty());
}

#[tokio::test]
async fn what_the_fleet_refuses_is_told_by_status_and_words() {
    let house = house().await;
    let text = |text: &str| text.to_owned();
    let cases = [
        (
            OrderError::NameTaken(text("web-1")),
            409,
            "name_taken",
            "web-1",
        ),
        (
            OrderError::ImageMissing(text("web:1")),
            422,
            "image_missing",
            "web:1",
        ),
        (
            OrderError::NetworkMissing(text("lan")),
            422,
            "network_missing",
            "lan",
        ),
        (
            OrderError::ImageNotFound(text("web:1")),
            422,
            "image_not_found",
            "web:1",
        ),
        (
            OrderError::RegistryDenied(text("no credentials")),
            422,
            "registry_denied",
            "no credentials",
        ),
        (
            OrderError::RegistryUnreachable(text("connection refused")),
            503,
            "registry_unreachable",
            "connection refused",
        ),
        (
            OrderError::Refused(text("bad mount")),
            422,
            "refused",
            "bad mount",
        ),
        (
            OrderError::EngineUnreachable(text("no socket")),
            503,
            "engine_unreachable",
            "no socket",
        ),
        (
            OrderError::Failed(text("exited with 1")),
            503,
            "failed",
            "exited with 1",
        ),
    ];
    for (refusal, status, kind, word) in cases {
        *house.stage.refusal.lock() = Some(refusal);
        let answer = house.post("/deploy", SPEC).await;
        let detail = answer.problem(status, kind);
        assert!(detail.contains(word), "{detail}");
        let may_come_back = matches!(kind, "engine_unreachable" | "registry_unreachable");
        let retry_after = if may_come_back { "5" } else { "" };
        assert_eq!(answer.header("retry-after"), retry_after, "{kind}");
    }
}

#[tokio::test]
async fn all_are_listed_by_name_and_each_is_shown_by_name_or_id() {
    let house = house().await;
    let ready = View {
        address: Some("10.0.0.2:80".to_owned()),
        idle_seconds: Some(2.5),
        leases: 3,
        ..view("b", "ready")
    };
    *house.stage.views.lock() = vec![ready, view("a", "stopped")];
    for target in ["/deploy", "/deploy/"] {
        let json = house.get(target).await.json();
        let names: Vec<_> = json["instances"].as_array().unwrap().iter().collect();
        let names: Vec<_> = names.iter().map(|view| &view["name"]).collect();
        assert_eq!(names, ["a", "b"]);
    }
    for target in ["/deploy/b", "/deploy/b/", "/deploy/id-of-b", "/deploy/%62"] {
        let answer = house.get(target).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        assert_eq!(json["phase"], "ready");
        assert_eq!(json["address"], "10.0.0.2:80");
        assert_eq!(
            (&json["leases"], &json["idle_seconds"]),
            (&json!(3), &json!(2.5))
        );
    }
}

#[tokio::test]
async fn an_unknown_workload_is_404_whatever_is_asked_of_it() {
    let house = house().await;
    for (method, target) in [
        ("GET", "/deploy/nobody"),
        ("PUT", "/deploy/nobody"),
        ("DELETE", "/deploy/nobody"),
        ("GET", "/deploy/..%2f..%2fetc"),
    ] {
        let answer = house.ask(method, target, &[], "").await;
        answer.problem(404, "unknown_workload");
    }
    let broken = house.get("/deploy/%ff").await;
    broken.problem(400, "bad_request");
}

#[tokio::test]
async fn put_starts_and_waits_only_when_asked() {
    let house = house().await;
    *house.stage.views.lock() = vec![view("a", "stopped")];
    let cases = [
        ("/deploy/a", "starting", "start a until_ready=None"),
        (
            "/deploy/a/?wait=ready",
            "ready",
            "start a until_ready=Some(60s)",
        ),
        (
            "/deploy/a?wait=ready&timeout=1500ms",
            "ready",
            "start a until_ready=Some(1.5s)",
        ),
        (
            "/deploy/a?wait=ready&timeout=7",
            "ready",
            "start a until_ready=Some(7s)",
        ),
    ];
    for (target, state, order) in cases {
        let answer = house.ask("PUT", target, &[], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.json(),
            json!({"result": "ok", "id": "id-of-a", "name": "a", "state": state})
        );
        assert!(house.stage.orders().contains(&order.to_owned()), "{order}");
    }
}

#[tokio::test]
async fn a_start_that_does_not_get_ready_says_why() {
    let house = house().await;
    *house.stage.views.lock() = vec![view("a", "stopped")];
    *house.stage.refusal.lock() = Some(OrderError::TimedOut(Duration::from_secs(2)));
    let late = house
        .ask("PUT", "/deploy/a?wait=ready&timeout=2s", &[], "")
        .await;
    assert!(late.problem(504, "timed_out").contains("within 2 s"));
    *house.stage.refusal.lock() = Some(OrderError::Failed("it exited with 3".to_owned()));
    let failed = house.ask("PUT", "/deploy/a?wait=ready", &[], "").await;
    assert_eq!(failed.problem(503, "failed"), "it exited with 3");
}

#[tokio::test]
async fn a_wait_without_sense_is_refused() {
    let house = house().await;
    *house.stage.views.lock() = vec![view("a", "stopped")];
    for query in [
        "wait=idle",
        "timeout=3s",
        "wait=ready&timeout=soon",
        "wait=ready&timeout=0",
        "wait=ready&timeout=11min",
        "wiat=ready",
    ] {
        let answer = house
            .ask("PUT", &format!("/deploy/a?{query}"), &[], "")
            .await;
        answer.problem(400, "bad_request");
    }
    assert!(house.stage.orders().is_empty());
}

#[tokio::test]
async fn delete_removes_by_name_or_id() {
    let house = house().await;
    *house.stage.views.lock() = vec![view("a", "ready"), view("b", "ready")];
    for (target, name) in [("/deploy/a", "a"), ("/deploy/id-of-b/", "b")] {
        let answer = house.ask("DELETE", target, &[], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.json(),
            json!({"result": "ok", "id": format!("id-of-{name}"), "name": name, "state": "removed"})
        );
    }
    assert!(house.stage.views().is_empty());
}

#[tokio::test]
async fn an_order_goes_on_when_its_client_goes_away() {
    let house = house().await;
    house.stage.stalled.send_replace(true);
    let headers = [
        &*format!("Host: {}", house.tcp()),
        "Content-Type: application/json",
    ];
    let mut stream = house.connect().await;
    stream
        .write_all(&request("POST", "/deploy", &headers, SPEC))
        .await
        .unwrap();
    house.stage.has_ordered("deploy web-1 start=true").await;
    // The listener, the connection and the order; then without the connection.
    assert_eq!(house.running.tasks.len(), 3);
    drop(stream);
    house.has_tasks(2).await;
    house.stage.stalled.send_replace(false);
    house
        .stage
        .has_ordered("deploy web-1 start=true done")
        .await;
}

#[tokio::test]
async fn an_order_that_panics_is_a_500_and_nothing_more() {
    let house = house().await;
    let answer = house
        .post("/deploy", r#"{"name":"a","image":"panic"}"#)
        .await;
    answer.problem(500, "internal_error");
    assert_eq!(house.post("/deploy", SPEC).await.status, 201);
}

#[tokio::test]
async fn orders_without_clients_do_not_pile_up() {
    let house = house().await;
    house.stage.stalled.send_replace(true);
    let headers = [
        &*format!("Host: {}", house.tcp()),
        "Content-Type: application/json",
    ];
    for number in 0..256 {
        let spec = format!(r#"{{"name":"w{number}","image":"i"}}"#);
        let mut stream = house.connect().await;
        stream
            .write_all(&request("POST", "/deploy", &headers, &spec))
            .await
            .unwrap();
        let order = format!("deploy w{number} start=true");
        house.stage.has_ordered(&order).await;
    }
    house.has_tasks(1 + 256).await;
    let answer = house.post("/deploy", SPEC).await;
    answer.problem(503, "too_many_orders");
    assert_eq!(answer.header("retry-after"), "1");
    house.stage.stalled.send_replace(false);
    house.has_tasks(1).await;
    assert_eq!(house.post("/deploy", SPEC).await.status, 201);
}

#[tokio::test]
async fn what_cannot_be_known_while_the_engine_is_away_is_not_denied() {
    let house = house().await;
    *house.stage.engine.lock() = Err("not listed yet".to_owned());
    for (method, target) in [
        ("GET", "/deploy"),
        ("GET", "/deploy/a"),
        ("PUT", "/deploy/a"),
        ("DELETE", "/deploy/a"),
    ] {
        let answer = house.ask(method, target, &[], "").await;
        let detail = answer.problem(503, "engine_unreachable");
        assert!(detail.contains("not listed yet"), "{detail}");
    }
    // What was known before is still shown.
    *house.stage.views.lock() = vec![view("a", "ready")];
    assert_eq!(house.get("/deploy").await.status, 200);
    assert_eq!(house.get("/deploy/a").await.status, 200);
}
