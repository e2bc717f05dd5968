//! Requests that are not sent on: the gateway is their proxy to the container that it woke.

use std::path::PathBuf;

use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::bench::{Bench, in_time};
use crate::client::Answer;
use crate::lines;
use crate::visitor::{House, SHIPPED, router_of};

/// What a woken container without a route is reported with.
const REPORTED: &str = "the gateway answers its requests itself";

lines![
    a_body_is_carried_through_and_not_asked_for_twice,
    a_body_is_sent_on_where_the_script_says_that_clients_follow,
    bodies_are_whole_whatever_the_script_says_and_whatever_their_size,
    what_a_page_of_another_origin_asks_for_is_carried_through,
    a_websocket_handshake_is_never_sent_on,
    a_container_without_labels_of_traefik_is_proxied,
    a_container_that_traefik_is_to_leave_alone_is_proxied,
];

async fn a_body_is_carried_through_and_not_asked_for_twice(bench: Bench, program: PathBuf) {
    let house = House::new(&bench, &program).await;
    let sample = house.routed("one").env("IDLE", "4s");
    let id = house.asleep(&sample).await;
    let body = vec![b'x'; 300_000];
    for (start, method) in [Method::POST, Method::PUT, Method::DELETE]
        .iter()
        .enumerate()
    {
        let visitor = house.visitor();
        let url = house.traefik.url(&sample.path("form"));
        let request = visitor.request(method.clone(), &url).body(body.clone());
        let report = Answer::to(request).await.ok();
        assert_eq!(report["method"], method.as_str());
        assert_eq!(report["body"]["length"], body.len());
        let answered = house.traefik.until_answered(start + 1).await;
        assert!(answered[start].is_gateways(), "{answered:?}");
        assert_eq!(answered[start].status, 200);
        bench.has_started(&id, start + 1).await;
        house.until_asleep(&sample).await;
    }
}

async fn a_body_is_sent_on_where_the_script_says_that_clients_follow(
    bench: Bench,
    program: PathBuf,
) {
    let script = SHIPPED.replace(
        ".asleep(\"redirect\")",
        ".asleep(\"redirect\").follows(true)",
    );
    assert_ne!(script, SHIPPED);
    let house = House::with(&bench, &program, &[], |setup| setup.script(script)).await;
    let sample = house.routed("one");
    house.asleep(&sample).await;
    let visitor = house.visitor();
    let url = house.traefik.url(&sample.path("form"));
    let post = || visitor.request(Method::POST, &url).body("hello");
    let sent_on = Answer::to(post()).await;
    assert_eq!(sent_on.status, 307, "{}", sent_on.text());
    assert_eq!(sent_on.header("location"), sample.path("form"));
    let report = Answer::to(post()).await.ok();
    assert_eq!(
        (&report["method"], &report["body"]["length"]),
        (&"POST".into(), &5.into())
    );
    let answered = house.traefik.until_answered(2).await;
    assert!(answered[0].is_gateways(), "{answered:?}");
    assert_eq!(answered[1].router, router_of(&sample), "{answered:?}");
}

async fn bodies_are_whole_whatever_the_script_says_and_whatever_their_size(
    bench: Bench,
    program: PathBuf,
) {
    let script = SHIPPED.replace(
        ".asleep(\"redirect\")",
        ".asleep(\"redirect\").follows(true)",
    );
    let house = House::with(&bench, &program, &[], |setup| setup.script(script)).await;
    let sample = house.routed("one");
    let id = house.asleep(&sample).await;
    let visitor = house.visitor();
    let mut requests = 0;
    // Traefik would tell 502 of a connection that ends while it still sends.
    for (n, bytes) in [60_000, 3_000_000, 30_000_000, 65_536, 65_537]
        .into_iter()
        .enumerate()
    {
        let url = house.traefik.url(&sample.path(&format!("form?{bytes}")));
        let post = || visitor.request(Method::POST, &url).body(vec![b'x'; bytes]);
        let mut answer = Answer::to(post()).await;
        requests += 1;
        let is_small = bytes <= 65_536;
        assert_eq!(answer.status, if is_small { 307 } else { 200 }, "{bytes}");
        if is_small {
            answer = Answer::to(post()).await;
            requests += 1;
        }
        assert_eq!(answer.ok()["body"]["length"], bytes);
        bench.has_started(&id, n + 1).await;
        // A route that Traefik takes up only after the end would get the next request.
        house.until_awake(&sample).await;
        bench.engine().stop(&id).await;
        house.until_asleep(&sample).await;
    }
    let answered = house.traefik.until_answered(requests).await;
    let statuses: Vec<u64> = answered.iter().map(|request| request.status).collect();
    assert_eq!(statuses, [307, 200, 200, 200, 307, 200, 200]);
}

