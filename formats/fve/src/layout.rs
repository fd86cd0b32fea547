//! Constants and raw structures of a BitLocker volume, named as in `FORMAT.md`.
//!
//! Sits below every parser of this crate: the structures here are what lies on the disk, in disk order, without
//! any rule applied to them.
//!
//! Deliberately holds no logic; ranges and meanings are checked by the modules that parse.

use core::mem::size_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Signature at byte 3 of sector 0 and at the start of every metadata copy (FORMAT.md 1 and 2.1).
pub const FVE_SIGNATURE: [u8; 8] = *b"-FVE-FS-";
/// OEM id of a To Go volume; ordinary FAT32 uses it too (FORMAT.md 1).
pub const TO_GO_OEM_ID: [u8; 8] = *b"MSWIN4.1";
/// Recognition GUID followed by three metadata offsets, in disk order (FORMAT.md 1).
pub const INFORMATION_OFFSET_GUID: [u8; 16] =
    [0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01];
/// Recognition GUID followed by three metadata offsets and two EOW offsets, in disk order (FORMAT.md 1).
pub const EOW_INFORMATION_OFFSET_GUID: [u8; 16] =
    [0x3b, 0x4d, 0xa8, 0x92, 0x80, 0xdd, 0x0e, 0x4d, 0x9e, 0x4e, 0xb1, 0xe3, 0x28, 0x4e, 0xae, 0xd8];

/// Bytes of the volume that recognition looks at.
pub const BOOT_SECTOR_BYTES: usize = 512;
/// Offset of the OEM id in sector 0.
pub const OEM_ID_OFFSET: usize = 3;
/// Offset of the u16 bytes per sector in sector 0.
pub const BYTES_PER_SECTOR_OFFSET: usize = 11;
/// Offset of the u8 sectors per cluster in sector 0.
pub const SECTORS_PER_CLUSTER_OFFSET: usize = 13;
/// Offset of the Vista metadata cluster, and of the MFT mirror cluster that replaces it when read (FORMAT.md 6.3).
pub const VISTA_METADATA_CLUSTER_OFFSET: usize = 56;
/// Offset of the recognition GUID on standard volumes.
pub const STANDARD_GUID_OFFSET: usize = 160;
/// Offset of the recognition GUID on To Go volumes.
pub const TO_GO_GUID_OFFSET: usize = 424;

/// Sector size assumed when sector 0 states none (FORMAT.md 1).
pub const DEFAULT_SECTOR_SIZE: u32 = 512;
/// Largest sector size any BitLocker volume has.
pub const MAX_SECTOR_SIZE: u32 = 4096;
/// Number of metadata copies on a volume.
pub const METADATA_COPIES: usize = 3;

/// Size of one metadata region before rounding, version 2 (FORMAT.md 2).
pub const METADATA_REGION_BYTES: u64 = 0x1_0000;
/// Size of one metadata region before rounding, version 1 (FORMAT.md 2).
pub const METADATA_REGION_BYTES_V1: u64 = 0x4000;
/// Largest accepted information size: it must leave room for the validation inside its region, and no region is
/// larger than 64 KiB, so a header that asks for more is lying.
pub const MAX_INFORMATION_BYTES: usize = METADATA_REGION_BYTES as usize - size_of::<RawValidation>();
/// Largest metadata region accepted from a cluster size (version 1 rounds its 16 KiB up to a cluster).
pub const MAX_METADATA_REGION_BYTES: u64 = 0x20_0000;
/// Largest accepted relocated area in bytes: the FAT discovery volume of To Go drives is a few MiB, so 1 GiB is
/// far beyond anything real while it keeps every later sum small.
pub const MAX_VIRTUALIZED_BYTES: u64 = 1 << 30;
/// Offsets and sizes from disk must lie below this (8 EiB), so that sums of two of them cannot overflow.
pub const MAX_VOLUME_BYTES: u64 = 1 << 62;

/// Metadata version of Windows Vista.
pub const VERSION_VISTA: u16 = 1;
/// Metadata version of Windows 7 and later.
pub const VERSION_SEVEN: u16 = 2;
/// Plain bytes at the front of a Vista volume (FORMAT.md 6.3).
pub const VISTA_PLAIN_HEAD_BYTES: u64 = 0x2000;
/// OEM id that replaces the BitLocker signature when a Vista sector 0 is read.
pub const NTFS_OEM_ID: [u8; 8] = *b"NTFS    ";

