//! Carrying out what a workload's machine decided, and telling it how that went.

use std::sync::Arc;
use std::time::Duration;

use super::{About, Workload};
use crate::clock::Moment;
use crate::decision::BusySign;
use crate::lifecycle::core::port_of;
use crate::lifecycle::gate::Endpoint;
use crate::lifecycle::machine::{
    Effect, Event, Failure, FailureKind, Generation, How, Launch, Phase, Run, Step, Use,
};
use crate::lifecycle::probe::Probe;
use crate::lifecycle::usage;
use crate::runtime::{Instance, InstanceId, InstanceState, RuntimeError};

/// For a started container to get an address. Whoever made it may still be connecting it.
const ADDRESS_TIME: Duration = Duration::from_secs(2);

/// Between two looks for that.
const ADDRESS_PAUSE: Duration = Duration::from_millis(50);

impl Workload {
    pub(super) async fn carry_out(self: Arc<Self>, effect: Effect) {
        let runtime = &self.core.runtime;
        let event = match effect {
            Effect::Create(generation, spec) => {
                let created = runtime.create(&spec).await.map_err(Failure::from);
                if created.is_ok() {
                    self.inner.lock().about = About {
                        image: spec.image,
                        labels: spec.labels,
                    };
                }
                Event::Created(generation, created)
            }
            Effect::Launch(generation, id, how) => {
                let Some(launched) = self.launch(generation, &id, how).await else {
                    return;
                };
                Event::Launched(generation, launched)
            }
            Effect::Prove(generation, id, launch, deadline) => {
                return self.prove(generation, id, launch, deadline).await;
            }
            Effect::Stop(generation, id, grace) => {
                let _alone = self.call.lock().await;
                let stopped = runtime.stop(&id, grace).await;
                Event::StopDone(generation, stopped.map_err(Failure::from))
            }
            Effect::Pause(generation, id) => {
                let _alone = self.call.lock().await;
                Event::PauseDone(generation, runtime.pause(&id).await.map_err(Failure::from))
            }
            Effect::Remove(generation, id) => {
                Event::RemoveDone(generation, runtime.remove(&id).await.map_err(Failure::from))
            }
            Effect::AskUse(generation, id, sign, endpoint) => {
                Event::Use(generation, self.use_of(&id, &sign, &endpoint).await)
            }
            Effect::Look(id) => return self.look(&id).await,
            // Answered under the lock.
            Effect::Refuse(_) => return,
        };
        drop(self.order(event));
    }

    /// Whether it is used past the gateway. What nobody answers is told once in a row.
    async fn use_of(&self, id: &InstanceId, sign: &BusySign, endpoint: &Endpoint) -> Use {
        let told = usage::told(&self.core, id, sign, endpoint, &self.labels()).await;
        if let Use::Unknown(why) = &told {
            let stays = match self.inner.lock().machine.phase() {
                Phase::Ready { watch, .. } if watch.unknown().is_none() => "it stays awake",
                Phase::Draining {
                    past: Some(past), ..
                } if past.watch.unknown().is_none() => "it is drained for all of its time",
                _ => return told,
            };
            tracing::warn!(
                workload = %self.name,
                "{stays}, as nobody tells whether it is in use ({sign}): {why}"
            );
        }
        told
    }

    /// Asks the engine for the container and tells the machine. Silent when the engine is away:
    /// everything is listed again when it is back.
    pub async fn look(self: &Arc<Self>, id: &InstanceId) {
        let asked = self.core.clock.now();
        match self.core.runtime.inspect(id).await {
            Ok(instance) => drop(self.observe(asked, &instance, false)),
            Err(RuntimeError::NotFound(_)) => drop(self.order(Event::Missing {
                asked,
                id: id.clone(),
            })),
            Err(_) => {}
        }
    }

