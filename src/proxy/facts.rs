//! What a request says of itself and of its client, checked before anything is decided about it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use ipnet::IpNet;

use crate::clock::unix_seconds;
use crate::decision::RequestFacts;

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    /// Whether its `X-Forwarded-*` fields are believed.
    pub trusted: bool,
}

impl Peer {
    /// `None` is a Unix socket's peer: a trusted one on this machine.
    pub fn new(address: Option<IpAddr>, trusted_proxies: &[IpNet]) -> Self {
        match address {
            Some(address) => Self {
                address,
                trusted: is_trusted(address, trusted_proxies),
            },
            None => Self {
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                trusted: true,
            },
        }
    }
}

fn is_trusted(address: IpAddr, trusted_proxies: &[IpNet]) -> bool {
    trusted_proxies.iter().any(|net| net.contains(&address))
}

/// What is known of a request besides its own head.
#[derive(Debug, Clone)]
pub struct Inbound {
    pub peer: Peer,
    /// The client's address, as the trusted proxies tell it.
    pub client: IpAddr,
    pub scheme: &'static str,
    /// What the application gets as Host, unchanged; `None` when the client named no host.
    pub host: Option<HeaderValue>,
    /// See [`RequestFacts::at`].
    pub at: i64,
}

/// Why a request is refused before anything is decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// More bytes than a head may have.
    TooLarge,
    /// The client's fault, in words for it.
    Bad(&'static str),
    /// CONNECT: a gateway is no tunnel to anywhere.
    Connect,
}

/// The bytes of a request's head as it was sent, but for spaces that are no part of it.
///
/// HTTP limits what it buffers, and it buffers in steps: a head that arrives in one piece can pass
/// that limit by half.
pub fn head_bytes(head: &Parts) -> usize {
    let uri = &head.uri;
    let target = uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len())
        + uri
            .authority()
            .map_or(0, |authority| authority.as_str().len());
    // "METHOD TARGET HTTP/1.1", then "Name: value" lines, then an empty one.
    let first = head.method.as_str().len() + target + " HTTP/1.1\r\n ".len();
    let fields = head.headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    first + fields.sum::<usize>() + "\r\n".len()
}

impl Inbound {
    /// Checks the request target and Host (RFC 9112 §3.2) and reads what proxies said.
    pub fn read(head: &Parts, peer: Peer, trusted_proxies: &[IpNet]) -> Result<Self, Malformed> {
        if head.method == Method::CONNECT {
            return Err(Malformed::Connect);
        }
        let host = effective_host(head)?;
        if head.uri.path() == "*" {
            if head.method != Method::OPTIONS {
                return Err(Malformed::Bad("only OPTIONS may ask for *"));
            }
        } else if !head.uri.path().starts_with('/') {
            return Err(Malformed::Bad("the request target is not a path"));
        }
        Ok(Self {
            peer,
            client: client_address(&head.headers, peer, trusted_proxies),
            scheme: told_scheme(&head.headers, peer).unwrap_or("http"),
            host,
            at: unix_seconds(),
        })
    }

    /// The scheme that the client used, where a trusted proxy tells it. Where TLS may end at a proxy that is
    /// not trusted, nobody knows.
    pub fn told_scheme(&self, headers: &HeaderMap) -> Option<&'static str> {
        told_scheme(headers, self.peer)
    }

    pub fn facts<'a>(&'a self, head: &'a Parts) -> RequestFacts<'a> {
        RequestFacts {
            method: &head.method,
            scheme: self.scheme,
            host: self.host.as_ref().map_or("", without_port),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or(""),
            headers: &head.headers,
            client: self.client,
            at: self.at,
        }
    }
}

/// The host that the request is for: of an absolute target, else of the Host field.
fn effective_host(head: &Parts) -> Result<Option<HeaderValue>, Malformed> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Malformed::Bad("there is more than one Host field"));
    }
    if host.is_none() && head.version >= Version::HTTP_11 {
        return Err(Malformed::Bad("the Host field is missing"));
    }
    if let Some(authority) = head.uri.authority() {
        // Without a scheme it would be CONNECT's form of a target.
        if !matches!(head.uri.scheme_str(), Some("http" | "https")) {
            return Err(Malformed::Bad("the request target is not a path"));
        }
        if authority.as_str().contains('@') {
            return Err(Malformed::Bad("the request target has user information"));
        }
        // Also in place of a Host that says otherwise (RFC 9112 §3.2.2).
        return HeaderValue::try_from(authority.as_str())
            .map(Some)
            .map_err(|_| Malformed::Bad("the request target's host is not valid"));
    }
    match host {
        Some(value) if !value.is_empty() => {
            if is_host(value) {
                Ok(Some(value.clone()))
            } else {
                Err(Malformed::Bad("the Host field is not valid"))
            }
        }
        // Empty: the client says that there is none.
        other => Ok(other.cloned()),
    }
}

