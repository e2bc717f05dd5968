//! Tests of scripts as their authors meet them: a directory of files, requests, answers.

mod apps;
mod decisions;
mod explaining;
mod files;
mod held;
mod helpers;
mod hooks;
mod hours;
mod memo;
mod memo_random;
mod selftests;
mod shadows;
mod signs;
mod swaps;
mod traps;
mod vars;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tempfile::TempDir;

use crate::config::{Given, ScriptLimits};
use crate::decision::{Decision, Destination, ProxyDecision};
use crate::script::version::{ScriptError, Version};

/// A scripts directory that is removed with it.
pub struct Dir(TempDir);

impl Dir {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    pub fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    /// With the default limits but for CPU time, which a busy machine and a debug build use up.
    pub fn load(&self) -> Result<Version, Vec<ScriptError>> {
        self.load_with(&unhurried())
    }

    pub fn load_with(&self, limits: &ScriptLimits) -> Result<Version, Vec<ScriptError>> {
        self.load_given(&(*limits).into())
    }

    pub fn load_given(&self, given: &Given) -> Result<Version, Vec<ScriptError>> {
        Version::load(self.0.path(), given, 1)
    }

    /// The errors of loading, without the directory's name.
    pub fn errors(&self) -> Vec<String> {
        self.without_dir(self.load())
    }

    pub fn without_dir(&self, loaded: Result<Version, Vec<ScriptError>>) -> Vec<String> {
        let dir = format!("{}/", self.0.path().display());
        let errors = loaded.err().unwrap_or_default();
        errors
            .iter()
            .map(|error| error.to_string().replace(&dir, ""))
            .collect()
    }
}

/// The default limits without the one of time, which a busy machine and a debug build use up.
pub fn unhurried() -> ScriptLimits {
    ScriptLimits {
        cpu_time_max: Duration::from_secs(20),
        load_cpu_time_max: Duration::from_secs(20),
        ..ScriptLimits::default()
    }
}

/// Loads one file, `a.rhai`.
pub fn load(text: &str) -> Version {
    match Dir::new(&[("a.rhai", text)]).load() {
        Ok(version) => version,
        Err(errors) => panic!("{}", errors[0]),
    }
}

/// The errors of one file, `a.rhai`.
pub fn errors(text: &str) -> Vec<String> {
    Dir::new(&[("a.rhai", text)]).errors()
}

pub use crate::script::head::Head as Sent;

impl Sent {
    pub fn get(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: Method::GET,
            scheme: "https",
            host: "Example.com".to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: HeaderMap::new(),
            client: [192, 0, 2, 7].into(),
            at: 1_767_614_400,
        }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.headers.append(HeaderName::from_static(name), value);
        self
    }
}

/// What a version decides for a GET; a failure is its message without the directory.
pub fn ask(version: &Version, target: &str) -> Result<Option<Decision>, String> {
    ask_sent(version, &Sent::get(target))
}

pub fn ask_sent(version: &Version, sent: &Sent) -> Result<Option<Decision>, String> {
    match version.decide(&sent.facts()) {
        Ok(decided) => Ok(decided.map(|decided| (*decided.decision).clone())),
        Err(failure) => {
            let at = failure.message.rfind("a.rhai").unwrap_or(0);
            Err(failure.message[at..].to_owned())
        }
    }
}

/// The body of a handler's `respond(200, …)`.
pub fn said(version: &Version, sent: &Sent) -> String {
    match ask_sent(version, sent) {
        Ok(Some(Decision::Respond(reply))) => reply.body.to_string(),
        other => panic!("{other:?}"),
    }
}

pub fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// The decision, which must be to forward.
pub fn proxied(decision: Result<Option<Decision>, String>) -> ProxyDecision {
    match decision {
        Ok(Some(Decision::Proxy(proxy))) => proxy,
        other => panic!("{other:?}"),
    }
}

/// The container that a decision is for.
pub fn workload_of(proxy: &ProxyDecision) -> &str {
    match &proxy.destination {
        Destination::Workload(name) => name.as_str(),
        Destination::App { name, .. } => panic!("{name} is an application"),
    }
}
