//! The privilege attribute certificate of a ticket to ourselves (MS-PAC): who the KDC says the client is, by SID.
//!
//! A [`Pac`] exists only after the KDC's server signature over it was verified with our own long-term key and it was found to
//! belong to the ticket that carried it. The KDC's own signatures (types 7, 16, 19) are under keys we do not have.

pub(in crate::kerberos) mod cursor;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod logon_info;
#[cfg(test)]
pub(in crate::kerberos) mod testkit;

use std::ops::Range;

use thiserror::Error;

use crate::kerberos::wire::crypto::{CryptoError, Etype, Key, usage};
use crate::naming::sid::Sid;
use cursor::Cursor;
use logon_info::LogonInfo;

/// Buffer types (MS-PAC 2.4).
pub(in crate::kerberos) mod buffer_type {
    pub(in crate::kerberos) const LOGON_INFO: u32 = 1;
    pub(in crate::kerberos) const SERVER_CHECKSUM: u32 = 6;
    pub(in crate::kerberos) const KDC_CHECKSUM: u32 = 7;
    pub(in crate::kerberos) const CLIENT_INFO: u32 = 10;
    pub(in crate::kerberos) const UPN_DNS_INFO: u32 = 12;
    pub(in crate::kerberos) const TICKET_CHECKSUM: u32 = 16;
    pub(in crate::kerberos) const ATTRIBUTES_INFO: u32 = 17;
    pub(in crate::kerberos) const REQUESTOR_SID: u32 = 18;
    pub(in crate::kerberos) const FULL_CHECKSUM: u32 = 19;
}

/// Twenty types are defined.
const MAX_BUFFERS: u32 = 64;
/// Seconds from 1601, where FILETIME begins, to 1970.
const FILETIME_EPOCH: i64 = 11_644_473_600;

/// Why a PAC is not believed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PacError {
    /// Fewer bytes than its lengths say.
    #[error("the PAC is truncated")]
    Truncated,
    /// Not of the form that MS-PAC asks for.
    #[error("the PAC is malformed: {0}")]
    Malformed(&'static str),
    /// A buffer that every PAC has is missing.
    #[error("the PAC has no {0}")]
    Missing(&'static str),
    /// Another key made the signature, or the PAC was altered.
    #[error("the PAC's server signature is wrong: {0}")]
    Signature(CryptoError),
    /// The PAC was made for another ticket.
    #[error("the PAC's client information is of another authentication than the ticket")]
    OtherTicket,
    /// The PAC contradicts itself about who the client is.
    #[error("the PAC names two different SIDs")]
    SidConflict,
}

/// What a verified PAC says about the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pac {
    logon: LogonInfo,
    client_name: String,
    upn: Option<String>,
}

impl Pac {
    /// Verifies a PAC with the key that the ticket was encrypted in and reads it. `authtime` is the ticket's.
    ///
    /// That the PAC belongs to the ticket is decided by the authentication time, which Windows, Samba and MIT all write to both
    /// (MS-PAC 2.7). The client information's name is only reported ([`Pac::client_name`]): in a ticket by S4U2Self it may be the
    /// name as it was asked for or the account's own, and identity is a matter of SIDs here.
    pub(in crate::kerberos) fn verify(pac: &[u8], key: &Key, authtime: i64) -> Result<Self, PacError> {
        let buffers = Buffers::parse(pac)?;
        buffers.verify_server_signature(key)?;

        let logon = logon_info::decode(buffers.required(buffer_type::LOGON_INFO, "logon information")?)?;
        let client = ClientInfo::parse(buffers.required(buffer_type::CLIENT_INFO, "client information")?)?;
        if client.authtime != authtime {
            return Err(PacError::OtherTicket);
        }
        let upn = buffers.optional(buffer_type::UPN_DNS_INFO).map(UpnInfo::parse).transpose()?;
        if upn.as_ref().and_then(|upn| upn.sid.as_ref()).is_some_and(|sid| *sid != logon.sid) {
            return Err(PacError::SidConflict);
        }
        Ok(Self { logon, client_name: client.name, upn: upn.map(|upn| upn.upn) })
    }

