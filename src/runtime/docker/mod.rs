//! Containers on a Docker engine, through its HTTP API.
//!
//! Files: `connection` (address, transport, API version), `errors`, `create`, `instance` (state as
//! the engine tells it), `address` and `own` (where a container is reached from here), `resolve`
//! (host names), `traffic`, `events`, `logs`, `images`, `pull` and `registry` (images from elsewhere), `provision`
//! (images and networks for a first run).

mod address;
mod connection;
mod create;
mod errors;
mod events;
mod images;
mod instance;
mod logs;
mod own;
mod provision;
mod pull;
mod registry;
mod resolve;
mod traffic;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker as Client;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use self::address::OwnNetworks;
use self::connection::{Engine, Host, segment};
use self::errors::{Subject, runtime_error, says};
use super::credentials::RegistryCredentials;
use super::{
    EngineEvent, ImageFacts, Instance, InstanceId, InstanceState, PullProgress, RegistryHealth,
    Runtime, RuntimeError,
};
use crate::config;
use crate::spec::WorkloadSpec;

pub use provision::CONTENT_LABEL;

/// Inspect calls at once.
const INSPECTS_AT_ONCE: usize = 8;

/// How often a removal that another call began is looked at.
const REMOVAL_POLL: Duration = Duration::from_millis(50);

/// A Docker engine, or one that speaks its API. Holds no connection: an engine that goes away and
/// comes back needs nothing from the caller.
pub struct Docker {
    engine: Arc<Engine>,
    client: Client,
    /// The label that marks a container as ours, as key and value.
    label: (String, String),
    /// The network of a specification that names none.
    network: Option<String>,
    /// For a call that does not wait for a container.
    timeout: Duration,
    own_networks: OwnNetworks,
}

impl Docker {
    /// Takes the configuration; does not talk to the engine yet ([`Runtime::ping`] does).
    ///
    /// Errors: `Refused` when the host is written in a way that is not supported.
    pub fn connect(
        config: &config::Docker,
        ownership_label: (String, String),
    ) -> Result<Self, RuntimeError> {
        let engine = Engine::new(Host::parse(&config.host)?);
        Ok(Self {
            client: engine.client()?,
            engine,
            label: ownership_label,
            network: config.network.clone(),
            timeout: config.timeout,
            own_networks: OwnNetworks::default(),
        })
    }

    /// The engine's filter for our label.
    fn label_filter(&self) -> String {
        let (key, value) = &self.label;
        format!("{key}={value}")
    }

    fn owns(&self, container: &ContainerInspectResponse) -> bool {
        let (key, value) = &self.label;
        let labels = container
            .config
            .as_ref()
            .and_then(|config| config.labels.as_ref());
        labels.and_then(|labels| labels.get(key)) == Some(value)
    }

    /// One call with the configured limit.
    async fn call<T>(
        &self,
        subject: Subject<'_>,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RuntimeError> {
        self.within(self.timeout, call)
            .await?
            .map_err(|error| runtime_error(error, subject))
    }

    async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T, RuntimeError> {
        tokio::time::timeout(limit, call)
            .await
            .map_err(|_| self.late(limit))
    }

    fn late(&self, limit: Duration) -> RuntimeError {
        RuntimeError::Unreachable(format!(
            "no answer from {} within {}",
            self.engine.host,
            humantime::format_duration(limit)
        ))
    }

    /// Any container, owned or not, by id or name.
    async fn inspect_any(&self, id: &str) -> Result<ContainerInspectResponse, RuntimeError> {
        let path_id = container_segment(id)?;
        let inspect = self
            .client
            .inspect_container(&path_id, None::<InspectContainerOptions>);
        self.call(Subject::Container(id), inspect).await
    }

    /// Waits for a removal that is under way elsewhere.
    async fn gone(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let until_gone = async {
            loop {
                match self.inspect_any(id.as_str()).await {
                    Err(RuntimeError::NotFound(_)) => return Ok(()),
                    Err(error) => return Err(error),
                    Ok(_) => tokio::time::sleep(REMOVAL_POLL).await,
                }
            }
        };
        let ended = tokio::time::timeout(self.timeout, until_gone).await;
        ended.unwrap_or_else(|_| {
            Err(RuntimeError::Failed(format!(
                "the removal of {id:?} was under way and did not end within {}",
                humantime::format_duration(self.timeout)
            )))
        })
    }
}

/// A container's id or name as a path segment; what cannot be one names no container.
fn container_segment(id: &str) -> Result<String, RuntimeError> {
    segment(id).ok_or_else(|| RuntimeError::NotFound(id.to_owned()))
}

