//! Constants and raw structures of a VHD file (Virtual Hard Disk Image Format Specification, version 1.0, 2006).

use core::fmt;

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Sector size of every VHD, in bytes.
pub const SECTOR_BYTES: u64 = 512;
/// Length of the footer, in bytes.
pub const FOOTER_BYTES: usize = 512;
/// Cookie of the footer.
pub const FOOTER_COOKIE: [u8; 8] = *b"conectix";
/// Version of footer and header.
pub const FILE_VERSION: u32 = 0x0001_0000;
/// Disk type: fixed.
pub const TYPE_FIXED: u32 = 2;
/// Disk type: dynamic.
pub const TYPE_DYNAMIC: u32 = 3;
/// Disk type: differencing.
pub const TYPE_DIFFERENCING: u32 = 4;
/// Length of the header of dynamic and differencing disks, in bytes.
pub const HEADER_BYTES: usize = 1024;
/// Cookie of the header.
pub const HEADER_COOKIE: [u8; 8] = *b"cxsparse";
/// BAT entry of a block that is not allocated.
pub const BAT_UNUSED: u32 = u32::MAX;
/// Length of a BAT entry, in bytes.
pub const BAT_ENTRY_BYTES: u64 = 4;
/// Parent locator with a path relative to the child, UTF-16LE.
pub const LOCATOR_RELATIVE: [u8; 4] = *b"W2ru";
/// Parent locator with an absolute path, UTF-16LE.
pub const LOCATOR_ABSOLUTE: [u8; 4] = *b"W2ku";

/// Largest virtual disk, in bytes: BAT entries count 512-byte sectors in 32 bits.
pub const MAX_VIRTUAL_BYTES: u64 = 2 << 40;
/// Smallest block size: a block is whole sectors.
pub const MIN_BLOCK_BYTES: u32 = 512;
/// Largest block size; 2 MiB is usual, and VHDX ends here.
pub const MAX_BLOCK_BYTES: u32 = 256 << 20;
/// Largest parent locator, in bytes: a Windows path has at most 32,767 units.
pub const MAX_LOCATOR_BYTES: u32 = 64 << 10;

/// Identity of a VHD, as it stands in the file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VhdId(pub [u8; 16]);

impl fmt::Display for VhdId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VhdId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VhdId({self})")
    }
}

/// Footer, and its copy at the start of dynamic and differencing disks.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawFooter {
    /// Must be "conectix".
    pub cookie: [u8; 8],
    /// Bit 0: temporary disk; bit 1 is always set.
    pub features: U32,
    /// Must have the major version 1.
    pub file_version: U32,
    /// Offset of the header; all ones for a fixed disk.
    pub data_offset: U64,
    /// Seconds since the year 2000, UTC.
    pub timestamp: U32,
    /// Program that made the disk.
    pub creator_application: [u8; 4],
    /// Version of that program.
    pub creator_version: U32,
    /// System that it ran on.
    pub creator_host: [u8; 4],
    /// Size at creation, in bytes.
    pub original_size: U64,
    /// Size of the virtual disk, in bytes.
    pub current_size: U64,
    /// Cylinders; not used for sizes here.
    pub cylinders: U16,
    /// Heads.
    pub heads: u8,
    /// Sectors per track.
    pub sectors_per_track: u8,
    /// 2, 3 or 4.
    pub disk_type: U32,
    /// One's complement of the sum of all other bytes.
    pub checksum: U32,
    /// Identity of the disk.
    pub unique_id: [u8; 16],
    /// 1 when the machine was saved.
    pub saved_state: u8,
    /// Zeros.
    pub reserved: [u8; 427],
}
const _: () = assert!(size_of::<RawFooter>() == FOOTER_BYTES);

/// Parent locator entry of a header.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawParentLocator {
    /// Kind of the locator.
    pub platform_code: [u8; 4],
    /// Room in the file, in sectors or bytes.
    pub data_space: U32,
    /// Length, in bytes.
    pub data_length: U32,
    /// Zero.
    pub reserved: U32,
    /// Offset in the file.
    pub data_offset: U64,
}
const _: () = assert!(size_of::<RawParentLocator>() == 24);

/// Header of dynamic and differencing disks.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawDynamicHeader {
    /// Must be "cxsparse".
    pub cookie: [u8; 8],
    /// All ones.
    pub data_offset: U64,
    /// Offset of the BAT.
    pub table_offset: U64,
    /// Must have the major version 1.
    pub header_version: U32,
    /// Number of BAT entries.
    pub max_table_entries: U32,
    /// Power of two, whole sectors.
    pub block_size: U32,
    /// One's complement of the sum of all other bytes.
    pub checksum: U32,
    /// Identity of the parent of a differencing disk.
    pub parent_unique_id: [u8; 16],
    /// When the parent was modified, seconds since the year 2000.
    pub parent_timestamp: U32,
    /// Zero.
    pub reserved: U32,
    /// Name of the parent, UTF-16BE.
    pub parent_name: [u8; 512],
    /// Where the parent may be.
    pub parent_locators: [RawParentLocator; 8],
    /// Zeros.
    pub reserved2: [u8; 256],
}
const _: () = assert!(size_of::<RawDynamicHeader>() == HEADER_BYTES);

/// Computes the checksum of a structure whose checksum field is at `field`.
#[must_use]
pub fn checksum(bytes: &[u8], field: usize) -> u32 {
    let sum = |part: &[u8]| part.iter().fold(0_u32, |sum, byte| sum.wrapping_add((*byte).into()));
    !sum(bytes).wrapping_sub(sum(bytes.get(field..field + 4).unwrap_or_default()))
}
