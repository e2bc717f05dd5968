//! The engine's events: subscribed without a gap, and read as what they mean to a workload.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker as Client;
use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptionsBuilder, InspectContainerOptions};
use futures_util::stream::{self, BoxStream, StreamExt};

use super::connection::Answered;
use super::{Docker, Subject, instance};
use crate::names::WorkloadName;
use crate::runtime::{EngineEvent, EngineEventKind, EngineTime, Health, InstanceId, RuntimeError};

/// For the inspect that a rare signal needs; the events behind it wait for so long.
const STOP_SIGNAL_LIMIT: Duration = Duration::from_secs(5);

/// SIGHUP to SIGSYS by number, from 1 (Linux, signal(7), the common architectures).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Docker {
    /// The stream's answer has begun when this returns, and the stream tells everything from a
    /// moment before that on: the engine opens its answer before it begins to collect.
    pub(super) async fn subscribe(&self) -> Result<BoxStream<'static, EngineEvent>, RuntimeError> {
        // A new subscription often means a new engine.
        self.engine.forget_version();
        let info = self.call(Subject::Engine, self.client.info()).await?;
        let since = info
            .system_time
            .as_deref()
            .and_then(instance::time)
            .unwrap_or_else(instance::local_time);
        let options = EventsOptionsBuilder::default()
            .since(&seconds(since))
            .filters(&HashMap::from([
                ("type", vec!["container".to_owned()]),
                ("label", vec![self.label_filter()]),
            ]))
            .build();
        let answered = Answered::default();
        let told = answered.0.clone();
        let client = self.client.clone().with_request_modifier(
            move |mut request: bollard::BollardRequest| {
                request.extensions_mut().insert(answered.clone());
                request
            },
        );
        let mut messages = client.events(Some(options)).boxed();
        let first = self
            .within(self.timeout, async {
                // The request goes out only when its stream is asked.
                tokio::select! {
                    biased;
                    () = told.notified() => None,
                    first = messages.next() => Some(first),
                }
            })
            .await?;
        let early = match first {
            None => None,
            Some(Some(Ok(message))) => Some(Ok(message)),
            Some(Some(Err(error))) => {
                return Err(super::errors::runtime_error(error, Subject::Engine));
            }
            Some(None) => return Err(RuntimeError::Unreachable("it sends no events".to_owned())),
        };
        Ok(read(
            self.client.clone(),
            stream::iter(early).chain(messages).boxed(),
        ))
    }
}

/// Ends at the first error: what came in between is lost, and the caller has to list.
fn read(
    client: Client,
    messages: BoxStream<'static, Result<EventMessage, Error>>,
) -> BoxStream<'static, EngineEvent> {
    stream::unfold((client, messages), |(client, mut messages)| async move {
        loop {
            match messages.next().await? {
                Ok(message) => {
                    if let Some(event) = event(&client, message).await {
                        return Some((event, (client, messages)));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the engine's event stream broke");
                    return None;
                }
            }
        }
    })
    .boxed()
}

