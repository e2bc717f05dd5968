//! Host names as a container would resolve them, answered by the engine's own records.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures_util::stream::{self, StreamExt};

use super::address::{Namespace, networks};
use super::instance::{Networks, endpoint_address};
use super::{Docker, INSPECTS_AT_ONCE, Subject};
use crate::runtime::{InstanceId, RuntimeError};

/// The label in which Compose keeps a service's name, which is a network alias.
const COMPOSE_SERVICE_LABEL: &str = "com.docker.compose.service";

/// Aliases are told by inspect only; more neighbours than these are not asked for theirs.
const NEIGHBOURS_MAX: usize = 256;

/// The shortest beginning of an id that the engine gives as a network alias.
const SHORT_ID_LEN: usize = 12;

impl Docker {
    pub(super) async fn look_up(
        &self,
        host: &str,
        seen_from: &InstanceId,
    ) -> Result<IpAddr, RuntimeError> {
        let host = host
            .trim_matches(['[', ']'])
            .trim_end_matches('.')
            .to_ascii_lowercase();
        let literal = host.parse::<IpAddr>().ok();
        if let Some(address) = literal.filter(|address| !means_itself(*address)) {
            return Ok(address);
        }
        let container = self.inspect_any(seen_from.as_str()).await?;
        if !self.owns(&container) {
            return Err(RuntimeError::NotFound(seen_from.to_string()));
        }
        let is_localhost = host == "localhost" || host.ends_with(".localhost");
        if literal.is_some() || is_localhost || own_names(&container).any(|name| name == host) {
            return self.address(&container).await?.ok_or_else(|| {
                RuntimeError::NotFound(format!(
                    "{host:?} is {} itself, which has no address now",
                    display_name(&container)
                ))
            });
        }
        if let Some(address) = extra_host(&container, &host) {
            return Ok(address);
        }
        self.neighbour(&host, &container).await
    }

    /// A running container on a common network, owned or not.
    async fn neighbour(
        &self,
        host: &str,
        container: &ContainerInspectResponse,
    ) -> Result<IpAddr, RuntimeError> {
        let common = match self.namespace(container.clone()).await? {
            Some(Namespace::Of(holder)) => networks(&holder),
            Some(Namespace::Host) | None => Networks::new(),
        };
        let mut network_names: Vec<&str> = common.keys().map(String::as_str).collect();
        network_names.sort_unstable();
        let unknown = || {
            RuntimeError::NotFound(format!(
                "{host:?}: neither a name of {} nor of a running container on its networks ({})",
                display_name(container),
                network_names.join(", ")
            ))
        };
        if common.is_empty() {
            return Err(unknown());
        }
        let filters = HashMap::from([(
            "network",
            network_names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        )]);
        let options = ListContainersOptionsBuilder::default()
            .filters(&filters)
            .build();
        let neighbours = self
            .call(Subject::Engine, self.client.list_containers(Some(options)))
            .await?;
        let by_name = neighbours
            .iter()
            .filter(|other| other.id != container.id)
            .filter(|other| is_called(other, host, &network_names))
            .find_map(|other| listed_address(other, &network_names));
        if let Some(address) = by_name {
            return Ok(address);
        }
        let others: Vec<String> = neighbours
            .into_iter()
            .filter(|other| other.id != container.id)
            .filter_map(|other| other.id)
            .take(NEIGHBOURS_MAX)
            .collect();
        let mut inspected = stream::iter(others)
            .map(|id| async move { self.inspect_any(&id).await })
            .buffer_unordered(INSPECTS_AT_ONCE);
        while let Some(other) = inspected.next().await {
            // One that has gone since it was listed is not the one.
            let Ok(other) = other else { continue };
            if let Some(address) = aliased_address(&networks(&other), host, &network_names) {
                return Ok(address);
            }
        }
        Err(unknown())
    }
}

/// Loopback and unspecified addresses are the container's own.
fn means_itself(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

fn display_name(container: &ContainerInspectResponse) -> &str {
    let name = container.name.as_deref().unwrap_or_default();
    name.trim_start_matches('/')
}

/// Its name, host name, network aliases, and the id's beginning; in lower case.
fn own_names(container: &ContainerInspectResponse) -> impl Iterator<Item = String> {
    let config = container.config.clone().unwrap_or_default();
    let host_name = config.hostname.filter(|name| !name.is_empty());
    let domain = config.domainname.filter(|domain| !domain.is_empty());
    let full_name = match (&host_name, domain) {
        (Some(host_name), Some(domain)) => Some(format!("{host_name}.{domain}")),
        _ => None,
    };
    let id = container.id.clone().unwrap_or_default();
    let short_id = id.get(..SHORT_ID_LEN).map(str::to_owned);
    let name = display_name(container).to_owned();
    let networks = networks(container);
    let in_networks: Vec<String> = networks
        .keys()
        .map(|network| format!("{name}.{network}"))
        .chain(networks.values().flat_map(|endpoint| {
            let aliases = endpoint.aliases.iter().flatten();
            aliases.chain(endpoint.dns_names.iter().flatten()).cloned()
        }))
        .collect();
    [Some(name), host_name, full_name, Some(id), short_id]
        .into_iter()
        .flatten()
        .chain(in_networks)
        .map(|name| name.to_ascii_lowercase())
}

/// `--add-host name:address`, which a container finds in its hosts file.
fn extra_host(container: &ContainerInspectResponse, host: &str) -> Option<IpAddr> {
    let extra_hosts = container.host_config.as_ref()?.extra_hosts.as_ref()?;
    let found = extra_hosts.iter().find_map(|line| {
        let (name, address) = line.split_once(['=', ':'])?;
        name.eq_ignore_ascii_case(host)
            .then(|| address.trim_matches(['[', ']']).parse::<IpAddr>().ok())?
    })?;
    Some(if found.is_unspecified() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        found
    })
}

