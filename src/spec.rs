//! What a workload is made of, and what a specification may ask for.

mod health;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::names::WorkloadName;

pub use health::{HEALTH_INTERVAL, HEALTH_TIME_MAX, HEALTH_TIME_MIN, HealthCheck};

/// The label that names a container's port where it exposes several or none.
pub const PORT_LABEL: &str = "wakegate.port";

/// The label that names the network to reach a container on where it is on several.
pub const NETWORK_LABEL: &str = "wakegate.network";

/// The label of a release's container that names its application.
pub const APP_LABEL: &str = "wakegate.app";

/// The label of a release's container with the whole hash of its launch configuration.
pub const RELEASE_LABEL: &str = "wakegate.release";

/// The label of a release's container with its revision, as the launch configuration says it.
pub const REVISION_LABEL: &str = "wakegate.revision";

/// The label with the path that a healthy container answers with 2xx or 3xx, on its own port.
pub const HEALTH_PATH_LABEL: &str = "wakegate.health.path";

/// The label with the time that a container may take to get healthy, such as `60s`.
pub const HEALTH_TIMEOUT_LABEL: &str = "wakegate.health.timeout";

/// The label with the longest pause between two health checks, such as `1s`.
pub const HEALTH_INTERVAL_LABEL: &str = "wakegate.health.interval";

/// Everything needed to create a workload. Comes from a script's template or from the admin API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    pub name: WorkloadName,
    pub image: String,
    /// The engine's network to join; `None` is the configured default network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The TCP port that the application listens on; `None` leaves it to the image's exposed port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub envs: BTreeMap<String, String>,
    /// Arguments in place of the image's own command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Memory limit in bytes, or a size such as `"256MiB"`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "size")]
    pub memory: Option<u64>,
    /// CPU limit, in cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Limit of processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
    /// Bind mounts, `host-path:container-path[:ro]`. Only those that the policy names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Device paths of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

impl WorkloadSpec {
    /// A specification with nothing but a name and an image.
    pub fn new(name: WorkloadName, image: impl Into<String>) -> Self {
        Self {
            name,
            image: image.into(),
            network: None,
            port: None,
            labels: BTreeMap::new(),
            envs: BTreeMap::new(),
            command: None,
            memory: None,
            cpus: None,
            pids: None,
            binds: Vec::new(),
            privileged: false,
            cap_add: Vec::new(),
            devices: Vec::new(),
        }
    }
}

/// What gateway.toml lets a specification ask for. The default allows nothing out of the ordinary.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpecPolicy {
    /// Host paths that may be mounted, each with everything below it.
    pub binds: Vec<String>,
    pub privileged: bool,
    /// Capabilities that may be added, such as `NET_ADMIN`.
    pub cap_add: Vec<String>,
    pub host_network: bool,
    /// Device paths that may be named.
    pub devices: Vec<String>,
    /// The most memory a workload may have, in bytes, and what one that asks for none gets.
    pub memory_max: Option<u64>,
    /// The most cores, likewise.
    pub cpus_max: Option<f64>,
    /// The most processes and threads, likewise.
    pub pids_max: Option<i64>,
}

/// One thing that a specification asks for and may not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SpecRefusal {
    /// The field of the specification, as it is written in JSON.
    pub field: String,
    pub message: String,
}

impl SpecPolicy {
    /// Every refusal at once; on none, the specification with the policy's limits filled in.
    ///
    /// A path is compared component by component after `..` has been refused, so `/srv/data`
    /// allows `/srv/data/a` and not `/srv/database`. Named volumes have no host path and are allowed.
    pub fn admit(&self, mut spec: WorkloadSpec) -> Result<WorkloadSpec, Vec<SpecRefusal>> {
        let mut refusals = Vec::new();
        let mut refuse = |field: &str, message: String| {
            refusals.push(SpecRefusal {
                field: field.to_owned(),
                message,
            });
        };
        if spec.image.is_empty() {
            refuse("image", "is empty".to_owned());
        }
        for bind in &spec.binds {
            if let Err(message) = self.admits_bind(bind) {
                refuse("binds", message);
            }
        }
        if spec.privileged && !self.privileged {
            refuse(
                "privileged",
                "not allowed here; gateway.toml would need spec.allow_privileged = true".to_owned(),
            );
        }
        for capability in &spec.cap_add {
            let bare = capability.trim_start_matches("CAP_");
            if !self
                .cap_add
                .iter()
                .any(|allowed| allowed.trim_start_matches("CAP_") == bare)
            {
                refuse(
                    "cap_add",
                    format!("{capability:?} is not in gateway.toml's spec.allow_capabilities"),
                );
            }
        }
        for device in &spec.devices {
            let host_path = device.split(':').next().unwrap_or(device);
            if !self.devices.iter().any(|allowed| allowed == host_path) {
                refuse(
                    "devices",
                    format!("{host_path:?} is not in gateway.toml's spec.allow_devices"),
                );
            }
        }
        if let Some(network) = &spec.network {
            if network == "host" && !self.host_network {
                refuse(
                    "network",
                    "\"host\" is not allowed here; gateway.toml would need spec.allow_host_network = true"
                        .to_owned(),
                );
            }
            if network == "none" {
                refuse(
                    "network",
                    "\"none\": a container without a network cannot be reached".to_owned(),
                );
            }
            if network.starts_with("container:") {
                refuse(
                    "network",
                    "another container's network cannot be asked for".to_owned(),
                );
            }
        }
        cap("memory", &mut spec.memory, self.memory_max, &mut refuse);
        cap("cpus", &mut spec.cpus, self.cpus_max, &mut refuse);
        cap("pids", &mut spec.pids, self.pids_max, &mut refuse);
        if refusals.is_empty() {
            Ok(spec)
        } else {
            Err(refusals)
        }
    }

