use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kerberos::proof::evidence::testkit::{Sealed, our_keytab};
use crate::kerberos::proof::keytab::Keytab;
use crate::kerberos::proof::pac::testkit::AUTHTIME;
use crate::kerberos::wire::crypto::Etype;
use crate::naming::name::name_type;

const ALICE: &str = "alice\\@corp.example@CORP.EXAMPLE";
const OURS: &str = "svc-bridge@CORP.EXAMPLE";
const SPN: &str = "HTTP/mbx1.corp.example";
const END: i64 = AUTHTIME + 36_000;

fn own() -> OwnPrincipal {
    OwnPrincipal::parse(OURS).unwrap()
}

fn spn() -> Spn {
    Spn::parse(SPN).unwrap()
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn evidence_der() -> Vec<u8> {
    Sealed::new(Etype::Aes256Sha1).bytes()
}

fn service_der() -> Vec<u8> {
    let components = SPN.split('/').map(Into::into).collect();
    let server = crate::naming::name::PrincipalName { name_type: name_type::SRV_INST, components };
    crate::kerberos::wire::ticket::tests::ticket_der(&server, "CORP.EXAMPLE", 18, 100)
}

fn entry(client: &str, server: &str, ticket: &[u8], second_ticket: &[u8]) -> Value {
    let key = base64(&[0x5B; 32]);
    json!([
        client,
        server,
        [18, key],
        AUTHTIME,
        AUTHTIME,
        END,
        0,
        false,
        0x40A8_0000,
        null,
        base64(ticket),
        base64(second_ticket),
        null
    ])
}

fn tgt() -> Value {
    entry(OURS, "krbtgt/CORP.EXAMPLE@CORP.EXAMPLE", &[1], &[])
}

fn setting() -> Value {
    json!([
        OURS,
        "krb5_ccache_conf_data/fast_avail/krbtgt\\/CORP.EXAMPLE\\@CORP.EXAMPLE@X-CACHECONF:",
        [0, ""],
        0,
        0,
        0,
        0,
        false,
        0,
        null,
        "eWVz",
        "",
        null
    ])
}

fn evidence() -> Value {
    entry(ALICE, OURS, &evidence_der(), &[])
}

fn service() -> Value {
    entry(ALICE, &format!("{SPN}@"), &service_der(), &evidence_der())
}

/// An exported credential around these entries.
fn document(entries: &[Value]) -> Value {
    let ccache: Vec<Value> = std::iter::once(json!(ALICE)).chain(entries.iter().cloned()).collect();
    json!(["K5C1", [1, [ALICE, null, null], OURS, false, false, null, null, ccache, null, false, END, 0, null, null]])
}

fn framed(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 9];
    out.extend_from_slice(KRB5_MECHANISM);
    out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    out.extend_from_slice(text);
    out
}

fn parse(document: &Value) -> Result<ExportedCredential, ExportError> {
    ExportedCredential::parse(&framed(document.to_string().as_bytes()))
}

fn with(entries: &[Value]) -> ExportedCredential {
    parse(&document(entries)).unwrap()
}

/// What is selected from the ordinary entries with the service ticket's field changed.
fn select_with_service(field: usize, value: Value) -> Result<(), ExportError> {
    let mut changed = service();
    changed[field] = value;
    with(&[tgt(), evidence(), changed]).select(&own(), &spn()).map(drop)
}

#[test]
fn the_evidence_and_the_service_ticket_are_selected_among_all() {
    let exported = with(&[setting(), tgt(), setting(), evidence(), service()]);
    assert_eq!(exported.client().to_string(), ALICE);
    assert_eq!(exported.impersonator().unwrap().to_string(), OURS);
    assert_eq!(exported.credentials().len(), 3, "a cache's settings are no credentials");
    let (evidence, service) = exported.select(&own(), &spn()).unwrap();
    assert_eq!((&evidence.ticket, &service.ticket), (&evidence_der(), &service_der()));
    assert_eq!((service.server.to_string(), service.key.expose()), (format!("{SPN}@"), &[0x5B; 32][..]));
    assert_eq!((service.auth_time, service.end_time, service.flags), (AUTHTIME, END, 0x40A8_0000));
    assert_eq!(&*service.client.name.components, ["alice@corp.example".into()], "an enterprise name is one component");
}

