//! The order of the house: who may use whom, and what every source file keeps to.
//!
//! A file uses what stands on its own floor or below. A new module gets a line in [`FLOORS`].

#[path = "tidy/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use source::Source;

const FLOOR_NAMES: [&str; 7] = [
    "vocabulary",
    "pure",
    "ports and engines",
    "adapters and drivers",
    "proxy",
    "admin",
    "doors",
];

/// A module and its floor. `path::*` is the module with everything below it; a path without it is
/// that one file, whose neighbours need lines of their own.
const FLOORS: &[(&str, usize)] = &[
    ("names", 0),
    ("clock", 0),
    ("metrics::*", 0),
    ("config::*", 1),
    ("decision::*", 1),
    ("spec::*", 1),
    ("target", 1),
    ("lifecycle", 1),
    ("lifecycle::gate", 1),
    ("lifecycle::places", 1),
    ("deploy", 1),
    ("deploy::configuration::*", 1),
    ("deploy::env_file", 1),
    ("deploy::lately::*", 1),
    ("deploy::plan::*", 1),
    ("deploy::records", 1),
    ("runtime::credentials", 1),
    ("runtime::reference", 1),
    ("runtime::tail", 1),
    ("runtime", 2),
    ("https", 2),
    ("inquiry", 2),
    ("store::*", 2),
    ("script::*", 2),
    // The machine is pure; it speaks of the port's instances and events.
    ("lifecycle::machine::*", 2),
    ("runtime::docker::*", 3),
    ("runtime::fake::*", 3),
    ("runtime::feed", 3),
    ("runtime::process::*", 3),
    ("deploy::journal::*", 2),
    ("deploy::route", 3),
    ("deploy::stats::*", 3),
    ("lifecycle::core", 3),
    ("lifecycle::fleet::*", 3),
    ("lifecycle::probe", 3),
    ("lifecycle::usage", 3),
    ("lifecycle::workload::*", 3),
    ("log::*", 3),
    ("traefik::*", 3),
    ("proxy::*", 4),
    ("deploy::manager::*", 4),
    ("admin::*", 5),
    ("app::*", 6),
    ("cli::*", 6),
    ("demo::*", 6),
    ("lib", 6),
    ("main", 6),
];

/// The longest file, in lines.
const LINES_MAX: usize = 500;

/// Where an answer's error status may be chosen.
const STATUS_MAKERS: &[&str] = &["proxy::respond", "decision", "script", "admin", "demo"];

/// Whose words only the sample application and the demonstration know.
const SAMPLE_WORDS: [&str; 2] = ["minion", "session"];

/// Names that others chose and that have such a word in them.
const NAMES_OF_OTHERS: [&str; 2] = ["aws_session_token", "aws_role_session_name"];

struct File {
    /// From the repository's top, for messages.
    name: String,
    module: Vec<String>,
    text: String,
    source: Source,
    /// Only compiled for tests.
    is_test: bool,
}

impl File {
    fn module(&self) -> String {
        self.module.join("::")
    }
}

fn files() -> Vec<File> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    rust_files(&top.join("src"), &mut paths);
    let mut files: Vec<File> = paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let module = module_of(path.strip_prefix(top.join("src")).unwrap());
            // Paths of the two roots start at the crate, not at a module of their name.
            let base: &[String] = match module[0].as_str() {
                "lib" | "main" => &[],
                _ => &module,
            };
            File {
                name: path.strip_prefix(top).unwrap().display().to_string(),
                source: source::read(&text, base),
                module,
                text,
                is_test: false,
            }
        })
        .collect();
    let test_modules: BTreeSet<Vec<String>> = files
        .iter()
        .flat_map(|file| {
            let tests = file.source.test_modules.iter();
            tests.map(|name| [file.module.as_slice(), std::slice::from_ref(name)].concat())
        })
        .collect();
    for file in &mut files {
        file.is_test = test_modules
            .iter()
            .any(|test| file.module.starts_with(test));
    }
    assert!(files.len() > 10, "the sources were not found");
    files
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    into.sort();
}

/// `config/typed.rs` is `config::typed`, `config/mod.rs` is `config`.
fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<String> = path
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    module.pop_if(|last| last == "mod");
    module
}

fn floors() -> BTreeMap<Vec<&'static str>, usize> {
    let entries = FLOORS.iter().map(|(path, floor)| {
        let path = path.strip_suffix("::*").unwrap_or(path);
        (path.split("::").collect(), *floor)
    });
    entries.collect()
}

