//! The sample application's settings, from its environment variables.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use http::StatusCode;

use super::go_duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `BIND_ADDRESS`; default every address of the machine.
    pub bind_address: IpAddr,
    /// `PORT`; default 9000; 0 lets the system choose one.
    pub port: u16,
    /// `CONNSTR`: the connection string of the database that a real application would have.
    pub connstr: Option<String>,
    /// `IDLE`: it ends after so long without use; default 1 min; `None` (written `0`) is never.
    pub idle: Option<Duration>,
    /// `BOOT_DELAY`: before it listens; default none.
    pub boot_delay: Duration,
    /// `FAIL_STATUS`: what `/status` answers; default 200.
    pub status: StatusCode,
    /// `FAIL_FIRST`: so many requests to `/status` are answered 503 before that; default none.
    pub fail_first: u32,
    /// `ANSWER_STATUS`: what all other requests are answered with; default 200.
    pub answer_status: StatusCode,
    /// `CRASH_AFTER`: it exits with code 1 after so long, counted from its start; default never.
    pub crash_after: Option<Duration>,
    /// `TERM_DELAY`: so long it goes on serving after SIGTERM; default none.
    pub term_delay: Duration,
    /// `HOSTNAME`, which container engines set; default the machine's.
    pub hostname: String,
}

/// A setting that means nothing, with what would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {value:?} is not {wanted}")]
pub struct SettingError {
    name: &'static str,
    value: String,
    wanted: &'static str,
}

impl Settings {
    /// Reads them with `env`, which gives a variable's value. An empty one counts as not set.
    pub fn read(env: impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingError> {
        let env = |name| env(name).filter(|value| !value.is_empty());
        let duration = |name| {
            read(env(name), name, "a duration (try \"1m30s\")", |text| {
                go_duration::parse(text)
            })
        };
        let text = |name| env(name).map(|value| value.to_string_lossy().into_owned());
        Ok(Self {
            bind_address: read(
                env("BIND_ADDRESS"),
                "BIND_ADDRESS",
                "an IP address (try \"127.0.0.1\")",
                parsed,
            )?
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port: read(env("PORT"), "PORT", "a port (try \"9000\")", parsed)?.unwrap_or(9000),
            connstr: text("CONNSTR"),
            idle: match duration("IDLE")? {
                None => Some(Duration::from_secs(60)),
                Some(Duration::ZERO) => None,
                idle => idle,
            },
            boot_delay: duration("BOOT_DELAY")?.unwrap_or_default(),
            status: read(
                env("FAIL_STATUS"),
                "FAIL_STATUS",
                "a status code from 200 to 599 (try \"503\")",
                final_status,
            )?
            .unwrap_or(StatusCode::OK),
            fail_first: read(
                env("FAIL_FIRST"),
                "FAIL_FIRST",
                "a number of requests (try \"5\")",
                parsed,
            )?
            .unwrap_or(0),
            answer_status: read(
                env("ANSWER_STATUS"),
                "ANSWER_STATUS",
                "a status code from 200 to 599 (try \"500\")",
                final_status,
            )?
            .unwrap_or(StatusCode::OK),
            crash_after: duration("CRASH_AFTER")?,
            term_delay: duration("TERM_DELAY")?.unwrap_or_default(),
            hostname: text("HOSTNAME").unwrap_or_else(own_hostname),
        })
    }
}

fn read<T>(
    value: Option<OsString>,
    name: &'static str,
    wanted: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, SettingError> {
    let Some(value) = value else { return Ok(None) };
    // What is not UTF-8 is shown with replacement characters, which nothing here accepts.
    let value = value.to_string_lossy().into_owned();
    match parse(&value) {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(SettingError {
            name,
            value,
            wanted,
        }),
    }
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn final_status(text: &str) -> Option<StatusCode> {
    let code = parsed(text).filter(|code| (200..600).contains(code))?;
    StatusCode::from_u16(code).ok()
}

/// The kernel's own name for this machine or container: no resolver is asked.
fn own_hostname() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| {
            let pair = pairs.iter().find(|(known, _)| *known == name);
            pair.map(|(_, value)| OsString::from(value))
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.bind_address.to_string(), "0.0.0.0");
        assert_eq!(settings.port, 9000);
        assert_eq!(settings.idle, Some(Duration::from_secs(60)));
        assert_eq!(settings.boot_delay, Duration::ZERO);
        assert_eq!(settings.status, StatusCode::OK);
        assert_eq!(settings.fail_first, 0);
        assert_eq!(settings.answer_status, StatusCode::OK);
        assert_eq!(settings.crash_after, None);
        assert_eq!(settings.term_delay, Duration::ZERO);
        assert_eq!(settings.connstr, None);
        assert!(!settings.hostname.is_empty());
        // A compose file passes on variables that are not set as empty ones.
        let empty = ["PORT", "IDLE", "FAIL_STATUS", "BIND_ADDRESS", "CONNSTR"].map(|n| (n, ""));
        assert_eq!(read(&empty).unwrap(), settings);
    }

    #[test]
    fn every_setting_is_read() {
        let settings = read(&[
            ("BIND_ADDRESS", "127.1.2.3"),
            ("PORT", "8123"),
            ("CONNSTR", "db 1"),
            ("IDLE", "1m30s"),
            ("BOOT_DELAY", "100ms"),
            ("FAIL_STATUS", "503"),
            ("FAIL_FIRST", "5"),
            ("ANSWER_STATUS", "500"),
            ("CRASH_AFTER", "2s"),
            ("TERM_DELAY", "3s"),
            ("HOSTNAME", "web"),
        ]);
        assert_eq!(
            settings.unwrap(),
            Settings {
                bind_address: IpAddr::V4(Ipv4Addr::new(127, 1, 2, 3)),
                port: 8123,
                connstr: Some("db 1".to_owned()),
                idle: Some(Duration::from_secs(90)),
                boot_delay: Duration::from_millis(100),
                status: StatusCode::SERVICE_UNAVAILABLE,
                fail_first: 5,
                answer_status: StatusCode::INTERNAL_SERVER_ERROR,
                crash_after: Some(Duration::from_secs(2)),
                term_delay: Duration::from_secs(3),
                hostname: "web".to_owned(),
            }
        );
    }

    #[test]
    fn no_idle_time_is_never() {
        assert_eq!(read(&[("IDLE", "0")]).unwrap().idle, None);
        assert_eq!(read(&[("IDLE", "0s")]).unwrap().idle, None);
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_would() {
        for (name, value, message) in [
            (
                "IDLE",
                "5 parsecs",
                r#"IDLE: "5 parsecs" is not a duration (try "1m30s")"#,
            ),
            (
                "PORT",
                "65536",
                r#"PORT: "65536" is not a port (try "9000")"#,
            ),
            (
                "BIND_ADDRESS",
                "here",
                r#"BIND_ADDRESS: "here" is not an IP address (try "127.0.0.1")"#,
            ),
            (
                "FAIL_STATUS",
                "101",
                r#"FAIL_STATUS: "101" is not a status code from 200 to 599 (try "503")"#,
            ),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap_err(), message);
        }
    }
}
