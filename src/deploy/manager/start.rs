//! The gateway's start: the release that was current becomes it again.

use std::sync::Arc;
use std::time::Duration;

use super::state::{CarriedOver, State};
use super::switch::STORE_WAIT;
use super::{DeployError, Managed, is_awake, release_of};
use crate::clock::unix_millis;
use crate::deploy::journal::Noted;
use crate::deploy::records::{ChangeKind, CurrentDocument, HistoryEntry};
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

/// Between two attempts to bring back a current release whose image is gone; doubles when one fails.
const RESTORE_MIN: Duration = Duration::from_secs(5);
const RESTORE_MAX: Duration = Duration::from_secs(300);

/// Between two looks whether the engine has told its containers.
const ENGINE_PAUSE: Duration = Duration::from_millis(20);

/// What is known of an application's history at the start.
enum History {
    Whole(Vec<HistoryEntry>),
    /// There is none, although a release is current.
    Lost,
    /// It is there and cannot be read.
    Unread(StoreError),
}

impl History {
    fn last(&self) -> Option<&HistoryEntry> {
        match self {
            History::Whole(entries) => entries.last(),
            History::Lost | History::Unread(_) => None,
        }
    }

    fn into_entries(self) -> Vec<HistoryEntry> {
        match self {
            History::Whole(entries) => entries,
            History::Lost | History::Unread(_) => Vec::new(),
        }
    }
}

