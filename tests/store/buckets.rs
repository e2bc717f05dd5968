//! What holds of buckets alone, on a real server: credentials, TLS, proxies, servers that go away.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use wakegate::config::{StoreLocation, StoreOptions};
use wakegate::store::{Recorded, Store, StoreError, StoreLimits};

use crate::moto::Moto;
use crate::subject::{credentials, current, entry, hash, open_with_limits, random_name};
use crate::{Run, named};

pub const TRIALS: &[(&str, Run<Arc<Moto>>)] = named![
    a_bucket_that_is_missing_is_told,
    a_server_that_is_killed_is_told_within_the_limit,
    credentials_and_permissions_are_what_the_server_says,
    credentials_of_a_container_are_fetched,
    an_https_server_is_trusted_by_its_authority_alone,
];

async fn a_bucket_that_is_missing_is_told(moto: Arc<Moto>) {
    let store = open_with_limits(&moto.url, &random_name(), StoreLimits::default());
    for error in [
        store.check().await.unwrap_err(),
        store.current().await.unwrap_err(),
        store.history().await.unwrap_err(),
        store.configuration(&hash(1)).await.unwrap_err(),
        store.artefact("shop.tar").await.unwrap_err(),
        store.put_configuration("{}").await.unwrap_err(),
        store.append(entry(1)).await.unwrap_err(),
        store
            .record(Recorded::new(current(1), entry(1)))
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Other { .. }), "{error:?}");
        let told = error.to_string();
        assert!(told.contains("there is no such bucket"), "{told}");
    }
}

async fn a_server_that_is_killed_is_told_within_the_limit(moto: Arc<Moto>) {
    let mut moto = moto.another(&[]).await;
    moto.make_bucket("shop").await;
    let limits = StoreLimits {
        operation: Duration::from_secs(5),
        ..StoreLimits::default()
    };
    let store = open_with_limits(&moto.url, "shop", limits);
    store
        .record(Recorded::new(current(1), entry(1)))
        .await
        .unwrap();
    moto.put("shop/apps/shop/shop.tar", vec![1; 1 << 20], "")
        .await;
    let artefact = store.artefact("shop.tar").await.unwrap();
    moto.kill();
    let begun = Instant::now();
    let hash = hash(1);
    let told = tokio::join!(
        store.check(),
        store.current(),
        store.configuration(&hash),
        store.put_configuration("{}"),
        store.append(entry(2)),
        store.record(Recorded::new(current(2), entry(2))),
    );
    let took = begun.elapsed();
    for error in [
        told.0.unwrap_err(),
        told.1.unwrap_err(),
        told.2.unwrap_err(),
        told.3.unwrap_err(),
        told.4.unwrap_err(),
        told.5.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains(&moto.url), "{error}");
    }
    // With room for a machine that does much else: none may hang.
    assert!(took < limits.operation * 4, "{took:?}");
    drop(artefact);
}

/// A server with a bucket `shop` that is about to check credentials.
async fn guarded(moto: &Moto) -> Moto {
    let moto = moto.another(&[]).await;
    moto.make_bucket("shop").await;
    moto
}

/// Calls the service that has users and roles.
async fn iam(moto: &Moto, form: &[(&str, &str)]) -> String {
    let form = [form, &[("Version", "2010-05-08")]].concat();
    moto.form("iam", &form).await
}

/// Makes a user who may do these actions; returns the key and its secret.
async fn user(moto: &Moto, name: &str, actions: &str) -> [String; 2] {
    let user = ("UserName", name);
    let policy = policy(actions);
    iam(moto, &[("Action", "CreateUser"), user]).await;
    let put = [
        ("Action", "PutUserPolicy"),
        user,
        ("PolicyName", "store"),
        ("PolicyDocument", &policy),
    ];
    iam(moto, &put).await;
    let made = iam(moto, &[("Action", "CreateAccessKey"), user]).await;
    ["AccessKeyId", "SecretAccessKey"].map(|tag| within(&made, tag))
}

