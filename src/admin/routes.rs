//! The routes of the admin API: each reads, asks the floors below, and answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{Method, StatusCode, Uri};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::auth::{self, Guard};
use crate::admin::body::{self, Deploy};
use crate::admin::page;
use crate::admin::problem::{FieldError, Problem};
use crate::admin::releases;
use crate::admin::scripts::{ScriptsView, Templates};
use crate::admin::workloads::Workloads;
use crate::clock::unix_seconds;
use crate::decision::CreateFrom;
use crate::deploy::manager::Manager;
use crate::lifecycle::fleet::{OrderError, View};
use crate::names::WorkloadName;
use crate::script::explain::Explanation;
use crate::spec::{SpecPolicy, WorkloadSpec};

/// What `?wait=ready` waits without a `timeout`.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest `timeout` that may be asked for.
const READY_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Orders under way at once, those included whose clients have gone away.
const ORDERS_MAX: usize = 256;

/// What the routes work with.
pub struct Doors {
    pub workloads: Arc<dyn Workloads>,
    pub templates: Arc<dyn Templates>,
    pub registry: Arc<Registry>,
    pub policy: SpecPolicy,
    pub releases: Arc<Manager>,
    orders: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Cancelled when the listener ends; what would go on for ever ends then too.
    pub closing: CancellationToken,
}

impl Doors {
    /// Orders run as tasks of `tasks`, so that they can be waited for.
    pub fn new(parts: super::Parts, tasks: TaskTracker, closing: CancellationToken) -> Self {
        Self {
            workloads: parts.workloads,
            templates: parts.templates,
            registry: parts.registry,
            policy: parts.policy,
            releases: parts.releases,
            orders: Arc::new(Semaphore::new(ORDERS_MAX)),
            tasks,
            closing,
        }
    }

    /// Carries an order out to its end, also when its client goes away: an order that is given up
    /// half-way would leave something half-made behind.
    async fn carry_out<T: Send + 'static>(
        &self,
        order: impl Future<Output = Result<T, OrderError>> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = self.orders.clone().try_acquire_owned().map_err(|_| {
            Problem::unavailable("too_many_orders", "too many orders are under way")
                .with_retry_after(Duration::from_secs(1))
        })?;
        let task = self.tasks.spawn(async move {
            let _permit = permit;
            order.await
        });
        match task.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "the gateway failed to carry this out; its log says more",
            )),
        }
    }

    /// 404 for what there is not; 503 where that cannot be known because the engine is away.
    fn known(&self, name_or_id: &str) -> Result<View, Problem> {
        match (self.workloads.view(name_or_id), self.workloads.engine()) {
            (Some(view), _) => Ok(view),
            (None, Ok(())) => Err(Problem::unknown_workload(name_or_id)),
            (None, Err(reason)) => Err(OrderError::EngineUnreachable(reason).into()),
        }
    }

    fn fill(&self, from: &CreateFrom) -> Result<WorkloadSpec, Problem> {
        match self.templates.fill(&from.template, &from.vars) {
            Ok(Some(spec)) => Ok(spec),
            Ok(None) => Err(unknown_template(&from.template, &self.templates.names())),
            Err(failure) => {
                tracing::warn!(template = from.template, "a template failed: {failure}");
                Err(Problem::unprocessable(
                    "template_failed",
                    format!("template {:?} failed: {}", from.template, failure.in_full()),
                ))
            }
        }
    }
}

/// Every route of the admin API. Health checks are outside the guard: they tell nothing, and
/// those who ask have neither a token nor always a name for us.
pub fn router(doors: Arc<Doors>, guard: Arc<Guard>) -> Router {
    let guarded = [
        ("/deploy", get(list).post(deploy)),
        ("/deploy/{workload}", get(show).put(start).delete(remove)),
        ("/readyz", get(readyz)),
        ("/metrics", get(metrics)),
        ("/scripts", get(scripts)),
        ("/scripts/explain", post(explain)),
        ("/scripts/rollback", post(roll_back)),
        ("/scripts/activate", post(activate)),
    ];
    let guarded = guarded
        .into_iter()
        .chain(releases::routes())
        .fold(Router::new(), with_route)
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(guard.clone(), auth::check))
        .merge(page::routes(guard));
    with_route(guarded, ("/healthz", get(healthz)))
        .method_not_allowed_fallback(unknown_method)
        .with_state(doors)
}

