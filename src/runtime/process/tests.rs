//! What is special to processes; what all runtimes share stands in tests/conformance.rs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::timeout;

use super::procfs::{MARK, ProcessId};
use super::store::Saved;
use super::*;
use crate::names::WorkloadName;
use crate::runtime::{EngineEventKind, InstanceState};

/// For what takes milliseconds on a quiet machine.
const LONG: Duration = Duration::from_secs(60);

fn image(command: &[&str]) -> ProcessImage {
    ProcessImage {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        port: Some(9000),
        envs: BTreeMap::from([("FROM_IMAGE".to_owned(), "1".to_owned())]),
    }
}

/// A gateway's process runtime over `dir`, with the images `sh`, `env` and `nothing`.
fn open(dir: &Path) -> Result<Process, RuntimeError> {
    let config = config::Process {
        dir: dir.to_owned(),
        images: BTreeMap::from([
            ("sh".to_owned(), image(&["/bin/sh", "-c"])),
            ("nothing".to_owned(), image(&["/no/such/program"])),
        ]),
    };
    let builtin = BTreeMap::from([
        ("env".to_owned(), image(&["env"])),
        ("nothing".to_owned(), image(&["env"])),
    ]);
    Process::open(&config, builtin, ("ours".to_owned(), "yes".to_owned()))
}

/// A runtime over a directory of its own, whose workloads end with the test also when it fails.
struct Bench {
    runtime: Option<Process>,
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Some(open(dir.path()).unwrap());
        Self { runtime, dir }
    }

    fn runtime(&self) -> &Process {
        self.runtime.as_ref().unwrap()
    }

    /// The gateway ends and another one takes over.
    fn reopen(&mut self) {
        self.runtime = None;
        self.runtime = Some(open(self.dir.path()).unwrap());
    }

    async fn create(&self, name: &str, script: &str) -> InstanceId {
        let id = self.runtime().create(&sh(name, script)).await;
        id.unwrap()
    }

    /// Creates and starts it, and waits for the first line that it prints.
    async fn run(&self, name: &str, script: &str) -> InstanceId {
        let id = self.create(name, script).await;
        self.runtime().start(&id).await.unwrap();
        self.first_line(&id).await;
        id
    }

    async fn first_line(&self, id: &InstanceId) -> String {
        let path = self.runtime().log_path(id);
        let line = async {
            loop {
                let text = fs::read_to_string(&path).unwrap_or_default();
                match text.split_once('\n') {
                    Some((line, _)) => break line.to_owned(),
                    None => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        };
        timeout(LONG, line).await.expect("it prints a line")
    }

    async fn state(&self, id: &InstanceId) -> InstanceState {
        self.runtime().inspect(id).await.unwrap().state
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.dir.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            run::kill_marked(&entry.file_name().to_string_lossy());
        }
    }
}

fn sh(name: &str, script: &str) -> WorkloadSpec {
    let mut spec = WorkloadSpec::new(WorkloadName::new(name).unwrap(), "sh");
    spec.command = Some(vec![script.to_owned()]);
    spec
}

/// The exit code that the next end of this workload is told with.
async fn died(id: &InstanceId, events: &mut BoxStream<'static, EngineEvent>) -> Option<i64> {
    loop {
        let event = timeout(LONG, events.next()).await.expect("it dies");
        match event.expect("the stream goes on") {
            EngineEvent {
                id: of,
                kind: EngineEventKind::Died { exit_code },
                ..
            } if of == *id => return exit_code,
            _ => {}
        }
    }
}

/// Returns when the process with this number has ended, if it still exists.
async fn gone(pid: &str) {
    let process = ProcessId::of(pid.parse().unwrap());
    let run = process.and_then(|it| run::Run::open(it, Default::default()).ok());
    if let Some(run) = run {
        timeout(LONG, run.ends()).await.expect("it ends").unwrap();
    }
}

const SLEEP: &str = "echo up; exec sleep 1000";

#[tokio::test]
async fn a_workload_gets_nothing_of_the_gateways_environment() {
    let bench = Bench::new();
    let mut events = bench.runtime().events().await.unwrap();
    let mut spec = sh("a", "");
    spec.image = "env".to_owned();
    spec.command = None;
    spec.envs = BTreeMap::from([
        ("CONNSTR".to_owned(), "db 1 = \"x\"".to_owned()),
        ("BIND_ADDRESS".to_owned(), "0.0.0.0".to_owned()),
    ]);
    let id = bench.runtime().create(&spec).await.unwrap();
    bench.runtime().start(&id).await.unwrap();
    let address = bench.runtime().inspect(&id).await.unwrap().address;
    assert_eq!(died(&id, &mut events).await, Some(0));

    let log = fs::read_to_string(bench.runtime().log_path(&id)).unwrap();
    let envs: BTreeMap<&str, &str> = log.lines().filter_map(|l| l.split_once('=')).collect();
    // The address is told only while it runs, and this one ends at once.
    if let Some(address) = address {
        assert_eq!(envs["BIND_ADDRESS"], address.to_string());
    }
    assert!(envs["BIND_ADDRESS"].starts_with("127."));
    assert_eq!(envs["CONNSTR"], "db 1 = \"x\"");
    let allowed = BTreeSet::from([
        "PATH",
        "HOME",
        "TZ",
        "HOSTNAME",
        "PORT",
        "BIND_ADDRESS",
        "CONNSTR",
        "FROM_IMAGE",
        MARK,
    ]);
    let keys: BTreeSet<&str> = envs.keys().copied().collect();
    assert_eq!(keys.difference(&allowed).next(), None, "{envs:?}");
    assert_eq!(
        (envs["HOSTNAME"], envs["PORT"], envs["FROM_IMAGE"]),
        ("a", "9000", "1")
    );
}

