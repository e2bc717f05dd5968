//! `wakegate test`: the scripts' own tests, told as `cargo test` tells its own.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::say;
use crate::config::Scripts;
use crate::script::selftest::Outcome;
use crate::script::version::{Version, on_a_deep_stack};

/// What `cargo test` exits with when a test fails or nothing can be built.
const FAILED: u8 = 101;

/// Runs the tests whose name has `filter` in it.
pub fn run(scripts: &Scripts, filter: &str) -> ExitCode {
    let version = match Version::load(&scripts.dir, &scripts.given, 1) {
        Ok(version) => version,
        Err(errors) => {
            for error in &errors {
                eprintln!("error: {error}\n");
            }
            eprintln!(
                "error: the scripts in {} are not usable (see above)",
                scripts.dir.display()
            );
            return ExitCode::from(FAILED);
        }
    };
    let all = version.test_names().len();
    let began = Instant::now();
    let outcomes = on_a_deep_stack(|| version.test(|name| name.contains(filter)));
    say(&report(&outcomes, all - outcomes.len(), began.elapsed()));
    if outcomes.iter().all(|outcome| outcome.result.is_ok()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

fn report(outcomes: &[Outcome], filtered_out: usize, took: Duration) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut text, outcomes, filtered_out, took);
    text
}

fn write_report(
    text: &mut String,
    outcomes: &[Outcome],
    filtered_out: usize,
    took: Duration,
) -> std::fmt::Result {
    let plural = if outcomes.len() == 1 { "" } else { "s" };
    writeln!(text, "\nrunning {} test{plural}", outcomes.len())?;
    let mut failures = Vec::new();
    for outcome in outcomes {
        let word = match &outcome.result {
            Ok(()) => "ok",
            Err(error) => {
                failures.push((&outcome.name, error));
                "FAILED"
            }
        };
        writeln!(text, "test {} ... {word}", outcome.name)?;
    }
    if !failures.is_empty() {
        writeln!(text, "\nfailures:\n")?;
        for (name, error) in &failures {
            writeln!(text, "---- {name} ----\n{error}\n")?;
        }
        writeln!(text, "\nfailures:")?;
        for (name, _) in &failures {
            writeln!(text, "    {name}")?;
        }
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    writeln!(
        text,
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; {filtered_out} filtered out; \
         finished in {:.2}s\n",
        outcomes.len() - failures.len(),
        failures.len(),
        took.as_secs_f64()
    )
}
