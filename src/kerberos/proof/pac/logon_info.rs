//! KERB_VALIDATION_INFO (MS-PAC 2.5), NDR by type serialization version 1 (MS-RPCE 2.2.6).
//!
//! What pointers refer to stands behind the structure, in the order of the pointers; nothing here is found by a distance from
//! either end. Lengths of that part vary with every name, group and SID.

use super::PacError;
use super::cursor::Cursor;
use crate::naming::sid::Sid;

/// What is read of KERB_VALIDATION_INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogonInfo {
    pub(super) sid: Sid,
    pub(super) account: String,
    pub(super) domain: String,
    pub(super) user_account_control: u32,
    pub(super) primary_group: u32,
    pub(super) groups: Vec<u32>,
    pub(super) extra_sids: Vec<Sid>,
    pub(super) resource_groups: Vec<Sid>,
}

/// Decodes the contents of a PAC's logon information buffer.
pub(super) fn decode(buffer: &[u8]) -> Result<LogonInfo, PacError> {
    let mut ndr = Ndr(Cursor::new(object(buffer)?));
    if !ndr.pointer()? {
        return Err(PacError::Malformed("no logon information behind its pointer"));
    }

    // The structure itself.
    ndr.skip(6 * FILETIME)?; // LogonTime, LogoffTime, KickOffTime, PasswordLastSet, PasswordCanChange, PasswordMustChange
    let effective_name = ndr.string()?;
    let full_name = ndr.string()?;
    let logon_script = ndr.string()?;
    let profile_path = ndr.string()?;
    let home_directory = ndr.string()?;
    let home_drive = ndr.string()?;
    ndr.skip(2 + 2)?; // LogonCount, BadPasswordCount
    let user_id = ndr.0.u32()?;
    let primary_group = ndr.0.u32()?;
    let groups = ndr.array()?;
    ndr.skip(4 + 16)?; // UserFlags, UserSessionKey
    let logon_server = ndr.string()?;
    let logon_domain_name = ndr.string()?;
    let logon_domain_id = ndr.pointer()?;
    ndr.skip(2 * 4)?; // Reserved1
    let user_account_control = ndr.0.u32()?;
    ndr.skip(4 + 2 * FILETIME + 4 + 4)?; // SubAuthStatus, LastSuccessfulILogon, LastFailedILogon, FailedILogonCount, Reserved3
    let extra_sids = ndr.array()?;
    let resource_domain_id = ndr.pointer()?;
    let resource_groups = ndr.array()?;

    // What its pointers refer to, in their order.
    let account = ndr.deferred_string(effective_name)?;
    for string in [full_name, logon_script, profile_path, home_directory, home_drive] {
        ndr.deferred_string(string)?;
    }
    let groups = ndr.deferred_rids(groups)?;
    ndr.deferred_string(logon_server)?;
    let domain = ndr.deferred_string(logon_domain_name)?;
    let logon_domain = if logon_domain_id { Some(ndr.sid()?) } else { None };
    let extra_sids = ndr.deferred_sids(extra_sids)?;
    let resource_domain = if resource_domain_id { Some(ndr.sid()?) } else { None };
    let resource_rids = ndr.deferred_rids(resource_groups)?;
    if ndr.0.remaining() >= MAX_PADDING {
        return Err(PacError::Malformed("bytes behind the logon information"));
    }

    // A user of no domain, or one whose domain is not said, stands in the first extra SID (MS-PAC 2.5, UserId).
    let sid = match (user_id, logon_domain) {
        (0, _) => extra_sids.first().cloned().ok_or(PacError::Malformed("neither a user RID nor an extra SID"))?,
        (rid, Some(domain)) => within(&domain, rid)?,
        (_, None) => return Err(PacError::Malformed("a user RID without a domain SID")),
    };
    let resource_groups = match resource_domain {
        Some(domain) => resource_rids.into_iter().map(|rid| within(&domain, rid)).collect::<Result<_, _>>()?,
        None if resource_rids.is_empty() => Vec::new(),
        None => return Err(PacError::Malformed("resource groups without a domain SID")),
    };
    Ok(LogonInfo { sid, account, domain, user_account_control, primary_group, groups, extra_sids, resource_groups })
}

const FILETIME: usize = 8;
/// The object is padded to a multiple of eight bytes.
const MAX_PADDING: usize = 8;

