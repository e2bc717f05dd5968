//! Which keys may stand below a store's prefix.

/// Why a key cannot stand below a store's prefix, if it cannot. What is fit for a bucket is fit for
/// a folder, and does not lead out of either.
pub(super) fn unfit_key(key: &str) -> Option<&'static str> {
    if key.starts_with('/') {
        return Some("it begins with a slash");
    }
    if key.bytes().any(|b| b.is_ascii_control()) {
        return Some("it holds a control character");
    }
    // A question mark in a location is a hope for settings; in keys these signs are trouble.
    if key.contains(['?', '#', '\\']) {
        return Some("it holds '?', '#' or a backslash");
    }
    key.split('/').find_map(|segment| match segment {
        "" => Some("it has an empty segment"),
        "." | ".." => Some("it has a segment of dots"),
        _ => None,
    })
}
