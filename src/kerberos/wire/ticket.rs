//! A service ticket with its session key: what acquisition hands over and minting starts from.

use std::fmt;

use crate::der::{self, DerError, Reader, tag};
use crate::kerberos::wire::asn1::{self, EncryptedData};
use crate::kerberos::wire::crypto::Key;
use crate::naming::name::PrincipalName;

/// A ticket to the back end on a user's behalf. Names are the KDC's own, component by component.
#[derive(Clone)]
pub struct ServiceTicket {
    /// Client name as the KDC wrote it.
    pub client: PrincipalName,
    /// Client realm.
    pub client_realm: Box<str>,
    /// Service name.
    pub server: PrincipalName,
    /// Service realm.
    pub server_realm: Box<str>,
    /// Ticket, DER as it came from the KDC.
    pub ticket: Box<[u8]>,
    /// Encryption type of the ticket's encrypted part.
    pub ticket_etype: i32,
    /// Session key.
    pub session_key: Key,
    /// Ticket flags (RFC 4120 section 5.3), bit 0 on top.
    pub flags: u32,
    /// Time of the authentication, seconds since 1970.
    pub auth_time: i64,
    /// Valid from.
    pub start_time: i64,
    /// Valid until.
    pub end_time: i64,
}

impl fmt::Debug for ServiceTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTicket")
            .field("client", &format_args!("{}@{}", self.client, self.client_realm))
            .field("server", &format_args!("{}@{}", self.server, self.server_realm))
            .field("ticket", &format_args!("{} bytes", self.ticket.len()))
            .field("ticket_etype", &self.ticket_etype)
            .field("session_etype", &self.session_key.etype())
            .field("flags", &format_args!("{:#010x}", self.flags))
            .field("end_time", &self.end_time)
            .finish_non_exhaustive()
    }
}

/// What stands in the clear in a Ticket (RFC 4120 section 5.3), and its encrypted part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketParts<'a> {
    /// `realm` of the service
    pub realm: &'a str,
    /// `sname`
    pub server: PrincipalName,
    /// `enc-part`, for the service's key under usage 2
    pub enc_part: EncryptedData<'a>,
}

impl<'a> TicketParts<'a> {
    /// Parses a whole Ticket.
    pub fn parse(ticket: &'a [u8]) -> Result<Self, DerError> {
        let mut fields = Reader::new(der::only(der::only(ticket, tag::application(1))?, tag::SEQUENCE)?);
        if der::integer(fields.explicit(0, tag::INTEGER)?)? != 5 {
            return Err(DerError::Value);
        }
        let realm = asn1::text(fields.explicit(1, tag::GENERAL_STRING)?)?;
        let mut name = fields.nested(tag::context(2))?;
        let server = asn1::read_principal_name(&mut name)?;
        name.finish()?;
        let mut enc_part = fields.nested(tag::context(3))?;
        let parts = Self { realm, server, enc_part: EncryptedData::read(&mut enc_part)? };
        enc_part.finish()?;
        fields.finish()?;
        Ok(parts)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kerberos::wire::crypto::Etype;
    use crate::naming::name::name_type;
    use crate::secret::SecretBytes;

    /// A Ticket around an opaque encrypted part of this length.
    pub(crate) fn ticket_der(server: &PrincipalName, realm: &str, etype: i32, length: usize) -> Vec<u8> {
        let mut fields = Vec::new();
        asn1::write_explicit_integer(&mut fields, 0, 5);
        asn1::write_explicit(&mut fields, 1, tag::GENERAL_STRING, realm.as_bytes());
        let mut name = Vec::new();
        asn1::write_principal_name(&mut name, server);
        der::write(&mut fields, tag::context(2), &name);
        let mut encrypted = Vec::new();
        asn1::write_explicit_integer(&mut encrypted, 0, i64::from(etype));
        asn1::write_explicit_integer(&mut encrypted, 1, 3);
        asn1::write_explicit(&mut encrypted, 2, tag::OCTET_STRING, &vec![0x5A; length]);
        asn1::write_explicit(&mut fields, 3, tag::SEQUENCE, &encrypted);
        let mut ticket = Vec::new();
        der::write_header(&mut ticket, tag::application(1), asn1::element_length(fields.len()));
        der::write(&mut ticket, tag::SEQUENCE, &fields);
        ticket
    }

    /// A service ticket for `client` with a session key of `etype` made of `seed`.
    pub(crate) fn service_ticket(client: &str, etype: Etype, seed: u8, length: usize) -> ServiceTicket {
        let server =
            PrincipalName { name_type: name_type::SRV_INST, components: vec!["HTTP".into(), "mbx1.corp.example".into()] };
        let key: Vec<u8> = (0..etype.key_length()).map(|i| u8::try_from(i).unwrap() ^ seed).collect();
        ServiceTicket {
            client: PrincipalName { name_type: name_type::ENTERPRISE, components: vec![client.into()] },
            client_realm: "CORP.EXAMPLE".into(),
            ticket: ticket_der(&server, "CORP.EXAMPLE", 18, length).into(),
            server,
            server_realm: "CORP.EXAMPLE".into(),
            ticket_etype: 18,
            session_key: Key::new(etype, SecretBytes::new(key)).unwrap(),
            flags: 0x40A5_0000,
            auth_time: 1_767_323_000,
            start_time: 1_767_323_000,
            end_time: 1_767_359_000,
        }
    }

    #[test]
    fn a_tickets_service_and_encryption_type_are_read() {
        let ticket = service_ticket("alice@mail.example", Etype::Aes256Sha1, 1, 300);
        let parts = TicketParts::parse(&ticket.ticket).unwrap();
        assert_eq!((parts.realm, &parts.server), ("CORP.EXAMPLE", &ticket.server));
        assert_eq!((parts.enc_part.etype, parts.enc_part.kvno, parts.enc_part.cipher), (18, Some(3), &[0x5A; 300][..]));
    }

    #[test]
    fn a_ticket_with_trailing_bytes_or_another_version_is_refused() {
        let ticket = service_ticket("alice", Etype::Aes256Sha1, 1, 300).ticket.into_vec();
        assert_eq!(TicketParts::parse(&[&ticket[..], &[0]].concat()), Err(DerError::Trailing));
        let mut other = ticket.clone();
        let version = other.windows(3).position(|window| window == [2, 1, 5]).unwrap();
        other[version + 2] = 4;
        assert_eq!(TicketParts::parse(&other), Err(DerError::Value));
        for length in 0..ticket.len() {
            assert!(TicketParts::parse(&ticket[..length]).is_err());
        }
    }

    #[test]
    fn debug_output_shows_neither_key_nor_ticket() {
        let shown = format!("{:?}", service_ticket("alice", Etype::Aes128Sha1, 1, 4));
        let expected = "ServiceTicket { client: alice@CORP.EXAMPLE, server: HTTP/mbx1.corp.example@CORP.EXAMPLE, \
                        ticket: 85 bytes, ticket_etype: 18, session_etype: Aes128Sha1, flags: 0x40a50000, end_time: 1767359000, .. }";
        assert_eq!(shown, expected);
    }
}
