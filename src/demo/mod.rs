//! What comes along to try the gateway with: the sample application.

mod minion;

pub use minion::run as run_sample;

/// The command that runs the sample application: `wakegate minion`.
pub const SAMPLE_COMMAND: &str = "minion";
