//! Which route a request belongs to: patterns of paths, with or without a host.
//!
//! A pattern is `/path`, `host/path` or `*.host/path`. In its path `{name}` stands for one segment
//! and `{*name}`, at the end, for everything that is left. `/a/{*rest}` also matches `/a/` and
//! `/a`, with an empty `rest`. Fixed text goes before `{name}`, and `{name}` before `{*name}`; a
//! pattern with the request's host goes before `*.host`, and both before one without a host.
//! Paths are matched as they were sent, still percent-encoded.

use std::collections::HashMap;

use matchit::{InsertError, Params, Router};

use crate::script::error::{Place, ScriptError};

/// What is between braces, by its name in the pattern; still percent-encoded.
pub type Captures<'a> = Params<'a, 'a>;

/// All patterns; a route is told by its number.
#[derive(Default)]
pub struct RouteTable {
    hosts: HashMap<Box<str>, Paths>,
    /// `.example.com` for `*.example.com`, longest first.
    suffixes: Vec<(Box<str>, Paths)>,
    any: Paths,
}

/// The patterns of one host.
#[derive(Default)]
struct Paths {
    first: Router<usize>,
    /// Patterns with `{*rest}` where another has `{name}` at the same place, which one router
    /// cannot have both of. They are asked for what the first one does not match.
    second: Router<usize>,
}

