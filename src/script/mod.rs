//! Rhai scripts: compiled, limited, and asked for decisions.

pub mod version;
