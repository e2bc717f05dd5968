//! Every step from files to a version that may serve. Each can refuse, with all that it found.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use crate::config::{Given, Shadow};
use crate::script::error::ScriptError;
use crate::script::head::Head;
use crate::script::shadow::{self, Report};
use crate::script::version::{Version, on_a_deep_stack};

/// For asking two versions about the requests seen last.
const SHADOW_TIME: Duration = Duration::from_millis(100);

/// What a version was tried on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trial {
    /// Its own tests, all passed.
    pub tests: usize,
    /// None for the first version, or where requests are not tried.
    pub shadow: Option<Report>,
}

/// Reads, compiles, runs the top level, checks, and runs the scripts' own tests.
///
/// # Errors
/// Everything that is wrong: with the files, or else with the tests.
pub fn load(dir: &Path, given: &Given, number: u64) -> Result<Version, Vec<ScriptError>> {
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let version = Version::load(dir, given, number)?;
        let outcomes = on_a_deep_stack(|| version.test(|_| true));
        let failed: Vec<ScriptError> = outcomes
            .into_iter()
            .filter_map(|outcome| {
                let mut error = outcome.result.err()?;
                error.message = format!("test {} failed: {}", outcome.name, error.message);
                Some(error)
            })
            .collect();
        if failed.is_empty() {
            Ok(version)
        } else {
            Err(failed)
        }
    }));
    tried.unwrap_or_else(|panic| Err(vec![broken(dir, panic.as_ref())]))
}

/// Tries a version on the requests that were seen last, beside the one that serves.
///
/// # Errors
/// Where it fails and the one that serves does not.
pub fn compare(
    serving: &Version,
    version: &Version,
    heads: &[Head],
    mode: Shadow,
) -> Result<Trial, Vec<ScriptError>> {
    let report = match mode {
        Shadow::Off => None,
        Shadow::Report | Shadow::Hold => Some(on_a_deep_stack(|| {
            shadow::compare(serving, version, heads, SHADOW_TIME)
        })?),
    };
    Ok(Trial {
        tests: version.test_names().len(),
        shadow: report,
    })
}

/// A panic of the loader must not end the watching.
fn broken(dir: &Path, panic: &(dyn Any + Send)) -> ScriptError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    ScriptError {
        file: dir.display().to_string(),
        line: 0,
        column: 0,
        message: format!(
            "loading them failed inside of the gateway, which is a defect of it: {}",
            text.unwrap_or_default()
        ),
        source_line: None,
    }
}
