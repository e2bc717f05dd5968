//! The client against the real listener.

use serde_json::json;

use super::*;
use crate::admin::client::{Client, ClientError};

fn spec(name: &str) -> WorkloadSpec {
    WorkloadSpec::new(WorkloadName::new(name).unwrap(), "web:1")
}

async fn makes_its_rounds(client: &Client) {
    client.ready().await.unwrap();
    let made = client.post_deploy(&spec("b"), false).await.unwrap();
    assert_eq!((made.name.as_str(), made.state.as_str()), ("b", "stopped"));
    let vars = json!({"name": "a"}).as_object().unwrap().clone();
    let made = client.post_template("web", &vars, true).await.unwrap();
    assert_eq!(
        (made.id.as_str(), made.state.as_str()),
        ("id-of-a", "starting")
    );
    let names: Vec<_> = client.list().await.unwrap();
    let names: Vec<_> = names
        .iter()
        .map(|instance| instance.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(client.get("b").await.unwrap().phase, "stopped");
    let started = client.start("b", Some(Duration::from_secs(9))).await;
    assert_eq!(started.unwrap().state, "ready");
    assert_eq!(client.delete("b").await.unwrap().state, "removed");
    assert_eq!(client.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn it_deploys_lists_starts_and_deletes_over_tcp_with_a_token() {
    let config = with_token("secret");
    let house = house_with(&config).await;
    let client = Client::new(house.running.address().clone(), config.token);
    makes_its_rounds(&client).await;
    let orders = house.stage.orders();
    assert!(
        orders.contains(&"start b until_ready=Some(9s)".to_owned()),
        "{orders:?}"
    );
}

#[tokio::test]
async fn it_does_the_same_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Admin {
        listen: Listen::Unix(folder.path().join("admin.sock")),
        ..configured()
    };
    let _house = house_with(&config).await;
    makes_its_rounds(&Client::of(&config)).await;
}

#[tokio::test]
async fn it_reaches_a_listener_on_all_addresses_by_loopback() {
    let config = config::Admin {
        listen: Listen::Tcp(([0, 0, 0, 0], 0).into()),
        ..with_token("secret")
    };
    let house = house_with(&config).await;
    let client = Client::new(house.running.address().clone(), config.token);
    assert!(client.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_refusal_carries_the_gateways_words() {
    let house = house().await;
    let client = Client::new(house.running.address().clone(), None);
    *house.stage.refusal.lock() = Some(OrderError::NameTaken("a".to_owned()));
    let error = client.post_deploy(&spec("a"), true).await.unwrap_err();
    assert_eq!(error.kind(), Some("name_taken"));
    assert_eq!(error.to_string(), "the name \"a\" is taken");
    let error = client.get("no/such one").await.unwrap_err();
    assert_eq!(error.kind(), Some("unknown_workload"));
    assert_eq!(error.to_string(), "there is no workload \"no/such one\"");
}

#[tokio::test]
async fn a_missing_token_is_a_refusal_that_says_so() {
    let house = house_with(&with_token("secret")).await;
    let client = Client::new(house.running.address().clone(), None);
    let error = client.list().await.unwrap_err();
    assert_eq!(error.kind(), Some("unauthorized"));
}

#[tokio::test]
async fn nobody_there_is_told_as_such() {
    let house = house().await;
    let address = house.running.address().clone();
    house.running.stop(LIMIT).await;
    let error = Client::new(address, None).list().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_of_another_program_is_told_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let other = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"220 mail.example ESMTP\r\n")
            .await
            .unwrap();
        // It stays open: a connection that breaks would say something else.
        stream
    });
    let client = Client::new(Listen::Tcp(address), None);
    let error = client.list().await.unwrap_err();
    assert!(matches!(error, ClientError::Garbled { .. }), "{error}");
    drop(other.await.unwrap());
}

/// Takes a call, sends `begun` of an answer, and ends; with `by_reset` as a killed gateway does.
async fn ends_during_a_call(begun: &'static [u8], by_reset: bool) -> ClientError {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ending = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = vec![stream.read_u8().await.unwrap()];
        // What is left unread makes the kernel reset the connection.
        while !by_reset && !read.ends_with(b"\r\n\r\n") {
            read.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(begun).await.unwrap();
    });
    let client = Client::new(Listen::Tcp(address), None);
    let error = client.list().await.unwrap_err();
    ending.await.unwrap();
    error
}

#[tokio::test]
async fn a_gateway_that_ends_during_a_call_is_told_as_gone() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
    let chunk = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n";
    for begun in [&b""[..], b"HTTP/1.1 200", half, chunk] {
        for by_reset in [false, true] {
            let error = ends_during_a_call(begun, by_reset).await;
            assert!(matches!(error, ClientError::Gone { .. }), "{error}");
        }
    }
}
