//! `vars` in a script: the constants of gateway.toml, readable wherever no other `vars` hides them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{Dynamic, Engine, FuncRegistration, Scope};

use crate::config::Constant;
use crate::script::check::suggestion;
use crate::script::documented::Documented as _;
use crate::script::engine::{Raw, refuse};

/// The variable's name.
pub const NAME: &str = "vars";

/// How many names a message lists.
const NAMES_SHOWN_MAX: usize = 20;

/// The constants. They are the same in every call of a version, so reading one is not recorded.
#[derive(Clone)]
pub struct Vars(Arc<BTreeMap<String, Var>>);

struct Var {
    constant: Constant,
    /// The same as scripts see it.
    value: Dynamic,
}

impl Vars {
    pub fn new(constants: &BTreeMap<String, Constant>) -> Self {
        let vars = constants.iter().map(|(name, constant)| {
            let var = Var {
                constant: constant.clone(),
                value: value(constant),
            };
            (name.clone(), var)
        });
        Self(Arc::new(vars.collect()))
    }

    /// What a file is compiled with: a variable that is neither in it nor in here is refused.
    pub fn scope(&self) -> Scope<'static> {
        let mut scope = Scope::new();
        scope.push_constant(NAME, self.clone());
        scope
    }

    /// Why a name cannot be read; `None` when it can.
    pub fn unknown(&self, name: &str) -> Option<String> {
        if self.0.contains_key(name) {
            return None;
        }
        let names = || self.0.keys().map(String::as_str);
        let mut shown: Vec<&str> = names().take(NAMES_SHOWN_MAX).collect();
        if self.0.len() > shown.len() {
            shown.push("…");
        }
        let known = match shown.as_slice() {
            [] => "[vars] of gateway.toml has none".to_owned(),
            _ => format!("there are {}", shown.join(", ")),
        };
        Some(format!(
            "there is no `{NAME}.{name}`{} ({known})",
            suggestion(name, names())
        ))
    }

    fn read(&self, name: &str) -> Raw<Dynamic> {
        match self.0.get(name) {
            Some(var) => Ok(var.value.clone()),
            None => refuse(self.unknown(name).unwrap_or_default()),
        }
    }

    /// Rhai gives back what a method was called on, in case that changed it.
    fn take_back(&self, name: &str, value: &Dynamic) -> Raw<()> {
        match self.0.get(name) {
            Some(var) if is(value, &var.constant) => Ok(()),
            Some(_) => refuse(format!(
                "{NAME}.{name} is a constant: copy it to change it (let a = {NAME}.{name};)"
            )),
            None => refuse(self.unknown(name).unwrap_or_default()),
        }
    }
}

fn value(constant: &Constant) -> Dynamic {
    match constant {
        Constant::Text(text) => text.into(),
        Constant::Integer(number) => (*number).into(),
        Constant::Float(number) => (*number).into(),
        Constant::Bool(truth) => (*truth).into(),
        Constant::List(items) => Dynamic::from_array(items.iter().map(value).collect()),
    }
}

fn is(value: &Dynamic, constant: &Constant) -> bool {
    match constant {
        Constant::Text(text) => value
            .as_immutable_string_ref()
            .is_ok_and(|value| *value == text.as_str()),
        Constant::Integer(number) => value.as_int().is_ok_and(|value| value == *number),
        Constant::Float(number) => value
            .as_float()
            .is_ok_and(|value| value.to_bits() == number.to_bits()),
        Constant::Bool(truth) => value.as_bool().is_ok_and(|value| value == *truth),
        Constant::List(items) => value.as_array_ref().is_ok_and(|values| {
            values.len() == items.len()
                && values
                    .iter()
                    .zip(items)
                    .all(|(value, constant)| is(value, constant))
        }),
    }
}

/// Registers `vars`.
pub fn register(engine: &mut Engine, vars: &Vars) {
    engine.register_type_with_name::<Vars>(NAME);
    engine.register_indexer_get(|vars: &mut Vars, name: &str| vars.read(name));
    // Every value of the language has a property `tag`, which would go before the index.
    engine.register_get("tag", |vars: &mut Vars| vars.read("tag"));
    FuncRegistration::new_index_setter()
        .with_purity(true)
        .register_into_engine(
            engine,
            |vars: &mut Vars, name: &str, value: Dynamic| -> Raw<()> {
                vars.take_back(name, &value)
            },
        );
    engine.document(
        "get(vars: Vars, name: String, otherwise: ?) -> ?",
        "A constant of `[vars]` in gateway.toml, or the other value where it has none of that name.",
        |vars: &mut Vars, name: &str, default: Dynamic| {
            vars.0.get(name).map_or(default, |var| var.value.clone())
        },
    );
    see_everywhere(engine, vars.clone());
}

/// A variable of a global module would be seen by functions too, but a closure that uses one cannot
/// be made inside a function: Rhai looks for what it captures among the variables around it only, or
/// asks here. What a script has itself under the name goes first.
#[expect(
    deprecated,
    reason = "it is marked so because it may change, and Rhai's version is fixed"
)]
fn see_everywhere(engine: &mut Engine, vars: Vars) {
    engine.on_var(move |name, index, context| {
        let is_ours = name == NAME && index == 0 && !context.scope().contains(NAME);
        Ok(is_ours.then(|| Dynamic::from(vars.clone())))
    });
}
