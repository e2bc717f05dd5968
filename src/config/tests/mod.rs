//! What a configuration means, and what its errors say.

use std::collections::BTreeMap;

use super::*;

mod apps;
mod environment;
mod errors;
mod random;
mod shipped;
mod values;
mod vars;

fn no_env(_: &str) -> Option<String> {
    None
}

fn read(text: &str) -> Config {
    match parse(text, "gateway.toml", &no_env) {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    }
}

fn read_with(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    parse(text, "gateway.toml", &|name: &str| {
        env.get(name).map(|value| (*value).to_owned())
    })
}

/// The errors of a text, one a line.
fn errors(text: &str) -> String {
    errors_with(text, &[])
}

fn errors_with(text: &str, env: &[(&str, &str)]) -> String {
    match read_with(text, env) {
        Ok(_) => panic!("taken: {text}"),
        Err(errors) => errors.to_string(),
    }
}

/// The one error of one key, without its place.
fn complaint(table: &str, line: &str) -> String {
    let name = line.split_once(" =").unwrap().0;
    let all = errors(&format!("[{table}]\n{line}"));
    let prefix = format!("gateway.toml:2:1: [{table}] {name}: ");
    all.strip_prefix(&prefix).unwrap_or(&all).to_owned()
}
