//! The way to the engine: its address, one connection a call, and the API version that both know.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker as Client};
use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use crate::runtime::RuntimeError;

/// Docker's port for an engine without TLS.
const TCP_PORT: u16 = 2375;

/// The library's own limit, far above any of ours: each call is bounded where it is made.
const NO_LIMIT_SECS: u64 = 7 * 86_400;

/// Of an answer that says why not.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl Host {
    /// Takes `unix:///path`, `unix://path`, `tcp://host[:port]` and `http://host[:port]`.
    pub(super) fn parse(text: &str) -> Result<Self, RuntimeError> {
        let refused = |why: &str| {
            Err(RuntimeError::Refused(format!(
                "docker.host {text:?} {why}; write unix:///path/to/socket or tcp://host:port"
            )))
        };
        let Some((scheme, rest)) = text.trim().split_once("://") else {
            return refused("has no scheme");
        };
        match scheme {
            "unix" if rest.is_empty() => refused("names no socket"),
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" | "http" => match authority(rest.trim_end_matches('/')) {
                Some(authority) => Ok(Self::Tcp(authority)),
                None => refused("has no host and port after its scheme, or more than these"),
            },
            "https" => refused("asks for TLS, which is not supported"),
            _ => refused("has a scheme that is not supported"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

/// `host:port` of what may have left the port out; `None` for anything but a host and a port.
fn authority(text: &str) -> Option<String> {
    let parsed: http::uri::Authority = text.parse().ok()?;
    let host_is_there = !parsed.host().is_empty() && !text.contains('@');
    let port_text_is_a_number = match text.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok_and(|port| port > 0),
        _ => true,
    };
    if !(host_is_there && port_text_is_a_number) {
        return None;
    }
    let port = parsed.port_u16().unwrap_or(TCP_PORT);
    Some(format!("{}:{port}", parsed.host()))
}

/// Put into a request's extensions, it is told when the engine's answer has begun.
#[derive(Debug, Clone, Default)]
pub(super) struct Answered(pub(super) Arc<Notify>);

/// One engine. It has no state but the API version, so there is nothing to reconnect.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) host: Host,
    /// The path prefix of the API version in use, such as `/v1.41`; `None` until it is known.
    version: Mutex<Option<Arc<str>>>,
}

impl Engine {
    pub(super) fn new(host: Host) -> Arc<Self> {
        Arc::new(Self {
            host,
            version: Mutex::new(None),
        })
    }

    /// The library's client over connections of ours.
    ///
    /// The library's own transports hide why a connection failed, have no keepalive, and (0.21)
    /// lose the API version from the path.
    pub(super) fn client(self: &Arc<Self>) -> Result<Client, RuntimeError> {
        let engine = self.clone();
        Client::connect_with_custom_transport(
            move |request: BollardRequest| {
                let engine = engine.clone();
                async move { engine.send(request).await }
            },
            Some("http://engine"),
            NO_LIMIT_SECS,
            API_DEFAULT_VERSION,
        )
        .map_err(|error| RuntimeError::Failed(error.to_string()))
    }

    /// Forgets the version: an engine that comes back may be another one.
    pub(super) fn forget_version(&self) {
        *self.version.lock() = None;
    }

    async fn send(&self, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
        let version = self.version().await?;
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::from(format!("{version}{path}").parse::<PathAndQuery>()?);
        let answered = request.extensions().get::<Answered>().cloned();
        let response = self.exchange(request).await?;
        if let Some(Answered(answered)) = answered {
            answered.notify_one();
        }
        Ok(response)
    }

