//! Static checks: what Rhai would only notice when a request comes along that runs into it.
//!
//! Calls of functions that do not exist, also with another number of arguments, also inside
//! closures and functions, as methods and in modules; constants and applications that gateway.toml
//! does not have; what scripts may not use; imports that are not plain; closures that use what is
//! held while they run.

mod chains;
mod given;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rhai::{
    AST, ASTFlags, ASTNode, Engine, Expr, FnCallExpr, FnPtr, Module, Position, Shared, Stmt,
};

use crate::names::AppName;
use crate::script::engine::FORBIDDEN;
use crate::script::error::{ERRORS_MAX, ScriptError, Source};
use crate::script::vars::{self, Vars};

/// How many arguments the functions of a name take.
type Arities = HashMap<String, BTreeSet<usize>>;

/// The functions that the engine brings, by name.
pub struct Natives(Arities);

impl Natives {
    pub fn of(engine: &Engine) -> Self {
        let mut arities = Arities::new();
        let all = engine.collect_fn_metadata(
            None,
            |info| Some((info.metadata.name.to_string(), info.metadata.num_params)),
            true,
        );
        for (name, parameters) in all {
            arities.entry(name).or_default().insert(parameters);
        }
        // These are the language's own and not in its tables.
        for (name, parameters) in [
            ("Fn", 1..=1),
            ("call", 1..=20),
            ("type_of", 1..=1),
            ("is_shared", 1..=1),
            ("is_def_var", 1..=1),
            ("is_def_fn", 2..=3),
            ("print", 0..=1),
            ("debug", 0..=1),
        ] {
            arities
                .entry(name.to_owned())
                .or_default()
                .extend(parameters);
        }
        for (name, _) in FORBIDDEN {
            arities.remove(name);
        }
        Self(arities)
    }
}

/// An `import` at the top level of a file.
pub struct Import {
    pub path: String,
    pub alias: String,
    pub position: Position,
}

/// The imports of a file; an error for each that is not plain.
pub fn imports(source: &Source, ast: &AST) -> Result<Vec<Import>, Vec<ScriptError>> {
    let mut errors = Vec::new();
    let mut imports = Vec::new();
    let mut plain = HashSet::new();
    for statement in ast.statements() {
        let Stmt::Import(import, position) = statement else {
            continue;
        };
        plain.insert(*position);
        match &import.0 {
            Expr::StringConstant(path, _) => imports.push(Import {
                path: path.to_string(),
                alias: import.1.name.to_string(),
                position: *position,
            }),
            _ => errors.push((*position, "import takes a path in quotes")),
        }
    }
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Stmt(Stmt::Import(_, position))) = path.last()
            && !plain.contains(position)
        {
            errors.push((
                *position,
                "import belongs at the top level of a file: files are read when scripts are loaded",
            ));
        }
        errors.len() < ERRORS_MAX
    });
    if errors.is_empty() {
        return Ok(imports);
    }
    let errors = errors.into_iter().take(ERRORS_MAX);
    Err(errors
        .map(|(position, message)| source.error(position, message))
        .collect())
}

/// Every call in a file of something that cannot be called, in order.
pub fn calls(
    source: &Source,
    ast: &AST,
    natives: &Natives,
    modules: &BTreeMap<String, Shared<Module>>,
    vars: &Vars,
    apps: Option<&BTreeSet<AppName>>,
) -> Vec<ScriptError> {
    let mut check = Check {
        natives: &natives.0,
        functions: Arities::new(),
        keys: HashSet::new(),
        variables: HashSet::new(),
        modules,
        vars,
        apps,
        own_vars_captured: false,
        errors: BTreeMap::new(),
    };
    for function in ast.iter_functions() {
        check
            .functions
            .entry(function.name.to_owned())
            .or_default()
            .insert(function.params.len());
        let parameters = function.params.iter().map(|name| (*name).to_owned());
        check.variables.extend(parameters);
    }
    ast.walk(&mut |path: &[ASTNode]| {
        check.names(path.last());
        true
    });
    ast.walk(&mut |path: &[ASTNode]| {
        check.node(path.last());
        true
    });
    let errors = check.errors.into_iter();
    errors
        .take(ERRORS_MAX)
        .map(|((line, column), message)| source.error(Position::new(line, column), message))
        .collect()
}

struct Check<'a> {
    natives: &'a Arities,
    /// The file's own functions.
    functions: Arities,
    /// Keys of its maps: what is in them may be a closure, which is called like a method.
    keys: HashSet<String>,
    variables: HashSet<String>,
    modules: &'a BTreeMap<String, Shared<Module>>,
    vars: &'a Vars,
    /// The applications that there are, where that is known.
    apps: Option<&'a BTreeSet<AppName>>,
    /// A closure captures a variable of the file's own that is called `vars`: whose `vars` is meant
    /// by what is not a variable where it stands can then not be told.
    own_vars_captured: bool,
    /// By line and column: a part of the tree that is reached twice is told once.
    errors: BTreeMap<(u16, u16), String>,
}

