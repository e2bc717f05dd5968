//! A directory of scripts as one version: compiled, checked, and asked for decisions.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use rhai::{Dynamic, Engine};
use serde_json::{Map, Value};

use crate::config::Given;
use crate::decision::{
    ContainerFacts, ContainerRules, Decision, ErrorFacts, IdleRule, ReadyRule, Reply, RequestFacts,
    ScriptFailure,
};
use crate::script::answers;
pub use crate::script::error::ScriptError;
use crate::script::error::{Place, Source};
use crate::script::facts::{self, Container};
use crate::script::field::Field;
use crate::script::hooks::{Hook, Runner};
use crate::script::load::load;
use crate::script::memo::Memo;
use crate::script::meter::STACK_BYTES;
use crate::script::request::{Reading, Request};
use crate::script::routes::{Captures, RouteTable};
use crate::script::rules;
use crate::spec::WorkloadSpec;

/// One state of the scripts directory, ready to be asked. Immutable: a change of the scripts makes
/// another version.
pub struct Version {
    number: u64,
    hash: String,
    given: Given,
    engine: Engine,
    sources: BTreeMap<Arc<str>, Arc<Source>>,
    table: RouteTable,
    /// By the numbers of the table.
    routes: Vec<(Arc<str>, Hook)>,
    templates: BTreeMap<String, Hook>,
    ready: Vec<Hook>,
    idle: Vec<Hook>,
    on_error: Vec<Hook>,
}

/// What a version has, for people: `wakegate check`, status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Patterns and where they stand, in order of the files.
    pub routes: Vec<(String, Place)>,
    pub templates: Vec<(String, Place)>,
    pub ready: Vec<Place>,
    pub idle: Vec<Place>,
    pub on_error: Vec<Place>,
}

impl Version {
    /// Compiles and checks every `*.rhai` of the directory, in name order. All errors at once.
    pub fn load(dir: &Path, given: &Given, number: u64) -> Result<Self, Vec<ScriptError>> {
        let loaded = on_a_deep_stack(|| load(dir, given))?;
        let collected = loaded.collected;
        let mut errors = Vec::new();
        let mut templates: BTreeMap<String, Hook> = BTreeMap::new();
        for (name, hook) in collected.templates {
            if let Some(other) = templates.get(&name) {
                errors.push(hook.place.error(format!(
                    "there is a template {name:?} already at {}",
                    other.place
                )));
            } else {
                templates.insert(name, hook);
            }
        }
        let patterns: Vec<_> = collected
            .routes
            .iter()
            .map(|(pattern, hook)| (pattern.as_str(), &hook.place))
            .collect();
        let table = RouteTable::build(&patterns).map_err(|refused| errors.extend(refused));
        let (Ok(table), true) = (table, errors.is_empty()) else {
            return Err(errors);
        };
        Ok(Self {
            number,
            hash: loaded.hash,
            given: given.clone(),
            engine: loaded.engine,
            sources: loaded.sources,
            table,
            routes: collected
                .routes
                .into_iter()
                .map(|(pattern, hook)| (pattern.into(), hook))
                .collect(),
            templates,
            ready: collected.ready,
            idle: collected.idle,
            on_error: collected.on_error,
        })
    }

