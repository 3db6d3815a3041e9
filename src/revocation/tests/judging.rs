//! What lists say of certificates.

use std::time::Duration;

use super::{at, cause, engine, is_clear, refusal, status};
use crate::der::tag;
use crate::failure::Cause;
use crate::revocation::testkit::{Ca, DAY, Device, NOW, element, extension, full_name};
use crate::revocation::{Link, Revocation, RevocationConfig, RevocationPolicy, Verdict};

const SERIAL: &[u8] = &[0x1A, 5];

fn defaults(_: &mut RevocationConfig) {}

/// One CA that is known, its lists, its device: the verdict now.
fn told(ca: &Ca, lists: &[Vec<u8>], device: &Device) -> Verdict {
    status(&engine(lists, vec![ca.authority()], defaults), device)
}

#[test]
fn a_certificate_is_clear_until_its_list_ends_or_refused_if_listed() {
    let ca = Ca::new("Device CA");
    let list = ca.list(1).revoke(SERIAL, Some(1)).sign();
    assert_eq!(told(&ca, std::slice::from_ref(&list), &ca.device(&[7])), Verdict::Clear { until: at(NOW + DAY), open: None });
    let failure = refusal(told(&ca, &[list], &ca.device(SERIAL)));
    assert_eq!(failure.cause, Cause::CertificateRevoked);
    for part in ["keyCompromise", "2023-11-07", "CN=Device CA", "number 1", ".crl"] {
        assert!(failure.detail.contains(part), "{part}: {}", failure.detail);
    }
}

#[test]
fn every_reason_but_none_revokes_and_leading_zeros_hide_nothing() {
    let ca = Ca::new("Device CA");
    for reason in [None, Some(0), Some(1), Some(5), Some(6), Some(10), Some(8)] {
        let list = ca.list(1).revoke(SERIAL, reason).sign();
        assert_eq!(cause(told(&ca, &[list], &ca.device(SERIAL))), Cause::CertificateRevoked, "{reason:?}");
    }
    let zeros = [&[0, 0], SERIAL].concat();
    let list = ca.list(1).revoke(&zeros, None).sign();
    assert_eq!(cause(told(&ca, &[list], &ca.device(SERIAL))), Cause::CertificateRevoked);
    let list = ca.list(1).revoke(SERIAL, None).sign();
    assert_eq!(cause(told(&ca, &[list], &ca.device(&zeros))), Cause::CertificateRevoked);
}

#[test]
fn without_a_list_of_the_issuer_nothing_is_known_and_policy_decides() {
    let (ca, other) = (Ca::new("Device CA"), Ca::new("Other CA"));
    for lists in [vec![], vec![other.list(1).sign()]] {
        let engine = engine(&lists, vec![ca.authority(), other.authority()], defaults);
        assert_eq!(cause(status(&engine, &ca.device(SERIAL))), Cause::RevocationUnknown);
        let let_in = status(&engine, &ca.device(SERIAL).held_to(RevocationPolicy::Prefer));
        assert!(matches!(&let_in, Verdict::Clear { open: Some(why), .. } if why.cause == Cause::RevocationUnknown), "{let_in:?}");
        assert!(is_clear(&status(&engine, &ca.device(SERIAL).held_to(RevocationPolicy::Off))));
    }
}

#[test]
fn policy_prefer_never_lets_a_revoked_certificate_in_and_off_asks_nothing() {
    let ca = Ca::new("Device CA");
    let list = ca.list(1).revoke(SERIAL, None).sign();
    let prefer = ca.device(SERIAL).held_to(RevocationPolicy::Prefer);
    assert_eq!(cause(told(&ca, std::slice::from_ref(&list), &prefer)), Cause::CertificateRevoked);
    let expired = ca.list(1).valid(NOW - 3 * DAY, NOW - DAY).revoke(SERIAL, None).sign();
    assert_eq!(cause(told(&ca, &[expired], &prefer)), Cause::CertificateRevoked, "an old list still knows");
    assert!(is_clear(&told(&ca, &[list], &ca.device(SERIAL).held_to(RevocationPolicy::Off))));
}

