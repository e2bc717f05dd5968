//! Sending a client to the same URL again: who may be sent, and no more than twice in a row.
//!
//! The URL is the same, so it can carry no mark of how often its client has been sent. A cookie could,
//! but programs that call each other keep none, and the applications would see it. So the gateway
//! remembers: in a bounded table, by client address, host, target and workload. What is forgotten or
//! mixed up there costs little. An entry too few means one more redirect, of which clients follow
//! twenty and more; an entry too many (two clients behind one address that ask for the same) means
//! that the gateway answers one request itself, which it may always do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ahash::RandomState;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::proxy::headers;

/// How often a client is sent to the same URL in a row.
const ROUNDS_MAX: u8 = 2;

/// A request that comes so soon after a redirect to its URL follows it; a later one is another visit.
/// Longer than a client and its network take, and shorter than any workload is meant to be awake.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(10);

/// What is older is forgotten: a follower may be held long before it is decided about.
const FORGET_AFTER: Duration = Duration::from_secs(120);

/// Entries of each of the two halves, 24 bytes each and a little more.
const ENTRIES_MAX: usize = 8_192;

/// The largest body that is sent twice. It is read to its end before the redirect is answered: an
/// answer before that ends the connection, and what is in front of the gateway may then see neither.
pub const BODY_BYTES_MAX: u64 = 64 << 10;

/// Whether a client is likely to follow a redirect of this request to its end.
///
/// A body has to be sent twice then, and a method that changes something is sent by programs that
/// often follow nothing, so that these need the decision's word (`says_so`). Handshakes of websockets
/// and preflights of browsers are never followed (WHATWG Fetch §4.3, §4.8; RFC 6455 §4.1). Nor are the
/// requests that a page of another origin makes: the redirect itself would need the application's
/// leave to be read (Fetch §4.4, §4.10).
///
/// `scheme` is the client's own, where that is known.
pub fn follows(
    method: &Method,
    headers: &HeaderMap,
    scheme: Option<&str>,
    has_body: bool,
    says_so: bool,
) -> bool {
    // Whatever the gateway makes of it: a list may name a protocol that is not forwarded, too.
    let is_upgrade = headers::asks_to_upgrade(headers)
        || headers
            .get("sec-fetch-mode")
            .is_some_and(|mode| mode == "websocket");
    let is_preflight = *method == Method::OPTIONS;
    let is_plain = matches!(*method, Method::GET | Method::HEAD) && !has_body;
    !is_upgrade && !is_preflight && !is_of_another_origin(headers, scheme) && (is_plain || says_so)
}

/// Whether a browser makes it for a page of another origin, of which it says so (Fetch §3.2). It also
/// names the page's own origin, with methods other than GET and HEAD. An origin is the scheme too
/// (RFC 6454 §4); where nobody tells the client's, the host has to do.
fn is_of_another_origin(headers: &HeaderMap, scheme: Option<&str>) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let of_page = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (of_page, own) {
        (Some((scheme_of_page, of_page)), Some(own)) => {
            let is_same_scheme = scheme.is_none_or(|own| scheme_of_page.eq_ignore_ascii_case(own));
            !is_same_scheme || !of_page.eq_ignore_ascii_case(own)
        }
        _ => true,
    }
}

/// Who asks for what, as far as a redirect in circles would repeat it.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Asking<'a> {
    pub client: IpAddr,
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    pub workload: &'a str,
}

/// Redirects of the last minutes. Shared by all workers: a client's next request may reach another
/// one. Only looked at when a sleeping workload was woken.
#[derive(Debug)]
pub struct Redirects {
    hasher: RandomState,
    kept: Mutex<Kept>,
    entries_max: usize,
}

/// Two halves, of which the older one is dropped as a whole, so that nothing is ever searched.
#[derive(Debug)]
struct Kept {
    young: HashMap<u64, Entry, RandomState>,
    old: HashMap<u64, Entry, RandomState>,
    turned: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    rounds: u8,
    /// When the first redirect of the present round was answered.
    answered: Instant,
}

impl Default for Redirects {
    fn default() -> Self {
        Self::keeping(ENTRIES_MAX)
    }
}

impl Redirects {
    fn keeping(entries_max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            kept: Mutex::new(Kept {
                young: HashMap::default(),
                old: HashMap::default(),
                turned: Instant::now(),
            }),
            entries_max,
        }
    }

    /// Whether a request that arrived at `arrived` may be redirected `now`; if so, it counts as
    /// redirected.
    ///
    /// Requests that were here before the first of them was answered are of one round, however many
    /// they are: a hundred clients that wait for the same wake are no circle.
    pub fn may_redirect(&self, asking: Asking<'_>, arrived: Instant, now: Instant) -> bool {
        let key = self.hasher.hash_one(asking);
        let mut kept = self.kept.lock();
        kept.turn_if_due(now, self.entries_max);
        let entry = match kept.get(key) {
            Some(entry) if arrived <= entry.answered + FOLLOWS_WITHIN => entry,
            _ => {
                let first = Entry {
                    rounds: 1,
                    answered: now,
                };
                kept.young.insert(key, first);
                return true;
            }
        };
        if arrived <= entry.answered {
            return true;
        }
        if entry.rounds >= ROUNDS_MAX {
            return false;
        }
        let next = Entry {
            rounds: entry.rounds + 1,
            answered: now,
        };
        kept.young.insert(key, next);
        true
    }
}

