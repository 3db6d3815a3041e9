//! One event per request and per refused handshake.
//!
//! A place in the log's queue is taken ([`AuditLog::reserve`]) before a request starts. So emitting an event never waits, never
//! fails and can be done while a cancelled request is being dropped; a slow disk makes new requests wait instead.

#![forbid(unsafe_code)]

mod event;
mod log;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub(crate) use event::milliseconds;
pub use event::{Certificate, Event, Kind, Outcome, StageTime, Ticket, flag_names, timestamp};
pub use log::{AuditLog, AuditWriter, Slot};

/// `[audit]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditConfig {
    /// `file`: JSON lines are appended (created 0600); absent: standard output
    pub file: Option<PathBuf>,
}
