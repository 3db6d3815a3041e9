//! `kcd-bridge forecast`: which client certificates end soon and which SPNs use RC4, told from audit logs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests, also their helpers")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

const DAY: i64 = 24 * 3600;

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// RFC 3339, by the same arithmetic as a calendar.
fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (era_day, mut year) = (days, 1970);
    let mut left = era_day;
    let length = |year: i64| if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 };
    while left >= length(year) {
        left -= length(year);
        year += 1;
    }
    let mut month = 1;
    for days in [31, length(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < days {
            break;
        }
        left -= days;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}.000000Z", left + 1, rest / 3600, rest / 60 % 60, rest % 60)
}

fn event(number: u8, principal: &str, device: Option<&str>, days: i64) -> Value {
    let mut event = json!({
        "time": rfc3339(now()), "event": "request", "principal": principal,
        "certificate": {
            "sha256": format!("{number:02x}").repeat(32), "issuer": "CN=Device CA", "serial": format!("{number:02x}"),
            "not_after": rfc3339(now() + days * DAY + 600),
        },
    });
    if let Some(device) = device {
        event["eas_device_id"] = device.into();
    }
    event
}

fn log(directory: &TempDir, name: &str, events: &[Value]) -> PathBuf {
    let path = directory.path().join(name);
    let lines = events.iter().map(|event| event.to_string() + "\n").collect::<String>();
    std::fs::write(&path, lines).unwrap();
    path
}

fn forecast(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kcd-bridge")).arg("forecast").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn certificates_that_nobody_renewed_are_listed_by_user_and_device_the_next_one_first() {
    let directory = tempfile::tempdir().unwrap();
    let old = log(
        &directory,
        "audit.log.1",
        &[event(1, "alice@corp.example", Some("phone1"), 20), event(2, "bob@corp.example", None, 5)],
    );
    let new = log(
        &directory,
        "audit.log",
        &[
            event(3, "carol@corp.example", Some("phone3"), 300),
            event(4, "dave@corp.example", Some("phone4"), 9),
            event(5, "dave@corp.example", Some("phone4"), 400),
        ],
    );
    let output = forecast(&[old.to_str().unwrap(), new.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("ENDS") && lines[0].contains("USER"), "{said}");
    assert!(lines[1].contains("    5  bob@corp.example") && lines[1].contains("02 of CN=Device CA"), "{said}");
    assert!(lines[2].contains("   20  alice@corp.example") && lines[2].contains("phone1"), "{said}");
    assert_eq!(lines[3], "2 of 5 certificates end within 30 days and were not renewed (1 were)");
    assert_eq!(lines[4], "0 of 0 SPNs use RC4 and stop working when the domain refuses it");
    assert_eq!(lines.len(), 5, "{said}");
}

#[test]
fn how_far_is_looked_ahead_can_be_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = log(&directory, "audit.log", &[event(1, "alice@corp.example", None, 20)]);
    let path = path.to_str().unwrap();
    assert_eq!(forecast(&["--days", "10", path]).status.code(), Some(0));
    assert_eq!(forecast(&["--days", "21", path]).status.code(), Some(1));
    assert_eq!(forecast(&["--days", "0", path]).status.code(), Some(2));
}

#[test]
fn the_report_as_json_has_a_version_and_every_field() {
    let directory = tempfile::tempdir().unwrap();
    let path = log(&directory, "audit.log", &[event(1, "alice@corp.example", Some("phone1"), 20)]);
    let output = forecast(&["--json", path.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["version"], &report["days"], &report["certificates"]), (&1.into(), &30.into(), &1.into()));
    let ending = &report["ending"][0];
    assert_eq!((&ending["principal"], &ending["devices"][0]), (&"alice@corp.example".into(), &"phone1".into()));
    assert_eq!((&ending["days_left"], &ending["renewed"]), (&20.into(), &false.into()));
    assert_eq!(ending["sha256"], "01".repeat(32));
}

const AES: &str = "aes256-cts-hmac-sha1-96";
const RC4: &str = "arcfour-hmac";

/// A request that a token was sent with: ticket, session key, evidence ticket.
fn request(spn: &str, user: &str, [etype, session_etype, evidence_etype]: [&str; 3], days: i64) -> Value {
    json!({
        "time": rfc3339(now() + days * DAY), "event": "request", "principal": user, "spn": spn,
        "ticket": { "client": user, "etype": etype, "session_etype": session_etype, "evidence_etype": evidence_etype },
    })
}