impl Kept {
    fn get(&self, key: u64) -> Option<Entry> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn turn_if_due(&mut self, now: Instant, entries_max: usize) {
        let is_due = now.saturating_duration_since(self.turned) > FORGET_AFTER;
        if is_due || self.young.len() >= entries_max {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use http::HeaderValue;

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_what_clients_follow_is_redirected() {
        let none = HeaderMap::new();
        for (method, has_body, says_so, expected) in [
            (Method::GET, false, false, true),
            (Method::HEAD, false, false, true),
            (Method::GET, true, false, false),
            (Method::POST, false, false, false),
            (Method::POST, true, false, false),
            (Method::PUT, true, false, false),
            (Method::DELETE, false, false, false),
            (Method::OPTIONS, false, false, false),
            (Method::GET, true, true, true),
            (Method::POST, true, true, true),
            (Method::DELETE, false, true, true),
            (Method::OPTIONS, false, true, false),
        ] {
            assert_eq!(
                follows(&method, &none, None, has_body, says_so),
                expected,
                "{method} body {has_body} says so {says_so}"
            );
        }
    }

    #[test]
    fn a_handshake_is_never_redirected() {
        let handshake = fields(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ]);
        let by_a_browser = fields(&[("sec-fetch-mode", "websocket")]);
        let with_another = fields(&[("connection", "upgrade"), ("upgrade", "h2c, websocket")]);
        for says_so in [false, true] {
            assert!(!follows(&Method::GET, &with_another, None, false, says_so));
            assert!(!follows(&Method::GET, &handshake, None, false, says_so));
            assert!(!follows(&Method::GET, &by_a_browser, None, false, says_so));
        }
        // A mere mention of it asks for nothing.
        let mention = fields(&[("upgrade", "websocket")]);
        assert!(follows(&Method::GET, &mention, None, false, false));
    }

    #[test]
    fn a_page_of_another_scheme_is_of_another_origin_where_the_scheme_is_known() {
        for (origin, scheme, expected) in [
            ("http://shop.example", Some("http"), true),
            ("HTTPS://Shop.example", Some("https"), true),
            ("http://shop.example", Some("https"), false),
            ("https://shop.example", Some("http"), false),
            // TLS may have ended at a proxy that is not trusted.
            ("http://shop.example", None, true),
            ("https://shop.example", None, true),
            ("https://other.example", None, false),
            ("https://other.example", Some("https"), false),
            ("null", None, false),
        ] {
            let asking = fields(&[("host", "shop.example"), ("origin", origin)]);
            assert_eq!(
                follows(&Method::GET, &asking, scheme, false, false),
                expected,
                "{origin} {scheme:?}"
            );
        }
    }

    const ASKING: Asking<'_> = Asking {
        client: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
        host: "shop.example",
        target: "/a?b",
        workload: "shop",
    };

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_client_goes_round_twice_and_no_more() {
        let redirects = Redirects::default();
        let start = Instant::now();
        let ask = |arrived, now| redirects.may_redirect(ASKING, at(start, arrived), at(start, now));
        assert!(ask(0, 500));
        assert!(ask(510, 900));
        assert!(!ask(910, 1_300));
        assert!(!ask(1_310, 1_700));
        // However long it is held, it has followed the redirect.
        assert!(!ask(10_900, 70_000));
        // Later it is another visit.
        assert!(ask(10_901, 70_001));
        assert!(ask(71_000, 71_500));
        assert!(!ask(72_000, 72_500));
    }

    #[test]
    fn those_who_wait_for_the_same_wake_are_of_one_round() {
        let redirects = Redirects::default();
        let start = Instant::now();
        let ask = |arrived, now| redirects.may_redirect(ASKING, at(start, arrived), at(start, now));
        for n in 0..100 {
            assert!(ask(n, 500 + n), "{n}");
        }
        // The first to follow begins the second round, before the last of the first is answered.
        assert!(ask(520, 700));
        assert!(ask(99, 710));
        for n in 0..100 {
            assert!(ask(530 + n, 720 + n), "{n}");
        }
        assert!(!ask(900, 901));
    }

    #[test]
    fn another_client_host_target_or_workload_is_another_row() {
        let redirects = Redirects::default();
        let start = Instant::now();
        let twice_then = |asking: Asking<'_>| {
            let rounds = [0, 1_000, 2_000].map(|millis| {
                redirects.may_redirect(asking, at(start, millis + 1), at(start, millis + 500))
            });
            assert_eq!(rounds, [true, true, false], "{asking:?}");
        };
        twice_then(ASKING);
        twice_then(Asking {
            client: "::1".parse().unwrap(),
            ..ASKING
        });
        twice_then(Asking { host: "", ..ASKING });
        twice_then(Asking {
            target: "/a",
            ..ASKING
        });
        twice_then(Asking {
            workload: "shop-2",
            ..ASKING
        });
    }

    #[test]
    fn its_memory_has_a_limit_and_the_newest_stay() {
        let redirects = Redirects::keeping(10);
        let start = Instant::now();
        for n in 0..10_000_u64 {
            let target = format!("/{n}");
            let asking = Asking {
                target: &target,
                ..ASKING
            };
            assert!(redirects.may_redirect(asking, at(start, n), at(start, n)));
            let kept = redirects.kept.lock();
            assert!(kept.young.len() <= 10 && kept.old.len() <= 10);
        }
        // One of the ten before is still known: twice in all, and no third time.
        let asking = Asking {
            target: "/9995",
            ..ASKING
        };
        assert!(redirects.may_redirect(asking, at(start, 10_001), at(start, 10_002)));
        assert!(!redirects.may_redirect(asking, at(start, 10_003), at(start, 10_004)));
    }
}
