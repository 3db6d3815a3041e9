//! The fields of an X.509 certificate, read strictly (RFC 5280 section 4.1). Total over peers' bytes; believes nothing.

use std::collections::HashSet;
use std::fmt::Write as _;

use thiserror::Error;

use crate::der::{self, DerError, Reader, tag};

/// Object identifiers as DER contents octets.
pub(crate) mod oid {
    /// id-ce-keyUsage 2.5.29.15
    pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];
    /// id-ce-basicConstraints 2.5.29.19
    pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
    /// id-ce-extKeyUsage 2.5.29.37
    pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x25];
    /// id-kp-clientAuth 1.3.6.1.5.5.7.3.2
    pub(crate) const CLIENT_AUTH: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
}

/// Bits of KeyUsage, the first one on top (RFC 5280 section 4.2.1.3).
pub(crate) mod key_usage {
    pub(crate) const DIGITAL_SIGNATURE: u8 = 0x80;
    pub(crate) const KEY_CERT_SIGN: u8 = 0x04;
    pub(crate) const CRL_SIGN: u8 = 0x02;
}

/// More extensions than any real certificate has.
const MAX_EXTENSIONS: usize = 64;

const UTC_TIME: u8 = 0x17;

/// Why bytes are not a certificate we read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum CertificateError {
    /// Not the structure of RFC 5280.
    #[error("not an X.509 version 3 certificate: {0}")]
    Der(#[from] DerError),
    /// RFC 5280 section 4.2: a certificate must not include more than one instance of an extension.
    #[error("extension {0} occurs twice")]
    DuplicateExtension(String),
    /// More extensions than any real certificate has.
    #[error("more than {MAX_EXTENSIONS} extensions")]
    TooManyExtensions,
}

/// One extension: its OID's contents octets and its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extension<'a> {
    pub(crate) oid: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// A certificate's fields, borrowed from its DER.
#[derive(Clone, Debug)]
pub(crate) struct Certificate<'a> {
    /// Contents octets of the serial number, sign octet included.
    pub(crate) serial: &'a [u8],
    /// Contents of the issuer's Name.
    pub(crate) issuer: &'a [u8],
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
    /// Contents of the subject's Name.
    pub(crate) subject: &'a [u8],
    /// SubjectPublicKeyInfo, header included.
    pub(crate) public_key: &'a [u8],
    extensions: Vec<Extension<'a>>,
}

impl<'a> Certificate<'a> {
    /// Reads a version 3 certificate; no extension may occur twice.
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, CertificateError> {
        let mut signed = Reader::new(der::only(der, tag::SEQUENCE)?);
        let mut tbs = signed.nested(tag::SEQUENCE)?;
        signed.read(tag::SEQUENCE)?;
        signed.read(tag::BIT_STRING)?;
        signed.finish()?;

        if tbs.explicit(0, tag::INTEGER)? != [2] {
            return Err(DerError::Value.into());
        }
        let serial = tbs.read(tag::INTEGER)?;
        tbs.read(tag::SEQUENCE)?;
        let issuer = tbs.read(tag::SEQUENCE)?;
        let mut validity = tbs.nested(tag::SEQUENCE)?;
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        validity.finish()?;
        let subject = tbs.read(tag::SEQUENCE)?;
        if tbs.peek() != Some(tag::SEQUENCE) {
            return Err(DerError::Truncated.into());
        }
        let (_, public_key) = tbs.raw()?;
        tbs.optional(tag::context_primitive(1))?;
        tbs.optional(tag::context_primitive(2))?;
        let extensions = match tbs.explicit_optional(3, tag::SEQUENCE)? {
            Some(list) => read_extensions(list)?,
            None => Vec::new(),
        };
        tbs.finish()?;
        Ok(Self { serial, issuer, not_before, not_after, subject, public_key, extensions })
    }