impl Check<'_> {
    fn names(&mut self, node: Option<&ASTNode>) {
        match node {
            Some(ASTNode::Expr(Expr::Map(map, _))) => {
                let keys = map.0.iter().map(|(key, _)| key.name.to_string());
                self.keys.extend(keys);
            }
            Some(ASTNode::Expr(Expr::DynamicConstant(value, _))) => {
                if let Ok(map) = value.as_map_ref() {
                    self.keys.extend(map.keys().map(ToString::to_string));
                }
            }
            Some(ASTNode::Expr(Expr::Property(property, _))) => {
                self.keys.insert(property.2.to_string());
            }
            Some(ASTNode::Stmt(Stmt::Var(variable, _, _))) => {
                self.variables.insert(variable.0.name.to_string());
            }
            Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _)))
                if captures(call) =>
            {
                self.own_vars_captured |= call.args.iter().any(|argument| {
                    matches!(argument, Expr::Variable(variable, _, _)
                        if variable.1 == vars::NAME && variable.0.is_some())
                });
            }
            _ => {}
        }
    }

    fn node(&mut self, node: Option<&ASTNode>) {
        for held in chains::held(node) {
            self.error(held.position, held.message);
        }
        match node {
            Some(
                ASTNode::Expr(Expr::FnCall(call, position))
                | ASTNode::Stmt(Stmt::FnCall(call, position)),
            ) => self.call(call, *position),
            Some(ASTNode::Expr(Expr::MethodCall(call, position))) => self.method(call, *position),
            Some(ASTNode::Expr(Expr::Variable(variable, _, position))) => {
                let (_, name, namespace, _) = &**variable;
                if !namespace.is_empty() && namespace.root() != "global" {
                    self.module_variable(namespace, name, *position);
                }
            }
            Some(ASTNode::Expr(Expr::Dot(chain, _, _) | Expr::Index(chain, _, _))) => {
                self.constant(chain);
            }
            Some(ASTNode::Stmt(Stmt::Assignment(assignment))) => {
                self.assignment(&assignment.1.lhs);
            }
            _ => {}
        }
    }

    fn call(&mut self, call: &FnCallExpr, position: Position) {
        if call.op_token.is_some() {
            return;
        }
        if !call.namespace.is_empty() {
            return self.module_call(call, position);
        }
        let name = call.name.as_str();
        let given = call.args.len();
        if captures(call) {
            return;
        }
        if self.is_forbidden(name, position) {
            return;
        }
        self.function_pointer(call);
        self.pattern(call, false);
        self.percentage(call, false);
        self.application(call);
        let takes = |arities: &Arities| arities.get(name).is_some_and(|all| all.contains(&given));
        if takes(&self.functions) || takes(self.natives) {
            return;
        }
        let mut arities = self.functions.get(name).cloned().unwrap_or_default();
        arities.extend(self.natives.get(name).into_iter().flatten());
        self.refuse(name, given, &arities, position);
    }

    fn method(&mut self, call: &FnCallExpr, position: Position) {
        let name = call.name.as_str();
        let given = call.args.len();
        if self.is_forbidden(name, position) || self.keys.contains(name) {
            return;
        }
        self.pattern(call, true);
        self.percentage(call, true);
        // The receiver is a native function's first argument, and `this` in a script's own.
        let native = self.natives.get(name);
        let own = self.functions.get(name);
        if native.is_some_and(|all| all.contains(&(given + 1)))
            || own.is_some_and(|all| all.contains(&given))
        {
            return;
        }
        let mut arities = own.cloned().unwrap_or_default();
        arities.extend(
            native
                .into_iter()
                .flatten()
                .filter_map(|n| n.checked_sub(1)),
        );
        self.refuse(name, given, &arities, position);
    }

    /// `Fn("name")` with a name that can be read.
    fn function_pointer(&mut self, call: &FnCallExpr) {
        if call.name == "Fn"
            && let Some(Expr::StringConstant(name, position)) = call.args.first()
            && !self.is_forbidden(name, *position)
            && !self.functions.contains_key(name.as_str())
            && !self.natives.contains_key(name.as_str())
        {
            self.unknown(name, *position);
        }
    }

    fn module_call(&mut self, call: &FnCallExpr, position: Position) {
        let name = call.name.as_str();
        let Some(module) = self.module(&call.namespace) else {
            return;
        };
        let arities: BTreeSet<usize> = module
            .iter_script_fn_info()
            .filter(|(_, _, known, _, _)| *known == name)
            .map(|(_, _, _, parameters, _)| parameters)
            .collect();
        if arities.contains(&call.args.len()) {
            return;
        }
        let message = if arities.is_empty() {
            let known = module
                .iter_script_fn_info()
                .map(|(_, _, known, _, _)| known);
            format!(
                "there is no function `{name}` in module `{}`{}",
                call.namespace.root(),
                suggestion(name, known)
            )
        } else {
            wrong_number(name, call.args.len(), &arities)
        };
        self.error(position, message);
    }

    fn module_variable(&mut self, namespace: &rhai::Namespace, name: &str, position: Position) {
        let Some(module) = self.module(namespace) else {
            return;
        };
        if !module.contains_var(name) {
            let known = module.iter_var().map(|(known, _)| known);
            let message = format!(
                "module `{}` exports no `{name}`{}",
                namespace.root(),
                suggestion(name, known)
            );
            self.error(position, message);
        }
    }

    fn module(&mut self, namespace: &rhai::Namespace) -> Option<Shared<Module>> {
        let unknown =
            |name: &str| format!("there is no module `{name}` here (import \"lib/…\" as {name};)");
        let mut steps = namespace.path.iter();
        let root = steps.next()?;
        let Some(mut module) = self.modules.get(root.name.as_str()).cloned() else {
            self.error(root.pos, unknown(&root.name));
            return None;
        };
        for step in steps {
            let below = module
                .iter_sub_modules()
                .find(|(name, _)| *name == step.name.as_str())
                .map(|(_, module)| module.clone());
            match below {
                Some(below) => module = below,
                None => {
                    self.error(step.pos, unknown(&step.name));
                    return None;
                }
            }
        }
        Some(module)
    }

    fn is_forbidden(&mut self, name: &str, position: Position) -> bool {
        let own = self.functions.contains_key(name);
        let forbidden = FORBIDDEN.iter().find(|(known, _)| *known == name && !own);
        if let Some((name, why)) = forbidden {
            self.error(position, format!("`{name}` does not exist here: {why}"));
        }
        forbidden.is_some()
    }

    fn refuse(&mut self, name: &str, given: usize, arities: &BTreeSet<usize>, position: Position) {
        if !arities.is_empty() {
            self.error(position, wrong_number(name, given, arities));
        } else if self.variables.contains(name) {
            self.error(
                position,
                format!("`{name}` is a variable; a closure in it is called by {name}.call(…)"),
            );
        } else {
            self.unknown(name, position);
        }
    }

    fn unknown(&mut self, name: &str, position: Position) {
        let known = self.functions.keys().chain(self.natives.keys());
        let message = format!(
            "there is no function `{name}`{}",
            suggestion(name, known.map(String::as_str))
        );
        self.error(position, message);
    }

    fn error(&mut self, position: Position, message: String) {
        let place = (
            position.line().unwrap_or(0) as u16,
            position.position().unwrap_or(0) as u16,
        );
        self.errors.entry(place).or_insert(message);
    }
}

