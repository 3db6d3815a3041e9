//! The types that Kerberos messages share, as DER (RFC 4120 section 5.2): names, realms, keys, encrypted data.

use crate::der::{self, DerError, Reader, tag};
use crate::naming::name::PrincipalName;

/// More components than any name has; a bound for what a peer's name may allocate.
const MAX_COMPONENTS: usize = 32;

/// EncryptedData (RFC 4120 section 5.2.9), borrowed from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedData<'a> {
    /// encryption type, also one we do not know
    pub etype: i32,
    /// version of the key, where there is one
    pub kvno: Option<u32>,
    /// ciphertext with its MAC
    pub cipher: &'a [u8],
}

impl<'a> EncryptedData<'a> {
    /// Reads the element.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, DerError> {
        let mut fields = reader.nested(tag::SEQUENCE)?;
        let etype = der::signed32(fields.explicit(0, tag::INTEGER)?)?;
        let kvno = fields.explicit_optional(1, tag::INTEGER)?.map(der::unsigned32).transpose()?;
        let cipher = fields.explicit(2, tag::OCTET_STRING)?;
        fields.finish()?;
        Ok(Self { etype, kvno, cipher })
    }
}

/// Reads a PrincipalName element (RFC 4120 section 5.2.2).
pub fn read_principal_name(reader: &mut Reader<'_>) -> Result<PrincipalName, DerError> {
    let mut fields = reader.nested(tag::SEQUENCE)?;
    let name_type = der::signed32(fields.explicit(0, tag::INTEGER)?)?;
    let mut strings = Reader::new(fields.explicit(1, tag::SEQUENCE)?);
    fields.finish()?;
    let mut components = Vec::new();
    while !strings.is_empty() {
        if components.len() == MAX_COMPONENTS {
            return Err(DerError::Value);
        }
        components.push(text(strings.read(tag::GENERAL_STRING)?)?.into());
    }
    Ok(PrincipalName { name_type, components })
}

/// Contents octets of a KerberosString. Like everybody else's, ours are UTF-8 under the tag of a GeneralString.
pub fn text(contents: &[u8]) -> Result<&str, DerError> {
    std::str::from_utf8(contents).map_err(|_| DerError::Value)
}

/// Appends a PrincipalName element.
pub fn write_principal_name(out: &mut Vec<u8>, name: &PrincipalName) {
    let strings: usize = name.components.iter().map(|text| element_length(text.len())).sum();
    let name_type = element_length(integer_length(i64::from(name.name_type)));
    der::write_header(out, tag::SEQUENCE, element_length(name_type) + element_length(element_length(strings)));
    write_explicit_integer(out, 0, i64::from(name.name_type));
    der::write_header(out, tag::context(1), element_length(strings));
    der::write_header(out, tag::SEQUENCE, strings);
    for component in &name.components {
        der::write(out, tag::GENERAL_STRING, component.as_bytes());
    }
}

/// Appends `[n] INTEGER`.
pub fn write_explicit_integer(out: &mut Vec<u8>, n: u8, value: i64) {
    der::write_header(out, tag::context(n), element_length(integer_length(value)));
    der::write_integer(out, value);
}

/// Appends `[n]` and an element of this tag and contents.
pub fn write_explicit(out: &mut Vec<u8>, n: u8, inner: u8, contents: &[u8]) {
    der::write_header(out, tag::context(n), element_length(contents.len()));
    der::write(out, inner, contents);
}

/// Length of a whole element with contents of this length.
pub const fn element_length(contents: usize) -> usize {
    der::header_length(contents) + contents
}

/// Length of the contents of an INTEGER.
pub const fn integer_length(value: i64) -> usize {
    let magnitude = if value < 0 { !value } else { value };
    let bits = 64 - magnitude.leading_zeros() as usize;
    bits / 8 + 1
}

/// Contents of an EncryptionKey (RFC 4120 section 5.2.9): its encryption type, also one we do not know, and its bytes.
pub fn key_fields(contents: &[u8]) -> Result<(i32, &[u8]), DerError> {
    let mut fields = Reader::new(contents);
    let etype = der::signed32(fields.explicit(0, tag::INTEGER)?)?;
    let value = fields.explicit(1, tag::OCTET_STRING)?;
    fields.finish()?;
    Ok((etype, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naming::name::name_type;

    #[test]
    fn an_enterprise_name_stays_one_component() {
        let name = PrincipalName { name_type: name_type::ENTERPRISE, components: vec!["zoë@mail.example".into()] };
        let mut out = Vec::new();
        write_principal_name(&mut out, &name);
        assert_eq!(read_principal_name(&mut Reader::new(&out)), Ok(name));
    }

    #[test]
    fn a_name_that_is_not_utf8_is_refused() {
        let name = [0x30, 0x0C, 0xA0, 3, 2, 1, 1, 0xA1, 5, 0x30, 3, 0x1B, 1, 0xFF];
        assert_eq!(read_principal_name(&mut Reader::new(&name)), Err(DerError::Value));
    }

    proptest! {
        #[test]
        fn every_name_is_read_as_it_was_written(name_type: i32, components in proptest::collection::vec(".{0,200}", 0..4)) {
            let name = PrincipalName { name_type, components: components.into_iter().map(Into::into).collect() };
            let mut out = Vec::new();
            write_principal_name(&mut out, &name);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(read_principal_name(&mut reader), Ok(name));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn the_length_of_an_integer_is_what_is_written(value: i64) {
            let mut out = Vec::new();
            der::write_integer(&mut out, value);
            prop_assert_eq!(out.len(), element_length(integer_length(value)));
        }
    }
}
