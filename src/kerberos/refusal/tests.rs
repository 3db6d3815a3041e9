use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::by_directory::{by_directory, worth_asking};
use super::testkit::{DISABLED, SENSITIVE, TRANSITION, account, facts, others, our_account, own, owner, sid, spn};
use super::*;
use crate::directory::AccessList;
use crate::failure::Cause;
use crate::kerberos::proof::pac::Pac;
use crate::kerberos::proof::pac::testkit::Account;

/// The PAC of a user with these flags and groups.
fn pac(flags: u32, groups: &[u32]) -> Pac {
    Account { user_account_control: 0x10 | flags, groups: groups.to_vec(), ..Account::default() }.verified()
}

fn seen(pac: &Pac, tgt: Option<bool>, evidence: bool) -> Seen<'_> {
    Seen { tgt_forwardable: tgt, evidence_forwardable: evidence, pac: Some(pac), foreign_realm: None }
}

fn told(cause: Cause, seen: &Seen<'_>) -> Cause {
    by_tickets(cause.into(), seen).cause
}

#[test]
fn with_a_forwardable_evidence_ticket_the_list_is_what_is_missing() {
    let user = pac(0, &[513]);
    let seen = seen(&user, Some(true), true);
    assert_eq!(told(Cause::DelegationRefused, &seen), Cause::SpnNotListed);
    // The KDC knows better which of the two lists.
    assert_eq!(told(Cause::ResourceListLacksUs, &seen), Cause::ResourceListLacksUs);
}

#[test]
fn an_evidence_ticket_that_is_not_forwardable_has_one_of_three_reasons() {
    let (ordinary, sensitive, protected) = (pac(0, &[513]), pac(0x4000, &[513]), pac(0, &[513, 525]));
    for cause in [Cause::DelegationRefused, Cause::SpnNotListed] {
        assert_eq!(told(cause, &seen(&ordinary, Some(false), false)), Cause::OwnTgtNotForwardable);
        assert_eq!(told(cause, &seen(&sensitive, Some(true), false)), Cause::UserNotDelegable);
        assert_eq!(told(cause, &seen(&protected, Some(true), false)), Cause::UserProtected);
        assert_eq!(told(cause, &seen(&ordinary, Some(true), false)), Cause::ProtocolTransitionOff);
        // Nothing else is known to be wrong.
        assert_eq!(told(cause, &seen(&ordinary, None, false)), Cause::ProtocolTransitionOff);
    }
    // Without our own ticket nobody can be delegated, whoever the user is.
    assert_eq!(told(Cause::DelegationRefused, &seen(&sensitive, Some(false), false)), Cause::OwnTgtNotForwardable);
}

#[test]
fn a_user_of_another_realm_is_not_taken_for_a_flaw_of_our_account() {
    let user = pac(0, &[513]);
    let seen = Seen { foreign_realm: Some("OTHER.EXAMPLE"), ..seen(&user, Some(true), false) };
    let failure = by_tickets(Cause::DelegationRefused.into(), &seen);
    assert_eq!(failure.cause, Cause::DelegationRefused);
    assert!(failure.detail.contains("OTHER.EXAMPLE"), "{failure}");
}

#[test]
fn tickets_say_nothing_about_causes_that_are_clear_already() {
    let user = pac(0x4000, &[525]);
    for &cause in Cause::ALL {
        let resolved = matches!(cause, Cause::DelegationRefused | Cause::SpnNotListed | Cause::ResourceListLacksUs);
        if !resolved {
            assert_eq!(told(cause, &seen(&user, Some(false), false)), cause);
        }
    }
}

fn by(cause: Cause, facts: &Facts) -> Failure {
    by_directory(named(cause.into(), &own(), Some(&spn())), facts, &spn())
}

fn with_own(change: impl FnOnce(&mut ServiceAccount)) -> Facts {
    let mut own = our_account();
    change(&mut own);
    Facts { own: Some(own), ..facts() }
}

fn with_owner(change: impl FnOnce(&mut ServiceAccount)) -> Facts {
    let mut owner = owner();
    change(&mut owner);
    Facts { owners: vec![owner], ..facts() }
}

fn unlisted(mut facts: Facts, list: &[&str]) -> Facts {
    let own = facts.own.as_mut().unwrap();
    own.delegates_to = list.iter().map(|&spn| spn.to_owned()).collect();
    facts
}

#[test]
fn the_list_that_lacks_something_is_named_with_the_command_that_mends_it() {
    let failure = by(Cause::SpnNotListed, &unlisted(facts(), &["HTTP/other.corp.example"]));
    assert_eq!(failure.cause, Cause::SpnNotListed);
    assert!(failure.remedy().contains("Set-ADUser svc-bridge -Add @{'msDS-AllowedToDelegateTo'='HTTP/mbx1.corp.example'}"));
    assert!(by(Cause::SpnNotListed, &unlisted(facts(), &[])).detail.contains("list is empty"));

    let resource = unlisted(with_owner(|owner| owner.delegated_to_by = Some(others())), &[]);
    let failure = by(Cause::SpnNotListed, &resource);
    assert_eq!(failure.cause, Cause::ResourceListLacksUs);
    assert!(failure.remedy().contains("samba-tool delegation add-principal svc-mbx svc-bridge"), "{}", failure.remedy());
    // A list that lets nobody is no list that somebody meant us to be on.
    let empty = unlisted(with_owner(|owner| owner.delegated_to_by = Some(AccessList::of(&[]))), &[]);
    assert_eq!(by(Cause::SpnNotListed, &empty).cause, Cause::SpnNotListed);
}