/// Iterations of the key stretch (FORMAT.md 4).
pub const STRETCH_ITERATIONS: u64 = 0x10_0000;
/// Bytes of every key on the way to the volume key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a stretch salt.
pub const SALT_BYTES: usize = 16;
/// Bytes of an AES-CCM nonce in a box.
pub const NONCE_BYTES: usize = 12;
/// Bytes of an AES-CCM tag in a box.
pub const MAC_BYTES: usize = 16;
/// Bit of the key flags that says the KDF is PBKDF2 (FIPS), which has no public description (FORMAT.md 3.3).
pub const KEY_FLAG_PBKDF2: u16 = 0x40;

/// `FVE_INFORMATION`, the first 64 bytes of a metadata copy (FORMAT.md 2.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawInformation {
    /// Must be [`FVE_SIGNATURE`].
    pub signature: [u8; 8],
    /// Size of the information: bytes in version 1, units of 16 bytes in version 2.
    pub size: U16,
    /// 1 or 2.
    pub version: U16,
    /// Current state of the conversion.
    pub current_state: U16,
    /// State the volume is going to.
    pub next_state: U16,
    /// Volume size, or boundary of the encrypted part.
    pub state_offset: U64,
    /// Length of the region being converted.
    pub state_size: U32,
    /// Relocated sectors at the front of the volume.
    pub virtualized_sectors: U32,
    /// Byte offsets of the three copies.
    pub metadata_offsets: [U64; METADATA_COPIES],
    /// Byte offset of the relocated sectors; the MFT mirror cluster in version 1.
    pub virtualized_block: U64,
}
const _: () = assert!(size_of::<RawInformation>() == 64);

/// `FVE_DATASET`, the header of a list of datums (FORMAT.md 2.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawDataset {
    /// Size including this header.
    pub size: U32,
    /// Must be 1.
    pub version: U32,
    /// Offset of the first datum, 48.
    pub start: U32,
    /// Offset behind the last datum, equal to the size.
    pub end: U32,
    /// Volume id; in a BEK file the key id.
    pub id: [u8; 16],
    /// Counter of the next nonce.
    pub next_nonce: U32,
    /// Encryption method of the volume key.
    pub method: U16,
    /// Copy of the method, or 0.
    pub method_copy: U16,
    /// Creation time.
    pub created: U64,
}
const _: () = assert!(size_of::<RawDataset>() == 48);

/// `FVE_VALIDATION`, directly behind the information (FORMAT.md 2.3).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawValidation {
    /// Rest of the region.
    pub size: U16,
    /// 1 or 2.
    pub version: U16,
    /// CRC-32 of the information bytes.
    pub crc32: U32,
}
const _: () = assert!(size_of::<RawValidation>() == 8);

/// Header of a datum (FORMAT.md 3).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawDatum {
    /// Size including this header.
    pub size: U16,
    /// What the datum is for.
    pub role: U16,
    /// What its body holds.
    pub datum_type: U16,
    /// Flags; never validated.
    pub flags: U16,
}
const _: () = assert!(size_of::<RawDatum>() == 8);

/// Fixed part of a KEY datum body (FORMAT.md 3.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawKey {
    /// Type of the key.
    pub key_type: U16,
    /// Key flags.
    pub flags: U16,
}
const _: () = assert!(size_of::<RawKey>() == 4);

/// Fixed part of a STRETCH_KEY datum body (FORMAT.md 3.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawStretchKey {
    /// Type and flags of the key.
    pub key: RawKey,
    /// Salt of the stretch.
    pub salt: [u8; SALT_BYTES],
}
const _: () = assert!(size_of::<RawStretchKey>() == 20);

/// Fixed part of an AES-CCM box (FORMAT.md 3.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawSealedBox {
    /// FILETIME and counter.
    pub nonce: [u8; NONCE_BYTES],
    /// CCM tag.
    pub mac: [u8; MAC_BYTES],
}
const _: () = assert!(size_of::<RawSealedBox>() == 28);

/// Fixed part of a VMK info datum body (FORMAT.md 3.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawVmkInfo {
    /// Protector id.
    pub id: [u8; 16],
    /// Time of the last change.
    pub modified: U64,
    /// Meaning unknown.
    pub unknown: U16,
    /// Protection type.
    pub protection: U16,
}
const _: () = assert!(size_of::<RawVmkInfo>() == 28);

/// Fixed part of an external info datum body (FORMAT.md 3.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawExternalInfo {
    /// Key id.
    pub id: [u8; 16],
    /// Time of creation.
    pub modified: U64,
}
const _: () = assert!(size_of::<RawExternalInfo>() == 24);

