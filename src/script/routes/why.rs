//! Why a request is one route's and none of the others': a sentence for each route of a table.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::RouteTable;
use super::pattern::{Host, Pattern, Segment, Tail};

/// The longest part of a request that a sentence quotes, in characters.
const QUOTED_MAX: usize = 60;

/// What became of a request at one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is asked for the decision.
    Taken,
    /// Its pattern matches too, and another route went before it.
    Passed {
        /// The number of the route that is asked.
        by: usize,
        why: String,
    },
    /// Its pattern does not match.
    Not { why: String },
}

impl RouteTable {
    /// What becomes of a request for a host (without port) and a path, by the routes' numbers.
    pub fn verdicts(&self, host: &str, path: &str) -> Vec<Verdict> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let refused = self.patterns.iter().map(|p| p.refuses(&host, path));
        let refused: Vec<Option<String>> = refused.collect();
        let taken = (0..refused.len())
            .filter(|route| refused[*route].is_none())
            .min_by(|one, other| self.patterns[*one].precedence(&self.patterns[*other]));
        let verdict = |(route, refused): (usize, Option<String>)| match (refused, taken) {
            (Some(why), _) => Verdict::Not { why },
            (None, Some(by)) if by != route => Verdict::Passed {
                by,
                why: self.patterns[by].goes_before(&self.patterns[route]),
            },
            (None, _) => Verdict::Taken,
        };
        refused.into_iter().enumerate().map(verdict).collect()
    }
}

impl Pattern {
    /// Why the pattern, were it the only one, would not match. `None`: it does.
    fn refuses(&self, host: &str, path: &str) -> Option<String> {
        self.host
            .refuses(host)
            .or_else(|| refused_path(&self.segments, path))
    }

    /// Why this pattern has a request that the other one matches too.
    fn goes_before(&self, other: &Self) -> String {
        match (&self.host, &other.host) {
            (Host::Exactly(_), Host::Below(_)) => {
                format!(
                    "a pattern with the request's host goes before {}",
                    other.host
                )
            }
            (Host::Exactly(_), Host::Any) => {
                "a pattern with the request's host goes before one without".to_owned()
            }
            (Host::Below(_), Host::Any) => {
                format!(
                    "a pattern with {} goes before one without a host",
                    self.host
                )
            }
            (Host::Below(one), Host::Below(longer)) if one != longer => {
                format!(
                    "{} is longer than {} and goes before it",
                    self.host, other.host
                )
            }
            _ => first_path(&self.segments, &other.segments),
        }
    }
}

impl Host {
    fn refuses(&self, host: &str) -> Option<String> {
        match self {
            Self::Any => None,
            Self::Exactly(own) if own == host => None,
            Self::Below(suffix) if host.len() > suffix.len() && host.ends_with(suffix) => None,
            Self::Exactly(_) | Self::Below(_) if host.is_empty() => {
                Some("the request has no host".to_owned())
            }
            Self::Exactly(own) => Some(format!("the host is {}, not {own:?}", quoted(host))),
            Self::Below(suffix) => Some(format!(
                "the host is {}, which is not below {}",
                quoted(host),
                suffix.trim_start_matches('.')
            )),
        }
    }
}

/// Follows a path along the segments of a pattern, and tells where it leaves them.
fn refused_path(pattern: &[Segment], path: &str) -> Option<String> {
    let Some(mut left) = path.strip_prefix('/') else {
        return Some(format!("{} does not begin with \"/\"", quoted(path)));
    };
    let goes_on = |left: &str| {
        let matched = &path[..path.len() - left.len()];
        Some(format!("the path goes on after {}", quoted(matched)))
    };
    for (index, expected) in pattern.iter().enumerate() {
        let number = index + 1;
        let next = pattern.get(number);
        let here = segment(left);
        let beyond = &left[here.len()..];
        if next.is_none() && *expected == Segment::EMPTY {
            return if left.is_empty() { None } else { goes_on(left) };
        }
        if !expected.fits(here, beyond, next.is_some()) {
            return Some(refused_segment(expected, number, here));
        }
        match (beyond.strip_prefix('/'), next) {
            _ if matches!(expected.tail, Tail::Rest(_)) => return None,
            (Some(after), Some(_)) => left = after,
            (Some(_), None) => return goes_on(beyond),
            (None, None) => return None,
            (None, Some(next)) => return ended(next, number, pattern.len()),
        }
    }
    None
}

