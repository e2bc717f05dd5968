//! Deciding while versions are exchanged: each decision is wholly of one version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::*;
use crate::script::current::Scripts;
use crate::script::decider::Decider;

/// Versions that are exchanged.
const SWAPS: u64 = 200;

/// Threads that decide meanwhile.
const THREADS: usize = 2;

/// For one decision: far more than it takes, so that a failure does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Even versions forward and odd ones answer, under patterns of their own.
fn version(number: u64) -> Version {
    let text = if number.is_multiple_of(2) {
        format!("route(\"/{{*even}}\", |req| proxy(\"v{number}\"));")
    } else {
        format!("route(\"/{{odd}}\", |req| respond(200, req.method + \" v{number}\"));")
    };
    let dir = Dir::new(&[("a.rhai", &text)]);
    let limits = ScriptLimits {
        cpu_time_max: Duration::from_secs(20),
        load_cpu_time_max: Duration::from_secs(20),
        ..ScriptLimits::default()
    };
    match Version::load(dir.path(), &limits.into(), number) {
        Ok(version) => version,
        Err(errors) => panic!("{}", errors[0]),
    }
}

#[test]
fn no_decision_is_torn_or_lost_while_versions_are_exchanged() {
    let scripts = Scripts::new(version(1));
    let stop = AtomicBool::new(false);
    let decided = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut decider = Decider::new(scripts.clone());
                let mut last = 0;
                while !stop.load(Ordering::Acquire) {
                    let number = decide(&mut decider);
                    assert!(number >= last, "version {number} came after {last}");
                    last = number;
                    decided.fetch_add(1, Ordering::Release);
                }
                assert_eq!(decide(&mut decider), SWAPS + 1);
            });
        }
        for number in 2..=SWAPS + 1 {
            scripts.current.store(Arc::new(version(number)));
            // So that each version has its turn.
            let before = decided.load(Ordering::Acquire);
            let since = Instant::now();
            while decided.load(Ordering::Acquire) == before {
                if since.elapsed() > PATIENCE {
                    stop.store(true, Ordering::Release);
                    panic!("nothing was decided for {PATIENCE:?}");
                }
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Release);
    });
    assert!(decided.load(Ordering::Acquire) >= SWAPS);
}

/// Decides once; the number of the version that did, which all parts of the decision agree on.
fn decide(decider: &mut Decider) -> u64 {
    let sent = Sent::get("/x");
    let decided = decider.decide(&sent.facts()).unwrap().unwrap();
    let number = decider.version().number();
    let (route, said) = match &*decided.decision {
        Decision::Proxy(proxy) => ("/{*even}", workload_of(proxy).to_owned()),
        Decision::Respond(reply) => ("/{odd}", reply.body.replace("GET ", "")),
        other => panic!("{other:?}"),
    };
    assert_eq!(&*decided.route, route);
    assert_eq!(said, format!("v{number}"));
    number
}
