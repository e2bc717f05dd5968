//! What each trial stands on: an adapter with a label of its own, an image, and a clean end.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use libtest_mimic::{Failed, Trial};
use tokio::runtime::Runtime as Tokio;
use tokio::sync::OnceCell;
use wakegate::config;
use wakegate::names::WorkloadName;
use wakegate::runtime::docker::Docker;
use wakegate::runtime::{EngineEvent, EngineEventKind, InstanceId, Runtime, RuntimeError};
use wakegate::spec::WorkloadSpec;

use crate::app::IN_CONTAINER;
use crate::frame;

/// The path of this program in its image.
pub const PROGRAM: &str = "/trial";

/// The port that the image exposes.
pub const PORT: u16 = 9000;

/// Generous: nothing is timed here, but nothing may hang.
pub const LIMIT: Duration = Duration::from_secs(60);

static TOKIO: LazyLock<Tokio> = LazyLock::new(frame::tokio);
static IMAGE: OnceCell<String> = OnceCell::const_new();

/// Everything on the engine that a trial makes has this label; its value tells the trials apart.
const LABEL: &str = "wakegate.test";

#[derive(Clone)]
pub struct Bench {
    pub docker: Arc<Docker>,
    pub label: (String, String),
    /// The engine as others see it.
    pub raw: bollard::Docker,
    pub image: String,
}

/// Whether an engine answers, and if not, why.
pub fn engine() -> Result<String, RuntimeError> {
    let docker = Docker::connect(&config(), label("nobody"))?;
    TOKIO.block_on(docker.ping())
}

/// The host that `DOCKER_HOST` names, else the default one.
pub fn config() -> config::Docker {
    let default = config::Config::default().docker;
    config::Docker {
        host: std::env::var("DOCKER_HOST").unwrap_or(default.host.clone()),
        ..default
    }
}

/// The engine's socket, for trials that need one.
fn engine_socket() -> Option<String> {
    config().host.strip_prefix("unix://").map(str::to_owned)
}

