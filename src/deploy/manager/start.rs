//! The gateway's start: the release that was current becomes it again.

use std::sync::Arc;
use std::time::Duration;

use super::{DeployError, Managed, release_of};
use crate::deploy::records::{CurrentDocument, HistoryEntry};
use crate::deploy::route::{Current, Release};
use crate::lifecycle::fleet::View;
use crate::names::ReleaseHash;
use crate::spec::{REVISION_LABEL, WorkloadSpec};
use crate::store::StoreError;

/// The first pause before what did not work is tried again; it doubles.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Between two looks for what nobody wants.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// Between two looks whether the engine has told its containers.
const ENGINE_PAUSE: Duration = Duration::from_millis(20);

impl Managed {
    /// Finds out which release is current, and tries until that is known or somebody else has said
    /// so by a switch. Requests are held until the first attempt is over. Then goes on to look for
    /// what nobody wants: a start that a killed gateway had ordered may be carried out after this
    /// one has begun.
    pub(super) async fn begin(self: Arc<Self>) {
        let mut pause = RETRY_MIN;
        loop {
            while self.fleet.engine().is_err() {
                tokio::time::sleep(ENGINE_PAUSE).await;
            }
            let taken_up = self.take_up().await;
            let error = match taken_up {
                Ok(()) => break,
                Err(error) => error,
            };
            tracing::warn!(app = %self.name, %error, "the current release cannot be taken up; it is tried again");
            {
                let mut state = self.state.lock();
                if state.current_release().is_none() {
                    state.current = Current::Nothing(error.to_string().into());
                    self.publish(&state);
                }
            }
            self.tell();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        self.tell();
        loop {
            self.tidy().await;
            tokio::time::sleep(TIDY_EVERY).await;
        }
    }

    async fn take_up(self: &Arc<Self>) -> Result<(), DeployError> {
        let document = match self.store.current().await {
            Ok(document) => document,
            Err(error) => {
                self.adopt_what_runs().await;
                return Err(error.into());
            }
        };
        let mut history = match self.store.history().await {
            Ok(history) => history,
            Err(error) => {
                // Requests do not wait for a history, and nothing is removed without it.
                if let Some(document) = &document {
                    self.take_up_release(document).await?;
                }
                return Err(error.into());
            }
        };
        let document = document.or_else(|| history.last().map(CurrentDocument::from));
        if document.is_none() && self.knows_less_than_the_engine().await? {
            self.adopt_what_runs().await;
            return Err(DeployError::StoreIsEmpty(self.store.describe()));
        }
        if let Some(document) = document
            .as_ref()
            .filter(|current| current.is_missing_in(&history))
        {
            self.complete(&mut history, document).await;
        }
        {
            let mut state = self.state.lock();
            if state.last_switch.is_some() {
                // Somebody has switched meanwhile.
                return Ok(());
            }
            state.history = history;
            state.is_history_known = true;
        }
        let Some(document) = document else {
            let mut state = self.state.lock();
            if state.current_release().is_none() {
                let reason = format!("no release of {} has been switched to yet", self.name);
                state.current = Current::Nothing(reason.into());
                self.publish(&state);
            }
            return Ok(());
        };
        self.take_up_release(&document).await
    }

    /// Adds the change that `current.json` tells of and the history does not: without it nothing could
    /// go back to the release before.
    async fn complete(&self, history: &mut Vec<HistoryEntry>, document: &CurrentDocument) {
        let change = document.change();
        tracing::warn!(
            app = %self.name, release = change.hash.short(), at = change.at, by = change.by,
            "the history does not tell how the current release became it; that is added"
        );
        if let Err(error) = self.store.append(change.clone()).await {
            // The next switch or start does it; what is known here is right all the same.
            tracing::warn!(app = %self.name, %error, "the history could not be written");
        }
        history.push(change);
    }

    async fn take_up_release(
        self: &Arc<Self>,
        document: &CurrentDocument,
    ) -> Result<(), DeployError> {
        let hash = &document.hash;
        if self.container(hash).is_none() {
            // It is launched as any other; requests are held meanwhile.
            self.launch(hash).await?;
        }
        let was_current = self.state.lock().current_hash() == Some(hash);
        let release = match (self.read(hash).await, self.container(hash)) {
            (Ok((release, ..)), _) => release,
            (Err(error), Some(view)) => {
                // It serves as it is; how it would be made again is tried again.
                if let Some(release) = self.as_the_engine_has_it(hash, &view).await {
                    self.serve_first(&release);
                }
                return Err(error);
            }
            (Err(error), None) => return Err(error),
        };
        if !self.serve_first(&release) || was_current {
            return Ok(());
        }
        tracing::info!(
            app = %self.name, release = hash.short(), revision = release.revision,
            "the current release is the one that was current before"
        );
        if let Some(view) = self.container(hash)
            && let Err(error) = self.fleet.nudge(&view.name, None, None)
        {
            // The next request wakes it, or tells why that cannot be.
            tracing::warn!(app = %self.name, %error, "the current release cannot be woken");
        }
        Ok(())
    }

    /// Without the store: the one release that runs is the one that was current.
    async fn adopt_what_runs(&self) {
        if self.state.lock().current_release().is_some() {
            return;
        }
        let awake = self
            .containers()
            .into_iter()
            .filter(|view| matches!(view.phase, "ready" | "starting"));
        let mut running: Vec<(ReleaseHash, _)> = awake
            .filter_map(|view| Some((release_of(&view)?, view)))
            .collect();
        let Some((hash, view)) = running.pop().filter(|_| running.is_empty()) else {
            return;
        };
        let Some(release) = self.as_the_engine_has_it(&hash, &view).await else {
            return;
        };
        if self.serve_first(&release) {
            tracing::warn!(
                app = %self.name, release = hash.short(), revision = release.revision,
                "the store is away; the one release that runs is taken for the current one"
            );
            self.tell();
        }
    }

    /// A release as far as its container tells of it, for the time until the store does.
    async fn as_the_engine_has_it(&self, hash: &ReleaseHash, view: &View) -> Option<Arc<Release>> {
        let facts = self.fleet.container(view.name.as_str()).await?;
        let mut spec = WorkloadSpec::new(view.name.clone(), facts.image);
        spec.labels = facts.labels;
        spec.envs = facts.envs;
        spec.port = facts.ports.first().copied();
        let revision = view.labels.get(REVISION_LABEL);
        let revision = revision.cloned().unwrap_or_default();
        Some(self.know(hash, &revision, spec))
    }

    /// Whether the engine has a release whose launch configuration the store does not have: a folder
    /// that is not mounted looks like one in which nothing was ever stored.
    async fn knows_less_than_the_engine(&self) -> Result<bool, DeployError> {
        for hash in self.containers().iter().filter_map(release_of) {
            match self.store.configuration(&hash).await {
                Err(StoreError::UnknownHash { .. }) => return Ok(true),
                Err(error @ StoreError::Unreachable { .. }) => return Err(error.into()),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(false)
    }

    /// Makes it current unless another one is by a switch.
    fn serve_first(&self, release: &Arc<Release>) -> bool {
        let mut state = self.state.lock();
        if state.last_switch.is_some() {
            return false;
        }
        state.candidates.remove(&release.hash);
        state.current = Current::Release(release.clone());
        self.publish(&state);
        true
    }
}
