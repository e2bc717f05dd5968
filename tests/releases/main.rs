//! Releases as their users have them: the real program, asked by its admin API and its commands.
//!
//! Each line runs `wakegate serve` as a child process over the process runtime or a real engine, and
//! looks at what came of it from the other side: the engine's and the kernel's word, the store's own
//! files or objects, what the applications report and print, bytes on the wire. A line that needs
//! Docker, a registry or an S3 server is reported as ignored where there is none; when the
//! environment variable `WAKEGATE_REQUIRE` names `docker`, `registry` or `s3`, it fails instead.

// Shared with other suites, which use more of them.
#[allow(dead_code)]
#[path = "../end_to_end/bench.rs"]
mod bench;
#[allow(dead_code)]
#[path = "../end_to_end/client.rs"]
mod client;
#[path = "../end_to_end/frame.rs"]
mod frame;
#[allow(dead_code)]
#[path = "../end_to_end/gateway.rs"]
mod gateway;
#[allow(dead_code)]
#[path = "../store/moto.rs"]
mod moto;
#[allow(dead_code)]
#[path = "../end_to_end/scripts.rs"]
mod scripts;
#[allow(dead_code)]
#[path = "../end_to_end/setup.rs"]
mod setup;
#[allow(dead_code)]
#[path = "../end_to_end/world.rs"]
mod world;

mod api;
mod between;
mod bucket;
mod configuration;
mod gate;
mod load;
mod seen;
mod servers;
mod shelf;
mod stage;
mod streams;
mod traffic;

mod canary;
mod commands;
mod counting;
mod door;
mod env_file;
mod failing;
mod images;
mod journal;
mod keeping;
mod killed;
mod launching;
mod rolling_back;
mod sharing;
mod sleeping;
mod starting;
mod stores;
mod switching;
mod under_load;

use std::pin::Pin;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Handle;

use bench::Kind;
use stage::Stage;
use world::Engine;

/// Lines that run at once: they mostly wait for what has a time of its own.
const AT_ONCE: usize = 6;

/// One line of what releases promise.
struct Line {
    name: &'static str,
    on: On,
    run: fn(Stage) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What a line is run over.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Process,
    Docker,
    Both,
    /// The process runtime and an S3 server.
    S3,
    /// Docker and a registry.
    Registry,
}

/// Lines by the names of their functions.
macro_rules! lines {
    ($($on:ident $name:ident),* $(,)?) => {
        pub const LINES: &[$crate::Line] = &[$($crate::Line {
            name: concat!(module_path!(), "::", stringify!($name)),
            on: $crate::On::$on,
            run: |stage| Box::pin($name(stage)),
        }),*];
    };
}
use lines;

const ALL: [&[Line]; 18] = [
    killed::LINES,
    under_load::LINES,
    switching::LINES,
    launching::LINES,
    failing::LINES,
    keeping::LINES,
    rolling_back::LINES,
    canary::LINES,
    starting::LINES,
    sleeping::LINES,
    door::LINES,
    env_file::LINES,
    sharing::LINES,
    stores::LINES,
    images::LINES,
    commands::LINES,
    journal::LINES,
    counting::LINES,
];

/// What there is to run lines over; an error says why there is not.
struct Parts {
    engine: Result<Engine, String>,
    registry: Result<(), String>,
    moto: Result<(), String>,
}

impl Parts {
    async fn find() -> Self {
        Self {
            engine: Engine::find().await,
            registry: servers::Registry::is_there(),
            moto: bucket::is_there(),
        }
    }

    fn tell(&self) {
        let all = [
            ("Docker", self.engine.as_ref().err()),
            ("a registry", self.registry.as_ref().err()),
            ("S3", self.moto.as_ref().err()),
        ];
        for (what, reason) in all {
            if let Some(reason) = reason {
                eprintln!("no lines about {what}: {reason}");
            }
        }
    }

    /// What the line is run over, by name; an error says what is missing.
    fn of(&self, line: &'static Line) -> Vec<(&'static str, Result<Kind, String>, bool)> {
        let docker = || self.engine.clone().map(Kind::Docker);
        let mut over = Vec::new();
        if matches!(line.on, On::Process | On::Both) {
            over.push(("process", Ok(Kind::Process), true));
        }
        if matches!(line.on, On::Docker | On::Both) {
            over.push(("docker", docker(), frame::is_required("docker")));
        }
        if line.on == On::S3 {
            let kind = self.moto.clone().map(|()| Kind::Process);
            over.push(("s3", kind, frame::is_required("s3")));
        }
        if line.on == On::Registry {
            let kind = self.registry.clone().and_then(|()| docker());
            over.push(("registry", kind, frame::is_required("registry")));
        }
        over
    }
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(AT_ONCE));
    let tokio = frame::tokio();
    let parts = tokio.block_on(Parts::find());
    parts.tell();
    let mut trials = Vec::new();
    for line in ALL.into_iter().flatten() {
        for (over, kind, is_required) in parts.of(line) {
            trials.push(trial(line, over, kind, is_required, tokio.handle()));
        }
    }
    tokio.spawn(clear_when_interrupted(parts.engine.clone().ok()));
    let conclusion = libtest_mimic::run(&args, trials);
    let cleared = tokio.block_on(clear(parts.engine.as_ref().ok()));
    frame::exit_code(&conclusion, cleared)
}

fn trial(
    line: &'static Line,
    over: &str,
    kind: Result<Kind, String>,
    is_required: bool,
    handle: &Handle,
) -> Trial {
    let name = frame::name(line.name);
    let is_ignored = kind.is_err() && !is_required;
    let handle = handle.clone();
    let body = move || handle.block_on(run(line, kind?));
    Trial::test(format!("{over}::{name}"), body).with_ignored_flag(is_ignored)
}

/// Runs one line and removes what it made, however it ended.
async fn run(line: &'static Line, kind: Kind) -> Result<(), Failed> {
    let stage = Stage::new(kind).await?;
    let clear = async || stage.clear().await;
    frame::run((line.run)(stage.clone()), clear, || stage.story()).await
}

/// Removes what all lines shared, once all are cleared.
async fn clear(engine: Option<&Engine>) -> Result<(), String> {
    servers::end_all();
    match engine {
        Some(engine) => engine.clear().await,
        None => Ok(()),
    }
}

/// Clears everything when the whole suite is told to end.
async fn clear_when_interrupted(engine: Option<Engine>) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate()]
        .map(|kind| signal(kind).expect("signals can be listened to"));
    let [interrupt, terminate] = &mut signals;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if let Err(error) = stage::clear_all().await {
        eprintln!("not everything is cleared: {error}");
    }
    if let Err(error) = clear(engine.as_ref()).await {
        eprintln!("not everything is cleared: {error}");
    }
    std::process::exit(130);
}
