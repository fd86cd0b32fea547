//! The master boot record and the chain of logical partitions in an extended one.

use alloc::vec::Vec;

use zerocopy::FromBytes;

use crate::error::MbrDamage;
use crate::layout::{MAX_LOGICAL_PARTITIONS, MBR_BYTES, MBR_SIGNATURE, RawMbr, RawMbrEntry};
use crate::tables::Disk;

/// Kind of a partition of an MBR; any number may stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MbrType(pub u8);

impl MbrType {
    /// The whole disk, protected by an MBR that precedes a GPT.
    pub const GPT_PROTECTIVE: Self = Self(0xee);
    /// NTFS, exFAT, and BitLocker volumes of Windows.
    pub const NTFS: Self = Self(0x07);
    /// Linux file systems.
    pub const LINUX: Self = Self(0x83);

    /// Tells whether the partition is a frame for logical ones.
    #[must_use]
    pub fn is_extended(self) -> bool {
        matches!(self.0, 0x05 | 0x0f | 0x85)
    }
}

/// Partition of an MBR; it lies inside the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbrPartition {
    /// Number from 0: 0 to 3 are the entries of the MBR, logical ones follow from 4.
    pub index: usize,
    /// Kind of the partition.
    pub kind: MbrType,
    /// Whether the system boots from it.
    pub is_active: bool,
    /// First sector.
    pub first_lba: u64,
    /// Number of sectors, not 0.
    pub sectors: u64,
}

/// Master boot record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MbrTable {
    /// Identity of the disk.
    pub disk_signature: u32,
    /// Partitions, the extended one included, the logical ones last.
    pub partitions: Vec<MbrPartition>,
    /// What was left out, with the rule that it breaks.
    pub left_out: Vec<MbrDamage>,
}

impl MbrTable {
    /// Tells whether the table only protects a GPT.
    #[must_use]
    pub fn is_protective(&self) -> bool {
        self.partitions.iter().any(|partition| partition.kind == MbrType::GPT_PROTECTIVE)
    }

    /// Reads the table. The outer error is that of the disk.
    pub(crate) fn read<E>(
        disk: &mut Disk<impl FnMut(u64, &mut [u8]) -> Result<(), E>>,
    ) -> Result<Result<Self, MbrDamage>, E> {
        let mut sector = [0; MBR_BYTES];
        if !disk.holds(0, MBR_BYTES as u64) {
            return Ok(Err(MbrDamage::DiskTooShort { disk_bytes: disk.size_bytes }));
        }
        disk.read(0, &mut sector)?;
        let mut table = match parse_primary(&sector, disk.size_bytes / u64::from(disk.sector_bytes)) {
            Ok(table) => table,
            Err(damage) => return Ok(Err(damage)),
        };
        if let Some(extended) =
            table.partitions.iter().find(|partition| partition.kind.is_extended()).copied()
        {
            table.read_logical(disk, &extended)?;
        }
        Ok(Ok(table))
    }

    /// Follows the chain of logical partitions. Each link names a partition relative to itself, and the next link
    /// relative to the extended partition. Links must move forward, so that the chain ends.
    fn read_logical<E>(
        &mut self,
        disk: &mut Disk<impl FnMut(u64, &mut [u8]) -> Result<(), E>>,
        extended: &MbrPartition,
    ) -> Result<(), E> {
        let end = extended.first_lba + extended.sectors;
        let mut link = extended.first_lba;
        for index in 4..=4 + MAX_LOGICAL_PARTITIONS {
            if index == 4 + MAX_LOGICAL_PARTITIONS {
                self.left_out.push(MbrDamage::LogicalCount { max: MAX_LOGICAL_PARTITIONS });
                break;
            }
            let mut sector = [0; MBR_BYTES];
            disk.read(link * u64::from(disk.sector_bytes), &mut sector)?;
            let Some(raw) = parse_raw(&sector) else {
                self.left_out.push(MbrDamage::LogicalChain { lba: link });
                break;
            };
            let [partition, next, ..] = &raw.entries;
            if partition.kind != 0 {
                match parse_entry(partition, index, link, end) {
                    Some(partition) => self.add(partition),
                    None => self.left_out.push(MbrDamage::Entry { index }),
                }
            }
            if next.kind == 0 {
                break;
            }
            let next_link = extended.first_lba + u64::from(next.first_lba.get());
            if next_link <= link || next_link >= end {
                self.left_out.push(MbrDamage::LogicalChain { lba: next_link });
                break;
            }
            link = next_link;
        }
        Ok(())
    }

