//! Images from real registries and archives, on a real engine: pulled, loaded, removed; and logs.
//!
//! These need a Docker engine, the `docker` command (the other side's view of all that is checked
//! here) and Debian's `docker-registry`, which each trial starts for itself on 127.0.0.1. Where one
//! of them is missing the trials are reported as ignored; when `WAKEGATE_REQUIRE` has the word
//! `registry` they fail instead, and with the word `docker` they do without an engine.

// Shared with other suites, which use more of it.
#[allow(dead_code)]
#[path = "../end_to_end/frame.rs"]
mod frame;

mod app;
mod bench;
mod loads;
mod logs;
mod pulls;
mod registries;
mod removals;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    if let Some(code) = app::run_if_asked() {
        return code;
    }
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(pulls::trials());
    trials.extend(registries::trials());
    trials.extend(loads::trials());
    trials.extend(removals::trials());
    trials.extend(logs::trials());
    if let Err((kind, reason)) = bench::everything_is_there() {
        let required = frame::is_required("registry") || frame::is_required(kind);
        if !required {
            eprintln!("the trials of registries are ignored: {reason}");
        }
        trials = trials
            .into_iter()
            .map(|trial| {
                let words = format!("WAKEGATE_REQUIRE wants these to run, and {reason}");
                Trial::test(trial.name().to_owned(), move || Err(Failed::from(words)))
                    .with_ignored_flag(!required)
            })
            .collect();
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    match bench::clean_up() {
        Ok(()) => conclusion.exit_code(),
        Err(reason) => {
            eprintln!("something stays on the engine: {reason}");
            ExitCode::FAILURE
        }
    }
}