#[async_trait]
impl Runtime for Docker {
    fn kind(&self) -> &'static str {
        "docker"
    }

    async fn ping(&self) -> Result<String, RuntimeError> {
        let version = self.call(Subject::Engine, self.client.version()).await?;
        let number = version.version.unwrap_or_else(|| "engine".to_owned());
        Ok(format!("Docker {number} at {}", self.engine.host))
    }

    async fn create(&self, spec: &WorkloadSpec) -> Result<InstanceId, RuntimeError> {
        self.make(spec).await
    }

    async fn start(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let path_id = container_segment(id.as_str())?;
        // 304, "it runs already", is a success to the library.
        let start = self.client.start_container(&path_id, None);
        self.call(Subject::Container(id.as_str()), start).await
    }

    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), RuntimeError> {
        let path_id = container_segment(id.as_str())?;
        let whole_secs = Duration::from_secs_f64(grace.as_secs_f64().ceil());
        let secs = i32::try_from(whole_secs.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(secs).build();
        // The engine itself wakes a paused one up after it has sent the signal, so that it is
        // asked before it runs on.
        let stop = self.client.stop_container(&path_id, Some(options));
        self.within(whole_secs.saturating_add(self.timeout), stop)
            .await?
            .map_err(|error| runtime_error(error, Subject::Container(id.as_str())))
    }

    async fn pause(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let path_id = container_segment(id.as_str())?;
        let pause = self.client.pause_container(&path_id);
        match self.call(Subject::Container(id.as_str()), pause).await {
            Err(RuntimeError::Refused(message) | RuntimeError::Failed(message))
                if says(&message, "already paused") =>
            {
                Ok(())
            }
            other => other,
        }
    }

    async fn unpause(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let path_id = container_segment(id.as_str())?;
        let unpause = self.client.unpause_container(&path_id);
        match self.call(Subject::Container(id.as_str()), unpause).await {
            // A stopped one is not paused either, but not in the state that was asked for.
            Err(RuntimeError::Refused(message) | RuntimeError::Failed(message))
                if says(&message, "is not paused") =>
            {
                let container = self.inspect_any(id.as_str()).await?;
                match instance::state(container.state.as_ref()) {
                    InstanceState::Running { .. } => Ok(()),
                    _ => Err(RuntimeError::Refused(message)),
                }
            }
            other => other,
        }
    }

    async fn remove(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let path_id = container_segment(id.as_str())?;
        // What cannot be undone is asked about first: another's container is not there for us.
        match self.inspect_any(id.as_str()).await {
            Ok(container) if self.owns(&container) => {}
            Ok(_) | Err(RuntimeError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        let remove = self.client.remove_container(&path_id, Some(options));
        match self.call(Subject::Container(id.as_str()), remove).await {
            Err(RuntimeError::NotFound(_)) => Ok(()),
            Err(RuntimeError::Refused(message) | RuntimeError::Failed(message))
                if says(&message, "already in progress") =>
            {
                self.gone(id).await
            }
            other => other,
        }
    }

    async fn inspect(&self, id: &InstanceId) -> Result<Instance, RuntimeError> {
        let container = self.inspect_any(id.as_str()).await?;
        if !self.owns(&container) {
            return Err(RuntimeError::NotFound(id.to_string()));
        }
        let address = self.address(&container).await?;
        instance::from_inspect(&container, address)
            .ok_or_else(|| RuntimeError::NotFound(id.to_string()))
    }

    async fn sent_bytes(&self, id: &InstanceId) -> Result<u64, RuntimeError> {
        self.count_sent(id).await
    }

    async fn list(&self) -> Result<Vec<Instance>, RuntimeError> {
        let filters = HashMap::from([("label", vec![self.label_filter()])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let listing = self.client.list_containers(Some(options));
        let listed = self.call(Subject::Engine, listing).await?;
        let instances = listed.into_iter().filter_map(|container| {
            let names = container.names.clone();
            let instance = instance::from_summary(container);
            if instance.is_none() {
                tracing::warn!(
                    ?names,
                    "a container is left out: no workload may have its name"
                );
            }
            instance
        });
        // The list does not tell when a container was started, by which one run is told from the
        // next, so that those that run are asked for one by one.
        let whole = stream::iter(instances)
            .map(|listed| async move {
                match listed.state {
                    InstanceState::Running { .. } | InstanceState::Paused { .. } => {
                        match self.inspect(&listed.id).await {
                            // One that the engine cannot describe must not hide the others.
                            Err(RuntimeError::Failed(message)) => {
                                tracing::warn!(name = %listed.name, message, "cannot be inspected");
                                Ok(listed)
                            }
                            other => other,
                        }
                    }
                    InstanceState::Stopped { .. } | InstanceState::Removing => Ok(listed),
                }
            })
            .buffered(INSPECTS_AT_ONCE)
            // One that went away in between is not there.
            .filter(|instance| {
                std::future::ready(!matches!(instance, Err(RuntimeError::NotFound(_))))
            });
        whole.try_collect().await
    }

    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>, RuntimeError> {
        self.subscribe().await
    }

    async fn resolve(&self, host: &str, seen_from: &InstanceId) -> Result<IpAddr, RuntimeError> {
        self.look_up(host, seen_from).await
    }

    async fn logs(&self, id: &InstanceId, lines: usize) -> Result<Vec<String>, RuntimeError> {
        self.last_lines(id, lines).await
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, RuntimeError> {
        self.image_facts(reference).await
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: Option<&RegistryCredentials>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        self.bring(reference, credentials, progress).await
    }

    async fn load(
        &self,
        archive: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Vec<String>, RuntimeError> {
        self.take_archive(archive).await
    }

    async fn image_of(&self, id: &InstanceId) -> Result<Option<String>, RuntimeError> {
        Ok(self.inspect_any(id.as_str()).await?.image)
    }

    async fn name_image(&self, id: &str, reference: &str) -> Result<(), RuntimeError> {
        self.tag_image(id, reference).await
    }

    async fn remove_image(&self, reference: &str) -> Result<bool, RuntimeError> {
        self.take_image_away(reference).await
    }

    async fn registry(&self, registry: &str) -> Result<RegistryHealth, RuntimeError> {
        self.ask_registry(registry).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, UnixListener};

    fn docker(host: String) -> Docker {
        let config = config::Docker {
            host,
            network: None,
            timeout: Duration::from_secs(30),
        };
        Docker::connect(&config, ("wakegate.enable".to_owned(), "true".to_owned())).unwrap()
    }

    async fn unreachable(docker: &Docker) -> String {
        match docker.ping().await {
            Err(RuntimeError::Unreachable(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_missing_engine_is_told_from_one_that_does_not_listen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let by_socket = docker(format!("unix://{}", path.display()));
        let message = unreachable(&by_socket).await;
        assert!(message.starts_with("there is no /"), "{message}");
        drop(UnixListener::bind(&path).unwrap());
        let message = unreachable(&by_socket).await;
        assert!(message.starts_with("nobody listens at /"), "{message}");

        let address = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let message = unreachable(&docker(format!("tcp://{address}"))).await;
        assert!(
            message.starts_with("nobody listens at tcp://127.0.0.1:"),
            "{message}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_never_answers_ends_every_call() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let _silent = UnixListener::bind(&path).unwrap();
        let docker = docker(format!("unix://{}", path.display()));
        let late = format!("no answer from unix://{} within 30s", path.display());
        assert_eq!(unreachable(&docker).await, late);
        let id = InstanceId::new("f0");
        let late = RuntimeError::Unreachable(late);
        assert_eq!(docker.list().await, Err(late.clone()));
        assert_eq!(docker.inspect(&id).await, Err(late.clone()));
        assert_eq!(docker.sent_bytes(&id).await, Err(late.clone()));
        assert_eq!(docker.start(&id).await, Err(late.clone()));
        assert_eq!(docker.pause(&id).await, Err(late.clone()));
        assert_eq!(docker.remove(&id).await, Err(late.clone()));
        assert_eq!(docker.events().await.map(drop), Err(late.clone()));
        assert_eq!(docker.resolve("db", &id).await, Err(late.clone()));
        assert_eq!(docker.logs(&id, 1).await, Err(late.clone()));
        assert_eq!(docker.image("shop").await, Err(late.clone()));
        assert_eq!(docker.remove_image("shop").await, Err(late.clone()));
        // These have limits of their own, after which the engine is asked whether it is there.
        assert_eq!(docker.pull("shop", None, &|_| {}).await, Err(late.clone()));
        assert_eq!(docker.registry("r.example").await, Err(late.clone()));
        let archive = stream::pending().boxed();
        assert_eq!(docker.load(archive).await, Err(late));
        // A stop may take the grace time on top.
        let stop = docker.stop(&id, Duration::from_millis(9500)).await;
        match stop {
            Err(RuntimeError::Unreachable(message)) => {
                assert!(message.ends_with("within 40s"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_odd_id_names_no_container_and_asks_nobody() {
        let docker = docker("unix:///nonexistent.sock".to_owned());
        for id in ["", ".", "..", "../images", "a/b"] {
            let missing = Err(RuntimeError::NotFound(id.to_owned()));
            assert_eq!(docker.start(&InstanceId::new(id)).await, missing);
        }
    }
}
