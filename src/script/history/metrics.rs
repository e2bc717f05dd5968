//! What is counted of versions, and of the decisions that they make.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::script::current::Scripts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    /// `loaded`, `held`, `refused`, `rolled_back`, `rolled_back_by_itself`, `activated`.
    result: &'static str,
}

pub struct Metrics {
    reloads: Family<ReloadLabels, Counter>,
    version: Gauge,
    refused: Gauge,
    held: Gauge,
}

impl Metrics {
    pub fn register(registry: &mut Registry, scripts: Arc<Scripts>) -> Self {
        let metrics = Self {
            reloads: Family::default(),
            version: Gauge::default(),
            refused: Gauge::default(),
            held: Gauge::default(),
        };
        registry.register(
            "script_reloads",
            "Changes of the scripts, by what became of them",
            metrics.reloads.clone(),
        );
        registry.register(
            "script_version",
            "Number of the version of the scripts that decides",
            metrics.version.clone(),
        );
        registry.register(
            "script_refused",
            "1 while the content of the scripts directory is refused",
            metrics.refused.clone(),
        );
        registry.register(
            "script_held",
            "1 while a good version waits to be activated",
            metrics.held.clone(),
        );
        registry.register_collector(Box::new(Decisions(scripts)));
        metrics
    }

    pub fn count(&self, result: &'static str) {
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    pub fn serves(&self, version: u64) {
        self.version.set(version.cast_signed());
    }

    pub fn waits(&self, refused: bool, held: bool) {
        self.refused.set(refused.into());
        self.held.set(held.into());
    }
}

/// The workers' counts, added up when somebody looks.
struct Decisions(Arc<Scripts>);

impl fmt::Debug for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decisions")
    }
}

impl Collector for Decisions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let totals = self.0.totals();
        let mut decisions = encoder.encode_descriptor(
            "script_decisions",
            "Decisions of routes, by whether they were remembered (hit), made and remembered (miss), or made and not remembered (bypass)",
            None,
            MetricType::Counter,
        )?;
        for (memo, count) in [
            ("hit", totals.hits),
            ("miss", totals.misses),
            ("bypass", totals.bypasses),
        ] {
            ConstCounter::new(count).encode(decisions.encode_family(&[("memo", memo)])?)?;
        }
        let failures = encoder.encode_descriptor(
            "script_decision_failures",
            "Decisions that failed because a handler did",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(totals.failures).encode(failures)
    }
}
