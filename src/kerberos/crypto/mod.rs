//! Kerberos encryption types 17, 18 (RFC 3962), 19, 20 (RFC 8009) and 23 (RFC 4757): encrypt, decrypt, checksum.

use thiserror::Error;

use crate::secret::SecretBytes;

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

    /// Length of a key in bytes.
    pub const fn key_length(self) -> usize {
        match self {
            Self::Aes128Sha1 | Self::Aes128Sha2 | Self::Rc4Hmac => 16,
            Self::Aes256Sha1 | Self::Aes256Sha2 => 32,
        }
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
}
