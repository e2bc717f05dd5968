//! What a wake costs over what the engine itself takes, a hundred first requests at once, and the
//! memory of an idle gateway.
//!
//!     cargo bench --bench wake
//!
//! The first and the last need a Docker engine and are left out, saying so, where there is none.
//! Load goes to loopback only: the hundred requests are answered by the process runtime.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wakegate::app::{Gateway, load_scripts};
use wakegate::config::{Config, Listen, ProcessImage};
use wakegate::names::WorkloadName;
use wakegate::runtime::docker::Docker;
use wakegate::runtime::process::Process;
use wakegate::runtime::{InstanceId, InstanceState, Runtime};
use wakegate::spec::WorkloadSpec;

const PROGRAM: &str = env!("CARGO_BIN_EXE_wakegate");
const IMAGE: &str = "wakegate-bench-wake:latest";
const WAKES: usize = 15;
const AT_ONCE: usize = 100;
const KNOWN: usize = 300;

const SCRIPT: &str = r#"
route("/{name}/{*rest}", |req| proxy(req.param("name")).port(9000));
ready(|c| probe("/status"));
idle(|c| never());
"#;

fn main() {
    // Under `cargo test --benches` there is nothing to measure.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    runtime.block_on(async {
        hundred_at_once(folder.path()).await;
        let label = (
            "wakegate.test".to_owned(),
            format!("bench-{}", std::process::id()),
        );
        let docker =
            Docker::connect(&Config::default().docker, label.clone()).expect("the default host");
        match docker.ping().await {
            Err(error) => {
                println!("left out, no engine: the added time of a wake; memory ({error})")
            }
            Ok(engine) => {
                println!("engine: {engine}");
                let docker = Arc::new(docker);
                docker
                    .import_image(
                        Path::new(PROGRAM),
                        IMAGE,
                        &["/wakegate", "minion"],
                        9000,
                        |_, _| {},
                    )
                    .await
                    .expect("an image");
                let measured = async {
                    wakes_over_the_floor(folder.path(), docker.clone()).await;
                    idle_memory(folder.path(), &docker, &label).await;
                };
                let measured = std::panic::AssertUnwindSafe(measured);
                let outcome = futures_util::FutureExt::catch_unwind(measured).await;
                for instance in docker.list().await.expect("a list") {
                    docker.remove(&instance.id).await.expect("a removal");
                }
                assert_eq!(docker.remove_image(IMAGE).await, Ok(true));
                outcome.expect("the measurements");
            }
        }
    });
    runtime.shutdown_background();
}

fn config(folder: &Path) -> Config {
    let scripts = folder.join("scripts");
    std::fs::create_dir_all(&scripts).expect("a folder");
    std::fs::write(scripts.join("bench.rhai"), SCRIPT).expect("a script");
    let mut config = Config::default();
    config.public.listen = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.admin.listen = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.scripts.dir = scripts;
    config.process.dir = folder.join("process");
    config
}

async fn gateway(config: Config, runtime: Arc<dyn Runtime>) -> (Gateway, SocketAddr) {
    let version = load_scripts(&config.scripts).expect("good scripts");
    let gateway = Gateway::start(config, runtime, version)
        .await
        .expect("a gateway");
    let address = gateway.public_address().parse().expect("a TCP address");
    while gateway.fleet.engine().is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (gateway, address)
}

fn spec(name: &str, image: &str) -> WorkloadSpec {
    let mut spec = WorkloadSpec::new(WorkloadName::new(name).expect("a name"), image);
    spec.envs = BTreeMap::from([("IDLE".to_owned(), "0".to_owned())]);
    spec
}

/// One GET on a connection of its own; the status line's code, once the whole answer is there.
async fn get(to: SocketAddr, path: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let code = answer
        .get(9..12)
        .and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    code.ok_or_else(|| std::io::Error::other("no answer"))
}

async fn hundred_at_once(folder: &Path) {
    let config = config(folder);
    let image = ProcessImage {
        command: vec![PROGRAM.to_owned(), "minion".to_owned()],
        port: Some(9000),
        envs: BTreeMap::new(),
    };
    let images = BTreeMap::from([(IMAGE.to_owned(), image)]);
    let label = config.runtime.ownership_label.clone();
    let process =
        Arc::new(Process::open(&config.process, images, label).expect("the process runtime"));
    let (gateway, address) = gateway(config, process.clone()).await;
    let (mut firsts, mut spreads) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let name = format!("many-{round}");
        gateway
            .fleet
            .deploy(spec(&name, IMAGE), false)
            .await
            .expect("a deployment");
        let events = process.events().await.expect("events");
        let path = format!("/{name}/");
        let begun = Instant::now();
        let requests = (0..AT_ONCE).map(|_| async {
            assert_eq!(get(address, &path).await.expect("an answer"), 200);
            begun.elapsed()
        });
        let mut times = futures_util::future::join_all(requests).await;
        times.sort();
        gateway.fleet.remove(&name).await.expect("a removal");
        let started = |event: &wakegate::runtime::EngineEvent| {
            event.kind == wakegate::runtime::EngineEventKind::Started
        };
        let ended = |event: &wakegate::runtime::EngineEvent| {
            event.kind == wakegate::runtime::EngineEventKind::Destroyed
        };
        let mut starts = 0;
        let mut events = events;
        while let Some(event) = futures_util::StreamExt::next(&mut events).await {
            starts += usize::from(started(&event));
            if ended(&event) {
                break;
            }
        }
        assert_eq!(starts, 1, "one start, however many wait");
        firsts.push(times[0]);
        spreads.push(times[AT_ONCE - 1] - times[0]);
    }
    println!(
        "{AT_ONCE} first requests at once, process runtime: one start each time; first answer after {}, last {} after the first",
        show(&mut firsts),
        show(&mut spreads)
    );
    gateway.stop().await;
}

