//! Reading and writing whole documents, and adding to one that others add to at the same time.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use tokio::sync::OnceCell;

use super::error::{StoreError, is_missing, is_not_implemented, is_overtaken, words};
use super::folder::{Folder, Turn};
use super::{CURRENT, DOCUMENT_BYTES_MAX, HISTORY, Shared, sha256};
use crate::deploy::records::{CurrentDocument, History, HistoryEntry};

/// How often a conditional write is tried before it is given up; time is limited besides.
const ATTEMPTS_MAX: u32 = 100;

/// The longest pause between two attempts. Each is a random part of its limit, so that gateways
/// that met once do not meet again.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// What keeps gateways that write at once from losing each other's entries.
pub(super) enum Writes {
    /// They take turns.
    InTurns(Folder),
    /// A write says what it read before, and is refused when that has changed.
    Conditional(Conditions),
}

/// Whether the server keeps conditions, as far as it was seen.
pub(super) struct Conditions {
    updates: OnceCell<()>,
    creations: OnceCell<()>,
}

impl Conditions {
    pub(super) fn to_be_tried() -> Self {
        Self {
            updates: OnceCell::new(),
            creations: OnceCell::new(),
        }
    }

    pub(super) fn known() -> Self {
        Self {
            updates: OnceCell::new_with(Some(())),
            creations: OnceCell::new_with(Some(())),
        }
    }
}

/// A document as it was read.
pub(super) struct Document {
    pub bytes: Bytes,
    version: UpdateVersion,
}

/// When a write is to be done.
pub(super) enum Mode {
    Replace,
    /// Only when there is nothing.
    Create,
    /// Only when there still is what was read.
    Update(UpdateVersion),
}

/// How a write ended that was not an error.
#[derive(PartialEq)]
enum Written {
    Done,
    /// Its condition does not hold (any more).
    Overtaken,
}

/// Where in the history an entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Newest,
    /// It tells of what was just made current, unless somebody else was faster.
    OfCurrent,
    /// It is late: before the one of the current release.
    BeforeLater,
}

impl Shared {
    /// Waits for the turn to write, where turns are taken. It lasts as long as the value lives.
    pub(super) async fn turn(&self) -> Result<Option<Turn>, StoreError> {
        match &self.writes {
            Writes::InTurns(folder) => folder.turn().await.map(Some),
            Writes::Conditional(_) => Ok(None),
        }
    }

    pub(super) fn path(&self, key: &str) -> Path {
        let key = Path::parse(key).expect("keys are from here, or were checked");
        self.prefix.parts().chain(key.parts()).collect()
    }

    /// A document, if it is there.
    pub(super) async fn read(&self, key: &str) -> Result<Option<Document>, StoreError> {
        let failed =
            |error: &object_store::Error| self.place.error(format!("reading {key}"), error);
        let too_large = |bytes: u64| StoreError::TooLarge {
            place: self.place.clone(),
            key: key.to_owned(),
            bytes,
            max: DOCUMENT_BYTES_MAX,
        };
        let object = match self.documents.get(&self.path(key)).await {
            Ok(object) => object,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        if object.meta.size > DOCUMENT_BYTES_MAX {
            return Err(too_large(object.meta.size));
        }
        let version = UpdateVersion {
            e_tag: object.meta.e_tag.clone(),
            version: object.meta.version.clone(),
        };
        let mut bytes = BytesMut::with_capacity(object.meta.size as usize);
        let mut parts = object.into_stream();
        while let Some(part) = parts.try_next().await.map_err(|error| failed(&error))? {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
                return Err(too_large(bytes.len() as u64));
            }
        }
        let bytes = bytes.freeze();
        Ok(Some(Document { bytes, version }))
    }

    /// Writes a document, whatever is there.
    pub(super) async fn write(
        &self,
        key: &str,
        bytes: Bytes,
        mode: Mode,
    ) -> Result<(), StoreError> {
        match self.try_write(key, bytes, mode).await? {
            Written::Done => Ok(()),
            Written::Overtaken => Err(self.conflict(key, 1)),
        }
    }

