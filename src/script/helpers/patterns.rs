//! Patterns that are matched in a time that is known beforehand: compiled to tables, and kept.
//!
//! An engine that builds its tables while it reads, as the regex crate does, takes a second and more
//! for some patterns and 64 KiB of what a client sends. So the tables are built whole when the
//! pattern is compiled: one whose tables grow too large is refused, and all others take one step for
//! each byte. What the groups matched is found by such a table too, where the pattern has `^` first
//! and leaves no choice; else by trying, which takes a step for each byte and part of the pattern.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use globset::GlobBuilder;
use parking_lot::{RwLock, const_rwlock};
use regex_automata::dfa::dense::{self, DFA};
use regex_automata::dfa::{Automaton as _, StartKind, onepass};
use regex_automata::nfa::thompson::backtrack::BoundedBacktracker;
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::util::primitives::{NonMaxUsize, PatternID};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use rhai::{Dynamic, Map};

use crate::script::meter::weighed;

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1_000;

/// The states that a pattern is compiled to, and the table of each kind that is made of them, in
/// bytes. The table's limit is what bounds the time of compiling: about 15 ms.
const STATES_BYTES_MAX: usize = 128 << 10;
const TABLE_BYTES_MAX: usize = 192 << 10;

/// Groups within groups.
const NESTED_MAX: u32 = 50;

/// Steps that trying may take to find what the groups matched: about 10 ms.
const STEPS_MAX: usize = 2_000_000;

/// What is kept of compiled patterns: when it is full, all are dropped.
const KEPT_MAX: usize = 256;
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Texts from this length on are looked at with the clock in the other hand.
const LONG_TEXT_BYTES: usize = 4 << 10;

/// Of all threads, so that what was compiled when scripts were loaded need not be again.
static KEPT: RwLock<Kept> = const_rwlock(Kept::new());

/// How a pattern is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Glob,
    Regex,
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Pattern {
    states: NFA,
    table: DFA<Vec<u32>>,
    /// Made when it is first asked what groups matched.
    groups: OnceLock<Result<Groups, String>>,
}

/// How what the groups matched is found.
#[derive(Debug)]
enum Groups {
    Table(Box<onepass::DFA>),
    Trying(Box<BoundedBacktracker>),
}

struct Kept {
    globs: BTreeMap<Box<str>, Arc<Pattern>>,
    regexes: BTreeMap<Box<str>, Arc<Pattern>>,
    bytes: usize,
}

impl Kind {
    /// Which function takes a pattern, and as which argument.
    pub fn taken_by(function: &str) -> Option<(Self, usize)> {
        match function {
            "glob" => Some((Kind::Glob, 0)),
            "matches" | "captures" => Some((Kind::Regex, 1)),
            _ => None,
        }
    }

    /// The pattern, compiled now or before. The error says what is wrong with it.
    pub fn compiled(self, pattern: &str) -> Result<Arc<Pattern>, String> {
        if let Some(kept) = KEPT.read().find(self, pattern) {
            return Ok(kept);
        }
        let compiled =
            weighed(|| Pattern::compile(self, pattern)).map_err(|over| over.to_string())?;
        let compiled = Arc::new(compiled.map_err(|why| format!("{} {why}", short(pattern)))?);
        KEPT.write().keep(self, pattern, compiled.clone());
        Ok(compiled)
    }
}

/// A pattern for a message.
fn short(pattern: &str) -> String {
    const SHOWN_MAX: usize = 60;
    match pattern.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &pattern[..end]),
        None => format!("{pattern:?}"),
    }
}

