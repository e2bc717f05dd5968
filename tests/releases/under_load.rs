//! A switch under load: what `cargo bench --bench release` does for longer and with more of everything.

use std::time::Duration;

use crate::lines;
use crate::load::{Load, run};
use crate::stage::Stage;

/// Other lines run at the same time. It is far less than the limit at which a release without streams
/// would end in any case.
const LATE_MAX: Duration = Duration::from_secs(20);

lines![
    Process a_switch_under_load_loses_nothing,
    Process a_switch_under_load_without_streams_ends_the_old_release_with_its_last_upload,
];

async fn a_switch_under_load_loses_nothing(stage: Stage) {
    let outcome = run(
        &stage,
        &Load {
            per_second: 100,
            connections: 10,
            uploads: 4,
            // Many seconds are left to the limit, at which they would be cut off.
            upload_time: Duration::from_secs(2),
            websockets: 5,
            streams: 3,
            drain_limit: Duration::from_secs(12),
            failed_checks: 5,
            check_every: Duration::from_millis(200),
            before_switch: Duration::from_millis(500),
            late_max: LATE_MAX,
        },
    )
    .await;
    assert!(outcome.is_well(), "{}", outcome.text());
}

async fn a_switch_under_load_without_streams_ends_the_old_release_with_its_last_upload(
    stage: Stage,
) {
    let outcome = run(
        &stage,
        &Load {
            per_second: 100,
            connections: 10,
            uploads: 4,
            upload_time: Duration::from_secs(3),
            websockets: 0,
            streams: 0,
            drain_limit: Duration::from_secs(60),
            failed_checks: 1,
            check_every: Duration::from_millis(100),
            before_switch: Duration::from_millis(500),
            late_max: LATE_MAX,
        },
    )
    .await;
    assert!(outcome.is_well(), "{}", outcome.text());
}