async fn event(client: &Client, message: EventMessage) -> Option<EngineEvent> {
    let actor = message.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    let id = actor.id?;
    let name = WorkloadName::new(attributes.get("name")?.trim_start_matches('/')).ok()?;
    let kind = match meaning(message.action.as_deref()?, &attributes)? {
        Meaning::Event(kind) => kind,
        Meaning::Signal(signal) if is_stop_signal(client, &id, signal).await => {
            EngineEventKind::Ending
        }
        Meaning::Signal(_) => return None,
    };
    let at = message
        .time_nano
        .or_else(|| message.time?.checked_mul(1_000_000_000))?;
    Some(EngineEvent {
        id: InstanceId::new(&id),
        name,
        at: EngineTime(at),
        kind,
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Event(EngineEventKind),
    /// A signal that ends the container only when it is its own stop signal.
    Signal(u8),
}

/// What an action means; `None` when it means nothing to us (exec, attach, oom, the `stop` and
/// `restart` that come after `die` and `start`, …).
fn meaning(action: &str, attributes: &HashMap<String, String>) -> Option<Meaning> {
    use EngineEventKind as Kind;
    let kind = match action {
        "create" | "rename" | "update" => Kind::Changed,
        "start" => Kind::Started,
        "kill" => match signal_number(attributes.get("signal")?)? {
            // INT, QUIT, KILL, TERM.
            2 | 3 | 9 | 15 => Kind::Ending,
            other => return Some(Meaning::Signal(other)),
        },
        "die" => Kind::Died {
            exit_code: attributes
                .get("exitCode")
                .and_then(|code| code.parse().ok()),
        },
        "pause" => Kind::Paused,
        "unpause" => Kind::Unpaused,
        "destroy" => Kind::Destroyed,
        _ => match action.strip_prefix("health_status: ")? {
            "starting" => Kind::Health(Health::Starting),
            "healthy" => Kind::Health(Health::Healthy),
            "unhealthy" => Kind::Health(Health::Unhealthy),
            _ => return None,
        },
    };
    Some(Meaning::Event(kind))
}

/// Events do not tell a container's stop signal, and few containers have one of their own.
async fn is_stop_signal(client: &Client, id: &str, signal: u8) -> bool {
    let Some(id) = super::connection::segment(id) else {
        return false;
    };
    let inspect = client.inspect_container(&id, None::<InspectContainerOptions>);
    match tokio::time::timeout(STOP_SIGNAL_LIMIT, inspect).await {
        Ok(Ok(container)) => {
            let own = container.config.and_then(|config| config.stop_signal);
            own.as_deref().and_then(signal_number) == Some(signal)
        }
        // Not known: `die` follows when it was one.
        Ok(Err(_)) | Err(_) => false,
    }
}

/// `15`, `SIGTERM`, `TERM`, `SIGRTMIN+3`, `RTMAX-1`; names in any case.
fn signal_number(text: &str) -> Option<u8> {
    const RTMIN: u8 = 34;
    const RTMAX: u8 = 64;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(above) = name.strip_prefix("RTMIN") {
        let above = if above.is_empty() {
            0
        } else {
            above.strip_prefix('+')?.parse().ok()?
        };
        return RTMIN.checked_add(above);
    }
    if let Some(below) = name.strip_prefix("RTMAX") {
        let below = if below.is_empty() {
            0
        } else {
            below.strip_prefix('-')?.parse().ok()?
        };
        return RTMAX.checked_sub(below);
    }
    let at = SIGNALS.iter().position(|signal| *signal == name)?;
    u8::try_from(at + 1).ok()
}

/// `seconds.nanoseconds`, as the engine reads a time.
fn seconds(time: EngineTime) -> String {
    const NANOS: i64 = 1_000_000_000;
    format!(
        "{}.{:09}",
        time.0.div_euclid(NANOS),
        time.0.rem_euclid(NANOS)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client to an engine that is not there: no signal is anyone's own stop signal.
    fn nobody() -> Client {
        let host = super::super::connection::Host::parse("unix:///nonexistent.sock").unwrap();
        super::super::connection::Engine::new(host)
            .client()
            .unwrap()
    }

    /// What Docker 20.10.24 writes for an action.
    fn message(action: &str, attributes: &str) -> EventMessage {
        let json = format!(
            r#"{{"status":"{action}","id":"869e118c9ef1","from":"shop","Type":"container","Action":"{action}",
                "Actor":{{"ID":"869e118c9ef1","Attributes":{{"image":"shop","name":"web-1"{attributes}}}}},
                "scope":"local","time":1795381620,"timeNano":1795381620210586477}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    async fn kind(action: &str, attributes: &str) -> Option<EngineEventKind> {
        let event = event(&nobody(), message(action, attributes)).await?;
        assert_eq!(event.id, InstanceId::new("869e118c9ef1"));
        assert_eq!(event.name.as_str(), "web-1");
        assert_eq!(event.at, EngineTime(1_795_381_620_210_586_477));
        Some(event.kind)
    }

    #[tokio::test]
    async fn each_action_of_the_engine_has_its_meaning() {
        use EngineEventKind as Kind;
        for (action, attributes, meant) in [
            ("create", "", Some(Kind::Changed)),
            ("rename", r#","oldName":"/web""#, Some(Kind::Changed)),
            ("update", "", Some(Kind::Changed)),
            ("start", "", Some(Kind::Started)),
            ("kill", r#","signal":"15""#, Some(Kind::Ending)),
            ("kill", r#","signal":"9""#, Some(Kind::Ending)),
            ("kill", r#","signal":"2""#, Some(Kind::Ending)),
            ("kill", r#","signal":"SIGQUIT""#, Some(Kind::Ending)),
            ("kill", r#","signal":"1""#, None),
            ("kill", r#","signal":"10""#, None),
            ("kill", r#","signal":"28""#, None),
            ("kill", "", None),
            (
                "die",
                r#","exitCode":"137""#,
                Some(Kind::Died {
                    exit_code: Some(137),
                }),
            ),
            ("die", "", Some(Kind::Died { exit_code: None })),
            ("pause", "", Some(Kind::Paused)),
            ("unpause", "", Some(Kind::Unpaused)),
            (
                "health_status: starting",
                "",
                Some(Kind::Health(Health::Starting)),
            ),
            (
                "health_status: healthy",
                "",
                Some(Kind::Health(Health::Healthy)),
            ),
            (
                "health_status: unhealthy",
                "",
                Some(Kind::Health(Health::Unhealthy)),
            ),
            ("destroy", "", Some(Kind::Destroyed)),
            ("stop", "", None),
            ("restart", "", None),
            ("oom", "", None),
            ("exec_create: /bin/true", "", None),
        ] {
            assert_eq!(
                kind(action, attributes).await,
                meant,
                "{action} {attributes}"
            );
        }
    }

    #[tokio::test]
    async fn an_event_of_a_name_that_no_workload_may_have_is_left_out() {
        let mut unnamed = message("start", "");
        unnamed.actor.as_mut().unwrap().attributes = None;
        assert_eq!(event(&nobody(), unnamed).await, None);
        let mut odd = message("start", "");
        let attributes = odd.actor.as_mut().unwrap().attributes.as_mut().unwrap();
        attributes.insert("name".to_owned(), "x".repeat(200));
        assert_eq!(event(&nobody(), odd).await, None);
    }

    #[test]
    fn signals_are_read_by_number_and_by_name() {
        for (text, number) in [
            ("15", Some(15)),
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("SIGWINCH", Some(28)),
            ("SIGSYS", Some(31)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGNOTHING", None),
            ("", None),
        ] {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }

    #[test]
    fn times_are_written_as_the_engine_reads_them() {
        assert_eq!(
            seconds(EngineTime(1_795_381_620_000_000_477)),
            "1795381620.000000477"
        );
        assert_eq!(seconds(EngineTime(0)), "0.000000000");
    }
}
