//! A store of any kind, with the other side of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use wakegate::config::{StoreLocation, StoreOptions};
use wakegate::deploy::records::{ChangeKind, CurrentDocument, HistoryEntry};
use wakegate::names::ReleaseHash;
use wakegate::store::{Store, StoreError, StoreLimits};

use crate::moto::Moto;

/// What the suite runs over.
#[derive(Clone)]
pub enum Kind {
    Memory,
    Folder,
    Bucket(Arc<Moto>),
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Folder => "folder",
            Self::Bucket(_) => "s3",
        }
    }
}

/// One place for one behaviour, empty at first and gone afterwards.
pub struct Bench {
    kind: Kind,
    folder: TempDir,
    in_memory: Store,
    bucket: String,
}

impl Bench {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            folder: tempfile::tempdir().unwrap(),
            in_memory: Store::in_memory(),
            bucket: random_name(),
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn location(&self) -> StoreLocation {
        let text = match &self.kind {
            Kind::Memory => unreachable!("memory has no location"),
            Kind::Folder => format!("file:{}", self.folder.path().display()),
            Kind::Bucket(_) => format!("s3://{}/apps/shop", self.bucket),
        };
        StoreLocation::parse(&text, Path::new("/")).unwrap()
    }

    /// The server of the bucket.
    pub fn endpoint(&self) -> Option<String> {
        match &self.kind {
            Kind::Bucket(moto) => Some(moto.url.clone()),
            _ => None,
        }
    }

    /// Another gateway's value of the same store.
    pub async fn store(&self) -> Store {
        self.store_with(StoreLimits::default()).await
    }

    /// One whose writes wait for those of many others, on a busy machine too.
    pub async fn patient_store(&self) -> Store {
        self.store_with(patient()).await
    }

    async fn store_with(&self, limits: StoreLimits) -> Store {
        if let Kind::Bucket(moto) = &self.kind {
            moto.make_bucket(&self.bucket).await;
        }
        match &self.kind {
            Kind::Memory => self.in_memory.clone(),
            _ => at_with_limits(&self.location(), self.endpoint(), limits).unwrap(),
        }
    }

    fn path(&self, key: &str) -> String {
        format!("{}/apps/shop/{key}", self.bucket)
    }

    /// What lies under a key, by another client.
    pub async fn bytes(&self, key: &str) -> Option<Bytes> {
        match &self.kind {
            Kind::Memory => unreachable!("memory has no other side"),
            Kind::Folder => std::fs::read(self.folder.path().join(key))
                .ok()
                .map(Bytes::from),
            Kind::Bucket(moto) => moto.get(&self.path(key)).await,
        }
    }

    pub async fn text(&self, key: &str) -> String {
        let bytes = self.bytes(key).await;
        let bytes = bytes.unwrap_or_else(|| panic!("there is no {key}"));
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Puts something under a key, by another client.
    pub async fn plant(&self, key: &str, bytes: impl Into<Bytes>) {
        match &self.kind {
            Kind::Memory => unreachable!("memory has no other side"),
            Kind::Folder => {
                let path = self.folder.path().join(key);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes.into()).unwrap();
            }
            Kind::Bucket(moto) => moto.put(&self.path(key), bytes, "planted").await,
        }
    }

    /// Marks what lies under a key; the mark goes when it is written again.
    pub async fn mark(&self, key: &str) {
        let bytes = self.bytes(key).await.unwrap();
        match &self.kind {
            Kind::Bucket(moto) => moto.put(&self.path(key), bytes, "here").await,
            // The file itself is replaced by a write, and a second link keeps the old one.
            _ => {
                let path = self.folder.path().join(key);
                let mark = path.with_extension("mark");
                let _ = std::fs::remove_file(&mark);
                std::fs::hard_link(path, mark).unwrap();
            }
        }
    }

    pub async fn is_marked(&self, key: &str) -> bool {
        use std::os::unix::fs::MetadataExt;
        match &self.kind {
            Kind::Bucket(moto) => moto.mark_of(&self.path(key)).await.as_deref() == Some("here"),
            _ => {
                let path = self.folder.path().join(key);
                let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
                inode(&path) == inode(&path.with_extension("mark"))
            }
        }
    }

    /// All keys there are, in order, without marks and the lock.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys = match &self.kind {
            Kind::Memory => unreachable!("memory has no other side"),
            Kind::Folder => {
                let names = std::fs::read_dir(self.folder.path()).unwrap();
                names
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .filter(|name| name != ".lock" && !name.ends_with(".mark"))
                    .collect()
            }
            Kind::Bucket(moto) => {
                let keys = moto.keys(&self.bucket).await;
                let below = keys.iter().map(|key| key.strip_prefix("apps/shop/"));
                let below = below.map(|key| key.expect("nothing beside the prefix").to_owned());
                below.collect::<Vec<_>>()
            }
        };
        keys.sort();
        keys
    }
}

pub fn random_name() -> String {
    format!("wakegate-test-{:016x}", fastrand::u64(..))
}

fn patient() -> StoreLimits {
    StoreLimits {
        operation: Duration::from_secs(120),
        lock: Duration::from_secs(120),
        ..StoreLimits::default()
    }
}

/// Another process's value of it; its writes wait for those of many others.
pub fn open_patient(
    location: &StoreLocation,
    endpoint: Option<String>,
) -> Result<Store, StoreError> {
    at_with_limits(location, endpoint, patient())
}

fn at_with_limits(
    location: &StoreLocation,
    endpoint: Option<String>,
    limits: StoreLimits,
) -> Result<Store, StoreError> {
    let options = StoreOptions {
        endpoint,
        ..StoreOptions::default()
    };
    Store::open_with_limits(location, &options, credentials, limits)
}

pub fn open_with_limits(endpoint: &str, bucket: &str, limits: StoreLimits) -> Store {
    let location = format!("s3://{bucket}/apps/shop");
    let location = StoreLocation::parse(&location, Path::new("/")).unwrap();
    at_with_limits(&location, Some(endpoint.to_owned()), limits).unwrap()
}

pub fn credentials(name: &str) -> Option<String> {
    match name {
        "AWS_ACCESS_KEY_ID" => Some("AKIATEST".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("hunter2".to_owned()),
        _ => None,
    }
}

pub fn hash(n: u32) -> ReleaseHash {
    ReleaseHash::new(&format!("{n:064x}")).unwrap()
}

pub fn current(n: u32) -> CurrentDocument {
    CurrentDocument {
        hash: hash(n),
        revision: format!("r{n}"),
        at: at(n),
        by: "ada".to_owned(),
        kind: ChangeKind::Switch,
    }
}

pub fn entry(n: u32) -> HistoryEntry {
    HistoryEntry {
        revision: format!("r{n}"),
        hash: hash(n),
        at: at(n),
        by: "ada".to_owned(),
        kind: ChangeKind::Switch,
    }
}

fn at(n: u32) -> String {
    format!(
        "2026-01-01T{:02}:{:02}:{:02}Z",
        n / 3600,
        n / 60 % 60,
        n % 60
    )
}

pub fn revisions(entries: &[HistoryEntry]) -> Vec<String> {
    entries.iter().map(|entry| entry.revision.clone()).collect()
}
