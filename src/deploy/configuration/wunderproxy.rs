//! A launch configuration as wunderproxy wrote it: what the gateway does otherwise is a warning.

use std::collections::BTreeSet;

use super::json::{Member, Node, Value};
use super::values::{self, Problems, TOLD_MAX, below, members, shortened};
use super::{LaunchConfiguration, Pull, tag_of};
use crate::spec::HealthCheck;

/// The key that tells this form from our own.
pub const MARK: &str = "ContainerConfig";

/// What is not carried out, and why; so many at the most.
struct Warnings(Vec<String>);

impl Warnings {
    fn add(&mut self, path: &str, why: &str) {
        match self.0.len() {
            n if n < TOLD_MAX => self.0.push(format!("{path}: {why}")),
            TOLD_MAX => self.0.push("and there is more that is ignored".to_owned()),
            _ => {}
        }
    }

    fn unknown(&mut self, prefix: &str, member: &Member) {
        let path = below(prefix, &member.name);
        self.add(&path, "is not known here and is ignored");
    }
}

pub fn read(problems: &mut Problems, all: &[&Member]) -> (LaunchConfiguration, Vec<String>) {
    let mut read = LaunchConfiguration::default();
    let mut warnings = Warnings(Vec::new());
    let mut has_revision = false;
    for member in all {
        let (name, node) = (member.name.as_str(), &member.value);
        match name {
            "ContainerConfig" => container(problems, &mut warnings, node, &mut read),
            "HostConfig" | "HealthCheckPath" | "Revision" | "ForceReload" if node.is_null() => {}
            "HostConfig" => host(problems, &mut warnings, node, &mut read),
            "HealthCheckPath" => read.health = health(problems, node),
            "Revision" => {
                let revision = values::checked_text(problems, name, node, values::revision);
                has_revision = revision.is_none() || revision.as_deref() != Some("");
                read.revision = revision.unwrap_or_default();
            }
            "ForceReload" => {
                if values::flag(problems, name, node) == Some(true) {
                    read.pull = Pull::Always;
                }
            }
            _ => warnings.unknown("", member),
        }
    }
    if !has_revision && let Some(tag) = read.image.as_deref().and_then(tag_of) {
        read.revision = tag.to_owned();
    }
    (read, warnings.0)
}

fn container(
    problems: &mut Problems,
    warnings: &mut Warnings,
    node: &Node,
    read: &mut LaunchConfiguration,
) {
    for member in members(problems, MARK, node).unwrap_or_default() {
        let field = below(MARK, &member.name);
        let node = &member.value;
        match member.name.as_str() {
            "Image" | "Env" | "ExposedPorts" | "Cmd" | "Memory" if node.is_null() => {}
            "Image" => read.image = image(problems, &field, node),
            "Env" => envs(problems, warnings, &field, node, read),
            "ExposedPorts" => read.port = port(problems, warnings, &field, node),
            "Cmd" => read.command = command(problems, &field, node),
            "Memory" => {
                let bytes = values::whole(problems, &field, node, 0, i64::MAX as u64);
                // Docker's word for no limit.
                read.memory = bytes.filter(|bytes| *bytes > 0);
            }
            _ => warnings.unknown(MARK, member),
        }
    }
}

fn image(problems: &mut Problems, field: &str, node: &Node) -> Option<String> {
    match &node.value {
        // Go writes what is not set like this.
        Value::Text(text) if text.is_empty() => None,
        _ => values::checked_text(problems, field, node, values::image),
    }
}

/// `NAME=value`; the last one of a name counts, as it does for the engine. No value is told: it may
/// be a secret, and so may be what has no name.
fn envs(
    problems: &mut Problems,
    warnings: &mut Warnings,
    field: &str,
    node: &Node,
    read: &mut LaunchConfiguration,
) {
    let entries = values::list(problems, field, node).unwrap_or_default();
    for (n, entry) in entries.into_iter().enumerate() {
        let field = format!("{field}[{n}]");
        match entry.split_once('=') {
            None => warnings.add(&field, "has no '=', so it sets nothing and is ignored"),
            Some(("", _)) => warnings.add(&field, "has no name before the '=' and is ignored"),
            Some((name, value)) => {
                let before = read.envs.insert(name.to_owned(), value.to_owned());
                if before.is_some() {
                    let why = format!("sets {:?} again; the last one counts", shortened(name));
                    warnings.add(&field, &why);
                }
            }
        }
    }
}

/// The lowest TCP port; which of several is the application's nobody says.
fn port(problems: &mut Problems, warnings: &mut Warnings, field: &str, node: &Node) -> Option<u16> {
    let exposed = field;
    let mut ports = BTreeSet::new();
    for member in members(problems, field, node)? {
        let field = below(field, &member.name);
        let name = member.name.as_str();
        // A port without a protocol is TCP's.
        let (number, protocol) = name.split_once('/').unwrap_or((name, "tcp"));
        match (number.parse(), protocol) {
            (Ok(port), "tcp") if port != 0 => {
                ports.insert(port);
            }
            (Ok(_), "udp" | "sctp") => {
                warnings.add(
                    &field,
                    "is not TCP, which the gateway speaks, and is ignored",
                );
            }
            _ => problems.add(&field, member.at, "is not a port (try \"9292/tcp\")"),
        }
    }
    let lowest = ports.first().copied()?;
    if ports.len() > 1 {
        let why = format!(
            "has {} TCP ports, of which the lowest, {lowest}, gets the requests",
            ports.len()
        );
        warnings.add(exposed, &why);
    }
    Some(lowest)
}

/// A list, or the one word that the engine takes for one.
fn command(problems: &mut Problems, field: &str, node: &Node) -> Option<Vec<String>> {
    let command = match &node.value {
        Value::Text(_) => values::text(problems, field, node).map(|word| vec![word]),
        _ => values::list(problems, field, node),
    };
    // Nothing is the image's own command, for the engine too.
    command.filter(|command| !command.is_empty())
}

fn host(
    problems: &mut Problems,
    warnings: &mut Warnings,
    node: &Node,
    read: &mut LaunchConfiguration,
) {
    const PREFIX: &str = "HostConfig";
    for member in members(problems, PREFIX, node).unwrap_or_default() {
        let field = below(PREFIX, &member.name);
        let node = &member.value;
        match member.name.as_str() {
            "Binds" if node.is_null() => {}
            "Binds" => read.binds = values::list(problems, &field, node).unwrap_or_default(),
            "PublishAllPorts" | "PortBindings" => {
                if asks_for_something(node) {
                    warnings.add(
                        &field,
                        "is not carried out: no port is published, the gateway reaches the \
                         container at its own address",
                    );
                }
            }
            _ => warnings.unknown(PREFIX, member),
        }
    }
}

fn asks_for_something(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(members) => !members.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Text(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// Without a timeout of its own: that is the application's in gateway.toml.
fn health(problems: &mut Problems, node: &Node) -> Option<HealthCheck> {
    if matches!(&node.value, Value::Text(text) if text.is_empty()) {
        return None;
    }
    let check = HealthCheck::check_path;
    let path = values::checked_text(problems, "HealthCheckPath", node, check)?;
    Some(HealthCheck {
        path,
        timeout: None,
        interval: None,
    })
}
