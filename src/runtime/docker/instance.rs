//! The engine's descriptions of containers as instances: state, health, ports, addresses.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status, ContainerSummary,
    ContainerSummaryStateEnum, EndpointSettings, HealthStatusEnum, PortSummaryTypeEnum,
};

use crate::names::WorkloadName;
use crate::runtime::{EngineTime, Health, Instance, InstanceId, InstanceState};

/// A container's networks by name.
pub(super) type Networks = HashMap<String, EndpointSettings>;

/// From an inspect answer; `None` when it has no name that a workload may have.
pub(super) fn from_inspect(
    container: &ContainerInspectResponse,
    address: Option<IpAddr>,
) -> Option<Instance> {
    let config = container.config.clone().unwrap_or_default();
    let state = state(container.state.as_ref());
    let health = container
        .state
        .as_ref()
        .and_then(|state| state.health.as_ref()?.status)
        .and_then(health);
    Some(Instance {
        id: InstanceId::new(container.id.as_deref()?),
        name: name(container.name.as_deref()?)?,
        image: config.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        envs: envs(&config.env.unwrap_or_default()),
        state,
        address: address.filter(|_| runs(state)),
        ports: tcp_ports(&config.exposed_ports.unwrap_or_default()),
        health,
    })
}

/// From the engine's list, which tells no environment, address or start time; `None` when it has no
/// name that a workload may have.
pub(super) fn from_summary(container: ContainerSummary) -> Option<Instance> {
    let status = container.status.unwrap_or_default();
    let mut ports: Vec<u16> = container
        .ports
        .unwrap_or_default()
        .into_iter()
        .filter(|port| port.typ == Some(PortSummaryTypeEnum::TCP))
        .map(|port| port.private_port)
        .collect();
    ports.sort_unstable();
    // A port that is published on IPv4 and IPv6 is listed twice.
    ports.dedup();
    // Names with a second slash belong to links of other containers.
    let names = container.names.unwrap_or_default();
    let own_name = names
        .iter()
        .find(|name| !name.trim_start_matches('/').contains('/'))?;
    Some(Instance {
        id: InstanceId::new(container.id.as_deref()?),
        name: name(own_name)?,
        image: container.image.unwrap_or_default(),
        labels: container.labels.unwrap_or_default().into_iter().collect(),
        envs: BTreeMap::new(),
        state: listed_state(container.state, &status),
        address: None,
        ports,
        health: listed_health(&status),
    })
}

fn name(engines: &str) -> Option<WorkloadName> {
    WorkloadName::new(engines.trim_start_matches('/')).ok()
}

fn runs(state: InstanceState) -> bool {
    matches!(
        state,
        InstanceState::Running { .. } | InstanceState::Paused { .. }
    )
}

pub(super) fn state(engines: Option<&ContainerState>) -> InstanceState {
    let Some(engines) = engines else {
        return InstanceState::Stopped { exit_code: None };
    };
    let started_at = engines
        .started_at
        .as_deref()
        .and_then(time)
        .unwrap_or_default();
    match engines.status.unwrap_or(Status::EMPTY) {
        // One that is being stopped runs until it has ended.
        Status::RUNNING | Status::STOPPING => InstanceState::Running { started_at },
        Status::PAUSED => InstanceState::Paused { started_at },
        // A dead container is one whose removal failed half-way: the engine starts it no more.
        Status::REMOVING | Status::DEAD => InstanceState::Removing,
        Status::EXITED => InstanceState::Stopped {
            exit_code: engines.exit_code,
        },
        // No process runs during the backoff of a restart policy. A start in it succeeds, and the
        // engine's event tells when the process is there.
        Status::RESTARTING => InstanceState::Stopped {
            exit_code: engines.exit_code,
        },
        // A container whose start failed is still called created, with the failure's exit code.
        Status::CREATED | Status::EMPTY => InstanceState::Stopped {
            exit_code: engines.exit_code.filter(|code| *code != 0),
        },
    }
}

/// The list tells no start time, and the exit code only in its text for people:
/// `Exited (137) 2 minutes ago`, `Restarting (1) 3 seconds ago`.
fn listed_state(state: Option<ContainerSummaryStateEnum>, status: &str) -> InstanceState {
    use ContainerSummaryStateEnum as Listed;
    let started_at = EngineTime::default();
    match state.unwrap_or(Listed::EMPTY) {
        Listed::RUNNING | Listed::STOPPING => InstanceState::Running { started_at },
        Listed::PAUSED => InstanceState::Paused { started_at },
        Listed::REMOVING | Listed::DEAD => InstanceState::Removing,
        Listed::EXITED | Listed::RESTARTING => InstanceState::Stopped {
            exit_code: in_parentheses(status).and_then(|code| code.parse().ok()),
        },
        Listed::CREATED | Listed::EMPTY => InstanceState::Stopped { exit_code: None },
    }
}

