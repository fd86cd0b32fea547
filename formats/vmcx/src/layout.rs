//! Constants and raw structures of the HyperVStorage container.
//!
//! Everything is little-endian and packed. Section numbers are those of `FORMAT.md`. The structures here are bytes with
//! names: nothing is checked in this module, the parse modules do that.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Distance of the two header copies and size of each header area, in bytes (section 2).
pub const HEADER_AREA_BYTES: u64 = 0x1000;
/// File offsets of the two header copies (section 2).
pub const HEADER_OFFSETS: [u64; 2] = [0, HEADER_AREA_BYTES];
/// File offset of the first object table, whatever the data alignment (section 2).
pub const FIRST_OBJECT_TABLE_OFFSET: u64 = 0x2000;

/// Signature of a header (section 3).
pub const HEADER_SIGNATURE: u32 = 0x0128_2014;
/// The only format version this crate reads and writes, 4.0 (section 3).
pub const FORMAT_VERSION: u32 = 0x0400;
/// Smallest data alignment, and the one every known file has (section 3).
pub const MIN_DATA_ALIGNMENT: u32 = 0x1000;
/// Largest data alignment (section 3).
pub const MAX_DATA_ALIGNMENT: u32 = 0x1_0000;

/// Signature of the replay log header (section 4).
pub const LOG_SIGNATURE: u32 = 0x0111_0003;
/// Largest replay log header area that is accepted, in bytes. Known files have 4096; sixteen times that bounds the number of
/// entries to 2339.
pub const MAX_LOG_HEADER_BYTES: u32 = 0x1_0000;
/// Largest sum of pending data that is accepted, in bytes. Each byte is read once for its checksum, so this bounds the work
/// that a hostile log can cause; known logs hold less than 40 KiB.
pub const MAX_REPLAY_BYTES: u64 = 256 << 20;

/// Signature of an object table (section 5).
pub const OBJECT_TABLE_SIGNATURE: u32 = 0x0111_0001;
/// An object table fills whole pages of this size, in bytes (section 5).
pub const OBJECT_TABLE_PAGE_BYTES: u64 = 0x1000;
/// Largest single object table that is accepted, in bytes: one unit of the largest data alignment.
pub const MAX_OBJECT_TABLE_BYTES: u64 = 0x1_0000;
/// Longest chain of object tables that is accepted. One page lists 226 objects, so this admits 1.8 million of them, enough
/// for the saved memory of a 1.5 TiB VM.
pub const MAX_OBJECT_TABLES: usize = 8192;
/// Object flag: the object must be understood (section 5).
pub const OBJECT_FLAG_REQUIRED: u8 = 0x01;

/// Signature of a key table (section 6).
pub const KEY_TABLE_SIGNATURE: u16 = 0x0002;
/// Usual size of a key table, in bytes (section 6).
pub const KEY_TABLE_BYTES: u32 = 0x1000;
/// Largest single key table that is accepted, in bytes. Known ones have 4096.
pub const MAX_KEY_TABLE_BYTES: u32 = 1 << 20;
/// Largest sum of key tables that is accepted, in bytes: 65,535 tables of the usual size, which is what a 16-bit table index
/// can name.
pub const MAX_KEY_BYTES: u64 = 256 << 20;
/// Largest number of key entries that is accepted. Saved memory has two entries per MiB, so this admits a 2 TiB VM while the
/// tree stays below a gigabyte of memory.
pub const MAX_KEY_ENTRIES: usize = 4 << 20;
/// Deepest nesting that is accepted. Known files have seven levels.
pub const MAX_DEPTH: u32 = 64;

/// Key entry flag: the data is a pointer to a file object (section 7).
pub const KEY_FLAG_FILE_OBJECT: u8 = 0x01;
/// Values of this size and more are stored as file objects, in bytes (section 7).
pub const FILE_OBJECT_THRESHOLD_BYTES: usize = 2048;
/// Size of the data of a node, and of a pointer to a file object, in bytes (section 7).
pub const NODE_DATA_BYTES: usize = 12;
/// A free entry must be larger than a key entry header (section 7).
pub const MIN_FREE_ENTRY_BYTES: usize = KEY_ENTRY_HEADER_BYTES + 1;

/// Size of [`RawHeader`], in bytes.
pub const HEADER_BYTES: usize = size_of::<RawHeader>();
/// Size of [`RawLogHeader`], in bytes.
pub const LOG_HEADER_BYTES: usize = size_of::<RawLogHeader>();
/// Size of [`RawLogEntry`], in bytes.
pub const LOG_ENTRY_BYTES: usize = size_of::<RawLogEntry>();
/// Size of [`RawObjectTableHeader`], in bytes.
pub const OBJECT_TABLE_HEADER_BYTES: usize = size_of::<RawObjectTableHeader>();
/// Size of [`RawObject`], in bytes.
pub const OBJECT_BYTES: usize = size_of::<RawObject>();
/// Size of [`RawKeyTableHeader`], in bytes.
pub const KEY_TABLE_HEADER_BYTES: usize = size_of::<RawKeyTableHeader>();
/// Size of [`RawKeyEntry`], in bytes.
pub const KEY_ENTRY_HEADER_BYTES: usize = size_of::<RawKeyEntry>();

