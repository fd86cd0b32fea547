//! Names of pieces: what a piece is, and where it lies.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;

use crate::error::Error;
use crate::layout::NAME;

/// Characters of a GUID without braces.
const GUID_CHARACTERS: usize = 36;

/// What a piece is, and where it lies on its disk (FORMAT.md 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PieceName {
    /// Bytes of a partition table.
    PartitionTable {
        /// Offset on the disk, in bytes.
        offset: u64,
    },
    /// A metadata item of the VHDX.
    MetadataItem {
        /// Its id: a GUID in lower case without braces.
        id: String,
    },
    /// The first bytes of a volume.
    VolumeHead {
        /// Where the volume begins on the disk, in bytes.
        volume: u64,
    },
    /// Relocated boot sectors of a BitLocker volume, encrypted.
    RelocatedSectors {
        /// Where the volume begins on the disk, in bytes.
        volume: u64,
        /// Offset on the volume, in bytes.
        offset: u64,
    },
    /// An FVE metadata region.
    FveMetadata {
        /// Where the volume begins on the disk, in bytes.
        volume: u64,
        /// Offset on the volume, in bytes.
        offset: u64,
    },
    /// A piece of a kind that is not known here; its name without the length.
    Other(String),
}

impl PieceName {
    /// Returns where the piece lies on the disk, in bytes; none for what lies on no disk.
    #[must_use]
    pub fn disk_offset(&self) -> Option<u64> {
        match self {
            Self::PartitionTable { offset } => Some(*offset),
            Self::VolumeHead { volume } => Some(*volume),
            Self::RelocatedSectors { volume, offset } | Self::FveMetadata { volume, offset } => {
                volume.checked_add(*offset)
            }
            Self::MetadataItem { .. } | Self::Other(_) => None,
        }
    }

    /// Returns where the volume of the piece begins; none for what belongs to none.
    #[must_use]
    pub fn volume(&self) -> Option<u64> {
        match self {
            Self::VolumeHead { volume }
            | Self::RelocatedSectors { volume, .. }
            | Self::FveMetadata { volume, .. } => Some(*volume),
            _ => None,
        }
    }

    /// Parses the name of a member, and splits the length off.
    pub(crate) fn parse(text: &str) -> Result<(Self, u64), Error> {
        let bad = || Error::Name { name: text.to_string() };
        let is_printable = text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        let is_relative = text.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        let (name, length) = text.rsplit_once('+').ok_or_else(bad)?;
        let length = number(length).filter(|_| is_printable && is_relative && !name.is_empty());
        let name = Self::parse_place(name).unwrap_or_else(|| Self::Other(name.to_string()));
        Ok((name, length.ok_or_else(bad)?))
    }

    fn parse_place(name: &str) -> Option<Self> {
        if let Some(offset) = name.strip_prefix("partition-table@") {
            return Some(Self::PartitionTable { offset: number(offset)? });
        }
        if let Some(id) = name.strip_prefix("item-") {
            let is_guid = id.len() == GUID_CHARACTERS
                && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
            return is_guid.then(|| Self::MetadataItem { id: id.to_string() });
        }
        let (volume, piece) = name.strip_prefix("volume@")?.split_once('/')?;
        let volume = number(volume)?;
        let (kind, offset) = piece.split_once('@')?;
        match (kind, number(offset)?) {
            ("head", 0) => Some(Self::VolumeHead { volume }),
            ("relocated", offset) => Some(Self::RelocatedSectors { volume, offset }),
            ("fve-metadata", offset) => Some(Self::FveMetadata { volume, offset }),
            _ => None,
        }
    }

    /// The name of the member that holds a piece of `length` bytes.
    pub(crate) fn encode(&self, length: usize) -> Result<String, Error> {
        let name = format!("{self}+{length}");
        // Fails for what would be read back as another piece, or not at all.
        match Self::parse(&name) {
            Ok((parsed, _)) if parsed == *self && name.len() <= NAME.len() => Ok(name),
            _ => Err(Error::Name { name }),
        }
    }
}

impl fmt::Display for PieceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartitionTable { offset } => write!(f, "partition-table@{offset}"),
            Self::MetadataItem { id } => write!(f, "item-{id}"),
            Self::VolumeHead { volume } => write!(f, "volume@{volume}/head@0"),
            Self::RelocatedSectors { volume, offset } => write!(f, "volume@{volume}/relocated@{offset}"),
            Self::FveMetadata { volume, offset } => write!(f, "volume@{volume}/fve-metadata@{offset}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// A decimal number without sign or leading zeros.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}
