//! The port to whatever runs containers: Docker, child processes, or a fake in tests.

pub mod credentials;
pub mod docker;
pub mod fake;
mod feed;
pub mod process;
pub mod reference;
pub mod tail;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use self::credentials::RegistryCredentials;
use crate::decision::ContainerFacts;
use crate::names::WorkloadName;
use crate::spec::WorkloadSpec;

/// The engine's own identifier of a container. It changes when a container is made anew.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0[..self.0.len().min(12)])
    }
}

/// A time on the engine's own clock, in nanoseconds since 1970. Only compared with its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EngineTime(pub i64);

/// A container as the engine tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    pub id: InstanceId,
    pub name: WorkloadName,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    /// Empty in a listing where the engine's list does not tell them; complete after `inspect`.
    pub envs: BTreeMap<String, String>,
    pub state: InstanceState,
    /// Where the gateway reaches it. Only while it runs, and only after `inspect`.
    pub address: Option<IpAddr>,
    /// Exposed TCP ports, lowest first.
    pub ports: Vec<u16>,
    /// What the engine's own health check last said; `None` when it has none.
    pub health: Option<Health>,
}

impl Instance {
    pub fn facts(&self) -> ContainerFacts {
        ContainerFacts {
            name: self.name.to_string(),
            id: self.id.to_string(),
            image: self.image.clone(),
            labels: self.labels.clone(),
            envs: self.envs.clone(),
            ports: self.ports.clone(),
            has_healthcheck: self.health.is_some(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// Made and never started, or ended. `exit_code` of what ended, when the engine knows it.
    Stopped {
        exit_code: Option<i64>,
    },
    Running {
        started_at: EngineTime,
    },
    Paused {
        started_at: EngineTime,
    },
    /// On its way out; nothing can be done with it but wait for its removal.
    Removing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Starting,
    Healthy,
    Unhealthy,
}

/// Something that happened on the engine, to a container with the ownership label.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineEvent {
    pub id: InstanceId,
    pub name: WorkloadName,
    pub at: EngineTime,
    pub kind: EngineEventKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineEventKind {
    /// Made, renamed or changed: what is known of it has to be read again.
    Changed,
    Started,
    /// A signal that ends it was sent: stop, kill, or the container's own stop signal.
    /// Signals that do not end a container (HUP, USR1, …) are not reported.
    Ending,
    Died {
        exit_code: Option<i64>,
    },
    Paused,
    Unpaused,
    Health(Health),
    Destroyed,
}

/// An image as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// The engine's own identifier of its content: two names with the same id are one image.
    pub id: String,
    /// What it takes on the engine's disk, layers that it shares with others included; `None` where
    /// the engine does not know.
    pub size_bytes: Option<u64>,
}

/// How far a pull has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// For people, short: `downloading: 2 of 5 layers`.
    pub line: String,
    /// Of all layers that are known of so far and were not there before, as they are sent.
    pub bytes_done: u64,
    /// Grows while layers begin whose size was not known; 0 while none is.
    pub bytes_total: u64,
}

/// Whether a registry can be reached from where the engine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryHealth {
    /// It answers, if only that it wants credentials.
    Up,
    /// It does not, or with something else than a registry's answer; with the reason.
    Down(String),
    /// This engine has no registries to ask.
    Unknown,
}

/// What can go wrong with an engine, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// Nobody answers at the engine's address, or not in time. Try later.
    #[error("the engine does not answer: {0}")]
    Unreachable(String),
    #[error("no such container: {0}")]
    NotFound(String),
    #[error("the name {0:?} is taken by another container")]
    NameTaken(String),
    #[error("there is no image {0:?} on the engine")]
    ImageMissing(String),
    #[error("there is no network {0:?} on the engine")]
    NetworkMissing(String),
    /// The registry answers that it has no such image, or none for this machine.
    #[error("there is no image {0:?} in its registry")]
    ImageNotFound(String),
    /// The registry does not answer the engine, not in time, or that it cannot now. Try later.
    #[error("the registry does not answer: {0}")]
    RegistryUnreachable(String),
    /// The registry wants credentials, or others than these.
    #[error("the registry denies access: {0}")]
    RegistryDenied(String),
    /// The engine understood and said no: the request cannot succeed as it is.
    #[error("the engine refused: {0}")]
    Refused(String),
    /// The engine failed, or this machine did.
    #[error("the engine failed: {0}")]
    Failed(String),
}

