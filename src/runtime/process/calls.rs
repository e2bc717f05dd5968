//! The calls that change something, each with the order of its steps on the disk and in /proc.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::OwnedMutexGuard;

use super::procfs::{self, MARK};
use super::run::{self, Launch, Run};
use super::store::{Identity, Saved};
use super::table::Phase;
use super::{Inner, TEND_EVERY};
use crate::config::ProcessImage;
use crate::runtime::tail::{Source, Tail};
use crate::runtime::{EngineEventKind, EngineTime, InstanceId, RuntimeError};
use crate::spec::WorkloadSpec;

/// How long the kernel may take to end a process after SIGKILL.
const KILL_TIME_MAX: Duration = Duration::from_secs(10);

impl Inner {
    pub(super) async fn create(
        self: Arc<Self>,
        spec: WorkloadSpec,
    ) -> Result<InstanceId, RuntimeError> {
        self.image(&spec.image)?;
        refuse_what_needs_a_container(&spec)?;
        self.tell_of_limits(&spec);
        let _one_by_one = self.creating.lock().await;
        if self.table.lock().by_name(spec.name.as_str()).is_some() {
            return Err(RuntimeError::NameTaken(spec.name.to_string()));
        }
        let inner = self.clone();
        let written = self.blocking(move || {
            let address = inner.free_address()?;
            let id = random_id();
            let identity = Identity { id, address, spec };
            inner.store.add(&identity).map_err(|error| {
                let dir = inner.store.dir().display();
                RuntimeError::Failed(format!("cannot write a workload to {dir}: {error}"))
            })?;
            Ok(identity)
        });
        let identity = written.await?;
        let mut table = self.table.lock();
        let id = table.add(identity, Phase::Stopped { exit_code: None });
        table.tell(&id, EngineEventKind::Changed);
        Ok(id)
    }

    pub(super) async fn start(self: Arc<Self>, id: InstanceId) -> Result<(), RuntimeError> {
        let _turn = self.turn(&id).await?;
        let (identity, started_at) = {
            let mut table = self.table.lock();
            let identity = table.find(&id)?.identity.clone();
            match table.run(&id) {
                Some((_, false)) => return Ok(()),
                Some((_, true)) => {
                    let reason = format!("{} is paused: unpause it instead", identity.spec.name);
                    return Err(RuntimeError::Refused(reason));
                }
                None => (identity, table.feed.now()),
            }
        };
        let image = self.image(&identity.spec.image)?.clone();
        let inner = self.clone();
        let started = self.blocking(move || inner.launch(&identity, &image, started_at));
        let run = Arc::new(started.await?);
        self.table.lock().started(&id, run.clone());
        self.watch(id, run);
        Ok(())
    }

    /// Starts the process. The intent is on the disk before, so that after a crash in between
    /// the process is looked for.
    fn launch(
        &self,
        identity: &Identity,
        image: &ProcessImage,
        started_at: EngineTime,
    ) -> Result<Run, RuntimeError> {
        let (id, name) = (&identity.id, &identity.spec.name);
        let failed = |error: io::Error| {
            RuntimeError::Failed(format!("cannot write the state of {name}: {error}"))
        };
        let mut words = image
            .command
            .iter()
            .chain(identity.spec.command.iter().flatten());
        let Some(program) = words.next() else {
            let reason = format!("image {:?} has an empty command", identity.spec.image);
            return Err(RuntimeError::Refused(reason));
        };
        let launch = Launch {
            program: program.clone(),
            args: words.cloned().collect(),
            envs: environment(identity, image),
            log: self.store.log(id).map_err(failed)?,
        };
        self.store.save(id, &Saved::Starting).map_err(failed)?;
        let result = run::spawn(launch, started_at)
            .map_err(|error| cannot_run(name.as_str(), program, &error))
            .and_then(|run| match self.store.save(id, &run.saved()) {
                Ok(()) => Ok(run),
                Err(error) => {
                    run.abort(id).map_err(failed)?;
                    Err(failed(error))
                }
            });
        if result.is_err() {
            let stopped = Saved::Stopped { exit_code: None };
            self.store.save(id, &stopped).map_err(failed)?;
        }
        result
    }

