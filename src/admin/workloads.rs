//! What the admin API needs of the workloads, and nothing more.

use std::time::Duration;

use async_trait::async_trait;

use crate::decision::ContainerFacts;
use crate::lifecycle::fleet::{Fleet, OrderError, View};
use crate::spec::WorkloadSpec;

/// The workloads of one engine. See [`Fleet`] for what each call promises.
#[async_trait]
pub trait Workloads: Send + Sync + 'static {
    fn views(&self) -> Vec<View>;

    fn view(&self, name_or_id: &str) -> Option<View>;

    /// What the engine has of a workload's container; `None` where there is none, or no answer.
    async fn container(&self, name: &str) -> Option<ContainerFacts>;

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

    async fn container(&self, name: &str) -> Option<ContainerFacts> {
        Fleet::container(self, name).await
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
