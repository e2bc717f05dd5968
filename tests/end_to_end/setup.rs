//! A line's gateway.toml and scripts, and the commands that are run over them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use toml::{Table, Value};

use crate::bench::{Bench, Kind, STATE_DIR, in_time};
use crate::gateway::Gateway;
use crate::scripts;
use crate::world::{LABEL, PORT};

/// A configuration in the making.
#[derive(Clone)]
pub struct Setup {
    bench: Bench,
    config: Table,
    scripts: BTreeMap<String, String>,
    pub envs: BTreeMap<String, String>,
    /// A command line that the program and its arguments are added to; empty: they are run as they are.
    pub under: Vec<String>,
}

impl Setup {
    pub fn of(bench: &Bench) -> Self {
        let setup = Self {
            bench: bench.clone(),
            config: Table::new(),
            scripts: BTreeMap::from([("session.rhai".to_owned(), scripts::SHIPPED.to_owned())]),
            envs: BTreeMap::new(),
            under: Vec::new(),
        };
        let setup = setup
            .set("public.listen", "127.0.0.1:0")
            .set("admin.listen", "127.0.0.1:0")
            .set(
                "runtime.ownership_label",
                format!("{LABEL}={}", bench.mark()),
            );
        match bench.kind() {
            Kind::Process => setup
                .set("runtime.engine", "process")
                .set("process.dir", STATE_DIR),
            Kind::Docker(engine) => setup
                .set("runtime.engine", "docker")
                .set("docker.network", engine.network()),
        }
    }

    /// Sets `table.key`, or `table.name.key`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let (tables, key) = key.rsplit_once('.').expect("table.key");
        let mut table = &mut self.config;
        for name in tables.split('.') {
            let inner = table.entry(name).or_insert_with(|| Table::new().into());
            table = inner.as_table_mut().expect("a table");
        }
        table.insert(key.to_owned(), value.into());
        self
    }

    /// An image of the process runtime.
    pub fn image(self, name: &str, command: &[&str]) -> Self {
        let mut image = Table::new();
        let command: Vec<Value> = command.iter().map(|word| Value::from(*word)).collect();
        image.insert("command".to_owned(), command.into());
        image.insert("port".to_owned(), i64::from(PORT).into());
        let known = self
            .config
            .get("process")
            .and_then(|process| process.get("images"));
        let mut images = known.and_then(Value::as_table).cloned().unwrap_or_default();
        images.insert(name.to_owned(), image.into());
        self.set("process.images", images)
    }

    /// The scripts' text in place of the shipped one.
    pub fn script(mut self, text: impl Into<String>) -> Self {
        self.scripts.insert("session.rhai".to_owned(), text.into());
        self
    }

    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.envs.insert(key.to_owned(), value.into());
        self
    }

    pub fn file(&self) -> PathBuf {
        self.bench.dir().join("gateway.toml")
    }

    /// Puts configuration and scripts into the line's folder.
    pub fn write(&self) -> &Self {
        let folder = self.bench.dir().join("scripts");
        std::fs::create_dir_all(&folder).expect("a folder for scripts");
        for (name, text) in &self.scripts {
            std::fs::write(folder.join(name), text).expect("a script");
        }
        let config = toml::to_string(&self.config).expect("TOML");
        std::fs::write(self.file(), config).expect("a configuration");
        self
    }

    /// A gateway over it, which listens.
    pub async fn start(&self) -> Gateway {
        self.write();
        Gateway::start(&self.bench, self).await
    }

    /// The program with arguments and with this environment and no more than any program needs.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let program = env!("CARGO_BIN_EXE_wakegate");
        let mut words = self.under.iter().map(String::as_str).chain([program]);
        let mut command = std::process::Command::new(words.next().expect("a program"));
        command
            .args(words)
            .args(arguments)
            .current_dir(self.bench.dir())
            .env_clear()
            .stdin(Stdio::null());
        for key in ["PATH", "HOME", "DOCKER_HOST"] {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        command.envs(&self.envs);
        command
    }

    /// Runs the program to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = tokio::process::Command::from(self.command(arguments));
        let output = command.kill_on_drop(true).output();
        let output: Output = in_time("the program ends", output)
            .await
            .expect("it can be run");
        Ran {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// How a command went.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}
