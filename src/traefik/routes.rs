//! Waiting until Traefik has the route of a container that was woken: one look a run, for all who wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::api::Api;
use super::labels;
use super::told::Router;
use crate::config;
use crate::names::WorkloadName;

/// The pause after the first look; each later one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause. Traefik takes up a new route at any moment, and nobody is served meanwhile.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Whether a client may be sent to Traefik.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed {
    /// Traefik has the route, or has had time enough where it cannot be asked.
    Yes,
    /// It has not, for this reason; the gateway is the one to answer.
    No(Arc<str>),
}

/// Who knows what Traefik routes.
#[async_trait]
trait Ask: Send + Sync {
    fn address(&self) -> &str;

    /// See [`Api::router`].
    async fn router(&self, name: &str) -> Result<Router, String>;

    /// See [`Api::requests`].
    async fn requests(&self, routers: &[String]) -> Result<u64, String>;
}

#[async_trait]
impl Ask for Api {
    fn address(&self) -> &str {
        Api::address(self)
    }

    async fn router(&self, name: &str) -> Result<Router, String> {
        Api::router(self, name).await
    }

    async fn requests(&self, routers: &[String]) -> Result<u64, String> {
        Api::requests(self, routers).await
    }
}

/// The routes of woken containers.
pub struct Routes {
    shared: Arc<Shared>,
    /// Where looks run: the connections to Traefik belong to one runtime.
    handle: Handle,
}

struct Shared {
    api: Option<Box<dyn Ask>>,
    route_timeout: Duration,
    settle_time: Duration,
    /// Told once, until it answers again.
    is_away: AtomicBool,
    /// Looks under way, by run. No more than there are wakes.
    looks: Mutex<HashMap<u64, watch::Receiver<Option<Routed>>>>,
    metrics: Metrics,
}

struct Metrics {
    up: Gauge,
    missed: Counter,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            up: Gauge::default(),
            missed: Counter::default(),
        };
        registry.register(
            "traefik_up",
            "1 while Traefik's API answered when it was asked last",
            metrics.up.clone(),
        );
        registry.register(
            "traefik_routes_missed",
            "Woken containers whose route Traefik did not take up in time",
            metrics.missed.clone(),
        );
        metrics
    }
}

impl Routes {
    /// Must be called on the runtime that Traefik is to be asked from.
    pub fn new(config: &config::Traefik, registry: &mut Registry) -> Self {
        let api = Api::new(config).map(|api| Box::new(api) as Box<dyn Ask>);
        Self::asking(api, config, registry)
    }

    fn asking(
        api: Option<Box<dyn Ask>>,
        config: &config::Traefik,
        registry: &mut Registry,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                api,
                route_timeout: config.route_timeout,
                settle_time: config.settle_time,
                is_away: AtomicBool::new(false),
                looks: Mutex::default(),
                metrics: Metrics::register(registry),
            }),
            handle: Handle::current(),
        }
    }

    /// Whether Traefik is there and, by its labels, routes to the container while it runs.
    pub fn lead_to(&self, container: &WorkloadName, labels: &BTreeMap<String, String>) -> bool {
        self.shared.api.is_some() && !labels::routers(container.as_str(), labels).is_empty()
    }

    /// How many requests Traefik has had answered by the container, since Traefik runs. Only on the
    /// runtime that the routes were made on.
    ///
    /// # Errors
    /// Why that is not known, for people.
    pub async fn requests(
        &self,
        container: &WorkloadName,
        labels: &BTreeMap<String, String>,
    ) -> Result<u64, String> {
        let Some(api) = &self.shared.api else {
            return Err("gateway.toml names no api under [traefik]".to_owned());
        };
        let routers = labels::routers(container.as_str(), labels);
        let told = api.requests(&routers).await;
        told.map_err(|error| format!("Traefik at {}: {error}", api.address()))
    }

    /// Waits until Traefik has the route of this run of the container, at the most for
    /// `[traefik] route_timeout`. From any runtime. `run` is the serial of the run's endpoint.
    pub async fn taken(
        &self,
        run: u64,
        container: &WorkloadName,
        labels: &BTreeMap<String, String>,
    ) -> Routed {
        let mut look = {
            let mut looks = self.shared.looks.lock();
            match looks.get(&run) {
                Some(look) => look.clone(),
                None => {
                    let (told, look) = watch::channel(None);
                    looks.insert(run, look.clone());
                    let shared = self.shared.clone();
                    let name = container.to_string();
                    let routers = labels::routers(&name, labels);
                    self.handle.spawn(async move {
                        let routed = shared.look(&name, &routers).await;
                        told.send_replace(Some(routed));
                        shared.looks.lock().remove(&run);
                    });
                    look
                }
            }
        };
        match look.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(routed)) => routed.clone(),
            // The runtime of the looks ends, and with it the gateway.
            Ok(None) | Err(_) => Routed::No("the gateway is ending".into()),
        }
    }
}

