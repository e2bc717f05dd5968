//! `[apps.APP]`: the applications whose releases the gateway launches, by names that are the user's own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::error::Place;
use super::keys::{APP_KEYS, APPS};
use super::kind::{TextKind, is_not};
use super::meant::Reading;
use super::store::{StoreLocation, StoreOptions, is_server};
use super::typed::{Member, Typed, Value};
use crate::deploy::env_file;
use crate::names::AppName;
use crate::spec::HealthCheck;

/// The registry of an application that names none: not everybody has one there.
pub const DEFAULT_REGISTRY: &str = "localhost:8080";

/// `[apps.APP]`: an application of which a release at a time is the current one.
#[derive(Clone, PartialEq)]
pub struct App {
    /// Launch configurations and history; default `file:.wakegate/releases/<app>`.
    pub store: StoreLocation,
    /// `store_endpoint`, `store_region`, `store_path_style`: for an S3 store.
    pub store_options: StoreOptions,
    /// A file of this gateway's own in which it notes its last switch, for when the store is away;
    /// default `.wakegate/journal/APP.json`.
    pub journal: PathBuf,
    /// Where images come from whose launch configuration names none; default `localhost:8080`.
    pub registry: String,
    /// A Docker `config.json` with the registries' credentials; default none. Read at each pull.
    pub registry_credentials: Option<PathBuf>,
    /// Default none.
    pub env_file: Option<PathBuf>,
    /// What stands in the `env_file`: environment variables below those of a launch configuration.
    pub env: BTreeMap<String, String>,
    /// Previous releases that stay asleep; default 2.
    pub keep: usize,
    /// For the requests of a superseded release to end; default 30 s.
    pub drain_timeout: Duration,
    /// The health check of a launch configuration that has none; default none: the scripts' rule,
    /// else the engine's own check, else the port.
    pub health_path: Option<String>,
    /// For a release to get healthy, where its launch configuration does not say; default 1 min.
    pub health_timeout: Duration,
    /// The share of failures, 0 to 1, by which a new release may exceed the old one's before the old
    /// one comes back; default none: it does not.
    pub rollback_failures_max: Option<f64>,
    /// How long after a switch that is looked at; default 2 min.
    pub rollback_watch: Duration,
    /// Fewer requests to the new release say nothing; default 20.
    pub rollback_requests_min: u64,
    /// The longest that a pause holds a request; default 30 s; then 503.
    pub pause_max: Duration,
    /// The engine's network of its containers; default none: `docker.network`.
    pub network: Option<String>,
}

impl App {
    /// What an application is without a single key; relative paths start from the working directory.
    pub fn new(name: &AppName) -> Self {
        Self::below(name, Path::new(""))
    }

    fn below(name: &AppName, base: &Path) -> Self {
        let store = Path::new(".wakegate/releases").join(name.as_str());
        let journal = format!(".wakegate/journal/{name}.json");
        Self {
            store: StoreLocation::File(base.join(store)),
            store_options: StoreOptions::default(),
            journal: base.join(journal),
            registry: DEFAULT_REGISTRY.to_owned(),
            registry_credentials: None,
            env_file: None,
            env: BTreeMap::new(),
            keep: 2,
            drain_timeout: Duration::from_secs(30),
            health_path: None,
            health_timeout: Duration::from_secs(60),
            rollback_failures_max: None,
            rollback_watch: Duration::from_secs(120),
            rollback_requests_min: 20,
            pause_max: Duration::from_secs(30),
            network: None,
        }
    }
}

impl fmt::Debug for App {
    /// Without the values of the `env_file`, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("store", &self.store)
            .field("store_options", &self.store_options)
            .field("journal", &self.journal)
            .field("registry", &self.registry)
            .field("registry_credentials", &self.registry_credentials)
            .field("env_file", &self.env_file)
            .field("env", &self.env.keys())
            .field("keep", &self.keep)
            .field("drain_timeout", &self.drain_timeout)
            .field("health_path", &self.health_path)
            .field("health_timeout", &self.health_timeout)
            .field("rollback_failures_max", &self.rollback_failures_max)
            .field("rollback_watch", &self.rollback_watch)
            .field("rollback_requests_min", &self.rollback_requests_min)
            .field("pause_max", &self.pause_max)
            .field("network", &self.network)
            .finish()
    }
}

/// Where each key of one application was set. `None`: it was set and could not be read.
type Set = BTreeMap<&'static str, Option<Place>>;

