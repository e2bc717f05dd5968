//! What arrives at an application and what comes back, and over which connections.

use http::{HeaderName, HeaderValue};

use super::rig::{App, Setup, dead_address, field, fields, status};
use crate::decision::HeaderEdits;

#[tokio::test]
async fn a_request_and_its_answer_pass_byte_for_byte() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client
        .say("GET /a//b/../%2e%2F?x=%20&y= HTTP/1.1\r\nHost: Shop.example:8000\r\nX-A: 1\r\nX-A: 2\r\nCookie: a=b; c\r\nConnection: keep-alive, x-mine\r\nX-Mine: 1\r\n\r\n")
        .await;
    let mut app = app.accept().await;
    assert_eq!(
        app.head().await,
        "GET /a//b/../%2e%2F?x=%20&y= HTTP/1.1\r\nhost: Shop.example:8000\r\nx-a: 1\r\nx-a: 2\r\ncookie: a=b; c\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: Shop.example:8000\r\n\r\n"
    );
    app.say("HTTP/1.1 203 Quite Fine\r\nDate: today\r\nServer: theirs\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nyes")
        .await;
    assert_eq!(
        client.until("yes").await,
        "HTTP/1.1 203 Quite Fine\r\ndate: today\r\nserver: theirs\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 3\r\n\r\nyes"
    );
}

#[tokio::test]
async fn two_requests_use_the_same_connection_to_the_application() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut connection = None;
    // Also of two clients.
    for text in ["one", "two"] {
        let mut client = rig.client().await;
        client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        if connection.is_none() {
            connection = Some(app.accept().await);
        }
        let app = connection.as_mut().unwrap();
        app.head().await;
        app.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{text}"
        ))
        .await;
        assert_eq!(client.message().await.1, text);
        rig.metric(&format!(
            "wakegate_requests_total{{workload=\"app\",route=\"/the/{{route}}\",status=\"2xx\"}} {}",
            if text == "one" { 1 } else { 2 }
        ))
        .await;
    }
    assert!(app.is_unused());
    assert_eq!(gate.leases(), 0);
}

#[tokio::test]
async fn idle_connections_are_closed_at_once_when_the_run_ends() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut old = app.accept().await;
    old.head().await;
    old.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    client.message().await;
    gate.close();
    old.ended().await;
    // The next run at the same address gets a connection of its own.
    rig.world.wake("app", app.address);
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut new = app.accept().await;
    new.head().await;
    new.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(status(&client.message().await.0), 200);
}

#[tokio::test]
async fn idle_connections_are_closed_after_their_time() {
    let rig = Setup::default()
        .config(|config| config.upstream.idle_timeout = std::time::Duration::from_millis(50))
        .start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut app = app.accept().await;
    app.head().await;
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    client.message().await;
    app.ended().await;
    assert!(gate.is_open());
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_allowed() {
    let rig = Setup::default()
        .config(|config| config.upstream.idle_connections_max = 1)
        .start();
    let (app, _gate) = rig.app().await;
    let (mut one, mut two) = (rig.client().await, rig.client().await);
    one.say("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut first = app.accept().await;
    first.head().await;
    two.say("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut second = app.accept().await;
    second.head().await;
    first
        .say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    one.message().await;
    second
        .say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    two.message().await;
    // The older one made room.
    first.ended().await;
    one.say("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(second.head().await.starts_with("GET /3 "));
}

#[tokio::test]
async fn the_decision_changes_port_path_and_fields() {
    let app = App::listen().await;
    let port = app.address.port();
    let edits = |name: &'static str, value: &'static str| HeaderEdits {
        edits: vec![
            (
                HeaderName::from_static(name),
                Some(HeaderValue::from_static(value)),
            ),
            (HeaderName::from_static("x-drop"), None),
        ],
    };
    let rig = Setup::default()
        .proxy(move |decision| {
            decision.port = Some(port);
            decision.strip = 2;
            decision.request_headers = edits("x-in", "1");
            decision.response_headers = edits("x-out", "2");
        })
        .start();
    let nothing_here = dead_address().await;
    rig.world.wake("app", nothing_here);
    let mut client = rig.client().await;
    client
        .say("GET /s/one/a%20b?q HTTP/1.1\r\nHost: h\r\nX-Drop: 1\r\n\r\n")
        .await;
    let mut app = app.accept().await;
    let head = app.head().await;
    assert!(head.starts_with("GET /a%20b?q HTTP/1.1\r\n"), "{head}");
    assert_eq!(
        (field(&head, "x-in"), field(&head, "x-drop")),
        (Some("1"), None)
    );
    app.say("HTTP/1.1 200 OK\r\nX-Drop: 1\r\nX-Out: a\r\nX-Out: b\r\nContent-Length: 0\r\n\r\n")
        .await;
    let (head, _) = client.message().await;
    assert_eq!(fields(&head, "x-out"), ["2"]);
    assert_eq!(field(&head, "x-drop"), None);
}

#[tokio::test]
async fn answers_without_a_body_are_told_as_such() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say("HEAD /1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut app = app.accept().await;
    app.head().await;
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
        .await;
    assert_eq!(field(&client.head().await, "content-length"), Some("1234"));
    for (number, answer) in [(2, "204 No Content"), (3, "304 Not Modified")] {
        client
            .say(format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        let asked = app.head().await;
        assert!(asked.starts_with(&format!("GET /{number} ")), "{asked}");
        app.say(format!("HTTP/1.1 {answer}\r\nETag: x\r\n\r\n"))
            .await;
        let head = client.head().await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {answer}\r\n")),
            "{head}"
        );
        assert_eq!(field(&head, "content-length"), None);
        assert_eq!(field(&head, "transfer-encoding"), None);
    }
}

#[tokio::test]
async fn an_http_1_0_client_gets_a_plain_answer_and_the_end_of_the_connection() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.0\r\n\r\n").await;
    let address = app.address;
    let mut app = app.accept().await;
    let head = app.head().await;
    assert!(head.starts_with("GET / HTTP/1.1\r\n"));
    assert_eq!(field(&head, "host"), Some(address.to_string().as_str()));
    app.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n")
        .await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nyes"), "{answer}");
    assert!(!answer.contains("chunked"));
}

#[tokio::test]
async fn trusted_proxies_are_believed() {
    let rig = Setup::default()
        .config(|config| config.public.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()])
        .rule(|facts| {
            use crate::decision::{Decision, Reply};
            Ok(Some(Decision::Respond(Reply {
                status: http::StatusCode::OK,
                body: format!("{} {} {}", facts.client, facts.scheme, facts.host).into(),
                retry_after: None,
                headers: HeaderEdits::default(),
            })))
        })
        .start();
    let mut client = rig.client().await;
    client
        .say("GET / HTTP/1.1\r\nHost: h:1\r\nX-Forwarded-For: 6.6.6.6, 1.2.3.4, 127.0.0.9\r\nX-Forwarded-Proto: https\r\n\r\n")
        .await;
    assert_eq!(client.message().await.1, "1.2.3.4 https h");
}

#[tokio::test]
async fn a_workload_without_a_port_is_told_what_to_set() {
    let rig = Setup::default().start();
    rig.world.open("app", [127, 0, 0, 1].into(), None);
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 502);
    assert!(
        body.contains("\"kind\":\"no_port\"") && body.contains("expose one"),
        "{body}"
    );
}
