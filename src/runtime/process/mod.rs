//! Workloads as child processes, for machines without a container engine and for tests.
//!
//! An image is a command line of gateway.toml, a workload a process that runs it with an address
//! of its own from 127.64.0.0/10, told to it as `BIND_ADDRESS`. It keeps the working directory and
//! the user of the gateway, and nothing limits or fences it in: this runtime is for trusted
//! programs. Workloads outlive the gateway and are found again by the next one.
//!
//! What is not as in a container: a paused workload does not outlive the gateway, because the
//! kernel sends SIGHUP to a stopped process group when the last process outside of it that could
//! continue it ends (POSIX, orphaned process groups); it is found stopped then.

mod calls;
mod procfs;
mod recover;
mod run;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::config::{self, ProcessImage};
use crate::runtime::credentials::RegistryCredentials;
use crate::runtime::{
    EngineEvent, ImageFacts, Instance, InstanceId, PullProgress, RegistryHealth, Runtime,
    RuntimeError, literal_address,
};
use crate::spec::WorkloadSpec;
use store::Store;
use table::{Phase, Table};

/// How often the logs of running workloads are looked at.
const TEND_EVERY: Duration = Duration::from_secs(10);

/// The process runtime. Dropping it leaves the workloads as they are.
pub struct Process {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    images: BTreeMap<String, ProcessImage>,
    ownership_label: (String, String),
    /// Where the work goes on when a caller gives up.
    handle: Handle,
    table: Mutex<Table>,
    /// Workloads are made one after the other.
    creating: tokio::sync::Mutex<()>,
    told_of_limits: AtomicBool,
}

impl Process {
    /// Takes the state directory over and finds the workloads of the gateway before.
    ///
    /// `builtin` are images besides the configured ones, which win. Has to be called inside a
    /// tokio runtime, which must live as long as this. An error when another gateway uses the
    /// directory, when it cannot be used, or when the kernel has no pidfd (before Linux 5.3).
    pub fn open(
        config: &config::Process,
        builtin: BTreeMap<String, ProcessImage>,
        ownership_label: (String, String),
    ) -> Result<Self, RuntimeError> {
        pidfd_open(getpid(), PidfdFlags::empty()).map_err(|error| {
            let needs = "the process runtime needs Linux 5.3 or later";
            RuntimeError::Failed(format!("{needs}: pidfd_open: {error}"))
        })?;
        if procfs::stat(getpid().as_raw_nonzero().get()).is_none() {
            let reason = "the process runtime needs /proc, and it is not mounted";
            return Err(RuntimeError::Failed(reason.to_owned()));
        }
        let handle = Handle::try_current()
            .map_err(|error| RuntimeError::Failed(format!("no tokio runtime: {error}")))?;
        let store = Store::open(&config.dir)?;
        let table = recover::recover(&store)?;
        let mut images = builtin;
        images.extend(config.images.clone());
        let inner = Arc::new(Inner {
            store,
            images,
            ownership_label,
            handle,
            table: Mutex::new(table),
            creating: tokio::sync::Mutex::default(),
            told_of_limits: AtomicBool::new(false),
        });
        for (id, workload) in inner.table.lock().all() {
            if let Phase::Running { run, .. } = &workload.phase {
                inner.watch(id.clone(), run.clone());
            }
        }
        inner.tend();
        Ok(Self { inner })
    }

    /// The file that a workload's output goes to.
    pub fn log_path(&self, id: &InstanceId) -> std::path::PathBuf {
        self.inner.store.dir().join(id.as_str()).join("log")
    }

    /// Runs a call to its end, also when the caller gives up.
    async fn detached<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, RuntimeError>> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let ended = self.inner.handle.spawn(call).await;
        ended.unwrap_or_else(|error| Err(RuntimeError::Failed(error.to_string())))
    }

    fn shown(&self, workload: &table::Workload) -> Instance {
        let image = self.inner.images.get(&workload.identity.spec.image);
        workload.instance(image, &self.inner.ownership_label)
    }
}

#[async_trait]
impl Runtime for Process {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn ping(&self) -> Result<String, RuntimeError> {
        let dir = self.inner.store.dir().display();
        Ok(format!("child processes, their state in {dir}"))
    }

