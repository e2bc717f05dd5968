//! The names of things: which strings may name a workload, an application or a release.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest workload name, in bytes.
///
/// The engine has no limit of its own; this one keeps names usable in URLs, log lines and metrics.
pub const NAME_BYTES_MAX: usize = 128;

/// The name of a workload: the container's name on the engine, without the leading slash.
///
/// The alphabet is the engine's: a letter or digit, then letters, digits, `_`, `.` and `-`
/// (Docker Engine API, `POST /containers/create`). Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadName(Arc<str>);

/// Why a string is not a workload name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name is empty")]
    Empty,
    #[error("a name has {0} bytes; {NAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("an application's name has {0} bytes; {APP_NAME_BYTES_MAX} are allowed")]
    AppTooLong(usize),
    #[error(
        "{0:?} is not a name: it must start with a letter or digit and go on with letters, digits, '_', '.' or '-'"
    )]
    Alphabet(String),
}

impl WorkloadName {
    /// Checks and takes a name.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(name.len()));
        }
        let starts_well = name.as_bytes()[0].is_ascii_alphanumeric();
        let goes_on_well = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if !(starts_well && goes_on_well) {
            return Err(NameError::Alphabet(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for WorkloadName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for WorkloadName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<WorkloadName> for String {
    fn from(name: WorkloadName) -> String {
        name.0.as_ref().to_owned()
    }
}

/// The longest application name, in bytes: it begins the names of its releases' containers.
pub const APP_NAME_BYTES_MAX: usize = 40;

/// The name of an application, of which a release at a time is the current one.
///
/// The alphabet is that of workload names. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(Arc<str>);

impl AppName {
    /// Checks and takes a name.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.len() > APP_NAME_BYTES_MAX {
            return Err(NameError::AppTooLong(name.len()));
        }
        WorkloadName::new(name).map(|name| Self(name.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for AppName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AppName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<AppName> for String {
    fn from(name: AppName) -> String {
        name.0.as_ref().to_owned()
    }
}

/// What tells one release from all others: the hash of its launch configuration's bytes, in
/// lower-case hexadecimal. SHA-256 (64 digits); MD5 (32 digits) is accepted, as older stores have it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseHash(Arc<str>);

/// A string that is not the hash of a launch configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no hash of a launch configuration: that has 64 hexadecimal digits (SHA-256), or 32 (MD5)"
)]
pub struct NotAHash(pub String);

impl ReleaseHash {
    /// That of these bytes, SHA-256.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("{:x}", Sha256::digest(bytes)).into())
    }

    /// Checks and takes a hash, in either case of letters.
    pub fn new(digits: &str) -> Result<Self, NotAHash> {
        let is_hash = matches!(digits.len(), 32 | 64)
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_hash {
            Ok(Self(digits.to_ascii_lowercase().into()))
        } else {
            // What is no hash may be anything, and long.
            Err(NotAHash(digits.chars().take(80).collect()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, for names and for people.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl fmt::Display for ReleaseHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ReleaseHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl TryFrom<String> for ReleaseHash {
    type Error = NotAHash;

    fn try_from(digits: String) -> Result<Self, NotAHash> {
        Self::new(&digits)
    }
}

impl From<ReleaseHash> for String {
    fn from(hash: ReleaseHash) -> String {
        hash.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_the_length_of_sha_256_or_md5() {
        let sha = "0123456789ABCDEFabcdef0123456789".repeat(2);
        assert_eq!(ReleaseHash::new(&sha).unwrap().as_str(), sha.to_lowercase());
        assert_eq!(ReleaseHash::new(&sha[..32]).unwrap().short(), "01234567");
        for bad in ["", "01234567", &sha[..63], &sha.replace('A', "g")] {
            assert_eq!(ReleaseHash::new(bad), Err(NotAHash(bad.to_owned())));
        }
    }

    #[test]
    fn an_application_has_a_shorter_name() {
        assert_eq!(AppName::new("shop").unwrap().as_str(), "shop");
        let long = "x".repeat(41);
        assert_eq!(AppName::new(&long), Err(NameError::AppTooLong(41)));
        assert!(matches!(AppName::new("a b"), Err(NameError::Alphabet(_))));
    }

    #[test]
    fn names_follow_the_engines_alphabet() {
        for good in [
            "a",
            "0",
            "web-1",
            "shop_api.v2",
            &"x".repeat(NAME_BYTES_MAX),
        ] {
            assert_eq!(WorkloadName::new(good).unwrap().as_str(), good);
        }
        for bad in ["-a", ".a", "a/b", "a b", "../etc", "ä", "a\n", "a%2fb"] {
            assert_eq!(
                WorkloadName::new(bad),
                Err(NameError::Alphabet(bad.to_owned()))
            );
        }
        assert_eq!(WorkloadName::new(""), Err(NameError::Empty));
        assert_eq!(
            WorkloadName::new(&"x".repeat(129)),
            Err(NameError::TooLong(129))
        );
    }
}