/// Makes a role that may do these actions and assumes it; returns key, secret and token.
async fn assumed_role(moto: &Moto, actions: &str) -> [String; 3] {
    let policy = policy(actions);
    let create = [
        ("Action", "CreateRole"),
        ("RoleName", "gateway"),
        ("AssumeRolePolicyDocument", "{}"),
    ];
    let arn = within(&iam(moto, &create).await, "Arn");
    let put = [
        ("Action", "PutRolePolicy"),
        ("RoleName", "gateway"),
        ("PolicyName", "store"),
        ("PolicyDocument", &policy),
    ];
    iam(moto, &put).await;
    let assume = [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", &arn),
        ("RoleSessionName", "trial"),
    ];
    let made = moto.form("sts", &assume).await;
    ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|tag| within(&made, tag))
}

fn policy(actions: &str) -> String {
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": [actions], "Resource": "*" }],
    });
    policy.to_string()
}

fn within(xml: &str, tag: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{tag}>")).expect(xml);
    rest.split('<').next().unwrap().to_owned()
}

fn open(endpoint: &str, env: impl Fn(&str) -> Option<String>) -> Store {
    let options = StoreOptions {
        endpoint: Some(endpoint.to_owned()),
        ..StoreOptions::default()
    };
    let location = StoreLocation::parse("s3://shop/apps/shop", Path::new("/")).unwrap();
    Store::open(&location, &options, env).unwrap()
}

async fn credentials_and_permissions_are_what_the_server_says(moto: Arc<Moto>) {
    let moto = guarded(&moto).await;
    let all = user(&moto, "gateway", "s3:*").await;
    let reading = user(&moto, "reader", "s3:Get*").await;
    moto.check_credentials().await;
    let with = |key: &str, secret: &str| {
        let (key, secret) = (key.to_owned(), secret.to_owned());
        open(&moto.url, move |name| match name {
            "AWS_ACCESS_KEY_ID" => Some(key.clone()),
            "AWS_SECRET_ACCESS_KEY" => Some(secret.clone()),
            _ => None,
        })
    };
    // The server computes the signatures itself: it takes ours.
    let store = with(&all[0], &all[1]);
    store.check().await.unwrap();
    store
        .record(Recorded::new(current(1), entry(1)))
        .await
        .unwrap();
    let stored = store.put_configuration("{}").await.unwrap();

    let unknown = with("AKIAUNKNOWNUNKNOWNXX", "hunter2");
    let wrong = with(&all[0], "hunter2");
    for (store, code) in [
        (unknown, "InvalidAccessKeyId"),
        (wrong, "SignatureDoesNotMatch"),
    ] {
        for error in [
            store.check().await.unwrap_err(),
            store.configuration(&stored).await.unwrap_err(),
            store
                .record(Recorded::new(current(2), entry(2)))
                .await
                .unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
            let told = error.to_string();
            assert!(
                told.contains(code) && told.contains("AWS_ACCESS_KEY_ID"),
                "{told}"
            );
            assert!(
                !told.contains("hunter2") && !told.contains(&all[0]),
                "{told}"
            );
        }
    }
    // Who may only read can read, and is told so by the check: no switch begins.
    let reader = with(&reading[0], &reading[1]);
    assert_eq!(reader.current().await.unwrap(), Some(current(1)));
    assert_eq!(reader.configuration(&stored).await.unwrap(), "{}");
    for error in [
        reader.check().await.unwrap_err(),
        reader
            .record(Recorded::new(current(2), entry(2)))
            .await
            .unwrap_err(),
        reader.put_configuration("[]").await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    }
    assert_eq!(store.current().await.unwrap(), Some(current(1)));
    assert_eq!(store.history().await.unwrap(), [entry(1)]);
}

