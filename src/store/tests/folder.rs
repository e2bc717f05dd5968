//! Folders: the lock, what killed gateways leave, and disks that refuse.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{FlockOperation, flock};

use super::*;
use crate::store::error::Place;

#[tokio::test]
async fn a_folder_is_made_by_the_first_write_and_open_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/store");
    let store = folder(&path);
    store.check().await.unwrap();
    assert_eq!(store.current().await.unwrap(), None);
    assert_eq!(store.history().await.unwrap(), []);
    assert!(!path.exists(), "reading makes nothing");
    store.put_configuration("{}").await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join(".lock")), 0o600);
    assert_eq!(store.describe(), format!("file:{}", path.display()));
}

#[tokio::test]
async fn a_lock_that_another_process_holds_is_waited_for_and_then_told() {
    let dir = tempfile::tempdir().unwrap();
    let lock = fs::File::create(dir.path().join(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let impatient = folder_with_limits(dir.path(), SHORT);
    let error = impatient.append(entry(1)).await.unwrap_err();
    assert_eq!(variant(&error), "Unreachable", "{error}");
    assert!(error.to_string().contains(".lock"), "{error}");
    assert!(!dir.path().join("history.json").exists());
    let store = folder(dir.path());
    // Reading needs no turn; when the other one lets go, the next one writes.
    assert_eq!(store.history().await.unwrap(), []);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.append(entry(2)).await }
    });
    drop(lock);
    waiting.await.unwrap().unwrap();
    assert_eq!(revisions(&store.history().await.unwrap()), ["r2"]);
}

#[tokio::test]
async fn a_lock_file_that_someone_removed_excludes_nobody_from_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    store.append(entry(1)).await.unwrap();
    fs::remove_file(dir.path().join(".lock")).unwrap();
    store.append(entry(2)).await.unwrap();
    let other = folder(dir.path());
    other.append(entry(3)).await.unwrap();
    let history = store.history().await.unwrap();
    assert_eq!(revisions(&history), ["r1", "r2", "r3"]);
}

#[tokio::test]
async fn what_a_killed_gateway_left_half_written_is_removed_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "current.json#1",
        "container.0123.json#2",
        "shop.tar#1",
        "notes",
    ] {
        fs::write(dir.path().join(name), "{\"hash\":").unwrap();
    }
    folder(dir.path()).set_current(current(1)).await.unwrap();
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".lock", "current.json", "notes", "shop.tar#1"]);
}

#[tokio::test]
async fn a_write_goes_on_to_its_end_when_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    // On a slow disk the last of thirty has to wait for its turn.
    let limits = StoreLimits {
        operation: Duration::from_secs(120),
        lock: Duration::from_secs(120),
        ..StoreLimits::default()
    };
    let store = folder_with_limits(dir.path(), limits);
    // Each call is given up at once, wherever it is; none may have let go of the lock meanwhile.
    for n in 1..30 {
        let write = store.append(entry(n));
        let _ = tokio::time::timeout(Duration::from_micros(u64::from(n) * 50), write).await;
    }
    store.append(entry(30)).await.unwrap();
    let history = store.history().await.unwrap();
    assert_eq!(history.len(), 30, "{:?}", revisions(&history));
    assert_eq!(history.last(), Some(&entry(30)));
}

#[tokio::test]
async fn a_disk_that_refuses_is_told_as_such() {
    // The kernel's own folder takes no files, from nobody.
    let store = folder(Path::new("/sys/wakegate-store"));
    let error = store.set_current(current(1)).await.unwrap_err();
    assert_eq!(variant(&error), "Denied", "{error}");
    assert!(error.to_string().contains("/sys/wakegate-store"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let store = folder(&dir.path().join("file/store"));
    let error = store.set_current(current(1)).await.unwrap_err();
    assert_eq!(variant(&error), "Other", "{error}");
}

#[test]
fn errors_of_the_disk_are_told_by_what_can_be_done() {
    let place = Place::memory();
    let doing = "writing current.json".into();
    for (kind, expected) in [
        (io::ErrorKind::StorageFull, Some("Full")),
        (io::ErrorKind::QuotaExceeded, Some("Full")),
        (io::ErrorKind::PermissionDenied, Some("Denied")),
        (io::ErrorKind::ReadOnlyFilesystem, Some("Denied")),
        (io::ErrorKind::StaleNetworkFileHandle, Some("Unreachable")),
        (io::ErrorKind::IsADirectory, None),
    ] {
        let error = place.io(&doing, &io::Error::from(kind));
        assert_eq!(error.as_ref().map(variant).as_deref(), expected, "{kind:?}");
    }
    let full = place
        .io(&doing, &io::ErrorKind::StorageFull.into())
        .unwrap();
    assert_eq!(
        full.to_string(),
        "the disk of the store in memory is full (writing current.json)"
    );
}

#[tokio::test]
async fn a_late_switch_does_not_take_the_place_of_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(
        &StoreLocation::File(folder.path().join("store")),
        &StoreOptions::default(),
        |_| None,
    )
    .unwrap();
    let at = |n: u32| {
        let at = format!("2026-01-01T00:00:0{n}Z");
        let mut entry = entry(n);
        entry.at = at;
        (CurrentDocument::from(&entry), entry)
    };
    let record = |n, is_late| {
        let (current, entry) = at(n);
        store.record(Recorded {
            is_late,
            ..Recorded::new(current, entry)
        })
    };
    assert!(record(1, false).await.unwrap());
    assert!(record(3, false).await.unwrap());
    assert!(!record(2, true).await.unwrap());
    // It can be repeated.
    assert!(!record(2, true).await.unwrap());
    assert_eq!(store.current().await.unwrap(), Some(at(3).0));
    assert_eq!(
        revisions(&store.history().await.unwrap()),
        ["r1", "r2", "r3"]
    );
    assert!(record(4, true).await.unwrap());
    assert_eq!(store.current().await.unwrap(), Some(at(4).0));
    // A clock that goes after others' is no reason: it was made just now.
    assert!(record(2, false).await.unwrap());
    assert_eq!(store.current().await.unwrap(), Some(at(2).0));
}

#[tokio::test]
async fn a_history_that_is_lost_or_broken_begins_with_what_is_known() {
    for content in [None, Some("[{\"half")] {
        let folder = tempfile::tempdir().unwrap();
        let location = StoreLocation::File(folder.path().to_owned());
        let store = Store::open(&location, &StoreOptions::default(), |_| None).unwrap();
        if let Some(content) = content {
            std::fs::write(folder.path().join("history.json"), content).unwrap();
        }
        let switch = Recorded {
            known: vec![entry(1), entry(2)],
            ..Recorded::new(current(3), entry(3))
        };
        store.record(switch.clone()).await.unwrap();
        assert_eq!(
            revisions(&store.history().await.unwrap()),
            ["r1", "r2", "r3"]
        );
        store.record(switch).await.unwrap();
        assert_eq!(store.history().await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn whether_it_can_be_written_is_tried_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| {
        let location = StoreLocation::File(folder.path().join(path));
        Store::open(&location, &StoreOptions::default(), |_| None).unwrap()
    };
    at("").can_be_written().await.unwrap();
    at("not/there").can_be_written().await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    std::fs::write(folder.path().join("file"), "").unwrap();
    at("file").can_be_written().await.unwrap_err();
}
