//! Whether certificates are revoked: CRLs from files, directories and distribution points, and OCSP (RFC 5280 section 5, RFC 6960).
//!
//! What memory knows is said at once, during the handshake; what has to be fetched or verified first is done afterwards, once for
//! all who wait, and never for a chain that was not verified. *Revoked* is overruled only by a newer word of its own source; what is
//! *badly signed* never vouches and never lets anybody pass.
//!
//! ```text
//! engine    Revocation: what a path is told, from memory or after asking
//! settle    asking: verifying lists, fetching them, OCSP; once for all who wait
//! outside   who is asked
//! refresh   fetching ahead of nextUpdate, back-off, forgetting
//! files     lists in files and directories, read again when they change
//! judge     what the lists held say of one certificate
//! lists     the lists held: by issuer and key, newest first, never back
//! fetch     distribution points, within the operator's limits
//! ocsp      responders
//! crl       a CertificateList, read strictly
//! entries   revoked serial numbers, a million of them
//! tally     what was decided and what is held, for metrics
//! ```

#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod bench;
mod config;
mod crl;
mod engine;
mod entries;
mod fetch;
mod files;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod judge;
mod lists;
mod ocsp;
mod outside;
mod refresh;
mod settle;
mod tally;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;

use std::fmt;

use rustls_pki_types::UnixTime;

use crate::certificate::{Certificate, key_usage};
use crate::der::DerError;
use crate::failure::Failure;

pub use config::{OcspConfig, RevocationConfig, RevocationOrder, RevocationPolicy};
pub use engine::Revocation;
pub(crate) use fetch::{FetchCounts, ListSource};
pub(crate) use ocsp::OcspCounts;
pub use tally::{Decision, ListFacts};

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

/// An [`Authority`] that lives on its own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct OwnedAuthority {
    pub(crate) subject: Box<[u8]>,
    pub(crate) public_key: Box<[u8]>,
    pub(crate) key_identifier: Option<Box<[u8]>>,
    pub(crate) may_sign_crls: bool,
}

impl<'a> Authority<'a> {
    /// What a CA's certificate says of it.
    pub(crate) fn of(certificate: &Certificate<'a>) -> Result<Self, DerError> {
        Ok(Self {
            subject: certificate.subject,
            public_key: certificate.public_key,
            key_identifier: certificate.subject_key()?,
            may_sign_crls: certificate.key_usage()?.is_none_or(|usage| usage & key_usage::CRL_SIGN != 0),
        })
    }

    pub(crate) fn to_owned(self) -> OwnedAuthority {
        OwnedAuthority {
            subject: self.subject.into(),
            public_key: self.public_key.into(),
            key_identifier: self.key_identifier.map(Into::into),
            may_sign_crls: self.may_sign_crls,
        }
    }
}

impl fmt::Debug for OwnedAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedAuthority({})", crate::certificate::name_text(&self.subject))
    }
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
