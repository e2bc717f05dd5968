//! The way in: from a decision to a lease on the workload that it means at this moment.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::{HeaderMap, HeaderValue, Response};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::decision::{Asleep, Canary};
use crate::deploy::route::{App, Current, Door, Release, Route};
use crate::deploy::stats::{State, Visit};
use crate::lifecycle::fleet::{Ask, Creation, Refusal};
use crate::lifecycle::gate::Lease;
use crate::names::{ReleaseHash, WorkloadName};
use crate::proxy::again::{self, Asking};
use crate::proxy::body::{AnswerBody, Source};
use crate::proxy::canary::{self, Choice};
use crate::proxy::handler::{Exchange, Worker};
use crate::proxy::ports::{Decide, Wake};
use crate::proxy::respond::{self, Problem};
use crate::traefik::Routed;

/// How often a request that may be held no longer looks which release is current by now.
const LATE_LOOKS_MAX: u32 = 10;

/// How a request got in.
pub(super) enum Entry {
    Lease(Lease),
    /// It did not, and this is answered in place of the application.
    Answer(Box<Response<AnswerBody>>),
}

impl Entry {
    fn answer(response: Response<AnswerBody>) -> Self {
        Entry::Answer(Box::new(response))
    }
}

/// What a request is for.
pub(super) enum To<'a> {
    Workload {
        name: &'a WorkloadName,
        /// How to make it when it does not exist.
        create: Option<Creation<'a>>,
    },
    App(Visitor),
}

/// A request for an application, and what was chosen for it.
#[derive(Debug)]
pub(super) struct Visitor {
    pub app: Arc<App>,
    canary: Canary,
    /// Drawn once a request, so that another look at the route is not another chance.
    draw: f64,
    /// The canary could not be used: the current release gets it.
    turned_over: bool,
    /// What the client is to remember, and of which trial.
    tell: Option<(ReleaseHash, bool)>,
    at: Option<At>,
}

/// The release that has the request.
#[derive(Debug)]
struct At {
    release: Arc<Release>,
    is_canary: bool,
    /// `None` when the answer has it.
    visit: Option<Visit>,
}

impl Visitor {
    pub fn new(app: Arc<App>, canary: Canary) -> Self {
        let draw = match canary {
            Canary::Percent(_) => fastrand::f64() * 100.0,
            Canary::Never | Canary::Always => 0.0,
        };
        Self {
            app,
            canary,
            draw,
            turned_over: false,
            tell: None,
            at: None,
        }
    }

    /// The release that got the request last.
    pub fn release(&self) -> Option<&Arc<Release>> {
        self.at.as_ref().map(|at| &at.release)
    }

    /// The cookie for a client that was chosen for.
    pub fn cookie(&self, secure: bool) -> Option<HeaderValue> {
        let (tried, chosen) = self.tell.as_ref()?;
        Some(canary::cookie(&self.app.name, tried, *chosen, secure))
    }

    /// Which of the route's releases gets it.
    fn choose(
        &mut self,
        headers: &HeaderMap,
        route: &Route,
        current: &Arc<Release>,
    ) -> Arc<Release> {
        let tried = route.canary.as_ref().filter(|_| !self.turned_over);
        let (release, choice) = match tried {
            Some(tried) => {
                let kept = canary::kept(headers, &self.app.name, &tried.hash);
                let choice = canary::choose(self.canary, kept, self.draw);
                (if choice.canary { tried } else { current }, choice)
            }
            None => {
                let current_only = Choice {
                    canary: false,
                    tell: false,
                };
                (current, current_only)
            }
        };
        self.tell = tried
            .filter(|_| choice.tell)
            .map(|tried| (tried.hash.clone(), choice.canary));
        match &mut self.at {
            Some(at) if Arc::ptr_eq(&at.release, release) => at.is_canary = choice.canary,
            at => {
                *at = Some(At {
                    release: release.clone(),
                    is_canary: choice.canary,
                    visit: Some(Visit::new(release.stats.clone())),
                });
            }
        }
        release.clone()
    }
}

/// One workload that a lease is asked of.
struct Goal<'a> {
    workload: &'a WorkloadName,
    create: Option<Creation<'a>>,
    /// Cancelled when it is to be another one.
    superseded: Option<&'a CancellationToken>,
    /// What people know it as.
    name: &'a str,
}

