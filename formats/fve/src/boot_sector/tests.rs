use super::*;
use crate::layout::STANDARD_GUID_OFFSET;

/// Bytes and where they go.
type Parts<'a> = &'a [(usize, &'a [u8])];

fn sector(parts: Parts<'_>) -> [u8; BOOT_SECTOR_BYTES] {
    let mut sector = [0; BOOT_SECTOR_BYTES];
    for (at, bytes) in parts {
        sector[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    sector
}

fn offsets(values: &[u64]) -> alloc::vec::Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn recognises_each_layout() {
    let three = offsets(&[0x20_0000, 0x50_0000, 0x90_0000]);
    let five = offsets(&[0x20_0000, 0x50_0000, 0x90_0000, 0xa0_0000, 0xb0_0000]);
    let geometry: &[u8] = &[0, 2, 8];
    let cases: [(VolumeFormat, Parts<'_>); 5] = [
        (
            VolumeFormat::Standard,
            &[(3, b"-FVE-FS-"), (11, geometry), (160, &INFORMATION_OFFSET_GUID), (176, &three)],
        ),
        (
            VolumeFormat::ToGo,
            &[(3, b"MSWIN4.1"), (11, geometry), (424, &INFORMATION_OFFSET_GUID), (440, &three)],
        ),
        // The driver looks everywhere, so an odd place is as good.
        (VolumeFormat::Standard, &[(3, b"-FVE-FS-"), (101, &INFORMATION_OFFSET_GUID), (117, &three)]),
        (
            VolumeFormat::EncryptOnWrite,
            &[(3, b"-FVE-FS-"), (11, geometry), (160, &EOW_INFORMATION_OFFSET_GUID), (176, &five)],
        ),
        (VolumeFormat::Vista, &[(3, b"-FVE-FS-"), (11, geometry), (56, &offsets(&[0x200]))]),
    ];
    for (format, parts) in cases {
        let boot = BootSector::parse(&sector(parts)).unwrap();
        assert_eq!(boot.format, format);
        assert_eq!(boot.sector_size, 512);
        assert_eq!(boot.metadata_offsets[0], 0x20_0000);
        assert_eq!(boot.metadata_offsets.len(), if format == VolumeFormat::Vista { 1 } else { 3 });
        let eow = (format == VolumeFormat::EncryptOnWrite).then_some([0xa0_0000, 0xb0_0000]);
        assert_eq!(boot.eow_offsets, eow);
        assert_eq!(
            boot.metadata_region_bytes(),
            if format == VolumeFormat::Vista { 0x4000 } else { 0x1_0000 }
        );
    }
}

#[test]
fn the_conversion_identifier_wins() {
    let three = offsets(&[1 << 20, 2 << 20, 3 << 20]);
    let five = offsets(&[4 << 20, 5 << 20, 6 << 20, 7 << 20, 8 << 20]);
    let both = sector(&[
        (80, &INFORMATION_OFFSET_GUID),
        (96, &three),
        (STANDARD_GUID_OFFSET, &EOW_INFORMATION_OFFSET_GUID),
        (176, &five),
    ]);
    assert_eq!(BootSector::parse(&both).unwrap().format, VolumeFormat::EncryptOnWrite);
}

#[test]
fn refuses_what_is_not_bitlocker() {
    for other in [sector(&[]), sector(&[(3, b"NTFS    ")]), sector(&[(3, b"MSWIN4.1"), (82, b"FAT32   ")])] {
        assert!(matches!(BootSector::parse(&other), Err(Error::NotBitLocker)));
    }
    // A GUID without room for its offsets is none.
    assert!(matches!(
        BootSector::parse(&sector(&[(480, &INFORMATION_OFFSET_GUID)])),
        Err(Error::NotBitLocker)
    ));
    assert!(matches!(BootSector::parse(&[0; 511]), Err(Error::Corrupt(Corruption::Truncated { .. }))));
}

#[test]
fn refuses_lies() {
    let three = offsets(&[1 << 20, 2 << 20, 3 << 20]);
    let good: [(usize, &[u8]); 3] = [(3, b"-FVE-FS-"), (160, &INFORMATION_OFFSET_GUID), (176, &three)];
    for size in [1u16, 256, 1024, 2048, 8192, 0xffff] {
        let mut bytes = sector(&good);
        bytes[11..13].copy_from_slice(&size.to_le_bytes());
        let error = BootSector::parse(&bytes).unwrap_err();
        assert!(
            matches!(error, Error::Corrupt(Corruption::SectorSize { value }) if value == u32::from(size))
        );
    }
    let places = offsets(&[0, u64::MAX, MAX_VOLUME_BYTES + 1]);
    let nowhere = sector(&[(3, b"-FVE-FS-"), (160, &INFORMATION_OFFSET_GUID), (176, &places)]);
    assert!(matches!(
        BootSector::parse(&nowhere),
        Err(Error::Corrupt(Corruption::OutOfRange { value: 0, .. }))
    ));
    let vista = sector(&[(3, b"-FVE-FS-"), (13, &[255]), (56, &[0xff; 8])]);
    assert!(matches!(BootSector::parse(&vista), Err(Error::Corrupt(Corruption::OutOfRange { .. }))));
    let one = offsets(&[u64::MAX, 2 << 20, 0]);
    let one = BootSector::parse(&sector(&[(160, &INFORMATION_OFFSET_GUID), (176, &one)])).unwrap();
    assert_eq!(one.metadata_offsets, [2 << 20]);
}
