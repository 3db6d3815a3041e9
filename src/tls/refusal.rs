//! Why a certificate is refused: a line of the failure table, and the TLS alert that says as much of it as a peer may know.

use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate::{Certificate, dotted, name_text, oid};
use crate::der::{self, DerError, Reader, tag};
use crate::failure::{Cause, Failure};
use crate::tls::key;

/// id-ce-subjectAltName 2.5.29.17, nameConstraints .30, cRLDistributionPoints .31
const OTHER_KNOWN: [&[u8]; 3] = [&[0x55, 0x1D, 0x11], &[0x55, 0x1D, 0x1E], &[0x55, 0x1D, 0x1F]];

/// A refused certificate: the failure, and the error whose TLS alert says as much of it as a peer may know.
#[derive(Clone, Debug)]
pub(in crate::tls) struct Refusal {
    pub(in crate::tls) failure: Failure,
    pub(in crate::tls) alert: CertificateError,
}

impl Refusal {
    /// Bytes that are not what RFC 5280 asks for.
    pub(in crate::tls) fn malformed(detail: impl Into<String>) -> Self {
        Self { failure: Failure::new(Cause::CertificateUnsuitable, detail), alert: CertificateError::BadEncoding }
    }

    /// A certificate for something else.
    pub(in crate::tls) fn expired(detail: impl Into<String>) -> Self {
        Self { failure: Failure::new(Cause::CertificateExpired, detail), alert: CertificateError::Expired }
    }

    pub(in crate::tls) fn unsuitable(detail: impl Into<String>) -> Self {
        Self { failure: Failure::new(Cause::CertificateUnsuitable, detail), alert: CertificateError::InvalidPurpose }
    }

    /// A good certificate that the configuration does not let in.
    pub(in crate::tls) fn not_allowed(cause: Cause, detail: impl Into<String>) -> Self {
        Self { failure: Failure::new(cause, detail), alert: CertificateError::ApplicationVerificationFailure }
    }

    /// What revocation says.
    pub(in crate::tls) fn revocation(failure: Failure) -> Self {
        let alert = match failure.cause {
            Cause::CertificateRevoked => CertificateError::Revoked,
            Cause::CrlExpired => CertificateError::ExpiredRevocationList,
            _ => CertificateError::UnknownRevocationStatus,
        };
        Self { failure, alert }
    }
}

/// What the path builder was given: for the reason it does not name.
pub(in crate::tls) struct Presented<'a> {
    leaf: &'a Certificate<'a>,
    leaf_der: &'a [u8],
    /// The CA certificates it may have tried.
    cas: Vec<&'a [u8]>,
}

impl<'a> Presented<'a> {
    /// Of these CA certificates those count whose names lead up from the leaf.
    pub(in crate::tls) fn new(
        leaf: &'a Certificate<'a>,
        leaf_der: &'a [u8],
        cas: impl Iterator<Item = &'a CertificateDer<'a>>,
    ) -> Self {
        let mut unused: Vec<_> = cas.filter_map(|der| Some((Certificate::read(der).ok()?, der.as_ref()))).collect();
        let (mut names, mut used) = (vec![leaf.issuer], Vec::new());
        while let Some(name) = names.pop() {
            let (above, rest): (Vec<_>, _) = unused.into_iter().partition(|(ca, _)| ca.subject == name);
            unused = rest;
            for (ca, der) in above {
                names.push(ca.issuer);
                used.push(der);
            }
        }
        Self { leaf, leaf_der, cas: used }
    }

    /// The path builder's error as a line of the failure table.
    pub(in crate::tls) fn refusal(&self, error: webpki::Error) -> Refusal {
        use webpki::Error as E;
        let issuer = name_text(self.leaf.issuer);
        match error {
            E::CertNotValidYet { not_before, .. } => {
                timing(CertificateError::NotValidYet, format!("not valid before {}", unix(not_before)))
            }
            E::CertExpired { not_after, .. } => {
                timing(CertificateError::Expired, format!("a certificate of the chain ended {}", unix(not_after)))
            }
            E::InvalidCertValidity => timing(CertificateError::Expired, "its validity ends before it starts".to_owned()),
            E::UnknownIssuer => foreign(format!("issued by {issuer}")),
            E::InvalidSignatureForPublicKey => match self.unusable_key() {
                Some(problem) => Refusal::unsuitable(problem),
                None => {
                    foreign(format!("issued by {issuer}; a CA of the same name is known, but the signature is not by its key"))
                }
            },
            E::EmptyEkuExtension => Refusal::unsuitable("an extended key usage names nothing"),
            E::CaUsedAsEndEntity => Refusal::unsuitable("it is a CA certificate"),
            E::EndEntityUsedAsCa => Refusal::unsuitable("its issuer is not a CA"),
            E::PathLenConstraintViolated => Refusal::unsuitable("a CA's path length constraint allows no CA below it"),
            E::NameConstraintViolation => Refusal::unsuitable(
                "a CA's name constraints do not permit a name of the chain, or are about names that are not supported \
                 (directory names, user principal names)",
            ),
            E::UnsupportedCriticalExtension => Refusal::malformed(self.critical_extension()),
            E::UnsupportedSignatureAlgorithmContext(context) => self.algorithm(&context.signature_algorithm_id),
            E::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => self.algorithm(&context.signature_algorithm_id),
            E::MaximumPathDepthExceeded | E::MaximumPathBuildCallsExceeded | E::MaximumSignatureChecksExceeded => {
                Refusal::malformed(format!("the chain is too deep or too branched: {error}"))
            }
            other => Refusal::malformed(other.to_string()),
        }
    }

