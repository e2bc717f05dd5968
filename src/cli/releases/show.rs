//! Releases as text for a terminal.

use std::fmt::Write as _;

use crate::admin::client::releases::{
    AppStatus, Discarded, FailedRollback, HistoryEntry, Launched, Part, Switched,
};

pub fn launched(launched: &Launched) -> String {
    let how = if launched.existing {
        "was there already"
    } else {
        "is launched"
    };
    format!(
        "{} {how} as {} and healthy, after {:.1} s ({})\n",
        name(&launched.revision, &launched.hash),
        launched.workload,
        launched.took_ms as f64 / 1e3,
        launched.hash
    )
}

pub fn switched(switched: &Switched) -> String {
    let release = name(&switched.revision, &switched.hash);
    let app = &switched.app;
    let gave_up = switched.gave_up.as_deref().map(short);
    if let Some(canary) = gave_up.filter(|_| switched.unchanged) {
        return format!("the canary {canary} of {app} is given up; all requests go to {release}\n");
    }
    let mut line = match &switched.from {
        _ if switched.canary => {
            format!("{release} is the canary of {app}: it gets what the scripts give it")
        }
        _ if switched.unchanged => format!("{release} is the current release of {app} already"),
        Some(from) => format!(
            "{release} is the current release of {app}; {} ends its requests",
            short(from)
        ),
        None => format!("{release} is the current release of {app}"),
    };
    if let Some(canary) = gave_up {
        write!(line, "; the canary before, {canary}, is given up").unwrap();
    }
    if switched.pending {
        line += "\nthe store has not taken this yet; it is tried again until it does";
    }
    line + "\n"
}

pub fn discarded(discarded: &Discarded) -> String {
    let release = name(&discarded.revision, &discarded.hash);
    format!("{release} of {} is discarded\n", discarded.app)
}

pub fn entry(entry: &HistoryEntry) -> String {
    format!(
        "{}  {:<18}  {}  {:<20}  {}\n",
        entry.at,
        entry.kind,
        short(&entry.hash),
        entry.revision,
        entry.by
    )
}

pub fn app(app: &AppStatus) -> String {
    let mut text = format!("{}: {}", app.app, app.door);
    match (app.state.as_str(), &app.reason) {
        ("ready", _) => {}
        (state, Some(reason)) => write!(text, ", no current release ({state}): {reason}").unwrap(),
        (state, None) => write!(text, ", no current release ({state})").unwrap(),
    }
    text.push('\n');
    for (what, part) in [("store", &app.store), ("registry", &app.registry)] {
        text += &part_line(what, part);
    }
    if app.pending.is_some() {
        text += "  the last switch is not in the store yet\n";
    }
    if let Some(FailedRollback { reason, error }) = &app.failed_rollback {
        writeln!(text, "  {reason}, and going back failed: {error}").unwrap();
    }
    for release in &app.releases {
        let launch = release
            .launch
            .as_ref()
            .filter(|launch| launch.phase != "ready");
        let phase = launch.map_or(&release.phase, |launch| &launch.phase);
        write!(
            text,
            "  {:<10} {}  {:<20}  {:<9}  {} open, {} requests, {} failed",
            release.role,
            short(&release.hash),
            release.revision,
            phase,
            release.leases,
            release.since_last_switch.requests,
            release.since_last_switch.failed,
        )
        .unwrap();
        if let Some(reason) = &release.reason {
            write!(text, " ({reason})").unwrap();
        }
        text.push('\n');
    }
    text
}

fn part_line(what: &str, part: &Part) -> String {
    let reason = part.reason.as_deref();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    format!("  {what} {} is {}{reason}\n", part.place, part.state)
}

fn name(revision: &str, hash: &str) -> String {
    if revision.is_empty() {
        short(hash).to_owned()
    } else {
        format!("{revision} ({})", short(hash))
    }
}

pub(super) fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}
