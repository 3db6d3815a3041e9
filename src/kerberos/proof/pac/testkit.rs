//! Makes PACs for tests: an NDR writer of its own, and signatures.

use crate::kerberos::wire::crypto::{Etype, Key, usage};
use crate::naming::sid::Sid;
use crate::secret::SecretBytes;

use super::{FILETIME_EPOCH, Pac, buffer_type};

pub(in crate::kerberos) const DOMAIN: &str = "S-1-5-21-294026126-3378245018-1203103949";
pub(in crate::kerberos) const AUTHTIME: i64 = 1_795_389_540;

/// The account that a PAC is made for.
#[derive(Clone, Debug)]
pub(in crate::kerberos) struct Account {
    pub(in crate::kerberos) rid: u32,
    pub(in crate::kerberos) domain: Option<String>,
    pub(in crate::kerberos) user_account_control: u32,
    pub(in crate::kerberos) primary_group: u32,
    pub(in crate::kerberos) groups: Vec<u32>,
    pub(in crate::kerberos) extra_sids: Vec<String>,
    pub(in crate::kerberos) resource_groups: Option<(String, Vec<u32>)>,
}

impl Default for Account {
    /// alice, an ordinary user by S4U2Self.
    fn default() -> Self {
        Self {
            rid: 1103,
            domain: Some(DOMAIN.into()),
            user_account_control: 0x10,
            primary_group: 513,
            groups: vec![513],
            extra_sids: vec!["S-1-18-2".into()],
            resource_groups: None,
        }
    }
}

impl Account {
    /// KERB_VALIDATION_INFO with its two headers.
    pub(in crate::kerberos) fn logon_info(&self) -> Vec<u8> {
        let mut body = Ndr::default();
        body.u32(0x0002_0000);
        body.bytes(&[0xFF; 48]); // six times
        for text in ["alice", "Alice Example", "", "", "", ""] {
            body.string(text);
        }
        body.bytes(&[1, 0, 2, 0]); // logon and bad password counts
        body.u32(self.rid);
        body.u32(self.primary_group);
        body.rids(Some(&self.groups));
        body.u32(0x20); // user flags: extra SIDs
        body.bytes(&[0; 16]);
        body.string("DC1");
        body.string("CORP");
        body.sid(self.domain.as_deref());
        body.bytes(&[0; 8]);
        body.u32(self.user_account_control);
        body.bytes(&[0; 28]); // SubAuthStatus to Reserved3
        body.sids(&self.extra_sids);
        body.sid(self.resource_groups.as_ref().map(|(domain, _)| domain.as_str()));
        body.rids(self.resource_groups.as_ref().map(|(_, rids)| rids.as_slice()));
        body.finish()
    }

    /// The buffers of a whole PAC of this account, signatures last and empty.
    pub(in crate::kerberos) fn buffers(&self, etype: Etype) -> Vec<(u32, Vec<u8>)> {
        vec![
            (buffer_type::LOGON_INFO, self.logon_info()),
            (buffer_type::CLIENT_INFO, client_info("alice", AUTHTIME)),
            (buffer_type::SERVER_CHECKSUM, signature(etype)),
            (buffer_type::KDC_CHECKSUM, signature(Etype::Aes256Sha1)),
        ]
    }

    /// A PAC signed with this key.
    pub(in crate::kerberos) fn pac(&self, key: &Key) -> Vec<u8> {
        sign(pack(&self.buffers(key.etype())), key)
    }

    /// A verified PAC.
    pub(in crate::kerberos) fn verified(&self) -> Pac {
        let key = key(Etype::Aes256Sha1);
        Pac::verify(&self.pac(&key), &key, AUTHTIME).unwrap()
    }
}

pub(in crate::kerberos) fn key(etype: Etype) -> Key {
    Key::new(etype, SecretBytes::new(vec![7; etype.key_length()])).unwrap()
}

pub(in crate::kerberos) fn client_info(name: &str, authtime: i64) -> Vec<u8> {
    let filetime = u64::try_from((authtime + FILETIME_EPOCH) * 10_000_000).unwrap();
    let name = utf16(name);
    [&filetime.to_le_bytes()[..], &u16::try_from(name.len()).unwrap().to_le_bytes(), &name].concat()
}

pub(in crate::kerberos) fn upn_info(upn: &str, sid: Option<&str>) -> Vec<u8> {
    let parts = [utf16(upn), utf16("CORP.EXAMPLE"), utf16("alice"), sid.map(sid_bytes).unwrap_or_default()];
    let mut out = vec![0; 24];
    for (index, part) in parts.iter().enumerate() {
        let at = index * 4 + if index > 1 { 4 } else { 0 };
        out[at..at + 2].copy_from_slice(&u16::try_from(part.len()).unwrap().to_le_bytes());
        let offset = u16::try_from(out.len()).unwrap().to_le_bytes();
        out[at + 2..at + 4].copy_from_slice(&offset);
        out.extend_from_slice(part);
    }
    out[8] = if sid.is_some() { 2 } else { 0 };
    out
}

