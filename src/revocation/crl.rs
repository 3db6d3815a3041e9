//! A CertificateList, version 2 (RFC 5280 section 5). Strict and total over what a server or a file gives; believes nothing: whether
//! the signature is the issuer's is asked elsewhere, once.
//!
//! A list is taken whole or not at all. What would make its silence about a certificate mean something else than "not revoked" is
//! refused here, by name: lists of some reasons only, of other issuers' certificates, with critical extensions we do not know.

use std::fmt;

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::certificate::{Signed, dotted, general_name_uris, hex, time};
use crate::der::{self, DerError, Reader, tag};
use crate::revocation::entries::{self, Entries, EntriesBuilder, Revoked};

/// Object identifiers as DER contents octets.
mod oid {
    /// id-ce-cRLNumber 2.5.29.20
    pub(super) const CRL_NUMBER: &[u8] = &[0x55, 0x1D, 0x14];
    /// id-ce-cRLReasons 2.5.29.21
    pub(super) const REASON: &[u8] = &[0x55, 0x1D, 0x15];
    /// id-ce-invalidityDate 2.5.29.24
    pub(super) const INVALIDITY_DATE: &[u8] = &[0x55, 0x1D, 0x18];
    /// id-ce-deltaCRLIndicator 2.5.29.27
    pub(super) const DELTA_INDICATOR: &[u8] = &[0x55, 0x1D, 0x1B];
    /// id-ce-issuingDistributionPoint 2.5.29.28
    pub(super) const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1D, 0x1C];
    /// id-ce-certificateIssuer 2.5.29.29
    pub(super) const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1D, 0x1D];
    /// id-ce-authorityKeyIdentifier 2.5.29.35
    pub(super) const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1D, 0x23];
    /// id-ce-freshestCRL 2.5.29.46
    pub(super) const FRESHEST_CRL: &[u8] = &[0x55, 0x1D, 0x2E];
    /// szOID_CRL_NEXT_PUBLISH 1.3.6.1.4.1.311.21.4
    pub(super) const NEXT_PUBLISH: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x15, 0x04];
    /// md5WithRSAEncryption, sha1WithRSAEncryption, id-dsa-with-sha1, ecdsa-with-SHA1
    pub(super) const OUTDATED_SIGNATURES: [&[u8]; 4] = [
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x04],
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x05],
        &[0x2A, 0x86, 0x48, 0xCE, 0x38, 0x04, 0x03],
        &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x01],
    ];
}

/// More than any CA ever revoked; a list of that size is 300 MB.
const MAX_ENTRIES: usize = 10_000_000;
/// Lists in one PEM file.
const MAX_LISTS_OF_A_FILE: usize = 64;
const MAX_EXTENSIONS: usize = 16;
const MAX_URI: usize = 2048;

const UTC_TIME: u8 = 0x17;

/// Why bytes are not a list we use.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum CrlError {
    /// Not the structure of RFC 5280.
    #[error("not a version 2 CRL: {0}")]
    Der(#[from] DerError),
    /// Neither DER nor PEM, or PEM without any list.
    #[error("neither a DER CRL nor PEM with a CRL in it")]
    NoList,
    /// More than any file of CRLs has.
    #[error("more than {MAX_LISTS_OF_A_FILE} CRLs in one file")]
    TooManyLists,
    /// RFC 5280 section 5.1.1.2.
    #[error("its two signature algorithms differ")]
    Algorithms,
    /// Broken hash functions are not believed, whatever the CA still uses.
    #[error("signed with SHA-1 or MD5; have the CA sign CRLs with SHA-256")]
    OutdatedSignature,
    /// Without it nobody could tell a current list from an old one.
    #[error("it has no nextUpdate")]
    NoNextUpdate,
    /// It was never valid.
    #[error("its nextUpdate is not after its thisUpdate")]
    Backwards,
    /// RFC 5280 section 4.2, which section 5.2 refers to.
    #[error("extension {0} occurs twice")]
    DuplicateExtension(String),
    /// Not to be used without understanding it (RFC 5280 section 5.2).
    #[error("critical extension {0} is unknown")]
    CriticalExtension(String),
    /// RFC 5280 section 5.3: the same of an entry.
    #[error("critical entry extension {0} is unknown")]
    CriticalEntryExtension(String),
    /// It lists certificates of other issuers.
    #[error("it is an indirect CRL")]
    Indirect,
    /// It says nothing about certificates for people and devices.
    #[error("it is about attribute certificates only")]
    AttributeCertificates,
    /// Not on it may still mean revoked.
    #[error("it is about some revocation reasons only")]
    SomeReasons,
    /// RFC 5280 section 5.2.5 allows one at most.
    #[error("it is about end entities only and about CAs only")]
    NoScope,
    /// A name relative to the issuer's; AD CS writes none.
    #[error("its distribution point is named relative to its issuer")]
    RelativeName,
    /// Names of other kinds cannot be compared with a certificate's.
    #[error("its distribution point has no URI")]
    NamelessPoint,
    /// A delta that could not be put in order.
    #[error("it is a delta CRL without a CRL number")]
    DeltaWithoutNumber,
    /// More than this process is ready to hold.
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
}

