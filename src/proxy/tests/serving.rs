//! The listener and HTTP itself: what is malformed, what is too much, and how it all stops.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;

use super::rig::{LIMIT, Setup, Wire, field, soon, status};
use crate::config::Listen;
use crate::decision::{Decision, HeaderEdits, Reply, RequestFacts, ScriptFailure};
use crate::proxy::{Bound, Metrics, Proxy};

/// Answers everything itself, with the host and path that it was asked for.
fn echo(facts: &RequestFacts<'_>) -> Result<Option<Decision>, ScriptFailure> {
    Ok(Some(Decision::Respond(Reply {
        status: http::StatusCode::OK,
        body: format!("{}{} from {}", facts.host, facts.path, facts.client).into(),
        retry_after: None,
        headers: HeaderEdits::default(),
    })))
}

#[tokio::test]
async fn what_is_no_valid_request_is_refused_and_the_connection_closed() {
    let rig = Setup::default().rule(echo).start();
    for (request, expected) in [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nno colon\r\nHost: h\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\nHost: h\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 501),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
    ] {
        let mut client = rig.client().await;
        client.say(request).await;
        let (head, _) = client.message().await;
        assert_eq!(status(&head), expected, "{request}");
        client.rest().await;
    }
}

#[tokio::test]
async fn of_two_framings_chunked_counts_and_the_connection_ends() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    // The smuggled request is inside the body by one reading and after it by the other.
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    let mut app_end = app.accept().await;
    let head = app_end.head().await;
    assert_eq!(field(&head, "content-length"), None);
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(app_end.until("0\r\n\r\n").await, "0\r\n\r\n");
    app_end
        .say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    let (head, _) = client.message().await;
    assert_eq!(field(&head, "connection"), Some("close"));
    client.ended().await;
    assert!(app.is_unused() && app_end.buffer.is_empty());
}

