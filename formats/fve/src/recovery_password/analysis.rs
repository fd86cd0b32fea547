//! What is wrong with a mistyped recovery password, block by block.
//!
//! Works on the typed text before any key is derived, so it answers at once and without a disk.
//!
//! Deliberately offers only corrections of one slip per block: one digit wrong, missing or too many, or two
//! neighbours swapped. The check of a block finds every single wrong digit and every swap of neighbours, but swapped
//! blocks pass it.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroize;

use super::{BLOCK_DIGITS, BLOCK_FACTOR, BLOCKS, RecoveryPassword, RecoveryPasswordError};

/// Most digits looked at: a longer text is no mistyped recovery password.
const MAX_DIGITS: usize = 2 * BLOCKS * BLOCK_DIGITS;

/// What is wrong with one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockProblem {
    /// It has too few or too many digits.
    Length {
        /// Digits typed.
        digits: usize,
    },
    /// The check digit does not fit the other five.
    CheckDigit,
    /// The check digit fits, but the number is too large for any recovery password.
    TooLarge,
}

impl fmt::Display for BlockProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { digits } => write!(f, "has {digits} digits instead of {BLOCK_DIGITS}"),
            Self::CheckDigit => f.write_str("does not match its check digit"),
            Self::TooLarge => f.write_str("is larger than any block can be"),
        }
    }
}

/// Which slip a correction undoes. Positions count from 1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CorrectionKind {
    /// The digit at the position is another.
    Replace {
        /// Position of the digit.
        position: usize,
    },
    /// The digits at the position and the next are swapped.
    Swap {
        /// Position of the first of the two.
        position: usize,
    },
    /// A digit is missing before the position.
    Insert {
        /// Where the digit goes.
        position: usize,
    },
    /// The digit at the position is too many.
    Remove {
        /// Position of the digit.
        position: usize,
    },
}

/// A block value that passes the check and is one slip away from what was typed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Correction {
    /// The slip.
    pub kind: CorrectionKind,
    value: u16,
}

impl Correction {
    /// Reveals the corrected block as a number of up to six digits.
    #[must_use]
    pub fn expose(&self) -> u32 {
        u32::from(self.value) * BLOCK_FACTOR
    }
}

/// One block of an analysed text.
pub struct BlockReport {
    /// Number of the block, from 1.
    pub number: usize,
    /// What is wrong; nothing when `None`.
    pub problem: Option<BlockProblem>,
    /// Corrections that pass the check; empty for a correct block.
    pub corrections: Vec<Correction>,
    value: Option<u16>,
}

/// An analysed recovery password text.
pub struct Analysis {
    blocks: Vec<BlockReport>,
}

impl Analysis {
    /// Analyses a typed text. When separators cut it in eight groups, each group is a block, whatever its length.
    ///
    /// # Errors
    /// [`RecoveryPasswordError::Character`], or [`RecoveryPasswordError::DigitCount`] when the text can not be cut
    /// in eight blocks.
    pub fn of(text: &str) -> Result<Self, RecoveryPasswordError> {
        let mut groups: Vec<Vec<u8>> = Vec::new();
        let mut in_group = false;
        let mut have = 0;
        for (index, character) in text.trim().chars().enumerate() {
            if let Some(digit) = character.to_digit(10) {
                have += 1;
                if have > MAX_DIGITS {
                    wipe(&mut groups);
                    return Err(RecoveryPasswordError::DigitCount { have });
                }
                if !in_group {
                    groups.push(Vec::with_capacity(MAX_DIGITS));
                }
                in_group = true;
                if let Some(group) = groups.last_mut() {
                    group.push(digit as u8);
                }
            } else if is_separator(character) {
                in_group = false;
            } else {
                wipe(&mut groups);
                return Err(RecoveryPasswordError::Character { position: index + 1 });
            }
        }
        if groups.len() != BLOCKS {
            if have != BLOCKS * BLOCK_DIGITS {
                wipe(&mut groups);
                return Err(RecoveryPasswordError::DigitCount { have });
            }
            let mut all: Vec<u8> = groups.concat();
            wipe(&mut groups);
            groups = all.chunks(BLOCK_DIGITS).map(<[u8]>::to_vec).collect();
            all.zeroize();
        }
        let blocks =
            groups.iter().enumerate().map(|(index, digits)| BlockReport::of(index + 1, digits)).collect();
        wipe(&mut groups);
        Ok(Self { blocks })
    }

    /// Returns the eight blocks.
    #[must_use]
    pub fn blocks(&self) -> &[BlockReport] {
        &self.blocks
    }

