//! Revoked serial numbers: one flat table in the order of their hashes with a directory over it. A million of them cost 27 bytes each,
//! and a search touches memory in two or three places, where a binary search would in twenty.

use std::hash::{BuildHasher as _, RandomState};

use crate::der::DerError;

/// RFC 5280 section 4.1.2.2: serial numbers have up to 20 octets.
const SERIAL_OCTETS: usize = 20;

/// Longer serial numbers than the standard allows, as some CAs issued them: each is an allocation, so there are few.
const MAX_LONG_SERIALS: usize = 10_000;

/// Serial numbers to a place of the directory, about.
const BUCKET: usize = 4;

/// CRLReason certificateHold (RFC 5280 section 5.3.1).
pub(super) const HOLD: u8 = 6;
/// CRLReason removeFromCRL.
pub(super) const REMOVE: u8 = 8;

/// What a list says of one serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Revoked {
    /// CRLReason; unspecified (0) where the entry has none.
    pub(super) reason: u8,
    /// revocationDate, seconds since 1970.
    pub(super) since: i64,
}

/// Fields of single octets only, so that nothing is lost to alignment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// The number, right-aligned: leading zeros do not matter.
    serial: [u8; SERIAL_OCTETS],
    reason: u8,
    since: [u8; 4],
}

/// Entries of a list while it is read, in its order, each with its hash.
#[derive(Default)]
pub(super) struct EntriesBuilder {
    entries: Vec<(u32, Entry)>,
    long: Vec<(Box<[u8]>, Revoked)>,
    hasher: RandomState,
}

/// Entries of a list: each serial number once.
#[derive(Default)]
pub(super) struct Entries {
    /// In the order of their hashes.
    table: Box<[Entry]>,
    /// Where the entries start whose hashes start with the bits of the index; one more at the end.
    directory: Box<[u32]>,
    long: Box<[(Box<[u8]>, Revoked)]>,
    hasher: RandomState,
}

impl EntriesBuilder {
    /// For a list whose entries take this many bytes; typical ones are at least this long.
    pub(super) fn for_bytes(length: usize) -> Self {
        Self { entries: Vec::with_capacity(length / 36), ..Self::default() }
    }

    /// `serial`: contents octets of the INTEGER. Its sign octet and other leading zeros are not part of the number.
    pub(super) fn push(&mut self, serial: &[u8], revoked: Revoked) -> Result<(), DerError> {
        match aligned(serial) {
            Some(serial) => {
                let since = u32::try_from(revoked.since.max(0)).unwrap_or(u32::MAX);
                let entry = Entry { serial, reason: revoked.reason, since: since.to_be_bytes() };
                self.entries.push((hash(&self.hasher, &serial), entry));
            }
            None if self.long.len() == MAX_LONG_SERIALS => return Err(DerError::Value),
            None => self.long.push((significant(serial).into(), revoked)),
        }
        Ok(())
    }

    /// Sorts. Of several entries about one number the most severe stays.
    pub(super) fn finish(mut self) -> Entries {
        self.entries.sort_unstable_by(|(first, one), (second, other)| {
            let same = || one.serial.cmp(&other.serial).then_with(|| mildness(one.reason).cmp(&mildness(other.reason)));
            first.cmp(second).then_with(same)
        });
        self.entries.dedup_by(|(_, later), (_, kept)| later.serial == kept.serial);
        self.long.sort_by(|(one, first), (other, second)| {
            one.cmp(other).then_with(|| mildness(first.reason).cmp(&mildness(second.reason)))
        });
        self.long.dedup_by(|later, kept| later.0 == kept.0);
        Entries {
            directory: directory(&self.entries),
            table: self.entries.into_iter().map(|(_, entry)| entry).collect(),
            long: self.long.into_boxed_slice(),
            hasher: self.hasher,
        }
    }
}

impl Entries {
    /// What is said of the certificate with this serial number (contents octets of its INTEGER).
    pub(super) fn find(&self, serial: &[u8]) -> Option<Revoked> {
        let Some(wanted) = aligned(serial) else {
            let wanted = significant(serial);
            let at = self.long.binary_search_by(|(known, _)| (**known).cmp(wanted)).ok()?;
            return self.long.get(at).map(|(_, revoked)| *revoked);
        };
        let place = place(hash(&self.hasher, &wanted), self.directory.len().saturating_sub(1))?;
        let [start, end] = *self.directory.get(place..)?.first_chunk()?;
        let bucket = self.table.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
        let entry = bucket.iter().find(|entry| entry.serial == wanted)?;
        Some(Revoked { reason: entry.reason, since: i64::from(u32::from_be_bytes(entry.since)) })
    }

    /// How many certificates are listed.
    pub(super) fn len(&self) -> usize {
        self.table.len() + self.long.len()
    }

    /// Memory they take.
    pub(super) fn bytes(&self) -> usize {
        let long: usize = self.long.iter().map(|(serial, _)| serial.len() + size_of::<(Box<[u8]>, Revoked)>()).sum();
        size_of_val(&*self.table) + size_of_val(&*self.directory) + long
    }
}

