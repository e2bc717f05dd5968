//! The runtimes under test, and the bench that one trial works on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tempfile::TempDir;
use wakegate::config::{self, ProcessImage};
use wakegate::names::WorkloadName;
use wakegate::runtime::docker::Docker;
use wakegate::runtime::fake::Fake;
use wakegate::runtime::process::Process;
use wakegate::runtime::{
    EngineEvent, EngineEventKind, Instance, InstanceId, InstanceState, RegistryHealth, Runtime,
    RuntimeError,
};
use wakegate::spec::WorkloadSpec;

/// The sample application's port.
pub const PORT: u16 = 9000;

/// An image that no engine has.
pub const NO_IMAGE: &str = "wakegate-test-no-such-image:latest";

/// Where no registry listens: the port belongs to a service that nobody has had for decades.
pub const NO_REGISTRY: &str = "127.0.0.1:1";

/// A network that no engine has.
pub const NO_NETWORK: &str = "wakegate-test-no-such-network";

/// For something to happen that takes milliseconds on a quiet machine.
pub const LONG: Duration = Duration::from_secs(60);

/// A runtime under test.
pub struct Subject {
    pub runtime: Arc<dyn Runtime>,
    /// An image that runs `wakegate`; the command says as what.
    pub image: String,
    pub network: Option<String>,
    /// Whether something answers at a workload's address.
    pub serves: bool,
    /// Whether there are networks that a specification can miss.
    pub has_networks: bool,
    pub others: Others,
    /// Kept until the end.
    engine: Engine,
}

/// How to make containers that are not ours.
pub enum Others {
    None,
    Fake(Fake),
    /// The same engine under another ownership label.
    Runtime(Arc<dyn Runtime>),
}

enum Engine {
    Fake(Fake),
    Process(#[expect(dead_code, reason = "removed with its directory when dropped")] TempDir),
    Docker(Arc<Docker>),
}

pub fn fake() -> Subject {
    let fake = Fake::new();
    fake.without_image(NO_IMAGE);
    let away = "connection refused".to_owned();
    fake.set_registry(NO_REGISTRY, RegistryHealth::Down(away.clone()));
    let image = format!("{NO_REGISTRY}/{NO_IMAGE}");
    fake.without_image(&image);
    fake.behave_pull(&image, |it| {
        it.error = Some(RuntimeError::RegistryUnreachable(away));
    });
    fake.without_network(NO_NETWORK);
    Subject {
        runtime: Arc::new(fake.clone()),
        image: "image:1".to_owned(),
        network: None,
        serves: false,
        has_networks: true,
        others: Others::Fake(fake.clone()),
        engine: Engine::Fake(fake),
    }
}

pub fn process() -> Result<Subject, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let image = ProcessImage {
        command: vec![env!("CARGO_BIN_EXE_wakegate").to_owned()],
        port: Some(PORT),
        envs: BTreeMap::new(),
    };
    let config = config::Process {
        dir: dir.path().to_owned(),
        images: BTreeMap::from([("sample:1".to_owned(), image)]),
    };
    let label = ("wakegate.test".to_owned(), "true".to_owned());
    let process = Process::open(&config, BTreeMap::new(), label);
    Ok(Subject {
        runtime: Arc::new(process.map_err(|error| error.to_string())?),
        image: "sample:1".to_owned(),
        network: Some("any".to_owned()),
        serves: true,
        has_networks: false,
        others: Others::None,
        engine: Engine::Process(dir),
    })
}

