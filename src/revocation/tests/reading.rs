//! Lists as bytes.

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd,
};

use crate::der::{DerError, tag};
use crate::revocation::crl::{self, Crl, CrlError, Kind};
use crate::revocation::testkit::{Ca, DAY, ED25519, NOW, element, extension, full_name, integer, time};

fn refusal(der: &[u8]) -> CrlError {
    Crl::read(der).unwrap_err()
}

#[test]
fn a_list_is_read_field_by_field() {
    let ca = Ca::new("Device CA");
    let mut draft = ca.list(0x1234).revoke(&[5], Some(1)).revoke(&[0, 0x90], None).freshest(&["http://a/delta.crl"]);
    draft.next_publish = Some(NOW + 1000);
    let list = Crl::read(&draft.sign()).unwrap();
    assert_eq!((&*list.issuer, list.key.as_deref()), (ca.name.as_slice(), ca.key_identifier.as_deref()));
    assert_eq!((list.this_update, list.next_update, list.next_publish), (NOW - DAY, NOW + DAY, Some(NOW + 1000)));
    assert_eq!((list.number.unwrap().to_string(), list.delta_of), ("1234".to_owned(), None));
    assert_eq!(list.freshest, ["http://a/delta.crl".into()]);
    assert_eq!(list.entries.len(), 2);
    let found = list.entries.find(&[5]).unwrap();
    assert_eq!((found.reason, found.since), (1, NOW - 7 * DAY));
    assert_eq!(list.entries.find(&[0x90]).unwrap().reason, 0);
}

#[test]
fn a_list_of_another_implementation_is_read() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(0xABCD_u64),
        revocation_time: date_time_ymd(2024, 6, 17),
        reason_code: Some(RevocationReason::CertificateHold),
        invalidity_date: Some(date_time_ymd(2024, 6, 1)),
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 6, 17),
        next_update: date_time_ymd(2051, 6, 17),
        crl_number: SerialNumber::from(7_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let signed = list.signed_by(&Issuer::new(params, key)).unwrap();
    let read = Crl::read(signed.der()).unwrap();
    assert_eq!(read.entries.find(&[0xAB, 0xCD]).map(|found| found.reason), Some(6));
    let pem = crl::lists(format!("{0}{0}", signed.pem().unwrap()).into_bytes()).unwrap();
    assert_eq!(pem, [signed.der().to_vec(), signed.der().to_vec()]);
}

#[test]
fn what_is_no_list_is_said_to_be_none() {
    assert_eq!(crl::lists(b"hello".to_vec()).unwrap_err(), CrlError::NoList);
    assert_eq!(crl::lists(Vec::new()).unwrap_err(), CrlError::NoList);
    let one = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
    assert_eq!(crl::lists(one.repeat(64).into_bytes()).unwrap().len(), 64);
    assert_eq!(crl::lists(one.repeat(65).into_bytes()).unwrap_err(), CrlError::TooManyLists);
}

#[test]
fn an_empty_list_and_one_without_extensions_are_lists() {
    let ca = Ca::new("Device CA");
    let mut draft = ca.list(1);
    (draft.number, draft.key) = (None, None);
    let list = Crl::read(&draft.sign()).unwrap();
    assert!(list.number.is_none() && list.key.is_none());
    assert_eq!(list.entries.len(), 0);
}

