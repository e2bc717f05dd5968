//! The fake engine's side of the trait: delays, turns, and the order of events.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::time::{sleep, timeout};

use super::state::State;
use super::{Call, Fake, KILLED};
use crate::runtime::credentials::RegistryCredentials;
use crate::runtime::tail::{Source, Tail};
use crate::runtime::{
    EngineEvent, EngineEventKind, ImageFacts, Instance, InstanceId, InstanceState, PullProgress,
    RegistryHealth, Runtime, RuntimeError, literal_address,
};
use crate::spec::WorkloadSpec;

impl Fake {
    /// Changes the state and tells those who wait for changes.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changes.send_modify(|number| *number += 1);
        result
    }

    /// Logs a call; an error when the engine is away.
    fn called(&self, call: impl FnOnce(&State) -> Call) -> Result<(), RuntimeError> {
        self.change(|state| {
            let call = call(state);
            state.calls.push(call);
        });
        self.reachable()
    }

    pub(super) fn reachable(&self) -> Result<(), RuntimeError> {
        if self.state.lock().reachable {
            Ok(())
        } else {
            let reason = "the fake engine is away".to_owned();
            Err(RuntimeError::Unreachable(reason))
        }
    }

    pub(super) fn runs(&self, id: &InstanceId) -> bool {
        let state = self.state.lock();
        let container = state.containers.get(id);
        container.is_some_and(|one| !matches!(one.instance.state, InstanceState::Stopped { .. }))
    }

    /// It runs from now on, if it does not yet: state, hook, event.
    pub(super) fn begin(&self, id: &InstanceId) {
        let Some(instance) = self.change(|state| state.begin(id)) else {
            return;
        };
        let hook = self.state.lock().on_start.clone();
        // Outside the lock: the hook may ask the fake.
        if let Some(hook) = hook {
            hook(&instance);
        }
        self.change(|state| state.tell(id, EngineEventKind::Started));
        let like = self.state.lock().behaviour(instance.name.as_str());
        if let Some((after, code)) = like.exits_after {
            let (fake, id, run) = (self.clone(), id.clone(), instance.state);
            tokio::spawn(async move {
                sleep(after).await;
                // The state holds the time of the start, so an equal one is the same run.
                let now = fake.get(instance.name.as_str());
                if now.is_some_and(|now| now.id == id && now.state == run) {
                    fake.end(&id, code);
                }
            });
        }
    }

    /// It has ended, if it ran: state, hook, event.
    pub(super) fn end(&self, id: &InstanceId, code: i64) {
        let Some(instance) = self.change(|state| state.end(id, code)) else {
            return;
        };
        let hook = self.state.lock().on_end.clone();
        if let Some(hook) = hook {
            hook(&instance);
        }
        let exit_code = Some(code);
        self.change(|state| state.tell(id, EngineEventKind::Died { exit_code }));
    }

    async fn carry_out_start(self, id: InstanceId) -> Result<(), RuntimeError> {
        let (turn, name) = {
            let mut state = self.state.lock();
            let container = state.find(&id)?;
            (container.turn.clone(), container.instance.name.to_string())
        };
        let _turn = turn.lock().await;
        match self.state.lock().find(&id)?.instance.state {
            InstanceState::Running { .. } => return Ok(()),
            InstanceState::Stopped { .. } => {}
            InstanceState::Paused { .. } | InstanceState::Removing => {
                let reason = format!("{name} is paused: unpause it instead");
                return Err(RuntimeError::Refused(reason));
            }
        }
        let delay = self.state.lock().behaviour(&name).start_delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        self.wait_until(|fake| !fake.state.lock().behaviour(&name).start_held)
            .await;
        self.reachable()?;
        self.state.lock().find(&id)?;
        if let Some(error) = self.state.lock().behaviour(&name).start_error {
            return Err(error);
        }
        self.begin(&id);
        Ok(())
    }

    async fn carry_out_stop(self, id: InstanceId, grace: Duration) -> Result<(), RuntimeError> {
        let (turn, name) = {
            let mut state = self.state.lock();
            let container = state.find(&id)?;
            (container.turn.clone(), container.instance.name.to_string())
        };
        let _turn = turn.lock().await;
        let like = self.state.lock().behaviour(&name);
        if let Some(error) = like.stop_error {
            return Err(error);
        }
        if !self.runs(&id) {
            return Ok(());
        }
        self.change(|state| {
            state.tell(&id, EngineEventKind::Ending);
            // Fails when it ended this very moment, which the wait below notices.
            state.unpause(&id).ok();
        });
        // It may also exit by itself or be removed in the meantime.
        let ended = self.wait_until(|fake| !fake.runs(&id));
        if timeout(like.stop_delay.min(grace), ended).await.is_ok() {
            return self.reachable();
        }
        let held = |fake: &Fake| fake.state.lock().behaviour(&name).stop_held;
        self.wait_until(|fake| !held(fake) || !fake.runs(&id)).await;
        let in_time = like.stop_delay <= grace;
        self.end(&id, if in_time { like.stop_code } else { KILLED });
        self.reachable()
    }
}

/// Goes on when the caller gives up, as an engine does.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, RuntimeError>> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::spawn(work)
        .await
        .map_err(|error| RuntimeError::Failed(error.to_string()))?
}

