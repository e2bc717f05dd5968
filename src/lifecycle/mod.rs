//! The life of workloads: one state machine each, and the fleet of them all.

mod core;
pub mod fleet;
pub mod gate;
pub mod machine;
pub mod places;
mod probe;
mod usage;
mod workload;
