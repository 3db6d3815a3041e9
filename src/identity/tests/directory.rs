//! What every rule makes of a directory's answers.

use super::*;
use crate::x509::alt_security::Form;

const SERIAL_STRING: &str = "X509:<I>CN=ca<SR>02012b";

fn alice() -> Account {
    user("alice", OWN)
}

fn bob() -> Account {
    user("bob", OTHER)
}

fn gates() -> AccountRules {
    AccountRules::default()
}

/// A subject key identifier of 07 08.
fn with_key_identifier(leaf: Leaf) -> Leaf {
    leaf.with(&[0x55, 0x1D, 0x0E], vec![4, 2, 7, 8])
}

async fn trace(accounts: &[Account], rule: RuleSettings, leaf: &Leaf) -> Tried {
    let mapper = load(vec![rule], &gates(), Some(Listed::of(accounts)));
    let (certificate, claims) = leaf.admitted();
    mapper.evaluate(&certificate, &claims, soon()).await.remove(0)
}

#[tokio::test]
async fn a_upn_with_a_sid_maps_where_both_are_one_accounts() {
    let leaf = Leaf::upn("Alice@corp.example").sid(OWN);
    let principal = among(&[alice(), bob()], vec![strong_rule()], &leaf).await.unwrap();
    // The KDC resolves the UPN for itself; the SID is the directory's and the certificate's.
    assert_eq!((principal.name(), principal.expected_sid()), (&enterprise("alice@corp.example"), &is(OWN)));

    let renamed = Account { user_principal_name: Some("a.smith@corp.example".into()), account_name: "asmith".into(), ..alice() };
    let without_upn = Account { user_principal_name: None, ..alice() };
    for (accounts, expected) in [
        (vec![without_upn], None),
        (vec![bob()], Some(Cause::AccountNotFound)),
        (vec![renamed.clone()], Some(Cause::DirectoryMismatch)),
        (vec![renamed, user("alice", OTHER)], Some(Cause::SidConflict)),
        (vec![user("alice", OTHER)], Some(Cause::SidConflict)),
        (vec![Account { sid: None, ..alice() }], Some(Cause::DirectoryInvalid)),
    ] {
        let refused = among(&accounts, vec![strong_rule()], &leaf).await.err().map(|failure| failure.cause);
        assert_eq!(refused, expected, "{accounts:#?}");
    }
}

#[tokio::test]
async fn a_sid_maps_to_its_account_under_the_accounts_own_name() {
    let leaf = Leaf::default().sid(OWN);
    let principal = among(&[alice(), bob()], vec![sid_rule()], &leaf).await.unwrap();
    assert_eq!((principal.name(), principal.expected_sid()), (&account_name("alice"), &is(OWN)));
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::Sid, Strength::Strong));
    assert_eq!(cause(among(&[bob()], vec![sid_rule()], &leaf).await), Cause::AccountNotFound);
    assert_eq!(cause(among(&[alice()], vec![sid_rule()], &Leaf::default()).await), Cause::NoMapping);

    let site = Site::new();
    let uri = Leaf::default().sid_uri(OWN);
    let flagged = || RuleSettings::Sid { san_uri_sid_issuers: vec![site.ca("ca")] };
    assert!(among(&[alice()], vec![flagged()], &uri).await.is_ok());
    assert_eq!(cause(among(&[alice()], vec![flagged()], &uri.clone().by("other ca")).await), Cause::NoMapping);
    assert_eq!(cause(among(&[alice()], vec![sid_rule()], &uri).await), Cause::NoMapping);
}

#[tokio::test]
async fn a_sid_whose_account_is_gone_refuses_what_another_rule_would_map() {
    let site = Site::new();
    let leaf = Leaf::upn("alice@corp.example").sid(ADMINISTRATOR);
    let rules = vec![site.weak_rule(RuleKind::Upn), sid_rule()];
    assert_eq!(cause(among(&[alice()], rules, &leaf).await), Cause::SidConflict);
}

