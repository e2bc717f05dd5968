//! Closures that use the variable that a method runs on, which is locked meanwhile.
//!
//! `req.segments.map(|s| req.header(s))` reads well and can never run: a closure shares the
//! variables that it uses, and the first of a chain is held until the chain has ended. Rhai would
//! only tell when a request comes along, and only after waiting in vain for the variable.

use rhai::{ASTNode, Expr, Position, Stmt};

/// A closure in a chain of the variable that it uses.
pub struct Held {
    pub position: Position,
    pub message: String,
}

/// The closures of the chain that begins at a node.
pub fn held(node: Option<&ASTNode>) -> Vec<Held> {
    let Some(ASTNode::Expr(Expr::Dot(chain, ..) | Expr::Index(chain, ..))) = node else {
        return Vec::new();
    };
    let Expr::Variable(variable, ..) = &chain.lhs else {
        return Vec::new();
    };
    let name = variable.1.as_str();
    let mut held = Vec::new();
    let mut link = Some(&chain.rhs);
    while let Some(expr) = link {
        let step = match expr {
            Expr::Dot(chain, ..) | Expr::Index(chain, ..) => {
                link = Some(&chain.rhs);
                &chain.lhs
            }
            last => {
                link = None;
                last
            }
        };
        let Expr::MethodCall(call, _) = step else {
            continue;
        };
        let closures = call.args.iter().filter(|argument| uses(argument, name));
        held.extend(closures.map(|closure| Held {
            position: closure.position(),
            message: format!(
                "the closure uses `{name}`, which is held while `{method}` runs on it: give \
                 `{method}` a variable of its own (let list = …; list.{method}(…))",
                method = call.name
            ),
        }));
    }
    held
}

/// Whether it is a closure that uses a variable around it. Rhai makes a block of one: it shares
/// the variables, then gives them along.
fn uses(argument: &Expr, name: &str) -> bool {
    let Expr::Stmt(block) = argument else {
        return false;
    };
    match block.statements().first() {
        Some(Stmt::Share(variables)) => variables.iter().any(|(used, _)| used.name == name),
        _ => false,
    }
}
