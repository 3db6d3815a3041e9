use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::kerberos::wire::crypto::tests::ETYPES;
use crate::kerberos::wire::inspect::{Authenticator, open_ap_req};
use crate::kerberos::wire::krb_error::tests as krb_error;
use crate::kerberos::wire::mint::{MintOptions, MintableTicket};
use crate::kerberos::wire::ticket::tests::service_ticket;
use crate::policy::TokenFormat;

/// A back end that knows the session key, as if it had decrypted the ticket.
pub(crate) struct Acceptor {
    pub(crate) session_key: Key,
    pub(crate) authenticator: Authenticator,
    /// encryption type and bytes of the subkey it asserts
    pub(crate) subkey: Option<(i32, Vec<u8>)>,
}

impl Acceptor {
    /// Accepts a token.
    pub(crate) fn accept(ticket: &MintableTicket, token: &[u8]) -> Self {
        let session_key = ticket.ticket().session_key.clone();
        let authenticator = open_ap_req(token, &session_key).unwrap().authenticator;
        let subkey = Some((session_key.etype().number(), vec![0x77; session_key.etype().key_length()]));
        Self { session_key, authenticator, subkey }
    }

    /// The framed AP-REP.
    pub(crate) fn ap_rep(&self) -> Vec<u8> {
        let time = self.authenticator.time;
        let mut fields = Vec::new();
        asn1::write_explicit(&mut fields, 0, tag::GENERALIZED_TIME, &der::format_kerberos_time(time.ctime));
        asn1::write_explicit_integer(&mut fields, 1, i64::from(time.cusec));
        if let Some((etype, bytes)) = &self.subkey {
            let mut key = Vec::new();
            asn1::write_explicit_integer(&mut key, 0, i64::from(*etype));
            asn1::write_explicit(&mut key, 1, tag::OCTET_STRING, bytes);
            asn1::write_explicit(&mut fields, 2, tag::SEQUENCE, &key);
        }
        // As Windows writes numbers with the top bit set.
        asn1::write_explicit_integer(&mut fields, 3, -5);
        self.seal(&nested(&[tag::application(27), tag::SEQUENCE], &fields), self.session_key.etype().number(), usage::AP_REP)
    }

    /// A framed AP-REP around this plaintext.
    pub(crate) fn seal(&self, plaintext: &[u8], etype: i32, key_usage: u32) -> Vec<u8> {
        let cipher = self.session_key.encrypt(key_usage, plaintext).unwrap();
        let mut encrypted = Vec::new();
        asn1::write_explicit_integer(&mut encrypted, 0, i64::from(etype));
        asn1::write_explicit(&mut encrypted, 2, tag::OCTET_STRING, &cipher);
        let mut fields = Vec::new();
        asn1::write_explicit_integer(&mut fields, 0, 5);
        asn1::write_explicit_integer(&mut fields, 1, 15);
        asn1::write_explicit(&mut fields, 2, tag::SEQUENCE, &encrypted);
        framed(framing::AP_REP, &nested(&[tag::application(15), tag::SEQUENCE], &fields))
    }

    /// A MIC token with these flags (RFC 4121 section 4.2.6.1).
    pub(crate) fn mic(&self, message: &[u8], flags: u8) -> Vec<u8> {
        let (etype, bytes) = self.subkey.clone().or_else(|| self.authenticator.subkey.clone()).unwrap();
        let key = Key::new(Etype::from_number(etype).unwrap(), SecretBytes::new(bytes)).unwrap();
        let mut token = vec![4, 4, flags, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 9];
        let checksum = key.checksum(usage::ACCEPTOR_SIGN, &[message, &token].concat()).unwrap();
        token.extend(checksum);
        token
    }
}

/// A framed Kerberos token.
pub(crate) fn framed(id: [u8; 2], message: &[u8]) -> Vec<u8> {
    nested(&[framing::FRAME], &[framing::KRB5_MECHANISM, &id, message].concat())
}

