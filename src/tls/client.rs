//! The client certificate: a fact only once [`Trust`](crate::tls::Trust) has verified its chain and settled its revocation.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate::{CertificateFacts, Fingerprint, KeyFingerprint};
use crate::failure::Failure;
use crate::tls::VerifiedChain;
use crate::tls::admission::{Admission, Admissions};

/// A client certificate whose chain was verified: to a trust anchor, in time, for client authentication, not revoked.
/// Cheap to clone. That it was admitted once does not keep it so: whoever holds one over time asks
/// [`Trust::still_admits`](crate::tls::Trust::still_admits).
#[derive(Clone)]
pub struct ClientCertificate(Arc<Admitted>);

struct Admitted {
    chain: VerifiedChain,
    admissions: Admissions,
}

impl ClientCertificate {
    /// Only [`Trust::settle`](crate::tls::Trust::settle) calls this, with what the second stage found.
    pub(in crate::tls) fn admitted(chain: VerifiedChain, admission: Admission) -> Self {
        Self(Arc::new(Admitted { chain, admissions: Admissions::new(admission) }))
    }

    /// A certificate for unit tests of the rooms above.
    #[cfg(test)]
    pub(crate) fn for_test(leaf: &[u8], issuer_public_key: &[u8]) -> Self {
        let read = crate::certificate::Certificate::read(leaf).expect("a readable certificate");
        let (not_before, not_after) = VerifiedChain::validity(&read);
        let until = crate::revocation::Verdict::Clear { until: not_after, open: None };
        let chain = VerifiedChain {
            path: vec![CertificateDer::from(leaf).into_owned()],
            presented: vec![],
            issuer_key: KeyFingerprint::of(issuer_public_key),
            facts: CertificateFacts::of(leaf),
            not_before,
            not_after,
            valid_until: not_after,
            trust: 0,
            verdict: until,
            generation: 0,
        };
        Self::admitted(chain, Admission { trust: 0, generation: 0, from: 0, until: 0, unvouched: None })
    }

    pub(in crate::tls) fn chain(&self) -> &VerifiedChain {
        &self.0.chain
    }

    pub(in crate::tls) fn admissions(&self) -> &Admissions {
        &self.0.admissions
    }

    /// The leaf's DER.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        self.0.chain.leaf()
    }

    /// What else the device presented.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.0.chain.presented
    }

    /// The path as it was first verified: the leaf, the CAs between, the configured anchor.
    pub fn path(&self) -> &[CertificateDer<'static>] {
        &self.0.chain.path
    }

    /// SHA-256 of the leaf.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.chain.facts.fingerprint
    }

    /// The key that signed the leaf, on the verified path.
    pub fn issuer_key(&self) -> KeyFingerprint {
        self.0.chain.issuer_key
    }

    /// What the certificate of the CA says that signed the leaf, on the path as it was first verified.
    pub fn issuer(&self) -> CertificateFacts {
        CertificateFacts::of(self.path().get(1).map_or(&[], AsRef::as_ref))
    }

    /// Issuer, subject and serial as text.
    pub fn facts(&self) -> &CertificateFacts {
        &self.0.chain.facts
    }

    /// Why it is let in although nothing says that it is not revoked (policy `prefer`); mostly nothing.
    pub fn unvouched(&self) -> Option<Failure> {
        self.0.admissions.unvouched()
    }

    /// Start of validity.
    pub fn not_before(&self) -> UnixTime {
        self.0.chain.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> UnixTime {
        self.0.chain.not_after
    }

    /// Whether the certificate itself is within its validity period. Says nothing about revocation.
    pub fn valid_at(&self, now: UnixTime) -> bool {
        self.not_before() <= now && now <= self.not_after()
    }
}

/// The same leaf, presented with the same intermediates and verified by the same issuer.
impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.0.chain, &other.0.chain);
        one.leaf() == other.leaf() && one.presented == other.presented && one.issuer_key == other.issuer_key
    }
}

impl Eq for ClientCertificate {}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientCertificate").field(&self.0.chain.facts).finish()
    }
}
