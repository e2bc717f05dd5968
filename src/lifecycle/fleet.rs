//! All workloads: who they are, what the engine says of them, and the way in for requests.

mod follow;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::decision::{ContainerRules, CreateFrom};
use crate::lifecycle::core::{Core, EngineState};
use crate::lifecycle::gate::Lease;
use crate::lifecycle::machine::{Event, Failure, FailureKind, Machine, Phase, Step, Then};
use crate::lifecycle::workload::{Retired, Workload};
use crate::names::WorkloadName;
use crate::runtime::Runtime;
use crate::spec::{SpecRefusal, WorkloadSpec};

/// The longest that a request waits for the engine's word on a container that does not answer.
const SUSPECT_TIME: Duration = Duration::from_secs(2);

/// Beyond drain and stop, for the engine to remove what it was told to remove.
const REMOVE_TIME: Duration = Duration::from_secs(60);

/// A request's wish for a lease.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub workload: &'a WorkloadName,
    /// Whether the lease's end counts as activity.
    pub counts: bool,
    /// How long to wait for the workload to wake.
    pub wait: Duration,
    /// How to make the workload when it does not exist.
    pub create: Option<&'a CreateFrom>,
}

/// Why there is no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no workload {0:?}")]
    Unknown(WorkloadName),
    /// As many requests as allowed wait already.
    #[error("too many requests wait for {workload:?} to wake")]
    QueueFull {
        workload: WorkloadName,
        retry_after: Duration,
    },
    /// The wait is over; the wake goes on.
    #[error("{workload:?} did not become ready within {} s; it goes on starting", waited.as_secs_f64())]
    TimedOut {
        workload: WorkloadName,
        waited: Duration,
    },
    /// It could not be started, or not be made.
    #[error("{workload:?} cannot be used: {reason}")]
    Failed {
        workload: WorkloadName,
        reason: Arc<str>,
        retry_after: Duration,
    },
    #[error("{workload:?} cannot be woken: {reason}")]
    EngineUnreachable {
        workload: WorkloadName,
        reason: Arc<str>,
        retry_after: Duration,
    },
    /// Its template cannot be filled: a script's fault.
    #[error("the template for {workload:?} failed: {reason}")]
    Template {
        workload: WorkloadName,
        reason: Arc<str>,
    },
}

/// What can go wrong when a workload is made, started or removed on an operator's word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("the specification asks for what is not allowed here")]
    NotAllowed(Vec<SpecRefusal>),
    #[error("there is no workload {0:?}")]
    Unknown(String),
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    #[error("there is no image {0:?} on the engine")]
    ImageMissing(String),
    #[error("there is no network {0:?} on the engine")]
    NetworkMissing(String),
    #[error("the engine refused: {0}")]
    Refused(String),
    #[error("the engine does not answer: {0}")]
    EngineUnreachable(String),
    #[error("{0}")]
    Failed(String),
    #[error("not done within {} s; it goes on", .0.as_secs_f64())]
    TimedOut(Duration),
}

/// A workload as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// The engine's identifier; empty while there is no container.
    pub id: String,
    pub name: WorkloadName,
    /// `absent`, `creating`, `stopped`, `starting`, `ready`, `draining`, `stopping`, `pausing`,
    /// `paused`, `failed`, `removing`.
    pub phase: &'static str,
    /// Why it is in this phase, where there is something to say.
    pub reason: Option<String>,
    /// `address:port` while it is ready.
    pub address: Option<String>,
    pub image: String,
    pub labels: std::collections::BTreeMap<String, String>,
    /// Requests and streams that use it now.
    pub leases: u64,
    /// Requests that wait for it to wake.
    pub waiting: usize,
    /// Seconds without a lease; `None` while it is used or not ready.
    pub idle_seconds: Option<f64>,
    /// After how many of them it is put to sleep; `None` while it is not ready, or never.
    pub idle_stop_seconds: Option<f64>,
    /// Seconds in this phase.
    pub phase_seconds: f64,
}

/// Every workload of one engine.
pub struct Fleet {
    shared: Arc<Shared>,
    /// Ends the following of the engine's events with the fleet.
    _following: DropGuard,
}

