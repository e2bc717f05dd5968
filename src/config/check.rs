//! Parts of a configuration that have to agree with each other.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::keys::{SCRIPTS, VARS};
use super::meant::{KeyName, Reading};
use super::{Listen, Secret, vars, words};

/// The largest token file, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 4 << 10;

/// Reads the token's file and adds an error for everything that does not go together.
pub fn parts_against_each_other(reading: &mut Reading<'_>) {
    token_file(reading);
    exposed_admin(reading);
    one_address(reading);
    large_vars(reading);
    let lifecycle = &reading.draft.config.lifecycle;
    let (min, max) = (lifecycle.backoff_min, lifecycle.backoff_max);
    if min > max {
        let min = humantime::format_duration(min);
        let max = humantime::format_duration(max);
        complain(
            reading,
            &[("lifecycle", "backoff_min"), ("lifecycle", "backoff_max")],
            format!("backoff_min ({min}) is above backoff_max ({max})"),
        );
    }
    let (queue_max, total_max) = (
        reading.draft.config.hold.queue_max,
        reading.draft.config.hold.total_max,
    );
    if queue_max > total_max {
        complain(
            reading,
            &[("hold", "queue_max"), ("hold", "total_max")],
            format!("queue_max ({queue_max}) is above total_max ({total_max})"),
        );
    }
}

/// A constant that no script could hold would fail each time that one reads it.
fn large_vars(reading: &mut Reading<'_>) {
    let given = &reading.draft.config.scripts.given;
    let told: Vec<(String, String)> = given
        .vars
        .iter()
        .filter_map(|(name, constant)| {
            let message = vars::too_large(constant, &given.limits)?;
            Some((name.clone(), message))
        })
        .collect();
    for (name, message) in told {
        if let Some(place) = reading.var_places.get(&name).cloned() {
            let header = format!("[{VARS}] {name}");
            reading.are_scripts_in_doubt = true;
            reading.complain(&header, &place, vec![message.into()]);
        }
    }
}

/// An error at the first of the keys that was set. None when one of them could not be read: its
/// own error says what is wrong, and what it holds was not meant.
fn complain(reading: &mut Reading<'_>, keys: &[KeyName], message: String) {
    if keys.iter().any(|key| reading.failed.contains(key)) {
        return;
    }
    let set = keys
        .iter()
        .find_map(|key| Some((key, reading.places.get(key)?.clone())));
    if let Some(((table, name), place)) = set {
        reading.are_scripts_in_doubt |= *table == SCRIPTS;
        let header = format!("[{table}] {name}");
        reading.complain(&header, &place, vec![message.into()]);
    }
}

const TOKEN: KeyName = ("admin", "token");
const TOKEN_FILE: KeyName = ("admin", "token_file");

fn token_file(reading: &mut Reading<'_>) {
    let Some(path) = reading.draft.token_file.clone() else {
        return;
    };
    let is_variable = |key: &KeyName| {
        let place = reading.places.get(key)?;
        Some(matches!(place, super::Place::Variable(_)))
    };
    match (is_variable(&TOKEN), is_variable(&TOKEN_FILE)) {
        // The environment goes before the file, here too.
        (Some(true), Some(false)) => return,
        (Some(token), Some(file)) if token == file => {
            let message = "is set, and so is token; only one of them can be the token".to_owned();
            return complain(reading, &[TOKEN_FILE], message);
        }
        _ => {}
    }
    match read_token(&path) {
        Ok(token) => reading.draft.config.admin.token = Some(token),
        Err(message) => {
            complain(reading, &[TOKEN_FILE], message);
            reading.failed.insert(TOKEN_FILE);
        }
    }
}

fn read_token(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| {
            file.take(TOKEN_FILE_BYTES_MAX + 1)
                .read_to_string(&mut text)
        })
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if text.len() as u64 > TOKEN_FILE_BYTES_MAX {
        return Err(format!(
            "{shown} has more than {TOKEN_FILE_BYTES_MAX} bytes, so it is no token"
        ));
    }
    words::token(text.trim()).map_err(|message| format!("the token in {shown} {message}"))
}

/// Whoever reaches the admin API rules the engine, so an open one has to be wished for.
fn exposed_admin(reading: &mut Reading<'_>) {
    let admin = &reading.draft.config.admin;
    let Listen::Tcp(address) = admin.listen else {
        return;
    };
    let token_failed = [TOKEN, TOKEN_FILE]
        .iter()
        .any(|key| reading.failed.contains(key));
    if address.ip().to_canonical().is_loopback()
        || admin.token.is_some()
        || admin.insecure
        || token_failed
    {
        return;
    }
    let message = format!(
        "{address} can be reached from other machines and there is no token: set token_file (or \
         token, or WAKEGATE_ADMIN_TOKEN), or listen on 127.0.0.1:{} or unix:/path, or write \
         insecure = true to let everyone in",
        address.port()
    );
    complain(
        reading,
        &[("admin", "listen"), ("admin", "insecure")],
        message,
    );
}

fn one_address(reading: &mut Reading<'_>) {
    let config = &reading.draft.config;
    let collide = match (&config.public.listen, &config.admin.listen) {
        (Listen::Tcp(public), Listen::Tcp(admin)) => overlap(*public, *admin),
        (Listen::Unix(public), Listen::Unix(admin)) => public == admin,
        _ => false,
    };
    if collide {
        complain(
            reading,
            &[("admin", "listen"), ("public", "listen")],
            "the public and the admin listener have the same address (give one another port)"
                .to_owned(),
        );
    }
}

/// Whether a connection to one could be meant for the other. Port 0 is whatever is free.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let wildcard = |ip: IpAddr| ip.is_unspecified();
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || wildcard(a.ip()) || wildcard(b.ip()))
}
