//! Attempts to send one request to its workload, until one is answered or none may follow.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use crate::deploy::stats::{State, Visit};
use crate::lifecycle::gate::Lease;
use crate::names::WorkloadName;
use crate::proxy::body::{AnswerBody, BodyFault, RequestBody};
use crate::proxy::canary;
use crate::proxy::entry::Entry;
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
        workload: WorkloadName,
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
            let (workload, cause, suspect) = match self.attempt(exchange, lease).await {
                Ok(response) => return Ok(response),
                Err(Failure::Final(problem)) => return Err(problem),
                Err(Failure::Again {
                    workload,
                    cause,
                    suspect,
                }) => (workload, cause, suspect),
            };
            // A canary that cannot be reached loses no request: the current release is asked next.
            let turned_over = suspect.is_some() && exchange.turn_over(true);
            let is_over = attempt == ATTEMPTS_MAX || Instant::now() >= exchange.deadline;
            if is_over && !turned_over {
                return Err(Problem::UpstreamFailed {
                    workload,
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
            lease = match self.enter(exchange, true).await? {
                Entry::Lease(lease) => lease,
                Entry::Answer(response) => return Ok(*response),
            };
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        exchange: &mut Exchange<'_>,
        lease: Lease,
    ) -> Result<Response<AnswerBody>, Failure> {
        let endpoint = lease.endpoint();
        let Some(port) = exchange.decision.port.or(endpoint.port) else {
            return Err(Failure::Final(Problem::NoPort(endpoint.workload.clone())));
        };
        if let Some(visit) = exchange.visit() {
            visit.enter(State::Waiting);
        }
        let address = (endpoint.address, port).into();
        let repeatable = exchange.head.method.is_idempotent() && exchange.source.is_none();
        let mut connection = match self.pools.connection(&lease, port, repeatable).await {
            Ok(connection) => connection,
            Err(error) => {
                if let Some(visit) = exchange.visit() {
                    visit.not_reached();
                }
                return Err(Failure::Again {
                    workload: endpoint.workload.clone(),
                    cause: error.to_string(),
                    suspect: Some(lease),
                });
            }
        };
        let lease = Rc::new(lease);
        let stats = match &exchange.source {
            Some(_) => exchange.visit().map(|visit| visit.stats().clone()),
            None => None,
        };
        let upgrade = headers::upgrade_asked(&exchange.head.headers)
            .filter(|_| exchange.on_upgrade.is_some());
        let mut request = Request::new(match &exchange.source {
            None => RequestBody::Empty,
            Some(source) => RequestBody::Streamed {
                source: source.clone(),
                stats: stats.clone(),
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
        if let Some(visitor) = exchange.visitor() {
            canary::strip(request.headers_mut(), &visitor.app.name);
        }
        let sending = connection.sender().try_send_request(request);
        let workload = &lease.endpoint().workload;
        let sent = self.answer_begins(exchange, workload, sending).await;
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
        workload: &WorkloadName,
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
                        workload: workload.clone(),
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
        let workload = lease.endpoint().workload.clone();
        if unsent || repeatable {
            // A pooled connection that died says nothing about the run: applications close those.
            let suspect = Rc::into_inner(lease).filter(|_| connection.fresh);
            return Failure::Again {
                workload,
                cause,
                suspect,
            };
        }
        Failure::Final(match source.and_then(|source| source.fault()) {
            Some(BodyFault::TooLarge) => Problem::BodyTooLarge {
                bytes_max: self.config.public.body_bytes_max,
            },
            Some(BodyFault::Client) => {
                Problem::BadRequest("the request's body broke off or is malformed")
            }
            None => Problem::UpstreamFailed { workload, cause },
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
            let visit = Self::answered(exchange, response.status(), State::Streaming);
            let request = exchange.source.clone();
            return Ok(
                response.map(|body| AnswerBody::streamed(body, connection, lease, visit, request))
            );
        }
        let on_client = exchange.on_upgrade.take().filter(|_| upgrade_asked);
        let Some(on_client) = on_client else {
            return Err(Problem::UpstreamFailed {
                workload: lease.endpoint().workload.clone(),
                cause: "it switched protocols without being asked".to_owned(),
            });
        };
        let visit = Self::answered(exchange, response.status(), State::Upgraded);
        let on_application = hyper::upgrade::on(&mut response);
        let client = exchange.client;
        client.upgraded.set(true);
        let stats = visit.as_ref().map(|visit| visit.stats().clone());
        let also = (client.clone(), self.meters.shared().tunnel(), visit);
        let protocol = upgrade::Protocol::of(response.headers());
        let tunnel = upgrade::tunnel(on_client, on_application, lease, (protocol, stats), also);
        tokio::task::spawn_local(self.tasks.track_future(tunnel));
        Ok(response.map(|_| AnswerBody::made("")))
    }

    /// Counts the beginning of a release's answer; what is to be dropped with its end.
    fn answered(exchange: &mut Exchange<'_>, status: StatusCode, open: State) -> Option<Visit> {
        let mut visit = exchange.take_visit()?;
        visit.answered(
            status,
            exchange.started.elapsed().saturating_sub(exchange.held),
        );
        visit.enter(open);
        Some(visit)
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
