//! OCSP requests (RFC 6960 section 4.1), one certificate each.

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use crate::certificate::Certificate;
use crate::der::{self, DerError, Reader, tag};

/// id-sha1 1.3.14.3.2.26: what RFC 5019 requires and the Windows Online Responder understands. It names a certificate here; what is
/// believed rests on the signature.
const SHA1: &[u8] = &[0x2B, 0x0E, 0x03, 0x02, 0x1A];
/// id-sha256 2.16.840.1.101.3.4.2.1
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// id-pkix-ocsp-nonce 1.3.6.1.5.5.7.48.1.2
pub(super) const NONCE: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];

const NULL: u8 = 0x05;

/// Octets of a nonce (RFC 9654 section 2.1).
pub(super) type Nonce = [u8; 32];

/// CertID: one certificate of one issuer, in both hash algorithms an answer may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertId {
    sha1: ([u8; 20], [u8; 20]),
    sha256: ([u8; 32], [u8; 32]),
    serial: Vec<u8>,
}

impl CertId {
    /// Of a certificate and its issuer's SubjectPublicKeyInfo.
    pub(super) fn of(certificate: &Certificate<'_>, issuer_key: &[u8]) -> Result<Self, DerError> {
        let mut name = Vec::with_capacity(certificate.issuer.len() + 4);
        der::write(&mut name, tag::SEQUENCE, certificate.issuer);
        let key = key_bits(issuer_key)?;
        Ok(Self {
            sha1: (Sha1::digest(&name).into(), Sha1::digest(key).into()),
            sha256: (Sha256::digest(&name).into(), Sha256::digest(key).into()),
            serial: certificate.serial.to_vec(),
        })
    }

    /// Whether the contents of an answer's CertID mean this certificate. One in another hash algorithm does not.
    pub(super) fn is(&self, contents: &[u8]) -> Result<bool, DerError> {
        let mut fields = Reader::new(contents);
        let mut algorithm = fields.nested(tag::SEQUENCE)?;
        let hash = algorithm.read(tag::OID)?;
        if algorithm.optional(NULL)?.is_some_and(|null| !null.is_empty()) {
            return Err(DerError::Value);
        }
        algorithm.finish()?;
        let (name, key) = (fields.read(tag::OCTET_STRING)?, fields.read(tag::OCTET_STRING)?);
        let serial = fields.read(tag::INTEGER)?;
        fields.finish()?;
        let issuer = match hash {
            SHA1 => (name, key) == (self.sha1.0.as_slice(), self.sha1.1.as_slice()),
            SHA256 => (name, key) == (self.sha256.0.as_slice(), self.sha256.1.as_slice()),
            _ => false,
        };
        Ok(issuer && serial == self.serial)
    }

    /// The OCSPRequest for it.
    pub(super) fn request(&self, nonce: Option<&Nonce>) -> Vec<u8> {
        let element = |tag, contents: &[u8]| {
            let mut out = Vec::with_capacity(contents.len() + 4);
            der::write(&mut out, tag, contents);
            out
        };
        let sequence = |parts: &[Vec<u8>]| element(tag::SEQUENCE, &parts.concat());
        let algorithm = sequence(&[element(tag::OID, SHA1), element(NULL, &[])]);
        let (name, key) = (element(tag::OCTET_STRING, &self.sha1.0), element(tag::OCTET_STRING, &self.sha1.1));
        let id = sequence(&[algorithm, name, key, element(tag::INTEGER, &self.serial)]);
        let mut request = vec![sequence(&[sequence(&[id])])];
        if let Some(nonce) = nonce {
            let value = element(tag::OCTET_STRING, &element(tag::OCTET_STRING, nonce));
            let extension = sequence(&[element(tag::OID, NONCE), value]);
            request.push(element(tag::context(2), &sequence(&[extension])));
        }
        sequence(&[sequence(&request)])
    }
}

/// SHA-1 of a key as ResponderID has it: the BIT STRING's octets without header and count of unused bits.
pub(super) fn key_hash(public_key_info: &[u8]) -> Result<[u8; 20], DerError> {
    Ok(Sha1::digest(key_bits(public_key_info)?).into())
}

fn key_bits(public_key_info: &[u8]) -> Result<&[u8], DerError> {
    let mut info = Reader::new(der::only(public_key_info, tag::SEQUENCE)?);
    info.read(tag::SEQUENCE)?;
    let bits = info.read(tag::BIT_STRING)?;
    info.finish()?;
    match bits.split_first() {
        Some((0, octets)) => Ok(octets),
        _ => Err(DerError::Value),
    }
}
