//! Wakegate: an HTTP gateway in which Rhai scripts decide and a fixed Rust core acts.

pub mod clock;
pub mod config;
pub mod decision;
pub mod lifecycle;
pub mod metrics;
pub mod names;
pub mod proxy;
pub mod runtime;
pub mod script;
pub mod spec;
