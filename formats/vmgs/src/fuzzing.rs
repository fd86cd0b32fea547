//! Entry points for the fuzz targets and the tests of hostile bytes: everything a parser can be made to do.
//!
//! Deliberately mends checksums first, so that the bytes behind them are reached.

use alloc::vec::Vec;

use crate::checksum;
use crate::document;
use crate::guest_state::{Contents, GuestState, Verdict};
use crate::layout::{
    CHECKSUM_OFFSET, DOCUMENT_HEADER_BYTES, FOOTER_BYTES, FOOTER_CHECKSUM_OFFSET, FOOTER_COOKIE,
    GPT_CHECKSUM_OFFSET, GPT_PARTITION_TYPE, GPT_SIGNATURE, RawFooter, SECOND_HEADER_OFFSETS, SECTOR_BYTES,
    SIGNATURE, STORE_HEADER_BYTES, VERSION_1, VERSION_3, VERSION_OFFSET,
};
use crate::secret::DatastoreKey;

/// Largest content that is read.
const LIMIT_BYTES: usize = 1 << 20;
/// Sectors before the partition of a mended document: boot sector, GPT header, one sector of entries.
const MENDED_PARTITION_SECTOR: usize = 3;

/// Inspects bytes as they are, then with what would stop a reader early put right, as either format.
pub fn open(bytes: &[u8]) {
    inspect(bytes);
    let mut store = bytes.to_vec();
    mend_store(&mut store);
    inspect(&store);
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

/// Makes the headers and the footer of a store right.
fn mend_store(bytes: &mut Vec<u8>) {
    mend_footer(bytes);
    for offset in [0, SECOND_HEADER_OFFSETS[0] as usize] {
        if let Some(header) = bytes.get_mut(offset..offset + STORE_HEADER_BYTES) {
            mend_header(header, VERSION_3);
        }
    }
}

/// Makes a GPT of one sector of entries, the headers of a document and the footer right.
fn mend_document(bytes: &mut Vec<u8>) {
    mend_footer(bytes);
    let sector = SECTOR_BYTES as usize;
    let disk_bytes = bytes.len() - FOOTER_BYTES;
    let Some(start) = bytes.get_mut(..(MENDED_PARTITION_SECTOR + 2) * sector) else { return };
    let (gpt, headers) = start.split_at_mut(MENDED_PARTITION_SECTOR * sector);
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
fn mend_footer(bytes: &mut Vec<u8>) {
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
