//! Static checks of what scripts are given: the constants that they read, the applications that they
//! name, the patterns and percentages that they write.

use rhai::{BinaryExpr, Expr, FnCallExpr};

use super::{Check, nearest};
use crate::names::AppName;
use crate::script::answers;
use crate::script::helpers::Kind;
use crate::script::vars;

/// How many names a message lists.
const NAMES_SHOWN_MAX: usize = 20;

impl Check<'_> {
    /// `vars.NAME` and `vars["NAME"]`, where no variable of the file is meant.
    pub fn constant(&mut self, chain: &BinaryExpr) {
        let first = match &chain.rhs {
            Expr::Dot(rest, _, _) | Expr::Index(rest, _, _) => &rest.lhs,
            last => last,
        };
        let (name, position) = match first {
            Expr::Property(property, position) => (&property.2, *position),
            Expr::StringConstant(name, position) => (name, *position),
            _ => return,
        };
        if self.is_ours(&chain.lhs)
            && let Some(message) = self.vars.unknown(name)
        {
            self.error(position, message);
        }
    }

    /// A pattern that stands in a call of a function that takes one. `receiver`: whether the first
    /// argument stands before a dot.
    pub fn pattern(&mut self, call: &FnCallExpr, receiver: bool) {
        // A function of the script's own takes what it likes.
        let Some((kind, index)) = Kind::taken_by(&call.name) else {
            return;
        };
        if self.functions.contains_key(call.name.as_str()) {
            return;
        }
        let argument = index.checked_sub(usize::from(receiver));
        if let Some(Expr::StringConstant(pattern, position)) =
            argument.and_then(|index| call.args.get(index))
            && let Err(message) = kind.compiled(pattern)
        {
            self.error(*position, format!("{}: {message}", call.name));
        }
    }

    /// `app("NAME")`, with a name that can be read.
    pub fn application(&mut self, call: &FnCallExpr) {
        // A function of the script's own takes what it likes.
        if call.name != answers::APP || self.functions.contains_key(answers::APP) {
            return;
        }
        if let [Expr::StringConstant(name, position)] = call.args.as_slice()
            && let Some(apps) = self.apps
            && !apps.contains(name.as_str())
        {
            let names = || apps.iter().map(AppName::as_str);
            let mut shown: Vec<&str> = names().take(NAMES_SHOWN_MAX).collect();
            if apps.len() > shown.len() {
                shown.push("…");
            }
            let known = match shown.as_slice() {
                [] => "[apps] of gateway.toml has none".to_owned(),
                _ => format!("there are {}", shown.join(", ")),
            };
            let message = format!(
                "there is no application {:?}{} ({known})",
                name.as_str(),
                nearest(name, names()),
            );
            self.error(*position, message);
        }
    }

    /// `.canary(PERCENT)`, with a percentage that can be read.
    pub fn percentage(&mut self, call: &FnCallExpr, receiver: bool) {
        // A function of the script's own takes what it likes.
        if call.name != answers::CANARY || self.functions.contains_key(answers::CANARY) {
            return;
        }
        if let Some(argument) = call.args.get(usize::from(!receiver))
            && let Some(percent) = argument.get_literal_value(None)
            && let Err(message) = answers::canary(&percent)
        {
            self.error(argument.position(), message);
        }
    }

    pub fn assignment(&mut self, to: &Expr) {
        let root = match to {
            Expr::Dot(chain, _, _) | Expr::Index(chain, _, _) => &chain.lhs,
            whole => whole,
        };
        if self.is_ours(root) {
            let message = "constants of gateway.toml cannot be changed";
            self.error(root.position(), message.to_owned());
        }
    }

    /// Whether it is the gateway's own `vars`. A variable or parameter has an index where it stands;
    /// one that a closure captures has it where the closure is made.
    fn is_ours(&self, expression: &Expr) -> bool {
        matches!(expression, Expr::Variable(variable, index, _)
            if variable.1 == vars::NAME
                && variable.2.is_empty()
                && variable.0.is_none()
                && index.is_none()
                && !self.own_vars_captured)
    }
}
