//! The whole gateway as its users have it: the real program, before the sample application.
//!
//! Each line runs `wakegate serve` as a child process, over the process runtime or over a real
//! engine. Without an engine its lines are reported as ignored; when the environment variable
//! `WAKEGATE_REQUIRE` names `docker`, they fail instead. Effects are looked at from the other
//! side: what the engine says, what the application prints and answers, bytes on the wire.

mod admin;
mod admin_refusals;
mod bench;
mod client;
mod commands;
mod creating;
mod decisions;
mod engine;
mod failing;
mod forwarding;
mod frame;
mod gateway;
mod guard;
mod idling;
mod malformed;
mod races;
mod restarting;
mod scripts;
mod setup;
mod streams;
mod uploads;
mod waking;
mod world;

use std::pin::Pin;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Handle;

use bench::{Bench, Kind};
use world::Engine;

/// One line of what the gateway promises.
struct Line {
    name: &'static str,
    on: On,
    run: fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What runs the containers of a line.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Process,
    Docker,
    Both,
}

/// Lines by the names of their functions.
macro_rules! lines {
    ($($on:ident $name:ident),* $(,)?) => {
        pub const LINES: &[$crate::Line] = &[$($crate::Line {
            name: concat!(module_path!(), "::", stringify!($name)),
            on: $crate::On::$on,
            run: |bench| Box::pin($name(bench)),
        }),*];
    };
}
use lines;

const ALL: [&[Line]; 16] = [
    waking::LINES,
    uploads::LINES,
    streams::LINES,
    failing::LINES,
    idling::LINES,
    races::LINES,
    restarting::LINES,
    decisions::LINES,
    creating::LINES,
    forwarding::LINES,
    malformed::LINES,
    admin::LINES,
    admin_refusals::LINES,
    guard::LINES,
    commands::LINES,
    engine::LINES,
];

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let tokio = frame::tokio();
    let engine = tokio.block_on(Engine::find());
    let required = frame::is_required("docker");
    if let (Err(reason), false) = (&engine, required) {
        eprintln!("the lines about Docker are ignored: {reason}");
    }
    let mut trials = Vec::new();
    for line in ALL.into_iter().flatten() {
        if line.on != On::Docker {
            trials.push(trial(line, Ok(Kind::Process), tokio.handle(), false));
        }
        if line.on != On::Process {
            let kind = engine.clone().map(Kind::Docker);
            let ignored = kind.is_err() && !required;
            trials.push(trial(line, kind, tokio.handle(), ignored));
        }
    }
    tokio.spawn(bench::clear_when_interrupted());
    let conclusion = libtest_mimic::run(&args, trials);
    let cleared = match engine {
        Ok(engine) => tokio.block_on(engine.clear()),
        Err(_) => Ok(()),
    };
    frame::exit_code(&conclusion, cleared)
}

fn trial(line: &'static Line, kind: Result<Kind, String>, handle: &Handle, ignored: bool) -> Trial {
    let on = match &kind {
        Ok(Kind::Process) => "process",
        _ => "docker",
    };
    let name = frame::name(line.name);
    let handle = handle.clone();
    let body = move || handle.block_on(run(line, kind?));
    Trial::test(format!("{on}::{name}"), body).with_ignored_flag(ignored)
}

/// Runs one line and removes what it made, however it ended.
async fn run(line: &'static Line, kind: Kind) -> Result<(), Failed> {
    let bench = Bench::new(kind).await?;
    let clear = async || bench.clear().await;
    frame::run((line.run)(bench.clone()), clear, || bench.story()).await
}
