//! The Docker adapter against a real engine. Without an engine these are reported as ignored;
//! when `WAKEGATE_REQUIRE` has the word `docker`, they fail instead.
//!
//! The image that they run is made from this very program: it is one static executable.

// Shared with other suites, which use more of it.
#[allow(dead_code)]
#[path = "../end_to_end/frame.rs"]
mod frame;

mod app;
mod bench;
mod containers;
mod first_run;
mod names;
mod trouble;

use libtest_mimic::{Arguments, Trial};

fn main() -> std::process::ExitCode {
    if let Some(code) = app::run_if_asked() {
        return code;
    }
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(containers::trials());
    trials.extend(names::trials());
    trials.extend(first_run::trials());
    trials.extend(trouble::trials());
    let engine = bench::engine();
    let required = frame::is_required("docker");
    let trials: Vec<Trial> = trials
        .into_iter()
        .map(|trial| {
            let is_ignored = trial.has_ignored_flag() || (engine.is_err() && !required);
            trial.with_ignored_flag(is_ignored)
        })
        .collect();
    if let Err(error) = &engine {
        eprintln!("no Docker engine for the tests: {error}");
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    bench::clean_up();
    conclusion.exit_code()
}
