//! gateway.toml: as it is typed, as it is meant.
//!
//! [`keys`] tells every key, [`load`] reads a file, [`from_process`] also this process's environment.
//! A key's value comes from its `WAKEGATE_…` variable, else from the file, else (for `docker.host`
//! only) from `DOCKER_HOST`, else it is the default. Images of `[process.images]`, constants of
//! `[vars]` and applications of `[apps]` have names of the user's own and no such variable; a constant
//! says itself which one it comes from, if any.

mod apps;
mod check;
mod env;
mod error;
mod keys;
mod kind;
mod meant;
mod store;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
mod typed;
mod vars;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jiff::tz::TimeZone;

use crate::names::AppName;
use crate::spec::SpecPolicy;

pub use apps::{App, DEFAULT_REGISTRY};
pub use env::{RESERVED as ENV_RESERVED, env_names, unknown_variables};
pub use error::{ConfigError, ConfigErrors, Place};
pub use keys::{KeyInfo, keys};
pub use meant::{from_process, load, parse};
pub use store::{StoreLocation, StoreOptions};

/// The whole configuration, checked: every value in it can be used as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub public: Public,
    pub admin: Admin,
    pub runtime: Runtime,
    pub docker: Docker,
    pub process: Process,
    pub scripts: Scripts,
    pub hold: Hold,
    pub lifecycle: Lifecycle,
    pub upstream: Upstream,
    pub traefik: Traefik,
    pub spec: SpecPolicy,
    /// `[apps.APP]`: applications with releases; default none.
    pub apps: BTreeMap<AppName, App>,
    pub log: Log,
}

/// `[public]`: the listener that requests come in at.
#[derive(Debug, Clone, PartialEq)]
pub struct Public {
    /// Default `0.0.0.0:8000`.
    pub listen: Listen,
    /// Worker threads; default one a core.
    pub workers: usize,
    /// Proxies whose `X-Forwarded-*` fields are believed; default none.
    pub trusted_proxies: Vec<IpNet>,
    /// For a request's head to arrive; default 30 s.
    pub head_timeout: Duration,
    /// The longest pause between two requests of a connection; default 2 min.
    pub idle_timeout: Duration,
    /// Default 64 KiB, at least 8 KiB.
    pub head_bytes_max: usize,
    /// Header fields in a request; default 100.
    pub headers_max: usize,
    /// A request's body; default 1 GiB; past it 413.
    pub body_bytes_max: u64,
    /// Open client connections over all workers; default 10,000; past it new ones wait in the kernel's queue.
    pub connections_max: usize,
}

/// `[admin]`: the private listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Default `127.0.0.1:8008`.
    pub listen: Listen,
    /// From `token`, `token_file` or `WAKEGATE_ADMIN_TOKEN`.
    pub token: Option<Secret>,
    /// No token although the address is not a loopback or unix one.
    pub insecure: bool,
    /// Names besides the listener's own address and localhost that the Host header may have.
    pub hosts: Vec<String>,
}

/// Where to listen: `host:port` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

/// `[runtime]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Runtime {
    /// Default `auto`.
    pub engine: Engine,
    /// The label that marks a container as ours, as key and value; default `wakegate.enable=true`.
    pub ownership_label: (String, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Docker when its engine answers, else processes.
    Auto,
    Docker,
    Process,
}

/// `[docker]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Docker {
    /// `unix:///path` or `tcp://host:port`; default `DOCKER_HOST`, else `unix:///var/run/docker.sock`.
    pub host: String,
    /// The network of a specification that names none, and the first choice where a container has
    /// several; default the engine's default bridge.
    pub network: Option<String>,
    /// For one call to the engine that does not wait for a container; default 30 s.
    pub timeout: Duration,
}

/// `[process]`: the runtime without an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// State and log files; default `.wakegate/process`.
    pub dir: PathBuf,
    /// `[process.images."name:tag"]`: what a specification's `image` runs.
    pub images: BTreeMap<String, ProcessImage>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProcessImage {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// The port that it listens on, at the address in its environment variable `BIND_ADDRESS`.
    pub port: Option<u16>,
    /// Environment variables besides the specification's.
    pub envs: BTreeMap<String, String>,
}

