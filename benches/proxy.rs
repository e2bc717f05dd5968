//! What the proxy adds to a keep-alive GET: direct and proxied rounds in turns, compared in one run.
//!
//! `cargo bench --bench proxy`. Every number of one round depends on the machine and what else it
//! does; the ratios and the worker's CPU time a request are what to compare.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wakegate::clock::Clock;
use wakegate::config::{Config, Given, Listen};
use wakegate::decision::{Decision, ErrorFacts, ProxyDecision, Reply, RequestFacts, ScriptFailure};
use wakegate::deploy::route::Apps;
use wakegate::lifecycle::fleet::{Ask, Creation, Refusal};
use wakegate::lifecycle::gate::{Endpoint, Gate, Lease};
use wakegate::names::WorkloadName;
use wakegate::proxy::{Bound, Decide, Metrics, OnError, Proxy, Wake};
use wakegate::script::current::Scripts;
use wakegate::script::decider::Decider;
use wakegate::script::version::{Decided, Version};

const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(700);
const REQUEST: &[u8] =
    b"GET /some/path?and=query HTTP/1.1\r\nHost: app.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
const BODY_BYTES: usize = 100;

/// One workload that is always ready.
#[derive(Clone)]
struct Awake(Arc<Gate>);

impl Wake for Awake {
    async fn acquire(&self, ask: Ask<'_>) -> Result<Lease, Refusal> {
        self.acquire_ready(ask.workload, ask.counts)
            .ok_or_else(|| Refusal::Unknown(ask.workload.clone()))
    }

    fn acquire_ready(&self, _: &WorkloadName, counts: bool) -> Option<Lease> {
        self.0.lease(counts)
    }

    fn nudge(
        &self,
        _: &WorkloadName,
        _: Option<Creation<'_>>,
        _: Option<&CancellationToken>,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    async fn suspect(&self, _: Lease, _: u16) {}
}

/// A decision that costs nothing, so that only the proxy is measured.
#[derive(Clone)]
struct Always(Decided);

impl Decide for Always {
    type Version = Silent;

    fn version(&self) -> Silent {
        Silent
    }

    fn decide(&mut self, _: &RequestFacts<'_>) -> Result<Option<Decided>, ScriptFailure> {
        Ok(Some(self.0.clone()))
    }
}

struct Silent;

impl OnError for Silent {
    fn on_error(
        &self,
        _: &RequestFacts<'_>,
        _: &ErrorFacts,
    ) -> Result<Option<Reply>, ScriptFailure> {
        Ok(None)
    }
}

/// One round's outcome.
struct Round {
    requests_a_second: f64,
    median_us: f64,
    p99_us: f64,
    /// Of the proxy's worker; about nothing in a direct round.
    cpu_us: f64,
}

fn main() {
    // `cargo test --benches` runs this too, and only wants to know that it starts.
    let rounds = if std::env::args().any(|argument| argument == "--bench") {
        ROUNDS
    } else {
        1
    };
    let application = start_application();
    let fixed = Always(Decided {
        decision: Arc::new(Decision::Proxy(ProxyDecision::to(workload()))),
        route: "/{*rest}".into(),
    });
    let scripts = scripts();
    let (_running, proxy) = start_proxy(application, move || fixed.clone());
    let (_running_too, scripted) = start_proxy(application, move || Decider::new(scripts.clone()));
    println!("keep-alive GET, {BODY_BYTES}-byte answers, one worker; medians of {rounds} rounds");
    println!(
        "{:>11}  {:>8}  {:>10}  {:>10}  {:>10}  {:>12}",
        "connections", "", "requests/s", "p50 µs", "p99 µs", "worker CPU µs"
    );
    for connections in [1, 32] {
        let mut direct = Vec::new();
        let mut proxied = Vec::new();
        let mut by_script = Vec::new();
        // The first pair warms up.
        for round in 0..=rounds {
            let plain = measure(application, connections);
            // In turns the one first and the other: a machine that slows down harms both.
            let (fixed, decided) = if round % 2 == 0 {
                let fixed = measure(proxy, connections);
                (fixed, measure(scripted, connections))
            } else {
                let decided = measure(scripted, connections);
                (measure(proxy, connections), decided)
            };
            if round > 0 {
                direct.push(plain);
                proxied.push(fixed);
                by_script.push(decided);
            }
        }
        // What is counted there is not the proxy's, and the proxied rounds would have it too.
        let idle = median(direct.iter().map(|round| round.cpu_us));
        assert!(
            idle < 1.0,
            "the worker's CPU time is not only its own: {idle} µs"
        );
        show(connections, "direct", &direct);
        show(connections, "proxied", &proxied);
        show(connections, "scripted", &by_script);
        compare(connections, "proxied / direct", &proxied, &direct);
        compare(connections, "scripted / proxied", &by_script, &proxied);
    }
}

/// The median of the ratios of the pairs.
fn compare(connections: usize, name: &str, these: &[Round], those: &[Round]) {
    let ratio = |of: fn(&Round) -> f64| {
        let pairs = these.iter().zip(those);
        median(pairs.map(|(one, other)| of(one) / of(other)))
    };
    println!(
        "{connections:>11}  {name}: requests/s {:.3}, p50 {:.3}, p99 {:.3}, worker CPU {:.3}",
        ratio(|round| round.requests_a_second),
        ratio(|round| round.median_us),
        ratio(|round| round.p99_us),
        ratio(|round| round.cpu_us),
    );
}

fn workload() -> WorkloadName {
    WorkloadName::new("app").expect("a name")
}

/// Scripts that decide the same as the fixed decision, by the request's path.
fn scripts() -> Arc<Scripts> {
    let dir = std::env::temp_dir().join(format!("wakegate-bench-{}-proxy", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let text =
        "route(\"/{name}/{*rest}\", |req| if req.param(\"name\") == \"some\" { proxy(\"app\") });";
    std::fs::write(dir.join("a.rhai"), text).expect("a script");
    let version = Version::load(&dir, &Given::default(), 1);
    std::fs::remove_dir_all(&dir).expect("its removal");
    Scripts::new(version.unwrap_or_else(|errors| panic!("{}", errors[0])))
}

fn show(connections: usize, name: &str, rounds: &[Round]) {
    let of = |of: fn(&Round) -> f64| median(rounds.iter().map(of));
    println!(
        "{connections:>11}  {name:>8}  {:>10.0}  {:>10.1}  {:>10.1}  {:>12.1}",
        of(|round| round.requests_a_second),
        of(|round| round.median_us),
        of(|round| round.p99_us),
        of(|round| round.cpu_us),
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// An application that does as little as one can: it looks for the end of a head and answers.
fn start_application() -> SocketAddr {
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        current_thread().block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .expect("a port");
            told.send(listener.local_addr().expect("an address"))
                .expect("the bench waits");
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(answer(stream));
            }
        });
    });
    address.recv().expect("the application starts")
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let body = "x".repeat(BODY_BYTES);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY_BYTES}\r\n\r\n{body}"
    );
    let mut seen = Vec::with_capacity(4096);
    while stream.read_buf(&mut seen).await? > 0 {
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            stream.write_all(answer.as_bytes()).await?;
        }
    }
    Ok(())
}

