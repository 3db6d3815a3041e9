//! What every rule maps and refuses without a directory.

use super::*;

fn alice() -> RequestedName {
    enterprise("alice@corp.example")
}

#[tokio::test]
async fn a_upn_with_the_ca_s_sid_extension_is_a_strong_mapping() {
    let principal = pure(vec![strong_rule()], &Leaf::upn("Alice@Corp.Example").sid(OWN)).await.unwrap();
    assert_eq!((principal.name(), principal.expected_sid()), (&alice(), &is(OWN)));
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::UpnWithSid, Strength::Strong));
    assert_eq!(principal.kind(), AccountKind::User);
}

#[tokio::test]
async fn the_sid_of_the_certificate_is_expected_whatever_its_upn_says() {
    // The requester chose the UPN, the CA the SID: the KDC's answer for the administrator will not have it.
    let principal = pure(vec![strong_rule()], &Leaf::upn("administrator@corp.example").sid(OWN)).await.unwrap();
    assert_eq!(principal.expected_sid(), &is(OWN));
}

#[tokio::test]
async fn a_victims_upn_without_a_sid_maps_to_nobody() {
    let site = Site::new();
    let rule = RuleSettings::UpnWithSid { san_uri_sid_issuers: vec![site.ca("ca")] };
    let failure = pure(vec![rule], &Leaf::upn("alice@corp.example")).await.unwrap_err();
    assert_eq!(failure.cause, Cause::WeakMappingOnly);
    assert!(failure.detail.contains("upn-with-sid: no SID") && failure.detail.contains("UPN alice@corp.example"), "{failure}");
}

#[tokio::test]
async fn a_sid_without_a_upn_maps_to_nobody() {
    assert_eq!(cause(pure(vec![strong_rule()], &Leaf::default().sid(OWN)).await), Cause::NoMapping);
}

#[tokio::test]
async fn a_sid_uri_is_believed_of_flagged_issuers_only() {
    let site = Site::new();
    let rule = || RuleSettings::UpnWithSid { san_uri_sid_issuers: vec![site.ca("ca")] };
    let leaf = Leaf::upn("alice@corp.example").sid_uri(OWN);
    let principal = pure(vec![rule()], &leaf).await.unwrap();
    assert_eq!((principal.expected_sid(), principal.strength()), (&is(OWN), Strength::Strong));
    let failure = pure(vec![rule()], &leaf.by("other ca")).await.unwrap_err();
    assert_eq!(failure.cause, Cause::NoMapping);
    assert!(failure.detail.contains("san_uri_sid_issuers"), "{failure}");
}

#[tokio::test]
async fn the_weak_rule_maps_a_named_issuer_with_an_allowed_suffix_and_is_counted() {
    let site = Site::new();
    let mapper = load(vec![strong_rule(), site.weak_rule(RuleKind::Upn)], &AccountRules::default(), None);
    let principal = resolve(&mapper, &Leaf::upn("Alice@CORP.example")).await.unwrap();
    assert_eq!((principal.name(), principal.expected_sid()), (&alice(), &ExpectedSid::PinOnFirstUse));
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::Upn, Strength::Weak));
    assert_eq!(mapper.counts().weak(), 1);
    assert_eq!(cause(resolve(&mapper, &Leaf::upn("alice@corp.example").by("other ca")).await), Cause::WeakMappingOnly);
    assert_eq!(mapper.counts().mapped, [(RuleKind::Upn, Strength::Weak, 1)]);
    assert_eq!(mapper.counts().refused, [(Cause::WeakMappingOnly, 1)]);
}

#[tokio::test]
async fn a_suffix_is_allowed_only_as_a_whole() {
    let site = Site::new();
    for spoof in ["alice@evil-corp.example", "alice@corp.example.evil", "alice@sub.corp.example", "alice@example"] {
        let refused = pure(vec![site.weak_rule(RuleKind::Upn)], &Leaf::upn(spoof)).await;
        assert_eq!(cause(refused), Cause::SuffixNotAllowed, "{spoof}");
    }
}

