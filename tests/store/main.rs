//! One suite of behaviours over every kind of store, and what holds of each kind alone.
//!
//! Buckets are on a real server: moto (`pip install 'moto[s3]' flask flask-cors`), started here on a
//! port of its own. It is found by the variable `WAKEGATE_TEST_MOTO` (the path of `moto_server`), in
//! `target/test-tools/moto`, or in the path. Without it the trials on buckets are ignored; when the
//! environment variable `WAKEGATE_REQUIRE` names `s3`, they fail instead. Effects are looked at from
//! the other side: files by the file system, objects by plain HTTP.

// Shared with other suites, which use more of it.
#[allow(dead_code)]
#[path = "../end_to_end/frame.rs"]
mod frame;

mod behaviours;
mod buckets;
mod folders;
mod moto;
mod processes;
mod subject;

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Handle;

use moto::Moto;
use subject::{Bench, Kind};

type Run<T> = fn(T) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A behaviour by the name of its function.
macro_rules! named {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), |bench| Box::pin($name(bench)))),*]
    };
}
use named;

fn main() -> ExitCode {
    if let Some(role) = std::env::var_os(processes::ROLE) {
        return processes::play(&role);
    }
    let args = Arguments::from_args();
    let tokio = frame::tokio();
    let handle = tokio.handle();

    let mut trials = Vec::new();
    for kind in [Kind::Memory, Kind::Folder] {
        trials.extend(suite(&kind, handle));
    }
    trials.extend(folders::TRIALS.iter().map(|(name, run)| {
        let bench = || Ok(Bench::new(Kind::Folder));
        trial(format!("folder::{name}"), bench, *run, handle)
    }));
    match folders::small_disk() {
        Ok(()) => trials.extend(folders::ON_A_SMALL_DISK.iter().map(|(name, run)| {
            let bench = || Ok(Bench::new(Kind::Folder));
            trial(format!("folder::{name}"), bench, *run, handle)
        })),
        Err(reason) => trials.extend(folders::ON_A_SMALL_DISK.iter().map(|(name, _)| {
            eprintln!("{name} is ignored: {reason}");
            Trial::test(format!("folder::{name}"), || Ok(())).with_ignored_flag(true)
        })),
    }

    // Listing must not wait for a server.
    let moto = match moto::find() {
        Ok(program) if args.list => Err(program.display().to_string()),
        Ok(program) => tokio.block_on(Moto::start(&program, &[])).map(Arc::new),
        Err(reason) => Err(reason),
    };
    match &moto {
        Ok(moto) => {
            trials.extend(suite(&Kind::Bucket(moto.clone()), handle));
            trials.extend(buckets::TRIALS.iter().map(|(name, run)| {
                let moto = moto.clone();
                trial(format!("s3::{name}"), move || Ok(moto), *run, handle)
            }));
        }
        Err(reason) => trials.extend(without_server(reason, args.list)),
    }
    let conclusion = libtest_mimic::run(&args, trials);
    drop(moto);
    conclusion.exit_code()
}

fn suite(kind: &Kind, handle: &Handle) -> Vec<Trial> {
    let fitting = behaviours::ALL.iter().filter(|behaviour| {
        // What is in memory has no other side.
        !matches!(kind, Kind::Memory) || behaviour.is_for_memory
    });
    fitting
        .map(|behaviour| {
            let name = format!("{}::{}", kind.name(), behaviour.name);
            let kind = kind.clone();
            trial(name, move || Ok(Bench::new(kind)), behaviour.run, handle)
        })
        .collect()
}

fn trial<T: Send + 'static>(
    name: String,
    bench: impl FnOnce() -> Result<T, Failed> + Send + 'static,
    run: Run<T>,
    handle: &Handle,
) -> Trial {
    let handle = handle.clone();
    Trial::test(name, move || {
        let bench = bench()?;
        handle.block_on(frame::run(run(bench), async || Ok(()), String::new))
    })
}

fn without_server(reason: &str, is_listing: bool) -> Vec<Trial> {
    let required = frame::is_required("s3");
    if !required && !is_listing {
        eprintln!("the trials on buckets are ignored: {reason}");
    }
    let alike = behaviours::ALL.iter().map(|behaviour| behaviour.name);
    let alone = buckets::TRIALS.iter().map(|(name, _)| *name);
    alike
        .chain(alone)
        .map(|name| {
            let reason = format!("WAKEGATE_REQUIRE names s3, and {reason}");
            Trial::test(format!("s3::{name}"), move || Err(Failed::from(reason)))
                .with_ignored_flag(!required)
        })
        .collect()
}