/// CRLNumber: up to 20 octets (RFC 5280 section 5.2.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number([u8; 20]);

/// Which of its issuer's certificates a list is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// The extension's value as it stands, for comparison with another list's.
    pub(super) encoded: Option<Box<[u8]>>,
    pub(super) kind: Kind,
    /// URIs of its distribution point, where it names one.
    pub(super) points: Option<Vec<Box<str>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    All,
    EndEntities,
    Authorities,
}

/// A list as it is kept.
#[derive(Debug)]
pub(super) struct Crl {
    /// Contents of the issuer's Name.
    pub(super) issuer: Box<[u8]>,
    /// keyIdentifier of AuthorityKeyIdentifier.
    pub(super) key: Option<Box<[u8]>>,
    pub(super) number: Option<Number>,
    /// BaseCRLNumber: this is a delta against a list of at least that number.
    pub(super) delta_of: Option<Number>,
    /// Seconds since 1970.
    pub(super) this_update: i64,
    /// Seconds since 1970.
    pub(super) next_update: i64,
    /// When Microsoft's CA publishes the next one, before nextUpdate.
    pub(super) next_publish: Option<i64>,
    pub(super) scope: Scope,
    /// Where its deltas are.
    pub(super) freshest: Vec<Box<str>>,
    pub(super) entries: Entries,
    /// SHA-256 of the whole.
    pub(super) digest: [u8; 32],
}

/// Every list of a file or an answer, as DER: one in DER, or any number in PEM.
pub(super) fn lists(bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CrlError> {
    if bytes.first() == Some(&tag::SEQUENCE) {
        return Ok(vec![bytes]);
    }
    let pem = CertificateRevocationListDer::pem_slice_iter(&bytes).take(MAX_LISTS_OF_A_FILE + 1);
    let lists: Vec<_> = pem.map(|list| list.map(|der| der.to_vec())).collect::<Result<_, _>>().map_err(|_| CrlError::NoList)?;
    match lists.len() {
        0 => Err(CrlError::NoList),
        1..=MAX_LISTS_OF_A_FILE => Ok(lists),
        _ => Err(CrlError::TooManyLists),
    }
}

impl Crl {
    /// Reads a list in DER, in one pass.
    pub(super) fn read(der: &[u8]) -> Result<Self, CrlError> {
        let signed = Signed::read(der)?;
        let mut tbs = Reader::new(der::only(signed.message, tag::SEQUENCE)?);
        if tbs.read(tag::INTEGER)? != [1] {
            return Err(DerError::Value.into());
        }
        if tbs.read(tag::SEQUENCE)? != signed.algorithm {
            return Err(CrlError::Algorithms);
        }
        if oid::OUTDATED_SIGNATURES.contains(&Reader::new(signed.algorithm).read(tag::OID)?) {
            return Err(CrlError::OutdatedSignature);
        }
        let issuer = tbs.read(tag::SEQUENCE)?;
        let this_update = time(&mut tbs)?;
        let next_update = match tbs.peek() {
            Some(UTC_TIME | tag::GENERALIZED_TIME) => time(&mut tbs)?,
            _ => return Err(CrlError::NoNextUpdate),
        };
        if next_update <= this_update {
            return Err(CrlError::Backwards);
        }
        let revoked = tbs.optional(tag::SEQUENCE)?.unwrap_or_default();
        let extensions = tbs.explicit_optional(0, tag::SEQUENCE)?.unwrap_or_default();
        tbs.finish()?;
        let mut list = Self {
            issuer: issuer.into(),
            key: None,
            number: None,
            delta_of: None,
            this_update,
            next_update,
            next_publish: None,
            scope: Scope::default(),
            freshest: Vec::new(),
            entries: Entries::default(),
            digest: Sha256::digest(der).into(),
        };
        each_extension(extensions, |oid, critical, value| list.read_extension(oid, critical, value))?;
        if list.delta_of.is_some() && list.number.is_none() {
            return Err(CrlError::DeltaWithoutNumber);
        }
        list.entries = read_entries(revoked)?;
        Ok(list)
    }

    /// Memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.entries.bytes() + self.issuer.len() + size_of::<Self>()
    }

    fn read_extension(&mut self, oid: &[u8], critical: bool, value: &[u8]) -> Result<(), CrlError> {
        match oid {
            oid::CRL_NUMBER => self.number = Some(Number::read(value)?),
            oid::DELTA_INDICATOR => self.delta_of = Some(Number::read(value)?),
            oid::AUTHORITY_KEY_IDENTIFIER => {
                let mut fields = Reader::new(der::only(value, tag::SEQUENCE)?);
                self.key = fields.optional(tag::context_primitive(0))?.map(Into::into);
            }
            oid::ISSUING_DISTRIBUTION_POINT => self.scope = Scope::read(value)?,
            oid::FRESHEST_CRL => self.freshest = freshest(value)?,
            oid::NEXT_PUBLISH => {
                let mut reader = Reader::new(value);
                self.next_publish = Some(time(&mut reader)?);
                reader.finish()?;
            }
            _ if critical => return Err(CrlError::CriticalExtension(dotted(oid))),
            _ => {}
        }
        Ok(())
    }
}

