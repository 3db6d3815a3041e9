//! What the relay reads of a KDC request and of a KDC reply (RFC 4120 section 5.4, MS-SFU 2.2): where it goes and on whose
//! behalf it is asked. Nothing is changed, nothing is decrypted.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::der::{self, DerError, Reader, tag};
use crate::kerberos::wire::asn1::{EncryptedData, read_principal_name, text};
use crate::naming::name::PrincipalName;

const AS_REQ: u8 = tag::application(10);
const AS_REP: u8 = tag::application(11);
const TGS_REQ: u8 = tag::application(12);
const TGS_REP: u8 = tag::application(13);
const KRB_ERROR: u8 = tag::application(30);
const TICKET: u8 = tag::application(1);
const AP_REQ: u8 = tag::application(14);

/// RFC 4120 section 5.2.7.1
const PA_TGS_REQ: i32 = 1;

/// MS-SFU 2.2.1
const PA_FOR_USER: i32 = 129;
/// MS-SFU 2.2.2
const PA_S4U_X509_USER: i32 = 130;

/// Which exchange a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// AS-REQ: our own ticket-granting ticket, or the realm of an enterprise name.
    As,
    /// TGS-REQ: S4U2Self, S4U2Proxy, and referral tickets between realms.
    Tgs,
}

impl Exchange {
    /// Name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::As => "AS",
            Self::Tgs => "TGS",
        }
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Our own ticket-granting ticket, or the realm of an enterprise name.
    As,
    /// S4U2Self: the evidence ticket.
    S4u2Self,
    /// S4U2Proxy: the service ticket.
    S4u2Proxy,
    /// Another ticket, for instance one for another realm's KDC.
    Tgs,
}

impl Kind {
    /// Name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::As => "as",
            Self::S4u2Self => "s4u2self",
            Self::S4u2Proxy => "s4u2proxy",
            Self::Tgs => "tgs",
        }
    }

    pub(super) const fn exchange(self) -> Exchange {
        if matches!(self, Self::As) { Exchange::As } else { Exchange::Tgs }
    }
}

/// On whose behalf a request is made: raw components and the realm next to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Name as it stands in the request.
    pub name: PrincipalName,
    /// Realm as it stands in the request.
    pub realm: String,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.realm.escape_default())
    }
}

/// SHA-256 of a ticket's ciphertext: the same ticket has the same one wherever it appears, however it is framed.
pub(super) type TicketDigest = [u8; 32];

/// A KDC-REQ as far as the relay needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KdcRequest {
    pub(super) exchange: Exchange,
    /// Realm whose KDC is asked.
    pub(super) realm: String,
    /// Service asked for.
    pub(super) sname: Option<PrincipalName>,
    /// Client of an AS-REQ, or the user named by PA-S4U-X509-USER or PA-FOR-USER.
    pub(super) subject: Option<Subject>,
    /// First additional ticket: the evidence of an S4U2Proxy request.
    pub(super) evidence: Option<TicketDigest>,
    /// The ticket that a TGS-REQ is made with: ours or, on the way to a back end of another realm, one for the user.
    pub(super) header: Option<TicketDigest>,
}

impl KdcRequest {
    /// Reads one whole KDC-REQ; anything else is an error.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DerError> {
        let exchange = if bytes.first() == Some(&AS_REQ) { Exchange::As } else { Exchange::Tgs };
        let mut request =
            Reader::new(der::only(der::only(bytes, if exchange == Exchange::As { AS_REQ } else { TGS_REQ })?, tag::SEQUENCE)?);
        let version = der::integer(request.explicit(1, tag::INTEGER)?)?;
        let kind = der::integer(request.explicit(2, tag::INTEGER)?)?;
        if version != 5 || kind != if exchange == Exchange::As { 10 } else { 12 } {
            return Err(DerError::Value);
        }
        let (user, header) = match request.explicit_optional(3, tag::SEQUENCE)? {
            Some(padata) => read_padata(Reader::new(padata))?,
            None => (None, None),
        };
        let mut body = Reader::new(request.explicit(4, tag::SEQUENCE)?);
        request.finish()?;

        body.read(tag::context(0))?;
        let cname = body.optional(tag::context(1))?.map(principal_name).transpose()?;
        let realm = text(body.explicit(2, tag::GENERAL_STRING)?)?.to_owned();
        let sname = body.optional(tag::context(3))?.map(principal_name).transpose()?;
        let mut evidence = None;
        while !body.is_empty() {
            let (tag_seen, contents) = body.any()?;
            if tag_seen == tag::context(11) {
                evidence = Some(ticket_facts(Reader::new(der::only(contents, tag::SEQUENCE)?).read(TICKET)?)?.digest);
            }
        }
        let subject = match exchange {
            Exchange::As => cname.map(|name| Subject { name, realm: realm.clone() }),
            Exchange::Tgs => user,
        };
        Ok(Self { exchange, realm, sname, subject, evidence, header })
    }
}

impl KdcRequest {
    /// What it is for.
    pub(super) fn kind(&self) -> Kind {
        match self.exchange {
            Exchange::As => Kind::As,
            Exchange::Tgs if self.evidence.is_some() => Kind::S4u2Proxy,
            Exchange::Tgs if self.subject.is_some() => Kind::S4u2Self,
            Exchange::Tgs => Kind::Tgs,
        }
    }
}

