//! Releases that bring their own health check, in their containers' labels.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wakegate::spec::{HEALTH_INTERVAL_LABEL, HEALTH_PATH_LABEL, HEALTH_TIMEOUT_LABEL};

use super::*;

/// An application that counts what it is asked and fails so many times before it answers 200.
struct App {
    address: SocketAddr,
    /// The heads of the requests, in their order.
    asked: Arc<Mutex<Vec<String>>>,
    _answering: tokio::task::JoinHandle<()>,
}

impl App {
    async fn failing(times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = asked.clone();
        let answering = tokio::spawn(async move {
            'clients: loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    // Who asks gives up where the machine stalls for too long.
                    let Ok(byte) = client.read_u8().await else {
                        continue 'clients;
                    };
                    head.push(byte);
                }
                let answered = {
                    let mut heads = heads.lock();
                    heads.push(String::from_utf8(head).unwrap());
                    heads.len()
                };
                let status = match answered > times {
                    true => "200 OK",
                    false => "503 Service Unavailable",
                };
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                drop(client.write_all(answer.as_bytes()).await);
            }
        });
        Self {
            address,
            asked,
            _answering: answering,
        }
    }
}

/// A stopped container `a` with labels, and scripts whose ready rule fails whenever it is asked.
fn bench(port: Option<u16>, labels: &[(&str, &str)]) -> Bench {
    let fake = Fake::new();
    let labels = labels.iter();
    fake.add(WorkloadSpec {
        port,
        labels: labels
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..WorkloadSpec::new(name("a"), "image:1")
    });
    let bench = Bench::over(fake, |_| {});
    *bench.rules.ready.lock() = Err(ScriptFailure {
        message: "the scripts were asked".into(),
        source_line: None,
    });
    bench
}

#[tokio::test]
async fn a_release_is_ready_when_its_own_path_answers_whatever_the_scripts_say() {
    let app = App::failing(3).await;
    let labels = [
        (HEALTH_PATH_LABEL, "/up?deep=1"),
        (HEALTH_INTERVAL_LABEL, "20ms"),
    ];
    let bench = bench(Some(app.address.port()), &labels);
    let begun = tokio::time::Instant::now();
    let lease = bench.lease().await;
    assert_eq!(lease.endpoint().port, Some(app.address.port()));
    let asked = app.asked.lock().clone();
    // No attempt takes as long as this, where the machine does not stall: one that does is made again.
    let is_stalled = begun.elapsed() >= 2 * SECOND;
    assert!(
        asked.len() == 4 || (is_stalled && asked.len() > 4),
        "{asked:?}"
    );
    for head in asked {
        assert!(head.starts_with("GET /up?deep=1 HTTP/1.1\r\n"), "{head}");
        let host = format!("\r\nhost: {}\r\n", app.address);
        assert!(head.to_lowercase().contains(&host), "{head}");
    }
}

#[tokio::test]
async fn a_release_that_never_gets_healthy_is_stopped_after_its_own_timeout() {
    let app = App::failing(usize::MAX).await;
    let labels = [(HEALTH_PATH_LABEL, "/up"), (HEALTH_TIMEOUT_LABEL, "3s")];
    let port = app.address.port();
    let bench = bench(Some(port), &labels);
    let (reason, _) = bench.refused_start().await;
    let answered = format!("/up on port {port} answered 503");
    assert!(
        reason.contains("not ready within 3s") && reason.contains(&answered),
        "{reason}"
    );
    bench.until_phase("failed").await;
    assert!(!bench.fake.is_running("a"));
    assert!(!app.asked.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_of_its_own_it_has_the_configured_one() {
    let labels = [(HEALTH_PATH_LABEL, "/up")];
    // No port: no attempt gets as far as the network, so that the paused clock rules everything.
    let bench = bench(None, &labels);
    let begun = tokio::time::Instant::now();
    let refused = bench.ask("a", 600 * SECOND).await.unwrap_err();
    let ready_timeout = Config::default().lifecycle.ready_timeout;
    assert_eq!(begun.elapsed().as_secs(), ready_timeout.as_secs());
    assert!(
        format!("{refused:?}").contains("no port is known"),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_label_that_cannot_be_read_is_a_failed_start() {
    for (label, value) in [
        (HEALTH_PATH_LABEL, "http://other/up"),
        (HEALTH_TIMEOUT_LABEL, "soon"),
        (HEALTH_INTERVAL_LABEL, "0s"),
    ] {
        let labels = [(HEALTH_PATH_LABEL, "/up"), (label, value)];
        let bench = bench(Some(80), &labels);
        let (reason, _) = bench.refused_start().await;
        assert!(reason.contains(&format!("the label {label}: ")), "{reason}");
        bench.until_phase("failed").await;
        assert!(!bench.fake.is_running("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn other_labels_of_a_health_check_say_nothing_without_a_path() {
    let labels = [(HEALTH_TIMEOUT_LABEL, "soon")];
    let bench = bench(Some(80), &labels);
    let (reason, _) = bench.refused_start().await;
    assert!(reason.contains("the scripts were asked"), "{reason}");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_named() {
    // Kept, so that nobody else gets it; nobody listens there.
    let kept = tokio::net::TcpSocket::new_v4().unwrap();
    kept.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = kept.local_addr().unwrap().port();
    let labels = [(HEALTH_PATH_LABEL, "/up"), (HEALTH_TIMEOUT_LABEL, "3s")];
    let (reason, _) = bench(Some(port), &labels).refused_start().await;
    let refused = format!("/up on port {port}: Connection refused");
    assert!(reason.contains(&refused), "{reason}");
}
