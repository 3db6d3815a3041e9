//! The `kcd-bridge` command: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    kcd_bridge::cli::main()
}
