//! From a directory to hooks: reads, compiles, checks and runs every script, and tells all errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rhai::{AST, Engine, EvalAltResult, Locked, Module, ModuleResolver, Position, Scope, Shared};
use sha2::{Digest, Sha256};

use crate::config::{Given, ScriptLimits};
use crate::names::AppName;
use crate::script::check::{self, Import, Natives};
use crate::script::engine::{engine, refuse};
use crate::script::error::{ERRORS_MAX, ScriptError, Source};
use crate::script::hooks::{
    self, Collected, Collector, END_OF_SCRIPT, Stateful, TEST_PREFIX, guarded, unshared,
};
use crate::script::vars::{self, Vars};
use crate::script::{answers, facts, helpers, request, rules, selftest, simulated};

/// The longest script file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// The directory below the scripts directory that imports come from.
pub const LIBRARY: &str = "lib";

/// A directory of scripts, run once.
pub struct Loaded {
    pub engine: Engine,
    pub collected: Collected,
    /// By the name that is shown to people.
    pub sources: BTreeMap<Arc<str>, Arc<Source>>,
    /// SHA-256 over names and contents, in hex.
    pub hash: String,
}

/// Loads every `*.rhai` of the directory, in name order, and what they import.
pub fn load(dir: &Path, given: &Given) -> Result<Loaded, Vec<ScriptError>> {
    let files = script_files(dir).map_err(|error| vec![error])?;
    let collector: Collector = Arc::new(Mutex::new(Some(Collected::default())));
    let mut engine = bare_engine(given, &collector);
    let natives = Natives::of(&engine);
    hooks::register_end(&mut engine, &collector);
    let modules = Modules::default();
    engine.set_module_resolver(modules.clone());
    let mut loader = Loader {
        dir,
        limits: &given.limits,
        vars: Vars::new(&given.vars),
        apps: given.apps.as_ref(),
        natives,
        engine,
        collector: collector.clone(),
        modules,
        sources: BTreeMap::new(),
        libraries: BTreeMap::new(),
        errors: Vec::new(),
    };
    for file in &files {
        loader.script(file);
    }
    let Some(collected) = collector.lock().take() else {
        return Err(loader.errors);
    };
    if !loader.errors.is_empty() {
        return Err(loader.errors);
    }
    Ok(Loaded {
        hash: hash(dir, &loader.sources),
        engine: loader.engine,
        collected,
        sources: loader.sources,
    })
}

/// The engine with all that scripts may use, and without any script.
pub fn bare_engine(given: &Given, collector: &Collector) -> Engine {
    let mut engine = engine(given);
    request::register(&mut engine, given);
    answers::register(&mut engine);
    rules::register(&mut engine);
    facts::register(&mut engine);
    helpers::register(&mut engine, &given.limits);
    simulated::register(&mut engine);
    selftest::register(&mut engine);
    hooks::register(&mut engine, collector);
    vars::register(&mut engine, &Vars::new(&given.vars));
    engine
}

