//! What reaches the application of a request, and the client of an answer: all of it, unchanged.

use reqwest::Method;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::client::{Answer, Wire, exchange};
use crate::lines;

lines![
    Both method_path_query_headers_and_body_reach_the_application_unchanged,
    Process hop_by_hop_headers_go_no_further,
    Process the_way_is_told_in_x_forwarded_headers_and_a_stranger_cannot_forge_them,
    Process a_trusted_proxys_x_forwarded_headers_are_kept_and_gone_on_with,
    Process one_connection_carries_many_requests_to_many_containers,
    Process a_request_in_http_1_0_is_answered_in_its_way,
    Process an_answer_to_head_has_no_body,
    Process a_body_that_waits_for_leave_gets_it,
];

/// The application's report in an answer as it came over the wire.
fn report(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(" 200 "), "{answer}");
    let json = &body[body.find('{').expect("JSON")..=body.rfind('}').expect("JSON")];
    serde_json::from_str(json).expect("JSON")
}

async fn method_path_query_headers_and_body_reach_the_application_unchanged(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    for method in [
        "GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    ] {
        // Nothing of the path is decoded, joined or cleaned.
        let path = sample.path("a%2Fb//c/%C3%A4;p=1/");
        let request = format!(
            "{method} {path}?q=%20+&q=2&empty HTTP/1.1\r\nHost: Shop.example:81\r\n\
             X-Twice: one\r\nx-twice: two\r\nX-Odd: \t a  b \t\r\nCookie: a=b; c=d\r\n\
             Authorization: Basic eDp5\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
        );
        let report = report(&exchange(&gateway.public, request.as_bytes()).await);
        assert_eq!(report["method"], method);
        assert_eq!(report["path"], path);
        assert_eq!(report["query"], "q=%20+&q=2&empty");
        let headers = &report["headers"];
        assert_eq!(headers["host"], json!(["Shop.example:81"]));
        assert_eq!(headers["x-twice"], json!(["one", "two"]));
        assert_eq!(headers["x-odd"], json!(["a  b"]));
        assert_eq!(headers["cookie"], json!(["a=b; c=d"]));
        assert_eq!(headers["authorization"], json!(["Basic eDp5"]));
        assert_eq!(report["body"]["length"], 5);
        // SHA-256 of "hello".
        let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(report["body"]["sha256"], hash);
    }
}

async fn hop_by_hop_headers_go_no_further(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nX-Kept: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\n\
         TE: gzip\r\nUpgrade: something\r\n\r\n",
        sample.path("")
    );
    let answer = exchange(&gateway.public, request.as_bytes()).await;
    let headers = report(&answer)["headers"].clone();
    for gone in [
        "x-mine",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
    ] {
        assert_eq!(headers.get(gone), None, "{gone} in {headers}");
    }
    assert_ne!(headers["connection"], json!(["close, X-Mine"]));
    assert_eq!(headers["x-kept"], json!(["1"]));
}

async fn the_way_is_told_in_x_forwarded_headers_and_a_stranger_cannot_forge_them(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    let forged = gateway
        .client
        .request(Method::GET, &sample.path(""))
        .header("host", "shop.example")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "evil.example");
    let headers = Answer::to(forged).await.ok()["headers"].clone();
    assert_eq!(headers["x-forwarded-for"], json!(["127.0.0.1"]));
    assert_eq!(headers["x-forwarded-proto"], json!(["http"]));
    assert_eq!(headers["x-forwarded-host"], json!(["shop.example"]));
    assert_eq!(headers["host"], json!(["shop.example"]));
}

async fn a_trusted_proxys_x_forwarded_headers_are_kept_and_gone_on_with(bench: Bench) {
    let setup = bench
        .setup()
        .set("public.trusted_proxies", vec!["127.0.0.0/8"]);
    let gateway = setup.start().await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    let told = gateway
        .client
        .request(Method::GET, &sample.path(""))
        .header("host", "inner.example")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "shop.example");
    let headers = Answer::to(told).await.ok()["headers"].clone();
    assert_eq!(headers["x-forwarded-for"], json!(["1.2.3.4, 127.0.0.1"]));
    assert_eq!(headers["x-forwarded-proto"], json!(["https"]));
    assert_eq!(headers["x-forwarded-host"], json!(["shop.example"]));
}

async fn one_connection_carries_many_requests_to_many_containers(bench: Bench) {
    let gateway = bench.setup().start().await;
    let samples = ["one", "two", "three"].map(|short| bench.sample(short));
    for sample in &samples {
        gateway.client.create(sample).await;
    }
    let mut wire = Wire::open(&gateway.public).await;
    for round in 0..3 {
        for sample in &samples {
            let path = sample.path(&round.to_string());
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
                .await;
            let head = wire.until("\r\n\r\n").await;
            // The report's last field is the body's, so this is its end.
            let body = wire.until("}}").await;
            let report = report(&format!("{head}{body}"));
            assert_eq!(report["path"], path);
            assert_eq!(report["connstr"], sample.0["envs"]["CONNSTR"]);
        }
    }
}

async fn a_request_in_http_1_0_is_answered_in_its_way(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    let request = format!(
        "GET {} HTTP/1.0\r\n\r\n",
        sample.path("events?count=2&every=10")
    );
    let answer = exchange(&gateway.public, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    // Chunks would be nothing to such a client.
    assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
    assert!(
        body.starts_with("id:") || body.starts_with("data:"),
        "{body:?}"
    );
    assert!(body.contains("id: 2"), "{body:?}");
}

async fn an_answer_to_head_has_no_body(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    let path = sample.path("bytes?n=1000");
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = exchange(&gateway.public, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(" 200 ") && body.is_empty(), "{answer}");
    assert!(
        head.to_ascii_lowercase().contains("content-length: 1000"),
        "{head}"
    );
}

async fn a_body_that_waits_for_leave_gets_it(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    let mut wire = Wire::open(&gateway.public).await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\
         Connection: close\r\n\r\n",
        sample.path("")
    );
    wire.send(head.as_bytes()).await;
    assert!(wire.until("\r\n\r\n").await.starts_with("HTTP/1.1 100"));
    wire.send(b"hello").await;
    assert_eq!(report(&wire.rest().await)["body"]["length"], 5);
}