    /// Counts up with each version that was loaded.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// SHA-256 over file names and contents, in hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub fn summary(&self) -> Summary {
        let places = |hooks: &[Hook]| hooks.iter().map(|hook| hook.place.clone()).collect();
        Summary {
            routes: self
                .routes
                .iter()
                .map(|(pattern, hook)| (pattern.to_string(), hook.place.clone()))
                .collect(),
            templates: self
                .templates
                .iter()
                .map(|(name, hook)| (name.clone(), hook.place.clone()))
                .collect(),
            ready: places(&self.ready),
            idle: places(&self.idle),
            on_error: places(&self.on_error),
        }
    }

    /// Decides without any memo. `Ok(None)`: no route matches, or the one that does has no decision.
    pub fn decide(&self, request: &RequestFacts<'_>) -> Result<Option<Decided>, ScriptFailure> {
        let Some((route, captures)) = self.table.find(request.host, request.path) else {
            return Ok(None);
        };
        let (decision, _) = self.ask(route, request, &captures)?;
        Ok(decision.map(|decision| Decided {
            decision: Arc::new(decision),
            route: self.routes[route].0.clone(),
        }))
    }

    /// Asks a route's handler. Also tells what it read, when that is all that it depended on.
    fn ask(
        &self,
        route: usize,
        request: &RequestFacts<'_>,
        captures: &Captures<'_>,
    ) -> Result<(Option<Decision>, Option<Vec<Field>>), ScriptFailure> {
        let hook = &self.routes[route].1;
        let reading = Reading::new(request, Some(captures));
        let decision = reading.during(|| {
            self.runner(|runner| {
                runner.call(hook, [Dynamic::from(Request)], |answer| {
                    self.checked(answers::decision(answer)?)
                })
            })
        })?;
        Ok((decision, reading.into_reads()))
    }

    fn checked(&self, decision: Option<Decision>) -> Result<Option<Decision>, String> {
        if let Some(Decision::Proxy(proxy)) = &decision
            && let Some(create) = &proxy.create
            && !self.templates.contains_key(&create.template)
        {
            return Err(format!(
                "create: there is no template {:?}",
                create.template
            ));
        }
        Ok(decision)
    }

    /// What `on_error` answers; `Ok(None)` when it has nothing to say.
    pub fn on_error(
        &self,
        request: &RequestFacts<'_>,
        error: &ErrorFacts,
    ) -> Result<Option<Reply>, ScriptFailure> {
        let reading = Reading::new(request, None);
        reading.during(|| {
            self.first(&self.on_error, |runner, hook| {
                let arguments = [Dynamic::from(Request), facts::error(error)];
                runner.call(hook, arguments, answers::reply)
            })
        })
    }

    /// The answer of the first hook that has one, in order of the files.
    fn first<T>(
        &self,
        hooks: &[Hook],
        call: impl Fn(&Runner<'_>, &Hook) -> Result<Option<T>, ScriptFailure>,
    ) -> Result<Option<T>, ScriptFailure> {
        self.runner(|runner| {
            hooks
                .iter()
                .find_map(|hook| call(runner, hook).transpose())
                .transpose()
        })
    }

    fn runner<T>(&self, run: impl FnOnce(&Runner<'_>) -> T) -> T {
        run(&Runner {
            engine: &self.engine,
            limits: &self.given.limits,
            place: &|file, position| self.sources.get(file).map(|source| source.at(position)),
        })
    }
}

impl ContainerRules for Version {
    fn ready(&self, container: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        let container = Container(Arc::new(container.clone()));
        self.first(&self.ready, |runner, hook| {
            let argument = Dynamic::from(container.clone());
            runner.call(hook, [argument], rules::ready_rule)
        })
    }

    fn idle(&self, container: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        let container = Container(Arc::new(container.clone()));
        self.first(&self.idle, |runner, hook| {
            let argument = Dynamic::from(container.clone());
            runner.call(hook, [argument], rules::idle_rule)
        })
    }

    fn template(
        &self,
        name: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        let Some(hook) = self.templates.get(name) else {
            return Ok(None);
        };
        let vars = facts::vars(vars).map_err(|message| hook.place.failure(&message))?;
        self.runner(|runner| runner.call(hook, [vars], facts::spec))
            .map(Some)
    }
}

/// Loading runs on whatever thread the caller has, which need not have the stack that scripts may need.
fn on_a_deep_stack<T: Send>(load: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, load) {
            Ok(loading) => loading
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => panic!("no thread can be started to load the scripts: {error}"),
        }
    })
}

/// The version that is asked now. Swapping it is one atomic store.
pub struct Scripts {
    pub current: ArcSwap<Version>,
}

impl Scripts {
    pub fn new(version: Version) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(version),
        })
    }
}

impl ContainerRules for Scripts {
    fn ready(&self, container: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        self.current.load().ready(container)
    }

    fn idle(&self, container: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        self.current.load().idle(container)
    }

