//! Spans follow one another, and what is counted is of the last two.

use proptest::prelude::*;

use super::*;

const SPAN: Span = Span {
    time: Duration::from_secs(60),
    requests: 20,
};

fn tally(requests: u64, failures: u64) -> Tally {
    Tally { requests, failures }
}

fn second(second: u64) -> Moment {
    Moment::from_millis(second * 1000)
}

#[test]
fn what_is_older_than_two_spans_is_forgotten() {
    let mut lately = Lately::begin(SPAN, second(0), tally(0, 0));
    lately.note(second(60), tally(100, 90));
    assert_eq!(lately.of(tally(100, 90)), tally(100, 90));
    lately.note(second(120), tally(200, 91));
    assert_eq!(lately.of(tally(250, 92)), tally(150, 2));
}

#[test]
fn a_span_is_not_over_without_enough_requests() {
    let mut lately = Lately::begin(SPAN, second(0), tally(5, 5));
    lately.note(second(60), tally(35, 10));
    lately.note(second(1_000), tally(54, 10));
    assert_eq!(lately.of(tally(54, 10)), tally(49, 5));
    lately.note(second(2_000), tally(55, 10));
    assert_eq!(lately.of(tally(56, 10)), tally(21, 0));
}

#[test]
fn many_requests_do_not_end_a_span_before_its_time() {
    let mut lately = Lately::begin(SPAN, second(0), tally(0, 0));
    lately.note(second(59), tally(10_000, 5));
    assert_eq!(lately.of(tally(10_000, 5)), tally(10_000, 5));
    lately.note(second(61), tally(20_000, 5));
    lately.note(second(119), tally(30_000, 5));
    assert_eq!(lately.of(tally(30_000, 5)), tally(30_000, 5));
}

proptest! {
    /// Whatever the order of looks: what counts is of the last two spans at least, when there are so many,
    /// and never more than there was.
    #[test]
    fn it_tells_at_least_one_whole_span(
        steps in proptest::collection::vec((1u64..200, 0u64..50, 0u64..50), 1..60),
    ) {
        let (mut now, mut counted) = (0, tally(0, 0));
        let mut lately = Lately::begin(SPAN, second(0), counted);
        for (seconds, well, failed) in steps {
            now += seconds;
            counted.requests += well + failed;
            counted.failures += failed;
            lately.note(second(now), counted);
            let told = lately.of(counted);
            prop_assert!(told.requests <= counted.requests && told.failures <= told.requests);
            prop_assert!(told.requests >= SPAN.requests.min(counted.requests));
        }
    }
}
