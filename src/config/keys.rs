//! The one table of keys: what each is called, takes, defaults to and sets.
//!
//! The check for unknown names, the environment variables and what is told of them all read it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apps::{HealthPath, Registry};
use super::kind::{
    Amount, Bytes, Complaint, Count, FilePath, Flag, Kind, ListOf, OneOf, Optional, TextTable, Time,
};
use super::store::{Region, ServerUrl, Store};
use super::typed::Value;
use super::words::{
    Argument, Capability, EngineHost, EngineName, Filter, Host, HostPath, IanaName, Label,
    Listener, Network, PlainUrl, Token,
};
use super::{App, Config, Engine, LogFormat, ProcessImage, Shadow};
use crate::spec::{HEALTH_TIME_MAX, HEALTH_TIME_MIN};

/// What the keys of a file set, before the parts are checked against each other.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    pub config: Config,
    pub token_file: Option<PathBuf>,
}

/// One key, setting a part of a `T`.
pub struct Key<T: 'static> {
    pub table: &'static str,
    pub name: &'static str,
    /// A line for people; says the default where it is no fixed value.
    pub about: &'static str,
    /// Reads a value into its place. The folder is where relative paths start.
    pub read: fn(&mut T, &Value, &Path) -> Result<(), Vec<Complaint>>,
    /// The value as TOML; `None` where there is none, or where it is a secret.
    pub show: fn(&T) -> Option<String>,
    /// Whether the default depends on the machine.
    pub computed: bool,
}

