//! The values of a launch configuration: each is read with everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::json::{Member, Node, Value, place};
use super::{ConfigurationError, ConfigurationProblem};
use crate::config::suggest;
use crate::runtime::reference::{ImageReference, is_id};
use crate::spec::HealthCheck;

/// So many problems, and so many warnings, are told of one configuration.
pub const TOLD_MAX: usize = 100;

/// The longest revision, in bytes.
const REVISION_BYTES_MAX: usize = 128;

/// The longest name of an image or a network, in bytes: 255 of a repository, a tag, a digest, and some
/// room (OCI Distribution Specification, "Pulling manifests").
const WORD_BYTES_MAX: usize = 512;

/// The longest key of an archive, in bytes: S3's own limit for a whole key.
const ARCHIVE_BYTES_MAX: usize = 1_024;

/// What is wrong with a text, as far as it has been found.
pub struct Problems<'t> {
    text: &'t str,
    found: Vec<ConfigurationProblem>,
}

impl<'t> Problems<'t> {
    pub fn new(text: &'t str) -> Self {
        Self {
            text,
            found: Vec::new(),
        }
    }

    /// A problem with a field, at the byte where it stands.
    pub fn add(&mut self, field: &str, at: usize, message: impl Into<String>) {
        if self.are_enough() {
            return;
        }
        let (line, column) = place(self.text, at);
        self.push(ConfigurationProblem {
            field: field.to_owned(),
            message: message.into(),
            line: Some(line),
            column: Some(column),
        });
    }

    /// A problem with a field that does not stand anywhere.
    pub fn missing(&mut self, field: &str, message: &str) {
        self.push(ConfigurationProblem {
            field: field.to_owned(),
            message: message.to_owned(),
            line: None,
            column: None,
        });
    }

    fn push(&mut self, problem: ConfigurationProblem) {
        if !self.are_enough() {
            self.found.push(problem);
        }
    }

    /// Whether no more are told, so that none needs to be put into words.
    fn are_enough(&self) -> bool {
        self.found.len() >= TOLD_MAX
    }

    /// Whether anything is wrong with the field or a part of it.
    pub fn has(&self, field: &str) -> bool {
        self.found.iter().any(|problem| problem.field == field)
    }

    /// `Ok(value)` when nothing is wrong.
    pub fn or<T>(mut self, value: T) -> Result<T, ConfigurationError> {
        if self.found.is_empty() {
            return Ok(value);
        }
        // In the order of the text; what is missing comes last.
        self.found
            .sort_by_key(|problem| (problem.line.unwrap_or(usize::MAX), problem.column));
        Err(ConfigurationError {
            problems: self.found,
        })
    }
}

/// The members of an object; `None` when it is something else, which is a problem then. A name that
/// is set a second time is one too, and its second value does not count.
pub fn members<'n>(
    problems: &mut Problems,
    field: &str,
    node: &'n Node,
) -> Option<Vec<&'n Member>> {
    let Value::Object(members) = &node.value else {
        expected(problems, field, node, "an object");
        return None;
    };
    let mut names = BTreeSet::new();
    let mut first = Vec::new();
    for member in members {
        if names.insert(member.name.as_str()) {
            first.push(member);
        } else {
            let field = below(field, &member.name);
            problems.add(&field, member.at, "is set a second time");
        }
    }
    Some(first)
}

/// A member's field in an object's; whatever its name is, it can be shown.
pub fn below(field: &str, name: &str) -> String {
    let name = shortened(name).escape_debug().to_string();
    match field {
        "" => name,
        field => format!("{field}.{name}"),
    }
}

pub fn unknown_key(problems: &mut Problems, field: &str, member: &Member, known: &[&str]) {
    if problems.are_enough() {
        return;
    }
    let name = shortened(&member.name);
    let hint = match suggest::hint(&name, known.iter().copied()) {
        hint if hint.is_empty() => format!(" (there are {})", known.join(", ")),
        hint => hint,
    };
    problems.add(
        &below(field, &name),
        member.at,
        format!("unknown key{hint}"),
    );
}

/// A name that may be of any length, for messages and for what takes longer the longer it is.
pub fn shortened(name: &str) -> String {
    match name.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &name[..cut]),
        None => name.to_owned(),
    }
}

fn expected(problems: &mut Problems, field: &str, node: &Node, what: &str) {
    let message = format!("{}, where {what} is expected", node.kind());
    problems.add(field, node.at, message);
}

/// Text of any kind; only what no program could be given is wrong with it.
pub fn text(problems: &mut Problems, field: &str, node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) if !text.contains('\0') => Some(text.clone()),
        Value::Text(_) => {
            problems.add(field, node.at, "has a NUL, which nothing can be given");
            None
        }
        Value::Number(_) | Value::Bool(_) => {
            expected(problems, field, node, "text (in quotes)");
            None
        }
        _ => {
            expected(problems, field, node, "text");
            None
        }
    }
}

/// Text that `check` finds nothing wrong with.
pub fn checked_text(
    problems: &mut Problems,
    field: &str,
    node: &Node,
    check: fn(&str) -> Result<(), String>,
) -> Option<String> {
    let text = text(problems, field, node)?;
    match check(&text) {
        Ok(()) => Some(text),
        Err(message) => {
            problems.add(field, node.at, message);
            None
        }
    }
}

/// An image's name, or the id of one that the engine has.
pub fn image(text: &str) -> Result<(), String> {
    word(text)?;
    if is_id(text) {
        return Ok(());
    }
    let reference = text.parse::<ImageReference>();
    reference.map(drop).map_err(|error| {
        let shown = shortened(text);
        format!("{shown:?} does not name an image: {}", error.reason())
    })
}