/// Whether it is the parser's own `curry(closure, captured…)`: what a closure that uses the
/// variables around it is made of.
fn captures(call: &FnCallExpr) -> bool {
    call.name == "curry"
        && matches!(call.args.first(), Some(Expr::DynamicConstant(value, _))
            if value.read_lock::<FnPtr>().is_some_and(|function| function.is_anonymous()))
}

fn wrong_number(name: &str, given: usize, arities: &BTreeSet<usize>) -> String {
    let counts: Vec<String> = arities.iter().map(ToString::to_string).collect();
    let plural = if arities.iter().all(|n| *n == 1) {
        ""
    } else {
        "s"
    };
    format!(
        "`{name}` takes {} argument{plural}, not {given}",
        counts.join(" or ")
    )
}

pub fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known.filter(|known| rhai::is_valid_identifier(known)))
}

/// The name that was probably meant, of those that look like it.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const ALIKE_MIN: f64 = 0.8;
    known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(a, first), (b, second)| a.total_cmp(b).then(second.cmp(first)))
        .map(|(_, known)| format!("; is `{known}` meant?"))
        .unwrap_or_default()
}

/// Top-level variables of a library that its closures use: who imports it would share them.
pub fn shared_variables(source: &Source, ast: &AST) -> Vec<ScriptError> {
    let mut variables = HashSet::new();
    let mut errors = Vec::new();
    for statement in ast.statements() {
        statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
            match path.last() {
                Some(ASTNode::Stmt(Stmt::Var(variable, flags, _)))
                    if !flags.contains(ASTFlags::CONSTANT) =>
                {
                    variables.insert(variable.0.name.clone());
                }
                Some(ASTNode::Stmt(Stmt::Share(captured))) => {
                    let captured = captured.iter().filter(|(v, _)| variables.contains(&v.name));
                    errors.extend(captured.map(|(variable, _)| {
                        let message = format!(
                            "a closure uses the variable `{}`, which would be shared by all requests \
                             (make it a const)",
                            variable.name
                        );
                        source.error(variable.pos, message)
                    }));
                }
                _ => {}
            }
            errors.len() < ERRORS_MAX
        });
    }
    errors
}