async fn credentials_of_a_container_are_fetched(moto: Arc<Moto>) {
    let moto = guarded(&moto).await;
    let [key, secret, token] = assumed_role(&moto, "s3:*").await;
    moto.check_credentials().await;
    let body = serde_json::json!({
        "AccessKeyId": key, "SecretAccessKey": secret, "Token": token,
        "Expiration": "2999-01-01T00:00:00Z",
    })
    .to_string();
    let agent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = agent.local_addr().unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let log = asked.clone();
    let serving = tokio::spawn(async move {
        while let Ok((mut connection, _)) = agent.accept().await {
            let head = head_of(&mut connection).await;
            log.lock().push(head);
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "the pod's own").unwrap();
    let store = open(&moto.url, move |name| match name {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI" => Some(format!("http://{address}/v1/credentials")),
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" => Some(token.display().to_string()),
        _ => None,
    });
    store
        .record(Recorded::new(current(1), entry(1)))
        .await
        .unwrap();
    assert_eq!(store.history().await.unwrap(), [entry(1)]);
    serving.abort();
    let asked = asked.lock().clone();
    assert_eq!(asked.len(), 1, "they are asked for once: {asked:?}");
    assert!(
        asked[0]
            .to_lowercase()
            .contains("authorization: the pod's own"),
        "{asked:?}"
    );
}

/// A certificate for the server, its authority's certificate, and their files.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(DnType::CommonName, "an authority of these tests");
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let server = server.signed_by(&key, &authority).unwrap();
        for (name, content) in [
            ("ca.pem", authority.pem()),
            ("server.pem", server.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

async fn an_https_server_is_trusted_by_its_authority_alone(moto: Arc<Moto>) {
    let certificates = Certificates::new();
    let (certificate, key) = (
        certificates.text("server.pem"),
        certificates.text("server.key"),
    );
    let moto = moto.another(&["-c", &certificate, "-k", &key]).await;
    assert!(moto.url.starts_with("https://127.0.0.1:"), "{}", moto.url);
    let authority = certificates.text("ca.pem");
    let curl = |args: &[&str], path: &str| {
        let output = Command::new("curl")
            .args(["-sSf", "--noproxy", "*", "--cacert", &authority])
            .args([
                "-H",
                "authorization: AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/s3/x",
            ])
            .args(args)
            .arg(format!("{}/{path}", moto.url))
            .output()
            .expect("curl is there");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    curl(&["-X", "PUT"], "shop");

    // Of an authority that nobody knows; then of one that is named, for another server's name.
    let error = open(&moto.url, credentials).check().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    let told = error.to_string();
    assert!(
        told.contains("UnknownIssuer") && told.contains("SSL_CERT_FILE"),
        "{told}"
    );
    let trusting = |more: &'static str, value: String| {
        let authority = authority.clone();
        move |name: &str| match name {
            "SSL_CERT_FILE" => Some(authority.clone()),
            _ if name == more => Some(value.clone()),
            _ => credentials(name),
        }
    };
    let elsewhere = moto.url.replace("127.0.0.1", "localhost");
    let named = open(&elsewhere, trusting("", String::new()));
    let told = named.check().await.unwrap_err().to_string();
    assert!(told.contains("invalid peer certificate"), "{told}");

    let store = open(&moto.url, trusting("", String::new()));
    store.set_current(current(1)).await.unwrap();
    let written = curl(&[], "shop/apps/shop/current.json");
    assert_eq!(written.as_bytes(), current(1).to_bytes());

    // Through a proxy, which sees no more than the server's name.
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let log = asked.clone();
    let proxying = tokio::spawn(async move {
        while let Ok((mut client, _)) = proxy.accept().await {
            let head = head_of(&mut client).await;
            let server = head.split(' ').nth(1).unwrap().to_owned();
            log.lock().push(head);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let store = open(
        &moto.url,
        trusting("HTTPS_PROXY", format!("http://{address}")),
    );
    store
        .record(Recorded::new(current(2), entry(2)))
        .await
        .unwrap();
    let written = curl(&[], "shop/apps/shop/current.json");
    assert_eq!(written.as_bytes(), current(2).to_bytes());
    proxying.abort();
    let asked = asked.lock().clone();
    let server = moto.url.strip_prefix("https://").unwrap();
    assert!(!asked.is_empty(), "the proxy was not asked");
    for head in asked {
        assert!(
            head.starts_with(&format!("CONNECT {server} HTTP/1.1\r\n")),
            "{head}"
        );
    }
}

/// The head of a request.
async fn head_of(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
