//! Registries: Debian's `docker-registry` over a folder, with passwords or without, and a slow way
//! to one. And whether they are found up.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use wakegate::runtime::{RegistryHealth, Runtime, RuntimeError};

use crate::bench::{Bench, LIMIT, trial, written};

/// The one user of a registry with passwords. In the common alphabet of base64 the password would
/// make the engine forget all of the credentials.
pub const USER: &str = "tester";
pub const PASSWORD: &str = "~~~???>>>";

/// As `htpasswd -nbB` writes it.
const HTPASSWD: &str = "tester:$2y$05$6TprNGdeigf6nlNA69dlROsc4qS86USlgTUSYWuxu0UZpj.0cPaAu\n";

pub fn trials() -> Vec<Trial> {
    vec![trial("a_registry_is_up_when_it_answers_at_all", health)]
}

async fn health(bench: Bench) {
    let docker = &bench.docker;
    let open = bench.registry().await;
    assert_eq!(docker.registry(&open.host()).await, Ok(RegistryHealth::Up));
    let closed = Registry::start(&bench.storage(), true).await;
    assert_eq!(
        docker.registry(&closed.host()).await,
        Ok(RegistryHealth::Up)
    );

    let host = open.host();
    open.stop().await;
    match docker.registry(&host).await {
        Ok(RegistryHealth::Down(words)) => assert!(words.contains("refused"), "{words}"),
        other => panic!("{other:?}"),
    }
    // Somebody else listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = format!("localhost:{}", listener.local_addr().unwrap().port());
    let hanging_up = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            client.write_all(b"220 mail.example ESMTP\r\n").await.ok();
        }
    });
    let found = docker.registry(&other).await;
    hanging_up.abort();
    assert!(matches!(found, Ok(RegistryHealth::Down(_))), "{found:?}");

    for name in [
        "",
        "shop",
        "Not A Host",
        "http://localhost:5000",
        "a.example/b",
    ] {
        let refused = docker.registry(name).await;
        let is_refused = matches!(refused, Err(RuntimeError::Refused(_)));
        assert!(is_refused, "{name}: {refused:?}");
    }
}

/// A registry that ends when this is dropped.
pub struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Serves what is in `storage`, which other registries may serve too.
    pub async fn start(storage: &Path, with_passwords: bool) -> Self {
        std::fs::create_dir_all(storage).unwrap();
        let folder = storage.parent().unwrap();
        let passwords = written(folder, "htpasswd", HTPASSWD);
        let auth = match with_passwords {
            true => format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                passwords.display()
            ),
            false => String::new(),
        };
        let text = format!(
            "version: 0.1\n\
             log: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             {auth}http: {{addr: \"127.0.0.1:0\"}}\n",
            storage.display()
        );
        let name = format!("registry-{with_passwords}.yml");
        let config = written(folder, &name, &text);
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = async {
            loop {
                let line = lines.next_line().await.unwrap();
                let line = line.expect("the registry says where it listens");
                if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                    let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
                    break digits.unwrap_or_default().parse().unwrap();
                }
            }
        };
        let port = tokio::time::timeout(LIMIT, listening).await;
        let port = port.expect("the registry listens");
        // It must not be stopped by what nobody reads.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, port }
    }

    /// As images name it.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A slow way to a registry.
pub struct Way {
    port: u16,
    /// The bytes that one connection has brought to the engine, of the one with most.
    pub brought: watch::Receiver<usize>,
    /// What a connection had brought, of more than [`MUCH`], when the engine hung up.
    pub given_up: watch::Receiver<Option<usize>>,
    accepting: JoinHandle<()>,
}

/// More than what comes before an image's layers.
pub const MUCH: usize = 1 << 20;

struct Ends {
    brought: watch::Sender<usize>,
    given_up: watch::Sender<Option<usize>>,
    /// Before each piece of at most 64 KiB.
    pause: Duration,
}

impl Way {
    pub async fn to(registry: &Registry, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = registry.port;
        let (bring, brought) = watch::channel(0);
        let (give_up, given_up) = watch::channel(None);
        let ends = Arc::new(Ends {
            brought: bring,
            given_up: give_up,
            pause,
        });
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                connections.spawn(pass(client, server, ends.clone()));
            }
        });
        Self {
            port,
            brought,
            given_up,
            accepting,
        }
    }

    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, ends: Arc<Ends>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut passed = 0;
    let answers = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            tokio::time::sleep(ends.pause).await;
            if to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
            passed += read;
            ends.brought.send_if_modified(|most| {
                let is_more = passed > *most;
                *most = passed.max(*most);
                is_more
            });
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
    }
    if passed > MUCH {
        ends.given_up.send_replace(Some(passed));
    }
}
