//! The header fields that an answer sets or drops, each checked when the script names it.

use http::header::{self, HeaderName, HeaderValue, InvalidHeaderName};
use rhai::Dynamic;

use super::Draft;
use crate::decision::HeaderEdits;
use crate::script::engine::{Raw, refuse};

/// Header fields that one decision may set or drop.
const EDITS_MAX: usize = 100;

/// The longest value of a header that a script sets.
const HEADER_BYTES_MAX: usize = 8 << 10;

/// What the documents of setters say of values and limits.
pub fn values() -> String {
    format!(
        "The value is text, a number, true or false, with {HEADER_BYTES_MAX} bytes at the most.\n\
         One answer has {EDITS_MAX} header edits at the most.\n\
         Headers that frame the message, such as Content-Length, are refused."
    )
}

/// The draft with one more edit.
pub fn edited<T: Clone>(
    draft: &mut Draft<T>,
    edits: fn(&mut T) -> &mut HeaderEdits,
    edit: (HeaderName, Option<HeaderValue>),
) -> Raw<Draft<T>> {
    let mut full = false;
    let edited = draft.set(|decision| {
        let edits = &mut edits(decision).edits;
        full = edits.len() >= EDITS_MAX;
        if !full {
            edits.push(edit);
        }
    });
    if full {
        return refuse(format!("a decision has more than {EDITS_MAX} header edits"));
    }
    Ok(edited)
}

pub fn header_name(function: &str, name: &str) -> Raw<HeaderName> {
    let parsed: Result<HeaderName, InvalidHeaderName> = HeaderName::from_bytes(name.as_bytes());
    let Ok(parsed) = parsed else {
        return refuse(format!("{function}: {name:?} is not a header name"));
    };
    // These frame the message on its connection (RFC 9110 §7.6.1, RFC 9112 §6): they are the core's.
    const FRAMING: [HeaderName; 7] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
    ];
    if FRAMING.contains(&parsed) {
        return refuse(format!(
            "{function}: {name:?} belongs to the connection and cannot be changed"
        ));
    }
    Ok(parsed)
}

pub fn header_value(function: &str, value: &Dynamic) -> Raw<HeaderValue> {
    let plain = value.is_string() || value.is_int() || value.is_float() || value.is_bool();
    let text = value.to_string();
    if text.len() > HEADER_BYTES_MAX {
        return refuse(format!(
            "{function}: the value is longer than {HEADER_BYTES_MAX} bytes"
        ));
    }
    match HeaderValue::from_str(&text) {
        Ok(parsed) if plain => Ok(parsed),
        _ => refuse(format!("{function}: {text:?} cannot be in a header")),
    }
}
