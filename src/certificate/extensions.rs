//! Extensions of certificates that say where to ask about them and what they were issued for. Values are strictly DER; each
//! reader gives nothing where its extension is absent and an error where it cannot be read in one way only.

use crate::certificate::{Certificate, dotted};
use crate::der::{self, DerError, Reader, tag};

/// id-ce-subjectKeyIdentifier 2.5.29.14
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1D, 0x0E];
/// id-ce-cRLDistributionPoints 2.5.29.31
const DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1D, 0x1F];
/// id-ce-certificatePolicies 2.5.29.32
const POLICIES: &[u8] = &[0x55, 0x1D, 0x20];
/// id-ce-freshestCRL 2.5.29.46
const FRESHEST_CRL: &[u8] = &[0x55, 0x1D, 0x2E];
/// id-pe-authorityInfoAccess 1.3.6.1.5.5.7.1.1
const INFORMATION_ACCESS: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01];
/// id-ad-ocsp 1.3.6.1.5.5.7.48.1
const OCSP: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];
/// szOID_ENROLL_CERTTYPE_EXTENSION 1.3.6.1.4.1.311.20.2: a version 1 template's name
const TEMPLATE_NAME: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02];
/// szOID_CERTIFICATE_TEMPLATE 1.3.6.1.4.1.311.21.7: a version 2 template's OID
const TEMPLATE_OID: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x15, 0x07];
/// szOID_APPLICATION_CERT_POLICIES 1.3.6.1.4.1.311.21.10
const APPLICATION_POLICIES: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x15, 0x0A];

const BMP_STRING: u8 = 0x1E;

/// More elements than any real list has.
const MAX_ELEMENTS: usize = 64;

/// One DistributionPoint (RFC 5280 section 4.2.1.13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DistributionPoint<'a> {
    /// Its URIs, where it names any.
    pub(crate) uris: Vec<&'a str>,
    /// It is about some reasons only.
    pub(crate) partial: bool,
    /// Somebody else than the certificate's issuer signs its list.
    pub(crate) indirect: bool,
}

/// The AD CS template a certificate was issued from (MS-WCCE 2.2.2.7.7.1, 2.2.2.7.7.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Template {
    /// Version 1: by name.
    Name(String),
    /// Version 2 and later: by OID, dotted.
    Oid(String),
}

impl<'a> Certificate<'a> {
    /// SubjectKeyIdentifier.
    pub(crate) fn subject_key(&self) -> Result<Option<&'a [u8]>, DerError> {
        self.extension(SUBJECT_KEY_IDENTIFIER).map(|value| der::only(value, tag::OCTET_STRING)).transpose()
    }

    /// CRLDistributionPoints.
    pub(crate) fn distribution_points(&self) -> Result<Vec<DistributionPoint<'a>>, DerError> {
        self.extension(DISTRIBUTION_POINTS).map_or(Ok(Vec::new()), distribution_points)
    }

    /// FreshestCRL: where delta CRLs are.
    pub(crate) fn freshest_crl(&self) -> Result<Vec<DistributionPoint<'a>>, DerError> {
        self.extension(FRESHEST_CRL).map_or(Ok(Vec::new()), distribution_points)
    }

    /// URIs of OCSP responders in AuthorityInformationAccess (RFC 5280 section 4.2.2.1).
    pub(crate) fn ocsp_responders(&self) -> Result<Vec<&'a str>, DerError> {
        let Some(value) = self.extension(INFORMATION_ACCESS) else { return Ok(Vec::new()) };
        let mut uris = Vec::new();
        for mut description in sequences(value)? {
            let method = description.read(tag::OID)?;
            let (_, location) = description.raw()?;
            description.finish()?;
            if method == OCSP {
                uris.extend(general_name_uris(location)?);
            }
        }
        Ok(uris)
    }

    /// OIDs of CertificatePolicies, as contents octets.
    pub(crate) fn policies(&self) -> Result<Vec<&'a [u8]>, DerError> {
        self.extension(POLICIES).map_or(Ok(Vec::new()), policies)
    }

    /// OIDs of Microsoft's application policies, as contents octets; nothing where the extension is absent.
    pub(crate) fn application_policies(&self) -> Result<Option<Vec<&'a [u8]>>, DerError> {
        self.extension(APPLICATION_POLICIES).map(policies).transpose()
    }

    /// The templates it names: a version 1 name, a version 2 OID, both or none.
    pub(crate) fn templates(&self) -> Result<Vec<Template>, DerError> {
        let mut templates = Vec::new();
        if let Some(value) = self.extension(TEMPLATE_NAME) {
            let units = der::only(value, BMP_STRING)?.chunks(2).map(|pair| match pair {
                [high, low] => Ok(u16::from_be_bytes([*high, *low])),
                _ => Err(DerError::Value),
            });
            let units: Vec<u16> = units.collect::<Result<_, _>>()?;
            templates.push(Template::Name(String::from_utf16(&units).map_err(|_| DerError::Value)?));
        }
        if let Some(value) = self.extension(TEMPLATE_OID) {
            let mut fields = Reader::new(der::only(value, tag::SEQUENCE)?);
            templates.push(Template::Oid(dotted(fields.read(tag::OID)?)));
            fields.optional(tag::INTEGER)?;
            fields.optional(tag::INTEGER)?;
            fields.finish()?;
        }
        Ok(templates)
    }
}

