//! Both engines side by side over the same ticket, for every encryption type: the fields of their authenticators are compared after
//! decryption, and MIT's acceptor takes both.

use std::time::SystemTime;

use kcd_bridge::identity::RequestedName;
use kcd_bridge::kerberos::ChannelBinding;
use kcd_bridge::kerberos::PendingReply;
use kcd_bridge::kerberos::Verdict;
use kcd_bridge::kerberos::acquire::gss::acceptor::Acceptor;
use kcd_bridge::kerberos::acquire::gss::{Impersonator, ReferenceContext, UserCredential};
use kcd_bridge::kerberos::config::Engine;
use kcd_bridge::kerberos::engine::Mint;
use kcd_bridge::kerberos::proof::evidence::EvidenceTicket;
use kcd_bridge::kerberos::proof::exported_credential::ExportedCredential;
use kcd_bridge::kerberos::proof::keytab::Keytab;
use kcd_bridge::kerberos::wire::crypto::Etype;
use kcd_bridge::kerberos::wire::inspect::{OpenedToken, open_ap_req};
use kcd_bridge::kerberos::wire::ticket::{ServiceTicket, TicketParts};
use kcd_bridge::naming::name::{OwnPrincipal, PrincipalName, name_type};
use kcd_bridge::policy::{Target, TokenFormat};

use crate::delegation::{kerberos_config, negotiate, raw, target};
use crate::support::Lab;

/// Service host in the MIT realm, and the encryption type of its key and session keys.
const SERVICES: [(&str, Etype); 5] = [
    ("aes128-sha1", Etype::Aes128Sha1),
    ("aes256-sha1", Etype::Aes256Sha1),
    ("aes128-sha2", Etype::Aes128Sha2),
    ("aes256-sha2", Etype::Aes256Sha2),
    ("rc4", Etype::Rc4Hmac),
];

const FORMATS: [TokenFormat; 3] = [TokenFormat::Spnego, TokenFormat::SpnegoMicrosoft, TokenFormat::Kerberos];

/// One service's ticket in both engines.
struct Both {
    target: std::sync::Arc<Target>,
    ticket: ServiceTicket,
    native: Mint,
    reference: Mint,
}

fn both(lab: &Lab, host: &str) -> Both {
    let user = OwnPrincipal::parse("mituser@MIT.EXAMPLE").unwrap();
    let spn = format!("HTTP/{host}.mit.example");
    let target = target(&spn, true, TokenFormat::Spnego);
    let cache = format!("minting-{host}-{:?}", std::thread::current().id());
    let ourselves = Impersonator::acquire(&user, &lab.path("mit/client.keytab"), &cache).unwrap();
    let credential: UserCredential = ourselves.credential();
    ReferenceContext::initiate(&credential, &target.spn, None).expect("a ticket for the service");
    let exported = ExportedCredential::parse(&ourselves.export().unwrap()).unwrap();
    let service = exported.credentials().iter().find(|cred| target.spn.matches(&cred.server.name)).expect("the service's ticket");
    let sealed = TicketParts::parse(&service.ticket).unwrap();
    let ticket = ServiceTicket {
        client: PrincipalName { name_type: name_type::PRINCIPAL, components: service.client.name.components.clone() },
        client_realm: service.client.realm.clone(),
        server: sealed.server,
        server_realm: sealed.realm.into(),
        ticket_etype: sealed.enc_part.etype,
        session_key: service.session_key().unwrap(),
        flags: service.flags,
        auth_time: service.auth_time,
        start_time: service.start_time,
        end_time: service.end_time,
        ticket: service.ticket.clone().into(),
    };
    let native = Mint::native(ticket.clone()).unwrap();
    Both { target, ticket, native, reference: Mint::Reference(credential) }
}

fn in_format(target: &Target, token_format: TokenFormat) -> Target {
    Target { token_format, ..target.clone() }
}

fn opened(mint: &Mint, both: &Both, format: TokenFormat, binding: Option<&ChannelBinding>) -> OpenedToken {
    let (token, _) = mint.token_now(&in_format(&both.target, format), binding).unwrap();
    open_ap_req(&raw(token), &both.ticket.session_key).unwrap()
}

