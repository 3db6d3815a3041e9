//! The SID extension of AD CS (MS-WCCE 2.2.2.7.7.4).

use crate::der::{self, DerError, Reader, tag};
use crate::failure::Failure;
use crate::naming::sid::Sid;
use crate::x509::malformed;

/// szOID_NTDS_OBJECTSID 1.3.6.1.4.1.311.25.2.1
const OBJECT_SID: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];

/// Exactly one otherName that holds the SID's text in an OCTET STRING.
pub(super) fn read(value: &[u8]) -> Result<Sid, Failure> {
    let text = text(value).map_err(|error| malformed(format!("SID extension: {error}")))?;
    std::str::from_utf8(text).ok().and_then(|text| Sid::parse(text).ok()).ok_or_else(|| malformed("SID extension: not a SID"))
}

fn text(value: &[u8]) -> Result<&[u8], DerError> {
    let mut names = Reader::new(der::only(value, tag::SEQUENCE)?);
    let mut other_name = names.nested(tag::context(0))?;
    names.finish()?;
    if other_name.read(tag::OID)? != OBJECT_SID {
        return Err(DerError::Value);
    }
    let text = other_name.explicit(0, tag::OCTET_STRING)?;
    other_name.finish()?;
    Ok(text)
}
