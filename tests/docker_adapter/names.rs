//! Where a container is reached, and what a host name means to it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, NetworkConnectRequest, NetworkingConfig,
};
use libtest_mimic::Trial;
use wakegate::config;
use wakegate::runtime::docker::Docker;
use wakegate::runtime::{InstanceId, Runtime, RuntimeError};
use wakegate::spec::{NETWORK_LABEL, WorkloadSpec};

use crate::bench::{Bench, config, label, random, socket_trial, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_label_or_the_configuration_chooses_the_network", choice),
        socket_trial("the_gateways_own_network_goes_before_others", own_network),
        trial("shared_and_host_networks_have_an_address", shared),
        trial("a_container_finds_itself_and_its_neighbours", resolve),
    ]
}

/// A container on two networks, of which the first by name is `first`.
async fn on_two_networks(bench: &Bench, labels: &[(&str, &str)]) -> (InstanceId, [String; 2]) {
    let first = bench.network("wakegate-test-a").await;
    let second = bench.network("wakegate-test-b").await;
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let mut spec = WorkloadSpec {
        network: Some(first.clone()),
        labels: labels.collect(),
        ..bench.spec(&["deaf"])
    };
    if let Some(network) = spec.labels.get_mut(NETWORK_LABEL) {
        network.clone_from(&second);
    }
    let id = bench.created(&spec).await;
    let request = NetworkConnectRequest {
        container: id.to_string(),
        ..NetworkConnectRequest::default()
    };
    bench.raw.connect_network(&second, request).await.unwrap();
    bench.start(&id).await;
    (id, [first, second])
}

async fn address_on(bench: &Bench, id: &InstanceId, network: &str) -> IpAddr {
    let container = bench
        .raw
        .inspect_container(id.as_str(), None)
        .await
        .unwrap();
    let networks = container.network_settings.unwrap().networks.unwrap();
    networks[network]
        .ip_address
        .as_deref()
        .unwrap()
        .parse()
        .unwrap()
}

async fn choice(bench: Bench) {
    let (id, [first, second]) = on_two_networks(&bench, &[]).await;
    let on_first = address_on(&bench, &id, &first).await;
    let on_second = address_on(&bench, &id, &second).await;
    assert_ne!(on_first, on_second);
    let instance = bench.docker.inspect(&id).await.unwrap();
    assert_eq!(instance.address, Some(on_first), "the first by name");

    let configured = config::Docker {
        network: Some(second),
        ..config()
    };
    let configured = Docker::connect(&configured, bench.label.clone()).unwrap();
    let instance = configured.inspect(&id).await.unwrap();
    assert_eq!(instance.address, Some(on_second));

    let (id, [_, second]) = on_two_networks(&bench, &[(NETWORK_LABEL, "second")]).await;
    let on_second = address_on(&bench, &id, &second).await;
    let instance = bench.docker.inspect(&id).await.unwrap();
    assert_eq!(
        instance.address,
        Some(on_second),
        "the one that the label names"
    );
}

/// The gateway's part is played by a container with the engine's socket.
async fn own_network(bench: Bench, socket: String) {
    let (id, [_, second]) = on_two_networks(&bench, &[]).await;
    let label = format!("{}={}", bench.label.0, bench.label.1);
    let gateway = WorkloadSpec {
        network: Some(second.clone()),
        binds: vec![format!("{socket}:/var/run/docker.sock")],
        ..bench.spec(&["address-of", id.as_str(), &label])
    };
    let gateway = bench.created(&gateway).await;
    bench.docker.start(&gateway).await.unwrap();
    let seen = bench.first_line(&gateway).await;
    assert_eq!(seen, address_on(&bench, &id, &second).await.to_string());
}

