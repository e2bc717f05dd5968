//! What every store does alike, whoever keeps its bytes.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use wakegate::names::ReleaseHash;
use wakegate::store::{DOCUMENT_BYTES_MAX, Recorded, Store, StoreError};

use crate::Run;
use crate::processes;
use crate::subject::{Bench, current, entry, hash, revisions};

pub struct Behaviour {
    pub name: &'static str,
    pub run: Run<Bench>,
    /// Whether it needs nobody to look from the other side.
    pub is_for_memory: bool,
}

macro_rules! behaviours {
    ($($name:ident $(($memory:ident))?),* $(,)?) => {
        pub const ALL: &[Behaviour] = &[$(Behaviour {
            name: stringify!($name),
            run: |bench| Box::pin($name(bench)),
            is_for_memory: stringify!($($memory)?).len() > 0,
        }),*];
    };
}

behaviours! {
    an_empty_store_has_nothing_and_is_well(memory),
    a_configuration_is_stored_once_under_its_sha_256,
    a_configuration_comes_back_whole(memory),
    a_configuration_with_other_bytes_than_its_name_says_is_not_given_out,
    a_damaged_configuration_is_replaced_when_it_is_stored_again,
    a_document_that_is_too_large_is_neither_read_nor_written,
    current_is_written_as_json_and_read_as_older_tools_wrote_it,
    a_broken_current_is_told_and_replaced_by_the_next_switch,
    the_history_keeps_the_last_fifty(memory),
    a_switch_is_recorded_once_however_often_it_is_tried(memory),
    a_switch_that_was_recorded_by_half_is_completed,
    a_repeated_record_writes_nothing,
    going_to_and_fro_within_a_second_is_all_in_the_history(memory),
    a_broken_history_is_told_kept_aside_and_begun_anew,
    entries_of_gateways_that_write_at_once_are_all_kept(memory),
    entries_of_processes_that_write_at_once_are_all_kept,
    the_newest_entry_of_racing_switches_is_the_current_release(memory),
    a_broken_history_that_several_find_is_kept_once_and_no_entry_lost,
    an_artefact_is_streamed_with_its_length,
}

async fn an_empty_store_has_nothing_and_is_well(bench: Bench) {
    let store = bench.store().await;
    store.check().await.unwrap();
    assert_eq!(store.current().await.unwrap(), None);
    assert_eq!(store.history().await.unwrap(), []);
    let error = store.configuration(&hash(1)).await.unwrap_err();
    let StoreError::UnknownHash { hash: unknown, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*unknown, hash(1));
    assert!(error.to_string().contains(hash(1).as_str()), "{error}");
    let error = store.artefact("images/shop.tar").await.unwrap_err();
    assert!(
        matches!(error, StoreError::UnknownArtefact { .. }),
        "{error}"
    );
}

async fn a_configuration_is_stored_once_under_its_sha_256(bench: Bench) {
    let store = bench.store().await;
    let bytes = r#"{"image":"localhost:8080/shop:r1"}"#;
    let expected = format!("{:x}", Sha256::digest(bytes));
    let stored = store.put_configuration(bytes).await.unwrap();
    assert_eq!(stored.as_str(), expected);
    let key = format!("container.{expected}.json");
    assert_eq!(bench.text(&key).await, bytes);

    bench.mark(&key).await;
    let again = bench.store().await.put_configuration(bytes).await.unwrap();
    assert_eq!(again, stored);
    assert!(bench.is_marked(&key).await, "it was written again");
    assert_eq!(bench.keys().await, [key]);
}

async fn a_configuration_comes_back_whole(bench: Bench) {
    let store = bench.store().await;
    for bytes in [
        Bytes::new(),
        Bytes::from_static(b"\xff\x00 no JSON at all"),
        random(DOCUMENT_BYTES_MAX as usize),
    ] {
        let hash = store.put_configuration(bytes.clone()).await.unwrap();
        assert!(store.configuration(&hash).await.unwrap() == bytes);
    }
}