#[test]
fn an_entry_without_a_ticket_to_ourselves_or_to_the_service_is_refused() {
    assert_eq!(with(&[tgt()]).select(&own(), &spn()).unwrap_err(), ExportError::NoEvidence(OURS.into()));
    assert_eq!(with(&[tgt(), evidence()]).select(&own(), &spn()).unwrap_err(), ExportError::NoService(SPN.into()));
    let other = Spn::parse("HTTP/mbx2.corp.example").unwrap();
    assert_eq!(
        with(&[tgt(), evidence(), service()]).select(&own(), &other).unwrap_err(),
        ExportError::NoService(other.to_string())
    );
    let upper = Spn::parse("HTTP/MBX1.corp.example").unwrap();
    assert!(with(&[evidence(), service()]).select(&own(), &upper).is_err(), "letter case is compared");
}

#[test]
fn our_own_identity_is_never_taken_for_the_users() {
    let mut fallback = document(&[entry(OURS, OURS, &evidence_der(), &[])]);
    fallback[1][7][0] = json!(OURS);
    let error = parse(&fallback).unwrap().evidence(&own()).unwrap_err();
    assert_eq!(error, ExportError::Ourselves(OURS.into()));
    assert_eq!(Failure::from(error).cause, Cause::IdentityFallback);

    let mut ours = service();
    ours[0] = json!(OURS);
    assert_eq!(with(&[tgt(), evidence(), ours]).select(&own(), &spn()).unwrap_err(), ExportError::NoService(SPN.into()));
}

#[test]
fn another_users_ticket_is_not_selected() {
    for client in ["bob\\@corp.example@CORP.EXAMPLE", "alice\\@corp.example@OTHER.EXAMPLE", "alice@CORP.EXAMPLE"] {
        assert_eq!(select_with_service(0, json!(client)), Err(ExportError::NoService(SPN.into())), "{client}");
    }
}

#[test]
fn session_key_tickets_are_not_selected() {
    assert_eq!(select_with_service(7, json!(true)), Err(ExportError::NoService(SPN.into())));
    let mut skey = evidence();
    skey[7] = json!(true);
    assert_eq!(with(&[skey, service()]).select(&own(), &spn()).unwrap_err(), ExportError::NoEvidence(OURS.into()));
}

#[test]
fn a_ticket_to_ourselves_that_took_a_second_ticket_is_not_evidence() {
    let user_to_user = entry(ALICE, OURS, &evidence_der(), &[1]);
    assert_eq!(with(&[user_to_user]).evidence(&own()).unwrap_err(), ExportError::NoEvidence(OURS.into()));
}

#[test]
fn a_service_ticket_that_was_not_got_with_the_evidence_ticket_is_refused() {
    for second in [&b""[..], &[1], &service_der()] {
        assert_eq!(select_with_service(11, json!(base64(second))), Err(ExportError::Unrelated(SPN.into())));
    }
}

#[test]
fn a_service_ticket_that_names_another_server_itself_is_refused() {
    assert_eq!(select_with_service(10, json!(base64(&evidence_der()))), Err(ExportError::Unrelated(SPN.into())));
    assert!(matches!(select_with_service(10, json!("AAAA")), Err(ExportError::Ticket(_))));
}

#[test]
fn postdated_invalid_and_anonymous_tickets_are_refused() {
    for flag in [ticket_flag::POSTDATED, ticket_flag::INVALID, ticket_flag::ANONYMOUS] {
        let flags = 0x40A8_0000 | flag;
        assert_eq!(select_with_service(8, json!(flags)), Err(ExportError::Unusable { server: format!("{SPN}@"), flags }));
        let mut bad = evidence();
        bad[8] = json!(flags);
        assert!(matches!(with(&[bad]).evidence(&own()), Err(ExportError::Unusable { .. })));
    }
    let nobody = "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS";
    let mut anonymous = document(&[entry(nobody, OURS, &evidence_der(), &[])]);
    anonymous[1][7][0] = json!(nobody);
    assert!(matches!(parse(&anonymous).unwrap().evidence(&own()), Err(ExportError::Unusable { .. })));
}