/// Seeded anew for each list: whoever chooses serial numbers cannot choose where they end up.
fn hash(hasher: &RandomState, serial: &[u8; SERIAL_OCTETS]) -> u32 {
    let [.., a, b, c, d] = hasher.hash_one(serial).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The index into a directory of this many places, a power of two: the hash's first bits.
fn place(hash: u32, places: usize) -> Option<usize> {
    let bits = places.checked_ilog2()?;
    usize::try_from(u64::from(hash) >> (32 - bits.min(32))).ok()
}

/// Where each place starts in these sorted entries.
fn directory(entries: &[(u32, Entry)]) -> Box<[u32]> {
    let places = (entries.len() / BUCKET).max(1).next_power_of_two();
    let mut starts = Vec::with_capacity(places + 1);
    for (at, (hash, _)) in (0_u32..).zip(entries) {
        let place = place(*hash, places).unwrap_or_default();
        starts.resize(starts.len().max(place + 1), at);
    }
    starts.resize(places + 1, u32::try_from(entries.len()).unwrap_or(u32::MAX));
    starts.into_boxed_slice()
}

/// Real revocation before hold before removal.
fn mildness(reason: u8) -> u8 {
    match reason {
        REMOVE => 2,
        HOLD => 1,
        _ => 0,
    }
}

fn significant(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|&&octet| octet == 0).count();
    serial.get(zeros..).unwrap_or_default()
}

/// The number right-aligned, if it has no more than 20 octets.
pub(super) fn aligned(serial: &[u8]) -> Option<[u8; SERIAL_OCTETS]> {
    let octets = significant(serial);
    let mut number = [0; SERIAL_OCTETS];
    let start = SERIAL_OCTETS.checked_sub(octets.len())?;
    number.get_mut(start..)?.copy_from_slice(octets);
    Some(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn of(list: &[(&[u8], u8)]) -> Entries {
        let mut builder = EntriesBuilder::default();
        for (serial, reason) in list {
            builder.push(serial, Revoked { reason: *reason, since: 7 }).unwrap();
        }
        builder.finish()
    }

    fn reason(entries: &Entries, serial: &[u8]) -> Option<u8> {
        entries.find(serial).map(|revoked| revoked.reason)
    }

    #[test]
    fn leading_zeros_of_a_serial_number_do_not_matter() {
        let entries = of(&[(&[0, 0x80, 1], 1), (&[0, 0, 5], 2), (&[0], 3)]);
        assert_eq!(reason(&entries, &[0x80, 1]), Some(1));
        assert_eq!(reason(&entries, &[5]), Some(2));
        assert_eq!(reason(&entries, &[0, 0]), Some(3));
        assert_eq!(reason(&entries, &[5, 0]), None);
    }

    #[test]
    fn of_two_entries_about_one_number_the_most_severe_counts_in_either_order() {
        for list in [
            [(&[9][..], REMOVE), (&[9], 1)],
            [(&[9], 1), (&[0, 9], REMOVE)],
            [(&[9], 1), (&[9], HOLD)],
            [(&[9], HOLD), (&[9], 1)],
        ] {
            let entries = of(&list);
            assert_eq!((reason(&entries, &[9]), entries.len()), (Some(1), 1));
        }
        assert_eq!(reason(&of(&[(&[9], HOLD), (&[9], REMOVE)]), &[9]), Some(HOLD));
    }

    #[test]
    fn a_serial_number_longer_than_the_standard_allows_is_found_too() {
        let long = [7; 30];
        let entries = of(&[(&long, 1), (&[7; 20], 4)]);
        assert_eq!(reason(&entries, &long), Some(1));
        assert_eq!(reason(&entries, &[&[0][..], &long].concat()), Some(1));
        assert_eq!(reason(&entries, &[7; 29]), None);
        assert_eq!(reason(&entries, &[7; 20]), Some(4));
    }

    #[test]
    fn an_entry_takes_27_bytes() {
        let serials: Vec<_> = (0_u32..100_000).map(u32::to_be_bytes).collect();
        let entries = of(&serials.iter().map(|serial| (&serial[..], 1)).collect::<Vec<_>>());
        assert_eq!(entries.len(), 100_000);
        assert!(entries.bytes() / entries.len() <= 27, "{}", entries.bytes());
        assert!(serials.iter().all(|serial| entries.find(serial).is_some()));
        assert!((100_000_u32..200_000).all(|serial| entries.find(&serial.to_be_bytes()).is_none()));
    }

    #[test]
    fn nothing_is_found_among_no_entries() {
        assert_eq!(of(&[]).find(&[1]), None);
        assert_eq!(Entries::default().find(&[1]), None);
    }

    proptest! {
        #[test]
        fn a_search_says_what_a_plain_map_says(
            list in proptest::collection::vec((proptest::collection::vec(0_u8..3, 1..4), 0_u8..10), 0..60),
            asked in proptest::collection::vec(proptest::collection::vec(0_u8..3, 1..4), 0..20),
        ) {
            let mut model: BTreeMap<Vec<u8>, u8> = BTreeMap::new();
            for (serial, reason) in &list {
                let kept = model.entry(significant(serial).to_vec()).or_insert(*reason);
                if mildness(*reason) < mildness(*kept) {
                    *kept = *reason;
                }
            }
            let pairs: Vec<(&[u8], u8)> = list.iter().map(|(serial, reason)| (serial.as_slice(), *reason)).collect();
            let entries = of(&pairs);
            prop_assert_eq!(entries.len(), model.len());
            for serial in asked.iter().chain(list.iter().map(|(serial, _)| serial)) {
                let found = reason(&entries, serial).map(mildness);
                prop_assert_eq!(found, model.get(significant(serial)).copied().map(mildness));
            }
        }
    }
}