impl Pattern {
    fn compile(kind: Kind, pattern: &str) -> Result<Self, String> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!(
                "has {} bytes; a pattern may have {PATTERN_BYTES_MAX}",
                pattern.len()
            ));
        }
        let syntax = syntax::Config::new()
            .unicode(false)
            .utf8(false)
            .nest_limit(NESTED_MAX);
        match kind {
            Kind::Regex => Self::of_regex(pattern, syntax),
            Kind::Glob => {
                let glob = GlobBuilder::new(pattern).literal_separator(true).build();
                let glob = glob.map_err(|error| format!("is no pattern: {}", error.kind()))?;
                Self::of_regex(glob.regex(), syntax.dot_matches_new_line(true))
            }
        }
    }

    fn of_regex(regex: &str, syntax: syntax::Config) -> Result<Self, String> {
        let config = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(Some(STATES_BYTES_MAX));
        let states = thompson::Compiler::new()
            .syntax(syntax)
            .configure(config)
            .build(regex)
            .map_err(|error| match error.size_limit() {
                Some(_) => too_much(),
                None => format!("is no pattern: {}", reason(&error)),
            })?;
        let config = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .dfa_size_limit(Some(TABLE_BYTES_MAX))
            .determinize_size_limit(Some(TABLE_BYTES_MAX));
        let table = dense::Builder::new()
            .configure(config)
            .build_from_nfa(&states)
            .map_err(|error| {
                if error.is_size_limit_exceeded() {
                    too_much()
                } else {
                    format!("cannot be used: {error}")
                }
            })?;
        Ok(Self {
            states,
            table,
            groups: OnceLock::new(),
        })
    }

    fn bytes(&self) -> usize {
        self.states.memory_usage() + self.table.memory_usage()
    }

    /// Whether it matches somewhere in the text. (A pattern of a glob has its own ends.)
    pub fn matches(&self, text: &str) -> Result<bool, String> {
        self.end(text).map(|end| end.is_some())
    }

    /// Where the leftmost match ends.
    fn end(&self, text: &str) -> Result<Option<usize>, String> {
        let search = || self.table.try_search_fwd(&Input::new(text));
        let found = if text.len() < LONG_TEXT_BYTES {
            search()
        } else {
            weighed(search).map_err(|over| over.to_string())?
        };
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.map(|half| half.offset()))
    }

    /// What its groups matched, by number and by name. `bytes_max`: of all of them together.
    pub fn captures(&self, text: &str, bytes_max: usize) -> Result<Map, String> {
        let Some(end) = self.end(text)? else {
            return Ok(Map::new());
        };
        let input = Input::new(text).span(0..end);
        let info = self.states.group_info();
        let mut slots = vec![None; info.slot_len()];
        self.fill(&input, &mut slots)?;
        let place = |slot: usize| slots.get(slot).copied().flatten().map(NonMaxUsize::get);
        let mut groups = Map::new();
        let mut bytes = 0;
        for (index, name) in info.pattern_names(PatternID::ZERO).enumerate() {
            let matched = match (place(2 * index), place(2 * index + 1)) {
                (Some(start), Some(end)) => &text.as_bytes()[start..end],
                _ => b"",
            };
            bytes += matched.len() * (1 + usize::from(name.is_some()));
            if bytes > bytes_max {
                return Err(format!(
                    "the groups matched more than the {bytes_max} bytes that a script's strings may have"
                ));
            }
            let matched: Dynamic = String::from_utf8_lossy(matched).into_owned().into();
            if let Some(name) = name {
                groups.insert(name.into(), matched.clone());
            }
            groups.insert(index.to_string().into(), matched);
        }
        Ok(groups)
    }

    fn fill(&self, input: &Input<'_>, slots: &mut [Option<NonMaxUsize>]) -> Result<(), String> {
        let groups = self.groups.get_or_init(|| Groups::of(&self.states));
        let groups = groups.as_ref().map_err(Clone::clone)?;
        let search = || match groups {
            Groups::Table(table) => {
                let input = input.clone().anchored(Anchored::Yes);
                table.try_search_slots(&mut table.create_cache(), &input, slots)
            }
            Groups::Trying(trying) => {
                trying.try_search_slots(&mut trying.create_cache(), input, slots)
            }
        };
        let found = weighed(search).map_err(|over| over.to_string())?;
        found.map(drop).map_err(|_| {
            format!(
                "the text has {} bytes, too many for a pattern that has this many parts and can match \
                 them in several ways (begin it with ^, or say it more narrowly)",
                input.haystack().len()
            )
        })
    }
}