#[test]
fn two_different_tickets_where_one_is_expected_are_refused_and_a_copy_is_not() {
    assert!(with(&[evidence(), evidence(), service(), service()]).select(&own(), &spn()).is_ok());
    let mut other = Sealed::new(Etype::Aes256Sha1);
    other.kvno = Some(3);
    let ambiguous = with(&[evidence(), entry(ALICE, OURS, &other.bytes(), &[]), service()]);
    assert!(matches!(ambiguous.select(&own(), &spn()), Err(ExportError::Ambiguous { count: 2, .. })));
}

#[test]
fn the_service_ticket_takes_its_client_from_the_opened_evidence() {
    let exported = with(&[tgt(), evidence(), service()]);
    let opened = EvidenceTicket::open(&exported.evidence(&own()).unwrap().ticket, &our_keytab(), &own()).unwrap();
    let ticket = exported.service_ticket(&own(), &spn(), &opened).unwrap();
    assert_eq!((ticket.client.name_type, &*ticket.client_realm), (name_type::ENTERPRISE, "CORP.EXAMPLE"));
    assert_eq!((ticket.server.to_string(), &*ticket.server_realm), (SPN.into(), "CORP.EXAMPLE"));
    assert_eq!((ticket.ticket_etype, ticket.session_key.etype()), (18, Etype::Aes256Sha1));
    assert_eq!((ticket.auth_time, ticket.start_time, ticket.end_time), (AUTHTIME, AUTHTIME, END));
    assert_eq!(*ticket.ticket, *service_der());
}

#[test]
fn a_service_ticket_for_another_client_than_the_evidence_names_is_refused() {
    let mut bob = Sealed::new(Etype::Aes256Sha1);
    bob.client.components = vec!["bob@corp.example".into()];
    let opened = EvidenceTicket::open(&bob.bytes(), &our_keytab(), &own()).unwrap();
    let error = with(&[evidence(), service()]).service_ticket(&own(), &spn(), &opened).unwrap_err();
    assert!(matches!(error, ExportError::OtherClient { .. }), "{error}");
    assert_eq!(Failure::from(error).cause, Cause::IdentityFallback);
}

#[test]
fn a_session_key_of_an_unknown_type_or_length_is_refused() {
    for key in [json!([3, base64(&[1; 8])]), json!([18, base64(&[1; 31])])] {
        let etype = i32::try_from(key[0].as_i64().unwrap()).unwrap();
        let mut changed = service();
        changed[2] = key;
        let exported = with(&[evidence(), changed]);
        let (_, service) = exported.select(&own(), &spn()).unwrap();
        assert_eq!(service.session_key().unwrap_err(), ExportError::SessionKey(etype));
    }
}

#[test]
fn an_unknown_format_version_is_refused_by_name() {
    let mut other = document(&[]);
    other[0] = json!("K5C2");
    assert_eq!(parse(&other).unwrap_err(), ExportError::Version("K5C2".into()));
    assert_eq!(parse(&json!(["K5C2", {"any": "shape"}])).unwrap_err(), ExportError::Version("K5C2".into()));
}

#[test]
fn a_credential_that_is_not_in_memory_holds_no_tickets() {
    for elsewhere in [json!(null), json!("FILE:/tmp/krb5cc_0")] {
        let mut other = document(&[]);
        other[1][7] = elsewhere;
        assert_eq!(parse(&other).unwrap_err(), ExportError::NotInMemory);
    }
}

#[test]
fn a_one_time_password_element_is_tolerated_and_further_ones_are_not() {
    let mut longer = document(&[evidence()]);
    longer[1].as_array_mut().unwrap().push(json!("otp"));
    assert!(parse(&longer).is_ok());
    longer[1].as_array_mut().unwrap().push(json!(null));
    assert!(matches!(parse(&longer), Err(ExportError::Shape { .. })));
}