/// Body of a virtualization datum; newer volumes append a tail (FORMAT.md 3.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawVirtualization {
    /// Byte offset of the relocated sectors.
    pub offset: U64,
    /// Size of the relocated area in bytes.
    pub size: U64,
}
const _: () = assert!(size_of::<RawVirtualization>() == 16);

/// Body of a backup info datum (FORMAT.md 3.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawBackupInfo {
    /// Two times, equal in all samples.
    pub times: [U64; 2],
    /// Where the key was saved; the bits are unverified.
    pub flags: U32,
}
const _: () = assert!(size_of::<RawBackupInfo>() == 20);

/// Signature of an EOW information block (FORMAT.md 6.5).
pub const EOW_SIGNATURE: [u8; 8] = *b"FVE-EOW\0";
/// Signature of an EOW bitmap.
pub const EOW_BITMAP_SIGNATURE: [u8; 10] = *b"FVE-EOWBM\0";
/// Signature of an EOW bitmap record.
pub const EOW_RECORD_SIGNATURE: [u8; 10] = *b"FVE-EOWBR\0";
/// Magic at the start of a Windows 7 conversion log (FORMAT.md 6.4).
pub const CONVERSION_LOG_MAGIC: [u8; 8] = *b"OLRDHEVF";
/// Bytes read for an EOW information block: its u16 size field cannot say more.
pub const MAX_EOW_INFORMATION_BYTES: usize = 0xffff;
/// Largest accepted EOW bitmap block: real ones are 0x600 bytes, hold at most a few hundred chunks per record.
pub const MAX_EOW_BITMAP_BYTES: usize = 0x1_0000;
/// Most EOW regions: what a 65535-byte information block has room for.
pub const MAX_EOW_REGIONS: usize = (MAX_EOW_INFORMATION_BYTES - size_of::<RawEowInformation>()) / 8;
/// Smallest accepted EOW chunk, so that a run of chunks never gets shorter than a sector.
pub const MIN_EOW_CHUNK_BYTES: u32 = MAX_SECTOR_SIZE;

/// Fixed part of an EOW information block (FORMAT.md 6.5).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawEowInformation {
    /// Must be [`EOW_SIGNATURE`].
    pub signature: [u8; 8],
    /// Size of this header, 56.
    pub header_size: U16,
    /// Size of the block including the bitmap offsets.
    pub size: U16,
    /// Sector size.
    pub sector_size: U32,
    /// Meaning unknown, 512.
    pub unknown_1: U32,
    /// Bytes per bit of the bitmaps.
    pub chunk_size: U32,
    /// Bytes of one conversion log.
    pub log_size: U32,
    /// Meaning unknown.
    pub unknown_2: U32,
    /// Number of regions.
    pub region_count: U32,
    /// CRC-32 over `size` bytes with this field 0.
    pub crc32: U32,
    /// Offsets of both copies of this block.
    pub copies: [U64; 2],
}
const _: () = assert!(size_of::<RawEowInformation>() == 56);

/// Header of an EOW bitmap (FORMAT.md 6.5).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawEowBitmap {
    /// Must be [`EOW_BITMAP_SIGNATURE`].
    pub signature: [u8; 10],
    /// Size of this header, 60.
    pub header_size: U16,
    /// Size of the block, 0x600.
    pub size: U32,
    /// Index of the region.
    pub region_index: U32,
    /// First byte of the region.
    pub region_offset: U64,
    /// Bytes of the region.
    pub region_size: U64,
    /// Offset of the region's conversion log.
    pub log_offset: U64,
    /// Offsets of the two records inside this block.
    pub record_offsets: [U32; 2],
    /// Bytes of one record.
    pub record_size: U32,
    /// CRC-32 over the bytes up to the first record with this field 0.
    pub crc32: U32,
}
const _: () = assert!(size_of::<RawEowBitmap>() == 60);

/// Header of an EOW bitmap record (FORMAT.md 6.5).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawEowRecord {
    /// Must be [`EOW_RECORD_SIGNATURE`].
    pub signature: [u8; 10],
    /// Size of this header, 36.
    pub header_size: U16,
    /// Size of the record.
    pub size: U32,
    /// Number of chunks.
    pub bits: U32,
    /// The valid record with the higher number is active.
    pub sequence: U64,
    /// Flags, 0 or 2.
    pub flags: U32,
    /// CRC-32 over `size` bytes with this field 0.
    pub crc32: U32,
}
const _: () = assert!(size_of::<RawEowRecord>() == 36);
