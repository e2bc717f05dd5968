//! How a release did lately: what went wrong a week ago is no measure for the one that follows it.

use std::time::Duration;

use crate::clock::Moment;
use crate::deploy::plan::Tally;

#[cfg(test)]
mod tests;

/// Counts from the last to the last but one of spans that follow one another. Each lasts at least for a
/// time and has at least so many requests, so that a quiet hour is not taken for a good one.
#[derive(Debug, Clone, PartialEq)]
pub struct Lately {
    span: Span,
    /// Where the last span but one began.
    last_but_one: Tally,
    /// Where the last one did, when.
    last: (Moment, Tally),
}

/// The least that a span is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    pub time: Duration,
    pub requests: u64,
}

impl Lately {
    /// From here on, as `counted` stands now.
    pub fn begin(span: Span, now: Moment, counted: Tally) -> Self {
        Self {
            span,
            last_but_one: counted,
            last: (now, counted),
        }
    }

    /// To be told from time to time, how the counts stand. Both only grow.
    pub fn note(&mut self, now: Moment, counted: Tally) {
        let (since, begun) = self.last;
        let is_long = now.since(since) >= self.span.time;
        if is_long && counted.since(begun).requests >= self.span.requests {
            self.last_but_one = begun;
            self.last = (now, counted);
        }
    }

    /// What of these counts is of lately.
    pub fn of(&self, counted: Tally) -> Tally {
        counted.since(self.last_but_one)
    }
}
