use proptest::prelude::*;

use super::*;
use crate::certificate::test_certificate;
use crate::der::{tag, write};

const PRINCIPAL_NAME: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03];
const REPLICATION_GUID: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x01];
const SID: &str = "S-1-5-21-294026126-3378245018-1203103949-1001";

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, tag, contents);
    out
}

fn other_name(kind: &[u8], value: &[u8]) -> Vec<u8> {
    element(0xA0, &[element(tag::OID, kind), element(0xA0, value)].concat())
}

fn upn(text: &str) -> Vec<u8> {
    other_name(PRINCIPAL_NAME, &element(tag::UTF8_STRING, text.as_bytes()))
}

fn uri(text: &str) -> Vec<u8> {
    element(0x86, text.as_bytes())
}

fn sid_uri(sid: &str) -> Vec<u8> {
    uri(&format!("tag:microsoft.com,2022-09-14:sid:{sid}"))
}

fn names(names: &[Vec<u8>]) -> Vec<u8> {
    element(tag::SEQUENCE, &names.concat())
}

fn sid_extension(sid: &str) -> Vec<u8> {
    let kind = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];
    element(tag::SEQUENCE, &other_name(&kind, &element(tag::OCTET_STRING, sid.as_bytes())))
}

fn claims(extensions: &[(&[u8], &[u8])]) -> Result<Claims, Failure> {
    Claims::of_leaf(&test_certificate(extensions))
}

fn of_names(list: &[Vec<u8>]) -> Result<Claims, Failure> {
    claims(&[(SUBJECT_ALTERNATIVE_NAME, &names(list))])
}

fn refusal(result: Result<Claims, Failure>) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.cause, Cause::CertificateMalformed, "{failure}");
    failure.detail
}

#[test]
fn a_certificate_as_ad_cs_issues_it_claims_a_upn_and_a_sid() {
    let claims =
        claims(&[(SUBJECT_ALTERNATIVE_NAME, &names(&[upn("Alice@Corp.Example")])), (SID_EXTENSION, &sid_extension(SID))])
            .unwrap();
    assert_eq!(claims.upn().unwrap().normalized(), "alice@corp.example");
    assert_eq!(claims.upn().unwrap().as_written(), "Alice@Corp.Example");
    assert_eq!(claims.extension_sid().unwrap().to_string(), SID);
    assert_eq!(claims.uri_sid(), None);
}

#[test]
fn a_certificate_without_names_claims_nothing() {
    let claims = claims(&[]).unwrap();
    assert_eq!((claims.upn(), claims.any_sid()), (None, None));
}

#[test]
fn the_sid_extension_of_a_real_ad_cs_certificate_is_read() {
    // As AD CS encodes it: SEQUENCE, [0], type-id 1.3.6.1.4.1.311.25.2.1, [0], OCTET STRING.
    let mut vector = vec![0x30, 0x3F, 0xA0, 0x3D, 0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];
    vector.extend([0xA0, 0x2F, 0x04, 0x2D]);
    vector.extend(SID.as_bytes());
    assert_eq!(vector, sid_extension(SID));
    assert_eq!(sid_extension::read(&vector).unwrap().to_string(), SID);
}

#[test]
fn any_other_form_of_the_sid_extension_is_refused() {
    let good = sid_extension(SID);
    let unknown_type = element(tag::SEQUENCE, &other_name(PRINCIPAL_NAME, &element(tag::OCTET_STRING, SID.as_bytes())));
    let (_, inner) = Reader::new(&good).any().unwrap();
    let twice = element(tag::SEQUENCE, &[inner, inner].concat());
    let as_text = {
        let kind = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];
        element(tag::SEQUENCE, &other_name(&kind, &element(tag::UTF8_STRING, SID.as_bytes())))
    };
    let crowded = {
        let kind = element(tag::OID, &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01]);
        let text = element(0xA0, &element(tag::OCTET_STRING, SID.as_bytes()));
        element(tag::SEQUENCE, &element(0xA0, &[kind, text.clone(), text].concat()))
    };
    let trailing = [good.clone(), vec![0x05, 0x00]].concat();
    let truncated = good[..good.len() - 1].to_vec();
    for bad in
        [unknown_type, twice, as_text, crowded, trailing, truncated, names(&[]), sid_extension("S-1-5-21-01"), sid_extension("")]
    {
        assert!(refusal(claims(&[(SID_EXTENSION, &bad)])).starts_with("SID extension"), "{bad:02x?}");
    }
}

