use proptest::prelude::*;

use super::testkit::{AUTHTIME, Account, DOMAIN, client_info, key, pack, sign, signature, upn_info, value_of};
use super::*;

const ETYPES: [Etype; 5] = [Etype::Aes128Sha1, Etype::Aes256Sha1, Etype::Aes128Sha2, Etype::Aes256Sha2, Etype::Rc4Hmac];

fn sid(text: &str) -> Sid {
    Sid::parse(text).unwrap()
}

fn alice() -> Sid {
    sid(DOMAIN).with_rid(1103).unwrap()
}

fn verify(buffers: &[(u32, Vec<u8>)]) -> Result<Pac, PacError> {
    let key = key(Etype::Aes256Sha1);
    Pac::verify(&sign(pack(buffers), &key), &key, AUTHTIME)
}

fn verify_logon(logon: Vec<u8>) -> Result<Pac, PacError> {
    let mut buffers = Account::default().buffers(Etype::Aes256Sha1);
    buffers[0].1 = logon;
    verify(&buffers)
}

#[test]
fn the_sid_is_the_domains_sid_and_the_users_rid() {
    let pac = Account::default().verified();
    assert_eq!(*pac.sid(), alice());
    assert_eq!((pac.account(), pac.domain(), pac.client_name(), pac.upn()), ("alice", "CORP", "alice", None));
    assert_eq!(pac.logon_name(), "CORP\\alice");
    assert_eq!((pac.user_account_control(), pac.primary_group(), pac.groups()), (0x10, 513, &[513][..]));
    assert_eq!(pac.extra_sids(), [sid("S-1-18-2")]);
    assert!(pac.resource_groups().is_empty());
}

#[test]
fn sid_history_and_resource_groups_behind_the_domain_sid_do_not_move_it() {
    let account = Account {
        groups: vec![513, 1111, 1112],
        extra_sids: vec!["S-1-18-2".into(), "S-1-5-21-1-2-3-4711".into(), "S-1-5-32-545".into()],
        resource_groups: Some(("S-1-5-21-9-8-7".into(), vec![1200, 1201])),
        ..Account::default()
    };
    let pac = account.verified();
    assert_eq!(*pac.sid(), alice());
    assert_eq!(pac.groups(), [513, 1111, 1112]);
    assert_eq!(pac.extra_sids(), [sid("S-1-18-2"), sid("S-1-5-21-1-2-3-4711"), sid("S-1-5-32-545")]);
    assert_eq!(pac.resource_groups(), [sid("S-1-5-21-9-8-7-1200"), sid("S-1-5-21-9-8-7-1201")]);
}

/// Written by the NDR library of Samba 4.22, with names of odd lengths, SIDHistory and resource groups.
#[test]
fn logon_information_of_another_writer_is_read_alike() {
    let logon = logon_info::decode(include_bytes!("testdata/samba_logon_info.bin")).unwrap();
    let expected = LogonInfo {
        sid: sid(DOMAIN).with_rid(1177).unwrap(),
        account: "zoë".into(),
        domain: "CORP".into(),
        user_account_control: 0x10,
        primary_group: 513,
        groups: vec![513, 1200, 1201],
        extra_sids: ["S-1-18-2", "S-1-5-21-1-2-3-4711", "S-1-5-21-1-2-3-519", "S-1-5-32-545"].map(sid).to_vec(),
        resource_groups: ["S-1-5-21-9-8-7-1300", "S-1-5-21-9-8-7-1301"].map(sid).to_vec(),
    };
    assert_eq!(logon, expected);
}

#[test]
fn a_user_without_a_rid_is_the_first_extra_sid() {
    let extra_sids = vec!["S-1-5-21-5-5-5-2001".into(), "S-1-18-2".into()];
    let foreign = Account { rid: 0, domain: None, extra_sids, ..Account::default() };
    assert_eq!(*foreign.verified().sid(), sid("S-1-5-21-5-5-5-2001"));
}

#[test]
fn a_user_without_a_rid_and_without_extra_sids_is_refused() {
    let nobody = Account { rid: 0, extra_sids: Vec::new(), ..Account::default() };
    assert_eq!(verify_logon(nobody.logon_info()), Err(PacError::Malformed("neither a user RID nor an extra SID")));
}