/// Makes an image of our own executable and a network on the engine, unless the trials are only
/// listed. An error says why there is no engine.
pub async fn docker(only_listed: bool) -> Result<Subject, String> {
    let mut config = config::Config::default().docker;
    if let Ok(host) = std::env::var("DOCKER_HOST") {
        config.host = host;
    }
    let mark = fastrand::u64(..);
    let connect = |value: String| {
        let label = ("wakegate.test".to_owned(), value);
        Docker::connect(&config, label).map_err(|error| error.to_string())
    };
    let docker = Arc::new(connect(format!("{mark:x}"))?);
    docker.ping().await.map_err(|error| error.to_string())?;
    let subject = Subject {
        runtime: docker.clone(),
        image: format!("wakegate-test-{mark:x}:latest"),
        network: Some(format!("wakegate-test-{mark:x}")),
        serves: true,
        has_networks: true,
        others: Others::Runtime(Arc::new(connect(format!("{mark:x}-other"))?)),
        engine: Engine::Docker(docker.clone()),
    };
    if !only_listed {
        // With an engine there, these have to work: a failure of them is one of the suite.
        let executable = env!("CARGO_BIN_EXE_wakegate").as_ref();
        let imported = docker
            .import_image(executable, &subject.image, &["/wakegate"], PORT, |_, _| {})
            .await;
        let network = subject.network.as_deref().unwrap_or_default();
        let networked = docker.ensure_network(network).await;
        if imported.is_err() || networked.is_err() {
            subject.clear().await;
            panic!("cannot prepare the engine: {imported:?}, {networked:?}");
        }
    }
    Ok(subject)
}

impl Subject {
    /// Removes what is left after all trials.
    pub async fn clear(&self) {
        for instance in self.runtime.list().await.unwrap_or_default() {
            self.runtime.remove(&instance.id).await.ok();
        }
        if let Engine::Docker(docker) = &self.engine {
            let network = self.network.as_deref().unwrap_or_default();
            let cleared = (
                docker.remove_network(network).await,
                docker.remove_image(&self.image).await,
            );
            assert_eq!(cleared, (Ok(()), Ok(true)), "something stays on the engine");
        }
    }
}

/// What one trial works on: a runtime, and names that no other trial uses.
#[derive(Clone)]
pub struct Bench {
    pub subject: Arc<Subject>,
    mark: String,
}

impl Bench {
    pub fn new(subject: Arc<Subject>) -> Self {
        let mark = format!("wakegate-test-{:08x}", fastrand::u32(..));
        Self { subject, mark }
    }

    pub fn runtime(&self) -> &dyn Runtime {
        &*self.subject.runtime
    }

    pub fn name(&self, short: &str) -> WorkloadName {
        WorkloadName::new(&format!("{}-{short}", self.mark)).unwrap()
    }

    /// The sample application, which does not end by itself.
    pub fn spec(&self, short: &str) -> WorkloadSpec {
        let mut spec = WorkloadSpec::new(self.name(short), self.subject.image.clone());
        spec.command = Some(vec!["minion".to_owned()]);
        spec.network = self.subject.network.clone();
        spec.envs.insert("IDLE".to_owned(), "1h".to_owned());
        if !self.subject.serves {
            // Real ones have it from their image.
            spec.port = Some(PORT);
        }
        spec
    }

    /// One that exits with code 1 so long after its start.
    pub fn crashing(&self, short: &str, after: Duration) -> WorkloadSpec {
        let mut spec = self.spec(short);
        if let Engine::Fake(fake) = &self.subject.engine {
            fake.behave(spec.name.as_str(), |it| it.exits_after = Some((after, 1)));
        }
        let after = format!("{}ms", after.as_millis());
        spec.envs.insert("CRASH_AFTER".to_owned(), after);
        spec
    }

    /// One that prints a line, its version, and ends.
    pub fn printing(&self, short: &str) -> WorkloadSpec {
        let mut spec = self.spec(short);
        spec.command = Some(vec!["--version".to_owned()]);
        if let Engine::Fake(fake) = &self.subject.engine {
            fake.behave(spec.name.as_str(), |it| {
                it.exits_after = Some((Duration::from_millis(1), 0));
            });
        }
        spec
    }

    /// Where nothing really runs, the line has to be said.
    pub fn printed(&self, spec: &WorkloadSpec, line: &str) {
        if let Engine::Fake(fake) = &self.subject.engine {
            fake.print(spec.name.as_str(), line);
        }
    }

