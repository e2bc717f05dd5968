//! One request, straight down: facts, decision, lease, and then the application or an answer of ours.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::CONNECTION;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::clock::unix_seconds;
use crate::config::Config;
use crate::decision::{Asleep, Decision, ProxyDecision, ScriptFailure};
use crate::lifecycle::fleet::{Ask, Creation, Refusal};
use crate::lifecycle::gate::Lease;
use crate::proxy::body::{AnswerBody, Source};
use crate::proxy::facts::{Inbound, Malformed, Peer, head_bytes};
use crate::proxy::meter::{Counted, Meters};
use crate::proxy::ports::{Decide, OnError as _, Wake};
use crate::proxy::record::{Line, Record};
use crate::proxy::respond::{self, Problem};
use crate::proxy::socket::Socket;
use crate::proxy::upstream::Pools;
use crate::target;

/// What one worker has to serve requests with. Lives on one thread.
pub struct Worker<W, D> {
    pub config: Arc<Config>,
    pub wake: W,
    pub decider: RefCell<D>,
    pub pools: Rc<Pools>,
    pub meters: Meters,
    /// Connections and tunnels, so that a stop can wait for them.
    pub tasks: TaskTracker,
}

/// One client's connection.
#[derive(Debug)]
pub struct Client {
    pub socket: Socket,
    pub peer: Peer,
    /// Whether it is a tunnel now; its bytes are no longer ours to read.
    pub upgraded: Cell<bool>,
    /// Its place among the connections allowed, kept by a tunnel too.
    pub _permit: OwnedSemaphorePermit,
    pub _counted: Counted,
}

/// A request on its way to a workload.
pub(super) struct Exchange<'a> {
    pub client: &'a Rc<Client>,
    pub head: &'a Parts,
    pub inbound: &'a Inbound,
    pub decision: &'a ProxyDecision,
    /// How to make the workload when it does not exist.
    pub create: Option<Creation<'a>>,
    pub route: &'a Arc<str>,
    /// What the application is asked for.
    pub target: PathAndQuery,
    /// The request's body, when it has one.
    pub source: Option<Rc<Source>>,
    /// The client's side of an upgrade, when it may ask for one.
    pub on_upgrade: Option<OnUpgrade>,
    /// Until then the request may be held.
    pub deadline: Instant,
    pub held: Duration,
    /// Whether the workload is known to exist, so that its name may be a metric's label.
    pub exists: bool,
}

/// What the metrics and the log are told of a request.
#[derive(Default)]
struct Told {
    workload: String,
    route: Option<Arc<str>>,
    held: Duration,
}

