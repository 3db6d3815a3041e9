//! KRB-ERROR (RFC 4120 section 5.9.1) and the NTSTATUS that Windows puts into it (MS-KILE 2.2.1, 2.2.2).
//!
//! The message is not authenticated: it is good for diagnosis, never for decisions about identity, clock or route.

use crate::der::{self, DerError, Reader, tag};
use crate::kerberos::wire::asn1;
use crate::kerberos::wire::error_data::{self, MAX_ENTRIES};
use crate::naming::name::PrincipalName;

/// Protocol version and message type.
const PVNO: i64 = 5;
const MSG_TYPE: i64 = 30;

/// Type of the extended error, among KERB-ERROR-DATA as well as among PA-DATA (where 3 means PA-PW-SALT otherwise).
const EXTENDED: i32 = 3;

/// Error codes used by name (RFC 4120 section 7.5.9).
pub mod code {
    /// The ticket has expired.
    pub const TKT_EXPIRED: i32 = 32;
    /// The clocks differ too much.
    pub const SKEW: i32 = 37;
    /// The ticket or authenticator does not decrypt: mostly another key than the service's.
    pub const MODIFIED: i32 = 41;
    /// The service has no key of that version.
    pub const BADKEYVER: i32 = 44;
    /// The service has no key at all for this ticket.
    pub const NOKEY: i32 = 45;
}

/// A decoded KRB-ERROR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KrbError {
    /// `error-code`
    pub code: i32,
    /// `stime`: the sender's clock, seconds since 1970
    pub server_time: i64,
    /// `susec`: its microseconds
    pub server_microseconds: u32,
    /// `crealm`
    pub client_realm: Option<String>,
    /// `cname`
    pub client: Option<PrincipalName>,
    /// `realm` of the service
    pub realm: String,
    /// `sname`
    pub server: PrincipalName,
    /// `e-text`, with what is not UTF-8 replaced
    pub text: Option<String>,
    /// `e-data` as it came
    pub data: Option<Vec<u8>>,
}

impl KrbError {
    /// Decodes a whole KRB-ERROR message.
    pub fn parse(message: &[u8]) -> Result<Self, DerError> {
        let mut body = Reader::new(der::only(der::only(message, tag::application(30))?, tag::SEQUENCE)?);
        let pvno = der::integer(body.explicit(0, tag::INTEGER)?)?;
        let msg_type = der::integer(body.explicit(1, tag::INTEGER)?)?;
        if (pvno, msg_type) != (PVNO, MSG_TYPE) {
            return Err(DerError::Value);
        }
        body.explicit_optional(2, tag::GENERALIZED_TIME)?;
        body.explicit_optional(3, tag::INTEGER)?;
        let server_time = der::kerberos_time(body.explicit(4, tag::GENERALIZED_TIME)?)?;
        let server_microseconds = der::unsigned32(body.explicit(5, tag::INTEGER)?)?;
        let code = der::signed32(body.explicit(6, tag::INTEGER)?)?;
        let client_realm = body.explicit_optional(7, tag::GENERAL_STRING)?.map(asn1::text).transpose()?.map(str::to_owned);
        let client = body.optional(tag::context(8))?.map(principal_name).transpose()?;
        let realm = asn1::text(body.explicit(9, tag::GENERAL_STRING)?)?.to_owned();
        let server = principal_name(body.read(tag::context(10))?)?;
        let text = body.explicit_optional(11, tag::GENERAL_STRING)?.map(|text| String::from_utf8_lossy(text).into_owned());
        let data = body.explicit_optional(12, tag::OCTET_STRING)?.map(<[u8]>::to_vec);
        // RFC 1510 had an e-cksum here.
        body.optional(tag::context(13))?;
        body.finish()?;
        Ok(Self { code, server_time, server_microseconds, client_realm, client, realm, server, text, data })
    }

    /// Name of the code.
    pub const fn name(&self) -> &'static str {
        name(self.code)
    }

    /// The NTSTATUS of a Windows (or Samba) KDC or service, if `e-data` holds one.
    pub fn nt_status(&self) -> Option<u32> {
        nt_status(self.data.as_deref()?)
    }

    /// What `e-data` says besides an NTSTATUS, if it says anything.
    pub fn describe_data(&self) -> Option<String> {
        if self.nt_status().is_some() { None } else { error_data::describe(self.data.as_deref()?) }
    }

    /// Whether a new service ticket may help: the service's key changed, or the ticket is over.
    pub const fn reacquire(&self) -> bool {
        matches!(self.code, code::MODIFIED | code::BADKEYVER | code::NOKEY | code::TKT_EXPIRED)
    }
}

fn principal_name(contents: &[u8]) -> Result<PrincipalName, DerError> {
    let mut reader = Reader::new(contents);
    let name = asn1::read_principal_name(&mut reader)?;
    reader.finish()?;
    Ok(name)
}

/// The NTSTATUS in `e-data`, which is one KERB-ERROR-DATA (MS-KILE 2.2.1), a METHOD-DATA or a TYPED-DATA
/// (RFC 4120 sections 5.2.7, 5.9.1).
pub fn nt_status(data: &[u8]) -> Option<u32> {
    let body = Reader::new(der::only(data, tag::SEQUENCE).ok()?);
    if let Some(status) = entry_status(body) {
        return Some(status);
    }
    let mut list = body;
    for _ in 0..MAX_ENTRIES {
        if let Some(status) = entry_status(list.nested(tag::SEQUENCE).ok()?) {
            return Some(status);
        }
    }
    None
}

fn entry_status(fields: Reader<'_>) -> Option<u32> {
    let (kind, value) = error_data::entry(fields).ok()?;
    if kind == EXTENDED { extended_error(value) } else { None }
}

