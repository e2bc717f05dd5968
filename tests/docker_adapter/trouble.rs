//! An engine that is slow, goes away, and comes back: played by a relay in front of the real one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use wakegate::config;
use wakegate::runtime::docker::Docker;
use wakegate::runtime::{EngineEventKind as Kind, Runtime, RuntimeError};

use crate::bench::{Bench, LIMIT, config, next, socket_trial};

pub fn trials() -> Vec<Trial> {
    vec![
        socket_trial(
            "an_engine_that_comes_back_needs_no_reconnection",
            comes_back,
        ),
        socket_trial("an_engine_answers_over_tcp", over_tcp),
        socket_trial(
            "a_create_that_was_given_up_leaves_nothing_behind",
            late_create,
        ),
    ]
}

/// Passes connections on to the engine's socket until it is dropped.
struct Relay {
    path: PathBuf,
    /// While it is true, no answer comes through.
    held: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Relay {
    fn new(path: &Path, socket: &str) -> Self {
        let socket = socket.to_owned();
        let listener = UnixListener::bind(path).unwrap();
        let (held, hold) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let engine = UnixStream::connect(&socket).await.unwrap();
                connections.spawn(pass(client, engine, hold.clone()));
            }
        });
        Self {
            path: path.to_owned(),
            held,
            accepting,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        std::fs::remove_file(&self.path).unwrap();
    }
}

async fn pass(client: UnixStream, engine: UnixStream, mut hold: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    let requests = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_engine).await;
        let _ = to_engine.shutdown().await;
    };
    let answers = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = from_engine.read(&mut buffer).await.unwrap_or(0);
            let _ = hold.wait_for(|held| !held).await;
            if read == 0 || to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        let _ = to_client.shutdown().await;
    };
    tokio::join!(requests, answers);
}

async fn over_tcp(bench: Bench, socket: String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    let relay = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut engine = UnixStream::connect(&socket).await.unwrap();
            connections.spawn(async move { copy_bidirectional(&mut client, &mut engine).await });
        }
    });
    let config = config::Docker {
        host: host.clone(),
        ..config()
    };
    let docker = Docker::connect(&config, bench.label.clone()).unwrap();
    let answer = docker.ping().await.unwrap();
    assert!(answer.starts_with("Docker "), "{answer}");
    assert!(answer.ends_with(&format!(" at {host}")), "{answer}");
    let mut events = docker.events().await.unwrap();
    let id = docker.create(&bench.spec(&["wait"])).await.unwrap();
    assert_eq!(next(&mut events).await.kind, Kind::Changed);
    assert_eq!(docker.list().await.unwrap()[0].id, id);
    relay.abort();
    let end = tokio::time::timeout(LIMIT, events.next()).await.unwrap();
    assert_eq!(end, None);
}

fn through(path: &Path, bench: &Bench, timeout: Duration) -> Docker {
    let config = config::Docker {
        host: format!("unix://{}", path.display()),
        network: None,
        timeout,
    };
    Docker::connect(&config, bench.label.clone()).unwrap()
}

async fn comes_back(bench: Bench, socket: String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let docker = through(&path, &bench, LIMIT);
    let relay = Relay::new(&path, &socket);
    let mut events = docker.events().await.unwrap();
    let id = docker.create(&bench.spec(&["wait"])).await.unwrap();
    assert_eq!(next(&mut events).await.kind, Kind::Changed);

    drop(relay);
    let end = tokio::time::timeout(LIMIT, events.next()).await.unwrap();
    assert_eq!(end, None, "the stream ends with the engine");
    match docker.inspect(&id).await {
        Err(RuntimeError::Unreachable(message)) => {
            assert!(message.contains("start the Docker engine"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let gone = docker.events().await.map(drop);
    assert!(
        matches!(gone, Err(RuntimeError::Unreachable(_))),
        "{gone:?}"
    );

    let _relay = Relay::new(&path, &socket);
    let mut events = docker.events().await.unwrap();
    docker.remove(&id).await.unwrap();
    assert_eq!(next(&mut events).await.kind, Kind::Destroyed);
}

async fn late_create(bench: Bench, socket: String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let relay = Relay::new(&path, &socket);
    let docker = through(&path, &bench, Duration::from_secs(1));
    // The engine's version is asked for once, and here. It may take longer than this limit.
    let known = async { while docker.ping().await.is_err() {} };
    tokio::time::timeout(LIMIT, known).await.unwrap();
    let mut events = bench.docker.events().await.unwrap();

    relay.held.send_replace(true);
    let late = docker.create(&bench.spec(&["wait"])).await;
    match late {
        Err(RuntimeError::Unreachable(message)) => {
            assert!(message.contains("within 1s"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(next(&mut events).await.kind, Kind::Changed);
    relay.held.send_replace(false);
    assert_eq!(next(&mut events).await.kind, Kind::Destroyed);
    assert_eq!(bench.docker.list().await, Ok(Vec::new()));
}
