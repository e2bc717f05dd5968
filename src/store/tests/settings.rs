//! Settings and variables of buckets, as the server sees them.

use super::server::{Reaction, Server, refusal};
use super::*;

/// Variables of the environment, with their values.
type Set = &'static [(&'static str, &'static str)];

/// A server that stands where a proxy is asked, so that it sees whole addresses.
async fn witness() -> Server {
    Server::new(|_| Reaction::Answer(refusal(404, "NoSuchKey", "nothing there"))).await
}

/// What the server is asked when `current.json` is read with these settings.
async fn asked(options: StoreOptions, set: &[(&str, &str)]) -> (String, http::HeaderMap) {
    let server = witness().await;
    let proxy = server.url.clone();
    let env = |name: &str| {
        let given = set.iter().find(|(key, _)| *key == name);
        match given {
            Some((_, value)) => Some((*value).to_owned()),
            None if name == "HTTP_PROXY" => Some(proxy.replace("://", "://user:p%40ss@")),
            None => variables(name),
        }
    };
    let location = location("s3://shop/apps/shop");
    let store = Store::open(&location, &options, env).unwrap();
    assert_eq!(store.current().await.unwrap(), None);
    let request = server.requests().remove(0);
    (request.uri().to_string(), request.headers().clone())
}

fn options(endpoint: &str, region: &str, path_style: bool) -> StoreOptions {
    StoreOptions {
        endpoint: Some(endpoint.to_owned()).filter(|text| !text.is_empty()),
        region: Some(region.to_owned()).filter(|text| !text.is_empty()),
        path_style: Some(path_style),
    }
}

#[tokio::test]
async fn options_go_before_variables_and_special_variables_before_general_ones() {
    let none = StoreOptions::default;
    let cases: [(StoreOptions, Set, &str, &str); 7] = [
        (
            none(),
            &[("AWS_ENDPOINT_URL", "http://s3.test")],
            "http://s3.test/shop/apps/shop/current.json",
            "us-east-1",
        ),
        (
            none(),
            &[
                ("AWS_ENDPOINT_URL", "http://other.test"),
                ("AWS_ENDPOINT_URL_S3", "http://s3.test/"),
                ("AWS_DEFAULT_REGION", "eu-north-1"),
            ],
            "http://s3.test/shop/apps/shop/current.json",
            "eu-north-1",
        ),
        (
            none(),
            &[
                ("AWS_ENDPOINT", "http://s3.test"),
                ("AWS_ENDPOINT_URL", ""),
                ("AWS_REGION", "eu-west-1"),
                ("AWS_DEFAULT_REGION", "eu-north-1"),
            ],
            "http://s3.test/shop/apps/shop/current.json",
            "eu-west-1",
        ),
        (
            options("http://mine.test:9000", "moon-1", true),
            &[
                ("AWS_ENDPOINT_URL_S3", "http://other.test"),
                ("AWS_REGION", "eu-west-1"),
                ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
            ],
            "http://mine.test:9000/shop/apps/shop/current.json",
            "moon-1",
        ),
        (
            options("http://mine.test:9000", "", false),
            &[],
            "http://shop.mine.test:9000/apps/shop/current.json",
            "us-east-1",
        ),
        (
            none(),
            &[
                ("AWS_ENDPOINT_URL", "http://shop.s3.test"),
                ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
            ],
            "http://shop.s3.test/apps/shop/current.json",
            "us-east-1",
        ),
        (
            options("http://s3.test/gate", "", true),
            &[],
            "http://s3.test/gate/shop/apps/shop/current.json",
            "us-east-1",
        ),
    ];
    for (options, set, expected, region) in cases {
        let (uri, headers) = asked(options.clone(), set).await;
        assert_eq!(uri, expected, "{options:?} {set:?}");
        let signed = headers["authorization"].to_str().unwrap();
        assert!(
            signed.contains(&format!("/{region}/s3/aws4_request")),
            "{signed}"
        );
        assert!(!signed.contains(SECRET));
    }
}

