//! AES in CBC mode with ciphertext stealing, zero IV (RFC 3962 section 5; CBC-CS3 of NIST SP 800-38A Addendum).

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use aes::{Aes128Dec, Aes128Enc, Aes256Dec, Aes256Enc, Block};

use super::CryptoError;

/// Cipher block, and so the shortest message: the confounder alone is that long.
pub(super) const BLOCK: usize = 16;

/// An AES encryption key schedule; wiped on drop.
pub(super) enum Encryptor {
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

/// An AES decryption key schedule; wiped on drop.
pub(super) enum Decryptor {
    Aes128(Aes128Dec),
    Aes256(Aes256Dec),
}

impl Encryptor {
    pub(super) fn new(key: &[u8]) -> Result<Self, CryptoError> {
        match key.len() {
            16 => Aes128Enc::new_from_slice(key).map(Self::Aes128),
            _ => Aes256Enc::new_from_slice(key).map(Self::Aes256),
        }
        .map_err(|_| CryptoError::KeyLength)
    }

    /// One block by itself.
    pub(super) fn block(&self, block: &mut [u8; BLOCK]) {
        match self {
            Self::Aes128(aes) => aes.encrypt_block(block.into()),
            Self::Aes256(aes) => aes.encrypt_block(block.into()),
        }
    }

    /// Encrypts in place; at least one block.
    pub(super) fn encrypt(&self, data: &mut [u8]) -> Result<(), CryptoError> {
        match self {
            Self::Aes128(aes) => encrypt(aes, data),
            Self::Aes256(aes) => encrypt(aes, data),
        }
    }
}

impl Decryptor {
    pub(super) fn new(key: &[u8]) -> Result<Self, CryptoError> {
        match key.len() {
            16 => Aes128Dec::new_from_slice(key).map(Self::Aes128),
            _ => Aes256Dec::new_from_slice(key).map(Self::Aes256),
        }
        .map_err(|_| CryptoError::KeyLength)
    }

    /// Decrypts in place; at least one block.
    pub(super) fn decrypt(&self, data: &mut [u8]) -> Result<(), CryptoError> {
        match self {
            Self::Aes128(aes) => decrypt(aes, data),
            Self::Aes256(aes) => decrypt(aes, data),
        }
    }
}

/// Offset of the last block, whole or partial, behind at least one whole block.
fn last_block_at(length: usize) -> usize {
    length.saturating_sub(1) / BLOCK * BLOCK
}

fn encrypt<C>(aes: &C, data: &mut [u8]) -> Result<(), CryptoError>
where
    C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>,
{
    if data.len() < BLOCK {
        return Err(CryptoError::TooShort);
    }
    let mut cbc = cbc::Encryptor::inner_iv_init(aes, &Block::default());
    let split = if data.len() == BLOCK { BLOCK } else { last_block_at(data.len()) };
    let (head, tail) = data.split_at_mut(split);
    let (blocks, _) = Array::slice_as_chunks_mut(head);
    cbc.encrypt_blocks(blocks);
    if let (Some(stolen), false) = (blocks.last_mut(), tail.is_empty()) {
        let mut last = Block::default();
        last.iter_mut().zip(tail.iter()).for_each(|(to, from)| *to = *from);
        cbc.encrypt_block(&mut last);
        tail.iter_mut().zip(stolen.iter()).for_each(|(to, from)| *to = *from);
        *stolen = last;
    }
    Ok(())
}

fn decrypt<C>(aes: &C, data: &mut [u8]) -> Result<(), CryptoError>
where
    C: BlockCipherDecrypt<BlockSize = aes::cipher::consts::U16>,
{
    if data.len() < BLOCK {
        return Err(CryptoError::TooShort);
    }
    let split = if data.len() == BLOCK { BLOCK } else { last_block_at(data.len()) };
    let (head, tail) = data.split_at_mut(split);
    let (blocks, _) = Array::slice_as_chunks_mut(head);
    if let (Some(swapped), false) = (blocks.last_mut(), tail.is_empty()) {
        // The last plaintext was padded with zeros, so what the block cipher returns beyond it is the stolen ciphertext.
        let mut last = *swapped;
        aes.decrypt_block(&mut last);
        *swapped = last;
        for (stolen, byte) in swapped.iter_mut().zip(tail.iter_mut()) {
            let plain = *stolen ^ *byte;
            *stolen = *byte;
            *byte = plain;
        }
    }
    cbc::Decryptor::inner_iv_init(aes, &Block::default()).decrypt_blocks(blocks);
    Ok(())
}
