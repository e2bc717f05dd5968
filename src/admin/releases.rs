//! The routes of applications and their releases, and what the status page is fed with.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::body;
use crate::admin::problem::{FieldError, Problem};
use crate::admin::routes::Doors;
use crate::deploy::configuration::ConfigurationProblem;
use crate::deploy::manager::{
    AppStatus, DeployError, Discarded, Launched, Manager, Stored, Switched,
};
use crate::deploy::records::HistoryEntry;
use crate::deploy::route::Door;
use crate::lifecycle::fleet::View;
use crate::names::{AppName, ReleaseHash};
use crate::store::StoreError;

/// Who has asked for something when the request does not say.
const SOMEBODY: &str = "the admin API";

/// The longest `by`, in characters.
const BY_CHARS_MAX: usize = 200;

/// Between two looks at what is counted, for who follows the status.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Changes that come faster, such as those of an image that is being pulled, are told as one.
const STATUS_PAUSE: Duration = Duration::from_millis(100);

pub fn routes() -> [(&'static str, MethodRouter<Arc<Doors>>); 13] {
    [
        ("/status", get(status)),
        ("/events", get(events)),
        ("/launch", post(launch)),
        ("/switch", post(switch)),
        ("/rollback", post(roll_back)),
        ("/discard", post(discard)),
        ("/maintenance/up", post(maintenance_up)),
        ("/maintenance/down", post(maintenance_down)),
        ("/apps/{app}", get(app_status)),
        ("/apps/{app}/releases", post(store)),
        ("/apps/{app}/history", get(history)),
        ("/apps/{app}/pause", post(pause)),
        ("/apps/{app}/resume", post(resume)),
    ]
}

/// What names a release. For a single application the bare hash will do.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseOrder {
    pub app: Option<String>,
    pub hash: String,
    /// With `/switch`: only as a canary.
    #[serde(default)]
    pub canary: bool,
    /// Who asks, for the history.
    pub by: Option<String>,
}

/// What names an application.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppOrder {
    pub app: Option<String>,
    pub by: Option<String>,
}

/// What `POST /rollback` asks for.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackOrder {
    pub app: Option<String>,
    pub by: Option<String>,
    /// Only if this release is the current one, whatever canary there is.
    pub from: Option<String>,
}

/// Everything that is known now.
#[derive(Serialize)]
struct WholeStatus {
    version: &'static str,
    engine: Engine,
    apps: Vec<AppStatus>,
    workloads: Vec<View>,
}

