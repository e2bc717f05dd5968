//! What of a workload cannot be seen from outside.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::{Map, Value};

use super::Workload;
use crate::clock::Clock;
use crate::config::Config;
use crate::decision::{ContainerFacts, ContainerRules, IdleRule, ReadyRule, ScriptFailure};
use crate::lifecycle::core::Core;
use crate::lifecycle::machine::Event;
use crate::names::WorkloadName;
use crate::runtime::Runtime;
use crate::runtime::fake::Fake;
use crate::spec::WorkloadSpec;

/// Never ready.
struct Rules;

impl ContainerRules for Rules {
    fn ready(&self, _: &ContainerFacts) -> Result<Option<ReadyRule>, ScriptFailure> {
        Ok(Some(ReadyRule::Wait(Duration::from_secs(3600))))
    }

    fn idle(&self, _: &ContainerFacts) -> Result<Option<IdleRule>, ScriptFailure> {
        Ok(None)
    }

    fn template(
        &self,
        _: &str,
        _: &Map<String, Value>,
    ) -> Result<Option<WorkloadSpec>, ScriptFailure> {
        Ok(None)
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_page_that_asks_again_and_again_leaves_nobody_waiting() {
    let fake = Fake::new();
    let name = WorkloadName::new("a").unwrap();
    let id = fake.add(WorkloadSpec::new(name.clone(), "image:1"));
    let runtime: Arc<dyn Runtime> = Arc::new(fake.clone());
    let config = Config::default();
    let core = Core::new(
        &config,
        runtime,
        Arc::new(Rules),
        Clock::new(),
        &mut Registry::default(),
    );
    let workload = Workload::new(name, Arc::new(core));
    workload.look(&id).await;
    for _ in 0..1_000 {
        let wish = Event::Wanted { by_operator: false };
        workload.nudge(wish, None).unwrap().unwrap();
    }
    assert_eq!(workload.inner.lock().waiters.len(), 0);
    fake.wait_until(|fake| fake.is_running("a")).await;
    assert_eq!(fake.starts("a"), 1);
}
