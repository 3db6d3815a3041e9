//! OCSP responses (RFC 6960 section 4.2), read strictly. Total over strangers' bytes; believes nothing.

use thiserror::Error;

use crate::certificate::Signed;
use crate::der::{self, DerError, Reader, tag};
use crate::revocation::ocsp::request::NONCE;

/// id-pkix-ocsp-basic 1.3.6.1.5.5.7.48.1.1
const BASIC: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// Certificates that may come with a response: a delegate, its CA, and room for some more.
const MAX_CERTIFICATES: usize = 8;
const MAX_EXTENSIONS: usize = 16;

/// Why bytes are not a response that could be judged.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum ResponseError {
    #[error("not an OCSP response: {0}")]
    Der(#[from] DerError),
    #[error("the responder answers \"{0}\"")]
    Status(&'static str),
    #[error("not a basic OCSP response")]
    Kind,
    #[error("more than {MAX_CERTIFICATES} certificates in it")]
    TooManyCertificates,
    #[error("an extension twice, or too many of them")]
    Extensions,
}

/// A BasicOCSPResponse.
#[derive(Debug)]
pub(super) struct Basic<'a> {
    pub(super) signed: Signed<'a>,
    pub(super) responder: ResponderId<'a>,
    /// Seconds since 1970.
    pub(super) produced: i64,
    pub(super) singles: Vec<Single<'a>>,
    pub(super) nonce: Option<&'a [u8]>,
    /// Whether responseExtensions has a critical one that we do not know.
    pub(super) unknown_critical: bool,
    /// DER of each.
    pub(super) certificates: Vec<&'a [u8]>,
}

/// Who says it signed the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponderId<'a> {
    /// Contents of a Name.
    Name(&'a [u8]),
    /// SHA-1 of a public key.
    Key(&'a [u8]),
}

/// A SingleResponse. Times are seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Single<'a> {
    /// Contents of the CertID.
    pub(super) id: &'a [u8],
    pub(super) status: Status,
    pub(super) this_update: i64,
    pub(super) next_update: Option<i64>,
    pub(super) unknown_critical: bool,
}

/// CertStatus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Revoked { since: i64, reason: Option<u8> },
    Unknown,
}

/// One extension: its OID's contents octets, its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extension<'a> {
    pub(super) oid: &'a [u8],
    pub(super) critical: bool,
    pub(super) value: &'a [u8],
}

impl<'a> Basic<'a> {
    /// Reads an OCSPResponse whose status is successful.
    pub(super) fn read(response: &'a [u8]) -> Result<Self, ResponseError> {
        let mut outer = Reader::new(der::only(response, tag::SEQUENCE)?);
        let status = der::integer(outer.read(tag::ENUMERATED)?)?;
        if status != 0 {
            return Err(ResponseError::Status(status_name(status)));
        }
        let mut bytes = Reader::new(outer.explicit(0, tag::SEQUENCE)?);
        outer.finish()?;
        if bytes.read(tag::OID)? != BASIC {
            return Err(ResponseError::Kind);
        }
        let basic = bytes.read(tag::OCTET_STRING)?;
        bytes.finish()?;

        let mut parts = Reader::new(der::only(basic, tag::SEQUENCE)?);
        let message = parts.rest();
        let data = parts.read(tag::SEQUENCE)?;
        let message = message.get(..message.len() - parts.rest().len()).ok_or(DerError::Truncated)?;
        let algorithm = parts.read(tag::SEQUENCE)?;
        let Some((0, signature)) = parts.read(tag::BIT_STRING)?.split_first() else { return Err(DerError::Value.into()) };
        let certificates = match parts.explicit_optional(0, tag::SEQUENCE)? {
            Some(list) => certificates(list)?,
            None => Vec::new(),
        };
        parts.finish()?;
        Self::data(data, Signed { message, algorithm, signature }, certificates)
    }

