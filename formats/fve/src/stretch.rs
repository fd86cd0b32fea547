//! From a password to a 256-bit key: the hashes and the stretch of a million SHA-256 rounds.
//!
//! The slow step of an unlock (FORMAT.md 4); everything else takes microseconds.
//!
//! Deliberately single-threaded: the rounds form a chain. Callers run several BitLocker protectors on several cores.
//!
//! Both blocks of a round go through one call of the compression function, which picks SHA instructions at run time
//! and keeps the state in registers within the call. A loop with the instructions inlined around all rounds measured
//! 0.100 s against 0.110 s; it would need `unsafe` for the run-time choice, and no maintained crate offers
//! SHA instructions behind a safe token, so this crate, which forbids `unsafe`, pays the 9 %.

use sha2::digest::generic_array::GenericArray;
use sha2::digest::generic_array::typenum::U64;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::layout::{KEY_BYTES, SALT_BYTES, STRETCH_ITERATIONS};
use crate::secret::Key256;

/// Initial state of SHA-256 (FIPS 180-4, 5.3.3).
const SHA256_INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Bytes hashed in each round: last hash, initial hash, salt, counter.
const ROUND_BYTES: usize = KEY_BYTES + KEY_BYTES + SALT_BYTES + 8;
/// Position of the counter in the second block.
const COUNTER: core::ops::Range<usize> = SALT_BYTES..SALT_BYTES + 8;

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    Sha256::digest(bytes).into()
}

/// Stretches a user key with a salt (FORMAT.md 4). Takes about a tenth of a second.
#[must_use]
pub fn stretch(user_key: &Key256, salt: &[u8; SALT_BYTES]) -> Key256 {
    stretch_rounds(user_key, salt, STRETCH_ITERATIONS)
}

fn stretch_rounds(user_key: &Key256, salt: &[u8; SALT_BYTES], rounds: u64) -> Key256 {
    let mut blocks: [GenericArray<u8, U64>; 2] = [GenericArray::default(), GenericArray::default()];
    blocks[0][KEY_BYTES..].copy_from_slice(user_key.expose());
    blocks[1][..SALT_BYTES].copy_from_slice(salt);
    // SHA-256 padding of the 88-byte structure: one bit, zeros, the length in bits.
    blocks[1][COUNTER.end] = 0x80;
    blocks[1][56..].copy_from_slice(&(ROUND_BYTES as u64 * 8).to_be_bytes());
    let mut state;
    for round in 0..rounds {
        blocks[1][COUNTER].copy_from_slice(&round.to_le_bytes());
        state = SHA256_INITIAL;
        sha2::compress256(&mut state, &blocks);
        for (bytes, word) in blocks[0][..KEY_BYTES].as_chunks_mut::<4>().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
    }
    let mut last = [0; KEY_BYTES];
    last.copy_from_slice(&blocks[0][..KEY_BYTES]);
    let key = Key256::new(last);
    last.zeroize();
    for block in &mut blocks {
        block.as_mut_slice().zeroize();
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word for word, with a general SHA-256.
    fn by_definition(user_key: &[u8; 32], salt: &[u8; 16], rounds: u64) -> [u8; 32] {
        let mut last = [0u8; 32];
        for round in 0..rounds {
            let mut hash = Sha256::new();
            hash.update(last);
            hash.update(user_key);
            hash.update(salt);
            hash.update(round.to_le_bytes());
            last = hash.finalize().into();
        }
        last
    }

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        core::array::from_fn(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap())
    }

    /// All rounds, on a recovery password and a password of one real volume.
    #[test]
    fn known_answers() {
        let cases = [
            (
                "fdd303817e456f7a4b64a7063ae00be752a46841e57da98caf8522f136cb3411",
                "2ba080989af9b50c203aaebd0b40d498",
                "1a39f926dab83e947fa85125b91e556e9ecc2bc5968924e03de234878d1fd4bd",
            ),
            (
                "0d6cbf9e5d75af220d7ac3e9f35d05f56952608dd1dacb31774452c489eadc51",
                "8d7637cc5d885d5ff4f748dbc8440d2e",
                "37554410c6e0df5b4fe096259f4a21b847338d3e8d8d8d8c30012d1447cca957",
            ),
        ];
        for (user_key, salt, stretched) in cases {
            assert_eq!(stretch(&Key256::new(bytes(user_key)), &bytes(salt)).expose(), &bytes(stretched));
        }
    }

    #[test]
    fn equals_the_definition() {
        for rounds in [0, 1, 2, 300] {
            let (user_key, salt) = ([7u8; 32], core::array::from_fn(|i| i as u8));
            let stretched = stretch_rounds(&Key256::new(user_key), &salt, rounds);
            assert_eq!(stretched.expose(), &by_definition(&user_key, &salt, rounds));
        }
    }
}
