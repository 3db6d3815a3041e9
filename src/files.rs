//! Reading the files a configuration names: regular files only, and no more of them than makes sense.

#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// The whole file. A pipe, a device or a directory is refused, without waiting for anybody at the other end; so is a file of more
/// than `limit` bytes ([`ErrorKind::FileTooLarge`]).
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(without_waiting).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        Ok(bytes)
    } else {
        Err(io::Error::new(ErrorKind::FileTooLarge, format!("larger than {limit} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_up_to_the_limit_is_read_and_one_byte_more_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 10]).unwrap();
        assert_eq!(read_regular(file.path(), 10).unwrap(), [7; 10]);
        assert_eq!(read_regular(file.path(), 9).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_and_a_directory_are_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        for path in [pipe.as_path(), directory.path(), Path::new("/dev/zero")] {
            assert_eq!(read_regular(path, 10).unwrap_err().kind(), ErrorKind::InvalidInput, "{}", path.display());
        }
    }
}
