//! What a bucket's server says, and what that is called here.

use std::time::Instant;

use tokio::task::JoinSet;

use super::server::{Reaction, Server, answer, refusal};
use super::*;

/// Status, code and message of a server, and the variant and words of the error.
const ANSWERS: [(u16, &str, &str, &str, &str); 16] = [
    (
        403,
        "AccessDenied",
        "Access Denied",
        "Denied",
        "AccessDenied: Access Denied",
    ),
    (
        403,
        "InvalidAccessKeyId",
        "not in our records",
        "Denied",
        "check AWS_ACCESS_KEY_ID",
    ),
    (
        403,
        "SignatureDoesNotMatch",
        "the signature is wrong",
        "Denied",
        "check AWS_ACCESS_KEY_ID",
    ),
    (
        403,
        "RequestTimeTooSkewed",
        "the time is wrong",
        "Denied",
        "the time is wrong",
    ),
    (
        400,
        "ExpiredToken",
        "it has expired",
        "Denied",
        "it has expired",
    ),
    (401, "", "", "Denied", "401 Unauthorized"),
    (
        404,
        "NoSuchBucket",
        "no bucket",
        "Other",
        "there is no such bucket: create it",
    ),
    (
        400,
        "AuthorizationHeaderMalformed",
        "expecting 'eu-west-1'",
        "Other",
        "AWS_REGION",
    ),
    (
        301,
        "PermanentRedirect",
        "elsewhere",
        "Other",
        "set the region, or AWS_REGION",
    ),
    (
        503,
        "SlowDown",
        "reduce your rate",
        "Unreachable",
        "SlowDown: reduce your rate",
    ),
    (
        500,
        "InternalError",
        "we failed",
        "Unreachable",
        "InternalError: we failed",
    ),
    (502, "", "", "Unreachable", "502 Bad Gateway"),
    (429, "", "", "Unreachable", "429 Too Many Requests"),
    (507, "XMinioStorageFull", "no room", "Full", "is full"),
    (400, "QuotaExceeded", "no room", "Full", "is full"),
    (
        400,
        "InvalidRequest",
        "what is that",
        "Other",
        "InvalidRequest: what is that",
    ),
];

#[tokio::test]
async fn an_answer_is_told_by_what_can_be_done_about_it() {
    // All at once: what may pass is tried several times, with pauses.
    let mut told = JoinSet::new();
    for (status, code, message, expected, words) in ANSWERS {
        told.spawn(is_told(status, code, message, expected, words));
    }
    told.join_all().await;
}

async fn is_told(
    status: u16,
    code: &'static str,
    message: &'static str,
    expected: &str,
    words: &str,
) {
    let server = Server::new(move |_| {
        Reaction::Answer(match code {
            "" => answer(status, "<html>no XML of S3's</html>"),
            _ => refusal(status, code, message),
        })
    })
    .await;
    let store = bucket(&server.url);
    for error in errors_of_all(&store).await {
        let told = error.to_string();
        assert_eq!(variant(&error), expected, "{status} {code}: {told}");
        assert!(told.contains(words), "{status} {code}: {told}");
        let place = format!("s3://shop/releases at {}", server.url);
        assert!(told.contains(&place), "{told}");
        assert!(
            !told.contains(SECRET) && !told.contains("AKIATEST"),
            "{told}"
        );
        assert!(!told.contains('<'), "{told}");
    }
}

/// What each operation fails with, all done at once.
async fn errors_of_all(store: &Store) -> [StoreError; 8] {
    let hash = hash(1);
    let ended = tokio::join!(
        store.check(),
        store.current(),
        store.history(),
        store.append(entry(1)),
        store.record(Recorded::new(current(1), entry(1))),
        store.configuration(&hash),
        store.put_configuration("{}"),
        store.artefact("shop.tar"),
    );
    [
        ended.0.unwrap_err(),
        ended.1.unwrap_err(),
        ended.2.unwrap_err(),
        ended.3.unwrap_err(),
        ended.4.unwrap_err(),
        ended.5.unwrap_err(),
        ended.6.unwrap_err(),
        ended.7.unwrap_err(),
    ]
}

#[tokio::test]
async fn a_refused_write_is_told_as_a_refused_reading_is() {
    let mut told = JoinSet::new();
    for (status, code, expected) in [
        (403, "AccessDenied", "Denied"),
        (507, "XMinioStorageFull", "Full"),
        (503, "SlowDown", "Unreachable"),
        (501, "NotImplemented", "Unconditional"),
    ] {
        told.spawn(async move {
            let server = Server::new(move |asked| {
                Reaction::Answer(match asked.method().as_str() {
                    "GET" => refusal(404, "NoSuchKey", "nothing there"),
                    _ => refusal(status, code, "not today"),
                })
            })
            .await;
            let store = bucket(&server.url);
            for error in [
                store.check().await.unwrap_err(),
                store
                    .record(Recorded::new(current(1), entry(1)))
                    .await
                    .unwrap_err(),
            ] {
                assert_eq!(variant(&error), expected, "{error}");
            }
            // Nothing but the trial of conditions was tried: the switch has not begun.
            let asked = server.asked();
            let mut written = asked.iter().filter(|line| line.starts_with("PUT"));
            assert!(
                written.all(|line| line.contains("conditional-writes.")),
                "{asked:?}"
            );
        });
    }
    told.join_all().await;
}

#[tokio::test]
async fn a_bucket_in_another_region_is_told_by_a_redirect_without_an_address() {
    let server = Server::new(|_| Reaction::Answer(answer(301, ""))).await;
    let error = bucket(&server.url).check().await.unwrap_err();
    assert_eq!(variant(&error), "Other");
    assert!(error.to_string().contains("AWS_REGION"), "{error}");
}

#[tokio::test]
async fn a_store_that_is_away_is_told_within_the_limit() {
    let silent = Server::new(|_| Reaction::Silence).await;
    let hanging_up = Server::new(|_| Reaction::HangUp).await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let begun = Instant::now();
    let mut told = JoinSet::new();
    for url in [silent.url.clone(), hanging_up.url.clone(), closed] {
        told.spawn(async move {
            for error in errors_of_all(&bucket_with_limits(&url, SHORT)).await {
                assert_eq!(variant(&error), "Unreachable", "{url}: {error}");
                assert!(error.to_string().contains(&url), "{error}");
            }
        });
    }
    told.join_all().await;
    // Each operation has a limit of its own; this one only tells that none hangs.
    assert!(begun.elapsed() < SHORT.operation * 5, "{begun:?}");
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_a_store_that_is_away() {
    // Reserved for this by RFC 6761, so no resolver asks anybody for long.
    let error = bucket("http://store.invalid:9000")
        .check()
        .await
        .unwrap_err();
    assert_eq!(variant(&error), "Unreachable", "{error}");
    assert!(error.to_string().contains("store.invalid"), "{error}");
}

#[tokio::test]
async fn a_failure_that_passes_is_waited_for() {
    let failures = std::sync::atomic::AtomicU32::new(0);
    let server =
        Server::new(
            move |_| match failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Reaction::Answer(refusal(503, "SlowDown", "reduce your rate")),
                1 => Reaction::HangUp,
                _ => Reaction::Answer(answer(200, format!("\"{}\"", hash(7)))),
            },
        )
        .await;
    let current = bucket(&server.url).current().await.unwrap();
    assert_eq!(current.map(|current| current.hash), Some(hash(7)));
    assert_eq!(server.asked().len(), 3);
}
