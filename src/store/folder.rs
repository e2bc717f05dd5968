//! A folder as a store: its lock, by which gateways take turns, and what killed ones left in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::error::{Doing, Place, StoreError};

const LOCK: &str = ".lock";

/// Between two attempts on a lock that another process has.
const POLL: Duration = Duration::from_millis(10);

/// The folder of a store. Only whose turn it is may write documents in it.
pub(super) struct Folder {
    path: PathBuf,
    place: Place,
    wait_max: Duration,
    /// Within this process, writers queue; the lock of the file is only for other processes.
    queue: Arc<Mutex<()>>,
    is_tidied: Arc<AtomicBool>,
}

/// The turn of whoever has it; ends when it is dropped.
pub(super) struct Turn {
    // In this order: the file's lock goes before the next one of this process comes.
    _lock: File,
    _queued: OwnedMutexGuard<()>,
}

impl Folder {
    pub(super) fn new(path: &Path, place: Place, wait_max: Duration) -> Self {
        Self {
            path: path.to_owned(),
            place,
            wait_max,
            queue: Arc::default(),
            is_tidied: Arc::default(),
        }
    }

    /// Waits for the turn, within the limit. Makes the folder when it is not there.
    pub(super) async fn turn(&self) -> Result<Turn, StoreError> {
        let deadline = Instant::now() + self.wait_max;
        let taking = self.queue.clone().lock_owned();
        let Ok(queued) = tokio::time::timeout(self.wait_max, taking).await else {
            return Err(self.not_in_time());
        };
        let lock = loop {
            let path = self.path.clone();
            let attempt = tokio::task::spawn_blocking(move || try_lock(&path)).await;
            match attempt.unwrap_or_else(|failed| Err(io::Error::other(failed))) {
                Ok(Some(lock)) => break lock,
                Ok(None) if Instant::now() >= deadline => return Err(self.not_in_time()),
                Ok(None) => tokio::time::sleep(POLL.mul_f64(0.5 + fastrand::f64())).await,
                Err(error) => return Err(self.failed(&error)),
            }
        };
        let turn = Turn {
            _lock: lock,
            _queued: queued,
        };
        self.tidy().await;
        Ok(turn)
    }

    /// Whether a small file can be written. A folder that is not there yet would be made.
    pub(super) async fn try_to_write(&self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let tried = tokio::task::spawn_blocking(move || write_and_remove(&path)).await;
        let tried = tried.unwrap_or_else(|failed| Err(io::Error::other(failed)));
        tried.map_err(|error| self.failed_in("trying to write", &error))
    }

    fn not_in_time(&self) -> StoreError {
        let wait_max = humantime::format_duration(self.wait_max);
        let reason = format!("another process has held the lock {LOCK} for {wait_max}");
        self.place.unreachable("waiting for its lock", reason)
    }

    fn failed(&self, error: &io::Error) -> StoreError {
        self.failed_in("taking its lock", error)
    }

    fn failed_in(&self, doing: &'static str, error: &io::Error) -> StoreError {
        let doing = Doing::from(doing);
        let known = self.place.io(&doing, error);
        known.unwrap_or_else(|| self.place.other(doing, error.to_string()))
    }

    /// Removes what a write leaves that never ended, once: this gateway may have been killed in one.
    async fn tidy(&self) {
        if self.is_tidied.swap(true, Ordering::Relaxed) {
            return;
        }
        let path = self.path.clone();
        let tidied = tokio::task::spawn_blocking(move || remove_half_written(&path)).await;
        if let Ok(Err(error)) = tidied {
            tracing::warn!(store = %self.place, %error, "what killed writes left there stays");
        }
    }
}

/// Takes the lock if nobody has it.
fn try_lock(folder: &Path) -> io::Result<Option<File>> {
    // Launch configurations hold environment variables: nobody else needs to read them.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let path = folder.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // Someone may have removed the file in between: then the next one locks another.
    let is_same = |there: fs::Metadata| -> io::Result<bool> {
        let here = file.metadata()?;
        Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
    };
    match fs::metadata(&path) {
        Ok(there) => Ok(is_same(there)?.then_some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// As large as the documents of a switch are.
const TRIAL_BYTES: usize = 16 << 10;

fn write_and_remove(folder: &Path) -> io::Result<()> {
    if !folder.try_exists()? {
        return Ok(());
    }
    let path = folder.join(format!(".trial-{:016x}", fastrand::u64(..)));
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(&[b' '; TRIAL_BYTES]));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => written.and(Err(error)),
        _ => written,
    }
}

/// A document is written under its name with `#1` or a higher number, then renamed. Whoever has the
/// turn knows that nobody is at it.
fn remove_half_written(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_half_written) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_half_written(name: &str) -> bool {
    let Some((document, number)) = name.rsplit_once('#') else {
        return false;
    };
    let is_ours = document.ends_with(".json")
        && ["current.", "history.", "container."]
            .iter()
            .any(|begin| document.starts_with(begin));
    is_ours && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documents_of_the_gateway_are_half_written_ones() {
        for name in ["current.json#1", "history.json#12", "container.ab.json#1"] {
            assert!(is_half_written(name), "{name}");
        }
        for name in [
            "current.json",
            "current.json#",
            "current.json#a",
            "shop.tar#1",
            "mine.json#1",
            "#1",
        ] {
            assert!(!is_half_written(name), "{name}");
        }
    }
}