/// By name, `name.network`, Compose service name, or the id's beginning.
fn is_called(other: &ContainerSummary, host: &str, networks: &[&str]) -> bool {
    let service = other
        .labels
        .as_ref()
        .and_then(|labels| labels.get(COMPOSE_SERVICE_LABEL));
    let names = other
        .names
        .iter()
        .flatten()
        .map(|name| name.trim_start_matches('/'));
    let by_id =
        host.len() >= SHORT_ID_LEN && other.id.as_deref().is_some_and(|id| id.starts_with(host));
    by_id
        || names
            .chain(service.map(String::as_str))
            .any(|name| same(host, name, networks))
}

/// Whether `host` is `name`, alone or qualified by one of the networks.
fn same(host: &str, name: &str, networks: &[&str]) -> bool {
    let qualified_by_network = || {
        let (front, network) = (
            host.get(..name.len())?,
            host.get(name.len()..)?.strip_prefix('.')?,
        );
        let is_network = networks
            .iter()
            .any(|known| known.eq_ignore_ascii_case(network));
        (front.eq_ignore_ascii_case(name) && is_network).then_some(())
    };
    host.eq_ignore_ascii_case(name) || qualified_by_network().is_some()
}

/// Its address on the first of these networks that it is on.
fn listed_address(other: &ContainerSummary, networks: &[&str]) -> Option<IpAddr> {
    let theirs = other.network_settings.as_ref()?.networks.as_ref()?;
    networks
        .iter()
        .find_map(|network| theirs.get(*network).and_then(endpoint_address))
}

/// The address on the network on which it has that alias.
fn aliased_address(theirs: &Networks, host: &str, networks: &[&str]) -> Option<IpAddr> {
    networks.iter().find_map(|network| {
        let endpoint = theirs.get(*network)?;
        let aliases = endpoint.aliases.iter().flatten();
        let mut names = aliases.chain(endpoint.dns_names.iter().flatten());
        names
            .any(|alias| same(host, alias, networks))
            .then(|| endpoint_address(endpoint))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_knows_itself_by_all_its_names() {
        let container: ContainerInspectResponse = serde_json::from_str(
            r#"{"Id":"869e118c9ef14197c798","Name":"/Web-1",
                "Config":{"Hostname":"shop","Domainname":"example.com"},
                "NetworkSettings":{"Networks":{"backend":{"Aliases":["api","869e118c9ef1"]}}}}"#,
        )
        .unwrap();
        let names: Vec<String> = own_names(&container).collect();
        for name in [
            "web-1",
            "shop",
            "shop.example.com",
            "869e118c9ef14197c798",
            "869e118c9ef1",
            "web-1.backend",
            "api",
        ] {
            assert!(names.iter().any(|own| own == name), "{name}: {names:?}");
        }
    }

    #[test]
    fn a_neighbour_is_called_by_name_service_or_id() {
        let other: ContainerSummary = serde_json::from_str(
            r#"{"Id":"f0f8bf5f53640caa4b63","Names":["/project_db_1"],
                "Labels":{"com.docker.compose.service":"db"}}"#,
        )
        .unwrap();
        let networks = ["backend"];
        for host in ["project_db_1", "db", "db.backend", "f0f8bf5f5364"] {
            assert!(is_called(&other, host, &networks), "{host}");
        }
        for host in ["project_db", "db.other", "dbxbackend", "f0f8bf5f", ""] {
            assert!(!is_called(&other, host, &networks), "{host}");
        }
    }

    #[test]
    fn an_alias_counts_on_its_own_network_only() {
        let theirs: Networks = serde_json::from_str(
            r#"{"a":{"IPAddress":"172.18.0.2","Aliases":["one"]},
                "b":{"IPAddress":"172.19.0.2","Aliases":["two"]}}"#,
        )
        .unwrap();
        let address = Some(IpAddr::from([172, 19, 0, 2]));
        assert_eq!(aliased_address(&theirs, "two", &["a", "b"]), address);
        assert_eq!(aliased_address(&theirs, "two", &["a"]), None);
        assert_eq!(aliased_address(&theirs, "three", &["a", "b"]), None);
    }

    #[test]
    fn added_hosts_are_found_without_asking_anyone() {
        let container: ContainerInspectResponse = serde_json::from_str(
            r#"{"HostConfig":{"ExtraHosts":["db:10.0.0.5","six:fd00::1","gate:host-gateway"]}}"#,
        )
        .unwrap();
        assert_eq!(
            extra_host(&container, "db"),
            Some(IpAddr::from([10, 0, 0, 5]))
        );
        assert_eq!(extra_host(&container, "six"), "fd00::1".parse().ok());
        assert_eq!(extra_host(&container, "gate"), None);
        assert_eq!(extra_host(&container, "other"), None);
    }
}
