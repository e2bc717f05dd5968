//! The dependencies against deny.toml: what `cargo deny check` would tell of licences, origins and doubles.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use spdx::{Expression, ParseMode};

/// The parts of deny.toml that are checked here; the rest needs the tool itself.
#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// Once is fine; without this the crate may not be there at all.
    #[serde(default, rename = "deny-multiple-versions")]
    only_doubles: bool,
}

fn deny() -> Deny {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every package that is built for this platform, as cargo tells it.
fn packages() -> Vec<Value> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version=1"])
        .args(["--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {told}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 50, "the packages were not found");
    packages
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

#[test]
fn every_licence_is_allowed() {
    let licences = deny().licenses;
    let refused: Vec<String> = packages()
        .iter()
        .filter(|package| {
            let exceptions = licences.exceptions.iter();
            let own = exceptions
                .filter(|exception| exception.name == text(package, "name"))
                .flat_map(|exception| &exception.allow);
            let allowed: Vec<&str> = licences
                .allow
                .iter()
                .chain(own)
                .map(String::as_str)
                .collect();
            !is_allowed(text(package, "license"), &allowed)
        })
        .map(|package| format!("{}: {:?}", text(package, "id"), package["license"]))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn everything_comes_from_the_registry() {
    let strangers: Vec<String> = packages()
        .iter()
        .filter(|package| text(package, "name") != env!("CARGO_PKG_NAME"))
        .filter(|package| {
            !text(package, "source")
                .starts_with("registry+https://github.com/rust-lang/crates.io-index")
        })
        .map(|package| text(package, "id").to_owned())
        .collect();
    assert!(strangers.is_empty(), "{strangers:#?}");
}

#[test]
fn what_is_banned_is_not_there_and_heavy_crates_are_there_once() {
    let mut versions = BTreeMap::<String, Vec<String>>::new();
    for package in packages() {
        let version = text(&package, "version").to_owned();
        let name = text(&package, "name").to_owned();
        versions.entry(name).or_default().push(version);
    }
    let wrong: Vec<String> = deny()
        .bans
        .deny
        .iter()
        .filter_map(|ban| {
            let there = versions.get(&ban.name)?;
            let fine = ban.only_doubles && there.len() == 1;
            (!fine).then(|| format!("{}: {there:?}", ban.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_licence_is_read_as_its_expression_means() {
    for (licence, allowed) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MPL-2.0+", false),
        ("", false),
    ] {
        let is = is_allowed(licence, &["MIT", "Apache-2.0"]);
        assert_eq!(is, allowed, "{licence:?}");
    }
}

/// Whether one of the ways to read the SPDX expression is made of allowed licences only. What
/// `WITH` adds takes conditions away and adds none.
fn is_allowed(licence: &str, allowed: &[&str]) -> bool {
    Expression::parse_mode(licence, ParseMode::LAX).is_ok_and(|expression| {
        expression.evaluate(|requirement| {
            let id = requirement.license.id();
            id.is_some_and(|id| allowed.contains(&id.name))
        })
    })
}
