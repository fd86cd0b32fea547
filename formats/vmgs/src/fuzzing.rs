//! Entry points for the fuzz targets and the tests of hostile bytes: everything a parser can be made to do.
//!
//! Deliberately mends checksums first, so that the bytes behind them are reached.

use alloc::vec;
use alloc::vec::Vec;

use aes_gcm::aead::generic_array::GenericArray;
use aes_gcm::{AeadInPlace, Aes256Gcm, KeyInit};
use zerocopy::FromBytes;

use crate::checksum;
use crate::document;
use crate::file::FileId;
use crate::guest_state::{Contents, GuestState, Verdict};
use crate::layout::{
    BLOCK_BYTES, CHECKSUM_OFFSET, DOCUMENT_HEADER_BYTES, FIRST_FILE_BLOCK, FOOTER_BYTES,
    FOOTER_CHECKSUM_OFFSET, FOOTER_COOKIE, GPT_CHECKSUM_OFFSET, GPT_PARTITION_TYPE, GPT_SIGNATURE,
    HEAD_BYTES, KEY_BYTES, RawFileEntry, RawFooter, SECTOR_BYTES, SIGNATURE, STORE_HEADER_BYTES,
    TABLE_BLOCKS, TABLE_BYTES, VERSION_1, VERSION_3, VERSION_OFFSET,
};
use crate::secret::DatastoreKey;

/// Largest content that is read.
const LIMIT_BYTES: usize = 1 << 20;
/// Sectors before the partition of a mended document: boot sector, GPT header, one sector of entries.
const MENDED_PARTITION_SECTOR: usize = 3;

/// Inspects bytes as they are, then with what would stop a reader early put right, as either format.
pub fn open(bytes: &[u8]) {
    inspect(bytes);
    inspect(&fold_store(bytes));
    let mut document = bytes.to_vec();
    mend_document(&mut document);
    inspect(&document);
}

/// Parses bytes as the text of a document.
pub fn document(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    let Ok(devices) = document::devices(text) else { return };
    let sizes = devices.iter().map(|device| device.size_bytes).sum::<usize>();
    assert!(sizes <= text.len(), "{sizes} of {} bytes", text.len());
    for device in devices {
        let sizes = device.states.iter().map(|(_, size)| size).sum::<usize>();
        assert!(sizes <= device.size_bytes, "{sizes} of {} bytes", device.size_bytes);
    }
}

/// Inspects a file, and reads all that can be read of it.
fn inspect(bytes: &[u8]) {
    let inspection = GuestState::inspect(bytes).expect("nothing outside the file is read");
    let report = inspection.report;
    let is_open = GuestState::open(bytes).is_ok();
    match report.verdict {
        Verdict::Whole | Verdict::Encrypted => {
            assert!(is_open && report.corruptions.is_empty(), "{report:?}");
        }
        Verdict::Torn => assert!(!report.corruptions.is_empty(), "{report:?}"),
        Verdict::Empty | Verdict::Unsupported(_) | Verdict::Unknown => assert!(!is_open, "{report:?}"),
    }
    let Some(guest_state) = inspection.guest_state else { return };
    let _ = guest_state.has_vtpm_state();
    let store = match guest_state.contents() {
        Contents::Document(_) => {
            let _ = guest_state.read_document();
            return;
        }
        Contents::Store(store) => store,
    };
    let opened = [guest_state.unlock(&DatastoreKey::new([7; 32])), guest_state.unlock_without_key()];
    for file in store.files() {
        assert!(file.offset() + file.allocated_bytes() <= bytes.len() as u64, "{file:?}");
        let _ = guest_state.read(file.id(), LIMIT_BYTES);
        for unlocked in opened.iter().flatten() {
            let _ = unlocked.read(file.id(), LIMIT_BYTES).map(|content| content.expose().len());
        }
    }
}

