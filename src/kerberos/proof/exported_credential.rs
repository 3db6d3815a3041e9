//! MIT's exported credential: the tickets and session keys that S4U2Self and S4U2Proxy left in a MEMORY credential cache, as
//! `gss_export_cred` hands them out.
//!
//! ```text
//! per mechanism   uint32 length, mechanism OID, uint32 length, token            (big endian)
//! krb5's token    ["K5C1", [usage, name, impersonator, …, ccache, …]]           JSON
//! MEMORY ccache   [client, credential…]
//! credential      [client, server, [etype, key], authtime, starttime, endtime, renewtill, is_skey, flags, addresses, ticket,
//!                  second ticket, authdata]                                     names as MIT writes them, bytes in base64
//! ```
//!
//! The format is versioned but not documented, so anything unfamiliar is refused. The token holds our own ticket-granting ticket's
//! key as well: it is to be handed in in a buffer that is wiped, and nothing read from it is copied but into [`SecretBytes`].

mod json;
mod principal;

use thiserror::Error;

use crate::der::DerError;
use crate::failure::{Cause, Failure};
use crate::kerberos::proof::evidence::{EvidenceTicket, is_anonymous, ticket_flag};
use crate::kerberos::wire::crypto::{Etype, Key};
use crate::kerberos::wire::ticket::{ServiceTicket, TicketParts};
use crate::naming::name::{OwnPrincipal, Spn};
use crate::secret::SecretBytes;
pub use principal::RealmedName;

/// Two tickets with the largest PACs that Windows makes (64 KiB) stay far below; beyond it, something is wrong.
const MAX_BYTES: usize = 4 << 20;
/// The cache of one acquisition holds our ticket-granting tickets, the evidence and one service ticket.
const MAX_CREDENTIALS: usize = 64;
/// DER contents of 1.2.840.113554.1.2.2.
const KRB5_MECHANISM: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 0x01, 0x02, 0x02];

/// Why an exported credential gives no tickets to use.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExportError {
    /// Cut short, or far too large.
    #[error("the exported credential is truncated or too large")]
    Length,
    /// No krb5 element, or more than one.
    #[error("the exported credential has {0} krb5 elements, not one")]
    Mechanism(usize),
    /// Another format version.
    #[error(
        "the exported credential has format {0:?}; only K5C1 is known: this version of the Kerberos library is not supported"
    )]
    Version(String),
    /// Not the shape of that version; the place is in the JSON text.
    #[error("the exported credential is not of the form that is known (column {column})")]
    Shape {
        /// where in the text
        column: usize,
    },
    /// A name that is not as MIT writes names.
    #[error("a principal name in the exported credential is malformed")]
    Name,
    /// The credentials are not in memory but in a file.
    #[error("the exported credential does not hold its tickets")]
    NotInMemory,
    /// A ticket that is not a Ticket.
    #[error("a ticket in the exported credential is malformed: {0}")]
    Ticket(#[from] DerError),
    /// No ticket to ourselves.
    #[error("there is no ticket to ourselves, {0}, for the user")]
    NoEvidence(String),
    /// No ticket to the service.
    #[error("there is no ticket to {0} for the user")]
    NoService(String),
    /// More than one ticket where one is expected.
    #[error("there are {count} different tickets to {server} for the user")]
    Ambiguous {
        /// the service
        server: String,
        /// how many
        count: usize,
    },
    /// The client is ourselves: the library fell back to our own identity.
    #[error("the tickets name ourselves, {0}, as the client")]
    Ourselves(String),
    /// The opened evidence ticket is another user's.
    #[error("the tickets name {exported} as the client, the evidence ticket names {evidence}")]
    OtherClient {
        /// client in the cache
        exported: String,
        /// client that the KDC sealed into the evidence ticket
        evidence: String,
    },
    /// The ticket for the service was not obtained with the evidence ticket, or names another server.
    #[error("the ticket to {0} does not belong to the evidence ticket")]
    Unrelated(String),
    /// A flag that must not be there, or a client without a name.
    #[error("the ticket to {server} is postdated, invalid or anonymous (flags {flags:#010x})")]
    Unusable {
        /// the service
        server: String,
        /// ticket flags
        flags: u32,
    },
    /// Session key of an encryption type that we do not have.
    #[error("the session key's encryption type {0} is not supported")]
    SessionKey(i32),
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let cause = match error {
            ExportError::Ourselves(_) | ExportError::OtherClient { .. } => Cause::IdentityFallback,
            ExportError::SessionKey(_) => Cause::EtypeNotSupported,
            _ => Cause::TicketUnusable,
        };
        Self::new(cause, error.to_string())
    }
}

