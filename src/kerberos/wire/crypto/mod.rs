//! Kerberos encryption types 17, 18 (RFC 3962), 19, 20 (RFC 8009) and 23 (RFC 4757): encrypt, decrypt, checksum.

mod cts;
mod derive;
mod mac;
mod message;

use thiserror::Error;

use crate::secret::SecretBytes;

pub(in crate::kerberos) use mac::md5;
use message::Checksum;
pub use message::SealingKeys;

/// Checksum types (IANA Kerberos checksum types, RFC 4757 section 4).
pub mod checksum_type {
    /// hmac-sha1-96-aes128
    pub const HMAC_SHA1_96_AES128: i32 = 15;
    /// hmac-sha1-96-aes256
    pub const HMAC_SHA1_96_AES256: i32 = 16;
    /// hmac-sha256-128-aes128
    pub const HMAC_SHA256_128_AES128: i32 = 19;
    /// hmac-sha384-192-aes256
    pub const HMAC_SHA384_192_AES256: i32 = 20;
    /// KERB_CHECKSUM_HMAC_MD5
    pub const HMAC_MD5: i32 = -138;
}

/// Key usage numbers used here (RFC 4120 section 7.5.1, RFC 4121 section 2, MS-PAC 2.8).
pub mod usage {
    /// Ticket, encrypted with the service's key
    pub const TICKET: u32 = 2;
    /// Authenticator of an AP-REQ, encrypted with the session key
    pub const AP_REQ_AUTHENTICATOR: u32 = 11;
    /// Encrypted part of an AP-REP
    pub const AP_REP: u32 = 12;
    /// PAC signatures
    pub const PAC: u32 = 17;
    /// GSS MIC tokens of the acceptor
    pub const ACCEPTOR_SIGN: u32 = 23;
    /// GSS MIC tokens of the initiator
    pub const INITIATOR_SIGN: u32 = 25;
}

/// An encryption type we mint and decrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Etype {
    /// aes128-cts-hmac-sha1-96
    Aes128Sha1,
    /// aes256-cts-hmac-sha1-96
    Aes256Sha1,
    /// aes128-cts-hmac-sha256-128
    Aes128Sha2,
    /// aes256-cts-hmac-sha384-192
    Aes256Sha2,
    /// arcfour-hmac (weak: only where a back end allows it by name)
    Rc4Hmac,
}

impl Etype {
    /// Every one of them.
    pub const ALL: [Self; 5] = [Self::Aes128Sha1, Self::Aes256Sha1, Self::Aes128Sha2, Self::Aes256Sha2, Self::Rc4Hmac];

    /// The etype of an assigned number, if it is one of ours.
    pub const fn from_number(number: i32) -> Option<Self> {
        match number {
            17 => Some(Self::Aes128Sha1),
            18 => Some(Self::Aes256Sha1),
            19 => Some(Self::Aes128Sha2),
            20 => Some(Self::Aes256Sha2),
            23 => Some(Self::Rc4Hmac),
            _ => None,
        }
    }

    /// Assigned number (IANA Kerberos encryption types).
    pub const fn number(self) -> i32 {
        match self {
            Self::Aes128Sha1 => 17,
            Self::Aes256Sha1 => 18,
            Self::Aes128Sha2 => 19,
            Self::Aes256Sha2 => 20,
            Self::Rc4Hmac => 23,
        }
    }

