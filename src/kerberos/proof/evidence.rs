//! The evidence ticket: what S4U2Self returned, a ticket to ourselves in the user's name (MS-SFU 3.1.5.1.1).
//!
//! It is encrypted with our own long-term key, so it is the one ticket that can be opened here, and the only place where the KDC
//! says by SID who the user is. [`EvidenceTicket`] exists only if one of our keys opened it.

#[cfg(test)]
pub(in crate::kerberos) mod testkit;

use thiserror::Error;

use crate::der::{self, DerError, Reader, tag};
use crate::failure::{Cause, Failure};
use crate::kerberos::proof::keytab::Keytab;
use crate::kerberos::proof::pac::{Pac, PacError};
use crate::kerberos::wire::asn1::{self, EncryptedData};
use crate::kerberos::wire::crypto::{Etype, Key, usage};
use crate::kerberos::wire::ticket::TicketParts;
use crate::naming::name::{OwnPrincipal, PrincipalName, name_type};
use crate::secret::SecretBytes;

/// Ticket flags (RFC 4120 section 5.3, RFC 8062 section 3), bit 0 on top.
pub mod ticket_flag {
    /// FORWARDABLE: in an evidence ticket, that the user may be delegated
    pub const FORWARDABLE: u32 = 0x4000_0000;
    /// POSTDATED
    pub const POSTDATED: u32 = 0x0200_0000;
    /// INVALID: to be validated first
    pub const INVALID: u32 = 0x0100_0000;
    /// ANONYMOUS
    pub const ANONYMOUS: u32 = 0x0000_8000;
    /// None of these may be set in a ticket that is used here.
    pub const UNUSABLE: u32 = POSTDATED | INVALID | ANONYMOUS;
}

/// Authorization data types (RFC 4120 section 5.2.6, MS-PAC 2.1).
const AD_IF_RELEVANT: i32 = 1;
const AD_WIN2K_PAC: i32 = 128;
/// AD-IF-RELEVANT inside AD-IF-RELEVANT; one level is usual.
const MAX_NESTING: usize = 4;

