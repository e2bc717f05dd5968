//! What the data plane counts, by workload and route, with the handles cached in each worker.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Pairs of workload and route that are counted apart; further ones are counted as `other`.
/// Workloads that a template makes could otherwise make series without end.
const SERIES_MAX: usize = 2_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Place {
    workload: String,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    workload: String,
    route: String,
    /// `2xx`.
    status: &'static str,
}

type Histograms = Family<Place, Histogram, fn() -> Histogram>;

/// The data plane's metrics, shared by all workers.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<Answered, Counter>,
    duration: Histograms,
    held: Family<Place, Gauge>,
    wake_wait: Histograms,
    retries: Family<Place, Counter>,
    script_failures: Counter,
    connections: Gauge,
    tunnels: Gauge,
    known: Arc<Mutex<HashSet<Place>>>,
}

impl Metrics {
    /// Registers everything in `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        // 1 ms to 33 s, and 5 ms to 82 s: a wake is a matter of container starts.
        let fast: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let slow: fn() -> Histogram = || Histogram::new(exponential_buckets(0.005, 2.0, 15));
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(fast),
            held: Family::default(),
            wake_wait: Family::new_with_constructor(slow),
            retries: Family::default(),
            script_failures: Counter::default(),
            connections: Gauge::default(),
            tunnels: Gauge::default(),
            known: Arc::default(),
        };
        registry.register(
            "requests",
            "Requests answered, by class of status",
            metrics.requests.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "From a request's head to the last byte of its answer",
            metrics.duration.clone(),
        );
        registry.register(
            "held_requests",
            "Requests that wait for a workload to wake",
            metrics.held.clone(),
        );
        registry.register(
            "wake_wait_seconds",
            "How long requests were held for a workload to wake",
            metrics.wake_wait.clone(),
        );
        registry.register(
            "upstream_retries",
            "Requests sent again because a connection failed before an answer",
            metrics.retries.clone(),
        );
        registry.register(
            "script_failures",
            "Requests on which a script failed",
            metrics.script_failures.clone(),
        );
        registry.register(
            "client_connections",
            "Open connections of clients",
            metrics.connections.clone(),
        );
        registry.register(
            "upgrade_tunnels",
            "Open tunnels of upgraded connections",
            metrics.tunnels.clone(),
        );
        metrics
    }

    pub fn script_failed(&self) {
        self.script_failures.inc();
    }

    pub fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    pub fn tunnel(&self) -> Counted {
        Counted::new(&self.tunnels)
    }

    fn place(&self, workload: &str, route: &str) -> Place {
        let place = Place {
            workload: workload.to_owned(),
            route: route.to_owned(),
        };
        let mut known = self.known.lock();
        if known.contains(&place) {
            return place;
        }
        if known.len() >= SERIES_MAX {
            return Place {
                workload: "other".to_owned(),
                route: "other".to_owned(),
            };
        }
        known.insert(place.clone());
        place
    }
}

/// One more in a gauge until it is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The handles of one workload and route.
#[derive(Debug)]
pub struct RouteMeter {
    place: Place,
    metrics: Metrics,
    classes: [OnceCell<Counter>; 5],
    duration: Histogram,
    held: OnceCell<(Gauge, Histogram)>,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl RouteMeter {
    fn new(metrics: &Metrics, workload: &str, route: &str) -> Self {
        let place = metrics.place(workload, route);
        Self {
            duration: metrics.duration.get_or_create_owned(&place),
            metrics: metrics.clone(),
            classes: Default::default(),
            held: OnceCell::new(),
            place,
        }
    }

    pub fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.classes[class]
            .get_or_init(|| {
                let Place { workload, route } = self.place.clone();
                self.metrics.requests.get_or_create_owned(&Answered {
                    workload,
                    route,
                    status: CLASSES[class],
                })
            })
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// One more held request until the guard is dropped.
    pub fn hold(&self) -> Counted {
        Counted::new(&self.holds().0)
    }

    pub fn was_held(&self, time: Duration) {
        self.holds().1.observe(time.as_secs_f64());
    }

    pub fn retried(&self) {
        self.metrics.retries.get_or_create(&self.place).inc();
    }

    fn holds(&self) -> &(Gauge, Histogram) {
        self.held.get_or_init(|| {
            (
                self.metrics.held.get_or_create_owned(&self.place),
                self.metrics.wake_wait.get_or_create_owned(&self.place),
            )
        })
    }
}

type Routes = Vec<(Arc<str>, Rc<RouteMeter>)>;

/// One worker's handles, found without a lock.
#[derive(Debug)]
pub struct Meters {
    metrics: Metrics,
    by_workload: RefCell<HashMap<String, Routes>>,
}

impl Meters {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            by_workload: RefCell::default(),
        }
    }

    pub fn shared(&self) -> &Metrics {
        &self.metrics
    }

    /// `workload` must be the name of one that exists, or `""`: what clients make up is no label.
    pub fn of(&self, workload: &str, route: &Arc<str>) -> Rc<RouteMeter> {
        let mut by_workload = self.by_workload.borrow_mut();
        if let Some(routes) = by_workload.get(workload) {
            let found = routes
                .iter()
                .find(|(known, _)| Arc::ptr_eq(known, route) || known == route);
            if let Some((_, meter)) = found {
                return meter.clone();
            }
        }
        // What is forgotten here is only looked up again.
        if by_workload.len() >= SERIES_MAX {
            by_workload.clear();
        }
        let meter = Rc::new(RouteMeter::new(&self.metrics, workload, route));
        let routes = by_workload.entry(workload.to_owned()).or_default();
        if routes.len() < SERIES_MAX {
            routes.push((route.clone(), meter.clone()));
        }
        meter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn answers_are_counted_by_workload_route_and_class() {
        let mut registry = crate::metrics::registry();
        let meters = Meters::new(Metrics::new(&mut registry));
        let route: Arc<str> = "/a/{x}".into();
        for status in [200, 204, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            meters.of("w", &route).answered(status, Duration::ZERO);
        }
        let text = text(&registry);
        let count = |class: &str, n: u32| {
            format!(
                r#"wakegate_requests_total{{workload="w",route="/a/{{x}}",status="{class}"}} {n}"#
            )
        };
        assert!(text.contains(&count("2xx", 2)), "{text}");
        assert!(text.contains(&count("5xx", 1)), "{text}");
    }

    #[test]
    fn a_guard_takes_back_what_it_counted() {
        let mut registry = crate::metrics::registry();
        let meters = Meters::new(Metrics::new(&mut registry));
        let held = meters.of("w", &"r".into()).hold();
        assert!(text(&registry).contains(r#"wakegate_held_requests{workload="w",route="r"} 1"#));
        drop(held);
        assert!(text(&registry).contains(r#"wakegate_held_requests{workload="w",route="r"} 0"#));
    }

    #[test]
    fn the_number_of_series_has_a_limit() {
        let mut registry = crate::metrics::registry();
        let meters = Meters::new(Metrics::new(&mut registry));
        let route: Arc<str> = "r".into();
        for n in 0..SERIES_MAX + 10 {
            meters
                .of(&n.to_string(), &route)
                .answered(StatusCode::OK, Duration::ZERO);
        }
        let text = text(&registry);
        let series = text.matches("wakegate_requests_total{").count();
        assert_eq!(series, SERIES_MAX + 1);
        assert!(text.contains(r#"workload="other",route="other",status="2xx"} 10"#));
    }
}
