//! What a certificate says; nothing is believed yet.
//!
//! Read strictly: of two ways to understand a certificate neither is taken. A malformed or doubled name or SID refuses the
//! certificate, also where no rule would have used it.

#![forbid(unsafe_code)]

pub mod alt_security;
mod alternative_names;
mod distinguished_name;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod name_match;
mod sid_extension;
#[cfg(test)]
mod testkit;
mod upn;

use sha1::{Digest, Sha1};

use crate::certificate::{Certificate, Fingerprint, Template, dotted};
use crate::der::{self, DerError, Reader, tag};
use crate::failure::{Cause, Failure};
use crate::naming::sid::Sid;
use crate::tls::ClientCertificate;

pub use distinguished_name::{DistinguishedName, NotComparable};
pub use upn::Upn;

/// id-ce-subjectAltName 2.5.29.17
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1D, 0x11];
/// szOID_NTDS_CA_SECURITY_EXT 1.3.6.1.4.1.311.25.2 (MS-WCCE 2.2.2.7.7.4)
const SID_EXTENSION: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02];

/// Whom a certificate claims to stand for, and what it was issued for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    certificate: Fingerprint,
    upn: Option<Upn>,
    extension_sid: Option<Sid>,
    uri_sid: Option<Sid>,
    rfc822_names: Vec<String>,
    dns_names: Vec<String>,
    subject: DistinguishedName,
    issuer: DistinguishedName,
    serial: Box<[u8]>,
    subject_key_identifier: Option<Box<[u8]>>,
    sha1: Sha1Digests,
    templates: Vec<Template>,
    policies: Vec<String>,
    extended_key_usages: Option<Vec<String>>,
    key_usage: Option<u8>,
    not_before: i64,
}

/// SHA-1 of what different tools call "the public key" (altSecurityIdentities `<SHA1-PUKEY>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha1Digests {
    /// Of the whole certificate.
    pub certificate: [u8; 20],
    /// Of the SubjectPublicKeyInfo, header included.
    pub public_key_info: [u8; 20],
    /// Of the bits of subjectPublicKey.
    pub public_key: [u8; 20],
}

impl Claims {
    /// Of an admitted certificate.
    pub fn read(certificate: &ClientCertificate) -> Result<Self, Failure> {
        Self::of_leaf(certificate.leaf())
    }

    /// Of a leaf's DER, admitted or not: for explanations.
    pub fn of_leaf(leaf: &[u8]) -> Result<Self, Failure> {
        let certificate = Certificate::read(leaf).map_err(|error| malformed(error.to_string()))?;
        let names = match certificate.extension(SUBJECT_ALTERNATIVE_NAME) {
            Some(value) => alternative_names::read(value)?,
            None => alternative_names::AlternativeNames::default(),
        };
        let extension_sid = certificate.extension(SID_EXTENSION).map(sid_extension::read).transpose()?;
        if let (Some(extension), Some(uri)) = (&extension_sid, &names.sid)
            && extension != uri
        {
            let detail = format!("the SID extension says {extension}, the SAN URI {uri}");
            return Err(Failure::new(Cause::SidConflict, detail));
        }
        let broken = |what: &'static str| move |error: DerError| malformed(format!("{what}: {error}"));
        let usages = certificate.extended_key_usages().map_err(broken("extended key usage"))?;
        Ok(Self {
            certificate: Fingerprint::of(leaf),
            upn: names.upn,
            extension_sid,
            uri_sid: names.sid,
            rfc822_names: names.rfc822,
            dns_names: names.dns,
            subject: DistinguishedName::read(certificate.subject).map_err(broken("subject"))?,
            issuer: DistinguishedName::read(certificate.issuer).map_err(broken("issuer"))?,
            serial: certificate.serial.into(),
            subject_key_identifier: certificate.subject_key().map_err(broken("subject key identifier"))?.map(Into::into),
            sha1: Sha1Digests::of(leaf, certificate.public_key).map_err(broken("public key"))?,
            templates: certificate.templates().map_err(broken("certificate template"))?,
            policies: identifiers("certificate policies", &certificate.policies().map_err(broken("certificate policies"))?)?,
            extended_key_usages: usages.map(|usages| identifiers("extended key usage", &usages)).transpose()?,
            key_usage: certificate.key_usage().map_err(broken("key usage"))?,
            not_before: certificate.not_before,
        })
    }

