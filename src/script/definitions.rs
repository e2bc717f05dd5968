//! What an editor is told of scripts: a definition file with every function that they can call.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use parking_lot::Mutex;

use crate::config::Given;
use crate::script::engine::FORBIDDEN;
use crate::script::load::bare_engine;

/// The folder of a scripts directory that editors read. It is hidden, so that nothing in it is loaded.
const FOLDER: &str = ".definitions";

const FILE: &str = "wakegate.d.rhai";

/// The functions belong to no module that a script imports.
const HEADER: &str = "module static;\n";

/// Not a doc comment, which would be that of the first function.
const ORIGIN: &str = "// Written by `wakegate definitions`, for editors. The next run replaces it.";

/// Numbers of the host language. Scripts have int and float, and no way to get any other.
const FOREIGN: [&str; 11] = [
    "i8", "i16", "i32", "i128", "u8", "u16", "u32", "u64", "u128", "f32", "Decimal",
];

/// Types that the engine writes in more ways than one, or in a way that is not in the notation.
const RESPELLED: [(&str, &str); 6] = [
    ("string", "String"),
    ("array", "Array"),
    ("map", "Map"),
    ("blob", "Blob"),
    ("range", "Range<int>"),
    ("RhaiResult", "?"),
];

/// The one function that the engine itself tells nothing of.
const TO_FLOAT: &str = "/// Convert the integer into a floating-point number.\n\
                        fn to_float(x: int) -> float;\n\n";

/// Writes the definitions below a scripts directory, in place of older ones, and tells where.
///
/// The directory itself has to be there: a wrong name makes no folder.
pub fn write(dir: &Path) -> io::Result<PathBuf> {
    let folder = dir.join(FOLDER);
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let file = folder.join(FILE);
    let draft = folder.join(format!("{FILE}.new"));
    fs::write(&draft, text())?;
    // An editor that reads it meanwhile gets all of the old one or all of the new one.
    fs::rename(&draft, &file)?;
    Ok(file)
}

/// The definitions, in Rhai's notation for them. They are the same under every configuration.
pub fn text() -> String {
    // Without a collection: no script runs that could register anything.
    let engine = bare_engine(&Given::default(), &Arc::new(Mutex::new(None)));
    let text = readable(&engine.definitions().single_file());
    text.replacen(HEADER, &format!("{HEADER}\n{ORIGIN}\n"), 1)
}

/// Takes what the engine tells of itself, and leaves out what no script can call.
fn readable(definitions: &str) -> String {
    let mut text = String::new();
    let mut comment = String::new();
    for line in definitions.lines() {
        if line.starts_with("//") {
            comment.push_str(line);
            comment.push('\n');
        } else if line.is_empty() || is_closed(line) {
            comment.clear();
        } else {
            text.push_str(&comment);
            text.push_str(&respelled(line));
            text.push_str("\n\n");
            comment.clear();
        }
    }
    text.push_str(TO_FLOAT);
    text
}

/// Whether a line declares something that is there to be refused, or for the engine only.
fn is_closed(line: &str) -> bool {
    let Some(function) = line.strip_prefix("fn ") else {
        return words(line).any(|word| FOREIGN.contains(&word));
    };
    let name = function.split('(').next().unwrap_or(function);
    FORBIDDEN.iter().any(|(forbidden, _)| *forbidden == name)
        // What has no names for its parameters stands beside another of its name that has.
        || function.contains("_: ")
        || words(line).any(|word| FOREIGN.contains(&word))
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c| !is_of_word(c))
}

/// The line with its types in one spelling.
fn respelled(line: &str) -> String {
    let line = line.replace("range=", "RangeInclusive<int>");
    let mut text = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(start) = rest.find(is_of_word) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_of_word(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        let is_name = after.starts_with([':', '(']);
        let spelling = RESPELLED.iter().find(|(written, _)| *written == word);
        text.push_str(before);
        text.push_str(match spelling {
            Some((_, spelling)) if !is_name => spelling,
            _ => word,
        });
        rest = after;
    }
    text.push_str(rest);
    text
}

/// A function of the gateway's own for scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// `proxy`; of a property its bare name, `path`.
    pub name: String,
    pub is_property: bool,
    pub arity: usize,
    /// `name: Type`, the receiver of a method included.
    pub parameters: Vec<String>,
    /// Lines that begin with `///`; empty where there is none.
    pub doc: String,
}

/// Every function that the gateway adds to the language, in order of their names.
pub fn own_functions() -> Vec<Function> {
    let engine = bare_engine(&Given::default(), &Arc::new(Mutex::new(None)));
    let mut functions = engine.collect_fn_metadata(
        None,
        |info| {
            let metadata = info.metadata;
            let name = metadata.name.as_str();
            let property = name.strip_prefix("get$");
            let is_forbidden = FORBIDDEN.iter().any(|(forbidden, _)| *forbidden == name);
            // `replace` is only bounded anew, so that the language's own words hold; reading by a name
            // in brackets is no function that has one.
            let is_named = !matches!(name, "replace" | "get$tag")
                && (property.is_some() || !name.contains('$'));
            (!is_forbidden && is_named).then(|| Function {
                name: property.unwrap_or(name).to_owned(),
                is_property: property.is_some(),
                arity: metadata.num_params,
                parameters: metadata
                    .params_info
                    .iter()
                    .take(metadata.num_params)
                    .map(ToString::to_string)
                    .collect(),
                doc: metadata.comments.join("\n"),
            })
        },
        false,
    );
    functions
        .sort_by(|one, other| (&one.name, &one.parameters).cmp(&(&other.name, &other.parameters)));
    functions
}

#[cfg(test)]
mod tests;
