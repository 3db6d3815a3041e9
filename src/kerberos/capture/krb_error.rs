//! A KRB-ERROR with example names: codes, NTSTATUS, times and the structure of e-data stay.

use crate::der::{self, Reader, tag};
use crate::kerberos::wire::asn1;
use crate::kerberos::wire::krb_error::KrbError;

use super::pseudonyms::{AsItIs, Pseudonyms, Substitute, Unreadable};

/// Types of KERB-ERROR-DATA and of PA-DATA (MS-KILE 2.2.1, RFC 4120 section 7.5.2).
const EXTENDED_ERROR: i32 = 3;
const ETYPE_INFO: i32 = 11;
const ETYPE_INFO2: i32 = 19;

/// The message as it can be shown to anybody; it says the same to [`KrbError::parse`], but for names and words.
pub(super) fn redact(message: &[u8], names: &mut Pseudonyms) -> Result<Vec<u8>, Unreadable> {
    let original = KrbError::parse(message)?;
    if copy(message, &mut AsItIs)? != message {
        return Err(Unreadable("a KRB-ERROR that is not written as it came"));
    }
    let redacted = copy(message, names)?;
    let read = KrbError::parse(&redacted)?;
    let says = |error: &KrbError| (error.code, error.nt_status(), error.server_time, error.server_microseconds);
    if says(&read) == says(&original) { Ok(redacted) } else { Err(Unreadable("a KRB-ERROR that would say something else")) }
}

fn copy(message: &[u8], with: &mut dyn Substitute) -> Result<Vec<u8>, Unreadable> {
    let mut fields = Reader::new(der::only(der::only(message, tag::application(30))?, tag::SEQUENCE)?);
    let mut out = Vec::new();
    while !fields.is_empty() {
        let (number, contents) = fields.any()?;
        let mut inner = Reader::new(contents);
        let field = match number & 0x1F {
            0 | 1 | 3 | 5 | 6 => {
                der::integer(der::only(contents, tag::INTEGER)?)?;
                contents.to_vec()
            }
            2 | 4 => {
                der::kerberos_time(der::only(contents, tag::GENERALIZED_TIME)?)?;
                contents.to_vec()
            }
            7 | 9 => element(tag::GENERAL_STRING, with.name(asn1::text(inner.read(tag::GENERAL_STRING)?)?).as_bytes()),
            8 | 10 => {
                let mut name = asn1::read_principal_name(&mut inner)?;
                name.components.iter_mut().for_each(|component| *component = with.name(component).into());
                let mut out = Vec::new();
                asn1::write_principal_name(&mut out, &name);
                out
            }
            11 => element(tag::GENERAL_STRING, &with.words(inner.read(tag::GENERAL_STRING)?)),
            12 => element(tag::OCTET_STRING, &error_data(inner.read(tag::OCTET_STRING)?, with)?),
            _ => return Err(Unreadable("a KRB-ERROR with a field that is not known")),
        };
        der::write(&mut out, number, &field);
    }
    Ok(element(tag::application(30), &element(tag::SEQUENCE, &out)))
}

/// One KERB-ERROR-DATA, or a METHOD-DATA or TYPED-DATA.
fn error_data(data: &[u8], with: &mut dyn Substitute) -> Result<Vec<u8>, Unreadable> {
    let mut list = Reader::new(der::only(data, tag::SEQUENCE)?);
    if list.peek().is_some_and(|first| first != tag::SEQUENCE) {
        return Ok(element(tag::SEQUENCE, &entry(list, with)?));
    }
    let mut out = Vec::new();
    while !list.is_empty() {
        der::write(&mut out, tag::SEQUENCE, &entry(list.nested(tag::SEQUENCE)?, with)?);
    }
    Ok(element(tag::SEQUENCE, &out))
}

/// TYPED-DATA numbers its fields 0 and 1, the others 1 and 2. KERB-ERROR-DATA may have no value.
fn entry(mut fields: Reader<'_>, with: &mut dyn Substitute) -> Result<Vec<u8>, Unreadable> {
    let first = u8::from(fields.peek() != Some(tag::context(0)));
    let kind = der::signed32(fields.explicit(first, tag::INTEGER)?)?;
    let value = fields.explicit_optional(first + 1, tag::OCTET_STRING)?;
    fields.finish()?;
    let mut out = Vec::new();
    asn1::write_explicit_integer(&mut out, first, kind.into());
    if let Some(value) = value {
        let value = match (kind, value) {
            // Status, reserved, flags; anything else of this type is a salt.
            (EXTENDED_ERROR, [_, _, _, _, 0, 0, 0, 0, _, _, _, _]) => value.to_vec(),
            (EXTENDED_ERROR, salt) => with.words(salt),
            (ETYPE_INFO, list) if !list.is_empty() => etype_info(list, tag::OCTET_STRING, with)?,
            (ETYPE_INFO2, list) if !list.is_empty() => etype_info(list, tag::GENERAL_STRING, with)?,
            (_, other) => with.opaque(other),
        };
        asn1::write_explicit(&mut out, first + 1, tag::OCTET_STRING, &value);
    }
    Ok(out)
}

/// ETYPE-INFO and ETYPE-INFO2 (RFC 4120 section 5.2.7): encryption type, salt (realm and name), parameters.
fn etype_info(list: &[u8], salt_tag: u8, with: &mut dyn Substitute) -> Result<Vec<u8>, Unreadable> {
    let mut entries = Reader::new(der::only(list, tag::SEQUENCE)?);
    let mut out = Vec::new();
    while !entries.is_empty() {
        let mut fields = entries.nested(tag::SEQUENCE)?;
        let mut entry = Vec::new();
        asn1::write_explicit_integer(&mut entry, 0, der::signed32(fields.explicit(0, tag::INTEGER)?)?.into());
        if let Some(salt) = fields.explicit_optional(1, salt_tag)? {
            asn1::write_explicit(&mut entry, 1, salt_tag, &with.words(salt));
        }
        if let Some(parameters) = fields.explicit_optional(2, tag::OCTET_STRING)? {
            // A number of iterations.
            let parameters = if parameters.len() == 4 { parameters.to_vec() } else { with.opaque(parameters) };
            asn1::write_explicit(&mut entry, 2, tag::OCTET_STRING, &parameters);
        }
        fields.finish()?;
        der::write(&mut out, tag::SEQUENCE, &entry);
    }
    Ok(element(tag::SEQUENCE, &out))
}

/// One element with these contents.
pub(super) fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    der::write(&mut out, tag, contents);
    out
}
