//! AP-REQ tokens from a cached ticket (RFC 4120 section 5.5.1, RFC 4121 section 4.1.1, RFC 4178 section 4.2.1).
//!
//! A token is a chain of elements, each of which holds some constant bytes and then the next element; the last one holds the
//! encrypted authenticator. So all lengths follow from the authenticator's, and the token is written front to back into one
//! allocation, with the authenticator encrypted in its place.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use zeroize::{Zeroize as _, Zeroizing};

use crate::der::{self, tag};
use crate::failure::{Cause, Failure};
use crate::kerberos::ChannelBinding;
use crate::kerberos::wire::ap_rep::ApRepExpectation;
use crate::kerberos::wire::asn1::{self, element_length, integer_length};
use crate::kerberos::wire::authenticator_clock::{AuthenticatorClock, AuthenticatorTime};
use crate::kerberos::wire::crypto::{self, SealingKeys, usage};
use crate::kerberos::wire::framing;
use crate::kerberos::wire::spnego;
use crate::kerberos::wire::ticket::{ServiceTicket, TicketParts};
use crate::policy::TokenFormat;

/// pvno 5, msg-type 14, ap-options with mutual-required alone.
const AP_REQ_HEAD: &[u8] = &[0xA0, 3, 2, 1, 5, 0xA1, 3, 2, 1, 14, 0xA2, 7, 3, 5, 0, 0x20, 0, 0, 0];

/// Flags of the checksum 0x8003: MUTUAL, REPLAY, SEQUENCE, INTEG. Never DELEG (0x1).
const GSS_FLAGS: u32 = 0x02 | 0x04 | 0x08 | 0x20;

/// cksum `[3]`: type 0x8003, 24 bytes that begin with the length of Bnd (RFC 4121 section 4.1.1).
const CHECKSUM_HEAD: &[u8] = &[0xA3, 37, 0x30, 35, 0xA0, 5, 2, 3, 0, 0x80, 3, 0xA1, 26, 4, 24, 16, 0, 0, 0];

/// Bytes of Bnd and of the flags, which follow.
const CHECKSUM_TAIL: usize = 16 + 4;

/// ctime `[5]` as far as the digits.
const CTIME_HEAD: &[u8] = &[0xA5, 17, 0x18, 15];

/// Digits of a KerberosTime and their Z.
const CTIME_DIGITS: usize = 15;

/// Authorization data types (RFC 4120 section 5.2.6, MS-KILE 3.2.5.8).
const AD_IF_RELEVANT: i32 = 1;
const AD_AP_OPTIONS: i32 = 143;
const AD_CLIENT_TARGET: i32 = 144;

/// KERB_AP_OPTIONS_CBT: the client knows about channel bindings.
const AP_OPTIONS_CBT: [u8; 4] = [0x00, 0x40, 0x00, 0x00];

/// authorization-data `[8]`: AD-IF-RELEVANT holding AD_AP_OPTIONS with KERB_AP_OPTIONS_CBT.
const BINDING_ANNOUNCED: &[u8] = &[
    0xA8, 31, 0x30, 29, 0x30, 27, 0xA0, 3, 2, 1, 1, 0xA1, 20, 4, 18, 0x30, 16, 0x30, 14, 0xA0, 4, 2, 2, 0, 143, 0xA1, 6, 4, 4, 0,
    0x40, 0, 0,
];

/// Elements that a token is nested into at most.
const MAX_LEVELS: usize = 12;

/// What may be said beside the ticket; the defaults are for servers that we know nothing about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MintOptions {
    /// With a channel binding, say in the authorization data that we know about bindings (KERB_AP_OPTIONS_CBT).
    pub announce_binding: bool,
    /// With a channel binding, name the service in the authorization data (KERB-AUTH-DATA-CLIENT-TARGET, 144).
    pub client_target: bool,
}

impl Default for MintOptions {
    fn default() -> Self {
        Self { announce_binding: true, client_target: false }
    }
}

/// The random part of one token: confounder, subkey and sequence number; wiped on drop.
pub struct Randomness(Zeroizing<[u8; Self::LENGTH]>);

impl Randomness {
    /// Bytes that one token takes.
    pub const LENGTH: usize = 16 + 32 + 4;

    /// From the operating system, by way of a supply of this thread's: the call costs as much as everything else about a token, and
    /// a supply makes it one call in 32 tokens. What was taken out of the supply is wiped from it.
    pub fn generate() -> Result<Self, getrandom::Error> {
        thread_local! {
            static LEFT: RefCell<Supply> = const { RefCell::new(Supply { bytes: [0; SUPPLY * Randomness::LENGTH], used: SUPPLY }) };
        }
        LEFT.with_borrow_mut(Supply::take)
    }

