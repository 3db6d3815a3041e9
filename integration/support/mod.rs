//! What every suite against the lab needs: where the lab is, a bridge process, a device with a certificate.

pub mod bridge;
pub mod controller;
pub mod device;
pub mod domain;
pub mod load;
pub mod way;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The running lab (`integration/lab.sh up`), found through `KCD_LAB`.
#[derive(Clone, Debug)]
pub struct Lab {
    directory: PathBuf,
}

impl Lab {
    pub fn get() -> Self {
        let directory = std::env::var_os("KCD_LAB").expect("run this through `integration/lab.sh run`: KCD_LAB is not set");
        Self { directory: directory.into() }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.directory.join(relative)
    }

    pub fn keytab(&self, name: &str) -> PathBuf {
        self.path(&format!("keytabs/{name}.keytab"))
    }

    pub fn pki(&self, file: &str) -> PathBuf {
        self.path(&format!("pki/{file}"))
    }

    /// The SID of an account, as the domain gave it.
    pub fn sid(&self, user: &str) -> String {
        let table = read(&self.path("users.tsv"));
        let row = table.lines().find(|row| row.split('\t').next() == Some(user)).expect("the user is in users.tsv");
        row.split('\t').nth(2).expect("users.tsv has a SID column").to_owned()
    }

    /// The SID of any account, by sAMAccountName.
    pub fn account_sid(&self, account: &str) -> String {
        let table = read(&self.path("sids.tsv"));
        let sid = table.lines().find_map(|row| row.strip_prefix(account)?.strip_prefix('\t'));
        sid.unwrap_or_else(|| panic!("{account} is in sids.tsv")).to_owned()
    }

    /// What the lab computed by itself for altSecurityIdentities: certificate, account, string.
    pub fn identities(&self) -> Vec<[String; 3]> {
        let table = read(&self.path("altsec.tsv"));
        let columns = |row: &str| row.splitn(3, '\t').map(str::to_owned).collect::<Vec<_>>().try_into();
        table.lines().map(|row| columns(row).expect("three columns")).collect()
    }

    /// A line of lab.env.
    pub fn variable(&self, name: &str) -> String {
        let table = read(&self.path("lab.env"));
        let value = table.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("lab.env has {name}")).to_owned()
    }
}

impl Lab {
    /// Disables an account until the returned guard is dropped.
    pub fn disable(&self, user: &str) -> Disabled {
        self.disable_with(user, ENABLED)
    }

    /// The same for an account that may use protocol transition.
    pub fn disable_service(&self, account: &str) -> Disabled {
        self.disable_with(account, ENABLED | TRUSTED_TO_AUTH_FOR_DELEGATION)
    }

    fn disable_with(&self, account: &str, control: u32) -> Disabled {
        self.set_account_control(account, control | ACCOUNT_DISABLE);
        Disabled { lab: self.clone(), user: account.to_owned(), control }
    }

    /// userAccountControl (MS-ADTS 2.2.16)
    fn set_account_control(&self, user: &str, value: u32) {
        self.replace(user, "userAccountControl", Some(value));
    }

    /// Sets msDS-SupportedEncryptionTypes (MS-KILE 2.2.7) until the returned guard is dropped; before, nobody had.
    pub fn set_encryption_types(&self, account: &str, value: u32) -> EncryptionTypes {
        self.replace(account, ENCRYPTION_TYPES, Some(value));
        EncryptionTypes { lab: self.clone(), account: account.to_owned() }
    }

    /// Writes an attribute into the domain's database, which the running server reads; `None` removes it.
    fn replace(&self, account: &str, attribute: &str, value: Option<u32>) {
        let value = value.map_or_else(String::new, |value| format!("{attribute}: {value}\n"));
        let change = format!("dn: CN={account},CN=Users,DC=corp,DC=example\nchangetype: modify\nreplace: {attribute}\n{value}");
        modify(&self.path("dc"), &change);
    }
}

