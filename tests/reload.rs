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
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// For anything that is waited for: far more than it takes, so that a test fails and does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a test may begin anew because a worker of the gateway itself has stalled: it is asked for
/// the requests that it saw last, and where it does not tell in a second, a change is not tried on them.
const ATTEMPTS: usize = 5;

/// Clients that ask without a pause while the scripts are edited.
const CLIENTS: usize = 2;

/// A running gateway. Killed when it is dropped.
struct Gateway {
    _child: Child,
    /// Read as they come, or a gateway with much to say would wait for its reader.
    lines: UnboundedReceiver<String>,
    folder: TempDir,
    public: SocketAddr,
    admin: SocketAddr,
    client: Client,
}

impl Gateway {
    async fn start(script: &str) -> Self {
        Self::start_with(script, "").await
    }

    /// `keys` go into `[scripts]` of gateway.toml.
    async fn start_with(script: &str, keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = std::array::from_fn(|_| fastrand::u8(1..255));
        let public = SocketAddr::from(([127, a, b, c], 8000));
        let admin = SocketAddr::from(([127, a, b, c], 8008));
        let config = format!(
            "[public]\nlisten = \"{public}\"\n[admin]\nlisten = \"{admin}\"\n\
             [runtime]\nengine = \"process\"\n\
             [scripts]\ncpu_time_max = \"20s\"\nload_cpu_time_max = \"20s\"\n{keys}\n"
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
        let mut read = BufReader::new(child.stderr.take().unwrap()).lines();
        let (told, lines) = unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = read.next_line().await {
                drop(told.send(line));
            }
        });
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
        self.line_with_one_of(&[text]).await
    }

    /// Waits for a line of its log that has one of these texts.
    async fn line_with_one_of(&mut self, texts: &[&str]) -> String {
        let found = async {
            while let Some(line) = self.lines.recv().await {
                if texts.iter().any(|text| line.contains(text)) {
                    return line;
                }
            }
            panic!("it ended without a line with one of {texts:?}");
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

impl Gateway {
    /// Runs a command of the same binary beside it: its exit code and what it printed.
    async fn command(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_wakegate"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = in_time(output).await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
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

#[tokio::test]
async fn a_change_tells_what_it_decides_otherwise_of_the_requests_seen_last() {
    for _ in 0..ATTEMPTS {
        let mut gateway = Gateway::start(&saying("one")).await;
        for _ in 0..5 {
            assert_eq!(gateway.ask().await, (200, "one".to_owned()));
        }
        save(&gateway.script(), &saying("two"));
        gateway.line_with("version 2 of the scripts serves").await;
        let shadow = &gateway.scripts().await["shadow"];
        if shadow["compared"] != 5 {
            continue;
        }
        let line = gateway.line_with("respond 200 \"one\"").await;
        assert_eq!(
            line.trim(),
            "/: respond 200 \"one\" → respond 200 \"two\" (5 requests)"
        );
        assert_eq!(shadow["changed"], 5);
        assert_eq!(shadow["differences"][0]["after"], "respond 200 \"two\"");

        // What would fail on them is not let in.
        save(
            &gateway.script(),
            "route(\"/\", |req| {\n    respond(200, 7.pad())\n});\nroute(\"/x\", |req| ());\n",
        );
        let refused = "are refused; version 2 serves on";
        let let_in = "version 3 of the scripts serves";
        let line = gateway.line_with_one_of(&[refused, let_in]).await;
        if line.contains(let_in) {
            continue;
        }
        assert_eq!(gateway.ask().await, (200, "two".to_owned()));
        return;
    }
    panic!("{ATTEMPTS} times a change was not tried on all requests");
}

#[tokio::test]
async fn a_held_change_waits_for_a_word() {
    for _ in 0..ATTEMPTS {
        let mut gateway = Gateway::start_with(&saying("one"), "shadow = \"hold\"").await;
        assert_eq!(gateway.ask().await, (200, "one".to_owned()));
        save(&gateway.script(), &saying("two"));
        let held = "held back until POST /scripts/activate";
        let let_in = "version 2 of the scripts serves";
        let line = gateway.line_with_one_of(&[held, let_in]).await;
        if line.contains(let_in) {
            continue;
        }
        assert_eq!(gateway.ask().await, (200, "one".to_owned()));
        let shown = gateway.scripts().await;
        assert_eq!(
            (&shown["version"], &shown["held"]["version"]),
            (&json!(1), &json!(2))
        );
        gateway.post("/scripts/activate", &json!({})).await;
        assert_eq!(gateway.ask().await, (200, "two".to_owned()));
        return;
    }
    panic!("{ATTEMPTS} times a change was not tried on the request");
}

#[tokio::test]
async fn a_change_that_fails_under_real_requests_goes_by_itself() {
    let keys = "rollback_failures_max = 0.2";
    let mut gateway = Gateway::start_with(&saying("one"), keys).await;
    // Nothing has been asked yet that this would fail on.
    save(&gateway.script(), "route(\"/\", |req| proxy(req.query));");
    gateway.line_with("version 2 of the scripts serves").await;
    let mut failed = 0;
    let began = Instant::now();
    while gateway.ask().await != (200, "one".to_owned()) {
        failed += 1;
        assert!(began.elapsed() < PATIENCE, "it did not go back");
    }
    assert!(failed >= 10, "{failed} say little");
    let line = gateway.line_with("rolled back to version 1").await;
    assert!(line.contains("version 2 of the scripts failed "), "{line}");
    let shown = gateway.scripts().await;
    assert_eq!(
        (&shown["version"], &shown["rolled_back"]),
        (&json!(1), &json!(true))
    );
    let reason = shown["rolled_back_because"].as_str().unwrap();
    assert!(reason.contains("rollback_failures_max"), "{reason}");
}

#[tokio::test]
async fn tests_and_explanations_are_had_from_the_command_line() {
    let script = "route(\"/{name}\", |req| proxy(req.param(\"name\")));\n\
                  fn test_name() { assert_eq(simulate(\"GET\", \"/a\"), \"proxy a\"); }\n";
    let gateway = Gateway::start(script).await;
    let (code, text) = gateway.command(&["test"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("test a.rhai::test_name ... ok\n"), "{text}");
    assert!(
        text.contains("test result: ok. 1 passed; 0 failed;"),
        "{text}"
    );

    for live in [&[][..], &["--live"]] {
        let arguments = [&["explain", "GET", "/a?x=1"], live].concat();
        let (code, text) = gateway.command(&arguments).await;
        assert_eq!(code, 0, "{text}");
        for part in ["→ /{name}", "param name = \"a\"", "proxy a\n", "workload a"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let (code, text) = gateway
        .command(&["explain", "--live", "--json", "GET", "/-"])
        .await;
    assert_eq!(code, 1, "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["decision"], "error");
    assert!(
        told["error"].as_str().unwrap().contains("a.rhai:1:24: "),
        "{text}"
    );

    save(
        &gateway.script(),
        &script.replace("\"proxy a\"", "\"proxy b\""),
    );
    let (code, text) = gateway.command(&["test", "scripts"]).await;
    assert_eq!(code, 101, "{text}");
    for part in [
        "test a.rhai::test_name ... FAILED\n",
        "---- a.rhai::test_name ----\nscripts/a.rhai:2:18: assert_eq: the left is \"proxy a\", the right is \"proxy b\"\n2 | fn test_name()",
        "failures:\n    a.rhai::test_name\n",
        "test result: FAILED. 0 passed; 1 failed;",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = gateway.command(&["check"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("test a.rhai::test_name failed: "), "{text}");
}
