//! Static checks of what scripts are given: the constants that they read, the patterns that they write.

use rhai::{BinaryExpr, Expr, FnCallExpr};

use super::Check;
use crate::script::helpers::Kind;
use crate::script::vars;

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