    /// A GET whose answer is not the library's to read; `path` is what follows the version.
    pub(super) async fn get(&self, path: &str) -> Result<Response<Incoming>, Error> {
        let version = self.version().await?;
        let request = Request::get(format!("{version}{path}")).body(Empty::<Bytes>::new())?;
        let response = self.exchange(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX)
            .collect()
            .await;
        let text = body.map(|body| body.to_bytes()).unwrap_or_default();
        // `{"message": …}` (Docker Engine API, "Errors").
        let message = serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|json| Some(json.get("message")?.as_str()?.to_owned()))
            .unwrap_or_default();
        Err(Error::DockerResponseServerError {
            status_code: status.as_u16(),
            message,
        })
    }

    /// The newest version that both know, by the engine's answer to a ping (Docker Engine API,
    /// "Versioning"; the ping itself needs no version).
    async fn version(&self) -> Result<Arc<str>, Error> {
        if let Some(version) = self.version.lock().clone() {
            return Ok(version);
        }
        let ping = Request::get("/_ping").body(Empty::<Bytes>::new())?;
        let response = self.exchange(ping).await?;
        let told = response
            .headers()
            .get("api-version")
            .and_then(|value| value.to_str().ok());
        let version: Arc<str> = version_prefix(told).into();
        *self.version.lock() = Some(version.clone());
        Ok(version)
    }

    /// One request on a connection of its own, which ends with the answer's last byte.
    async fn exchange<B>(&self, mut request: Request<B>) -> Result<Response<Incoming>, Error>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = match self.dial().await {
            Ok(stream) => stream,
            Err(err) => {
                self.forget_version();
                return Err(Error::IOError { err });
            }
        };
        let host = match &self.host {
            Host::Unix(_) => HeaderValue::from_static("docker"),
            Host::Tcp(authority) => HeaderValue::from_str(authority).map_err(http::Error::from)?,
        };
        request.headers_mut().insert(HOST, host);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its errors reach us through the request or the answer's body.
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    }

    async fn dial(&self) -> io::Result<Stream> {
        let dialled = match &self.host {
            Host::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Host::Tcp(authority) => TcpStream::connect(authority).await.and_then(|stream| {
                stream.set_nodelay(true)?;
                keep_alive(&stream)?;
                Ok(Stream::Tcp(stream))
            }),
        };
        dialled.map_err(|error| io::Error::new(error.kind(), self.host.why_not(&error)))
    }
}

impl Host {
    /// Why it cannot be reached and what to do, in one sentence.
    fn why_not(&self, error: &io::Error) -> String {
        match (self, error.kind()) {
            (Self::Unix(path), io::ErrorKind::NotFound) => format!(
                "there is no {}; start the Docker engine, or name its socket in docker.host or DOCKER_HOST",
                path.display()
            ),
            (Self::Unix(path), io::ErrorKind::PermissionDenied) => format!(
                "cannot open {}: permission denied; add this user to the docker group or run as root",
                path.display()
            ),
            (Self::Unix(path), io::ErrorKind::ConnectionRefused) => format!(
                "nobody listens at {}; start the Docker engine",
                path.display()
            ),
            (Self::Tcp(_), io::ErrorKind::ConnectionRefused) => {
                format!("nobody listens at {self}; start the Docker engine there")
            }
            _ => format!("cannot connect to {self} ({error}); check docker.host or DOCKER_HOST"),
        }
    }
}

