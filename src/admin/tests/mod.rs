//! The admin API over real sockets, before a stage of workloads that plays what it is told.

mod body;
mod client;
mod deploy;
mod doors;
mod fleet;
mod guard;
mod listener;
mod page;
mod scripts;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{Parts, Running, ScriptsView, Templates, Workloads};
use crate::config::{self, Config, Listen, Secret};
use crate::decision::{ContainerFacts, ScriptFailure};
use crate::deploy::manager::Manager;
use crate::lifecycle::fleet::{OrderError, View};
use crate::metrics;
use crate::names::WorkloadName;
use crate::script::history::RollbackError;
use crate::script::version::Version;
use crate::spec::{SpecPolicy, WorkloadSpec};

/// So that a test cannot hang; nothing is expected to take so long.
const LIMIT: Duration = Duration::from_secs(120);

/// Workloads that do nothing but remember what was ordered.
struct Stage {
    views: Mutex<Vec<View>>,
    /// Every order, and `… done` at its end.
    orders: watch::Sender<Vec<String>>,
    /// What every order is refused with.
    refusal: Mutex<Option<OrderError>>,
    /// Orders wait while this is set.
    stalled: watch::Sender<bool>,
    engine: Mutex<Result<(), String>>,
}

impl Stage {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            views: Mutex::new(Vec::new()),
            orders: watch::Sender::new(Vec::new()),
            refusal: Mutex::new(None),
            stalled: watch::Sender::new(false),
            engine: Mutex::new(Ok(())),
        })
    }

    fn orders(&self) -> Vec<String> {
        self.orders.borrow().clone()
    }

    async fn has_ordered(&self, order: &str) {
        let mut orders = self.orders.subscribe();
        let seen = orders.wait_for(|orders| orders.iter().any(|known| known == order));
        tokio::time::timeout(LIMIT, seen).await.unwrap().unwrap();
    }

    async fn play(&self, order: String) -> Result<(), OrderError> {
        self.orders.send_modify(|orders| orders.push(order.clone()));
        let mut stalled = self.stalled.subscribe();
        stalled.wait_for(|stalled| !stalled).await.unwrap();
        if let Some(refusal) = self.refusal.lock().clone() {
            return Err(refusal);
        }
        self.orders
            .send_modify(|orders| orders.push(format!("{order} done")));
        Ok(())
    }

    fn set_phase(&self, name: &str, phase: &'static str) -> Result<View, OrderError> {
        let mut views = self.views.lock();
        let view = views
            .iter_mut()
            .find(|view| view.name.as_str() == name || view.id == name)
            .ok_or_else(|| OrderError::Unknown(name.to_owned()))?;
        view.phase = phase;
        Ok(view.clone())
    }
}

#[async_trait]
impl Workloads for Stage {
    fn views(&self) -> Vec<View> {
        self.views.lock().clone()
    }

    fn view(&self, name_or_id: &str) -> Option<View> {
        let views = self.views.lock();
        let found = views
            .iter()
            .find(|view| view.name.as_str() == name_or_id || view.id == name_or_id);
        found.cloned()
    }

    async fn container(&self, name: &str) -> Option<ContainerFacts> {
        let view = self.view(name)?;
        Some(ContainerFacts {
            name: name.to_owned(),
            labels: view.labels,
            ..ContainerFacts::default()
        })
    }

    async fn deploy(&self, spec: WorkloadSpec, start: bool) -> Result<View, OrderError> {
        assert_ne!(spec.image, "panic", "as the test asked for");
        self.play(format!("deploy {} start={start}", spec.name))
            .await?;
        let view = view(
            spec.name.as_str(),
            if start { "starting" } else { "stopped" },
        );
        let view = View {
            image: spec.image,
            labels: spec.labels,
            ..view
        };
        self.views.lock().push(view.clone());
        Ok(view)
    }

    async fn start(
        &self,
        name_or_id: &str,
        until_ready: Option<Duration>,
    ) -> Result<View, OrderError> {
        self.play(format!("start {name_or_id} until_ready={until_ready:?}"))
            .await?;
        let phase = until_ready.map_or("starting", |_| "ready");
        self.set_phase(name_or_id, phase)
    }

    async fn remove(&self, name_or_id: &str) -> Result<(), OrderError> {
        self.play(format!("remove {name_or_id}")).await?;
        self.set_phase(name_or_id, "removing")?;
        self.views
            .lock()
            .retain(|view| view.name.as_str() != name_or_id && view.id != name_or_id);
        Ok(())
    }

    fn engine(&self) -> Result<(), String> {
        self.engine.lock().clone()
    }
}

fn view(name: &str, phase: &'static str) -> View {
    View {
        id: format!("id-of-{name}"),
        name: WorkloadName::new(name).unwrap(),
        phase,
        reason: None,
        address: None,
        image: "image:1".to_owned(),
        labels: BTreeMap::new(),
        leases: 0,
        waiting: 0,
        idle_seconds: None,
        idle_stop_seconds: None,
        drain_seconds_left: None,
        phase_seconds: 1.5,
    }
}

