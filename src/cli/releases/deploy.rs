//! `wakegate deploy`: store, launch and switch in one, and back if it fails.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::show::short;
use super::{Common, Failure, LOOK_EVERY, launch, say, show};
use crate::admin::client::Client;
use crate::deploy::configuration::tag_of;

#[derive(Debug, Args)]
pub struct Deploy {
    /// The application
    app: String,
    /// The image [default: the registry's APP:REVISION]
    #[arg(long, conflicts_with = "file")]
    image: Option<String>,
    /// What people call the release [default: the image's tag]
    #[arg(long, conflicts_with = "file")]
    revision: Option<String>,
    /// An environment variable, KEY=VALUE; may be repeated
    #[arg(short, long = "env", value_name = "KEY=VALUE", value_parser = variable, conflicts_with = "file")]
    envs: Vec<(String, String)>,
    /// The port that the application listens on [default: the one that the image exposes]
    #[arg(long, conflicts_with = "file")]
    port: Option<u16>,
    /// The memory limit, such as 256MiB
    #[arg(long, value_name = "SIZE", conflicts_with = "file")]
    memory: Option<String>,
    /// The path that a healthy release answers with 2xx or 3xx
    #[arg(long, value_name = "PATH", conflicts_with = "file")]
    health: Option<String>,
    /// How long it may take to get healthy, such as 90s
    #[arg(long, value_name = "TIME", requires = "health")]
    health_timeout: Option<String>,
    /// Pull the image also where the engine has it. A release that has a container keeps it, with a
    /// warning when the image is another one by now: that needs another --revision
    #[arg(long, conflicts_with = "file")]
    pull: bool,
    /// Arguments in place of the image's own command, after --
    #[arg(last = true, conflicts_with = "file")]
    command: Vec<String>,
    /// A launch configuration in place of all these
    #[arg(long, value_name = "FILE", conflicts_with = "image")]
    file: Option<PathBuf>,
    /// Only as a canary
    #[arg(long)]
    canary: bool,
    /// How long the new release is looked at after the switch: when half of its requests fail, or
    /// its container does, it is left again. 0s: not at all
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    watch: Duration,
    #[command(flatten)]
    common: Common,
}

/// So few failures may be chance.
const FAILURES_MIN: u64 = 5;

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a variable is KEY=VALUE".to_owned()),
    }
}

impl Deploy {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let configuration = self.configuration()?;
        let (client, by) = self.common.open()?;
        let app = self.app.as_str();
        let stored = client.store(app, configuration).await?;
        for warning in &stored.warnings {
            eprintln!("warning: {warning}");
        }
        eprintln!("stored as {}", stored.hash);
        let launched = launch(&client, app, &stored.hash).await?;
        let switching = client.switch(Some(app), &stored.hash, self.canary, &by);
        let switched = match switching.await {
            Ok(switched) => switched,
            Err(error) => {
                if !launched.existing {
                    take_away(&client, app, &stored.hash).await;
                }
                return Err(error.into());
            }
        };
        say(&show::switched(&switched));
        if switched.canary || switched.unchanged {
            return Ok(());
        }
        let Some(why) = self.watch_over(&client, &stored.hash).await? else {
            return Ok(());
        };
        if switched.from.is_none() {
            return Err(Failure::LeftAgain(format!(
                "{why}; there is no release before it to go back to"
            )));
        }
        match client.roll_back(Some(app), Some(&stored.hash), &by).await {
            Err(error) if error.kind() == Some("not_current") => Err(Failure::LeftAgain(format!(
                "{why}; another release was made current meanwhile"
            ))),
            Ok(back) => Err(Failure::LeftAgain(format!(
                "{why}; gone back to {} ({})",
                back.revision,
                short(&back.hash)
            ))),
            Err(error) => Err(Failure::LeftAgain(format!(
                "{why}; and going back failed: {error}"
            ))),
        }
    }

    /// Why the new release is to be left, if it is.
    async fn watch_over(&self, client: &Client, hash: &str) -> Result<Option<String>, Failure> {
        let end = Instant::now() + self.watch;
        while Instant::now() < end {
            tokio::time::sleep(LOOK_EVERY).await;
            // A gateway that is away for a moment says nothing about the release.
            let Ok(status) = client.app(&self.app).await else {
                continue;
            };
            if status.current.as_deref() != Some(hash) {
                return Err(Failure::LeftAgain(
                    "another release was made current meanwhile, by somebody else or because this one fails"
                        .to_owned(),
                ));
            }
            let release = status.releases.iter().find(|release| release.hash == hash);
            let Some(release) = release else { continue };
            if release.phase == "failed" {
                let reason = release.reason.as_deref().unwrap_or("it cannot be started");
                return Ok(Some(format!("the new release failed: {reason}")));
            }
            let counted = &release.since_last_switch;
            let all = counted.requests + counted.unanswered;
            if counted.failed >= FAILURES_MIN && counted.failed * 2 >= all {
                return Ok(Some(format!(
                    "{} of {all} requests to the new release failed",
                    counted.failed
                )));
            }
        }
        Ok(None)
    }

    /// The bytes to store.
    fn configuration(&self) -> Result<Vec<u8>, Failure> {
        if let Some(file) = &self.file {
            let read = std::fs::read(file);
            return Ok(read.with_context(|| format!("reading {}", file.display()))?);
        }
        let revision = match (&self.revision, &self.image) {
            (Some(revision), _) => revision.clone(),
            (None, Some(image)) => tag_of(image)
                .ok_or_else(|| Failure::Usage(format!("{image:?} has no tag: say --revision")))?
                .to_owned(),
            (None, None) => {
                let missing = "say --image, --revision or --file";
                return Err(Failure::Usage(missing.to_owned()));
            }
        };
        let mut configuration = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                configuration.insert(key.to_owned(), value);
            }
        };
        set("image", self.image.clone().map(Value::from));
        set("revision", Some(revision.into()));
        set("port", self.port.map(Value::from));
        set("memory", self.memory.clone().map(Value::from));
        if !self.envs.is_empty() {
            let envs = self.envs.iter();
            let envs = envs.map(|(name, value)| (name.clone(), Value::from(value.as_str())));
            set("envs", Some(envs.collect::<Map<_, _>>().into()));
        }
        if !self.command.is_empty() {
            set("command", Some(self.command.clone().into()));
        }
        if let Some(path) = &self.health {
            let mut health = json!({ "path": path });
            if let Some(timeout) = &self.health_timeout {
                health["timeout"] = timeout.as_str().into();
            }
            set("health", Some(health));
        }
        set("pull", self.pull.then(|| "always".into()));
        let text = serde_json::to_string_pretty(&configuration).map_err(anyhow::Error::from)?;
        Ok(text.into_bytes())
    }
}

/// After a switch that was refused: what this command has launched is not to run on.
async fn take_away(client: &Client, app: &str, hash: &str) {
    let short = short(hash);
    match client.discard(Some(app), hash).await {
        Ok(_) => eprintln!("{short} was not switched to and is taken away again"),
        Err(error) => eprintln!(
            "{short} may have been switched to or still run beside the current release ({error}): see wakegate status"
        ),
    }
}
