//! Where an application's requests go at this moment: read by every request, changed by its manager alone.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::deploy::stats::Stats;
use crate::lifecycle::places::{Place, Places};
use crate::names::{AppName, ReleaseHash, WorkloadName};
use crate::spec::WorkloadSpec;

/// All applications of gateway.toml; which there are does not change while the gateway runs.
#[derive(Debug, Clone)]
pub struct Apps(Arc<All>);

#[derive(Debug)]
struct All {
    by_name: HashMap<AppName, Arc<App>>,
    /// For requests held before any release is asked, over all applications.
    places: Arc<Places>,
}

/// One application as requests see it.
#[derive(Debug)]
pub struct App {
    pub name: AppName,
    pub limits: AppLimits,
    route: ArcSwap<Route>,
    /// Held while the route is exchanged for a changed one.
    changing: Mutex<()>,
    places: Places,
    turned_away: AtomicU64,
}

/// How many requests may be held before any release is asked, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppLimits {
    /// The longest that a request is held because the application is paused; then 503.
    pub pause_max: Duration,
    /// Requests held while it is paused, or while it is not known which release is current; past it 503.
    pub held_max: usize,
}

/// What becomes of requests. Exchanged as a whole, so that each request sees one state.
#[derive(Debug)]
pub struct Route {
    pub door: Door,
    pub current: Current,
    /// A release that gets a part of the requests, as the scripts decide.
    pub canary: Option<Arc<Release>>,
    /// Cancelled as soon as another route counts: whoever waits for anything by this one looks again.
    pub superseded: CancellationToken,
}

#[derive(Debug, Clone)]
pub enum Current {
    /// Which release is current is being found out; requests are held.
    Loading,
    /// There is none, and why; clients are told.
    Nothing(Arc<str>),
    Release(Arc<Release>),
}

/// A release that has a container, or had one that can be made again.
#[derive(Debug)]
pub struct Release {
    pub app: AppName,
    pub hash: ReleaseHash,
    pub revision: String,
    pub workload: WorkloadName,
    /// How its container is made; admitted by the policy again each time.
    pub spec: WorkloadSpec,
    pub stats: Arc<Stats>,
}

/// Whether requests get to the application at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Open,
    /// Requests are held, within [`AppLimits`], until it is open again.
    Paused,
    /// Requests are answered 503 by the gateway.
    Maintenance,
}

impl Default for Apps {
    /// None.
    fn default() -> Self {
        Self::new([], Arc::new(Places::new(0)))
    }
}

impl Apps {
    /// `places`: those of all held requests, for whatever they are.
    pub fn new(apps: impl IntoIterator<Item = Arc<App>>, places: Arc<Places>) -> Self {
        let by_name = apps.into_iter().map(|app| (app.name.clone(), app));
        Self(Arc::new(All {
            by_name: by_name.collect(),
            places,
        }))
    }

    pub fn get(&self, name: &AppName) -> Option<&Arc<App>> {
        self.0.by_name.get(name)
    }

    /// A place for a request that is to be held; `None`: as many as allowed are held already.
    pub fn place<'a>(&'a self, app: &'a App) -> Option<Place<'a>> {
        Place::take([&app.places, &self.0.places])
    }
}

impl App {
    /// Open, and without a known release: its requests are held until [`App::set_route`] is called.
    pub fn new(name: AppName, limits: AppLimits) -> Arc<Self> {
        Arc::new(Self {
            name,
            limits,
            route: ArcSwap::from_pointee(Route {
                door: Door::Open,
                current: Current::Loading,
                canary: None,
                superseded: CancellationToken::new(),
            }),
            changing: Mutex::new(()),
            places: Places::new(limits.held_max),
            turned_away: AtomicU64::new(0),
        })
    }

    pub fn route(&self) -> Arc<Route> {
        self.route.load_full()
    }

    /// Whether requests still go by this route.
    ///
    /// Who takes a lease by a route and is told afterwards that it still counts took it before
    /// [`App::set_route`] returned: a manager that looks at the leases after that call sees it.
    pub fn is_current(&self, route: &Arc<Route>) -> bool {
        // Pairs with the one in `exchange`: either this sees the new route, or the other the lease.
        fence(Ordering::SeqCst);
        Arc::ptr_eq(&self.route.load(), route)
    }

    /// From the return of this call on every new request goes by the new releases, and whoever still
    /// waits for one of the old looks again. The door stays as it is.
    pub fn set_route(&self, current: Current, canary: Option<Arc<Release>>) {
        self.exchange(|before| (before.door, current, canary));
    }

    pub fn door(&self) -> Door {
        self.route.load().door
    }

    /// From the return of this call on no new request gets past a door that is not open, nor does one
    /// that has no lease yet. The releases stay as they are.
    pub fn set_door(&self, door: Door) {
        self.exchange(|before| (door, before.current.clone(), before.canary.clone()));
    }

    /// Requests that are held before any release is asked.
    pub fn held(&self) -> usize {
        self.places.taken()
    }

    /// Requests that were answered 503 before any release was asked.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    fn exchange(&self, change: impl FnOnce(&Route) -> (Door, Current, Option<Arc<Release>>)) {
        let _changing = self.changing.lock();
        let (door, current, canary) = change(&self.route.load());
        let before = self.route.swap(Arc::new(Route {
            door,
            current,
            canary,
            superseded: CancellationToken::new(),
        }));
        fence(Ordering::SeqCst);
        before.superseded.cancel();
    }
}
