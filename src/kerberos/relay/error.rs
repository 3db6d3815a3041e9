//! The relay's own KRB-ERRORs, and what it reads of a KDC's (RFC 4120 section 5.9.1, MS-KILE 2.2.1, 2.2.2).

use std::time::{SystemTime, UNIX_EPOCH};

use crate::der::{self, DerError, Reader, tag};
use crate::kerberos::relay::request::KdcRequest;

/// Codes the relay acts on (RFC 4120 section 7.5.9, RFC 6806).
pub(super) mod code {
    /// KDC_ERR_PREAUTH_REQUIRED: the usual first answer to an AS-REQ
    pub(in super::super) const PREAUTH_REQUIRED: i32 = 25;
    /// KDC_ERR_SVC_UNAVAILABLE
    pub(in super::super) const SERVICE_UNAVAILABLE: i32 = 29;
    /// KRB_ERR_RESPONSE_TOO_BIG: ask again by TCP
    pub(in super::super) const RESPONSE_TOO_BIG: i32 = 52;
    /// KDC_ERR_WRONG_REALM: the client's realm stands in the error
    pub(in super::super) const WRONG_REALM: i32 = 68;
}

/// KERB_ERR_TYPE_EXTENDED (MS-KILE 2.2.1)
const ERROR_DATA_EXTENDED: i64 = 3;

/// What the relay reads of a KRB-ERROR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KdcError {
    pub(super) code: i32,
    /// The KDC's clock, seconds since 1970.
    pub(super) time: i64,
    /// Client's realm, where KDC_ERR_WRONG_REALM says it.
    pub(super) client_realm: Option<String>,
    pub(super) text: String,
    pub(super) ntstatus: Option<u32>,
}

impl KdcError {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DerError> {
        let mut fields = Reader::new(der::only(Reader::new(bytes).read(tag::application(30))?, tag::SEQUENCE)?);
        fields.read(tag::context(0))?;
        fields.read(tag::context(1))?;
        fields.optional(tag::context(2))?;
        fields.optional(tag::context(3))?;
        let time = der::kerberos_time(fields.explicit(4, tag::GENERALIZED_TIME)?)?;
        fields.read(tag::context(5))?;
        let code = der::signed32(fields.explicit(6, tag::INTEGER)?)?;
        let lossy = |contents| String::from_utf8_lossy(contents).into_owned();
        let client_realm = fields.explicit_optional(7, tag::GENERAL_STRING)?.map(lossy);
        fields.optional(tag::context(8))?;
        fields.read(tag::context(9))?;
        fields.read(tag::context(10))?;
        let text = fields.explicit_optional(11, tag::GENERAL_STRING)?.map(lossy).unwrap_or_default();
        let data = fields.explicit_optional(12, tag::OCTET_STRING)?;
        Ok(Self { code, time, client_realm, text, ntstatus: data.and_then(|data| ntstatus(data).ok().flatten()) })
    }
}

impl KdcError {
    /// The KDC's clock minus ours, in seconds.
    pub(super) fn skew(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.time.saturating_sub(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
    }
}

/// KERB-ERROR-DATA holding a KERB_EXT_ERROR.
fn ntstatus(data: &[u8]) -> Result<Option<u32>, DerError> {
    let mut fields = Reader::new(der::only(data, tag::SEQUENCE)?);
    let kind = der::integer(fields.explicit(1, tag::INTEGER)?)?;
    let value = fields.explicit_optional(2, tag::OCTET_STRING)?;
    let status = value.and_then(<[u8]>::first_chunk::<4>).copied().map(u32::from_le_bytes);
    Ok(status.filter(|status| kind == ERROR_DATA_EXTENDED && *status != 0))
}

/// A KRB-ERROR in answer to `request`, with the relay's own words.
pub(super) fn answer(request: &KdcRequest, code: i32, words: &str) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut fields = Vec::with_capacity(256);
    let integer = |fields: &mut Vec<u8>, n, value| {
        let mut inner = Vec::with_capacity(10);
        der::write_integer(&mut inner, value);
        der::write(fields, tag::context(n), &inner);
    };
    integer(&mut fields, 0, 5);
    integer(&mut fields, 1, 30);
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    explicit(&mut fields, 4, tag::GENERALIZED_TIME, &der::format_kerberos_time(seconds));
    integer(&mut fields, 5, i64::from(now.subsec_micros()));
    integer(&mut fields, 6, i64::from(code));
    explicit(&mut fields, 9, tag::GENERAL_STRING, request.realm.as_bytes());
    let mut sname = Vec::new();
    let mut strings = Vec::new();
    let (name_type, components) = request.sname.as_ref().map_or((0, &[][..]), |name| (name.name_type, &name.components[..]));
    integer(&mut sname, 0, i64::from(name_type));
    for component in components {
        der::write(&mut strings, tag::GENERAL_STRING, component.as_bytes());
    }
    explicit(&mut sname, 1, tag::SEQUENCE, &strings);
    explicit(&mut fields, 10, tag::SEQUENCE, &sname);
    explicit(&mut fields, 11, tag::GENERAL_STRING, words.as_bytes());
    let mut sequence = Vec::with_capacity(fields.len() + 6);
    der::write(&mut sequence, tag::SEQUENCE, &fields);
    let mut message = Vec::with_capacity(sequence.len() + 6);
    der::write(&mut message, tag::application(30), &sequence);
    message
}

fn explicit(out: &mut Vec<u8>, n: u8, inner: u8, contents: &[u8]) {
    der::write_header(out, tag::context(n), der::header_length(contents.len()) + contents.len());
    der::write(out, inner, contents);
}
