//! The request as a script sees it: typed, read on demand, and every read recorded.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use http::HeaderName;
use http::header::{COOKIE, HeaderValue};
use percent_encoding::percent_decode;
use rhai::{Array, Dynamic, Engine, Map};
use scoped_tls_hkt::scoped_thread_local;

use crate::decision::RequestFacts;
use crate::script::engine::{Raw, refuse};
use crate::script::routes::Captures;

/// Reads that one evaluation may have and still be remembered.
const READS_MAX: usize = 64;

scoped_thread_local!(static READING: for<'a> &'a Reading<'a>);

/// `req` in a script. It is only a key to the request that is being decided on this thread, so
/// that nothing is copied that is not read.
#[derive(Debug, Clone, Copy)]
pub struct Request;

/// One thing that can be read of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Method,
    Scheme,
    Host,
    Path,
    Query,
    Client,
    /// A path segment, from 0.
    Segment(usize),
    /// What a name in the route's pattern stands for.
    Param(Box<str>),
    Header(HeaderName),
    QueryValue(Box<str>),
    Cookie(Box<str>),
}

/// What a field is in a request, before any decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawValue<'a> {
    Missing,
    Bytes(&'a [u8]),
    Address([u8; 17]),
    Joined(Vec<u8>),
}

impl RawValue<'_> {
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            RawValue::Missing => None,
            RawValue::Bytes(bytes) => Some(bytes),
            RawValue::Address(bytes) => Some(bytes),
            RawValue::Joined(bytes) => Some(bytes),
        }
    }
}

impl<'a> From<Option<&'a [u8]>> for RawValue<'a> {
    fn from(bytes: Option<&'a [u8]>) -> Self {
        bytes.map_or(RawValue::Missing, RawValue::Bytes)
    }
}

impl Field {
    /// The value in a request. Allocates nothing, but for a header that is there more than once.
    pub fn of<'a>(
        &self,
        facts: &RequestFacts<'a>,
        captures: Option<&Captures<'a>>,
    ) -> RawValue<'a> {
        match self {
            Field::Method => RawValue::Bytes(facts.method.as_str().as_bytes()),
            Field::Scheme => RawValue::Bytes(facts.scheme.as_bytes()),
            Field::Host => RawValue::Bytes(facts.host.as_bytes()),
            Field::Path => RawValue::Bytes(facts.path.as_bytes()),
            Field::Query => RawValue::Bytes(facts.query.as_bytes()),
            Field::Client => RawValue::Address(address(facts.client)),
            Field::Segment(index) => segments(facts.path).nth(*index).map(str::as_bytes).into(),
            Field::Param(name) => captures
                .and_then(|captures| captures.get(name))
                .map(str::as_bytes)
                .into(),
            Field::Header(name) => header(facts, name),
            Field::QueryValue(key) => query_value(facts.query, key).map(str::as_bytes).into(),
            Field::Cookie(name) => cookie(facts, name).into(),
        }
    }

    /// What a script reads: decoded text. `None` when the request does not have it.
    pub fn text(&self, raw: &RawValue<'_>) -> Option<String> {
        let bytes = raw.bytes()?;
        Some(match self {
            Field::Segment(_) | Field::Param(_) => decoded(bytes),
            Field::QueryValue(_) => form_decoded(bytes),
            Field::Host => String::from_utf8_lossy(bytes).to_ascii_lowercase(),
            Field::Client => address_text(bytes),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        })
    }
}

/// A request while a script reads it.
pub struct Reading<'a> {
    facts: &'a RequestFacts<'a>,
    captures: Option<&'a Captures<'a>>,
    reads: RefCell<Vec<Field>>,
    /// Something was read that is not recorded, or too much.
    untold: Cell<bool>,
}

impl<'a> Reading<'a> {
    pub fn new(facts: &'a RequestFacts<'a>, captures: Option<&'a Captures<'a>>) -> Self {
        Self {
            facts,
            captures,
            reads: RefCell::default(),
            untold: Cell::new(false),
        }
    }

    /// Makes this the request that [`Request`] stands for while `call` runs.
    pub fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        READING.set(self, call)
    }

    /// What was read, in order and once each, and whether something else was read too.
    pub fn into_reads(self) -> (Vec<Field>, bool) {
        (self.reads.into_inner(), self.untold.get())
    }

    fn read(&self, field: Field) -> Option<String> {
        let text = field.text(&field.of(self.facts, self.captures));
        let mut reads = self.reads.borrow_mut();
        if reads.contains(&field) {
            // What was read before cannot have changed: it tells nothing new.
        } else if reads.len() < READS_MAX {
            reads.push(field);
        } else {
            self.untold.set(true);
        }
        text
    }
}

fn reading<T>(read: impl for<'a> FnOnce(&'a Reading<'a>) -> T) -> Raw<T> {
    if READING.is_set() {
        Ok(READING.with(|reading| read(reading)))
    } else {
        refuse("there is no request here: req is valid only while its route is asked")
    }
}

