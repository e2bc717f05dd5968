//! The sample application's answers that go on: websocket echo, server-sent events, many bytes.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// The longest websocket message.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// For the other side to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What `/bytes` sends, over and over. Its length divides the chunk's, so byte i is always `i % 16`.
const PATTERN: &[u8; 16] = b"0123456789abcdef";
const CHUNK_BYTES: usize = 16 << 10;

#[derive(Debug, Deserialize)]
pub struct EventsQuery {
    /// Milliseconds between events; default 1000.
    every: Option<u64>,
    /// How many; default without end.
    count: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub struct BytesQuery {
    /// How many; default 1024.
    n: Option<u64>,
}

/// A websocket that answers each message with itself. `guard` is dropped when it has ended.
pub async fn echo<G: Send + 'static>(
    mut parts: Parts,
    guard: G,
    ending: CancellationToken,
) -> Response {
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Err(refusal) => refusal.into_response(),
        Ok(upgrade) => {
            let protocols: Vec<String> = upgrade
                .requested_protocols()
                .filter_map(|protocol| protocol.to_str().ok().map(str::to_owned))
                .collect();
            upgrade
                .protocols(protocols)
                .max_message_size(MESSAGE_BYTES_MAX)
                .max_frame_size(MESSAGE_BYTES_MAX)
                .on_upgrade(async move |socket| {
                    let _guard = guard;
                    echo_messages(socket, ending).await;
                })
        }
    }
}

async fn echo_messages(mut socket: WebSocket, ending: CancellationToken) {
    loop {
        let message = tokio::select! {
            message = socket.recv() => message,
            () = ending.cancelled() => return go_away(socket).await,
        };
        let answer = match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => message,
            // Pings and closes are answered by the library.
            Some(Ok(_)) => continue,
            Some(Err(_)) | None => return,
        };
        let too_late = async {
            ending.cancelled().await;
            sleep(CLOSE_TIMEOUT).await;
        };
        let sent = tokio::select! {
            sent = socket.send(answer) => sent.is_ok(),
            // The other side does not read: it would not read a close either.
            () = too_late => false,
        };
        if !sent {
            return;
        }
    }
}

/// Closes a websocket from this side and gives the other some time to agree.
async fn go_away(mut socket: WebSocket) {
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    let close = Message::Close(Some(CloseFrame {
        code: close_code::AWAY,
        reason: "going away".into(),
    }));
    if let Ok(Ok(())) = timeout_at(deadline, socket.send(close)).await {
        while let Ok(Some(Ok(_))) = timeout_at(deadline, socket.recv()).await {}
    }
}

/// Server-sent events, numbered from 1, until `count`, `ending` or the client's leaving.
pub fn events(wanted: EventsQuery, hostname: &str, ending: &CancellationToken) -> Response {
    // A pause of zero would keep the processor busy with nothing.
    let mut pause = interval(Duration::from_millis(wanted.every.unwrap_or(1000).max(1)));
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let count = wanted.count.unwrap_or(u64::MAX);
    let (hostname, ending) = (hostname.to_owned(), ending.clone());
    let events = stream::unfold((pause, 0), move |(mut pause, sent)| {
        let (hostname, ending) = (hostname.clone(), ending.clone());
        async move {
            if sent == count {
                return None;
            }
            tokio::select! {
                biased;
                () = ending.cancelled() => return None,
                _ = pause.tick() => {}
            }
            let n = sent + 1;
            let data = serde_json::json!({ "n": n, "hostname": hostname }).to_string();
            let event = Event::default().id(n.to_string()).data(data);
            Some((Ok::<_, Infallible>(event), (pause, n)))
        }
    });
    Sse::new(events).into_response()
}

/// `n` bytes, made while they are sent.
pub fn bytes(BytesQuery { n }: BytesQuery) -> Response {
    let length = n.unwrap_or(1024);
    let chunk = Bytes::from(PATTERN.repeat(CHUNK_BYTES / PATTERN.len()));
    let chunks = stream::unfold(length, move |left| {
        let size = left.min(CHUNK_BYTES as u64);
        let part = chunk.slice(..size as usize);
        async move { (size > 0).then_some((Ok::<_, Infallible>(part), left - size)) }
    });
    let headers = [
        (CONTENT_LENGTH, length.to_string()),
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}
