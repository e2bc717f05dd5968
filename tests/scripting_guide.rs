//! What docs/SCRIPTING.md, the README and the cookbook say runs as it stands there.

#[path = "scripting_guide/calls.rs"]
mod calls;
#[path = "scripting_guide/fences.rs"]
mod fences;

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use tempfile::TempDir;
use wakegate::config::{self, Config, Given};
use wakegate::decision::{ErrorFacts, RequestFacts};
use wakegate::names::AppName;
use wakegate::script::definitions::own_functions;
use wakegate::script::version::{ScriptError, Version, on_a_deep_stack};

use calls::Calls;
use fences::Fence;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What scripts are given by a configuration, but for CPU time, which a busy machine and a debug build
/// use up.
fn given(config: Config) -> Given {
    let mut given = config.scripts.given;
    given.limits.cpu_time_max = Duration::from_secs(20);
    given.limits.load_cpu_time_max = Duration::from_secs(20);
    given
}

/// Loads a directory and runs its tests, as a gateway does before it takes a change. The errors of
/// either; else how many tests there are.
fn tried(dir: &Path, given: &Given) -> Result<usize, Vec<ScriptError>> {
    let version = Version::load(dir, given, 1)?;
    let outcomes = on_a_deep_stack(|| version.test(|_| true));
    let tests = outcomes.len();
    let failures: Vec<ScriptError> = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.result.err())
        .collect();
    if failures.is_empty() {
        Ok(tests)
    } else {
        Err(failures)
    }
}

fn words(errors: &[ScriptError]) -> String {
    let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
    words.join("\n")
}

/// What is wrong with a fence, if anything.
fn wrong(fence: &Fence) -> Option<String> {
    let dir = TempDir::new().expect("a directory");
    for (name, text) in &fence.files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is below")).expect("a directory");
        std::fs::write(path, text).expect("it is written");
    }
    let config = config::parse(&fence.configuration(), "gateway.toml", &|_| None);
    let config = config.unwrap_or_else(|errors| panic!("line {}: {errors}", fence.line));
    let mut given = given(config);
    if let Some(apps) = &fence.apps {
        let names = apps.iter().map(|name| AppName::new(name).expect("a name"));
        given.apps = Some(names.collect());
    }
    match (tried(dir.path(), &given), &fence.refused) {
        (Ok(_), None) => None,
        (Ok(_), Some(message)) => Some(format!("it is not refused with {message:?}")),
        (Err(errors), None) => Some(words(&errors)),
        (Err(errors), Some(message)) => {
            let said = words(&errors);
            (!said.contains(message.as_str()))
                .then(|| format!("it is refused, but not with {message:?}:\n{said}"))
        }
    }
}

/// The fences of a document, which has at least so many.
fn fences_of(document: &str, at_least: usize) -> Vec<Fence> {
    let text = std::fs::read_to_string(top().join(document)).expect(document);
    let fences = fences::read(document, &text);
    assert!(
        fences.len() >= at_least,
        "{document} has {} scripts",
        fences.len()
    );
    fences
}

fn check(document: &str, at_least: usize) {
    let problems: Vec<String> = fences_of(document, at_least)
        .iter()
        .filter_map(|fence| wrong(fence).map(|what| format!("{document}:{}: {what}", fence.line)))
        .collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n\n"));
}

#[test]
fn every_script_of_the_guide_does_what_its_tests_say() {
    check("docs/SCRIPTING.md", 40);
}

#[test]
fn every_function_for_scripts_stands_in_an_example() {
    let mut calls = Calls::default();
    for fence in fences_of("docs/SCRIPTING.md", 40) {
        for (_, text) in &fence.files {
            calls.read(text);
        }
    }
    let functions = own_functions();
    assert!(functions.len() > 80, "{}", functions.len());
    let missing: Vec<String> = functions
        .iter()
        .filter(|function| {
            if function.is_property {
                !calls.has_property(&function.name)
            } else {
                !calls.has_function(&function.name, function.parameters.len())
            }
        })
        .map(|function| format!("{}({})", function.name, function.parameters.join(", ")))
        .collect();
    assert!(
        missing.is_empty(),
        "not in an example of docs/SCRIPTING.md:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_script_of_the_readme_can_be_loaded() {
    check("README.md", 1);
    check("examples/scripts/README.md", 0);
    check("docs/TRAEFIK.md", 1);
}

/// The folders of the cookbook.
fn recipes() -> Vec<PathBuf> {
    let listing = std::fs::read_dir(top().join("examples/scripts")).expect("the cookbook");
    let mut recipes: Vec<PathBuf> = listing
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    recipes.sort();
    assert!(recipes.len() >= 9, "{recipes:?}");
    recipes
}

/// As `wakegate test` takes it: with the gateway.toml beside the scripts.
fn given_for(recipe: &Path) -> Given {
    let file = recipe.join("gateway.toml");
    if !file.exists() {
        return given(Config::default());
    }
    let config = config::load(&file, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        config.scripts.dir.canonicalize().ok(),
        recipe.canonicalize().ok(),
        "{} is for another directory",
        file.display()
    );
    given(config)
}

#[test]
fn every_recipe_passes_its_tests() {
    for recipe in recipes() {
        match tried(&recipe, &given_for(&recipe)) {
            Ok(tests) => assert!(tests >= 3, "{} has {tests} tests", recipe.display()),
            Err(errors) => panic!("{}", words(&errors)),
        }
    }
}

#[test]
fn the_script_beside_traefik_passes_its_tests() {
    let dir = top().join("examples/traefik/scripts");
    match tried(&dir, &given(Config::default())) {
        Ok(tests) => assert_eq!(tests, 3),
        Err(errors) => panic!("{}", words(&errors)),
    }
    let file = top().join("examples/traefik/gateway.toml");
    let token =
        |name: &str| (name == "WAKEGATE_ADMIN_TOKEN").then(|| "0123456789abcdef".to_owned());
    let config = config::load(&file, &token).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        config.scripts.dir.canonicalize().ok(),
        dir.canonicalize().ok()
    );
    assert_eq!(config.traefik.api.as_deref(), Some("http://traefik:8080"));
}