/// `[scripts]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Scripts {
    /// Default `scripts`.
    pub dir: PathBuf,
    /// Whether changes are taken while the gateway runs; default true.
    pub watch: bool,
    pub given: Given,
    /// What becomes of a change that decides requests otherwise; default `report`.
    pub shadow: Shadow,
    /// Request heads that are kept to try changes on, a worker; default 256.
    pub shadow_requests_max: usize,
    /// The share of failed decisions in the minute after a change past which the version before
    /// comes back; default none: it does not.
    pub rollback_failures_max: Option<f64>,
}

/// What is done with the requests seen last when the scripts change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shadow {
    /// Old and new scripts are asked about them, and what they decide otherwise is told.
    Report,
    /// And the new scripts wait until they are activated, if they decide any otherwise.
    Hold,
    /// None are kept and nothing is tried.
    Off,
}

/// What scripts are given besides their requests: it is the same for every call of a version.
#[derive(Clone, PartialEq)]
pub struct Given {
    pub limits: ScriptLimits,
    /// `[vars]`: constants by name, as scripts read them at `vars.NAME`. Default none.
    pub vars: BTreeMap<String, Constant>,
    /// Where the hours and days that scripts see are counted; default UTC.
    pub time_zone: TimeZone,
    /// `[apps]`: the names that `app(…)` may be given in quotes. `None`: they are not known, and
    /// nothing is checked.
    pub apps: Option<BTreeSet<AppName>>,
}

/// The value of one constant.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Constant>),
}

/// What one call of a script may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptLimits {
    /// Rhai operations; default 100,000.
    pub operations_max: u64,
    /// The thread's CPU time; default 10 ms.
    pub cpu_time_max: Duration,
    /// The same while a version is loaded; default 1 s.
    pub load_cpu_time_max: Duration,
    /// Nested calls; default 32.
    pub call_depth_max: usize,
    /// Default 64 KiB.
    pub string_bytes_max: usize,
    /// Default 1,000.
    pub array_items_max: usize,
    /// Default 1,000.
    pub map_entries_max: usize,
    /// Remembered decisions a worker; default 10,000; 0 switches the memo off.
    pub memo_entries_max: usize,
}

/// `[hold]`: requests that wait for a workload to wake.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// The longest that a request is held; default 60 s; then 504.
    pub time: Duration,
    /// Held requests a workload; default 1,000; past it 503.
    pub queue_max: usize,
    /// Held requests in all; default 10,000; past it 503.
    pub total_max: usize,
}

/// `[lifecycle]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifecycle {
    /// Start calls to the engine at once; default twice the cores.
    pub parallel_starts: usize,
    /// For the engine to carry out a start; default 60 s.
    pub start_timeout: Duration,
    /// For a workload to become ready where the scripts have no `ready` rule; default 60 s.
    pub ready_timeout: Duration,
    /// Between SIGTERM and SIGKILL; default 10 s.
    pub stop_timeout: Duration,
    /// Without use before a workload is stopped where the scripts have no `idle` rule; default 10 min.
    pub idle_after: Duration,
    /// For requests to end before a workload is removed; default 30 s.
    pub drain_timeout: Duration,
    /// The pause after a first failed start; default 1 s. Doubles each time, with jitter.
    pub backoff_min: Duration,
    /// Default 1 min.
    pub backoff_max: Duration,
}

/// `[upstream]`: connections to applications.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Default 2 s.
    pub connect_timeout: Duration,
    /// For an answer to begin where the decision has no `timeout`; default 2 min; then 504.
    pub response_timeout: Duration,
    /// Idle connections kept to a workload, a worker; default 64.
    pub idle_connections_max: usize,
    /// Default 60 s.
    pub idle_timeout: Duration,
}

