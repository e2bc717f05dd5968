//! What an editor is told of scripts: a definition file with every function that they can call.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use parking_lot::Mutex;

use crate::config::Given;
use crate::script::engine::FORBIDDEN;
use crate::script::load::bare_engine;

/// The folder of the scripts directory where editors look. It is hidden, so that nothing in it is
/// loaded.
const FOLDER: &str = ".definitions";

const FILE: &str = "wakegate.d.rhai";

/// Writes the definitions below a scripts directory, in place of those that were there before, and
/// tells where. The directory itself has to be there.
pub fn write(dir: &Path) -> io::Result<PathBuf> {
    let folder = dir.join(FOLDER);
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let file = folder.join(FILE);
    let draft = folder.join(format!("{FILE}.new"));
    fs::write(&draft, text())?;
    // An editor that reads it meanwhile sees the old one or the new one.
    fs::rename(&draft, &file)?;
    Ok(file)
}

/// The definitions in Rhai's own notation. They are the same under every configuration.
pub fn text() -> String {
    // Without a collection: no script runs that could register anything.
    let engine = bare_engine(&Given::default(), &Arc::new(Mutex::new(None)));
    callable(&engine.definitions().single_file())
}

/// Without what is only there to be refused.
fn callable(definitions: &str) -> String {
    let mut text = String::new();
    let mut comment = String::new();
    for line in definitions.lines() {
        if line.starts_with("//") {
            comment.push_str(line);
            comment.push('\n');
            continue;
        }
        if is_callable(line) {
            text.push_str(&comment);
            text.push_str(line);
            text.push('\n');
        }
        comment.clear();
    }
    text
}

fn is_callable(line: &str) -> bool {
    let name = line
        .strip_prefix("fn ")
        .and_then(|rest| rest.split('(').next());
    !name.is_some_and(|name| FORBIDDEN.iter().any(|(forbidden, _)| *forbidden == name))
}

/// A function of the gateway's own for scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// `proxy`; of a property its bare name, `path`.
    pub name: String,
    pub is_property: bool,
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
            // Only bounded anew, so that the language's own words hold.
            (!is_forbidden && name != "replace").then(|| Function {
                name: property.unwrap_or(name).to_owned(),
                is_property: property.is_some(),
                parameters: metadata.params_info
                    [..metadata.num_params.min(metadata.params_info.len())]
                    .iter()
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
mod tests {
    use super::*;

    #[test]
    fn every_function_has_words_and_names_for_its_parameters() {
        let functions = own_functions();
        assert!(functions.len() > 80, "{}", functions.len());
        for function in &functions {
            assert!(function.doc.len() > 20, "{function:?}");
            for parameter in &function.parameters {
                let named = parameter.split_once(": ");
                assert!(named.is_some_and(|(name, _)| name != "_"), "{function:?}");
            }
        }
        for known in [
            "route",
            "proxy",
            "wait",
            "header",
            "assert_eq",
            "simulate",
            "hour",
            "workload",
        ] {
            assert!(functions.iter().any(|f| f.name == known), "{known}");
        }
    }

    #[test]
    fn the_file_has_signatures_with_comments_and_nothing_that_is_refused() {
        let text = text();
        assert!(text.starts_with("module static;"), "{}", &text[..100]);
        for line in [
            "fn proxy(name: String) -> ProxyDecision;",
            "fn simulate(method: String, url: String) -> Decision;",
            // What the language brings is there too.
            "fn to_upper(",
        ] {
            assert!(text.contains(line), "{line}");
        }
        let proxy = text
            .lines()
            .position(|line| line.starts_with("fn proxy("))
            .unwrap();
        let comment = text.lines().nth(proxy - 1).unwrap();
        assert!(comment.starts_with("/// "), "{comment}");
        for refused in [
            "fn sleep(",
            "fn eval(",
            "fn timestamp(",
            "fn exit(",
            "fn curry(",
        ] {
            assert!(!text.contains(refused), "{refused}");
        }
        let own: Vec<String> = own_functions().into_iter().map(|f| f.name).collect();
        for line in text.lines().filter(|line| line.contains("(_:")) {
            let name = line.trim_start_matches("fn ").split('(').next().unwrap();
            assert!(!own.iter().any(|own| own == name), "{line}");
        }
    }

    #[test]
    fn the_file_is_written_whole_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path()).unwrap();
        assert_eq!(file, dir.path().join(".definitions/wakegate.d.rhai"));
        fs::write(&file, "old").unwrap();
        write(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text());
        assert_eq!(fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 1);
        let nowhere = write(&dir.path().join("nowhere")).unwrap_err();
        assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
    }
}
