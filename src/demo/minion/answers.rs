//! What the sample application answers, path by path.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::go_duration::in_go_style;
use super::settings::Settings;
use super::streams;
use super::usage::{Usage, Use, UsedBody};

/// The application: what all its connections share.
pub struct Minion {
    settings: Settings,
    /// Where it is reached; read once, since a container's addresses stay while it runs.
    addresses: Vec<IpAddr>,
    usage: Arc<Usage>,
    started: Instant,
    /// Requests to `/status` so far.
    checks: AtomicU32,
    /// Cancelled when it ends: streams and websockets are to come to an end.
    ending: CancellationToken,
    /// Everything that it waits for before it ends.
    tasks: TaskTracker,
}

/// What reached it, and whom.
#[derive(Debug, Serialize)]
struct Report<'a> {
    hostname: &'a str,
    addresses: &'a [IpAddr],
    connstr: Option<&'a str>,
    /// Since its start.
    uptime_ms: u64,
    peer: SocketAddr,
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: BTreeMap<&'a str, Vec<String>>,
    body: BodyReport,
}

#[derive(Debug, Serialize)]
struct BodyReport {
    length: u64,
    sha256: String,
}

#[derive(Debug, Serialize)]
struct Status {
    status: &'static str,
    /// Until it ends, if nobody uses it.
    left: String,
}

#[derive(Debug, Serialize)]
struct UsageReport {
    /// Requests, streams and websockets that go on.
    current: usize,
    /// All since its start.
    requests: u64,
}

#[derive(Debug, Deserialize)]
struct InUseQuery {
    ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct SlowQuery {
    ms: Option<u64>,
}

/// A request that cannot be answered as it is, with one sentence why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadRequest(pub String);

impl Minion {
    pub fn new(
        settings: Settings,
        listens_on: SocketAddr,
        ending: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            addresses: own_addresses(listens_on.ip()),
            settings,
            usage: Usage::new(),
            started: Instant::now(),
            checks: AtomicU32::new(0),
            ending,
            tasks,
        }
    }

    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Answers a request. The path's last segment decides, so that it works below any prefix.
    pub async fn answer(&self, request: Request<Body>, peer: SocketAddr) -> Response {
        let (parts, body) = request.into_parts();
        let what = parts.uri.path().rsplit('/').next().unwrap_or_default();
        // What machines ask is no use of it.
        match what {
            "status" => return self.status(),
            "usage" => return self.usage_report(),
            "in-use" => {
                let answer = self.in_use(&parts.uri);
                return answer.unwrap_or_else(BadRequest::into_response);
            }
            _ => {}
        }
        let current = self.usage.begin();
        let answer = match what {
            "echo" => self.echo(parts).await,
            "events" => query(&parts.uri)
                .map(|wanted| streams::events(wanted, &self.settings.hostname, &self.ending)),
            "bytes" => query(&parts.uri).map(streams::bytes),
            "slow" => self.slow(&parts, body, peer).await,
            _ => self.report(&parts, body, peer).await,
        };
        let answer = answer.unwrap_or_else(BadRequest::into_response);
        still_in_use(answer, current)
    }

    fn status(&self) -> Response {
        let checks = self.checks.fetch_add(1, Ordering::Relaxed);
        let code = if checks < self.settings.fail_first {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            self.settings.status
        };
        let left = match self.settings.idle {
            Some(idle) => in_go_style(idle.saturating_sub(self.usage.idle_time())),
            None => "never".to_owned(),
        };
        let status = if code.as_u16() < 400 { "ok" } else { "failing" };
        (code, Json(Status { status, left })).into_response()
    }

    fn usage_report(&self) -> Response {
        let report = UsageReport {
            current: self.usage.current(),
            requests: self.usage.begun(),
        };
        Json(report).into_response()
    }

    /// 200 when it is in use, or was in the last `ms` milliseconds; 204 when it was not.
    fn in_use(&self, uri: &Uri) -> Result<Response, BadRequest> {
        let InUseQuery { ms } = query(uri)?;
        let lately = Duration::from_millis(ms.unwrap_or(1000));
        let was_used = self.usage.begun() > 0 && self.usage.idle_time() < lately;
        let code = if was_used {
            StatusCode::OK
        } else {
            StatusCode::NO_CONTENT
        };
        Ok(code.into_response())
    }

    async fn slow(
        &self,
        parts: &Parts,
        body: Body,
        peer: SocketAddr,
    ) -> Result<Response, BadRequest> {
        let SlowQuery { ms } = query(&parts.uri)?;
        let report = self.report(parts, body, peer).await?;
        sleep(Duration::from_millis(ms.unwrap_or(1000))).await;
        Ok(report)
    }

    async fn echo(&self, parts: Parts) -> Result<Response, BadRequest> {
        let guard = (self.usage.begin(), self.tasks.token());
        Ok(streams::echo(parts, guard, self.ending.clone()).await)
    }

    async fn report(
        &self,
        parts: &Parts,
        body: Body,
        peer: SocketAddr,
    ) -> Result<Response, BadRequest> {
        let body = digest(body).await?;
        let report = Report {
            hostname: &self.settings.hostname,
            addresses: &self.addresses,
            connstr: self.settings.connstr.as_deref(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            peer,
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query(),
            headers: in_plain(&parts.headers),
            body,
        };
        Ok((self.settings.answer_status, Json(report)).into_response())
    }
}

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({ "error": self.0 }));
        (StatusCode::BAD_REQUEST, body).into_response()
    }
}

/// The same answer, which counts as use until its last byte.
fn still_in_use(answer: Response, current: Use) -> Response {
    answer.map(|body| Body::new(UsedBody::new(body, current)))
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, BadRequest> {
    match Query::try_from_uri(uri) {
        Ok(Query(query)) => Ok(query),
        Err(error) => Err(BadRequest(error.body_text())),
    }
}

/// Length and hash of a body of any length, which is not kept.
async fn digest(mut body: Body) -> Result<BodyReport, BadRequest> {
    let mut hash = Sha256::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BadRequest(format!("the body broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            length += data.len() as u64;
            hash.update(&data);
        }
    }
    let sha256 = format!("{:x}", hash.finalize());
    Ok(BodyReport { length, sha256 })
}

/// The header fields as they came, by name; a name that came twice has two values.
fn in_plain(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    let mut plain = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        plain.entry(name.as_str()).or_default().push(value);
    }
    plain
}

/// The address that it listens on, or when that is all of them, those of its interfaces but loopback.
fn own_addresses(listens_on: IpAddr) -> Vec<IpAddr> {
    if !listens_on.is_unspecified() {
        return vec![listens_on];
    }
    // A machine that does not tell its interfaces still serves.
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces
        .iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(|interface| interface.ip())
        .collect()
}