/// A trial that is ignored when the engine is reached in another way than by its socket.
pub fn socket_trial<F>(name: &'static str, body: fn(Bench, String) -> F) -> Trial
where
    F: Future<Output = ()> + Send + 'static,
{
    let socket = engine_socket();
    let is_ignored = socket.is_none();
    let body = move |bench| body(bench, socket.expect("an engine behind a socket"));
    trial(name, body).with_ignored_flag(is_ignored)
}

pub fn label(value: &str) -> (String, String) {
    (LABEL.to_owned(), value.to_owned())
}

pub fn random(prefix: &str) -> String {
    format!("{prefix}-{:016x}", fastrand::u64(..))
}

/// A trial on a bench of its own, which is cleared also when the trial fails.
pub fn trial<F>(name: &'static str, body: impl FnOnce(Bench) -> F + Send + 'static) -> Trial
where
    F: Future<Output = ()> + Send + 'static,
{
    Trial::test(name, move || {
        TOKIO.block_on(async {
            let bench = Bench::new().await?;
            let run = tokio::spawn(tokio::time::timeout(LIMIT * 2, body(bench.clone())));
            let outcome = run.await;
            bench.clear().await?;
            match outcome {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(Failed::from("took too long")),
                Err(panicked) => Err(Failed::from(panicked.to_string())),
            }
        })
    })
}

/// Removes the image that the trials shared.
pub fn clean_up() {
    TOKIO.block_on(async {
        if let Some(image) = IMAGE.get() {
            let docker = Docker::connect(&config(), label("nobody")).unwrap();
            let removed = docker.remove_image(image).await;
            if removed != Ok(true) {
                eprintln!("the image {image} stays: {removed:?}");
            }
        }
    });
}

impl Bench {
    async fn new() -> Result<Self, RuntimeError> {
        let label = label(&random("trial"));
        let docker = Arc::new(Docker::connect(&config(), label.clone())?);
        let image = IMAGE
            .get_or_try_init(|| async {
                let name = format!("{}:1", random("wakegate-test"));
                let program = std::env::current_exe().unwrap();
                let entrypoint = [PROGRAM, IN_CONTAINER];
                docker
                    .import_image(&program, &name, &entrypoint, PORT, |_, _| {})
                    .await?;
                Ok::<_, RuntimeError>(name)
            })
            .await?
            .clone();
        Ok(Self {
            docker,
            label,
            raw: bollard::Docker::connect_with_defaults().unwrap(),
            image,
        })
    }

    async fn clear(&self) -> Result<(), RuntimeError> {
        let filter = format!("{}={}", self.label.0, self.label.1);
        let filters = HashMap::from([("label", vec![filter])]);
        let list = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters);
        for container in self.raw.list_containers(Some(list.build())).await.unwrap() {
            let id = InstanceId::new(&container.id.unwrap());
            self.docker.remove(&id).await?;
        }
        for network in self.networks().await {
            self.docker.remove_network(&network).await?;
        }
        Ok(())
    }

    /// The names of this trial's networks.
    pub async fn networks(&self) -> Vec<String> {
        use bollard::query_parameters::ListNetworksOptionsBuilder;
        let filter = format!("{}={}", self.label.0, self.label.1);
        let filters = HashMap::from([("label", vec![filter])]);
        let list = ListNetworksOptionsBuilder::default().filters(&filters);
        let listed = self.raw.list_networks(Some(list.build())).await.unwrap();
        listed
            .into_iter()
            .filter_map(|network| network.name)
            .collect()
    }

    pub async fn network(&self, prefix: &str) -> String {
        let name = random(prefix);
        assert_eq!(self.docker.ensure_network(&name).await, Ok(true));
        name
    }

    /// A specification of the application in that mode.
    pub fn spec(&self, mode: &[&str]) -> WorkloadSpec {
        let name = WorkloadName::new(&random("wakegate-test")).unwrap();
        WorkloadSpec {
            command: Some(mode.iter().map(|word| (*word).to_owned()).collect()),
            ..WorkloadSpec::new(name, self.image.clone())
        }
    }

    /// Starts a container and returns when its application is there: it says one line at each start.
    pub async fn start(&self, id: &InstanceId) {
        let earlier = self.lines(id, false).count().await;
        self.docker.start(id).await.unwrap();
        assert_eq!(self.line(id, earlier).await, "up");
    }

    pub async fn created(&self, spec: &WorkloadSpec) -> InstanceId {
        self.docker.create(spec).await.unwrap()
    }

    pub async fn started(&self, spec: &WorkloadSpec) -> InstanceId {
        let id = self.created(spec).await;
        self.start(&id).await;
        id
    }

    /// Makes a container behind the adapter's back and starts it. The body's labels are kept; one
    /// without the ownership label must be removed by the trial.
    pub async fn raw_started(&self, name: &str, body: ContainerCreateBody) -> InstanceId {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let made = self
            .raw
            .create_container(Some(options), body)
            .await
            .unwrap();
        self.raw.start_container(&made.id, None).await.unwrap();
        InstanceId::new(&made.id)
    }

    pub async fn raw_remove(&self, id: &InstanceId) {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        self.raw
            .remove_container(id.as_str(), Some(options))
            .await
            .unwrap();
    }

    /// The first output line of an application that was started once.
    pub async fn first_line(&self, id: &InstanceId) -> String {
        self.line(id, 0).await
    }

    /// The output line after so many earlier ones, once it is there.
    async fn line(&self, id: &InstanceId, earlier: usize) -> String {
        let mut lines = self.lines(id, true).skip(earlier);
        let line = tokio::time::timeout(LIMIT, lines.next()).await.unwrap();
        line.unwrap()
    }

    /// What a container has put out, in all its runs; and if it is followed, what it will.
    ///
    /// The engine's own choice by time would lose lines: what a container says at once can have an
    /// earlier time than the one at which the engine notes that it has started.
    fn lines(&self, id: &InstanceId, is_followed: bool) -> BoxStream<'static, String> {
        let options = LogsOptionsBuilder::default()
            .follow(is_followed)
            .stdout(true)
            .build();
        let logs = self.raw.logs(id.as_str(), Some(options));
        let lines = logs.map(|line| line.unwrap().to_string().trim().to_owned());
        lines.boxed()
    }
}

/// The next event, within the limit.
pub async fn next(events: &mut BoxStream<'static, EngineEvent>) -> EngineEvent {
    tokio::time::timeout(LIMIT, events.next())
        .await
        .expect("no event came")
        .expect("the stream ended")
}

/// The next events are of these kinds, in this order, and all of that container.
///
/// The engine tells a pause once when the call is done and again when its runtime reports it, if
/// the container was thawed in between: such an echo is passed over.
pub async fn expect(
    events: &mut BoxStream<'static, EngineEvent>,
    id: &InstanceId,
    kinds: &[EngineEventKind],
) {
    let mut told: Vec<EngineEventKind> = Vec::new();
    for kind in kinds {
        let event = loop {
            let event = next(events).await;
            let of_a_pause = matches!(
                event.kind,
                EngineEventKind::Paused | EngineEventKind::Unpaused
            );
            if !(of_a_pause && event.kind != *kind && told.contains(&event.kind)) {
                break event;
            }
        };
        assert_eq!((&event.id, event.kind), (id, *kind));
        told.push(event.kind);
    }
}
