//! Constants and raw structures of a guest state file.
//!
//! Everything is packed and little-endian, except the VHD footer. Section numbers are those of `FORMAT.md`. The structures
//! here are bytes with names: nothing is checked in this module, the parse modules do that.

use zerocopy::big_endian::{U32 as BigU32, U64 as BigU64};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of the VHD footer, in bytes (section 2).
pub const FOOTER_BYTES: usize = 512;
/// Cookie of the footer.
pub const FOOTER_COOKIE: [u8; 8] = *b"conectix";
/// Version of the footer; the upper half must agree.
pub const FOOTER_VERSION: u32 = 0x0001_0000;
/// Disk type of a fixed VHD, the only one that a guest state is.
pub const FOOTER_TYPE_FIXED: u32 = 2;
/// Offset of the checksum in the footer.
pub const FOOTER_CHECKSUM_OFFSET: usize = 64;
/// Size that Hyper-V and vmgstool give a new disk, in bytes; nothing may depend on it.
pub const DEFAULT_DISK_BYTES: u64 = 4 << 20;

/// Signature of headers, the same in both formats (section 1).
pub const SIGNATURE: [u8; 8] = *b"GUESTRTS";
/// Offset of version and of checksum in headers of both formats.
pub const VERSION_OFFSET: usize = 8;
/// Offset of the checksum in headers of both formats.
pub const CHECKSUM_OFFSET: usize = 12;
/// Offset of the header size in headers of both formats.
pub const HEADER_SIZE_OFFSET: usize = 20;
/// Version of the first format.
pub const VERSION_1: u32 = 0x0001_0000;
/// Version of the second format, which no known program reads.
pub const VERSION_2: u32 = 0x0002_0000;
/// Version of the third format.
pub const VERSION_3: u32 = 0x0003_0000;
/// Largest header of an unknown version whose checksum is tried, in bytes: one sector.
pub const MAX_FOREIGN_HEADER_BYTES: usize = 512;

/// Size of a sector of a VHD, in bytes.
pub const SECTOR_BYTES: u64 = 512;
/// Places where the second header of the third format may stand: behind one sector of either size (section 4).
pub const SECOND_HEADER_OFFSETS: [u64; 2] = [512, 4096];
/// Size of a block, in bytes.
pub const BLOCK_BYTES: u64 = 4096;
/// Bytes at the start of the disk that tell the format: both header places of either sector size.
pub const HEAD_BYTES: usize = 2 * BLOCK_BYTES as usize;
/// First block that a file or table may use.
pub const FIRST_FILE_BLOCK: u32 = 2;
/// Files that a store has room for.
pub const FILE_COUNT: usize = 64;
/// Blocks of the file table, and of the extended one.
pub const TABLE_BLOCKS: u32 = 1;
/// Size of either table, in bytes.
pub const TABLE_BYTES: usize = 4096;
/// File attribute: the content is encrypted.
pub const ATTRIBUTE_ENCRYPTED: u32 = 1;
/// File attribute: the content is authenticated.
pub const ATTRIBUTE_AUTHENTICATED: u32 = 2;
/// Marker in the header: the store was formatted anew on request.
pub const MARKER_REPROVISIONED: u16 = 1;
/// Size of a key, in bytes.
pub const KEY_BYTES: usize = 32;
/// Size of a nonce, in bytes: four random ones and a counter.
pub const NONCE_BYTES: usize = 12;
/// Size of an authentication tag, in bytes.
pub const TAG_BYTES: usize = 16;
/// Most bytes that are looked through for data behind blank headers: sixteen times [`DEFAULT_DISK_BYTES`].
pub const MAX_BLANK_SCAN_BYTES: u64 = 64 << 20;

/// Signature of a GPT header (section 3).
pub const GPT_SIGNATURE: [u8; 8] = *b"EFI PART";
/// Offset of the checksum in a GPT header.
pub const GPT_CHECKSUM_OFFSET: usize = 16;
/// Type of the partition that holds a guest state, 700f0c12-1515-4e4d-8d32-53f685bf44af as it stands in the table.
pub const GPT_PARTITION_TYPE: [u8; 16] =
    [0x12, 0x0c, 0x0f, 0x70, 0x15, 0x15, 0x4d, 0x4e, 0x8d, 0x32, 0x53, 0xf6, 0x85, 0xbf, 0x44, 0xaf];
