//! What `ready` and `idle` answer: rules for a container's start and sleep, and lengths of time.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rhai::{Dynamic, Engine, FLOAT};

use crate::decision::{BusySign, IdleRule, ReadyRule};
use crate::script::answers::{is_path, optional};
use crate::script::documented::Documented as _;
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
    register_duration(engine);
    register_ready(engine);
    register_idle(engine);
    register_signs(engine);
}

fn register_duration(engine: &mut Engine) {
    engine.document(
        "duration(time: int | float | String) -> float",
        r#"A length of time in seconds: that of text such as "90s", "1m30s", "1.5h" or "2 days", or the
        number itself. Text without a unit, a negative time and one over ten years are errors.
        ```rhai
        let seconds = duration("1m30s"); // 90.0
        ```"#,
        |time: Dynamic| -> Raw<FLOAT> { Ok(length(&time)?.as_secs_f64()) },
    );
    engine.document(
        "duration(time: int | float | String, otherwise: int | float | String) -> float",
        r#"The same; `otherwise` is read where the time is () or text with nothing in it.
        ```rhai
        let seconds = duration(c.env("IDLE"), "10m");
        ```"#,
        |time: Dynamic, otherwise: Dynamic| -> Raw<FLOAT> {
            let missing = time.is_unit()
                || time
                    .as_immutable_string_ref()
                    .is_ok_and(|t| t.trim().is_empty());
            Ok(length(if missing { &otherwise } else { &time })?.as_secs_f64())
        },
    );
}

