//! Who may use the admin API: the listener's own names, requests of no other web site, the token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::admin::problem::Problem;
use crate::config::{self, Listen};

/// What every request but a health check has to pass; the status page's files need no token.
pub struct Guard {
    names: Names,
    /// Of the token, so that the comparison is over equal lengths.
    token_digest: Option<[u8; 32]>,
}

/// The names under which a listener may be addressed.
///
/// A page of `evil.example` can make a browser connect to a private address by pointing its own
/// name there (DNS rebinding). The browser then sends that name as Host, so names are what is
/// checked. An IP address cannot be pointed anywhere else, and browsers keep `localhost` local.
#[derive(Debug)]
enum Names {
    Tcp {
        bound: SocketAddr,
        /// Any address may be used: the listener is bound to all of them, or was opened to
        /// everybody (`insecure`). A name still has to be configured.
        any_address: bool,
        hosts: Vec<String>,
    },
    /// No browser reaches a unix socket.
    Any,
}

impl Guard {
    /// `bound` is where the listener is really bound, with the port that it got.
    pub fn new(config: &config::Admin, bound: &Listen) -> Self {
        let names = match bound {
            Listen::Unix(_) => Names::Any,
            Listen::Tcp(bound) => Names::Tcp {
                bound: *bound,
                any_address: config.insecure || bound.ip().is_unspecified(),
                hosts: config.hosts.clone(),
            },
        };
        Self {
            names,
            token_digest: config.token.as_ref().map(|token| digest(&token.0)),
        }
    }

    /// Whether it is addressed to this listener, and by nobody else's page.
    fn admit_address(&self, request: &Request) -> Result<(), Problem> {
        self.check_host(request)?;
        check_site(request)
    }

    fn admit(&self, request: &Request) -> Result<(), Problem> {
        self.admit_address(request)?;
        self.check_token(request.headers())
    }

    fn check_host(&self, request: &Request) -> Result<(), Problem> {
        if matches!(self.names, Names::Any) {
            return Ok(());
        }
        let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
        // RFC 9112 §3.2.
        let [host] = hosts[..] else {
            return Err(Problem::malformed("exactly one Host header is needed"));
        };
        let host = host
            .to_str()
            .map_err(|_| Problem::malformed("the Host header is not ASCII text"))?;
        // An absolute target names the host as well, and then counts for more than the header.
        let target = request.uri().authority().map(Authority::as_str);
        match [Some(host), target]
            .into_iter()
            .flatten()
            .find(|host| !self.names.has(host))
        {
            None => Ok(()),
            Some(stranger) => Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "unknown_host",
                format!(
                    "this listener is not known as {stranger:?}; use its address, or add the name to admin.hosts in gateway.toml"
                ),
            )),
        }
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(expected) = &self.token_digest else {
            return Ok(());
        };
        let refused = |challenge: &'static str, detail: &str| {
            Err(
                Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
                    .with_challenge(challenge),
            )
        };
        // RFC 6750 §3: no error code when no credentials were sent at all.
        let Some(presented) = bearer(headers) else {
            return refused(
                "Bearer realm=\"wakegate\"",
                "this needs the header 'Authorization: Bearer' with the admin token",
            );
        };
        if same(&digest(presented), expected) {
            Ok(())
        } else {
            refused(
                "Bearer realm=\"wakegate\", error=\"invalid_token\"",
                "the admin token is not the right one",
            )
        }
    }
}

/// The middleware: passes the request on, or answers with what is missing.
pub async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    guard.admit(&request)?;
    Ok(next.run(request).await)
}

/// The middleware without the token check, for what holds nothing that is worth one.
pub async fn check_address(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    guard.admit_address(&request)?;
    Ok(next.run(request).await)
}

