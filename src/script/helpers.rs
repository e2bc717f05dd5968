//! Functions that most scripts need sooner or later: patterns, codes, digests, names.
//!
//! None of them fails for what a client sends, as long as that fits into a script's limits; what
//! the author writes, such as a pattern, can be wrong.

mod json;
mod patterns;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rhai::{Dynamic, Engine, EvalAltResult, INT, Map, Position};
use sha2::{Digest, Sha256};

use crate::config::ScriptLimits;
use crate::names::NAME_BYTES_MAX;
use crate::script::documented::Documented as _;
use crate::script::engine::{Raw, refuse};

pub use patterns::Kind;

/// Takes what has its padding and what has not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Hex digits of a digest at the end of a name that was made.
const DIGITS: usize = 8;

/// Registers the functions.
pub fn register(engine: &mut Engine, limits: &ScriptLimits) {
    register_patterns(engine, limits.string_bytes_max);
    register_digests(engine);
    register_base64(engine, limits.string_bytes_max);
    register_json(engine, limits);
}

/// What the engine itself would say once the value was made.
fn too_large<T>(what: &str) -> Raw<T> {
    Err(Box::new(EvalAltResult::ErrorDataTooLarge(
        what.to_owned(),
        Position::NONE,
    )))
}

fn named<T>(function: &str, result: Result<T, String>) -> Raw<T> {
    result.or_else(|message| refuse(format!("{function}: {message}")))
}

fn register_patterns(engine: &mut Engine, string_bytes_max: usize) {
    engine.document(
        "glob(pattern: String, text: String) -> bool",
        "Whether the whole text is as the pattern says: `*` stands for anything but `/`, `**` between
         slashes for any number of segments, `?` for one character but `/`, `[a-z]` for one of these,
         `{a,b}` for either, `\\` for the next character itself.
         `?` and `[…]` stand for one byte: characters outside of ASCII have more.",
        |pattern: &str, text: &str| {
            let compiled = Kind::Glob.compiled(pattern);
            named("glob", compiled.and_then(|pattern| pattern.matches(text)))
        },
    );
    engine.document(
        "matches(text: String, regex: String) -> bool",
        "Whether the regular expression matches somewhere in the text; `^` and `$` tie it to the ends.
         The syntax is that of Rust's regex crate, without look-around and back-references, so that
         the time that it takes is a small multiple of the text's length. `\\w`, `\\d`, `\\s`, `\\b` and
         `(?i)` are of ASCII.",
        |text: &str, regex: &str| {
            let compiled = Kind::Regex.compiled(regex);
            named("matches", compiled.and_then(|pattern| pattern.matches(text)))
        },
    );
    engine.document(
        "captures(text: String, regex: String) -> Map",
        "What the groups of a regular expression matched: by their number as text (`\"0\"` is all of the
         match), and by their name too where they have one. A group that took no part is `\"\"`.
         The map is empty when the expression does not match.",
        move |text: &str, regex: &str| {
            let compiled = Kind::Regex.compiled(regex);
            let groups = compiled.and_then(|pattern| pattern.captures(text, string_bytes_max));
            named("captures", groups)
        },
    );
}

fn register_digests(engine: &mut Engine) {
    engine.document(
        "hash(text: String) -> i64",
        "A number from 0 on that is always the same for the same text, in all versions of the gateway:
         the first 8 bytes of its SHA-256, big-endian, without the sign bit.",
        hash,
    );
    engine.document(
        "bucket(text: String, n: i64) -> i64",
        "One of the numbers 0 to n - 1, always the same for the same text and n: for percentages
         (`bucket(id, 100) < 5`) and for choices that stick.",
        |text: &str, n: INT| match n {
            1.. => Ok(hash(text) % n),
            _ => refuse(format!(
                "bucket: {n} buckets are none to choose from (1 or more)"
            )),
        },
    );
    engine.document(
        "same_secret(a: String, b: String) -> bool",
        "Whether two secrets are the same; false when either is empty, so that a missing one opens
         nothing. Their SHA-256 are compared as a whole, so the time that it takes tells how long they
         are and nothing else.",
        same_secret,
    );
    engine.document(
        "to_name(text: String) -> String",
        "A valid name for a workload, made of any text: in lower case, with a `-` for each character that
         cannot be in a name. Where that changed anything, `-` and 8 hex digits of the text's SHA-256
         follow, so that different texts have different names.",
        to_name,
    );
}

