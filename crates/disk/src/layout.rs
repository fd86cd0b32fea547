//! The volumes of a disk: its partitions, or the one volume that it is.

use lifeboat_partition::{GptDamage, Guid, MbrTable, Partition, PartitionTables, Scheme};
use lifeboat_vhdx::{PortError, ReadAt};

use crate::disk::VirtualDisk;
use crate::error::DiskError;
use crate::probe::{Encryption, PROBE_BYTES, PlainContent, probe};
use crate::volume::VolumeReader;

/// Type of the partition that Windows keeps for itself (Microsoft Reserved).
const MICROSOFT_RESERVED: Guid = lifeboat_vhdx::guid!("e3c9e316-0b5c-4db8-817d-f92df00215ae");
/// Size that an MBR can describe at most, in bytes.
const MBR_REACH_BYTES: u64 = 2 << 40;

/// What a partition table says about a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFacts {
    /// Type of a GPT partition.
    pub type_id: Option<Guid>,
    /// Identity of a GPT partition.
    pub id: Option<Guid>,
    /// Type of an MBR partition.
    pub mbr_type: Option<u8>,
    /// Name of a GPT partition; text from the guest.
    pub name: String,
}

/// A volume of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskVolume {
    /// Number on this disk, from 1.
    pub number: u32,
    /// First byte on the disk.
    pub offset_bytes: u64,
    /// Size that the partition table states, in bytes; that of the disk for a bare volume.
    pub size_bytes: u64,
    /// Its partition; none for a bare volume.
    pub partition: Option<PartitionFacts>,
    /// What encrypts it.
    pub encryption: Encryption,
}

impl DiskVolume {
    /// Makes a reader of the volume.
    #[must_use]
    pub fn reader<D: ReadAt>(&self, disk: D) -> VolumeReader<D> {
        VolumeReader::new(disk, self.offset_bytes, self.size_bytes)
    }
}

/// How a disk is divided, and into what.
#[derive(Clone, Debug)]
pub struct DiskLayout {
    /// Logical sector size, in bytes: as the container says, else as the tables show.
    pub sector_bytes: u32,
    /// The partition tables; none when the disk is one bare volume.
    pub tables: Option<PartitionTables>,
    /// The volumes, in the order of the table.
    pub volumes: Vec<DiskVolume>,
    /// Whether the tables describe a larger disk than there is: the image was cut short.
    pub is_cut_short: bool,
}

impl DiskLayout {
    /// Reads tables and the head of every volume.
    ///
    /// # Errors
    /// [`DiskError::Read`] when the start of the disk cannot be read. A volume whose head cannot be read is listed as
    /// unknown.
    pub fn read<F: ReadAt>(disk: &VirtualDisk<F>) -> Result<Self, DiskError> {
        let stated = disk.facts().logical_sector_bytes;
        let size_bytes = disk.size_bytes();
        let whole = VolumeReader::new(disk, 0, size_bytes);
        let encryption = probe(&whole.read_up_to(0, PROBE_BYTES)?);
        let claim = Claim::of(encryption);
        if claim == Claim::Sector0 {
            return Ok(Self::bare(stated, size_bytes, encryption));
        }
        let (tables, is_cut_short) = read_tables(disk, stated)?;
        let is_divided = match claim {
            Claim::Behind => begins_with_table(&tables),
            _ => tables.scheme() != Scheme::None,
        };
        let partitions = tables.partitions();
        if !is_divided {
            return Ok(Self::bare(stated, size_bytes, encryption));
        }
        let volumes = partitions
            .iter()
            .zip(1..)
            .map(|(partition, number)| {
                let range = tables.byte_range(partition);
                let facts = facts(partition);
                let size_bytes = range.end - range.start;
                let head = VolumeReader::new(disk, range.start, size_bytes).read_up_to(0, PROBE_BYTES);
                let encryption = match head.map(|head| probe(&head)) {
                    _ if facts.type_id == Some(MICROSOFT_RESERVED) => {
                        Encryption::None(PlainContent::MicrosoftReserved)
                    }
                    Ok(encryption) => encryption,
                    Err(_) => Encryption::Unknown,
                };
                DiskVolume {
                    number,
                    offset_bytes: range.start,
                    size_bytes,
                    partition: Some(facts),
                    encryption,
                }
            })
            .collect();
        Ok(Self { sector_bytes: tables.sector_bytes, tables: Some(tables), volumes, is_cut_short })
    }

    fn bare(stated: Option<u32>, size_bytes: u64, encryption: Encryption) -> Self {
        let volume = DiskVolume { number: 1, offset_bytes: 0, size_bytes, partition: None, encryption };
        let sector_bytes = stated.unwrap_or(512);
        Self { sector_bytes, tables: None, volumes: vec![volume], is_cut_short: false }
    }