async fn wakes_over_the_floor(folder: &Path, docker: Arc<Docker>) {
    let (gateway, address) = gateway(config(folder), docker.clone()).await;
    let name = format!("wakegate-bench-{}", std::process::id());
    let view = gateway
        .fleet
        .deploy(spec(&name, IMAGE), false)
        .await
        .expect("a deployment");
    let id = InstanceId::new(&view.id);
    let (mut floors, mut wakes) = (Vec::new(), Vec::new());
    let path = format!("/{name}/");
    // One of each in turn, so that both see the same machine. The first pair warms up.
    for round in 0..=WAKES {
        // The gateway takes up what somebody else starts, so its own probe is in both.
        let floor = floor(&docker, &id).await;
        asleep(&gateway, &docker, &id).await;
        let begun = Instant::now();
        assert_eq!(get(address, &path).await.expect("an answer"), 200);
        let wake = begun.elapsed();
        asleep(&gateway, &docker, &id).await;
        if round > 0 {
            floors.push(floor);
            wakes.push(wake);
        }
    }
    let mut added: Vec<f64> = wakes
        .iter()
        .zip(&floors)
        .map(|(wake, floor)| millis(*wake) - millis(*floor))
        .collect();
    added.sort_by(f64::total_cmp);
    println!(
        "engine's start → own first successful probe: {}",
        show(&mut floors)
    );
    println!(
        "request to a stopped container → whole answer: {}",
        show(&mut wakes)
    );
    println!(
        "added by the gateway: median of the pairs {:.1} ms, of the medians {:.1} ms",
        added[added.len() / 2],
        millis(wakes[wakes.len() / 2]) - millis(floors[floors.len() / 2])
    );
    gateway.fleet.remove(&name).await.expect("a removal");
    gateway.stop().await;
}

/// Start and probe by hand: every millisecond from the moment that the start call returned.
async fn floor(docker: &Docker, id: &InstanceId) -> Duration {
    let begun = Instant::now();
    docker.start(id).await.expect("a start");
    let instance = docker.inspect(id).await.expect("the container");
    let address = SocketAddr::new(instance.address.expect("an address"), 9000);
    while !matches!(get(address, "/status").await, Ok(200)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begun.elapsed()
}

async fn asleep(gateway: &Gateway, docker: &Docker, id: &InstanceId) {
    docker
        .stop(id, Duration::from_secs(5))
        .await
        .expect("a stop");
    let phase = || gateway.fleet.view(id.as_str()).map(|view| view.phase);
    while phase() != Some("stopped") {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let state = docker.inspect(id).await.expect("the container").state;
    assert!(matches!(state, InstanceState::Stopped { .. }));
    // For a moment it is left to whoever stopped it, who here is nobody that the gateway knows.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
}

async fn idle_memory(folder: &Path, docker: &Docker, label: &(String, String)) {
    for number in 0..KNOWN {
        let name = format!("wakegate-bench-{}-{number}", std::process::id());
        docker
            .create(&spec(&name, IMAGE))
            .await
            .expect("a container");
    }
    let mut server = Server::start(folder, label);
    let known = async {
        while server.known().await != Some(KNOWN) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), known)
        .await
        .expect("all are listed");
    // Nothing happens meanwhile: it is the idle gateway that is measured.
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!(
        "memory of the idle gateway with {KNOWN} known containers: {:.1} MiB (VmRSS)",
        server.memory()
    );
    server.child.kill().expect("a running gateway");
    server.child.wait().expect("its end");
}

struct Server {
    child: Child,
    admin: SocketAddr,
}

impl Server {
    fn start(folder: &Path, label: &(String, String)) -> Self {
        let admin = free_address();
        let file: PathBuf = folder.join("gateway.toml");
        let mut text = std::fs::File::create(&file).expect("a file");
        write!(
            text,
            "[public]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"{admin}\"\n\
             [runtime]\nengine = \"docker\"\nownership_label = \"{}={}\"\n",
            label.0, label.1
        )
        .expect("a whole file");
        let child = Command::new(PROGRAM)
            .args(["serve", "--config"])
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .expect("a gateway");
        Self { child, admin }
    }

    async fn known(&mut self) -> Option<usize> {
        let mut stream = TcpStream::connect(self.admin).await.ok()?;
        let request = format!(
            "GET /deploy HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.admin
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer.matches("\"phase\"").count())
    }

    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("its status");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("its memory");
        let kib: f64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("a number");
        kib / 1024.0
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Sorts, and gives the median with the range.
fn show(times: &mut [Duration]) -> String {
    times.sort();
    let (min, max) = (times[0], times[times.len() - 1]);
    format!(
        "{:.1} ms ({:.1} to {:.1})",
        millis(times[times.len() / 2]),
        millis(min),
        millis(max)
    )
}