#[test]
fn an_entry_that_only_looks_like_the_spn_is_shown() {
    for near in ["HTTP/mbx1.corp.example:443", "HTTP/mbx1", "http/MBX1"] {
        let failure = by(Cause::SpnNotListed, &unlisted(facts(), &["HTTP/x.corp.example", near]));
        assert!(failure.detail.contains(&format!("has {near}, which is not")), "{failure}");
    }
    for other in ["HTTP/mbx1.other.example", "CIFS/mbx1", "HTTP/mbx10"] {
        let failure = by(Cause::SpnNotListed, &unlisted(facts(), &[other]));
        assert!(failure.detail.contains("1 other SPNs"), "{other}: {failure}");
    }
}

#[test]
fn what_contradicts_the_kdc_is_said_and_not_believed() {
    // On the list in other letters, which the KDC takes for the same.
    let listed = unlisted(facts(), &["http/MBX1.corp.example"]);
    let on_both = with_owner(|owner| owner.delegated_to_by = Some(AccessList::of(&[sid(513)])));
    for (cause, facts) in [
        (Cause::SpnNotListed, listed),
        (Cause::ResourceListLacksUs, unlisted(on_both, &[])),
        (Cause::ProtocolTransitionOff, facts()),
    ] {
        let failure = by(cause, &facts);
        assert_eq!(failure.cause, Cause::DelegationRefused, "{cause:?}");
        assert!(failure.detail.contains("has the KDC got it yet?"), "{failure}");
    }
}

#[test]
fn an_account_in_another_domain_is_not_reached_by_our_list() {
    let elsewhere = |owner: &mut ServiceAccount| owner.dn = "CN=svc-mbx,DC=other,DC=example".to_owned();
    let failure = by(Cause::SpnNotListed, &with_owner(elsewhere));
    assert_eq!(failure.cause, Cause::DelegationAcrossRealms);
    assert!(failure.detail.contains("other.example") && failure.remedy().contains("svc-mbx"), "{failure}");
}

#[test]
fn without_protocol_transition_it_says_whether_the_list_would_do_with_it() {
    let off = |facts: Facts| {
        let own = facts.own.map(|own| ServiceAccount { control: own.control & !TRANSITION, ..own });
        Facts { own, ..facts }
    };
    let failure = by(Cause::ProtocolTransitionOff, &off(facts()));
    assert_eq!(failure.cause, Cause::ProtocolTransitionOff);
    assert!(failure.detail.contains("is on the list") && failure.remedy().contains("svc-bridge -TrustedToAuth"), "{failure}");
    assert!(by(Cause::ProtocolTransitionOff, &off(unlisted(facts(), &["HTTP/x"]))).detail.contains("besides, "));
    let resource = off(unlisted(with_owner(|owner| owner.delegated_to_by = Some(others())), &["HTTP/x"]));
    assert_eq!(by(Cause::ProtocolTransitionOff, &resource).cause, Cause::ResourceListLacksUs);
}

#[test]
fn an_unknown_spn_is_told_from_one_that_two_accounts_have_and_from_a_disabled_owner() {
    let nobody = Facts { owners: Vec::new(), ..facts() };
    let failure = by(Cause::SpnUnknown, &nobody);
    assert!(failure.cause == Cause::SpnUnknown && failure.detail.contains("no account"), "{failure}");
    let twice = Facts { owners: vec![owner(), account("svc-old", 1105)], ..facts() };
    for cause in [Cause::SpnUnknown, Cause::SpnNotListed] {
        let failure = by(cause, &twice);
        assert_eq!(failure.cause, Cause::SpnDuplicate);
        assert!(failure.detail.contains("CN=svc-mbx") && failure.detail.contains("CN=svc-old"), "{failure}");
    }
    let disabled = with_owner(|owner| owner.control |= DISABLED);
    assert_eq!(by(Cause::SpnUnknown, &disabled).cause, Cause::SpnOwnerRevoked);
}

#[test]
fn a_back_end_with_another_key_is_told_who_has_the_spn() {
    for cause in [Cause::TokenKeyWrong, Cause::TokenRefused] {
        let failure = by(cause, &facts());
        assert_eq!(failure.cause, cause);
        assert!(failure.detail.contains("CN=svc-mbx,CN=Users,DC=corp,DC=example has the SPN, key version 2"), "{failure}");
        let by_host = Facts { by_host: true, ..facts() };
        assert!(by(cause, &by_host).detail.contains("by HOST/"));
        let twice = Facts { owners: vec![owner(), account("svc-old", 1105)], ..facts() };
        assert!(by(cause, &twice).detail.contains("both "));
    }
    assert!(by(Cause::TokenKeyWrong, &facts()).remedy().contains("(svc-mbx)"));
}