struct Shared {
    core: Arc<Core>,
    workloads: ArcSwap<HashMap<WorkloadName, Arc<Workload>>>,
    /// Held while the map is exchanged for a changed one.
    changing: Mutex<()>,
}

impl Fleet {
    /// Lists what the engine has and follows its events from then on. Returns at once; until the
    /// first listing requests wait. Must be called on the runtime that engine work is to run on.
    pub fn open(
        config: &Config,
        runtime: Arc<dyn Runtime>,
        rules: Arc<dyn ContainerRules>,
        clock: Clock,
        registry: &mut Registry,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared {
            core: Arc::new(Core::new(config, runtime, rules, clock, registry)),
            workloads: ArcSwap::default(),
            changing: Mutex::new(()),
        });
        let stop = CancellationToken::new();
        let follow = stop
            .clone()
            .run_until_cancelled_owned(follow::follow(shared.clone()));
        shared.core.handle.spawn(follow);
        Arc::new(Self {
            shared,
            _following: stop.drop_guard(),
        })
    }

    /// Gives a lease at once when the workload is ready; otherwise wakes it (or makes it) and
    /// waits. May be called from any thread's runtime. Dropping the future gives the place up;
    /// the wake goes on.
    pub async fn acquire(&self, ask: Ask<'_>) -> Result<Lease, Refusal> {
        let deadline = self.shared.core.clock.now() + ask.wait;
        loop {
            let known = self.shared.get(ask.workload);
            if let Some(lease) = known
                .as_ref()
                .and_then(|workload| workload.ready_lease(ask.counts))
            {
                return Ok(lease);
            }
            self.shared.engine_answers(ask.workload, deadline).await?;
            let left = deadline.since(self.shared.core.clock.now());
            let (workload, wish) =
                match (known.or_else(|| self.shared.get(ask.workload)), ask.create) {
                    (Some(workload), _) => (workload, Event::Wanted { by_operator: false }),
                    (None, None) => return Err(Refusal::Unknown(ask.workload.clone())),
                    (None, Some(create)) => {
                        let order = self.shared.creation(ask.workload, create)?;
                        (self.shared.entry(ask.workload), order)
                    }
                };
            match workload.lease(ask.counts, left, wish).await {
                // It is being removed, or just was: it can be made again when it is gone.
                Ok(Err(Refusal::Unknown(_))) if ask.create.is_some() => {
                    let left = deadline.since(self.shared.core.clock.now());
                    let gone = workload
                        .until(|machine| matches!(machine.phase(), Phase::Absent).then_some(()));
                    if tokio::time::timeout(left, gone).await.is_err() {
                        return Err(Refusal::TimedOut {
                            workload: ask.workload.clone(),
                            waited: ask.wait,
                        });
                    }
                    self.shared.prune();
                }
                Ok(answer) => return answer,
                Err(Retired) => {}
            }
        }
    }

    /// A lease when the workload is ready this moment. Never wakes anything.
    pub fn acquire_ready(&self, workload: &WorkloadName, counts: bool) -> Option<Lease> {
        self.shared
            .workloads
            .load()
            .get(workload)?
            .ready_lease(counts)
    }

    /// Wakes the workload without waiting, as a request that is not held would (a waiting page).
    /// An error when it cannot be woken now, with the reason.
    pub fn nudge(&self, name: &WorkloadName, create: Option<&CreateFrom>) -> Result<(), Refusal> {
        if let EngineState::Down(reason) = &*self.shared.core.engine.borrow() {
            return Err(engine_unreachable(name, reason));
        }
        if let Some(workload) = self.shared.get(name) {
            match workload.nudge() {
                Ok(Err(Refusal::Unknown(_))) if create.is_some() => {}
                Ok(answer) => return answer,
                Err(Retired) => {}
            }
        }
        let Some(create) = create else {
            return match &*self.shared.core.engine.borrow() {
                EngineState::Unknown => Ok(()),
                _ => Err(Refusal::Unknown(name.clone())),
            };
        };
        let order = self.shared.creation(name, create)?;
        // Retired in this very moment: the page asks again in a second.
        drop(self.shared.entry(name).order(order));
        Ok(())
    }

    /// A connection to the lease's endpoint could not be made or broke before an answer: the
    /// engine is asked whether that run still lives, and its gate is closed when it does not, or
    /// when it lives and does not answer. Returns when that is known, so that the caller may ask
    /// for a lease again.
    pub async fn suspect(&self, lease: Lease) {
        let endpoint = lease.endpoint().clone();
        drop(lease);
        let Some(workload) = self.shared.get(&endpoint.workload) else {
            return;
        };
        let Some(id) = workload.id() else {
            return;
        };
        let (told, asked) = tokio::sync::oneshot::channel();
        // The engine's client belongs to the engine's runtime.
        self.shared.core.handle.spawn(async move {
            if tokio::time::timeout(SUSPECT_TIME, workload.look(&id))
                .await
                .is_ok()
            {
                drop(workload.order(Event::Unanswered {
                    serial: endpoint.serial,
                }));
            }
            told.send(()).ok();
        });
        drop(asked.await);
    }

    pub fn views(&self) -> Vec<View> {
        let workloads = self.shared.workloads.load();
        let mut views: Vec<View> = workloads.values().map(|workload| workload.view()).collect();
        views.retain(|view| view.phase != "absent");
        views.sort_by(|one, other| one.name.cmp(&other.name));
        views
    }

    /// By name, by id, or by a unique beginning of an id of at least 12 characters.
    pub fn view(&self, name_or_id: &str) -> Option<View> {
        let view = self.shared.find(name_or_id)?.view();
        (view.phase != "absent").then_some(view)
    }

    /// Makes a workload and, with `start`, starts it; returns when it is made and its start has
    /// been carried out (not when it is ready). Nothing half-made stays behind on an error, also
    /// when the returned future is dropped.
    pub async fn deploy(&self, spec: WorkloadSpec, start: bool) -> Result<View, OrderError> {
        let spec = self
            .shared
            .core
            .policy
            .admit(spec)
            .map_err(OrderError::NotAllowed)?;
        let shared = self.shared.clone();
        let whole = self
            .shared
            .core
            .handle
            .spawn(async move { shared.deploy(spec, start).await });
        whole
            .await
            .unwrap_or_else(|error| Err(OrderError::Failed(error.to_string())))
    }

    /// Starts a workload, also in its backoff. `until_ready`: returns when it is ready, at the
    /// most after that time; otherwise when its start has been carried out.
    pub async fn start(
        &self,
        name_or_id: &str,
        until_ready: Option<Duration>,
    ) -> Result<View, OrderError> {
        let unknown = || OrderError::Unknown(name_or_id.to_owned());
        let workload = self.shared.find(name_or_id).ok_or_else(unknown)?;
        workload
            .order(Event::Wanted { by_operator: true })
            .map_err(|Retired| unknown())?;
        let limit = until_ready.unwrap_or(self.shared.core.lifecycle.start_timeout + REMOVE_TIME);
        let begun = workload.until(|machine| start_outcome(machine, until_ready.is_some()));
        match tokio::time::timeout(limit, begun).await {
            Ok(Ok(())) => Ok(workload.view()),
            Ok(Err(None)) => Err(unknown()),
            Ok(Err(Some(failure))) => Err(OrderError::from(failure)),
            Err(_) => Err(OrderError::TimedOut(limit)),
        }
    }

    /// Drains, stops and removes a workload; returns when it is gone.
    pub async fn remove(&self, name_or_id: &str) -> Result<(), OrderError> {
        let unknown = || OrderError::Unknown(name_or_id.to_owned());
        let workload = self.shared.find(name_or_id).ok_or_else(unknown)?;
        let removed = self.shared.remove(&workload).await;
        self.shared.prune();
        removed.map_err(|error| error.unwrap_or_else(unknown))
    }

    /// `Ok` when the engine answers and all workloads are known, else what is wrong.
    pub fn engine(&self) -> Result<(), String> {
        match &*self.shared.core.engine.borrow() {
            EngineState::Up => Ok(()),
            EngineState::Unknown => Err("the engine's containers are not listed yet".to_owned()),
            EngineState::Down(reason) => Err(reason.to_string()),
        }
    }
}