impl Exchange<'_> {
    pub(super) fn visitor(&self) -> Option<&Visitor> {
        match &self.to {
            To::App(visitor) => Some(visitor),
            To::Workload { .. } => None,
        }
    }

    pub(super) fn visitor_mut(&mut self) -> Option<&mut Visitor> {
        match &mut self.to {
            To::App(visitor) => Some(visitor),
            To::Workload { .. } => None,
        }
    }

    /// What is counted of it at a release.
    pub(super) fn visit(&mut self) -> Option<&mut Visit> {
        self.visitor_mut()?.at.as_mut()?.visit.as_mut()
    }

    /// The same, to go along with the answer.
    pub(super) fn take_visit(&mut self) -> Option<Visit> {
        self.visitor_mut()?.at.as_mut()?.visit.take()
    }

    fn is_at_canary(&self) -> bool {
        let at = self.visitor().and_then(|visitor| visitor.at.as_ref());
        at.is_some_and(|at| at.is_canary)
    }

    /// Takes the request from a canary that cannot be used, so that the current release is the next
    /// to be asked. `at_fault`: it has failed. False: the request is not at one.
    pub(super) fn turn_over(&mut self, at_fault: bool) -> bool {
        if !self.is_at_canary() {
            return false;
        }
        if let Some(visit) = self.take_visit() {
            visit.turned_over(at_fault);
        }
        if let Some(visitor) = self.visitor_mut() {
            visitor.at = None;
            visitor.turned_over = true;
        }
        true
    }

    fn choose(&mut self, route: &Route, current: &Arc<Release>) -> Arc<Release> {
        let headers = &self.head.headers;
        match &mut self.to {
            To::App(visitor) => visitor.choose(headers, route, current),
            To::Workload { .. } => current.clone(),
        }
    }
}

impl<W: Wake, D: Decide> Worker<W, D> {
    /// `again`: it got in before, and may no longer be answered by a page or a redirect.
    pub(super) async fn enter(
        &self,
        exchange: &mut Exchange<'_>,
        again: bool,
    ) -> Result<Entry, Problem> {
        match &exchange.to {
            To::Workload { name, create } => {
                let goal = Goal {
                    workload: name,
                    create: *create,
                    superseded: None,
                    name: name.as_str(),
                };
                self.enter_workload(exchange, &goal, again).await
            }
            To::App(visitor) => {
                let app = visitor.app.clone();
                let entered = self.enter_app(exchange, &app, again).await;
                if entered.as_ref().is_err_and(Problem::is_at_the_door) {
                    app.turn_away();
                }
                entered
            }
        }
    }

    /// Looks at the route until what it says still counts when the lease is there.
    async fn enter_app(
        &self,
        exchange: &mut Exchange<'_>,
        app: &App,
        again: bool,
    ) -> Result<Entry, Problem> {
        let mut late_looks = 0;
        loop {
            let route = app.route();
            let current = match (route.door, &route.current) {
                (Door::Maintenance, _) => return Err(Problem::Maintenance(app.name.clone())),
                (Door::Paused, _) => {
                    let paused = Problem::Paused(app.name.clone());
                    let pause_ends = exchange.started + app.limits.pause_max;
                    let until = exchange.deadline.min(pause_ends);
                    self.wait_at_door(exchange, app, &route, until, paused)
                        .await?;
                    continue;
                }
                (Door::Open, Current::Loading) => {
                    let until = exchange.deadline;
                    let not_known = Problem::NotLoaded {
                        app: app.name.clone(),
                        waited: until - exchange.started,
                    };
                    self.wait_at_door(exchange, app, &route, until, not_known)
                        .await?;
                    continue;
                }
                (Door::Open, Current::Nothing(reason)) => {
                    return Err(Problem::NoRelease {
                        app: app.name.clone(),
                        reason: reason.clone(),
                    });
                }
                (Door::Open, Current::Release(current)) => current,
            };
            let release = exchange.choose(&route, current);
            let goal = Goal {
                workload: &release.workload,
                create: Some(Creation::spec(&release.spec)),
                superseded: Some(&route.superseded),
                name: app.name.as_str(),
            };
            let entered = self.enter_workload(exchange, &goal, again).await;
            match entered {
                Err(Problem::ClientGone) => return entered,
                // Whatever it came to counts for that route only, a lease on its release too.
                _ if !app.is_current(&route) => {
                    late_looks += u32::from(Instant::now() >= exchange.deadline);
                    if late_looks > LATE_LOOKS_MAX {
                        let workload = release.workload.clone();
                        return Err(Problem::Refused(Refusal::Superseded(workload)));
                    }
                }
                // With a canary that does not wake no request is lost.
                Err(ref problem) if exchange.turn_over(problem.is_applications_fault()) => {}
                entered => return entered,
            }
        }
    }

    /// Holds a request that no release can be asked for, until another route counts. `else_told`:
    /// what it is told when `until` has come.
    async fn wait_at_door(
        &self,
        exchange: &mut Exchange<'_>,
        app: &App,
        route: &Route,
        until: Instant,
        else_told: Problem,
    ) -> Result<(), Problem> {
        let Some(_place) = self.apps.place(app) else {
            return Err(Problem::DoorQueueFull(app.name.clone()));
        };
        let began = Instant::now();
        // There is no workload yet that it could be counted for.
        let held = self.meters.of("", exchange.route).hold();
        let ended = tokio::select! {
            biased;
            () = route.superseded.cancelled() => Ok(()),
            () = left(exchange) => Err(Problem::ClientGone),
            () = sleep_until(until) => Err(else_told),
        };
        drop(held);
        exchange.held += began.elapsed();
        ended
    }

