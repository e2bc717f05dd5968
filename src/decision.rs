//! What scripts are asked and what they answer, as plain data: facts in, decisions out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::names::{AppName, WorkloadName};
use crate::spec::WorkloadSpec;

/// What a script may know of a request. Borrowed from the request itself, so that asking is free.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    pub method: &'a Method,
    /// `"http"` or `"https"`, as the client used it.
    pub scheme: &'a str,
    /// The host without its port, as the client wrote it; `""` when it wrote none.
    pub host: &'a str,
    /// The path as it was sent: still percent-encoded, always with a leading slash.
    pub path: &'a str,
    /// What follows the `?`, or `""`.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// The client's address, as the trusted proxies tell it.
    pub client: IpAddr,
    /// When its head had arrived, in seconds since 1970-01-01 UTC. A fact like any other, so that
    /// the same facts get the same decision.
    pub at: i64,
}

/// What is to be done with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    Proxy(ProxyDecision),
    Redirect(Redirect),
    Respond(Reply),
}

/// Forward to a workload, or to an application.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyDecision {
    pub destination: Destination,
    /// The application's port; `None` is the workload's own (its port label or exposed port).
    pub port: Option<u16>,
    /// Leading path segments to drop.
    pub strip: usize,
    /// A path in place of the request's own; the query stays. Goes before `strip`.
    pub path: Option<String>,
    /// How long the application may take to begin its answer; `None` is the configured limit.
    pub timeout: Option<Duration>,
    /// How long the request may be held while the workload wakes; `None` is the configured limit.
    pub wait: Option<Duration>,
    pub asleep: Asleep,
    /// True: the client is known to follow a redirect of [`Asleep::Redirect`] with any method and
    /// with its body.
    pub follows: bool,
    /// False: the request does not count as activity, so it does not keep the workload awake.
    pub counts: bool,
    /// How to make the workload when it does not exist. An application's releases are made of their
    /// launch configurations, whatever this says.
    pub create: Option<CreateFrom>,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
}

/// What a request is forwarded to.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    Workload(WorkloadName),
    /// A release of the application: the current one, unless it goes to one that is tried.
    App {
        name: AppName,
        canary: Canary,
    },
}

/// Which requests go to the release that is tried as a canary. Without one, all go to the current.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Canary {
    /// None, whatever cookie they bring.
    #[default]
    Never,
    /// All, whatever cookie they bring.
    Always,
    /// Those of so many of a hundred clients; more than 0 and less than 100. A client that has a
    /// cookie of this canary keeps to what it says.
    Percent(f64),
}

impl Canary {
    /// `None`: it is not from 0 to 100.
    pub fn percent(percent: f64) -> Option<Self> {
        match percent {
            0.0 => Some(Canary::Never),
            100.0 => Some(Canary::Always),
            between if between > 0.0 && between < 100.0 => Some(Canary::Percent(between)),
            _ => None,
        }
    }

    pub fn as_percent(self) -> f64 {
        match self {
            Canary::Never => 0.0,
            Canary::Always => 100.0,
            Canary::Percent(percent) => percent,
        }
    }
}

impl ProxyDecision {
    /// Plain forwarding to a workload, with every default.
    pub fn to(workload: WorkloadName) -> Self {
        Self::at(Destination::Workload(workload))
    }

    /// The same to the current release of an application.
    pub fn to_app(name: AppName) -> Self {
        Self::at(Destination::App {
            name,
            canary: Canary::Never,
        })
    }

    fn at(destination: Destination) -> Self {
        Self {
            destination,
            port: None,
            strip: 0,
            path: None,
            timeout: None,
            wait: None,
            asleep: Asleep::Hold,
            follows: false,
            counts: true,
            create: None,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
        }
    }
}

/// What happens to a request whose workload is not awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Asleep {
    /// Wake the workload and hold the request until it is ready.
    Hold,
    /// Wake it; show a waiting page to a browser that navigates, hold everything else.
    Page,
    /// Wake it, wait until it is ready and the proxy in front can know it, then 307 to the same
    /// URL; a request whose client would not follow is held instead.
    Redirect,
    /// 503, and do not wake it.
    Refuse,
}

/// A template of the scripts and the values to fill it with.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateFrom {
    pub template: String,
    pub vars: serde_json::Map<String, serde_json::Value>,
}

/// Header fields to set (replacing what is there) or to drop.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeaderEdits {
    /// In the order in which the script asked; `None` drops the field.
    pub edits: Vec<(HeaderName, Option<HeaderValue>)>,
}

