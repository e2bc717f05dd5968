//! Where a store is: the text of a setting, read and checked.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// The longest prefix in a bucket, in bytes: S3 keys have 1024, and our own names follow.
const PREFIX_BYTES_MAX: usize = 900;

/// Where an application's launch configurations and history are kept.
///
/// Its text is `file:/absolute/folder` or `s3://bucket/prefix`; [`StoreLocation::parse`] also takes
/// relative folders.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreLocation {
    /// A folder on this machine, as an absolute path.
    Folder(PathBuf),
    /// A bucket, and what all keys in it begin with: empty, or segments without a slash at either
    /// end.
    Bucket { bucket: String, prefix: String },
}

impl StoreLocation {
    /// Reads `file:FOLDER` or `s3://BUCKET/PREFIX`. A relative folder begins at `base`, usually the
    /// folder of gateway.toml. Nothing is looked up: neither folder nor bucket need to exist.
    ///
    /// The error says what is wrong with the text and what to write.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(not_a_location(text));
        };
        match scheme {
            "file" => folder(rest, base),
            "s3" => bucket(rest),
            _ => Err(not_a_location(text)),
        }
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "file:{}", folder.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

fn not_a_location(text: &str) -> String {
    let meant = "a store is \"file:FOLDER\" or \"s3://BUCKET/PREFIX\"";
    // What is no location may be a secret in the wrong place: only its scheme is repeated.
    match text.split_once("://") {
        _ if text.starts_with(['/', '.']) => format!("{meant} (did you mean \"file:{text}\"?)"),
        Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            format!("{meant}; {scheme}:// is not known")
        }
        _ => meant.to_owned(),
    }
}

fn folder(rest: &str, base: &Path) -> Result<StoreLocation, String> {
    // `file:///folder` is the same as `file:/folder`; between the slashes would be a machine.
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => {
            return Err(
                "a folder is \"file:/absolute\" or \"file:relative\", without a machine's name"
                    .to_owned(),
            );
        }
        None => rest,
    };
    if path.is_empty() {
        return Err("\"file:\" names no folder".to_owned());
    }
    if path.starts_with('~') {
        return Err("\"~\" is not expanded: write the whole folder".to_owned());
    }
    if path.contains('\0') {
        return Err("a folder's name cannot hold a zero byte".to_owned());
    }
    let absolute = std::path::absolute(base.join(path)).map_err(|error| error.to_string())?;
    Ok(StoreLocation::Folder(without_dots(&absolute)))
}

/// Takes `..` out as it is written, whatever links there are, so that one folder has one text.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

fn bucket(rest: &str) -> Result<StoreLocation, String> {
    let Some(rest) = rest.strip_prefix("//") else {
        return Err("a bucket is written \"s3://BUCKET/PREFIX\"".to_owned());
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') || bucket.contains(':') {
        return Err(
            "s3:// takes neither credentials nor a port: credentials come from the variables \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the server from the endpoint"
                .to_owned(),
        );
    }
    if bucket.is_empty() {
        return Err("\"s3://\" names no bucket".to_owned());
    }
    // As S3 has them since 2018, with the capitals and underscores that other servers allow.
    let is_name = bucket.len() <= 255
        && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        && bucket
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !is_name {
        return Err(format!(
            "{bucket:?} is not a bucket's name: letters, digits, '-' and '.'"
        ));
    }
    let prefix = prefix.trim_end_matches('/');
    if prefix.len() > PREFIX_BYTES_MAX {
        return Err(format!(
            "the prefix has {} bytes; {PREFIX_BYTES_MAX} are allowed",
            prefix.len()
        ));
    }
    if let Some(reason) = unfit_key(prefix).filter(|_| !prefix.is_empty()) {
        return Err(format!("the prefix {prefix:?} cannot be used: {reason}"));
    }
    Ok(StoreLocation::Bucket {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

/// Why a key cannot stand below a store's prefix, if it cannot. What is fit for a bucket is fit for
/// a folder, and does not lead out of either.
pub(super) fn unfit_key(key: &str) -> Option<&'static str> {
    if key.starts_with('/') {
        return Some("it begins with a slash");
    }
    if key.bytes().any(|b| b.is_ascii_control()) {
        return Some("it holds a control character");
    }
    // A question mark in a location is a hope for settings; in keys these signs are trouble.
    if key.contains(['?', '#', '\\']) {
        return Some("it holds '?', '#' or a backslash");
    }
    key.split('/').find_map(|segment| match segment {
        "" => Some("it has an empty segment"),
        "." | ".." => Some("it has a segment of dots"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StoreLocation, String> {
        StoreLocation::parse(text, Path::new("/etc/wakegate"))
    }

    #[test]
    fn a_location_is_a_folder_or_a_bucket() {
        for (text, shown) in [
            ("file:/var/lib/shop", "file:/var/lib/shop"),
            ("file:///var/lib/shop/", "file:/var/lib/shop"),
            ("file:store", "file:/etc/wakegate/store"),
            ("file:./a/./b", "file:/etc/wakegate/a/b"),
            ("file:../store", "file:/etc/store"),
            ("file:with space#1", "file:/etc/wakegate/with space#1"),
            ("s3://shop-releases", "s3://shop-releases"),
            ("s3://shop-releases/", "s3://shop-releases"),
            ("s3://b.u_C/apps/shop/", "s3://b.u_C/apps/shop"),
        ] {
            let location = parse(text).unwrap();
            assert_eq!(location.to_string(), shown, "{text}");
            assert_eq!(
                parse(shown).as_ref(),
                Ok(&location),
                "{shown} is not the same again"
            );
        }
        let relative = StoreLocation::parse("file:store", Path::new("conf")).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(relative, StoreLocation::Folder(here.join("conf/store")));
    }

    #[test]
    fn what_is_no_location_is_told_what_to_write() {
        for (text, expected) in [
            ("", "a store is \"file:FOLDER\" or \"s3://BUCKET/PREFIX\""),
            ("/var/lib/shop", "did you mean \"file:/var/lib/shop\"?"),
            ("./shop", "did you mean \"file:./shop\"?"),
            ("gs://shop", "gs:// is not known"),
            ("S3://shop", "S3:// is not known"),
            ("file:", "names no folder"),
            ("file://machine/folder", "without a machine's name"),
            ("file:~/shop", "\"~\" is not expanded"),
            ("file:a\0b", "zero byte"),
            ("s3:shop", "is written \"s3://BUCKET/PREFIX\""),
            ("s3://", "names no bucket"),
            ("s3:///prefix", "names no bucket"),
            ("s3://a b", "\"a b\" is not a bucket's name"),
            ("s3://-shop", "is not a bucket's name"),
            ("s3://shop/a//b", "it has an empty segment"),
            ("s3://shop/../b", "it has a segment of dots"),
            ("s3://shop/a?region=x", "it holds '?'"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let long = format!("s3://shop/{}", "x".repeat(901));
        assert!(parse(&long).unwrap_err().contains("901 bytes"));
    }

    #[test]
    fn credentials_in_a_location_are_refused_and_not_repeated() {
        for text in [
            "s3://AKIA:hunter2@shop/prefix",
            "s3://hunter2@shop",
            "https://AKIA:hunter2@shop",
            "hunter2",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