    async fn enter_workload(
        &self,
        exchange: &mut Exchange<'_>,
        goal: &Goal<'_>,
        again: bool,
    ) -> Result<Entry, Problem> {
        let decision = exchange.decision;
        if let Some(lease) = self.wake.acquire_ready(goal.workload, decision.counts) {
            exchange.exists = true;
            return Ok(Entry::Lease(lease));
        }
        let head = exchange.head;
        match decision.asleep {
            Asleep::Refuse => Err(Problem::RefusedAsleep(goal.workload.clone())),
            Asleep::Page if !again && respond::is_navigation(&head.method, &head.headers) => {
                self.page(exchange, goal).map(Entry::answer)
            }
            Asleep::Redirect if !again => {
                let lease = self.hold(exchange, goal).await?;
                if self.is_sent_on(exchange, &lease).await? {
                    return Ok(Entry::answer(respond::ask_again(&head.uri)));
                }
                Ok(Entry::Lease(lease))
            }
            Asleep::Hold | Asleep::Page | Asleep::Redirect => {
                self.hold(exchange, goal).await.map(Entry::Lease)
            }
        }
    }

    /// Whether a request whose workload was woken is sent to the same URL again, where the proxy in
    /// front of the gateway finds the workload by itself. Waits until it does.
    async fn is_sent_on(
        &self,
        exchange: &mut Exchange<'_>,
        lease: &Lease,
    ) -> Result<bool, Problem> {
        let (head, decision) = (exchange.head, exchange.decision);
        let body = exchange.source.as_deref();
        let is_too_large = |body: &Source| !body.is_within(again::BODY_BYTES_MAX);
        if !again::follows(
            &head.method,
            &head.headers,
            exchange.inbound.told_scheme(&head.headers),
            body.is_some(),
            decision.follows,
        ) || body.is_some_and(is_too_large)
        {
            return Ok(false);
        }
        let workload = lease.endpoint().workload.as_str();
        let began = Instant::now();
        let held = self.meters.of(workload, exchange.route).hold();
        let routed = tokio::select! {
            routed = timeout_at(exchange.deadline, self.wake.routed(lease)) => routed,
            () = left(exchange) => return Err(Problem::ClientGone),
        };
        drop(held);
        let now = Instant::now();
        exchange.held += now - began;
        if !matches!(routed, Ok(Routed::Yes)) {
            return Ok(false);
        }
        let asking = Asking {
            client: exchange.inbound.client,
            host: exchange.inbound.facts(head).host,
            target: head.uri.path_and_query().map_or("/", |own| own.as_str()),
            workload,
        };
        let may = self.redirects.may_redirect(asking, exchange.started, now);
        if !may {
            debug!(
                workload,
                "a client has come round twice and is answered here"
            );
        }
        Ok(may)
    }

    /// Wakes the workload and shows a page meanwhile.
    fn page(
        &self,
        exchange: &mut Exchange<'_>,
        goal: &Goal<'_>,
    ) -> Result<Response<AnswerBody>, Problem> {
        let nudged = self.wake.nudge(goal.workload, goal.create, goal.superseded);
        let refusal = match nudged {
            Ok(()) => {
                exchange.exists = true;
                return Ok(respond::waiting_page(goal.name));
            }
            Err(refusal) => refusal,
        };
        exchange.exists = !matches!(refusal, Refusal::Unknown(_));
        match &refusal {
            // What is asked for next is another release, not a page about this one.
            _ if exchange.is_at_canary() => Err(Problem::Refused(refusal)),
            Refusal::Failed {
                reason,
                retry_after,
                ..
            }
            | Refusal::EngineUnreachable {
                reason,
                retry_after,
                ..
            } => Ok(respond::failed_page(goal.name, reason, *retry_after)),
            _ => Err(Problem::Refused(refusal)),
        }
    }

    /// Waits for a lease, waking the workload.
    async fn hold(&self, exchange: &mut Exchange<'_>, goal: &Goal<'_>) -> Result<Lease, Problem> {
        let began = Instant::now();
        let mut acquiring = pin!(self.wake.acquire(Ask {
            workload: goal.workload,
            counts: exchange.decision.counts,
            wait: exchange.deadline.saturating_duration_since(began),
            create: goal.create,
            superseded: goal.superseded,
        }));
        // What is answered at once was not held, and a name that is unknown at once is no label.
        let first = poll_fn(|cx| Poll::Ready(acquiring.as_mut().poll(cx))).await;
        let acquired = match first {
            Poll::Ready(acquired) => acquired,
            Poll::Pending => {
                let meter = self.meters.of(goal.workload.as_str(), exchange.route);
                let held = meter.hold();
                if let Some(visit) = exchange.visit() {
                    visit.enter(State::Held);
                }
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
