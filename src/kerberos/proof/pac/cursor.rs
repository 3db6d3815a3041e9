//! Little-endian reading that cannot leave its bytes.

use super::PacError;
use crate::naming::sid::Sid;

/// A position in a buffer; alignment counts from the buffer's start.
pub(in crate::kerberos) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(in crate::kerberos) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes not read yet.
    pub(in crate::kerberos) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub(in crate::kerberos) fn take(&mut self, count: usize) -> Result<&'a [u8], PacError> {
        let end = self.at.checked_add(count).ok_or(PacError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(PacError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    /// Skips the padding before an element of this alignment (a power of two).
    pub(in crate::kerberos) fn align(&mut self, alignment: usize) -> Result<(), PacError> {
        self.take(self.at.wrapping_neg() & (alignment - 1)).map(drop)
    }

    pub(in crate::kerberos) fn array<const N: usize>(&mut self) -> Result<[u8; N], PacError> {
        self.take(N)?.try_into().map_err(|_| PacError::Truncated)
    }

    pub(in crate::kerberos) fn u16(&mut self) -> Result<u16, PacError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(in crate::kerberos) fn u32(&mut self) -> Result<u32, PacError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(in crate::kerberos) fn u64(&mut self) -> Result<u64, PacError> {
        self.array().map(u64::from_le_bytes)
    }

    /// UTF-16LE text of this many bytes. Such text is for messages only: what is not UTF-16 is replaced.
    pub(in crate::kerberos) fn text(&mut self, bytes: usize) -> Result<String, PacError> {
        if !bytes.is_multiple_of(2) {
            return Err(PacError::Malformed("text of an odd number of bytes"));
        }
        let units =
            self.take(bytes)?.chunks_exact(2).map(|pair| pair.iter().rev().fold(0, |unit, &byte| unit << 8 | u16::from(byte)));
        Ok(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
    }

    /// A SID's bytes (MS-DTYP 2.4.2.2), which an RPC_SID contains too.
    pub(in crate::kerberos) fn sid(&mut self) -> Result<Sid, PacError> {
        let [revision, count] = self.array()?;
        let authority = self.array::<6>()?.iter().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
        if revision != 1 {
            return Err(PacError::Malformed("a SID of another revision"));
        }
        let sub_authorities = (0..count).map(|_| self.u32()).collect::<Result<_, _>>()?;
        Sid::new(authority, sub_authorities).map_err(|_| PacError::Malformed("a SID without or with too many sub-authorities"))
    }
}
