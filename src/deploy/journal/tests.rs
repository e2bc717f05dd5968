//! What a journal keeps, and what it makes of files that are not its own.

use super::*;
use crate::deploy::records::ChangeKind;
use crate::names::ReleaseHash;

fn change(revision: &str, at: &str) -> (CurrentDocument, HistoryEntry) {
    let entry = HistoryEntry {
        revision: revision.to_owned(),
        hash: ReleaseHash::of(revision.as_bytes()),
        at: at.to_owned(),
        by: "somebody".to_owned(),
        kind: ChangeKind::Switch,
    };
    (CurrentDocument::from(&entry), entry)
}

fn noted(unwritten: &[(&str, &str)]) -> Noted {
    let unwritten: Vec<_> = unwritten
        .iter()
        .map(|(name, at)| change(name, at))
        .collect();
    Noted {
        current: unwritten.last().map(|(document, _)| document.clone()),
        before: Tally {
            requests: 7,
            failures: 2,
        },
        history: unwritten.iter().map(|(_, entry)| entry.clone()).collect(),
        is_history_whole: true,
        unwritten,
        in_maintenance: true,
    }
}

#[test]
fn what_was_written_is_read_again_by_the_next_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not/there/yet/shop.json");
    assert_eq!(Journal::new(&path).read().unwrap(), Noted::default());
    let noted = noted(&[("one", "2026-01-01T00:00:00Z")]);
    Journal::new(&path).write(|| noted.clone()).unwrap();
    assert_eq!(Journal::new(&path).read().unwrap(), noted);
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_file_that_is_not_whole_is_an_error_and_can_be_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.json");
    fs::write(&path, "{\"current\": {\"hash").unwrap();
    let journal = Journal::new(&path);
    journal.read().unwrap_err();
    journal.write(Noted::default).unwrap();
    assert_eq!(journal.read().unwrap(), Noted::default());
}

#[test]
fn a_disk_that_does_not_take_it_is_told_and_tried_again_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let journal = Journal::new(&file.join("shop.json"));
    journal.write(Noted::default).unwrap_err();
    fs::remove_file(&file).unwrap();
    journal.write(Noted::default).unwrap();
    assert_eq!(journal.read().unwrap(), Noted::default());
}

#[test]
fn only_a_switch_later_than_the_stores_is_missing_in_it() {
    let half_past = "2026-01-01T00:00:00.5Z";
    let at = |at| change("one", at).0;
    assert!(is_later(&at(half_past), None));
    for older in ["2026-01-01T00:00:00Z", "2025-12-31T23:59:59.999Z", ""] {
        assert!(is_later(&at(half_past), Some(&at(older))), "{older}");
        assert!(!is_later(&at(older), Some(&at(half_past))), "{older}");
    }
    assert!(!is_later(&at(half_past), Some(&at(half_past))));
    assert!(!is_later(&at(""), Some(&at(""))));
}

#[test]
fn what_is_amended_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.json");
    let close = |noted: &mut Noted| noted.in_maintenance = true;
    let open = |noted: &mut Noted| noted.in_maintenance = false;
    // Nothing to remember makes no file.
    Journal::new(&path).amend(open).unwrap();
    assert!(!path.exists());
    let before = Noted {
        in_maintenance: false,
        ..noted(&[("one", "2026-01-01T00:00:00Z")])
    };
    Journal::new(&path).write(|| before.clone()).unwrap();
    let next = Journal::new(&path);
    next.amend(close).unwrap();
    let closed = Noted {
        in_maintenance: true,
        ..before.clone()
    };
    assert_eq!(Journal::new(&path).read().unwrap(), closed);
    next.amend(open).unwrap();
    assert_eq!(Journal::new(&path).read().unwrap(), before);
    fs::write(&path, "{").unwrap();
    Journal::new(&path).amend(close).unwrap();
    assert!(Journal::new(&path).read().unwrap().in_maintenance);
}
