//! A configuration as it is meant: every value read into its place, every error at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::check;
use super::env::Environment;
use super::error::{ConfigError, ConfigErrors, Place};
use super::keys::{APPS, Draft, IMAGE_KEYS, IMAGES, KEYS, Key, SCRIPTS, VARS, all_tables, tables};
use super::kind::{Complaint, Kind as _};
use super::suggest;
use super::typed::{Member, Typed, Value};
use super::vars;
use super::words::EngineHost;
use super::{Config, ProcessImage};

/// The largest gateway.toml that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// The engine's own variable for its address, below `WAKEGATE_DOCKER_HOST` and the file.
pub const DOCKER_HOST: &str = "DOCKER_HOST";

/// Loads a file, with the environment's variables over it.
///
/// `env` tells a variable's value, of the gateway's own variables and of those that `[vars]` names; it cannot tell which there are, so a misspelt one is only
/// found by [`from_process`] or [`super::unknown_variables`]. Relative paths in either start from
/// the file's folder.
///
/// # Errors
/// Everything that is wrong at once. A file that is not there is an error as well, which
/// [`ConfigErrors::is_file_missing`] tells apart: where no file was asked for, `parse("", …)` goes on.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let file_name = path.display().to_string();
    match read(path) {
        Ok(text) => parse_in(folder(path), &text, &file_name, env),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(ConfigErrors::missing_file(&file_name))
        }
        Err(error) => {
            let place = Place::File(file_name.into());
            let message = format!("cannot be read: {error}");
            ConfigErrors::or(vec![ConfigError { place, message }], Config::default())
        }
    }
}

/// Like [`load`], of a text. `file_name` stands in errors, and its folder is where paths start.
pub fn parse(
    text: &str,
    file_name: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    parse_in(folder(Path::new(file_name)), text, file_name, env)
}

fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

fn parse_in(
    base: &Path,
    text: &str,
    file_name: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    let mut reading = Reading::new(base);
    reading.file(&Typed::read(text, file_name), env);
    let config = &mut reading.draft.config;
    // Scripts may be looked at apart from the configuration that they are for.
    if !config.apps.is_empty() {
        config.scripts.given.apps = Some(config.apps.keys().cloned().collect());
    }
    reading.environment(env);
    reading.finish(env)
}

/// Loads with this process's own environment, in which unknown `WAKEGATE_…` variables are refused.
/// Without a file only defaults and the environment count.
pub fn from_process(file: Option<&Path>) -> Result<Config, ConfigErrors> {
    from_environment(file, std::env::vars_os())
}