#[tokio::test]
async fn every_strong_string_maps_by_itself_and_no_weak_one_does() {
    let leaf = with_key_identifier(Leaf::default().sid(OWN));
    let (certificate, claims) = leaf.admitted();
    for form in Form::ALL {
        for string in crate::x509::alt_security::computed(&claims, &[form]) {
            let stored = with_string(alice(), &string.value.to_ascii_uppercase());
            let mapper = load(vec![strings_rule()], &gates(), Some(Listed::of(&[stored, bob()])));
            let answer = mapper.resolve(&certificate, &claims, soon()).await;
            if form.is_strong() {
                let principal = answer.unwrap();
                assert_eq!((principal.name(), principal.strength()), (&account_name("alice"), Strength::Strong));
            } else {
                assert_eq!(cause(answer), Cause::AccountNotFound, "{}", string.value);
            }
        }
    }
}

#[tokio::test]
async fn forms_may_be_fewer() {
    let only = |forms: &[Form]| vec![RuleSettings::AltSecurityIdentities { forms: forms.to_vec() }];
    let accounts = [with_string(alice(), SERIAL_STRING)];
    assert!(among(&accounts, only(&[Form::IssuerSerial]), &Leaf::default()).await.is_ok());
    let refused = among(&accounts, only(&[Form::Sha1PublicKey]), &Leaf::default()).await;
    assert_eq!(cause(refused), Cause::AccountNotFound);
    let absent = among(&accounts, only(&[Form::SubjectKeyIdentifier]), &Leaf::default()).await.unwrap_err();
    assert_eq!(absent.cause, Cause::NoMapping);
    assert!(absent.detail.contains("no subject key identifier"), "{absent}");
}

#[tokio::test]
async fn a_serial_number_with_a_sign_octet_maps_in_both_spellings() {
    let leaf = Leaf { serial: vec![0, 0xC1, 0x02], ..Leaf::default() };
    for string in ["X509:<I>CN=ca<SR>02c100", "X509:<I>CN=ca<SR>02c1"] {
        assert!(among(&[with_string(alice(), string)], vec![strings_rule()], &leaf).await.is_ok(), "{string}");
    }
    assert!(among(&[with_string(alice(), "X509:<I>CN=ca<SR>c102")], vec![strings_rule()], &leaf).await.is_err());
}

#[tokio::test]
async fn a_serial_number_that_was_not_reversed_maps_nobody_and_says_so() {
    let failure = among(&[with_string(alice(), "X509:<I>CN=ca<SR>2b0102")], vec![strings_rule()], &Leaf::default()).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.cause, Cause::AccountNotFound);
    assert!(failure.detail.contains("must be reversed") && failure.detail.contains("CN=alice"), "{failure}");
}

#[tokio::test]
async fn a_string_on_two_accounts_is_ambiguous() {
    let accounts = [with_string(alice(), SERIAL_STRING), with_string(bob(), SERIAL_STRING)];
    let failure = among(&accounts, vec![strings_rule()], &Leaf::default()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AmbiguousAccount);
    assert!(failure.detail.contains("CN=alice") && failure.detail.contains("CN=bob"), "{failure}");
    let twice = Account { alt_security_identities: vec![SERIAL_STRING.into(), SERIAL_STRING.to_lowercase()], ..alice() };
    assert!(among(&[twice], vec![strings_rule()], &Leaf::default()).await.is_ok(), "one account may hold it twice");
}

#[tokio::test]
async fn two_strings_of_one_certificate_on_two_accounts_are_ambiguous() {
    let leaf = with_key_identifier(Leaf::default());
    let accounts = [with_string(alice(), SERIAL_STRING), with_string(bob(), "X509:<SKI>0708")];
    assert_eq!(cause(among(&accounts, vec![strings_rule()], &leaf).await), Cause::AmbiguousAccount);
}

