//! Whether certificates are revoked: CRLs from files, directories and distribution points, and OCSP (RFC 5280 section 5, RFC 6960).
//!
//! What memory knows is said at once, during the handshake; what has to be fetched or verified first is done afterwards, once for
//! all who wait, and never for a chain that was not verified. *Revoked* and *badly signed* are never overruled by anything.

#![forbid(unsafe_code)]

mod config;
mod fetch;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod ocsp;
mod engine;

use rustls_pki_types::UnixTime;

use crate::certificate::Certificate;
use crate::failure::Failure;

pub use config::{OcspConfig, RevocationConfig, RevocationOrder, RevocationPolicy};
pub(crate) use engine::OwnedAuthority;
pub use engine::Revocation;

/// A CA on a verified path, as the certificate below it sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'a> {
    /// Contents of its Name.
    pub(crate) subject: &'a [u8],
    /// SubjectPublicKeyInfo, header included.
    pub(crate) public_key: &'a [u8],
    /// SubjectKeyIdentifier, where known.
    pub(crate) key_identifier: Option<&'a [u8]>,
    /// Whether its key usage allows cRLSign (absent usage does).
    pub(crate) may_sign_crls: bool,
}

/// One certificate of a verified path and the CA that signed it.
#[derive(Clone, Debug)]
pub(crate) struct Link<'a> {
    pub(crate) certificate: Certificate<'a>,
    pub(crate) issuer: Authority<'a>,
    /// What its issuer's certificates are held to.
    pub(crate) policy: RevocationPolicy,
}

/// What is known about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not revoked, or revocation is not asked about, or policy `prefer` lets it pass; until then.
    Clear {
        /// When it has to be asked again at the latest.
        until: UnixTime,
        /// Why it passed although nothing vouches for it (policy `prefer`).
        open: Option<Failure>,
    },
    /// Revoked, badly signed, or unknown for certain.
    Refused(Failure),
    /// Memory does not know; [`Revocation::settle`] may.
    Open(Failure),
}