/// Contents inside elements of these tags, outermost first.
pub(crate) fn nested(tags: &[u8], contents: &[u8]) -> Vec<u8> {
    tags.iter().rev().fold(contents.to_vec(), |contents, &tag| {
        let mut out = Vec::new();
        der::write(&mut out, tag, &contents);
        out
    })
}

/// A KRB-ERROR as a framed token.
pub(crate) fn error_token(code: i32) -> Vec<u8> {
    framed(framing::KRB_ERROR, &krb_error::message(code, None))
}

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_323_045)
}

fn exchange(etype: Etype) -> (Acceptor, ApRepExpectation) {
    let ticket = MintableTicket::new(service_ticket("alice", etype, 0x21, 200)).unwrap();
    let (token, expectation) = ticket.mint(now(), TokenFormat::Kerberos, None, MintOptions::default()).unwrap();
    (Acceptor::accept(&ticket, &token), expectation)
}

fn cause(result: Result<ProvedServer, Failure>) -> Cause {
    result.unwrap_err().cause
}

#[test]
fn the_answer_to_our_token_is_verified_for_every_encryption_type() {
    for etype in ETYPES {
        let (acceptor, expectation) = exchange(etype);
        let server = expectation.verify(&acceptor.ap_rep()).unwrap();
        assert!(server.acceptor_subkey, "{etype:?}");
    }
}

#[test]
fn an_acceptor_subkey_of_another_or_unknown_encryption_type_is_tolerated() {
    for (subkey, known) in [(Some((23, vec![1; 16])), true), (Some((3, vec![1; 8])), false), (None, true)] {
        let (mut acceptor, expectation) = exchange(Etype::Aes256Sha1);
        acceptor.subkey = subkey;
        assert_eq!(expectation.verify(&acceptor.ap_rep()).unwrap().context_key.is_some(), known);
    }
}

#[test]
fn another_time_is_refused_to_the_microsecond() {
    for (seconds, microseconds) in [(1, 0), (-1, 0), (0, 1)] {
        let (mut acceptor, expectation) = exchange(Etype::Aes128Sha1);
        acceptor.authenticator.time.ctime += seconds;
        acceptor.authenticator.time.cusec = (acceptor.authenticator.time.cusec + microseconds) % 1_000_000;
        assert_eq!(cause(expectation.verify(&acceptor.ap_rep())), Cause::MutualFailed);
    }
}

#[test]
fn the_answer_to_another_token_of_the_same_ticket_is_refused() {
    for etype in ETYPES {
        let ticket = MintableTicket::new(service_ticket("alice", etype, 0x21, 200)).unwrap();
        let mint = || ticket.mint(now(), TokenFormat::Kerberos, None, MintOptions::default()).unwrap();
        let ((first_token, first), (second_token, second)) = (mint(), mint());
        let [to_first, to_second] = [first_token, second_token].map(|token| Acceptor::accept(&ticket, &token).ap_rep());
        assert_eq!(cause(first.verify(&to_second)), Cause::MutualFailed);
        assert_eq!(cause(second.verify(&to_first)), Cause::MutualFailed);
    }
}

#[test]
fn the_answer_to_another_user_is_refused() {
    let (acceptor, _) = exchange(Etype::Aes256Sha1);
    let other = MintableTicket::new(service_ticket("bob", Etype::Aes256Sha1, 0x22, 200)).unwrap();
    let (token, expectation) = other.mint(now(), TokenFormat::Kerberos, None, MintOptions::default()).unwrap();
    let mut acceptor_for_bob = Acceptor::accept(&other, &token);
    acceptor_for_bob.session_key = acceptor.session_key;
    assert_eq!(cause(expectation.verify(&acceptor_for_bob.ap_rep())), Cause::MutualFailed);
}