#[tokio::test]
async fn the_very_certificate_maps_its_account() {
    let leaf = Leaf::default();
    let holder = Account { certificates: vec![vec![1], leaf.der()], ..alice() };
    let principal = among(&[holder.clone(), bob()], vec![RuleSettings::UserCertificate], &leaf).await.unwrap();
    assert_eq!((principal.name(), principal.strength()), (&account_name("alice"), Strength::Strong));
    let renewed = Leaf { serial: vec![9], ..Leaf::default() };
    assert_eq!(cause(among(from_ref(&holder), vec![RuleSettings::UserCertificate], &renewed).await), Cause::AccountNotFound);
    let shared = [holder, Account { certificates: vec![leaf.der()], ..bob() }];
    assert_eq!(cause(among(&shared, vec![RuleSettings::UserCertificate], &leaf).await), Cause::AmbiguousAccount);
}

#[tokio::test]
async fn a_static_row_is_checked_against_its_account() {
    let leaf = Leaf::default();
    let pinned = ExpectedSid::PinOnFirstUse;
    let by_sid = among(&[alice()], vec![row(&leaf, account_name("ALICE"), is(OWN))], &leaf).await.unwrap();
    assert_eq!(by_sid.expected_sid(), &is(OWN));
    // Whoever has the name now, for good.
    for name in [account_name("alice"), enterprise("alice@corp.example")] {
        let by_name = among(&[alice()], vec![row(&leaf, name, pinned.clone())], &leaf).await.unwrap();
        assert_eq!((by_name.expected_sid(), by_name.strength()), (&is(OWN), Strength::Weak));
    }
    let elsewhere = Account { dn: "CN=alice,DC=other,DC=example".into(), ..alice() };
    for (accounts, name, expected_sid, expected) in [
        (vec![], account_name("alice"), is(OWN), Cause::AccountNotFound),
        (vec![], account_name("alice"), pinned.clone(), Cause::AccountNotFound),
        (vec![alice()], account_name("bob"), is(OWN), Cause::DirectoryMismatch),
        (vec![elsewhere.clone()], account_name("alice"), is(OWN), Cause::DirectoryMismatch),
        (vec![elsewhere], account_name("alice"), pinned.clone(), Cause::AccountNotFound),
        (vec![Account { account_name: "älice".into(), ..alice() }], account_name("alice"), pinned, Cause::DirectoryMismatch),
        (vec![alice(), user("bob", OTHER)], enterprise("bob@corp.example"), is(OWN), Cause::SidConflict),
    ] {
        assert_eq!(cause(among(&accounts, vec![row(&leaf, name, expected_sid)], &leaf).await), expected);
    }
}

#[tokio::test]
async fn a_upn_alone_finds_explicit_and_implicit_names_and_takes_the_accounts_sid() {
    let site = Site::new();
    let rules = || vec![site.weak_rule(RuleKind::Upn)];
    let leaf = Leaf::upn("alice@corp.example");
    let explicit = Account { account_name: "a1".into(), ..alice() };
    let implicit = Account { user_principal_name: Some("alice@mail.example".into()), ..alice() };
    for account in [explicit, implicit] {
        let principal = among(&[account, bob()], rules(), &leaf).await.unwrap();
        assert_eq!((principal.name(), principal.expected_sid()), (&enterprise("alice@corp.example"), &is(OWN)));
        assert_eq!(principal.strength(), Strength::Weak);
    }
    let failure = among(&[bob()], rules(), &leaf).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AccountNotFound);
    assert_eq!(cause(among(&[alice()], rules(), &leaf.sid(OTHER)).await), Cause::SidConflict);
}