    /// Name as MIT and the RFCs write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Sha1 => "aes128-cts-hmac-sha1-96",
            Self::Aes256Sha1 => "aes256-cts-hmac-sha1-96",
            Self::Aes128Sha2 => "aes128-cts-hmac-sha256-128",
            Self::Aes256Sha2 => "aes256-cts-hmac-sha384-192",
            Self::Rc4Hmac => "arcfour-hmac",
        }
    }

    /// The etype that MIT and the RFCs call so, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Aes128Sha1, Self::Aes256Sha1, Self::Aes128Sha2, Self::Aes256Sha2, Self::Rc4Hmac];
        all.into_iter().find(|etype| etype.name() == name)
    }

    /// Name of an assigned number, or the number itself where it is none of ours.
    pub fn name_of(number: i32) -> String {
        Self::from_number(number).map_or_else(|| number.to_string(), |etype| etype.name().to_owned())
    }

    /// Length of a key in bytes.
    pub const fn key_length(self) -> usize {
        match self {
            Self::Aes128Sha1 | Self::Aes128Sha2 | Self::Rc4Hmac => 16,
            Self::Aes256Sha1 | Self::Aes256Sha2 => 32,
        }
    }

    /// The checksum type that goes with it.
    pub const fn checksum_type(self) -> i32 {
        match self {
            Self::Aes128Sha1 => checksum_type::HMAC_SHA1_96_AES128,
            Self::Aes256Sha1 => checksum_type::HMAC_SHA1_96_AES256,
            Self::Aes128Sha2 => checksum_type::HMAC_SHA256_128_AES128,
            Self::Aes256Sha2 => checksum_type::HMAC_SHA384_192_AES256,
            Self::Rc4Hmac => checksum_type::HMAC_MD5,
        }
    }

    /// Length of a checksum in bytes.
    pub const fn checksum_length(self) -> usize {
        match self {
            Self::Aes128Sha1 | Self::Aes256Sha1 => 12,
            Self::Aes128Sha2 | Self::Rc4Hmac => 16,
            Self::Aes256Sha2 => 24,
        }
    }

    /// Length of what stands before the confounder in an encrypted message.
    pub const fn header_length(self) -> usize {
        match self {
            Self::Rc4Hmac => self.checksum_length(),
            _ => 0,
        }
    }

    /// Length of the random bytes that an encrypted message's plaintext begins with.
    pub const fn confounder_length(self) -> usize {
        match self {
            Self::Rc4Hmac => 8,
            _ => 16,
        }
    }

    /// Length of what stands behind the plaintext in an encrypted message.
    pub const fn trailer_length(self) -> usize {
        match self {
            Self::Rc4Hmac => 0,
            _ => self.checksum_length(),
        }
    }

    /// Length of the encrypted message for a plaintext of this length.
    pub const fn sealed_length(self, plaintext: usize) -> usize {
        self.header_length() + self.confounder_length() + plaintext + self.trailer_length()
    }

    /// RFC 8009 computes the MAC over the ciphertext, all others over the plaintext.
    const fn encrypts_then_macs(self) -> bool {
        matches!(self, Self::Aes128Sha2 | Self::Aes256Sha2)
    }
}

/// Why a cryptographic operation failed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CryptoError {
    /// Key length does not fit the encryption type.
    #[error("key length does not fit the encryption type")]
    KeyLength,
    /// Ciphertext or checksum too short.
    #[error("too short")]
    TooShort,
    /// MAC wrong: another key, another usage, or altered bytes.
    #[error("integrity check failed")]
    Integrity,
    /// Checksum type that does not belong to the key's encryption type.
    #[error("checksum type does not fit the key")]
    ChecksumType,
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Entropy,
}

/// A protocol key of one encryption type; wiped on drop.
#[derive(Clone, Debug)]
pub struct Key {
    etype: Etype,
    bytes: SecretBytes,
}

impl Key {
    /// A key; the length must be the encryption type's.
    pub fn new(etype: Etype, bytes: SecretBytes) -> Result<Self, CryptoError> {
        if bytes.len() == etype.key_length() { Ok(Self { etype, bytes }) } else { Err(CryptoError::KeyLength) }
    }

    /// Its encryption type.
    pub fn etype(&self) -> Etype {
        self.etype
    }

    /// The key bytes.
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// Encrypts under a usage, with a random confounder.
    pub fn encrypt(&self, usage: u32, plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut confounder = [0; 16];
        getrandom::fill(&mut confounder).map_err(|_| CryptoError::Entropy)?;
        self.encrypt_with(usage, confounder, plaintext)
    }

    /// Encrypts under a usage, with this confounder (of which RC4 takes the first half).
    pub fn encrypt_with(&self, usage: u32, confounder: [u8; 16], plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut message = vec![0; self.etype.header_length()];
        message.reserve_exact(self.etype.sealed_length(plaintext.len()));
        message.extend(confounder.iter().take(self.etype.confounder_length()));
        message.extend_from_slice(plaintext);
        message.resize(self.etype.sealed_length(plaintext.len()), 0);
        SealingKeys::new(self, usage)?.seal(&mut message)?;
        Ok(message)
    }

    /// Decrypts under a usage. The MAC is compared in constant time, and before anything looks at the plaintext.
    pub fn decrypt(&self, usage: u32, message: &[u8]) -> Result<SecretBytes, CryptoError> {
        message::open(self, usage, message)
    }

    /// Checksum of the key's own type.
    pub fn checksum(&self, usage: u32, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut out = vec![0; self.etype.checksum_length()];
        Checksum::new(self, usage, data)?.compute(&mut out);
        Ok(out)
    }

    /// Verifies a checksum in constant time. Its type must be the key's own: a weaker one is not accepted for a stronger key.
    pub fn verify_checksum(&self, usage: u32, checksum_type: i32, data: &[u8], checksum: &[u8]) -> Result<(), CryptoError> {
        if checksum_type != self.etype.checksum_type() {
            return Err(CryptoError::ChecksumType);
        }
        if checksum.len() != self.etype.checksum_length() {
            return Err(CryptoError::Integrity);
        }
        Checksum::new(self, usage, data)?.verify(checksum)
    }
}

#[cfg(test)]
pub(crate) mod tests;
