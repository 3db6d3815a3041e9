use std::path::Path;

use proptest::prelude::*;

use super::testkit::{Sealed, ad_element, if_relevant, our_key, our_keytab};
use super::*;
use crate::kerberos::proof::exported_credential::ExportedCredential;
use crate::kerberos::proof::keytab::testkit::{Record, keytab};
use crate::kerberos::proof::pac::testkit::{AUTHTIME, Account};
use crate::kerberos::wire::crypto::Etype;

const OURS: &str = "svc-bridge@CORP.EXAMPLE";
const ETYPES: [Etype; 5] = [Etype::Aes128Sha1, Etype::Aes256Sha1, Etype::Aes128Sha2, Etype::Aes256Sha2, Etype::Rc4Hmac];

fn own() -> OwnPrincipal {
    OwnPrincipal::parse(OURS).unwrap()
}

fn open(ticket: &Sealed) -> Result<EvidenceTicket, EvidenceError> {
    EvidenceTicket::open(&ticket.bytes(), &our_keytab(), &own())
}

#[test]
fn a_ticket_to_ourselves_is_opened_with_every_encryption_type() {
    for etype in ETYPES {
        let ticket = open(&Sealed::new(etype)).unwrap();
        assert_eq!((ticket.client_realm(), ticket.client().to_string()), ("CORP.EXAMPLE", "alice\\@corp.example".into()));
        assert_eq!(ticket.client().name_type, name_type::ENTERPRISE);
        assert_eq!((ticket.auth_time(), ticket.end_time()), (AUTHTIME, AUTHTIME + 36_000));
        assert_eq!((ticket.flags(), ticket.is_forwardable()), (0x40A8_0000, true));
        assert_eq!(ticket.require_pac().unwrap().sid().rid(), 1103, "{etype:?}");
    }
}

#[test]
fn a_ticket_without_a_pac_opens_but_proves_nobody() {
    let ticket = open(&Sealed { authorization_data: None, ..Sealed::new(Etype::Aes256Sha1) }).unwrap();
    assert_eq!(ticket.require_pac().unwrap_err().cause, Cause::PacMissing);
    let other = if_relevant(&ad_element(141, &[0; 4]));
    let ticket = open(&Sealed { authorization_data: Some(other), ..Sealed::new(Etype::Aes256Sha1) }).unwrap();
    assert_eq!(ticket.pac(), None);
}

#[test]
fn a_ticket_to_somebody_else_is_refused_before_any_key_is_tried() {
    for (name, realm) in [("svc-other", "CORP.EXAMPLE"), ("SVC-BRIDGE", "CORP.EXAMPLE"), ("svc-bridge", "OTHER.EXAMPLE")] {
        let ticket = Sealed { server: name.into(), realm: realm.into(), ..Sealed::new(Etype::Aes256Sha1) };
        assert_eq!(open(&ticket), Err(EvidenceError::NotOurs(format!("{name}@{realm}"))));
    }
}

#[test]
fn the_key_of_the_tickets_version_is_used_or_else_any_of_its_encryption_type() {
    let etype = Etype::Aes256Sha1;
    let right = our_key(etype);
    let old = Record::new(OURS, 1, 18, &[1; 32]);
    let current = Record::new(OURS, 2, 18, right.expose());
    let newer = Record::new(OURS, 3, 18, &[3; 32]);
    let bytes = keytab(&[old, current, newer]);
    let keytab = Keytab::from_bytes(Path::new("bridge.keytab"), &bytes).unwrap();
    for kvno in [Some(2), Some(1), Some(77), None] {
        let ticket = Sealed { kvno, ..Sealed::new(etype) };
        assert!(EvidenceTicket::open(&ticket.bytes(), &keytab, &own()).is_ok(), "{kvno:?}");
    }
}

