//! An image of the process runtime whose application comes up when the line lets it.

use std::path::PathBuf;

use crate::bench::Bench;
use crate::setup::Setup;

pub const GATED: &str = "gated:latest";

/// What is started while it is closed listens once it is open; what listens already is not touched.
pub struct Gate(PathBuf);

impl Gate {
    /// Open.
    pub fn new(bench: &Bench) -> Self {
        let gate = Self(bench.dir().join("gate-is-open"));
        gate.open();
        gate
    }

    /// The setup with that image.
    pub fn in_front_of(&self, setup: Setup) -> Setup {
        let script = format!(
            "until [ -e {} ]; do sleep 0.02; done; exec {} minion",
            self.0.display(),
            env!("CARGO_BIN_EXE_wakegate"),
        );
        setup.image(GATED, &["sh", "-c", &script])
    }

    pub fn open(&self) {
        std::fs::write(&self.0, "").expect("a file");
    }

    pub fn close(&self) {
        std::fs::remove_file(&self.0).expect("a file");
    }
}