    /// Chosen bytes, for tests that compare tokens.
    #[doc(hidden)]
    pub fn chosen(bytes: [u8; Self::LENGTH]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    fn confounder(&self, length: usize) -> &[u8] {
        self.0.get(..length).unwrap_or_default()
    }

    fn subkey(&self, length: usize) -> &[u8] {
        self.0.get(16..16 + length).unwrap_or_default()
    }

    /// Below 2^30, as MIT does: some old acceptors treat the number as signed.
    fn sequence_number(&self) -> u32 {
        self.0.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) & 0x3FFF_FFFF
    }
}

/// Random bytes for so many tokens are fetched at a time.
const SUPPLY: usize = 32;

/// Random bytes that no token has had.
struct Supply {
    bytes: [u8; SUPPLY * Randomness::LENGTH],
    /// tokens that were served from it
    used: usize,
}

impl Supply {
    fn take(&mut self) -> Result<Randomness, getrandom::Error> {
        if self.used >= SUPPLY {
            getrandom::fill(&mut self.bytes)?;
            self.used = 0;
        }
        let mut taken = Zeroizing::new([0; Randomness::LENGTH]);
        let place = self.used * Randomness::LENGTH;
        self.used += 1;
        for (to, from) in taken.iter_mut().zip(self.bytes.iter_mut().skip(place)) {
            *to = std::mem::take(from);
        }
        Ok(Randomness(taken))
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Randomness")
    }
}

/// A service ticket prepared for minting: keys derived, constant parts encoded. One of these is what a cache holds per user.
pub struct MintableTicket {
    ticket: ServiceTicket,
    sealing: SealingKeys,
    /// what stands before the ticket in an AP-REQ
    ap_req_head: Box<[u8]>,
    /// authenticator-vno, crealm and cname of every authenticator
    client: Box<[u8]>,
}

impl MintableTicket {
    /// Derives and encodes what every token needs. Refuses a ticket that is not one.
    pub fn new(ticket: ServiceTicket) -> Result<Self, Failure> {
        let unusable = |what: &str| Failure::new(Cause::TicketUnusable, what);
        let parts = TicketParts::parse(&ticket.ticket).map_err(|error| unusable(&format!("the ticket is malformed: {error}")))?;
        if parts.enc_part.etype != ticket.ticket_etype {
            return Err(unusable("the ticket's encryption type is not the one that was reported"));
        }
        if ticket.client.components.is_empty() || ticket.client_realm.is_empty() {
            return Err(unusable("the ticket has no client name"));
        }
        let sealing = SealingKeys::new(&ticket.session_key, usage::AP_REQ_AUTHENTICATOR)
            .map_err(|error| unusable(&format!("the session key is unusable: {error}")))?;
        let mut client = Vec::new();
        asn1::write_explicit_integer(&mut client, 0, 5);
        asn1::write_explicit(&mut client, 1, tag::GENERAL_STRING, ticket.client_realm.as_bytes());
        let mut name = Vec::new();
        asn1::write_principal_name(&mut name, &ticket.client);
        der::write(&mut client, tag::context(2), &name);
        let mut ap_req_head = AP_REQ_HEAD.to_vec();
        der::write_header(&mut ap_req_head, tag::context(3), ticket.ticket.len());
        let ap_req_head = ap_req_head.into();
        Ok(Self { sealing, ap_req_head, client: client.into(), ticket })
    }

    /// The ticket.
    pub fn ticket(&self) -> &ServiceTicket {
        &self.ticket
    }

    /// Bytes of memory that this takes, for a cache's weigher.
    pub fn memory(&self) -> usize {
        let names = [&self.ticket.client, &self.ticket.server];
        let names: usize = names.iter().flat_map(|name| &name.components).map(|text| text.len() + size_of::<Box<str>>()).sum();
        let keys = self.ticket.session_key.expose().len();
        let realms = self.ticket.client_realm.len() + self.ticket.server_realm.len();
        size_of::<Self>() + self.ticket.ticket.len() + self.ap_req_head.len() + self.client.len() + names + realms + keys
    }

