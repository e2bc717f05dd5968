//! What keeps a request from being forwarded: its kind, its status, who is told what of it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tracing::{debug, error, warn};

use crate::decision::{ErrorFacts, RequestFacts, ScriptFailure};
use crate::lifecycle::fleet::Refusal;
use crate::names::{AppName, WorkloadName};
use crate::proxy::page::whole_seconds;

/// When to come again. Maintenance takes minutes, as a rule; a pause is over in seconds.
const AFTER_MAINTENANCE: Duration = Duration::from_secs(60);
const AFTER_PAUSE: Duration = Duration::from_secs(5);
const AFTER_FULL_QUEUE: Duration = Duration::from_secs(1);

/// Why a request is not forwarded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("the request's head is larger than the {bytes_max} bytes allowed")]
    HeadTooLarge { bytes_max: usize },
    #[error("CONNECT is not offered here")]
    Connect,
    #[error("the request's body did not arrive in time")]
    RequestTimeout,
    #[error("the request's body is larger than the {bytes_max} bytes allowed")]
    BodyTooLarge { bytes_max: u64 },
    #[error("no route matches {path}")]
    NoRoute { path: String },
    #[error(transparent)]
    Refused(Refusal),
    #[error("{0:?} is asleep, and this request does not wake it")]
    RefusedAsleep(WorkloadName),
    #[error(
        "no port is known for {0:?}: set one in its specification, expose one in its image, or name one in the decision"
    )]
    NoPort(WorkloadName),
    #[error("{workload:?} did not answer: {cause}")]
    UpstreamFailed {
        workload: WorkloadName,
        cause: String,
    },
    #[error("{workload:?} did not begin to answer within {} s", .after.as_secs_f64())]
    UpstreamTimeout {
        workload: WorkloadName,
        after: Duration,
    },
    #[error("there is no application {0:?}")]
    UnknownApp(AppName),
    #[error("{0:?} is down for maintenance")]
    Maintenance(AppName),
    #[error("{0:?} is paused, and this request was held as long as it may be")]
    Paused(AppName),
    /// As many requests as allowed are held before any release is asked.
    #[error("too many requests are held for {0:?}")]
    DoorQueueFull(AppName),
    #[error("which release of {app:?} is current was not known within {:.1} s", waited.as_secs_f64())]
    NotLoaded { app: AppName, waited: Duration },
    #[error("{app:?} has no release: {reason}")]
    NoRelease { app: AppName, reason: Arc<str> },
    #[error("a script failed: {0}")]
    Script(ScriptFailure),
    /// Nobody is there to be answered.
    #[error("the client left")]
    ClientGone,
}

impl Problem {
    pub fn kind(&self) -> &'static str {
        match self {
            Problem::BadRequest(_) => "bad_request",
            Problem::HeadTooLarge { .. } => "head_too_large",
            Problem::Connect => "not_implemented",
            Problem::RequestTimeout => "request_timeout",
            Problem::BodyTooLarge { .. } => "body_too_large",
            Problem::NoRoute { .. } => "no_route",
            Problem::Refused(refusal) => match refusal {
                Refusal::Unknown(_) => "unknown_workload",
                Refusal::QueueFull { .. } => "queue_full",
                Refusal::TimedOut { .. } => "hold_timeout",
                Refusal::Failed { .. } => "start_failed",
                Refusal::EngineUnreachable { .. } => "engine_unreachable",
                Refusal::Template { .. } => "script_failed",
                Refusal::Superseded(_) => "superseded",
            },
            Problem::RefusedAsleep(_) => "refused_asleep",
            Problem::NoPort(_) => "no_port",
            Problem::UpstreamFailed { .. } => "upstream_failed",
            Problem::UpstreamTimeout { .. } => "upstream_timeout",
            Problem::UnknownApp(_) => "unknown_app",
            Problem::Maintenance(_) => "maintenance",
            Problem::Paused(_) => "paused",
            Problem::DoorQueueFull(_) => "queue_full",
            Problem::NotLoaded { .. } => "hold_timeout",
            Problem::NoRelease { .. } => "no_release",
            Problem::Script(_) => "script_failed",
            Problem::ClientGone => "client_gone",
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Problem::BadRequest(_) => StatusCode::BAD_REQUEST,
            Problem::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Problem::Connect => StatusCode::NOT_IMPLEMENTED,
            // Nobody reads the status of `ClientGone` but the metrics.
            Problem::RequestTimeout | Problem::ClientGone => StatusCode::REQUEST_TIMEOUT,
            Problem::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::NoRoute { .. } => StatusCode::NOT_FOUND,
            Problem::Refused(refusal) => match refusal {
                Refusal::Unknown(_) => StatusCode::NOT_FOUND,
                Refusal::QueueFull { .. }
                | Refusal::Failed { .. }
                | Refusal::EngineUnreachable { .. }
                | Refusal::Superseded(_) => StatusCode::SERVICE_UNAVAILABLE,
                Refusal::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
                Refusal::Template { .. } => StatusCode::BAD_GATEWAY,
            },
            Problem::UnknownApp(_) => StatusCode::NOT_FOUND,
            Problem::RefusedAsleep(_)
            | Problem::Maintenance(_)
            | Problem::Paused(_)
            | Problem::DoorQueueFull(_)
            | Problem::NoRelease { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Problem::NoPort(_) | Problem::UpstreamFailed { .. } | Problem::Script(_) => {
                StatusCode::BAD_GATEWAY
            }
            Problem::UpstreamTimeout { .. } | Problem::NotLoaded { .. } => {
                StatusCode::GATEWAY_TIMEOUT
            }
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Problem::Refused(
                Refusal::QueueFull { retry_after, .. }
                | Refusal::Failed { retry_after, .. }
                | Refusal::EngineUnreachable { retry_after, .. },
            ) => Some(*retry_after),
            // Who takes its place is known already.
            Problem::Refused(Refusal::Superseded(_)) => Some(Duration::from_secs(1)),
            Problem::Maintenance(_) => Some(AFTER_MAINTENANCE),
            Problem::Paused(_) => Some(AFTER_PAUSE),
            Problem::DoorQueueFull(_) => Some(AFTER_FULL_QUEUE),
            _ => None,
        }
    }

