//! What is waited for until a woken container has its route, and what is told of it.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;

use tracing::Level;

use super::*;
use crate::log::captured::Captured;

/// Answers as it is told to, the last answer for ever.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Result<Router, String>>>>,
    asked: Arc<AtomicUsize>,
}

impl Script {
    fn of(answers: impl IntoIterator<Item = Result<Router, String>>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            asked: Arc::default(),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }
}

#[async_trait]
impl Ask for Script {
    fn address(&self) -> &str {
        "http://traefik.test"
    }

    async fn router(&self, _: &str) -> Result<Router, String> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        let mut answers = self.answers.lock();
        let next = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        };
        next.expect("an answer")
    }

    async fn requests(&self, _: &[String]) -> Result<u64, String> {
        Ok(7)
    }
}

fn in_use() -> Result<Router, String> {
    Ok(Router::InUse {
        service: "a@docker".to_owned(),
    })
}

fn missing() -> Result<Router, String> {
    Ok(Router::Missing)
}

fn away() -> Result<Router, String> {
    Err("Connection refused".to_owned())
}

fn routes(api: Option<&Script>) -> Arc<Routes> {
    let api = api.map(|api| Box::new(api.clone()) as Box<dyn Ask>);
    let config = config::Config::default().traefik;
    Arc::new(Routes::asking(api, &config, &mut Registry::default()))
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

async fn taken(routes: &Routes, run: u64) -> Routed {
    let labels = labels(&[("traefik.http.routers.a.rule", "PathPrefix(`/a`)")]);
    let name = WorkloadName::new("a").unwrap();
    routes.taken(run, &name, &labels).await
}

#[tokio::test(start_paused = true)]
async fn a_client_is_sent_on_when_the_router_is_there() {
    let script = Script::of([missing(), missing(), missing(), in_use()]);
    let routes = routes(Some(&script));
    let since = Instant::now();
    assert_eq!(taken(&routes, 1).await, Routed::Yes);
    assert_eq!(script.asked(), 4);
    assert!(
        since.elapsed() < Duration::from_millis(60),
        "{:?}",
        since.elapsed()
    );
    assert!(routes.shared.looks.lock().is_empty());
    assert_eq!(routes.shared.metrics.up.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_run_share_one_look() {
    let script = Script::of([missing(), missing(), in_use()]);
    let routes = routes(Some(&script));
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let routes = routes.clone();
            tokio::spawn(async move { taken(&routes, 7).await })
        })
        .collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Routed::Yes);
    }
    assert_eq!(script.asked(), 3);
    // Another run is looked for anew.
    assert_eq!(taken(&routes, 8).await, Routed::Yes);
    assert_eq!(script.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_look_goes_on_when_the_one_who_began_it_leaves() {
    let script = Script::of([missing(), missing(), missing(), missing(), in_use()]);
    let routes = routes(Some(&script));
    let first = timeout(Duration::from_millis(1), taken(&routes, 1)).await;
    assert!(first.is_err());
    assert_eq!(taken(&routes, 1).await, Routed::Yes);
    assert_eq!(script.asked(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_router_that_never_appears_is_reported_after_the_limit() {
    let (log, _guard) = Captured::begin(Level::INFO);
    let script = Script::of([missing()]);
    let routes = routes(Some(&script));
    let since = Instant::now();
    let Routed::No(why) = taken(&routes, 1).await else {
        panic!("there is no router");
    };
    assert_eq!(&*why, "Traefik has none of its routers (a) after 5s");
    assert_eq!(since.elapsed(), Duration::from_secs(5));
    assert_eq!(routes.shared.metrics.missed.get(), 1);
    assert_eq!(log.lines_with("WARN"), 1);
    assert_eq!(
        log.lines_with("a is awake and the gateway answers its requests itself"),
        1
    );
    // Five seconds of questions, none in a hurry.
    assert!((50..80).contains(&script.asked()), "{}", script.asked());
}

#[tokio::test(start_paused = true)]
async fn a_router_that_traefik_refuses_is_not_waited_for() {
    let refused = Ok(Router::Refused("no such middleware".to_owned()));
    let script = Script::of([missing(), refused]);
    let routes = routes(Some(&script));
    let Routed::No(why) = taken(&routes, 1).await else {
        panic!("the router is of no use");
    };
    assert_eq!(
        &*why,
        "Traefik does not use its router a: no such middleware"
    );
    assert_eq!(script.asked(), 2);
    assert_eq!(routes.shared.metrics.missed.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_traefik_is_away_a_time_is_waited_and_that_is_told_once() {
    let (log, _guard) = Captured::begin(Level::INFO);
    let script = Script::of([away(), away(), away(), in_use(), in_use(), away()]);
    let routes = routes(Some(&script));
    for run in 1..=3 {
        let since = Instant::now();
        assert_eq!(taken(&routes, run).await, Routed::Yes);
        assert_eq!(since.elapsed(), Duration::from_millis(500));
    }
    assert_eq!(script.asked(), 3, "once a wake");
    assert_eq!(log.lines_with("cannot be asked: Connection refused"), 1);
    assert_eq!(routes.shared.metrics.up.get(), 0);
    assert_eq!(taken(&routes, 4).await, Routed::Yes);
    assert_eq!(taken(&routes, 5).await, Routed::Yes);
    assert_eq!(log.lines_with("answers again"), 1);
    assert_eq!(routes.shared.metrics.up.get(), 1);
    assert_eq!(taken(&routes, 6).await, Routed::Yes);
    assert_eq!(log.lines_with("cannot be asked"), 2, "it is news again");
}

#[tokio::test(start_paused = true)]
async fn where_one_of_two_routers_is_refused_that_is_reported_and_the_other_one_counts() {
    let (log, _guard) = Captured::begin(Level::INFO);
    let refused = Ok(Router::Refused("no such middleware".to_owned()));
    for first in [[refused.clone(), in_use()], [in_use(), refused]] {
        let script = Script::of(first);
        let routes = routes(Some(&script));
        let labels = labels(&[
            ("traefik.http.routers.a.rule", "PathPrefix(`/a`)"),
            ("traefik.http.routers.b.rule", "Host(`b.example`)"),
        ]);
        let name = WorkloadName::new("a").unwrap();
        assert_eq!(routes.taken(1, &name, &labels).await, Routed::Yes);
        assert_eq!(script.asked(), 2);
    }
    let told = "a is awake and the gateway answers a part of its requests itself";
    assert_eq!(log.lines_with(told), 2);
}

#[tokio::test(start_paused = true)]
async fn without_an_api_a_time_is_waited_for_what_has_the_labels() {
    let routes = routes(None);
    let since = Instant::now();
    assert_eq!(taken(&routes, 1).await, Routed::Yes);
    assert_eq!(since.elapsed(), Duration::from_millis(500));
}

#[tokio::test]
async fn without_an_api_no_requests_are_told() {
    let name = WorkloadName::new("a").unwrap();
    let told = routes(None).requests(&name, &labels(&[])).await;
    assert_eq!(
        told.unwrap_err(),
        "gateway.toml names no api under [traefik]"
    );
    let asked = routes(Some(&Script::default()));
    assert_eq!(asked.requests(&name, &labels(&[])).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_container_without_labels_is_not_asked_about_nor_waited_for() {
    let script = Script::of([in_use()]);
    let name = WorkloadName::new("a").unwrap();
    for routes in [routes(Some(&script)), routes(None)] {
        for labels in [labels(&[]), labels(&[("traefik.enable", "false")])] {
            let since = Instant::now();
            let routed = routes.taken(1, &name, &labels).await;
            assert!(matches!(routed, Routed::No(_)), "{routed:?}");
            assert_eq!(since.elapsed(), Duration::ZERO);
        }
        let missed = routes.shared.metrics.missed.get();
        assert_eq!(missed, 0, "nothing was to be expected");
    }
    assert_eq!(script.asked(), 0);
}
