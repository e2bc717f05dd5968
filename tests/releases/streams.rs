//! Requests that take long: uploads in parts, event streams, websockets; and how each of them ended.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::bench::in_time;
use crate::configuration::sha256;

/// Between two parts of an upload.
const PART_EVERY: Duration = Duration::from_millis(100);

/// An upload that goes on until the line ends it.
pub struct Upload {
    last: oneshot::Sender<()>,
    ended: JoinHandle<Result<Uploaded, String>>,
}

impl Upload {
    /// Sends the last part and waits for the answer. An error says what became of it.
    pub async fn finish(self) -> Result<Uploaded, String> {
        // One that has broken off does not listen, and says why.
        let _ = self.last.send(());
        in_time("an upload's end", self.ended)
            .await
            .expect("it ends as it should")
    }
}

/// An upload that was answered.
#[derive(Debug)]
pub struct Uploaded {
    pub at: Instant,
    /// Which release had it, by its own report.
    pub by: String,
}

/// Begins to send a body in chunks, a few each second.
pub async fn upload(address: &str, path: &str) -> Upload {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("it is sent");
    let (last, mut is_last) = oneshot::channel();
    let ended = tokio::spawn(async move {
        let told = |error: std::io::Error| error.to_string();
        let mut sent = Vec::new();
        let mut goes_on = true;
        for number in 0.. {
            if !goes_on {
                break;
            }
            // Its sender may be gone as well, with its line.
            goes_on = tokio::time::timeout(PART_EVERY, &mut is_last)
                .await
                .is_err();
            let part = format!("part {number};").repeat(100);
            let chunk = format!("{:x}\r\n{part}\r\n", part.len());
            stream.write_all(chunk.as_bytes()).await.map_err(told)?;
            sent.extend_from_slice(part.as_bytes());
        }
        stream.write_all(b"0\r\n\r\n").await.map_err(told)?;
        let mut answer = String::new();
        let read = in_time("an answer", stream.read_to_string(&mut answer)).await;
        read.map_err(told)?;
        let at = Instant::now();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(answer.clone())?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(answer);
        }
        // An answer of this size has a length; anything around the object is not read.
        let object = body.find('{').zip(body.rfind('}'));
        let report: Value = object
            .and_then(|(begin, end)| serde_json::from_str(&body[begin..=end]).ok())
            .ok_or(answer.clone())?;
        if report["body"]["sha256"] != sha256(&sent) {
            return Err(format!("not what was sent: {report}"));
        }
        let by = report["connstr"].as_str().unwrap_or_default().to_owned();
        Ok(Uploaded { at, by })
    });
    Upload { last, ended }
}

/// An event stream that has ended.
#[derive(Debug)]
pub struct Streamed {
    pub last_event: Instant,
    pub ended: Instant,
    pub events: usize,
    /// Which release sent it.
    pub by: String,
    /// Every number came once, in order.
    pub in_order: bool,
}

/// Opens an event stream and returns when its first event is there.
pub async fn events(address: &str, path: &str) -> JoinHandle<Streamed> {
    let client = reqwest::Client::builder().no_proxy().build();
    let request = client
        .expect("a client")
        .get(format!("http://{address}{path}"))
        .header("accept", "text/event-stream");
    let answer = in_time("an answer", request.send()).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 200);
    let mut parts = answer.bytes_stream();
    let mut text = String::new();
    while !text.contains("\n\n") {
        let part = in_time("an event", parts.next()).await.expect("a part");
        text.push_str(&String::from_utf8_lossy(&part.expect("a part")));
    }
    tokio::spawn(async move {
        let mut last_event = Instant::now();
        // However it ends: that it ends when it should is for the caller to say.
        while let Some(Ok(part)) = parts.next().await {
            text.push_str(&String::from_utf8_lossy(&part));
            last_event = Instant::now();
        }
        let ended = Instant::now();
        let data: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
            .collect();
        let numbers = data.iter().map(|event| event["n"].as_u64());
        Streamed {
            last_event,
            ended,
            events: data.len(),
            by: data[0]["hostname"].as_str().unwrap_or_default().to_owned(),
            in_order: numbers.eq((1..=data.len() as u64).map(Some)),
        }
    })
}

/// A websocket that has ended.
#[derive(Debug)]
pub struct Closed {
    pub at: Instant,
    /// The code of the close that came from the other side.
    pub code: Option<u16>,
    pub echoes: usize,
}

/// Opens a websocket, which sends a message after each pause; returns at the first echo.
pub async fn websocket(address: &str, path: &str, pause: Duration) -> JoinHandle<Closed> {
    let url = format!("ws://{address}{path}");
    let opened = in_time("a websocket", connect_async(url)).await;
    let (mut socket, answer) = opened.expect("a websocket");
    assert_eq!(answer.status(), 101);
    socket
        .send(Message::text("first"))
        .await
        .expect("it is sent");
    let echo = in_time("an echo", socket.next()).await;
    assert_eq!(
        echo.expect("an echo").expect("an echo"),
        Message::text("first")
    );
    tokio::spawn(async move {
        let mut echoes = 1;
        let mut code = None;
        let mut ticks = tokio::time::interval(pause);
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Close(frame))) => {
                        code = frame.map(|CloseFrame { code, .. }| code.into());
                        break;
                    }
                    Some(Ok(Message::Text(_))) => echoes += 1,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                },
                _ = ticks.tick() => {
                    if socket.send(Message::text(echoes.to_string())).await.is_err() {
                        break;
                    }
                }
            }
        }
        let at = Instant::now();
        // Agreed to, as the protocol wants it.
        while let Ok(Some(Ok(_))) =
            tokio::time::timeout(Duration::from_secs(5), socket.next()).await
        {}
        Closed { at, code, echoes }
    })
}
