//! The third format: a store of numbered files, with two headers (FORMAT.md section 4).
//!
//! File > VHD > header > file table > file. What the files hold is not looked into; how encrypted ones are opened is in
//! `unlock.rs`.

use alloc::vec::Vec;

use zerocopy::FromBytes;

use crate::copies::{self, Choice, Findings, HeaderCopy};
use crate::error::{Corruption, Remark, Unsupported};
use crate::file::{EncryptionAlgorithm, FileId, StoredFile};
use crate::layout::{
    BLOCK_BYTES, FILE_COUNT, FIRST_FILE_BLOCK, HEAD_BYTES, KEY_BYTES, MARKER_REPROVISIONED, RawFileEntry,
    RawMetadataKey, RawStoreHeader, SECOND_HEADER_OFFSETS, SIGNATURE, STORE_HEADER_BYTES, TABLE_BLOCKS,
    TABLE_BYTES, VERSION_3,
};
use crate::read_at::ReadAt;

/// Guest state of the third format, as its header and its file table describe it.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) copy: usize,
    pub(crate) sector_bytes: u64,
    pub(crate) sequence: u32,
    pub(crate) file_table_block: u32,
    pub(crate) algorithm: EncryptionAlgorithm,
    pub(crate) markers: u16,
    pub(crate) metadata_keys: [RawMetadataKey; 2],
    pub(crate) files: Vec<StoredFile>,
}

impl Store {
    /// Returns which header copy is current, 0 or 1.
    #[must_use]
    pub fn header_copy(&self) -> usize {
        self.copy
    }

    /// Returns the sector size that places the second header, in bytes.
    #[must_use]
    pub fn sector_bytes(&self) -> u64 {
        self.sector_bytes
    }

    /// Returns the sequence of the current header.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Returns the block of the file table that counts.
    #[must_use]
    pub fn file_table_block(&self) -> u32 {
        self.file_table_block
    }

    /// Returns the encryption algorithm.
    #[must_use]
    pub fn algorithm(&self) -> EncryptionAlgorithm {
        self.algorithm
    }

    /// Tells whether the store is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.algorithm != EncryptionAlgorithm::NONE
    }

    /// Returns the marker bits of the header.
    #[must_use]
    pub fn markers(&self) -> u16 {
        self.markers
    }

    /// Counts the datastore keys that open the store.
    #[must_use]
    pub fn datastore_keys(&self) -> usize {
        self.metadata_keys.iter().filter(|slot| slot.encrypted_key != [0; KEY_BYTES]).count()
    }

    /// Lists the files by number, both tables among them.
    #[must_use]
    pub fn files(&self) -> &[StoredFile] {
        &self.files
    }

    /// Finds a file.
    #[must_use]
    pub fn file(&self, id: FileId) -> Option<&StoredFile> {
        self.files.iter().find(|file| file.id == id)
    }
}

/// What lies on a disk without a GPT.
#[derive(Debug)]
pub(crate) enum FoundStore {
    Store(Store),
    /// Both header places are blank.
    Blank,
    Unsupported(Unsupported),
    /// Signed as a store; why it cannot be read is among the findings.
    Lost,
    /// Nothing says that this is a store.
    Unknown,
}

/// Tells where the second header of a disk stands.
fn second_header_offset(head: &[u8; HEAD_BYTES]) -> u64 {
    let [fine, coarse] = SECOND_HEADER_OFFSETS;
    let at = |offset: u64| &head[offset as usize..offset as usize + STORE_HEADER_BYTES];
    let is_blank = |offset| at(offset).iter().all(|byte| *byte == 0);
    // Writing a header clears the rest of its sector, so on a disk with coarse sectors nothing stands behind a fine one.
    if is_blank(fine) && !is_blank(coarse) { coarse } else { fine }
}

/// Tells whether a disk bears the signature of a store in any place of a header.
pub(crate) fn is_signed(head: &[u8; HEAD_BYTES]) -> bool {
    let [fine, coarse] = SECOND_HEADER_OFFSETS;
    [0, fine, coarse].into_iter().any(|offset| head[offset as usize..].starts_with(&SIGNATURE))
}

/// Reads headers and file table; `head` is the start of the disk.
pub(crate) fn read<R: ReadAt>(
    port: &R,
    head: &[u8; HEAD_BYTES],
    disk_bytes: u64,
    findings: &mut Findings,
) -> Result<FoundStore, R::Error> {
    let sector_bytes = second_header_offset(head);
    let places = [&head[..], &head[sector_bytes as usize..]];
    let headers = [parse_header(0, places[0]), parse_header(1, places[1])];
    let is_blank = headers.iter().all(|header| matches!(header, HeaderCopy::Blank));
    if !is_blank && !is_signed(head) {
        return Ok(FoundStore::Unknown);
    }
    let (copy, sequence, header) = match copies::choose(headers, findings) {
        Choice::Current { copy, sequence, header } => (copy, sequence, header),
        Choice::Blank => return Ok(FoundStore::Blank),
        Choice::Unsupported(unsupported) => return Ok(FoundStore::Unsupported(unsupported)),
        Choice::None => return Ok(FoundStore::Lost),
    };
    let mut store = Store {
        copy,
        sector_bytes,
        sequence,
        file_table_block: header.file_table_block.get(),
        algorithm: EncryptionAlgorithm(header.encryption_algorithm.get()),
        markers: header.markers.get(),
        metadata_keys: header.metadata_keys,
        files: Vec::new(),
    };
    let (block, disk_blocks) = (store.file_table_block, disk_bytes / BLOCK_BYTES);
    if u64::from(block) >= disk_blocks {
        findings.corrupt(Corruption::FileTableBeyondDisk { block, disk_blocks });
        return Ok(FoundStore::Store(store));
    }
    let mut table = [0; TABLE_BYTES];
    port.read_exact_at(u64::from(block) * BLOCK_BYTES, &mut table)?;
    store.files = parse_table(&table, block, disk_blocks, findings);
    check(&store, findings);
    Ok(FoundStore::Store(store))
}

