//! Encrypted messages: confounder, plaintext and MAC of one key and usage.
//!
//! ```text
//! 17, 18 (RFC 3962)   E(Ke, confounder | plaintext) | HMAC(Ki, confounder | plaintext)
//! 19, 20 (RFC 8009)   E(Ke, confounder | plaintext) | HMAC(Ki, IV | ciphertext)
//! 23     (RFC 4757)   HMAC(K1, confounder | plaintext) | RC4(HMAC(K1, checksum), confounder | plaintext)
//! ```

use rc4::{KeyInit as _, Rc4, StreamCipher as _};
use zeroize::Zeroizing;

use super::cts::{BLOCK, Decryptor, Encryptor};
use super::derive::{Purpose, derive};
use super::mac::{Mac, md5};
use super::{CryptoError, Etype, Key};
use crate::secret::SecretBytes;

/// RFC 8009 section 5: the cipher state that the MAC covers is always the zero IV here.
const ZERO_IV: [u8; BLOCK] = [0; BLOCK];

/// Length of the RC4 checksum, which is also a key.
const RC4_CHECKSUM: usize = 16;

/// The keys that encrypt under one key and usage, derived once: a message then costs no derivation. Wiped on drop.
pub struct SealingKeys {
    etype: Etype,
    /// none for RC4, whose key is another one for every message
    cipher: Option<Encryptor>,
    /// keyed with Ki, or with K1 of RC4
    mac: Mac,
}

impl SealingKeys {
    /// Derives the keys.
    pub fn new(key: &Key, usage: u32) -> Result<Self, CryptoError> {
        let etype = key.etype();
        let cipher = match etype {
            Etype::Rc4Hmac => None,
            _ => Some(Encryptor::new(derive(key, usage, Purpose::Encryption)?.as_slice())?),
        };
        Ok(Self { etype, cipher, mac: integrity(key, usage)? })
    }

    /// Their encryption type.
    pub fn etype(&self) -> Etype {
        self.etype
    }

    /// Encrypts in place. `message` is [`Etype::header_length`] bytes of room, a random confounder of
    /// [`Etype::confounder_length`], the plaintext and [`Etype::trailer_length`] bytes of room.
    pub fn seal(&self, message: &mut [u8]) -> Result<(), CryptoError> {
        let Frame { header, body, trailer } = Frame::split(self.etype, message)?;
        match &self.cipher {
            None => {
                self.mac.compute(&[body], header);
                rc4(&self.mac, header, body)?;
            }
            Some(cipher) if self.etype.encrypts_then_macs() => {
                cipher.encrypt(body)?;
                self.mac.compute(&[&ZERO_IV, body], trailer);
            }
            Some(cipher) => {
                self.mac.compute(&[body], trailer);
                cipher.encrypt(body)?;
            }
        }
        Ok(())
    }
}

/// Checks and decrypts a message; the plaintext leaves this function only after its MAC was found right.
pub(super) fn open(key: &Key, usage: u32, message: &[u8]) -> Result<SecretBytes, CryptoError> {
    let etype = key.etype();
    let mac = integrity(key, usage)?;
    let mut message = Zeroizing::new(message.to_vec());
    let Frame { header, body, trailer } = Frame::split(etype, &mut message)?;
    if etype == Etype::Rc4Hmac {
        rc4(&mac, header, body)?;
        mac.verify(&[body], header)?;
    } else {
        let cipher = Decryptor::new(derive(key, usage, Purpose::Encryption)?.as_slice())?;
        if etype.encrypts_then_macs() {
            mac.verify(&[&ZERO_IV, body], trailer)?;
            cipher.decrypt(body)?;
        } else {
            cipher.decrypt(body)?;
            mac.verify(&[body], trailer)?;
        }
    }
    let plaintext = body.get(etype.confounder_length()..).unwrap_or_default();
    Ok(SecretBytes::new(plaintext.to_vec()))
}

/// The checksum of the key's own type over `data` (RFC 3961 section 5.4, RFC 8009 section 6, RFC 4757 section 4).
pub(super) struct Checksum<'a> {
    mac: Mac,
    data: &'a [u8],
    /// RC4 signs a digest in the place of the data.
    digest: Option<[u8; RC4_CHECKSUM]>,
}

impl<'a> Checksum<'a> {
    pub(super) fn new(key: &Key, usage: u32, data: &'a [u8]) -> Result<Self, CryptoError> {
        let etype = key.etype();
        if etype != Etype::Rc4Hmac {
            let mac = Mac::new(etype, derive(key, usage, Purpose::Checksum)?.as_slice())?;
            return Ok(Self { mac, data, digest: None });
        }
        let mut signing_key = Zeroizing::new([0; RC4_CHECKSUM]);
        Mac::new(etype, key.expose())?.compute(&[b"signaturekey\0"], signing_key.as_mut_slice());
        let digest = md5(&[&rc4_usage(usage).to_le_bytes(), data]);
        Ok(Self { mac: Mac::new(etype, signing_key.as_slice())?, data, digest: Some(digest) })
    }

    fn signed(&self) -> &[u8] {
        self.digest.as_ref().map_or(self.data, <[u8; RC4_CHECKSUM]>::as_slice)
    }

    pub(super) fn compute(&self, out: &mut [u8]) {
        self.mac.compute(&[self.signed()], out);
    }

    pub(super) fn verify(&self, tag: &[u8]) -> Result<(), CryptoError> {
        self.mac.verify(&[self.signed()], tag)
    }
}

/// HMAC keyed with Ki, or with K1 of RC4.
fn integrity(key: &Key, usage: u32) -> Result<Mac, CryptoError> {
    let etype = key.etype();
    if etype == Etype::Rc4Hmac {
        let mut k1 = Zeroizing::new([0; RC4_CHECKSUM]);
        Mac::new(etype, key.expose())?.compute(&[&rc4_usage(usage).to_le_bytes()], k1.as_mut_slice());
        return Mac::new(etype, k1.as_slice());
    }
    Mac::new(etype, derive(key, usage, Purpose::Integrity)?.as_slice())
}

/// RC4 under K3 = HMAC(K1, checksum), both ways.
fn rc4(k1: &Mac, checksum: &[u8], body: &mut [u8]) -> Result<(), CryptoError> {
    let mut k3 = Zeroizing::new([0; RC4_CHECKSUM]);
    k1.compute(&[checksum], k3.as_mut_slice());
    let mut cipher = Rc4::new_from_slice(k3.as_slice()).map_err(|_| CryptoError::KeyLength)?;
    cipher.apply_keystream(body);
    Ok(())
}

/// Windows' message type of a key usage (RFC 4757 section 3, as both Windows and MIT do it): 11 and 12 among others are
/// themselves.
const fn rc4_usage(usage: u32) -> u32 {
    match usage {
        3 => 8,
        23 => 13,
        other => other,
    }
}

/// The three parts of a message.
struct Frame<'a> {
    header: &'a mut [u8],
    body: &'a mut [u8],
    trailer: &'a mut [u8],
}

impl<'a> Frame<'a> {
    fn split(etype: Etype, message: &'a mut [u8]) -> Result<Self, CryptoError> {
        let (header, rest) = message.split_at_mut_checked(etype.header_length()).ok_or(CryptoError::TooShort)?;
        let body = rest.len().checked_sub(etype.trailer_length()).ok_or(CryptoError::TooShort)?;
        if body < etype.confounder_length() {
            return Err(CryptoError::TooShort);
        }
        let (body, trailer) = rest.split_at_mut_checked(body).ok_or(CryptoError::TooShort)?;
        Ok(Self { header, body, trailer })
    }
}