async fn shared(bench: Bench) {
    let holder = bench.started(&bench.spec(&["deaf"])).await;
    let shared = WorkloadSpec {
        network: Some(format!("container:{holder}")),
        ..bench.spec(&["deaf"])
    };
    let shared = bench.started(&shared).await;
    let holders = bench.docker.inspect(&holder).await.unwrap().address;
    assert!(holders.is_some());
    assert_eq!(
        bench.docker.inspect(&shared).await.unwrap().address,
        holders
    );
    assert_eq!(
        bench.docker.resolve("localhost", &shared).await.ok(),
        holders
    );
    bench.docker.remove(&holder).await.unwrap();
    assert_eq!(bench.docker.inspect(&shared).await.unwrap().address, None);

    let on_host = WorkloadSpec {
        network: Some("host".to_owned()),
        ..bench.spec(&["deaf"])
    };
    let on_host = bench.started(&on_host).await;
    let loopback = Some(IpAddr::from(Ipv4Addr::LOCALHOST));
    assert_eq!(
        bench.docker.inspect(&on_host).await.unwrap().address,
        loopback
    );

    let without = WorkloadSpec {
        network: Some("none".to_owned()),
        ..bench.spec(&["deaf"])
    };
    let without = bench.started(&without).await;
    assert_eq!(bench.docker.inspect(&without).await.unwrap().address, None);
}

async fn resolve(bench: Bench) {
    let network = bench.network("wakegate-test").await;
    let spec = WorkloadSpec {
        network: Some(network.clone()),
        ..bench.spec(&["deaf"])
    };
    let id = bench.started(&spec).await;
    let own = bench.docker.inspect(&id).await.unwrap().address.unwrap();
    let upper_name = spec.name.as_str().to_uppercase();
    let short_id = &id.as_str()[..12];
    let qualified = format!("{}.{network}", spec.name);
    for host in [
        spec.name.as_str(),
        &upper_name,
        short_id,
        &qualified,
        "localhost",
        "127.0.0.1",
        "[::1]",
        "0.0.0.0",
    ] {
        assert_eq!(bench.docker.resolve(host, &id).await, Ok(own), "{host}");
    }
    let literal = IpAddr::from([10, 9, 8, 7]);
    assert_eq!(bench.docker.resolve("10.9.8.7", &id).await, Ok(literal));

    let neighbour_name = random("wakegate-test");
    let neighbour = foreign_neighbour(&bench, &network, &neighbour_name).await;
    let theirs = address_on(&bench, &neighbour, &network).await;
    let mut found = Vec::new();
    for host in [
        neighbour_name.as_str(),
        "db",
        "shop-database",
        &neighbour.as_str()[..12],
    ] {
        found.push((host.to_owned(), bench.docker.resolve(host, &id).await));
    }
    bench.raw_remove(&neighbour).await;
    for (host, address) in found {
        assert_eq!(address, Ok(theirs), "{host}");
    }
    match bench.docker.resolve(&neighbour_name, &id).await {
        Err(RuntimeError::NotFound(message)) => {
            assert!(message.contains(&neighbour_name), "{message}");
            assert!(message.contains(spec.name.as_str()), "{message}");
            assert!(message.contains(&network), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let elsewhere = Arc::clone(&bench.docker);
    let stranger = bench.started(&bench.spec(&["deaf"])).await;
    let unseen = elsewhere.resolve(spec.name.as_str(), &stranger).await;
    assert!(
        matches!(unseen, Err(RuntimeError::NotFound(_))),
        "{unseen:?}"
    );
}

/// Someone else's container with a Compose service name and a network alias.
async fn foreign_neighbour(bench: &Bench, network: &str, name: &str) -> InstanceId {
    let endpoint = EndpointSettings {
        aliases: Some(vec!["shop-database".to_owned()]),
        ..EndpointSettings::default()
    };
    let service = ("com.docker.compose.service".to_owned(), "db".to_owned());
    let body = ContainerCreateBody {
        image: Some(bench.image.clone()),
        cmd: Some(vec!["deaf".to_owned()]),
        labels: Some([label("someone-else"), service].into()),
        host_config: Some(HostConfig {
            network_mode: Some(network.to_owned()),
            ..HostConfig::default()
        }),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])),
        }),
        ..ContainerCreateBody::default()
    };
    bench.raw_started(name, body).await
}
