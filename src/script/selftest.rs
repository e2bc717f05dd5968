//! Scripts' own tests: `fn test_…()`, what they may ask of the scripts, and running them.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhai::{Array, Dynamic, Engine, Map};
use scoped_tls_hkt::scoped_thread_local;
use serde_json::Value;

use crate::decision::{ContainerFacts, ErrorFacts};
use crate::script::documented::Documented as _;
use crate::script::engine::{Raw, refuse};
use crate::script::error::ScriptError;
use crate::script::facts::{Container, json_object, spec_fields};
use crate::script::head::Head;
use crate::script::shown;
use crate::script::simulated::Simulated;
use crate::script::version::Version;

scoped_thread_local!(static TESTED: for<'a> &'a Tested<'a>);

/// The version whose test runs on this thread.
struct Tested<'a> {
    version: &'a Version,
    /// One of its hooks runs on the test's behalf, which is no place to ask from.
    is_asked: Cell<bool>,
}

/// How a test ended.
#[derive(Debug)]
pub struct Outcome {
    /// `file.rhai::test_name`
    pub name: String,
    pub result: Result<(), ScriptError>,
    pub took: Duration,
}

/// Runs a test of the version with whatever it asks.
pub fn run(
    version: &Version,
    name: &str,
    call: impl FnOnce() -> Result<(), ScriptError>,
) -> Outcome {
    let began = Instant::now();
    let tested = Tested {
        version,
        is_asked: Cell::new(false),
    };
    let result = TESTED.set(&tested, call);
    Outcome {
        name: name.to_owned(),
        result,
        took: began.elapsed(),
    }
}

/// Asks the version under test.
fn ask<T>(function: &str, ask: impl FnOnce(&Version) -> Result<T, String>) -> Raw<T> {
    let misplaced = || {
        refuse(format!(
            "{function} belongs in a test, fn test_…(), and not in a hook"
        ))
    };
    if !TESTED.is_set() {
        return misplaced();
    }
    TESTED.with(|tested| {
        if tested.is_asked.replace(true) {
            return misplaced();
        }
        let answer = ask(tested.version);
        tested.is_asked.set(false);
        answer.or_else(|message| refuse(format!("{function}: {message}")))
    })
}

/// Registers what tests call.
pub fn register(engine: &mut Engine) {
    register_asserts(engine);
    register_requests(engine);
    register_hooks(engine);
}

fn register_asserts(engine: &mut Engine) {
    engine.document(
        "assert(truth: bool)",
        "Fails the test, at this place, unless the condition is true.",
        |truth: bool| {
            if truth {
                Ok(())
            } else {
                refuse("assert: it is false")
            }
        },
    );
    engine.document(
        "assert(truth: bool, message: String)",
        "Fails the test with the message unless the condition is true.",
        |truth: bool, message: &str| {
            if truth {
                Ok(())
            } else {
                refuse(format!("assert: {message}"))
            }
        },
    );
    for (name, equal, words) in [
        (
            "assert_eq",
            true,
            "Fails the test unless both values are the same. Numbers, texts, lists and maps are compared by value; a decision of `simulate` with a text by its line.",
        ),
        (
            "assert_ne",
            false,
            "Fails the test when both values are the same. See `assert_eq`.",
        ),
    ] {
        engine.document(
            &format!("{name}(left: ?, right: ?)"),
            words,
            move |left: Dynamic, right: Dynamic| compared(name, equal, &left, &right, ""),
        );
        engine.document(
            &format!("{name}(left: ?, right: ?, message: String)"),
            words,
            move |left: Dynamic, right: Dynamic, message: &str| {
                compared(name, equal, &left, &right, message)
            },
        );
    }
}

fn compared(name: &str, equal: bool, left: &Dynamic, right: &Dynamic, message: &str) -> Raw<()> {
    if same(left, right) == equal {
        return Ok(());
    }
    let colon = if message.is_empty() { "" } else { ": " };
    let (left, right) = (written(left), written(right));
    refuse(if equal {
        format!("{name}{colon}{message}: the left is {left}, the right is {right}")
    } else {
        format!("{name}{colon}{message}: both are {left}")
    })
}