/// A peer that vanished without a word is noticed after about a minute, also by a stream on which
/// only the engine speaks.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// The path prefix for an engine whose newest version is `told`; none when it does not tell.
fn version_prefix(told: Option<&str>) -> String {
    let ours = (
        API_DEFAULT_VERSION.major_version,
        API_DEFAULT_VERSION.minor_version,
    );
    let theirs = told.and_then(|told| {
        let (major, minor) = told.trim().split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    match theirs {
        Some(theirs) => {
            let (major, minor) = ours.min(theirs);
            format!("/v{major}.{minor}")
        }
        None => String::new(),
    }
}

/// `name` as one segment of a path, or `None` where it cannot be one.
pub(super) fn segment(name: &str) -> Option<String> {
    /// What stays as it is: the engine's own alphabet of names.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
    // A URL with dots for a segment is another URL, escaped or not (RFC 3986 §5.2.4), and the
    // engine takes an escaped slash for a slash.
    let is_another_path = matches!(name, "" | "." | "..") || name.contains('/');
    (!is_another_path).then(|| utf8_percent_encode(name, ESCAPED).to_string())
}

/// An open connection to the engine.
#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_sockets_or_addresses() {
        for (text, host) in [
            (
                "unix:///var/run/docker.sock",
                Host::Unix("/var/run/docker.sock".into()),
            ),
            (
                "unix://run/docker.sock",
                Host::Unix("run/docker.sock".into()),
            ),
            ("tcp://10.0.0.1:2376", Host::Tcp("10.0.0.1:2376".to_owned())),
            ("tcp://engine", Host::Tcp("engine:2375".to_owned())),
            ("tcp://engine:2375/", Host::Tcp("engine:2375".to_owned())),
            ("http://[::1]:80", Host::Tcp("[::1]:80".to_owned())),
            ("tcp://[::1]", Host::Tcp("[::1]:2375".to_owned())),
        ] {
            assert_eq!(Host::parse(text), Ok(host), "{text}");
        }
    }

    #[test]
    fn another_host_is_refused_with_what_is_accepted() {
        for text in [
            "",
            "/var/run/docker.sock",
            "unix://",
            "tcp://",
            "tcp://:2375",
            "tcp://engine:port",
            "tcp://engine:0",
            "tcp://engine:99999",
            "tcp://engine:2375/path",
            "tcp://user@engine:2375",
            "ssh://engine",
            "npipe:////./pipe/docker_engine",
            "https://engine:2376",
        ] {
            match Host::parse(text) {
                Err(RuntimeError::Refused(message)) => assert!(
                    message.contains("unix:///path/to/socket or tcp://host:port"),
                    "{message}"
                ),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_unreachable_engine_is_one_sentence_that_says_what_to_do() {
        let host = Host::Unix("/var/run/docker.sock".into());
        let why = |host: &Host, kind: io::ErrorKind| host.why_not(&io::Error::from(kind));
        assert_eq!(
            why(&host, io::ErrorKind::PermissionDenied),
            "cannot open /var/run/docker.sock: permission denied; add this user to the docker group or run as root"
        );
        assert_eq!(
            why(&host, io::ErrorKind::NotFound),
            "there is no /var/run/docker.sock; start the Docker engine, or name its socket in docker.host or DOCKER_HOST"
        );
        assert_eq!(
            why(&host, io::ErrorKind::ConnectionRefused),
            "nobody listens at /var/run/docker.sock; start the Docker engine"
        );
        assert_eq!(
            why(
                &Host::Tcp("engine:2375".to_owned()),
                io::ErrorKind::ConnectionRefused
            ),
            "nobody listens at tcp://engine:2375; start the Docker engine there"
        );
    }

    #[test]
    fn the_older_side_chooses_the_version() {
        assert_eq!(version_prefix(Some("1.41")), "/v1.41");
        assert_eq!(version_prefix(Some("1.9")), "/v1.9");
        let ours = format!("/v{API_DEFAULT_VERSION}");
        assert_eq!(version_prefix(Some("1.999")), ours);
        assert_eq!(version_prefix(Some("2.0")), ours);
        assert_eq!(version_prefix(Some("unknown")), "");
        assert_eq!(version_prefix(None), "");
    }

    #[test]
    fn no_name_leaves_its_segment_of_the_path() {
        assert_eq!(segment("web-1_a.b").as_deref(), Some("web-1_a.b"));
        assert_eq!(segment("b?c#d%").as_deref(), Some("b%3Fc%23d%25"));
        assert_eq!(segment("a/../b"), None);
        assert_eq!(segment(".."), None);
        assert_eq!(segment("."), None);
        assert_eq!(segment(""), None);
    }
}