#[tokio::test]
async fn a_sid_that_the_certificate_names_narrows_the_weak_rule_even_if_it_is_not_believed() {
    let site = Site::new();
    let leaf = Leaf::upn("alice@corp.example");
    for leaf in [leaf.clone().sid(OWN), leaf.sid_uri(OWN)] {
        let principal = pure(vec![site.weak_rule(RuleKind::Upn)], &leaf).await.unwrap();
        assert_eq!((principal.expected_sid(), principal.strength()), (&is(OWN), Strength::Weak));
    }
}

#[tokio::test]
async fn the_common_name_is_read_as_a_upn_only_where_a_rule_says_so() {
    let site = Site::new();
    let leaf = Leaf { subject: "Alice@corp.example", ..Leaf::default() };
    let principal = pure(vec![site.weak_rule(RuleKind::SubjectCn)], &leaf).await.unwrap();
    assert_eq!((principal.name(), principal.strength()), (&alice(), Strength::Weak));
    assert_eq!(cause(pure(vec![site.weak_rule(RuleKind::Upn)], &leaf).await), Cause::NoMapping);
    assert_eq!(cause(pure(vec![site.weak_rule(RuleKind::SubjectCn)], &leaf.by("other ca")).await), Cause::NoMapping);
    for no_upn in ["Alice", "alice@evil.example", "alice @corp.example", "alice@corp.example\u{a0}", "älice@corp.example"] {
        let refused = pure(vec![site.weak_rule(RuleKind::SubjectCn)], &Leaf { subject: no_upn, ..Leaf::default() }).await;
        assert!(matches!(cause(refused), Cause::NoMapping | Cause::SuffixNotAllowed), "{no_upn}");
    }
}

#[tokio::test]
async fn a_static_row_maps_its_certificate_and_no_other() {
    let listed = Leaf::default();
    let rule = || row(&listed, account_name("alice"), is(OWN));
    let principal = pure(vec![rule()], &listed).await.unwrap();
    assert_eq!((principal.name(), principal.expected_sid()), (&account_name("alice"), &is(OWN)));
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::Static, Strength::Strong));
    assert_eq!(cause(pure(vec![rule()], &Leaf { subject: "Bob", ..Leaf::default() }).await), Cause::NoMapping);
}

#[tokio::test]
async fn a_static_row_without_any_sid_is_weak() {
    let listed = Leaf::default();
    let principal = pure(vec![row(&listed, alice(), ExpectedSid::PinOnFirstUse)], &listed).await.unwrap();
    assert_eq!((principal.expected_sid(), principal.strength()), (&ExpectedSid::PinOnFirstUse, Strength::Weak));
}

#[tokio::test]
async fn a_static_row_that_contradicts_the_certificates_own_sid_is_a_conflict() {
    for listed in [Leaf::default().sid(ADMINISTRATOR), Leaf::default().sid_uri(ADMINISTRATOR)] {
        assert_eq!(cause(pure(vec![row(&listed, alice(), is(OWN))], &listed).await), Cause::SidConflict);
    }
}

#[tokio::test]
async fn rules_that_agree_map_and_the_strong_one_is_reported() {
    let site = Site::new();
    let both = Leaf::upn("alice@corp.example").sid(OWN);
    let rules = vec![site.weak_rule(RuleKind::Upn), strong_rule(), row(&both, alice(), ExpectedSid::PinOnFirstUse)];
    let principal = pure(rules, &both).await.unwrap();
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::UpnWithSid, Strength::Strong));
}

#[tokio::test]
async fn rules_agree_by_sid_where_both_know_it_and_by_name_where_not() {
    let site = Site::new();
    let leaf = Leaf::upn("alice@corp.example").sid(OWN);
    // One account by two of its names.
    let principal = pure(vec![strong_rule(), row(&leaf, account_name("al"), is(OWN))], &leaf).await.unwrap();
    assert_eq!((principal.rule(), principal.name()), (RuleKind::UpnWithSid, &alice()));

    let plain = Leaf::upn("alice@corp.example");
    let weak = || site.weak_rule(RuleKind::Upn);
    let principal = pure(vec![weak(), row(&plain, alice(), is(OWN))], &plain).await.unwrap();
    assert_eq!((principal.rule(), principal.expected_sid()), (RuleKind::Static, &is(OWN)));
    for reversed in [false, true] {
        let mut rules = vec![weak(), row(&plain, enterprise("bob@corp.example"), is(OWN))];
        if reversed {
            rules.reverse();
        }
        assert_eq!(cause(pure(rules, &plain).await), Cause::AmbiguousMapping);
    }
}

