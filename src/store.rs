//! The store of an application: its launch configurations, which release is current, and the
//! history of that. Image archives lie in it too.
//!
//! One store belongs to one application and may be shared by several gateways. Keys, all below the
//! location's prefix:
//!
//! | key | what | changed |
//! |---|---|---|
//! | `container.<hash>.json` | a launch configuration; the hash is that of these bytes | never |
//! | `current.json` | the current release ([`CurrentDocument`]) | by a switch |
//! | `history.json` | the last 50 changes ([`HistoryEntry`]), the newest last | by a switch |
//! | `history.broken-<time>-<hash>.json` | a history that could not be read, kept as it was | never |
//! | any other | image archives and what else configurations name | by others |
//!
//! # What holds
//!
//! - A document is written whole or not at all. In a folder it is also on the disk (file and
//!   folder are synced) when a write returns.
//! - Gateways that write at once lose no entry of the history, and the newest entry is the release
//!   in `current.json`. In a folder they take turns by a lock on the file `.lock` (`flock`: on NFS
//!   it needs version 4). In a bucket writes are conditional (`If-Match`, `If-None-Match`) and tried
//!   again; a server that does not know these is found out first and refused
//!   ([`StoreError::Unconditional`]). Of two gateways that switch at once, the later one wins.
//! - A launch configuration is only given out when its bytes have the hash of its name.
//! - A `history.json` that cannot be read makes [`Store::history`] fail, and stops no switch: the
//!   next entry begins a new history, after the unreadable one was copied beside it. A
//!   `current.json` that cannot be read is replaced by the next switch.
//! - Every operation ends within [`StoreLimits`], also on a store that is away.
//! - Launch configurations hold environment variables, so maybe secrets: a folder that is made here
//!   is open to its owner only. Messages and logs repeat nothing of documents or credentials.
//!
//! # Buckets
//!
//! Credentials come from the usual variables: `AWS_ACCESS_KEY_ID` with `AWS_SECRET_ACCESS_KEY` and
//! perhaps `AWS_SESSION_TOKEN`; else `AWS_WEB_IDENTITY_TOKEN_FILE` with `AWS_ROLE_ARN`; else
//! `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or `…_FULL_URI`; else the instance's metadata service.
//! Files in `~/.aws` are not read. What the gateway must be allowed: `s3:GetObject`, `s3:PutObject`,
//! `s3:ListBucket` (without it S3 calls a missing object forbidden), and `s3:DeleteObject` for what
//! it makes to try conditional writes. An endpoint with `http://` is used as it is, without TLS.
//! Whose certificates are trusted, and through which proxy requests go: [`crate::https`].

mod artefact;
mod bucket;
mod documents;
mod error;
mod folder;
mod http;
mod key;
#[cfg(test)]
mod tests;

pub use self::artefact::Artefact;
pub use self::error::{Doing, Place, StoreError};

use std::path::{Component, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use md5::Md5;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
#[cfg(test)]
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use sha2::{Digest, Sha256};

use self::documents::{Conditions, Mode, Position, Writes};
use self::folder::Folder;
use crate::config::{StoreLocation, StoreOptions};
use crate::deploy::records::{CurrentDocument, History, HistoryEntry};
use crate::https::Environment;
use crate::names::ReleaseHash;

/// The largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: u64 = 1 << 20;

const CURRENT: &str = "current.json";
const HISTORY: &str = "history.json";

/// How long operations on a store may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// For a connection to a bucket's server to be made.
    pub connect: Duration,
    /// For the head of one answer, and then for each part of its body.
    pub answer: Duration,
    /// For one operation on documents, with all its requests and their repetitions; for an artefact
    /// until its first bytes could come.
    pub operation: Duration,
    /// For the lock of a folder, which others hold while they write.
    pub lock: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            operation: Duration::from_secs(15),
            lock: Duration::from_secs(10),
        }
    }
}

/// A switch for [`Store::record`].
#[derive(Debug, Clone)]
pub struct Recorded {
    pub current: CurrentDocument,
    pub entry: HistoryEntry,
    /// The changes before it, as far as they are known, oldest first: a history that is lost or cannot
    /// be read begins with them.
    pub known: Vec<HistoryEntry>,
    /// It was made some time ago, so that a later one may have been recorded.
    pub is_late: bool,
}

impl Recorded {
    /// Made just now, and nothing is known of what was before.
    pub fn new(current: CurrentDocument, entry: HistoryEntry) -> Self {
        Self {
            current,
            entry,
            known: Vec::new(),
            is_late: false,
        }
    }
}

/// A store that answers.
#[derive(Debug)]
pub struct Checked {
    /// The current release; `None` before the first switch. Else `Malformed`.
    pub current: Result<Option<CurrentDocument>, StoreError>,
}

/// The store of one application. Cloning is cheap; clones are the same store.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    place: Place,
    documents: Arc<dyn ObjectStore>,
    /// The same objects, for large ones.
    archives: Arc<dyn ObjectStore>,
    prefix: Path,
    writes: Writes,
    limits: StoreLimits,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.shared.place)
    }
}

