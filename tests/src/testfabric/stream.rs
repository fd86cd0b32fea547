//! Random-looking bytes out of a seed and a label.
//!
//! Every part of a fabric draws from a stream of its own, so that no part depends on the order in which others were made.
//! The generators of keys need another kind of source, seeded from a stream.

use lifeboat_vhdx::Guid;
use rand_chacha_0_10::ChaCha20Rng;
use rand_chacha_0_10::rand_core::SeedableRng as _;

/// Endless bytes that depend on nothing but a seed and labels.
pub(crate) struct Stream(blake3::OutputReader);

impl Stream {
    /// Begins the stream of `purpose` for the thing that `numbers` name.
    pub(crate) fn new(seed: u64, purpose: &str, numbers: &[u64]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("lifeboat testfabric stream v1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(&(purpose.len() as u64).to_le_bytes());
        hasher.update(purpose.as_bytes());
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
        Self(hasher.finalize_xof())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill(&mut bytes);
        bytes
    }

    /// A number below `limit`, which must not be zero. The bias of the division is no matter for fixtures.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        u64::from_le_bytes(self.array()) % limit
    }

    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end as u64 + 1) as usize);
        }
    }

    pub(crate) fn guid(&mut self) -> Guid {
        Guid::from_random_bytes(self.array())
    }

    /// 32 bytes of ASCII that a search finds nowhere by chance.
    pub(crate) fn marker(&mut self) -> [u8; 32] {
        let mut marker = *b"LBMARK..........................";
        for byte in &mut marker[6..] {
            *byte = b"abcdefghijklmnopqrstuvwxyz234567"[self.below(32) as usize];
        }
        marker
    }

    /// A generator for keys and their padding.
    pub(crate) fn generator(&mut self) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(self.array())
    }
}
