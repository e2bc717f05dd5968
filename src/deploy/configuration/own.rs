//! A launch configuration in our own form: every key is known, or is an error.

use super::json::{Member, Node, Value};
use super::values::{self, Problems, below, members, unknown_key};
use super::{LaunchConfiguration, Pull};
use crate::spec::{
    APP_LABEL, HEALTH_INTERVAL_LABEL, HEALTH_PATH_LABEL, HEALTH_TIMEOUT_LABEL, HealthCheck,
    PORT_LABEL, RELEASE_LABEL, REVISION_LABEL,
};

/// What may stand in it.
pub const KEYS: [&str; 17] = [
    "image",
    "revision",
    "command",
    "envs",
    "port",
    "memory",
    "cpus",
    "pids",
    "network",
    "binds",
    "labels",
    "health",
    "archive",
    "pull",
    "privileged",
    "cap_add",
    "devices",
];

const HEALTH_KEYS: [&str; 3] = ["path", "timeout", "interval"];

/// Labels that are written from other keys, so that they are what the gateway knows a release by.
const OWN_LABELS: [(&str, &str); 7] = [
    (APP_LABEL, "the gateway writes it"),
    (RELEASE_LABEL, "the gateway writes it"),
    (REVISION_LABEL, "the gateway writes it, from `revision`"),
    (HEALTH_PATH_LABEL, "set `health` in its place"),
    (HEALTH_TIMEOUT_LABEL, "set `health` in its place"),
    (HEALTH_INTERVAL_LABEL, "set `health` in its place"),
    (PORT_LABEL, "set `port` in its place"),
];

pub fn read(problems: &mut Problems, all: &[&Member]) -> LaunchConfiguration {
    let mut read = LaunchConfiguration::default();
    for member in all {
        key(problems, member, &mut read);
    }
    let is_set = |name: &str| all.iter().any(|m| m.name == name && !m.value.is_null());
    if !is_set("revision") {
        problems.missing(
            "revision",
            "is missing: it says which release this is (try \"revision\": \"42\")",
        );
    }
    read
}

fn key(problems: &mut Problems, member: &Member, read: &mut LaunchConfiguration) {
    let (name, node) = (member.name.as_str(), &member.value);
    // As if it were not there, which is how programs often write it.
    if node.is_null() && KEYS.contains(&name) {
        return;
    }
    match name {
        "image" => read.image = values::checked_text(problems, name, node, values::image),
        "revision" => read.revision = revision(problems, node).unwrap_or_default(),
        "command" => read.command = values::list(problems, name, node),
        "envs" => {
            let envs = values::table(problems, name, node, values::variable_name);
            read.envs = envs.unwrap_or_default();
        }
        "port" => read.port = values::whole(problems, name, node, 1, u16::MAX),
        "memory" => read.memory = values::size(problems, name, node),
        "cpus" => read.cpus = values::cores(problems, name, node),
        "pids" => read.pids = values::whole(problems, name, node, 1, i64::MAX),
        "network" => read.network = values::checked_text(problems, name, node, values::word),
        "binds" => read.binds = values::list(problems, name, node).unwrap_or_default(),
        "labels" => {
            let labels = values::table(problems, name, node, label_name);
            read.labels = labels.unwrap_or_default();
        }
        "health" => read.health = health(problems, node),
        "archive" => read.archive = values::checked_text(problems, name, node, values::archive),
        "pull" => read.pull = pull(problems, node).unwrap_or_default(),
        "privileged" => read.privileged = values::flag(problems, name, node).unwrap_or_default(),
        "cap_add" => read.cap_add = values::list(problems, name, node).unwrap_or_default(),
        "devices" => read.devices = values::list(problems, name, node).unwrap_or_default(),
        "name" => problems.add(
            name,
            member.at,
            "unknown key: the container's name is made of the application, the revision and the hash",
        ),
        _ => unknown_key(problems, "", member, &KEYS),
    }
}

fn revision(problems: &mut Problems, node: &Node) -> Option<String> {
    values::checked_text(problems, "revision", node, |text| {
        if text.trim().is_empty() {
            return Err("is empty".to_owned());
        }
        values::revision(text)
    })
}

fn label_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a label needs a name".to_owned());
    }
    match OWN_LABELS.iter().find(|(own, _)| *own == name) {
        Some((_, hint)) => Err(format!("is a label of the gateway's own: {hint}")),
        None => Ok(()),
    }
}

fn health(problems: &mut Problems, node: &Node) -> Option<HealthCheck> {
    let all = members(problems, "health", node)?;
    let mut path = None;
    let (mut timeout, mut interval) = (None, None);
    for member in &all {
        let field = below("health", &member.name);
        let node = &member.value;
        match member.name.as_str() {
            name if !HEALTH_KEYS.contains(&name) => {
                unknown_key(problems, "health", member, &HEALTH_KEYS);
            }
            _ if node.is_null() => {}
            "path" => path = values::checked_text(problems, &field, node, HealthCheck::check_path),
            "timeout" => timeout = values::time(problems, &field, node),
            _ => interval = values::time(problems, &field, node),
        }
    }
    if path.is_none() && !problems.has("health.path") {
        problems.add(
            "health.path",
            node.at,
            "is missing: it is the path that is asked (try \"path\": \"/up\")",
        );
    }
    Some(HealthCheck {
        path: path?,
        timeout,
        interval,
    })
}

fn pull(problems: &mut Problems, node: &Node) -> Option<Pull> {
    match &node.value {
        Value::Text(text) if text == "missing" => Some(Pull::Missing),
        Value::Text(text) if text == "always" => Some(Pull::Always),
        _ => {
            let message = "is none of \"missing\", \"always\"";
            problems.add("pull", node.at, message);
            None
        }
    }
}
