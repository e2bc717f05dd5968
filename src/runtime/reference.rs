//! References to images as Docker writes them: a registry, a repository, and a tag or a digest.

use std::fmt;
use std::str::FromStr;

/// The registry of a reference that names none.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// The tag of a reference that has neither a tag nor a digest.
const DEFAULT_TAG: &str = "latest";

/// Of the registry and the repository together, as the engine has it.
const NAME_BYTES_MAX: usize = 255;

const TAG_BYTES_MAX: usize = 128;

/// An image in a registry. Equal references name the same image, however they were written:
/// `shop` is `docker.io/library/shop:latest`.
///
/// The grammar is that of the engine (github.com/distribution/reference).
///
/// ```
/// # use wakegate::runtime::reference::ImageReference;
/// let shop: ImageReference = "localhost:8080/shop:1".parse().unwrap();
/// assert_eq!((shop.registry(), shop.repository()), ("localhost:8080", "shop"));
/// assert_eq!(shop.tag(), Some("1"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text names no image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} does not name an image: {reason}")]
pub struct NotAReference {
    text: String,
    reason: &'static str,
}

impl NotAReference {
    /// Without the text.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl ImageReference {
    /// `localhost:8080`, `docker.io`: a host and, where it was written, a port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Its path in the registry: `library/shop`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// `None` only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// `sha256:…` of its manifest. It rules where there is a tag too.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Registry and repository: `docker.io/library/shop`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

/// The whole of it, with what was left out.
impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| NotAReference {
            // What is no reference may be anything, and long.
            text: text.chars().take(2 * NAME_BYTES_MAX).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<ImageReference, &'static str> {
    if is_id(text) {
        return Err("it is an image's id, which no registry knows");
    }
    let (text, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest)) if is_domain_like(first) => (Some(first), rest),
        _ => (None, text),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    if domain.is_some_and(|domain| !is_domain(domain)) {
        return Err("its registry is not a host with or without a port");
    }
    let registry = match domain {
        None | Some("index.docker.io") => DEFAULT_REGISTRY,
        Some(domain) => domain,
    };
    let official = registry == DEFAULT_REGISTRY && !path.contains('/');
    let repository = if official {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    if !path.split('/').all(is_path_component) {
        return Err(
            "its repository is lower-case letters and digits, with single separators in between",
        );
    }
    if registry.len() + 1 + repository.len() > NAME_BYTES_MAX {
        return Err("its registry and repository are longer than 255 bytes");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("its tag is not 1 to 128 letters, digits, '_', '.' and '-'");
    }
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("its digest is not sha256: and 64 hexadecimal digits in lower case");
    }
    let tag = match (tag, digest) {
        (None, None) => Some(DEFAULT_TAG),
        (tag, _) => tag,
    };
    Ok(ImageReference {
        registry: registry.to_owned(),
        repository,
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

/// Whether the engine takes the first part of a name for a registry.
fn is_domain_like(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an IPv6 address are no port's.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_one = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let is_label = |label: &str| {
        !(label.is_empty() || label.starts_with('-') || label.ends_with('-'))
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let in_brackets = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_is_one = match in_brackets {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_label),
    };
    port_is_one && host_is_one
}

/// Letters and digits, with one separator (`.`, `_`, `__` or any number of `-`) between each two
/// runs of them.
fn is_path_component(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let Some((first, last)) = text.bytes().next().zip(text.bytes().last()) else {
        return false;
    };
    let mut separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    is_plain(first)
        && is_plain(last)
        && separators.all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_BYTES_MAX
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

/// The algorithms that the engine knows, each with its own length.
fn is_digest(text: &str) -> bool {
    let digits = match text.split_once(':') {
        Some(("sha256", hex)) => (hex, 64),
        Some(("sha384", hex)) => (hex, 96),
        Some(("sha512", hex)) => (hex, 128),
        _ => return false,
    };
    let (hex, len) = digits;
    hex.len() == len && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it is what an engine calls an image by itself: `sha256:` and 64 digits, or the digits alone.
pub fn is_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    is_digest(&format!("sha256:{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn read(text: &str) -> Result<ImageReference, NotAReference> {
        text.parse()
    }

    #[test]
    fn a_reference_is_read_as_the_engine_reads_it() {
        let digest = format!("sha256:{HEX}");
        let by_digest = format!("ghcr.io/a/b@{digest}");
        let by_both = format!("ghcr.io/a/b:2@{digest}");
        type Row<'a> = (&'a str, &'a str, &'a str, Option<&'a str>, Option<&'a str>);
        let table: [Row<'_>; 17] = [
            ("shop", "docker.io", "library/shop", Some("latest"), None),
            ("shop:1", "docker.io", "library/shop", Some("1"), None),
            ("me/shop:1", "docker.io", "me/shop", Some("1"), None),
            (
                "docker.io/shop",
                "docker.io",
                "library/shop",
                Some("latest"),
                None,
            ),
            (
                "index.docker.io/me/shop",
                "docker.io",
                "me/shop",
                Some("latest"),
                None,
            ),
            (
                "localhost:8080/shop:1",
                "localhost:8080",
                "shop",
                Some("1"),
                None,
            ),
            (
                "localhost:8080/shop",
                "localhost:8080",
                "shop",
                Some("latest"),
                None,
            ),
            ("localhost/shop:1", "localhost", "shop", Some("1"), None),
            // Without a slash it is a repository of that name, and its tag.
            (
                "localhost:8080",
                "docker.io",
                "library/localhost",
                Some("8080"),
                None,
            ),
            (
                "127.0.0.1:5000/a/b/c:v1.2-x_y",
                "127.0.0.1:5000",
                "a/b/c",
                Some("v1.2-x_y"),
                None,
            ),
            ("[::1]:5000/shop:1", "[::1]:5000", "shop", Some("1"), None),
            ("[::1]/shop:1", "[::1]", "shop", Some("1"), None),
            ("ghcr.io/a/b:1", "ghcr.io", "a/b", Some("1"), None),
            (
                "Registry.Example.com/a",
                "Registry.Example.com",
                "a",
                Some("latest"),
                None,
            ),
            (
                "a__b/c--d.e_f",
                "docker.io",
                "a__b/c--d.e_f",
                Some("latest"),
                None,
            ),
            (&by_digest, "ghcr.io", "a/b", None, Some(&digest)),
            (&by_both, "ghcr.io", "a/b", Some("2"), Some(&digest)),
        ];
        for (text, registry, repository, tag, digest) in table {
            let found = read(text).unwrap();
            assert_eq!(
                (
                    found.registry(),
                    found.repository(),
                    found.tag(),
                    found.digest()
                ),
                (registry, repository, tag, digest),
                "{text}"
            );
            assert_eq!(read(&found.to_string()), Ok(found), "{text}");
        }
    }

    #[test]
    fn what_is_left_out_is_written() {
        let whole = |text| read(text).unwrap().to_string();
        assert_eq!(whole("shop"), "docker.io/library/shop:latest");
        assert_eq!(whole("localhost:1/a:b"), "localhost:1/a:b");
        let by_digest = format!("ghcr.io/a@sha256:{HEX}");
        assert_eq!(whole(&by_digest), by_digest);
        assert_eq!(read("shop").unwrap().name(), "docker.io/library/shop");
    }

    #[test]
    fn what_names_no_image_is_refused_with_a_reason() {
        let long = format!("localhost:5000/{}", "a".repeat(241));
        let id = format!("sha256:{HEX}");
        let upper = format!("shop@sha256:{}", HEX.to_uppercase());
        let table = [
            ("", "repository"),
            ("Shop", "repository"),
            ("shop/", "repository"),
            ("/shop", "repository"),
            ("a//b", "repository"),
            ("a/../b", "repository"),
            ("-shop", "repository"),
            ("shop_", "repository"),
            ("a___b", "repository"),
            ("a..b", "repository"),
            ("sh op", "repository"),
            ("https://host/shop", "registry"),
            ("host:/shop", "registry"),
            ("host:0/shop", "registry"),
            ("host:+1/shop", "registry"),
            ("host:99999/shop", "registry"),
            ("-host.x/shop", "registry"),
            ("ho_st.x/shop", "registry"),
            ("[::x]/shop", "registry"),
            ("shop:", "tag"),
            ("shop:.x", "tag"),
            ("shop:a b", "tag"),
            ("shop@", "digest"),
            ("shop@sha256:00", "digest"),
            ("shop@md5:0123456789abcdef0123456789abcdef", "digest"),
            (&upper, "digest"),
            (&long, "longer"),
            (HEX, "id"),
            (&id, "id"),
        ];
        for (text, word) in table {
            let refused = read(text).unwrap_err();
            assert!(refused.reason.contains(word), "{text}: {refused}");
        }
        read(&long[..255]).unwrap();
        read(&format!("shop:{}", "x".repeat(128))).unwrap();
        read(&format!("shop:{}", "x".repeat(129))).unwrap_err();
        let endless = read(&"X".repeat(100_000)).unwrap_err().to_string();
        assert!(endless.len() < 1_000);
    }
}
