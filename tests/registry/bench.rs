//! What each trial stands on: an engine, registries of its own, images of its own, and a clean end.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bollard::query_parameters::{
    BuildImageOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use futures_util::StreamExt;
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::runtime::Runtime as Tokio;
use tokio::sync::OnceCell;
use wakegate::config;
use wakegate::runtime::Runtime;
use wakegate::runtime::docker::Docker;

use crate::app::IN_CONTAINER;
use crate::frame;
use crate::registries::Registry;

/// Generous: nothing is timed here, but nothing may hang.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Everything on the engine that a trial makes has this label; its value tells the trials apart.
const LABEL: &str = "wakegate.test";

/// The path of this program in its image.
const PROGRAM: &str = "/trial";

static TOKIO: LazyLock<Tokio> = LazyLock::new(frame::tokio);
static BASE: OnceCell<String> = OnceCell::const_new();

#[derive(Clone)]
pub struct Bench {
    pub docker: Arc<Docker>,
    pub mark: String,
    pub raw: bollard::Docker,
    pub folder: Arc<TempDir>,
}

/// What a trial's image is made from.
#[derive(Clone, Copy)]
pub enum From {
    /// This program: it can be run.
    Program,
    /// Nothing: it is small, and cannot be run.
    Scratch,
}

/// An image in a registry, and no longer on the engine.
pub struct Published {
    pub reference: String,
    pub id: String,
}

/// Whether all that the trials need is on this machine. If not, whether it is `docker` or
/// `registry` that is missing, and why.
pub fn everything_is_there() -> Result<(), (&'static str, String)> {
    TOKIO.block_on(async {
        let docker = Docker::connect(&config(), label("nobody"));
        let there = match &docker {
            Ok(docker) => docker.ping().await.map(drop),
            Err(error) => Err(error.clone()),
        };
        there.map_err(|error| ("docker", error.to_string()))?;
        for (program, kind) in [("docker", "docker"), ("docker-registry", "registry")] {
            let asked = Command::new(program)
                .arg("--version")
                .stdin(Stdio::null())
                .output()
                .await;
            asked.map_err(|error| (kind, format!("{program} cannot be run: {error}")))?;
        }
        Ok(())
    })
}

fn config() -> config::Docker {
    let default = config::Config::default().docker;
    config::Docker {
        host: std::env::var("DOCKER_HOST").unwrap_or(default.host.clone()),
        ..default
    }
}

fn label(value: &str) -> (String, String) {
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
            let bench = Bench::new();
            let mut run = tokio::spawn(body(bench.clone()));
            let outcome = tokio::time::timeout(LIMIT * 2, &mut run).await;
            run.abort();
            bench.clear().await;
            match outcome {
                Ok(Ok(())) => Ok(()),
                Ok(Err(panicked)) => Err(Failed::from(panicked.to_string())),
                Err(_) => Err(Failed::from("took too long")),
            }
        })
    })
}

/// Removes the image that the trials shared.
pub fn clean_up() -> Result<(), String> {
    TOKIO.block_on(async {
        let Some(base) = BASE.get() else {
            return Ok(());
        };
        let docker = Docker::connect(&config(), label("nobody")).unwrap();
        match docker.remove_image(base).await {
            Ok(true) => Ok(()),
            other => Err(format!("{base}: {other:?}")),
        }
    })
}

