//! KERB_VALIDATION_INFO (MS-PAC 2.5), copied element by element: every number of the encoding stays, names and SIDs are replaced.

use crate::kerberos::proof::pac::cursor::Cursor;

use super::pac::{put, strict_text};
use super::pseudonyms::{Substitute, Unreadable, utf16};

/// Common header, private header (MS-RPCE 2.2.6.1, 2.2.6.2).
const HEADERS: usize = 16;
/// Where the private header says how long the object is.
const LENGTH_AT: usize = 8;

/// The buffer with its substitutes; padding is zero.
pub(super) fn copy(buffer: &[u8], with: &mut dyn Substitute) -> Result<Vec<u8>, Unreadable> {
    let (headers, object) = buffer.split_at_checked(HEADERS).ok_or(Unreadable("logon information without its headers"))?;
    let mut ndr = Copy { from: Cursor::new(object), out: Vec::new(), with };
    ndr.validation_info()?;
    let mut object = ndr.out;
    object.resize(object.len().next_multiple_of(8), 0);
    let mut out = [headers, &object].concat();
    let length = u32::try_from(object.len()).map_err(|_| Unreadable("logon information that is too long"))?;
    put(&mut out, LENGTH_AT, &length.to_le_bytes())?;
    Ok(out)
}

/// RPC_UNICODE_STRING: where its lengths stand in the copy, by how much the maximum is larger, whether there is a buffer.
struct StringHead {
    at: usize,
    spare: u16,
    present: bool,
}

/// An array's count, and whether it is there.
struct ArrayHead {
    count: u32,
    present: bool,
}

struct Copy<'a, 's> {
    from: Cursor<'a>,
    out: Vec<u8>,
    with: &'s mut dyn Substitute,
}

impl Copy<'_, '_> {
    fn validation_info(&mut self) -> Result<(), Unreadable> {
        self.u32()?; // pointer to the structure
        for _ in 0..6 {
            self.time()?; // LogonTime, LogoffTime, KickOffTime, PasswordLastSet, PasswordCanChange, PasswordMustChange
        }
        let names = self.strings::<6>()?; // EffectiveName, FullName, LogonScript, ProfilePath, HomeDirectory, HomeDirectoryDrive
        self.counts()?; // LogonCount, BadPasswordCount
        self.rid()?; // UserId
        self.rid()?; // PrimaryGroupId
        let groups = self.array()?;
        self.u32()?; // UserFlags
        self.opaque(16)?; // UserSessionKey
        let servers = self.strings::<2>()?; // LogonServer, LogonDomainName
        let domain = self.u32()? != 0;
        self.opaque(8)?; // Reserved1
        self.u32()?; // UserAccountControl
        self.u32()?; // SubAuthStatus
        self.time()?; // LastSuccessfulILogon
        self.time()?; // LastFailedILogon
        self.count()?; // FailedILogonCount
        self.opaque(4)?; // Reserved3
        let extra_sids = self.array()?;
        let resource_domain = self.u32()? != 0;
        let resource_groups = self.array()?;

        // What the pointers refer to, in their order.
        names.iter().try_for_each(|name| self.deferred_string(name))?;
        self.memberships(&groups)?;
        servers.iter().try_for_each(|name| self.deferred_string(name))?;
        if domain {
            self.sid()?;
        }
        self.sids(&extra_sids)?;
        if resource_domain {
            self.sid()?;
        }
        self.memberships(&resource_groups)
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        let value = self.from.u32()?;
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(value)
    }

    fn align(&mut self) -> Result<(), Unreadable> {
        self.from.align(4)?;
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        Ok(())
    }

    fn time(&mut self) -> Result<(), Unreadable> {
        let time = self.from.u64()?;
        self.out.extend_from_slice(&self.with.time(time).to_le_bytes());
        Ok(())
    }

