//! A client of the admin API, over TCP or a unix socket: what the command line deploys and lists with.

pub mod releases;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{self, Listen, Secret};
use crate::script::explain::{Explanation, Wish};
use crate::spec::WorkloadSpec;

/// Where the token is taken from when the configuration has none.
pub const TOKEN_VARIABLE: &str = "WAKEGATE_ADMIN_TOKEN";

/// For one call, besides what it was told to wait: draining and stopping take their time.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// The largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Workload names go as they are; anything else is escaped.
const SEGMENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.');

/// Speaks to one gateway. Each call makes a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    address: Listen,
    token: Option<Secret>,
}

/// Why a call did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no gateway answers at {address} ({source}); is 'wakegate serve' running?")]
    Unreachable {
        address: String,
        source: std::io::Error,
    },
    /// The gateway said no. `detail` is in its words.
    #[error("{detail}")]
    Refused {
        status: StatusCode,
        /// A stable word, such as `name_taken`.
        kind: String,
        detail: String,
        /// The last lines of the log of the container that it is about.
        log: Vec<String>,
    },
    /// The connection broke before the whole answer was there.
    #[error(
        "the gateway at {address} was gone before it had answered ({reason}); \
         what it did of this is not known"
    )]
    Gone { address: String, reason: String },
    #[error("the gateway at {address} did not answer within {} s", waited.as_secs())]
    TimedOut { address: String, waited: Duration },
    #[error("the answer of {address} is not one of a gateway: {reason}")]
    Garbled { address: String, reason: String },
}

/// A carried out order.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Done {
    #[serde(default)]
    pub id: String,
    pub name: String,
    pub state: String,
}

/// A workload as the gateway shows it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Instance {
    pub id: String,
    pub name: String,
    pub phase: String,
    pub reason: Option<String>,
    pub address: Option<String>,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub leases: u64,
    pub waiting: usize,
    pub idle_seconds: Option<f64>,
    pub idle_stop_seconds: Option<f64>,
    pub drain_seconds_left: Option<f64>,
    pub phase_seconds: f64,
}

impl Client {
    /// `address` is where a gateway listens; its "all addresses" is reached by loopback.
    pub fn new(address: Listen, token: Option<Secret>) -> Self {
        let address = match address {
            Listen::Tcp(tcp) if tcp.ip().is_unspecified() => {
                let loopback = if tcp.is_ipv4() {
                    Ipv4Addr::LOCALHOST.into()
                } else {
                    Ipv6Addr::LOCALHOST.into()
                };
                Listen::Tcp(SocketAddr::new(loopback, tcp.port()))
            }
            other => other,
        };
        Self { address, token }
    }

    /// To the gateway of this configuration, with its token or that of [`TOKEN_VARIABLE`].
    pub fn of(config: &config::Admin) -> Self {
        let from_environment = || {
            let token = std::env::var(TOKEN_VARIABLE).ok()?;
            (!token.is_empty()).then_some(Secret(token))
        };
        let token = config.token.clone().or_else(from_environment);
        Self::new(config.listen.clone(), token)
    }

    /// Makes a workload and, with `start`, starts it.
    pub async fn post_deploy(&self, spec: &WorkloadSpec, start: bool) -> Result<Done, ClientError> {
        let body = serde_json::to_value(spec).map_err(|error| self.garbled(error))?;
        self.post(&body, start).await
    }

    /// The same from a template of the scripts.
    pub async fn post_template(
        &self,
        template: &str,
        vars: &Map<String, Value>,
        start: bool,
    ) -> Result<Done, ClientError> {
        let body = json!({ "template": template, "vars": vars });
        self.post(&body, start).await
    }

    async fn post(&self, body: &Value, start: bool) -> Result<Done, ClientError> {
        let path = format!("/deploy?start={start}");
        self.call(Method::POST, &path, Some(body), CALL_TIMEOUT)
            .await
    }

    /// All workloads, by name.
    pub async fn list(&self) -> Result<Vec<Instance>, ClientError> {
        #[derive(Deserialize)]
        struct Listing {
            instances: Vec<Instance>,
        }
        let listing: Listing = self
            .call(Method::GET, "/deploy", None, CALL_TIMEOUT)
            .await?;
        Ok(listing.instances)
    }

    pub async fn get(&self, name_or_id: &str) -> Result<Instance, ClientError> {
        self.call(Method::GET, &path_of(name_or_id), None, CALL_TIMEOUT)
            .await
    }

