//! The versions that were good, the one that serves, and why newer content is refused.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::script::current::Scripts;
use crate::script::error::ScriptError;
use crate::script::version::Version;

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
    /// It is what the newest version was made of, or the one that serves: there is nothing to do.
    Known,
}

/// Which version serves, and which could. It is rolled back while the one that serves is not the
/// newest.
#[derive(Debug)]
pub struct Ledger<V> {
    /// In order of their numbers.
    kept: VecDeque<Good<V>>,
    serving: Good<V>,
    since: SystemTime,
    /// The number of the version of the directory's last good content.
    newest: u64,
    refused: Option<Refused>,
}

impl<V: Clone> Ledger<V> {
    pub fn new(first: Good<V>) -> Self {
        Self {
            since: first.loaded_at,
            newest: first.number,
            serving: first.clone(),
            kept: VecDeque::from([first]),
            refused: None,
        }
    }

    /// What the next version will be called.
    pub fn next_number(&self) -> u64 {
        self.kept.back().map_or(0, |last| last.number) + 1
    }

    /// The directory's content is good.
    pub fn take(&mut self, good: Good<V>) -> Taken {
        self.refused = None;
        if good.hash == self.serving.hash {
            self.newest = self.serving.number;
            return Taken::Known;
        }
        let newest = self.kept.iter().find(|kept| kept.number == self.newest);
        if newest.is_some_and(|newest| newest.hash == good.hash) {
            return Taken::Known;
        }
        self.newest = good.number;
        self.kept.push_back(good.clone());
        self.serve(good.loaded_at, good);
        while self.kept.len() > KEPT_MAX + 1 {
            self.kept.pop_front();
        }
        Taken::Serves
    }

    /// The directory's content is not good.
    pub fn refuse(&mut self, refused: Refused) {
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

    /// Takes the newest good version again.
    pub fn activate(&mut self, now: SystemTime) {
        let newest = self.kept.iter().find(|kept| kept.number == self.newest);
        if let Some(newest) = newest.cloned() {
            self.serve(now, newest);
        }
    }

    fn serve(&mut self, now: SystemTime, good: Good<V>) {
        if good.number != self.serving.number {
            self.since = now;
            self.serving = good;
        }
    }
}

/// The ledger for people.
pub struct Told {
    pub serving: Arc<Version>,
    pub since: SystemTime,
    /// The newest good version; another one than that which serves after a rollback.
    pub newest: u64,
    pub refused: Option<Refused>,
    /// In order of their numbers, the one that serves included while it is kept.
    pub kept: Vec<Good<Arc<Version>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    /// `loaded`, `refused`, `rolled_back`, `activated`.
    result: &'static str,
}

struct Metrics {
    reloads: Family<ReloadLabels, Counter>,
    version: Gauge,
    refused: Gauge,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reloads: Family::default(),
            version: Gauge::default(),
            refused: Gauge::default(),
        };
        registry.register(
            "script_reloads",
            "Changes of the scripts, by what became of them",
            metrics.reloads.clone(),
        );
        registry.register(
            "script_version",
            "Number of the version of the scripts that decides",
            metrics.version.clone(),
        );
        registry.register(
            "script_refused",
            "1 while the content of the scripts directory is refused",
            metrics.refused.clone(),
        );
        metrics
    }
}

/// The one place where the version that serves is exchanged.
pub struct History {
    scripts: Arc<Scripts>,
    ledger: Mutex<Ledger<Arc<Version>>>,
    metrics: Metrics,
    /// Counts what became of the directory's content, and rollbacks.
    changes: watch::Sender<u64>,
}

impl History {
    /// Begins with the version that serves.
    pub fn new(scripts: Arc<Scripts>, registry: &mut Registry) -> Arc<Self> {
        let metrics = Metrics::register(registry);
        let first = good(scripts.current.load_full());
        metrics.version.set(first.number.cast_signed());
        Arc::new(Self {
            scripts,
            ledger: Mutex::new(Ledger::new(first)),
            metrics,
            changes: watch::Sender::new(0),
        })
    }

    pub fn scripts(&self) -> &Arc<Scripts> {
        &self.scripts
    }

    /// What the next version will be called.
    pub fn next_number(&self) -> u64 {
        self.ledger.lock().next_number()
    }

    /// Lets a version serve that passed every check.
    pub fn take(&self, version: Version) -> Taken {
        let good = good(Arc::new(version));
        let (number, hash) = (good.number, good.hash.clone());
        self.change(|ledger| {
            let was_refused = ledger.refused.is_some();
            let taken = ledger.take(good);
            if taken == Taken::Serves {
                self.count("loaded");
                tracing::info!(
                    version = number,
                    hash,
                    "version {number} of the scripts serves"
                );
            } else if was_refused {
                let serving = ledger.serving.number;
                tracing::info!("the scripts are good again; version {serving} serves");
            }
            taken
        })
    }

    /// Keeps the version that serves, and says why.
    pub fn refuse(&self, errors: Vec<ScriptError>) {
        self.change(|ledger| {
            self.count("refused");
            let listed: Vec<String> = errors.iter().map(ToString::to_string).collect();
            tracing::error!(
                "the changed scripts are refused; version {} serves on:\n{}",
                ledger.serving.number,
                listed.join("\n")
            );
            ledger.refuse(Refused {
                at: SystemTime::now(),
                errors,
            });
        });
    }

    /// Goes back to a kept version, or to the one before the one that serves. It serves until the
    /// directory has other good content, or until [`History::activate`].
    pub fn roll_back(&self, to: Option<u64>) -> Result<Told, RollbackError> {
        self.change(|ledger| {
            ledger.roll_back(to, SystemTime::now())?;
            self.count("rolled_back");
            let (number, newest) = (ledger.serving.number, ledger.newest);
            tracing::warn!(
                version = number,
                newest,
                "rolled back to version {number} of the scripts"
            );
            Ok(told(ledger))
        })
    }

    /// Takes the newest good version again after a rollback.
    pub fn activate(&self) -> Told {
        self.change(|ledger| {
            ledger.activate(SystemTime::now());
            self.count("activated");
            let number = ledger.serving.number;
            tracing::info!(
                version = number,
                "version {number} of the scripts serves again"
            );
            told(ledger)
        })
    }

    pub fn tell(&self) -> Told {
        told(&self.ledger.lock())
    }

    /// Changes whenever another version serves, and whenever content is refused or good again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Ledger<Arc<Version>>) -> T) -> T {
        let mut ledger = self.ledger.lock();
        let result = change(&mut ledger);
        let serving = &ledger.serving.version;
        if !Arc::ptr_eq(&self.scripts.current.load(), serving) {
            self.scripts.current.store(serving.clone());
        }
        self.metrics.version.set(serving.number().cast_signed());
        self.metrics.refused.set(ledger.refused.is_some().into());
        drop(ledger);
        self.changes.send_modify(|count| *count += 1);
        result
    }

    fn count(&self, result: &'static str) {
        self.metrics
            .reloads
            .get_or_create(&ReloadLabels { result })
            .inc();
    }
}

fn good(version: Arc<Version>) -> Good<Arc<Version>> {
    Good {
        number: version.number(),
        hash: version.hash().to_owned(),
        loaded_at: SystemTime::now(),
        version,
    }
}

fn told(ledger: &Ledger<Arc<Version>>) -> Told {
    Told {
        serving: ledger.serving.version.clone(),
        since: ledger.since,
        newest: ledger.newest,
        refused: ledger.refused.clone(),
        kept: ledger.kept.iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
