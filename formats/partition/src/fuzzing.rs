//! Body of the fuzz target, tested like everything else.

use core::convert::Infallible;

use crate::layout::GPT_SIGNATURE;
use crate::tables::PartitionTables;

/// Reads the tables of a disk that holds the input. The first byte decides whether the checksums in sector 1 are put
/// right before.
pub fn read_tables(input: &[u8]) {
    let Some((seal, disk)) = input.split_first() else { return };
    let mut disk = disk.to_vec();
    if seal % 2 == 1
        && let Some(entries) = disk.get(1024..1024 + 4 * 128).map(crc32fast::hash)
        && let Some(header) = disk.get_mut(512..512 + 92)
    {
        header[..8].copy_from_slice(&GPT_SIGNATURE);
        header[12..16].copy_from_slice(&92_u32.to_le_bytes());
        header[80..88].copy_from_slice(&[4, 0, 0, 0, 128, 0, 0, 0]);
        header[88..92].copy_from_slice(&entries.to_le_bytes());
        header[16..20].fill(0);
        let sum = crc32fast::hash(header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
    }
    let tables = PartitionTables::read_any_sector_size(disk.len() as u64, |offset, buffer: &mut [u8]| {
        let start = offset as usize;
        buffer.copy_from_slice(&disk[start..start + buffer.len()]);
        Ok::<(), Infallible>(())
    });
    let Ok(tables) = tables;
    for partition in tables.partitions() {
        let range = tables.byte_range(&partition);
        assert!(range.start < range.end && range.end <= disk.len() as u64, "{range:?} is not on the disk");
    }
}
