//! Kerberos: tickets by constrained delegation, tokens from tickets, and the proof of the server.
//!
//! ```text
//! Grant -> TokenSource::token -> NegotiateToken (sent once) + PendingReply (verifies the AP-REP)
//!
//! delegator   the engine: a ticket from the cache or from the workers, a token from the ticket
//! tickets     the cache: one acquisition a key, how old a ticket may get, what ends it
//! encryption  which encryption types tickets use, SPN by SPN, and what stops when RC4 is refused
//! engine      minting by ourselves or, for reference, by the library; reply: the answer to a token
//! acquire     our TGT, S4U2Self, S4U2Proxy through MIT's library, on threads of their own
//! canary      an account of nobody's, delegated by way of each KDC in turn: which of them changed
//! proof       whom the evidence ticket is for: keytab, PAC, SID, kind of account
//! own_account what is wrong with the bridge's own account
//! refusal     why it was refused: by the tickets, and by the directory where there is one
//! relay       every KDC exchange, seen and bounded
//! capture     what was answered, fit to be given away
//! wire        bytes: encryption types, AP-REQ, AP-REP, SPNEGO, KRB-ERROR
//! ```

#![deny(unsafe_code)]

pub mod acquire;
pub mod canary;
pub mod capture;
pub mod config;
pub mod delegator;
pub mod diagnosis;
pub mod encryption;
pub mod engine;
pub mod own_account;
pub mod proof;
pub mod refusal;
pub mod relay;
pub mod reply;
mod tickets;
pub mod wire;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;

use crate::failure::{Cause, Failure};
use crate::identity::Principal;
use crate::kerberos::encryption::Etypes;
use crate::kerberos::wire::krb_error::code;
use crate::naming::name::Spn;
use crate::naming::sid::Sid;
use crate::policy::Grant;

/// Where Negotiate tokens come from: the delegation engine, or fixed tokens in hermetic tests of the proxy.
pub trait TokenSource: Send + Sync + 'static {
    /// What verifies the back end's answer to one token.
    type Reply: PendingReply;

    /// A fresh token for this grant: from the cached ticket, or by S4U2Self and S4U2Proxy.
    /// `binding` is the tls-server-end-point data of the upstream connection's own TLS session, if it has one.
    fn token(
        &self,
        grant: &Grant,
        binding: Option<&ChannelBinding>,
        deadline: Instant,
    ) -> impl Future<Output = Result<IssuedToken<Self::Reply>, Failure>> + Send;

    /// Forgets the service ticket that a refused token came from, so that the next token comes from a new one. Returns false when that
    /// is refused because tickets of this user, or for this SPN, are being reacquired too often.
    fn forget(&self, grant: &Grant, ticket: TicketId) -> bool;

    /// Says more of a back end's refusal than the answer did, where more is known of its SPN.
    fn explain(&self, grant: &Grant, failure: Failure) -> impl Future<Output = Failure> + Send {
        let _ = grant;
        std::future::ready(failure)
    }

    /// Drops every ticket of this account, whatever mapped it and whatever back end they are for, and keeps none that is under way.
    /// Returns how many there were.
    fn evict(&self, principal: &Principal) -> usize;

    /// Drops every ticket for this SPN. Returns how many there were.
    fn evict_spn(&self, spn: &Spn) -> usize;
}

/// One token, how to check the answer to it, and what is known about its ticket.
#[derive(Debug)]
pub struct IssuedToken<R> {
    /// To be sent once.
    pub token: NegotiateToken,
    /// To be shown the answer.
    pub reply: R,
    /// For the audit event.
    pub facts: TicketFacts,
}

/// The other half of a token: verifies the AP-REP that answers it, and no other.
pub trait PendingReply: Send + 'static {
    /// Judges the `WWW-Authenticate` values of a response. Consumes the expectation: one token, one answer.
    fn judge(self, www_authenticate: &[HeaderValue]) -> Result<Verdict, Failure>;
}

/// What the back end's `WWW-Authenticate` says about our token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The AP-REP was verified: the server holds the service's key and answered this token.
    Proved,
    /// No Negotiate answer at all (bare `Negotiate` without data counts as absence).
    Absent,
    /// A KRB-ERROR (unauthenticated: good for diagnosis and one reacquisition).
    KrbError {
        /// RFC 4120 section 7.5.9 code
        code: i32,
        /// whether a new service ticket may help: MODIFIED, BADKEYVER, NOKEY, TKT_EXPIRED
        reacquire: bool,
    },
    /// SPNEGO reject without a KRB-ERROR.
    Rejected,
    /// Only NTLM is offered.
    NtlmOnly,
}