#[tokio::test]
async fn an_account_of_the_same_name_in_another_domain_is_nobodys_fault() {
    let site = Site::new();
    let foreign = |domain: &str, sid: &str| Account {
        dn: format!("CN=alice,DC={domain},DC=example"),
        user_principal_name: Some(format!("alice@{domain}.example")),
        ..user("alice", sid)
    };
    let others = [foreign("east", "S-1-5-21-7-7-7-1200"), foreign("west", "S-1-5-21-8-8-8-1300")];
    let forest = [&others[..], &[alice()]].concat();
    let leaf = Leaf::upn("alice@corp.example");
    // The directory answers with two at most: east's and west's.
    let principal = among(&forest, vec![site.weak_rule(RuleKind::Upn)], &leaf).await.unwrap();
    assert_eq!(principal.expected_sid(), &is(OWN));
    assert!(among(&forest, vec![strong_rule()], &leaf.clone().sid(OWN)).await.is_ok());
    assert_eq!(cause(among(&others, vec![site.weak_rule(RuleKind::Upn)], &leaf).await), Cause::AccountNotFound);
    // A name is not enough where several domains have it.
    let listed = Leaf::default();
    let by_name = among(&forest, vec![row(&listed, account_name("alice"), ExpectedSid::PinOnFirstUse)], &listed).await;
    assert!(by_name.unwrap_err().detail.contains("give the row the account's sid"));
}

