//! `proxy(…)` and what can be said of how a request is forwarded.

use rhai::{Dynamic, Engine, INT, Map};

use super::edits::{edited, header_name, header_value, values};
use super::{Draft, ProxyDraft, is_path};
use crate::decision::{Asleep, CreateFrom, Destination, HeaderEdits, ProxyDecision};
use crate::names::{NAME_BYTES_MAX, WorkloadName};
use crate::script::documented::Documented as _;
use crate::script::engine::{Raw, refuse};
use crate::script::facts::json_object;
use crate::script::rules::{named_time, positive};

pub fn register(engine: &mut Engine) {
    engine.register_type_with_name::<ProxyDraft>("ProxyDecision");
    engine.document(
        "proxy(name: String) -> ProxyDecision",
        r#"Forwards the request to the workload of that name, which is woken where it sleeps.
        A name that no workload can have is an error: `is_name(name)` tells beforehand.
        ```rhai
        route("/app/{name}/{*rest}", |req| proxy(req.param("name")).strip(2));
        ```"#,
        |name: &str| -> Raw<ProxyDraft> {
            match WorkloadName::new(name) {
                Ok(name) => Ok(Draft::new(ProxyDecision::to(name))),
                Err(error) => refuse(format!("proxy: {error}")),
            }
        },
    );
    engine.document(
        "is_name(text: String) -> bool",
        &format!(
            "Whether a workload can have that name: a letter or digit, then letters, digits, `_`, `.` \
             and `-`, {NAME_BYTES_MAX} bytes at the most."
        ),
        |text: &str| WorkloadName::new(text).is_ok(),
    );
    register_target(engine);
    register_times(engine);
    register_wake(engine);
    register_edits(
        engine,
        &Edits {
            set: "set_request_header",
            drop: "drop_request_header",
            message: "the request that is forwarded",
            edits: |d| &mut d.request_headers,
        },
    );
    register_edits(
        engine,
        &Edits {
            set: "set_header",
            drop: "drop_header",
            message: "the application's answer",
            edits: |d| &mut d.response_headers,
        },
    );
}

/// Where it goes in the workload.
fn register_target(engine: &mut Engine) {
    engine.document(
        "port(decision: ProxyDecision, port: int) -> ProxyDecision",
        "The port of the application, 1 to 65535.
        Without it, the one that the workload's label wakegate.port names, else its labels for
        Traefik, else the lowest that its image exposes.",
        |draft: &mut ProxyDraft, port: INT| match u16::try_from(port) {
            Ok(port) if port > 0 => Ok(draft.set(|d| d.port = Some(port))),
            _ => refuse(format!("port: {port} is not a port (1 to 65535)")),
        },
    );
    engine.document(
        "strip(decision: ProxyDecision, segments: int) -> ProxyDecision",
        "Drops so many segments from the beginning of the path: with 2, `/app/shop/cart` is `/cart`.
        A path that has fewer becomes `/`. The query stays. Default 0.",
        |draft: &mut ProxyDraft, segments: INT| match usize::try_from(segments) {
            Ok(segments) => Ok(draft.set(|d| d.strip = segments)),
            Err(_) => refuse(format!("strip: {segments} is not a number of segments")),
        },
    );
    engine.document(
        "path(decision: ProxyDecision, path: String) -> ProxyDecision",
        r#"Asks the application for this path instead of the request's own. The query stays.
        It starts with `/`, is percent-encoded and has no query; anything else is an error.
        What `strip` drops is dropped from this path.
        ```rhai
        proxy("shop").path("/v2" + req.path)
        ```"#,
        |draft: &mut ProxyDraft, path: &str| {
            if is_path(path) {
                Ok(draft.set(|d| d.path = Some(path.to_owned())))
            } else {
                refuse(format!(
                    "path: {path:?} is not a path: it starts with '/', is percent-encoded and has no query"
                ))
            }
        },
    );
}

