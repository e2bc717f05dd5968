//! One request at a release, counted as it goes on and given back when it is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;

use super::{Stats, add};

/// How far an open request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The release wakes for it.
    Held,
    /// It is sent, and its answer has not begun.
    Waiting,
    /// Its answer is under way.
    Streaming,
    /// It is a tunnel now.
    Upgraded,
}

/// A request from its choice of a release to the last byte, or to its choice of another one.
#[derive(Debug)]
pub struct Visit {
    stats: Arc<Stats>,
    /// What it is counted as among the open ones.
    state: Option<State>,
    not_reached: bool,
    failed: bool,
    /// It is among the requests, or those that were turned over.
    counted: bool,
}

impl Visit {
    pub fn new(stats: Arc<Stats>) -> Self {
        Self {
            stats,
            state: None,
            not_reached: false,
            failed: false,
            counted: false,
        }
    }

    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// It has come so far now.
    pub fn enter(&mut self, state: State) {
        if self.state != Some(state) {
            self.leave();
            add(&self.stats.open[state as usize], 1);
            self.state = Some(state);
        }
    }

    /// A connection to the release could not be made.
    pub fn not_reached(&mut self) {
        if !self.not_reached {
            self.not_reached = true;
            add(&self.stats.connect_errors, 1);
        }
        self.fail();
    }

    /// The release began its answer, so long after the request had come, without what it was held.
    pub fn answered(&mut self, status: StatusCode, after: Duration) {
        self.stats.answer(status);
        self.count();
        self.stats.took(after);
        if status.is_server_error() {
            self.fail();
        }
    }

    /// The release has not brought its answer to its end: the client got its status, and not what it asked for.
    pub fn broke_off(&mut self) {
        add(&self.stats.broken_off, 1);
        self.fail();
    }

    /// The gateway answers in place of the release; `at_fault`: because of the release.
    pub fn refused(&mut self, status: StatusCode, at_fault: bool) {
        self.stats.answer(status);
        self.count();
        add(&self.stats.gateway_errors, 1);
        if at_fault {
            self.fail();
        }
    }

    /// The release, a canary, cannot be used, and the current one gets the request; `at_fault`:
    /// because it fails, not because nobody is to wake it, for instance.
    pub fn turned_over(mut self, at_fault: bool) {
        add(&self.stats.turned_over, 1);
        self.count();
        if at_fault {
            self.fail();
        }
    }

    fn fail(&mut self) {
        if !self.failed {
            self.failed = true;
            if !self.counted {
                add(&self.stats.unanswered, 1);
            }
            add(&self.stats.failed, 1);
        }
    }

    /// From now on it counts as what it became.
    fn count(&mut self) {
        if !self.counted {
            self.counted = true;
            if self.failed {
                self.stats.unanswered.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn leave(&mut self) {
        if let Some(state) = self.state.take() {
            self.stats.open[state as usize].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.leave();
    }
}
