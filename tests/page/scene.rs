//! What a gateway may tell of itself: everything at once, everything wrong, nothing at all.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The hash of a made-up release.
pub fn hash(revision: &str) -> String {
    let mut hash = String::new();
    for digit in revision.bytes().cycle().take(32) {
        hash += &format!("{digit:02x}");
    }
    hash
}

/// So long ago.
pub fn ago(seconds: i64) -> String {
    (Timestamp::now() - SignedDuration::from_secs(seconds)).to_string()
}

/// Counts: requests by class from 1xx to 5xx, and what is open by state.
fn counts(statuses: [u64; 5], open: [u64; 4]) -> Value {
    let requests: u64 = statuses.iter().sum();
    let [
        informational,
        success,
        redirection,
        client_error,
        server_error,
    ] = statuses;
    let [held, waiting, streaming, upgraded] = open;
    let has_any = requests > 0;
    json!({
        "requests": requests,
        "statuses": {
            "1xx": informational, "2xx": success, "3xx": redirection, "4xx": client_error, "5xx": server_error,
        },
        "connect_errors": 0,
        "gateway_errors": 0,
        "turned_over": 0,
        "broken_off": 0,
        "failed": server_error,
        "unanswered": 0,
        "response_times": {
            "p50_ms": has_any.then_some(3.12),
            "p90_ms": has_any.then_some(14.6),
            "p99_ms": has_any.then_some(2110.0),
            "buckets": [],
        },
        "bytes_from_clients": requests * 1000,
        "bytes_to_clients": requests * 70_000,
        "open": { "held": held, "waiting": waiting, "streaming": streaming, "upgraded": upgraded },
    })
}

fn nothing() -> Value {
    counts([0; 5], [0; 4])
}

fn release(app: &str, revision: &str, role: &str, phase: &str) -> Value {
    let hash = hash(revision);
    json!({
        "hash": hash,
        "revision": revision,
        "role": role,
        "workload": format!("{app}-{revision}-{}", &hash[..8]),
        "image": format!("localhost:8080/{app}:{revision}"),
        "phase": phase,
        "leases": 0,
        "waiting": 0,
        "idle_seconds": null,
        "drain_seconds_left": null,
        "total": nothing(),
        "before_last_switch": nothing(),
        "since_last_switch": nothing(),
    })
}

pub fn workload(name: &str, phase: &str) -> Value {
    json!({
        "id": format!("id-of-{name}"),
        "name": name,
        "phase": phase,
        "reason": null,
        "address": null,
        "image": "hello:latest",
        "labels": { "wakegate.enable": "true" },
        "leases": 0,
        "waiting": 0,
        "idle_seconds": null,
        "idle_stop_seconds": null,
        "phase_seconds": 42.0,
    })
}

/// Changes fields of an object.
pub fn with(mut object: Value, fields: Value) -> Value {
    let (Value::Object(into), Value::Object(fields)) = (&mut object, fields) else {
        panic!("objects are needed");
    };
    into.extend(fields);
    object
}

pub fn app(status: &mut Value, name: &str) -> usize {
    let apps = status["apps"].as_array().expect("applications");
    let found = apps.iter().position(|app| app["app"] == name);
    found.expect("an application of that name")
}

pub fn empty() -> Value {
    json!({ "version": "9.8.7", "engine": { "up": true }, "apps": [], "workloads": [] })
}