#[test]
fn a_rid_without_a_domain_is_refused() {
    let account = Account { domain: None, ..Account::default() };
    assert_eq!(verify_logon(account.logon_info()), Err(PacError::Malformed("a user RID without a domain SID")));
}

#[test]
fn the_server_signature_is_verified_with_every_encryption_type() {
    for etype in ETYPES {
        let key = key(etype);
        let pac = Account::default().pac(&key);
        assert_eq!(Pac::verify(&pac, &key, AUTHTIME).map(|pac| pac.sid().clone()), Ok(alice()), "{etype:?}");
    }
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let pac = Account::default().pac(&key(Etype::Aes256Sha1));
    let other = Key::new(Etype::Aes256Sha1, vec![8; 32].into()).unwrap();
    assert_eq!(Pac::verify(&pac, &other, AUTHTIME), Err(PacError::Signature(CryptoError::Integrity)));
}

#[test]
fn a_signature_of_another_type_than_the_keys_is_refused() {
    let pac = Account::default().pac(&key(Etype::Rc4Hmac));
    assert_eq!(Pac::verify(&pac, &key(Etype::Aes256Sha1), AUTHTIME), Err(PacError::Signature(CryptoError::ChecksumType)));
}

#[test]
fn every_altered_byte_outside_the_kdc_signature_is_noticed() {
    let key = key(Etype::Aes256Sha1);
    let good = Account::default().pac(&key);
    let kdc = value_of(&good, buffer_type::KDC_CHECKSUM);
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 1;
        let verified = Pac::verify(&altered, &key, AUTHTIME).is_ok();
        assert_eq!(verified, (kdc..kdc + 12).contains(&at), "byte {at}");
    }
}

#[test]
fn a_pac_without_a_signature_or_what_is_signed_is_refused() {
    for (missing, name) in [
        (buffer_type::LOGON_INFO, "logon information"),
        (buffer_type::CLIENT_INFO, "client information"),
        (buffer_type::KDC_CHECKSUM, "KDC signature"),
        (buffer_type::SERVER_CHECKSUM, "server signature"),
    ] {
        let key = key(Etype::Aes256Sha1);
        let mut buffers = Account::default().buffers(key.etype());
        // Under a type that is not read, so that the rest can be signed as ever.
        for (kind, _) in &mut buffers {
            if *kind == missing {
                *kind = 99;
            }
        }
        let mut pac = pack(&buffers);
        if missing != buffer_type::SERVER_CHECKSUM {
            let value = key.checksum(usage::PAC, &pac).unwrap();
            let at = value_of(&pac, buffer_type::SERVER_CHECKSUM);
            pac[at..at + value.len()].copy_from_slice(&value);
        }
        assert_eq!(Pac::verify(&pac, &key, AUTHTIME), Err(PacError::Missing(name)));
    }
}

#[test]
fn a_read_only_domain_controllers_number_is_tolerated_whether_it_is_signed_or_zeroed() {
    let key = key(Etype::Aes256Sha1);
    for signed in [true, false] {
        let mut buffers = Account::default().buffers(key.etype());
        for (kind, contents) in &mut buffers {
            if matches!(*kind, buffer_type::SERVER_CHECKSUM | buffer_type::KDC_CHECKSUM) {
                contents.extend_from_slice(if signed { &[0x34, 0x12] } else { &[0, 0] });
            }
        }
        let mut pac = sign(pack(&buffers), &key);
        for kind in [buffer_type::SERVER_CHECKSUM, buffer_type::KDC_CHECKSUM] {
            let at = value_of(&pac, kind) + 12;
            pac[at..at + 2].copy_from_slice(&[0x34, 0x12]);
        }
        assert!(Pac::verify(&pac, &key, AUTHTIME).is_ok(), "signed: {signed}");
    }
}

#[test]
fn a_kdc_signature_of_an_unknown_type_does_not_disturb() {
    let mut buffers = Account::default().buffers(Etype::Aes256Sha1);
    buffers[3].1 = [&17_i32.to_le_bytes()[..], &[0; 16]].concat();
    assert!(verify(&buffers).is_ok());
}

