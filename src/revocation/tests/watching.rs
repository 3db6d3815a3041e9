//! Files that change.

use std::sync::Arc;

use super::judging::counted;
use super::{Place, cause, config, is_clear, status};
use crate::failure::Cause;
use crate::revocation::testkit::{Ca, DAY, NOW};
use crate::revocation::{Revocation, RevocationConfig};
use crate::shutdown::ShutdownTrigger;

const SERIAL: &[u8] = &[0x1A, 5];

fn watching(place: &Place) -> RevocationConfig {
    let mut config = config();
    config.crl_directories = vec![place.directory.path().to_owned()];
    config
}

fn load(config: &RevocationConfig, ca: &Ca) -> Arc<Revocation> {
    Revocation::load(config, vec![ca.authority()], None, None).unwrap()
}

#[test]
fn a_replaced_file_counts_and_moves_the_generation() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    let mut config = config();
    config.crl_files = vec![place.put("a.crl", &ca.list(1).sign())];
    let engine = load(&config, &ca);
    assert!(is_clear(&status(&engine, &ca.device(SERIAL))));
    let before = engine.generation();
    engine.shared().rescan_files(NOW);
    assert_eq!(engine.generation(), before, "nothing changed");
    place.put("a.crl", &ca.list(2).revoke(SERIAL, None).sign());
    engine.shared().rescan_files(NOW);
    assert_eq!(cause(status(&engine, &ca.device(SERIAL))), Cause::CertificateRevoked);
    assert!(engine.generation() > before);
    assert_eq!(*engine.changes().borrow(), engine.generation());
}

#[test]
fn a_broken_new_file_keeps_the_old_list_and_is_said_once() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    place.put("a.crl", &ca.list(1).revoke(SERIAL, None).sign());
    let engine = load(&watching(&place), &ca);
    place.put("a.crl", b"half a list");
    engine.shared().rescan_files(NOW);
    engine.shared().rescan_files(NOW);
    assert_eq!(cause(status(&engine, &ca.device(SERIAL))), Cause::CertificateRevoked);
    assert_eq!(counted(&engine, "file-refused"), 1);
    place.put("a.crl", &ca.list(2).sign());
    engine.shared().rescan_files(NOW);
    assert!(is_clear(&status(&engine, &ca.device(SERIAL))));
}

#[test]
fn a_file_put_back_to_an_older_list_changes_nothing() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    place.put("a.crl", &ca.list(2).revoke(SERIAL, None).sign());
    let engine = load(&watching(&place), &ca);
    place.put("a.crl", &ca.list(1).sign());
    engine.shared().rescan_files(NOW);
    assert_eq!(cause(status(&engine, &ca.device(SERIAL))), Cause::CertificateRevoked);
    assert_eq!(counted(&engine, "rollback-refused"), 1);
}

#[test]
fn the_list_of_a_removed_file_counts_until_it_ends_and_is_dropped_then() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    let path = place.put("a.crl", &ca.list(1).revoke(SERIAL, None).sign());
    let engine = load(&watching(&place), &ca);
    std::fs::remove_file(path).unwrap();
    engine.shared().rescan_files(NOW);
    engine.shared().expire(NOW - 10, NOW);
    assert_eq!(cause(status(&engine, &ca.device(SERIAL))), Cause::CertificateRevoked);
    let before = engine.generation();
    engine.shared().expire(NOW, NOW + DAY + 1);
    assert!(engine.facts().is_empty() && engine.generation() > before);
}

#[test]
fn the_end_of_a_list_moves_the_generation_once_and_a_file_that_is_there_keeps_it() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    place.put("a.crl", &ca.list(1).sign());
    let engine = load(&watching(&place), &ca);
    let before = engine.generation();
    engine.shared().expire(NOW, NOW + DAY);
    assert_eq!(engine.generation(), before);
    engine.shared().expire(NOW + DAY, NOW + DAY + 1);
    engine.shared().expire(NOW + DAY + 1, NOW + DAY + 2);
    assert_eq!((engine.generation(), engine.facts().len()), (before + 1, 1));
}

