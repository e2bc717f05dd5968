//! Traffic that goes on while containers fall asleep, end by themselves and wake: nothing is lost.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;

use crate::bench::{Bench, Sample};
use crate::client::Answer;
use crate::gateway::Gateway;
use crate::lines;
use crate::scripts;

lines![
    Process traffic_across_many_sleeps_of_every_kind_loses_no_request,
    Process traffic_of_many_clients_across_sleeps_loses_no_request,
    Process posts_across_many_sleeps_of_every_kind_are_all_answered,
    Docker traffic_across_a_few_sleeps_loses_no_request,
];

/// How a client asks.
#[derive(Clone, Copy)]
struct Traffic {
    method: &'static str,
    time: Duration,
    clients: usize,
    /// Around it a container falls asleep.
    idle: Duration,
    /// Clients' pauses are at most this much shorter or longer.
    spread: Duration,
}

/// What went wrong, with when it did.
type Losses = Vec<String>;

/// The container ends by itself, is put to sleep, or both at the same moment.
fn sleepers(bench: &Bench, idle: &str) -> [Sample; 3] {
    [
        bench.sample("self").env("IDLE", idle),
        bench.sample("told").env("IDLE", "0").label("sleep", idle),
        bench.sample("both").env("IDLE", idle).label("sleep", idle),
    ]
}

async fn ask(gateway: &Gateway, sample: &Sample, traffic: Traffic, until: Instant) -> Losses {
    let mut losses = Vec::new();
    // A connection of its own, which other clients' requests do not keep busy.
    let client = gateway.client.alone();
    let begun = Instant::now();
    let mut number = 0_u32;
    while Instant::now() < until {
        number += 1;
        let path = sample.path(&format!("n{number}"));
        let method = Method::from_bytes(traffic.method.as_bytes()).expect("a method");
        let mut request = client.request(method, &path);
        if traffic.method == "POST" {
            request = request.body(format!("body {number}"));
        }
        let asked = begun.elapsed();
        let loss = match Answer::try_to(request).await {
            Err(error) => Some(format!("{error:?}")),
            Ok(answer) if answer.status != 200 => {
                // What happened just now to this container, by the gateway's own word.
                let told = gateway.log.lines_with(sample.name());
                let told = told[told.len().saturating_sub(4)..].join("\n");
                Some(format!("{} {}\n{told}", answer.status, answer.text()))
            }
            Ok(answer) => {
                let report = answer.json();
                let right =
                    report["connstr"] == sample.0["envs"]["CONNSTR"] && report["path"] == path;
                (!right).then(|| format!("another's answer: {report}"))
            }
        };
        if let Some(loss) = loss {
            losses.push(format!("{} {path} after {asked:?}: {loss}", traffic.method));
        }
        let earliest = traffic.idle.saturating_sub(traffic.spread);
        let pause = earliest + traffic.spread.mul_f64(2.0 * fastrand::f64());
        tokio::time::sleep(pause).await;
    }
    losses
}

async fn nothing_is_lost(bench: &Bench, gateway: &Gateway, samples: &[Sample], traffic: Traffic) {
    let mut ids = Vec::new();
    for sample in samples {
        ids.push(gateway.client.create(sample).await);
    }
    let until = Instant::now() + traffic.time;
    let clients = samples
        .iter()
        .flat_map(|sample| std::iter::repeat_n(sample, traffic.clients));
    let losses = join_all(clients.map(|sample| ask(gateway, sample, traffic, until))).await;
    let losses = losses.concat();
    let mut starts = Vec::new();
    for (sample, id) in samples.iter().zip(&ids) {
        starts.push((sample.name(), bench.starts(id).await));
    }
    eprintln!("{} {starts:?}, {} lost", traffic.method, losses.len());
    assert!(
        losses.is_empty(),
        "{} lost, {starts:?}:\n{}",
        losses.len(),
        losses.join("\n")
    );
    // Otherwise this has tested nothing.
    let sleeps: usize = starts.iter().map(|(_, starts)| starts - 1).sum();
    assert!(sleeps >= samples.len(), "{starts:?}");
}

/// One client a container, which asks about as often as its container falls asleep.
///
/// One that ends before the gateway has seen it ready, and so twice in a row, has failed by right: a
/// machine that stalls must not take for that as long as it is idle.
const TRAFFIC: Traffic = Traffic {
    method: "GET",
    time: Duration::from_secs(20),
    clients: 1,
    idle: Duration::from_millis(1200),
    spread: Duration::from_millis(30),
};

async fn traffic_across_many_sleeps_of_every_kind_loses_no_request(bench: Bench) {
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    nothing_is_lost(&bench, &gateway, &sleepers(&bench, "1200ms"), TRAFFIC).await;
}

/// Four clients, whose pauses are so long that all of them are quiet now and then.
async fn traffic_of_many_clients_across_sleeps_loses_no_request(bench: Bench) {
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let crowd = Traffic {
        time: Duration::from_secs(25),
        clients: 4,
        idle: Duration::from_millis(2500),
        spread: Duration::from_millis(2500),
        ..TRAFFIC
    };
    nothing_is_lost(&bench, &gateway, &sleepers(&bench, "1s"), crowd).await;
}

/// A POST that may have arrived must not be sent again (RFC 9110 §9.2.2): it is only answered when
/// it never goes to a run that was told to end, and when a run that ends by itself ends cleanly.
///
/// The idle time is longer than a second because a connection that was idle for less may be used
/// for a POST, and no application can close such a one at a moment when none is on its way.
async fn posts_across_many_sleeps_of_every_kind_are_all_answered(bench: Bench) {
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let rounds = ["one", "two", "three", "four"];
    let samples =
        rounds.map(|round| sleepers(&bench, "1300ms").map(|sample| sample.renamed(round)));
    let traffic = Traffic {
        method: "POST",
        time: Duration::from_secs(15),
        idle: Duration::from_millis(1300),
        ..TRAFFIC
    };
    nothing_is_lost(&bench, &gateway, samples.as_flattened(), traffic).await;
}

/// A container takes some time to start, and must not have ended again by then.
async fn traffic_across_a_few_sleeps_loses_no_request(bench: Bench) {
    let gateway = bench.setup().script(scripts::idle_by_label()).start().await;
    let traffic = Traffic {
        time: Duration::from_secs(30),
        idle: Duration::from_secs(3),
        ..TRAFFIC
    };
    nothing_is_lost(&bench, &gateway, &sleepers(&bench, "3s"), traffic).await;
}
