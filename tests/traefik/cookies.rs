//! A cookie names the container: Traefik routes by it, and the gateway answers for the rest.

use std::path::{Path, PathBuf};

use reqwest::Method;

use crate::bench::{Bench, Sample};
use crate::client::Answer;
use crate::lines;
use crate::traefik::Traefik;
use crate::visitor::{House, router_of};

lines![
    a_cookie_wakes_its_container_and_routes_to_it,
    without_a_valid_cookie_the_fallback_is_where_one_is_sent,
];

const RECIPE: &str =
    include_str!("../../examples/scripts/cookie-beside-traefik/cookie-beside-traefik.rhai");

async fn house(bench: &Bench, program: &Path) -> House {
    let house = House::with(bench, program, &[], |setup| setup.script(RECIPE)).await;
    house
        .traefik
        .route_to_gateway(&house.gateway.public, "/")
        .await;
    house
}

/// With the labels that the recipe's template makes.
fn chosen_by_cookie(house: &House, short: &str) -> Sample {
    let sample = house.bench.sample(short);
    let name = sample.name().to_owned();
    let router = format!("traefik.http.routers.{name}");
    sample
        .label("traefik.enable", "true")
        .label(&format!("{router}.entrypoints"), "web")
        .label(
            &format!("{router}.rule"),
            &format!("HeaderRegexp(`Cookie`, `(^|; )instance={name}(;|$)`)"),
        )
}

async fn ask(traefik: &Traefik, house: &House, path: &str, cookie: &str) -> Answer {
    let request = house.visitor().request(Method::GET, &traefik.url(path));
    Answer::to(request.header("cookie", cookie)).await
}

async fn a_cookie_wakes_its_container_and_routes_to_it(bench: Bench, program: PathBuf) {
    let house = house(&bench, &program).await;
    let samples = ["a", "b"].map(|short| chosen_by_cookie(&house, short));
    for sample in &samples {
        house.asleep(sample).await;
    }
    for (n, (sample, short)) in samples.iter().zip(["a", "b"]).enumerate() {
        let cookie = format!("theme=dark; instance={}; x=y", sample.name());
        let first = ask(&house.traefik, &house, "/some/page?q=1", &cookie).await;
        assert_eq!(first.status, 307, "{}", first.text());
        assert_eq!(first.header("location"), "/some/page?q=1");
        let second = ask(&house.traefik, &house, "/some/page?q=1", &cookie).await;
        assert_eq!(second.ok()["connstr"], format!("db {short}"));
        let answered = house.traefik.until_answered(2 * n + 2).await;
        assert!(answered[2 * n].is_gateways(), "{answered:?}");
        assert_eq!(answered[2 * n + 1].router, router_of(sample));
    }
}

async fn without_a_valid_cookie_the_fallback_is_where_one_is_sent(bench: Bench, program: PathBuf) {
    let house = house(&bench, &program).await;
    let gone = format!("instance={}", bench.name("gone"));
    for cookie in [
        "",
        "instance=",
        "instance=a/b",
        "theme=dark",
        "instance=..",
        &gone,
    ] {
        let answer = ask(&house.traefik, &house, "/some/page", cookie).await;
        assert_eq!(answer.status, 303, "{cookie}: {}", answer.text());
        assert_eq!(answer.header("location"), "/instances", "{cookie}");
        assert_eq!(answer.header("cache-control"), "no-store");
        // Where one is sent there is an answer, whatever the cookie.
        let there = ask(&house.traefik, &house, "/instances", cookie).await;
        assert_eq!(there.status, 200, "{cookie}");
    }
}
