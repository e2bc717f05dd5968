//! Following the engine: listing what it has, then every event, and again when it was away.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use super::Shared;
use crate::lifecycle::core::EngineState;
use crate::lifecycle::machine::Event;
use crate::runtime::{EngineEvent, EngineEventKind, InstanceId, InstanceState, RuntimeError};

/// The first pause before an engine that went away is tried again; doubles each time.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Short, since until then nobody knows which container has which address.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How often everything is listed although events flow: what an event that was never sent would
/// have told is known after this time at the latest.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// Runs for as long as the fleet lives.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut pause = RETRY_MIN;
    loop {
        let error = match follow_once(&shared, &mut pause).await {
            Ok(()) => RuntimeError::Unreachable("its event stream ended".to_owned()),
            Err(error) => error,
        };
        let reason: Arc<str> = error.to_string().into();
        let before = shared.core.engine.send_replace(EngineState::Down(reason));
        shared.core.metrics.engine_up.set(0);
        // Told once, until it answers again.
        if matches!(before, EngineState::Down(_)) {
            tracing::debug!(%error, "the engine is still away");
        } else {
            tracing::warn!(%error, "the engine is away; what runs is still served, nothing can be woken");
        }
        let jitter = 0.8 + 0.4 * fastrand::f64();
        tokio::time::sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Returns when the stream of events ends.
async fn follow_once(shared: &Arc<Shared>, pause: &mut Duration) -> Result<(), RuntimeError> {
    // Events first: what happens while the list is made is then not missed.
    let mut events = shared.core.runtime.events().await?;
    list(shared).await?;
    *pause = RETRY_MIN;
    let mut again = tokio::time::interval(LIST_EVERY);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    again.tick().await;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => take(shared, &event),
                None => return Ok(()),
            },
            _ = again.tick() => list(shared).await?,
        }
    }
}

/// Holds all that is known against all that the engine has.
async fn list(shared: &Arc<Shared>) -> Result<(), RuntimeError> {
    let asked = shared.core.clock.now();
    let instances = shared.core.runtime.list().await?;
    let listed: HashSet<&InstanceId> = instances.iter().map(|instance| &instance.id).collect();
    for workload in shared.workloads.load().values() {
        if let Some(id) = workload.id().filter(|id| !listed.contains(id)) {
            drop(workload.order(Event::Missing { asked, id }));
        }
    }
    for instance in &instances {
        // A second try is for the case that the first one's workload was just forgotten.
        for _ in 0..2 {
            if shared
                .entry(&instance.name)
                .observe(asked, instance, false)
                .is_ok()
            {
                break;
            }
        }
    }
    shared.prune();
    let before = shared.core.engine.send_replace(EngineState::Up);
    shared.core.metrics.engine_up.set(1);
    if before != EngineState::Up {
        tracing::info!(
            containers = instances.len(),
            engine = shared.core.runtime.kind(),
            "the engine answers"
        );
    }
    Ok(())
}

fn take(shared: &Arc<Shared>, event: &EngineEvent) {
    tracing::debug!(workload = %event.name, id = %event.id, kind = ?event.kind, "engine event");
    let named = shared.get(&event.name);
    let known = named
        .as_ref()
        .is_some_and(|workload| workload.id().as_ref() == Some(&event.id));
    match (named, event.kind) {
        (_, EngineEventKind::Changed) => look(shared, event),
        (Some(workload), kind) if known || kind == EngineEventKind::Destroyed => {
            let told = Event::Engine {
                id: event.id.clone(),
                at: event.at,
                kind,
            };
            drop(workload.order(told));
            if kind == EngineEventKind::Destroyed {
                shared.prune();
            }
        }
        (
            _,
            EngineEventKind::Destroyed | EngineEventKind::Died { .. } | EngineEventKind::Ending,
        ) => {}
        _ => look(shared, event),
    }
}

/// Reads a container anew, whatever its name is by now.
fn look(shared: &Arc<Shared>, event: &EngineEvent) {
    let (shared, id) = (shared.clone(), event.id.clone());
    let is_change = event.kind == EngineEventKind::Changed;
    let handle = shared.core.handle.clone();
    handle.spawn(async move {
        let asked = shared.core.clock.now();
        let Ok(instance) = shared.core.runtime.inspect(&id).await else {
            // It is gone again, which another event tells, or the engine is, after which all is listed.
            return;
        };
        for workload in shared.workloads.load().values() {
            if *workload.name() != instance.name && workload.id().as_ref() == Some(&id) {
                // Its old name is free now.
                drop(workload.order(Event::Missing {
                    asked,
                    id: id.clone(),
                }));
            }
        }
        // Only the event of the moment tells: one that was listed may have been there for days.
        let made_now =
            is_change && matches!(instance.state, InstanceState::Stopped { exit_code: None });
        let workload = shared.entry(&instance.name);
        drop(workload.observe(asked, &instance, made_now));
        shared.prune();
    });
}
