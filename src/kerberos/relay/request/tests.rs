use proptest::prelude::*;

use super::*;
use crate::kerberos::wire::asn1::{write_explicit, write_explicit_integer, write_principal_name};
use crate::naming::name::name_type;

pub(in crate::kerberos::relay) fn principal(name_type: i32, components: &[&str]) -> PrincipalName {
    PrincipalName { name_type, components: components.iter().map(|text| Box::from(*text)).collect() }
}

/// A request under construction.
#[derive(Clone, Debug)]
pub(in crate::kerberos::relay) struct Ask {
    pub(in crate::kerberos::relay) exchange: Exchange,
    pub(in crate::kerberos::relay) realm: String,
    pub(in crate::kerberos::relay) cname: Option<PrincipalName>,
    pub(in crate::kerberos::relay) sname: PrincipalName,
    pub(in crate::kerberos::relay) for_user: Option<PrincipalName>,
    pub(in crate::kerberos::relay) x509_user: Option<PrincipalName>,
    pub(in crate::kerberos::relay) evidence: Option<Vec<u8>>,
    /// the ticket of PA-TGS-REQ
    pub(in crate::kerberos::relay) header: Option<Vec<u8>>,
    pub(in crate::kerberos::relay) padding: usize,
}

impl Ask {
    pub(in crate::kerberos::relay) fn new(exchange: Exchange, sname: &[&str]) -> Self {
        Self {
            exchange,
            realm: "CORP.EXAMPLE".into(),
            cname: None,
            sname: principal(name_type::SRV_INST, sname),
            for_user: None,
            x509_user: None,
            evidence: None,
            header: None,
            padding: 0,
        }
    }

    pub(in crate::kerberos::relay) fn tgt() -> Self {
        let cname = Some(principal(name_type::PRINCIPAL, &["svc-bridge"]));
        Self { cname, ..Self::new(Exchange::As, &["krbtgt", "CORP.EXAMPLE"]) }
    }

    pub(in crate::kerberos::relay) fn s4u2self(user: &str) -> Self {
        Self { for_user: Some(principal(name_type::PRINCIPAL, &[user])), ..Self::new(Exchange::Tgs, &["svc-bridge"]) }
    }

    pub(in crate::kerberos::relay) fn s4u2proxy(evidence: &[u8], host: &str) -> Self {
        Self { evidence: Some(evidence.to_vec()), ..Self::new(Exchange::Tgs, &["HTTP", host]) }
    }

    pub(in crate::kerberos::relay) fn encode(&self) -> Vec<u8> {
        let mut padata = Vec::new();
        let mut add = |kind: i32, value: &[u8]| {
            let mut entry = Vec::new();
            write_explicit_integer(&mut entry, 1, i64::from(kind));
            write_explicit(&mut entry, 2, tag::OCTET_STRING, value);
            der::write(&mut padata, tag::SEQUENCE, &entry);
        };
        match &self.header {
            Some(ticket) => {
                let mut fields = Vec::new();
                write_explicit_integer(&mut fields, 0, 5);
                write_explicit_integer(&mut fields, 1, 14);
                write_explicit(&mut fields, 2, tag::BIT_STRING, &[0, 0, 0, 0, 0]);
                der::write(&mut fields, tag::context(3), ticket);
                write_explicit(&mut fields, 4, tag::SEQUENCE, b"authenticator");
                add(PA_TGS_REQ, &element(AP_REQ, &sequence(&fields)));
            }
            None => add(PA_TGS_REQ, &vec![0; self.padding]),
        }
        if let Some(user) = &self.x509_user {
            let mut id = Vec::new();
            write_explicit_integer(&mut id, 0, 1);
            der::write(&mut id, tag::context(1), &named(user));
            write_explicit(&mut id, 2, tag::GENERAL_STRING, self.realm.as_bytes());
            let mut fields = Vec::new();
            write_explicit(&mut fields, 0, tag::SEQUENCE, &id);
            add(PA_S4U_X509_USER, &sequence(&fields));
        }
        if let Some(user) = &self.for_user {
            let mut fields = Vec::new();
            der::write(&mut fields, tag::context(0), &named(user));
            write_explicit(&mut fields, 1, tag::GENERAL_STRING, self.realm.as_bytes());
            write_explicit(&mut fields, 3, tag::GENERAL_STRING, b"Kerberos");
            add(PA_FOR_USER, &sequence(&fields));
        }
        let mut body = Vec::new();
        write_explicit(&mut body, 0, tag::BIT_STRING, &[0, 0, 0, 0, 0]);
        if let Some(cname) = &self.cname {
            der::write(&mut body, tag::context(1), &named(cname));
        }
        write_explicit(&mut body, 2, tag::GENERAL_STRING, self.realm.as_bytes());
        der::write(&mut body, tag::context(3), &named(&self.sname));
        write_explicit(&mut body, 5, tag::GENERALIZED_TIME, b"20370913024805Z");
        write_explicit_integer(&mut body, 7, 1_234_567);
        write_explicit(&mut body, 8, tag::SEQUENCE, &[2, 1, 18]);
        if let Some(evidence) = &self.evidence {
            write_explicit(&mut body, 11, tag::SEQUENCE, evidence);
        }
        let kind = if self.exchange == Exchange::As { 10 } else { 12 };
        let mut request = Vec::new();
        write_explicit_integer(&mut request, 1, 5);
        write_explicit_integer(&mut request, 2, i64::from(kind));
        write_explicit(&mut request, 3, tag::SEQUENCE, &padata);
        write_explicit(&mut request, 4, tag::SEQUENCE, &body);
        element(tag::application(kind), &sequence(&request))
    }
}

