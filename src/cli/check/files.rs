//! Files and directories by themselves: there, readable, private; and the keytab's contents.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::finding::Findings;
use crate::config::Config;
use crate::failure::Cause;
use crate::files::read_regular;
use crate::kerberos::proof::keytab::{Keytab, KeytabError};

/// Bundles of certificates and CRLs are smaller.
const LONGEST_FILE: u64 = 64 << 20;

pub(super) fn examine(file: &Path, config: &Config, findings: &mut Findings) {
    untouched("", file, findings);
    keytab(config, findings);
    runtime_directory(&config.kerberos.runtime_directory, findings);
    if let Some(directory) = &config.directory {
        private("directory.bind_password_file", &directory.bind_password_file, findings);
    }
    if let Some(directory) = config.audit.file.as_deref().and_then(Path::parent)
        && !directory.is_dir()
    {
        let message = format!("{} is not a directory", directory.display());
        findings.error("audit.file", message, "create it, writable for the service's user");
    }
}

fn keytab(config: &Config, findings: &mut Findings) {
    const KEY: &str = "kerberos.keytab";
    let path = &config.kerberos.keytab;
    let read = Keytab::read(path).and_then(|keytab| keytab.check(&config.kerberos.principal));
    if let Err(error) = read {
        let remedy = match error {
            KeytabError::Missing { .. } => "name the keytab, or export one",
            KeytabError::Unreadable { .. } => "let the service's user read it",
            _ => Cause::KeytabUnusable.remedy(),
        };
        findings.error(KEY, error.to_string(), remedy);
    }
    private(KEY, path, findings);
}

fn runtime_directory(path: &Path, findings: &mut Findings) {
    const KEY: &str = "server.runtime_directory";
    // The service manager or the start creates a missing one.
    let Ok(metadata) = fs::metadata(path) else { return };
    if !metadata.is_dir() {
        findings.error(KEY, format!("{} is not a directory", path.display()), "name a directory of the service's own");
    } else if metadata.permissions().mode() & 0o077 != 0 {
        findings.warning(KEY, format!("{} is open to others", path.display()), format!("chmod 0700 {}", path.display()));
    }
}

/// The bytes of a file that the configuration names, or a finding.
pub(super) fn read(key: &str, path: &Path, findings: &mut Findings) -> Option<Vec<u8>> {
    match read_regular(path, LONGEST_FILE) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::NotFound => "put the file there, or correct the path",
                ErrorKind::PermissionDenied => "let the service's user read it",
                _ => "name a regular file",
            };
            findings.error(key, format!("{} cannot be read: {error}", path.display()), remedy);
            None
        }
    }
}

/// Says so if a file with keys is open to more than its owner.
pub(super) fn private(key: &str, path: &Path, findings: &mut Findings) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    let (shown, remedy) = (path.display(), format!("chmod 0600 {}", path.display()));
    if mode & 0o007 != 0 {
        findings.error(key, format!("{shown} is open to every user of this host (mode {mode:04o})"), remedy);
    } else if mode & 0o070 != 0 {
        findings.warning(key, format!("{shown} is open to its group (mode {mode:04o})"), remedy);
    }
}

/// Says so if others can change a file that decides who is let in.
pub(super) fn untouched(key: &str, path: &Path, findings: &mut Findings) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    let (shown, remedy) = (path.display(), format!("chmod go-w {}", path.display()));
    if mode & 0o002 != 0 {
        findings.error(key, format!("{shown} can be changed by every user of this host (mode {mode:04o})"), remedy);
    } else if mode & 0o020 != 0 {
        findings.warning(key, format!("{shown} can be changed by its group (mode {mode:04o})"), remedy);
    }
}
