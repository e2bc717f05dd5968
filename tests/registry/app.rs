//! What this program does inside a container.

use std::io::Write;
use std::process::ExitCode;

/// The first argument that makes this program the application in a container.
pub const IN_CONTAINER: &str = "in-container";

/// The last whole line that is printed.
pub const DONE: &str = "that is all";

/// What is printed after it, without an end of line.
pub const UNFINISHED: &str = "but for this";

/// The application's modes: `wait` does nothing until it is killed; `print` prints what `logs.rs`
/// expects and ends; `print-and-wait` does both.
pub fn run_if_asked() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [_, IN_CONTAINER, mode] = arguments.as_slice() else {
        return None;
    };
    if mode.starts_with("print") {
        print();
    }
    if mode.ends_with("wait") {
        loop {
            std::thread::park();
        }
    }
    Some(ExitCode::SUCCESS)
}

fn print() {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    for number in 1..=5 {
        writeln!(err, "error {number}").unwrap();
    }
    for number in 1..=100 {
        writeln!(out, "line {number}").unwrap();
    }
    // More than one piece of the engine's, which are of 16 KiB.
    out.write_all(&[b'x'; 40_000]).unwrap();
    out.write_all(b"\n\x01\x02begins with control characters\n")
        .unwrap();
    out.write_all(b"\x1b[1;31mred\x1b[0m\ta\xffb\n").unwrap();
    writeln!(out, "{DONE}").unwrap();
    write!(out, "{UNFINISHED}").unwrap();
    out.flush().unwrap();
}
