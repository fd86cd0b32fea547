//! Errors of the VHDX reader and writer.
//!
//! [`Corruption`] is the closed list of broken rules; everything else that can go wrong is in [`VhdxError`].
//! Failures of the caller's port keep their source. The VHD module has its own list, [`crate::vhd::VhdError`].

use alloc::string::String;

use thiserror::Error;
use uguid::Guid;

use crate::port::PortError;

/// Failure to read or combine VHDX files.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VhdxError {
    /// The port failed.
    #[error("the VHDX file cannot be read")]
    Port(#[from] PortError),
    /// The file does not begin with the VHDX signature.
    #[error("not a VHDX file: it begins with {found:02x?}")]
    NotVhdx {
        /// The first eight bytes.
        found: [u8; 8],
    },
    /// A rule of the format is broken.
    #[error("damaged VHDX file: {0}")]
    Corrupt(Corruption),
    /// The current header names a version of the format other than 1.
    #[error("unsupported VHDX version {found}")]
    UnsupportedVersion {
        /// The version in the header.
        found: u16,
    },
    /// There is a log to replay, of a version other than 0.
    #[error("unsupported VHDX log version {found}")]
    UnsupportedLogVersion {
        /// The log version in the header.
        found: u16,
    },
    /// A region that must be understood is not known.
    #[error("unknown region {id} is marked required")]
    UnknownRequiredRegion {
        /// Id of the region.
        id: Guid,
    },
    /// A metadata item that must be understood is not known.
    #[error("unknown metadata item {id} is marked required")]
    UnknownRequiredItem {
        /// Id of the item.
        id: Guid,
        /// Whether it is a user item.
        is_user: bool,
    },
    /// The file carries the marker of a file that is still being created.
    #[error("the file is marked incomplete: its creation did not finish")]
    IncompleteFile,
    /// The file is legal, but larger than this reader handles.
    #[error("{what} is {value}, more than the {max} that this reader handles")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size or number.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// A read or range lies beyond the virtual disk.
    #[error("range of {length} bytes at {offset} lies beyond the virtual disk of {virtual_size_bytes} bytes")]
    BeyondDisk {
        /// First byte of the range.
        offset: u64,
        /// Length of the range, in bytes.
        length: u64,
        /// Size of the virtual disk, in bytes.
        virtual_size_bytes: u64,
    },
    /// A chain ends in a disk that has a parent.
    #[error("disk {index} of the chain needs a parent with the linkage {linkage}, which was not given")]
    ParentMissing {
        /// Position in the chain; 0 is the youngest disk.
        index: usize,
        /// DataWriteGuid that the parent must have.
        linkage: Guid,
    },
    /// A chain goes on after a disk that has no parent.
    #[error("disk {index} of the chain has no parent, but one was given")]
    ParentUnexpected {
        /// Position in the chain; 0 is the youngest disk.
        index: usize,
    },
    /// The parent is not the disk, or not the state of the disk, from which the child was made.
    #[error(
        "disk {index} of the chain was made from a parent with the linkage {expected}, but the given parent has {found}: \
         it is another disk, or it was written since"
    )]
    ParentMismatch {
        /// Position of the child in the chain; 0 is the youngest disk.
        index: usize,
        /// DataWriteGuid that the child names.
        expected: Guid,
        /// DataWriteGuid of the given parent.
        found: Guid,
    },
    /// The parent locator is of a type other than VHDX.
    #[error("unsupported type of parent locator: {locator_type}")]
    UnsupportedParentType {
        /// Type of the locator.
        locator_type: Guid,
    },
    /// Parent and child differ in their logical sector size.
    #[error("disk {index} of the chain has {child} byte sectors, its parent has {parent} byte sectors")]
    SectorSizeMismatch {
        /// Position of the child in the chain; 0 is the youngest disk.
        index: usize,
        /// Sector size of the child, in bytes.
        child: u32,
        /// Sector size of the parent, in bytes.
        parent: u32,
    },
    /// A disk stands twice in a chain.
    #[error("disk {index} of the chain is the same file as disk {first}")]
    ChainCycle {
        /// Second position of the disk.
        index: usize,
        /// First position of the disk.
        first: usize,
    },
    /// A chain holds no disk.
    #[error("a chain needs at least one disk")]
    ChainEmpty,
}

impl From<Corruption> for VhdxError {
    fn from(corruption: Corruption) -> Self {
        Self::Corrupt(corruption)
    }
}