impl HeaderEdits {
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.edits {
            match value {
                Some(value) => drop(headers.insert(name.clone(), value.clone())),
                None => drop(headers.remove(name)),
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Redirect {
    /// One of 301, 302, 303, 307, 308.
    pub status: StatusCode,
    pub location: HeaderValue,
    pub headers: HeaderEdits,
}

/// An answer made by the gateway itself on a script's word.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: StatusCode,
    pub body: Arc<str>,
    /// Goes out as `Retry-After`, in whole seconds, rounded up.
    pub retry_after: Option<Duration>,
    pub headers: HeaderEdits,
}

/// What `on_error` is told of a request that cannot be forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorFacts {
    /// The status of the built-in answer.
    pub status: u16,
    /// A stable word: `unknown_workload`, `no_route`, `queue_full`, `hold_timeout`, `start_failed`,
    /// `engine_unreachable`, `upstream_failed`, `upstream_timeout`, `script_failed`, `unknown_app`,
    /// `no_release`, `maintenance`, `paused`, …
    pub kind: Cow<'static, str>,
    pub message: String,
    /// The workload that the request was for, or `""`.
    pub workload: String,
    /// The application that the request was for, or `""`.
    pub app: String,
    pub retry_after_secs: Option<u64>,
}

/// What `ready` and `idle` hooks are told of a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerFacts {
    pub name: String,
    pub id: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub envs: BTreeMap<String, String>,
    /// Exposed TCP ports, lowest first.
    pub ports: Vec<u16>,
    /// Whether the engine itself checks the container's health.
    pub has_healthcheck: bool,
}

/// How to know that a started workload can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyRule {
    /// Ready so long after its start, unasked.
    Wait(Duration),
    /// Ready when a GET answers 2xx or 3xx.
    Probe {
        /// `http://host[:port]/path`, or a path on the workload's own port.
        target: String,
        /// The longest pause between two attempts; the first ones come faster.
        every: Duration,
        /// After so long it is a failed start.
        max: Duration,
    },
    /// Ready when its port accepts a connection.
    Tcp { max: Duration },
    /// Ready when the engine's own HEALTHCHECK says healthy.
    Health { max: Duration },
}

/// When a workload that nothing uses may sleep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdleRule {
    Never,
    StopAfter(Duration),
    PauseAfter(Duration),
    /// The same for a workload that is also used past the gateway: after so long without a request
    /// through the gateway, in which the sign told of no other use either.
    UnlessBusy {
        sleep: Sleep,
        after: Duration,
        sign: BusySign,
    },
}

/// How a workload sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    Stopped,
    Paused,
}

/// What tells whether a workload is used past the gateway. The `target` is
/// `http://host[:port]/path`, or a path on the workload's own port; a field of the answer's JSON is
/// named by its path, with dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusySign {
    /// A GET answers 200 when it is in use and 204 when it is not; with a field, 200 with JSON whose
    /// field is true, a number but zero, or not empty when it is in use.
    Probe {
        target: Arc<str>,
        field: Option<Arc<str>>,
    },
    /// A GET answers 200 with JSON whose field is a number that grows with each use.
    Count { target: Arc<str>, field: Arc<str> },
    /// The bytes that it sends, by the engine's statistics.
    SentBytes,
    /// The requests that a Traefik beside the gateway has had answered by it.
    TraefikRequests,
}

impl IdleRule {
    /// After how long it sleeps, and how; `None` is never.
    pub fn sleep(&self) -> Option<(Duration, Sleep)> {
        match self {
            IdleRule::Never => None,
            IdleRule::StopAfter(after) => Some((*after, Sleep::Stopped)),
            IdleRule::PauseAfter(after) => Some((*after, Sleep::Paused)),
            IdleRule::UnlessBusy { after, sleep, .. } => Some((*after, *sleep)),
        }
    }

    /// What is to be asked before.
    pub fn sign(&self) -> Option<&BusySign> {
        match self {
            IdleRule::UnlessBusy { sign, .. } => Some(sign),
            _ => None,
        }
    }
}

impl std::fmt::Display for BusySign {
    /// As scripts write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BusySign::Probe {
                target,
                field: None,
            } => write!(f, "busy_probe({target:?})"),
            BusySign::Probe {
                target,
                field: Some(field),
            } => write!(f, "busy_probe({target:?}, {field:?})"),
            BusySign::Count { target, field } => write!(f, "busy_count({target:?}, {field:?})"),
            BusySign::SentBytes => f.write_str("sent_bytes()"),
            BusySign::TraefikRequests => f.write_str("traefik_requests()"),
        }
    }
}

/// A script's failure on one call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ScriptFailure {
    /// What went wrong, with `file:line:col`.
    pub message: String,
    /// The source line with a caret below the column, when the place is known.
    pub source_line: Option<String>,
}

impl ScriptFailure {
    /// The message, and the source line below it.
    pub fn in_full(&self) -> String {
        match &self.source_line {
            Some(line) => format!("{}\n{line}", self.message),
            None => self.message.clone(),
        }
    }
}

/// The questions about containers that the lifecycle asks of the scripts.
///
/// An `Ok(None)` means that the scripts have no such hook; the built-in default then holds.
pub trait ContainerRules: Send + Sync {
    fn ready(&self, container: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure>;

    fn idle(&self, container: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure>;

    /// Fills a template. `Ok(None)`: there is none of that name.
    fn template(
        &self,
        name: &str,
        vars: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure>;
}
