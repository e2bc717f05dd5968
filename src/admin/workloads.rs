//! What the admin API needs of the floors below it, and nothing more.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::decision::{ContainerRules, ScriptFailure};
use crate::lifecycle::fleet::{Fleet, OrderError, View};
use crate::script::version::Scripts;
use crate::spec::WorkloadSpec;

/// The workloads of one engine. See [`Fleet`] for what each call promises.
#[async_trait]
pub trait Workloads: Send + Sync + 'static {
    fn views(&self) -> Vec<View>;

    fn view(&self, name_or_id: &str) -> Option<View>;

    async fn deploy(&self, spec: WorkloadSpec, start: bool) -> Result<View, OrderError>;

    async fn start(
        &self,
        name_or_id: &str,
        until_ready: Option<Duration>,
    ) -> Result<View, OrderError>;

    async fn remove(&self, name_or_id: &str) -> Result<(), OrderError>;

    /// `Ok` when the engine answers and all workloads are known, else what is wrong.
    fn engine(&self) -> Result<(), String>;
}

#[async_trait]
impl Workloads for Fleet {
    fn views(&self) -> Vec<View> {
        Fleet::views(self)
    }

    fn view(&self, name_or_id: &str) -> Option<View> {
        Fleet::view(self, name_or_id)
    }

    async fn deploy(&self, spec: WorkloadSpec, start: bool) -> Result<View, OrderError> {
        Fleet::deploy(self, spec, start).await
    }

    async fn start(
        &self,
        name_or_id: &str,
        until_ready: Option<Duration>,
    ) -> Result<View, OrderError> {
        Fleet::start(self, name_or_id, until_ready).await
    }

    async fn remove(&self, name_or_id: &str) -> Result<(), OrderError> {
        Fleet::remove(self, name_or_id).await
    }

    fn engine(&self) -> Result<(), String> {
        Fleet::engine(self)
    }
}

/// The scripts that are asked now.
pub trait Templates: Send + Sync + 'static {
    /// Fills a template. `Ok(None)`: there is none of that name.
    fn fill(
        &self,
        template: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure>;

    /// The templates that there are, where that is known.
    fn names(&self) -> Vec<String>;

    /// `None` until scripts are loaded.
    fn loaded(&self) -> Option<ScriptsView>;
}

/// The current version of the scripts as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScriptsView {
    pub version: u64,
    /// SHA-256 over file names and contents, in hex.
    pub hash: String,
    pub templates: Vec<String>,
}

impl Templates for Scripts {
    fn fill(
        &self,
        template: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        self.current.load().template(template, vars)
    }

    fn names(&self) -> Vec<String> {
        let summary = self.current.load().summary();
        summary
            .templates
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    fn loaded(&self) -> Option<ScriptsView> {
        let version = self.current.load();
        Some(ScriptsView {
            version: version.number(),
            hash: version.hash().to_owned(),
            templates: self.names(),
        })
    }
}
