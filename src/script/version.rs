//! A directory of scripts as one version: compiled, checked, and asked for decisions.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Map, Value};

use crate::config::ScriptLimits;
use crate::decision::{
    ContainerFacts, ContainerRules, Decision, ErrorFacts, IdleRule, ReadyRule, Reply, RequestFacts,
    ScriptFailure,
};
use crate::spec::WorkloadSpec;

/// One state of the scripts directory, ready to be asked.
pub struct Version {}

/// Something wrong with a script, as it is shown to the one who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    pub file: String,
    /// From 1; 0 when the place is not known.
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub source_line: Option<String>,
}

#[expect(unused_variables, clippy::unimplemented)]
impl Version {
    /// Compiles and checks every `*.rhai` of the directory, in name order. All errors at once.
    pub fn load(dir: &Path, limits: &ScriptLimits, number: u64) -> Result<Self, Vec<ScriptError>> {
        unimplemented!()
    }

    /// Counts up with each version that was loaded.
    pub fn number(&self) -> u64 {
        unimplemented!()
    }

    /// SHA-256 over file names and contents, in hex.
    pub fn hash(&self) -> &str {
        unimplemented!()
    }

    /// What `on_error` answers; `Ok(None)` when it has nothing to say.
    pub fn on_error(
        &self,
        request: &RequestFacts<'_>,
        error: &ErrorFacts,
    ) -> Result<Option<Reply>, ScriptFailure> {
        unimplemented!()
    }
}

#[expect(unused_variables, clippy::unimplemented)]
impl ContainerRules for Version {
    fn ready(&self, container: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        unimplemented!()
    }

    fn idle(&self, container: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        unimplemented!()
    }

    fn template(
        &self,
        name: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        unimplemented!()
    }
}

/// The version that is asked now. Swapping it is one atomic store.
pub struct Scripts {
    pub current: ArcSwap<Version>,
}

/// A decision and where it came from.
#[derive(Debug, Clone)]
pub struct Decided {
    pub decision: Arc<Decision>,
    /// The pattern that matched, for metrics and logs.
    pub route: Arc<str>,
}

/// One worker's way to the scripts: its snapshot of the current version and its own memo of
/// decisions. Belongs to one thread; nothing in it is locked.
pub struct Decider {}

#[expect(unused_variables, clippy::unimplemented)]
impl Decider {
    pub fn new(scripts: Arc<Scripts>) -> Self {
        unimplemented!()
    }

    /// The version that the next decision will be made by.
    pub fn version(&mut self) -> Arc<Version> {
        unimplemented!()
    }

    /// `Ok(None)`: no route matches.
    pub fn decide(&mut self, request: &RequestFacts<'_>) -> Result<Option<Decided>, ScriptFailure> {
        unimplemented!()
    }
}
