//! Who is let in: the Host header, requests of other sites, the token.

use super::*;
use crate::log::captured::Captured;

const SPEC: &str = r#"{"name":"web-1","image":"web:1"}"#;
const JSON: &str = "Content-Type: application/json";

#[tokio::test]
async fn only_the_listeners_own_names_are_answered() {
    let config = config::Admin {
        hosts: vec!["gateway".to_owned()],
        ..configured()
    };
    let house = house_with(&config).await;
    let port = house.tcp().port();
    for own in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        "localhost".to_owned(),
        format!("gateway:{port}"),
    ] {
        let bytes = request("GET", "/deploy", &[&format!("Host: {own}")], "");
        assert_eq!(house.raw(&bytes).await.status, 200, "{own}");
    }
    for (foreign, target) in [
        (format!("evil.example:{port}"), "/deploy"),
        ("localhost:1".to_owned(), "/readyz"),
        ("".to_owned(), "/metrics"),
        (format!("evil.example:{port}"), "/nope"),
    ] {
        let bytes = request("GET", target, &[&format!("Host: {foreign}")], "");
        house.raw(&bytes).await.problem(421, "unknown_host");
    }
}

#[tokio::test]
async fn an_absolute_target_is_checked_as_the_header_is() {
    let house = house().await;
    let host = format!("Host: {}", house.tcp());
    let foreign = request("GET", "http://evil.example/deploy", &[&host], "");
    house.raw(&foreign).await.problem(421, "unknown_host");
    let own = format!("http://{}/deploy", house.tcp());
    assert_eq!(
        house.raw(&request("GET", &own, &[&host], "")).await.status,
        200
    );
}

#[tokio::test]
async fn a_request_without_one_host_is_malformed() {
    let house = house().await;
    let host = format!("Host: {}", house.tcp());
    for headers in [&[][..], &[host.as_str(), host.as_str()]] {
        let answer = house.raw(&request("GET", "/deploy", headers, "")).await;
        answer.problem(400, "bad_request");
    }
}

#[tokio::test]
async fn a_listener_on_all_addresses_takes_addresses_but_only_configured_names() {
    let config = config::Admin {
        listen: Listen::Tcp(([0, 0, 0, 0], 0).into()),
        insecure: true,
        hosts: vec!["gateway".to_owned()],
        ..configured()
    };
    let house = house_with(&config).await;
    let port = house.tcp().port();
    let status = async |host: &str| {
        let bytes = request("GET", "/deploy", &[&format!("Host: {host}")], "");
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        exchange(&mut stream, &bytes).await.status
    };
    assert_eq!(status("192.0.2.7:18008").await, 200);
    assert_eq!(status("gateway:8008").await, 200);
    assert_eq!(status(&format!("rebound.example:{port}")).await, 421);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let house = house().await;
    for foreign in [
        "Origin: http://evil.example",
        "Origin: null",
        // Another program on this machine is another site.
        "Origin: http://127.0.0.1:3000",
        "Sec-Fetch-Site: cross-site",
    ] {
        for (method, target, body) in [
            ("POST", "/deploy", SPEC),
            ("PUT", "/deploy/a", ""),
            ("DELETE", "/deploy/a", ""),
            ("GET", "/deploy", ""),
        ] {
            let answer = house.ask(method, target, &[JSON, foreign], body).await;
            answer.problem(403, "cross_site");
        }
    }
    assert!(house.stage.orders().is_empty());
}

#[tokio::test]
async fn pages_of_our_own_and_links_to_us_are_answered() {
    let house = house().await;
    let origin = format!("Origin: http://{}", house.tcp());
    let own = [JSON, &origin, "Sec-Fetch-Site: same-origin"];
    assert_eq!(house.ask("POST", "/deploy", &own, SPEC).await.status, 201);
    let link = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"];
    assert_eq!(house.ask("GET", "/deploy", &link, "").await.status, 200);
    let form = house.ask("DELETE", "/deploy/web-1", &link, "").await;
    form.problem(403, "cross_site");
}

#[tokio::test]
async fn the_token_is_needed_everywhere_but_for_health() {
    let house = house_with(&with_token("correct horse")).await;
    for (method, target) in [
        ("GET", "/deploy"),
        ("POST", "/deploy"),
        ("DELETE", "/deploy/a"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/scripts"),
        ("POST", "/scripts/rollback"),
        ("POST", "/scripts/activate"),
        ("GET", "/nope"),
    ] {
        let answer = house.ask(method, target, &[], "").await;
        answer.problem(401, "unauthorized");
        assert_eq!(
            answer.header("www-authenticate"),
            "Bearer realm=\"wakegate\""
        );
    }
    for right in ["Bearer correct horse", "bearer  correct horse "] {
        let header = format!("Authorization: {right}");
        assert_eq!(
            house.ask("GET", "/deploy", &[&header], "").await.status,
            200
        );
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_not_repeated() {
    let house = house_with(&with_token("correct")).await;
    for wrong in ["Bearer correc", "Bearer correct1", "Bearer CORRECT"] {
        let header = format!("Authorization: {wrong}");
        let answer = house.ask("GET", "/deploy", &[&header], "").await;
        answer.problem(401, "unauthorized");
        assert!(answer.header("www-authenticate").contains("invalid_token"));
        assert!(!answer.body.to_lowercase().contains("correc"), "{answer:?}");
    }
    for none in ["Basic correct", "Bearer", "Bearer  ", "correct"] {
        let header = format!("Authorization: {none}");
        let answer = house.ask("GET", "/deploy", &[&header], "").await;
        answer.problem(401, "unauthorized");
    }
    let twice = ["Authorization: Bearer correct"; 2];
    let answer = house.ask("GET", "/deploy", &twice, "").await;
    answer.problem(401, "unauthorized");
}

#[tokio::test]
async fn the_token_is_in_no_log_line() {
    let (log, _guard) = Captured::begin(tracing::Level::TRACE);
    let house = house_with(&with_token("hunter2-right")).await;
    for token in ["hunter2-right", "hunter2-wrong"] {
        let header = format!("Authorization: Bearer {token}");
        house.ask("GET", "/deploy", &[&header], "").await;
    }
    let text = log.text();
    assert!(text.contains("the admin API listens on"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
