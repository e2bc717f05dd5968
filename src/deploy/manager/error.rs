//! Why something that was asked of an application's releases was not done.

use std::sync::Arc;
use std::time::Duration;

use crate::deploy::configuration::ConfigurationError;
use crate::lifecycle::fleet::OrderError;
use crate::names::{AppName, ReleaseHash};
use crate::store::StoreError;

/// Why an order was refused or failed. The current release serves on in every case.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeployError {
    #[error("there is no application {0:?}: gateway.toml has no [apps.{0}]")]
    UnknownApp(String),
    /// No application was named, and there is none or more than one.
    #[error("which application is meant? {0}")]
    WhichApp(String),
    #[error("{0}")]
    Store(Arc<StoreError>),
    #[error("the launch configuration is not usable: {0}")]
    Configuration(Arc<ConfigurationError>),
    /// The container could not be made or started.
    #[error("{0}")]
    Order(OrderError),
    #[error("the image {image:?} cannot be had: {reason}")]
    Image {
        image: String,
        reason: String,
        /// It may be there later: the registry or the store is away.
        away: bool,
    },
    /// It was started, did not get healthy, and is removed again.
    #[error("release {} did not get healthy: {reason}", hash.short())]
    NotHealthy {
        hash: ReleaseHash,
        reason: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    #[error("release {} of {app} is not launched; launch it first", hash.short())]
    NotLaunched { app: AppName, hash: ReleaseHash },
    #[error("release {} of {app} is still being launched", hash.short())]
    Launching { app: AppName, hash: ReleaseHash },
    #[error("{app} has no release to go back to")]
    NothingToGoBackTo { app: AppName },
    #[error("{app} has no current release")]
    NoCurrent { app: AppName },
    #[error("release {} is the current one", .0.short())]
    IsCurrent(ReleaseHash),
    /// It is current, or a canary.
    #[error("release {} gets requests: switch to another one first, or go back", .0.short())]
    InUse(ReleaseHash),
    /// Only what was launched and not switched to can be discarded.
    #[error("release {} is not one that was launched and not switched to", .0.short())]
    NoCandidate(ReleaseHash),
    /// It was to be left, and is not the current one any more.
    #[error("release {} is not the current one", .0.short())]
    NotCurrent(ReleaseHash),
    /// The engine or the journal tells of releases of which the store has nothing.
    #[error(
        "the store {place} has nothing of the releases that there are: it may not be the right one, or \
         it is not there (to begin with an empty store, end the gateway and remove the containers of the \
         releases and the journal {journal})"
    )]
    StoreIsEmpty { place: String, journal: String },
    /// What was written there is not there any more.
    #[error(
        "the store {0} has lost what was in it, or it is not there: it has no current.json any more"
    )]
    StoreIsLost(String),
    #[error("another change of {0}'s current release is under way")]
    Busy(AppName),
    #[error("not done within {} s; it goes on", .0.as_secs())]
    TimedOut(Duration),
}

impl From<StoreError> for DeployError {
    fn from(error: StoreError) -> Self {
        DeployError::Store(Arc::new(error))
    }
}

impl From<ConfigurationError> for DeployError {
    fn from(error: ConfigurationError) -> Self {
        DeployError::Configuration(Arc::new(error))
    }
}

impl From<OrderError> for DeployError {
    fn from(error: OrderError) -> Self {
        DeployError::Order(error)
    }
}
