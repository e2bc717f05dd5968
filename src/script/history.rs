//! The one place where the version that serves is exchanged, and what is told of it.

mod ledger;
mod metrics;

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use self::ledger::Ledger;
pub use self::ledger::{Good, KEPT_MAX, Refused, RollbackError, Taken};
use self::metrics::Metrics;
use crate::script::current::Scripts;
use crate::script::error::ScriptError;
use crate::script::trial::Trial;
use crate::script::version::Version;

/// The ledger for people.
pub struct Told {
    pub serving: Good<Arc<Version>>,
    pub since: SystemTime,
    /// The newest good version; another one than that which serves after a rollback.
    pub newest: u64,
    /// Good content that decides otherwise and waits for a word.
    pub held: Option<Good<Arc<Version>>>,
    pub refused: Option<Refused>,
    /// Why the gateway itself went back to the version that serves.
    pub rolled_back_because: Option<Arc<str>>,
    /// In order of their numbers, the one that serves included while it is kept.
    pub kept: Vec<Good<Arc<Version>>>,
}

impl Told {
    /// Decisions that were asked of the version that serves, and its failures of all kinds.
    pub fn failures_of(&self, scripts: &Scripts) -> (u64, u64) {
        let (asked, failed) = scripts.asked_and_failed(self.serving.number);
        (asked, failed + self.serving.version.failures())
    }
}

/// Every version that can serve, and the one that does.
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
        let metrics = Metrics::register(registry, scripts.clone());
        let version = scripts.current.load_full();
        let trial = Trial {
            tests: version.test_names().len(),
            shadow: None,
        };
        let first = good(version, trial);
        metrics.serves(first.number);
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

    /// Lets a version serve that passed every check; with `hold` only when somebody says so.
    pub fn take(&self, version: Version, trial: Trial, hold: bool) -> Taken {
        let good = good(Arc::new(version), trial);
        let (number, hash) = (good.number, good.hash.clone());
        let changes = good
            .trial
            .shadow
            .as_ref()
            .and_then(|report| report.in_words());
        let (taken, was_refused, serving) = self.change(|ledger| {
            let was_refused = ledger.refused.is_some();
            (ledger.take(good, hold), was_refused, ledger.serving.number)
        });
        match taken {
            Taken::Serves => {
                self.metrics.count("loaded");
                tracing::info!(
                    version = number,
                    hash,
                    "version {number} of the scripts serves"
                );
            }
            Taken::Held => {
                self.metrics.count("held");
                tracing::warn!(
                    version = number,
                    hash,
                    "version {number} of the scripts is good and held back until POST /scripts/activate; \
                     version {serving} serves on"
                );
            }
            Taken::Known if was_refused => {
                tracing::info!("the scripts are good again; version {serving} serves");
            }
            Taken::Known => {}
        }
        // In lines of its own, which are lines in a text log.
        if let Some(words) = changes.filter(|_| taken != Taken::Known) {
            tracing::info!("{words}");
        }
        taken
    }

    /// Keeps the version that serves, and says why.
    pub fn refuse(&self, errors: Vec<ScriptError>) {
        let listed: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let serving = self.change(|ledger| {
            ledger.refuse(Refused {
                at: SystemTime::now(),
                errors,
            });
            ledger.serving.number
        });
        self.metrics.count("refused");
        tracing::error!(
            "the changed scripts are refused; version {serving} serves on:\n{}",
            listed.join("\n")
        );
    }

    /// Goes back to a kept version, or to the one before the one that serves. It serves until the
    /// directory has other good content, or until [`History::activate`].
    pub fn roll_back(&self, to: Option<u64>) -> Result<Told, RollbackError> {
        let told = self.change(|ledger| {
            ledger.roll_back(to, SystemTime::now())?;
            Ok(told(ledger))
        })?;
        self.metrics.count("rolled_back");
        let number = told.serving.number;
        tracing::warn!(
            version = number,
            newest = told.newest,
            "rolled back to version {number} of the scripts"
        );
        Ok(told)
    }

    /// The same on the gateway's own account, if `from` still serves.
    pub fn roll_back_from(&self, from: u64, reason: &str) {
        let back = self.change(|ledger| {
            if ledger.serving.number != from {
                return None;
            }
            let back = ledger.roll_back(None, SystemTime::now());
            Some(back.map(|()| {
                ledger.rolled_back_because = Some(reason.into());
                ledger.serving.number
            }))
        });
        match back {
            Some(Ok(number)) => {
                self.metrics.count("rolled_back_by_itself");
                tracing::error!(
                    version = number,
                    "{reason}; rolled back to version {number} of the scripts"
                );
            }
            Some(Err(error)) => {
                tracing::error!("{reason}; it serves on all the same: {error}");
            }
            None => {}
        }
    }

    /// Lets the version serve that is held, or takes the newest good one again after a rollback.
    pub fn activate(&self) -> Told {
        let told = self.change(|ledger| {
            ledger.activate(SystemTime::now());
            told(ledger)
        });
        self.metrics.count("activated");
        let number = told.serving.number;
        tracing::info!(
            version = number,
            "version {number} of the scripts serves, as it was told to"
        );
        told
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
        self.metrics.serves(serving.number());
        self.metrics
            .waits(ledger.refused.is_some(), ledger.held.is_some());
        drop(ledger);
        self.changes.send_modify(|count| *count += 1);
        result
    }
}

fn good(version: Arc<Version>, trial: Trial) -> Good<Arc<Version>> {
    Good {
        number: version.number(),
        hash: version.hash().to_owned(),
        loaded_at: SystemTime::now(),
        version,
        trial,
    }
}

fn told(ledger: &Ledger<Arc<Version>>) -> Told {
    Told {
        serving: ledger.serving.clone(),
        since: ledger.since,
        newest: ledger.newest,
        held: ledger.held.clone(),
        refused: ledger.refused.clone(),
        rolled_back_because: ledger.rolled_back_because.clone(),
        kept: ledger.kept.iter().cloned().collect(),
    }
}