#[tokio::test]
async fn an_address_maps_by_mail_or_by_string_where_its_domain_is_allowed() {
    let site = Site::new();
    let rules = || vec![site.weak_rule(RuleKind::Rfc822)];
    let leaf = |mail: &[&'static str]| Leaf { mail: mail.to_vec(), ..Leaf::default() };
    let address = "alice.smith@corp.example";
    for account in [
        Account { mail: vec!["Alice.Smith@Corp.Example".into()], ..alice() },
        with_string(alice(), "X509:<RFC822>alice.smith@corp.example"),
    ] {
        let principal = among(&[account, bob()], rules(), &leaf(&[address])).await.unwrap();
        assert_eq!((principal.name(), principal.strength()), (&account_name("alice"), Strength::Weak));
    }
    let holder = Account { mail: vec![address.into()], ..alice() };
    for (leaf, expected) in [
        (leaf(&[address]).by("other ca"), Cause::WeakMappingOnly),
        (leaf(&["alice@mail.example"]), Cause::SuffixNotAllowed),
        (leaf(&["bob@corp.example"]), Cause::AccountNotFound),
        (leaf(&[address, address]), Cause::CertificateMalformed),
        (leaf(&[]), Cause::NoMapping),
    ] {
        assert_eq!(cause(among(from_ref(&holder), rules(), &leaf).await), expected);
    }
}

#[tokio::test]
async fn subjects_map_weakly_within_the_domains_their_issuer_may_speak_for() {
    let site = Site::new();
    for (kind, string) in [(RuleKind::IssuerSubject, "X509:<I>CN=ca<S>CN=Alice"), (RuleKind::Subject, "X509:<S>CN=Alice")] {
        let rules = || vec![site.weak_rule(kind)];
        let account = with_string(alice(), string);
        let principal = among(&[account.clone(), bob()], rules(), &Leaf::default()).await.unwrap();
        assert_eq!((principal.rule(), principal.strength()), (kind, Strength::Weak));
        let elsewhere = Account { dn: "CN=alice,DC=other,DC=example".into(), ..account.clone() };
        assert_eq!(cause(among(&[elsewhere], rules(), &Leaf::default()).await), Cause::SuffixNotAllowed);
        let foreign = among(from_ref(&account), rules(), &Leaf::default().by("other ca")).await;
        assert_eq!(cause(foreign), Cause::NoMapping);
        let another = Leaf { subject: "Alice Smith", ..Leaf::default() };
        assert_eq!(cause(among(&[account], rules(), &another).await), Cause::AccountNotFound);
    }
}

#[tokio::test]
async fn a_computer_maps_by_its_one_dns_name_where_name_host_and_domain_agree() {
    let site = Site::new();
    let rules = || vec![site.weak_rule(RuleKind::DnsName)];
    let leaf = |dns: &[&'static str]| Leaf { dns: dns.to_vec(), ..Leaf::default() };
    let machine = || computer("WS1", OWN);
    let principal = among(&[machine()], rules(), &leaf(&["ws1.corp.example"])).await.unwrap();
    assert_eq!((principal.name(), principal.kind()), (&account_name("WS1$"), AccountKind::Computer));
    assert_eq!((principal.strength(), principal.expected_sid()), (Strength::Weak, &is(OWN)));

    let person = Account { dns_host_name: Some("ws1.corp.example".into()), account_name: "ws1$".into(), ..alice() };
    let elsewhere = Account { dn: "CN=WS1,DC=other,DC=example".into(), ..machine() };
    for (accounts, dns, expected) in [
        (vec![machine()], vec!["ws1.other.example"], Cause::SuffixNotAllowed),
        (vec![machine()], vec!["ws1"], Cause::WeakMappingOnly),
        (vec![machine()], vec!["ws2.corp.example"], Cause::AccountNotFound),
        (vec![machine()], vec!["ws1.corp.example", "ws2.corp.example"], Cause::CertificateMalformed),
        (vec![machine()], vec!["*.corp.example"], Cause::CertificateMalformed),
        (vec![machine()], vec![], Cause::NoMapping),
        (vec![elsewhere], vec!["ws1.corp.example"], Cause::DirectoryMismatch),
        (vec![person], vec!["ws1.corp.example"], Cause::AccountKindDenied),
        (vec![Account { control: 0x2000, ..machine() }], vec!["ws1.corp.example"], Cause::AccountKindDenied),
    ] {
        assert_eq!(cause(among(&accounts, rules(), &leaf(&dns)).await), expected, "{dns:?}");
    }
    let by_other = among(&[machine()], rules(), &leaf(&["ws1.corp.example"]).by("other ca")).await;
    assert_eq!(cause(by_other), Cause::WeakMappingOnly);
}

#[tokio::test]
async fn a_policy_makes_a_name_strong_for_its_issuer_its_policies_and_its_suffixes() {
    let site = Site::new();
    let policies = |oid: &[u8]| element(tag::SEQUENCE, &[&element(tag::SEQUENCE, &[&element(tag::OID, &[oid])])]);
    let under = |leaf: Leaf, oid: &[u8]| leaf.with(&[0x55, 0x1D, 0x20], policies(oid));
    let upn = || Leaf::upn("alice@corp.example");
    let rule = || vec![site.name_match("ca", "1.2.3, 1.2.4; UpnSuffix=corp.example")];
    let old = Account { created: ISSUED + 86_400, ..alice() };
    let principal = among(&[old], rule(), &under(upn(), &[0x2A, 4])).await.unwrap();
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::StrongNameMatch, Strength::Strong));
    assert_eq!(principal.expected_sid(), &is(OWN));
    for (leaf, expected) in [
        (under(upn(), &[0x2A, 5]), Cause::WeakMappingOnly),
        (upn(), Cause::WeakMappingOnly),
        (under(upn(), &[0x2A, 3]).by("other ca"), Cause::WeakMappingOnly),
        (under(Leaf::upn("alice@mail.example"), &[0x2A, 3]), Cause::SuffixNotAllowed),
        (under(Leaf::upn("bob@corp.example"), &[0x2A, 3]), Cause::AccountNotFound),
        (under(upn().sid(OTHER), &[0x2A, 3]), Cause::SidConflict),
        (under(Leaf::default(), &[0x2A, 3]), Cause::NoMapping),
    ] {
        assert_eq!(cause(among(&[alice()], rule(), &leaf).await), expected, "{leaf:?}");
    }
    let subjects = || vec![site.name_match("ca", "1.2.3; IssuerSubject")];
    let named = with_string(alice(), "X509:<I>CN=ca<S>CN=Alice");
    let principal = among(from_ref(&named), subjects(), &under(Leaf::default(), &[0x2A, 3])).await.unwrap();
    assert_eq!((principal.name(), principal.strength()), (&account_name("alice"), Strength::Strong));
    assert!(among(from_ref(&named), subjects(), &Leaf::default()).await.is_err());
    assert!(among(&[named], rule(), &under(Leaf::default(), &[0x2A, 3])).await.is_err(), "not in that policy");
    let machine = [computer("ws1", OWN)];
    assert!(among(&machine, rule(), &under(Leaf::upn("ws1@corp.example"), &[0x2A, 3])).await.is_err(), "users only");
}

