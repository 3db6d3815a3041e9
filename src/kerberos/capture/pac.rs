//! A PAC with example names, SIDs and times, signed with a published key. What is not understood is left out and said.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::kerberos::proof::pac::cursor::Cursor;
use crate::kerberos::proof::pac::{Buffers, Pac, PacError, buffer_type};
use crate::kerberos::wire::crypto::{Etype, Key, usage};

use super::logon_info;
use super::pseudonyms::{AsItIs, Pseudonyms, Substitute, Unreadable, utf16};
use super::published;

/// Flag S of UPN_DNS_INFO (MS-PAC 2.10): account name and SID follow.
const HAS_SID: u32 = 2;

impl From<PacError> for Unreadable {
    fn from(_: PacError) -> Self {
        Self("not the PAC that was expected")
    }
}

/// One buffer of the original.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BufferNote {
    /// `ulType` (MS-PAC 2.4)
    pub buffer_type: u32,
    /// length in bytes, as it came
    pub length: usize,
    /// whether it stands in the capture, with example names
    pub kept: bool,
}

/// The PAC as it can be shown to anybody, and what the original consisted of.
pub(super) fn redact(pac: &[u8], names: &mut Pseudonyms) -> Result<(Vec<u8>, Vec<BufferNote>), Unreadable> {
    let original = Buffers::parse(pac)?;
    let (mut notes, mut kept) = (Vec::new(), Vec::new());
    for (kind, range) in original.all() {
        let contents = pac.get(range.clone()).ok_or(Unreadable("a buffer outside the PAC"))?;
        let copied = match copy(*kind, contents, &mut AsItIs) {
            Ok(same) if same == contents => copy(*kind, contents, names).ok(),
            _ => None,
        };
        notes.push(BufferNote { buffer_type: *kind, length: contents.len(), kept: copied.is_some() });
        kept.extend(copied.map(|copied| (*kind, copied)));
    }
    Ok((signed(packed(&kept)?)?, notes))
}

fn copy(kind: u32, contents: &[u8], with: &mut dyn Substitute) -> Result<Vec<u8>, Unreadable> {
    match kind {
        buffer_type::LOGON_INFO => logon_info::copy(contents, with),
        buffer_type::SERVER_CHECKSUM | buffer_type::KDC_CHECKSUM | buffer_type::TICKET_CHECKSUM | buffer_type::FULL_CHECKSUM => {
            signature(contents, with)
        }
        buffer_type::CLIENT_INFO => client_info(contents, with),
        buffer_type::UPN_DNS_INFO => upn_dns_info(contents, with),
        buffer_type::REQUESTOR_SID => with.sid(contents),
        // Length of the flags in bits, flags (MS-PAC 2.14).
        buffer_type::ATTRIBUTES_INFO if contents.len() == 8 => Ok(contents.to_vec()),
        _ => Err(Unreadable("a buffer of another type")),
    }
}

/// PAC_SIGNATURE_DATA (MS-PAC 2.8): the type stays.
fn signature(contents: &[u8], with: &mut dyn Substitute) -> Result<Vec<u8>, Unreadable> {
    let (kind, value) = contents.split_at_checked(4).ok_or(Unreadable("a signature without a type"))?;
    Ok([kind, &with.opaque(value)].concat())
}

/// PAC_CLIENT_INFO (MS-PAC 2.7).
fn client_info(contents: &[u8], with: &mut dyn Substitute) -> Result<Vec<u8>, Unreadable> {
    let mut from = Cursor::new(contents);
    let (time, length) = (from.u64()?, from.u16()?);
    let name = utf16(&with.name(&strict_text(from.take(length.into())?)?));
    let length = u16::try_from(name.len()).map_err(|_| Unreadable("a name that is too long"))?;
    Ok([&with.auth_time(time).to_le_bytes()[..], &length.to_le_bytes(), &name].concat())
}

/// UPN_DNS_INFO (MS-PAC 2.10): lengths and offsets, flags, and the parts where the offsets say, in their order, each aligned as it was.
fn upn_dns_info(contents: &[u8], with: &mut dyn Substitute) -> Result<Vec<u8>, Unreadable> {
    let mut from = Cursor::new(contents);
    let mut parts = vec![part(&mut from, 0)?, part(&mut from, 4)?];
    let flags = from.u32()?;
    if flags & HAS_SID != 0 {
        parts.extend([part(&mut from, 12)?, part(&mut from, 16)?]);
    }
    let first = parts.iter().map(|part| part.range.start).min().unwrap_or_default();
    let mut out = vec![0; first];
    put(&mut out, 8, &flags.to_le_bytes())?;
    parts.sort_by_key(|part| part.range.start);
    let mut end = first;
    for Part { head, range } in parts {
        out.resize(aligned(end, range.start, out.len())?, 0);
        end = range.end;
        let bytes = contents.get(range).ok_or(Unreadable("a part outside its buffer"))?;
        // The fourth is a SID, the others are names.
        let bytes = if head == 16 { with.sid(bytes)? } else { utf16(&with.name(&strict_text(bytes)?)) };
        let numbers = [bytes.len(), out.len()].map(u16::try_from);
        let [Ok(length), Ok(offset)] = numbers else { return Err(Unreadable("a name that is too long")) };
        put(&mut out, head, &[length.to_le_bytes(), offset.to_le_bytes()].concat())?;
        out.extend_from_slice(&bytes);
    }
    out.resize(aligned(end, contents.len(), out.len())?, 0);
    Ok(out)
}