impl Shared {
    async fn look(&self, container: &str, routers: &[String]) -> Routed {
        if routers.is_empty() {
            return Routed::No("it has no labels that make a router of Traefik's".into());
        }
        let Some(api) = &self.api else {
            sleep(self.settle_time).await;
            return Routed::Yes;
        };
        let since = Instant::now();
        let taken = self.until_taken(&**api, container, routers);
        match timeout(self.route_timeout, taken).await {
            Ok(Ok(Routed::Yes)) => {
                let took_ms = since.elapsed().as_secs_f64() * 1e3;
                tracing::debug!(container, took_ms, "Traefik has its route");
                Routed::Yes
            }
            Ok(Ok(Routed::No(why))) => self.missed(container, &why),
            Ok(Err(error)) => {
                self.went_away(&**api, &error);
                sleep(self.settle_time).await;
                Routed::Yes
            }
            Err(_) => {
                let why = format!(
                    "Traefik has none of its routers ({}) after {}",
                    routers.join(", "),
                    humantime::format_duration(self.route_timeout)
                );
                self.missed(container, &why)
            }
        }
    }

    /// Looks again and again. An error is one of Traefik, which is not asked a second time then.
    async fn until_taken(
        &self,
        api: &dyn Ask,
        container: &str,
        routers: &[String],
    ) -> Result<Routed, String> {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut refused = None;
            let mut is_missing = false;
            let mut is_in_use = false;
            for name in routers {
                let router = api.router(name).await?;
                self.is_there(api);
                match router {
                    Router::InUse { .. } => is_in_use = true,
                    Router::Missing => is_missing = true,
                    Router::Refused(why) => {
                        refused = Some(format!("Traefik does not use its router {name}: {why}"));
                    }
                }
            }
            match refused {
                // Traefik takes up all routers of a container at once.
                None if is_in_use => return Ok(Routed::Yes),
                // Requests may be meant for another one, which leads there.
                Some(why) if is_in_use => {
                    tracing::warn!(
                        container,
                        "{container} is awake and the gateway answers a part of its requests itself: {why}"
                    );
                    return Ok(Routed::Yes);
                }
                // It has been taken up, and is of no use as it is: that does not pass by waiting.
                Some(why) if !is_missing => return Ok(Routed::No(why.into())),
                _ => {}
            }
            sleep(pause).await;
            pause = pause.mul_f64(1.5).min(PAUSE_MAX);
        }
    }

    fn missed(&self, container: &str, why: &str) -> Routed {
        self.metrics.missed.inc();
        tracing::warn!(
            container,
            "{container} is awake and the gateway answers its requests itself: {why}"
        );
        Routed::No(why.into())
    }

    fn went_away(&self, api: &dyn Ask, error: &str) {
        self.metrics.up.set(0);
        if !self.is_away.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                "Traefik's API at {} cannot be asked: {error}; until it can, a woken container's \
                 route is given {}",
                api.address(),
                humantime::format_duration(self.settle_time)
            );
        }
    }

    fn is_there(&self, api: &dyn Ask) {
        self.metrics.up.set(1);
        if self.is_away.swap(false, Ordering::AcqRel) {
            tracing::info!("Traefik's API at {} answers again", api.address());
        }
    }
}

#[cfg(test)]
mod tests;
