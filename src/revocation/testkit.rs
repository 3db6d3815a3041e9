//! CAs, lists and certificates for tests, written octet by octet where a CA's software would refuse.

use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};

use crate::certificate::Certificate;
use crate::der::{self, tag};
use crate::revocation::{Authority, Link, OwnedAuthority, RevocationPolicy};

/// ed25519 (RFC 8410), contents of the AlgorithmIdentifier.
pub(super) const ED25519: &[u8] = &[6, 3, 0x2B, 0x65, 0x70];
const UTC_TIME: u8 = 0x17;

pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    der::write(&mut out, tag, &parts.concat());
    out
}

pub(super) fn time(seconds: i64) -> Vec<u8> {
    element(tag::GENERALIZED_TIME, &[&der::format_kerberos_time(seconds)])
}

pub(super) fn integer(value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    der::write_integer(&mut out, value);
    out
}

/// An Extension.
pub(super) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xFF] } else { &[] };
    element(tag::SEQUENCE, &[&element(tag::OID, &[oid]), critical, &element(tag::OCTET_STRING, &[value])])
}

/// `[0] { fullName }` of a distribution point.
pub(super) fn full_name(uris: &[&str]) -> Vec<u8> {
    let names: Vec<_> = uris.iter().map(|uri| element(tag::context_primitive(6), &[uri.as_bytes()])).collect();
    element(tag::context(0), &[&element(tag::context(0), &[&names.concat()])])
}

/// CRLDistributionPoints or FreshestCRL with one point.
pub(super) fn points(uris: &[&str]) -> Vec<u8> {
    element(tag::SEQUENCE, &[&element(tag::SEQUENCE, &[&full_name(uris)])])
}

/// A CA with one key.
pub(super) struct Ca {
    key: KeyPair,
    pub(super) name: Vec<u8>,
    pub(super) key_identifier: Option<Vec<u8>>,
    pub(super) may_sign_crls: bool,
}

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let common_name = element(tag::SEQUENCE, &[&[6, 3, 0x55, 4, 3], &element(tag::UTF8_STRING, &[name.as_bytes()])]);
        let key_identifier = Some(key.der_bytes()[..8].to_vec());
        Self { key, name: element(0x31, &[&common_name]), key_identifier, may_sign_crls: true }
    }

    pub(super) fn authority(&self) -> OwnedAuthority {
        OwnedAuthority {
            subject: self.name.clone().into(),
            public_key: self.key.subject_public_key_info().into(),
            key_identifier: self.key_identifier.clone().map(Into::into),
            may_sign_crls: self.may_sign_crls,
        }
    }

    /// An empty list of this number, valid from the years of the tests to their end.
    pub(super) fn list(&self, number: i64) -> Draft<'_> {
        Draft {
            ca: self,
            issuer: self.name.clone(),
            version: Some(1),
            algorithm: ED25519.to_vec(),
            this: NOW - DAY,
            next: Some(NOW + DAY),
            next_publish: None,
            number: Some(number),
            key: self.key_identifier.clone(),
            entries: Vec::new(),
            extensions: Vec::new(),
        }
    }

    /// A certificate by this CA; its own signature is nonsense, nobody looks at it here.
    pub(super) fn device(&self, serial: &[u8]) -> Device {
        Device { der: certificate(&self.name, serial, &[]), issuer: self.authority(), policy: RevocationPolicy::Require }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).unwrap()
    }
}

/// What the tests take for now: the tests' lists must not be in the future of the real clock.
pub(super) const NOW: i64 = 1_700_000_000;
pub(super) const DAY: i64 = 86_400;

/// A list to be signed; everything may be wrong.
#[derive(Clone)]
pub(super) struct Draft<'a> {
    pub(super) ca: &'a Ca,
    pub(super) issuer: Vec<u8>,
    pub(super) version: Option<i64>,
    pub(super) algorithm: Vec<u8>,
    pub(super) this: i64,
    pub(super) next: Option<i64>,
    pub(super) next_publish: Option<i64>,
    pub(super) number: Option<i64>,
    pub(super) key: Option<Vec<u8>>,
    /// Whole entries.
    pub(super) entries: Vec<Vec<u8>>,
    /// Whole extensions.
    pub(super) extensions: Vec<Vec<u8>>,
}