/// `CRLDistributionPoints`, from the extension's value.
pub(crate) fn distribution_points(value: &[u8]) -> Result<Vec<DistributionPoint<'_>>, DerError> {
    let mut points = Vec::new();
    for mut fields in sequences(value)? {
        let name = fields.optional(tag::context(0))?;
        let partial = fields.optional(tag::context_primitive(1))?.is_some();
        let indirect = fields.optional(tag::context(2))?.is_some();
        fields.finish()?;
        let uris = match name {
            Some(name) => Reader::new(name).optional(tag::context(0))?.map_or(Ok(Vec::new()), general_name_uris)?,
            None => Vec::new(),
        };
        points.push(DistributionPoint { uris, partial, indirect });
    }
    Ok(points)
}

/// The URIs among these GeneralNames, which stand one after the other. ASCII only (IA5String).
pub(crate) fn general_name_uris(names: &[u8]) -> Result<Vec<&str>, DerError> {
    let mut names = Reader::new(names);
    let mut uris = Vec::new();
    while !names.is_empty() {
        let (kind, contents) = names.any()?;
        if kind == tag::context_primitive(6) {
            if uris.len() == MAX_ELEMENTS || !contents.is_ascii() {
                return Err(DerError::Value);
            }
            uris.push(std::str::from_utf8(contents).map_err(|_| DerError::Value)?);
        }
    }
    Ok(uris)
}

fn policies(value: &[u8]) -> Result<Vec<&[u8]>, DerError> {
    sequences(value)?.into_iter().map(|mut information| information.read(tag::OID)).collect()
}