#[test]
fn the_authenticators_of_both_engines_agree_field_by_field_for_every_encryption_type_and_binding() {
    let lab = Lab::get();
    let binding = ChannelBinding { certificate_hash: (0..32).collect() };
    for (host, etype) in SERVICES {
        let both = both(&lab, host);
        assert_eq!(both.ticket.ticket_etype, etype.number());
        assert_eq!(both.ticket.session_key.etype(), etype);
        for format in FORMATS {
            for binding in [None, Some(&binding)] {
                let ours = opened(&both.native, &both, format, binding);
                let theirs = opened(&both.reference, &both, format, binding);
                let what = format!("{host} {format:?} bound: {}", binding.is_some());
                assert_eq!(ours.ap_options, theirs.ap_options, "{what}");
                assert_eq!(ours.ap_options, 0x2000_0000, "{what}");
                assert_eq!(ours.ticket, theirs.ticket, "{what}");
                assert_eq!(ours.mech_types, theirs.mech_types, "{what}");
                assert_eq!(ours.mechanism, theirs.mechanism, "{what}");
                assert_eq!(
                    (ours.authenticator_etype, ours.authenticator_kvno),
                    (theirs.authenticator_etype, theirs.authenticator_kvno),
                    "{what}"
                );
                let (ours, theirs) = (ours.authenticator, theirs.authenticator);
                assert_eq!(ours.client_realm, theirs.client_realm, "{what}");
                assert_eq!(ours.client, theirs.client, "{what}");
                assert_eq!(ours.checksum_type, theirs.checksum_type, "{what}");
                assert_eq!(ours.binding, theirs.binding, "{what}");
                assert_eq!(ours.binding == [0; 16], binding.is_none(), "{what}");
                // The library always adds CONF 0x10 and TRANS 0x100, which describe what a context could do; we ask for no more than is used.
                assert_eq!(ours.flags, theirs.flags & !0x110, "{what}");
                assert_eq!(ours.flags, 0x2E, "{what}");
                assert_eq!(ours.flags & 0x1, 0, "never DELEG: {what}");
                assert_eq!((&ours.checksum_rest, &theirs.checksum_rest), (&vec![], &vec![]), "{what}");
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                for time in [ours.time, theirs.time] {
                    assert!(now.abs_diff(time.ctime.try_into().unwrap()) <= 5 && time.cusec < 1_000_000, "{what}: {time:?}");
                }
                let (our_subkey, their_subkey) = (ours.subkey.clone().unwrap(), theirs.subkey.clone().unwrap());
                assert_eq!(our_subkey.0, their_subkey.0, "subkey's type: {what}");
                assert_eq!(our_subkey.1.len(), their_subkey.1.len(), "{what}");
                assert_ne!(our_subkey.1, both.ticket.session_key.expose(), "never the session key itself: {what}");
                for number in [ours.sequence_number.unwrap(), theirs.sequence_number.unwrap()] {
                    assert!(number < 1 << 30, "{what}: {number}");
                }
            }
        }
    }
}

/// Without a binding there is no authorization data; with one, AD-IF-RELEVANT holds KERB_AP_OPTIONS_CBT, which MIT's client announces too.
#[test]
fn authorization_data_announces_a_binding_and_nothing_else() {
    let lab = Lab::get();
    let both = both(&lab, "aes256-sha1");
    let binding = ChannelBinding { certificate_hash: vec![1; 32] };
    assert_eq!(opened(&both.native, &both, TokenFormat::Spnego, None).authenticator.authorization, []);
    let bound = opened(&both.native, &both, TokenFormat::Spnego, Some(&binding)).authenticator;
    assert_eq!(bound.if_relevant().unwrap(), [(143, vec![0x00, 0x40, 0x00, 0x00])]);
}

#[test]
fn mits_acceptor_takes_the_tokens_of_both_engines_and_its_answers_are_verified_for_every_encryption_type_and_format() {
    let lab = Lab::get();
    let replays = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let acceptor = Acceptor::new(&lab.path("mit/service.keytab"), Some(&replays)).unwrap();
    let binding = ChannelBinding { certificate_hash: vec![9; 48] };
    for (host, _) in SERVICES {
        let both = both(&lab, host);
        for (engine, mint) in [("native", &both.native), ("reference", &both.reference)] {
            for format in FORMATS {
                for binding in [None, Some(&binding)] {
                    let what = format!("{host} {engine} {format:?} bound: {}", binding.is_some());
                    let (token, reply) = mint.token_now(&in_format(&both.target, format), binding).unwrap();
                    let token = raw(token);
                    let data = binding.map(ChannelBinding::application_data);
                    let accepted = acceptor.accept(&token, data.as_deref()).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(accepted.client, "mituser@MIT.EXAMPLE", "{what}");
                    let answer = accepted.answer.expect("mutual authentication was asked for");
                    assert_eq!(reply.judge(&[negotiate(&answer)]), Ok(Verdict::Proved), "{what}");

                    let twice = acceptor.accept(&token, data.as_deref()).expect_err(&what);
                    assert!(twice.to_string().contains("replay"), "{what}: {twice}");
                }
            }
        }
    }
}

