use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::kerberos::wire::crypto::Etype;
use crate::kerberos::wire::crypto::tests::ETYPES;
use crate::kerberos::wire::inspect::{OpenedToken, open_ap_req};
use crate::kerberos::wire::ticket::tests::service_ticket;
use crate::naming::name::{PrincipalName, name_type};

const FORMATS: [TokenFormat; 3] = [TokenFormat::Spnego, TokenFormat::SpnegoMicrosoft, TokenFormat::Kerberos];
/// Python's hashlib over the same bytes.
const BINDING_DIGEST: [u8; 16] = [0xCA, 0xE6, 0xD9, 0xCA, 0x75, 0x31, 0xFE, 0x8A, 0x11, 0xF9, 0x11, 0x71, 0xB8, 0xC9, 0xA3, 0xBA];
const TIME: AuthenticatorTime = AuthenticatorTime { ctime: 1_767_323_045, cusec: 7 };

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_323_045)
}

fn binding() -> ChannelBinding {
    ChannelBinding { certificate_hash: vec![0xAB; 32] }
}

fn mintable(etype: Etype) -> MintableTicket {
    MintableTicket::new(service_ticket("alice@mail.example", etype, 0x11, 300)).unwrap()
}

fn opened(ticket: &MintableTicket, token: &[u8]) -> OpenedToken {
    open_ap_req(token, &ticket.ticket().session_key).unwrap()
}

#[test]
fn every_field_of_a_token_is_as_prescribed_for_every_encryption_type() {
    for etype in ETYPES {
        let ticket = mintable(etype);
        let random = Randomness::chosen(std::array::from_fn(|i| u8::try_from(i).unwrap() | 0xC0));
        let (token, _) = ticket.mint_with(TIME, &random, TokenFormat::Spnego, None, MintOptions::default()).unwrap();
        let found = opened(&ticket, &token);
        assert_eq!(found.mech_types, [framing::KRB5_MECHANISM]);
        assert!(!found.more_spnego_fields);
        assert_eq!(found.mechanism, framing::KRB5_MECHANISM);
        assert_eq!(found.ap_options, 0x2000_0000);
        assert_eq!(found.ticket, *ticket.ticket().ticket);
        assert_eq!((found.authenticator_etype, found.authenticator_kvno), (etype.number(), None));
        let authenticator = found.authenticator;
        assert_eq!((authenticator.client_realm.as_str(), &authenticator.client), ("CORP.EXAMPLE", &ticket.ticket().client));
        assert_eq!((authenticator.checksum_type, authenticator.flags), (0x8003, 0x2E));
        assert_eq!((authenticator.binding, authenticator.checksum_rest.len()), ([0; 16], 0));
        assert_eq!(authenticator.time, TIME);
        let subkey: Vec<u8> = (16..16 + u8::try_from(etype.key_length()).unwrap()).map(|i| i | 0xC0).collect();
        assert_eq!(authenticator.subkey, Some((etype.number(), subkey)));
        assert_eq!(authenticator.sequence_number, Some(u32::from_le_bytes([0xF0, 0xF1, 0xF2, 0xF3]) & 0x3FFF_FFFF));
        assert_eq!(authenticator.authorization, []);
    }
}

#[test]
fn the_three_formats_differ_in_their_frames_only() {
    let ticket = mintable(Etype::Aes256Sha1);
    let random = Randomness::generate().unwrap();
    let [spnego, microsoft, bare] =
        FORMATS.map(|format| opened(&ticket, &ticket.mint_with(TIME, &random, format, None, MintOptions::default()).unwrap().0));
    assert_eq!(spnego.mech_types, [framing::KRB5_MECHANISM]);
    assert_eq!(microsoft.mech_types, [framing::MS_KRB5_MECHANISM, framing::KRB5_MECHANISM]);
    assert_eq!(bare.mech_types, Vec::<Vec<u8>>::new());
    for other in [&microsoft, &bare] {
        assert_eq!(
            (&other.mechanism, &other.ticket, &other.authenticator),
            (&spnego.mechanism, &spnego.ticket, &spnego.authenticator)
        );
    }
}

