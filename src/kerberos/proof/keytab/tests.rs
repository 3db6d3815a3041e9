use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::testkit::{Record, hole, keytab};
use super::*;

const OURS: &str = "svc-bridge@CORP.EXAMPLE";

fn own(text: &str) -> OwnPrincipal {
    OwnPrincipal::parse(text).unwrap()
}

fn from(bytes: &[u8]) -> Result<Keytab, KeytabError> {
    Keytab::from_bytes(Path::new("bridge.keytab"), bytes)
}

fn flaw(bytes: &[u8]) -> KeytabFlaw {
    match from(bytes) {
        Err(KeytabError::NotAKeytab { flaw, .. }) => flaw,
        other => panic!("{other:?}"),
    }
}

fn found(keytab: &Keytab, principal: &str) -> Vec<(u32, i32, Vec<u8>)> {
    keytab.keys_for(&own(principal)).map(|(kvno, key)| (kvno, key.etype().number(), key.expose().to_vec())).collect()
}

#[test]
fn keys_of_our_principal_are_found_in_the_order_of_the_file() {
    let bytes = keytab(&[
        Record::new(OURS, 2, 18, &[1; 32]),
        Record::new("other@CORP.EXAMPLE", 9, 18, &[9; 32]),
        Record::new(OURS, 2, 17, &[2; 16]),
        Record::new(OURS, 3, 23, &[3; 16]),
    ]);
    let keytab = from(&bytes).unwrap();
    assert_eq!(found(&keytab, OURS), [(2, 18, vec![1; 32]), (2, 17, vec![2; 16]), (3, 23, vec![3; 16])]);
    assert!(keytab.check(&own(OURS)).is_ok());
}

#[test]
fn a_key_of_another_realm_or_of_more_components_is_not_ours() {
    let bytes = keytab(&[
        Record::new("svc-bridge@OTHER.EXAMPLE", 2, 18, &[1; 32]),
        Record::new("svc-bridge/host@CORP.EXAMPLE", 2, 18, &[1; 32]),
    ]);
    assert!(found(&from(&bytes).unwrap(), OURS).is_empty());
}

#[test]
fn version_numbers_above_255_are_read_from_the_longer_field() {
    let mut records = [Record::new(OURS, 300, 18, &[1; 32]), Record::new(OURS, 300, 18, &[1; 32])];
    records[1].short = true;
    let versions: Vec<u32> = from(&keytab(&records)).unwrap().keys_for(&own(OURS)).map(|(kvno, _)| kvno).collect();
    assert_eq!(versions, [300, 44]);
}

#[test]
fn holes_are_skipped_and_a_zero_length_ends_the_file() {
    let (first, second) = (keytab(&[Record::new(OURS, 1, 18, &[1; 32])]), keytab(&[Record::new(OURS, 2, 18, &[2; 32])]));
    let kvnos = |bytes: &[u8]| found(&from(bytes).unwrap(), OURS).iter().map(|(kvno, ..)| *kvno).collect::<Vec<_>>();
    assert_eq!(kvnos(&[&first[..], &hole(40), &second[2..]].concat()), [1, 2]);
    assert_eq!(kvnos(&[&first[..], &[0; 4], &second[2..]].concat()), [1]);
}

#[test]
fn a_keytab_from_kadmin_with_a_deleted_entry_is_read() {
    let keytab = Keytab::read(Path::new("src/kerberos/proof/keytab/testdata/mit.keytab")).unwrap();
    for (name, etype) in [("aes128-sha1", 17), ("aes128-sha2", 19), ("aes256-sha2", 20), ("rc4", 23)] {
        let keys = found(&keytab, &format!("HTTP/{name}.mit.example@MIT.EXAMPLE"));
        assert_eq!(keys.iter().map(|(kvno, etype, _)| (*kvno, *etype)).collect::<Vec<_>>(), [(1, etype)]);
    }
    assert_eq!(keytab.principals().len(), 4, "without the one deleted");
}

#[test]
fn a_keytab_from_ktutil_is_read() {
    let keytab = Keytab::read(Path::new("src/kerberos/proof/keytab/testdata/kvno300.keytab")).unwrap();
    let keys = found(&keytab, "svc@CORP.EXAMPLE");
    assert_eq!(keys.iter().map(|(kvno, etype, _)| (*kvno, *etype)).collect::<Vec<_>>(), [(300, 18), (5, 17)]);
    assert_eq!(keys[1].2, b"\x22\xd5\x47\x06\xb0\xf3\xa2\xb3\xe5\x5b\x4e\x81\x44\x02\xfb\x83");
}

#[test]
fn what_is_not_a_keytab_of_version_5_2_is_refused_by_name() {
    assert_eq!(flaw(b""), KeytabFlaw::Empty);
    assert_eq!(flaw(&[5, 2]), KeytabFlaw::Empty);
    assert_eq!(flaw(&[&[5, 2], &hole(8)[..]].concat()), KeytabFlaw::Empty);
    assert_eq!(flaw(&[5, 1, 0, 0, 0, 4]), KeytabFlaw::OldVersion);
    assert_eq!(flaw(&[5, 3]), KeytabFlaw::Magic);
    assert_eq!(flaw(b"-----BEGIN PRIVATE KEY-----"), KeytabFlaw::Magic);
    assert_eq!(flaw(&[5]), KeytabFlaw::Magic);
}