/// What a KDC sent back, as far as the relay needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReplyKind {
    /// AS-REP or TGS-REP; its ticket if that can be read.
    Reply(Option<TicketFacts>),
    /// KRB-ERROR
    Error,
}

/// The clear part of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TicketFacts {
    pub(super) digest: TicketDigest,
    /// `X` where the ticket is a referral to that realm: its server is `krbtgt/X`.
    pub(super) granting_realm: Option<String>,
}

/// The kind of a reply to this exchange; `None` if it is no reply to it at all.
pub(super) fn reply_kind(exchange: Exchange, bytes: &[u8]) -> Option<ReplyKind> {
    let expected = match exchange {
        Exchange::As => AS_REP,
        Exchange::Tgs => TGS_REP,
    };
    // What is cut off, or has something after it, is nobody's answer: another KDC is to be asked.
    let mut whole = Reader::new(bytes);
    let (first, _) = whole.any().ok()?;
    whole.finish().ok()?;
    match first {
        first if first == expected => Some(ReplyKind::Reply(reply_ticket(bytes, expected).ok())),
        KRB_ERROR => Some(ReplyKind::Error),
        _ => None,
    }
}

fn reply_ticket(bytes: &[u8], expected: u8) -> Result<TicketFacts, DerError> {
    let mut reply = Reader::new(der::only(Reader::new(bytes).read(expected)?, tag::SEQUENCE)?);
    while let Some(next) = reply.peek() {
        let contents = reply.read(next)?;
        if next == tag::context(5) {
            return ticket_facts(der::only(contents, TICKET)?);
        }
    }
    Err(DerError::Truncated)
}

/// The user an S4U2Self request names (both forms carry the same name when both are there), and the ticket a request is made with.
fn read_padata(mut padata: Reader<'_>) -> Result<(Option<Subject>, Option<TicketDigest>), DerError> {
    let (mut user, mut header) = (None, None);
    while !padata.is_empty() {
        let mut entry = padata.nested(tag::SEQUENCE)?;
        let kind = der::signed32(entry.explicit(1, tag::INTEGER)?)?;
        let value = entry.explicit(2, tag::OCTET_STRING)?;
        match kind {
            // Whose it is is good to know; a request whose ticket cannot be read is the KDC's to refuse.
            PA_TGS_REQ => header = header_ticket(value).ok(),
            PA_FOR_USER => {
                let mut fields = Reader::new(der::only(value, tag::SEQUENCE)?);
                let name = principal_name(fields.read(tag::context(0))?)?;
                let realm = text(fields.explicit(1, tag::GENERAL_STRING)?)?.to_owned();
                user = Some(Subject { name, realm });
            }
            PA_S4U_X509_USER if user.is_none() => {
                let mut fields = Reader::new(Reader::new(der::only(value, tag::SEQUENCE)?).explicit(0, tag::SEQUENCE)?);
                fields.read(tag::context(0))?;
                let name = fields.optional(tag::context(1))?.map(principal_name).transpose()?;
                let realm = text(fields.explicit(2, tag::GENERAL_STRING)?)?.to_owned();
                user = name.map(|name| Subject { name, realm });
            }
            _ => {}
        }
    }
    Ok((user, header))
}

/// The ticket of an AP-REQ (RFC 4120 section 5.5.1).
fn header_ticket(ap_req: &[u8]) -> Result<TicketDigest, DerError> {
    let mut fields = Reader::new(der::only(der::only(ap_req, AP_REQ)?, tag::SEQUENCE)?);
    for field in 0..3 {
        fields.read(tag::context(field))?;
    }
    Ok(ticket_facts(Reader::new(fields.read(tag::context(3))?).read(TICKET)?)?.digest)
}

/// The digest of a whole Ticket; `None` for what is none.
pub(super) fn ticket_digest(ticket: &[u8]) -> Option<TicketDigest> {
    ticket_facts(der::only(ticket, TICKET).ok()?).ok().map(|facts| facts.digest)
}

/// Contents of a Ticket's APPLICATION tag.
fn ticket_facts(ticket: &[u8]) -> Result<TicketFacts, DerError> {
    let mut fields = Reader::new(der::only(ticket, tag::SEQUENCE)?);
    fields.read(tag::context(0))?;
    fields.read(tag::context(1))?;
    let server = principal_name(fields.read(tag::context(2))?)?;
    let cipher = EncryptedData::read(&mut Reader::new(fields.read(tag::context(3))?))?.cipher;
    let granting_realm = match &server.components[..] {
        [service, realm] if **service == *"krbtgt" => Some(realm.to_string()),
        _ => None,
    };
    Ok(TicketFacts { digest: Sha256::digest(cipher).into(), granting_realm })
}

/// Contents of a tag that holds a PrincipalName and nothing else.
fn principal_name(contents: &[u8]) -> Result<PrincipalName, DerError> {
    let mut reader = Reader::new(contents);
    let name = read_principal_name(&mut reader)?;
    reader.finish()?;
    Ok(name)
}

#[cfg(test)]
pub(super) mod tests;
