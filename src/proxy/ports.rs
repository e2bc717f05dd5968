//! What the request path needs of the lifecycle and of the scripts, and nothing more.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::decision::{ContainerRules, ErrorFacts, Reply, RequestFacts, ScriptFailure};
use crate::lifecycle::fleet::{Ask, Creation, Fleet, Refusal};
use crate::lifecycle::gate::Lease;
use crate::names::WorkloadName;
use crate::script::current::Question;
use crate::script::decider::Decider;
use crate::script::head::Head;
use crate::script::version::{Decided, Version};
use crate::traefik::Routed;

/// Leases on workloads. [`Fleet`] is the one; tests and benches have their own.
pub trait Wake: 'static {
    /// See [`Fleet::acquire`].
    fn acquire(&self, ask: Ask<'_>) -> impl Future<Output = Result<Lease, Refusal>>;

    /// See [`Fleet::acquire_ready`].
    fn acquire_ready(&self, workload: &WorkloadName, counts: bool) -> Option<Lease>;

    /// See [`Fleet::nudge`].
    fn nudge(
        &self,
        workload: &WorkloadName,
        create: Option<Creation<'_>>,
        superseded: Option<&CancellationToken>,
    ) -> Result<(), Refusal>;

    /// See [`Fleet::suspect`].
    fn suspect(&self, lease: Lease, port: u16) -> impl Future<Output = ()>;

    /// See [`Fleet::routed`].
    fn routed(&self, _lease: &Lease) -> impl Future<Output = Routed> {
        std::future::ready(Routed::Yes)
    }
}

impl Wake for Arc<Fleet> {
    fn acquire(&self, ask: Ask<'_>) -> impl Future<Output = Result<Lease, Refusal>> {
        Fleet::acquire(self, ask)
    }

    fn acquire_ready(&self, workload: &WorkloadName, counts: bool) -> Option<Lease> {
        Fleet::acquire_ready(self, workload, counts)
    }

    fn nudge(
        &self,
        workload: &WorkloadName,
        create: Option<Creation<'_>>,
        superseded: Option<&CancellationToken>,
    ) -> Result<(), Refusal> {
        Fleet::nudge(self, workload, create, superseded)
    }

    fn suspect(&self, lease: Lease, port: u16) -> impl Future<Output = ()> {
        Fleet::suspect(self, lease, port)
    }

    fn routed(&self, lease: &Lease) -> impl Future<Output = Routed> {
        Fleet::routed(self, lease)
    }
}

/// Decisions about requests, asked by one worker. [`Decider`] is the one.
pub trait Decide: 'static {
    type Version: OnError + 'static;

    /// The version that made the last decision. A request keeps it to its end.
    fn version(&self) -> Self::Version;

    /// `Ok(None)`: no route matches.
    fn decide(&mut self, request: &RequestFacts<'_>) -> Result<Option<Decided>, ScriptFailure>;

    /// Where wishes for the requests seen last arrive, to be taken once.
    fn questions(&mut self) -> Option<mpsc::Receiver<Question>> {
        None
    }

    /// The requests seen last, oldest first.
    fn recent(&mut self) -> Vec<Head> {
        Vec::new()
    }
}

/// The scripts' own words for what goes wrong.
pub trait OnError {
    /// `Ok(None)`: nothing to say, the built-in answer holds.
    fn on_error(
        &self,
        request: &RequestFacts<'_>,
        error: &ErrorFacts,
    ) -> Result<Option<Reply>, ScriptFailure>;

    /// What fills the templates that this version's decisions name; `None`: the current scripts.
    fn templates(&self) -> Option<&dyn ContainerRules> {
        None
    }
}

impl Decide for Decider {
    type Version = Arc<Version>;

    fn version(&self) -> Arc<Version> {
        Decider::version(self)
    }

    fn decide(&mut self, request: &RequestFacts<'_>) -> Result<Option<Decided>, ScriptFailure> {
        Decider::decide(self, request)
    }

    fn questions(&mut self) -> Option<mpsc::Receiver<Question>> {
        Decider::questions(self)
    }

    fn recent(&mut self) -> Vec<Head> {
        Decider::recent(self)
    }
}

impl OnError for Arc<Version> {
    fn on_error(
        &self,
        request: &RequestFacts<'_>,
        error: &ErrorFacts,
    ) -> Result<Option<Reply>, ScriptFailure> {
        Version::on_error(self, request, error)
    }

    fn templates(&self) -> Option<&dyn ContainerRules> {
        Some(&**self)
    }
}
