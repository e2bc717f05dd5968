//! What a container has sent over its networks, by the engine's statistics.

use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt;

use super::errors::Subject;
use super::{Docker, container_segment};
use crate::runtime::{InstanceId, RuntimeError};

impl Docker {
    /// One sample. An engine takes up to a second for it, as it samples by itself once a second
    /// while somebody asks.
    pub(super) async fn count_sent(&self, id: &InstanceId) -> Result<u64, RuntimeError> {
        let path_id = container_segment(id.as_str())?;
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true);
        let mut samples = std::pin::pin!(self.client.stats(&path_id, Some(options.build())));
        let first = async { samples.next().await.transpose() };
        let sample = self.call(Subject::Container(id.as_str()), first).await?;
        let sample =
            sample.ok_or_else(|| RuntimeError::Failed(format!("it told no statistics of {id}")))?;
        sent(&sample).ok_or_else(|| {
            RuntimeError::Refused(format!(
                "{id} has no network whose bytes it counts; does it run, and on a network of its own?"
            ))
        })
    }
}

/// Over all of its networks; `None` where it has none of its own.
fn sent(sample: &ContainerStatsResponse) -> Option<u64> {
    let networks = sample.networks.as_ref().filter(|all| !all.is_empty())?;
    let counts = networks.values().map(|network| network.tx_bytes);
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_in(json: &str) -> Option<u64> {
        sent(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_bytes_of_all_networks_are_summed() {
        let json = r#"{"id":"f0","networks":{
            "eth0":{"rx_bytes":2270,"tx_bytes":2160,"tx_packets":15},
            "eth1":{"rx_bytes":1,"tx_bytes":40}}}"#;
        assert_eq!(sent_in(json), Some(2_200));
    }

    #[test]
    fn what_is_not_counted_is_not_zero() {
        for json in [
            "{}",
            r#"{"networks":null}"#,
            r#"{"networks":{}}"#,
            r#"{"networks":{"eth0":{"rx_bytes":1}}}"#,
        ] {
            assert_eq!(sent_in(json), None, "{json}");
        }
    }
}
