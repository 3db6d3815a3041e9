//! AP-REP: the back end's proof that it holds the service's key and answered this very token (RFC 4120 section 5.5.2).

#[cfg(fuzzing)]
pub(crate) mod fuzzing;

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::der::{self, DerError, Reader, tag};
use crate::failure::{Cause, Failure};
use crate::kerberos::wire::asn1::{self, EncryptedData};
use crate::kerberos::wire::authenticator_clock::AuthenticatorTime;
use crate::kerberos::wire::crypto::{Etype, Key, usage};
use crate::kerberos::wire::framing;
use crate::secret::SecretBytes;

/// What the AP-REP that answers one token must say. Consumed by the answer: one token, one answer.
pub struct ApRepExpectation {
    time: AuthenticatorTime,
    etype: Etype,
    /// the session key and our subkey
    keys: Box<Keys>,
}

/// Keys of at most 32 bytes in a place of their own, where they are wiped: an expectation moves from hand to hand, and shares nothing
/// with other threads.
#[derive(Default, Zeroize, ZeroizeOnDrop)]
struct Keys {
    session: [u8; 32],
    subkey: [u8; 32],
}

/// A server that has proved itself.
#[derive(Debug)]
pub struct ProvedServer {
    /// Key of per-message tokens: the acceptor's subkey, else ours. None if the acceptor's is of a type that we do not have.
    context_key: Option<Key>,
    /// whether that is the acceptor's
    acceptor_subkey: bool,
}

impl ProvedServer {
    /// Proved by the library, which keeps the context's key to itself: no MIC can be verified.
    pub(in crate::kerberos) const fn without_key() -> Self {
        Self { context_key: None, acceptor_subkey: false }
    }
}

impl ApRepExpectation {
    pub(in crate::kerberos) fn new(time: AuthenticatorTime, session_key: &Key, subkey: &[u8]) -> Self {
        let mut keys = Box::<Keys>::default();
        keys.session.iter_mut().zip(session_key.expose()).for_each(|(to, from)| *to = *from);
        keys.subkey.iter_mut().zip(subkey).for_each(|(to, from)| *to = *from);
        Self { time, etype: session_key.etype(), keys }
    }

    /// Time of the authenticator.
    pub fn time(&self) -> AuthenticatorTime {
        self.time
    }

    /// Verifies a framed AP-REP token (`02 00`): decrypts with the session key and compares the times.
    pub fn verify(self, token: &[u8]) -> Result<ProvedServer, Failure> {
        let invalid = |error: DerError| Failure::new(Cause::NegotiationInvalid, format!("malformed AP-REP token: {error}"));
        match framing::unframe_kerberos(token).map_err(invalid)? {
            (framing::AP_REP, message) => self.verify_message(message),
            (id, _) => Err(Failure::new(
                Cause::NegotiationInvalid,
                format!("token {:02x} {:02x} where an AP-REP was expected", id[0], id[1]),
            )),
        }
    }

    /// Verifies an AP-REP without its frame.
    pub(in crate::kerberos) fn verify_message(self, message: &[u8]) -> Result<ProvedServer, Failure> {
        self.check_message(message)
    }

    /// The same without using the expectation up, for a recording: it decides nothing.
    pub(in crate::kerberos) fn check_message(&self, message: &[u8]) -> Result<ProvedServer, Failure> {
        let plaintext = self.decrypt(message)?;
        let part = EncApRepPart::parse(plaintext.expose()).map_err(|error| failed(format!("malformed EncAPRepPart: {error}")))?;
        if part.time != self.time {
            return Err(failed("the AP-REP answers another authenticator".into()));
        }
        let (context_key, acceptor_subkey) = match part.subkey {
            Some((etype, bytes)) => (key(Etype::from_number(etype), bytes), true),
            None => (key(Some(self.etype), self.of_key_length(&self.keys.subkey)), false),
        };
        Ok(ProvedServer { context_key, acceptor_subkey })
    }

