//! A real engine with a life of its own: it goes away, and others use it too.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, Ipam, IpamConfig,
    NetworkCreateRequest, NetworkingConfig,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use parking_lot::Mutex;
use reqwest::Method;
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::bench::{Bench, Sample, until};
use crate::client::Answer;
use crate::gateway::Gateway;
use crate::lines;
use crate::scripts;
use crate::world::LABEL;

lines![
    Docker while_the_engine_is_away_what_runs_is_served_and_wakes_are_503_until_it_is_back,
    Docker an_address_that_another_container_has_taken_gets_no_traffic_meant_for_the_first,
    Docker containers_of_others_are_404_and_untouched,
    Docker a_container_that_was_removed_behind_the_gateways_back_is_404,
    Docker a_container_that_somebody_else_makes_with_the_label_is_found_and_woken,
    Docker a_container_that_somebody_else_starts_is_used_as_it_is,
];

/// A way to the engine's socket that can be cut.
struct Relay {
    path: PathBuf,
    engine: PathBuf,
    running: Mutex<Option<AbortHandle>>,
}

impl Relay {
    fn new(bench: &Bench) -> Option<Self> {
        let host = std::env::var("DOCKER_HOST").unwrap_or("unix:///var/run/docker.sock".to_owned());
        let relay = Self {
            path: bench.dir().join("engine.sock"),
            engine: host.strip_prefix("unix://")?.into(),
            running: Mutex::default(),
        };
        relay.open();
        Some(relay)
    }

    fn open(&self) {
        let listener = UnixListener::bind(&self.path).expect("a socket");
        let engine = self.engine.clone();
        let work = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let engine = engine.clone();
                connections.spawn(async move {
                    if let Ok(mut engine) = UnixStream::connect(engine).await {
                        let _ = copy_bidirectional(&mut client, &mut engine).await;
                    }
                });
            }
        });
        *self.running.lock() = Some(work.abort_handle());
    }

    /// As if the engine had ended: connections break, and nobody listens.
    fn cut(&self) {
        if let Some(work) = self.running.lock().take() {
            work.abort();
        }
        std::fs::remove_file(&self.path).expect("a socket");
    }
}

async fn while_the_engine_is_away_what_runs_is_served_and_wakes_are_503_until_it_is_back(
    bench: Bench,
) {
    // An engine behind TCP has no socket to cut.
    let Some(relay) = Relay::new(&bench) else {
        return;
    };
    let host = format!("unix://{}", relay.path.display());
    let setup = bench
        .setup()
        .script(scripts::idle_by_label())
        .set("docker.host", host);
    let gateway = setup.start().await;
    let [awake, asleep, ending] = ["awake", "asleep", "ending"].map(|short| bench.sample(short));
    let awake_id = gateway.client.run(&awake).await;
    gateway.client.create(&asleep).await;
    let ending_id = gateway.client.run(&ending).await;

    relay.cut();
    gateway.client.get(&awake.path("")).await.ok();
    until("it knows that the engine is away", || async {
        let ready = Answer::to(gateway.client.admin(Method::GET, "/readyz")).await;
        (ready.status == 503).then_some(())
    })
    .await;
    for _ in 0..20 {
        gateway.client.get(&awake.path("")).await.ok();
    }
    let refused = gateway.client.get(&asleep.path("")).await;
    let problem = refused.problem(503, "engine_unreachable");
    let detail = problem["detail"].as_str().expect("text");
    assert!(
        detail.contains("cannot be woken: the engine does not answer: "),
        "{detail}"
    );
    assert!(refused.retry_after().as_secs() >= 1);
    gateway
        .client
        .post_deploy("", &bench.sample("new").0)
        .await
        .problem(503, "engine_unreachable");
    // What happens meanwhile is not seen until it is back.
    bench.engine().stop(&ending_id).await;

    relay.open();
    until("the wake succeeds by itself", || async {
        let answer = gateway.client.get(&asleep.path("")).await;
        (answer.status == 200).then_some(())
    })
    .await;
    gateway.client.until_phase(ending.name(), "stopped").await;
    gateway.client.get(&ending.path("")).await.ok();
    bench.has_started(&ending_id, 2).await;
    gateway.client.get(&awake.path("")).await.ok();
    bench.has_started(&awake_id, 1).await;
    // Events are heard again.
    bench.engine().stop(&awake_id).await;
    gateway.client.until_phase(awake.name(), "stopped").await;
}

