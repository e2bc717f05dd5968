//! The sample application as a program: over real sockets, with real signals.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use reqwest::{Client, Response, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;

/// For anything that is waited for: far more than it takes, so that a test fails and does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running sample application. Killed when it is dropped.
struct App {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    address: SocketAddr,
    client: Client,
}

impl App {
    /// Starts it at a free port of a random loopback address and waits until it listens.
    async fn start(envs: &[(&str, &str)]) -> Self {
        let mut command = command(envs);
        if !envs.iter().any(|(name, _)| *name == "PORT") {
            command.env("PORT", "0");
        }
        let mut app = Self::spawn(command);
        let line = app.line_with("listens on").await;
        let address = line
            .split(' ')
            .find_map(|word| word.trim_end_matches(',').parse().ok());
        app.address = address.unwrap_or_else(|| panic!("an address in {line:?}"));
        app
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            lines,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            client: Client::builder().no_proxy().build().unwrap(),
        }
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

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> Response {
        in_time(self.client.get(self.url(path)).send())
            .await
            .unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        in_time(answer.json()).await.unwrap()
    }

    /// Waits until `/status` tells a time left that is `wanted`.
    async fn left(&self, wanted: impl Fn(&str) -> bool) {
        let told = async {
            loop {
                let status = self.json("/status").await;
                if wanted(status["left"].as_str().unwrap()) {
                    return;
                }
            }
        };
        in_time(told).await;
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    async fn exit_code(&mut self) -> Option<i32> {
        let status: ExitStatus = in_time(self.child.wait()).await.unwrap();
        status.code()
    }
}

fn command(envs: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wakegate"));
    command
        .arg("minion")
        .env_clear()
        .env("BIND_ADDRESS", loopback())
        .envs(envs.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A random address in 127.0.0.0/8 that is not 127.0.0.x.
fn loopback() -> String {
    let [a, b, c] = std::array::from_fn(|_| fastrand::u8(1..255));
    format!("127.{a}.{b}.{c}")
}

async fn in_time<F: Future>(future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {PATIENCE:?}"),
    }
}

fn sha256(data: &[u8]) -> String {
    format!("{:x}", Sha256::digest(data))
}

#[tokio::test]
async fn it_tells_what_reached_it() {
    let app = App::start(&[("CONNSTR", "db 7"), ("HOSTNAME", "sample-7")]).await;
    let answer = app
        .client
        .put(app.url("/session/x/a%2Fb/%C3%A4?q=1&q=%20"))
        .header("x-twice", "one")
        .header("x-twice", "two")
        .body("hello")
        .send();
    let report: Value = in_time(answer).await.unwrap().json().await.unwrap();
    assert_eq!(report["hostname"], "sample-7");
    assert_eq!(report["connstr"], "db 7");
    assert_eq!(report["addresses"][0], app.address.ip().to_string());
    assert_eq!(report["method"], "PUT");
    assert_eq!(report["path"], "/session/x/a%2Fb/%C3%A4");
    assert_eq!(report["query"], "q=1&q=%20");
    assert_eq!(
        report["headers"]["x-twice"],
        serde_json::json!(["one", "two"])
    );
    assert_eq!(report["body"]["length"], 5);
    assert_eq!(report["body"]["sha256"], sha256(b"hello"));
    assert_eq!(app.json("/").await["body"]["sha256"], sha256(b""));
}

#[tokio::test]
async fn its_hostname_is_the_kernels_when_none_is_set() {
    let app = App::start(&[]).await;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let report = app.json("/").await;
    assert_eq!(report["hostname"], kernel.trim());
    assert_eq!(report["connstr"], Value::Null);
}

#[tokio::test]
async fn bodies_stream_in_and_out_without_being_kept() {
    const CHUNK: usize = 1 << 20;
    const CHUNKS: usize = 96;
    let app = App::start(&[]).await;
    let chunk = bytes::Bytes::from(vec![7_u8; CHUNK]);
    let mut hash = Sha256::new();
    (0..CHUNKS).for_each(|_| hash.update(&chunk));
    let chunks = futures_util::stream::iter(
        (0..CHUNKS).map(move |_| Ok::<_, std::io::Error>(chunk.clone())),
    );
    let sent = app
        .client
        .post(app.url("/"))
        .body(reqwest::Body::wrap_stream(chunks))
        .send();
    let report: Value = in_time(sent).await.unwrap().json().await.unwrap();
    assert_eq!(report["body"]["length"], CHUNK * CHUNKS);
    assert_eq!(report["body"]["sha256"], format!("{:x}", hash.finalize()));
    assert_eq!(report["headers"]["transfer-encoding"][0], "chunked");

    let answer = app
        .get(&format!("/a/b/bytes?n={}", CHUNK * CHUNKS + 1))
        .await;
    assert_eq!(answer.content_length(), Some((CHUNK * CHUNKS + 1) as u64));
    let mut received = 0;
    let mut stream = answer.bytes_stream();
    while let Some(part) = in_time(stream.next()).await {
        for byte in part.unwrap() {
            if byte != b"0123456789abcdef"[received % 16] {
                panic!("byte {received} is {byte}");
            }
            received += 1;
        }
    }
    assert_eq!(received, CHUNK * CHUNKS + 1);

    let status = std::fs::read_to_string(format!("/proc/{}/status", app.child.id().unwrap()));
    let peak = status.unwrap().lines().find_map(|line| {
        let kib = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
        kib.parse::<usize>().ok()
    });
    assert!(peak.unwrap() < CHUNKS * 1024 / 2, "peak of {peak:?} KiB");
}

#[tokio::test]
async fn status_answers_below_any_prefix_and_fails_when_told_to() {
    let app = App::start(&[("IDLE", "1h")]).await;
    for path in ["/status", "/session/minion-1/status", "/status?x=1"] {
        let status = app.json(path).await;
        assert_eq!(status["status"], "ok", "{path}");
        assert!(
            status["left"].as_str().unwrap().starts_with("59m5"),
            "{status}"
        );
    }
    assert!(app.json("/status/").await.get("left").is_none());

    let app = App::start(&[("FAIL_STATUS", "503"), ("IDLE", "0")]).await;
    let answer = app.get("/status").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let status: Value = answer.json().await.unwrap();
    assert_eq!(status["status"], "failing");
    assert_eq!(status["left"], "never");
    assert_eq!(app.get("/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn it_fails_its_first_checks_or_its_answers_when_it_is_told_to() {
    let app = App::start(&[("FAIL_FIRST", "2"), ("ANSWER_STATUS", "500")]).await;
    for status in [503, 503, 200, 200] {
        assert_eq!(app.get("/status").await.status().as_u16(), status);
    }
    assert_eq!(
        app.get("/").await.status(),
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

#[tokio::test]
async fn it_ends_when_there_are_only_status_requests() {
    let mut app = App::start(&[("IDLE", "500ms")]).await;
    let ended = async {
        while app.client.get(app.url("/x/status")).send().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    in_time(ended).await;
    app.line_with("nobody used it").await;
    assert_eq!(app.exit_code().await, Some(0));
}

#[tokio::test]
async fn it_tells_whether_it_is_in_use_and_asking_is_no_use() {
    let app = App::start(&[("IDLE", "1h")]).await;
    let in_use = async |query: &str| app.get(&format!("/in-use{query}")).await.status().as_u16();
    assert_eq!(in_use("").await, 204);
    assert_eq!(in_use("?ms=3600000").await, 204, "nobody used it yet");
    assert_eq!(
        app.json("/usage").await,
        json!({"current": 0, "requests": 0})
    );
    app.get("/").await;
    assert_eq!(in_use("?ms=3600000").await, 200);
    let events = app.get("/events?every=1000").await;
    assert_eq!((in_use("").await, in_use("?ms=1").await), (200, 200));
    assert_eq!(
        app.json("/p/usage").await,
        json!({"current": 1, "requests": 2})
    );
    drop(events);
    let over = async {
        while in_use("?ms=1").await == 200 {
            tokio::task::yield_now().await;
        }
    };
    in_time(over).await;
    assert_eq!(in_use("?ms=soon").await, 400);
}

#[tokio::test]
async fn a_request_in_flight_is_use() {
    let app = App::start(&[("IDLE", "1h")]).await;
    app.left(|left| left != "1h0m0s").await;
    let slow = tokio::spawn(app.client.get(app.url("/slow?ms=600000")).send());
    app.left(|left| left == "1h0m0s").await;
    assert!(!slow.is_finished());
    // The client goes away: so does the use.
    slow.abort();
    app.left(|left| left != "1h0m0s").await;
}

#[tokio::test]
async fn an_event_stream_is_use_until_the_client_leaves() {
    let app = App::start(&[("IDLE", "1h")]).await;
    let mut events = app.get("/p/q/events?every=5").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while !text.contains("id: 3\n") {
        let part = in_time(events.chunk()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&part).unwrap());
    }
    app.left(|left| left == "1h0m0s").await;
    drop(events);
    app.left(|left| left != "1h0m0s").await;

    let counted = app.get("/events?every=1&count=2").await;
    let text = in_time(counted.text()).await.unwrap();
    assert_eq!(text.matches("data: {").count(), 2, "{text}");
}

#[tokio::test]
async fn it_outlives_its_idle_time_while_a_stream_is_open() {
    let mut app = App::start(&[("IDLE", "6s")]).await;
    let begun = Instant::now();
    let events = app.get("/events?every=500&count=15").await;
    let text = in_time(events.text()).await.unwrap();
    assert!(text.contains("id: 15\n"), "{text}");
    assert!(begun.elapsed() >= Duration::from_millis(6_500));
    assert_eq!(app.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_websocket_echoes_and_is_use_until_it_is_closed() {
    let app = App::start(&[("IDLE", "1h")]).await;
    let mut request = app
        .url("/session/x/echo")
        .replace("http", "ws")
        .into_client_request();
    let headers = request.as_mut().unwrap().headers_mut();
    headers.insert("sec-websocket-protocol", "v2.chat".parse().unwrap());
    let connected = tokio_tungstenite::connect_async(request.unwrap());
    let (mut socket, answer) = in_time(connected).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v2.chat");
    let messages = [
        Message::text("grüße"),
        Message::binary(vec![0, 159, 255]),
        Message::text(""),
        Message::binary(vec![1; 1 << 20]),
    ];
    for message in messages {
        socket.send(message.clone()).await.unwrap();
        let echoed = in_time(socket.next()).await.unwrap().unwrap();
        assert!(echoed == message, "{} bytes", echoed.len());
    }
    app.left(|left| left == "1h0m0s").await;
    in_time(socket.close(None)).await.unwrap();
    assert!(in_time(socket.next()).await.unwrap().unwrap().is_close());
    app.left(|left| left != "1h0m0s").await;
}

#[tokio::test]
async fn a_request_that_means_nothing_gets_400() {
    let app = App::start(&[]).await;
    for path in ["/slow?ms=soon", "/bytes?n=-1", "/events?every=x", "/echo"] {
        assert_eq!(
            app.get(path).await.status(),
            StatusCode::BAD_REQUEST,
            "{path}"
        );
    }
    assert_eq!(app.get("/slow?ms=0").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn sigterm_lets_requests_finish_and_ends_the_rest() {
    let mut app = App::start(&[("IDLE", "1h")]).await;
    let mut unused = in_time(TcpStream::connect(app.address)).await.unwrap();
    let mut kept = in_time(TcpStream::connect(app.address)).await.unwrap();
    kept.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 12];
    in_time(kept.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    // Its body goes on until it is ended below: it is under way for as long as that takes.
    let (end, told) = tokio::sync::oneshot::channel::<()>();
    let first = async { Ok(bytes::Bytes::from_static(b"begin, ")) };
    let last = async { told.await.map(|()| bytes::Bytes::from_static(b"end")) };
    let parts = futures_util::stream::once(first).chain(futures_util::stream::once(last));
    let upload = app.client.post(app.url("/"));
    let upload = tokio::spawn(upload.body(reqwest::Body::wrap_stream(parts)).send());
    app.left(|left| left == "1h0m0s").await;
    let mut events = app.get("/events?every=10").await;
    assert!(in_time(events.chunk()).await.unwrap().is_some());
    let socket = tokio_tungstenite::connect_async(app.url("/echo").replace("http", "ws"));
    let (mut socket, _) = in_time(socket).await.unwrap();

    app.signal(Signal::TERM);

    let close = in_time(socket.next()).await.unwrap().unwrap();
    let Message::Close(Some(frame)) = close else {
        panic!("not a close: {close:?}");
    };
    assert_eq!(u16::from(frame.code), 1001);
    // An error here would be a stream that broke off.
    while in_time(events.chunk()).await.unwrap().is_some() {}
    let mut rest = Vec::new();
    in_time(kept.read_to_end(&mut rest)).await.unwrap();
    in_time(unused.read_to_end(&mut rest)).await.unwrap();
    assert!(!upload.is_finished());
    end.send(()).unwrap();
    let answer = in_time(upload).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let report: Value = in_time(answer.json()).await.unwrap();
    assert_eq!(report["body"]["length"], "begin, end".len());
    drop(socket);
    assert_eq!(app.exit_code().await, Some(0));
}

#[tokio::test]
async fn sigint_ends_it_too() {
    let mut app = App::start(&[]).await;
    app.signal(Signal::INT);
    assert_eq!(app.exit_code().await, Some(0));
}

#[tokio::test]
async fn term_delay_makes_it_slow_to_stop() {
    let mut app = App::start(&[("TERM_DELAY", "1h"), ("IDLE", "0")]).await;
    app.signal(Signal::TERM);
    app.line_with("got SIGTERM").await;
    assert_eq!(app.get("/").await.status(), StatusCode::OK);
    app.signal(Signal::INT);
    assert_eq!(app.exit_code().await, Some(0));

    // The idle time is over before the delay is, and yet it waits.
    let mut app = App::start(&[("TERM_DELAY", "8s"), ("IDLE", "6s")]).await;
    let told = Instant::now();
    app.signal(Signal::TERM);
    app.line_with("got SIGTERM").await;
    assert_eq!(app.exit_code().await, Some(0));
    assert!(
        told.elapsed() >= Duration::from_secs(8),
        "{:?}",
        told.elapsed()
    );
}

#[tokio::test]
async fn boot_delay_comes_before_it_listens() {
    let begun = Instant::now();
    let app = App::start(&[("BOOT_DELAY", "400ms")]).await;
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(app.get("/").await.status(), StatusCode::OK);

    let mut app = App::spawn(command(&[("BOOT_DELAY", "1h")]));
    app.line_with("will listen in 1h0m0s").await;
    app.signal(Signal::TERM);
    assert_eq!(app.exit_code().await, Some(0));
}

#[tokio::test]
async fn crash_after_crashes() {
    let mut app = App::start(&[("CRASH_AFTER", "300ms"), ("TERM_DELAY", "1h")]).await;
    app.line_with("crashes").await;
    assert_eq!(app.exit_code().await, Some(1));
    let mut app = App::spawn(command(&[("CRASH_AFTER", "1ms"), ("BOOT_DELAY", "1h")]));
    assert_eq!(app.exit_code().await, Some(1));
}

#[tokio::test]
async fn what_cannot_work_is_told_in_one_sentence() {
    let mut app = App::spawn(command(&[("IDLE", "5 parsecs")]));
    let line = app.line_with("IDLE").await;
    assert_eq!(
        line,
        r#"minion: IDLE: "5 parsecs" is not a duration (try "1m30s")"#
    );
    assert_eq!(app.lines.next_line().await.unwrap(), None);
    assert_eq!(app.exit_code().await, Some(2));

    let address = loopback();
    let taken = std::net::TcpListener::bind((address.as_str(), 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut app = App::spawn(command(&[("BIND_ADDRESS", &address), ("PORT", &port)]));
    app.line_with(&format!(
        "cannot listen on {address}:{port}: Address already in use"
    ))
    .await;
    assert_eq!(app.exit_code().await, Some(1));
}

#[tokio::test]
async fn it_listens_on_port_9000_when_none_is_set() {
    let address = loopback();
    let mut app = App::spawn(command(&[("BIND_ADDRESS", &address)]));
    let line = app.line_with("listens on").await;
    assert!(line.contains(&format!("{address}:9000,")), "{line}");
}
