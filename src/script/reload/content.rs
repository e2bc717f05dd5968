//! What a scripts directory holds: a cheap look at its files, and a digest over their bytes.

use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::script::load::{FILE_BYTES_MAX, LIBRARY};

/// Folders below each other that are looked at: links may lead in a circle.
const DEPTH_MAX: usize = 16;

/// Files that are looked at.
const FILES_MAX: usize = 10_000;

/// Every file that may matter, as the file system lists it. Links are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    directory: Result<Stamp, ErrorKind>,
    files: Vec<(PathBuf, Stamp)>,
}

/// What a change of a file changes as a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// SHA-256 over names and contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Listing {
    pub fn of(dir: &Path) -> Self {
        let directory = fs::metadata(dir)
            .map(|metadata| Stamp::from(&metadata))
            .map_err(|error| error.kind());
        let mut files = Vec::new();
        scripts_of(dir, 0, false, &mut files);
        scripts_of(&dir.join(LIBRARY), 0, true, &mut files);
        files.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self { directory, files }
    }

    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Reads everything. What cannot be read is content too: that of a file that cannot be read.
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        let mut add = |part: &[u8]| {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        };
        if let Err(kind) = &self.directory {
            add(kind.to_string().as_bytes());
        }
        for (path, _) in &self.files {
            add(path.as_os_str().as_encoded_bytes());
            match read(path) {
                Ok(bytes) => add(&bytes),
                Err(kind) => add(kind.to_string().as_bytes()),
            }
        }
        Digest(hasher.finalize().into())
    }
}

fn scripts_of(folder: &Path, depth: usize, below: bool, into: &mut Vec<(PathBuf, Stamp)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_script = path.extension().is_some_and(|end| end == "rhai");
        if !is_script && !below {
            continue;
        }
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() && below && depth < DEPTH_MAX {
            scripts_of(&path, depth + 1, below, into);
        } else if metadata.is_file() && is_script && into.len() < FILES_MAX {
            into.push((path, Stamp::from(&metadata)));
        }
    }
}

/// A file that is too long to be a script is refused for its length: its beginning will do.
fn read(path: &Path) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| error.kind())?;
    Ok(bytes)
}
