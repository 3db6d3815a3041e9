//! `kcd-bridge doctor`

use crate::cli::{DoctorArgs, Exit, Output};

/// Tries delegation stage by stage.
pub(in crate::cli) fn run(_args: &DoctorArgs, output: &mut Output) -> Exit {
    output.error("doctor is not available in this version");
    Exit::CouldNotRun
}
