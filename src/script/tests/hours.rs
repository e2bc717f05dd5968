//! The time of a request, as scripts see it: in their time zone, and remembered by its value.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Dir, Sent, said};
use crate::config::{Given, ScriptLimits};
use crate::script::current::Scripts;
use crate::script::decider::Decider;
use crate::script::version::Version;

/// Says the weekday, the hour and the minute, and remembers by them.
const CLOCK: &str =
    "route(\"/clock\", |req| respond(200, `${req.weekday} ${req.hour}:${req.minute}`));";

fn version(script: &str, zone: TimeZone) -> Version {
    let given = Given {
        time_zone: zone,
        ..ScriptLimits {
            cpu_time_max: std::time::Duration::from_secs(20),
            load_cpu_time_max: std::time::Duration::from_secs(20),
            ..ScriptLimits::default()
        }
        .into()
    };
    let dir = Dir::new(&[("a.rhai", script)]);
    Version::load(dir.path(), &given, 1).unwrap_or_else(|errors| panic!("{}", errors[0]))
}

fn at(target: &str, time: &str) -> Sent {
    Sent {
        at: time.parse::<Timestamp>().unwrap().as_second(),
        ..Sent::get(target)
    }
}

#[test]
fn without_a_time_zone_a_request_comes_in_utc() {
    let version = version(CLOCK, Given::default().time_zone);
    for (time, shown) in [
        ("2026-01-05T12:00:00Z", "1 12:0"),
        ("2026-01-04T23:59:59Z", "7 23:59"),
        ("2024-02-29T00:05:00Z", "4 0:5"),
        ("1969-12-31T23:58:59Z", "3 23:58"),
    ] {
        assert_eq!(said(&version, &at("/clock", time)), shown, "{time}");
    }
}

#[test]
fn the_hour_is_that_of_the_time_zone_also_around_a_change_to_summer_time() {
    let berlin = version(CLOCK, TimeZone::get("Europe/Berlin").unwrap());
    for (time, shown) in [
        // A week begins an hour before it does in UTC.
        ("2026-01-04T22:59:59Z", "7 23:59"),
        ("2026-01-04T23:00:00Z", "1 0:0"),
        // From 2 to 3 in one step, and from 3 back to 2.
        ("2026-03-29T00:59:59Z", "7 1:59"),
        ("2026-03-29T01:00:00Z", "7 3:0"),
        ("2026-10-25T00:30:00Z", "7 2:30"),
        ("2026-10-25T01:30:00Z", "7 2:30"),
        ("2026-10-25T02:00:00Z", "7 3:0"),
    ] {
        assert_eq!(said(&berlin, &at("/clock", time)), shown, "{time}");
    }
    // Not every zone is whole hours away.
    let kolkata = version(CLOCK, TimeZone::get("Asia/Kolkata").unwrap());
    let sent = at("/clock", "2026-01-05T18:45:00Z");
    assert_eq!(said(&kolkata, &sent), "2 0:15");
}

#[test]
fn a_time_that_no_calendar_has_is_no_panic() {
    let version = version(CLOCK, TimeZone::UTC);
    for at in [i64::MIN, i64::MAX] {
        let sent = Sent {
            at,
            ..Sent::get("/clock")
        };
        assert_eq!(said(&version, &sent), "4 0:0");
    }
}

#[test]
fn they_are_numbers() {
    let version = version(
        "route(\"/\", |req| { let is_open = req.weekday <= 5 && req.hour in 9..17; respond(200, `${is_open} ${type_of(req.minute)}`) });",
        TimeZone::UTC,
    );
    assert_eq!(said(&version, &at("/", "2026-01-05T16:59:00Z")), "true i64");
    assert_eq!(
        said(&version, &at("/", "2026-01-05T17:00:00Z")),
        "false i64"
    );
    assert_eq!(
        said(&version, &at("/", "2026-01-10T12:00:00Z")),
        "false i64"
    );
}

#[test]
fn a_decision_is_remembered_for_the_hour_that_it_read() {
    let script = "route(\"/hour\", |req| respond(200, `${req.hour}`));
                  route(\"/never\", |req| respond(200, \"always\"));";
    let scripts = Scripts::new(version(script, TimeZone::get("Europe/Berlin").unwrap()));
    let mut decider = Decider::new(scripts);
    let mut asked = |target: &str, time: &str| {
        let before = decider.counts().totals().misses;
        let decided = decider.decide(&at(target, time).facts()).unwrap().unwrap();
        let is_new = decider.counts().totals().misses > before;
        let crate::decision::Decision::Respond(reply) = &*decided.decision else {
            panic!("{decided:?}")
        };
        (reply.body.to_string(), is_new)
    };
    let told = |body: &str, is_new| (body.to_owned(), is_new);
    assert_eq!(asked("/hour", "2026-01-05T12:00:00Z"), told("13", true));
    assert_eq!(asked("/hour", "2026-01-05T12:59:59Z"), told("13", false));
    assert_eq!(asked("/hour", "2026-01-05T13:00:00Z"), told("14", true));
    assert_eq!(
        asked("/hour", "2026-01-06T12:30:00Z"),
        told("13", false),
        "the same hour of another day"
    );
    assert_eq!(
        asked("/hour", "2026-07-06T11:30:00Z"),
        told("13", false),
        "the same hour there, not here"
    );
    // Who does not read the time is not asked again when it goes on.
    assert_eq!(
        asked("/never", "2026-01-05T12:00:00Z"),
        told("always", true)
    );
    assert_eq!(
        asked("/never", "2026-01-06T18:31:00Z"),
        told("always", false)
    );
}
