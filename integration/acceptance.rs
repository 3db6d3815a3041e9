//! The acceptance kit against the lab: what can be shown here is as its table says, and what it records holds nothing that names or opens.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kcd_bridge::kerberos::capture::{Seen, verify};

use crate::support::device::PATH;
use crate::support::{Lab, read};

/// Names of the kit's table, and who or what they are in the lab.
fn names(lab: &Lab) -> String {
    let users = [
        ("normal", "alice"),
        ("unknown", "nobody"),
        ("disabled", "dave"),
        ("locked", "locked"),
        ("expired", "expired"),
        ("nohours", "nohours"),
        ("mustchange", "mustchange"),
        ("sensitive", "carol"),
        ("protected", "protected"),
        ("privileged", "admin1"),
    ]
    .map(|(name, user)| format!("{name}\t{user}@corp.example"));
    let others = [
        ("kdcs", "127.0.0.1".to_owned()),
        ("bridge", "svc-bridge@CORP.EXAMPLE".into()),
        ("wrongkey", "svc-bridge@CORP.EXAMPLE".into()),
        ("listed", "HTTP/mbx1.corp.example".into()),
        ("notlisted", "HTTP/notlisted.corp.example".into()),
        ("nosuch", "HTTP/nosuch.corp.example".into()),
        ("rc4", "HTTP/mbx2003.corp.example".into()),
        ("lenient", "backend:lenient".into()),
        ("site", format!("http://mbx1.corp.example{PATH}")),
        ("rc4site", format!("http://mbx2003.corp.example{PATH}")),
        ("open", format!("{}{PATH}", lab.variable("KCD_PLAIN_URL"))),
    ]
    .map(|(name, value)| format!("{name}\t{value}"));
    // As Windows writes files.
    format!("\u{FEFF}{}\r\n", [&users[..], &others].concat().join("\r\n"))
}

struct Kit {
    directory: tempfile::TempDir,
    output: Output,
}

