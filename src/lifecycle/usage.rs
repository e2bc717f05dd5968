//! Finding out whether a workload is used past the gateway, by the sign that its idle rule names.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::decision::BusySign;
use crate::lifecycle::core::Core;
use crate::lifecycle::gate::Endpoint;
use crate::lifecycle::machine::Use;
use crate::runtime::InstanceId;

/// The largest answer of an application that is asked whether it is in use, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Asks once. Ends within a few limits of calls, a minute at the most.
pub(super) async fn told(
    core: &Core,
    id: &InstanceId,
    sign: &BusySign,
    endpoint: &Endpoint,
    labels: &BTreeMap<String, String>,
) -> Use {
    match sign {
        BusySign::Probe { target, field } => {
            let answer = core.prober.get(target, id, endpoint, ANSWER_BYTES_MAX);
            answer.await.map_or_else(Use::Unknown, |(status, body)| {
                probed(target, field.as_deref(), status, &body)
            })
        }
        BusySign::Count { target, field } => {
            let answer = core.prober.get(target, id, endpoint, ANSWER_BYTES_MAX);
            answer.await.map_or_else(Use::Unknown, |(status, body)| {
                counted(target, field, status, &body)
            })
        }
        BusySign::SentBytes => match core.runtime.sent_bytes(id).await {
            Ok(bytes) => Use::Count(bytes),
            Err(error) => unknown(error.to_string()),
        },
        BusySign::TraefikRequests => {
            let requests = core.routes.requests(&endpoint.workload, labels).await;
            requests.map_or_else(unknown, Use::Count)
        }
    }
}

fn unknown(why: String) -> Use {
    Use::Unknown(why.into())
}

/// What an application says of being in use.
fn probed(target: &str, field: Option<&str>, status: u16, body: &[u8]) -> Use {
    match (status, field) {
        (200, Some(field)) => match value_at(target, field, body) {
            Ok(value) if is_something(&value) => Use::Busy,
            Ok(_) => Use::Free,
            Err(why) => Use::Unknown(why),
        },
        (200, None) => Use::Busy,
        (204, _) => Use::Free,
        (status, _) => unknown(format!(
            "{target} answered {status}; 200 says that it is in use, and 204 that it is not"
        )),
    }
}

fn counted(target: &str, field: &str, status: u16, body: &[u8]) -> Use {
    if status != 200 {
        return unknown(format!("{target} answered {status}"));
    }
    match value_at(target, field, body) {
        Err(why) => Use::Unknown(why),
        Ok(value) => match count(&value) {
            Some(count) => Use::Count(count),
            None => unknown(format!("{target}: {field} is {value}, which is no count")),
        },
    }
}

/// A number as it is counted with; what is behind its point does not count.
fn count(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|count| *count >= 0.0);
    value.as_u64().or_else(|| float().map(|count| count as u64))
}

/// The value at a path such as `pool.connections` or `workers.0.busy`.
fn value_at(target: &str, field: &str, body: &[u8]) -> Result<Value, Arc<str>> {
    let mut value: Value = serde_json::from_slice(body)
        .map_err(|error| format!("{target}: its answer is no JSON: {error}"))?;
    for name in field.split('.') {
        let next = match &mut value {
            Value::Object(fields) => fields.get_mut(name).map(Value::take),
            Value::Array(items) => {
                let index = name.parse::<usize>().ok();
                index
                    .and_then(|index| items.get_mut(index))
                    .map(Value::take)
            }
            _ => None,
        };
        value = next.ok_or_else(|| format!("{target}: its answer has no {field}"))?;
    }
    Ok(value)
}

/// Whether a value says that there is something rather than nothing.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(told: Use) -> String {
        match told {
            Use::Unknown(why) => why.to_string(),
            told => panic!("{told:?}"),
        }
    }

    #[test]
    fn an_application_says_by_its_status_whether_it_is_in_use() {
        assert_eq!(probed("/b", None, 200, b"whatever"), Use::Busy);
        assert_eq!(probed("/b", None, 204, b""), Use::Free);
        for status in [100, 201, 301, 404, 500, 503] {
            let why = why(probed("/b", None, status, b""));
            assert!(why.starts_with(&format!("/b answered {status};")), "{why}");
        }
    }

    #[test]
    fn a_field_says_it_by_being_something() {
        let body = br#"{"yes":true,"no":false,"n":3,"z":0,"f":0.5,"zf":0.0,"t":"x","e":"",
            "list":[1],"empty":[],"map":{"a":0},"none":{},"null":null,"deep":{"list":[{"n":1},{"n":0}]}}"#;
        let told = |field| probed("/b", Some(field), 200, body);
        for busy in ["yes", "n", "f", "t", "list", "map", "deep.list.0.n"] {
            assert_eq!(told(busy), Use::Busy, "{busy}");
        }
        for free in [
            "no",
            "z",
            "zf",
            "e",
            "empty",
            "none",
            "null",
            "deep.list.1.n",
        ] {
            assert_eq!(told(free), Use::Free, "{free}");
        }
        for missing in ["other", "yes.x", "list.1", "list.x", "", "deep..n"] {
            assert_eq!(
                why(told(missing)),
                format!("/b: its answer has no {missing}")
            );
        }
        assert!(why(probed("/b", Some("n"), 200, b"<html>")).contains("no JSON"));
        assert!(why(probed("/b", Some("n"), 503, body)).contains("503"));
    }

    #[test]
    fn a_count_is_a_number_that_is_not_negative() {
        let body = br#"{"n":12,"f":12.9,"big":1e30,"minus":-1,"text":"12","null":null}"#;
        let told = |field| counted("/c", field, 200, body);
        assert_eq!(told("n"), Use::Count(12));
        assert_eq!(told("f"), Use::Count(12));
        assert_eq!(told("big"), Use::Count(u64::MAX));
        assert_eq!(why(told("minus")), "/c: minus is -1, which is no count");
        assert_eq!(why(told("text")), "/c: text is \"12\", which is no count");
        assert_eq!(why(told("null")), "/c: null is null, which is no count");
        assert_eq!(why(counted("/c", "n", 204, b"")), "/c answered 204");
    }
}
