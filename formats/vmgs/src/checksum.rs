//! The checksum rules: CRC-32 as in zlib for headers, a sum of bytes for the VHD footer.

use crc32fast::Hasher;

/// Computes the CRC-32 of `bytes`, whose own checksum field of four bytes lies at `field`.
///
/// # Panics
/// When the field does not lie inside `bytes`; callers pass structures that hold it.
pub(crate) fn header(bytes: &[u8], field: usize) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&bytes[..field]);
    hasher.update(&[0; 4]);
    hasher.update(&bytes[field + 4..]);
    hasher.finalize()
}

/// Computes the checksum of a VHD footer: the one's complement of the sum of all bytes outside the field.
///
/// # Panics
/// When the field does not lie inside `bytes`; callers pass a footer.
pub(crate) fn footer(bytes: &[u8], field: usize) -> u32 {
    let sum = |part: &[u8]| part.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    !sum(&bytes[..field]).wrapping_add(sum(&bytes[field + 4..]))
}
