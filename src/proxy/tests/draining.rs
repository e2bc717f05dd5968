//! What still uses a run that is drained: websockets are told to go, all else runs on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::rig::{App, Rig, Setup, Wire, field, soon, status};
use crate::lifecycle::gate::Gate;

const ASK: &str =
    "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Application = WebSocketStream<TcpStream>;

/// A real client and a real application.
async fn websocket(rig: &Rig, app: &App) -> (Client, Application) {
    let url = format!("ws://{}/", rig.address());
    let application = async {
        let wire = app.accept().await;
        tokio_tungstenite::accept_async(wire.stream).await.unwrap()
    };
    let client = async { tokio_tungstenite::connect_async(url).await.unwrap().0 };
    soon(async { tokio::join!(client, application) }).await
}

/// The same byte by byte.
async fn wires(rig: &Rig, app: &App) -> (Wire, Wire) {
    let mut client = rig.client().await;
    client.say(ASK).await;
    let mut app = app.accept().await;
    app.head().await;
    app.say(SWITCH).await;
    let head = client.head().await;
    assert_eq!(
        (status(&head), field(&head, "upgrade")),
        (101, Some("websocket"))
    );
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

/// Reads up to the Close frame, and the end of the connection after it.
async fn code_of_the_close(client: &mut Client) -> CloseCode {
    soon(async {
        let code = loop {
            match client.next().await.expect("a Close comes first").unwrap() {
                Message::Close(frame) => break frame.expect("it has a code").code,
                Message::Text(_) | Message::Binary(_) => {}
                other => panic!("{other:?}"),
            }
        };
        while client.next().await.is_some() {}
        code
    })
    .await
}

#[tokio::test]
async fn a_client_in_the_middle_of_traffic_is_told_1001_and_its_application_sees_it_close() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let (mut client, application) = websocket(&rig, &app).await;
    let (mut says, mut hears) = application.split();
    let talks = async move {
        // Messages of all the lengths that a frame can have, until the client is gone.
        for bytes in [0, 7, 125, 126, 5_000, 70_000].into_iter().cycle() {
            if says.send(Message::binary(vec![b'x'; bytes])).await.is_err() {
                break;
            }
        }
        // Kept until the other half is done too: then the application ends the connection.
        says
    };
    let listens = async move {
        let mut heard = Vec::new();
        while let Some(Ok(message)) = hears.next().await {
            heard.push(message);
        }
        (heard, hears)
    };
    let goes = async {
        for _ in 0..20 {
            let message = client.next().await.unwrap().unwrap();
            assert!(message.is_binary(), "{message:?}");
        }
        client.send(Message::text("last words")).await.unwrap();
        gate.close_within(Duration::ZERO);
        code_of_the_close(&mut client).await
    };
    let application = async {
        let (_says, (heard, _hears)) = tokio::join!(talks, listens);
        heard
    };
    let (heard, code) = soon(async { tokio::join!(application, goes) }).await;
    assert_eq!(code, CloseCode::Away);
    let [words, Message::Close(Some(close))] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!(words.to_text().unwrap(), "last words");
    assert_eq!(close.code, CloseCode::Away);
    drop(client);
    released(&gate).await;
}

#[tokio::test]
async fn many_clients_are_not_told_all_at_once() {
    // Spread over 1.5 s; that twelve fall within a tenth of that happens once in a thousand million
    // times, and when the test itself stalls for so long, which it need not do again.
    let mut spread = time_of_being_told().await;
    if spread <= Duration::from_millis(150) {
        spread = time_of_being_told().await;
    }
    assert!(spread > Duration::from_millis(150), "{spread:?}");
}

/// From the first of twelve clients that is told to go to the last one.
async fn time_of_being_told() -> Duration {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut told = Vec::new();
    let mut applications = Vec::new();
    for _ in 0..12 {
        let (mut client, mut application) = websocket(&rig, &app).await;
        told.push(tokio::spawn(async move {
            assert_eq!(code_of_the_close(&mut client).await, CloseCode::Away);
            Instant::now()
        }));
        applications.push(tokio::spawn(async move {
            while let Some(Ok(_)) = application.next().await {}
        }));
    }
    assert_eq!(gate.leases(), 12);
    gate.close_within(Duration::from_secs(3));
    let mut moments = Vec::new();
    for told in told {
        moments.push(soon(told).await.unwrap());
    }
    released(&gate).await;
    *moments.iter().max().unwrap() - *moments.iter().min().unwrap()
}

