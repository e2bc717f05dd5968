//! What can be read of a request, each a field whose value a remembered decision may depend on.

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderName;
use http::header::{COOKIE, HeaderValue};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use percent_encoding::percent_decode;

use crate::decision::RequestFacts;
use crate::script::routes::Captures;

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
    /// A part of the time at which the request came, where the scripts' hours are counted.
    Time(TimePart, TimeZone),
}

/// What a handler read of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reads {
    /// In order and once each.
    pub fields: Vec<Field>,
    /// It also had all headers at once.
    pub all_headers: bool,
    /// It read more than is recorded.
    pub more: bool,
}

impl Reads {
    /// Whether the fields are all that was read.
    pub fn are_all_told(&self) -> bool {
        !self.all_headers && !self.more
    }
}

impl From<&[Field]> for Reads {
    fn from(fields: &[Field]) -> Self {
        Self {
            fields: fields.to_vec(),
            ..Self::default()
        }
    }
}

/// What a clock or a calendar shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimePart {
    /// 0 to 23.
    Hour,
    /// 0 to 59.
    Minute,
    /// 1 is Monday, 7 is Sunday.
    Weekday,
}

impl TimePart {
    /// As scripts call it.
    pub fn name(self) -> &'static str {
        match self {
            TimePart::Hour => "hour",
            TimePart::Minute => "minute",
            TimePart::Weekday => "weekday",
        }
    }

    fn of(self, time: DateTime) -> u8 {
        let part = match self {
            TimePart::Hour => time.hour(),
            TimePart::Minute => time.minute(),
            TimePart::Weekday => time.weekday().to_monday_one_offset(),
        };
        part.unsigned_abs()
    }
}

/// What a field is in a request, before any decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawValue<'a> {
    Missing,
    Bytes(&'a [u8]),
    Address([u8; 17]),
    Joined(Vec<u8>),
    Number(u8),
}

impl RawValue<'_> {
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            RawValue::Missing => None,
            RawValue::Bytes(bytes) => Some(bytes),
            RawValue::Address(bytes) => Some(bytes),
            RawValue::Joined(bytes) => Some(bytes),
            RawValue::Number(byte) => Some(std::slice::from_ref(byte)),
        }
    }

    pub fn number(&self) -> Option<i64> {
        match self {
            RawValue::Number(number) => Some(i64::from(*number)),
            _ => None,
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
            Field::Time(part, zone) => RawValue::Number(part.of(zone.to_datetime(came(facts)))),
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
            Field::Time(..) => raw.number()?.to_string(),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        })
    }
}

pub fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// Several lines of a field are one list (RFC 9110 §5.3).
pub fn header<'a>(facts: &RequestFacts<'a>, name: &HeaderName) -> RawValue<'a> {
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

pub fn decoded(bytes: &[u8]) -> String {
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

/// The clock of a machine stands in a year that a calendar has; another time is that of no request.
fn came(facts: &RequestFacts<'_>) -> Timestamp {
    Timestamp::from_second(facts.at).unwrap_or_default()
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
