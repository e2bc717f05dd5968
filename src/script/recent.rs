//! The request heads that a worker saw last, for trying new scripts on. Copied, so that they keep no
//! connection's buffer alive, into places that are used again, so that keeping them costs no memory anew.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method};

use crate::decision::RequestFacts;
use crate::script::field::{Field, Reads};
use crate::script::head::Head;

/// A longer head is not kept, in bytes of text.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What stands in a kept head for a secret that no script has read.
pub const MASK: &[u8] = MASK_TEXT.as_bytes();

/// The same as text.
pub const MASK_TEXT: &str = "***";

/// The last heads, in a ring.
#[derive(Debug)]
pub struct Recent {
    kept: Vec<Kept>,
    /// Where the next one goes, once the ring is full.
    next: usize,
    max: usize,
    secrets: Secrets,
    /// Within one second only so many are kept as there is room for, or a busy worker would copy all
    /// day. What the memo had no answer for is kept all the same: that is what is new.
    second: i64,
    in_second: usize,
}

/// The secrets that the scripts have read: no others are kept.
#[derive(Debug, Default)]
struct Secrets {
    all: bool,
    headers: Vec<HeaderName>,
    cookies: Vec<Box<str>>,
}

#[derive(Debug)]
struct Kept {
    method: Method,
    scheme: &'static str,
    client: IpAddr,
    at: i64,
    /// Host, path, query, then the values of the headers.
    text: Vec<u8>,
    host: usize,
    path: usize,
    query: usize,
    headers: Vec<(HeaderName, usize)>,
}

impl Recent {
    /// `max` heads at the most; 0 keeps none.
    pub fn new(max: usize) -> Self {
        Self {
            kept: Vec::new(),
            next: 0,
            max,
            secrets: Secrets::default(),
            second: i64::MIN,
            in_second: 0,
        }
    }

    /// Sees a request. `is_new`: the scripts were asked about it.
    pub fn see(&mut self, request: &RequestFacts<'_>, is_new: bool) {
        if request.at != self.second {
            self.second = request.at;
            self.in_second = 0;
        }
        self.in_second += 1;
        if is_new || self.in_second <= self.max {
            self.keep(request);
        }
    }

    /// What the scripts have read of a request may be kept from then on.
    pub fn secrets_read(&mut self, reads: &Reads) {
        self.secrets.all |= reads.all_headers;
        for field in &reads.fields {
            match field {
                Field::Header(name) if is_secret(name) && !self.secrets.headers.contains(name) => {
                    self.secrets.headers.push(name.clone());
                }
                Field::Cookie(name) if !self.secrets.cookies.contains(name) => {
                    self.secrets.cookies.push(name.clone());
                }
                _ => {}
            }
        }
    }

    /// Other scripts read other secrets: what those before them read is no longer kept.
    pub fn forget_secrets(&mut self) {
        self.secrets = Secrets::default();
        for kept in &mut self.kept {
            let head = kept.head();
            kept.take(&head.facts(), &self.secrets);
        }
    }

    /// Oldest first.
    pub fn heads(&self) -> Vec<Head> {
        let (later, earlier) = self.kept.split_at(self.next.min(self.kept.len()));
        earlier.iter().chain(later).map(Kept::head).collect()
    }

    fn keep(&mut self, request: &RequestFacts<'_>) {
        let values = request.headers.values();
        let bytes = request.path.len() + request.query.len() + request.host.len();
        if self.max == 0 || bytes + values.map(HeaderValue::len).sum::<usize>() > HEAD_BYTES_MAX {
            return;
        }
        if self.kept.len() < self.max {
            self.kept.push(Kept::empty());
            let last = self.kept.len() - 1;
            self.kept[last].take(request, &self.secrets);
        } else {
            self.kept[self.next].take(request, &self.secrets);
            self.next = (self.next + 1) % self.max;
        }
    }
}

