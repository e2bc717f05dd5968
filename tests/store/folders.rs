//! What holds of folders alone: gateways that are killed while they write, disks that are full.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use wakegate::config::StoreLocation;
use wakegate::deploy::records::{CurrentDocument, History};
use wakegate::store::{Recorded, Store, StoreError};

use crate::processes::{self, Part, Role};
use crate::subject::{Bench, current, entry, hash, revisions};
use crate::{Run, named};

pub const TRIALS: &[(&str, Run<Bench>)] =
    named![a_gateway_that_is_killed_while_it_writes_leaves_whole_documents];

pub const ON_A_SMALL_DISK: &[(&str, Run<Bench>)] =
    named![a_full_disk_is_told_and_what_was_there_stays_whole];

async fn a_gateway_that_is_killed_while_it_writes_leaves_whole_documents(bench: Bench) {
    let mut recorded = Vec::new();
    for round in 0..12 {
        let role = Role {
            location: bench.location().to_string(),
            endpoint: None,
            part: Part::Switch { from: round * 1000 },
        };
        let mut gateway = processes::command(&role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(gateway.stdout.take().unwrap());
        let mut lines = said.lines().map_while(Result::ok);
        // It goes on writing while it is killed; how far it is differs from time to time.
        recorded.extend(lines.by_ref().take(1 + round as usize % 3));
        gateway.kill().unwrap();
        gateway.wait().unwrap();
        // What it said until then counts too.
        recorded.extend(lines);

        let read = |name: &str| fs::read(bench.folder().join(name)).unwrap();
        let current = CurrentDocument::parse(&read("current.json")).unwrap();
        let history = History::parse(&read("history.json")).unwrap();
        let newest = history.entries().last().unwrap();
        // Between its two writes only the last entry is missing.
        let number = |revision: &str| revision[1..].parse::<u32>().unwrap();
        let ahead = number(&current.revision) - number(&newest.revision);
        let is_first = number(&current.revision) == round * 1000;
        assert!(ahead <= 1 || is_first, "{current:?} {newest:?}");
        let there: BTreeSet<String> = revisions(history.entries()).into_iter().collect();
        let missing = recorded.iter().rev().take(40);
        let mut missing = missing.filter(|n| !there.contains(&format!("r{n}")));
        assert_eq!(missing.next(), None, "it was said to be recorded");
    }
    // The lock went with its holder, and what was half written is cleared away.
    let store = bench.store().await;
    store
        .record(Recorded::new(current(5), entry(5)))
        .await
        .unwrap();
    assert_eq!(bench.keys().await, ["current.json", "history.json"]);
}

/// Whether a small disk can be had here: in a namespace of its own, so that nothing of it stays.
pub fn small_disk() -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let tried = on_small_disk(folder.path(), Path::new("true")).output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

/// Runs a program with a disk of 256 KiB in the folder.
fn on_small_disk(folder: &Path, program: &Path) -> Command {
    let namespaces = match rustix::process::geteuid().is_root() {
        true => "-m",
        false => "-rm",
    };
    let mut command = Command::new("unshare");
    command
        .args([namespaces, "sh", "-ec"])
        .arg("mount -t tmpfs -o size=256k wakegate.test \"$0\"; exec \"$1\"")
        .args([folder, program]);
    command
}

async fn a_full_disk_is_told_and_what_was_there_stays_whole(bench: Bench) {
    let role = Role {
        location: bench.location().to_string(),
        endpoint: None,
        part: Part::Fill,
    };
    let mut command = on_small_disk(bench.folder(), &std::env::current_exe().unwrap());
    command.env(processes::ROLE, serde_json::to_string(&role).unwrap());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    let ended = ended.await.unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    assert_eq!(bench.keys().await, [""; 0], "the small disk was elsewhere");
}

/// In the process that has the small disk; looks at its files without the store.
pub async fn fill(store: &Store, location: &StoreLocation) {
    let StoreLocation::File(folder) = location else {
        panic!("{location}");
    };
    for n in 0..40 {
        store
            .record(Recorded::new(current(n), entry(n)))
            .await
            .unwrap();
    }
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let before = [read("current.json"), read("history.json")];
    assert!(before[1].len() > 4096, "it must be larger than a page");
    fill_up(&folder.join("filler"), 0);

    // No room for anything.
    let told = store.record(Recorded::new(current(40), entry(40))).await;
    assert_full(told, folder);
    let told = store.put_configuration("{}").await;
    assert_full(told, folder);
    assert_eq!([read("current.json"), read("history.json")], before);
    let expected = [".lock", "current.json", "filler", "history.json"];
    assert_eq!(names(folder), expected, "something half written stays");
    // The disk is full and not away: it can be read.
    store.check().await.unwrap();
    assert_eq!(store.current().await.unwrap(), Some(current(39)));

    // Room for current.json and not for the history.
    fs::remove_file(folder.join("filler")).unwrap();
    fill_up(&folder.join("filler"), 4096);
    let told = store.record(Recorded::new(current(40), entry(40))).await;
    assert_full(told, folder);
    assert_eq!(
        CurrentDocument::parse(&read("current.json")),
        Ok(current(40))
    );
    assert_eq!(read("history.json"), before[1]);
    assert_eq!(names(folder), expected);

    // Someone made room, and what is missing is done.
    fs::remove_file(folder.join("filler")).unwrap();
    store
        .record(Recorded::new(current(40), entry(40)))
        .await
        .unwrap();
    let history = History::parse(&read("history.json")).unwrap();
    let newest = history.entries().last();
    assert_eq!(newest.map(|entry| &entry.hash), Some(&hash(40)));
    assert_eq!(history.entries().len(), 41);
}

/// Writes until there is no room, then gives some back.
fn fill_up(path: &Path, room: u64) {
    let mut file = fs::File::create(path).unwrap();
    let error = loop {
        if let Err(error) = file.write_all(&[0; 4096]) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let length = file.metadata().unwrap().len();
    file.set_len(length - room).unwrap();
}

fn assert_full<T: std::fmt::Debug>(told: Result<T, StoreError>, folder: &Path) {
    let error = told.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    let message = error.to_string();
    let expected = format!("the disk of the store file:{} is full", folder.display());
    assert!(message.contains(&expected), "{message}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}
