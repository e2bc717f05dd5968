//! A container's life: made, started, paused, stopped, removed, and all of it told by events.

use std::time::Duration;

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig};
use bollard::query_parameters::{KillContainerOptionsBuilder, RenameContainerOptionsBuilder};
use libtest_mimic::Trial;
use wakegate::names::WorkloadName;
use wakegate::runtime::EngineEventKind as Kind;
use wakegate::runtime::{Health, InstanceId, InstanceState, Runtime, RuntimeError};
use wakegate::spec::{PORT_LABEL, WorkloadSpec};

use crate::app::{ASKED, IN_CONTAINER};
use crate::bench::{Bench, PORT, PROGRAM, expect, label, next, random, trial};

const GRACE: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_container_lives_and_every_step_is_told", whole_life),
        trial("what_a_specification_asks_for_is_there", specification),
        trial("a_paused_container_is_asked_to_end_too", stop_paused),
        trial("a_deaf_container_is_killed_after_its_grace", stop_deaf),
        trial("removing_kills_what_runs_or_is_paused", remove_running),
        trial("two_removals_at_once_both_succeed", remove_twice),
        trial("a_create_that_cannot_be_leaves_nothing_behind", bad_creates),
        trial("a_start_that_cannot_be_says_why", bad_starts),
        trial("only_owned_containers_exist", ownership),
        trial("only_signals_that_end_it_are_told", signals),
        trial("a_renamed_container_is_told_by_its_new_name", rename),
        trial("the_engines_own_health_check_is_told", health),
        trial("no_event_after_the_subscription_is_missed", no_gap),
        trial("a_listing_tells_runs_apart", listing),
    ]
}

async fn whole_life(bench: Bench) {
    let docker = &bench.docker;
    let mut events = docker.events().await.unwrap();
    let id = bench.created(&bench.spec(&["wait"])).await;
    let stopped = |exit_code| InstanceState::Stopped { exit_code };
    assert_eq!(docker.inspect(&id).await.unwrap().state, stopped(None));

    bench.start(&id).await;
    docker.start(&id).await.unwrap();
    let running = docker.inspect(&id).await.unwrap();
    let InstanceState::Running { started_at } = running.state else {
        panic!("{running:?}");
    };
    assert!(running.address.is_some());

    docker.pause(&id).await.unwrap();
    docker.pause(&id).await.unwrap();
    let paused = docker.inspect(&id).await.unwrap();
    assert_eq!(paused.state, InstanceState::Paused { started_at });
    assert_eq!(paused.address, running.address);
    docker.unpause(&id).await.unwrap();
    docker.unpause(&id).await.unwrap();

    docker.stop(&id, GRACE).await.unwrap();
    docker.stop(&id, GRACE).await.unwrap();
    let ended = docker.inspect(&id).await.unwrap();
    assert_eq!(ended.state, stopped(Some(ASKED)));
    assert_eq!(ended.address, None);
    assert!(matches!(
        docker.pause(&id).await,
        Err(RuntimeError::Refused(_))
    ));
    assert!(matches!(
        docker.unpause(&id).await,
        Err(RuntimeError::Refused(_))
    ));

    bench.start(&id).await;
    let again = docker.inspect(&id).await.unwrap();
    assert!(
        matches!(again.state, InstanceState::Running { started_at: later } if later > started_at)
    );
    docker.stop(&id, GRACE).await.unwrap();

    docker.remove(&id).await.unwrap();
    docker.remove(&id).await.unwrap();
    let missing = Err(RuntimeError::NotFound(id.to_string()));
    assert_eq!(docker.inspect(&id).await.map(drop), missing);
    assert_eq!(docker.start(&id).await, missing);
    assert_eq!(docker.stop(&id, GRACE).await, missing);
    assert_eq!(docker.pause(&id).await, missing);
    assert_eq!(docker.unpause(&id).await, missing);

    let died = Kind::Died {
        exit_code: Some(ASKED),
    };
    let told = [
        Kind::Changed,
        Kind::Started,
        Kind::Paused,
        Kind::Unpaused,
        Kind::Ending,
        died,
        Kind::Started,
        Kind::Ending,
        died,
        Kind::Destroyed,
    ];
    expect(&mut events, &id, &told).await;
}

