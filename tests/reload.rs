//! Scripts that are edited under a running gateway, through its own binary and over real sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// For anything that is waited for: far more than it takes, so that a test fails and does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients that ask without a pause while the scripts are edited.
const CLIENTS: usize = 2;

/// A running gateway. Killed when it is dropped.
struct Gateway {
    _child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    folder: TempDir,
    public: SocketAddr,
    admin: SocketAddr,
    client: Client,
}

impl Gateway {
    async fn start(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = std::array::from_fn(|_| fastrand::u8(1..255));
        let public = SocketAddr::from(([127, a, b, c], 8000));
        let admin = SocketAddr::from(([127, a, b, c], 8008));
        let config = format!(
            "[public]\nlisten = \"{public}\"\n[admin]\nlisten = \"{admin}\"\n\
             [runtime]\nengine = \"process\"\n\
             [scripts]\ncpu_time_max = \"20s\"\nload_cpu_time_max = \"20s\"\n"
        );
        std::fs::write(folder.path().join("gateway.toml"), config).unwrap();
        std::fs::create_dir(folder.path().join("scripts")).unwrap();
        std::fs::write(folder.path().join("scripts/a.rhai"), script).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_wakegate"))
            .args(["serve", "--config", "gateway.toml"])
            .current_dir(folder.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut gateway = Self {
            _child: child,
            lines,
            folder,
            public,
            admin,
            client: Client::builder().no_proxy().build().unwrap(),
        };
        gateway.line_with("the admin API listens on").await;
        let began = Instant::now();
        while tokio::net::TcpStream::connect(public).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "the gateway does not listen");
            tokio::task::yield_now().await;
        }
        gateway
    }

    /// Waits for a line of its log.
    async fn line_with(&mut self, text: &str) -> String {
        let found = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(text) {
                    return line;
                }
            }
            panic!("it ended without a line with {text:?}");
        };
        in_time(found).await
    }

    fn script(&self) -> std::path::PathBuf {
        self.folder.path().join("scripts/a.rhai")
    }

    async fn ask(&self) -> (u16, String) {
        ask(&self.client, self.public).await.unwrap()
    }

    async fn scripts(&self) -> Value {
        let url = format!("http://{}/scripts", self.admin);
        let answer = in_time(self.client.get(url).send()).await.unwrap();
        answer.json().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("http://{}{path}", self.admin);
        let sent = self.client.post(url).json(body).send();
        in_time(sent).await.unwrap().json().await.unwrap()
    }
}

async fn ask(client: &Client, public: SocketAddr) -> Result<(u16, String), reqwest::Error> {
    let answer = in_time(client.get(format!("http://{public}/")).send()).await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

async fn in_time<F: Future>(future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {PATIENCE:?}"),
    }
}

fn saying(text: &str) -> String {
    format!("route(\"/\", |req| respond(200, \"{text}\"));\n")
}

/// As editors do it.
fn save(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saving_a_script_changes_the_answers_and_no_request_fails_meanwhile() {
    let mut gateway = Gateway::start(&saying("0")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, public) = (gateway.client.clone(), gateway.public);
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut last = 0;
                while !stop.load(Ordering::Acquire) {
                    let (status, body) = ask(&client, public).await.unwrap();
                    assert_eq!(status, 200, "{body}");
                    let number: u64 = body.parse().unwrap();
                    assert!(number >= last, "{number} came after {last}");
                    last = number;
                    answered.fetch_add(1, Ordering::Release);
                }
            })
        })
        .collect();
    for number in 1..=5 {
        // A broken version in between takes nothing away from the one before.
        std::fs::write(gateway.script(), "route(\"/\", |req| repsond(200, \"x\"));").unwrap();
        gateway.line_with("a.rhai:1:18: ").await;
        save(&gateway.script(), &saying(&number.to_string()));
        let saved = Instant::now();
        gateway.line_with("of the scripts serves").await;
        println!("version {} served after {:?}", number + 1, saved.elapsed());
        assert_eq!(gateway.ask().await, (200, number.to_string()));
    }
    stop.store(true, Ordering::Release);
    for client in clients {
        in_time(client).await.unwrap();
    }
    assert!(answered.load(Ordering::Acquire) > 0);
}

#[tokio::test]
async fn what_is_refused_is_shown_and_what_was_good_can_be_gone_back_to() {
    let mut gateway = Gateway::start(&saying("one")).await;
    save(&gateway.script(), &saying("two"));
    gateway.line_with("version 2 of the scripts serves").await;

    save(
        &gateway.script(),
        "route(\"/\", |req|\n    repsond(200, \"three\"));\n",
    );
    gateway.line_with("are refused; version 2 serves on").await;
    assert_eq!(gateway.ask().await, (200, "two".to_owned()));
    let shown = gateway.scripts().await;
    assert_eq!(shown["version"], 2);
    let error = &shown["refused"]["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(5)));
    assert_eq!(
        error["excerpt"],
        "2 |     repsond(200, \"three\"));\n  |     ^"
    );

    let shown = gateway.post("/scripts/rollback", &json!({})).await;
    assert_eq!(
        (&shown["version"], &shown["rolled_back"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(gateway.ask().await, (200, "one".to_owned()));
    let shown = gateway
        .post("/scripts/rollback", &json!({"version": 9}))
        .await;
    assert_eq!(shown["detail"], "version 9 is not kept (kept: 1, 2)");

    let shown = gateway.post("/scripts/activate", &json!({})).await;
    assert_eq!(
        (&shown["version"], &shown["rolled_back"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(gateway.ask().await, (200, "two".to_owned()));

    save(&gateway.script(), &saying("two"));
    gateway.line_with("the scripts are good again").await;
    assert_eq!(gateway.scripts().await["refused"], json!(null));
}