/// Scripts with the templates `web` (which takes a `name`) and `broken`.
struct Book {
    loaded: bool,
}

impl Book {
    fn view(&self, version: u64) -> ScriptsView {
        ScriptsView {
            version,
            hash: "abc".to_owned(),
            since: "2026-01-02T03:04:05.000Z".to_owned(),
            rolled_back: version != 3,
            rolled_back_because: None,
            tests: 0,
            shadow: None,
            held: None,
            routes: Vec::new(),
            templates: self.names(),
            refused: None,
            kept: Vec::new(),
        }
    }
}

impl Templates for Book {
    fn fill(
        &self,
        template: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        match template {
            "web" => {
                let name = vars["name"].as_str().unwrap();
                let mut spec = WorkloadSpec::new(WorkloadName::new(name).unwrap(), "web:2");
                spec.privileged = vars.contains_key("privileged");
                Ok(Some(spec))
            }
            "broken" => Err(ScriptFailure {
                message: "web.rhai:7:3: vars.id is missing".to_owned(),
                source_line: Some("  vars.id\n  ^".to_owned()),
            }),
            _ => Ok(None),
        }
    }

    fn names(&self) -> Vec<String> {
        vec!["broken".to_owned(), "web".to_owned()]
    }

    fn loaded(&self) -> Option<ScriptsView> {
        self.loaded.then(|| self.view(3))
    }

    fn serving(&self) -> Option<Arc<Version>> {
        None
    }

    fn roll_back(&self, to: Option<u64>) -> Result<ScriptsView, RollbackError> {
        match to {
            None => Err(RollbackError::NoneBefore { serving: 3 }),
            Some(number @ 1..=3) => Ok(self.view(number)),
            Some(asked) => Err(RollbackError::NotKept {
                asked,
                kept: vec![1, 2, 3],
            }),
        }
    }

    fn activate(&self) -> ScriptsView {
        self.view(3)
    }
}

/// A running admin API and the stage behind it.
struct House {
    stage: Arc<Stage>,
    running: Running,
}

fn configured() -> config::Admin {
    config::Admin {
        listen: Listen::Tcp(([127, 0, 0, 1], 0).into()),
        ..Config::default().admin
    }
}

fn with_token(token: &str) -> config::Admin {
    config::Admin {
        token: Some(Secret(token.to_owned())),
        ..configured()
    }
}

fn parts(stage: &Arc<Stage>) -> Parts {
    let mut registry = metrics::registry();
    let starts: Counter = Counter::default();
    starts.inc();
    registry.register("starts", "Starts", starts);
    Parts {
        workloads: stage.clone(),
        templates: Arc::new(Book { loaded: true }),
        registry: Arc::new(registry),
        policy: SpecPolicy::default(),
        releases: Manager::of_none(),
    }
}

async fn house() -> House {
    house_with(&configured()).await
}

async fn house_with(config: &config::Admin) -> House {
    let stage = Stage::new();
    let running = super::start(config, parts(&stage)).await.unwrap();
    House { stage, running }
}

impl House {
    fn tcp(&self) -> SocketAddr {
        match self.running.address() {
            Listen::Tcp(address) => *address,
            Listen::Unix(path) => panic!("{path:?} is no TCP address"),
        }
    }

    /// Waits until so many tasks run: the listener, its connections and orders.
    async fn has_tasks(&self, count: usize) {
        let is_so = async {
            while self.running.tasks.len() != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, is_so).await.unwrap();
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.tcp()).await.unwrap()
    }

    /// Sends these bytes on a connection of their own and reads to its end.
    async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        exchange(&mut stream, bytes).await
    }

    /// A request to the listener's own name.
    async fn ask(&self, method: &str, target: &str, headers: &[&str], body: &str) -> Answer {
        let host = format!("Host: {}", self.tcp());
        let headers = [&[host.as_str()], headers].concat();
        self.raw(&request(method, target, &headers, body)).await
    }

    async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], "").await
    }

    async fn post(&self, target: &str, body: &str) -> Answer {
        self.ask("POST", target, &["Content-Type: application/json"], body)
            .await
    }
}

/// The bytes of a request whose connection ends with its answer.
fn request(method: &str, target: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    for header in headers {
        bytes += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        bytes += &format!("Content-Length: {}\r\n", body.len());
    }
    (bytes + "\r\n" + body).into_bytes()
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Answer {
    stream.write_all(bytes).await.unwrap();
    read_to_end(stream).await
}

async fn read_to_end<S: AsyncRead + Unpin>(stream: &mut S) -> Answer {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(LIMIT, read).await.unwrap().unwrap();
    Answer::parse(&String::from_utf8(answer).unwrap())
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self {
            status: status.parse().unwrap(),
            headers: headers.collect(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Checks that this is a problem of this status and kind, and gives its detail.
    #[track_caller]
    fn problem(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let json = self.json();
        assert_eq!(json["status"], status, "{json}");
        assert_eq!(json["kind"], kind, "{json}");
        assert_eq!(json["type"], "about:blank", "{json}");
        assert!(json["title"].is_string(), "{json}");
        json["detail"].as_str().unwrap().to_owned()
    }
}
