//! What can go wrong with a store, by what its caller can do about it.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::sync::Arc;

use object_store::client::{HttpError, HttpErrorKind};

use crate::config::StoreLocation;
use crate::names::ReleaseHash;

/// Why an operation on a store was not done.
///
/// Each message names the store. Secrets are in none: neither keys nor documents are repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nobody answers, or not in time, or with a failure of its own. Try later. A write may have
    /// been done all the same.
    #[error("the store {place} does not answer ({doing}: {reason})")]
    Unreachable {
        place: Place,
        doing: Doing,
        reason: String,
    },
    /// No room. The document that was to be written is as it was.
    #[error("the disk of the store {place} is full ({doing})")]
    Full { place: Place, doing: Doing },
    /// The store is there and says no: credentials, permissions, a read-only disk.
    #[error("the store {place} refuses access ({doing}: {reason}); {}", place.on_denied())]
    Denied {
        place: Place,
        doing: Doing,
        reason: String,
    },
    #[error("the store {place} has no launch configuration {hash} (container.{hash}.json)")]
    UnknownHash { place: Place, hash: ReleaseHash },
    /// The bytes of a launch configuration are not those that its name promises.
    #[error(
        "the store {place}: the bytes of {key} have the hash {actual}; they were changed or \
         damaged, and are not used"
    )]
    HashMismatch {
        place: Place,
        key: String,
        actual: String,
    },
    #[error("the store {place} has no {key}")]
    UnknownArtefact { place: Place, key: String },
    /// A key that can be in no store, or a document that cannot be read.
    #[error("the store {place}: {key} cannot be used: {reason}")]
    Malformed {
        place: Place,
        key: String,
        reason: String,
    },
    #[error("the store {place}: {key} has {bytes} bytes; {max} are allowed")]
    TooLarge {
        place: Place,
        key: String,
        bytes: u64,
        max: u64,
    },
    /// Others wrote the same document each time. Try again.
    #[error(
        "the store {place}: {key} could not be written, others wrote it at the same time \
         ({attempts} attempts)"
    )]
    Conflict {
        place: Place,
        key: String,
        attempts: u32,
    },
    /// Two gateways that write at once would lose an entry there, so nothing is written.
    #[error(
        "the store {place} does not know conditional writes, without which gateways that write at \
         once lose entries of the history: {reason}; use a server that knows them (Amazon S3, \
         MinIO and Cloudflare R2 do), or a folder"
    )]
    Unconditional { place: Place, reason: String },
    /// What cannot be done as it is; the message says what to change.
    #[error("the store {place} failed ({doing}: {reason})")]
    Other {
        place: Place,
        doing: Doing,
        reason: String,
    },
}

/// What was being done, such as `reading current.json`.
pub type Doing = Cow<'static, str>;

