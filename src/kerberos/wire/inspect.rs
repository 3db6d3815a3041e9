//! The other side's view of an initial token: everything in it, decrypted with the session key. For tests that compare the
//! tokens of two engines field by field; nothing that serves requests uses it.

use thiserror::Error;

use crate::der::{self, DerError, Reader, tag};
use crate::kerberos::wire::asn1::{self, EncryptedData};
use crate::kerberos::wire::authenticator_clock::AuthenticatorTime;
use crate::kerberos::wire::crypto::{CryptoError, Key, usage};
use crate::kerberos::wire::framing;
use crate::kerberos::wire::ticket::TicketParts;
use crate::naming::name::PrincipalName;

/// Why a token cannot be inspected.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InspectError {
    /// The token is malformed.
    #[error(transparent)]
    Der(#[from] DerError),
    /// The authenticator does not decrypt.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Not an AP-REQ of Kerberos.
    #[error("not an AP-REQ")]
    NotApReq,
}

/// An initial token, opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedToken {
    /// OID elements of the NegTokenInit's mechTypes; empty without SPNEGO
    pub mech_types: Vec<Vec<u8>>,
    /// whether the NegTokenInit has fields beside mechTypes and mechToken
    pub more_spnego_fields: bool,
    /// OID element inside the GSS frame of the AP-REQ
    pub mechanism: Vec<u8>,
    /// ap-options, bit 0 on top
    pub ap_options: u32,
    /// the ticket as it stands
    pub ticket: Vec<u8>,
    /// its service, encryption type and key version
    pub server: PrincipalName,
    /// encryption type of the ticket
    pub ticket_etype: i32,
    /// encryption type of the authenticator
    pub authenticator_etype: i32,
    /// key version of the authenticator; there should be none
    pub authenticator_kvno: Option<u32>,
    /// the authenticator
    pub authenticator: Authenticator,
}

/// Authenticator (RFC 4120 section 5.5.1) with the checksum of RFC 4121 section 4.1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticator {
    /// crealm
    pub client_realm: String,
    /// cname
    pub client: PrincipalName,
    /// type of cksum
    pub checksum_type: i32,
    /// Bnd
    pub binding: [u8; 16],
    /// flags
    pub flags: u32,
    /// what follows the flags: delegation, extensions
    pub checksum_rest: Vec<u8>,
    /// cusec and ctime
    pub time: AuthenticatorTime,
    /// encryption type and bytes of the subkey
    pub subkey: Option<(i32, Vec<u8>)>,
    /// seq-number
    pub sequence_number: Option<u32>,
    /// authorization-data: top-level entries
    pub authorization: Vec<(i32, Vec<u8>)>,
}

impl Authenticator {
    /// Entries of the AD-IF-RELEVANT containers among the authorization data.
    pub fn if_relevant(&self) -> Result<Vec<(i32, Vec<u8>)>, DerError> {
        let containers = self.authorization.iter().filter(|(kind, _)| *kind == 1);
        let entries: Result<Vec<_>, DerError> =
            containers.map(|(_, data)| authorization_entries(der::only(data, tag::SEQUENCE)?)).collect();
        Ok(entries?.concat())
    }
}

/// Opens an initial token (SPNEGO or bare Kerberos) with its session key.
pub fn open_ap_req(token: &[u8], session_key: &Key) -> Result<OpenedToken, InspectError> {
    let (mechanism, inside) = framing::unframe(token)?;
    let mut mech_types = Vec::new();
    let mut more_spnego_fields = false;
    let mut token = token;
    if mechanism == framing::SPNEGO_MECHANISM {
        let mut init = Reader::new(der::only(der::only(inside, tag::context(0))?, tag::SEQUENCE)?);
        let mut list = Reader::new(init.explicit(0, tag::SEQUENCE)?);
        while !list.is_empty() {
            mech_types.push(list.raw()?.1.to_vec());
        }
        let flags = init.optional(tag::context(1))?;
        token = init.explicit(2, tag::OCTET_STRING)?;
        more_spnego_fields = flags.is_some() || !init.is_empty();
    }
    let (mechanism, inside) = framing::unframe(token)?;
    let message = inside.strip_prefix(&framing::AP_REQ).ok_or(InspectError::NotApReq)?;

    let mut fields = Reader::new(der::only(der::only(message, tag::application(14))?, tag::SEQUENCE)?);
    let pvno = der::integer(fields.explicit(0, tag::INTEGER)?)?;
    let msg_type = der::integer(fields.explicit(1, tag::INTEGER)?)?;
    if (pvno, msg_type) != (5, 14) {
        return Err(InspectError::NotApReq);
    }
    let ap_options = der::flags32(fields.explicit(2, tag::BIT_STRING)?)?;
    let ticket = fields.read(tag::context(3))?;
    let parts = TicketParts::parse(ticket)?;
    let mut encrypted = fields.nested(tag::context(4))?;
    let encrypted_authenticator = EncryptedData::read(&mut encrypted)?;
    encrypted.finish()?;
    fields.finish()?;
    let plaintext = session_key.decrypt(usage::AP_REQ_AUTHENTICATOR, encrypted_authenticator.cipher)?;
    Ok(OpenedToken {
        mech_types,
        more_spnego_fields,
        mechanism: mechanism.to_vec(),
        ap_options,
        ticket: ticket.to_vec(),
        server: parts.server,
        ticket_etype: parts.enc_part.etype,
        authenticator_etype: encrypted_authenticator.etype,
        authenticator_kvno: encrypted_authenticator.kvno,
        authenticator: authenticator(plaintext.expose())?,
    })
}

