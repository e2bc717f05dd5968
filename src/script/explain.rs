//! Why a request is decided as it is: what matched, what was read, what came of it.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use http::header::FORWARDED;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::decision::{Canary, ContainerFacts, CreateFrom, Decision, Destination, ProxyDecision};
use crate::script::facts::Container;
use crate::script::field::Field;
use crate::script::head::Head;
use crate::script::shown;
use crate::script::version::{Verdict, Version};

/// A request that somebody would like to have explained, as `POST /scripts/explain` takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    pub method: String,
    /// `/path?query`, or `http://host/path?query`.
    pub url: String,
    /// Names and values.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Where it comes from; 127.0.0.1 unless it is said.
    #[serde(default)]
    pub client: Option<IpAddr>,
    /// When it comes, such as `2026-01-05T09:30:00Z`; now unless it is said.
    #[serde(default)]
    pub at: Option<String>,
}

impl Wish {
    /// The request; `now` is in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn head(&self, now: i64) -> Result<Head, String> {
        let mut head = Head::made_up(&self.method, &self.url)?;
        for (name, value) in &self.headers {
            head.add_header(name, value)?;
        }
        if let Some(client) = self.client {
            head.client = client;
        }
        match &self.at {
            None => head.at = now,
            Some(text) => head.come_at(text)?,
        }
        Ok(head)
    }
}

/// Everything about one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub request: String,
    pub client: IpAddr,
    pub at: String,
    /// Of the scripts.
    pub version: u64,
    pub hash: String,
    /// In the order of the files.
    pub routes: Vec<Route>,
    /// What the handler read of the request, in order.
    pub reads: Vec<Read>,
    /// It read all headers besides.
    pub reads_all_headers: bool,
    /// Whether the decision is remembered for requests with the same values.
    pub remembered: bool,
    /// In one line: `proxy a:9000`.
    pub decision: String,
    /// By field.
    pub fields: Map<String, Value>,
    /// Why there is no decision, with the place in the scripts, when a handler failed.
    pub error: Option<String>,
    /// Where the decision is for a container.
    pub workload: Option<Workload>,
    /// Where it is for an application.
    pub app: Option<Application>,
    /// What is to be known about this explanation.
    pub notes: Vec<String>,
}

/// One route and what it has to do with the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub pattern: String,
    /// `file:line:column`
    pub place: String,
    pub verdict: RouteVerdict,
    /// Why it was not asked; `""` for the one that was.
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteVerdict {
    /// It was asked.
    Taken,
    /// It matches, and another one goes before it.
    Passed,
    /// It does not match.
    NoMatch,
}

/// A field that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Read {
    /// `param name`, `header x-a`, `path`, …
    pub field: String,
    /// As the script got it; none where the request has no such thing.
    pub value: Option<String>,
}

/// The container that the decision is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    pub name: String,
    /// What the rules were asked about: the container itself, or what could be known of it.
    pub rules_for: String,
    /// By field; `kind` is `none` where the scripts have no rule.
    pub ready: Value,
    pub idle: Value,
    /// As the gateway shows it; none where no gateway was asked, or where it does not exist.
    pub state: Option<Value>,
}

/// The application that the decision is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Application {
    pub name: String,
    /// Which of its releases gets the request, in words.
    pub releases: String,
    /// Its current release and the canary as they are, in words; empty where no gateway was asked.
    #[serde(default)]
    pub now: Vec<String>,
}

impl Version {
    /// Explains a decision, as far as it can be told without an engine.
    pub fn explain(&self, head: &Head) -> Explanation {
        let facts = head.facts();
        let evaluated = self.evaluate(&facts);
        let captures = self.find(&facts).map(|(_, captures)| captures);
        let reads = evaluated.reads.fields.iter().map(|field| Read {
            field: field.to_string(),
            value: field.text(&field.of(&facts, captures.as_ref())),
        });
        let decision = evaluated.decision.as_ref().ok().and_then(Option::as_ref);
        let (workload, app) = match decision {
            Some(Decision::Proxy(proxy)) => self.destination(proxy),
            _ => (None, None),
        };
        let at = Timestamp::from_second(head.at).unwrap_or(Timestamp::MIN);
        Explanation {
            request: request_line(head),
            client: head.client,
            at: at.to_string(),
            version: self.number(),
            hash: self.hash().to_owned(),
            routes: self.routes_for(head),
            reads: reads.collect(),
            reads_all_headers: evaluated.reads.all_headers,
            remembered: evaluated.reads.are_all_told()
                && !evaluated.pattern.is_empty()
                && evaluated.decision.is_ok()
                && !self.memo().is_off(),
            decision: match &evaluated.decision {
                Ok(decision) => shown::line(decision.as_ref()),
                Err(_) => "error".to_owned(),
            },
            fields: match &evaluated.decision {
                Ok(decision) => shown::fields(decision.as_ref(), &facts),
                Err(_) => Map::new(),
            },
            notes: notes_on(head),
            error: evaluated.decision.err().map(|error| error.to_string()),
            workload,
            app,
        }
    }