#[test]
fn delegation_is_never_asked_for_even_with_ok_as_delegate() {
    let mut ticket = service_ticket("alice", Etype::Aes256Sha1, 1, 100);
    ticket.flags = u32::MAX;
    let ticket = MintableTicket::new(ticket).unwrap();
    for format in FORMATS {
        for (bound, options) in
            [(None, MintOptions::default()), (Some(binding()), MintOptions { client_target: true, announce_binding: true })]
        {
            let (token, _) = ticket.mint(now(), format, bound.as_ref(), options).unwrap();
            let authenticator = opened(&ticket, &token).authenticator;
            assert_eq!(authenticator.flags & 0x1, 0);
            assert_eq!(authenticator.flags, 0x2E);
            assert!(authenticator.checksum_rest.is_empty());
        }
    }
}

#[test]
fn a_channel_binding_is_hashed_with_its_length_and_without_addresses() {
    assert_eq!(binding_digest(&binding()), BINDING_DIGEST);
}

#[test]
fn authorization_data_goes_only_with_a_binding_and_each_entry_can_be_switched() {
    let ticket = mintable(Etype::Aes128Sha2);
    let entries = |binding: Option<&ChannelBinding>, announce_binding, client_target| {
        let options = MintOptions { announce_binding, client_target };
        let (token, _) = ticket.mint(now(), TokenFormat::Spnego, binding, options).unwrap();
        let authenticator = opened(&ticket, &token).authenticator;
        assert_eq!(authenticator.binding, binding.map_or([0; 16], binding_digest));
        (authenticator.authorization.len(), authenticator.if_relevant().unwrap())
    };
    let binding = binding();
    let announcement = (143, vec![0, 0x40, 0, 0]);
    let target = (144, "HTTP/mbx1.corp.example@CORP.EXAMPLE".encode_utf16().flat_map(u16::to_le_bytes).collect());
    assert_eq!(entries(None, true, true), (0, vec![]));
    assert_eq!(entries(Some(&binding), false, false), (0, vec![]));
    assert_eq!(entries(Some(&binding), true, false), (1, vec![announcement.clone()]));
    assert_eq!(entries(Some(&binding), false, true), (1, vec![target.clone()]));
    assert_eq!(entries(Some(&binding), true, true), (1, vec![announcement, target]));
}

#[test]
fn the_constant_announcement_is_what_the_encoder_writes() {
    assert_eq!(authorization_data(&[(AD_AP_OPTIONS, &AP_OPTIONS_CBT)]), BINDING_ANNOUNCED);
}

#[test]
fn enterprise_and_non_ascii_names_stay_the_components_they_were() {
    let names = [
        PrincipalName { name_type: name_type::ENTERPRISE, components: vec!["zoë.müller@mail.example".into()] },
        PrincipalName { name_type: name_type::PRINCIPAL, components: vec!["日本語\u{1F600}".into()] },
        PrincipalName { name_type: -128, components: vec!["a/b@c\\".into(), String::new().into(), "x".repeat(300).into()] },
    ];
    for name in names {
        let mut ticket = service_ticket("", Etype::Aes128Sha1, 1, 100);
        ticket.client = name.clone();
        let ticket = MintableTicket::new(ticket).unwrap();
        let (token, _) = ticket.mint(now(), TokenFormat::Spnego, None, MintOptions::default()).unwrap();
        assert_eq!(opened(&ticket, &token).authenticator.client, name);
    }
}

#[test]
fn a_token_is_written_without_growing_its_buffer() {
    for etype in ETYPES {
        for length in [0, 1, 100, 127, 128, 200, 256, 2_000, 65_000, 70_000] {
            let ticket = MintableTicket::new(service_ticket("alice", etype, 1, length)).unwrap();
            for format in FORMATS {
                for binding in [None, Some(binding())] {
                    let (token, _) = ticket.mint(now(), format, binding.as_ref(), MintOptions::default()).unwrap();
                    assert_eq!(token.capacity(), token.len(), "{etype:?} {length} {format:?}");
                }
            }
        }
    }
}

