//! GSS-API framing of Kerberos tokens (RFC 2743 section 3.1, RFC 4121 section 4.1).

use crate::der::{self, DerError, Reader, tag};

/// Kerberos V5, 1.2.840.113554.1.2.2, as an element.
pub const KRB5_MECHANISM: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 0x01, 0x02, 0x02];

/// Microsoft's Kerberos, 1.2.840.48018.1.2.2: the same with a digit lost long ago.
pub const MS_KRB5_MECHANISM: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x82, 0xF7, 0x12, 0x01, 0x02, 0x02];

/// NTLMSSP, 1.3.6.1.4.1.311.2.2.10.
pub const NTLMSSP_MECHANISM: &[u8] = &[0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0A];

/// SPNEGO, 1.3.6.1.5.5.2.
pub const SPNEGO_MECHANISM: &[u8] = &[0x06, 0x06, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x02];

/// TOK_ID of an AP-REQ.
pub const AP_REQ: [u8; 2] = [0x01, 0x00];

/// TOK_ID of an AP-REP.
pub const AP_REP: [u8; 2] = [0x02, 0x00];

/// TOK_ID of a KRB-ERROR.
pub const KRB_ERROR: [u8; 2] = [0x03, 0x00];

/// The tag of the frame, `[APPLICATION 0]`.
pub const FRAME: u8 = tag::application(0);

/// Whether this OID element names Kerberos, in either spelling.
pub fn is_kerberos(mechanism: &[u8]) -> bool {
    mechanism == KRB5_MECHANISM || mechanism == MS_KRB5_MECHANISM
}

/// Takes the frame off: the mechanism's OID element, and what follows.
pub fn unframe(token: &[u8]) -> Result<(&[u8], &[u8]), DerError> {
    let mut inside = Reader::new(der::only(token, FRAME)?);
    let (found, mechanism) = inside.raw()?;
    if found != tag::OID {
        return Err(DerError::UnexpectedTag { expected: tag::OID, found });
    }
    Ok((mechanism, inside.rest()))
}

/// Takes the frame off a Kerberos token: its TOK_ID and the Kerberos message.
pub fn unframe_kerberos(token: &[u8]) -> Result<([u8; 2], &[u8]), DerError> {
    let (mechanism, inside) = unframe(token)?;
    if !is_kerberos(mechanism) {
        return Err(DerError::Value);
    }
    let (id, message) = inside.split_first_chunk().ok_or(DerError::Truncated)?;
    Ok((*id, message))
}
