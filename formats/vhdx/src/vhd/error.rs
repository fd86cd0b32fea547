//! Errors of the VHD reader.

use thiserror::Error;

use crate::port::PortError;
use crate::vhd::layout::VhdId;

/// Failure to read or combine VHD files.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VhdError {
    /// The port failed.
    #[error("the VHD file cannot be read")]
    Port(#[from] PortError),
    /// There is no VHD footer at the end, and none at the start.
    #[error("not a VHD file: it has no footer")]
    NotVhd,
    /// A rule of the format is broken.
    #[error("damaged VHD file: {0}")]
    Corrupt(VhdCorruption),
    /// The version is not 1.
    #[error("unsupported VHD version {found:#010x}")]
    UnsupportedVersion {
        /// The version in the file.
        found: u32,
    },
    /// The disk type is none of fixed, dynamic and differencing.
    #[error("unsupported VHD disk type {found}")]
    UnsupportedType {
        /// The type in the file.
        found: u32,
    },
    /// A range lies beyond the virtual disk.
    #[error("range of {length} bytes at {offset} lies beyond the virtual disk of {virtual_size_bytes} bytes")]
    BeyondDisk {
        /// First byte of the range.
        offset: u64,
        /// Length of the range, in bytes.
        length: u64,
        /// Size of the virtual disk, in bytes.
        virtual_size_bytes: u64,
    },
    /// A chain holds no disk.
    #[error("a chain needs at least one disk")]
    ChainEmpty,
    /// A chain is too long.
    #[error("the chain has {count} disks, more than the {max} that this reader handles")]
    ChainTooLong {
        /// Number of disks.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A disk stands twice in a chain.
    #[error("disk {index} of the chain is the same as disk {first}")]
    ChainCycle {
        /// Second position of the disk.
        index: usize,
        /// First position of the disk.
        first: usize,
    },
    /// A chain ends in a disk that has a parent.
    #[error("disk {index} of the chain needs the parent {id}, which was not given")]
    ParentMissing {
        /// Position in the chain; 0 is the youngest disk.
        index: usize,
        /// Identity of the parent.
        id: VhdId,
    },
    /// A chain goes on after a disk that has no parent.
    #[error("disk {index} of the chain has no parent, but one was given")]
    ParentUnexpected {
        /// Position in the chain; 0 is the youngest disk.
        index: usize,
    },
    /// The parent is another disk.
    #[error("disk {index} of the chain was made from the disk {expected}, but the given parent is {found}")]
    ParentMismatch {
        /// Position of the child in the chain; 0 is the youngest disk.
        index: usize,
        /// Identity that the child names.
        expected: VhdId,
        /// Identity of the given parent.
        found: VhdId,
    },
}

impl From<VhdCorruption> for VhdError {
    fn from(corruption: VhdCorruption) -> Self {
        Self::Corrupt(corruption)
    }
}

/// Broken rule of the VHD format; the closed list.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum VhdCorruption {
    /// A size is not one of those that the format allows.
    #[error("{what} of {value} bytes is not allowed")]
    InvalidSize {
        /// Name of the size.
        what: &'static str,
        /// Its value, in bytes.
        value: u64,
    },
    /// The data of a fixed disk does not fit before its footer.
    #[error("the disk has {need_bytes} bytes, but the file holds {have_bytes}")]
    DataTruncated {
        /// Size of the virtual disk, in bytes.
        need_bytes: u64,
        /// Bytes before the footer.
        have_bytes: u64,
    },
    /// The header is not inside the file, or its cookie or checksum is wrong.
    #[error("the header at offset {offset} is not valid")]
    Header {
        /// Offset in the file.
        offset: u64,
    },
    /// The BAT has too few entries for the disk.
    #[error("the BAT has {have} entries, but the disk needs {need}")]
    BatTooSmall {
        /// Number of entries.
        have: u64,
        /// Number that is needed.
        need: u64,
    },
    /// The BAT does not lie inside the file, behind the header.
    #[error("the BAT at offset {offset} does not lie inside the file, behind the header")]
    BatRange {
        /// Offset in the file.
        offset: u64,
    },
    /// A block does not lie inside the file, or lies over header or BAT.
    #[error("block {block} at offset {offset} does not lie inside the file, apart from its header and BAT")]
    BlockRange {
        /// Number of the block.
        block: u64,
        /// Offset in the file.
        offset: u64,
    },
}
