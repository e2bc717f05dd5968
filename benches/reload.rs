//! Scripts that are exchanged under load: how long a save takes to count, and whether a decision is
//! ever torn between two versions.
//!
//! `cargo bench --bench reload`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use wakegate::config::{Config, Given};
use wakegate::decision::{Decision, Destination};
use wakegate::script::current::Scripts;
use wakegate::script::decider::Decider;
use wakegate::script::head::Head;
use wakegate::script::history::History;
use wakegate::script::reload::Reloading;
use wakegate::script::version::Version;

const THREADS: usize = 2;

fn main() {
    // `cargo test --benches` runs this too, and only wants to know that it starts.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (decisions, saves) = if is_bench {
        (1_000_000, 25)
    } else {
        (1_000, 2)
    };
    swap_under_load(decisions);
    save_under_load(saves);
}

/// Each part of a decision says of which version it is.
fn script(number: u64) -> String {
    format!(
        "const NUMBER = {number};\n\
         fn name(req) {{ req.param(\"name\") + \"-\" + global::NUMBER }}\n\
         route(\"/{{name}}/{{*rest}}\", |req| proxy(name(req)).set_header(\"x-version\", NUMBER).strip(NUMBER));\n"
    )
}

fn load(dir: &Path, number: u64) -> Version {
    fs::write(dir.join("a.rhai"), script(number)).expect("a script");
    let version = Version::load(dir, &Given::default(), number);
    version.unwrap_or_else(|errors| panic!("{}", errors[0]))
}

/// The number of the version that decided; `None`: parts of the decision disagree.
fn decide(decider: &mut Decider, head: &Head) -> Option<u64> {
    let decided = decider.decide(&head.facts()).expect("a decision");
    let number = decider.version().number();
    match &*decided.expect("a route").decision {
        Decision::Proxy(proxy) => {
            let is_whole = matches!(&proxy.destination, Destination::Workload(name) if name.as_str() == format!("app-{number}"))
                && proxy.strip as u64 == number
                && proxy.response_headers.edits[0].1.as_ref()?.as_bytes()
                    == number.to_string().as_bytes();
            is_whole.then_some(number)
        }
        _ => None,
    }
}

fn swap_under_load(decisions_min: u64) {
    let folder = Folder::new("swap");
    let scripts = Scripts::new(load(&folder.0, 1));
    // Made beforehand, so that the exchange itself is what happens most.
    let versions: Vec<Arc<Version>> = (2..=33).map(|n| Arc::new(load(&folder.0, n))).collect();
    let stop = AtomicBool::new(false);
    let (decided, torn, changes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let mut swaps = 0_u64;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut decider = Decider::new(scripts.clone());
                let head = Head::made_up("GET", "/app/x").expect("a request");
                let mut last = None;
                while !stop.load(Ordering::Acquire) {
                    let number = decide(&mut decider, &head);
                    if number.is_none() {
                        torn.fetch_add(1, Ordering::Relaxed);
                    }
                    if number != last {
                        changes.fetch_add(1, Ordering::Relaxed);
                        last = number;
                    }
                    decided.fetch_add(1, Ordering::Release);
                }
            });
        }
        for version in versions.iter().cycle() {
            scripts.current.store(version.clone());
            swaps += 1;
            if decided.load(Ordering::Acquire) >= decisions_min {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        stop.store(true, Ordering::Release);
    });
    let (decided, torn) = (decided.into_inner(), torn.into_inner());
    println!(
        "{THREADS} threads, {decided} decisions, {swaps} swaps ({} seen by a thread) in {:.1} s: {torn} torn",
        changes.into_inner(),
        began.elapsed().as_secs_f64()
    );
    assert_eq!(torn, 0);
}

fn save_under_load(saves: u64) {
    let folder = Folder::new("save");
    let scripts = Scripts::new(load(&folder.0, 1));
    let history = History::new(scripts.clone(), &mut Registry::default());
    let mut settings = Config::default().scripts;
    settings.dir = folder.0.clone();
    let reloading = Reloading::begin(history, settings).expect("a thread that watches");
    let stop = AtomicBool::new(false);
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut decider = Decider::new(scripts.clone());
                let head = Head::made_up("GET", "/app/x").expect("a request");
                let mut questions = decider.questions().expect("nobody took them");
                while !stop.load(Ordering::Acquire) {
                    decider.decide(&head.facts()).expect("a decision");
                    // As workers do, or a save would wait for the time that they have for it.
                    while let Ok(question) = questions.try_recv() {
                        question.answer(decider.recent());
                    }
                }
            });
        }
        for number in 2..saves + 2 {
            fs::write(folder.0.join("a.rhai"), script(number)).expect("a save");
            let saved = Instant::now();
            while scripts.current.load().number() < number {
                assert!(saved.elapsed() < Duration::from_secs(60), "it is not taken");
                std::thread::sleep(Duration::from_millis(1));
            }
            times.push(saved.elapsed());
        }
        stop.store(true, Ordering::Release);
    });
    drop(reloading);
    times.sort();
    println!(
        "a save counts after {:.0} ms (median of {saves}; {:.0} to {:.0} ms), {THREADS} threads deciding",
        times[times.len() / 2].as_secs_f64() * 1e3,
        times[0].as_secs_f64() * 1e3,
        times[times.len() - 1].as_secs_f64() * 1e3,
    );
}

/// A folder that is gone afterwards.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("wakegate-bench-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
