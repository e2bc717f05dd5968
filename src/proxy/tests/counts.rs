//! What is counted of a release while requests come and go.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::rig::{App, dead_address, field, soon, status};
use super::shop::{EMPTY, GET, Opening, SHORT, Shop, counted, release, until};
use crate::deploy::route::Release;
use crate::deploy::stats::{Open, Snapshot};

fn states(told: &Snapshot) -> [u64; 4] {
    let Open {
        held,
        waiting,
        streaming,
        upgraded,
    } = told.open;
    [held, waiting, streaming, upgraded]
}

async fn nothing_open(release: &Release) -> Snapshot {
    counted(release, |told| told.open == Open::default()).await
}

/// The first part of an upload.
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";

async fn opened() -> (Shop, Arc<Release>, App) {
    let shop = Shop::open();
    let (first, app, _gate) = shop.awake(1).await;
    shop.switch(&first);
    (shop, first, app)
}

#[tokio::test]
async fn a_plain_request_counts_once() {
    let (shop, first, app) = opened().await;
    let mut client = shop.asked(GET).await;
    let mut wire = app.accept().await;
    wire.head().await;
    // Before its answer.
    let told = first.stats.snapshot();
    assert_eq!((states(&told), told.requests), ([0, 1, 0, 0], 0));
    wire.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!(client.message().await.1, "hello");
    let told = nothing_open(&first).await;
    assert_eq!((told.requests, told.statuses.success), (1, 1));
    assert_eq!((told.bytes_from_clients, told.bytes_to_clients), (0, 5));
    assert_eq!((told.failed, told.gateway_errors), (0, 0));
    assert_eq!(told.response_times.buckets.total(), 1);
    // And another on the same connections.
    for (status, failed) in [("404 Not Found", 0), ("500 Oh", 1)] {
        client.say(GET).await;
        wire.head().await;
        wire.say(format!("HTTP/1.1 {status}\r\nContent-Length: 1\r\n\r\nx"))
            .await;
        client.message().await;
        assert_eq!(nothing_open(&first).await.failed, failed);
    }
    let told = first.stats.snapshot();
    assert_eq!(
        (told.statuses.client_error, told.statuses.server_error),
        (1, 1)
    );
    assert_eq!(told.bytes_to_clients, 7);
}

#[tokio::test]
async fn an_upload_counts_as_it_flows_and_waits_for_its_answer() {
    let (shop, first, app) = opened().await;
    let mut client = shop.asked(UPLOAD).await;
    let mut wire = app.accept().await;
    wire.head().await;
    wire.until("abc\r\n").await;
    let told = counted(&first, |told| told.bytes_from_clients == 3).await;
    assert_eq!(states(&told), [0, 1, 0, 0]);
    client.say("2\r\nde\r\n0\r\n\r\n").await;
    wire.until("0\r\n\r\n").await;
    wire.say(EMPTY).await;
    client.message().await;
    let told = nothing_open(&first).await;
    // The chunks' own framing is none of it.
    assert_eq!((told.bytes_from_clients, told.bytes_to_clients), (5, 0));
}

#[tokio::test]
async fn a_stream_counts_as_it_flows_and_is_over_with_its_last_byte_or_its_client() {
    let (shop, first, app) = opened().await;
    for leaves in [false, true] {
        let before = first.stats.snapshot();
        let mut client = shop.asked(GET).await;
        let mut wire = app.accept().await;
        wire.head().await;
        wire.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n")
            .await;
        client.until("abcd\r\n").await;
        let told = counted(&first, |told| told.since(&before).bytes_to_clients == 4).await;
        let since = told.since(&before);
        assert_eq!((states(&since), since.requests), ([0, 0, 1, 0], 1));
        if leaves {
            drop(client);
            // What is said then finds nobody.
            soon(async {
                while first.stats.snapshot().open.streaming > 0 {
                    let _ = wire.stream.try_write(b"1\r\nx\r\n");
                    tokio::task::yield_now().await;
                }
            })
            .await;
        } else {
            wire.say("0\r\n\r\n").await;
            client.until("0\r\n\r\n").await;
        }
        assert_eq!(nothing_open(&first).await.failed, 0);
        drop(wire);
    }
}

