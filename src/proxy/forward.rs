//! Attempts to send one request to its workload, until one is answered or none may follow.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use crate::decision::Asleep;
use crate::lifecycle::gate::Lease;
use crate::proxy::body::{AnswerBody, BodyFault, RequestBody};
use crate::proxy::handler::{Exchange, Worker};
use crate::proxy::headers;
use crate::proxy::ports::{Decide, Wake};
use crate::proxy::respond::Problem;
use crate::proxy::upgrade;
use crate::proxy::upstream::Checkout;

/// Attempts for one request, the first included.
const ATTEMPTS_MAX: u32 = 5;

/// The pause before the second attempt; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(4);

/// Why an attempt has failed.
enum Failure {
    /// The request may be sent again.
    Again {
        cause: String,
        /// The lease, when the run itself is in doubt.
        suspect: Option<Lease>,
    },
    Final(Problem),
}

impl<W: Wake, D: Decide> Worker<W, D> {
    /// Sends the request and gives the answer's beginning, with a body that holds the lease.
    pub(super) async fn forward(
        &self,
        exchange: &mut Exchange<'_>,
        mut lease: Lease,
    ) -> Result<Response<AnswerBody>, Problem> {
        let mut attempt = 1;
        loop {
            let (cause, suspect) = match self.attempt(exchange, lease).await {
                Ok(response) => return Ok(response),
                Err(Failure::Final(problem)) => return Err(problem),
                Err(Failure::Again { cause, suspect }) => (cause, suspect),
            };
            let workload = &exchange.decision.workload;
            if attempt == ATTEMPTS_MAX || Instant::now() >= exchange.deadline {
                return Err(Problem::UpstreamFailed {
                    workload: workload.clone(),
                    cause: format!("{cause} (attempt {attempt})"),
                });
            }
            debug!(%workload, attempt, cause, "sending a request again");
            self.meters.of(workload.as_str(), exchange.route).retried();
            if let Some(lease) = suspect {
                let port = exchange
                    .decision
                    .port
                    .or(lease.endpoint().port)
                    .unwrap_or(0);
                // An engine that does not answer must not keep the request beyond its time.
                let _ = timeout_at(exchange.deadline, self.wake.suspect(lease, port)).await;
            }
            sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
            lease = self.lease_again(exchange).await?;
            attempt += 1;
        }
    }

    async fn lease_again(&self, exchange: &mut Exchange<'_>) -> Result<Lease, Problem> {
        let decision = exchange.decision;
        let ready = self.wake.acquire_ready(&decision.workload, decision.counts);
        match (ready, decision.asleep) {
            (Some(lease), _) => Ok(lease),
            (None, Asleep::Refuse) => Err(Problem::RefusedAsleep(decision.workload.clone())),
            (None, _) => self.hold(exchange).await,
        }
    }

    async fn attempt(
        &self,
        exchange: &mut Exchange<'_>,
        lease: Lease,
    ) -> Result<Response<AnswerBody>, Failure> {
        let workload = &exchange.decision.workload;
        let endpoint = lease.endpoint();
        let Some(port) = exchange.decision.port.or(endpoint.port) else {
            return Err(Failure::Final(Problem::NoPort(workload.clone())));
        };
        let address = (endpoint.address, port).into();
        let repeatable = exchange.head.method.is_idempotent() && exchange.source.is_none();
        let mut connection = match self.pools.connection(&lease, port, repeatable).await {
            Ok(connection) => connection,
            Err(error) => {
                return Err(Failure::Again {
                    cause: error.to_string(),
                    suspect: Some(lease),
                });
            }
        };
        let lease = Rc::new(lease);
        let upgrade = headers::upgrade_asked(&exchange.head.headers)
            .filter(|_| exchange.on_upgrade.is_some());
        let mut request = Request::new(match &exchange.source {
            None => RequestBody::Empty,
            Some(source) => RequestBody::Streamed {
                source: source.clone(),
                _lease: lease.clone(),
            },
        });
        *request.method_mut() = exchange.head.method.clone();
        *request.uri_mut() = Uri::from(exchange.target.clone());
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers::for_application(
            &exchange.head.headers,
            exchange.inbound,
            address,
            upgrade.as_ref(),
            &exchange.decision.request_headers,
        );
        let sending = connection.sender().try_send_request(request);
        let sent = self.answer_begins(exchange, sending).await;
        match sent.map_err(Failure::Final)? {
            Ok(response) => self
                .carry(exchange, response, connection, lease, upgrade.is_some())
                .map_err(Failure::Final),
            Err(error) => Err(self.judge(exchange, error, &connection, lease)),
        }
    }