/// A Ticket for `server` whose ciphertext is `cipher`.
pub(in crate::kerberos::relay) fn ticket(server: &[&str], cipher: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    write_explicit_integer(&mut sealed, 0, 18);
    write_explicit_integer(&mut sealed, 1, 2);
    write_explicit(&mut sealed, 2, tag::OCTET_STRING, cipher);
    let mut fields = Vec::new();
    write_explicit_integer(&mut fields, 0, 5);
    write_explicit(&mut fields, 1, tag::GENERAL_STRING, b"CORP.EXAMPLE");
    der::write(&mut fields, tag::context(2), &named(&principal(name_type::SRV_INST, server)));
    write_explicit(&mut fields, 3, tag::SEQUENCE, &sealed);
    element(TICKET, &sequence(&fields))
}

/// A reply with this ticket.
pub(in crate::kerberos::relay) fn reply(exchange: Exchange, ticket: &[u8]) -> Vec<u8> {
    let (application, kind) = if exchange == Exchange::As { (AS_REP, 11) } else { (TGS_REP, 13) };
    let mut fields = Vec::new();
    write_explicit_integer(&mut fields, 0, 5);
    write_explicit_integer(&mut fields, 1, kind);
    write_explicit(&mut fields, 3, tag::GENERAL_STRING, b"CORP.EXAMPLE");
    der::write(&mut fields, tag::context(4), &named(&principal(name_type::PRINCIPAL, &["alice"])));
    der::write(&mut fields, tag::context(5), ticket);
    element(application, &sequence(&fields))
}

fn named(name: &PrincipalName) -> Vec<u8> {
    let mut out = Vec::new();
    write_principal_name(&mut out, name);
    out
}

fn sequence(contents: &[u8]) -> Vec<u8> {
    element(tag::SEQUENCE, contents)
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    der::write(&mut out, tag, contents);
    out
}

#[test]
fn an_as_request_speaks_for_its_client_in_its_realm() {
    let request = KdcRequest::parse(&Ask::tgt().encode()).unwrap();
    assert_eq!((request.exchange, request.realm.as_str()), (Exchange::As, "CORP.EXAMPLE"));
    assert_eq!(request.subject.unwrap().to_string(), "svc-bridge@CORP.EXAMPLE");
    assert_eq!(request.sname.unwrap().to_string(), "krbtgt/CORP.EXAMPLE");
}

#[test]
fn an_s4u2self_request_speaks_for_the_user_in_either_padata() {
    let enterprise = principal(name_type::ENTERPRISE, &["alice@mail.example"]);
    let bare = Ask::new(Exchange::Tgs, &["svc-bridge"]);
    let by_name = Ask { for_user: Some(enterprise.clone()), ..bare.clone() };
    let by_x509 = Ask { x509_user: Some(enterprise.clone()), ..bare.clone() };
    let both = Ask { for_user: Some(enterprise.clone()), x509_user: Some(enterprise.clone()), ..bare.clone() };
    for ask in [by_name, by_x509, both] {
        let subject = KdcRequest::parse(&ask.encode()).unwrap().subject.unwrap();
        assert_eq!((subject.name, subject.realm.as_str()), (enterprise.clone(), "CORP.EXAMPLE"));
    }
    assert_eq!(KdcRequest::parse(&bare.encode()).unwrap().subject, None);
}

