//! Who is at the other end of a device's connection: what the rooms above found out, once per connection.

use std::sync::Arc;
use std::time::SystemTime;

use crate::failure::{Cause, Failure};
use crate::identity::Principal;
use crate::policy::Fingerprint;

/// The device's side of one connection, after its certificate was verified and mapped.
#[derive(Clone, Debug)]
pub struct Caller {
    /// For the audit event, and for the grant.
    pub certificate: CertificateFacts,
    /// The account the certificate stands for, or why there is none. A refusal is answered to every request of the connection.
    pub mapping: Result<Arc<Principal>, Failure>,
}

/// What the proxy needs to know of a verified certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// SHA-256 of its DER.
    pub fingerprint: Fingerprint,
    /// Issuer's distinguished name.
    pub issuer: String,
    /// Serial number, hex.
    pub serial: String,
    /// End of its validity.
    pub not_after: SystemTime,
}

impl Caller {
    /// The account, if the certificate is still valid now: connections live longer than certificates.
    pub(super) fn admit(&self, now: SystemTime) -> Result<&Arc<Principal>, Failure> {
        if now > self.certificate.not_after {
            return Err(Failure::new(Cause::CertificateExpired, "it expired while its connection was open"));
        }
        self.mapping.as_ref().map_err(Clone::clone)
    }
}