/// The serialized object: what follows the common and the private header (MS-RPCE 2.2.6.1 and 2.2.6.2).
fn object(buffer: &[u8]) -> Result<&[u8], PacError> {
    let mut cursor = Cursor::new(buffer);
    let [version, endianness, header_length, zero] = cursor.array()?;
    if (version, endianness, header_length, zero) != (1, 0x10, 8, 0) {
        return Err(PacError::Malformed("not little-endian type serialization version 1"));
    }
    cursor.take(4)?; // filler
    let length = cursor.u32()?;
    cursor.take(4)?; // filler
    cursor.take(usize::try_from(length).map_err(|_| PacError::Truncated)?)
}

fn within(domain: &Sid, rid: u32) -> Result<Sid, PacError> {
    domain.with_rid(rid).map_err(|_| PacError::Malformed("a domain SID with too many sub-authorities"))
}

/// RPC_UNICODE_STRING: its length in bytes, and whether there is a buffer.
#[derive(Clone, Copy)]
struct StringHead {
    bytes: u16,
    present: bool,
}

/// A count and whether there is an array.
#[derive(Clone, Copy)]
struct ArrayHead {
    count: u32,
    present: bool,
}

/// NDR (C706 chapter 14). All pointers here are unique ones: each that is not null has its own referent.
struct Ndr<'a>(Cursor<'a>);

impl Ndr<'_> {
    fn skip(&mut self, count: usize) -> Result<(), PacError> {
        self.0.take(count).map(drop)
    }

    /// Whether the pointer is not null.
    fn pointer(&mut self) -> Result<bool, PacError> {
        Ok(self.0.u32()? != 0)
    }

    fn string(&mut self) -> Result<StringHead, PacError> {
        let bytes = self.0.u16()?;
        self.skip(2)?; // MaximumLength
        let present = self.pointer()?;
        if bytes > 0 && !present {
            Err(PacError::Malformed("a string without a buffer"))
        } else {
            Ok(StringHead { bytes, present })
        }
    }

    fn array(&mut self) -> Result<ArrayHead, PacError> {
        let (count, present) = (self.0.u32()?, self.pointer()?);
        if count > 0 && !present {
            Err(PacError::Malformed("a count without an array"))
        } else {
            Ok(ArrayHead { count, present })
        }
    }

    /// A conformant and varying array of characters.
    fn deferred_string(&mut self, head: StringHead) -> Result<String, PacError> {
        if !head.present {
            return Ok(String::new());
        }
        self.0.align(4)?;
        let (maximum, offset, actual) = (self.0.u32()?, self.0.u32()?, self.0.u32()?);
        if offset != 0 || actual > maximum || actual.checked_mul(2) != Some(u32::from(head.bytes)) {
            return Err(PacError::Malformed("a string's counts contradict each other"));
        }
        self.0.text(usize::from(head.bytes))
    }

    /// The conformance of an array that is present; it repeats the count.
    fn conformance(&mut self, head: ArrayHead) -> Result<u32, PacError> {
        if !head.present {
            return Ok(0);
        }
        self.0.align(4)?;
        if self.0.u32()? == head.count {
            Ok(head.count)
        } else {
            Err(PacError::Malformed("an array's counts contradict each other"))
        }
    }

    /// Relative identifiers of an array of GROUP_MEMBERSHIP. Attributes do not matter: membership in any form counts.
    fn deferred_rids(&mut self, head: ArrayHead) -> Result<Vec<u32>, PacError> {
        let count = self.conformance(head)?;
        (0..count)
            .map(|_| {
                let rid = self.0.u32()?;
                self.skip(4)?;
                Ok(rid)
            })
            .collect()
    }

    /// SIDs of an array of KERB_SID_AND_ATTRIBUTES: all the pointers first, then what they refer to.
    fn deferred_sids(&mut self, head: ArrayHead) -> Result<Vec<Sid>, PacError> {
        let count = self.conformance(head)?;
        for _ in 0..count {
            if !self.pointer()? {
                return Err(PacError::Malformed("an extra SID is a null pointer"));
            }
            self.skip(4)?;
        }
        (0..count).map(|_| self.sid()).collect()
    }

    /// RPC_SID: the number of sub-authorities stands before it once more.
    fn sid(&mut self) -> Result<Sid, PacError> {
        self.0.align(4)?;
        let count = self.0.u32()?;
        let before = self.0.remaining();
        let sid = self.0.sid()?;
        let read = before - self.0.remaining();
        if u32::try_from(read).ok() == count.checked_mul(4).and_then(|bytes| bytes.checked_add(8)) {
            Ok(sid)
        } else {
            Err(PacError::Malformed("a SID's counts contradict each other"))
        }
    }
}
