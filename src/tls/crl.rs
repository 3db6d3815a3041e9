//! Certificate revocation lists from files (RFC 5280 section 5).
//!
//! The path builder asks the first list that names the issuer, in the order it is given, and no other. A stale list in front
//! of a newer one would hide a revocation, and the list of a CA's other key would refuse everybody. So at most one list per
//! issuer is kept: the newest, when all are evidently by the same key and about the same certificates; otherwise loading fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateRevocationListDer, UnixTime};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use crate::certificate::{self, LoadError, name_text, read_bounded, read_extension};
use crate::der::{self, DerError, Reader, tag};

const MAX_CRL_FILE: u64 = 64 << 20;

/// id-ce-cRLNumber 2.5.29.20
const CRL_NUMBER: &[u8] = &[0x55, 0x1D, 0x14];
/// id-ce-deltaCRLIndicator 2.5.29.27
const DELTA_INDICATOR: &[u8] = &[0x55, 0x1D, 0x1B];
/// id-ce-issuingDistributionPoint 2.5.29.28
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1D, 0x1C];
/// id-ce-authorityKeyIdentifier 2.5.29.35
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1D, 0x23];

const UTC_TIME: u8 = 0x17;

/// The lists of all files, at most one per issuer.
pub(crate) fn load(files: &[PathBuf]) -> Result<Vec<CertRevocationList<'static>>, LoadError> {
    let mut by_issuer: BTreeMap<Vec<u8>, Candidate> = BTreeMap::new();
    for path in files {
        for der in read(path)? {
            let candidate = Candidate::new(path, der.to_vec())?;
            let issuer = candidate.facts.issuer.clone();
            let kept = match by_issuer.remove(&issuer) {
                None => candidate,
                Some(other) => newer(other, candidate)?,
            };
            by_issuer.insert(issuer, kept);
        }
    }
    by_issuer.into_values().map(Candidate::parse).collect()
}

/// Every CRL of a file: one in DER, or any number in PEM.
fn read(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, LoadError> {
    let remedy = "fetch the CRL again from the CA (AD CS: certutil -getcrl)";
    let bytes = read_bounded(path, MAX_CRL_FILE)?;
    if bytes.first() == Some(&tag::SEQUENCE) {
        return Ok(vec![bytes.into()]);
    }
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| LoadError::new(path, format!("is neither a DER CRL nor valid PEM: {error}"), remedy))?;
    if lists.is_empty() {
        return Err(LoadError::new(path, "holds no CRL", remedy));
    }
    Ok(lists)
}

/// A list not yet known to be the one to keep.
struct Candidate {
    path: PathBuf,
    der: Vec<u8>,
    facts: Facts,
}

/// What decides which of two lists to keep.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    issuer: Vec<u8>,
    this_update: i64,
    next_update: Option<i64>,
    /// CRLNumber without leading zeros.
    number: Option<Vec<u8>>,
    /// AuthorityKeyIdentifier, as encoded.
    key: Option<Vec<u8>>,
    /// IssuingDistributionPoint, as encoded.
    scope: Option<Vec<u8>>,
    delta: bool,
}

impl Candidate {
    fn new(path: &Path, der: Vec<u8>) -> Result<Self, LoadError> {
        let facts = Facts::read(&der).map_err(|error| {
            LoadError::new(path, format!("is not a version 2 CRL: {error}"), "fetch the CRL again from the CA")
        })?;
        if facts.delta {
            return Err(LoadError::new(
                path,
                format!("is a delta CRL of {}", name_text(&facts.issuer)),
                "delta CRLs are not supported: name the base CRL, and have the CA publish it as often as you need",
            ));
        }
        Ok(Self { path: path.to_owned(), der, facts })
    }

    fn parse(self) -> Result<CertRevocationList<'static>, LoadError> {
        let parsed = OwnedCertRevocationList::from_der(&self.der).map_err(|error| {
            LoadError::new(
                &self.path,
                format!("is a CRL of an unsupported form: {error}"),
                "have the CA publish a full, direct CRL",
            )
        })?;
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        if self.facts.next_update.is_some_and(|end| end < now) {
            tracing::error!(
                file = %self.path.display(),
                issuer = name_text(&self.facts.issuer),
                "this CRL is past its nextUpdate: every certificate of its issuer will be refused until a new one is installed"
            );
        }
        tracing::info!(
            file = %self.path.display(),
            issuer = name_text(&self.facts.issuer),
            this_update = self.facts.this_update,
            next_update = self.facts.next_update,
            "CRL loaded"
        );
        Ok(parsed.into())
    }
}

/// The newer of two lists of one issuer, where that can be said for certain.
fn newer(one: Candidate, other: Candidate) -> Result<Candidate, LoadError> {
    if one.der == other.der {
        return Ok(one);
    }
    let refusal = |why: &str, remedy: &str| {
        let problem = format!("and {}: {why} of {}", other.path.display(), name_text(&other.facts.issuer));
        Err(LoadError::new(&one.path, problem, remedy))
    };
    if one.facts.scope != other.facts.scope {
        return refusal(
            "two CRLs with different distribution points",
            "partitioned CRLs are not supported: name one CRL that covers all certificates of this issuer",
        );
    }
    if one.facts.key.is_none() || one.facts.key != other.facts.key {
        return refusal(
            "two CRLs that are not evidently signed by the same key",
            "after a CA's key renewal, name only the CRL of the key that signed the certificates in use",
        );
    }
    let by_time = one.facts.this_update.cmp(&other.facts.this_update);
    let by_number = match (&one.facts.number, &other.facts.number) {
        (Some(one), Some(other)) => one.len().cmp(&other.len()).then_with(|| one.cmp(other)),
        _ => by_time,
    };
    if by_time.is_gt() && by_number.is_gt() || by_time.is_eq() && by_number.is_gt() {
        Ok(one)
    } else if by_time.is_lt() && by_number.is_lt() || by_time.is_eq() && by_number.is_lt() {
        Ok(other)
    } else {
        refusal("two CRLs whose thisUpdate and CRLNumber disagree about which is newer", "name only the current CRL")
    }
}

