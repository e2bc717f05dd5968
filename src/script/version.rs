//! A directory of scripts as one version: compiled, checked, and asked for decisions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
use crate::script::field::Reads;
use crate::script::hooks::{Hook, Runner};
use crate::script::load::load;
use crate::script::memo::Memo;
use crate::script::meter::STACK_BYTES;
use crate::script::request::{Reading, Request};
pub use crate::script::routes::Verdict;
use crate::script::routes::{Captures, RouteTable};
use crate::script::rules;
use crate::script::selftest::{self, Outcome};
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
    tests: Vec<(String, Hook)>,
    failures: AtomicU64,
}

/// What asking a route's handler came to.
pub struct Asked {
    pub decision: Result<Option<Decision>, ScriptError>,
    /// What the handler read of the request.
    pub reads: Reads,
}

/// A request's way through a version.
pub struct Evaluated<'v> {
    /// Of the route that matched; `""` where none did.
    pub pattern: &'v str,
    pub decision: Result<Option<Decision>, ScriptError>,
    /// What the handler read of the request.
    pub reads: Reads,
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
            tests: named(collected.tests),
            failures: AtomicU64::new(0),
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
        let Some((route, captures)) = self.find(request) else {
            return Ok(None);
        };
        let decision = self.ask(route, request, &captures).decision?;
        Ok(decision.map(|decision| Decided {
            decision: Arc::new(decision),
            route: self.routes[route].0.clone(),
        }))
    }

    /// The number of the route that a request belongs to.
    pub fn find<'a>(&'a self, request: &RequestFacts<'a>) -> Option<(usize, Captures<'a>)> {
        self.table.find(request.host, request.path)
    }

    /// Why each route matches a request or not, in the order of [`Summary::routes`].
    pub fn verdicts(&self, request: &RequestFacts<'_>) -> Vec<Verdict> {
        self.table.verdicts(request.host, request.path)
    }

    /// Asks a route's handler.
    pub fn ask(&self, route: usize, request: &RequestFacts<'_>, captures: &Captures<'_>) -> Asked {
        let hook = &self.routes[route].1;
        let reading = Reading::new(request, Some(captures));
        let decision = reading.during(|| {
            self.runner()
                .call(hook, [Dynamic::from(Request)], |answer| {
                    self.checked(answers::decision(answer)?)
                })
        });
        Asked {
            decision,
            reads: reading.into_reads(),
        }
    }

    /// Finds the route of a request and asks its handler.
    pub fn evaluate(&self, request: &RequestFacts<'_>) -> Evaluated<'_> {
        let Some((route, captures)) = self.find(request) else {
            return Evaluated {
                pattern: "",
                decision: Ok(None),
                reads: Reads::default(),
            };
        };
        let Asked { decision, reads } = self.ask(route, request, &captures);
        Evaluated {
            pattern: &self.routes[route].0,
            decision,
            reads,
        }
    }

    /// Runs the tests whose name is wanted, in order of the files. Must be called on a thread with
    /// the stack that scripts may need.
    pub fn test(&self, wanted: impl Fn(&str) -> bool) -> Vec<Outcome> {
        let tests = self.tests.iter().filter(|(name, _)| wanted(name));
        tests
            .map(|(name, hook)| {
                selftest::run(self, name, || {
                    let runner = Runner {
                        cpu_time_max: self.given.limits.load_cpu_time_max,
                        ..self.runner()
                    };
                    runner.call(hook, [], |_| Ok(()))
                })
            })
            .collect()
    }

    /// The names of all tests, in order of the files.
    pub fn test_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tests.iter().map(|(name, _)| name.as_str())
    }

    /// The patterns of the routes, by their numbers.
    pub fn patterns(&self) -> impl ExactSizeIterator<Item = &str> {
        self.routes.iter().map(|(pattern, _)| &**pattern)
    }

    /// An empty memo for this version's decisions.
    pub fn memo(&self) -> Memo {
        Memo::new(self.routes.len(), self.given.limits.memo_entries_max)
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
        self.noted(self.error_reply(request, error))
    }

    /// The same, not in earnest: a failure does not count.
    pub fn error_reply(
        &self,
        request: &RequestFacts<'_>,
        error: &ErrorFacts,
    ) -> Result<Option<Reply>, ScriptError> {
        let reading = Reading::new(request, None);
        reading.during(|| {
            self.first(&self.on_error, |runner, hook| {
                let arguments = [Dynamic::from(Request), facts::error(error)];
                runner.call(hook, arguments, answers::reply)
            })
        })
    }

    /// Fills a template. `Ok(None)`: there is none of that name.
    pub fn fill(
        &self,
        name: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptError> {
        let Some(hook) = self.templates.get(name) else {
            return Ok(None);
        };
        let vars = facts::vars(vars).map_err(|message| hook.place.error(message))?;
        self.runner().call(hook, [vars], facts::spec).map(Some)
    }

    /// Failures of hooks other than routes while they were asked in earnest.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn noted<T>(&self, answer: Result<T, ScriptError>) -> Result<T, ScriptFailure> {
        if answer.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer?)
    }

    /// How to know that a container is ready; `Ok(None)` where no hook has a rule for it.
    pub fn ready_rule(&self, container: &Container) -> Result<Option<ReadyRule>, ScriptError> {
        self.first(&self.ready, |runner, hook| {
            let argument = Dynamic::from(container.clone());
            runner.call(hook, [argument], rules::ready_rule)
        })
    }

    /// When a container may sleep; `Ok(None)` where no hook has a rule for it.
    pub fn idle_rule(&self, container: &Container) -> Result<Option<IdleRule>, ScriptError> {
        self.first(&self.idle, |runner, hook| {
            let argument = Dynamic::from(container.clone());
            runner.call(hook, [argument], rules::idle_rule)
        })
    }

    /// The answer of the first hook that has one, in order of the files.
    fn first<T>(
        &self,
        hooks: &[Hook],
        call: impl Fn(&Runner<'_>, &Hook) -> Result<Option<T>, ScriptError>,
    ) -> Result<Option<T>, ScriptError> {
        let runner = self.runner();
        hooks
            .iter()
            .find_map(|hook| call(&runner, hook).transpose())
            .transpose()
    }

    fn runner(&self) -> Runner<'_> {
        Runner {
            engine: &self.engine,
            operations_max: self.given.limits.operations_max,
            cpu_time_max: self.given.limits.cpu_time_max,
            sources: &self.sources,
        }
    }
}

impl ContainerRules for Version {
    fn ready(&self, container: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        let container = Container(Arc::new(container.clone()));
        self.noted(self.ready_rule(&container))
    }

    fn idle(&self, container: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        let container = Container(Arc::new(container.clone()));
        self.noted(self.idle_rule(&container))
    }

    fn template(
        &self,
        name: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        self.noted(self.fill(name, vars))
    }
}

/// By file and name: `file.rhai::test_name`.
fn named(tests: Vec<(String, Hook)>) -> Vec<(String, Hook)> {
    let tests = tests.into_iter().map(|(name, hook)| {
        let file = Path::new(&*hook.place.file).file_name().unwrap_or_default();
        (format!("{}::{name}", file.to_string_lossy()), hook)
    });
    tests.collect()
}

/// Scripts are loaded and tested on whatever thread the caller has, which need not have the stack that
/// they may need.
pub fn on_a_deep_stack<T: Send>(load: impl FnOnce() -> T + Send) -> T {
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

/// A decision and where it came from.
#[derive(Debug, Clone)]
pub struct Decided {
    pub decision: Arc<Decision>,
    /// The pattern that matched, for metrics and logs.
    pub route: Arc<str>,
}