/// Smallest GPT entry, in bytes.
pub const MIN_GPT_ENTRY_BYTES: u32 = 128;
/// Largest GPT entry, in bytes; every known table has the smallest.
pub const MAX_GPT_ENTRY_BYTES: u32 = 4096;
/// Largest array of GPT entries that is read, in bytes: four times the usual one.
pub const MAX_GPT_ARRAY_BYTES: u64 = 64 << 10;
/// First sector of the partition that a document may use.
pub const FIRST_DOCUMENT_SECTOR: u64 = 2;
/// Largest document of the first format that is read, in bytes: four times [`DEFAULT_DISK_BYTES`].
pub const MAX_DOCUMENT_BYTES: u32 = 16 << 20;
/// Deepest nesting of a document that is accepted; known ones have eight levels.
pub const MAX_DOCUMENT_DEPTH: usize = 64;
/// Most members of one object of a document that are listed: a manifest of devices has a few dozen.
pub const MAX_DOCUMENT_MEMBERS: usize = 4096;

/// Size of [`RawStoreHeader`], in bytes.
pub const STORE_HEADER_BYTES: usize = size_of::<RawStoreHeader>();
/// Size of [`RawDocumentHeader`], in bytes.
pub const DOCUMENT_HEADER_BYTES: usize = size_of::<RawDocumentHeader>();
/// Size of [`RawLocator`], in bytes.
pub const LOCATOR_BYTES: usize = size_of::<RawLocator>();

/// Footer of a fixed VHD (section 2), big-endian.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawFooter {
    /// Must be [`FOOTER_COOKIE`].
    pub cookie: [u8; 8],
    /// 2; not judged.
    pub features: BigU32,
    /// Must be of version 1.
    pub version: BigU32,
    /// All ones; not judged.
    pub data_offset: BigU64,
    /// Seconds since the year 2000, UTC.
    pub timestamp: BigU32,
    /// Program that made the disk, its version, its system.
    pub creator: [u8; 12],
    /// Size at creation, in bytes.
    pub original_size: BigU64,
    /// Size of the disk in bytes; must be the length of the file without this footer.
    pub current_size: BigU64,
    /// Cylinders, heads, sectors; not used.
    pub geometry: [u8; 4],
    /// Must be [`FOOTER_TYPE_FIXED`].
    pub disk_type: BigU32,
    /// One's complement of the sum of all other bytes.
    pub checksum: BigU32,
    /// Identity of the disk.
    pub unique_id: [u8; 16],
    /// Saved state flag and zeros.
    pub rest: [u8; 428],
}
const _: () = assert!(size_of::<RawFooter>() == FOOTER_BYTES);

/// Metadata key, encrypted with a datastore key (section 5).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawMetadataKey {
    /// Nonce of the encryption.
    pub nonce: [u8; NONCE_BYTES],
    /// Zero.
    pub reserved: U32,
    /// Tag of the encryption.
    pub tag: [u8; TAG_BYTES],
    /// The encrypted key; zeros in a slot that is not used.
    pub encrypted_key: [u8; KEY_BYTES],
}
const _: () = assert!(size_of::<RawMetadataKey>() == 64);

/// Header of the third format (section 4).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawStoreHeader {
    /// Must be [`SIGNATURE`].
    pub signature: [u8; 8],
    /// Must be [`VERSION_3`].
    pub version: U32,
    /// CRC-32 of this structure, this field as zero.
    pub checksum: U32,
    /// The later of two neighbours is current.
    pub sequence: U32,
    /// Must be the size of this structure.
    pub header_size: U32,
    /// Block of the file table, from [`FIRST_FILE_BLOCK`] on.
    pub file_table_block: U32,
    /// Must be [`TABLE_BLOCKS`].
    pub file_table_blocks: U32,
    /// 0 none, 1 AES-256-GCM.
    pub encryption_algorithm: U16,
    /// [`MARKER_REPROVISIONED`].
    pub markers: U16,
    /// The metadata key, once for each datastore key.
    pub metadata_keys: [RawMetadataKey; 2],
    /// Zero.
    pub reserved: U32,
}
const _: () = assert!(size_of::<RawStoreHeader>() == 168);

