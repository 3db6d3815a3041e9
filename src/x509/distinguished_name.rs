//! Distinguished names as Windows writes them in altSecurityIdentities (MS-PKCA 3.1.5.2.1.3; CertNameToStr's X.500 form with
//! line breaks for separators and without plus signs, each line break then a comma).
//!
//! This text decides whom a certificate stands for, so it is exact: two different names never have the same text, and a name
//! that could be taken for something else has none.

use std::fmt::Write as _;

use thiserror::Error;

use crate::certificate::dotted;
use crate::der::{DerError, Reader, tag};

const SET: u8 = 0x31;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const T61_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const UNIVERSAL_STRING: u8 = 0x1C;
const BMP_STRING: u8 = 0x1E;

/// id-at-commonName 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// More attributes than any real name has.
const MAX_ATTRIBUTES: usize = 64;
/// Longer texts are not compared.
const MAX_LENGTH: usize = 4096;

/// Tags of altSecurityIdentities that a value must not contain: it would say what only the certificate's own fields may say.
const TAGS: [&str; 7] = ["<i>", "<s>", "<sr>", "<ski>", "<sha1-pukey>", "<rfc822>", "<sid>"];

/// A Name, its relative distinguished names in the order of the certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DistinguishedName {
    rdns: Vec<Vec<Attribute>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attribute {
    kind: Box<[u8]>,
    /// none: not a string we can decode
    value: Option<Box<str>>,
}

/// Why a name has no text that could stand for an account.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotComparable {
    /// No attribute at all.
    #[error("the name is empty")]
    Empty,
    /// An attribute's type is not an object identifier in its only encoding, or has an arc beyond 56 bits.
    #[error("an attribute's type is not an object identifier we can write")]
    Kind,
    /// Not a string, or not of the type it says.
    #[error("a value cannot be decoded")]
    Undecodable,
    /// NUL, a line break or another control character.
    #[error("a value holds a control character")]
    Control,
    /// `<S>`, `<SR>` and the like.
    #[error("a value holds a tag of altSecurityIdentities")]
    Tag,
    /// Over 4096 bytes.
    #[error("the name is too long")]
    TooLong,
}

impl DistinguishedName {
    /// The contents of a Name (RFC 5280 section 4.1.2.4). Values that cannot be decoded are kept as such.
    pub(super) fn read(contents: &[u8]) -> Result<Self, DerError> {
        let mut sequence = Reader::new(contents);
        let (mut rdns, mut count) = (Vec::new(), 0);
        while !sequence.is_empty() {
            let mut set = sequence.nested(SET)?;
            let mut rdn = Vec::new();
            while !set.is_empty() {
                count += 1;
                if count > MAX_ATTRIBUTES {
                    return Err(DerError::Value);
                }
                rdn.push(Attribute::read(&mut set)?);
            }
            if rdn.is_empty() {
                return Err(DerError::Truncated);
            }
            rdns.push(rdn);
        }
        Ok(Self { rdns })
    }

    /// No attribute at all, as in certificates whose only names are alternative ones.
    pub fn is_empty(&self) -> bool {
        self.rdns.is_empty()
    }

    /// The text that Windows compares.
    pub fn windows(&self) -> Result<String, NotComparable> {
        if self.rdns.is_empty() {
            return Err(NotComparable::Empty);
        }
        let mut text = String::new();
        for (number, rdn) in self.rdns.iter().enumerate() {
            for (place, attribute) in rdn.iter().enumerate() {
                text.push_str(match (number, place) {
                    (0, 0) => "",
                    (_, 0) => ",",
                    _ => " ",
                });
                attribute.write(&mut text)?;
            }
        }
        if text.len() > MAX_LENGTH { Err(NotComparable::TooLong) } else { Ok(text) }
    }

    /// The one common name.
    pub fn common_name(&self) -> Result<&str, &'static str> {
        let mut names = self.rdns.iter().flatten().filter(|attribute| &*attribute.kind == COMMON_NAME);
        match (names.next(), names.next()) {
            (None, _) => Err("no common name in the subject"),
            (Some(_), Some(_)) => Err("several common names in the subject"),
            (Some(name), None) => name.value.as_deref().ok_or("a common name that cannot be decoded"),
        }
    }
}

impl Attribute {
    fn read(set: &mut Reader<'_>) -> Result<Self, DerError> {
        let mut fields = set.nested(tag::SEQUENCE)?;
        let kind = fields.read(tag::OID)?;
        let (value_tag, value) = fields.any()?;
        fields.finish()?;
        Ok(Self { kind: kind.into(), value: decoded(value_tag, value).map(Into::into) })
    }

