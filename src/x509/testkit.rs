//! Certificates with chosen names and serial numbers for tests; their signatures are nonsense.

use crate::der::{tag, write};

pub(crate) const CN: &[u8] = &[0x55, 0x04, 3];
pub(crate) const C: &[u8] = &[0x55, 0x04, 6];
pub(crate) const O: &[u8] = &[0x55, 0x04, 10];
pub(crate) const OU: &[u8] = &[0x55, 0x04, 11];
pub(crate) const E: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x01];
pub(crate) const DC: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x19];
pub(crate) const UID: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x01];

pub(crate) fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, tag, contents);
    out
}

/// One AttributeTypeAndValue.
pub(crate) fn attribute(kind: &[u8], value_tag: u8, value: &[u8]) -> Vec<u8> {
    element(tag::SEQUENCE, &[element(tag::OID, kind), element(value_tag, value)].concat())
}

/// Contents of a Name of single-valued RDNs in UTF-8.
pub(crate) fn name(attributes: &[(&[u8], &str)]) -> Vec<u8> {
    let rdn = |(kind, text): &(&[u8], &str)| element(0x31, &attribute(kind, tag::UTF8_STRING, text.as_bytes()));
    attributes.iter().flat_map(rdn).collect()
}

/// A certificate with these contents of issuer and subject, octets of the serial number and extensions.
pub(crate) fn certificate(issuer: &[u8], subject: &[u8], serial: &[u8], extensions: &[(&[u8], &[u8])]) -> Vec<u8> {
    let listed: Vec<u8> = extensions
        .iter()
        .flat_map(|(oid, value)| element(tag::SEQUENCE, &[element(tag::OID, oid), element(tag::OCTET_STRING, value)].concat()))
        .collect();
    let algorithm = element(tag::SEQUENCE, &element(tag::OID, &[0x2B, 0x65, 0x70]));
    let validity = [element(0x17, b"200101000000Z"), element(tag::GENERALIZED_TIME, b"20900101000000Z")].concat();
    let key = element(tag::SEQUENCE, &[algorithm.clone(), element(tag::BIT_STRING, &[0, 1, 2, 3])].concat());
    let tbs = [
        element(tag::context(0), &element(tag::INTEGER, &[2])),
        element(tag::INTEGER, serial),
        algorithm.clone(),
        element(tag::SEQUENCE, issuer),
        element(tag::SEQUENCE, &validity),
        element(tag::SEQUENCE, subject),
        key,
        element(tag::context(3), &element(tag::SEQUENCE, &listed)),
    ]
    .concat();
    element(tag::SEQUENCE, &[element(tag::SEQUENCE, &tbs), algorithm, element(tag::BIT_STRING, &[0, 0])].concat())
}
