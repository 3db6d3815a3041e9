use proptest::prelude::*;

use super::*;

/// A KRB-ERROR as a service sends it.
pub(crate) fn message(error_code: i32, data: Option<&[u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    asn1::write_explicit_integer(&mut body, 0, PVNO);
    asn1::write_explicit_integer(&mut body, 1, MSG_TYPE);
    asn1::write_explicit(&mut body, 4, tag::GENERALIZED_TIME, b"20260102030405Z");
    asn1::write_explicit_integer(&mut body, 5, 654_321);
    asn1::write_explicit_integer(&mut body, 6, i64::from(error_code));
    asn1::write_explicit(&mut body, 9, tag::GENERAL_STRING, b"CORP.EXAMPLE");
    let mut name = Vec::new();
    asn1::write_principal_name(&mut name, &server());
    der::write(&mut body, tag::context(10), &name);
    asn1::write_explicit(&mut body, 11, tag::GENERAL_STRING, b"no \xFF luck");
    if let Some(data) = data {
        asn1::write_explicit(&mut body, 12, tag::OCTET_STRING, data);
    }
    let mut sequence = Vec::new();
    der::write(&mut sequence, tag::SEQUENCE, &body);
    let mut message = Vec::new();
    der::write(&mut message, tag::application(30), &sequence);
    message
}

fn server() -> PrincipalName {
    PrincipalName { name_type: 2, components: vec!["HTTP".into(), "mbx1.corp.example".into()] }
}

/// One entry of error data, fields numbered from `first`.
fn entry(first: u8, kind: i64, value: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    asn1::write_explicit_integer(&mut fields, first, kind);
    asn1::write_explicit(&mut fields, first + 1, tag::OCTET_STRING, value);
    sequence(&fields)
}

fn sequence(contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    der::write(&mut out, tag::SEQUENCE, contents);
    out
}

/// STATUS_ACCOUNT_RESTRICTION
const EXTENDED_ERROR: [u8; 12] = [0x6E, 0, 0, 0xC0, 0, 0, 0, 0, 1, 0, 0, 0];

#[test]
fn every_field_of_an_error_is_read() {
    let error = KrbError::parse(&message(41, Some(b"data"))).unwrap();
    assert_eq!((error.code, error.server_time, error.server_microseconds), (41, 1_767_323_045, 654_321));
    assert_eq!((error.realm.as_str(), &error.server), ("CORP.EXAMPLE", &server()));
    assert_eq!(error.text.as_deref(), Some("no \u{FFFD} luck"));
    assert_eq!(error.data.as_deref(), Some(&b"data"[..]));
    assert_eq!(error.name(), "KRB_AP_ERR_MODIFIED");
    assert_eq!((error.client, error.client_realm), (None, None));
}

#[test]
fn an_nt_status_is_found_in_all_three_shapes_of_error_data() {
    let kerb_error_data = entry(1, 3, &EXTENDED_ERROR);
    let method_data = sequence(&[entry(1, 19, b"other"), entry(1, 3, &EXTENDED_ERROR)].concat());
    let typed_data = sequence(&entry(0, 3, &EXTENDED_ERROR));
    for data in [kerb_error_data, method_data, typed_data] {
        let error = KrbError::parse(&message(12, Some(&data))).unwrap();
        assert_eq!(error.nt_status(), Some(0xC000_006E));
    }
}

#[test]
fn a_salt_is_not_taken_for_an_nt_status() {
    assert_eq!(nt_status(&sequence(&entry(1, 3, b"CORP.EXAMPLE"))), None);
    assert_eq!(nt_status(&entry(1, 3, &EXTENDED_ERROR[..8])), None);
    assert_eq!(nt_status(&entry(1, 2, &EXTENDED_ERROR)), None);
    assert_eq!(nt_status(b""), None);
}

#[test]
fn only_a_changed_key_or_an_expired_ticket_calls_for_a_new_ticket() {
    let wanted: Vec<i32> = (0..100).filter(|&code| KrbError::parse(&message(code, None)).unwrap().reacquire()).collect();
    assert_eq!(wanted, [32, 41, 44, 45]);
}

#[test]
fn another_version_message_type_or_trailing_bytes_are_refused() {
    let good = message(41, None);
    assert_eq!(KrbError::parse(&[&good[..], &[0]].concat()), Err(DerError::Trailing));
    assert!(KrbError::parse(&good[..good.len() - 1]).is_err());
    for (from, to) in [([0xA0, 3, 2, 1, 5], [0xA0, 3, 2, 1, 4]), ([0xA1, 3, 2, 1, 30], [0xA1, 3, 2, 1, 14])] {
        let at = good.windows(5).position(|window| window == from).unwrap();
        let mut bad = good.clone();
        bad[at..at + 5].copy_from_slice(&to);
        assert_eq!(KrbError::parse(&bad), Err(DerError::Value));
    }
}

proptest! {
    #[test]
    fn the_decoder_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = KrbError::parse(&bytes);
        let _ = nt_status(&bytes);
    }

    #[test]
    fn a_mutated_error_never_panics(at in 0_usize..200, value: u8) {
        let mut bytes = message(41, Some(&entry(1, 3, &EXTENDED_ERROR)));
        let length = bytes.len();
        bytes[at % length] = value;
        if let Ok(error) = KrbError::parse(&bytes) {
            let _ = error.nt_status();
        }
    }
}
