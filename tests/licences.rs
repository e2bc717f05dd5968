//! What the binary is linked from: licences that allow it, from the registry, one version of each heavy crate.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

/// Licences that ask for no more than to be named.
const ALLOWED: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates with another licence, each looked at. MPL-2.0 binds changes to the crate's own files.
const EXCEPTIONS: [(&str, &str); 1] = [("smartstring", "MPL-2.0+")];

/// Crates that are too large to be there twice.
const ONCE: [&str; 14] = [
    "axum",
    "bollard",
    "clap",
    "h2",
    "http",
    "hyper",
    "hyper-util",
    "reqwest",
    "rhai",
    "rustix",
    "rustls",
    "tokio",
    "tokio-util",
    "tower",
];

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
fn every_licence_allows_a_binary_under_mit_or_apache() {
    let refused: Vec<String> = packages()
        .iter()
        .filter(|package| {
            let (name, licence) = (text(package, "name"), text(package, "license"));
            !(is_allowed(licence) || EXCEPTIONS.contains(&(name, licence)))
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
fn no_heavy_crate_is_there_twice() {
    let mut versions = BTreeMap::<String, Vec<String>>::new();
    for package in packages() {
        let name = text(&package, "name");
        if ONCE.contains(&name) {
            let version = text(&package, "version").to_owned();
            versions.entry(name.to_owned()).or_default().push(version);
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "{versions:#?}");
}

#[test]
fn a_licence_is_read_as_its_expression_means() {
    for (licence, allowed) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("AGPL-3.0-only", false),
        ("MPL-2.0+", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(licence), allowed, "{licence:?}");
    }
}

/// Whether one of the ways to read the SPDX expression is made of allowed licences only. What
/// `WITH` adds takes conditions away and adds none.
fn is_allowed(licence: &str) -> bool {
    Expression::parse_mode(licence, ParseMode::LAX).is_ok_and(|expression| {
        expression.evaluate(|requirement| {
            let id = requirement.license.id();
            id.is_some_and(|id| ALLOWED.contains(&id.name))
        })
    })
}
