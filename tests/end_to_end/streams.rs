//! Answers that go on: websockets and server-sent events, and what they keep awake.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::bench::{Bench, Sample, in_time, until};
use crate::gateway::Gateway;
use crate::lines;
use crate::scripts;

lines![
    Both a_websocket_as_the_first_request_wakes_its_container,
    Both a_silent_websocket_keeps_its_container_awake_past_its_idle_time,
    Both server_sent_events_arrive_one_by_one_and_hold_their_container_awake,
    Process a_stream_whose_client_leaves_is_over,
    Process a_websocket_ends_with_its_application,
    Process a_client_that_does_not_hang_up_when_its_websocket_is_closed_keeps_nothing_awake,
];

type Websocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn websocket(gateway: &Gateway, sample: &Sample) -> Websocket {
    let url = format!("ws://{}{}", gateway.public, sample.path("echo"));
    let opened = in_time("a websocket", connect_async(url)).await;
    let (socket, answer) = opened.expect("a websocket");
    assert_eq!(answer.status(), 101);
    socket
}

async fn echoes(socket: &mut Websocket, message: Message) {
    socket.send(message.clone()).await.expect("it can be sent");
    let answer = in_time("an echo", socket.next()).await;
    assert_eq!(answer.expect("a message").expect("a message"), message);
}

async fn leases(gateway: &Gateway, sample: &Sample) -> u64 {
    let view = gateway.client.view(sample.name()).await;
    view["leases"].as_u64().expect("a number")
}

async fn a_websocket_as_the_first_request_wakes_its_container(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one").env("BOOT_DELAY", "300ms");
    let id = gateway.client.create(&sample).await;
    let mut socket = websocket(&gateway, &sample).await;
    bench.has_started(&id, 1).await;
    echoes(&mut socket, Message::text("hello")).await;
    echoes(&mut socket, Message::binary(vec![7_u8; 1 << 20])).await;
    for number in 0..100 {
        echoes(&mut socket, Message::text(number.to_string())).await;
    }
    assert_eq!(leases(&gateway, &sample).await, 1);
    socket.close(None).await.expect("it can be closed");
    let end = in_time("the other side agrees", socket.next()).await;
    assert!(matches!(end, Some(Ok(Message::Close(_))) | None), "{end:?}");
    drop(socket);
    until("the lease is back", || async {
        (leases(&gateway, &sample).await == 0).then_some(())
    })
    .await;
}

/// A browser's tab that was forgotten with a connection that nobody closes.
async fn a_client_that_does_not_hang_up_when_its_websocket_is_closed_keeps_nothing_awake(
    bench: Bench,
) {
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let sample = bench.sample("one").env("IDLE", "0").label("sleep", "500ms");
    let id = gateway.client.create(&sample).await;
    let mut socket = websocket(&gateway, &sample).await;
    echoes(&mut socket, Message::text("hello")).await;
    socket.close(None).await.expect("it can be closed");
    let end = in_time("the other side agrees", socket.next()).await;
    assert!(matches!(end, Some(Ok(Message::Close(_)))), "{end:?}");
    gateway.client.until_phase(sample.name(), "stopped").await;
    assert!(bench.output(&id).await.contains("ends: SIGTERM"));
    drop(socket);
}

/// Time itself is what is tested here.
async fn a_silent_websocket_keeps_its_container_awake_past_its_idle_time(bench: Bench) {
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let sample = bench.sample("one").env("IDLE", "0").label("sleep", "500ms");
    let id = gateway.client.create(&sample).await;
    let mut socket = websocket(&gateway, &sample).await;
    echoes(&mut socket, Message::text("first")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(gateway.client.phase(sample.name()).await, "ready");
    echoes(&mut socket, Message::text("second")).await;
    bench.has_started(&id, 1).await;
    drop(socket);
    gateway.client.until_phase(sample.name(), "stopped").await;
    assert!(bench.output(&id).await.contains("ends: SIGTERM"));
}

async fn server_sent_events_arrive_one_by_one_and_hold_their_container_awake(bench: Bench) {
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let sample = bench.sample("one").env("IDLE", "0").label("sleep", "500ms");
    let id = gateway.client.create(&sample).await;
    // The first event comes at once, the second one only after more time than is waited for it.
    let url = format!(
        "http://{}{}",
        gateway.public,
        sample.path("events?every=1000000")
    );
    let answer = gateway.client.open(&url).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut parts = answer.bytes_stream();
    let mut text = String::new();
    while !text.contains("\n\n") {
        let part = in_time("the first event", parts.next())
            .await
            .expect("it goes on");
        text.push_str(&String::from_utf8_lossy(&part.expect("it goes on")));
    }
    assert!(text.contains("id: 1"), "{text}");
    assert_eq!(leases(&gateway, &sample).await, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(gateway.client.phase(sample.name()).await, "ready");
    bench.has_started(&id, 1).await;
    drop(parts);
    gateway.client.until_phase(sample.name(), "stopped").await;
}

async fn a_stream_whose_client_leaves_is_over(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    let url = format!(
        "http://{}{}",
        gateway.public,
        sample.path("events?every=20")
    );
    let mut parts = gateway.client.open(&url).await.bytes_stream();
    let mut text = String::new();
    while !text.contains("id: 5") {
        let part = in_time("an event", parts.next()).await.expect("it goes on");
        text.push_str(&String::from_utf8_lossy(&part.expect("it goes on")));
    }
    assert_eq!(leases(&gateway, &sample).await, 1);
    drop(parts);
    until("the lease is back", || async {
        (leases(&gateway, &sample).await == 0).then_some(())
    })
    .await;
}

async fn a_websocket_ends_with_its_application(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    let id = gateway.client.create(&sample).await;
    let mut socket = websocket(&gateway, &sample).await;
    echoes(&mut socket, Message::text("hello")).await;
    bench.kill(&id).await;
    let end = in_time("the end of the websocket", socket.next()).await;
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    gateway.client.until_phase(sample.name(), "stopped").await;
    // And the next request wakes it.
    gateway.client.get(&sample.path("")).await.ok();
}
