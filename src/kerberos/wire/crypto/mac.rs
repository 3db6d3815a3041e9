//! HMAC over the hash of an encryption type, truncated to what its messages carry.

use hmac::{Hmac, KeyInit};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::{Sha256, Sha384};

use super::{CryptoError, Etype};

/// HMAC with its key already absorbed; wiped on drop.
#[derive(Clone)]
pub(super) enum Mac {
    Md5(Hmac<Md5>),
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
}

impl Mac {
    /// The HMAC of this encryption type.
    pub(super) fn new(etype: Etype, key: &[u8]) -> Result<Self, CryptoError> {
        match etype {
            Etype::Rc4Hmac => Hmac::new_from_slice(key).map(Self::Md5),
            Etype::Aes128Sha1 | Etype::Aes256Sha1 => Hmac::new_from_slice(key).map(Self::Sha1),
            Etype::Aes128Sha2 => Hmac::new_from_slice(key).map(Self::Sha256),
            Etype::Aes256Sha2 => Hmac::new_from_slice(key).map(Self::Sha384),
        }
        .map_err(|_| CryptoError::KeyLength)
    }

    /// HMAC of the concatenated parts; its first bytes go to `out`, as many as fit.
    pub(super) fn compute(&self, parts: &[&[u8]], out: &mut [u8]) {
        fn run<M: hmac::Mac + Clone>(mac: &M, parts: &[&[u8]], out: &mut [u8]) {
            let mac = parts.iter().fold(mac.clone(), M::chain_update);
            out.iter_mut().zip(mac.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
        }
        match self {
            Self::Md5(mac) => run(mac, parts, out),
            Self::Sha1(mac) => run(mac, parts, out),
            Self::Sha256(mac) => run(mac, parts, out),
            Self::Sha384(mac) => run(mac, parts, out),
        }
    }

    /// Compares a truncated HMAC in constant time. The caller answers for the tag's length.
    pub(super) fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> Result<(), CryptoError> {
        fn run<M: hmac::Mac + Clone>(mac: &M, parts: &[&[u8]], tag: &[u8]) -> Result<(), CryptoError> {
            let mac = parts.iter().fold(mac.clone(), M::chain_update);
            mac.verify_truncated_left(tag).map_err(|_| CryptoError::Integrity)
        }
        match self {
            Self::Md5(mac) => run(mac, parts, tag),
            Self::Sha1(mac) => run(mac, parts, tag),
            Self::Sha256(mac) => run(mac, parts, tag),
            Self::Sha384(mac) => run(mac, parts, tag),
        }
    }
}

/// MD5 of the concatenated parts: for the two places where the protocols demand it, RC4's signatures and channel bindings.
pub(in crate::kerberos) fn md5(parts: &[&[u8]]) -> [u8; 16] {
    parts.iter().fold(Md5::new(), Digest::chain_update).finalize().into()
}
