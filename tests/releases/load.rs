//! A switch under load, and what has to be true of it; a test and `cargo bench --bench release` share it.

use std::time::{Duration, Instant};

use crate::api::{Api, ms};
use crate::bench::in_time;
use crate::seen;
use crate::stage::{Stage, start};
use crate::streams;
use crate::traffic::{Exchanges, Traffic};

/// How much of everything, and for how long.
#[derive(Debug, Clone)]
pub struct Load {
    pub per_second: usize,
    pub connections: usize,
    pub uploads: usize,
    pub upload_time: Duration,
    pub websockets: usize,
    pub streams: usize,
    pub drain_limit: Duration,
    /// Checks that the new release fails first, and the pause between two of them.
    pub failed_checks: u32,
    pub check_every: Duration,
    /// Between the uploads' beginning and the switch.
    pub before_switch: Duration,
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

/// For what should come at a moment: a busy machine may be so late.
const LATE_MAX: Duration = Duration::from_secs(3);

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
    let parts = (load.upload_time.as_millis() / 100) as usize;
    for _ in 0..load.uploads {
        let pause = Duration::from_millis(100);
        uploads.push(streams::upload(&gateway.public, "/up", parts, pause).await);
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
        let stage = stage.clone();
        async move { seen::told_to_end(stage.bench(), &old_id).await }
    });

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
            all_told && *last <= load.drain_limit + LATE_MAX,
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

    let mut last_upload = Duration::ZERO;
    let mut right = 0;
    let mut wrong = Vec::new();
    for upload in uploads {
        match in_time("an upload's end", upload).await.expect("an end") {
            Ok(uploaded) if uploaded.by == "old" => {
                right += 1;
                last_upload = last_upload.max(after(uploaded.at));
            }
            other => wrong.push(format!("{other:?}")),
        }
    }
    outcome.add(
        wrong.is_empty(),
        format!(
            "{right} of {} uploads ended on the old release, the last {} ms after the switch {}",
            load.uploads,
            ms(last_upload),
            wrong.join("; ")
        ),
    );

    let mut shortest = Duration::MAX;
    let mut broken = 0;
    for stream in events {
        let streamed = in_time("a stream's end", stream).await.expect("an end");
        shortest = shortest.min(after(streamed.last_event));
        broken += usize::from(streamed.by != "old" || !streamed.in_order);
    }
    if load.streams > 0 {
        outcome.add(
            broken == 0 && shortest + Duration::from_millis(500) >= load.drain_limit,
            format!(
                "{} event streams ran on, the shortest for {} ms; the limit is {} ms",
                load.streams,
                ms(shortest),
                ms(load.drain_limit)
            ),
        );
    }
    let told = after(in_time("SIGTERM", watched).await.expect("a moment"));
    let (due, what) = match load.streams {
        0 => (last_upload, "the last upload's end"),
        _ => (load.drain_limit, "the drain limit"),
    };
    let early = Duration::from_millis(100);
    outcome.add(
        told + early >= due && told <= due + LATE_MAX,
        format!(
            "SIGTERM came {} ms after the switch, {what} was at {} ms",
            ms(told),
            ms(due)
        ),
    );

    traffic.more(load.per_second).await;
    let all = traffic.end().await;
    add_requests(&mut outcome, &all, asked, answered);
    let old_one = api.until_phase(&old_hash, "stopped").await;
    outcome.add(
        old_one["role"] == "previous",
        "the old release sleeps and can be gone back to".to_owned(),
    );
    add_never_healthy(&mut outcome, stage, &api, load, &gateway.public).await;
    outcome
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
        answer.status == 422 && took >= TIMEOUT && took < TIMEOUT + 2 * LATE_MAX,
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
