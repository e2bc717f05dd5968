//! Requests for workloads that are asleep, and workloads that fall asleep under a request.

use std::sync::Arc;
use std::time::Duration;

use super::rig::{App, Setup, dead_address, field, name, status};
use crate::decision::Asleep;
use crate::lifecycle::fleet::Refusal;

const NAVIGATION: &str =
    "GET /x?y HTTP/1.1\r\nHost: h\r\nSec-Fetch-Mode: navigate\r\nAccept: text/html\r\n\r\n";

fn failed(reason: &str) -> Refusal {
    Refusal::Failed {
        workload: name("app"),
        reason: reason.into(),
        retry_after: Duration::from_millis(6500),
    }
}

#[tokio::test]
async fn a_request_is_held_until_its_workload_is_awake_and_its_body_with_it() {
    let rig = Setup::default().start();
    let mut client = rig.client().await;
    client
        .say("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    rig.world.waiters(1).await;
    rig.metric("wakegate_held_requests{workload=\"app\",route=\"/the/{route}\"} 1")
        .await;
    let (app, _gate) = rig.app().await;
    let mut app = app.accept().await;
    let (head, body) = app.message().await;
    assert!(head.starts_with("POST /x "));
    assert_eq!(body, "hello");
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    assert_eq!(client.message().await.1, "ok");
    rig.metric("wakegate_held_requests{workload=\"app\",route=\"/the/{route}\"} 0")
        .await;
    rig.metric("wakegate_wake_wait_seconds_count{workload=\"app\",route=\"/the/{route}\"} 1")
        .await;
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_up_with_and_without_a_body() {
    let rig = Setup::default().start();
    for request in [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        for reset in [false, true] {
            let mut client = rig.client().await;
            client.say(request).await;
            rig.world.waiters(1).await;
            if reset {
                client.reset();
            } else {
                drop(client);
            }
            rig.world.waiters(0).await;
        }
    }
}

#[tokio::test]
async fn a_hold_that_is_over_is_told_and_ends_alone() {
    let rig = Setup::default()
        .proxy(|decision| decision.wait = Some(Duration::from_millis(30)))
        .start();
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 504);
    assert!(body.contains("\"kind\":\"hold_timeout\""), "{body}");
    rig.world.waiters(0).await;
}

#[tokio::test]
async fn a_navigation_gets_a_page_and_the_application_when_it_is_awake() {
    let rig = Setup::default()
        .proxy(|decision| decision.asleep = Asleep::Page)
        .start();
    let mut browser = rig.client().await;
    browser.say(NAVIGATION).await;
    let (head, page) = browser.message().await;
    assert_eq!(status(&head), 503);
    assert_eq!(field(&head, "retry-after"), Some("1"));
    assert_eq!(field(&head, "cache-control"), Some("no-store"));
    assert_eq!(
        field(&head, "content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.contains("<h1>Waking app</h1>") && page.contains("http-equiv=\"refresh\""));
    assert_eq!(rig.world.nudges(), 1);
    let (app, _gate) = rig.app().await;
    browser.say(NAVIGATION).await;
    let mut app = app.accept().await;
    assert!(app.head().await.starts_with("GET /x?y "));
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    assert_eq!(browser.message().await.1, "ok");
}

#[tokio::test]
async fn with_a_page_what_is_no_navigation_is_held() {
    let rig = Setup::default()
        .proxy(|decision| decision.asleep = Asleep::Page)
        .start();
    let mut client = rig.client().await;
    client
        .say("GET / HTTP/1.1\r\nHost: h\r\nSec-Fetch-Mode: cors\r\nAccept: text/html\r\n\r\n")
        .await;
    rig.world.waiters(1).await;
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\nContent-Length: 1\r\n\r\nx")
        .await;
    rig.world.waiters(2).await;
    assert_eq!(rig.world.nudges(), 0);
}

#[tokio::test]
async fn the_page_says_why_a_workload_cannot_be_started() {
    let rig = Setup::default()
        .proxy(|decision| decision.asleep = Asleep::Page)
        .start();
    rig.world
        .refuse("app", failed("exit code 3 <before> it was ready"));
    let mut browser = rig.client().await;
    browser.say(NAVIGATION).await;
    let (head, page) = browser.message().await;
    assert_eq!(status(&head), 503);
    assert_eq!(field(&head, "retry-after"), Some("7"));
    assert!(
        page.contains("Exit code 3 &lt;before&gt; it was ready."),
        "{page}"
    );
    assert!(page.contains("content=\"7\""));
}

#[tokio::test]
async fn refusing_wakes_nothing() {
    let rig = Setup::default()
        .proxy(|decision| decision.asleep = Asleep::Refuse)
        .start();
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 503);
    assert!(body.contains("\"kind\":\"refused_asleep\""), "{body}");
    assert_eq!(rig.world.nudges(), 0);
    rig.world.waiters(0).await;
}

#[tokio::test]
async fn a_refused_connection_is_suspected_and_any_request_goes_to_the_next_run() {
    let rig = Setup::default().start();
    let dead = dead_address().await;
    rig.world.wake("app", dead);
    let app = App::listen().await;
    let address = app.address;
    rig.world
        .on_suspect(move |world, _| drop(world.wake("app", address)));
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    let mut app = app.accept().await;
    assert_eq!(app.message().await.1, "hello");
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(status(&client.message().await.0), 200);
    assert_eq!(rig.world.suspects(), 1);
    rig.metric("wakegate_upstream_retries_total{workload=\"app\",route=\"/the/{route}\"} 1")
        .await;
}

