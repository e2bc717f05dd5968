//! Lengths of time as scripts write them: numbers of seconds, `"1m30s"`, `"1.5h"`.

use std::time::Duration;

use rhai::Dynamic;

/// The longest length of time that a script may name: ten years.
pub const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Reads a number of seconds, or text such as `"90s"`, `"1m30s"`, `"1.5h"`, `"100ms"`, `"2 days"`.
///
/// Both Go's notation (`time.ParseDuration`) and humantime's are understood.
pub fn duration(value: &Dynamic) -> Result<Duration, String> {
    if let Ok(seconds) = value.as_int() {
        return from_seconds(seconds as f64);
    }
    if let Ok(seconds) = value.as_float() {
        return from_seconds(seconds);
    }
    match value.as_immutable_string_ref() {
        Ok(text) => parse(&text),
        Err(_) => Err(format!(
            "a duration is a number of seconds or text such as \"1m30s\", not {}",
            value.type_name()
        )),
    }
}

/// Reads text; without a unit it is no duration, as `"90"` may mean anything.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let parsed = match go_seconds(text) {
        Some(seconds) => from_seconds(seconds),
        None => match humantime::parse_duration(text) {
            Ok(time) if time <= DURATION_MAX => Ok(time),
            Ok(_) => Err("is longer than ten years".to_owned()),
            Err(_) => Err("is not a duration (try \"90s\", \"1m30s\" or \"1.5h\")".to_owned()),
        },
    };
    parsed.map_err(|why| format!("{text:?} {why}"))
}

fn from_seconds(seconds: f64) -> Result<Duration, String> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time <= DURATION_MAX => Ok(time),
        Ok(_) => Err("is longer than ten years".to_owned()),
        Err(_) => Err(format!("{seconds} seconds is not a length of time")),
    }
}

/// `"1h2m3.5s"` in seconds; `None` when the text is not in Go's notation.
fn go_seconds(text: &str) -> Option<f64> {
    if text == "0" {
        return Some(0.0);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_understood_as_people_and_go_programs_write_them() {
        for (text, millis) in [
            ("1m0s", 60_000),
            ("1.5h", 5_400_000),
            ("100ms", 100),
            ("1h2m3.5s", 3_723_500),
            ("90s", 90_000),
            (" 1m30s ", 90_000),
            ("1m 30s", 90_000),
            ("2 days", 172_800_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text:?}");
        }
        for text in [
            "",
            "90",
            "soon",
            "-5s",
            "1m30",
            "5 parsecs",
            "s",
            "1..5s",
            "20 years",
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.starts_with(&format!("{:?}", text)), "{refused}");
        }
    }

    #[test]
    fn a_number_is_seconds() {
        assert_eq!(duration(&90_i64.into()), Ok(Duration::from_secs(90)));
        assert_eq!(duration(&0.25_f64.into()), Ok(Duration::from_millis(250)));
        for bad in [
            Dynamic::from(-1_i64),
            f64::NAN.into(),
            f64::INFINITY.into(),
            i64::MAX.into(),
            true.into(),
            ().into(),
        ] {
            assert!(duration(&bad).is_err(), "{bad:?}");
        }
    }
}
