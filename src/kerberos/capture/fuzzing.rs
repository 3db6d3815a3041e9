//! The copiers: whatever they give back is read by our decoders.

use super::pseudonyms::Pseudonyms;
use super::{answer, examine, krb_error, pac as pac_copier, published};
use crate::kerberos::wire::crypto::Etype;
use crate::policy::TokenFormat;

fn names() -> Pseudonyms {
    Pseudonyms::new("CORP.EXAMPLE")
}

pub(crate) fn error(bytes: &[u8]) {
    if let Ok(copy) = krb_error::redact(bytes, &mut names()) {
        assert!(examine("krb-error", &copy).is_ok());
    }
}

pub(crate) fn pac(bytes: &[u8]) {
    let _ = pac_copier::redact(bytes, &mut names());
    let _ = examine("pac", bytes);
}

pub(crate) fn answer(bytes: &[u8]) {
    for format in [TokenFormat::Spnego, TokenFormat::Kerberos] {
        if let Some(expectation) = published::expectation(Etype::Aes256Sha1) {
            let _ = answer::negotiation(bytes, &expectation, format, &mut names());
        }
    }
    let value = ["Negotiate ", &base64_simd::STANDARD.encode_to_string(bytes)].concat();
    let _ = examine("answer", value.as_bytes());
}
