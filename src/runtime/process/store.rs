//! The state directory: one folder a workload, and a lock that keeps a second gateway out.
//!
//! ```text
//! <dir>/lock               held while a gateway uses the directory; says which process it is
//! <dir>/<id>/spec.json     who the workload is; written once
//! <dir>/<id>/state.json    whether it runs, and as which process; written at each change
//! <dir>/<id>/log           what it printed, at most about 1 MiB; `log.old` is what was before
//! ```
//!
//! Files are written whole under another name and then renamed, folders are made and removed
//! under a name with a leading dot, so nothing is ever seen half-done.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::procfs::ProcessId;
use crate::runtime::RuntimeError;
use crate::spec::WorkloadSpec;

/// A log longer than this is put aside, at a start and every few seconds while it runs.
pub(super) const LOG_BYTES_MAX: u64 = 1 << 20;

/// Who a workload is, for as long as it exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub id: String,
    pub address: Ipv4Addr,
    pub spec: WorkloadSpec,
}

/// What a workload was doing when this was last written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(super) enum Saved {
    Stopped {
        exit_code: Option<i64>,
    },
    /// A process is about to be started, or has been; only /proc knows which.
    Starting,
    Running {
        process: ProcessId,
        /// In nanoseconds since 1970.
        started_at: i64,
    },
}

pub(super) struct Store {
    dir: PathBuf,
    /// Locked for as long as it is open; the kernel unlocks it however this process ends.
    lock: File,
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing it would do, but for a process forked this moment, which has it open until it
        // executes its program.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

const SPEC: &str = "spec.json";
const STATE: &str = "state.json";
const LOG: &str = "log";
const LOG_OLD: &str = "log.old";

impl Store {
    /// Makes the directory where it is missing, locks it, and clears away what a crash left.
    pub fn open(dir: &Path) -> Result<Self, RuntimeError> {
        let failed = |what: &str, error: io::Error| {
            let dir = dir.display();
            RuntimeError::Failed(format!("process.dir {dir}: cannot {what}: {error}"))
        };
        // Specifications hold secrets: only the owner may look in.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| failed("make it", error))?;
        let dir = fs::canonicalize(dir).map_err(|error| failed("find it", error))?;
        let lock = lock(&dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => in_use(&dir),
            _ => failed("lock it", error),
        })?;
        let store = Self { dir, lock };
        let cleared = store.clear_half_done();
        cleared.map_err(|error| failed("clear it", error))?;
        Ok(store)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    fn clear_half_done(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if hidden && entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// All workloads. A folder that cannot be read is told in the log and left as it is.
    pub fn load(&self) -> io::Result<Vec<(Identity, Saved)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let folder = entry.path();
            match read_json::<Identity>(&folder.join(SPEC)) {
                Ok(identity) if folder == self.folder(&identity.id) => {
                    // What cannot be read may have been anything: /proc will tell.
                    let saved = read_json(&folder.join(STATE)).unwrap_or(Saved::Starting);
                    all.push((identity, saved));
                }
                Ok(_) => {
                    let folder = folder.display();
                    tracing::error!(%folder, "holds another workload's spec.json and is left out");
                }
                Err(error) => {
                    let folder = folder.display();
                    tracing::error!(%folder, %error, "is not a workload's folder and is left out");
                }
            }
        }
        Ok(all)
    }

    /// Writes a new, stopped workload. It is on the disk when this returns.
    pub fn add(&self, identity: &Identity) -> io::Result<()> {
        let draft = self.dir.join(format!(".new-{}", identity.id));
        let made = (|| {
            DirBuilder::new().mode(0o700).create(&draft)?;
            let stopped = Saved::Stopped { exit_code: None };
            write_json(&draft.join(STATE), &stopped, true)?;
            write_json(&draft.join(SPEC), identity, true)?;
            fs::rename(&draft, self.folder(&identity.id))?;
            File::open(&self.dir)?.sync_all()
        })();
        if made.is_err() {
            // Whichever of the two it is by now.
            let _ = fs::remove_dir_all(&draft);
            let _ = fs::remove_dir_all(self.folder(&identity.id));
        }
        made
    }

    /// Writes what a workload does now. Survives the end of this process however it comes; a
    /// crash of the whole machine ends the workloads themselves.
    pub fn save(&self, id: &str, saved: &Saved) -> io::Result<()> {
        write_json(&self.folder(id).join(STATE), saved, false)
    }

