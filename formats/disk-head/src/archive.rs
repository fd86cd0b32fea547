//! The archive: pieces to bytes and back.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

use crate::error::Error;
use crate::layout::{
    CHECKSUM, DEVICE_MAJOR, DEVICE_MINOR, GID, MAGIC, MAX_HEAD_BYTES, MAX_PIECE_BYTES, MAX_PIECES, MODE,
    MODIFIED, NAME, SIZE, TAR_BLOCK_BYTES, TAR_END_BYTES, TYPE_FLAG, UID,
};
use crate::name::PieceName;

/// A piece of a disk. Its bytes may be a secret, so they are not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// What it is, and where it lies.
    pub name: PieceName,
    /// All of its bytes, zeros at the end included.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.name, self.bytes.len())
    }
}

/// Pieces of one disk, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskHead {
    /// The pieces.
    pub pieces: Vec<Piece>,
}

impl DiskHead {
    /// Encodes the archive. The same pieces give the same bytes.
    ///
    /// # Errors
    /// [`Error::TooManyPieces`], [`Error::PieceTooLarge`], [`Error::TooLarge`], [`Error::Name`] for a name that a reader
    /// would not take as the same, [`Error::Duplicate`].
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        if self.pieces.len() > MAX_PIECES {
            return Err(Error::TooManyPieces { max: MAX_PIECES });
        }
        let mut archive = Vec::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            let have = piece.bytes.len();
            let name = piece.name.encode(have)?;
            if have > MAX_PIECE_BYTES {
                return Err(Error::PieceTooLarge { name, max: MAX_PIECE_BYTES, have: have as u64 });
            }
            if self.pieces[..index].iter().any(|other| other.name == piece.name) {
                return Err(Error::Duplicate { name });
            }
            let stored = without_zeros(&piece.bytes);
            archive.extend_from_slice(&header(&name, stored.len()));
            archive.extend_from_slice(stored);
            archive.resize(archive.len().next_multiple_of(TAR_BLOCK_BYTES), 0);
        }
        archive.resize(archive.len() + TAR_END_BYTES, 0);
        let have = archive.len();
        if have > MAX_HEAD_BYTES {
            return Err(Error::TooLarge { max: MAX_HEAD_BYTES, have });
        }
        Ok(archive)
    }

    /// Parses an archive, which must be exactly as [`encode`](Self::encode) writes it.
    ///
    /// # Errors
    /// [`Error`] names the first rule that is broken.
    pub fn parse(archive: &[u8]) -> Result<Self, Error> {
        if archive.len() > MAX_HEAD_BYTES {
            return Err(Error::TooLarge { max: MAX_HEAD_BYTES, have: archive.len() });
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = 0;
        loop {
            let block = archive.get(at..at + TAR_BLOCK_BYTES).ok_or(Error::Truncated { at })?;
            if block[0] == 0 {
                break;
            }
            if pieces.len() == MAX_PIECES {
                return Err(Error::TooManyPieces { max: MAX_PIECES });
            }
            let (name, stored_bytes) = parse_header(block, at)?;
            let (piece_name, length) = PieceName::parse(&name)?;
            let Some(length) = usize::try_from(length).ok().filter(|length| *length <= MAX_PIECE_BYTES)
            else {
                return Err(Error::PieceTooLarge { name, max: MAX_PIECE_BYTES, have: length });
            };
            if pieces.iter().any(|piece| piece.name == piece_name) {
                return Err(Error::Duplicate { name });
            }
            at += TAR_BLOCK_BYTES;
            // At most 8 GiB, which eleven octal digits say; the archive is shorter.
            let stored = archive.get(at..at + stored_bytes).ok_or(Error::Truncated { at })?;
            if stored_bytes > length || stored.last() == Some(&0) {
                return Err(Error::Length { name });
            }
            let end = at + stored_bytes.next_multiple_of(TAR_BLOCK_BYTES);
            let padding = archive.get(at + stored_bytes..end).ok_or(Error::Truncated { at })?;
            if padding.iter().any(|&byte| byte != 0) {
                return Err(Error::Padding { at: at + stored_bytes });
            }
            let mut bytes = stored.to_vec();
            bytes.resize(length, 0);
            pieces.push(Piece { name: piece_name, bytes });
            at = end;
        }
        let end = archive.get(at..at + TAR_END_BYTES).ok_or(Error::Truncated { at })?;
        if end.iter().any(|&byte| byte != 0) {
            return Err(Error::Padding { at });
        }
        match archive.len() - at - TAR_END_BYTES {
            0 => Ok(Self { pieces }),
            count => Err(Error::Trailing { count }),
        }
    }

    /// Returns the bytes of a piece.
    #[must_use]
    pub fn piece(&self, name: &PieceName) -> Option<&[u8]> {
        self.pieces.iter().find(|piece| piece.name == *name).map(|piece| piece.bytes.as_slice())
    }

    /// Lists the FVE metadata regions of the volume that begins at `volume`, with their offsets on it.
    pub fn fve_metadata(&self, volume: u64) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces.iter().filter_map(move |piece| match piece.name {
            PieceName::FveMetadata { volume: of, offset } if of == volume => {
                Some((offset, piece.bytes.as_slice()))
            }
            _ => None,
        })
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// The header of a member; the name fits, as [`PieceName::encode`] made it.
fn header(name: &str, stored_bytes: usize) -> [u8; TAR_BLOCK_BYTES] {
    let mut header = [0; TAR_BLOCK_BYTES];
    let mut put = |field: core::ops::Range<usize>, text: &[u8]| {
        header[field.start..field.start + text.len()].copy_from_slice(text);
    };
    put(NAME, name.as_bytes());
    put(MODE, b"0000600");
    for field in [UID, GID, DEVICE_MAJOR, DEVICE_MINOR] {
        put(field, b"0000000");
    }
    put(SIZE, alloc::format!("{stored_bytes:011o}").as_bytes());
    put(MODIFIED, b"00000000000");
    put(CHECKSUM, b"        ");
    put(MAGIC, b"ustar\x0000");
    header[TYPE_FLAG] = b'0';
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[CHECKSUM].copy_from_slice(alloc::format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Reads name and size, and compares everything with the header that these two give.
fn parse_header(block: &[u8], at: usize) -> Result<(String, usize), Error> {
    let bad = || Error::Header { at };
    let name = block[NAME].split(|&byte| byte == 0).next().unwrap_or_default();
    let name = core::str::from_utf8(name).map_err(|_| bad())?;
    let digits = core::str::from_utf8(&block[SIZE.start..SIZE.end - 1]).map_err(|_| bad())?;
    let is_octal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let size = usize::from_str_radix(digits, 8).ok().filter(|_| is_octal).ok_or_else(bad)?;
    if size > MAX_PIECE_BYTES {
        return Err(Error::PieceTooLarge { name: name.to_string(), max: MAX_PIECE_BYTES, have: size as u64 });
    }
    if block == header(name, size) { Ok((name.to_string(), size)) } else { Err(bad()) }
}
