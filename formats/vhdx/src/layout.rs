//! Constants and raw structures of a VHDX file, as they lie on disk.
//!
//! This is the bottom of the crate: the parse modules turn these structures into checked types.
//! Section numbers refer to MS-VHDX v8.0.
//!
//! Nothing here judges a value: a raw structure may hold anything that the bytes held.

use uguid::{Guid, guid};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One KiB in bytes.
pub const KIB: u64 = 1 << 10;
/// One MiB in bytes: the alignment of everything after the header area (2.1).
pub const MIB: u64 = 1 << 20;

/// Signature at offset 0 of every VHDX file (2.2.1).
pub const FILE_SIGNATURE: [u8; 8] = *b"vhdxfile";
/// Length of the creator text, in UTF-16 units (2.2.1).
pub const CREATOR_UNITS: usize = 256;
/// Offset of the creator text.
pub const CREATOR_OFFSET: u64 = 8;
/// Offsets of header 1 and header 2 (2.2.2).
pub const HEADER_OFFSETS: [u64; 2] = [64 * KIB, 128 * KIB];
/// Length of a header, in bytes: the range of its checksum (2.2.2).
pub const HEADER_BYTES: usize = 4096;
/// Offsets of region table 1 and region table 2 (2.2.3).
pub const REGION_TABLE_OFFSETS: [u64; 2] = [192 * KIB, 256 * KIB];
/// Length of a region table, in bytes: the range of its checksum (2.2.3).
pub const REGION_TABLE_BYTES: usize = 64 * 1024;
/// End of the header area; log, regions and blocks begin here or later (2.1).
pub const HEADER_AREA_BYTES: u64 = MIB;
/// First offset that a log entry may change: the headers are never logged.
pub const FIRST_LOGGED_OFFSET: u64 = REGION_TABLE_OFFSETS[0];

/// Signature of a header (2.2.2).
pub const HEADER_SIGNATURE: [u8; 4] = *b"head";
/// The only version of the format (2.2.2).
pub const VERSION: u16 = 1;
/// The only version of the log (2.2.2).
pub const LOG_VERSION: u16 = 0;

/// Signature of a region table (2.2.3.1).
pub const REGION_SIGNATURE: [u8; 4] = *b"regi";
/// Largest number of entries that fits a region table (2.2.3.1).
pub const MAX_REGION_ENTRIES: u32 = 2047;
/// Region flag: a reader that does not know the region must refuse the file (2.2.3.2).
pub const REGION_REQUIRED: u32 = 1;
/// Region that holds the block allocation table.
pub const REGION_BAT: Guid = guid!("2dc27766-f623-4200-9d64-115e9bfd4a08");
/// Region that holds the metadata table and its items.
pub const REGION_METADATA: Guid = guid!("8b7ca206-4790-4b9a-b8fe-575f050f886e");

/// Sector size of the log, in bytes (2.3).
pub const LOG_SECTOR_BYTES: usize = 4096;
/// Signature of a log entry (2.3.1.1).
pub const LOG_ENTRY_SIGNATURE: [u8; 4] = *b"loge";
/// Signature of a descriptor that zeroes a range (2.3.1.2).
pub const ZERO_DESCRIPTOR_SIGNATURE: [u8; 4] = *b"zero";
/// Signature of a descriptor that replaces one sector (2.3.1.3).
pub const DATA_DESCRIPTOR_SIGNATURE: [u8; 4] = *b"desc";
/// Signature of a data sector (2.3.1.4).
pub const DATA_SECTOR_SIGNATURE: [u8; 4] = *b"data";
/// Bytes of a sector that its data descriptor keeps at the front.
pub const LEADING_BYTES: usize = 8;
/// Bytes of a sector that its data descriptor keeps at the end.
pub const TRAILING_BYTES: usize = 4;

/// Signature of the metadata table (2.6.1.1).
pub const METADATA_SIGNATURE: [u8; 8] = *b"metadata";
/// Length of the metadata table; items begin after it (2.6.1).
pub const METADATA_TABLE_BYTES: u64 = 64 * KIB;
/// Largest number of metadata entries (2.6.1.1).
pub const MAX_METADATA_ENTRIES: u16 = 2047;
/// Largest number of user metadata entries (2.6.1.2).
pub const MAX_USER_METADATA_ENTRIES: usize = 1024;
/// Largest metadata item, in bytes (2.6.1.2).
pub const MAX_METADATA_ITEM_BYTES: u32 = 1 << 20;
/// Metadata flag: the item belongs to a user of the file, not to the format.
pub const ITEM_IS_USER: u32 = 1;
/// Metadata flag: the item describes the virtual disk, not the file; children inherit it.
pub const ITEM_IS_VIRTUAL_DISK: u32 = 2;
/// Metadata flag: a reader that does not know the item must refuse the file.
pub const ITEM_IS_REQUIRED: u32 = 4;