#[test]
fn any_other_shape_is_refused_without_quoting_it() {
    let refused = |document: &Value| match parse(document) {
        Err(error @ ExportError::Shape { .. }) => assert!(!error.to_string().contains("c2VjcmV0")),
        other => panic!("{document}: {other:?}"),
    };
    let secret = "c2VjcmV0";
    for entry_field in 0..13 {
        let mut entry = evidence();
        entry[entry_field] = json!({ secret: secret });
        if matches!(entry_field, 9 | 12) {
            continue; // addresses and authorization data: not read
        }
        refused(&document(&[entry]));
    }
    let mut shorter = evidence();
    shorter.as_array_mut().unwrap().pop();
    refused(&document(&[shorter]));
    let mut longer = evidence();
    longer.as_array_mut().unwrap().push(json!(secret));
    refused(&document(&[longer]));
    let mut not_base64 = evidence();
    not_base64[2] = json!([18, "c2VjcmV0!"]);
    refused(&document(&[not_base64]));
    refused(&json!(["K5C1"]));
    refused(&json!(["K5C1", []]));
    refused(&json!({ "K5C1": [] }));
    refused(&document(&vec![tgt(); MAX_CREDENTIALS + 1]));
    assert!(parse(&document(&vec![tgt(); MAX_CREDENTIALS])).is_ok());
}

#[test]
fn numbers_of_32_bits_are_read_in_either_sign_and_larger_ones_refused() {
    let mut entry = evidence();
    entry[5] = json!(-1);
    assert_eq!(with(&[entry.clone()]).credentials()[0].end_time, 0xFFFF_FFFF);
    entry[5] = json!(0xFFFF_FFFF_u32);
    assert_eq!(with(&[entry.clone()]).credentials()[0].end_time, 0xFFFF_FFFF);
    entry[5] = json!(1_i64 << 32);
    assert!(matches!(parse(&document(&[entry])), Err(ExportError::Shape { .. })));
}

#[test]
fn names_are_unescaped_as_mit_escapes_them_and_in_no_other_way() {
    let name = |text| RealmedName::unescape(text).map(|name| (name.name.components, name.realm));
    let parts = |components: &[&str], realm: &str| {
        Some((components.iter().map(|c| (*c).into()).collect::<Vec<Box<str>>>(), realm.into()))
    };
    assert_eq!(name("alice@R"), parts(&["alice"], "R"));
    assert_eq!(name("HTTP/host@"), parts(&["HTTP", "host"], ""));
    assert_eq!(name("a\\@b@R"), parts(&["a@b"], "R"));
    assert_eq!(name("a\\/b/c@R"), parts(&["a/b", "c"], "R"));
    assert_eq!(name("a\\\\@R"), parts(&["a\\"], "R"));
    assert_eq!(name("a\\\\\\@b@R"), parts(&["a\\@b"], "R"));
    assert_eq!(name("a\\n\\t\\b\\0@R\\@S"), parts(&["a\n\t\x08\0"], "R@S"));
    assert_eq!(name("zoë\\@corp.example@R"), parts(&["zoë@corp.example"], "R"));
    for bad in ["", "alice", "a\\", "a@b@R", "a@R/S", "a\\x@R", "a\tb@R", "a\\@R"] {
        assert_eq!(name(bad), None, "{bad}");
    }
}

#[test]
fn a_malformed_name_is_refused() {
    for field in [0, 1] {
        let mut entry = evidence();
        entry[field] = json!("no-realm");
        assert_eq!(parse(&document(&[entry])).unwrap_err(), ExportError::Name);
    }
}

#[test]
fn the_krb5_element_is_found_among_other_mechanisms_and_must_be_one() {
    let krb5 = framed(document(&[evidence()]).to_string().as_bytes());
    let other = [&[0, 0, 0, 2, 0x2A, 3, 0, 0, 0, 3][..], b"xyz"].concat();
    assert!(ExportedCredential::parse(&[&other[..], &krb5, &other].concat()).is_ok());
    assert_eq!(ExportedCredential::parse(&other).unwrap_err(), ExportError::Mechanism(0));
    assert_eq!(ExportedCredential::parse(&[]).unwrap_err(), ExportError::Mechanism(0));
    assert_eq!(ExportedCredential::parse(&[&krb5[..], &krb5].concat()).unwrap_err(), ExportError::Mechanism(2));
    for length in 1..krb5.len() {
        assert_eq!(ExportedCredential::parse(&krb5[..length]).unwrap_err(), ExportError::Length, "{length} bytes");
    }
    assert_eq!(ExportedCredential::parse(&vec![0; MAX_BYTES + 1]).unwrap_err(), ExportError::Length);
}

