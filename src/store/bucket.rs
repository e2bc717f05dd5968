//! A bucket on Amazon S3 or on a server that speaks its API: settings, credentials, addresses.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, RetryConfig};

use super::StoreLimits;
use super::error::{Place, StoreError};
use super::http::Connector;
use crate::config::{StoreLocation, StoreOptions};
use crate::https::{self, Environment};

/// Variables that are taken as they are; of two that set the same, the later goes first.
const VARIABLES: [&str; 27] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_ALLOW_HTTP",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
    "AWS_IMDSV1_FALLBACK",
    "AWS_SKIP_SIGNATURE",
    "AWS_UNSIGNED_PAYLOAD",
    "AWS_CHECKSUM_ALGORITHM",
    "AWS_REQUEST_PAYER",
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_KMS_KEY_ID",
    "AWS_SSE_BUCKET_KEY_ENABLED",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
];

/// A bucket's objects, twice: documents are small and soon given up, archives are large.
pub(super) struct Bucket {
    pub place: Place,
    pub documents: AmazonS3,
    pub archives: AmazonS3,
}

/// Reads the settings; nothing is asked of the network.
pub(super) fn open(
    location: &StoreLocation,
    bucket: &str,
    options: &StoreOptions,
    env: &impl Environment,
    limits: &StoreLimits,
) -> Result<Bucket, StoreError> {
    let variable = |name: &str| env(name).filter(|value| !value.is_empty());
    let endpoint = options.endpoint.clone().or_else(|| {
        ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
            .into_iter()
            .find_map(variable)
    });
    let unknown_place = Place::new(location, None);
    let unusable = |reason: String| unknown_place.other("reading its settings", reason);
    let endpoint = endpoint
        .map(|endpoint| server(&endpoint))
        .transpose()
        .map_err(unusable)?;
    let place = Place::new(location, endpoint.as_deref());
    let unusable = |reason: String| place.other("reading its settings", reason);

    let is_set = |name| variable(name).is_some();
    if is_set("AWS_ACCESS_KEY_ID") != is_set("AWS_SECRET_ACCESS_KEY") {
        return Err(unusable(
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together".to_owned(),
        ));
    }
    let mut builder = AmazonS3Builder::new();
    for name in VARIABLES {
        let key: AmazonS3ConfigKey = name
            .to_ascii_lowercase()
            .parse()
            .map_err(|error: object_store::Error| unusable(error.to_string()))?;
        if let Some(value) = variable(name) {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    let is_virtual_hosted = options.path_style.map_or_else(
        || is_true(variable("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")),
        |is_path_style| !is_path_style,
    );
    if let Some(endpoint) = &endpoint {
        let endpoint = if is_virtual_hosted {
            before_the_name(endpoint, bucket)
        } else {
            endpoint.clone()
        };
        builder = builder
            .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint.clone())
            .with_endpoint(endpoint);
    }
    let is_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let client = ClientOptions::new()
        .with_allow_http(is_http || is_true(variable("AWS_ALLOW_HTTP")))
        .with_config(
            ClientConfigKey::ConnectTimeout,
            humantime::format_duration(limits.connect).to_string(),
        );
    let builder = builder
        .with_bucket_name(bucket)
        // Not all servers know how to delete several objects at once.
        .with_disable_bulk_delete(true)
        .with_virtual_hosted_style_request(is_virtual_hosted)
        .with_client_options(client)
        .with_http_connector(Connector {
            trusted: https::trusted(env).map_err(unusable)?,
            proxies: https::proxies(env),
            connect_time_max: limits.connect,
            answer_time_max: limits.answer,
        });

    let built =
        |builder: AmazonS3Builder| builder.build().map_err(|error| unusable(error.to_string()));
    let documents = built(builder.clone().with_retry(retries(limits.operation)))?;
    // A download that breaks off is taken up again where it was, for as long as it may take.
    let archives = built(
        builder
            .with_credentials(Arc::clone(documents.credentials()))
            .with_retry(retries(ARCHIVE_TIME_MAX)),
    )?;
    Ok(Bucket {
        place,
        documents,
        archives,
    })
}

/// How long after its begin a download that breaks off is taken up again.
const ARCHIVE_TIME_MAX: Duration = Duration::from_secs(1800);

fn retries(time_max: Duration) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: time_max,
    }
}

/// Checks an endpoint: scheme and machine, perhaps a path.
fn server(endpoint: &str) -> Result<String, String> {
    // It may hold credentials that stand where they should not: it is not repeated.
    let not_an_endpoint = || "the endpoint must be like https://s3.example.com".to_owned();
    let uri: Uri = endpoint.parse().map_err(|_| not_an_endpoint())?;
    if endpoint.contains('@') {
        return Err("the endpoint must hold no credentials".to_owned());
    }
    let authority = uri.authority().ok_or_else(not_an_endpoint)?;
    let port = authority.as_str().strip_prefix(authority.host());
    let is_numbered = port == Some("") || authority.port_u16().is_some();
    if authority.host().is_empty() || !is_numbered {
        return Err(not_an_endpoint());
    }
    match uri.scheme_str() {
        Some("http" | "https") if uri.query().is_none() => {
            Ok(endpoint.trim_end_matches('/').to_owned())
        }
        _ => Err(not_an_endpoint()),
    }
}

/// The bucket before the server's name, unless it is there already.
fn before_the_name(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((_, machine)) if machine.starts_with(&format!("{bucket}.")) => endpoint.to_owned(),
        Some((scheme, machine)) => format!("{scheme}://{bucket}.{machine}"),
        None => endpoint.to_owned(),
    }
}

fn is_true(value: Option<String>) -> bool {
    value.is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_one_that_the_library_knows() {
        for name in VARIABLES {
            assert!(
                name.to_ascii_lowercase()
                    .parse::<AmazonS3ConfigKey>()
                    .is_ok(),
                "{name}"
            );
        }
    }

    #[test]
    fn an_endpoint_is_a_server_without_secrets() {
        for (given, expected) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("https://s3.example.com/", "https://s3.example.com"),
            ("https://example.com/s3/", "https://example.com/s3"),
        ] {
            assert_eq!(server(given).as_deref(), Ok(expected));
        }
        for bad in [
            "http://minio:port",
            "http://:9000",
            "minio:9000",
            "s3.example.com",
            "ftp://a",
            "http://a?b=c",
            "",
        ] {
            let error = server(bad).unwrap_err();
            assert!(error.contains("https://s3.example.com"), "{bad}: {error}");
        }
        let error = server("https://key:hunter2@s3.example.com").unwrap_err();
        assert!(error.contains("no credentials") && !error.contains("hunter2"));
    }

    #[test]
    fn a_virtual_host_has_the_bucket_once() {
        for (endpoint, expected) in [
            ("https://s3.example.com", "https://shop.s3.example.com"),
            ("https://shop.s3.example.com", "https://shop.s3.example.com"),
        ] {
            assert_eq!(before_the_name(endpoint, "shop"), expected);
        }
    }
}
