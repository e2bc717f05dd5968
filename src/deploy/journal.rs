//! What one gateway has to remember of an application, whatever becomes of it or of the store.
//!
//! A store may be away when a switch is made and when the gateway starts again. Then this file, on the
//! gateway's own disk, is all that tells which of the containers was the current release. That an
//! application is in maintenance here is no matter of the store's at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::deploy::plan::Tally;
use crate::deploy::records::{CurrentDocument, HistoryEntry};

#[cfg(test)]
mod tests;

/// A file that is larger is none of ours.
const BYTES_MAX: u64 = 1 << 20;

/// The content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Noted {
    /// What was switched to last.
    pub current: Option<CurrentDocument>,
    /// How the release before it did until then.
    #[serde(default)]
    pub before: Tally,
    /// The changes of the current release, as far as they are known, oldest first.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// Nothing that a store had of it is missing.
    #[serde(default)]
    pub is_history_whole: bool,
    /// Switches that the store has not taken, oldest first.
    #[serde(default)]
    pub unwritten: Vec<(CurrentDocument, HistoryEntry)>,
    /// Nobody has ended its maintenance.
    #[serde(default)]
    pub in_maintenance: bool,
}

impl Noted {
    /// The changes that a store has had.
    pub fn stored(&self) -> Vec<HistoryEntry> {
        let is_unwritten = |entry: &&HistoryEntry| {
            let mut unwritten = self.unwritten.iter();
            unwritten.any(|(_, other)| other == *entry)
        };
        let stored = self.history.iter().filter(|entry| !is_unwritten(entry));
        stored.cloned().collect()
    }

    /// Whether the history that is noted is whole and leads up to what a store has as current.
    pub fn tells_of(&self, stored: Option<&CurrentDocument>) -> bool {
        let last = self.stored().pop().filter(|_| self.is_history_whole);
        stored.is_some_and(|stored| last.is_some_and(|last| stored.change() == last))
    }
}

/// Whether a switch of this gateway's is later than what the store's `current.json` tells of.
pub fn is_later(switch: &CurrentDocument, stored: Option<&CurrentDocument>) -> bool {
    stored.is_none_or(|stored| stored.since() < switch.since())
}

/// The file of one application.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// What it was told last, so that an older writer does not undo it.
    turn: Mutex<Option<Noted>>,
}

impl Journal {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            turn: Mutex::new(None),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Nothing, when there is no file.
    ///
    /// # Errors
    /// It cannot be read, or is not what [`Journal::write`] wrote.
    pub fn read(&self) -> io::Result<Noted> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Noted::default()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Writes it whole and sees it on the disk; makes the folder when it is not there. `now` tells what
    /// is to be written when the turn has come, so that the last writer writes the last state.
    ///
    /// # Errors
    /// The disk does not take it. The file is as it was.
    pub fn write(&self, now: impl FnOnce() -> Noted) -> io::Result<()> {
        let mut written = self.turn.lock();
        let noted = now();
        if written.as_ref() == Some(&noted) {
            return Ok(());
        }
        self.put(&noted)?;
        *written = Some(noted);
        Ok(())
    }

    /// Changes what is there, also when the one who calls does not know all of it. A file that cannot be
    /// read counts as none. Otherwise as [`Journal::write`].
    pub fn amend(&self, change: impl FnOnce(&mut Noted)) -> io::Result<()> {
        let mut written = self.turn.lock();
        let before = written.clone().or_else(|| self.read().ok());
        let mut noted = before.clone().unwrap_or_default();
        change(&mut noted);
        if before.as_ref() != Some(&noted) {
            self.put(&noted)?;
            *written = Some(noted);
        }
        Ok(())
    }

    fn put(&self, noted: &Noted) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let draft = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(noted)?)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        File::open(folder)?.sync_all()
    }
}
