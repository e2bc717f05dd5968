//! The names of things: which strings may name a workload, and nothing else.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use super::*;

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
