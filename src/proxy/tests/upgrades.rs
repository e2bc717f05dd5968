//! Connections that switch to another protocol.

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use super::rig::{Rig, Setup, Wire, field, soon, status};
use crate::lifecycle::gate::Gate;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: chat/2\r\nX-Key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/2\r\nX-Accept: a\r\n\r\n";

/// A tunnel between a client and an application.
async fn tunnel(rig: &Rig, app: &super::rig::App) -> (Wire, Wire) {
    let mut client = rig.client().await;
    client.say(ASK).await;
    let mut app = app.accept().await;
    let head = app.head().await;
    assert_eq!(field(&head, "upgrade"), Some("chat/2"));
    assert_eq!(field(&head, "connection"), Some("upgrade"));
    assert_eq!(field(&head, "x-key"), Some("k"));
    app.say(SWITCH).await;
    let head = client.head().await;
    assert_eq!(status(&head), 101);
    assert_eq!(field(&head, "upgrade"), Some("chat/2"));
    assert_eq!(field(&head, "connection"), Some("upgrade"));
    assert_eq!(field(&head, "x-accept"), Some("a"));
    (client, app)
}

async fn released(gate: &Gate) {
    soon(async {
        while gate.leases() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_carries_both_ways_and_holds_its_lease_to_the_end_of_both() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let (mut client, mut app) = tunnel(&rig, &app).await;
    rig.metric("wakegate_upgrade_tunnels 1").await;
    client.say("ping").await;
    assert_eq!(app.text(4).await, "ping");
    app.say("pong").await;
    assert_eq!(client.text(4).await, "pong");
    // One side's end is passed on, and the other may still speak.
    client.stream.shutdown().await.unwrap();
    app.ended().await;
    assert_eq!(gate.leases(), 1);
    app.say("last words").await;
    assert_eq!(client.text(10).await, "last words");
    drop(app);
    client.ended().await;
    released(&gate).await;
    rig.metric("wakegate_upgrade_tunnels 0").await;
    rig.metric("wakegate_client_connections 0").await;
}

#[tokio::test]
async fn bytes_right_behind_the_switch_are_part_of_the_tunnel() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say(ASK).await;
    let mut app = app.accept().await;
    app.head().await;
    app.say(format!("{SWITCH}early")).await;
    client.head().await;
    assert_eq!(client.text(5).await, "early");
}

#[tokio::test]
async fn an_application_that_dies_ends_the_tunnel() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let (mut client, app) = tunnel(&rig, &app).await;
    app.reset();
    client.ended().await;
    released(&gate).await;
}

#[tokio::test]
async fn a_tunnel_may_begin_while_the_workload_sleeps() {
    let rig = Setup::default().start();
    let mut client = rig.client().await;
    client.say(ASK).await;
    rig.world.waiters(1).await;
    let (app, gate) = rig.app().await;
    let mut app = app.accept().await;
    app.head().await;
    app.say(SWITCH).await;
    assert_eq!(status(&client.head().await), 101);
    client.say("x").await;
    app.bytes(1).await;
    assert_eq!(gate.leases(), 1);
}

#[tokio::test]
async fn an_application_that_does_not_switch_answers_as_ever() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say(ASK).await;
    let mut app = app.accept().await;
    app.head().await;
    app.say("HTTP/1.1 426 Upgrade Required\r\nUpgrade: chat/3\r\nContent-Length: 2\r\n\r\nno")
        .await;
    let (head, body) = client.message().await;
    assert_eq!((status(&head), body.as_str()), (426, "no"));
    released(&gate).await;
    // And the connection goes on.
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(app.head().await.starts_with("GET / "));
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_an_error() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut app = app.accept().await;
    app.head().await;
    app.say(SWITCH).await;
    assert_eq!(status(&client.message().await.0), 502);
    released(&gate).await;
}

#[tokio::test]
async fn a_tunnel_that_outlasts_the_stop_is_dropped() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let (mut client, mut app) = tunnel(&rig, &app).await;
    let stopping = tokio::spawn(rig.running.stop(std::time::Duration::from_secs(5)));
    client.say("still here").await;
    assert_eq!(app.text(10).await, "still here");
    soon(stopping).await.unwrap();
    client.ended().await;
    assert_eq!(gate.leases(), 0);
}

#[tokio::test]
async fn websockets_work() {
    let rig = Setup::default().start();
    let (app, _gate) = rig.app().await;
    let serving = async {
        let wire = app.accept().await;
        let mut socket = tokio_tungstenite::accept_async(wire.stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    };
    let asking = async {
        let url = format!("ws://{}/echo", rig.address());
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        for text in ["hello", &"x".repeat(200_000)] {
            socket.send(Message::text(text)).await.unwrap();
            let echoed = socket.next().await.unwrap().unwrap();
            assert_eq!(echoed.into_text().unwrap().as_str(), text);
        }
        socket.close(None).await.unwrap();
        while socket.next().await.is_some() {}
    };
    soon(async { tokio::join!(serving, asking) }).await;
}
