//! LDAP messages as bytes (RFC 4511 section 5.1: BER with definite lengths).
//!
//! Active Directory writes lengths in four octets even where one would do, so the strict DER reader does not fit. What is
//! read here is as strict otherwise: definite lengths, low tag numbers, nothing missing and nothing left over.

use thiserror::Error;

use crate::der::tag::{ENUMERATED, INTEGER, OCTET_STRING, SEQUENCE, application, context};

/// SET OF
const SET: u8 = 0x31;
/// BindResponse
pub(super) const BIND_RESPONSE: u8 = application(1);
const ENTRY: u8 = application(4);
const DONE: u8 = application(5);
const REFERENCE: u8 = application(19);
/// ExtendedResponse
pub(super) const EXTENDED_RESPONSE: u8 = application(24);

/// The peer's bytes are no LDAP message, or not one that may come now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Malformed {
    #[error("malformed BER")]
    Ber,
    #[error("an LDAP message of another form than asked for")]
    Form,
    #[error("more bytes than are taken for one answer")]
    TooLarge,
    #[error("bytes that nobody asked for")]
    Unasked,
}

/// Tag, octets of the header and octets of the contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) tag: u8,
    pub(super) header: usize,
    pub(super) contents: usize,
}

impl Header {
    /// Reads a header; none: more bytes are needed.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let [tag, first, rest @ ..] = bytes else { return Ok(None) };
        if tag & 0x1F == 0x1F {
            return Err(Malformed::Ber);
        }
        if *first < 0x80 {
            return Ok(Some(Self { tag: *tag, header: 2, contents: usize::from(*first) }));
        }
        let count = usize::from(first & 0x7F);
        if !(1..=4).contains(&count) {
            return Err(Malformed::Ber);
        }
        let Some(octets) = rest.get(..count) else { return Ok(None) };
        let contents = octets.iter().fold(0_usize, |sum, &octet| (sum << 8) | usize::from(octet));
        Ok(Some(Self { tag: *tag, header: 2 + count, contents }))
    }

    /// Octets of the whole element.
    pub(super) const fn total(&self) -> usize {
        self.header.saturating_add(self.contents)
    }
}

/// A cursor over elements.
#[derive(Clone, Copy, Debug)]
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    fn any(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        let header = Header::read(self.0)?.ok_or(Malformed::Ber)?;
        let (element, rest) = self.0.split_at_checked(header.total()).ok_or(Malformed::Ber)?;
        self.0 = rest;
        Ok((header.tag, element.get(header.header..).ok_or(Malformed::Ber)?))
    }

    fn read(&mut self, expected: u8) -> Result<&'a [u8], Malformed> {
        let (tag, contents) = self.any()?;
        if tag == expected { Ok(contents) } else { Err(Malformed::Form) }
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.read(OCTET_STRING)?).map_err(|_| Malformed::Form)
    }

    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn finish(&self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed::Form) }
    }
}

/// How the server answered (LDAPResult, RFC 4511 section 4.1.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) code: u32,
    pub(super) diagnostic: String,
}

/// The answer to a bind or an extended request with this message number.
pub(super) fn response(message: &[u8], number: u8, operation: u8) -> Result<Outcome, Malformed> {
    let mut all = Elements(message);
    let mut body = Elements(all.read(SEQUENCE)?);
    all.finish()?;
    if body.read(INTEGER)? != [number] {
        return Err(Malformed::Form);
    }
    let mut result = Elements(body.read(operation)?);
    outcome(&mut result)
}

fn outcome(result: &mut Elements<'_>) -> Result<Outcome, Malformed> {
    let code = match *result.read(ENUMERATED)? {
        [code] => u32::from(code),
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        _ => return Err(Malformed::Form),
    };
    result.text()?;
    let diagnostic = result.text()?.trim_end_matches('\0').to_owned();
    Ok(Outcome { code, diagnostic })
}

/// Whether a whole message is a part of an answer to a search, in exactly its form: an entry, a reference or the end. Anything
/// else is refused before a parser sees it that recurses as deep as the peer nests, or panics where an element is missing.
pub(super) fn check_answer(message: &[u8]) -> Result<(), Malformed> {
    let mut all = Elements(message);
    let mut body = Elements(all.read(SEQUENCE)?);
    all.finish()?;
    match *body.read(INTEGER)? {
        // Zero would be an unsolicited notification (section 4.4): the server is about to close.
        [0] => return Err(Malformed::Unasked),
        [first, ..] if first & 0x80 == 0 => {}
        _ => return Err(Malformed::Form),
    }
    let (operation, contents) = body.any()?;
    // No control is sent that is answered with one.
    body.finish()?;
    let mut contents = Elements(contents);
    match operation {
        ENTRY => check_entry(&mut contents),
        REFERENCE => check_references(contents),
        DONE => {
            outcome(&mut contents)?;
            if !contents.is_empty() {
                check_references(Elements(contents.read(context(3))?))?;
            }
            contents.finish()
        }
        _ => Err(Malformed::Form),
    }
}

fn check_entry(entry: &mut Elements<'_>) -> Result<(), Malformed> {
    entry.text()?;
    let mut attributes = Elements(entry.read(SEQUENCE)?);
    entry.finish()?;
    while !attributes.is_empty() {
        let mut attribute = Elements(attributes.read(SEQUENCE)?);
        attribute.text()?;
        let mut values = Elements(attribute.read(SET)?);
        attribute.finish()?;
        while !values.is_empty() {
            values.read(OCTET_STRING)?;
        }
    }
    Ok(())
}

fn check_references(mut references: Elements<'_>) -> Result<(), Malformed> {
    while !references.is_empty() {
        references.text()?;
    }
    Ok(())
}

/// StartTLS (RFC 4511 section 4.14.1) as message 1.
pub(super) fn start_tls() -> Vec<u8> {
    let mut request = Vec::new();
    crate::der::write(&mut request, crate::der::tag::context_primitive(0), b"1.3.6.1.4.1.1466.20037");
    let mut body = vec![INTEGER, 1, 1];
    crate::der::write(&mut body, application(23), &request);
    let mut message = Vec::new();
    crate::der::write(&mut message, SEQUENCE, &body);
    message
}

/// A simple bind (RFC 4511 section 4.2) as message 1, written once into memory that is wiped.
pub(super) fn simple_bind(user: &str, password: &[u8]) -> zeroize::Zeroizing<Vec<u8>> {
    use crate::der::{header_length, tag::context_primitive, write, write_header};
    let bind = 3 + header_length(user.len()) + user.len() + header_length(password.len()) + password.len();
    let body = 3 + header_length(bind) + bind;
    let mut message = zeroize::Zeroizing::new(Vec::with_capacity(header_length(body) + body));
    write_header(&mut message, SEQUENCE, body);
    message.extend_from_slice(&[INTEGER, 1, 1]);
    write_header(&mut message, application(0), bind);
    message.extend_from_slice(&[INTEGER, 1, 3]);
    write(&mut message, OCTET_STRING, user.as_bytes());
    write(&mut message, context_primitive(0), password);
    message
}