impl Shared {
    fn get(&self, name: &WorkloadName) -> Option<Arc<Workload>> {
        self.workloads.load().get(name).cloned()
    }

    fn find(&self, name_or_id: &str) -> Option<Arc<Workload>> {
        let workloads = self.workloads.load();
        if let Some(workload) = workloads.get(name_or_id) {
            return Some(workload.clone());
        }
        let is_meant = |workload: &&Arc<Workload>| {
            let id = workload.id();
            id.is_some_and(|id| {
                id.as_str() == name_or_id
                    || (name_or_id.len() >= 12 && id.as_str().starts_with(name_or_id))
            })
        };
        let mut meant = workloads.values().filter(is_meant);
        let found = meant.next()?;
        meant.next().is_none().then(|| found.clone())
    }

    /// The workload of that name, made known when it is not.
    fn entry(&self, name: &WorkloadName) -> Arc<Workload> {
        if let Some(workload) = self.get(name) {
            return workload;
        }
        let _changing = self.changing.lock();
        if let Some(workload) = self.get(name) {
            return workload;
        }
        let workload = Workload::new(name.clone(), self.core.clone());
        let mut workloads = HashMap::clone(&self.workloads.load());
        workloads.insert(name.clone(), workload.clone());
        self.workloads.store(Arc::new(workloads));
        workload
    }

