//! Which of a container's addresses the gateway uses, from where it itself runs.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::instance::{Networks, address_on, first_address};
use super::{Docker, own};
use crate::runtime::RuntimeError;
use crate::spec::NETWORK_LABEL;

/// How many containers may share a network by pointing at one another.
const SHARED_NETWORK_DEPTH_MAX: usize = 4;

/// The gateway's own container can be connected to another network while it runs.
const OWN_NETWORKS_FRESH: Duration = Duration::from_secs(60);

/// The networks of the gateway's own container, as they were last known.
#[derive(Debug, Default)]
pub(super) struct OwnNetworks(Mutex<Option<(Instant, Vec<String>)>>);

/// The namespace that a container's traffic goes through.
pub(super) enum Namespace {
    /// The engine's machine itself.
    Host,
    /// The networks of this container, or of the one that it shares them with.
    Of(Box<ContainerInspectResponse>),
}

impl Docker {
    /// Where the gateway reaches the container; `None` while it has no address.
    pub(super) async fn address(
        &self,
        container: &ContainerInspectResponse,
    ) -> Result<Option<IpAddr>, RuntimeError> {
        let holder = match self.namespace(container.clone()).await? {
            None => return Ok(None),
            Some(Namespace::Host) => return Ok(Some(Ipv4Addr::LOCALHOST.into())),
            Some(Namespace::Of(holder)) => holder,
        };
        let networks = networks(&holder);
        if networks.len() > 1 {
            // The label is the container's own, also where another one holds the network.
            let labelled = labels(container).and_then(|labels| labels.get(NETWORK_LABEL).cloned());
            for network in labelled.iter().chain(&self.network) {
                if let Some(address) = address_on(&networks, network) {
                    return Ok(Some(address));
                }
            }
            for network in self.own_networks().await {
                if let Some(address) = address_on(&networks, &network) {
                    return Ok(Some(address));
                }
            }
        }
        Ok(first_address(&networks))
    }

    /// Follows `container:<id>` network modes; `None` where they lead nowhere.
    pub(super) async fn namespace(
        &self,
        container: ContainerInspectResponse,
    ) -> Result<Option<Namespace>, RuntimeError> {
        let mut holder = container;
        for _ in 0..SHARED_NETWORK_DEPTH_MAX {
            let mode = network_mode(&holder);
            if mode == "host" {
                return Ok(Some(Namespace::Host));
            }
            let Some(next) = mode.strip_prefix("container:") else {
                return Ok(Some(Namespace::Of(Box::new(holder))));
            };
            holder = match self.inspect_any(next).await {
                Ok(next) => next,
                Err(RuntimeError::NotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        Ok(None)
    }

    /// The networks of the container that the gateway runs in, by name; none when it runs in
    /// none, or when that cannot be found out now.
    async fn own_networks(&self) -> Vec<String> {
        let fresh = |(at, networks): &(Instant, Vec<String>)| {
            (at.elapsed() < OWN_NETWORKS_FRESH).then(|| networks.clone())
        };
        if let Some(known) = self.own_networks.0.lock().as_ref().and_then(fresh) {
            return known;
        }
        let mut found = Vec::new();
        for id in own::candidates() {
            match self.inspect_any(&id).await {
                Ok(container) => {
                    found = networks(&container).into_keys().collect();
                    found.sort_unstable();
                    break;
                }
                Err(RuntimeError::NotFound(_)) => {}
                // Not remembered, so that the next call asks again.
                Err(_) => return Vec::new(),
            }
        }
        *self.own_networks.0.lock() = Some((Instant::now(), found.clone()));
        found
    }
}

pub(super) fn network_mode(container: &ContainerInspectResponse) -> &str {
    let host_config = container.host_config.as_ref();
    host_config
        .and_then(|config| config.network_mode.as_deref())
        .unwrap_or_default()
}

pub(super) fn networks(container: &ContainerInspectResponse) -> Networks {
    let settings = container.network_settings.clone().unwrap_or_default();
    settings.networks.unwrap_or_default()
}

fn labels(container: &ContainerInspectResponse) -> Option<&HashMap<String, String>> {
    container.config.as_ref()?.labels.as_ref()
}
