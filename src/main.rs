//! The command `wakegate`.

use std::process::ExitCode;

use wakegate::demo;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(demo::SAMPLE_COMMAND) => demo::run_sample(),
        _ => {
            eprintln!("usage: wakegate {}", demo::SAMPLE_COMMAND);
            ExitCode::from(2)
        }
    }
}
