//! `kcd-bridge explain` as its user meets it: the real binary over generated certificates, without a directory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "these are tests, also their helpers")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CrlDistributionPoint, CustomExtension,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, OtherNameValue, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use serde_json::Value;
use tempfile::TempDir;

const SID: &str = "S-1-5-21-294026126-3378245018-1203103949-1001";
const UPN: &[u64] = &[1, 3, 6, 1, 4, 1, 311, 20, 2, 3];

const CONFIG: &str = r#"
[listener]
address = "127.0.0.1:0"
certificate = "server.pem"
key = "server.key"

[client_certificates]
trust_anchors = ["ca.pem"]
revocation = { policy = "off" }

[kerberos]
principal = "svc-bridge@CORP.EXAMPLE"
keytab = "bridge.keytab"
kdcs = ["dc1.corp.example"]

[server]
runtime_directory = "runtime"

[[mapping]]
rule = "upn-with-sid"

[[mapping]]
rule = "upn"
[[mapping.issuer]]
certificate = "ca.pem"
allowed_suffixes = ["weak.example"]

[[backend]]
name = "mbx"
url = "https://mbx1.corp.example"
trust_anchors = ["ca.pem"]
spn = "HTTP/mbx1.corp.example"

[[route]]
path = "/Microsoft-Server-ActiveSync"
backend = "mbx"
"#;

/// A configuration and its CA, and the certificates that are explained.
struct Site {
    directory: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

fn ca(common_name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::OrganizationName, "Contoso, Inc.");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_after = date_time_ymd(4000, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn sid_extension(sid: &str) -> CustomExtension {
    let element = |tag: u8, contents: &[u8]| {
        let mut out = Vec::new();
        kcd_bridge::der::write(&mut out, tag, contents);
        out
    };
    let kind = [0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];
    let text = element(0xA0, &element(0x04, sid.as_bytes()));
    let value = element(0x30, &element(0xA0, &[kind.as_slice(), &text].concat()));
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 311, 25, 2], value)
}

fn strong(params: &mut CertificateParams) {
    with_upn(params, "Alice@corp.example");
    params.custom_extensions.push(sid_extension(SID));
}

fn with_upn(params: &mut CertificateParams, upn: &str) {
    params.subject_alt_names.push(SanType::OtherName((UPN.to_vec(), OtherNameValue::Utf8String(upn.to_owned()))));
}

