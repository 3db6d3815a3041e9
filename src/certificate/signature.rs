//! Whether a key signed something: certificates, CRLs and OCSP responses are signed alike (RFC 5280 section 4.1.1).

use std::sync::LazyLock;

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use thiserror::Error;

use crate::der::{self, DerError, Reader, tag};

/// What the TLS library accepts in certificates and handshakes.
static ACCEPTED: LazyLock<WebPkiSupportedAlgorithms> =
    LazyLock::new(|| aws_lc_rs::default_provider().signature_verification_algorithms);

/// `SEQUENCE { tbs, signatureAlgorithm, signature }`: a Certificate or a CertificateList.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    /// What is signed, header included.
    pub(crate) message: &'a [u8],
    /// Contents of the AlgorithmIdentifier.
    pub(crate) algorithm: &'a [u8],
    /// The signature's octets.
    pub(crate) signature: &'a [u8],
}

/// Why a signature is not believed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum SignatureError {
    /// Not the structure of a signed object or of a key.
    #[error("malformed: {0}")]
    Der(#[from] DerError),
    /// An algorithm we do not accept (SHA-1, MD5, short or unusual keys), or not one for this key.
    #[error("an algorithm that is not accepted, or another than the key's")]
    Algorithm,
    /// The key did not sign this.
    #[error("not by this key")]
    Signature,
}

impl<'a> Signed<'a> {
    /// The three parts of a signed object.
    pub(crate) fn read(object: &'a [u8]) -> Result<Self, DerError> {
        let mut parts = Reader::new(der::only(object, tag::SEQUENCE)?);
        let (found, message) = parts.raw()?;
        if found != tag::SEQUENCE {
            return Err(DerError::UnexpectedTag { expected: tag::SEQUENCE, found });
        }
        let algorithm = parts.read(tag::SEQUENCE)?;
        let signature = bits(parts.read(tag::BIT_STRING)?)?;
        parts.finish()?;
        Ok(Self { message, algorithm, signature })
    }

    /// Whether the key of this SubjectPublicKeyInfo signed it.
    pub(crate) fn verify(&self, public_key_info: &[u8]) -> Result<(), SignatureError> {
        verify_signature(public_key_info, self.algorithm, self.message, self.signature)
    }
}

/// Whether the key of a SubjectPublicKeyInfo (header included) signed `message`. `algorithm`: contents of the AlgorithmIdentifier.
pub(crate) fn verify_signature(
    public_key_info: &[u8],
    algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let mut info = Reader::new(der::only(public_key_info, tag::SEQUENCE)?);
    let key_algorithm = info.read(tag::SEQUENCE)?;
    let key = bits(info.read(tag::BIT_STRING)?)?;
    info.finish()?;
    let mut known = false;
    for candidate in ACCEPTED.all {
        if candidate.signature_alg_id().as_ref() == algorithm && candidate.public_key_alg_id().as_ref() == key_algorithm {
            known = true;
            if candidate.verify_signature(key, message, signature).is_ok() {
                return Ok(());
            }
        }
    }
    Err(if known { SignatureError::Signature } else { SignatureError::Algorithm })
}

/// The octets of a BIT STRING without unused bits.
fn bits(contents: &[u8]) -> Result<&[u8], DerError> {
    match contents.split_first() {
        Some((0, octets)) => Ok(octets),
        _ => Err(DerError::Value),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;
    use crate::certificate::Certificate;

    fn self_signed(key: &KeyPair) -> Vec<u8> {
        CertificateParams::new(vec!["x.example".into()]).unwrap().self_signed(key).unwrap().der().to_vec()
    }

    #[test]
    fn the_signing_key_is_told_from_others_and_any_changed_byte_is_seen() {
        for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let (one, other) = (KeyPair::generate_for(algorithm).unwrap(), KeyPair::generate_for(algorithm).unwrap());
            let (signed, foreign) = (self_signed(&one), self_signed(&other));
            let key_of = |der: &[u8]| Certificate::read(der).unwrap().public_key.to_vec();
            assert_eq!(Signed::read(&signed).unwrap().verify(&key_of(&signed)), Ok(()));
            assert_eq!(Signed::read(&signed).unwrap().verify(&key_of(&foreign)), Err(SignatureError::Signature));
            let mut changed = signed.clone();
            changed[40] ^= 1;
            if let Ok(parts) = Signed::read(&changed) {
                assert!(parts.verify(&key_of(&signed)).is_err());
            }
        }
    }

    #[test]
    fn a_key_of_another_kind_has_no_algorithm_in_common() {
        let (one, other) =
            (KeyPair::generate_for(&PKCS_ED25519).unwrap(), KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
        let (signed, foreign) = (self_signed(&one), self_signed(&other));
        let key = Certificate::read(&foreign).unwrap().public_key;
        assert_eq!(Signed::read(&signed).unwrap().verify(key), Err(SignatureError::Algorithm));
    }
}