fn parse_header(copy: usize, place: &[u8]) -> HeaderCopy<RawStoreHeader> {
    if let Err(other) = copies::check_common(copy, place, VERSION_3, STORE_HEADER_BYTES) {
        return other;
    }
    let Ok((header, _)) = RawStoreHeader::read_from_prefix(place) else {
        return HeaderCopy::Damaged(Corruption::HeaderSignature { copy });
    };
    let (block, blocks) = (header.file_table_block.get(), header.file_table_blocks.get());
    if block < FIRST_FILE_BLOCK || blocks != TABLE_BLOCKS {
        return HeaderCopy::Damaged(Corruption::FileTablePlace { copy, block, blocks });
    }
    let algorithm = EncryptionAlgorithm(header.encryption_algorithm.get());
    if ![EncryptionAlgorithm::NONE, EncryptionAlgorithm::AES_GCM].contains(&algorithm) {
        return HeaderCopy::Foreign(Unsupported::Algorithm(algorithm));
    }
    HeaderCopy::Valid { sequence: header.sequence.get(), header }
}

/// Parses the used entries of the file table at `table_block`; those that cannot be are left out.
fn parse_table(
    table: &[u8; TABLE_BYTES],
    table_block: u32,
    disk_blocks: u64,
    findings: &mut Findings,
) -> Vec<StoredFile> {
    let mut files: Vec<StoredFile> = Vec::with_capacity(FILE_COUNT);
    for (id, bytes) in (0..).map(FileId).zip(table.chunks_exact(size_of::<RawFileEntry>())) {
        let Ok(raw) = RawFileEntry::read_from_bytes(bytes) else { continue };
        let file = StoredFile::of(id, &raw);
        let (block, blocks) = (file.block, file.blocks);
        if id == FileId::FILE_TABLE {
            // The table is written to another place each time, so a table that names another place has been overwritten.
            let is_here = (block, blocks, file.size_bytes) == (table_block, TABLE_BLOCKS, TABLE_BYTES as u64);
            if !is_here {
                findings.corrupt(Corruption::FileTableElsewhere {
                    block: table_block,
                    says: block,
                    blocks,
                    valid_bytes: file.size_bytes,
                });
                continue;
            }
        }
        if blocks == 0 {
            if bytes.iter().any(|byte| *byte != 0) {
                findings.remarks.push(Remark::UnusedEntry { id });
            }
            continue;
        }
        if block < FIRST_FILE_BLOCK || u64::from(block) + u64::from(blocks) > disk_blocks {
            findings.corrupt(Corruption::FileRange { id, block, blocks, disk_blocks });
            continue;
        }
        if file.size_bytes > file.allocated_bytes() {
            findings.corrupt(Corruption::FileSize { id, valid_bytes: file.size_bytes, blocks });
            continue;
        }
        let end = u64::from(block) + u64::from(blocks);
        let overlapped = files.iter().find(|other| {
            u64::from(other.block) < end
                && u64::from(block) < u64::from(other.block) + u64::from(other.blocks)
        });
        if let Some(other) = overlapped {
            findings.corrupt(Corruption::FileOverlap { first: other.id, second: id });
            continue;
        }
        files.push(file);
    }
    files
}

/// Checks what header and file table say together.
fn check(store: &Store, findings: &mut Findings) {
    if store.markers & MARKER_REPROVISIONED != 0 {
        findings.remarks.push(Remark::Reprovisioned);
    }
    if !store.is_encrypted() {
        let encrypted = store.files.iter().filter(|file| file.attributes.is_encrypted());
        findings.remarks.extend(encrypted.map(|file| Remark::EncryptedFileInClearStore { id: file.id }));
        return;
    }
    if store.datastore_keys() == 0 {
        findings.remarks.push(Remark::NoMetadataKey);
    }
    let what = match store.file(FileId::EXTENDED_FILE_TABLE) {
        None => "is missing",
        Some(table) if table.size_bytes != TABLE_BYTES as u64 => "has an impossible size",
        Some(table) if !table.attributes.is_encrypted() => "is not",
        Some(_) => return,
    };
    findings.corrupt(Corruption::ExtendedTable { what });
}
