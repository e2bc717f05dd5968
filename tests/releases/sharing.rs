//! Two gateways on one store: what both write at once is kept from both.

use serde_json::Value;

use crate::api::Api;
use crate::bench::Bench;
use crate::bucket::Bucket;
use crate::gateway::Gateway;
use crate::lines;
use crate::setup::Setup;
use crate::shelf::Shelf;
use crate::stage::{Stage, of_one_application, start};
use crate::stores::with_bucket;

lines![
    Process two_gateways_on_one_folder_lose_no_entry,
    S3 two_gateways_on_one_bucket_lose_no_entry,
    Process a_gateway_launches_what_another_one_has_stored,
];

/// Switches of each gateway.
const SWITCHES: usize = 15;

struct Machine {
    bench: Bench,
    /// Only held, so that it runs.
    _gateway: Gateway,
    api: Api,
}

async fn machine(bench: Bench, setup: Setup) -> Machine {
    let (gateway, api) = start(&setup).await;
    Machine {
        bench,
        _gateway: gateway,
        api,
    }
}

/// Both switch to and fro between releases of their own, at once.
async fn both_switch(machines: [Machine; 2], shelf: &Shelf) {
    let all = machines.into_iter().enumerate().map(|(number, machine)| {
        tokio::spawn(async move {
            let mut hashes = Vec::new();
            for name in ["a", "b"] {
                let revision = format!("machine{number}{name}");
                let release = crate::configuration::Configuration::new(&machine.bench, &revision);
                hashes.push(machine.api.launched(&release).await);
            }
            for switch in 0..SWITCHES {
                let hash = &hashes[switch % 2];
                machine.api.launch(hash).await.ok();
                let switched = machine.api.switched(hash).await;
                assert_eq!(switched["pending"], false, "{switched}");
            }
            (machine, hashes)
        })
    });
    let mut done = Vec::new();
    for machine in all.collect::<Vec<_>>() {
        done.push(machine.await.expect("all are switched to"));
    }
    let history = shelf.history().await;
    assert_eq!(history.len(), 2 * SWITCHES);
    for (machine, hashes) in &done {
        // Each one's own entries are all there, in their order.
        let own = history.iter().filter_map(|entry| entry["hash"].as_str());
        let own: Vec<&str> = own
            .filter(|hash| hashes.iter().any(|own| own == hash))
            .collect();
        let expected: Vec<&str> = (0..SWITCHES)
            .map(|switch| hashes[switch % 2].as_str())
            .collect();
        assert_eq!(own, expected);
        // And each one's requests go to what it has switched to itself.
        let current = machine.api.status().await["current"].clone();
        assert_eq!(current, hashes[(SWITCHES - 1) % 2]);
    }
    let last: &Value = &history[history.len() - 1]["hash"];
    assert_eq!(shelf.current().await["hash"], *last);
}

async fn two_gateways_on_one_folder_lose_no_entry(stage: Stage) {
    let other = stage.another_machine().await;
    let store = format!("file:{}", stage.dir().join("store").display());
    let first = stage.setup().set("apps.shop.store", store.as_str());
    let second = of_one_application(&other).set("apps.shop.store", store.as_str());
    let machines = [
        machine(stage.bench().clone(), first).await,
        machine(other, second).await,
    ];
    both_switch(machines, &stage.shelf()).await;
}

async fn two_gateways_on_one_bucket_lose_no_entry(stage: Stage) {
    let bucket = Bucket::new().await;
    let other = stage.another_machine().await;
    let first = with_bucket(stage.setup(), &bucket, bucket.server());
    let second = with_bucket(of_one_application(&other), &bucket, bucket.server());
    let machines = [
        machine(stage.bench().clone(), first).await,
        machine(other, second).await,
    ];
    both_switch(machines, &Shelf::Bucket(bucket)).await;
}

async fn a_gateway_launches_what_another_one_has_stored(stage: Stage) {
    let other = stage.another_machine().await;
    let store = format!("file:{}", stage.dir().join("store").display());
    let first = stage.setup().set("apps.shop.store", store.as_str());
    let second = of_one_application(&other).set("apps.shop.store", store.as_str());
    let first = machine(stage.bench().clone(), first).await;
    let second = machine(other, second).await;
    // Else it might find at its start that the release is current, and have nothing to switch to.
    let has_looked = |status: &Value| status["state"] == "none";
    second
        .api
        .until("it has looked into the store", has_looked)
        .await;
    let hash = first.api.deployed(&stage.release("one")).await;
    second.api.launch(&hash).await.ok();
    second.api.switched(&hash).await;
    assert_eq!(second.api.answering().await, "one");
    assert_eq!(first.api.history().await.len(), 2);
}
