//! Wakegate: an HTTP gateway in which Rhai scripts decide and a fixed Rust core acts.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decision;
pub mod demo;
pub mod lifecycle;
pub mod log;
pub mod metrics;
pub mod names;
pub mod proxy;
pub mod runtime;
pub mod script;
pub mod spec;
