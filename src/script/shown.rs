//! Decisions and rules as people and tests read them: one line, or by field.

use std::time::Duration;

use http::Uri;
use serde_json::{Map, Value, json};

use crate::decision::{
    Canary, Decision, Destination, HeaderEdits, IdleRule, ProxyDecision, ReadyRule, Redirect,
    Reply, RequestFacts, Sleep,
};
use crate::target;

/// Characters of a body or a path that a line shows.
const SHOWN_MAX: usize = 60;

/// One line that differs for decisions that differ, as far as a line can: `proxy a:9000`,
/// `app shop canary 10`, `redirect 302 /x`, `respond 404 "gone"`, `none`. Of headers it tells the names only, as their
/// values may be secrets.
pub fn line(decision: Option<&Decision>) -> String {
    match decision {
        None => "none".to_owned(),
        Some(Decision::Proxy(proxy)) => proxy_line(proxy),
        Some(Decision::Redirect(redirect)) => {
            let Redirect {
                status,
                location,
                headers,
            } = redirect;
            let location = String::from_utf8_lossy(location.as_bytes());
            let line = format!("redirect {} {}", status.as_u16(), cut(&location));
            with_headers(line, "header", headers)
        }
        Some(Decision::Respond(reply)) => {
            let mut line = format!("respond {}", reply.status.as_u16());
            if !reply.body.is_empty() {
                line += &format!(" {:?}", cut(reply.body.trim_end()));
            }
            if let Some(time) = reply.retry_after {
                line += &format!(" retry_after {}", time_text(time));
            }
            with_headers(line, "header", &reply.headers)
        }
    }
}

fn proxy_line(proxy: &ProxyDecision) -> String {
    let mut line = match &proxy.destination {
        Destination::Workload(name) => format!("proxy {name}"),
        Destination::App { name, .. } => format!("app {name}"),
    };
    if let Some(port) = proxy.port {
        line += &format!(":{port}");
    }
    if let Destination::App { canary, .. } = &proxy.destination
        && *canary != Canary::Never
    {
        line += &format!(" canary {}", canary.as_percent());
    }
    let asleep = asleep(proxy);
    if asleep != "hold" {
        line += &format!(" asleep {asleep}");
    }
    if proxy.follows {
        line += " follows true";
    }
    if !proxy.counts {
        line += " counts false";
    }
    if let Some(path) = &proxy.path {
        line += &format!(" path {}", cut(path));
    }
    if proxy.strip > 0 {
        line += &format!(" strip {}", proxy.strip);
    }
    for (name, time) in [("timeout", proxy.timeout), ("wait", proxy.wait)] {
        if let Some(time) = time {
            line += &format!(" {name} {}", time_text(time));
        }
    }
    if let Some(create) = &proxy.create {
        line += &format!(" create {}", create.template);
    }
    let line = with_headers(line, "request_header", &proxy.request_headers);
    with_headers(line, "header", &proxy.response_headers)
}

fn with_headers(mut line: String, word: &str, edits: &HeaderEdits) -> String {
    for (name, value) in &edits.edits {
        let sign = if value.is_some() { "" } else { "-" };
        line += &format!(" {word} {sign}{name}");
    }
    line
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn time_text(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn asleep(proxy: &ProxyDecision) -> &'static str {
    use crate::decision::Asleep::{Hold, Page, Redirect, Refuse};
    match proxy.asleep {
        Hold => "hold",
        Page => "page",
        Redirect => "redirect",
        Refuse => "refuse",
    }
}

/// The fields of a decision by name. Times are in seconds; 0 where the configuration's own holds.
pub fn fields(decision: Option<&Decision>, facts: &RequestFacts<'_>) -> Map<String, Value> {
    let fields = match decision {
        None => json!({ "kind": "none" }),
        Some(Decision::Proxy(proxy)) => proxy_fields(proxy, facts),
        Some(Decision::Redirect(redirect)) => json!({
            "kind": "redirect",
            "status": redirect.status.as_u16(),
            "location": String::from_utf8_lossy(redirect.location.as_bytes()),
            "headers": headers(&redirect.headers),
        }),
        Some(Decision::Respond(reply)) => reply_fields(reply),
    };
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn proxy_fields(proxy: &ProxyDecision, facts: &RequestFacts<'_>) -> Value {
    let mut fields = json!({
        "port": proxy.port.unwrap_or(0),
        "path": forwarded_path(proxy, facts),
        "strip": proxy.strip,
        "timeout": seconds(proxy.timeout),
        "wait": seconds(proxy.wait),
        "asleep": asleep(proxy),
        "follows": proxy.follows,
        "counts": proxy.counts,
        "headers": headers(&proxy.response_headers),
        "request_headers": headers(&proxy.request_headers),
    });
    match &proxy.destination {
        Destination::Workload(name) => {
            let create = proxy.create.as_ref();
            fields["kind"] = "proxy".into();
            fields["workload"] = name.as_str().into();
            fields["template"] = create.map_or("", |create| &create.template).into();
            let vars = create.map(|create| create.vars.clone());
            fields["vars"] = vars.unwrap_or_default().into();
        }
        Destination::App { name, canary } => {
            fields["kind"] = "app".into();
            fields["app"] = name.as_str().into();
            fields["canary"] = canary.as_percent().into();
        }
    }
    fields
}

fn reply_fields(reply: &Reply) -> Value {
    json!({
        "kind": "respond",
        "status": reply.status.as_u16(),
        "body": &*reply.body,
        "retry_after": seconds(reply.retry_after),
        "headers": headers(&reply.headers),
    })
}

fn seconds(time: Option<Duration>) -> f64 {
    time.unwrap_or_default().as_secs_f64()
}

/// By name; a dropped one is null.
fn headers(edits: &HeaderEdits) -> Map<String, Value> {
    let edits = edits.edits.iter();
    edits
        .map(|(name, value)| {
            let value = value.as_ref().map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes());
                Value::String(text.into_owned())
            });
            (name.to_string(), value.unwrap_or(Value::Null))
        })
        .collect()
}