#[test]
fn an_expired_list_vouches_only_within_the_grace() {
    let ca = Ca::new("Device CA");
    let list = || ca.list(1).valid(NOW - 3 * DAY, NOW - 1000).sign();
    let with = |grace| engine(&[list()], vec![ca.authority()], |config| config.grace = Duration::from_secs(grace));
    assert_eq!(status(&with(1000), &ca.device(SERIAL)), Verdict::Clear { until: at(NOW), open: None });
    let failure = refusal(status(&with(999), &ca.device(SERIAL)));
    assert_eq!(failure.cause, Cause::CrlExpired);
    assert!(failure.detail.contains("2023-11-14 21:56:40Z"), "{}", failure.detail);
    let prefer = ca.device(SERIAL).held_to(RevocationPolicy::Prefer);
    assert!(matches!(status(&with(0), &prefer), Verdict::Clear { open: Some(why), .. } if why.cause == Cause::CrlExpired));
}

#[test]
fn a_list_from_the_future_does_not_vouch_but_for_a_little_skew() {
    let ca = Ca::new("Device CA");
    let from = |this| told(&ca, &[ca.list(1).valid(this, NOW + DAY).sign()], &ca.device(SERIAL));
    assert!(is_clear(&from(NOW + 300)));
    let failure = refusal(from(NOW + 301));
    assert!(failure.cause == Cause::RevocationUnknown && failure.detail.contains("clock"), "{failure}");
}

