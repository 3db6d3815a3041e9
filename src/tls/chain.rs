//! A chain after the first stage: verified, and not yet a client certificate.

use std::fmt;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate::{Certificate, CertificateFacts, KeyFingerprint};
use crate::revocation::Verdict;

/// A chain that was verified to a trust anchor, and which nothing in memory says to be revoked. It lets nobody in:
/// [`Trust::settle`](crate::tls::Trust::settle) makes a [`ClientCertificate`](crate::tls::ClientCertificate) of it.
pub struct VerifiedChain {
    /// Leaf first, anchor last.
    pub(in crate::tls) path: Vec<CertificateDer<'static>>,
    /// What the device sent besides the leaf.
    pub(in crate::tls) presented: Vec<CertificateDer<'static>>,
    pub(in crate::tls) issuer_key: KeyFingerprint,
    pub(in crate::tls) facts: CertificateFacts,
    pub(in crate::tls) not_before: UnixTime,
    pub(in crate::tls) not_after: UnixTime,
    /// The last second at which every certificate of the path is valid.
    pub(in crate::tls) valid_until: UnixTime,
    /// The trust that verified it.
    pub(in crate::tls) trust: u64,
    /// What was known about revocation, and as of which generation.
    pub(in crate::tls) verdict: Verdict,
    pub(in crate::tls) generation: u64,
}

impl VerifiedChain {
    /// The leaf's DER.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        // A path holds its leaf; an empty one, which nobody makes, shows as an unreadable certificate.
        static NONE: CertificateDer<'static> = CertificateDer::from_slice(&[]);
        self.path.first().unwrap_or(&NONE)
    }

    /// Issuer, subject and serial as text.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Whether revocation is still to be asked about.
    pub fn is_open(&self) -> bool {
        matches!(self.verdict, Verdict::Open(_))
    }

    /// The chain as it was presented, leaf first.
    pub(in crate::tls) fn as_presented(&self) -> Vec<CertificateDer<'_>> {
        std::iter::once(self.leaf()).chain(&self.presented).map(|der| CertificateDer::from(der.as_ref())).collect()
    }

    /// The leaf's own validity period.
    pub(in crate::tls) fn validity(leaf: &Certificate<'_>) -> (UnixTime, UnixTime) {
        (time(leaf.not_before), time(leaf.not_after))
    }
}

/// Seconds since 1970; what was before counts as then.
pub(in crate::tls) fn time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

impl fmt::Debug for VerifiedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedChain").field("facts", &self.facts).field("verdict", &self.verdict).finish_non_exhaustive()
    }
}