#[tokio::test]
async fn addresses_are_distinct_and_outlive_the_gateway() {
    let mut bench = Bench::new();
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(bench.run(name, SLEEP).await);
    }
    let addresses = |all: Vec<Instance>| -> BTreeSet<IpAddr> {
        all.iter().filter_map(|one| one.address).collect()
    };
    let before = addresses(bench.runtime().list().await.unwrap());
    assert_eq!(before.len(), 3);
    bench.reopen();
    assert_eq!(addresses(bench.runtime().list().await.unwrap()), before);
    let b = bench.runtime().resolve("b", &ids[0]).await.unwrap();
    assert!(before.contains(&b));
}

#[tokio::test]
async fn signals_reach_the_children_of_a_workload() {
    let bench = Bench::new();
    let id = bench.create("a", "sleep 1000 & echo $!; wait").await;
    bench.runtime().start(&id).await.unwrap();
    let child = bench.first_line(&id).await;
    bench.runtime().pause(&id).await.unwrap();
    bench.runtime().stop(&id, LONG).await.unwrap();
    gone(&child).await;
}

#[tokio::test]
async fn what_left_the_process_group_ends_with_the_workload() {
    let bench = Bench::new();
    let mut events = bench.runtime().events().await.unwrap();
    let script = "setsid sleep 1000 & echo $!; exit 3";
    let id = bench.create("a", script).await;
    bench.runtime().start(&id).await.unwrap();
    assert_eq!(died(&id, &mut events).await, Some(3));
    gone(&bench.first_line(&id).await).await;
}

#[tokio::test]
async fn one_that_does_not_listen_to_sigterm_is_killed_after_its_grace_time() {
    let bench = Bench::new();
    let script = "trap '' TERM; echo up; while :; do sleep 1000; done";
    let id = bench.run("a", script).await;
    let grace = Duration::from_millis(50);
    bench.runtime().stop(&id, grace).await.unwrap();
    let exit_code = Some(137);
    assert_eq!(bench.state(&id).await, InstanceState::Stopped { exit_code });
}

#[tokio::test]
async fn a_program_that_is_not_there_is_refused_and_the_workload_stays() {
    let bench = Bench::new();
    let mut spec = sh("a", "");
    spec.image = "nothing".to_owned();
    let id = bench.runtime().create(&spec).await.unwrap();
    let error = bench.runtime().start(&id).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let stopped = InstanceState::Stopped { exit_code: None };
    assert_eq!(bench.state(&id).await, stopped);
    bench.runtime().remove(&id).await.unwrap();
    assert!(!bench.dir.path().join(id.as_str()).exists());
}

#[tokio::test]
async fn what_only_a_container_can_have_is_refused() {
    let bench = Bench::new();
    let plain = sh("a", "true");
    let greedy = [
        WorkloadSpec {
            privileged: true,
            ..plain.clone()
        },
        WorkloadSpec {
            binds: vec!["/a:/b".to_owned()],
            ..plain.clone()
        },
        WorkloadSpec {
            devices: vec!["/dev/kvm".to_owned()],
            ..plain.clone()
        },
        WorkloadSpec {
            cap_add: vec!["NET_ADMIN".to_owned()],
            ..plain.clone()
        },
    ];
    for spec in greedy {
        let error = bench.runtime().create(&spec).await.unwrap_err();
        assert!(matches!(&error, RuntimeError::Refused(_)), "{error:?}");
    }
    assert_eq!(bench.runtime().list().await.unwrap(), []);
    let limited = WorkloadSpec {
        memory: Some(1 << 20),
        cpus: Some(0.5),
        pids: Some(3),
        network: Some("anything".to_owned()),
        ..plain
    };
    bench.runtime().create(&limited).await.unwrap();
}

#[tokio::test]
async fn a_workload_outlives_its_gateway_and_is_the_same_to_the_next() {
    let mut bench = Bench::new();
    let running = bench.run("running", SLEEP).await;
    let stopped = bench.create("stopped", SLEEP).await;
    let before = bench.runtime().inspect(&running).await.unwrap();
    bench.reopen();
    assert_eq!(bench.runtime().inspect(&running).await.unwrap(), before);
    let exit_code = None;
    assert_eq!(
        bench.state(&stopped).await,
        InstanceState::Stopped { exit_code }
    );

    // Starting it again changes nothing, and its end is noticed.
    bench.runtime().start(&running).await.unwrap();
    assert_eq!(bench.state(&running).await, before.state);
    let mut events = bench.runtime().events().await.unwrap();
    bench.runtime().stop(&running, LONG).await.unwrap();
    died(&running, &mut events).await;
    bench.runtime().start(&running).await.unwrap();
    let InstanceState::Running { started_at } = bench.state(&running).await else {
        panic!("it was started");
    };
    assert!(InstanceState::Running { started_at } != before.state);
}