impl Names {
    /// Whether `host[:port]` is one of these names.
    fn has(&self, host: &str) -> bool {
        let Names::Tcp {
            bound,
            any_address,
            hosts,
        } = self
        else {
            return true;
        };
        let Some((name, port)) = split(host) else {
            return false;
        };
        let configured = |entry: &String| match split(entry) {
            Some((entry_name, entry_port)) => {
                entry_name == name && (entry_port.is_none() || entry_port == port)
            }
            None => false,
        };
        if hosts.iter().any(configured) {
            return true;
        }
        // A listener on all addresses is often published at another port (containers).
        let port_is_ours = *any_address || port.is_none_or(|port| port == bound.port());
        let address_is_ours = match address(&name) {
            Some(ip) => {
                *any_address
                    || ip == bound.ip()
                    || ip == Ipv4Addr::LOCALHOST
                    || ip == Ipv6Addr::LOCALHOST
            }
            None => name == "localhost",
        };
        port_is_ours && address_is_ours
    }
}

/// The lower-case name without its final dot, and the port. `None` for what is neither.
fn split(host: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = host.parse().ok()?;
    let name = authority.host();
    let port = match host.strip_prefix(name)? {
        "" => None,
        rest => Some(rest.strip_prefix(':')?.parse().ok()?),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty()).then(|| (name.to_ascii_lowercase(), port))
}

fn address(name: &str) -> Option<IpAddr> {
    match name.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => name.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Refuses what a browser sends for a page of another site.
///
/// A form or a fetch of another origin carries `Origin`; what goes without it (an image, a link)
/// is marked by `Sec-Fetch-Site`. Following a link to a page of ours is allowed.
fn check_site(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let own = headers.get(HOST).map(HeaderValue::as_bytes);
    let foreign_origin = headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = origin.as_bytes();
        let authority = origin
            .strip_prefix(b"http://")
            .or(origin.strip_prefix(b"https://"));
        match (authority, own) {
            (Some(authority), Some(own)) => !authority.eq_ignore_ascii_case(own),
            _ => true,
        }
    });
    let is = |name: &str, value: &str| {
        headers
            .get(name)
            .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    let follows_a_link =
        matches!(*request.method(), Method::GET | Method::HEAD) && is("sec-fetch-mode", "navigate");
    if foreign_origin || (is("sec-fetch-site", "cross-site") && !follows_a_link) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "the admin API takes no requests from pages of other sites",
        ));
    }
    Ok(())
}

/// The one token of an `Authorization: Bearer` header (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Takes as long for every pair of digests, so that its time tells nothing.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bound: &str, insecure: bool, hosts: &[&str]) -> Names {
        let config = config::Admin {
            listen: Listen::Tcp(bound.parse().unwrap()),
            token: None,
            insecure,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        };
        Guard::new(&config, &config.listen).names
    }

    #[test]
    fn a_loopback_listener_is_known_by_its_local_names_at_its_port() {
        let names = names("127.0.0.1:8008", false, &[]);
        for own in [
            "127.0.0.1:8008",
            "127.0.0.1",
            "localhost",
            "LocalHost.:8008",
            "[::1]:8008",
        ] {
            assert!(names.has(own), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8008",
            "localhost:80",
            "localhost.evil.example",
            "192.168.0.7:8008",
            "user@localhost",
            "localhost:8008:1",
            "localhost:",
            "127.0.0.1.evil.example:8008",
            "",
            "::1",
        ] {
            assert!(!names.has(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_configured_name_holds_at_any_port_unless_it_names_one() {
        let names = names("127.0.0.1:8008", false, &["Gateway", "proxy.lan:443"]);
        for own in ["gateway", "gateway:8008", "GATEWAY:18008", "proxy.lan:443"] {
            assert!(names.has(own), "{own}");
        }
        for foreign in ["proxy.lan", "proxy.lan:8008", "gateway.evil.example"] {
            assert!(!names.has(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_takes_every_address_but_only_configured_names() {
        for insecure in [false, true] {
            let names = names("0.0.0.0:8008", insecure, &["gateway"]);
            for own in [
                "10.1.2.3:8008",
                "127.0.0.1:18008",
                "[fe80::1]:8008",
                "localhost:18008",
                "gateway:8008",
            ] {
                assert!(names.has(own), "{own}");
            }
            assert!(!names.has("evil.example:8008"));
        }
    }

    #[test]
    fn digests_are_the_same_only_when_every_byte_is() {
        assert!(same(&digest("a"), &digest("a")));
        let mut last_differs = digest("a");
        last_differs[31] ^= 1;
        assert!(!same(&digest("a"), &last_differs));
    }
}