#[test]
fn what_a_list_must_not_be_is_refused_with_its_reason() {
    let ca = Ca::new("Device CA");
    let good = || ca.list(1);
    let idp = |fields: &[&[u8]]| refusal(&good().scope(fields).sign());
    let yes = |n: u8| element(tag::context_primitive(n), &[&[0xFF]]);
    assert_eq!(idp(&[&yes(4)]), CrlError::Indirect);
    assert_eq!(idp(&[&element(tag::context_primitive(3), &[&[0, 0x80]])]), CrlError::SomeReasons);
    assert_eq!(idp(&[&yes(5)]), CrlError::AttributeCertificates);
    assert_eq!(idp(&[&yes(1), &yes(2)]), CrlError::NoScope);
    assert_eq!(idp(&[&element(tag::context(0), &[&element(tag::context(1), &[])])]), CrlError::RelativeName);
    let directory_name = element(tag::context(0), &[&element(tag::context(4), &[&element(tag::SEQUENCE, &[])])]);
    assert_eq!(idp(&[&element(tag::context(0), &[&directory_name])]), CrlError::NamelessPoint);
    assert_eq!(idp(&[&yes(2), &yes(1)]), CrlError::Der(DerError::Trailing), "out of order");
    assert_eq!(idp(&[&element(tag::context_primitive(1), &[&[1]])]), CrlError::Der(DerError::Value), "no boolean");

    let number = [0x55, 0x1D, 0x14];
    let twice = good().extension(&number, false, &integer(2)).sign();
    assert_eq!(refusal(&twice), CrlError::DuplicateExtension("2.5.29.20".into()));
    let unknown = good().extension(&[0x2A, 3], true, &[5, 0]).sign();
    assert_eq!(refusal(&unknown), CrlError::CriticalExtension("1.2.3".into()));
    assert!(Crl::read(&good().extension(&[0x2A, 3], false, &[5, 0]).sign()).is_ok());

    let mut delta = good().delta_of(1);
    delta.number = None;
    assert_eq!(refusal(&delta.sign()), CrlError::DeltaWithoutNumber);
    let mut negative = good();
    negative.number = Some(-1);
    assert_eq!(refusal(&negative.sign()), CrlError::Der(DerError::Value));
    let mut endless = good();
    endless.next = None;
    assert_eq!(refusal(&endless.sign()), CrlError::NoNextUpdate);
    assert_eq!(refusal(&good().valid(NOW, NOW).sign()), CrlError::Backwards);
    for version in [None, Some(0), Some(2)] {
        let mut other = good();
        other.version = version;
        assert!(matches!(refusal(&other.sign()), CrlError::Der(_)), "{version:?}");
    }
}

#[test]
fn a_list_signed_with_a_broken_hash_is_refused_by_name() {
    let ca = Ca::new("Device CA");
    for algorithm in [
        &[6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 5, 5, 0][..],
        &[6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 4, 5, 0],
        &[6, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 1],
    ] {
        let mut draft = ca.list(1);
        draft.algorithm = algorithm.to_vec();
        assert_eq!(refusal(&draft.sign()), CrlError::OutdatedSignature);
    }
}

#[test]
fn two_signature_algorithms_that_differ_are_refused() {
    let ca = Ca::new("Device CA");
    let mut inner = ca.list(1);
    inner.algorithm = vec![6, 3, 0x2B, 0x65, 0x71];
    let outer = element(tag::SEQUENCE, &[ED25519]);
    let mixed = element(tag::SEQUENCE, &[&inner.tbs(), &outer, &element(tag::BIT_STRING, &[&[0; 65]])]);
    assert_eq!(refusal(&mixed), CrlError::Algorithms);
}

#[test]
fn an_entry_that_cannot_be_understood_makes_the_list_useless() {
    let ca = Ca::new("Device CA");
    let with = |extensions: &[Vec<u8>], serial: &[u8]| {
        let mut draft = ca.list(1);
        let extensions = if extensions.is_empty() { Vec::new() } else { element(tag::SEQUENCE, &[&extensions.concat()]) };
        draft.entries.push(element(tag::SEQUENCE, &[&element(tag::INTEGER, &[serial]), &time(NOW), &extensions]));
        Crl::read(&draft.sign())
    };
    let reason = |value: u8| extension(&[0x55, 0x1D, 0x15], false, &[tag::ENUMERATED, 1, value]);
    assert!(with(&[reason(1), extension(&[0x2A, 3], false, &[])], &[1]).is_ok());
    let indirect = extension(&[0x55, 0x1D, 0x1D], true, &[0x30, 0]);
    assert_eq!(with(&[indirect], &[1]).unwrap_err(), CrlError::Indirect);
    let critical = extension(&[0x2A, 3], true, &[]);
    assert_eq!(with(&[critical], &[1]).unwrap_err(), CrlError::CriticalEntryExtension("1.2.3".into()));
    assert_eq!(with(&[reason(1), reason(6)], &[1]).unwrap_err(), CrlError::DuplicateExtension("2.5.29.21".into()));
    for nonsense in [7, 11, 255] {
        assert_eq!(with(&[reason(nonsense)], &[1]).unwrap_err(), CrlError::Der(DerError::Value));
    }
    assert_eq!(with(&[], &[]).unwrap_err(), CrlError::Der(DerError::Value), "a serial number without octets");
    let crowd: Vec<_> = (0..20).map(|n| extension(&[0x2A, n], false, &[])).collect();
    assert!(with(&crowd, &[1]).is_err());
}