fn read(field: Field) -> Raw<Option<String>> {
    reading(|reading| reading.read(field))
}

/// Registers `req`.
pub fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Request>("request");
    for (name, field) in [
        ("method", Field::Method),
        ("scheme", Field::Scheme),
        ("host", Field::Host),
        ("path", Field::Path),
        ("query", Field::Query),
        ("client", Field::Client),
    ] {
        engine.register_get(name, move |_: &mut Request| -> Raw<String> {
            Ok(read(field.clone())?.unwrap_or_default())
        });
    }
    engine.register_get("segments", |_: &mut Request| -> Raw<Array> {
        let path = read(Field::Path)?.unwrap_or_default();
        Ok(segments(&path)
            .map(|segment| decoded(segment.as_bytes()).into())
            .collect())
    });
    engine.register_get("headers", |_: &mut Request| all_headers());
    engine.register_fn("segment", |_: &mut Request, index: i64| {
        text(usize::try_from(index).ok().map(Field::Segment))
    });
    engine.register_fn("param", |_: &mut Request, name: &str| {
        text(Some(Field::Param(name.into())))
    });
    with_default(engine, "header", |name| {
        HeaderName::from_bytes(name.as_bytes())
            .ok()
            .map(Field::Header)
    });
    with_default(engine, "query", |key| Some(Field::QueryValue(key.into())));
    with_default(engine, "cookie", |name| Some(Field::Cookie(name.into())));
}

fn with_default(engine: &mut Engine, name: &str, field: fn(&str) -> Option<Field>) {
    engine.register_fn(name, move |_: &mut Request, key: &str| text(field(key)));
    engine.register_fn(
        name,
        move |_: &mut Request, key: &str, default: Dynamic| -> Raw<Dynamic> {
            Ok(match field(key).map(read).transpose()?.flatten() {
                Some(text) => text.into(),
                None => default,
            })
        },
    );
}

/// Missing is `""`, never an exception: a request may lack anything.
fn text(field: Option<Field>) -> Raw<String> {
    Ok(field.map(read).transpose()?.flatten().unwrap_or_default())
}

/// All headers in a map. What it depends on is not worth recording.
fn all_headers() -> Raw<Map> {
    reading(|reading| {
        reading.untold.set(true);
        let names = reading.facts.headers.keys();
        names
            .map(|name| {
                let field = Field::Header(name.clone());
                let text = field.text(&header(reading.facts, name)).unwrap_or_default();
                (name.as_str().into(), text.into())
            })
            .collect()
    })
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// Several lines of a field are one list (RFC 9110 §5.3).
fn header<'a>(facts: &RequestFacts<'a>, name: &HeaderName) -> RawValue<'a> {
    let mut values = facts
        .headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes);
    let Some(first) = values.next() else {
        return RawValue::Missing;
    };
    let Some(second) = values.next() else {
        return RawValue::Bytes(first);
    };
    let mut joined = [first, second].join(&b", "[..]);
    for value in values {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(value);
    }
    RawValue::Joined(joined)
}

/// The first value of a key, still encoded.
fn query_value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let same =
            name == key || (name.contains(['%', '+']) && form_decoded(name.as_bytes()) == key);
        (same && !pair.is_empty()).then_some(value)
    })
}

fn cookie<'a>(facts: &RequestFacts<'a>, name: &str) -> Option<&'a [u8]> {
    facts
        .headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b';'))
        .find_map(|pair| {
            let pair = pair.trim_ascii();
            let equals = pair.iter().position(|b| *b == b'=')?;
            (&pair[..equals] == name.as_bytes()).then(|| {
                let value = &pair[equals + 1..];
                value
                    .strip_prefix(b"\"")
                    .and_then(|value| value.strip_suffix(b"\""))
                    .unwrap_or(value)
            })
        })
}

fn decoded(bytes: &[u8]) -> String {
    match percent_decode(bytes).decode_utf8_lossy() {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

/// `application/x-www-form-urlencoded`: a plus is a space.
fn form_decoded(bytes: &[u8]) -> String {
    if bytes.contains(&b'+') {
        let spaced: Vec<u8> = bytes
            .iter()
            .map(|b| if *b == b'+' { b' ' } else { *b })
            .collect();
        decoded(&spaced)
    } else {
        decoded(bytes)
    }
}

fn address(ip: IpAddr) -> [u8; 17] {
    let mut bytes = [0; 17];
    match ip {
        IpAddr::V4(ip) => {
            bytes[0] = 4;
            bytes[1..5].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes[0] = 6;
            bytes[1..].copy_from_slice(&ip.octets());
        }
    }
    bytes
}

fn address_text(bytes: &[u8]) -> String {
    match bytes {
        [4, a, b, c, d, ..] => IpAddr::from([*a, *b, *c, *d]).to_string(),
        [6, octets @ ..] => <[u8; 16]>::try_from(octets)
            .map(|octets| IpAddr::from(octets).to_string())
            .unwrap_or_default(),
        _ => String::new(),
    }
}