#[test]
fn a_sid_extension_that_occurs_twice_is_refused() {
    let value = sid_extension(SID);
    assert!(refusal(claims(&[(SID_EXTENSION, &value), (SID_EXTENSION, &value)])).contains("1.3.6.1.4.1.311.25.2 occurs twice"));
}

#[test]
fn a_subject_alternative_name_that_occurs_twice_is_refused() {
    let value = names(&[upn("alice@corp.example")]);
    let twice = claims(&[(SUBJECT_ALTERNATIVE_NAME, &value), (SUBJECT_ALTERNATIVE_NAME, &value)]);
    assert!(refusal(twice).contains("2.5.29.17 occurs twice"));
}

#[test]
fn a_sid_uri_is_read_from_the_text_that_enrolment_tools_write() {
    let text = "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1381186052-4247692386-135928078-1225";
    let claims = of_names(&[uri("https://corp.example/"), uri(text)]).unwrap();
    assert_eq!(claims.uri_sid().unwrap().to_string(), "S-1-5-21-1381186052-4247692386-135928078-1225");
    assert_eq!(claims.extension_sid(), None);
}

#[test]
fn two_sid_uris_or_a_malformed_one_are_refused() {
    assert!(refusal(of_names(&[sid_uri(SID), sid_uri(SID)])).contains("two SID URIs"));
    for bad in [
        sid_uri("S-1-5-21-1 "),
        sid_uri(""),
        sid_uri("S-1-5-32-0544"),
        uri(&format!("TAG:microsoft.com,2022-09-14:sid:{SID}")),
        element(0x86, &[b"tag:microsoft.com,2022-09-14:sid:S-1-5-\xFF".as_slice()].concat()),
    ] {
        assert!(refusal(of_names(&[bad])).contains("SID URI"));
    }
}

#[test]
fn sids_that_differ_between_extension_and_uri_are_a_conflict() {
    let both = |uri: &str| claims(&[(SID_EXTENSION, &sid_extension(SID)), (SUBJECT_ALTERNATIVE_NAME, &names(&[sid_uri(uri)]))]);
    assert_eq!(both(SID).unwrap().any_sid().unwrap().to_string(), SID);
    assert_eq!(both("S-1-5-21-1-2-3-500").unwrap_err().cause, Cause::SidConflict);
}

#[test]
fn two_upns_are_refused_even_if_equal() {
    let refusal = refusal(of_names(&[upn("alice@corp.example"), upn("alice@corp.example")]));
    assert!(refusal.contains("two user principal names"), "{refusal}");
}

#[test]
fn a_upn_must_be_a_utf8_string_without_nul() {
    let typed = |tag: u8, text: &[u8]| of_names(&[other_name(PRINCIPAL_NAME, &element(tag, text))]);
    assert!(typed(tag::UTF8_STRING, b"alice@corp.example").is_ok());
    assert!(refusal(typed(0x16, b"alice@corp.example")).contains("UTF8String"));
    assert!(refusal(typed(tag::OCTET_STRING, b"alice@corp.example")).contains("UTF8String"));
    assert!(refusal(typed(tag::UTF8_STRING, b"alice\xFF@corp.example")).contains("UTF-8"));
    assert!(refusal(typed(tag::UTF8_STRING, b"alice@corp.example\0")).contains("control character"));
    let two_elements = [element(tag::UTF8_STRING, b"a@b"), element(tag::UTF8_STRING, b"c@d")].concat();
    assert!(refusal(of_names(&[other_name(PRINCIPAL_NAME, &two_elements)])).contains("trailing"));
}

#[test]
fn other_names_are_tolerated() {
    let claims = of_names(&[
        element(0x82, b"dc1.corp.example"),
        other_name(REPLICATION_GUID, &element(tag::OCTET_STRING, &[7; 16])),
        element(0x81, b"alice@corp.example"),
        element(0xA4, &element(tag::SEQUENCE, &[])),
        element(0x87, &[10, 0, 0, 1]),
        element(0x88, &[0x2A, 0x03]),
        upn("alice@corp.example"),
    ])
    .unwrap();
    assert_eq!(claims.upn().unwrap().normalized(), "alice@corp.example");
}

#[test]
fn a_malformed_subject_alternative_name_is_refused() {
    let good = names(&[upn("alice@corp.example")]);
    for bad in [
        good[..good.len() - 1].to_vec(),
        [good.clone(), vec![0]].concat(),
        element(tag::OCTET_STRING, &upn("alice@corp.example")),
        names(&[element(0x89, b"")]),
        names(&[element(0x80, b"")]),
        names(&[element(0xA0, &element(tag::OID, PRINCIPAL_NAME))]),
        names(&[other_name(PRINCIPAL_NAME, &[])]),
    ] {
        refusal(claims(&[(SUBJECT_ALTERNATIVE_NAME, &bad)]));
    }
}

