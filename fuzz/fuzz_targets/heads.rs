//! Any bytes as the head of a request: every script that is shipped has an answer to it.
#![no_main]

#[path = "../src/bodies.rs"]
mod bodies;

use std::path::Path;
use std::sync::LazyLock;

static SHIPPED: LazyLock<bodies::Shipped> = LazyLock::new(|| {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    bodies::Shipped::load(&top)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bodies::end_at_uncaught_panics_only();
    SHIPPED.ask(bytes);
});
