//! `tls-server-end-point` (RFC 5929 section 4.1): which hash of the server's certificate binds a token to a TLS session.

use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::der_parser::asn1_rs::{Any, FromDer, Oid, oid};
use x509_parser::prelude::X509Certificate;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// Hash of the certificate by the hash of its own signature.
pub(super) fn end_point_hash(certificate: &[u8]) -> Result<Vec<u8>, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| format!("the server's certificate: {error}"))?;
    Ok(match hash_of(&parsed.signature_algorithm)? {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

/// SHA-256 stands in for MD5 and SHA-1 (RFC 5929). Two algorithms name their hash elsewhere, and the rules for them are ours:
/// RSA-PSS in its parameters; Ed25519, for which RFC 5929 defines nothing, by the SHA-512 it is made with (RFC 8032).
fn hash_of(algorithm: &AlgorithmIdentifier<'_>) -> Result<Hash, String> {
    let oid = &algorithm.algorithm;
    let table = [
        (oid!(1.2.840.113549.1.1.4), Hash::Sha256),  // md5WithRSAEncryption
        (oid!(1.2.840.113549.1.1.5), Hash::Sha256),  // sha1WithRSAEncryption
        (oid!(1.3.14.3.2.29), Hash::Sha256),         // sha1WithRSA, the OIW's name for it
        (oid!(1.2.840.10040.4.3), Hash::Sha256),     // dsa-with-sha1
        (oid!(1.2.840.10045.4.1), Hash::Sha256),     // ecdsa-with-SHA1
        (oid!(1.2.840.113549.1.1.11), Hash::Sha256), // sha256WithRSAEncryption
        (oid!(1.2.840.10045.4.3.2), Hash::Sha256),   // ecdsa-with-SHA256
        (oid!(1.2.840.113549.1.1.12), Hash::Sha384), // sha384WithRSAEncryption
        (oid!(1.2.840.10045.4.3.3), Hash::Sha384),   // ecdsa-with-SHA384
        (oid!(1.2.840.113549.1.1.13), Hash::Sha512), // sha512WithRSAEncryption
        (oid!(1.2.840.10045.4.3.4), Hash::Sha512),   // ecdsa-with-SHA512
        (oid!(1.3.101.112), Hash::Sha512),           // Ed25519
    ];
    if let Some((_, hash)) = table.iter().find(|(known, _)| known == oid) {
        return Ok(*hash);
    }
    if *oid == oid!(1.2.840.113549.1.1.10) {
        return pss_hash(algorithm.parameters.as_ref());
    }
    Err(format!("no channel binding is defined for signature algorithm {oid}"))
}

/// RFC 4055 section 3.1: absent parameters mean SHA-1.
fn pss_hash(parameters: Option<&Any<'_>>) -> Result<Hash, String> {
    let parameters = parameters
        .map(RsaSsaPssParams::try_from)
        .transpose()
        .map_err(|error| format!("the server's certificate: RSA-PSS parameters: {error}"))?;
    let sha1: Oid<'static> = oid!(1.3.14.3.2.26);
    let oid = parameters.map_or_else(|| sha1.clone(), |parameters| Oid::to_owned(parameters.hash_algorithm_oid()));
    match oid {
        oid if oid == sha1 => Ok(Hash::Sha256),
        oid if oid == oid!(2.16.840.1.101.3.4.2.1) => Ok(Hash::Sha256),
        oid if oid == oid!(2.16.840.1.101.3.4.2.2) => Ok(Hash::Sha384),
        oid if oid == oid!(2.16.840.1.101.3.4.2.3) => Ok(Hash::Sha512),
        oid => Err(format!("no channel binding is defined for RSA-PSS with hash {oid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn algorithm(oid: Oid<'static>, parameters: Option<&'static [u8]>) -> AlgorithmIdentifier<'static> {
        AlgorithmIdentifier { algorithm: oid, parameters: parameters.map(|der| Any::from_der(der).unwrap().1) }
    }

    #[test]
    fn the_signatures_own_hash_is_taken_and_sha_256_for_the_broken_ones() {
        assert_eq!(hash_of(&algorithm(oid!(1.2.840.113549.1.1.5), None)), Ok(Hash::Sha256));
        assert_eq!(hash_of(&algorithm(oid!(1.2.840.113549.1.1.11), None)), Ok(Hash::Sha256));
        assert_eq!(hash_of(&algorithm(oid!(1.2.840.10045.4.3.3), None)), Ok(Hash::Sha384));
        assert_eq!(hash_of(&algorithm(oid!(1.2.840.113549.1.1.13), None)), Ok(Hash::Sha512));
        assert_eq!(hash_of(&algorithm(oid!(1.3.101.112), None)), Ok(Hash::Sha512));
        assert!(hash_of(&algorithm(oid!(1.2.3.4), None)).is_err());
    }

    #[test]
    fn rsa_pss_names_its_hash_in_its_parameters() {
        let pss = oid!(1.2.840.113549.1.1.10);
        // RSASSA-PSS-params { hashAlgorithm [0] AlgorithmIdentifier { sha384 } }
        let sha384: &[u8] =
            &[0x30, 0x0F, 0xA0, 0x0D, 0x30, 0x0B, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
        assert_eq!(hash_of(&algorithm(pss.clone(), Some(sha384))), Ok(Hash::Sha384));
        assert_eq!(hash_of(&algorithm(pss.clone(), Some(&[0x30, 0x00]))), Ok(Hash::Sha256));
        assert_eq!(hash_of(&algorithm(pss, None)), Ok(Hash::Sha256));
    }

    #[test]
    fn the_hash_is_over_the_whole_certificate() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["mbx1".into()]).unwrap().self_signed(&key).unwrap();
        assert_eq!(end_point_hash(certificate.der()).unwrap(), Sha384::digest(certificate.der()).to_vec());
        assert!(end_point_hash(b"not a certificate").is_err());
    }
}
