//! What one line stands on: a folder, names of its own, and an end that leaves nothing behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use wakegate::config;
use wakegate::runtime::Runtime;
use wakegate::runtime::process::Process;

use crate::gateway::Log;
use crate::setup::Setup;
use crate::world::{self, Engine, LABEL, PORT};

/// For anything that is waited for: far more than it takes, so that a line fails and does not hang.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Where the process runtime keeps its state in a line's folder.
pub const STATE_DIR: &str = "state";

/// What runs a line's containers.
#[derive(Clone)]
pub enum Kind {
    Process,
    Docker(Engine),
}

/// What one line works on.
#[derive(Clone)]
pub struct Bench(Arc<Inner>);

struct Inner {
    kind: Kind,
    dir: TempDir,
    mark: String,
    gateways: Mutex<Vec<(Option<Pid>, Log)>>,
}

/// Benches that are in use, for the end that comes from outside.
static IN_USE: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

impl Bench {
    pub async fn new(kind: Kind) -> Result<Self, String> {
        if let Kind::Docker(engine) = &kind {
            engine.prepare().await?;
        }
        let bench = Self(Arc::new(Inner {
            kind,
            dir: tempfile::tempdir().map_err(|error| error.to_string())?,
            mark: format!("e2e-{:08x}", fastrand::u32(..)),
            gateways: Mutex::default(),
        }));
        IN_USE.lock().push(Arc::downgrade(&bench.0));
        Ok(bench)
    }

    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// The engine of a line that is only about Docker.
    pub fn engine(&self) -> &Engine {
        match self.kind() {
            Kind::Docker(engine) => engine,
            Kind::Process => unreachable!("a line about Docker"),
        }
    }

    pub fn dir(&self) -> &Path {
        self.0.dir.path()
    }

    /// The value of the label of everything that this line makes on the engine.
    pub fn mark(&self) -> &str {
        &self.0.mark
    }

    /// A configuration for this line, to be changed and started.
    pub fn setup(&self) -> Setup {
        Setup::of(self)
    }

    /// The image of the sample application.
    pub fn image(&self) -> String {
        match self.kind() {
            Kind::Process => "minionapp:latest".to_owned(),
            Kind::Docker(engine) => engine.image(),
        }
    }

    pub fn name(&self, short: &str) -> String {
        format!("{}-{short}", self.mark())
    }

    /// A specification of the sample application that has a health URL and ends after minutes.
    pub fn sample(&self, short: &str) -> Sample {
        let name = self.name(short);
        Sample(json!({
            "image": self.image(),
            "labels": { "healthcheck": format!("http://{name}:{PORT}/status") },
            "envs": { "IDLE": "5m", "CONNSTR": format!("db {short}") },
            "name": name,
        }))
    }

    /// Notes a gateway, so that it is ended with the bench.
    pub fn note(&self, pid: Pid, log: Log) {
        self.0.gateways.lock().push((Some(pid), log));
    }

    /// It has been waited for: its number may be somebody else's now.
    pub fn ended(&self, pid: Pid) {
        for (known, _) in self.0.gateways.lock().iter_mut() {
            *known = known.filter(|known| *known != pid);
        }
    }

    /// Everything that a container's application has printed in all its runs.
    pub async fn output(&self, id: &str) -> String {
        match self.kind() {
            Kind::Docker(engine) => engine.output(id).await,
            Kind::Process => {
                let file = self.dir().join(STATE_DIR).join(id).join("log");
                std::fs::read_to_string(file).unwrap_or_default()
            }
        }
    }

    /// How often the application has come up, by its own word.
    pub async fn starts(&self, id: &str) -> usize {
        self.output(id).await.matches("listens on").count()
    }

    /// It has come up so many times. One that has just answered may have to be waited for: its word
    /// comes to the engine's log by another way than its answer.
    pub async fn has_started(&self, id: &str, times: usize) {
        let what = format!("{id} has started {times} times");
        let starts = until(&what, || async {
            let starts = self.starts(id).await;
            (starts >= times).then_some(starts)
        });
        assert_eq!(starts.await, times, "{id} has started more often");
    }