#[test]
fn the_answer_to_another_token_is_refused_for_every_encryption_type() {
    let lab = Lab::get();
    let acceptor = Acceptor::new(&lab.path("mit/service.keytab"), None).unwrap();
    for (host, _) in SERVICES {
        let both = both(&lab, host);
        for mint in [&both.native, &both.reference] {
            let (_, ours) = mint.token_now(&both.target, None).unwrap();
            let (other, _) = mint.token_now(&both.target, None).unwrap();
            let answer = acceptor.accept(&raw(other), None).unwrap().answer.unwrap();
            assert!(ours.judge(&[negotiate(&answer)]).is_err(), "{host}");
        }
    }
}

#[test]
fn a_token_for_another_binding_is_refused_for_every_encryption_type() {
    let lab = Lab::get();
    let acceptor = Acceptor::new(&lab.path("mit/service.keytab"), None).unwrap();
    let (ours, theirs) = (ChannelBinding { certificate_hash: vec![1; 32] }, ChannelBinding { certificate_hash: vec![2; 32] });
    for (host, _) in SERVICES {
        let both = both(&lab, host);
        let (token, _) = both.native.token_now(&both.target, Some(&ours)).unwrap();
        // GSS_S_BAD_BINDINGS (RFC 2744 section 3.9.1).
        assert_eq!(acceptor.accept(&raw(token), Some(&theirs.application_data())).unwrap_err().routine(), 4, "{host}");
    }
}

/// Delegated tickets: enterprise names, which are one component with an `@` inside, and names that are not ASCII. The name's type and
/// components in our authenticator are what the library writes from the same ticket.
#[test]
fn the_client_of_a_delegated_ticket_is_written_as_the_library_writes_it_for_enterprise_and_non_ascii_names() {
    let lab = Lab::get();
    let config = kerberos_config(&lab, Engine::Native);
    let target = crate::delegation::mbx1();
    let keytab = Keytab::read(&config.keytab).unwrap();
    let acceptor = Acceptor::new(&lab.keytab("mbx"), None).unwrap();
    let ourselves = Impersonator::acquire(&config.principal, &config.keytab, "minting-names").unwrap();
    let enterprise = |upn: &str| RequestedName::Enterprise(upn.into());
    let account = |name: &str| RequestedName::Account { name: name.into(), realm: config.principal.realm().clone() };
    let names = [
        enterprise("alice@corp.example"),
        enterprise("frank@mail.example"),
        enterprise("zoë@corp.example"),
        account("bob"),
        account("zoë"),
    ];
    for name in names {
        let user = ourselves.impersonate(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        user.delegate(&target.spn, &[18, 17]).unwrap();
        let exported = ExportedCredential::parse(&user.export().unwrap()).unwrap();
        let evidence =
            EvidenceTicket::open(&exported.evidence(&config.principal).unwrap().ticket, &keytab, &config.principal).unwrap();
        let ticket = exported.service_ticket(&config.principal, &target.spn, &evidence).unwrap();
        let session_key = ticket.session_key.clone();
        let native = Mint::native(ticket).unwrap();
        let reference = Mint::Reference(user.credential());

        let opened = |mint: &Mint| open_ap_req(&raw(mint.token_now(&target, None).unwrap().0), &session_key).unwrap();
        let (ours, theirs) = (opened(&native).authenticator, opened(&reference).authenticator);
        assert_eq!(ours.client.components, theirs.client.components, "{name}");
        assert_eq!(ours.client.name_type, theirs.client.name_type, "{name}");
        assert_eq!(ours.client_realm, theirs.client_realm, "{name}");

        let (token, reply) = native.token_now(&target, None).unwrap();
        let accepted = acceptor.accept(&raw(token), None).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(reply.judge(&[negotiate(&accepted.answer.unwrap())]), Ok(Verdict::Proved), "{name}");
    }
}
