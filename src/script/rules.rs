//! What `ready` and `idle` answer: rules for a container's start and sleep, and lengths of time.

use std::time::Duration;

use http::Uri;
use rhai::{Dynamic, Engine, FLOAT};

use crate::decision::{IdleRule, ReadyRule};
use crate::script::answers::{is_path, optional};
use crate::script::duration::duration;
use crate::script::engine::{Raw, refuse};

const PROBE_EVERY: Duration = Duration::from_millis(250);
const READY_MAX: Duration = Duration::from_secs(60);

/// What `ready` returned.
pub fn ready_rule(answer: Dynamic) -> Result<Option<ReadyRule>, String> {
    optional(answer, "ready", "wait(…), probe(…), tcp(…), health(…)")
}

/// What `idle` returned.
pub fn idle_rule(answer: Dynamic) -> Result<Option<IdleRule>, String> {
    optional(answer, "idle", "stop_after(…), pause_after(…), never()")
}

/// Registers the rules and `duration`.
pub fn register(engine: &mut Engine) {
    engine.register_fn("duration", |text: Dynamic| -> Raw<FLOAT> {
        Ok(time(&text)?.as_secs_f64())
    });
    engine.register_fn(
        "duration",
        |text: Dynamic, default: Dynamic| -> Raw<FLOAT> {
            let missing = text.is_unit()
                || text
                    .as_immutable_string_ref()
                    .is_ok_and(|t| t.trim().is_empty());
            Ok(time(if missing { &default } else { &text })?.as_secs_f64())
        },
    );
    engine.register_type_with_name::<ReadyRule>("ready rule");
    engine.register_fn("wait", |after: Dynamic| -> Raw<ReadyRule> {
        Ok(ReadyRule::Wait(named_time("wait", &after)?))
    });
    engine.register_fn("probe", |target: &str| {
        probe(target, PROBE_EVERY, READY_MAX)
    });
    engine.register_fn("probe", |target: &str, every: Dynamic| {
        probe(target, positive("probe", &every)?, READY_MAX)
    });
    engine.register_fn("probe", |target: &str, every: Dynamic, max: Dynamic| {
        probe(target, positive("probe", &every)?, positive("probe", &max)?)
    });
    engine.register_fn("tcp", || ReadyRule::Tcp { max: READY_MAX });
    engine.register_fn("tcp", |max: Dynamic| -> Raw<ReadyRule> {
        let max = positive("tcp", &max)?;
        Ok(ReadyRule::Tcp { max })
    });
    engine.register_fn("health", || ReadyRule::Health { max: READY_MAX });
    engine.register_fn("health", |max: Dynamic| -> Raw<ReadyRule> {
        let max = positive("health", &max)?;
        Ok(ReadyRule::Health { max })
    });

    engine.register_type_with_name::<IdleRule>("idle rule");
    engine.register_fn("never", || IdleRule::Never);
    engine.register_fn("stop_after", |time: Dynamic| -> Raw<IdleRule> {
        Ok(IdleRule::StopAfter(positive("stop_after", &time)?))
    });
    engine.register_fn("pause_after", |time: Dynamic| -> Raw<IdleRule> {
        Ok(IdleRule::PauseAfter(positive("pause_after", &time)?))
    });
}

fn probe(target: &str, every: Duration, max: Duration) -> Raw<ReadyRule> {
    let is_url = target.starts_with("http://")
        && target
            .parse::<Uri>()
            .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    let bare = target.split('?').next().unwrap_or(target);
    if !is_url && !is_path(bare) {
        return refuse(format!(
            "probe: {target:?} is neither \"http://host[:port]/path\" nor a path"
        ));
    }
    Ok(ReadyRule::Probe {
        target: target.to_owned(),
        every,
        max,
    })
}

fn time(value: &Dynamic) -> Raw<Duration> {
    duration(value).or_else(refuse)
}

/// A length of time as an argument of `function`.
pub fn named_time(function: &str, value: &Dynamic) -> Raw<Duration> {
    duration(value).or_else(|message| refuse(format!("{function}: {message}")))
}

/// The same, longer than zero.
pub fn positive(function: &str, value: &Dynamic) -> Raw<Duration> {
    let time = named_time(function, value)?;
    if time.is_zero() {
        return refuse(format!("{function}: the time must be longer than zero"));
    }
    Ok(time)
}
