//! What comes along to try the gateway with: the sample application and the first run.

mod first_run;
mod minion;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

use crate::cli;
use crate::config::ProcessImage;

/// The sample application's image: the same name on an engine and in the process runtime.
const SAMPLE_IMAGE: &str = "minionapp:latest";

/// The port that it listens on.
const SAMPLE_PORT: u16 = 9000;

/// The command that runs it.
const SAMPLE_COMMAND: &str = "minion";

/// The commands to try the gateway with.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// First run: make the sample application's containers and a gateway before them
    Demo(first_run::Options),
    /// Run the sample application itself (it is what the demonstration's containers run)
    Minion,
}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    match command {
        Command::Demo(options) => cli::exit_code(first_run::run(options)),
        Command::Minion => minion::run(),
    }
}

/// The images that the process runtime has without any configuration.
pub fn process_images() -> anyhow::Result<BTreeMap<String, ProcessImage>> {
    let program = std::env::current_exe().context("finding this program's own file")?;
    let image = ProcessImage {
        command: vec![
            program.to_string_lossy().into_owned(),
            SAMPLE_COMMAND.to_owned(),
        ],
        port: Some(SAMPLE_PORT),
        envs: BTreeMap::new(),
    };
    Ok(BTreeMap::from([(SAMPLE_IMAGE.to_owned(), image)]))
}