impl Reading<'_> {
    /// Reads one `[apps.APP]`.
    pub(super) fn app(&mut self, app: &Member, typed: &Typed) {
        if !typed.can_be_trusted(&app.place) {
            return;
        }
        let header = header(&app.name);
        let name = match AppName::new(&app.name) {
            Ok(name) => name,
            Err(error) => {
                self.are_scripts_in_doubt = true;
                return self.refuse(&app.place, format!("{header}: {error}"));
            }
        };
        let Value::Table(members) = &app.value else {
            self.are_scripts_in_doubt = true;
            let hint = format!("{APPS}.{name} is a table (write [{APPS}.{name}])");
            return self.refuse(&app.place, hint);
        };
        let mut read = App::below(&name, self.base);
        let mut set = Set::new();
        for member in members {
            let errors_before = self.errors.len();
            let key = self.part(&header, member, typed, APP_KEYS, &mut read);
            if let Some(key) = key {
                let is_read = self.errors.len() == errors_before;
                let is_read = is_read && typed.can_be_trusted(&member.place);
                set.insert(key, is_read.then(|| member.place.clone()));
            }
        }
        self.env_file(&header, &set, &mut read);
        self.only_for_s3(&header, &set, &read);
        self.own_store(&header, app, &set, &read);
        self.draft.config.apps.insert(name, read);
    }

    /// Read with the rest, so that what is wrong in it is known before anything is launched.
    fn env_file(&mut self, header: &str, set: &Set, app: &mut App) {
        let (Some(path), Some(Some(place))) = (&app.env_file, set.get("env_file")) else {
            return;
        };
        match env_file::load(path) {
            Ok(env) => app.env = env,
            Err(wrong) => {
                let complaints = wrong.into_iter().map(Into::into).collect();
                self.complain(&format!("{header} env_file"), place, complaints);
            }
        }
    }

    fn only_for_s3(&mut self, header: &str, set: &Set, app: &App) {
        if matches!(app.store, StoreLocation::S3 { .. }) || matches!(set.get("store"), Some(None)) {
            return;
        }
        let options = &app.store_options;
        let told = [
            ("store_endpoint", options.endpoint.is_some()),
            ("store_region", options.region.is_some()),
            ("store_path_style", options.path_style == Some(false)),
        ];
        for (key, _) in told
            .into_iter()
            .filter(|(_, says_something)| *says_something)
        {
            if let Some(Some(place)) = set.get(key) {
                let message = format!("is for a store on S3, and this one is {}", app.store);
                self.complain(&format!("{header} {key}"), place, vec![message.into()]);
            }
        }
    }

    /// Two applications in one place would take each other's release for their current one.
    fn own_store(&mut self, header: &str, app: &Member, set: &Set, read: &App) {
        let others = &self.draft.config.apps;
        let store = others.iter().find(|(_, other)| same_store(read, other));
        let journal = real(&read.journal);
        let noted = others
            .iter()
            .find(|(_, other)| real(&other.journal) == journal);
        let told = [
            ("store", store, read.store.to_string()),
            ("journal", noted, read.journal.display().to_string()),
        ];
        let told = told.map(|(key, other, is)| {
            let place = match set.get(key) {
                Some(place) => place.clone(),
                None => Some(app.place.clone()),
            };
            let (other, _) = other?;
            let message =
                format!("{is} is the {key} of {other} too; each application needs its own");
            Some((key, place?, message))
        });
        for (key, place, message) in told.into_iter().flatten() {
            self.complain(&format!("{header} {key}"), &place, vec![message.into()]);
        }
    }
}

fn same_store(one: &App, other: &App) -> bool {
    match (&one.store, &other.store) {
        (StoreLocation::File(one), StoreLocation::File(other)) => real(one) == real(other),
        // The same bucket's name on another server is another bucket.
        (one_store, other_store) => {
            one_store == other_store && one.store_options.endpoint == other.store_options.endpoint
        }
    }
}

/// A path without links and detours, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let mut real = PathBuf::new();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for part in absolute.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                real.pop();
            }
            part => real.push(part),
        }
        if let Ok(without_links) = real.canonicalize() {
            real = without_links;
        }
    }
    real
}

/// The table's head, as TOML wants it written.
fn header(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(is_bare) {
        format!("[{APPS}.{name}]")
    } else {
        format!("[{APPS}.{name:?}]")
    }
}

/// The beginning of an image's name: `host[:port][/path]`.
pub struct Registry;

impl TextKind for Registry {
    type Out = String;
    const WHAT: (&'static str, &'static str) = (
        "a registry",
        "\"localhost:8080\" or \"registry.example.com/team\"",
    );

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        let wrong = || is_not(format_args!("{text:?}"), Self::WHAT);
        if let Some((_, bare)) = text.split_once("://") {
            let bare = bare.trim_end_matches('/');
            return Err(match self.parse(bare, Path::new("")) {
                Ok(bare) => format!("{text:?} is a URL (write {bare:?})"),
                Err(_) => wrong(),
            });
        }
        let (host, path) = text.split_once('/').unwrap_or((text, "a"));
        let is_host = host.parse().is_ok_and(|host| is_server(&host));
        let is_part = |part: &str| {
            let goes_on = |byte: u8| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'.' | b'_' | b'-')
            };
            part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.bytes().all(goes_on)
        };
        if is_host && path.split('/').all(is_part) {
            Ok(text.to_owned())
        } else {
            Err(wrong())
        }
    }

    fn write(&self, registry: &String) -> String {
        registry.clone()
    }
}

/// A path that a release is asked for its health at.
pub struct HealthPath;

impl TextKind for HealthPath {
    type Out = String;
    const WHAT: (&'static str, &'static str) = ("a path", "\"/up\"");

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        HealthCheck::check_path(text).map(|()| text.to_owned())
    }

    fn write(&self, path: &String) -> String {
        path.clone()
    }
}
