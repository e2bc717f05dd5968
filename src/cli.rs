//! The command line.

mod explain;
mod releases;
mod test;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, ConfigErrors};
use crate::script::definitions;
use crate::script::meter::STACK_BYTES;
use crate::script::version::Summary;
use crate::{app, demo, log};

/// An HTTP gateway that wakes containers on request.
///
/// A request comes in, a script says which container it is for, the gateway starts that container
/// when it sleeps, holds the request until the application answers, forwards it, and stops the
/// container again when nobody uses it.
///
/// Begin with "wakegate demo": it needs nothing but this program (and uses Docker when it is there).
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Every key of gateway.toml can be set by an environment variable: [public] listen is
WAKEGATE_PUBLIC_LISTEN. DOCKER_HOST names the engine where docker.host does not.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGINT or SIGTERM
    Serve(ConfigFile),
    /// Check gateway.toml and the scripts; exit code 1 with everything that is wrong
    Check(ConfigFile),
    /// Run the scripts' own tests, fn test_…(), without any engine; exit code 101 when one fails
    Test(TestScripts),
    /// Write what editors are told of the functions of scripts, to DIR/.definitions/wakegate.d.rhai
    Definitions(Definitions),
    /// Tell why a request is decided as it is; exit code 1 when the scripts fail on it
    Explain(explain::Explain),
    #[command(flatten)]
    Releases(releases::Command),
    #[command(flatten)]
    Sample(demo::Command),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration [default: gateway.toml, or the built-in defaults where there is none]
    #[arg(long, value_name = "FILE", env = "WAKEGATE_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Definitions {
    /// The scripts directory [default: that of the configuration]
    dir: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Args)]
struct TestScripts {
    /// The scripts directory [default: that of the configuration]. Its own gateway.toml, where it has
    /// one, goes before that of the current directory
    dir: Option<PathBuf>,
    /// Only tests that have this in their name
    filter: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
}

impl ConfigFile {
    fn load(&self) -> anyhow::Result<Config> {
        let default = Path::new("gateway.toml");
        let file = match &self.config {
            Some(file) => Some(file.as_path()),
            None => default.exists().then_some(default),
        };
        Ok(config::from_process(file)?)
    }

    /// For the scripts of another directory, when one is named.
    fn load_for(&self, dir: Option<&Path>) -> anyhow::Result<Config> {
        let beside = dir.map(|dir| dir.join("gateway.toml"));
        let mut config = match beside.filter(|file| self.config.is_none() && file.exists()) {
            Some(file) => config::from_process(Some(&file))?,
            None => self.load()?,
        };
        if let Some(dir) = dir {
            config.scripts.dir = dir.to_owned();
        }
        Ok(config)
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(file) => serve(&file),
        Command::Check(file) => check(&file),
        Command::Test(what) => match what.config.load_for(what.dir.as_deref()) {
            Ok(config) => {
                return test::run(&config.scripts, what.filter.as_deref().unwrap_or_default());
            }
            Err(error) => Err(error),
        },
        Command::Definitions(what) => write_definitions(what),
        Command::Explain(what) => match explain::run(what) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Releases(command) => return releases::run(command),
        Command::Sample(command) => return demo::run(command),
    };
    exit_code(done)
}

/// Prints what was asked for. A reader that has seen enough (`| head`) is no failure.
fn say(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

/// One message for people, and 1, when it failed.
pub fn exit_code(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wakegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The runtime that engine, lifecycle and admin work share; the data plane has its own threads.
pub fn core_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("core")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .context("starting threads")
}

fn serve(file: &ConfigFile) -> anyhow::Result<()> {
    let config = file.load()?;
    log::init(&config.log)?;
    let runtime = core_runtime()?;
    let served = runtime.block_on(app::serve(config, demo::process_images()?));
    // A call to an engine that does not answer must not keep the program from ending.
    runtime.shutdown_background();
    served
}

fn check(file: &ConfigFile) -> anyhow::Result<()> {
    let config = match file.load() {
        Ok(config) => config,
        Err(error) => {
            // All errors at once, where those of the configuration do not make others of the scripts.
            let wrong = error.downcast_ref::<ConfigErrors>();
            match wrong.and_then(ConfigErrors::scripts).map(app::load_scripts) {
                Some(Ok(_)) => {}
                Some(Err(error)) => eprintln!("{error:#}\n"),
                None => eprintln!("The scripts are looked at when the configuration is right.\n"),
            }
            return Err(error);
        }
    };
    let dir = &config.scripts.dir;
    let version = app::load_scripts(&config.scripts).map_err(|error| {
        eprintln!("{error:#}");
        anyhow::anyhow!(
            "the scripts in {} are not usable (see above)",
            dir.display()
        )
    })?;
    println!(
        "The configuration is good: {} public, {} admin.",
        config.public.listen, config.admin.listen
    );
    println!("The scripts in {} are good:", dir.display());
    show(&version.summary());
    match version.test_names().len() {
        0 => {}
        1 => println!("Their one test passes."),
        tests => println!("Their {tests} tests pass."),
    }
    Ok(())
}

fn write_definitions(arguments: Definitions) -> anyhow::Result<()> {
    let dir = match arguments.dir {
        Some(dir) => dir,
        None => arguments.config.load()?.scripts.dir,
    };
    let file = definitions::write(&dir).with_context(|| {
        format!(
            "the definitions cannot be written below the scripts directory {}",
            dir.display()
        )
    })?;
    println!(
        "The functions of scripts are defined in {}.",
        file.display()
    );
    Ok(())
}

fn show(summary: &Summary) {
    for (pattern, place) in &summary.routes {
        println!("  route     {pattern}  ({place})");
    }
    for (name, place) in &summary.templates {
        println!("  template  {name}  ({place})");
    }
    for (hook, places) in [
        ("ready", &summary.ready),
        ("idle", &summary.idle),
        ("on_error", &summary.on_error),
    ] {
        for place in places {
            println!("  {hook:<9} ({place})");
        }
    }
}