    /// One that lets SIGTERM wait for an hour.
    pub fn deaf(&self, short: &str) -> WorkloadSpec {
        let mut spec = self.spec(short);
        if let Engine::Fake(fake) = &self.subject.engine {
            let hour = Duration::from_secs(3600);
            fake.behave(spec.name.as_str(), |it| it.stop_delay = hour);
        }
        spec.envs.insert("TERM_DELAY".to_owned(), "1h".to_owned());
        spec
    }

    pub async fn create(&self, short: &str) -> InstanceId {
        self.runtime().create(&self.spec(short)).await.unwrap()
    }

    /// Makes and starts it; on return its application answers, where there is one.
    pub async fn run(&self, spec: WorkloadSpec) -> InstanceId {
        let id = self.runtime().create(&spec).await.unwrap();
        self.runtime().start(&id).await.unwrap();
        self.answers(&id).await;
        id
    }

    /// Waits until the application answers, where there is one.
    pub async fn answers(&self, id: &InstanceId) {
        if self.subject.serves {
            self.get(id, "/").await;
        }
    }

    /// What the application answers to a GET, as soon as it does.
    pub async fn get(&self, id: &InstanceId, path: &str) -> serde_json::Value {
        let address = self.address(id).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{address}:{PORT}{path}");
        let answered = async {
            loop {
                if let Ok(answer) = client.get(&url).send().await {
                    break answer.json().await.expect("JSON");
                }
                // It has started and may not listen yet, which only asking can tell.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let answered = tokio::time::timeout(LONG, answered).await;
        answered.unwrap_or_else(|_| panic!("nobody answers at {url}"))
    }

    pub async fn inspect(&self, id: &InstanceId) -> Instance {
        self.runtime().inspect(id).await.unwrap()
    }

    pub async fn state(&self, id: &InstanceId) -> InstanceState {
        self.inspect(id).await.state
    }

    pub async fn address(&self, id: &InstanceId) -> IpAddr {
        let address = self.inspect(id).await.address;
        address.expect("what runs has an address")
    }

    /// This trial's containers in the runtime's list.
    pub async fn listed(&self) -> Vec<Instance> {
        let all = self.runtime().list().await.unwrap().into_iter();
        let own = all.filter(|one| one.name.as_str().starts_with(&self.mark));
        own.collect()
    }

    /// Events about one container from now on.
    pub async fn events(&self) -> Events {
        let stream = self.runtime().events().await.unwrap();
        let mark = self.mark.clone();
        Events { stream, mark }
    }

    pub async fn clear(&self) {
        let runtimes = match &self.subject.others {
            Others::Runtime(other) => vec![&self.subject.runtime, other],
            _ => vec![&self.subject.runtime],
        };
        for runtime in runtimes {
            for one in runtime.list().await.unwrap_or_default() {
                if one.name.as_str().starts_with(&self.mark) {
                    runtime.remove(&one.id).await.ok();
                }
            }
        }
    }
}

/// A trial's own events.
pub struct Events {
    stream: BoxStream<'static, EngineEvent>,
    mark: String,
}

impl Events {
    /// The next event about one of this trial's containers.
    pub async fn next(&mut self) -> EngineEvent {
        let own = async {
            loop {
                let event = self.stream.next().await.expect("the stream goes on");
                if event.name.as_str().starts_with(&self.mark) {
                    break event;
                }
            }
        };
        let next = tokio::time::timeout(LONG, own).await;
        next.expect("something happens")
    }

    /// All events up to and with the first that fits.
    pub async fn until(&mut self, fits: impl Fn(&EngineEventKind) -> bool) -> Vec<EngineEvent> {
        let mut seen: Vec<EngineEvent> = Vec::new();
        while !seen.last().is_some_and(|event| fits(&event.kind)) {
            seen.push(self.next().await);
        }
        seen
    }

    /// All events up to and with the end of a container.
    pub async fn until_died(&mut self) -> (Vec<EngineEvent>, Option<i64>) {
        let died = |kind: &EngineEventKind| matches!(kind, EngineEventKind::Died { .. });
        let seen = self.until(died).await;
        match seen.last().map(|event| event.kind) {
            Some(EngineEventKind::Died { exit_code }) => (seen, exit_code),
            _ => unreachable!("the last one is the end"),
        }
    }
}
