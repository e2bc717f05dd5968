//! The status page: its files as they are in this program, and the headers that keep it to itself.
//!
//! The files hold no data. Everything that the page shows and does goes through the API, with the
//! token where there is one, so the files are given to all who may address the listener.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue};

use crate::admin::auth::{self, Guard};
use crate::admin::routes::{Doors, unknown_method};

/// What a browser may do for the page: load these files, talk to this listener, and no more. The
/// last two directives make a browser refuse to take any text for markup.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// With `no-referrer` browsers may send `Origin: null` to ourselves, which the guard refuses.
const REFERRER: &str = "same-origin";

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// One file of the page.
#[derive(Clone, Copy)]
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($path:literal $content_type:ident $name:literal),* $(,)?) => {
        &[$(File {
            path: $path,
            content_type: $content_type,
            text: include_str!(concat!("page/", $name)),
        }),*]
    };
}

const FILES: &[File] = files![
    "/" HTML "status.html",
    "/page/status.css" CSS "status.css",
    "/page/icon.svg" SVG "icon.svg",
    "/page/status.js" SCRIPT "status.js",
    "/page/actions.js" SCRIPT "actions.js",
    "/page/api.js" SCRIPT "api.js",
    "/page/applications.js" SCRIPT "applications.js",
    "/page/dom.js" SCRIPT "dom.js",
    "/page/format.js" SCRIPT "format.js",
    "/page/more.js" SCRIPT "more.js",
    "/page/releases.js" SCRIPT "releases.js",
    "/page/scripts.js" SCRIPT "scripts.js",
    "/page/traffic.js" SCRIPT "traffic.js",
    "/page/workloads.js" SCRIPT "workloads.js",
];

/// The routes of the page: outside the token check, since a browser that opens a page has no way to
/// send one, and inside the rest of the guard.
pub fn routes(guard: Arc<Guard>) -> Router<Arc<Doors>> {
    let routes = FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(async || *file))
    });
    routes
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(guard, auth::check_address))
}

impl IntoResponse for File {
    fn into_response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, self.content_type),
            (CONTENT_SECURITY_POLICY, CONTENT_SECURITY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, REFERRER),
            (RESOURCE_POLICY, "same-origin"),
            // After an update of the gateway no old script may meet a new API.
            (CACHE_CONTROL, "no-cache"),
        ];
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
        (headers, self.text).into_response()
    }
}
