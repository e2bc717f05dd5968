//! A switch under load, and what has to be true of it; a test and `cargo bench --bench release` share it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;

use crate::api::{Api, ms};
use crate::bench::in_time;
use crate::seen;
use crate::stage::{Stage, start};
use crate::streams::{self, Upload};
use crate::traffic::{Exchanges, Traffic};

/// How much of everything, and for how long.
#[derive(Debug, Clone)]
pub struct Load {
    pub per_second: usize,
    pub connections: usize,
    pub uploads: usize,
    /// From their beginning, which is before the switch.
    pub upload_time: Duration,
    pub websockets: usize,
    pub streams: usize,
    pub drain_limit: Duration,
    /// Checks that the new release fails first, and the pause between two of them.
    pub failed_checks: u32,
    pub check_every: Duration,
    /// Between the uploads' beginning and the switch.
    pub before_switch: Duration,
    /// For what should come at a moment: as late as a machine may be that does other things besides.
    pub late_max: Duration,
}

/// How it went: every line of it says whether it is as promised.
pub struct Outcome {
    pub lines: Vec<(bool, String)>,
}

impl Outcome {
    pub fn is_well(&self) -> bool {
        self.lines.iter().all(|(well, _)| *well)
    }

    fn add(&mut self, well: bool, line: String) {
        self.lines.push((well, line));
    }

    /// One line a promise, for people.
    pub fn text(&self) -> String {
        let lines = self.lines.iter().map(|(well, line)| {
            let mark = if *well { "ok    " } else { "FAILED" };
            format!("{mark} {line}\n")
        });
        lines.collect()
    }
}

/// After the answer to a switch, requests may go to the old release no longer than this.
const SWITCHED_WITHIN: Duration = Duration::from_millis(50);

/// In which a release would be told to end if a last upload did not count.
const ONE_IS_LEFT: Duration = Duration::from_millis(300);

