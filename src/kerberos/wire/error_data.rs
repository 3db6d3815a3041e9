//! What a KRB-ERROR's `e-data` says, for people: Windows' status by name, and what a KDC would accept.
//!
//! Nothing here is authenticated, and nothing decides by it.

use std::fmt::Write as _;

use crate::der::{self, DerError, Reader, tag};
use crate::kerberos::wire::crypto::Etype;

/// More entries than any list of error data has.
pub(super) const MAX_ENTRIES: usize = 64;

/// PA-DATA types that say which encryption types the KDC has keys of (RFC 4120 sections 5.2.7.4, 5.2.7.5).
const ETYPE_INFO: i32 = 11;
const ETYPE_INFO2: i32 = 19;

/// Name of an NTSTATUS that matters for Kerberos and delegation, without its `STATUS_` (MS-ERREF section 2.3.1).
pub const fn status_name(status: u32) -> Option<&'static str> {
    Some(match status {
        0xC000_000D => "INVALID_PARAMETER",
        0xC000_0022 => "ACCESS_DENIED",
        0xC000_005E => "NO_LOGON_SERVERS",
        0xC000_0064 => "NO_SUCH_USER",
        0xC000_006A => "WRONG_PASSWORD",
        0xC000_006D => "LOGON_FAILURE",
        0xC000_006E => "ACCOUNT_RESTRICTION",
        0xC000_006F => "INVALID_LOGON_HOURS",
        0xC000_0070 => "INVALID_WORKSTATION",
        0xC000_0071 => "PASSWORD_EXPIRED",
        0xC000_0072 => "ACCOUNT_DISABLED",
        0xC000_0073 => "NONE_MAPPED",
        0xC000_009A => "INSUFFICIENT_RESOURCES",
        0xC000_00BB => "NOT_SUPPORTED",
        0xC000_00DF => "NO_SUCH_DOMAIN",
        0xC000_00E5 => "INTERNAL_ERROR",
        0xC000_0133 => "TIME_DIFFERENCE_AT_DC",
        0xC000_015B => "LOGON_TYPE_NOT_GRANTED",
        0xC000_018B => "NO_TRUST_SAM_ACCOUNT",
        0xC000_018C => "TRUSTED_DOMAIN_FAILURE",
        0xC000_018D => "TRUSTED_RELATIONSHIP_FAILURE",
        0xC000_0193 => "ACCOUNT_EXPIRED",
        0xC000_0224 => "PASSWORD_MUST_CHANGE",
        0xC000_0225 => "NOT_FOUND",
        0xC000_0233 => "DOMAIN_CONTROLLER_NOT_FOUND",
        0xC000_0234 => "ACCOUNT_LOCKED_OUT",
        0xC000_0272 => "NO_MATCH",
        0xC000_02F6 => "STRONG_CRYPTO_NOT_SUPPORTED",
        0xC000_02F8 => "NO_PA_DATA",
        0xC000_02F9 => "PKINIT_NAME_MISMATCH",
        0xC000_02FA => "SMARTCARD_LOGON_REQUIRED",
        0xC000_02FB => "KDC_INVALID_REQUEST",
        0xC000_02FC => "KDC_UNABLE_TO_REFER",
        0xC000_02FD => "KDC_UNKNOWN_ETYPE",
        0xC000_0322 => "NO_KERB_KEY",
        0xC000_0388 => "DOWNGRADE_DETECTED",
        0xC000_0408 => "USER2USER_REQUIRED",
        0xC000_040A => "NO_S4U_PROT_SUPPORT",
        0xC000_040B => "CROSSREALM_DELEGATION_FAILURE",
        0xC000_0413 => "AUTHENTICATION_FIREWALL_FAILED",
        _ => return None,
    })
}

/// `NTSTATUS 0xC000006E ACCOUNT_RESTRICTION`, or the number alone.
pub fn describe_status(status: u32) -> String {
    let name = status_name(status).map(|name| format!(" {name}")).unwrap_or_default();
    format!("NTSTATUS 0x{status:08X}{name}")
}

/// What error data other than an NTSTATUS says: the encryption types a KDC offers, and the types of what else is there. Salts and their
/// like are left out: they say nothing about a failure. `None` for what is no error data, or says nothing.
pub fn describe(data: &[u8]) -> Option<String> {
    let body = Reader::new(der::only(data, tag::SEQUENCE).ok()?);
    let entries = match entry(body) {
        Ok(only) => vec![only],
        Err(_) => entries(body).ok()?,
    };
    let mut said = String::new();
    for (kind, value) in &entries {
        let offered = if matches!(*kind, ETYPE_INFO | ETYPE_INFO2) { offered(value).ok() } else { None };
        if let Some(etypes) = offered {
            let names: Vec<_> = etypes.into_iter().map(etype_name).collect();
            said = format!("it has keys of {}; ", names.join(", "));
        }
    }
    let kinds: Vec<_> = entries.iter().map(|(kind, _)| kind.to_string()).collect();
    if !kinds.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(said, "data of type {}", kinds.join(", "));
    }
    (!said.is_empty()).then_some(said)
}

