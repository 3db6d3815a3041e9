//! `kcd-bridge serve`

use std::path::Path;

use crate::cli::{Exit, Output};

/// Runs the bridge.
pub(in crate::cli) fn run(_config: &Path, output: &mut Output) -> Exit {
    output.error("serve is not available in this version");
    Exit::CouldNotRun
}
