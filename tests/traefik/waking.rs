//! Containers that sleep: their first requests reach the gateway, which wakes them and sends on.

use std::path::PathBuf;

use futures_util::future::join_all;
use reqwest::Method;

use crate::bench::{Bench, until};
use crate::client::Answer;
use crate::lines;
use crate::visitor::{House, router_of};

lines![
    a_request_to_a_sleeping_container_is_sent_on_when_traefik_has_its_route,
    a_hundred_first_requests_are_one_start_and_each_ends_with_200,
    it_sleeps_by_itself_and_wakes_again_and_again,
    with_traefiks_own_throttle_nobody_is_sent_to_a_route_that_is_not_there,
    while_it_starts_slowly_the_gateway_answers_for_it,
    a_url_with_odd_characters_is_asked_for_again_as_it_was,
];

async fn a_request_to_a_sleeping_container_is_sent_on_when_traefik_has_its_route(
    bench: Bench,
    program: PathBuf,
) {
    let house = House::new(&bench, &program).await;
    let sample = house.routed("one");
    let id = house.asleep(&sample).await;
    let visit = house.get(&sample.path("a/b?c=d")).await;
    assert_eq!(visit.statuses(), [307, 200], "{visit:?}");
    let sent_on = &visit.hops[0];
    assert_eq!(sent_on.header("location"), sample.path("a/b?c=d"));
    assert_eq!(sent_on.header("cache-control"), "no-store");
    assert_eq!(visit.last().ok()["query"], "c=d");
    let answered = house.traefik.until_answered(2).await;
    assert!(answered[0].is_gateways(), "{answered:?}");
    assert_eq!(answered[0].status, 307);
    assert_eq!(answered[1].router, router_of(&sample), "{answered:?}");
    assert_eq!(answered[1].status, 200);
    bench.has_started(&id, 1).await;
    // From then on the gateway has nothing to do with it.
    assert_eq!(house.get(&sample.path("")).await.statuses(), [200]);
    // Its line may still be on its way.
    house.gateway.log.line_with("wakegate::requests").await;
    assert_eq!(house.gateways_requests(), 1);
}

async fn a_hundred_first_requests_are_one_start_and_each_ends_with_200(
    bench: Bench,
    program: PathBuf,
) {
    const CLIENTS: usize = 100;
    /// A test that stalls while it sends finds that Traefik has the route before it has sent all.
    const ROUNDS_MAX: usize = 10;
    let house = House::new(&bench, &program).await;
    let sample = house.routed("one");
    let id = house.asleep(&sample).await;
    let mut before = 0;
    for round in 1..=ROUNDS_MAX {
        let visits = join_all((0..CLIENTS).map(|n| {
            let path = sample.path(&format!("?round={round}&n={n}"));
            let (visitor, url) = (house.visitor(), house.traefik.url(&path));
            async move { visitor.get(&url).await }
        }));
        let visits = visits.await;
        let (mut first, mut early) = (0, 0);
        for visit in &visits {
            match visit.statuses()[..] {
                [307, 200] => first += 1,
                // It came when it was awake: Traefik's log tells below who answered it.
                [200] => {}
                // It came when the route was there and the application did not listen yet.
                [502] => {
                    early += 1;
                    continue;
                }
                _ => panic!("{visit:?}"),
            }
            assert_eq!(visit.last().ok()["connstr"], "db one");
        }
        bench.has_started(&id, round).await;
        let after = before + first + CLIENTS;
        let answered = house.traefik.until_answered(after).await;
        assert_eq!(answered.len(), after);
        let (by_gateway, direct): (Vec<_>, Vec<_>) = answered[before..]
            .iter()
            .partition(|request| request.is_gateways());
        let (sent_on, proxied): (Vec<_>, Vec<_>) = by_gateway
            .into_iter()
            .partition(|request| request.status == 307);
        assert_eq!(sent_on.len(), first);
        // Only what comes when it is awake and before Traefik has its route.
        assert!(proxied.len() <= CLIENTS - first - early, "{proxied:?}");
        assert!(proxied.iter().all(|request| request.status == 200));
        let by_route = direct.iter().all(|one| one.router == router_of(&sample));
        assert!(by_route, "{direct:?}");
        let well = direct.iter().filter(|request| request.status == 200);
        assert_eq!(well.count(), direct.len() - early);
        if first == CLIENTS {
            return assert_none_missed(&house).await;
        }
        before = after;
        bench.engine().stop(&id).await;
        house.until_asleep(&sample).await;
    }
    panic!("in none of {ROUNDS_MAX} rounds all were sent before the container was awake");
}

