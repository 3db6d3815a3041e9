use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::x509::testkit::{C, CN, DC, E, O, OU, UID, attribute, element, name};

fn windows(contents: &[u8]) -> Result<String, NotComparable> {
    DistinguishedName::read(contents).unwrap().windows()
}

fn common(text: &str) -> Result<String, NotComparable> {
    windows(&name(&[(CN, text)]))
}

fn typed(value_tag: u8, value: &[u8]) -> Result<String, NotComparable> {
    windows(&element(SET, &attribute(CN, value_tag, value)))
}

#[test]
fn published_names_are_written_in_the_order_of_the_certificate() {
    for (expected, attributes) in [
        ("CN=Contoso", &[(CN, "Contoso")][..]),
        (
            "DC=com,DC=contoso,DC=corp,OU=UserAccounts,CN=Contoso User",
            &[(DC, "com"), (DC, "contoso"), (DC, "corp"), (OU, "UserAccounts"), (CN, "Contoso User")],
        ),
        ("DC=devel,DC=ad,CN=ad-AD-SERVER-CA", &[(DC, "devel"), (DC, "ad"), (CN, "ad-AD-SERVER-CA")]),
        (
            "DC=devel,DC=ad,CN=Users,CN=t u,E=test.user@email.domain",
            &[(DC, "devel"), (DC, "ad"), (CN, "Users"), (CN, "t u"), (E, "test.user@email.domain")],
        ),
        ("DC=vm,DC=ad,CN=ad-ROOT-DC-CA", &[(DC, "vm"), (DC, "ad"), (CN, "ad-ROOT-DC-CA")]),
        ("DC=local,DC=dod,CN=SpatDoD Root CA", &[(DC, "local"), (DC, "dod"), (CN, "SpatDoD Root CA")]),
        (
            "C=US,O=U.S. Government,OU=Certification Authorities,OU=Government Demonstration CA",
            &[(C, "US"), (O, "U.S. Government"), (OU, "Certification Authorities"), (OU, "Government Demonstration CA")],
        ),
    ] {
        assert_eq!(windows(&name(attributes)).as_deref(), Ok(expected));
    }
}

#[test]
fn every_attribute_has_the_key_that_windows_gives_it() {
    let id_at = |last: u8| [0x55, 0x04, last].to_vec();
    for (kind, expected) in [
        (id_at(3), "CN"),
        (id_at(4), "SN"),
        (id_at(5), "SERIALNUMBER"),
        (id_at(6), "C"),
        (id_at(7), "L"),
        (id_at(8), "S"),
        (id_at(9), "STREET"),
        (id_at(10), "O"),
        (id_at(11), "OU"),
        (id_at(12), "T"),
        (id_at(13), "Description"),
        (id_at(17), "PostalCode"),
        (id_at(18), "POBox"),
        (id_at(20), "Phone"),
        (id_at(42), "G"),
        (id_at(43), "I"),
        (id_at(46), "dnQualifier"),
        (id_at(65), "OID.2.5.4.65"),
        (E.to_vec(), "E"),
        (DC.to_vec(), "DC"),
        (UID.to_vec(), "OID.0.9.2342.19200300.100.1.1"),
    ] {
        assert_eq!(windows(&name(&[(&kind, "x")])), Ok(format!("{expected}=x")));
    }
}

#[test]
fn values_are_quoted_as_windows_quotes_them() {
    let organization = windows(&name(&[(O, "Contoso, Inc.")]));
    assert_eq!(organization.as_deref(), Ok("O=\"Contoso, Inc.\""));
    for (value, expected) in [
        ("CA \"One\"", "CN=\"CA \"\"One\"\"\""),
        (" lead", "CN=\" lead\""),
        ("trail ", "CN=\"trail \""),
        ("", "CN=\"\""),
        ("a#b;c=d+e<f>", "CN=\"a#b;c=d+e<f>\""),
        ("a\\b", "CN=a\\b"),
        ("in  side", "CN=in  side"),
        ("Ünï/cödé'", "CN=Ünï/cödé'"),
    ] {
        assert_eq!(common(value).as_deref(), Ok(expected), "{value}");
    }
}

#[test]
fn attributes_of_one_rdn_are_joined_by_a_space() {
    let pair = [attribute(CN, tag::UTF8_STRING, b"a"), attribute(UID, tag::UTF8_STRING, b"u1")].concat();
    let contents = [name(&[(C, "DE")]), element(SET, &pair)].concat();
    assert_eq!(windows(&contents).as_deref(), Ok("C=DE,CN=a OID.0.9.2342.19200300.100.1.1=u1"));
}

