//! The private listener: deploying, listing and removing workloads, health, metrics.

mod auth;
mod body;
pub mod client;
mod listener;
mod page;
mod problem;
mod releases;
mod routes;
mod scripts;
#[cfg(test)]
mod tests;
mod workloads;

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio_util::task::TaskTracker;

use crate::admin::auth::Guard;
use crate::admin::listener::{Ending, Listener};
use crate::admin::routes::Doors;
use crate::config::{self, Listen};
use crate::deploy::manager::Manager;
use crate::spec::SpecPolicy;

pub use crate::admin::scripts::{ScriptsView, Templates};
pub use crate::admin::workloads::Workloads;

/// What the admin API speaks for.
pub struct Parts {
    pub workloads: Arc<dyn Workloads>,
    pub templates: Arc<dyn Templates>,
    pub registry: Arc<Registry>,
    pub policy: SpecPolicy,
    pub releases: Arc<Manager>,
}

/// Why the private listener could not be started: one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "admin.listen: {0} is in use by another program; stop that one, or choose another address"
    )]
    InUse(String),
    #[error(
        "admin.listen: this user may not listen on {0}; choose a port from 1024 up or a folder that can be written to"
    )]
    Denied(String),
    #[error("admin.listen: {} exists and is not a socket; it was left as it is", .0.display())]
    NotASocket(PathBuf),
    #[error("admin.listen: cannot listen on {listen}: {source}")]
    Failed { listen: String, source: io::Error },
}

impl StartError {
    fn of(listen: &Listen, source: io::Error) -> Self {
        let listen = listen.to_string();
        match source.kind() {
            ErrorKind::AddrInUse => Self::InUse(listen),
            ErrorKind::PermissionDenied => Self::Denied(listen),
            _ => Self::Failed { listen, source },
        }
    }
}

/// The private listener, serving on the runtime that it was started on. Dropping it ends it
/// without waiting for requests under way.
pub struct Running {
    address: Listen,
    ending: Ending,
    tasks: TaskTracker,
}

/// Starts the private listener on the caller's runtime.
///
/// A unix socket's file gets mode 0600 and is removed at the end; one that was left behind is
/// replaced when nobody listens on it.
pub async fn start(config: &config::Admin, parts: Parts) -> Result<Running, StartError> {
    let failed = |source| StartError::of(&config.listen, source);
    let listener = Listener::bind(&config.listen).await?;
    let address = listener.address().map_err(failed)?;
    let tasks = TaskTracker::new();
    let ending = Ending::default();
    let guard = Arc::new(Guard::new(config, &address));
    let doors = Arc::new(Doors::new(parts, tasks.clone(), ending.closing.clone()));
    let router = routes::router(doors, guard);
    tasks.spawn(listener.serve(router, tasks.clone(), ending.clone()));
    tasks.close();
    tracing::info!("the admin API listens on {address}");
    Ok(Running {
        address,
        ending,
        tasks,
    })
}

impl Running {
    /// Where it is really bound: with the port that it got when port 0 was configured.
    pub fn address(&self) -> &Listen {
        &self.address
    }

    /// Takes no new requests, waits for those under way at most `within`, and drops the rest.
    pub async fn stop(self, within: Duration) {
        self.ending.closing.cancel();
        if tokio::time::timeout(within, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("admin requests were cut off at the end");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ending.closing.cancel();
        self.ending.aborting.cancel();
    }
}