#[test]
fn a_ticket_that_no_key_opens_names_the_versions() {
    let bytes =
        keytab(&[Record::new(OURS, 4, 18, &[1; 32]), Record::new(OURS, 5, 18, &[2; 32]), Record::new(OURS, 5, 17, &[2; 16])]);
    let keytab = Keytab::from_bytes(Path::new("bridge.keytab"), &bytes).unwrap();
    let error = EvidenceTicket::open(&Sealed::new(Etype::Aes256Sha1).bytes(), &keytab, &own()).unwrap_err();
    assert_eq!(error, EvidenceError::WrongKey { kvno: Some(2), have: vec![5, 4] });
    assert_eq!(Failure::from(error).cause, Cause::KeytabUnusable);
    let error = EvidenceTicket::open(&Sealed::new(Etype::Rc4Hmac).bytes(), &keytab, &own()).unwrap_err();
    assert_eq!(error, EvidenceError::NoKey { etype: 23, kvno: Some(2) });
}

#[test]
fn a_key_of_another_principal_does_not_open_our_tickets() {
    let bytes = keytab(&[Record::new("svc-other@CORP.EXAMPLE", 2, 18, our_key(Etype::Aes256Sha1).expose())]);
    let keytab = Keytab::from_bytes(Path::new("bridge.keytab"), &bytes).unwrap();
    let opened = EvidenceTicket::open(&Sealed::new(Etype::Aes256Sha1).bytes(), &keytab, &own());
    assert_eq!(opened, Err(EvidenceError::NoKey { etype: 18, kvno: Some(2) }));
}

#[test]
fn postdated_invalid_and_anonymous_tickets_are_refused() {
    for flag in [ticket_flag::POSTDATED, ticket_flag::INVALID, ticket_flag::ANONYMOUS] {
        let flags = 0x40A8_0000 | flag;
        assert_eq!(open(&Sealed { flags, ..Sealed::new(Etype::Aes256Sha1) }), Err(EvidenceError::Flags(flags)));
    }
    for (name_type, components) in [(1, vec!["WELLKNOWN", "ANONYMOUS"]), (11, vec!["somebody"]), (1, vec![]), (1, vec![""])] {
        let client = PrincipalName { name_type, components: components.into_iter().map(Into::into).collect() };
        let ticket = Sealed { client: client.clone(), ..Sealed::new(Etype::Aes256Sha1) };
        assert_eq!(open(&ticket), Err(EvidenceError::Anonymous), "{client:?}");
    }
}

#[test]
fn a_pac_is_found_at_any_usual_depth_and_only_once_and_only_wrapped() {
    let pac = ad_element(128, &Account::default().pac(&our_key(Etype::Aes256Sha1)));
    let with = |authorization_data: Vec<u8>| {
        let ticket = Sealed { authorization_data: Some(authorization_data), ..Sealed::new(Etype::Aes256Sha1) };
        open(&ticket).map(|ticket| ticket.pac().is_some())
    };
    let refused = |why| Err(EvidenceError::AuthorizationData(why));
    let other = ad_element(141, &[1; 4]);
    assert_eq!(with(if_relevant(&pac)), Ok(true));
    assert_eq!(with(if_relevant(&[&other[..], &pac].concat())), Ok(true), "not the first");
    assert_eq!(with([if_relevant(&other), if_relevant(&pac)].concat()), Ok(true), "in a second container");
    assert_eq!(with(if_relevant(&if_relevant(&pac))), Ok(true), "one deeper");
    assert_eq!(with(pac.clone()), refused("a PAC outside AD-IF-RELEVANT"));
    assert_eq!(with(if_relevant(&[&pac[..], &pac].concat())), refused("more than one PAC"));
    assert_eq!(with([if_relevant(&pac), if_relevant(&pac)].concat()), refused("more than one PAC"));
    assert_eq!(with([if_relevant(&if_relevant(&pac)), if_relevant(&pac)].concat()), refused("more than one PAC"));
    let deep = (0..5).fold(pac, |inner, _| if_relevant(&inner));
    assert_eq!(with(deep), refused("nested too deep"));
}

#[test]
fn a_pac_that_was_made_for_another_ticket_or_key_is_refused() {
    let moved = Sealed { auth_time: AUTHTIME + 1, ..Sealed::new(Etype::Aes256Sha1) };
    assert_eq!(open(&moved), Err(EvidenceError::Pac(PacError::OtherTicket)));
    let pac = if_relevant(&ad_element(128, &Account::default().pac(&our_key(Etype::Aes128Sha1))));
    let foreign = open(&Sealed { authorization_data: Some(pac), ..Sealed::new(Etype::Aes256Sha1) });
    assert!(matches!(foreign, Err(EvidenceError::Pac(PacError::Signature(_)))), "{foreign:?}");
    assert_eq!(Failure::from(foreign.unwrap_err()).cause, Cause::PacInvalid);
}