    /// Forgets workloads that have no container and nobody waiting.
    fn prune(&self) {
        let _changing = self.changing.lock();
        let workloads = self.workloads.load();
        let gone: Vec<&WorkloadName> = workloads
            .iter()
            .filter(|(_, workload)| workload.retire_if_absent())
            .map(|(name, _)| name)
            .collect();
        if gone.is_empty() {
            return;
        }
        let mut kept = HashMap::clone(&workloads);
        for name in gone {
            kept.remove(name);
        }
        self.workloads.store(Arc::new(kept));
    }

    /// Waits for the first listing; refuses while the engine is away.
    async fn engine_answers(&self, name: &WorkloadName, deadline: Moment) -> Result<(), Refusal> {
        let mut engine = self.core.engine.subscribe();
        let left = deadline.since(self.core.clock.now());
        let known = engine.wait_for(|state| *state != EngineState::Unknown);
        match tokio::time::timeout(left, known).await {
            Ok(Ok(state)) => match &*state {
                EngineState::Down(reason) => Err(engine_unreachable(name, reason)),
                _ => Ok(()),
            },
            Ok(Err(_)) | Err(_) => Err(engine_unreachable(
                name,
                &"its containers are not listed yet".into(),
            )),
        }
    }

    /// The order to make the workload from its template.
    fn creation(&self, name: &WorkloadName, create: &CreateFrom) -> Result<Event, Refusal> {
        let fail = |reason: String| Refusal::Template {
            workload: name.clone(),
            reason: reason.into(),
        };
        let filled = self.core.rules.template(&create.template, &create.vars);
        let spec = match filled {
            Ok(Some(spec)) => spec,
            Ok(None) => return Err(fail(format!("there is no template {:?}", create.template))),
            Err(failure) => return Err(fail(failure.to_string())),
        };
        if spec.name != *name {
            return Err(fail(format!("it names the workload {:?}", spec.name)));
        }
        let spec = self.core.policy.admit(spec).map_err(|refusals| {
            let refusals: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            fail(refusals.join("; "))
        })?;
        Ok(Event::CreateOrdered {
            spec: Box::new(spec),
            start: true,
        })
    }

