//! After a restart of the gateway: which workloads still run, by the state files and /proc.

use std::collections::BTreeMap;

use super::procfs::{ProcessId, Stat};
use super::run::{Run, kill_marked};
use super::store::{Identity, Saved, Store};
use super::table::{Phase, Table};
use crate::runtime::{EngineTime, RuntimeError};

/// Reads all workloads and finds their processes again.
///
/// A crash may have come at any moment. The state file says `Starting` before a process is made,
/// so one that is not written down carries the workload's mark and leads its own group; any other
/// process with a mark is a leftover of a run that has ended and is killed. (A new process gets
/// its mark when it executes its program, microseconds after it was forked; no restart of a gateway
/// is so fast.)
pub(super) fn recover(store: &Store) -> Result<Table, RuntimeError> {
    let mut table = Table::new();
    let saved = store.load().map_err(|error| {
        let dir = store.dir().display();
        RuntimeError::Failed(format!("process.dir {dir}: cannot read it: {error}"))
    })?;
    if saved.is_empty() {
        return Ok(table);
    }
    let mut marked = super::procfs::marked();
    for (identity, saved) in saved {
        let own = marked.remove(&identity.id).unwrap_or_default();
        let phase = find_run(&identity, &saved, &own, &mut table);
        if let Phase::Stopped { .. } = phase
            && !own.is_empty()
        {
            kill_marked(&identity.id);
        }
        let now = phase.saved();
        if now != saved
            && let Err(error) = store.save(&identity.id, &now)
        {
            tracing::error!(workload = %identity.spec.name, %error, "cannot write its state");
        }
        table.add(identity, phase);
    }
    forget_duplicates(&table);
    Ok(table)
}

fn find_run(identity: &Identity, saved: &Saved, own: &[Stat], table: &mut Table) -> Phase {
    let (process, started_at) = match saved {
        Saved::Stopped { exit_code } => {
            let exit_code = *exit_code;
            return Phase::Stopped { exit_code };
        }
        Saved::Running {
            process,
            started_at,
        } => (Some(process.clone()), EngineTime(*started_at)),
        Saved::Starting => {
            let leader = own.iter().find(|stat| stat.pid == stat.group);
            let process = leader.and_then(|stat| ProcessId::of(stat.pid));
            (process, table.feed.now())
        }
    };
    table.feed.not_before(started_at);
    let stopped = Phase::Stopped { exit_code: None };
    let Some(process) = process else {
        return stopped;
    };
    let paused = match process.find() {
        // Ended, and its parent has not yet noticed.
        None | Some(Stat { state: 'Z', .. }) => return stopped,
        Some(stat) => stat.state == 'T',
    };
    match Run::open(process, started_at) {
        Ok(run) => {
            let (name, pid) = (&identity.spec.name, run.process.pid);
            tracing::info!(workload = %name, pid, paused, "found running");
            let run = run.into();
            Phase::Running { run, paused }
        }
        Err(_) => stopped,
    }
}

/// Two folders with one workload's name can only come from a hand that copied them.
fn forget_duplicates(table: &Table) {
    let mut seen = BTreeMap::new();
    for (id, workload) in table.all() {
        if let Some(other) = seen.insert(workload.identity.spec.name.clone(), id) {
            let name = &workload.identity.spec.name;
            tracing::error!(workload = %name, %id, %other, "two folders have this workload's name");
        }
    }
}