/// KRB_AP_ERR_NOT_US (RFC 4120 section 7.5.9): the server has no key of the ticket's service.
const NOT_US: i32 = 35;

impl Verdict {
    /// The line of the failure table for a token that is refused for good, with this answer as the last.
    pub const fn refusal(&self) -> Cause {
        match self {
            Self::KrbError { code: code::MODIFIED | code::BADKEYVER | code::NOKEY | NOT_US, .. } => Cause::TokenKeyWrong,
            Self::KrbError { code: code::SKEW, .. } => Cause::BackEndClockSkew,
            Self::NtlmOnly => Cause::NtlmOnly,
            _ => Cause::TokenRefused,
        }
    }
}

/// A Negotiate token for one request: not `Clone`, opaque, consumed by the request that carries it. It goes over the wire as it is and
/// is worth nothing afterwards, so it is not wiped; the keys it was made with are.
pub struct NegotiateToken(Vec<u8>);

impl NegotiateToken {
    /// Wraps the raw GSS token. Only token sources make these.
    pub fn new(raw: Vec<u8>) -> Self {
        Self(raw)
    }

    /// Length of the raw token in bytes, for header-size forecasts.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the token is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Negotiate <base64>`, marked sensitive (RFC 4559 section 4.2).
    pub fn into_header(self) -> HeaderValue {
        let mut text = String::with_capacity(10 + self.0.len().div_ceil(3) * 4);
        text.push_str("Negotiate ");
        base64_simd::STANDARD.encode_append(&self.0, &mut text);
        // Base64 and a space are always valid header bytes; an empty value can only make the request fail authentication.
        let mut value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for NegotiateToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NegotiateToken({} bytes)", self.0.len())
    }
}

/// `tls-server-end-point` channel bindings of an upstream TLS session (RFC 5929 section 4): the hash of the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBinding {
    /// Certificate hash, 32 to 64 bytes.
    pub certificate_hash: Vec<u8>,
}

impl ChannelBinding {
    /// GSS application data: `tls-server-end-point:` and the hash.
    pub fn application_data(&self) -> Vec<u8> {
        [b"tls-server-end-point:".as_slice(), &self.certificate_hash].concat()
    }
}

/// Tells one acquired ticket from another in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TicketId(u64);

impl TicketId {
    /// An id that no other ticket has.
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A number from 0 to 1 that spreads tickets evenly, however few or many they are: the fractional part of multiples of the golden
    /// ratio, in 32 bits.
    fn spread(self) -> f64 {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the fractional part")]
        let fraction = self.0.wrapping_mul(0x9E37_79B9) as u32;
        f64::from(fraction) / f64::from(u32::MAX)
    }
}

impl TicketFacts {
    /// All encryption types of it.
    pub fn etypes(&self) -> Etypes {
        Etypes { ticket: self.ticket_etype, session_key: self.session_etype, evidence: self.evidence_etype }
    }

    /// The same for a token from the cache: nothing was acquired for it.
    fn for_hit(&self) -> Self {
        Self {
            client: self.client.clone(),
            account: self.account.clone(),
            sid: self.sid.clone(),
            spn: self.spn.clone(),
            stages: Vec::new(),
            cache_hit: true,
            ..*self
        }
    }
}

/// What is known about the ticket behind a token; no secret in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketFacts {
    /// Which ticket it is, in this process.
    pub id: TicketId,
    /// Client name and realm as the KDC wrote them.
    pub client: String,
    /// `DOMAIN\account` from the evidence ticket's PAC: the same whatever name the account was asked for by.
    pub account: String,
    /// SID from the evidence ticket's PAC.
    pub sid: Option<Sid>,
    /// Service principal name.
    pub spn: String,
    /// Encryption type of the ticket.
    pub ticket_etype: i32,
    /// Version of the service's key that the ticket is encrypted in, as far as the KDC says.
    pub key_version: Option<u32>,
    /// Encryption type of the session key.
    pub session_etype: i32,
    /// Encryption type of the evidence ticket: of our own account's key.
    pub evidence_etype: i32,
    /// Ticket flags (RFC 4120 section 5.3), bit 0 on top.
    pub flags: u32,
    /// End time, seconds since 1970.
    pub end_time: i64,
    /// Whether the ticket came from the cache.
    pub cache_hit: bool,
    /// Stages of the acquisition with their durations; empty on a cache hit.
    pub stages: Vec<(&'static str, Duration)>,
}
