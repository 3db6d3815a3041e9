//! `kcd-bridge doctor` against the real domain: each stage is good, or fails with its own reason and exit status 1.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::Lab;
use crate::support::bridge::{Settings, free_address};
use crate::support::device::PATH;

const STAGES: [&str; 9] = ["keytab", "kdc", "account", "tgt", "s4u2self", "identity", "s4u2proxy", "token", "http"];

pub fn run(settings: &Settings, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = directory.path().join("kcd-bridge.toml");
    std::fs::write(&config, settings.text(directory.path())).expect("the configuration is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcd-bridge"));
    command.arg("doctor").arg("--config").arg(&config).args(arguments).output().expect("the doctor runs")
}

/// The JSON report, of the documented version, and the exit status, which says the same as `good`.
pub fn report(settings: &Settings, arguments: &[&str]) -> Value {
    let output = run(settings, &[arguments, &["--json"]].concat());
    read(&output)
}

fn read(output: &Output) -> Value {
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said()));
    assert_eq!(report["version"], 1, "{report}");
    let good = report["good"].as_bool().expect("a verdict");
    assert_eq!(output.status.code(), Some(i32::from(!good)), "{}", said());
    report
}

fn stages(report: &Value) -> Vec<&str> {
    report["stages"].as_array().expect("stages").iter().map(|stage| stage["stage"].as_str().expect("a name")).collect()
}

/// Everything before the last stage is good (there may be findings about our account), and that one failed there for this reason, with a remedy.
pub fn fails_at(report: &Value, stage: &str, reason: &str) {
    assert_eq!(report["good"], false, "{report}");
    let (last, before) = report["stages"].as_array().and_then(|stages| stages.split_last()).expect("a stage");
    let is_good = |line: &Value| line["verdict"] == "good" || (line["stage"] == "account" && line["verdict"] == "findings");
    assert!(before.iter().all(|line| is_good(line) && line["reason"].is_null()), "{report:#}");
    assert_eq!((&last["stage"], &last["reason"]), (&stage.into(), &reason.into()), "{report:#}");
    assert_eq!(last["verdict"], "failed", "{report:#}");
    assert!(last["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{report:#}");
}

pub fn seen<'a>(report: &'a Value, stage: &str) -> &'a str {
    let lines = report["stages"].as_array().expect("stages");
    lines.iter().find(|line| line["stage"] == stage).and_then(|line| line["seen"].as_str()).expect("the stage was reached")
}

#[test]
fn a_user_who_can_be_delegated_passes_every_stage_and_the_server_proves_itself() {
    let lab = Lab::get();
    let report = report(&Settings::new(&lab), &["--user", "Alice@corp.example", "--backend", "mbx1"]);
    assert_eq!(report["good"], true, "{report:#}");
    assert_eq!(stages(&report), STAGES);
    assert!(seen(&report, "identity").contains(&lab.sid("alice")), "{report:#}");
    assert!(seen(&report, "http").contains("the server proved itself"), "{report:#}");
    assert_eq!(report["spn"], "HTTP/mbx1.corp.example");
}

#[test]
fn the_report_as_text_says_ok_for_each_stage_or_the_reason_and_the_remedy() {
    let lab = Lab::get();
    let good = run(&Settings::new(&lab), &["--user", "alice@corp.example", "--backend", "mbx1"]);
    let text = String::from_utf8(good.stdout).unwrap();
    assert_eq!(good.status.code(), Some(0), "{text}");
    for stage in STAGES {
        assert!(text.lines().any(|line| line.starts_with(&format!("ok     {stage} "))), "{stage}: {text}");
    }
    let bad = run(&Settings::new(&lab), &["--user", "carol@corp.example", "--backend", "mbx1"]);
    let text = String::from_utf8(bad.stdout).unwrap();
    assert_eq!(bad.status.code(), Some(1), "{text}");
    for said in ["FAILED s4u2proxy", "reason: user-not-delegable", "remedy: "] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn without_a_configuration_a_keytab_an_account_and_an_spn_are_enough() {
    let lab = Lab::get();
    let keytab = lab.keytab("bridge");
    let doctor = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kcd-bridge"));
        command.args(["doctor", "--json", "--principal", "svc-bridge@CORP.EXAMPLE", "--kdc", "127.0.0.1"]);
        command.args(["--user", "alice@corp.example", "--spn", "HTTP/mbx1.corp.example", "--keytab"]).arg(&keytab);
        read(&command.args(more).output().expect("the doctor runs"))
    };
    let without_http = doctor(&[]);
    assert_eq!((stages(&without_http), &without_http["good"]), (STAGES[..8].to_vec(), &true.into()));
    let with_http = doctor(&["--url", "http://mbx1.corp.example/Microsoft-Server-ActiveSync"]);
    assert_eq!((stages(&with_http), &with_http["good"]), (STAGES.to_vec(), &true.into()));
}