    /// Adds a logical partition that overlaps no other but the extended one.
    fn add(&mut self, partition: MbrPartition) {
        let end = partition.first_lba + partition.sectors;
        let overlapped = self.partitions.iter().find(|other| {
            !other.kind.is_extended()
                && partition.first_lba < other.first_lba + other.sectors
                && other.first_lba < end
        });
        match overlapped {
            Some(other) => {
                let (index, other) = (partition.index, other.index);
                self.left_out.push(MbrDamage::PartitionOverlap { index, other });
            }
            None => self.partitions.push(partition),
        }
    }
}

fn parse_raw(sector: &[u8; MBR_BYTES]) -> Option<RawMbr> {
    RawMbr::read_from_bytes(sector).ok().filter(|raw| raw.signature == MBR_SIGNATURE)
}

/// Parses an entry whose sectors count from `base` and must end at `end` or before.
fn parse_entry(raw: &RawMbrEntry, index: usize, base: u64, end: u64) -> Option<MbrPartition> {
    let first_lba = base + u64::from(raw.first_lba.get());
    let sectors = u64::from(raw.sectors.get());
    let is_inside = first_lba > base && sectors > 0 && first_lba + sectors <= end;
    (matches!(raw.status, 0 | 0x80) && is_inside).then_some(MbrPartition {
        index,
        kind: MbrType(raw.kind),
        is_active: raw.status == 0x80,
        first_lba,
        sectors,
    })
}

/// Tells whether a sector with a boot signature is that of a volume: such sectors end in the same signature.
fn is_boot_sector(sector: &[u8; MBR_BYTES]) -> bool {
    const SYSTEMS: [&[u8; 8]; 4] = [b"NTFS    ", b"-FVE-FS-", b"EXFAT   ", b"ReFS\0\0\0\0"];
    let is_named = SYSTEMS.iter().any(|name| sector[3..11] == **name);
    // FAT names itself behind its parameters.
    is_named || sector[54..57] == *b"FAT" || sector[82..87] == *b"FAT32"
}

/// Parses the first sector of a disk of `sectors`.
fn parse_primary(sector: &[u8; MBR_BYTES], sectors: u64) -> Result<MbrTable, MbrDamage> {
    let raw = parse_raw(sector).ok_or(MbrDamage::NoSignature)?;
    if is_boot_sector(sector) {
        return Err(MbrDamage::BootSector);
    }
    let mut table =
        MbrTable { disk_signature: raw.disk_signature.get(), partitions: Vec::new(), left_out: Vec::new() };
    for (index, entry) in raw.entries.iter().enumerate().filter(|(_, entry)| entry.kind != 0) {
        // A protective entry is as long as the disk, or as a field can say, and of no use as a partition.
        let end = if MbrType(entry.kind) == MbrType::GPT_PROTECTIVE { u64::MAX } else { sectors };
        // Without a checksum an impossible entry is all that tells chance from a table.
        let partition = parse_entry(entry, index, 0, end).ok_or(MbrDamage::Entry { index })?;
        let partition_end = partition.first_lba + partition.sectors;
        let overlapped = table.partitions.iter().find(|other| {
            partition.first_lba < other.first_lba + other.sectors && other.first_lba < partition_end
        });
        if let Some(other) = overlapped {
            // Hybrid tables lay partitions beside a protective entry that may cover them.
            if !table.is_protective() && partition.kind != MbrType::GPT_PROTECTIVE {
                return Err(MbrDamage::PartitionOverlap { index, other: other.index });
            }
        }
        table.partitions.push(partition);
    }
    Ok(table)
}