impl Number {
    fn read(value: &[u8]) -> Result<Self, DerError> {
        match der::only(value, tag::INTEGER)? {
            [] => Err(DerError::Value),
            [first, ..] if first & 0x80 != 0 => Err(DerError::Value),
            digits => entries::aligned(digits).map(Self).ok_or(DerError::Value),
        }
    }
}

impl fmt::Display for Number {
    /// Hexadecimal, as Windows shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex(&self.0);
        let digits = digits.trim_start_matches('0');
        f.write_str(if digits.is_empty() { "0" } else { digits })
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Number({self})")
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries", self.len())
    }
}

impl Scope {
    /// `IssuingDistributionPoint` (RFC 5280 section 5.2.5).
    fn read(value: &[u8]) -> Result<Self, CrlError> {
        let mut fields = Reader::new(der::only(value, tag::SEQUENCE)?);
        let point = fields.optional(tag::context(0))?;
        let end_entities = flag(&mut fields, 1)?;
        let authorities = flag(&mut fields, 2)?;
        let some_reasons = fields.optional(tag::context_primitive(3))?.is_some();
        let indirect = flag(&mut fields, 4)?;
        let attributes = flag(&mut fields, 5)?;
        fields.finish()?;
        match () {
            () if indirect => return Err(CrlError::Indirect),
            () if some_reasons => return Err(CrlError::SomeReasons),
            () if attributes => return Err(CrlError::AttributeCertificates),
            () if end_entities && authorities => return Err(CrlError::NoScope),
            () => {}
        }
        let kind = match (end_entities, authorities) {
            (true, _) => Kind::EndEntities,
            (_, true) => Kind::Authorities,
            _ => Kind::All,
        };
        let points = point.map(full_name).transpose()?;
        // Named, but not so that a certificate's distribution point could be recognised: silence of such a list means nothing.
        if points.as_ref().is_some_and(Vec::is_empty) {
            return Err(CrlError::NamelessPoint);
        }
        Ok(Self { encoded: Some(value.into()), kind, points })
    }
}

/// `DistributionPointName`: the URIs of fullName, other names left out.
fn full_name(name: &[u8]) -> Result<Vec<Box<str>>, CrlError> {
    let mut name = Reader::new(name);
    match name.any()? {
        (kind, names) if kind == tag::context(0) => {
            name.finish()?;
            uris(names)
        }
        (kind, _) if kind == tag::context(1) => Err(CrlError::RelativeName),
        (found, _) => Err(DerError::UnexpectedTag { expected: tag::context(0), found }.into()),
    }
}