/// Makes a store of bytes: two headers, then the blocks behind them. What would stop a reader early is put right, down to
/// the tag of a table of file keys under a blank metadata key.
fn fold_store(bytes: &[u8]) -> Vec<u8> {
    let block = BLOCK_BYTES as usize;
    let (first, rest) = bytes.split_at(bytes.len().min(STORE_HEADER_BYTES));
    let (second, rest) = rest.split_at(rest.len().min(STORE_HEADER_BYTES));
    let mut disk = vec![0; HEAD_BYTES];
    disk[..first.len()].copy_from_slice(first);
    disk[SECTOR_BYTES as usize..][..second.len()].copy_from_slice(second);
    disk.extend_from_slice(rest);
    disk.resize(disk.len().next_multiple_of(block) + 2 * block, 0);
    let sequence = u32::from_le_bytes([disk[16], disk[17], disk[18], disk[19]]);
    for (header, sequence) in
        disk[..HEAD_BYTES].chunks_exact_mut(SECTOR_BYTES as usize).zip([sequence, sequence.wrapping_sub(1)])
    {
        header[16..20].copy_from_slice(&sequence.to_le_bytes());
        header[24..28].copy_from_slice(&FIRST_FILE_BLOCK.to_le_bytes());
        header[28..32].copy_from_slice(&TABLE_BLOCKS.to_le_bytes());
        header[32] &= 1;
        header[33] = 0;
        mend_header(&mut header[..STORE_HEADER_BYTES], VERSION_3);
    }
    let table = &mut disk[HEAD_BYTES..];
    table[..16].fill(0);
    table[0] = FIRST_FILE_BLOCK as u8;
    table[4] = TABLE_BLOCKS as u8;
    table[8..16].copy_from_slice(&(TABLE_BYTES as u64).to_le_bytes());
    seal_extended_table(&mut disk);
    with_footer(&mut disk);
    disk
}

/// Encrypts what lies where entry 63 of the file table points, under a blank metadata key.
fn seal_extended_table(disk: &mut [u8]) {
    let at = HEAD_BYTES + FileId::EXTENDED_FILE_TABLE.0 as usize * size_of::<RawFileEntry>();
    let (tables, files) = disk.split_at_mut(HEAD_BYTES + TABLE_BYTES);
    let Ok((entry, _)) = RawFileEntry::mut_from_prefix(&mut tables[at..]) else { return };
    let first = (entry.block.get() as usize).checked_sub(FIRST_FILE_BLOCK as usize + 1);
    let start = first.and_then(|block| block.checked_mul(BLOCK_BYTES as usize));
    let content = start.and_then(|start| files.get_mut(start..)?.get_mut(..TABLE_BYTES));
    let Some(content) = content else { return };
    let cipher = Aes256Gcm::new(&GenericArray::from([0; KEY_BYTES]));
    let nonce = GenericArray::from(entry.nonce);
    if let Ok(tag) = cipher.encrypt_in_place_detached(&nonce, &[], content) {
        entry.tag = tag.into();
        entry.valid_bytes = (TABLE_BYTES as u64).into();
    }
}

/// Makes a GPT of one sector of entries, the headers of a document and the footer right.
fn mend_document(bytes: &mut Vec<u8>) {
    let sector = SECTOR_BYTES as usize;
    let disk_bytes = bytes.len();
    with_footer(bytes);
    let Some(start) = bytes.get_mut(..(MENDED_PARTITION_SECTOR + 2) * sector) else { return };
    let (gpt, headers) = start.split_at_mut(MENDED_PARTITION_SECTOR * sector);
    let sequence = u32::from_le_bytes([headers[16], headers[17], headers[18], headers[19]]);
    headers[sector + 16..sector + 20].copy_from_slice(&sequence.wrapping_add(1).to_le_bytes());
    for header in headers.chunks_exact_mut(sector) {
        mend_header(&mut header[..DOCUMENT_HEADER_BYTES], VERSION_1);
    }
    let (header, array) = gpt[sector..].split_at_mut(sector);
    let put = |bytes: &mut [u8], at: usize, number: u64| {
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    };
    array[..16].copy_from_slice(&GPT_PARTITION_TYPE);
    put(array, 32, MENDED_PARTITION_SECTOR as u64);
    put(array, 40, (disk_bytes / sector).saturating_sub(1) as u64);
    header[..8].copy_from_slice(&GPT_SIGNATURE);
    header[12..16].copy_from_slice(&92_u32.to_le_bytes());
    put(header, 24, 1);
    put(header, 72, 2);
    // Four entries of 128 bytes.
    put(header, 80, 4 | 128 << 32);
    header[88..92].copy_from_slice(&crc32fast::hash(array).to_le_bytes());
    let sum = checksum::header(&header[..92], GPT_CHECKSUM_OFFSET);
    header[GPT_CHECKSUM_OFFSET..][..4].copy_from_slice(&sum.to_le_bytes());
}