    /// The value of the one extension with this OID.
    pub(crate) fn extension(&self, oid: &[u8]) -> Option<&'a [u8]> {
        self.extensions.iter().find(|extension| extension.oid == oid).map(|extension| extension.value)
    }

    /// BasicConstraints cA (RFC 5280 section 4.2.1.9); absent means false.
    pub(crate) fn is_ca(&self) -> Result<bool, DerError> {
        let Some(value) = self.extension(oid::BASIC_CONSTRAINTS) else { return Ok(false) };
        let mut constraints = Reader::new(der::only(value, tag::SEQUENCE)?);
        Ok(constraints.optional(tag::BOOLEAN)? == Some(&[0xFF]))
    }

    /// BasicConstraints pathLenConstraint: how many CAs may stand between this one and a leaf; nothing: any number.
    pub(crate) fn path_length(&self) -> Result<Option<usize>, DerError> {
        let Some(value) = self.extension(oid::BASIC_CONSTRAINTS) else { return Ok(None) };
        let mut constraints = Reader::new(der::only(value, tag::SEQUENCE)?);
        constraints.optional(tag::BOOLEAN)?;
        let length = constraints.optional(tag::INTEGER)?.map(der::integer).transpose()?;
        constraints.finish()?;
        length.map(|length| usize::try_from(length).map_err(|_| DerError::Value)).transpose()
    }

    /// The first octet of KeyUsage, or nothing where the extension is absent.
    pub(crate) fn key_usage(&self) -> Result<Option<u8>, DerError> {
        let Some(value) = self.extension(oid::KEY_USAGE) else { return Ok(None) };
        match der::only(value, tag::BIT_STRING)? {
            [unused, first, ..] if *unused < 8 => Ok(Some(*first)),
            _ => Err(DerError::Value),
        }
    }

    /// The extended key usages as OID contents octets, or nothing where the extension is absent.
    pub(crate) fn extended_key_usages(&self) -> Result<Option<Vec<&'a [u8]>>, DerError> {
        let Some(value) = self.extension(oid::EXTENDED_KEY_USAGE) else { return Ok(None) };
        let mut list = Reader::new(der::only(value, tag::SEQUENCE)?);
        let mut usages = Vec::new();
        while !list.is_empty() {
            usages.push(list.read(tag::OID)?);
        }
        Ok(Some(usages))
    }
}

fn read_extensions(list: &[u8]) -> Result<Vec<Extension<'_>>, CertificateError> {
    let mut list = Reader::new(list);
    let (mut extensions, mut seen) = (Vec::new(), HashSet::new());
    while !list.is_empty() {
        let extension = read_extension(&mut list)?;
        if !seen.insert(extension.oid) {
            return Err(CertificateError::DuplicateExtension(dotted(extension.oid)));
        }
        if extensions.len() == MAX_EXTENSIONS {
            return Err(CertificateError::TooManyExtensions);
        }
        extensions.push(extension);
    }
    Ok(extensions)
}

/// One Extension of a certificate or a CRL.
pub(crate) fn read_extension<'a>(list: &mut Reader<'a>) -> Result<Extension<'a>, DerError> {
    let mut fields = list.nested(tag::SEQUENCE)?;
    let oid = fields.read(tag::OID)?;
    fields.optional(tag::BOOLEAN)?;
    let value = fields.read(tag::OCTET_STRING)?;
    fields.finish()?;
    Ok(Extension { oid, value })
}

/// A Time: UTCTime until 2049, GeneralizedTime after (RFC 5280 section 4.1.2.5).
pub(crate) fn time(reader: &mut Reader<'_>) -> Result<i64, DerError> {
    match reader.any()? {
        (tag::GENERALIZED_TIME, contents) => der::kerberos_time(contents),
        (UTC_TIME, contents) => {
            let [y1, y2, mo1, mo2, d1, d2, h1, h2, mi1, mi2, s1, s2, zulu] = contents.try_into().map_err(|_| DerError::Value)?;
            let [c1, c2] = if y1 >= b'5' { *b"19" } else { *b"20" };
            der::kerberos_time(&[c1, c2, y1, y2, mo1, mo2, d1, d2, h1, h2, mi1, mi2, s1, s2, zulu])
        }
        (found, _) => Err(DerError::UnexpectedTag { expected: UTC_TIME, found }),
    }
}

