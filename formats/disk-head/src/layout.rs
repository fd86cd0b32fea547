//! Constants of the archive, named as in `FORMAT.md`.

use core::ops::Range;

/// Size of a tar header, and unit of its contents (FORMAT.md 1).
pub(crate) const TAR_BLOCK_BYTES: usize = 512;
/// Zeros behind the last piece (FORMAT.md 1).
pub(crate) const TAR_END_BYTES: usize = 1024;
/// Most pieces: a disk of a VM has a handful of volumes, each with five pieces.
pub const MAX_PIECES: usize = 256;
/// Largest piece: a metadata item of a VHDX.
pub const MAX_PIECE_BYTES: usize = 1 << 20;
/// Largest archive: what a reader takes into memory without thought.
pub const MAX_HEAD_BYTES: usize = 16 << 20;

/// Fields of a tar header (FORMAT.md 1).
pub(crate) const NAME: Range<usize> = 0..100;
pub(crate) const MODE: Range<usize> = 100..108;
pub(crate) const UID: Range<usize> = 108..116;
pub(crate) const GID: Range<usize> = 116..124;
pub(crate) const SIZE: Range<usize> = 124..136;
pub(crate) const MODIFIED: Range<usize> = 136..148;
pub(crate) const CHECKSUM: Range<usize> = 148..156;
pub(crate) const TYPE_FLAG: usize = 156;
pub(crate) const MAGIC: Range<usize> = 257..265;
pub(crate) const DEVICE_MAJOR: Range<usize> = 329..337;
pub(crate) const DEVICE_MINOR: Range<usize> = 337..345;
