//! Why bytes are no disk head, or pieces make none.

use alloc::string::String;

/// What is wrong with a disk head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive is larger than any disk head.
    #[error("a disk head has at most {max} bytes, this one {have}")]
    TooLarge {
        /// The limit.
        max: usize,
        /// Its size.
        have: usize,
    },
    /// It has more pieces than any disk head.
    #[error("a disk head has at most {max} pieces")]
    TooManyPieces {
        /// The limit.
        max: usize,
    },
    /// A piece is larger than any piece.
    #[error("the piece {name} has {have} bytes; at most {max} are allowed")]
    PieceTooLarge {
        /// Its name.
        name: String,
        /// The limit.
        max: usize,
        /// Its size.
        have: u64,
    },
    /// The archive ends too early.
    #[error("the archive breaks off at byte {at}")]
    Truncated {
        /// Where more was expected.
        at: usize,
    },
    /// A header is not the one that its name and size give.
    #[error("the header at byte {at} is not as the format has it")]
    Header {
        /// Where it begins.
        at: usize,
    },
    /// A name is none of a piece.
    #[error("{name:?} names no piece")]
    Name {
        /// The name.
        name: String,
    },
    /// Two pieces have one name.
    #[error("there are two pieces named {name}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A piece is stored with more bytes than it has, or with zeros at its end.
    #[error("the piece {name} is not stored as its length says")]
    Length {
        /// Its name.
        name: String,
    },
    /// Bytes that must be zero are not.
    #[error("the padding at byte {at} is not zero")]
    Padding {
        /// Where it begins.
        at: usize,
    },
    /// Something follows the end of the archive.
    #[error("{count} bytes follow the end of the archive")]
    Trailing {
        /// How many.
        count: usize,
    },
}
