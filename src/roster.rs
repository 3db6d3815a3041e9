//! The client certificates in use, by user and device as seen, and which of them end soon.
//!
//! Kept in memory by the running bridge for metrics and log, and built again from audit logs for the report: both forecast alike.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::certificate::Fingerprint;

/// More certificates are not remembered; the one that was not seen for longest is forgotten first.
const MAX_CERTIFICATES: usize = 200_000;
/// Devices of one certificate that are remembered.
const MAX_DEVICES: usize = 8;

const DAY: i64 = 24 * 3600;

/// A certificate that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// SHA-256 of the certificate.
    pub certificate: Fingerprint,
    /// Issuer, RFC 4514.
    pub issuer: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
    /// The account it stands for.
    pub principal: String,
    /// ActiveSync device id, as the device claims it.
    pub device: Option<String>,
    /// When, seconds since 1970.
    pub at: i64,
}

/// One certificate that ends soon, or has ended: the documented shape of the report, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// The account.
    pub principal: String,
    /// ActiveSync device ids it was used with, sorted.
    pub devices: Vec<String>,
    /// Issuer, RFC 4514.
    pub issuer: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate in hexadecimal.
    pub sha256: String,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
    /// Whole days left; negative when it has ended.
    pub days_left: i64,
    /// When it was last used, seconds since 1970.
    pub last_seen: i64,
    /// Another certificate of the same user, and device where both are known, is in use that ends later.
    pub renewed: bool,
}

/// Everything seen so far.
#[derive(Debug, Default)]
pub struct Roster(Mutex<HashMap<Fingerprint, Entry>>);

#[derive(Debug)]
struct Entry {
    issuer: String,
    serial: String,
    not_after: i64,
    principal: String,
    devices: BTreeSet<String>,
    last_seen: i64,
}

impl Roster {
    /// Notes a certificate in use.
    pub fn note(&self, sighting: Sighting) {
        let mut entries = self.lock();
        if entries.len() >= MAX_CERTIFICATES && !entries.contains_key(&sighting.certificate) {
            forget_the_oldest(&mut entries);
        }
        let Sighting { certificate, issuer, serial, not_after, principal, device, at } = sighting;
        let entry = entries.entry(certificate).or_insert_with(|| Entry {
            issuer,
            serial,
            not_after,
            principal: principal.clone(),
            devices: BTreeSet::new(),
            last_seen: at,
        });
        entry.last_seen = entry.last_seen.max(at);
        // A certificate that was mapped anew belongs to whom it was mapped last.
        if entry.principal != principal {
            entry.principal = principal;
            entry.devices.clear();
        }
        if let Some(device) = device
            && entry.devices.len() < MAX_DEVICES
        {
            entry.devices.insert(device);
        }
    }

    /// How many certificates are remembered.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Those that end within so many seconds of `now`, the next one first.
    pub fn ending(&self, now: i64, within: i64) -> Vec<Ending> {
        let entries = self.lock();
        let soon = || entries.iter().filter(|(_, entry)| entry.not_after <= now.saturating_add(within));
        let concerned: HashSet<&str> = soon().map(|(_, entry)| &*entry.principal).collect();
        let mut latest: HashMap<&str, Latest<'_>> = HashMap::new();
        for entry in entries.values().filter(|entry| concerned.contains(&*entry.principal)) {
            latest.entry(&entry.principal).or_default().note(entry);
        }
        let mut ending: Vec<_> = soon()
            .map(|(certificate, entry)| Ending {
                principal: entry.principal.clone(),
                devices: entry.devices.iter().cloned().collect(),
                issuer: entry.issuer.clone(),
                serial: entry.serial.clone(),
                sha256: certificate.to_string(),
                not_after: entry.not_after,
                days_left: (entry.not_after - now).div_euclid(DAY),
                last_seen: entry.last_seen,
                renewed: latest.get(&*entry.principal).is_some_and(|latest| latest.replaces(entry)),
            })
            .collect();
        ending.sort_by(|one, other| (one.not_after, &one.sha256).cmp(&(other.not_after, &other.sha256)));
        ending
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Fingerprint, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The latest ends of one user's certificates: one user may have thousands of devices.
#[derive(Default)]
struct Latest<'a> {
    of_any: Option<i64>,
    of_unknown_devices: Option<i64>,
    by_device: HashMap<&'a str, i64>,
}

impl<'a> Latest<'a> {
    fn note(&mut self, entry: &'a Entry) {
        let end = entry.not_after;
        self.of_any = self.of_any.max(Some(end));
        if entry.devices.is_empty() {
            self.of_unknown_devices = self.of_unknown_devices.max(Some(end));
        }
        for device in &entry.devices {
            let latest = self.by_device.entry(device).or_insert(end);
            *latest = end.max(*latest);
        }
    }

