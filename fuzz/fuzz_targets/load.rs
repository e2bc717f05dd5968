//! Any bytes as a scripts directory: it is loaded or refused, and what it answers stays in its limits.
#![no_main]

#[path = "../src/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bodies::end_at_uncaught_panics_only();
    bodies::load(bytes);
});