fn register_times(engine: &mut Engine) {
    engine.document(
        "timeout(decision: ProxyDecision, time: int | float | String) -> ProxyDecision",
        r#"How long the application may take to begin its answer; then the client gets a 504.
        Seconds, or text such as "1m30s"; longer than zero. Default: response_timeout under [upstream]."#,
        |draft: &mut ProxyDraft, time: Dynamic| {
            let time = positive("timeout", &time)?;
            done(draft.set(|d| d.timeout = Some(time)))
        },
    );
    engine.document(
        "wait(decision: ProxyDecision, time: int | float | String) -> ProxyDecision",
        r#"How long the request may be held while the workload wakes; then the client gets a 504, and
        the workload goes on waking. Seconds, or text such as "1m30s". Default: time under [hold]."#,
        |draft: &mut ProxyDraft, time: Dynamic| {
            let time = named_time("wait", &time)?;
            done(draft.set(|d| d.wait = Some(time)))
        },
    );
}

/// What it means for a workload that sleeps or is not there.
fn register_wake(engine: &mut Engine) {
    engine.document(
        "asleep(decision: ProxyDecision, what: String) -> ProxyDecision",
        r#"What happens to the request while the workload is not awake.
        "hold" wakes it and holds the request until it is ready; the default.
        "page" wakes it and shows a waiting page to a browser that navigates; other requests are held.
        "redirect" wakes it, holds the request until it is ready and the proxy in front of the gateway
        (see [traefik] in gateway.toml) has its route, and redirects to the same URL (307).
        "refuse" answers 503 and lets it sleep."#,
        |draft: &mut ProxyDraft, what: &str| {
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
        },
    );
    engine.document(
        "follows(decision: ProxyDecision, follows: bool) -> ProxyDecision",
        r#"With true, asleep("redirect") also redirects requests that have a body or a method other than
        GET and HEAD: their clients are known to follow a 307 with both. Default false: those are held
        and forwarded, as many programs do not follow. Never redirected are bodies of more than 64 KiB
        or of unknown length, websockets' handshakes, and what a page of another origin asks for.
        ```rhai
        proxy("shop").asleep("redirect").follows(req.header("user-agent").starts_with("ShopApp/"))
        ```"#,
        |draft: &mut ProxyDraft, follows: bool| draft.set(|d| d.follows = follows),
    );
    engine.document(
        "counts(decision: ProxyDecision, counts: bool) -> ProxyDecision",
        "With false the request is no use of the workload: it does not put off its sleep. Default true.",
        |draft: &mut ProxyDraft, counts: bool| draft.set(|d| d.counts = counts),
    );
    engine.document(
        "create(decision: ProxyDecision, template: String, vars: Map) -> ProxyDecision",
        r#"Makes the workload with a template where there is none of its name yet.
        The template's closure gets `vars`, which is a map of what JSON can say: text, numbers, true
        and false, (), arrays and maps. A template that no script has is an error.
        ```rhai
        proxy("shop-1").create("shop", #{ id: 1 })
        ```"#,
        |draft: &mut ProxyDraft, template: &str, vars: Map| -> Raw<ProxyDraft> {
            if let Destination::App { name, .. } = &draft.0.destination {
                return refuse(format!(
                    "create: app({:?}) goes to a release, which is made of its launch configuration; \
                     proxy(…) can be told to create",
                    name.as_str()
                ));
            }
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
}

/// Two setters for the headers of one of the two messages.
struct Edits {
    set: &'static str,
    drop: &'static str,
    message: &'static str,
    edits: fn(&mut ProxyDecision) -> &mut HeaderEdits,
}

fn register_edits(engine: &mut Engine, edits: &Edits) {
    let &Edits {
        set,
        drop,
        message,
        edits,
    } = edits;
    engine.document(
        &format!(
            "{set}(decision: ProxyDecision, name: String, value: String | int | float | bool) \
             -> ProxyDecision"
        ),
        &format!(
            "Sets a header of {message}, in place of what it has of that name.\n{}",
            values()
        ),
        move |draft: &mut ProxyDraft, name: &str, value: Dynamic| {
            let edit = (header_name(set, name)?, Some(header_value(set, &value)?));
            edited(draft, edits, edit)
        },
    );
    engine.document(
        &format!("{drop}(decision: ProxyDecision, name: String) -> ProxyDecision"),
        &format!("Takes a header away from {message}, if it has it."),
        move |draft: &mut ProxyDraft, name: &str| {
            let edit = (header_name(drop, name)?, None);
            edited(draft, edits, edit)
        },
    );
}

/// Gives a closure's result its type.
fn done<T>(value: T) -> Raw<T> {
    Ok(value)
}
