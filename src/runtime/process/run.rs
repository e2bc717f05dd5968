//! One run of a workload: a process and its group, from the start to the end of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::procfs::{self, ProcessId};
use crate::runtime::EngineTime;

/// What is started: a whole command line with a whole environment.
pub(super) struct Launch {
    pub program: String,
    pub args: Vec<String>,
    pub envs: BTreeMap<String, String>,
    pub log: File,
}

/// A process that was started, by this gateway or by the one before it.
pub(super) struct Run {
    pub process: ProcessId,
    pub started_at: EngineTime,
    pid: Pid,
    /// Stands for the process itself: its number may be given to another one, this may not.
    handle: Arc<OwnedFd>,
    /// Cancelled when its end has been written down and told.
    ended: CancellationToken,
}

/// Starts a process as the leader of its own group, so that a terminal's Ctrl-C does not reach it
/// and signals reach its children. Its input is empty, what it prints goes to the log.
pub(super) fn spawn(launch: Launch, started_at: EngineTime) -> io::Result<Run> {
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .env_clear()
        .envs(&launch.envs)
        .stdin(Stdio::null())
        .stdout(launch.log.try_clone()?)
        .stderr(launch.log)
        .process_group(0);
    let mut child = command.spawn()?;
    // It cannot be mistaken for another process: until it is waited for, its number is its own.
    let run = ProcessId::of(child.id() as i32)
        .ok_or_else(|| io::Error::other("/proc does not tell about it"))
        .and_then(|process| Run::open(process, started_at));
    if run.is_err() {
        child.kill()?;
        child.wait()?;
    }
    run
}

impl Run {
    /// Takes over a process that exists.
    pub fn open(process: ProcessId, started_at: EngineTime) -> io::Result<Self> {
        let pid = process.as_pid().ok_or(Errno::SRCH)?;
        let handle = Arc::new(pidfd_open(pid, PidfdFlags::empty())?);
        // Between looking it up and opening it, its number may have passed to another one.
        process.find().ok_or(Errno::SRCH)?;
        Ok(Self {
            process,
            started_at,
            pid,
            handle,
            ended: CancellationToken::new(),
        })
    }

    /// Sends a signal to the process and all of its group. Nothing happens when it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.process.find().is_none() {
            return Ok(());
        }
        match kill_process_group(self.pid, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when the process has ended; it may still have to be buried.
    #[expect(
        deprecated,
        reason = "the replacement is unsafe; the descriptor is owned here while it is registered"
    )]
    pub async fn ends(&self) -> io::Result<()> {
        let handle = AsyncFd::with_interest(self.handle.clone(), Interest::READABLE)?;
        handle.readable().await?.retain_ready();
        Ok(())
    }

    /// After its end: kills what is left of its group and whatever else it left behind, as the end
    /// of a container's first process does, and tells its exit code. That is `None` when the
    /// process was another gateway's child. May take some milliseconds.
    pub fn bury(&self, id: &str) -> Option<i64> {
        if let Err(error) = self.signal(Signal::KILL) {
            tracing::warn!(%id, %error, "cannot end the rest of its process group");
        }
        let exit_code = reap(&self.handle);
        kill_marked(id);
        exit_code
    }

    /// Ends a child of ours that was started in vain. Returns when it is gone.
    pub fn abort(&self, id: &str) -> io::Result<()> {
        self.signal(Signal::KILL)?;
        waitid(WaitId::PidFd(self.handle.as_fd()), WaitIdOptions::EXITED)?;
        kill_marked(id);
        Ok(())
    }

    /// Its end is known to everyone now.
    pub fn set_ended(&self) {
        self.ended.cancel();
    }

    /// Whether its end has been told within this time.
    pub async fn ended_within(&self, limit: Duration) -> bool {
        timeout(limit, self.ended.cancelled()).await.is_ok()
    }
}

/// The exit code of a child of ours that has ended: what it returned, or 128 and the signal.
fn reap(handle: &Arc<OwnedFd>) -> Option<i64> {
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = waitid(WaitId::PidFd(handle.as_fd()), how).ok()??;
    let killed_by = status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or(killed_by).map(i64::from)
}

/// Kills all processes with the workload's mark, also those that left its group. What forks
/// meanwhile is caught in the next round; after a few rounds it is given up.
pub(super) fn kill_marked(id: &str) {
    const ROUNDS_MAX: usize = 3;
    for _ in 0..ROUNDS_MAX {
        let mut all = procfs::marked();
        let Some(left) = all.remove(id) else { return };
        for pid in left.iter().filter_map(|stat| Pid::from_raw(stat.pid)) {
            let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            // Asked again now that the handle stands for whoever has this number.
            if procfs::mark_of(pid.as_raw_nonzero().get()).as_deref() == Some(id) {
                let _ = pidfd_send_signal(&handle, Signal::KILL);
            }
        }
    }
    tracing::warn!(%id, "it left processes behind that do not end");
}
