//! `Trust::admit`: every acceptance with its refusals.

use std::time::Duration;

use kcd_bridge::failure::{Cause, Failure};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::pki::{AtOnce as _, Ca, Device, Files, sid_extension, upn, year};

/// One CA, no revocation, a device changed by `change`.
fn admit(change: impl FnOnce(&mut CertificateParams)) -> Result<(), Failure> {
    let ca = Ca::root("Device CA");
    let device = ca.device(change);
    Files::trusting(&[&ca]).trust().admit_now(&device.chain(), year(2026)).map(drop)
}

fn cause(result: Result<(), Failure>) -> Cause {
    result.unwrap_err().cause
}

#[test]
fn a_certificate_of_a_trusted_ca_is_admitted_with_what_it_says() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|_| {});
    let admitted = Files::trusting(&[&ca]).trust().admit_now(&device.chain(), year(2026)).unwrap();
    assert_eq!(admitted.leaf(), &device.der);
    assert_eq!((admitted.facts().issuer.as_str(), admitted.facts().subject.as_str()), ("CN=Device CA", "CN=alice"));
    assert_eq!(admitted.facts().serial, "0a");
    assert!(admitted.valid_at(year(2026)) && !admitted.valid_at(year(2019)) && !admitted.valid_at(year(2091)));
}

#[test]
fn a_foreign_certificate_is_refused_even_if_its_ca_has_the_same_name() {
    let (ours, theirs) = (Ca::root("Device CA"), Ca::root("Device CA"));
    let trust = Files::trusting(&[&ours]).trust();
    for foreign in [theirs, Ca::root("Other CA")] {
        let device = foreign.device(|_| {});
        assert_eq!(cause(trust.admit_now(&device.chain(), year(2026)).map(drop)), Cause::UnknownIssuer);
        let with_its_root = [device.der.clone(), foreign.der.clone()];
        assert_eq!(cause(trust.admit_now(&with_its_root, year(2026)).map(drop)), Cause::UnknownIssuer);
    }
}

#[test]
fn a_trust_anchor_that_has_ended_vouches_for_nobody() {
    let root = Ca::root("Root");
    let anchor = root.subordinate("Issuing CA", |params| params.not_after = date_time_ymd(2027, 1, 1));
    let device = anchor.device(|params| params.not_after = date_time_ymd(2030, 1, 1));
    let trust = Files::trusting(&[&anchor]).trust();
    let admitted = trust.admit_now(std::slice::from_ref(&device.der), year(2026)).unwrap();
    let refused = trust.admit_now(std::slice::from_ref(&device.der), year(2027)).unwrap_err();
    assert_eq!(refused.cause, Cause::CertificateExpired);
    assert!(refused.detail.contains("trust anchor") && refused.detail.contains("Issuing CA"), "{refused}");
    assert_eq!(cause(trust.recheck_now(&admitted, year(2027))), Cause::CertificateExpired);
}

#[test]
fn a_certificate_is_admitted_within_its_validity_only() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|params| {
        params.not_before = date_time_ymd(2025, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
    });
    let trust = Files::trusting(&[&ca]).trust();
    assert!(trust.admit_now(&device.chain(), year(2026)).is_ok());
    for outside in [2024, 2027] {
        assert_eq!(cause(trust.admit_now(&device.chain(), year(outside)).map(drop)), Cause::CertificateExpired);
    }
}

#[test]
fn an_intermediate_is_taken_from_the_device_or_from_the_configuration() {
    let root = Ca::root("Root");
    let issuing = root.subordinate("Issuing CA", |_| {});
    let device = issuing.device(|_| {});
    let bare = Files::trusting(&[&root]);
    assert_eq!(cause(bare.trust().admit_now(&device.chain(), year(2026)).map(drop)), Cause::UnknownIssuer);
    assert!(bare.trust().admit_now(&[device.der.clone(), issuing.der.clone()], year(2026)).is_ok());
    assert!(bare.intermediate(&issuing).trust().admit_now(&device.chain(), year(2026)).is_ok());
}