/// A container engine. All calls are about containers with the ownership label; others are
/// treated as if they did not exist.
///
/// Starting what runs, stopping what is stopped, pausing what is paused and removing what is gone
/// are successes: the caller asks for a state, not for a change. Every call ends within a limit of
/// the implementation's (a stop within its grace time and a little more), with `Unreachable` when
/// the engine does not answer.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// `"docker"`, `"process"`, `"fake"`.
    fn kind(&self) -> &'static str;

    /// One line for people: what answers, and where.
    async fn ping(&self) -> Result<String, RuntimeError>;

    /// Makes a container and does not start it. Leaves nothing behind on an error.
    async fn create(&self, spec: &WorkloadSpec) -> Result<InstanceId, RuntimeError>;

    async fn start(&self, id: &InstanceId) -> Result<(), RuntimeError>;

    /// Asks it to end (SIGTERM, or its own stop signal), kills it after `grace`. Wakes a paused
    /// one up to be asked. Returns when it has ended.
    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), RuntimeError>;

    async fn pause(&self, id: &InstanceId) -> Result<(), RuntimeError>;

    async fn unpause(&self, id: &InstanceId) -> Result<(), RuntimeError>;

    /// Kills it when it runs, then removes it with its anonymous volumes.
    async fn remove(&self, id: &InstanceId) -> Result<(), RuntimeError>;

    async fn inspect(&self, id: &InstanceId) -> Result<Instance, RuntimeError>;

    /// How many bytes it has sent over its networks since its start. Only grows while it runs.
    ///
    /// What it receives tells nothing: neighbours' broadcasts are counted with it. `Refused` when it
    /// does not run, or where nobody counts (a child process, a container on the host's network).
    async fn sent_bytes(&self, id: &InstanceId) -> Result<u64, RuntimeError>;

    /// All owned containers, running or not.
    async fn list(&self) -> Result<Vec<Instance>, RuntimeError>;

    /// What happens from now on. The stream has begun to collect when the call returns. It ends
    /// when the engine goes away; then everything has to be listed again.
    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>, RuntimeError>;

    /// The address of the host name `host` as the container `seen_from` would find it: its own
    /// name, alias or `localhost`, or another container's on a common network. Asks the engine,
    /// never a resolver.
    async fn resolve(&self, host: &str, seen_from: &InstanceId) -> Result<IpAddr, RuntimeError>;

    /// The last lines of what a container has printed on both its outputs, in all its runs, oldest
    /// first: at most `lines` and [`tail::LINES_MAX`] of them, [`tail::BYTES_MAX`] in all, as
    /// [`tail::Tail`] makes them fit to be shown. Empty for one that never ran.
    async fn logs(&self, id: &InstanceId, lines: usize) -> Result<Vec<String>, RuntimeError>;

    /// The image that the engine has now under this reference or id; `None` when it has none.
    async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, RuntimeError>;

    /// The engine's identifier of the image that a container was made of, whatever its name means now;
    /// `None` where the engine does not tell.
    async fn image_of(&self, id: &InstanceId) -> Result<Option<String>, RuntimeError>;

    /// Brings an image from the registry that its reference names, also when the engine has one of
    /// that name. Takes as long as it takes, and ends with `RegistryUnreachable` when nothing moves
    /// for a minute. Dropping the future ends the pull, with Docker when its engine next has something
    /// to tell of it; layers that are there already may stay.
    ///
    /// `progress` is called at the beginning, at most four times a second, and at the end.
    ///
    /// Errors besides those of every call: `ImageNotFound`, `RegistryUnreachable`,
    /// `RegistryDenied`; `Refused` when the reference names no image.
    async fn pull(
        &self,
        reference: &str,
        credentials: Option<&RegistryCredentials>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), RuntimeError>;

    /// Takes the images of an archive as `docker save` writes it, compressed with gzip or not.
    /// Answers their references, or the id of one that has no name. Takes as long as the archive
    /// comes in, and fails when nothing moves for a minute.
    ///
    /// Errors: `Failed` with the words of the stream's own error; `Refused` with the engine's words
    /// when this is no such archive, or one without an image.
    async fn load(
        &self,
        archive: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Vec<String>, RuntimeError>;

    /// Takes this name from an image, and the image with its last name. True when the engine has no
    /// image of this name any more, also when it had none. False, and nothing is changed, when
    /// it is still needed: a container was made from it, running or not and whosesoever it is.
    async fn remove_image(&self, reference: &str) -> Result<bool, RuntimeError>;

    /// Gives an image, by its identifier, this name; whatever else had it loses it.
    async fn name_image(&self, id: &str, reference: &str) -> Result<(), RuntimeError>;

    /// Whether the registry `registry` (a host, with its port where it has one) can be reached.
    async fn registry(&self, registry: &str) -> Result<RegistryHealth, RuntimeError>;
}

/// The address that `host` says without anybody being asked, as the container at `own` means it:
/// `localhost` and the loopback addresses are the container itself. An IPv6 address may stand in
/// brackets. `None` for other names.
pub fn literal_address(host: &str, own: IpAddr) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(own);
    }
    let address = host.trim_matches(['[', ']']).parse().ok()?;
    let itself = [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()];
    Some(if itself.contains(&address) {
        own
    } else {
        address
    })
}
