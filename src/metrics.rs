//! What is counted, in a registry that is passed in.

use prometheus_client::registry::Registry;

/// A registry whose metrics all begin with `wakegate_`.
pub fn registry() -> Registry {
    Registry::with_prefix("wakegate")
}