/// Broken rule of the VHDX format; the closed list.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Corruption {
    /// The file ends inside the header area.
    #[error("the file has {size_bytes} bytes, which is less than its header area")]
    FileTooShort {
        /// Size of the file, in bytes.
        size_bytes: u64,
    },
    /// Neither header has the right signature and checksum.
    #[error("neither header is valid")]
    NoValidHeader,
    /// Both headers are valid, have the same sequence number and differ.
    #[error("both headers have the sequence number {sequence_number} and differ")]
    AmbiguousHeaders {
        /// The number.
        sequence_number: u64,
    },
    /// The range of the log breaks a rule.
    #[error("the log of {length} bytes at offset {offset} is misplaced: {rule}")]
    LogRange {
        /// Offset in the file.
        offset: u64,
        /// Length, in bytes.
        length: u32,
        /// The rule that it breaks.
        rule: RangeRule,
    },
    /// The header asks for a replay, but the log holds no active sequence.
    #[error("the log must be replayed, but it holds no complete sequence of entries")]
    LogWithoutSequence,
    /// The file is shorter than it was when the log was written.
    #[error("the file has {size_bytes} bytes, but it had at least {flushed_bytes} when its log was written")]
    FileTruncated {
        /// Size of the file, in bytes.
        size_bytes: u64,
        /// Size that the log testifies.
        flushed_bytes: u64,
    },
    /// The log asks for a file longer than any VHDX file can be.
    #[error("the log extends the file to {bytes} bytes, more than a VHDX file can have")]
    LogGrowth {
        /// The size.
        bytes: u64,
    },
    /// Neither region table has the right signature, checksum and entry count.
    #[error("neither region table is valid")]
    NoValidRegionTable,
    /// A region stands twice in the region table.
    #[error("region {id} is listed twice")]
    DuplicateRegion {
        /// Id of the region.
        id: Guid,
    },
    /// The range of a region breaks a rule.
    #[error("region {id} of {length} bytes at offset {offset} is misplaced: {rule}")]
    RegionRange {
        /// Id of the region.
        id: Guid,
        /// Offset in the file.
        offset: u64,
        /// Length, in bytes.
        length: u32,
        /// The rule that it breaks.
        rule: RangeRule,
    },
    /// A region that every file needs is missing.
    #[error("the {what} region is missing")]
    MissingRegion {
        /// Name of the region.
        what: &'static str,
    },
    /// The metadata table does not begin with its signature.
    #[error("the metadata table has no signature")]
    MetadataSignature,
    /// The metadata table has more entries than can be.
    #[error("the metadata table counts {count} entries, more than the {max} that can be")]
    MetadataCount {
        /// Number of entries.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A metadata item stands twice in the table.
    #[error("metadata item {id} is listed twice")]
    DuplicateItem {
        /// Id of the item.
        id: Guid,
    },
    /// The range of a metadata item breaks a rule.
    #[error("metadata item {id} of {length} bytes at offset {offset} is misplaced: {rule}")]
    ItemRange {
        /// Id of the item.
        id: Guid,
        /// Offset in the metadata region.
        offset: u32,
        /// Length, in bytes.
        length: u32,
        /// The rule that it breaks.
        rule: RangeRule,
    },
    /// A metadata item that every such file needs is missing.
    #[error("the metadata item {what} is missing")]
    MissingItem {
        /// Name of the item.
        what: &'static str,
    },
    /// A metadata item has the wrong length.
    #[error("the metadata item {what} has {found} bytes instead of {expected}")]
    ItemLength {
        /// Name of the item.
        what: &'static str,
        /// Its length, in bytes.
        found: u32,
        /// The right length, in bytes.
        expected: u32,
    },
    /// A size is not one of those that the format allows.
    #[error("{what} of {value} bytes is not allowed")]
    InvalidSize {
        /// Name of the parameter.
        what: &'static str,
        /// Its value, in bytes.
        value: u64,
    },
    /// The parent locator cannot be read.
    #[error("the parent locator is malformed: {rule}")]
    ParentLocator {
        /// The rule that it breaks.
        rule: LocatorRule,
    },
    /// The BAT region cannot hold the table that the disk needs.
    #[error("the BAT region holds {have} entries, but the disk needs {need}")]
    BatTooSmall {
        /// Entries that fit.
        have: u64,
        /// Entries that are needed.
        need: u64,
    },
    /// A BAT entry has a state that is not defined.
    #[error("{what} {index} has the undefined state {state}")]
    BlockState {
        /// Kind of the block.
        what: BlockKind,
        /// Number of the block of its kind.
        index: u64,
        /// The state.
        state: u8,
    },
    /// A BAT entry has bits set that are reserved.
    #[error("the entry of {what} {index} has reserved bits set: {entry:#018x}")]
    BlockReserved {
        /// Kind of the block.
        what: BlockKind,
        /// Number of the block of its kind.
        index: u64,
        /// The entry.
        entry: u64,
    },
    /// A BAT entry names a range that breaks a rule.
    #[error("{what} {index} at file offset {offset} is misplaced: {rule}")]
    BlockRange {
        /// Kind of the block.
        what: BlockKind,
        /// Number of the block of its kind.
        index: u64,
        /// Offset in the file.
        offset: u64,
        /// The rule that it breaks.
        rule: RangeRule,
    },
    /// A block is partially present, but there is no bitmap that tells which part.
    #[error("block {block} is partially present, but its sector bitmap block {chunk} is not allocated")]
    BitmapMissing {
        /// Number of the payload block.
        block: u64,
        /// Number of the chunk.
        chunk: u64,
    },
}

