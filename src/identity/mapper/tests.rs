use super::*;
use crate::certificate::test_certificate;
use crate::der::{tag, write};
use crate::naming::name::Realm;

const OWN: &str = "S-1-5-21-1-2-3-1104";
const VICTIM: &str = "S-1-5-21-1-2-3-500";
const SAN: &[u8] = &[0x55, 0x1D, 0x11];
const SID_EXTENSION: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02];

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, tag, contents);
    out
}

fn other_name(kind: &[u8], value: &[u8]) -> Vec<u8> {
    element(0xA0, &[element(tag::OID, kind), element(0xA0, value)].concat())
}

/// A certificate issued by the CA whose key is `ca`.
fn certificate(upn: Option<&str>, extension: Option<&str>, uri: Option<&str>, ca: &str) -> (ClientCertificate, Claims) {
    let principal_name = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03];
    let mut names = Vec::new();
    names.extend(upn.map(|upn| other_name(&principal_name, &element(tag::UTF8_STRING, upn.as_bytes()))));
    names.extend(uri.map(|sid| element(0x86, format!("tag:microsoft.com,2022-09-14:sid:{sid}").as_bytes())));
    let names = element(tag::SEQUENCE, &names.concat());
    let object_sid = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];
    let sid = extension.map(|sid| element(tag::SEQUENCE, &other_name(&object_sid, &element(tag::OCTET_STRING, sid.as_bytes()))));
    let mut extensions: Vec<(&[u8], &[u8])> = vec![(SAN, &names)];
    extensions.extend(sid.as_deref().map(|value| (SID_EXTENSION, value)));
    let admitted = ClientCertificate::for_test(&test_certificate(&extensions), ca.as_bytes());
    let claims = Claims::read(&admitted).unwrap();
    (admitted, claims)
}

fn key(ca: &str) -> KeyFingerprint {
    KeyFingerprint::of(ca.as_bytes())
}

fn strong_rule(uri_issuers: &[&str]) -> Rule {
    Rule::UpnWithSid { uri_issuers: uri_issuers.iter().map(|ca| key(ca)).collect() }
}

fn weak_rule(ca: &str, suffixes: &[&str]) -> Rule {
    Rule::Upn { suffixes: HashMap::from([(key(ca), suffixes.iter().map(|&suffix| suffix.to_owned()).collect())]) }
}

fn row(certificate: &ClientCertificate, name: RequestedName, expected_sid: ExpectedSid) -> Rule {
    let entry = StaticEntry { name, expected_sid };
    Rule::Static { entries: BTreeMap::from([(certificate.fingerprint().0, entry)]) }
}

fn mapper(rules: Vec<Rule>) -> Mapper {
    Mapper { rules, weak: AtomicU64::new(0) }
}

fn resolve(rules: Vec<Rule>, (certificate, claims): &(ClientCertificate, Claims)) -> Result<Principal, Failure> {
    mapper(rules).resolve(certificate, claims)
}

fn is(sid: &str) -> ExpectedSid {
    ExpectedSid::Is(Sid::parse(sid).unwrap())
}

fn alice() -> RequestedName {
    RequestedName::Enterprise("alice@corp.example".into())
}

fn cause(result: Result<Principal, Failure>) -> Cause {
    result.unwrap_err().cause
}

#[test]
fn a_upn_with_the_ca_s_sid_extension_is_a_strong_mapping() {
    let principal = resolve(vec![strong_rule(&[])], &certificate(Some("Alice@Corp.Example"), Some(OWN), None, "ca")).unwrap();
    assert_eq!((principal.name(), principal.expected_sid()), (&alice(), &is(OWN)));
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::UpnWithSid, Strength::Strong));
}

#[test]
fn the_sid_of_the_certificate_is_expected_whatever_its_upn_says() {
    // The requester chose the UPN, the CA the SID: the KDC's answer for the administrator will not have it.
    let principal =
        resolve(vec![strong_rule(&[])], &certificate(Some("administrator@corp.example"), Some(OWN), None, "ca")).unwrap();
    assert_eq!(principal.expected_sid(), &is(OWN));
}

#[test]
fn a_victims_upn_without_a_sid_maps_to_nobody() {
    let failure = resolve(vec![strong_rule(&["ca"])], &certificate(Some("alice@corp.example"), None, None, "ca")).unwrap_err();
    assert_eq!(failure.cause, Cause::NoMapping);
    assert!(failure.detail.contains("upn-with-sid: no SID"), "{failure}");
}

#[test]
fn a_sid_without_a_upn_maps_to_nobody() {
    assert_eq!(cause(resolve(vec![strong_rule(&[])], &certificate(None, Some(OWN), None, "ca"))), Cause::NoMapping);
}

#[test]
fn a_sid_uri_is_believed_of_flagged_issuers_only() {
    let of = |ca| certificate(Some("alice@corp.example"), None, Some(OWN), ca);
    let principal = resolve(vec![strong_rule(&["ca"])], &of("ca")).unwrap();
    assert_eq!((principal.expected_sid(), principal.strength()), (&is(OWN), Strength::Strong));
    let failure = resolve(vec![strong_rule(&["ca"])], &of("other ca")).unwrap_err();
    assert_eq!(failure.cause, Cause::NoMapping);
    assert!(failure.detail.contains("san_uri_sid_issuers"), "{failure}");
}

