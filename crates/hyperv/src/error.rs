//! Errors of this crate's own; trouble with a VM's files is the engine's `SourceError`.

use thiserror::Error;

/// A pattern of places to leave out that cannot be understood.
#[derive(Debug, Error)]
#[error("{pattern:?} is no pattern: {why} at character {character}")]
#[non_exhaustive]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
    /// What is wrong.
    pub why: &'static str,
    /// Where, counted from 0.
    pub character: usize,
}