#[tokio::test]
async fn every_rules_account_passes_the_gates() {
    let site = Site::new();
    let leaf =
        Leaf { mail: vec!["alice@corp.example"], subject: "alice@corp.example", ..Leaf::upn("alice@corp.example").sid(OWN) };
    let account = Account {
        alt_security_identities: vec![
            SERIAL_STRING.into(),
            "X509:<S>CN=alice@corp.example".into(),
            "X509:<I>CN=ca<S>CN=alice@corp.example".into(),
        ],
        mail: vec!["alice@corp.example".into()],
        certificates: vec![leaf.der()],
        ..alice()
    };
    let disabled = Account { control: 0x202, ..account.clone() };
    let mut rules = vec![strong_rule(), sid_rule(), strings_rule(), RuleSettings::UserCertificate];
    rules.push(row(&leaf, account_name("alice"), is(OWN)));
    let weak = [RuleKind::Upn, RuleKind::Rfc822, RuleKind::IssuerSubject, RuleKind::Subject, RuleKind::SubjectCn];
    rules.extend(weak.map(|kind| site.weak_rule(kind)));
    for rule in &rules {
        let name = rule.kind().name();
        assert!(among(from_ref(&account), vec![rule.clone()], &leaf).await.is_ok(), "{name}");
        assert_eq!(cause(among(from_ref(&disabled), vec![rule.clone()], &leaf).await), Cause::AccountDisabled, "{name}");
    }
    // All of them at once mean one account.
    let principal = among(&[account], rules, &leaf).await.unwrap();
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::UpnWithSid, Strength::Strong));
}

#[tokio::test]
async fn rules_that_find_different_accounts_are_ambiguous() {
    let site = Site::new();
    let accounts = [alice(), with_string(bob(), SERIAL_STRING)];
    let rules = vec![site.weak_rule(RuleKind::Upn), strings_rule()];
    assert_eq!(cause(among(&accounts, rules, &Leaf::upn("alice@corp.example")).await), Cause::AmbiguousMapping);
}

#[tokio::test]
async fn renewed_certificates_of_one_user_map_side_by_side_to_one_principal() {
    let site = Site::new();
    let mapper = load(vec![strong_rule(), site.weak_rule(RuleKind::Upn)], &gates(), Some(Listed::of(&[alice()])));
    let old = Leaf::upn("alice@corp.example").sid(OWN);
    let renewed = Leaf { serial: vec![0x11], not_before: "20250701000000Z", ..old.clone() };
    let (old, renewed) = (resolve(&mapper, &old).await.unwrap(), resolve(&mapper, &renewed).await.unwrap());
    assert_eq!(old, renewed, "tickets are shared");
}

#[tokio::test]
async fn a_trouble_of_the_directory_is_unavailability_and_hides_no_refusal() {
    let site = Site::new();
    let leaf = Leaf::upn("alice@corp.example").sid(OWN);
    for trouble in [Cause::DirectoryUnreachable, Cause::DirectoryRefused, Cause::DirectoryInvalid] {
        let listed = Listed::of(&[alice()]);
        listed.fail(trouble);
        let mapper = load(vec![strong_rule(), site.weak_rule(RuleKind::Upn)], &gates(), Some(Arc::clone(&listed)));
        assert_eq!(cause(resolve(&mapper, &leaf).await), trouble);
        let conflicting = row(&leaf, account_name("bob"), is(OTHER));
        let mapper = load(vec![strong_rule(), conflicting], &gates(), Some(listed));
        assert_eq!(cause(resolve(&mapper, &leaf).await), Cause::SidConflict);
    }
}

