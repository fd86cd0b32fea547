//! Members: one content as a tar entry in a zstd frame of its own.
//!
//! The content of the frame is a ustar header, the content and zeros to a whole block of 512 bytes. The header
//! is a function of digest and size (POSIX.1-2017 pax, section "ustar Interchange Format"), so a reader
//! compares it whole and parses nothing but the name and the size.

use lifeboat_schema::Digest;

use super::error::Corruption;

/// Bytes of a tar block.
pub const TAR_BLOCK_BYTES: usize = 512;
/// Zero bytes that end an archive.
pub const TAR_END_BYTES: usize = 2 * TAR_BLOCK_BYTES;
/// Largest content of a member: the size of the parts that larger artefacts are cut in.
pub const MAX_MEMBER_BYTES: usize = 4 * 1024 * 1024;
/// Largest content of a member's frame.
pub(super) const MAX_ENTRY_BYTES: usize = TAR_BLOCK_BYTES + MAX_MEMBER_BYTES;

/// Field of a ustar header: offset and size.
type Field = (usize, usize);
const NAME: Field = (0, 100);
const MODE: Field = (100, 8);
const USER_ID: Field = (108, 8);
const GROUP_ID: Field = (116, 8);
const SIZE: Field = (124, 12);
const MODIFIED: Field = (136, 12);
const CHECKSUM: Field = (148, 8);
const TYPE: Field = (156, 1);
const MAGIC_AND_VERSION: Field = (257, 8);
const DEVICE_MAJOR: Field = (329, 8);
const DEVICE_MINOR: Field = (337, 8);
/// Characters of a digest at the start of [`NAME`].
const DIGEST_CHARS: usize = 64;

/// Where a member lies in its bundle's plaintext, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRef {
    /// Digest of the content, which is also its name in the archive.
    pub digest: Digest,
    /// Bytes of the content.
    pub size: u64,
    /// Where the member's frame begins in the plaintext.
    pub offset: u64,
    /// Bytes of the member's frame.
    pub length: u64,
}

/// Bytes of header, content and zeros for a content of `size` bytes.
pub(super) fn entry_bytes(size: usize) -> usize {
    TAR_BLOCK_BYTES + size.next_multiple_of(TAR_BLOCK_BYTES)
}

/// The one header that a content may have.
pub(super) fn tar_header(digest: &Digest, size: u64) -> [u8; TAR_BLOCK_BYTES] {
    let mut header = [0u8; TAR_BLOCK_BYTES];
    let mut put = |(offset, length): Field, text: &[u8]| {
        debug_assert!(text.len() <= length);
        header[offset..offset + text.len()].copy_from_slice(text);
    };
    put(NAME, digest.to_string().as_bytes());
    put(MODE, b"0000600\0");
    put(USER_ID, b"0000000\0");
    put(GROUP_ID, b"0000000\0");
    put(SIZE, format!("{size:011o}\0").as_bytes());
    put(MODIFIED, b"00000000000\0");
    // The sum is taken with spaces in its own place.
    put(CHECKSUM, b"        ");
    put(TYPE, b"0");
    put(MAGIC_AND_VERSION, b"ustar\x0000");
    put(DEVICE_MAJOR, b"0000000\0");
    put(DEVICE_MINOR, b"0000000\0");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    let (offset, length) = CHECKSUM;
    header[offset..offset + length].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Checks a decompressed entry whose frame begins at `offset` and returns its digest and content.
///
/// The digest is that of the name, and the content is compared with it.
pub(super) fn parse_entry(entry: &[u8], offset: u64) -> Result<(Digest, &[u8]), Corruption> {
    let bad_header = Corruption::TarHeader { offset };
    let (header, data) = entry.split_first_chunk::<TAR_BLOCK_BYTES>().ok_or(bad_header.clone())?;
    let name = std::str::from_utf8(&header[..DIGEST_CHARS]).ok().and_then(|text| text.parse::<Digest>().ok());
    let size = parse_size(&header[SIZE.0..SIZE.0 + SIZE.1]);
    let (Some(name), Some(size)) = (name, size) else {
        return Err(bad_header);
    };
    if size > MAX_MEMBER_BYTES
        || entry_bytes(size) != entry.len()
        || *header != tar_header(&name, size as u64)
    {
        return Err(bad_header);
    }
    let (content, padding) = data.split_at(size);
    if padding.iter().any(|b| *b != 0) {
        return Err(Corruption::TarPadding { offset });
    }
    let have = Digest::of(content);
    if have != name {
        return Err(Corruption::MemberDigest { offset, have, expected: name });
    }
    Ok((name, content))
}

/// Eleven octal digits and a NUL.
fn parse_size(field: &[u8]) -> Option<usize> {
    let digits = field.strip_suffix(b"\0")?;
    digits.iter().try_fold(0usize, |size, digit| match digit {
        b'0'..=b'7' => size.checked_mul(8)?.checked_add(usize::from(digit - b'0')),
        _ => None,
    })
}
