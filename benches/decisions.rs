//! Decisions a second, remembered and made anew, and the time that loading scripts takes.

use std::fs;
use std::path::{Path, PathBuf};

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderValue, Method};
use wakegate::config::Given;
use wakegate::decision::RequestFacts;
use wakegate::script::current::Scripts;
use wakegate::script::decider::Decider;
use wakegate::script::trial;
use wakegate::script::version::Version;

fn main() {
    divan::main();
}

const SCRIPTS: [&str; 3] = ["default", "setters", "by_hand"];

/// The shipped script, one with three setters, and one that takes the path apart itself.
fn dir(script: &str) -> PathBuf {
    let text = match script {
        "default" => return Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"),
        "setters" => {
            "route(\"/session/{name}/{*rest}\", |req| proxy(req.param(\"name\")).port(9000).strip(2).timeout(\"5s\"));"
        }
        _ => {
            "route(\"/{*rest}\", |req| {
                let parts = req.path.split(\"/\");
                if parts.len() < 3 || parts[1] != \"session\" { return; }
                if req.header(\"x-debug\") != \"\" { return respond(400, \"\"); }
                proxy(parts[2]).strip(2)
            });"
        }
    };
    let dir = std::env::temp_dir().join(format!("wakegate-bench-{}-{script}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("a.rhai"), text).unwrap();
    dir
}

fn load(script: &str, given: &Given) -> Version {
    let dir = dir(script);
    let version = Version::load(&dir, given, 1);
    if script != "default" {
        fs::remove_dir_all(&dir).unwrap();
    }
    version.unwrap_or_else(|errors| panic!("{}", errors[0]))
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in [
        "host",
        "user-agent",
        "accept",
        "accept-language",
        "accept-encoding",
        "referer",
    ] {
        headers.insert(
            name,
            HeaderValue::from_static("a value of some length, as browsers send"),
        );
    }
    headers
}

fn facts<'a>(path: &'a str, headers: &'a HeaderMap) -> RequestFacts<'a> {
    RequestFacts {
        method: &Method::GET,
        scheme: "http",
        host: "localhost",
        path,
        query: "a=1",
        headers,
        client: [127, 0, 0, 1].into(),
        at: 0,
    }
}

/// One container, asked for again and again.
#[divan::bench(args = SCRIPTS, sample_size = 1_000)]
fn remembered(bencher: Bencher, script: &str) {
    let mut decider = Decider::new(Scripts::new(load(script, &Given::default())));
    let headers = headers();
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| decider.decide(black_box(&facts("/session/minion-1/some/page", &headers))));
}

/// A thousand containers in turn, all of them remembered.
#[divan::bench(sample_size = 1_000)]
fn remembered_of_a_thousand(bencher: Bencher) {
    let mut decider = Decider::new(Scripts::new(load("default", &Given::default())));
    let headers = headers();
    let paths: Vec<String> = (0..1_000)
        .map(|n| format!("/session/minion-{n}/"))
        .collect();
    for path in &paths {
        decider.decide(&facts(path, &headers)).unwrap();
    }
    let mut next = paths.iter().cycle();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let path = next.next().unwrap();
        decider.decide(black_box(&facts(path, &headers)))
    });
}

/// The handler runs each time and nothing is remembered.
#[divan::bench(args = SCRIPTS, sample_size = 100)]
fn made(bencher: Bencher, script: &str) {
    let version = load(script, &Given::default());
    let headers = headers();
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| version.decide(black_box(&facts("/session/minion-1/some/page", &headers))));
}

/// The handler runs and its decision is put into the memo, which starts over when it is full.
#[divan::bench(sample_size = 1_000)]
fn made_and_remembered(bencher: Bencher) {
    let mut decider = Decider::new(Scripts::new(load("default", &Given::default())));
    let headers = headers();
    let paths: Vec<String> = (0..20_000)
        .map(|n| format!("/session/minion-{n}/"))
        .collect();
    let mut next = paths.iter().cycle();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let path = next.next().unwrap();
        decider.decide(black_box(&facts(path, &headers)))
    });
}

/// What a request costs that is kept for trying changes on it: the busiest worker keeps so many a
/// second as there is room for, and the requests that are new.
#[divan::bench(sample_size = 1_000)]
fn remembered_and_kept(bencher: Bencher) {
    let scripts = Scripts::new(load("default", &Given::default()));
    let mut decider = Decider::new(scripts);
    let headers = headers();
    let mut second = 0;
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        // Each in a second of its own, so that each is kept.
        second += 1;
        let facts = RequestFacts {
            at: second,
            ..facts("/session/minion-1/some/page", &headers)
        };
        decider.decide(black_box(&facts))
    });
}

/// Everything that a change of the default script has to pass, with ten tests of its own.
#[divan::bench]
fn load_and_check_with_ten_tests(bencher: Bencher) {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/session.rhai");
    let mut text = fs::read_to_string(own).unwrap();
    let tests = text.matches("\nfn test_").count();
    for n in tests..10 {
        text += &format!(
            "\nfn test_more_{n}() {{ assert_eq(simulate(\"GET\", \"/session/a{n}/x\"), \"proxy a{n}\"); }}"
        );
    }
    let dir = std::env::temp_dir().join(format!("wakegate-bench-{}-tested", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("a.rhai"), text).unwrap();
    let given = Given::default();
    bencher.bench_local(|| match trial::load(&dir, &given, 1) {
        Ok(version) => assert_eq!(version.test_names().len(), tests.max(10)),
        Err(errors) => panic!("{}", errors[0]),
    });
    fs::remove_dir_all(&dir).unwrap();
}

#[divan::bench]
fn load_default(bencher: Bencher) {
    bencher.bench_local(|| load("default", &Given::default()));
}
