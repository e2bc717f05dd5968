//! Hooks: the closures that scripts register at load and that are called from then on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FnPtr, GlobalRuntimeState, ImmutableString, Locked, Map,
    Module, NativeCallContext, Position, Shared,
};

use crate::script::documented::Documented as _;
use crate::script::engine::{Raw, refuse};
use crate::script::error::{Located, Place, ScriptError, Source, locate};
use crate::script::meter::metered;

/// A closure that a script registered, with what it needs to run.
pub struct Hook {
    function: FnPtr,
    /// The functions, imports and constants that were visible where it was registered.
    global: GlobalRuntimeState,
    /// Where it was registered.
    pub place: Place,
    position: Position,
}

/// What the scripts registered so far.
#[derive(Default)]
pub struct Collected {
    /// The file whose top level runs; `None` while a library is loaded.
    pub running: Option<Arc<Source>>,
    pub routes: Vec<(String, Hook)>,
    pub templates: Vec<(String, Hook)>,
    pub ready: Vec<Hook>,
    pub idle: Vec<Hook>,
    pub on_error: Vec<Hook>,
    /// By file and name.
    pub tests: Vec<(String, Hook)>,
}

/// Where hooks are collected. Empty once the version is loaded: from then on nothing registers.
pub type Collector = Arc<Mutex<Option<Collected>>>;

/// Registers the functions that register hooks.
pub fn register(engine: &mut Engine, collector: &Collector) {
    type Add = fn(&mut Collected, String, Hook);
    let named: [(&str, &str, Add); 2] = [
        (
            "route(pattern: String, decide: FnPtr)",
            r#"Decides about the requests that a pattern matches. `decide` is called with the request and
            returns `proxy(…)`, `redirect(…)`, `respond(…)`, or () where it has no decision (404).
            A pattern is "/path", "host/path" or "*.host/path". In its path `{name}` is one segment
            and `{*name}`, at the end, all that is left. What is more exact goes first: fixed text, then
            `{name}`, then `{*name}`. Two routes that match the same are an error.
            Only at the top level of a script.
            ```rhai
            route("/app/{name}/{*rest}", |req| proxy(req.param("name")));
            ```"#,
            |to, pattern, hook| to.routes.push((pattern, hook)),
        ),
        (
            "template(name: String, fill: FnPtr)",
            r#"Makes the specification of a workload from values. `fill` is called with the vars, a map,
            of `create("name", vars)` or of POST /deploy, and returns a map, of which name and image
            are needed. A second template of the name is an error.
            Only at the top level of a script.
            ```rhai
            template("shop", |vars| #{ name: "shop-" + vars.id, image: "shop:latest" });
            ```"#,
            |to, name, hook| to.templates.push((name, hook)),
        ),
    ];
    for (signature, doc, add) in named {
        let collector = collector.clone();
        engine.document(
            signature,
            doc,
            move |context: NativeCallContext, name: &str, closure: FnPtr| -> Raw<()> {
                collect(&collector, &context, 1, closure, |to, hook| {
                    add(to, name.to_owned(), hook);
                })
            },
        );
    }
    type AddUnnamed = fn(&mut Collected, Hook);
    let unnamed: [(&str, usize, &str, AddUnnamed); 3] = [
        (
            "ready(rule: FnPtr)",
            1,
            r#"Says how to know that a started container can be used. `rule` is called with the container
            and returns `probe(…)`, `tcp(…)`, `health(…)`, `wait(…)`, or () to leave it to the next ready.
            Without a rule its own health check counts, else its port.
            Only at the top level of a script.
            ```rhai
            ready(|c| if c.label("health") != "" { probe(c.label("health")) });
            ```"#,
            |to, hook| to.ready.push(hook),
        ),
        (
            "idle(rule: FnPtr)",
            1,
            r#"Says when a container that nobody uses may sleep. `rule` is called with the container and
            returns `stop_after(…)`, `pause_after(…)`, `never()`, or () to leave it to the next idle.
            Without a rule, idle_after under [lifecycle] counts.
            Only at the top level of a script.
            ```rhai
            idle(|c| stop_after(duration(c.env("IDLE"), "10m")));
            ```"#,
            |to, hook| to.idle.push(hook),
        ),
        (
            "on_error(answer: FnPtr)",
            2,
            r#"Words an error answer of the gateway's own. `answer` is called with the request and the
            error and returns `respond(…)`, or () to leave it to the next on_error or to the built-in answer.
            The error is a map: `status`, `kind` (such as "unknown_workload"), `message`, `workload`
            ("" where there is none) and `retry_after` (seconds or ()).
            Only at the top level of a script.
            ```rhai
            on_error(|req, err| if err.kind == "no_route" { respond(404, "nothing here\n") });
            ```"#,
            |to, hook| to.on_error.push(hook),
        ),
    ];
    for (signature, parameters, doc, add) in unnamed {
        let collector = collector.clone();
        engine.document(
            signature,
            doc,
            move |context: NativeCallContext, closure: FnPtr| -> Raw<()> {
                collect(&collector, &context, parameters, closure, add)
            },
        );
    }
}

