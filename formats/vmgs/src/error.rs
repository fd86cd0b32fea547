//! Everything that can be wrong with a guest state file, a read or a key.
//!
//! [`Corruption`] is closed: a variant per broken rule of the format. What is odd and yet thinkable of a healthy file is a
//! [`Remark`] and never makes a file unreadable.

use alloc::vec::Vec;
use thiserror::Error;

use crate::file::{EncryptionAlgorithm, FileId};
use crate::guest_state::FormatVersion;

/// A broken rule of the GPT in which the first format lies.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GptDamage {
    /// The sector of the header or the entries do not lie on the disk.
    #[error("its {what} does not lie on the disk")]
    BeyondDisk {
        /// Name of the structure.
        what: &'static str,
    },
    /// The header does not begin with the signature.
    #[error("its signature is missing")]
    Signature,
    /// The header does not match its checksum.
    #[error("its header does not match its checksum")]
    HeaderChecksum,
    /// The header has an impossible size.
    #[error("its header says that it has {bytes} bytes")]
    HeaderSize {
        /// The size found.
        bytes: u32,
    },
    /// The header belongs in another sector.
    #[error("its header stands in sector {sector} and says sector {says}")]
    Misplaced {
        /// Where it stands.
        sector: u64,
        /// Where it says that it stands.
        says: u64,
    },
    /// The array of entries is larger than any known one, or its entries have an impossible size.
    #[error("it has {count} entries of {bytes} bytes")]
    EntryArray {
        /// Number of entries.
        count: u32,
        /// Size of an entry in bytes.
        bytes: u32,
    },
    /// The entries do not match their checksum.
    #[error("its entries do not match their checksum")]
    EntriesChecksum,
    /// No entry is of the type that holds a guest state.
    #[error("it has no partition for a guest state")]
    NoPartition,
    /// The partition does not lie on the disk.
    #[error("its partition, sectors {first} to {last}, does not lie on the disk")]
    PartitionRange {
        /// First sector.
        first: u64,
        /// Last sector.
        last: u64,
    },
}