    async fn try_write(&self, key: &str, bytes: Bytes, mode: Mode) -> Result<Written, StoreError> {
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(StoreError::TooLarge {
                place: self.place.clone(),
                key: key.to_owned(),
                bytes: bytes.len() as u64,
                max: DOCUMENT_BYTES_MAX,
            });
        }
        let mode = match mode {
            Mode::Replace => PutMode::Overwrite,
            Mode::Create => PutMode::Create,
            Mode::Update(version) => PutMode::Update(version),
        };
        let options = PutOptions::from(mode);
        let payload = PutPayload::from_bytes(bytes);
        let path = self.path(key);
        match self.documents.put_opts(&path, payload, options).await {
            Ok(_) => Ok(Written::Done),
            Err(error) if is_overtaken(&error) => Ok(Written::Overtaken),
            Err(error) if is_not_implemented(&error) => Err(self.unconditional(words(&error))),
            Err(error) => Err(self.place.error(format!("writing {key}"), &error)),
        }
    }

    pub(super) async fn current(&self) -> Result<Option<CurrentDocument>, StoreError> {
        self.parse_current(self.read(CURRENT).await?)
    }

    pub(super) fn parse_current(
        &self,
        read: Option<Document>,
    ) -> Result<Option<CurrentDocument>, StoreError> {
        match read {
            Some(document) => CurrentDocument::parse(&document.bytes)
                .map(Some)
                .map_err(|reason| self.place.malformed(CURRENT, reason)),
            None => Ok(None),
        }
    }

    async fn current_if_readable(&self) -> Result<Option<CurrentDocument>, StoreError> {
        match self.current().await {
            Err(StoreError::Malformed { reason, .. }) => {
                tracing::warn!(store = %self.place, reason, "current.json cannot be read");
                Ok(None)
            }
            read => read,
        }
    }

    /// Writes `current.json`, unless it says so already.
    pub(super) async fn set_current(&self, current: &CurrentDocument) -> Result<(), StoreError> {
        if self.current_if_readable().await?.as_ref() == Some(current) {
            return Ok(());
        }
        self.write(CURRENT, current.to_bytes().into(), Mode::Replace)
            .await
    }

    /// Whether `current.json` tells of a later change than this one.
    pub(super) async fn has_later(&self, change: &CurrentDocument) -> Result<bool, StoreError> {
        let there = self.current_if_readable().await?;
        Ok(there.is_some_and(|there| there.since() > change.since()))
    }

    /// Adds an entry to the history. `known`: what one that is lost begins with.
    ///
    /// The history is read before `current.json`. So an entry of a later switch that is missed here
    /// was written after this reading, which makes this write fail and be done again.
    pub(super) async fn append(
        &self,
        entry: HistoryEntry,
        position: Position,
        known: &[HistoryEntry],
    ) -> Result<(), StoreError> {
        // The rest is for the last attempt to end, so that the caller hears why there is no other.
        let give_up = Instant::now() + self.limits.operation.mul_f64(0.75);
        let mut there_before = None;
        let mut failure = None;
        for attempt in 1..=ATTEMPTS_MAX {
            let document = self.read(HISTORY).await?;
            let (mut history, mode) = self.readable(document, known).await?;
            let there = history.count_of(&entry);
            let is_there_before_later = position == Position::BeforeLater && there > 0;
            // More than at first: a write whose answer was lost has been done.
            if is_there_before_later
                || history.ends_with(&entry)
                || there > *there_before.get_or_insert(there)
            {
                return Ok(());
            }
            let current = match (position, &self.writes) {
                (Position::BeforeLater, _) | (Position::OfCurrent, Writes::Conditional(_)) => {
                    self.current_if_readable().await?
                }
                _ => None,
            };
            history.add(entry.clone(), current.as_ref());
            let written = self.try_write(HISTORY, history.to_bytes().into(), mode);
            match written.await {
                Ok(Written::Done) => return Ok(()),
                Ok(Written::Overtaken) => failure = None,
                // Maybe it was written: only the history tells.
                Err(error @ StoreError::Unreachable { .. }) => failure = Some(error),
                Err(error) => return Err(error),
            }
            let pause = pause_after(attempt);
            if Instant::now() + pause >= give_up {
                return Err(failure.unwrap_or_else(|| self.conflict(HISTORY, attempt)));
            }
            tokio::time::sleep(pause).await;
        }
        Err(failure.unwrap_or_else(|| self.conflict(HISTORY, ATTEMPTS_MAX)))
    }

    /// The history as it was read, and how to write the next one. One that cannot be read is copied
    /// beside it, and a new one begins.
    async fn readable(
        &self,
        document: Option<Document>,
        known: &[HistoryEntry],
    ) -> Result<(History, Mode), StoreError> {
        let Some(Document { bytes, version }) = document else {
            let Writes::Conditional(conditions) = &self.writes else {
                return Ok((History::of(known), Mode::Replace));
            };
            let seen = conditions.creations.get_or_try_init(|| self.try_creation());
            seen.await?;
            return Ok((History::of(known), Mode::Create));
        };
        let history = match History::parse(&bytes) {
            Ok(history) => history,
            Err(reason) => {
                let key = self.set_aside(bytes).await?;
                tracing::warn!(
                    store = %self.place, reason, kept = key,
                    "history.json cannot be read: it is kept beside, and a new history begins"
                );
                History::of(known)
            }
        };
        match &self.writes {
            Writes::InTurns(_) => Ok((history, Mode::Replace)),
            Writes::Conditional(_) if version.e_tag.is_none() => {
                Err(self.unconditional("it tells no ETag".to_owned()))
            }
            Writes::Conditional(_) => Ok((history, Mode::Update(version))),
        }
    }

    /// Keeps the bytes of a history under a name of their own, and returns that.
    async fn set_aside(&self, bytes: Bytes) -> Result<String, StoreError> {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let key = format!("history.broken-{now}-{}.json", sha256(&bytes).short());
        // The same name means the same bytes, where another attempt or another gateway was here.
        self.write(&key, bytes, Mode::Replace).await?;
        Ok(key)
    }

    /// Sees to it that conditional writes are known to be kept, where they are needed.
    pub(super) async fn know_conditions(&self) -> Result<(), StoreError> {
        match &self.writes {
            Writes::InTurns(_) => Ok(()),
            Writes::Conditional(conditions) => {
                let seen = conditions.updates.get_or_try_init(|| self.try_update());
                seen.await.copied()
            }
        }
    }

    /// Updates an object that is not there. That must fail, and then leaves nothing behind.
    async fn try_update(&self) -> Result<(), StoreError> {
        let key = trial_key();
        let nothing = UpdateVersion {
            e_tag: Some("\"00000000000000000000000000000000\"".to_owned()),
            version: None,
        };
        match self.try_write(&key, trial(), Mode::Update(nothing)).await? {
            Written::Overtaken => Ok(()),
            Written::Done => {
                self.remove_trial(&key).await;
                Err(self.unconditional("it ignores the condition If-Match".to_owned()))
            }
        }
    }

    /// Creates an object twice. The second time must fail.
    async fn try_creation(&self) -> Result<(), StoreError> {
        let key = trial_key();
        self.try_write(&key, trial(), Mode::Create).await?;
        let again = self.try_write(&key, trial(), Mode::Create).await;
        self.remove_trial(&key).await;
        match again? {
            Written::Overtaken => Ok(()),
            Written::Done => {
                Err(self.unconditional("it ignores the condition If-None-Match".to_owned()))
            }
        }
    }

    async fn remove_trial(&self, key: &str) {
        if let Err(error) = self.documents.delete(&self.path(key)).await {
            let reason = words(&error);
            tracing::warn!(store = %self.place, key, reason, "could not be removed; it is not needed");
        }
    }

    fn conflict(&self, key: &str, attempts: u32) -> StoreError {
        StoreError::Conflict {
            place: self.place.clone(),
            key: key.to_owned(),
            attempts,
        }
    }

    fn unconditional(&self, reason: String) -> StoreError {
        StoreError::Unconditional {
            place: self.place.clone(),
            reason,
        }
    }
}

/// A name that no other trial has.
fn trial_key() -> String {
    format!("conditional-writes.{:016x}.check", fastrand::u64(..))
}

fn trial() -> Bytes {
    Bytes::from_static(b"Written by Wakegate to see whether this store keeps conditions.\n")
}

fn pause_after(attempt: u32) -> Duration {
    let limit = Duration::from_millis(10) * 2_u32.pow(attempt.min(10));
    limit.min(PAUSE_MAX).mul_f64(fastrand::f64())
}