    /// Waits for the end of a run, wherever it comes from, and tells it.
    pub(super) fn watch(self: &Arc<Self>, id: InstanceId, run: Arc<Run>) {
        // Not the runtime itself: dropping that gives the state directory free.
        let inner = Arc::downgrade(self);
        self.handle.spawn(async move {
            if let Err(error) = run.ends().await {
                tracing::error!(%id, %error, "cannot watch its process");
                return;
            }
            let Some(inner) = inner.upgrade() else { return };
            let buried = inner.blocking({
                let (inner, run, id) = (inner.clone(), run.clone(), id.clone());
                move || {
                    let exit_code = run.bury(id.as_str());
                    let stopped = Saved::Stopped { exit_code };
                    if let Err(error) = inner.store.save(id.as_str(), &stopped) {
                        tracing::error!(%id, %error, "cannot write its state");
                    }
                    Ok(exit_code)
                }
            });
            let exit_code = buried.await.unwrap_or(None);
            inner.table.lock().ended(&id, exit_code);
            run.set_ended();
        });
    }

    pub(super) async fn stop(
        self: Arc<Self>,
        id: InstanceId,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let _turn = self.turn(&id).await?;
        self.table.lock().find(&id)?;
        let Some(run) = self.table.lock().ending(&id) else {
            return Ok(());
        };
        signal(&run, Signal::TERM)?;
        // A paused one has to run to be asked.
        signal(&run, Signal::CONT)?;
        self.table.lock().set_paused(&id, false);
        if run.ended_within(grace).await {
            return Ok(());
        }
        kill(&run).await
    }

    pub(super) async fn set_paused(
        self: Arc<Self>,
        id: InstanceId,
        paused: bool,
    ) -> Result<(), RuntimeError> {
        let _turn = self.turn(&id).await?;
        let (name, run) = {
            let table = self.table.lock();
            (table.find(&id)?.identity.spec.name.clone(), table.run(&id))
        };
        let Some((run, now)) = run else {
            return Err(RuntimeError::Refused(format!("{name} does not run")));
        };
        if now != paused {
            signal(&run, if paused { Signal::STOP } else { Signal::CONT })?;
            self.table.lock().set_paused(&id, paused);
        }
        Ok(())
    }

    pub(super) async fn remove(self: Arc<Self>, id: InstanceId) -> Result<(), RuntimeError> {
        // Before its turn, so that a stop under way need not wait out its grace time.
        let ending = self.table.lock().ending(&id);
        if let Some(run) = ending {
            kill(&run).await?;
        }
        let _turn = match self.turn(&id).await {
            Err(RuntimeError::NotFound(_)) => return Ok(()),
            turn => turn?,
        };
        // It may have been started meanwhile.
        let ending = self.table.lock().ending(&id);
        if let Some(run) = ending {
            kill(&run).await?;
        }
        let (inner, key) = (self.clone(), id.clone());
        let removed = self.blocking(move || {
            let dir = inner.store.dir().display();
            let removed = inner.store.remove(key.as_str());
            removed.map_err(|error| RuntimeError::Failed(format!("cannot clear {dir}: {error}")))
        });
        removed.await?;
        self.table.lock().remove(&id);
        Ok(())
    }

    pub(super) async fn logs(
        self: Arc<Self>,
        id: InstanceId,
        lines: usize,
    ) -> Result<Vec<String>, RuntimeError> {
        self.table.lock().find(&id)?;
        let inner = self.clone();
        let read = self.blocking(move || {
            let mut tail = Tail::new(lines);
            // Both outputs go to one file.
            let read = inner
                .store
                .read_log(id.as_str(), |bytes| tail.push(Source::Stdout, bytes));
            read.map_err(|error| {
                let dir = inner.store.dir().display();
                RuntimeError::Failed(format!("cannot read the log of {id} in {dir}: {error}"))
            })?;
            Ok(tail.into_lines())
        });
        read.await
    }

    /// Keeps the logs of running workloads short, for as long as the runtime lives.
    pub(super) fn tend(self: &Arc<Self>) {
        let inner = Arc::downgrade(self);
        self.handle.spawn(async move {
            loop {
                tokio::time::sleep(TEND_EVERY).await;
                let Some(inner) = inner.upgrade() else { return };
                let running: Vec<InstanceId> = {
                    let table = inner.table.lock();
                    let all = table.all();
                    let running = all.filter(|(id, _)| table.run(id).is_some());
                    running.map(|(id, _)| id.clone()).collect()
                };
                let trimmed = inner.blocking({
                    let inner = inner.clone();
                    move || {
                        for id in running {
                            if let Err(error) = inner.store.trim_log(id.as_str()) {
                                tracing::warn!(%id, %error, "cannot shorten its log");
                            }
                        }
                        Ok(())
                    }
                });
                trimmed.await.ok();
            }
        });
    }

