//! The fuzz targets' stored inputs, and random changes of them, through the same code as there.

#[path = "../fuzz/src/bodies.rs"]
mod bodies;

use std::fs;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use fastrand::Rng;

/// The longest that one input may take, on a busy machine too.
const INPUT_MAX: Duration = Duration::from_secs(60);

/// The longest input that is made.
const BYTES_MAX: usize = 4 << 10;

/// What texts of scripts and heads are made of; a change may put one in anywhere.
const TOKENS: [&str; 42] = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "#{",
    "`",
    "${",
    "\"",
    "'",
    "\\u{",
    "|x| ",
    "=> ",
    ";",
    "\n",
    "\0",
    "/*",
    "//",
    "\u{e9}",
    "%",
    "%2f",
    "{*rest}",
    "req.",
    ".map(",
    "loop {",
    "try {",
    "} catch {",
    "switch ",
    "-9223372036854775808",
    "1e999",
    "0..",
    " + ",
    " ?? ",
    "import \"lib/l\" as l;",
    "\n---\n",
    "fn test_x() {",
    "route(\"/{a}\", |req| ",
    "proxy(",
    "app(",
    ".canary(",
    ": ",
];

struct Input {
    name: String,
    bytes: Vec<u8>,
}

fn stored(target: &str) -> Vec<Input> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut inputs: Vec<Input> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            Input {
                name: entry.file_name().to_string_lossy().into_owned(),
                bytes: fs::read(entry.path()).unwrap(),
            }
        })
        .collect();
    inputs.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(inputs.len() >= 30, "the corpus was not found");
    inputs
}

/// The stored inputs, then as many changed ones; the same in every run.
fn inputs(target: &str, changed: usize) -> Vec<Input> {
    let mut inputs = stored(target);
    let count = inputs.len();
    let mut rng = Rng::with_seed(7);
    for number in 0..changed {
        let mut bytes = inputs[rng.usize(..count)].bytes.clone();
        let name = format!("change {number}");
        for _ in 0..rng.usize(1..=4) {
            let other = &inputs[rng.usize(..count)].bytes;
            change(&mut bytes, other, &mut rng);
        }
        bytes.truncate(BYTES_MAX);
        inputs.push(Input { name, bytes });
    }
    inputs
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let part = |of: &[u8], rng: &mut Rng| {
        let begin = rng.usize(..=of.len());
        begin..rng.usize(begin..=of.len())
    };
    let at = rng.usize(..=bytes.len());
    match rng.u8(..6) {
        0 => drop(bytes.splice(at..at, rng.choice(TOKENS).unwrap_or_default().bytes())),
        1 => drop(bytes.drain(part(bytes, rng))),
        2 => bytes.extend_from_within(part(bytes, rng)),
        3 => drop(bytes.splice(at..at, other[part(other, rng)].to_vec())),
        4 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.u8(..);
            }
        }
        _ => {
            let range = part(bytes, rng);
            let token = rng.choice(TOKENS).unwrap_or_default();
            drop(bytes.splice(range, token.bytes()));
        }
    }
}

/// Gives every input to a target, and does not wait for ever when one does not come back.
fn replay(inputs: Vec<Input>, target: impl Fn(&[u8]) + Send + 'static) {
    let (begun, running) = channel();
    let replaying = std::thread::spawn(move || {
        for input in inputs {
            let text = String::from_utf8_lossy(&input.bytes).into_owned();
            begun.send(format!("{}:\n{text:?}", input.name)).unwrap();
            target(&input.bytes);
        }
    });
    let mut last = String::new();
    loop {
        match running.recv_timeout(INPUT_MAX) {
            Ok(input) => last = input,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("this takes for ever: {last}"),
        }
    }
    assert!(replaying.join().is_ok(), "this failed: {last}");
}

#[test]
fn whatever_stands_in_a_script_it_is_loaded_or_refused_and_ends() {
    replay(inputs("load", 2_000), bodies::load);
}

#[test]
fn whatever_stands_in_a_request_the_shipped_scripts_decide() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = bodies::Shipped::load(top);
    replay(inputs("heads", 3_000), move |bytes| shipped.ask(bytes));
}
