//! AES-CBC with the Elephant diffuser: the ciphers of Vista and Windows 7.
//!
//! CBC (`cbc.rs`), then two diffusers over the 32-bit words of a sector, then a sector key.
//!
//! Deliberately works on eight sectors side by side: within a sector each word waits for the one before, across
//! sectors they are independent, so the compiler turns each step into vector instructions.

use super::cbc::{Cbc, offsets};
use super::{Aes, BLOCK, GROUP, xor};
use crate::layout::MAX_SECTOR_SIZE;

/// Sectors side by side.
const LANES: usize = GROUP;
/// Words of the largest sector.
const MAX_WORDS: usize = MAX_SECTOR_SIZE as usize / 4;
/// Cycles of diffuser A.
const CYCLES_A: usize = 5;
/// Cycles of diffuser B.
const CYCLES_B: usize = 3;
/// Bytes of a sector key.
const SECTOR_KEY: usize = 2 * BLOCK;
/// Last byte of the block that gives the second half of the sector key.
const SECOND_HALF_MARK: u8 = 0x80;

type Word = [u32; LANES];

pub(super) struct Elephant<A> {
    cbc: Cbc<A>,
    tweak: A,
}

impl<A: Aes> Elephant<A> {
    pub(super) fn new(key: &[u8], tweak_key: &[u8]) -> Option<Self> {
        Some(Self { cbc: Cbc::new(key)?, tweak: A::with_key(tweak_key)? })
    }

    pub(super) fn decrypt(&self, offset: u64, sectors: &mut [u8], sector_size: usize) {
        let mut words = [[0u32; LANES]; MAX_WORDS];
        let words = &mut words[..sector_size / 4];
        let mut position = offset;
        for group in sectors.chunks_mut(GROUP * sector_size) {
            self.cbc.decrypt(position, group, sector_size);
            gather(group, sector_size, words);
            for _ in 0..CYCLES_B {
                diffuse_b(words);
            }
            for _ in 0..CYCLES_A {
                diffuse_a(words);
            }
            scatter(words, group, sector_size);
            self.mask(position, group, sector_size);
            position = position.wrapping_add(group.len() as u64);
        }
    }

    #[cfg(any(test, feature = "fixtures"))]
    pub(super) fn encrypt(&self, offset: u64, sectors: &mut [u8], sector_size: usize) {
        let mut words = [[0u32; LANES]; MAX_WORDS];
        let words = &mut words[..sector_size / 4];
        let mut position = offset;
        for group in sectors.chunks_mut(GROUP * sector_size) {
            self.mask(position, group, sector_size);
            gather(group, sector_size, words);
            for _ in 0..CYCLES_A {
                undiffuse_a(words);
            }
            for _ in 0..CYCLES_B {
                undiffuse_b(words);
            }
            scatter(words, group, sector_size);
            self.cbc.encrypt(position, group, sector_size);
            position = position.wrapping_add(group.len() as u64);
        }
    }

    /// XORs every 32 bytes of each sector with its sector key.
    fn mask(&self, offset: u64, group: &mut [u8], sector_size: usize) {
        let mut low = offsets(offset, sector_size);
        let mut high = low;
        for block in high.as_chunks_mut::<BLOCK>().0 {
            block[BLOCK - 1] = SECOND_HALF_MARK;
        }
        self.tweak.encrypt_in_place(&mut low);
        self.tweak.encrypt_in_place(&mut high);
        let halves = low.as_chunks::<BLOCK>().0.iter().zip(high.as_chunks::<BLOCK>().0);
        for (sector, (low, high)) in group.chunks_mut(sector_size).zip(halves) {
            let mut key = [0u8; SECTOR_KEY];
            key[..BLOCK].copy_from_slice(low);
            key[BLOCK..].copy_from_slice(high);
            for part in sector.as_chunks_mut::<SECTOR_KEY>().0 {
                xor(part, &key);
            }
        }
    }
}

/// Lays the sectors of a group side by side; missing sectors leave their lane as it is.
fn gather(group: &[u8], sector_size: usize, words: &mut [Word]) {
    for (lane, sector) in group.chunks(sector_size).enumerate() {
        for (word, bytes) in words.iter_mut().zip(sector.as_chunks::<4>().0) {
            word[lane] = u32::from_le_bytes(*bytes);
        }
    }
}

fn scatter(words: &[Word], group: &mut [u8], sector_size: usize) {
    for (lane, sector) in group.chunks_mut(sector_size).enumerate() {
        for (word, bytes) in words.iter().zip(sector.as_chunks_mut::<4>().0) {
            *bytes = word[lane].to_le_bytes();
        }
    }
}

/// One step of a diffuser: `w[i] += w[near] ^ rotl(w[far], BITS)`, or the subtraction that undoes it.
#[inline(always)]
fn step<const BITS: u32, const UNDO: bool>(words: &mut [Word], index: usize, near: usize, far: usize) {
    // The number of words is a power of two, so the mask is the modulus of the diffusers.
    let mask = words.len() - 1;
    let (near, far) = (words[near & mask], words[far & mask]);
    let word = &mut words[index & mask];
    for lane in 0..LANES {
        let change = near[lane] ^ far[lane].rotate_left(BITS);
        word[lane] = if UNDO { word[lane].wrapping_sub(change) } else { word[lane].wrapping_add(change) };
    }
}

fn diffuse_a(words: &mut [Word]) {
    let n = words.len();
    for index in (0..n).step_by(4) {
        step::<9, false>(words, index, index + n - 2, index + n - 5);
        step::<0, false>(words, index + 1, index + n - 1, index + n - 4);
        step::<13, false>(words, index + 2, index + n, index + n - 3);
        step::<0, false>(words, index + 3, index + n + 1, index + n - 2);
    }
}

fn diffuse_b(words: &mut [Word]) {
    for index in (0..words.len()).step_by(4) {
        step::<0, false>(words, index, index + 2, index + 5);
        step::<10, false>(words, index + 1, index + 3, index + 6);
        step::<0, false>(words, index + 2, index + 4, index + 7);
        step::<25, false>(words, index + 3, index + 5, index + 8);
    }
}

#[cfg(any(test, feature = "fixtures"))]
fn undiffuse_a(words: &mut [Word]) {
    let n = words.len();
    for index in (0..n).step_by(4).rev() {
        step::<0, true>(words, index + 3, index + n + 1, index + n - 2);
        step::<13, true>(words, index + 2, index + n, index + n - 3);
        step::<0, true>(words, index + 1, index + n - 1, index + n - 4);
        step::<9, true>(words, index, index + n - 2, index + n - 5);
    }
}

#[cfg(any(test, feature = "fixtures"))]
fn undiffuse_b(words: &mut [Word]) {
    for index in (0..words.len()).step_by(4).rev() {
        step::<25, true>(words, index + 3, index + 5, index + 8);
        step::<0, true>(words, index + 2, index + 4, index + 7);
        step::<10, true>(words, index + 1, index + 3, index + 6);
        step::<0, true>(words, index, index + 2, index + 5);
    }
}