    /// The certificate that says so.
    pub fn certificate(&self) -> Fingerprint {
        self.certificate
    }

    /// The user principal name in the subject alternative name (szOID_NT_PRINCIPAL_NAME).
    pub fn upn(&self) -> Option<&Upn> {
        self.upn.as_ref()
    }

    /// The SID that the CA put into the SID extension.
    pub fn extension_sid(&self) -> Option<&Sid> {
        self.extension_sid.as_ref()
    }

    /// The SID in a SAN URI (MS-PKCA 3.1.5.2.1.6): many CAs let the requester write it.
    pub fn uri_sid(&self) -> Option<&Sid> {
        self.uri_sid.as_ref()
    }

    /// Any SID the certificate names; where it names two, they are the same.
    pub fn any_sid(&self) -> Option<&Sid> {
        self.extension_sid().or(self.uri_sid())
    }

    /// Every e-mail address in the subject alternative name; more than one maps nobody.
    pub fn rfc822_names(&self) -> &[String] {
        &self.rfc822_names
    }

    /// Every DNS name in the subject alternative name; more than one maps nobody.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The subject's name.
    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// The one common name of the subject.
    pub fn common_name(&self) -> Result<&str, &'static str> {
        self.subject.common_name()
    }

    /// Contents octets of the serial number, sign octet included.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// SubjectKeyIdentifier.
    pub fn subject_key_identifier(&self) -> Option<&[u8]> {
        self.subject_key_identifier.as_deref()
    }

    /// SHA-1 of the certificate and of its key.
    pub fn sha1(&self) -> &Sha1Digests {
        &self.sha1
    }

    /// The AD CS templates it names.
    pub(crate) fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// OIDs of its certificate policies, with dots.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// OIDs of its extended key usages, with dots; nothing where the extension is absent.
    pub fn extended_key_usages(&self) -> Option<&[String]> {
        self.extended_key_usages.as_deref()
    }

    /// The first octet of KeyUsage, digitalSignature on top; nothing where the extension is absent.
    pub fn key_usage(&self) -> Option<u8> {
        self.key_usage
    }

    /// When it begins to be valid: seconds since 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }
}

impl Sha1Digests {
    fn of(leaf: &[u8], public_key_info: &[u8]) -> Result<Self, DerError> {
        let mut fields = Reader::new(der::only(public_key_info, tag::SEQUENCE)?);
        fields.read(tag::SEQUENCE)?;
        let bits = fields.read(tag::BIT_STRING)?;
        fields.finish()?;
        let Some((0, bits)) = bits.split_first() else { return Err(DerError::Value) };
        Ok(Self {
            certificate: Sha1::digest(leaf).into(),
            public_key_info: Sha1::digest(public_key_info).into(),
            public_key: Sha1::digest(bits).into(),
        })
    }
}

/// With dots. One that is not in its only encoding might be taken for another.
fn identifiers(what: &str, contents: &[&[u8]]) -> Result<Vec<String>, Failure> {
    if contents.iter().all(|oid| distinguished_name::is_object_identifier(oid)) {
        Ok(contents.iter().map(|oid| dotted(oid)).collect())
    } else {
        Err(malformed(format!("{what}: not an object identifier")))
    }
}

fn malformed(detail: impl Into<String>) -> Failure {
    Failure::new(Cause::CertificateMalformed, detail)
}

#[cfg(test)]
mod tests;
