//! What the other hooks can say: rules for containers, templates, words for errors.

use std::time::Duration;

use serde_json::json;

use super::{Sent, load, texts};
use crate::decision::{ContainerFacts, ContainerRules, ErrorFacts, IdleRule, ReadyRule};
use crate::script::version::Version;

#[test]
fn a_container_can_be_read_in_every_part_and_ruled() {
    let version = load(
        r#"
        ready(|c| switch c.name {
            "wait" => wait("2s"), "probe" => probe("/health"), "every" => probe("http://a:9/x?y=1", 0.5),
            "max" => probe("/", "1s", "5s"), "tcp" => tcp(), "tcp5" => tcp(5), "health" => health("1m"),
            "bad" => probe("ftp://x/"), "odd" => never(),
            _ => ()
        });
        ready(|c| if c.name == "second" { wait(0) });
        idle(|c| switch c.image {
            "env" => stop_after(duration(c.env("IDLE"), "10m")),
            "label" => pause_after(c.label("idle", 3)),
            "all" => stop_after(c.labels.len() * 100 + c.envs.len() * 10 + c.ports[0]),
            "health" => if c.has_healthcheck && c.id == "id1" { never() } else { stop_after(1) },
            "bad" => stop_after(c.env("none")),
            _ => ()
        });"#,
    );
    let ready = |name: &str| {
        version.ready(&ContainerFacts {
            name: name.to_owned(),
            ..Default::default()
        })
    };
    let seconds = Duration::from_secs;
    let probe = |target: &str, every: f64, max: u64| ReadyRule::Probe {
        target: target.to_owned(),
        every: Duration::from_secs_f64(every),
        max: seconds(max),
    };
    for (name, rule) in [
        ("wait", ReadyRule::Wait(seconds(2))),
        ("probe", probe("/health", 0.25, 60)),
        ("every", probe("http://a:9/x?y=1", 0.5, 60)),
        ("max", probe("/", 1.0, 5)),
        ("tcp", ReadyRule::Tcp { max: seconds(60) }),
        ("tcp5", ReadyRule::Tcp { max: seconds(5) }),
        ("health", ReadyRule::Health { max: seconds(60) }),
        ("second", ReadyRule::Wait(seconds(0))),
    ] {
        assert_eq!(ready(name).unwrap(), Some(rule), "{name}");
    }
    assert_eq!(ready("other").unwrap(), None, "the core's own rule holds");
    assert!(
        ready("bad")
            .unwrap_err()
            .message
            .contains("probe: \"ftp://x/\"")
    );
    assert!(
        ready("odd")
            .unwrap_err()
            .message
            .contains("ready returned an idle rule; it returns wait(…)")
    );

    let idle = |image: &str, envs: &[(&str, &str)]| {
        version.idle(&ContainerFacts {
            id: "id1".to_owned(),
            image: image.to_owned(),
            envs: texts(envs),
            labels: texts(&[("a", "b")]),
            ports: vec![3],
            has_healthcheck: true,
            ..Default::default()
        })
    };
    for (image, envs, rule) in [
        (
            "env",
            &[("IDLE", "1m0s")][..],
            Some(IdleRule::StopAfter(seconds(60))),
        ),
        ("env", &[], Some(IdleRule::StopAfter(seconds(600)))),
        ("label", &[], Some(IdleRule::PauseAfter(seconds(3)))),
        ("all", &[("A", "")], Some(IdleRule::StopAfter(seconds(113)))),
        ("health", &[], Some(IdleRule::Never)),
        ("other", &[], None),
    ] {
        assert_eq!(idle(image, envs).unwrap(), rule, "{image}");
    }
    assert!(
        idle("env", &[("IDLE", "soon")])
            .unwrap_err()
            .message
            .contains("\"soon\" is not a duration")
    );
    assert!(
        idle("bad", &[])
            .unwrap_err()
            .message
            .contains("stop_after: \"\" is not a duration")
    );
}

fn fill(version: &Version, vars: serde_json::Value) -> Result<serde_json::Value, String> {
    match version.template("t", vars.as_object().unwrap()) {
        Ok(spec) => Ok(serde_json::to_value(spec.unwrap()).unwrap()),
        Err(failure) => Err(failure.message[failure.message.rfind("a.rhai").unwrap()..].to_owned()),
    }
}