#[tokio::test]
async fn within_a_large_frame_the_close_comes_after_its_end_and_nothing_after_the_close() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let (mut client, mut application) = wires(&rig, &app).await;
    let (mut other_client, mut other) = wires(&rig, &app).await;
    let mut frame = vec![0x82, 127];
    frame.extend(100_000_u64.to_be_bytes());
    frame.extend(GOING_AWAY.iter().cycle().take(100_000));
    application.say(&frame[..50_000]).await;
    assert_eq!(client.bytes(50_000).await, frame[..50_000]);
    gate.close_within(Duration::ZERO);
    // The other one is between two frames. When it has been told, so would this one have been.
    assert_eq!(other_client.bytes(4).await, GOING_AWAY);
    drop(other_client);
    other.ended().await;
    drop(other);
    application.say(&frame[50_000..]).await;
    application.say(b"\x81\x02no").await;
    assert_eq!(client.bytes(50_010).await, frame[50_000..]);
    assert_eq!(client.bytes(4).await, GOING_AWAY);
    // The client's answer passes as it is, and then the application closes the connection.
    let answer = b"\x88\x82mask\x6e\x88";
    client.say(answer).await;
    assert_eq!(application.bytes(8).await, answer);
    drop(application);
    client.ended().await;
    drop(client);
    released(&gate).await;
}

#[tokio::test]
async fn one_that_begins_while_the_run_is_drained_is_told_too() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say(ASK).await;
    let mut application = app.accept().await;
    application.head().await;
    gate.close_within(Duration::ZERO);
    application
        .say([SWITCH.as_bytes(), b"\x81\x02hi"].concat())
        .await;
    assert_eq!(status(&client.head().await), 101);
    // Which of the two comes first is left to chance.
    let first = client.bytes(4).await;
    if first == b"\x81\x02hi" {
        assert_eq!(client.bytes(4).await, GOING_AWAY);
    } else {
        assert_eq!(first, GOING_AWAY);
    }
    drop(application);
    client.ended().await;
}

#[tokio::test]
async fn other_tunnels_run_on() {
    let rig = Setup::default().start();
    let (app, gate) = rig.app().await;
    let mut client = rig.client().await;
    client.say(ASK.replace("websocket", "chat/2")).await;
    let mut application = app.accept().await;
    application.head().await;
    application.say(SWITCH.replace("websocket", "chat/2")).await;
    client.head().await;
    // Its neighbour is a websocket, which shows when the drain has begun.
    let (mut neighbour, _neighbours) = wires(&rig, &app).await;
    gate.close_within(Duration::ZERO);
    assert_eq!(neighbour.bytes(4).await, GOING_AWAY);
    client.say("ping").await;
    assert_eq!(application.text(4).await, "ping");
    application.say("pong").await;
    assert_eq!(client.text(4).await, "pong");
    drop(application);
    client.ended().await;
}

#[tokio::test]
async fn streams_and_uploads_run_on_and_new_requests_go_elsewhere() {
    let rig = Setup::default().start();
    let (old, gate) = rig.app().await;
    let (mut uploader, mut listener) = (rig.client().await, rig.client().await);
    uploader
        .say("POST /u HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        .await;
    let mut upload = old.accept().await;
    upload.until("3\r\none\r\n").await;
    listener.say("GET /s HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut stream = old.accept().await;
    stream.head().await;
    stream
        .say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        .await;
    listener.until("3\r\none\r\n").await;
    assert_eq!(gate.leases(), 2);

    gate.close_within(Duration::from_secs(60));
    let (new, new_gate) = rig.app().await;
    assert!(!Arc::ptr_eq(&gate, &new_gate));
    let mut client = rig.client().await;
    client.say("GET /n HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(new.accept().await.head().await.starts_with("GET /n "));

    uploader.say("3\r\ntwo\r\n0\r\n\r\n").await;
    upload.until("3\r\ntwo\r\n0\r\n\r\n").await;
    upload
        .say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    assert_eq!(uploader.message().await.1, "ok");
    stream.say("3\r\ntwo\r\n").await;
    listener.until("3\r\ntwo\r\n").await;
    assert_eq!(gate.leases(), 1);
    stream.say("0\r\n\r\n").await;
    listener.until("0\r\n\r\n").await;
    released(&gate).await;
    // A connection to a run that is to be stopped is not kept for another request.
    upload.ended().await;
    stream.ended().await;
}