/// Why an evidence ticket is not believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EvidenceError {
    /// Not a Ticket, or its encrypted part is not an EncTicketPart.
    #[error("the evidence ticket is malformed: {0}")]
    Malformed(#[from] DerError),
    /// A ticket to somebody else.
    #[error("the evidence ticket is to {0}, not to us")]
    NotOurs(String),
    /// The keytab has no key of the ticket's encryption type.
    #[error("the keytab has no key of encryption type {etype} (the KDC used {})", version(*kvno))]
    NoKey {
        /// assigned number
        etype: i32,
        /// version number in the ticket
        kvno: Option<u32>,
    },
    /// No key of the keytab opens it.
    #[error("no key of the keytab opens the evidence ticket; the KDC used {}, the keytab has {have:?}", version(*kvno))]
    WrongKey {
        /// version number in the ticket
        kvno: Option<u32>,
        /// version numbers of that encryption type in the keytab
        have: Vec<u32>,
    },
    /// A flag that must not be there.
    #[error("the evidence ticket is postdated, invalid or anonymous (flags {0:#010x})")]
    Flags(u32),
    /// An anonymous client.
    #[error("the evidence ticket names no client")]
    Anonymous,
    /// More than one PAC, or one that is not wrapped as the KDC does it.
    #[error("the evidence ticket's authorization data is not what a KDC issues: {0}")]
    AuthorizationData(&'static str),
    /// The PAC.
    #[error(transparent)]
    Pac(#[from] PacError),
}

fn version(kvno: Option<u32>) -> String {
    kvno.map_or_else(|| "no version number".to_owned(), |kvno| format!("version {kvno}"))
}

impl From<EvidenceError> for Failure {
    fn from(error: EvidenceError) -> Self {
        let cause = match &error {
            EvidenceError::Pac(_) | EvidenceError::AuthorizationData(_) => Cause::PacInvalid,
            EvidenceError::NoKey { .. } | EvidenceError::WrongKey { .. } => Cause::KeytabUnusable,
            _ => Cause::TicketUnusable,
        };
        Self::new(cause, error.to_string())
    }
}

/// An evidence ticket that one of our own keys opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceTicket {
    etype: Etype,
    flags: u32,
    client_realm: Box<str>,
    client: PrincipalName,
    auth_time: i64,
    end_time: i64,
    pac: Option<Pac>,
}

impl EvidenceTicket {
    /// Opens a ticket to `own` with its key in the keytab: the one of the version the ticket names, else any of the same
    /// encryption type (version numbers get lost in exports and behind read-only domain controllers).
    pub fn open(ticket: &[u8], keytab: &Keytab, own: &OwnPrincipal) -> Result<Self, EvidenceError> {
        let (plain, key) = unseal(ticket, keytab, own)?;
        Self::decode(plain.expose(), key)
    }

    /// The PAC as it came, not verified, for a recording that takes names and signatures out of it.
    pub(in crate::kerberos) fn raw_pac(
        ticket: &[u8],
        keytab: &Keytab,
        own: &OwnPrincipal,
    ) -> Result<Option<Vec<u8>>, EvidenceError> {
        let (plain, _) = unseal(ticket, keytab, own)?;
        let mut fields = Reader::new(der::only(der::only(plain.expose(), tag::application(3))?, tag::SEQUENCE)?);
        while !fields.is_empty() {
            if let Some(authorization_data) = fields.explicit_optional(10, tag::SEQUENCE)? {
                return Ok(find_pac(authorization_data)?.map(<[u8]>::to_vec));
            }
            fields.any()?;
        }
        Ok(None)
    }

    /// EncTicketPart (RFC 4120 section 5.3).
    fn decode(plain: &[u8], key: &Key) -> Result<Self, EvidenceError> {
        let mut fields = Reader::new(der::only(der::only(plain, tag::application(3))?, tag::SEQUENCE)?);
        let flags = der::flags32(fields.explicit(0, tag::BIT_STRING)?)?;
        fields.explicit(1, tag::SEQUENCE)?; // session key
        let client_realm = asn1::text(fields.explicit(2, tag::GENERAL_STRING)?)?.into();
        let mut name = fields.nested(tag::context(3))?;
        let client = asn1::read_principal_name(&mut name)?;
        name.finish()?;
        fields.explicit(4, tag::SEQUENCE)?; // transited
        let auth_time = der::kerberos_time(fields.explicit(5, tag::GENERALIZED_TIME)?)?;
        fields.explicit_optional(6, tag::GENERALIZED_TIME)?; // start time
        let end_time = der::kerberos_time(fields.explicit(7, tag::GENERALIZED_TIME)?)?;
        fields.explicit_optional(8, tag::GENERALIZED_TIME)?; // renew until
        fields.explicit_optional(9, tag::SEQUENCE)?; // addresses
        let authorization_data = fields.explicit_optional(10, tag::SEQUENCE)?;
        fields.finish()?;

        if flags & ticket_flag::UNUSABLE != 0 {
            return Err(EvidenceError::Flags(flags));
        }
        if is_anonymous(&client) {
            return Err(EvidenceError::Anonymous);
        }
        let pac = find_pac(authorization_data.unwrap_or_default())?;
        let pac = pac.map(|pac| Pac::verify(pac, key, auth_time)).transpose()?;
        Ok(Self { etype: key.etype(), flags, client_realm, client, auth_time, end_time, pac })
    }

    /// Encryption type of our account's key that opened it.
    pub fn etype(&self) -> Etype {
        self.etype
    }

    /// Ticket flags, see [`ticket_flag`].
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Whether the KDC lets the user be delegated without resource-based permission.
    pub fn is_forwardable(&self) -> bool {
        self.flags & ticket_flag::FORWARDABLE != 0
    }

    /// The client's realm.
    pub fn client_realm(&self) -> &str {
        &self.client_realm
    }

    /// The client's name with its type, as the KDC wrote it: often as it was asked for.
    pub fn client(&self) -> &PrincipalName {
        &self.client
    }

    /// When the client was authenticated, seconds since 1970.
    pub fn auth_time(&self) -> i64 {
        self.auth_time
    }

    /// End time, seconds since 1970.
    pub fn end_time(&self) -> i64 {
        self.end_time
    }

    /// The verified PAC, if the KDC issued one.
    pub fn pac(&self) -> Option<&Pac> {
        self.pac.as_ref()
    }

    /// The verified PAC; without one there is no proof of who the user is.
    pub fn require_pac(&self) -> Result<&Pac, Failure> {
        self.pac().ok_or_else(|| Failure::new(Cause::PacMissing, format!("{}@{}", self.client, self.client_realm)))
    }
}

/// Decrypts a ticket to `own`, and says with which key.
fn unseal<'a>(ticket: &[u8], keytab: &'a Keytab, own: &'a OwnPrincipal) -> Result<(SecretBytes, &'a Key), EvidenceError> {
    let parts = TicketParts::parse(ticket)?;
    if !parts.server.same_components(own.name()) || parts.realm != own.realm().as_str() {
        return Err(EvidenceError::NotOurs(format!("{}@{}", parts.server, parts.realm)));
    }
    let EncryptedData { etype, kvno, cipher } = parts.enc_part;
    let mut keys: Vec<(u32, &Key)> = keytab.keys_for(own).filter(|(_, key)| key.etype().number() == etype).collect();
    if keys.is_empty() {
        return Err(EvidenceError::NoKey { etype, kvno });
    }
    keys.sort_by_key(|(version, _)| (kvno != Some(*version), u32::MAX - version));
    keys.iter()
        .find_map(|(_, key)| Some((key.decrypt(usage::TICKET, cipher).ok()?, *key)))
        .ok_or_else(|| EvidenceError::WrongKey { kvno, have: keys.iter().map(|(version, _)| *version).collect() })
}

