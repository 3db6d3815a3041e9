//! Each mapping rule, each gate and each known hazard, against the accounts of the real domain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kcd_bridge::failure::{Cause, Failure};
use kcd_bridge::identity::{
    AccountKind, AccountRules, ExpectedSid, Principal, RequestedName, RuleSettings, SidOrRid, StaticEntry, Strength, WeakIssuer,
};
use kcd_bridge::naming::sid::Sid;

use crate::support::domain::{mapper, resolve};
use crate::support::{Lab, eventually};

/// Makes a weak rule of its issuers.
type WeakRule = fn(Vec<WeakIssuer>) -> RuleSettings;

fn sid_rule() -> RuleSettings {
    RuleSettings::Sid { san_uri_sid_issuers: Vec::new() }
}

fn identities() -> RuleSettings {
    RuleSettings::AltSecurityIdentities { forms: Vec::new() }
}

async fn who(lab: &Lab, rule: RuleSettings, certificate: &str) -> Result<Arc<Principal>, Failure> {
    resolve(lab, &mapper(lab, rule, &AccountRules::default()), certificate).await
}

fn is(lab: &Lab, principal: &Principal, account: &str) -> bool {
    *principal.expected_sid() == ExpectedSid::Is(Sid::parse(&lab.account_sid(account)).expect("a SID"))
}

#[tokio::test]
async fn each_strong_rule_finds_its_account_by_sid() {
    let lab = Lab::get();
    let by_uri = |lab: &Lab| RuleSettings::Sid { san_uri_sid_issuers: lab.issuer_file("device-ca") };
    for (rule, certificate, account) in [
        (sid_rule(), "alice", "alice"),
        (sid_rule(), "frank", "frank"),
        (sid_rule(), "alice-issued", "alice"),
        (sid_rule(), "alice-reissued", "alice"),
        (by_uri(&lab), "alice-uri-sid", "alice"),
        (RuleSettings::UpnWithSid { san_uri_sid_issuers: Vec::new() }, "alice", "alice"),
        (identities(), "asi-sr", "asi-sr"),
        (identities(), "asi-sr00", "asi-sr00"),
        (identities(), "asi-ski", "asi-ski"),
        (identities(), "asi-sha1", "asi-sha1"),
        (identities(), "asi-sha1-key", "asi-sha1-key"),
        (identities(), "asi-sha1-spki", "asi-sha1-spki"),
        (identities(), "asi-sid", "asi-sid"),
        (RuleSettings::UserCertificate, "usercert", "usercert"),
    ] {
        let kind = rule.kind();
        let principal = who(&lab, rule, certificate).await.unwrap_or_else(|failure| panic!("{certificate}: {failure}"));
        assert!(is(&lab, &principal, account), "{certificate}: {principal:?}");
        assert_eq!((principal.rule(), principal.strength(), principal.kind()), (kind, Strength::Strong, AccountKind::User));
    }
}

#[tokio::test]
async fn each_weak_rule_finds_its_account_for_the_issuer_it_names_and_for_no_other() {
    let lab = Lab::get();

    let rules: [(WeakRule, &str, &str, &str); 6] = [
        (|issuers| RuleSettings::Upn { issuers }, "alice-no-sid", "alice", "device-ca"),
        (|issuers| RuleSettings::SubjectCn { issuers }, "alice-cn", "alice", "device-ca"),
        (|issuers| RuleSettings::Rfc822 { issuers }, "mail1", "mail1", "issuing-ca"),
        (|issuers| RuleSettings::IssuerSubject { issuers }, "asi-is", "asi-is", "issuing-ca"),
        (|issuers| RuleSettings::Subject { issuers }, "asi-s", "asi-s", "issuing-ca"),
        (|issuers| RuleSettings::DnsName { issuers }, "pc1", "pc1$", "issuing-ca"),
    ];
    let rules_of_accounts = AccountRules { backdating: Duration::from_hours(24), ..AccountRules::default() };
    for (make, certificate, account, ca) in rules {
        let named = mapper(&lab, make(lab.weak_issuers(ca)), &rules_of_accounts);
        let principal = resolve(&lab, &named, certificate).await.unwrap_or_else(|failure| panic!("{certificate}: {failure}"));
        assert!(is(&lab, &principal, account), "{certificate}: {principal:?}");
        assert_eq!(principal.strength(), Strength::Weak, "{certificate}");
        let other = if ca == "device-ca" { "issuing-ca" } else { "device-ca" };
        let elsewhere = mapper(&lab, make(lab.weak_issuers(other)), &rules_of_accounts);
        assert!(resolve(&lab, &elsewhere, certificate).await.is_err(), "{certificate}: by another issuer");
    }
}

