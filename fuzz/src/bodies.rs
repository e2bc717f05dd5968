//! What the fuzz targets do with their bytes. The corpus test replays its files through the same.
#![allow(dead_code, reason = "each target uses its part")]

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use wakegate::config::{self, Given, ScriptLimits};
use wakegate::decision::{ContainerFacts, ContainerRules, ErrorFacts, RequestFacts};
use wakegate::script::current::Scripts;
use wakegate::script::decider::Decider;
use wakegate::script::head::Head;
use wakegate::script::meter::STACK_BYTES;
use wakegate::script::version::{ScriptError, Version};

/// Stands between a script and the library that it may import as `lib/l`.
pub const LIBRARY_BELOW: &[u8] = b"\n---\n";

/// For one question to a version, which its limits allow a fraction of. A debug build on a busy
/// machine has to make it too.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// For everything that is asked of one input.
const ROUTES_MAX: usize = 4;
const TESTS_MAX: usize = 2;

/// The fuzzer ends the process at each panic, also at one that is caught: Rhai catches those of a sort
/// whose comparison is none, and the gateway those of its functions. Without that hook a panic that
/// nobody catches ends it all the same.
pub fn end_at_uncaught_panics_only() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(std::panic::take_hook()));
}

/// Any bytes as the text of a script: they are loaded or refused, and what is asked is answered or
/// fails within the limits.
pub fn load(bytes: &[u8]) {
    on_a_worker(|| {
        let at = bytes
            .windows(LIBRARY_BELOW.len())
            .position(|window| window == LIBRARY_BELOW);
        let (script, library) = match at {
            Some(at) => (&bytes[..at], Some(&bytes[at + LIBRARY_BELOW.len()..])),
            None => (bytes, None),
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.rhai"), script).expect("a script");
        if let Some(library) = library {
            fs::create_dir(dir.path().join("lib")).expect("a library directory");
            fs::write(dir.path().join("lib/l.rhai"), library).expect("a library");
        }
        match timed("loading", || Version::load(dir.path(), &small(), 1)) {
            Ok(version) => {
                assert!(std::str::from_utf8(script).is_ok(), "this is no text");
                ask_everything(version);
            }
            Err(errors) => refused(&errors),
        }
    });
}

/// Limits under which one input takes little time.
fn small() -> Given {
    ScriptLimits {
        operations_max: 10_000,
        ..ScriptLimits::default()
    }
    .into()
}

fn refused(errors: &[ScriptError]) {
    assert!(!errors.is_empty(), "refused without a reason");
    for error in errors {
        assert!(!error.message.is_empty(), "{error}");
        assert_no_panic(&error.to_string());
    }
}

/// A panic in a native function is caught by the gateway and told as its own fault.
fn assert_no_panic(failure: &str) {
    assert!(!failure.contains("panicked"), "{failure}");
}

fn ask_everything(version: Version) {
    let summary = version.summary();
    let failed = |failure: Option<String>| assert_no_panic(&failure.unwrap_or_default());
    let headers = HeaderMap::from_iter([(http::header::COOKIE, HeaderValue::from_static("a=b"))]);
    let heads: Vec<(String, String)> = ["/", "/a/b?k=v"]
        .iter()
        .map(|path| (String::new(), (*path).to_owned()))
        .chain(
            summary
                .routes
                .iter()
                .take(ROUTES_MAX)
                .map(|(p, _)| matching(p)),
        )
        .collect();
    let facts: Vec<_> = heads
        .iter()
        .map(|(host, target)| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            RequestFacts {
                method: &Method::GET,
                scheme: "http",
                host,
                path,
                query,
                headers: &headers,
                client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                at: 1_767_614_400,
            }
        })
        .collect();
    let error = ErrorFacts {
        status: 502,
        kind: "upstream_failed".into(),
        message: "the application did not answer".to_owned(),
        workload: "a".to_owned(),
        app: "shop".to_owned(),
        retry_after_secs: Some(1),
    };
    let container = ContainerFacts {
        name: "a".to_owned(),
        id: "0123".to_owned(),
        image: "a:1".to_owned(),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        envs: Default::default(),
        ports: vec![80],
        has_healthcheck: false,
    };
    for facts in &facts {
        assert_eq!(version.verdicts(facts).len(), summary.routes.len());
        failed(
            timed("a decision", || version.decide(facts))
                .err()
                .map(|f| f.message),
        );
        failed(
            timed("on_error", || version.on_error(facts, &error))
                .err()
                .map(|f| f.message),
        );
    }
    failed(
        timed("ready", || version.ready(&container))
            .err()
            .map(|f| f.message),
    );
    failed(
        timed("idle", || version.idle(&container))
            .err()
            .map(|f| f.message),
    );
    for (name, _) in summary.templates.iter().take(ROUTES_MAX) {
        let vars = serde_map(name);
        failed(
            timed("a template", || version.template(name, &vars))
                .err()
                .map(|f| f.message),
        );
    }
    let left = Cell::new(TESTS_MAX);
    let wanted = |_: &str| left.replace(left.get().saturating_sub(1)) > 0;
    for outcome in timed("tests", || version.test(wanted)) {
        failed(outcome.result.err().map(|error| error.to_string()));
    }
    let mut decider = Decider::new(Scripts::new(version));
    for facts in facts.iter().chain(&facts) {
        failed(
            timed("a decision", || decider.decide(facts))
                .err()
                .map(|f| f.message),
        );
    }
}

