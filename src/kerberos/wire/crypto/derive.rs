//! Key derivation: n-fold and DK (RFC 3961 section 5.1), KDF-HMAC-SHA2 (RFC 8009 section 3).

use zeroize::Zeroizing;

use super::cts::{BLOCK, Encryptor};
use super::mac::Mac;
use super::{CryptoError, Etype, Key};

/// Longest key there is.
const MAX_KEY: usize = 32;

/// Which of a usage's keys (RFC 3961 section 5.3).
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// Kc: checksums
    Checksum = 0x99,
    /// Ke: encryption
    Encryption = 0xAA,
    /// Ki: integrity of an encrypted message
    Integrity = 0x55,
}

/// A derived key, or the base key; wiped on drop.
pub(super) struct Derived {
    bytes: Zeroizing<[u8; MAX_KEY]>,
    length: usize,
}

impl Derived {
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The key for one usage and purpose; not for RC4, which derives otherwise.
pub(super) fn derive(key: &Key, usage: u32, purpose: Purpose) -> Result<Derived, CryptoError> {
    let [a, b, c, d] = usage.to_be_bytes();
    let constant = [a, b, c, d, purpose as u8];
    match key.etype() {
        Etype::Aes128Sha1 | Etype::Aes256Sha1 => dk(key, &constant),
        Etype::Aes128Sha2 | Etype::Aes256Sha2 => kdf_hmac_sha2(key, &constant, purpose),
        Etype::Rc4Hmac => Err(CryptoError::KeyLength),
    }
}

/// DK(Base-Key, Constant); random-to-key is the identity for AES (RFC 3962 section 4).
fn dk(key: &Key, constant: &[u8]) -> Result<Derived, CryptoError> {
    let cipher = Encryptor::new(key.expose())?;
    let length = key.etype().key_length();
    let mut bytes = Zeroizing::new([0; MAX_KEY]);
    let mut block = Zeroizing::new([0; BLOCK]);
    n_fold(constant, block.as_mut_slice());
    for chunk in bytes.chunks_exact_mut(BLOCK).take(length / BLOCK) {
        cipher.block(&mut block);
        chunk.copy_from_slice(block.as_slice());
    }
    Ok(Derived { bytes, length })
}

/// KDF-HMAC-SHA2: one block of HMAC in counter mode.
fn kdf_hmac_sha2(key: &Key, label: &[u8], purpose: Purpose) -> Result<Derived, CryptoError> {
    let length: u8 = match (key.etype(), purpose) {
        (Etype::Aes256Sha2, Purpose::Encryption) => 32,
        (Etype::Aes256Sha2, _) => 24,
        _ => 16,
    };
    let bits = u32::from(length) * 8;
    let mut bytes = Zeroizing::new([0; MAX_KEY]);
    let length = usize::from(length);
    let out = bytes.get_mut(..length).unwrap_or_default();
    Mac::new(key.etype(), key.expose())?.compute(&[&[0, 0, 0, 1], label, &[0], &bits.to_be_bytes()], out);
    Ok(Derived { bytes, length })
}

/// n-fold: the input, repeated and each time rotated right by 13 bits, summed up in ones' complement pieces of the output's length.
pub(super) fn n_fold(input: &[u8], out: &mut [u8]) {
    let (n, k) = (input.len(), out.len());
    if n == 0 || k == 0 {
        return;
    }
    let total = n * k / gcd(n, k);
    let byte_of_repeated = |position: usize| -> u8 {
        // Bit `b` of copy `c` is bit `b - 13c` of the input.
        let (copy, byte) = (position / n, position % n);
        let start = (8 * byte + 8 * n - 13 * copy % (8 * n)) % (8 * n);
        let high = input.get(start / 8).copied().unwrap_or_default();
        let low = input.get((start / 8 + 1) % n).copied().unwrap_or_default();
        (u16::from_be_bytes([high, low]) << (start % 8)).to_be_bytes()[0]
    };
    out.fill(0);
    for piece in (0..total).step_by(k) {
        let mut carry = 0;
        for (index, sum) in out.iter_mut().enumerate().rev() {
            (carry, *sum) = add(*sum, byte_of_repeated(piece + index), carry);
        }
        for sum in out.iter_mut().rev() {
            (carry, *sum) = add(*sum, 0, carry);
        }
    }
}

/// Carry and sum.
fn add(a: u8, b: u8, carry: u8) -> (u8, u8) {
    let [carry, sum] = (u16::from(a) + u16::from(b) + u16::from(carry)).to_be_bytes();
    (carry, sum)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