impl Store {
    /// The store at a location, with the usual limits. `env` tells variables of the environment.
    ///
    /// Asks nothing of disk or network, so a store that is away can be opened; fails on settings
    /// that cannot be used ([`StoreError::Other`]).
    pub fn open(
        location: &StoreLocation,
        options: &StoreOptions,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, StoreError> {
        Self::open_with_limits(location, options, env, StoreLimits::default())
    }

    /// As [`Store::open`], with limits of the caller's.
    pub fn open_with_limits(
        location: &StoreLocation,
        options: &StoreOptions,
        env: impl Fn(&str) -> Option<String>,
        limits: StoreLimits,
    ) -> Result<Self, StoreError> {
        match location {
            StoreLocation::File(path) => Self::open_folder(location, path, limits),
            StoreLocation::S3 { bucket, prefix } => {
                Self::open_bucket(location, bucket, prefix, options, &env, limits)
            }
        }
    }

    fn open_folder(
        location: &StoreLocation,
        path: &std::path::Path,
        limits: StoreLimits,
    ) -> Result<Self, StoreError> {
        let place = Place::new(location, None);
        let unusable = |error: String| place.other("reading its settings", error);
        let path = std::path::absolute(path).map_err(|error| unusable(error.to_string()))?;
        let path = without_dots(&path);
        let prefix =
            Path::from_absolute_path(&path).map_err(|error| unusable(error.to_string()))?;
        let files: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new().with_fsync(true));
        Ok(Self::new(Shared {
            documents: files.clone(),
            archives: files,
            prefix,
            writes: Writes::InTurns(Folder::new(&path, place.clone(), limits.lock)),
            place,
            limits,
        }))
    }

    fn open_bucket(
        location: &StoreLocation,
        bucket: &str,
        prefix: &str,
        options: &StoreOptions,
        env: &impl Environment,
        limits: StoreLimits,
    ) -> Result<Self, StoreError> {
        let opened = bucket::open(location, bucket, options, env, &limits)?;
        let prefix = Path::parse(prefix).map_err(|error| {
            opened
                .place
                .other("reading its settings", error.to_string())
        })?;
        Ok(Self::new(Shared {
            place: opened.place,
            documents: Arc::new(opened.documents),
            archives: Arc::new(opened.archives),
            prefix,
            writes: Writes::Conditional(Conditions::to_be_tried()),
            limits,
        }))
    }

    /// A store that is gone with the last of its clones: for tests.
    pub fn in_memory() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    /// The same, and it can be made slow.
    #[cfg(test)]
    pub fn throttled() -> (Self, Arc<ThrottledStore<InMemory>>) {
        let objects = Arc::new(ThrottledStore::new(
            InMemory::new(),
            ThrottleConfig::default(),
        ));
        (Self::over(objects.clone()), objects)
    }

    fn over(objects: Arc<dyn ObjectStore>) -> Self {
        Self::new(Shared {
            place: Place::memory(),
            documents: objects.clone(),
            archives: objects,
            prefix: Path::default(),
            writes: Writes::Conditional(Conditions::known()),
            limits: StoreLimits::default(),
        })
    }

    fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Where it is, for people: `file:/folder`, or `s3://bucket/prefix at http://server`.
    pub fn describe(&self) -> String {
        self.shared.place.to_string()
    }

    /// Whether the store answers and can be used: `current.json` can be read or is not there, and a
    /// bucket's server knows conditional writes (which is tried until it was seen once).
    ///
    /// What `current.json` says is told aside, also when that is nonsense; a folder that does not exist yet
    /// is fine.
    pub async fn check(&self) -> Result<Checked, StoreError> {
        let shared = self.shared.clone();
        self.limited("checking it", async move {
            let read = shared.read(CURRENT).await?;
            shared.know_conditions().await?;
            let current = shared.parse_current(read);
            Ok(Checked { current })
        })
        .await
    }

    /// Stores a launch configuration under its SHA-256 and returns that. The same bytes again are a
    /// success and write nothing; a damaged copy of them is replaced.
    pub async fn put_configuration(
        &self,
        bytes: impl Into<Bytes>,
    ) -> Result<ReleaseHash, StoreError> {
        let bytes = bytes.into();
        let shared = self.shared.clone();
        let hash = sha256(&bytes);
        self.limited("writing a launch configuration", async move {
            let key = configuration_key(&hash);
            let _turn = shared.turn().await?;
            match shared.read(&key).await {
                Ok(Some(there)) if there.bytes == bytes => return Ok(hash),
                Ok(Some(_)) | Err(StoreError::TooLarge { .. }) => {
                    tracing::warn!(store = %shared.place, key, "a damaged launch configuration is replaced");
                }
                Ok(None) => {}
                Err(error) => return Err(error),
            }
            shared.write(&key, bytes, Mode::Replace).await?;
            Ok(hash)
        })
        .await
    }

