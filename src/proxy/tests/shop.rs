//! An application `shop` behind a running data plane, with releases that the test plays itself.

use std::sync::Arc;
use std::time::Duration;

use super::rig::{App, Rig, Setup, Wire, soon};
use crate::decision::{Canary, Decision, Destination, ProxyDecision};
use crate::deploy::route::{App as Application, AppLimits, Apps, Current, Release};
use crate::deploy::stats::{Snapshot, Stats};
use crate::lifecycle::gate::Gate;
use crate::lifecycle::places::Places;
use crate::names::{AppName, ReleaseHash, WorkloadName};
use crate::spec::WorkloadSpec;

pub const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
pub const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

pub fn app_name() -> AppName {
    AppName::new("shop").unwrap()
}

/// Its container is `shop-1` for the number 1.
pub fn release(number: u32) -> Arc<Release> {
    let workload = WorkloadName::new(&format!("shop-{number}")).unwrap();
    Arc::new(Release {
        app: app_name(),
        hash: ReleaseHash::new(&format!("{number:08x}").repeat(8)).unwrap(),
        revision: number.to_string(),
        spec: WorkloadSpec::new(workload.clone(), "shop:1"),
        workload,
        stats: Arc::<Stats>::default(),
    })
}

/// As it is in a cookie.
pub fn short(number: u32) -> String {
    format!("{number:08x}")
}

pub struct Shop {
    pub rig: Rig,
    pub app: Arc<Application>,
}

/// What is to be different from everything as it is by default.
pub struct Opening {
    pub setup: Setup,
    pub limits: AppLimits,
    pub held_max: usize,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            setup: Setup::default(),
            limits: AppLimits {
                pause_max: super::rig::LIMIT,
                held_max: 100,
            },
            held_max: 100,
        }
    }
}

impl Opening {
    pub fn setup(mut self, change: impl FnOnce(Setup) -> Setup) -> Self {
        self.setup = change(self.setup);
        self
    }

    /// Everything to the application, with the decision changed.
    pub fn open(self, change: impl Fn(&mut ProxyDecision) + Send + Sync + 'static) -> Shop {
        let (setup, app) = self.built(change);
        Shop {
            rig: setup.start(),
            app,
        }
    }

    /// The same, to be started over something else than the rig's own world.
    pub fn built(
        self,
        change: impl Fn(&mut ProxyDecision) + Send + Sync + 'static,
    ) -> (Setup, Arc<Application>) {
        let app = Application::new(app_name(), self.limits);
        let mut setup = self.setup.rule(move |_| {
            let mut decision = ProxyDecision::to_app(app_name());
            change(&mut decision);
            Ok(Some(Decision::Proxy(decision)))
        });
        setup.apps = Apps::new([app.clone()], Arc::new(Places::new(self.held_max)));
        (setup, app)
    }

    pub fn canary(self, canary: Canary) -> Shop {
        self.open(move |decision| {
            decision.destination = Destination::App {
                name: app_name(),
                canary,
            };
        })
    }
}

impl Shop {
    pub fn open() -> Self {
        Opening::default().open(|_| {})
    }

    /// A release that is awake, and its application's side.
    pub async fn awake(&self, number: u32) -> (Arc<Release>, App, Arc<Gate>) {
        let release = release(number);
        let app = App::listen().await;
        let gate = self.rig.world.wake(release.workload.as_str(), app.address);
        (release, app, gate)
    }

    pub fn switch(&self, release: &Arc<Release>) {
        self.app.set_route(Current::Release(release.clone()), None);
    }

    pub fn try_out(&self, current: &Arc<Release>, canary: &Arc<Release>) {
        self.app
            .set_route(Current::Release(current.clone()), Some(canary.clone()));
    }

    /// A client that has asked.
    pub async fn asked(&self, request: &str) -> Wire {
        let mut client = self.rig.client().await;
        client.say(request).await;
        client
    }

    /// Returns when so many requests are held before any release is asked.
    pub async fn held(&self, count: usize) {
        until(|| self.app.held() == count).await;
    }
}

/// Takes a request and answers it with nothing; gives its head.
pub async fn serve(app: &App) -> String {
    let mut wire = app.accept().await;
    let head = wire.head().await;
    wire.say(EMPTY).await;
    head
}

/// Returns when it is so. It is brought about by another thread.
pub async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Returns when the release's counts are so, after what the client has seen already.
pub async fn counted(release: &Release, mut are_so: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    let mut told = release.stats.snapshot();
    let reached = tokio::time::timeout(super::rig::LIMIT, async {
        while !are_so(&told) {
            tokio::task::yield_now().await;
            told = release.stats.snapshot();
        }
    });
    if reached.await.is_err() {
        panic!("{told:?}");
    }
    told
}

/// Long enough for nothing to be cut short by it.
pub const SHORT: Duration = Duration::from_millis(40);
