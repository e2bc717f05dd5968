//! Where an application's requests go at this moment: read by every request, changed by its manager alone.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::deploy::stats::Stats;
use crate::names::{AppName, ReleaseHash, WorkloadName};
use crate::spec::WorkloadSpec;

/// All applications of gateway.toml; which there are does not change while the gateway runs.
#[derive(Debug, Clone, Default)]
pub struct Apps(Arc<HashMap<AppName, Arc<App>>>);

/// One application as requests see it.
#[derive(Debug)]
pub struct App {
    pub name: AppName,
    route: ArcSwap<Route>,
    door: watch::Sender<Door>,
}

/// Which releases get the requests. Exchanged as a whole, so that each request sees one state.
#[derive(Debug)]
pub struct Route {
    pub current: Current,
    /// A release that gets a part of the requests, as the scripts decide.
    pub canary: Option<Arc<Release>>,
    /// Cancelled as soon as another route counts: whoever waits for a release of this one looks again.
    pub superseded: CancellationToken,
}

#[derive(Debug, Clone)]
pub enum Current {
    /// Which release is current is being found out; requests are held.
    Loading,
    /// There is none, and why.
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
    /// Requests are held, up to the limits of held requests, until it is open again.
    Paused,
    /// Requests are answered 503 by the gateway.
    Maintenance,
}

impl Apps {
    pub fn new(apps: impl IntoIterator<Item = Arc<App>>) -> Self {
        let by_name = apps.into_iter().map(|app| (app.name.clone(), app));
        Self(Arc::new(by_name.collect()))
    }

    pub fn get(&self, name: &AppName) -> Option<&Arc<App>> {
        self.0.get(name)
    }
}

impl App {
    pub fn new(name: AppName) -> Arc<Self> {
        Arc::new(Self {
            name,
            route: ArcSwap::from_pointee(Route {
                current: Current::Loading,
                canary: None,
                superseded: CancellationToken::new(),
            }),
            door: watch::Sender::new(Door::Open),
        })
    }

    pub fn route(&self) -> Arc<Route> {
        self.route.load_full()
    }

    /// From the return of this call on every new request goes by the new route.
    pub fn set_route(&self, current: Current, canary: Option<Arc<Release>>) {
        let before = self.route.swap(Arc::new(Route {
            current,
            canary,
            superseded: CancellationToken::new(),
        }));
        before.superseded.cancel();
    }

    pub fn door(&self) -> Door {
        *self.door.borrow()
    }

    /// Sees the door change.
    pub fn watch_door(&self) -> watch::Receiver<Door> {
        self.door.subscribe()
    }

    pub fn set_door(&self, door: Door) {
        self.door.send_replace(door);
    }
}
