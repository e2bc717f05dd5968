//! What the admin API needs of the scripts, and how it shows them.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::admin::problem::Problem;
use crate::decision::{ContainerRules, ScriptFailure};
use crate::script::error::{Place, ScriptError};
use crate::script::history::{Good, History, Refused, RollbackError, Told};
use crate::script::shadow::Report;
use crate::script::version::Version;
use crate::spec::WorkloadSpec;

/// The scripts that are asked now.
pub trait Templates: Send + Sync + 'static {
    /// Fills a template. `Ok(None)`: there is none of that name.
    fn fill(
        &self,
        template: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure>;

    /// The templates that there are, where that is known.
    fn names(&self) -> Vec<String>;

    /// `None` until scripts are loaded.
    fn loaded(&self) -> Option<ScriptsView>;

    /// The version that decides; `None` until scripts are loaded.
    fn serving(&self) -> Option<Arc<Version>>;

    /// See [`History::roll_back`].
    fn roll_back(&self, to: Option<u64>) -> Result<ScriptsView, RollbackError>;

    /// See [`History::activate`].
    fn activate(&self) -> ScriptsView;
}

/// What `POST /scripts/rollback` may be told.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The number of a kept version; the one before the one that serves where there is none.
    pub version: Option<u64>,
}

/// The scripts as the admin API shows them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScriptsView {
    /// The version that decides.
    pub version: u64,
    /// SHA-256 over file names and contents, in hex.
    pub hash: String,
    /// Since when it decides.
    pub since: String,
    /// Whether it is kept although the directory has had newer good content.
    pub rolled_back: bool,
    /// Why, where the gateway went back by itself.
    pub rolled_back_because: Option<String>,
    /// Its own tests, all passed.
    pub tests: usize,
    /// What it decides otherwise than the version before it; none for the first.
    pub shadow: Option<Report>,
    /// A good version that decides otherwise and waits for `POST /scripts/activate`.
    pub held: Option<HeldView>,
    pub routes: Vec<RouteView>,
    pub templates: Vec<String>,
    /// Why the directory's content is not what decides, while it is refused.
    pub refused: Option<RefusedView>,
    /// The versions that can be gone back to, oldest first.
    pub kept: Vec<KeptView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteView {
    pub pattern: String,
    pub file: String,
    pub line: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeldView {
    pub version: u64,
    pub hash: String,
    pub since: String,
    pub tests: usize,
    pub shadow: Option<Report>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefusedView {
    pub at: String,
    pub errors: Vec<ErrorView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorView {
    pub file: String,
    /// From 1; 0 when the place is not known.
    pub line: usize,
    pub column: usize,
    pub message: String,
    /// The source line with a caret below the column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptView {
    pub version: u64,
    pub hash: String,
    pub loaded_at: String,
}

impl From<Told> for ScriptsView {
    fn from(told: Told) -> Self {
        let serving = told.serving;
        let summary = serving.version.summary();
        let names = summary.templates.into_iter().map(|(name, _)| name);
        Self {
            version: serving.number,
            hash: serving.hash,
            since: shown(told.since),
            rolled_back: serving.number != told.newest,
            rolled_back_because: told.rolled_back_because.map(|reason| reason.to_string()),
            tests: serving.trial.tests,
            shadow: serving.trial.shadow,
            held: told.held.map(HeldView::from),
            routes: summary.routes.into_iter().map(RouteView::from).collect(),
            templates: names.collect(),
            refused: told.refused.map(RefusedView::from),
            kept: told.kept.iter().map(KeptView::from).collect(),
        }
    }
}

impl From<(String, Place)> for RouteView {
    fn from((pattern, place): (String, Place)) -> Self {
        Self {
            pattern,
            file: place.file.to_string(),
            line: place.line,
        }
    }
}

impl<V> From<Good<V>> for HeldView {
    fn from(held: Good<V>) -> Self {
        Self {
            version: held.number,
            hash: held.hash,
            since: shown(held.loaded_at),
            tests: held.trial.tests,
            shadow: held.trial.shadow,
        }
    }
}

impl From<Refused> for RefusedView {
    fn from(refused: Refused) -> Self {
        Self {
            at: shown(refused.at),
            errors: refused.errors.into_iter().map(ErrorView::from).collect(),
        }
    }
}

impl From<ScriptError> for ErrorView {
    fn from(error: ScriptError) -> Self {
        Self {
            excerpt: error.excerpt(),
            file: error.file,
            line: error.line,
            column: error.column,
            message: error.message,
        }
    }
}

impl<V> From<&Good<V>> for KeptView {
    fn from(kept: &Good<V>) -> Self {
        Self {
            version: kept.number,
            hash: kept.hash.clone(),
            loaded_at: shown(kept.loaded_at),
        }
    }
}

/// RFC 3339, in UTC.
fn shown(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

impl From<RollbackError> for Problem {
    fn from(error: RollbackError) -> Self {
        let detail = error.to_string();
        match error {
            RollbackError::NoneBefore { .. } => {
                Self::new(StatusCode::CONFLICT, "no_version_before", detail)
            }
            RollbackError::NotKept { .. } => Self::unprocessable("version_not_kept", detail),
        }
    }
}

impl Templates for History {
    fn fill(
        &self,
        template: &str,
        vars: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        self.scripts().template(template, vars)
    }

    fn names(&self) -> Vec<String> {
        let summary = self.scripts().current.load().summary();
        summary
            .templates
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    fn loaded(&self) -> Option<ScriptsView> {
        Some(self.tell().into())
    }

    fn serving(&self) -> Option<Arc<Version>> {
        Some(self.scripts().current.load_full())
    }

    fn roll_back(&self, to: Option<u64>) -> Result<ScriptsView, RollbackError> {
        History::roll_back(self, to).map(ScriptsView::from)
    }

    fn activate(&self) -> ScriptsView {
        History::activate(self).into()
    }
}
