//! Which version serves after a change, a refusal, a rollback.

use std::time::Duration;

use super::*;

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn good(number: u64, hash: &str) -> Good<()> {
    Good {
        number,
        hash: hash.to_owned(),
        loaded_at: at(number),
        version: (),
        trial: Trial::default(),
    }
}

/// A ledger that took these contents one after the other.
fn ledger(hashes: &[&str]) -> Ledger<()> {
    let mut ledger = Ledger::new(good(1, hashes[0]));
    for hash in &hashes[1..] {
        let number = ledger.next_number();
        assert_eq!(ledger.take(good(number, hash), false), Taken::Serves);
    }
    ledger
}

fn refused() -> Refused {
    Refused {
        at: at(99),
        errors: Vec::new(),
    }
}

#[test]
fn new_content_serves_under_the_next_number() {
    let ledger = ledger(&["a", "b", "a"]);
    assert_eq!((ledger.serving.number, ledger.newest), (3, 3));
    assert_eq!(ledger.since, at(3));
    assert_eq!(ledger.next_number(), 4);
}

#[test]
fn content_that_serves_already_changes_nothing() {
    let mut ledger = ledger(&["a", "b"]);
    assert_eq!(ledger.take(good(3, "b"), false), Taken::Known);
    assert_eq!((ledger.serving.number, ledger.since), (2, at(2)));
    assert_eq!(ledger.next_number(), 3);
}

#[test]
fn refused_content_changes_nothing_but_what_is_told_until_it_is_good_again() {
    let mut ledger = ledger(&["a", "b"]);
    ledger.refuse(refused());
    assert_eq!(ledger.serving.number, 2);
    assert!(ledger.refused.is_some());
    assert_eq!(ledger.take(good(3, "b"), false), Taken::Known);
    assert_eq!(ledger.refused, None);

    ledger.refuse(refused());
    assert_eq!(ledger.take(good(3, "c"), false), Taken::Serves);
    assert_eq!(ledger.refused, None);
}

#[test]
fn a_rollback_goes_one_version_back_each_time() {
    let mut ledger = ledger(&["a", "b", "c"]);
    ledger.roll_back(None, at(10)).unwrap();
    assert_eq!((ledger.serving.number, ledger.since), (2, at(10)));
    ledger.roll_back(None, at(11)).unwrap();
    assert_eq!(ledger.serving.number, 1);
    let error = ledger.roll_back(None, at(12)).unwrap_err();
    assert_eq!(error, RollbackError::NoneBefore { serving: 1 });
    assert_eq!((ledger.serving.number, ledger.since), (1, at(11)));
}

#[test]
fn a_rollback_holds_while_the_content_stays_what_was_rolled_back_from() {
    let mut ledger = ledger(&["a", "b"]);
    ledger.roll_back(None, at(10)).unwrap();
    ledger.refuse(refused());
    assert_eq!(ledger.take(good(3, "b"), false), Taken::Known);
    assert_eq!((ledger.serving.number, ledger.newest), (1, 2));
}

#[test]
fn new_content_ends_a_rollback() {
    let mut ledger = ledger(&["a", "b"]);
    ledger.roll_back(None, at(10)).unwrap();
    assert_eq!(ledger.take(good(3, "c"), false), Taken::Serves);
    assert_eq!((ledger.serving.number, ledger.newest), (3, 3));
    // The one before is the one that was rolled back from.
    ledger.roll_back(None, at(11)).unwrap();
    assert_eq!(ledger.serving.number, 2);
}

#[test]
fn content_like_the_version_rolled_back_to_ends_the_rollback_without_another_version() {
    let mut ledger = ledger(&["a", "b"]);
    ledger.roll_back(Some(1), at(10)).unwrap();
    assert_eq!(ledger.take(good(3, "a"), false), Taken::Known);
    assert_eq!((ledger.serving.number, ledger.newest), (1, 1));
    ledger.activate(at(11));
    assert_eq!((ledger.serving.number, ledger.since), (1, at(10)));
    // And what was rolled back from is new content then.
    assert_eq!(ledger.take(good(3, "b"), false), Taken::Serves);
}

#[test]
fn activating_takes_the_newest_again() {
    let mut ledger = ledger(&["a", "b", "c"]);
    ledger.roll_back(Some(1), at(10)).unwrap();
    ledger.activate(at(11));
    assert_eq!((ledger.serving.number, ledger.since), (3, at(11)));
    ledger.activate(at(12));
    assert_eq!((ledger.serving.number, ledger.since), (3, at(11)));
}

#[test]
fn five_versions_are_kept_besides_the_newest() {
    let mut ledger = ledger(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    let error = ledger.roll_back(Some(2), at(10)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "version 2 is not kept (kept: 3, 4, 5, 6, 7, 8)"
    );
    ledger.roll_back(Some(3), at(10)).unwrap();
    assert_eq!(ledger.serving.hash, "c");
}

#[test]
fn held_content_serves_when_it_is_activated() {
    let mut ledger = ledger(&["a"]);
    assert_eq!(ledger.take(good(2, "b"), true), Taken::Held);
    assert_eq!((ledger.serving.number, ledger.newest), (1, 1));
    assert_eq!(ledger.next_number(), 3);
    // The same content again is the same wish.
    assert_eq!(ledger.take(good(3, "b"), true), Taken::Known);
    ledger.activate(at(10));
    assert_eq!((ledger.serving.number, ledger.since), (2, at(10)));
    assert_eq!((ledger.newest, ledger.held), (2, None));
}

#[test]
fn what_is_held_gives_way_to_whatever_comes_next() {
    let held = || {
        let mut ledger = ledger(&["a"]);
        assert_eq!(ledger.take(good(2, "b"), true), Taken::Held);
        ledger
    };
    let mut ledger = held();
    assert_eq!(ledger.take(good(3, "c"), true), Taken::Held);
    assert_eq!(ledger.held.as_ref().map(|held| held.number), Some(3));
    let mut ledger = held();
    assert_eq!(ledger.take(good(3, "c"), false), Taken::Serves);
    assert_eq!((ledger.serving.number, ledger.held), (3, None));
    let mut ledger = held();
    assert_eq!(ledger.take(good(3, "a"), true), Taken::Known);
    assert_eq!((ledger.serving.number, ledger.held), (1, None));
    let mut ledger = held();
    ledger.refuse(refused());
    assert_eq!(ledger.held, None);
    ledger.activate(at(10));
    assert_eq!(ledger.serving.number, 1);
}

#[test]
fn content_like_the_newest_takes_the_place_of_what_is_held_during_a_rollback() {
    let mut ledger = ledger(&["a", "b"]);
    ledger.roll_back(None, at(10)).unwrap();
    assert_eq!(ledger.take(good(3, "c"), true), Taken::Held);
    assert_eq!(ledger.take(good(4, "b"), true), Taken::Known);
    assert_eq!((ledger.serving.number, ledger.held.is_none()), (1, true));
    ledger.activate(at(11));
    assert_eq!(ledger.serving.number, 2);
}
