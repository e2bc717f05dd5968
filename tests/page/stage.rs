//! A gateway's API that plays what it is told, with the page of a real gateway before it.
//!
//! For what a real gateway cannot be brought into at will: every state at once, hostile texts,
//! streams that come in pieces or fall silent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderName, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bench::{Bench, until};
use crate::gateway::Gateway;
use crate::scene;

/// The stage; it ends when it is dropped.
pub struct Stage {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
    /// Whose page it is.
    _gateway: Gateway,
}

struct Shared {
    page: String,
    http: reqwest::Client,
    status: watch::Sender<Value>,
    answers: Mutex<HashMap<String, (StatusCode, Value)>>,
    asked: Mutex<Vec<Asked>>,
    /// Answers to orders wait while this is set.
    stalled: watch::Sender<bool>,
    style: Mutex<Style>,
    /// Streams of statuses that are open, each with a receiver.
    streams: watch::Sender<()>,
}

/// How the stream of statuses is written.
#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    Whole,
    /// In pieces of so many bytes, with every kind of line and of line's end that there is.
    Pieces(usize),
    /// The first status, and then nothing more.
    Silent,
}

/// An order as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Method and path.
    pub what: String,
    pub content_type: Option<String>,
    pub body: String,
}

impl Stage {
    pub async fn with(bench: &Bench, status: Value) -> Self {
        let gateway = bench.setup().start().await;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            page: gateway.client.admin_address().to_owned(),
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
            status: watch::Sender::new(status),
            answers: Mutex::default(),
            asked: Mutex::default(),
            stalled: watch::Sender::new(false),
            style: Mutex::new(Style::Whole),
            streams: watch::Sender::new(()),
        });
        let router = Router::new().fallback(play).with_state(shared.clone());
        let serving = tokio::spawn(async move {
            let served = axum::serve(listener, router).await;
            served.expect("the stage serves");
        });
        let stage = Self {
            address,
            shared,
            serving,
            _gateway: gateway,
        };
        stage.answers("GET /scripts", 200, scene::scripts());
        for what in ["POST /switch", "POST /rollback"] {
            stage.answers(what, 200, scene::switched("r9"));
        }
        stage.answers("POST /launch", 200, scene::launched("r9"));
        let history = json!({ "app": "shop", "history": [] });
        stage.answers("GET /apps/shop/history", 200, history);
        stage
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn style(&self, style: Style) {
        *self.shared.style.lock() = style;
    }

    /// What `METHOD /path` is answered from now on; everything else `{}`.
    pub fn answers(&self, what: &str, status: u16, body: Value) {
        let status = StatusCode::from_u16(status).expect("a status");
        let mut answers = self.shared.answers.lock();
        answers.insert(what.to_owned(), (status, body));
    }

    /// Lets answers to orders wait, or go.
    pub fn stall(&self, stalled: bool) {
        self.shared.stalled.send_replace(stalled);
    }

    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        self.shared.status.send_modify(change);
    }

    /// The orders until now.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().clone()
    }

    /// Waits until so many streams of statuses are open.
    pub async fn has_streams(&self, count: usize) {
        until("streams of statuses", || async {
            (self.shared.streams.receiver_count() == count).then_some(())
        })
        .await;
    }

    /// Waits for an order.
    pub async fn has_been_asked(&self, what: &str) -> Asked {
        until(what, || async {
            let asked = self.shared.asked.lock();
            asked.iter().find(|asked| asked.what == what).cloned()
        })
        .await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn play(State(stage): State<Arc<Shared>>, request: Request) -> Response {
    let path = request
        .uri()
        .path_and_query()
        .map_or("", |path| path.as_str());
    let what = format!("{} {path}", request.method());
    if what == "GET /" || what.starts_with("GET /page/") {
        return stage.page_file(path).await;
    }
    if what == "GET /events" {
        return stage.events();
    }
    let content_type = request.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let asked = Asked {
        what: what.clone(),
        content_type: content_type.map(str::to_owned),
        body: String::new(),
    };
    let is_order = !what.starts_with("GET ");
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
    let body = body.expect("a body");
    if is_order {
        stage.asked.lock().push(Asked {
            body: String::from_utf8_lossy(&body).into_owned(),
            ..asked
        });
        let mut stalled = stage.stalled.subscribe();
        drop(stalled.wait_for(|stalled| !stalled).await);
    }
    let answer = stage.answers.lock().get(&what).cloned();
    let (status, body) = answer.unwrap_or((StatusCode::OK, json!({})));
    (status, Json(body)).into_response()
}

impl Shared {
    async fn page_file(&self, path: &str) -> Response {
        let url = format!("http://{}{path}", self.page);
        // At the end of a trial the gateway goes, and the browser may still ask.
        let Ok(answer) = self.http.get(url).send().await else {
            return StatusCode::BAD_GATEWAY.into_response();
        };
        let mut response = Response::builder().status(answer.status());
        let kept = |name: &HeaderName| *name != http::header::TRANSFER_ENCODING;
        for (name, value) in answer.headers().iter().filter(|(name, _)| kept(name)) {
            response = response.header(name, value);
        }
        let body = answer.bytes().await.unwrap_or_default();
        response.body(Body::from(body)).expect("a response")
    }

    fn events(&self) -> Response {
        let style = *self.style.lock();
        let mut statuses = self.status.subscribe();
        statuses.mark_changed();
        let pieces = stream::unfold((statuses, Vec::new()), move |(mut statuses, mut pieces)| {
            async move {
                while pieces.is_empty() {
                    statuses.changed().await.ok()?;
                    pieces = written(&statuses.borrow_and_update(), style);
                    pieces.reverse();
                }
                if let Style::Pieces(_) = style {
                    // So that each goes out alone.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let piece = pieces.pop()?;
                if style == Style::Silent && pieces.is_empty() {
                    statuses = watch::Sender::new(Value::Null).subscribe();
                }
                Some((Ok::<_, std::convert::Infallible>(piece), (statuses, pieces)))
            }
        });
        let open = self.streams.subscribe();
        let pieces = stream::StreamExt::chain(pieces, stream::pending());
        let pieces = stream::StreamExt::inspect(pieces, move |_| drop(open.has_changed()));
        (
            [(CONTENT_TYPE, "text/event-stream")],
            Body::from_stream(pieces),
        )
            .into_response()
    }
}

/// A status as an event.
fn written(status: &Value, style: Style) -> Vec<Bytes> {
    let Style::Pieces(bytes) = style else {
        return vec![format!("event: status\ndata: {status}\n\n").into()];
    };
    let lines = format!("{status:#}").replace('\n', "\r\ndata: ");
    let text = format!(
        ": a comment\r\n\r\nevent: other\r\ndata: {{}}\r\n\r\nid: 1\nretry\rdata:{lines}\r\nevent:status\r\n\r\n"
    );
    text.as_bytes()
        .chunks(bytes)
        .map(Bytes::copy_from_slice)
        .collect()
}