#[test]
fn the_scope_of_a_list_is_read() {
    let ca = Ca::new("Device CA");
    let point = full_name(&["ldap:///CN=a", "http://a/b.crl"]);
    let list = Crl::read(&ca.list(1).scope(&[&point, &element(tag::context_primitive(1), &[&[0xFF]])]).sign()).unwrap();
    assert_eq!(list.scope.kind, Kind::EndEntities);
    assert_eq!(list.scope.points, Some(vec!["ldap:///CN=a".into(), "http://a/b.crl".into()]));
}

/// A list of this many certificates with random-looking serial numbers of 16 octets, signature left out.
pub(super) fn large(entries: u32) -> Vec<u8> {
    let ca = Ca::new("Device CA");
    let body = (0..entries).map(|n| {
        let mut entry = vec![0x30, 0x21, 0x02, 0x10];
        entry.extend(serial(n));
        entry.extend(b"\x17\x0D240617120000Z");
        entry
    });
    let mut draft = ca.list(1);
    draft.entries = vec![body.flatten().collect()];
    let outer = element(tag::SEQUENCE, &[ED25519]);
    element(tag::SEQUENCE, &[&draft.tbs(), &outer, &element(tag::BIT_STRING, &[&[0; 65]])])
}

pub(super) fn serial(n: u32) -> [u8; 16] {
    // Odd multipliers permute 64-bit numbers.
    let high = u64::from(n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1 | 1 << 62;
    let low = u64::from(n).wrapping_mul(0xD1B5_4A32_D192_ED03);
    let mut serial = [0; 16];
    serial[..8].copy_from_slice(&high.to_be_bytes());
    serial[8..].copy_from_slice(&low.to_be_bytes());
    serial
}

#[test]
fn every_entry_of_a_large_list_is_found_and_no_other() {
    let list = Crl::read(&large(100_000)).unwrap();
    assert_eq!(list.entries.len(), 100_000);
    for n in (0..100_000).step_by(997) {
        assert!(list.entries.find(&serial(n)).is_some());
        assert!(list.entries.find(&serial(n + 100_000)).is_none());
    }
}

#[test]
fn a_million_entries_are_read_into_little_memory_and_found_again() {
    const ENTRIES: u32 = 1_000_000;
    let list = Crl::read(&large(ENTRIES)).unwrap();
    assert_eq!(list.entries.len(), ENTRIES as usize);
    assert!(list.entries.bytes() / list.entries.len() <= 32, "{} bytes", list.entries.bytes());
    let found = |range: std::ops::Range<u32>| range.step_by(97).filter(|n| list.entries.find(&serial(*n)).is_some()).count();
    let asked = (0..ENTRIES).step_by(97).count();
    assert_eq!((found(0..ENTRIES), found(ENTRIES..2 * ENTRIES)), (asked, 0));
}

proptest! {
    #[test]
    fn the_list_reader_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
        let _ = Crl::read(&bytes);
        let _ = Crl::read(&element(tag::SEQUENCE, &[&bytes]));
        let _ = crl::lists(bytes);
    }

    #[test]
    fn the_list_reader_is_total_over_lists_with_changed_octets(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let ca = Ca::new("Device CA");
        let point = full_name(&["http://a/b.crl"]);
        let mut der = ca.list(1).revoke(&[5], Some(1)).revoke(&[6], None).scope(&[&point]).freshest(&["http://a/d"]).sign();
        for (index, value) in flips {
            let at = index.index(der.len());
            der[at] = value;
        }
        let _ = Crl::read(&der);
        let _ = Crl::read(&der[..cut.index(der.len())]);
    }
}
