//! Lists in files and directories, read again when they change. What cannot be used is said once, and what was held stays.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::certificate::{LoadError, read_bounded};
use crate::revocation::Decision;
use crate::revocation::crl::{self, Crl};
use crate::revocation::engine::{Shared, clock, locked};
use crate::revocation::judge::CLOCK_SKEW;
use crate::revocation::lists::Source;

/// Files of one directory that are looked at.
const MAX_FILES: usize = 4096;

const REMEDY: &str = "fetch the CRL again from the CA (AD CS: certutil -getcrl)";

/// The files as they were when last read.
#[derive(Default)]
pub(super) struct Files {
    seen: HashMap<PathBuf, Seen>,
    /// Directories that could not be read the last time.
    unreadable: HashSet<PathBuf>,
}

#[derive(Default)]
struct Seen {
    stamp: Option<Stamp>,
    /// Of the lists in it.
    digests: Vec<[u8; 32]>,
}

/// Another one means another content.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

/// A list and its DER.
type Parsed = (Crl, Vec<u8>);

impl Files {
    /// Whether this file holds the list with this digest.
    pub(super) fn give(&self, path: &Path, digest: &[u8; 32]) -> bool {
        self.seen.get(path).is_some_and(|seen| seen.digests.contains(digest))
    }
}

impl Shared {
    /// Reads everything for the first time: what the configuration names must be there and be usable.
    pub(super) fn load_files(&self) -> Result<(), LoadError> {
        let mut files = locked(&self.files);
        for path in &self.config.crl_files {
            self.read_changed(&mut files, path, clock())?;
        }
        for directory in &self.config.crl_directories {
            self.read_directory(&mut files, &contents(directory)?, clock());
        }
        Ok(())
    }

    /// Blocking: reads what has changed since.
    pub(super) fn rescan_files(&self, now: i64) {
        let mut files = locked(&self.files);
        let mut present: HashSet<PathBuf> = HashSet::new();
        for path in self.config.crl_files.iter().filter(|path| path.exists()) {
            present.insert(path.clone());
            self.read_again(&mut files, path, now);
        }
        for directory in &self.config.crl_directories {
            match contents(directory) {
                Ok(paths) => {
                    files.unreadable.remove(directory);
                    self.read_directory(&mut files, &paths, now);
                    present.extend(paths);
                }
                Err(error) => {
                    if files.unreadable.insert(directory.clone()) {
                        tracing::error!(event = "crl-directory-unreadable", %error, "what was held stays");
                    }
                    present.extend(files.seen.keys().filter(|path| path.starts_with(directory)).cloned());
                }
            }
        }
        let gone: Vec<_> = files.seen.keys().filter(|path| !present.contains(*path)).cloned().collect();
        for path in gone {
            // Whatever else lay there is not missed.
            if files.seen.remove(&path).is_some_and(|seen| !seen.digests.is_empty()) {
                tracing::warn!(event = "crl-file-removed", file = %path.display(), "its CRL is used until its nextUpdate");
            }
            let source = Source::File(path);
            if self.change(|lists| lists.forget_unverified(&source)) {
                self.moved();
            }
        }
    }

    /// The files of a directory; whatever is no list is said once and skipped.
    fn read_directory(&self, files: &mut Files, paths: &[PathBuf], now: i64) {
        for path in paths {
            self.read_again(files, path, now);
        }
    }

    fn read_again(&self, files: &mut Files, path: &Path, now: i64) {
        if let Err(error) = self.read_changed(files, path, now) {
            self.tally.count(Decision::FileRefused);
            let held = files.seen.get(path).is_some_and(|seen| !seen.digests.is_empty());
            if held {
                tracing::error!(event = "crl-file-refused", %error, "the CRL that was in this file before is still used");
            } else {
                tracing::warn!(event = "crl-file-refused", %error, "skipped");
            }
        }
    }

    /// Reads a file if it is not as it was, and takes its lists.
    fn read_changed(&self, files: &mut Files, path: &Path, now: i64) -> Result<(), LoadError> {
        let stamp = stamp(path)?;
        let seen = files.seen.entry(path.to_owned()).or_default();
        if seen.stamp == Some(stamp) {
            return Ok(());
        }
        // Also where it turns out to be useless: to be said once.
        seen.stamp = Some(stamp);
        let lists = read(path, self.config.max_crl_bytes)?;
        let source = Source::File(path.to_owned());
        self.change(|lists| lists.forget_unverified(&source));
        seen.digests = lists.iter().map(|(crl, _)| crl.digest).collect();
        for (crl, der) in lists {
            if crl.this_update > now.saturating_add(CLOCK_SKEW) {
                // Read again until its time has come.
                seen.stamp = None;
                tracing::error!(event = "crl-not-yet-valid", file = %path.display(), "the CRL's thisUpdate is in the future: check the clock");
                continue;
            }
            self.take(self.held(crl, der, source.clone(), now));
        }
        Ok(())
    }
}

/// Every list of a file.
fn read(path: &Path, limit: u64) -> Result<Vec<Parsed>, LoadError> {
    let bytes = read_bounded(path, limit)?;
    let unusable = |error: crl::CrlError| LoadError::new(path, format!("is not a CRL that can be used: {error}"), REMEDY);
    let lists = crl::lists(bytes).map_err(unusable)?;
    lists.into_iter().map(|der| Ok((Crl::read(&der).map_err(unusable)?, der))).collect()
}

/// The regular files of a directory, in order.
fn contents(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let cannot = |error: std::io::Error| {
        LoadError::new(directory, format!("cannot be read: {error}"), "name a directory that the service's user may read")
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.is_file() {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(LoadError::new(directory, format!("holds more than {MAX_FILES} files"), "keep only CRLs in it"));
        }
    }
    paths.sort();
    Ok(paths)
}

fn stamp(path: &Path) -> Result<Stamp, LoadError> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| LoadError::new(path, format!("cannot be read: {error}"), "check the path and the permissions"))?;
    Ok(Stamp {
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        size: metadata.size(),
        inode: metadata.ino(),
    })
}