/// The contents of an exported krb5 credential.
#[derive(Debug)]
pub struct ExportedCredential {
    client: RealmedName,
    impersonator: Option<RealmedName>,
    credentials: Vec<Cred>,
}

/// One ticket with its session key.
#[derive(Debug)]
pub struct Cred {
    /// The client. MIT does not export the name's type; the evidence ticket has it.
    pub client: RealmedName,
    /// The server as it was asked for: the realm is empty where the KDC was left to choose it.
    pub server: RealmedName,
    /// Encryption type of the session key.
    pub key_etype: i32,
    /// Session key.
    pub key: SecretBytes,
    /// When the client was authenticated, seconds since 1970.
    pub auth_time: i64,
    /// Start time, seconds since 1970.
    pub start_time: i64,
    /// End time, seconds since 1970.
    pub end_time: i64,
    /// Until when it can be renewed, seconds since 1970.
    pub renew_till: i64,
    /// Whether the ticket is encrypted in another ticket's session key (user-to-user).
    pub is_skey: bool,
    /// Ticket flags (RFC 4120 section 5.3), bit 0 on top.
    pub flags: u32,
    /// Ticket, as it came.
    pub ticket: Vec<u8>,
    /// The ticket that was sent along to get this one: the evidence ticket (S4U2Proxy), or none.
    pub second_ticket: Vec<u8>,
    /// Whether there is authorization data for the authenticator.
    pub has_authdata: bool,
}

impl Cred {
    /// The session key, if its encryption type is one of ours.
    pub fn session_key(&self) -> Result<Key, ExportError> {
        let unsupported = ExportError::SessionKey(self.key_etype);
        let etype = Etype::from_number(self.key_etype).ok_or_else(|| unsupported.clone())?;
        Key::new(etype, self.key.clone()).map_err(|_| unsupported)
    }

    /// Whether the ticket may be passed on.
    pub fn is_forwardable(&self) -> bool {
        self.flags & ticket_flag::FORWARDABLE != 0
    }

    fn refuse_unusable(&self) -> Result<(), ExportError> {
        if self.flags & ticket_flag::UNUSABLE != 0 || is_anonymous(&self.client.name) {
            return Err(ExportError::Unusable { server: self.server.to_string(), flags: self.flags });
        }
        Ok(())
    }
}

impl ExportedCredential {
    /// Reads what `gss_export_cred` returned.
    pub fn parse(token: &[u8]) -> Result<Self, ExportError> {
        if token.len() > MAX_BYTES {
            return Err(ExportError::Length);
        }
        json::parse(krb5_element(token)?)
    }

    /// Whose credential it is: the user.
    pub fn client(&self) -> &RealmedName {
        &self.client
    }

    /// Who impersonates: ourselves.
    pub fn impersonator(&self) -> Option<&RealmedName> {
        self.impersonator.as_ref()
    }

    /// Every ticket.
    pub fn credentials(&self) -> &[Cred] {
        &self.credentials
    }

    /// Whether our own ticket-granting ticket is forwardable; the newest counts. None where it is not here.
    pub fn is_tgt_forwardable(&self, own: &OwnPrincipal) -> Option<bool> {
        let realm = own.realm().as_str();
        let is_tgt = |cred: &&Cred| {
            let ours = matches!(&cred.server.name.components[..], [krbtgt, of] if **krbtgt == *"krbtgt" && **of == *realm);
            ours && *cred.server.realm == *realm && cred.client.is(own)
        };
        self.credentials.iter().filter(is_tgt).max_by_key(|cred| cred.end_time).map(Cred::is_forwardable)
    }

