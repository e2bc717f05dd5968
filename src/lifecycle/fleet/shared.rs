//! The fleet's workloads: found, made known, forgotten, and given orders.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{OrderError, Refusal, Shared, View};
use crate::clock::Moment;
use crate::lifecycle::core::EngineState;
use crate::lifecycle::fleet::Creation;
use crate::lifecycle::machine::{Event, Failure, FailureKind, Machine, Phase, Step, Then};
use crate::lifecycle::workload::{Retired, Workload};
use crate::names::WorkloadName;
use crate::spec::WorkloadSpec;

/// Beyond drain and stop, for the engine to remove what it was told to remove.
pub(super) const REMOVE_TIME: Duration = Duration::from_secs(60);

/// How far a deployment had come when it failed. What others have made under its name is not its own.
enum Undone {
    Unmade(Option<Failure>),
    Made(Option<Failure>),
}

impl Shared {
    pub(super) fn get(&self, name: &WorkloadName) -> Option<Arc<Workload>> {
        self.workloads.load().get(name).cloned()
    }

    pub(super) fn find(&self, name_or_id: &str) -> Option<Arc<Workload>> {
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
    pub(super) fn entry(&self, name: &WorkloadName) -> Arc<Workload> {
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
    pub(super) fn prune(&self) {
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

    /// Waits for the first listing. While the engine is away it tells why.
    pub(super) async fn engine_answers(&self, deadline: Moment) -> Result<(), Arc<str>> {
        let mut engine = self.core.engine.subscribe();
        let left = deadline.since(self.core.clock.now());
        let known = engine.wait_for(|state| *state != EngineState::Unknown);
        match tokio::time::timeout(left, known).await {
            Ok(Ok(state)) => match &*state {
                EngineState::Down(reason) => Err(reason.clone()),
                _ => Ok(()),
            },
            Ok(Err(_)) | Err(_) => Err("its containers are not listed yet".into()),
        }
    }

    /// The same for an order, which waits as long as for a start.
    pub(super) async fn listed(&self) -> Result<(), OrderError> {
        let deadline = self.core.clock.now() + self.core.lifecycle.start_timeout;
        let answers = self.engine_answers(deadline).await;
        answers.map_err(|reason| OrderError::EngineUnreachable(reason.to_string()))
    }

    /// The order to make the workload.
    pub(super) fn creation(
        &self,
        name: &WorkloadName,
        create: Creation<'_>,
    ) -> Result<Event, Refusal> {
        let fail = |reason: String| match create {
            Creation::Template { .. } => Refusal::Template {
                workload: name.clone(),
                reason: reason.into(),
            },
            // Nothing but another gateway.toml makes it allowed.
            Creation::Spec(_) => Refusal::Failed {
                workload: name.clone(),
                reason: format!("its specification cannot be used: {reason}").into(),
                retry_after: self.core.lifecycle.backoff_max,
            },
        };
        let spec = match create {
            Creation::Spec(spec) => spec.clone(),
            Creation::Template { from, by } => {
                let rules = by.unwrap_or(&*self.core.rules);
                match rules.template(&from.template, &from.vars) {
                    Ok(Some(spec)) => spec,
                    Ok(None) => {
                        return Err(fail(format!("there is no template {:?}", from.template)));
                    }
                    Err(failure) => return Err(fail(failure.to_string())),
                }
            }
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

    pub(super) async fn deploy(&self, spec: WorkloadSpec, start: bool) -> Result<View, OrderError> {
        let name = spec.name.clone();
        // Until then it is not known which names are taken.
        self.listed().await?;
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
            Phase::Absent => Some(Err(Undone::Unmade(machine.last_failure().cloned()))),
            _ if start => Some(start_outcome(machine, false)?.map_err(Undone::Made)),
            _ => Some(Ok(())),
        });
        match made.await {
            Ok(()) => Ok(workload.view()),
            // It was started and has ended again: that is the application's affair, and it can be
            // looked at.
            Err(Undone::Made(Some(failure)))
                if matches!(
                    failure.kind,
                    FailureKind::NotRunning { .. } | FailureKind::NotReady
                ) =>
            {
                Ok(workload.view())
            }
            Err(Undone::Unmade(failure)) => {
                self.prune();
                Err(failure.map_or_else(|| OrderError::Unknown(name.to_string()), OrderError::from))
            }
            Err(Undone::Made(failure)) => {
                if let Err(Some(left_behind)) = self.remove(&workload).await {
                    tracing::warn!(workload = %name, error = %left_behind, "what was made for a refused deployment could not be removed");
                }
                self.prune();
                Err(failure.map_or_else(|| OrderError::Unknown(name.to_string()), OrderError::from))
            }
        }
    }

    /// `Err(None)`: there is nothing to remove.
    pub(super) async fn remove(&self, workload: &Arc<Workload>) -> Result<(), Option<OrderError>> {
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
pub(super) fn start_outcome(
    machine: &Machine,
    until_ready: bool,
) -> Option<Result<(), Option<Failure>>> {
    match machine.phase() {
        Phase::Ready { .. } => Some(Ok(())),
        Phase::Starting {
            step: Step::Proving { .. },
            ..
        } if !until_ready => Some(Ok(())),
        Phase::Absent
        | Phase::Draining {
            then: Then::Remove, ..
        }
        | Phase::Removing => Some(Err(None)),
        // Somebody told it to sleep meanwhile, or it ended by itself.
        Phase::Stopped | Phase::Paused => {
            let kind = FailureKind::NotRunning { clean: true };
            let failure = Failure::new(kind, "it came to rest before it was ready");
            Some(Err(Some(failure)))
        }
        Phase::Failed { failure, .. }
        | Phase::Stopping {
            then: Then::Fail { failure, .. },
            ..
        } => Some(Err(Some(failure.clone()))),
        _ => None,
    }
}

pub(super) fn engine_unreachable(workload: &WorkloadName, reason: &Arc<str>) -> Refusal {
    Refusal::EngineUnreachable {
        workload: workload.clone(),
        reason: reason.clone(),
        retry_after: Duration::from_secs(2),
    }
}