impl Groups {
    fn of(states: &NFA) -> Result<Self, String> {
        if states.is_always_start_anchored() {
            let config = onepass::Config::new().size_limit(Some(TABLE_BYTES_MAX));
            let mut builder = onepass::Builder::new();
            if let Ok(table) = builder.configure(config).build_from_nfa(states.clone()) {
                return Ok(Groups::Table(Box::new(table)));
            }
        }
        let config = BoundedBacktracker::config().visited_capacity(STEPS_MAX / 8);
        let mut builder = BoundedBacktracker::builder();
        let trying = builder.configure(config).build_from_nfa(states.clone());
        let trying = trying.map_err(|error| format!("cannot be used: {error}"))?;
        Ok(Groups::Trying(Box::new(trying)))
    }
}

fn too_much() -> String {
    "is too much for one pattern: repeats of a certain length, such as {10}, may not follow what can \
     begin anywhere, such as .*"
        .to_owned()
}

/// The last line of what is told of a regular expression: the others draw where it is wrong.
fn reason(error: &thompson::BuildError) -> String {
    let told =
        std::error::Error::source(error).map_or_else(|| error.to_string(), |e| e.to_string());
    let last = told.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl Kept {
    const fn new() -> Self {
        Self {
            globs: BTreeMap::new(),
            regexes: BTreeMap::new(),
            bytes: 0,
        }
    }

    fn find(&self, kind: Kind, pattern: &str) -> Option<Arc<Pattern>> {
        match kind {
            Kind::Glob => self.globs.get(pattern).cloned(),
            Kind::Regex => self.regexes.get(pattern).cloned(),
        }
    }

    fn keep(&mut self, kind: Kind, pattern: &str, compiled: Arc<Pattern>) {
        let count = self.globs.len() + self.regexes.len();
        let bytes = compiled.bytes();
        if count >= KEPT_MAX || self.bytes + bytes > KEPT_BYTES_MAX {
            *self = Self::new();
        }
        self.bytes += bytes;
        let replaced = match kind {
            Kind::Glob => self.globs.insert(pattern.into(), compiled),
            Kind::Regex => self.regexes.insert(pattern.into(), compiled),
        };
        // Two threads may have compiled the same.
        self.bytes -= replaced.map_or(0, |replaced| replaced.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_has_room() {
        let mut kept = Kept::new();
        let compiled = Arc::new(Pattern::compile(Kind::Regex, "a").unwrap());
        for n in 0..KEPT_MAX {
            kept.keep(Kind::Glob, &n.to_string(), compiled.clone());
        }
        assert_eq!(kept.globs.len(), KEPT_MAX);
        assert!(kept.find(Kind::Regex, "1").is_none());
        kept.keep(Kind::Regex, "a", compiled.clone());
        assert!(kept.find(Kind::Glob, "1").is_none() && kept.find(Kind::Regex, "a").is_some());
        kept.keep(Kind::Regex, "a", compiled.clone());
        assert_eq!(kept.bytes, compiled.bytes(), "one pattern, kept once");
        kept.bytes = KEPT_BYTES_MAX;
        kept.keep(Kind::Regex, "b", compiled.clone());
        assert_eq!((kept.regexes.len(), kept.bytes), (1, compiled.bytes()));
    }

    #[test]
    fn groups_of_an_anchored_pattern_without_a_choice_are_found_by_a_table() {
        let by_table = |regex: &str| {
            let pattern = Pattern::compile(Kind::Regex, regex).unwrap();
            matches!(Groups::of(&pattern.states), Ok(Groups::Table(_)))
        };
        assert!(by_table(r"^/([a-z]+)/(\d+)(?:/(.*))?$"));
        assert!(!by_table(r"/([a-z]+)/(\d+)"));
        assert!(!by_table("^(a*)(a*)$"));
    }

    /// The worst of what was found by hand: what takes long in other engines, what is long, what
    /// has many groups, what could be anywhere.
    fn adversarial() -> Vec<String> {
        let mut patterns: Vec<String> = [
            "(a*)*b",
            "(x+x+)+y",
            ".*.*=.*",
            "(a|aa)+$",
            "(?:(a+)|(b+)|([^ab]+))*$",
            "((a)|(b)|(.))*$",
            "(?:a{0,500}){0,500}",
            "((((a{0,20}){0,20}){0,20}){0,20})b",
            "(?:[ab]?){300}b",
        ]
        .map(str::to_owned)
        .into();
        for n in [5, 10, 30, 100, 400] {
            patterns.push(format!("[ab]*a[ab]{{{n}}}c"));
            patterns.push(format!("(?:a?){{{n}}}a{{{n}}}b"));
            patterns.push(format!("a.{{{n}}}b.{{{n}}}c"));
            patterns.push(format!("(?:a[ab]{{0,{n}}}b)+c"));
            patterns.push("(.*)".repeat(n.min(200)));
            patterns.push("([ab]*)".repeat(n.min(100)) + "$");
            patterns.push(format!("^(?:{})*$", vec!["(.)"; n.min(200)].join("|")));
        }
        patterns.push("q".repeat(990));
        patterns.push(format!("(?i){}", "abcdefghij".repeat(90)));
        patterns.push("[a-z]*".repeat(150) + "0");
        patterns
    }

    #[test]
    fn what_takes_long_elsewhere_is_refused_or_takes_a_step_a_byte() {
        let bytes = 64 << 10;
        let texts =
            ["a", "x=", "ab", "abbab", "q", "aaaaaaaaaab"].map(|t| t.repeat(bytes / t.len()));
        let mut refused = 0;
        for regex in adversarial() {
            let Ok(pattern) = Pattern::compile(Kind::Regex, &regex) else {
                refused += 1;
                continue;
            };
            assert!(pattern.states.memory_usage() <= STATES_BYTES_MAX, "{regex}");
            assert!(pattern.table.memory_usage() <= TABLE_BYTES_MAX, "{regex}");
            for text in &texts {
                // The table has a step a byte and nothing else.
                let matches = pattern.matches(text).unwrap();
                let Ok(Groups::Trying(trying)) = Groups::of(&pattern.states) else {
                    continue;
                };
                let steps = trying.max_haystack_len() * pattern.states.states().len();
                assert!(steps <= STEPS_MAX + bytes, "{regex}: {steps}");
                if let Ok(groups) = pattern.captures(text, usize::MAX) {
                    assert_eq!(!groups.is_empty(), matches, "{regex}");
                }
            }
        }
        assert!((10..40).contains(&refused), "{refused}");
    }

    #[test]
    fn what_people_write_is_taken() {
        for regex in [
            r"(?i)bot|crawl|spider|slurp|bingpreview|facebookexternalhit|embedly|pinterest|whatsapp|curl|wget",
            r"^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}$",
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)",
            r"([\w.+-]+)@([\w-]+)\.([\w.-]+)",
            "^[a-z0-9][a-z0-9_.-]{0,127}$",
            r"(?i)union\s+select|<script|\.\./|/etc/passwd|information_schema",
            r"\b(android|iphone|ipad|mobile)\b",
            "^.{1,200}$",
        ] {
            let compiled = Pattern::compile(Kind::Regex, regex);
            assert!(compiled.is_ok(), "{regex}: {:?}", compiled.err());
        }
        for glob in [
            "*.example.com",
            "/a/**/b/*.{png,jpg}",
            "**/*.[ch]",
            "*a*b*c*d*",
        ] {
            let compiled = Pattern::compile(Kind::Glob, glob);
            assert!(compiled.is_ok(), "{glob}: {:?}", compiled.err());
        }
    }
}
