//! Env files: `KEY=VALUE` lines that give static environment variables to an application's containers.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The largest env file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// So many errors are told of one file.
const ERRORS_MAX: usize = 100;

/// One thing that is wrong with an env file. Says nothing of what stands there: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct EnvFileError {
    /// From 1.
    pub line: usize,
    pub message: String,
}

/// Reads a file, of 1 MiB at the most.
///
/// # Errors
/// Everything that is wrong at once, each a whole message with the file's name and the line.
pub fn load(path: &Path) -> Result<BTreeMap<String, String>, Vec<String>> {
    let shown = path.display();
    let bytes = read(path).map_err(|message| vec![format!("{shown} {message}")])?;
    let read = text(&bytes).and_then(parse);
    read.map_err(|errors| {
        let errors = errors.into_iter();
        errors
            .map(|error| format!("{shown}:{}: {}", error.line, error.message))
            .collect()
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// An error for each line that is no text.
fn text(bytes: &[u8]) -> Result<&str, Vec<EnvFileError>> {
    std::str::from_utf8(bytes).map_err(|_| {
        let lines = bytes.split(|byte| *byte == b'\n').zip(1..);
        lines
            .filter(|(line, _)| std::str::from_utf8(line).is_err())
            .map(|(_, line)| EnvFileError {
                line,
                message: "is not UTF-8".to_owned(),
            })
            .take(ERRORS_MAX)
            .collect()
    })
}

/// Reads the text of an env file.
///
/// - A line is `KEY=VALUE` or `export KEY=VALUE`; blanks around the name and the value do not count.
///   Empty lines and those that begin with `#` say nothing.
/// - A name has letters, digits, `_`, `.` and `-`, and begins with a letter or `_`.
/// - A bare value goes to the end of the line, or to a `#` after a blank. It may be empty.
/// - In `'single quotes'` everything is what it is. In `"double quotes"` `\n`, `\r`, `\t`, `\"`, `\\` and
///   `\$` are a newline, a carriage return, a tab, and these characters themselves; any other `\` is an
///   error. Both may go over several lines. After them nothing but a comment follows.
/// - `$NAME` is taken as it is written: no variable is put in its place, in no kind of value.
/// - Lines may end in CRLF, which counts as a newline also within quotes, and the text may begin with a
///   byte order mark.
///
/// # Errors
/// Every line that is wrong, also one that sets a name a second time; at most a hundred.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, Vec<EnvFileError>> {
    let mut reading = Reading {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 1,
    };
    let mut set: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut errors = Vec::new();
    while !reading.rest.is_empty() && errors.len() < ERRORS_MAX {
        let line = reading.line;
        match reading.entry() {
            Ok(None) => {}
            Ok(Some((name, value))) => match set.entry(name) {
                Entry::Vacant(free) => drop(free.insert((line, value))),
                Entry::Occupied(taken) => errors.push(EnvFileError {
                    line,
                    message: format!(
                        "{} is set a second time, after line {}",
                        taken.key(),
                        taken.get().0
                    ),
                }),
            },
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        let values = set.into_iter();
        Ok(values.map(|(name, (_, value))| (name, value)).collect())
    } else {
        Err(errors)
    }
}

/// What of a text is still to be read.
struct Reading<'t> {
    rest: &'t str,
    /// Of the rest's beginning; from 1.
    line: usize,
}

impl<'t> Reading<'t> {
    /// One line, or as many as its value goes over. On an error the next one begins after the line
    /// at which it is told.
    fn entry(&mut self) -> Result<Option<(String, String)>, EnvFileError> {
        let begins_at = self.line;
        let typed = self.next_line();
        let statement = typed.trim_start_matches(is_blank);
        if statement.is_empty() || statement.starts_with('#') {
            return Ok(None);
        }
        let wrong = |message: &str| EnvFileError {
            line: begins_at,
            message: message.to_owned(),
        };
        let Some((name, value)) = statement.split_once('=') else {
            return Err(wrong("has no '=' (write KEY=VALUE, or # before a comment)"));
        };
        let name = name_in(name).ok_or_else(|| {
            wrong(
                "what stands before the '=' is no name: that has letters, digits, '_', '.' and \
                 '-', and begins with a letter or '_'",
            )
        })?;
        let blank_before = value.starts_with(is_blank);
        let value = value.trim_start_matches(is_blank);
        let value = match value.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(&value[1..], quote, begins_at)?,
            _ => bare(value, blank_before).to_owned(),
        };
        if value.contains('\0') {
            return Err(wrong("the value has a NUL, which no variable can have"));
        }
        Ok(Some((name.to_owned(), value)))
    }

    /// The line without its end.
    fn next_line(&mut self) -> &'t str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// A value that a quote has begun; `line` is what follows it in its line, and more lines are
    /// taken as it needs them.
    fn quoted(
        &mut self,
        line: &'t str,
        quote: char,
        begins_at: usize,
    ) -> Result<String, EnvFileError> {
        let (rest, next) = (self.rest, self.line);
        let mut value = String::new();
        let mut line = line;
        loop {
            let here = self.line - 1;
            let wrong = |message: String| EnvFileError {
                line: here,
                message,
            };
            if let Some(after) = until_quote(line, quote, &mut value).map_err(wrong)? {
                let is_over = after.is_empty() || after.starts_with(is_blank);
                let comment = after.trim_start_matches(is_blank);
                if is_over && (comment.is_empty() || comment.starts_with('#')) {
                    return Ok(value);
                }
                let of = match here == begins_at {
                    true => String::new(),
                    false => format!(" of the value that begins in line {begins_at}"),
                };
                return Err(wrong(format!(
                    "after the closing {quote}{of} there is more (a comment needs a blank before its #)"
                )));
            }
            if self.rest.is_empty() {
                // The lines that it has swallowed may be wrong in ways of their own.
                (self.rest, self.line) = (rest, next);
                return Err(EnvFileError {
                    line: begins_at,
                    message: format!("the {quote} that begins the value is never closed"),
                });
            }
            value.push('\n');
            line = self.next_line();
        }
    }
}

/// What separates, and belongs to no name and no bare value.
fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace()
}

/// A name as it is set, without `export`.
fn name_in(typed: &str) -> Option<&str> {
    let typed = typed.trim_matches(is_blank);
    let exported = typed
        .strip_prefix("export")
        .filter(|rest| rest.starts_with(is_blank));
    let name = exported.map_or(typed, |rest| rest.trim_start_matches(is_blank));
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on_well = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    (begins_well && goes_on_well).then_some(name)
}

/// A value without quotes, up to its comment. `blank_before`: whether a `#` at its very beginning is
/// one.
fn bare(value: &str, blank_before: bool) -> &str {
    let mut blank = blank_before;
    for (at, c) in value.char_indices() {
        if c == '#' && blank {
            return value[..at].trim_end_matches(is_blank);
        }
        blank = is_blank(c);
    }
    value.trim_end_matches(is_blank)
}

/// Takes a line up to the closing quote; what follows that, or `None` where it is not in this line.
fn until_quote<'t>(
    line: &'t str,
    quote: char,
    value: &mut String,
) -> Result<Option<&'t str>, String> {
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok(Some(&line[at + 1..])),
            '\\' if quote == '"' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, 'r')) => '\r',
                Some((_, 't')) => '\t',
                Some((_, c @ ('"' | '\\' | '$'))) => c,
                _ => {
                    return Err(
                        "in double quotes a \\ stands before one of n r t \" \\ $ (write \\\\ for \
                         itself, or use single quotes)"
                            .to_owned(),
                    );
                }
            }),
            c => value.push(c),
        }
    }
    Ok(None)
}
