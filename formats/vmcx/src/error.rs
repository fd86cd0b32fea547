//! Everything that can be wrong with a container, a read or a write.
//!
//! [`Corruption`] is closed: a variant per broken rule of the format. What is odd and yet seen in, or thinkable of, a healthy
//! file is a [`Remark`] and never makes a file unreadable.

use alloc::string::String;
use alloc::vec::Vec;
use thiserror::Error;

use crate::tree::KeyKind;

/// A broken rule of the container format.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Corruption {
    /// A structure runs past the end of the file.
    #[error("{what} at offset {offset} needs {need} bytes, the file has {file_bytes}")]
    Truncated {
        /// Name of the structure.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// Its size in bytes.
        need: u64,
        /// Size of the file in bytes.
        file_bytes: u64,
    },
    /// A header copy does not begin with the signature.
    #[error("header copy {copy} has signature {found:#010x}")]
    HeaderSignature {
        /// Copy 0 or 1.
        copy: usize,
        /// The bytes found there.
        found: u32,
    },
    /// A header copy does not match its checksum.
    #[error("header copy {copy} does not match its checksum")]
    HeaderChecksum {
        /// Copy 0 or 1.
        copy: usize,
    },
    /// Neither header copy is valid: not a container, or its beginning is lost.
    #[error("neither header copy is valid")]
    NoValidHeader,
    /// Both header copies are valid and have one sequence, so that neither is current.
    #[error("both header copies have sequence {sequence}")]
    HeaderSequencesEqual {
        /// The sequence of both.
        sequence: u16,
    },
    /// Both header copies are valid and their sequences are not neighbours.
    #[error("the header copies have sequences {first} and {second}, which are not neighbours")]
    HeaderSequencesApart {
        /// Sequence of copy 0.
        first: u16,
        /// Sequence of copy 1.
        second: u16,
    },
    /// The format version is not one that can be read.
    #[error("format version {:#06x} is not supported, only 4.0 is", .format_version)]
    UnsupportedVersion {
        /// `(major << 8) | minor`.
        format_version: u32,
    },
    /// The data alignment is not a power of two from 4 KiB to 64 KiB.
    #[error("the data alignment is {found}")]
    DataAlignment {
        /// The value found.
        found: u32,
    },
    /// The header describes a replay log that cannot be.
    #[error("the replay log at {offset}, {size} bytes with a header area of {header_size}, is impossible")]
    LogGeometry {
        /// Offset of the log in the file.
        offset: u64,
        /// Size of the whole log in bytes.
        size: u64,
        /// Size of the log header area in bytes.
        header_size: u32,
    },
    /// The replay log does not begin with its signature.
    #[error("the replay log has signature {found:#010x}")]
    LogSignature {
        /// The bytes found there.
        found: u32,
    },
    /// The replay log header does not match its checksum.
    #[error("the replay log header does not match its checksum")]
    LogChecksum,
    /// The replay log has room for no entry, for more than its header area holds, or holds more than it has room for.
    #[error("the replay log has {current} of {max} entries in a header area of {header_size} bytes")]
    LogEntryCount {
        /// Entries to apply.
        current: u32,
        /// Entries that fit, as the log says.
        max: u32,
        /// Size of the log header area in bytes.
        header_size: u32,
    },
    /// A pending log entry does not match its checksum.
    #[error("replay log entry {index} does not match its checksum")]
    LogEntryChecksum {
        /// Index of the entry.
        index: u32,
    },
    /// The data of a pending log entry does not match its checksum.
    #[error("the data of replay log entry {index} does not match its checksum")]
    LogDataChecksum {
        /// Index of the entry.
        index: u32,
    },
    /// The data of a pending log entry does not lie in the data area of the log.
    #[error("the data of replay log entry {index}, {size} bytes at {offset}, does not lie inside the log")]
    LogDataOutside {
        /// Index of the entry.
        index: u32,
        /// Offset from the start of the log.
        offset: u64,
        /// Size in bytes.
        size: u32,
    },
    /// A pending log entry writes outside the file, into a header or into the log.
    #[error("replay log entry {index} writes {size} bytes at {offset}, which is no place for data")]
    LogDestination {
        /// Index of the entry.
        index: u32,
        /// Destination in the file.
        offset: u64,
        /// Size in bytes.
        size: u32,
    },
    /// The pending log entries hold more data than is accepted.
    #[error("the pending replay log entries hold {found} bytes, more than {limit}")]
    LogTooLarge {
        /// Sum of the sizes in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An object table does not begin with its signature.
    #[error("the object table at {offset} has signature {found:#010x}")]
    ObjectTableSignature {
        /// Offset of the table.
        offset: u64,
        /// The bytes found there.
        found: u32,
    },
    /// The entries of an object table do not fill whole pages, or more than the room it has.
    #[error("the object table at {offset} has {count} entries, which is not what its size holds")]
    ObjectTableCount {
        /// Offset of the table.
        offset: u64,
        /// Number of entries it claims.
        count: u32,
    },
    /// An object entry does not match its checksum.
    #[error("entry {index} of the object table at {table} does not match its checksum")]
    ObjectChecksum {
        /// Offset of the table.
        table: u64,
        /// Index of the entry.
        index: u32,
    },
    /// An object table is named by another than the last entry, or the last entry names something else.
    #[error("entry {index} of the object table at {table} has kind {kind} in the wrong place")]
    ObjectChain {
        /// Offset of the table.
        table: u64,
        /// Index of the entry.
        index: u32,
        /// Kind of the entry.
        kind: u8,
    },
    /// The chain of object tables comes back to a table.
    #[error("the chain of object tables comes back to offset {offset}")]
    ObjectTableLoop {
        /// Offset of the table met twice.
        offset: u64,
    },
    /// There are more object tables than are accepted.
    #[error("there are more than {limit} object tables")]
    TooManyObjectTables {
        /// The limit.
        limit: usize,
    },
    /// Two regions of the file lie on each other.
    #[error("{first} at {first_offset} and {second} at {second_offset} overlap")]
    Overlap {
        /// Name of the first region.
        first: &'static str,
        /// Its offset.
        first_offset: u64,
        /// Name of the second region.
        second: &'static str,
        /// Its offset.
        second_offset: u64,
    },
    /// A key table has a size that cannot be.
    #[error("the key table at {offset} has {size} bytes")]
    KeyTableSize {
        /// Offset of the table.
        offset: u64,
        /// Size in bytes.
        size: u32,
    },
    /// A key table does not begin with its signature.
    #[error("the key table at {offset} has signature {found:#06x}")]
    KeyTableSignature {
        /// Offset of the table.
        offset: u64,
        /// The bytes found there.
        found: u16,
    },
    /// The header of a key table does not match its checksum.
    #[error("the header of the key table at {offset} does not match its checksum")]
    KeyTableChecksum {
        /// Offset of the table.
        offset: u64,
    },
    /// A key table has index zero, which names the root.
    #[error("the key table at {offset} has index 0")]
    KeyTableIndex {
        /// Offset of the table.
        offset: u64,
    },
    /// Two key tables have the same index and sequence, so that neither wins.
    #[error("two key tables have index {table} and sequence {sequence}")]
    KeyTablesEqual {
        /// Their index.
        table: u16,
        /// Their sequence.
        sequence: u16,
    },
    /// There is no key table at all.
    #[error("there is no key table")]
    NoKeyTable,
    /// The key tables are larger, or hold more entries, than is accepted.
    #[error("the key tables hold more than {limit} {unit}")]
    TooManyKeys {
        /// The limit.
        limit: u64,
        /// What is limited: bytes or entries.
        unit: &'static str,
    },
    /// A key entry is larger than the rest of its table or too small for what it holds.
    #[error("the key entry at {offset} of key table {table} has {size} bytes")]
    KeyEntrySize {
        /// Index of the table.
        table: u16,
        /// Offset in the table.
        offset: u32,
        /// Size in bytes.
        size: u32,
    },
    /// A key entry does not match its checksum.
    #[error("the key entry at {offset} of key table {table} does not match its checksum")]
    KeyEntryChecksum {
        /// Index of the table.
        table: u16,
        /// Offset in the table.
        offset: u32,
    },
    /// The name of a key entry is not UTF-8 with one NUL at its end.
    #[error("the key entry at {offset} of key table {table} has a malformed name")]
    KeyName {
        /// Index of the table.
        table: u16,
        /// Offset in the table.
        offset: u32,
    },
    /// A string has an odd number of bytes, or a node claims to be a file object.
    #[error("the key entry at {offset} of key table {table} has data that its kind {kind} cannot have")]
    KeyData {
        /// Index of the table.
        table: u16,
        /// Offset in the table.
        offset: u32,
        /// Kind of the entry.
        kind: KeyKind,
    },
    /// The parent of a key entry does not exist.
    #[error(
        "the key entry at {offset} of key table {table} has a parent at {parent_offset} of table {parent_table}, where none is"
    )]
    ParentMissing {
        /// Index of the table.
        table: u16,
        /// Offset in the table.
        offset: u32,
        /// Index of the parent's table.
        parent_table: u16,
        /// Offset in the parent's table.
        parent_offset: u32,
    },
    /// The parent of a key entry is not a node.
    #[error("the key entry at {offset} of key table {table} has a value as parent")]
    ParentNotNode {
        /// Index of the table.
        table: u16,
        /// Offset in the table.
        offset: u32,
    },
    /// A key entry is its own ancestor.
    #[error("the key entry at {offset} of key table {table} is its own ancestor")]
    ParentCycle {
        /// Index of the table.
        table: u16,
        /// Offset in the table.
        offset: u32,
    },
    /// The tree is deeper than is accepted.
    #[error("the tree is deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: u32,
    },
    /// Two children of one node have the same place.
    #[error("two children of {path} have insertion sequence {sequence}")]
    SiblingsEqual {
        /// Path of the node.
        path: String,
        /// The sequence of both.
        sequence: u32,
    },
    /// A node has a child whose place it has not yet given away.
    #[error("{path} has a child with insertion sequence {sequence} and would give {next} to the next")]
    NextSequence {
        /// Path of the node.
        path: String,
        /// The largest sequence of a child.
        sequence: u32,
        /// What the node says.
        next: u32,
    },
    /// A file object does not lie in the file.
    #[error(
        "the file object of {path}, {size} bytes at {offset}, does not lie in the file of {file_bytes} bytes"
    )]
    FileObjectOutside {
        /// Path of the value.
        path: String,
        /// Offset in the file.
        offset: u64,
        /// Size in bytes.
        size: u32,
        /// Size of the file in bytes.
        file_bytes: u64,
    },
    /// A value points to a place where no object table lists a file object of that size.
    #[error("{path} points to {size} bytes at {offset}, where no file object is listed")]
    FileObjectUnlisted {
        /// Path of the value.
        path: String,
        /// Offset in the file.
        offset: u64,
        /// Size in bytes.
        size: u32,
    },
    /// Two values point to one file object.
    #[error("{path} points to the file object at {offset}, which another value has")]
    FileObjectShared {
        /// Path of the second value.
        path: String,
        /// Offset in the file.
        offset: u64,
    },
}