/// A word of the engine's, such as a network.
pub fn word(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > WORD_BYTES_MAX {
        return Err(format!(
            "has {} bytes; {WORD_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{:?} has blanks in it", shortened(text)));
    }
    Ok(())
}

/// What people call a release.
pub fn revision(text: &str) -> Result<(), String> {
    if text.len() > REVISION_BYTES_MAX {
        return Err(format!(
            "has {} bytes; {REVISION_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    // Rust's notation leaves what can be printed as it is, but for its own signs.
    let bare = text.replace(['"', '\'', '\\'], "");
    if bare.escape_debug().ne(bare.chars()) {
        return Err("has characters that cannot be printed".to_owned());
    }
    Ok(())
}

/// A key below the store's prefix.
pub fn archive(text: &str) -> Result<(), String> {
    if text.len() > ARCHIVE_BYTES_MAX {
        return Err(format!(
            "has {} bytes; {ARCHIVE_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control() || c == '\\')
    };
    if text.split('/').all(is_part) {
        return Ok(());
    }
    Err(format!(
        "{text:?} is not a key below the store's prefix (try \"images/shop-42.tar\")"
    ))
}

/// A name that a container can have an environment variable under.
pub fn variable_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(
            "cannot be a variable's name: that is not empty and has no '=' or NUL".to_owned(),
        );
    }
    Ok(())
}

pub fn list(problems: &mut Problems, field: &str, node: &Node) -> Option<Vec<String>> {
    let Value::List(items) = &node.value else {
        expected(problems, field, node, "a list");
        return None;
    };
    let items = items.iter().enumerate();
    let read: Vec<Option<String>> = items
        .map(|(n, item)| text(problems, &format!("{field}[{n}]"), item))
        .collect();
    read.into_iter().collect()
}

/// Names with text, of which `check` looks at the names.
pub fn table(
    problems: &mut Problems,
    field: &str,
    node: &Node,
    check: fn(&str) -> Result<(), String>,
) -> Option<BTreeMap<String, String>> {
    let members = members(problems, field, node)?;
    let mut read = BTreeMap::new();
    for member in members {
        let field = below(field, &member.name);
        if let Err(message) = check(&member.name) {
            problems.add(&field, member.at, message);
        }
        if let Some(text) = text(problems, &field, &member.value) {
            read.insert(member.name.clone(), text);
        }
    }
    Some(read)
}

pub fn flag(problems: &mut Problems, field: &str, node: &Node) -> Option<bool> {
    if let Value::Bool(truth) = node.value {
        return Some(truth);
    }
    expected(problems, field, node, "true or false");
    None
}

/// A whole number; from and to inclusive.
pub fn whole<N>(problems: &mut Problems, field: &str, node: &Node, from: N, to: N) -> Option<N>
where
    N: TryFrom<i128> + PartialOrd + std::fmt::Display,
{
    let Value::Number(number) = &node.value else {
        expected(problems, field, node, "a whole number");
        return None;
    };
    let Some(wide) = integral(number) else {
        problems.add(field, node.at, format!("{number} is not a whole number"));
        return None;
    };
    let fitting = N::try_from(wide).ok();
    let fitting = fitting.filter(|n| (&from..=&to).contains(&n));
    if fitting.is_none() {
        problems.add(
            field,
            node.at,
            format!("{number} is out of range ({from} to {to})"),
        );
    }
    fitting
}

/// A number that is whole, however it is written: `6.7e7` is (RFC 8259 §6 knows no other kinds).
fn integral(number: &serde_json::Number) -> Option<i128> {
    let whole = || number.as_f64().filter(|number| number.fract() == 0.0);
    // Past the range of integers, of which none is used to its end, the nearest one is meant.
    number.as_i128().or_else(|| Some(whole()? as i128))
}

/// A number of cores.
pub fn cores(problems: &mut Problems, field: &str, node: &Node) -> Option<f64> {
    let Value::Number(number) = &node.value else {
        expected(problems, field, node, "a number");
        return None;
    };
    let cores = number.as_f64().filter(|cores| *cores > 0.0);
    if cores.is_none() {
        problems.add(field, node.at, format!("{number} is not a positive number"));
    }
    cores
}

/// A number of bytes, or text such as `256MiB`.
pub fn size(problems: &mut Problems, field: &str, node: &Node) -> Option<u64> {
    let bytes = match &node.value {
        Value::Number(number) => integral(number).and_then(|bytes| u64::try_from(bytes).ok()),
        Value::Text(text) => text.parse::<bytesize::ByteSize>().ok().map(|b| b.as_u64()),
        _ => {
            expected(problems, field, node, "a size");
            return None;
        }
    };
    let bytes = bytes.filter(|bytes| *bytes > 0);
    if bytes.is_none() {
        let typed = match &node.value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => format!("{:?}", shortened(text)),
            _ => String::new(),
        };
        problems.add(
            field,
            node.at,
            format!("{typed} is not a size (try \"256MiB\", or a number of bytes)"),
        );
    }
    bytes
}

/// `60s`, `1m30s`.
pub fn time(problems: &mut Problems, field: &str, node: &Node) -> Option<Duration> {
    if let Value::Number(number) = &node.value {
        let message = format!("{number} has no unit (write \"{number}s\")");
        problems.add(field, node.at, message);
        return None;
    }
    let text = text(problems, field, node)?;
    match HealthCheck::read_time(&text) {
        Ok(time) => Some(time),
        Err(message) => {
            problems.add(field, node.at, message);
            None
        }
    }
}