    /// Returns the password if all blocks are right.
    ///
    /// # Errors
    /// [`RecoveryPasswordError::Blocks`] names the wrong ones.
    pub fn password(&self) -> Result<RecoveryPassword, RecoveryPasswordError> {
        let mut values = [0u16; BLOCKS];
        let mut wrong = Vec::new();
        for (slot, block) in values.iter_mut().zip(&self.blocks) {
            match (block.value, block.problem) {
                (Some(value), _) => *slot = value,
                (None, Some(problem)) => wrong.push((block.number, problem)),
                (None, None) => wrong.push((block.number, BlockProblem::CheckDigit)),
            }
        }
        if wrong.is_empty() {
            Ok(RecoveryPassword::from_values(values))
        } else {
            Err(RecoveryPasswordError::Blocks { wrong })
        }
    }

    /// Lists every password that the corrections of the wrong blocks give together, at most `limit`.
    ///
    /// Each one costs a stretch to try, so the limit bounds the time: one wrong block gives about six.
    #[must_use]
    pub fn candidates(&self, limit: usize) -> Vec<RecoveryPassword> {
        let mut lists: Vec<[u16; BLOCKS]> = alloc::vec![[0; BLOCKS]];
        for (index, block) in self.blocks.iter().enumerate() {
            let options: Vec<u16> = match block.value {
                Some(value) => alloc::vec![value],
                None => block.corrections.iter().map(|correction| correction.value).collect(),
            };
            let mut longer = Vec::new();
            for values in &lists {
                for &option in &options {
                    if longer.len() < limit {
                        let mut values = *values;
                        values[index] = option;
                        longer.push(values);
                    }
                }
            }
            lists.zeroize();
            lists = longer;
        }
        let passwords = lists.iter().map(|values| RecoveryPassword::from_values(*values)).collect();
        lists.zeroize();
        passwords
    }
}

impl BlockReport {
    fn of(number: usize, digits: &[u8]) -> Self {
        let (value, problem) = match check(digits) {
            Ok(value) => (Some(value), None),
            Err(problem) => (None, Some(problem)),
        };
        let corrections = if problem.is_some() { corrections(digits) } else { Vec::new() };
        Self { number, problem, corrections, value }
    }
}

/// Separators people and programs put between blocks: ASCII dash, the Unicode dashes, white space.
fn is_separator(character: char) -> bool {
    character == '-' || character.is_whitespace() || ('\u{2010}'..='\u{2015}').contains(&character)
}

fn wipe(groups: &mut [Vec<u8>]) {
    groups.iter_mut().for_each(Zeroize::zeroize);
}

/// Checks one block of digits (FORMAT.md 4).
fn check(digits: &[u8]) -> Result<u16, BlockProblem> {
    if digits.len() != BLOCK_DIGITS {
        return Err(BlockProblem::Length { digits: digits.len() });
    }
    let number = digits.iter().fold(0u32, |number, &digit| number * 10 + u32::from(digit));
    if number % BLOCK_FACTOR != 0 {
        return Err(BlockProblem::CheckDigit);
    }
    u16::try_from(number / BLOCK_FACTOR).map_err(|_| BlockProblem::TooLarge)
}

/// Lists the values one slip away that pass, each once.
fn corrections(digits: &[u8]) -> Vec<Correction> {
    let mut found: Vec<Correction> = Vec::new();
    let mut offer = |kind: CorrectionKind, candidate: &[u8]| {
        if let Ok(value) = check(candidate)
            && found.iter().all(|known| known.value != value)
        {
            found.push(Correction { kind, value });
        }
    };
    let mut candidate = digits.to_vec();
    match digits.len() {
        BLOCK_DIGITS => {
            for index in 0..BLOCK_DIGITS - 1 {
                candidate.swap(index, index + 1);
                offer(CorrectionKind::Swap { position: index + 1 }, &candidate);
                candidate.swap(index, index + 1);
            }
            for index in 0..BLOCK_DIGITS {
                for digit in 0..10 {
                    candidate[index] = digit;
                    offer(CorrectionKind::Replace { position: index + 1 }, &candidate);
                }
                candidate[index] = digits[index];
            }
        }
        length if length + 1 == BLOCK_DIGITS => {
            for index in 0..=length {
                for digit in 0..10 {
                    candidate.insert(index, digit);
                    offer(CorrectionKind::Insert { position: index + 1 }, &candidate);
                    candidate.remove(index);
                }
            }
        }
        length if length == BLOCK_DIGITS + 1 => {
            for index in 0..length {
                let digit = candidate.remove(index);
                offer(CorrectionKind::Remove { position: index + 1 }, &candidate);
                candidate.insert(index, digit);
            }
        }
        _ => {}
    }
    candidate.zeroize();
    found
}
