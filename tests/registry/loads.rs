//! Archives of images, as `docker save` writes them, and what is none.

use std::io;
use std::process::Stdio;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use libtest_mimic::Trial;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use wakegate::runtime::{Runtime, RuntimeError};

use crate::bench::{Bench, From, LIMIT, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an_archive_brings_its_images_with_their_names", names),
        trial("an_image_without_a_name_is_told_by_its_id", without_name),
        trial("a_broken_archive_is_refused_in_the_engines_words", broken),
        trial(
            "an_archive_that_cannot_be_read_on_brings_nothing",
            unreadable,
        ),
        trial("a_load_that_is_dropped_reads_no_further", dropped),
    ]
}

/// In parts, as an archive comes from a store.
fn parts(archive: Vec<u8>) -> BoxStream<'static, io::Result<Bytes>> {
    let archive = Bytes::from(archive);
    let starts: Vec<usize> = (0..archive.len()).step_by(64 << 10).collect();
    let parts = starts.into_iter().map(move |start| {
        let end = archive.len().min(start + (64 << 10));
        Ok(archive.slice(start..end))
    });
    stream::iter(parts).boxed()
}

async fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .args(["-1", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let (written, output) = tokio::join!(
        async move { stdin.write_all(bytes).await },
        gzip.wait_with_output()
    );
    written.unwrap();
    output.unwrap().stdout
}

async fn names(bench: Bench) {
    let (one, two) = (format!("{}:1", bench.mark), format!("{}/two:2", bench.mark));
    let id = bench.build(&one, From::Program, 100_000).await;
    bench.docker_command(&["tag", &one, &two]).await;
    let archive = bench.docker_command(&["save", &one, &two]).await;
    let packed = gzipped(&archive).await;
    assert!(packed.starts_with(b"\x1f\x8b") && packed.len() < archive.len());
    for archive in [archive, packed] {
        bench.docker_command(&["rmi", &one, &two]).await;
        assert_eq!(bench.engines_id(&id).await, None);
        let mut loaded = bench.docker.load(parts(archive)).await.unwrap();
        loaded.sort();
        let mut names = [one.as_str(), &two];
        names.sort_unstable();
        assert_eq!(loaded, names);
        assert_eq!(bench.engines_id(&one).await, Some(id.clone()));
        assert_eq!(bench.engines_id(&two).await, Some(id.clone()));
    }
    let printed = bench.docker_command(&["run", "--rm", &two, "print"]).await;
    assert!(printed.starts_with(b"line 1\n"));
    // What is there already is told as well.
    let archive = bench.docker_command(&["save", &one]).await;
    assert_eq!(bench.docker.load(parts(archive)).await, Ok(vec![one]));
}

async fn without_name(bench: Bench) {
    let name = format!("{}:1", bench.mark);
    let id = bench.build(&name, From::Scratch, 1_000).await;
    let archive = bench.docker_command(&["save", &id]).await;
    bench.docker_command(&["rmi", &name]).await;
    assert_eq!(
        bench.docker.load(parts(archive)).await,
        Ok(vec![id.clone()])
    );
    assert_eq!(bench.engines_id(&id).await, Some(id.clone()));
    let facts = bench.docker.image(&id).await.unwrap();
    assert_eq!(facts.map(|facts| facts.id), Some(id));
}

async fn broken(bench: Bench) {
    let name = format!("{}:1", bench.mark);
    let id = bench.build(&name, From::Scratch, 2_000_000).await;
    let whole = bench.docker_command(&["save", &name]).await;
    bench.docker_command(&["rmi", &name]).await;
    let packed = gzipped(&whole).await;
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(16 << 20)
        .collect();
    let other = {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        archive
            .append_data(&mut header, "hello.txt", &b"hello"[..])
            .unwrap();
        archive.into_inner().unwrap()
    };
    let empty = {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        archive
            .append_data(&mut header, "manifest.json", &b"[]"[..])
            .unwrap();
        archive.into_inner().unwrap()
    };
    let table = [
        ("cut off", whole[..whole.len() / 2].to_vec(), "EOF"),
        (
            "packed and cut off",
            packed[..packed.len() / 2].to_vec(),
            "EOF",
        ),
        ("random", random, "tar"),
        ("text", b"hello, world\n".to_vec(), "EOF"),
        ("nothing", Vec::new(), "no such file"),
        ("another archive", other, "no such file"),
        ("no image", empty, "no image"),
    ];
    for (what, archive, word) in table {
        match bench.docker.load(parts(archive)).await {
            Err(RuntimeError::Refused(words)) => assert!(words.contains(word), "{what}: {words}"),
            answer => panic!("{what}: {answer:?}"),
        }
        assert_eq!(bench.engines_id(&id).await, None, "{what}");
    }
    assert_eq!(bench.docker.load(parts(whole)).await, Ok(vec![name]));
}

async fn unreadable(bench: Bench) {
    let name = format!("{}:1", bench.mark);
    let id = bench.build(&name, From::Scratch, 2_000_000).await;
    let whole = bench.docker_command(&["save", &name]).await;
    bench.docker_command(&["rmi", &name]).await;
    for sent in [0, whole.len() / 2, whole.len()] {
        let begin = parts(whole[..sent].to_vec());
        let broken = stream::iter([Err(io::Error::other("the store went away"))]);
        match bench.docker.load(begin.chain(broken).boxed()).await {
            Err(RuntimeError::Failed(words)) => {
                assert!(words.contains("the store went away"), "{words}");
            }
            answer => panic!("after {sent}: {answer:?}"),
        }
        if sent < whole.len() {
            assert_eq!(bench.engines_id(&id).await, None);
        }
    }
}

async fn dropped(bench: Bench) {
    let name = format!("{}:1", bench.mark);
    let id = bench.build(&name, From::Scratch, 2_000_000).await;
    let whole = bench.docker_command(&["save", &name]).await;
    bench.docker_command(&["rmi", &name]).await;
    // Told that the first half is taken, and that the archive is let go of.
    let (taken, mut is_taken) = tokio::sync::watch::channel(false);
    let (held, mut is_held) = tokio::sync::mpsc::channel::<()>(1);
    let first = parts(whole[..whole.len() / 2].to_vec());
    let rest = stream::once(async move {
        taken.send_replace(true);
        let _held = held;
        std::future::pending::<io::Result<Bytes>>().await
    });
    let load = tokio::spawn({
        let docker = bench.docker.clone();
        async move { docker.load(first.chain(rest).boxed()).await }
    });
    let taken = is_taken.wait_for(|taken| *taken);
    tokio::time::timeout(LIMIT, taken).await.unwrap().unwrap();
    load.abort();
    let let_go = tokio::time::timeout(LIMIT, is_held.recv()).await;
    assert_eq!(let_go.expect("the archive is let go of"), None);
    assert_eq!(bench.engines_id(&id).await, None);
    assert_eq!(bench.docker.load(parts(whole)).await, Ok(vec![name]));
}
