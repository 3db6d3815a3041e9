//! What was done to certificate mapping elsewhere.

use super::*;

fn victim() -> Account {
    user("administrator", ADMINISTRATOR)
}

fn attacker() -> Account {
    user("mallory", OWN)
}

#[tokio::test]
async fn esc1_a_chosen_upn_beside_the_requesters_own_sid_is_a_conflict() {
    let leaf = Leaf::upn("administrator@corp.example").sid(OWN);
    assert_eq!(cause(among(&[victim(), attacker()], vec![strong_rule()], &leaf).await), Cause::SidConflict);
    assert_eq!(cause(among(&[attacker(), victim()], vec![strong_rule()], &leaf).await), Cause::SidConflict);
    let site = Site::new();
    let weak = vec![site.weak_rule(RuleKind::Upn)];
    assert_eq!(cause(among(&[victim(), attacker()], weak, &leaf).await), Cause::SidConflict);
}

#[tokio::test]
async fn esc1_a_chosen_sid_uri_of_an_unflagged_issuer_proves_nothing() {
    let leaf = Leaf::upn("administrator@corp.example").sid_uri(ADMINISTRATOR);
    for rule in [strong_rule(), sid_rule()] {
        assert_eq!(cause(among(&[victim()], vec![rule], &leaf).await), Cause::NoMapping);
    }
}

#[tokio::test]
async fn esc9_and_esc16_a_certificate_without_a_sid_never_falls_back_to_its_names() {
    let leaf = Leaf { mail: vec!["administrator@corp.example"], ..Leaf::upn("administrator@corp.example") };
    let rules = vec![strong_rule(), sid_rule(), strings_rule(), RuleSettings::UserCertificate];
    let failure = among(&[victim()], rules, &leaf).await.unwrap_err();
    assert_eq!(failure.cause, Cause::WeakMappingOnly);
    assert!(failure.detail.contains("UPN administrator@corp.example, e-mail administrator@corp.example"), "{failure}");
}

#[tokio::test]
async fn esc14_an_address_that_two_accounts_claim_is_ambiguous() {
    let site = Site::new();
    let leaf = Leaf { mail: vec!["boss@corp.example"], ..Leaf::default() };
    let explicit = with_string(victim(), "X509:<RFC822>boss@corp.example");
    let written = Account { mail: vec!["boss@corp.example".into()], ..attacker() };
    for accounts in [[explicit.clone(), written.clone()], [written, explicit]] {
        let refused = among(&accounts, vec![site.weak_rule(RuleKind::Rfc822)], &leaf).await;
        assert_eq!(cause(refused), Cause::AmbiguousAccount);
    }
}

#[tokio::test]
async fn esc14_weak_strings_on_the_victim_are_nothing_to_the_strong_rule() {
    for string in ["X509:<S>CN=Alice", "X509:<I>CN=ca<S>CN=Alice", "X509:<RFC822>alice@corp.example", "X509:<I>CN=ca"] {
        let leaf = Leaf { mail: vec!["alice@corp.example"], ..Leaf::default() };
        let refused = among(&[with_string(victim(), string)], vec![strings_rule()], &leaf).await;
        assert_eq!(cause(refused), Cause::WeakMappingOnly, "{string}");
    }
}

#[tokio::test]
async fn a_name_never_finds_the_computer_of_that_name() {
    let site = Site::new();
    let controller = Account { control: 0x2000, primary_group: 516, ..computer("dc1", "S-1-5-21-1-2-3-1000") };
    let leaf = Leaf::upn("dc1@corp.example");
    let listed = Listed::of(from_ref(&controller));
    let mapper = load(vec![site.weak_rule(RuleKind::Upn)], &AccountRules::default(), Some(listed));
    assert_eq!(cause(resolve(&mapper, &leaf).await), Cause::AccountNotFound);
    let (certificate, claims) = leaf.admitted();
    let tried = mapper.evaluate(&certificate, &claims, soon()).await;
    assert!(!tried[0].filter.as_ref().unwrap().contains('$'));
    // CVE-2021-42278: renamed without its $.
    let renamed = Account { account_name: "dc1".into(), ..controller.clone() };
    assert_eq!(cause(among(&[renamed], vec![site.weak_rule(RuleKind::Upn)], &leaf).await), Cause::AccountKindDenied);
    let by_sid = Leaf::default().sid("S-1-5-21-1-2-3-1000");
    assert_eq!(cause(among(&[controller], vec![sid_rule()], &by_sid).await), Cause::AccountKindDenied);
}

