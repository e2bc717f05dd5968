//! What handlers answer: the decisions and rules that a script builds, checked as they are built.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue, InvalidHeaderName};
use http::{StatusCode, Uri};
use rhai::{Dynamic, Engine, FLOAT, INT, Map};

use crate::decision::{
    Asleep, CreateFrom, Decision, HeaderEdits, IdleRule, ProxyDecision, ReadyRule, Redirect, Reply,
};
use crate::names::WorkloadName;
use crate::script::duration::{self, duration};
use crate::script::engine::{Raw, refuse};
use crate::script::facts::json_object;

const PROBE_EVERY: Duration = Duration::from_millis(250);
const READY_MAX: Duration = Duration::from_secs(60);

/// Header fields that one decision may set or drop.
const EDITS_MAX: usize = 100;

/// The longest value of a header that a script sets.
const HEADER_BYTES_MAX: usize = 8 << 10;

/// A decision in the making. Its setters change it and return it, so that both
/// `proxy("a").port(80)` and `let p = proxy("a"); p.port(80); p` do what they say. The `Arc` is
/// copied only when somebody else holds it, so that a chain of setters copies nothing.
#[derive(Debug, Clone)]
struct Draft<T>(Arc<T>);

impl<T: Clone> Draft<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(value))
    }

    fn set(&mut self, set: impl FnOnce(&mut T)) -> Self {
        set(Arc::make_mut(&mut self.0));
        self.clone()
    }
}

type ProxyDraft = Draft<ProxyDecision>;
type RedirectDraft = Draft<Redirect>;
type ReplyDraft = Draft<Reply>;

/// What a handler returned, when it is a decision; `Ok(None)` is "no decision".
pub fn decision(answer: Dynamic) -> Result<Option<Decision>, String> {
    if answer.is_unit() {
        return Ok(None);
    }
    let answer = match answer.try_cast_result::<ProxyDraft>() {
        Ok(draft) => return Ok(Some(Decision::Proxy(Arc::unwrap_or_clone(draft.0)))),
        Err(other) => other,
    };
    let answer = match answer.try_cast_result::<RedirectDraft>() {
        Ok(draft) => return Ok(Some(Decision::Redirect(Arc::unwrap_or_clone(draft.0)))),
        Err(other) => other,
    };
    match answer.try_cast_result::<ReplyDraft>() {
        Ok(draft) => Ok(Some(Decision::Respond(Arc::unwrap_or_clone(draft.0)))),
        Err(other) => Err(format!(
            "the route returned {}, which is no decision; it returns proxy(…), redirect(…), respond(…) or ()",
            shown(&other)
        )),
    }
}

/// What `on_error` returned.
pub fn reply(answer: Dynamic) -> Result<Option<Reply>, String> {
    optional::<ReplyDraft>(answer, "on_error", "respond(…)")
        .map(|draft| draft.map(|draft| Arc::unwrap_or_clone(draft.0)))
}

/// What `ready` returned.
pub fn ready_rule(answer: Dynamic) -> Result<Option<ReadyRule>, String> {
    optional(answer, "ready", "wait(…), probe(…), tcp(…), health(…)")
}

/// What `idle` returned.
pub fn idle_rule(answer: Dynamic) -> Result<Option<IdleRule>, String> {
    optional(answer, "idle", "stop_after(…), pause_after(…), never()")
}

fn optional<T: Clone + Send + Sync + 'static>(
    answer: Dynamic,
    hook: &str,
    expected: &str,
) -> Result<Option<T>, String> {
    if answer.is_unit() {
        return Ok(None);
    }
    answer.try_cast_result::<T>().map(Some).map_err(|other| {
        format!(
            "{hook} returned {}; it returns {expected} or ()",
            shown(&other)
        )
    })
}

/// A value for a message: what it is, and what is in it when that is short.
pub fn shown(value: &Dynamic) -> String {
    const SHOWN_MAX: usize = 60;
    let kind = match value.type_name() {
        name if name.contains("ProxyDecision") => "a proxy decision",
        name if name.contains("Redirect") => "a redirect",
        name if name.contains("Reply") => "a response",
        name if name.contains("ReadyRule") => "a ready rule",
        name if name.contains("IdleRule") => "an idle rule",
        "i64" | "f64" => "the number",
        "string" => "the text",
        "bool" => "the value",
        "map" => "a map",
        "array" => "an array",
        "Fn" => "a function (is its call missing?)",
        name => name,
    };
    let text = if value.is_string() {
        format!("{:?}", value.to_string())
    } else {
        value.to_string()
    };
    let printable = value.is_string() || value.is_int() || value.is_float() || value.is_bool();
    if printable && text.len() <= SHOWN_MAX {
        format!("{kind} {text}")
    } else {
        kind.to_owned()
    }
}

