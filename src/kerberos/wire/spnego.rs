//! SPNEGO: the list of mechanisms we send, and the acceptor's answer (RFC 4178 section 4.2).

use crate::der::{self, DerError, Reader, tag};
use crate::kerberos::wire::framing;
use crate::policy::TokenFormat;

/// mechTypes `[0]` with krb5 alone.
const KRB5_ALONE: &[u8] = &[0xA0, 13, 0x30, 11, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 0x01, 0x02, 0x02];

/// mechTypes `[0]` with Microsoft's OID before krb5.
const MICROSOFT_FIRST: &[u8] = &[
    0xA0, 24, 0x30, 22, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x82, 0xF7, 0x12, 0x01, 0x02, 0x02, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86,
    0xF7, 0x12, 0x01, 0x02, 0x02,
];

/// The mechTypes field of our NegTokenInit; none without SPNEGO.
pub const fn mech_types(format: TokenFormat) -> Option<&'static [u8]> {
    match format {
        TokenFormat::Spnego => Some(KRB5_ALONE),
        TokenFormat::SpnegoMicrosoft => Some(MICROSOFT_FIRST),
        TokenFormat::Kerberos => None,
    }
}

/// The MechTypeList in our NegTokenInit: what a mechListMIC is computed over (RFC 4178 section 4.2.2).
pub fn mech_type_list(format: TokenFormat) -> Option<&'static [u8]> {
    mech_types(format).and_then(|field| field.get(2..))
}

/// A framed Kerberos token in the wrapping that this format asks for: what the reference engine's tokens need.
pub fn wrap(format: TokenFormat, kerberos: Vec<u8>) -> Vec<u8> {
    let Some(mech_types) = mech_types(format) else { return kerberos };
    let element = |tag: u8, parts: &[&[u8]]| {
        let mut out = Vec::new();
        der::write_header(&mut out, tag, parts.iter().map(|part| part.len()).sum());
        for part in parts {
            out.extend_from_slice(part);
        }
        out
    };
    let mech_token = element(tag::context(2), &[&element(tag::OCTET_STRING, &[&kerberos])]);
    let init = element(tag::context(0), &[&element(tag::SEQUENCE, &[mech_types, &mech_token])]);
    element(framing::FRAME, &[framing::SPNEGO_MECHANISM, &init])
}

/// negState (RFC 4178 section 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegState {
    /// accept-completed
    AcceptCompleted,
    /// accept-incomplete
    AcceptIncomplete,
    /// reject
    Reject,
    /// request-mic
    RequestMic,
}

/// NegTokenResp (RFC 4178 section 4.2.2), borrowed from the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegTokenResp<'a> {
    /// negState
    pub state: Option<NegState>,
    /// supportedMech, as an OID element
    pub mechanism: Option<&'a [u8]>,
    /// responseToken
    pub response: Option<&'a [u8]>,
    /// mechListMIC
    pub mic: Option<&'a [u8]>,
}

impl<'a> NegTokenResp<'a> {
    /// Parses a whole NegotiationToken, which must be a negTokenResp.
    pub fn parse(token: &'a [u8]) -> Result<Self, DerError> {
        let mut fields = Reader::new(der::only(der::only(token, tag::context(1))?, tag::SEQUENCE)?);
        let state = fields.explicit_optional(0, tag::ENUMERATED)?.map(neg_state).transpose()?;
        let mechanism = fields.optional(tag::context(1))?;
        if let Some(mechanism) = mechanism {
            der::only(mechanism, tag::OID)?;
        }
        let response = fields.explicit_optional(2, tag::OCTET_STRING)?;
        let mic = fields.explicit_optional(3, tag::OCTET_STRING)?;
        fields.finish()?;
        Ok(Self { state, mechanism, response, mic })
    }
}

fn neg_state(contents: &[u8]) -> Result<NegState, DerError> {
    match der::integer(contents)? {
        0 => Ok(NegState::AcceptCompleted),
        1 => Ok(NegState::AcceptIncomplete),
        2 => Ok(NegState::Reject),
        3 => Ok(NegState::RequestMic),
        _ => Err(DerError::Value),
    }
}
