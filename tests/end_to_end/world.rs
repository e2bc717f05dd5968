//! What the applications really do, seen without the gateway: the engine, /proc, their own output.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::query_parameters::{
    KillContainerOptionsBuilder, LogsOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::OnceCell;
use wakegate::config;
use wakegate::runtime::Runtime;
use wakegate::runtime::docker::Docker;

use crate::bench::PATIENCE;

/// The sample application's port.
pub const PORT: u16 = 9000;

/// Everything that is made on an engine has it; its value tells who made it.
pub const LABEL: &str = "wakegate.test";

/// A real engine, with an image and a network of this run.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    mark: String,
    docker: Docker,
    raw: bollard::Docker,
    prepared: OnceCell<()>,
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, else the usual one. An error says why there is none.
    pub async fn find() -> Result<Self, String> {
        let mark = format!("wakegate-e2e-{:08x}", fastrand::u32(..));
        let docker = adapter(&mark)?;
        docker.ping().await.map_err(|error| error.to_string())?;
        let raw = bollard::Docker::connect_with_defaults().map_err(|error| error.to_string())?;
        let prepared = OnceCell::new();
        Ok(Self(Arc::new(Shared {
            mark,
            docker,
            raw,
            prepared,
        })))
    }

    /// Makes the image, of the very program that is tested, and the network; once.
    pub async fn prepare(&self) -> Result<(), String> {
        let shared = &self.0;
        let make = || async {
            let program = env!("CARGO_BIN_EXE_wakegate").as_ref();
            let entrypoint = ["/wakegate", "minion"];
            let image = self.image();
            let made = shared
                .docker
                .import_image(program, &image, &entrypoint, PORT, |_, _| {});
            made.await.map_err(|error| error.to_string())?;
            let network = shared.docker.ensure_network(&shared.mark).await;
            network.map(drop).map_err(|error| error.to_string())
        };
        shared.prepared.get_or_try_init(make).await.map(drop)
    }

    pub fn image(&self) -> String {
        format!("{}:latest", self.0.mark)
    }

    pub fn network(&self) -> &str {
        &self.0.mark
    }

    /// The engine as others see it.
    pub fn raw(&self) -> &bollard::Docker {
        &self.0.raw
    }

    /// Removes what all lines shared.
    pub async fn clear(&self) -> Result<(), String> {
        if self.0.prepared.get().is_none() {
            return Ok(());
        }
        let docker = &self.0.docker;
        let network = docker.remove_network(&self.0.mark).await;
        let image = docker.remove_image(&self.image()).await;
        match network.and(image) {
            Ok(true) => Ok(()),
            Ok(false) => Err("a container of the image is left".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub async fn runs(&self, id: &str) -> bool {
        let found = self.raw().inspect_container(id, None).await;
        let state = found.ok().and_then(|container| container.state);
        state.and_then(|state| state.running).unwrap_or(false)
    }

    pub async fn exists(&self, name_or_id: &str) -> bool {
        self.raw().inspect_container(name_or_id, None).await.is_ok()
    }

    /// Everything that a container has printed in all its runs.
    pub async fn output(&self, id: &str) -> String {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true);
        let mut lines = self.raw().logs(id, Some(options.build()));
        let mut text = String::new();
        while let Some(Ok(line)) = lines.next().await {
            text.push_str(&line.to_string());
        }
        text
    }

    /// As `docker stop` does it.
    pub async fn stop(&self, id: &str) {
        let options = StopContainerOptionsBuilder::default().t(60).build();
        self.raw()
            .stop_container(id, Some(options))
            .await
            .expect("it can be stopped");
    }

    pub async fn kill(&self, id: &str) {
        let options = KillContainerOptionsBuilder::default()
            .signal("KILL")
            .build();
        self.raw()
            .kill_container(id, Some(options))
            .await
            .expect("it can be killed");
    }

    /// Removes every container and network with this value of the label.
    pub async fn remove_all(&self, mark: &str) -> Result<(), String> {
        use bollard::query_parameters::{
            ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
        };
        let told = |error: bollard::errors::Error| error.to_string();
        let filters = HashMap::from([("label", vec![format!("{LABEL}={mark}")])]);
        let list = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        // What a gateway that was killed has ordered is still carried out.
        let began = Instant::now();
        loop {
            let listed = self.raw().list_containers(Some(list.clone())).await;
            let listed = listed.map_err(told)?;
            if listed.is_empty() {
                break;
            }
            let mut waits = false;
            for container in listed {
                let force = RemoveContainerOptionsBuilder::default().force(true).build();
                let id = container.id.unwrap_or_default();
                match self.raw().remove_container(&id, Some(force)).await {
                    Ok(()) => {}
                    Err(error) if is_being_removed(&error) && began.elapsed() < PATIENCE => {
                        waits = true;
                    }
                    Err(error) => return Err(error.to_string()),
                }
            }
            if waits {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let list = ListNetworksOptionsBuilder::default()
            .filters(&filters)
            .build();
        for network in self.raw().list_networks(Some(list)).await.map_err(told)? {
            let id = network.id.unwrap_or_default();
            self.raw().remove_network(&id).await.map_err(told)?;
        }
        Ok(())
    }
}

/// It is gone already, or about to be.
fn is_being_removed(error: &bollard::errors::Error) -> bool {
    matches!(
        error,
        bollard::errors::Error::DockerResponseServerError {
            status_code: 404 | 409,
            ..
        }
    )
}

fn adapter(mark: &str) -> Result<Docker, String> {
    let mut config = config::Config::default().docker;
    if let Ok(host) = std::env::var("DOCKER_HOST") {
        config.host = host;
    }
    let label = (LABEL.to_owned(), mark.to_owned());
    Docker::connect(&config, label).map_err(|error| error.to_string())
}

/// The processes that run for a workload of the process runtime, as the kernel tells it.
pub fn processes_of(id: &str) -> Vec<Pid> {
    let mark = format!("WAKEGATE_WORKLOAD={id}");
    let is_its = |folder: &Path| {
        let environment = std::fs::read(folder.join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|one| one == mark.as_bytes())
    };
    let find = || {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbered = all.filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            is_its(&entry.path()).then_some(pid)
        });
        numbered.collect()
    };
    // All processes of the machine are looked at, and this thread has other lines' tasks too.
    tokio::task::block_in_place(find)
}

/// The same to all of them.
pub fn signal_processes_of(id: &str, signal: Signal) {
    let all = processes_of(id);
    assert!(!all.is_empty(), "{id} has no process");
    for pid in all {
        // One that has just ended is what was wanted.
        let _ = kill_process(pid, signal);
    }
}