    fn destination(&self, proxy: &ProxyDecision) -> (Option<Workload>, Option<Application>) {
        match &proxy.destination {
            Destination::Workload(name) => {
                let workload = self.workload(name.as_str(), proxy.create.as_ref());
                (Some(workload), None)
            }
            Destination::App { name, canary } => {
                let app = Application {
                    name: name.to_string(),
                    releases: releases_in_words(*canary),
                    now: Vec::new(),
                };
                (None, Some(app))
            }
        }
    }

    fn routes_for(&self, head: &Head) -> Vec<Route> {
        let routes = self.summary().routes;
        let verdicts = self.verdicts(&head.facts());
        let pattern_of = |route: usize| routes[route].0.clone();
        let told = routes.iter().zip(verdicts);
        told.map(|((pattern, place), verdict)| {
            let (verdict, why) = match verdict {
                Verdict::Taken => (RouteVerdict::Taken, String::new()),
                Verdict::Passed { by, why } => (
                    RouteVerdict::Passed,
                    format!("{} goes before it: {why}", pattern_of(by)),
                ),
                Verdict::Not { why } => (RouteVerdict::NoMatch, why),
            };
            Route {
                pattern: pattern.clone(),
                place: place.to_string(),
                verdict,
                why,
            }
        })
        .collect()
    }

    /// What the rules say without an engine: of the container that the template would make, or of
    /// one that only has its name.
    fn workload(&self, name: &str, create: Option<&CreateFrom>) -> Workload {
        let made = create.and_then(|create| {
            let spec = self.fill(&create.template, &create.vars).ok()??;
            let facts = ContainerFacts {
                name: spec.name.to_string(),
                image: spec.image,
                labels: spec.labels,
                envs: spec.envs,
                ports: spec.port.into_iter().collect(),
                ..ContainerFacts::default()
            };
            Some((
                facts,
                format!("a container made from template {}", create.template),
            ))
        });
        let (facts, rules_for) = made.unwrap_or_else(|| {
            let facts = ContainerFacts {
                name: name.to_owned(),
                ..ContainerFacts::default()
            };
            let rules_for = "a container of this name without labels and variables".to_owned();
            (facts, rules_for)
        });
        let (ready, idle) = self.rules_of(facts);
        Workload {
            name: name.to_owned(),
            rules_for,
            ready,
            idle,
            state: None,
        }
    }

    /// The ready and the idle rule for a container, by field.
    pub fn rules_of(&self, facts: ContainerFacts) -> (Value, Value) {
        let container = Container(Arc::new(facts));
        let failed = |error| serde_json::json!({ "kind": "error", "error": format!("{error}") });
        let ready = self.ready_rule(&container);
        let idle = self.idle_rule(&container);
        (
            ready.map_or_else(failed, |rule| shown::ready_fields(rule.as_ref())),
            idle.map_or_else(failed, |rule| shown::idle_fields(rule.as_ref())),
        )
    }
}

fn releases_in_words(canary: Canary) -> String {
    match canary {
        Canary::Never => "the current one, also while a release is tried as a canary".to_owned(),
        Canary::Always => {
            "the one that is tried as a canary while there is one, else the current one".to_owned()
        }
        Canary::Percent(percent) => format!(
            "the current one; while a release is tried as a canary, {percent} of 100 clients that have \
             no cookie of it yet go to it"
        ),
    }
}

fn notes_on(head: &Head) -> Vec<String> {
    let says_whence =
        |name: &HeaderName| *name == FORWARDED || name.as_str().starts_with("x-forwarded-");
    let has_some = head.headers.keys().any(says_whence);
    has_some
        .then(|| {
            "fields such as X-Forwarded-For are not evaluated here: --client says where the request \
             comes from, the URL its scheme"
                .to_owned()
        })
        .into_iter()
        .collect()
}