/// Item with block size and disk kind (2.6.2.1).
pub const ITEM_FILE_PARAMETERS: Guid = guid!("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
/// Item with the size of the virtual disk, in bytes (2.6.2.2).
pub const ITEM_VIRTUAL_DISK_SIZE: Guid = guid!("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
/// Item with the SCSI page-83 identity of the virtual disk (2.6.2.3).
pub const ITEM_VIRTUAL_DISK_ID: Guid = guid!("beca12ab-b2e6-4523-93ef-c309e000c746");
/// Item with the logical sector size, in bytes (2.6.2.4).
pub const ITEM_LOGICAL_SECTOR_SIZE: Guid = guid!("8141bf1d-a96f-4709-ba47-f233a8faab5f");
/// Item with the physical sector size, in bytes (2.6.2.5).
pub const ITEM_PHYSICAL_SECTOR_SIZE: Guid = guid!("cda348c7-445d-4471-9cc9-e9885251c556");
/// Item that names the parent of a differencing disk (2.6.2.6).
pub const ITEM_PARENT_LOCATOR: Guid = guid!("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");
/// Item with legacy disk geometry; known from a reference tool, not in MS-VHDX.
pub const ITEM_CHS_PARAMETERS: Guid = guid!("da02d7bc-3d3a-423c-ac88-2a36ab21479b");
/// Item with persistent-memory labels; known from a reference tool, not in MS-VHDX.
pub const ITEM_PMEM_LABELS: Guid = guid!("10e1ae8a-4b7e-4169-a40f-cd70de928393");
/// Item present while a file is still being created; known from a reference tool, not in MS-VHDX.
pub const ITEM_INCOMPLETE_FILE: Guid = guid!("71cc85f0-1b69-4e28-9558-c3bf83ae75d3");

/// File parameter: blocks stay allocated, a fixed disk (2.6.2.1).
pub const FILE_LEAVE_BLOCKS_ALLOCATED: u32 = 1;
/// File parameter: the disk has a parent (2.6.2.1).
pub const FILE_HAS_PARENT: u32 = 2;

/// Smallest block size, in bytes (2.6.2.1).
pub const MIN_BLOCK_BYTES: u32 = 1 << 20;
/// Largest block size, in bytes (2.6.2.1).
pub const MAX_BLOCK_BYTES: u32 = 256 << 20;
/// Largest virtual disk, in bytes: 64 TiB (2.6.2.2).
pub const MAX_VIRTUAL_BYTES: u64 = 64 << 40;
/// Sectors described by one sector bitmap block (2.4).
pub const SECTORS_PER_BITMAP_BLOCK: u64 = 1 << 23;
/// Length of a sector bitmap block, in bytes (2.4).
pub const BITMAP_BLOCK_BYTES: u64 = MIB;
/// Length of a BAT entry, in bytes (2.5.1).
pub const BAT_ENTRY_BYTES: u64 = 8;
/// Bits of a BAT entry that hold the state (2.5.1).
pub const BAT_STATE_MASK: u64 = 0b111;
/// Bits of a BAT entry that are reserved (2.5.1).
pub const BAT_RESERVED_MASK: u64 = 0xf_fff8;
/// Bits of a BAT entry that hold the file offset; as offsets are in MiB no shift is needed (2.5.1).
pub const BAT_OFFSET_MASK: u64 = !0xf_ffff;

/// Type of a parent locator that names a VHDX parent (2.6.2.6.3).
pub const LOCATOR_VHDX: Guid = guid!("b04aefb7-d19e-4a81-b789-25b8e9445913");
/// Key of the parent's DataWriteGuid.
pub const KEY_PARENT_LINKAGE: &str = "parent_linkage";
/// Key of a second accepted DataWriteGuid, used while a merge changes the parent.
pub const KEY_PARENT_LINKAGE2: &str = "parent_linkage2";
/// Key of the path relative to the child's folder.
pub const KEY_RELATIVE_PATH: &str = "relative_path";
/// Key of the path by volume GUID.
pub const KEY_VOLUME_PATH: &str = "volume_path";
/// Key of the absolute path.
pub const KEY_ABSOLUTE_PATH: &str = "absolute_win32_path";

/// Largest log that is replayed. Hyper-V and qemu write 1 MiB; the log is held in memory whole.
pub const MAX_LOG_BYTES: u32 = 256 << 20;
/// Largest metadata region: 2,047 items cannot reasonably need more, and Hyper-V writes 1 MiB.
pub const MAX_METADATA_REGION_BYTES: u32 = 128 << 20;
/// Largest number of key-value pairs in a parent locator; MS-VHDX defines five keys.
pub const MAX_LOCATOR_PAIRS: u16 = 256;
/// Longest differencing chain; Hyper-V allows 50 checkpoints of a VM.
pub const MAX_CHAIN_DISKS: usize = 128;

/// Header of the file (2.2.2); the rest of the 4096 bytes is reserved.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawHeader {
    /// Must be "head".
    pub signature: [u8; 4],
    /// CRC-32C of the 4096 bytes with this field zero.
    pub checksum: U32,
    /// The higher of two valid headers is current.
    pub sequence_number: U64,
    /// Changes once per writable open.
    pub file_write_guid: [u8; 16],
    /// Changes once per open in which the guest's data changes.
    pub data_write_guid: [u8; 16],
    /// Zero when there is nothing to replay.
    pub log_guid: [u8; 16],
    /// Must be 0 when there is something to replay.
    pub log_version: U16,
    /// Must be 1.
    pub version: U16,
    /// Multiple of 1 MiB.
    pub log_length: U32,
    /// Multiple of 1 MiB, at least 1 MiB.
    pub log_offset: U64,
}
const _: () = assert!(size_of::<RawHeader>() == 80);

/// Head of a region table (2.2.3.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawRegionHeader {
    /// Must be "regi".
    pub signature: [u8; 4],
    /// CRC-32C of the 64 KiB with this field zero.
    pub checksum: U32,
    /// At most 2047.
    pub entry_count: U32,
    /// Ignored.
    pub reserved: U32,
}
const _: () = assert!(size_of::<RawRegionHeader>() == 16);

