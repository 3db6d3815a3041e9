//! The keytab in force: read again when its file changes, and which of its versions the KDC takes.
//!
//! During a change of password the file holds keys of two versions, or is replaced; meanwhile one domain controller knows the new
//! password and another does not. So the newest version is tried first and then older ones, and the one that was taken is kept to. Every key the KDC
//! refuses may count towards a lockout of our account: one worker tries while the others wait for its word, and after a refusal nobody
//! tries for a while.
//!
//! The library reads a keytab by its name, whenever it likes. It is given one version at a time in an anonymous file of this process, so that it
//! reads what was judged here and nothing is written to a disk.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use tracing::{error, info, warn};

use crate::failure::{Cause, Failure};
use crate::kerberos::proof::keytab::Keytab;
use crate::naming::name::OwnPrincipal;

/// The file is looked at this often at most, and only when tickets are acquired.
const LOOK: Duration = Duration::from_secs(1);
/// After the KDC refused every key, nobody tries again for so long, and twice as long each time, until the file changes. Domains lock
/// accounts out after five tries in half an hour, or so.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_mins(30);
/// Versions that are tried: this one, the one before, and one for a mishap between.
const TRIED: usize = 3;

/// Our keys, now and later.
#[derive(Debug)]
pub(in crate::kerberos) struct Keys {
    path: PathBuf,
    own: OwnPrincipal,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Arc<KeySet>,
    /// What the file looked like when it was read last, usable or not.
    seen: Option<Stamp>,
    looked: Instant,
}

/// One content of the file.
#[derive(Debug)]
pub(in crate::kerberos) struct KeySet {
    keytab: Keytab,
    versions: Vec<Version>,
    trial: Mutex<Trial>,
}

/// The keys of one version, as the library wants them.
#[derive(Debug)]
struct Version {
    number: u32,
    file: File,
}

/// What the KDC makes of the versions.
#[derive(Debug, Default)]
struct Trial {
    accepted: Option<usize>,
    failed: Option<(Instant, Failure)>,
    /// Rounds in which the KDC refused every key.
    rounds: u32,
}

impl Trial {
    fn pause(&self) -> Duration {
        LONGEST_PAUSE.min(REFUSED_PAUSE.saturating_mul(1_u32.checked_shl(self.rounds.saturating_sub(1)).unwrap_or(u32::MAX)))
    }
}

/// Tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Keys {
    /// Reads the file.
    pub(in crate::kerberos) fn read(path: PathBuf, own: OwnPrincipal) -> Result<Self, Failure> {
        let seen = stamp(&path);
        let current = Arc::new(KeySet::read(&path, &own)?);
        Ok(Self { path, own, state: Mutex::new(State { current, seen, looked: Instant::now() }) })
    }

    /// The keys in force; the file is looked at if that was some time ago.
    pub(in crate::kerberos) fn current(&self) -> Arc<KeySet> {
        let mut state = self.state();
        if state.looked.elapsed() >= LOOK {
            self.look(&mut state);
        }
        Arc::clone(&state.current)
    }

    /// Looks at the file now, because these keys did not do. Newer ones, if there are any.
    pub(in crate::kerberos) fn newer_than(&self, old: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let mut state = self.state();
        self.look(&mut state);
        (!Arc::ptr_eq(&state.current, old)).then(|| Arc::clone(&state.current))
    }

    /// A file that cannot be used is said once, and looked at again when it changes.
    fn look(&self, state: &mut State) {
        state.looked = Instant::now();
        let seen = stamp(&self.path);
        if seen == state.seen {
            return;
        }
        state.seen = seen;
        match KeySet::read(&self.path, &self.own) {
            Ok(new) => {
                info!(keytab = %self.path.display(), versions = ?new.numbers(), "the keytab has changed and was read again");
                state.current = Arc::new(new);
            }
            Err(failure) => {
                let remedy = failure.cause.remedy();
                error!(
                    reason = failure.cause.code(),
                    remedy, "the keytab has changed and cannot be used, the old keys stay: {failure}"
                );
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySet {
    fn read(path: &std::path::Path, own: &OwnPrincipal) -> Result<Self, Failure> {
        let unusable = |error: &dyn std::fmt::Display| Failure::new(Cause::KeytabUnusable, error.to_string());
        let keytab = Keytab::read(path).map_err(|error| unusable(&error))?;
        keytab.check(own).map_err(|error| unusable(&error))?;
        let versions = keytab.versions_of(own).into_iter().take(TRIED);
        let versions = versions.map(|number| Ok(Version { number, file: anonymous(keytab.only(own, number).expose())? }));
        let versions = versions.collect::<Result<_, std::io::Error>>().map_err(|error| unusable(&error))?;
        Ok(Self { keytab, versions, trial: Mutex::default() })
    }

    /// Every key in the file.
    pub(in crate::kerberos) fn keytab(&self) -> &Keytab {
        &self.keytab
    }

    fn numbers(&self) -> Vec<u32> {
        self.versions.iter().map(|version| version.number).collect()
    }

    /// Logs in with the version that the KDC takes. `attempt` is given the name of a keytab file for the library; what it fails with
    /// says whether the KDC refused the key. The file is there as long as this is.
    pub(in crate::kerberos) fn log_in<T>(&self, mut attempt: impl FnMut(PathBuf) -> Result<T, Failure>) -> Result<T, Failure> {
        // Before the first lock: another worker may hold it while it tries.
        let waiting_since = Instant::now();
        let accepted = self.trial().accepted;
        let mut refused = Failure::from(Cause::OwnKeyRefused);
        if let Some(version) = accepted.and_then(|index| self.versions.get(index)) {
            match attempt(version.path()) {
                Err(failure) if failure.cause == Cause::OwnKeyRefused => refused = failure,
                other => return other,
            }
        }
        let mut trial = self.trial();
        if let Some(version) = trial.accepted.filter(|_| trial.accepted != accepted).and_then(|index| self.versions.get(index)) {
            // Another worker has found it meanwhile.
            drop(trial);
            return attempt(version.path());
        }
        if let Some((at, failure)) = &trial.failed {
            let paused = failure.cause == Cause::OwnKeyRefused && at.elapsed() < trial.pause();
            if paused || *at >= waiting_since {
                return Err(failure.clone());
            }
        }
        let result = self.try_others((accepted, refused), &mut trial, &mut attempt);
        trial.failed = result.as_ref().err().map(|failure| (Instant::now(), failure.clone()));
        result
    }

    /// All versions but the one that was refused just now.
    fn try_others<T>(
        &self,
        (refused, mut last): (Option<usize>, Failure),
        trial: &mut Trial,
        attempt: &mut impl FnMut(PathBuf) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        trial.accepted = None;
        for (index, version) in self.versions.iter().enumerate().filter(|(index, _)| Some(*index) != refused) {
            match attempt(version.path()) {
                Err(failure) if failure.cause == Cause::OwnKeyRefused => last = failure,
                Err(failure) => return Err(failure),
                Ok(taken) => {
                    (trial.accepted, trial.rounds) = (Some(index), 0);
                    if index > 0 {
                        let newest = self.versions.first().map_or(0, |newest| newest.number);
                        warn!(
                            taken = version.number,
                            newest,
                            "the KDC does not take the newest key of the keytab but an older one: the change of password has not \
                             reached it yet, or was never made"
                        );
                    }
                    return Ok(taken);
                }
            }
        }
        trial.rounds = trial.rounds.saturating_add(1);
        let tried =
            format!("versions {:?} were tried, and not again for {:?} unless the keytab changes", self.numbers(), trial.pause());
        Err(Failure::new(Cause::OwnKeyRefused, last.detail).also(&tried).retry_after(trial.pause()))
    }

    fn trial(&self) -> MutexGuard<'_, Trial> {
        self.trial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Version {
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

/// A file in memory without a name in any directory, closed when a program is executed.
fn anonymous(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("keytab", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

fn stamp(path: &std::path::Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        inode: metadata.ino(),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests;
