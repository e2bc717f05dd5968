//! What this program does inside a container.

use std::io::Write;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use wakegate::config;
use wakegate::runtime::docker::Docker;
use wakegate::runtime::{InstanceId, Runtime};

/// The first argument that makes this program the application in a container.
pub const IN_CONTAINER: &str = "in-container";

/// The exit code of an application that was asked to end.
pub const ASKED: i64 = 7;

/// The application's modes:
/// `wait` ends with [`ASKED`] on SIGTERM; `deaf` takes no notice of it; `exit CODE` ends at once;
/// `address-of ID LABEL` tells where the container with that id is reached from this one.
pub fn run_if_asked() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [_, IN_CONTAINER, mode @ ..] = arguments.as_slice() else {
        return None;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    Some(runtime.block_on(run(mode)))
}

async fn run(mode: &[&str]) -> ExitCode {
    match mode {
        ["wait"] => {
            let mut terminate = signal(SignalKind::terminate()).unwrap();
            say("up");
            terminate.recv().await;
            ExitCode::from(u8::try_from(ASKED).unwrap())
        }
        ["deaf"] => {
            // The kernel keeps signals without a handler from a container's first process.
            say("up");
            std::future::pending().await
        }
        ["exit", code] => ExitCode::from(code.parse::<u8>().unwrap()),
        ["address-of", id, label] => {
            let config = config::Config::default().docker;
            let (key, value) = label.split_once('=').unwrap();
            let docker = Docker::connect(&config, (key.to_owned(), value.to_owned())).unwrap();
            match docker.inspect(&InstanceId::new(id)).await {
                Ok(instance) => say(&instance.address.unwrap().to_string()),
                Err(error) => say(&error.to_string()),
            }
            ExitCode::SUCCESS
        }
        other => {
            say(&format!("no such mode: {other:?}"));
            ExitCode::from(99)
        }
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}
