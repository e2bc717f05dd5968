//! Clients that do not keep to HTTP: refused within limits, at nobody else's expense.

use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::client::{Wire, exchange};
use crate::lines;

lines![
    Process what_is_not_http_is_400,
    Process a_request_that_could_be_read_in_two_ways_is_refused,
    Process a_head_that_is_too_long_is_431,
    Process too_many_headers_are_431,
    Process a_head_that_is_never_finished_is_cut_off,
    Process a_connection_that_sends_nothing_is_cut_off,
    Process clients_that_never_finish_their_heads_keep_nobody_out,
    Process connect_is_not_offered,
];

fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

async fn what_is_not_http_is_400(bench: Bench) {
    let gateway = bench.setup().start().await;
    for bytes in [
        &b"nonsense\r\n\r\n"[..],
        b"GET /session/a/ HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
        b"GET /session/a/ HTTP/1.1\r\n\r\n",
        b"GET /session/a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET session/a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let answer = exchange(&gateway.public, bytes).await;
        assert_eq!(status(&answer), 400, "{:?}", String::from_utf8_lossy(bytes));
    }
}

/// What lets one message's body be read as the next message (RFC 9112 §6.3, §11.2).
async fn a_request_that_could_be_read_in_two_ways_is_refused(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    let id = gateway.client.create(&sample).await;
    let path = sample.path("");
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: -5\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 5\r\n",
    ] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\nhello");
        let answer = exchange(&gateway.public, request.as_bytes()).await;
        assert!(
            (400..=501).contains(&status(&answer)),
            "{fields:?}: {answer}"
        );
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1,
            "{fields:?}: {answer}"
        );
    }
    assert_eq!(bench.starts(&id).await, 0, "none of them has woken it");
}

async fn a_head_that_is_too_long_is_431(bench: Bench) {
    let gateway = bench
        .setup()
        .set("public.head_bytes_max", "16KiB")
        .start()
        .await;
    let request = |length: usize| {
        let padding = "x".repeat(length);
        format!(
            "GET /nothing HTTP/1.1\r\nHost: a\r\nX-Long: {padding}\r\nConnection: close\r\n\r\n"
        )
    };
    // Just past it, in one piece, and well past it.
    for bytes in [16 << 10, 20 << 10] {
        let long = exchange(&gateway.public, request(bytes).as_bytes()).await;
        assert_eq!(status(&long), 431);
    }
    let short = exchange(&gateway.public, request(10 << 10).as_bytes()).await;
    assert_eq!(status(&short), 404);
    // Without an end, too.
    let mut wire = Wire::open(&gateway.public).await;
    wire.send(format!("GET /{} ", "x".repeat(20 << 10)).as_bytes())
        .await;
    let answer = wire.rest().await;
    assert!(matches!(status(&answer), 414 | 431), "{answer}");
}

async fn too_many_headers_are_431(bench: Bench) {
    let gateway = bench.setup().set("public.headers_max", 20).start().await;
    let request = |count: usize| {
        let fields: String = (0..count).map(|n| format!("X-{n}: 1\r\n")).collect();
        format!("GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n")
    };
    assert_eq!(
        status(&exchange(&gateway.public, request(50).as_bytes()).await),
        431
    );
    assert_eq!(
        status(&exchange(&gateway.public, request(15).as_bytes()).await),
        404
    );
}

async fn a_head_that_is_never_finished_is_cut_off(bench: Bench) {
    let gateway = bench.setup().set("public.head_timeout", "1s").start().await;
    // Its time begins with the connection, which is some time after this.
    let began = Instant::now();
    let mut wire = Wire::open(&gateway.public).await;
    wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
    let answer = wire.rest().await;
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
}

async fn a_connection_that_sends_nothing_is_cut_off(bench: Bench) {
    let setup = bench.setup().set("public.head_timeout", "5s");
    let gateway = setup.set("public.idle_timeout", "5s").start().await;
    let mut never = Wire::open(&gateway.public).await;
    // Nor is one kept for ever that has sent a request.
    let mut once = Wire::open(&gateway.public).await;
    once.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (nothing, answer) = tokio::join!(never.rest(), once.rest());
    assert_eq!((nothing.as_str(), status(&answer)), ("", 404));
}

async fn clients_that_never_finish_their_heads_keep_nobody_out(bench: Bench) {
    let setup = bench.setup().set("public.head_timeout", "1s");
    let gateway = setup.set("public.connections_max", 20).start().await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut wire = Wire::open(&gateway.public).await;
        wire.send(b"GET / HTTP/1.1\r\n").await;
        slow.push(wire);
    }
    // It waits in the kernel's queue until the slow ones' time is over.
    gateway
        .client
        .get("/nothing")
        .await
        .problem(404, "no_route");
}

async fn connect_is_not_offered(bench: Bench) {
    let gateway = bench.setup().start().await;
    let request = b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n";
    assert_eq!(status(&exchange(&gateway.public, request).await), 501);
}