#[async_trait]
impl Runtime for Fake {
    fn kind(&self) -> &'static str {
        "fake"
    }

    async fn ping(&self) -> Result<String, RuntimeError> {
        self.called(|_| Call::Ping)?;
        Ok("an engine in memory".to_owned())
    }

    async fn create(&self, spec: &WorkloadSpec) -> Result<InstanceId, RuntimeError> {
        self.called(|_| Call::Create(spec.name.to_string()))?;
        self.change(|state| state.create(spec))
    }

    async fn start(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.called(|state| Call::Start(state.name_of(id)))?;
        detached(self.clone().carry_out_start(id.clone())).await
    }

    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), RuntimeError> {
        self.called(|state| Call::Stop(state.name_of(id)))?;
        detached(self.clone().carry_out_stop(id.clone(), grace)).await
    }

    async fn pause(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.called(|state| Call::Pause(state.name_of(id)))?;
        self.change(|state| state.pause(id))
    }

    async fn unpause(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.called(|state| Call::Unpause(state.name_of(id)))?;
        self.change(|state| state.unpause(id))
    }

    async fn remove(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        self.called(|state| Call::Remove(state.name_of(id)))?;
        if self.runs(id) {
            self.change(|state| state.tell(id, EngineEventKind::Ending));
            self.end(id, KILLED);
        }
        self.change(|state| {
            if state.containers.contains_key(id) {
                state.destroy(id);
            }
        });
        Ok(())
    }

    async fn inspect(&self, id: &InstanceId) -> Result<Instance, RuntimeError> {
        self.called(|state| Call::Inspect(state.name_of(id)))?;
        let mut state = self.state.lock();
        let instance = state.find(id)?.instance.clone();
        Ok(state.shown(&instance))
    }

    async fn sent_bytes(&self, id: &InstanceId) -> Result<u64, RuntimeError> {
        self.called(|state| Call::SentBytes(state.name_of(id)))?;
        let mut state = self.state.lock();
        let container = state.find(id)?;
        match container.instance.state {
            InstanceState::Running { .. } | InstanceState::Paused { .. } => {
                Ok(container.sent_bytes)
            }
            _ => Err(RuntimeError::Refused(format!("{id} does not run"))),
        }
    }

    /// As Docker's list: without envs and addresses.
    async fn list(&self) -> Result<Vec<Instance>, RuntimeError> {
        self.called(|_| Call::List)?;
        let delay = self.state.lock().listing_delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let state = self.state.lock();
        let all = state.containers.values();
        Ok(all
            .map(|container| Instance {
                envs: Default::default(),
                address: None,
                ..state.shown(&container.instance)
            })
            .collect())
    }

    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>, RuntimeError> {
        self.called(|_| Call::Events)?;
        Ok(self.state.lock().feed.subscribe())
    }

    /// Containers find each other when they are on the same network.
    async fn resolve(&self, host: &str, seen_from: &InstanceId) -> Result<IpAddr, RuntimeError> {
        self.called(|state| Call::Resolve {
            host: host.to_owned(),
            seen_from: state.name_of(seen_from),
        })?;
        let mut state = self.state.lock();
        let seer = state.find(seen_from)?;
        let (own_name, network) = (seer.instance.name.to_string(), seer.network.clone());
        let own = state.behaviour(&own_name).address;
        if host == own_name {
            return Ok(own);
        }
        if let Some(address) = literal_address(host, own) {
            return Ok(address);
        }
        let mut others = state.containers.values();
        let found = others.any(|one| one.instance.name.as_str() == host && one.network == network);
        match found {
            true => Ok(state.behaviour(host).address),
            false => Err(RuntimeError::NotFound(host.to_owned())),
        }
    }

    async fn logs(&self, id: &InstanceId, lines: usize) -> Result<Vec<String>, RuntimeError> {
        self.called(|state| Call::Logs(state.name_of(id)))?;
        let mut tail = Tail::new(lines);
        for line in &self.state.lock().find(id)?.printed {
            tail.push(Source::Stdout, format!("{line}\n").as_bytes());
        }
        Ok(tail.into_lines())
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, RuntimeError> {
        self.called(|_| Call::Image(reference.to_owned()))?;
        Ok(self.facts_of(reference))
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: Option<&RegistryCredentials>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        self.called(|_| Call::Pull {
            image: reference.to_owned(),
            credentials: credentials.cloned(),
        })?;
        self.carry_out_pull(reference, progress).await
    }

    async fn load(
        &self,
        archive: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Vec<String>, RuntimeError> {
        self.called(|_| Call::Load)?;
        self.carry_out_load(archive).await
    }

    async fn image_of(&self, id: &InstanceId) -> Result<Option<String>, RuntimeError> {
        let instance = self.inspect(id).await?;
        Ok(self.facts_of(&instance.image).map(|facts| facts.id))
    }

    /// A name has always the same image here.
    async fn name_image(&self, _id: &str, _reference: &str) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn remove_image(&self, reference: &str) -> Result<bool, RuntimeError> {
        self.called(|_| Call::RemoveImage(reference.to_owned()))?;
        Ok(self.take_image_away(reference))
    }

    async fn registry(&self, registry: &str) -> Result<RegistryHealth, RuntimeError> {
        self.called(|_| Call::Registry(registry.to_owned()))?;
        let known = self.state.lock().registries.get(registry).cloned();
        Ok(known.unwrap_or(RegistryHealth::Up))
    }
}