#[test]
fn each_user_who_cannot_be_delegated_fails_at_the_stage_that_refuses() {
    let lab = Lab::get();
    let settings = Settings::new(&lab);
    for (user, stage, reason) in [
        ("carol@corp.example", "s4u2proxy", "user-not-delegable"),
        ("nobody@corp.example", "s4u2self", "user-unknown"),
        ("admin1@corp.example", "identity", "privileged-refused"),
    ] {
        fails_at(&report(&settings, &["--user", user, "--backend", "mbx1"]), stage, reason);
    }
}

#[test]
fn a_broken_service_account_fails_at_the_stage_that_needs_it() {
    let lab = Lab::get();
    let alice = ["--user", "alice@corp.example", "--backend", "mbx1"];
    let mut missing = Settings::new(&lab);
    missing.keytab = lab.keytab("nosuch");
    let report_of_missing = report(&missing, &alice);
    fails_at(&report_of_missing, "keytab", "keytab-unusable");
    assert!(seen(&report_of_missing, "keytab").contains("nosuch.keytab"), "{report_of_missing:#}");

    let mut other_keys = Settings::new(&lab);
    other_keys.keytab = lab.keytab("wrong-key");
    fails_at(&report(&other_keys, &alice), "tgt", "own-key-refused");

    let mut nobody = Settings::new(&lab);
    nobody.principal = "svc-nobody@CORP.EXAMPLE".into();
    fails_at(&report(&nobody, &alice), "keytab", "keytab-unusable");
}

#[test]
fn a_kdc_that_does_not_answer_fails_at_the_kdc() {
    let lab = Lab::get();
    let mut settings = Settings::new(&lab);
    settings.kdcs = format!("kdcs = [\"{}\"]", free_address());
    fails_at(&report(&settings, &["--user", "alice@corp.example", "--backend", "mbx1"]), "kdc", "kdc-unreachable");
}

#[test]
fn an_spn_that_is_unknown_or_not_on_the_delegation_list_fails_at_s4u2proxy() {
    let lab = Lab::get();
    let settings = Settings::new(&lab);
    for (spn, reason) in [("HTTP/nosuch.corp.example", "spn-unknown"), ("HTTP/notlisted.corp.example", "spn-not-listed")] {
        fails_at(&report(&settings, &["--user", "alice@corp.example", "--spn", spn]), "s4u2proxy", reason);
    }
}

#[test]
fn a_certificate_is_judged_and_mapped_before_its_user_is_tried() {
    let lab = Lab::get();
    let settings = Settings::new(&lab);
    let of = |name: &str| {
        let file = lab.pki(&format!("{name}.pem"));
        report(&settings, &["--certificate", file.to_str().expect("a path of text"), "--backend", "mbx1"])
    };
    let alice = of("alice");
    assert_eq!(alice["good"], true, "{alice:#}");
    assert_eq!(stages(&alice), [&["certificate"], &STAGES[..]].concat());
    assert!(seen(&alice, "certificate").contains("upn-with-sid, strong"), "{alice:#}");
    fails_at(&of("alice-wrong-sid"), "identity", "sid-mismatch");
    fails_at(&of("alice-foreign"), "certificate", "unknown-issuer");
    fails_at(&of("alice-revoked"), "certificate", "certificate-revoked");
    fails_at(&of("alice-no-sid"), "certificate", "weak-mapping-only");
}

#[test]
fn a_server_that_asks_nobody_to_authenticate_is_good_only_where_that_is_tolerated() {
    let lab = Lab::get();
    let plain = lab.variable("KCD_PLAIN_URL");
    let url = format!("{plain}{PATH}");
    let arguments = ["--user", "alice@corp.example", "--spn", "HTTP/mbx1.corp.example", "--url", &url];
    let refused = report(&Settings::new(&lab), &arguments);
    fails_at(&refused, "http", "mutual-missing");
    assert!(seen(&refused, "http").contains("asks nobody to authenticate"), "{refused:#}");

    let mut settings = Settings::new(&lab);
    settings.more = format!(
        "[[backend]]\nname = \"plain\"\nurl = \"{plain}\"\ntransport = \"http\"\nspn = \"HTTP/mbx2003.corp.example\"\n\
         allow_rc4 = true\nmutual = \"tolerate-absence\"\n[[route]]\npath = \"{PATH}/plain\"\nbackend = \"plain\"\n"
    );
    let tolerated = report(&settings, &["--user", "alice@corp.example", "--backend", "plain"]);
    assert_eq!(tolerated["good"], true, "{tolerated:#}");
    assert!(seen(&tolerated, "http").contains("asks nobody to authenticate"), "{tolerated:#}");
}

#[test]
fn a_server_that_does_not_answer_fails_at_http() {
    let lab = Lab::get();
    let url = format!("http://{}/", free_address());
    let arguments = ["--user", "alice@corp.example", "--spn", "HTTP/mbx1.corp.example", "--url", &url];
    fails_at(&report(&Settings::new(&lab), &arguments), "http", "upstream-unreachable");
}
