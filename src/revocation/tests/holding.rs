//! Which list of several is held.

use proptest::prelude::*;

use super::judging::counted;
use super::{at, cause, engine, is_clear, status};
use crate::failure::Cause;
use crate::revocation::testkit::{Ca, DAY, NOW, element};
use crate::revocation::{RevocationConfig, Verdict};

const SERIAL: &[u8] = &[0x1A, 5];

fn defaults(_: &mut RevocationConfig) {}

#[test]
fn a_stale_list_hides_no_revocation_in_whatever_order() {
    let ca = Ca::new("Device CA");
    let old = ca.list(0xFF).valid(NOW - 2 * DAY, NOW + DAY).sign();
    let new = ca.list(0x100).revoke(SERIAL, None).sign();
    for lists in [[old.clone(), new.clone()], [new, old]] {
        let engine = engine(&lists, vec![ca.authority()], defaults);
        assert_eq!(cause(status(&engine, &ca.device(SERIAL))), Cause::CertificateRevoked);
        assert_eq!(engine.facts().len(), 1);
    }
}

#[test]
fn a_step_back_is_refused_and_counted() {
    let ca = Ca::new("Device CA");
    let new = ca.list(10).revoke(SERIAL, None).sign();
    for older in [ca.list(9), ca.list(10).valid(NOW - 2 * DAY, NOW + DAY)] {
        let engine = engine(&[new.clone(), older.sign()], vec![ca.authority()], defaults);
        assert_eq!(cause(status(&engine, &ca.device(SERIAL))), Cause::CertificateRevoked);
        assert_eq!(counted(&engine, "rollback-refused"), 1);
    }
}

#[test]
fn lists_without_numbers_are_ordered_by_time() {
    let ca = Ca::new("Device CA");
    let mut new = ca.list(1).revoke(SERIAL, None);
    let mut old = ca.list(1).valid(NOW - 2 * DAY, NOW + DAY);
    (new.number, old.number) = (None, None);
    for lists in [[new.sign(), old.sign()], [old.sign(), new.sign()]] {
        let engine = engine(&lists, vec![ca.authority()], defaults);
        assert_eq!(cause(status(&engine, &ca.device(SERIAL))), Cause::CertificateRevoked);
    }
}

#[test]
fn a_forged_list_with_a_huge_number_displaces_nothing() {
    let (ca, forger) = (Ca::new("Device CA"), Ca::new("Device CA"));
    let lists = [ca.list(1).revoke(SERIAL, None).sign(), ca.list(1 << 40).signed_by(&forger)];
    let engine = engine(&lists, vec![ca.authority()], defaults);
    assert_eq!(cause(status(&engine, &ca.device(SERIAL))), Cause::CertificateRevoked);
    assert!(is_clear(&status(&engine, &ca.device(&[9]))));
}

#[test]
fn the_same_list_twice_is_one_list() {
    let ca = Ca::new("Device CA");
    let list = ca.list(1).sign();
    let engine = engine(&[list.clone(), list], vec![ca.authority()], defaults);
    assert_eq!((engine.facts().len(), counted(&engine, "rollback-refused")), (1, 0));
}

#[test]
fn full_lists_deltas_and_other_scopes_are_series_of_their_own() {
    let ca = Ca::new("Device CA");
    let scope = element(0x81, &[&[0xFF]]);
    let lists = [ca.list(5).sign(), ca.list(6).delta_of(5).sign(), ca.list(4).scope(&[&scope]).sign()];
    let engine = engine(&lists, vec![ca.authority()], defaults);
    assert_eq!((engine.facts().len(), counted(&engine, "rollback-refused")), (3, 0));
}

#[test]
fn facts_say_what_is_held() {
    let ca = Ca::new("Device CA");
    let engine = engine(&[ca.list(0x1F).revoke(SERIAL, None).sign()], vec![], defaults);
    let [facts] = engine.facts().try_into().unwrap();
    assert_eq!((facts.issuer.as_str(), facts.number.as_deref()), ("CN=Device CA", Some("1f")));
    assert_eq!((facts.this_update, facts.next_update, facts.entries), (NOW - DAY, NOW + DAY, 1));
    assert!(!facts.verified && !facts.delta && facts.source.ends_with("0.crl") && facts.key_identifier.unwrap().len() == 16);
}

#[tokio::test]
async fn a_list_whose_signer_was_unknown_speaks_once_a_verified_path_shows_the_key() {
    let ca = Ca::new("Device CA");
    let engine = engine(&[ca.list(1).revoke(SERIAL, None).sign()], vec![], defaults);
    let (listed, other) = (ca.device(SERIAL), ca.device(&[9]));
    assert!(matches!(status(&engine, &listed), Verdict::Open(_)));
    let before = engine.generation();
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    assert!(is_clear(&engine.settle(&[other.link()], at(NOW), deadline).await));
    assert!(engine.generation() > before);
    assert_eq!(cause(status(&engine, &listed)), Cause::CertificateRevoked);
    assert!(engine.facts()[0].verified);
}

#[tokio::test]
async fn a_list_that_turns_out_to_be_forged_is_tried_once() {
    let (ca, forger) = (Ca::new("Device CA"), Ca::new("Device CA"));
    let engine = engine(&[ca.list(1).signed_by(&forger)], vec![], defaults);
    let device = ca.device(SERIAL);
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    assert_eq!(cause(engine.settle(&[device.link()], at(NOW), deadline).await), Cause::RevocationUntrusted);
    assert_eq!(cause(status(&engine, &device)), Cause::RevocationUntrusted, "nothing is left to be learnt");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_the_order_the_newest_list_of_each_key_decides(
        lists in proptest::collection::vec((any::<bool>(), 1_i64..6, 0_u8..4), 1..8),
        wanted in 0_u8..4,
    ) {
        let (one, mut two) = (Ca::new("Device CA"), Ca::new("Device CA"));
        two.name = one.name.clone();
        let signed = |&(first, number, serial): &(bool, i64, u8)| {
            let ca = if first { &one } else { &two };
            ca.list(number).valid(NOW - DAY + number, NOW + DAY).revoke(&[serial], None).sign()
        };
        // Of two lists with the same number and time the first one stays.
        let mut seen = std::collections::HashSet::new();
        let lists: Vec<_> = lists.into_iter().filter(|(first, number, _)| seen.insert((*first, *number))).collect();
        let engine = engine(&lists.iter().map(signed).collect::<Vec<_>>(), vec![one.authority(), two.authority()], defaults);
        for (first, ca) in [(true, &one), (false, &two)] {
            let newest = lists.iter().filter(|list| list.0 == first).max_by_key(|list| list.1);
            let verdict = status(&engine, &ca.device(&[wanted]));
            match newest {
                None => prop_assert_eq!(cause(verdict), Cause::RevocationUnknown),
                Some((_, _, serial)) if *serial == wanted => prop_assert_eq!(cause(verdict), Cause::CertificateRevoked),
                Some(_) => prop_assert!(is_clear(&verdict)),
            }
        }
    }
}