impl Corruption {
    /// Tells whether the tree can be trusted all the same.
    ///
    /// True only for damage to the header copies that leaves one of them current: a file is in this state after a crash in
    /// the middle of a header write, and its tree is whole.
    pub fn is_tolerable(&self) -> bool {
        matches!(
            self,
            Corruption::HeaderSignature { .. }
                | Corruption::HeaderChecksum { .. }
                | Corruption::HeaderSequencesApart { .. }
        )
    }
}

/// Something odd that does not make a copy torn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remark {
    /// Two children of a node have the same name; real VMRS files have such. A path then names the first.
    SameName {
        /// Path of the children.
        path: String,
    },
    /// Children without a place among their siblings (insertion sequence 0); Hyper-V rewrites such files.
    NoInsertionSequence {
        /// How many.
        entries: u32,
    },
    /// A node would give its next child a later place than it needs to: a child was removed, or is missing.
    SequenceGap {
        /// Path of the node.
        path: String,
    },
    /// Key tables that a later sequence of the same index replaces.
    SupersededKeyTables {
        /// How many.
        tables: u32,
    },
    /// An object of a kind that this crate does not know.
    UnknownObject {
        /// The kind.
        kind: u8,
        /// Its offset.
        offset: u64,
        /// Its size in bytes.
        size: u32,
    },
    /// A value of a kind that this crate does not know.
    UnknownValue {
        /// Path of the value.
        path: String,
        /// The kind.
        kind: KeyKind,
    },
    /// File objects that no value points to.
    UnusedFileObjects {
        /// How many.
        objects: u32,
    },
    /// Free space that lies on a used region.
    FreeSpaceOverlap {
        /// Offset of the free space.
        offset: u64,
    },
    /// Change tracking is on.
    ChangeTracking,
    /// An applied log entry is intact while its data lies behind the end of the file: the copy may have been cut there.
    AppliedLogCut {
        /// Index of the entry.
        index: u32,
    },
}