impl Facts {
    /// TBSCertList (RFC 5280 section 5.1).
    fn read(der: &[u8]) -> Result<Self, DerError> {
        let mut signed = Reader::new(der::only(der, tag::SEQUENCE)?);
        let mut tbs = signed.nested(tag::SEQUENCE)?;
        if tbs.read(tag::INTEGER)? != [1] {
            return Err(DerError::Value);
        }
        tbs.read(tag::SEQUENCE)?;
        let issuer = tbs.read(tag::SEQUENCE)?.to_vec();
        let this_update = certificate::time(&mut tbs)?;
        let next_update = match tbs.peek() {
            Some(UTC_TIME | tag::GENERALIZED_TIME) => Some(certificate::time(&mut tbs)?),
            _ => None,
        };
        tbs.optional(tag::SEQUENCE)?;
        let mut facts = Self { issuer, this_update, next_update, number: None, key: None, scope: None, delta: false };
        let mut extensions = Reader::new(tbs.explicit(0, tag::SEQUENCE)?);
        while !extensions.is_empty() {
            let extension = read_extension(&mut extensions)?;
            let slot = match extension.oid {
                CRL_NUMBER => {
                    let digits = der::only(extension.value, tag::INTEGER)?;
                    let significant = digits.iter().position(|&octet| octet != 0).unwrap_or(digits.len());
                    facts.number = digits.get(significant..).map(<[u8]>::to_vec);
                    continue;
                }
                DELTA_INDICATOR => {
                    facts.delta = true;
                    continue;
                }
                ISSUING_DISTRIBUTION_POINT => &mut facts.scope,
                AUTHORITY_KEY_IDENTIFIER => &mut facts.key,
                _ => continue,
            };
            *slot = Some(extension.value.to_vec());
        }
        tbs.finish()?;
        Ok(facts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(file: &str, this_update: i64, number: &[u8], key: Option<&[u8]>, scope: Option<&[u8]>) -> Candidate {
        let facts = Facts {
            issuer: vec![],
            this_update,
            next_update: None,
            number: Some(number.to_vec()),
            key: key.map(<[u8]>::to_vec),
            scope: scope.map(<[u8]>::to_vec),
            delta: false,
        };
        Candidate { path: file.into(), der: file.as_bytes().to_vec(), facts }
    }

    fn kept(one: Candidate, other: Candidate) -> Result<PathBuf, String> {
        newer(one, other).map(|kept| kept.path).map_err(|error| error.to_string())
    }

    #[test]
    fn of_two_lists_by_the_same_key_the_newer_is_kept_in_either_order() {
        let old = || candidate("old", 1, &[0xFF], Some(b"k"), None);
        let new = || candidate("new", 2, &[1, 0], Some(b"k"), None);
        assert_eq!(kept(old(), new()), Ok("new".into()));
        assert_eq!(kept(new(), old()), Ok("new".into()));
    }

    #[test]
    fn lists_of_different_or_unknown_keys_are_refused() {
        for keys in [(Some(&b"k"[..]), Some(&b"l"[..])), (None, None), (Some(b"k"), None)] {
            let refusal = kept(candidate("a", 1, &[1], keys.0, None), candidate("b", 2, &[2], keys.1, None)).unwrap_err();
            assert!(refusal.contains("same key") && refusal.contains('a') && refusal.contains('b'), "{refusal}");
        }
    }

    #[test]
    fn partitioned_lists_are_refused() {
        let refusal =
            kept(candidate("a", 1, &[1], Some(b"k"), Some(b"x")), candidate("b", 2, &[2], Some(b"k"), None)).unwrap_err();
        assert!(refusal.contains("distribution points"), "{refusal}");
    }

    #[test]
    fn lists_whose_time_and_number_disagree_are_refused() {
        let at = |time, number: &[u8]| candidate(&format!("{time}-{number:?}"), time, number, Some(b"k"), None);
        assert!(kept(at(1, &[2]), at(2, &[1])).unwrap_err().contains("disagree"));
        assert!(kept(at(2, &[2]), at(1, &[2])).unwrap_err().contains("disagree"));
        assert!(kept(at(1, &[1]), at(1, &[2])).is_ok());
    }

    #[test]
    fn the_same_list_twice_is_one_list() {
        let same = || Candidate { der: vec![1], ..candidate("a", 1, &[1], None, None) };
        assert!(kept(same(), same()).is_ok());
    }

    proptest! {
        #[test]
        fn the_list_reader_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Facts::read(&bytes);
            let mut wrapped = Vec::new();
            der::write(&mut wrapped, tag::SEQUENCE, &bytes);
            let _ = Facts::read(&wrapped);
        }
    }
}
