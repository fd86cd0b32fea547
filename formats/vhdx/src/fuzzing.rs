//! Bodies of the fuzz targets, tested like everything else.
//!
//! Random bytes do not get past the checksums. Here the input changes structures of a valid file, bit by bit, and the
//! checksums are put right afterwards: an input of zeros is a valid file.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use uguid::guid;

use crate::checksum;
use crate::layout::{
    BITMAP_BLOCK_BYTES, HEADER_BYTES, HEADER_OFFSETS, LOG_SECTOR_BYTES, MIB, REGION_TABLE_BYTES,
    REGION_TABLE_OFFSETS,
};
use crate::locator::ParentLocator;
use crate::port::{PortError, ReadAt, SparseImage, WriteAt};
use crate::reader::VhdxReader;
use crate::vhd::VhdReader;
use crate::vhd::layout as vhd_layout;
use crate::write::{NewDiskIds, NewDiskKind, PendingLog, VhdxOptions, VhdxWriter};

/// Largest part of a disk that is walked, in bytes: a hostile disk may have 64 TiB.
const MAX_WALK_BYTES: u64 = 1 << 30;

/// Opens a differencing disk with a dirty log, changed as the input says, and walks it.
pub fn open_vhdx(input: &[u8]) {
    let Some(mut file) = template() else { return };
    let mut rest = input;
    // Header, region table, log, metadata table, metadata items, BAT, sector bitmap.
    for (offset, length) in [
        (HEADER_OFFSETS[1], 80),
        (REGION_TABLE_OFFSETS[0], 112),
        (MIB, 5 * LOG_SECTOR_BYTES),
        (2 * MIB, 256),
        (2 * MIB + 65_536, 512),
        (3 * MIB, 64),
        (file.size_bytes() - BITMAP_BLOCK_BYTES, 64),
    ] {
        let (changes, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        if change(&mut file, offset, changes).is_err() {
            return;
        }
    }
    for (offset, length) in [(HEADER_OFFSETS[1], HEADER_BYTES), (REGION_TABLE_OFFSETS[0], REGION_TABLE_BYTES)]
    {
        let _ = seal(&mut file, offset, length);
    }
    for sector in 0..4 {
        let _ = seal_log_entry(&mut file, MIB + sector * LOG_SECTOR_BYTES as u64);
    }
    let Ok(reader) = VhdxReader::open(file) else { return };
    let range = 0..reader.geometry().virtual_size_bytes().min(MAX_WALK_BYTES);
    if let Ok(extents) = reader.resolve(range.clone()) {
        walk(range, extents.map_while(Result::ok).map(|extent| (extent.offset, extent.length)));
    }
    for item in reader.metadata().items() {
        let _ = reader.read_item(item);
    }
    if reader.geometry().bat_entry_count() < 1 << 20 {
        let _ = reader.verify_bat();
    }
}

/// Opens bytes as a VHD whose cookies and checksums were put right.
pub fn open_vhd(input: &[u8]) {
    let mut file = input.to_vec();
    let last = file.len().saturating_sub(vhd_layout::FOOTER_BYTES);
    for (start, length, cookie, field) in [
        (last, vhd_layout::FOOTER_BYTES, vhd_layout::FOOTER_COOKIE, 64),
        (vhd_layout::FOOTER_BYTES, vhd_layout::HEADER_BYTES, vhd_layout::HEADER_COOKIE, 36),
    ] {
        if let Some(structure) = file.get_mut(start..start + length) {
            structure[..8].copy_from_slice(&cookie);
            let sum = vhd_layout::checksum(structure, field);
            structure[field..field + 4].copy_from_slice(&sum.to_be_bytes());
        }
    }
    let Ok(reader) = VhdReader::open(file) else { return };
    let range = 0..reader.identity().virtual_size_bytes.min(MAX_WALK_BYTES / 1024);
    if let Ok(extents) = reader.resolve(range.clone()) {
        walk(range, extents.map_while(Result::ok).map(|extent| (extent.offset, extent.length)));
    }
}

/// Asserts that extents follow each other without gaps and stay in the range.
fn walk(range: Range<u64>, extents: impl Iterator<Item = (u64, u64)>) {
    let mut position = range.start;
    for (offset, length) in extents {
        assert!(offset == position && length > 0, "a gap before {offset}");
        position += length;
    }
    assert!(position <= range.end, "extents reach {position}, beyond {}", range.end);
}

/// Makes a differencing disk of eight blocks with a partial block and its BAT in the log.
fn template() -> Option<SparseImage> {
    let ids = NewDiskIds {
        virtual_disk_id: guid!("6f3b8d5e-0000-4000-8000-000000000001"),
        file_write_guid: guid!("6f3b8d5e-0000-4000-8000-000000000002"),
        data_write_guid: guid!("6f3b8d5e-0000-4000-8000-000000000003"),
    };
    let log_guid = guid!("6f3b8d5e-0000-4000-8000-000000000004");
    let parent =
        ParentLocator::new(guid!("6f3b8d5e-0000-4000-8000-000000000005")).with_relative_path("p.vhdx");
    let mut options = VhdxOptions::new(NewDiskKind::Differencing(parent), 8 << 20, ids);
    options.block_bytes = 1 << 20;
    options.pending_log =
        Some(PendingLog { log_guid, first_sequence_number: 1, start: 0, pages_per_entry: 1 });
    let mut writer = VhdxWriter::create(SparseImage::new(), options).ok()?;
    writer.write_at(4096, &[1; 1024]).ok()?;
    writer.finish().ok().map(|(image, _)| image)
}

fn change(file: &mut SparseImage, offset: u64, changes: &[u8]) -> Result<(), PortError> {
    let mut bytes = vec![0; changes.len()];
    file.read_exact_at(offset, &mut bytes)?;
    let changed: Vec<u8> = bytes.iter().zip(changes).map(|(byte, change)| byte ^ change).collect();
    file.write_all_at(offset, &changed)
}

fn seal(file: &mut SparseImage, offset: u64, length: usize) -> Result<(), PortError> {
    let mut bytes = vec![0; length];
    file.read_exact_at(offset, &mut bytes)?;
    checksum::seal(&mut bytes);
    file.write_all_at(offset, &bytes)
}

/// Seals a log entry over the length that it names, if that is not absurd.
fn seal_log_entry(file: &mut SparseImage, offset: u64) -> Result<(), PortError> {
    let mut head = [0; 12];
    file.read_exact_at(offset, &mut head)?;
    let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
    if head[..4] == crate::layout::LOG_ENTRY_SIGNATURE && (12..=MIB as usize).contains(&length) {
        seal(file, offset, length)?;
    }
    Ok(())
}
