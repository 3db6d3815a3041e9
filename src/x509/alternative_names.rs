//! The names of a SubjectAltName extension (RFC 5280 section 4.2.1.6) that can stand for an account.

use crate::der::{self, DerError, Reader, tag};
use crate::failure::Failure;
use crate::naming::sid::Sid;
use crate::x509::{Upn, malformed};

/// szOID_NT_PRINCIPAL_NAME 1.3.6.1.4.1.311.20.2.3
const PRINCIPAL_NAME: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03];
/// MS-PKCA 3.1.5.2.1.6
const SID_URI: &[u8] = b"tag:microsoft.com,2022-09-14:sid:";

/// More names than any real certificate has.
const MAX_NAMES: usize = 256;

/// Choices of GeneralName.
mod choice {
    use crate::der::tag::{context, context_primitive};

    pub(super) const OTHER_NAME: u8 = context(0);
    pub(super) const RFC822_NAME: u8 = context_primitive(1);
    pub(super) const DNS_NAME: u8 = context_primitive(2);
    pub(super) const X400_ADDRESS: u8 = context(3);
    pub(super) const DIRECTORY_NAME: u8 = context(4);
    pub(super) const EDI_PARTY_NAME: u8 = context(5);
    pub(super) const URI: u8 = context_primitive(6);
    pub(super) const IP_ADDRESS: u8 = context_primitive(7);
    pub(super) const REGISTERED_ID: u8 = context_primitive(8);
}

/// The names that matter; all others are tolerated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AlternativeNames {
    pub(super) upn: Option<Upn>,
    pub(super) sid: Option<Sid>,
    pub(super) rfc822: Vec<String>,
    pub(super) dns: Vec<String>,
}

/// Reads the extension's value. Two UPNs or two SIDs are a refusal, even equal ones.
pub(super) fn read(value: &[u8]) -> Result<AlternativeNames, Failure> {
    let broken = |error: DerError| malformed(format!("subject alternative name: {error}"));
    let mut list = Reader::new(der::only(value, tag::SEQUENCE).map_err(broken)?);
    let mut names = AlternativeNames::default();
    for _ in 0..MAX_NAMES {
        if list.is_empty() {
            return Ok(names);
        }
        match list.any().map_err(broken)? {
            (choice::OTHER_NAME, contents) => {
                let (kind, value) = other_name(contents).map_err(broken)?;
                if kind == PRINCIPAL_NAME && names.upn.replace(principal_name(value)?).is_some() {
                    return Err(malformed("subject alternative name: two user principal names"));
                }
            }
            (choice::URI, contents) => {
                if let Some(sid) = sid_uri(contents)?
                    && names.sid.replace(sid).is_some()
                {
                    return Err(malformed("subject alternative name: two SID URIs"));
                }
            }
            (choice::RFC822_NAME, contents) => names.rfc822.push(plain("e-mail address", contents)?),
            (choice::DNS_NAME, contents) => names.dns.push(plain("DNS name", contents)?),
            (
                choice::X400_ADDRESS
                | choice::DIRECTORY_NAME
                | choice::EDI_PARTY_NAME
                | choice::IP_ADDRESS
                | choice::REGISTERED_ID,
                _,
            ) => {}
            (other, _) => return Err(malformed(format!("subject alternative name: unknown kind of name {other:#04x}"))),
        }
    }
    Err(malformed(format!("subject alternative name: more than {MAX_NAMES} names")))
}

/// `OtherName ::= SEQUENCE { type-id OBJECT IDENTIFIER, value [0] EXPLICIT ANY }`: the type and the element inside `[0]`.
fn other_name(contents: &[u8]) -> Result<(&[u8], &[u8]), DerError> {
    let mut other_name = Reader::new(contents);
    let kind = other_name.read(tag::OID)?;
    let value = other_name.read(tag::context(0))?;
    other_name.finish()?;
    let mut element = Reader::new(value);
    element.any()?;
    element.finish()?;
    Ok((kind, value))
}

/// An IA5String of visible characters: RFC 5280 section 4.2.1.6 lets neither kind of name hold anything else.
fn plain(what: &str, contents: &[u8]) -> Result<String, Failure> {
    let visible = !contents.is_empty() && contents.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(contents).ok().filter(|_| visible);
    text.map(str::to_owned)
        .ok_or_else(|| malformed(format!("subject alternative name: {what} with characters that it cannot have")))
}

/// UTF8String and nothing else.
fn principal_name(element: &[u8]) -> Result<Upn, Failure> {
    let contents = der::only(element, tag::UTF8_STRING)
        .map_err(|error| malformed(format!("user principal name: {error}; it must be a UTF8String")))?;
    let text = std::str::from_utf8(contents).map_err(|_| malformed("user principal name: not valid UTF-8"))?;
    Upn::parse(text).map_err(|why| malformed(format!("user principal name {why}")))
}

/// The SID of a SID URI; none where the URI is about something else. One that differs from it only by case is refused:
/// it might be read as one elsewhere.
fn sid_uri(contents: &[u8]) -> Result<Option<Sid>, Failure> {
    let Some((prefix, sid)) = contents.split_at_checked(SID_URI.len()) else { return Ok(None) };
    if !prefix.eq_ignore_ascii_case(SID_URI) {
        return Ok(None);
    }
    let parsed = std::str::from_utf8(sid).ok().and_then(|text| Sid::parse(text).ok());
    match parsed {
        Some(sid) if prefix == SID_URI => Ok(Some(sid)),
        _ => Err(malformed("subject alternative name: a SID URI that is not tag:microsoft.com,2022-09-14:sid:S-1-…")),
    }
}
