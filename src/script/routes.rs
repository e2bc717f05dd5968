//! Which route a request belongs to: patterns of paths, with or without a host.
//!
//! A pattern is `/path`, `host/path` or `*.host/path`. In its path `{name}` stands for one segment
//! and `{*name}`, at the end, for everything that is left. `/a/{*rest}` also matches `/a/` and
//! `/a`, with an empty `rest`. Fixed text goes before `{name}`, and `{name}` before `{*name}`, at the
//! first place from the left where two patterns differ; a pattern with the request's host goes
//! before `*.host`, and both before one without a host.
//! Paths are matched as they were sent, still percent-encoded.

mod pattern;
#[cfg(test)]
mod tests;
mod why;

use std::collections::{HashMap, HashSet};

use matchit::{InsertError, Params, Router};

use crate::script::error::{Place, ScriptError};
use pattern::{Host, Pattern, Step, steps, text};

pub use why::Verdict;

/// What is between braces, by its name in the pattern; still percent-encoded.
pub type Captures<'a> = Params<'a, 'a>;

/// All patterns; a route is told by its number.
#[derive(Default)]
pub struct RouteTable {
    hosts: HashMap<Box<str>, Paths>,
    /// `.example.com` for `*.example.com`, longest first.
    suffixes: Vec<(Box<str>, Paths)>,
    any: Paths,
    /// By route, for people who ask why: no request looks at them.
    patterns: Vec<Pattern>,
}

/// The patterns of one host.
#[derive(Default)]
struct Paths {
    /// One router cannot have `{*rest}` where another pattern has `{name}`: such a pattern is in
    /// the next one. Of what they find the lowest rank goes first.
    routers: Vec<Router<Ranked>>,
}

/// A route and where it stands among all in order of precedence.
#[derive(Clone, Copy)]
struct Ranked {
    rank: usize,
    route: usize,
}

impl Paths {
    fn find<'a>(&'a self, path: &'a str) -> Option<(usize, Captures<'a>)> {
        let found = self
            .routers
            .iter()
            .filter_map(|router| router.at(path).ok());
        let first = found.min_by_key(|found| found.value.rank)?;
        Some((first.value.route, first.params))
    }

    fn insert(&mut self, path: &str, ranked: Ranked) -> Result<(), InsertError> {
        for router in &mut self.routers {
            match router.insert(path, ranked) {
                Err(InsertError::Conflict { .. }) => {}
                done => return done,
            }
        }
        let mut router = Router::new();
        router.insert(path, ranked)?;
        self.routers.push(router);
        Ok(())
    }
}

impl RouteTable {
    /// Every pattern that cannot be or is there twice is an error at its place.
    pub fn build(routes: &[(&str, &Place)]) -> Result<Self, Vec<ScriptError>> {
        let mut errors = Vec::new();
        let mut table = Self::default();
        let mut patterns = Vec::new();
        let mut taken: HashMap<(Host, Vec<Step>), usize> = HashMap::new();
        for (route, (written, place)) in routes.iter().enumerate() {
            let pattern = match Pattern::parse(written) {
                Ok(pattern) => pattern,
                Err(message) => {
                    errors.push(place.error(message));
                    continue;
                }
            };
            let matched = (pattern.host.clone(), steps(&pattern.segments).collect());
            match taken.insert(matched, route) {
                Some(other) => {
                    let (other_text, other_place) = routes[other];
                    errors.push(place.error(format!(
                        "the route {written:?} matches the same as {other_text:?} at {other_place}"
                    )));
                }
                None => patterns.push((route, pattern)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut ranked: Vec<_> = patterns.iter().collect();
        ranked.sort_by(|(_, one), (_, other)| one.precedence(other));
        let mut inserted: HashSet<(&Host, Vec<Step>)> = HashSet::new();
        for (rank, (route, pattern)) in ranked.into_iter().enumerate() {
            for path in pattern.paths() {
                // What `{*rest}` matches when it is empty may be a pattern of its own, or be
                // matched by one that goes first.
                if !inserted.insert((&pattern.host, steps(&path).collect())) {
                    continue;
                }
                let ranked = Ranked {
                    rank,
                    route: *route,
                };
                if let Err(error) = table.paths(&pattern.host).insert(&text(&path), ranked) {
                    let (pattern, place) = routes[*route];
                    errors.push(place.error(format!("the pattern {pattern:?} cannot be: {error}")));
                }
            }
        }
        table
            .suffixes
            .sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        table.patterns = patterns.into_iter().map(|(_, pattern)| pattern).collect();
        if errors.is_empty() {
            Ok(table)
        } else {
            Err(errors)
        }
    }

    /// The patterns of a host, which may be the first of it.
    fn paths(&mut self, host: &Host) -> &mut Paths {
        match host {
            Host::Any => &mut self.any,
            Host::Exactly(host) => self.hosts.entry(host.as_str().into()).or_default(),
            Host::Below(suffix) => {
                let at = self.suffixes.iter().position(|(is, _)| **is == **suffix);
                let at = at.unwrap_or_else(|| {
                    self.suffixes
                        .push((suffix.as_str().into(), Paths::default()));
                    self.suffixes.len() - 1
                });
                &mut self.suffixes[at].1
            }
        }
    }

    /// The route for a host (without port) and a path.
    pub fn find<'a>(&'a self, host: &str, path: &'a str) -> Option<(usize, Captures<'a>)> {
        if !(self.hosts.is_empty() && self.suffixes.is_empty()) {
            let lower;
            let host = host.strip_suffix('.').unwrap_or(host);
            let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
                lower = host.to_ascii_lowercase();
                lower.as_str()
            } else {
                host
            };
            let exact = self.hosts.get(host).and_then(|paths| paths.find(path));
            if exact.is_some() {
                return exact;
            }
            let below = self
                .suffixes
                .iter()
                .filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(&**suffix))
                .find_map(|(_, paths)| paths.find(path));
            if below.is_some() {
                return below;
            }
        }
        self.any.find(path)
    }
}
