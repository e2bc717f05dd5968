//! Which version serves, which could, and why newer content does not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use crate::script::error::ScriptError;
use crate::script::trial::Trial;

/// Versions that are kept to go back to, besides the newest.
pub const KEPT_MAX: usize = 5;

/// A version that passed every check. `V` is the version itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Good<V> {
    pub number: u64,
    /// SHA-256 over file names and contents, in hex.
    pub hash: String,
    pub loaded_at: SystemTime,
    pub version: V,
    /// What was tried before it was found good.
    pub trial: Trial,
}

/// Content that did not become a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    pub at: SystemTime,
    pub errors: Vec<ScriptError>,
}

/// Why there is no going back to a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    #[error("there is no good version before version {serving}")]
    NoneBefore { serving: u64 },
    #[error("version {asked} is not kept (kept: {})", numbers(.kept))]
    NotKept { asked: u64, kept: Vec<u64> },
}

fn numbers(kept: &[u64]) -> String {
    let numbers: Vec<String> = kept.iter().map(u64::to_string).collect();
    numbers.join(", ")
}

/// What became of good content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It serves from now on.
    Serves,
    /// It is good and decides otherwise than the one that serves; somebody has to say yes.
    Held,
    /// It is what the newest version was made of, or the one that serves: there is nothing to do.
    Known,
}

/// Which version serves, and which could. It is rolled back while the one that serves is not the
/// newest.
#[derive(Debug)]
pub struct Ledger<V> {
    /// In order of their numbers.
    pub kept: VecDeque<Good<V>>,
    pub serving: Good<V>,
    pub since: SystemTime,
    /// The number of the version of the directory's last good content.
    pub newest: u64,
    /// The directory's good content, while it waits for a word.
    pub held: Option<Good<V>>,
    pub refused: Option<Refused>,
    /// Why the gateway itself went back to the version that serves.
    pub rolled_back_because: Option<Arc<str>>,
}

impl<V: Clone> Ledger<V> {
    pub fn new(first: Good<V>) -> Self {
        Self {
            since: first.loaded_at,
            newest: first.number,
            serving: first.clone(),
            kept: VecDeque::from([first]),
            held: None,
            refused: None,
            rolled_back_because: None,
        }
    }

    /// What the next version will be called.
    pub fn next_number(&self) -> u64 {
        let last = self.held.as_ref().or(self.kept.back());
        last.map_or(0, |last| last.number) + 1
    }

    /// The directory's content is good. With `hold` it serves only when somebody says so.
    pub fn take(&mut self, good: Good<V>, hold: bool) -> Taken {
        self.refused = None;
        if good.hash == self.serving.hash {
            self.held = None;
            self.newest = self.serving.number;
            return Taken::Known;
        }
        let newest = self.kept.iter().find(|kept| kept.number == self.newest);
        if newest.is_some_and(|newest| newest.hash == good.hash) {
            self.held = None;
            return Taken::Known;
        }
        if self
            .held
            .as_ref()
            .is_some_and(|held| held.hash == good.hash)
        {
            return Taken::Known;
        }
        if hold {
            self.held = Some(good);
            return Taken::Held;
        }
        self.admit(good.loaded_at, good);
        Taken::Serves
    }

    /// The directory's content is not good.
    pub fn refuse(&mut self, refused: Refused) {
        self.held = None;
        self.refused = Some(refused);
    }

    /// Goes back to a kept version, or to the one before the one that serves.
    pub fn roll_back(&mut self, to: Option<u64>, now: SystemTime) -> Result<(), RollbackError> {
        let serving = self.serving.number;
        let mut kept = self.kept.iter();
        let target = match to {
            Some(number) => kept.find(|kept| kept.number == number),
            None => kept.rfind(|kept| kept.number < serving),
        };
        let Some(target) = target.cloned() else {
            return Err(match to {
                None => RollbackError::NoneBefore { serving },
                Some(asked) => RollbackError::NotKept {
                    asked,
                    kept: self.kept.iter().map(|kept| kept.number).collect(),
                },
            });
        };
        self.serve(now, target);
        Ok(())
    }

    /// Lets the version serve that is held, or takes the newest good one again.
    pub fn activate(&mut self, now: SystemTime) {
        if let Some(held) = self.held.take() {
            return self.admit(now, held);
        }
        let newest = self.kept.iter().find(|kept| kept.number == self.newest);
        if let Some(newest) = newest.cloned() {
            self.serve(now, newest);
        }
    }

    fn admit(&mut self, now: SystemTime, good: Good<V>) {
        self.held = None;
        self.newest = good.number;
        self.kept.push_back(good.clone());
        self.serve(now, good);
        while self.kept.len() > KEPT_MAX + 1 {
            self.kept.pop_front();
        }
    }

    fn serve(&mut self, now: SystemTime, good: Good<V>) {
        if good.number != self.serving.number {
            self.since = now;
            self.serving = good;
            self.rolled_back_because = None;
        }
    }
}

#[cfg(test)]
mod tests;
