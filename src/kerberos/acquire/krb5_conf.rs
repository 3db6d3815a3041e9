//! The private krb5.conf: every realm's only KDC is the relay, nothing is looked up in DNS, no default credential is in reach.
//!
//! `KRB5_CONFIG` has to name the file before libkrb5 is first used; [`PrivateFile::path_in`] tells the name before it exists.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use crate::kerberos::config::KerberosConfig;
use crate::naming::name::Realm;

/// Strongest first among those that every Windows KDC knows; RFC 8009 for newer ones.
const ENCTYPES: &str = "aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96 aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128";

/// Backstop for libkrb5 1.22 and later, which would otherwise wait for the relay without end.
const BEYOND_RELAY: Duration = Duration::from_secs(2);

/// The text of the private krb5.conf. We log in with keys: PKINIT's module, which the library would load and let go of at every AS
/// exchange (a fifth of an acquisition's time), is left out. Everything in it is a number, a constant or a [`Realm`], whose characters mean nothing to
/// the file's syntax.
///
/// Without `kdc_timesync` the library does not go by a KDC's clock that is far from ours: a ticket got that way begins when no back end
/// takes it yet, and a ticket-granting ticket stays tied to that clock after it was put right.
pub fn render(config: &KerberosConfig, relay_port: u16, allow_rc4: bool) -> String {
    let realms: Vec<&Realm> = config.realms.keys().collect();
    let (enctypes, rc4) = if allow_rc4 { (format!("{ENCTYPES} arcfour-hmac"), true) } else { (ENCTYPES.to_owned(), false) };
    let mut text = format!(
        "\
# Generated at every start; changes are lost.
[libdefaults]
    default_realm = {default_realm}
    dns_canonicalize_hostname = false
    rdns = false
    qualify_shortname = \"\"
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_uri_lookup = false
    forwardable = true
    noaddresses = true
    udp_preference_limit = 1
    request_timeout = {request_timeout}
    clockskew = {clockskew}
    kdc_timesync = 0
    permitted_enctypes = {enctypes}
    allow_weak_crypto = false
    allow_rc4 = {rc4}
    allow_des3 = false
    default_ccache_name = MEMORY:nobody
    default_keytab_name = MEMORY:nobody
    default_client_keytab_name = MEMORY:nobody

[plugins]
    clpreauth = {{
        disable = pkinit
    }}

[realms]
",
        default_realm = config.principal.realm(),
        request_timeout = (config.acquire_timeout + BEYOND_RELAY).as_secs().max(1),
        clockskew = config.clock_skew.as_secs(),
    );
    for realm in realms {
        // Writing to a String cannot fail.
        let _ = write!(text, "    {realm} = {{\n        kdc = 127.0.0.1:{relay_port}\n    }}\n");
    }
    text
}

/// Why the runtime directory or the file in it cannot be used.
#[derive(Debug, Error)]
pub enum PrivateFileError {
    /// The directory cannot be made or opened; a symbolic link in its place ends here too.
    #[error("the runtime directory {} cannot be used: {source}; it must be a directory (not a symbolic link) that we may create: \
             RuntimeDirectory=kcd-bridge and RuntimeDirectoryMode=0700 in the systemd unit, or `install -d -m 0700 -o USER {}`",
            directory.display(), directory.display())]
    Directory {
        /// the directory
        directory: PathBuf,
        /// what the system said
        source: io::Error,
    },
    /// Somebody else's directory.
    #[error("the runtime directory {} belongs to uid {owner}, not to us (uid {ours}): chown it", directory.display())]
    Owner {
        /// the directory
        directory: PathBuf,
        /// its owner
        owner: u32,
        /// our effective user
        ours: u32,
    },
    /// Others may look into it or write to it.
    #[error("the runtime directory {} is open to others (mode {mode:04o}): chmod 0700 {}", directory.display(), directory.display())]
    Mode {
        /// the directory
        directory: PathBuf,
        /// its permission bits
        mode: u32,
    },
    /// The file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// the file
        path: PathBuf,
        /// what the system said
        source: io::Error,
    },
}

/// A file of ours in the runtime directory, removed when dropped unless a newer one has taken its place.
#[derive(Debug)]
pub struct PrivateFile {
    directory: File,
    name: String,
    path: PathBuf,
    inode: u64,
}

