//! The command `wakegate`.

use std::process::ExitCode;

fn main() -> ExitCode {
    wakegate::cli::run()
}
