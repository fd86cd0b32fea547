//! Recovery passwords: 48 digits in eight blocks that each check themselves.
//!
//! The credential that escrow holds most often; `unlock.rs` turns it into a key, `read_back.rs` gets it back.
//!
//! Deliberately never guesses: a mistyped password is analysed block by block (`analysis.rs`) and the person decides.

mod analysis;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use zeroize::{Zeroize, ZeroizeOnDrop};

pub use self::analysis::{Analysis, BlockProblem, BlockReport, Correction, CorrectionKind};
use crate::secret::Key256;
use crate::stretch::sha256;

/// Blocks of a recovery password.
pub(crate) const BLOCKS: usize = 8;
/// Digits of a block.
pub(crate) const BLOCK_DIGITS: usize = 6;
/// Every block is a multiple of this.
pub(crate) const BLOCK_FACTOR: u32 = 11;

/// A recovery password that passes all its checks, wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RecoveryPassword {
    values: [u16; BLOCKS],
}

/// Why a text is not a recovery password. Names blocks, never digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryPasswordError {
    /// A character that is neither digit nor separator.
    #[error("character {position} is neither a digit nor a separator (dash or space)")]
    Character {
        /// Position in the text, from 1.
        position: usize,
    },
    /// Not 48 digits.
    #[error("a recovery password has 48 digits, this text has {have}")]
    DigitCount {
        /// Digits found.
        have: usize,
    },
    /// Blocks that fail their check.
    #[error("mistyped: {}", BlockList(wrong))]
    Blocks {
        /// Number (from 1) and problem of each wrong block.
        wrong: Vec<(usize, BlockProblem)>,
    },
}

struct BlockList<'a>(&'a [(usize, BlockProblem)]);

impl fmt::Display for BlockList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (number, problem)) in self.0.iter().enumerate() {
            write!(f, "{}block {number} of {BLOCKS} {problem}", if place == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl RecoveryPassword {
    /// Parses a recovery password; dashes, spaces or no separators.
    ///
    /// # Errors
    /// [`RecoveryPasswordError`], which names the wrong blocks; [`Analysis::of`] offers corrections.
    pub fn parse(text: &str) -> Result<Self, RecoveryPasswordError> {
        Analysis::of(text)?.password()
    }

    /// Makes the password of a 16-byte recovery key.
    #[must_use]
    pub fn from_recovery_key(key: &[u8; 16]) -> Self {
        Self {
            values: core::array::from_fn(|block| u16::from_le_bytes([key[2 * block], key[2 * block + 1]])),
        }
    }

    pub(crate) fn from_values(values: [u16; BLOCKS]) -> Self {
        Self { values }
    }

    /// Returns the 16-byte recovery key that the digits stand for.
    #[must_use]
    pub fn recovery_key(&self) -> zeroize::Zeroizing<[u8; 16]> {
        let mut key = zeroize::Zeroizing::new([0; 16]);
        for (bytes, value) in key.as_chunks_mut::<2>().0.iter_mut().zip(self.values) {
            *bytes = value.to_le_bytes();
        }
        key
    }

    /// Returns the key that goes into the stretch: SHA-256 of the recovery key.
    #[must_use]
    pub fn user_key(&self) -> Key256 {
        Key256::new(sha256(self.recovery_key().as_slice()))
    }

    /// Reveals the 48 digits with dashes between the blocks.
    #[must_use]
    pub fn expose(&self) -> zeroize::Zeroizing<String> {
        let mut text = zeroize::Zeroizing::new(String::with_capacity(BLOCKS * (BLOCK_DIGITS + 1)));
        for (number, value) in self.values.iter().enumerate() {
            if number > 0 {
                text.push('-');
            }
            write!(text, "{:06}", u32::from(*value) * BLOCK_FACTOR).expect("writing to a String cannot fail");
        }
        text
    }

    /// Compares in time that does not depend on where the passwords differ.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.values.iter().zip(&other.values).fold(0u16, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}
