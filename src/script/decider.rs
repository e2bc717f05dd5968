//! One worker's way to the scripts: its snapshot of the current version and its own memo of decisions.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use tokio::sync::mpsc;

use crate::decision::{Decision, RequestFacts, ScriptFailure};
use crate::script::counts::{Counts, Source};
use crate::script::current::{Question, Scripts};
use crate::script::head::Head;
use crate::script::memo::Memo;
use crate::script::recent::Recent;
use crate::script::version::{Asked, Decided, Version};

/// Belongs to one thread; nothing in it is locked.
pub struct Decider {
    versions: Cache<Current, Arc<Version>>,
    /// The version that the memo belongs to.
    version: Arc<Version>,
    memo: Memo,
    /// This worker's own copies of the patterns: a count that all workers share would be fought over.
    patterns: Vec<Arc<str>>,
    counts: Arc<Counts>,
    recent: Recent,
    questions: Option<mpsc::Receiver<Question>>,
}

struct Current(Arc<Scripts>);

impl Deref for Current {
    type Target = ArcSwap<Version>;

    fn deref(&self) -> &ArcSwap<Version> {
        &self.0.current
    }
}

impl Decider {
    pub fn new(scripts: Arc<Scripts>) -> Self {
        let version = scripts.current.load_full();
        let counts = Arc::new(Counts::default());
        counts.turn_to(version.number());
        Self {
            memo: version.memo(),
            patterns: patterns_of(&version),
            version,
            questions: Some(scripts.join(counts.clone())),
            counts,
            recent: Recent::new(scripts.requests_max()),
            versions: Cache::new(Current(scripts)),
        }
    }

    /// The version that made the last decision, also when it is no longer the current one.
    pub fn version(&self) -> Arc<Version> {
        self.version.clone()
    }

    /// `Ok(None)`: no route matches, or the one that does has no decision.
    pub fn decide(&mut self, request: &RequestFacts<'_>) -> Result<Option<Decided>, ScriptFailure> {
        self.refresh();
        let Some((route, captures)) = self.version.find(request) else {
            self.recent.see(request, false);
            return Ok(None);
        };
        let pattern = &self.patterns[route];
        let decided = |decision: &Option<Arc<Decision>>| {
            decision.as_ref().map(|decision| Decided {
                decision: decision.clone(),
                route: pattern.clone(),
            })
        };
        if let Some(remembered) = self.memo.find(route, request, &captures) {
            self.counts.count(Source::Hit);
            self.recent.see(request, false);
            return Ok(decided(remembered));
        }
        let Asked { decision, reads } = self.version.ask(route, request, &captures);
        self.recent.secrets_read(&reads);
        self.recent.see(request, true);
        let decision = match decision {
            Ok(decision) => decision.map(Arc::new),
            Err(error) => {
                self.counts.count(Source::Failure);
                return Err(error.into());
            }
        };
        if !reads.are_all_told() || self.memo.is_off() {
            self.counts.count(Source::Bypass);
        } else {
            self.counts.count(Source::Miss);
            self.memo
                .insert(route, request, &captures, reads.fields, decision.clone());
        }
        Ok(decided(&decision))
    }

    /// How often the memo had the decision, since this decider was made.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Decisions that are remembered now.
    pub fn remembered(&self) -> usize {
        self.memo.entries()
    }

    /// The request heads that were seen last, oldest first, with no secrets but those that the
    /// current version has read.
    pub fn recent(&mut self) -> Vec<Head> {
        self.refresh();
        self.recent.heads()
    }

    /// What this worker is asked from then on; to be taken once.
    pub fn questions(&mut self) -> Option<mpsc::Receiver<Question>> {
        self.questions.take()
    }

    fn refresh(&mut self) {
        let current = self.versions.load();
        if !Arc::ptr_eq(current, &self.version) {
            self.version = current.clone();
            self.counts.turn_to(self.version.number());
            self.memo = self.version.memo();
            self.patterns = patterns_of(&self.version);
            self.recent.forget_secrets();
        }
    }
}

fn patterns_of(version: &Version) -> Vec<Arc<str>> {
    version.patterns().map(Arc::from).collect()
}