impl Site {
    fn new() -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap(), ca: ca("Device CA") };
        site.write("ca.pem", site.ca.pem());
        site.write("bridge.toml", CONFIG);
        fs::create_dir(site.path("certificates")).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).unwrap();
    }

    fn issue_by(ca: &CertifiedIssuer<'static, KeyPair>, change: impl FnOnce(&mut CertificateParams)) -> rcgen::Certificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationalUnitName, "Users");
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.serial_number = Some(SerialNumber::from_slice(&[0xA1, 0xB2, 0xC3]));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_identifier_method = KeyIdMethod::PreSpecified(vec![0x0A, 0x0B]);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2090, 1, 1);
        change(&mut params);
        params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap()
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> String {
        let path = format!("certificates/{name}");
        self.write(&path, Self::issue_by(&self.ca, change).pem());
        path
    }

    fn explain(&self, arguments: &[&str]) -> Output {
        let config = self.path("bridge.toml");
        Command::new(env!("CARGO_BIN_EXE_kcd-bridge"))
            .args(["explain", "--config", config.to_str().unwrap()])
            .args(arguments)
            .current_dir(self.directory.path())
            .env("COLUMNS", "100")
            .output()
            .unwrap()
    }

    /// The JSON of one certificate, and the exit code.
    fn one(&self, file: &str) -> (Value, i32) {
        let output = self.explain(&["--json", file]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (report["certificates"][0].clone(), code(&output))
    }
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

/// Digests are of another key in every run.
fn without_digests(text: &str) -> String {
    let word = |word: &str| {
        let digest = word.rsplit('>').next().unwrap_or(word);
        let is_digest = matches!(digest.len(), 40 | 64) && digest.bytes().all(|c| c.is_ascii_hexdigit());
        if is_digest { word.replace(digest, &format!("({} digits)", digest.len())) } else { word.to_owned() }
    };
    text.lines().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[test]
fn a_strongly_mapped_certificate_is_explained_on_one_page() {
    let site = Site::new();
    let file = site.issue("alice.pem", strong);
    let output = site.explain(&[&file]);
    let text = without_digests(&out(&output));
    let (top, rest) = text.split_once("  rule 1").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(
        top,
        "\
certificates/alice.pem
  subject     CN=alice,OU=Users
  issuer      CN=Device CA,O=Contoso\\, Inc.
  serial      00a1b2c3
  valid       2020-01-01T00:00:00Z to 2090-01-01T00:00:00Z
  sha-256     (64 digits)
  sha-1       (40 digits)
  UPN         Alice@corp.example
  SID         S-1-5-21-294026126-3378245018-1203103949-1001
  usage       1.3.6.1.5.5.7.3.2 client authentication
  key usage   digital-signature
  chain       verified
"
    );
    let (_, strings) = rest.split_once("  strings").unwrap();
    assert_eq!(
        strings,
        " for altSecurityIdentities
    issuer-serial (strong)           X509:<I>O=\"Contoso, Inc.\",CN=Device CA<SR>c3b2a100
                                     with the sign octet
    issuer-serial (strong)           X509:<I>O=\"Contoso, Inc.\",CN=Device CA<SR>c3b2a1
                                     without the sign octet
    subject-key-identifier (strong)  none: no subject key identifier in the certificate
    sha1-public-key (strong)         X509:<SHA1-PUKEY>(40 digits)
                                     SHA-1 of the certificate
    sha1-public-key (strong)         X509:<SHA1-PUKEY>(40 digits)
                                     SHA-1 of the public key's bits
    sha1-public-key (strong)         X509:<SHA1-PUKEY>(40 digits)
                                     SHA-1 of the SubjectPublicKeyInfo
    issuer-sid (strong)              X509:<I>O=\"Contoso, Inc.\",CN=Device CA<SID>S-1-5-21-294026126-3378245018-1203103949-1001
    issuer-subject (weak)            X509:<I>O=\"Contoso, Inc.\",CN=Device CA<S>OU=Users,CN=alice
    subject (weak)                   X509:<S>OU=Users,CN=alice
    rfc822 (weak)                    none: no e-mail address in the certificate
  decision    strong: alice@corp.example (user, SID S-1-5-21-294026126-3378245018-1203103949-1001),
              by upn-with-sid

"
    );
    assert_eq!(code(&output), 0);
}

#[test]
fn every_rule_says_what_it_made_of_the_certificate() {
    let site = Site::new();
    let file = site.issue("bob.pem", |params| with_upn(params, "bob@weak.example"));
    let (report, code) = site.one(&file);
    assert_eq!((report["verdict"].as_str(), code), (Some("weak"), 1));
    let rules = report["rules"].as_array().unwrap();
    let shown: Vec<_> = rules.iter().map(|rule| (rule["rule"].as_str().unwrap(), rule["outcome"].as_str().unwrap())).collect();
    assert_eq!(shown, [("upn-with-sid", "lacks"), ("upn", "maps")]);
    assert!(rules[0]["why"].as_str().unwrap().contains("no SID"), "{}", rules[0]);
    assert_eq!(rules[0]["number"], 1);
    assert_eq!(rules[1]["principal"], "bob@weak.example");
    assert_eq!(rules[1]["expected_sid"], Value::Null);
    assert_eq!(report["decision"]["rule"], "upn");
}

#[test]
fn a_certificate_that_no_rule_maps_is_refused_with_reason_and_remedy() {
    let site = Site::new();
    let file = site.issue("carol.pem", |params| with_upn(params, "carol@other.example"));
    let (report, code) = site.one(&file);
    assert_eq!((report["verdict"].as_str(), code), (Some("refused"), 1));
    assert_eq!(report["decision"]["reason"], "suffix-not-allowed");
    assert!(report["decision"]["remedy"].as_str().unwrap().contains("allowed_suffixes"));
    assert_eq!(report["chain"]["verified"], true);
}

#[test]
fn a_certificate_that_is_not_admitted_is_explained_and_refused_all_the_same() {
    let site = Site::new();
    let expired = site.issue("expired.pem", |params| {
        strong(params);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let (report, code) = site.one(&expired);
    assert_eq!((report["verdict"].as_str(), code), (Some("refused"), 1));
    assert_eq!(
        (report["chain"]["verified"].as_bool(), report["chain"]["reason"].as_str()),
        (Some(false), Some("certificate-expired"))
    );
    assert_eq!(report["decision"]["reason"], "certificate-expired");
    assert_eq!(report["claims"]["upn"], "Alice@corp.example");
    // The issuer is known by its signature, though the certificate is not admitted.
    assert_eq!(report["rules"][0]["outcome"], "maps");

    let stranger = ca("Device CA");
    site.write("certificates/stranger.pem", Site::issue_by(&stranger, strong).pem());
    let (report, _) = site.one("certificates/stranger.pem");
    assert_eq!(report["verdict"], "refused");
    assert_eq!(report["decision"]["reason"], "unknown-issuer");
}

/// The site's configuration with rules that ask a directory, which does not answer.
fn with_directory(site: &Site) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    site.write("password", "secret\n");
    fs::set_permissions(site.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
    let directory = format!(
        "[directory]\nservers = [\"ldaps://127.0.0.1:{port}\"]\ntrust_anchors = [\"ca.pem\"]\nbind_user = \"svc@corp.example\"\n\
         bind_password_file = \"password\"\nconnect_timeout = \"200ms\"\n\n"
    );
    let rule = "[[mapping]]\nrule = \"alt-security-identities\"\n\n[[mapping]]\nrule = \"static\"\n[[mapping.entry]]\n\
                certificate_sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\nupn = \"x@corp.example\"\n\
                sid = \"S-1-5-21-1-2-3-1103\"\n\n[[backend]]";
    let rules = CONFIG.find("[[mapping]]").unwrap()..CONFIG.find("[[backend]]").unwrap();
    let text = CONFIG.replace(&CONFIG[rules], "").replace("[[backend]]", rule);
    site.write("bridge.toml", directory + &text);
}

#[test]
fn offline_a_rule_that_needs_the_directory_shows_what_it_would_ask() {
    let site = Site::new();
    with_directory(&site);
    let file = site.issue("alice.pem", strong);
    let output = site.explain(&["--offline", "--json", &file]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(report["offline"], true);
    let report = &report["certificates"][0];
    assert_eq!((report["verdict"].as_str(), code(&output)), (Some("undecided"), 1));
    let rule = &report["rules"][0];
    assert_eq!((rule["rule"].as_str(), rule["outcome"].as_str()), (Some("alt-security-identities"), Some("not-asked")));
    let filter = rule["filter"].as_str().unwrap();
    assert!(filter.contains("altSecurityIdentities=X509:<I>O=\"Contoso, Inc.\",CN=Device CA<SR>c3b2a1"), "{filter}");
    let values: Vec<_> =
        rule["computed"].as_array().unwrap().iter().map(|computed| computed["value"].as_str().unwrap()).collect();
    assert!(values.contains(&"X509:<I>O=\"Contoso, Inc.\",CN=Device CA<SR>c3b2a100"), "{values:?}");
    assert_eq!(report["rules"][1]["outcome"], "lacks");

    let text = out(&site.explain(&["--offline", &file]));
    assert!(text.contains("  rule 1      alt-security-identities (strong): would ask the directory\n"), "{text}");
    assert!(text.contains("                filter  (|(altSecurityIdentities="), "{text}");
    assert!(text.ends_with("  decision    undecided: only the directory knows, and it was not asked\n\n"), "{text}");
    let summary = out(&site.explain(&["--offline", "--summary", &file]));
    assert_eq!(summary, "0 strong, 0 weak, 0 refused, 1 undecided\n");
}

#[test]
fn a_directory_that_does_not_answer_refuses_with_its_own_reason() {
    let site = Site::new();
    with_directory(&site);
    let file = site.issue("alice.pem", strong);
    let (report, code) = site.one(&file);
    assert_eq!((report["verdict"].as_str(), code), (Some("refused"), 1));
    assert_eq!(report["decision"]["reason"], "directory-unreachable");
    assert_eq!(report["rules"][0]["reason"], "directory-unreachable");
}

#[test]
fn offline_what_would_be_asked_about_revocation_is_said_and_what_files_say_counts() {
    let site = Site::new();
    let file = site.issue("alice.pem", |params| {
        strong(params);
        let uris = vec!["http://crl.invalid/ca.crl".to_owned()];
        params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
    });
    let require = CONFIG.replace("policy = \"off\"", "policy = \"require\", distribution_points = [\"http://crl.invalid/\"]");
    site.write("bridge.toml", &require);
    let output = site.explain(&["--offline", "--json", &file]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(report["certificates"][0]["chain"]["not_asked"][0], "revocation");
    assert_eq!((report["certificates"][0]["verdict"].as_str(), code(&output)), (Some("strong"), 0));
    let text = out(&site.explain(&["--offline", &file]));
    assert!(text.contains("  chain       verified; not asked: revocation\n"), "{text}");

    site.write(
        "bridge.toml",
        CONFIG.replace("policy = \"off\"", "policy = \"require\", distribution_points = [\"http://else.invalid/\"]"),
    );
    let output = site.explain(&["--offline", "--json", &file]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["certificates"][0]["decision"]["reason"], "revocation-unknown", "nobody would be asked online either");

    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from_slice(&[0xA1, 0xB2, 0xC3]),
        revocation_time: date_time_ymd(2020, 2, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 2, 1),
        next_update: date_time_ymd(2090, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    site.write("ca.crl", list.signed_by(&site.ca).unwrap().pem().unwrap());
    site.write("bridge.toml", CONFIG.replace("policy = \"off\"", "policy = \"require\", crl_files = [\"ca.crl\"]"));
    let (report, code) = site.one(&file);
    assert_eq!((report["decision"]["reason"].as_str(), code), (Some("certificate-revoked"), 1));
}

#[test]
fn a_certificate_with_two_readings_is_refused_by_name() {
    let site = Site::new();
    let file = site.issue("two.pem", |params| {
        with_upn(params, "alice@corp.example");
        with_upn(params, "admin@corp.example");
    });
    let (report, _) = site.one(&file);
    assert_eq!(report["decision"]["reason"], "certificate-malformed");
    assert_eq!(report["claims"], Value::Null);
    assert_eq!(report["rules"], Value::Array(Vec::new()));
    let file = site.issue("conflict.pem", |params| {
        strong(params);
        let uri = "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500".to_owned();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    });
    assert_eq!(site.one(&file).0["decision"]["reason"], "sid-conflict");
}

#[test]
fn a_subject_that_could_forge_a_tag_has_no_string() {
    let site = Site::new();
    let file = site.issue("forged.pem", |params| {
        strong(params);
        params.distinguished_name.push(DnType::OrganizationName, "x<SR>00");
    });
    let (report, _) = site.one(&file);
    let refused: Vec<_> = report["strings"].as_array().unwrap().iter().filter(|string| string["refused"] == true).collect();
    assert_eq!(refused.len(), 2, "{refused:#?}");
    assert!(refused.iter().all(|string| string["value"].is_null() && string["form"].as_str().unwrap().contains("subject")));
}

#[test]
fn the_json_of_a_certificate_has_the_documented_shape() {
    let site = Site::new();
    let file = site.issue("alice.pem", strong);
    let output = site.explain(&["--json", &file]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((report["version"].as_u64(), report["offline"].as_bool()), (Some(1), Some(false)));
    let certificate = &report["certificates"][0];
    assert_eq!(keys(certificate), ["certificate", "chain", "claims", "decision", "rules", "source", "strings", "verdict"]);
    assert_eq!(keys(&certificate["certificate"]), ["issuer", "not_after", "not_before", "serial", "sha1", "sha256", "subject"]);
    assert_eq!(
        keys(&certificate["claims"]),
        [
            "common_name",
            "dns_names",
            "extended_key_usages",
            "extension_sid",
            "key_usages",
            "policies",
            "rfc822_names",
            "subject_key_identifier",
            "templates",
            "upn",
            "uri_sid"
        ]
    );
    assert_eq!(keys(&certificate["decision"]), ["expected_sid", "kind", "principal", "rule"]);
    assert_eq!(certificate["decision"]["expected_sid"], SID);
    assert_eq!(
        keys(&report["summary"]),
        [
            "by_reason",
            "by_rule",
            "certificates",
            "refusals",
            "refusals_not_listed",
            "refused",
            "skipped_files",
            "strong",
            "undecided",
            "unreadable",
            "weak"
        ]
    );
    assert_eq!(report["summary"]["by_rule"]["upn-with-sid"], 1);
    let pages = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/explain.md")).unwrap();
    let documented =
        |value: &Value| keys(value).into_iter().filter(|key| !pages.contains(&format!("`{key}`"))).collect::<Vec<_>>();
    let mut parts = vec![&report, certificate, &certificate["certificate"], &certificate["claims"], &report["summary"]];
    parts.extend([&certificate["decision"], &certificate["rules"][0], &certificate["strings"][0]]);
    for part in parts {
        assert_eq!(documented(part), Vec::<String>::new());
    }
}

#[test]
fn a_population_ends_with_a_summary() {
    let site = Site::new();
    for number in 0..40 {
        site.issue(&format!("strong-{number:02}.pem"), strong);
    }
    site.issue("weak.pem", |params| with_upn(params, "bob@weak.example"));
    fs::create_dir(site.path("certificates/more")).unwrap();
    site.issue("more/none.cer", |_| {});
    site.write("certificates/broken.cer", "not a certificate");
    site.write("certificates/readme.txt", "not a certificate");
    let output = site.explain(&["--summary", "certificates"]);
    let text = out(&output);
    let expected = "\
40 strong, 1 weak, 2 refused, 1 skipped
          1  mapped by upn
         40  mapped by upn-with-sid
          1  refused: certificate-unsuitable
          1  refused: no-mapping
refused:
  certificates/broken.cer
      certificate-unsuitable: ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("\n  certificates/more/none.cer\n      no-mapping: upn-with-sid: "), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(code(&output), 1);

    let output = site.explain(&["--summary", "--json", "certificates"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["certificates"], Value::Null);
    let summary = &report["summary"];
    assert_eq!((summary["certificates"].as_u64(), summary["strong"].as_u64()), (Some(43), Some(40)));
    assert_eq!(summary["refusals"][0]["source"], "certificates/broken.cer");
    assert_eq!(summary["refusals"][1]["reason"], "no-mapping");
}

#[test]
fn several_certificates_come_in_the_order_they_are_named() {
    let site = Site::new();
    let mut files: Vec<_> = (0..50).map(|number| site.issue(&format!("{number:02}.pem"), strong)).collect();
    files.reverse();
    let arguments: Vec<_> = std::iter::once("--json").chain(files.iter().map(String::as_str)).collect();
    let report: Value = serde_json::from_slice(&site.explain(&arguments).stdout).unwrap();
    let sources: Vec<_> =
        report["certificates"].as_array().unwrap().iter().map(|report| report["source"].as_str().unwrap()).collect();
    assert_eq!(sources, files);
}

#[test]
fn a_chain_in_one_file_is_one_certificate_and_a_bundle_is_several() {
    let site = Site::new();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "Issuing CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let below = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &site.ca).unwrap();
    let leaf = Site::issue_by(&below, strong);
    site.write("chain.pem", format!("{}{}", leaf.pem(), below.pem()));
    let (report, code) = site.one("chain.pem");
    assert_eq!((report["source"].as_str(), report["verdict"].as_str(), code), (Some("chain.pem"), Some("strong"), 0));
    site.write("leaf.pem", leaf.pem());
    assert_eq!(site.one("leaf.pem").0["decision"]["reason"], "unknown-issuer");

    site.write("bundle.pem", format!("{}{}{}", leaf.pem(), below.pem(), Site::issue_by(&site.ca, |_| {}).pem()));
    let report: Value = serde_json::from_slice(&site.explain(&["--json", "bundle.pem"]).stdout).unwrap();
    let shown = |index: usize| report["certificates"][index]["source"].as_str();
    assert_eq!((shown(0), shown(1), shown(2)), (Some("bundle.pem #1"), Some("bundle.pem #3"), None));
}

#[test]
fn der_is_read_as_well() {
    let site = Site::new();
    site.write("alice.der", Site::issue_by(&site.ca, strong).der());
    assert_eq!(site.one("alice.der").1, 0);
}

#[test]
fn what_a_subject_holds_cannot_move_the_cursor() {
    let site = Site::new();
    let file = site.issue("escape.pem", |params| {
        params.distinguished_name.push(DnType::LocalityName, "a\u{1b}[2J\u{202e}");
    });
    let text = out(&site.explain(&[&file]));
    assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text}");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_explained() {
    let site = Site::new();
    let file = site.issue("alice.pem", strong);
    let output = site.explain(&["missing.pem", &file, "bridge.toml"]);
    assert!(err(&output).contains("missing.pem: No such file"), "{}", err(&output));
    assert!(err(&output).contains("bridge.toml: holds no certificate"), "{}", err(&output));
    assert!(out(&output).contains("strong: alice@corp.example"));
    assert_eq!(code(&output), 3);
    fs::create_dir(site.path("empty")).unwrap();
    assert_eq!(code(&site.explain(&["empty"])), 3);
}

#[test]
fn without_a_usable_configuration_nothing_is_explained() {
    let site = Site::new();
    let file = site.issue("alice.pem", strong);
    site.write("bridge.toml", CONFIG.replace("trust_anchors = [\"ca.pem\"]\nrev", "trust_anchors = [\"none.pem\"]\nrev"));
    let output = site.explain(&[&file]);
    assert_eq!((code(&output), out(&output).as_str()), (3, ""));
    assert!(err(&output).contains("none.pem"), "{}", err(&output));
    site.write("bridge.toml", "x = 1");
    assert_eq!(code(&site.explain(&[&file])), 3);
}

#[test]
fn the_help_says_what_the_exit_codes_mean() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_kcd-bridge")).args(["explain", "--help"]).env("COLUMNS", "200").output().unwrap();
    let text = out(&output);
    for part in
        ["<CERTIFICATE>...", "--config <FILE>", "--offline", "--json", "--summary", "0 every certificate is mapped strongly"]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let site = Site::new();
    assert_eq!(code(&site.explain(&[])), 2);
    assert_eq!(code(&site.explain(&["--unknown", "x"])), 2);
}
