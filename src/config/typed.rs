//! A configuration as it is typed: TOML as a tree whose every part knows its place.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};

/// A value as it was typed, not yet of any meaning.
#[derive(Debug, Clone)]
pub enum Value {
    Text(String),
    /// From an environment variable: whatever the key takes, without quotes.
    Word(String),
    /// Saturated where the number typed has no room.
    Integer(i128),
    Float(f64),
    Bool(bool),
    List(Vec<(Place, Value)>),
    Table(Vec<Member>),
    Date(String),
}

/// A name in a table with its value.
#[derive(Debug, Clone)]
pub struct Member {
    pub name: String,
    /// Of the name.
    pub place: Place,
    pub value: Value,
}

/// A file as it is typed.
#[derive(Debug)]
pub struct Typed {
    pub tables: Vec<Member>,
    pub syntax_errors: Vec<ConfigError>,
    /// Lines whose values are guesses of the parser after an error.
    guessed: BTreeSet<usize>,
    /// From this line on the parser may have put names into the wrong tables.
    lost_from: Option<usize>,
}

impl Typed {
    /// Reads TOML. Goes on after an error as far as what follows can be trusted.
    pub fn read(text: &str, file: &str) -> Self {
        let lines = Lines::new(text, file);
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut typed = Self {
            tables: lines.members(table.get_ref()),
            syntax_errors: Vec::new(),
            guessed: BTreeSet::new(),
            lost_from: None,
        };
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let (line, place) = lines.place(span.start);
            // Later errors of a line are mostly echoes of its first.
            if !typed.guessed.insert(line) {
                continue;
            }
            let here = text.get(span).unwrap_or_default().trim();
            // What the parser knows how to go on after; anything else may shift what follows.
            let message = match error.message() {
                message if message.starts_with("string values must be quoted") => {
                    if here.is_empty() {
                        "a value is missing".to_owned()
                    } else if lines.line(line).to_lowercase().contains("token") {
                        // A secret stands in no message, also one that was typed badly.
                        "the value has to be quoted".to_owned()
                    } else {
                        format!("{here} has to be quoted (write {here:?})")
                    }
                }
                "duplicate key" => format!("{here} is set a second time"),
                message => {
                    typed.lost_from = Some(typed.lost_from.map_or(line, |at| at.min(line)));
                    format!("not TOML: {message}")
                }
            };
            typed.syntax_errors.push(ConfigError { place, message });
        }
        typed
    }

    /// Whether what stands here is what was typed, and not a guess after a syntax error.
    pub fn can_be_trusted(&self, place: &Place) -> bool {
        match place {
            Place::Line { line, .. } => {
                !self.guessed.contains(line) && self.lost_from.is_none_or(|lost| *line < lost)
            }
            Place::File(_) | Place::Variable(_) => true,
        }
    }
}

impl Value {
    /// The value as it would be typed, for messages.
    pub fn show(&self) -> String {
        match self {
            Self::Text(text) | Self::Word(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::Date(date) => date.clone(),
        }
    }
}

/// From byte offsets to lines and columns.
struct Lines<'t> {
    text: &'t str,
    file: Arc<str>,
    /// The offset at which each line begins.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str, file: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            text,
            file: file.into(),
            starts: std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    fn place(&self, offset: usize) -> (usize, Place) {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        let column = before.trim_start_matches('\u{feff}').chars().count() + 1;
        let file = self.file.clone();
        (line, Place::Line { file, line, column })
    }

    fn line(&self, line: usize) -> &'t str {
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        self.text
            .get(self.starts[line - 1]..end)
            .unwrap_or_default()
    }

    fn at(&self, span: Range<usize>) -> Place {
        self.place(span.start).1
    }

    fn members(&self, table: &DeTable<'_>) -> Vec<Member> {
        let members = table.iter().map(|(name, value)| Member {
            name: name.get_ref().to_string(),
            place: self.at(name.span()),
            value: self.value(value.get_ref()),
        });
        members.collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => Value::Integer(
                i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(
                    if number.as_str().starts_with('-') {
                        i128::MIN
                    } else {
                        i128::MAX
                    },
                ),
            ),
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(truth) => Value::Bool(*truth),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| (self.at(item.span()), self.value(item.get_ref())))
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.members(table)),
        }
    }
}
