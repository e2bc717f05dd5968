//! The socket: limits, unix files, the end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::net::UnixStream;

use super::*;
use crate::admin::StartError;
use crate::admin::listener::HEAD_TIMEOUT;

fn at(path: &Path) -> config::Admin {
    config::Admin {
        listen: Listen::Unix(path.to_owned()),
        ..configured()
    }
}

async fn start(config: &config::Admin) -> Result<Running, StartError> {
    crate::admin::start(config, parts(&Stage::new())).await
}

#[tokio::test]
async fn a_unix_socket_is_private_takes_any_host_and_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let running = start(&at(&path)).await.unwrap();
    assert_eq!(running.address(), &Listen::Unix(path.clone()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let bytes = request("GET", "/deploy", &["Host: anything.example"], "");
    assert_eq!(exchange(&mut stream, &bytes).await.status, 200);
    running.stop(LIMIT).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_file_that_was_left_behind_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _running = start(&at(&path)).await.unwrap();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let bytes = request("GET", "/healthz", &[], "");
    assert_eq!(exchange(&mut stream, &bytes).await.status, 200);
}

#[tokio::test]
async fn a_socket_on_which_somebody_listens_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let first = start(&at(&path)).await.unwrap();
    let error = start(&at(&path)).await.err().unwrap();
    assert!(matches!(error, StartError::InUse(_)), "{error}");
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let bytes = request("GET", "/healthz", &[], "");
    assert_eq!(exchange(&mut stream, &bytes).await.status, 200);
    first.stop(LIMIT).await;
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "precious").unwrap();
    let error = start(&at(&path)).await.err().unwrap();
    assert!(matches!(error, StartError::NotASocket(_)), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn the_file_of_a_successor_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let running = start(&at(&path)).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let _successor = start(&at(&path)).await.unwrap();
    running.stop(LIMIT).await;
    assert!(path.exists());
}

