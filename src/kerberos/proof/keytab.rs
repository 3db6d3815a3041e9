//! The bridge's own long-term keys: a total reader of MIT's keytab file format, version 5.2 (MIT krb5 documentation, "Keytab
//! file format").
//!
//! ```text
//! file   05 02 record…
//! record int32 length (negative: a hole of that many bytes, zero: the end), then
//!        uint16 components, realm, component…, uint32 name type, uint32 timestamp, uint8 kvno,
//!        uint16 etype, key, [uint32 kvno]            realm, component, key: uint16 length and bytes
//! ```

#[cfg(test)]
pub(in crate::kerberos) mod testkit;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::kerberos::wire::crypto::{Etype, Key};
use crate::naming::name::{OwnPrincipal, PrincipalName};
use crate::secret::SecretBytes;

/// A keytab holds a handful of keys of under 200 bytes each; a larger file is something else.
const MAX_BYTES: u64 = 1 << 20;
/// Most principal names have one to three components.
const MAX_COMPONENTS: u16 = 16;

/// Why there is no keytab to work with. Every message names the file and what to do.
#[derive(Debug, Error)]
pub enum KeytabError {
    /// No such file.
    #[error("there is no keytab {}: export one with ktpass or samba-tool domain exportkeytab", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("the keytab {} cannot be read: {source}; the user this runs as needs read permission", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a keytab of the version that is read here.
    #[error("{} is not a usable keytab: {flaw}", path.display())]
    NotAKeytab {
        /// The file.
        path: PathBuf,
        /// What is wrong with its contents.
        flaw: KeytabFlaw,
    },
    /// No key of the principal.
    #[error("the keytab {} has no key of {principal}; {}", path.display(), NearMiss { case: letter_case.as_deref(), others })]
    PrincipalAbsent {
        /// The file.
        path: PathBuf,
        /// The principal looked for.
        principal: String,
        /// The principal in the file that differs in letter case only.
        letter_case: Option<String>,
        /// The principals in the file.
        others: Vec<String>,
    },
    /// Keys of the principal, but none of an encryption type known here.
    #[error(
        "the keytab {} has keys of {principal} of unsupported encryption types only ({etypes:?}): \
         set msDS-SupportedEncryptionTypes of the account to 24 (AES) and export it again",
        path.display()
    )]
    EtypesUnsupported {
        /// The file.
        path: PathBuf,
        /// The principal looked for.
        principal: String,
        /// Assigned numbers of the encryption types found.
        etypes: Vec<i32>,
    },
}

/// What is wrong with a file that should be a keytab.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeytabFlaw {
    /// No bytes, or no entry.
    #[error("it is empty; export the keytab again")]
    Empty,
    /// Larger than any keytab.
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// A directory, a device or a pipe.
    #[error("it is not a regular file")]
    NotAFile,
    /// The first two bytes are not 05 02.
    #[error("it does not begin as a keytab does")]
    Magic,
    /// Version 5.1, in the byte order of the machine that wrote it.
    #[error("its format is the outdated version 5.1; write it anew with ktutil (rkt, wkt) or export it again")]
    OldVersion,
    /// A record that ends before its contents.
    #[error("the record at byte {0} is cut short or malformed; export the keytab again")]
    Record(usize),
}

/// The second half of [`KeytabError::PrincipalAbsent`].
struct NearMiss<'a> {
    case: Option<&'a str>,
    others: &'a [String],
}

impl fmt::Display for NearMiss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(near) = self.case {
            return write!(f, "it has keys of {near}, which differs in letter case only: write kerberos.principal like that");
        }
        write!(f, "it has keys of {}", self.others.join(", "))
    }
}

/// The keys of a keytab file.
pub struct Keytab {
    path: PathBuf,
    mode: u32,
    bytes: SecretBytes,
    entries: Vec<Entry>,
}

/// One key of one principal.
struct Entry {
    realm: Box<str>,
    name: PrincipalName,
    kvno: u32,
    etype: i32,
    /// None: an encryption type not known here, or a key of the wrong length.
    key: Option<Key>,
    /// Where the record is in the file, its length included.
    record: Range<usize>,
}

