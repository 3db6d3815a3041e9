//! A ticket ready to mint from, by one of two engines: our own, or the library (the reference).

use std::time::SystemTime;

use tokio::task::spawn_blocking;

use crate::failure::{Cause, Failure};
use crate::kerberos::acquire::gss::{GssError, ReferenceContext, UserCredential};
use crate::kerberos::reply::Reply;
use crate::kerberos::wire::mint::{MintOptions, MintableTicket};
use crate::kerberos::wire::spnego;
use crate::kerberos::wire::ticket::ServiceTicket;
use crate::kerberos::{ChannelBinding, NegotiateToken};
use crate::naming::name::Spn;
use crate::policy::{Target, TokenFormat};

/// What tokens are minted from. Kept in the cache; never leaves `kerberos`.
#[derive(Debug)]
pub enum Mint {
    /// The ticket and its derived keys.
    Native(Box<MintableTicket>),
    /// The library's credential, with the ticket in it.
    Reference(UserCredential),
}

impl Mint {
    /// Our own engine.
    pub fn native(ticket: ServiceTicket) -> Result<Self, Failure> {
        MintableTicket::new(ticket).map(Box::new).map(Self::Native)
    }

    /// A fresh token and what verifies the answer to it. Our engine does not block; the library's call goes to a blocking thread.
    pub async fn token(&self, target: &Target, binding: Option<&ChannelBinding>) -> Result<(NegotiateToken, Reply), Failure> {
        match self {
            Self::Native(ticket) => native(ticket, target.token_format, binding),
            Self::Reference(credential) => {
                let (credential, spn, format) = (credential.clone(), target.spn.clone(), target.token_format);
                let binding = binding.map(ChannelBinding::application_data);
                spawn_blocking(move || reference(&credential, &spn, format, binding.as_deref()))
                    .await
                    .unwrap_or_else(|_| Err(Cause::TokenFailed.into()))
            }
        }
    }

    /// The same on the calling thread: for diagnosis and measurements.
    pub fn token_now(&self, target: &Target, binding: Option<&ChannelBinding>) -> Result<(NegotiateToken, Reply), Failure> {
        match self {
            Self::Native(ticket) => native(ticket, target.token_format, binding),
            Self::Reference(credential) => {
                let binding = binding.map(ChannelBinding::application_data);
                reference(credential, &target.spn, target.token_format, binding.as_deref())
            }
        }
    }

    /// Memory of one cache entry in bytes; for the library's credential an estimate from measurements (three times the ticket).
    pub fn memory(&self, ticket_bytes: usize) -> usize {
        match self {
            Self::Native(ticket) => ticket.memory(),
            Self::Reference(_) => 8 * 1024 + 3 * ticket_bytes,
        }
    }
}

fn native(
    ticket: &MintableTicket,
    format: TokenFormat,
    binding: Option<&ChannelBinding>,
) -> Result<(NegotiateToken, Reply), Failure> {
    let (token, expectation) = ticket.mint(SystemTime::now(), format, binding, MintOptions::default())?;
    Ok((NegotiateToken::new(token), Reply::native(expectation, format)))
}

fn reference(
    credential: &UserCredential,
    spn: &Spn,
    format: TokenFormat,
    binding: Option<&[u8]>,
) -> Result<(NegotiateToken, Reply), Failure> {
    let (token, context) = ReferenceContext::initiate(credential, spn, binding)
        .map_err(|error: GssError| Failure::new(Cause::TokenFailed, error.to_string()))?;
    Ok((NegotiateToken::new(spnego::wrap(format, token)), Reply::reference(context, format)))
}