#[tokio::test]
async fn a_busy_port_is_told_in_one_sentence() {
    let house = house().await;
    let config = config::Admin {
        listen: Listen::Tcp(house.tcp()),
        ..configured()
    };
    let error = start(&config).await.err().unwrap().to_string();
    assert!(error.contains(&house.tcp().to_string()), "{error}");
    assert!(error.contains("in use"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_announced_or_not() {
    let house = house().await;
    let host = format!("Host: {}", house.tcp());
    let json = "Content-Type: application/json";
    let body = " ".repeat((1 << 20) + 1);
    let announced = request("POST", "/deploy", &[&host, json], &body);
    house.raw(&announced).await.problem(413, "body_too_large");

    let chunked = "Transfer-Encoding: chunked";
    let mut bytes = request("POST", "/deploy", &[&host, json, chunked], "");
    bytes.extend(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).bytes());
    house.raw(&bytes).await.problem(413, "body_too_large");

    // Nothing is sent before the leave to, which does not come.
    let expecting = [
        &*host,
        json,
        "Expect: 100-continue",
        "Content-Length: 1048577",
    ];
    let bytes = request("POST", "/deploy", &expecting, "");
    house.raw(&bytes).await.problem(413, "body_too_large");

    let spec = r#"{"name":"a","image":"i"}"#;
    let padded = format!("{spec}{}", " ".repeat((1 << 20) - spec.len()));
    assert_eq!(house.post("/deploy", &padded).await.status, 201);
}

#[tokio::test]
async fn heads_that_are_malformed_or_too_large_are_refused() {
    let house = house().await;
    assert_eq!(house.raw(b"nonsense\r\n\r\n").await.status, 400);
    let long = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n", "x".repeat(70_000));
    assert_eq!(house.raw(long.as_bytes()).await.status, 431);
}

/// Lets that time pass at once. The clock is not left paused: what is on its way through the kernel does
/// not hold it up.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let house = house().await;
    // Before the wait for the head can begin.
    let begun = tokio::time::Instant::now();
    let mut stream = house.connect().await;
    let ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
    stream.write_all(b"GET /healthz HT").await.unwrap();
    let mut rest = Vec::new();
    // A second at a time: a machine that stalls only makes it later.
    loop {
        pass(Duration::from_secs(1)).await;
        let read = stream.read_to_end(&mut rest);
        if let Ok(ended) = tokio::time::timeout(Duration::from_millis(50), read).await {
            ended.unwrap();
            break;
        }
        assert!(
            begun.elapsed() < LIMIT + 2 * HEAD_TIMEOUT,
            "it is not cut off"
        );
    }
    assert!(
        begun.elapsed() >= Duration::from_secs(29),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_body_that_never_ends_is_a_408() {
    let house = house().await;
    let host = format!("Host: {}", house.tcp());
    let headers = [
        &*host,
        "Content-Type: application/json",
        "Expect: 100-continue",
        "Content-Length: 9",
    ];
    let mut stream = house.connect().await;
    let bytes = request("POST", "/deploy", &headers, "");
    stream.write_all(&bytes).await.unwrap();
    let mut leave = [0; 25];
    stream.read_exact(&mut leave).await.unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    pass(Duration::from_secs(31)).await;
    read_to_end(&mut stream).await.problem(408, "body_timeout");
}

#[tokio::test]
async fn past_the_limit_of_connections_a_new_one_waits_for_a_place() {
    let house = house().await;
    let ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut buffer = [0; 1024];
    let mut open = Vec::new();
    for _ in 0..256 {
        let mut stream = house.connect().await;
        stream.write_all(ask).await.unwrap();
        let read = stream.read(&mut buffer);
        assert!(tokio::time::timeout(LIMIT, read).await.unwrap().unwrap() > 0);
        open.push(stream);
    }
    let mut late = house.connect().await;
    late.write_all(&request("GET", "/healthz", &[], ""))
        .await
        .unwrap();
    // The others are still served, and the late one is not.
    open[0].write_all(ask).await.unwrap();
    let read = open[0].read(&mut buffer);
    assert!(tokio::time::timeout(LIMIT, read).await.unwrap().unwrap() > 0);
    assert!(late.try_read(&mut buffer).is_err());
    drop(open.pop());
    assert_eq!(read_to_end(&mut late).await.status, 200);
}

#[tokio::test]
async fn a_stop_waits_for_orders_under_way_and_takes_no_new_ones() {
    let house = house().await;
    house.stage.stalled.send_replace(true);
    let address = house.tcp();
    let host = format!("Host: {address}");
    let headers = [&*host, "Content-Type: application/json"];
    let mut stream = house.connect().await;
    let body = r#"{"name":"a","image":"i"}"#;
    stream
        .write_all(&request("POST", "/deploy", &headers, body))
        .await
        .unwrap();
    house.stage.has_ordered("deploy a start=true").await;
    let stop = tokio::spawn(house.running.stop(LIMIT));
    let is_closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, is_closed).await.unwrap();
    assert!(!stop.is_finished());
    house.stage.stalled.send_replace(false);
    assert_eq!(read_to_end(&mut stream).await.status, 201);
    tokio::time::timeout(LIMIT, stop).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_ends_idle_connections_at_once() {
    let house = house().await;
    let mut stream = house.connect().await;
    let ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let read = stream.read(&mut [0; 1024]).await.unwrap();
    assert!(read > 0);
    let begun = tokio::time::Instant::now();
    house.running.stop(LIMIT).await;
    // By itself the connection would end when no head has come for so long.
    assert!(begun.elapsed() < HEAD_TIMEOUT / 2);
}

#[tokio::test]
async fn a_stop_cuts_off_what_takes_too_long() {
    let house = house().await;
    house.stage.stalled.send_replace(true);
    let host = format!("Host: {}", house.tcp());
    let mut stream = house.connect().await;
    *house.stage.views.lock() = vec![view("a", "ready")];
    stream
        .write_all(&request("DELETE", "/deploy/a", &[&host], ""))
        .await
        .unwrap();
    house.stage.has_ordered("remove a").await;
    house.running.stop(Duration::from_secs(1)).await;
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    tokio::time::timeout(LIMIT, read).await.unwrap().unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn whoever_follows_the_status_does_not_hold_the_end_up() {
    let house = house().await;
    let host = format!("Host: {}", house.tcp());
    let mut stream = house.connect().await;
    let follow = request("GET", "/events", &[&host], "");
    stream.write_all(&follow).await.unwrap();
    let mut told = Vec::new();
    while !String::from_utf8_lossy(&told).contains("event: status\n") {
        let read = stream.read_buf(&mut told);
        let bytes = tokio::time::timeout(LIMIT, read).await.unwrap().unwrap();
        assert!(bytes > 0, "it has ended");
    }
    // Nothing is cut off: it would go on for as long as the end may take.
    tokio::spawn(house.running.stop(10 * LIMIT));
    let rest = stream.read_to_end(&mut told);
    tokio::time::timeout(LIMIT, rest).await.unwrap().unwrap();
    assert!(told.ends_with(b"0\r\n\r\n"), "it is whole");
}