#[test]
fn whatever_lies_in_a_directory_beside_lists_is_skipped() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    place.put("README", b"text");
    place.put("sha1.crl", &{
        let mut draft = ca.list(7);
        draft.algorithm = vec![6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 5, 5, 0];
        draft.sign()
    });
    std::fs::create_dir(place.path("sub")).unwrap();
    place.put("a.crl", &ca.list(1).sign());
    let engine = load(&watching(&place), &ca);
    assert!(is_clear(&status(&engine, &ca.device(SERIAL))));
    assert_eq!((engine.facts().len(), counted(&engine, "file-refused")), (1, 2));
}

#[test]
fn that_a_file_is_gone_is_said_only_where_it_held_a_list() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    let (junk, list) = (place.put("README", b"text"), place.put("a.crl", &ca.list(1).sign()));
    let engine = load(&watching(&place), &ca);
    let log = tempfile::NamedTempFile::new().unwrap();
    let file = log.reopen().unwrap();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(file)).finish();
    std::fs::remove_file(junk).unwrap();
    std::fs::remove_file(list).unwrap();
    tracing::subscriber::with_default(subscriber, || engine.shared().rescan_files(NOW));
    let said = std::fs::read_to_string(log.path()).unwrap();
    assert!(said.contains("a.crl") && !said.contains("README"), "{said}");
}

#[test]
fn at_the_start_a_configured_file_must_be_there_and_be_a_list() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    let refused = |bytes: Option<&[u8]>| {
        let mut config = config();
        config.crl_files = vec![bytes.map_or_else(|| place.path("absent"), |bytes| place.put("a.crl", bytes))];
        Revocation::load(&config, Vec::new(), None, None).unwrap_err().to_string()
    };
    assert!(refused(None).contains("absent"));
    assert!(refused(Some(b"text")).contains("neither a DER CRL"));
    assert!(refused(Some(&vec![0x30; (1 << 20) + 1])).contains("larger"));
    let unknown = ca.list(1).extension(&[0x2A, 3], true, &[5, 0]).sign();
    assert!(refused(Some(&unknown)).contains("critical extension 1.2.3"));
    let mut config = config();
    config.crl_directories = vec![place.path("absent")];
    assert!(Revocation::load(&config, Vec::new(), None, None).is_err());
}

#[test]
fn a_list_from_the_future_is_read_again_until_its_time_has_come() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    place.put("a.crl", &ca.list(1).sign());
    let engine = load(&watching(&place), &ca);
    place.put("a.crl", &ca.list(2).valid(NOW + 1000, NOW + DAY).revoke(SERIAL, None).sign());
    engine.shared().rescan_files(NOW);
    assert!(is_clear(&status(&engine, &ca.device(SERIAL))), "the one before still counts");
    engine.shared().rescan_files(NOW + 800);
    assert_eq!(engine.facts()[0].number.as_deref(), Some("2"));
}

#[test]
fn a_directory_that_cannot_be_read_any_more_keeps_what_it_gave() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    std::fs::create_dir(place.path("lists")).unwrap();
    std::fs::write(place.path("lists").join("a.crl"), ca.list(1).sign()).unwrap();
    let mut config = config();
    config.crl_directories = vec![place.path("lists")];
    let engine = load(&config, &ca);
    std::fs::rename(place.path("lists"), place.path("elsewhere")).unwrap();
    engine.shared().rescan_files(NOW);
    engine.shared().expire(NOW, NOW + 2 * DAY);
    assert_eq!(engine.facts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_engines_own_task_notices_a_new_file_and_stops_when_told() {
    let (place, ca) = (Place::new(), Ca::new("Device CA"));
    let engine = load(&watching(&place), &ca);
    let trigger = ShutdownTrigger::new();
    let running = tokio::spawn(Arc::clone(&engine).run(trigger.listen()));
    let mut changes = engine.changes();
    let before = *changes.borrow_and_update();
    place.put("a.crl", &ca.list(1).sign());
    changes.wait_for(|generation| *generation > before).await.unwrap();
    assert!(trigger.stop(std::time::Duration::from_secs(1)).await);
    running.await.unwrap();
}
