use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;

use proptest::prelude::*;
use uguid::guid;

use crate::layout::{TYPE_EFI_SYSTEM, TYPE_WINDOWS_DATA};
use crate::{GptDamage, Guid, MbrDamage, MbrType, Partition, PartitionTables, Scheme};

const DISK_ID: Guid = guid!("11111111-2222-3333-4444-555555555555");

fn read(disk: &[u8], sector_bytes: u32) -> PartitionTables {
    PartitionTables::read(disk.len() as u64, sector_bytes, from(disk)).unwrap()
}

/// Reader that insists on being asked only for what is there.
fn from(disk: &[u8]) -> impl FnMut(u64, &mut [u8]) -> Result<(), Infallible> {
    |offset, buffer| {
        buffer.copy_from_slice(&disk[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

/// Puts the checksums of entries and header right; the entries stand in `entries`.
fn seal(disk: &mut [u8], header: usize, entries: usize, count: usize) {
    let crc = crc32fast::hash(&disk[entries..entries + count * 128]);
    disk[header + 88..header + 92].copy_from_slice(&crc.to_le_bytes());
    disk[header + 16..header + 20].fill(0);
    let crc = crc32fast::hash(&disk[header..header + 92]);
    disk[header + 16..header + 20].copy_from_slice(&crc.to_le_bytes());
}

/// Disk of 256 sectors with a protective MBR and both copies of a GPT with these partitions.
fn gpt(sector: usize, partitions: &[(Guid, u64, u64, &str)]) -> Vec<u8> {
    const COUNT: usize = 128;
    let sectors = 256;
    let mut disk = vec![0; sectors * sector];
    disk[450] = 0xee;
    disk[454..458].copy_from_slice(&1_u32.to_le_bytes());
    disk[458..462].copy_from_slice(&u32::MAX.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let array_sectors = COUNT * 128 / sector;
    let copies = [(1, sectors - 1, 2), (sectors - 1, 1, sectors - 1 - array_sectors)];
    for (lba, other, entries) in copies {
        let header = lba * sector;
        disk[header..header + 8].copy_from_slice(b"EFI PART");
        for (offset, value) in [(8, 0x1_0000_u32), (12, 92), (80, COUNT as u32), (84, 128)] {
            disk[header + offset..header + offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        let first = 2 + array_sectors;
        for (offset, value) in
            [(24, lba), (32, other), (40, first), (48, sectors - 2 - array_sectors), (72, entries)]
        {
            disk[header + offset..header + offset + 8].copy_from_slice(&(value as u64).to_le_bytes());
        }
        disk[header + 56..header + 72].copy_from_slice(&DISK_ID.to_bytes());
        for (index, (type_id, first, last, name)) in partitions.iter().enumerate() {
            let entry = entries * sector + index * 128;
            disk[entry..entry + 16].copy_from_slice(&type_id.to_bytes());
            disk[entry + 16..entry + 32].fill(index as u8 + 1);
            disk[entry + 32..entry + 40].copy_from_slice(&first.to_le_bytes());
            disk[entry + 40..entry + 48].copy_from_slice(&last.to_le_bytes());
            let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            disk[entry + 56..entry + 56 + name.len()].copy_from_slice(&name);
        }
        seal(&mut disk, header, entries * sector, COUNT);
    }
    disk
}

fn two_partitions(sector: usize) -> Vec<u8> {
    gpt(
        sector,
        &[(TYPE_EFI_SYSTEM, 40, 99, "EFI system partition"), (TYPE_WINDOWS_DATA, 100, 200, "Windows")],
    )
}

fn mbr_entry(disk: &mut [u8], sector: usize, index: usize, kind: u8, first: u32, sectors: u32) {
    let entry = sector * 512 + 446 + index * 16;
    disk[entry + 4] = kind;
    disk[entry + 8..entry + 12].copy_from_slice(&first.to_le_bytes());
    disk[entry + 12..entry + 16].copy_from_slice(&sectors.to_le_bytes());
    disk[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
}

#[test]
fn both_copies_of_a_gpt() {
    for sector in [512, 4096] {
        let disk = two_partitions(sector);
        let tables = PartitionTables::read_any_sector_size(disk.len() as u64, from(&disk)).unwrap();
        assert_eq!(tables.sector_bytes as usize, sector);
        assert_eq!(tables.scheme(), Scheme::Gpt);
        assert!(tables.copies_agree());
        assert_eq!(tables.disk_id(), Some(DISK_ID));
        assert!(tables.mbr.as_ref().unwrap().is_protective());
        let partitions = tables.partitions();
        let Partition::Gpt(windows) = &partitions[1] else { panic!("{partitions:?}") };
        assert_eq!((windows.type_id, windows.name.as_str()), (TYPE_WINDOWS_DATA, "Windows"));
        assert_eq!(tables.byte_range(&partitions[1]), 100 * sector as u64..201 * sector as u64);
    }
}

#[test]
fn either_copy_serves_and_every_changed_byte_is_noticed() {
    let disk = two_partitions(512);
    let whole = read(&disk, 512);
    for at in (512..512 + 92).chain(1024..1024 + 256) {
        let mut damaged = disk.clone();
        damaged[at] ^= 0x40;
        let tables = read(&damaged, 512);
        assert!(tables.primary.is_err(), "byte {at}");
        assert!(!tables.copies_agree());
        assert_eq!(tables.partitions(), whole.partitions(), "byte {at}");
    }
    let mut damaged = disk.clone();
    damaged[512] = 0;
    damaged[255 * 512] = 0;
    let tables = read(&damaged, 512);
    assert_eq!(tables.scheme(), Scheme::GptLost);
    assert_eq!(tables.primary, Err(GptDamage::NoSignature { lba: 1 }));
    assert!(tables.partitions().is_empty());
}

#[test]
fn the_backup_is_found_where_the_primary_says() {
    let mut disk = two_partitions(512);
    disk.resize(disk.len() + 100 * 512, 0);
    let tables = read(&disk, 512);
    assert!(tables.copies_agree(), "{tables:?}");
    // And the primary need not be there at all.
    let mut disk = two_partitions(512);
    disk[..34 * 512].fill(0);
    assert_eq!(read(&disk, 512).scheme(), Scheme::Gpt);
}

#[test]
fn every_truncation_is_survived() {
    let disk = two_partitions(512);
    for length in 0..disk.len() {
        let tables = read(&disk[..length], 512);
        assert!(tables.backup.is_err());
        for partition in tables.partitions() {
            assert!(tables.byte_range(&partition).end <= length as u64);
        }
    }
}

#[test]
fn hostile_gpt_headers() {
    let check = |offset: usize, bytes: &[u8], expected: fn(&GptDamage) -> bool| {
        let mut disk = two_partitions(512);
        disk[512 + offset..512 + offset + bytes.len()].copy_from_slice(bytes);
        let length = u32::from_le_bytes(disk[524..528].try_into().unwrap()) as usize;
        disk[528..532].fill(0);
        if let Some(covered) = disk.get(512..512 + length) {
            let crc = crc32fast::hash(covered);
            disk[528..532].copy_from_slice(&crc.to_le_bytes());
        }
        let damage = read(&disk, 512).primary.unwrap_err();
        assert!(expected(&damage), "{offset}: {damage}");
    };
    check(8, &[0, 0, 2, 0], |damage| matches!(damage, GptDamage::Revision { found: 0x2_0000 }));
    for length in [0_u32, 91, 513, u32::MAX] {
        check(12, &length.to_le_bytes(), |damage| matches!(damage, GptDamage::HeaderLength { .. }));
    }
    check(24, &[9], |damage| matches!(damage, GptDamage::Misplaced { lba: 1, says: 9 }));
    for lba in [255_u64, 1 << 40, u64::MAX] {
        check(72, &lba.to_le_bytes(), |damage| matches!(damage, GptDamage::EntriesBeyondDisk { .. }));
    }
    for count in [0, 8193, u32::MAX] {
        check(80, &count.to_le_bytes(), |damage| matches!(damage, GptDamage::EntryArray { .. }));
    }
    for bytes in [0, 127, 192, 8192, u32::MAX] {
        check(84, &bytes.to_le_bytes(), |damage| matches!(damage, GptDamage::EntryArray { .. }));
    }
}

#[test]
fn impossible_gpt_partitions_are_left_out() {
    let data = TYPE_WINDOWS_DATA;
    let disk = gpt(
        512,
        &[
            (data, 40, 99, "good"),
            (data, 90, 120, "overlaps"),
            (data, 150, 140, "ends early"),
            (data, 200, 256, "long"),
        ],
    );
    let table = read(&disk, 512).primary.unwrap();
    assert_eq!(table.partitions.len(), 1);
    assert_eq!(
        table.left_out,
        [
            GptDamage::PartitionOverlap { index: 1, other: 0 },
            GptDamage::PartitionRange { index: 2, first_lba: 150, last_lba: 140 },
            GptDamage::PartitionRange { index: 3, first_lba: 200, last_lba: 256 },
        ]
    );
}

#[test]
fn mbr_with_logical_partitions() {
    let mut disk = vec![0; 1000 * 512];
    disk[440..444].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
    mbr_entry(&mut disk, 0, 0, 0x07, 10, 90);
    disk[446] = 0x80;
    mbr_entry(&mut disk, 0, 1, 0x0f, 100, 900);
    mbr_entry(&mut disk, 100, 0, 0x83, 1, 99);
    mbr_entry(&mut disk, 100, 1, 0x05, 200, 100);
    mbr_entry(&mut disk, 300, 0, 0x07, 10, 50);
    let tables = read(&disk, 512);
    assert_eq!(tables.scheme(), Scheme::Mbr);
    let table = tables.mbr.as_ref().unwrap();
    assert_eq!((table.disk_signature, table.left_out.len()), (0xdead_beef, 0));
    let found: Vec<_> = tables
        .partitions()
        .iter()
        .map(|partition| match partition {
            Partition::Mbr(mbr) => (mbr.index, mbr.kind, mbr.first_lba, mbr.sectors, mbr.is_active),
            Partition::Gpt(_) => panic!("{partition:?}"),
        })
        .collect();
    assert_eq!(
        found,
        [
            (0, MbrType::NTFS, 10, 90, true),
            (4, MbrType::LINUX, 101, 99, false),
            (5, MbrType::NTFS, 310, 50, false)
        ]
    );
}

#[test]
fn logical_chains_end() {
    // A link that points to itself, one that points outside, one that is no link.
    for (next, damage) in [
        (0_u32, MbrDamage::LogicalChain { lba: 100 }),
        (5000, MbrDamage::LogicalChain { lba: 5100 }),
        (200, MbrDamage::LogicalChain { lba: 300 }),
    ] {
        let mut disk = vec![0; 1000 * 512];
        mbr_entry(&mut disk, 0, 0, 0x05, 100, 900);
        mbr_entry(&mut disk, 100, 0, 0x83, 1, 9);
        mbr_entry(&mut disk, 100, 1, 0x05, next, 100);
        let table = read(&disk, 512).mbr.unwrap();
        assert_eq!(table.left_out, [damage]);
        assert_eq!(table.partitions.len(), 2, "the first logical partition stays");
    }
    let mut disk = vec![0; 1000 * 512];
    mbr_entry(&mut disk, 0, 0, 0x05, 100, 900);
    for link in 0..200_u32 {
        mbr_entry(&mut disk, 100 + 2 * link as usize, 0, 0x83, 1, 1);
        mbr_entry(&mut disk, 100 + 2 * link as usize, 1, 0x05, 2 * (link + 1), 2);
    }
    let table = read(&disk, 512).mbr.unwrap();
    assert_eq!(table.partitions.len(), 1 + 128);
    assert_eq!(table.left_out, [MbrDamage::LogicalCount { max: 128 }]);
}

#[test]
fn what_is_no_table() {
    let check = |disk: &[u8], expected: MbrDamage| {
        let tables = read(disk, 512);
        assert_eq!(tables.mbr, Err(expected));
        assert_eq!(tables.scheme(), Scheme::None);
    };
    check(&[0; 100], MbrDamage::DiskTooShort { disk_bytes: 100 });
    check(&[0; 5120], MbrDamage::NoSignature);
    for (at, name) in [(3, "NTFS    "), (3, "-FVE-FS-"), (54, "FAT16"), (82, "FAT32")] {
        let mut volume = vec![0; 5120];
        volume[510..512].copy_from_slice(&[0x55, 0xaa]);
        volume[at..at + name.len()].copy_from_slice(name.as_bytes());
        check(&volume, MbrDamage::BootSector);
    }
    let mut disk = vec![0; 5120];
    mbr_entry(&mut disk, 0, 2, 0x07, 5, 100);
    check(&disk, MbrDamage::Entry { index: 2 });
    mbr_entry(&mut disk, 0, 2, 0x07, 5, 2);
    mbr_entry(&mut disk, 0, 3, 0x07, 6, 2);
    check(&disk, MbrDamage::PartitionOverlap { index: 3, other: 2 });
    // A table without partitions divides nothing.
    let mut empty = vec![0; 5120];
    empty[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(read(&empty, 512).scheme(), Scheme::None);
}

#[test]
fn the_error_of_the_disk_is_passed_on() {
    let error = PartitionTables::read(1 << 20, 512, |offset, _: &mut [u8]| Err(offset)).unwrap_err();
    assert_eq!(error, 0);
    assert_eq!(GptDamage::HeaderChecksum.to_string(), "the checksum of the header is wrong");
}

proptest! {
    #[test]
    fn the_fuzz_body_survives(
        mut bytes in prop::collection::vec(any::<u8>(), 0..6000),
        changes in prop::collection::vec((0..131_072_usize, any::<u8>()), 0..8),
    ) {
        crate::fuzzing::read_tables(&bytes);
        if bytes.len() > 520 {
            bytes[511..513].copy_from_slice(&[0x55, 0xaa]);
            bytes[0] |= 1;
            crate::fuzzing::read_tables(&bytes);
        }
        let mut disk = two_partitions(512);
        for (at, byte) in changes {
            disk[at] = byte;
        }
        disk.insert(0, 0);
        crate::fuzzing::read_tables(&disk);
    }
}
