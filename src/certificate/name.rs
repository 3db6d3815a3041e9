//! Distinguished names as text for logs and audit events (RFC 4514). Never parsed back, never compared.

use std::fmt::Write as _;

use crate::certificate::{dotted, hex};
use crate::der::{DerError, Reader, tag};

/// Names longer than this are cut: they come from peers and end up in logs.
const MAX_LENGTH: usize = 1024;

const SET: u8 = 0x31;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const BMP_STRING: u8 = 0x1E;

/// The contents of a Name as RFC 4514 text, last RDN first; a malformed one says so.
pub(crate) fn text(name: &[u8]) -> String {
    let mut text = match rdns(name) {
        Ok(rdns) => rdns.into_iter().rev().collect::<Vec<_>>().join(","),
        Err(_) => "(malformed name)".to_owned(),
    };
    if text.len() > MAX_LENGTH {
        let end = (0..=MAX_LENGTH).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn rdns(name: &[u8]) -> Result<Vec<String>, DerError> {
    let mut sequence = Reader::new(name);
    let mut rdns = Vec::new();
    while !sequence.is_empty() {
        let mut set = sequence.nested(SET)?;
        let mut rdn = String::new();
        while !set.is_empty() {
            let mut attribute = set.nested(tag::SEQUENCE)?;
            let kind = attribute.read(tag::OID)?;
            let (value_tag, value) = attribute.any()?;
            attribute.finish()?;
            let separator = if rdn.is_empty() { "" } else { "+" };
            let _ = write!(rdn, "{separator}{}={}", attribute_name(kind), attribute_value(value_tag, value));
        }
        rdns.push(rdn);
    }
    Ok(rdns)
}

fn attribute_name(oid: &[u8]) -> String {
    let short = match oid {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x05] => "SERIALNUMBER",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "STREET",
        [0x55, 0x04, 0x0A] => "O",
        [0x55, 0x04, 0x0B] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x19] => "DC",
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x01] => "E",
        _ => return dotted(oid),
    };
    short.to_owned()
}

fn attribute_value(value_tag: u8, value: &[u8]) -> String {
    let decoded = match value_tag {
        tag::UTF8_STRING => std::str::from_utf8(value).ok().map(str::to_owned),
        PRINTABLE_STRING | IA5_STRING => std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).map(str::to_owned),
        BMP_STRING => {
            let (pairs, rest) = value.as_chunks::<2>();
            rest.is_empty()
                .then(|| pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect::<Vec<_>>())
                .and_then(|units| String::from_utf16(&units).ok())
        }
        _ => None,
    };
    decoded.map_or_else(|| format!("#{}", hex(value)), |text| escaped(&text))
}

/// RFC 4514 section 2.4; control and other invisible characters as `\XX` octets too.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (index, c) in text.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=')
            || (index == 0 && matches!(c, ' ' | '#'))
            || (index == last && c == ' ');
        if special {
            out.push('\\');
            out.push(c);
        } else if c.is_control() || is_invisible(c) {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|octet| {
                let _ = write!(out, "\\{octet:02X}");
            });
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that change how the rest of a log line looks.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::der;

    fn name(attributes: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (oid, value_tag, value) in attributes {
            let (mut attribute, mut sequence) = (Vec::new(), Vec::new());
            der::write(&mut attribute, tag::OID, oid);
            der::write(&mut attribute, *value_tag, value);
            der::write(&mut sequence, tag::SEQUENCE, &attribute);
            der::write(&mut out, SET, &sequence);
        }
        out
    }

    const DC: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x19];
    const CN: &[u8] = &[0x55, 0x04, 0x03];

    #[test]
    fn a_name_is_written_last_component_first() {
        let name = name(&[(DC, IA5_STRING, b"example"), (DC, IA5_STRING, b"corp"), (CN, tag::UTF8_STRING, "Jürgen".as_bytes())]);
        assert_eq!(text(&name), "CN=Jürgen,DC=corp,DC=example");
    }

    #[test]
    fn separators_line_breaks_and_unknown_types_cannot_forge_a_log_line() {
        let name = name(&[
            (CN, tag::UTF8_STRING, b" a,b=c\r\n "),
            (CN, BMP_STRING, &[0x20, 0x2E, 0, b'x']),
            (&[0x2A, 0x03], tag::OCTET_STRING, &[0xAB]),
        ]);
        assert_eq!(text(&name), "1.2.3=#ab,CN=\\E2\\80\\AEx,CN=\\ a\\,b\\=c\\0D\\0A\\ ");
    }

    #[test]
    fn a_long_name_is_cut() {
        let name = name(&[(CN, tag::UTF8_STRING, "ü".repeat(5000).as_bytes())]);
        assert!(text(&name).len() <= MAX_LENGTH + '…'.len_utf8());
    }

    proptest! {
        #[test]
        fn any_bytes_become_text_without_control_characters(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!text(&bytes).chars().any(char::is_control));
        }
    }
}