    /// The right to change a workload. It exists still when this returns.
    async fn turn(&self, id: &InstanceId) -> Result<OwnedMutexGuard<()>, RuntimeError> {
        let turn = self.table.lock().find(id)?.turn.clone();
        let turn = turn.lock_owned().await;
        self.table.lock().find(id)?;
        Ok(turn)
    }

    fn image(&self, name: &str) -> Result<&ProcessImage, RuntimeError> {
        let image = self.images.get(name);
        image.ok_or_else(|| RuntimeError::ImageMissing(name.to_owned()))
    }

    fn tell_of_limits(&self, spec: &WorkloadSpec) {
        let limited = spec.memory.is_some() || spec.cpus.is_some() || spec.pids.is_some();
        if limited && !self.told_of_limits.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                workload = %spec.name,
                "the process runtime does not enforce limits of memory, CPU and processes"
            );
        }
    }

    /// An address that no workload here has and that nobody on this machine listens at. Another
    /// gateway's stopped workloads cannot be seen; among four million addresses, chance has to do.
    fn free_address(&self) -> Result<Ipv4Addr, RuntimeError> {
        const TRIES_MAX: usize = 1_000;
        let listening = procfs::listening_addresses();
        let mut candidates = std::iter::repeat_with(random_address).take(TRIES_MAX);
        let free = candidates.find(|address| {
            !listening.contains(address) && !self.table.lock().address_is_taken(*address)
        });
        free.ok_or_else(|| RuntimeError::Failed("no address in 127.64.0.0/10 is free".to_owned()))
    }

    /// Work with the disk and /proc, away from the threads that serve.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let done = self.handle.spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(RuntimeError::Failed(error.to_string())))
    }
}

fn random_address() -> Ipv4Addr {
    // The last byte is neither 0 nor 255, which some programs take for a network or a broadcast.
    Ipv4Addr::new(
        127,
        fastrand::u8(64..128),
        fastrand::u8(..),
        fastrand::u8(1..255),
    )
}

/// 32 hexadecimal digits.
fn random_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn refuse_what_needs_a_container(spec: &WorkloadSpec) -> Result<(), RuntimeError> {
    let asked = [
        ("privileged", spec.privileged),
        ("binds", !spec.binds.is_empty()),
        ("devices", !spec.devices.is_empty()),
        ("cap_add", !spec.cap_add.is_empty()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(RuntimeError::Refused(format!(
            "{field}: the process runtime cannot do that, only a container engine can"
        ))),
        None => Ok(()),
    }
}

/// All that a workload's process has in its environment: the little that any program needs, what
/// its image and its specification say, and where to listen.
fn environment(identity: &Identity, image: &ProcessImage) -> BTreeMap<String, String> {
    let spec = &identity.spec;
    let mut envs = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOSTNAME".to_owned(), spec.name.to_string()),
    ]);
    for key in ["PATH", "HOME", "TZ"] {
        if let Ok(value) = env::var(key) {
            envs.insert(key.to_owned(), value);
        }
    }
    if let Some(port) = spec.port.or(image.port) {
        envs.insert("PORT".to_owned(), port.to_string());
    }
    envs.extend(image.envs.clone());
    envs.extend(spec.envs.clone());
    envs.insert("BIND_ADDRESS".to_owned(), identity.address.to_string());
    envs.insert(MARK.to_owned(), identity.id.clone());
    envs
}

fn cannot_run(name: &str, program: &str, error: &io::Error) -> RuntimeError {
    let reason = format!("cannot run {program:?} for {name}: {error}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => {
            RuntimeError::Refused(reason)
        }
        _ => RuntimeError::Failed(reason),
    }
}

fn signal(run: &Run, signal: Signal) -> Result<(), RuntimeError> {
    run.signal(signal).map_err(|error| {
        let pid = run.process.pid;
        RuntimeError::Failed(format!("cannot signal process {pid}: {error}"))
    })
}

/// Ends a run for certain. Returns when its end has been told.
async fn kill(run: &Run) -> Result<(), RuntimeError> {
    signal(run, Signal::KILL)?;
    if run.ended_within(KILL_TIME_MAX).await {
        return Ok(());
    }
    let pid = run.process.pid;
    let reason = format!("process {pid} did not end after SIGKILL");
    Err(RuntimeError::Failed(reason))
}