/// The first bytes of an answer that announces more.
const PART: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcd";

#[tokio::test]
async fn an_answer_that_its_release_breaks_off_has_failed() {
    let (shop, first, app) = opened().await;
    for (n, part) in [
        PART,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = shop.asked(GET).await;
        let mut wire = app.accept().await;
        wire.head().await;
        wire.say(part).await;
        client.until("abcd").await;
        drop(wire);
        let told = nothing_open(&first).await;
        let count = n as u64 + 1;
        assert_eq!((told.failed, told.broken_off), (count, count));
        // The client was told its status nevertheless.
        assert_eq!((told.requests, told.statuses.success), (count, count));
        assert_eq!((told.visits(), told.unanswered), (count, 0));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_for_another_reason_has_not_failed() {
    // It was told to end, as at the limit of a drain.
    let shop = Shop::open();
    let (first, app, gate) = shop.awake(1).await;
    shop.switch(&first);
    let mut client = shop.asked(GET).await;
    let mut wire = app.accept().await;
    wire.head().await;
    wire.say(PART).await;
    client.until("abcd").await;
    gate.close_within(SHORT);
    drop(wire);
    let told = nothing_open(&first).await;
    assert_eq!((told.requests, told.failed, told.broken_off), (1, 0, 0));

    // Its client breaks off what it answers to.
    let (shop, first, app) = opened().await;
    let mut client = shop.asked(UPLOAD).await;
    let mut wire = app.accept().await;
    wire.head().await;
    wire.until("abc\r\n").await;
    wire.say(PART).await;
    client.until("abcd").await;
    client.say("no chunk\r\n").await;
    let told = nothing_open(&first).await;
    assert_eq!((told.requests, told.failed, told.broken_off), (1, 0, 0));
}

#[tokio::test]
async fn a_websocket_is_a_tunnel_and_its_bytes_count_both_ways() {
    let (shop, first, app) = opened().await;
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
        let url = format!("ws://{}/echo", shop.rig.address());
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let text = "x".repeat(100_000);
        socket.send(Message::text(text)).await.unwrap();
        socket.next().await.unwrap().unwrap();
        let told = first.stats.snapshot();
        assert_eq!((states(&told), told.requests), ([0, 0, 0, 1], 1));
        assert_eq!(told.statuses.informational, 1);
        // A client's frames have a mask of 4 bytes more; 10 bytes are the rest of a head.
        assert_eq!(
            (told.bytes_from_clients, told.bytes_to_clients),
            (100_014, 100_010)
        );
        socket.close(None).await.unwrap();
        while socket.next().await.is_some() {}
    };
    soon(async { tokio::join!(serving, asking) }).await;
    nothing_open(&first).await;
}

#[tokio::test]
async fn a_request_that_waits_for_a_wake_is_held() {
    let shop = Shop::open();
    let first = release(1);
    shop.switch(&first);
    let mut clients = [shop.asked(GET).await, shop.asked(GET).await];
    counted(&first, |told| states(told) == [2, 0, 0, 0]).await;
    let app = App::listen().await;
    shop.rig.world.wake("shop-1", app.address);
    let mut wires = [app.accept().await, app.accept().await];
    for wire in &mut wires {
        wire.head().await;
    }
    assert_eq!(states(&first.stats.snapshot()), [0, 2, 0, 0]);
    for wire in &mut wires {
        wire.say(EMPTY).await;
    }
    for client in &mut clients {
        client.message().await;
    }
    nothing_open(&first).await;
    // A client that leaves while it is held takes its place with it.
    let second = release(2);
    shop.switch(&second);
    let client = shop.asked(GET).await;
    counted(&second, |told| told.open.held == 1).await;
    drop(client);
    assert_eq!(nothing_open(&second).await.requests, 0);
}

#[tokio::test]
async fn the_time_for_which_a_request_is_held_is_no_response_time() {
    let shop = Shop::open();
    let first = release(1);
    shop.switch(&first);
    let app = App::listen().await;
    let whole = Instant::now();
    let mut client = shop.asked(GET).await;
    shop.rig.world.waiters(1).await;
    let hold = Instant::now();
    tokio::time::sleep(10 * SHORT).await;
    let hold = hold.elapsed();
    shop.rig.world.wake("shop-1", app.address);
    let mut wire = app.accept().await;
    wire.head().await;
    wire.say(EMPTY).await;
    client.message().await;
    // All that is left, however slow this machine is; a percentile may be off by 7 %.
    let rest_ms = (whole.elapsed() - hold).as_secs_f64() * 1e3;
    let p50_ms = nothing_open(&first).await.response_times.p50_ms.unwrap();
    assert!(p50_ms < rest_ms * 1.07 + 0.1, "{p50_ms} of {rest_ms}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_a_connect_error_once_a_request() {
    let shop = Shop::open();
    let first = release(1);
    shop.rig.world.wake("shop-1", dead_address().await);
    shop.switch(&first);
    let (head, _) = shop.asked(GET).await.message().await;
    assert_eq!(status(&head), 502);
    let told = nothing_open(&first).await;
    assert_eq!((told.connect_errors, told.failed), (1, 1));
    assert_eq!((told.gateway_errors, told.statuses.server_error), (1, 1));
    assert_eq!(told.response_times.p50_ms, None);

    // One that is reached at the second attempt has failed too, and was answered.
    let second = release(2);
    let app = App::listen().await;
    let address = app.address;
    shop.rig.world.wake("shop-2", dead_address().await);
    shop.rig
        .world
        .on_suspect(move |world, _| drop(world.wake("shop-2", address)));
    shop.switch(&second);
    let mut client = shop.asked(GET).await;
    let mut wire = app.accept().await;
    wire.head().await;
    wire.say(EMPTY).await;
    assert_eq!(status(&client.message().await.0), 200);
    let told = nothing_open(&second).await;
    assert_eq!((told.connect_errors, told.failed), (1, 1));
    assert_eq!((told.gateway_errors, told.statuses.success), (0, 1));
}

#[tokio::test]
async fn what_the_gateway_answers_itself_counts_as_whose_fault_it_is() {
    let shop = Opening::default()
        .setup(|setup| setup.config(|config| config.public.body_bytes_max = 4))
        // Long enough for what is refused below, also where the machine stalls.
        .open(|decision| decision.timeout = Some(25 * SHORT));
    let (first, app, _gate) = shop.awake(1).await;
    shop.switch(&first);
    let mut client = shop.asked(GET).await;
    let mut wire = app.accept().await;
    wire.head().await;
    // It does not answer.
    assert_eq!(status(&client.message().await.0), 504);
    drop(wire);
    let told = nothing_open(&first).await;
    assert_eq!((told.gateway_errors, told.failed), (1, 1));
    // The client sends more than it may.
    let mut client = shop
        .asked("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    let _wire = app.accept().await;
    assert_eq!(status(&client.message().await.0), 413);
    let told = nothing_open(&first).await;
    assert_eq!((told.gateway_errors, told.failed), (2, 1));
    assert_eq!(told.statuses.client_error, 1);
}

#[tokio::test]
async fn answers_that_are_asked_for_by_another_address_are_counted_by_their_own_release() {
    let (shop, first, app_1) = opened().await;
    let (second, app_2, _gate) = shop.awake(2).await;
    let mut clients = Vec::new();
    for (release, app) in [(&first, &app_1), (&second, &app_2)] {
        shop.switch(release);
        let client = shop.asked(GET).await;
        let mut wire = app.accept().await;
        assert_eq!(field(&wire.head().await, "host"), Some("h"));
        clients.push((client, wire));
    }
    until(|| first.stats.snapshot().open.waiting == 1).await;
    assert_eq!(second.stats.snapshot().open.waiting, 1);
    for (client, wire) in &mut clients {
        wire.say(EMPTY).await;
        client.message().await;
    }
    for release in [&first, &second] {
        assert_eq!(nothing_open(release).await.requests, 1);
    }
}
