//! `redirect(…)` and `respond(…)`: answers that the gateway gives by itself.

use http::StatusCode;
use http::header::{self, HeaderValue};
use rhai::{Dynamic, Engine, INT};

use super::edits::{edited, header_name, header_value, values};
use super::{Draft, RedirectDraft, ReplyDraft};
use crate::decision::{HeaderEdits, Redirect, Reply};
use crate::script::documented::Documented as _;
use crate::script::engine::{Raw, refuse};
use crate::script::rules::named_time;

const RETRY_AFTER: &str = r#"Tells the client when to ask again, with a Retry-After header in whole seconds, rounded up.
Seconds, or text such as "1m30s"."#;

pub fn register(engine: &mut Engine) {
    register_redirect(engine);
    register_response(engine);
}

fn register_redirect(engine: &mut Engine) {
    engine.register_type_with_name::<RedirectDraft>("Redirect");
    engine.document(
        "redirect(status: int, location: String) -> Redirect",
        r#"Redirects the client to a URL or path. The status is 301, 302, 303, 307 or 308.
        ```rhai
        route("/old/{*rest}", |req| redirect(308, "/new/" + req.param("rest")));
        ```"#,
        redirect,
    );
    engine.document(
        "header(redirect: Redirect, name: String, value: String | int | float | bool) -> Redirect",
        &format!("Sets a header of the answer.\n{}", values()),
        |draft: &mut RedirectDraft, name: &str, value: Dynamic| {
            let edit = (
                header_name("header", name)?,
                Some(header_value("header", &value)?),
            );
            edited(draft, |d| &mut d.headers, edit)
        },
    );
    engine.document(
        "retry_after(redirect: Redirect, time: int | float | String) -> Redirect",
        RETRY_AFTER,
        |draft: &mut RedirectDraft, time: Dynamic| {
            let seconds = named_time("retry_after", &time)?.as_secs_f64().ceil() as u64;
            let edit = (header::RETRY_AFTER, Some(HeaderValue::from(seconds)));
            edited(draft, |d| &mut d.headers, edit)
        },
    );
}

fn redirect(status: INT, location: &str) -> Raw<RedirectDraft> {
    let status = match status {
        301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(status as u16).unwrap_or_default(),
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
}

fn register_response(engine: &mut Engine) {
    engine.register_type_with_name::<ReplyDraft>("Response");
    engine.document(
        "respond(status: int) -> Response",
        "Answers with a status from 200 to 599 and no body.",
        |status: INT| respond(status, ""),
    );
    engine.document(
        "respond(status: int, body: String) -> Response",
        r#"Answers with a status from 200 to 599 and a body of plain text.
        ```rhai
        route("/robots.txt", |req| respond(200, "User-agent: *\nDisallow: /\n"));
        ```"#,
        respond,
    );
    engine.document(
        "header(response: Response, name: String, value: String | int | float | bool) -> Response",
        &format!(
            "Sets a header of the answer, such as its Content-Type.\n{}",
            values()
        ),
        |draft: &mut ReplyDraft, name: &str, value: Dynamic| {
            let edit = (
                header_name("header", name)?,
                Some(header_value("header", &value)?),
            );
            edited(draft, |d| &mut d.headers, edit)
        },
    );
    engine.document(
        "retry_after(response: Response, time: int | float | String) -> Response",
        RETRY_AFTER,
        |draft: &mut ReplyDraft, time: Dynamic| -> Raw<ReplyDraft> {
            let time = named_time("retry_after", &time)?;
            Ok(draft.set(|d| d.retry_after = Some(time)))
        },
    );
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