#[tokio::test]
async fn cve_2022_26923_a_computer_that_calls_itself_a_domain_controller_is_refused() {
    let site = Site::new();
    let rules = || vec![site.weak_rule(RuleKind::DnsName)];
    let leaf = Leaf { dns: vec!["dc1.corp.example"], ..Leaf::default() };
    let liar = Account { dns_host_name: Some("dc1.corp.example".into()), ..computer("evil", OWN) };
    let controller = Account { control: 0x2000, primary_group: 516, ..computer("dc1", "S-1-5-21-1-2-3-1000") };
    assert_eq!(cause(among(from_ref(&liar), rules(), &leaf).await), Cause::AccountNotFound);
    assert_eq!(cause(among(&[liar, controller], rules(), &leaf).await), Cause::AccountKindDenied);
}

#[tokio::test]
async fn an_explicit_upn_that_is_anothers_implicit_one_is_ambiguous() {
    let site = Site::new();
    let explicit = Account { user_principal_name: Some("user3@corp.example".into()), ..user("user2", OWN) };
    let implicit = Account { user_principal_name: None, ..user("user3", OTHER) };
    for accounts in [[explicit.clone(), implicit.clone()], [implicit, explicit]] {
        let leaf = Leaf::upn("user3@corp.example");
        let weak = among(&accounts, vec![site.weak_rule(RuleKind::Upn)], &leaf).await;
        assert_eq!(cause(weak), Cause::AmbiguousAccount);
        for holder in [OWN, OTHER] {
            let strong = among(&accounts, vec![strong_rule()], &leaf.clone().sid(holder)).await;
            assert_eq!(cause(strong), Cause::AmbiguousAccount);
        }
    }
}

#[tokio::test]
async fn a_conflict_is_seen_behind_an_account_of_that_name_in_another_domain() {
    let foreign =
        Account { dn: "CN=user3,DC=other,DC=example".into(), user_principal_name: None, ..user("user3", "S-1-5-21-7-7-7-1200") };
    let holders = ["user2", "user4"].map(|name| Account {
        user_principal_name: Some("user3@corp.example".into()),
        ..user(name, if name == "user2" { OWN } else { OTHER })
    });
    let site = Site::new();
    let accounts = [vec![foreign], holders.to_vec()].concat();
    let refused = among(&accounts, vec![site.weak_rule(RuleKind::Upn)], &Leaf::upn("user3@corp.example")).await;
    assert_eq!(cause(refused), Cause::AmbiguousAccount);
}

#[tokio::test]
async fn a_joiner_with_a_leavers_name_is_not_the_leaver() {
    let site = Site::new();
    let joiner = Account { created: ISSUED + 86_400, ..user("alice", OTHER) };
    let leaf = Leaf::upn("alice@corp.example");
    let weak = among(from_ref(&joiner), vec![site.weak_rule(RuleKind::Upn)], &leaf).await;
    assert_eq!(cause(weak), Cause::CertificateOlderThanAccount);
    let strong = among(&[joiner], vec![strong_rule()], &leaf.sid(OWN)).await;
    assert_eq!(cause(strong), Cause::SidConflict);
}

