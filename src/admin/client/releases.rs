//! Calls about applications and their releases.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CALL_TIMEOUT, Client, ClientError, SEGMENT};

/// A launch pulls an image and waits for health; the gateway ends it by its own limits.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(3_600);

/// What still uses the release, such as a script that names it, has the gateway's `drain_timeout`.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(600);

/// A stored launch configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Stored {
    pub hash: String,
    pub revision: String,
    pub warnings: Vec<String>,
}

/// A launched release.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Launched {
    pub hash: String,
    pub revision: String,
    pub workload: String,
    pub image: String,
    pub existing: bool,
    pub warnings: Vec<String>,
    pub took_ms: u64,
}

/// A switch or a rollback that is done.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Switched {
    pub app: String,
    pub hash: String,
    pub revision: String,
    pub from: Option<String>,
    pub canary: bool,
    pub unchanged: bool,
    pub gave_up: Option<String>,
    pub pending: bool,
}

/// A launched release that was taken away.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Discarded {
    pub app: String,
    pub hash: String,
    pub revision: String,
}

/// An application as the gateway shows it, as far as the command line reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct AppStatus {
    pub app: String,
    pub door: String,
    pub state: String,
    pub reason: Option<String>,
    pub current: Option<String>,
    pub releases: Vec<ReleaseStatus>,
    pub pending: Option<Value>,
    #[serde(default)]
    pub failed_rollback: Option<FailedRollback>,
    pub store: Part,
    pub registry: Part,
}

/// The current release was to be left and could not be.
#[derive(Debug, Clone, Deserialize)]
pub struct FailedRollback {
    pub reason: String,
    pub error: String,
}

/// Something outside that releases depend on.
#[derive(Debug, Clone, Deserialize)]
pub struct Part {
    pub place: String,
    pub state: String,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ReleaseStatus {
    pub hash: String,
    pub revision: String,
    pub role: String,
    pub phase: String,
    pub reason: Option<String>,
    pub launch: Option<LaunchPhase>,
    pub image: String,
    pub leases: u64,
    pub waiting: usize,
    pub since_last_switch: Counted,
}

/// How far a launch has come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LaunchPhase {
    pub phase: String,
    pub detail: Option<String>,
}

/// What is counted of a release.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Counted {
    pub requests: u64,
    pub failed: u64,
    /// Of the failed ones, those that are none of the requests.
    #[serde(default)]
    pub unanswered: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct HistoryEntry {
    pub revision: String,
    pub hash: String,
    pub at: String,
    pub by: String,
    pub kind: String,
}

impl Client {
    /// Stores a launch configuration's bytes as they are.
    pub async fn store(&self, app: &str, configuration: Vec<u8>) -> Result<Stored, ClientError> {
        let path = of(app, "releases");
        self.send(
            Method::POST,
            &path,
            Some(configuration.into()),
            CALL_TIMEOUT,
        )
        .await
    }

    /// Returns when the release is healthy, or failed to get so.
    pub async fn launch(&self, app: Option<&str>, hash: &str) -> Result<Launched, ClientError> {
        let body = json!({ "app": app, "hash": hash });
        self.call(Method::POST, "/launch", Some(&body), LAUNCH_TIMEOUT)
            .await
    }

    pub async fn switch(
        &self,
        app: Option<&str>,
        hash: &str,
        canary: bool,
        by: &str,
    ) -> Result<Switched, ClientError> {
        let body = json!({ "app": app, "hash": hash, "canary": canary, "by": by });
        self.call(Method::POST, "/switch", Some(&body), CALL_TIMEOUT)
            .await
    }

    /// Wakes the previous release first where it sleeps, so it may take as long as a launch.
    ///
    /// With `from`, only if that release is the current one, and whatever canary there is.
    pub async fn roll_back(
        &self,
        app: Option<&str>,
        from: Option<&str>,
        by: &str,
    ) -> Result<Switched, ClientError> {
        let body = json!({ "app": app, "from": from, "by": by });
        self.call(Method::POST, "/rollback", Some(&body), LAUNCH_TIMEOUT)
            .await
    }

    /// Takes a launched release away that was not switched to.
    pub async fn discard(&self, app: Option<&str>, hash: &str) -> Result<Discarded, ClientError> {
        let body = json!({ "app": app, "hash": hash });
        self.call(Method::POST, "/discard", Some(&body), DISCARD_TIMEOUT)
            .await
    }

    /// Everything, as the gateway tells it.
    pub async fn status(&self) -> Result<Value, ClientError> {
        self.call(Method::GET, "/status", None, CALL_TIMEOUT).await
    }

    /// All applications.
    pub async fn apps(&self) -> Result<Vec<AppStatus>, ClientError> {
        #[derive(Deserialize)]
        struct Whole {
            apps: Vec<AppStatus>,
        }
        let whole: Whole = self
            .call(Method::GET, "/status", None, CALL_TIMEOUT)
            .await?;
        Ok(whole.apps)
    }

    pub async fn app(&self, app: &str) -> Result<AppStatus, ClientError> {
        let path = of(app, "");
        self.call(Method::GET, &path, None, CALL_TIMEOUT).await
    }

    /// Who was current when, oldest first.
    pub async fn history(&self, app: &str) -> Result<Vec<HistoryEntry>, ClientError> {
        #[derive(Deserialize)]
        struct History {
            history: Vec<HistoryEntry>,
        }
        let path = of(app, "history");
        let history: History = self.call(Method::GET, &path, None, CALL_TIMEOUT).await?;
        Ok(history.history)
    }

    /// `what`: `pause` or `resume`.
    pub async fn set_paused(&self, app: &str, paused: bool) -> Result<(), ClientError> {
        let path = of(app, if paused { "pause" } else { "resume" });
        let _: Value = self.call(Method::POST, &path, None, CALL_TIMEOUT).await?;
        Ok(())
    }

    /// Of one application, or of all.
    pub async fn set_maintenance(
        &self,
        app: Option<&str>,
        up: bool,
    ) -> Result<Vec<AppStatus>, ClientError> {
        let path = if up {
            "/maintenance/up"
        } else {
            "/maintenance/down"
        };
        let body = json!({ "app": app });
        self.call(Method::POST, path, Some(&body), CALL_TIMEOUT)
            .await
    }
}

fn of(app: &str, what: &str) -> String {
    let app = percent_encoding::utf8_percent_encode(app, SEGMENT);
    match what {
        "" => format!("/apps/{app}"),
        what => format!("/apps/{app}/{what}"),
    }
}