    fn write(&self, text: &mut String) -> Result<(), NotComparable> {
        let value = self.value.as_deref().ok_or(NotComparable::Undecodable)?;
        if value.chars().any(char::is_control) {
            return Err(NotComparable::Control);
        }
        let folded = value.to_ascii_lowercase();
        if TAGS.iter().any(|tag| folded.contains(tag)) {
            return Err(NotComparable::Tag);
        }
        match key(&self.kind) {
            Some(key) => text.push_str(key),
            None => {
                let _ = write!(text, "OID.{}", dotted_identifier(&self.kind).ok_or(NotComparable::Kind)?);
            }
        }
        text.push('=');
        if needs_quotes(value) {
            let _ = write!(text, "\"{}\"", value.replace('"', "\"\""));
        } else {
            text.push_str(value);
        }
        Ok(())
    }
}

/// Whether contents octets are an object identifier in its only DER encoding: every arc ends, none begins with padding.
pub(super) fn is_object_identifier(contents: &[u8]) -> bool {
    let before = std::iter::once(&0).chain(contents);
    let padded = contents.iter().zip(before).any(|(octet, before)| *octet == 0x80 && before & 0x80 == 0);
    !padded && contents.last().is_some_and(|last| last & 0x80 == 0)
}

/// With dots, as Windows writes attributes it has no key for; none where an arc is too large for that.
fn dotted_identifier(contents: &[u8]) -> Option<String> {
    Some(dotted(contents)).filter(|text| is_object_identifier(contents) && text.contains('.'))
}

fn decoded(value_tag: u8, value: &[u8]) -> Option<String> {
    let octets = |allowed: fn(&u8) -> bool| {
        value.iter().all(allowed).then(|| value.iter().map(|octet| char::from(*octet)).collect::<String>())
    };
    match value_tag {
        tag::UTF8_STRING => std::str::from_utf8(value).ok().map(str::to_owned),
        // Real CAs put '@', '*' and '_' into PrintableStrings.
        PRINTABLE_STRING | IA5_STRING => octets(u8::is_ascii),
        NUMERIC_STRING => octets(|octet| octet.is_ascii_digit() || *octet == b' '),
        // Latin-1 as most read it, UTF-8 as some try first: what is not ASCII and both is neither.
        T61_STRING => octets(|_| true).filter(|text| text.is_ascii() || std::str::from_utf8(value).is_err()),
        BMP_STRING => {
            let (pairs, rest) = value.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            rest.is_empty().then(|| String::from_utf16(&units).ok()).flatten()
        }
        UNIVERSAL_STRING => {
            let (quads, rest) = value.as_chunks::<4>();
            let text: Option<String> = quads.iter().map(|quad| char::from_u32(u32::from_be_bytes(*quad))).collect();
            text.filter(|_| rest.is_empty())
        }
        _ => None,
    }
}

/// Keys of CertNameToStr's X.500 form.
fn key(kind: &[u8]) -> Option<&'static str> {
    Some(match kind {
        [0x55, 0x04, 3] => "CN",
        [0x55, 0x04, 4] => "SN",
        [0x55, 0x04, 5] => "SERIALNUMBER",
        [0x55, 0x04, 6] => "C",
        [0x55, 0x04, 7] => "L",
        [0x55, 0x04, 8] => "S",
        [0x55, 0x04, 9] => "STREET",
        [0x55, 0x04, 10] => "O",
        [0x55, 0x04, 11] => "OU",
        [0x55, 0x04, 12] => "T",
        [0x55, 0x04, 13] => "Description",
        [0x55, 0x04, 17] => "PostalCode",
        [0x55, 0x04, 18] => "POBox",
        [0x55, 0x04, 20] => "Phone",
        [0x55, 0x04, 42] => "G",
        [0x55, 0x04, 43] => "I",
        [0x55, 0x04, 46] => "dnQualifier",
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x01] => "E",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x19] => "DC",
        _ => return None,
    })
}

/// Windows quotes, it does not escape. Line breaks would need quotes too, but have no text at all.
fn needs_quotes(value: &str) -> bool {
    value.is_empty() || value.starts_with(' ') || value.ends_with(' ') || value.contains([',', '+', '=', '"', '<', '>', '#', ';'])
}

#[cfg(test)]
pub(super) mod tests;