/// Registers the builders.
pub fn register(engine: &mut Engine) {
    register_proxy(engine);
    register_answers(engine);
    register_rules(engine);
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
}

/// Gives a closure's result its type.
fn done<T>(value: T) -> Raw<T> {
    Ok(value)
}

fn register_proxy(engine: &mut Engine) {
    engine.register_type_with_name::<ProxyDraft>("proxy decision");
    engine.register_fn("proxy", |name: &str| -> Raw<ProxyDraft> {
        match WorkloadName::new(name) {
            Ok(name) => Ok(Draft::new(ProxyDecision::to(name))),
            Err(error) => refuse(format!("proxy: {error}")),
        }
    });
    engine.register_fn("is_name", |name: &str| WorkloadName::new(name).is_ok());
    engine.register_fn(
        "port",
        |draft: &mut ProxyDraft, port: INT| match u16::try_from(port) {
            Ok(port) if port > 0 => Ok(draft.set(|d| d.port = Some(port))),
            _ => refuse(format!("port: {port} is not a port (1 to 65535)")),
        },
    );
    engine.register_fn(
        "strip",
        |draft: &mut ProxyDraft, segments: INT| match usize::try_from(segments) {
            Ok(segments) => Ok(draft.set(|d| d.strip = segments)),
            Err(_) => refuse(format!("strip: {segments} is not a number of segments")),
        },
    );
    engine.register_fn("path", |draft: &mut ProxyDraft, path: &str| {
        if is_path(path) {
            Ok(draft.set(|d| d.path = Some(path.to_owned())))
        } else {
            refuse(format!(
                "path: {path:?} is not a path: it starts with '/', is percent-encoded and has no query"
            ))
        }
    });
    engine.register_fn("timeout", |draft: &mut ProxyDraft, time: Dynamic| {
        let time = positive("timeout", &time)?;
        done(draft.set(|d| d.timeout = Some(time)))
    });
    engine.register_fn("wait", |draft: &mut ProxyDraft, time: Dynamic| {
        let time = named_time("wait", &time)?;
        done(draft.set(|d| d.wait = Some(time)))
    });
    engine.register_fn("asleep", |draft: &mut ProxyDraft, what: &str| {
        let asleep = match what {
            "hold" => Asleep::Hold,
            "page" => Asleep::Page,
            "redirect" => Asleep::Redirect,
            "refuse" => Asleep::Refuse,
            _ => {
                return refuse(format!(
                    "asleep: {what:?} is none of \"hold\", \"page\", \"redirect\", \"refuse\""
                ));
            }
        };
        Ok(draft.set(|d| d.asleep = asleep))
    });
    engine.register_fn("counts", |draft: &mut ProxyDraft, counts: bool| {
        draft.set(|d| d.counts = counts)
    });
    engine.register_fn(
        "create",
        |draft: &mut ProxyDraft, template: &str, vars: Map| -> Raw<ProxyDraft> {
            let vars =
                json_object(&vars).or_else(|message| refuse(format!("create: {message}")))?;
            Ok(draft.set(|d| {
                d.create = Some(CreateFrom {
                    template: template.to_owned(),
                    vars,
                });
            }))
        },
    );
    register_edits(
        engine,
        "set_request_header",
        "drop_request_header",
        |d: &mut ProxyDecision| &mut d.request_headers,
    );
    register_edits(
        engine,
        "set_header",
        "drop_header",
        |d: &mut ProxyDecision| &mut d.response_headers,
    );
}

fn register_edits(
    engine: &mut Engine,
    set: &'static str,
    drop: &'static str,
    edits: fn(&mut ProxyDecision) -> &mut HeaderEdits,
) {
    engine.register_fn(
        set,
        move |draft: &mut ProxyDraft, name: &str, value: Dynamic| {
            let edit = (header_name(set, name)?, Some(header_value(set, &value)?));
            edited(draft, edits, edit)
        },
    );
    engine.register_fn(drop, move |draft: &mut ProxyDraft, name: &str| {
        let edit = (header_name(drop, name)?, None);
        edited(draft, edits, edit)
    });
}

fn edited<T: Clone>(
    draft: &mut Draft<T>,
    edits: fn(&mut T) -> &mut HeaderEdits,
    edit: (HeaderName, Option<HeaderValue>),
) -> Raw<Draft<T>> {
    let mut full = false;
    let edited = draft.set(|decision| {
        let edits = &mut edits(decision).edits;
        full = edits.len() >= EDITS_MAX;
        if !full {
            edits.push(edit);
        }
    });
    if full {
        return refuse(format!("a decision has more than {EDITS_MAX} header edits"));
    }
    Ok(edited)
}

