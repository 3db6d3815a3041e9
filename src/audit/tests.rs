use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::failure::{Cause, Failure};

fn event(id: &str) -> Event {
    Event { correlation_id: id.into(), ..Event::default() }
}

#[test]
fn the_time_is_rfc_3339_with_microseconds() {
    assert_eq!(timestamp(UNIX_EPOCH + Duration::new(1_700_000_000, 1_234_999)), "2023-11-14T22:13:20.001234Z");
}

#[test]
fn flags_are_named_from_the_top_bit_down() {
    assert_eq!(flag_names(0x40A5_0000), ["forwardable", "renewable", "pre-authent", "ok-as-delegate", "enc-pa-rep"]);
    assert!(flag_names(0).is_empty());
}

#[tokio::test]
async fn every_event_is_one_json_line_in_a_file_of_mode_0600() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let (log, writer) = AuditLog::open(&AuditConfig { file: Some(path.clone()) }, 4).unwrap();
    for id in ["one", "line\nbreak"] {
        log.reserve().await.unwrap().emit(event(id));
    }
    drop(log);
    writer.finish();
    let text = std::fs::read_to_string(&path).unwrap();
    let ids: Vec<_> =
        text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["correlation_id"].clone()).collect();
    assert_eq!(ids, ["one", "line\nbreak"]);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (target, link) = (directory.path().join("target"), directory.path().join("link"));
    std::fs::write(&target, "").unwrap();
    symlink(&target, &link).unwrap();
    assert!(AuditLog::open(&AuditConfig { file: Some(link) }, 4).is_err());
}

#[test]
fn a_refused_handshake_says_its_stage_and_reason() {
    let event =
        Event::handshake_refused("id".into(), "192.0.2.1:4711".into(), &Failure::new(Cause::UnknownIssuer, "CN=Other"), None);
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(json["event"], "handshake-refused");
    assert_eq!((&json["stage"], &json["reason"], &json["detail"]), (&"tls".into(), &"unknown-issuer".into(), &"CN=Other".into()));
    assert_eq!(json["outcome"], "refused");
}

/// A disk that writes when told to.
struct Gate(Receiver<()>, Sender<Vec<u8>>);

impl std::io::Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.recv().map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        self.1.send(bytes.to_vec()).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_full_queue_makes_the_next_request_wait_and_loses_nothing() {
    let (allow, allowed) = channel();
    let (seen, lines) = channel();
    let (log, writer) = AuditLog::start(Gate(allowed, seen), 1).unwrap();
    let slot = log.reserve().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), log.reserve()).await.is_err(), "the only place is taken");
    slot.emit(event("first"));
    for _ in 0..3 {
        allow.send(()).unwrap();
    }
    for id in ["second", "third"] {
        log.reserve().await.unwrap().emit(event(id));
    }
    drop(log);
    tokio::task::spawn_blocking(|| writer.finish()).await.unwrap();
    assert_eq!(lines.iter().count(), 3, "each event in one write");
}