    /// A fresh token and what its answer must be. `now` is the system's clock; the token's own time is unique in this process.
    pub fn mint(
        &self,
        now: SystemTime,
        format: TokenFormat,
        binding: Option<&ChannelBinding>,
        options: MintOptions,
    ) -> Result<(Vec<u8>, ApRepExpectation), Failure> {
        let failed = |what: &str| Failure::new(Cause::TokenFailed, what);
        let since_1970 = now.duration_since(UNIX_EPOCH).map_err(|_| failed("the system's clock is before 1970"))?;
        let now = i64::try_from(since_1970.as_micros()).map_err(|_| failed("the system's clock is out of range"))?;
        if now / 1_000_000 >= self.ticket.end_time {
            return Err(failed("the ticket has expired"));
        }
        let time = AuthenticatorClock::next_of_process(now).map_err(|_| failed("no random bytes"))?;
        let random = Randomness::generate().map_err(|_| failed("no random bytes"))?;
        self.mint_with(time, &random, format, binding, options)
    }

    /// The token for this time and these random bytes.
    pub fn mint_with(
        &self,
        time: AuthenticatorTime,
        random: &Randomness,
        format: TokenFormat,
        binding: Option<&ChannelBinding>,
        options: MintOptions,
    ) -> Result<(Vec<u8>, ApRepExpectation), Failure> {
        let etype = self.sealing.etype();
        let authenticator = Authenticator {
            client: &self.client,
            binding: binding.map_or([0; 16], binding_digest),
            time,
            etype: etype.number(),
            subkey: random.subkey(etype.key_length()),
            sequence_number: random.sequence_number(),
            authorization: self.authorization_data(binding.is_some(), options),
        };
        let plaintext = authenticator.length();
        let (mut token, sealed_at) = self.open_token(format, etype.sealed_length(plaintext));
        token.resize(sealed_at + etype.header_length(), 0);
        token.extend_from_slice(random.confounder(etype.confounder_length()));
        authenticator.write(&mut token);
        token.resize(sealed_at + etype.sealed_length(plaintext), 0);
        if let Err(error) = self.sealing.seal(token.get_mut(sealed_at..).unwrap_or_default()) {
            token.zeroize();
            return Err(Failure::new(Cause::TokenFailed, error.to_string()));
        }
        let expectation = ApRepExpectation::new(time, &self.ticket.session_key, authenticator.subkey);
        Ok((token, expectation))
    }

    /// Everything of a token before a ciphertext of this length, in a vector that will not grow, and where the ciphertext begins.
    fn open_token(&self, format: TokenFormat, sealed: usize) -> (Vec<u8>, usize) {
        let encryption_type = [0xA0, 3, 2, 1, self.sealing.etype().number().to_be_bytes()[3]];
        let spnego = spnego::mech_types(format).map(|mech_types| {
            [
                Level::new(framing::FRAME, [framing::SPNEGO_MECHANISM, &[]]),
                Level::new(tag::context(0), [&[], &[]]),
                Level::new(tag::SEQUENCE, [mech_types, &[]]),
                Level::new(tag::context(2), [&[], &[]]),
                Level::new(tag::OCTET_STRING, [&[], &[]]),
            ]
        });
        let kerberos = [
            Level::new(framing::FRAME, [framing::KRB5_MECHANISM, &framing::AP_REQ]),
            Level::new(tag::application(14), [&[], &[]]),
            Level::new(tag::SEQUENCE, [&self.ap_req_head, &self.ticket.ticket]),
            Level::new(tag::context(4), [&[], &[]]),
            Level::new(tag::SEQUENCE, [&encryption_type, &[]]),
            Level::new(tag::context(2), [&[], &[]]),
            Level::new(tag::OCTET_STRING, [&[], &[]]),
        ];
        let levels = spnego.iter().flatten().chain(&kerberos);
        let mut lengths = [0; MAX_LEVELS];
        let mut length = sealed;
        let mut depth = 0;
        for (level, contents) in levels.clone().rev().zip(&mut lengths) {
            *contents = length + level.before.iter().map(|bytes| bytes.len()).sum::<usize>();
            length = element_length(*contents);
            depth += 1;
        }
        let mut token = Vec::with_capacity(length);
        for (level, contents) in levels.zip(lengths.iter().take(depth).rev()) {
            der::write_header(&mut token, level.tag, *contents);
            level.before.iter().for_each(|bytes| token.extend_from_slice(bytes));
        }
        let sealed_at = token.len();
        (token, sealed_at)
    }

