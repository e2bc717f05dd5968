//! The version that is asked now, and what the workers that ask it can tell: counts, and the requests
//! that they saw last.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::decision::{ContainerFacts, ContainerRules, IdleRule, ReadyRule, ScriptFailure};
use crate::script::counts::{Counts, Totals};
use crate::script::head::Head;
use crate::script::version::Version;
use crate::spec::WorkloadSpec;

/// Request heads that are kept where nothing else is said.
const REQUESTS_KEPT: usize = 256;

/// The version that is asked now. Swapping it is one atomic store.
pub struct Scripts {
    pub current: ArcSwap<Version>,
    requests_max: usize,
    workers: Mutex<Vec<Worker>>,
}

/// What is known of a worker that asks.
struct Worker {
    counts: Arc<Counts>,
    /// Brings it the wish for what it saw last. Closed when the worker has ended.
    questions: mpsc::Sender<Question>,
}

/// A wish for the request heads that a worker saw last, oldest first.
pub struct Question(SyncSender<Vec<Head>>);

impl Question {
    pub fn answer(self, heads: Vec<Head>) {
        // Who asked may have lost patience.
        self.0.try_send(heads).ok();
    }
}

impl Scripts {
    /// Keeps 256 request heads, as a configuration does that says nothing of it.
    pub fn new(version: Version) -> Arc<Self> {
        Self::keeping(version, REQUESTS_KEPT)
    }

    /// Keeps so many request heads at the most; none for 0.
    pub fn keeping(version: Version, requests_max: usize) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(version),
            requests_max,
            workers: Mutex::default(),
        })
    }

    pub fn requests_max(&self) -> usize {
        self.requests_max
    }

    /// Makes a worker known; what it is asked arrives at the receiver.
    pub fn join(&self, counts: Arc<Counts>) -> mpsc::Receiver<Question> {
        let (questions, asked) = mpsc::channel(1);
        self.workers.lock().push(Worker { counts, questions });
        asked
    }

    /// What all workers counted, those included that have ended.
    pub fn totals(&self) -> Totals {
        let workers = self.workers.lock();
        workers.iter().map(|worker| worker.counts.totals()).sum()
    }

    /// Decisions that were asked of a version while it was the current one, and those that failed.
    pub fn asked_and_failed(&self, version: u64) -> (u64, u64) {
        let workers = self.workers.lock();
        let of_each = workers.iter().map(|worker| worker.counts.of(version));
        of_each.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// The requests that all workers saw last, oldest first. A worker that does not answer in time
    /// is left out. Blocks the thread.
    pub fn recent(&self, within: Duration) -> Vec<Head> {
        let deadline = Instant::now() + within;
        let (answer, answers) = sync_channel(self.workers.lock().len());
        for worker in self.workers.lock().iter() {
            // Full: somebody else's question is on its way; ended: there is nothing to tell.
            let asked = worker.questions.try_send(Question(answer.clone()));
            drop(asked);
        }
        drop(answer);
        let mut heads = Vec::new();
        while let Ok(told) =
            answers.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            heads.extend(told);
        }
        // Stable, so that what one worker saw within a second stays in order.
        heads.sort_by_key(|head| head.at);
        heads.drain(..heads.len().saturating_sub(self.requests_max));
        heads
    }
}

impl ContainerRules for Scripts {
    fn ready(&self, container: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        self.current.load().ready(container)
    }

    fn idle(&self, container: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        self.current.load().idle(container)
    }

    fn template(
        &self,
        name: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        self.current.load().template(name, vars)
    }
}