impl<W: Wake, D: Decide> Worker<W, D> {
    /// Answers one request. Dropped by HTTP when the client leaves.
    pub async fn handle(
        self: Rc<Self>,
        client: Rc<Client>,
        request: Request<Incoming>,
    ) -> Response<AnswerBody> {
        let started = Instant::now();
        let (mut head, incoming) = request.into_parts();
        let on_upgrade = head.extensions.remove::<OnUpgrade>();
        let mut told = Told::default();
        let trusted_proxies = &self.config.public.trusted_proxies;
        let read = if head_bytes(&head) > self.config.public.head_bytes_max {
            Err(Malformed::TooLarge)
        } else {
            Inbound::read(&head, client.peer, trusted_proxies)
        };
        let (inbound, response) = match read {
            Ok(inbound) => {
                let response = self
                    .answer(
                        &client, &head, &inbound, incoming, on_upgrade, started, &mut told,
                    )
                    .await;
                (inbound, response)
            }
            Err(malformed) => self.refuse_malformed(&client, &head, malformed),
        };
        self.note(started, &head, &inbound, told, response)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    async fn answer(
        &self,
        client: &Rc<Client>,
        head: &Parts,
        inbound: &Inbound,
        incoming: Incoming,
        on_upgrade: Option<OnUpgrade>,
        started: Instant,
        told: &mut Told,
    ) -> Response<AnswerBody> {
        if head.uri.path() == "*" {
            return respond::options();
        }
        let facts = inbound.facts(head);
        // The request keeps the version that decided about it, whatever is saved meanwhile.
        let (decided, version) = {
            let mut decider = self.decider.borrow_mut();
            (decider.decide(&facts), decider.version())
        };
        let outcome = match decided {
            Ok(Some(decided)) => {
                told.route = Some(decided.route.clone());
                match &*decided.decision {
                    Decision::Respond(reply) => Ok(respond::reply(reply)),
                    Decision::Redirect(redirect) => Ok(respond::redirect(redirect)),
                    Decision::Proxy(decision) => {
                        let forwarded = target::forwarded(&head.uri, decision)
                            .map_err(|error| unusable(&decided.route, &error));
                        match forwarded {
                            Ok(target) => {
                                let exchange = Exchange {
                                    client,
                                    head,
                                    inbound,
                                    decision,
                                    create: decision
                                        .create
                                        .as_ref()
                                        .map(|from| Creation::template(from, version.templates())),
                                    route: &decided.route,
                                    target,
                                    source: self.source(incoming),
                                    on_upgrade,
                                    deadline: started
                                        + decision.wait.unwrap_or(self.config.hold.time),
                                    held: Duration::ZERO,
                                    exists: false,
                                };
                                self.proxy(exchange, told).await
                            }
                            Err(problem) => Err(problem),
                        }
                    }
                }
            }
            Ok(None) => Err(Problem::NoRoute {
                path: head.uri.path().to_owned(),
            }),
            Err(failure) => Err(Problem::Script(failure)),
        };
        outcome.unwrap_or_else(|problem| {
            respond::problem(&problem, &facts, Some(&version), || {
                self.meters.shared().script_failed();
            })
        })
    }

    fn source(&self, incoming: Incoming) -> Option<Rc<Source>> {
        (!incoming.is_end_stream())
            .then(|| Source::new(incoming, self.config.public.body_bytes_max))
    }

    async fn proxy(
        &self,
        mut exchange: Exchange<'_>,
        told: &mut Told,
    ) -> Result<Response<AnswerBody>, Problem> {
        let result = self.wake_and_forward(&mut exchange).await;
        told.held = exchange.held;
        if exchange.exists {
            told.workload = exchange.decision.workload.to_string();
        }
        result
    }

    async fn wake_and_forward(
        &self,
        exchange: &mut Exchange<'_>,
    ) -> Result<Response<AnswerBody>, Problem> {
        let bytes_max = self.config.public.body_bytes_max;
        if exchange
            .source
            .as_ref()
            .is_some_and(|source| source.announced() > bytes_max)
        {
            return Err(Problem::BodyTooLarge { bytes_max });
        }
        let decision = exchange.decision;
        if let Some(lease) = self.wake.acquire_ready(&decision.workload, decision.counts) {
            exchange.exists = true;
            return self.forward(exchange, lease).await;
        }
        let head = exchange.head;
        match decision.asleep {
            Asleep::Refuse => Err(Problem::RefusedAsleep(decision.workload.clone())),
            Asleep::Page if respond::is_navigation(&head.method, &head.headers) => {
                self.page(exchange)
            }
            Asleep::Hold | Asleep::Page => {
                let lease = self.hold(exchange).await?;
                self.forward(exchange, lease).await
            }
            Asleep::Redirect => {
                drop(self.hold(exchange).await?);
                Ok(respond::ask_again(&head.uri))
            }
        }
    }

    /// Wakes the workload and shows a page meanwhile.
    fn page(&self, exchange: &mut Exchange<'_>) -> Result<Response<AnswerBody>, Problem> {
        let workload = &exchange.decision.workload;
        let refusal = match self.wake.nudge(workload, exchange.create, None) {
            Ok(()) => {
                exchange.exists = true;
                return Ok(respond::waiting_page(workload));
            }
            Err(refusal) => refusal,
        };
        exchange.exists = !matches!(refusal, Refusal::Unknown(_));
        match &refusal {
            Refusal::Failed {
                reason,
                retry_after,
                ..
            }
            | Refusal::EngineUnreachable {
                reason,
                retry_after,
                ..
            } => Ok(respond::failed_page(workload, reason, *retry_after)),
            _ => Err(Problem::Refused(refusal)),
        }
    }

    /// Waits for a lease, waking the workload.
    pub(super) async fn hold(&self, exchange: &mut Exchange<'_>) -> Result<Lease, Problem> {
        let began = Instant::now();
        let decision = exchange.decision;
        let mut acquiring = pin!(self.wake.acquire(Ask {
            workload: &decision.workload,
            counts: decision.counts,
            wait: exchange.deadline.saturating_duration_since(began),
            create: exchange.create,
            superseded: None,
        }));
        // What is answered at once was not held, and a name that is unknown at once is no label.
        let first = poll_fn(|cx| Poll::Ready(acquiring.as_mut().poll(cx))).await;
        let acquired = match first {
            Poll::Ready(acquired) => acquired,
            Poll::Pending => {
                let meter = self.meters.of(decision.workload.as_str(), exchange.route);
                let held = meter.hold();
                let acquired = tokio::select! {
                    acquired = acquiring => acquired,
                    () = left(exchange) => return Err(Problem::ClientGone),
                };
                drop(held);
                let time = began.elapsed();
                meter.was_held(time);
                exchange.held += time;
                acquired
            }
        };
        exchange.exists = !matches!(acquired, Err(Refusal::Unknown(_)));
        acquired.map_err(Problem::Refused)
    }

    fn refuse_malformed(
        &self,
        client: &Client,
        head: &Parts,
        malformed: Malformed,
    ) -> (Inbound, Response<AnswerBody>) {
        // What it says of itself is not to be relied on.
        let inbound = Inbound {
            peer: client.peer,
            client: client.peer.address,
            scheme: "http",
            host: None,
            at: unix_seconds(),
        };
        let problem = match malformed {
            Malformed::TooLarge => Problem::HeadTooLarge {
                bytes_max: self.config.public.head_bytes_max,
            },
            Malformed::Bad(what) => Problem::BadRequest(what),
            Malformed::Connect => Problem::Connect,
        };
        let mut response =
            respond::problem(&problem, &inbound.facts(head), None::<&D::Version>, || {});
        // Where its messages end is in doubt too.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        (inbound, response)
    }

    fn note(
        &self,
        started: Instant,
        head: &Parts,
        inbound: &Inbound,
        told: Told,
        response: Response<AnswerBody>,
    ) -> Response<AnswerBody> {
        thread_local! {
            static NO_ROUTE: Arc<str> = "".into();
        }
        let route = told.route.unwrap_or_else(|| NO_ROUTE.with(Arc::clone));
        let line = self.config.log.requests.then(|| {
            Box::new(Line {
                method: head.method.to_string(),
                host: inbound.facts(head).host.to_owned(),
                path: head.uri.path().to_owned(),
                workload: told.workload.clone(),
                route: route.to_string(),
            })
        });
        let record = Record {
            started,
            held: told.held,
            status: response.status(),
            meter: self.meters.of(&told.workload, &route),
            line,
        };
        response.map(|body| body.with_record(record))
    }
}

/// Resolves when the client has left and HTTP would not notice: it does not read while a body
/// waits to be read.
async fn left(exchange: &Exchange<'_>) {
    if exchange.source.is_some() {
        exchange.client.socket.hung_up().await;
    } else {
        std::future::pending::<()>().await;
    }
}

fn unusable(route: &str, error: &dyn std::error::Error) -> Problem {
    Problem::Script(ScriptFailure {
        message: format!("the decision of route {route:?} cannot be carried out: {error}"),
        source_line: None,
    })
}
