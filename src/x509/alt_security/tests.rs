use proptest::prelude::*;

use super::*;
use crate::der::tag;
use crate::x509::testkit::{C, CN, DC, E, O, OU, certificate, element, name};

const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1D, 0x0E];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1D, 0x11];
const SID_EXTENSION: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02];
const SID: &str = "S-1-5-21-294026126-3378245018-1203103949-1001";

type Attributes = &'static [(&'static [u8], &'static str)];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn claims(issuer: &[u8], subject: &[u8], serial: &[u8], extensions: &[(&[u8], &[u8])]) -> Claims {
    Claims::of_leaf(&certificate(issuer, subject, serial, extensions)).unwrap()
}

fn with_serial(serial: &[u8]) -> Claims {
    claims(&name(&[(CN, "CA")]), &name(&[(CN, "x")]), serial, &[])
}

fn with_names(names: &[(u8, &str)]) -> Claims {
    let list: Vec<u8> = names.iter().flat_map(|(kind, text)| element(*kind, text.as_bytes())).collect();
    claims(&name(&[(CN, "CA")]), &[], &[1], &[(SUBJECT_ALTERNATIVE_NAME, &element(tag::SEQUENCE, &list))])
}

fn values(claims: &Claims, form: Form) -> Vec<String> {
    computed(claims, &[form]).into_iter().map(|computed| computed.value).collect()
}

fn sid_extension() -> Vec<u8> {
    let kind = element(tag::OID, &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01]);
    let text = element(0xA0, &element(tag::OCTET_STRING, SID.as_bytes()));
    element(tag::SEQUENCE, &element(0xA0, &[kind, text].concat()))
}

#[test]
fn the_strings_that_microsofts_own_tool_publishes_are_computed() {
    let identifier = element(tag::OCTET_STRING, &bytes("c6f4e96caad84640361f9fb5f74f6308247cb8b4"));
    let subject = name(&[(DC, "com"), (DC, "contoso"), (DC, "corp"), (OU, "UserAccounts"), (CN, "Contoso User")]);
    let claims = claims(
        &name(&[(CN, "Contoso")]),
        &subject,
        &bytes("1e8c974144bf86964423fa6464082d8a"),
        &[(SUBJECT_KEY_IDENTIFIER, &identifier)],
    );
    for (form, published) in [
        (Form::IssuerSubject, "X509:<I>CN=Contoso<S>DC=com,DC=contoso,DC=corp,OU=UserAccounts,CN=Contoso User"),
        (Form::Subject, "X509:<S>DC=com,DC=contoso,DC=corp,OU=UserAccounts,CN=Contoso User"),
        (Form::SubjectKeyIdentifier, "X509:<SKI>C6F4E96CAAD84640361F9FB5F74F6308247CB8B4"),
        (Form::IssuerSerial, "X509:<I>CN=Contoso<SR>8a2d086464fa23449686bf4441978c1e"),
    ] {
        let [computed] = &computed(&claims, &[form])[..] else { panic!("{form:?}") };
        assert!(matches(published, computed), "{} is not {published}", computed.value);
    }
}

#[test]
fn published_serial_numbers_are_reversed_byte_by_byte() {
    let cases: [(Attributes, &str, &str); 5] = [
        (
            &[(DC, "devel"), (DC, "ad"), (CN, "ad-AD-SERVER-CA")],
            "612288c20000000002a6",
            "X509:<I>DC=devel,DC=ad,CN=ad-AD-SERVER-CA<SR>a60200000000c2882261",
        ),
        (
            &[(DC, "vm"), (DC, "ad"), (CN, "ad-ROOT-DC-CA")],
            "72000000022aee66083db1fc3a000000000002",
            "X509:<I>DC=vm,DC=ad,CN=ad-ROOT-DC-CA<SR>0200000000003afcb13d0866ee2a0200000072",
        ),
        (
            &[(DC, "local"), (DC, "dod"), (CN, "SpatDoD Root CA")],
            "10e8bd03000000000032",
            "X509:<I>DC=local,DC=dod,CN=SpatDoD Root CA<SR>32000000000003bde810",
        ),
        (
            &[(C, "US"), (O, "U.S. Government"), (OU, "Certification Authorities"), (OU, "Government Demonstration CA")],
            "495da646",
            "X509:<I>C=US,O=U.S. Government,OU=Certification Authorities,OU=Government Demonstration CA<SR>46a65d49",
        ),
        (&[(CN, "CONTOSO-DC-CA")], "2b0000000011ac0000000012", "X509:<I>CN=CONTOSO-DC-CA<SR>1200000000AC11000000002B"),
    ];
    for (issuer, serial, published) in cases {
        let claims = claims(&name(issuer), &name(&[(E, "test.user@email.domain")]), &bytes(serial), &[]);
        let [computed] = &computed(&claims, &[Form::IssuerSerial])[..] else { panic!("{published}") };
        assert!(matches(published, computed), "{} is not {published}", computed.value);
    }
}

