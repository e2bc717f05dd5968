//! Durations as Go writes them: `1m30s`, `1.5h`, `100ms`.

use std::time::Duration;

/// The longest that is accepted: 100 years.
const SECONDS_MAX: u64 = 100 * 365 * 86_400;

/// Reads what Go's `time.ParseDuration` reads, without a sign. `None` for anything else, and for
/// more than 100 years.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit_on) = rest.split_at(number_end);
        let unit_end = unit_on
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit_on.len());
        let (unit, after) = unit_on.split_at(unit_end);
        nanos = nanos.checked_add(part(number, nanos_in(unit)?)?)?;
        rest = after;
    }
    let in_range = !text.is_empty() && nanos <= u128::from(SECONDS_MAX) * 1_000_000_000;
    in_range.then(|| {
        Duration::new(
            (nanos / 1_000_000_000) as u64,
            (nanos % 1_000_000_000) as u32,
        )
    })
}

/// As Go prints it, cut off at milliseconds: `0s`, `150ms`, `59.5s`, `1h0m0s`.
pub fn in_go_style(time: Duration) -> String {
    let millis = time.as_millis();
    let (seconds, fraction) = (millis / 1000, millis % 1000);
    if seconds == 0 && fraction > 0 {
        return format!("{fraction}ms");
    }
    let tail = match fraction {
        0 => format!("{}s", seconds % 60),
        _ => {
            let decimals = format!("{fraction:03}");
            format!("{}.{}s", seconds % 60, decimals.trim_end_matches('0'))
        }
    };
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => tail,
        (0, minutes) => format!("{minutes}m{tail}"),
        (hours, minutes) => format!("{hours}h{minutes}m{tail}"),
    }
}

fn nanos_in(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        // Go takes the micro sign (U+00B5) and the Greek letter mu (U+03BC).
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

/// `number` units in nanoseconds: `1.5` of `2` is 3. The number may begin or end with its point.
fn part(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = match whole {
        "" => 0,
        digits => digits.parse::<u64>().ok()?,
    };
    let mut nanos = u128::from(whole) * unit;
    // Digits that are worth less than a nanosecond are cut off.
    let mut worth = unit;
    for digit in fraction.bytes() {
        nanos += u128::from(digit - b'0') * worth / 10;
        worth /= 10;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, millis) in [
            ("1m", 60_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("100ms", 100),
            ("0", 0),
            ("0s", 0),
            (".5s", 500),
            ("1.s", 1_000),
            ("1h0m0.25s", 3_600_250),
            ("1500us", 1),
            ("2000\u{b5}s", 2),
            ("1s1s", 2_000),
        ] {
            let read = parse(text).map(|time| time.as_millis());
            assert_eq!(read, Some(millis), "{text}");
        }
        assert_eq!(
            parse("1.333333333333s"),
            Some(Duration::from_nanos(1_333_333_333))
        );
    }

    #[test]
    fn what_is_not_a_go_duration_is_refused() {
        for text in [
            "",
            "1",
            "1.5",
            "m",
            ".s",
            "1 m",
            "1m ",
            "-1m",
            "+1m",
            "1d",
            "5 parsecs",
            "1.2.3s",
            "1m30",
            "99999999999999999999999h",
            "1000000h",
            "1M",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (7, "7ms"),
            (150, "150ms"),
            (1_000, "1s"),
            (59_500, "59.5s"),
            (60_000, "1m0s"),
            (90_250, "1m30.25s"),
            (3_600_000, "1h0m0s"),
            (90_061_001, "25h1m1.001s"),
        ] {
            assert_eq!(in_go_style(Duration::from_millis(millis)), text);
        }
    }
}