/// `Up 3 minutes (healthy)`, `Up 2 seconds (health: starting)`.
fn listed_health(status: &str) -> Option<Health> {
    match in_parentheses(status)? {
        "healthy" => Some(Health::Healthy),
        "unhealthy" => Some(Health::Unhealthy),
        "health: starting" => Some(Health::Starting),
        _ => None,
    }
}

fn in_parentheses(text: &str) -> Option<&str> {
    Some(text.split_once('(')?.1.split_once(')')?.0)
}

fn health(engines: HealthStatusEnum) -> Option<Health> {
    match engines {
        HealthStatusEnum::STARTING => Some(Health::Starting),
        HealthStatusEnum::HEALTHY => Some(Health::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(Health::Unhealthy),
        HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => None,
    }
}

/// `NAME=value` lines; a name without `=` is one that the image sets and the container unsets.
fn envs(lines: &[String]) -> BTreeMap<String, String> {
    lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `9000/tcp`, or `9000`, lowest first.
fn tcp_ports(exposed: &[String]) -> Vec<u16> {
    let mut ports: Vec<u16> = exposed
        .iter()
        .filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// An RFC 3339 time with up to nine decimals, in UTC (Docker) or with an offset (others).
/// `None` for what is none, and for the year 1, with which the engine says "never".
pub(super) fn time(text: &str) -> Option<EngineTime> {
    let (utc_text, offset_secs) = match text.char_indices().nth_back(5) {
        Some((at, sign @ ('+' | '-'))) => {
            let (hours, minutes) = text[at + 1..].split_once(':')?;
            let secs = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            (&text[..at], if sign == '+' { secs } else { -secs })
        }
        _ => (text, 0),
    };
    let since_1970 = humantime::parse_rfc3339_weak(utc_text)
        .ok()?
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    let nanos = i64::try_from(since_1970.as_nanos()).ok()?;
    nanos
        .checked_sub(offset_secs.checked_mul(1_000_000_000)?)
        .map(EngineTime)
}

/// Now, on this machine's clock.
pub(super) fn local_time() -> EngineTime {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    EngineTime(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
}

/// The address on the network of that name or id; IPv4 where there is one.
pub(super) fn address_on(networks: &Networks, network: &str) -> Option<IpAddr> {
    let endpoint = networks.get(network).or_else(|| {
        networks
            .values()
            .find(|endpoint| endpoint.network_id.as_deref() == Some(network))
    })?;
    endpoint_address(endpoint)
}

/// The address on the first network by name that has one.
pub(super) fn first_address(networks: &Networks) -> Option<IpAddr> {
    let by_name: BTreeMap<_, _> = networks.iter().collect();
    by_name.into_values().find_map(endpoint_address)
}

pub(super) fn endpoint_address(endpoint: &EndpointSettings) -> Option<IpAddr> {
    let parsed = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    parsed(&endpoint.ip_address).or_else(|| parsed(&endpoint.global_ipv6_address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(json: &str) -> ContainerInspectResponse {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_inspect_answer_becomes_a_complete_instance() {
        let container = inspected(
            r#"{"Id":"f0f8bf5f5364","Name":"/web-1",
                "State":{"Status":"running","Running":true,"ExitCode":0,
                         "StartedAt":"2026-11-22T21:02:50.87689543Z",
                         "Health":{"Status":"unhealthy","FailingStreak":3,"Log":[]}},
                "Config":{"Image":"shop:2","Labels":{"a":"b"},
                          "Env":["PATH=/bin","CONNSTR=db=1;x","GONE"],
                          "ExposedPorts":{"9000/tcp":{},"53/udp":{},"80/tcp":{}}}}"#,
        );
        let address = Some(IpAddr::from([172, 17, 0, 2]));
        let instance = from_inspect(&container, address).unwrap();
        assert_eq!(instance.id, InstanceId::new("f0f8bf5f5364"));
        assert_eq!(instance.name.as_str(), "web-1");
        assert_eq!(instance.image, "shop:2");
        assert_eq!(instance.labels["a"], "b");
        assert_eq!(instance.envs["CONNSTR"], "db=1;x");
        assert_eq!(instance.envs.len(), 2);
        assert_eq!(
            instance.state,
            InstanceState::Running {
                started_at: EngineTime(1_795_381_370_876_895_430)
            }
        );
        assert_eq!(instance.address, address);
        assert_eq!(instance.ports, [80, 9000]);
        assert_eq!(instance.health, Some(Health::Unhealthy));
    }

    #[test]
    fn what_does_not_run_has_no_address() {
        let container =
            inspected(r#"{"Id":"f0","Name":"/web","State":{"Status":"exited","ExitCode":137}}"#);
        let instance = from_inspect(&container, Some(IpAddr::from([172, 17, 0, 2]))).unwrap();
        assert_eq!(instance.address, None);
        assert_eq!(
            instance.state,
            InstanceState::Stopped {
                exit_code: Some(137)
            }
        );
    }

    #[test]
    fn a_name_that_no_workload_may_have_is_no_instance() {
        let long = format!(r#"{{"Id":"f0","Name":"/{}"}}"#, "x".repeat(129));
        assert_eq!(from_inspect(&inspected(&long), None), None);
    }

    #[test]
    fn every_state_of_the_engine_has_one_of_ours() {
        let state_of = |status: &str, exit_code: i64| {
            let json = format!(
                r#"{{"Status":"{status}","ExitCode":{exit_code},"StartedAt":"1970-01-01T00:00:01Z"}}"#
            );
            state(Some(&serde_json::from_str(&json).unwrap()))
        };
        let started_at = EngineTime(1_000_000_000);
        let stopped = |exit_code| InstanceState::Stopped { exit_code };
        assert_eq!(state_of("created", 0), stopped(None));
        assert_eq!(state_of("created", 128), stopped(Some(128)));
        assert_eq!(state_of("exited", 0), stopped(Some(0)));
        assert_eq!(state_of("restarting", 1), stopped(Some(1)));
        assert_eq!(
            state_of("running", 0),
            InstanceState::Running { started_at }
        );
        assert_eq!(state_of("paused", 0), InstanceState::Paused { started_at });
        assert_eq!(state_of("removing", 0), InstanceState::Removing);
        assert_eq!(state_of("dead", 0), InstanceState::Removing);
        assert_eq!(state(None), stopped(None));
    }

    fn listed(state: &str, status: &str) -> Instance {
        let json = format!(
            r#"{{"Id":"f0","Names":["/other/link","/web"],"Image":"shop:2","Labels":{{"a":"b"}},
                "State":"{state}","Status":"{status}",
                "Ports":[{{"PrivatePort":9000,"Type":"tcp"}},{{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}},
                         {{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}},{{"PrivatePort":53,"Type":"udp"}}]}}"#
        );
        from_summary(serde_json::from_str(&json).unwrap()).unwrap()
    }

    #[test]
    fn a_listing_tells_exit_codes_and_health_from_its_text() {
        let started_at = EngineTime(0);
        let up = listed("running", "Up 3 minutes (healthy)");
        assert_eq!(up.name.as_str(), "web");
        assert_eq!(up.ports, [80, 9000]);
        assert_eq!(up.state, InstanceState::Running { started_at });
        assert_eq!(up.health, Some(Health::Healthy));
        let starting = listed("running", "Up 2 seconds (health: starting)");
        assert_eq!(starting.health, Some(Health::Starting));
        let paused = listed("paused", "Up 3 minutes (Paused)");
        assert_eq!(paused.state, InstanceState::Paused { started_at });
        assert_eq!(paused.health, None);
        for (state, status, exit_code) in [
            ("exited", "Exited (137) 2 minutes ago", Some(137)),
            ("restarting", "Restarting (1) 3 seconds ago", Some(1)),
            ("created", "Created", None),
        ] {
            let stopped = listed(state, status);
            assert_eq!(stopped.state, InstanceState::Stopped { exit_code });
            assert_eq!(stopped.health, None);
        }
        assert_eq!(listed("dead", "Dead").state, InstanceState::Removing);
    }

    #[test]
    fn times_keep_their_nanoseconds_and_heed_offsets() {
        assert_eq!(
            time("1970-01-01T00:00:01.000000001Z"),
            Some(EngineTime(1_000_000_001))
        );
        assert_eq!(
            time("1970-01-01T00:00:01.5Z"),
            Some(EngineTime(1_500_000_000))
        );
        assert_eq!(
            time("1970-01-01T02:00:01.5+02:00"),
            Some(EngineTime(1_500_000_000))
        );
        assert_eq!(
            time("1970-01-01T00:00:00-04:30"),
            Some(EngineTime(16_200_000_000_000))
        );
        for never in [
            "0001-01-01T00:00:00Z",
            "",
            "yesterday",
            "2026-11-22",
            "ä+b:c:d",
        ] {
            assert_eq!(time(never), None, "{never}");
        }
    }

    fn networks(json: &str) -> Networks {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_network_is_found_by_name_or_id_and_else_the_first_counts() {
        let networks = networks(
            r#"{"b":{"NetworkID":"22","IPAddress":"172.18.0.2","GlobalIPv6Address":"fd00::2"},
                "a":{"NetworkID":"11","IPAddress":"","GlobalIPv6Address":""},
                "c":{"NetworkID":"33","IPAddress":"","GlobalIPv6Address":"fd00::3"}}"#,
        );
        let v4 = Some(IpAddr::from([172, 18, 0, 2]));
        let v6 = Some("fd00::3".parse().unwrap());
        assert_eq!(address_on(&networks, "b"), v4);
        assert_eq!(address_on(&networks, "22"), v4);
        assert_eq!(
            address_on(&networks, "c"),
            v6,
            "IPv6 where there is no IPv4"
        );
        assert_eq!(address_on(&networks, "a"), None);
        assert_eq!(address_on(&networks, "z"), None);
        assert_eq!(first_address(&networks), v4);
        assert_eq!(first_address(&Networks::new()), None);
    }
}