    /// The client's SID: the identity that everything else is compared with.
    pub fn sid(&self) -> &Sid {
        &self.logon.sid
    }

    /// sAMAccountName, for messages.
    pub fn account(&self) -> &str {
        &self.logon.account
    }

    /// NetBIOS name of the account's domain, for messages.
    pub fn domain(&self) -> &str {
        &self.logon.domain
    }

    /// `DOMAIN\account`, the one name of the account whatever it was asked for by; for log and audit.
    pub fn logon_name(&self) -> String {
        let plain = |text: &str| {
            text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect::<String>()
        };
        format!("{}\\{}", plain(self.domain()), plain(self.account()))
    }

    /// USER_ACCOUNT codes (MS-SAMR 2.2.1.12), which are not those of the directory's userAccountControl.
    pub fn user_account_control(&self) -> u32 {
        self.logon.user_account_control
    }

    /// RID of the primary group.
    pub fn primary_group(&self) -> u32 {
        self.logon.primary_group
    }

    /// RIDs of groups of the account's own domain.
    pub fn groups(&self) -> &[u32] {
        &self.logon.groups
    }

    /// SIDs of other domains, SIDs from SIDHistory, well-known SIDs.
    pub fn extra_sids(&self) -> &[Sid] {
        &self.logon.extra_sids
    }

    /// Domain-local groups of our own domain.
    pub fn resource_groups(&self) -> &[Sid] {
        &self.logon.resource_groups
    }

    /// The name in the client information, for messages.
    pub fn client_name(&self) -> &str {
        &self.client_name
    }

    /// The account's UPN, given or constructed, for messages.
    pub fn upn(&self) -> Option<&str> {
        self.upn.as_deref()
    }
}

/// PACTYPE (MS-PAC 2.3): typed ranges of the whole.
pub(in crate::kerberos) struct Buffers<'a> {
    pac: &'a [u8],
    ranges: Vec<(u32, Range<usize>)>,
}

impl<'a> Buffers<'a> {
    pub(in crate::kerberos) fn parse(pac: &'a [u8]) -> Result<Self, PacError> {
        let mut cursor = Cursor::new(pac);
        let (count, version) = (cursor.u32()?, cursor.u32()?);
        if version != 0 || count > MAX_BUFFERS {
            return Err(PacError::Malformed("unknown version or too many buffers"));
        }
        let mut ranges = Vec::new();
        for _ in 0..count {
            let (kind, size, offset) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
            if offset % 8 != 0 {
                return Err(PacError::Malformed("a buffer that is not aligned"));
            }
            let start = usize::try_from(offset).map_err(|_| PacError::Truncated)?;
            let size = usize::try_from(size).map_err(|_| PacError::Truncated)?;
            ranges.push((kind, start..start.checked_add(size).ok_or(PacError::Truncated)?));
        }
        let mut end = pac.len() - cursor.remaining();
        let mut in_order: Vec<&Range<usize>> = ranges.iter().map(|(_, range)| range).collect();
        in_order.sort_by_key(|range| (range.start, range.end));
        for range in in_order {
            if range.start < end {
                return Err(PacError::Malformed("buffers that overlap"));
            }
            end = range.end;
        }
        if end > pac.len() {
            return Err(PacError::Truncated);
        }
        let mut kinds: Vec<u32> = ranges.iter().map(|(kind, _)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.len() != ranges.len() {
            return Err(PacError::Malformed("two buffers of one type"));
        }
        Ok(Self { pac, ranges })
    }

    /// Type and place of each, in the order of the table.
    pub(in crate::kerberos) fn all(&self) -> &[(u32, Range<usize>)] {
        &self.ranges
    }

    fn range(&self, kind: u32) -> Option<Range<usize>> {
        self.ranges.iter().find(|(found, _)| *found == kind).map(|(_, range)| range.clone())
    }

    fn optional(&self, kind: u32) -> Option<&'a [u8]> {
        self.pac.get(self.range(kind)?)
    }