#[test]
fn other_buffers_do_not_disturb() {
    let mut buffers = Account::default().buffers(Etype::Aes256Sha1);
    for kind in [13, 14, 16, 17, 18, 19, 20] {
        buffers.push((kind, signature(Etype::Aes256Sha1)));
    }
    buffers.push((2, Vec::new()));
    assert!(verify(&buffers).is_ok());
}

#[test]
fn a_pac_of_another_authentication_is_refused() {
    let key = key(Etype::Aes256Sha1);
    let pac = Account::default().pac(&key);
    for authtime in [AUTHTIME - 1, AUTHTIME + 1, 0, i64::MIN, i64::MAX] {
        assert_eq!(Pac::verify(&pac, &key, authtime), Err(PacError::OtherTicket));
    }
}

#[test]
fn the_client_informations_name_is_reported_and_not_judged() {
    let mut buffers = Account::default().buffers(Etype::Aes256Sha1);
    buffers[1].1 = client_info("zoë@mail.example", AUTHTIME);
    assert_eq!(verify(&buffers).unwrap().client_name(), "zoë@mail.example");
}

#[test]
fn the_upn_is_reported_and_its_sid_compared() {
    let own = alice().to_string();
    let with = |upn_info| {
        let mut buffers = Account::default().buffers(Etype::Aes256Sha1);
        buffers.push((buffer_type::UPN_DNS_INFO, upn_info));
        verify(&buffers)
    };
    assert_eq!(with(upn_info("alice@corp.example", None)).unwrap().upn(), Some("alice@corp.example"));
    assert_eq!(with(upn_info("alice@corp.example", Some(&own))).unwrap().upn(), Some("alice@corp.example"));
    assert_eq!(with(upn_info("alice@corp.example", Some("S-1-5-21-1-2-3-1103"))), Err(PacError::SidConflict));
    assert_eq!(with(vec![0xFF; 24]), Err(PacError::Truncated));
}

#[test]
fn buffers_must_be_aligned_apart_inside_and_of_different_types() {
    let good = Account::default().pac(&key(Etype::Aes256Sha1));
    // Entry n of the directory: type at 8 + 16 n, size at 12 + 16 n, offset at 16 + 16 n.
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        Pac::verify(&bad, &key(Etype::Aes256Sha1), AUTHTIME)
    };
    let directory = 8 + 4 * 16;
    assert_eq!(with(16, &[directory + 4, 0]), Err(PacError::Malformed("a buffer that is not aligned")));
    assert_eq!(with(16, &[0; 8]), Err(PacError::Malformed("buffers that overlap")), "inside the directory");
    assert_eq!(with(32, &[directory, 0]), Err(PacError::Malformed("buffers that overlap")), "one another");
    assert_eq!(with(12 + 16, &[0xFF; 4]), Err(PacError::Malformed("buffers that overlap")), "by size");
    assert_eq!(with(16 + 3 * 16, &[0xF8; 8]), Err(PacError::Truncated), "far outside");
    assert_eq!(with(12 + 3 * 16, &[0xFF; 2]), Err(PacError::Truncated), "too long");
    assert_eq!(with(8 + 16, &[1]), Err(PacError::Malformed("two buffers of one type")));
    assert_eq!(with(4, &[1]), Err(PacError::Malformed("unknown version or too many buffers")));
    assert_eq!(with(0, &[65]), Err(PacError::Malformed("unknown version or too many buffers")));
    assert_eq!(with(0, &[64]), Err(PacError::Malformed("a buffer that is not aligned")));
}

#[test]
fn logon_information_of_another_serialization_is_refused() {
    for (at, byte) in [(0, 2), (1, 0), (2, 16)] {
        let mut logon = Account::default().logon_info();
        logon[at] = byte;
        assert_eq!(verify_logon(logon), Err(PacError::Malformed("not little-endian type serialization version 1")));
    }
}

