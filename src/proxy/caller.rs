//! Who is at the other end of a device's connection: what the rooms below found out, once per connection.

use std::fmt;
use std::sync::Arc;

use crate::certificate::CertificateFacts;
use crate::failure::Failure;
use crate::identity::Principal;

/// The device's side of one connection, after its certificate was verified and mapped.
#[derive(Clone)]
pub struct Caller {
    /// For the audit event, and for the grant.
    pub certificate: CertificateFacts,
    /// Whether the certificate would still be let in: connections live longer than certificates and CRLs.
    pub standing: Arc<dyn Standing>,
    /// The account the certificate stands for, or why there is none. A refusal is answered to every request of the connection.
    pub mapping: Result<Arc<Principal>, Failure>,
}

/// Asked before every request of a connection.
pub trait Standing: Send + Sync {
    /// Refuses when the certificate has expired, was revoked, or is no longer trusted. Cheap: it is asked often.
    fn still_admitted(&self) -> Result<(), Failure>;
}

impl Caller {
    /// The account, if the certificate still counts.
    pub(super) fn admit(&self) -> Result<&Arc<Principal>, Failure> {
        self.standing.still_admitted()?;
        self.mapping.as_ref().map_err(Clone::clone)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("certificate", &self.certificate).field("mapping", &self.mapping).finish_non_exhaustive()
    }
}
