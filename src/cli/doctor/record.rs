//! Where `--record` writes to: a directory that nobody else can look into, of which nothing is overwritten.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, fchmod, mkdirat, open, openat};
use rustix::io::Errno;

use crate::kerberos::capture::{MANIFEST, Manifest, verify};

/// Readable by its owner only, and empty when it was opened.
pub(super) struct RecordDirectory<'a> {
    path: &'a Path,
    directory: OwnedFd,
}

impl<'a> RecordDirectory<'a> {
    /// Makes the directory, or takes one that is there and empty. A symbolic link is not followed, with a slash behind it neither.
    pub(super) fn prepare(path: &'a Path) -> Result<Self, String> {
        let refused = |why: &dyn std::fmt::Display| format!("--record {}: {why}", path.display());
        // Without a slash at the end, by which the system would follow a link.
        let bare: PathBuf = path.components().collect();
        match mkdirat(CWD, &bare, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(refused(&io::Error::from(error))),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = open(&bare, flags, Mode::empty()).map_err(|error| refused(&io::Error::from(error)))?;
        let entries = Dir::read_from(&directory).map_err(|error| refused(&io::Error::from(error)))?;
        for entry in entries {
            let entry = entry.map_err(|error| refused(&io::Error::from(error)))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Err(refused(&"the directory is not empty"));
            }
        }
        // One that was there may be anybody's to read.
        fchmod(&directory, Mode::RWXU).map_err(|error| refused(&io::Error::from(error)))?;
        Ok(Self { path, directory })
    }

    /// Writes a recording, reads it back, and says in a line what it holds.
    pub(super) fn write(&self, manifest: &Manifest, files: &[(String, Vec<u8>)]) -> Result<String, String> {
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| error.to_string())?;
        for (name, bytes) in files.iter().map(|(name, bytes)| (name.as_str(), bytes)).chain([(MANIFEST, &text)]) {
            self.write_file(name, bytes).map_err(|error| format!("{}: {error}", self.path.join(name).display()))?;
        }
        let written = verify(self.path).map_err(|error| format!("the recording cannot be read back: {error}"))?;
        let (captures, withheld) = (written.captures.len(), written.withheld.len());
        Ok(format!("recorded {captures} answers in {}, withheld {withheld}", self.path.display()))
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        File::from(openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)?).write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_directory_that_is_new_or_empty_is_taken_and_is_its_owners_alone() {
        let place = tempfile::tempdir().unwrap();
        let (new, empty) = (place.path().join("new"), place.path().join("empty"));
        std::fs::create_dir(&empty).unwrap();
        std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o755)).unwrap();
        for path in [new, empty] {
            let directory = RecordDirectory::prepare(&path).unwrap();
            directory.write_file("capture", b"bytes").unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
            assert_eq!((mode(&path), mode(&path.join("capture"))), (0o700, 0o600));
            assert!(directory.write_file("capture", b"other").is_err(), "nothing is overwritten");
        }
    }

    #[test]
    fn a_directory_with_something_in_it_a_link_and_a_file_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let (full, link, file) = (place.path().join("full"), place.path().join("link"), place.path().join("file"));
        std::fs::create_dir(&full).unwrap();
        std::fs::write(full.join("x"), "").unwrap();
        std::fs::create_dir(place.path().join("empty")).unwrap();
        symlink(place.path().join("empty"), &link).unwrap();
        std::fs::write(&file, "").unwrap();
        let behind_a_slash = link.join("");
        for path in [full, link, behind_a_slash, file, place.path().join("no/parent")] {
            assert!(RecordDirectory::prepare(&path).is_err(), "{}", path.display());
        }
    }
}
