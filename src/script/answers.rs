//! What handlers answer: the decisions and rules that a script builds, checked as they are built.

mod app;
mod edits;
mod proxy;
mod reply;

use std::sync::Arc;

use rhai::{Dynamic, Engine};

use crate::decision::{Decision, ProxyDecision, Redirect, Reply};

pub use app::{CANARY, NAME as APP, canary};

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
            "the route returned {}, which is no decision; it returns proxy(…), app(…), redirect(…), respond(…) or ()",
            shown(&other)
        )),
    }
}

/// What `on_error` returned.
pub fn reply(answer: Dynamic) -> Result<Option<Reply>, String> {
    optional::<ReplyDraft>(answer, "on_error", "respond(…)")
        .map(|draft| draft.map(|draft| Arc::unwrap_or_clone(draft.0)))
}

pub fn optional<T: Clone + Send + Sync + 'static>(
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
        name if name.contains("BusySign") => "a sign of use",
        "i64" | "f64" => "the number",
        "string" => "the text",
        "bool" => "the value",
        "map" => "a map",
        "array" => "an array",
        "Fn" => "a function (is its call missing?)",
        name if name.ends_with("::Request") => "the request itself",
        name if name.ends_with("::Container") => "the container itself",
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
    proxy::register(engine);
    app::register(engine);
    reply::register(engine);
}

/// Whether it can stand in a request line as a path: `/`, then what a URI's path may have.
pub fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains(['?', '#'])
        && path.parse::<http::uri::PathAndQuery>().is_ok()
}
