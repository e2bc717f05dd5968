//! A specification as a container on the engine, or nothing at all.

use bollard::models::{ContainerCreateBody, DeviceMapping, HostConfig};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};

use super::{Docker, Subject, errors, segment};
use crate::runtime::{InstanceId, RuntimeError};
use crate::spec::{PORT_LABEL, WorkloadSpec};

impl Docker {
    pub(super) async fn make(&self, spec: &WorkloadSpec) -> Result<InstanceId, RuntimeError> {
        let network = spec.network.as_deref().or(self.network.as_deref());
        let body = body(spec, network, &self.label)?;
        if let Some(network) = network {
            self.require_network(network).await?;
        }
        let options = CreateContainerOptionsBuilder::default()
            .name(spec.name.as_str())
            .build();
        let client = self.client.clone();
        // A task of its own, because a call that is given up may still make a container.
        let mut making =
            tokio::spawn(async move { client.create_container(Some(options), body).await });
        let subject = Subject::New {
            name: spec.name.as_str(),
            image: &spec.image,
        };
        match self.within(self.timeout, &mut making).await {
            Ok(Ok(Ok(made))) => {
                for warning in made.warnings {
                    tracing::warn!(workload = %spec.name, warning, "the engine has a warning");
                }
                Ok(InstanceId::new(&made.id))
            }
            Ok(Ok(Err(error))) => Err(errors::runtime_error(error, subject)),
            Ok(Err(panicked)) => Err(RuntimeError::Failed(panicked.to_string())),
            Err(late) => {
                let client = self.client.clone();
                tokio::spawn(async move {
                    let Ok(Ok(made)) = making.await else { return };
                    let force = RemoveContainerOptionsBuilder::default().force(true).v(true);
                    if let Err(error) = client.remove_container(&made.id, Some(force.build())).await
                    {
                        tracing::warn!(id = made.id, %error, "made too late, and not removed");
                    }
                });
                Err(late)
            }
        }
    }

    /// The engine (20.10) takes a container with an unknown network and fails at its start only.
    async fn require_network(&self, network: &str) -> Result<(), RuntimeError> {
        let is_mode = matches!(network, "host" | "none" | "default" | "bridge")
            || network.starts_with("container:");
        if is_mode {
            return Ok(());
        }
        let path_name =
            segment(network).ok_or_else(|| RuntimeError::NetworkMissing(network.to_owned()))?;
        let inspect = self.client.inspect_network(&path_name, None);
        self.call(Subject::Network(network), inspect).await?;
        Ok(())
    }
}

/// What the engine is asked to make. No restart policy: only the gateway starts things.
fn body(
    spec: &WorkloadSpec,
    network: Option<&str>,
    (label_key, label_value): &(String, String),
) -> Result<ContainerCreateBody, RuntimeError> {
    let mut labels = spec.labels.clone();
    labels.insert(label_key.clone(), label_value.clone());
    if let Some(port) = spec.port {
        labels.insert(PORT_LABEL.to_owned(), port.to_string());
    }
    let env = spec.envs.iter().map(|(name, value)| env(name, value));
    let devices = spec.devices.iter().map(|device| device_mapping(device));
    Ok(ContainerCreateBody {
        image: Some(spec.image.clone()),
        labels: Some(labels.into_iter().collect()),
        env: Some(env.collect::<Result<_, _>>()?),
        cmd: spec.command.clone(),
        exposed_ports: spec.port.map(|port| vec![format!("{port}/tcp")]),
        host_config: Some(HostConfig {
            network_mode: network.map(str::to_owned),
            memory: spec
                .memory
                .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            nano_cpus: spec.cpus.map(nano_cpus),
            pids_limit: spec.pids,
            binds: some_if_any(&spec.binds),
            privileged: spec.privileged.then_some(true),
            cap_add: some_if_any(&spec.cap_add),
            devices: some_if_any(&devices.collect::<Vec<_>>()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    })
}

/// The engine would split a name with `=` elsewhere, and cannot pass a NUL on.
fn env(name: &str, value: &str) -> Result<String, RuntimeError> {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        return Err(RuntimeError::Refused(format!(
            "envs: {name:?} and its value cannot be an environment variable: its name must not be empty nor have '=', neither may have a NUL"
        )));
    }
    Ok(format!("{name}={value}"))
}

fn nano_cpus(cores: f64) -> i64 {
    // A conversion of this kind saturates, so that a nonsensical number is the engine's to refuse.
    (cores * 1e9).round() as i64
}

/// `host-path[:container-path[:rwm]]`.
fn device_mapping(device: &str) -> DeviceMapping {
    let mut parts = device.splitn(3, ':');
    let on_host = parts.next().unwrap_or(device);
    DeviceMapping {
        path_on_host: Some(on_host.to_owned()),
        path_in_container: Some(parts.next().unwrap_or(on_host).to_owned()),
        cgroup_permissions: Some(parts.next().unwrap_or("rwm").to_owned()),
    }
}

fn some_if_any<T: Clone>(items: &[T]) -> Option<Vec<T>> {
    (!items.is_empty()).then(|| items.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::WorkloadName;

    fn label() -> (String, String) {
        ("wakegate.enable".to_owned(), "true".to_owned())
    }

    fn spec() -> WorkloadSpec {
        WorkloadSpec::new(WorkloadName::new("web").unwrap(), "shop:2")
    }

    #[test]
    fn everything_in_a_specification_reaches_the_engine() {
        let spec = WorkloadSpec {
            port: Some(9000),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            envs: [("CONNSTR".to_owned(), "db=1".to_owned())].into(),
            command: Some(vec!["serve".to_owned()]),
            memory: Some(64 << 20),
            cpus: Some(0.5),
            pids: Some(100),
            binds: vec!["/srv:/data:ro".to_owned()],
            privileged: true,
            cap_add: vec!["NET_ADMIN".to_owned()],
            devices: vec!["/dev/fuse".to_owned(), "/dev/a:/dev/b:r".to_owned()],
            ..spec()
        };
        let body = body(&spec, Some("backend"), &label()).unwrap();
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            serde_json::json!({
                "Image": "shop:2",
                "Labels": {"a": "b", "wakegate.enable": "true", "wakegate.port": "9000"},
                "Env": ["CONNSTR=db=1"],
                "Cmd": ["serve"],
                "ExposedPorts": {"9000/tcp": {}},
                "HostConfig": {
                    "NetworkMode": "backend",
                    "Memory": 67_108_864,
                    "NanoCpus": 500_000_000,
                    "PidsLimit": 100,
                    "Binds": ["/srv:/data:ro"],
                    "Privileged": true,
                    "CapAdd": ["NET_ADMIN"],
                    "Devices": [
                        {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"},
                        {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
                    ],
                },
            })
        );
    }

    #[test]
    fn a_specification_cannot_disown_its_container() {
        let spec = WorkloadSpec {
            labels: [("wakegate.enable".to_owned(), "false".to_owned())].into(),
            ..spec()
        };
        let labels = body(&spec, None, &label()).unwrap().labels.unwrap();
        assert_eq!(labels["wakegate.enable"], "true");
    }

    #[test]
    fn what_is_no_environment_variable_is_refused() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "\0")] {
            let spec = WorkloadSpec {
                envs: [(name.to_owned(), value.to_owned())].into(),
                ..spec()
            };
            let refused = body(&spec, None, &label());
            assert!(matches!(refused, Err(RuntimeError::Refused(_))), "{name:?}");
        }
    }
}