fn mend_header(header: &mut [u8], version: u32) {
    header[..8].copy_from_slice(&SIGNATURE);
    header[VERSION_OFFSET..][..4].copy_from_slice(&version.to_le_bytes());
    let size = header.len() as u32;
    header[20..24].copy_from_slice(&size.to_le_bytes());
    let sum = checksum::header(header, CHECKSUM_OFFSET);
    header[CHECKSUM_OFFSET..][..4].copy_from_slice(&sum.to_le_bytes());
}

/// Puts a footer behind the bytes.
fn with_footer(bytes: &mut Vec<u8>) {
    let disk_bytes = bytes.len() as u64;
    let mut footer = [0; FOOTER_BYTES];
    footer[..8].copy_from_slice(&FOOTER_COOKIE);
    footer[12..16].copy_from_slice(&0x0001_0000_u32.to_be_bytes());
    let at = core::mem::offset_of!(RawFooter, current_size);
    footer[at..at + 8].copy_from_slice(&disk_bytes.to_be_bytes());
    footer[60..64].copy_from_slice(&2_u32.to_be_bytes());
    let sum = checksum::footer(&footer, FOOTER_CHECKSUM_OFFSET);
    footer[FOOTER_CHECKSUM_OFFSET..][..4].copy_from_slice(&sum.to_be_bytes());
    bytes.extend_from_slice(&footer);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folded store must get past every check that a fuzzer could not.
    #[test]
    fn a_folded_store_is_read_and_unlocked() {
        let mut bytes = vec![0; 2 * STORE_HEADER_BYTES + TABLE_BYTES + 100];
        bytes[32] = 1;
        let table = 2 * STORE_HEADER_BYTES;
        // File 3 in block 4, file 63 in block 3 and encrypted.
        bytes[table + 192] = 4;
        bytes[table + 196] = 1;
        bytes[table + 200] = 9;
        bytes[table + 63 * 64] = 3;
        bytes[table + 63 * 64 + 4] = 1;
        bytes[table + 63 * 64 + 44] = 3;
        let file = fold_store(&bytes);
        let inspection = GuestState::inspect(&file).expect("inside the file");
        assert_eq!(inspection.report.verdict, Verdict::Encrypted, "{:?}", inspection.report);
        let guest_state = inspection.guest_state.expect("it is whole");
        let unlocked = guest_state.unlock_without_key().expect("its metadata key is blank");
        assert_eq!(unlocked.read(FileId::TPM_NVRAM, 9).expect("it is there").expose().len(), 9);
        open(&bytes);
    }

    #[test]
    fn a_mended_document_is_read() {
        let mut bytes = vec![0; 4096];
        let header = MENDED_PARTITION_SECTOR * 512;
        let json = "{\"Devices\":{}}";
        for copy in [header, header + 512] {
            bytes[copy + 24] = 0x20;
            bytes[copy + 32] = 2;
            bytes[copy + 40] = 1;
            bytes[copy + 48] = 2 * json.len() as u8;
        }
        for (at, byte) in json.bytes().enumerate() {
            bytes[header + 1024 + 2 * at] = byte;
        }
        mend_document(&mut bytes);
        let inspection = GuestState::inspect(&bytes).expect("inside the file");
        let guest_state = inspection.guest_state.expect("its header is right");
        assert_eq!(guest_state.read_document().ok().as_deref(), Some(json));
    }
}
