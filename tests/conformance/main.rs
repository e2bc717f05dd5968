//! One suite of behaviours over every runtime: what the lifecycle relies on, whoever runs things.
//!
//! A runtime whose engine does not answer has its trials reported as ignored; when the environment
//! variable `WAKEGATE_REQUIRE` names it (`docker`), they fail instead.

// Shared with other suites, which use more of it.
#[allow(dead_code)]
#[path = "../end_to_end/frame.rs"]
mod frame;

mod behaviours;
mod subject;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Handle;

use behaviours::{BEHAVIOURS, Behaviour};
use subject::{Bench, Subject, docker, fake, process};

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let tokio = frame::tokio();
    let handle = tokio.handle();
    let mut trials = Vec::new();
    let mut subjects = Vec::new();
    for (kind, found) in tokio.block_on(async {
        [
            ("fake", Ok(fake())),
            ("process", process()),
            ("docker", docker(args.list).await),
        ]
    }) {
        match found {
            Ok(subject) => {
                let subject = Arc::new(subject);
                trials.extend(trials_of(&subject, handle));
                subjects.push(subject);
            }
            Err(reason) => trials.extend(trials_without(kind, &reason)),
        }
    }
    let conclusion = libtest_mimic::run(&args, trials);
    let cleared = catch_unwind(AssertUnwindSafe(|| {
        for subject in &subjects {
            tokio.block_on(subject.clear());
        }
    }));
    match cleared {
        Ok(()) => conclusion.exit_code(),
        Err(_) => ExitCode::FAILURE,
    }
}

fn trials_of(subject: &Arc<Subject>, handle: &Handle) -> Vec<Trial> {
    let fitting = BEHAVIOURS
        .iter()
        .filter(|behaviour| (behaviour.applies)(subject));
    fitting
        .map(|behaviour| {
            let (subject, handle) = (subject.clone(), handle.clone());
            let name = format!("{}::{}", subject.runtime.kind(), behaviour.name);
            Trial::test(name, move || handle.block_on(run(subject, behaviour)))
        })
        .collect()
}

/// Runs one behaviour and removes what it made, however it ended.
async fn run(subject: Arc<Subject>, behaviour: &'static Behaviour) -> Result<(), Failed> {
    let bench = Bench::new(subject);
    let clear = async || {
        bench.clear().await;
        Ok(())
    };
    frame::run((behaviour.run)(bench.clone()), clear, String::new).await
}

fn trials_without(kind: &'static str, reason: &str) -> Vec<Trial> {
    let required = frame::is_required(kind);
    if !required {
        eprintln!("the trials of {kind} are ignored: {reason}");
    }
    let reason = format!("WAKEGATE_REQUIRE names {kind}, and {reason}");
    BEHAVIOURS
        .iter()
        .map(|behaviour| {
            let (name, reason) = (format!("{kind}::{}", behaviour.name), reason.clone());
            Trial::test(name, move || Err(Failed::from(reason))).with_ignored_flag(!required)
        })
        .collect()
}