    fn template(
        &self,
        name: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        self.current.load().template(name, vars)
    }
}

/// A decision and where it came from.
#[derive(Debug, Clone)]
pub struct Decided {
    pub decision: Arc<Decision>,
    /// The pattern that matched, for metrics and logs.
    pub route: Arc<str>,
}

/// How often a worker's memo had the decision. Written by one thread, read by any.
#[derive(Debug, Default)]
pub struct MemoCounts {
    hits: AtomicU64,
    misses: AtomicU64,
    bypasses: AtomicU64,
}

impl MemoCounts {
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Decisions that were made and are remembered from then on.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Decisions that were made and cannot be remembered, failures included.
    pub fn bypasses(&self) -> u64 {
        self.bypasses.load(Ordering::Relaxed)
    }
}

/// There is one writer, so that counting needs no locked instruction.
fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// One worker's way to the scripts: its snapshot of the current version and its own memo of
/// decisions. Belongs to one thread; nothing in it is locked.
pub struct Decider {
    versions: Cache<Current, Arc<Version>>,
    /// The version that the memo belongs to.
    version: Arc<Version>,
    memo: Memo,
    /// This worker's own copies of the patterns: a count that all workers share would be fought over.
    patterns: Vec<Arc<str>>,
    counts: Arc<MemoCounts>,
}

struct Current(Arc<Scripts>);

impl Deref for Current {
    type Target = ArcSwap<Version>;

    fn deref(&self) -> &ArcSwap<Version> {
        &self.0.current
    }
}

impl Decider {
    pub fn new(scripts: Arc<Scripts>) -> Self {
        let version = scripts.current.load_full();
        Self {
            versions: Cache::new(Current(scripts)),
            memo: memo_of(&version),
            patterns: patterns_of(&version),
            version,
            counts: Arc::default(),
        }
    }

    /// The version that made the last decision, also when it is no longer the current one.
    pub fn version(&self) -> Arc<Version> {
        self.version.clone()
    }

    /// `Ok(None)`: no route matches.
    pub fn decide(&mut self, request: &RequestFacts<'_>) -> Result<Option<Decided>, ScriptFailure> {
        self.refresh();
        let version = &self.version;
        let Some((route, captures)) = version.table.find(request.host, request.path) else {
            return Ok(None);
        };
        let pattern = &self.patterns[route];
        let answer = |decision: &Option<Arc<Decision>>| {
            decision.as_ref().map(|decision| Decided {
                decision: decision.clone(),
                route: pattern.clone(),
            })
        };
        if let Some(remembered) = self.memo.find(route, request, &captures) {
            count(&self.counts.hits);
            return Ok(answer(remembered));
        }
        let asked = version.ask(route, request, &captures);
        let remember =
            matches!(asked, Ok((_, Some(_)))) && version.given.limits.memo_entries_max > 0;
        count(if remember {
            &self.counts.misses
        } else {
            &self.counts.bypasses
        });
        let (decision, reads) = asked?;
        let decision = decision.map(Arc::new);
        if let Some(reads) = reads {
            self.memo
                .insert(route, request, &captures, reads, decision.clone());
        }
        Ok(answer(&decision))
    }

    /// How often the memo had the decision, since this decider was made.
    pub fn counts(&self) -> Arc<MemoCounts> {
        self.counts.clone()
    }

    /// Decisions that are remembered now.
    pub fn remembered(&self) -> usize {
        self.memo.entries()
    }

    fn refresh(&mut self) {
        let current = self.versions.load();
        if !Arc::ptr_eq(current, &self.version) {
            self.version = current.clone();
            self.memo = memo_of(&self.version);
            self.patterns = patterns_of(&self.version);
        }
    }
}

fn memo_of(version: &Version) -> Memo {
    Memo::new(version.routes.len(), version.given.limits.memo_entries_max)
}

fn patterns_of(version: &Version) -> Vec<Arc<str>> {
    let patterns = version.routes.iter();
    patterns.map(|(pattern, _)| Arc::from(&**pattern)).collect()
}