#[test]
fn every_certificate_of_the_path_is_judged() {
    let (root, issuing) = (Ca::new("Root"), Ca::new("Issuing CA"));
    let (leaf, ca) = (issuing.device(SERIAL), root.device(&[2]));
    let clear = [root.list(1).valid(NOW - DAY, NOW + 2 * DAY).sign(), issuing.list(1).sign()];
    let known = || vec![root.authority(), issuing.authority()];
    let path: [Link<'_>; 2] = [leaf.link(), ca.link()];
    let judged = |lists: &[Vec<u8>]| engine(lists, known(), defaults).status(&path, at(NOW));
    assert_eq!(judged(&clear), Verdict::Clear { until: at(NOW + DAY), open: None });
    let revoked = [root.list(2).revoke(&[2], Some(2)).sign(), issuing.list(1).sign()];
    assert_eq!(cause(judged(&revoked)), Cause::CertificateRevoked);
    assert_eq!(cause(judged(&clear[1..])), Cause::RevocationUnknown, "nothing says anything of the issuing CA");
}

#[test]
fn after_a_renewal_each_key_speaks_for_its_own_certificates_in_either_order() {
    let (old, mut new) = (Ca::new("Device CA"), Ca::new("Device CA"));
    new.name = old.name.clone();
    let by_old = old.list(9).revoke(&[1], None).sign();
    let by_new = new.list(3).revoke(&[2], None).sign();
    for lists in [[by_old.clone(), by_new.clone()], [by_new, by_old]] {
        let engine = engine(&lists, vec![old.authority(), new.authority()], defaults);
        assert_eq!(cause(status(&engine, &old.device(&[1]))), Cause::CertificateRevoked);
        assert_eq!(cause(status(&engine, &new.device(&[2]))), Cause::CertificateRevoked);
        assert!(is_clear(&status(&engine, &old.device(&[2]))) && is_clear(&status(&engine, &new.device(&[1]))));
    }
}

#[test]
fn a_list_without_or_with_another_key_identifier_is_told_by_its_signature() {
    let (old, mut new) = (Ca::new("Device CA"), Ca::new("Device CA"));
    new.name = old.name.clone();
    for key in [None, old.key_identifier.clone(), Some(vec![1, 2, 3])] {
        let mut draft = new.list(1).revoke(SERIAL, None);
        draft.key = key;
        let engine = engine(&[draft.sign()], vec![old.authority(), new.authority()], defaults);
        assert_eq!(cause(status(&engine, &new.device(SERIAL))), Cause::CertificateRevoked);
        assert!(is_clear(&status(&engine, &new.device(&[9]))));
        assert_ne!(cause(status(&engine, &old.device(&[9]))), Cause::CertificateRevoked);
    }
}

#[test]
fn a_list_that_pretends_to_be_by_the_issuers_key_is_untrusted_under_every_policy() {
    let (ca, other) = (Ca::new("Device CA"), Ca::new("Device CA"));
    let forged = ca.list(99).signed_by(&other);
    for policy in [RevocationPolicy::Require, RevocationPolicy::Prefer] {
        let device = ca.device(SERIAL).held_to(policy);
        assert_eq!(cause(told(&ca, std::slice::from_ref(&forged), &device)), Cause::RevocationUntrusted);
        let both = [forged.clone(), ca.list(1).sign()];
        assert!(is_clear(&told(&ca, &both, &device)), "there is a better one");
    }
    let mut anonymous = ca.list(99);
    anonymous.key = None;
    let failure = cause(told(&ca, &[anonymous.signed_by(&other)], &ca.device(SERIAL)));
    assert_eq!(failure, Cause::RevocationUnknown, "it may be by another key of that name");
}

#[test]
fn a_ca_that_may_not_sign_lists_does_not() {
    let mut ca = Ca::new("Device CA");
    ca.may_sign_crls = false;
    let failure = refusal(told(&ca, &[ca.list(1).sign()], &ca.device(SERIAL)));
    assert!(failure.cause == Cause::RevocationUnknown && failure.detail.contains("key usage"), "{failure}");
}

#[test]
fn a_delta_adds_revocations_and_lifts_holds_only() {
    let ca = Ca::new("Device CA");
    let base = ca.list(10).revoke(&[1], Some(1)).revoke(&[6], Some(6)).sign();
    let delta =
        ca.list(11).delta_of(10).revoke(&[1], Some(8)).revoke(&[6], Some(8)).revoke(&[2], None).revoke(&[3], Some(6)).sign();
    for lists in [[base.clone(), delta.clone()], [delta, base.clone()]] {
        let engine = engine(&lists, vec![ca.authority()], defaults);
        for refused in [&[1_u8], &[2], &[3]] {
            assert_eq!(cause(status(&engine, &ca.device(refused))), Cause::CertificateRevoked, "{refused:?}");
        }
        assert!(is_clear(&status(&engine, &ca.device(&[6]))), "the hold is lifted");
        assert!(is_clear(&status(&engine, &ca.device(&[9]))));
    }
    assert_eq!(cause(told(&ca, &[base], &ca.device(&[6]))), Cause::CertificateRevoked, "a hold revokes");
}

#[test]
fn a_delta_alone_vouches_for_nobody() {
    let ca = Ca::new("Device CA");
    let delta = ca.list(11).delta_of(10).sign();
    assert_eq!(cause(told(&ca, &[delta], &ca.device(SERIAL))), Cause::RevocationUnknown);
}

#[test]
fn an_unfit_delta_lifts_nothing_but_its_revocations_count() {
    let ca = Ca::new("Device CA");
    let base = ca.list(10).revoke(&[6], Some(6)).sign();
    let say = |draft: crate::revocation::testkit::Draft<'_>| {
        let delta = draft.revoke(&[6], Some(8)).revoke(&[2], None).sign();
        let engine = engine(&[base.clone(), delta], vec![ca.authority()], defaults);
        let word = |serial: &[u8]| is_clear(&status(&engine, &ca.device(serial)));
        (word(&[6]), word(&[2]), word(&[9]))
    };
    assert_eq!(say(ca.list(12).delta_of(10)), (true, false, true), "fit");
    assert_eq!(say(ca.list(12).delta_of(11)), (false, false, true), "for a later base");
    assert_eq!(say(ca.list(12).delta_of(9).valid(NOW - 3 * DAY, NOW - DAY)), (false, false, true), "expired");
    assert_eq!(say(ca.list(10).delta_of(9)), (false, true, true), "the base knows better");
    let scope = element(tag::context_primitive(1), &[&[0xFF]]);
    assert_eq!(say(ca.list(12).delta_of(10).scope(&[&scope])), (false, false, true), "about something else");
}

