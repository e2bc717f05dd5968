//! Static checks of what scripts are given: the constants that they read.

use rhai::{BinaryExpr, Expr};

use super::Check;
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