fn same(left: &Dynamic, right: &Dynamic) -> bool {
    let text = |value: &Dynamic| -> Option<String> {
        let line = value.read_lock::<Simulated>().map(|s| s.line().to_owned());
        line.or_else(|| (value.is_string() || value.is_char()).then(|| value.to_string()))
    };
    let number = |value: &Dynamic| {
        let whole = value.as_int().map(|number| number as f64);
        whole.or_else(|_| value.as_float())
    };
    if let (Ok(left), Ok(right)) = (left.as_int(), right.as_int()) {
        return left == right;
    }
    if let (Ok(left), Ok(right)) = (number(left), number(right)) {
        return left == right;
    }
    if let (Some(left), Some(right)) = (text(left), text(right)) {
        return left == right;
    }
    if let (Ok(left), Ok(right)) = (left.as_bool(), right.as_bool()) {
        return left == right;
    }
    if let (Ok(left), Ok(right)) = (left.as_array_ref(), right.as_array_ref()) {
        return left.len() == right.len() && left.iter().zip(&*right).all(|(l, r)| same(l, r));
    }
    if let (Ok(left), Ok(right)) = (left.as_map_ref(), right.as_map_ref()) {
        let mut pairs = left.iter().zip(&*right);
        return left.len() == right.len() && pairs.all(|((k, l), (m, r))| k == m && same(l, r));
    }
    left.is_unit() && right.is_unit()
}

fn written(value: &Dynamic) -> String {
    match value.read_lock::<Simulated>() {
        Some(simulated) => format!("\"{}\"", simulated.line()),
        None => format!("{value:?}"),
    }
}

fn register_requests(engine: &mut Engine) {
    const WORDS: &str = "What the scripts decide about a request that is made up. Belongs in a test.
        The URL is `\"/path?query\"` or `\"http://host/path?query\"`; headers are by name, several lines of one as a list;
        facts are `client`, an address, and `at`, a time such as `\"2026-01-05T09:30:00Z\"`.
        Without them it comes from 127.0.0.1, to localhost, on Monday 2026-01-05 at 12:00 UTC.";
    engine.document(
        "simulate(method: String, url: String) -> Decision",
        WORDS,
        |method: &str, url: &str| simulate(method, url, &Map::new(), &Map::new()),
    );
    engine.document(
        "simulate(method: String, url: String, headers: Map) -> Decision",
        WORDS,
        |method: &str, url: &str, headers: Map| simulate(method, url, &headers, &Map::new()),
    );
    engine.document(
        "simulate(method: String, url: String, headers: Map, facts: Map) -> Decision",
        WORDS,
        |method: &str, url: &str, headers: Map, facts: Map| simulate(method, url, &headers, &facts),
    );
    engine.document(
        "simulate_error(method: String, url: String, err: Map) -> Decision",
        "What `on_error` says of a request that is made up, and an error with any of `kind`, `status`, `message`, `workload`, `app`, `retry_after`. Belongs in a test.",
        |method: &str, url: &str, err: Map| {
            ask("simulate_error", |version| {
                let head = Head::made_up(method, url)?;
                let reply = version
                    .error_reply(&head.facts(), &error_facts(&err)?)
                    .map_err(|error| error.to_string())?;
                let decision = reply.map(crate::decision::Decision::Respond);
                Simulated::new("", decision.as_ref(), &head.facts())
            })
        },
    );
}

fn simulate(method: &str, url: &str, headers: &Map, facts: &Map) -> Raw<Simulated> {
    ask("simulate", |version| {
        let head = made_up(method, url, headers, facts)?;
        let evaluated = version.evaluate(&head.facts());
        let decision = evaluated
            .decision
            .map_err(|error| format!("the handler failed: {error}"))?;
        Simulated::new(evaluated.pattern, decision.as_ref(), &head.facts())
    })
}