impl Paths {
    fn find<'a>(&'a self, path: &'a str) -> Option<(usize, Captures<'a>)> {
        let found = self.first.at(path).or_else(|_| self.second.at(path));
        found.ok().map(|found| (*found.value, found.params))
    }

    fn insert(&mut self, path: &str, route: usize) -> Result<(), InsertError> {
        match self.first.insert(path, route) {
            Err(InsertError::Conflict { .. }) => self.second.insert(path, route),
            done => done,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Host {
    Any,
    Exactly(String),
    /// With the leading dot.
    Below(String),
}

/// A pattern, taken apart.
struct Pattern {
    host: Host,
    path: String,
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self, String> {
        let Some(slash) = pattern.find('/') else {
            return Err(format!(
                "the pattern {pattern:?} has no '/': a pattern is \"/path\" or \"host/path\""
            ));
        };
        let (host, path) = pattern.split_at(slash);
        if let Some(odd) = path
            .chars()
            .find(|c| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#'))
        {
            return Err(format!(
                "the pattern {pattern:?} has {odd:?}, which no path has"
            ));
        }
        let host = host.to_ascii_lowercase();
        let (host, bare) = match host.strip_prefix("*.") {
            _ if host.is_empty() => (Host::Any, "any".to_owned()),
            Some(bare) => (Host::Below(format!(".{bare}")), bare.to_owned()),
            None => (Host::Exactly(host.clone()), host),
        };
        let is_host = !bare.is_empty()
            && bare
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if !is_host {
            return Err(format!(
                "{bare:?} in the pattern {pattern:?} is not a host name (it has no port; \"*\" stands only at the beginning)"
            ));
        }
        Ok(Self {
            host,
            path: path.to_owned(),
        })
    }

    /// What is before `{*name}` when the pattern ends in it.
    fn before_rest(&self) -> Option<&str> {
        let at = self.path.rfind("{*")?;
        let whole_segment = self.path[..at].ends_with('/') && self.path.ends_with('}');
        whole_segment.then(|| &self.path[..at])
    }
}

/// The path with its names taken away: equal for patterns that match the same.
fn shape(path: &str) -> String {
    let mut shape = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            '*' => {}
            _ if inside => continue,
            _ => {}
        }
        shape.push(c);
    }
    shape
}

impl RouteTable {
    /// Every pattern that cannot be or is there twice is an error at its place.
    pub fn build(routes: &[(&str, &Place)]) -> Result<Self, Vec<ScriptError>> {
        let mut errors = Vec::new();
        let mut table = Self::default();
        let mut patterns = Vec::new();
        let mut taken: HashMap<(Host, String), usize> = HashMap::new();
        for (route, (text, place)) in routes.iter().enumerate() {
            let pattern = match Pattern::parse(text) {
                Ok(pattern) => pattern,
                Err(message) => {
                    errors.push(place.error(message));
                    continue;
                }
            };
            match taken.insert((pattern.host.clone(), shape(&pattern.path)), route) {
                Some(other) => {
                    let (other_text, other_place) = routes[other];
                    errors.push(place.error(format!(
                        "the route {text:?} matches the same as {other_text:?} at {other_place}"
                    )));
                }
                None => patterns.push((route, pattern)),
            }
        }
        // A router takes `{*rest}` beside nothing else, so that the more special go in first.
        let (mut open, fixed): (Vec<_>, Vec<_>) = patterns
            .iter()
            .partition(|(_, pattern)| pattern.path.contains("{*"));
        open.sort_by_key(|(_, pattern)| std::cmp::Reverse(pattern.path.matches('/').count()));
        for (route, pattern) in &fixed {
            table.insert(*route, &pattern.host, &pattern.path, routes, &mut errors);
        }
        for (route, pattern) in &open {
            let Some(before) = pattern.before_rest() else {
                continue;
            };
            for path in [before, before.strip_suffix('/').unwrap_or("")] {
                let key = (pattern.host.clone(), shape(path));
                if !path.is_empty() && !taken.contains_key(&key) {
                    taken.insert(key, *route);
                    table.insert(*route, &pattern.host, path, routes, &mut errors);
                }
            }
        }
        for (route, pattern) in &open {
            table.insert(*route, &pattern.host, &pattern.path, routes, &mut errors);
        }
        table
            .suffixes
            .sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        if errors.is_empty() {
            Ok(table)
        } else {
            Err(errors)
        }
    }

    fn insert(
        &mut self,
        route: usize,
        host: &Host,
        path: &str,
        routes: &[(&str, &Place)],
        errors: &mut Vec<ScriptError>,
    ) {
        let paths = match host {
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
        };
        let Err(error) = paths.insert(path, route) else {
            return;
        };
        let (text, place) = routes[route];
        let message = match error {
            InsertError::Conflict { with } => {
                let other = routes
                    .iter()
                    .enumerate()
                    .find(|(other, (text, _))| *other != route && text.ends_with(&with));
                match other {
                    Some((_, (other_text, other_place))) => format!(
                        "the route {text:?} and {other_text:?} at {other_place} cannot both be: \
                         they overlap and neither is the more special one"
                    ),
                    None => format!("the route {text:?} overlaps with the pattern {with:?}"),
                }
            }
            InsertError::InvalidParamSegment => format!(
                "in the pattern {text:?} a segment has more than one {{name}} or text after it"
            ),
            InsertError::InvalidCatchAll => {
                format!("in the pattern {text:?} {{*name}} is not at the end")
            }
            _ => format!(
                "in the pattern {text:?} the braces are wrong: \"{{name}}\" or \"{{*name}}\""
            ),
        };
        errors.push(place.error(message));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize) -> Place {
        Place {
            file: "a.rhai".into(),
            line,
            column: 1,
            source_line: None,
        }
    }

    fn build(patterns: &[&str]) -> Result<RouteTable, Vec<String>> {
        let places: Vec<_> = (1..=patterns.len()).map(place).collect();
        let routes: Vec<_> = patterns.iter().copied().zip(&places).collect();
        RouteTable::build(&routes).map_err(|errors| errors.iter().map(|e| e.to_string()).collect())
    }

    fn found(patterns: &[&str], host: &str, path: &str) -> Option<String> {
        let table = build(patterns).unwrap();
        let (route, captures) = table.find(host, path)?;
        let captures: Vec<_> = captures.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Some(
            format!("{} {}", patterns[route], captures.join(" "))
                .trim()
                .to_owned(),
        )
    }

    #[test]
    fn a_rest_is_everything_also_nothing() {
        let patterns = ["/app/{name}/{*rest}"];
        for (path, expected) in [
            ("/app/x/a/b", Some("name=x rest=a/b")),
            ("/app/x/", Some("name=x")),
            ("/app/x", Some("name=x")),
            ("/app/x//", Some("name=x rest=/")),
            ("/app/%20/a", Some("name=%20 rest=a")),
            ("/app/", None),
            ("/app", None),
            ("/ap/x", None),
        ] {
            let expected = expected.map(|e| format!("{} {e}", patterns[0]));
            assert_eq!(found(&patterns, "", path), expected, "{path}");
        }
        assert_eq!(found(&["/{*rest}"], "", "/").as_deref(), Some("/{*rest}"));
    }

    #[test]
    fn the_more_special_pattern_wins_whatever_the_order() {
        let mut patterns = [
            "/{*rest}",
            "/app/{name}/{*rest}",
            "/app/{name}",
            "/app/status",
            "/app/{*rest}",
            "/{a}/{b}",
            "/application",
        ];
        for _ in 0..patterns.len() {
            patterns.rotate_left(1);
            for (path, expected) in [
                ("/app/status", "/app/status"),
                ("/app/x", "/app/{name} name=x"),
                ("/app/x/", "/app/{name}/{*rest} name=x"),
                ("/app/x/y", "/app/{name}/{*rest} name=x rest=y"),
                ("/app/", "/app/{*rest}"),
                ("/application", "/application"),
                ("/applications", "/{*rest} rest=applications"),
                ("/x/y", "/{a}/{b} a=x b=y"),
                ("/x/y/z", "/{*rest} rest=x/y/z"),
                ("/", "/{*rest}"),
            ] {
                assert_eq!(
                    found(&patterns, "", path).as_deref(),
                    Some(expected),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn a_host_goes_before_a_wildcard_and_both_before_none() {
        let patterns = [
            "/{*rest}",
            "shop.example.com/cart",
            "*.example.com/{*rest}",
            "*.eu.example.com/{*rest}",
        ];
        for (host, path, expected) in [
            ("shop.example.com", "/cart", "shop.example.com/cart"),
            ("SHOP.Example.com.", "/cart", "shop.example.com/cart"),
            ("shop.example.com", "/", "*.example.com/{*rest}"),
            ("a.eu.example.com", "/x", "*.eu.example.com/{*rest} rest=x"),
            ("example.com", "/cart", "/{*rest} rest=cart"),
            ("", "/cart", "/{*rest} rest=cart"),
        ] {
            assert_eq!(
                found(&patterns, host, path).as_deref(),
                Some(expected),
                "{host}"
            );
        }
    }

    #[test]
    fn two_patterns_that_match_the_same_are_refused_with_both_places() {
        let errors = build(&["/a/{name}", "h/a/{name}", "/a/{other}"])
            .err()
            .unwrap();
        assert_eq!(
            errors,
            [
                "a.rhai:3:1: the route \"/a/{other}\" matches the same as \"/a/{name}\" at a.rhai:1:1"
            ]
        );
    }

    #[test]
    fn patterns_that_cannot_be_are_refused() {
        for bad in [
            "a",
            "",
            "/a b",
            "/a?x=1",
            "/{a}{b}",
            "/{*rest}/x",
            "/{",
            "a:80/x",
            "a.*/x",
            "*./x",
            "/{}",
        ] {
            assert_eq!(
                build(&[bad]).err().map(|errors| errors.len()),
                Some(1),
                "{bad}"
            );
        }
    }
}