#[tokio::test]
async fn a_paused_workload_is_found_paused() {
    let mut bench = Bench::new();
    let id = bench.run("a", SLEEP).await;
    bench.runtime().pause(&id).await.unwrap();
    // The signal is sent and may not be carried out yet.
    let is_stopped = || match procfs::marked().remove(id.as_str()) {
        Some(own) => own.iter().all(|stat| stat.state == 'T'),
        None => false,
    };
    let stopped = async {
        while !is_stopped() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, stopped).await.expect("it is stopped");
    bench.reopen();
    assert!(matches!(
        bench.state(&id).await,
        InstanceState::Paused { .. }
    ));
    bench.runtime().stop(&id, LONG).await.unwrap();
}

#[tokio::test]
async fn one_that_ended_while_no_gateway_looked_is_found_stopped() {
    let mut bench = Bench::new();
    let id = bench
        .run("a", "setsid sleep 1000 & echo $!; exec sleep 1000")
        .await;
    let child = bench.first_line(&id).await;
    let (run, _) = bench.runtime().inner.table.lock().run(&id).unwrap();
    let leader = run.process.pid;
    bench.runtime = None;
    kill_process(Pid::from_raw(leader).unwrap(), Signal::KILL).unwrap();
    gone(&leader.to_string()).await;
    bench.reopen();
    let stopped = InstanceState::Stopped { exit_code: None };
    assert_eq!(bench.state(&id).await, stopped);
    // And what it left behind is gone as well.
    gone(&child).await;
}

#[tokio::test]
async fn another_process_with_its_number_is_not_taken_for_it() {
    let mut bench = Bench::new();
    let id = bench.create("a", SLEEP).await;
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let mut process = ProcessId::of(stranger.id() as i32).unwrap();
    process.start_ticks -= 1;
    let started_at = 1;
    let saved = Saved::Running {
        process,
        started_at,
    };
    let store = &bench.runtime().inner.store;
    store.save(id.as_str(), &saved).unwrap();
    bench.reopen();
    let stopped = InstanceState::Stopped { exit_code: None };
    assert_eq!(bench.state(&id).await, stopped);
    bench.runtime().remove(&id).await.unwrap();
    assert_eq!(stranger.try_wait().unwrap(), None, "it was left alone");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_start_that_a_crash_cut_short_is_found_by_its_mark() {
    let mut bench = Bench::new();
    let id = bench.create("a", SLEEP).await;
    // As it is after `Starting` was written and the process was made, and nothing more.
    let store = &bench.runtime().inner.store;
    store.save(id.as_str(), &Saved::Starting).unwrap();
    let mut command = Command::new("sleep");
    command.arg("1000").env(MARK, id.as_str()).process_group(0);
    let mut orphan = command.spawn().unwrap();
    bench.reopen();
    assert!(matches!(
        bench.state(&id).await,
        InstanceState::Running { .. }
    ));
    bench.runtime().stop(&id, LONG).await.unwrap();
    // The runtime has reaped it: it stands for the parent that crashed.
    assert!(orphan.try_wait().is_err());
}

/// The gateway that the next test kills: not a test of its own.
#[tokio::test]
#[ignore = "the helper of a_gateway_that_is_killed_forgets_nothing"]
async fn gateway_to_be_killed() {
    let Ok(dir) = std::env::var("WAKEGATE_TEST_DIR") else {
        return;
    };
    let runtime = open(Path::new(&dir)).unwrap();
    for name in ["a", "b"] {
        let id = runtime.create(&sh(name, SLEEP)).await.unwrap();
        runtime.start(&id).await.unwrap();
    }
    println!("\nready");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_forgets_nothing() {
    let mut bench = Bench::new();
    bench.runtime = None;
    let mut gateway = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "--exact"])
        .arg("runtime::process::tests::gateway_to_be_killed")
        .env("WAKEGATE_TEST_DIR", bench.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(gateway.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line == "ready");
    let refused = open(bench.dir.path()).err();
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    assert!(ready, "the other gateway started its workloads");
    assert!(matches!(refused, Some(RuntimeError::Refused(_))));

    bench.reopen();
    let all = bench.runtime().list().await.unwrap();
    assert_eq!(all.len(), 2);
    let mut events = bench.runtime().events().await.unwrap();
    for instance in all {
        let running = matches!(instance.state, InstanceState::Running { .. });
        assert!(running, "{instance:?}");
        bench.runtime().stop(&instance.id, LONG).await.unwrap();
        // Not a child of this process, so nobody tells the code.
        assert_eq!(died(&instance.id, &mut events).await, None);
        bench.runtime().start(&instance.id).await.unwrap();
        bench.runtime().remove(&instance.id).await.unwrap();
    }
}