fn collect(
    collector: &Collector,
    context: &NativeCallContext,
    parameters: usize,
    function: FnPtr,
    add: impl FnOnce(&mut Collected, Hook),
) -> Raw<()> {
    let name = context.fn_name();
    let mut collector = collector.lock();
    let Some(collected) = collector.as_mut() else {
        return refuse(format!(
            "{name}(…) belongs at the top level of a script, not inside a hook"
        ));
    };
    // A library's function that is called by a script has the library for its source.
    let source = collected
        .running
        .clone()
        .filter(|source| context.call_source() == Some(&*source.file));
    let Some(source) = source else {
        return refuse(format!(
            "a file that is imported cannot call {name}(…): it has functions and constants only"
        ));
    };
    check_parameters(context, &function, parameters)?;
    let function = own_captures(context, function)?;
    let hook = Hook::of(context, function, &source, context.call_position());
    add(collected, hook);
    Ok(())
}

impl Hook {
    /// The function of `source`, as it is seen where `context` is.
    fn of(
        context: &NativeCallContext,
        function: FnPtr,
        source: &Source,
        position: Position,
    ) -> Self {
        let mut global = context.global_runtime_state().clone();
        global.level = 0;
        global.scope_level = 0;
        Self {
            function,
            global,
            place: source.at(position),
            position,
        }
    }
}

/// What a script's top level is followed by, so that its tests see all that it imported.
pub const END_OF_SCRIPT: &str = "collect_tests";

/// What the names of a script's own tests begin with.
pub const TEST_PREFIX: &str = "test_";

/// Registers [`END_OF_SCRIPT`]. Scripts cannot call it: the static checks do not know it.
pub fn register_end(engine: &mut Engine, collector: &Collector) {
    let collector = collector.clone();
    engine.register_fn(
        END_OF_SCRIPT,
        move |context: NativeCallContext| -> Raw<()> {
            let mut collector = collector.lock();
            let Some(collected) = collector.as_mut() else {
                return refuse("the scripts are loaded already");
            };
            let Some(source) = collected.running.clone() else {
                return Ok(());
            };
            let functions = context
                .iter_namespaces()
                .flat_map(Module::iter_script_fn_info);
            let mut tests = Vec::new();
            for (_, _, name, _, definition) in functions {
                if name.starts_with(TEST_PREFIX) {
                    let function = FnPtr::new(name)?;
                    let position = definition.body.start_position();
                    tests.push((
                        name.to_owned(),
                        Hook::of(&context, function, &source, position),
                    ));
                }
            }
            tests.sort_by_key(|(_, hook)| (hook.place.line, hook.place.column));
            collected.tests.extend(tests);
            Ok(())
        },
    );
}

/// The closure must exist and take what the hook is given.
fn check_parameters(context: &NativeCallContext, function: &FnPtr, parameters: usize) -> Raw<()> {
    let counts: Vec<usize> = context
        .iter_namespaces()
        .flat_map(|module| module.iter_script_fn_info())
        .filter(|(_, _, name, _, _)| *name == function.fn_name())
        .map(|(_, _, _, count, _)| count.saturating_sub(function.curry().len()))
        .collect();
    let name = context.fn_name();
    match counts.first() {
        _ if counts.contains(&parameters) => Ok(()),
        Some(count) => refuse(format!(
            "{name} calls its closure with {}, this one takes {count}",
            if parameters == 1 {
                "one argument".to_owned()
            } else {
                format!("{parameters} arguments")
            }
        )),
        None => refuse(format!(
            "{name} takes a closure or a function of this script; {:?} is none",
            function.fn_name()
        )),
    }
}

/// A captured `let` is shared: by all requests, on all threads. It is refused. A captured `const`
/// becomes the closure's own, so that each call gets a copy, whatever the one before did to its.
fn own_captures(context: &NativeCallContext, mut function: FnPtr) -> Raw<FnPtr> {
    let parameters = context
        .iter_namespaces()
        .flat_map(|module| module.iter_script_fn_info())
        .find(|(_, _, name, _, _)| *name == function.fn_name())
        .map(|(_, _, _, _, definition)| definition.params.clone())
        .unwrap_or_default();
    let mut variables = Vec::new();
    for (index, captured) in function.iter_curry_mut().enumerate() {
        match unshared(captured.clone(), captured.is_read_only()) {
            Ok(own) => *captured = own,
            Err(Stateful) => {
                let name = parameters.get(index).map_or("?", |name| name.as_str());
                variables.push(format!("`{name}`"));
            }
        }
    }
    if variables.is_empty() {
        return Ok(function);
    }
    refuse(format!(
        "the closure uses {}, which is or has a variable outside of it: that would be shared by all \
         requests (make it a const, or let it be inside the closure)",
        variables.join(" and ")
    ))
}

