//! All tables of a disk, and which of them counts.

use alloc::vec::Vec;
use core::ops::Range;

use uguid::Guid;

use crate::error::{GptDamage, MbrDamage};
use crate::gpt::{GptPartition, GptTable};
use crate::layout::{MAX_SECTOR_BYTES, MIN_SECTOR_BYTES};
use crate::mbr::{MbrPartition, MbrTable};

/// Disk with the way to read it.
pub(crate) struct Disk<F> {
    pub(crate) size_bytes: u64,
    pub(crate) sector_bytes: u32,
    read: F,
}

impl<F> Disk<F> {
    /// Tells whether a range lies on the disk.
    pub(crate) fn holds(&self, offset: u64, length: u64) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.size_bytes)
    }
}

impl<F, E> Disk<F>
where
    F: FnMut(u64, &mut [u8]) -> Result<(), E>,
{
    pub(crate) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), E> {
        (self.read)(offset, buffer)
    }
}

/// How a disk is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// By a GPT of which at least one copy is whole.
    Gpt,
    /// By an MBR.
    Mbr,
    /// There should be a GPT, but no copy of it is whole.
    GptLost,
    /// Not at all, as far as can be seen: one volume, nothing, or ciphertext.
    None,
}

/// Partition, whatever the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Of a GPT.
    Gpt(GptPartition),
    /// Of an MBR.
    Mbr(MbrPartition),
}

/// Tables of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionTables {
    /// Logical sector size in which the tables count, in bytes.
    pub sector_bytes: u32,
    /// First copy of the GPT, in sector 1.
    pub primary: Result<GptTable, GptDamage>,
    /// Second copy of the GPT, at the end of the disk, or where the first one says.
    pub backup: Result<GptTable, GptDamage>,
    /// Master boot record; that of a GPT disk is protective.
    pub mbr: Result<MbrTable, MbrDamage>,
}

impl PartitionTables {
    /// Reads the tables of a disk with a known logical sector size; `read` fills a buffer from an offset in bytes.
    ///
    /// Nothing beyond `disk_bytes` is read. Sector sizes that are no power of two from 512 to 4096 are taken as the
    /// nearest that is.
    ///
    /// # Errors
    /// Only those of `read`; what is wrong with a table is in its place.
    pub fn read<E>(
        disk_bytes: u64,
        sector_bytes: u32,
        read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let sector_bytes = sector_bytes.clamp(MIN_SECTOR_BYTES, MAX_SECTOR_BYTES).next_power_of_two();
        let disk = &mut Disk { size_bytes: disk_bytes, sector_bytes, read };
        let mbr = MbrTable::read(disk)?;
        let primary = GptTable::read(disk, 1)?;
        let last_lba = (disk_bytes / u64::from(sector_bytes)).saturating_sub(1);
        let mut backup = GptTable::read(disk, last_lba)?;
        // A disk that was made larger has its second copy where the first one says.
        if let (Ok(first), Err(_)) = (&primary, &backup)
            && ![1, last_lba].contains(&first.alternate_lba)
        {
            backup = GptTable::read(disk, first.alternate_lba)?;
        }
        Ok(Self { sector_bytes, primary, backup, mbr })
    }

    /// Reads the tables of a disk whose sector size is not known, as of a raw image: 512 bytes unless a GPT shows
    /// that it is 4096.
    ///
    /// # Errors
    /// Only those of `read`.
    pub fn read_any_sector_size<E>(
        disk_bytes: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let fine = Self::read(disk_bytes, MIN_SECTOR_BYTES, &mut read)?;
        if fine.scheme() == Scheme::Gpt {
            return Ok(fine);
        }
        let coarse = Self::read(disk_bytes, MAX_SECTOR_BYTES, &mut read)?;
        Ok(if coarse.scheme() == Scheme::Gpt { coarse } else { fine })
    }

    /// Tells how the disk is divided.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        if self.gpt().is_some() {
            return Scheme::Gpt;
        }
        let has_trace = |copy: &Result<GptTable, GptDamage>| {
            !matches!(copy, Err(GptDamage::NoSignature { .. } | GptDamage::HeaderBeyondDisk { .. }))
        };
        match &self.mbr {
            Ok(mbr) if mbr.is_protective() => Scheme::GptLost,
            _ if has_trace(&self.primary) || has_trace(&self.backup) => Scheme::GptLost,
            Ok(mbr) if !mbr.partitions.is_empty() => Scheme::Mbr,
            _ => Scheme::None,
        }
    }

    /// Returns the copy of the GPT that counts: the first, or the second when the first is damaged.
    ///
    /// A GPT counts without a protective MBR as well: the checksums say enough.
    #[must_use]
    pub fn gpt(&self) -> Option<&GptTable> {
        self.primary.as_ref().or(self.backup.as_ref()).ok()
    }

    /// Tells whether both copies of the GPT are whole and say the same.
    #[must_use]
    pub fn copies_agree(&self) -> bool {
        match (&self.primary, &self.backup) {
            (Ok(one), Ok(two)) => one.disk_id == two.disk_id && one.partitions == two.partitions,
            _ => false,
        }
    }

    /// Returns the identity of a GPT disk.
    #[must_use]
    pub fn disk_id(&self) -> Option<Guid> {
        self.gpt().map(|table| table.disk_id)
    }

    /// Lists the partitions that hold data, in table order; the frame of logical partitions is not one.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        match (self.scheme(), self.gpt(), &self.mbr) {
            (Scheme::Gpt, Some(table), _) => table.partitions.iter().cloned().map(Partition::Gpt).collect(),
            (Scheme::Mbr, _, Ok(table)) => {
                let data = table.partitions.iter().filter(|partition| !partition.kind.is_extended());
                data.copied().map(Partition::Mbr).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the range of a partition of this disk, in bytes.
    #[must_use]
    pub fn byte_range(&self, partition: &Partition) -> Range<u64> {
        let (first, sectors) = match partition {
            Partition::Gpt(partition) => (
                partition.first_lba,
                partition.last_lba.saturating_sub(partition.first_lba).saturating_add(1),
            ),
            Partition::Mbr(partition) => (partition.first_lba, partition.sectors),
        };
        let start = first.saturating_mul(self.sector_bytes.into());
        start..start.saturating_add(sectors.saturating_mul(self.sector_bytes.into()))
    }
}