/// Switches from one release to another under that load.
pub async fn run(stage: &Stage, load: &Load) -> Outcome {
    let limit = humantime::format_duration(load.drain_limit).to_string();
    let setup = stage
        .setup()
        .set("apps.shop.drain_timeout", limit)
        // Nothing but the end of its uses and streams holds it up.
        .set("lifecycle.stop_timeout", "5s");
    let (gateway, api) = start(&setup).await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let old_id = seen::container(stage.bench(), &old.container())
        .await
        .expect("it runs")
        .id;
    let mut outcome = Outcome { lines: Vec::new() };
    let traffic = Traffic::begin(&gateway.public, "/x", load.connections, load.per_second);
    traffic.more(load.per_second).await;
    let mut websockets = Vec::new();
    for _ in 0..load.websockets {
        let pause = Duration::from_millis(100);
        websockets.push(streams::websocket(&gateway.public, "/echo", pause).await);
    }
    let mut events = Vec::new();
    for _ in 0..load.streams {
        events.push(streams::events(&gateway.public, "/events?every=100").await);
    }

    let new = stage
        .release("new")
        .env("FAIL_FIRST", &load.failed_checks.to_string())
        .health(
            "interval",
            &humantime::format_duration(load.check_every).to_string(),
        );
    let launching = Instant::now();
    let hash = api.launched(&new).await;
    let launched_in = launching.elapsed();
    let mut uploads = Vec::new();
    let uploads_end = tokio::time::Instant::now() + load.upload_time;
    for _ in 0..load.uploads {
        uploads.push(streams::upload(&gateway.public, "/up").await);
    }
    tokio::time::sleep(load.before_switch).await;
    let under_way = (load.uploads + load.websockets + load.streams) as u64;
    crate::bench::until("all are under way", || async {
        let leases = api.release(&old_hash).await["leases"].as_u64();
        (leases >= Some(under_way)).then_some(())
    })
    .await;

    let asked = Instant::now();
    api.switched(&hash).await;
    let answered = Instant::now();
    let left = api.release(&old_hash).await["drain_seconds_left"].as_f64();
    outcome.add(
        left.is_some_and(|left| left <= load.drain_limit.as_secs_f64())
            || answered.elapsed() >= load.drain_limit,
        format!("the old release had {left:?} s left for what was under way"),
    );
    // Had it been taken for healthy before, one more check would fail.
    let check = api.client.get("/status").await;
    outcome.add(
        check.status == 200,
        format!(
            "the new release failed {} checks and was healthy after {} ms",
            load.failed_checks,
            ms(launched_in)
        ),
    );
    let after = |moment: Instant| moment.saturating_duration_since(asked);
    let watched = tokio::spawn({
        let (stage, old_id) = (stage.clone(), old_id.clone());
        async move { seen::told_to_end(stage.bench(), &old_id).await }
    });

    tokio::time::sleep_until(uploads_end).await;
    let last_upload = add_uploads(&mut outcome, stage, &old_id, uploads).await;
    let last_upload = last_upload.map_or(Duration::ZERO, after);

    let mut ends = Vec::new();
    let mut codes = Vec::new();
    for websocket in websockets {
        let closed = in_time("a websocket's end", websocket)
            .await
            .expect("an end");
        ends.push(after(closed.at));
        codes.push(closed.code);
    }
    ends.sort_unstable();
    if let (Some(first), Some(last)) = (ends.first(), ends.last()) {
        let all_told = codes.iter().all(|code| *code == Some(1001));
        outcome.add(
            all_told && *last <= load.drain_limit + load.late_max,
            format!(
                "{} websockets got 1001, the first {} and the last {} ms after the switch",
                codes.len(),
                ms(*first),
                ms(*last)
            ),
        );
        outcome.add(
            ends.len() < 2 || *last - *first > Duration::from_millis(100),
            "they did not get it all at once".to_owned(),
        );
    }

    let mut shortest = Duration::MAX;
    let mut first_silence = Duration::MAX;
    let mut broken = 0;
    for stream in events {
        let streamed = in_time("a stream's end", stream).await.expect("an end");
        shortest = shortest.min(after(streamed.ended));
        first_silence = first_silence.min(after(streamed.last_event));
        broken += usize::from(streamed.by != "old" || !streamed.in_order);
    }
    if load.streams > 0 {
        outcome.add(
            // Not only left open: the application went on to send, however slowly that got here.
            broken == 0 && shortest >= load.drain_limit && first_silence >= load.drain_limit / 2,
            format!(
                "{} event streams ran on, the shortest for {} ms, its last event after {} ms; the limit is {} ms",
                load.streams,
                ms(shortest),
                ms(first_silence),
                ms(load.drain_limit)
            ),
        );
    }
    let told = after(in_time("SIGTERM", watched).await.expect("a moment"));
    let (due, is_early, what) = match load.streams {
        // That it was not told before the last part of it is seen above.
        0 => (last_upload, false, "the last upload's end"),
        _ => (load.drain_limit, told < load.drain_limit, "the drain limit"),
    };
    outcome.add(
        !is_early && told <= due + load.late_max,
        format!(
            "SIGTERM came {} ms after the switch, {what} was at {} ms",
            ms(told),
            ms(due)
        ),
    );

    traffic.more(load.per_second).await;
    let all = traffic.end().await;
    add_requests(&mut outcome, &all, asked, answered);
    // That it no longer drains is told a moment after its container has stopped.
    let sleeps = |release: &Value| release["phase"] == "stopped" && release["role"] != "draining";
    let old_one = api.until_release("it sleeps", &old_hash, sleeps).await;
    outcome.add(
        old_one["role"] == "previous",
        "the old release sleeps and can be gone back to".to_owned(),
    );
    add_never_healthy(&mut outcome, stage, &api, load, &gateway.public).await;
    outcome
}