#[tokio::test]
async fn a_name_that_the_policy_vouches_for_is_strong_and_any_other_is_no_mapping() {
    let lab = Lab::get();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let policy_file = directory.path().join("policy.txt");
    let thumbprint = lab.thumbprint("device-ca");
    let rule = |policy: &str| {
        std::fs::write(&policy_file, policy).expect("the policy is written");
        RuleSettings::StrongNameMatch { policy_file: policy_file.clone(), issuers: vec![lab.pki("device-ca.pem")] }
    };
    let vouched = format!("{thumbprint}; 1.3.6.1.4.1.32473.1.1; UpnSuffix=corp.example");
    let principal = who(&lab, rule(&vouched), "alice-policy").await.expect("a strong name");
    assert!(is(&lab, &principal, "alice"), "{principal:?}");
    assert_eq!((principal.rule().name(), principal.strength()), ("strong-name-match", Strength::Strong));
    assert!(who(&lab, rule(&vouched), "alice-no-sid").await.is_err(), "it asserts no policy");
    let elsewhere = format!("{thumbprint}; 1.3.6.1.4.1.32473.1.1; UpnSuffix=elsewhere.example");
    assert!(who(&lab, rule(&elsewhere), "alice-policy").await.is_err());
}

#[tokio::test]
async fn the_static_table_names_the_account_of_one_certificate_only() {
    let lab = Lab::get();
    let certificate = lab.claims("asi-i").certificate();
    let expected = ExpectedSid::Is(Sid::parse(&lab.sid("alice")).expect("a SID"));
    let entry = StaticEntry { name: RequestedName::Enterprise("alice@corp.example".into()), expected_sid: expected };
    let rule = || RuleSettings::Static { entries: BTreeMap::from([(StaticEntry::key(certificate), entry.clone())]) };
    assert!(is(&lab, &who(&lab, rule(), "asi-i").await.expect("the table's account"), "alice"));
    assert_eq!(who(&lab, rule(), "asi-s").await.map_err(|failure| failure.cause), Err(Cause::NoMapping));
}

#[tokio::test]
async fn each_gate_refuses_its_account_for_its_own_reason() {
    let lab = Lab::get();
    let all = AccountRules {
        deny_expired_passwords: true,
        deny_admin_count: true,
        denied_groups: vec![SidOrRid::Rid(512)],
        enforce_logon_hours: true,
        ..AccountRules::default()
    };
    let none = AccountRules::default();
    for (rules, certificate, cause) in [
        (&none, "dave", Cause::AccountDisabled),
        (&none, "locked", Cause::AccountLocked),
        (&none, "expired", Cause::AccountExpired),
        (&none, "carol", Cause::AccountNotDelegated),
        (&none, "protected", Cause::AccountProtected),
        (&none, "nestedprotected", Cause::AccountProtected),
        (&none, "dollar", Cause::AccountKindDenied),
        (&all, "mustchange", Cause::AccountPasswordExpired),
        (&all, "formeradmin", Cause::AccountDenied),
        (&all, "nestedadmin", Cause::AccountDenied),
        (&all, "admin1", Cause::AccountDenied),
        (&all, "nohours", Cause::AccountOutsideHours),
    ] {
        let answer = resolve(&lab, &mapper(&lab, sid_rule(), rules), certificate).await;
        assert_eq!(answer.map_err(|failure| failure.cause).err(), Some(cause), "{certificate}");
    }
    for certificate in ["mustchange", "formeradmin", "nestedadmin", "nohours"] {
        assert!(who(&lab, sid_rule(), certificate).await.is_ok(), "{certificate}: by default");
    }
    assert!(resolve(&lab, &mapper(&lab, sid_rule(), &all), "alice").await.is_ok());
    let required = AccountRules { required_groups: vec![SidOrRid::Rid(512)], ..AccountRules::default() };
    let alice = resolve(&lab, &mapper(&lab, sid_rule(), &required), "alice").await;
    assert_eq!(alice.map_err(|failure| failure.cause).err(), Some(Cause::AccountGroupMissing));
    assert!(resolve(&lab, &mapper(&lab, sid_rule(), &required), "nestedadmin").await.is_ok());
}

