//! A running data plane between a client and applications that the test plays itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Listen};
use crate::decision::{Decision, ErrorFacts, ProxyDecision, Reply, RequestFacts, ScriptFailure};
use crate::deploy::route::Apps;
use crate::lifecycle::fleet::{Ask, Creation, Refusal};
use crate::lifecycle::gate::{Endpoint, Gate, Lease};
use crate::names::WorkloadName;
use crate::proxy::{Bound, Decide, Metrics, OnError, Proxy, Running, Wake};
use crate::script::version::Decided;
use crate::traefik::Routed;

pub use super::wire::{Wire, field, fields, status};

/// No wait of a test is longer; none depends on how long it is.
pub const LIMIT: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("it does not happen")
}

pub fn name(name: &str) -> WorkloadName {
    WorkloadName::new(name).unwrap()
}

type Act = dyn FnMut(&World, WorkloadName) + Send;

/// The workloads as the test wants them to be.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    gates: Mutex<HashMap<WorkloadName, Arc<Gate>>>,
    refusals: Mutex<HashMap<WorkloadName, Refusal>>,
    changed: watch::Sender<()>,
    waiting: watch::Sender<usize>,
    nudges: AtomicUsize,
    suspects: watch::Sender<usize>,
    serials: AtomicU64,
    clock: Clock,
    /// What the proxy in front knows; `None` until that is known.
    routed: watch::Sender<Option<Routed>>,
    /// What `suspect` does to the world.
    on_suspect: Mutex<Box<Act>>,
}

impl World {
    fn new() -> Self {
        Self(Arc::new(Inner {
            gates: Mutex::default(),
            refusals: Mutex::default(),
            changed: watch::Sender::new(()),
            waiting: watch::Sender::new(0),
            nudges: AtomicUsize::new(0),
            suspects: watch::Sender::new(0),
            serials: AtomicU64::new(1),
            clock: Clock::new(),
            routed: watch::Sender::new(Some(Routed::Yes)),
            on_suspect: Mutex::new(Box::new(|_, _| {})),
        }))
    }

    /// `workload` is ready at `address`.
    pub fn wake(&self, workload: &str, address: SocketAddr) -> Arc<Gate> {
        self.open(workload, address.ip(), Some(address.port()))
    }

    pub fn open(&self, workload: &str, address: IpAddr, port: Option<u16>) -> Arc<Gate> {
        let endpoint = Endpoint {
            workload: name(workload),
            address,
            port,
            serial: self.0.serials.fetch_add(1, Ordering::Relaxed),
        };
        let gate = Gate::open(endpoint, self.0.clock, Arc::new(Notify::new()));
        self.0.gates.lock().insert(name(workload), gate.clone());
        self.0.changed.send_replace(());
        gate
    }

    /// Waiting for `workload` ends so.
    pub fn refuse(&self, workload: &str, refusal: Refusal) {
        self.0.refusals.lock().insert(name(workload), refusal);
        self.0.changed.send_replace(());
    }

    /// `workload` sleeps again.
    pub fn lull(&self, workload: &str) {
        let gate = self.0.gates.lock().remove(&name(workload));
        gate.expect("it was awake").close();
    }

    /// What the proxy in front knows of every workload from now on.
    pub fn route(&self, routed: Option<Routed>) {
        self.0.routed.send_replace(routed);
    }

