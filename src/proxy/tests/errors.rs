//! Answers that the gateway makes itself, and what scripts may say in them.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::rig::{Setup, field, status};
use crate::decision::{Decision, HeaderEdits, Redirect, Reply, ScriptFailure};

fn failure() -> ScriptFailure {
    ScriptFailure {
        message: "a.rhai:1:2: it is wrong".to_owned(),
        source_line: Some("wrong".to_owned()),
    }
}

fn reply(body: &str) -> Reply {
    Reply {
        status: StatusCode::IM_A_TEAPOT,
        body: body.into(),
        retry_after: Some(Duration::from_millis(1500)),
        headers: HeaderEdits {
            edits: vec![
                (
                    HeaderName::from_static("content-type"),
                    Some(HeaderValue::from_static("text/markdown")),
                ),
                (
                    HeaderName::from_static("content-length"),
                    Some(HeaderValue::from_static("99")),
                ),
            ],
        },
    }
}

#[tokio::test]
async fn programs_get_problem_details_and_browsers_a_page_with_the_same_words() {
    let rig = Setup::default().rule(|_| Ok(None)).start();
    let mut client = rig.client().await;
    client
        .say("GET /<x> HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n")
        .await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 400, "'<' is not allowed in a path");
    let _ = body;
    let mut client = rig.client().await;
    client
        .say("GET /x%3Cb HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n")
        .await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 404);
    assert_eq!(
        field(&head, "content-type"),
        Some("application/problem+json")
    );
    assert_eq!(field(&head, "cache-control"), Some("no-store"));
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["type"], "about:blank");
    assert_eq!(problem["title"], "Not Found");
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["kind"], "no_route");
    assert_eq!(problem["detail"], "no route matches /x%3Cb");
    assert_eq!(problem["instance"], field(&head, "wakegate-error").unwrap());
    client
        .say("GET /x HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n")
        .await;
    let (head, page) = client.message().await;
    assert_eq!(status(&head), 404);
    assert_eq!(
        field(&head, "content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.contains("No route matches /x."), "{page}");
    assert!(page.contains(field(&head, "wakegate-error").unwrap()));
}

#[tokio::test]
async fn a_script_that_fails_is_an_error_with_an_id_and_without_its_place() {
    let rig = Setup::default().rule(|_| Err(failure())).start();
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 502);
    assert!(body.contains("\"kind\":\"script_failed\""), "{body}");
    assert!(!body.contains("rhai") && !body.contains("wrong"), "{body}");
    rig.metric("wakegate_script_failures_total 1").await;
}

#[tokio::test]
async fn scripts_have_their_own_words_for_errors() {
    let rig = Setup::default()
        .rule(|_| Ok(None))
        .on_error(|error| {
            assert_eq!((error.status, &*error.kind), (404, "no_route"));
            Ok(Some(reply(&error.message)))
        })
        .start();
    let mut client = rig.client().await;
    client.say("GET /x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 418);
    assert_eq!(field(&head, "retry-after"), Some("2"));
    assert_eq!(field(&head, "content-type"), Some("text/markdown"));
    assert!(field(&head, "wakegate-error").is_some());
    assert_eq!(body, "no route matches /x");
}

#[tokio::test]
async fn words_that_fail_are_replaced_by_the_built_in_ones() {
    let rig = Setup::default()
        .rule(|_| Ok(None))
        .on_error(|_| Err(failure()))
        .start();
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 404);
    assert!(body.contains("\"kind\":\"no_route\""), "{body}");
    rig.metric("wakegate_script_failures_total 1").await;
}

#[tokio::test]
async fn scripts_answer_and_redirect() {
    let rig = Setup::default()
        .rule(|facts| {
            Ok(Some(match facts.path {
                "/r" => Decision::Redirect(Redirect {
                    status: StatusCode::FOUND,
                    location: HeaderValue::from_static("https://elsewhere.example/"),
                    headers: HeaderEdits::default(),
                }),
                _ => Decision::Respond(reply("hello")),
            }))
        })
        .start();
    let mut client = rig.client().await;
    client.say("GET /r HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, _) = client.message().await;
    assert_eq!(status(&head), 302);
    assert_eq!(field(&head, "location"), Some("https://elsewhere.example/"));
    client.say("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let head = client.head().await;
    // Also the script's own wrong length changes nothing.
    assert_eq!(
        (status(&head), field(&head, "content-length")),
        (418, Some("5"))
    );
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert_eq!((status(&head), body.as_str()), (418, "hello"));
}

#[tokio::test]
async fn a_path_that_is_none_is_the_scripts_fault() {
    let rig = Setup::default()
        .proxy(|decision| decision.path = Some("/a?b".to_owned()))
        .start();
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 502);
    assert!(body.contains("\"kind\":\"script_failed\""), "{body}");
    rig.world.waiters(0).await;
}
