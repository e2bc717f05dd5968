//! Tests of what only a server, disk or process that misbehaves brings out. What every store does
//! alike is tested from outside, over all kinds of stores (`tests/store`).

mod answers;
mod conditions;
mod downloads;
mod folder;
mod server;
mod settings;

use std::path::Path;
use std::time::Duration;

use super::{Recorded, Store, StoreError, StoreLimits, StoreLocation, StoreOptions};
use crate::deploy::records::{ChangeKind, CurrentDocument, HistoryEntry};
use crate::names::ReleaseHash;

/// May stand in no message.
const SECRET: &str = "hunter2+secret/key";

/// For where nothing answers. What answers has the usual limits, which a busy machine keeps.
const SHORT: StoreLimits = StoreLimits {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(2),
    operation: Duration::from_secs(4),
    lock: Duration::from_secs(2),
};

fn variables(name: &str) -> Option<String> {
    match name {
        "AWS_ACCESS_KEY_ID" => Some("AKIATEST".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some(SECRET.to_owned()),
        _ => None,
    }
}

fn location(text: &str) -> StoreLocation {
    StoreLocation::parse(text, Path::new("/")).unwrap()
}

/// A store in the bucket `shop`, below `releases`, on a server.
fn bucket(endpoint: &str) -> Store {
    bucket_with_limits(endpoint, StoreLimits::default())
}

fn bucket_with_limits(endpoint: &str, limits: StoreLimits) -> Store {
    let options = StoreOptions {
        endpoint: Some(endpoint.to_owned()),
        ..StoreOptions::default()
    };
    let location = location("s3://shop/releases");
    Store::open_with_limits(&location, &options, variables, limits).unwrap()
}

fn folder(path: &Path) -> Store {
    folder_with_limits(path, StoreLimits::default())
}

fn folder_with_limits(path: &Path, limits: StoreLimits) -> Store {
    let location = StoreLocation::File(path.to_owned());
    Store::open_with_limits(&location, &StoreOptions::default(), |_| None, limits).unwrap()
}

fn hash(n: u32) -> ReleaseHash {
    ReleaseHash::new(&format!("{n:064x}")).unwrap()
}

fn entry(n: u32) -> HistoryEntry {
    HistoryEntry {
        revision: format!("r{n}"),
        hash: hash(n),
        at: "2026-01-01T00:00:00Z".to_owned(),
        by: "ada".to_owned(),
        kind: ChangeKind::Switch,
    }
}

fn current(n: u32) -> CurrentDocument {
    CurrentDocument {
        hash: hash(n),
        revision: format!("r{n}"),
        at: "2026-01-01T00:00:00Z".to_owned(),
        by: "ada".to_owned(),
        kind: ChangeKind::Switch,
    }
}

fn revisions(entries: &[HistoryEntry]) -> Vec<&str> {
    entries.iter().map(|e| e.revision.as_str()).collect()
}

/// The error's variant, without what it carries.
fn variant(error: &StoreError) -> String {
    let shown = format!("{error:?}");
    shown.split([' ', '{', '(']).next().unwrap_or("").to_owned()
}