/// Kind of a block in the BAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Block with data of the virtual disk.
    Payload,
    /// Block with the bitmap of a chunk.
    SectorBitmap,
}

impl core::fmt::Display for BlockKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Payload => "payload block",
            Self::SectorBitmap => "sector bitmap block",
        })
    }
}

/// Rule about where a range may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RangeRule {
    /// It must be aligned.
    #[error("it is not aligned")]
    Aligned,
    /// It must not be empty.
    #[error("it is empty")]
    NotEmpty,
    /// It must begin after the header area.
    #[error("it touches the header area")]
    AfterHeaders,
    /// It must end inside the file, or region.
    #[error("it reaches beyond the end")]
    Inside,
    /// It must not overlap another range.
    #[error("it overlaps another range")]
    Disjoint,
}

/// Rule about the contents of a parent locator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LocatorRule {
    /// It must hold its head and its pairs.
    #[error("it is shorter than its pairs")]
    Length,
    /// It must have between one pair and the limit.
    #[error("its number of pairs is not allowed")]
    PairCount,
    /// Keys and values must lie inside the item.
    #[error("a key or value lies outside of it")]
    StringRange,
    /// Keys and values must be UTF-16.
    #[error("a key or value is not UTF-16")]
    Utf16,
    /// Keys must be unique.
    #[error("a key is listed twice")]
    DuplicateKey,
    /// The parent's DataWriteGuid must be there.
    #[error("it has no parent_linkage")]
    LinkageMissing,
    /// Linkages must be GUIDs.
    #[error("a linkage is not a GUID")]
    LinkageGuid,
}

/// Failure to write a VHDX file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VhdxWriteError {
    /// The port failed.
    #[error("the VHDX file cannot be written")]
    Port(#[from] PortError),
    /// An option is not one of those that the format allows.
    #[error("{what} of {value} is not allowed")]
    InvalidOption {
        /// Name of the option.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A text does not fit its field.
    #[error("{what} is too long: {text:?}")]
    TextTooLong {
        /// Name of the field.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// A carried metadata item has the id of an item that the writer makes, or stands twice.
    #[error("metadata item {id} cannot be carried: the file has it already")]
    DuplicateItem {
        /// Id of the item.
        id: Guid,
    },
    /// The range lies beyond the virtual disk.
    #[error("range of {length} bytes at {offset} lies beyond the virtual disk of {virtual_size_bytes} bytes")]
    BeyondDisk {
        /// First byte of the range.
        offset: u64,
        /// Length of the range, in bytes.
        length: u64,
        /// Size of the virtual disk, in bytes.
        virtual_size_bytes: u64,
    },
    /// A write to a differencing disk does not consist of whole sectors, so that the rest would need the parent.
    #[error("range of {length} bytes at {offset} does not consist of whole sectors of {sector_bytes} bytes")]
    PartialSector {
        /// First byte of the range.
        offset: u64,
        /// Length of the range, in bytes.
        length: u64,
        /// Logical sector size, in bytes.
        sector_bytes: u32,
    },
    /// A block is to be marked as not holding data, but holds data already.
    #[error("block {block} has been written or marked before")]
    BlockInUse {
        /// Number of the block.
        block: u64,
    },
    /// The pending entries do not fit the log.
    #[error("the log has {log_bytes} bytes, but the pending entries need {need_bytes}")]
    LogFull {
        /// Length of the log, in bytes.
        log_bytes: u64,
        /// Length of the entries, in bytes.
        need_bytes: u64,
    },
}
