//! Two versions on the same requests: what another version would decide otherwise.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::decision::Decision;
use crate::script::error::ScriptError;
use crate::script::field::Reads;
use crate::script::head::Head;
use crate::script::recent::{MASK_TEXT, is_masked, secrets_read};
use crate::script::shown;
use crate::script::version::Version;
use crate::spec::WorkloadSpec;

/// Differences that are told one by one.
const DIFFERENCES_MAX: usize = 50;

/// Of these, those that stand in the log.
const DIFFERENCES_LOGGED: usize = 10;

/// New errors that are told.
const ERRORS_MAX: usize = 10;

/// What came out of it, as `GET /scripts` shows it too.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Report {
    /// Requests that both versions were asked about.
    pub compared: usize,
    /// Requests that say nothing, because the new version read a secret of them that is not kept.
    pub uncompared: usize,
    /// Requests that were left when the time was over.
    pub left_out: usize,
    /// Requests that the new version decides otherwise.
    pub changed: usize,
    /// At most 50, each with an example; alike ones are told once.
    pub differences: Vec<Difference>,
}

/// One change of decision, as it was seen first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub method: String,
    pub host: String,
    pub path: String,
    pub before: String,
    pub after: String,
    /// Requests that change from the one to the other.
    pub requests: usize,
}

impl Report {
    /// For the log; `None` when nothing changes.
    pub fn in_words(&self) -> Option<String> {
        if self.changed == 0 {
            return None;
        }
        let shown = self.differences.iter().take(DIFFERENCES_LOGGED);
        let mut lines: Vec<String> = shown
            .map(|difference| {
                let Difference {
                    method,
                    path,
                    before,
                    after,
                    requests,
                    ..
                } = difference;
                let times = match requests {
                    1 => String::new(),
                    n => format!(" ({n} requests)"),
                };
                let method = if method == "GET" {
                    String::new()
                } else {
                    format!("{method} ")
                };
                format!("  {method}{path}: {before} → {after}{times}")
            })
            .collect();
        if self.differences.len() > DIFFERENCES_LOGGED {
            lines.push("  … (GET /scripts has more)".to_owned());
        }
        Some(format!(
            "{} of the last {} requests are decided otherwise:\n{}",
            self.changed,
            self.compared,
            lines.join("\n")
        ))
    }
}

/// Asks both versions about each request, for at most `within`. `Err`: where the new version fails
/// and the old one did not.
pub fn compare(
    before: &Version,
    after: &Version,
    heads: &[Head],
    within: Duration,
) -> Result<Report, Vec<ScriptError>> {
    let deadline = Instant::now() + within;
    let mut report = Report::default();
    let mut errors: Vec<ScriptError> = Vec::new();
    // What came last is asked first: it says most about what comes next.
    for (n, head) in heads.iter().rev().enumerate() {
        if Instant::now() > deadline {
            report.left_out = heads.len() - n;
            break;
        }
        let (old, new) = (asked(before, head), asked(after, head));
        if is_masked(head, &old.reads) || is_masked(head, &new.reads) {
            report.uncompared += 1;
            continue;
        }
        report.compared += 1;
        match (&old.outcome, &new.outcome) {
            (Ok(_), Err(error)) => {
                let known = errors.iter().any(|e| {
                    (e.line, e.column, &e.file) == (error.line, error.column, &error.file)
                });
                if !known && errors.len() < ERRORS_MAX {
                    let mut error = error.clone();
                    let message = without_secrets(head, &new, error.message);
                    error.message = format!("{} {}: {message}", head.method, head.path);
                    errors.push(error);
                }
            }
            (Err(_), Err(_)) => {}
            (old_outcome, Ok(new_outcome)) => {
                let is_same = matches!(old_outcome, Ok(old) if old == new_outcome);
                if !is_same {
                    report.add(head, line(head, &old), line(head, &new));
                }
            }
        }
    }
    if errors.is_empty() {
        Ok(report)
    } else {
        Err(errors)
    }
}

/// What a version makes of a request: its decision, and the container that this would make.
struct Answered {
    reads: Reads,
    outcome: Result<(Option<Decision>, Option<WorkloadSpec>), ScriptError>,
}

fn asked(version: &Version, head: &Head) -> Answered {
    let evaluated = version.evaluate(&head.facts());
    let made = |decision: Option<Decision>| {
        let spec = match &decision {
            Some(Decision::Proxy(proxy)) => match &proxy.create {
                Some(create) => version.fill(&create.template, &create.vars)?,
                None => None,
            },
            _ => None,
        };
        Ok((decision, spec))
    };
    Answered {
        reads: evaluated.reads,
        outcome: evaluated.decision.and_then(made),
    }
}

impl Report {
    fn add(&mut self, head: &Head, before: String, mut after: String) {
        if before == after {
            after += " (with other values, or another container made from its template)";
        }
        self.changed += 1;
        let mut known = self.differences.iter_mut();
        if let Some(known) = known.find(|known| known.before == before && known.after == after) {
            known.requests += 1;
        } else if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(Difference {
                method: head.method.to_string(),
                host: head.host.clone(),
                path: head.path.clone(),
                before,
                after,
                requests: 1,
            });
        }
    }
}

fn line(head: &Head, answered: &Answered) -> String {
    let line = match &answered.outcome {
        Ok((decision, _)) => shown::line(decision.as_ref()),
        Err(error) => format!("error: {}", error.message),
    };
    without_secrets(head, answered, line)
}

/// What a script read of a secret may stand in what it says, and is nobody else's business.
fn without_secrets(head: &Head, answered: &Answered, mut text: String) -> String {
    for secret in secrets_read(head, &answered.reads) {
        text = text.replace(&secret, MASK_TEXT);
    }
    text
}
