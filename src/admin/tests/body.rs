//! What is wrong with a body, and where.

use serde_json::json;

use super::*;

const SPEC: &str = r#"{"name":"web-1","image":"web:1"}"#;

#[tokio::test]
async fn wrong_json_is_refused_with_its_place() {
    let house = house().await;
    // Body; status; kind; field; line; column; a word of the detail.
    let cases = [
        (
            "{\n  \"name\": \"a\",\n  nope\n}",
            400,
            "invalid_json",
            "",
            3,
            3,
            "line 3, column 3",
        ),
        ("{\"name\":\"a\"", 400, "invalid_json", "", 1, 11, "EOF"),
        (
            "{\"name\":\"a\",\"image\":\"i\"} x",
            400,
            "invalid_json",
            "",
            1,
            26,
            "trailing",
        ),
        (
            "{\n \"name\":\"a\",\"image\":\"i\",\n \"memry\":1}",
            422,
            "invalid_body",
            "memry",
            3,
            8,
            "unknown field `memry`",
        ),
        (
            "{\"name\":\"a\",\"image\":\"i\",\"labels\":{\"k\":1}}",
            422,
            "invalid_body",
            "labels.k",
            1,
            39,
            "labels.k: invalid type",
        ),
        (
            "{\"name\":\"a b\",\"image\":\"i\"}",
            422,
            "invalid_body",
            "name",
            1,
            13,
            "is not a name",
        ),
        (
            "{\"name\":\"../etc\",\"image\":\"i\"}",
            422,
            "invalid_body",
            "name",
            1,
            16,
            "is not a name",
        ),
        (
            "{\"image\":\"i\"}",
            422,
            "invalid_body",
            "",
            1,
            13,
            "missing field `name`",
        ),
        (
            "{\"template\":\"web\",\"name\":\"a\"}",
            422,
            "invalid_body",
            "name",
            1,
            24,
            "unknown field `name`",
        ),
        (
            "{\"template\":1}",
            422,
            "invalid_body",
            "template",
            1,
            13,
            "expected a string",
        ),
    ];
    for (body, status, kind, field, line, column, word) in cases {
        let answer = house.post("/deploy", body).await;
        let detail = answer.problem(status, kind);
        assert!(detail.contains(word), "{body}: {detail}");
        let error = &answer.json()["errors"][0];
        assert_eq!(
            (&error["field"], &error["line"], &error["column"]),
            (&json!(field), &json!(line), &json!(column)),
            "{body}: {detail}"
        );
    }
    let array = house.post("/deploy", r#"["a","i"]"#).await;
    array.problem(422, "invalid_body");
    let empty = house.post("/deploy", "").await.problem(400, "bad_request");
    assert!(empty.contains("empty"), "{empty}");
    assert!(house.stage.orders().is_empty());
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let house = house().await;
    for headers in [
        &[][..],
        &["Content-Type: text/plain"],
        &["Content-Type: application/x-www-form-urlencoded"],
        &["Content-Type: application/jsonp"],
    ] {
        for (method, target) in [("POST", "/deploy"), ("PUT", "/deploy/web-1")] {
            let answer = house.ask(method, target, headers, SPEC).await;
            answer.problem(415, "wrong_content_type");
        }
    }
    let charset = ["content-type: Application/JSON; charset=utf-8"];
    assert_eq!(
        house.ask("POST", "/deploy", &charset, SPEC).await.status,
        201
    );
}

#[tokio::test]
async fn put_takes_an_empty_object_and_refuses_fields_that_it_would_ignore() {
    let house = house().await;
    *house.stage.views.lock() = vec![view("a", "stopped")];
    let json = ["Content-Type: application/json"];
    assert_eq!(house.ask("PUT", "/deploy/a", &json, "{}").await.status, 200);
    let answer = house
        .ask("PUT", "/deploy/a", &json, r#"{"image":"x"}"#)
        .await;
    assert!(answer.problem(422, "invalid_body").contains("image"));
}
