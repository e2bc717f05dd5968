//! The commands about applications and their releases, which a running gateway carries out.

mod deploy;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use super::{ConfigFile, say};
use crate::admin::client::releases::{AppStatus, LaunchPhase, Launched};
use crate::admin::client::{Client, ClientError};
use crate::names::ReleaseHash;

/// The command itself does not say enough, or cannot be right.
const USAGE: u8 = 2;
/// The gateway said no: what was asked for cannot be done as it is.
const REFUSED: u8 = 3;
/// The release did not get healthy, or was left again.
const NOT_HEALTHY: u8 = 4;
/// The gateway, or what it needs for this (engine, registry, store), does not answer.
const AWAY: u8 = 5;

/// What is said of exit codes in the help of each command.
const EXIT_CODES: &str = "\
Exit codes: 0 done, 2 wrong usage, 3 refused, 4 the release did not get healthy or was left again,
5 the gateway, its engine, the registry or the store does not answer, 1 anything else.";

/// How often a launch is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The shortest beginning of a hash that is looked up.
const PREFIX_DIGITS_MIN: usize = 6;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Launch a stored release beside the current one, and wait until it is healthy
    #[command(after_help = EXIT_CODES)]
    Launch(Release),
    /// Send all new requests to a launched release; the one before ends its own and sleeps
    #[command(after_help = EXIT_CODES)]
    Switch(Switch),
    /// Go back to the release before: it is woken first, nothing is pulled
    #[command(after_help = EXIT_CODES)]
    Rollback(App),
    /// Take a release away that was launched and not switched to
    #[command(after_help = EXIT_CODES)]
    Discard(Release),
    /// Store, launch and switch to a release; nothing changes when it does not get healthy
    #[command(after_help = EXIT_CODES)]
    Deploy(Box<deploy::Deploy>),
    /// Tell the applications, their releases and their numbers
    Status(Status),
    /// Tell which release was current when, and who said so
    History(History),
    /// Hold an application's requests, until resume or the limit of pause_max
    Pause(App),
    /// Let the held requests and all others through again
    Resume(App),
    /// Answer an application's requests with 503, or stop doing so; all applications without APP
    Maintenance(Maintenance),
}