    fn counts(&mut self) -> Result<(), Unreadable> {
        for _ in 0..2 {
            let count = self.with.count(self.from.u16()?.into());
            self.out.extend(count.to_le_bytes().into_iter().take(2));
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Unreadable> {
        let count = self.with.count(self.from.u32()?);
        self.out.extend_from_slice(&count.to_le_bytes());
        Ok(())
    }

    fn rid(&mut self) -> Result<(), Unreadable> {
        let rid = self.with.rid(self.from.u32()?);
        self.out.extend_from_slice(&rid.to_le_bytes());
        Ok(())
    }

    fn opaque(&mut self, length: usize) -> Result<(), Unreadable> {
        let bytes = self.with.opaque(self.from.take(length)?);
        self.out.extend_from_slice(&bytes);
        Ok(())
    }

    fn strings<const N: usize>(&mut self) -> Result<Vec<StringHead>, Unreadable> {
        (0..N).map(|_| self.string()).collect()
    }

    fn string(&mut self) -> Result<StringHead, Unreadable> {
        let at = self.out.len();
        let (length, maximum) = (self.from.u16()?, self.from.u16()?);
        let spare = maximum.checked_sub(length).ok_or(Unreadable("a string longer than its maximum"))?;
        self.out.extend_from_slice(&[length.to_le_bytes(), maximum.to_le_bytes()].concat());
        let present = self.u32()? != 0;
        if length > 0 && !present { Err(Unreadable("a string without a buffer")) } else { Ok(StringHead { at, spare, present }) }
    }

    fn array(&mut self) -> Result<ArrayHead, Unreadable> {
        Ok(ArrayHead { count: self.u32()?, present: self.u32()? != 0 })
    }

    /// A conformant and varying array of characters, and its length in the head once more.
    fn deferred_string(&mut self, head: &StringHead) -> Result<(), Unreadable> {
        if !head.present {
            return Ok(());
        }
        self.align()?;
        let (maximum, offset, actual) = (self.from.u32()?, self.from.u32()?, self.from.u32()?);
        let units = usize::try_from(actual).ok().and_then(|units| units.checked_mul(2)).ok_or(Unreadable("a long string"))?;
        let spare = maximum.checked_sub(actual).ok_or(Unreadable("a string longer than its maximum"))?;
        let text = utf16(&self.with.name(&strict_text(self.from.take(units)?)?));
        let length = u16::try_from(text.len()).map_err(|_| Unreadable("a long string"))?;
        let (actual, widest) = (u32::from(length / 2), length.checked_add(head.spare).ok_or(Unreadable("a long string"))?);
        for number in [actual.checked_add(spare).ok_or(Unreadable("a long string"))?, offset, actual] {
            self.out.extend_from_slice(&number.to_le_bytes());
        }
        self.out.extend_from_slice(&text);
        put(&mut self.out, head.at, &[length.to_le_bytes(), widest.to_le_bytes()].concat())
    }

    /// GROUP_MEMBERSHIP: relative identifier, attributes.
    fn memberships(&mut self, head: &ArrayHead) -> Result<(), Unreadable> {
        if head.present {
            self.align()?;
            self.u32()?;
            for _ in 0..head.count {
                self.rid()?;
                self.u32()?;
            }
        }
        Ok(())
    }

    /// KERB_SID_AND_ATTRIBUTES: pointers and attributes first, then the SIDs.
    fn sids(&mut self, head: &ArrayHead) -> Result<(), Unreadable> {
        if head.present {
            self.align()?;
            self.u32()?;
            for _ in 0..head.count {
                self.u32()?;
                self.u32()?;
            }
            for _ in 0..head.count {
                self.sid()?;
            }
        }
        Ok(())
    }

    /// RPC_SID: the number of sub-authorities, then the binary form.
    fn sid(&mut self) -> Result<(), Unreadable> {
        self.align()?;
        let count = usize::try_from(self.u32()?).map_err(|_| Unreadable("a long SID"))?;
        let length = count.checked_mul(4).and_then(|bytes| bytes.checked_add(8)).ok_or(Unreadable("a long SID"))?;
        let sid = self.with.sid(self.from.take(length)?)?;
        self.out.extend_from_slice(&sid);
        Ok(())
    }
}
