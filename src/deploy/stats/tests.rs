//! What is counted of requests, one by one and by many threads at once.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::{Open, Snapshot, State, Stats, Statuses, Visit};

const MS: Duration = Duration::from_millis(1);

fn answered(stats: &Arc<Stats>, status: u16, after: Duration) {
    let mut visit = Visit::new(stats.clone());
    visit.enter(State::Waiting);
    visit.answered(StatusCode::from_u16(status).unwrap(), after);
}

#[test]
fn a_request_is_open_in_one_state_at_a_time_and_in_none_when_it_is_over() {
    let stats = Arc::<Stats>::default();
    let open = |held, waiting, streaming, upgraded| Open {
        held,
        waiting,
        streaming,
        upgraded,
    };
    let mut visit = Visit::new(stats.clone());
    assert_eq!(stats.snapshot().open, Open::default());
    for (state, expected) in [
        (State::Held, open(1, 0, 0, 0)),
        (State::Waiting, open(0, 1, 0, 0)),
        (State::Waiting, open(0, 1, 0, 0)),
        (State::Streaming, open(0, 0, 1, 0)),
        (State::Upgraded, open(0, 0, 0, 1)),
    ] {
        visit.enter(state);
        assert_eq!(stats.snapshot().open, expected);
    }
    let mut other = Visit::new(stats.clone());
    other.enter(State::Held);
    drop(visit);
    assert_eq!(stats.snapshot().open, open(1, 0, 0, 0));
    other.turned_over(false);
    assert_eq!(stats.snapshot().open, Open::default());
}

#[test]
fn each_request_counts_once_by_its_status_and_fails_once() {
    let stats = Arc::<Stats>::default();
    for status in [101, 200, 204, 304, 404, 500, 599] {
        answered(&stats, status, MS);
    }
    let visit = || Visit::new(stats.clone());
    // Reached at another attempt.
    let mut late = visit();
    late.not_reached();
    late.not_reached();
    late.answered(StatusCode::OK, MS);
    // Never reached.
    let mut never = visit();
    never.not_reached();
    never.refused(StatusCode::BAD_GATEWAY, true);
    // Too large: the client's fault.
    visit().refused(StatusCode::PAYLOAD_TOO_LARGE, false);
    visit().turned_over(true);
    // It sleeps, and this request was not to wake it.
    visit().turned_over(false);
    // Its client left.
    drop(visit());
    let told = stats.snapshot();
    assert_eq!(told.requests, 10);
    assert_eq!(told.statuses, Statuses::from([1, 3, 1, 2, 3]));
    assert_eq!(
        (told.connect_errors, told.gateway_errors, told.turned_over),
        (2, 2, 2)
    );
    // Two with 5xx, late, never, and one that was turned over.
    assert_eq!(told.failed, 5);
    assert_eq!((told.visits(), told.unanswered), (12, 0));
    // What the gateway said itself has no response time.
    assert_eq!(told.response_times.buckets.total(), 8);
}

#[test]
fn what_failed_and_has_no_answer_counts_as_a_request_that_failed() {
    let stats = Arc::<Stats>::default();
    let mut waiting = Visit::new(stats.clone());
    waiting.not_reached();
    let mut left = Visit::new(stats.clone());
    left.not_reached();
    drop(left);
    // Its client left before anything was known of it.
    drop(Visit::new(stats.clone()));
    let told = stats.snapshot();
    assert_eq!((told.requests, told.failed, told.unanswered), (0, 2, 2));
    assert_eq!(told.visits(), 2);
    waiting.answered(StatusCode::OK, MS);
    drop(waiting);
    let told = stats.snapshot();
    assert_eq!((told.requests, told.failed, told.unanswered), (1, 2, 1));
    assert_eq!(told.visits(), 2);
    let mut over = Visit::new(stats.clone());
    over.not_reached();
    over.turned_over(true);
    let told = stats.snapshot();
    assert_eq!((told.visits(), told.failed, told.unanswered), (3, 3, 1));
}

#[test]
fn what_was_counted_in_between_is_told_by_itself() {
    let stats = Arc::<Stats>::default();
    for _ in 0..99 {
        answered(&stats, 200, Duration::from_secs(1));
    }
    stats.from_client(1_000);
    let before = stats.snapshot();
    answered(&stats, 503, 5 * MS);
    answered(&stats, 200, 5 * MS);
    stats.from_client(7);
    stats.to_client(9);
    let mut open = Visit::new(stats.clone());
    open.enter(State::Streaming);
    let since = stats.snapshot().since(&before);
    assert_eq!(since.statuses, Statuses::from([0, 1, 0, 0, 1]));
    assert_eq!((since.requests, since.failed), (2, 1));
    assert_eq!((since.bytes_from_clients, since.bytes_to_clients), (7, 9));
    assert_eq!(since.open.streaming, 1);
    let (told, now) = (since.response_times.p99_ms.unwrap(), stats.snapshot());
    assert!((told - 5.0).abs() < 0.5, "{told}");
    assert!(now.response_times.p50_ms.unwrap() > 900.0);
    // Nothing in between is nothing, also of the percentiles.
    let none = now.since(&now);
    assert_eq!(
        none,
        Snapshot {
            open: none.open,
            ..Snapshot::default()
        }
    );
}

#[test]
fn it_is_shown_with_its_percentiles_and_in_milliseconds() {
    let stats = Arc::<Stats>::default();
    answered(&stats, 200, Duration::from_micros(1_030));
    let shown = serde_json::to_value(stats.snapshot()).unwrap();
    assert_eq!(
        shown,
        json!({
            "requests": 1,
            "statuses": { "1xx": 0, "2xx": 1, "3xx": 0, "4xx": 0, "5xx": 0 },
            "connect_errors": 0,
            "gateway_errors": 0,
            "turned_over": 0,
            "broken_off": 0,
            "failed": 0,
            "unanswered": 0,
            "response_times": {
                "p50_ms": 1.088,
                "p90_ms": 1.088,
                "p99_ms": 1.088,
                "buckets": [{ "from_ms": 1.024, "below_ms": 1.152, "requests": 1 }],
            },
            "bytes_from_clients": 0,
            "bytes_to_clients": 0,
            "open": { "held": 0, "waiting": 0, "streaming": 0, "upgraded": 0 },
        })
    );
}

#[test]
fn many_threads_count_exactly() {
    const THREADS: u64 = 8;
    const REQUESTS: u64 = 5_000;
    let stats = Arc::<Stats>::default();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let stats = &stats;
            scope.spawn(move || {
                for n in 0..REQUESTS {
                    let mut visit = Visit::new(stats.clone());
                    visit.enter(State::Held);
                    visit.enter(State::Waiting);
                    if n % 10 == 0 {
                        visit.not_reached();
                    }
                    let status = if n % 2 == 0 { 200 } else { 500 };
                    let status = StatusCode::from_u16(status).unwrap();
                    visit.answered(status, Duration::from_micros(n * thread));
                    visit.enter(State::Streaming);
                    stats.to_client(3);
                    stats.from_client(2);
                }
            });
        }
    });
    let all = THREADS * REQUESTS;
    let told = stats.snapshot();
    assert_eq!(told.requests, all);
    assert_eq!(told.statuses, Statuses::from([0, all / 2, 0, 0, all / 2]));
    assert_eq!(told.connect_errors, all / 10);
    assert_eq!(told.failed, all / 2 + all / 10);
    assert_eq!(told.response_times.buckets.total(), all);
    assert_eq!(
        (told.bytes_to_clients, told.bytes_from_clients),
        (3 * all, 2 * all)
    );
    assert_eq!(told.open, Open::default());
}