/// A broken rule of a guest state file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Corruption {
    /// The file does not end in the footer of a VHD.
    #[error("the file does not end in the footer of a VHD, so its end may be missing")]
    FooterMissing,
    /// The footer does not match its checksum.
    #[error("the VHD footer does not match its checksum")]
    FooterChecksum,
    /// The footer has an unknown version.
    #[error("the VHD footer has version {found:#010x}")]
    FooterVersion {
        /// The version found.
        found: u32,
    },
    /// The footer is that of a VHD that is not fixed.
    #[error("the VHD has disk type {found}, a guest state is of type 2")]
    FooterDiskType {
        /// The type found.
        found: u32,
    },
    /// The footer speaks of a disk of another size.
    #[error("the VHD footer speaks of {says} bytes, the file holds {disk_bytes}")]
    FooterSize {
        /// What the footer says.
        says: u64,
        /// What lies before the footer.
        disk_bytes: u64,
    },
    /// The disk is too small to hold its headers.
    #[error("the disk has {disk_bytes} bytes, too few for two headers")]
    DiskTooSmall {
        /// Size of the disk in bytes.
        disk_bytes: u64,
    },
    /// A header copy does not begin with the signature.
    #[error("header copy {copy} does not begin with its signature")]
    HeaderSignature {
        /// Copy 0 or 1.
        copy: usize,
    },
    /// A header copy does not match its checksum.
    #[error("header copy {copy} does not match its checksum")]
    HeaderChecksum {
        /// Copy 0 or 1.
        copy: usize,
    },
    /// A header copy is of another version than its neighbour.
    #[error("header copy {copy} has version {version}")]
    HeaderVersion {
        /// Copy 0 or 1.
        copy: usize,
        /// The version found.
        version: FormatVersion,
    },
    /// A header copy has an impossible size.
    #[error("header copy {copy} says that it has {found} bytes")]
    HeaderSize {
        /// Copy 0 or 1.
        copy: usize,
        /// The size found.
        found: u32,
    },
    /// A header copy is blank although its neighbour has been written more than once.
    #[error("header copy {copy} is blank beside sequence {other_sequence}")]
    HeaderBlank {
        /// Copy 0 or 1.
        copy: usize,
        /// Sequence of the other copy.
        other_sequence: u32,
    },
    /// Both header places are blank, and yet there is data behind them.
    #[error("both headers are blank, and there is data at offset {data_offset}")]
    HeadersBlank {
        /// Where the first data was met.
        data_offset: u64,
    },
    /// Neither header copy is valid.
    #[error("neither header copy is valid")]
    NoValidHeader,
    /// Both header copies are valid and their sequences are not neighbours, so that neither is current.
    #[error("the header copies have sequences {first} and {second}, which are not neighbours")]
    HeaderSequences {
        /// Sequence of copy 0.
        first: u32,
        /// Sequence of copy 1.
        second: u32,
    },
    /// A header copy places the file table where none can be.
    #[error("header copy {copy} places the file table at block {block}, {blocks} blocks")]
    FileTablePlace {
        /// Copy 0 or 1.
        copy: usize,
        /// Its first block.
        block: u32,
        /// Its number of blocks.
        blocks: u32,
    },
    /// The file table does not lie on the disk.
    #[error("the file table at block {block} does not lie on the disk of {disk_blocks} blocks")]
    FileTableBeyondDisk {
        /// Its block.
        block: u32,
        /// Blocks of the disk.
        disk_blocks: u64,
    },
    /// The block that the header calls the file table does not call itself so: another generation lies there.
    #[error(
        "the file table at block {block} says that it lies at block {says}, {blocks} blocks, {valid_bytes} bytes"
    )]
    FileTableElsewhere {
        /// Where the header places it.
        block: u32,
        /// Where its own entry places it.
        says: u32,
        /// Blocks in its own entry.
        blocks: u32,
        /// Size in its own entry.
        valid_bytes: u64,
    },
    /// A file does not lie on the disk, or lies on the headers.
    #[error("file {id}, {blocks} blocks at block {block}, does not lie on the disk of {disk_blocks} blocks")]
    FileRange {
        /// The file.
        id: FileId,
        /// Its first block.
        block: u32,
        /// Its number of blocks.
        blocks: u32,
        /// Blocks of the disk.
        disk_blocks: u64,
    },
    /// A file is larger than its blocks.
    #[error("file {id} has {valid_bytes} bytes in {blocks} blocks")]
    FileSize {
        /// The file.
        id: FileId,
        /// Size of its content in bytes.
        valid_bytes: u64,
        /// Its number of blocks.
        blocks: u32,
    },
    /// Two files share blocks.
    #[error("files {first} and {second} share blocks")]
    FileOverlap {
        /// One of them.
        first: FileId,
        /// The other.
        second: FileId,
    },
    /// An encrypted store has no usable table of file keys.
    #[error("the store is encrypted and its extended file table {what}")]
    ExtendedTable {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A copy of the GPT is damaged.
    #[error("copy {copy} of the GPT cannot be used: {damage}")]
    Gpt {
        /// Copy 0 at the start or 1 at the end of the disk.
        copy: usize,
        /// The broken rule.
        damage: GptDamage,
    },
    /// Both copies of the GPT are whole and place the guest state differently.
    #[error("the copies of the GPT place the guest state differently")]
    GptCopiesDiffer,
    /// Neither copy of the GPT leads to the guest state.
    #[error("neither copy of the GPT can be used")]
    NoGpt,
    /// The partition is too small to hold two headers.
    #[error("the partition has {sectors} sectors, too few for two headers")]
    PartitionTooSmall {
        /// Its number of sectors.
        sectors: u64,
    },
    /// A header copy has locators of an impossible size.
    #[error("header copy {copy} has locators of {found} bytes")]
    LocatorSize {
        /// Copy 0 or 1.
        copy: usize,
        /// The size found.
        found: u32,
    },
    /// A header copy selects a locator that it does not have.
    #[error("header copy {copy} selects locator {found}")]
    ActiveLocator {
        /// Copy 0 or 1.
        copy: usize,
        /// The number found.
        found: u32,
    },
    /// A locator of a header copy leads out of the partition, or to the headers, or has too few sectors.
    #[error(
        "locator {locator} of header copy {copy}, {bytes} bytes in {sectors} sectors at sector {sector}, does not lie in \
         the partition of {partition_sectors} sectors"
    )]
    LocatorRange {
        /// Copy 0 or 1.
        copy: usize,
        /// Locator 0 or 1.
        locator: usize,
        /// First sector in the partition.
        sector: u64,
        /// Number of sectors.
        sectors: u64,
        /// Size of the document in bytes.
        bytes: u32,
        /// Sectors of the partition.
        partition_sectors: u64,
    },
    /// The document is larger than any known one.
    #[error("the document has {bytes} bytes, more than can be a guest state")]
    DocumentTooLarge {
        /// Its size in bytes.
        bytes: u32,
    },
    /// The document is not UTF-16.
    #[error("the document is no UTF-16 at byte {at}")]
    DocumentEncoding {
        /// Where it ceases to be.
        at: usize,
    },
    /// The document is no JSON.
    #[error("the document is no JSON at character {at}: {why}")]
    DocumentSyntax {
        /// Where it ceases to be, counted in bytes of UTF-8.
        at: usize,
        /// Why.
        why: &'static str,
    },
    /// The document is JSON and describes no devices.
    #[error("the document has no object `Devices`")]
    DocumentShape,
}

