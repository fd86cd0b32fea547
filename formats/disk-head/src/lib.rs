//! Disk heads: what a backup keeps of a virtual disk, as a tar archive of named pieces.
//!
//! A format crate: bytes in, values out. A source writes one for each disk, a reader takes it apart: to match a disk with
//! its snapshot, to prove a recovery secret, to mend a volume. The layout is written down in `FORMAT.md`.
//!
//! Deliberately knows no content: what a partition table or FVE metadata says is for other crates.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod archive;
mod error;
mod layout;
mod name;

pub use archive::{DiskHead, Piece};
pub use error::Error;
pub use layout::{MAX_HEAD_BYTES, MAX_PIECE_BYTES, MAX_PIECES};
pub use name::PieceName;
