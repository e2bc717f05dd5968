//! The launch configuration of a release: what its container is made of, read and turned into a specification.

mod json;
mod own;
#[cfg(test)]
mod tests;
mod values;
mod wunderproxy;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::names::{AppName, ReleaseHash, WorkloadName};
use crate::spec::{
    APP_LABEL, HEALTH_INTERVAL, HealthCheck, RELEASE_LABEL, REVISION_LABEL, WorkloadSpec,
};

use json::Value;
use values::Problems;

/// The largest launch configuration, in bytes.
pub const CONFIGURATION_BYTES_MAX: usize = 1 << 20;

/// The longest tag of an image, in bytes (OCI Distribution Specification, "Pulling manifests").
const TAG_BYTES_MAX: usize = 128;

/// The longest name of a release's container, in bytes: that of a DNS label (RFC 1035 §2.3.4), so
/// that containers can find each other by it. Well below what a workload's name may have.
const NAME_BYTES_MAX: usize = 63;

/// How one release is launched. Its hash is that of the bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LaunchConfiguration {
    /// `None`: see [`LaunchConfiguration::image`].
    pub image: Option<String>,
    /// What people call the release: a tag, a date, a branch. Up to 128 bytes that can be printed;
    /// `""` where wunderproxy's form tells none.
    pub revision: String,
    /// Arguments in place of the image's own command.
    pub command: Option<Vec<String>>,
    /// Environment variables; they go over those of the application's `env_file`.
    pub envs: BTreeMap<String, String>,
    /// The TCP port that the application listens on; `None` leaves it to the image's exposed port.
    pub port: Option<u16>,
    /// Memory limit, in bytes.
    pub memory: Option<u64>,
    /// CPU limit, in cores.
    pub cpus: Option<f64>,
    /// Limit of processes and threads.
    pub pids: Option<i64>,
    /// `None`: the application's, else the engine's configured default.
    pub network: Option<String>,
    /// Bind mounts, `host-path:container-path[:ro]`; what is allowed the policy says.
    pub binds: Vec<String>,
    /// None of them is one that the gateway writes itself.
    pub labels: BTreeMap<String, String>,
    /// `None`: the application's `health_path`, else whatever the scripts or the engine say.
    pub health: Option<HealthCheck>,
    /// The key, below the store's prefix, of an archive that the image is loaded from.
    pub archive: Option<String>,
    pub pull: Pull,
    pub privileged: bool,
    pub cap_add: Vec<String>,
    /// Device paths of the host.
    pub devices: Vec<String>,
}

/// When the image is got although the engine may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// Only when the engine has none of its name.
    #[default]
    Missing,
    /// At every launch; a container that is there already stays, with a warning when its image has
    /// become another one.
    Always,
}

/// What a release is given by its application's settings.
#[derive(Clone, PartialEq)]
pub struct Given {
    /// Where images come from whose configuration names none, such as `localhost:8080`.
    pub registry: String,
    /// Environment variables of the `env_file`.
    pub env: BTreeMap<String, String>,
    /// The network of a configuration that names none.
    pub network: Option<String>,
    /// The health check of a configuration that has none.
    pub health_path: Option<String>,
    /// The timeout of a health check that names none.
    pub health_timeout: Duration,
}

/// Why bytes are no launch configuration: everything that is wrong with them, at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationError {
    /// In the order of the text, at most a hundred.
    pub problems: Vec<ConfigurationProblem>,
}

/// One thing that is wrong with a launch configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationProblem {
    /// As it is written in JSON, such as `health.path` or `binds[0]`; empty for the whole.
    pub field: String,
    /// Never the value of an environment variable.
    pub message: String,
    /// From 1; `None` for what is missing.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
}

