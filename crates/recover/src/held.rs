//! Which captured volumes of a backup may be volumes of a disk: by BitLocker's ids, or by the disk's own.
//!
//! Between a disk and the [`VmRecord`]s of its time; where those come from is the caller's.
//!
//! Deliberately decides nothing for certain: disks are copied, and VMs made from one template share their ids. Which
//! metadata is right only a volume key tells.

use lifeboat_disk::{DiskVolume, Encryption, PlainContent, ReadAt};
use lifeboat_fve as fve;
use lifeboat_schema::{DiskHeadEntry, VmRecord, VolumeHeadEntry};

use crate::source::{SourceDisk, VolumePlace};

/// What tells that a captured volume may be a volume of a disk, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SameBy {
    /// BitLocker's volume id, in the metadata on the disk.
    VolumeId,
    /// A BitLocker protector, in the metadata on the disk.
    Protector,
    /// The disk's own id (of the VHDX or the GPT) and the volume's place on it.
    Disk,
    /// The partition's id and the volume's place on the disk.
    Partition,
    /// Place and size alone.
    Place,
}

impl SameBy {
    /// Says it for people, after "found by".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VolumeId => "its BitLocker volume id",
            Self::Protector => "the id of a BitLocker protector",
            Self::Disk => "the id of its disk",
            Self::Partition => "the id of its partition",
            Self::Place => "its place and size alone",
        }
    }
}

/// A captured volume that may be a volume of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldVolume {
    /// The volume of the disk.
    pub place: VolumePlace,
    /// Index of the VM among those given.
    pub vm: usize,
    /// Index of the disk in its record.
    pub disk: usize,
    /// Index of the volume in the head of that disk.
    pub volume: usize,
    /// What tells it.
    pub same_by: SameBy,
}

/// What the metadata on a volume says of itself; nothing where no copy can be used.
struct OwnIds {
    volumes: Vec<String>,
    protectors: Vec<String>,
}

impl OwnIds {
    fn read<F: ReadAt>(source: &SourceDisk<F>, volume: &DiskVolume) -> Option<Self> {
        let opened = fve::Volume::open(volume.reader(&source.disk)).ok()?;
        let copies = opened.distinct_metadata();
        let protectors = copies.iter().flat_map(fve::Metadata::protectors);
        Some(Self {
            volumes: copies.iter().map(|copy| copy.volume_id.to_string()).collect(),
            protectors: protectors.map(|protector| protector.id.to_string()).collect(),
        })
    }
}

/// Finds the captured volumes that may be volumes of the disks: for each volume those that the surest sign tells of, in the
/// order of `vms`. A volume whose metadata can be read is found by what that says, any other by its place.
#[must_use]
pub fn held_volumes<F: ReadAt>(disks: &[SourceDisk<F>], vms: &[&VmRecord]) -> Vec<HeldVolume> {
    let mut held = Vec::new();
    for (index, source) in disks.iter().enumerate() {
        let may_be_bitlocker = |volume: &&DiskVolume| {
            let is_blank = volume.encryption == Encryption::None(PlainContent::Empty);
            is_blank || matches!(volume.encryption, Encryption::BitLocker | Encryption::Unknown)
        };
        for volume in source.layout.volumes.iter().filter(may_be_bitlocker) {
            let own = OwnIds::read(source, volume);
            let place = VolumePlace { disk: index, number: volume.number };
            let mut found = Vec::new();
            for (vm, record) in vms.iter().enumerate() {
                for (disk, entry) in record.disks.iter().enumerate() {
                    let Some(head) = &entry.head else { continue };
                    for (number, captured) in head.volumes.iter().enumerate() {
                        let same_by = match &own {
                            Some(own) => by_metadata(own, captured),
                            None => by_place(source, volume, head, captured),
                        };
                        if let Some(same_by) = same_by {
                            found.push(HeldVolume { place, vm, disk, volume: number, same_by });
                        }
                    }
                }
            }
            let surest = found.iter().map(|one| one.same_by).min();
            held.extend(found.into_iter().filter(|one| Some(one.same_by) == surest));
        }
    }
    held
}

fn by_metadata(own: &OwnIds, captured: &VolumeHeadEntry) -> Option<SameBy> {
    let captured = captured.bitlocker.as_ref()?;
    if own.volumes.contains(&captured.volume_id) {
        return Some(SameBy::VolumeId);
    }
    let is_shared = captured.protectors.iter().any(|protector| own.protectors.contains(&protector.id));
    is_shared.then_some(SameBy::Protector)
}

fn by_place<F: ReadAt>(
    source: &SourceDisk<F>,
    volume: &DiskVolume,
    head: &DiskHeadEntry,
    captured: &VolumeHeadEntry,
) -> Option<SameBy> {
    captured.bitlocker.as_ref()?;
    if captured.offset_bytes != volume.offset_bytes {
        return None;
    }
    let is_same = |own: Option<String>, captured: &Option<String>| own.is_some() && own == *captured;
    let virtual_disk = source.disk.facts().virtual_disk_id.map(|id| id.to_string());
    let gpt = source.layout.gpt_disk_id().map(|id| id.to_string());
    let partition = volume.partition.as_ref().and_then(|partition| partition.id).map(|id| id.to_string());
    if is_same(virtual_disk, &head.virtual_disk_id) || is_same(gpt, &head.gpt_disk_id) {
        Some(SameBy::Disk)
    } else if is_same(partition, &captured.partition_id) {
        Some(SameBy::Partition)
    } else {
        (captured.size_bytes == volume.size_bytes).then_some(SameBy::Place)
    }
}