impl PrivateFile {
    /// Where [`write`](Self::write) puts this process's file.
    pub fn path_in(directory: &Path) -> PathBuf {
        directory.join(name())
    }

    /// Writes `text` to this process's file in `directory`, which is made if it is missing (not its parents) and otherwise must be
    /// ours alone. Readers see the old file or the whole new one.
    pub fn write(directory: &Path, text: &str) -> Result<Self, PrivateFileError> {
        let handle = open_private(directory)?;
        let name = name();
        let path = directory.join(&name);
        match replace(&handle, &name, text) {
            Ok(inode) => Ok(Self { directory: handle, name, path, inode }),
            Err(error) => Err(PrivateFileError::File { path, source: error.into() }),
        }
    }

    /// For `KRB5_CONFIG`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        let still_there = fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        if still_there.is_ok_and(|found| found.st_ino == self.inode) {
            // There is nobody to tell of a failure.
            let _ = fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

fn name() -> String {
    format!("krb5-{}.conf", std::process::id())
}

/// Opens the directory without following a link in its last component and judges what was opened, not what has the name.
fn open_private(directory: &Path) -> Result<File, PrivateFileError> {
    let failed = |error: Errno| PrivateFileError::Directory { directory: directory.to_owned(), source: error.into() };
    match fs::mkdir(directory, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = fs::open(directory, flags, Mode::empty()).map_err(failed)?;
    let found = fs::fstat(&handle).map_err(failed)?;
    let ours = rustix::process::geteuid().as_raw();
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Err(failed(Errno::NOTDIR));
    }
    if found.st_uid != ours {
        return Err(PrivateFileError::Owner { directory: directory.to_owned(), owner: found.st_uid, ours });
    }
    let mode = found.st_mode & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Mode { directory: directory.to_owned(), mode });
    }
    Ok(File::from(handle))
}

