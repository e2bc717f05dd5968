//! JSON as a tree whose every part knows its place, so that everything wrong with it is told at once.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::ConfigurationProblem;

/// How many objects and lists may stand in each other.
const DEPTH_MAX: usize = 32;

/// A value, and the byte of the text at which it begins.
#[derive(Debug)]
pub struct Node {
    pub at: usize,
    pub value: Value,
}

#[derive(Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Member>),
}

/// A name in an object with its value. Names may repeat.
#[derive(Debug)]
pub struct Member {
    pub name: String,
    /// Of the name.
    pub at: usize,
    pub value: Node,
}

impl Node {
    /// What it is, for messages; never what it says, which may be a secret.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }
}

/// Reads a text. The error is about its syntax.
pub fn read(text: &str) -> Result<Node, ConfigurationProblem> {
    if text.trim().is_empty() {
        return Err(ConfigurationProblem::of_whole(
            "it is empty; it has to be a JSON object",
        ));
    }
    let raw = serde_json::from_str(text).map_err(|error| ConfigurationProblem {
        field: String::new(),
        message: format!("it is not JSON: {}", bare(&error)),
        line: Some(error.line()),
        column: Some(error.column()),
    })?;
    node(raw, text, DEPTH_MAX)
}

/// Line and column, both from 1, of a byte; columns count characters.
pub fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// The depth has a limit, so the texts that are read again for each level have one together.
fn node(raw: &RawValue, whole: &str, depth: usize) -> Result<Node, ConfigurationProblem> {
    let at = offset(raw.get(), whole);
    let wrong = |message: String| {
        let (line, column) = place(whole, at);
        ConfigurationProblem {
            field: String::new(),
            message,
            line: Some(line),
            column: Some(column),
        }
    };
    // What only shows when the value is taken: half a surrogate pair, a number without end.
    let unreadable = |error: serde_json::Error| wrong(format!("it is not JSON: {}", bare(&error)));
    let begins_with = |start: char| raw.get().starts_with(start);
    if depth == 0 && (begins_with('{') || begins_with('[')) {
        return Err(wrong(format!(
            "objects and lists stand in each other more than {DEPTH_MAX} deep"
        )));
    }
    let value = if begins_with('{') {
        let Members(members) = serde_json::from_str(raw.get()).map_err(unreadable)?;
        let members = members.into_iter().map(|(name, raw)| {
            let value = node(raw, whole, depth - 1)?;
            let at = match &name {
                Cow::Borrowed(name) => offset(name, whole).saturating_sub(1),
                // A name with escapes is a copy, which has no place.
                Cow::Owned(_) => value.at,
            };
            let name = name.into_owned();
            Ok(Member { name, at, value })
        });
        Value::Object(members.collect::<Result<_, ConfigurationProblem>>()?)
    } else if begins_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(unreadable)?;
        let items = items.into_iter().map(|raw| node(raw, whole, depth - 1));
        Value::List(items.collect::<Result<_, ConfigurationProblem>>()?)
    } else {
        match serde_json::from_str(raw.get()).map_err(unreadable)? {
            serde_json::Value::Bool(truth) => Value::Bool(truth),
            serde_json::Value::Number(number) => Value::Number(number),
            serde_json::Value::String(text) => Value::Text(text),
            _ => Value::Null,
        }
    };
    Ok(Node { at, value })
}

/// Where a part of the text begins in it.
fn offset(part: &str, whole: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// The message without the place, which is told apart.
fn bare(error: &serde_json::Error) -> String {
    let whole = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    whole.strip_suffix(&place).unwrap_or(&whole).to_owned()
}

/// The members of an object in their order, the values as they are written.
struct Members<'t>(Vec<(Cow<'t, str>, &'t RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Take)
    }
}

/// A member's name; a part of the text itself where it can be.
struct Name<'t>(Cow<'t, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        from.deserialize_str(Take)
    }
}
