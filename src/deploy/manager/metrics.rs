//! What is counted of releases, as metrics: read where it is counted, when somebody asks.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Managed;
use crate::deploy::stats::Snapshot;

/// All applications' releases that are known.
struct Releases(Vec<Weak<Managed>>);

impl fmt::Debug for Releases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Releases({})", self.0.len())
    }
}

/// A release's labels and counts.
struct Row {
    app: String,
    release: String,
    current: bool,
    counts: Snapshot,
}

pub(super) fn register<'a>(registry: &mut Registry, apps: impl Iterator<Item = &'a Arc<Managed>>) {
    registry.register_collector(Box::new(Releases(apps.map(Arc::downgrade).collect())));
}

impl Releases {
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for managed in self.0.iter().filter_map(Weak::upgrade) {
            let state = managed.state.lock();
            for (hash, release) in &state.known {
                rows.push(Row {
                    app: managed.name.to_string(),
                    release: hash.short().to_owned(),
                    current: state.current_hash() == Some(hash),
                    counts: release.stats.snapshot(),
                });
            }
        }
        rows
    }
}

impl Collector for Releases {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rows = self.rows();
        if rows.is_empty() {
            return Ok(());
        }
        let labels = |row: &Row| [("app", row.app.clone()), ("release", row.release.clone())];
        let mut requests = encoder.encode_descriptor(
            "release_requests",
            "Requests to a release, by class of status",
            None,
            MetricType::Counter,
        )?;
        for row in &rows {
            let statuses = &row.counts.statuses;
            for (class, count) in [
                ("1xx", statuses.informational),
                ("2xx", statuses.success),
                ("3xx", statuses.redirection),
                ("4xx", statuses.client_error),
                ("5xx", statuses.server_error),
            ] {
                let [app, release] = labels(row);
                let family = [app, release, ("status", class.to_owned())];
                ConstCounter::new(count).encode(requests.encode_family(&family)?)?;
            }
        }
        let mut failed = encoder.encode_descriptor(
            "release_failed_requests",
            "Requests that went wrong by a release's fault",
            None,
            MetricType::Counter,
        )?;
        for row in &rows {
            let family = labels(row);
            let metric = failed.encode_family(&family)?;
            ConstCounter::new(row.counts.failed).encode(metric)?;
        }
        let mut open = encoder.encode_descriptor(
            "release_open_requests",
            "Requests to a release that are open now, by state",
            None,
            MetricType::Gauge,
        )?;
        for row in &rows {
            let now = &row.counts.open;
            for (state, count) in [
                ("held", now.held),
                ("waiting", now.waiting),
                ("streaming", now.streaming),
                ("upgraded", now.upgraded),
            ] {
                let [app, release] = labels(row);
                let family = [app, release, ("state", state.to_owned())];
                ConstGauge::new(count as i64).encode(open.encode_family(&family)?)?;
            }
        }
        let mut current = encoder.encode_descriptor(
            "release_current",
            "1 for the current release of an application",
            None,
            MetricType::Gauge,
        )?;
        for row in &rows {
            let family = labels(row);
            let metric = current.encode_family(&family)?;
            ConstGauge::new(i64::from(row.current)).encode(metric)?;
        }
        Ok(())
    }
}
