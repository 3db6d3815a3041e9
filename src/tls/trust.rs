//! Which client certificates are admitted: the only maker of [`ClientCertificate`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::{CertificateError, DistinguishedName};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, RevocationCheckDepth, RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy,
    VerifiedPath,
};

use crate::certificate::{Certificate, KeyFingerprint, LoadError, dotted, key_usage, name_text, oid, read_certificate_chain};
use crate::der;
use crate::failure::{Cause, Failure};
use crate::tls::{ClientCertificate, ClientTrustConfig, RevocationConfig, crl};

/// No public-key infrastructure for devices is deeper.
const MAX_CHAIN_CERTIFICATES: usize = 10;
const MAX_CHAIN_BYTES: usize = 64 << 10;

/// CA names in the certificate request, in bytes; the field holds 65535. With more, none are sent and devices choose freely.
const MAX_ISSUER_NAMES: usize = 32 << 10;

/// How long a verified chain is believed without asking again.
const MAX_ADMISSION_AGE: Duration = Duration::from_mins(1);

static TRUSTS: AtomicU64 = AtomicU64::new(1);

/// Trust anchors, intermediates and revocation lists as they are now. Immutable: new files make a new one.
pub struct Trust {
    /// Another for every loaded trust of this process.
    id: u64,
    anchors: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
    /// `None`: revocation is off, as configured.
    crls: Option<Vec<CertRevocationList<'static>>>,
    issuers: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A refused certificate: the failure, and the error whose TLS alert says as much of it as a peer may know.
#[derive(Debug)]
pub(in crate::tls) struct Refusal {
    pub(in crate::tls) failure: Failure,
    pub(in crate::tls) alert: CertificateError,
}

impl Trust {
    /// Reads all files.
    pub fn load(config: &ClientTrustConfig) -> Result<Self, LoadError> {
        let (mut anchors, mut intermediates, mut issuers) = (Vec::new(), Vec::new(), Vec::new());
        for path in &config.trust_anchors {
            for certificate in read_certificate_chain(path)? {
                issuers.push(issuer_name(path, &certificate)?);
                let anchor =
                    webpki::anchor_from_trusted_cert(&certificate).map_err(|error| not_a_ca(path, &error.to_string()))?;
                anchors.push(anchor.to_owned());
            }
        }
        for path in &config.intermediates {
            for certificate in read_certificate_chain(path)? {
                issuers.push(issuer_name(path, &certificate)?);
                intermediates.push(certificate);
            }
        }
        issuers.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        issuers.dedup_by(|one, other| one.as_ref() == other.as_ref());
        if issuers.iter().map(|name: &DistinguishedName| name.as_ref().len() + 2).sum::<usize>() > MAX_ISSUER_NAMES {
            tracing::warn!(count = issuers.len(), "too many CA names for a certificate request: none are sent");
            issuers.clear();
        }
        let crls = match &config.revocation {
            RevocationConfig::Off => {
                tracing::warn!(
                    "client certificates are NOT checked for revocation (client_certificates.revocation.policy = \"off\")"
                );
                None
            }
            RevocationConfig::Require { crl_files } => Some(crl::load(crl_files)?),
        };
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let id = TRUSTS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, anchors, intermediates, crls, issuers, algorithms })
    }

    /// Verifies a chain, leaf first, as of `now`: to a trust anchor, within validity, for client authentication, not revoked.
    pub fn admit(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<ClientCertificate, Failure> {
        self.examine(chain, now).map_err(|refusal| refusal.failure)
    }

    /// Whether an admitted certificate would be admitted now, by this trust. To be asked before every request: the chain is
    /// verified again where another trust did it, or this one a minute ago, so that neither a revoked nor an expired certificate
    /// lives on in a kept connection.
    pub fn still_admits(&self, certificate: &ClientCertificate, now: UnixTime) -> Result<(), Failure> {
        if certificate.admitted_lately(self.id, now, MAX_ADMISSION_AGE) && certificate.valid_at(now) {
            return Ok(());
        }
        let presented = std::iter::once(certificate.leaf()).chain(certificate.intermediates());
        let chain: Vec<_> = presented.map(|der| CertificateDer::from(der.as_ref())).collect();
        self.admit(&chain, now)?;
        certificate.note_admission(self.id, now);
        Ok(())
    }

    /// Names of the CAs whose certificates may be admitted, for the certificate request.
    pub(in crate::tls) fn issuers(&self) -> &[DistinguishedName] {
        &self.issuers
    }

    /// Signature algorithms of certificates and handshakes.
    pub(in crate::tls) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// [`admit`](Self::admit), with the alert for the peer.
    pub(in crate::tls) fn examine(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<ClientCertificate, Refusal> {
        let (leaf, presented) = chain
            .split_first()
            .ok_or_else(|| Refusal { failure: Cause::NoCertificate.into(), alert: CertificateError::BadEncoding })?;
        if chain.len() > MAX_CHAIN_CERTIFICATES || chain.iter().map(|der| der.len()).sum::<usize>() > MAX_CHAIN_BYTES {
            return Err(malformed(format!(
                "the chain has more than {MAX_CHAIN_CERTIFICATES} certificates or {MAX_CHAIN_BYTES} bytes"
            )));
        }
        let certificate = Certificate::read(leaf).map_err(|error| malformed(error.to_string()))?;
        let end_entity = EndEntityCert::try_from(leaf).map_err(|error| malformed(error.to_string()))?;
        let intermediates: Vec<CertificateDer<'_>> =
            presented.iter().chain(&self.intermediates).map(|der| CertificateDer::from(der.as_ref())).collect();
        let lists: Vec<&CertRevocationList<'_>> = self.crls.iter().flatten().collect();
        let revocation = match self.crls {
            None => None,
            Some(_) => Some(revocation_options(&lists)?),
        };
        let path = end_entity
            .verify_for_usage(self.algorithms.all, &self.anchors, &intermediates, now, ClientAuth, revocation, None)
            .map_err(|error| refusal(error, &certificate))?;
        check_leaf(&certificate)?;
        check_issuers(&path)?;
        Ok(ClientCertificate::verified(leaf, presented, &certificate, KeyFingerprint::of(&path.issuer_spki()), (self.id, now)))
    }
}

/// The subject of a CA certificate, as a certificate request names it.
fn issuer_name(path: &std::path::Path, der: &CertificateDer<'_>) -> Result<DistinguishedName, LoadError> {
    let certificate = Certificate::read(der).map_err(|error| not_a_ca(path, &error.to_string()))?;
    let subject = name_text(certificate.subject);
    if certificate.is_ca() != Ok(true) {
        return Err(not_a_ca(path, &format!("{subject} is not marked as a CA")));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if u64::try_from(certificate.not_after).is_ok_and(|end| end < now) {
        tracing::warn!(file = %path.display(), subject, ended = shown(certificate.not_after), "CA certificate has expired");
    }
    Ok(DistinguishedName::in_sequence(certificate.subject))
}

fn not_a_ca(path: &std::path::Path, why: &str) -> LoadError {
    LoadError::new(
        path,
        format!("is not a usable CA certificate: {why}"),
        "name the certificate of a CA that issues device certificates",
    )
}

/// Every certificate of the chain, unknown status refused, nextUpdate enforced.
fn revocation_options<'a>(lists: &'a [&'a CertRevocationList<'a>]) -> Result<RevocationOptions<'a>, Refusal> {
    let builder = RevocationOptionsBuilder::new(lists).map_err(|_| Refusal {
        failure: Failure::new(Cause::RevocationUnknown, "no CRL is loaded"),
        alert: CertificateError::UnknownRevocationStatus,
    })?;
    Ok(builder
        .with_depth(RevocationCheckDepth::Chain)
        .with_status_policy(UnknownStatusPolicy::Deny)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build())
}

