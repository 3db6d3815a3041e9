//! For which certificates a rule speaks.

use super::*;

const EKU: &[u8] = &[0x55, 0x1D, 0x25];
const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];
const POLICIES: &[u8] = &[0x55, 0x1D, 0x20];
const TEMPLATE_OID: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x15, 0x07];
const TEMPLATE_NAME: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02];
const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
const SMART_CARD: &str = "1.3.6.1.4.1.311.20.2.2";

fn oid(contents: &[u8]) -> Vec<u8> {
    element(tag::OID, &[contents])
}

/// clientAuth, digitalSignature, policy 1.2.3, template 1.2.5 and "User".
fn leaf() -> Leaf {
    let usages = element(tag::SEQUENCE, &[&oid(&[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02])]);
    let policies = element(tag::SEQUENCE, &[&element(tag::SEQUENCE, &[&oid(&[0x2A, 0x03])])]);
    Leaf::upn("alice@corp.example")
        .sid(OWN)
        .with(EKU, usages)
        .with(KEY_USAGE, vec![3, 2, 7, 0x80])
        .with(POLICIES, policies)
        .with(TEMPLATE_OID, element(tag::SEQUENCE, &[&oid(&[0x2A, 0x05])]))
        .with(TEMPLATE_NAME, element(0x1E, &[b"\0U\0s\0e\0r"]))
}

async fn selects(selector: Selector, leaf: &Leaf) -> Result<(), String> {
    let config = RuleConfig { rule: strong_rule(), selector };
    let mapper = Mapper::load(&[config], &AccountRules::default(), None).unwrap();
    let (certificate, claims) = leaf.admitted();
    let tried = mapper.evaluate(&certificate, &claims, soon()).await;
    let [tried] = &tried[..] else { panic!("{tried:?}") };
    assert_eq!(tried.selected.is_ok(), matches!(tried.outcome, Outcome::Maps(_)));
    assert_eq!(decide(&claims, from_ref(tried)).is_ok(), tried.selected.is_ok());
    tried.selected.clone()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[tokio::test]
async fn a_rule_speaks_for_certificates_that_fit_every_list_by_one_member() {
    let site = Site::new();
    let every = || Selector {
        issuers: vec![site.ca("other ca"), site.ca("ca")],
        usages: texts(&[SMART_CARD, CLIENT_AUTH]),
        key_usages: vec![KeyUsage::KeyAgreement, KeyUsage::DigitalSignature],
        templates: texts(&["1.2.6", "1.2.5"]),
        policies: texts(&["1.2.4", "1.2.3"]),
    };
    assert_eq!(selects(every(), &leaf()).await, Ok(()));
    assert_eq!(selects(Selector { templates: texts(&["User"]), ..every() }, &leaf()).await, Ok(()));
    assert_eq!(selects(Selector::default(), &Leaf::upn("alice@corp.example").sid(OWN)).await, Ok(()));
    for (selector, why) in [
        (Selector { issuers: vec![site.ca("other ca")], ..every() }, "issuer"),
        (Selector { usages: texts(&[SMART_CARD]), ..every() }, "extended key usage"),
        (Selector { key_usages: vec![KeyUsage::KeyAgreement], ..every() }, "no key usage"),
        (Selector { templates: texts(&["1.2.55", "Use", "user"]), ..every() }, "template"),
        (Selector { policies: texts(&["1.2.30", "1.2"]), ..every() }, "policy"),
    ] {
        let refused = selects(selector, &leaf()).await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_without_the_extension_fits_no_list_about_it() {
    let plain = Leaf::upn("alice@corp.example").sid(OWN);
    for selector in [
        Selector { usages: texts(&[CLIENT_AUTH]), ..Selector::default() },
        Selector { key_usages: KeyUsage::ALL.to_vec(), ..Selector::default() },
        Selector { templates: texts(&[""]), ..Selector::default() },
        Selector { policies: texts(&["2.5.29.32.0"]), ..Selector::default() },
    ] {
        assert!(selects(selector.clone(), &plain).await.is_err(), "{selector:?}");
    }
}

#[tokio::test]
async fn the_issuer_is_its_key_whatever_its_certificate_says() {
    let site = Site::new();
    // The same key in another certificate: a renewed CA.
    let basic_constraints = (vec![0x55, 0x1D, 0x13], vec![0x30, 3, 1, 1, 0xFF]);
    let renewed = site.file("renewed.crt", &der("root", "Renewed", &[8], "20240101000000Z", "ca", &[basic_constraints]));
    assert_eq!(selects(Selector { issuers: vec![renewed], ..Selector::default() }, &leaf()).await, Ok(()));
}

#[tokio::test]
async fn one_rule_may_stand_twice_for_different_certificates() {
    let site = Site::new();
    let rule = |ca: &str, suffix: &str| RuleConfig {
        rule: RuleSettings::Upn { issuers: site.weak(ca, &[suffix]) },
        selector: Selector { issuers: vec![site.ca(ca)], ..Selector::default() },
    };
    let rules = [rule("ca", "corp.example"), rule("other ca", "other.example")];
    let mapper = Mapper::load(&rules, &AccountRules::default(), None).unwrap();
    assert!(resolve(&mapper, &Leaf::upn("alice@corp.example")).await.is_ok());
    assert!(resolve(&mapper, &Leaf::upn("alice@other.example").by("other ca")).await.is_ok());
    assert_eq!(cause(resolve(&mapper, &Leaf::upn("alice@other.example")).await), Cause::SuffixNotAllowed);
    assert_eq!(cause(resolve(&mapper, &Leaf::upn("alice@corp.example").by("other ca")).await), Cause::SuffixNotAllowed);
}