/// The members of a `SEQUENCE OF SEQUENCE`, at least one.
fn sequences(value: &[u8]) -> Result<Vec<Reader<'_>>, DerError> {
    let mut list = Reader::new(der::only(value, tag::SEQUENCE)?);
    let mut members = Vec::new();
    while !list.is_empty() {
        if members.len() == MAX_ELEMENTS {
            return Err(DerError::Value);
        }
        members.push(list.nested(tag::SEQUENCE)?);
    }
    if members.is_empty() { Err(DerError::Truncated) } else { Ok(members) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::certificate::test_certificate;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        der::write(&mut out, tag, &parts.concat());
        out
    }

    fn uri(text: &str) -> Vec<u8> {
        element(tag::context_primitive(6), &[text.as_bytes()])
    }

    #[test]
    fn distribution_points_give_their_uris_and_what_limits_them() {
        let full = element(tag::context(0), &[&element(tag::context(0), &[&uri("ldap:///CN=a"), &uri("http://b/c.crl")])]);
        let whole = element(tag::SEQUENCE, &[&full]);
        let reasons = element(tag::context_primitive(1), &[&[0, 0x80]]);
        let partial = element(tag::SEQUENCE, &[&full, &reasons, &element(tag::context(2), &[&uri("x:y")])]);
        let value = element(tag::SEQUENCE, &[&whole, &partial]);
        let der = test_certificate(&[(DISTRIBUTION_POINTS, &value), (FRESHEST_CRL, &element(tag::SEQUENCE, &[&whole]))]);
        let certificate = Certificate::read(&der).unwrap();
        let points = certificate.distribution_points().unwrap();
        assert_eq!(
            points[0],
            DistributionPoint { uris: vec!["ldap:///CN=a", "http://b/c.crl"], partial: false, indirect: false }
        );
        assert!(points[1].partial && points[1].indirect);
        assert_eq!(certificate.freshest_crl().unwrap().len(), 1);
    }

    #[test]
    fn responders_policies_templates_and_key_identifiers_are_read() {
        let ocsp = element(tag::SEQUENCE, &[&element(tag::OID, &[OCSP]), &uri("http://ocsp.example/")]);
        let issuers = element(tag::SEQUENCE, &[&element(tag::OID, &[&[0x2B, 0x01]]), &uri("http://aia.example/ca.crt")]);
        let policy = element(tag::SEQUENCE, &[&element(tag::SEQUENCE, &[&element(tag::OID, &[&[0x2A, 0x03]])])]);
        let template = element(tag::SEQUENCE, &[&element(tag::OID, &[&[0x2A, 0x05]]), &[2, 1, 100], &[2, 1, 3]]);
        let der = test_certificate(&[
            (INFORMATION_ACCESS, &element(tag::SEQUENCE, &[&issuers, &ocsp])),
            (POLICIES, &policy),
            (APPLICATION_POLICIES, &policy),
            (TEMPLATE_NAME, &element(BMP_STRING, &[&[0, b'U', 0, b's']])),
            (TEMPLATE_OID, &template),
            (SUBJECT_KEY_IDENTIFIER, &[4, 2, 7, 8]),
        ]);
        let certificate = Certificate::read(&der).unwrap();
        assert_eq!(certificate.ocsp_responders(), Ok(vec!["http://ocsp.example/"]));
        assert_eq!(certificate.policies(), Ok(vec![&[0x2A, 0x03][..]]));
        assert_eq!(certificate.application_policies(), Ok(Some(vec![&[0x2A, 0x03][..]])));
        assert_eq!(certificate.templates(), Ok(vec![Template::Name("Us".into()), Template::Oid("1.2.5".into())]));
        assert_eq!(certificate.subject_key(), Ok(Some(&[7, 8][..])));
    }

    #[test]
    fn absent_extensions_are_nothing_and_malformed_ones_errors() {
        let der = test_certificate(&[]);
        let none = Certificate::read(&der).unwrap();
        assert_eq!(none.distribution_points(), Ok(vec![]));
        assert_eq!(none.ocsp_responders(), Ok(vec![]));
        assert_eq!((none.policies(), none.application_policies(), none.templates()), (Ok(vec![]), Ok(None), Ok(vec![])));
        assert_eq!(none.subject_key(), Ok(None));
        for oid in [
            DISTRIBUTION_POINTS,
            FRESHEST_CRL,
            INFORMATION_ACCESS,
            POLICIES,
            APPLICATION_POLICIES,
            TEMPLATE_NAME,
            TEMPLATE_OID,
            SUBJECT_KEY_IDENTIFIER,
        ] {
            let der = test_certificate(&[(oid, &[0x30, 0x80])]);
            let bad = Certificate::read(&der).unwrap();
            let errors = [
                bad.distribution_points().is_err(),
                bad.freshest_crl().is_err(),
                bad.ocsp_responders().is_err(),
                bad.policies().is_err(),
                bad.application_policies().is_err(),
                bad.templates().is_err(),
                bad.subject_key().is_err(),
            ];
            assert_eq!(errors.into_iter().filter(|error| *error).count(), 1, "{}", dotted(oid));
        }
    }

    proptest! {
        #[test]
        fn extension_readers_are_total(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let wrapped = element(tag::SEQUENCE, &[&element(tag::SEQUENCE, &[&bytes])]);
            for value in [&bytes, &wrapped] {
                let _ = (distribution_points(value), policies(value), general_name_uris(value));
            }
        }
    }
}