#[test]
fn every_fact_that_rules_select_by_is_read() {
    let policy = element(tag::SEQUENCE, &element(tag::SEQUENCE, &element(tag::OID, &[0x2A, 3])));
    let template = element(tag::SEQUENCE, &element(tag::OID, &[0x2A, 5]));
    let usages = element(tag::SEQUENCE, &element(tag::OID, &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02]));
    let list = names(&[element(0x82, b"pc1.corp.example"), element(0x81, b"a@b"), element(0x82, b"pc2"), element(0x81, b"c@d")]);
    let extensions: [(&[u8], &[u8]); 6] = [
        (&[0x55, 0x1D, 0x20], &policy),
        (&[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x15, 0x07], &template),
        (&[0x55, 0x1D, 0x25], &usages),
        (&[0x55, 0x1D, 0x0F], &[3, 2, 5, 0xA0]),
        (&[0x55, 0x1D, 0x0E], &[4, 2, 7, 8]),
        (SUBJECT_ALTERNATIVE_NAME, &list),
    ];
    let claims = claims(&extensions).unwrap();
    assert_eq!(claims.policies(), ["1.2.3"]);
    assert_eq!(claims.templates(), [Template::Oid("1.2.5".into())]);
    assert_eq!(claims.extended_key_usages(), Some(&["1.3.6.1.5.5.7.3.2".to_owned()][..]));
    assert_eq!((claims.key_usage(), claims.subject_key_identifier()), (Some(0xA0), Some(&[7, 8][..])));
    assert_eq!(claims.dns_names(), ["pc1.corp.example", "pc2"]);
    assert_eq!(claims.rfc822_names(), ["a@b", "c@d"]);
    assert_eq!((claims.serial(), claims.common_name(), claims.not_before()), (&[0x0A][..], Ok("x"), 1_577_836_800));
}

#[test]
fn an_extension_that_rules_select_by_is_well_formed_or_the_certificate_is_refused() {
    let padded = element(tag::SEQUENCE, &element(tag::OID, &[0x2A, 0x80, 0x03]));
    let padded_policy = element(tag::SEQUENCE, &padded);
    for (oid, value) in [
        (&[0x55, 0x1D, 0x20][..], &[0x30, 0x80][..]),
        (&[0x55, 0x1D, 0x20], &padded_policy),
        (&[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x15, 0x07], &[4, 0]),
        (&[0x55, 0x1D, 0x25], &padded),
        (&[0x55, 0x1D, 0x0F], &[3, 1, 0]),
        (&[0x55, 0x1D, 0x0E], &[5, 0]),
    ] {
        refusal(claims(&[(oid, value)]));
    }
}

#[test]
fn names_of_hosts_and_mailboxes_are_visible_ascii() {
    for kind in [0x81, 0x82] {
        for bad in [&b""[..], b"a b", b"a\0b", b"a\r\n", b"\xFF", "ä@b".as_bytes(), b"a\x7F"] {
            assert!(refusal(of_names(&[element(kind, bad)])).contains("cannot have"));
        }
        assert!(of_names(&[element(kind, b"*.corp.example")]).is_ok());
    }
}

proptest! {
    #[test]
    fn the_readers_are_total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (alternative_names::read(&bytes), sid_extension::read(&bytes), Claims::of_leaf(&bytes));
        let _ = alternative_names::read(&element(tag::SEQUENCE, &bytes));
    }

    #[test]
    fn a_damaged_certificate_is_read_or_refused(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)
    ) {
        let list = names(&[upn("alice@corp.example"), sid_uri(SID)]);
        let mut der = test_certificate(&[(SUBJECT_ALTERNATIVE_NAME, &list), (SID_EXTENSION, &sid_extension(SID))]);
        for (index, value) in flips {
            let at = index.index(der.len());
            der[at] = value;
        }
        if let Err(failure) = Claims::of_leaf(&der) {
            prop_assert!(matches!(failure.cause, Cause::CertificateMalformed | Cause::SidConflict));
        }
    }

    #[test]
    fn any_accepted_upn_is_lower_case_ascii_with_one_at_sign(text in "\\PC{0,20}@?[a-zA-Z.]{0,12}") {
        if let Ok(upn) = Upn::parse(&text) {
            let name = upn.normalized();
            prop_assert!(name.is_ascii() && name.matches('@').count() == 1 && !name.bytes().any(|c| c.is_ascii_uppercase()));
            let (_, suffix) = name.split_once('@').unwrap();
            prop_assert_eq!(suffix, upn.suffix());
        }
    }
}