fn register_ready(engine: &mut Engine) {
    let example = |rule: &str| format!("```rhai\nready(|c| {rule});\n```");
    engine.register_type_with_name::<ReadyRule>("ReadyRule");
    engine.document(
        "wait(time: int | float | String) -> ReadyRule",
        &format!(
            "Ready so long after its start, unasked. Seconds, or text such as \"2s\".\n{}",
            example(r#"wait("2s")"#)
        ),
        |time: Dynamic| -> Raw<ReadyRule> { Ok(ReadyRule::Wait(named_time("wait", &time)?)) },
    );
    let probing = format!(
        "Ready when a GET of `target` answers with a status of 2xx or 3xx.\n\
         The target is a URL, \"http://host[:port]/path\", or a path on the workload's own port.\n\
         `every` is the longest pause between two attempts, the first of which come faster; default {}.\n\
         A workload that is not ready after `max` has failed to start; default {}.\n\
         Both are seconds, or text such as \"1m30s\", and longer than zero.\n{}",
        humantime::format_duration(PROBE_EVERY),
        humantime::format_duration(READY_MAX),
        example(r#"probe("/health", "500ms", "30s")"#)
    );
    engine.document(
        "probe(target: String) -> ReadyRule",
        &probing,
        |target: &str| probe(target, PROBE_EVERY, READY_MAX),
    );
    engine.document(
        "probe(target: String, every: int | float | String) -> ReadyRule",
        &probing,
        |target: &str, every: Dynamic| probe(target, positive("probe", &every)?, READY_MAX),
    );
    engine.document(
        "probe(target: String, every: int | float | String, max: int | float | String) -> ReadyRule",
        &probing,
        |target: &str, every: Dynamic, max: Dynamic| {
            probe(target, positive("probe", &every)?, positive("probe", &max)?)
        },
    );
    let limit = format!(
        "A workload that is not ready after `max` has failed to start: seconds, or text such as \
         \"1m30s\", longer than zero; default {}.",
        humantime::format_duration(READY_MAX)
    );
    let connecting = format!(
        "Ready when the workload's own port takes a connection.\n{limit}\n{}",
        example(r#"tcp("30s")"#)
    );
    engine.document("tcp() -> ReadyRule", &connecting, || ReadyRule::Tcp {
        max: READY_MAX,
    });
    engine.document(
        "tcp(max: int | float | String) -> ReadyRule",
        &connecting,
        |max: Dynamic| -> Raw<ReadyRule> {
            let max = positive("tcp", &max)?;
            Ok(ReadyRule::Tcp { max })
        },
    );
    let asking = format!(
        "Ready when the engine's own health check of the container, its HEALTHCHECK, says healthy.\n\
         {limit}\n{}",
        example(r#"if c.has_healthcheck { health("2m") } else { tcp() }"#)
    );
    engine.document("health() -> ReadyRule", &asking, || ReadyRule::Health {
        max: READY_MAX,
    });
    engine.document(
        "health(max: int | float | String) -> ReadyRule",
        &asking,
        |max: Dynamic| -> Raw<ReadyRule> {
            let max = positive("health", &max)?;
            Ok(ReadyRule::Health { max })
        },
    );
}

fn register_idle(engine: &mut Engine) {
    engine.register_type_with_name::<IdleRule>("IdleRule");
    engine.document(
        "never() -> IdleRule",
        "The workload stays awake, however long nobody uses it.
        ```rhai
        idle(|c| if c.label(\"pinned\") == \"yes\" { never() });
        ```",
        || IdleRule::Never,
    );
    engine.document(
        "stop_after(time: int | float | String) -> IdleRule",
        r#"The workload is stopped when nobody has used it for so long.
        Seconds, or text such as "1m30s"; longer than zero.
        ```rhai
        idle(|c| stop_after(duration(c.env("IDLE"), "10m")));
        ```"#,
        |time: Dynamic| -> Raw<IdleRule> {
            Ok(IdleRule::StopAfter(positive("stop_after", &time)?))
        },
    );
    engine.document(
        "pause_after(time: int | float | String) -> IdleRule",
        r#"The workload is frozen when nobody has used it for so long: it keeps its memory and goes on
        at once when it is asked for again. Seconds, or text such as "1m30s"; longer than zero.
        ```rhai
        idle(|c| pause_after("5m"));
        ```"#,
        |time: Dynamic| -> Raw<IdleRule> {
            Ok(IdleRule::PauseAfter(positive("pause_after", &time)?))
        },
    );
}

/// What else tells of a workload's use, besides the requests that the gateway forwards.
fn register_signs(engine: &mut Engine) {
    engine.register_type_with_name::<BusySign>("BusySign");
    engine.document(
        "unless_busy(rule: IdleRule, sign: BusySign) -> IdleRule",
        r#"With `stop_after` or `pause_after`, for a workload that is also used past the gateway, such as
        through a Traefik beside it: it sleeps when the sign, too, has told of no use for all that time.
        It is looked at four times in that time. What it does not tell counts as use.
        ```rhai
        idle(|c| stop_after("10m").unless_busy(sent_bytes()));
        ```"#,
        |rule: &mut IdleRule, sign: BusySign| -> Raw<IdleRule> {
            match rule.sleep() {
                Some((after, sleep)) => Ok(IdleRule::UnlessBusy { sleep, after, sign }),
                None => refuse("unless_busy: the rule is never(), which lets nothing sleep"),
            }
        },
    );
    let asking = "The application is asked with a GET of `target`, a URL, \"http://host[:port]/path\", \
                  or a path on the workload's own port.";
    let field = "The answer is 200 with JSON, in which `field` is a path with dots: \
                 \"pool.connections\".";
    engine.document(
        "busy_probe(target: String) -> BusySign",
        &format!(
            "{asking}\nIt answers 200 when it is in use, or was a moment ago, and 204 when it is not.\n\
             ```rhai\nidle(|c| stop_after(\"10m\").unless_busy(busy_probe(\"/in-use\")));\n```"
        ),
        |target: &str| -> Raw<BusySign> {
            let target = asked("busy_probe", target)?;
            Ok(BusySign::Probe {
                target,
                field: None,
            })
        },
    );
    engine.document(
        "busy_probe(target: String, field: String) -> BusySign",
        &format!(
            "{asking}\n{field}\nIt is in use when the field is true, a number but 0, or not empty.\n\
             ```rhai\nidle(|c| stop_after(\"10m\").unless_busy(busy_probe(\"/status\", \"connections\")));\n```"
        ),
        |target: &str, field: &str| -> Raw<BusySign> {
            let target = asked("busy_probe", target)?;
            let field = Some(named_field("busy_probe", field)?);
            Ok(BusySign::Probe { target, field })
        },
    );
    engine.document(
        "busy_count(target: String, field: String) -> BusySign",
        &format!(
            "{asking}\n{field}\nThe field is a number that grows with each use: it was in use when it is \
             another than before.\n\
             ```rhai\nidle(|c| stop_after(\"10m\").unless_busy(busy_count(\"/status\", \"requests\")));\n```"
        ),
        |target: &str, field: &str| -> Raw<BusySign> {
            let target = asked("busy_count", target)?;
            let field = named_field("busy_count", field)?;
            Ok(BusySign::Count { target, field })
        },
    );
    engine.document(
        "sent_bytes() -> BusySign",
        r#"The bytes that the container sends, by the engine's statistics: it is in use when it sends any,
        to whomever. One on the host's network is not counted."#,
        || BusySign::SentBytes,
    );
    engine.document(
        "traefik_requests() -> BusySign",
        r#"The requests that a Traefik beside the gateway has had answered by the container, by Traefik's
        metrics; needs api under [traefik]. Those that go on are not counted until they end: a stream or
        a websocket that is open for longer than the idle time is no use of it."#,
        || BusySign::TraefikRequests,
    );
}

fn asked(function: &str, target: &str) -> Raw<Arc<str>> {
    check_target(function, target)?;
    Ok(target.into())
}

fn named_field(function: &str, field: &str) -> Raw<Arc<str>> {
    if field.split('.').any(str::is_empty) {
        return refuse(format!(
            "{function}: {field:?} is no field's path: names with dots between them"
        ));
    }
    Ok(field.into())
}

fn check_target(function: &str, target: &str) -> Raw<()> {
    let is_url = target.starts_with("http://")
        && target
            .parse::<Uri>()
            .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    let bare = target.split('?').next().unwrap_or(target);
    if !is_url && !is_path(bare) {
        return refuse(format!(
            "{function}: {target:?} is neither \"http://host[:port]/path\" nor a path"
        ));
    }
    Ok(())
}

fn probe(target: &str, every: Duration, max: Duration) -> Raw<ReadyRule> {
    check_target("probe", target)?;
    Ok(ReadyRule::Probe {
        target: target.to_owned(),
        every,
        max,
    })
}

fn length(value: &Dynamic) -> Raw<Duration> {
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