#[test]
fn an_ap_rep_under_another_usage_or_encryption_type_is_refused() {
    let (acceptor, expectation) = exchange(Etype::Aes256Sha1);
    assert_eq!(cause(expectation.verify(&acceptor.seal(b"x", 18, usage::AP_REQ_AUTHENTICATOR))), Cause::MutualFailed);
    let (acceptor, expectation) = exchange(Etype::Aes256Sha1);
    assert_eq!(cause(expectation.verify(&acceptor.seal(b"x", 20, usage::AP_REP))), Cause::MutualFailed);
    let (acceptor, expectation) = exchange(Etype::Aes256Sha1);
    assert_eq!(cause(expectation.verify(&acceptor.seal(b"x", 18, usage::AP_REP))), Cause::MutualFailed);
}

#[test]
fn anything_but_an_ap_rep_token_is_malformed() {
    let (acceptor, _) = exchange(Etype::Aes256Sha1);
    let good = acceptor.ap_rep();
    let trailing = [&good[..], &[0]].concat();
    let foreign = nested(&[framing::FRAME], &[framing::SPNEGO_MECHANISM, &framing::AP_REP, b"x"].concat());
    for token in [b"".to_vec(), trailing, foreign, framed(framing::AP_REQ, b"x"), framed(framing::AP_REP, b"x"), error_token(41)]
    {
        let (_, expectation) = exchange(Etype::Aes256Sha1);
        assert_eq!(cause(expectation.verify(&token)), Cause::NegotiationInvalid, "{token:02x?}");
    }
}

#[test]
fn a_mic_of_the_acceptor_is_verified_with_its_subkey_or_else_ours() {
    for etype in ETYPES.into_iter().filter(|etype| *etype != Etype::Rc4Hmac) {
        let (acceptor, expectation) = exchange(etype);
        let server = expectation.verify(&acceptor.ap_rep()).unwrap();
        let mic = acceptor.mic(b"list", 0x05);
        assert!(server.verify_mic(b"list", &mic));
        assert!(!server.verify_mic(b"other", &mic));
        assert!(!server.verify_mic(b"list", &acceptor.mic(b"list", 0x01)));
        assert!(!server.verify_mic(b"list", &acceptor.mic(b"list", 0x04)));
        assert!((0..mic.len()).all(|length| !server.verify_mic(b"list", &mic[..length])));

        let (mut acceptor, expectation) = exchange(etype);
        acceptor.subkey = None;
        let server = expectation.verify(&acceptor.ap_rep()).unwrap();
        assert!(server.verify_mic(b"list", &acceptor.mic(b"list", 0x01)));
        assert!(!server.verify_mic(b"list", &acceptor.mic(b"list", 0x05)));
    }
}

#[test]
fn a_mic_in_an_rc4_context_is_never_taken_for_verified() {
    let (acceptor, expectation) = exchange(Etype::Rc4Hmac);
    let server = expectation.verify(&acceptor.ap_rep()).unwrap();
    assert!(!server.verify_mic(b"list", &acceptor.mic(b"list", 0x05)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_prove_a_server(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, expectation) = exchange(Etype::Aes128Sha2);
        prop_assert!(expectation.verify(&bytes).is_err());
        let (_, expectation) = exchange(Etype::Aes128Sha2);
        prop_assert!(expectation.verify_message(&bytes).is_err());
    }

    #[test]
    fn a_plaintext_of_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let (acceptor, expectation) = exchange(Etype::Rc4Hmac);
        prop_assert!(expectation.verify(&acceptor.seal(&bytes, 23, usage::AP_REP)).is_err());
    }

    #[test]
    fn a_mutated_ciphertext_never_proves_a_server(at in 0_usize..60, mask in 1_u8..) {
        for etype in ETYPES {
            let (acceptor, expectation) = exchange(etype);
            let mut token = acceptor.ap_rep();
            let length = token.len();
            token[length - 1 - at] ^= mask;
            prop_assert_eq!(cause(expectation.verify(&token)), Cause::MutualFailed);
        }
    }
}