fn register_answers(engine: &mut Engine) {
    engine.register_type_with_name::<RedirectDraft>("redirect");
    engine.register_fn(
        "redirect",
        |status: INT, location: &str| -> Raw<RedirectDraft> {
            let status = match status {
                301 | 302 | 303 | 307 | 308 => {
                    StatusCode::from_u16(status as u16).unwrap_or_default()
                }
                _ => {
                    return refuse(format!(
                        "redirect: {status} is no redirect (301, 302, 303, 307 or 308)"
                    ));
                }
            };
            if location.is_empty() {
                return refuse("redirect: the location is empty");
            }
            Ok(Draft::new(Redirect {
                status,
                location: header_value("redirect", &location.into())?,
                headers: HeaderEdits::default(),
            }))
        },
    );
    engine.register_fn(
        "header",
        |draft: &mut RedirectDraft, name: &str, value: Dynamic| {
            let edit = (
                header_name("header", name)?,
                Some(header_value("header", &value)?),
            );
            edited(draft, |d| &mut d.headers, edit)
        },
    );
    engine.register_fn("retry_after", |draft: &mut RedirectDraft, time: Dynamic| {
        let seconds = named_time("retry_after", &time)?.as_secs_f64().ceil() as u64;
        let edit = (header::RETRY_AFTER, Some(HeaderValue::from(seconds)));
        edited(draft, |d| &mut d.headers, edit)
    });

    engine.register_type_with_name::<ReplyDraft>("response");
    engine.register_fn("respond", |status: INT| respond(status, ""));
    engine.register_fn("respond", respond);
    engine.register_fn(
        "header",
        |draft: &mut ReplyDraft, name: &str, value: Dynamic| {
            let edit = (
                header_name("header", name)?,
                Some(header_value("header", &value)?),
            );
            edited(draft, |d| &mut d.headers, edit)
        },
    );
    engine.register_fn("retry_after", |draft: &mut ReplyDraft, time: Dynamic| {
        let time = named_time("retry_after", &time)?;
        done(draft.set(|d| d.retry_after = Some(time)))
    });
}

fn respond(status: INT, body: &str) -> Raw<ReplyDraft> {
    // Below 200 an answer is an interim one, which is the core's to make.
    let status = u16::try_from(status)
        .ok()
        .filter(|code| (200..=599).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok());
    let Some(status) = status else {
        return refuse("respond: the status is not one of 200 to 599");
    };
    Ok(Draft::new(Reply {
        status,
        body: body.into(),
        retry_after: None,
        headers: HeaderEdits::default(),
    }))
}

fn register_rules(engine: &mut Engine) {
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

/// Whether it can stand in a request line as a path: `/`, then what a URI's path may have.
fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains(['?', '#'])
        && path.parse::<http::uri::PathAndQuery>().is_ok()
}

fn time(value: &Dynamic) -> Raw<Duration> {
    duration(value).or_else(refuse)
}

fn named_time(function: &str, value: &Dynamic) -> Raw<Duration> {
    duration::duration(value).or_else(|message| refuse(format!("{function}: {message}")))
}

fn positive(function: &str, value: &Dynamic) -> Raw<Duration> {
    let time = named_time(function, value)?;
    if time.is_zero() {
        return refuse(format!("{function}: the time must be longer than zero"));
    }
    Ok(time)
}

fn header_name(function: &str, name: &str) -> Raw<HeaderName> {
    let parsed: Result<HeaderName, InvalidHeaderName> = HeaderName::from_bytes(name.as_bytes());
    let Ok(parsed) = parsed else {
        return refuse(format!("{function}: {name:?} is not a header name"));
    };
    // These frame the message on its connection (RFC 9110 §7.6.1, RFC 9112 §6): they are the core's.
    const FRAMING: [HeaderName; 7] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
    ];
    if FRAMING.contains(&parsed) {
        return refuse(format!(
            "{function}: {name:?} belongs to the connection and cannot be changed"
        ));
    }
    Ok(parsed)
}

fn header_value(function: &str, value: &Dynamic) -> Raw<HeaderValue> {
    let plain = value.is_string() || value.is_int() || value.is_float() || value.is_bool();
    let text = value.to_string();
    if text.len() > HEADER_BYTES_MAX {
        return refuse(format!(
            "{function}: the value is longer than {HEADER_BYTES_MAX} bytes"
        ));
    }
    match HeaderValue::from_str(&text) {
        Ok(parsed) if plain => Ok(parsed),
        _ => refuse(format!("{function}: {text:?} cannot be in a header")),
    }
}