/// Extended key usage of every certificate of a path: where there is one it must name clientAuth; anyExtendedKeyUsage is not enough.
/// OIDs are compared as encoded. The leaf must have one besides, see [`check_leaf`].
struct ClientAuth;

impl ExtendedKeyUsageValidator for ClientAuth {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let (mut absent, mut named) = (true, false);
        for usage in usages {
            absent = false;
            named |= usage? == KeyPurposeId::new(oid::CLIENT_AUTH);
        }
        if absent || named {
            return Ok(());
        }
        let context = RequiredEkuNotFoundContext { required: KeyUsage::client_auth(), present: Vec::new() };
        Err(webpki::Error::RequiredEkuNotFoundContext(context))
    }
}

/// What the path builder does not ask of a leaf.
fn check_leaf(leaf: &Certificate<'_>) -> Result<(), Refusal> {
    match leaf.extended_key_usages().map_err(|error| malformed(format!("extended key usage: {error}")))? {
        Some(usages) if usages.contains(&oid::CLIENT_AUTH) => {}
        _ => return Err(unsuitable(usages_of(leaf))),
    }
    if leaf.is_ca().map_err(|error| malformed(format!("basic constraints: {error}")))? {
        return Err(unsuitable("it is a CA certificate"));
    }
    match leaf.key_usage().map_err(|error| malformed(format!("key usage: {error}")))? {
        Some(bits) if bits & key_usage::DIGITAL_SIGNATURE == 0 => Err(unsuitable("its key usage lacks digitalSignature")),
        _ => Ok(()),
    }
}

