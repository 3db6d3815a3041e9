use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;
use crate::kerberos::proof::keytab::testkit::{Record, keytab};

const OWN: &str = "svc-bridge@CORP.EXAMPLE";

fn own() -> OwnPrincipal {
    OwnPrincipal::parse(OWN).unwrap()
}

/// A keytab with our keys of these versions, and somebody else's.
fn file(versions: &[u32]) -> Vec<u8> {
    let mut records = vec![Record::new("other@CORP.EXAMPLE", 9, 18, &[9; 32])];
    for &version in versions {
        let byte = u8::try_from(version).unwrap();
        records.push(Record::new(OWN, version, 18, &[byte; 32]));
        records.push(Record::new(OWN, version, 17, &[byte; 16]));
    }
    keytab(&records)
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn with(bytes: &[u8]) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        place.replace(bytes);
        place
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("bridge.keytab")
    }

    /// As an export does it, or a careful administrator.
    fn replace(&self, bytes: &[u8]) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    fn keys(&self) -> Keys {
        Keys::read(self.path(), own()).unwrap()
    }
}

/// Which version a file for the library is of, and that it holds nothing else.
fn version_in(path: &Path) -> u32 {
    let found = Keytab::from_bytes(path, &std::fs::read(path).unwrap()).unwrap();
    assert_eq!(found.principals(), [OWN]);
    assert_eq!(found.keys_for(&own()).count(), 2);
    let versions = found.versions_of(&own());
    assert_eq!(versions.len(), 1, "{versions:?}");
    versions[0]
}

/// A KDC that takes one version.
fn kdc(takes: u32, asked: &mut Vec<u32>) -> impl FnMut(PathBuf) -> Result<u32, Failure> {
    move |path| {
        let version = version_in(&path);
        asked.push(version);
        if version == takes { Ok(version) } else { Err(Failure::from(Cause::OwnKeyRefused)) }
    }
}

#[test]
fn the_newest_key_is_tried_first_and_the_one_that_was_taken_is_kept_to() {
    let place = Place::with(&file(&[2, 4, 3]));
    let set = place.keys().current();
    let mut asked = Vec::new();
    assert_eq!(set.log_in(kdc(3, &mut asked)).unwrap(), 3);
    assert_eq!(asked, [4, 3]);
    asked.clear();
    assert_eq!(set.log_in(kdc(3, &mut asked)).unwrap(), 3);
    assert_eq!(asked, [3]);
    // The password reaches this domain controller too.
    asked.clear();
    assert_eq!(set.log_in(kdc(4, &mut asked)).unwrap(), 4);
    assert_eq!(asked, [3, 4]);
}

#[test]
fn no_more_than_three_versions_are_tried() {
    let place = Place::with(&file(&[1, 2, 3, 4, 5]));
    let mut asked = Vec::new();
    let failure = place.keys().current().log_in(kdc(1, &mut asked)).unwrap_err();
    assert_eq!(failure.cause, Cause::OwnKeyRefused);
    assert_eq!(asked, [5, 4, 3]);
    assert!(failure.detail.contains("[5, 4, 3]"), "{failure}");
}

#[test]
fn when_every_key_was_refused_the_account_is_not_driven_into_a_lockout() {
    let place = Place::with(&file(&[1]));
    let keys = place.keys();
    let set = keys.current();
    let mut asked = Vec::new();
    for _ in 0..100 {
        assert_eq!(set.log_in(kdc(2, &mut asked)).unwrap_err().cause, Cause::OwnKeyRefused);
        asked.truncate(2);
    }
    assert_eq!(asked, [1], "asked once");
    let pauses: Vec<u64> =
        [1, 2, 3, 6, 7, 40, u32::MAX].map(|rounds| Trial { rounds, ..Trial::default() }.pause().as_secs()).into();
    assert_eq!(pauses, [30, 60, 120, 960, 1800, 1800, 1800], "longer each time, for as long as the keytab is the same");
    // A new keytab is tried at once.
    place.replace(&file(&[1, 2]));
    let newer = keys.newer_than(&set).unwrap();
    assert_eq!(newer.log_in(kdc(2, &mut asked)).unwrap(), 2);
}

