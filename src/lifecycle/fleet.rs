//! All workloads: who they are, what the engine says of them, and the way in for requests.

mod answers;
mod follow;
mod shared;

pub use self::answers::{Ask, Creation, OrderError, Refusal, View};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::shared::{REMOVE_TIME, engine_unreachable, start_outcome};
use crate::clock::Clock;
use crate::config::Config;
use crate::decision::{ContainerFacts, ContainerRules};
use crate::lifecycle::core::{Core, EngineState};
use crate::lifecycle::gate::Lease;
use crate::lifecycle::machine::{Event, Phase};
use crate::lifecycle::places::Places;
use crate::lifecycle::workload::{Retired, Workload};
use crate::names::WorkloadName;
use crate::runtime::Runtime;
use crate::spec::WorkloadSpec;
use crate::traefik::Routed;

/// The longest that a request waits for the engine's word on a container that does not answer.
const SUSPECT_TIME: Duration = Duration::from_secs(2);

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
        let Some(superseded) = ask.superseded else {
            return self.wake(ask).await;
        };
        tokio::select! {
            biased;
            () = superseded.cancelled() => Err(Refusal::Superseded(ask.workload.clone())),
            woken = self.wake(ask) => woken,
        }
    }

    /// As [`acquire`](Self::acquire), without an eye on whether the request is superseded.
    async fn wake(&self, ask: Ask<'_>) -> Result<Lease, Refusal> {
        let deadline = self.shared.core.clock.now() + ask.wait;
        loop {
            let known = self.shared.get(ask.workload);
            if let Some(lease) = known
                .as_ref()
                .and_then(|workload| workload.ready_lease(ask.counts))
            {
                return Ok(lease);
            }
            let answers = self.shared.engine_answers(deadline).await;
            answers.map_err(|reason| engine_unreachable(ask.workload, &reason))?;
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
            match workload.lease(ask.counts, left, wish, ask.superseded).await {
                // It is being removed, or just was: it can be made again when it is gone.
                Ok(Err(Refusal::Unknown(_))) if ask.create.is_some() => {
                    let left = deadline.since(self.shared.core.clock.now());
                    // Somebody else may have it made again before that is seen here.
                    let gone =
                        workload.until(|machine| (!machine.phase().is_leaving()).then_some(()));
                    if tokio::time::timeout(left, gone).await.is_err() {
                        return Err(Refusal::TimedOut {
                            workload: ask.workload.clone(),
                            waited: ask.wait,
                        });
                    }
                    self.shared.prune();
                }
                // It was told to sleep, and this request is meant for it nevertheless.
                Ok(Err(Refusal::Superseded(_)))
                    if !ask.superseded.is_some_and(CancellationToken::is_cancelled) => {}
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
    /// An error when it cannot be woken now, with the reason. For `superseded` see [`Ask`].
    pub fn nudge(
        &self,
        name: &WorkloadName,
        create: Option<Creation<'_>>,
        superseded: Option<&CancellationToken>,
    ) -> Result<(), Refusal> {
        if let EngineState::Down(reason) = &*self.shared.core.engine.borrow() {
            return Err(engine_unreachable(name, reason));
        }
        if let Some(workload) = self.shared.get(name) {
            let wish = Event::Wanted { by_operator: false };
            match workload.nudge(wish, superseded) {
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
        match self.shared.entry(name).nudge(order, superseded) {
            // It is on its way out, or was retired in this very moment: the page asks again in a
            // second.
            Ok(Err(Refusal::Unknown(_))) | Err(Retired) => Ok(()),
            Ok(answer) => answer,
        }
    }

    /// A connection to `port` of the lease's endpoint could not be made or broke before an answer:
    /// the engine is asked whether that run still lives, and its gate is closed when it does not,
    /// or when it lives and its own port does not answer. Returns when that is known, so that the
    /// caller may ask for a lease again.
    pub async fn suspect(&self, lease: Lease, port: u16) {
        let endpoint = lease.endpoint().clone();
        // A route that names a wrong port must not close the way for all others.
        let own_port = endpoint.port.is_none_or(|own| own == port);
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
            let looked = tokio::time::timeout(SUSPECT_TIME, workload.look(&id)).await;
            if looked.is_ok() && own_port {
                drop(workload.order(Event::Unanswered {
                    serial: endpoint.serial,
                }));
            }
            told.send(()).ok();
        });
        drop(asked.await);
    }

    /// Waits until clients can be sent to the proxy in front of the gateway for the run that the
    /// lease is on; says why not, where it is known that they cannot. See `[traefik]`.
    pub async fn routed(&self, lease: &Lease) -> Routed {
        let endpoint = lease.endpoint();
        let workload = self.shared.get(&endpoint.workload);
        let labels = workload.map(|workload| workload.labels());
        let routes = &self.shared.core.routes;
        routes
            .taken(
                endpoint.serial,
                &endpoint.workload,
                &labels.unwrap_or_default(),
            )
            .await
    }

    /// The rules are others than before: asks anew when each workload that is awake may sleep.
    /// Ready rules need no such thing, as they are asked at each start.
    pub async fn rules_changed(&self) {
        let shared = self.shared.clone();
        // The engine's client belongs to the engine's runtime.
        let renewed = self.shared.core.handle.spawn(async move {
            for workload in shared.workloads.load_full().values() {
                workload.renew_idle_rule().await;
            }
        });
        drop(renewed.await);
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

    /// What the engine has of a workload's container now; `None` where there is none, or no answer.
    pub async fn container(&self, name_or_id: &str) -> Option<ContainerFacts> {
        let id = self.shared.find(name_or_id)?.id()?;
        let instance = self.shared.core.runtime.inspect(&id).await.ok()?;
        Some(instance.facts())
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

    /// Tells a workload to sleep: no new lease is given from now on, and it is stopped when no lease
    /// is out any more, after `drain` at the latest. Returns at once; false when there is no such
    /// workload. A workload on which such an order is already out keeps the earlier end.
    ///
    /// Requests that wait for it are told [`Refusal::Superseded`] if their token says so too. Any
    /// other wish opens it again at once, or starts it again once it has been stopped. For a
    /// release that another one replaced this call therefore comes after the cancelling of the
    /// token that its requests carry.
    pub fn rest(&self, name: &WorkloadName, drain: Duration) -> bool {
        self.shared
            .get(name)
            .is_some_and(|workload| workload.rest(drain))
    }

    /// Returns when the workload sleeps (stopped, paused, or failed) or is gone. Has no limit of its
    /// own.
    pub async fn rested(&self, name: &WorkloadName) {
        let Some(workload) = self.shared.get(name) else {
            return;
        };
        let asleep = |phase: &Phase| {
            matches!(
                phase,
                Phase::Absent | Phase::Stopped | Phase::Paused | Phase::Failed { .. }
            )
        };
        workload
            .until(|machine| asleep(machine.phase()).then_some(()))
            .await;
    }

    /// Drains, stops and removes a workload; returns when it is gone.
    pub async fn remove(&self, name_or_id: &str) -> Result<(), OrderError> {
        let unknown = || OrderError::Unknown(name_or_id.to_owned());
        let workload = self.shared.find(name_or_id).ok_or_else(unknown)?;
        let removed = self.shared.remove(&workload).await;
        self.shared.prune();
        removed.map_err(|error| error.unwrap_or_else(unknown))
    }

    /// The places of held requests over all workloads, for whoever holds requests before any workload
    /// is asked.
    pub fn places(&self) -> Arc<Places> {
        self.shared.core.held.clone()
    }

    /// Waits for the engine's first listing: until then what is not known may be there all the same.
    ///
    /// # Errors
    /// The engine is away, or does not list its containers within `start_timeout`.
    pub async fn listed(&self) -> Result<(), OrderError> {
        self.shared.listed().await
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