/// The path has ended, the pattern has not.
fn ended(next: &Segment, number: usize, pattern: usize) -> Option<String> {
    match next {
        // `/a/{*rest}` matches `/a` as well.
        next if next.is_rest() => None,
        next if *next == Segment::EMPTY && number + 1 == pattern => {
            Some("the path has no \"/\" at its end".to_owned())
        }
        _ => {
            let plural = if number == 1 { "" } else { "s" };
            Some(format!("the path ends after {number} segment{plural}"))
        }
    }
}

impl Segment {
    /// `beyond`: what follows the segment in the path. `goes_on`: whether the pattern does.
    fn fits(&self, is: &str, beyond: &str, goes_on: bool) -> bool {
        // A name is empty only between two slashes.
        let may_be_empty = match self.tail {
            Tail::Nothing => return is == self.fixed,
            Tail::Name(_) => goes_on && !beyond.is_empty(),
            Tail::Rest(_) => self.is_rest() || !beyond.is_empty(),
        };
        is.starts_with(&self.fixed) && (is != self.fixed || may_be_empty)
    }
}

/// What is before the next slash.
fn segment(left: &str) -> &str {
    left.split('/').next().unwrap_or_default()
}

/// Why a segment is not what a pattern has in its place.
fn refused_segment(expected: &Segment, number: usize, is: &str) -> String {
    let fixed = &expected.fixed;
    if is.is_empty() {
        return match expected.tail {
            Tail::Nothing => format!("segment {number} is empty, not {fixed:?}"),
            _ => format!("segment {number} is empty"),
        };
    }
    let is_decoded = || percent_encoding::percent_decode_str(is).decode_utf8_lossy();
    let as_sent = " (a path is matched as it was sent, percent-encoded)";
    let is_quoted = quoted(is);
    match expected.tail {
        Tail::Nothing if fixed.is_empty() => {
            format!("segment {number} is {is_quoted}, where the pattern has an empty one")
        }
        Tail::Nothing => {
            let hint = if is_decoded() == **fixed { as_sent } else { "" };
            format!("segment {number} is {is_quoted}, not {fixed:?}{hint}")
        }
        _ if is == fixed => format!("nothing follows {fixed:?} in segment {number}"),
        _ => {
            let hint = if is_decoded().starts_with(&**fixed) {
                as_sent
            } else {
                ""
            };
            format!("segment {number} is {is_quoted}, which does not begin with {fixed:?}{hint}")
        }
    }
}

/// Which rule lets one of two paths that both match go first.
fn first_path(first: &[Segment], second: &[Segment]) -> String {
    let pairs = first.iter().zip(second);
    let differs =
        |(one, other): &(&Segment, &Segment)| one.fixed != other.fixed || kind(one) != kind(other);
    let Some((number, (one, other))) = (1..).zip(pairs).find(|(_, pair)| differs(pair)) else {
        return "a pattern that ends goes before {*name}, which stands for nothing here".to_owned();
    };
    let rule = match (kind(one), kind(other)) {
        (Kind::Name, Kind::Rest) if one.fixed == other.fixed => "{name} goes before {*name}",
        (_, Kind::Rest) => "fixed text goes before {*name}",
        _ => "fixed text goes before {name}",
    };
    let one = match one.to_string() {
        text if text.is_empty() => "an empty segment".to_owned(),
        text => format!("{text:?}"),
    };
    let other = other.to_string();
    format!("{rule} ({one} before {other:?} in segment {number})")
}

#[derive(PartialEq, Eq)]
enum Kind {
    Fixed,
    Name,
    Rest,
}

fn kind(segment: &Segment) -> Kind {
    match segment.tail {
        Tail::Nothing => Kind::Fixed,
        Tail::Name(_) => Kind::Name,
        Tail::Rest(_) => Kind::Rest,
    }
}

/// In quotation marks, and no longer than can be read.
fn quoted(text: &str) -> String {
    let shown: Cow<'_, str> = match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    };
    format!("{shown:?}")
}
