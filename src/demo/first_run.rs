//! `wakegate demo`: everything from nothing, up until Ctrl-C, and gone after it.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use crate::admin::client::{Client, ClientError};
use crate::app::{self, Chosen, Ending, Gateway};
use crate::cli;
use crate::config::{Config, Engine, Listen, LogFormat};
use crate::demo::{SAMPLE_COMMAND, SAMPLE_IMAGE, SAMPLE_PORT, process_images};
use crate::log;
use crate::runtime::Runtime;
use crate::runtime::docker::Docker;

/// The network that the shipped template puts containers on.
const NETWORK: &str = "traefiknet";

/// Containers that are made.
const COUNT: u32 = 3;

/// Own containers only: a gateway that serves in earnest on the same engine is not disturbed.
const OWNERSHIP_LABEL: (&str, &str) = ("wakegate.demo", "true");

/// The shipped script, for a run outside of a clone of the repository.
const SHIPPED_SCRIPT: &str = include_str!("../../scripts/session.rhai");

/// How long the gateway may take to list what the engine has.
const READY_TIME: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub struct Options {
    /// Where requests come in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Where the admin API listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8008")]
    admin: SocketAddr,
    /// What runs the containers
    #[arg(long, value_name = "WHICH", default_value = "auto", value_parser = ["auto", "docker", "process"])]
    runtime: String,
    /// The scripts directory; where there is none the shipped script is used
    #[arg(long, value_name = "DIR", default_value = "scripts")]
    scripts: PathBuf,
    /// Log everything that the gateway logs
    #[arg(long, short)]
    verbose: bool,
}

/// Runs until Ctrl-C.
pub fn run(options: Options) -> anyhow::Result<()> {
    let runtime = cli::core_runtime()?;
    let done = runtime.block_on(demonstrate(options));
    runtime.shutdown_background();
    done
}

/// What was made, to be taken away again.
#[derive(Default)]
struct Made {
    workloads: Vec<String>,
    network: bool,
    image: bool,
    /// There was one of its name before, which may be somebody's.
    image_stays: bool,
}

async fn demonstrate(options: Options) -> anyhow::Result<()> {
    let mut ending = Ending::listen()?;
    let scratch = Scratch::new()?;
    let config = configure(&options, &scratch)?;
    log::init(&config.log)?;
    // Both ports are tried before anything is made.
    for address in [options.listen, options.admin] {
        free(address)?;
    }
    let version = app::load_scripts(&config.scripts)?;
    let (chosen, line) = app::choose_runtime(&config, process_images()?).await?;
    say(&line);
    if let (Chosen::Docker(_), Engine::Docker) = (&chosen, config.runtime.engine) {
        chosen.runtime().ping().await?;
    }

    let mut made = Made::default();
    let up = tokio::select! {
        up = bring_up(&config, &chosen, version, &mut made) => up,
        () = ending.told() => Err(anyhow::anyhow!("interrupted")),
    };
    let shown = match &up {
        Ok(_) => {
            tokio::select! {
                shown = show(&config, &options, &chosen) => shown,
                () = ending.told() => Ok(()),
            }
        }
        Err(_) => Ok(()),
    };
    if up.is_ok() && shown.is_ok() {
        ending.told().await;
    }
    say("\nCleaning up (Ctrl-C again leaves things as they are) …");
    let is_all_gone = tokio::select! {
        is_all_gone = take_down(&config, &chosen, &made) => is_all_gone,
        () = ending.told() => bail!("interrupted: containers {} may still be there", made.workloads.join(", ")),
    };
    if let Ok(gateway) = up {
        gateway.stop().await;
        shown?;
    } else {
        up?;
    }
    say(if is_all_gone {
        "Everything that the demonstration made is gone."
    } else {
        "Everything else that the demonstration made is gone."
    });
    Ok(())
}

