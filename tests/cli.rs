//! The command as its user meets it: the real binary, its exit codes and what it prints.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "these are tests, also their helpers")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Nothing in these tests may take longer; what does hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kcd-bridge")).args(arguments).env("COLUMNS", "200").output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A directory with everything a valid configuration names.
struct Site {
    directory: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

const CONFIG: &str = r#"
[listener]
address = "127.0.0.1:0"
certificate = "server.pem"
key = "server.key"

[client_certificates]
trust_anchors = ["ca.pem"]
revocation = { policy = "require", crl_files = ["ca.crl"] }

[kerberos]
principal = "svc-bridge@CORP.EXAMPLE"
keytab = "bridge.keytab"
kdcs = ["dc1.corp.example"]

[server]
runtime_directory = "runtime"

[[mapping]]
rule = "upn-with-sid"

[[backend]]
name = "mbx"
url = "https://mbx1.corp.example"
trust_anchors = ["ca.pem"]
spn = "HTTP/mbx1.corp.example"

[[route]]
path = "/Microsoft-Server-ActiveSync"
backend = "mbx"
"#;

impl Site {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = name("Device CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_after = date_time_ymd(4000, 1, 1);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let site = Self { directory: tempfile::tempdir().unwrap(), ca };
        site.write("ca.pem", site.ca.pem());
        site.write("ca.crl", site.crl((4000, 1, 1)));
        site.issue(|_| {});
        site.write("bridge.keytab", keytab("CORP.EXAMPLE", "svc-bridge"));
        site.write("bridge.toml", CONFIG);
        site
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn write(&self, file: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(file), contents).unwrap();
        self.mode(file, 0o600);
    }

    fn mode(&self, file: &str, mode: u32) {
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Writes a server certificate, changed by `change`, and its key.
    fn issue(&self, change: impl Fn(&mut CertificateParams)) {
        let mut params = CertificateParams::new(vec!["mail.corp.example".to_owned()]).unwrap();
        params.distinguished_name = name("mail.corp.example");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_after = date_time_ymd(4000, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        self.write("server.pem", params.signed_by(&key, &self.ca).unwrap().pem());
        self.write("server.key", key.serialize_pem());
    }

    fn crl(&self, (year, month, day): (i32, u8, u8)) -> String {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2001, 1, 1),
            next_update: date_time_ymd(year, month, day),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.ca).unwrap().pem().unwrap()
    }

    fn change(&self, from: &str, to: &str) {
        assert_eq!(CONFIG.matches(from).count(), 1, "{from}");
        self.write("bridge.toml", CONFIG.replace(from, to));
    }

    fn check(&self, more: &[&str]) -> Output {
        let config = self.path("bridge.toml");
        run(&[&["check", "--offline", "--config", config.to_str().unwrap()], more].concat())
    }