#[test]
fn a_serial_number_with_a_sign_octet_has_both_variants() {
    let found = computed(&with_serial(&[0, 0xA1, 0xB2]), &[Form::IssuerSerial]);
    let found: Vec<_> = found.iter().map(|computed| (computed.value.as_str(), computed.note)).collect();
    let expected = [("X509:<I>CN=CA<SR>b2a100", "with the sign octet"), ("X509:<I>CN=CA<SR>b2a1", "without the sign octet")];
    assert_eq!(found, expected);
    assert_eq!(values(&with_serial(&[0x31, 0xB2, 0xC3]), Form::IssuerSerial), ["X509:<I>CN=CA<SR>c3b231"]);
}

#[test]
fn a_serial_number_that_is_zero_or_negative_has_no_string() {
    for (serial, why) in
        [(&[0_u8][..], "zero"), (&[0x80], "negative"), (&[0xFF, 0xA1], "negative"), (&[0, 0x7F], "not DER"), (&[0, 0], "not DER")]
    {
        match candidates(&with_serial(serial), Form::IssuerSerial) {
            Err(Missing::Refused(reason)) => assert!(reason.contains(why), "{reason}"),
            other => panic!("{serial:?}: {other:?}"),
        }
        assert_eq!(values(&with_serial(serial), Form::IssuerSerial), Vec::<String>::new());
    }
}

