use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
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

/// A disk that takes so many bytes of each write; `None`: it is full.
struct Disk {
    takes: std::vec::IntoIter<Option<usize>>,
    holds: Arc<Mutex<Vec<u8>>>,
}

impl std::io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = self.takes.next().unwrap_or(Some(usize::MAX)).ok_or(std::io::ErrorKind::StorageFull)?.min(bytes.len());
        self.holds.lock().unwrap().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes these events to such a disk; what it holds then, and what the process log says.
fn written(takes: &[Option<usize>], ids: &[&str]) -> (String, String) {
    let (holds, said) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<Vec<u8>>>::default());
    let (queue, events) = tokio::sync::mpsc::channel(ids.len());
    for id in ids {
        queue.try_send(event(id)).unwrap();
    }
    drop(queue);
    let disk = |takes: Vec<_>, holds| Disk { takes: takes.into_iter(), holds };
    let process_log = Arc::clone(&said);
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || disk(Vec::new(), Arc::clone(&process_log))).finish();
    let disk = disk(takes.to_vec(), Arc::clone(&holds));
    tracing::subscriber::with_default(subscriber, || log::write_all(events, disk, false));
    let text = |bytes: &Mutex<Vec<u8>>| String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
    (text(&holds), text(&said))
}

#[test]
fn a_line_that_was_written_in_part_does_not_spoil_the_next() {
    let (holds, _) = written(&[Some(20), None, None, Some(1), None, Some(30)], &["torn", "none", "newline", "whole", "last"]);
    let ids: Vec<_> = holds
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .map(|event| event["correlation_id"].clone())
        .collect();
    assert_eq!(ids, ["whole", "last"], "{holds}");
    assert_eq!(holds.lines().count(), 3, "one line is torn, and none is empty: {holds}");
}

#[test]
fn a_run_of_lost_events_is_reported_at_its_beginning_and_with_its_number_at_its_end() {
    for (ids, end) in [(&["one", "two", "three", "four"][..], "can be written again"), (&["one", "two", "three"], "ends")] {
        let (_, said) = written(&[None, None, None], ids);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines[0].contains("AUDIT EVENT LOST") && lines[0].contains("\"one\""), "{said}");
        assert!(lines[1].contains("AUDIT EVENTS LOST") && lines[1].contains("lost=3") && lines[1].contains(end), "{said}");
    }
}

#[tokio::test]
async fn a_file_that_ends_within_a_line_is_continued_on_the_next() {
    for (found, lines) in [("", 1), ("{}\n", 2), ("{\"time\":\"20", 2)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        std::fs::write(&path, found).unwrap();
        let (log, writer) = AuditLog::open(&AuditConfig { file: Some(path.clone()) }, 4).unwrap();
        log.reserve().await.unwrap().emit(event("new"));
        drop(log);
        writer.finish();
        let text = std::fs::read_to_string(&path).unwrap();
        let last = serde_json::from_str::<serde_json::Value>(text.lines().last().unwrap()).unwrap();
        assert_eq!((text.lines().count(), &last["correlation_id"]), (lines, &"new".into()), "{text}");
    }
}