#[derive(Debug, Args)]
pub struct Release {
    /// The application (not needed where there is one) and the hash, of which the first 6 digits
    /// will do when the gateway has seen it
    #[arg(value_names = ["APP", "HASH"], num_args = 1..=2, required = true)]
    which: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct Switch {
    #[command(flatten)]
    release: Release,
    /// Only as a canary: it gets the requests that the scripts give it with .canary(…)
    #[arg(long)]
    canary: bool,
}

#[derive(Debug, Args)]
pub struct App {
    /// The application; not needed where there is one
    app: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Only this application
    app: Option<String>,
    /// JSON in place of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct History {
    /// The application; not needed where there is one
    app: Option<String>,
    /// JSON in place of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct Maintenance {
    which: Way,
    /// The application; all without it
    app: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// The maintenance page is up: requests are answered 503
    Up,
    /// Requests go through again
    Down,
}

#[derive(Debug, Args)]
struct Common {
    /// Who does it, for the history [default: user@host]
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Runs one command; errors go to standard error.
pub fn run(command: Command) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .context("starting a runtime")
        .map_err(Failure::Other)
        .and_then(|runtime| runtime.block_on(carry_out(command)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

enum Failure {
    Call(ClientError),
    Usage(String),
    Refused(String),
    /// It was switched to and left again, and why.
    LeftAgain(String),
    Other(anyhow::Error),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::Call(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

impl Failure {
    fn tell(self) -> ExitCode {
        let (message, code) = match &self {
            Failure::Other(error) => (format!("{error:#}"), 1),
            Failure::Usage(why) => (why.clone(), USAGE),
            Failure::Refused(why) => (why.clone(), REFUSED),
            Failure::LeftAgain(why) => (why.clone(), NOT_HEALTHY),
            Failure::Call(error) => (error.to_string(), code_of(error)),
        };
        eprintln!("wakegate: {message}");
        if let Failure::Call(ClientError::Refused { log, .. }) = &self
            && !log.is_empty()
        {
            eprintln!("the last lines of its log:");
            for line in log {
                eprintln!("  {line}");
            }
        }
        ExitCode::from(code)
    }
}

fn code_of(error: &ClientError) -> u8 {
    match error {
        ClientError::Refused { kind, .. } if kind == "not_healthy" => NOT_HEALTHY,
        ClientError::Refused { kind, .. } if kind == "which_app" => USAGE,
        ClientError::Refused { status, .. } if status.is_server_error() => AWAY,
        ClientError::Refused { .. } => REFUSED,
        ClientError::Unreachable { .. }
        | ClientError::Gone { .. }
        | ClientError::TimedOut { .. } => AWAY,
        ClientError::Garbled { .. } => 1,
    }
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::Launch(what) => {
            let (client, _) = what.common.open()?;
            let (app, hash) = what.find(&client).await?;
            launch(&client, &app, &hash).await.map(drop)
        }
        Command::Switch(what) => {
            let (client, by) = what.release.common.open()?;
            let (app, hash) = what.release.find(&client).await?;
            let switched = client.switch(Some(&app), &hash, what.canary, &by).await?;
            say(&show::switched(&switched));
            Ok(())
        }
        Command::Rollback(what) => {
            let (client, by) = what.common.open()?;
            let switched = client.roll_back(what.app.as_deref(), None, &by).await?;
            say(&show::switched(&switched));
            Ok(())
        }
        Command::Discard(what) => {
            let (client, _) = what.common.open()?;
            let (app, hash) = what.find(&client).await?;
            let discarded = client.discard(Some(&app), &hash).await?;
            say(&show::discarded(&discarded));
            Ok(())
        }
        Command::Deploy(what) => what.run().await,
        Command::Status(what) => status(what).await,
        Command::History(what) => history(what).await,
        Command::Pause(what) => what.set_paused(true).await,
        Command::Resume(what) => what.set_paused(false).await,
        Command::Maintenance(what) => {
            let (client, _) = what.common.open()?;
            let up = what.which == Way::Up;
            for app in client.set_maintenance(what.app.as_deref(), up).await? {
                say(&format!("{}: {}\n", app.app, app.door));
            }
            Ok(())
        }
    }
}

async fn status(what: Status) -> Result<(), Failure> {
    let (client, _) = what.common.open()?;
    if what.json && what.app.is_none() {
        let status = client.status().await?;
        say(&(serde_json::to_string_pretty(&status).map_err(anyhow::Error::from)? + "\n"));
        return Ok(());
    }
    if what.json {
        let whole = client.status().await?;
        let apps = whole["apps"].as_array().cloned().unwrap_or_default();
        let meant = apps
            .into_iter()
            .find(|app| app["app"].as_str() == what.app.as_deref());
        let Some(meant) = meant else {
            let app = what.app.unwrap_or_default();
            client.app(&app).await?;
            return Err(anyhow::anyhow!("there is no application {app:?}").into());
        };
        say(&(serde_json::to_string_pretty(&meant).map_err(anyhow::Error::from)? + "\n"));
        return Ok(());
    }
    let apps = match &what.app {
        Some(app) => vec![client.app(app).await?],
        None => client.apps().await?,
    };
    if apps.is_empty() {
        say("There are no applications: gateway.toml has no [apps.NAME].\n");
    }
    for app in &apps {
        say(&show::app(app));
    }
    Ok(())
}

async fn history(what: History) -> Result<(), Failure> {
    let (client, _) = what.common.open()?;
    let app = which(&client, what.app).await?;
    let history = client.history(&app).await?;
    if what.json {
        let lines = history.iter().map(|entry| {
            serde_json::json!({
                "revision": entry.revision, "hash": entry.hash, "at": entry.at,
                "by": entry.by, "kind": entry.kind,
            })
        });
        let lines = serde_json::Value::from_iter(lines);
        say(&format!("{lines:#}\n"));
        return Ok(());
    }
    if history.is_empty() {
        say("No release has been switched to yet.\n");
    }
    for entry in &history {
        say(&show::entry(entry));
    }
    Ok(())
}

/// The named application, or the only one.
async fn which(client: &Client, app: Option<String>) -> Result<String, Failure> {
    if let Some(app) = app {
        return Ok(app);
    }
    let mut names: Vec<String> = client
        .apps()
        .await?
        .into_iter()
        .map(|app| app.app)
        .collect();
    match names.len() {
        1 => Ok(names.remove(0)),
        0 => Err(Failure::Refused(
            "the gateway has no applications: gateway.toml has no [apps.NAME]".to_owned(),
        )),
        _ => Err(Failure::Usage(format!(
            "say which application: {}",
            names.join(", ")
        ))),
    }
}

impl Common {
    fn open(&self) -> anyhow::Result<(Client, String)> {
        let config = self.config.load()?;
        let by = self.by.clone().unwrap_or_else(somebody);
        Ok((Client::of(&config.admin), by))
    }
}

/// `user@host`, as far as that can be known.
fn somebody() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    // Services and containers often have neither.
    let user = user.unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()));
    let host = rustix::system::uname();
    format!("{user}@{}", host.nodename().to_string_lossy())
}

impl App {
    async fn set_paused(self, paused: bool) -> Result<(), Failure> {
        let (client, _) = self.common.open()?;
        let app = which(&client, self.app).await?;
        client.set_paused(&app, paused).await?;
        say(&format!(
            "{app}: {}\n",
            if paused { "paused" } else { "open" }
        ));
        Ok(())
    }
}

impl Release {
    /// The application and the whole hash.
    async fn find(&self, client: &Client) -> Result<(String, String), Failure> {
        let (app, hash) = match &self.which[..] {
            [app, hash] => (Some(app.clone()), hash),
            which => (None, &which[0]),
        };
        let app = which(client, app).await?;
        if ReleaseHash::new(hash).is_ok() {
            return Ok((app, hash.clone()));
        }
        let is_beginning =
            hash.len() >= PREFIX_DIGITS_MIN && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_beginning {
            return Err(Failure::Usage(format!(
                "{hash:?} is no hash, nor the beginning of one ({PREFIX_DIGITS_MIN} digits or more)"
            )));
        }
        let beginning = hash.to_ascii_lowercase();
        let releases = client.app(&app).await?.releases;
        let mut known: Vec<String> = releases.into_iter().map(|release| release.hash).collect();
        // A store that is away must not keep what the engine has from being found.
        if let Ok(history) = client.history(&app).await {
            known.extend(history.into_iter().map(|entry| entry.hash));
        }
        known.sort();
        known.dedup();
        known.retain(|known| known.starts_with(&beginning));
        match known.len() {
            1 => Ok((app, known.remove(0))),
            0 => Err(Failure::Refused(format!(
                "{app} has no release that begins with {beginning}"
            ))),
            _ => Err(Failure::Usage(format!(
                "{beginning} begins several: {}",
                known.join(", ")
            ))),
        }
    }
}

/// Launches, and tells how far it has come meanwhile.
async fn launch(client: &Client, app: &str, hash: &str) -> Result<Launched, Failure> {
    let launching = client.launch(Some(app), hash);
    let telling = tell_progress(client, app, hash);
    let launched = tokio::select! {
        launched = launching => launched?,
        never = telling => match never {},
    };
    for warning in &launched.warnings {
        eprintln!("warning: {warning}");
    }
    say(&show::launched(&launched));
    Ok(launched)
}

/// Writes to standard error what changes; never ends by itself.
async fn tell_progress(client: &Client, app: &str, hash: &str) -> std::convert::Infallible {
    let mut told = String::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // What cannot be known now is no reason to give up the launch.
        let Ok(status) = client.app(app).await else {
            continue;
        };
        if let Some(line) = progress_of(&status, hash)
            && line != told
        {
            eprintln!("{line}");
            told = line;
        }
    }
}

fn progress_of(status: &AppStatus, hash: &str) -> Option<String> {
    let release = status
        .releases
        .iter()
        .find(|release| release.hash == hash)?;
    let LaunchPhase { phase, detail } = release.launch.as_ref()?;
    let more = detail.as_deref().or(release.reason.as_deref());
    Some(match (phase.as_str(), more) {
        ("configuring", _) => "reading its configuration".to_owned(),
        ("pulling", Some(detail)) => detail.to_owned(),
        ("creating", _) => "creating its container".to_owned(),
        ("checking", Some(why)) => format!("waiting until it is healthy: {why}"),
        ("checking", None) => "waiting until it is healthy".to_owned(),
        (phase, _) => phase.to_owned(),
    })
}