    /// Whether the holder of this certificate has a later one: for the same device, where both devices are known.
    fn replaces(&self, entry: &Entry) -> bool {
        let of_its_devices = entry.devices.iter().filter_map(|device| self.by_device.get(&**device).copied()).max();
        let latest = if entry.devices.is_empty() { self.of_any } else { self.of_unknown_devices.max(of_its_devices) };
        latest > Some(entry.not_after)
    }
}

/// A tenth at a time: the search is as long as the list.
fn forget_the_oldest(entries: &mut HashMap<Fingerprint, Entry>) {
    let mut times: Vec<_> = entries.values().map(|entry| entry.last_seen).collect();
    times.sort_unstable();
    let limit = times.get(MAX_CERTIFICATES / 10).copied().unwrap_or(i64::MAX);
    entries.retain(|_, entry| entry.last_seen > limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn sighting(number: u8, principal: &str, device: Option<&str>, days: i64) -> Sighting {
        Sighting {
            certificate: Fingerprint([number; 32]),
            issuer: "CN=Device CA".into(),
            serial: format!("{number:02x}"),
            not_after: NOW + days * DAY,
            principal: principal.into(),
            device: device.map(Into::into),
            at: NOW + i64::from(number),
        }
    }

    fn roster(sightings: impl IntoIterator<Item = Sighting>) -> Roster {
        let roster = Roster::default();
        sightings.into_iter().for_each(|sighting| roster.note(sighting));
        roster
    }

    #[test]
    fn what_ends_soonest_comes_first_and_what_lasts_is_left_out() {
        let roster = roster([sighting(1, "alice", None, 20), sighting(2, "bob", None, 5), sighting(3, "carol", None, 40)]);
        let ending = roster.ending(NOW, 30 * DAY);
        let told: Vec<_> = ending.iter().map(|ending| (&*ending.principal, ending.days_left)).collect();
        assert_eq!(told, [("bob", 5), ("alice", 20)]);
    }

    #[test]
    fn a_certificate_that_has_ended_has_negative_days() {
        assert_eq!(roster([sighting(1, "alice", None, -1)]).ending(NOW, DAY)[0].days_left, -1);
        let within_the_hour = Sighting { not_after: NOW - 60, ..sighting(1, "alice", None, 0) };
        assert_eq!(roster([within_the_hour]).ending(NOW, DAY)[0].days_left, -1);
    }

    #[test]
    fn a_renewed_certificate_of_the_same_user_and_device_is_told_from_one_nobody_renewed() {
        let roster = roster([
            sighting(1, "alice", Some("phone"), 5),
            sighting(2, "alice", Some("phone"), 300),
            sighting(3, "bob", Some("phone"), 5),
            sighting(4, "bob", Some("tablet"), 300),
            sighting(5, "carol", None, 5),
            sighting(6, "carol", Some("phone"), 300),
            sighting(7, "dave", Some("phone"), 5),
        ]);
        let renewed: Vec<_> = roster.ending(NOW, 30 * DAY).into_iter().map(|ending| (ending.principal, ending.renewed)).collect();
        let expected = [("alice", true), ("bob", false), ("carol", true), ("dave", false)];
        assert_eq!(renewed, expected.map(|(principal, renewed)| (principal.to_owned(), renewed)));
    }

    #[test]
    fn an_unknown_device_may_be_any_and_one_of_several_devices_is_enough() {
        let roster = roster([
            sighting(1, "alice", Some("phone"), 5),
            sighting(2, "alice", None, 300),
            sighting(3, "bob", Some("phone"), 5),
            sighting(3, "bob", Some("tablet"), 5),
            sighting(4, "bob", Some("tablet"), 300),
            sighting(5, "carol", Some("phone"), 5),
            sighting(6, "carol", Some("phone"), 5),
        ]);
        let renewed: Vec<_> = roster.ending(NOW, 30 * DAY).into_iter().map(|ending| (ending.principal, ending.renewed)).collect();
        let expected = [("alice", true), ("bob", true), ("carol", false), ("carol", false)];
        assert_eq!(renewed, expected.map(|(principal, renewed)| (principal.to_owned(), renewed)));
    }

    #[test]
    fn a_certificate_mapped_anew_belongs_to_whom_it_was_mapped_last() {
        let roster = roster([sighting(1, "alice", Some("phone"), 5), sighting(1, "bob", None, 5)]);
        let ending = roster.ending(NOW, 30 * DAY);
        assert_eq!((&*ending[0].principal, ending[0].devices.len()), ("bob", 0));
    }

    #[test]
    fn devices_and_certificates_are_bounded() {
        let many = roster((0..20).map(|number| sighting(1, "alice", Some(&format!("device{number}")), 5)));
        assert_eq!(many.ending(NOW, 30 * DAY)[0].devices.len(), MAX_DEVICES);
        let full = Roster::default();
        for number in 0..=u32::try_from(MAX_CERTIFICATES).unwrap() {
            let mut certificate = [0; 32];
            certificate[..4].copy_from_slice(&number.to_be_bytes());
            full.note(Sighting { certificate: Fingerprint(certificate), at: number.into(), ..sighting(1, "alice", None, 5) });
        }
        assert!(full.len() <= MAX_CERTIFICATES, "{}", full.len());
        assert!(full.lock().values().all(|entry| entry.last_seen > 0), "the oldest went first");
    }
}
