//! An engine in memory, for tests: it does what it is told and remembers what it was asked.

mod engine;
mod images;
mod state;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::runtime::credentials::RegistryCredentials;
use crate::runtime::{EngineEventKind, Health, Instance, InstanceId, InstanceState, RuntimeError};
use crate::spec::WorkloadSpec;
use state::State;

pub use images::PullBehaviour;

/// An engine in memory. For tests; clones are the same engine.
///
/// Its delays are tokio's, so that a paused clock rules them. A start or a stop goes on when the
/// caller drops its future, as a real engine does. All methods that take a name panic when there
/// is no such container: the test is wrong then.
///
/// ```
/// # use wakegate::{names::WorkloadName, runtime::{fake::Fake, Runtime}, spec::WorkloadSpec};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let fake = Fake::new();
/// let id = fake.add(WorkloadSpec::new(WorkloadName::new("a").unwrap(), "image:1"));
/// fake.behave("a", |a| a.start_delay = std::time::Duration::from_millis(3));
/// fake.start(&id).await.unwrap();
/// assert!(fake.is_running("a"));
/// assert_eq!(fake.starts("a"), 1);
/// # });
/// ```
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    /// Told of every change and every call; the number is of no meaning.
    changes: watch::Sender<u64>,
}

/// What containers of one name are like and do. Kept by name, so it can be set before the
/// container is made and outlives its removal.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    /// From the start call to the moment when it runs (or fails).
    pub start_delay: Duration,
    /// What every start fails with, after the delay.
    pub start_error: Option<RuntimeError>,
    /// A start goes no further while this is true, after the delay.
    pub start_held: bool,
    /// It exits by itself so long after each start, with this code.
    pub exits_after: Option<(Duration, i64)>,
    /// From its stop signal to its end. Past the grace time it is killed.
    pub stop_delay: Duration,
    /// What every stop fails with, at once and with nothing done.
    pub stop_error: Option<RuntimeError>,
    /// A stopping one does not end while this is true, not even when it is killed.
    pub stop_held: bool,
    /// The code it exits with when it is stopped in its grace time.
    pub stop_code: i64,
    pub address: IpAddr,
    /// It is on no network while this is true, and has no address.
    pub off_network: bool,
    /// Ports in place of the specification's own.
    pub ports: Option<Vec<u16>>,
    /// What the engine's health check says from each start on.
    pub health_at_start: Option<Health>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start_delay: Duration::ZERO,
            start_error: None,
            start_held: false,
            exits_after: None,
            stop_delay: Duration::ZERO,
            stop_error: None,
            stop_held: false,
            stop_code: 0,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            off_network: false,
            ports: None,
            health_at_start: None,
        }
    }
}

/// A call that came through the trait. A container that was not found is told by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Ping,
    Create(String),
    Start(String),
    Stop(String),
    Pause(String),
    Unpause(String),
    Remove(String),
    Inspect(String),
    SentBytes(String),
    List,
    Events,
    Resolve {
        host: String,
        seen_from: String,
    },
    Logs(String),
    Image(String),
    Pull {
        image: String,
        credentials: Option<RegistryCredentials>,
    },
    Load,
    RemoveImage(String),
    Registry(String),
}