/// Ends all but one of the uploads and, when nobody has told the old release to end for that, the
/// last. Gives the moment of the last answer.
async fn add_uploads(
    outcome: &mut Outcome,
    stage: &Stage,
    old_id: &str,
    mut uploads: Vec<Upload>,
) -> Option<Instant> {
    let count = uploads.len();
    let last = uploads.pop();
    let mut ended = join_all(uploads.into_iter().map(Upload::finish)).await;
    if let Some(last) = last {
        tokio::time::sleep(ONE_IS_LEFT).await;
        outcome.add(
            !seen::was_told_to_end(stage.bench(), old_id).await,
            "there was no SIGTERM before the last part of the last upload".to_owned(),
        );
        ended.push(last.finish().await);
    }
    let (right, wrong): (Vec<_>, Vec<_>) = ended
        .into_iter()
        .partition(|ended| ended.as_ref().is_ok_and(|uploaded| uploaded.by == "old"));
    outcome.add(
        wrong.is_empty(),
        format!(
            "{} of {count} uploads ended on the old release {}",
            right.len(),
            wrong
                .iter()
                .map(|wrong| format!("{wrong:?}"))
                .collect::<Vec<_>>()
                .join("; ")
        ),
    );
    right
        .into_iter()
        .flatten()
        .map(|uploaded| uploaded.at)
        .max()
}

fn add_requests(outcome: &mut Outcome, all: &Exchanges, asked: Instant, answered: Instant) {
    let failures = all.failures();
    let first = failures
        .first()
        .map(|first| format!(", first {:?}", first.by));
    outcome.add(
        failures.is_empty(),
        format!(
            "{} of {} requests failed{}",
            failures.len(),
            all.0.len(),
            first.unwrap_or_default()
        ),
    );
    let late = all.since(answered + SWITCHED_WITHIN);
    let (before, late_by) = (all.before(asked), late.by_release());
    outcome.add(
        late_by.len() == 1 && late_by.contains_key("new"),
        format!(
            "from {} ms after the answer on {} requests, all to the new release: {late_by:?}",
            ms(SWITCHED_WITHIN),
            late.0.len()
        ),
    );
    let around = all
        .since(asked - Duration::from_millis(500).min(asked.elapsed()))
        .before(answered + Duration::from_millis(500));
    for (what, part) in [("before", &before), ("at", &around), ("after", &late)] {
        outcome.add(
            true,
            format!(
                "response times {what:>6} the switch: p50 {:.1}, p99 {:.1}, most {:.1} ms of {}",
                part.percentile(0.5),
                part.percentile(0.99),
                part.percentile(1.0),
                part.0.len()
            ),
        );
    }
}

/// One that never gets healthy fails in its time, and nobody notices.
async fn add_never_healthy(
    outcome: &mut Outcome,
    stage: &Stage,
    api: &Api,
    load: &Load,
    public: &str,
) {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let traffic = Traffic::begin(public, "/x", load.connections, load.per_second);
    let never = stage
        .release("never")
        .env("FAIL_STATUS", "503")
        .health("timeout", "2s");
    let hash = api.stored(&never).await;
    let began = Instant::now();
    let answer = api.launch(&hash).await;
    let took = began.elapsed();
    let there = seen::container(stage.bench(), &never.container()).await;
    traffic.more(load.per_second / 2).await;
    let all = traffic.end().await;
    let by = all.by_release();
    outcome.add(
        answer.status == 422 && took >= TIMEOUT && took < TIMEOUT + 2 * load.late_max,
        format!(
            "a release that never gets healthy: {} after {} ms of {}",
            answer.status,
            ms(took),
            ms(TIMEOUT)
        ),
    );
    outcome.add(there.is_none(), "its container is gone".to_owned());
    outcome.add(
        by.len() == 1 && by.contains_key("new"),
        format!("meanwhile all requests went to the current one: {by:?}"),
    );
}
