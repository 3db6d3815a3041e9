//! The client certificate: a fact only once [`Trust::admit`](crate::tls::Trust::admit) has verified its chain.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate::{Certificate, CertificateFacts, Fingerprint, KeyFingerprint};

/// A client certificate whose chain was verified: to a trust anchor, in time, for client authentication, not revoked.
/// Cheap to clone. That it was admitted once does not keep it so: whoever holds one over time asks
/// [`Trust::still_admits`](crate::tls::Trust::still_admits).
#[derive(Clone)]
pub struct ClientCertificate(Arc<Verified>);

struct Verified {
    leaf: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    issuer_key: KeyFingerprint,
    facts: CertificateFacts,
    not_before: UnixTime,
    not_after: UnixTime,
    admission: Admission,
}

/// By which trust, and when (seconds since 1970), the chain was last verified.
#[derive(Debug)]
struct Admission {
    trust: AtomicU64,
    at: AtomicU64,
}

impl ClientCertificate {
    /// Only [`Trust::admit`](crate::tls::Trust::admit) calls this, with the leaf read and the key that verified its signature.
    pub(in crate::tls) fn verified(
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        certificate: &Certificate<'_>,
        issuer_key: KeyFingerprint,
        (trust, now): (u64, UnixTime),
    ) -> Self {
        let seconds = |time: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time).unwrap_or(0)));
        Self(Arc::new(Verified {
            leaf: leaf.clone().into_owned(),
            intermediates: intermediates.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            issuer_key,
            facts: CertificateFacts::of(leaf),
            not_before: seconds(certificate.not_before),
            not_after: seconds(certificate.not_after),
            admission: Admission { trust: AtomicU64::new(trust), at: AtomicU64::new(now.as_secs()) },
        }))
    }

    /// Whether this trust verified the chain less than `age` before `now`. A clock that went back makes it older, not younger.
    pub(in crate::tls) fn admitted_lately(&self, trust: u64, now: UnixTime, age: Duration) -> bool {
        let admission = &self.0.admission;
        admission.trust.load(Ordering::Relaxed) == trust
            && now.as_secs().checked_sub(admission.at.load(Ordering::Relaxed)).is_some_and(|passed| passed < age.as_secs())
    }

    /// This trust has just verified the chain again. Racing notes can pair one's trust with the other's time; both are of now.
    pub(in crate::tls) fn note_admission(&self, trust: u64, now: UnixTime) {
        self.0.admission.trust.store(trust, Ordering::Relaxed);
        self.0.admission.at.store(now.as_secs(), Ordering::Relaxed);
    }

    /// A certificate for unit tests of the rooms above.
    #[cfg(test)]
    pub(crate) fn for_test(leaf: &[u8], issuer_public_key: &[u8]) -> Self {
        let read = Certificate::read(leaf).expect("a readable certificate");
        let now = (0, UnixTime::since_unix_epoch(Duration::ZERO));
        Self::verified(&CertificateDer::from(leaf), &[], &read, KeyFingerprint::of(issuer_public_key), now)
    }

    /// The leaf's DER.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.0.leaf
    }

    /// What else the device presented.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.0.intermediates
    }

    /// SHA-256 of the leaf.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.facts.fingerprint
    }

    /// The key that signed the leaf, on the verified path.
    pub fn issuer_key(&self) -> KeyFingerprint {
        self.0.issuer_key
    }

    /// Issuer, subject and serial as text.
    pub fn facts(&self) -> &CertificateFacts {
        &self.0.facts
    }

    /// Start of validity.
    pub fn not_before(&self) -> UnixTime {
        self.0.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> UnixTime {
        self.0.not_after
    }

    /// Whether the certificate itself is within its validity period. Says nothing about revocation.
    pub fn valid_at(&self, now: UnixTime) -> bool {
        self.0.not_before <= now && now <= self.0.not_after
    }
}

/// The same leaf, presented with the same intermediates and verified by the same issuer.
impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.0, &other.0);
        one.leaf == other.leaf && one.intermediates == other.intermediates && one.issuer_key == other.issuer_key
    }
}

impl Eq for ClientCertificate {}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientCertificate").field(&self.0.facts).finish()
    }
}
