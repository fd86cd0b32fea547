//! zstd frames as the format allows them: one at a time, with their sizes declared.
//!
//! Below members and bodies. zstd itself decompresses; this module reads a frame's header first (RFC 8878,
//! section 3.1.1.1), so that nothing is allocated or decompressed that the format does not allow.

use zstd::bulk::Decompressor;
use zstd::zstd_safe;

use super::error::{Corruption, FrameDefect};
use super::padme::padme;

/// Largest window of a frame in bytes.
pub const MAX_WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// Magic number of a frame, as it stands in the file.
pub const FRAME_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Magic number of the skippable frame that pads a plaintext, as it stands in the file.
pub const PADDING_MAGIC: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
/// Bytes of the padding frame before its zeros: magic number and their count in four bytes, little-endian.
pub const PADDING_HEADER_BYTES: usize = 8;

/// A frame whose header keeps the rules.
pub(super) struct Frame<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) content_bytes: u64,
}

impl<'a> Frame<'a> {
    /// Parses the frame at the start of `rest`; its content may have up to `max_content_bytes`.
    pub(super) fn parse(rest: &'a [u8], max_content_bytes: u64) -> Result<Self, FrameDefect> {
        let content_bytes = parse_frame_header(rest)?;
        if content_bytes > max_content_bytes {
            return Err(FrameDefect::ContentSize(content_bytes));
        }
        let length = zstd_safe::find_frame_compressed_size(rest).map_err(|_| FrameDefect::Truncated)?;
        let bytes = rest.get(..length).ok_or(FrameDefect::Truncated)?;
        Ok(Self { bytes, content_bytes })
    }

    /// Decompresses the frame to the front of `buffer`, which grows where needed, and returns that part.
    pub(super) fn decompress<'b>(
        &self,
        decompressor: &mut Decompressor<'_>,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], FrameDefect> {
        let size =
            usize::try_from(self.content_bytes).map_err(|_| FrameDefect::ContentSize(self.content_bytes))?;
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        let content = &mut buffer[..size];
        match decompressor.decompress_to_buffer(self.bytes, content) {
            Ok(written) if written == size => Ok(content),
            _ => Err(FrameDefect::Content),
        }
    }
}

/// Reads a frame header, checks it against the rules and returns the size of the content.
fn parse_frame_header(bytes: &[u8]) -> Result<u64, FrameDefect> {
    if bytes.get(..4) != Some(&FRAME_MAGIC[..]) {
        return Err(FrameDefect::Magic);
    }
    let descriptor = *bytes.get(4).ok_or(FrameDefect::Truncated)?;
    let single_segment = descriptor & 0x20 != 0;
    // Bits 0 and 1: size of a dictionary id; bit 3 is reserved. Bit 4 has no meaning and must be 0 here.
    if descriptor & 0x1B != 0 {
        return Err(FrameDefect::Feature);
    }
    if descriptor & 0x04 == 0 {
        return Err(FrameDefect::NoChecksum);
    }
    let size_field_bytes = match descriptor >> 6 {
        0 if !single_segment => return Err(FrameDefect::NoContentSize),
        0 => 1,
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let size_start = if single_segment { 5 } else { 6 };
    let field = bytes.get(size_start..size_start + size_field_bytes).ok_or(FrameDefect::Truncated)?;
    let mut little_endian = [0u8; 8];
    little_endian[..size_field_bytes].copy_from_slice(field);
    let mut content_bytes = u64::from_le_bytes(little_endian);
    if size_field_bytes == 2 {
        content_bytes += 256;
    }
    let window_bytes = if single_segment {
        content_bytes
    } else {
        let exponent = u32::from(bytes[5] >> 3) + 10;
        let base = 1u64 << exponent;
        base + base / 8 * u64::from(bytes[5] & 7)
    };
    if window_bytes > MAX_WINDOW_BYTES {
        return Err(FrameDefect::Window(window_bytes));
    }
    Ok(content_bytes)
}

/// How many zeros the padding frame holds that follows `size` bytes of frames.
pub(super) fn padding_zeros(size: u64) -> Option<u64> {
    let with_header = size.checked_add(PADDING_HEADER_BYTES as u64)?;
    padme(with_header)?.checked_sub(with_header)
}

/// Checks that `plaintext` from `offset` on is exactly the padding frame that the format demands there.
pub(super) fn check_padding(plaintext: &[u8], offset: usize) -> Result<(), Corruption> {
    let start = offset as u64;
    let padding = plaintext.get(offset..).unwrap_or_default();
    let Some((header, zeros)) = padding.split_first_chunk::<PADDING_HEADER_BYTES>() else {
        return Err(Corruption::PaddingMissing { offset: start });
    };
    if header[..4] != PADDING_MAGIC {
        return Err(Corruption::PaddingMissing { offset: start });
    }
    let declared = u64::from(u32::from_le_bytes([header[4], header[5], header[6], header[7]]));
    let before = start + PADDING_HEADER_BYTES as u64;
    let expected = padding_zeros(start);
    if expected != Some(declared) {
        let expected = before.saturating_add(expected.unwrap_or(0));
        return Err(Corruption::PaddingSize { offset: start, have: before + declared, expected });
    }
    match (zeros.len() as u64).checked_sub(declared) {
        None => Err(Corruption::PaddingMissing { offset: start }),
        Some(0) => match zeros.iter().position(|b| *b != 0) {
            None => Ok(()),
            Some(position) => Err(Corruption::PaddingNotZero { offset: before + position as u64 }),
        },
        Some(have) => Err(Corruption::TrailingBytes { have }),
    }
}