pub(super) fn from_environment(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, ConfigErrors> {
    let environment = Environment::new(variables);
    let env = |name: &str| environment.get(name);
    let loaded = match file {
        Some(path) => load(path, &env),
        None => parse("", "gateway.toml", &env),
    };
    let mut errors = environment.into_errors();
    match loaded {
        Ok(config) => ConfigErrors::or(errors, config),
        Err(wrong) if errors.is_empty() => Err(wrong),
        Err(wrong) => {
            // A variable that is misspelt may be one of those for scripts.
            errors.extend(wrong.iter().cloned());
            ConfigErrors::or(errors, Config::default())
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let mut limited = File::open(path)?.take(FILE_BYTES_MAX + 1);
    limited.read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// A key by its table and name.
pub type KeyName = (&'static str, &'static str);

/// A configuration that is being read.
pub struct Reading<'b> {
    pub draft: Draft,
    pub errors: Vec<ConfigError>,
    /// Where each key was set that was.
    pub places: BTreeMap<KeyName, Place>,
    /// Keys whose value could not be read: what they hold was not meant.
    pub failed: BTreeSet<KeyName>,
    /// Where each constant of `[vars]` was set.
    pub var_places: BTreeMap<String, Place>,
    /// Whether something that is wrong may concern scripts, so that these cannot be judged.
    pub are_scripts_in_doubt: bool,
    /// Where relative paths start.
    pub base: &'b Path,
}

impl<'b> Reading<'b> {
    fn new(base: &'b Path) -> Self {
        let mut draft = Draft::default();
        for path in [&mut draft.config.scripts.dir, &mut draft.config.process.dir] {
            *path = base.join(&path);
        }
        Self {
            draft,
            errors: Vec::new(),
            places: BTreeMap::new(),
            failed: BTreeSet::new(),
            var_places: BTreeMap::new(),
            are_scripts_in_doubt: false,
            base,
        }
    }

    fn file(&mut self, typed: &Typed, env: &dyn Fn(&str) -> Option<String>) {
        self.errors.extend(typed.syntax_errors.iter().cloned());
        self.are_scripts_in_doubt |= !typed.syntax_errors.is_empty();
        for table in &typed.tables {
            if let Value::Table(members) = &table.value
                && let Some(name) = tables().find(|name| *name == table.name)
            {
                for member in members {
                    self.member(name, member, typed);
                }
            } else if let Value::Table(members) = &table.value
                && table.name == VARS
            {
                for member in members {
                    self.var(member, typed, env);
                }
            } else if let Value::Table(apps) = &table.value
                && table.name == APPS
            {
                for app in apps {
                    self.app(app, typed);
                }
            } else if typed.can_be_trusted(&table.place) {
                self.are_scripts_in_doubt = true;
                self.refuse(&table.place, unknown_table(table));
            }
        }
    }

    fn member(&mut self, table: &'static str, member: &Member, typed: &Typed) {
        let key = KEYS
            .iter()
            .find(|key| key.table == table && key.name == member.name);
        if !typed.can_be_trusted(&member.place) {
            if let Some(key) = key {
                self.failed.insert((key.table, key.name));
            }
        } else if let Some(key) = key {
            self.set(key, &member.value, &member.place);
        } else if (table, member.name.as_str()) == IMAGES {
            self.images(member, typed);
        } else {
            self.are_scripts_in_doubt |= table == SCRIPTS;
            self.refuse(&member.place, unknown_key(table, &member.name));
        }
    }

    fn environment(&mut self, env: &dyn Fn(&str) -> Option<String>) {
        for key in KEYS {
            let variable = key.variable();
            // Set to nothing is what compose files make of a variable that is not set.
            let Some(value) = env(&variable).filter(|value| !value.trim().is_empty()) else {
                continue;
            };
            self.set(key, &Value::Word(value), &Place::Variable(variable));
        }
    }

    fn set(&mut self, key: &Key<Draft>, value: &Value, place: &Place) {
        let name = (key.table, key.name);
        match (key.read)(&mut self.draft, value, self.base) {
            Ok(()) => drop(self.places.insert(name, place.clone())),
            Err(complaints) => {
                self.failed.insert(name);
                self.are_scripts_in_doubt |= key.table == SCRIPTS;
                let header = format!("[{}] {}", key.table, key.name);
                self.complain(&header, place, complaints);
            }
        }
    }

    fn var(&mut self, member: &Member, typed: &Typed, env: &dyn Fn(&str) -> Option<String>) {
        if !typed.can_be_trusted(&member.place) {
            return;
        }
        let read = match vars::name(&member.name) {
            Ok(()) => vars::constant(&member.value, typed, env),
            Err(message) => Err(vec![message.into()]),
        };
        match read {
            Ok(constant) => {
                let vars = &mut self.draft.config.scripts.given.vars;
                vars.insert(member.name.clone(), constant);
                let place = member.place.clone();
                self.var_places.insert(member.name.clone(), place);
            }
            Err(complaints) => {
                self.are_scripts_in_doubt = true;
                let header = format!("[{VARS}] {}", member.name);
                self.complain(&header, &member.place, complaints);
            }
        }
    }

    fn images(&mut self, images: &Member, typed: &Typed) {
        let Value::Table(images) = &images.value else {
            let hint = "[process] images: is a table (write [process.images.\"name:tag\"])";
            return self.refuse(&images.place, hint.to_owned());
        };
        for image in images {
            let header = format!("[process.images.{:?}]", image.name);
            let Value::Table(members) = &image.value else {
                if typed.can_be_trusted(&image.place) {
                    let hint = "is a table (write command = [\"program\", \"argument\"] in it)";
                    self.refuse(&image.place, format!("{header}: {hint}"));
                }
                continue;
            };
            let mut read = ProcessImage {
                command: Vec::new(),
                port: None,
                envs: BTreeMap::new(),
            };
            // A command that was refused, or was written under a wrong name, is no empty one.
            let mut command_told = false;
            for member in members {
                let errors_before = self.errors.len();
                self.part(&header, member, typed, IMAGE_KEYS, &mut read);
                let is_another_key = IMAGE_KEYS
                    .iter()
                    .any(|key| key.name == member.name && key.name != "command");
                command_told |= self.errors.len() > errors_before && !is_another_key;
            }
            let is_whole = !command_told && typed.can_be_trusted(&image.place);
            if image.name.trim().is_empty() {
                self.refuse(&image.place, format!("{header}: an image needs a name"));
            } else if is_whole && read.command.first().is_none_or(String::is_empty) {
                let message = "command names no program (try command = [\"/srv/app\", \"--flag\"])";
                self.refuse(&image.place, format!("{header}: {message}"));
            }
            let images = &mut self.draft.config.process.images;
            images.insert(image.name.clone(), read);
        }
    }

    /// Reads a key of a table whose name is the user's own. The key that is meant, if there is one,
    /// also when its value cannot be read.
    pub fn part<T>(
        &mut self,
        header: &str,
        member: &Member,
        typed: &Typed,
        keys: &'static [Key<T>],
        into: &mut T,
    ) -> Option<&'static str> {
        let key = keys.iter().find(|key| key.name == member.name);
        if !typed.can_be_trusted(&member.place) {
            return key.map(|key| key.name);
        }
        let Some(key) = key else {
            let hint = suggest::hint(&member.name, keys.iter().map(|key| key.name));
            let message = format!("{header} {}: unknown key{hint}", member.name);
            self.refuse(&member.place, message);
            return None;
        };
        if let Err(complaints) = (key.read)(into, &member.value, self.base) {
            let header = format!("{header} {}", key.name);
            self.complain(&header, &member.place, complaints);
        }
        Some(key.name)
    }

    /// `DOCKER_HOST`, the checks of parts against each other, and the verdict.
    fn finish(mut self, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
        let host = ("docker", "host");
        let is_unset = !self.places.contains_key(&host) && !self.failed.contains(&host);
        let uses_docker = self.draft.config.runtime.engine != super::Engine::Process;
        if is_unset
            && uses_docker
            && let Some(typed) = env(DOCKER_HOST).filter(|typed| !typed.trim().is_empty())
        {
            match EngineHost.read(&Value::Word(typed), self.base) {
                Ok(address) => self.draft.config.docker.host = address,
                Err(complaints) => {
                    let place = Place::Variable(DOCKER_HOST.to_owned());
                    self.complain("[docker] host", &place, complaints);
                }
            }
        }
        check::parts_against_each_other(&mut self);
        let scripts = (!self.are_scripts_in_doubt).then(|| self.draft.config.scripts.clone());
        let read = ConfigErrors::or(self.errors, self.draft.config);
        read.map_err(|wrong| match scripts {
            Some(scripts) => wrong.with_scripts(scripts),
            None => wrong,
        })
    }

    /// Errors of one key. A variable's name says which key it is; a line's number does not.
    pub fn complain(&mut self, header: &str, place: &Place, complaints: Vec<Complaint>) {
        for Complaint { at, message } in complaints {
            let place = at.unwrap_or_else(|| place.clone());
            let message = match place {
                Place::Variable(_) => message,
                Place::File(_) | Place::Line { .. } => format!("{header}: {message}"),
            };
            self.refuse(&place, message);
        }
    }

    pub fn refuse(&mut self, place: &Place, message: String) {
        let place = place.clone();
        self.errors.push(ConfigError { place, message });
    }
}

fn unknown_table(table: &Member) -> String {
    let name = &table.name;
    if all_tables().any(|known| known == name) {
        return format!("{name} is a table (write [{name}] on a line of its own)");
    }
    if matches!(table.value, Value::Table(_)) {
        let hint = suggest::nearest(name, all_tables())
            .map_or_else(list_of_tables, |near| format!(" (did you mean [{near}]?)"));
        return format!("[{name}]: unknown table{hint}");
    }
    match KEYS.iter().find(|key| key.name == name) {
        Some(key) => format!("{name}: stands in no table (did you mean [{}]?)", key.table),
        None => format!("{name}: unknown key, and in no table{}", list_of_tables()),
    }
}

fn list_of_tables() -> String {
    let known: Vec<String> = all_tables().map(|table| format!("[{table}]")).collect();
    format!(" (there are {})", known.join(", "))
}

fn unknown_key(table: &str, name: &str) -> String {
    let here = || KEYS.iter().filter(|key| key.table == table);
    let elsewhere = KEYS.iter().find(|key| key.name == name);
    let hint = match (
        suggest::nearest(name, here().map(|key| key.name)),
        elsewhere,
    ) {
        (_, Some(key)) => format!(" (it is a key of [{}])", key.table),
        (Some(near), None) => format!(" (did you mean `{near}`?)"),
        (None, None) => {
            let known: Vec<&str> = here().map(|key| key.name).collect();
            format!(" (there are {})", known.join(", "))
        }
    };
    format!("[{table}] {name}: unknown key{hint}")
}