#[test]
fn debug_output_shows_no_key() {
    let shown = format!("{:?}", with(&[evidence(), service()]));
    assert!(shown.contains("key: SecretBytes(32 bytes)"), "{shown}");
    assert!(!shown.contains("91, 91, 91"), "{shown}");
}

/// Exported by MIT 1.20 after S4U2Self and S4U2Proxy in a throwaway Samba domain.
#[test]
fn what_mit_exports_is_read() {
    let directory = Path::new("src/kerberos/proof/evidence/testdata");
    let token = std::fs::read(directory.join("alice.export")).unwrap();
    let exported = ExportedCredential::parse(&token).unwrap();
    assert_eq!((exported.client().to_string(), exported.impersonator().unwrap().to_string()), (ALICE.into(), OURS.into()));
    let keytab = Keytab::read(&directory.join("bridge.keytab")).unwrap();
    let opened = EvidenceTicket::open(&exported.evidence(&own()).unwrap().ticket, &keytab, &own()).unwrap();
    let ticket = exported.service_ticket(&own(), &spn(), &opened).unwrap();
    assert_eq!(ticket.client.to_string(), "alice\\@corp.example");
    assert_eq!((ticket.server.to_string(), &*ticket.server_realm), (SPN.into(), "CORP.EXAMPLE"));
    assert_eq!((ticket.ticket_etype, ticket.session_key.etype(), ticket.flags), (18, Etype::Aes256Sha1, 0x40A8_0000));

    let undelegated = ExportedCredential::parse(&std::fs::read(directory.join("carol.export")).unwrap()).unwrap();
    assert_eq!(undelegated.select(&own(), &spn()).unwrap_err(), ExportError::NoService(SPN.into()));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        prop_assert!(ExportedCredential::parse(&bytes).is_err());
        prop_assert!(ExportedCredential::parse(&framed(&bytes)).is_err());
    }

    #[test]
    fn mutated_exports_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = framed(document(&[tgt(), evidence(), service()]).to_string().as_bytes());
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(exported) = ExportedCredential::parse(&bytes) {
            let _ = exported.select(&own(), &spn());
        }
    }

    #[test]
    fn every_name_survives_mits_escaping(components in prop::collection::vec(any::<String>(), 1..4), realm: String) {
        let escape = |text: &str| {
            text.chars().map(|c| match c {
                '\\' | '/' | '@' => format!("\\{c}"),
                '\n' => "\\n".into(),
                '\t' => "\\t".into(),
                '\x08' => "\\b".into(),
                '\0' => "\\0".into(),
                c => c.to_string(),
            }).collect::<String>()
        };
        let text = format!("{}@{}", components.iter().map(|c| escape(c)).collect::<Vec<_>>().join("/"), escape(&realm));
        let name = RealmedName::unescape(&text).unwrap();
        prop_assert!(name.name.components.iter().map(|c| &**c).eq(components.iter().map(|c| &**c)));
        prop_assert_eq!(&*name.realm, realm);
    }
}

#[test]
fn our_own_tickets_flags_are_those_of_the_newest_one_of_our_own_realm() {
    let flagged = |mut entry: Value, flags: u32, end: i64| {
        entry[8] = flags.into();
        entry[5] = end.into();
        entry
    };
    let forwardable = |entries: &[Value]| with(entries).is_tgt_forwardable(&own());
    assert_eq!(forwardable(&[flagged(tgt(), 0x40A8_0000, END)]), Some(true));
    assert_eq!(forwardable(&[flagged(tgt(), 0x00A8_0000, END)]), Some(false));
    assert_eq!(forwardable(&[flagged(tgt(), 0x40A8_0000, END), flagged(tgt(), 0x00A8_0000, END + 1)]), Some(false));
    // Another realm's, and the user's.
    let foreign = entry(OURS, "krbtgt/OTHER.EXAMPLE@CORP.EXAMPLE", &[1], &[]);
    let users = entry(ALICE, "krbtgt/CORP.EXAMPLE@CORP.EXAMPLE", &[1], &[]);
    assert_eq!(forwardable(&[foreign, users]), None);
}
