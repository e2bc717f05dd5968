//! Signs of use that an idle rule can have.

use std::time::Duration;

use super::load;
use crate::decision::{BusySign, ContainerFacts, ContainerRules, IdleRule, ScriptFailure, Sleep};

fn rule(text: &str) -> Result<Option<IdleRule>, ScriptFailure> {
    load(&format!("idle(|c| {text});")).idle(&ContainerFacts::default())
}

fn sign(text: &str) -> BusySign {
    let rule = rule(&format!("stop_after(60).unless_busy({text})"));
    let rule = rule.unwrap_or_else(|failure| panic!("{text}: {failure}"));
    rule.and_then(|rule| rule.sign().cloned()).expect(text)
}

fn message(text: &str) -> String {
    rule(text).expect_err(text).message
}

#[test]
fn each_sign_is_what_it_says() {
    let probe = |target: &str, field: Option<&str>| BusySign::Probe {
        target: target.into(),
        field: field.map(Into::into),
    };
    assert_eq!(sign("busy_probe(\"/x?y=1\")"), probe("/x?y=1", None));
    assert_eq!(
        sign("busy_probe(\"http://db:81/x\", \"a.b.0\")"),
        probe("http://db:81/x", Some("a.b.0"))
    );
    let count = BusySign::Count {
        target: "/x".into(),
        field: "n".into(),
    };
    assert_eq!(sign("busy_count(\"/x\", \"n\")"), count);
    assert_eq!(sign("sent_bytes()"), BusySign::SentBytes);
    assert_eq!(sign("traefik_requests()"), BusySign::TraefikRequests);
}

#[test]
fn a_sign_is_shown_as_scripts_write_it() {
    for text in [
        "busy_probe(\"/x\")",
        "busy_probe(\"/x\", \"a.b\")",
        "busy_count(\"/x\", \"n\")",
        "sent_bytes()",
        "traefik_requests()",
    ] {
        assert_eq!(sign(text).to_string(), text);
    }
}

#[test]
fn both_ways_to_sleep_take_a_sign_and_the_last_one_counts() {
    let expected = |sleep| IdleRule::UnlessBusy {
        sleep,
        after: Duration::from_secs(90),
        sign: BusySign::SentBytes,
    };
    assert_eq!(
        rule("stop_after(\"90s\").unless_busy(sent_bytes())").unwrap(),
        Some(expected(Sleep::Stopped))
    );
    assert_eq!(
        rule("pause_after(\"90s\").unless_busy(traefik_requests()).unless_busy(sent_bytes())")
            .unwrap(),
        Some(expected(Sleep::Paused))
    );
}

#[test]
fn what_is_no_sign_is_refused_with_the_reason() {
    for (text, word) in [
        (
            "never().unless_busy(sent_bytes())",
            "never(), which lets nothing sleep",
        ),
        (
            "stop_after(1).unless_busy(busy_probe(\"x\"))",
            "busy_probe: \"x\" is neither",
        ),
        (
            "stop_after(1).unless_busy(busy_count(\"https://a/\", \"n\"))",
            "busy_count: ",
        ),
        (
            "stop_after(1).unless_busy(busy_probe(\"/x\", \"\"))",
            "no field's path",
        ),
        (
            "stop_after(1).unless_busy(busy_count(\"/x\", \"a..b\"))",
            "no field's path",
        ),
        (
            "sent_bytes()",
            "idle returned a sign of use; it returns stop_after(…)",
        ),
    ] {
        let told = message(text);
        assert!(told.contains(word), "{text}: {told}");
    }
}