fn configure(options: &Options, scratch: &Scratch) -> anyhow::Result<Config> {
    let mut config = Config::default();
    config.public.listen = Listen::Tcp(options.listen);
    config.admin.listen = Listen::Tcp(options.admin);
    if !options.admin.ip().is_loopback() {
        bail!(
            "--admin {}: the demonstration's admin API has no token, so it listens on a loopback address only",
            options.admin
        );
    }
    config.runtime.engine = match options.runtime.as_str() {
        "docker" => Engine::Docker,
        "process" => Engine::Process,
        _ => Engine::Auto,
    };
    let (key, value) = OWNERSHIP_LABEL;
    config.runtime.ownership_label = (key.to_owned(), value.to_owned());
    if let Ok(host) = std::env::var("DOCKER_HOST") {
        config.docker.host = host;
    }
    config.process.dir = scratch.path.join("process");
    config.log.format = LogFormat::Text;
    let level = if options.verbose { "info" } else { "warn" };
    config.log.level = level.to_owned();
    config.scripts.dir = options.scripts.clone();
    if !options.scripts.is_dir() {
        config.scripts.dir = scratch.path.join("scripts");
        std::fs::create_dir_all(&config.scripts.dir).context("making a folder for the script")?;
        std::fs::write(config.scripts.dir.join("session.rhai"), SHIPPED_SCRIPT)
            .context("writing the script")?;
    }
    Ok(config)
}

/// An error that says what to do when somebody else listens there.
fn free(address: SocketAddr) -> anyhow::Result<()> {
    match std::net::TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
            "{address} is in use by another program; end that one, or choose other ports with --listen and --admin"
        ),
        Err(error) => bail!("cannot listen on {address}: {error}"),
    }
}

async fn bring_up(
    config: &Config,
    chosen: &Chosen,
    version: crate::script::version::Version,
    made: &mut Made,
) -> anyhow::Result<Gateway> {
    if let Chosen::Docker(docker) = chosen {
        prepare_engine(docker, made).await?;
    }
    let gateway = Gateway::start(config.clone(), chosen.runtime(), version).await?;
    let client = Client::of(&config.admin);
    wait_until_ready(&gateway).await?;
    client
        .ready()
        .await
        .context("the gateway does not get ready")?;
    for number in 1..=COUNT {
        let step = Step::begin(format!("Making container {number} of {COUNT}"));
        let vars = Map::from_iter([("id".to_owned(), Value::from(number.to_string()))]);
        match client.post_template(SAMPLE_COMMAND, &vars, false).await {
            Ok(done) => {
                step.done(&done.name);
                made.workloads.push(done.name);
            }
            Err(ClientError::Refused { kind, .. }) if kind == "name_taken" => {
                let name = format!("{SAMPLE_COMMAND}-{number}");
                client.get(&name).await.with_context(|| {
                    format!("a container {name} exists already and is not the demonstration's; remove it first")
                })?;
                step.done("is there from an earlier run");
                made.workloads.push(name);
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "the template {SAMPLE_COMMAND:?} of {} made no container",
                        config.scripts.dir.display()
                    )
                });
            }
        }
    }
    Ok(gateway)
}

async fn prepare_engine(docker: &Docker, made: &mut Made) -> anyhow::Result<()> {
    let step = Step::begin(format!("Network {NETWORK}"));
    made.network = docker.ensure_network(NETWORK).await?;
    step.done(if made.network { "made" } else { "is there" });

    let program = std::env::current_exe().context("finding this program's own file")?;
    let step = Arc::new(Step::begin(format!(
        "Image {SAMPLE_IMAGE}, from this program"
    )));
    let there_before = docker.image(SAMPLE_IMAGE).await?.is_some();
    let told = step.clone();
    let progress = move |done, total| told.advance(done, total);
    let entrypoint = ["/wakegate", SAMPLE_COMMAND];
    let imported = docker
        .import_image(&program, SAMPLE_IMAGE, &entrypoint, SAMPLE_PORT, progress)
        .await?;
    made.image = !there_before;
    made.image_stays = there_before && imported;
    step.done(if imported { "made" } else { "is there" });
    Ok(())
}

