//! What a release has done: requests by status, their times, bytes, and what is open now.

/// Counted by all workers at once; reading it stops nobody.
#[derive(Debug, Default)]
pub struct Stats {}
