//! Arguments, exit codes, and the only place that prints.

use std::process::ExitCode;

/// Runs the command line.
pub fn main() -> ExitCode {
    ExitCode::from(3)
}
