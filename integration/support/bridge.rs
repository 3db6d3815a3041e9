//! A `kcd-bridge serve` process with a configuration of its own, stopped when dropped.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{Lab, eventually, read};

pub struct Bridge {
    process: Child,
    pub address: SocketAddr,
    pub directory: TempDir,
}

/// A configuration to start from; tests replace or add lines.
pub struct Settings {
    pub lab: Lab,
    pub keytab: PathBuf,
    pub principal: String,
    /// the line `kdcs = [...]` of `[kerberos]`, or nothing for DNS
    pub kdcs: String,
    /// lines inside `[kerberos]`
    pub kerberos: String,
    /// lines inside `[listener]`
    pub listener: String,
    /// lines inside `[client_certificates]`
    pub trust: String,
    /// value of `client_certificates.revocation`
    pub revocation: String,
    /// the `[[mapping]]` tables
    pub mapping: String,
    /// lines inside the first `[[backend]]`, named mbx1
    pub backend: String,
    /// further tables
    pub more: String,
}

impl Settings {
    pub fn new(lab: &Lab) -> Self {
        let crl = lab.pki("device-ca.crl");
        Self {
            lab: lab.clone(),
            keytab: lab.keytab("bridge"),
            principal: "svc-bridge@CORP.EXAMPLE".into(),
            kdcs: "kdcs = [\"127.0.0.1\"]".into(),
            kerberos: String::new(),
            listener: String::new(),
            trust: String::new(),
            revocation: format!("{{ policy = \"require\", crl_files = [{crl:?}] }}"),
            mapping: "[[mapping]]\nrule = \"upn-with-sid\"\n".into(),
            backend: String::new(),
            more: String::new(),
        }
    }

    /// The same with `[directory]`; `lines` are further ones of it.
    pub fn with_directory(mut self, lines: &str) -> Self {
        let lab = &self.lab;
        self.more = format!(
            "[directory]\nservers = [{url:?}]\ntrust_anchors = [{ca:?}]\nbind_user = {user:?}\nbind_password_file = {password:?}\n{lines}\n{more}",
            url = lab.variable("KCD_LDAP_URL"),
            ca = lab.pki("ldap-ca.pem"),
            user = lab.variable("KCD_LDAP_USER"),
            password = lab.path("svc-ldap.password"),
            more = self.more,
        );
        self
    }

    /// Devices with certificates of the issuing CAs, which they do not send along.
    pub fn with_issuing_cas(mut self) -> Self {
        let files = ["issuing-ca", "issuing-ca-renewed", "revoked-ca"].map(|ca| self.lab.pki(&format!("{ca}.pem")));
        self.trust = format!("intermediates = {files:?}\n{}", self.trust);
        self
    }

    pub fn text(&self, directory: &Path) -> String {
        let Self { lab, keytab, principal, kdcs, kerberos, listener, trust, revocation, mapping, backend, more } = self;
        format!(
            r#"[listener]
address = "127.0.0.1:0"
certificate = {certificate:?}
key = {key:?}
{listener}
[client_certificates]
trust_anchors = [{anchor:?}]
{trust}
revocation = {revocation}
[kerberos]
principal = "{principal}"
keytab = {keytab:?}
{kdcs}
{kerberos}
[server]
runtime_directory = {runtime:?}
[audit]
file = {audit:?}
{mapping}
[[backend]]
name = "mbx1"
url = "http://mbx1.corp.example"
transport = "http"
spn = "HTTP/mbx1.corp.example"
{backend}
[[route]]
path = "/Microsoft-Server-ActiveSync"
backend = "mbx1"
{more}
"#,
            certificate = lab.pki("server.pem"),
            key = lab.pki("server.key"),
            anchor = lab.pki("device-ca.pem"),
            runtime = directory.join("run"),
            audit = directory.join("audit.jsonl"),
        )
    }
}

impl Bridge {
    /// Starts the bridge and waits until it listens.
    pub fn start(settings: &Settings) -> Self {
        Self::start_with(settings, |command| command)
    }

    /// The same, with a chance to wrap the command (strace, prlimit).
    pub fn start_with(settings: &Settings, wrap: impl FnOnce(Command) -> Command) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = directory.path().join("kcd-bridge.toml");
        std::fs::write(&config, settings.text(directory.path())).expect("the configuration is written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kcd-bridge"));
        command.arg("serve").arg("--config").arg(&config);
        let log = std::fs::File::create(directory.path().join("log")).expect("a log file");
        let mut command = wrap(command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().expect("the bridge starts");
        let mut bridge = Self { process, address: SocketAddr::from(([0; 4], 0)), directory };
        bridge.address = eventually("the bridge listens", || {
            if let Some(status) = bridge.process.try_wait().expect("the bridge can be waited for") {
                panic!("the bridge ended at once: {status}\n{}", bridge.log());
            }
            let log = bridge.log();
            let line = log.lines().find(|line| line.contains("listening address="))?;
            line.rsplit_once("address=")?.1.parse().ok()
        });
        bridge
    }

    /// Runs `serve` to its end, for configurations that must not start: exit status and standard error.
    pub fn fails_to_start(settings: &Settings) -> (ExitStatus, String) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = directory.path().join("kcd-bridge.toml");
        std::fs::write(&config, settings.text(directory.path())).expect("the configuration is written");
        let output = Command::new(env!("CARGO_BIN_EXE_kcd-bridge")).arg("serve").arg("--config").arg(&config).output();
        let output = output.expect("the bridge starts");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub fn log(&self) -> String {
        read(&self.directory.path().join("log"))
    }

    /// All audit events so far.
    pub fn audit(&self) -> Vec<Value> {
        let path = self.directory.path().join("audit.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // What is being written just now has no line end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("an audit line is JSON")).collect()
    }

    /// The first audit event that satisfies the predicate, waited for.
    pub fn audited(&self, what: &str, predicate: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || self.audit().into_iter().find(|event| predicate(event)))
    }

    /// Asks for a graceful stop and waits for the end.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.terminate();
        let status = self.process.wait().expect("the bridge can be waited for");
        let log = self.log();
        (status, log)
    }

    /// Its memory, in KiB.
    pub fn resident(&self) -> u64 {
        let status = read(Path::new(&format!("/proc/{}/status", self.process.id())));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Asks for a graceful stop.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Changes the configuration and waits until the bridge says what it made of it.
    pub fn reload(&self, settings: &Settings, said: &str) {
        let before = self.log().matches(said).count();
        let text = settings.text(self.directory.path());
        std::fs::write(self.directory.path().join("kcd-bridge.toml"), text).expect("the configuration is written");
        self.signal(rustix::process::Signal::HUP);
        eventually(said, || (self.log().matches(said).count() > before).then_some(()));
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.process.id().cast_signed()).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the bridge takes a signal");
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the bridge's log\n{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address nobody listens on: bound once and released.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}