    /// Waits for the answer to begin, within a limit that starts anew with every part of the
    /// request's body that passes: an upload may take its time.
    async fn answer_begins<T>(
        &self,
        exchange: &Exchange<'_>,
        sending: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        let decision = exchange.decision;
        let after = decision
            .timeout
            .unwrap_or(self.config.upstream.response_timeout);
        let mut sending = pin!(sending);
        let mut since = Instant::now();
        loop {
            if let Ok(done) = timeout_at(since + after, &mut sending).await {
                return Ok(done);
            }
            let source = exchange.source.as_ref();
            match source.map(|source| source.progress()) {
                Some(progress) if progress > since => since = progress,
                _ if source.is_some_and(|source| source.starved()) => {
                    return Err(Problem::RequestTimeout);
                }
                _ => {
                    return Err(Problem::UpstreamTimeout {
                        workload: decision.workload.clone(),
                        after,
                    });
                }
            }
        }
    }

    /// Whether a request that got no answer may be sent again.
    ///
    /// One that was never sent may. One that may have arrived may when nothing was heard, when
    /// doing it twice is doing it once (RFC 9110 §9.2.2), and when its body is still whole.
    fn judge(
        &self,
        exchange: &Exchange<'_>,
        mut error: TrySendError<Request<RequestBody>>,
        connection: &Checkout,
        lease: Rc<Lease>,
    ) -> Failure {
        let unsent = error.take_message().is_some();
        let source = exchange.source.as_ref();
        let whole = source.is_none_or(|source| !source.touched());
        let repeatable = !connection.heard() && exchange.head.method.is_idempotent() && whole;
        let cause = chain(error.error());
        if unsent || repeatable {
            // A pooled connection that died says nothing about the run: applications close those.
            let suspect = Rc::into_inner(lease).filter(|_| connection.fresh);
            return Failure::Again { cause, suspect };
        }
        Failure::Final(match source.and_then(|source| source.fault()) {
            Some(BodyFault::TooLarge) => Problem::BodyTooLarge {
                bytes_max: self.config.public.body_bytes_max,
            },
            Some(BodyFault::Client) => {
                Problem::BadRequest("the request's body broke off or is malformed")
            }
            None => Problem::UpstreamFailed {
                workload: exchange.decision.workload.clone(),
                cause,
            },
        })
    }

    /// Makes the application's answer into the client's.
    fn carry(
        &self,
        exchange: &mut Exchange<'_>,
        mut response: Response<Incoming>,
        connection: Checkout,
        lease: Rc<Lease>,
        upgrade_asked: bool,
    ) -> Result<Response<AnswerBody>, Problem> {
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let edits = &exchange.decision.response_headers;
        headers::for_client(response.headers_mut(), switching, edits);
        // The client's own version is seen to by HTTP.
        *response.version_mut() = Version::HTTP_11;
        if !switching {
            return Ok(response.map(|body| AnswerBody::streamed(body, connection, lease)));
        }
        let on_client = exchange.on_upgrade.take().filter(|_| upgrade_asked);
        let Some(on_client) = on_client else {
            return Err(Problem::UpstreamFailed {
                workload: exchange.decision.workload.clone(),
                cause: "it switched protocols without being asked".to_owned(),
            });
        };
        let on_application = hyper::upgrade::on(&mut response);
        let client = exchange.client;
        client.upgraded.set(true);
        let also = (client.clone(), self.meters.shared().tunnel());
        let protocol = upgrade::Protocol::of(response.headers());
        let tunnel = upgrade::tunnel(on_client, on_application, lease, protocol, also);
        tokio::task::spawn_local(self.tasks.track_future(tunnel));
        Ok(response.map(|_| AnswerBody::made("")))
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
