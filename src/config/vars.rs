//! `[vars]`: constants for scripts, whose names are the user's own.

use super::error::Place;
use super::kind::Complaint;
use super::suggest;
use super::typed::{Member, Typed, Value};
use super::{Constant, ScriptLimits};

/// Lists within lists, the outermost included.
const LIST_DEPTH_MAX: usize = 4;

/// What a table in place of a value may say.
const KEYS: [&str; 2] = ["env", "default"];

/// Variables of this beginning are keys of gateway.toml.
const OWN_PREFIX: &str = "WAKEGATE_";

/// Why a name is none that scripts can write.
pub fn name(name: &str) -> Result<(), String> {
    let is_word = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let starts_well = name
        .trim_start_matches('_')
        .starts_with(|first: char| first.is_ascii_alphabetic());
    if is_word && starts_well {
        return Ok(());
    }
    Err(
        "is no name that scripts can write: it has letters, digits and _, and a digit is not first"
            .to_owned(),
    )
}

/// Reads one constant. `env` tells the value of a variable of the environment.
pub fn constant(
    value: &Value,
    typed: &Typed,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Constant, Vec<Complaint>> {
    match value {
        Value::Table(members) => from_environment(members, typed, env),
        other => plain(other, LIST_DEPTH_MAX),
    }
}

fn plain(value: &Value, depth: usize) -> Result<Constant, Vec<Complaint>> {
    let message = match value {
        Value::Text(text) | Value::Word(text) => return Ok(Constant::Text(text.clone())),
        Value::Bool(truth) => return Ok(Constant::Bool(*truth)),
        Value::Integer(number) => match i64::try_from(*number) {
            Ok(number) => return Ok(Constant::Integer(number)),
            Err(_) => format!("{number} is out of range ({} to {})", i64::MIN, i64::MAX),
        },
        Value::Float(number) if number.is_finite() => return Ok(Constant::Float(*number)),
        Value::Float(number) => format!("{number} is not a number that scripts can count with"),
        Value::List(_) if depth == 0 => {
            format!("lists can stand in lists {LIST_DEPTH_MAX} deep, not deeper")
        }
        Value::List(items) => return list(items, depth - 1),
        Value::Date(date) => format!("{date} is a date (write {date:?})"),
        Value::Table(_) => "a table cannot stand in a list".to_owned(),
    };
    Err(vec![message.into()])
}

fn list(items: &[(Place, Value)], depth: usize) -> Result<Constant, Vec<Complaint>> {
    let mut read = Vec::new();
    let mut complaints = Vec::new();
    for (at, item) in items {
        match plain(item, depth) {
            Ok(item) => read.push(item),
            Err(wrong) => complaints.extend(wrong.into_iter().map(|complaint| Complaint {
                at: complaint.at.or_else(|| Some(at.clone())),
                message: complaint.message,
            })),
        }
    }
    if complaints.is_empty() {
        Ok(Constant::List(read))
    } else {
        Err(complaints)
    }
}

/// `{ env = "NAME" }`, `{ env = "NAME", default = "…" }`. The variable's value stands in no message.
fn from_environment(
    members: &[Member],
    typed: &Typed,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Constant, Vec<Complaint>> {
    let mut variable = None;
    let mut default = None;
    let mut complaints = Vec::new();
    let mut is_whole = true;
    for member in members {
        if !typed.can_be_trusted(&member.place) {
            is_whole = false;
            continue;
        }
        let read = match member.name.as_str() {
            "env" => variable_name(&member.value).map(|name| variable = Some(name)),
            "default" => default_text(&member.value).map(|text| default = Some(text)),
            other => Err(format!(
                "{other}: unknown key{}",
                match suggest::hint(other, KEYS) {
                    hint if hint.is_empty() => format!(" (there are {})", KEYS.join(", ")),
                    hint => hint,
                }
            )),
        };
        if let Err(message) = read {
            complaints.push(Complaint {
                at: Some(member.place.clone()),
                message,
            });
        }
    }
    if !complaints.is_empty() {
        return Err(complaints);
    }
    // A part that could not be read has its own error, and what is missing may be in it.
    if !is_whole {
        return Ok(Constant::Text(String::new()));
    }
    let Some(variable) = variable else {
        let message = "a table here says which variable of the environment is meant \
                       (write { env = \"NAME\" })";
        return Err(vec![message.to_owned().into()]);
    };
    // Set to nothing is set: what an empty text means is for the scripts to say.
    match env(variable).or(default) {
        Some(text) => Ok(Constant::Text(text)),
        None => {
            let message = format!(
                "the environment variable {variable} is not set (set it, or write default = \"…\" \
                 beside env)"
            );
            Err(vec![message.into()])
        }
    }
}

fn variable_name(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(name) if name.starts_with(OWN_PREFIX) => Err(format!(
            "env: {name:?} would set a key of this file, as all of {OWN_PREFIX}… do (take another \
             name)"
        )),
        Value::Text(name) if !name.is_empty() && !name.contains(['=', '\0']) => Ok(name),
        other => Err(format!(
            "env: {} is not a variable's name (try \"NAME\")",
            other.show()
        )),
    }
}

/// As what is in the environment is always text, so is what stands in for it.
fn default_text(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => Err(format!(
            "default: what comes from the environment is always text (write \"{}\")",
            value.show()
        )),
        other => Err(format!(
            "default: {} is not text, as what comes from the environment is",
            other.show()
        )),
    }
}

/// Why a script could not hold the value.
pub fn too_large(constant: &Constant, limits: &ScriptLimits) -> Option<String> {
    let (items, bytes) = sizes(constant);
    if items > limits.array_items_max {
        let max = limits.array_items_max;
        return Some(format!(
            "has {items} items, and [scripts] array_items_max is {max}"
        ));
    }
    (bytes > limits.string_bytes_max).then(|| {
        let max = limits.string_bytes_max;
        format!("has {bytes} bytes, and [scripts] string_bytes_max is {max}")
    })
}

/// Items of lists and bytes of text in a value, as scripts count them: all that is in it.
fn sizes(constant: &Constant) -> (usize, usize) {
    match constant {
        Constant::Text(text) => (0, text.len()),
        Constant::Integer(_) | Constant::Float(_) | Constant::Bool(_) => (0, 0),
        Constant::List(list) => list
            .iter()
            .map(sizes)
            .fold((list.len(), 0), |(items, bytes), (i, b)| {
                (items + i, bytes + b)
            }),
    }
}
