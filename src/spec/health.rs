//! A health check that a container brings with it, in its labels: how a release is known to be healthy.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{HEALTH_INTERVAL_LABEL, HEALTH_PATH_LABEL, HEALTH_TIMEOUT_LABEL};

/// The longest pause between two checks where none is named.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest timeout and interval.
pub const HEALTH_TIME_MIN: Duration = Duration::from_millis(1);

/// The longest timeout and interval.
pub const HEALTH_TIME_MAX: Duration = Duration::from_secs(3_600);

/// The longest path, in bytes.
const PATH_BYTES_MAX: usize = 2_048;

/// A path on the container's own port that answers 2xx or 3xx when the container is healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// With its leading slash; it may have a query.
    pub path: String,
    /// For the container to get healthy; from 1 ms to 1 h.
    pub timeout: Option<Duration>,
    /// The longest pause between two checks, which are quicker at first; from 1 ms to 1 h.
    pub interval: Option<Duration>,
}

impl HealthCheck {
    /// Checks what a health check's path has to be like. The error says what is wrong with it.
    pub fn check_path(path: &str) -> Result<(), String> {
        if !path.starts_with('/') {
            return Err(format!("{path:?} is not a path (try \"/up\")"));
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(format!(
                "the path has {} bytes; {PATH_BYTES_MAX} are allowed",
                path.len()
            ));
        }
        if path.contains('#') {
            return Err(format!("{path:?} has a '#', which is never sent"));
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{path:?} has characters that cannot stand in a path (write them as %XX)"
            ));
        }
        Ok(())
    }

    /// Reads a timeout or an interval. The error says what is wrong with it.
    pub fn read_time(text: &str) -> Result<Duration, String> {
        match humantime::parse_duration(text) {
            Ok(time) if (HEALTH_TIME_MIN..=HEALTH_TIME_MAX).contains(&time) => Ok(time),
            Ok(_) => Err(format!(
                "{text:?} is out of range ({} to {})",
                humantime::format_duration(HEALTH_TIME_MIN),
                humantime::format_duration(HEALTH_TIME_MAX)
            )),
            Err(_) => Err(format!("{text:?} is not a duration (try \"60s\")")),
        }
    }

    /// What a container's labels say; `None` when they name no path.
    ///
    /// # Errors
    /// The label that cannot be read, and why.
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        let Some(path) = labels.get(HEALTH_PATH_LABEL) else {
            return Ok(None);
        };
        let in_label = |label: &str, why: String| format!("the label {label}: {why}");
        Self::check_path(path).map_err(|why| in_label(HEALTH_PATH_LABEL, why))?;
        let time = |label: &str| {
            let time = labels.get(label).map(|text| Self::read_time(text));
            time.transpose().map_err(|why| in_label(label, why))
        };
        Ok(Some(Self {
            path: path.clone(),
            timeout: time(HEALTH_TIMEOUT_LABEL)?,
            interval: time(HEALTH_INTERVAL_LABEL)?,
        }))
    }

    /// Writes the labels from which it can be read again.
    pub fn write_labels(&self, labels: &mut BTreeMap<String, String>) {
        labels.insert(HEALTH_PATH_LABEL.to_owned(), self.path.clone());
        let mut time = |label: &str, time: Option<Duration>| {
            if let Some(time) = time {
                let text = humantime::format_duration(time).to_string();
                labels.insert(label.to_owned(), text);
            }
        };
        time(HEALTH_TIMEOUT_LABEL, self.timeout);
        time(HEALTH_INTERVAL_LABEL, self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_into_labels_is_read_from_them_again() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (timeout, interval) in [
            (None, None),
            (seconds(90), Some(Duration::from_millis(1_250))),
            (Some(HEALTH_TIME_MIN), Some(HEALTH_TIME_MAX)),
        ] {
            let check = HealthCheck {
                path: "/up?deep=1".to_owned(),
                timeout,
                interval,
            };
            let mut labels = BTreeMap::new();
            check.write_labels(&mut labels);
            assert_eq!(HealthCheck::from_labels(&labels), Ok(Some(check)));
        }
        assert_eq!(HealthCheck::from_labels(&BTreeMap::new()), Ok(None));
    }

    #[test]
    fn a_label_that_cannot_be_read_is_told_with_its_name() {
        for (label, text, told) in [
            (
                HEALTH_PATH_LABEL,
                "up",
                "the label wakegate.health.path: \"up\" is not a path (try \"/up\")",
            ),
            (
                HEALTH_TIMEOUT_LABEL,
                "soon",
                "the label wakegate.health.timeout: \"soon\" is not a duration (try \"60s\")",
            ),
            (
                HEALTH_INTERVAL_LABEL,
                "0s",
                "the label wakegate.health.interval: \"0s\" is out of range (1ms to 1h)",
            ),
        ] {
            let mut labels = BTreeMap::from([(HEALTH_PATH_LABEL.to_owned(), "/up".to_owned())]);
            labels.insert(label.to_owned(), text.to_owned());
            assert_eq!(HealthCheck::from_labels(&labels), Err(told.to_owned()));
        }
    }

    #[test]
    fn a_path_is_what_can_stand_in_a_request() {
        for good in ["/", "/up", "/up?a=%20", "//x", "/@a:b"] {
            assert_eq!(HealthCheck::check_path(good), Ok(()), "{good}");
        }
        let long = format!("/{}", "x".repeat(PATH_BYTES_MAX));
        for bad in [
            "",
            "up",
            "http://a/up",
            "/a b",
            "/a\r\nb",
            "/ä",
            "/a#b",
            &long,
        ] {
            assert!(HealthCheck::check_path(bad).is_err(), "{bad}");
        }
    }
}
