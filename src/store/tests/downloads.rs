//! Artefacts from servers and disks that break off.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;

use super::server::{Reaction, Server, torn};
use super::*;
use crate::store::Artefact;

async fn whole(artefact: Artefact) -> Result<Bytes, StoreError> {
    let collected = artefact
        .bytes
        .try_fold(BytesMut::new(), |mut all, part| async move {
            all.extend_from_slice(&part);
            Ok(all)
        });
    collected.await.map(BytesMut::freeze)
}

fn archive(length: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}

#[tokio::test]
async fn a_download_that_breaks_off_is_taken_up_again_where_it_was() {
    let object = archive(300_000);
    for is_silent in [false, true] {
        let served = object.clone();
        let server = Server::new(move |asked| {
            let range = asked.headers().get("range");
            let from = range.map_or(0, |range| {
                let text = range.to_str().unwrap().trim_start_matches("bytes=");
                text.split('-').next().unwrap().parse().unwrap()
            });
            Reaction::Answer(torn(&served, from, 120_000, is_silent))
        })
        .await;
        // More than the server takes where the machine stalls: each silence is one request more.
        let limits = StoreLimits {
            answer: Duration::from_secs(2),
            ..StoreLimits::default()
        };
        let store = bucket_with_limits(&server.url, limits);
        let artefact = store.artefact("images/shop.tar").await.unwrap();
        assert_eq!(artefact.length, 300_000);
        assert!(whole(artefact).await.unwrap() == object);
        assert_eq!(server.asked(), ["GET /shop/releases/images/shop.tar"; 3]);
    }
}

#[tokio::test]
async fn a_download_that_never_gets_further_fails() {
    let object = archive(1000);
    let begun = AtomicU32::new(0);
    let server = Server::new(move |_| match begun.fetch_add(1, Ordering::Relaxed) {
        0 => Reaction::Answer(torn(&object, 0, 400, false)),
        _ => Reaction::HangUp,
    })
    .await;
    let artefact = bucket(&server.url).artefact("shop.tar").await.unwrap();
    let error = whole(artefact).await.unwrap_err();
    assert_eq!(variant(&error), "Unreachable", "{error}");
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_read_is_an_error_and_not_a_short_archive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.tar");
    for cut in [true, false] {
        std::fs::write(&path, archive(3 << 20)).unwrap();
        let artefact = folder(dir.path()).artefact("shop.tar").await.unwrap();
        assert_eq!(artefact.length, 3 << 20);
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        match cut {
            true => file.set_len(1000).unwrap(),
            false => file.write_all(b"more").unwrap(),
        }
        let error = whole(artefact).await.unwrap_err();
        assert!(error.to_string().contains("changed meanwhile"), "{error}");
    }
}

#[tokio::test]
async fn a_key_that_leads_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("outside"), "secret").unwrap();
    let store = folder(&dir.path().join("store"));
    for key in [
        "../outside",
        "/outside",
        "a/../../outside",
        "./shop.tar",
        "",
        "a//b",
        "a/",
        "a\0b",
        "a\nb",
        "a?b",
        &"x".repeat(1024),
    ] {
        let error = store.artefact(key).await.unwrap_err();
        assert_eq!(variant(&error), "Malformed", "{key:?}: {error}");
        assert!(error.to_string().len() < 400, "{error}");
    }
    let error = store.artefact("outside").await.unwrap_err();
    assert_eq!(variant(&error), "UnknownArtefact", "{error}");
}

#[tokio::test]
async fn keys_and_folders_with_odd_letters_are_taken_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("100% mine #1 [a]");
    let path = home.join("images/shop~1 {x}%20.tar");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "archive").unwrap();
    let store = folder(&home);
    let artefact = store.artefact("images/shop~1 {x}%20.tar").await.unwrap();
    assert_eq!(whole(artefact).await.unwrap(), "archive");
    store.set_current(current(1)).await.unwrap();
    assert!(home.join("current.json").is_file());
    // A folder that gateway.toml names from its own.
    let roundabout = dir.path().join("conf/../100% mine #1 [a]");
    let read = folder(&roundabout).current().await.unwrap();
    assert_eq!(read, Some(current(1)));
    // A folder is no archive.
    let error = store.artefact("images").await.unwrap_err();
    assert_eq!(variant(&error), "UnknownArtefact", "{error}");
}
