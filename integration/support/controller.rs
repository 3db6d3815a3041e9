//! A domain controller of a test's own, to be killed, frozen, and given another time: Samba on a copy of the lab's domain as it was
//! made, with an address of its own. Its tickets are good for the lab's back ends, and the lab's for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Lab, SMB_CONF, domain_script, eventually, with_clock, with_samba_mounts};

/// What passes for nobody's answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Controller {
    directory: TempDir,
    process: Option<Child>,
    address: IpAddr,
    /// Its time is the machine's and what this file says.
    clock: Option<PathBuf>,
}

impl Controller {
    pub fn start(lab: &Lab) -> Self {
        Self::prepared(lab, |_| None)
    }

    /// With a clock that can be set.
    pub fn with_a_clock(lab: &Lab) -> Self {
        Self::prepared(lab, |directory| Some(directory.path().join("clock")))
    }

    fn prepared(lab: &Lab, clock: impl FnOnce(&TempDir) -> Option<PathBuf>) -> Self {
        static LAST: AtomicU8 = AtomicU8::new(0);
        let address = Ipv4Addr::new(127, 0, 88, LAST.fetch_add(1, Ordering::Relaxed) + 1);
        let directory = tempfile::tempdir_in(lab.path("")).expect("a temporary directory");
        let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(lab.path("cache/dc")).arg(directory.path()).status();
        assert!(copied.expect("cp").success(), "the domain is copied");
        let smb_conf = directory.path().join("dc/etc/smb.conf");
        let text = super::read(&smb_conf).replace("interfaces = lo", &format!("interfaces = {address}/8"));
        assert!(text.contains(&address.to_string()), "the lab's domain listens on lo");
        std::fs::write(&smb_conf, text).expect("smb.conf is written");
        let clock = clock(&directory);
        let mut controller = Self { directory, process: None, address: address.into(), clock };
        controller.set_clock("+0");
        controller.start_again();
        controller
    }

    /// For `kdcs`.
    pub fn kdc(&self) -> SocketAddr {
        SocketAddr::new(self.address, 88)
    }

    /// Starts it where there is none, and waits until it listens.
    pub fn start_again(&mut self) {
        let mut command = with_samba_mounts(&self.directory.path().join("dc"), "samba");
        command.args(["-i", "-M", "single", "--configfile", SMB_CONF, "--option=server services = kdc"]);
        if let Some(clock) = &self.clock {
            with_clock(&mut command, clock);
        }
        let log = std::fs::File::create(self.directory.path().join("log")).expect("a log file");
        command.stdout(log.try_clone().expect("the log file")).stderr(log);
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(command.spawn().expect("samba starts"));
        eventually("the domain controller listens", || TcpStream::connect_timeout(&self.kdc(), PATIENCE).ok());
    }

    /// As by a power failure.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it is killed");
        process.wait().expect("it ends");
    }

    /// Its ports stay open, and nothing comes.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_raw(process.id().cast_signed()).expect("a pid"), signal).expect("it takes a signal");
    }

    /// How far its clock is from the machine's, as `+10m`. Takes a second to be known.
    pub fn set_clock(&self, offset: &str) {
        if let Some(clock) = &self.clock {
            std::fs::write(clock, offset).expect("the clock is set");
        }
    }

    /// Runs integration/lab/SCRIPT on its database.
    pub fn script(&self, script: &str, arguments: &[&str]) -> String {
        domain_script(&self.directory.path().join("dc"), script, arguments)
    }

    /// Changes its database, which it reads while it runs.
    pub fn modify(&self, ldif: &str) {
        super::modify(&self.directory.path().join("dc"), ldif);
    }

    /// A file in its directory that scripts see as the second of the two.
    pub fn file(&self, name: &str) -> (PathBuf, String) {
        (self.directory.path().join("dc").join(name), format!("/var/lib/samba/dc/{name}"))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}