/// The floor of the longest known beginning of a path.
fn floor_of(path: &[String], floors: &BTreeMap<Vec<&'static str>, usize>) -> Option<usize> {
    (1..=path.len()).rev().find_map(|length| {
        let beginning: Vec<&str> = path[..length].iter().map(String::as_str).collect();
        floors.get(beginning.as_slice()).copied()
    })
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_file_has_a_floor_and_every_line_of_the_table_a_name_of_its_own() {
    let has_line = |file: &File| {
        let module = file.module();
        FLOORS
            .iter()
            .any(|(path, _)| match path.strip_suffix("::*") {
                Some(path) => module == path || module.starts_with(&format!("{path}::")),
                None => module == *path,
            })
    };
    let problems = files()
        .iter()
        .filter(|file| !file.is_test && !has_line(file))
        .map(|file| {
            format!(
                "{} has no floor: add it to FLOORS in tests/tidy.rs",
                file.name
            )
        })
        .collect();
    report(problems);
    assert_eq!(
        floors().len(),
        FLOORS.len(),
        "a module stands twice in FLOORS"
    );
}

#[test]
fn a_file_uses_only_floors_below_its_own() {
    let floors = floors();
    let mut problems = Vec::new();
    for file in files().iter().filter(|file| !file.is_test) {
        let Some(own) = floor_of(&file.module, &floors) else {
            continue;
        };
        for (line, path) in &file.source.uses {
            // A path that ends at the root itself (`use crate::{self}`) names no module.
            if path.is_empty() {
                continue;
            }
            let used = path.join("::");
            match floor_of(path, &floors) {
                Some(floor) if floor > own => problems.push(format!(
                    "{}:{line}: {} ({}) uses {used} ({}), a higher floor",
                    file.name,
                    file.module(),
                    FLOOR_NAMES[own],
                    FLOOR_NAMES[floor]
                )),
                Some(_) => {}
                // The roots declare everything; a name that is no module is an item of theirs.
                None if own == FLOOR_NAMES.len() - 1 => {}
                None => problems.push(format!("{}:{line}: {used} has no floor", file.name)),
            }
        }
    }
    report(problems);
}

#[test]
fn every_file_says_at_its_top_what_it_owns() {
    let problems = files()
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{} does not open with a //! line", file.name))
        .collect();
    report(problems);
}

#[test]
fn a_file_can_be_held_in_the_head() {
    let problems = files()
        .iter()
        .map(|file| (&file.name, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(name, lines)| format!("{name} has {lines} lines; {LINES_MAX} are enough"))
        .collect();
    report(problems);
}

#[test]
fn only_the_sample_application_knows_its_words() {
    let mut problems = Vec::new();
    for file in files() {
        if file.module[0] == "demo" {
            continue;
        }
        for (n, line) in file.text.lines().enumerate() {
            let mut lower = line.to_lowercase();
            for name in NAMES_OF_OTHERS {
                lower = lower.replace(name, "");
            }
            let known = SAMPLE_WORDS.iter().filter(|word| lower.contains(**word));
            problems.extend(known.map(|word| format!("{}:{}: {word:?}", file.name, n + 1)));
        }
    }
    report(problems);
}

#[test]
fn error_statuses_are_chosen_in_few_places() {
    let mut problems = Vec::new();
    for file in files().iter().filter(|file| !file.is_test) {
        let module = file.module();
        let is_maker = STATUS_MAKERS
            .iter()
            .any(|maker| module == *maker || module.starts_with(&format!("{maker}::")));
        if is_maker {
            continue;
        }
        for (line, name) in &file.source.statuses {
            if is_error(name) {
                problems.push(format!(
                    "{}:{line}: StatusCode::{name} is chosen outside of {STATUS_MAKERS:?}",
                    file.name
                ));
            }
        }
    }
    report(problems);
}

/// Whether the constant is one of the statuses from 400 on.
fn is_error(constant: &str) -> bool {
    (400..600)
        .filter_map(|code| http::StatusCode::from_u16(code).ok()?.canonical_reason())
        .any(|reason| {
            let letters = reason.replace('\'', "").to_uppercase();
            letters.replace([' ', '-'], "_") == constant
        })
}

#[test]
fn the_floors_notice_a_step_up() {
    let floors = floors();
    let floor = |path: &str| {
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        floor_of(&path, &floors)
    };
    assert_eq!(floor("config::Listen"), Some(1));
    assert_eq!(floor("runtime::Runtime"), Some(2));
    assert_eq!(floor("runtime::docker::Docker"), Some(3));
    assert_eq!(floor("proxy"), Some(4));
    assert_eq!(floor("nowhere::X"), None);
    assert!(is_error("NOT_FOUND") && is_error("IM_A_TEAPOT") && !is_error("OK"));
}