impl Lab {
    /// Runs integration/lab/SCRIPT on the domain's database, where the running server has it. Returns what it prints.
    pub fn domain_script(&self, script: &str, arguments: &[&str]) -> String {
        domain_script(&self.path("dc"), script, arguments)
    }

    /// Revokes `pki/NAME.pem` and publishes the lists of its CA, until the returned guard is dropped.
    pub fn revoke(&self, certificate: &str, options: &[&str]) -> Revoked {
        self.revocation(&["revoke", certificate], options);
        let options = options.iter().filter(|option| **option == "--delta").map(|option| (*option).to_owned()).collect();
        Revoked { lab: self.clone(), certificate: certificate.to_owned(), options }
    }

    /// integration/lab/revocation.py
    pub fn revocation(&self, action: &[&str], options: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/lab/revocation.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-B").arg(script).arg(&self.directory).args(action).args(options);
        assert!(command.status().expect("python3").success(), "{action:?}");
    }
}

/// Where a domain in a directory finds itself, whatever the directory's path.
pub const SMB_CONF: &str = "/var/lib/samba/dc/etc/smb.conf";

/// A command that sees the domain of this directory at Samba's own places.
pub fn with_samba_mounts(domain: &Path, program: &str) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/lab");
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private"]).arg(scripts.join("samba-mounts.sh")).arg(domain).arg(program);
    command.stdin(Stdio::null());
    command
}

/// Changes the database of the domain in this directory, which its running server reads.
pub fn modify(domain: &Path, ldif: &str) {
    let mut command = Command::new("ldbmodify");
    command.arg("-H").arg(domain.join("private/sam.ldb")).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut modify = command.spawn().expect("ldbmodify");
    modify.stdin.take().expect("a pipe").write_all(ldif.as_bytes()).expect("the change is written");
    assert!(modify.wait().expect("ldbmodify ends").success(), "{ldif}");
}

/// Runs integration/lab/SCRIPT on the database of this domain.
pub fn domain_script(domain: &Path, script: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/lab").join(script);
    let mut command = with_samba_mounts(domain, "/usr/bin/python3");
    let output = command.arg("-B").arg(&script).arg(SMB_CONF).args(arguments).output().expect("unshare");
    assert!(output.status.success(), "{script:?} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Makes `command` read its wall clock, and not its monotonic one, from a file of libfaketime.
pub fn with_clock(command: &mut Command, clock: &Path) {
    // The dynamic linker knows the machine's $LIB.
    let library = "/usr/$LIB/faketime/libfaketimeMT.so.1";
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", clock).env("FAKETIME_CACHE_DURATION", "1");
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
}

/// A certificate that is revoked for now.
pub struct Revoked {
    lab: Lab,
    certificate: String,
    options: Vec<String>,
}

impl Drop for Revoked {
    fn drop(&mut self) {
        let options: Vec<_> = self.options.iter().map(String::as_str).collect();
        self.lab.revocation(&["restore", &self.certificate], &options);
    }
}

/// NORMAL_ACCOUNT and DONT_EXPIRE_PASSWORD; ACCOUNTDISABLE.
const ENABLED: u32 = 0x200 | 0x1_0000;
const ACCOUNT_DISABLE: u32 = 0x2;
const TRUSTED_TO_AUTH_FOR_DELEGATION: u32 = 0x100_0000;

const ENCRYPTION_TYPES: &str = "msDS-SupportedEncryptionTypes";

/// An account with an explicit setting for now.
pub struct EncryptionTypes {
    lab: Lab,
    account: String,
}

impl Drop for EncryptionTypes {
    fn drop(&mut self) {
        self.lab.replace(&self.account, ENCRYPTION_TYPES, None);
    }
}

/// An account that is disabled for now.
pub struct Disabled {
    lab: Lab,
    user: String,
    control: u32,
}

impl Drop for Disabled {
    fn drop(&mut self) {
        self.lab.set_account_control(&self.user, self.control);
    }
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Polls until `probe` gives a value; fails after ten seconds.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(std::time::Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
}
