//! What identifies a certificate and a CA's key.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::certificate::{Certificate, hex, name};

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
            not_after: read.as_ref().map_or(0, |certificate| certificate.not_after),
            serial: read.map(|certificate| hex(certificate.serial.get(..64).unwrap_or(certificate.serial))).unwrap_or_default(),
        }
    }
}
