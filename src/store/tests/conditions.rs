//! Servers that do not keep conditions, lose answers, or are written to by others all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Method;

use super::server::{Objects, Reaction, Server, answer};
use super::*;

const HISTORY: &str = "/shop/releases/history.json";
const CURRENT: &str = "/shop/releases/current.json";

async fn serve(objects: &Arc<Objects>) -> Server {
    let objects = objects.clone();
    Server::new(move |asked| Reaction::Answer(objects.react(asked))).await
}

#[tokio::test]
async fn conditions_are_tried_once_and_leave_nothing_behind() {
    let objects = Arc::new(Objects::default());
    let server = serve(&objects).await;
    let store = bucket(&server.url);
    for n in 1..4 {
        store
            .record(Recorded::new(current(n), entry(n)))
            .await
            .unwrap();
    }
    assert_eq!(objects.paths(), [CURRENT, HISTORY]);
    let trials = |method: &str| {
        let asked = server.asked();
        let trials = asked
            .into_iter()
            .filter(|line| line.contains("conditional-writes."));
        trials.filter(|line| line.starts_with(method)).count()
    };
    // One update of nothing, and one object that was created twice and removed.
    assert_eq!((trials("PUT"), trials("DELETE")), (3, 1));
    let read = store.history().await.unwrap();
    assert_eq!(revisions(&read), ["r1", "r2", "r3"]);
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_refused_before_anything_is_written() {
    for (ignores_if_match, ignores_if_none_match) in [(true, false), (true, true)] {
        let objects = Arc::new(Objects {
            ignores_if_match,
            ignores_if_none_match,
            ..Objects::default()
        });
        let server = serve(&objects).await;
        let store = bucket(&server.url);
        for error in [
            store.check().await.unwrap_err(),
            store.append(entry(1)).await.unwrap_err(),
            store
                .record(Recorded::new(current(1), entry(1)))
                .await
                .unwrap_err(),
        ] {
            assert_eq!(variant(&error), "Unconditional", "{error}");
            assert!(error.to_string().contains("If-Match"), "{error}");
        }
        assert_eq!(objects.paths(), [""; 0]);
    }
}

#[tokio::test]
async fn a_server_that_ignores_only_the_other_condition_creates_no_history() {
    let objects = Arc::new(Objects {
        ignores_if_none_match: true,
        ..Objects::default()
    });
    let server = serve(&objects).await;
    let error = bucket(&server.url).append(entry(1)).await.unwrap_err();
    assert!(error.to_string().contains("If-None-Match"), "{error}");
    assert_eq!(objects.paths(), [""; 0]);
    // One that is there is updated: that condition is kept.
    objects.put(HISTORY, "[]");
    bucket(&server.url).append(entry(1)).await.unwrap();
    assert_eq!(objects.paths(), [HISTORY]);
}

#[tokio::test]
async fn an_entry_whose_answer_was_lost_is_not_added_twice() {
    let objects = Arc::new(Objects::default());
    objects.put(HISTORY, "[]");
    let written = Arc::new(AtomicU32::new(0));
    let server = {
        let (objects, written) = (objects.clone(), written.clone());
        Server::new(move |asked| {
            let response = objects.react(asked);
            let is_history = asked.method() == Method::PUT && asked.uri().path() == HISTORY;
            if is_history && response.status().is_success() {
                written.fetch_add(1, Ordering::Relaxed);
                // Another gateway adds an entry before this one looks again.
                let text = String::from_utf8(objects.get(HISTORY).unwrap().to_vec()).unwrap();
                let other = serde_json::to_string(&entry(9)).unwrap();
                objects.put(HISTORY, text.replace("\n]", &format!(",{other}]")));
                return Reaction::HangUp;
            }
            Reaction::Answer(response)
        })
        .await
    };
    bucket(&server.url).append(entry(1)).await.unwrap();
    assert_eq!(written.load(Ordering::Relaxed), 1);
    let history = bucket(&server.url).history().await.unwrap();
    assert_eq!(revisions(&history), ["r1", "r9"]);
}

#[tokio::test]
async fn a_history_that_others_write_all_the_time_is_given_up_in_the_end() {
    let objects = Arc::new(Objects::default());
    objects.put(HISTORY, "[]");
    let server = {
        let objects = objects.clone();
        Server::new(move |asked| {
            let response = objects.react(asked);
            if asked.method() == Method::GET && asked.uri().path() == HISTORY {
                objects.put(HISTORY, "[]");
            }
            Reaction::Answer(response)
        })
        .await
    };
    let limits = StoreLimits {
        operation: Duration::from_secs(6),
        ..StoreLimits::default()
    };
    let store = bucket_with_limits(&server.url, limits);
    let error = store.append(entry(1)).await.unwrap_err();
    let StoreError::Conflict { key, attempts, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(key, "history.json");
    assert!(*attempts > 3, "{error}");
    assert_eq!(objects.get(HISTORY).unwrap(), "[]");
}

#[tokio::test]
async fn a_conflict_that_passes_is_overcome() {
    // S3 answers 409 while another conditional write is under way.
    let objects = Arc::new(Objects::default());
    let conflicts = AtomicU32::new(0);
    let server = {
        let objects = objects.clone();
        Server::new(move |asked| {
            let is_history = asked.method() == Method::PUT && asked.uri().path() == HISTORY;
            if is_history && conflicts.fetch_add(1, Ordering::Relaxed) < 2 {
                return Reaction::Answer(super::server::refusal(
                    409,
                    "ConditionalRequestConflict",
                    "another one is under way",
                ));
            }
            Reaction::Answer(objects.react(asked))
        })
        .await
    };
    bucket(&server.url).append(entry(1)).await.unwrap();
    let history = bucket(&server.url).history().await.unwrap();
    assert_eq!(revisions(&history), ["r1"]);
}

#[tokio::test]
async fn an_entry_of_a_switch_that_was_overtaken_goes_before_the_later_one() {
    // Between this gateway's current.json and its entry, another one records a whole switch.
    let objects = Arc::new(Objects::default());
    objects.put(HISTORY, "[]");
    let server = {
        let objects = objects.clone();
        let has_overtaken = AtomicU32::new(0);
        Server::new(move |asked| {
            let response = objects.react(asked);
            let is_current = asked.method() == Method::PUT && asked.uri().path() == CURRENT;
            if is_current && has_overtaken.fetch_add(1, Ordering::Relaxed) == 0 {
                objects.put(CURRENT, current(2).to_bytes());
                let entries = serde_json::to_vec(&[entry(2)]).unwrap();
                objects.put(HISTORY, entries);
            }
            Reaction::Answer(response)
        })
        .await
    };
    let store = bucket(&server.url);
    store
        .record(Recorded::new(current(1), entry(1)))
        .await
        .unwrap();
    let history = store.history().await.unwrap();
    assert_eq!(revisions(&history), ["r1", "r2"]);
    assert_eq!(store.current().await.unwrap(), Some(current(2)));
}

#[tokio::test]
async fn a_server_without_etags_is_refused() {
    let server = Server::new(|asked| {
        Reaction::Answer(match asked.method().as_str() {
            "GET" => {
                let mut response = answer(200, "[]");
                let date = "Thu, 01 Jan 2026 00:00:00 GMT".parse().unwrap();
                response.headers_mut().insert("last-modified", date);
                response
            }
            _ => super::server::refusal(412, "PreconditionFailed", "a condition does not hold"),
        })
    })
    .await;
    let error = bucket(&server.url).append(entry(1)).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains("ETag"), "{told}");
}
