//! Bodies in both directions: streamed as they come, limited, and broken when they are broken.

use std::time::{Duration, Instant};

use super::rig::{Setup, field, soon, status};

#[tokio::test]
async fn an_answer_flows_while_it_is_made() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say("GET /events HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut app = app.accept().await;
    app.head().await;
    app.say(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    let head = client.head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    // Each part is said only after the one before has arrived at the other end.
    for event in ["data: 1\n\n", "data: 22\n\n"] {
        app.say(format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(
            client.until("\n\n\r\n").await,
            format!("{:X}\r\n{event}\r\n", event.len())
        );
        assert_eq!(gate.leases(), 1);
    }
    app.say("0\r\n\r\n").await;
    assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
    released(&gate).await;
}

async fn released(gate: &crate::lifecycle::gate::Gate) {
    soon(async {
        while gate.leases() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_flows_while_it_is_made() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        .await;
    let mut app = app.accept().await;
    let head = app.head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(app.until("a\r\n").await, "1\r\na\r\n");
    client.say("2\r\nbc\r\n").await;
    assert_eq!(app.until("bc\r\n").await, "2\r\nbc\r\n");
    client.say("0\r\n\r\n").await;
    assert_eq!(app.until("0\r\n\r\n").await, "0\r\n\r\n");
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    assert_eq!(client.message().await.1, "ok");
}

#[tokio::test]
async fn a_body_with_a_length_keeps_it() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client
        .say("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    let mut app = app.accept().await;
    let (head, body) = app.message().await;
    assert_eq!(field(&head, "content-length"), Some("5"));
    assert_eq!(field(&head, "transfer-encoding"), None);
    assert_eq!(body, "hello");
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    client.message().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(field(&app.head().await, "content-length"), Some("0"));
}

#[tokio::test]
async fn what_nobody_reads_is_not_collected() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
        .await;
    let mut app = app.accept().await;
    app.head().await;
    // Without back-pressure all of it would be taken.
    let part = vec![b'x'; 1 << 20];
    let mut taken = 0;
    let mut pauses = 0;
    while pauses < 5 {
        match client.stream.try_write(&part) {
            Ok(count) => {
                (taken, pauses) = (taken + count, 0);
                assert!(taken < 100 << 20, "{taken} bytes were taken");
            }
            Err(_) => {
                pauses += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Up: 1\r\n\r\n")
        .await;
    let mut app = app.accept().await;
    let head = app.head().await;
    assert_eq!(field(&head, "te"), Some("trailers"));
    assert_eq!(field(&head, "connection"), Some("te"));
    let body = app.until("\r\n\r\n").await;
    assert_eq!(body.to_lowercase(), "1\r\na\r\n0\r\nx-up: 1\r\n\r\n");
    app.say("HTTP/1.1 200 OK\r\nTrailer: X-Down\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nX-Down: 2\r\n\r\n")
        .await;
    assert_eq!(field(&client.head().await, "trailer"), Some("X-Down"));
    let body = client.until("\r\n\r\n").await;
    assert_eq!(body.to_lowercase(), "1\r\nb\r\n0\r\nx-down: 2\r\n\r\n");
}

#[tokio::test]
async fn the_client_is_told_to_go_on_when_the_application_can_take_the_body() {
    let rig = Setup::default().start();
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    rig.world.waiters(1).await;
    // Nothing was said while it was asleep.
    assert!(client.stream.try_read(&mut [0]).is_err());
    let (app, _gate) = rig.app().await;
    let mut app = app.accept().await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(field(&app.head().await, "expect"), None);
    client.say("ab").await;
    assert_eq!(app.text(2).await, "ab");
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(status(&client.message().await.0), 200);
}

#[tokio::test]
async fn an_announced_body_over_the_limit_wakes_nothing() {
    let rig = Setup::default()
        .config(|config| config.public.body_bytes_max = 10)
        .start();
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello world")
        .await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 413);
    assert!(body.contains("\"kind\":\"body_too_large\""), "{body}");
}

#[tokio::test]
async fn a_refused_upload_is_read_on_for_a_while_so_that_its_answer_is_seen() {
    let rig = Setup::default()
        .config(|config| config.public.body_bytes_max = 10)
        .start();
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\nbegun")
        .await;
    assert_eq!(status(&client.head().await), 413);
    client.rest().await;
    // Closed at once, the connection would be reset by the first of these.
    for _ in 0..3 {
        client.say("x".repeat(1000)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_body_that_grows_over_the_limit_is_aborted() {
    let rig = Setup::default()
        .config(|config| config.public.body_bytes_max = 10)
        .start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    let mut app = app.accept().await;
    app.head().await;
    app.until("hello\r\n").await;
    client.say("6\r\n world\r\n").await;
    assert_eq!(status(&client.head().await), 413);
    // The application sees a broken request, not a whole one.
    assert!(!app.rest().await.contains("0\r\n\r\n"));
    released(&gate).await;
}

#[tokio::test]
async fn a_malformed_body_is_the_clients_fault() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        .await;
    let mut app = app.accept().await;
    app.until("a\r\n").await;
    client.say("no size\r\n").await;
    assert_eq!(status(&client.head().await), 400);
    app.rest().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_seen_to_be_broken() {
    let rig = Setup::default().start();
    let (listener, gate) = rig.app().await;
    for answer in [
        "Content-Length: 10\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut client = rig.client().await;
        client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let mut app = listener.accept().await;
        app.head().await;
        app.say(format!("HTTP/1.1 200 OK\r\n{answer}")).await;
        client.until("hello").await;
        drop(app);
        // No end of the chunks, no rest of the length.
        assert_eq!(client.rest().await.trim(), "");
        released(&gate).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_applications_work() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut app = app.accept().await;
    app.head().await;
    drop(client);
    app.ended().await;
    released(&gate).await;
}

#[tokio::test]
async fn an_upload_may_take_longer_than_an_answer_but_not_stall() {
    const STALL_MAX: Duration = Duration::from_secs(1);
    let rig = Setup::default()
        .proxy(|decision| decision.timeout = Some(STALL_MAX))
        .start();
    let (listener, _gate) = rig.app().await;
    // On a busy machine it may be the test itself that stalls: then it begins again.
    'attempts: for _ in 0..5 {
        let mut client = rig.client().await;
        client
            .say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
            .await;
        let mut app = listener.accept().await;
        app.head().await;
        let began = Instant::now();
        let mut last = began;
        while began.elapsed() < 3 * STALL_MAX {
            if last.elapsed() > STALL_MAX / 2 {
                continue 'attempts;
            }
            last = Instant::now();
            client.say("x").await;
            app.bytes(1).await;
            tokio::time::sleep(STALL_MAX / 20).await;
        }
        let (head, body) = client.message().await;
        assert_eq!(status(&head), 408);
        assert!(body.contains("request_timeout"), "{body}");
        return;
    }
    panic!("the test itself stalled each time");
}

#[tokio::test]
async fn the_lease_is_held_until_the_request_is_read_too() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client
        .say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
        .await;
    let mut app = app.accept().await;
    app.head().await;
    assert_eq!(app.text(2).await, "ab");
    // Answered before everything is read.
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    assert_eq!(client.message().await.1, "ok");
    assert_eq!(gate.leases(), 1);
    client.say("cd").await;
    assert_eq!(app.text(2).await, "cd");
    released(&gate).await;
}