impl Kit {
    /// Runs the kit with these lines in the place of its table, or with its own.
    fn run(lab: &Lab, cases: Option<&str>, chosen: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("keytabs")).unwrap();
        for (account, keytab) in [("bridge", "bridge"), ("wrongkey", "wrong-key")] {
            std::fs::copy(lab.keytab(keytab), path(&format!("keytabs/{account}.keytab"))).unwrap();
        }
        std::fs::write(path("names.tsv"), names(lab)).unwrap();
        // The kit's own configuration, with the lab's names.
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/windows");
        let config = read(&kit.join("kit.toml"))
            .replace("keytabs/bridge.keytab", path("keytabs/bridge.keytab").to_str().expect("a path of text"))
            .replace("kcdt-bridge@", "svc-bridge@")
            .replace("dc1.corp.example", "127.0.0.1")
            .replace("iis1.corp.example", "mbx1.corp.example");
        std::fs::write(path("kit.toml"), config).unwrap();
        let mut command = Command::new(kit.join("run.sh"));
        command.env("KCD_BRIDGE", env!("CARGO_BIN_EXE_kcd-bridge")).args(["--platform", "samba", "--kdc", "Samba, the lab's"]);
        command.arg("--names").arg(path("names.tsv")).arg("--keytabs").arg(path("keytabs"));
        command.arg("--config").arg(path("kit.toml")).arg("--out").arg(path("out"));
        if let Some(cases) = cases {
            std::fs::write(path("cases.tsv"), cases).unwrap();
            command.arg("--cases").arg(path("cases.tsv"));
        }
        let output = command.args(chosen).output().expect("the kit runs");
        Self { directory, output }
    }

    fn said(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.output.stdout), String::from_utf8_lossy(&self.output.stderr))
    }

    /// Verdict of each case.
    fn summary(&self) -> Vec<(String, String)> {
        let summary = read(&self.directory.path().join("out/summary.tsv"));
        let column = |line: &str, number: usize| line.split('\t').nth(number).expect("four columns").to_owned();
        summary.lines().skip(1).map(|line| (column(line, 0), column(line, 1))).collect()
    }

    fn captures(&self) -> Vec<PathBuf> {
        let directory = self.directory.path().join("out/captures");
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn every_case_that_samba_can_show_is_as_the_table_says_and_its_recording_is_read_again() {
    let lab = Lab::get();
    let kit = Kit::run(&lab, None, &[]);
    assert_eq!(kit.output.status.code(), Some(0), "{}", kit.said());
    let summary = kit.summary();
    assert!(summary.len() >= 16 && summary.iter().all(|(_, verdict)| verdict == "ok"), "{}", kit.said());
    assert_eq!(kit.captures().len(), summary.len());

    let (mut statuses, mut verdicts, mut pacs) = (Vec::new(), Vec::new(), 0);
    for capture in kit.captures() {
        let manifest = verify(&capture).unwrap_or_else(|error| panic!("{}: {error}", capture.display()));
        // The only thing ever kept back here: a case that has the name of an account of the lab.
        assert!(manifest.withheld.iter().all(|withheld| withheld.kind == "label"), "{manifest:#?}");
        for capture in manifest.captures {
            match capture.seen {
                Seen::KrbError(error) => statuses.extend(error.ntstatus),
                Seen::Pac(pac) => {
                    pacs += 1;
                    assert!(capture.original_buffers.iter().all(|buffer| buffer.kept || buffer.buffer_type == 13), "{pac:?}");
                }
                Seen::Answer(answer) => verdicts.push((answer.verdict, answer.etype)),
            }
        }
    }
    for status in ["0xc0000072", "0xc0000234", "0xc0000193", "0xc000006f"] {
        assert!(statuses.iter().any(|seen| seen == status), "{status}: {statuses:?}");
    }
    verdicts.sort();
    let proved = |etype| ("proved".to_owned(), Some(etype));
    assert_eq!(verdicts, [proved(18), proved(18), proved(23)]);
    assert!(pacs >= 8, "{pacs}");
}

#[test]
fn no_recording_holds_a_name_a_sid_a_key_or_a_ticket_of_the_domain() {
    let lab = Lab::get();
    let kit = Kit::run(&lab, None, &["normal", "rc4-site", "sensitive", "disabled", "protected"]);
    assert_eq!(kit.output.status.code(), Some(0), "{}", kit.said());

    let accounts = read(&lab.path("sids.tsv"));
    let mut texts: Vec<String> = accounts.lines().filter_map(|line| line.split('\t').next()).map(str::to_lowercase).collect();
    texts.extend(["corp.example", "mbx1", "mbx2003", "svc-bridge"].map(str::to_owned));
    // A name that every domain has, and words of the manifest.
    let common = ["krbtgt", "protected"];
    texts.retain(|text| text.len() >= 4 && text.is_ascii() && !common.contains(&text.as_str()));
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut forbidden: Vec<(String, Vec<u8>)> = Vec::new();
    for text in &texts {
        forbidden.push((text.clone(), text.clone().into_bytes()));
        forbidden.push((format!("{text} in UTF-16"), utf16(text)));
    }
    let sid = lab.sid("alice");
    let numbers: Vec<u32> = sid.split('-').skip(4).take(3).map(|number| number.parse().unwrap()).collect();
    forbidden.push(("the domain's SID".into(), numbers.iter().flat_map(|number| number.to_le_bytes()).collect()));
    forbidden
        .push(("the domain's SID as text".into(), numbers.iter().map(u32::to_string).collect::<Vec<_>>().join("-").into_bytes()));
    for keytab in ["bridge", "mbx1", "mbx2003"] {
        for key in keys(&std::fs::read(lab.keytab(keytab)).unwrap()) {
            forbidden.push((format!("a key of {keytab}"), key));
        }
    }
    assert!(forbidden.len() > 80, "{}", forbidden.len());

    let mut looked_at = 0;
    for directory in kit.captures() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            // What stands inside Base64 is looked at too.
            let decoded = bytes.strip_prefix(b"Negotiate ").map(|text| base64_simd::STANDARD.decode_to_vec(text).unwrap());
            let found = |bytes: &[u8]| {
                let (exact, lower) = (bytes.to_vec(), bytes.to_ascii_lowercase());
                let stands =
                    |wanted: &[u8]| [&exact, &lower].iter().any(|all| all.windows(wanted.len()).any(|part| part == wanted));
                forbidden.iter().find(|(_, wanted)| stands(wanted)).map(|(name, _)| name.clone())
            };
            assert_eq!(found(decoded.as_deref().unwrap_or(&bytes)), None, "{}", path.display());
            // A Ticket is [APPLICATION 1]: of an AP-REQ, a KDC's reply or anything else.
            assert!(!bytes.windows(2).any(|head| head == [0x61, 0x82]), "{} holds a ticket", path.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 15, "{looked_at}");
}

/// The keys in a keytab of version 5.2 (MIT krb5 documentation, "Keytab file format").
fn keys(keytab: &[u8]) -> Vec<Vec<u8>> {
    let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte));
    let (mut rest, mut keys) = (&keytab[2..], Vec::new());
    while rest.len() > 4 {
        let (length, body) = (number(&rest[..4]), &rest[4..]);
        let mut at = 2;
        for _ in 0..=number(&body[..2]) {
            at += 2 + number(&body[at..at + 2]);
        }
        at += 4 + 4 + 1 + 2;
        keys.push(body[at + 2..at + 2 + number(&body[at..at + 2])].to_vec());
        rest = &body[length..];
    }
    assert!(!keys.is_empty() && keys.iter().all(|key| key.len() >= 16));
    keys
}