#[test]
fn a_delta_of_another_key_changes_nothing() {
    let (ca, mut other) = (Ca::new("Device CA"), Ca::new("Device CA"));
    other.name = ca.name.clone();
    let lists = [ca.list(10).revoke(&[6], Some(6)).sign(), other.list(11).delta_of(10).revoke(&[6], Some(8)).sign()];
    let engine = engine(&lists, vec![ca.authority(), other.authority()], defaults);
    assert_eq!(cause(status(&engine, &ca.device(&[6]))), Cause::CertificateRevoked);
}

#[test]
fn a_base_that_ended_is_not_revived_by_a_current_delta() {
    let ca = Ca::new("Device CA");
    let lists = [ca.list(10).valid(NOW - 9 * DAY, NOW - DAY).sign(), ca.list(12).delta_of(10).sign()];
    assert_eq!(cause(told(&ca, &lists, &ca.device(SERIAL))), Cause::CrlExpired);
}

#[test]
fn a_list_about_end_entities_is_silent_about_cas_and_the_other_way_round() {
    let ca = Ca::new("Root");
    let is_ca = extension(&[0x55, 0x1D, 0x13], true, &[0x30, 3, 1, 1, 0xFF]);
    let (end_entity, authority) = (ca.device(SERIAL), ca.device(SERIAL).with(&[is_ca]));
    let about = |n: u8| ca.list(1).scope(&[&element(tag::context_primitive(n), &[&[0xFF]])]).sign();
    assert!(is_clear(&told(&ca, &[about(1)], &end_entity)));
    assert_eq!(cause(told(&ca, &[about(1)], &authority)), Cause::RevocationUnknown);
    assert!(is_clear(&told(&ca, &[about(2)], &authority)));
    assert_eq!(cause(told(&ca, &[about(2)], &end_entity)), Cause::RevocationUnknown);
    let both = [about(1), about(2)];
    assert!(is_clear(&told(&ca, &both, &authority)) && is_clear(&told(&ca, &both, &end_entity)));
}

#[test]
fn a_list_of_another_distribution_point_is_silent() {
    let ca = Ca::new("Device CA");
    let list = |uris: &[&str]| ca.list(1).scope(&[&full_name(uris)]).sign();
    let ldap_and_http = list(&["ldap:///CN=a", "http://a/1.crl"]);
    assert!(is_clear(&told(&ca, std::slice::from_ref(&ldap_and_http), &ca.device(SERIAL).at(&["http://a/1.crl"]))));
    let failure = refusal(told(&ca, &[ldap_and_http], &ca.device(SERIAL).at(&["http://a/2.crl"])));
    assert!(failure.cause == Cause::RevocationUnknown && failure.detail.contains("distribution point"), "{failure}");
    // Configured as a file, and nothing to compare.
    assert!(is_clear(&told(&ca, &[list(&["ldap:///CN=a"])], &ca.device(SERIAL).at(&["http://a/2.crl"]))));
    assert!(is_clear(&told(&ca, &[list(&["http://a/1.crl"])], &ca.device(SERIAL))), "a certificate without points");
}

#[test]
fn asking_memory_moves_nothing_and_is_counted() {
    let ca = Ca::new("Device CA");
    let engine = engine(&[ca.list(1).sign()], vec![ca.authority()], defaults);
    let device = ca.device(SERIAL);
    let before = engine.generation();
    for _ in 0..1000 {
        assert!(is_clear(&status(&engine, &device)));
    }
    assert_eq!(engine.generation(), before);
    assert_eq!(counted(&engine, "clear"), 1000);
}

pub(super) fn counted(engine: &Revocation, name: &str) -> u64 {
    engine.decisions().into_iter().find(|(decision, _)| decision.name() == name).unwrap().1
}