    /// Returns when a request waits for the route.
    pub async fn route_awaited(&self) {
        soon(async {
            while self.0.routed.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub fn on_suspect(&self, act: impl FnMut(&World, WorkloadName) + Send + 'static) {
        *self.0.on_suspect.lock() = Box::new(act);
    }

    pub fn nudges(&self) -> usize {
        self.0.nudges.load(Ordering::Relaxed)
    }

    pub fn suspects(&self) -> usize {
        *self.0.suspects.borrow()
    }

    /// Returns when exactly so many requests wait.
    pub async fn waiters(&self, count: usize) {
        let mut waiting = self.0.waiting.subscribe();
        soon(waiting.wait_for(|waiting| *waiting == count))
            .await
            .unwrap();
    }

    fn refusal(&self, workload: &WorkloadName) -> Option<Refusal> {
        self.0.refusals.lock().get(workload).cloned()
    }
}

/// Counts a waiter as long as it lives.
struct Waiter<'a>(&'a World);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

impl Wake for World {
    async fn acquire(&self, ask: Ask<'_>) -> Result<Lease, Refusal> {
        let mut changed = self.0.changed.subscribe();
        if let Some(refusal) = self.refusal(ask.workload) {
            return Err(refusal);
        }
        let superseded = async {
            match ask.superseded {
                Some(superseded) => superseded.cancelled().await,
                None => std::future::pending().await,
            }
        };
        self.0.waiting.send_modify(|waiting| *waiting += 1);
        let _waiter = Waiter(self);
        let awake = async {
            loop {
                if let Some(refusal) = self.refusal(ask.workload) {
                    return Err(refusal);
                }
                if let Some(lease) = self.acquire_ready(ask.workload, ask.counts) {
                    return Ok(lease);
                }
                changed.changed().await.unwrap();
            }
        };
        tokio::select! {
            answer = awake => answer,
            () = superseded => Err(Refusal::Superseded(ask.workload.clone())),
            () = tokio::time::sleep(ask.wait) => Err(Refusal::TimedOut {
                workload: ask.workload.clone(),
                waited: ask.wait,
            }),
        }
    }

    fn acquire_ready(&self, workload: &WorkloadName, counts: bool) -> Option<Lease> {
        self.0.gates.lock().get(workload)?.lease(counts)
    }

    fn nudge(
        &self,
        workload: &WorkloadName,
        _: Option<Creation<'_>>,
        _: Option<&CancellationToken>,
    ) -> Result<(), Refusal> {
        self.0.nudges.fetch_add(1, Ordering::Relaxed);
        self.refusal(workload).map_or(Ok(()), Err)
    }

    async fn suspect(&self, lease: Lease, _port: u16) {
        let workload = lease.endpoint().workload.clone();
        drop(lease);
        (self.0.on_suspect.lock())(self, workload);
        self.0.suspects.send_modify(|suspects| *suspects += 1);
    }

    async fn routed(&self, _: &Lease) -> Routed {
        let mut routed = self.0.routed.subscribe();
        let told = routed.wait_for(Option::is_some).await.unwrap();
        told.clone().unwrap()
    }
}

type Rule = dyn Fn(&RequestFacts<'_>) -> Result<Option<Decision>, ScriptFailure> + Send + Sync;
type Words = dyn Fn(&ErrorFacts) -> Result<Option<Reply>, ScriptFailure> + Send + Sync;

/// Scripts as closures.
#[derive(Clone)]
pub struct Rules {
    rule: Arc<Rule>,
    words: Arc<Words>,
}

impl Decide for Rules {
    type Version = Rules;

    fn version(&self) -> Rules {
        self.clone()
    }

    fn decide(&mut self, request: &RequestFacts<'_>) -> Result<Option<Decided>, ScriptFailure> {
        let decision = (self.rule)(request)?;
        Ok(decision.map(|decision| Decided {
            decision: Arc::new(decision),
            route: "/the/{route}".into(),
        }))
    }
}

impl OnError for Rules {
    fn on_error(
        &self,
        _: &RequestFacts<'_>,
        error: &ErrorFacts,
    ) -> Result<Option<Reply>, ScriptFailure> {
        (self.words)(error)
    }
}

/// What to run; `Setup::default()` sends everything to the workload `app`.
pub struct Setup {
    pub config: Config,
    pub apps: Apps,
    rules: Rules,
}

impl Default for Setup {
    fn default() -> Self {
        let mut config = Config::default();
        config.public.listen = Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into());
        config.public.workers = 1;
        config.hold.time = LIMIT;
        Self {
            config,
            apps: Apps::default(),
            rules: Rules {
                rule: Arc::new(|_| Ok(Some(Decision::Proxy(ProxyDecision::to(name("app")))))),
                words: Arc::new(|_| Ok(None)),
            },
        }
    }
}

impl Setup {
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    pub fn rule(
        mut self,
        rule: impl Fn(&RequestFacts<'_>) -> Result<Option<Decision>, ScriptFailure>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.rules.rule = Arc::new(rule);
        self
    }

    /// Everything to `app`, with the decision changed.
    pub fn proxy(self, change: impl Fn(&mut ProxyDecision) + Send + Sync + 'static) -> Self {
        self.rule(move |_| {
            let mut decision = ProxyDecision::to(name("app"));
            change(&mut decision);
            Ok(Some(Decision::Proxy(decision)))
        })
    }

    pub fn on_error(
        mut self,
        words: impl Fn(&ErrorFacts) -> Result<Option<Reply>, ScriptFailure> + Send + Sync + 'static,
    ) -> Self {
        self.rules.words = Arc::new(words);
        self
    }

    pub fn start(self) -> Rig {
        let world = World::new();
        let (running, registry) = self.start_with(world.clone());
        Rig {
            world,
            running,
            registry,
        }
    }

    /// The same over any source of leases.
    pub fn start_with(self, wake: impl Wake + Clone + Send) -> (Running, Registry) {
        let mut registry = crate::metrics::registry();
        let metrics = Metrics::new(&mut registry);
        let (config, rules) = (Arc::new(self.config), self.rules);
        let decider = move || rules.clone();
        let running = Proxy::start_with(config, wake, self.apps, decider, &metrics).unwrap();
        (running, registry)
    }
}

/// The data plane while it runs.
pub struct Rig {
    pub world: World,
    pub running: Running,
    registry: Registry,
}

pub fn address(running: &Running) -> SocketAddr {
    match running.address() {
        Bound::Tcp(address) => *address,
        Bound::Unix(path) => panic!("{path:?} is no TCP address"),
    }
}

impl Rig {
    pub fn address(&self) -> SocketAddr {
        address(&self.running)
    }

    pub async fn client(&self) -> Wire {
        Wire::connect(self.address()).await
    }

    /// An application that is ready as `app`.
    pub async fn app(&self) -> (App, Arc<Gate>) {
        let app = App::listen().await;
        let gate = self.world.wake("app", app.address);
        (app, gate)
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Returns when the metrics have this line.
    pub async fn metric(&self, line: &str) {
        let line = format!("{line}\n");
        soon(async {
            while !self.metrics().contains(&line) {
                // It is noted by another thread right after what the test has seen.
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// An application: what connects to it is played by the test.
pub struct App {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl App {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    pub async fn accept(&self) -> Wire {
        Wire::new(soon(self.listener.accept()).await.unwrap().0)
    }

    /// Whether nobody has connected.
    pub fn is_unused(&self) -> bool {
        use futures_util::FutureExt;
        self.listener.accept().now_or_never().is_none()
    }
}

/// An address on which nothing listens. It is kept to the end, or another test might get its port.
pub async fn dead_address() -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}
