//! What is known of each workload now, and the events that tell of its changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::run::Run;
use super::store::{Identity, Saved};
use crate::config::ProcessImage;
use crate::runtime::feed::Feed;
use crate::runtime::{
    EngineEvent, EngineEventKind, Instance, InstanceId, InstanceState, RuntimeError,
};

/// Every workload of the state directory. A change and its event happen under one lock, so that
/// events come in the order of what they tell.
pub(super) struct Table {
    workloads: BTreeMap<InstanceId, Workload>,
    pub feed: Feed,
}

pub(super) struct Workload {
    pub identity: Arc<Identity>,
    pub phase: Phase,
    /// Calls that change one workload come one after the other.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

pub(super) enum Phase {
    Stopped { exit_code: Option<i64> },
    Running { run: Arc<Run>, paused: bool },
}

impl Phase {
    pub fn saved(&self) -> Saved {
        match self {
            Phase::Stopped { exit_code } => Saved::Stopped {
                exit_code: *exit_code,
            },
            Phase::Running { run, .. } => run.saved(),
        }
    }
}

impl Run {
    pub fn saved(&self) -> Saved {
        Saved::Running {
            process: self.process.clone(),
            started_at: self.started_at.0,
        }
    }
}

impl Table {
    pub fn new() -> Self {
        Self {
            workloads: BTreeMap::new(),
            feed: Feed::new(),
        }
    }

    pub fn add(&mut self, identity: Identity, phase: Phase) -> InstanceId {
        let id = InstanceId::new(&identity.id);
        let workload = Workload {
            identity: identity.into(),
            phase,
            turn: Arc::default(),
        };
        self.workloads.insert(id.clone(), workload);
        id
    }

    pub fn all(&self) -> impl Iterator<Item = (&InstanceId, &Workload)> {
        self.workloads.iter()
    }

    pub fn find(&self, id: &InstanceId) -> Result<&Workload, RuntimeError> {
        let found = self.workloads.get(id);
        found.ok_or_else(|| RuntimeError::NotFound(id.to_string()))
    }

    pub fn by_name(&self, name: &str) -> Option<&Workload> {
        let mut all = self.workloads.values();
        all.find(|workload| workload.identity.spec.name.as_str() == name)
    }

    /// As a host name: in capitals or not, unless two workloads differ in nothing else.
    pub fn by_host(&self, host: &str) -> Option<&Workload> {
        let alike = |one: &&Workload| one.identity.spec.name.as_str().eq_ignore_ascii_case(host);
        self.by_name(host)
            .or_else(|| self.workloads.values().find(alike))
    }

    pub fn address_is_taken(&self, address: Ipv4Addr) -> bool {
        let mut all = self.workloads.values();
        all.any(|workload| workload.identity.address == address)
    }

    /// Its process, and whether it is paused; `None` when it is stopped or gone.
    pub fn run(&self, id: &InstanceId) -> Option<(Arc<Run>, bool)> {
        match &self.workloads.get(id)?.phase {
            Phase::Stopped { .. } => None,
            Phase::Running { run, paused } => Some((run.clone(), *paused)),
        }
    }

    pub fn started(&mut self, id: &InstanceId, run: Arc<Run>) {
        if let Some(workload) = self.workloads.get_mut(id) {
            let paused = false;
            workload.phase = Phase::Running { run, paused };
            self.tell(id, EngineEventKind::Started);
        }
    }

    pub fn ended(&mut self, id: &InstanceId, exit_code: Option<i64>) {
        if let Some(workload) = self.workloads.get_mut(id) {
            workload.phase = Phase::Stopped { exit_code };
            self.tell(id, EngineEventKind::Died { exit_code });
        }
    }

    /// A signal that ends it is about to be sent. Its process; `None` when it does not run.
    pub fn ending(&mut self, id: &InstanceId) -> Option<Arc<Run>> {
        let (run, _) = self.run(id)?;
        self.tell(id, EngineEventKind::Ending);
        Some(run)
    }

    /// Notes that its process was stopped or continued, if it still runs.
    pub fn set_paused(&mut self, id: &InstanceId, now: bool) {
        let workload = self.workloads.get_mut(id);
        let Some(Phase::Running { paused, .. }) = workload.map(|workload| &mut workload.phase)
        else {
            return;
        };
        if *paused != now {
            *paused = now;
            let kind = match now {
                true => EngineEventKind::Paused,
                false => EngineEventKind::Unpaused,
            };
            self.tell(id, kind);
        }
    }

    pub fn remove(&mut self, id: &InstanceId) {
        self.tell(id, EngineEventKind::Destroyed);
        self.workloads.remove(id);
    }

    pub fn tell(&mut self, id: &InstanceId, kind: EngineEventKind) {
        let at = self.feed.now();
        if let Some(workload) = self.workloads.get(id) {
            self.feed.send(EngineEvent {
                id: id.clone(),
                name: workload.identity.spec.name.clone(),
                at,
                kind,
            });
        }
    }
}

impl Workload {
    /// The workload as `inspect` and `list` tell it; `image` when its image is known.
    pub fn instance(&self, image: Option<&ProcessImage>, label: &(String, String)) -> Instance {
        let spec = &self.identity.spec;
        let mut labels = spec.labels.clone();
        labels.insert(label.0.clone(), label.1.clone());
        let mut envs = image.map_or_else(BTreeMap::new, |image| image.envs.clone());
        envs.extend(spec.envs.clone());
        let port = spec.port.or(image.and_then(|image| image.port));
        let (state, runs) = match &self.phase {
            Phase::Stopped { exit_code } => {
                let exit_code = *exit_code;
                (InstanceState::Stopped { exit_code }, false)
            }
            Phase::Running { run, paused } => {
                let started_at = run.started_at;
                let state = match paused {
                    true => InstanceState::Paused { started_at },
                    false => InstanceState::Running { started_at },
                };
                (state, true)
            }
        };
        Instance {
            id: InstanceId::new(&self.identity.id),
            name: spec.name.clone(),
            image: spec.image.clone(),
            labels,
            envs,
            state,
            address: runs.then_some(IpAddr::V4(self.identity.address)),
            ports: port.into_iter().collect(),
            health: None,
        }
    }
}