/// The value has a variable in it that outlives a call.
#[derive(Debug)]
pub struct Stateful;

/// A value that shares nothing with others, also not through closures in it.
pub fn unshared(value: Dynamic, is_constant: bool) -> Result<Dynamic, Stateful> {
    if value.is_shared() && !is_constant {
        return Err(Stateful);
    }
    // What is in a value is constant only when it says so itself.
    let own = |value: Dynamic| {
        let is_constant = value.is_read_only();
        unshared(value, is_constant)
    };
    let value = value.flatten();
    let value = match value.try_cast_result::<Array>() {
        Ok(items) => {
            let items: Array = items.into_iter().map(own).collect::<Result<_, _>>()?;
            return Ok(items.into());
        }
        Err(other) => other,
    };
    let value = match value.try_cast_result::<Map>() {
        Ok(entries) => {
            let entries = entries.into_iter();
            let entries: Map = entries
                .map(|(key, value)| Ok((key, own(value)?)))
                .collect::<Result<_, Stateful>>()?;
            return Ok(entries.into());
        }
        Err(other) => other,
    };
    match value.try_cast_result::<FnPtr>() {
        Ok(mut function) => {
            for captured in function.iter_curry_mut() {
                *captured = own(std::mem::take(captured))?;
            }
            Ok(function.into())
        }
        Err(other) => Ok(other),
    }
}

/// What is needed to run hooks.
pub struct Runner<'a> {
    pub engine: &'a Engine,
    /// What one call may take.
    pub operations_max: u64,
    pub cpu_time_max: Duration,
    pub sources: &'a BTreeMap<Arc<str>, Arc<Source>>,
}

impl Runner<'_> {
    /// Calls a hook under the limits and reads its answer.
    pub fn call<const N: usize, T>(
        &self,
        hook: &Hook,
        arguments: [Dynamic; N],
        read: impl FnOnce(Dynamic) -> Result<T, String>,
    ) -> Result<T, ScriptError> {
        let context = NativeCallContext::new_with_all_fields(
            self.engine,
            hook.function.fn_name(),
            None,
            &hook.global,
            hook.position,
        );
        let result = guarded(self.operations_max, self.cpu_time_max, || {
            hook.function.call_raw(&context, None, arguments)
        });
        match result {
            Ok(answer) => read(answer.flatten()).map_err(|message| hook.place.error(message)),
            Err(located) => Err(self.failure(hook, located)),
        }
    }

    fn failure(&self, hook: &Hook, located: Located) -> ScriptError {
        let file = located.file.as_deref().unwrap_or(&hook.place.file);
        let place = (!located.position.is_none())
            .then(|| self.sources.get(file))
            .flatten()
            .map(|source| source.at(located.position));
        // An error that knows no place is one of the hook: it is shown where that was registered.
        place
            .unwrap_or_else(|| hook.place.clone())
            .error(located.message)
    }
}

/// Runs script code under limits; a panic of the code below it is an error like any other.
///
/// A call that went over a limit has failed, also when the script caught that error.
pub fn guarded(
    operations_max: u64,
    cpu_time_max: Duration,
    call: impl FnOnce() -> Result<Dynamic, Box<EvalAltResult>>,
) -> Result<Dynamic, Located> {
    let (result, over) = metered(operations_max, cpu_time_max, || {
        catch_unwind(AssertUnwindSafe(call))
    });
    match (result, over) {
        (Err(panic), _) => Err(Located {
            file: None,
            position: Position::NONE,
            message: format!(
                "a function of the gateway panicked, which is its fault and not the script's: {}",
                panic_message(&*panic)
            ),
        }),
        (Ok(result), Some(over)) => Err(Located {
            message: over.to_string(),
            ..result.err().map_or(
                Located {
                    file: None,
                    position: Position::NONE,
                    message: String::new(),
                },
                |error| locate(&error),
            )
        }),
        (Ok(Err(error)), None) => Err(locate(&error)),
        (Ok(Ok(answer)), None) => Ok(answer),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// The constants of a file's top level, as functions see them: `global::NAME`.
pub type Constants = Shared<Locked<BTreeMap<ImmutableString, Dynamic>>>;

impl Hook {
    /// Lets the functions that it calls see all constants of its file, also those below it.
    fn see(&mut self, constants: &Constants) {
        self.global.constants = Some(constants.clone());
    }
}

impl Collected {
    /// To be called when the top level of a file has run: its hooks see its constants.
    pub fn see_constants(&mut self, file: &str, constants: &Constants) {
        let named = self.routes.iter_mut().chain(&mut self.templates);
        let hooks = named
            .map(|(_, hook)| hook)
            .chain(&mut self.ready)
            .chain(&mut self.idle)
            .chain(&mut self.on_error)
            .chain(self.tests.iter_mut().map(|(_, hook)| hook));
        hooks
            .filter(|hook| &*hook.place.file == file)
            .for_each(|hook| hook.see(constants));
    }
}