#[tokio::test]
async fn a_proxy_gets_its_credentials_and_the_server_the_token() {
    let set = [("AWS_SESSION_TOKEN", "a-token")];
    let (_, headers) = asked(options("http://s3.test", "", true), &set).await;
    assert_eq!(headers["proxy-authorization"], "Basic dXNlcjpwQHNz");
    assert_eq!(headers["x-amz-security-token"], "a-token");
    let agent = headers["user-agent"].to_str().unwrap();
    assert!(agent.starts_with("wakegate/"), "{agent}");
}

#[tokio::test]
async fn a_server_that_no_proxy_is_wanted_for_is_asked_directly() {
    let (proxy, server) = (witness().await, witness().await);
    let env = |name: &str| match name {
        "http_proxy" => Some(proxy.url.clone()),
        "NO_PROXY" => Some("example.com,127.0.0.1".to_owned()),
        _ => variables(name),
    };
    let options = options(&server.url, "", true);
    let store = Store::open(&location("s3://shop"), &options, env).unwrap();
    assert_eq!(store.current().await.unwrap(), None);
    assert_eq!(server.asked(), ["GET /shop/current.json"]);
    assert_eq!(proxy.asked(), [""; 0]);
}

#[test]
fn settings_that_cannot_be_used_are_told_at_once_and_without_secrets() {
    let env = |overrides: Set| {
        move |name: &str| match overrides.iter().find(|(key, _)| *key == name) {
            Some((_, value)) => Some((*value).to_owned()),
            None => variables(name),
        }
    };
    let cases: [(Set, &str); 6] = [
        (&[("AWS_SECRET_ACCESS_KEY", "")], "must be set together"),
        (
            &[("AWS_ENDPOINT_URL", "minio:9000")],
            "must be like https://",
        ),
        (
            &[("AWS_ENDPOINT_URL", "http://a:hunter2+secret/key@b")],
            "must hold no credentials",
        ),
        (
            &[("SSL_CERT_FILE", "/nowhere/ca.pem")],
            "SSL_CERT_FILE: /nowhere/ca.pem",
        ),
        (
            &[("AWS_CA_BUNDLE", "/dev/null")],
            "there is no usable PEM certificate",
        ),
        (&[("AWS_CHECKSUM_ALGORITHM", "crc1")], "crc1"),
    ];
    for (overrides, expected) in cases {
        let options = StoreOptions::default();
        let error = Store::open(&location("s3://shop"), &options, env(overrides)).unwrap_err();
        let told = error.to_string();
        assert_eq!(variant(&error), "Other", "{told}");
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains(SECRET), "{told}");
    }
}

#[tokio::test]
async fn without_credentials_that_is_what_is_told() {
    let server = witness().await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let env = |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some(server.url.clone()),
        "AWS_METADATA_ENDPOINT" => Some(closed.clone()),
        _ => None,
    };
    let options = StoreOptions::default();
    let store = Store::open(&location("s3://shop"), &options, env).unwrap();
    let error = store.check().await.unwrap_err();
    let told = error.to_string();
    assert_eq!(variant(&error), "Denied", "{told}");
    assert!(told.contains("no credentials are set"), "{told}");
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn nothing_secret_is_asked_without_tls_unless_that_was_said() {
    let server = witness().await;
    let env = |name: &str| match name {
        // Not an endpoint of ours: where credentials come from, which must be https.
        "AWS_ENDPOINT_URL_STS" => Some(server.url.clone()),
        "AWS_ENDPOINT_URL" => Some("https://s3.invalid".to_owned()),
        "AWS_WEB_IDENTITY_TOKEN_FILE" => Some("/proc/self/cmdline".to_owned()),
        "AWS_ROLE_ARN" => Some("arn:aws:iam::1:role/gate".to_owned()),
        _ => None,
    };
    let options = StoreOptions::default();
    let store = Store::open(&location("s3://shop"), &options, env).unwrap();
    let error = store.check().await.unwrap_err();
    assert!(
        error.to_string().contains("http:// is not allowed there"),
        "{error}"
    );
    assert_eq!(server.asked(), [""; 0]);
}