#[test]
fn an_issuing_ca_may_be_the_anchor_itself() {
    let issuing = Ca::root("Root").subordinate("Issuing CA", |_| {});
    let device = issuing.device(|_| {});
    let direct = Files::trusting(&[&issuing]).trust().admit_now(&device.chain(), year(2026)).unwrap();
    let root = Ca::root("Root 2");
    let through_root = root.subordinate("Issuing CA 2", |_| {});
    let other = through_root.device(|_| {});
    let indirect = Files::trusting(&[&root]).intermediate(&through_root).trust().admit_now(&other.chain(), year(2026)).unwrap();
    assert_ne!(direct.issuer_key(), indirect.issuer_key());
}

#[test]
fn an_issuer_must_be_a_ca_that_may_sign_certificates() {
    let root = Ca::root("Root");
    let refuse = |issuing: Ca| {
        let device = issuing.device(|_| {});
        cause(Files::trusting(&[&root]).trust().admit_now(&[device.der, issuing.der], year(2026)).map(drop))
    };
    assert_eq!(refuse(root.subordinate("Not a CA", |params| params.is_ca = IsCa::ExplicitNoCa)), Cause::CertificateUnsuitable);
    let only_crls = root.subordinate("CRLs only", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert_eq!(refuse(only_crls), Cause::CertificateUnsuitable);
    let servers = root.subordinate("Server CA", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(refuse(servers), Cause::CertificateUnsuitable);
}

#[test]
fn an_anchors_own_path_length_counts_too() {
    let short = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let issuing = Ca::root("Root").subordinate("Issuing CA", short);
    let files = Files::trusting(&[&issuing]);
    assert!(files.trust().admit_now(&issuing.device(|_| {}).chain(), year(2026)).is_ok());
    let below = issuing.subordinate("CA below it", |_| {});
    let device = below.device(|_| {});
    let refused = files.trust().admit_now(&[device.der.clone(), below.der.clone()], year(2026)).map(drop).unwrap_err();
    assert_eq!(refused.cause, Cause::CertificateUnsuitable);
    assert!(refused.detail.contains("path length constraint"), "{refused}");
    let long = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let issuing = Ca::root("Root").subordinate("Issuing CA", long);
    let below = issuing.subordinate("CA below it", |_| {});
    let device = below.device(|_| {});
    assert!(Files::trusting(&[&issuing]).trust().admit_now(&[device.der, below.der], year(2026)).is_ok());
}

#[test]
fn the_certificate_must_name_client_authentication() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    let smart_card = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 2]);
    let with = |usages: Vec<ExtendedKeyUsagePurpose>| admit(|params| params.extended_key_usages = usages);
    assert!(with(vec![ClientAuth]).is_ok());
    assert!(with(vec![smart_card.clone(), ServerAuth, ClientAuth]).is_ok());
    for unsuitable in [vec![], vec![ServerAuth], vec![Any], vec![smart_card]] {
        assert_eq!(cause(with(unsuitable.clone())), Cause::CertificateUnsuitable, "{unsuitable:?}");
    }
    let failure = with(vec![ServerAuth]).unwrap_err();
    assert!(
        failure.detail.contains("its extended key usage is 1.3.6.1.5.5.7.3.1; accepted for its issuer: client-auth"),
        "{failure}"
    );
    let application_policy = CustomExtension::from_oid_content(
        &[1, 3, 6, 1, 4, 1, 311, 21, 10],
        vec![0x30, 0x0C, 0x30, 0x0A, 0x06, 0x08, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02],
    );
    let application_policy_only = admit(|params| {
        params.extended_key_usages = vec![ServerAuth];
        params.custom_extensions = vec![application_policy];
    });
    assert_eq!(cause(application_policy_only), Cause::CertificateUnsuitable);
}

#[test]
fn an_empty_extended_key_usage_is_refused() {
    let empty = admit(|params| {
        params.extended_key_usages = vec![];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 37], vec![0x30, 0x00])];
    });
    assert_eq!(cause(empty), Cause::CertificateUnsuitable);
}

#[test]
fn the_key_must_be_allowed_to_sign() {
    let with = |usages: Vec<KeyUsagePurpose>| admit(|params| params.key_usages = usages);
    assert!(with(vec![]).is_ok());
    assert!(with(vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature]).is_ok());
    assert_eq!(cause(with(vec![KeyUsagePurpose::KeyEncipherment])), Cause::CertificateUnsuitable);
}