#[test]
fn a_keytab_cut_short_anywhere_but_between_records_is_refused() {
    let mut record = Record::new(OURS, 2, 18, &[1; 32]);
    record.short = true;
    let whole = keytab(&[record]);
    for length in 3..whole.len() {
        assert_eq!(flaw(&whole[..length]), KeytabFlaw::Record(2), "{length} bytes");
    }
    assert_eq!(flaw(&[5, 2, 0, 0, 0, 3, 0, 1, 0]), KeytabFlaw::Record(2), "contents longer than the record");
    assert_eq!(flaw(&[5, 2, 0x80, 0, 0, 0]), KeytabFlaw::Record(2), "a hole without an end");
    assert_eq!(flaw(&[&[5, 2, 0, 0, 0, 80, 0, 17][..], &[0; 78]].concat()), KeytabFlaw::Record(2), "17 components");
}

#[test]
fn a_missing_principal_is_answered_with_those_that_are_there() {
    let keytab = from(&keytab(&[
        Record::new("HTTP/b.corp.example@CORP.EXAMPLE", 2, 18, &[1; 32]),
        Record::new("a@CORP.EXAMPLE", 2, 99, &[]),
    ]))
    .unwrap();
    let message = keytab.check(&own(OURS)).unwrap_err().to_string();
    assert_eq!(
        message,
        "the keytab bridge.keytab has no key of svc-bridge@CORP.EXAMPLE; \
         it has keys of HTTP/b.corp.example@CORP.EXAMPLE, a@CORP.EXAMPLE"
    );
}

#[test]
fn a_principal_that_differs_in_letter_case_only_is_pointed_out() {
    let keytab = from(&keytab(&[Record::new("SVC-Bridge@CORP.EXAMPLE", 2, 18, &[1; 32])])).unwrap();
    let message = keytab.check(&own(OURS)).unwrap_err().to_string();
    assert!(message.contains("SVC-Bridge@CORP.EXAMPLE, which differs in letter case only"), "{message}");
}

#[test]
fn keys_of_unsupported_types_or_wrong_length_are_not_usable() {
    let keytab =
        from(&keytab(&[Record::new(OURS, 2, 3, &[1; 8]), Record::new(OURS, 2, 1, &[1; 8]), Record::new(OURS, 2, 18, &[1; 31])]))
            .unwrap();
    assert!(found(&keytab, OURS).is_empty());
    assert!(matches!(keytab.check(&own(OURS)), Err(KeytabError::EtypesUnsupported { etypes, .. }) if etypes == [1, 3, 18]));
}

#[test]
fn a_file_that_is_missing_unreadable_or_no_file_is_named_with_its_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Keytab::read(&directory.path().join("none.keytab")).unwrap_err();
    assert!(matches!(missing, KeytabError::Missing { .. }));
    assert!(missing.to_string().contains("none.keytab") && missing.to_string().contains("exportkeytab"), "{missing}");
    let no_file = Keytab::read(directory.path()).unwrap_err();
    assert!(matches!(no_file, KeytabError::NotAKeytab { flaw: KeytabFlaw::NotAFile, .. }), "{no_file}");
    let below_a_file = directory.path().join("file");
    std::fs::write(&below_a_file, b"").unwrap();
    let unreadable = Keytab::read(&below_a_file.join("x.keytab")).unwrap_err();
    assert!(matches!(unreadable, KeytabError::Unreadable { .. }), "{unreadable}");
    std::fs::File::create(&below_a_file).unwrap().set_len(MAX_BYTES + 1).unwrap();
    let large = Keytab::read(&below_a_file).unwrap_err();
    assert!(matches!(large, KeytabError::NotAKeytab { flaw: KeytabFlaw::TooLarge, .. }), "{large}");
}

#[test]
fn a_keytab_that_others_may_read_is_warned_about() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), keytab(&[Record::new(OURS, 2, 18, &[1; 32])])).unwrap();
    for (mode, warned) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o620, true)] {
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let warning = Keytab::read(file.path()).unwrap().permission_warning();
        assert_eq!(warning.is_some(), warned, "{mode:o}: {warning:?}");
    }
}

#[test]
fn debug_output_shows_no_key() {
    let keytab = from(&keytab(&[Record::new(OURS, 2, 23, b"0123456789abcdef")])).unwrap();
    assert_eq!(format!("{keytab:?}"), "Keytab { path: \"bridge.keytab\", entries: 1, .. }");
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let record = ("[a-z]{1,9}(/[a-z.]{1,20})?@[A-Z.]{1,12}[A-Z]", 0_u32.., 0_u16..30, prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(principal, kvno, etype, key)| Record::new(&principal, kvno, etype, &key));
    prop::collection::vec(record, 1..6)
}

proptest! {
    #[test]
    fn whatever_was_written_is_read(records in records()) {
        let entries = parse(&keytab(&records)).unwrap();
        prop_assert_eq!(entries.len(), records.len());
        for (entry, record) in entries.iter().zip(&records) {
            prop_assert_eq!(&*entry.realm, &*record.realm);
            prop_assert!(entry.name.components.iter().map(|c| &**c).eq(record.components.iter().map(|c| &**c)));
            prop_assert_eq!((entry.kvno, entry.etype), (record.kvno, i32::from(record.etype)));
            let key = Etype::from_number(entry.etype).filter(|etype| etype.key_length() == record.key.len()).map(|_| &*record.key);
            prop_assert_eq!(entry.key.as_ref().map(Key::expose), key);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = parse(&[&[5, 2], &bytes[..]].concat());
        let _ = parse(&bytes);
    }

    #[test]
    fn mutated_keytabs_never_panic(records in records(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = keytab(&records);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = parse(&bytes);
    }
}
