//! A server that speaks as much of S3's API as the store needs, and misbehaves as a test wants it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A request, as the server got it.
pub type Asked = Request<Bytes>;

/// What the server does with a request.
pub enum Reaction {
    Answer(Response<Body>),
    /// The connection is closed without a word.
    HangUp,
    /// The connection stays open, and nothing comes.
    Silence,
}

pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Server {
    pub async fn new(react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (log, react) = (asked.clone(), Arc::new(react));
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (log, react) = (log.clone(), react.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (log, react) = (log.clone(), react.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map_err(std::io::Error::other)?;
                        let asked = Request::from_parts(head, body.to_bytes());
                        let reaction = react(&asked);
                        log.lock().push(asked);
                        match reaction {
                            Reaction::Answer(response) => Ok(response),
                            Reaction::HangUp => Err(std::io::Error::other("as the test wants it")),
                            Reaction::Silence => std::future::pending().await,
                        }
                    }
                });
                let serve =
                    http1::Builder::new().serve_connection(TokioIo::new(connection), service);
                connections.spawn(async move { drop(serve.await) });
            }
        });
        Self {
            url: format!("http://{address}"),
            asked,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// The requests so far, as method and address.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock();
        let lines = asked.iter();
        lines
            .map(|request| format!("{} {}", request.method(), request.uri()))
            .collect()
    }

    pub fn requests(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

pub fn answer(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    let never = |error: Infallible| match error {};
    let body = Full::new(body.into()).map_err(never).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// An error as S3 tells it.
pub fn refusal(status: u16, code: &str, message: &str) -> Response<Body> {
    answer(
        status,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
             <Message>{message}</Message><RequestId>1</RequestId></Error>"
        ),
    )
}

/// An object, of which after `sent` bytes the connection breaks off (or is silent, with `None`
/// after it).
pub fn torn(object: &Bytes, from: usize, sent: usize, is_silent: bool) -> Response<Body> {
    let part = object.slice(from..(from + sent).min(object.len()));
    let is_whole = from + sent >= object.len();
    let frames = stream::unfold(Some(part), move |part| async move {
        match part {
            Some(part) => Some((Ok(Frame::data(part)), None)),
            None if is_whole => None,
            None if is_silent => std::future::pending().await,
            None => {
                // What comes before is on its way only when the body has been waited for.
                tokio::task::yield_now().await;
                Some((Err(std::io::Error::other("torn")), None))
            }
        }
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let length = object.len() - from;
    let headers = response.headers_mut();
    headers.insert("content-length", length.into());
    headers.insert(ETAG, "\"same\"".parse().unwrap());
    headers.insert(
        LAST_MODIFIED,
        "Thu, 01 Jan 2026 00:00:00 GMT".parse().unwrap(),
    );
    if from > 0 {
        let range = format!("bytes {from}-{}/{}", object.len() - 1, object.len());
        headers.insert("content-range", range.parse().unwrap());
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// The objects of a server, with or without conditions.
#[derive(Default)]
pub struct Objects {
    pub there: Mutex<BTreeMap<String, (Bytes, u64)>>,
    pub ignores_if_match: bool,
    pub ignores_if_none_match: bool,
}

impl Objects {
    pub fn get(&self, path: &str) -> Option<Bytes> {
        self.there.lock().get(path).map(|(bytes, _)| bytes.clone())
    }

    pub fn paths(&self) -> Vec<String> {
        self.there.lock().keys().cloned().collect()
    }

    pub fn put(&self, path: &str, bytes: impl Into<Bytes>) {
        let mut there = self.there.lock();
        let version = there.get(path).map_or(0, |(_, version)| version + 1);
        there.insert(path.to_owned(), (bytes.into(), version));
    }

    pub fn react(&self, asked: &Asked) -> Response<Body> {
        let path = asked.uri().path();
        let etag = |version: u64| format!("\"{version:032x}\"");
        let header = |name| {
            asked
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap())
        };
        let there = self.there.lock().get(path).cloned();
        match (asked.method(), there) {
            (&Method::GET, Some((bytes, version))) => {
                let mut response = answer(200, bytes);
                let headers = response.headers_mut();
                headers.insert(ETAG, etag(version).parse().unwrap());
                headers.insert(
                    LAST_MODIFIED,
                    "Thu, 01 Jan 2026 00:00:00 GMT".parse().unwrap(),
                );
                response
            }
            (&Method::GET, None) => refusal(404, "NoSuchKey", "there is no such key"),
            (&Method::PUT, there) => {
                let is_other = |wanted: &str| match &there {
                    Some((_, version)) => etag(*version) != wanted,
                    None => true,
                };
                let fails = !self.ignores_if_match && header(IF_MATCH).is_some_and(is_other)
                    || !self.ignores_if_none_match
                        && header(IF_NONE_MATCH).is_some()
                        && there.is_some();
                if fails && there.is_none() {
                    return refusal(404, "NoSuchKey", "there is no such key");
                }
                if fails {
                    return refusal(412, "PreconditionFailed", "a condition does not hold");
                }
                self.put(path, asked.body().clone());
                let version = there.map_or(0, |(_, version)| version + 1);
                let mut response = answer(200, "");
                response
                    .headers_mut()
                    .insert(ETAG, etag(version).parse().unwrap());
                response
            }
            (&Method::DELETE, _) => {
                self.there.lock().remove(path);
                answer(204, "")
            }
            _ => refusal(405, "MethodNotAllowed", "not here"),
        }
    }
}