/// Every route is there with and without a trailing slash.
fn with_route(
    router: Router<Arc<Doors>>,
    (path, methods): (&str, MethodRouter<Arc<Doors>>),
) -> Router<Arc<Doors>> {
    router
        .route(path, methods.clone())
        .route(&format!("{path}/"), methods)
}

/// What a carried out order answers.
#[derive(Serialize)]
struct Done {
    result: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    name: WorkloadName,
    state: &'static str,
}

impl Done {
    fn with(view: View) -> Self {
        Self {
            result: "ok",
            id: view.id,
            name: view.name,
            state: view.phase,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployQuery {
    start: Option<bool>,
}

async fn deploy(
    State(doors): State<Arc<Doors>>,
    query: Result<Query<DeployQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| Problem::malformed(error.body_text()))?;
    let spec = match body::read_deploy(request).await? {
        Deploy::Spec(spec) => *spec,
        Deploy::Template(from) => doors.fill(&from)?,
    };
    let spec = doors.policy.admit(spec).map_err(Problem::not_allowed)?;
    let workloads = doors.workloads.clone();
    let start = query.start.unwrap_or(true);
    let view = doors
        .carry_out(async move { workloads.deploy(spec, start).await })
        .await?;
    tracing::info!(workload = %view.name, image = view.image, "deployed by the admin API");
    let location = format!("/deploy/{}", view.name);
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location)],
        Json(Done::with(view)),
    )
        .into_response())
}

#[derive(Serialize)]
struct Listing {
    instances: Vec<View>,
}

async fn list(State(doors): State<Arc<Doors>>) -> Result<Response, Problem> {
    let mut views = doors.workloads.views();
    if views.is_empty() {
        // Before the first listing an empty answer would be a false one.
        let engine = doors.workloads.engine();
        engine.map_err(OrderError::EngineUnreachable)?;
    }
    views.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(Listing { instances: views }).into_response())
}

async fn show(
    State(doors): State<Arc<Doors>>,
    workload: Result<Path<String>, PathRejection>,
) -> Result<Json<View>, Problem> {
    doors.known(&named(workload)?).map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartQuery {
    wait: Option<WaitFor>,
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WaitFor {
    Ready,
}

impl StartQuery {
    fn until_ready(self) -> Result<Option<Duration>, Problem> {
        match (self.wait, self.timeout) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Problem::malformed("timeout needs wait=ready")),
            (Some(WaitFor::Ready), None) => Ok(Some(READY_TIMEOUT)),
            (Some(WaitFor::Ready), Some(text)) => time_limit(&text).map(Some),
        }
    }
}

fn time_limit(text: &str) -> Result<Duration, Problem> {
    let seconds = text.parse().map(Duration::from_secs);
    let limit = seconds
        .or_else(|_| humantime::parse_duration(text))
        .map_err(|_| {
            Problem::malformed(format!("timeout: {text:?} is not a duration (try 30s)"))
        })?;
    if limit.is_zero() || limit > READY_TIMEOUT_MAX {
        return Err(Problem::malformed(format!(
            "timeout: {text:?} is not between 1ms and {}",
            humantime::format_duration(READY_TIMEOUT_MAX)
        )));
    }
    Ok(limit)
}