#[test]
fn no_two_tokens_share_a_time_a_subkey_or_a_confounder() {
    let ticket = mintable(Etype::Aes256Sha1);
    let mint = || {
        let (token, _) = ticket.mint(now(), TokenFormat::Kerberos, None, MintOptions::default()).unwrap();
        let authenticator = opened(&ticket, &token).authenticator;
        assert!(authenticator.sequence_number.unwrap() < 1 << 30);
        (authenticator.time, authenticator.subkey, token)
    };
    let tokens: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..100).map(|_| mint()).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(tokens.iter().map(|token| token.0).collect::<HashSet<_>>().len(), 400);
    assert_eq!(tokens.iter().map(|token| &token.1).collect::<HashSet<_>>().len(), 400);
    assert_eq!(tokens.iter().map(|token| &token.2[token.2.len() - 60..]).collect::<HashSet<_>>().len(), 400);
}

#[test]
fn an_expired_ticket_makes_no_token() {
    let ticket = mintable(Etype::Aes256Sha1);
    let end = u64::try_from(ticket.ticket().end_time).unwrap();
    let mint =
        |seconds| ticket.mint(UNIX_EPOCH + Duration::from_secs(seconds), TokenFormat::Spnego, None, MintOptions::default());
    assert!(mint(end - 1).is_ok());
    assert_eq!(mint(end).unwrap_err().cause, Cause::TokenFailed);
}

#[test]
fn a_ticket_that_is_none_is_refused() {
    let refused = |change: fn(&mut ServiceTicket)| {
        let mut ticket = service_ticket("alice", Etype::Aes256Sha1, 1, 100);
        change(&mut ticket);
        MintableTicket::new(ticket).unwrap_err().cause == Cause::TicketUnusable
    };
    assert!(refused(|ticket| ticket.ticket = Box::default()));
    assert!(refused(|ticket| ticket.ticket_etype = 23));
    assert!(refused(|ticket| ticket.client.components.clear()));
    assert!(refused(|ticket| ticket.client_realm = "".into()));
}

#[test]
fn a_cached_user_takes_less_than_4_kib_beside_the_ticket() {
    for etype in ETYPES {
        let ticket = mintable(etype);
        assert!(ticket.memory() < ticket.ticket().ticket.len() + 2_500, "{etype:?}: {}", ticket.memory());
    }
}

#[test]
fn nothing_secret_is_shown_by_debug() {
    let ticket = mintable(Etype::Aes256Sha1);
    let (_, expectation) = ticket.mint(now(), TokenFormat::Spnego, None, MintOptions::default()).unwrap();
    assert!(format!("{ticket:?}").starts_with("MintableTicket(ServiceTicket { client: alice\\@mail.example@CORP.EXAMPLE"));
    assert!(format!("{expectation:?}").starts_with("ApRepExpectation { time: AuthenticatorTime"));
    assert_eq!(format!("{:?}", Randomness::generate().unwrap()), "Randomness");
}

proptest! {
    #[test]
    fn opening_a_mutated_token_never_panics_and_never_finds_another_authenticator(at: prop::sample::Index, value: u8) {
        let ticket = mintable(Etype::Aes256Sha1);
        let random = Randomness::chosen([7; Randomness::LENGTH]);
        let (mut token, _) = ticket.mint_with(TIME, &random, TokenFormat::Spnego, None, MintOptions::default()).unwrap();
        let before = opened(&ticket, &token).authenticator;
        let index = at.index(token.len());
        token[index] = value;
        if let Ok(found) = open_ap_req(&token, &ticket.ticket().session_key) {
            prop_assert_eq!(found.authenticator, before);
        }
    }

    #[test]
    fn opening_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = open_ap_req(&bytes, &mintable(Etype::Rc4Hmac).ticket().session_key);
    }
}