    /// Whether it runs, by the engine's or the kernel's word.
    pub async fn runs(&self, id: &str) -> bool {
        match self.kind() {
            Kind::Docker(engine) => engine.runs(id).await,
            Kind::Process => !world::processes_of(id).is_empty(),
        }
    }

    /// Ends an application at once, behind the gateway's back.
    pub async fn kill(&self, id: &str) {
        match self.kind() {
            Kind::Docker(engine) => engine.kill(id).await,
            Kind::Process => world::signal_processes_of(id, Signal::KILL),
        }
    }

    /// Whether the engine has a container of that name.
    pub async fn exists(&self, name: &str) -> bool {
        match self.kind() {
            Kind::Docker(engine) => engine.exists(name).await,
            Kind::Process => {
                let folders = std::fs::read_dir(self.dir().join(STATE_DIR));
                folders.into_iter().flatten().flatten().any(|folder| {
                    let spec = std::fs::read_to_string(folder.path().join("spec.json"));
                    spec.is_ok_and(|spec| spec.contains(&format!("\"{name}\"")))
                })
            }
        }
    }

    /// What the gateways of this line have logged last.
    pub fn story(&self) -> String {
        let gateways = self.0.gateways.lock();
        let logs = gateways.iter().map(|(_, log)| log.end());
        logs.collect::<Vec<_>>()
            .join("\n--- the next gateway ---\n")
    }

    /// Ends the gateways that still run and removes all that was made.
    pub async fn clear(&self) -> Result<(), String> {
        for pid in self.0.gateways.lock().iter().filter_map(|(pid, _)| *pid) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        match self.kind() {
            Kind::Docker(engine) => engine.remove_all(self.mark()).await,
            Kind::Process => self.clear_processes().await,
        }
    }

    async fn clear_processes(&self) -> Result<(), String> {
        let dir = self.dir().join(STATE_DIR);
        if !dir.exists() {
            return Ok(());
        }
        let images = BTreeMap::new();
        let config = config::Process { dir, images };
        let label = (LABEL.to_owned(), self.mark().to_owned());
        // A gateway that was killed holds the folder until the kernel is done with it.
        let runtime = until("the state folder is free", || async {
            Process::open(&config, BTreeMap::new(), label.clone()).ok()
        });
        let runtime = runtime.await;
        let told = |error: wakegate::runtime::RuntimeError| error.to_string();
        for instance in runtime.list().await.map_err(told)? {
            runtime.remove(&instance.id).await.map_err(told)?;
        }
        Ok(())
    }
}

/// A specification in the making.
#[derive(Clone)]
pub struct Sample(pub Value);

impl Sample {
    pub fn name(&self) -> &str {
        self.0["name"].as_str().expect("a name")
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.0["envs"][key] = value.into();
        self
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["labels"][key] = value.into();
        self
    }

    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0[key] = value.into();
        self
    }

    /// Another one with this added to its name.
    pub fn renamed(self, more: &str) -> Self {
        let name = format!("{}-{more}", self.name());
        let health = format!("http://{name}:{PORT}/status");
        self.with("name", name).label("healthcheck", &health)
    }

    /// Its path at the gateway, with what follows.
    pub fn path(&self, rest: &str) -> String {
        format!("/session/{}/{rest}", self.name())
    }
}

/// Asks until there is an answer. For what no event tells from outside.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// For what ends by itself.
pub async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Clears all benches when the whole suite is told to end.
pub async fn clear_when_interrupted() {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate()]
        .map(|kind| signal(kind).expect("signals can be listened to"));
    let [interrupt, terminate] = &mut signals;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let in_use: Vec<_> = IN_USE.lock().iter().filter_map(Weak::upgrade).collect();
    let mut engine = None;
    for inner in in_use {
        let bench = Bench(inner);
        if let Err(error) = bench.clear().await {
            eprintln!("{} is not cleared: {error}", bench.mark());
        }
        if let Kind::Docker(shared) = bench.kind() {
            engine = Some(shared.clone());
        }
    }
    if let Some(Err(error)) = match engine {
        Some(engine) => Some(engine.clear().await),
        None => None,
    } {
        eprintln!("the engine is not cleared: {error}");
    }
    std::process::exit(130);
}