async fn start(
    State(doors): State<Arc<Doors>>,
    workload: Result<Path<String>, PathRejection>,
    query: Result<Query<StartQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<Done>, Problem> {
    let name_or_id = named(workload)?;
    let Query(query) = query.map_err(|error| Problem::malformed(error.body_text()))?;
    let until_ready = query.until_ready()?;
    body::read_nothing(request).await?;
    doors.known(&name_or_id)?;
    let workloads = doors.workloads.clone();
    let view = doors
        .carry_out(async move { workloads.start(&name_or_id, until_ready).await })
        .await?;
    tracing::info!(workload = %view.name, "started by the admin API");
    Ok(Json(Done::with(view)))
}

async fn remove(
    State(doors): State<Arc<Doors>>,
    workload: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Done>, Problem> {
    let name_or_id = named(workload)?;
    body::read_nothing(request).await?;
    let view = doors.known(&name_or_id)?;
    let workloads = doors.workloads.clone();
    doors
        .carry_out(async move { workloads.remove(&name_or_id).await })
        .await?;
    tracing::info!(workload = %view.name, "removed by the admin API");
    Ok(Json(Done {
        state: "removed",
        ..Done::with(view)
    }))
}

async fn healthz() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

async fn readyz(State(doors): State<Arc<Doors>>) -> Result<Response, Problem> {
    let mut missing = Vec::new();
    let mut lacks = |part: &str, message: String| {
        missing.push(FieldError {
            field: part.to_owned(),
            message,
            line: None,
            column: None,
        });
    };
    if let Err(reason) = doors.workloads.engine() {
        lacks("engine", reason);
    }
    if doors.templates.loaded().is_none() {
        lacks("scripts", "no scripts are loaded".to_owned());
    }
    if missing.is_empty() {
        return Ok(Json(json!({ "status": "ready" })).into_response());
    }
    let listed: Vec<_> = missing
        .iter()
        .map(|part| format!("{}: {}", part.field, part.message))
        .collect();
    Err(Problem::unavailable("not_ready", listed.join("; ")).with_errors(missing))
}

async fn metrics(State(doors): State<Arc<Doors>>) -> Result<Response, Problem> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &doors.registry).map_err(|_| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "the metrics could not be written",
        )
    })?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}

async fn scripts(State(doors): State<Arc<Doors>>) -> Result<Response, Problem> {
    match doors.templates.loaded() {
        Some(view) => Ok(Json(view).into_response()),
        None => Err(Problem::unavailable("not_ready", "no scripts are loaded")),
    }
}

async fn explain(
    State(doors): State<Arc<Doors>>,
    request: Request,
) -> Result<Json<Explanation>, Problem> {
    let wish = body::read_wish(request).await?;
    let head = wish.head(unix_seconds());
    let head = head.map_err(|wrong| Problem::unprocessable("invalid_request", wrong))?;
    let Some(version) = doors.templates.serving() else {
        return Err(Problem::unavailable("not_ready", "no scripts are loaded"));
    };
    let mut explanation = version.explain(&head);
    if let Some(app) = &mut explanation.app {
        app.now = releases::in_words(&doors.releases, &app.name);
    }
    if let Some(workload) = &mut explanation.workload {
        if let Some(view) = doors.workloads.view(&workload.name) {
            workload.state = serde_json::to_value(view).ok();
        }
        if let Some(facts) = doors.workloads.container(&workload.name).await {
            (workload.ready, workload.idle) = version.rules_of(facts);
            workload.rules_for = "the container as the engine has it".to_owned();
        }
    }
    Ok(Json(explanation))
}

async fn roll_back(
    State(doors): State<Arc<Doors>>,
    request: Request,
) -> Result<Json<ScriptsView>, Problem> {
    let rollback = body::read_rollback(request).await?;
    Ok(Json(doors.templates.roll_back(rollback.version)?))
}

async fn activate(
    State(doors): State<Arc<Doors>>,
    request: Request,
) -> Result<Json<ScriptsView>, Problem> {
    body::read_nothing(request).await?;
    Ok(Json(doors.templates.activate()))
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown_path",
        format!(
            "there is no {:?}; there are /, /deploy, /deploy/{{name or id}}, /healthz, /readyz, /metrics, /status, /events, /launch, /switch, /rollback, /discard, /maintenance/up, /maintenance/down, /apps/{{app}}, /apps/{{app}}/releases, /apps/{{app}}/history, /apps/{{app}}/pause, /apps/{{app}}/resume, /scripts, /scripts/explain, /scripts/rollback and /scripts/activate",
            uri.path()
        ),
    )
}

pub async fn unknown_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!(
            "{:?} does not take {method}; see the Allow header",
            uri.path()
        ),
    )
}

fn named(workload: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    match workload {
        Ok(Path(name_or_id)) => Ok(name_or_id),
        Err(error) => Err(Problem::malformed(error.body_text())),
    }
}

fn unknown_template(name: &str, known: &[String]) -> Problem {
    let known = match known {
        [] => String::new(),
        known => format!("; there are {}", known.join(", ")),
    };
    Problem::unprocessable(
        "unknown_template",
        format!("there is no template {name:?}{known}"),
    )
}