/// Failure to open a container.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError<E> {
    /// The port failed.
    #[error("the container could not be read")]
    Read(#[source] E),
    /// The container is damaged; the first corruption is the one that was met first.
    #[error("the container is damaged: {first}")]
    Corrupt {
        /// The corruption met first.
        first: Corruption,
        /// Those met after it.
        more: Vec<Corruption>,
    },
}

/// Failure to read a value.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError<E> {
    /// The port failed.
    #[error("the value could not be read")]
    Read(#[source] E),
    /// The value is larger than the caller takes.
    #[error("the value has {size_bytes} bytes, more than {limit_bytes}")]
    TooLarge {
        /// Size of the value in bytes.
        size_bytes: u64,
        /// What the caller takes, in bytes.
        limit_bytes: u64,
    },
    /// The range does not lie in the file.
    #[error("{size_bytes} bytes at {offset} do not lie in the file of {file_bytes} bytes")]
    OutOfFile {
        /// Offset in the file.
        offset: u64,
        /// Size in bytes.
        size_bytes: u64,
        /// Size of the file in bytes.
        file_bytes: u64,
    },
    /// The bytes of a file object do not make a value of its kind.
    #[error("{size_bytes} bytes do not make a value of kind {kind}")]
    Malformed {
        /// Kind of the value.
        kind: KeyKind,
        /// Size in bytes.
        size_bytes: u64,
    },
}

/// Failure to build a container.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// A path does not begin with a slash or has an empty part.
    #[error("{path:?} is not a path of keys")]
    Path {
        /// The path.
        path: String,
    },
    /// A name is empty, has a NUL, or more than 254 bytes of UTF-8.
    #[error("{name:?} is not a key name")]
    Name {
        /// The name.
        name: String,
    },
    /// A value was to have children.
    #[error("{path:?} lies below a value")]
    BelowValue {
        /// The path.
        path: String,
    },
    /// The tree is deeper than readers accept.
    #[error("the tree is deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: u32,
    },
    /// A value has more than 4 GiB, or is a pointer into another file.
    #[error("the value {name:?} cannot be stored")]
    Value {
        /// Its name.
        name: String,
    },
    /// An option has a value that the format does not have.
    #[error("{option} cannot be {found}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// The value.
        found: u64,
    },
    /// The tree needs more key tables or objects than the format can name.
    #[error("the tree needs more than {limit} {what}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}