#[test]
fn every_string_type_is_decoded() {
    for (value_tag, value) in [
        (tag::UTF8_STRING, "Jürg".as_bytes()),
        (T61_STRING, b"J\xFCrg"),
        (BMP_STRING, &[0, b'J', 0, 0xFC, 0, b'r', 0, b'g']),
        (UNIVERSAL_STRING, &[0, 0, 0, b'J', 0, 0, 0, 0xFC, 0, 0, 0, b'r', 0, 0, 0, b'g']),
    ] {
        assert_eq!(typed(value_tag, value).as_deref(), Ok("CN=Jürg"), "{value_tag:#x}");
    }
    assert_eq!(typed(PRINTABLE_STRING, b"a_b*@").as_deref(), Ok("CN=a_b*@"));
    assert_eq!(typed(IA5_STRING, b"a@b").as_deref(), Ok("CN=a@b"));
    assert_eq!(typed(NUMERIC_STRING, b"1 2").as_deref(), Ok("CN=1 2"));
}

#[test]
fn a_value_that_cannot_be_decoded_has_no_text() {
    for (value_tag, value) in [
        (tag::UTF8_STRING, &b"\xFF"[..]),
        (tag::UTF8_STRING, b"\xC0\x80"),
        (PRINTABLE_STRING, b"J\xFCrg"),
        (IA5_STRING, b"\x80"),
        (NUMERIC_STRING, b"1a"),
        (T61_STRING, "Jürg".as_bytes()),
        (BMP_STRING, &[0]),
        (BMP_STRING, &[0xD8, 0, 0, b'a']),
        (UNIVERSAL_STRING, &[0, 0, 0]),
        (UNIVERSAL_STRING, &[0, 0x11, 0, 0]),
        (tag::OCTET_STRING, b"x"),
        (tag::SEQUENCE, b""),
    ] {
        assert_eq!(typed(value_tag, value), Err(NotComparable::Undecodable), "{value_tag:#x} {value:x?}");
    }
}

#[test]
fn a_value_that_could_break_out_of_the_string_has_no_text() {
    for bad in ["a\0", "a\r", "a\nb", "\u{7f}", "a\tb", "\u{85}"] {
        assert_eq!(common(bad), Err(NotComparable::Control), "{bad:?}");
    }
    for bad in ["x<SR>00", "x<sr>00", "<S>", "<I>CN=y", "a<Ski>b", "<SHA1-PUKEY>", "<sha1-pukey>00", "<rfc822>a@b", "<SID>S-1-5"]
    {
        assert_eq!(common(bad), Err(NotComparable::Tag), "{bad:?}");
        assert_eq!(windows(&name(&[(O, "good"), (CN, bad), (OU, "good")])), Err(NotComparable::Tag));
    }
    assert_eq!(windows(&[]), Err(NotComparable::Empty));
    assert_eq!(common(&"x".repeat(MAX_LENGTH)), Err(NotComparable::TooLong));
    for kind in [&[0x55, 0x04, 0x83][..], &[0x55, 0x80, 0x04], &[0x80, 0x55], &[0xFF; 12], &[]] {
        assert_eq!(windows(&name(&[(kind, "x")])), Err(NotComparable::Kind), "{kind:x?}");
    }
}

#[test]
fn a_structure_that_is_not_a_name_is_refused() {
    let one = attribute(CN, tag::UTF8_STRING, b"x");
    for bad in [
        one.clone(),
        element(SET, &[]),
        element(SET, &element(tag::SEQUENCE, &[])),
        element(SET, &[one.clone(), vec![0]].concat()),
        element(SET, &element(tag::SEQUENCE, &[&one[2..], &[5, 0]].concat())),
        [element(SET, &one), vec![0x31]].concat(),
        element(SET, &one).repeat(MAX_ATTRIBUTES + 1),
    ] {
        assert!(DistinguishedName::read(&bad).is_err(), "{bad:x?}");
    }
    assert!(DistinguishedName::read(&element(SET, &one).repeat(MAX_ATTRIBUTES)).is_ok());
}

