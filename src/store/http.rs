//! How the S3 library reaches its servers: over the gateway's own client, with limits on time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::https::HttpsClient;

const NAME: HeaderValue = HeaderValue::from_static(concat!("wakegate/", env!("CARGO_PKG_VERSION")));

/// Makes clients for the library: one for the bucket, one for where its credentials come from.
#[derive(Debug)]
pub(super) struct Connector {
    pub trusted: ClientConfig,
    pub proxies: Arc<Matcher>,
    /// For a connection to be made.
    pub connect_time_max: Duration,
    /// For an answer's head to come, and then for each part of its body.
    pub answer_time_max: Duration,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let is_true = |key| {
            options
                .get_config_value(&key)
                .is_some_and(|value| value == "true")
        };
        // The library asks for short attempts where it only tries whether something is there.
        let connect_time_max = options
            .get_config_value(&ClientConfigKey::ConnectTimeout)
            .and_then(|time| humantime::parse_duration(&time).ok())
            .map_or(self.connect_time_max, |time| {
                time.min(self.connect_time_max)
            });
        let client = HttpsClient::new(self.trusted.clone(), self.proxies.clone(), connect_time_max);
        Ok(HttpClient::new(Service {
            client,
            is_http_allowed: is_true(ClientConfigKey::AllowHttp),
            answer_time_max: self.answer_time_max,
        }))
    }
}

struct Service {
    client: HttpsClient<HttpRequestBody>,
    is_http_allowed: bool,
    answer_time_max: Duration,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: Request<HttpRequestBody>) -> Result<HttpResponse, HttpError> {
        if request.uri().scheme_str() == Some("http") && !self.is_http_allowed {
            let reason = "http:// is not allowed there: use https://, or set AWS_ALLOW_HTTP=true";
            return Err(failed(HttpErrorKind::Unknown, reason));
        }
        request.headers_mut().entry(USER_AGENT).or_insert(NAME);
        let answer = timeout(self.answer_time_max, self.client.send(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(HttpError::new(kind_of(&error), error)),
            Err(_) => return Err(too_late(self.answer_time_max)),
        };
        let (head, body) = response.into_parts();
        let body = HttpResponseBody::new(StreamBody::new(parts(body, self.answer_time_max)));
        Ok(Response::from_parts(head, body))
    }
}

/// The parts of a body, each within a limit.
fn parts(
    body: Incoming,
    time_max: Duration,
) -> impl stream::Stream<Item = Result<Frame<Bytes>, HttpError>> {
    stream::try_unfold(body, move |mut body| async move {
        match timeout(time_max, body.frame()).await {
            Ok(Some(Ok(frame))) => Ok(Some((frame, body))),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => Err(HttpError::new(HttpErrorKind::Interrupted, error)),
            Err(_) => Err(too_late(time_max)),
        }
    })
}

/// What the library may do about it. Only what surely was not sent is `Connect` or `Request`: these
/// it repeats for every request, others only for those that may be done twice.
fn kind_of(error: &legacy::Error) -> HttpErrorKind {
    if error.is_connect() {
        return HttpErrorKind::Connect;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<hyper::Error>() {
            if cause.is_canceled() {
                return HttpErrorKind::Request;
            }
            if cause.is_parse() || cause.is_user() {
                return HttpErrorKind::Unknown;
            }
        }
        source = cause.source();
    }
    HttpErrorKind::Interrupted
}

fn too_late(time_max: Duration) -> HttpError {
    let time_max = humantime::format_duration(time_max);
    failed(
        HttpErrorKind::Timeout,
        &format!("no answer within {time_max}"),
    )
}

fn failed(kind: HttpErrorKind, reason: &str) -> HttpError {
    HttpError::new(kind, std::io::Error::other(reason.to_owned()))
}
