//! A decision that a test asked for, with its fields to be looked at.

use std::sync::Arc;

use rhai::{Dynamic, Engine, Map};

use crate::decision::{Decision, RequestFacts};
use crate::script::documented::Documented as _;
use crate::script::engine::{Raw, refuse};
use crate::script::shown;

/// What `simulate` returns. Its line is what is shown and compared with text.
#[derive(Debug, Clone)]
pub struct Simulated(Arc<Outcome>);

#[derive(Debug)]
struct Outcome {
    line: String,
    fields: Map,
}

impl Simulated {
    /// `route` is the pattern that matched; `""` when there was none.
    ///
    /// # Errors
    /// When a value of the decision is none that scripts have.
    pub fn new(
        route: &str,
        decision: Option<&Decision>,
        facts: &RequestFacts<'_>,
    ) -> Result<Self, String> {
        let mut fields = Map::new();
        for (name, value) in shown::fields(decision, facts) {
            let value = rhai::serde::to_dynamic(value).map_err(|error| error.to_string())?;
            fields.insert(name.into(), value);
        }
        fields.insert("route".into(), route.into());
        Ok(Self(Arc::new(Outcome {
            line: shown::line(decision),
            fields,
        })))
    }

    /// `proxy a:9000`, `respond 404`, …
    pub fn line(&self) -> &str {
        &self.0.line
    }

    fn field(&self, name: &str) -> Raw<Dynamic> {
        match self.0.fields.get(name) {
            Some(value) => Ok(value.clone()),
            None => refuse(format!(
                "the decision is \"{}\", which has no {name}",
                self.0.line
            )),
        }
    }
}

/// The properties: name, type, words.
const PROPERTIES: [(&str, &str, &str); 21] = [
    (
        "kind",
        "String",
        "`\"proxy\"`, `\"app\"`, `\"redirect\"`, `\"respond\"`, or `\"none\"` where there is no decision.",
    ),
    (
        "route",
        "String",
        "The pattern of the route that matched; `\"\"` where none did.",
    ),
    (
        "workload",
        "String",
        "The container that a `proxy` decision is for.",
    ),
    (
        "app",
        "String",
        "The application that an `app` decision is for.",
    ),
    (
        "canary",
        "float",
        "The percentage of clients that an `app` decision sends to a release that is tried; 0.0 without one.",
    ),
    (
        "port",
        "int",
        "The port that a `proxy` or `app` decision names; 0 where it leaves it to the container.",
    ),
    (
        "path",
        "String",
        "The path that the application would be asked for, after `path` and `strip`.",
    ),
    (
        "strip",
        "int",
        "The leading path segments that a `proxy` or `app` decision drops.",
    ),
    (
        "timeout",
        "float",
        "Seconds that the application has to begin its answer; 0.0 where the configuration's limit holds.",
    ),
    (
        "wait",
        "float",
        "Seconds that the request may be held; 0.0 where the configuration's limit holds.",
    ),
    (
        "asleep",
        "String",
        "What happens when the container sleeps: `\"hold\"`, `\"page\"`, `\"redirect\"` or `\"refuse\"`.",
    ),
    (
        "follows",
        "bool",
        "Whether all requests of a `proxy` decision may be redirected while the container sleeps.",
    ),
    ("counts", "bool", "Whether the request counts as activity."),
    (
        "template",
        "String",
        "The template that the container would be made from; `\"\"` without `create`.",
    ),
    (
        "vars",
        "Map",
        "The values for that template; empty without `create`.",
    ),
    (
        "status",
        "int",
        "The status of a `redirect` or `respond` decision.",
    ),
    (
        "location",
        "String",
        "Where a `redirect` decision leads to.",
    ),
    ("body", "String", "The body of a `respond` decision."),
    (
        "retry_after",
        "float",
        "Seconds in the `Retry-After` of a `respond` decision; 0.0 without one.",
    ),
    (
        "headers",
        "Map",
        "The headers of the answer that the decision sets, by name in lower case; one that it drops is `()`.",
    ),
    (
        "request_headers",
        "Map",
        "The headers that a `proxy` or `app` decision sets on the way to the application; one that it drops is `()`.",
    ),
];

/// Registers the type.
pub fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Simulated>("Decision");
    for (name, kind, words) in PROPERTIES {
        engine.document(
            &format!("get {name}(decision: Decision) -> {kind}"),
            words,
            move |decision: &mut Simulated| decision.field(name),
        );
    }
    for name in ["to_string", "to_debug"] {
        engine.document(
            &format!("{name}(decision: Decision) -> String"),
            "The decision in one line: `proxy shop:8080`, `app shop`, `redirect 302 /x`, `respond 404`, `none`.",
            |decision: &mut Simulated| decision.0.line.clone(),
        );
    }
}
