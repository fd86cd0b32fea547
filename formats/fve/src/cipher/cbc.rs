//! AES-CBC with an encrypted byte offset as initial vector.
//!
//! The cipher of Windows 8 and of removable drives; also the inner layer of the Elephant methods.
//!
//! Deliberately one chain per sector, whatever the sector size.

#[cfg(any(test, feature = "fixtures"))]
use super::encrypt_block;
use super::{Aes, BLOCK, GROUP, xor};
use crate::layout::MAX_SECTOR_SIZE;

pub(super) struct Cbc<A> {
    aes: A,
}

/// The byte offsets of the sectors of a group as little-endian 128-bit numbers.
pub(super) fn offsets(first: u64, sector_size: usize) -> [u8; GROUP * BLOCK] {
    let mut blocks = [0u8; GROUP * BLOCK];
    for (index, block) in blocks.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        *block = u128::from(first.wrapping_add((index * sector_size) as u64)).to_le_bytes();
    }
    blocks
}

impl<A: Aes> Cbc<A> {
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        Some(Self { aes: A::with_key(key)? })
    }

    pub(super) fn decrypt(&self, offset: u64, sectors: &mut [u8], sector_size: usize) {
        let mut ciphertext = [0u8; MAX_SECTOR_SIZE as usize];
        let mut position = offset;
        for group in sectors.chunks_mut(GROUP * sector_size) {
            let mut vectors = offsets(position, sector_size);
            self.aes.encrypt_in_place(&mut vectors);
            for (sector, vector) in group.chunks_mut(sector_size).zip(vectors.as_chunks::<BLOCK>().0) {
                let ciphertext = &mut ciphertext[..sector.len()];
                ciphertext.copy_from_slice(sector);
                self.aes.decrypt_in_place(sector);
                let (head, tail) = sector.split_at_mut(BLOCK);
                xor(head, vector);
                xor(tail, ciphertext);
                position = position.wrapping_add(sector_size as u64);
            }
        }
    }

    #[cfg(any(test, feature = "fixtures"))]
    pub(super) fn encrypt(&self, offset: u64, sectors: &mut [u8], sector_size: usize) {
        for (index, sector) in sectors.chunks_mut(sector_size).enumerate() {
            let position = offset + (index * sector_size) as u64;
            let mut previous = encrypt_block(&self.aes, u128::from(position).to_le_bytes());
            for block in sector.as_chunks_mut::<BLOCK>().0 {
                xor(block, &previous);
                *block = encrypt_block(&self.aes, *block);
                previous = *block;
            }
        }
    }
}
