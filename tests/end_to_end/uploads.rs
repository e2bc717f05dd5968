//! Bodies that are long, in both directions: streamed, whole, and never kept.

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::Method;
use sha2::{Digest, Sha256};

use crate::bench::{Bench, in_time};
use crate::client::{Answer, Wire};
use crate::lines;

lines![
    Both twenty_megabytes_are_posted_through_as_the_first_request,
    Process a_long_answer_is_streamed_to_a_slow_reader,
    Process a_body_past_the_limit_is_refused_and_wakes_nothing,
    Process a_body_that_grows_past_the_limit_is_refused,
    Process a_client_that_breaks_off_its_upload_gives_its_lease_back,
];

const MIB: usize = 1 << 20;

/// What a gateway may need more than before while something much longer passes.
const MEMORY_MAX: u64 = 12 << 20;

/// Different in every part, so that parts cannot be exchanged.
fn part(number: usize) -> Bytes {
    let mut bytes = vec![number as u8; MIB];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes.into()
}

async fn twenty_megabytes_are_posted_through_as_the_first_request(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one").env("BOOT_DELAY", "300ms");
    let id = gateway.client.create(&sample).await;
    // Whatever a request needs is there before the memory is looked at.
    gateway.client.get("/nothing/here").await;
    let before = gateway.peak_memory();
    let mut hash = Sha256::new();
    (0..20).for_each(|number| hash.update(part(number)));
    let parts = futures_util::stream::iter((0..20).map(|n| Ok::<_, std::io::Error>(part(n))));
    let request = gateway.client.request(Method::POST, &sample.path("up"));
    let answer = Answer::to(request.body(reqwest::Body::wrap_stream(parts))).await;
    let report = answer.ok();
    assert_eq!(report["method"], "POST");
    assert_eq!(report["body"]["length"], 20 * MIB);
    assert_eq!(report["body"]["sha256"], format!("{:x}", hash.finalize()));
    bench.has_started(&id, 1).await;
    let more = gateway.peak_memory() - before;
    assert!(more < MEMORY_MAX, "{more} bytes more");
}

async fn a_long_answer_is_streamed_to_a_slow_reader(bench: Bench) {
    const LENGTH: usize = 64 * MIB + 5;
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    gateway.client.create(&sample).await;
    gateway.client.get("/nothing/here").await;
    let before = gateway.peak_memory();
    let path = sample.path(&format!("bytes?n={LENGTH}"));
    let request = gateway.client.request(Method::GET, &path);
    let answer = in_time("the answer begins", request.send())
        .await
        .expect("an answer");
    assert_eq!(answer.content_length(), Some(LENGTH as u64));
    let mut received = 0;
    let mut parts = answer.bytes_stream();
    while let Some(part) = in_time("more of it", parts.next()).await {
        let part = part.expect("the whole of it");
        let wanted = |at: usize| b"0123456789abcdef"[at % 16];
        let right = part
            .iter()
            .enumerate()
            .all(|(n, byte)| *byte == wanted(received + n));
        assert!(right, "a byte after {received} is wrong");
        received += part.len();
        tokio::task::yield_now().await;
    }
    assert_eq!(received, LENGTH);
    let more = gateway.peak_memory() - before;
    assert!(more < MEMORY_MAX, "{more} bytes more");
}

async fn a_body_past_the_limit_is_refused_and_wakes_nothing(bench: Bench) {
    let gateway = bench
        .setup()
        .set("public.body_bytes_max", 1000)
        .start()
        .await;
    let sample = bench.sample("one");
    let id = gateway.client.create(&sample).await;
    let post = |length: usize| {
        let request = gateway.client.request(Method::POST, &sample.path(""));
        Answer::to(request.body(vec![b'x'; length]))
    };
    post(1001).await.problem(413, "body_too_large");
    assert_eq!(bench.starts(&id).await, 0);
    assert_eq!(gateway.client.phase(sample.name()).await, "stopped");
    assert_eq!(post(1000).await.ok()["body"]["length"], 1000);
}

/// One that does not say before how long it is.
async fn a_body_that_grows_past_the_limit_is_refused(bench: Bench) {
    let gateway = bench
        .setup()
        .set("public.body_bytes_max", 1000)
        .start()
        .await;
    let sample = bench.sample("one");
    gateway.client.run(&sample).await;
    let parts = (0..4).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 300])));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(parts));
    let request = gateway.client.request(Method::POST, &sample.path(""));
    Answer::to(request.body(body))
        .await
        .problem(413, "body_too_large");
    // The application goes on being used.
    gateway.client.get(&sample.path("")).await.ok();
}

async fn a_client_that_breaks_off_its_upload_gives_its_lease_back(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one").env("IDLE", "2s");
    let id = gateway.client.create(&sample).await;
    let mut wire = Wire::open(&gateway.public).await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbegin",
        sample.path("")
    );
    wire.send(head.as_bytes()).await;
    crate::bench::until("it holds a lease", || async {
        (gateway.client.view(sample.name()).await["leases"] == 1).then_some(())
    })
    .await;
    drop(wire);
    gateway.client.until_phase(sample.name(), "stopped").await;
    assert!(!bench.runs(&id).await);
}