fn start_proxy<D: Decide>(
    application: SocketAddr,
    decider: impl Fn() -> D + Clone + Send + 'static,
) -> (wakegate::proxy::Running, SocketAddr) {
    let mut config = Config::default();
    config.public.listen = Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    config.public.workers = 1;
    let endpoint = Endpoint {
        workload: workload(),
        address: application.ip(),
        port: Some(application.port()),
        serial: 1,
    };
    let gate = Gate::open(endpoint, Clock::new(), Arc::new(Notify::new()));
    let metrics = Metrics::new(&mut wakegate::metrics::registry());
    let running = Proxy::start_with(
        Arc::new(config),
        Awake(gate),
        Apps::default(),
        decider,
        &metrics,
    )
    .expect("the proxy starts");
    let Bound::Tcp(address) = *running.address() else {
        unreachable!("it listens on TCP");
    };
    (running, address)
}

/// Asks over so many connections at once for one round's time.
fn measure(address: SocketAddr, connections: usize) -> Round {
    let cpu_before = proxy_cpu();
    let began = Instant::now();
    let mut latencies = current_thread().block_on(async {
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..connections {
            asking.spawn(ask(address, began + ROUND));
        }
        asking.join_all().await.concat()
    });
    let took = began.elapsed();
    latencies.sort_unstable();
    let count = latencies.len();
    assert!(count > 0, "nothing was answered");
    let at = |share: f64| {
        let index = ((count - 1) as f64 * share) as usize;
        latencies[index].as_secs_f64() * 1e6
    };
    Round {
        requests_a_second: count as f64 / took.as_secs_f64(),
        median_us: at(0.5),
        p99_us: at(0.99),
        cpu_us: (proxy_cpu() - cpu_before).as_secs_f64() * 1e6 / count as f64,
    }
}

async fn ask(address: SocketAddr, until: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(4096);
    loop {
        let began = Instant::now();
        if began >= until {
            return latencies;
        }
        stream.write_all(REQUEST).await.expect("a request");
        answer.clear();
        while !is_whole(&answer) {
            let got = stream.read_buf(&mut answer).await.expect("an answer");
            assert!(got > 0, "the connection ended");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "not 200");
        latencies.push(began.elapsed());
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    head.is_some_and(|head| answer.len() >= head + 4 + BODY_BYTES)
}

/// The CPU time that the proxy's one worker has used; in steps of 10 ms, as the kernel tells it.
fn proxy_cpu() -> Duration {
    const TICKS_A_SECOND: u64 = 100;
    let mut ticks = 0;
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return Duration::ZERO;
    };
    for thread in threads.flatten() {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // `tid (name) state …`: user and system time are the 12th and 13th after the name.
        let Some((name, rest)) = stat.split_once(") ") else {
            continue;
        };
        // The whole name: this program is called proxy-<hash>, and threads without a name of their
        // own (the client's, the application's) are called what the program is called.
        if name.ends_with(" (proxy-0") {
            let fields = rest.split(' ').skip(11).take(2);
            ticks += fields.flat_map(str::parse::<u64>).sum::<u64>();
        }
    }
    Duration::from_millis(ticks * 1000 / TICKS_A_SECOND)
}