/// What the path builder does not ask of the CAs between leaf and anchor: keyCertSign (RFC 5280 section 6.1.4 (n)).
fn check_issuers(path: &VerifiedPath<'_>) -> Result<(), Refusal> {
    for issuer in path.intermediate_certificates() {
        let der = issuer.der();
        let issuer = Certificate::read(&der).map_err(|error| malformed(format!("an intermediate: {error}")))?;
        let usage = issuer.key_usage().map_err(|error| malformed(format!("an intermediate's key usage: {error}")))?;
        if usage.is_some_and(|bits| bits & key_usage::KEY_CERT_SIGN == 0) {
            return Err(unsuitable(format!("the key usage of {} lacks keyCertSign", name_text(issuer.subject))));
        }
    }
    Ok(())
}

fn usages_of(leaf: &Certificate<'_>) -> String {
    match leaf.extended_key_usages() {
        Ok(Some(usages)) => {
            let listed: Vec<_> = usages.iter().take(8).map(|usage| dotted(usage)).collect();
            format!("its extended key usage is {}, not clientAuth 1.3.6.1.5.5.7.3.2", listed.join(" "))
        }
        _ => "it has no extended key usage; clientAuth 1.3.6.1.5.5.7.3.2 is required".to_owned(),
    }
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal { failure: Failure::new(Cause::CertificateUnsuitable, detail), alert: CertificateError::BadEncoding }
}

fn unsuitable(detail: impl Into<String>) -> Refusal {
    Refusal { failure: Failure::new(Cause::CertificateUnsuitable, detail), alert: CertificateError::InvalidPurpose }
}

/// The path builder's error as a line of the failure table.
fn refusal(error: webpki::Error, leaf: &Certificate<'_>) -> Refusal {
    use webpki::Error as E;
    let (cause, alert, detail) = match error {
        E::CertNotValidYet { not_before, .. } => {
            (Cause::CertificateExpired, CertificateError::NotValidYet, format!("not valid before {}", unix(not_before)))
        }
        E::CertExpired { not_after, .. } => (
            Cause::CertificateExpired,
            CertificateError::Expired,
            format!("a certificate of the chain ended {}", unix(not_after)),
        ),
        E::InvalidCertValidity => {
            (Cause::CertificateExpired, CertificateError::Expired, "its validity ends before it starts".to_owned())
        }
        E::UnknownIssuer => (Cause::UnknownIssuer, CertificateError::UnknownIssuer, issued_by(leaf)),
        E::InvalidSignatureForPublicKey => {
            let detail = format!("{}; a CA of the same name is known, but the signature is not by its key", issued_by(leaf));
            (Cause::UnknownIssuer, CertificateError::UnknownIssuer, detail)
        }
        E::CertRevoked => (Cause::CertificateRevoked, CertificateError::Revoked, issued_by(leaf)),
        E::CrlExpired { next_update, .. } => {
            (Cause::CrlExpired, CertificateError::ExpiredRevocationList, format!("nextUpdate was {}", unix(next_update)))
        }
        E::UnknownRevocationStatus => {
            let detail = format!("no CRL covers a certificate of the chain; the leaf was {}", issued_by(leaf));
            (Cause::RevocationUnknown, CertificateError::UnknownRevocationStatus, detail)
        }
        E::InvalidCrlSignatureForPublicKey
        | E::IssuerNotCrlSigner
        | E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            let detail = format!("the issuer's CRL cannot be trusted: {error}");
            (Cause::RevocationUnknown, CertificateError::UnknownRevocationStatus, detail)
        }
        E::RequiredEkuNotFoundContext(_) => return unsuitable(usages_of(leaf)),
        E::EmptyEkuExtension => return unsuitable("an extended key usage names nothing"),
        E::CaUsedAsEndEntity => return unsuitable("it is a CA certificate"),
        E::EndEntityUsedAsCa => return unsuitable("its issuer is not a CA"),
        E::UnsupportedSignatureAlgorithmContext(_) | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            return unsuitable(
                "a signature algorithm of the chain is not accepted (SHA-1, MD5, RSA below 2048 bits or an unsupported curve)",
            );
        }
        other => return malformed(other.to_string()),
    };
    Refusal { failure: Failure::new(cause, detail), alert }
}

fn issued_by(leaf: &Certificate<'_>) -> String {
    format!("issued by {}", name_text(leaf.issuer))
}

fn unix(time: UnixTime) -> String {
    shown(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Seconds since 1970 as `2026-01-31 23:59:59 UTC`.
fn shown(seconds: i64) -> String {
    let digits = der::format_kerberos_time(seconds);
    let text = String::from_utf8_lossy(&digits);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or("").to_owned();
    format!("{}-{}-{} {}:{}:{} UTC", part(0..4), part(4..6), part(6..8), part(8..10), part(10..12), part(12..14))
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("anchors", &self.anchors.len())
            .field("intermediates", &self.intermediates.len())
            .field("crls", &self.crls.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}