/// An OID's contents octets as dotted numbers; hexadecimal where they are not an OID.
pub(crate) fn dotted(oid: &[u8]) -> String {
    let mut text = String::new();
    let mut arc = 0_u64;
    let mut complete = false;
    for &octet in oid {
        if arc >> 56 != 0 {
            complete = false;
            break;
        }
        arc = (arc << 7) | u64::from(octet & 0x7F);
        complete = octet & 0x80 == 0;
        if complete {
            let _ = if text.is_empty() {
                let top = (arc / 40).min(2);
                write!(text, "{top}.{}", arc - top * 40)
            } else {
                write!(text, ".{arc}")
            };
            arc = 0;
        }
    }
    if complete { text } else { hex(oid) }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A certificate with these extensions; its signature is nonsense.
    pub(crate) fn unsigned(extensions: &[(&[u8], &[u8])]) -> Vec<u8> {
        let element = |tag, parts: &[Vec<u8>]| {
            let mut out = Vec::new();
            der::write(&mut out, tag, &parts.concat());
            out
        };
        let listed: Vec<Vec<u8>> = extensions
            .iter()
            .map(|(oid, value)| {
                element(tag::SEQUENCE, &[element(tag::OID, &[oid.to_vec()]), element(tag::OCTET_STRING, &[value.to_vec()])])
            })
            .collect();
        let algorithm = element(tag::SEQUENCE, &[element(tag::OID, &[vec![0x2B, 0x65, 0x70]])]);
        let common_name = element(tag::UTF8_STRING, &[b"x".to_vec()]);
        let attribute = element(tag::SEQUENCE, &[element(tag::OID, &[vec![0x55, 0x04, 0x03]]), common_name]);
        let name = element(tag::SEQUENCE, &[element(0x31, &[attribute])]);
        let validity = element(
            tag::SEQUENCE,
            &[element(UTC_TIME, &[b"200101000000Z".to_vec()]), element(tag::GENERALIZED_TIME, &[b"20900101000000Z".to_vec()])],
        );
        let key = element(tag::SEQUENCE, &[algorithm.clone(), element(tag::BIT_STRING, &[vec![0, 1, 2, 3]])]);
        let tbs = element(
            tag::SEQUENCE,
            &[
                element(tag::context(0), &[element(tag::INTEGER, &[vec![2]])]),
                element(tag::INTEGER, &[vec![0x0A]]),
                algorithm.clone(),
                name.clone(),
                validity,
                name,
                key,
                element(tag::context(3), &[element(tag::SEQUENCE, &listed)]),
            ],
        );
        element(tag::SEQUENCE, &[tbs, algorithm, element(tag::BIT_STRING, &[vec![0, 0]])])
    }

    #[test]
    fn a_certificate_is_read_field_by_field() {
        let der = unsigned(&[(oid::BASIC_CONSTRAINTS, &[0x30, 0x03, 0x01, 0x01, 0xFF]), (oid::KEY_USAGE, &[3, 2, 5, 0xA0])]);
        let certificate = Certificate::read(&der).unwrap();
        assert_eq!(certificate.serial, [0x0A]);
        assert_eq!((certificate.not_before, certificate.not_after), (1_577_836_800, 3_786_912_000));
        assert_eq!(certificate.is_ca(), Ok(true));
        assert_eq!(certificate.key_usage(), Ok(Some(0xA0)));
        assert_eq!(certificate.extended_key_usages(), Ok(None));
    }

    #[test]
    fn an_extension_that_occurs_twice_is_refused_whatever_it_is() {
        let der = unsigned(&[(&[0x2A, 0x03], b"a"), (&[0x2A, 0x04], b"b"), (&[0x2A, 0x03], b"a")]);
        assert_eq!(Certificate::read(&der).unwrap_err(), CertificateError::DuplicateExtension("1.2.3".into()));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut der = unsigned(&[]);
        der.push(0);
        assert_eq!(Certificate::read(&der).unwrap_err(), CertificateError::Der(DerError::Trailing));
    }

    #[test]
    fn object_identifiers_are_shown_with_dots_and_nonsense_in_hexadecimal() {
        assert_eq!(dotted(&[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03]), "1.3.6.1.4.1.311.20.2.3");
        assert_eq!(dotted(&[0x55, 0x1D, 0x25, 0x00]), "2.5.29.37.0");
        assert_eq!(dotted(&[0x88, 0x37, 0x03]), "2.999.3");
        assert_eq!(dotted(&[0x2B, 0x86]), "2b86");
        assert_eq!(dotted(&[]), "");
        assert_eq!(dotted(&[0xFF; 12]), "ff".repeat(12));
    }

    #[test]
    fn two_digit_years_turn_over_at_fifty() {
        let read = |text: &[u8]| {
            let mut out = Vec::new();
            der::write(&mut out, UTC_TIME, text);
            time(&mut Reader::new(&out))
        };
        assert_eq!(read(b"491231235959Z"), Ok(2_524_607_999));
        assert_eq!(read(b"500101000000Z"), Ok(-631_152_000));
        assert_eq!(read(b"4912312359Z"), Err(DerError::Value));
    }

    proptest! {
        #[test]
        fn the_certificate_reader_is_total(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
            let mut der = unsigned(&[(oid::KEY_USAGE, &[3, 2, 5, 0xA0]), (oid::EXTENDED_KEY_USAGE, &[0x30, 3, 6, 1, 42])]);
            for (index, value) in flips {
                let at = index.index(der.len());
                der[at] = value;
            }
            if let Ok(certificate) = Certificate::read(&der) {
                let _ = (certificate.is_ca(), certificate.key_usage(), certificate.extended_key_usages());
            }
        }
    }
}
