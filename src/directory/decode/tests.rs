use proptest::prelude::*;

use super::*;

const DN: &str = "CN=Alice,OU=Staff,DC=corp,DC=example";

fn alice() -> Vec<(String, Vec<Vec<u8>>)> {
    let sid = |rid: u32| Sid::new(5, vec![21, 1, 2, 3, rid]).unwrap().to_binary();
    let hours = vec![0xFF; 21];
    let attributes: Vec<(&str, Vec<&[u8]>)> = vec![
        ("sAMAccountName", vec![b"alice"]),
        ("userPrincipalName", vec![b"alice@corp.example"]),
        ("sAMAccountType", vec![b"805306368"]),
        ("userAccountControl", vec![b"-2147483136"]),
        ("msDS-User-Account-Control-Computed", vec![b"8388608"]),
        ("accountExpires", vec![b"133801632000000000"]),
        ("pwdLastSet", vec![b"0"]),
        ("primaryGroupID", vec![b"513"]),
        ("adminCount", vec![b"1"]),
        ("whenCreated", vec![b"20260102030405.0Z"]),
        ("altSecurityIdentities", vec![b"X509:<SKI>aa", b"X509:<SKI>bb"]),
        ("userCertificate", vec![b"\x30\x00", b"not looked at"]),
        ("mail", vec![b"alice@corp.example"]),
        ("dNSHostName", vec![b"alice.corp.example"]),
        ("servicePrincipalName", vec![b"HTTP/alice"]),
        ("logonHours", vec![&hours]),
    ];
    let mut all: Vec<_> = attributes
        .into_iter()
        .map(|(name, values)| (name.to_owned(), values.into_iter().map(<[u8]>::to_vec).collect()))
        .collect();
    all.push(("objectSid".to_owned(), vec![sid(1104)]));
    all.push(("tokenGroups".to_owned(), vec![sid(513), Sid::parse("S-1-5-32-545").unwrap().to_binary()]));
    all
}

fn read(attributes: Vec<(String, Vec<Vec<u8>>)>) -> Result<Account, Failure> {
    account(&Entry { dn: DN.to_owned(), attributes })
}

fn with(name: &str, values: &[&[u8]]) -> Result<Account, Failure> {
    let mut attributes = alice();
    attributes.retain(|(known, _)| known != name);
    if !values.is_empty() {
        attributes.push((name.to_owned(), values.iter().map(|value| value.to_vec()).collect()));
    }
    read(attributes)
}

#[test]
fn an_account_is_read_whole() {
    let sid = |text: &str| Sid::parse(text).unwrap();
    let expected = Account {
        dn: DN.to_owned(),
        sid: Some(sid("S-1-5-21-1-2-3-1104")),
        account_name: "alice".to_owned(),
        user_principal_name: Some("alice@corp.example".to_owned()),
        account_type: 805_306_368,
        control: 0x8000_0200,
        computed_control: 0x0080_0000,
        expires: Some(1_735_689_600),
        must_change_password: true,
        primary_group: 513,
        admin_count: true,
        created: 1_767_323_045,
        groups: vec![sid("S-1-5-21-1-2-3-513"), sid("S-1-5-32-545")],
        alt_security_identities: vec!["X509:<SKI>aa".to_owned(), "X509:<SKI>bb".to_owned()],
        certificates: vec![b"\x30\x00".to_vec(), b"not looked at".to_vec()],
        mail: vec!["alice@corp.example".to_owned()],
        dns_host_name: Some("alice.corp.example".to_owned()),
        service_principal_names: vec!["HTTP/alice".to_owned()],
        logon_hours: Some([0xFF; 21]),
    };
    assert_eq!(read(alice()), Ok(expected));
}

#[test]
fn attributes_are_found_whatever_letters_their_names_are_written_in() {
    let shouted = alice().into_iter().map(|(name, values)| (name.to_uppercase(), values)).collect();
    assert_eq!(read(shouted), read(alice()));
}

