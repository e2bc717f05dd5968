//! The gateway beside a real Traefik 3, before real containers: the set-up of docs/TRAEFIK.md.
//!
//! Traefik runs as a child process with its Docker provider on the same engine, and sees only the
//! containers of its own line. Where there is no engine or no Traefik (`TRAEFIK_BIN`, else
//! `target/test-tools/traefik/bin/traefik`, else in the path), the lines are reported as ignored;
//! when the environment variable `WAKEGATE_REQUIRE` names `traefik`, they fail instead. Who answered
//! a request is told by Traefik's access log, never by the gateway.

// Made for the lines of another suite, of which not all is needed here.
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
#[path = "../end_to_end/scripts.rs"]
mod scripts;
#[allow(dead_code)]
#[path = "../end_to_end/setup.rs"]
mod setup;
#[allow(dead_code)]
#[path = "../end_to_end/world.rs"]
mod world;

mod awake;
mod cookies;
mod deploying;
mod faults;
mod idling;
mod proxying;
mod traefik;
mod visitor;
mod waking;

use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use bench::{Bench, Kind};
use world::Engine;

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One line of what is promised beside Traefik.
struct Line {
    name: &'static str,
    run: fn(Bench, PathBuf) -> Running,
}

/// Lines by the names of their functions.
macro_rules! lines {
    ($($name:ident),* $(,)?) => {
        pub const LINES: &[$crate::Line] = &[$($crate::Line {
            name: concat!(module_path!(), "::", stringify!($name)),
            run: |bench, program| Box::pin($name(bench, program)),
        }),*];
    };
}
use lines;

const ALL: [&[Line]; 7] = [
    awake::LINES,
    waking::LINES,
    proxying::LINES,
    faults::LINES,
    idling::LINES,
    cookies::LINES,
    deploying::LINES,
];

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let tokio = frame::tokio();
    let engine = tokio.block_on(Engine::find());
    let found = engine.clone().and_then(|engine| {
        let program = traefik::program()?;
        Ok((engine, program))
    });
    let required = frame::is_required("traefik");
    if let (Err(reason), false) = (&found, required) {
        eprintln!("the lines beside Traefik are ignored: {reason}");
    }
    let trials = ALL.into_iter().flatten().map(|line| {
        let (found, handle) = (found.clone(), tokio.handle().clone());
        let ignored = found.is_err() && !required;
        let name = frame::name(line.name);
        let body = move || {
            let (engine, program) = found?;
            handle.block_on(run(line, engine, program))
        };
        Trial::test(name, body).with_ignored_flag(ignored)
    });
    let trials = trials.collect();
    tokio.spawn(bench::clear_when_interrupted());
    let conclusion = libtest_mimic::run(&args, trials);
    let cleared = match engine {
        Ok(engine) => tokio.block_on(engine.clear()),
        Err(_) => Ok(()),
    };
    frame::exit_code(&conclusion, cleared)
}

/// Runs one line and removes what it made, however it ended.
async fn run(line: &'static Line, engine: Engine, program: PathBuf) -> Result<(), Failed> {
    let bench = Bench::new(Kind::Docker(engine)).await?;
    let body = (line.run)(bench.clone(), program);
    frame::run(body, async || bench.clear().await, || bench.story()).await
}