    /// The evidence ticket: to ourselves, by S4U2Self.
    pub fn evidence(&self, own: &OwnPrincipal) -> Result<&Cred, ExportError> {
        if self.client.is(own) {
            return Err(ExportError::Ourselves(own.to_string()));
        }
        let candidates = self.of_user(|cred| cred.server.is(own) && cred.second_ticket.is_empty());
        let evidence = the_one(&candidates, own)?.ok_or_else(|| ExportError::NoEvidence(own.to_string()))?;
        evidence.refuse_unusable()?;
        Ok(evidence)
    }

    /// The newest ticket to ourselves, whosoever's: nobody's identity is read from it.
    pub fn to_ourselves(&self, own: &OwnPrincipal) -> Result<&Cred, ExportError> {
        let ours = self.credentials.iter().filter(|cred| cred.server.is(own));
        ours.max_by_key(|cred| cred.end_time).ok_or_else(|| ExportError::NoEvidence(own.to_string()))
    }

    /// The evidence ticket and the service ticket that was obtained with it. The service ticket's client is the evidence ticket's,
    /// component for component, and its server is the SPN asked for, in the cache's words and in the ticket's own.
    pub fn select(&self, own: &OwnPrincipal, spn: &Spn) -> Result<(&Cred, &Cred), ExportError> {
        let evidence = self.evidence(own)?;
        let candidates = self.of_user(|cred| spn.matches(&cred.server.name) && !cred.server.is(own));
        let service = the_one(&candidates, spn)?.ok_or_else(|| ExportError::NoService(spn.to_string()))?;
        service.refuse_unusable()?;
        let names_spn = spn.matches(&TicketParts::parse(&service.ticket)?.server);
        let from_evidence = service.second_ticket == evidence.ticket && service.client == evidence.client;
        if names_spn && from_evidence { Ok((evidence, service)) } else { Err(ExportError::Unrelated(spn.to_string())) }
    }

    /// The service ticket of the user whom the opened evidence ticket names. Here the client's name gets back its type, which MIT
    /// does not export.
    pub fn service_ticket(&self, own: &OwnPrincipal, spn: &Spn, user: &EvidenceTicket) -> Result<ServiceTicket, ExportError> {
        let (_, service) = self.select(own, spn)?;
        if !service.client.name.same_components(user.client()) || *service.client.realm != *user.client_realm() {
            return Err(ExportError::OtherClient {
                exported: service.client.to_string(),
                evidence: format!("{}@{}", user.client(), user.client_realm()),
            });
        }
        let parts = TicketParts::parse(&service.ticket)?;
        Ok(ServiceTicket {
            client: user.client().clone(),
            client_realm: user.client_realm().into(),
            server_realm: parts.realm.into(),
            ticket_etype: parts.enc_part.etype,
            server: parts.server,
            ticket: service.ticket.as_slice().into(),
            session_key: service.session_key()?,
            flags: service.flags,
            auth_time: service.auth_time,
            // Absent means "from the authentication on" (RFC 4120 section 5.3).
            start_time: if service.start_time == 0 { service.auth_time } else { service.start_time },
            end_time: service.end_time,
        })
    }

    /// The user's own tickets, without session-key tickets.
    fn of_user(&self, wanted: impl Fn(&Cred) -> bool) -> Vec<&Cred> {
        self.credentials.iter().filter(|cred| cred.client == self.client && !cred.is_skey && wanted(cred)).collect()
    }
}

/// The only candidate; the same ticket twice counts once.
fn the_one<'a>(candidates: &[&'a Cred], server: &impl ToString) -> Result<Option<&'a Cred>, ExportError> {
    match candidates {
        [] => Ok(None),
        [first, others @ ..] if others.iter().all(|other| other.ticket == first.ticket) => Ok(Some(first)),
        _ => Err(ExportError::Ambiguous { server: server.to_string(), count: candidates.len() }),
    }
}

/// The krb5 mechanism's token in the mechanism glue's framing.
fn krb5_element(token: &[u8]) -> Result<&[u8], ExportError> {
    let mut rest = token;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let mechanism = prefixed(&mut rest).ok_or(ExportError::Length)?;
        let element = prefixed(&mut rest).ok_or(ExportError::Length)?;
        if mechanism == KRB5_MECHANISM {
            found.push(element);
        }
    }
    match found[..] {
        [element] => Ok(element),
        _ => Err(ExportError::Mechanism(found.len())),
    }
}

fn prefixed<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (taken, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests;