#[test]
fn the_key_has_three_readings_each_named() {
    let leaf = certificate(&name(&[(CN, "CA")]), &name(&[(CN, "x")]), &[1], &[]);
    let found = computed(&Claims::of_leaf(&leaf).unwrap(), &[Form::Sha1PublicKey]);
    let found: Vec<_> = found.iter().map(|computed| (computed.value.as_str(), computed.note)).collect();
    let sha1 = |bytes: &[u8]| {
        use sha1::Digest as _;
        format!("X509:<SHA1-PUKEY>{}", hex(&sha1::Sha1::digest(bytes)))
    };
    let key = element(
        tag::SEQUENCE,
        &[element(tag::SEQUENCE, &element(tag::OID, &[0x2B, 0x65, 0x70])), vec![3, 4, 0, 1, 2, 3]].concat(),
    );
    let (whole, bits, info) = (sha1(&leaf), sha1(&[1, 2, 3]), sha1(&key));
    let expected = [
        (whole.as_str(), "SHA-1 of the certificate"),
        (bits.as_str(), "SHA-1 of the public key's bits"),
        (info.as_str(), "SHA-1 of the SubjectPublicKeyInfo"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_sid_of_the_extension_and_no_other_goes_with_the_issuer() {
    let extension = sid_extension();
    let claims = claims(&name(&[(CN, "CA")]), &[], &[1], &[(SID_EXTENSION, &extension)]);
    assert_eq!(values(&claims, Form::IssuerSid), [format!("X509:<I>CN=CA<SID>{SID}")]);
    let uri = with_names(&[(0x86, &format!("tag:microsoft.com,2022-09-14:sid:{SID}"))]);
    assert_eq!(candidates(&uri, Form::IssuerSid), Err(Missing::Absent("no SID extension in the certificate")));
}

#[test]
fn exactly_one_address_has_a_string() {
    assert_eq!(values(&with_names(&[(0x81, "Alice@corp.example")]), Form::Rfc822), ["X509:<RFC822>Alice@corp.example"]);
    assert!(matches!(candidates(&with_names(&[(0x82, "corp.example")]), Form::Rfc822), Err(Missing::Absent(_))));
    for names in
        [&[(0x81, "a@b"), (0x81, "a@b")][..], &[(0x81, "a")], &[(0x81, "a@b@c")], &[(0x81, "a@b<SR>00")], &[(0x81, "@b")]]
    {
        assert!(matches!(candidates(&with_names(names), Form::Rfc822), Err(Missing::Refused(_))), "{names:?}");
    }
}

#[test]
fn what_a_certificate_lacks_is_absent_and_not_refused() {
    let bare = claims(&name(&[(CN, "CA")]), &[], &[1], &[]);
    for form in [Form::SubjectKeyIdentifier, Form::IssuerSid, Form::IssuerSubject, Form::Subject, Form::Rfc822] {
        assert!(matches!(candidates(&bare, form), Err(Missing::Absent(_))), "{form:?}");
    }
    assert_eq!(computed(&bare, &Form::ALL).len(), 4);
    let empty = claims(&name(&[(CN, "CA")]), &[], &[1], &[(SUBJECT_KEY_IDENTIFIER, &element(tag::OCTET_STRING, &[]))]);
    assert!(matches!(candidates(&empty, Form::SubjectKeyIdentifier), Err(Missing::Refused(_))));
}

#[test]
fn a_chosen_name_cannot_forge_a_second_tag() {
    for forged in ["x<SR>00", "x<I>CN=CA", "<ski>00", "x\r\n<S>CN=y"] {
        let as_subject = claims(&name(&[(CN, "CA")]), &name(&[(CN, forged)]), &[1], &[]);
        for form in [Form::Subject, Form::IssuerSubject] {
            assert!(matches!(candidates(&as_subject, form), Err(Missing::Refused(_))), "{forged:?}");
        }
        let as_issuer = claims(&name(&[(CN, forged)]), &name(&[(CN, "x")]), &[1], &[(SID_EXTENSION, &sid_extension())]);
        for form in [Form::IssuerSerial, Form::IssuerSid, Form::IssuerSubject] {
            assert!(matches!(candidates(&as_issuer, form), Err(Missing::Refused(_))), "{forged:?}");
        }
    }
    // Quotes keep the rest of a value from reading as another component.
    let quoted = claims(&name(&[(CN, "CA")]), &name(&[(CN, "x,CN=admin")]), &[1], &[]);
    assert_eq!(values(&quoted, Form::Subject), ["X509:<S>CN=\"x,CN=admin\""]);
}

#[test]
fn only_the_case_of_ascii_letters_may_differ() {
    let [computed] = &computed(&claims(&name(&[(CN, "Jörg")]), &[], &[0x1A], &[]), &[Form::IssuerSerial])[..] else { panic!() };
    assert_eq!(computed.value, "X509:<I>CN=Jörg<SR>1a");
    assert!(matches("x509:<i>cn=jörg<sr>1A", computed));
    for other in [
        "X509:<I>CN=Jorg<SR>1a",
        "X509:<I>CN=JÖRG<SR>1a",
        "X509:<I>CN=Jörg<SR>1a ",
        "X509:<I>CN=Jörg<SR>1a00",
        "X509: <I>CN=Jörg<SR>1a",
        "",
    ] {
        assert!(!matches(other, computed), "{other}");
    }
}

#[test]
fn a_serial_number_stored_forwards_is_hinted_at_and_does_not_match() {
    let claims = with_serial(&[0, 0xA1, 0xB2, 0xC3]);
    let candidates = computed(&claims, &[Form::IssuerSerial]);
    for stored in ["X509:<I>CN=CA<SR>00A1B2C3", "x509:<i>cn=ca<sr>a1b2c3"] {
        assert!(hint(stored, &claims).unwrap().contains("reversed"));
        assert!(!candidates.iter().any(|computed| matches(stored, computed)));
    }
    for stored in ["X509:<I>CN=CA<SR>c3b2a1", "X509:<I>CN=CA<SR>3c2b1a", "X509:<I>CN=CB<SR>a1b2c3", "X509:<SKI>a1b2c3"] {
        assert_eq!(hint(stored, &claims), None, "{stored}");
    }
    assert_eq!(hint("X509:<I>CN=CA<SR>2a", &with_serial(&[0x2A])), None);
}

#[test]
fn the_four_strong_forms_come_first() {
    assert_eq!(Form::ALL[..4], Form::STRONG);
    assert!(Form::ALL.iter().all(|form| form.is_strong() == Form::STRONG.contains(form)));
}

#[test]
fn stored_values_are_taken_apart() {
    for (text, form) in [
        ("X509:<I>CN=CA<SR>1a2b", Form::IssuerSerial),
        ("x509:<i>CN=CA<sr>1A2B", Form::IssuerSerial),
        ("X509:<I>O=\"Contoso, Inc.\",CN=\"a<f>b\"\"c\"<S>CN=x", Form::IssuerSubject),
        ("X509:<SKI>00", Form::SubjectKeyIdentifier),
        ("X509:<SHA1-PUKEY>34BE02DCEE9ECDF8BC5C16595A73F1B201875FEA", Form::Sha1PublicKey),
        ("X509:<I>CN=CA<SID>S-1-5-21-1-2-3-4", Form::IssuerSid),
        ("X509:<S>CN=x", Form::Subject),
        ("X509:<RFC822>a@b", Form::Rfc822),
    ] {
        assert_eq!(Stored::parse(text).map(|stored| stored.form()), Ok(form), "{text}");
    }
}

#[test]
fn stored_values_that_have_two_readings_or_none_are_refused() {
    for other in ["", "Kerberos:user@REALM", "X509", "509:<S>CN=x", "X5096:<S>CN=x", " X509:<S>CN=x"] {
        assert_eq!(Stored::parse(other), Err(StoredProblem::OtherKind), "{other}");
    }
    assert_eq!(Stored::parse("X509:<I>CN=CA"), Err(StoredProblem::IssuerAlone));
    assert_eq!(Stored::parse("X509:<I>CN=CA<PN>x"), Err(StoredProblem::UnknownTag("PN".into())));
    for (twice, name) in [("X509:<I>CN=a<I>CN=b", "I"), ("X509:<I>CN=a<SR>00<SR>00", "SR"), ("X509:<SKI>00<ski>00", "SKI")] {
        assert_eq!(Stored::parse(twice), Err(StoredProblem::DuplicateTag(name)), "{twice}");
    }
    for bad in [
        "X509:",
        "X509: <S>CN=x",
        "X509:junk<S>CN=x",
        "X509:CN=x",
        "X509:<",
        "X509:<S",
        "X509:<>CN=x",
        "X509:<S >CN=x",
        "X509:<S>",
        "X509:<I><SR>00",
        "X509:<I>CN=CA<SR>",
        "X509:<I>CN=CA<SR>0",
        "X509:<I>CN=CA<SR>0g",
        "X509:<I>CN=CA<SR>00 ",
        "X509:<SR>00<I>CN=CA",
        "X509:<SR>00",
        "X509:<S>CN=x<I>CN=CA",
        "X509:<I>CN=CA<SKI>00",
        "X509:<I>CN=CA<S>CN=x<SR>00",
        "X509:<SKI>0",
        "X509:<SHA1-PUKEY>00",
        "X509:<I>CN=CA<SID>S-1-5-021",
        "X509:<RFC822>a",
        "X509:<S>alice",
        "X509:<S>CN=\"x",
        "X509:<S>CN=\"x<SR>00\"",
        "X509:<S>CN=x\n",
        "X509:<S>CN=x\0",
    ] {
        assert!(matches!(Stored::parse(bad), Err(StoredProblem::Malformed(_))), "{bad}: {:?}", Stored::parse(bad));
    }
    assert!(Stored::parse(&format!("X509:<S>CN={}", "x".repeat(20_000))).is_err());
}

proptest! {
    #[test]
    fn the_stored_value_parser_is_total(text in any::<String>(), tail in "(<(I|S|SR|SKI|SID|X)>|CN=x|\"|00|<|>|é){0,8}") {
        let _ = (Stored::parse(&text), Stored::parse(&format!("X509:{text}")));
        if let Ok(stored) = Stored::parse(&format!("x509:{tail}")) {
            let again = stored.to_string();
            prop_assert_eq!(Stored::parse(&again).unwrap(), stored);
        }
    }

    #[test]
    fn every_computed_string_is_one_that_could_be_stored(
        issuer in "[ -~äß]{0,12}",
        subject in any::<String>(),
        serial in proptest::collection::vec(any::<u8>(), 1..22),
        identifier in proptest::collection::vec(any::<u8>(), 0..22),
    ) {
        let (identifier, sid) = (element(tag::OCTET_STRING, &identifier), sid_extension());
        let names = element(tag::SEQUENCE, &element(0x81, b"alice@corp.example"));
        let extensions: [(&[u8], &[u8]); 3] =
            [(SUBJECT_KEY_IDENTIFIER, &identifier), (SID_EXTENSION, &sid), (SUBJECT_ALTERNATIVE_NAME, &names)];
        let claims = claims(&name(&[(O, &issuer), (CN, "CA")]), &name(&[(CN, &subject)]), &serial, &extensions);
        for computed in computed(&claims, &Form::ALL) {
            let stored = Stored::parse(&computed.value);
            prop_assert!(stored.is_ok(), "{:?} {:?}", computed, stored);
            let stored = stored.unwrap();
            prop_assert_eq!(stored.form(), computed.form);
            prop_assert_eq!(stored.to_string(), computed.value);
        }
    }

    #[test]
    fn two_serial_numbers_of_one_issuer_never_share_a_string(
        one in proptest::collection::vec(prop_oneof![Just(0_u8), Just(0x80), Just(1)], 1..4),
        other in proptest::collection::vec(prop_oneof![Just(0_u8), Just(0x80), Just(1)], 1..4),
    ) {
        let (first, second) = (values(&with_serial(&one), Form::IssuerSerial), values(&with_serial(&other), Form::IssuerSerial));
        prop_assert!(one == other || !first.iter().any(|value| second.contains(value)));
    }
}