impl Keytab {
    /// Reads a keytab file.
    pub fn read(path: &Path) -> Result<Self, KeytabError> {
        let unreadable = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound => KeytabError::Missing { path: path.into() },
            _ => KeytabError::Unreadable { path: path.into(), source },
        };
        let flawed = |flaw| KeytabError::NotAKeytab { path: path.into(), flaw };
        // The file is looked at again while the bridge runs, and may be anything by then: a pipe must not make us wait for its writer.
        let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(without_waiting).open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(flawed(KeytabFlaw::NotAFile));
        }
        if metadata.len() > MAX_BYTES {
            return Err(flawed(KeytabFlaw::TooLarge));
        }
        // Room for everything at once, so that no reallocation leaves a copy of the keys behind.
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(metadata.len()).unwrap_or(0)]);
        file.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(Self { mode: metadata.mode() & 0o7777, ..Self::from_bytes(path, &bytes)? })
    }

    /// A keytab from its bytes; `path` is for messages.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, KeytabError> {
        let entries = parse(bytes).map_err(|flaw| KeytabError::NotAKeytab { path: path.into(), flaw })?;
        Ok(Self { path: path.into(), mode: 0o600, bytes: SecretBytes::new(bytes.to_vec()), entries })
    }

    /// Version numbers of the principal's usable keys, newest first.
    pub fn versions_of(&self, principal: &OwnPrincipal) -> Vec<u32> {
        let versions: BTreeSet<u32> = self.keys_for(principal).map(|(version, _)| version).collect();
        versions.into_iter().rev().collect()
    }

    /// A keytab file with the principal's keys of one version and nothing else.
    pub fn only(&self, principal: &OwnPrincipal, version: u32) -> SecretBytes {
        let records = self.entries_of(principal).filter(|entry| entry.kvno == version && entry.key.is_some());
        let records: Vec<&[u8]> = records.filter_map(|entry| self.bytes.expose().get(entry.record.clone())).collect();
        // In one allocation: growing would leave copies of the keys behind.
        let mut file = Vec::with_capacity(2 + records.iter().map(|record| record.len()).sum::<usize>());
        file.extend([5, 2]);
        for record in records {
            file.extend_from_slice(record);
        }
        SecretBytes::new(file)
    }

    /// Says so if others than the file's owner may read or write it.
    pub fn permission_warning(&self) -> Option<String> {
        (self.mode & 0o077 != 0).then(|| {
            let path = self.path.display();
            format!("the keytab {path} has mode {:04o}: whoever reads it can impersonate users; chmod 0600 {path}", self.mode)
        })
    }

    /// The principal's usable keys with their version numbers, in the order of the file.
    pub fn keys_for(&self, principal: &OwnPrincipal) -> impl Iterator<Item = (u32, &Key)> {
        self.entries_of(principal).filter_map(|entry| Some((entry.kvno, entry.key.as_ref()?)))
    }

    /// Whether the principal has a usable key here; if not, what the file has instead.
    pub fn check(&self, principal: &OwnPrincipal) -> Result<(), KeytabError> {
        if self.keys_for(principal).next().is_some() {
            return Ok(());
        }
        let etypes: BTreeSet<i32> = self.entries_of(principal).map(|entry| entry.etype).collect();
        let (path, wanted) = (self.path.clone(), principal.to_string());
        if !etypes.is_empty() {
            return Err(KeytabError::EtypesUnsupported { path, principal: wanted, etypes: etypes.into_iter().collect() });
        }
        let others = self.principals();
        let letter_case = others.iter().find(|other| other.to_lowercase() == wanted.to_lowercase()).cloned();
        Err(KeytabError::PrincipalAbsent { path, principal: wanted, letter_case, others })
    }

    /// Every principal in the file, once, as text.
    pub fn principals(&self) -> Vec<String> {
        let all: BTreeSet<String> = self.entries.iter().map(|entry| format!("{}@{}", entry.name, entry.realm)).collect();
        all.into_iter().collect()
    }

    fn entries_of(&self, principal: &OwnPrincipal) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.name.same_components(principal.name()) && *entry.realm == *principal.realm().as_str())
    }
}

/// Names and numbers only.
impl fmt::Debug for Keytab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keytab").field("path", &self.path).field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>, KeytabFlaw> {
    let records = match bytes {
        [] => return Err(KeytabFlaw::Empty),
        [5, 2, records @ ..] => records,
        [5, 1, ..] => return Err(KeytabFlaw::OldVersion),
        _ => return Err(KeytabFlaw::Magic),
    };
    let mut cursor = Cursor { rest: records };
    let mut entries = Vec::new();
    while !cursor.rest.is_empty() {
        let flaw = KeytabFlaw::Record(bytes.len() - cursor.rest.len());
        let length = i32::from_be_bytes(cursor.array().ok_or(flaw)?);
        if length == 0 {
            break;
        }
        let body = cursor.take(usize::try_from(length.unsigned_abs()).map_err(|_| flaw)?).ok_or(flaw)?;
        if length > 0 {
            let end = bytes.len() - cursor.rest.len();
            let place = end - body.len() - 4..end;
            entries.push(record(body, place).ok_or(flaw)?);
        }
    }
    if entries.is_empty() { Err(KeytabFlaw::Empty) } else { Ok(entries) }
}

fn record(body: &[u8], place: Range<usize>) -> Option<Entry> {
    let mut cursor = Cursor { rest: body };
    let count = cursor.u16()?;
    if count > MAX_COMPONENTS {
        return None;
    }
    let realm = cursor.text()?;
    let components = (0..count).map(|_| cursor.text()).collect::<Option<_>>()?;
    let name_type = i32::from_be_bytes(cursor.array()?);
    let _timestamp: [u8; 4] = cursor.array()?;
    let [short_kvno] = cursor.array()?;
    let etype = i32::from(cursor.u16()?);
    let length = usize::from(cursor.u16()?);
    let key = cursor.take(length)?;
    // Entries of old writers end here; zero stands for "not set".
    let long_kvno = cursor.array().map_or(0, u32::from_be_bytes);
    let kvno = if long_kvno == 0 { u32::from(short_kvno) } else { long_kvno };
    let key = Etype::from_number(etype).and_then(|etype| Key::new(etype, SecretBytes::new(key.to_vec())).ok());
    Some(Entry { realm, name: PrincipalName { name_type, components }, kvno, etype, key, record: place })
}

/// Big-endian reading that cannot leave its bytes.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Names of other principals in the file need not be UTF-8; ours is, so a replacement character cannot make it match.
    fn text(&mut self) -> Option<Box<str>> {
        let length = usize::from(self.u16()?);
        Some(String::from_utf8_lossy(self.take(length)?).into())
    }
}

#[cfg(test)]
mod tests;
