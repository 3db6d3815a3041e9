//! Makes evidence tickets for tests.

use std::path::Path;

use crate::der::{self, tag};
use crate::kerberos::proof::keytab::Keytab;
use crate::kerberos::proof::keytab::testkit::{Record, keytab};
use crate::kerberos::proof::pac::testkit::{self, AUTHTIME, Account};
use crate::kerberos::wire::asn1;
use crate::kerberos::wire::crypto::{Etype, Key, usage};
use crate::naming::name::{PrincipalName, name_type};

/// A ticket to `svc-bridge@CORP.EXAMPLE` and what it is made of.
#[derive(Clone, Debug)]
pub(in crate::kerberos) struct Sealed {
    pub(in crate::kerberos) etype: Etype,
    pub(in crate::kerberos) kvno: Option<u32>,
    pub(in crate::kerberos) server: String,
    pub(in crate::kerberos) realm: String,
    pub(in crate::kerberos) flags: u32,
    pub(in crate::kerberos) client: PrincipalName,
    pub(in crate::kerberos) auth_time: i64,
    pub(in crate::kerberos) authorization_data: Option<Vec<u8>>,
}

impl Sealed {
    /// alice's, with her PAC.
    pub(in crate::kerberos) fn new(etype: Etype) -> Self {
        let pac = Account::default().pac(&our_key(etype));
        Self {
            etype,
            kvno: Some(2),
            server: "svc-bridge".into(),
            realm: "CORP.EXAMPLE".into(),
            flags: 0x40A8_0000,
            client: PrincipalName { name_type: name_type::ENTERPRISE, components: vec!["alice@corp.example".into()] },
            auth_time: AUTHTIME,
            authorization_data: Some(if_relevant(&ad_element(128, &pac))),
        }
    }

    /// The Ticket.
    pub(in crate::kerberos) fn bytes(&self) -> Vec<u8> {
        let cipher = our_key(self.etype).encrypt_with(usage::TICKET, [5; 16], &self.plain()).unwrap();
        let mut sealed = Vec::new();
        asn1::write_explicit_integer(&mut sealed, 0, self.etype.number().into());
        if let Some(kvno) = self.kvno {
            asn1::write_explicit_integer(&mut sealed, 1, kvno.into());
        }
        asn1::write_explicit(&mut sealed, 2, tag::OCTET_STRING, &cipher);

        let server = PrincipalName { name_type: name_type::PRINCIPAL, components: vec![self.server.as_str().into()] };
        let mut fields = Vec::new();
        asn1::write_explicit_integer(&mut fields, 0, 5);
        asn1::write_explicit(&mut fields, 1, tag::GENERAL_STRING, self.realm.as_bytes());
        der::write(&mut fields, tag::context(2), &name(&server));
        asn1::write_explicit(&mut fields, 3, tag::SEQUENCE, &sealed);
        element(tag::application(1), &element(tag::SEQUENCE, &fields))
    }

    /// The EncTicketPart.
    pub(in crate::kerberos) fn plain(&self) -> Vec<u8> {
        let mut key = Vec::new();
        asn1::write_explicit_integer(&mut key, 0, 18);
        asn1::write_explicit(&mut key, 1, tag::OCTET_STRING, &[9; 32]);
        let mut transited = Vec::new();
        asn1::write_explicit_integer(&mut transited, 0, 1);
        asn1::write_explicit(&mut transited, 1, tag::OCTET_STRING, &[]);
        let time = |seconds| der::format_kerberos_time(seconds);

        let mut fields = Vec::new();
        asn1::write_explicit(&mut fields, 0, tag::BIT_STRING, &[&[0], &self.flags.to_be_bytes()[..]].concat());
        asn1::write_explicit(&mut fields, 1, tag::SEQUENCE, &key);
        asn1::write_explicit(&mut fields, 2, tag::GENERAL_STRING, b"CORP.EXAMPLE");
        der::write(&mut fields, tag::context(3), &name(&self.client));
        asn1::write_explicit(&mut fields, 4, tag::SEQUENCE, &transited);
        asn1::write_explicit(&mut fields, 5, tag::GENERALIZED_TIME, &time(self.auth_time));
        asn1::write_explicit(&mut fields, 7, tag::GENERALIZED_TIME, &time(self.auth_time + 36_000));
        if let Some(authorization_data) = &self.authorization_data {
            asn1::write_explicit(&mut fields, 10, tag::SEQUENCE, authorization_data);
        }
        element(tag::application(3), &element(tag::SEQUENCE, &fields))
    }
}

/// Our key of version 2.
pub(in crate::kerberos) fn our_key(etype: Etype) -> Key {
    testkit::key(etype)
}

/// A keytab with our keys of every encryption type.
pub(in crate::kerberos) fn our_keytab() -> Keytab {
    let records: Vec<Record> = [17, 18, 19, 20, 23]
        .into_iter()
        .map(|etype| {
            Record::new("svc-bridge@CORP.EXAMPLE", 2, etype, our_key(Etype::from_number(etype.into()).unwrap()).expose())
        })
        .collect();
    Keytab::from_bytes(Path::new("bridge.keytab"), &keytab(&records)).unwrap()
}

/// One element of AuthorizationData.
pub(in crate::kerberos) fn ad_element(kind: i64, data: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    asn1::write_explicit_integer(&mut fields, 0, kind);
    asn1::write_explicit(&mut fields, 1, tag::OCTET_STRING, data);
    element(tag::SEQUENCE, &fields)
}

/// AD-IF-RELEVANT around elements.
pub(in crate::kerberos) fn if_relevant(elements: &[u8]) -> Vec<u8> {
    ad_element(1, &element(tag::SEQUENCE, elements))
}

fn name(name: &PrincipalName) -> Vec<u8> {
    let mut out = Vec::new();
    asn1::write_principal_name(&mut out, name);
    out
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    der::write(&mut out, tag, contents);
    out
}