/// Two applications in which everything that is told of releases stands somewhere.
pub fn full() -> Value {
    let since = counts([10, 18_000, 120, 310, 4], [1, 2, 5, 10]);
    let before = with(
        counts([0, 210_000, 1500, 3201, 310], [0; 4]),
        json!({ "connect_errors": 2, "turned_over": 3 }),
    );
    let leaving = counts([0, 311, 0, 0, 0], [0, 0, 3, 2]);
    let both = counts([10, 18_311, 120, 310, 4], [1, 2, 8, 12]);
    let shop = json!({
        "app": "shop",
        "door": "open",
        "state": "ready",
        "current": hash("r42"),
        "canary": null,
        "previous": hash("r41"),
        "releases": [
            with(release("shop", "r42", "current", "ready"), json!({ "leases": 17, "waiting": 1, "total": since, "since_last_switch": since })),
            with(release("shop", "r43", "candidate", "absent"), json!({ "launch": { "phase": "pulling", "detail": "layer 3 of 7, 12 MiB" } })),
            with(release("shop", "r44", "candidate", "ready"), json!({ "launch": { "phase": "ready" }, "idle_seconds": 12.0 })),
            with(release("shop", "r41", "draining", "draining"), json!({
                "leases": 5, "drain_seconds_left": 23.4, "total": leaving, "since_last_switch": leaving, "before_last_switch": before,
            })),
            release("shop", "r40", "kept", "stopped"),
            with(release("shop", "r39", "unclaimed", "failed"), json!({ "reason": "it ended with exit code 1" })),
        ],
        "failed_launches": [{
            "hash": hash("r38"), "revision": "r38", "at": ago(7200),
            "error": "release 7233385f did not get healthy: GET /status answered 503 for 30 s",
            "log": ["listens on 0.0.0.0:9000", "cannot connect to db:5432"],
        }],
        "last_switch": { "revision": "r42", "hash": hash("r42"), "at": ago(1260), "by": "ada", "kind": "switch", "from": hash("r41") },
        "pending": null,
        "failed_rollback": null,
        "store": { "place": "s3://releases/shop", "state": "up" },
        "registry": { "place": "localhost:8080", "state": "unknown" },
        "counted_since": ago(86_400),
        "before_last_switch": before,
        "since_last_switch": both,
    });
    let old = counts([0, 1171, 0, 33, 0], [0, 0, 1, 0]);
    let new = counts([0, 115, 0, 2, 1], [0; 4]);
    let blog = json!({
        "app": "blog",
        "door": "open",
        "state": "ready",
        "current": hash("1.0"),
        "canary": hash("1.1"),
        "previous": null,
        "releases": [
            with(release("blog", "1.0", "current", "ready"), json!({ "leases": 1, "total": old, "since_last_switch": old, "before_last_switch": null })),
            with(release("blog", "1.1", "canary", "ready"), json!({ "idle_seconds": 7.0, "total": new, "since_last_switch": new, "before_last_switch": null })),
        ],
        "failed_launches": [],
        "last_switch": null,
        "pending": null,
        "failed_rollback": null,
        "store": { "place": "file:/var/lib/wakegate/blog", "state": "up" },
        "registry": { "place": "localhost:8080", "state": "up" },
        "counted_since": ago(86_400),
        "before_last_switch": null,
        "since_last_switch": counts([0, 1286, 0, 35, 1], [0, 0, 1, 0]),
    });
    let mut workloads: Vec<Value> = Vec::new();
    for app in [&blog, &shop] {
        let releases = app["releases"].as_array().expect("releases");
        for release in releases
            .iter()
            .filter(|release| release["phase"] != "absent")
        {
            let is_ready = release["phase"] == "ready";
            let name = release["workload"].as_str().expect("a name");
            workloads.push(with(
                workload(name, release["phase"].as_str().expect("a phase")),
                json!({
                    "image": release["image"],
                    "labels": { "wakegate.app": app["app"] },
                    "leases": release["leases"],
                    "waiting": release["waiting"],
                    "reason": release["reason"],
                    "idle_seconds": release["idle_seconds"],
                    "idle_stop_seconds": is_ready.then_some(900.0),
                    "address": is_ready.then_some("172.18.0.7:9000"),
                }),
            ));
        }
    }
    workloads.extend([
        with(workload("hello-1", "ready"), json!({ "idle_seconds": 41.0, "idle_stop_seconds": 60.0, "address": "172.18.0.20:9000" })),
        with(workload("hello-2", "stopped"), json!({ "phase_seconds": 7322.0 })),
        with(workload("hello-3", "starting"), json!({ "waiting": 4, "phase_seconds": 0.4 })),
        with(workload("hello-4", "failed"), json!({ "reason": "the container ended with exit code 1" })),
        with(workload("hello-5", "ready"), json!({ "idle_seconds": 100.0, "address": "172.18.0.21:9000" })),
    ]);
    json!({ "version": "9.8.7", "engine": { "up": true }, "apps": [blog, shop], "workloads": workloads })
}

/// The same with everything wrong that can be.
pub fn troubled() -> Value {
    let mut status = full();
    status["engine"] =
        json!({ "up": false, "reason": "unix:///var/run/docker.sock: connection refused" });
    let (blog, shop) = (app(&mut status, "blog"), app(&mut status, "shop"));
    let shop = &mut status["apps"][shop];
    shop["door"] = json!("paused");
    shop["pending"] = json!({ "hash": hash("r42"), "since": ago(40), "error": "no route to host", "attempts": 4 });
    shop["failed_rollback"] = json!({
        "hash": hash("r42"), "at": ago(30), "reason": "20 of 20 requests failed on the new release",
        "error": "release 7233385f did not get healthy: it exited with code 1",
    });
    shop["store"] = json!({ "place": "s3://releases/shop", "state": "down", "reason": "s3://releases: no route to host" });
    let blog = &mut status["apps"][blog];
    blog["state"] = json!("none");
    blog["reason"] = json!("current.json names a release that cannot be read");
    blog["current"] = Value::Null;
    blog["canary"] = Value::Null;
    blog["releases"][0]["role"] = json!("kept");
    blog["releases"][1]["role"] = json!("kept");
    blog["registry"] =
        json!({ "place": "localhost:8080", "state": "down", "reason": "connection refused" });
    status
}

/// What a switch to a release answers.
pub fn switched(revision: &str) -> Value {
    json!({
        "app": "shop", "revision": revision, "hash": hash(revision), "from": null,
        "canary": false, "unchanged": false, "pending": false,
    })
}

/// What a launch of a release answers.
pub fn launched(revision: &str) -> Value {
    json!({
        "app": "shop", "revision": revision, "hash": hash(revision), "workload": "shop", "image": "hello",
        "existing": false, "warnings": [], "took_ms": 2300,
    })
}

/// What `GET /scripts` tells.
pub fn scripts() -> Value {
    json!({
        "version": 3, "hash": hash("scripts"), "since": ago(4000), "rolled_back": false, "rolled_back_because": null,
        "tests": 12, "shadow": null, "held": null,
        "routes": [{ "pattern": "/shop/{*rest}", "file": "shop.rhai", "line": 1 }],
        "templates": ["hello"], "refused": null,
        "kept": [{ "version": 2, "hash": hash("before"), "loaded_at": ago(9000) }],
    })
}

/// Every text that is a person's or a program's own, at every depth.
pub fn hostile(value: &mut Value, text: &str) {
    const OURS: [&str; 10] = [
        "role", "door", "state", "phase", "kind", "hash", "current", "previous", "canary", "at",
    ];
    match value {
        Value::Object(fields) => {
            let fields = fields.iter_mut();
            for (_, field) in fields.filter(|(name, _)| !OURS.contains(&name.as_str())) {
                hostile(field, text);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hostile(item, text)),
        Value::String(old) => *old = format!("{text}{old}"),
        _ => {}
    }
}