/// `FreshestCRL`: the URIs of every point that is about all reasons and this issuer.
fn freshest(value: &[u8]) -> Result<Vec<Box<str>>, CrlError> {
    let mut points = Reader::new(der::only(value, tag::SEQUENCE)?);
    let mut found = Vec::new();
    while !points.is_empty() && found.len() < MAX_EXTENSIONS {
        let mut fields = points.nested(tag::SEQUENCE)?;
        let name = fields.optional(tag::context(0))?;
        if let (Some(name), true) = (name, fields.is_empty()) {
            found.extend(full_name(name)?);
        }
    }
    Ok(found)
}

fn uris(names: &[u8]) -> Result<Vec<Box<str>>, CrlError> {
    let uris = general_name_uris(names)?;
    Ok(uris.into_iter().filter(|uri| uri.len() <= MAX_URI).map(Into::into).collect())
}

/// `[n] IMPLICIT BOOLEAN DEFAULT FALSE`
fn flag(fields: &mut Reader<'_>, n: u8) -> Result<bool, DerError> {
    fields.optional(tag::context_primitive(n))?.map_or(Ok(false), boolean)
}

fn boolean(contents: &[u8]) -> Result<bool, DerError> {
    match contents {
        [0xFF] => Ok(true),
        [0x00] => Ok(false),
        _ => Err(DerError::Value),
    }
}

fn read_entries(contents: &[u8]) -> Result<Entries, CrlError> {
    let mut builder = EntriesBuilder::for_bytes(contents.len());
    let mut list = Reader::new(contents);
    let mut count = 0;
    while !list.is_empty() {
        if count == MAX_ENTRIES {
            return Err(CrlError::TooManyEntries);
        }
        count += 1;
        let mut entry = list.nested(tag::SEQUENCE)?;
        let serial = entry.read(tag::INTEGER)?;
        if serial.is_empty() {
            return Err(DerError::Value.into());
        }
        let since = time(&mut entry)?;
        let extensions = entry.optional(tag::SEQUENCE)?.unwrap_or_default();
        entry.finish()?;
        let mut reason = 0;
        each_extension(extensions, |oid, critical, value| {
            match oid {
                oid::REASON => reason = read_reason(value)?,
                oid::INVALIDITY_DATE => {}
                oid::CERTIFICATE_ISSUER => return Err(CrlError::Indirect),
                _ if critical => return Err(CrlError::CriticalEntryExtension(dotted(oid))),
                _ => {}
            }
            Ok(())
        })?;
        builder.push(serial, Revoked { reason, since })?;
    }
    Ok(builder.finish())
}

/// CRLReason (RFC 5280 section 5.3.1); 7 is not used.
fn read_reason(value: &[u8]) -> Result<u8, DerError> {
    match der::only(value, tag::ENUMERATED)? {
        [reason] if *reason <= 10 && *reason != 7 => Ok(*reason),
        _ => Err(DerError::Value),
    }
}

/// Each extension once: OID, criticality, value. Allocates nothing: entries have extensions too.
fn each_extension<'a>(
    list: &'a [u8],
    mut each: impl FnMut(&'a [u8], bool, &'a [u8]) -> Result<(), CrlError>,
) -> Result<(), CrlError> {
    let mut list = Reader::new(list);
    let mut seen: [&[u8]; MAX_EXTENSIONS] = [&[]; MAX_EXTENSIONS];
    let mut free = seen.iter_mut();
    while !list.is_empty() {
        let mut fields = list.nested(tag::SEQUENCE)?;
        let oid = fields.read(tag::OID)?;
        let critical = fields.optional(tag::BOOLEAN)?.map_or(Ok(false), boolean)?;
        let value = fields.read(tag::OCTET_STRING)?;
        fields.finish()?;
        *free.next().ok_or(DerError::Value)? = oid;
        each(oid, critical, value)?;
    }
    let used = MAX_EXTENSIONS - free.len();
    let seen = seen.get(..used).unwrap_or_default();
    match seen.iter().enumerate().find(|(at, oid)| seen.iter().take(*at).any(|before| before == *oid)) {
        Some((_, twice)) => Err(CrlError::DuplicateExtension(dotted(twice))),
        None => Ok(()),
    }
}
