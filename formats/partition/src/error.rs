//! What can be wrong with a partition table; the closed lists.

use thiserror::Error;

/// Broken rule of one copy of a GPT.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GptDamage {
    /// The sector lies beyond the end of the disk.
    #[error("sector {lba} of the header lies beyond the end of the disk")]
    HeaderBeyondDisk {
        /// Sector of the header.
        lba: u64,
    },
    /// There is no GPT header.
    #[error("sector {lba} holds no GPT header")]
    NoSignature {
        /// Sector of the header.
        lba: u64,
    },
    /// The header's length is not allowed.
    #[error("the header has a length of {bytes} bytes")]
    HeaderLength {
        /// Length, in bytes.
        bytes: u32,
    },
    /// The header's checksum is wrong.
    #[error("the checksum of the header is wrong")]
    HeaderChecksum,
    /// The revision is not 1.0.
    #[error("the revision {found:#010x} is not known")]
    Revision {
        /// The revision.
        found: u32,
    },
    /// The header says that it stands in another sector.
    #[error("the header in sector {lba} says that it stands in sector {says}")]
    Misplaced {
        /// Sector of the header.
        lba: u64,
        /// Sector that it names.
        says: u64,
    },
    /// Length or number of the entries is not allowed.
    #[error("{count} entries of {bytes} bytes are not allowed")]
    EntryArray {
        /// Number of entries.
        count: u32,
        /// Length of one, in bytes.
        bytes: u32,
    },
    /// The entries lie beyond the end of the disk.
    #[error("the entries in sector {lba} lie beyond the end of the disk")]
    EntriesBeyondDisk {
        /// First sector of the entries.
        lba: u64,
    },
    /// The checksum of the entries is wrong.
    #[error("the checksum of the entries is wrong")]
    EntriesChecksum,
    /// A partition ends before it begins, or reaches beyond the disk.
    #[error("partition {index} from sector {first_lba} to {last_lba} does not lie inside the disk")]
    PartitionRange {
        /// Number of the entry, from 0.
        index: usize,
        /// First sector.
        first_lba: u64,
        /// Last sector.
        last_lba: u64,
    },
    /// Two partitions share sectors.
    #[error("partition {index} overlaps partition {other}")]
    PartitionOverlap {
        /// Number of the entry, from 0.
        index: usize,
        /// Number of the entry that it overlaps.
        other: usize,
    },
}

/// Broken rule of an MBR.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MbrDamage {
    /// The disk is shorter than an MBR.
    #[error("the disk has {disk_bytes} bytes, less than a master boot record")]
    DiskTooShort {
        /// Size of the disk, in bytes.
        disk_bytes: u64,
    },
    /// The signature at the end is missing.
    #[error("the first sector has no boot signature")]
    NoSignature,
    /// The sector is the boot sector of a file system: there is no table on this disk.
    #[error("the first sector is the boot sector of a volume, not a master boot record")]
    BootSector,
    /// An entry cannot be one: its status is wrong, or it does not lie inside the disk.
    #[error("entry {index} is not that of a partition on this disk")]
    Entry {
        /// Number of the entry, from 0.
        index: usize,
    },
    /// Two partitions share sectors.
    #[error("partition {index} overlaps partition {other}")]
    PartitionOverlap {
        /// Number of the partition, from 0.
        index: usize,
        /// Number of the partition that it overlaps.
        other: usize,
    },
    /// The chain of logical partitions is broken at a sector.
    #[error("the chain of logical partitions is broken at sector {lba}")]
    LogicalChain {
        /// Sector of the broken link.
        lba: u64,
    },
    /// The chain of logical partitions is longer than any system makes.
    #[error("there are more than {max} logical partitions")]
    LogicalCount {
        /// The limit.
        max: usize,
    },
}