/// A small network of this line, in which addresses can be asked for.
async fn network(bench: &Bench) -> String {
    let name = format!("{}-net", bench.mark());
    // Others' networks may have the same range: another is tried then.
    for _ in 0..20 {
        let range = Ipv4Addr::new(
            10,
            fastrand::u8(64..250),
            fastrand::u8(..),
            16 * fastrand::u8(..16),
        );
        let range = IpamConfig {
            subnet: Some(format!("{range}/28")),
            ..IpamConfig::default()
        };
        let request = NetworkCreateRequest {
            name: name.clone(),
            ipam: Some(Ipam {
                config: Some(vec![range]),
                ..Ipam::default()
            }),
            labels: Some(HashMap::from([(LABEL.to_owned(), bench.mark().to_owned())])),
            ..NetworkCreateRequest::default()
        };
        if bench.engine().raw().create_network(request).await.is_ok() {
            return name;
        }
    }
    panic!("no free range of addresses");
}

/// Makes a container as others do, with labels of its own, at an address of its own.
async fn made_by_hand(
    bench: &Bench,
    sample: &Sample,
    network: &str,
    address: Option<&str>,
    label: (&str, &str),
) -> String {
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let envs = sample.0["envs"].as_object().expect("envs");
    let labels = sample.0["labels"].as_object().expect("labels");
    let mut labels: HashMap<_, _> = labels.iter().map(|(k, v)| (k.clone(), text(v))).collect();
    labels.insert(label.0.to_owned(), label.1.to_owned());
    let endpoint = EndpointSettings {
        ipam_config: address.map(|address| EndpointIpamConfig {
            ipv4_address: Some(address.to_owned()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    let body = ContainerCreateBody {
        image: Some(bench.image()),
        env: Some(
            envs.iter()
                .map(|(k, v)| format!("{k}={}", text(v)))
                .collect(),
        ),
        labels: Some(labels),
        host_config: Some(HostConfig {
            network_mode: Some(network.to_owned()),
            ..HostConfig::default()
        }),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])),
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default()
        .name(sample.name())
        .build();
    let made = bench
        .engine()
        .raw()
        .create_container(Some(options), body)
        .await;
    made.expect("it can be made").id
}

async fn start(bench: &Bench, id: &str) {
    bench
        .engine()
        .raw()
        .start_container(id, None)
        .await
        .expect("it can be started");
}

/// Waits until the gateway has heard of a container that others have made.
async fn known(gateway: &Gateway, name: &str) {
    until("it is found", || async {
        let path = format!("/deploy/{name}");
        let answer = Answer::to(gateway.client.admin(Method::GET, &path)).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

async fn an_address_that_another_container_has_taken_gets_no_traffic_meant_for_the_first(
    bench: Bench,
) {
    let network = network(&bench).await;
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let first = bench.sample("first").with("network", network.as_str());
    let first_id = gateway.client.run(&first).await;
    gateway.client.get(&first.path("")).await.ok();
    let address = gateway.client.view(first.name()).await["address"].clone();
    let address = address.as_str().expect("an address").to_owned();
    let (ip, _) = address.split_once(':').expect("a port");

    bench.engine().stop(&first_id).await;
    let second = bench.sample("second");
    let mine = (LABEL, bench.mark());
    let second_id = made_by_hand(&bench, &second, &network, Some(ip), mine).await;
    start(&bench, &second_id).await;
    // At the address where the gateway had connections to the first one.
    let there = until("the second one listens", || async {
        let url = format!("http://{address}/");
        let answer = reqwest::Client::builder()
            .no_proxy()
            .build()
            .ok()?
            .get(&url)
            .send()
            .await;
        answer.ok()?.json::<serde_json::Value>().await.ok()
    })
    .await;
    assert_eq!(there["connstr"], "db second");
    known(&gateway, second.name()).await;
    for _ in 0..3 {
        assert_eq!(
            gateway.client.get(&first.path("")).await.ok()["connstr"],
            "db first"
        );
        assert_eq!(
            gateway.client.get(&second.path("")).await.ok()["connstr"],
            "db second"
        );
    }
    let own = gateway.client.view(second.name()).await["address"].clone();
    assert_eq!(own, address);
    assert_ne!(gateway.client.view(first.name()).await["address"], address);
}

async fn containers_of_others_are_404_and_untouched(bench: Bench) {
    let gateway = bench.setup().start().await;
    let own = bench.sample("own");
    gateway.client.create(&own).await;
    let network = bench.engine().network().to_owned();
    // With another value of the label, and with none of it but one to clear it away by.
    let strangers = [bench.sample("stranger"), bench.sample("other")];
    let other_mark = format!("{}-other", bench.mark());
    let mut ids = Vec::new();
    for stranger in &strangers {
        let id = made_by_hand(&bench, stranger, &network, None, (LABEL, &other_mark)).await;
        ids.push(id);
    }
    let _clear = ClearLater(bench.clone(), other_mark);
    start(&bench, &ids[0]).await;
    let state = || async {
        let container = bench
            .engine()
            .raw()
            .inspect_container(&ids[0], None)
            .await
            .expect("it");
        container.state.expect("a state").started_at
    };
    let before = state().await;
    let listed = Answer::to(gateway.client.admin(Method::GET, "/deploy"))
        .await
        .ok();
    let listed = listed["instances"].as_array().expect("a list").clone();
    assert_eq!(listed.len(), 1, "{listed:?}");
    for (stranger, id) in strangers.iter().zip(&ids) {
        for key in [stranger.name(), id.as_str(), &id[..12]] {
            for method in [Method::GET, Method::PUT, Method::DELETE] {
                let request = gateway.client.admin(method, &format!("/deploy/{key}"));
                Answer::to(request).await.problem(404, "unknown_workload");
            }
        }
        assert_eq!(gateway.client.get(&stranger.path("")).await.status, 404);
        let taken = gateway.client.post_deploy("", &stranger.0).await;
        taken.problem(409, "name_taken");
    }
    assert_eq!(state().await, before);
    assert!(bench.engine().runs(&ids[0]).await);
    assert!(!bench.engine().runs(&ids[1]).await);
    assert!(bench.engine().exists(&ids[1]).await);
}

/// Clears what has another mark than the line's own, also when the line fails.
struct ClearLater(Bench, String);

impl Drop for ClearLater {
    fn drop(&mut self) {
        let (bench, mark) = (self.0.clone(), self.1.clone());
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async move {
                if let Err(error) = bench.engine().remove_all(&mark).await {
                    eprintln!("{mark} is not cleared: {error}");
                }
            });
        });
    }
}

async fn a_container_that_was_removed_behind_the_gateways_back_is_404(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.run(&sample).await;
    bench
        .engine()
        .remove_all(bench.mark())
        .await
        .expect("they can be removed");
    until("it is forgotten", || async {
        let path = format!("/deploy/{}", sample.name());
        let answer = Answer::to(gateway.client.admin(Method::GET, &path)).await;
        (answer.status == 404).then_some(())
    })
    .await;
    assert_eq!(gateway.client.get(&sample.path("")).await.status, 404);
    // The name is free again.
    gateway.client.run(&sample).await;
    gateway.client.get(&sample.path("")).await.ok();
}

async fn a_container_that_somebody_else_makes_with_the_label_is_found_and_woken(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    let network = bench.engine().network().to_owned();
    let mine = (LABEL, bench.mark());
    let id = made_by_hand(&bench, &sample, &network, None, mine).await;
    known(&gateway, sample.name()).await;
    assert_eq!(
        gateway.client.get(&sample.path("")).await.ok()["connstr"],
        "db one"
    );
    bench.has_started(&id, 1).await;
}

async fn a_container_that_somebody_else_starts_is_used_as_it_is(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one").env("IDLE", "8s");
    let id = gateway.client.create(&sample).await;
    start(&bench, &id).await;
    gateway.client.until_phase(sample.name(), "ready").await;
    gateway.client.get(&sample.path("")).await.ok();
    bench.has_started(&id, 1).await;
    gateway.client.until_phase(sample.name(), "stopped").await;
    assert!(!bench.engine().runs(&id).await);
}