    pub(super) fn workload(&self) -> &str {
        match self {
            Problem::Refused(
                Refusal::Unknown(workload)
                | Refusal::QueueFull { workload, .. }
                | Refusal::TimedOut { workload, .. }
                | Refusal::Failed { workload, .. }
                | Refusal::EngineUnreachable { workload, .. }
                | Refusal::Template { workload, .. }
                | Refusal::Superseded(workload),
            )
            | Problem::RefusedAsleep(workload)
            | Problem::NoPort(workload)
            | Problem::UpstreamFailed { workload, .. }
            | Problem::UpstreamTimeout { workload, .. } => workload.as_str(),
            _ => "",
        }
    }

    /// What the client is told. What only the operator can use, or what shows the inside of the
    /// machine, stays in the log.
    pub(super) fn detail(&self) -> String {
        match self {
            Problem::Script(_) => "a script failed on this request".to_owned(),
            Problem::Refused(Refusal::Template { workload, .. }) => {
                format!("a script failed to describe {:?}", workload.as_str())
            }
            Problem::UpstreamFailed { workload, .. } => {
                format!("{:?} did not answer", workload.as_str())
            }
            told => told.to_string(),
        }
    }

    pub(super) fn is_scripts_fault(&self) -> bool {
        self.kind() == "script_failed"
    }

    /// Whether the application is to blame: it is not there, does not start, cannot be reached or does
    /// not answer.
    pub fn is_applications_fault(&self) -> bool {
        matches!(
            self,
            Problem::Refused(
                Refusal::Unknown(_) | Refusal::Failed { .. } | Refusal::TimedOut { .. }
            ) | Problem::NoPort(_)
                | Problem::UpstreamFailed { .. }
                | Problem::UpstreamTimeout { .. }
        )
    }

    /// The application's door or missing release is why, and no release was asked.
    pub fn is_at_the_door(&self) -> bool {
        matches!(
            self,
            Problem::Maintenance(_)
                | Problem::Paused(_)
                | Problem::NotLoaded { .. }
                | Problem::NoRelease { .. }
                | Problem::DoorQueueFull(_)
        )
    }

    pub(super) fn facts(&self, app: &str) -> ErrorFacts {
        ErrorFacts {
            status: self.status().as_u16(),
            kind: self.kind().into(),
            message: self.detail(),
            workload: self.workload().to_owned(),
            app: app.to_owned(),
            retry_after_secs: self.retry_after().map(whole_seconds),
        }
    }

    /// One line: clients' own faults are of no interest, the rest is.
    pub(super) fn log(&self, id: &str, app: &str, request: &RequestFacts<'_>) {
        let kind = self.kind();
        let app = Some(app).filter(|app| !app.is_empty());
        let (method, host, path) = (request.method.as_str(), request.host, request.path);
        let workload = self.workload();
        match self {
            Problem::Script(failure) => {
                // In the message, where its lines stay lines; with the id, which fields come after.
                let failure = failure.in_full();
                error!(
                    id,
                    kind, method, host, path, "request {id} failed: {failure}"
                );
            }
            Problem::NoPort(_) | Problem::Refused(Refusal::Template { .. }) => {
                error!(id, kind, method, host, path, workload, app, cause = %self, "a request failed");
            }
            Problem::Refused(Refusal::Unknown(_))
            | Problem::BadRequest(_)
            | Problem::HeadTooLarge { .. }
            | Problem::Connect
            | Problem::RequestTimeout
            | Problem::BodyTooLarge { .. }
            | Problem::NoRoute { .. }
            | Problem::RefusedAsleep(_)
            | Problem::UnknownApp(_)
            | Problem::Maintenance(_)
            | Problem::ClientGone => {
                debug!(id, kind, method, host, path, workload, app, cause = %self, "a request was refused");
            }
            _ => {
                warn!(id, kind, method, host, path, workload, app, cause = %self, "a request failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_script_failed_is_for_the_log_only() {
        let problem = Problem::Script(ScriptFailure {
            message: "scripts/a.rhai:3:7: secret".to_owned(),
            source_line: Some("let secret = 1;".to_owned()),
        });
        assert!(!problem.detail().contains("secret"));
        assert!(problem.to_string().contains("scripts/a.rhai:3:7"));
    }
}
