//! What all workloads share: the engine, the rules, the limits, and what is counted.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::clock::Clock;
use crate::config::{Config, Hold, Lifecycle};
use crate::decision::{ContainerRules, IdleRule, ReadyRule};
use crate::lifecycle::machine::Limits;
use crate::lifecycle::places::Places;
use crate::lifecycle::probe::Prober;
use crate::runtime::{Instance, Runtime};
use crate::spec::{HEALTH_INTERVAL, HealthCheck, PORT_LABEL, SpecPolicy};
use crate::traefik::{self, Routes};

pub(super) struct Core {
    pub runtime: Arc<dyn Runtime>,
    pub rules: Arc<dyn ContainerRules>,
    pub prober: Prober,
    pub lifecycle: Lifecycle,
    pub hold: Hold,
    pub policy: SpecPolicy,
    pub clock: Clock,
    /// Where effects run. Requests come from other runtimes.
    pub handle: Handle,
    /// First come, first served, so the workload whose request came first starts first.
    pub starts: Semaphore,
    /// Requests held over all workloads.
    pub held: Arc<Places>,
    pub engine: watch::Sender<EngineState>,
    /// Routes of woken containers in a Traefik beside the gateway.
    pub routes: Routes,
    pub metrics: Metrics,
}

/// Whether what is known of the engine's containers is true now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EngineState {
    /// Not listed yet.
    Unknown,
    Up,
    Down(Arc<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StartLabels {
    pub workload: String,
    /// `ready`, `failed`.
    pub result: &'static str,
}

pub(super) struct Metrics {
    pub starts: Family<StartLabels, Counter>,
    /// From the decision to start until readiness, in seconds.
    pub start_seconds: Histogram,
    pub engine_up: Gauge,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            starts: Family::default(),
            start_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
            engine_up: Gauge::default(),
        };
        registry.register(
            "starts",
            "Starts of workloads, by how they ended",
            metrics.starts.clone(),
        );
        registry.register(
            "start_seconds",
            "Seconds from the decision to start a workload until it was ready",
            metrics.start_seconds.clone(),
        );
        registry.register(
            "engine_up",
            "1 while the container engine answers",
            metrics.engine_up.clone(),
        );
        metrics
    }
}

impl Core {
    /// Must be called on the runtime that effects are to run on.
    pub fn new(
        config: &Config,
        runtime: Arc<dyn Runtime>,
        rules: Arc<dyn ContainerRules>,
        clock: Clock,
        registry: &mut Registry,
    ) -> Self {
        Self {
            prober: Prober::new(runtime.clone()),
            runtime,
            rules,
            lifecycle: config.lifecycle.clone(),
            hold: config.hold.clone(),
            policy: config.spec.clone(),
            clock,
            handle: Handle::current(),
            starts: Semaphore::new(config.lifecycle.parallel_starts),
            held: Arc::new(Places::new(config.hold.total_max)),
            engine: watch::Sender::new(EngineState::Unknown),
            routes: Routes::new(&config.traefik, registry),
            metrics: Metrics::register(registry),
        }
    }

    pub fn machine_limits(&self) -> Limits {
        Limits {
            stop_grace: self.lifecycle.stop_timeout,
            drain: self.lifecycle.drain_timeout,
            // Whoever stops a container from outside gives it the engine's ten seconds as a rule.
            outside_stop: self.lifecycle.stop_timeout + Duration::from_secs(5),
            // Compose renames or removes what it has stopped within some hundred milliseconds.
            outside_rest: Duration::from_secs(1),
            backoff_min: self.lifecycle.backoff_min,
            backoff_max: self.lifecycle.backoff_max,
            settle: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }

    /// The health check in the container's labels, else the scripts' `ready` rule, else the engine's
    /// own health check, else its port.
    ///
    /// The labels go first: a release's launch configuration has written them, and what a release
    /// needs to be healthy is a part of it, whichever scripts there are at the time.
    pub fn ready_rule(&self, instance: &Instance) -> Result<ReadyRule, String> {
        let max = self.lifecycle.ready_timeout;
        if let Some(check) = HealthCheck::from_labels(&instance.labels)? {
            return Ok(ReadyRule::Probe {
                target: check.path,
                every: check.interval.unwrap_or(HEALTH_INTERVAL),
                max: check.timeout.unwrap_or(max),
            });
        }
        match self.rules.ready(&instance.facts()) {
            Ok(Some(rule)) => Ok(rule),
            Ok(None) if instance.health.is_some() => Ok(ReadyRule::Health { max }),
            Ok(None) => Ok(ReadyRule::Tcp { max }),
            Err(failure) => Err(format!("the ready rule failed: {failure}")),
        }
    }

    /// The scripts' `idle` rule, else the configured time. A rule that fails stops nothing.
    pub fn idle_rule(&self, instance: &Instance) -> IdleRule {
        match self.rules.idle(&instance.facts()) {
            Ok(Some(rule)) => rule,
            Ok(None) => IdleRule::StopAfter(self.lifecycle.idle_after),
            Err(failure) => {
                tracing::warn!(
                    workload = %instance.name,
                    "the idle rule failed; the workload stays awake: {}",
                    failure.in_full()
                );
                IdleRule::Never
            }
        }
    }
}

/// The port label, else the port that the labels tell a Traefik beside the gateway, else the lowest
/// exposed port.
pub(super) fn port_of(instance: &Instance) -> Option<u16> {
    let labelled = instance
        .labels
        .get(PORT_LABEL)
        .and_then(|port| port.parse().ok());
    labelled
        .or_else(|| traefik::port(&instance.labels))
        .or_else(|| instance.ports.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::names::WorkloadName;
    use crate::runtime::{InstanceId, InstanceState};

    #[test]
    fn the_port_is_the_labels_then_traefiks_then_the_lowest_exposed_one() {
        let own = (PORT_LABEL, "1");
        let traefiks = ("traefik.http.services.a.loadbalancer.server.port", "2");
        let others = ("traefik.http.services.b.loadbalancer.server.port", "3");
        for (labels, ports, expected) in [
            (&[own, traefiks][..], &[80, 9000][..], Some(1)),
            (&[traefiks], &[80, 9000], Some(2)),
            (&[traefiks], &[], Some(2)),
            (&[(PORT_LABEL, "x"), traefiks], &[80], Some(2)),
            (&[traefiks, others], &[80, 9000], Some(80)),
            (&[], &[80, 9000], Some(80)),
            (&[traefiks, others], &[], None),
        ] {
            let labels = labels.iter();
            let instance = Instance {
                id: InstanceId::new("a"),
                name: WorkloadName::new("a").unwrap(),
                image: "image:1".to_owned(),
                labels: labels
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
                envs: std::collections::BTreeMap::new(),
                state: InstanceState::Stopped { exit_code: None },
                address: None,
                ports: ports.to_vec(),
                health: None,
            };
            assert_eq!(port_of(&instance), expected, "{instance:?}");
        }
    }
}
