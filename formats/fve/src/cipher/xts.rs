//! AES-XTS (IEEE 1619) with the sector number as tweak.
//!
//! The cipher of Windows 10 1511 and later.
//!
//! Deliberately without ciphertext stealing: sectors are whole blocks.

use super::{Aes, BLOCK, GROUP, xor};

/// Blocks whose tweaks are held at a time: a 512-byte sector.
const RUN_BLOCKS: usize = 32;
/// Reduction polynomial of GF(2^128): x^128 = x^7 + x^2 + x + 1.
const POLYNOMIAL: u128 = 0x87;

pub(super) struct Xts<A> {
    data: A,
    tweak: A,
}

impl<A: Aes> Xts<A> {
    pub(super) fn new(data_key: &[u8], tweak_key: &[u8]) -> Option<Self> {
        Some(Self { data: A::with_key(data_key)?, tweak: A::with_key(tweak_key)? })
    }

    pub(super) fn decrypt(&self, offset: u64, sectors: &mut [u8], sector_size: usize) {
        self.run(offset, sectors, sector_size, |blocks| self.data.decrypt_in_place(blocks));
    }

    #[cfg(any(test, feature = "fixtures"))]
    pub(super) fn encrypt(&self, offset: u64, sectors: &mut [u8], sector_size: usize) {
        self.run(offset, sectors, sector_size, |blocks| self.data.encrypt_in_place(blocks));
    }

    fn run(&self, offset: u64, sectors: &mut [u8], sector_size: usize, cipher: impl Fn(&mut [u8])) {
        let mut number = offset / sector_size as u64;
        for group in sectors.chunks_mut(GROUP * sector_size) {
            let mut first = [0u8; GROUP * BLOCK];
            for tweak in first.as_chunks_mut::<BLOCK>().0 {
                *tweak = u128::from(number).to_le_bytes();
                number = number.wrapping_add(1);
            }
            self.tweak.encrypt_in_place(&mut first);
            for (sector, first) in group.chunks_mut(sector_size).zip(first.as_chunks::<BLOCK>().0) {
                let mut tweak = u128::from_le_bytes(*first);
                for run in sector.chunks_mut(RUN_BLOCKS * BLOCK) {
                    let mut mask = [0u8; RUN_BLOCKS * BLOCK];
                    for bytes in mask.as_chunks_mut::<BLOCK>().0 {
                        *bytes = tweak.to_le_bytes();
                        tweak = tweak << 1 ^ ((tweak >> 127) * POLYNOMIAL);
                    }
                    xor(run, &mask);
                    cipher(run);
                    xor(run, &mask);
                }
            }
        }
    }
}