    fn authorization_data(&self, bound: bool, options: MintOptions) -> Cow<'static, [u8]> {
        match (bound, options.announce_binding, options.client_target) {
            (false, _, _) | (true, false, false) => Cow::Borrowed(&[]),
            (true, true, false) => Cow::Borrowed(BINDING_ANNOUNCED),
            (true, announce, true) => {
                let target = format!("{}@{}", self.ticket.server, self.ticket.server_realm);
                let target: Vec<u8> = target.encode_utf16().flat_map(u16::to_le_bytes).collect();
                let announcement = (AD_AP_OPTIONS, &AP_OPTIONS_CBT[..]);
                let target = (AD_CLIENT_TARGET, &target[..]);
                Cow::Owned(if announce { authorization_data(&[announcement, target]) } else { authorization_data(&[target]) })
            }
        }
    }
}

impl fmt::Debug for MintableTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MintableTicket").field(&self.ticket).finish()
    }
}

/// An element of a token: its tag, and what stands in it before the next element.
struct Level<'a> {
    tag: u8,
    before: [&'a [u8]; 2],
}

impl<'a> Level<'a> {
    const fn new(tag: u8, before: [&'a [u8]; 2]) -> Self {
        Self { tag, before }
    }
}

/// Authenticator (RFC 4120 section 5.5.1).
struct Authenticator<'a> {
    client: &'a [u8],
    binding: [u8; 16],
    time: AuthenticatorTime,
    etype: i32,
    subkey: &'a [u8],
    sequence_number: u32,
    authorization: Cow<'static, [u8]>,
}

impl Authenticator<'_> {
    fn length(&self) -> usize {
        element_length(element_length(self.fields_length()))
    }

    fn fields_length(&self) -> usize {
        let integer = |value: u32| element_length(element_length(integer_length(i64::from(value))));
        self.client.len()
            + CHECKSUM_HEAD.len()
            + CHECKSUM_TAIL
            + integer(self.time.cusec)
            + CTIME_HEAD.len()
            + CTIME_DIGITS
            + element_length(element_length(self.subkey_fields_length()))
            + integer(self.sequence_number)
            + self.authorization.len()
    }

    fn subkey_fields_length(&self) -> usize {
        element_length(element_length(integer_length(i64::from(self.etype)))) + element_length(element_length(self.subkey.len()))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let fields = self.fields_length();
        der::write_header(out, tag::application(2), element_length(fields));
        der::write_header(out, tag::SEQUENCE, fields);
        out.extend_from_slice(self.client);
        out.extend_from_slice(CHECKSUM_HEAD);
        out.extend_from_slice(&self.binding);
        out.extend_from_slice(&GSS_FLAGS.to_le_bytes());
        asn1::write_explicit_integer(out, 4, i64::from(self.time.cusec));
        out.extend_from_slice(CTIME_HEAD);
        out.extend_from_slice(&der::format_kerberos_time(self.time.ctime));
        let subkey = self.subkey_fields_length();
        der::write_header(out, tag::context(6), element_length(subkey));
        der::write_header(out, tag::SEQUENCE, subkey);
        asn1::write_explicit_integer(out, 0, i64::from(self.etype));
        asn1::write_explicit(out, 1, tag::OCTET_STRING, self.subkey);
        asn1::write_explicit_integer(out, 7, i64::from(self.sequence_number));
        out.extend_from_slice(&self.authorization);
    }
}

/// Bnd: MD5 over initiator and acceptor address types and lengths, all zero, and the application data (RFC 4121 section 4.1.1.2).
fn binding_digest(binding: &ChannelBinding) -> [u8; 16] {
    let data = binding.application_data();
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    crypto::md5(&[&[0; 16], &length.to_le_bytes(), &data])
}

/// authorization-data `[8]`: one AD-IF-RELEVANT with these entries (RFC 4120 section 5.2.6.1).
fn authorization_data(entries: &[(i32, &[u8])]) -> Vec<u8> {
    let entry = |kind: i32, data: &[u8]| {
        let mut fields = Vec::new();
        asn1::write_explicit_integer(&mut fields, 0, i64::from(kind));
        asn1::write_explicit(&mut fields, 1, tag::OCTET_STRING, data);
        sequence(&fields)
    };
    let inner: Vec<u8> = entries.iter().flat_map(|(kind, data)| entry(*kind, data)).collect();
    let mut out = Vec::new();
    der::write(&mut out, tag::context(8), &sequence(&entry(AD_IF_RELEVANT, &sequence(&inner))));
    out
}

fn sequence(contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(element_length(contents.len()));
    der::write(&mut out, tag::SEQUENCE, contents);
    out
}

#[cfg(test)]
mod tests;
