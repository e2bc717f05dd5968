//! Log lines: where they go and what they look like.

use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// Why log lines cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A loaded configuration has been checked for this; one made by hand has not.
    #[error("{0:?} is not a log filter")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    #[error("log lines are set up already")]
    SetUpAlready,
}

/// Sends the whole process's log lines to standard error. Once a process.
pub fn init(log: &Log) -> Result<(), LogError> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = std::io::stderr().is_terminal() && !no_color;
    let subscriber = subscriber(log, colours, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::SetUpAlready)
}

/// What turns events into lines. JSON lines carry the event's fields at the top level.
fn subscriber<W>(
    log: &Log,
    colours: bool,
    to: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(&log.level)
        .map_err(|error| LogError::Filter(log.level.clone(), error))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(to);
    Ok(match log.format {
        LogFormat::Text => Box::new(lines.with_ansi(colours).finish()),
        LogFormat::Json => Box::new(
            lines
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .finish(),
        ),
    })
}

#[cfg(test)]
pub mod captured;

#[cfg(test)]
mod tests {
    use super::captured::{Captured, prepare};
    use super::*;

    fn logged(format: LogFormat, level: &str, speak: impl FnOnce()) -> String {
        prepare();
        let lines = Captured::default();
        let log = Log {
            format,
            level: level.to_owned(),
            requests: false,
        };
        let writer = lines.clone();
        let subscriber = subscriber(&log, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, speak);
        lines.text()
    }

    fn speak() {
        let span = tracing::info_span!("workload", workload = "a");
        span.in_scope(|| tracing::info!(took_ms = 5, "awake"));
        tracing::debug!("a detail");
    }

    #[test]
    fn json_is_one_object_a_line_with_the_fields_at_the_top() {
        let text = logged(LogFormat::Json, "info", speak);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "awake");
        assert_eq!(line["took_ms"], 5);
        assert_eq!(line["span"]["workload"], "a");
    }

    #[test]
    fn text_has_what_the_filter_lets_through_and_no_colours() {
        let text = logged(LogFormat::Text, "info,wakegate=debug", speak);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("awake took_ms=5"), "{text}");
        assert!(text.contains("a detail"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(logged(LogFormat::Text, "off", speak), "");
    }

    #[test]
    fn a_filter_that_is_none_is_refused_by_name() {
        let log = Log {
            format: LogFormat::Text,
            level: "wakegate=loud".to_owned(),
            requests: false,
        };
        let Err(error) = subscriber(&log, false, std::io::sink) else {
            panic!("taken");
        };
        assert!(error.to_string().contains("wakegate=loud"), "{error}");
    }
}