const _: () = assert!(HEADER_BYTES == 46);
const _: () = assert!(LOG_HEADER_BYTES == 34);
const _: () = assert!(LOG_ENTRY_BYTES == 28);
const _: () = assert!(OBJECT_TABLE_HEADER_BYTES == 8);
const _: () = assert!(OBJECT_BYTES == 18);
const _: () = assert!(KEY_TABLE_HEADER_BYTES == 10);
const _: () = assert!(KEY_ENTRY_HEADER_BYTES == 21);

/// Header, two copies (section 3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawHeader {
    /// Must be [`HEADER_SIGNATURE`].
    pub signature: U32,
    /// CRC-32 over these 46 bytes with this field zero.
    pub checksum: U32,
    /// The valid copy with the later sequence is current.
    pub sequence: U16,
    /// `(major << 8) | minor`. Must be [`FORMAT_VERSION`].
    pub format_version: U32,
    /// Zero in every known file.
    pub data_version: U32,
    /// Zero in every known file.
    pub flags: U32,
    /// Alignment of objects in the file, in bytes. Must be a power of two from 4 KiB to 64 KiB.
    pub data_alignment: U32,
    /// File offset of the replay log.
    pub replay_log_offset: U64,
    /// Size of the log header area and log data together, in bytes.
    pub replay_log_size: U64,
    /// Size of the log header area, in bytes.
    pub replay_log_header_size: U32,
}

/// Header of the replay log (section 4).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLogHeader {
    /// Must be [`LOG_SIGNATURE`].
    pub signature: U32,
    /// CRC-32 over these 34 bytes with this field zero.
    pub checksum: U32,
    /// Number of entries that must be applied; zero when the file is clean.
    pub current_entries: U32,
    /// Reserved.
    pub reserved: u8,
    /// Number of entries that fit the header area. Must not be zero.
    pub max_entries: U32,
    /// Not zero when change tracking is on.
    pub change_tracking_enabled: u8,
    /// File offset of the change tracking buffer.
    pub change_tracking_offset: U64,
    /// Size of the change tracking buffer, in bytes.
    pub change_tracking_size: U32,
    /// Used part of the change tracking buffer, in bytes.
    pub change_tracking_used: U32,
}

/// Entry of the replay log (section 4).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLogEntry {
    /// Destination in the file; any alignment.
    pub file_offset: U64,
    /// Size of the data, in bytes.
    pub size: U32,
    /// Offset of the data from the start of the log.
    pub data_offset: U64,
    /// CRC-32 over these 28 bytes with this field zero.
    pub checksum: U32,
    /// CRC-32 of the data.
    pub data_checksum: U32,
}

/// Header of an object table (section 5).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawObjectTableHeader {
    /// Must be [`OBJECT_TABLE_SIGNATURE`].
    pub signature: U32,
    /// Number of entries that follow.
    pub count: U32,
}

/// Entry of an object table (section 5).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawObject {
    /// Kind of object.
    pub kind: u8,
    /// CRC-32 over these 18 bytes with this field zero.
    pub checksum: U32,
    /// File offset of the object.
    pub file_offset: U64,
    /// Size of the object, in bytes.
    pub size: U32,
    /// Flags, see [`OBJECT_FLAG_REQUIRED`].
    pub flags: u8,
}

/// Header of a key table (section 6).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawKeyTableHeader {
    /// Must be [`KEY_TABLE_SIGNATURE`].
    pub signature: U16,
    /// Name of the table in parent pointers; starts at 1.
    pub table_index: U16,
    /// Of tables with one index the highest sequence wins.
    pub sequence: U16,
    /// CRC-32 over these 10 bytes with this field zero.
    pub checksum: U32,
}

/// Header of a key entry; name and data follow (section 7).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawKeyEntry {
    /// Kind of value.
    pub kind: u8,
    /// Flags, see [`KEY_FLAG_FILE_OBJECT`].
    pub flags: u8,
    /// Size of the whole entry with slack, in bytes.
    pub size: U32,
    /// Index of the table that holds the parent; zero for a child of the root.
    pub parent_table: U16,
    /// Offset of the parent from the start of its table; zero for a child of the root.
    pub parent_offset: U32,
    /// CRC-32 over this header (this field zero), the name and the data without slack.
    pub checksum: U32,
    /// Place among the siblings, from 1.
    pub insertion_sequence: U32,
    /// Bytes of the name with its NUL.
    pub name_length: u8,
}

/// Offset of the checksum field in [`RawHeader`] and [`RawLogHeader`].
pub const HEADER_CHECKSUM_OFFSET: usize = 4;
/// Offset of the checksum field in [`RawLogEntry`].
pub const LOG_ENTRY_CHECKSUM_OFFSET: usize = 20;
/// Offset of the checksum field in [`RawObject`].
pub const OBJECT_CHECKSUM_OFFSET: usize = 1;
/// Offset of the checksum field in [`RawKeyTableHeader`].
pub const KEY_TABLE_CHECKSUM_OFFSET: usize = 6;
/// Offset of the checksum field in [`RawKeyEntry`].
pub const KEY_ENTRY_CHECKSUM_OFFSET: usize = 12;
