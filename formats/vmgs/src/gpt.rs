//! The partition of a guest state of the first format (FORMAT.md section 3).
//!
//! Reads what leads to that one partition and nothing else of a GPT: no names, no other partitions, no protective MBR.

use alloc::vec;

use zerocopy::FromBytes;

use crate::checksum;
use crate::copies::Findings;
use crate::error::{Corruption, GptDamage};
use crate::layout::{
    GPT_CHECKSUM_OFFSET, GPT_PARTITION_TYPE, GPT_SIGNATURE, MAX_GPT_ARRAY_BYTES, MAX_GPT_ENTRY_BYTES,
    MIN_GPT_ENTRY_BYTES, RawGptEntry, RawGptHeader, SECTOR_BYTES,
};
use crate::read_at::ReadAt;

/// Sectors of the partition; they lie on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) first_sector: u64,
    pub(crate) sectors: u64,
}

impl Partition {
    /// Returns where a sector of the partition, which must lie in it, lies in the file, in bytes.
    pub(crate) fn offset_of(self, sector: u64) -> u64 {
        // The partition lies on a disk whose size in bytes is a u64.
        (self.first_sector + sector) * SECTOR_BYTES
    }
}

/// Finds the partition through either copy of the GPT.
pub(crate) fn find_partition<R: ReadAt>(
    port: &R,
    disk_bytes: u64,
    findings: &mut Findings,
) -> Result<Option<Partition>, R::Error> {
    let last_sector = (disk_bytes / SECTOR_BYTES).saturating_sub(1);
    let copies = [read_copy(port, disk_bytes, 1)?, read_copy(port, disk_bytes, last_sector)?];
    for (copy, result) in copies.iter().enumerate() {
        if let Err(damage) = result {
            findings.corrupt(Corruption::Gpt { copy, damage: damage.clone() });
        }
    }
    Ok(match copies {
        [Ok(first), Ok(second)] => {
            if first != second {
                findings.corrupt(Corruption::GptCopiesDiffer);
            }
            Some(first)
        }
        [Ok(found), Err(_)] | [Err(_), Ok(found)] => Some(found),
        [Err(_), Err(_)] => {
            findings.corrupt(Corruption::NoGpt);
            None
        }
    })
}

/// Tells whether a copy of a GPT begins in a sector.
pub(crate) fn begins_at<R: ReadAt>(port: &R, disk_bytes: u64, sector: u64) -> Result<bool, R::Error> {
    let mut signature = [0; GPT_SIGNATURE.len()];
    if !holds(disk_bytes, sector, SECTOR_BYTES) {
        return Ok(false);
    }
    port.read_exact_at(sector * SECTOR_BYTES, &mut signature)?;
    Ok(signature == GPT_SIGNATURE)
}

/// Tells whether a range that begins with a sector lies on the disk.
fn holds(disk_bytes: u64, sector: u64, bytes: u64) -> bool {
    let end = sector.checked_mul(SECTOR_BYTES).and_then(|start| start.checked_add(bytes));
    end.is_some_and(|end| end <= disk_bytes)
}

fn read_copy<R: ReadAt>(
    port: &R,
    disk_bytes: u64,
    sector: u64,
) -> Result<Result<Partition, GptDamage>, R::Error> {
    if !holds(disk_bytes, sector, SECTOR_BYTES) {
        return Ok(Err(GptDamage::BeyondDisk { what: "header" }));
    }
    let mut bytes = [0; SECTOR_BYTES as usize];
    port.read_exact_at(sector * SECTOR_BYTES, &mut bytes)?;
    let (header, array_bytes) = match parse_header(&bytes, sector) {
        Ok(parsed) => parsed,
        Err(damage) => return Ok(Err(damage)),
    };
    let entries = header.entry_lba.get();
    if !holds(disk_bytes, entries, array_bytes) {
        return Ok(Err(GptDamage::BeyondDisk { what: "array of entries" }));
    }
    // At most MAX_GPT_ARRAY_BYTES.
    let mut array = vec![0; array_bytes as usize];
    port.read_exact_at(entries * SECTOR_BYTES, &mut array)?;
    if crc32fast::hash(&array) != header.entries_checksum.get() {
        return Ok(Err(GptDamage::EntriesChecksum));
    }
    Ok(partition(&array, header.entry_size.get() as usize, disk_bytes))
}

/// Parses a header that stands in `sector`; the number is the size of the array of entries in bytes.
fn parse_header(bytes: &[u8; SECTOR_BYTES as usize], sector: u64) -> Result<(RawGptHeader, u64), GptDamage> {
    let (header, _) = RawGptHeader::read_from_prefix(bytes).map_err(|_| GptDamage::Signature)?;
    if header.signature != GPT_SIGNATURE {
        return Err(GptDamage::Signature);
    }
    let size = header.header_size.get();
    let covered = bytes
        .get(..size as usize)
        .filter(|covered| <[u8]>::len(covered) >= size_of::<RawGptHeader>())
        .ok_or(GptDamage::HeaderSize { bytes: size })?;
    if checksum::header(covered, GPT_CHECKSUM_OFFSET) != header.checksum.get() {
        return Err(GptDamage::HeaderChecksum);
    }
    if header.my_lba.get() != sector {
        return Err(GptDamage::Misplaced { sector, says: header.my_lba.get() });
    }
    let (count, bytes) = (header.entry_count.get(), header.entry_size.get());
    let array_bytes = u64::from(count) * u64::from(bytes);
    let is_allowed = bytes.is_power_of_two()
        && (MIN_GPT_ENTRY_BYTES..=MAX_GPT_ENTRY_BYTES).contains(&bytes)
        && (1..=MAX_GPT_ARRAY_BYTES).contains(&array_bytes);
    if !is_allowed {
        return Err(GptDamage::EntryArray { count, bytes });
    }
    Ok((header, array_bytes))
}

/// Picks the first partition of the right type.
fn partition(array: &[u8], entry_bytes: usize, disk_bytes: u64) -> Result<Partition, GptDamage> {
    let mut entries = array
        .chunks_exact(entry_bytes)
        .filter_map(|bytes| Some(RawGptEntry::read_from_prefix(bytes).ok()?.0));
    let entry = entries.find(|entry| entry.type_guid == GPT_PARTITION_TYPE).ok_or(GptDamage::NoPartition)?;
    let (first, last) = (entry.first_lba.get(), entry.last_lba.get());
    if first > last || last >= disk_bytes / SECTOR_BYTES {
        return Err(GptDamage::PartitionRange { first, last });
    }
    Ok(Partition { first_sector: first, sectors: last - first + 1 })
}