    /// The bytes of a launch configuration, which have the hash of its name.
    pub async fn configuration(&self, hash: &ReleaseHash) -> Result<Bytes, StoreError> {
        let shared = self.shared.clone();
        let hash = hash.clone();
        self.limited("reading a launch configuration", async move {
            let key = configuration_key(&hash);
            let Some(document) = shared.read(&key).await? else {
                return Err(StoreError::UnknownHash {
                    place: shared.place.clone(),
                    hash,
                });
            };
            let actual = hash_like(&hash, &document.bytes);
            if actual != hash.as_str() {
                return Err(StoreError::HashMismatch {
                    place: shared.place.clone(),
                    key,
                    actual,
                });
            }
            Ok(document.bytes)
        })
        .await
    }

    /// The current release; `None` before the first switch.
    pub async fn current(&self) -> Result<Option<CurrentDocument>, StoreError> {
        let shared = self.shared.clone();
        self.limited(
            "reading current.json",
            async move { shared.current().await },
        )
        .await
    }

    /// Makes a release the current one, without an entry in the history.
    pub async fn set_current(&self, current: CurrentDocument) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        self.limited("writing current.json", async move {
            let _turn = shared.turn().await?;
            shared.set_current(&current).await
        })
        .await
    }

    /// The changes of the current release, the newest last; empty before the first.
    pub async fn history(&self) -> Result<Vec<HistoryEntry>, StoreError> {
        let shared = self.shared.clone();
        self.limited("reading history.json", async move {
            match shared.read(HISTORY).await? {
                Some(document) => History::parse(&document.bytes)
                    .map(History::into_entries)
                    .map_err(|reason| shared.place.malformed(HISTORY, reason)),
                None => Ok(Vec::new()),
            }
        })
        .await
    }

    /// Adds an entry as the newest of the history. Nothing is added when the newest already tells of
    /// the same change (equal hash, time and person), so it can be repeated after an error.
    pub async fn append(&self, entry: HistoryEntry) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        self.limited("writing history.json", async move {
            let _turn = shared.turn().await?;
            shared.know_conditions().await?;
            shared.append(entry, Position::Newest, &[]).await
        })
        .await
    }

    /// Records a switch: `current.json` first, then an entry in the history. Can be repeated after
    /// an error, and does then only what is missing. False: only the history has it, since it is late
    /// and `current.json` tells of a later switch.
    pub async fn record(&self, switch: Recorded) -> Result<bool, StoreError> {
        let shared = self.shared.clone();
        self.limited("recording a switch", async move {
            let _turn = shared.turn().await?;
            // Before anything is written: a switch that can only be recorded by half is none.
            shared.know_conditions().await?;
            let is_overtaken = switch.is_late && shared.has_later(&switch.current).await?;
            if !is_overtaken {
                shared.set_current(&switch.current).await?;
            }
            let at = if is_overtaken {
                Position::BeforeLater
            } else {
                Position::OfCurrent
            };
            shared.append(switch.entry, at, &switch.known).await?;
            Ok(!is_overtaken)
        })
        .await
    }

    /// Whether a switch could be written: a folder that is there takes a small file. A bucket would
    /// only tell by being written to, so that one counts as ready.
    pub async fn can_be_written(&self) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        self.limited("trying to write", async move {
            match &shared.writes {
                Writes::InTurns(folder) => folder.try_to_write().await,
                Writes::Conditional(_) => Ok(()),
            }
        })
        .await
    }

    /// Opens an artefact, such as an image archive, by the key that a launch configuration names:
    /// relative to the store, of any size. What is read is not checked, besides its length.
    pub async fn artefact(&self, key: &str) -> Result<Artefact, StoreError> {
        let shared = self.shared.clone();
        let key = key.to_owned();
        let doing = format!("reading {key:?}");
        self.limited(doing, async move { artefact::open(&shared, &key).await })
            .await
    }

    /// Carries out an operation within the limit. In a folder it goes on to its end when the caller
    /// does not wait for it any more: the lock must not be given back under a write.
    async fn limited<T: Send + 'static>(
        &self,
        doing: impl Into<Doing>,
        operation: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Shared { place, limits, .. } = &*self.shared;
        let task = async {
            match self.shared.writes {
                Writes::InTurns(_) => tokio::spawn(operation).await,
                Writes::Conditional(_) => Ok(operation.await),
            }
        };
        match tokio::time::timeout(limits.operation, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(failed)) => Err(place.other(doing, failed.to_string())),
            Err(_) => {
                let limit = humantime::format_duration(limits.operation);
                Err(place.unreachable(doing, format!("not done within {limit}")))
            }
        }
    }
}

/// Takes `..` out of an absolute path as it is written, whatever links there are: the library knows
/// no such segments.
fn without_dots(path: &std::path::Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn configuration_key(hash: &ReleaseHash) -> String {
    format!("container.{hash}.json")
}

fn sha256(bytes: &[u8]) -> ReleaseHash {
    let digits = format!("{:x}", Sha256::digest(bytes));
    ReleaseHash::new(&digits).expect("SHA-256 has 64 digits")
}

/// The hash of the bytes, of the kind that the given one is.
fn hash_like(hash: &ReleaseHash, bytes: &[u8]) -> String {
    match hash.as_str().len() {
        32 => {
            use md5::Digest;
            let digest = Md5::digest(bytes);
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        _ => sha256(bytes).as_str().to_owned(),
    }
}