#[tokio::test]
async fn what_the_directory_takes_for_equal_is_not() {
    let site = Site::new();
    let upn = |stored: &str| Account { user_principal_name: Some(stored.into()), account_name: "x".into(), ..attacker() };
    let mail = |stored: &str| Account { mail: vec![stored.into()], ..attacker() };
    let address = Leaf { mail: vec!["bob@corp.example"], ..Leaf::default() };
    let serial = "X509:<I>CN=ca<SR>02012b";
    for (account, rule, leaf, same) in [
        (upn("bob@corp.example"), RuleKind::Upn, Leaf::upn("bob@corp.example"), true),
        (upn("BOB@Corp.Example"), RuleKind::Upn, Leaf::upn("bob@corp.example"), true),
        (upn("böb@corp.example"), RuleKind::Upn, Leaf::upn("bob@corp.example"), false),
        (upn("bob\u{FF20}corp.example"), RuleKind::Upn, Leaf::upn("bob@corp.example"), false),
        (upn("bob@corp.example "), RuleKind::Upn, Leaf::upn("bob@corp.example"), false),
        (upn("ｂob@corp.example"), RuleKind::Upn, Leaf::upn("bob@corp.example"), false),
        (user("böb", OWN), RuleKind::Upn, Leaf::upn("bob@corp.example"), false),
        (mail("Bob@corp.example"), RuleKind::Rfc822, address.clone(), true),
        (mail("bób@corp.example"), RuleKind::Rfc822, address.clone(), false),
        (mail("bob@corp.example "), RuleKind::Rfc822, address, false),
        (with_string(attacker(), &serial.to_uppercase()), RuleKind::AltSecurityIdentities, Leaf::default(), true),
        (with_string(attacker(), "X509:<I>CN=cä<SR>02012b"), RuleKind::AltSecurityIdentities, Leaf::default(), false),
        (with_string(attacker(), "X509:<I>CN=ca<SR>02012b "), RuleKind::AltSecurityIdentities, Leaf::default(), false),
        (with_string(attacker(), "X509:<I>CN＝ca<SR>02012b"), RuleKind::AltSecurityIdentities, Leaf::default(), false),
    ] {
        let rules = vec![if rule == RuleKind::AltSecurityIdentities { strings_rule() } else { site.weak_rule(rule) }];
        let answer = among(from_ref(&account), rules, &leaf).await;
        assert_eq!(
            answer.as_ref().err().map(|failure| failure.cause),
            (!same).then_some(Cause::DirectoryMismatch),
            "{account:?}"
        );
    }
}

#[tokio::test]
async fn a_likeness_beside_the_right_account_is_refused_too() {
    let site = Site::new();
    let right = user("bob", OWN);
    let alike = Account { user_principal_name: Some("böb@corp.example".into()), ..user("bobby", OTHER) };
    let refused = among(&[right, alike], vec![site.weak_rule(RuleKind::Upn)], &Leaf::upn("bob@corp.example")).await;
    assert_eq!(cause(refused), Cause::DirectoryMismatch);
    let right = with_string(user("bob", OWN), "X509:<I>CN=ca<SR>02012b");
    let alike = with_string(user("eve", OTHER), "X509:<I>CN=cä<SR>02012b");
    assert_eq!(cause(among(&[right, alike], vec![strings_rule()], &Leaf::default()).await), Cause::AmbiguousAccount);
}

#[tokio::test]
async fn a_subject_cannot_write_a_tag_of_its_own() {
    let site = Site::new();
    for subject in ["x<SR>02012b", "x<SID>S-1-5-21-1-2-3-500", "x\0", "x\r\ny"] {
        let leaf = Leaf { subject, ..Leaf::default() };
        let refused = among(&[attacker()], vec![site.weak_rule(RuleKind::IssuerSubject)], &leaf).await;
        assert_eq!(cause(refused), Cause::CertificateMalformed, "{subject:?}");
    }
}

#[tokio::test]
async fn what_a_peer_wrote_stays_a_value_of_the_filter() {
    let site = Site::new();
    let subject = "*)(objectSid=*))(|(cn=\\";
    let mapper = load(vec![site.weak_rule(RuleKind::Subject)], &AccountRules::default(), Some(Listed::of(&[])));
    let (certificate, claims) = Leaf { subject, ..Leaf::default() }.admitted();
    let tried = mapper.evaluate(&certificate, &claims, soon()).await;
    let filter = tried[0].filter.as_ref().unwrap();
    assert!(filter.contains("\\2a\\29\\28objectSid=\\2a\\29\\29\\28|\\28cn=\\5c"), "{filter}");
}