/// Where a store is, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    text: Arc<str>,
    kind: PlaceKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    Memory,
    Folder,
    Bucket,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Place {
    /// `endpoint` is the server of a bucket when it is not Amazon's own.
    pub(super) fn new(location: &StoreLocation, endpoint: Option<&str>) -> Self {
        let text = match endpoint {
            Some(endpoint) => format!("{location} at {endpoint}"),
            None => location.to_string(),
        };
        let kind = match location {
            StoreLocation::File(_) => PlaceKind::Folder,
            StoreLocation::S3 { .. } => PlaceKind::Bucket,
        };
        Self {
            text: text.into(),
            kind,
        }
    }

    pub(super) fn memory() -> Self {
        Self {
            text: "in memory".into(),
            kind: PlaceKind::Memory,
        }
    }

    fn on_denied(&self) -> &'static str {
        match self.kind {
            PlaceKind::Bucket => {
                "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may list the \
                 bucket and read, write and delete below this prefix"
            }
            PlaceKind::Folder | PlaceKind::Memory => {
                "the gateway's user must be allowed to read and write there"
            }
        }
    }

    pub(super) fn malformed(&self, key: &str, reason: impl Into<String>) -> StoreError {
        StoreError::Malformed {
            place: self.clone(),
            key: key.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn other(&self, doing: impl Into<Doing>, reason: impl Into<String>) -> StoreError {
        StoreError::Other {
            place: self.clone(),
            doing: doing.into(),
            reason: reason.into(),
        }
    }

    pub(super) fn unreachable(
        &self,
        doing: impl Into<Doing>,
        reason: impl Into<String>,
    ) -> StoreError {
        StoreError::Unreachable {
            place: self.clone(),
            doing: doing.into(),
            reason: reason.into(),
        }
    }

    fn denied(&self, doing: Doing, reason: impl Into<String>) -> StoreError {
        StoreError::Denied {
            place: self.clone(),
            doing,
            reason: reason.into(),
        }
    }

    /// What an error of the library means. Whether an object is missing, or was changed in
    /// between, is for the caller to see before.
    pub(super) fn error(&self, doing: impl Into<Doing>, error: &object_store::Error) -> StoreError {
        let doing = doing.into();
        if let Some(answer) = ServersAnswer::of(error) {
            return self.answered(doing, &answer);
        }
        let causes = chain(error);
        let text = error.to_string();
        if text.contains("/latest/api/token") || text.contains("/latest/meta-data/") {
            return self.denied(
                doing,
                "no credentials are set, and no instance metadata service gives them",
            );
        }
        if let Some(io) = causes.iter().find_map(|e| e.downcast_ref::<io::Error>())
            && let Some(meant) = self.io(&doing, io)
        {
            return meant;
        }
        let reason = shortened(&root_cause(error));
        let kind = causes
            .iter()
            .find_map(|e| e.downcast_ref::<HttpError>())
            .map(HttpError::kind);
        match kind {
            Some(HttpErrorKind::Decode) => self.other(doing, reason),
            Some(_) if reason.contains("invalid peer certificate") => self.unreachable(
                doing,
                format!("{reason}; name its authority's certificate in SSL_CERT_FILE"),
            ),
            Some(_) => self.unreachable(doing, reason),
            None if text.contains("redirect without LOCATION") => self.other(
                doing,
                "the bucket is in another region: set the region, or AWS_REGION",
            ),
            None => self.other(doing, reason),
        }
    }

    /// What an error of the operating system means, where that is known.
    pub(super) fn io(&self, doing: &Doing, error: &io::Error) -> Option<StoreError> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(StoreError::Full {
                place: self.clone(),
                doing: doing.clone(),
            }),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Some(self.denied(doing.clone(), error.to_string()))
            }
            io::ErrorKind::StaleNetworkFileHandle | io::ErrorKind::HostUnreachable => {
                Some(self.unreachable(doing.clone(), error.to_string()))
            }
            _ => None,
        }
    }

    /// What a server's refusal means (Amazon S3 API, "Error responses").
    fn answered(&self, doing: Doing, answer: &ServersAnswer) -> StoreError {
        let reason = answer.to_string();
        match (answer.status, answer.code.as_str()) {
            (_, "NoSuchBucket") => self.other(
                doing,
                "there is no such bucket: create it, or correct the location",
            ),
            (
                _,
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "IllegalLocationConstraintException",
            )
            | (301 | 307, _) => self.other(
                doing,
                format!("{reason}; set the bucket's region, or AWS_REGION"),
            ),
            (_, "QuotaExceeded" | "XMinioStorageFull") | (507, _) => StoreError::Full {
                place: self.clone(),
                doing,
            },
            (
                _,
                "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId",
            )
            | (401 | 403, _) => self.denied(doing, reason),
            (501, _) | (_, "NotImplemented") => self.other(doing, reason),
            (500.. | 429 | 408, _) | (200..=299, _) => self.unreachable(doing, reason),
            _ => self.other(doing, reason),
        }
    }
}

/// A server's answer that is no success, as far as the library tells it.
struct ServersAnswer {
    status: u16,
    code: String,
    message: String,
}

impl ServersAnswer {
    /// The library keeps the status and the body in a type of its own, and shows both in its text.
    fn of(error: &object_store::Error) -> Option<Self> {
        chain(error).iter().find_map(|cause| {
            let text = cause.to_string();
            let (status, body) =
                if let Some(rest) = text.strip_prefix("Server returned non-2xx status code: ") {
                    (rest.get(..3)?.parse().ok()?, rest)
                } else {
                    (200, text.strip_prefix("Server returned error response: ")?)
                };
            let tag = |name: &str| {
                let (_, rest) = body.split_once(&format!("<{name}>"))?;
                Some(rest.split_once('<')?.0.to_owned())
            };
            Some(Self {
                status,
                code: tag("Code").unwrap_or_default(),
                message: tag("Message").unwrap_or_default(),
            })
        })
    }
}

impl std::fmt::Display for ServersAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = http::StatusCode::from_u16(self.status);
        match (self.code.as_str(), self.message.as_str()) {
            ("", _) => match status.ok().and_then(|status| status.canonical_reason()) {
                Some(reason) => write!(f, "status {} {reason}", self.status),
                None => write!(f, "status {}", self.status),
            },
            (code, "") => f.write_str(&shortened(code)),
            (code, message) => f.write_str(&shortened(&format!("{code}: {message}"))),
        }
    }
}

/// Whether there is no such object. A missing bucket is something else.
pub(super) fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
        && ServersAnswer::of(error).is_none_or(|answer| answer.code != "NoSuchBucket")
}

/// Whether a conditional write was refused because its condition does not hold. A 409 is told
/// while another conditional write to the object is under way.
pub(super) fn is_overtaken(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::Precondition { .. } => {
            ServersAnswer::of(error).is_none_or(|answer| answer.code != "NoSuchBucket")
        }
        object_store::Error::AlreadyExists { .. } => true,
        _ => false,
    }
}

/// Whether the server does not know what it was asked for.
pub(super) fn is_not_implemented(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotImplemented { .. })
        || ServersAnswer::of(error)
            .is_some_and(|answer| answer.status == 501 || answer.code == "NotImplemented")
}

/// What the server says of itself, for a message.
pub(super) fn words(error: &object_store::Error) -> String {
    ServersAnswer::of(error).map_or_else(
        || shortened(&root_cause(error)),
        |answer| answer.to_string(),
    )
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    causes
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let last = chain(error).last().map(|cause| cause.to_string());
    last.unwrap_or_default()
}

/// One line that fits a message.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(CHARS_MAX)
        .collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}