#[tokio::test]
async fn whoever_two_accounts_answer_for_is_nobody() {
    let lab = Lab::get();
    let upn = |lab: &Lab| RuleSettings::Upn { issuers: lab.weak_issuers("device-ca") };
    for (rule, certificate, cause) in [
        (identities(), "twin", Cause::AmbiguousAccount),
        (RuleSettings::Rfc822 { issuers: lab.weak_issuers("issuing-ca") }, "mailtwin", Cause::AmbiguousAccount),
        (upn(&lab), "victim", Cause::AmbiguousAccount),
        // The directory finds it, with a space that is not in the certificate.
        (upn(&lab), "trail", Cause::DirectoryMismatch),
    ] {
        let answer = who(&lab, rule, certificate).await;
        assert_eq!(answer.map_err(|failure| failure.cause).err(), Some(cause), "{certificate}");
    }
}

#[tokio::test]
async fn a_certificates_sid_decides_between_two_accounts_with_one_upn() {
    let lab = Lab::get();
    for name in ["victim", "usurper"] {
        let principal = who(&lab, sid_rule(), name).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        assert!(is(&lab, &principal, name), "{name}: {principal:?}");
    }
}

#[tokio::test]
async fn what_only_looks_like_a_mapping_maps_nobody() {
    let lab = Lab::get();
    let weak = |ca| lab.weak_issuers(ca);
    for (rule, certificate) in [
        // The serial number the wrong way round; the issuer alone; weak forms under the strong rule.
        (identities(), "asi-sr-forward"),
        (identities(), "asi-i"),
        (identities(), "asi-is"),
        (identities(), "asi-s"),
        (identities(), "asi-rfc822"),
        // No SID that counts.
        (sid_rule(), "alice-no-sid"),
        (sid_rule(), "alice-uri-sid"),
        // Another certificate of the same person.
        (RuleSettings::UserCertificate, "asi-ski"),
        (RuleSettings::SubjectCn { issuers: weak("device-ca") }, "alice-no-sid"),
        (RuleSettings::DnsName { issuers: weak("device-ca") }, "alice"),
    ] {
        let kind = rule.kind();
        let answer = who(&lab, rule, certificate).await;
        assert!(answer.is_err(), "{certificate} by {kind:?}: {answer:?}");
    }
}

/// Asked for by name without its dollar sign, the domain controller would get a ticket.
#[tokio::test]
async fn a_machines_name_without_its_dollar_sign_maps_nobody() {
    let lab = Lab::get();
    let issuers = || lab.weak_issuers("device-ca");
    for rule in [RuleSettings::Upn { issuers: issuers() }, sid_rule()] {
        let kind = rule.kind();
        let answer = who(&lab, rule, "dollar").await;
        assert!(answer.is_err(), "by {kind:?}: {answer:?}");
    }
}

#[tokio::test]
async fn an_account_that_is_disabled_is_denied_when_its_mapping_runs_out_and_at_once_after_a_purge() {
    let lab = Lab::get();
    let short = AccountRules { positive_ttl: Duration::from_secs(1), ..AccountRules::default() };
    let lasting = mapper(&lab, sid_rule(), &AccountRules::default());
    let brief = mapper(&lab, sid_rule(), &short);
    for mapper in [&lasting, &brief] {
        assert!(resolve(&lab, mapper, "leaver1").await.is_ok());
    }
    let _enabled_again = lab.disable("leaver1");
    let cause = |answer: Result<Arc<Principal>, Failure>| answer.map_err(|failure| failure.cause).err();
    assert_eq!(cause(resolve(&lab, &lasting, "leaver1").await), None, "remembered");
    lasting.purge();
    assert_eq!(cause(resolve(&lab, &lasting, "leaver1").await), Some(Cause::AccountDisabled));
    let certificate = lab.admit("leaver1").await;
    eventually("the short memory ends", || brief.known(&certificate).is_none().then_some(()));
    assert_eq!(cause(resolve(&lab, &brief, "leaver1").await), Some(Cause::AccountDisabled));
}
