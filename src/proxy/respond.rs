//! Every answer that the gateway makes itself: errors, the waiting page, and what scripts say.

mod problem;

use std::time::Duration;

use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, RETRY_AFTER,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use serde_json::json;
use tracing::error;

use crate::decision::{Redirect, Reply, RequestFacts};
use crate::proxy::body::AnswerBody;
use crate::proxy::headers;
use crate::proxy::page::{Page, whole_seconds};
use crate::proxy::ports::OnError;
use crate::target;

pub use problem::Problem;

/// Where the id of an error stands in an answer, whoever has written its body.
pub const ERROR_ID: HeaderName = HeaderName::from_static("wakegate-error");

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Our pages bring their own style and nothing else.
const PAGE_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");

/// How soon a browser on the waiting page asks again.
const PAGE_REFRESH: Duration = Duration::from_secs(1);

/// Answers a request that is not forwarded: in the scripts' words if they have some.
/// `app`: the application that it is for, or `""`. Counts in `script_failed` what scripts did wrong.
pub fn problem(
    problem: &Problem,
    app: &str,
    request: &RequestFacts<'_>,
    scripts: Option<&impl OnError>,
    mut script_failed: impl FnMut(),
) -> Response<AnswerBody> {
    let id = format!("{:016x}", fastrand::u64(..));
    problem.log(&id, app, request);
    if problem.is_scripts_fault() {
        script_failed();
    }
    let said = match scripts.map(|scripts| scripts.on_error(request, &problem.facts(app))) {
        Some(Ok(said)) => said,
        Some(Err(failure)) => {
            script_failed();
            let failure = failure.in_full();
            error!(
                id,
                "on_error failed on request {id}; the built-in answer goes out: {failure}"
            );
            None
        }
        None => None,
    };
    let mut response = match said {
        Some(said) => reply(&said),
        None => built_in(problem, app, &id, request.headers),
    };
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(ERROR_ID, id);
    }
    response
}

fn built_in(problem: &Problem, app: &str, id: &str, asked: &HeaderMap) -> Response<AnswerBody> {
    let status = problem.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let detail = problem.detail();
    let mut response = if prefers_html(asked) {
        let page = Page {
            title,
            heading: title,
            paragraphs: &[&sentence(&detail)],
            footnote: Some(&format!("{} {id}", status.as_u16())),
            refresh: None,
            moving: false,
        };
        html(page.render())
    } else {
        let mut problem_details = json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
            "instance": id,
            "kind": problem.kind(),
        });
        if !problem.workload().is_empty() {
            problem_details["workload"] = problem.workload().into();
        }
        if !app.is_empty() {
            problem_details["app"] = app.into();
        }
        let mut response = Response::new(AnswerBody::made(problem_details.to_string()));
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM);
        response
    };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(VARY, HeaderValue::from_static("accept"));
    if let Some(after) = problem.retry_after() {
        headers.insert(RETRY_AFTER, whole_seconds(after).into());
    }
    response
}

/// The page that a browser waits on while a workload wakes; asks again by itself. `name`: what people
/// know it as.
pub fn waiting_page(name: &str) -> Response<AnswerBody> {
    let page = Page {
        title: &format!("Waking {name}"),
        heading: &format!("Waking {name}"),
        paragraphs: &[
            "It was asleep because nobody was using it, and it is starting now.",
            "This page opens it by itself as soon as it answers.",
        ],
        footnote: None,
        refresh: Some(PAGE_REFRESH),
        moving: true,
    };
    not_yet(page, PAGE_REFRESH)
}

/// The same page when the workload cannot be woken now: says why, and asks again later.
pub fn failed_page(name: &str, reason: &str, after: Duration) -> Response<AnswerBody> {
    let again = format!(
        "It is tried again, and this page asks again in {} s.",
        whole_seconds(after)
    );
    let page = Page {
        title: &format!("{name} cannot be started"),
        heading: &format!("{name} cannot be started"),
        paragraphs: &[&sentence(reason), &again],
        footnote: None,
        refresh: Some(after),
        moving: false,
    };
    not_yet(page, after)
}

fn not_yet(page: Page<'_>, after: Duration) -> Response<AnswerBody> {
    let mut response = html(page.render());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(RETRY_AFTER, whole_seconds(after).into());
    response
}

