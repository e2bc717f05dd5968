//! The life of workloads: one state machine each, and the fleet of them all.

pub mod fleet;
pub mod gate;