fn made_up(method: &str, url: &str, headers: &Map, facts: &Map) -> Result<Head, String> {
    let mut head = Head::made_up(method, url)?;
    for (name, value) in headers {
        let values = match value.as_array_ref() {
            Ok(values) => values.clone(),
            Err(_) => Array::from([value.clone()]),
        };
        for value in values {
            head.add_header(name, &value.to_string())?;
        }
    }
    for (name, value) in facts {
        let text = value.to_string();
        match name.as_str() {
            "client" => {
                let client: Result<IpAddr, _> = text.parse();
                head.client = client.map_err(|_| format!("client: {text:?} is not an address"))?;
            }
            "at" => head
                .come_at(&text)
                .map_err(|message| format!("at: {message}"))?,
            _ => return Err(format!("{name:?} is no fact; there are client and at")),
        }
    }
    Ok(head)
}

fn error_facts(given: &Map) -> Result<ErrorFacts, String> {
    let mut facts = ErrorFacts {
        status: 502,
        kind: "upstream_failed".into(),
        message: String::new(),
        workload: String::new(),
        app: String::new(),
        retry_after_secs: None,
    };
    for (name, value) in given {
        let number = || {
            let number = value.as_int().ok().and_then(|n| u64::try_from(n).ok());
            number.ok_or_else(|| format!("{name} is a number"))
        };
        match name.as_str() {
            "kind" => facts.kind = value.to_string().into(),
            "message" => facts.message = value.to_string(),
            "workload" => facts.workload = value.to_string(),
            "app" => facts.app = value.to_string(),
            "status" => {
                facts.status = u16::try_from(number()?).map_err(|_| "status is 400 to 599")?;
            }
            "retry_after" => facts.retry_after_secs = Some(number()?),
            _ => {
                return Err(format!(
                    "{name:?} is no part of an error; there are kind, status, message, workload, app and retry_after"
                ));
            }
        }
    }
    Ok(facts)
}

fn register_hooks(engine: &mut Engine) {
    engine.document(
        "simulate_template(name: String, vars: Map) -> Map",
        "The specification that a template makes of the values. Belongs in a test.",
        |name: &str, vars: Map| -> Raw<Dynamic> {
            ask("simulate_template", |version| {
                let filled = version
                    .fill(name, &json_object(&vars)?)
                    .map_err(|error| error.to_string())?;
                let spec = filled.ok_or_else(|| format!("there is no template {name:?}"))?;
                dynamic(spec_fields(&spec))
            })
        },
    );
    engine.document(
        "simulate_ready(container: Map) -> Map",
        "The rule of the `ready` hooks for a container with any of `name`, `id`, `image`, `labels`, `envs`, `ports` and `has_healthcheck`: its `kind` (`\"wait\"`, `\"probe\"`, `\"tcp\"`, `\"health\"`, `\"none\"`) with `target`, and times in seconds: `after`, `every`, `max`. Belongs in a test.",
        |container: Map| -> Raw<Dynamic> {
            ask("simulate_ready", |version| {
                let rule = version.ready_rule(&container_of(&container)?);
                dynamic(shown::ready_fields(rule.map_err(|error| error.to_string())?.as_ref()))
            })
        },
    );
    engine.document(
        "simulate_idle(container: Map) -> Map",
        "The rule of the `idle` hooks for a container as in `simulate_ready`: its `kind` (`\"never\"`, `\"stop\"`, `\"pause\"`, `\"none\"`) with `after` in seconds. Belongs in a test.",
        |container: Map| -> Raw<Dynamic> {
            ask("simulate_idle", |version| {
                let rule = version.idle_rule(&container_of(&container)?);
                dynamic(shown::idle_fields(rule.map_err(|error| error.to_string())?.as_ref()))
            })
        },
    );
}

fn dynamic(value: Value) -> Result<Dynamic, String> {
    rhai::serde::to_dynamic(value).map_err(|error| error.to_string())
}

fn container_of(given: &Map) -> Result<Container, String> {
    let json = Value::Object(json_object(given)?);
    let facts: ContainerFacts = serde_json::from_value(json).map_err(|error| error.to_string())?;
    Ok(Container(Arc::new(facts)))
}
