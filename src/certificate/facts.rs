//! What identifies a certificate and a CA's key.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::certificate::{Certificate, Template, dotted, hex, name};

/// SHA-256 of a leaf certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of these DER bytes.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// SHA-256 of a SubjectPublicKeyInfo: names a CA by its key, whatever its certificate says.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyFingerprint([u8; 32]);

impl KeyFingerprint {
    /// Of this SubjectPublicKeyInfo, header included.
    pub(crate) fn of(public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(public_key_info).into())
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFingerprint({self})")
    }
}

/// What a presented certificate says of itself, verified or not: for logs and audit events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// SHA-256 of the leaf.
    pub fingerprint: Fingerprint,
    /// Issuer, RFC 4514; empty where the certificate could not be read.
    pub issuer: String,
    /// Subject, RFC 4514; empty where the certificate could not be read.
    pub subject: String,
    /// Serial number in hexadecimal, as encoded.
    pub serial: String,
    /// AD CS templates it was issued from: names of version 1, OIDs of version 2; none where they cannot be read.
    pub templates: Vec<String>,
    /// Certificate policies it asserts, as dotted OIDs; none where they cannot be read.
    pub policies: Vec<String>,
    /// End of validity, seconds since 1970; 0 where the certificate could not be read.
    pub not_after: i64,
}

impl CertificateFacts {
    /// Whatever can be read of these bytes.
    pub(crate) fn of(leaf: &[u8]) -> Self {
        let read = Certificate::read(leaf).ok();
        Self {
            fingerprint: Fingerprint::of(leaf),
            issuer: read.as_ref().map(|certificate| name::text(certificate.issuer)).unwrap_or_default(),
            subject: read.as_ref().map(|certificate| name::text(certificate.subject)).unwrap_or_default(),
            templates: listed(read.as_ref().and_then(|certificate| certificate.templates().ok()), |template| match template {
                Template::Name(text) | Template::Oid(text) => text,
            }),
            policies: listed(read.as_ref().and_then(|certificate| certificate.policies().ok()), dotted),
            not_after: read.as_ref().map_or(0, |certificate| certificate.not_after),
            serial: read.map(|certificate| hex(certificate.serial.get(..64).unwrap_or(certificate.serial))).unwrap_or_default(),
        }
    }
}

/// What a log shows of a list that a peer wrote: a few members, none of them long.
fn listed<T>(members: Option<Vec<T>>, text: impl Fn(T) -> String) -> Vec<String> {
    let shown = |member| text(member).chars().filter(|c| !c.is_control()).take(128).collect();
    members.unwrap_or_default().into_iter().take(8).map(shown).collect()
}
