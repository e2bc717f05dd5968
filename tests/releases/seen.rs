//! What really runs, by the word of the engine or the kernel and of the applications themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, LogsOptionsBuilder,
};
use futures_util::StreamExt;
use serde_json::Value;

use crate::bench::{Bench, Kind, STATE_DIR, until};
use crate::world::LABEL;

/// Between two looks at all containers, each of which is work for the kernel or the engine.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One container.
#[derive(Debug, Clone)]
pub struct Seen {
    pub id: String,
    pub name: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub envs: BTreeMap<String, String>,
    pub runs: bool,
}

/// All containers of a machine.
pub async fn containers(bench: &Bench) -> Vec<Seen> {
    match bench.kind() {
        Kind::Process => of_processes(bench.dir()),
        Kind::Docker(_) => of_docker(bench).await,
    }
}

/// The container of that name.
pub async fn container(bench: &Bench, name: &str) -> Option<Seen> {
    let all = containers(bench).await;
    all.into_iter().find(|seen| seen.name == name)
}

/// The names of all of them, in order.
pub async fn names(bench: &Bench) -> Vec<String> {
    let all = containers(bench).await;
    let mut names: Vec<String> = all.into_iter().map(|seen| seen.name).collect();
    names.sort();
    names
}

/// The names of those that run, in order.
pub async fn running(bench: &Bench) -> Vec<String> {
    let all = containers(bench).await.into_iter();
    let mut names: Vec<String> = all.filter(|seen| seen.runs).map(|seen| seen.name).collect();
    names.sort();
    names
}

/// Waits until those run and no others.
pub async fn until_running(bench: &Bench, names: &[&str]) {
    let mut wanted: Vec<&str> = names.to_vec();
    wanted.sort_unstable();
    let what = format!("only {wanted:?} run");
    until(&what, || async {
        let is_so = running(bench).await == wanted;
        so_or_later(is_so).await
    })
    .await;
}

/// Waits until those containers are there and no others.
pub async fn until_there(bench: &Bench, names_wanted: &[&str]) {
    let mut wanted: Vec<&str> = names_wanted.to_vec();
    wanted.sort_unstable();
    let what = format!("only {wanted:?} are there");
    until(&what, || async {
        let is_so = names(bench).await == wanted;
        so_or_later(is_so).await
    })
    .await;
}

async fn so_or_later(is_so: bool) -> Option<()> {
    if !is_so {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    is_so.then_some(())
}

fn of_processes(dir: &Path) -> Vec<Seen> {
    let folders = std::fs::read_dir(dir.join(STATE_DIR));
    let folders = folders.into_iter().flatten().flatten();
    let mut seen: Vec<Seen> = folders
        .filter_map(|folder| of_folder(&folder.path()))
        .collect();
    let running = workloads();
    for one in &mut seen {
        one.runs = running.contains(&one.id);
    }
    seen
}

fn of_folder(folder: &Path) -> Option<Seen> {
    let text = std::fs::read(folder.join("spec.json")).ok()?;
    let identity: Value = serde_json::from_slice(&text).ok()?;
    let spec = &identity["spec"];
    Some(Seen {
        id: identity["id"].as_str()?.to_owned(),
        name: spec["name"].as_str()?.to_owned(),
        image: spec["image"].as_str()?.to_owned(),
        labels: words(&spec["labels"]),
        envs: words(&spec["envs"]),
        runs: false,
    })
}

/// The workloads of the process runtime that have a process on this machine, by their ids.
fn workloads() -> BTreeSet<String> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let its = all.filter_map(|entry| {
        entry.file_name().to_str()?.parse::<i32>().ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let id = variables.find_map(|one| one.strip_prefix(b"WAKEGATE_WORKLOAD="))?;
        Some(String::from_utf8_lossy(id).into_owned())
    });
    its.collect()
}

fn words(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    let words = pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    words.collect()
}

async fn of_docker(bench: &Bench) -> Vec<Seen> {
    let raw = bench.engine().raw();
    let filters =
        std::collections::HashMap::from([("label", vec![format!("{LABEL}={}", bench.mark())])]);
    let list = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    let listed = raw.list_containers(Some(list)).await.expect("a list");
    let mut all = Vec::new();
    for listed in listed {
        let id = listed.id.unwrap_or_default();
        // One that is gone by now is no longer there.
        let Ok(found) = raw
            .inspect_container(&id, None::<InspectContainerOptions>)
            .await
        else {
            continue;
        };
        let config = found.config.unwrap_or_default();
        let envs = config.env.unwrap_or_default();
        let envs = envs.iter().filter_map(|env| env.split_once('='));
        all.push(Seen {
            id,
            name: found
                .name
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned(),
            image: config.image.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            envs: envs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            runs: found.state.and_then(|state| state.running).unwrap_or(false),
        });
    }
    all
}

/// Processes of the process runtime on this machine, whoever knows of them.
pub fn processes(bench: &Bench) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let its = all.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = std::fs::read_link(entry.path().join("cwd")).ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let is_workload = variables.any(|one| one.starts_with(b"WAKEGATE_WORKLOAD="));
        (is_workload && folder == bench.dir()).then_some(pid)
    });
    its.collect()
}

/// When an application was told to end, by its own word, looked for every few milliseconds; with
/// Docker, as the engine has noted it.
pub async fn told_to_end(bench: &Bench, id: &str) -> Instant {
    if let Kind::Process = bench.kind() {
        let what = format!("{id} got SIGTERM");
        return until(&what, || async {
            let told = bench.output(id).await.contains("SIGTERM");
            told.then(Instant::now)
        })
        .await;
    }
    let what = format!("{id} got SIGTERM");
    until(&what, || async {
        let told = noted(bench, id).await;
        so_or_later(told.is_some()).await;
        told
    })
    .await
}

/// Whether an application was told to end, by its own word.
pub async fn was_told_to_end(bench: &Bench, id: &str) -> bool {
    bench.output(id).await.contains("SIGTERM")
}

async fn noted(bench: &Bench, id: &str) -> Option<Instant> {
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .timestamps(true);
    let mut lines = bench.engine().raw().logs(id, Some(options.build()));
    while let Some(Ok(line)) = lines.next().await {
        let line = line.to_string();
        if line.contains("SIGTERM") {
            let at: jiff::Timestamp = line.split_whitespace().next()?.parse().ok()?;
            let ago = jiff::Timestamp::now().duration_since(at);
            let ago = Duration::try_from(ago).unwrap_or_default();
            return Instant::now().checked_sub(ago);
        }
    }
    None
}

/// How often the application has come up, by its own word.
async fn starts(bench: &Bench, name: &str) -> usize {
    match container(bench, name).await {
        Some(seen) => bench.starts(&seen.id).await,
        None => 0,
    }
}

/// It has come up so often and no more. What it has said may get here after what it has answered,
/// since an engine keeps that by another way.
pub async fn assert_starts(bench: &Bench, name: &str, count: usize) {
    let what = format!("{name} has started {count} times");
    let told = until(&what, || async {
        let told = starts(bench, name).await;
        so_or_later(told >= count).await.map(|()| told)
    })
    .await;
    assert_eq!(told, count, "starts of {name}");
}
