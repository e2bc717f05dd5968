//! The frame of a suite whose parts may be missing and whose lines clear up after themselves.

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Conclusion, Failed};
use tokio::runtime::Runtime;

/// For one line; most take a few seconds. Only there so that nothing hangs.
const LINE_TIME_MAX: Duration = Duration::from_secs(400);

/// Whether `WAKEGATE_REQUIRE` names this part: what needs it then fails without it.
pub fn is_required(part: &str) -> bool {
    let required = std::env::var("WAKEGATE_REQUIRE").unwrap_or_default();
    required.split([',', ' ']).any(|word| word == part)
}

/// Threads for the lines, however few cores there are: one that is kept busy, or waits for the
/// kernel, must not stop the clocks and clients of all others.
const WORKERS: usize = 8;

pub fn tokio() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .expect("a tokio runtime")
}

/// A function's path without the name of the program.
pub fn name(path: &'static str) -> &'static str {
    path.split_once("::").map_or(path, |(_, name)| name)
}

/// Runs one line and clears what it made, however it ended; the story is told when it failed.
pub async fn run<T: Send + 'static>(
    line: impl Future<Output = T> + Send + 'static,
    clear: impl AsyncFnOnce() -> Result<(), String>,
    story: impl FnOnce() -> String,
) -> Result<T, Failed> {
    let line = tokio::spawn(line);
    let abort = line.abort_handle();
    let ended = tokio::time::timeout(LINE_TIME_MAX, line).await;
    abort.abort();
    let cleared = clear().await;
    match ended {
        Ok(Ok(value)) => cleared.map(|()| value).map_err(Failed::from),
        Ok(Err(panicked)) => Err(Failed::from(format!("{panicked}\n{}", story()))),
        Err(_) => Err(Failed::from(format!("it does not end\n{}", story()))),
    }
}

/// A suite that left something behind has failed.
pub fn exit_code(conclusion: &Conclusion, cleared: Result<(), String>) -> ExitCode {
    match cleared {
        Ok(()) => conclusion.exit_code(),
        Err(error) => {
            eprintln!("something stays: {error}");
            ExitCode::FAILURE
        }
    }
}
