//! The relay's own KRB-ERRORs, and the codes it acts on (RFC 4120 sections 5.9.1, 7.5.9).

use std::time::{SystemTime, UNIX_EPOCH};

use crate::der::{self, tag};
use crate::kerberos::relay::request::KdcRequest;
use crate::kerberos::relay::skew::Window;
use crate::kerberos::wire::asn1;
use crate::kerberos::wire::krb_error::KrbError;
use crate::naming::name::PrincipalName;

/// KDC_ERR_PREAUTH_REQUIRED: the usual first answer to an AS-REQ.
pub(super) const PREAUTH_REQUIRED: i32 = 25;
/// KDC_ERR_SVC_UNAVAILABLE: a KDC's way to say "ask another one".
pub(super) const SERVICE_UNAVAILABLE: i32 = 29;
/// KRB_AP_ERR_TKT_NYV: its clock is behind the one that our ticket's start is from.
pub(super) const NOT_YET_VALID: i32 = 33;
/// KRB_AP_ERR_SKEW
pub(super) const SKEW: i32 = 37;
/// KRB_ERR_RESPONSE_TOO_BIG: ask again by TCP.
pub(super) const RESPONSE_TOO_BIG: i32 = 52;
/// A code that no KDC sends (unassigned): what the relay answers where no KDC does. libkrb5 takes it for final, whereas after
/// KDC_ERR_SVC_UNAVAILABLE it asks its only KDC, the relay, again and again for 17 seconds (measured with 1.20).
pub(in crate::kerberos) const UNANSWERED: i32 = 120;
/// KDC_ERR_WRONG_REALM: the client's realm stands in the error (RFC 6806 section 7).
pub(super) const WRONG_REALM: i32 = 68;

/// The sender's clock minus ours, in milliseconds, where the error came within this time.
pub(super) fn skew(error: &KrbError, window: Window) -> i64 {
    let earliest =
        error.server_time.saturating_mul(1000).saturating_add(i64::from(error.server_microseconds.min(999_999) / 1000));
    // Some write no microseconds.
    window.skew(earliest, if error.server_microseconds == 0 { earliest.saturating_add(999) } else { earliest })
}

/// [`UNANSWERED`] in answer to `request`, with the relay's own words.
pub(super) fn answer(request: &KdcRequest, words: &str) -> Vec<u8> {
    let now = SystemTime::now();
    let micros = now.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_micros();
    let nobody = PrincipalName { name_type: 0, components: Vec::new() };
    let mut sname = Vec::new();
    asn1::write_principal_name(&mut sname, request.sname.as_ref().unwrap_or(&nobody));

    let mut fields = Vec::with_capacity(256);
    asn1::write_explicit_integer(&mut fields, 0, 5);
    asn1::write_explicit_integer(&mut fields, 1, 30);
    asn1::write_explicit(&mut fields, 4, tag::GENERALIZED_TIME, &der::format_kerberos_time(seconds(now)));
    asn1::write_explicit_integer(&mut fields, 5, i64::from(micros));
    asn1::write_explicit_integer(&mut fields, 6, i64::from(UNANSWERED));
    asn1::write_explicit(&mut fields, 9, tag::GENERAL_STRING, request.realm.as_bytes());
    der::write(&mut fields, tag::context(10), &sname);
    asn1::write_explicit(&mut fields, 11, tag::GENERAL_STRING, words.as_bytes());

    let mut message = Vec::with_capacity(fields.len() + 12);
    der::write_header(&mut message, tag::application(30), asn1::element_length(fields.len()));
    der::write(&mut message, tag::SEQUENCE, &fields);
    message
}

fn seconds(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}
