//! What is wrong with a script and where, rendered for the one who wrote it.

use std::fmt;
use std::sync::Arc;

use rhai::{EvalAltResult, Position};

use crate::decision::ScriptFailure;

/// Something wrong with a script, as it is shown to the one who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    pub file: String,
    /// From 1; 0 when the place is not known.
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub source_line: Option<String>,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.line > 0 && self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        write!(f, ": {}", self.message)?;
        match self.excerpt() {
            Some(excerpt) => write!(f, "\n{excerpt}"),
            None => Ok(()),
        }
    }
}

impl ScriptError {
    /// The source line with its number and a caret below the column.
    pub fn excerpt(&self) -> Option<String> {
        let line = self.source_line.as_deref()?;
        Some(excerpt(self.line, self.column, line))
    }
}

impl std::error::Error for ScriptError {}

impl From<ScriptError> for ScriptFailure {
    fn from(error: ScriptError) -> Self {
        let ScriptError {
            file,
            line,
            column,
            message,
            ..
        } = &error;
        Self {
            message: format!("{file}:{line}:{column}: {message}"),
            source_line: error.excerpt(),
        }
    }
}

/// One file of the scripts directory as it was read.
#[derive(Debug)]
pub struct Source {
    /// The path as people know it: the scripts directory's, then the file's below it.
    pub file: Arc<str>,
    pub text: String,
}

/// Errors of one file that are looked for: nobody reads more, and each has a line to be found.
pub const ERRORS_MAX: usize = 100;

/// The longest line that is shown. Every error and every hook has a copy of its own.
const LINE_BYTES_MAX: usize = 1 << 10;

impl Source {
    fn line(&self, line: usize) -> Option<&str> {
        let line = self.text.lines().nth(line.checked_sub(1)?)?;
        (line.len() <= LINE_BYTES_MAX).then_some(line)
    }

    pub fn error(&self, position: Position, message: impl Into<String>) -> ScriptError {
        self.at(position).error(message)
    }

    pub fn at(&self, position: Position) -> Place {
        let line = position.line().unwrap_or(0);
        Place {
            file: self.file.clone(),
            line,
            column: position.position().unwrap_or(0),
            source_line: self.line(line).map(Into::into),
        }
    }
}

/// A place in a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<str>,
    /// From 1; 0 when it is not known.
    pub line: usize,
    pub column: usize,
    pub source_line: Option<Arc<str>>,
}

impl Place {
    pub fn error(&self, message: impl Into<String>) -> ScriptError {
        ScriptError {
            file: self.file.to_string(),
            line: self.line,
            column: self.column,
            message: message.into(),
            source_line: self.source_line.as_deref().map(str::to_owned),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The characters of a source line that are shown around a column.
const SHOWN_MAX: usize = 160;

/// The line with its number, and a caret below the column (from 1; 0 shows none).
fn excerpt(line: usize, column: usize, text: &str) -> String {
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let skipped = column.saturating_sub(SHOWN_MAX / 2 + 1);
    let shown: String = text.chars().skip(skipped).take(SHOWN_MAX).collect();
    let mut rendered = format!("{number} | {shown}");
    if column > 0 {
        // Tabs stay tabs, so that the caret stands below its column however wide they are shown.
        let indent: String = shown
            .chars()
            .take(column - 1 - skipped)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        rendered.push_str(&format!("\n{margin} | {indent}^"));
    }
    rendered
}

/// What a script error says and where: the file (when it is not the caller's) and the place in it.
pub struct Located {
    pub file: Option<String>,
    pub position: Position,
    pub message: String,
}

/// Finds the innermost place that an error knows, through the calls that it came out of.
pub fn locate(error: &EvalAltResult) -> Located {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, source, inner, position) => {
            let mut located = locate(inner);
            if located.position.is_none() {
                located.position = *position;
                located.file = None;
            } else if located.file.is_none() && !source.is_empty() {
                located.file = Some(source.clone());
            }
            located
        }
        EvalAltResult::ErrorInModule(module, inner, position) => {
            let mut located = locate(inner);
            if located.position.is_none() {
                located.position = *position;
            } else if located.file.is_none() && !module.is_empty() {
                located.file = Some(module.clone());
            }
            located
        }
        other => Located {
            file: None,
            position: other.position(),
            message: words(other),
        },
    }
}

/// The message of an error without its place.
fn words(error: &EvalAltResult) -> String {
    match error {
        EvalAltResult::ErrorTerminated(reason, _) if reason.is_string() => reason.to_string(),
        EvalAltResult::ErrorRuntime(value, _) => match value.clone().into_string() {
            Ok(text) => text,
            Err(_) if value.is_unit() => "the script threw an error".to_owned(),
            Err(_) => format!("the script threw {value}"),
        },
        EvalAltResult::ErrorPropertyNotFound(name, _) => {
            format!("there is no {name:?} here (to have a default: get({name:?}, default))")
        }
        EvalAltResult::ErrorAssignmentToConstant(name, _) => {
            format!("{name} is a constant and cannot be changed")
        }
        EvalAltResult::ErrorDataRace(..) => {
            "a closure uses a variable that is held while a method runs on it: give the method a \
             variable of its own (let list = …)"
                .to_owned()
        }
        EvalAltResult::ErrorNonPureMethodCallOnConstant(name, _) => {
            format!("{name} would change a constant; copy it first: let copy = …; copy.{name}(…)")
        }
        other => {
            let mut text = other.to_string();
            // Rhai appends the place, which is told apart from the message here.
            let place = other.position();
            if !place.is_none()
                && let Some(bare) = text.strip_suffix(&format!(" ({place})"))
            {
                text.truncate(bare.len());
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_line_with_a_caret_below_the_column() {
        let source = Source {
            file: "scripts/a.rhai".into(),
            text: "let a = 1;\n\tlet b = porxy(a);\n".to_owned(),
        };
        let error = source.error(Position::new(2, 10), "there is no function porxy");
        assert_eq!(
            error.to_string(),
            "scripts/a.rhai:2:10: there is no function porxy\n\
             2 | \tlet b = porxy(a);\n  \
               | \t        ^"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_column() {
        let text = format!("{}x{}", "a".repeat(1_000), "b".repeat(1_000));
        let shown = excerpt(7, 1_001, &text);
        let (line, caret) = shown.split_once('\n').unwrap();
        assert!(line.len() < 200);
        assert_eq!(line.as_bytes()[caret.len() - 1], b'x');
    }
}
