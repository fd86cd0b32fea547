//! Sparse VHDX files with a partition table and a few guest sectors.
//!
//! The disks hold no file system: what a backup of machines reads of a disk is its identity, its partition table and the heads
//! of volumes. An encrypted volume is a partition of 1 MiB before that with the guest's data.

use lifeboat_vhdx::{
    Guid, NewDiskIds, NewDiskKind, ParentLocator, SparseImage, VhdxOptions, VhdxWriter, guid,
};

use super::answers::VolumeAnswer;
use super::error::FabricError;
use super::stream::Stream;
use super::volume::{NewVolume, VOLUME_BYTES};

const SECTOR_BYTES: u64 = 512;
const MIB: u64 = 1 << 20;
const ENTRY_BYTES: usize = 128;
const ENTRIES: usize = 128;
const ENTRY_SECTORS: u64 = (ENTRIES * ENTRY_BYTES) as u64 / SECTOR_BYTES;
const HEADER_BYTES: usize = 92;
/// Small blocks keep the files short; Hyper-V's 32 MiB would only add zeros.
const BLOCK_BYTES: u32 = 1 << 20;

const EFI_SYSTEM: Guid = guid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
const MICROSOFT_RESERVED: Guid = guid!("e3c9e316-0b5c-4db8-817d-f92df00215ae");
const BASIC_DATA: Guid = guid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");

/// One partition, from the first to the last sector.
struct Partition {
    kind: Guid,
    id: Guid,
    first: u64,
    last: u64,
    name: String,
}

/// A disk and what it says of itself.
pub(crate) struct NewDisk {
    pub(crate) image: SparseImage,
    pub(crate) ids: NewDiskIds,
    pub(crate) gpt_disk_id: Guid,
    pub(crate) gpt_partition_ids: Vec<Guid>,
    pub(crate) volume: Option<VolumeAnswer>,
}

/// Markers for a disk: one in the name of its last partition, one in a sector of the guest.
pub(crate) struct DiskMarkers {
    pub(crate) partition_name: [u8; 32],
    pub(crate) guest_data: [u8; 32],
}

/// Makes a dynamic disk with a GPT.
pub(crate) fn dynamic(
    virtual_size_bytes: u64,
    markers: &DiskMarkers,
    volume: Option<&NewVolume>,
    stream: &mut Stream,
    writes: &mut Stream,
) -> Result<NewDisk, FabricError> {
    let ids = NewDiskIds {
        virtual_disk_id: stream.guid(),
        file_write_guid: writes.guid(),
        data_write_guid: writes.guid(),
    };
    let mut options = VhdxOptions::new(NewDiskKind::Dynamic, virtual_size_bytes, ids);
    options.block_bytes = BLOCK_BYTES;
    let mut writer = VhdxWriter::create(SparseImage::new(), options)?;

    let sectors = virtual_size_bytes / SECTOR_BYTES;
    let mib_sectors = MIB / SECTOR_BYTES;
    let name: String = markers.partition_name.iter().map(|byte| char::from(*byte)).collect();
    let mut partition = |kind, first_mib: u64, end_mib: u64, name: String| Partition {
        kind,
        id: stream.guid(),
        first: first_mib * mib_sectors,
        last: end_mib * mib_sectors - 1,
        name,
    };
    let end_mib = virtual_size_bytes / MIB - 1;
    let mut partitions = vec![
        partition(EFI_SYSTEM, 1, 101, "EFI system partition".into()),
        partition(MICROSOFT_RESERVED, 101, 117, "Microsoft reserved partition".into()),
    ];
    let mut data_mib = 117;
    if volume.is_some() {
        partitions.push(partition(BASIC_DATA, 117, 117 + VOLUME_BYTES / MIB, "Basic data partition".into()));
        data_mib += VOLUME_BYTES / MIB;
    }
    partitions.push(partition(BASIC_DATA, data_mib, end_mib, name));
    let data_sector = data_mib * mib_sectors;
    let gpt_disk_id = stream.guid();
    let entries = encode_entries(&partitions);
    let header = |own: u64, other: u64, table: u64| {
        encode_header(gpt_disk_id, sectors, own, other, table, crc32fast::hash(&entries))
    };
    let (last, last_table) = (sectors - 1, sectors - 1 - ENTRY_SECTORS);
    writer.write_at(0, &protective_mbr(sectors))?;
    writer.write_at(SECTOR_BYTES, &header(1, last, 2))?;
    writer.write_at(2 * SECTOR_BYTES, &entries)?;
    writer.write_at(last_table * SECTOR_BYTES, &entries)?;
    writer.write_at(last * SECTOR_BYTES, &header(last, 1, last_table))?;
    let mut sector = stream.bytes(SECTOR_BYTES as usize);
    sector[64..96].copy_from_slice(&markers.guest_data);
    // In the middle of the data partition, where nothing but the guest reads.
    writer.write_at((data_sector + 64 * mib_sectors) * SECTOR_BYTES, &sector)?;
    for (offset, bytes) in volume.iter().flat_map(|volume| &volume.parts) {
        writer.write_at(117 * MIB + offset, bytes)?;
    }
    let (image, _) = writer.finish()?;
    let volume = volume.map(|volume| VolumeAnswer { offset_bytes: 117 * MIB, ..volume.answer.clone() });
    let gpt_partition_ids = partitions.iter().map(|one| one.id).collect();
    Ok(NewDisk { image, ids, gpt_disk_id, gpt_partition_ids, volume })
}