    async fn deploy(&self, spec: WorkloadSpec, start: bool) -> Result<View, OrderError> {
        if let EngineState::Down(reason) = &*self.core.engine.borrow() {
            return Err(OrderError::EngineUnreachable(reason.to_string()));
        }
        let name = spec.name.clone();
        let workload = loop {
            let workload = self.entry(&name);
            let order = Event::CreateOrdered {
                spec: Box::new(spec.clone()),
                start,
            };
            match workload.order_if_absent(order) {
                Ok(true) => break workload,
                Ok(false) => return Err(OrderError::NameTaken(name.to_string())),
                Err(Retired) => {}
            }
        };
        let made = workload.until(|machine| match machine.phase() {
            Phase::Creating { .. } => None,
            Phase::Absent => Some(Err(machine.last_failure().cloned())),
            _ if start => start_outcome(machine, false),
            _ => Some(Ok(())),
        });
        match made.await {
            Ok(()) => Ok(workload.view()),
            // It was started and has ended again: that is the application's affair, and it can be
            // looked at.
            Err(Some(failure))
                if matches!(
                    failure.kind,
                    FailureKind::NotRunning | FailureKind::NotReady
                ) =>
            {
                Ok(workload.view())
            }
            Err(failure) => {
                if let Err(Some(left_behind)) = self.remove(&workload).await {
                    tracing::warn!(workload = %name, error = %left_behind, "what was made for a refused deployment could not be removed");
                }
                self.prune();
                Err(failure.map_or_else(|| OrderError::Unknown(name.to_string()), OrderError::from))
            }
        }
    }

    /// `Err(None)`: there is nothing to remove.
    async fn remove(&self, workload: &Arc<Workload>) -> Result<(), Option<OrderError>> {
        let limit =
            self.core.lifecycle.drain_timeout + self.core.lifecycle.stop_timeout + REMOVE_TIME;
        let whole = async {
            workload
                .until(|machine| (!matches!(machine.phase(), Phase::Creating { .. })).then_some(()))
                .await;
            let mut absent = false;
            workload
                .until(|machine| {
                    absent = matches!(machine.phase(), Phase::Absent);
                    Some(())
                })
                .await;
            if absent || workload.order(Event::RemoveOrdered).is_err() {
                return Err(None);
            }
            workload
                .until(|machine| match machine.phase() {
                    Phase::Absent => Some(Ok(())),
                    Phase::Stopping {
                        then: Then::Remove, ..
                    }
                    | Phase::Pausing { then: Then::Remove }
                    | Phase::Draining { .. }
                    | Phase::Removing => None,
                    _ => Some(Err(machine.last_failure().cloned())),
                })
                .await
                .map_err(|failure| {
                    let failed = || OrderError::Failed("it could not be removed".to_owned());
                    Some(failure.map_or_else(failed, OrderError::from))
                })
        };
        let removed = tokio::time::timeout(limit, whole).await;
        removed.unwrap_or(Err(Some(OrderError::TimedOut(limit))))
    }
}

/// How a start went, as soon as that can be said. `Err(None)`: there is no container any more.
fn start_outcome(machine: &Machine, until_ready: bool) -> Option<Result<(), Option<Failure>>> {
    match machine.phase() {
        Phase::Ready { .. } => Some(Ok(())),
        Phase::Starting {
            step: Step::Proving { .. },
            ..
        } if !until_ready => Some(Ok(())),
        Phase::Absent | Phase::Draining { .. } | Phase::Removing => Some(Err(None)),
        Phase::Failed { failure, .. }
        | Phase::Stopping {
            then: Then::Fail { failure, .. },
            ..
        } => Some(Err(Some(failure.clone()))),
        _ => None,
    }
}

fn engine_unreachable(workload: &WorkloadName, reason: &Arc<str>) -> Refusal {
    Refusal::EngineUnreachable {
        workload: workload.clone(),
        reason: reason.clone(),
        retry_after: Duration::from_secs(2),
    }
}

impl From<Failure> for OrderError {
    fn from(failure: Failure) -> Self {
        let message = failure.message.to_string();
        match failure.kind {
            FailureKind::EngineUnreachable => OrderError::EngineUnreachable(message),
            FailureKind::NameTaken(name) => OrderError::NameTaken(name),
            FailureKind::ImageMissing(image) => OrderError::ImageMissing(image),
            FailureKind::NetworkMissing(network) => OrderError::NetworkMissing(network),
            FailureKind::Refused => OrderError::Refused(message),
            FailureKind::NotFound
            | FailureKind::NotRunning
            | FailureKind::IsPaused
            | FailureKind::NotReady
            | FailureKind::Other => OrderError::Failed(message),
        }
    }
}
