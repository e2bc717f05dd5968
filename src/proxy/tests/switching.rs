//! Many switches under many requests: none fails, and none gets a release that was left before it came.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::rig::{Wire, address, soon, status};
use super::shop::{Opening, Shop, release};
use crate::clock::Clock;
use crate::config::Config;
use crate::decision::{ContainerFacts, ContainerRules, IdleRule, ReadyRule, ScriptFailure};
use crate::deploy::route::{App, Current, Door, Release};
use crate::lifecycle::fleet::{Ask, Creation, Fleet, Refusal};
use crate::lifecycle::gate::{Gate, Lease};
use crate::names::WorkloadName;
use crate::proxy::{Running, Wake};
use crate::runtime::fake::Fake;
use crate::spec::WorkloadSpec;

const CLIENTS: u32 = 12;
const SWITCHES: u32 = 150;

const REQUEST: &str = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";

/// A release's application, which says its number. Ends with the set that it is spawned in.
async fn says(listener: TcpListener, number: u32) {
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let mut asked = Vec::new();
            while stream.read_buf(&mut asked).await.is_ok_and(|got| got > 0) {
                if asked.ends_with(b"\r\n\r\nhi") {
                    asked.clear();
                    let body = number.to_string();
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
    }
}

/// Asks on one connection until it is over. `left`: all releases up to this number were left before.
async fn asks(mut client: Wire, left: Arc<AtomicU32>, over: Arc<AtomicBool>) -> u32 {
    let mut answers = 0;
    while !over.load(Ordering::Acquire) {
        let before = left.load(Ordering::Acquire);
        client.say(REQUEST).await;
        let (head, body) = client.message().await;
        assert_eq!(status(&head), 200, "{head}{body}");
        let number: u32 = body.parse().unwrap();
        assert!(number > before, "{number} was left before: {before}");
        answers += 1;
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_or_gets_a_release_that_was_left_before_it_came() {
    let shop: Shop = Opening::default()
        .setup(|setup| setup.config(|config| config.public.workers = 2))
        .open(|_| {});
    let world = &shop.rig.world;
    let mut applications = JoinSet::new();
    let mut clients = JoinSet::new();
    let left = Arc::new(AtomicU32::new(0));
    let over = Arc::new(AtomicBool::new(false));
    for _ in 0..CLIENTS {
        let client = shop.rig.client().await;
        clients.spawn(asks(client, left.clone(), over.clone()));
    }
    let mut rng = fastrand::Rng::with_seed(11);
    let mut old: Option<Arc<Gate>> = None;
    for number in 1..=SWITCHES {
        let next = release(number);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        applications.spawn(says(listener, number));
        // Some are awake when they are switched to, some wake then, and some never do.
        let (awake, wakes) = match rng.u32(0..4) {
            0 | 1 => (true, true),
            2 => (false, true),
            _ => (false, number == SWITCHES),
        };
        let mut gate = awake.then(|| world.wake(next.workload.as_str(), address));
        if rng.u32(0..8) == 0 {
            shop.app.set_door(Door::Paused);
        }
        shop.switch(&next);
        left.store(number - 1, Ordering::Release);
        // The old one leaves: who has a lease stays, nobody gets another.
        if let Some(old) = old.take() {
            old.close();
        }
        for _ in 0..rng.u32(0..20) {
            tokio::task::yield_now().await;
        }
        shop.app.set_door(Door::Open);
        if !awake && wakes {
            gate = Some(world.wake(next.workload.as_str(), address));
        }
        if gate.is_some() {
            // Some get their answer of it.
            let served = next.stats.clone();
            let wanted = u64::from(rng.u32(0..3));
            soon(async {
                while served.snapshot().requests < wanted {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        old = gate;
    }
    over.store(true, Ordering::Release);
    let mut answers = 0;
    while let Some(client) = soon(clients.join_next()).await {
        answers += client.unwrap();
    }
    assert!(answers > SWITCHES / 2, "{answers} answers say little");
    assert_eq!(shop.app.held(), 0);
    world.waiters(0).await;
}

/// Every time that a lease is asked of a release, another one is switched to.
#[derive(Clone)]
struct Fickle(Arc<App>);

impl Wake for Fickle {
    async fn acquire(&self, ask: Ask<'_>) -> Result<Lease, Refusal> {
        self.0.set_route(Current::Release(release(1)), None);
        assert!(ask.superseded.unwrap().is_cancelled());
        Err(Refusal::Superseded(ask.workload.clone()))
    }

    fn acquire_ready(&self, _: &WorkloadName, _: bool) -> Option<Lease> {
        None
    }

    fn nudge(
        &self,
        _: &WorkloadName,
        _: Option<Creation<'_>>,
        _: Option<&CancellationToken>,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    async fn suspect(&self, _: Lease, _: u16) {}
}

#[tokio::test]
async fn a_request_that_may_not_be_held_does_not_look_for_ever_which_release_is_current() {
    let opening = Opening::default();
    let (setup, app) = opening.built(|decision| decision.wait = Some(Duration::ZERO));
    app.set_route(Current::Release(release(1)), None);
    let (running, _) = setup.start_with(Fickle(app));
    let mut client = Wire::connect(address(&running)).await;
    client.say(REQUEST).await;
    let (head, body) = client.message().await;
    assert_eq!(status(&head), 503);
    assert!(body.contains("\"kind\":\"superseded\""), "{body}");
}

/// Containers of the fake engine never sleep by themselves, and are ready when their port answers.
struct NoRules;

impl ContainerRules for NoRules {
    fn ready(&self, _: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        Ok(None)
    }

    fn idle(&self, _: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        Ok(Some(IdleRule::Never))
    }

    fn template(
        &self,
        _: &str,
        _: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        Ok(None)
    }
}

/// A gateway whose containers are made by requests, in an engine in memory.
struct Engine {
    fake: Fake,
    fleet: Arc<Fleet>,
    running: Running,
    app: Arc<App>,
    applications: JoinSet<()>,
}

impl Engine {
    fn open() -> Self {
        let fake = Fake::new();
        let fleet = Fleet::open(
            &Config::default(),
            Arc::new(fake.clone()),
            Arc::new(NoRules),
            Clock::new(),
            &mut crate::metrics::registry(),
        );
        let (setup, app) = Opening::default()
            .setup(|setup| setup.config(|config| config.public.workers = 2))
            .built(|_| {});
        let (running, _) = setup.start_with(fleet.clone());
        Self {
            fake,
            fleet,
            running,
            app,
            applications: JoinSet::new(),
        }
    }

    /// A release that has no container yet, and what listens on its port.
    async fn release(&mut self, number: u32) -> Arc<Release> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut release = Arc::into_inner(release(number)).unwrap();
        release.spec.port = Some(listener.local_addr().unwrap().port());
        self.applications.spawn(says(listener, number));
        Arc::new(release)
    }

    fn switch(&self, release: &Arc<Release>) {
        self.app.set_route(Current::Release(release.clone()), None);
    }

    async fn client(&self) -> Wire {
        Wire::connect(address(&self.running)).await
    }

    fn has(&self, number: u32) -> bool {
        self.fake.get(&format!("shop-{number}")).is_some()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_while_asleep_wakes_nothing_and_the_next_request_wakes_the_new_release() {
    let mut engine = Engine::open();
    let first = engine.release(1).await;
    let second = engine.release(2).await;
    let third = engine.release(3).await;
    engine.switch(&first);
    engine.switch(&second);
    let mut client = engine.client().await;
    assert!(!engine.has(1) && !engine.has(2));
    client.say(REQUEST).await;
    assert_eq!(client.message().await.1, "2");
    assert!(!engine.has(1) && engine.has(2));
    // A request that waits for a start which does not come to an end gets the release that is
    // switched to, and what it waited for is not made again once it is removed.
    engine.fake.behave("shop-3", |it| it.start_held = true);
    engine.switch(&third);
    client.say(REQUEST).await;
    soon(engine.fake.wait_until(|fake| fake.starts("shop-3") == 1)).await;
    engine.switch(&second);
    assert_eq!(client.message().await.1, "2");
    engine.fake.behave("shop-3", |it| it.start_held = false);
    soon(engine.fleet.remove("shop-3")).await.unwrap();
    client.say(REQUEST).await;
    assert_eq!(client.message().await.1, "2");
    assert!(!engine.has(1) && engine.has(2) && !engine.has(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_that_are_removed_right_behind_a_switch_are_not_made_again_by_requests() {
    const RELEASES: u32 = 30;
    let mut engine = Engine::open();
    let left = Arc::new(AtomicU32::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = engine.client().await;
        clients.spawn(asks(client, left.clone(), over.clone()));
    }
    for number in 1..=RELEASES {
        let next = engine.release(number).await;
        engine.switch(&next);
        left.store(number - 1, Ordering::Release);
        if number > 1 {
            let name = format!("shop-{}", number - 1);
            soon(engine.fleet.remove(&name)).await.unwrap();
        }
        let served = next.stats.clone();
        soon(async {
            while served.snapshot().requests == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    over.store(true, Ordering::Release);
    while let Some(client) = soon(clients.join_next()).await {
        client.unwrap();
    }
    for number in 1..=RELEASES {
        assert_eq!(engine.has(number), number == RELEASES, "shop-{number}");
    }
}