impl Bench {
    fn new() -> Self {
        let mark = random("trial");
        Self {
            docker: Arc::new(Docker::connect(&config(), label(&mark)).unwrap()),
            mark,
            raw: bollard::Docker::connect_with_defaults().unwrap(),
            folder: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    pub async fn registry(&self) -> Registry {
        Registry::start(&self.storage(), false).await
    }

    /// Where this trial's registries keep what they have.
    pub fn storage(&self) -> std::path::PathBuf {
        self.folder.path().join("storage")
    }

    /// The image that all trials' images of this program are built on.
    async fn base(&self) -> String {
        let make = || async {
            let name = format!("{}:base", random("wakegate-test"));
            let program = std::env::current_exe().unwrap();
            let entrypoint = [PROGRAM, IN_CONTAINER];
            self.docker
                .import_image(&program, &name, &entrypoint, 9000, |_, _| {})
                .await
                .unwrap();
            name
        };
        BASE.get_or_init(make).await.clone()
    }

    /// Builds an image with a layer that no other image has, of so many bytes. Answers its id.
    pub async fn build(&self, name: &str, from: From, bytes: usize) -> String {
        let base = match from {
            From::Program => self.base().await,
            From::Scratch => "scratch".to_owned(),
        };
        let content: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(bytes)
            .collect();
        let recipe = format!(
            "FROM {base}\nCOPY content /content\nLABEL {LABEL}={}\n",
            self.mark
        );
        let mut archive = tar::Builder::new(Vec::new());
        for (path, data) in [("Dockerfile", recipe.as_bytes()), ("content", &content)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, data).unwrap();
        }
        let options = BuildImageOptionsBuilder::default().t(name).rm(true).build();
        let body = bollard::body_full(archive.into_inner().unwrap().into());
        let mut told = self.raw.build_image(options, None, Some(body));
        while let Some(line) = told.next().await {
            line.unwrap();
        }
        self.engines_id(name).await.expect("it was built")
    }

    /// Builds an image, pushes it with the `docker` command, and takes it from the engine.
    pub async fn publish(&self, registry: &Registry, from: From, bytes: usize) -> Published {
        let reference = format!("{}/{}/shop:1", registry.host(), self.mark);
        let id = self.build(&reference, from, bytes).await;
        self.docker_command(&["push", "--quiet", &reference]).await;
        self.docker_command(&["rmi", &reference]).await;
        assert_eq!(self.engines_id(&reference).await, None);
        Published { reference, id }
    }

    /// The id of an image as the `docker` command tells it.
    pub async fn engines_id(&self, reference: &str) -> Option<String> {
        let asked = Command::new("docker")
            .args(["image", "inspect", "--format", "{{.Id}}", reference])
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let told = String::from_utf8_lossy(&asked.stderr);
        match asked.status.success() {
            true => Some(String::from_utf8(asked.stdout).unwrap().trim().to_owned()),
            false if told.to_lowercase().contains("no such image") => None,
            false => panic!("docker image inspect: {told}"),
        }
    }

    /// Runs the `docker` command, which has to succeed. Answers what it printed.
    pub async fn docker_command(&self, arguments: &[&str]) -> Vec<u8> {
        let command = Command::new("docker")
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(LIMIT, command).await;
        let ended = ended.expect("docker ends").unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "docker {arguments:?}: {told}");
        ended.stdout
    }

    /// The label, as `key=value`, of what is this trial's and yet not the adapter's.
    pub fn foreign(&self) -> String {
        format!("{LABEL}={}-other", self.mark)
    }

    /// Removes the trial's containers and images.
    async fn clear(&self) {
        let own = format!("{LABEL}={}", self.mark);
        let force = RemoveContainerOptionsBuilder::default().force(true).v(true);
        for filter in [own.clone(), self.foreign()] {
            let filters = HashMap::from([("label", vec![filter])]);
            let list = ListContainersOptionsBuilder::default()
                .all(true)
                .filters(&filters);
            for container in self.raw.list_containers(Some(list.build())).await.unwrap() {
                let id = container.id.unwrap();
                let force = Some(force.clone().build());
                self.raw.remove_container(&id, force).await.unwrap();
            }
        }
        let filters = HashMap::from([("label", vec![own])]);
        let list = ListImagesOptionsBuilder::default().filters(&filters);
        let force = RemoveImageOptionsBuilder::default().force(true);
        for image in self.raw.list_images(Some(list.build())).await.unwrap() {
            let force = Some(force.clone().build());
            self.raw.remove_image(&image.id, force, None).await.unwrap();
        }
    }
}

/// A file of the trial's folder, written.
pub fn written(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