#[test]
fn counts_that_contradict_their_arrays_are_refused() {
    let account = Account { resource_groups: Some(("S-1-5-21-9-8-7".into(), vec![1200])), ..Account::default() };
    let good = account.logon_info();
    // Places by MS-PAC 2.5, from the start of the buffer: two headers (16), the pointer (4), then the structure.
    let (name_length, name_pointer, group_count, group_pointer) = (20 + 48, 20 + 52, 20 + 108, 20 + 112);
    let (extra_count, extra_pointer) = (20 + 196, 20 + 200);
    for (at, expected) in [
        (16, "no logon information behind its pointer"),
        (name_pointer, "a string without a buffer"),
        (group_pointer, "a count without an array"),
        (extra_pointer, "a count without an array"),
    ] {
        let mut bad = good.clone();
        bad[at..at + 4].fill(0);
        assert_eq!(verify_logon(bad), Err(PacError::Malformed(expected)), "null pointer at {at}");
    }
    for (at, expected) in [
        (name_length, "a string's counts contradict each other"),
        (group_count, "an array's counts contradict each other"),
        (extra_count, "an array's counts contradict each other"),
    ] {
        let mut bad = good.clone();
        bad[at] += 2;
        assert_eq!(verify_logon(bad), Err(PacError::Malformed(expected)), "count at {at}");
    }
}

#[test]
fn logon_information_is_refused_at_every_length_but_its_own() {
    let good = Account { resource_groups: Some(("S-1-5-21-9-8-7".into(), vec![1200])), ..Account::default() }.logon_info();
    for length in 0..good.len() {
        assert!(verify_logon(good[..length].to_vec()).is_err(), "{length} bytes");
    }
    let mut longer = [&good[..], &[0; 8]].concat();
    let object = u32::try_from(longer.len() - 16).unwrap();
    longer[8..12].copy_from_slice(&object.to_le_bytes());
    assert_eq!(verify_logon(longer), Err(PacError::Malformed("bytes behind the logon information")));
}

fn sids() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec((0_u64..1 << 48, prop::collection::vec(any::<u32>(), 1..16)), 0..6)
        .prop_map(|sids| sids.into_iter().map(|(authority, subs)| Sid::new(authority, subs).unwrap().to_string()).collect())
}

proptest! {
    #[test]
    fn whatever_was_written_is_read(
        rid in 1_u32..,
        user_account_control: u32,
        primary_group: u32,
        groups: Vec<u32>,
        extra_sids in sids(),
        resource in prop::option::of(prop::collection::vec(any::<u32>(), 0..5)),
    ) {
        let account = Account {
            rid,
            user_account_control,
            primary_group,
            groups: groups.clone(),
            extra_sids: extra_sids.clone(),
            resource_groups: resource.clone().map(|rids| (DOMAIN.into(), rids)),
            ..Account::default()
        };
        let pac = account.verified();
        prop_assert_eq!(pac.sid(), &sid(DOMAIN).with_rid(rid).unwrap());
        prop_assert_eq!((pac.user_account_control(), pac.primary_group()), (user_account_control, primary_group));
        prop_assert_eq!(pac.groups(), groups);
        prop_assert_eq!(pac.extra_sids().iter().map(ToString::to_string).collect::<Vec<_>>(), extra_sids);
        let rids: Vec<u32> = pac.resource_groups().iter().map(Sid::rid).collect();
        prop_assert_eq!(rids, resource.unwrap_or_default());
    }

    #[test]
    fn arbitrary_bytes_never_make_a_pac(bytes: Vec<u8>) {
        prop_assert!(Pac::verify(&bytes, &key(Etype::Aes256Sha1), AUTHTIME).is_err());
    }

    #[test]
    fn mutated_logon_information_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let account = Account { resource_groups: Some((DOMAIN.into(), vec![1200])), ..Account::default() };
        let mut logon = account.logon_info();
        for (index, byte) in changes {
            let at = index.index(logon.len());
            logon[at] = byte;
        }
        let _ = logon_info::decode(&logon);
        let _ = UpnInfo::parse(&logon);
        let _ = ClientInfo::parse(&logon);
        let _ = Buffers::parse(&logon);
    }
}