fn html(page: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::made(page));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HTML);
    headers.insert(CONTENT_SECURITY_POLICY, PAGE_POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What a script says in place of an application.
pub fn reply(reply: &Reply) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::made(reply.body.as_bytes().to_vec()));
    // Only an upgrade that took place may say 1xx.
    *response.status_mut() = if reply.status.is_informational() {
        StatusCode::BAD_GATEWAY
    } else {
        reply.status
    };
    let headers = response.headers_mut();
    if !reply.body.is_empty() {
        headers.insert(CONTENT_TYPE, TEXT);
    }
    if let Some(after) = reply.retry_after {
        headers.insert(RETRY_AFTER, whole_seconds(after).into());
    }
    headers::apply(&reply.headers, headers);
    response
}

/// A redirect on a script's word.
pub fn redirect(redirect: &Redirect) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::made(""));
    *response.status_mut() = redirect.status;
    let headers = response.headers_mut();
    headers.insert(LOCATION, redirect.location.clone());
    headers::apply(&redirect.headers, headers);
    response
}

/// The same URL again, now that the workload is awake: for use behind another proxy.
pub fn ask_again(asked: &Uri) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::made(""));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    if let Ok(location) = HeaderValue::try_from(target::location_of(asked)) {
        headers.insert(LOCATION, location);
    }
    response
}

/// The answer to `OPTIONS *`, which asks about the gateway itself (RFC 9110 §9.3.7).
pub fn options() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::made(""));
    response.headers_mut().insert(
        ALLOW,
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    );
    response
}

/// Whether a request is a browser going to a page, rather than a page asking for data.
pub fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    if method != Method::GET && method != Method::HEAD {
        return false;
    }
    match headers.get("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => prefers_html(headers),
    }
}

/// Whether `text/html` is asked for by name, and no less than JSON.
fn prefers_html(headers: &HeaderMap) -> bool {
    let mut html = 0.0_f32;
    let mut json = 0.0_f32;
    let ranges = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    for range in ranges {
        let mut parameters = range.split(';').map(str::trim);
        let media = parameters.next().unwrap_or("").to_ascii_lowercase();
        let quality = parameters
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(1.0, |(_, quality)| quality.trim().parse().unwrap_or(0.0));
        match media.as_str() {
            "text/html" | "application/xhtml+xml" => html = html.max(quality),
            "application/json" | "application/problem+json" => json = json.max(quality),
            _ => {}
        }
    }
    html > 0.0 && html >= json
}

/// `text` with a capital letter at its beginning and a full stop at its end.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase());
    let mut sentence: String = first.into_iter().flatten().chain(characters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decision::ScriptFailure;

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_who_names_html_gets_html() {
        assert!(prefers_html(&accept(
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        )));
        assert!(prefers_html(&accept("application/json;q=0.5, TEXT/HTML")));
        for not in [
            "*/*",
            "application/json",
            "text/html;q=0",
            "text/html;q=0.1, application/json",
        ] {
            assert!(!prefers_html(&accept(not)), "{not}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }

    #[test]
    fn a_navigation_is_told_by_fetch_metadata_or_else_by_accept() {
        let mut headers = accept("text/html");
        assert!(is_navigation(&Method::GET, &headers));
        assert!(is_navigation(&Method::HEAD, &headers));
        assert!(!is_navigation(&Method::POST, &headers));
        headers.insert("sec-fetch-mode", HeaderValue::from_static("cors"));
        assert!(!is_navigation(&Method::GET, &headers));
        headers.insert("sec-fetch-mode", HeaderValue::from_static("navigate"));
        headers.remove(ACCEPT);
        assert!(is_navigation(&Method::GET, &headers));
    }

    #[test]
    fn the_log_has_the_answers_id_and_the_place_that_the_answer_hides() {
        let log = crate::log::captured::logged(|| {
            let head = http::Request::get("/x").body(()).unwrap().into_parts().0;
            let peer = crate::proxy::facts::Peer::new(None, &[]);
            let inbound = crate::proxy::facts::Inbound {
                peer,
                client: peer.address,
                scheme: "http",
                host: None,
                at: 0,
            };
            let failed = Problem::Script(ScriptFailure {
                message: "scripts/a.rhai:3:7: no such thing".to_owned(),
                source_line: Some("let secret = 1;".to_owned()),
            });
            let scripts = None::<&Arc<crate::script::version::Version>>;
            let response = problem(&failed, "", &inbound.facts(&head), scripts, || {});
            response.headers()[ERROR_ID].to_str().unwrap().to_owned()
        });
        let (id, line) = log;
        assert_eq!(id.len(), 16);
        for told in [
            &*id,
            "ERROR",
            "script_failed",
            "scripts/a.rhai:3:7",
            "let secret = 1;",
        ] {
            assert!(line.contains(told), "{told} is not in {line}");
        }
    }
}
