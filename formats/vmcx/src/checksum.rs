//! The one checksum rule of the container: CRC-32 (zlib) with the structure's own checksum field taken as zero.

use crc32fast::Hasher;

/// Computes the checksum of `bytes`, whose own checksum field of four bytes lies at `field`.
///
/// # Panics
/// When the field does not lie inside `bytes`; callers pass structures of fixed size.
pub(crate) fn structure(bytes: &[u8], field: usize) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&bytes[..field]);
    hasher.update(&[0; 4]);
    hasher.update(&bytes[field + 4..]);
    hasher.finalize()
}

/// Computes the plain CRC-32 of replay data.
pub(crate) fn data(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