async fn wait_until_ready(gateway: &Gateway) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIME;
    while let Err(reason) = gateway.fleet.engine() {
        if Instant::now() > deadline {
            bail!("the gateway does not get ready: {reason}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn show(config: &Config, options: &Options, chosen: &Chosen) -> anyhow::Result<()> {
    let client = Client::of(&config.admin);
    let instances = client.list().await?;
    say("");
    say(&format!(
        "{:<12} {:<18} {:<9} ADDRESS",
        "CONTAINER", "IMAGE", "PHASE"
    ));
    for instance in &instances {
        let address = instance.address.as_deref().unwrap_or("-");
        say(&format!(
            "{:<12} {:<18} {:<9} {address}",
            instance.name, instance.image, instance.phase
        ));
    }
    let (listen, admin) = (options.listen, options.admin);
    let first = format!("{SAMPLE_COMMAND}-1");
    let look = match chosen {
        Chosen::Docker(_) => format!("docker ps -a --filter label={}", OWNERSHIP_LABEL.0),
        Chosen::Process(_) => format!("ps x | grep '[ ]{SAMPLE_COMMAND}$'"),
    };
    say("");
    say(
        "All of them sleep. The first request wakes its container; after a minute without one it sleeps again.",
    );
    say("");
    let to_try = [
        (
            format!("curl http://{listen}/session/{first}/hello"),
            format!("wakes {first} and answers"),
        ),
        (
            format!("curl http://{admin}/deploy"),
            "what the gateway knows of each container".to_owned(),
        ),
        (
            look.to_string(),
            "what runs, seen from the other side".to_owned(),
        ),
    ];
    let width = to_try.iter().map(|(command, _)| command.len()).max();
    for (command, what) in &to_try {
        say(&format!("  {command:<0$}   {what}", width.unwrap_or(0)));
    }
    say("");
    say(&format!(
        "What happens to a request is decided in {}; change it and save.",
        script(&config.scripts.dir).display()
    ));
    say(&format!(
        "Ready: http://{listen}/session/{first}/ (Ctrl-C ends this and cleans up)"
    ));
    Ok(())
}

fn script(dir: &Path) -> PathBuf {
    let shipped = dir.join("session.rhai");
    if shipped.exists() {
        shipped
    } else {
        dir.to_owned()
    }
}

/// Takes away what was made. What cannot be taken away is told and left. False: something is.
async fn take_down(config: &Config, chosen: &Chosen, made: &Made) -> bool {
    let mut left: Vec<String> = Vec::new();
    let client = Client::of(&config.admin);
    for name in &made.workloads {
        if let Err(error) = client.delete(name).await {
            left.push(format!("container {name} is left behind: {error}"));
        }
    }
    if let Chosen::Docker(docker) = chosen {
        if made.image {
            match docker.remove_image(SAMPLE_IMAGE).await {
                Ok(true) => {}
                Ok(false) => left.push(
                    "the image is left behind: another container was made from it".to_owned(),
                ),
                Err(error) => left.push(format!("the image is left behind: {error}")),
            }
        }
        if made.image_stays {
            left.push(format!(
                "the image {SAMPLE_IMAGE} stays, since there was one of that name before"
            ));
        }
        if made.network
            && let Err(error) = docker.remove_network(NETWORK).await
        {
            left.push(format!("the network is left behind: {error}"));
        }
    }
    for line in &left {
        say(line);
    }
    left.is_empty()
}

/// A line to the one who started this; a closed terminal is no reason to stop.
fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// One step of the way, shown while it lasts.
struct Step {
    what: String,
    bar: ProgressBar,
}

impl Step {
    fn begin(what: String) -> Self {
        let bar = if io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        bar.set_message(format!("{what} …"));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { what, bar }
    }

    fn advance(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes}");
            if let Ok(style) = style {
                self.bar.set_style(style);
            }
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    fn done(&self, how: &str) {
        self.bar.finish_and_clear();
        say(&format!("{}: {how}", self.what));
    }
}

/// A folder that is gone with the demonstration.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("wakegate-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of it is in the system's folder for such things.
        drop(std::fs::remove_dir_all(&self.path));
    }
}