    pub fn remove(&self, id: &str) -> io::Result<()> {
        let gone = self.dir.join(format!(".gone-{id}"));
        match fs::rename(self.folder(id), &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        // What cannot be removed now is removed at the next start.
        if let Err(error) = fs::remove_dir_all(&gone) {
            tracing::warn!(folder = %gone.display(), %error, "cannot remove it");
        }
        Ok(())
    }

    /// The log for a new run to append to.
    pub fn log(&self, id: &str) -> io::Result<File> {
        self.trim_log(id)?;
        let path = self.folder(id).join(LOG);
        OpenOptions::new().append(true).create(true).open(path)
    }

    /// Gives `take` the end of what a workload printed in all its runs, oldest first: at most
    /// [`LOG_BYTES_MAX`] of each file.
    pub fn read_log(&self, id: &str, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        for name in [LOG_OLD, LOG] {
            let mut log = match File::open(self.folder(id).join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX)))?;
            let mut log = log.take(LOG_BYTES_MAX);
            loop {
                match log.read(&mut buffer)? {
                    0 => break,
                    read => take(&buffer[..read]),
                }
            }
        }
        Ok(())
    }

    /// Puts the end of a log that has grown too long aside and empties it. The process that writes
    /// to it notices nothing, because it appends; what it writes this very moment may be lost.
    pub fn trim_log(&self, id: &str) -> io::Result<()> {
        let folder = self.folder(id);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .open(folder.join(LOG));
        let mut log = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let length = log.metadata()?.len();
        if length <= LOG_BYTES_MAX {
            return Ok(());
        }
        log.seek(SeekFrom::Start(length - LOG_BYTES_MAX))?;
        let mut old = File::create(folder.join(LOG_OLD))?;
        io::copy(&mut (&log).take(LOG_BYTES_MAX), &mut old)?;
        log.set_len(0)
    }
}

fn lock(dir: &Path) -> io::Result<File> {
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}

fn in_use(dir: &Path) -> RuntimeError {
    let holder = fs::read_to_string(dir.join("lock")).unwrap_or_default();
    let (dir, holder) = (dir.display(), holder.trim());
    RuntimeError::Refused(format!(
        "process.dir {dir} is in use by another gateway (process {holder}): \
         stop that one, or give this one a directory of its own"
    ))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = fs::read(path)?;
    Ok(serde_json::from_slice(&text)?)
}

fn write_json(path: &Path, value: &impl Serialize, sync: bool) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    if sync {
        file.sync_all()?;
    }
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::WorkloadName;

    fn identity(id: &str) -> Identity {
        Identity {
            id: id.to_owned(),
            address: Ipv4Addr::new(127, 64, 0, 1),
            spec: WorkloadSpec::new(WorkloadName::new("a").unwrap(), "image:1"),
        }
    }

    #[test]
    fn what_was_written_is_read_and_what_was_half_done_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.add(&identity("one")).unwrap();
        let saved = Saved::Stopped { exit_code: Some(7) };
        store.save("one", &saved).unwrap();
        store.add(&identity("two")).unwrap();
        store.remove("two").unwrap();
        store.remove("two").unwrap();
        drop(store);
        fs::create_dir(dir.path().join(".new-three")).unwrap();
        fs::create_dir(dir.path().join("not-a-workload")).unwrap();

        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.load().unwrap(), [(identity("one"), saved)]);
        assert!(!dir.path().join(".new-three").exists());
        assert!(dir.path().join("not-a-workload").exists());
    }

    #[test]
    fn a_state_that_cannot_be_read_may_have_been_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.add(&identity("one")).unwrap();
        fs::write(dir.path().join("one").join(STATE), "").unwrap();
        assert_eq!(store.load().unwrap(), [(identity("one"), Saved::Starting)]);
    }

    #[test]
    fn a_second_gateway_is_kept_out_with_a_word_about_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).unwrap();
        let error = Store::open(dir.path()).err().unwrap();
        assert!(matches!(&error, RuntimeError::Refused(_)), "{error}");
        let me = format!("process {}", std::process::id());
        assert!(error.to_string().contains(&me), "{error}");
        drop(first);
        Store::open(dir.path()).unwrap();
    }

    #[test]
    fn a_long_log_is_put_aside_under_the_hands_of_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.add(&identity("one")).unwrap();
        let mut writer = store.log("one").unwrap();
        writer
            .write_all(&vec![b'.'; LOG_BYTES_MAX as usize])
            .unwrap();
        store.trim_log("one").unwrap();
        let folder = dir.path().join("one");
        assert!(!folder.join(LOG_OLD).exists(), "it is not yet too long");

        writer.write_all(b"the last line\n").unwrap();
        store.trim_log("one").unwrap();
        writer.write_all(b"a new line\n").unwrap();
        let text = |name| fs::read_to_string(folder.join(name)).unwrap();
        let mut read = Vec::new();
        store
            .read_log("one", |bytes| read.extend_from_slice(bytes))
            .unwrap();
        assert_eq!(read.len(), LOG_BYTES_MAX as usize + "a new line\n".len());
        assert!(read.ends_with(b".the last line\na new line\n"));
        assert_eq!(text(LOG), "a new line\n");
        assert_eq!(text(LOG_OLD).len() as u64, LOG_BYTES_MAX);
        assert!(text(LOG_OLD).ends_with("the last line\n"));
    }
}