    /// Exit code and findings as (severity, key, message).
    fn findings(&self) -> (i32, Vec<(String, String, String)>) {
        let output = self.check(&["--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["version"], 1);
        let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
        let findings = report["findings"].as_array().unwrap().iter();
        let findings = findings.map(|finding| (text(finding, "severity"), text(finding, "key"), text(finding, "message")));
        (code(&output), findings.collect())
    }

    /// There is exactly one error or warning, about this key, and it says this.
    fn one(&self, severity: &str, key: &str, said: &str) {
        let (code, findings) = self.findings();
        let bad: Vec<_> = findings.iter().filter(|(severity, ..)| severity != "note").collect();
        let right = matches!(&bad[..], [(found, about, message)] if found == severity && about == key && message.contains(said));
        assert!(right, "{severity} {key} {said}: {bad:#?}");
        assert_eq!(code, 1);
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// A keytab with one AES256 key.
fn keytab(realm: &str, account: &str) -> Vec<u8> {
    let counted = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let record = [
        1u16.to_be_bytes().to_vec(),
        counted(realm.as_bytes()),
        counted(account.as_bytes()),
        1u32.to_be_bytes().to_vec(),
        0u32.to_be_bytes().to_vec(),
        vec![3],
        18u16.to_be_bytes().to_vec(),
        counted(&[7; 32]),
    ]
    .concat();
    [vec![5, 2], u32::try_from(record.len()).unwrap().to_be_bytes().to_vec(), record].concat()
}

#[test]
fn help_names_every_command_and_what_exit_codes_mean() {
    let help = run(&["--help"]);
    assert_eq!(code(&help), 0);
    for word in ["serve", "check", "doctor", "Exit codes: 0 good, 1 a finding, 2 usage, 3 could not run"] {
        assert!(out(&help).contains(word), "{word}: {}", out(&help));
    }
    for command in ["serve", "check", "doctor"] {
        let help = run(&[command, "--help"]);
        assert!(
            code(&help) == 0 && out(&help).contains("--config <FILE>") && out(&help).contains("Exit codes"),
            "{}",
            out(&help)
        );
        assert!(out(&help).contains("/etc/kcd-bridge/kcd-bridge.toml"), "{}", out(&help));
    }
    assert!(code(&run(&["--version"])) == 0);
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_2() {
    for line in [&[][..], &["sevre"], &["serve", "--confg", "x"], &["check", "--offline", "extra"], &["doctor"], &["docs", "x"]] {
        let output = run(line);
        assert_eq!(code(&output), 2, "{line:?}");
        assert!(out(&output).is_empty() && !err(&output).is_empty(), "{line:?}");
    }
}

#[test]
fn a_doctor_asked_about_something_that_is_no_user_principal_name_says_what_is_wrong_with_it() {
    for (user, said) in [("alice", "has no '@'"), ("alice@corp@example", "has two '@'"), ("dc1$@corp.example", "machine account")]
    {
        let output = run(&["doctor", "--user", user, "--backend", "mbx"]);
        assert_eq!(code(&output), 2, "{user}");
        assert!(err(&output).contains(user) && err(&output).contains(said), "{}", err(&output));
    }
}

#[test]
fn a_check_that_is_not_offline_is_a_usage_error_that_says_so() {
    let output = run(&["check"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("--offline"), "{}", err(&output));
}

#[test]
fn a_configuration_that_cannot_be_read_ends_with_3_and_is_named() {
    let site = Site::new();
    fs::remove_file(site.path("bridge.toml")).unwrap();
    let output = site.check(&[]);
    assert_eq!(code(&output), 3);
    assert!(out(&output).contains("bridge.toml") && out(&output).contains("No such file"), "{}", out(&output));
}

#[test]
fn a_good_site_passes() {
    let site = Site::new();
    let output = site.check(&[]);
    assert_eq!(code(&output), 0, "{}", out(&output));
    assert!(out(&output).contains("bridge.toml: 0 errors, 0 warnings, "), "{}", out(&output));
}

#[test]
fn every_problem_of_a_broken_configuration_is_printed_with_its_line_and_remedy() {
    let site = Site::new();
    site.write(
        "bridge.toml",
        CONFIG
            .replace("svc-bridge@CORP.EXAMPLE", "svc-bridge@corp.example")
            .replace("backend = \"mbx\"", "backend = \"mbz\"")
            .replace("key =", "keys ="),
    );
    let output = site.check(&[]);
    assert_eq!(code(&output), 1);
    for said in [
        "error: line 5: listener.keys: unknown key\n    -> did you mean key?",
        "error: line 2: listener.key: missing",
        "error: line 12: kerberos.principal: ",
        "    -> write CORP.EXAMPLE",
        "error: line 30: route[0].backend: there is no back end named \"mbz\"\n    -> did you mean \"mbx\"?",
        "4 errors, 0 warnings, 1 note\n",
    ] {
        assert!(out(&output).contains(said), "{said}: {}", out(&output));
    }
}

#[test]
fn a_missing_file_is_named_with_its_key() {
    for (file, key) in [
        ("server.pem", "listener.certificate"),
        ("server.key", "listener.key"),
        ("ca.crl", "client_certificates.revocation.crl_files[0]"),
        ("bridge.keytab", "kerberos.keytab"),
    ] {
        let site = Site::new();
        fs::remove_file(site.path(file)).unwrap();
        site.one("error", key, site.path(file).to_str().unwrap());
    }
}

#[test]
fn a_file_of_another_kind_is_told_from_a_good_one() {
    for (file, key, said) in [
        ("server.pem", "listener.certificate", "no certificate"),
        ("server.key", "listener.key", "no PEM private key"),
        ("ca.crl", "client_certificates.revocation.crl_files[0]", "no CRL"),
        ("bridge.keytab", "kerberos.keytab", "not a usable keytab"),
    ] {
        let site = Site::new();
        site.write(file, "something else\n");
        site.one("error", key, said);
    }
}

#[test]
fn what_a_key_file_holds_is_never_shown() {
    let site = Site::new();
    let key = fs::read_to_string(site.path("server.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    site.write("server.key", key.replace("-----BEGIN PRIVATE KEY-----", &format!("-----BEGIN {secret}")));
    let output = site.check(&[]);
    assert_eq!(code(&output), 1);
    assert!(!out(&output).contains(secret) && !err(&output).contains(secret));
}

#[test]
fn a_key_of_another_certificate_is_an_error() {
    let site = Site::new();
    site.write("server.key", KeyPair::generate().unwrap().serialize_pem());
    site.one("error", "listener.key", "is not the key of");
}

#[test]
fn an_encrypted_key_is_told_how_to_decrypt_it() {
    let site = Site::new();
    site.write("server.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n");
    site.one("error", "listener.key", "encrypted");
}

#[test]
fn a_key_or_keytab_that_others_can_read_is_a_finding() {
    for (file, key) in [("server.key", "listener.key"), ("bridge.keytab", "kerberos.keytab")] {
        let site = Site::new();
        site.mode(file, 0o644);
        site.one("error", key, "open to every user");
        site.mode(file, 0o640);
        site.one("warning", key, "open to its group");
    }
}

#[test]
fn a_file_that_decides_who_is_let_in_must_not_be_changed_by_others() {
    for (file, key) in
        [("bridge.toml", ""), ("server.pem", "listener.certificate"), ("ca.crl", "client_certificates.revocation.crl_files[0]")]
    {
        let site = Site::new();
        site.mode(file, 0o666);
        site.one("error", key, "changed by every user");
        site.mode(file, 0o664);
        site.one("warning", key, "changed by its group");
        site.mode(file, 0o644);
        assert_eq!(site.findings().0, 0);
    }
}

#[test]
fn a_server_certificate_that_devices_will_refuse_is_a_finding() {
    let site = Site::new();
    site.issue(|params| (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1)));
    site.one("error", "listener.certificate", "expired on 2002-01-01");
    site.issue(|params| params.not_before = date_time_ymd(3999, 1, 1));
    site.one("error", "listener.certificate", "valid only from 3999-01-01");
    site.issue(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    site.one("error", "listener.certificate", "not for servers");
    site.issue(|params| params.subject_alt_names.clear());
    site.one("warning", "listener.certificate", "names no host");
}

#[test]
fn a_chain_in_the_wrong_order_is_an_error() {
    let site = Site::new();
    let server = fs::read_to_string(site.path("server.pem")).unwrap();
    let stranger = Site::new();
    site.write("server.pem", format!("{server}{}", site.ca.pem()));
    assert_eq!(site.findings().0, 0);
    let other = fs::read_to_string(stranger.path("server.pem")).unwrap();
    site.write("server.pem", format!("{server}{other}"));
    site.one("error", "listener.certificate", "is not followed by its issuer");
}

#[test]
fn a_trust_anchor_must_be_a_ca() {
    let site = Site::new();
    site.write("leaf.pem", fs::read(site.path("server.pem")).unwrap());
    site.change("trust_anchors = [\"ca.pem\"]\nspn", "trust_anchors = [\"leaf.pem\"]\nspn");
    site.one("error", "backend[0].trust_anchors[0]", "is not a CA's certificate");
}

#[test]
fn an_expired_crl_is_an_error() {
    let site = Site::new();
    site.write("ca.crl", site.crl((2002, 1, 1)));
    site.one("error", "client_certificates.revocation.crl_files[0]", "expired on 2002-01-01");
}

#[test]
fn a_ca_without_a_crl_is_an_error() {
    let site = Site::new();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = name("Other CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = date_time_ymd(4000, 1, 1);
    site.write("other.pem", params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem());
    site.change("trust_anchors = [\"ca.pem\"]\nrev", "trust_anchors = [\"ca.pem\", \"other.pem\"]\nrev");
    site.one("error", "client_certificates.trust_anchors[1]", "no CRL of CN=Other CA");
}

#[test]
fn a_ca_without_a_crl_file_is_good_where_somebody_else_is_asked() {
    let site = Site::new();
    for other in ["distribution_points = [\"http://pki.corp.example/\"]", "ocsp = { url = \"http://ocsp.corp.example/\" }"] {
        site.change("crl_files = [\"ca.crl\"]", other);
        assert_eq!(site.findings().0, 0, "{other}");
    }
}

#[test]
fn whatever_serve_reads_at_its_start_is_read_by_the_check() {
    let site = Site::new();
    site.change("revocation = {", "issuing_cas = [\"missing.pem\"]\nrevocation = {");
    site.one("error", "client_certificates.issuing_cas[0]", "missing.pem");
    site.change("rule = \"upn-with-sid\"", "rule = \"upn-with-sid\"\nmatch = { issuers = [\"server.pem\"] }");
    site.one("error", "mapping[0].match.issuers[0]", "not a CA's certificate");
    let directory = "[directory]\nservers = [\"ldaps://dc1.corp.example\"]\ntrust_anchors = [\"ca.pem\"]\nbind_user = \"svc@corp.example\"\n\
                     bind_password_file = \"password\"\n[[mapping]]";
    site.change("[[mapping]]", directory);
    site.one("error", "directory.bind_password_file", "password cannot be read");
    site.write("password", "secret\n");
    assert_eq!(site.findings().0, 0);
    site.mode("password", 0o640);
    site.one("warning", "directory.bind_password_file", "open to its group");
}

#[test]
fn a_rule_that_looks_accounts_up_needs_a_directory() {
    let site = Site::new();
    for rule in ["sid", "alt-security-identities", "user-certificate", "strong-name-match"] {
        site.change("rule = \"upn-with-sid\"", &format!("rule = \"{rule}\""));
        let (_, findings) = site.findings();
        assert!(findings.iter().any(|(_, _, message)| message.contains("looks accounts up")), "{rule}: {findings:?}");
    }
}

#[test]
fn every_way_to_believe_less_than_the_defaults_is_listed() {
    let site = Site::new();
    site.write("other.pem", site.ca.pem());
    let issuer =
        "[[client_certificates.issuer]]\ncertificate = \"ca.pem\"\nrevocation = \"off\"\nusages = [\"none\"]\n[kerberos]";
    let weak = CONFIG
        .replace("policy = \"require\"", "policy = \"prefer\", grace = \"1h\"")
        .replace("trust_anchors = [\"ca.pem\"]\nrev", "trust_anchors = [\"ca.pem\", \"other.pem\"]\nrev")
        .replace("[kerberos]", issuer);
    site.write("bridge.toml", weak);
    let (code, findings) = site.findings();
    let keys: Vec<_> =
        findings.iter().filter(|(_, _, message)| message.starts_with("weak: ")).map(|(_, key, _)| &**key).collect();
    let expected = [
        "client_certificates.revocation.policy",
        "client_certificates.revocation.grace",
        "client_certificates.issuer[0].revocation",
        "client_certificates.issuer[0].usages",
        "mapping[0].match",
    ];
    assert_eq!((code, keys), (0, expected.to_vec()), "{findings:?}");
}

#[test]
fn a_keytab_of_another_account_is_an_error_that_says_whose_it_is() {
    let site = Site::new();
    site.write("bridge.keytab", keytab("CORP.EXAMPLE", "svc-other"));
    site.one("error", "kerberos.keytab", "svc-other@CORP.EXAMPLE");
}

#[test]
fn an_open_runtime_directory_is_a_warning() {
    let site = Site::new();
    fs::create_dir(site.path("runtime")).unwrap();
    site.mode("runtime", 0o755);
    site.one("warning", "server.runtime_directory", "open to others");
    site.mode("runtime", 0o700);
    assert_eq!(site.findings().0, 0);
}

#[test]
fn weak_settings_are_listed_and_are_no_reason_to_fail() {
    let site = Site::new();
    let weak = CONFIG
        .replace("{ policy = \"require\", crl_files = [\"ca.crl\"] }", "{ policy = \"off\" }")
        .replace(
            "rule = \"upn-with-sid\"",
            "rule = \"upn\"\n[[mapping.issuer]]\ncertificate = \"ca.pem\"\nallowed_suffixes = [\"corp.example\"]",
        )
        .replace("https://", "http://")
        .replace(
            "trust_anchors = [\"ca.pem\"]\nspn",
            "transport = \"http\"\nallow_rc4 = true\nmutual = \"tolerate-absence\"\nspn",
        )
        .replace("[kerberos]", "[kerberos]\ndenied_groups = []\ndenied_accounts = []");
    site.write("bridge.toml", weak);
    let (code, findings) = site.findings();
    let keys = findings
        .iter()
        .filter(|(_, _, message)| message.starts_with("weak: "))
        .map(|(severity, key, _)| (severity.as_str(), key.as_str()));
    let expected = [
        "client_certificates.revocation.policy",
        "mapping[0].rule",
        "kerberos.denied_groups",
        "kerberos.denied_accounts",
        "backend[0].transport",
        "backend[0].allow_rc4",
        "backend[0].mutual",
    ];
    assert_eq!(keys.collect::<Vec<_>>(), expected.map(|key| ("note", key)));
    assert_eq!(code, 0);
}

#[test]
fn a_setting_that_cannot_work_with_that_server_is_a_warning() {
    let site = Site::new();
    site.change("name = \"mbx\"", "name = \"mbx\"\nprofile = \"exchange-2003\"\nallow_rc4 = true");
    site.one("warning", "backend[0].transport", "no TLS 1.2");
    site.change("HTTP/mbx1", "ldap/mbx1");
    site.one("warning", "backend[0].spn", "not HTTP");
}

/// A running bridge, its log line by line. Killed when dropped.
struct Bridge {
    process: Child,
    log: Receiver<String>,
}

impl Bridge {
    fn serve(site: &Site, audit: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kcd-bridge"));
        command.arg("serve").arg("--config").arg(site.path("bridge.toml")).stdout(audit).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let (tell, log) = channel();
        std::thread::spawn(move || lines.into_iter().try_for_each(|line| tell.send(line)));
        Self { process, log }
    }

    /// The next line of the log that says this.
    fn says(&self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the log never says {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Its exit code, as soon as nothing more comes from it.
    fn ended(mut self) -> i32 {
        let end = loop {
            if let Err(end) = self.log.recv_timeout(PATIENCE) {
                break end;
            }
        };
        assert_eq!(end, RecvTimeoutError::Disconnected, "it still runs");
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The end of a stream that takes nothing more, and the other end that keeps it open.
fn full_stream() -> (UnixStream, UnixStream) {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[0]).is_ok() {}
    writer.set_nonblocking(false).unwrap();
    (writer, reader)
}

#[test]
fn either_signal_stops_the_bridge_in_order() {
    let site = Site::new();
    for signal in [Signal::TERM, Signal::INT] {
        let bridge = Bridge::serve(&site, Stdio::null());
        bridge.says("listening");
        bridge.signal(signal);
        bridge.says("stopped");
        assert_eq!(bridge.ended(), 0);
    }
}

#[test]
fn a_hangup_signal_reloads_all_or_nothing_and_names_what_needs_a_restart() {
    let site = Site::new();
    let bridge = Bridge::serve(&site, Stdio::null());
    bridge.says("listening");
    let good = fs::read_to_string(site.path("bridge.toml")).unwrap();

    site.change("rule = \"upn-with-sid\"", "rule = \"upn-with-side\"");
    bridge.signal(Signal::HUP);
    assert!(bridge.says("nothing was reloaded").contains("configuration cannot be used"));
    bridge.says("did you mean \"upn-with-sid\"");

    site.write("bridge.toml", good.replace("ca.pem\"]\nrev", "missing.pem\"]\nrev"));
    bridge.signal(Signal::HUP);
    assert!(bridge.says("nothing was reloaded").contains("missing.pem"));

    site.write("bridge.toml", good.replace("svc-bridge@", "svc-other@"));
    bridge.signal(Signal::HUP);
    assert!(bridge.says("only after a restart").contains("kerberos"));
    bridge.says("reloaded");

    bridge.signal(Signal::TERM);
    bridge.says("stopped");
    assert_eq!(bridge.ended(), 0);
}

#[test]
fn the_metrics_file_says_how_old_the_crls_are_and_what_was_decided() {
    let site = Site::new();
    site.change("[server]", "[metrics]\nfile = \"kcd-bridge.prom\"\ninterval = \"1s\"\n[server]");
    let bridge = Bridge::serve(&site, Stdio::null());
    bridge.says("listening");
    let deadline = std::time::Instant::now() + PATIENCE;
    let text = loop {
        match fs::read_to_string(site.path("kcd-bridge.prom")) {
            Ok(text) => break text,
            Err(_) => assert!(std::time::Instant::now() < deadline, "no metrics"),
        }
    };
    for line in [
        "kcd_bridge_client_certificates 0",
        "kcd_bridge_crl_entries{issuer=\"CN=Device CA\"",
        "# TYPE kcd_bridge_crl_age_seconds gauge",
        "kcd_bridge_revocation_decisions_total{decision=\"revoked\"} 0",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    bridge.signal(Signal::TERM);
    assert_eq!(bridge.ended(), 0);
}

#[test]
fn a_stop_ends_although_nobody_reads_the_audit_log_and_at_once_when_told_twice() {
    let site = Site::new();
    for twice in [false, true] {
        let (audit, _unread) = full_stream();
        let bridge = Bridge::serve(&site, Stdio::from(OwnedFd::from(audit)));
        let listening = bridge.says("listening");
        let address = listening.rsplit_once("address=").unwrap().1;
        drop(TcpStream::connect(address).unwrap());
        bridge.says("handshake-failed");
        bridge.signal(Signal::TERM);
        bridge.says("stopping");
        if twice {
            bridge.signal(Signal::TERM);
            bridge.says("told to stop a second time");
        } else {
            bridge.says("AUDIT EVENTS LOST");
        }
        assert_eq!(bridge.ended(), 3);
    }
}

#[test]
fn pages_of_the_documentation_say_what_the_program_says() {
    for (page, file) in [("failures", "docs/failures.md"), ("configuration", "docs/configuration.md")] {
        let written = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(out(&run(&["docs", page])) == written, "{file} is stale: kcd-bridge docs {page} > {file}");
    }
}