#[test]
fn the_weak_rule_maps_a_named_issuer_with_an_allowed_suffix_and_is_counted() {
    let mapper = mapper(vec![strong_rule(&[]), weak_rule("ca", &["corp.example"])]);
    let (admitted, claims) = certificate(Some("Alice@CORP.example"), None, None, "ca");
    let principal = mapper.resolve(&admitted, &claims).unwrap();
    assert_eq!((principal.name(), principal.expected_sid()), (&alice(), &ExpectedSid::PinOnFirstUse));
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::Upn, Strength::Weak));
    assert_eq!(mapper.weak_mappings(), 1);
}

#[test]
fn the_weak_rule_does_not_speak_for_an_issuer_it_does_not_name() {
    let rules = vec![weak_rule("ca", &["corp.example"])];
    assert_eq!(cause(resolve(rules, &certificate(Some("alice@corp.example"), None, None, "other ca"))), Cause::NoMapping);
}

#[test]
fn a_suffix_is_allowed_only_as_a_whole() {
    for spoof in ["alice@evil-corp.example", "alice@corp.example.evil", "alice@sub.corp.example", "alice@example"] {
        let rules = vec![weak_rule("ca", &["corp.example"])];
        assert_eq!(cause(resolve(rules, &certificate(Some(spoof), None, None, "ca"))), Cause::SuffixNotAllowed, "{spoof}");
    }
}

#[test]
fn a_sid_that_the_certificate_names_narrows_the_weak_rule_even_if_it_is_not_believed() {
    for (extension, uri) in [(Some(OWN), None), (None, Some(OWN))] {
        let rules = vec![weak_rule("ca", &["corp.example"])];
        let principal = resolve(rules, &certificate(Some("alice@corp.example"), extension, uri, "ca")).unwrap();
        assert_eq!((principal.expected_sid(), principal.strength()), (&is(OWN), Strength::Weak));
    }
}

#[test]
fn a_static_row_maps_its_certificate_and_no_other() {
    let listed = certificate(None, None, None, "ca");
    let name = RequestedName::Account { name: "alice".into(), realm: Realm::parse("CORP.EXAMPLE").unwrap() };
    let principal = resolve(vec![row(&listed.0, name.clone(), is(OWN))], &listed).unwrap();
    assert_eq!((principal.name(), principal.expected_sid()), (&name, &is(OWN)));
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::Static, Strength::Strong));
    let other = certificate(Some("alice@corp.example"), None, None, "ca");
    assert_eq!(cause(resolve(vec![row(&listed.0, name, is(OWN))], &other)), Cause::NoMapping);
}

#[test]
fn a_static_row_without_any_sid_is_weak() {
    let listed = certificate(None, None, None, "ca");
    let principal = resolve(vec![row(&listed.0, alice(), ExpectedSid::PinOnFirstUse)], &listed).unwrap();
    assert_eq!((principal.expected_sid(), principal.strength()), (&ExpectedSid::PinOnFirstUse, Strength::Weak));
}

#[test]
fn a_static_row_that_contradicts_the_certificates_own_sid_is_a_conflict() {
    for (extension, uri) in [(Some(VICTIM), None), (None, Some(VICTIM))] {
        let listed = certificate(Some("alice@corp.example"), extension, uri, "ca");
        assert_eq!(cause(resolve(vec![row(&listed.0, alice(), is(OWN))], &listed)), Cause::SidConflict);
    }
}

#[test]
fn rules_that_agree_map_and_the_strong_one_is_reported() {
    let both = certificate(Some("alice@corp.example"), Some(OWN), None, "ca");
    let rules = vec![weak_rule("ca", &["corp.example"]), strong_rule(&[]), row(&both.0, alice(), ExpectedSid::PinOnFirstUse)];
    let principal = resolve(rules, &both).unwrap();
    assert_eq!((principal.rule(), principal.strength()), (RuleKind::UpnWithSid, Strength::Strong));
}

#[test]
fn rules_that_disagree_are_ambiguous_in_any_order() {
    let bob = || RequestedName::Enterprise("bob@corp.example".into());
    let listed = certificate(Some("alice@corp.example"), Some(OWN), None, "ca");
    for reversed in [false, true] {
        let mut rules = vec![strong_rule(&[]), row(&listed.0, bob(), is(OWN))];
        if reversed {
            rules.reverse();
        }
        assert_eq!(cause(resolve(rules, &listed)), Cause::AmbiguousMapping);
    }
    let plain = certificate(Some("alice@corp.example"), None, None, "ca");
    let rules = vec![weak_rule("ca", &["corp.example"]), row(&plain.0, alice(), is(OWN))];
    assert_eq!(cause(resolve(rules, &plain)), Cause::AmbiguousMapping);
}

#[test]
fn claims_of_another_certificate_are_refused() {
    let (admitted, _) = certificate(Some("alice@corp.example"), Some(OWN), None, "ca");
    let (_, claims) = certificate(Some("bob@corp.example"), Some(VICTIM), None, "ca");
    assert_eq!(cause(resolve(vec![strong_rule(&[])], &(admitted, claims))), Cause::CertificateMalformed);
}

#[test]
fn without_rules_nobody_is_mapped() {
    assert_eq!(cause(resolve(vec![], &certificate(Some("alice@corp.example"), Some(OWN), None, "ca"))), Cause::NoMapping);
}
