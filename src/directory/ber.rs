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
    pub(super) prefix: usize,
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
            return Ok(Some(Self { tag: *tag, prefix: 2, contents: usize::from(*first) }));
        }
        let count = usize::from(first & 0x7F);
        if !(1..=4).contains(&count) {
            return Err(Malformed::Ber);
        }
        let Some(octets) = rest.get(..count) else { return Ok(None) };
        let contents = octets.iter().fold(0_usize, |sum, &octet| (sum << 8) | usize::from(octet));
        Ok(Some(Self { tag: *tag, prefix: 2 + count, contents }))
    }

    /// Octets of the whole element.
    pub(super) const fn total(&self) -> usize {
        self.prefix.saturating_add(self.contents)
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
        Ok((header.tag, element.get(header.prefix..).ok_or(Malformed::Ber)?))
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

/// A message of an answer to a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The question's number.
    pub(super) number: u32,
    /// It is the end of the answer.
    pub(super) last: bool,
}

/// Whether a whole message is a part of an answer to a search, in exactly its form: an entry, a reference or the end. Anything
/// else is refused before a parser sees it that recurses as deep as the peer nests, or panics where an element is missing.
pub(super) fn check_answer(message: &[u8]) -> Result<Part, Malformed> {
    let mut all = Elements(message);
    let mut body = Elements(all.read(SEQUENCE)?);
    all.finish()?;
    // Zero would be an unsolicited notification (section 4.4): its operation is another one.
    let number = body.read(INTEGER)?;
    if number.len() > 4 || number.first().is_none_or(|first| first & 0x80 != 0) {
        return Err(Malformed::Form);
    }
    let number = number.iter().fold(0, |sum: u32, &octet| (sum << 8) | u32::from(octet));
    let (operation, contents) = body.any()?;
    // No control is sent that is answered with one.
    body.finish()?;
    let mut contents = Elements(contents);
    match operation {
        ENTRY => check_entry(&mut contents)?,
        REFERENCE => check_references(contents)?,
        DONE => {
            outcome(&mut contents)?;
            if !contents.is_empty() {
                check_references(Elements(contents.read(context(3))?))?;
            }
            contents.finish()?;
        }
        _ => return Err(Malformed::Form),
    }
    Ok(Part { number, last: operation == DONE })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::der::write;
    use crate::directory::testkit::{done, element, entry, message_of, reference, result};

    fn passes(message: &[u8], number: u32, last: bool) {
        assert_eq!(check_answer(message), Ok(Part { number, last }));
    }

    #[test]
    fn the_parts_of_an_answer_pass_with_their_number() {
        let shown = entry("CN=a", &[("mail", vec![b"a@b".to_vec(), vec![0xFF]]), ("title", Vec::new())]);
        passes(&message_of(2, &shown), 2, false);
        passes(&message_of(70_000, &entry("", &[])), 70_000, false);
        passes(&message_of(3, &reference("ldap://a/DC=b")), 3, false);
        passes(&message_of(4, &done(0)), 4, true);
        let referred = [vec![ENUMERATED, 1, 10, 4, 0, 4, 0], element(context(3), &element(OCTET_STRING, b"ldap://a"))].concat();
        passes(&message_of(5, &element(DONE, &referred)), 5, true);
    }

    #[test]
    fn lengths_of_four_octets_pass_as_active_directory_writes_them() {
        let long = |tag: u8, contents: &[u8]| {
            let length = u32::try_from(contents.len()).unwrap().to_be_bytes();
            [&[tag, 0x84][..], &length, contents].concat()
        };
        let result = [vec![ENUMERATED, 1, 0], long(OCTET_STRING, b""), long(OCTET_STRING, b"")].concat();
        let message = long(SEQUENCE, &[vec![INTEGER, 1, 2], long(DONE, &result)].concat());
        passes(&message, 2, true);
    }

    #[test]
    fn anything_else_is_refused() {
        let controls = element(context(0), b"");
        let with_controls = element(SEQUENCE, &[vec![INTEGER, 1, 2], done(0), controls].concat());
        let attribute = |set: u8| {
            let parts = [element(OCTET_STRING, b"mail"), element(set, b"")].concat();
            let entry = [element(OCTET_STRING, b""), element(SEQUENCE, &element(SEQUENCE, &parts))].concat();
            message_of(2, &element(ENTRY, &entry))
        };
        assert!(check_answer(&attribute(SET)).is_ok());
        let table = [
            Vec::new(),
            message_of(-1, &done(0)),
            message_of(1 << 32, &done(0)),
            with_controls,
            attribute(SEQUENCE),
            message_of(2, &result(BIND_RESPONSE, 0, "")),
            message_of(2, &result(EXTENDED_RESPONSE, 0, "")),
            message_of(2, &element(ENTRY, &element(OCTET_STRING, b""))),
            message_of(2, &element(ENTRY, &[element(OCTET_STRING, b"\xff"), element(SEQUENCE, b"")].concat())),
            message_of(2, &element(DONE, &[ENUMERATED, 1, 0, 4, 0])),
            message_of(2, &element(DONE, &[ENUMERATED, 1, 0, 4, 0, 4, 0, 4, 0])),
            message_of(2, &element(DONE, &[INTEGER, 1, 0, 4, 0, 4, 0])),
            message_of(2, &element(REFERENCE, &element(INTEGER, &[1]))),
            [message_of(2, &done(0)), vec![0]].concat(),
            element(SET, &[vec![INTEGER, 1, 2], done(0)].concat()),
        ];
        for message in table {
            assert!(check_answer(&message).is_err(), "{message:02x?}");
        }
    }

    #[test]
    fn a_header_waits_for_its_bytes_and_refuses_what_has_no_length() {
        for more in [&[][..], &[0x30], &[0x30, 0x82], &[0x30, 0x82, 1]] {
            assert_eq!(Header::read(more), Ok(None), "{more:?}");
        }
        for bad in [&[0x30, 0x80][..], &[0x30, 0x85, 0, 0, 0, 0, 1], &[0x1F, 0x01], &[0x30, 0xFF]] {
            assert_eq!(Header::read(bad), Err(Malformed::Ber), "{bad:?}");
        }
        assert_eq!(Header::read(&[0x30, 0x82, 0, 5, 9]), Ok(Some(Header { tag: 0x30, prefix: 4, contents: 5 })));
    }

    #[test]
    fn requests_are_what_rfc_4511_says_they_are() {
        assert_eq!(start_tls(), b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037");
        let bind = simple_bind("a@b", b"secret");
        assert_eq!(*bind, b"\x30\x15\x02\x01\x01\x60\x10\x02\x01\x03\x04\x03a@b\x80\x06secret".to_vec());
        let long = [b'x'; 300];
        let bind = simple_bind("CN=svc", &long);
        assert_eq!((bind.capacity(), Header::read(&bind).unwrap().unwrap().total()), (bind.len(), bind.len()));
    }

    #[test]
    fn an_answer_to_a_bind_is_one_with_its_number_and_form() {
        let outcome = |code, diagnostic: &str| Ok(Outcome { code, diagnostic: diagnostic.into() });
        assert_eq!(response(&message_of(1, &result(BIND_RESPONSE, 49, "data 52e\0")), 1, BIND_RESPONSE), outcome(49, "data 52e"));
        let mut sasl = vec![ENUMERATED, 1, 0, 4, 0, 4, 0];
        write(&mut sasl, 0x87, b"server credentials");
        assert_eq!(response(&message_of(1, &element(BIND_RESPONSE, &sasl)), 1, BIND_RESPONSE), outcome(0, ""));
        for (number, operation) in [(2, BIND_RESPONSE), (1, EXTENDED_RESPONSE), (0, EXTENDED_RESPONSE)] {
            assert!(response(&message_of(number, &result(operation, 0, "")), 1, BIND_RESPONSE).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_check(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (check_answer(&bytes), response(&bytes, 1, BIND_RESPONSE), Header::read(&bytes));
        }

        #[test]
        fn what_passes_is_what_the_library_reads(at in any::<prop::sample::Index>(), octet in any::<u8>()) {
            let shown = entry("CN=a", &[("mail", vec![b"a@b".to_vec()]), ("title", Vec::new())]);
            let result = [vec![ENUMERATED, 1, 10, 4, 0, 4, 0], element(context(3), &element(OCTET_STRING, b"ldap://a"))].concat();
            for operation in [shown, element(DONE, &result), reference("ldap://a")] {
                let mut message = message_of(2, &operation);
                let at = at.index(message.len());
                message[at] = octet;
                if check_answer(&message).is_ok() {
                    let (rest, tag) = ldap3::asn1::parse_tag(&message).unwrap();
                    prop_assert!(rest.is_empty());
                    let operation = tag.expect_constructed().unwrap().swap_remove(1);
                    match operation.id {
                        4 => prop_assert!(super::super::entry::Entry::read(ldap3::ResultEntry::new(operation)).is_some()),
                        5 => drop(ldap3::result::LdapResult::from(ldap3::asn1::Tag::StructureTag(operation))),
                        id => prop_assert_eq!(id, 19),
                    }
                }
            }
        }
    }
}