#[tokio::test]
async fn attempts_have_a_limit() {
    let rig = Setup::default().start();
    let dead = dead_address().await;
    rig.world.wake("app", dead);
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 502);
    assert!(body.contains("\"kind\":\"upstream_failed\""), "{body}");
    assert_eq!(rig.world.suspects(), 4);
}

#[tokio::test]
async fn a_suspected_run_that_is_over_is_waited_for_as_a_sleeping_one() {
    let rig = Setup::default().start();
    let dead = dead_address().await;
    let gate = rig.world.wake("app", dead);
    rig.world.on_suspect(move |_, _| gate.close());
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    rig.world.waiters(1).await;
    let (app, _gate) = rig.app().await;
    let mut app = app.accept().await;
    app.head().await;
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(status(&client.message().await.0), 200);
}

/// Leaves an idle connection to the application in the pool; gives the application's end of it.
async fn pooled(rig: &super::rig::Rig, app: &App) -> super::rig::Wire {
    let mut client = rig.client().await;
    client.say("GET /first HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut connection = app.accept().await;
    connection.head().await;
    connection
        .say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    client.message().await;
    connection
}

#[tokio::test]
async fn a_pooled_connection_that_dies_under_a_repeatable_request_is_replaced() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut old = pooled(&rig, &app).await;
    let mut client = rig.client().await;
    client.say("GET /second HTTP/1.1\r\nHost: h\r\n\r\n").await;
    // It is read, and not answered.
    assert!(old.head().await.starts_with("GET /second "));
    drop(old);
    let mut new = app.accept().await;
    assert!(new.head().await.starts_with("GET /second "));
    new.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(status(&client.message().await.0), 200);
    assert_eq!(rig.world.suspects(), 0);
}

#[tokio::test]
async fn a_fresh_connection_that_dies_under_a_repeatable_request_is_suspected() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut first = app.accept().await;
    first.head().await;
    first.reset();
    let mut second = app.accept().await;
    second.head().await;
    second
        .say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(status(&client.message().await.0), 200);
    assert_eq!(rig.world.suspects(), 1);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    for (request, begun) in [
        // Not idempotent, without and with a body.
        ("POST / HTTP/1.1\r\nHost: h\r\n\r\n", ""),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
            "",
        ),
        // Its body is gone.
        (
            "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
            "",
        ),
        // The answer has begun.
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 2"),
    ] {
        let mut client = rig.client().await;
        client.say(request).await;
        let mut connection = app.accept().await;
        connection.head().await;
        if request.ends_with('x') {
            connection.bytes(1).await;
        }
        connection.say(begun).await;
        drop(connection);
        let (head, body) = client.message().await;
        assert_eq!(status(&head), 502, "{request}");
        assert!(body.contains("\"kind\":\"upstream_failed\""), "{body}");
        assert!(app.is_unused());
        assert_eq!(gate.leases(), 0);
    }
    assert_eq!(rig.world.suspects(), 0);
}

#[tokio::test]
async fn a_workload_that_does_not_begin_to_answer_is_given_up() {
    let rig = Setup::default()
        // Long enough for the request to get there, also where the machine stalls.
        .proxy(|decision| decision.timeout = Some(Duration::from_secs(1)))
        .start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut app = app.accept().await;
    app.head().await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 504);
    assert!(body.contains("\"kind\":\"upstream_timeout\""), "{body}");
    app.ended().await;
}

#[tokio::test]
async fn refusals_have_their_statuses_and_when_to_come_again() {
    let rig = Setup::default().start();
    let reason: Arc<str> = "the reason".into();
    let (workload, retry_after) = (name("app"), Duration::from_secs(5));
    for (refusal, expected, kind, after, shown) in [
        (
            Refusal::Unknown(workload.clone()),
            404,
            "unknown_workload",
            None,
            true,
        ),
        (
            Refusal::QueueFull {
                workload: workload.clone(),
                retry_after,
            },
            503,
            "queue_full",
            Some("5"),
            true,
        ),
        (failed("the reason"), 503, "start_failed", Some("7"), true),
        (
            Refusal::EngineUnreachable {
                workload: workload.clone(),
                reason: reason.clone(),
                retry_after,
            },
            503,
            "engine_unreachable",
            Some("5"),
            true,
        ),
        (
            Refusal::Superseded(workload.clone()),
            503,
            "superseded",
            Some("1"),
            true,
        ),
        (
            Refusal::Template { workload, reason },
            502,
            "script_failed",
            None,
            false,
        ),
    ] {
        let says_reason = refusal.to_string().contains("the reason");
        rig.world.refuse("app", refusal);
        let mut client = rig.client().await;
        client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let (head, body) = client.message().await;
        assert_eq!(status(&head), expected, "{kind}");
        assert_eq!(field(&head, "retry-after"), after, "{kind}");
        assert!(body.contains(&format!("\"kind\":\"{kind}\"")), "{body}");
        assert_eq!(body.contains("the reason"), shown && says_reason, "{body}");
    }
    rig.metric("wakegate_script_failures_total 1").await;
    // A name that nothing has is not a label.
    rig.metric("wakegate_requests_total{workload=\"\",route=\"/the/{route}\",status=\"4xx\"} 1")
        .await;
}