    /// Returns the identity of a GPT disk.
    #[must_use]
    pub fn gpt_disk_id(&self) -> Option<Guid> {
        self.tables.as_ref().and_then(PartitionTables::disk_id)
    }

    /// Returns the volume with a number.
    #[must_use]
    pub fn volume(&self, number: u32) -> Option<&DiskVolume> {
        self.volumes.iter().find(|volume| volume.number == number)
    }

    /// Lists the BitLocker volumes.
    pub fn bitlocker_volumes(&self) -> impl Iterator<Item = &DiskVolume> {
        self.volumes.iter().filter(|volume| volume.encryption == Encryption::BitLocker)
    }
}

/// What the content at the start of a disk says about the disk being one volume.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// Nothing.
    None,
    /// Its mark lies in the first sector, where a partition table would stand: the last who wrote there decides.
    Sector0,
    /// Its mark lies farther back and may be left from an earlier use: a partition table in front of it wins.
    Behind,
}

impl Claim {
    fn of(encryption: Encryption) -> Self {
        match encryption {
            Encryption::Unknown | Encryption::None(PlainContent::Empty) => Self::None,
            Encryption::None(PlainContent::Ext | PlainContent::Btrfs | PlainContent::Swap) => Self::Behind,
            _ => Self::Sector0,
        }
    }
}

/// Tells whether the start of a disk shows that it is divided. A GPT at its end alone may be left from an earlier use, too.
fn begins_with_table(tables: &PartitionTables) -> bool {
    let is_protected = tables.mbr.as_ref().is_ok_and(MbrTable::is_protective);
    match tables.scheme() {
        Scheme::Mbr => true,
        Scheme::Gpt => tables.primary.is_ok() || is_protected,
        Scheme::GptLost => is_protected,
        Scheme::None => false,
    }
}

/// Reads the tables. Those of an image that was cut short are read as if it had its full size.
fn read_tables<F: ReadAt>(
    disk: &VirtualDisk<F>,
    stated: Option<u32>,
) -> Result<(PartitionTables, bool), DiskError> {
    let size_bytes = disk.size_bytes();
    let read = |offset: u64, buffer: &mut [u8]| -> Result<(), PortError> {
        let left = size_bytes.saturating_sub(offset);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (there, missing) = buffer.split_at_mut(length);
        missing.fill(0);
        // The start of the disk was read before. Elsewhere a part that cannot be read (a VHDX cut short) costs the table
        // that stands there, not the other one.
        if !there.is_empty() && disk.read_exact_at(offset, there).is_err() {
            there.fill(0);
        }
        Ok(())
    };
    let read_as = |size_bytes: u64, sector_bytes: Option<u32>| match sector_bytes {
        Some(sector_bytes) => PartitionTables::read(size_bytes, sector_bytes, read),
        None => PartitionTables::read_any_sector_size(size_bytes, read),
    };
    let tables = read_as(size_bytes, stated)?;
    // Only a raw image can be shorter than its disk: the other containers state the size.
    if stated.is_some() {
        return Ok((tables, false));
    }
    let sector_bytes = u64::from(tables.sector_bytes);
    let full_bytes = match (tables.gpt(), tables.scheme()) {
        (Some(gpt), _) => {
            let is_cut = gpt.left_out.iter().any(|damage| matches!(damage, GptDamage::PartitionRange { .. }));
            let last_lba = gpt.alternate_lba.max(gpt.last_usable_lba);
            is_cut.then(|| last_lba.saturating_add(1).saturating_mul(sector_bytes))
        }
        (None, Scheme::None) => Some(MBR_REACH_BYTES),
        _ => None,
    };
    let Some(full_bytes) = full_bytes.filter(|&full| full > size_bytes && full < 1 << 62) else {
        return Ok((tables, false));
    };
    let full = read_as(full_bytes, Some(tables.sector_bytes))?;
    let ranges = || full.partitions().into_iter().map(|partition| full.byte_range(&partition));
    // Where no partition begins on what is left, chance looked like a table.
    if ranges().any(|range| range.start < size_bytes) {
        let is_cut_short = ranges().any(|range| range.end > size_bytes);
        return Ok((full, is_cut_short));
    }
    Ok((tables, false))
}

fn facts(partition: &Partition) -> PartitionFacts {
    match partition {
        Partition::Gpt(partition) => PartitionFacts {
            type_id: Some(partition.type_id),
            id: Some(partition.id),
            mbr_type: None,
            name: partition.name.clone(),
        },
        Partition::Mbr(partition) => {
            PartitionFacts { type_id: None, id: None, mbr_type: Some(partition.kind.0), name: String::new() }
        }
    }
}
