//! A proxy before a server that can be told to fail: stands for a server that goes away and comes back.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    Open,
    /// What would change something breaks off without an answer.
    NoWrites,
    /// What would change something is answered 503.
    Failing,
    /// Everything breaks off without an answer.
    Away,
}

/// The running proxy. Ends when it is dropped.
pub struct Between {
    pub address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    work: AbortHandle,
}

/// Who may ask: the whole value of `Authorization`.
type Allowed = Option<&'static str>;

impl Between {
    pub async fn before(server: &str) -> Self {
        Self::before_closed(server, None).await
    }

    /// Only for those who send that `Authorization`.
    pub async fn before_closed(server: &str, allowed: Allowed) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let mode = Arc::new(Mutex::new(Mode::Open));
        let (server, shared) = (server.to_owned(), mode.clone());
        let work = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, server.clone(), shared.clone(), allowed));
            }
        });
        Self {
            address,
            mode,
            work: work.abort_handle(),
        }
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.work.abort();
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn serve(stream: TcpStream, server: String, mode: Arc<Mutex<Mode>>, allowed: Allowed) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (server, mode) = (server.clone(), mode.clone());
        async move {
            let now = *mode.lock();
            let changes = !matches!(request.method().as_str(), "GET" | "HEAD");
            let sent = request.headers().get(AUTHORIZATION);
            if allowed.is_some_and(|allowed| sent.is_none_or(|sent| sent != allowed)) {
                return Ok(unauthorized());
            }
            match (now, changes) {
                (Mode::Away, _) | (Mode::NoWrites, true) => Err("away".to_owned()),
                (Mode::Failing, true) => Ok(unavailable()),
                _ => passed_on(request, &server)
                    .await
                    .map_err(|error| error.to_string()),
            }
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // Breaking off is what it is for.
    drop(served);
}

fn unavailable() -> Response<Body> {
    let body = Full::new(Bytes::from_static(b"<Error><Code>SlowDown</Code></Error>"));
    let mut answer = Response::new(body.map_err(|never: Infallible| match never {}).boxed());
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
}

fn unauthorized() -> Response<Body> {
    let body = Full::new(Bytes::from_static(
        b"{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}",
    ));
    let mut answer = Response::new(body.map_err(|never: Infallible| match never {}).boxed());
    *answer.status_mut() = StatusCode::UNAUTHORIZED;
    let challenge = HeaderValue::from_static("Basic realm=\"tests\"");
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

async fn passed_on(
    request: Request<Incoming>,
    server: &str,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    Ok(answer.map(BodyExt::boxed))
}