/// `[traefik]`: a Traefik that the gateway stands beside.
#[derive(Debug, Clone, PartialEq)]
pub struct Traefik {
    /// `http://host:port[/path]` of its API; default none: nobody is asked.
    pub api: Option<String>,
    /// The URL of its Prometheus metrics; default `/metrics` at its API.
    pub metrics: Option<String>,
    /// For it to take up the route of a container that was woken; default 5 s; then the gateway
    /// answers the request itself.
    pub route_timeout: Duration,
    /// What it is given for that where it cannot be asked; default 500 ms.
    pub settle_time: Duration,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Default `text`.
    pub format: LogFormat,
    /// A filter such as `info` or `wakegate=debug`; default `info`.
    pub level: String,
    /// One line a request; default false.
    pub requests: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl std::fmt::Display for Listen {
    /// As it is written in gateway.toml.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Default for ScriptLimits {
    fn default() -> Self {
        Self {
            operations_max: 100_000,
            cpu_time_max: Duration::from_millis(10),
            load_cpu_time_max: Duration::from_secs(1),
            call_depth_max: 32,
            string_bytes_max: 64 << 10,
            array_items_max: 1_000,
            map_entries_max: 1_000,
            memo_entries_max: 10_000,
        }
    }
}

impl std::fmt::Debug for Given {
    /// Without the values of `[vars]`: what comes from the environment may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given")
            .field("limits", &self.limits)
            .field("vars", &self.vars.keys())
            .field("time_zone", &self.time_zone)
            .field("apps", &self.apps)
            .finish()
    }
}

impl Default for Given {
    fn default() -> Self {
        ScriptLimits::default().into()
    }
}

impl From<ScriptLimits> for Given {
    /// With no constants, in UTC, and with whatever applications.
    fn from(limits: ScriptLimits) -> Self {
        Self {
            limits,
            vars: BTreeMap::new(),
            time_zone: TimeZone::UTC,
            apps: None,
        }
    }
}

impl Default for Config {
    /// The configuration of an empty gateway.toml.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            public: Public {
                listen: Listen::Tcp(([0, 0, 0, 0], 8000).into()),
                workers: cores,
                trusted_proxies: Vec::new(),
                head_timeout: Duration::from_secs(30),
                idle_timeout: Duration::from_secs(120),
                head_bytes_max: 64 << 10,
                headers_max: 100,
                body_bytes_max: 1 << 30,
                connections_max: 10_000,
            },
            admin: Admin {
                listen: Listen::Tcp(([127, 0, 0, 1], 8008).into()),
                token: None,
                insecure: false,
                hosts: Vec::new(),
            },
            runtime: Runtime {
                engine: Engine::Auto,
                ownership_label: ("wakegate.enable".to_owned(), "true".to_owned()),
            },
            docker: Docker {
                host: "unix:///var/run/docker.sock".to_owned(),
                network: None,
                timeout: Duration::from_secs(30),
            },
            process: Process {
                dir: PathBuf::from(".wakegate/process"),
                images: BTreeMap::new(),
            },
            scripts: Scripts {
                dir: PathBuf::from("scripts"),
                watch: true,
                given: Given::default(),
                shadow: Shadow::Report,
                shadow_requests_max: 256,
                rollback_failures_max: None,
            },
            hold: Hold {
                time: Duration::from_secs(60),
                queue_max: 1_000,
                total_max: 10_000,
            },
            lifecycle: Lifecycle {
                parallel_starts: 2 * cores,
                start_timeout: Duration::from_secs(60),
                ready_timeout: Duration::from_secs(60),
                stop_timeout: Duration::from_secs(10),
                idle_after: Duration::from_secs(600),
                drain_timeout: Duration::from_secs(30),
                backoff_min: Duration::from_secs(1),
                backoff_max: Duration::from_secs(60),
            },
            upstream: Upstream {
                connect_timeout: Duration::from_secs(2),
                response_timeout: Duration::from_secs(120),
                idle_connections_max: 64,
                idle_timeout: Duration::from_secs(60),
            },
            traefik: Traefik {
                api: None,
                metrics: None,
                route_timeout: Duration::from_secs(5),
                settle_time: Duration::from_millis(500),
            },
            spec: SpecPolicy::default(),
            apps: BTreeMap::new(),
            log: Log {
                format: LogFormat::Text,
                level: "info".to_owned(),
                requests: false,
            },
        }
    }
}