/// Type and value of one KERB-ERROR-DATA, PA-DATA or TYPED-DATA. The first two number their fields 1 and 2, TYPED-DATA 0 and 1.
pub(super) fn entry(mut fields: Reader<'_>) -> Result<(i32, &[u8]), DerError> {
    let first = u8::from(fields.peek() != Some(tag::context(0)));
    let kind = der::signed32(fields.explicit(first, tag::INTEGER)?)?;
    let value = fields.explicit_optional(first + 1, tag::OCTET_STRING)?.unwrap_or_default();
    Ok((kind, value))
}

fn entries(mut list: Reader<'_>) -> Result<Vec<(i32, &[u8])>, DerError> {
    let mut entries = Vec::new();
    while !list.is_empty() && entries.len() < MAX_ENTRIES {
        entries.push(entry(list.nested(tag::SEQUENCE)?)?);
    }
    Ok(entries)
}

/// The encryption types of an ETYPE-INFO or ETYPE-INFO2.
fn offered(value: &[u8]) -> Result<Vec<i32>, DerError> {
    let mut list = Reader::new(der::only(value, tag::SEQUENCE)?);
    let mut etypes = Vec::new();
    while !list.is_empty() && etypes.len() < MAX_ENTRIES {
        etypes.push(der::signed32(list.nested(tag::SEQUENCE)?.explicit(0, tag::INTEGER)?)?);
    }
    Ok(etypes)
}

fn etype_name(number: i32) -> String {
    match (number, Etype::from_number(number)) {
        (_, Some(etype)) => etype.name().to_owned(),
        (1 | 3, None) => "DES".to_owned(),
        (_, None) => format!("encryption type {number}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kerberos::wire::asn1::{write_explicit, write_explicit_integer};

    fn sequence(contents: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        der::write(&mut out, tag::SEQUENCE, contents);
        out
    }

    fn one(first: u8, kind: i64, value: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        write_explicit_integer(&mut fields, first, kind);
        write_explicit(&mut fields, first + 1, tag::OCTET_STRING, value);
        sequence(&fields)
    }

    fn info2(etypes: &[i64]) -> Vec<u8> {
        let entries = etypes.iter().map(|etype| {
            let mut fields = Vec::new();
            write_explicit_integer(&mut fields, 0, *etype);
            write_explicit(&mut fields, 1, tag::GENERAL_STRING, b"CORP.EXAMPLEsecret-looking-salt");
            sequence(&fields)
        });
        sequence(&entries.collect::<Vec<_>>().concat())
    }

    #[test]
    fn a_status_is_told_by_number_and_name_and_an_unfamiliar_one_by_number() {
        assert_eq!(describe_status(0xC000_006E), "NTSTATUS 0xC000006E ACCOUNT_RESTRICTION");
        assert_eq!(describe_status(0xC000_0272), "NTSTATUS 0xC0000272 NO_MATCH");
        assert_eq!(describe_status(0xC000_0BAD), "NTSTATUS 0xC0000BAD");
    }

    #[test]
    fn the_encryption_types_that_a_kdc_offers_are_named_and_salts_are_not() {
        let data = sequence(&[one(1, 2, b""), one(1, 19, &info2(&[18, 23, 3, 99]))].concat());
        let said = describe(&data).unwrap();
        assert_eq!(said, "it has keys of aes256-cts-hmac-sha1-96, arcfour-hmac, DES, encryption type 99; data of type 2, 19");
    }

    #[test]
    fn one_entry_and_typed_data_are_told_by_their_types() {
        assert_eq!(describe(&one(1, 2, b"")).unwrap(), "data of type 2", "KERB-ERROR-DATA: skew recovery");
        assert_eq!(describe(&sequence(&one(0, 104, b"x"))).unwrap(), "data of type 104", "TYPED-DATA");
        let mut without_value = Vec::new();
        write_explicit_integer(&mut without_value, 1, 2);
        assert_eq!(describe(&sequence(&without_value)).unwrap(), "data of type 2", "the value is optional");
    }

    #[test]
    fn what_is_no_error_data_says_nothing() {
        for data in [&b""[..], b"text", &sequence(b""), &sequence(b"\x04\x01x"), &one(1, 19, b"no list")[..4]] {
            assert_eq!(describe(data), None, "{data:?}");
        }
        assert_eq!(describe(&one(1, 19, b"no list")).unwrap(), "data of type 19");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = describe(&bytes);
        }

        #[test]
        fn no_damage_makes_it_panic(at: usize, value: u8) {
            let mut data = sequence(&[one(1, 2, b""), one(1, 19, &info2(&[18, 17]))].concat());
            let length = data.len();
            data[at % length] = value;
            let _ = describe(&data);
        }
    }
}
