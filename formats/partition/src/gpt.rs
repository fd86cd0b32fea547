//! One copy of a GPT: header and entries.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use uguid::Guid;
use zerocopy::FromBytes;

use crate::error::GptDamage;
use crate::layout::{
    GPT_REVISION, GPT_SIGNATURE, MAX_ENTRY_ARRAY_BYTES, MAX_ENTRY_BYTES, MIN_ENTRY_BYTES, RawGptEntry,
    RawGptHeader,
};
use crate::tables::Disk;

/// Offset of the checksum in a header.
const CHECKSUM_OFFSET: usize = 16;

/// Partition of a GPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GptPartition {
    /// Number of the entry in the table, from 0.
    pub index: usize,
    /// Kind of the partition.
    pub type_id: Guid,
    /// Identity of the partition.
    pub id: Guid,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, inclusive; not before the first, and on the disk.
    pub last_lba: u64,
    /// Attributes as they stand in the table.
    pub attributes: u64,
    /// Name; what is not UTF-16 is replaced.
    pub name: String,
}

/// Copy of a GPT whose header and entries have the right checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GptTable {
    /// Identity of the disk.
    pub disk_id: Guid,
    /// Sector in which the header stands.
    pub lba: u64,
    /// Sector in which the header of the other copy should stand.
    pub alternate_lba: u64,
    /// First sector that partitions may use.
    pub first_usable_lba: u64,
    /// Last sector that partitions may use.
    pub last_usable_lba: u64,
    /// Partitions in the order of their entries; they lie on the disk and do not overlap.
    pub partitions: Vec<GptPartition>,
    /// Entries that were left out, with the rule that they break.
    pub left_out: Vec<GptDamage>,
}

impl GptTable {
    /// Reads the copy whose header stands in sector `lba`. The outer error is that of the disk.
    pub(crate) fn read<E>(
        disk: &mut Disk<impl FnMut(u64, &mut [u8]) -> Result<(), E>>,
        lba: u64,
    ) -> Result<Result<Self, GptDamage>, E> {
        let sector_bytes = u64::from(disk.sector_bytes);
        let mut sector = vec![0; disk.sector_bytes as usize];
        match lba.checked_mul(sector_bytes) {
            Some(offset) if disk.holds(offset, sector_bytes) => disk.read(offset, &mut sector)?,
            _ => return Ok(Err(GptDamage::HeaderBeyondDisk { lba })),
        }
        let (header, array_bytes) = match parse_header(&sector, lba) {
            Ok(parsed) => parsed,
            Err(damage) => return Ok(Err(damage)),
        };
        let entry_lba = header.entry_lba.get();
        // At most MAX_ENTRY_ARRAY_BYTES.
        let mut array = vec![0; array_bytes as usize];
        match entry_lba.checked_mul(sector_bytes) {
            Some(offset) if disk.holds(offset, array_bytes) => disk.read(offset, &mut array)?,
            _ => return Ok(Err(GptDamage::EntriesBeyondDisk { lba: entry_lba })),
        }
        if crc32fast::hash(&array) != header.entries_crc32.get() {
            return Ok(Err(GptDamage::EntriesChecksum));
        }
        let (partitions, left_out) =
            parse_entries(&array, header.entry_size.get() as usize, disk.size_bytes / sector_bytes);
        Ok(Ok(Self {
            disk_id: Guid::from_bytes(header.disk_guid),
            lba,
            alternate_lba: header.alternate_lba.get(),
            first_usable_lba: header.first_usable_lba.get(),
            last_usable_lba: header.last_usable_lba.get(),
            partitions,
            left_out,
        }))
    }
}

/// Parses a header that was read from sector `lba`; the number is the length of the entry array in bytes.
fn parse_header(sector: &[u8], lba: u64) -> Result<(RawGptHeader, u64), GptDamage> {
    let (header, _) =
        RawGptHeader::read_from_prefix(sector).map_err(|_| GptDamage::HeaderBeyondDisk { lba })?;
    if header.signature != GPT_SIGNATURE {
        return Err(GptDamage::NoSignature { lba });
    }
    let bytes = header.header_size.get();
    let covered = sector
        .get(..bytes as usize)
        .filter(|covered| covered.len() >= size_of::<RawGptHeader>())
        .ok_or(GptDamage::HeaderLength { bytes })?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&covered[..CHECKSUM_OFFSET]);
    hasher.update(&[0; 4]);
    hasher.update(&covered[CHECKSUM_OFFSET + 4..]);
    if hasher.finalize() != header.header_crc32.get() {
        return Err(GptDamage::HeaderChecksum);
    }
    if header.revision.get() != GPT_REVISION {
        return Err(GptDamage::Revision { found: header.revision.get() });
    }
    if header.my_lba.get() != lba {
        return Err(GptDamage::Misplaced { lba, says: header.my_lba.get() });
    }
    let (count, bytes) = (header.entry_count.get(), header.entry_size.get());
    let array_bytes = u64::from(count) * u64::from(bytes);
    let is_allowed = bytes.is_power_of_two()
        && (MIN_ENTRY_BYTES..=MAX_ENTRY_BYTES).contains(&bytes)
        && (1..=MAX_ENTRY_ARRAY_BYTES).contains(&array_bytes);
    if !is_allowed {
        return Err(GptDamage::EntryArray { count, bytes });
    }
    Ok((header, array_bytes))
}

/// Parses the used entries; those that cannot be partitions of a disk of `sectors` are left out.
fn parse_entries(array: &[u8], entry_bytes: usize, sectors: u64) -> (Vec<GptPartition>, Vec<GptDamage>) {
    let (mut partitions, mut left_out) = (Vec::<GptPartition>::new(), Vec::new());
    for (index, bytes) in array.chunks_exact(entry_bytes).enumerate() {
        let Ok((entry, _)) = RawGptEntry::read_from_prefix(bytes) else { continue };
        let type_id = Guid::from_bytes(entry.type_guid);
        if type_id == Guid::ZERO {
            continue;
        }
        let (first_lba, last_lba) = (entry.first_lba.get(), entry.last_lba.get());
        if first_lba > last_lba || last_lba >= sectors {
            left_out.push(GptDamage::PartitionRange { index, first_lba, last_lba });
            continue;
        }
        let overlapped =
            partitions.iter().find(|other| first_lba <= other.last_lba && other.first_lba <= last_lba);
        if let Some(other) = overlapped {
            left_out.push(GptDamage::PartitionOverlap { index, other: other.index });
            continue;
        }
        let units = entry.name.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        let name: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        partitions.push(GptPartition {
            index,
            type_id,
            id: Guid::from_bytes(entry.unique_guid),
            first_lba,
            last_lba,
            attributes: entry.attributes.get(),
            name: String::from_utf16_lossy(&name),
        });
    }
    (partitions, left_out)
}
