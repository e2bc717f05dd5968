//! What the fake engine knows: its containers, and each change of them with its event.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::feed::Feed;
use crate::runtime::{
    EngineEvent, EngineEventKind, Instance, InstanceId, InstanceState, RegistryHealth, RuntimeError,
};
use crate::spec::WorkloadSpec;

use super::{Behaviour, Call, PullBehaviour};

pub(super) type Hook = Arc<dyn Fn(&Instance) + Send + Sync>;

pub(super) struct State {
    pub containers: BTreeMap<InstanceId, Container>,
    pub behaviours: HashMap<String, Behaviour>,
    pub foreign: BTreeSet<String>,
    pub missing_images: BTreeSet<String>,
    pub missing_networks: BTreeSet<String>,
    pub pulls: HashMap<String, PullBehaviour>,
    pub load_error: Option<RuntimeError>,
    pub registries: HashMap<String, RegistryHealth>,
    pub reachable: bool,
    pub listing_delay: Duration,
    pub feed: Feed,
    pub calls: Vec<Call>,
    pub on_start: Option<Hook>,
    pub on_end: Option<Hook>,
    made: u64,
}

pub(super) struct Container {
    /// Without an address, which only a running one has.
    pub instance: Instance,
    pub network: Option<String>,
    pub runs_begun: usize,
    pub printed: Vec<String>,
    /// In its present run.
    pub sent_bytes: u64,
    /// Starts and stops of one container come one after the other, as on a real engine.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

impl State {
    pub fn new() -> Self {
        Self {
            containers: BTreeMap::new(),
            behaviours: HashMap::new(),
            foreign: BTreeSet::new(),
            missing_images: BTreeSet::new(),
            missing_networks: BTreeSet::new(),
            pulls: HashMap::new(),
            load_error: None,
            registries: HashMap::new(),
            reachable: true,
            listing_delay: Duration::ZERO,
            feed: Feed::new(),
            calls: Vec::new(),
            on_start: None,
            on_end: None,
            made: 0,
        }
    }

    pub fn behaviour(&self, name: &str) -> Behaviour {
        self.behaviours.get(name).cloned().unwrap_or_default()
    }

    /// The container with this id, which is known to exist.
    pub fn container(&mut self, id: &InstanceId) -> &mut Container {
        self.containers.get_mut(id).expect("the container exists")
    }

    pub fn find(&mut self, id: &InstanceId) -> Result<&mut Container, RuntimeError> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| RuntimeError::NotFound(id.to_string()))
    }

    pub fn by_name(&self, name: &str) -> Option<Instance> {
        let mut all = self.containers.values();
        let found = all.find(|container| container.instance.name.as_str() == name)?;
        Some(self.shown(&found.instance))
    }

    /// The name that a call's id stands for, or the id itself.
    pub fn name_of(&self, id: &InstanceId) -> String {
        match self.containers.get(id) {
            Some(container) => container.instance.name.to_string(),
            None => id.to_string(),
        }
    }

    pub fn count(&self, call: &Call) -> usize {
        self.calls.iter().filter(|one| *one == call).count()
    }

    /// The container as `inspect` tells it.
    pub fn shown(&self, instance: &Instance) -> Instance {
        let like = self.behaviour(instance.name.as_str());
        let runs = matches!(
            instance.state,
            InstanceState::Running { .. } | InstanceState::Paused { .. }
        );
        Instance {
            address: (runs && !like.off_network).then_some(like.address),
            ports: like.ports.unwrap_or_else(|| instance.ports.clone()),
            ..instance.clone()
        }
    }

    pub fn create(&mut self, spec: &WorkloadSpec) -> Result<InstanceId, RuntimeError> {
        let name = spec.name.as_str();
        if self.missing_images.contains(&spec.image) {
            return Err(RuntimeError::ImageMissing(spec.image.clone()));
        }
        if let Some(network) = &spec.network
            && self.missing_networks.contains(network)
        {
            return Err(RuntimeError::NetworkMissing(network.clone()));
        }
        if self.foreign.contains(name) || self.by_name(name).is_some() {
            return Err(RuntimeError::NameTaken(name.to_owned()));
        }
        self.made += 1;
        // As long as a real engine's, and no two have the same beginning.
        let id = InstanceId::new(&format!("{:012x}{:052x}", self.made, self.made));
        let instance = Instance {
            id: id.clone(),
            name: spec.name.clone(),
            image: spec.image.clone(),
            labels: spec.labels.clone(),
            envs: spec.envs.clone(),
            state: InstanceState::Stopped { exit_code: None },
            address: None,
            ports: spec.port.into_iter().collect(),
            health: None,
        };
        let container = Container {
            instance,
            network: spec.network.clone(),
            runs_begun: 0,
            printed: Vec::new(),
            sent_bytes: 0,
            turn: Arc::default(),
        };
        self.containers.insert(id.clone(), container);
        self.tell(&id, EngineEventKind::Changed);
        Ok(id)
    }

    /// Makes it run; the event is the caller's to send. `None` when it runs already or is gone.
    pub fn begin(&mut self, id: &InstanceId) -> Option<Instance> {
        let started_at = self.feed.now();
        let name = self.containers.get(id)?.instance.name.to_string();
        let health = self.behaviour(&name).health_at_start;
        let container = self.container(id);
        if !matches!(container.instance.state, InstanceState::Stopped { .. }) {
            return None;
        }
        container.instance.state = InstanceState::Running { started_at };
        container.instance.health = health;
        container.runs_begun += 1;
        container.sent_bytes = 0;
        let instance = container.instance.clone();
        Some(self.shown(&instance))
    }

    /// Makes it stopped; the event is the caller's to send. `None` when it did not run.
    pub fn end(&mut self, id: &InstanceId, code: i64) -> Option<Instance> {
        let container = self.containers.get_mut(id)?;
        if matches!(container.instance.state, InstanceState::Stopped { .. }) {
            return None;
        }
        container.instance.state = InstanceState::Stopped {
            exit_code: Some(code),
        };
        Some(container.instance.clone())
    }

    pub fn pause(&mut self, id: &InstanceId) -> Result<(), RuntimeError> {
        let container = self.find(id)?;
        match container.instance.state {
            InstanceState::Running { started_at } => {
                container.instance.state = InstanceState::Paused { started_at };
                self.tell(id, EngineEventKind::Paused);
                Ok(())
            }
            InstanceState::Paused { .. } => Ok(()),
            _ => Err(RuntimeError::Refused(format!("{id} does not run"))),
        }
    }

    pub fn unpause(&mut self, id: &InstanceId) -> Result<(), RuntimeError> {
        let container = self.find(id)?;
        match container.instance.state {
            InstanceState::Paused { started_at } => {
                container.instance.state = InstanceState::Running { started_at };
                self.tell(id, EngineEventKind::Unpaused);
                Ok(())
            }
            InstanceState::Running { .. } => Ok(()),
            _ => Err(RuntimeError::Refused(format!("{id} does not run"))),
        }
    }

    /// Removes what does not run.
    pub fn destroy(&mut self, id: &InstanceId) {
        self.tell(id, EngineEventKind::Destroyed);
        self.containers.remove(id);
    }

    /// Sends an event about a container, if it still exists.
    pub fn tell(&mut self, id: &InstanceId, kind: EngineEventKind) {
        let at = self.feed.now();
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let event = EngineEvent {
            id: id.clone(),
            name: container.instance.name.clone(),
            at,
            kind,
        };
        self.feed.send(event);
    }
}