    /// Any network is accepted: all workloads are on the loopback one and find each other. Limits
    /// of memory, CPU and processes are accepted and not enforced, which is logged once.
    async fn create(&self, spec: &WorkloadSpec) -> Result<InstanceId, RuntimeError> {
        let call = self.inner.clone().create(spec.clone());
        self.detached(call).await
    }

    async fn start(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let call = self.inner.clone().start(id.clone());
        self.detached(call).await
    }

    /// Signals go to the whole process group.
    async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), RuntimeError> {
        let call = self.inner.clone().stop(id.clone(), grace);
        self.detached(call).await
    }

    async fn pause(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let call = self.inner.clone().set_paused(id.clone(), true);
        self.detached(call).await
    }

    async fn unpause(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let call = self.inner.clone().set_paused(id.clone(), false);
        self.detached(call).await
    }

    async fn remove(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let call = self.inner.clone().remove(id.clone());
        self.detached(call).await
    }

    async fn inspect(&self, id: &InstanceId) -> Result<Instance, RuntimeError> {
        let table = self.inner.table.lock();
        Ok(self.shown(table.find(id)?))
    }

    async fn sent_bytes(&self, id: &InstanceId) -> Result<u64, RuntimeError> {
        self.inner.table.lock().find(id)?;
        Err(RuntimeError::Refused(
            "nobody counts the bytes of a child process: it has no network of its own".to_owned(),
        ))
    }

    async fn list(&self) -> Result<Vec<Instance>, RuntimeError> {
        let table = self.inner.table.lock();
        Ok(table.all().map(|(_, one)| self.shown(one)).collect())
    }

    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>, RuntimeError> {
        Ok(self.inner.table.lock().feed.subscribe())
    }

    async fn resolve(&self, host: &str, seen_from: &InstanceId) -> Result<IpAddr, RuntimeError> {
        let table = self.inner.table.lock();
        let own = table.find(seen_from)?.identity.address;
        if let Some(address) = literal_address(host, own.into()) {
            return Ok(address);
        }
        match table.by_host(host) {
            Some(found) => Ok(found.identity.address.into()),
            None => Err(RuntimeError::NotFound(host.to_owned())),
        }
    }

    async fn logs(&self, id: &InstanceId, lines: usize) -> Result<Vec<String>, RuntimeError> {
        let call = self.inner.clone().logs(id.clone(), lines);
        self.detached(call).await
    }

    /// Its id stands for the command line and all else that is configured of it.
    async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, RuntimeError> {
        let image = self.inner.images.get(reference);
        Ok(image.map(|image| ImageFacts {
            id: format!("sha256:{:x}", Sha256::digest(format!("{image:?}"))),
            size_bytes: None,
        }))
    }

    /// There is nothing to bring: a configured image is there, and no other can be.
    async fn pull(
        &self,
        reference: &str,
        _credentials: Option<&RegistryCredentials>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        if !self.inner.images.contains_key(reference) {
            return Err(RuntimeError::Refused(format!(
                "child processes have no registry: name the command of {reference:?} in [process.images]"
            )));
        }
        progress(PullProgress {
            line: "it is configured".to_owned(),
            bytes_done: 0,
            bytes_total: 0,
        });
        Ok(())
    }

    async fn load(
        &self,
        _archive: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Vec<String>, RuntimeError> {
        Err(RuntimeError::Refused(
            "child processes cannot be made from an image's archive: name a command in [process.images]"
                .to_owned(),
        ))
    }

    /// Images are what the configuration says, and have no identifiers.
    async fn image_of(&self, _id: &InstanceId) -> Result<Option<String>, RuntimeError> {
        Ok(None)
    }

    async fn name_image(&self, _id: &str, _reference: &str) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// A configured image stays for as long as it is configured.
    async fn remove_image(&self, reference: &str) -> Result<bool, RuntimeError> {
        Ok(!self.inner.images.contains_key(reference))
    }

    async fn registry(&self, _registry: &str) -> Result<RegistryHealth, RuntimeError> {
        Ok(RegistryHealth::Unknown)
    }
}
