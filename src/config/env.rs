//! The environment: which variables are keys, and which are nobody's.

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

/// The gateway's part of an environment, and what is wrong with it.
pub(super) fn collect(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> (BTreeMap<String, String>, Vec<ConfigError>) {
    let mut read = BTreeMap::new();
    let mut errors = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().map(str::to_owned) else {
            continue;
        };
        if !name.starts_with(PREFIX) && name != super::meant::DOCKER_HOST {
            continue;
        }
        match value.into_string() {
            Ok(value) => drop(read.insert(name, value)),
            Err(_) => errors.push(ConfigError {
                place: Place::Variable(name),
                message: "is not UTF-8".to_owned(),
            }),
        }
    }
    errors.extend(unknown_variables(read.keys().map(String::as_str)));
    (read, errors)
}