#[test]
fn what_differs_from_the_table_is_a_failure_and_what_the_table_leaves_open_is_told() {
    let lab = Lab::get();
    let cases = "# a comment\n\
                 good\tbridge\tnormal\tlisted\t-\t-\tgood\n\
                 wrong\tbridge\tsensitive\tlisted\t-\t-\tgood\n\
                 open\tbridge\tsensitive\tlisted\t-\t-\tgood?\n\
                 status\tbridge\tdisabled\tlisted\t-\t-\ts4u2self:user-revoked\n\
                 otherstatus\tbridge\tdisabled\tlisted\t-\t-\ts4u2self:user-revoked:0xc0000234\n\
                 nameless\tbridge\tnormal\tnowhere\t-\t-\tgood\n\
                 windows\tbridge\tnormal\tlisted\t-\tgood\t-\n";
    let kit = Kit::run(&lab, Some(cases), &[]);
    assert_eq!(kit.output.status.code(), Some(1), "{}", kit.said());
    let summary = kit.summary();
    let verdicts: Vec<_> = summary.iter().map(|(case, verdict)| (case.as_str(), verdict.as_str())).collect();
    let expected = [
        ("good", "ok"),
        ("wrong", "DIFFERS"),
        ("open", "new"),
        ("status", "ok"),
        ("otherstatus", "DIFFERS"),
        ("nameless", "skipped"),
    ];
    assert_eq!(verdicts, expected, "{}", kit.said());
}

#[test]
fn a_recording_is_not_written_over_anything() {
    let lab = Lab::get();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("mine"), "").unwrap();
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_kcd-bridge"));
    doctor.args(["doctor", "--principal", "svc-bridge@CORP.EXAMPLE", "--kdc", "127.0.0.1", "--user", "alice@corp.example"]);
    doctor.args(["--spn", "HTTP/mbx1.corp.example", "--keytab"]).arg(lab.keytab("bridge"));
    let output = doctor.arg("--record").arg(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not empty"), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}