    fn admits_bind(&self, bind: &str) -> Result<(), String> {
        let host_path = bind.split(':').next().unwrap_or(bind);
        if !host_path.starts_with('/') {
            let named_volume = WorkloadName::new(host_path).is_ok();
            return if named_volume {
                Ok(())
            } else {
                Err(format!(
                    "{bind:?} starts neither with an absolute host path nor with a volume's name"
                ))
            };
        }
        let path = Path::new(host_path);
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(format!("{bind:?} has '..' in its host path"));
        }
        if self.binds.iter().any(|allowed| path.starts_with(allowed)) {
            Ok(())
        } else {
            Err(format!(
                "host path {host_path:?} is not below one of gateway.toml's spec.allow_binds"
            ))
        }
    }
}

/// Fills in the ceiling where nothing was asked; refuses what is no positive number or above it.
fn cap<T: PartialOrd + Copy + Default + Display>(
    field: &str,
    asked: &mut Option<T>,
    ceiling: Option<T>,
    refuse: &mut impl FnMut(&str, String),
) {
    match (*asked, ceiling) {
        // The engine reads zero and below as "no limit", which would step over the ceiling.
        (Some(asked), _) if asked <= T::default() => {
            refuse(field, format!("{asked} is not a positive number"));
        }
        (Some(asked), Some(ceiling)) if asked > ceiling => {
            refuse(field, format!("{asked} is above the limit of {ceiling}"));
        }
        (None, ceiling) => *asked = ceiling,
        (Some(_), _) => {}
    }
}

mod size {
    //! A byte count as a number or as text with a unit.

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        bytes.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let size = Option::<bytesize::ByteSize>::deserialize(from)?;
        Ok(size.map(|size| size.as_u64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> WorkloadSpec {
        WorkloadSpec::new(WorkloadName::new("a").unwrap(), "image:1")
    }

    fn refused_fields(policy: &SpecPolicy, spec: WorkloadSpec) -> Vec<String> {
        match policy.admit(spec) {
            Ok(_) => Vec::new(),
            Err(refusals) => refusals.into_iter().map(|refusal| refusal.field).collect(),
        }
    }

    #[test]
    fn nothing_out_of_the_ordinary_is_allowed_by_default_and_all_refusals_come_at_once() {
        let greedy = WorkloadSpec {
            binds: vec!["/etc:/etc".into()],
            privileged: true,
            cap_add: vec!["NET_ADMIN".into()],
            devices: vec!["/dev/kvm".into()],
            network: Some("host".into()),
            ..spec()
        };
        assert_eq!(
            refused_fields(&SpecPolicy::default(), greedy),
            ["binds", "privileged", "cap_add", "devices", "network"]
        );
        assert_eq!(SpecPolicy::default().admit(spec()), Ok(spec()));
    }

    #[test]
    fn exactly_what_is_named_is_allowed() {
        let policy = SpecPolicy {
            binds: vec!["/srv/data".into()],
            privileged: true,
            cap_add: vec!["NET_ADMIN".into()],
            host_network: true,
            devices: vec!["/dev/kvm".into()],
            ..SpecPolicy::default()
        };
        let asks = |bind: &str| WorkloadSpec {
            binds: vec![bind.into()],
            privileged: true,
            cap_add: vec!["CAP_NET_ADMIN".into()],
            devices: vec!["/dev/kvm:/dev/kvm:rw".into()],
            network: Some("host".into()),
            ..spec()
        };
        assert!(policy.admit(asks("/srv/data/a:/data:ro")).is_ok());
        assert!(policy.admit(asks("volume:/data")).is_ok());
        for escape in [
            "/srv/database:/d",
            "/srv/data/../../etc:/e",
            "../etc:/e",
            "/:/host",
        ] {
            assert_eq!(refused_fields(&policy, asks(escape)), ["binds"], "{escape}");
        }
    }

    #[test]
    fn another_containers_network_is_refused_whatever_the_policy() {
        let policy = SpecPolicy {
            host_network: true,
            ..SpecPolicy::default()
        };
        let sneaky = WorkloadSpec {
            network: Some("container:gateway".into()),
            ..spec()
        };
        assert_eq!(refused_fields(&policy, sneaky), ["network"]);
    }

    #[test]
    fn a_workload_that_nobody_could_reach_is_refused() {
        let alone = WorkloadSpec {
            network: Some("none".into()),
            ..spec()
        };
        assert_eq!(refused_fields(&SpecPolicy::default(), alone), ["network"]);
    }

    #[test]
    fn a_ceiling_is_what_one_gets_and_what_one_may_not_pass() {
        let policy = SpecPolicy {
            memory_max: Some(1 << 20),
            cpus_max: Some(1.5),
            pids_max: Some(100),
            ..SpecPolicy::default()
        };
        let admitted = policy.admit(spec()).unwrap();
        assert_eq!(
            (admitted.memory, admitted.cpus, admitted.pids),
            (Some(1 << 20), Some(1.5), Some(100))
        );
        let greedy = WorkloadSpec {
            memory: Some(2 << 20),
            cpus: Some(0.0),
            pids: Some(-1),
            ..spec()
        };
        assert_eq!(refused_fields(&policy, greedy), ["memory", "cpus", "pids"]);
    }

    #[test]
    fn json_takes_sizes_with_units_and_refuses_unknown_fields() {
        let parsed: WorkloadSpec =
            serde_json::from_str(r#"{"name":"a","image":"i","memory":"256MiB"}"#).unwrap();
        assert_eq!(parsed.memory, Some(256 << 20));
        let refused = serde_json::from_str::<WorkloadSpec>(r#"{"name":"a","image":"i","memry":1}"#);
        assert!(refused.unwrap_err().to_string().contains("memry"));
    }
}