fn serde_map(name: &str) -> serde_json::Map<String, serde_json::Value> {
    [("id".to_owned(), name.into())].into_iter().collect()
}

/// A host and a path that a pattern matches, when it is a plain one.
fn matching(pattern: &str) -> (String, String) {
    let (host, path) = pattern.split_at(pattern.find('/').unwrap_or(0));
    let mut matching = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '{' => inside = true,
            '}' => {
                inside = false;
                matching.push('a');
            }
            _ if inside => {}
            c => matching.push(c),
        }
    }
    (host.replace('*', "a"), matching)
}

/// Every scripts directory that is shipped, loaded once.
pub struct Shipped(Vec<(PathBuf, Version)>);

impl Shipped {
    /// `scripts/` and the recipes below `examples/scripts/` of the repository.
    pub fn load(top: &Path) -> Self {
        let recipes = fs::read_dir(top.join("examples/scripts"))
            .into_iter()
            .flatten();
        let mut dirs: Vec<PathBuf> = recipes.flatten().map(|entry| entry.path()).collect();
        dirs.retain(|path| path.is_dir());
        dirs.push(top.join("scripts"));
        dirs.sort();
        let loaded = dirs.into_iter().map(|dir| {
            let version = on_a_worker(|| Version::load(&dir, &given(&dir), 1));
            match version {
                Ok(version) => (dir, version),
                Err(errors) => panic!("{}", errors[0]),
            }
        });
        Self(loaded.collect())
    }

    /// Any bytes as the head of a request: each script decides, and its handlers do not fail.
    pub fn ask(&self, bytes: &[u8]) {
        let head = head(bytes);
        on_a_worker(|| {
            for (dir, version) in &self.0 {
                let decided = timed("a decision", || version.decide(&head.facts()));
                if let Err(failure) = decided {
                    panic!("{}: {}: {head:?}", dir.display(), failure.message);
                }
            }
        });
    }
}

/// What a recipe's gateway.toml gives its scripts. CPU time is for others to limit: a decision that
/// is late here is one on a busy machine.
fn given(dir: &Path) -> Given {
    let file = dir.join("gateway.toml");
    let mut given = Given::default();
    if let Ok(text) = fs::read_to_string(&file) {
        // Only what the file names is set: the configuration has variables of its own.
        let is_named = |name: &str| text.contains(&format!("{name:?}"));
        let env = |name: &str| is_named(name).then(|| "s3cret".to_owned());
        match config::load(&file, &env) {
            Ok(config) => given = config.scripts.given,
            Err(errors) => panic!("{errors}"),
        }
    }
    given.limits.cpu_time_max = ANSWER_MAX;
    given.limits.load_cpu_time_max = ANSWER_MAX;
    given
}

/// The head of a request. Its first line is `METHOD HOST TARGET CLIENT AT`, the others are fields.
/// What cannot be in a head is taken as something that can.
fn head(bytes: &[u8]) -> Head {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let mut word = || words.next().unwrap_or_default();
    let method = Method::from_bytes(word()).unwrap_or(Method::GET);
    // A host comes out of a header field whose authority was checked.
    let host = String::from_utf8_lossy(word()).into_owned();
    let host = match host.parse::<http::uri::Authority>() {
        Ok(authority) => authority.host().to_owned(),
        Err(_) => String::new(),
    };
    let target = target(word());
    let client = String::from_utf8_lossy(word()).parse();
    let at = String::from_utf8_lossy(word()).parse();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    Head {
        method,
        scheme: "http",
        host,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        client: client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        at: at.unwrap_or(0),
    }
}

/// A target as the gateway's HTTP parser lets it through.
fn target(bytes: &[u8]) -> String {
    let plain = |bytes: &[u8]| http::uri::PathAndQuery::try_from(bytes).ok();
    let read = plain(bytes).or_else(|| {
        let escaped: String = bytes
            .iter()
            .map(|byte| match byte {
                b'/' | b'?' | b'&' | b'=' | b'%' | b'+' | b'a'..=b'z' => {
                    char::from(*byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        plain(escaped.as_bytes())
    });
    let target = read.map(|target| target.to_string()).unwrap_or_default();
    if target.starts_with('/') {
        target
    } else {
        format!("/{target}")
    }
}

/// Scripts are asked on threads with the stack that they may need.
fn on_a_worker<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let worker = thread.spawn_scoped(scope, run).expect("a thread");
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = run();
    let took = begun.elapsed();
    assert!(took < ANSWER_MAX, "{what} took {took:?}");
    result
}