#[test]
fn an_altered_ticket_does_not_open() {
    let good = Sealed::new(Etype::Aes256Sha1).bytes();
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 1;
        match EvidenceTicket::open(&altered, &our_keytab(), &own()) {
            Err(_) => {}
            // Neither the server's name type nor the key version decides anything.
            Ok(opened) => assert_eq!(opened, open(&Sealed::new(Etype::Aes256Sha1)).unwrap(), "byte {at}"),
        }
    }
    assert!(EvidenceTicket::open(&[&good[..], &[0]].concat(), &our_keytab(), &own()).is_err(), "trailing byte");
}

/// Tickets of a throwaway Samba 4.22 domain, exported from MIT 1.20 after S4U2Self for enterprise names.
fn real(user: &str) -> EvidenceTicket {
    let directory = Path::new("src/kerberos/proof/evidence/testdata");
    let token = std::fs::read(directory.join(format!("{user}.export"))).unwrap();
    let keytab = Keytab::read(&directory.join("bridge.keytab")).unwrap();
    let exported = ExportedCredential::parse(&token).unwrap();
    EvidenceTicket::open(&exported.evidence(&own()).unwrap().ticket, &keytab, &own()).unwrap()
}

#[test]
fn evidence_tickets_of_a_real_domain_name_the_right_sids() {
    for (user, rid, forwardable) in [("alice", 1103, true), ("admin1", 1109, true), ("carol", 1105, false), ("dc1", 1000, true)] {
        let ticket = real(user);
        assert_eq!(ticket.client().to_string(), format!("{user}\\@corp.example"));
        let pac = ticket.require_pac().unwrap();
        assert_eq!(pac.sid().to_string(), format!("S-1-5-21-1104284299-2107321043-69788292-{rid}"));
        assert_eq!(ticket.is_forwardable(), forwardable, "{user}");
        assert_eq!(pac.client_name(), format!("{user}@corp.example"));
    }
}

#[test]
fn a_real_pac_is_read_to_its_end() {
    let ticket = real("alice");
    let pac = ticket.require_pac().unwrap();
    assert_eq!((pac.account(), pac.domain(), pac.upn()), ("alice", "CORP", Some("alice@corp.example")));
    assert_eq!((pac.user_account_control(), pac.primary_group(), pac.groups()), (0x210, 513, &[513, 1131, 1133][..]));
    let texts = |sids: &[crate::naming::sid::Sid]| sids.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(pac.extra_sids()), ["S-1-18-2", "S-1-5-21-0-0-0-497"]);
    assert_eq!(texts(pac.resource_groups()), ["S-1-5-21-1104284299-2107321043-69788292-1132"]);
}

#[test]
fn real_accounts_are_judged_by_kind_and_privilege() {
    use crate::identity::AccountKind;
    use crate::kerberos::proof::account_rules::judge_account;
    let judge = |user| {
        judge_account(real(user).require_pac().unwrap(), AccountKind::User, &[512, 516, 518, 519, 521], &[500])
            .map_err(|failure| failure.cause)
    };
    assert_eq!(judge("alice"), Ok(()));
    assert_eq!(judge("carol"), Ok(()));
    assert_eq!(judge("admin1"), Err(Cause::PrivilegedRefused));
    assert_eq!(judge("dc1"), Err(Cause::AccountKindRefused), "asked for without its dollar sign");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        prop_assert!(EvidenceTicket::decode(&bytes, &our_key(Etype::Aes256Sha1)).is_err());
        let _ = find_pac(&bytes);
    }

    #[test]
    fn mutated_tickets_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let sealed = Sealed::new(Etype::Aes256Sha1);
        for mut bytes in [sealed.bytes(), sealed.plain()] {
            for (index, byte) in &changes {
                let at = index.index(bytes.len());
                bytes[at] = *byte;
            }
            let _ = EvidenceTicket::open(&bytes, &our_keytab(), &own());
            let _ = EvidenceTicket::decode(&bytes, &our_key(Etype::Aes256Sha1));
        }
    }
}