impl LaunchConfiguration {
    /// Reads a configuration in either form, with warnings about what of it is not carried out.
    ///
    /// Our own form takes the fields of a workload's specification but for its name, and `revision`,
    /// `health`, `archive` and `pull`; it has no warnings. wunderproxy's is known by its key
    /// `ContainerConfig`; of that one only what is of the wrong type is an error.
    ///
    /// # Errors
    /// Everything that is wrong at once, each with its field and, where it stands somewhere, its place.
    pub fn read(bytes: &[u8]) -> Result<(Self, Vec<String>), ConfigurationError> {
        if bytes.len() > CONFIGURATION_BYTES_MAX {
            let message = format!("it has more than {CONFIGURATION_BYTES_MAX} bytes");
            return Err(ConfigurationProblem::of_whole(&message).into());
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            let (line, column) = json::place(good, good.len());
            ConfigurationProblem {
                line: Some(line),
                column: Some(column),
                ..ConfigurationProblem::of_whole("it is not UTF-8")
            }
        })?;
        // Editors on Windows begin files with it; RFC 8259 §8.1 lets readers pass it over.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = json::read(text)?;
        let mut problems = Problems::new(text);
        if !matches!(root.value, Value::Object(_)) {
            problems.add("", root.at, "it has to be a JSON object");
            return problems.or((Self::default(), Vec::new()));
        }
        let members = values::members(&mut problems, "", &root).unwrap_or_default();
        let is_wunderproxys = members.iter().any(|m| m.name == wunderproxy::MARK);
        let (read, warnings) = if is_wunderproxys {
            wunderproxy::read(&mut problems, &members)
        } else {
            (own::read(&mut problems, &members), Vec::new())
        };
        let image_field = match is_wunderproxys {
            true => "ContainerConfig.Image",
            false => "image",
        };
        let revision_field = if is_wunderproxys {
            "Revision"
        } else {
            "revision"
        };
        // With a revision that is wrong or missing, that is what is to be said.
        let told = problems.has(image_field) || problems.has(revision_field);
        if read.image.is_none() && !told && fit_for_tag(&read.revision).is_empty() {
            let message = "is missing, and the revision has nothing in it that could be its tag";
            problems.missing(image_field, message);
        }
        problems.or((read, warnings))
    }

    /// The image of the release's container.
    ///
    /// One that is not named is `{registry}/{app}:{revision}`, the application in lower case, and the
    /// revision made fit for a tag: what is no letter, digit, `_`, `.` or `-` becomes a `-`, and none
    /// of `.` and `-` stands first (`feature/x` is `feature-x`).
    pub fn image(&self, app: &AppName, registry: &str) -> String {
        match &self.image {
            Some(image) => image.clone(),
            None => format!(
                "{registry}/{}:{}",
                app.as_str().to_ascii_lowercase(),
                fit_for_tag(&self.revision)
            ),
        }
    }

    /// The health check that holds for the release; its timeout and its interval are set.
    pub fn health_check(&self, given: &Given) -> Option<HealthCheck> {
        let own = self.health.clone();
        let of_app = || {
            given.health_path.clone().map(|path| HealthCheck {
                path,
                timeout: None,
                interval: None,
            })
        };
        own.or_else(of_app).map(|check| HealthCheck {
            path: check.path,
            timeout: Some(check.timeout.unwrap_or(given.health_timeout)),
            interval: Some(check.interval.unwrap_or(HEALTH_INTERVAL)),
        })
    }

    /// How long the release may take to get healthy, where it has a health check.
    pub fn health_timeout(&self, given: &Given) -> Option<Duration> {
        self.health_check(given)?.timeout
    }

    /// The specification of the release's container; nothing of it is admitted by a policy yet.
    ///
    /// The configuration goes over what is given: a variable of its own over the same one of the
    /// `env_file`, its network and health check over the application's. What the gateway has to find
    /// again stands in labels: application, hash, revision and health check.
    pub fn spec(&self, app: &AppName, hash: &ReleaseHash, given: &Given) -> WorkloadSpec {
        let mut labels = self.labels.clone();
        labels.insert(APP_LABEL.to_owned(), app.to_string());
        labels.insert(RELEASE_LABEL.to_owned(), hash.to_string());
        labels.insert(REVISION_LABEL.to_owned(), self.revision.clone());
        if let Some(check) = self.health_check(given) {
            check.write_labels(&mut labels);
        }
        let mut envs = given.env.clone();
        envs.extend(self.envs.clone());
        WorkloadSpec {
            name: workload_name(app, &self.revision, hash),
            image: self.image(app, &given.registry),
            network: self.network.clone().or_else(|| given.network.clone()),
            port: self.port,
            labels,
            envs,
            command: self.command.clone(),
            memory: self.memory,
            cpus: self.cpus,
            pids: self.pids,
            binds: self.binds.clone(),
            privileged: self.privileged,
            cap_add: self.cap_add.clone(),
            devices: self.devices.clone(),
        }
    }
}

/// The name of a release's container: `<app>-<revision>-<hash8>`, of 63 bytes at the most.
///
/// What is no letter, digit, `_`, `.` or `-` in the revision is a `-` here; its end is cut off where it is
/// too long. Without anything left of it the name is `<app>-<hash8>`.
pub fn workload_name(app: &AppName, revision: &str, hash: &ReleaseHash) -> WorkloadName {
    let ends = app.as_str().len() + hash.short().len() + 2;
    let room = NAME_BYTES_MAX.saturating_sub(ends);
    let revision = in_alphabet(revision);
    let revision = revision.trim_matches(SEPARATORS);
    // In this alphabet a character is a byte.
    let revision = revision[..revision.len().min(room)].trim_end_matches(SEPARATORS);
    let name = match revision {
        "" => format!("{app}-{}", hash.short()),
        revision => format!("{app}-{revision}-{}", hash.short()),
    };
    WorkloadName::new(&name).expect("an application's name, and what is in the alphabet after it")
}

/// What a name and a tag do not begin with.
const SEPARATORS: [char; 3] = ['-', '.', '_'];

/// The tag of an image's name, where it has one.
pub fn tag_of(image: &str) -> Option<&str> {
    // Before the last slash a colon is that of the registry's port.
    let (_, name) = image.rsplit_once('/').unwrap_or(("", image));
    let (name, _digest) = name.split_once('@').unwrap_or((name, ""));
    let (_, tag) = name.split_once(':')?;
    Some(tag).filter(|tag| !tag.is_empty())
}

/// The revision as a tag; empty when nothing in it can be one.
fn fit_for_tag(revision: &str) -> String {
    let tag = in_alphabet(revision);
    let tag = tag.trim_start_matches(['-', '.']);
    tag[..tag.len().min(TAG_BYTES_MAX)].to_owned()
}

/// The alphabet that names and tags have in common.
fn in_alphabet(text: &str) -> String {
    let fitting = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.chars()
        .map(|c| if fitting(c) { c } else { '-' })
        .collect()
}

impl fmt::Debug for Given {
    /// Without the values of the `env_file`, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("registry", &self.registry)
            .field("env", &self.env.keys())
            .field("network", &self.network)
            .field("health_path", &self.health_path)
            .field("health_timeout", &self.health_timeout)
            .finish()
    }
}

impl ConfigurationProblem {
    fn of_whole(message: &str) -> Self {
        Self {
            field: String::new(),
            message: message.to_owned(),
            line: None,
            column: None,
        }
    }
}

impl From<ConfigurationProblem> for ConfigurationError {
    fn from(problem: ConfigurationProblem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

impl fmt::Display for ConfigurationProblem {
    /// `health.path: is missing … (line 3, column 8)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, " (line {line}, column {column})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for ConfigurationError {
    /// On one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigurationError {}
