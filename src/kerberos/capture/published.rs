//! Keys and times that everybody may know: captures are made again with them, so that they can be read without any secret.

use crate::kerberos::wire::ap_rep::ApRepExpectation;
use crate::kerberos::wire::authenticator_clock::AuthenticatorTime;
use crate::kerberos::wire::crypto::{Etype, Key};
use crate::secret::SecretBytes;

use super::EXAMPLE_TIME;

/// Of the authenticator that every captured AP-REP answers.
pub(super) const TIME: AuthenticatorTime = AuthenticatorTime { ctime: EXAMPLE_TIME, cusec: 123_456 };
/// Of every captured AP-REP.
pub(super) const CONFOUNDER: [u8; 16] = [0x2A; 16];

/// The service's long-term key, which signs captured PACs: 0x21 throughout.
pub(super) fn service_key(etype: Etype) -> Option<Key> {
    key(etype, 0x21)
}

/// The session key: 0x22 throughout.
pub(super) fn session_key(etype: Etype) -> Option<Key> {
    key(etype, 0x22)
}

/// The initiator's subkey: 0x23 throughout.
pub(super) fn own_subkey(etype: Etype) -> Option<Key> {
    key(etype, 0x23)
}

/// The acceptor's subkey: 0x24 throughout.
pub(super) fn acceptor_subkey(etype: Etype) -> Option<Key> {
    key(etype, 0x24)
}

/// What verifies a captured AP-REP.
pub(super) fn expectation(etype: Etype) -> Option<ApRepExpectation> {
    let (session, subkey) = (session_key(etype)?, own_subkey(etype)?);
    Some(ApRepExpectation::new(TIME, &session, subkey.expose()))
}

fn key(etype: Etype, byte: u8) -> Option<Key> {
    Key::new(etype, SecretBytes::new(vec![byte; etype.key_length()])).ok()
}