#[test]
fn a_ca_certificate_is_not_a_client_certificate() {
    let ca = admit(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(cause(ca), Cause::CertificateUnsuitable);
}

#[test]
fn an_unknown_critical_extension_is_refused() {
    let with = |critical| {
        admit(|params| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
            extension.set_criticality(critical);
            params.custom_extensions = vec![extension];
        })
    };
    assert!(with(false).is_ok());
    assert_eq!(cause(with(true)), Cause::CertificateUnsuitable);
}

#[test]
fn an_extension_that_occurs_twice_is_refused_before_anything_is_read_from_it() {
    let sid = || sid_extension("S-1-5-21-1-2-3-1104");
    assert!(admit(|params| params.custom_extensions = vec![sid()]).is_ok());
    let failure = admit(|params| params.custom_extensions = vec![sid(), sid()]).unwrap_err();
    assert_eq!(failure.cause, Cause::CertificateUnsuitable);
    assert!(failure.detail.contains("1.3.6.1.4.1.311.25.2 occurs twice"), "{failure}");
    let names_twice = admit(|params| {
        params.subject_alt_names = vec![upn("alice@corp.example")];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 0x03, 0x82, 0x01, b'x'])];
    });
    assert_eq!(cause(names_twice), Cause::CertificateUnsuitable);
}

#[test]
fn a_chain_without_end_is_refused() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|_| {});
    let trust = Files::trusting(&[&ca]).trust();
    let chain = |length: usize| -> Vec<CertificateDer<'static>> { vec![device.der.clone(); length] };
    assert!(trust.admit_now(&chain(10), year(2026)).is_ok());
    assert_eq!(cause(trust.admit_now(&chain(11), year(2026)).map(drop)), Cause::CertificateUnsuitable);
    let large = [device.der.clone(), vec![0; 64 << 10].into()];
    assert_eq!(cause(trust.admit_now(&large, year(2026)).map(drop)), Cause::CertificateUnsuitable);
    assert_eq!(cause(trust.admit_now(&[], year(2026)).map(drop)), Cause::NoCertificate);
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let ca = Ca::root("Device CA");
    let trust = Files::trusting(&[&ca]).trust();
    let mut damaged = ca.device(|_| {}).der.to_vec();
    damaged.truncate(damaged.len() - 1);
    for bytes in [vec![], vec![0x30, 0x00], damaged] {
        assert_eq!(cause(trust.admit_now(&[bytes.into()], year(2026)).map(drop)), Cause::CertificateUnsuitable);
    }
}

#[test]
fn a_certificate_with_an_altered_byte_is_refused() {
    let ca = Ca::root("Device CA");
    let Device { der, .. } = ca.device(|params| params.subject_alt_names = vec![upn("alice@corp.example")]);
    let at = der.windows(5).position(|window| window == b"alice").unwrap();
    let mut altered = der.to_vec();
    altered[at] = b'b';
    let trust = Files::trusting(&[&ca]).trust();
    assert!(trust.admit_now(&[der], year(2026)).is_ok());
    assert_eq!(cause(trust.admit_now(&[altered.into()], year(2026)).map(drop)), Cause::UnknownIssuer);
}

#[test]
fn a_revoked_certificate_is_refused_and_its_siblings_are_not() {
    let ca = Ca::root("Device CA");
    let trust = Files::trusting(&[&ca]).crls(&[ca.crl(1, 2025, &[10])]).trust();
    assert_eq!(cause(trust.admit_now(&ca.device(|_| {}).chain(), year(2026)).map(drop)), Cause::CertificateRevoked);
    let sibling = ca.device(|params| params.serial_number = Some(11.into()));
    assert!(trust.admit_now(&sibling.chain(), year(2026)).is_ok());
}

#[test]
fn revocation_fails_closed_without_a_current_list() {
    let (ca, other) = (Ca::root("Device CA"), Ca::root("Other CA"));
    let chain = ca.device(|_| {}).chain();
    let by = |lists: &[Vec<u8>]| cause(Files::trusting(&[&ca]).crls(lists).trust().admit_now(&chain, year(2026)).map(drop));
    assert_eq!(by(&[]), Cause::RevocationUnknown);
    assert_eq!(by(&[other.crl(1, 2025, &[])]), Cause::RevocationUnknown);
    assert_eq!(by(&[ca.crl(1, 2010, &[])]), Cause::CrlExpired);
    assert_eq!(by(&[Ca::root("Device CA").crl(1, 2025, &[])]), Cause::RevocationUnknown, "signed by another key");
}

