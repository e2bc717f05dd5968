//! Traefik away, failing, or without the route: every client is answered all the same.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::io::copy_bidirectional;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::bench::{Bench, until};
use crate::gateway::Gateway;
use crate::lines;
use crate::traefik::{HIDDEN, Traefik};
use crate::visitor::{House, SHIPPED, Visitor, routed, router_of, setup};

lines![
    while_traefik_is_away_a_time_is_waited_and_that_is_told_once,
    while_the_api_answers_errors_a_time_is_waited_and_that_is_told_once,
    without_an_api_a_time_is_waited,
    a_router_that_never_appears_is_reported_and_the_gateway_answers,
    a_router_that_traefik_refuses_is_reported_with_its_reason,
    a_client_goes_round_twice_and_is_then_answered_by_the_gateway,
    traefik_that_comes_back_is_asked_again,
];

/// What tells that Traefik cannot be asked.
const AWAY: &str = "cannot be asked";

/// What tells that it can be asked again.
const BACK: &str = "answers again";

/// After so long the gateway takes a request for a new one, and not for a redirect that is followed.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(10);

async fn while_traefik_is_away_a_time_is_waited_and_that_is_told_once(
    bench: Bench,
    program: PathBuf,
) {
    let mut traefik = Traefik::start(&bench, &program, &[]).await;
    let gateway = setup(&bench, &traefik).start().await;
    traefik.end();
    // Clients that reach the gateway without it are sent to where they were, and answered there.
    for short in ["one", "two", "three"] {
        let sample = routed(bench.sample(short));
        gateway.client.create(&sample).await;
        let url = format!("http://{}{}", gateway.public, sample.path("x"));
        let visit = Visitor::new().get(&url).await;
        assert_eq!(visit.statuses(), [307, 200], "{visit:?}");
        assert_eq!(visit.last().ok()["connstr"], format!("db {short}"));
    }
    // Its line may still be on its way.
    gateway.log.line_with(AWAY).await;
    assert_eq!(
        gateway.log.lines_with(AWAY).len(),
        1,
        "{}",
        gateway.log.text()
    );
}

/// Answers 500 to everything.
pub async fn failing_api() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

async fn while_the_api_answers_errors_a_time_is_waited_and_that_is_told_once(
    bench: Bench,
    program: PathBuf,
) {
    let api = failing_api().await;
    let house = House::with(&bench, &program, &[], |setup| setup.set("traefik.api", api)).await;
    for short in ["one", "two"] {
        let sample = house.routed(short);
        house.asleep(&sample).await;
        let visit = house.get(&sample.path("")).await;
        // Traefik itself is well, and half a second is long enough for it.
        assert_eq!(visit.statuses(), [307, 200], "{visit:?}");
    }
    house.gateway.log.line_with(AWAY).await;
    let told = house.gateway.log.lines_with(AWAY);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("it answered 500"), "{told:?}");
}

async fn without_an_api_a_time_is_waited(bench: Bench, program: PathBuf) {
    let throttle = "--providers.providersThrottleDuration=200ms";
    let traefik = Traefik::start(&bench, &program, &[throttle]).await;
    let setup = bench.setup().script(SHIPPED);
    // So long that a busy Traefik has the route by then.
    let gateway = setup.set("traefik.settle_time", "5s").start().await;
    traefik.route_to_gateway(&gateway.public, "/session").await;
    let sample = routed(bench.sample("one"));
    gateway.client.create(&sample).await;
    let asked = Instant::now();
    let visit = Visitor::new().get(&traefik.url(&sample.path(""))).await;
    assert_eq!(visit.statuses(), [307, 200], "{visit:?}");
    assert!(asked.elapsed() >= Duration::from_secs(5));
    let answered = traefik.until_answered(2).await;
    assert_eq!(answered[1].router, router_of(&sample), "{answered:?}");
}

async fn a_router_that_never_appears_is_reported_and_the_gateway_answers(
    bench: Bench,
    program: PathBuf,
) {
    let house = House::with(&bench, &program, &[], |setup| {
        setup.set("traefik.route_timeout", "700ms")
    })
    .await;
    let sample = house.routed("one").label(HIDDEN, "yes");
    house.gateway.client.create(&sample).await;
    let asked = Instant::now();
    let visit = house.get(&sample.path("x")).await;
    assert_eq!(visit.statuses(), [200], "{visit:?}");
    assert_eq!(visit.last().ok()["connstr"], "db one");
    assert!(asked.elapsed() >= Duration::from_millis(700));
    let told = house
        .gateway
        .log
        .line_with("the gateway answers its requests itself")
        .await;
    assert!(told.contains("Traefik has none of its routers"), "{told}");
    assert!(told.contains("after 700ms"), "{told}");
    // From then on it is simply the proxy: if each request waited, none would be faster than that.
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let asked = Instant::now();
        assert_eq!(house.get(&sample.path("x")).await.statuses(), [200]);
        fastest = fastest.min(asked.elapsed());
    }
    assert!(fastest < Duration::from_millis(700), "{fastest:?}");
    let answered = house.traefik.until_answered(6).await;
    assert!(answered.iter().all(|request| request.is_gateways()));
}

