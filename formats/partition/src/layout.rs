//! Constants and raw structures of partition tables: UEFI specification 2.10, section 5, and the older MBR.

use uguid::{Guid, guid};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of an MBR, in bytes, whatever the sector size.
pub const MBR_BYTES: usize = 512;
/// Signature at the end of an MBR.
pub const MBR_SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// Sector size in which the entries of an MBR count, unless the disk has larger logical sectors.
pub const MIN_SECTOR_BYTES: u32 = 512;
/// Largest logical sector size, in bytes.
pub const MAX_SECTOR_BYTES: u32 = 4096;
/// Largest number of logical partitions that are followed; Windows and Linux handle fewer.
pub const MAX_LOGICAL_PARTITIONS: usize = 128;

/// Signature of a GPT header (UEFI 5.3.2).
pub const GPT_SIGNATURE: [u8; 8] = *b"EFI PART";
/// Revision of a GPT header.
pub const GPT_REVISION: u32 = 0x0001_0000;
/// Smallest length of a partition entry, in bytes; others are this times a power of two.
pub const MIN_ENTRY_BYTES: u32 = 128;
/// Largest length of a partition entry, in bytes; no system writes more than 128.
pub const MAX_ENTRY_BYTES: u32 = 4096;
/// Largest entry array, in bytes: 64 times the usual 16 KiB. The array is held in memory whole.
pub const MAX_ENTRY_ARRAY_BYTES: u64 = 1 << 20;

/// Type of the EFI system partition.
pub const TYPE_EFI_SYSTEM: Guid = guid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
/// Type of the Microsoft reserved partition.
pub const TYPE_MICROSOFT_RESERVED: Guid = guid!("e3c9e316-0b5c-4db8-817d-f92df00215ae");
/// Type of a Windows data partition, which BitLocker volumes have.
pub const TYPE_WINDOWS_DATA: Guid = guid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");
/// Type of a Windows recovery partition.
pub const TYPE_WINDOWS_RECOVERY: Guid = guid!("de94bba4-06d1-4d40-a16a-bfd50179d6ac");

/// GPT header (UEFI table 5.5); the rest of the sector is reserved.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawGptHeader {
    /// Must be "EFI PART".
    pub signature: [u8; 8],
    /// Must be 1.0.
    pub revision: U32,
    /// At least 92, at most a sector.
    pub header_size: U32,
    /// CRC-32 of `header_size` bytes with this field zero.
    pub header_crc32: U32,
    /// Zero.
    pub reserved: U32,
    /// Sector in which this header stands.
    pub my_lba: U64,
    /// Sector in which the other header stands.
    pub alternate_lba: U64,
    /// First sector that partitions may use.
    pub first_usable_lba: U64,
    /// Last sector that partitions may use.
    pub last_usable_lba: U64,
    /// Identity of the disk.
    pub disk_guid: [u8; 16],
    /// First sector of the entry array.
    pub entry_lba: U64,
    /// Number of entries.
    pub entry_count: U32,
    /// Length of an entry, in bytes.
    pub entry_size: U32,
    /// CRC-32 of the entry array.
    pub entries_crc32: U32,
}
const _: () = assert!(size_of::<RawGptHeader>() == 92);

/// Partition entry of a GPT (UEFI table 5.6); the rest of a longer entry is reserved.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawGptEntry {
    /// Zero for an unused entry.
    pub type_guid: [u8; 16],
    /// Identity of the partition.
    pub unique_guid: [u8; 16],
    /// First sector.
    pub first_lba: U64,
    /// Last sector, inclusive.
    pub last_lba: U64,
    /// Attributes.
    pub attributes: U64,
    /// Name, UTF-16LE, ended by a zero unit unless it is full.
    pub name: [u8; 72],
}
const _: () = assert!(size_of::<RawGptEntry>() == MIN_ENTRY_BYTES as usize);

/// Entry of an MBR.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawMbrEntry {
    /// 0x80 for the active partition, else 0.
    pub status: u8,
    /// First sector by geometry; ignored.
    pub first_chs: [u8; 3],
    /// Kind of the partition; 0 for an unused entry.
    pub kind: u8,
    /// Last sector by geometry; ignored.
    pub last_chs: [u8; 3],
    /// First sector.
    pub first_lba: U32,
    /// Number of sectors.
    pub sectors: U32,
}
const _: () = assert!(size_of::<RawMbrEntry>() == 16);

/// Master boot record, or the head of a logical partition.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawMbr {
    /// Boot code.
    pub code: [u8; 440],
    /// Identity of the disk.
    pub disk_signature: U32,
    /// Zero, or a mark of write protection.
    pub reserved: U16,
    /// Partitions.
    pub entries: [RawMbrEntry; 4],
    /// Must be 0x55, 0xaa.
    pub signature: [u8; 2],
}
const _: () = assert!(size_of::<RawMbr>() == MBR_BYTES);
