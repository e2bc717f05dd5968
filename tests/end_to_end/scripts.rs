//! The scripts of the lines: the shipped one, and others where a line needs them.

/// What comes with the gateway.
pub const SHIPPED: &str = include_str!("../../scripts/session.rhai");

/// Requests as in the shipped script.
const ROUTE: &str = r#"route("/session/{name}/{*rest}", |req| proxy(req.param("name")));
"#;

/// Readiness as in the shipped script.
const READY: &str = r#"ready(|c| probe(c.label("healthcheck")));
"#;

/// The gateway's idle time comes from a label, so that it is not the application's own.
const IDLE_BY_LABEL: &str = r#"
idle(|c| {
    let sleep = c.label("sleep");
    if sleep == "" { never() } else { stop_after(sleep) }
});
"#;

/// The shipped script with more after it.
pub fn shipped_and(more: &str) -> String {
    format!("{SHIPPED}\n{more}")
}

/// Containers sleep only after the time in their label `sleep`, or by themselves.
pub fn idle_by_label() -> String {
    [ROUTE, READY, IDLE_BY_LABEL].concat()
}

/// The same with a probe that gives up after that time.
pub fn giving_up_after(limit: &str) -> String {
    let ready = format!("ready(|c| probe(c.label(\"healthcheck\"), \"20ms\", \"{limit}\"));\n");
    [ROUTE, &ready, IDLE_BY_LABEL].concat()
}