fn request_line(head: &Head) -> String {
    let Head {
        method,
        scheme,
        host,
        path,
        query,
        ..
    } = head;
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{method} {scheme}://{host}{path}{mark}{query}")
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Method => f.write_str("method"),
            Field::Scheme => f.write_str("scheme"),
            Field::Host => f.write_str("host"),
            Field::Path => f.write_str("path"),
            Field::Query => f.write_str("query"),
            Field::Client => f.write_str("client"),
            Field::Segment(index) => write!(f, "segment {index}"),
            Field::Param(name) => write!(f, "param {name}"),
            Field::Header(name) => write!(f, "header {name}"),
            Field::QueryValue(key) => write!(f, "query {key}"),
            Field::Cookie(name) => write!(f, "cookie {name}"),
            Field::Time(part, _) => f.write_str(part.name()),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}  (from {}, at {})",
            self.request, self.client, self.at
        )?;
        let hash: String = self.hash.chars().take(12).collect();
        writeln!(f, "scripts: version {}, {hash}", self.version)?;
        writeln!(f, "\nroutes")?;
        let widest = self
            .routes
            .iter()
            .map(|route| route.pattern.chars().count());
        let width = widest.max().unwrap_or_default();
        for route in &self.routes {
            let (sign, words) = match route.verdict {
                RouteVerdict::Taken => ("→", format!("asked ({})", route.place)),
                RouteVerdict::Passed => (" ", format!("passed over: {}", route.why)),
                RouteVerdict::NoMatch => (" ", format!("no match: {}", route.why)),
            };
            writeln!(f, "  {sign} {:width$}  {words}", route.pattern)?;
        }
        if !self.reads.is_empty() || self.reads_all_headers {
            writeln!(f, "\nread of the request")?;
        }
        for Read { field, value } in &self.reads {
            match value {
                Some(value) => writeln!(f, "  {field} = {value:?}")?,
                None => writeln!(f, "  {field} is missing")?,
            }
        }
        if self.reads_all_headers {
            writeln!(f, "  all headers")?;
        }
        writeln!(f, "\ndecision\n  {}", self.decision)?;
        if let Some(error) = &self.error {
            return writeln!(f, "\n{error}");
        }
        writeln!(
            f,
            "  {}",
            if self.remembered {
                "remembered for requests with the same values"
            } else {
                "not remembered: made anew for each request"
            }
        )?;
        if let Some(workload) = &self.workload {
            write!(f, "\n{workload}")?;
        }
        if let Some(app) = &self.app {
            write!(f, "\n{app}")?;
        }
        for note in &self.notes {
            writeln!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "workload {}", self.name)?;
        match &self.state {
            Some(state) => {
                let phase = state["phase"].as_str().unwrap_or("unknown");
                let seconds = state["phase_seconds"].as_f64().unwrap_or_default();
                write!(f, "  phase  {phase}, for {seconds:.1} s")?;
                for (name, words) in [("reason", ""), ("address", "at "), ("leases", "leases ")] {
                    match &state[name] {
                        Value::Null => {}
                        Value::String(text) => write!(f, "; {words}{text}")?,
                        other => write!(f, "; {words}{other}")?,
                    }
                }
                writeln!(f)?;
            }
            None => writeln!(f, "  phase  not known here")?,
        }
        writeln!(f, "  ready  {}", rule_in_words(&self.ready, READY_DEFAULT))?;
        writeln!(f, "  idle   {}", rule_in_words(&self.idle, IDLE_DEFAULT))?;
        writeln!(f, "  (the rules for {})", self.rules_for)
    }
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "application {}", self.name)?;
        writeln!(f, "  release  {}", self.releases)?;
        for line in &self.now {
            writeln!(f, "  now      {line}")?;
        }
        Ok(())
    }
}

const READY_DEFAULT: &str =
    "no rule in the scripts: the container's own health check, else its port";
const IDLE_DEFAULT: &str = "no rule in the scripts: lifecycle.idle_after of the configuration";

/// `probe target="/ok" every=0.25 max=60`
fn rule_in_words(rule: &Value, default: &str) -> String {
    let kind = rule["kind"].as_str().unwrap_or_default();
    if kind == "none" {
        return default.to_owned();
    }
    let mut words = kind.to_owned();
    let fields = rule.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| *name != "kind") {
        // Writing to a string cannot fail.
        let _ = match value {
            Value::String(text) if name == "error" => write!(words, ": {text}"),
            Value::String(text) => write!(words, " {name} {text}"),
            Value::Number(seconds) => write!(words, " {name} {seconds} s"),
            other => write!(words, " {name} {other}"),
        };
    }
    words
}