#[test]
fn there_is_one_common_name_or_none() {
    let of = |attributes: &[(&[u8], &str)]| DistinguishedName::read(&name(attributes)).unwrap();
    assert_eq!(of(&[(O, "x"), (CN, "alice")]).common_name(), Ok("alice"));
    assert_eq!(of(&[(O, "x")]).common_name(), Err("no common name in the subject"));
    assert_eq!(of(&[(CN, "alice"), (O, "x"), (CN, "alice")]).common_name(), Err("several common names in the subject"));
    let undecodable = DistinguishedName::read(&element(SET, &attribute(CN, tag::OCTET_STRING, b"x"))).unwrap();
    assert_eq!(undecodable.common_name(), Err("a common name that cannot be decoded"));
}

/// Values from the letters that matter, so that names which differ little are likely.
fn value() -> impl Strategy<Value = String> {
    prop_oneof!["[aS ,+=\"<>#;O]{0,5}", "[ a]{0,3}", "[a-c]{1,2}(,| |\")?(S|OU|CN)?=?[a-c]{0,2}", any::<String>()]
}

fn rdns() -> impl Strategy<Value = Vec<Vec<(u8, String)>>> {
    proptest::collection::vec(
        proptest::collection::vec((prop_oneof![Just(3_u8), Just(8), Just(11), Just(65)], value()), 1..3),
        1..4,
    )
}

fn encode(rdns: &[Vec<(u8, String)>]) -> Vec<u8> {
    let rdn = |rdn: &Vec<(u8, String)>| {
        let attributes = rdn.iter().flat_map(|(kind, text)| attribute(&[0x55, 0x04, *kind], tag::UTF8_STRING, text.as_bytes()));
        element(SET, &attributes.collect::<Vec<_>>())
    };
    rdns.iter().flat_map(rdn).collect()
}

/// Takes Windows' text apart again: what has only one inverse cannot have two origins.
fn inverse(mut text: &str) -> Vec<Vec<(String, String)>> {
    let mut rdns = vec![Vec::new()];
    loop {
        let (key, rest) = text.split_once('=').unwrap();
        let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
            let mut value = String::new();
            let mut left = quoted;
            loop {
                let (part, after) = left.split_once('"').unwrap();
                value.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        value.push('"');
                        left = more;
                    }
                    None => break (value, after),
                }
            }
        } else {
            // No unquoted value holds '=' or ',': the word before the next '=' is a key.
            let end = rest.find([',', '=']).unwrap_or(rest.len());
            let end = if rest[end..].starts_with('=') { rest[..end].rfind(' ').unwrap() } else { end };
            (rest[..end].to_owned(), &rest[end..])
        };
        rdns.last_mut().unwrap().push((key.to_owned(), value));
        let mut following = rest.chars();
        match following.next() {
            None => return rdns,
            Some(',') => rdns.push(Vec::new()),
            Some(other) => assert_eq!(other, ' '),
        }
        text = following.as_str();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_bytes_have_a_text_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(name) = DistinguishedName::read(&bytes) {
            let _ = (name.windows(), name.common_name());
        }
        if let Ok(name) = DistinguishedName::read(&element(SET, &attribute(CN, bytes.first().copied().unwrap_or(12) & 0x1F, &bytes))) {
            let _ = name.windows();
        }
    }

    #[test]
    fn a_text_has_one_origin(rdns in rdns()) {
        if let Ok(text) = windows(&encode(&rdns)) {
            let keys = HashMap::from([(3, "CN"), (8, "S"), (11, "OU"), (65, "OID.2.5.4.65")]);
            let expected: Vec<Vec<_>> = rdns.iter()
                .map(|rdn| rdn.iter().map(|(kind, value)| (keys[kind].to_owned(), value.clone())).collect())
                .collect();
            prop_assert_eq!(inverse(&text), expected, "{}", text);
        }
    }

    #[test]
    fn two_names_never_have_the_same_text(one in rdns(), other in rdns()) {
        if let (Ok(first), Ok(second)) = (windows(&encode(&one)), windows(&encode(&other))) {
            prop_assert_eq!(first == second, one == other);
        }
    }

    #[test]
    fn no_text_holds_a_tag_or_a_control_character(rdns in rdns()) {
        if let Ok(text) = windows(&encode(&rdns)) {
            let folded = text.to_ascii_lowercase();
            prop_assert!(!TAGS.iter().any(|tag| folded.contains(tag)) && !text.chars().any(char::is_control));
        }
    }
}