impl Draft<'_> {
    pub(super) fn valid(mut self, this: i64, next: i64) -> Self {
        (self.this, self.next) = (this, Some(next));
        self
    }

    /// Lists a certificate; without reason where it is `None`.
    pub(super) fn revoke(mut self, serial: &[u8], reason: Option<u8>) -> Self {
        let extensions =
            reason.map(|reason| element(tag::SEQUENCE, &[&extension(&[0x55, 0x1D, 0x15], false, &[tag::ENUMERATED, 1, reason])]));
        let extensions = extensions.unwrap_or_default();
        let entry = element(tag::SEQUENCE, &[&element(tag::INTEGER, &[serial]), &time(NOW - 7 * DAY), &extensions]);
        self.entries.push(entry);
        self
    }

    pub(super) fn extension(mut self, oid: &[u8], critical: bool, value: &[u8]) -> Self {
        self.extensions.push(extension(oid, critical, value));
        self
    }

    /// Makes it a delta on this base.
    pub(super) fn delta_of(self, base: i64) -> Self {
        self.extension(&[0x55, 0x1D, 0x1B], true, &integer(base))
    }

    /// IssuingDistributionPoint with these fields.
    pub(super) fn scope(self, fields: &[&[u8]]) -> Self {
        self.extension(&[0x55, 0x1D, 0x1C], true, &element(tag::SEQUENCE, fields))
    }

    pub(super) fn freshest(self, uris: &[&str]) -> Self {
        self.extension(&[0x55, 0x1D, 0x2E], false, &points(uris))
    }

    pub(super) fn tbs(&self) -> Vec<u8> {
        let mut extensions = self.extensions.clone();
        if let Some(number) = self.number {
            extensions.push(extension(&[0x55, 0x1D, 0x14], false, &integer(number)));
        }
        if let Some(key) = &self.key {
            let value = element(tag::SEQUENCE, &[&element(tag::context_primitive(0), &[key])]);
            extensions.push(extension(&[0x55, 0x1D, 0x23], false, &value));
        }
        if let Some(at) = self.next_publish {
            extensions.push(extension(&[0x2B, 6, 1, 4, 1, 0x82, 0x37, 0x15, 4], false, &time(at)));
        }
        let entries = if self.entries.is_empty() { Vec::new() } else { element(tag::SEQUENCE, &[&self.entries.concat()]) };
        element(
            tag::SEQUENCE,
            &[
                &self.version.map(integer).unwrap_or_default(),
                &element(tag::SEQUENCE, &[&self.algorithm]),
                &element(tag::SEQUENCE, &[&self.issuer]),
                &utc(self.this),
                &self.next.map(time).unwrap_or_default(),
                &entries,
                &element(tag::context(0), &[&element(tag::SEQUENCE, &[&extensions.concat()])]),
            ],
        )
    }

    pub(super) fn sign(&self) -> Vec<u8> {
        self.signed_by(self.ca)
    }

    pub(super) fn signed_by(&self, ca: &Ca) -> Vec<u8> {
        let tbs = self.tbs();
        let signature = ca.sign(&tbs);
        let outer = element(tag::SEQUENCE, &[&self.algorithm]);
        element(tag::SEQUENCE, &[&tbs, &outer, &element(tag::BIT_STRING, &[&[0], &signature])])
    }
}

fn utc(seconds: i64) -> Vec<u8> {
    element(UTC_TIME, &[&der::format_kerberos_time(seconds)[2..]])
}

/// A certificate and who issued it.
pub(super) struct Device {
    der: Vec<u8>,
    issuer: OwnedAuthority,
    policy: RevocationPolicy,
}

impl Device {
    /// With these extensions in place of none.
    pub(super) fn with(mut self, extensions: &[Vec<u8>]) -> Self {
        let (issuer, serial) = {
            let read = Certificate::read(&self.der).unwrap();
            (read.issuer.to_vec(), read.serial.to_vec())
        };
        self.der = certificate(&issuer, &serial, extensions);
        self
    }

    /// With this CRLDistributionPoints.
    pub(super) fn at(self, uris: &[&str]) -> Self {
        self.with(&[extension(&[0x55, 0x1D, 0x1F], false, &points(uris))])
    }

    pub(super) fn held_to(mut self, policy: RevocationPolicy) -> Self {
        self.policy = policy;
        self
    }

    pub(super) fn link(&self) -> Link<'_> {
        Link { certificate: Certificate::read(&self.der).unwrap(), issuer: self.issuer.borrowed(), policy: self.policy }
    }
}

impl OwnedAuthority {
    pub(super) fn borrowed(&self) -> Authority<'_> {
        Authority {
            subject: &self.subject,
            public_key: &self.public_key,
            key_identifier: self.key_identifier.as_deref(),
            may_sign_crls: self.may_sign_crls,
        }
    }
}

fn certificate(issuer: &[u8], serial: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let algorithm = element(tag::SEQUENCE, &[ED25519]);
    let validity = element(tag::SEQUENCE, &[&time(NOW - 100 * DAY), &time(NOW + 100 * DAY)]);
    let key = element(tag::SEQUENCE, &[&algorithm, &element(tag::BIT_STRING, &[&[0, 1, 2]])]);
    let extensions = match extensions {
        [] => Vec::new(),
        some => element(tag::context(3), &[&element(tag::SEQUENCE, &[&some.concat()])]),
    };
    let tbs = element(
        tag::SEQUENCE,
        &[
            &element(tag::context(0), &[&integer(2)]),
            &element(tag::INTEGER, &[serial]),
            &algorithm,
            &element(tag::SEQUENCE, &[issuer]),
            &validity,
            &element(tag::SEQUENCE, &[issuer]),
            &key,
            &extensions,
        ],
    );
    element(tag::SEQUENCE, &[&tbs, &algorithm, &element(tag::BIT_STRING, &[&[0, 0]])])
}