#[test]
fn trouble_of_the_kdc_is_no_refusal_of_the_key() {
    let place = Place::with(&file(&[1, 2]));
    let set = place.keys().current();
    for _ in 0..3 {
        let mut asked = 0;
        let silent = |_| {
            asked += 1;
            Err::<(), _>(Failure::from(Cause::KdcUnreachable))
        };
        assert_eq!(set.log_in(silent).unwrap_err().cause, Cause::KdcUnreachable);
        assert_eq!(asked, 1, "the other version would not be answered either");
    }
    assert_eq!(set.log_in(kdc(2, &mut Vec::new())).unwrap(), 2);
}

#[test]
fn workers_that_come_while_one_tries_share_its_word() {
    let place = Place::with(&file(&[1]));
    let set = place.keys().current();
    let asked = AtomicUsize::new(0);
    let (coming, comes) = mpsc::channel();
    let silent = || {
        asked.fetch_add(1, Ordering::SeqCst);
        Err::<(), _>(Failure::from(Cause::KdcUnreachable))
    };
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        let first = set.log_in(|_| {
            for _ in 0..7 {
                let (coming, set, silent) = (coming.clone(), &set, &silent);
                others.push(scope.spawn(move || {
                    coming.send(rustix::thread::gettid()).unwrap();
                    set.log_in(|_| silent())
                }));
            }
            // All of them sleep, and the lock is what they can sleep on.
            let threads: Vec<_> = comes.iter().take(7).collect();
            while !threads.iter().all(|thread| sleeps(thread.as_raw_nonzero().get())) {
                std::thread::yield_now();
            }
            silent()
        });
        assert_eq!(first.unwrap_err().cause, Cause::KdcUnreachable);
        for other in others {
            assert_eq!(other.join().unwrap().unwrap_err().cause, Cause::KdcUnreachable);
        }
    });
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Whoever comes afterwards asks.
    set.log_in(|_| silent()).unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// proc(5), `/proc/[pid]/stat`: the state follows the name in parentheses.
fn sleeps(thread: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('S')
}

#[test]
fn a_keytab_that_is_replaced_is_read_again_and_its_file_need_not_be() {
    let place = Place::with(&file(&[1]));
    let keys = place.keys();
    let old = keys.current();
    assert!(keys.newer_than(&old).is_none(), "nothing has changed");
    place.replace(&file(&[2]));
    let new = keys.newer_than(&old).unwrap();
    assert_eq!(new.numbers(), [2]);
    assert!(Arc::ptr_eq(&keys.current(), &new));
    // Whoever still works with the old ones can.
    std::fs::remove_file(place.path()).unwrap();
    assert_eq!(old.log_in(kdc(1, &mut Vec::new())).unwrap(), 1);
}

#[test]
fn a_new_keytab_that_cannot_be_used_leaves_the_old_keys_until_it_can() {
    let place = Place::with(&file(&[1]));
    let keys = place.keys();
    let old = keys.current();
    let strangers = keytab(&[Record::new("other@CORP.EXAMPLE", 9, 18, &[9; 32])]);
    let half = file(&[2])[..40].to_vec();
    for bad in [Vec::new(), b"text".to_vec(), half, strangers] {
        place.replace(&bad);
        assert!(keys.newer_than(&old).is_none());
        assert_eq!(keys.current().numbers(), [1]);
    }
    std::fs::remove_file(place.path()).unwrap();
    assert!(keys.newer_than(&old).is_none());
    place.replace(&file(&[2, 1]));
    assert_eq!(keys.newer_than(&old).unwrap().numbers(), [2, 1]);
}