#[tokio::test]
async fn claims_of_another_certificate_are_refused() {
    let (certificate, _) = Leaf::upn("alice@corp.example").sid(OWN).admitted();
    let (_, claims) = Leaf::upn("bob@corp.example").sid(ADMINISTRATOR).admitted();
    let mapper = load(vec![strong_rule()], &AccountRules::default(), None);
    assert_eq!(cause(mapper.resolve(&certificate, &claims, soon()).await), Cause::CertificateMalformed);
    let tried = mapper.evaluate(&certificate, &claims, soon()).await;
    assert_eq!(cause(decide(&claims, &tried)), Cause::CertificateMalformed);
}

#[tokio::test]
async fn without_rules_nobody_is_mapped() {
    assert_eq!(cause(pure(vec![], &Leaf::upn("alice@corp.example").sid(OWN)).await), Cause::NoMapping);
}

#[test]
fn a_rule_that_asks_the_directory_needs_one() {
    let site = Site::new();
    let mut rules = vec![sid_rule(), strings_rule(), RuleSettings::UserCertificate];
    rules.push(site.name_match("ca", "1.2.3; IssuerSubject"));
    let weak = [RuleKind::Rfc822, RuleKind::IssuerSubject, RuleKind::Subject, RuleKind::DnsName];
    rules.extend(weak.map(|kind| site.weak_rule(kind)));
    for rule in rules {
        let name = rule.kind().name();
        let configs = [RuleConfig::for_all(strong_rule()), RuleConfig::for_all(rule)];
        let error = Mapper::load(&configs, &AccountRules::default(), None).unwrap_err().to_string();
        assert!(error.starts_with("[directory]") && error.contains(name), "{error}");
        assert!(Mapper::load(&configs, &AccountRules::default(), Some(Listed::of(&[]))).is_ok(), "{name}");
        assert!(Mapper::load_offline(&configs, &AccountRules::default()).is_ok(), "{name}");
    }
    for rule in [strong_rule(), site.weak_rule(RuleKind::Upn), site.weak_rule(RuleKind::SubjectCn)] {
        assert!(Mapper::load(&[RuleConfig::for_all(rule)], &AccountRules::default(), None).is_ok());
    }
}

#[test]
fn weak_forms_are_no_forms_of_alt_security_identities() {
    use crate::x509::alt_security::Form;
    for form in [Form::IssuerSubject, Form::Subject, Form::Rfc822] {
        let rule = RuleSettings::AltSecurityIdentities { forms: vec![Form::IssuerSerial, form] };
        let error = Mapper::load(&[RuleConfig::for_all(rule)], &AccountRules::default(), Some(Listed::of(&[]))).unwrap_err();
        assert!(error.to_string().contains(&format!("use rule {:?}", form.name())), "{error}");
    }
}

#[test]
fn a_name_match_policy_must_fit_the_certificates_given_for_it() {
    let site = Site::new();
    let RuleSettings::StrongNameMatch { policy_file, .. } = site.name_match("ca", "1.2.3; IssuerSubject") else { panic!() };
    let load = |policy_file: &PathBuf, issuers: Vec<PathBuf>| {
        let rule = RuleSettings::StrongNameMatch { policy_file: policy_file.clone(), issuers };
        Mapper::load(&[RuleConfig::for_all(rule)], &AccountRules::default(), Some(Listed::of(&[]))).map(|_| ())
    };
    assert_eq!(load(&policy_file, vec![site.ca("ca")]), Ok(()));
    let missing = load(&policy_file, vec![]).unwrap_err().to_string();
    assert!(missing.contains("line 1") && missing.contains("is not given"), "{missing}");
    let foreign = load(&policy_file, vec![site.ca("ca"), site.ca("other ca")]).unwrap_err().to_string();
    assert!(foreign.contains("other ca.crt") && foreign.contains("no line"), "{foreign}");
    let thumbprint = "ab".repeat(20);
    let twice = site.file("twice.txt", format!("{thumbprint};1.2.3;IssuerSubject\n{thumbprint};1.2.4;IssuerSubject").as_bytes());
    let twice = load(&twice, vec![]).unwrap_err().to_string();
    assert!(twice.contains("line 2"), "{twice}");
}