async fn specification(bench: Bench) {
    let network = bench.network("wakegate-test").await;
    let spec = WorkloadSpec {
        network: Some(network.clone()),
        port: Some(8080),
        labels: [("colour".to_owned(), "blue".to_owned())].into(),
        envs: [("CONNSTR".to_owned(), "db = 1; x".to_owned())].into(),
        memory: Some(64 << 20),
        cpus: Some(0.5),
        pids: Some(50),
        ..bench.spec(&["wait"])
    };
    let id = bench.started(&spec).await;
    let instance = bench.docker.inspect(&id).await.unwrap();
    assert_eq!(instance.name, spec.name);
    assert_eq!(instance.image, bench.image);
    assert_eq!(instance.labels["colour"], "blue");
    assert_eq!(instance.labels[PORT_LABEL], "8080");
    assert_eq!(instance.labels[&bench.label.0], bench.label.1);
    assert_eq!(instance.envs["CONNSTR"], "db = 1; x");
    assert_eq!(instance.ports, [8080, PORT]);
    assert_eq!(instance.health, None);

    let raw = bench
        .raw
        .inspect_container(id.as_str(), None)
        .await
        .unwrap();
    let host_config = raw.host_config.unwrap();
    assert_eq!(host_config.memory, Some(64 << 20));
    assert_eq!(host_config.nano_cpus, Some(500_000_000));
    assert_eq!(host_config.pids_limit, Some(50));
    assert_eq!(host_config.network_mode, Some(network.clone()));
    let networks = raw.network_settings.unwrap().networks.unwrap();
    let address = networks[&network].ip_address.clone().unwrap();
    assert_eq!(instance.address, Some(address.parse().unwrap()));
}

async fn stop_paused(bench: Bench) {
    let id = bench.started(&bench.spec(&["wait"])).await;
    bench.docker.pause(&id).await.unwrap();
    bench.docker.stop(&id, GRACE).await.unwrap();
    let ended = bench.docker.inspect(&id).await.unwrap();
    let asked = InstanceState::Stopped {
        exit_code: Some(ASKED),
    };
    assert_eq!(ended.state, asked);
}

async fn stop_deaf(bench: Bench) {
    let id = bench.started(&bench.spec(&["deaf"])).await;
    // Less than a second: the engine counts in whole ones.
    bench
        .docker
        .stop(&id, Duration::from_millis(200))
        .await
        .unwrap();
    let ended = bench.docker.inspect(&id).await.unwrap();
    let killed = InstanceState::Stopped {
        exit_code: Some(137),
    };
    assert_eq!(ended.state, killed);
}

async fn remove_running(bench: Bench) {
    for pause in [false, true] {
        let id = bench.started(&bench.spec(&["deaf"])).await;
        if pause {
            bench.docker.pause(&id).await.unwrap();
        }
        bench.docker.remove(&id).await.unwrap();
        let gone = bench.docker.inspect(&id).await;
        assert!(matches!(gone, Err(RuntimeError::NotFound(_))), "{gone:?}");
    }
}

async fn remove_twice(bench: Bench) {
    let id = bench.started(&bench.spec(&["deaf"])).await;
    let removals = (0..4).map(|_| {
        let (docker, id) = (bench.docker.clone(), id.clone());
        async move {
            docker.remove(&id).await.unwrap();
            let gone = docker.inspect(&id).await;
            assert!(matches!(gone, Err(RuntimeError::NotFound(_))), "{gone:?}");
        }
    });
    futures_util::future::join_all(removals).await;
}

