use std::path::{Path, PathBuf};

use lifeboat_disk::fixtures::{
    MemoryFile, MemoryFiles, differencing_vhdx, dynamic_vhd, dynamic_vhdx, fixed_vhd, flat, gpt_disk, id,
};
use lifeboat_disk::{
    Container, DiskError, DiskLayout, Encryption, FveCapture, ParentSearch, PlainContent, ReadAt,
    VirtualDisk, inspect, open_disk,
};
use lifeboat_fve::fixtures::{
    CopyDamage, Damage, FormattedVolume, ProtectorOptions, VolumeOptions, ntfs_plaintext,
};
use lifeboat_schema::{ContainerKind, EncryptionKind, ProtectorKind, VolumeCipher, VolumeState};

const VOLUME_BYTES: usize = 2 << 20;

pub(crate) fn bitlocker(options: VolumeOptions) -> FormattedVolume {
    let plain = ntfs_plaintext(VOLUME_BYTES, options.sector_size, options.seed);
    options.format(plain)
}

fn linux() -> Vec<u8> {
    let mut volume = vec![0; VOLUME_BYTES];
    volume[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    volume
}

fn open(files: &MemoryFiles, path: &str) -> Result<VirtualDisk<MemoryFile>, DiskError> {
    open_disk(files, Path::new(path), &ParentSearch::default())
}

fn content(disk: &VirtualDisk<MemoryFile>) -> Vec<u8> {
    let mut bytes = vec![0xee; usize::try_from(disk.size_bytes()).unwrap()];
    disk.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// A GPT disk with a BitLocker volume, a plain NTFS and a LUKS volume.
fn three_volumes() -> (Vec<(u64, Vec<u8>)>, u64) {
    let options = VolumeOptions {
        protectors: vec![ProtectorOptions::recovery_password(), ProtectorOptions::ExternalKey],
        ..VolumeOptions::default()
    };
    let encrypted = bitlocker(options).image;
    gpt_disk(&[&encrypted, &ntfs_plaintext(VOLUME_BYTES, 512, 9), &linux()])
}

#[track_caller]
fn check(disk: &VirtualDisk<MemoryFile>, container: ContainerKind, expected: &[u8]) {
    assert_eq!(content(disk), expected);
    let layout = DiskLayout::read(disk).unwrap();
    let report = inspect(disk, &layout);
    assert_eq!(report.container, container);
    assert_eq!(report.virtual_size_bytes, expected.len() as u64);
    assert_eq!(report.sector_size_bytes, 512);
    assert_eq!(layout.gpt_disk_id(), Some(id(999)));
    let kinds: Vec<EncryptionKind> = report.volumes.iter().map(|volume| volume.encryption).collect();
    assert_eq!(kinds, [EncryptionKind::Bitlocker, EncryptionKind::None, EncryptionKind::Luks]);
    let first = &report.volumes[0];
    assert_eq!((first.number, first.offset_bytes, first.size_bytes), (1, 1 << 20, VOLUME_BYTES as u64));
    let bitlocker = first.bitlocker.as_ref().unwrap();
    assert_eq!((bitlocker.version, bitlocker.metadata_copies, bitlocker.metadata_copies_valid), (2, 3, 3));
    assert_eq!((bitlocker.state, bitlocker.cipher), (VolumeState::Encrypted, VolumeCipher::AesXts128));
    let protectors: Vec<ProtectorKind> = bitlocker.protectors.iter().map(|one| one.kind).collect();
    assert_eq!(protectors, [ProtectorKind::RecoveryPassword, ProtectorKind::ExternalKey]);
    assert_eq!(bitlocker.protectors[0].modified.to_string(), "2020-01-01T00:00:00Z");
    assert_eq!(layout.volumes[0].partition.as_ref().unwrap().name, "volume 1");
}

#[test]
fn every_container_gives_the_same_disk() {
    let (parts, size) = three_volumes();
    let expected = flat((parts.clone(), size));
    let vhdx = dynamic_vhdx(&parts, size);
    let files = MemoryFiles::default()
        .with("disk.vhdx", vhdx)
        .with_bytes("disk.img", &expected)
        .with_bytes("fixed.vhd", &fixed_vhd(expected.clone()))
        .with_bytes("dynamic.vhd", &dynamic_vhd(&expected, [1; 16], None));
    for (path, kind) in [
        ("disk.vhdx", ContainerKind::Vhdx),
        ("disk.img", ContainerKind::Raw),
        ("fixed.vhd", ContainerKind::Vhd),
        ("dynamic.vhd", ContainerKind::Vhd),
    ] {
        check(&open(&files, path).unwrap(), kind, &expected);
    }
    let disk = open(&files, "disk.vhdx").unwrap();
    assert_eq!(disk.facts().virtual_disk_id, Some(id(1)));
    assert_eq!(disk.facts().data_write_guid, Some(id(200)));
    assert!(disk.is_sparse());
    let allocated: u64 = disk
        .extents(0..size)
        .unwrap()
        .iter()
        .filter(|extent| extent.is_allocated)
        .map(|extent| extent.length)
        .sum();
    assert!(allocated > VOLUME_BYTES as u64 && allocated < size);
}

#[test]
fn parents_are_found_by_path_by_name_and_by_identity() {
    let (parts, size) = three_volumes();
    let mut expected = flat((parts.clone(), size));
    let change = (size - (1 << 20) - 4096, vec![7; 512]);
    expected[change.0 as usize..][..512].copy_from_slice(&change.1);
    let parent = dynamic_vhdx(&parts, size);
    let child = differencing_vhdx(&[change], size, 1, "base.vhdx");
    let grandchild = differencing_vhdx(&[], size, 2, "child.avhdx");
    let files = MemoryFiles::default().with("vm/child.avhdx", child).with("vm/grandchild.avhdx", grandchild);
    // Beside it, under the name that the child states.
    let beside = files.clone().with("vm/base.vhdx", parent.clone());
    let disk = open(&beside, "vm/grandchild.avhdx").unwrap();
    check(&disk, ContainerKind::Avhdx, &expected);
    assert_eq!(disk.container(), Container::Avhdx);
    let names = ["vm/grandchild.avhdx", "vm/child.avhdx", "vm/base.vhdx"].map(PathBuf::from);
    assert_eq!(disk.files(), names);
    // Beside it, renamed.
    let renamed = files.clone().with("vm/zzz.vhdx", parent.clone());
    check(&open(&renamed, "vm/grandchild.avhdx").unwrap(), ContainerKind::Avhdx, &expected);
    // In another folder, which the caller names.
    let elsewhere = files.clone().with("bases/base.vhdx", parent.clone());
    assert!(matches!(
        open(&elsewhere, "vm/grandchild.avhdx"),
        Err(DiskError::ParentNotFound { name: Some(name), .. }) if name == "base.vhdx"
    ));
    let search = ParentSearch { folders: vec!["bases".into()], absolute_paths: false };
    let disk = open_disk(&elsewhere, Path::new("vm/grandchild.avhdx"), &search).unwrap();
    check(&disk, ContainerKind::Avhdx, &expected);
    // By its absolute path, only when that is allowed.
    let far = files.clone().with("C:\\disks\\base.vhdx", parent);
    assert!(open(&far, "vm/grandchild.avhdx").is_err());
    let search = ParentSearch { folders: Vec::new(), absolute_paths: true };
    check(
        &open_disk(&far, Path::new("vm/grandchild.avhdx"), &search).unwrap(),
        ContainerKind::Avhdx,
        &expected,
    );
    // The parent went on after the child was made: never put together.
    let changed = files.with("vm/base.vhdx", differencing_vhdx(&[], size, 3, "none.vhdx"));
    let error = open(&changed, "vm/grandchild.avhdx").unwrap_err();
    assert!(matches!(error, DiskError::ParentChanged { .. }), "{error}");
}

#[test]
fn what_is_wrong_with_a_parent_is_said() {
    let (parts, size) = three_volumes();
    let base = dynamic_vhdx(&parts, size).to_bytes();
    let files = |base: &[u8]| {
        MemoryFiles::default()
            .with("child.avhdx", differencing_vhdx(&[], size, 1, "base.vhdx"))
            .with_bytes("base.vhdx", base)
    };
    assert!(open(&files(&base), "child.avhdx").is_ok());
    let mut damaged = base.clone();
    // Both headers.
    for at in [0x1_0000, 0x2_0000] {
        damaged[at..at + 4096].fill(0);
    }
    for bytes in [&damaged[..], b"no disk at all", &base[..100_000]] {
        let error = open(&files(bytes), "child.avhdx").unwrap_err();
        let DiskError::ParentUnusable { path, why, .. } = &error else { panic!("{error}") };
        assert_eq!(path.to_str(), Some("child.avhdx"));
        assert!(why.to_string().starts_with("base.vhdx cannot be opened as a VHDX"), "{error}");
    }
    // A file of the system, which refuses to be read.
    struct Refusing(MemoryFiles);
    impl lifeboat_disk::ImageFiles for Refusing {
        type File = MemoryFile;

        fn open(&self, path: &Path) -> std::io::Result<MemoryFile> {
            self.0.open(path)
        }

        fn open_parent(&self, _: &Path) -> std::io::Result<MemoryFile> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }

        fn list(&self, _: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
            Ok(Vec::new())
        }
    }
    let error = open_disk(&Refusing(files(&base)), Path::new("child.avhdx"), &ParentSearch::default());
    let error = error.map(|_| ()).unwrap_err();
    assert!(matches!(error, DiskError::ParentUnusable { .. }), "{error}");
    assert!(error.to_string().contains("base.vhdx cannot be read: permission denied"), "{error}");
}

#[test]
fn a_mark_left_from_an_earlier_use_hides_no_partitions() {
    let gpt = || flat(three_volumes());
    let size = gpt().len();
    let with = |mut disk: Vec<u8>, at: usize, mark: &[u8]| {
        disk[at..at + mark.len()].copy_from_slice(mark);
        disk
    };
    let layout = |disk: &[u8]| {
        let files = MemoryFiles::default().with_bytes("disk.img", disk);
        DiskLayout::read(&open(&files, "disk.img").unwrap()).unwrap()
    };
    let mut mbr = vec![0; size];
    mbr[446 + 4] = 7;
    mbr[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    mbr[446 + 12..446 + 16].copy_from_slice(&2048_u32.to_le_bytes());
    mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
    let marks: [(usize, &[u8]); 3] =
        [(1080, &[0x53, 0xef]), ((64 << 10) + 64, b"_BHRfS_M"), (4086, b"SWAPSPACE2")];
    for (at, mark) in marks {
        // The entries of a GPT lie from 1 KiB on: there the mark would break them.
        if at > 20_000 {
            assert_eq!(layout(&with(gpt(), at, mark)).volumes.len(), 3, "{at}");
        } else {
            let found = layout(&with(gpt(), at, mark));
            assert_eq!(found.volumes.len(), 3, "by the copy at the end: {at}");
        }
        assert_eq!(layout(&with(mbr.clone(), at, mark)).volumes[0].offset_bytes, 1 << 20, "{at}");
        // Without a table it is what it looks like, also with the end of a GPT left behind it.
        assert_eq!(layout(&with(vec![0; size], at, mark)).volumes[0].partition, None);
        let mut end = gpt();
        end[..1 << 20].fill(0);
        let found = layout(&with(end, at, mark));
        assert!(found.tables.is_none() && found.volumes.len() == 1, "{at}");
    }
}

#[test]
fn parents_of_a_vhd() {
    let parent = flat(three_volumes());
    let mut difference = vec![0; parent.len()];
    difference[4 << 20..][..512].fill(9);
    let mut expected = parent.clone();
    expected[4 << 20..][..512].fill(9);
    let files = MemoryFiles::default()
        .with_bytes("base.vhd", &dynamic_vhd(&parent, [1; 16], None))
        .with_bytes("child.vhd", &dynamic_vhd(&difference, [2; 16], Some(("base.vhd", [1; 16]))));
    check(&open(&files, "child.vhd").unwrap(), ContainerKind::Vhd, &expected);
    let lone = MemoryFiles::default()
        .with_bytes("child.vhd", &dynamic_vhd(&difference, [2; 16], Some(("base.vhd", [3; 16]))));
    assert!(matches!(open(&lone, "child.vhd"), Err(DiskError::ParentNotFound { .. })));
}

#[test]
fn bare_volumes() {
    let encrypted = bitlocker(VolumeOptions::default());
    let files = MemoryFiles::default()
        .with_bytes("bitlocker.img", &encrypted.image)
        .with_bytes("ntfs.img", &ntfs_plaintext(VOLUME_BYTES, 512, 1))
        .with_bytes("luks.img", &linux())
        .with_bytes("noise.img", &[0xa5; 4096])
        .with_bytes("short.img", &[1; 7])
        .with_bytes("empty.img", &[]);
    for (path, encryption) in [
        ("bitlocker.img", Encryption::BitLocker),
        ("ntfs.img", Encryption::None(PlainContent::Ntfs)),
        ("luks.img", Encryption::Luks { version: 2 }),
        ("noise.img", Encryption::Unknown),
        ("short.img", Encryption::Unknown),
    ] {
        let disk = open(&files, path).unwrap();
        let layout = DiskLayout::read(&disk).unwrap();
        assert_eq!(layout.volumes.len(), 1, "{path}");
        assert_eq!(layout.volumes[0].encryption, encryption, "{path}");
        assert_eq!(layout.volumes[0].size_bytes, disk.size_bytes(), "{path}");
        assert!(layout.tables.is_none());
    }
    assert!(matches!(open(&files, "empty.img"), Err(DiskError::Empty { .. })));
    assert!(matches!(open(&files, "none.img"), Err(DiskError::File { .. })));
}

#[test]
fn an_image_cut_short_keeps_its_volumes() {
    let whole = flat(three_volumes());
    for length in [whole.len() - 512, 5 << 20, 2 << 20, (1 << 20) + 4096] {
        let files = MemoryFiles::default().with_bytes("disk.img", &whole[..length]);
        let disk = open(&files, "disk.img").unwrap();
        let layout = DiskLayout::read(&disk).unwrap();
        assert_eq!(layout.volumes.len(), 3, "{length}");
        assert_eq!(layout.is_cut_short, length <= 5 << 20, "{length}");
        assert_eq!(layout.volumes[0].encryption, Encryption::BitLocker, "{length}");
        assert_eq!(layout.volumes[0].size_bytes, VOLUME_BYTES as u64);
        let report = inspect(&disk, &layout);
        assert_eq!(report.volumes[0].bitlocker.is_some(), length >= 2 << 20, "{length}");
    }
    // The same with an MBR.
    let volume = bitlocker(VolumeOptions::default()).image;
    let mut disk = vec![0; 1 << 20];
    disk[446 + 4] = 7;
    disk[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    disk[446 + 12..446 + 16].copy_from_slice(&((VOLUME_BYTES / 512) as u32).to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk.extend_from_slice(&volume);
    for (length, is_cut_short) in [(disk.len(), false), (disk.len() - 512, true), (2 << 20, true)] {
        let files = MemoryFiles::default().with_bytes("disk.img", &disk[..length]);
        let layout = DiskLayout::read(&open(&files, "disk.img").unwrap()).unwrap();
        assert_eq!(layout.volumes.len(), 1, "{length}");
        assert_eq!(layout.volumes[0].encryption, Encryption::BitLocker, "{length}");
        assert_eq!(layout.volumes[0].partition.as_ref().unwrap().mbr_type, Some(7));
        assert_eq!(layout.is_cut_short, is_cut_short, "{length}");
    }
}

#[test]
fn a_capture_holds_what_opens_the_volume_later() {
    let damage = vec![Damage::Copy(1, CopyDamage::Zeroed)];
    let volume = bitlocker(VolumeOptions { damage, ..VolumeOptions::default() });
    let files = MemoryFiles::default().with_bytes("volume.img", &volume.image);
    let disk = open(&files, "volume.img").unwrap();
    let layout = DiskLayout::read(&disk).unwrap();
    let before = files.read_bytes();
    let capture = FveCapture::read(&layout.volumes[0].reader(&disk)).unwrap();
    assert!(files.read_bytes() - before < 1 << 20, "{} bytes", files.read_bytes() - before);
    assert_eq!(capture.head, &volume.image[..16 << 10]);
    assert_eq!(capture.regions.len(), 3);
    assert_eq!(capture.good_region().unwrap().bytes, volume.metadata_region);
    assert_eq!(capture.regions.iter().filter(|region| region.is_good()).count(), 2);
    let (offset, relocated) = capture.relocated.as_ref().unwrap();
    assert_eq!(*offset, volume.virtualized_block);
    let cipher = lifeboat_fve::SectorCipher::new(&volume.volume_key, 512).unwrap();
    lifeboat_fve::prove_boot_sectors(&cipher, *offset, relocated).unwrap();
}

#[test]
fn all_metadata_destroyed_is_said_and_captured() {
    let damage = (0..3).map(|copy| Damage::Copy(copy, CopyDamage::FlippedByte(200))).collect();
    let volume = bitlocker(VolumeOptions { damage, ..VolumeOptions::default() });
    let files = MemoryFiles::default().with_bytes("volume.img", &volume.image);
    let disk = open(&files, "volume.img").unwrap();
    let layout = DiskLayout::read(&disk).unwrap();
    let report = inspect(&disk, &layout);
    assert_eq!(report.volumes[0].encryption, EncryptionKind::Bitlocker);
    assert_eq!(report.volumes[0].bitlocker, None);
    let capture = FveCapture::read(&layout.volumes[0].reader(&disk)).unwrap();
    assert_eq!(capture.regions.len(), 3);
    assert!(capture.regions.iter().all(|region| !region.is_good() && region.bytes.len() == 64 << 10));
}