impl Managed {
    /// Finds out which release is current, and tries until that is known or somebody else has said
    /// so by a switch. Requests are held meanwhile, as long as the store may only be away. Then goes on
    /// to look for what nobody wants: a start that a killed gateway had ordered may be carried out after
    /// this one has begun.
    pub(super) async fn begin(self: Arc<Self>, noted: Noted) {
        let mut pause = RETRY_MIN;
        loop {
            while self.fleet.engine().is_err() {
                tokio::time::sleep(ENGINE_PAUSE).await;
            }
            let error = match self.take_up(&noted).await {
                Ok(()) => break,
                Err(error) => error,
            };
            tracing::warn!(app = %self.name, %error, "the current release cannot be taken up; it is tried again");
            self.cannot_yet(&error);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        self.tell();
        let mut restore_pause = RESTORE_MIN;
        let mut restore_at = self.clock.now();
        loop {
            self.tidy().await;
            if restore_at <= self.clock.now() {
                restore_pause = match self.restore().await {
                    Ok(()) => RESTORE_MIN,
                    Err(_) => (restore_pause * 2).min(RESTORE_MAX),
                };
                restore_at = self.clock.now() + restore_pause;
            }
            tokio::time::sleep(TIDY_EVERY).await;
        }
    }

    /// Launches the current release anew if somebody has removed its container and its image too:
    /// without the container alone the next request makes it, but it brings no image.
    async fn restore(self: &Arc<Self>) -> Result<(), DeployError> {
        let Some(current) = self.state.lock().current_release().cloned() else {
            return Ok(());
        };
        if self.container(&current.hash).is_some() {
            return Ok(());
        }
        if self.image(&current.spec.image).await?.is_some() {
            return Ok(());
        }
        tracing::warn!(
            app = %self.name, release = current.hash.short(), image = current.spec.image,
            "the container of the current release was removed, and its image; it is launched anew"
        );
        let launched = self.bring_back(&current.hash).await;
        // Where another one is current by now, nobody has asked for a launch of this one.
        self.state.lock().settle_candidate(&current.hash);
        launched.map(drop)
    }

    /// Tells why no release is current. While that can only be because the store is away, nobody is
    /// sent off: the requests wait for it, as long as they may.
    fn cannot_yet(&self, error: &DeployError) {
        let mut state = self.state.lock();
        if state.current_release().is_none() {
            let is_away = matches!(
                error,
                DeployError::Store(error) if matches!(**error, StoreError::Unreachable { .. })
            );
            state.loading = is_away.then(|| error.to_string());
            state.current = if is_away {
                Current::Loading
            } else {
                Current::Nothing(error.to_string().into())
            };
            self.publish(&state);
        }
        drop(state);
        self.tell();
    }

    async fn take_up(self: &Arc<Self>, noted: &Noted) -> Result<(), DeployError> {
        let reading = self.store.current();
        tokio::pin!(reading);
        let stored = match tokio::time::timeout(STORE_WAIT, &mut reading).await {
            Ok(read) => read,
            // Requests need not wait for what may be known here.
            Err(_) => {
                self.adopt(noted).await;
                reading.await
            }
        };
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => {
                self.adopt(noted).await;
                return Err(error.into());
            }
        };
        let history = self.store.history().await;
        let has_nothing = stored.is_none() && history.as_ref().is_ok_and(Vec::is_empty);
        let has_lost = has_nothing && !noted.stored().is_empty();
        if has_lost || (has_nothing && self.knows_less_than_the_engine().await?) {
            self.state.lock().is_store_lost = true;
            self.adopt(noted).await;
            return Err(self.store_is_empty());
        }
        self.state.lock().is_store_lost = false;
        let history = match history {
            Ok(history) if !history.is_empty() || stored.is_none() => History::Whole(history),
            // It was lost, or cannot be read, and is known here all the same.
            _ if noted.tells_of(stored.as_ref()) => History::Whole(noted.stored()),
            Ok(_) => History::Lost,
            Err(error) => History::Unread(error),
        };
        let (document, is_unsettled) = self.settle(stored, noted, &history);
        if is_unsettled {
            self.keep_writing(Duration::ZERO);
        }
        if let History::Unread(error) = history {
            // Requests do not wait for a history, and nothing is removed without it.
            if let Some(document) = &document {
                self.take_up_release(document, noted).await?;
            }
            return Err(error.into());
        }
        let is_whole = !matches!(history, History::Lost);
        let mut history = history.into_entries();
        let unwritten = self.state.lock().unwritten.clone();
        for (_, entry) in unwritten {
            if !history.contains(&entry) {
                history.push(entry);
            }
        }
        if let Some(document) = document
            .as_ref()
            .filter(|current| current.is_missing_in(&history))
        {
            // One that is lost is written with the next switch: until then it shows that it is lost.
            if is_whole {
                self.complete(&document.change()).await;
            }
            history.push(document.change());
        }
        {
            let mut state = self.state.lock();
            // Without it, the previous releases are not known and not removed until the next switch.
            state.is_history_known |= is_whole;
            if state.last_switch.is_some() {
                // Somebody has switched meanwhile.
                state.take_history(history);
                return Ok(());
            }
            state.history = history;
        }
        let Some(document) = document else {
            let mut state = self.state.lock();
            if state.current_release().is_none() {
                let reason = format!("no release of {} has been switched to yet", self.name);
                state.current = Current::Nothing(reason.into());
                state.none_yet = true;
                self.publish(&state);
            }
            return Ok(());
        };
        self.take_up_release(&document, noted).await
    }

    /// Which change made the current release so, now that the store is there; and whether switches wait
    /// to be written to it.
    fn settle(
        &self,
        stored: Option<CurrentDocument>,
        noted: &Noted,
        history: &History,
    ) -> (Option<CurrentDocument>, bool) {
        let mut state = self.state.lock();
        state.is_in_store |= stored.is_some();
        let was_unsettled = state.carried_over > 0;
        let document = match state.settle_carried_over(stored.as_ref()) {
            CarriedOver::Counts(last) => {
                tracing::warn!(
                    app = %self.name, release = last.hash.short(), at = last.at, by = last.by,
                    "the gateway had ended before the store knew of its last switch, which counts"
                );
                Some(last)
            }
            CarriedOver::Overtaken => {
                tracing::warn!(
                    app = %self.name,
                    "a switch that the store had not taken is dropped: somebody else has switched since"
                );
                stored
            }
            CarriedOver::Nothing => {
                // Another attempt: what was decided to count may be not written yet.
                let unwritten = state.unwritten.back().map(|(last, _)| last.clone());
                let told = unwritten.or(stored);
                told.or_else(|| history.last().map(CurrentDocument::from))
            }
        };
        if let Some(document) = document.as_ref().filter(|_| state.last_switch.is_none()) {
            // Also what it is watched for: from now on old releases may be removed.
            self.know_change(&mut state, document, noted);
        }
        (document, was_unsettled && !state.unwritten.is_empty())
    }