#[test]
fn a_template_makes_a_specification_from_vars() {
    let version = load(
        r#"template("t", |vars| #{
            name: "web-" + vars.id, image: vars.get("image", "web:1"), network: vars.get("net", ()),
            labels: #{ "a.b": `x ${vars.id}` }, envs: #{ N: `${vars.big}` }, port: 80,
            command: ["run", "--id", `${vars.id}`], memory: "64MiB", cpus: 0.5, pids: 10,
        });"#,
    );
    assert_eq!(
        fill(
            &version,
            json!({"id": "7", "big": 18_446_744_073_709_551_615u64, "extra": {"a": [1, null]}})
        ),
        Ok(json!({
            "name": "web-7", "image": "web:1", "labels": {"a.b": "x 7"}, "envs": {"N": "1.8446744073709552e19"},
            "port": 80, "command": ["run", "--id", "7"], "memory": 64 << 20, "cpus": 0.5, "pids": 10,
        }))
    );
    assert_eq!(
        fill(&version, json!({"id": 7, "big": 1})).unwrap()["name"],
        "web-7"
    );
    let missing = fill(&version, json!({"big": 1})).unwrap_err();
    assert!(
        missing.starts_with("a.rhai:2:33: there is no \"id\" here"),
        "{missing}"
    );
    assert!(matches!(
        version.template("other", &serde_json::Map::new()),
        Ok(None)
    ));
}

#[test]
fn a_specification_is_as_strict_as_in_json() {
    for (map, expected) in [
        (
            "#{name: \"a\", image: \"i\", memry: 1}",
            "memry: unknown field `memry`",
        ),
        ("#{image: \"i\"}", "the specification: missing field `name`"),
        (
            "#{name: \"a b\", image: \"i\"}",
            "the specification's name: \"a b\" is not a name",
        ),
        (
            "#{name: \"a\", image: \"i\", labels: #{x: 1}}",
            "the specification's labels.x: invalid type: integer `1`",
        ),
        (
            "#{name: \"a\", image: \"i\", port: 70000}",
            "the specification's port: invalid value",
        ),
        (
            "#{name: \"a\", image: \"i\", envs: #{f: |x| x}}",
            "envs: f: a function",
        ),
        ("()", "the template returned ()"),
        (
            "\"a\"",
            "the template returned the text \"a\"; it returns a map",
        ),
    ] {
        let failed =
            fill(&load(&format!("template(\"t\", |vars| {map});")), json!({})).unwrap_err();
        assert!(failed.starts_with("a.rhai:1:1: "), "{failed}");
        assert!(failed.contains(expected), "{map}: {failed}");
    }
}

#[test]
fn on_error_can_answer_in_its_own_words() {
    let version = load(
        r#"on_error(|req, err| {
            if err.kind == "unknown_workload" { return respond(404, `${req.path}: no ${err.workload}`); }
            if err.kind == "queue_full" { return respond(err.status, err.message).retry_after(err.retry_after); }
            if err.kind == "bad" { return redirect(302, "/"); }
        });"#,
    );
    let sent = Sent::get("/x");
    let on_error = |kind: &'static str| {
        let error = ErrorFacts {
            status: 503,
            kind: kind.into(),
            message: "full".to_owned(),
            workload: "w".to_owned(),
            app: String::new(),
            retry_after_secs: Some(3),
        };
        version.on_error(&sent.facts(), &error)
    };
    let reply = on_error("unknown_workload").unwrap().unwrap();
    assert_eq!((reply.status.as_u16(), &*reply.body), (404, "/x: no w"));
    let reply = on_error("queue_full").unwrap().unwrap();
    assert_eq!(
        (reply.status.as_u16(), reply.retry_after),
        (503, Some(Duration::from_secs(3)))
    );
    assert_eq!(on_error("no_route").unwrap(), None);
    assert!(
        on_error("bad")
            .unwrap_err()
            .message
            .contains("on_error returned a redirect; it returns respond(…) or ()")
    );
}
