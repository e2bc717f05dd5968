//! The whole gateway put together, started and stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use crate::admin;
use crate::clock::Clock;
use crate::config::{self, Config, Engine, Listen, ProcessImage, Shadow};
use crate::deploy::manager::Manager;
use crate::lifecycle::fleet::Fleet;
use crate::metrics;
use crate::proxy::{self, Proxy};
use crate::runtime::Runtime;
use crate::runtime::docker::Docker;
use crate::runtime::process::Process;
use crate::script::current::Scripts;
use crate::script::history::History;
use crate::script::reload::Reloading;
use crate::script::trial;
use crate::script::version::Version;

/// How long requests under way may take when the gateway is told to end.
const STOP_TIME: Duration = Duration::from_secs(30);

/// How long admin calls under way may take then.
const ADMIN_STOP_TIME: Duration = Duration::from_secs(2);

/// How long the engine may take to say that it is there, where `auto` has to choose.
const CHOICE_TIME: Duration = Duration::from_secs(5);

/// Where containers are run.
pub enum Chosen {
    Docker(Arc<Docker>),
    Process(Arc<Process>),
}

/// A running gateway. Dropping it ends it at once; containers go on.
pub struct Gateway {
    pub fleet: Arc<Fleet>,
    /// What became of the scripts since the start.
    pub history: Arc<History>,
    pub releases: Arc<Manager>,
    /// Ended with the gateway; none where scripts are not watched.
    _reloading: Option<Reloading>,
    _renewing: AbortOnDropHandle<()>,
    proxy: proxy::Running,
    admin: admin::Running,
}

impl Chosen {
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        match self {
            Chosen::Docker(docker) => docker.clone(),
            Chosen::Process(process) => process.clone(),
        }
    }
}

/// Takes the configured runtime; `auto` takes Docker when its engine answers. The second value is
/// one line for people on what was taken, and why.
pub async fn choose_runtime(
    config: &Config,
    builtin: BTreeMap<String, ProcessImage>,
) -> anyhow::Result<(Chosen, String)> {
    let process = || -> anyhow::Result<Chosen> {
        let label = config.runtime.ownership_label.clone();
        let process = Process::open(&config.process, builtin, label)
            .context("the process runtime cannot be used")?;
        Ok(Chosen::Process(Arc::new(process)))
    };
    if config.runtime.engine == Engine::Process {
        return Ok((
            process()?,
            "containers are child processes, as configured".to_owned(),
        ));
    }
    let docker = Docker::connect(&config.docker, config.runtime.ownership_label.clone())
        .with_context(|| format!("docker.host = {:?}", config.docker.host))?;
    let answer = tokio::time::timeout(CHOICE_TIME, docker.ping()).await;
    let answer = answer.map_err(|_| format!("no answer within {} s", CHOICE_TIME.as_secs()));
    match answer.and_then(|answer| answer.map_err(|error| error.to_string())) {
        Ok(answer) => Ok((Chosen::Docker(Arc::new(docker)), answer)),
        Err(reason) if config.runtime.engine == Engine::Auto => {
            let line =
                format!("no container engine: {reason}; workloads are child processes instead");
            Ok((process()?, line))
        }
        // The engine may come up later than the gateway; it is followed from then on.
        Err(reason) => Ok((Chosen::Docker(Arc::new(docker)), reason)),
    }
}

/// Loads the scripts, or tells all that is wrong with them.
pub fn load_scripts(scripts: &config::Scripts) -> anyhow::Result<Version> {
    trial::load(&scripts.dir, &scripts.given, 1).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!("the scripts are not usable:\n{}", errors.join("\n"))
    })
}

impl Gateway {
    /// Opens both listeners and begins to follow the engine. Must be called on the runtime that
    /// engine and admin work is to run on; the data plane has threads of its own.
    pub async fn start(
        config: Config,
        runtime: Arc<dyn Runtime>,
        version: Version,
    ) -> anyhow::Result<Self> {
        let mut registry = metrics::registry();
        let requests_max = match config.scripts.shadow {
            Shadow::Off => 0,
            Shadow::Report | Shadow::Hold => config.scripts.shadow_requests_max,
        };
        let scripts = Scripts::keeping(version, requests_max);
        let history = History::new(scripts.clone(), &mut registry);
        let clock = Clock::new();
        let fleet = Fleet::open(
            &config,
            runtime.clone(),
            scripts.clone(),
            clock,
            &mut registry,
        );
        let env = |name: &str| std::env::var(name).ok();
        let releases = Manager::open(&config, &fleet, &runtime, clock, &mut registry, &env)?;
        let proxy_metrics = proxy::Metrics::new(&mut registry);
        let config = Arc::new(config);
        // The private listener first: it is the one that tells how the gateway is.
        let parts = admin::Parts {
            workloads: fleet.clone(),
            templates: history.clone(),
            registry: Arc::new(registry),
            policy: config.spec.clone(),
            releases: releases.clone(),
        };
        let admin = admin::start(&config.admin, parts).await?;
        let reloading = if config.scripts.watch {
            let reloading = Reloading::begin(history.clone(), config.scripts.clone());
            Some(reloading.context("starting the thread that watches the scripts")?)
        } else {
            None
        };
        let renewing = tokio::spawn(renew_rules(history.clone(), fleet.clone()));
        let proxy = Proxy::start(
            config,
            fleet.clone(),
            releases.routes(),
            scripts,
            &proxy_metrics,
        )?;
        Ok(Self {
            fleet,
            history,
            releases,
            _reloading: reloading,
            _renewing: AbortOnDropHandle::new(renewing),
            proxy,
            admin,
        })
    }

    /// Where requests come in, as `host:port` or `unix:/path`.
    pub fn public_address(&self) -> String {
        self.proxy.address().to_string()
    }

    pub fn admin_address(&self) -> &Listen {
        self.admin.address()
    }

    /// Takes no new requests, lets those under way end, and leaves all containers as they are.
    pub async fn stop(self) {
        self.proxy.stop(STOP_TIME).await;
        self.admin.stop(ADMIN_STOP_TIME).await;
    }
}

/// Tells the workloads when another version serves, whose rules may be others.
async fn renew_rules(history: Arc<History>, fleet: Arc<Fleet>) {
    let mut changes = history.changes();
    let mut known = history.tell().serving.number;
    while changes.changed().await.is_ok() {
        let serving = history.tell().serving.number;
        if serving != known {
            known = serving;
            fleet.rules_changed().await;
        }
    }
}

/// `wakegate serve`: runs until a signal ends it.
pub async fn serve(config: Config, builtin: BTreeMap<String, ProcessImage>) -> anyhow::Result<()> {
    let mut ending = Ending::listen()?;
    let version = load_scripts(&config.scripts)?;
    let (chosen, line) = choose_runtime(&config, builtin).await?;
    tracing::info!("{line}");
    let gateway = Gateway::start(config, chosen.runtime(), version).await?;
    ending.told().await;
    tracing::info!("ending: requests under way have {} s", STOP_TIME.as_secs());
    tokio::select! {
        () = gateway.stop() => {}
        () = ending.told() => tracing::info!("ending at once"),
    }
    Ok(())
}

/// The signals that end the gateway.
pub struct Ending {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Ending {
    pub fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
        })
    }

    /// Resolves at each SIGINT or SIGTERM.
    pub async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