/// Where something goes behind `at` that stood at `start` behind `end`: by the smallest alignment that explains the gap.
fn aligned(end: usize, start: usize, at: usize) -> Result<usize, Unreadable> {
    let alignment = [1, 2, 4, 8].into_iter().find(|by| end.next_multiple_of(*by) == start);
    Ok(at.next_multiple_of(alignment.ok_or(Unreadable("a gap that no alignment explains"))?))
}

/// Where a part's length and offset stand, and the part.
struct Part {
    head: usize,
    range: Range<usize>,
}

fn part(from: &mut Cursor<'_>, head: usize) -> Result<Part, Unreadable> {
    let (length, start) = (usize::from(from.u16()?), usize::from(from.u16()?));
    Ok(Part { head, range: start..start + length })
}

/// Overwrites what is there.
pub(super) fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), Unreadable> {
    let place = out.get_mut(at..at + bytes.len()).ok_or(Unreadable("no room for a number"))?;
    place.copy_from_slice(bytes);
    Ok(())
}

/// UTF-16LE without anything that is not.
pub(super) fn strict_text(bytes: &[u8]) -> Result<String, Unreadable> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return Err(Unreadable("text of an odd number of bytes")) };
    let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    String::from_utf16(&units).map_err(|_| Unreadable("text that is not UTF-16"))
}

/// PACTYPE (MS-PAC 2.3) around these buffers, each at a multiple of eight bytes.
fn packed(buffers: &[(u32, Vec<u8>)]) -> Result<Vec<u8>, Unreadable> {
    let number = |length: usize| u32::try_from(length).map_err(|_| Unreadable("a PAC that is too long"));
    let mut out = [number(buffers.len())?.to_le_bytes(), [0; 4]].concat();
    let mut at = out.len() + buffers.len() * 16;
    for (kind, contents) in buffers {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&number(contents.len())?.to_le_bytes());
        out.extend_from_slice(&u64::from(number(at)?).to_le_bytes());
        at += contents.len().next_multiple_of(8);
    }
    for (_, contents) in buffers {
        out.extend_from_slice(contents);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    Ok(out)
}

/// The same with a server signature by the published key of the type that was used (MS-PAC 2.8.1).
fn signed(mut pac: Vec<u8>) -> Result<Vec<u8>, Unreadable> {
    let buffers = Buffers::parse(&pac)?;
    let server = buffers.signature(buffer_type::SERVER_CHECKSUM, "server signature")?;
    let kdc = buffers.signature(buffer_type::KDC_CHECKSUM, "KDC signature")?;
    let (key, at, kdc_value) = (key_of(server.kind)?, server.value, pac.get(kdc.value.clone()).map(<[u8]>::to_vec));
    for range in [at.clone(), kdc.value.clone()] {
        pac.get_mut(range).ok_or(Unreadable("a signature outside the PAC"))?.fill(0);
    }
    let value = key.checksum(usage::PAC, &pac).map_err(|_| Unreadable("no signature"))?;
    put(&mut pac, at.start, &value)?;
    put(&mut pac, kdc.value.start, &kdc_value.unwrap_or_default())?;
    Ok(pac)
}

fn key_of(checksum_type: i32) -> Result<Key, Unreadable> {
    Etype::ALL
        .into_iter()
        .find(|etype| etype.checksum_type() == checksum_type)
        .and_then(published::service_key)
        .ok_or(Unreadable("a server signature of a type that is not known"))
}

/// What our decoder reads in a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenPac {
    /// type of the server's signature
    pub server_checksum: i32,
    /// type of the KDC's
    pub kdc_checksum: i32,
    /// types of the buffers, in their order
    pub buffer_types: Vec<u32>,
    /// the client's SID
    pub sid: String,
    /// sAMAccountName
    pub account: String,
    /// the domain's NetBIOS name
    pub domain: String,
    /// the name in the client information
    pub client_name: String,
    /// the UPN, given or constructed
    pub upn: Option<String>,
    /// USER_ACCOUNT codes (MS-SAMR 2.2.1.12)
    pub user_account_control: u32,
    /// RID of the primary group
    pub primary_group: u32,
    /// RIDs of groups of the account's domain
    pub groups: Vec<u32>,
    /// SIDs beyond
    pub extra_sids: Vec<String>,
    /// domain-local groups
    pub resource_groups: Vec<String>,
}

/// Reads a capture as the evidence ticket's PAC is read.
pub(super) fn examine(pac: &[u8]) -> Result<SeenPac, Unreadable> {
    let buffers = Buffers::parse(pac)?;
    let server_checksum = buffers.signature(buffer_type::SERVER_CHECKSUM, "server signature")?.kind;
    let kdc_checksum = buffers.signature(buffer_type::KDC_CHECKSUM, "KDC signature")?.kind;
    let buffer_types = buffers.all().iter().map(|(kind, _)| *kind).collect();
    let pac = Pac::verify(pac, &key_of(server_checksum)?, super::EXAMPLE_TIME)?;
    let texts = |sids: &[crate::naming::sid::Sid]| sids.iter().map(ToString::to_string).collect();
    Ok(SeenPac {
        server_checksum,
        kdc_checksum,
        buffer_types,
        sid: pac.sid().to_string(),
        account: pac.account().into(),
        domain: pac.domain().into(),
        client_name: pac.client_name().into(),
        upn: pac.upn().map(str::to_owned),
        user_account_control: pac.user_account_control(),
        primary_group: pac.primary_group(),
        groups: pac.groups().to_vec(),
        extra_sids: texts(pac.extra_sids()),
        resource_groups: texts(pac.resource_groups()),
    })
}