impl Fake {
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new())),
            changes: watch::Sender::new(0),
        }
    }

    /// A stopped container that somebody made. Panics when the name is taken.
    pub fn add(&self, spec: WorkloadSpec) -> InstanceId {
        self.change(|state| state.create(&spec))
            .expect("the name is free")
    }

    /// A container without the ownership label: it takes its name and is never shown.
    pub fn add_foreign(&self, name: &str) {
        self.change(|state| state.foreign.insert(name.to_owned()));
    }

    /// From now on there is no such network.
    pub fn without_network(&self, network: &str) {
        self.change(|state| state.missing_networks.insert(network.to_owned()));
    }

    /// Changes what containers of this name are like and do.
    pub fn behave(&self, name: &str, change: impl FnOnce(&mut Behaviour)) {
        self.change(|state| change(state.behaviours.entry(name.to_owned()).or_default()));
    }

    /// Called with each container that starts, after it runs and before its event is sent: the
    /// moment for a test to begin to listen.
    pub fn on_start(&self, hook: impl Fn(&Instance) + Send + Sync + 'static) {
        self.state.lock().on_start = Some(Arc::new(hook));
    }

    /// Called with each container that ended, before its event is sent.
    pub fn on_end(&self, hook: impl Fn(&Instance) + Send + Sync + 'static) {
        self.state.lock().on_end = Some(Arc::new(hook));
    }

    /// Listings take so long from now on.
    pub fn delay_listings(&self, delay: Duration) {
        self.state.lock().listing_delay = delay;
    }

    /// The engine goes away (all calls are `Unreachable`, event streams end) or comes back.
    /// Containers go on living, and nobody hears of what happens to them.
    pub fn set_reachable(&self, reachable: bool) {
        self.change(|state| {
            state.reachable = reachable;
            if !reachable {
                state.feed.end_all();
            }
        });
    }

    /// Ends all event streams while the engine goes on answering.
    pub fn end_event_streams(&self) {
        self.change(|state| state.feed.end_all());
    }

    /// It prints a line.
    pub fn print(&self, name: &str, line: &str) {
        let id = self.id(name);
        self.change(|state| state.container(&id).printed.push(line.to_owned()));
    }

    /// It exits by itself. Nothing happens when it does not run.
    pub fn exit(&self, name: &str, code: i64) {
        let id = self.id(name);
        self.end(&id, code);
    }

    /// A signal that ends it was sent, by whomever; its end is told with `exit`.
    pub fn end_signal(&self, name: &str) {
        let id = self.id(name);
        self.change(|state| state.tell(&id, EngineEventKind::Ending));
    }

    /// What the engine's health check says from now on.
    pub fn set_health(&self, name: &str, health: Option<Health>) {
        let id = self.id(name);
        self.change(|state| {
            state.container(&id).instance.health = health;
            if let Some(health) = health {
                state.tell(&id, EngineEventKind::Health(health));
            }
        });
    }

    /// It sends so many bytes.
    pub fn send_bytes(&self, name: &str, bytes: u64) {
        let id = self.id(name);
        self.change(|state| state.container(&id).sent_bytes += bytes);
    }

    /// Somebody else starts it, without any delay. Nothing happens when it runs.
    pub fn start_outside(&self, name: &str) {
        let id = self.id(name);
        self.begin(&id);
    }

    /// Somebody else stops it, without any delay.
    pub fn stop_outside(&self, name: &str) {
        self.end_signal(name);
        self.exit(name, 0);
    }

    pub fn pause_outside(&self, name: &str) {
        let id = self.id(name);
        self.change(|state| state.pause(&id))
            .expect("a paused container was running");
    }

    pub fn unpause_outside(&self, name: &str) {
        let id = self.id(name);
        self.change(|state| state.unpause(&id))
            .expect("it is paused");
    }

    /// Somebody else removes it, killing it when it runs.
    pub fn remove_outside(&self, name: &str) {
        let id = self.id(name);
        if self.runs(&id) {
            self.end_signal(name);
            self.end(&id, KILLED);
        }
        self.change(|state| state.destroy(&id));
    }

    /// Everything that was asked through the trait, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().calls.clone()
    }

    /// How often exactly this was asked.
    pub fn count(&self, call: &Call) -> usize {
        self.state.lock().count(call)
    }

    /// How often a start of this container was asked.
    pub fn starts(&self, name: &str) -> usize {
        self.count(&Call::Start(name.to_owned()))
    }

    /// How often a stop of this container was asked.
    pub fn stops(&self, name: &str) -> usize {
        self.count(&Call::Stop(name.to_owned()))
    }

    /// How often this container began to run, by whomever, since it was made.
    pub fn runs_begun(&self, name: &str) -> usize {
        let id = self.id(name);
        self.state.lock().container(&id).runs_begun
    }

    /// The container as it is now, or `None` when there is none of the name.
    pub fn get(&self, name: &str) -> Option<Instance> {
        self.state.lock().by_name(name)
    }

    /// The id of the container of this name.
    pub fn id(&self, name: &str) -> InstanceId {
        self.get(name)
            .unwrap_or_else(|| panic!("there is no container {name:?}"))
            .id
    }

    /// Whether it runs and is not paused.
    pub fn is_running(&self, name: &str) -> bool {
        let state = self.get(name).map(|instance| instance.state);
        matches!(state, Some(InstanceState::Running { .. }))
    }

    /// Returns when the condition holds; it is asked now and after each call and change.
    pub async fn wait_until(&self, condition: impl Fn(&Fake) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(self) {
            let told = changes.changed().await;
            told.expect("the sender lives in self");
        }
    }

    /// Returns when exactly this has been asked so often.
    pub async fn wait_for_calls(&self, call: &Call, times: usize) {
        self.wait_until(|fake| fake.count(call) >= times).await;
    }
}

/// The exit code of what was killed with SIGKILL.
const KILLED: i64 = 137;

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}