/// Makes a differencing disk, as a checkpoint leaves it, in which one sector changed.
pub(crate) fn differencing(
    virtual_size_bytes: u64,
    parent: &NewDisk,
    parent_file: &str,
    parent_path: &str,
    stream: &mut Stream,
    writes: &mut Stream,
) -> Result<NewDisk, FabricError> {
    let ids = NewDiskIds {
        virtual_disk_id: parent.ids.virtual_disk_id,
        file_write_guid: writes.guid(),
        data_write_guid: writes.guid(),
    };
    let locator = ParentLocator::new(parent.ids.data_write_guid)
        .with_relative_path(&format!(".\\{parent_file}"))
        .with_absolute_path(parent_path);
    let mut options = VhdxOptions::new(NewDiskKind::Differencing(locator), virtual_size_bytes, ids);
    options.block_bytes = BLOCK_BYTES;
    let mut writer = VhdxWriter::create(SparseImage::new(), options)?;
    writer.write_at(200 * MIB, &stream.bytes(SECTOR_BYTES as usize))?;
    let (image, _) = writer.finish()?;
    let gpt_partition_ids = parent.gpt_partition_ids.clone();
    let volume = parent.volume.clone();
    Ok(NewDisk { image, ids, gpt_disk_id: parent.gpt_disk_id, gpt_partition_ids, volume })
}

fn encode_entries(partitions: &[Partition]) -> Vec<u8> {
    let mut entries = vec![0; ENTRIES * ENTRY_BYTES];
    for (entry, partition) in entries.chunks_mut(ENTRY_BYTES).zip(partitions) {
        entry[..16].copy_from_slice(&partition.kind.to_bytes());
        entry[16..32].copy_from_slice(&partition.id.to_bytes());
        entry[32..40].copy_from_slice(&partition.first.to_le_bytes());
        entry[40..48].copy_from_slice(&partition.last.to_le_bytes());
        // At most 36 units.
        for (place, unit) in entry[56..].chunks_mut(2).zip(partition.name.encode_utf16()) {
            place.copy_from_slice(&unit.to_le_bytes());
        }
    }
    entries
}

fn encode_header(
    disk_id: Guid,
    sectors: u64,
    own: u64,
    other: u64,
    table: u64,
    entries_checksum: u32,
) -> Vec<u8> {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
    header[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
    header[24..32].copy_from_slice(&own.to_le_bytes());
    header[32..40].copy_from_slice(&other.to_le_bytes());
    // First and last sector for partitions.
    header[40..48].copy_from_slice(&(2 + ENTRY_SECTORS).to_le_bytes());
    header[48..56].copy_from_slice(&(sectors - 2 - ENTRY_SECTORS).to_le_bytes());
    header[56..72].copy_from_slice(&disk_id.to_bytes());
    header[72..80].copy_from_slice(&table.to_le_bytes());
    header[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
    header[84..88].copy_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
    header[88..92].copy_from_slice(&entries_checksum.to_le_bytes());
    let checksum = crc32fast::hash(&header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    header.to_vec()
}

fn protective_mbr(sectors: u64) -> [u8; SECTOR_BYTES as usize] {
    let mut mbr = [0; SECTOR_BYTES as usize];
    let entry = &mut mbr[446..462];
    // Sectors by cylinder, head and sector: 0/0/2 to the largest.
    entry[1..4].copy_from_slice(&[0, 2, 0]);
    entry[4] = 0xee;
    entry[5..8].fill(0xff);
    entry[8..12].copy_from_slice(&1_u32.to_le_bytes());
    entry[12..16].copy_from_slice(&u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}