    /// Adds the change that `current.json` tells of and the history does not: without it nothing could
    /// go back to the release before.
    async fn complete(&self, change: &HistoryEntry) {
        tracing::warn!(
            app = %self.name, release = change.hash.short(), at = change.at, by = change.by,
            "the history does not tell how the current release became it; that is added"
        );
        if let Err(error) = self.store.append(change.clone()).await {
            // The next switch or start does it; what is known here is right all the same.
            tracing::warn!(app = %self.name, %error, "the history could not be written");
        }
    }

    async fn take_up_release(
        self: &Arc<Self>,
        document: &CurrentDocument,
        noted: &Noted,
    ) -> Result<(), DeployError> {
        let hash = &document.hash;
        if self.container(hash).is_none() {
            // It is launched as any other; requests are held meanwhile.
            self.bring_back(hash).await?;
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
        if !self.serve_first(&release) {
            // Somebody has switched to another one meanwhile.
            self.state.lock().settle_candidate(hash);
            return Ok(());
        }
        self.go_on_from(document, noted, &release).await;
        if was_current {
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

    /// Takes up the thread of the last switch: it is noted, and if it was made a short time ago, the new
    /// release is still looked at.
    async fn go_on_from(
        self: &Arc<Self>,
        document: &CurrentDocument,
        noted: &Noted,
        release: &Arc<Release>,
    ) {
        let left = {
            let mut state = self.state.lock();
            let is_taken_up = state.taken_up.as_ref() == Some(document);
            if is_taken_up || state.last_switch.is_some() {
                return;
            }
            state.taken_up = Some(document.clone());
            self.know_change(&mut state, document, noted)
        };
        self.note().await;
        if let Some(left) = left {
            let watching = self.clone();
            self.spawn(watching.watch_over(release.clone(), document.clone(), left));
        }
    }

    /// Takes what made the release current that is so since before this start. Gives for how long it is
    /// still to be looked at how that does.
    fn know_change(
        &self,
        state: &mut State,
        document: &CurrentDocument,
        noted: &Noted,
    ) -> Option<Duration> {
        state.know(document, noted);
        let left = self.watch_left(document);
        state.watched = left.map(|_| document.clone());
        left
    }

    fn watch_left(&self, document: &CurrentDocument) -> Option<Duration> {
        let since = document
            .since()
            .filter(|_| document.kind == ChangeKind::Switch)?;
        let ago = u64::try_from(unix_millis() - since.as_millisecond()).ok()?;
        let ago = Duration::from_millis(ago);
        self.config.rollback_watch.checked_sub(ago)
    }

    /// Without the store: the release that was switched to last from here is the current one, or else
    /// the only one that runs.
    async fn adopt(self: &Arc<Self>, noted: &Noted) {
        if self.state.lock().current_release().is_some() {
            return;
        }
        if let Some(document) = &noted.current
            && let Some(view) = self.container(&document.hash)
            && let Some(release) = self.as_the_engine_has_it(&document.hash, &view).await
            && self.serve_first(&release)
        {
            self.go_on_from(document, noted, &release).await;
            tracing::warn!(
                app = %self.name, release = release.hash.short(), revision = release.revision,
                "the store is away; the release that was switched to last from here is current"
            );
            return self.tell();
        }
        let awake = self.containers().into_iter().filter(is_awake);
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
    pub(super) async fn as_the_engine_has_it(
        &self,
        hash: &ReleaseHash,
        view: &View,
    ) -> Option<Arc<Release>> {
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

    pub(super) fn store_is_empty(&self) -> DeployError {
        DeployError::StoreIsEmpty {
            place: self.store.describe(),
            journal: self.journal.path().display().to_string(),
        }
    }

    /// Makes it current unless another one is by a switch.
    fn serve_first(&self, release: &Arc<Release>) -> bool {
        let mut state = self.state.lock();
        if state.last_switch.is_some() {
            return false;
        }
        state.settle_candidate(&release.hash);
        state.current = Current::Release(release.clone());
        self.publish(&state);
        true
    }
}
