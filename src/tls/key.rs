//! Which public keys can sign anything that is accepted: those of the handshake's and the path builder's algorithms.

use crate::certificate::dotted;
use crate::der::{self, DerError, Reader, tag};

/// rsaEncryption 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
/// id-RSASSA-PSS 1.2.840.113549.1.1.10
const RSA_PSS: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A];
/// id-ecPublicKey 1.2.840.10045.2.1
const EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
/// id-Ed25519 1.3.101.112
const ED25519: &[u8] = &[0x2B, 0x65, 0x70];
/// secp256r1, secp384r1, secp521r1
const CURVES: [&[u8]; 3] =
    [&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07], &[0x2B, 0x81, 0x04, 0x00, 0x22], &[0x2B, 0x81, 0x04, 0x00, 0x23]];

/// Bits of an RSA modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why nothing that the key of this SubjectPublicKeyInfo (header included) signs is accepted; nothing where it may be.
pub(in crate::tls) fn problem(public_key_info: &[u8]) -> Option<String> {
    read(public_key_info).unwrap_or_else(|error| Some(format!("is malformed: {error}")))
}

fn read(public_key_info: &[u8]) -> Result<Option<String>, DerError> {
    let mut info = Reader::new(der::only(public_key_info, tag::SEQUENCE)?);
    let mut algorithm = info.nested(tag::SEQUENCE)?;
    let oid = algorithm.read(tag::OID)?;
    let key = info.read(tag::BIT_STRING)?;
    Ok(match oid {
        RSA => {
            let bits = modulus_bits(key)?;
            (!RSA_BITS.contains(&bits)).then(|| format!("is RSA of {bits} bits; 2048 to 8192 are accepted"))
        }
        RSA_PSS => Some("is of type id-RSASSA-PSS; RSA keys must be of type rsaEncryption".to_owned()),
        EC => {
            let curve = algorithm.read(tag::OID)?;
            (!CURVES.contains(&curve)).then(|| format!("is on curve {}; P-256, P-384 and P-521 are accepted", dotted(curve)))
        }
        ED25519 => None,
        other => Some(format!("is of type {}; RSA, ECDSA and Ed25519 are accepted", dotted(other))),
    })
}

/// `RSAPublicKey ::= SEQUENCE { modulus, publicExponent }` in a BIT STRING (RFC 3279 section 2.3.1).
fn modulus_bits(bit_string: &[u8]) -> Result<usize, DerError> {
    let (_, octets) = bit_string.split_first().ok_or(DerError::Truncated)?;
    let modulus = Reader::new(der::only(octets, tag::SEQUENCE)?).read(tag::INTEGER)?;
    let significant = modulus.iter().position(|octet| *octet != 0).and_then(|start| modulus.get(start..)).unwrap_or_default();
    let top = significant.first().map_or(0, |octet| usize::try_from(octet.leading_zeros()).unwrap_or(0));
    Ok(significant.len() * 8 - top.min(significant.len() * 8))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        der::write(&mut out, tag, &parts.concat());
        out
    }

    fn info(oid: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
        let algorithm = element(tag::SEQUENCE, &[&element(tag::OID, &[oid]), parameters]);
        element(tag::SEQUENCE, &[&algorithm, &element(tag::BIT_STRING, &[&[0], key])])
    }

    fn rsa(octets: usize, first: u8) -> Vec<u8> {
        let mut modulus = vec![0, first];
        modulus.resize(octets + 1, 1);
        info(RSA, &[5, 0], &element(tag::SEQUENCE, &[&element(tag::INTEGER, &[&modulus]), &[2, 1, 3]]))
    }

    #[test]
    fn rsa_keys_are_accepted_from_2048_to_8192_bits() {
        for (key, bits) in [(rsa(128, 0x80), 1024), (rsa(256, 0x7F), 2047), (rsa(1025, 1), 8193)] {
            assert!(problem(&key).unwrap().contains(&format!("RSA of {bits} bits")), "{bits}");
        }
        assert_eq!((problem(&rsa(256, 0x80)), problem(&rsa(1024, 0xFF))), (None, None));
    }

    #[test]
    fn keys_of_other_kinds_are_named() {
        for curve in CURVES {
            assert_eq!(problem(&info(EC, &element(tag::OID, &[curve]), &[4])), None);
        }
        assert_eq!(problem(&info(ED25519, &[], &[0; 32])), None);
        let brainpool = element(tag::OID, &[&[0x2B, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07]]);
        assert!(problem(&info(EC, &brainpool, &[4])).unwrap().contains("curve 1.3.36.3.3.2.8.1.1.7"));
        assert!(problem(&info(RSA_PSS, &[], &[4])).unwrap().contains("id-RSASSA-PSS"));
        assert!(problem(&info(&[0x2B, 0x65, 0x71], &[], &[4])).unwrap().contains("1.3.101.113"));
        assert!(problem(&[0x30, 0]).unwrap().contains("malformed"));
    }

    proptest! {
        #[test]
        fn the_key_reader_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (problem(&bytes), problem(&info(RSA, &[], &bytes)), problem(&info(EC, &bytes, &[])));
        }
    }
}