pub(in crate::kerberos) fn signature(etype: Etype) -> Vec<u8> {
    [&etype.checksum_type().to_le_bytes()[..], &vec![0; etype.checksum_length()]].concat()
}

/// PACTYPE around these buffers.
pub(in crate::kerberos) fn pack(buffers: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut out = [u32::try_from(buffers.len()).unwrap().to_le_bytes(), [0; 4]].concat();
    let mut at = 8 + buffers.len() * 16;
    for (kind, contents) in buffers {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&u32::try_from(contents.len()).unwrap().to_le_bytes());
        out.extend_from_slice(&u64::try_from(at).unwrap().to_le_bytes());
        at += contents.len().next_multiple_of(8);
    }
    for (_, contents) in buffers {
        out.extend_from_slice(contents);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

/// Puts the server signature over a PAC whose signatures are zero, then something into the KDC's.
pub(in crate::kerberos) fn sign(mut pac: Vec<u8>, key: &Key) -> Vec<u8> {
    let value = key.checksum(usage::PAC, &pac).unwrap();
    let at = value_of(&pac, buffer_type::SERVER_CHECKSUM);
    pac[at..at + value.len()].copy_from_slice(&value);
    let at = value_of(&pac, buffer_type::KDC_CHECKSUM);
    pac[at..at + 12].fill(0xAA);
    pac
}

/// Where the value of a signature begins.
pub(in crate::kerberos) fn value_of(pac: &[u8], kind: u32) -> usize {
    let entry = pac[8..].chunks(16).find(|entry| entry[..4] == kind.to_le_bytes()).unwrap();
    usize::from(u16::from_le_bytes([entry[8], entry[9]])) + 4
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn sid_bytes(text: &str) -> Vec<u8> {
    Sid::parse(text).unwrap();
    let mut numbers = text.split('-').skip(2).map(|number| number.parse::<u64>().unwrap());
    let authority = numbers.next().unwrap().to_be_bytes();
    let subs: Vec<u8> = numbers.flat_map(|number| u32::try_from(number).unwrap().to_le_bytes()).collect();
    [&[1, u8::try_from(subs.len() / 4).unwrap()], &authority[2..], &subs].concat()
}

/// A structure, and behind it what its pointers refer to.
#[derive(Default)]
struct Ndr {
    fixed: Vec<u8>,
    deferred: Vec<u8>,
}

impl Ndr {
    fn bytes(&mut self, bytes: &[u8]) {
        self.fixed.extend_from_slice(bytes);
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn defer(&mut self, value: u32) {
        self.deferred.resize(self.deferred.len().next_multiple_of(4), 0);
        self.deferred.extend_from_slice(&value.to_le_bytes());
    }

    fn pointer(&mut self, present: bool) {
        self.u32(if present { 0x0002_0004 } else { 0 });
    }

    fn string(&mut self, text: &str) {
        let units = utf16(text);
        let length = u16::try_from(units.len()).unwrap();
        self.bytes(&length.to_le_bytes());
        self.bytes(&(length + 2).to_le_bytes());
        self.pointer(true);
        self.defer(u32::from(length / 2 + 1));
        self.defer(0);
        self.defer(u32::from(length / 2));
        self.deferred.extend_from_slice(&units);
    }

    fn rids(&mut self, rids: Option<&[u32]>) {
        let count = u32::try_from(rids.map_or(0, <[u32]>::len)).unwrap();
        self.u32(count);
        self.pointer(rids.is_some());
        if let Some(rids) = rids {
            self.defer(count);
            for rid in rids {
                self.defer(*rid);
                self.defer(7);
            }
        }
    }

    fn defer_sid(&mut self, text: &str) {
        let bytes = sid_bytes(text);
        self.defer(u32::from(bytes[1]));
        self.deferred.extend_from_slice(&bytes);
    }

    fn sid(&mut self, sid: Option<&str>) {
        self.pointer(sid.is_some());
        if let Some(sid) = sid {
            self.defer_sid(sid);
        }
    }

    fn sids(&mut self, sids: &[String]) {
        let count = u32::try_from(sids.len()).unwrap();
        self.u32(count);
        self.pointer(!sids.is_empty());
        if sids.is_empty() {
            return;
        }
        self.defer(count);
        for _ in sids {
            self.defer(0x0002_0008);
            self.defer(7);
        }
        for sid in sids {
            self.defer_sid(sid);
        }
    }

    fn finish(self) -> Vec<u8> {
        let mut object = [self.fixed, self.deferred].concat();
        object.resize(object.len().next_multiple_of(8), 0);
        let length = u32::try_from(object.len()).unwrap().to_le_bytes();
        [&[1, 0x10, 8, 0, 0xCC, 0xCC, 0xCC, 0xCC][..], &length, &[0; 4], &object].concat()
    }
}
