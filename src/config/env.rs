//! The environment: which variables are keys, and which are nobody's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;

use super::error::{ConfigError, Place};
use super::keys::KEYS;
use super::suggest;

const PREFIX: &str = "WAKEGATE_";

/// Variables with the gateway's prefix that are no keys of gateway.toml: the file's own path, the
/// address of a running gateway's API, what a child process is told its name is, and what the
/// tests must find.
pub const RESERVED: [&str; 4] = [
    "WAKEGATE_CONFIG",
    "WAKEGATE_ADMIN_URL",
    "WAKEGATE_WORKLOAD",
    "WAKEGATE_REQUIRE",
];

/// Every environment variable that sets a key, in the order of the file.
pub fn env_names() -> Vec<String> {
    KEYS.iter().map(|key| key.variable()).collect()
}

/// One error for each variable that looks like the gateway's and is not known.
pub fn unknown_variables<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<ConfigError> {
    let known = env_names();
    let is_known = |name: &str| RESERVED.contains(&name) || known.iter().any(|key| key == name);
    let mut errors: Vec<ConfigError> = names
        .into_iter()
        .filter(|name| name.starts_with(PREFIX) && !is_known(name))
        .map(|name| {
            let message = if name.starts_with("WAKEGATE_PROCESS_IMAGES") {
                "images of the process runtime are only set in gateway.toml".to_owned()
            } else if name.starts_with("WAKEGATE_APPS") {
                "applications are only set in gateway.toml".to_owned()
            } else if name.starts_with("WAKEGATE_VARS") {
                "unknown variable: [vars] is only set in gateway.toml, where NAME = { env = \"…\" } \
                 takes a value from a variable of another name"
                    .to_owned()
            } else {
                // Without the prefix, which all share and which would make all of them near.
                let candidates = known.iter().map(|name| &name[PREFIX.len()..]);
                let hint = suggest::nearest(&name[PREFIX.len()..], candidates)
                    .map_or_else(String::new, |near| {
                        format!(" (did you mean `{PREFIX}{near}`?)")
                    });
                format!("unknown variable{hint}")
            };
            ConfigError {
                place: Place::Variable(name.to_owned()),
                message,
            }
        })
        .collect();
    errors.sort_by(|a, b| a.place.cmp(&b.place));
    errors
}

/// An environment: the gateway's part of it, and the rest, of which only what is asked for is read.
pub(super) struct Environment {
    /// The gateway's variables, all of them text.
    own: BTreeMap<String, String>,
    others: BTreeMap<String, OsString>,
    errors: RefCell<Vec<ConfigError>>,
}

impl Environment {
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut own = BTreeMap::new();
        let mut others = BTreeMap::new();
        let mut errors = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().map(str::to_owned) else {
                continue;
            };
            if !name.starts_with(PREFIX) && name != super::meant::DOCKER_HOST {
                others.insert(name, value);
                continue;
            }
            match value.into_string() {
                Ok(value) => drop(own.insert(name, value)),
                Err(_) => errors.push(not_text(name)),
            }
        }
        errors.extend(unknown_variables(own.keys().map(String::as_str)));
        Self {
            own,
            others,
            errors: RefCell::new(errors),
        }
    }

    /// The value of a variable. One that is no text is an error, and then of no meaning.
    pub fn get(&self, name: &str) -> Option<String> {
        if let Some(value) = self.own.get(name) {
            return Some(value.clone());
        }
        let value = self.others.get(name)?.to_str().map(str::to_owned);
        Some(value.unwrap_or_else(|| {
            let mut errors = self.errors.borrow_mut();
            let error = not_text(name.to_owned());
            if !errors.contains(&error) {
                errors.push(error);
            }
            String::new()
        }))
    }

    /// What is wrong with the gateway's part and with what was asked for.
    pub fn into_errors(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }
}

fn not_text(variable: String) -> ConfigError {
    ConfigError {
        place: Place::Variable(variable),
        message: "is not UTF-8".to_owned(),
    }
}