#[derive(Serialize)]
struct Engine {
    up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn whole_status(doors: &Doors) -> WholeStatus {
    let mut workloads = doors.workloads.views();
    workloads.sort_by(|a, b| a.name.cmp(&b.name));
    let engine = doors.workloads.engine();
    WholeStatus {
        version: env!("CARGO_PKG_VERSION"),
        engine: Engine {
            up: engine.is_ok(),
            reason: engine.err(),
        },
        apps: doors.releases.status().apps,
        workloads,
    }
}

async fn status(State(doors): State<Arc<Doors>>) -> Response {
    Json(whole_status(&doors)).into_response()
}

/// The status now, and again whenever it is another one, until the listener ends.
async fn events(
    State(doors): State<Arc<Doors>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = doors.releases.changes();
    let closing = doors.closing.clone();
    let begin = (doors, changes, String::new());
    let stream = futures_util::stream::unfold(begin, |(doors, mut changes, last)| async move {
        let mut first = last.is_empty();
        loop {
            if !first {
                tokio::time::sleep(STATUS_PAUSE).await;
                // What is counted changes without being told.
                drop(tokio::time::timeout(STATUS_EVERY, changes.changed()).await);
            }
            first = false;
            changes.mark_unchanged();
            let Ok(text) = serde_json::to_string(&whole_status(&doors)) else {
                return None;
            };
            if text != last {
                let event = Event::default().event("status").data(&text);
                return Some((Ok(event), (doors, changes, text)));
            }
        }
    });
    let stream = stream.take_until(closing.cancelled_owned());
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn store(
    State(doors): State<Arc<Doors>>,
    app: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(StatusCode, Json<Stored>), Problem> {
    let app = named(&doors, app)?;
    let bytes = body::read_json_bytes(request).await?;
    let stored = doors.releases.store(&app, bytes).await?;
    tracing::info!(%app, hash = stored.hash.short(), revision = stored.revision, "a launch configuration was stored");
    Ok((StatusCode::CREATED, Json(stored)))
}

async fn launch(
    State(doors): State<Arc<Doors>>,
    request: Request,
) -> Result<Json<Launched>, Problem> {
    let order = body::read_release_order(request).await?;
    let (app, hash) = meant(&doors, &order)?;
    Ok(Json(doors.releases.launch(&app, &hash).await?))
}

async fn switch(
    State(doors): State<Arc<Doors>>,
    request: Request,
) -> Result<Json<Switched>, Problem> {
    let order = body::read_release_order(request).await?;
    let (app, hash) = meant(&doors, &order)?;
    let by = by(order.by.as_deref())?;
    let switched = doors.releases.switch(&app, &hash, order.canary, &by);
    Ok(Json(switched.await?))
}

async fn roll_back(
    State(doors): State<Arc<Doors>>,
    request: Request,
) -> Result<Json<Switched>, Problem> {
    let order = body::read_rollback_order(request).await?;
    let app = doors.releases.which(order.app.as_deref())?;
    let by = by(order.by.as_deref())?;
    let from = order.from.as_deref().map(ReleaseHash::new).transpose();
    let from = from.map_err(|error| Problem::unprocessable("invalid_hash", error.to_string()))?;
    let back = doors.releases.roll_back(&app, from.as_ref(), &by);
    Ok(Json(back.await?))
}

async fn discard(
    State(doors): State<Arc<Doors>>,
    request: Request,
) -> Result<Json<Discarded>, Problem> {
    let order = body::read_release_order(request).await?;
    let (app, hash) = meant(&doors, &order)?;
    Ok(Json(doors.releases.discard(&app, &hash).await?))
}

#[derive(Serialize)]
struct History {
    app: AppName,
    /// Oldest first.
    history: Vec<HistoryEntry>,
}

async fn history(
    State(doors): State<Arc<Doors>>,
    app: Result<Path<String>, PathRejection>,
) -> Result<Json<History>, Problem> {
    let app = named(&doors, app)?;
    let history = doors.releases.history(&app).await?;
    Ok(Json(History { app, history }))
}

async fn app_status(
    State(doors): State<Arc<Doors>>,
    app: Result<Path<String>, PathRejection>,
) -> Result<Json<AppStatus>, Problem> {
    let app = named(&doors, app)?;
    Ok(Json(doors.releases.status_of(&app)?))
}

async fn pause(
    State(doors): State<Arc<Doors>>,
    app: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Vec<AppStatus>>, Problem> {
    body::read_nothing(request).await?;
    set_door(&doors, vec![named(&doors, app)?], Door::Paused, true).await
}

async fn resume(
    State(doors): State<Arc<Doors>>,
    app: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Vec<AppStatus>>, Problem> {
    body::read_nothing(request).await?;
    set_door(&doors, vec![named(&doors, app)?], Door::Paused, false).await
}

async fn maintenance_up(
    State(doors): State<Arc<Doors>>,
    request: Request,
) -> Result<Json<Vec<AppStatus>>, Problem> {
    let apps = all_or_named(&doors, request).await?;
    set_door(&doors, apps, Door::Maintenance, true).await
}

async fn maintenance_down(
    State(doors): State<Arc<Doors>>,
    request: Request,
) -> Result<Json<Vec<AppStatus>>, Problem> {
    let apps = all_or_named(&doors, request).await?;
    set_door(&doors, apps, Door::Maintenance, false).await
}

/// The named application, or all of them.
async fn all_or_named(doors: &Doors, request: Request) -> Result<Vec<AppName>, Problem> {
    let order = body::read_app_order(request).await?;
    match order.app {
        Some(app) => Ok(vec![doors.releases.which(Some(&app))?]),
        None => Ok(doors.releases.names().cloned().collect()),
    }
}

async fn set_door(
    doors: &Doors,
    apps: Vec<AppName>,
    what: Door,
    is_on: bool,
) -> Result<Json<Vec<AppStatus>>, Problem> {
    let mut changed = Vec::new();
    for app in apps {
        doors.releases.set_door(&app, what, is_on).await?;
        changed.push(doors.releases.status_of(&app)?);
    }
    Ok(Json(changed))
}

fn named(doors: &Doors, app: Result<Path<String>, PathRejection>) -> Result<AppName, Problem> {
    let Path(app) = app.map_err(|error| Problem::malformed(error.body_text()))?;
    Ok(doors.releases.which(Some(&app))?)
}

fn meant(doors: &Doors, order: &ReleaseOrder) -> Result<(AppName, ReleaseHash), Problem> {
    let app = doors.releases.which(order.app.as_deref())?;
    let hash = ReleaseHash::new(&order.hash)
        .map_err(|error| Problem::unprocessable("invalid_hash", error.to_string()))?;
    Ok((app, hash))
}

fn by(by: Option<&str>) -> Result<String, Problem> {
    let by = by.map(str::trim).filter(|by| !by.is_empty());
    let by = by.unwrap_or(SOMEBODY);
    if by.chars().count() > BY_CHARS_MAX || by.chars().any(char::is_control) {
        return Err(Problem::unprocessable(
            "invalid_body",
            format!("by: at most {BY_CHARS_MAX} characters, none of them a control character"),
        ));
    }
    Ok(by.to_owned())
}

/// For the registry or the store to come back.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Self {
        let detail = error.to_string();
        let conflict = |kind| Problem::new(StatusCode::CONFLICT, kind, detail.clone());
        match &error {
            DeployError::UnknownApp(_) => {
                Problem::new(StatusCode::NOT_FOUND, "unknown_app", detail)
            }
            DeployError::WhichApp(_) => Problem::unprocessable("which_app", detail),
            DeployError::Store(error) => of_store(error),
            DeployError::Configuration(error) => {
                Problem::unprocessable("invalid_configuration", detail)
                    .with_errors(error.problems.iter().map(FieldError::from).collect())
            }
            DeployError::Order(error) => error.clone().into(),
            DeployError::Image { away: true, .. } => {
                Problem::unavailable("registry_unreachable", detail).with_retry_after(RETRY_AFTER)
            }
            DeployError::Image { away: false, .. } => {
                Problem::unprocessable("image_missing", detail)
            }
            DeployError::NotHealthy { log, .. } => {
                Problem::unprocessable("not_healthy", detail).with_log(log.clone())
            }
            DeployError::NotLaunched { .. } => conflict("not_launched"),
            DeployError::Launching { .. } => conflict("launching"),
            DeployError::NothingToGoBackTo { .. } => conflict("nothing_to_go_back_to"),
            DeployError::NoCurrent { .. } => conflict("no_current_release"),
            DeployError::IsCurrent(_) => conflict("is_current"),
            DeployError::NotCurrent(_) => conflict("not_current"),
            DeployError::InUse(_) => conflict("in_use"),
            DeployError::NoCandidate(_) => conflict("no_candidate"),
            DeployError::StoreIsEmpty { .. } | DeployError::StoreIsLost(_) => {
                Problem::unavailable("store_empty", detail)
            }
            DeployError::Busy(_) => conflict("busy"),
            DeployError::TimedOut(_) => {
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "timed_out", detail)
            }
        }
    }
}

/// Which releases of an application requests go to now.
pub(super) fn in_words(manager: &Manager, app: &str) -> Vec<String> {
    let status = AppName::new(app).ok().map(|name| manager.status_of(&name));
    let Some(Ok(status)) = status else {
        return vec![format!("there is no [apps.{app}] in gateway.toml")];
    };
    let mut lines: Vec<String> = status
        .releases
        .iter()
        .filter(|release| matches!(release.role, "current" | "canary"))
        .map(|release| {
            let (role, short) = (release.role, release.hash.short());
            format!(
                "{role} is {} ({short}), {}",
                release.revision, release.phase
            )
        })
        .collect();
    if status.current.is_none() {
        let reason = status.reason.unwrap_or_default();
        lines.push(format!("no current release, {}: {reason}", status.state));
    }
    if status.door != "open" {
        lines.push(format!("its door: {}", status.door));
    }
    lines
}

fn of_store(error: &StoreError) -> Problem {
    let detail = error.to_string();
    match error {
        StoreError::UnknownHash { .. } => {
            Problem::new(StatusCode::NOT_FOUND, "unknown_hash", detail)
        }
        StoreError::HashMismatch { .. } => Problem::unprocessable("hash_mismatch", detail),
        StoreError::UnknownArtefact { .. } => Problem::unprocessable("unknown_archive", detail),
        StoreError::Malformed { .. } => Problem::unprocessable("store_malformed", detail),
        StoreError::TooLarge { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        }
        StoreError::Full { .. } => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "store_full", detail)
        }
        StoreError::Denied { .. } => Problem::unavailable("store_denied", detail),
        StoreError::Unreachable { .. } => {
            Problem::unavailable("store_unreachable", detail).with_retry_after(RETRY_AFTER)
        }
        StoreError::Conflict { .. } => {
            Problem::unavailable("store_conflict", detail).with_retry_after(RETRY_AFTER)
        }
        StoreError::Unconditional { .. } | StoreError::Other { .. } => {
            Problem::unavailable("store_failed", detail)
        }
    }
}

impl From<&ConfigurationProblem> for FieldError {
    fn from(problem: &ConfigurationProblem) -> Self {
        Self {
            field: problem.field.clone(),
            message: problem.message.clone(),
            line: problem.line,
            column: problem.column,
        }
    }
}