/// KERB_EXT_ERROR (MS-KILE 2.2.2): status, reserved, flags. A salt of the same length has no zeros where `reserved` stands.
fn extended_error(value: &[u8]) -> Option<u32> {
    match value {
        [a, b, c, d, 0, 0, 0, 0, _, _, _, _] => Some(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// Name of an error code, or a word for one that has none.
pub const fn name(code: i32) -> &'static str {
    match known_name(code) {
        Some(name) => name,
        None => "unknown error code",
    }
}

/// Name of an error code (RFC 4120 section 7.5.9, RFC 4556 section 3.1.3, RFC 6113 section 5).
pub const fn known_name(code: i32) -> Option<&'static str> {
    Some(match code {
        0 => "KDC_ERR_NONE",
        1 => "KDC_ERR_NAME_EXP",
        2 => "KDC_ERR_SERVICE_EXP",
        3 => "KDC_ERR_BAD_PVNO",
        4 => "KDC_ERR_C_OLD_MAST_KVNO",
        5 => "KDC_ERR_S_OLD_MAST_KVNO",
        6 => "KDC_ERR_C_PRINCIPAL_UNKNOWN",
        7 => "KDC_ERR_S_PRINCIPAL_UNKNOWN",
        8 => "KDC_ERR_PRINCIPAL_NOT_UNIQUE",
        9 => "KDC_ERR_NULL_KEY",
        10 => "KDC_ERR_CANNOT_POSTDATE",
        11 => "KDC_ERR_NEVER_VALID",
        12 => "KDC_ERR_POLICY",
        13 => "KDC_ERR_BADOPTION",
        14 => "KDC_ERR_ETYPE_NOSUPP",
        15 => "KDC_ERR_SUMTYPE_NOSUPP",
        16 => "KDC_ERR_PADATA_TYPE_NOSUPP",
        17 => "KDC_ERR_TRTYPE_NOSUPP",
        18 => "KDC_ERR_CLIENT_REVOKED",
        19 => "KDC_ERR_SERVICE_REVOKED",
        20 => "KDC_ERR_TGT_REVOKED",
        21 => "KDC_ERR_CLIENT_NOTYET",
        22 => "KDC_ERR_SERVICE_NOTYET",
        23 => "KDC_ERR_KEY_EXPIRED",
        24 => "KDC_ERR_PREAUTH_FAILED",
        25 => "KDC_ERR_PREAUTH_REQUIRED",
        26 => "KDC_ERR_SERVER_NOMATCH",
        27 => "KDC_ERR_MUST_USE_USER2USER",
        28 => "KDC_ERR_PATH_NOT_ACCEPTED",
        29 => "KDC_ERR_SVC_UNAVAILABLE",
        31 => "KRB_AP_ERR_BAD_INTEGRITY",
        32 => "KRB_AP_ERR_TKT_EXPIRED",
        33 => "KRB_AP_ERR_TKT_NYV",
        34 => "KRB_AP_ERR_REPEAT",
        35 => "KRB_AP_ERR_NOT_US",
        36 => "KRB_AP_ERR_BADMATCH",
        37 => "KRB_AP_ERR_SKEW",
        38 => "KRB_AP_ERR_BADADDR",
        39 => "KRB_AP_ERR_BADVERSION",
        40 => "KRB_AP_ERR_MSG_TYPE",
        41 => "KRB_AP_ERR_MODIFIED",
        42 => "KRB_AP_ERR_BADORDER",
        44 => "KRB_AP_ERR_BADKEYVER",
        45 => "KRB_AP_ERR_NOKEY",
        46 => "KRB_AP_ERR_MUT_FAIL",
        47 => "KRB_AP_ERR_BADDIRECTION",
        48 => "KRB_AP_ERR_METHOD",
        49 => "KRB_AP_ERR_BADSEQ",
        50 => "KRB_AP_ERR_INAPP_CKSUM",
        51 => "KRB_AP_PATH_NOT_ACCEPTED",
        52 => "KRB_ERR_RESPONSE_TOO_BIG",
        60 => "KRB_ERR_GENERIC",
        61 => "KRB_ERR_FIELD_TOOLONG",
        62 => "KDC_ERR_CLIENT_NOT_TRUSTED",
        63 => "KDC_ERR_KDC_NOT_TRUSTED",
        64 => "KDC_ERR_INVALID_SIG",
        65 => "KDC_ERR_KEY_TOO_WEAK",
        66 => "KDC_ERR_CERTIFICATE_MISMATCH",
        67 => "KRB_AP_ERR_NO_TGT",
        68 => "KDC_ERR_WRONG_REALM",
        69 => "KRB_AP_ERR_USER_TO_USER_REQUIRED",
        70 => "KDC_ERR_CANT_VERIFY_CERTIFICATE",
        71 => "KDC_ERR_INVALID_CERTIFICATE",
        72 => "KDC_ERR_REVOKED_CERTIFICATE",
        73 => "KDC_ERR_REVOCATION_STATUS_UNKNOWN",
        74 => "KDC_ERR_REVOCATION_STATUS_UNAVAILABLE",
        75 => "KDC_ERR_CLIENT_NAME_MISMATCH",
        76 => "KDC_ERR_KDC_NAME_MISMATCH",
        77 => "KDC_ERR_INCONSISTENT_KEY_PURPOSE",
        90 => "KDC_ERR_PREAUTH_EXPIRED",
        91 => "KDC_ERR_MORE_PREAUTH_DATA_REQUIRED",
        93 => "KDC_ERR_UNKNOWN_CRITICAL_FAST_OPTIONS",
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests;