    /// EncAPRepPart as it came, whatever it says.
    pub(in crate::kerberos) fn decrypt(&self, message: &[u8]) -> Result<SecretBytes, Failure> {
        let encrypted =
            enc_part(message).map_err(|error| Failure::new(Cause::NegotiationInvalid, format!("malformed AP-REP: {error}")))?;
        if encrypted.etype != self.etype.number() {
            let expected = self.etype.number();
            return Err(failed(format!(
                "the AP-REP is encrypted with type {} and not with the session key's {expected}",
                encrypted.etype
            )));
        }
        let session_key = key(Some(self.etype), self.of_key_length(&self.keys.session))
            .ok_or_else(|| failed("the session key has the wrong length".into()))?;
        session_key
            .decrypt(usage::AP_REP, encrypted.cipher)
            .map_err(|error| failed(format!("the AP-REP does not decrypt with the session key: {error}")))
    }

    /// As many bytes as a key of this encryption type has.
    fn of_key_length<'a>(&self, bytes: &'a [u8; 32]) -> &'a [u8] {
        bytes.get(..self.etype.key_length()).unwrap_or_default()
    }
}

impl fmt::Debug for ApRepExpectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApRepExpectation").field("time", &self.time).finish_non_exhaustive()
    }
}

impl ProvedServer {
    /// Verifies a MIC token of the acceptor over `message` (RFC 4121 section 4.2.6.1). Its sequence number is not looked at: the
    /// key is this context's own. RC4 contexts have another format (RFC 4757 section 7.2) that nothing needs; refused.
    pub fn verify_mic(&self, message: &[u8], token: &[u8]) -> bool {
        const SENT_BY_ACCEPTOR: u8 = 0x01;
        const ACCEPTOR_SUBKEY: u8 = 0x04;
        let Some(key) = self.context_key.as_ref().filter(|key| key.etype() != Etype::Rc4Hmac) else {
            return false;
        };
        let Some((header, checksum)) = token.split_first_chunk::<16>() else {
            return false;
        };
        let flags = if self.acceptor_subkey { SENT_BY_ACCEPTOR | ACCEPTOR_SUBKEY } else { SENT_BY_ACCEPTOR };
        let [0x04, 0x04, found, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, ..] = *header else {
            return false;
        };
        let signed = [message, header].concat();
        found == flags && key.verify_checksum(usage::ACCEPTOR_SIGN, key.etype().checksum_type(), &signed, checksum).is_ok()
    }
}

fn failed(what: String) -> Failure {
    Failure::new(Cause::MutualFailed, what)
}

fn key(etype: Option<Etype>, bytes: &[u8]) -> Option<Key> {
    Key::new(etype?, SecretBytes::new(bytes.to_vec())).ok()
}

/// The encrypted part of an AP-REP.
pub(in crate::kerberos) fn enc_part(message: &[u8]) -> Result<EncryptedData<'_>, DerError> {
    let mut fields = Reader::new(der::only(der::only(message, tag::application(15))?, tag::SEQUENCE)?);
    let pvno = der::integer(fields.explicit(0, tag::INTEGER)?)?;
    let msg_type = der::integer(fields.explicit(1, tag::INTEGER)?)?;
    if (pvno, msg_type) != (5, 15) {
        return Err(DerError::Value);
    }
    let mut enc_part = fields.nested(tag::context(2))?;
    fields.finish()?;
    let encrypted = EncryptedData::read(&mut enc_part)?;
    enc_part.finish()?;
    Ok(encrypted)
}

struct EncApRepPart<'a> {
    time: AuthenticatorTime,
    /// encryption type and bytes
    subkey: Option<(i32, &'a [u8])>,
}

impl<'a> EncApRepPart<'a> {
    fn parse(plaintext: &'a [u8]) -> Result<Self, DerError> {
        let mut fields = Reader::new(der::only(der::only(plaintext, tag::application(27))?, tag::SEQUENCE)?);
        let ctime = der::kerberos_time(fields.explicit(0, tag::GENERALIZED_TIME)?)?;
        let cusec = der::unsigned32(fields.explicit(1, tag::INTEGER)?)?;
        let subkey = fields.explicit_optional(2, tag::SEQUENCE)?.map(asn1::key_fields).transpose()?;
        fields.explicit_optional(3, tag::INTEGER)?.map(der::unsigned32).transpose()?;
        fields.finish()?;
        Ok(Self { time: AuthenticatorTime { ctime, cusec }, subkey })
    }
}

#[cfg(test)]
pub(crate) mod tests;
