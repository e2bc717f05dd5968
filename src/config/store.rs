//! Where an application's launch configurations are stored, as gateway.toml says it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::kind::{TextKind, is_not};

/// Where an application's launch configurations and its history are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// A folder of this machine.
    File(PathBuf),
    /// A bucket of S3, or of what speaks like it. The prefix has no slash at either end; it may be
    /// empty.
    S3 { bucket: String, prefix: String },
}

/// How an S3 store is reached; a folder has no use for it. The credentials come from the usual
/// variables, `AWS_ACCESS_KEY_ID` and so on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreOptions {
    /// The server's URL; default none: Amazon's, or what `AWS_ENDPOINT_URL` says.
    pub endpoint: Option<String>,
    /// Default none: what `AWS_REGION` says, else `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of addresses, not before the host's name. Default none:
    /// what `AWS_VIRTUAL_HOSTED_STYLE_REQUEST` says, else true, which every server understands.
    pub path_style: Option<bool>,
}

impl StoreLocation {
    /// Reads `file:path` or `s3://bucket/prefix`; a relative path starts from `base`.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('\0') {
                return Err(format!("{text:?} names no folder (try \"file:releases\")"));
            }
            if path.starts_with('~') {
                return Err(format!(
                    "{text:?}: '~' is not expanded; write the whole path"
                ));
            }
            return Ok(Self::File(base.join(path)));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            check_bucket(bucket)?;
            let prefix = prefix.trim_end_matches('/');
            let is_part = |part: &str| {
                !matches!(part, "" | "." | "..")
                    && !part.contains(|c: char| c.is_control() || "?#\\".contains(c))
            };
            if !prefix.is_empty() && !prefix.split('/').all(is_part) {
                return Err(format!(
                    "{prefix:?} is not a prefix (try \"s3://{bucket}/shop\")"
                ));
            }
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            });
        }
        let is_path = !text.is_empty() && !text.contains(':');
        Err(if is_path {
            format!("{text:?} does not say what it is (write \"file:{text}\")")
        } else {
            is_not(format_args!("{text:?}"), Store::WHAT)
        })
    }
}

/// What Amazon demands, and a little more: other servers take capitals and `_`.
fn check_bucket(bucket: &str) -> Result<(), String> {
    // Not repeated: what stands there may be a secret.
    if bucket.contains(['@', ':']) {
        return Err(
            "s3:// takes neither credentials nor a port: credentials come from AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, the server from store_endpoint"
                .to_owned(),
        );
    }
    let has_letters = bucket
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let begins_well = bucket.starts_with(|c: char| c.is_ascii_alphanumeric());
    if (3..=63).contains(&bucket.len()) && has_letters && begins_well {
        return Ok(());
    }
    Err(format!(
        "{bucket:?} is not a bucket's name: that has 3 to 63 letters, digits, '.', '-' or '_' (try \
         \"s3://bucket/prefix\")"
    ))
}

impl fmt::Display for StoreLocation {
    /// As it is written in gateway.toml.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// `file:path` or `s3://bucket/prefix`.
pub struct Store;

impl TextKind for Store {
    type Out = StoreLocation;
    const WHAT: (&'static str, &'static str) = (
        "a place to store releases",
        "\"file:releases/shop\" or \"s3://bucket/shop\"",
    );

    fn parse(&self, text: &str, base: &Path) -> Result<StoreLocation, String> {
        StoreLocation::parse(text, base)
    }

    fn write(&self, location: &StoreLocation) -> String {
        location.to_string()
    }
}

/// The URL of a server, without more than a path.
pub struct ServerUrl;

impl TextKind for ServerUrl {
    type Out = String;
    const WHAT: (&'static str, &'static str) = ("a server's URL", "\"http://127.0.0.1:9000\"");

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        let url = text.parse::<http::Uri>().ok().filter(|url| {
            matches!(url.scheme_str(), Some("http" | "https"))
                && url.authority().is_some_and(is_server)
                && url.query().is_none()
                && !text.contains('#')
        });
        match url {
            Some(_) => Ok(text.trim_end_matches('/').to_owned()),
            None => Err(is_not(format_args!("{text:?}"), Self::WHAT)),
        }
    }

    fn write(&self, url: &String) -> String {
        url.clone()
    }
}

/// Whether it is a host, with a port or without, and nothing else.
pub fn is_server(authority: &http::uri::Authority) -> bool {
    let (whole, host) = (authority.as_str(), authority.host());
    !host.is_empty() && (whole == host || authority.port_u16().is_some()) && !whole.contains('@')
}

/// A region of S3.
pub struct Region;

impl TextKind for Region {
    type Out = String;
    const WHAT: (&'static str, &'static str) = ("a region", "\"eu-central-1\"");

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        let is_word = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if text.is_empty() || !is_word {
            return Err(is_not(format_args!("{text:?}"), Self::WHAT));
        }
        Ok(text.to_owned())
    }

    fn write(&self, region: &String) -> String {
        region.clone()
    }
}