/// Entry of the file table (section 4).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawFileEntry {
    /// First block, from [`FIRST_FILE_BLOCK`] on.
    pub block: U32,
    /// Number of blocks; 0 is an unused entry.
    pub blocks: U32,
    /// Size of the content, at most that of its blocks.
    pub valid_bytes: U64,
    /// Nonce of the encryption.
    pub nonce: [u8; NONCE_BYTES],
    /// Tag of the encryption.
    pub tag: [u8; TAG_BYTES],
    /// [`ATTRIBUTE_ENCRYPTED`] and [`ATTRIBUTE_AUTHENTICATED`].
    pub attributes: U32,
    /// Zero.
    pub reserved: [u8; 16],
}
const _: () = assert!(size_of::<RawFileEntry>() * FILE_COUNT == TABLE_BYTES);

/// Entry of the extended file table (section 5).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawExtendedEntry {
    /// Must be those in the file table.
    pub attributes: U32,
    /// Key of the file.
    pub key: [u8; KEY_BYTES],
    /// Zero.
    pub reserved: [u8; 28],
}
const _: () = assert!(size_of::<RawExtendedEntry>() * FILE_COUNT == TABLE_BYTES);

/// Place of a document of the first format (section 3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLocator {
    /// First sector, counted from the start of the partition.
    pub sector: U64,
    /// Number of sectors that are set aside.
    pub sectors: U64,
    /// Size of the document, in bytes.
    pub bytes: U32,
    /// Zero.
    pub reserved: [u8; 12],
}
const _: () = assert!(size_of::<RawLocator>() == 0x20);

/// Header of the first format (section 3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawDocumentHeader {
    /// Must be [`SIGNATURE`].
    pub signature: [u8; 8],
    /// Must be [`VERSION_1`].
    pub version: U32,
    /// CRC-32 of this structure, this field as zero.
    pub checksum: U32,
    /// The later of two neighbours is current.
    pub sequence: U32,
    /// Must be the size of this structure.
    pub header_size: U32,
    /// Must be the size of a locator.
    pub locator_size: U32,
    /// Which locator counts, 0 or 1.
    pub active_locator: U32,
    /// The document and the one before it.
    pub locators: [RawLocator; 2],
}
const _: () = assert!(size_of::<RawDocumentHeader>() == 0x60);

/// Header of a GPT (section 3; UEFI specification 2.10, section 5.3.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawGptHeader {
    /// Must be [`GPT_SIGNATURE`].
    pub signature: [u8; 8],
    /// 0x00010000; not judged.
    pub revision: U32,
    /// From the size of this structure to a sector.
    pub header_size: U32,
    /// CRC-32 of header_size bytes, this field as zero.
    pub checksum: U32,
    /// Zero.
    pub reserved: U32,
    /// The sector in which it stands.
    pub my_lba: U64,
    /// The sector of the other copy.
    pub alternate_lba: U64,
    /// First sector that partitions may use.
    pub first_usable_lba: U64,
    /// Last sector that partitions may use.
    pub last_usable_lba: U64,
    /// Identity of the disk.
    pub disk_guid: [u8; 16],
    /// First sector of the entries.
    pub entry_lba: U64,
    /// Number of entries.
    pub entry_count: U32,
    /// Size of an entry, in bytes.
    pub entry_size: U32,
    /// CRC-32 of all entries.
    pub entries_checksum: U32,
}
const _: () = assert!(size_of::<RawGptHeader>() == 92);

/// Entry of a GPT (section 3), without its name.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawGptEntry {
    /// Type of the partition; zeros in an unused entry.
    pub type_guid: [u8; 16],
    /// Identity of the partition.
    pub unique_guid: [u8; 16],
    /// First sector.
    pub first_lba: U64,
    /// Last sector, inclusive.
    pub last_lba: U64,
    /// Attributes; not judged.
    pub attributes: U64,
    /// Name, UTF-16.
    pub name: [u8; 72],
}
const _: () = assert!(size_of::<RawGptEntry>() == MIN_GPT_ENTRY_BYTES as usize);
