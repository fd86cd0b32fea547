//! Checksum of headers, region tables and log entries: CRC-32C with the checksum field taken as zero.
//!
//! Other Hyper-V files use CRC-32; VHDX uses the Castagnoli polynomial. Payload, metadata and BAT have no checksum.

/// Offset of the checksum field in every structure that has one.
const CHECKSUM_OFFSET: usize = 4;
/// End of the checksum field.
const CHECKSUM_END: usize = 8;

/// Computes the checksum of a structure. `bytes` must hold more than the checksum field.
pub(crate) fn compute(bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&bytes[..CHECKSUM_OFFSET]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &bytes[CHECKSUM_END..])
}

/// Tells whether a structure holds its own checksum.
pub(crate) fn is_valid(bytes: &[u8]) -> bool {
    bytes.get(CHECKSUM_OFFSET..CHECKSUM_END) == Some(&compute(bytes).to_le_bytes())
}

/// Puts the checksum into its field.
pub(crate) fn seal(bytes: &mut [u8]) {
    let checksum = compute(bytes);
    bytes[CHECKSUM_OFFSET..CHECKSUM_END].copy_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_castagnoli_with_a_zeroed_field() {
        // Check value of CRC-32C in the catalogue of CRC algorithms.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let mut bytes = *b"head\xaa\xbb\xcc\xddrest of it";
        assert_eq!(compute(&bytes), crc32c::crc32c(b"head\0\0\0\0rest of it"));
        assert!(!is_valid(&bytes));
        seal(&mut bytes);
        assert!(is_valid(&bytes));
    }
}