/// Whether a client's name is no name: the anonymous principal (RFC 8062 section 3), or empty.
pub(in crate::kerberos) fn is_anonymous(name: &PrincipalName) -> bool {
    let well_known = matches!(&name.components[..], [first, _] if **first == *"WELLKNOWN");
    well_known || name.name_type == name_type::WELLKNOWN || name.components.iter().all(|component| component.is_empty())
}

/// The one PAC in authorization data (the contents of AuthorizationData, RFC 4120 section 5.2.6).
fn find_pac(authorization_data: &[u8]) -> Result<Option<&[u8]>, EvidenceError> {
    let mut found = None;
    let mut levels = vec![(Reader::new(authorization_data), 0)];
    while let Some((mut elements, nesting)) = levels.pop() {
        while !elements.is_empty() {
            let mut element = elements.nested(tag::SEQUENCE)?;
            let kind = der::signed32(element.explicit(0, tag::INTEGER)?)?;
            let data = element.explicit(1, tag::OCTET_STRING)?;
            element.finish()?;
            match kind {
                AD_IF_RELEVANT if nesting == MAX_NESTING => return Err(EvidenceError::AuthorizationData("nested too deep")),
                AD_IF_RELEVANT => levels.push((Reader::new(der::only(data, tag::SEQUENCE)?), nesting + 1)),
                AD_WIN2K_PAC if nesting == 0 => return Err(EvidenceError::AuthorizationData("a PAC outside AD-IF-RELEVANT")),
                AD_WIN2K_PAC if found.is_some() => return Err(EvidenceError::AuthorizationData("more than one PAC")),
                AD_WIN2K_PAC => found = Some(data),
                _ => {}
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