async fn a_configuration_with_other_bytes_than_its_name_says_is_not_given_out(bench: Bench) {
    let store = bench.store().await;
    // The MD5 of "hello", as older buckets name their configurations.
    let md5 = ReleaseHash::new("5d41402abc4b2a76b9719d911017c592").unwrap();
    let sha = ReleaseHash::new(&format!("{:x}", Sha256::digest("hello"))).unwrap();
    for hash in [md5, sha] {
        let key = format!("container.{hash}.json");
        bench.plant(&key, "hello").await;
        assert_eq!(store.configuration(&hash).await.unwrap(), "hello");
        bench.plant(&key, "hullo").await;
        let error = store.configuration(&hash).await.unwrap_err();
        let StoreError::HashMismatch {
            key: told, actual, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(*told, key);
        assert_eq!(actual.len(), hash.as_str().len());
        assert_ne!(actual, hash.as_str());
    }
}

async fn a_damaged_configuration_is_replaced_when_it_is_stored_again(bench: Bench) {
    let store = bench.store().await;
    let hash = store.put_configuration("{}").await.unwrap();
    let key = format!("container.{hash}.json");
    for damaged in [Bytes::from_static(b"{"), random(2 << 20)] {
        bench.plant(&key, damaged).await;
        store.configuration(&hash).await.unwrap_err();
        store.put_configuration("{}").await.unwrap();
        assert_eq!(bench.text(&key).await, "{}");
    }
}

async fn a_document_that_is_too_large_is_neither_read_nor_written(bench: Bench) {
    let store = bench.store().await;
    let large = random(DOCUMENT_BYTES_MAX as usize + 1);
    let error = store.put_configuration(large.clone()).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    assert_eq!(bench.keys().await, [""; 0]);
    for key in ["current.json", "history.json"] {
        bench.plant(key, large.clone()).await;
    }
    for error in [
        store.current().await.unwrap_err(),
        store.history().await.unwrap_err(),
        store.append(entry(1)).await.unwrap_err(),
    ] {
        let StoreError::TooLarge { bytes, max, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((*bytes, *max), (DOCUMENT_BYTES_MAX + 1, DOCUMENT_BYTES_MAX));
    }
    assert!(bench.bytes("history.json").await.unwrap() == large);
}

async fn current_is_written_as_json_and_read_as_older_tools_wrote_it(bench: Bench) {
    let store = bench.store().await;
    store.set_current(current(7)).await.unwrap();
    let written: Value = serde_json::from_str(&bench.text("current.json").await).unwrap();
    let expected = json!({
        "hash": hash(7), "revision": "r7", "at": "2026-01-01T00:00:07Z", "by": "ada",
        "kind": "switch",
    });
    assert_eq!(written, expected);
    assert_eq!(bench.keys().await, ["current.json"]);
    for text in [
        format!("\"{}\"", hash(8)),
        format!("{{\"Hash\":\"{}\",\"Revision\":\"\",\"new\":[]}}", hash(8)),
    ] {
        bench.plant("current.json", text).await;
        let read = store.current().await.unwrap().unwrap();
        assert_eq!(read.hash, hash(8));
    }
}

async fn a_broken_current_is_told_and_replaced_by_the_next_switch(bench: Bench) {
    let store = bench.store().await;
    bench.plant("current.json", "{\"hash\":").await;
    // It answers: that is all that is asked of it.
    store.check().await.unwrap();
    let error = store.current().await.unwrap_err();
    let StoreError::Malformed { key, reason, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(key, "current.json");
    assert!(reason.contains("EOF"), "{reason}");
    store
        .record(Recorded::new(current(1), entry(1)))
        .await
        .unwrap();
    assert_eq!(store.current().await.unwrap(), Some(current(1)));
}

async fn the_history_keeps_the_last_fifty(bench: Bench) {
    let store = bench.store().await;
    for n in 1..=53 {
        store.append(entry(n)).await.unwrap();
    }
    let history = bench.store().await.history().await.unwrap();
    let expected: Vec<_> = (4..=53).map(entry).collect();
    assert_eq!(history, expected);
}

async fn a_switch_is_recorded_once_however_often_it_is_tried(bench: Bench) {
    let store = bench.store().await;
    store
        .record(Recorded::new(current(1), entry(1)))
        .await
        .unwrap();
    for _ in 0..3 {
        store
            .record(Recorded::new(current(2), entry(2)))
            .await
            .unwrap();
        store.append(entry(2)).await.unwrap();
    }
    assert_eq!(store.current().await.unwrap(), Some(current(2)));
    let history = store.history().await.unwrap();
    assert_eq!(history, [entry(1), entry(2)]);
}

async fn a_switch_that_was_recorded_by_half_is_completed(bench: Bench) {
    // As a gateway leaves it that is killed between the two writes.
    let store = bench.store().await;
    store
        .record(Recorded::new(current(1), entry(1)))
        .await
        .unwrap();
    bench.plant("current.json", current(2).to_bytes()).await;
    bench.mark("current.json").await;
    store
        .record(Recorded::new(current(2), entry(2)))
        .await
        .unwrap();
    assert!(
        bench.is_marked("current.json").await,
        "it was written again"
    );
    let history = store.history().await.unwrap();
    assert_eq!(history, [entry(1), entry(2)]);
    assert_eq!(bench.keys().await, ["current.json", "history.json"]);
}

async fn a_repeated_record_writes_nothing(bench: Bench) {
    let store = bench.store().await;
    store
        .record(Recorded::new(current(1), entry(1)))
        .await
        .unwrap();
    for key in ["current.json", "history.json"] {
        bench.mark(key).await;
    }
    store
        .record(Recorded::new(current(1), entry(1)))
        .await
        .unwrap();
    for key in ["current.json", "history.json"] {
        assert!(bench.is_marked(key).await, "{key} was written again");
    }
}

async fn going_to_and_fro_within_a_second_is_all_in_the_history(bench: Bench) {
    let store = bench.store().await;
    for n in [1, 2, 1, 2] {
        let (mut current, mut entry) = (current(n), entry(n));
        current.at = "2026-01-01T00:00:00Z".to_owned();
        entry.at = current.at.clone();
        store.record(Recorded::new(current, entry)).await.unwrap();
    }
    let history = store.history().await.unwrap();
    assert_eq!(revisions(&history), ["r1", "r2", "r1", "r2"]);
}

async fn a_broken_history_is_told_kept_aside_and_begun_anew(bench: Bench) {
    let store = bench.store().await;
    let broken = "[{\"hash\":\"half a";
    bench.plant("history.json", broken).await;
    let error = store.history().await.unwrap_err();
    assert!(matches!(&error, StoreError::Malformed { key, .. } if key == "history.json"));
    assert!(error.to_string().contains("history.json"), "{error}");

    store
        .record(Recorded::new(current(1), entry(1)))
        .await
        .unwrap();
    store
        .record(Recorded::new(current(2), entry(2)))
        .await
        .unwrap();
    assert_eq!(store.history().await.unwrap(), [entry(1), entry(2)]);
    let keys = bench.keys().await;
    let [current, aside, history] = &keys[..] else {
        panic!("{keys:?}");
    };
    assert_eq!(
        (current.as_str(), history.as_str()),
        ("current.json", "history.json")
    );
    assert!(aside.starts_with("history.broken-20"), "{aside}");
    assert_eq!(bench.text(aside).await, broken);
}

async fn entries_of_gateways_that_write_at_once_are_all_kept(bench: Bench) {
    let mut writers = JoinSet::new();
    // 48 entries, so that all must be there in the end.
    for gateway in 0..4 {
        let store = bench.patient_store().await;
        writers.spawn(async move {
            // Half of them one after the other, half of them at once.
            for n in 0..6 {
                store.append(entry(gateway * 12 + n)).await.unwrap();
            }
            let mut at_once = JoinSet::new();
            for n in 6..12 {
                let store = store.clone();
                at_once.spawn(async move { store.append(entry(gateway * 12 + n)).await.unwrap() });
            }
            at_once.join_all().await;
        });
    }
    writers.join_all().await;
    assert_all_there(&bench.store().await, 48).await;
}

async fn entries_of_processes_that_write_at_once_are_all_kept(bench: Bench) {
    bench.store().await;
    let writers: Vec<_> = (0..4)
        .map(|process| processes::append(&bench, process * 12, 12))
        .collect();
    for writer in writers {
        let written = tokio::task::spawn_blocking(|| writer.wait_with_output().unwrap());
        let written = written.await.unwrap();
        assert!(written.status.success(), "{written:?}");
    }
    assert_all_there(&bench.store().await, 48).await;
    assert_eq!(bench.keys().await, ["history.json"]);
}

async fn assert_all_there(store: &Store, count: u32) {
    let history = store.history().await.unwrap();
    let there: BTreeSet<String> = revisions(&history).into_iter().collect();
    let expected: BTreeSet<String> = (0..count).map(|n| format!("r{n}")).collect();
    assert_eq!(there, expected);
    assert_eq!(history.len(), count as usize, "one is there twice");
}

async fn the_newest_entry_of_racing_switches_is_the_current_release(bench: Bench) {
    for round in 0..5 {
        let mut gateways = JoinSet::new();
        for gateway in 0..4 {
            let store = bench.patient_store().await;
            let n = round * 4 + gateway;
            gateways.spawn(async move {
                store
                    .record(Recorded::new(current(n), entry(n)))
                    .await
                    .unwrap();
            });
        }
        gateways.join_all().await;
        let store = bench.store().await;
        let history = store.history().await.unwrap();
        let current = store.current().await.unwrap().unwrap();
        assert_eq!(history.last().unwrap().hash, current.hash);
        assert_eq!(history.len() as u32, (round + 1) * 4);
    }
    assert_all_there(&bench.store().await, 20).await;
}

async fn a_broken_history_that_several_find_is_kept_once_and_no_entry_lost(bench: Bench) {
    let stores = [
        bench.patient_store().await,
        bench.patient_store().await,
        bench.patient_store().await,
    ];
    bench.plant("history.json", "broken").await;
    let mut gateways = JoinSet::new();
    for (n, store) in (0..).zip(stores) {
        gateways.spawn(async move { store.append(entry(n)).await.unwrap() });
    }
    gateways.join_all().await;
    assert_all_there(&bench.store().await, 3).await;
    let aside = bench.keys().await;
    let aside = aside
        .iter()
        .filter(|key| key.starts_with("history.broken-"));
    // One name a second: each of the three gateways may have found it in another one.
    let aside: Vec<&String> = aside.collect();
    assert!((1..=3).contains(&aside.len()), "{aside:?}");
    for key in aside {
        assert_eq!(bench.text(key).await, "broken");
    }
}

async fn an_artefact_is_streamed_with_its_length(bench: Bench) {
    let store = bench.store().await;
    let archive = random(5 << 20);
    bench.plant("images/shop r1.tar", archive.clone()).await;
    let artefact = store.artefact("images/shop r1.tar").await.unwrap();
    assert_eq!(artefact.length, archive.len() as u64);
    let parts: Vec<Bytes> = artefact.bytes.try_collect().await.unwrap();
    assert!(parts.len() > 1, "it came in one piece");
    let mut whole = BytesMut::new();
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    assert!(whole == archive);
}

fn random(length: usize) -> Bytes {
    let mut random = fastrand::Rng::new();
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}
