//! Refusals of the admin API as problem details (RFC 9457).

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::lifecycle::fleet::OrderError;
use crate::spec::SpecRefusal;

/// How long a client is asked to stay away while the engine, or a registry, does not answer.
const ENGINE_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a request was not carried out, in the words that its sender gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    log: Box<[String]>,
    retry_after: Option<Duration>,
    challenge: Option<&'static str>,
}

/// One thing wrong with one place of what was sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldError {
    /// As it is written in JSON; a dotted path where it is nested; empty for the whole body.
    pub field: String,
    pub message: String,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

/// The body as it goes out. `kind` is a stable word for programs: the type stays `about:blank`
/// (RFC 9457 §4.2.1), as there is no page to link to.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    kind: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// The last lines of a container's log.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    log: &'a [String],
}

impl Problem {
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            log: Box::default(),
            retry_after: None,
            challenge: None,
        }
    }

    /// 400: it cannot be understood at all.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// 422: it is understood, and cannot be done as it is.
    pub fn unprocessable(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind, detail)
    }

    pub fn unknown_workload(name_or_id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_workload",
            format!("there is no workload {name_or_id:?}"),
        )
    }

    /// 503: it may work later.
    pub fn unavailable(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail)
    }

    /// 422 with everything that the policy refuses.
    pub fn not_allowed(refusals: Vec<SpecRefusal>) -> Self {
        let listed: Vec<String> = refusals.iter().map(SpecRefusal::to_string).collect();
        Self::unprocessable(
            "not_allowed",
            format!(
                "the specification asks for what is not allowed here: {}",
                listed.join("; ")
            ),
        )
        .with_errors(refusals.into_iter().map(FieldError::from).collect())
    }

    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// What the container that it is about has said last.
    pub fn with_log(mut self, log: Vec<String>) -> Self {
        self.log = log.into();
        self
    }

    /// Goes out as `Retry-After`, in whole seconds, rounded up.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Goes out as `WWW-Authenticate`.
    pub fn with_challenge(mut self, challenge: &'static str) -> Self {
        self.challenge = Some(challenge);
        self
    }
}

impl From<SpecRefusal> for FieldError {
    fn from(refusal: SpecRefusal) -> Self {
        Self {
            field: refusal.field,
            message: refusal.message,
            line: None,
            column: None,
        }
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        let detail = error.to_string();
        match error {
            OrderError::NotAllowed(refusals) => Self::not_allowed(refusals),
            OrderError::Unknown(name_or_id) => Self::unknown_workload(&name_or_id),
            OrderError::NameTaken(_) => Self::new(StatusCode::CONFLICT, "name_taken", detail),
            OrderError::ImageMissing(_) => Self::unprocessable("image_missing", detail),
            OrderError::NetworkMissing(_) => Self::unprocessable("network_missing", detail),
            OrderError::ImageNotFound(_) => Self::unprocessable("image_not_found", detail),
            OrderError::RegistryDenied(_) => Self::unprocessable("registry_denied", detail),
            OrderError::RegistryUnreachable(_) => Self::unavailable("registry_unreachable", detail)
                .with_retry_after(ENGINE_RETRY_AFTER),
            OrderError::Refused(_) => Self::unprocessable("refused", detail),
            OrderError::EngineUnreachable(_) => {
                Self::unavailable("engine_unreachable", detail).with_retry_after(ENGINE_RETRY_AFTER)
            }
            OrderError::Failed(_) => Self::unavailable("failed", detail),
            OrderError::TimedOut(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, "timed_out", detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(
                status = self.status.as_u16(),
                kind = self.kind,
                "admin API: {}",
                self.detail
            );
        } else {
            tracing::debug!(
                status = self.status.as_u16(),
                kind = self.kind,
                "admin API: {}",
                self.detail
            );
        }
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            kind: self.kind,
            detail: &self.detail,
            errors: &self.errors,
            log: &self.log,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}