#[test]
fn every_recipe_stands_in_the_table_and_is_short() {
    let table = std::fs::read_to_string(top().join("examples/scripts/README.md")).expect("it");
    for recipe in recipes() {
        let name = recipe.file_name().unwrap_or_default().to_string_lossy();
        let file = format!("{name}/{name}.rhai");
        assert!(table.contains(&format!("]({file})")), "{file}");
        let text = std::fs::read_to_string(recipe.join(format!("{name}.rhai"))).expect(&file);
        let rules = text
            .lines()
            .take_while(|line| !line.starts_with("fn test_"));
        let lines = rules.count();
        assert!(lines <= 65, "{file} has {lines} lines before its tests");
    }
}

/// What clients may send: every part of a request in shapes that nobody expects.
fn hostile() -> Vec<(Method, String, String, String, HeaderMap)> {
    let long = "x".repeat(60_000);
    let slashes = "/".repeat(5_000);
    let hosts = [
        "",
        "localhost",
        "shop.example.com",
        ".example.com",
        "a..example.com",
        "[::1]",
    ];
    let first = [
        "/",
        "/session",
        "/customers",
        "/private",
        "/canary",
        "/instances",
        "/healthz",
        "/maintenance",
        "/robots.txt",
        "/%70rivate",
    ];
    let rest = [
        "",
        "/",
        "//",
        "/a",
        "/a/b",
        "/%",
        "/%00",
        "/%FF%FE",
        "/..",
        "/%2F",
        "/a%0Ab/c",
        "/ü",
        "/acme/x",
        "/-",
        &format!("/{long}"),
        &format!("/{long}/x"),
        &slashes,
    ]
    .map(str::to_owned);
    let queries = ["".to_owned(), "a=%zz&&=&b".to_owned(), long.clone()];
    let values: [&[u8]; 6] = [
        b"",
        b"\xff\xfe",
        b"Basic /w==",
        b"Bearer ",
        b"instance=../x; sid=\"; canary",
        long.as_bytes(),
    ];
    let mut sent = Vec::new();
    let mut count = 0_usize;
    for host in hosts {
        for first in first {
            for rest in &rest {
                // Everything with every path would take minutes: the others take turns.
                let mut headers = HeaderMap::new();
                let value = HeaderValue::from_bytes(values[count % values.len()]).expect("a value");
                for name in [
                    "authorization",
                    "cookie",
                    "user-agent",
                    "x-canary",
                    "x-bypass-token",
                ] {
                    headers.append(name, value.clone());
                }
                if count.is_multiple_of(4) {
                    headers.append("authorization", value.clone());
                    headers.append("cookie", value);
                }
                let method = [Method::GET, Method::HEAD, Method::POST][count % 3].clone();
                let query = queries[count / 2 % queries.len()].clone();
                sent.push((
                    method,
                    host.to_owned(),
                    format!("{first}{rest}"),
                    query,
                    headers,
                ));
                count += 1;
            }
        }
    }
    sent
}

#[test]
fn no_recipe_fails_on_any_request() {
    let sent = hostile();
    let kinds = [
        "maintenance",
        "unknown_workload",
        "no_route",
        "refused_asleep",
        "start_failed",
        "script_failed",
    ];
    let shipped = top().join("scripts");
    for dir in recipes().into_iter().chain([shipped]) {
        let version = Version::load(&dir, &given_for(&dir), 1).expect("it is good");
        for (n, (method, host, path, query, headers)) in sent.iter().enumerate() {
            let facts = RequestFacts {
                method,
                scheme: "http",
                host,
                path,
                query,
                headers,
                client: [203, 0, 113, 5].into(),
                // Another hour of the week each time.
                at: 1_767_614_400 + 3_607 * i64::try_from(n).expect("few"),
            };
            let shown = |failure| {
                let path: String = path.chars().take(60).collect();
                format!("{}: {method} {host}{path}: {failure}", dir.display())
            };
            if let Err(failure) = version.decide(&facts) {
                panic!("{}", shown(failure.message));
            }
            let error = ErrorFacts {
                status: 503,
                kind: kinds[n % kinds.len()].into(),
                message: String::new(),
                workload: "shop".to_owned(),
                app: "shop".to_owned(),
                retry_after_secs: None,
            };
            if let Err(failure) = version.on_error(&facts, &error) {
                panic!("{}", shown(failure.message));
            }
        }
    }
}