fn hash(text: &str) -> INT {
    let digest = Sha256::digest(text);
    let first = digest.iter().take(8);
    let number = first.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    (number & INT::MAX as u64) as INT
}

fn same_secret(a: &str, b: &str) -> bool {
    let (a_digest, b_digest) = (Sha256::digest(a), Sha256::digest(b));
    let pairs = a_digest.iter().zip(b_digest.iter());
    let difference = pairs.fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0 && !a.is_empty() && !b.is_empty()
}

fn to_name(text: &str) -> String {
    let characters = text.chars().map(|c| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') => c,
        _ => '-',
    });
    let plain: String = characters
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .collect();
    // Whoever could ask for a name with such an end would have the name of another text.
    let ends_as_made = plain.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == DIGITS && end.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if plain == text && !plain.is_empty() && plain.len() <= NAME_BYTES_MAX && !ends_as_made {
        return plain;
    }
    let kept = plain.len().min(NAME_BYTES_MAX - 1 - DIGITS);
    let kept = match &plain[..kept] {
        "" => "x",
        kept => kept,
    };
    let digest = Sha256::digest(text);
    let digits: String = digest[..DIGITS / 2]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{kept}-{digits}")
}

fn register_base64(engine: &mut Engine, string_bytes_max: usize) {
    engine.document(
        "base64_encode(text: String) -> String",
        "The text in Base64, in the standard alphabet and padded.",
        move |text: &str| -> Raw<String> {
            let bytes = base64::encoded_len(text.len(), true);
            if bytes.is_none_or(|bytes| bytes > string_bytes_max) {
                return too_large("Length of string");
            }
            Ok(BASE64.encode(text))
        },
    );
    engine.document(
        "base64_decode(text: String) -> String",
        "The text that was encoded in Base64, in the standard or the URL alphabet, padded or not; `\"\"`
         when it is none.",
        |text: &str| decoded(text).unwrap_or_default(),
    );
    engine.document(
        "base64_decode(text: String, otherwise: ?) -> ?",
        "Like that, with a default for what is empty or no Base64 of a text.",
        |text: &str, default: Dynamic| decoded(text).map_or(default, Dynamic::from),
    );
}

fn decoded(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let standard = text.replace('-', "+").replace('_', "/");
    let bytes = BASE64.decode(standard).ok()?;
    String::from_utf8(bytes).ok()
}

fn register_json(engine: &mut Engine, limits: &ScriptLimits) {
    let limits = *limits;
    let parse = move |text: &str, default: Dynamic| match json::parse(text, &limits) {
        Ok(value) => Ok(value),
        Err(json::Unread::NoJson) => Ok(default),
        Err(json::Unread::TooLarge(what)) => too_large(what),
    };
    engine.document(
        "parse_json(text: String) -> Dynamic",
        "The value that a JSON text stands for; `()` when it is no JSON, and for `null`. A whole number
         that has no room in an integer is a float.",
        move |text: &str| parse(text, Dynamic::UNIT),
    );
    engine.document(
        "parse_json(text: String, otherwise: ?) -> ?",
        "Like that, with a default for what is no JSON.",
        parse,
    );
    let write = move |value: &Dynamic| match json::write(value, limits.string_bytes_max) {
        Ok(text) => Ok(text),
        Err(json::Unwritten::TooLarge) => too_large("Length of string"),
        Err(json::Unwritten::NoValue(message)) => refuse(format!("to_json: {message}")),
    };
    engine.document(
        "to_json(value: Dynamic) -> String",
        "The value as JSON, the entries of maps in the order of their keys. A float that is no number
         becomes `null`; a function or a request cannot be written.",
        move |value: &mut Dynamic| write(value),
    );
    // Rhai's own for maps would go before it: it has no limit.
    engine.document(
        "to_json(map: Map) -> String",
        "The map as JSON, its entries in the order of their keys.",
        move |map: &mut Map| write(&Dynamic::from_map(map.clone())),
    );
}
