//! Other gateways on the same store, as processes of their own: this program again, with a role.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};
use wakegate::config::StoreLocation;
use wakegate::store::{Recorded, Store};

use crate::folders;
use crate::subject::{Bench, current, entry, open_patient};

/// The variable that has the role.
pub const ROLE: &str = "STORE_TRIAL_ROLE";

#[derive(Serialize, Deserialize)]
pub struct Role {
    pub location: String,
    pub endpoint: Option<String>,
    pub part: Part,
}

#[derive(Serialize, Deserialize)]
pub enum Part {
    /// Adds entries to the history.
    Append { from: u32, count: u32 },
    /// Switches until it is killed, and says the number of each switch that is recorded.
    Switch { from: u32 },
    /// Fills a small disk.
    Fill,
}

pub fn command(role: &Role) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, serde_json::to_string(role).unwrap());
    command
}

/// A process that adds `count` entries.
pub fn append(bench: &Bench, from: u32, count: u32) -> Child {
    let role = Role {
        location: bench.location().to_string(),
        endpoint: bench.endpoint(),
        part: Part::Append { from, count },
    };
    let mut command = command(&role);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// What such a process does.
pub fn play(role: &OsStr) -> ExitCode {
    let role: Role = serde_json::from_str(role.to_str().unwrap()).unwrap();
    let location = StoreLocation::parse(&role.location, Path::new("/")).unwrap();
    let store = open_patient(&location, role.endpoint).unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(async {
        match role.part {
            Part::Append { from, count } => {
                for n in from..from + count {
                    store.append(entry(n)).await.unwrap();
                }
            }
            Part::Switch { from } => switch(&store, from).await,
            Part::Fill => folders::fill(&store, &location).await,
        }
    });
    ExitCode::SUCCESS
}

async fn switch(store: &Store, from: u32) {
    for n in from.. {
        store
            .record(Recorded::new(current(n), entry(n)))
            .await
            .unwrap();
        println!("{n}");
    }
}