#[tokio::test]
async fn an_account_whose_name_cannot_be_asked_for_is_refused() {
    let leaf = Leaf::default().sid(OWN);
    for name in ["", "a@b", "a/b", "a\\b", " a", "a\0"] {
        let account = Account { account_name: name.into(), ..alice() };
        assert_eq!(cause(among(&[account], vec![sid_rule()], &leaf).await), Cause::DirectoryInvalid, "{name:?}");
    }
    for dn in ["", "CN=alice", "CN=alice,DC=", "CN=alice,DC=co rp"] {
        let account = Account { dn: dn.into(), ..alice() };
        assert_eq!(cause(among(&[account], vec![sid_rule()], &leaf).await), Cause::DirectoryInvalid, "{dn:?}");
    }
}

#[tokio::test]
async fn a_trace_shows_what_was_computed_asked_and_found() {
    let tried = trace(&[alice()], strong_rule(), &Leaf::upn("Alice@corp.example").sid(OWN)).await;
    assert_eq!((tried.rule, tried.position, tried.strength), (RuleKind::UpnWithSid, 0, Strength::Strong));
    assert_eq!(tried.computed, [("UPN", "alice@corp.example".to_owned()), ("SID", OWN.to_owned())]);
    let filter = tried.filter.unwrap();
    assert!(filter.starts_with("(|(objectSid=") && filter.contains("(userPrincipalName=alice@corp.example)"), "{filter}");
    let hit = Hit { dn: alice().dn, sid: alice().sid, account_name: "alice".into() };
    assert_eq!(tried.hits, [hit]);
    assert!(matches!(tried.outcome, Outcome::Maps(_)));

    let missed = trace(&[user("bob", OWN)], strong_rule(), &Leaf::upn("alice@corp.example").sid(OWN)).await;
    assert_eq!((missed.hits.len(), matches!(missed.outcome, Outcome::Refused(_))), (1, true));
    let certificate = trace(&[], RuleSettings::UserCertificate, &Leaf::default()).await;
    let whole = Filter::equals(Attribute::UserCertificate, Leaf::default().der()).to_string();
    assert_eq!(certificate.filter.as_ref(), Some(&whole));
}

#[tokio::test]
async fn offline_a_rule_says_what_it_would_ask_and_maps_only_what_needs_no_directory() {
    let site = Site::new();
    let configs: Vec<_> = [sid_rule(), strong_rule(), strings_rule()].into_iter().map(RuleConfig::for_all).collect();
    let mapper = Mapper::load_offline(&configs, &gates()).unwrap();
    let leaf = Leaf::upn("alice@corp.example").sid(OWN);
    let (certificate, claims) = leaf.admitted();
    let tried = mapper.evaluate(&certificate, &claims, soon()).await;
    assert_eq!((&tried[0].outcome, &tried[2].outcome), (&Outcome::NotAsked, &Outcome::NotAsked));
    assert!(tried.iter().all(|tried| tried.filter.is_some() && !tried.computed.is_empty()));
    assert_eq!(decide(&claims, &tried).unwrap().rule(), RuleKind::UpnWithSid);
    // Not verified: no issuer is believed.
    let weak = Mapper::load_offline(&[RuleConfig::for_all(site.weak_rule(RuleKind::Upn))], &gates()).unwrap();
    let tried = weak.rehearse(certificate.leaf(), None, &claims, soon()).await;
    assert!(matches!(&tried[0].outcome, Outcome::Lacks(_)));
}

#[tokio::test]
async fn one_question_is_asked_once_for_all_rules() {
    let listed = Listed::of(&[alice()]);
    let leaf = Leaf::default().sid(OWN);
    let mapper =
        load(vec![sid_rule(), row(&leaf, account_name("alice"), is(OWN)), sid_rule()], &gates(), Some(Arc::clone(&listed)));
    assert!(resolve(&mapper, &leaf).await.is_ok());
    assert_eq!(listed.asked(), 1);
}