/// What the application is asked for, without the query.
fn forwarded_path(proxy: &ProxyDecision, facts: &RequestFacts<'_>) -> String {
    let asked: Option<Uri> = facts.path.parse().ok();
    let forwarded = asked.and_then(|asked| target::forwarded(&asked, proxy).ok());
    forwarded.map_or_else(|| facts.path.to_owned(), |path| path.path().to_owned())
}

/// A rule by name; `"kind": "none"` where the scripts have none.
pub fn ready_fields(rule: Option<&ReadyRule>) -> Value {
    match rule {
        None => json!({ "kind": "none" }),
        Some(ReadyRule::Wait(after)) => json!({ "kind": "wait", "after": after.as_secs_f64() }),
        Some(ReadyRule::Probe { target, every, max }) => json!({
            "kind": "probe",
            "target": target,
            "every": every.as_secs_f64(),
            "max": max.as_secs_f64(),
        }),
        Some(ReadyRule::Tcp { max }) => json!({ "kind": "tcp", "max": max.as_secs_f64() }),
        Some(ReadyRule::Health { max }) => json!({ "kind": "health", "max": max.as_secs_f64() }),
    }
}

/// The same for when it may sleep.
pub fn idle_fields(rule: Option<&IdleRule>) -> Value {
    let Some(rule) = rule else {
        return json!({ "kind": "none" });
    };
    let Some((after, sleep)) = rule.sleep() else {
        return json!({ "kind": "never" });
    };
    let kind = match sleep {
        Sleep::Stopped => "stop",
        Sleep::Paused => "pause",
    };
    let mut fields = json!({ "kind": kind, "after": after.as_secs_f64() });
    if let Some(sign) = rule.sign() {
        fields["unless_busy"] = sign.to_string().into();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::tests::{ask, load};

    fn shown(answer: &str) -> String {
        let version = load(&format!("route(\"/x/y\", |req| {answer});"));
        line(ask(&version, "/x/y").unwrap().as_ref())
    }

    #[test]
    fn a_line_tells_what_differs_from_the_plain_decision() {
        for (answer, expected) in [
            ("()", "none"),
            ("proxy(\"a\")", "proxy a"),
            ("proxy(\"a\").port(9000)", "proxy a:9000"),
            (
                "proxy(\"a\").asleep(\"redirect\").follows(true)",
                "proxy a asleep redirect follows true",
            ),
            (
                "proxy(\"a\").asleep(\"page\").counts(false).strip(1).path(\"/z\").wait(\"90s\")",
                "proxy a asleep page counts false path /z strip 1 wait 1m 30s",
            ),
            (
                "proxy(\"a\").set_request_header(\"x-key\", \"secret\").drop_header(\"server\")",
                "proxy a request_header x-key header -server",
            ),
            (
                "app(\"shop\").port(80).asleep(\"page\")",
                "app shop:80 asleep page",
            ),
            ("app(\"shop\").canary(0)", "app shop"),
            ("app(\"shop\").canary(12.5)", "app shop canary 12.5"),
            ("app(\"shop\").canary(100)", "app shop canary 100"),
            ("redirect(302, \"/x\")", "redirect 302 /x"),
            ("respond(404)", "respond 404"),
            (
                "respond(503, \"later\\n\").retry_after(5)",
                "respond 503 \"later\" retry_after 5s",
            ),
        ] {
            assert_eq!(shown(answer), expected, "{answer}");
        }
    }

    #[test]
    fn a_long_body_is_cut() {
        let long = format!("respond(200, \"{}\")", "é".repeat(500));
        assert!(shown(&long).chars().count() < 100);
    }
}
