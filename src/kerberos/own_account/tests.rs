use std::collections::HashSet;

use super::*;
use crate::kerberos::refusal::testkit::{SENSITIVE, TRANSITION, our_account, own, sid};

const NOW: i64 = 1_700_000_000;

/// What the KDC shows of an account as it should be.
fn good() -> Look {
    Look {
        keys: vec![(2, Etype::Aes256Sha1), (2, Etype::Aes128Sha1), (2, Etype::Rc4Hmac)],
        tgt_forwardable: Some(true),
        to_ourselves: Some(ToOurselves { forwardable: true, etype: 18, kvno: Some(2), opens: true }),
        failure: None,
    }
}

fn fresh() -> ServiceAccount {
    ServiceAccount { password_set: Some(NOW - DAY), ..our_account() }
}

fn flaws(look: &Look, account: Option<&ServiceAccount>) -> Vec<Flaw> {
    judge(&own(), look, account, NOW).into_iter().map(|finding| finding.flaw).collect()
}

fn changed(change: impl FnOnce(&mut ServiceAccount)) -> Vec<Flaw> {
    let mut account = fresh();
    change(&mut account);
    flaws(&good(), Some(&account))
}

fn ticket(change: impl FnOnce(&mut ToOurselves)) -> Look {
    let mut look = good();
    change(look.to_ourselves.as_mut().unwrap());
    look
}

#[test]
fn every_flaw_has_a_code_of_its_own_and_a_remedy() {
    let codes: HashSet<_> = Flaw::ALL.iter().map(|flaw| flaw.code()).collect();
    assert_eq!(codes.len(), Flaw::ALL.len());
    assert!(Flaw::ALL.iter().all(|flaw| !flaw.summary().is_empty() && !flaw.remedy().is_empty()));
}

#[test]
fn nothing_is_found_in_a_good_account() {
    assert_eq!(flaws(&good(), Some(&fresh())), []);
    assert_eq!(flaws(&good(), None), []);
}

#[test]
fn each_attribute_that_is_wrong_is_one_finding() {
    assert_eq!(changed(|account| account.service_principal_names.clear()), [Flaw::NoSpn]);
    assert_eq!(changed(|account| account.control |= SENSITIVE), [Flaw::Sensitive]);
    assert_eq!(changed(|account| account.groups.push(sid(525))), [Flaw::Protected]);
    assert_eq!(changed(|account| account.control &= !TRANSITION), [Flaw::NoTransition]);
    assert_eq!(changed(|account| account.control |= 0x0008_0000), [Flaw::Unconstrained]);
    assert_eq!(changed(|account| account.delegates_to.clear()), [Flaw::ListEmpty]);
    assert_eq!(changed(|account| account.password_set = Some(NOW - 180 * DAY)), []);
    assert_eq!(changed(|account| account.password_set = Some(NOW - 181 * DAY)), [Flaw::PasswordOld]);
    assert_eq!(changed(|account| account.password_set = None), []);
}

#[test]
fn without_a_directory_the_tickets_show_what_they_can() {
    let look = Look { tgt_forwardable: Some(false), ..ticket(|ticket| ticket.forwardable = false) };
    // It is not known whether protocol transition is on as well.
    assert_eq!(flaws(&look, None), [Flaw::TgtNotForwardable]);
    assert_eq!(flaws(&ticket(|ticket| ticket.forwardable = false), None), [Flaw::NoTransition]);
    let refused = |cause: Cause| Look { to_ourselves: None, failure: Some(cause.into()), ..good() };
    assert_eq!(flaws(&refused(Cause::OwnSpnMissing), None), [Flaw::NoSpn]);
    assert_eq!(flaws(&refused(Cause::OwnEtypeNotSupported), None), [Flaw::Rc4Tickets]);
    assert_eq!(flaws(&refused(Cause::KdcUnreachable), None), []);
    assert_eq!(flaws(&ticket(|ticket| ticket.etype = 23), None), [Flaw::Rc4Tickets]);
}

/// One fact is one finding, also where two show it.
#[test]
fn the_directory_gives_the_reason_for_what_the_tickets_show() {
    let look = Look { tgt_forwardable: Some(false), ..ticket(|ticket| ticket.forwardable = false) };
    let sensitive = ServiceAccount { control: fresh().control | SENSITIVE, ..fresh() };
    assert_eq!(flaws(&look, Some(&sensitive)), [Flaw::Sensitive]);
    assert_eq!(flaws(&look, Some(&fresh())), [Flaw::TgtNotForwardable]);
    // AES may be allowed again and the keys not be made yet: the ticket counts.
    assert_eq!(flaws(&ticket(|ticket| ticket.etype = 23), Some(&fresh())), [Flaw::Rc4Tickets]);
    let without_aes = ServiceAccount { encryption_types: Some(4), ..fresh() };
    assert_eq!(flaws(&Look { to_ourselves: None, ..good() }, Some(&without_aes)), [Flaw::Rc4Tickets]);
}

#[test]
fn a_keytab_is_outdated_when_it_does_not_open_what_the_domain_seals() {
    assert_eq!(flaws(&ticket(|ticket| ticket.opens = false), Some(&fresh())), [Flaw::KeytabOutdated]);
    // Numbers get lost in exports: a key that opens the ticket is right whatever its number.
    let newer = ServiceAccount { key_version: Some(7), ..fresh() };
    assert_eq!(flaws(&good(), Some(&newer)), []);
    // Where no ticket is to be had, the numbers are all there is.
    let refused = Look { tgt_forwardable: None, to_ourselves: None, failure: Some(Cause::OwnKeyRefused.into()), ..good() };
    assert_eq!(flaws(&refused, Some(&newer)), [Flaw::KeytabOutdated]);
    assert_eq!(flaws(&refused, Some(&fresh())), []);
    // During a change of the password the keytab has both.
    let both = Look { keys: vec![(6, Etype::Aes256Sha1), (7, Etype::Aes256Sha1)], ..refused };
    assert_eq!(flaws(&both, Some(&newer)), []);
}

#[test]
fn a_keytab_without_aes_is_one_finding() {
    assert_eq!(flaws(&Look { keys: vec![(2, Etype::Rc4Hmac)], ..good() }, Some(&fresh())), [Flaw::NoAesKeys]);
}

#[test]
fn errors_come_first_and_remedies_name_the_account() {
    let mut account = fresh();
    account.control = 0x0008_0200;
    let findings = judge(&own(), &good(), Some(&account), NOW);
    assert_eq!(findings.iter().map(|finding| finding.flaw).collect::<Vec<_>>(), [Flaw::NoTransition, Flaw::Unconstrained]);
    assert!(findings.iter().all(|finding| finding.remedy.contains("svc-bridge") && !finding.remedy.contains("{account}")));
}
