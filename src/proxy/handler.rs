//! One request, straight down: facts, decision, lease, and then the application or an answer of ours.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, SET_COOKIE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::clock::unix_seconds;
use crate::config::Config;
use crate::decision::{Decision, Destination, ProxyDecision, ScriptFailure};
use crate::deploy::route::Apps;
use crate::lifecycle::fleet::Creation;
use crate::names::AppName;
use crate::proxy::again::{self, Redirects};
use crate::proxy::body::{AnswerBody, Source};
use crate::proxy::entry::{Entry, To, Visitor};
use crate::proxy::facts::{Inbound, Malformed, Peer, head_bytes};
use crate::proxy::meter::{Counted, Meters};
use crate::proxy::ports::{Decide, OnError as _, Wake};
use crate::proxy::record::{Line, Record};
use crate::proxy::respond::{self, Problem};
use crate::proxy::socket::Socket;
use crate::proxy::upstream::Pools;
use crate::target;

/// For a body that nobody needs to come: one that takes longer ends its connection.
const READ_AWAY_TIME: Duration = Duration::from_secs(10);

/// What one worker has to serve requests with. Lives on one thread.
pub struct Worker<W, D> {
    pub config: Arc<Config>,
    pub wake: W,
    pub apps: Apps,
    pub decider: RefCell<D>,
    pub pools: Rc<Pools>,
    pub meters: Meters,
    /// Shared by all workers.
    pub redirects: Arc<Redirects>,
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

/// A request on its way to a workload or an application.
pub(super) struct Exchange<'a> {
    pub client: &'a Rc<Client>,
    pub head: &'a Parts,
    pub inbound: &'a Inbound,
    pub decision: &'a ProxyDecision,
    pub to: To<'a>,
    pub route: &'a Arc<str>,
    /// What the application is asked for.
    pub target: PathAndQuery,
    /// The request's body, when it has one.
    pub source: Option<Rc<Source>>,
    /// The client's side of an upgrade, when it may ask for one.
    pub on_upgrade: Option<OnUpgrade>,
    /// When the request came.
    pub started: Instant,
    /// Until then it may be held.
    pub deadline: Instant,
    pub held: Duration,
    /// Whether the workload is known to exist, so that its name may be a metric's label.
    pub exists: bool,
}

/// What the metrics and the log are told of a request.
#[derive(Default)]
struct Told {
    workload: String,
    app: Option<AppName>,
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
                let source = self.source(incoming);
                let body = source.clone();
                let response = self
                    .answer(
                        &client, &head, &inbound, body, on_upgrade, started, &mut told,
                    )
                    .await;
                if let Some(source) = source {
                    read_away(&source).await;
                }
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
        source: Option<Rc<Source>>,
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
                        let to = self.destination(decision, &version, told);
                        match forwarded.and_then(|target| Ok((target, to?))) {
                            Ok((target, to)) => {
                                let exchange = Exchange {
                                    client,
                                    head,
                                    inbound,
                                    decision,
                                    to,
                                    route: &decided.route,
                                    target,
                                    source,
                                    on_upgrade,
                                    started,
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
            let app = told.app.as_ref().map_or("", AppName::as_str);
            respond::problem(&problem, app, &facts, Some(&version), || {
                self.meters.shared().script_failed();
            })
        })
    }

    fn destination<'a>(
        &self,
        decision: &'a ProxyDecision,
        version: &'a D::Version,
        told: &mut Told,
    ) -> Result<To<'a>, Problem> {
        match &decision.destination {
            Destination::Workload(name) => Ok(To::Workload {
                name,
                create: decision
                    .create
                    .as_ref()
                    .map(|from| Creation::template(from, version.templates())),
            }),
            Destination::App { name, canary } => {
                let Some(app) = self.apps.get(name) else {
                    return Err(Problem::UnknownApp(name.clone()));
                };
                told.app = Some(app.name.clone());
                Ok(To::App(Visitor::new(app.clone(), *canary)))
            }
        }
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
        let mut result = self.wake_and_forward(&mut exchange).await;
        told.held = exchange.held;
        match &exchange.to {
            To::Workload { name, .. } if exchange.exists => told.workload = name.to_string(),
            To::Workload { .. } => {}
            To::App(visitor) => {
                if let Some(release) = visitor.release() {
                    told.workload = release.workload.to_string();
                }
                if let Ok(response) = &mut result
                    && let Some(cookie) = visitor.cookie(exchange.inbound.scheme == "https")
                {
                    response.headers_mut().append(SET_COOKIE, cookie);
                }
            }
        }
        if let Err(problem) = &result
            && !matches!(problem, Problem::ClientGone)
            && let Some(visit) = exchange.visit()
        {
            visit.refused(problem.status(), problem.is_applications_fault());
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
        match self.enter(exchange, false).await? {
            Entry::Lease(lease) => self.forward(exchange, lease).await,
            Entry::Answer(response) => Ok(*response),
        }
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
        let mut response = respond::problem(
            &problem,
            "",
            &inbound.facts(head),
            None::<&D::Version>,
            || {},
        );
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
                app: told.app.as_ref().map(AppName::to_string),
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

/// Reads the body of what is answered here, if it is small: an answer before its end would end the
/// connection, and a proxy in front that still sends would tell of that in place of the answer.
async fn read_away(body: &Source) {
    // Only now is it sure that no application is to have it.
    if !body.touched() && body.is_within(again::BODY_BYTES_MAX) {
        let _ = timeout(READ_AWAY_TIME, body.read_away()).await;
    }
}

fn unusable(route: &str, error: &dyn std::error::Error) -> Problem {
    Problem::Script(ScriptFailure {
        message: format!("the decision of route {route:?} cannot be carried out: {error}"),
        source_line: None,
    })
}