#[test]
fn every_certificate_of_the_chain_needs_a_list() {
    let root = Ca::root("Root");
    let issuing = root.subordinate("Issuing CA", |params| params.serial_number = Some(77.into()));
    let chain = issuing.device(|_| {}).chain();
    let by = |lists: &[Vec<u8>]| {
        Files::trusting(&[&root]).intermediate(&issuing).crls(lists).trust().admit_now(&chain, year(2026)).map(drop)
    };
    assert!(by(&[issuing.crl(1, 2025, &[]), root.crl(1, 2025, &[])]).is_ok());
    assert_eq!(cause(by(&[issuing.crl(1, 2025, &[])])), Cause::RevocationUnknown);
    assert_eq!(cause(by(&[issuing.crl(1, 2025, &[]), root.crl(1, 2025, &[77])])), Cause::CertificateRevoked);
}

#[test]
fn a_stale_list_does_not_hide_a_revocation_in_either_order() {
    let ca = Ca::root("Device CA");
    let chain = ca.device(|_| {}).chain();
    let (old, new) = (ca.crl(1, 2024, &[]), ca.crl(2, 2025, &[10]));
    for lists in [[old.clone(), new.clone()], [new, old]] {
        let trust = Files::trusting(&[&ca]).crls(&lists).trust();
        assert_eq!(cause(trust.admit_now(&chain, year(2026)).map(drop)), Cause::CertificateRevoked);
    }
}

#[test]
fn an_admitted_certificate_is_asked_about_again_as_time_passes() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|params| params.not_after = date_time_ymd(2028, 1, 1));
    let trust = Files::trusting(&[&ca]).crls(&[ca.crl(1, 2017, &[])]).trust();
    let admitted = trust.admit_now(&device.chain(), year(2025)).unwrap();
    assert!(trust.recheck_now(&admitted, year(2025)).is_ok());
    assert!(trust.recheck_now(&admitted, year(2026)).is_ok());
    assert_eq!(cause(trust.recheck_now(&admitted, year(2027))), Cause::CrlExpired);
    assert_eq!(cause(trust.recheck_now(&admitted, year(2029))), Cause::CertificateExpired);
}

#[test]
fn a_certificate_that_ends_within_the_minute_is_not_admitted_to_its_end() {
    let ca = Ca::root("Device CA");
    let device = ca.device(|params| params.not_after = date_time_ymd(2026, 1, 2));
    let trust = Files::trusting(&[&ca]).trust();
    let admitted = trust.admit_now(&device.chain(), year(2026)).unwrap();
    let a_second_later = UnixTime::since_unix_epoch(Duration::from_secs(year(2026).as_secs() + 1));
    assert_eq!(cause(trust.recheck_now(&admitted, a_second_later)), Cause::CertificateExpired);
}

#[test]
fn an_admitted_certificate_is_judged_by_todays_trust() {
    let ca = Ca::root("Device CA");
    let admitted = Files::trusting(&[&ca]).trust().admit_now(&ca.device(|_| {}).chain(), year(2026)).unwrap();
    let revoking = Files::trusting(&[&ca]).crls(&[ca.crl(2, 2025, &[10])]).trust();
    assert_eq!(cause(revoking.recheck_now(&admitted, year(2026))), Cause::CertificateRevoked);
    let without_the_ca = Files::trusting(&[&Ca::root("Other CA")]).trust();
    assert_eq!(cause(without_the_ca.recheck_now(&admitted, year(2026))), Cause::UnknownIssuer);
}

#[test]
fn presented_intermediates_are_remembered_with_their_leaf() {
    let root = Ca::root("Root");
    let issuing = root.subordinate("Issuing CA", |_| {});
    let chain = [issuing.device(|_| {}).der, issuing.der];
    let admitted = Files::trusting(&[&root]).trust().admit_now(&chain, year(2026)).unwrap();
    assert!(Files::trusting(&[&root]).trust().recheck_now(&admitted, year(2026)).is_ok());
}
