//! A route's pattern, taken apart: its host, the segments of its path, and which of two goes first.

use std::cmp::{Ordering, Reverse};
use std::fmt;

/// The router that patterns are put into counts the names of one with letters.
const NAMES_MAX: usize = 25;

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pub host: Host,
    /// What is between the slashes; at least one.
    pub segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    Any,
    /// In lower case, without a dot at its end.
    Exactly(String),
    /// With the leading dot.
    Below(String),
}

/// Fixed text, then perhaps something in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub fixed: String,
    pub tail: Tail,
}

/// How a segment ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    Nothing,
    /// `{name}`.
    Name(String),
    /// `{*name}`; only in the last segment.
    Rest(String),
}

/// A step of matching a path. In the order in which they are tried: fixed text before `{name}`,
/// and that before `{*name}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Fixed(u8),
    Name,
    Rest,
}

impl Pattern {
    /// # Errors
    /// What is wrong with the pattern, for the one who wrote it.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let Some(slash) = pattern.find('/') else {
            return Err(format!(
                "the pattern {pattern:?} has no '/': a pattern is \"/path\" or \"host/path\""
            ));
        };
        let (host, path) = pattern.split_at(slash);
        let odd = path
            .chars()
            .find(|c| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#'));
        if let Some(odd) = odd {
            return Err(format!(
                "the pattern {pattern:?} has {odd:?}, which no path has"
            ));
        }
        let host = Host::parse(host, pattern)?;
        let segments: Vec<Segment> = path[1..]
            .split('/')
            .map(|segment| Segment::parse(segment, pattern))
            .collect::<Result<_, _>>()?;
        let open = segments
            .iter()
            .position(|s| matches!(s.tail, Tail::Rest(_)));
        if open.is_some_and(|at| at + 1 < segments.len()) {
            return Err(format!(
                "in the pattern {pattern:?} {{*name}} is not at the end"
            ));
        }
        let named = segments.iter().filter(|s| matches!(s.tail, Tail::Name(_)));
        if named.count() > NAMES_MAX {
            return Err(format!(
                "the pattern {pattern:?} has more than {NAMES_MAX} names in braces"
            ));
        }
        Ok(Self { host, segments })
    }

    /// Which of two patterns is asked first. `Equal` for patterns that match the same.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let hosts = self.host.precedence(&other.host);
        hosts.then_with(|| steps(&self.segments).cmp(steps(&other.segments)))
    }

    /// What a router has to be given, so that `{*name}` may also stand for nothing.
    pub fn paths(&self) -> Vec<Vec<Segment>> {
        let own = self.segments.clone();
        match self.segments.split_last() {
            Some((last, before)) if last.is_rest() => {
                let slash = [before, &[Segment::EMPTY]].concat();
                // Before the first segment there is nothing that a path could be.
                let bare = (!before.is_empty()).then(|| before.to_vec());
                bare.into_iter().chain([slash, own]).collect()
            }
            _ => vec![own],
        }
    }
}

/// Segments as they are written.
pub fn text(segments: &[Segment]) -> String {
    segments.iter().map(|s| format!("/{s}")).collect()
}

/// Equal for segments that match the same.
pub fn steps(segments: &[Segment]) -> impl Iterator<Item = Step> {
    segments.iter().flat_map(Segment::steps)
}

impl Host {
    fn parse(host: &str, pattern: &str) -> Result<Self, String> {
        if host.is_empty() {
            return Ok(Self::Any);
        }
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let bare = host.strip_prefix("*.").unwrap_or(host);
        let is_host = !bare.is_empty()
            && bare
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if !is_host {
            return Err(format!(
                "{bare:?} in the pattern {pattern:?} is not a host name (it has no port; \"*\" stands only at the beginning)"
            ));
        }
        Ok(if bare == host {
            Self::Exactly(host.to_owned())
        } else {
            Self::Below(format!(".{bare}"))
        })
    }

    /// The longer of two `*.host` goes first.
    fn precedence(&self, other: &Self) -> Ordering {
        fn place(host: &Host) -> (u8, Reverse<usize>, &str) {
            match host {
                Host::Exactly(host) => (0, Reverse(0), host),
                Host::Below(suffix) => (1, Reverse(suffix.len()), suffix),
                Host::Any => (2, Reverse(0), ""),
            }
        }
        place(self).cmp(&place(other))
    }
}

impl Segment {
    pub const EMPTY: Self = Self {
        fixed: String::new(),
        tail: Tail::Nothing,
    };

    fn parse(segment: &str, pattern: &str) -> Result<Self, String> {
        let braces = || {
            format!(
                "in the pattern {pattern:?} the braces are wrong: \"{{name}}\" or \"{{*name}}\""
            )
        };
        let (fixed, braced) = match segment.find(['{', '}']) {
            Some(at) => segment.split_at(at),
            None => (segment, ""),
        };
        let fixed = fixed.to_owned();
        if braced.is_empty() {
            let tail = Tail::Nothing;
            return Ok(Self { fixed, tail });
        }
        let inner = braced.strip_prefix('{').ok_or_else(braces)?;
        let (inner, after) = inner.split_once('}').ok_or_else(braces)?;
        let name = inner.strip_prefix('*').unwrap_or(inner);
        if name.is_empty() || name.contains(['{', '*']) {
            return Err(braces());
        }
        if !after.is_empty() {
            return Err(format!(
                "in the pattern {pattern:?} a segment has more than one {{name}} or text after it"
            ));
        }
        let tail = if name == inner {
            Tail::Name(name.to_owned())
        } else {
            Tail::Rest(name.to_owned())
        };
        Ok(Self { fixed, tail })
    }

    /// Whether it is `{*name}` alone, which may also stand for nothing.
    pub fn is_rest(&self) -> bool {
        self.fixed.is_empty() && matches!(self.tail, Tail::Rest(_))
    }

    fn steps(&self) -> impl Iterator<Item = Step> {
        let fixed = self.fixed.bytes().map(Step::Fixed);
        let tail = match self.tail {
            Tail::Nothing => None,
            Tail::Name(_) => Some(Step::Name),
            Tail::Rest(_) => Some(Step::Rest),
        };
        std::iter::once(Step::Fixed(b'/')).chain(fixed).chain(tail)
    }
}

impl fmt::Display for Host {
    /// As it is written in a pattern.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Exactly(host) => f.write_str(host),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl fmt::Display for Segment {
    /// As it is written in a pattern.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fixed)?;
        match &self.tail {
            Tail::Nothing => Ok(()),
            Tail::Name(name) => write!(f, "{{{name}}}"),
            Tail::Rest(name) => write!(f, "{{*{name}}}"),
        }
    }
}
