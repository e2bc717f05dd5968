//! Releases of applications: what they are made of, which is the current one, and how that changes.

pub mod configuration;
pub mod env_file;
pub mod journal;
pub mod lately;
pub mod manager;
pub mod plan;
pub mod records;
pub mod route;
pub mod stats;
