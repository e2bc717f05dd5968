//! Releases of applications: what they are made of, which is the current one, and how that changes.

pub mod records;
pub mod route;
pub mod stats;