fn authenticator(plaintext: &[u8]) -> Result<Authenticator, DerError> {
    let mut fields = Reader::new(der::only(der::only(plaintext, tag::application(2))?, tag::SEQUENCE)?);
    if der::integer(fields.explicit(0, tag::INTEGER)?)? != 5 {
        return Err(DerError::Value);
    }
    let client_realm = asn1::text(fields.explicit(1, tag::GENERAL_STRING)?)?.to_owned();
    let mut name = fields.nested(tag::context(2))?;
    let client = asn1::read_principal_name(&mut name)?;
    name.finish()?;
    let mut checksum = Reader::new(fields.explicit(3, tag::SEQUENCE)?);
    let checksum_type = der::signed32(checksum.explicit(0, tag::INTEGER)?)?;
    let checksum_value = checksum.explicit(1, tag::OCTET_STRING)?;
    checksum.finish()?;
    let (binding, flags, checksum_rest) = gss_checksum(checksum_value)?;
    let cusec = der::unsigned32(fields.explicit(4, tag::INTEGER)?)?;
    let ctime = der::kerberos_time(fields.explicit(5, tag::GENERALIZED_TIME)?)?;
    let subkey = fields.explicit_optional(6, tag::SEQUENCE)?.map(asn1::key_fields).transpose()?;
    let sequence_number = fields.explicit_optional(7, tag::INTEGER)?.map(der::unsigned32).transpose()?;
    let authorization = fields.explicit_optional(8, tag::SEQUENCE)?.map(authorization_entries).transpose()?;
    fields.finish()?;
    Ok(Authenticator {
        client_realm,
        client,
        checksum_type,
        binding,
        flags,
        checksum_rest,
        time: AuthenticatorTime { ctime, cusec },
        subkey: subkey.map(|(etype, bytes)| (etype, bytes.to_vec())),
        sequence_number,
        authorization: authorization.unwrap_or_default(),
    })
}

/// Bnd, flags and the rest of a checksum 0x8003 (RFC 4121 section 4.1.1).
fn gss_checksum(value: &[u8]) -> Result<([u8; 16], u32, Vec<u8>), DerError> {
    let (length, rest) = value.split_first_chunk().ok_or(DerError::Truncated)?;
    let (binding, rest) = rest.split_first_chunk().ok_or(DerError::Truncated)?;
    let (flags, rest) = rest.split_first_chunk().ok_or(DerError::Truncated)?;
    if u32::from_le_bytes(*length) != 16 {
        return Err(DerError::Value);
    }
    Ok((*binding, u32::from_le_bytes(*flags), rest.to_vec()))
}

/// AuthorizationData (RFC 4120 section 5.2.6).
fn authorization_entries(contents: &[u8]) -> Result<Vec<(i32, Vec<u8>)>, DerError> {
    let mut list = Reader::new(contents);
    let mut entries = Vec::new();
    while !list.is_empty() {
        let mut fields = list.nested(tag::SEQUENCE)?;
        let kind = der::signed32(fields.explicit(0, tag::INTEGER)?)?;
        let data = fields.explicit(1, tag::OCTET_STRING)?;
        fields.finish()?;
        entries.push((kind, data.to_vec()));
    }
    Ok(entries)
}