/// Entry of a region table (2.2.3.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawRegionEntry {
    /// What the region holds.
    pub guid: [u8; 16],
    /// Multiple of 1 MiB, at least 1 MiB.
    pub file_offset: U64,
    /// Multiple of 1 MiB, not 0.
    pub length: U32,
    /// Bit 0: required.
    pub flags: U32,
}
const _: () = assert!(size_of::<RawRegionEntry>() == 32);

/// Head of a log entry (2.3.1.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLogEntry {
    /// Must be "loge".
    pub signature: [u8; 4],
    /// CRC-32C of the whole entry with this field zero.
    pub checksum: U32,
    /// Multiple of 4096, at most the log length.
    pub entry_length: U32,
    /// Offset in the log of the oldest entry still needed.
    pub tail: U32,
    /// Must not be 0.
    pub sequence_number: U64,
    /// May be 0.
    pub descriptor_count: U32,
    /// Must be 0.
    pub reserved: U32,
    /// Must equal the header's.
    pub log_guid: [u8; 16],
    /// The file was at least this long on stable storage when the entry was written.
    pub flushed_file_offset: U64,
    /// All allocated structures fit in this length.
    pub last_file_offset: U64,
}
const _: () = assert!(size_of::<RawLogEntry>() == 64);

/// Descriptor of a log entry, zero or data (2.3.1.2, 2.3.1.3).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLogDescriptor {
    /// "zero" or "desc".
    pub signature: [u8; 4],
    /// Data: the last 4 bytes of the sector. Zero: reserved.
    pub trailing_bytes: [u8; 4],
    /// Data: the first 8 bytes of the sector. Zero: the length, a multiple of 4096.
    pub leading_bytes_or_length: [u8; 8],
    /// Multiple of 4096.
    pub file_offset: U64,
    /// Must equal the entry's.
    pub sequence_number: U64,
}
const _: () = assert!(size_of::<RawLogDescriptor>() == 32);

/// Data sector of a log entry (2.3.1.4).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLogDataSector {
    /// Must be "data".
    pub signature: [u8; 4],
    /// High half of the entry's sequence number.
    pub sequence_high: U32,
    /// The sector without its first 8 and last 4 bytes.
    pub payload: [u8; LOG_SECTOR_BYTES - LEADING_BYTES - TRAILING_BYTES],
    /// Low half of the entry's sequence number.
    pub sequence_low: U32,
}
const _: () = assert!(size_of::<RawLogDataSector>() == LOG_SECTOR_BYTES);

/// Head of the metadata table (2.6.1.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawMetadataHeader {
    /// Must be "metadata".
    pub signature: [u8; 8],
    /// Ignored.
    pub reserved: U16,
    /// At most 2047.
    pub entry_count: U16,
    /// Ignored.
    pub reserved2: [u8; 20],
}
const _: () = assert!(size_of::<RawMetadataHeader>() == 32);

/// Entry of the metadata table (2.6.1.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawMetadataEntry {
    /// What the item is.
    pub item_id: [u8; 16],
    /// Offset in the region, at least 64 KiB; 0 for an empty item.
    pub offset: U32,
    /// At most 1 MiB.
    pub length: U32,
    /// Bits `ITEM_IS_USER`, `ITEM_IS_VIRTUAL_DISK`, `ITEM_IS_REQUIRED`.
    pub flags: U32,
    /// Ignored.
    pub reserved: U32,
}
const _: () = assert!(size_of::<RawMetadataEntry>() == 32);

/// Head of a parent locator (2.6.2.6.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLocatorHeader {
    /// Must be `LOCATOR_VHDX`.
    pub locator_type: [u8; 16],
    /// Ignored.
    pub reserved: U16,
    /// Number of pairs, at least 1.
    pub pair_count: U16,
}
const _: () = assert!(size_of::<RawLocatorHeader>() == 20);

/// Pair of a parent locator (2.6.2.6.2); offsets from the start of the item, lengths in bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLocatorPair {
    /// Where the key stands, in UTF-16LE.
    pub key_offset: U32,
    /// Where the value stands, in UTF-16LE.
    pub value_offset: U32,
    /// Length of the key, not 0.
    pub key_length: U16,
    /// Length of the value, not 0.
    pub value_length: U16,
}
const _: () = assert!(size_of::<RawLocatorPair>() == 12);
