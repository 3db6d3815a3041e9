//! One event per request and per refused handshake.

#![forbid(unsafe_code)]

use std::path::PathBuf;

/// `[audit]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditConfig {
    /// `file`: JSON lines are appended (created 0600); absent: standard output
    pub file: Option<PathBuf>,
}