impl Corruption {
    /// Tells whether what is needed is there all the same.
    ///
    /// A crash in the middle of a header write leaves a file with one damaged header. Such a file is opened by whoever owns
    /// it; of a *copy* that was taken meanwhile it is still a reason to copy again. Blank headers before data are no such case:
    /// the next start formats the file anew, and what it held is gone.
    #[must_use]
    pub fn is_tolerable(&self) -> bool {
        matches!(
            self,
            Self::HeaderSignature { .. }
                | Self::HeaderChecksum { .. }
                | Self::HeaderVersion { .. }
                | Self::HeaderSize { .. }
                | Self::HeaderBlank { .. }
                | Self::FileTablePlace { .. }
                | Self::LocatorSize { .. }
                | Self::ActiveLocator { .. }
                | Self::LocatorRange { .. }
                | Self::Gpt { .. }
                | Self::GptCopiesDiffer
        )
    }

    /// Tells whether the broken rule is one of the file around the guest state, and so of both formats: the VHD footer and
    /// what it says of the size.
    #[must_use]
    pub fn is_of_file(&self) -> bool {
        matches!(
            self,
            Self::FooterMissing
                | Self::FooterChecksum
                | Self::FooterVersion { .. }
                | Self::FooterDiskType { .. }
                | Self::FooterSize { .. }
                | Self::DiskTooSmall { .. }
        )
    }
}

/// Something odd about a guest state that is whole.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remark {
    /// The store was formatted anew on request, and has not been opened without that since.
    #[error("the store was formatted anew on request, and has not been opened since")]
    Reprovisioned,
    /// The store is encrypted, and neither slot holds its metadata key.
    #[error("the store is encrypted, and its header holds no metadata key that any key could open")]
    NoMetadataKey,
    /// An entry of the file table that is not used is not blank, so a file may have been lost.
    #[error("file {id} is marked as unused, and its entry is not blank")]
    UnusedEntry {
        /// The file.
        id: FileId,
    },
    /// A file is marked as encrypted although the store is not.
    #[error("file {id} is marked as encrypted in a store that is not")]
    EncryptedFileInClearStore {
        /// The file.
        id: FileId,
    },
}

/// A guest state that is not understood, and not damaged for all that is known.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// The format has a version that no known program reads.
    #[error("its format has version {0}")]
    Version(FormatVersion),
    /// The store is encrypted with an unknown algorithm.
    #[error("it is encrypted with algorithm {}", .0.0)]
    Algorithm(EncryptionAlgorithm),
}

/// Failure to open a guest state.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError<E> {
    /// The port failed.
    #[error("the guest state could not be read")]
    Read(#[source] E),
    /// The guest state is damaged; the first corruption is the one that was met first.
    #[error("the guest state is damaged: {first}")]
    Corrupt {
        /// The corruption met first.
        first: Corruption,
        /// Those met after it.
        more: Vec<Corruption>,
    },
    /// Nothing was ever written to it.
    #[error("the guest state is empty")]
    Empty,
    /// It is whole as far as is known, and not understood.
    #[error("the guest state is not understood: {0}")]
    Unsupported(Unsupported),
    /// It is no guest state.
    #[error("this is no guest state: it carries no signature of one")]
    Unknown,
}

/// Failure to read a file of a store, or a document.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError<E> {
    /// The port failed.
    #[error("the guest state could not be read")]
    Read(#[source] E),
    /// There is no such file.
    #[error("the guest state has no file {id}")]
    NoSuchFile {
        /// The file.
        id: FileId,
    },
    /// The guest state is of the format that has no document.
    #[error("the guest state is of the format that has no document")]
    NoDocument,
    /// The content is larger than the caller takes.
    #[error("the content has {size_bytes} bytes, more than {limit_bytes}")]
    TooLarge {
        /// Size of the content in bytes.
        size_bytes: u64,
        /// What the caller takes, in bytes.
        limit_bytes: u64,
    },
    /// The file is encrypted, and no key was given.
    #[error("file {id} is encrypted")]
    Encrypted {
        /// The file.
        id: FileId,
    },
    /// The file does not match its tag.
    #[error("file {id} does not match its tag: it was changed after it was encrypted")]
    NotAuthentic {
        /// The file.
        id: FileId,
    },
    /// The document changed since the guest state was opened.
    #[error("the document is damaged: {0}")]
    Document(#[source] Corruption),
}

/// Failure to open the keys of an encrypted store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnlockError<E> {
    /// The port failed.
    #[error("the guest state could not be read")]
    Read(#[source] E),
    /// There is nothing to unlock.
    #[error("the guest state is not encrypted")]
    NotEncrypted,
    /// The key opens neither slot.
    #[error("the datastore key opens neither metadata key of this guest state")]
    WrongKey,
    /// The key is right, and the table of file keys is damaged or lost.
    #[error("the datastore key is right, but the extended file table {what}")]
    ExtendedTable {
        /// What is wrong with it.
        what: &'static str,
    },
}