/// Traefik took up the route of each woken container in time.
async fn assert_none_missed(house: &House) {
    let metrics = Answer::to(house.gateway.client.admin(Method::GET, "/metrics")).await;
    let missed = metrics
        .text()
        .lines()
        .find(|line| line.starts_with("wakegate_traefik_routes_missed_total"))
        .map(str::to_owned);
    assert_eq!(
        missed.as_deref(),
        Some("wakegate_traefik_routes_missed_total 0")
    );
}

async fn it_sleeps_by_itself_and_wakes_again_and_again(bench: Bench, program: PathBuf) {
    let house = House::new(&bench, &program).await;
    // Counted from its start, so that it is over the wake and both requests.
    let sample = house.routed("one").env("IDLE", "6s");
    let id = house.asleep(&sample).await;
    for start in 1..=3 {
        // Who asks for the same at once again would be one who goes round in circles.
        let visit = house.get(&sample.path(&format!("?{start}"))).await;
        assert_eq!(visit.statuses(), [307, 200], "{visit:?}");
        bench.has_started(&id, start).await;
        house.until_asleep(&sample).await;
        let output = bench.output(&id).await;
        assert_eq!(output.matches("ends: nobody used it").count(), start);
    }
    let answered = house.traefik.until_answered(6).await;
    let statuses: Vec<u64> = answered.iter().map(|request| request.status).collect();
    assert_eq!(statuses, [307, 200].repeat(3));
}

/// Traefik takes up a change at the most every two seconds, unless it is told otherwise.
async fn with_traefiks_own_throttle_nobody_is_sent_to_a_route_that_is_not_there(
    bench: Bench,
    program: PathBuf,
) {
    let slow = ["--providers.providersThrottleDuration=2s"];
    let house = House::with(&bench, &program, &slow, |setup| setup).await;
    let [first, second] = ["first", "second"].map(|short| house.routed(short));
    house.asleep(&first).await;
    house.asleep(&second).await;
    // The first start is taken up at once, and the second has to wait for the throttle.
    for sample in [&first, &second] {
        let visit = house.get(&sample.path("")).await;
        assert_eq!(visit.statuses(), [307, 200], "{visit:?}");
    }
    let answered = house.traefik.until_answered(4).await;
    assert_eq!(answered[1].router, router_of(&first), "{answered:?}");
    assert_eq!(answered[3].router, router_of(&second), "{answered:?}");
}

/// Traefik routes to a container as soon as it runs, and answers 502 until it listens, unless the
/// container's router retries, as here, where no other container gets its address.
async fn while_it_starts_slowly_the_gateway_answers_for_it(bench: Bench, program: PathBuf) {
    let house = House::new(&bench, &program).await;
    let name = bench.name("slow");
    let retry = format!("traefik.http.middlewares.{name}.retry");
    let sample = house
        .routed("slow")
        .env("BOOT_DELAY", "2s")
        .label(&format!("{retry}.attempts"), "60")
        .label(&format!("{retry}.initialinterval"), "100ms")
        .label(&format!("traefik.http.routers.{name}.middlewares"), &name);
    house.asleep(&sample).await;
    let first = {
        let (visitor, url) = (house.visitor(), house.traefik.url(&sample.path("")));
        tokio::spawn(async move { visitor.get(&url).await })
    };
    // Others come all the time while it starts.
    let mut others = Vec::new();
    until("it is ready", || {
        let (visitor, url) = (house.visitor(), house.traefik.url(&sample.path("")));
        others.push(tokio::spawn(async move { visitor.get(&url).await }));
        async { (house.gateway.client.phase(sample.name()).await == "ready").then_some(()) }
    })
    .await;
    others.push(first);
    assert!(others.len() > 10);
    for other in others {
        let visit = other.await.expect("an answer");
        assert_eq!(visit.last().status, 200, "{visit:?}");
    }
}

async fn a_url_with_odd_characters_is_asked_for_again_as_it_was(bench: Bench, program: PathBuf) {
    let house = House::new(&bench, &program).await;
    let odd = ["a%20b?c=d&e=%2F", "%C3%A9/x?q", "a;b=c/d,e?f=a%26b", "?"];
    for (n, rest) in odd.into_iter().enumerate() {
        let sample = house.routed(&format!("odd-{n}"));
        house.asleep(&sample).await;
        let visit = house.get(&sample.path(rest)).await;
        assert_eq!(visit.statuses(), [307, 200], "{rest}: {visit:?}");
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let report = visit.last().ok();
        assert_eq!(report["path"], sample.path(path));
        let asked = report["query"].as_str().unwrap_or_default();
        assert_eq!(asked, query, "{rest}");
    }
}