/// `host` or `host:port` (RFC 9110 §7.2), and no user information.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(value.as_bytes()) else {
        return false;
    };
    let port = &authority.as_str()[without_port(value).len()..];
    !authority.as_str().contains('@') && port.bytes().skip(1).all(|byte| byte.is_ascii_digit())
}

/// `host` of `host:port`; an IPv6 address keeps its brackets.
fn without_port(host: &HeaderValue) -> &str {
    let host = host.to_str().unwrap_or("");
    match host.rfind([':', ']']) {
        Some(at) if host.as_bytes()[at] == b':' => &host[..at],
        _ => host,
    }
}

/// The rightmost address of the chain that no trusted proxy stands for.
fn client_address(headers: &HeaderMap, peer: Peer, trusted_proxies: &[IpNet]) -> IpAddr {
    if !peer.trusted {
        return peer.address;
    }
    let mut client = peer.address;
    for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        let Ok(line) = line.to_str() else {
            return client;
        };
        for element in line.rsplit(',') {
            // What cannot be read was not written by a proxy that can be trusted: the last
            // address that could be read is as far as the chain goes.
            let Some(address) = address(element.trim()) else {
                return client;
            };
            client = address;
            if !is_trusted(address, trusted_proxies) {
                return client;
            }
        }
    }
    client
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]` or `[::1]:5`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|both| both.ip()))
        .map(|address| address.to_canonical())
}

fn told_scheme(headers: &HeaderMap, peer: Peer) -> Option<&'static str> {
    let told = headers.get(X_FORWARDED_PROTO).filter(|_| peer.trusted)?;
    // Of several the first is the client's own.
    let own = told.to_str().ok()?.split(',').next()?.trim();
    let mut known = ["https", "http"].into_iter();
    known.find(|known| own.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str, version: Version, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn read(head: &Parts, peer: &str, trusted: &[&str]) -> Result<Inbound, Malformed> {
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        Inbound::read(
            head,
            Peer::new(Some(peer.parse().unwrap()), &trusted),
            &trusted,
        )
    }

    fn client(peer: &str, trusted: &[&str], forwarded_for: &[&str]) -> String {
        let mut fields = vec![("host", "h")];
        fields.extend(
            forwarded_for
                .iter()
                .map(|value| ("x-forwarded-for", *value)),
        );
        let head = head("/", Version::HTTP_11, &fields);
        read(&head, peer, trusted).unwrap().client.to_string()
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        assert_eq!(client("9.9.9.9", &[], &["1.2.3.4"]), "9.9.9.9");
        assert_eq!(client("9.9.9.9", &["10.0.0.0/8"], &["1.2.3.4"]), "9.9.9.9");
    }

    #[test]
    fn behind_trusted_proxies_the_client_is_the_rightmost_address_that_is_none_of_them() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(client("10.0.0.1", &trusted, &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &trusted, &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(
            client("10.0.0.1", &trusted, &["6.6.6.6, 1.2.3.4, 10.0.0.7"]),
            "1.2.3.4"
        );
        // Several lines are one list (RFC 9110 §5.3).
        assert_eq!(
            client("10.0.0.1", &trusted, &["6.6.6.6", "1.2.3.4", "10.0.0.7"]),
            "1.2.3.4"
        );
        assert_eq!(
            client("10.0.0.1", &trusted, &["[2001:db8::1]:99, fd00::1"]),
            "2001:db8::1"
        );
        assert_eq!(client("10.0.0.1", &trusted, &["1.2.3.4:555"]), "1.2.3.4");
        assert_eq!(
            client("10.0.0.1", &trusted, &["1.2.3.4, unknown, 10.0.0.7"]),
            "10.0.0.7"
        );
        assert_eq!(
            client("10.0.0.1", &trusted, &["10.0.0.9, 10.0.0.8"]),
            "10.0.0.9"
        );
    }

    #[test]
    fn a_unix_peer_is_a_trusted_one_on_this_machine() {
        let head = head(
            "/",
            Version::HTTP_11,
            &[("host", "h"), ("x-forwarded-for", "1.2.3.4")],
        );
        let inbound = Inbound::read(&head, Peer::new(None, &[]), &[]).unwrap();
        assert_eq!(inbound.client.to_string(), "1.2.3.4");
        assert_eq!(inbound.peer.address.to_string(), "127.0.0.1");
    }

    #[test]
    fn the_scheme_is_believed_of_trusted_peers_only() {
        let head = head(
            "/",
            Version::HTTP_11,
            &[("host", "h"), ("x-forwarded-proto", "HTTPS")],
        );
        let of_anybody = read(&head, "1.1.1.1", &[]).unwrap();
        assert_eq!(of_anybody.scheme, "http");
        assert_eq!(of_anybody.told_scheme(&head.headers), None);
        let of_a_proxy = read(&head, "1.1.1.1", &["1.1.1.1/32"]).unwrap();
        assert_eq!(of_a_proxy.scheme, "https");
        assert_eq!(of_a_proxy.told_scheme(&head.headers), Some("https"));
    }

    #[test]
    fn a_scheme_that_nobody_tells_is_not_known() {
        let trusted = ["1.1.1.1/32"];
        for (told, known) in [
            (None, None),
            (Some("http"), Some("http")),
            (Some("https, http"), Some("https")),
            (Some("wss"), None),
            (Some(""), None),
        ] {
            let field = told.map(|told| ("x-forwarded-proto", told));
            let fields: Vec<_> = [("host", "h")].into_iter().chain(field).collect();
            let head = head("/", Version::HTTP_11, &fields);
            let inbound = read(&head, "1.1.1.1", &trusted).unwrap();
            assert_eq!(inbound.told_scheme(&head.headers), known, "{told:?}");
            assert_eq!(inbound.scheme, known.unwrap_or("http"), "{told:?}");
        }
    }

    #[test]
    fn the_host_is_told_without_its_port() {
        for (host, told) in [
            ("shop.example", "shop.example"),
            ("Shop.example:8080", "Shop.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            let head = head("/", Version::HTTP_11, &[("host", host)]);
            let inbound = read(&head, "1.1.1.1", &[]).unwrap();
            assert_eq!(inbound.facts(&head).host, told);
        }
    }

    #[test]
    fn the_heads_bytes_are_counted_as_they_are_sent() {
        let sent = "GET /a?b HTTP/1.1\r\nhost: h\r\nx-y: 12\r\n\r\n";
        let request = http::Request::get("/a?b")
            .header("host", "h")
            .header("x-y", "12");
        let (head, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(head_bytes(&head), sent.len());
    }

    #[test]
    fn a_request_has_exactly_one_valid_host() {
        let refused = |version, fields: &[(&str, &str)]| {
            read(&head("/", version, fields), "1.1.1.1", &[]).is_err()
        };
        assert!(refused(Version::HTTP_11, &[]));
        assert!(refused(Version::HTTP_11, &[("host", "a"), ("host", "b")]));
        assert!(refused(Version::HTTP_11, &[("host", "a"), ("host", "a")]));
        for bad in ["a b", "a/b", "user@a", "a:x", "a:1:2"] {
            assert!(refused(Version::HTTP_11, &[("host", bad)]), "{bad:?}");
        }
        assert!(!refused(Version::HTTP_10, &[]));
    }

    #[test]
    fn an_absolute_targets_host_wins_over_the_host_field() {
        let head = head("http://a.example:1/x?y", Version::HTTP_11, &[("host", "b")]);
        let inbound = read(&head, "1.1.1.1", &[]).unwrap();
        assert_eq!(inbound.host.as_ref().unwrap(), "a.example:1");
        let facts = inbound.facts(&head);
        assert_eq!(
            (facts.host, facts.path, facts.query),
            ("a.example", "/x", "y")
        );
    }

    #[test]
    fn targets_that_are_no_path_are_refused() {
        let read = |method: Method, target: &str| {
            let mut head = head(target, Version::HTTP_11, &[("host", "a")]);
            head.method = method;
            Inbound::read(&head, Peer::new(None, &[]), &[]).map(|_| ())
        };
        assert_eq!(read(Method::CONNECT, "a:443"), Err(Malformed::Connect));
        assert!(read(Method::GET, "a:443").is_err());
        assert!(read(Method::GET, "*").is_err());
        assert!(read(Method::GET, "ftp://a/").is_err());
        assert!(read(Method::OPTIONS, "*").is_ok());
    }
}
