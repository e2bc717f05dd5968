//! Request targets: what is forwarded of one, and how one is said again in a Location.

use http::Uri;
use http::uri::{InvalidUri, PathAndQuery};

use crate::decision::ProxyDecision;

/// Why a decision's path cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is not a path: {reason}")]
pub struct PathError {
    pub path: String,
    pub reason: String,
}

/// The target to ask the application for: the request's own bytes unless the decision edits them.
pub fn forwarded(asked: &Uri, decision: &ProxyDecision) -> Result<PathAndQuery, PathError> {
    if decision.strip == 0 && decision.path.is_none() {
        return Ok(own(asked));
    }
    let path = decision.path.as_deref().unwrap_or(asked.path());
    let refuse = |reason: String| PathError {
        path: path.to_owned(),
        reason,
    };
    if path.contains(['?', '#']) {
        return Err(refuse(
            "it has a '?' or '#'; the query stays as it is".to_owned(),
        ));
    }
    let mut target = String::with_capacity(path.len() + asked.query().map_or(0, str::len) + 2);
    if !path.starts_with('/') {
        target.push('/');
    }
    target.push_str(path);
    let mut target = without_leading_segments(&target, decision.strip).to_owned();
    if let Some(query) = asked.query() {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::try_from(target).map_err(|error: InvalidUri| refuse(error.to_string()))
}

/// The request's own path and query, byte for byte.
pub fn own(asked: &Uri) -> PathAndQuery {
    asked
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// Drops `count` leading segments, each with the slash before it. Never less than `/`.
fn without_leading_segments(path: &str, count: usize) -> &str {
    let mut rest = path;
    for _ in 0..count {
        let after_slash = &rest[1..];
        match after_slash.find('/') {
            Some(next) => rest = &after_slash[next..],
            None => return "/",
        }
    }
    rest
}

/// A relative reference to the same path and query on the same host, whatever the path looks like.
///
/// `//host/…` as a Location would lead to another host (RFC 3986 §4.2), and browsers read a
/// backslash as a slash; a leading `/.` is removed by the client and takes that meaning away.
pub fn location_of(asked: &Uri) -> String {
    let own = own(asked);
    match own.as_str().as_bytes() {
        [b'/', b'/' | b'\\', ..] => format!("/.{own}"),
        _ => own.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::WorkloadName;

    fn decision(strip: usize, path: Option<&str>) -> ProxyDecision {
        ProxyDecision {
            strip,
            path: path.map(str::to_owned),
            ..ProxyDecision::to(WorkloadName::new("a").unwrap())
        }
    }

    fn target(asked: &str, strip: usize, path: Option<&str>) -> String {
        let uri = Uri::try_from(asked).unwrap();
        forwarded(&uri, &decision(strip, path)).unwrap().to_string()
    }

    #[test]
    fn without_edits_every_byte_stays() {
        for asked in ["/", "/?", "/a//b/../c/./%2e%2E/%2F?x=%20&y=?/#"] {
            let uri = Uri::try_from(asked).unwrap();
            let kept = asked.trim_end_matches('#');
            assert_eq!(forwarded(&uri, &decision(0, None)).unwrap().as_str(), kept);
        }
    }

    #[test]
    fn stripping_drops_whole_segments_and_keeps_the_rest_and_the_query() {
        assert_eq!(target("/s/one/a/b?q=1", 2, None), "/a/b?q=1");
        assert_eq!(target("/s/one/", 2, None), "/");
        assert_eq!(target("/s/one", 2, None), "/");
        assert_eq!(target("/s/one?", 2, None), "/?");
        assert_eq!(target("/s", 9, None), "/");
        assert_eq!(target("/s//b%2Fc", 1, None), "//b%2Fc");
    }

    #[test]
    fn a_path_replaces_the_requests_own_before_stripping() {
        assert_eq!(target("/old?q", 0, Some("/new/x")), "/new/x?q");
        assert_eq!(target("/old", 1, Some("/new/x")), "/x");
        assert_eq!(target("/old", 0, Some("new")), "/new");
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let uri = Uri::try_from("/a").unwrap();
        for bad in ["/a?b", "/a#b", "/a b", "/a\r\nX: y"] {
            assert!(forwarded(&uri, &decision(0, Some(bad))).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_location_never_leads_to_another_host() {
        let location = |asked: &str| location_of(&asked.parse().unwrap());
        assert_eq!(location("/a/b?c=d"), "/a/b?c=d");
        assert_eq!(location("//evil.example/x?y"), "/.//evil.example/x?y");
        assert_eq!(location("/\\evil.example"), "/./\\evil.example");
    }
}