impl Kept {
    fn empty() -> Self {
        Self {
            method: Method::GET,
            scheme: "http",
            client: IpAddr::from([0; 4]),
            at: 0,
            text: Vec::new(),
            host: 0,
            path: 0,
            query: 0,
            headers: Vec::new(),
        }
    }

    fn take(&mut self, request: &RequestFacts<'_>, secrets: &Secrets) {
        self.method.clone_from(request.method);
        self.scheme = if request.scheme == "https" {
            "https"
        } else {
            "http"
        };
        self.client = request.client;
        self.at = request.at;
        self.text.clear();
        for (part, length) in [
            (request.host, &mut self.host),
            (request.path, &mut self.path),
            (request.query, &mut self.query),
        ] {
            self.text.extend_from_slice(part.as_bytes());
            *length = part.len();
        }
        self.headers.clear();
        for (name, value) in request.headers {
            let begin = self.text.len();
            secrets.copy(name, value.as_bytes(), &mut self.text);
            self.headers.push((name.clone(), self.text.len() - begin));
        }
    }

    fn head(&self) -> Head {
        let mut rest = self.text.as_slice();
        let mut part = |length: usize| {
            let (part, after) = rest.split_at(length);
            rest = after;
            part
        };
        let mut text = |length| String::from_utf8_lossy(part(length)).into_owned();
        let (host, path, query) = (text(self.host), text(self.path), text(self.query));
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, length) in &self.headers {
            // They were values before; a mask is one too.
            if let Ok(value) = HeaderValue::from_bytes(part(*length)) {
                headers.append(name.clone(), value);
            }
        }
        Head {
            method: self.method.clone(),
            scheme: self.scheme,
            host,
            path,
            query,
            headers,
            client: self.client,
            at: self.at,
        }
    }
}

impl Secrets {
    fn copy(&self, name: &HeaderName, value: &[u8], into: &mut Vec<u8>) {
        if self.all || !is_secret(name) || self.headers.contains(name) {
            into.extend_from_slice(value);
        } else if name == COOKIE {
            self.copy_cookies(value, into);
        } else {
            into.extend_from_slice(MASK);
        }
    }

    /// The names stay; of the values those that are read.
    fn copy_cookies(&self, value: &[u8], into: &mut Vec<u8>) {
        for (n, pair) in value.split(|byte| *byte == b';').enumerate() {
            if n > 0 {
                into.push(b';');
            }
            let is_read = |name: &[u8]| {
                let mut read = self.cookies.iter();
                read.any(|read| read.as_bytes() == name)
            };
            match pair.iter().position(|byte| *byte == b'=') {
                Some(equals) if !is_read(pair[..equals].trim_ascii()) => {
                    into.extend_from_slice(&pair[..=equals]);
                    into.extend_from_slice(MASK);
                }
                Some(_) => into.extend_from_slice(pair),
                // Without a name nobody can have read it.
                None => into.extend_from_slice(MASK),
            }
        }
    }
}

fn is_secret(name: &HeaderName) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name)
}