#[tokio::test]
async fn absolute_and_asterisk_targets_are_understood() {
    let rig = Setup::default().rule(echo).start();
    let mut client = rig.client().await;
    client
        .say("GET http://a.example:8/x?y HTTP/1.1\r\nHost: other\r\n\r\n")
        .await;
    assert_eq!(client.message().await.1, "a.example/x from 127.0.0.1");
    client.say("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, _) = client.message().await;
    assert_eq!(status(&head), 200);
    assert!(field(&head, "allow").unwrap().contains("OPTIONS"));
}

#[tokio::test]
async fn a_head_may_have_so_many_bytes_and_fields() {
    let rig = Setup::default()
        .rule(echo)
        .config(|config| {
            config.public.head_bytes_max = 8 << 10;
            config.public.headers_max = 10;
        })
        .start();
    let large = "x".repeat(60 << 10);
    let many: String = (0..10).map(|n| format!("X-{n}: 1\r\n")).collect();
    for fields in [format!("X-Large: {large}\r\n"), many] {
        let mut client = rig.client().await;
        client
            .say(format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
            .await;
        assert_eq!(status(&client.head().await), 431);
        client.rest().await;
    }
    let mut client = rig.client().await;
    let large = "x".repeat(7 << 10);
    client
        .say(format!(
            "GET / HTTP/1.1\r\nHost: h\r\nX-Large: {large}\r\n\r\n"
        ))
        .await;
    assert_eq!(status(&client.message().await.0), 200);
}

/// A proxy in front may still be sending it, and would tell of a connection that ends in place of the
/// answer.
#[tokio::test]
async fn a_small_body_that_nobody_needs_is_read_before_the_answer() {
    let rig = Setup::default()
        .rule(|facts| match facts.path {
            "/none" => Ok(None),
            "/broken" => Err(ScriptFailure {
                message: "broken".into(),
                source_line: None,
            }),
            _ => echo(facts),
        })
        .start();
    for (path, expected) in [("/", 200), ("/none", 404), ("/broken", 502)] {
        let mut client = rig.client().await;
        for round in 0..2 {
            let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 65536\r\n\r\n");
            client.say(head).await;
            client.say(vec![b'x'; 65_535]).await;
            let early = tokio::time::timeout(Duration::from_millis(50), client.head()).await;
            assert!(early.is_err(), "{early:?}");
            client.say("x").await;
            assert_eq!(status(&client.message().await.0), expected, "{round}");
        }
    }
    // A large one, or one whose length nobody knows, is not waited for.
    for length in ["Content-Length: 65537", "Transfer-Encoding: chunked"] {
        let mut client = rig.client().await;
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{length}\r\n\r\n");
        client.say(head).await;
        assert_eq!(status(&client.message().await.0), 200);
    }
}

const WHOLE: &str = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_head_that_never_ends_is_not_waited_for() {
    // Begun and never ended, never begun, and the same after a request, which has to come in time.
    let hour = 3_600_000;
    for (request, begun, head_ms, idle_ms) in [
        ("", "GET / HTTP/1.1\r\nHost: h\r\nX-", 50, hour),
        ("", "", 50, hour),
        (WHOLE, "GET / HTTP/1.1\r\nHost: h\r\nX-", 4_000, hour),
        (WHOLE, "", hour, 50),
    ] {
        let rig = Setup::default()
            .rule(echo)
            .config(|config| {
                config.public.head_timeout = Duration::from_millis(head_ms);
                config.public.idle_timeout = Duration::from_millis(idle_ms);
            })
            .start();
        let mut client = rig.client().await;
        if !request.is_empty() {
            client.say(request).await;
            assert_eq!(status(&client.message().await.0), 200);
        }
        client.say(begun).await;
        assert_eq!(client.rest().await, "", "{begun:?}");
        drop(client);
        rig.metric("wakegate_client_connections 0").await;
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let rig = Setup::default().rule(echo).start();
    let mut client = rig.client().await;
    let requests: String = (0..20)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n"))
        .collect();
    client.say(requests).await;
    for n in 0..20 {
        assert_eq!(client.message().await.1, format!("h/{n} from 127.0.0.1"));
    }
}

#[tokio::test]
async fn past_the_limit_connections_wait_until_one_ends() {
    let rig = Setup::default()
        .rule(echo)
        .config(|config| {
            config.public.workers = 2;
            config.public.connections_max = 1;
        })
        .start();
    let mut one = rig.client().await;
    one.say("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    one.message().await;
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut other = rig.client().await;
        other.say("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n").await;
        others.push(other);
    }
    // The one that is served still is, and only it.
    one.say("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    one.message().await;
    assert!(rig.metrics().contains("wakegate_client_connections 1\n"));
    for other in &others {
        assert!(other.stream.try_read(&mut [0]).is_err());
    }
    drop(one);
    // The kernel chose the order.
    while !others.is_empty() {
        let waits: Vec<_> = others
            .iter()
            .map(|other| Box::pin(other.stream.readable()))
            .collect();
        let (_, served, _) = soon(futures_util::future::select_all(waits)).await;
        let mut other = others.swap_remove(served);
        assert_eq!(status(&other.message().await.0), 200);
    }
}

#[tokio::test]
async fn all_workers_serve_the_same_port() {
    let rig = Setup::default()
        .rule(echo)
        .config(|config| config.public.workers = 3)
        .start();
    for _ in 0..30 {
        let mut client = rig.client().await;
        client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(status(&client.message().await.0), 200);
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_also_when_another_gateway_has_it() {
    let rig = Setup::default().start();
    let taken = rig.address();
    let setup = Setup::default().config(|config| config.public.listen = Listen::Tcp(taken));
    let mut registry = crate::metrics::registry();
    let metrics = Metrics::new(&mut registry);
    let error = Proxy::start_with(
        Arc::new(setup.config),
        rig.world.clone(),
        setup.apps,
        || -> super::rig::Rules { unreachable!("nothing starts") },
        &metrics,
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.starts_with(&format!("cannot listen on {taken}: address in use; ")),
        "{error}"
    );
}

#[tokio::test]
async fn a_stop_lets_requests_end_and_closes_what_is_idle() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let address = rig.address();
    let mut idle = rig.client().await;
    idle.say("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").await;
    idle.message().await;
    let mut silent = rig.client().await;
    let mut busy = rig.client().await;
    busy.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut app = app.accept().await;
    app.head().await;
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        .await;
    busy.until("he").await;
    let stopping = tokio::spawn(rig.running.stop(LIMIT));
    idle.ended().await;
    silent.ended().await;
    soon(async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(gate.leases(), 1);
    app.say("llo").await;
    assert_eq!(busy.rest().await, "llo");
    drop((idle, silent, busy));
    soon(stopping).await.unwrap();
    assert_eq!(gate.leases(), 0);
}

#[tokio::test]
async fn what_outlasts_the_stop_is_dropped() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut app = app.accept().await;
    app.head().await;
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        .await;
    client.until("he").await;
    soon(rig.running.stop(Duration::from_millis(20))).await;
    assert_eq!(gate.leases(), 0);
    client.ended().await;
    app.ended().await;
}

fn unix(path: &std::path::Path) -> Setup {
    let listen = Listen::Unix(path.to_owned());
    Setup::default().rule(echo).config(|config| {
        config.public.listen = listen;
        config.public.workers = 2;
    })
}

#[tokio::test]
async fn a_unix_socket_is_served_by_all_workers_and_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("public.sock");
    // Left behind by one that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let rig = unix(&path).start();
    assert_eq!(rig.running.address(), &Bound::Unix(path.clone()));
    for _ in 0..10 {
        let mut client = Wire::new(soon(UnixStream::connect(&path)).await.unwrap());
        client
            .say("GET /x HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
            .await;
        assert_eq!(client.message().await.1, "h/x from 1.2.3.4");
    }
    soon(rig.running.stop(LIMIT)).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_no_stale_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let live = dir.path().join("live");
    let rig = unix(&live).start();
    for (path, what) in [
        (&file, "no socket"),
        (&live, "address in use"),
        (&dir.path().join("none/x.sock"), "does not exist"),
    ] {
        let error = crate::proxy::listener::bind(&Listen::Unix(path.clone()), 1)
            .unwrap_err()
            .to_string();
        let beginning = format!("cannot listen on unix:{}: ", path.display());
        assert!(
            error.starts_with(&beginning) && error.contains(what),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert!(live.exists());
    drop(rig);
}

#[tokio::test]
async fn other_listen_errors_say_what_to_do() {
    // 192.0.2.0/24 is on no machine (RFC 5737).
    let elsewhere = Listen::Tcp((Ipv4Addr::new(192, 0, 2, 1), 0).into());
    let error = crate::proxy::listener::bind(&elsewhere, 1).unwrap_err();
    assert!(error.to_string().contains("has no such address"), "{error}");
}