    fn required(&self, kind: u32, name: &'static str) -> Result<&'a [u8], PacError> {
        self.optional(kind).ok_or(PacError::Missing(name))
    }

    /// The server signature: over the whole PAC, with the signatures of both the server and the KDC zeroed (MS-PAC 2.8.1).
    ///
    /// A read-only domain controller's number may stand behind a signature; signers differ in whether they zero it too.
    fn verify_server_signature(&self, key: &Key) -> Result<(), PacError> {
        let server = self.signature(buffer_type::SERVER_CHECKSUM, "server signature")?;
        let kdc = self.signature(buffer_type::KDC_CHECKSUM, "KDC signature")?;
        let value = self.pac.get(server.value.clone()).ok_or(PacError::Truncated)?;
        let verify = |zeroed: [Range<usize>; 2]| {
            let mut pac = self.pac.to_vec();
            for range in zeroed {
                pac.get_mut(range).ok_or(PacError::Truncated)?.fill(0);
            }
            key.verify_checksum(usage::PAC, server.kind, &pac, value).map_err(PacError::Signature)
        };
        verify([server.value.clone(), kdc.value.clone()])
            .or_else(|_| verify([server.value.start..server.end, kdc.value.start..kdc.end]))
    }

    /// PAC_SIGNATURE_DATA (MS-PAC 2.8): checksum type, checksum, perhaps the number of a read-only domain controller.
    pub(in crate::kerberos) fn signature(&self, kind: u32, name: &'static str) -> Result<Signature, PacError> {
        let whole = self.range(kind).ok_or(PacError::Missing(name))?;
        let kind = Cursor::new(self.required(kind, name)?).u32()?.cast_signed();
        let start = whole.start + 4;
        // The KDC's key may be of a type that we do not have.
        let end = checksum_length(kind).map_or(whole.end, |length| start + length);
        if end > whole.end { Err(PacError::Truncated) } else { Ok(Signature { kind, value: start..end, end: whole.end }) }
    }
}

/// One signature: its checksum type, where in the PAC its value stands, and where its buffer ends.
pub(in crate::kerberos) struct Signature {
    pub(in crate::kerberos) kind: i32,
    pub(in crate::kerberos) value: Range<usize>,
    end: usize,
}

fn checksum_length(kind: i32) -> Option<usize> {
    Etype::ALL.into_iter().find(|etype| etype.checksum_type() == kind).map(Etype::checksum_length)
}

/// PAC_CLIENT_INFO (MS-PAC 2.7).
struct ClientInfo {
    authtime: i64,
    name: String,
}

impl ClientInfo {
    fn parse(buffer: &[u8]) -> Result<Self, PacError> {
        let mut cursor = Cursor::new(buffer);
        let filetime = cursor.u64()?;
        let length = cursor.u16()?;
        let seconds = i64::try_from(filetime / 10_000_000).map_err(|_| PacError::Malformed("a time out of range"))?;
        Ok(Self { authtime: seconds - FILETIME_EPOCH, name: cursor.text(usize::from(length))? })
    }
}

/// UPN_DNS_INFO (MS-PAC 2.10).
struct UpnInfo {
    upn: String,
    sid: Option<Sid>,
}

impl UpnInfo {
    /// Flag S: the structure goes on with the account's name and SID.
    const HAS_SID: u32 = 2;

    fn parse(buffer: &[u8]) -> Result<Self, PacError> {
        let mut cursor = Cursor::new(buffer);
        let upn = part(buffer, &mut cursor)?;
        let _dns_domain = part(buffer, &mut cursor)?;
        let sid = if cursor.u32()? & Self::HAS_SID == 0 {
            None
        } else {
            let _sam_name = part(buffer, &mut cursor)?;
            Some(Cursor::new(part(buffer, &mut cursor)?).sid()?)
        };
        Ok(Self { upn: Cursor::new(upn).text(upn.len())?, sid })
    }
}

/// What a length and an offset from the buffer's start, both of 16 bits, refer to.
fn part<'a>(buffer: &'a [u8], cursor: &mut Cursor<'_>) -> Result<&'a [u8], PacError> {
    let (length, offset) = (usize::from(cursor.u16()?), usize::from(cursor.u16()?));
    buffer.get(offset..offset + length).ok_or(PacError::Truncated)
}

#[cfg(test)]
mod tests;