/// Returns the new file's inode.
fn replace(directory: &File, name: &str, text: &str) -> Result<u64, Errno> {
    let temporary = format!(".{name}.new");
    // Only a process of ours with the same number, now dead, can have left one.
    match fs::unlinkat(directory, &temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(fs::openat(directory, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
    let written = file.write_all(text.as_bytes()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let renamed = written.and_then(|()| fs::renameat(directory, &temporary, directory, name));
    if renamed.is_err() {
        let _ = fs::unlinkat(directory, &temporary, AtFlags::empty());
    }
    renamed.and_then(|()| Ok(fs::fstat(&file)?.st_ino))
}

#[cfg(test)]
pub(in crate::kerberos) mod tests {
    use std::collections::BTreeMap;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::kerberos::config::{Engine, KdcSource};
    use crate::naming::name::OwnPrincipal;

    pub(in crate::kerberos) fn config() -> KerberosConfig {
        let realm = |name| (Realm::parse(name).unwrap(), KdcSource::Dns);
        KerberosConfig {
            principal: OwnPrincipal::parse("svc-bridge@CORP.EXAMPLE").unwrap(),
            keytab: "/etc/kcd-bridge/bridge.keytab".into(),
            realms: BTreeMap::from([realm("CORP.EXAMPLE"), realm("USERS.EXAMPLE")]),
            canaries: BTreeMap::new(),
            paces: BTreeMap::new(),
            engine: Engine::Native,
            workers: 4,
            queue: 1024,
            acquire_timeout: Duration::from_secs(5),
            kdc_timeout: Duration::from_secs(2),
            soft_age: Duration::from_mins(15),
            max_ride_through: Duration::from_hours(4),
            clock_skew: Duration::from_mins(5),
            cache_bytes: 1 << 28,
            denied_groups: Vec::new(),
            denied_accounts: Vec::new(),
            runtime_directory: "/run/kcd-bridge".into(),
        }
    }

    fn value<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
        let pairs = text.lines().filter_map(|line| line.trim().split_once(" = "));
        pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
    }

    #[test]
    fn every_realm_has_the_relay_as_its_only_kdc_and_dns_is_never_asked() {
        let text = render(&config(), 40_088, false);
        assert_eq!(value(&text, "kdc"), ["127.0.0.1:40088", "127.0.0.1:40088"]);
        assert_eq!(value(&text, "CORP.EXAMPLE"), ["{"]);
        assert_eq!(value(&text, "USERS.EXAMPLE"), ["{"]);
        assert_eq!(value(&text, "default_realm"), ["CORP.EXAMPLE"]);
        for key in ["dns_canonicalize_hostname", "rdns", "dns_lookup_kdc", "dns_lookup_realm", "dns_uri_lookup"] {
            assert_eq!(value(&text, key), ["false"], "{key}");
        }
        assert_eq!(value(&text, "forwardable"), ["true"]);
        assert_eq!(value(&text, "udp_preference_limit"), ["1"]);
        assert_eq!(value(&text, "request_timeout"), ["7"]);
    }

    #[test]
    fn no_module_is_loaded_for_what_we_never_do() {
        let text = render(&config(), 1, false);
        assert!(text.contains("[plugins]\n    clpreauth = {\n        disable = pkinit\n    }\n"), "{text}");
    }

    #[test]
    fn no_default_credential_is_in_reach() {
        let text = render(&config(), 1, false);
        for key in ["default_ccache_name", "default_keytab_name", "default_client_keytab_name"] {
            assert_eq!(value(&text, key), ["MEMORY:nobody"], "{key}");
        }
    }

    #[test]
    fn rc4_is_permitted_only_if_asked_for() {
        let without = render(&config(), 1, false);
        assert!(!without.contains("arcfour"));
        assert_eq!(value(&without, "allow_rc4"), ["false"]);
        let with = render(&config(), 1, true);
        assert!(value(&with, "permitted_enctypes")[0].ends_with(" arcfour-hmac"));
        assert_eq!(value(&with, "allow_rc4"), ["true"]);
        assert_eq!(value(&with, "allow_weak_crypto"), ["false"]);
    }

    #[test]
    fn the_file_and_a_directory_made_for_it_are_ours_alone_and_the_file_goes_with_its_guard() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("run");
        let file = PrivateFile::write(&directory, "first").unwrap();
        assert_eq!(file.path(), PrivateFile::path_in(&directory));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&directory), mode(file.path())), (0o700, 0o600));
        let path = file.path().to_owned();
        let again = PrivateFile::write(&directory, "second").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "no temporary file is left");
        drop(file);
        assert!(path.exists(), "a guard removes only the file it wrote");
        drop(again);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_open_to_others_is_refused_with_the_remedy() {
        let parent = tempfile::tempdir().unwrap();
        for mode in [0o750, 0o701, 0o720, 0o1777] {
            std::fs::set_permissions(parent.path(), Permissions::from_mode(mode)).unwrap();
            let refused = PrivateFile::write(parent.path(), "").unwrap_err();
            assert!(matches!(refused, PrivateFileError::Mode { mode: found, .. } if found == mode), "{refused}");
            assert!(refused.to_string().contains("chmod 0700"), "{refused}");
        }
    }

    #[test]
    fn a_symbolic_link_a_file_and_a_missing_parent_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let real = parent.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::set_permissions(&real, Permissions::from_mode(0o700)).unwrap();
        symlink(&real, parent.path().join("link")).unwrap();
        std::fs::write(parent.path().join("file"), "").unwrap();
        for bad in ["link", "file", "missing/run"] {
            let refused = PrivateFile::write(&parent.path().join(bad), "").unwrap_err();
            assert!(matches!(refused, PrivateFileError::Directory { .. }), "{bad}: {refused}");
        }
        assert_eq!(std::fs::read_dir(&real).unwrap().count(), 0);
    }

    #[test]
    fn a_planted_link_in_the_place_of_the_file_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let victim = directory.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        symlink(&victim, PrivateFile::path_in(directory.path())).unwrap();
        symlink(&victim, directory.path().join(format!(".{}.new", name()))).unwrap();
        let file = PrivateFile::write(directory.path(), "text").unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "text");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    }

    /// The owner is judged by what was opened; a directory of somebody else needs a second user, which tests have only as root.
    #[test]
    fn somebody_elses_directory_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), Permissions::from_mode(0o700)).unwrap();
        if std::os::unix::fs::chown(parent.path(), Some(65_534), None).is_ok() {
            let refused = PrivateFile::write(parent.path(), "").unwrap_err();
            assert!(matches!(refused, PrivateFileError::Owner { owner: 65_534, .. }), "{refused}");
        }
    }
}