async fn a_router_that_traefik_refuses_is_reported_with_its_reason(bench: Bench, program: PathBuf) {
    /// A Traefik that stalls is taken for one that is away, and then a time is waited.
    const ROUNDS_MAX: usize = 10;
    let house = House::new(&bench, &program).await;
    for round in 1..=ROUNDS_MAX {
        let sample = house.routed(&format!("round-{round}"));
        let middlewares = format!("traefik.http.routers.{}.middlewares", sample.name());
        let sample = sample.label(&middlewares, "nobody-made-it@docker");
        house.gateway.client.create(&sample).await;
        let visit = house.get(&sample.path("x")).await;
        let was_away = !house.gateway.log.lines_with(AWAY).is_empty();
        if was_away && visit.statuses() == [307, 200] {
            continue;
        }
        // A router that Traefik knows and does not use takes no requests: they reach the gateway.
        assert_eq!(visit.statuses(), [200], "{visit:?}");
        let told = house
            .gateway
            .log
            .line_with("Traefik does not use its router")
            .await;
        assert!(told.contains("nobody-made-it@docker"), "{told}");
        assert!(told.contains("does not exist"), "{told}");
        return;
    }
    panic!("Traefik was away in each of {ROUNDS_MAX} rounds");
}

/// Its router takes other paths, so that its own requests always come back to the gateway, and it
/// is stopped by somebody each time.
async fn a_client_goes_round_twice_and_is_then_answered_by_the_gateway(
    bench: Bench,
    program: PathBuf,
) {
    let house = House::new(&bench, &program).await;
    let sample = house.routed("one");
    let rule = format!("traefik.http.routers.{}.rule", sample.name());
    let sample = sample.label(&rule, "PathPrefix(`/elsewhere/`)");
    let id = house.asleep(&sample).await;
    let ask = |path: &str| {
        let (visitor, url) = (house.visitor(), house.traefik.url(&sample.path(path)));
        async move { crate::client::Answer::to(visitor.request(reqwest::Method::GET, &url)).await }
    };
    // A round is forgotten some seconds after its redirect; where that is over, the next one is the
    // first again. Another URL is another matter, so each attempt has one of its own.
    for attempt in 0..5 {
        let mut statuses = Vec::new();
        // Before the last redirect.
        let mut since = Instant::now();
        let mut in_time = true;
        for _ in 0..4 {
            let asked = Instant::now();
            let answer = ask(&format!("x?{attempt}")).await;
            in_time &= since.elapsed() < FOLLOWS_WITHIN;
            if answer.status == 307 {
                since = asked;
            }
            statuses.push(answer.status);
            bench.engine().stop(&id).await;
            house.until_asleep(&sample).await;
        }
        assert_eq!(statuses[0], 307);
        let answered = house.traefik.until_answered(4 * (attempt + 1)).await;
        assert!(answered.iter().all(|request| request.is_gateways()));
        if in_time {
            return assert_eq!(statuses, [307, 307, 200, 200]);
        }
    }
    panic!("the four requests never were within {FOLLOWS_WITHIN:?}");
}

/// A way to Traefik's API that can be cut.
struct Relay {
    address: std::net::SocketAddr,
    target: String,
    running: Option<AbortHandle>,
}

impl Relay {
    async fn open(&mut self) {
        let listener = until("the port is free", || async {
            TcpListener::bind(self.address).await.ok()
        })
        .await;
        self.address = listener.local_addr().expect("an address");
        let target = self.target.clone();
        let work = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.clone();
                connections.spawn(async move {
                    if let Ok(mut traefik) = TcpStream::connect(target).await {
                        let _ = copy_bidirectional(&mut client, &mut traefik).await;
                    }
                });
            }
        });
        self.running = Some(work.abort_handle());
    }

    async fn cut(&mut self) {
        if let Some(work) = self.running.take() {
            work.abort();
        }
        let refused = || async { TcpStream::connect(self.address).await.err() };
        until("nobody listens", refused).await;
    }
}

async fn traefik_that_comes_back_is_asked_again(bench: Bench, program: PathBuf) {
    let traefik = Traefik::start(&bench, &program, &[]).await;
    let mut relay = Relay {
        address: ([127, 0, 0, 1], 0).into(),
        target: traefik.api.trim_start_matches("http://").to_owned(),
        running: None,
    };
    relay.open().await;
    let setup = setup(&bench, &traefik).set("traefik.api", format!("http://{}", relay.address));
    // So long that a wake which falls back to it is told from one that does not.
    let gateway = setup.set("traefik.settle_time", "3s").start().await;
    traefik.route_to_gateway(&gateway.public, "/session").await;
    let wake = |short: &'static str| {
        let sample = routed(bench.sample(short));
        let (gateway, traefik) = (&gateway, &traefik);
        async move {
            gateway.client.create(&sample).await;
            let asked = Instant::now();
            let visit = Visitor::new().get(&traefik.url(&sample.path(""))).await;
            assert_eq!(visit.statuses(), [307, 200], "{visit:?}");
            asked.elapsed()
        }
    };
    let settle = Duration::from_secs(3);
    wake("first").await;
    relay.cut().await;
    assert!(wake("second").await >= settle);
    assert!(is_away(&gateway), "{}", gateway.log.text());
    relay.open().await;
    wake("third").await;
    until("that it answers again is told", || async {
        (!is_away(&gateway)).then_some(())
    })
    .await;
    relay.cut().await;
    assert!(wake("fourth").await >= settle);
    assert!(is_away(&gateway), "it is news again");
}

/// Whether the log tells at last that Traefik cannot be asked. Both are only told in turns: a single
/// slow answer is told too, and the next one then as well.
fn is_away(gateway: &Gateway) -> bool {
    let text = gateway.log.text();
    let lines = text.lines();
    let told = lines.filter(|line| line.contains(AWAY) || line.contains(BACK));
    let away: Vec<bool> = told.map(|line| line.contains(AWAY)).collect();
    let in_turns = (0..).map(|n| n % 2 == 0);
    assert!(away.iter().copied().eq(in_turns.take(away.len())), "{text}");
    away.last() == Some(&true)
}