    fn algorithm(&self, identifier: &[u8]) -> Refusal {
        let algorithm = algorithm(identifier);
        Refusal::unsuitable(match self.unusable_key() {
            Some(problem) => format!("{algorithm}; {problem}"),
            None => format!("{algorithm} with the CA's key"),
        })
    }

    /// The first CA whose key no signature is accepted from.
    fn unusable_key(&self) -> Option<String> {
        self.cas.iter().find_map(|der| {
            let ca = Certificate::read(der).ok()?;
            let problem = key::problem(ca.public_key)?;
            Some(format!("the key of {} {problem}", name_text(ca.subject)))
        })
    }

    fn critical_extension(&self) -> String {
        let mut all = std::iter::once(self.leaf_der).chain(self.cas.iter().copied());
        let found = all.find_map(|der| {
            let oid = unknown_critical(der).ok()??;
            let subject = Certificate::read(der).map(|certificate| name_text(certificate.subject)).unwrap_or_default();
            Some(format!("extension {oid} of {subject} is critical and not supported"))
        });
        found.unwrap_or_else(|| "a critical extension is not supported".to_owned())
    }
}

/// Names the algorithms one meets.
fn algorithm(identifier: &[u8]) -> String {
    let oid = Reader::new(identifier).read(tag::OID).map(dotted).unwrap_or_default();
    let name = match oid.as_str() {
        "1.2.840.113549.1.1.4" => "md5WithRSAEncryption",
        "1.2.840.113549.1.1.5" => "sha1WithRSAEncryption",
        "1.2.840.10045.4.1" => "ecdsa-with-SHA1",
        "1.2.840.113549.1.1.10" => "RSASSA-PSS with these parameters (the salt must be as long as the hash)",
        "1.3.101.113" => "Ed448",
        _ => oid.as_str(),
    };
    format!("signature algorithm {name} is not accepted")
}

/// The first critical extension that the path builder does not know.
fn unknown_critical(der: &[u8]) -> Result<Option<String>, DerError> {
    let mut tbs = Reader::new(der::only(der, tag::SEQUENCE)?).nested(tag::SEQUENCE)?;
    while !tbs.is_empty() {
        let (found, contents) = tbs.any()?;
        if found != tag::context(3) {
            continue;
        }
        let mut list = Reader::new(der::only(contents, tag::SEQUENCE)?);
        while !list.is_empty() {
            let mut extension = list.nested(tag::SEQUENCE)?;
            let id = extension.read(tag::OID)?;
            let known =
                [oid::KEY_USAGE, oid::BASIC_CONSTRAINTS, oid::EXTENDED_KEY_USAGE].contains(&id) || OTHER_KNOWN.contains(&id);
            if extension.optional(tag::BOOLEAN)? == Some(&[0xFF]) && !known {
                return Ok(Some(dotted(id)));
            }
        }
    }
    Ok(None)
}

fn timing(alert: CertificateError, detail: String) -> Refusal {
    Refusal { failure: Failure::new(Cause::CertificateExpired, detail), alert }
}

fn foreign(detail: String) -> Refusal {
    Refusal { failure: Failure::new(Cause::UnknownIssuer, detail), alert: CertificateError::UnknownIssuer }
}

fn unix(time: UnixTime) -> String {
    shown(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Seconds since 1970 as `2026-01-31 23:59:59 UTC`.
pub(in crate::tls) fn shown(seconds: i64) -> String {
    let digits = der::format_kerberos_time(seconds);
    let text = String::from_utf8_lossy(&digits);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or("").to_owned();
    format!("{}-{}-{} {}:{}:{} UTC", part(0..4), part(4..6), part(6..8), part(8..10), part(10..12), part(12..14))
}