impl<T> Key<T> {
    /// The environment variable that sets the key.
    pub fn variable(&self) -> String {
        format!("WAKEGATE_{}_{}", self.table, self.name).to_uppercase()
    }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// 365.25 days, which is what the duration's own notation calls a year.
const YEAR: Duration = Duration::from_secs(31_557_600);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

macro_rules! key {
    ($table:ident.$name:ident => $($place:ident).+, $kind:expr, $about:expr) => {
        key!($table.$name => $($place).+, $kind, $about, computed: false)
    };
    ($table:ident.$name:ident => $($place:ident).+, $kind:expr, $about:expr, computed: $computed:expr) => {
        Key {
            table: stringify!($table),
            name: stringify!($name),
            about: $about,
            read: |target, value, base| {
                target.$($place).+ = $kind.read(value, base)?;
                Ok(())
            },
            show: |target| $kind.show(&target.$($place).+),
            computed: $computed,
        }
    };
}

/// Every key of gateway.toml but those of `[process.images]`, `[vars]` and `[apps]`, in the order of the file.
pub static KEYS: &[Key<Draft>] = &[
    key!(public.listen => config.public.listen, Listener,
        "where requests come in: address:port or unix:/path"),
    key!(public.workers => config.public.workers, Count(1, 1_024),
        "worker threads; default: one a core", computed: true),
    key!(public.trusted_proxies => config.public.trusted_proxies, ListOf(Network),
        "addresses and networks of proxies whose X-Forwarded-* fields are believed"),
    key!(public.head_timeout => config.public.head_timeout, Time(MS, HOUR),
        "for a request's head to arrive"),
    key!(public.idle_timeout => config.public.idle_timeout, Time(MS, DAY),
        "the longest pause between two requests of a connection; longer than a proxy in front keeps it"),
    key!(public.head_bytes_max => config.public.head_bytes_max, Bytes(8 * KIB, 16 * MIB),
        "size of a request's head; past it 431"),
    key!(public.headers_max => config.public.headers_max, Count(1, 10_000),
        "header fields in a request; past it 431"),
    key!(public.body_bytes_max => config.public.body_bytes_max, Bytes(1, 1 << 50),
        "size of a request's body; past it 413"),
    key!(public.connections_max => config.public.connections_max, Count(1, 1_000_000),
        "open client connections over all workers; past it new ones wait in the kernel's queue"),
    key!(admin.listen => config.admin.listen, Listener,
        "the private API: address:port or unix:/path"),
    key!(admin.token => config.admin.token, Optional(Token),
        "what clients of the API send as a bearer token, 16 characters or more; default: none"),
    key!(admin.token_file => token_file, Optional(FilePath),
        "a file with the token in it, in place of token; default: none"),
    key!(admin.insecure => config.admin.insecure, Flag,
        "true: no token although other machines can reach the API"),
    key!(admin.hosts => config.admin.hosts, ListOf(Host),
        "names that the Host field may have besides localhost and the listener's own address"),
    key!(runtime.engine => config.runtime.engine,
        OneOf(&[("auto", Engine::Auto), ("docker", Engine::Docker), ("process", Engine::Process)]),
        "what runs the workloads; auto takes Docker when its engine answers, else processes"),
    key!(runtime.ownership_label => config.runtime.ownership_label, Label,
        "the label, key=value, of the containers that the gateway may touch"),
    key!(docker.host => config.docker.host, EngineHost,
        "the engine's address, unix:///path or tcp://host:port; DOCKER_HOST goes before the default"),
    key!(docker.network => config.docker.network, Optional(EngineName),
        "network of a specification that names none; default: the engine's own default bridge"),
    key!(docker.timeout => config.docker.timeout, Time(SECOND, HOUR),
        "for one call to the engine that does not wait for a container"),
    key!(process.dir => config.process.dir, FilePath,
        "state and log files of the process runtime"),
    key!(scripts.dir => config.scripts.dir, FilePath,
        "the directory of the *.rhai files"),
    key!(scripts.watch => config.scripts.watch, Flag,
        "whether changed scripts are taken while the gateway runs"),
    key!(scripts.shadow => config.scripts.shadow,
        OneOf(&[("report", Shadow::Report), ("hold", Shadow::Hold), ("off", Shadow::Off)]),
        "a change is tried on the last requests: report tells what it decides otherwise, hold waits for a word then"),
    key!(scripts.shadow_requests_max => config.scripts.shadow_requests_max, Count(0, 10_000),
        "request heads that are kept for that, without the secrets that no script reads"),
    key!(scripts.rollback_failures_max => config.scripts.rollback_failures_max, Optional(Amount(0.0, 1.0)),
        "share of decisions on which scripts may fail in the minute after a change before the old version comes back; default: any"),
    key!(scripts.operations_max => config.scripts.given.limits.operations_max, Count(100, 1_000_000_000),
        "Rhai operations of one call"),
    key!(scripts.cpu_time_max => config.scripts.given.limits.cpu_time_max, Time(MS, MINUTE),
        "CPU time of one call"),
    key!(scripts.load_cpu_time_max => config.scripts.given.limits.load_cpu_time_max, Time(MS, HOUR),
        "CPU time of one call while scripts are loaded"),
    key!(scripts.call_depth_max => config.scripts.given.limits.call_depth_max, Count(1, 128),
        "calls within calls"),
    key!(scripts.string_bytes_max => config.scripts.given.limits.string_bytes_max, Bytes(256, 64 * MIB),
        "size of a string in a script"),
    key!(scripts.array_items_max => config.scripts.given.limits.array_items_max, Count(1, 1_000_000),
        "items of an array in a script"),
    key!(scripts.map_entries_max => config.scripts.given.limits.map_entries_max, Count(1, 1_000_000),
        "entries of an object map in a script"),
    key!(scripts.memo_entries_max => config.scripts.given.limits.memo_entries_max, Count(0, 10_000_000),
        "decisions that a worker remembers; 0 switches the memo off"),
    key!(scripts.time_zone => config.scripts.given.time_zone, IanaName,
        "the time zone of the hours and days that scripts see, by its IANA name"),
    key!(hold.time => config.hold.time, Time(MS, HOUR),
        "the longest that a request is held while its workload wakes; then 504"),
    key!(hold.queue_max => config.hold.queue_max, Count(1, 1_000_000),
        "requests held for one workload; past it 503"),
    key!(hold.total_max => config.hold.total_max, Count(1, 1_000_000),
        "requests held in all; past it 503"),
    key!(lifecycle.parallel_starts => config.lifecycle.parallel_starts, Count(1, 1_024),
        "starts that the engine is asked for at once; default: two a core", computed: true),
    key!(lifecycle.start_timeout => config.lifecycle.start_timeout, Time(MS, HOUR),
        "for the engine to carry out a start"),
    key!(lifecycle.ready_timeout => config.lifecycle.ready_timeout, Time(MS, HOUR),
        "for a workload to become ready where the scripts have no ready rule"),
    key!(lifecycle.stop_timeout => config.lifecycle.stop_timeout, Time(MS, HOUR),
        "between asking a workload to end (SIGTERM) and killing it"),
    key!(lifecycle.idle_after => config.lifecycle.idle_after, Time(MS, YEAR),
        "without use before a workload is stopped where the scripts have no idle rule"),
    key!(lifecycle.drain_timeout => config.lifecycle.drain_timeout, Time(MS, DAY),
        "for requests to end before a workload is removed"),
    key!(lifecycle.backoff_min => config.lifecycle.backoff_min, Time(MS, HOUR),
        "pause after a first failed start; doubles each time, with jitter"),
    key!(lifecycle.backoff_max => config.lifecycle.backoff_max, Time(MS, DAY),
        "the longest such pause"),
    key!(upstream.connect_timeout => config.upstream.connect_timeout, Time(MS, HOUR),
        "for a connection to a workload"),
    key!(upstream.response_timeout => config.upstream.response_timeout, Time(MS, DAY),
        "for an answer to begin where the decision has no timeout; then 504"),
    key!(upstream.idle_connections_max => config.upstream.idle_connections_max, Count(1, 100_000),
        "idle connections that a worker keeps to a workload"),
    key!(upstream.idle_timeout => config.upstream.idle_timeout, Time(MS, DAY),
        "how long it keeps them"),
    key!(traefik.api => config.traefik.api, Optional(PlainUrl),
        "the API of a Traefik that the gateway stands beside, which tells its routes; default: none"),
    key!(traefik.metrics => config.traefik.metrics, Optional(PlainUrl),
        "its Prometheus metrics; default: /metrics at its API"),
    key!(traefik.route_timeout => config.traefik.route_timeout, Time(MS, MINUTE),
        "for it to take up a woken container's route; then the gateway answers the request itself"),
    key!(traefik.settle_time => config.traefik.settle_time, Time(Duration::ZERO, MINUTE),
        "what it is given for that where it cannot be asked"),
    key!(spec.allow_binds => config.spec.binds, ListOf(HostPath),
        "host paths that may be mounted, each with all below it"),
    key!(spec.allow_privileged => config.spec.privileged, Flag,
        "true: privileged containers"),
    key!(spec.allow_capabilities => config.spec.cap_add, ListOf(Capability),
        "capabilities that may be added"),
    key!(spec.allow_host_network => config.spec.host_network, Flag,
        "true: the host's own network"),
    key!(spec.allow_devices => config.spec.devices, ListOf(HostPath),
        "device paths that may be named"),
    key!(spec.memory_max => config.spec.memory_max, Optional(Bytes(6 << 20, 1 << 50)),
        "the most memory, and what one that asks for none gets; default: no limit"),
    key!(spec.cpus_max => config.spec.cpus_max, Optional(Amount(0.01, 4_096.0)),
        "the most cores, likewise; default: no limit"),
    key!(spec.pids_max => config.spec.pids_max, Optional(Count(1, 4_194_304)),
        "the most processes and threads, likewise; default: no limit"),
    key!(log.format => config.log.format,
        OneOf(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
        "text for people, json for machines; to standard error"),
    key!(log.level => config.log.level, Filter,
        "a level, or a filter such as info,wakegate::proxy=debug"),
    key!(log.requests => config.log.requests, Flag,
        "true: one line a request"),
];

/// The keys of one `[process.images."name:tag"]`, which no environment variable can set.
pub static IMAGE_KEYS: &[Key<ProcessImage>] = &[
    key!(image.command => command, ListOf(Argument),
        "the program and its arguments"),
    key!(image.port => port, Optional(Count(1, u16::MAX)),
        "the port that it listens on, at the address in its variable BIND_ADDRESS"),
    key!(image.envs => envs, TextTable,
        "environment variables besides the specification's"),
];

/// The keys of one `[apps.APP]`, which no environment variable can set.
pub static APP_KEYS: &[Key<App>] = &[
    key!(apps.store => store, Store,
        "launch configurations and history: file:path or s3://bucket/prefix"),
    key!(apps.store_endpoint => store_options.endpoint, Optional(ServerUrl),
        "the URL of another S3 server; default: Amazon's, or what AWS_ENDPOINT_URL says"),
    key!(apps.store_region => store_options.region, Optional(Region),
        "the bucket's region; default: what AWS_REGION says, else us-east-1"),
    key!(apps.store_path_style => store_options.path_style, Optional(Flag),
        "false: the bucket stands in the host's name, not in the path; default: true, or what AWS_VIRTUAL_HOSTED_STYLE_REQUEST says"),
    key!(apps.journal => journal, FilePath,
        "this gateway's note of its last switch, for when the store is away"),
    key!(apps.registry => registry, Registry,
        "where images come from whose launch configuration names none"),
    key!(apps.registry_credentials => registry_credentials, Optional(FilePath),
        "a Docker config.json with the registries' credentials; default: none"),
    key!(apps.env_file => env_file, Optional(FilePath),
        "KEY=VALUE lines: environment variables of every release; default: none"),
    key!(apps.keep => keep, Count(0, 50),
        "previous releases that stay asleep, to go back to at once"),
    key!(apps.drain_timeout => drain_timeout, Time(Duration::ZERO, DAY),
        "for the requests of a superseded release to end"),
    key!(apps.health_path => health_path, Optional(HealthPath),
        "what a healthy release answers 2xx or 3xx; default: none, as the scripts' ready rule says"),
    key!(apps.health_timeout => health_timeout, Time(HEALTH_TIME_MIN, HEALTH_TIME_MAX),
        "for a release to get healthy, where its launch configuration does not say"),
    key!(apps.rollback_failures_max => rollback_failures_max, Optional(Amount(0.0, 1.0)),
        "share of failures by which a new release may exceed the old one before that comes back; default: any"),
    key!(apps.rollback_watch => rollback_watch, Time(SECOND, DAY),
        "how long after a switch that is looked at"),
    key!(apps.rollback_requests_min => rollback_requests_min, Count(1, 1_000_000),
        "fewer requests to the new release say nothing"),
    key!(apps.pause_max => pause_max, Time(MS, HOUR),
        "the longest that a pause holds a request; then 503"),
    key!(apps.network => network, Optional(EngineName),
        "network of the containers; default: that of [docker]"),
];

/// The table of applications: its names are the user's own.
pub const APPS: &str = "apps";

/// The table of tables that stands apart: its names are the user's own.
pub const IMAGES: (&str, &str) = ("process", "images");

/// The table of constants: its names are the user's own too, and no environment variable sets them.
pub const VARS: &str = "vars";

/// The table of how scripts are loaded.
pub const SCRIPTS: &str = "scripts";

/// Every table that may stand in a file, in its order.
pub fn all_tables() -> impl Iterator<Item = &'static str> + Clone {
    tables().flat_map(|table| {
        [table]
            .into_iter()
            .chain((table == SCRIPTS).then_some(VARS))
            .chain((table == "spec").then_some(APPS))
    })
}

/// The names of the tables that have keys of ours, in the order of the file.
pub fn tables() -> impl Iterator<Item = &'static str> + Clone {
    let starts = |n: usize| n == 0 || KEYS[n - 1].table != KEYS[n].table;
    (0..KEYS.len())
        .filter(move |n| starts(*n))
        .map(|n| KEYS[n].table)
}

/// A key as it is told to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    pub table: &'static str,
    pub name: &'static str,
    pub variable: String,
    /// As it is written in gateway.toml; `None` where there is none or it depends on the machine,
    /// which `about` then says.
    pub default: Option<String>,
    pub about: &'static str,
}

/// Every key that an environment variable can set too, in the order of the file.
pub fn keys() -> impl Iterator<Item = KeyInfo> {
    let defaults = Draft::default();
    KEYS.iter().map(move |key| KeyInfo {
        table: key.table,
        name: key.name,
        variable: key.variable(),
        default: (key.show)(&defaults).filter(|_| !key.computed),
        about: key.about,
    })
}
