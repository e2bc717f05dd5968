//! `app(…)` and which release of an application gets a request.

use rhai::{Dynamic, Engine};

use super::{Draft, ProxyDraft, shown};
use crate::decision::{Canary, Destination, ProxyDecision};
use crate::names::AppName;
use crate::script::documented::Documented as _;
use crate::script::engine::{Raw, refuse};

/// The function's name, which the static checks look for.
pub const NAME: &str = "app";

/// Likewise.
pub const CANARY: &str = "canary";

pub fn register(engine: &mut Engine) {
    engine.document(
        "app(name: String) -> ProxyDecision",
        r#"Forwards the request to the current release of an application of gateway.toml, which is woken
        where it sleeps. What `proxy` can be told this can be told too, but for `create`.
        A name that gateway.toml does not have is refused when the scripts are loaded, where it stands
        in quotes; one that is only known with the request gets a 404.
        ```rhai
        route("shop.example.com/{*rest}", |req| app("shop").timeout("30s"));
        ```"#,
        |name: &str| -> Raw<ProxyDraft> {
            match AppName::new(name) {
                Ok(name) => Ok(Draft::new(ProxyDecision::to_app(name))),
                Err(error) => refuse(format!("{NAME}: {error}")),
            }
        },
    );
    engine.document(
        "canary(decision: ProxyDecision, percent: int | float) -> ProxyDecision",
        r#"While a release is tried as a canary, so many of a hundred clients that have no cookie of it yet
        go to it. A client keeps to the release that it got first, by a cookie of the gateway.
        The percentage is a number from 0 to 100; any other is refused when the scripts are loaded, where
        it stands there, and else is an error of the request.
        0 and 100 count for each request whatever cookie it has: with them the script itself chooses.
        Without this, and while no release is tried, all requests go to the current one.
        ```rhai
        if req.header("x-beta") == "1" { app("shop").canary(100) } else { app("shop").canary(10) }
        ```"#,
        |draft: &mut ProxyDraft, percent: Dynamic| -> Raw<ProxyDraft> {
            let canary = canary(&percent).or_else(refuse)?;
            let mut is_app = false;
            let told = draft.set(|decision| {
                if let Destination::App { canary: of, .. } = &mut decision.destination {
                    *of = canary;
                    is_app = true;
                }
            });
            if is_app {
                Ok(told)
            } else {
                refuse("canary: proxy(…) goes to one container; app(…) has releases to choose from")
            }
        },
    );
}

/// Who a percentage sends to the release that is tried; the error says what is wrong with it.
pub fn canary(percent: &Dynamic) -> Result<Canary, String> {
    let number = percent.as_int().map(|number| number as f64);
    let number = number.or_else(|_| percent.as_float()).ok();
    match number.and_then(Canary::percent) {
        Some(canary) => Ok(canary),
        None => Err(format!(
            "{CANARY}: {} is no percentage: that is a number from 0 to 100",
            shown(percent)
        )),
    }
}
