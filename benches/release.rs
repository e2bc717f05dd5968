//! A switch under the load that the guide promises it for: no failed request, uploads that end on the
//! old release, streams that live until the drain limit, and the moment of SIGTERM.
//!
//!     cargo bench --bench release
//!
//! It takes about two minutes and ends with an error when a promise is not kept. Loopback only: the
//! releases are the sample application on the process runtime.

// Shared with the end-to-end tests, which use more of them.
#[allow(dead_code)]
#[path = "../tests/releases/api.rs"]
mod api;
#[allow(dead_code)]
#[path = "../tests/end_to_end/bench.rs"]
mod bench;
#[allow(dead_code)]
#[path = "../tests/releases/bucket.rs"]
mod bucket;
#[allow(dead_code)]
#[path = "../tests/end_to_end/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../tests/releases/configuration.rs"]
mod configuration;
#[allow(dead_code)]
#[path = "../tests/end_to_end/gateway.rs"]
mod gateway;
#[allow(dead_code)]
#[path = "../tests/releases/load.rs"]
mod load;
#[allow(dead_code)]
#[path = "../tests/store/moto.rs"]
mod moto;
#[allow(dead_code)]
#[path = "../tests/end_to_end/scripts.rs"]
mod scripts;
#[allow(dead_code)]
#[path = "../tests/releases/seen.rs"]
mod seen;
#[allow(dead_code)]
#[path = "../tests/end_to_end/setup.rs"]
mod setup;
#[allow(dead_code)]
#[path = "../tests/releases/shelf.rs"]
mod shelf;
#[allow(dead_code)]
#[path = "../tests/releases/stage.rs"]
mod stage;
#[allow(dead_code)]
#[path = "../tests/releases/streams.rs"]
mod streams;
#[allow(dead_code)]
#[path = "../tests/releases/traffic.rs"]
mod traffic;
#[allow(dead_code)]
#[path = "../tests/end_to_end/world.rs"]
mod world;

use std::process::ExitCode;
use std::time::Duration;

use load::Load;
use stage::Stage;

fn main() -> ExitCode {
    // Under `cargo test --benches` there is nothing to measure.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let with_streams = Load {
        per_second: 200,
        connections: 20,
        uploads: 10,
        upload_time: Duration::from_secs(10),
        websockets: 10,
        streams: 5,
        drain_limit: Duration::from_secs(30),
        failed_checks: 5,
        check_every: Duration::from_secs(1),
        before_switch: Duration::from_secs(1),
        late_max: Duration::from_secs(3),
    };
    let without_streams = Load {
        websockets: 0,
        streams: 0,
        failed_checks: 0,
        ..with_streams.clone()
    };
    runtime.spawn(clear_when_interrupted());
    let mut is_well = true;
    for (what, load) in [
        (
            "streams hold the old release until the drain limit",
            with_streams,
        ),
        ("the old release ends with its last upload", without_streams),
    ] {
        println!("{what}: {load:?}");
        is_well &= runtime.block_on(one(&load));
    }
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn clear_when_interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be listened to");
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if let Err(error) = stage::clear_all().await {
        eprintln!("not everything is cleared: {error}");
    }
    std::process::exit(130);
}

/// One run with an end that leaves nothing behind.
async fn one(load: &Load) -> bool {
    let stage = Stage::new(bench::Kind::Process).await.expect("a folder");
    let body = tokio::spawn({
        let (stage, load) = (stage.clone(), load.clone());
        async move { load::run(&stage, &load).await }
    });
    let ended = body.await;
    let cleared = stage.clear().await;
    let is_well = match ended {
        Ok(outcome) => {
            println!("{}", outcome.text());
            outcome.is_well()
        }
        Err(panicked) => {
            println!("{panicked}\n{}", stage.story());
            false
        }
    };
    if let Err(error) = &cleared {
        println!("something stays: {error}");
    }
    is_well && cleared.is_ok()
}