async fn what_a_page_of_another_origin_asks_for_is_carried_through(bench: Bench, program: PathBuf) {
    let house = House::new(&bench, &program).await;
    let sample = house.routed("one");
    house.asleep(&sample).await;
    let url = house.traefik.url(&sample.path("api"));
    let visitor = house.visitor();
    let request = visitor
        .request(Method::GET, &url)
        .header("origin", "https://elsewhere.example");
    Answer::to(request).await.ok();
    let answered = house.traefik.until_answered(1).await;
    assert!(answered[0].is_gateways(), "{answered:?}");
    assert_eq!(answered[0].status, 200);
}

async fn a_websocket_handshake_is_never_sent_on(bench: Bench, program: PathBuf) {
    // Not even where clients are said to follow.
    let script = SHIPPED.replace(
        ".asleep(\"redirect\")",
        ".asleep(\"redirect\").follows(true)",
    );
    let house = House::with(&bench, &program, &[], |setup| setup.script(script)).await;
    let sample = house.routed("one");
    let id = house.asleep(&sample).await;
    let url = format!("ws://{}{}", house.traefik.web, sample.path("echo"));
    let request = url.into_client_request().expect("a request");
    let opened = in_time("a handshake", tokio_tungstenite::connect_async(request)).await;
    let (mut socket, answer) = opened.expect("it is not sent on");
    assert_eq!(answer.status(), 101);
    socket
        .send(Message::text("hello"))
        .await
        .expect("it is open");
    let echoed = in_time("an echo", socket.next()).await;
    let echoed = echoed.expect("a message").expect("no error");
    assert_eq!(echoed.into_text().expect("text").as_str(), "hello");
    // It is the gateway's own, for as long as it is open.
    assert_eq!(house.gateway.client.view(sample.name()).await["leases"], 1);
    bench.has_started(&id, 1).await;
    socket.close(None).await.expect("it can be closed");
    drop(socket);
    let answered = house.traefik.until_answered(1).await;
    assert!(answered[0].is_gateways(), "{answered:?}");
    // Of a connection that it hands over Traefik knows no status; a redirect would have had one.
    assert_eq!(answered.len(), 1);
    assert_ne!(answered[0].status, 307);
}

async fn a_container_without_labels_of_traefik_is_proxied(bench: Bench, program: PathBuf) {
    let house = House::new(&bench, &program).await;
    let sample = house.bench.sample("plain");
    let id = house.gateway.client.create(&sample).await;
    for _ in 0..3 {
        let visit = house.get(&sample.path("x")).await;
        assert_eq!(visit.statuses(), [200], "{visit:?}");
        assert_eq!(visit.last().ok()["connstr"], "db plain");
    }
    let answered = house.traefik.until_answered(3).await;
    assert!(answered.iter().all(|request| request.is_gateways()));
    bench.has_started(&id, 1).await;
    // That is as it should be, and nothing to report.
    assert!(house.gateway.log.lines_with(REPORTED).is_empty());
}

async fn a_container_that_traefik_is_to_leave_alone_is_proxied(bench: Bench, program: PathBuf) {
    let house = House::new(&bench, &program).await;
    let sample = house.routed("hidden").label("traefik.enable", "false");
    house.gateway.client.create(&sample).await;
    let visit = house.get(&sample.path("")).await;
    assert_eq!(visit.statuses(), [200], "{visit:?}");
    assert!(house.gateway.log.lines_with(REPORTED).is_empty());
}