#[test]
fn an_attribute_that_every_account_has_and_that_is_hidden_is_a_refusal_that_names_it() {
    let always = [
        "objectSid",
        "sAMAccountName",
        "sAMAccountType",
        "userAccountControl",
        "msDS-User-Account-Control-Computed",
        "accountExpires",
        "pwdLastSet",
        "primaryGroupID",
        "whenCreated",
        "tokenGroups",
    ];
    for name in always {
        let failure = with(name, &[]).unwrap_err();
        assert_eq!(failure.cause, Cause::DirectoryRefused);
        assert!(failure.detail.contains(name), "{failure}");
    }
    let optional =
        ["userPrincipalName", "adminCount", "altSecurityIdentities", "userCertificate", "mail", "dNSHostName", "logonHours"];
    for name in optional {
        assert!(with(name, &[]).is_ok(), "{name}");
    }
}

#[test]
fn a_malformed_attribute_is_a_refusal_that_names_it() {
    let table: [(&str, &[&[u8]]); 26] = [
        ("objectSid", &[b"S-1-5-21-1-2-3-1104"]),
        ("objectSid", &[b"\x01\x05"]),
        ("tokenGroups", &[b"\x01\x01\x00\x00\x00\x00\x00\x05\x12\x00\x00\x00", b"x"]),
        ("userAccountControl", &[b""]),
        ("userAccountControl", &[b"0x200"]),
        ("userAccountControl", &[b"+512"]),
        ("userAccountControl", &[b"0512"]),
        ("userAccountControl", &[b" 512"]),
        ("userAccountControl", &[b"2147483648"]),
        ("userAccountControl", &[b"-2147483649"]),
        ("userAccountControl", &[b"512", b"514"]),
        ("sAMAccountType", &["８".as_bytes()]),
        ("accountExpires", &[b"9223372036854775808"]),
        ("accountExpires", &[b"-1"]),
        ("pwdLastSet", &[b"never"]),
        ("whenCreated", &[b"20260102030405"]),
        ("whenCreated", &[b"20260102030405Z0"]),
        ("whenCreated", &[b"20261302030405.0Z"]),
        ("whenCreated", &[b"20260102030405.Z"]),
        ("whenCreated", &[b"20260102030405.0+0100"]),
        ("whenCreated", &[b"260102030405Z"]),
        ("logonHours", &[&[0; 20]]),
        ("logonHours", &[b""]),
        ("userPrincipalName", &[b"\xff@corp.example"]),
        ("userPrincipalName", &[b"a@corp.example", b"b@corp.example"]),
        ("altSecurityIdentities", &[b"X509:<SKI>aa", b"\xff"]),
    ];
    for (name, values) in table {
        let failure = with(name, values).unwrap_err();
        assert_eq!(
            (failure.cause, failure.detail),
            (Cause::DirectoryInvalid, format!("{DN}: {name} is malformed")),
            "{values:?}"
        );
    }
}

#[test]
fn an_account_of_which_values_are_held_back_is_refused() {
    for name in ["userCertificate;range=0-1499", "altSecurityIdentities;Range=0-*"] {
        let mut attributes = alice();
        attributes.push((name.to_owned(), vec![b"x".to_vec()]));
        let failure = read(attributes).unwrap_err();
        assert!(failure.cause == Cause::DirectoryInvalid && failure.detail.contains(name), "{failure}");
    }
}

#[test]
fn an_account_never_expires_by_either_of_the_two_numbers_that_say_so() {
    for never in ["0", "9223372036854775807"] {
        assert_eq!(with("accountExpires", &[never.as_bytes()]).unwrap().expires, None);
    }
    assert_eq!(with("accountExpires", &[b"116444736000000000"]).unwrap().expires, Some(0));
    assert_eq!(with("accountExpires", &[b"1"]).unwrap().expires, Some(-11_644_473_600));
    assert_eq!(with("accountExpires", &[b"9223372036854775806"]).unwrap().expires, Some(910_692_730_085));
}

proptest! {
    #[test]
    fn no_value_breaks_the_reading(at in 0_usize..18, value in prop::collection::vec(any::<u8>(), 0..40), digits in "-?[0-9]{0,22}") {
        for value in [value, digits.into_bytes()] {
            let result = with(ATTRIBUTES[at], &[&value]);
            if let Err(failure) = result {
                prop_assert_eq!(failure.cause, Cause::DirectoryInvalid);
            }
        }
    }

    #[test]
    fn every_flag_set_comes_back_from_its_signed_number(flags in any::<u32>()) {
        let text = flags.cast_signed().to_string();
        prop_assert_eq!(with("userAccountControl", &[text.as_bytes()]).unwrap().control, flags);
    }
}