#[test]
fn what_is_wrong_with_our_own_account_is_named() {
    let sensitive = with_own(|own| own.control |= SENSITIVE);
    assert!(by(Cause::OwnTgtNotForwardable, &sensitive).detail.contains("is marked sensitive"));
    let protected = with_own(|own| own.groups.push(sid(525)));
    assert!(by(Cause::OwnTgtNotForwardable, &protected).detail.contains("in Protected Users"));
    assert!(by(Cause::OwnTgtNotForwardable, &facts()).detail.contains("look for a policy"));

    let bare = with_own(|own| own.service_principal_names.clear());
    assert_eq!(by(Cause::S4u2SelfRefused, &bare).cause, Cause::OwnSpnMissing);
    assert_eq!(by(Cause::OwnSpnMissing, &facts()).cause, Cause::S4u2SelfRefused);
    for cause in [Cause::OwnKeyRefused, Cause::KeytabUnusable] {
        assert!(by(cause, &facts()).detail.contains("version 2 of the key"));
    }
    let rc4 = with_own(|own| own.encryption_types = Some(4));
    assert!(by(Cause::OwnEtypeNotSupported, &rc4).detail.contains("0x4, without AES"));
    let unknown = Facts { own: None, ..facts() };
    assert!(by(Cause::OwnTgtNotForwardable, &unknown).detail.contains("no such account"));
}

/// A directory with an answer, which counts how often it is asked.
#[derive(Debug)]
struct Directory {
    answer: Mutex<Option<Result<Option<Facts>, Failure>>>,
    asked: AtomicUsize,
}

impl Directory {
    /// None: it never answers.
    fn with(answer: Option<Result<Option<Facts>, Failure>>) -> Arc<Self> {
        Arc::new(Self { answer: Mutex::new(answer), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl DelegationFacts for Directory {
    fn facts<'a>(&'a self, _: &'a OwnPrincipal, _: &'a Spn, _: Instant) -> Answer<'a, Option<Facts>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

fn asking(directory: &Arc<Directory>) -> Arc<Investigator> {
    Arc::new(Investigator::new(own(), Arc::clone(directory) as Arc<dyn DelegationFacts>))
}

#[tokio::test(start_paused = true)]
async fn the_directory_is_asked_once_a_minute_for_a_cause_and_an_spn() {
    let directory = Directory::with(Some(Ok(Some(unlisted(facts(), &[])))));
    let investigator = asking(&directory);
    let other = Spn::parse("HTTP/mbx2.corp.example").unwrap();
    for _ in 0..50 {
        assert!(investigator.explain(Cause::SpnNotListed.into(), &spn()).await.detail.contains("list is empty"));
    }
    assert_eq!(directory.asked(), 1);
    investigator.explain(Cause::SpnNotListed.into(), &other).await;
    investigator.explain(Cause::SpnUnknown.into(), &spn()).await;
    assert_eq!(directory.asked(), 3);
    tokio::time::advance(Duration::from_secs(61)).await;
    investigator.explain(Cause::SpnNotListed.into(), &spn()).await;
    assert_eq!(directory.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_does_not_answer_costs_two_seconds_a_minute_and_changes_nothing() {
    let silent = Directory::with(None);
    let investigator = asking(&silent);
    let start = tokio::time::Instant::now();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let investigator = Arc::clone(&investigator);
            tokio::spawn(async move { investigator.explain(Failure::new(Cause::SpnNotListed, "seen"), &spn()).await })
        })
        .collect();
    for one in waiting {
        assert_eq!(one.await.unwrap(), Failure::new(Cause::SpnNotListed, "seen"));
    }
    investigator.explain(Cause::SpnNotListed.into(), &spn()).await;
    assert_eq!((start.elapsed().as_secs(), silent.asked()), (2, 1));
}

#[tokio::test]
async fn what_the_directory_cannot_say_leaves_the_failure_as_it_was() {
    for answer in [Err(Cause::DirectoryUnreachable.into()), Ok(None)] {
        let investigator = asking(&Directory::with(Some(answer)));
        let failure = investigator.explain(Failure::new(Cause::SpnNotListed, "seen"), &spn()).await;
        assert_eq!(failure, Failure::new(Cause::SpnNotListed, "seen"));
    }
}

/// Otherwise a directory would be asked for every device that a domain has disabled.
#[tokio::test]
async fn nobody_is_asked_about_users_nor_about_a_kdc_that_does_not_answer() {
    let directory = Directory::with(Some(Ok(Some(facts()))));
    let investigator = asking(&directory);
    for &cause in Cause::ALL {
        if cause.code().starts_with("user-") || cause == Cause::KdcUnreachable || cause == Cause::Overloaded {
            assert!(!worth_asking(cause), "{cause:?}");
            assert_eq!(investigator.explain(cause.into(), &spn()).await, Failure::from(cause));
        }
    }
    assert_eq!(directory.asked(), 0);
}