#[test]
fn the_ticket_that_a_request_is_made_with_is_known_by_its_ciphertext_and_one_that_cannot_be_read_is_not() {
    let referral = ticket(&["krbtgt", "USERS.EXAMPLE"], b"sealed for alice");
    let issued = match reply_kind(Exchange::Tgs, &reply(Exchange::Tgs, &referral)) {
        Some(ReplyKind::Reply(Some(facts))) => facts.digest,
        other => panic!("{other:?}"),
    };
    let ask = Ask { header: Some(referral), ..Ask::new(Exchange::Tgs, &["krbtgt", "OTHER.EXAMPLE"]) };
    let request = KdcRequest::parse(&ask.encode()).unwrap();
    assert_eq!((request.header, request.evidence, request.subject), (Some(issued), None, None));
    let unreadable = Ask { header: Some(b"no ticket".to_vec()), ..ask };
    assert_eq!(KdcRequest::parse(&unreadable.encode()).unwrap().header, None);
}

#[test]
fn the_evidence_in_a_request_is_the_ticket_of_the_reply_that_brought_it() {
    let for_alice = ticket(&["svc-bridge"], b"sealed for alice");
    let for_bob = ticket(&["svc-bridge"], b"sealed for bob");
    let Some(ReplyKind::Reply(Some(facts))) = reply_kind(Exchange::Tgs, &reply(Exchange::Tgs, &for_alice)) else { panic!() };
    assert_eq!(facts.granting_realm, None);
    let request = KdcRequest::parse(&Ask::s4u2proxy(&for_alice, "mbx1.corp.example").encode()).unwrap();
    assert_eq!(request.evidence, Some(facts.digest));
    let request = KdcRequest::parse(&Ask::s4u2proxy(&for_bob, "mbx1.corp.example").encode()).unwrap();
    assert_ne!(request.evidence, Some(facts.digest));
}

#[test]
fn a_referral_names_the_realm_it_leads_to() {
    let referral = reply(Exchange::Tgs, &ticket(&["krbtgt", "USERS.EXAMPLE"], b""));
    let Some(ReplyKind::Reply(Some(facts))) = reply_kind(Exchange::Tgs, &referral) else { panic!() };
    assert_eq!(facts.granting_realm.as_deref(), Some("USERS.EXAMPLE"));
}

#[test]
fn a_reply_belongs_to_its_own_exchange() {
    let as_reply = reply(Exchange::As, &ticket(&["krbtgt", "CORP.EXAMPLE"], b""));
    assert!(reply_kind(Exchange::As, &as_reply).is_some());
    assert_eq!(reply_kind(Exchange::Tgs, &as_reply), None);
    assert_eq!(reply_kind(Exchange::As, b""), None);
    assert_eq!(reply_kind(Exchange::As, &Ask::tgt().encode()), None, "a request is no reply");
}

#[test]
fn a_reply_that_is_cut_off_or_goes_on_is_none() {
    let whole = reply(Exchange::As, &ticket(&["krbtgt", "CORP.EXAMPLE"], b""));
    for length in 0..whole.len() {
        assert_eq!(reply_kind(Exchange::As, &whole[..length]), None, "{length}");
    }
    assert_eq!(reply_kind(Exchange::As, &[&whole[..], b"0"].concat()), None);
    assert_eq!(reply_kind(Exchange::As, &[KRB_ERROR, 2, 0]), None);
}

#[test]
fn anything_but_one_whole_kdc_request_is_refused() {
    let good = Ask::tgt().encode();
    for length in 0..good.len() {
        assert!(KdcRequest::parse(&good[..length]).is_err(), "{length} bytes");
    }
    assert!(KdcRequest::parse(&[&good[..], &[0]].concat()).is_err(), "trailing bytes");
    let mut other_type = good.clone();
    other_type[0] = TGS_REQ;
    assert!(KdcRequest::parse(&other_type).is_err(), "the tag and msg-type disagree");
    assert!(KdcRequest::parse(&reply(Exchange::As, &ticket(&["a"], b""))).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = KdcRequest::parse(&bytes);
        let _ = reply_kind(Exchange::Tgs, &bytes);
    }

    #[test]
    fn no_damage_to_a_message_makes_the_readers_panic(damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let ticket = ticket(&["krbtgt", "USERS.EXAMPLE"], &[7; 64]);
        let request = Ask { for_user: Some(principal(1, &["alice"])), ..Ask::s4u2proxy(&ticket, "mbx1") }.encode();
        for mut message in [request, reply(Exchange::Tgs, &ticket)] {
            for (at, value) in &damage {
                let at = at % message.len();
                message[at] = *value;
            }
            let _ = KdcRequest::parse(&message);
            let _ = reply_kind(Exchange::Tgs, &message);
        }
    }
}