    /// Starts a workload; with `until_ready`, returns when it is ready, at most after that time.
    pub async fn start(
        &self,
        name_or_id: &str,
        until_ready: Option<Duration>,
    ) -> Result<Done, ClientError> {
        let mut path = path_of(name_or_id);
        if let Some(limit) = until_ready {
            path += &format!("?wait=ready&timeout={}ms", limit.as_millis());
        }
        let limit = CALL_TIMEOUT + until_ready.unwrap_or_default();
        self.call(Method::PUT, &path, None, limit).await
    }

    /// Drains, stops and removes a workload.
    pub async fn delete(&self, name_or_id: &str) -> Result<Done, ClientError> {
        self.call(Method::DELETE, &path_of(name_or_id), None, CALL_TIMEOUT)
            .await
    }

    /// Why the gateway decides a request as it does.
    pub async fn explain(&self, wish: &Wish) -> Result<Explanation, ClientError> {
        let body = serde_json::to_value(wish).map_err(|error| self.garbled(error))?;
        self.call(Method::POST, "/scripts/explain", Some(&body), CALL_TIMEOUT)
            .await
    }

    /// Whether the gateway can do its work; the error says what is missing.
    pub async fn ready(&self) -> Result<(), ClientError> {
        let _: Value = self
            .call(Method::GET, "/readyz", None, CALL_TIMEOUT)
            .await?;
        Ok(())
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let body = body.map(|body| body.to_string().into());
        self.send(method, path, body, limit).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let request = self.request(method, path, body)?;
        let exchange = async {
            match &self.address {
                Listen::Tcp(address) => {
                    let stream = TcpStream::connect(address).await;
                    self.exchange(stream.map_err(|source| self.unreachable(source))?, request)
                        .await
                }
                Listen::Unix(path) => {
                    let stream = UnixStream::connect(path).await;
                    self.exchange(stream.map_err(|source| self.unreachable(source))?, request)
                        .await
                }
            }
        };
        let answered = tokio::time::timeout(limit, exchange).await;
        let (status, bytes) = answered.map_err(|_| ClientError::TimedOut {
            address: self.address.to_string(),
            waited: limit,
        })??;
        if !status.is_success() {
            return Err(refusal(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| self.garbled(error))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let host = match &self.address {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(_) => "localhost".to_owned(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.0))
                .map_err(|_| self.garbled("the admin token has characters that no header can"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| self.garbled(error))
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.garbled(error))?;
        let talk = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
            let bytes = body.collect().await?.to_bytes();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, bytes))
        };
        // The connection is driven here, and ends with the call. When it ends on its own, the
        // call has its answer or its error.
        let mut talk = std::pin::pin!(talk);
        let answered = tokio::select! {
            answered = &mut talk => answered,
            _ = connection => talk.await,
        };
        answered.map_err(|error| match error.downcast_ref::<hyper::Error>() {
            Some(ended) if broken(ended) => ClientError::Gone {
                address: self.address.to_string(),
                reason: ended.to_string(),
            },
            _ => self.garbled(error),
        })
    }

    fn unreachable(&self, source: std::io::Error) -> ClientError {
        ClientError::Unreachable {
            address: self.address.to_string(),
            source,
        }
    }

    fn garbled(&self, reason: impl ToString) -> ClientError {
        ClientError::Garbled {
            address: self.address.to_string(),
            reason: reason.to_string(),
        }
    }
}

impl ClientError {
    /// The stable word of a refusal, such as `name_taken`.
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Refused { kind, .. } => Some(kind),
            _ => None,
        }
    }
}

/// Whether the connection ended, in contrast to an answer that makes no sense.
fn broken(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<hyper::Error>()) {
        // A request that was not sent any more, and why.
        Some(why) if error.is_canceled() => broken(why),
        _ => {
            error.is_incomplete_message()
                || error.is_closed()
                || error.is_canceled()
                || source.is_some_and(|source| source.is::<std::io::Error>())
        }
    }
}

fn path_of(name_or_id: &str) -> String {
    let segment = percent_encoding::utf8_percent_encode(name_or_id, SEGMENT);
    format!("/deploy/{segment}")
}

fn refusal(status: StatusCode, bytes: &[u8]) -> ClientError {
    #[derive(Deserialize)]
    struct Problem {
        #[serde(default)]
        kind: String,
        detail: String,
        #[serde(default)]
        log: Vec<String>,
    }
    // Limits on heads are answered below the API, without a body.
    let problem = serde_json::from_slice(bytes).unwrap_or_else(|_| Problem {
        kind: String::new(),
        detail: format!("the gateway answered {status}"),
        log: Vec::new(),
    });
    ClientError::Refused {
        status,
        kind: problem.kind,
        detail: problem.detail,
        log: problem.log,
    }
}