#[test]
fn spns_with_rc4_in_any_of_the_logs_are_listed_with_their_users_and_the_repair() {
    let directory = tempfile::tempdir().unwrap();
    let legacy = "HTTP/mbx2003.corp.example";
    let unset = "HTTP/unset.corp.example";
    let rotated = log(
        &directory,
        "audit.jsonl.1",
        &[request(legacy, "alice", [RC4, RC4, AES], -9), request(unset, "bob", [RC4, AES, AES], -8)],
    );
    let current = log(
        &directory,
        "audit.jsonl",
        &[
            request(legacy, "alice", [RC4, RC4, AES], -1),
            request(legacy, "bob", [RC4, RC4, AES], -2),
            request("HTTP/mbx1.corp.example", "alice", [AES, AES, AES], 0),
        ],
    );
    let paths = [rotated.to_str().unwrap(), current.to_str().unwrap()];
    let output = forecast(&paths);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    let at = |needle: &str| said.lines().position(|line| line.contains(needle)).unwrap_or_else(|| panic!("{needle}: {said}"));
    let day = rfc3339(now() - DAY)[..10].to_owned();
    let row = said.lines().nth(at(legacy)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(row, format!("{legacy} 3 2 {day} ticket, session key"));
    assert!(said.lines().nth(at(legacy) + 1).unwrap().contains("repair: Windows 2003: Set-ADComputer MBX2003"), "{said}");
    assert!(said.lines().nth(at(unset) + 1).unwrap().contains("stops first"), "{said}");
    assert!(said.contains("2 of 3 SPNs use RC4"), "{said}");

    let report: Value = serde_json::from_slice(&forecast(&[&["--json"], &paths[..]].concat()).stdout).unwrap();
    assert_eq!((&report["version"], &report["spns"]), (&1.into(), &3.into()));
    let of_legacy = &report["rc4"][0];
    let numbers = ["requests", "users", "ticket", "session_key", "evidence"].map(|field| of_legacy[field].as_u64().unwrap());
    assert_eq!((of_legacy["spn"].as_str(), numbers), (Some(legacy), [3, 2, 3, 3, 0]));
    assert_eq!((&of_legacy["unset"], &report["rc4"][1]["unset"]), (&false.into(), &true.into()));
    assert!((of_legacy["last_seen"].as_i64().unwrap() - (now() - DAY)).abs() < 60, "{of_legacy}");
    assert!(of_legacy["repair"].as_str().unwrap().contains("'msDS-SupportedEncryptionTypes'=4"), "{of_legacy}");
}

#[test]
fn an_rc4_key_of_the_bridges_own_account_is_told_for_every_spn_it_serves() {
    let directory = tempfile::tempdir().unwrap();
    let events = ["HTTP/a", "HTTP/b"].map(|spn| request(spn, "alice", [AES, AES, RC4], 0));
    let output = forecast(&["--json", log(&directory, "audit.jsonl", &events).to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rc4 = report["rc4"].as_array().unwrap();
    assert_eq!(rc4.iter().map(|one| one["evidence"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 1]);
    assert!(rc4.iter().all(|one| one["repair"].as_str().unwrap().contains("kerberos.principal")), "{report}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn aes_throughout_refused_requests_and_logs_of_older_bridges_are_nothing_to_tell() {
    let directory = tempfile::tempdir().unwrap();
    let mut older = request("HTTP/mbx1", "alice", [AES, AES, AES], 0);
    older["ticket"].as_object_mut().unwrap().remove("evidence_etype");
    let mut refused = request("HTTP/mbx2003", "alice", [RC4, RC4, AES], 0);
    refused.as_object_mut().unwrap().remove("ticket");
    let path = log(&directory, "audit.jsonl", &[older, refused, request("HTTP/mbx1", "bob", [AES, AES, AES], 0)]);
    let output = forecast(&[path.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("0 of 1 SPNs use RC4") && !said.contains("no audit event"), "{said}");
}

#[test]
fn lines_that_are_no_events_are_counted_and_events_without_an_account_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let mut unmapped = event(1, "x", None, 5);
    unmapped.as_object_mut().unwrap().remove("principal");
    let path = log(&directory, "audit.log", &[unmapped, json!("a line cut in half")]);
    let output = forecast(&[path.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("0 of 0 certificates") && said.contains("1 lines are no audit events"), "{said}");
}

#[test]
fn names_that_a_device_chose_cannot_steer_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let path = log(&directory, "audit.log", &[event(1, "alice@corp.example", Some("\u{1b}[2Jphone"), 5)]);
    let said = text(&forecast(&[path.to_str().unwrap()]).stdout);
    assert!(!said.contains('\u{1b}') && said.contains("?[2Jphone"), "{said}");
}

#[test]
fn standard_input_is_a_log_too_and_a_missing_one_cannot_be_read() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kcd-bridge"))
        .args(["forecast", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", event(1, "alice@corp.example", None, 5)).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
    let missing = forecast(&["/nonexistent/audit.log"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(text(&missing.stderr).contains("/nonexistent/audit.log"));
    assert_eq!(forecast(&[]).status.code(), Some(2));
    for (other, says) in [("/dev/zero", "not a regular file"), (env!("CARGO_MANIFEST_PATH"), "holds no audit event")] {
        let output = forecast(&[other]);
        assert_eq!(output.status.code(), Some(3), "{other}");
        assert!(text(&output.stderr).contains(says), "{output:?}");
    }
}