/// The secrets that a script read of a head, as it got them, longest first.
pub fn secrets_read(head: &Head, reads: &Reads) -> Vec<String> {
    let facts = head.facts();
    let mut secrets = Vec::new();
    let mut add = |field: &Field| secrets.extend(field.text(&field.of(&facts, None)));
    for field in &reads.fields {
        match field {
            Field::Cookie(_) => add(field),
            Field::Header(name) if is_secret(name) => add(field),
            _ => {}
        }
    }
    if reads.all_headers || reads.more || reads.fields.contains(&Field::Header(COOKIE)) {
        // Whoever has all of them may have taken them apart.
        let cookies = head.headers.get_all(COOKIE).iter();
        let pairs = cookies.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
        for pair in pairs {
            if let Some(equals) = pair.iter().position(|byte| *byte == b'=') {
                let value = pair[equals + 1..].trim_ascii();
                secrets.push(String::from_utf8_lossy(value).into_owned());
            }
        }
    }
    for name in [AUTHORIZATION, PROXY_AUTHORIZATION] {
        if reads.all_headers || reads.more || reads.fields.contains(&Field::Header(name.clone())) {
            let values = head.headers.get_all(&name).iter();
            for value in values {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                // `Bearer abc`: a script may show what comes after the scheme.
                secrets.extend(
                    text.split_once(' ')
                        .map(|(_, token)| token.trim().to_owned()),
                );
                secrets.push(text);
            }
        }
    }
    // A short one would be found in words that have nothing to do with it.
    secrets.retain(|secret| secret.len() >= 4);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// Whether what a script read of a kept head is a mask in place of a secret.
pub fn is_masked(head: &Head, reads: &Reads) -> bool {
    let has_mask = |name: &HeaderName| {
        let values = head.headers.get_all(name);
        values.iter().any(|value| {
            value
                .as_bytes()
                .windows(MASK.len())
                .any(|part| part == MASK)
        })
    };
    let facts = head.facts();
    let may_be_any = reads.all_headers || reads.more;
    (may_be_any
        && [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE]
            .iter()
            .any(has_mask))
        || reads.fields.iter().any(|field| match field {
            Field::Header(name) if is_secret(name) => has_mask(name),
            Field::Cookie(_) => field.of(&facts, None).bytes() == Some(MASK),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::tests::Sent;

    fn paths(recent: &Recent) -> Vec<String> {
        recent.heads().into_iter().map(|head| head.path).collect()
    }

    #[test]
    fn the_last_ones_are_kept_in_order() {
        let mut recent = Recent::new(3);
        for (n, expected) in [
            (1, &["/1"][..]),
            (2, &["/1", "/2"]),
            (3, &["/1", "/2", "/3"]),
            (4, &["/2", "/3", "/4"]),
            (5, &["/3", "/4", "/5"]),
        ] {
            recent.see(&Sent::get(&format!("/{n}")).facts(), true);
            assert_eq!(paths(&recent), expected);
        }
        let mut none = Recent::new(0);
        none.see(&Sent::get("/1").facts(), true);
        assert!(none.heads().is_empty());
    }

    #[test]
    fn a_head_is_kept_as_it_was() {
        let mut sent = Sent::get("/a%20b/é?x=1&y")
            .with("accept", "text/html")
            .with("x-many", "1")
            .with("x-many", "2");
        sent.method = Method::from_bytes(b"PURGE").unwrap();
        let mut recent = Recent::new(2);
        recent.see(&sent.facts(), true);
        let head = &recent.heads()[0];
        assert_eq!(format!("{:?}", head.facts()), format!("{:?}", sent.facts()));
    }

    #[test]
    fn a_busy_worker_keeps_what_is_new_and_so_many_a_second_of_the_rest() {
        let mut recent = Recent::new(2);
        let mut sent = Sent::get("/");
        let mut see = |path: &str, second: i64, is_new: bool| {
            sent.path = path.to_owned();
            sent.at = second;
            recent.see(&sent.facts(), is_new);
            paths(&recent).last().unwrap().clone()
        };
        assert_eq!(see("/1", 1, false), "/1");
        assert_eq!(see("/2", 1, false), "/2");
        assert_eq!(see("/3", 1, false), "/2");
        assert_eq!(see("/4", 1, true), "/4");
        assert_eq!(see("/5", 1, false), "/4");
        assert_eq!(see("/6", 2, false), "/6");
    }

    #[test]
    fn a_head_that_is_too_long_is_not_kept() {
        let mut recent = Recent::new(2);
        let long = "x".repeat(HEAD_BYTES_MAX);
        recent.see(&Sent::get("/").with("x-long", &long).facts(), true);
        assert!(recent.heads().is_empty());
    }

    #[test]
    fn secrets_are_kept_only_as_scripts_read_them() {
        let sent = Sent::get("/")
            .with("authorization", "Bearer abc")
            .with("proxy-authorization", "Basic def")
            .with("cookie", "id=1; theme=dark; lone")
            .with("cookie", "id=2");
        let kept = |reads: &[Field], all_headers: bool| {
            let reads = Reads {
                all_headers,
                ..Reads::from(reads)
            };
            let mut recent = Recent::new(1);
            recent.secrets_read(&reads);
            recent.see(&sent.facts(), true);
            let head = recent.heads().remove(0);
            let values = |name: &str| {
                let values = head.headers.get_all(name).iter();
                let values = values.map(|value| value.to_str().unwrap().to_owned());
                values.collect::<Vec<_>>().join("|")
            };
            let masked = is_masked(&head, &reads);
            (
                values("authorization"),
                values("proxy-authorization"),
                values("cookie"),
                masked,
            )
        };
        let expected =
            |a: &str, p: &str, c: &str| (a.to_owned(), p.to_owned(), c.to_owned(), false);
        assert_eq!(
            kept(&[], false),
            expected("***", "***", "id=***; theme=***;***|id=***")
        );
        assert_eq!(
            kept(
                &[Field::Cookie("id".into()), Field::Header(AUTHORIZATION)],
                false
            ),
            expected("Bearer abc", "***", "id=1; theme=***;***|id=2")
        );
        assert_eq!(
            kept(&[Field::Header(COOKIE)], false),
            expected("***", "***", "id=1; theme=dark; lone|id=2")
        );
        assert_eq!(
            kept(&[], true),
            expected("Bearer abc", "Basic def", "id=1; theme=dark; lone|id=2")
        );
    }

    #[test]
    fn reading_a_mask_is_noticed() {
        let sent = Sent::get("/")
            .with("authorization", "Bearer abc")
            .with("cookie", "id=1; theme=dark");
        let mut recent = Recent::new(1);
        recent.secrets_read(&Reads::from(&[Field::Cookie("id".into())][..]));
        recent.see(&sent.facts(), true);
        let head = recent.heads().remove(0);
        for (field, masked) in [
            (Field::Path, false),
            (Field::Cookie("id".into()), false),
            (Field::Cookie("none".into()), false),
            (Field::Cookie("theme".into()), true),
            (Field::Header(AUTHORIZATION), true),
            (Field::Header(COOKIE), true),
            (Field::Header(PROXY_AUTHORIZATION), false),
        ] {
            assert_eq!(
                is_masked(&head, &Reads::from(std::slice::from_ref(&field))),
                masked,
                "{field:?}"
            );
        }
        let all = Reads {
            all_headers: true,
            ..Reads::default()
        };
        assert!(is_masked(&head, &all));
        // Nobody knows what else was read.
        let more = Reads {
            more: true,
            ..Reads::default()
        };
        assert!(is_masked(&head, &more));
    }

    #[test]
    fn secrets_are_gone_when_other_scripts_decide() {
        let sent = Sent::get("/").with("cookie", "id=1");
        let mut recent = Recent::new(2);
        recent.secrets_read(&Reads::from(&[Field::Cookie("id".into())][..]));
        recent.see(&sent.facts(), true);
        assert_eq!(recent.heads()[0].headers["cookie"], "id=1");
        recent.forget_secrets();
        assert_eq!(recent.heads()[0].headers["cookie"], "id=***");
        recent.see(&sent.facts(), true);
        assert_eq!(recent.heads()[1].headers["cookie"], "id=***");
    }

    #[test]
    fn reading_very_much_lets_no_secret_be_kept() {
        let sent = Sent::get("/").with("authorization", "Bearer abc");
        let mut recent = Recent::new(1);
        recent.secrets_read(&Reads {
            more: true,
            ..Reads::default()
        });
        recent.see(&sent.facts(), true);
        assert_eq!(recent.heads()[0].headers["authorization"], "***");
    }
}