async fn bad_creates(bench: Bench) {
    let docker = &bench.docker;
    let no_image = WorkloadSpec {
        image: "wakegate-test/not-there:1".to_owned(),
        ..bench.spec(&["wait"])
    };
    assert_eq!(
        docker.create(&no_image).await,
        Err(RuntimeError::ImageMissing(
            "wakegate-test/not-there:1".to_owned()
        ))
    );
    for network in ["wakegate-test-not-there", "..", "a/../b", "a?b#c", ""] {
        let no_network = WorkloadSpec {
            network: Some(network.to_owned()),
            ..bench.spec(&["wait"])
        };
        assert_eq!(
            docker.create(&no_network).await,
            Err(RuntimeError::NetworkMissing(network.to_owned()))
        );
    }
    let bad_image = WorkloadSpec {
        image: "Not An Image".to_owned(),
        ..bench.spec(&["wait"])
    };
    let refused = docker.create(&bad_image).await;
    assert!(
        matches!(refused, Err(RuntimeError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(docker.list().await, Ok(Vec::new()));

    let spec = bench.spec(&["wait"]);
    let id = bench.created(&spec).await;
    assert_eq!(
        docker.create(&spec).await,
        Err(RuntimeError::NameTaken(spec.name.to_string()))
    );
    let listed = docker.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, id);
}

async fn bad_starts(bench: Bench) {
    let network = bench.network("wakegate-test").await;
    let spec = WorkloadSpec {
        network: Some(network.clone()),
        ..bench.spec(&["wait"])
    };
    let id = bench.created(&spec).await;
    bench.docker.remove_network(&network).await.unwrap();
    assert_eq!(
        bench.docker.start(&id).await,
        Err(RuntimeError::NetworkMissing(network))
    );

    let no_program = ContainerCreateBody {
        entrypoint: Some(vec!["/not-there".to_owned()]),
        ..raw_body(&bench)
    };
    let made = bench
        .raw
        .create_container(
            None::<bollard::query_parameters::CreateContainerOptions>,
            no_program,
        )
        .await
        .unwrap();
    let refused = bench.docker.start(&InstanceId::new(&made.id)).await;
    match refused {
        Err(RuntimeError::Refused(message)) => assert!(message.contains("/not-there"), "{message}"),
        other => panic!("{other:?}"),
    }
}

async fn ownership(bench: Bench) {
    let mut events = bench.docker.events().await.unwrap();
    let foreign = ContainerCreateBody {
        labels: Some([label("someone-else")].into()),
        ..raw_body(&bench)
    };
    let name = random("wakegate-test");
    let id = bench.raw_started(&name, foreign).await;
    let seen = bench.docker.inspect(&id).await;
    let by_name = bench.docker.inspect(&InstanceId::new(&name)).await;
    let listed = bench.docker.list().await;
    bench.raw_remove(&id).await;
    assert_eq!(seen, Err(RuntimeError::NotFound(id.to_string())));
    assert_eq!(by_name, Err(RuntimeError::NotFound(name)));
    assert_eq!(listed, Ok(Vec::new()));
    // Nothing of the foreign one comes before the own one.
    let own = bench.created(&bench.spec(&["wait"])).await;
    expect(&mut events, &own, &[Kind::Changed]).await;
}

async fn signals(bench: Bench) {
    let mut events = bench.docker.events().await.unwrap();
    let body = ContainerCreateBody {
        cmd: Some(vec!["wait".to_owned()]),
        stop_signal: Some("SIGWINCH".to_owned()),
        ..raw_body(&bench)
    };
    let id = bench.raw_started(&random("wakegate-test"), body).await;
    assert_eq!(bench.first_line(&id).await, "up");
    for signal in ["HUP", "USR1", "WINCH", "TERM"] {
        let options = KillContainerOptionsBuilder::default()
            .signal(signal)
            .build();
        let kill = bench.raw.kill_container(id.as_str(), Some(options));
        kill.await.unwrap();
    }
    let died = Kind::Died {
        exit_code: Some(ASKED),
    };
    let told = [
        Kind::Changed,
        Kind::Started,
        Kind::Ending,
        Kind::Ending,
        died,
    ];
    expect(&mut events, &id, &told).await;
}

async fn rename(bench: Bench) {
    let mut events = bench.docker.events().await.unwrap();
    let spec = bench.spec(&["wait"]);
    let id = bench.created(&spec).await;
    let new_name = random("wakegate-test");
    let options = RenameContainerOptionsBuilder::default()
        .name(&new_name)
        .build();
    bench
        .raw
        .rename_container(id.as_str(), options)
        .await
        .unwrap();
    assert_eq!(next(&mut events).await.name, spec.name);
    let renamed = next(&mut events).await;
    assert_eq!(renamed.kind, Kind::Changed);
    assert_eq!(renamed.name, WorkloadName::new(&new_name).unwrap());
    assert_eq!(bench.docker.inspect(&id).await.unwrap().name, renamed.name);
}

async fn health(bench: Bench) {
    let mut events = bench.docker.events().await.unwrap();
    let check = [PROGRAM, IN_CONTAINER, "exit", "0"].map(str::to_owned);
    let body = ContainerCreateBody {
        cmd: Some(vec!["deaf".to_owned()]),
        healthcheck: Some(HealthConfig {
            test: Some([vec!["CMD".to_owned()], check.to_vec()].concat()),
            interval: Some(1_000_000_000),
            ..HealthConfig::default()
        }),
        ..raw_body(&bench)
    };
    let id = bench.raw_started(&random("wakegate-test"), body).await;
    let told = [Kind::Changed, Kind::Started, Kind::Health(Health::Healthy)];
    expect(&mut events, &id, &told).await;
    let instance = bench.docker.inspect(&id).await.unwrap();
    assert_eq!(instance.health, Some(Health::Healthy));
    let listed = bench.docker.list().await.unwrap();
    assert_eq!(listed[0].health, Some(Health::Healthy));
}

/// The engine opens its answer to a subscription before it begins to collect.
async fn no_gap(bench: Bench) {
    let spec = bench.spec(&["wait"]);
    for _ in 0..20 {
        let mut events = bench.docker.events().await.unwrap();
        let id = bench.created(&spec).await;
        expect(&mut events, &id, &[Kind::Changed]).await;
        bench.docker.remove(&id).await.unwrap();
        expect(&mut events, &id, &[Kind::Destroyed]).await;
    }
}

async fn listing(bench: Bench) {
    let made = bench.created(&bench.spec(&["wait"])).await;
    let ended = bench.started(&bench.spec(&["wait"])).await;
    bench.docker.stop(&ended, GRACE).await.unwrap();
    let runs = bench.started(&bench.spec(&["wait"])).await;
    let paused = bench.started(&bench.spec(&["wait"])).await;
    bench.docker.pause(&paused).await.unwrap();
    let listed = bench.docker.list().await.unwrap();
    assert_eq!(listed.len(), 4);
    for (id, state) in [
        (&made, InstanceState::Stopped { exit_code: None }),
        (
            &ended,
            InstanceState::Stopped {
                exit_code: Some(ASKED),
            },
        ),
        (&runs, bench.docker.inspect(&runs).await.unwrap().state),
        (&paused, bench.docker.inspect(&paused).await.unwrap().state),
    ] {
        let instance = listed.iter().find(|instance| instance.id == *id).unwrap();
        assert_eq!(instance.state, state);
        assert_eq!(instance.image, bench.image);
        assert_eq!(instance.labels[&bench.label.0], bench.label.1);
    }
}

/// The image with the trial's label, for containers that the adapter does not make.
fn raw_body(bench: &Bench) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(bench.image.clone()),
        cmd: Some(vec!["deaf".to_owned()]),
        labels: Some([bench.label.clone()].into()),
        host_config: Some(HostConfig::default()),
        ..ContainerCreateBody::default()
    }
}
