//! What a client sends: read within limits, and understood with line and column.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

use crate::admin::problem::{FieldError, Problem};
use crate::admin::releases::{AppOrder, ReleaseOrder, RollbackOrder};
use crate::admin::scripts::Rollback;
use crate::decision::CreateFrom;
use crate::names::ReleaseHash;
use crate::script::explain::Wish;
use crate::spec::WorkloadSpec;

/// The largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// What is read and thrown away of a body that is too large, in bytes: a client that only reads
/// after it has written would otherwise see a broken connection and not the answer.
const DRAINED_BYTES_MAX: usize = 8 << 20;

/// For a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What `POST /deploy` asks for.
#[derive(Debug, PartialEq)]
pub enum Deploy {
    Spec(Box<WorkloadSpec>),
    Template(CreateFrom),
}

/// Reads what `POST /deploy` asks for.
pub async fn read_deploy(request: Request) -> Result<Deploy, Problem> {
    need_json(request.headers())?;
    parse_deploy(&read(request).await?)
}

/// Reads what `POST /scripts/rollback` asks for; it may have no body.
pub async fn read_rollback(request: Request) -> Result<Rollback, Problem> {
    Ok(read_optional(request).await?.unwrap_or_default())
}

/// Reads what `POST /scripts/explain` asks about.
pub async fn read_wish(request: Request) -> Result<Wish, Problem> {
    need_json(request.headers())?;
    parse_object(&read(request).await?)
}

/// Reads a JSON body as it is sent, byte for byte; what it means is for others to say.
pub async fn read_json_bytes(request: Request) -> Result<Bytes, Problem> {
    need_json(request.headers())?;
    read(request).await
}

/// Reads what `POST /launch` and `POST /switch` ask for: an object, or the bare hash.
///
/// A bare hash may come with any type, as other tools send it; that no other site's page sends it is
/// seen to by the guard.
pub async fn read_release_order(request: Request) -> Result<ReleaseOrder, Problem> {
    let is_json = need_json(request.headers());
    let bytes = read(request).await?;
    let bare = std::str::from_utf8(&bytes).ok().map(str::trim);
    let bare = bare.map(|text| text.trim_matches('"'));
    if let Some(hash) = bare.filter(|hash| ReleaseHash::new(hash).is_ok()) {
        return Ok(ReleaseOrder {
            app: None,
            hash: hash.to_owned(),
            canary: false,
            by: None,
        });
    }
    is_json?;
    parse_object(&bytes)
}

/// Reads what `POST /rollback` asks for; it may have no body.
pub async fn read_rollback_order(request: Request) -> Result<RollbackOrder, Problem> {
    Ok(read_optional(request).await?.unwrap_or_default())
}

/// Reads what names an application; it may have no body.
pub async fn read_app_order(request: Request) -> Result<AppOrder, Problem> {
    Ok(read_optional(request).await?.unwrap_or_default())
}

/// Reads the body of a request that takes none: it has to be empty, or `{}`.
pub async fn read_nothing(request: Request) -> Result<(), Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    read_optional::<Nothing>(request).await.map(drop)
}

/// `None`: there is no body.
async fn read_optional<T: DeserializeOwned>(request: Request) -> Result<Option<T>, Problem> {
    let headers = request.headers();
    let announced = headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    if !announced {
        return Ok(None);
    }
    need_json(headers)?;
    let bytes = read(request).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    parse_object(&bytes).map(Some)
}

/// A page of another site cannot send this type without asking first (Fetch §4.8), so it is
/// needed even where the body could be guessed.
fn need_json(headers: &HeaderMap) -> Result<(), Problem> {
    let sent = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let essence = sent.and_then(|sent| sent.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "wrong_content_type",
        format!(
            "the body has to be sent with 'Content-Type: application/json', not {}",
            sent.map_or("without one".to_owned(), |sent| format!("{sent:?}"))
        ),
    ))
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let waits_for_leave = request.headers().contains_key(EXPECT);
    if waits_for_leave && announced.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, collect(request.into_body())).await {
        Ok(read) => read,
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!(
                "the body did not arrive within {} s",
                BODY_TIMEOUT.as_secs()
            ),
        )),
    }
}

async fn collect(mut body: Body) -> Result<Bytes, Problem> {
    let mut kept = BytesMut::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::malformed(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen += data.len();
        if seen <= BODY_BYTES_MAX {
            kept.extend_from_slice(&data);
        } else {
            kept = BytesMut::new();
        }
        if seen > DRAINED_BYTES_MAX {
            break;
        }
    }
    if seen > BODY_BYTES_MAX {
        return Err(too_large());
    }
    Ok(kept.freeze())
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body has more than {BODY_BYTES_MAX} bytes"),
    )
}

fn parse_deploy(bytes: &[u8]) -> Result<Deploy, Problem> {
    #[derive(Deserialize)]
    struct Peek {
        template: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct FromTemplate {
        template: String,
        #[serde(default)]
        vars: Map<String, Value>,
    }
    let peek: Peek = parse_object(bytes)?;
    if peek.template.is_none() {
        return parse_object(bytes).map(|spec| Deploy::Spec(Box::new(spec)));
    }
    let FromTemplate { template, vars } = parse_object(bytes)?;
    Ok(Deploy::Template(CreateFrom { template, vars }))
}

/// 400 for what is no JSON, 422 for JSON that means nothing here; both with the place.
fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::malformed(
            "the body is empty; it has to be a JSON object",
        ));
    }
    // The syntax of the whole comes first, so that a wrong field is not reported of a text that
    // is no JSON further down.
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| problem_of("", &error))?;
    // Without this, serde would take an array as a struct's fields in their order.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::unprocessable(
            "invalid_body",
            "the body has to be a JSON object",
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        // "." is the path of the whole.
        let field = if path == "." { "" } else { &path };
        problem_of(field, error.inner())
    })
}

fn problem_of(field: &str, error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let whole = error.to_string();
    let message = whole
        .strip_suffix(&format!(" at line {line} column {column}"))
        .unwrap_or(&whole);
    let place = format!("line {line}, column {column}");
    if !error.is_data() {
        return Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_json",
            format!("the body is not valid JSON at {place}: {message}"),
        )
        .with_errors(vec![at(field, message, line, column)]);
    }
    let named = if field.is_empty() || message.contains(&format!("`{field}`")) {
        message.to_owned()
    } else {
        format!("{field}: {message}")
    };
    Problem::unprocessable("invalid_body", format!("{named} ({place})"))
        .with_errors(vec![at(field, message, line, column)])
}

fn at(field: &str, message: &str, line: usize, column: usize) -> FieldError {
    FieldError {
        field: field.to_owned(),
        message: message.to_owned(),
        line: Some(line),
        column: Some(column),
    }
}
