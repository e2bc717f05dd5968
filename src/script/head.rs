//! A request's head that owns what facts borrow: made up by tests and explanations, or kept from traffic.

use std::net::IpAddr;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use jiff::Timestamp;

use crate::decision::RequestFacts;

/// Monday 2026-01-05 12:00:00 UTC: when requests that are made up come, unless they say otherwise.
pub const MADE_UP_AT: i64 = 1_767_614_400;

/// Everything that a script may know of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub method: Method,
    pub scheme: &'static str,
    pub host: String,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub client: IpAddr,
    /// In seconds since 1970-01-01 UTC.
    pub at: i64,
}

impl Head {
    /// A request as one would type it: `/path?query`, or `http://host/path?query`. It comes from
    /// 127.0.0.1, to `localhost` where the URL has no host.
    ///
    /// # Errors
    /// What is wrong with the method or the URL.
    pub fn made_up(method: &str, url: &str) -> Result<Self, String> {
        let method: Method = method
            .parse()
            .map_err(|_| format!("{method:?} is not a method"))?;
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("{url:?} is not a URL: {error}"))?;
        let scheme = match uri.scheme_str() {
            None | Some("http") => "http",
            Some("https") => "https",
            Some(_) => return Err(format!("{url:?} is neither http nor https")),
        };
        if uri.scheme().is_none() && !url.starts_with('/') {
            return Err(format!(
                "{url:?} is neither \"/path\" nor \"http://host/path\""
            ));
        }
        Ok(Self {
            method,
            scheme,
            host: uri.host().unwrap_or("localhost").to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            headers: HeaderMap::new(),
            client: IpAddr::from([127, 0, 0, 1]),
            at: MADE_UP_AT,
        })
    }

    /// Adds a header. A Host field is also the host, without its port, as the gateway takes it.
    ///
    /// # Errors
    /// What is wrong with the name or the value.
    pub fn add_header(&mut self, name: &str, value: &str) -> Result<(), String> {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is not a header name"))?;
        let field = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| format!("the value of {name} cannot be in a header"))?;
        if parsed == HOST {
            let authority: Result<Authority, _> = value.parse();
            let authority = authority.map_err(|_| format!("{value:?} is not a host"))?;
            authority.host().clone_into(&mut self.host);
        }
        self.headers.append(parsed, field);
        Ok(())
    }

    /// Lets it come at a time such as `2026-01-05T09:30:00Z`.
    ///
    /// # Errors
    /// When the text is no such time.
    pub fn come_at(&mut self, text: &str) -> Result<(), String> {
        let at: Result<Timestamp, _> = text.parse();
        let at =
            at.map_err(|_| format!("{text:?} is not a time such as \"2026-01-05T09:30:00Z\""))?;
        self.at = at.as_second();
        Ok(())
    }

    pub fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            method: &self.method,
            scheme: self.scheme,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            client: self.client,
            at: self.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_path_or_whole() {
        let head = Head::made_up("GET", "/a/b?c=d").unwrap();
        let parts = |head: &Head| {
            let Head {
                scheme,
                host,
                path,
                query,
                ..
            } = head.clone();
            (scheme, host, path, query)
        };
        let expected = |scheme, host: &str, path: &str, query: &str| {
            (scheme, host.to_owned(), path.to_owned(), query.to_owned())
        };
        assert_eq!(parts(&head), expected("http", "localhost", "/a/b", "c=d"));
        let head = Head::made_up("PURGE", "https://Shop.example.com:8443").unwrap();
        assert_eq!(parts(&head), expected("https", "Shop.example.com", "/", ""));
        for bad in ["", "a/b", "ftp://x/", "example.com", "http://", "/a b"] {
            assert!(Head::made_up("GET", bad).is_err(), "{bad}");
        }
        assert!(Head::made_up("G T", "/").is_err());
    }

    #[test]
    fn a_host_field_is_the_host() {
        let mut head = Head::made_up("GET", "http://one.example/").unwrap();
        head.add_header("Host", "two.example:8000").unwrap();
        assert_eq!(head.host, "two.example");
        assert_eq!(head.headers["host"], "two.example:8000");
        assert!(head.add_header("host", "a b").is_err());
        assert!(head.add_header("a b", "").is_err());
        assert!(head.add_header("a", "\n").is_err());
        assert_eq!(head.headers.len(), 1);
    }
}