    /// `None`: the order was overtaken before its turn came.
    async fn launch(
        &self,
        generation: Generation,
        id: &InstanceId,
        how: How,
    ) -> Option<Result<Launch, Failure>> {
        if how != How::Adopt {
            let _turn = self.core.starts.acquire().await;
            let _alone = self.call.lock().await;
            if self.inner.lock().machine.generation() != generation {
                return None;
            }
            let limit = self.core.lifecycle.start_timeout;
            let call = async {
                match how {
                    How::Unpause => self.core.runtime.unpause(id).await,
                    _ => self.core.runtime.start(id).await,
                }
            };
            let failure = match tokio::time::timeout(limit, call).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Failure::from(error)),
                Err(_) => Some(Failure::new(
                    FailureKind::NotReady,
                    format!(
                        "the engine did not start it within {}",
                        humantime::format_duration(limit)
                    ),
                )),
            };
            if let Some(failure) = failure {
                return Some(Err(failure));
            }
        }
        Some(self.examine(id).await)
    }

    /// Asks the rules anew when it may sleep, if it is awake. Where the engine cannot be asked, the
    /// rule stays as it was.
    pub async fn renew_idle_rule(self: &Arc<Self>) {
        let awake = {
            let inner = self.inner.lock();
            let is_awake = matches!(
                inner.machine.phase(),
                Phase::Ready { .. } | Phase::Starting { .. } | Phase::Draining { .. }
            );
            inner.machine.id().filter(|_| is_awake).cloned()
        };
        let Some(id) = awake else {
            return;
        };
        if let Ok(instance) = self.core.runtime.inspect(&id).await {
            let rule = self.core.idle_rule(&instance);
            drop(self.order(Event::IdleRule { id, rule }));
        }
    }

    /// The container as it is after its start.
    async fn inspect_started(&self, id: &InstanceId) -> Result<Instance, Failure> {
        let until = tokio::time::Instant::now() + ADDRESS_TIME;
        loop {
            let instance = self.core.runtime.inspect(id).await.map_err(Failure::from)?;
            let runs = matches!(instance.state, InstanceState::Running { .. });
            if !runs || instance.address.is_some() || tokio::time::Instant::now() >= until {
                return Ok(instance);
            }
            tokio::time::sleep(ADDRESS_PAUSE).await;
        }
    }

    /// What was started, and what the scripts say of it.
    async fn examine(&self, id: &InstanceId) -> Result<Launch, Failure> {
        let instance = self.inspect_started(id).await?;
        self.inner.lock().learn(&instance);
        let started_at = match instance.state {
            InstanceState::Running { started_at } => started_at,
            InstanceState::Paused { .. } => {
                return Err(Failure::new(FailureKind::IsPaused, "it is paused"));
            }
            InstanceState::Stopped {
                exit_code: Some(code),
            } => {
                let message = format!("it exited with code {code} as soon as it was started");
                return Err(Failure::new(
                    FailureKind::NotRunning { clean: code == 0 },
                    message,
                ));
            }
            state => {
                let message = format!("it does not run after its start: {state:?}");
                return Err(Failure::new(
                    FailureKind::NotRunning { clean: false },
                    message,
                ));
            }
        };
        let Some(address) = instance.address else {
            let message = "it has no address that the gateway could reach: is it on a network?";
            return Err(Failure::new(FailureKind::Other, message));
        };
        let ready = self
            .core
            .ready_rule(&instance)
            .map_err(|message| Failure::new(FailureKind::Other, message))?;
        Ok(Launch {
            run: Run {
                started_at,
                address,
            },
            port: port_of(&instance),
            ready,
            idle: self.core.idle_rule(&instance),
            health: instance.health,
            routed_past: self.core.routes.lead_to(&instance.name, &instance.labels),
        })
    }

    async fn prove(
        self: Arc<Self>,
        generation: Generation,
        id: InstanceId,
        launch: Launch,
        deadline: Moment,
    ) {
        let Some(mut probe) = Probe::new(&launch) else {
            return;
        };
        let deadline = self.core.clock.instant(deadline);
        loop {
            let attempt = self.core.prober.attempt(&mut probe, &id, &launch);
            match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(())) => return drop(self.order(Event::Proved(generation))),
                Ok(Err(why)) => drop(self.order(Event::Missed(generation, why))),
                Err(_) => return,
            }
            tokio::time::sleep(probe.next_pause()).await;
            if !self.still_proving(generation) {
                return;
            }
        }
    }

    fn still_proving(&self, generation: Generation) -> bool {
        let inner = self.inner.lock();
        let proving = matches!(
            inner.machine.phase(),
            Phase::Starting {
                step: Step::Proving { .. },
                ..
            }
        );
        proving && !inner.retired && inner.machine.generation() == generation
    }
}