/// The scripts of the directory itself, by name. Hidden files are an editor's.
fn script_files(dir: &Path) -> Result<Vec<PathBuf>, ScriptError> {
    let wrong = |message: String| ScriptError {
        file: dir.display().to_string(),
        line: 0,
        column: 0,
        message,
        source_line: None,
    };
    let listing = fs::read_dir(dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = listing.map_err(|error| {
        wrong(format!(
            "the scripts directory cannot be read ({error}): make it and put a script there, \
             or name another by dir under [scripts] in gateway.toml"
        ))
    })?;
    let mut files: Vec<PathBuf> = entries
        .iter()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "rhai")
        })
        .filter(|path| !name_of(path).starts_with('.') && path.is_file())
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(wrong(
            "there is no *.rhai file in the scripts directory: without a script no request goes \
             anywhere. Put one there, such as route(\"/app/{name}/{*rest}\", |req| proxy(req.param(\"name\")));"
                .to_owned(),
        ));
    }
    Ok(files)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn hash(dir: &Path, sources: &BTreeMap<Arc<str>, Arc<Source>>) -> String {
    let mut hasher = Sha256::new();
    for (file, source) in sources {
        // The same scripts in another directory are the same scripts.
        let name = Path::new(&**file);
        let name = name.strip_prefix(dir).unwrap_or(name).to_string_lossy();
        for part in [name.as_bytes(), source.text.as_bytes()] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    hasher
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// What is imported, by the path that scripts write. Filled before a script runs, so that running
/// one reads no file.
#[derive(Clone, Default)]
struct Modules(Arc<Mutex<BTreeMap<String, Shared<Module>>>>);

impl ModuleResolver for Modules {
    fn resolve(
        &self,
        _: &Engine,
        _: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        match self.0.lock().get(path) {
            Some(module) => Ok(module.clone()),
            None => refuse(format!(
                "{path:?} was not imported when the scripts were loaded"
            ))
            .map_err(|mut error: Box<EvalAltResult>| {
                error.set_position(position);
                error
            }),
        }
    }
}

/// A library while and after it is loaded.
enum Library {
    /// It imports something that imports it.
    Loading,
    Loaded(Shared<Module>),
    /// Its errors have been told.
    Broken,
}

struct Loader<'a> {
    dir: &'a Path,
    limits: &'a ScriptLimits,
    vars: Vars,
    apps: Option<&'a BTreeSet<AppName>>,
    natives: Natives,
    engine: Engine,
    collector: Collector,
    modules: Modules,
    sources: BTreeMap<Arc<str>, Arc<Source>>,
    /// By path.
    libraries: BTreeMap<PathBuf, Library>,
    errors: Vec<ScriptError>,
}

impl Loader<'_> {
    fn script(&mut self, path: &Path) {
        let Some((source, mut ast)) = self.compile(path) else {
            return;
        };
        let tests = tests_of(&source, &ast);
        self.errors.extend(tests.wrong);
        if let Some(first) = tests.first {
            match self.engine.compile(format!("{END_OF_SCRIPT}();")) {
                Ok(end) => drop(ast.combine(end)),
                Err(error) => self.errors.push(source.error(first, error.to_string())),
            }
        }
        self.run(&source, Some(source.clone()), |loader| {
            let mut scope = Scope::new();
            loader.engine.run_ast_with_scope(&mut scope, &ast)?;
            let mut constants = BTreeMap::new();
            for (name, _, value) in scope.iter_raw().filter(|(_, constant, _)| *constant) {
                match unshared(value.clone(), true) {
                    Ok(own) => drop(constants.insert(name.into(), own)),
                    Err(Stateful) => {
                        return refuse(format!(
                            "the const `{name}` has a closure that uses a variable outside of it: that \
                             would be shared by all requests (make it a const)"
                        ));
                    }
                }
            }
            if let Some(collected) = loader.collector.lock().as_mut() {
                let constants = Shared::new(Locked::new(constants));
                let found = collected.tests.iter();
                let is_whole = found.filter(|(_, hook)| hook.place.file == source.file).count() > 0;
                if tests.first.is_some() && !is_whole {
                    return refuse(
                        "the top level returns before its end, so that the tests of this file would not run",
                    );
                }
                collected.see_constants(&source.file, &constants);
            }
            Ok(())
        });
    }

    /// Reads, compiles and checks a file, its imports first. `None`: the errors have been told.
    fn compile(&mut self, path: &Path) -> Option<(Arc<Source>, AST)> {
        let file: Arc<str> = path.display().to_string().into();
        let source = match read(path) {
            Ok(text) => Arc::new(Source { file, text }),
            Err(message) => {
                let source = Source {
                    file,
                    text: String::new(),
                };
                self.errors.push(source.error(Position::NONE, message));
                return None;
            }
        };
        self.sources.insert(source.file.clone(), source.clone());
        let scope = self.vars.scope();
        let mut ast = match self.engine.compile_with_scope(&scope, &source.text) {
            Ok(ast) => ast,
            Err(error) => {
                self.errors.push(source.error(error.1, error.0.to_string()));
                return None;
            }
        };
        ast.set_source(&*source.file);
        let imports = match check::imports(&source, &ast) {
            Ok(imports) => imports,
            Err(errors) => {
                self.errors.extend(errors);
                return None;
            }
        };
        let mut modules = BTreeMap::new();
        let mut complete = true;
        for import in imports {
            if self.errors.len() >= ERRORS_MAX {
                return None;
            }
            match self.import(&source, &import) {
                Some(module) => drop(modules.insert(import.alias, module)),
                None => complete = false,
            }
        }
        if !complete {
            return None;
        }
        let errors = check::calls(
            &source,
            &ast,
            &self.natives,
            &modules,
            &self.vars,
            self.apps,
        );
        let fine = errors.is_empty();
        self.errors.extend(errors);
        fine.then_some((source, ast))
    }

    fn import(&mut self, source: &Source, import: &Import) -> Option<Shared<Module>> {
        let path = match self.library_path(&import.path) {
            Ok(path) => path,
            Err(message) => {
                self.errors.push(source.error(import.position, message));
                return None;
            }
        };
        match self.libraries.get(&path) {
            Some(Library::Loaded(module)) => {
                let module = module.clone();
                self.modules
                    .0
                    .lock()
                    .insert(import.path.clone(), module.clone());
                return Some(module);
            }
            Some(Library::Loading) => {
                self.errors.push(source.error(
                    import.position,
                    format!("{:?} is imported in a circle", import.path),
                ));
                return None;
            }
            Some(Library::Broken) => return None,
            None => {}
        }
        self.libraries.insert(path.clone(), Library::Loading);
        let module = self.library(&path);
        let state = module.clone().map_or(Library::Broken, Library::Loaded);
        self.libraries.insert(path, state);
        let module = module?;
        self.modules
            .0
            .lock()
            .insert(import.path.clone(), module.clone());
        Some(module)
    }

    fn library(&mut self, path: &Path) -> Option<Shared<Module>> {
        let (source, ast) = self.compile(path)?;
        let mut errors = check::shared_variables(&source, &ast);
        if let Some(first) = tests_of(&source, &ast).first {
            errors.push(source.error(
                first,
                "a test in a file that is imported would not run: write it where the file is imported",
            ));
        }
        if !errors.is_empty() {
            self.errors.extend(errors);
            return None;
        }
        let mut module = None;
        self.run(&source, None, |loader| {
            module = Some(Module::eval_ast_as_new(Scope::new(), &ast, &loader.engine)?);
            Ok(())
        });
        module.map(Into::into)
    }

    /// Runs the top level of a file under the limits of loading. `registers`: the file that its
    /// hooks belong to; none for a library.
    fn run(
        &mut self,
        source: &Arc<Source>,
        registers: Option<Arc<Source>>,
        run: impl FnOnce(&mut Self) -> Result<(), Box<EvalAltResult>>,
    ) {
        let before = self.running(registers);
        let (operations_max, cpu_time_max) =
            (self.limits.operations_max, self.limits.load_cpu_time_max);
        let result = guarded(operations_max, cpu_time_max, || {
            run(self).map(|()| rhai::Dynamic::UNIT)
        });
        self.running(before);
        if let Err(located) = result {
            let file = located.file.as_deref().unwrap_or(&source.file);
            let at = self.sources.get(file).unwrap_or(source);
            self.errors
                .push(at.error(located.position, located.message));
        }
    }

    fn running(&self, source: Option<Arc<Source>>) -> Option<Arc<Source>> {
        let mut collector = self.collector.lock();
        let collected = collector.as_mut()?;
        std::mem::replace(&mut collected.running, source)
    }

    /// The file of `import "lib/names"` or `import "names"`: always below `lib`.
    fn library_path(&self, import: &str) -> Result<PathBuf, String> {
        let below = Path::new(import);
        let below = below.strip_prefix(LIBRARY).unwrap_or(below);
        let plain = below
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !plain || below.as_os_str().is_empty() {
            return Err(format!(
                "{import:?} is no path below the {LIBRARY} directory of the scripts"
            ));
        }
        let mut path = self.dir.join(LIBRARY).join(below);
        if path.extension().is_none_or(|extension| extension != "rhai") {
            path.as_mut_os_string().push(".rhai");
        }
        let real = |path: &Path| {
            path.canonicalize().map_err(|error| {
                format!("{import:?} cannot be imported: {}: {error}", path.display())
            })
        };
        // A link may point elsewhere in the directory and nowhere else.
        if !real(&path)?.starts_with(real(self.dir)?) {
            return Err(format!("{import:?} leads out of the scripts directory"));
        }
        Ok(path)
    }
}

/// The tests of a file.
struct Tests {
    /// Where the first one is.
    first: Option<Position>,
    wrong: Vec<ScriptError>,
}

fn tests_of(source: &Source, ast: &AST) -> Tests {
    let functions = ast.shared_lib().iter_script_fn_info();
    let tests = functions.filter(|(_, _, name, _, _)| name.starts_with(TEST_PREFIX));
    let mut tests: Vec<_> = tests
        .map(|(_, _, name, parameters, definition)| {
            (
                definition.body.start_position(),
                name.to_owned(),
                parameters,
            )
        })
        .collect();
    tests.sort();
    let wrong = tests.iter().filter(|(_, _, parameters)| *parameters > 0);
    Tests {
        first: tests.first().map(|(position, _, _)| *position),
        wrong: wrong
            .map(|(position, name, _)| {
                source.error(
                    *position,
                    format!("{name} is a test and takes no arguments"),
                )
            })
            .collect(),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if size.len() > FILE_BYTES_MAX {
        return Err(format!(
            "has {} bytes; a script may have {FILE_BYTES_MAX}",
            size.len()
        ));
    }
    fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}