    /// ResponseData. Its version is 1, which DER does not encode.
    fn data(data: &'a [u8], signed: Signed<'a>, certificates: Vec<&'a [u8]>) -> Result<Self, ResponseError> {
        let mut fields = Reader::new(data);
        let responder = match fields.any()? {
            (kind, name) if kind == tag::context(1) => ResponderId::Name(der::only(name, tag::SEQUENCE)?),
            (kind, key) if kind == tag::context(2) => ResponderId::Key(der::only(key, tag::OCTET_STRING)?),
            (found, _) => return Err(DerError::UnexpectedTag { expected: tag::context(1), found }.into()),
        };
        let produced = time(fields.read(tag::GENERALIZED_TIME)?)?;
        let mut list = fields.nested(tag::SEQUENCE)?;
        let mut singles = Vec::new();
        while !list.is_empty() {
            singles.push(Single::read(list.read(tag::SEQUENCE)?)?);
        }
        let (mut nonce, mut unknown_critical) = (None, false);
        if let Some(list) = fields.explicit_optional(1, tag::SEQUENCE)? {
            for extension in extensions(list)? {
                match extension.oid {
                    NONCE => nonce = Some(der::only(extension.value, tag::OCTET_STRING)?),
                    _ => unknown_critical |= extension.critical,
                }
            }
        }
        fields.finish()?;
        Ok(Self { signed, responder, produced, singles, nonce, unknown_critical, certificates })
    }
}

impl<'a> Single<'a> {
    fn read(contents: &'a [u8]) -> Result<Self, ResponseError> {
        const GOOD: u8 = tag::context_primitive(0);
        const REVOKED: u8 = tag::context(1);
        const UNKNOWN: u8 = tag::context_primitive(2);
        let mut fields = Reader::new(contents);
        let id = fields.read(tag::SEQUENCE)?;
        let status = match fields.any()? {
            (GOOD, []) => Status::Good,
            (UNKNOWN, []) => Status::Unknown,
            (REVOKED, info) => revoked(info)?,
            (found, _) => return Err(DerError::UnexpectedTag { expected: GOOD, found }.into()),
        };
        let this_update = time(fields.read(tag::GENERALIZED_TIME)?)?;
        let next_update = fields.explicit_optional(0, tag::GENERALIZED_TIME)?.map(time).transpose()?;
        let unknown_critical = match fields.explicit_optional(1, tag::SEQUENCE)? {
            Some(list) => extensions(list)?.iter().any(|extension| extension.critical),
            None => false,
        };
        fields.finish()?;
        Ok(Self { id, status, this_update, next_update, unknown_critical })
    }
}

/// RevokedInfo.
fn revoked(info: &[u8]) -> Result<Status, DerError> {
    let mut fields = Reader::new(info);
    let since = time(fields.read(tag::GENERALIZED_TIME)?)?;
    let reason = match fields.explicit_optional(0, tag::ENUMERATED)? {
        Some(reason) => Some(u8::try_from(der::integer(reason)?).map_err(|_| DerError::Value)?),
        None => None,
    };
    fields.finish()?;
    Ok(Status::Revoked { since, reason })
}

fn certificates(list: &[u8]) -> Result<Vec<&[u8]>, ResponseError> {
    let mut list = Reader::new(list);
    let mut certificates = Vec::new();
    while !list.is_empty() {
        if certificates.len() == MAX_CERTIFICATES {
            return Err(ResponseError::TooManyCertificates);
        }
        let (found, certificate) = list.raw()?;
        if found != tag::SEQUENCE {
            return Err(DerError::UnexpectedTag { expected: tag::SEQUENCE, found }.into());
        }
        certificates.push(certificate);
    }
    Ok(certificates)
}

/// Extensions, none twice.
pub(super) fn extensions(list: &[u8]) -> Result<Vec<Extension<'_>>, ResponseError> {
    let mut list = Reader::new(list);
    let mut extensions: Vec<Extension<'_>> = Vec::new();
    while !list.is_empty() {
        let mut fields = list.nested(tag::SEQUENCE)?;
        let oid = fields.read(tag::OID)?;
        let critical = match fields.optional(tag::BOOLEAN)? {
            None => false,
            Some([0xFF]) => true,
            // DER does not encode a default.
            Some(_) => return Err(DerError::Value.into()),
        };
        let value = fields.read(tag::OCTET_STRING)?;
        fields.finish()?;
        if extensions.len() == MAX_EXTENSIONS || extensions.iter().any(|known| known.oid == oid) {
            return Err(ResponseError::Extensions);
        }
        extensions.push(Extension { oid, critical, value });
    }
    Ok(extensions)
}

/// `YYYYMMDDHHMMSSZ`, a day and second that exist: whatever is written back differently is refused.
fn time(contents: &[u8]) -> Result<i64, DerError> {
    let seconds = der::kerberos_time(contents)?;
    if der::format_kerberos_time(seconds) == contents { Ok(seconds) } else { Err(DerError::Value) }
}

/// OCSPResponseStatus.
const fn status_name(status: i64) -> &'static str {
    match status {
        1 => "malformed request",
        2 => "internal error",
        3 => "try later",
        5 => "signature required",
        6 => "unauthorized",
        _ => "a status that is not defined",
    }
}
