use std::path::Path;
use std::sync::atomic::AtomicBool;

use lifeboat_disk::fixtures::{differencing_vhdx, dynamic_vhdx, fixed_vhd, flat, gpt_disk};
use lifeboat_disk::{ImageFile, ParentSearch, ReadAt};
use lifeboat_fve::fixtures::{CopyDamage, Damage, FormattedVolume, ProtectorOptions, VolumeOptions};
use lifeboat_fve::{Credential, FileTime, Guid, Key256, VolumeState};
use lifeboat_recover::{
    CapturedMetadata, KeyProof, LockedVolume, Opened, PlainSource, PlainVolume, RecoverError, SourceDisk,
    SuspendOptions, SuspendReport, Unobserved, open_volume, partial_path, suspend_to,
};
use lifeboat_vhdx::SparseImage;

use crate::fixture::{credential, volume};

const VOLUME_BYTES: usize = 4 << 20;

fn options(output: &Path, seed: u8) -> SuspendOptions {
    SuspendOptions {
        output: output.to_owned(),
        clear_key: Key256::new([seed; 32]),
        protector: Guid([seed; 16]),
        random_ids: [seed; 48],
        now: FileTime(132_300_000_000_000_000),
    }
}

/// Calls `work` with the only BitLocker volume of a disk, and with its keys.
fn with_disk<T>(
    path: &Path,
    key: &Credential,
    work: impl FnOnce(&LockedVolume<'_, ImageFile>, &Opened) -> T,
) -> T {
    let source = SourceDisk::open(path, &ParentSearch::default()).unwrap();
    let entry = source.layout.bitlocker_volumes().next().unwrap();
    let locked = LockedVolume::open(&source, 0, entry, None).unwrap();
    let opened = open_volume(&locked, std::slice::from_ref(key), &[], &[]).unwrap();
    work(&locked, &opened)
}

fn suspend(path: &Path, volume: &FormattedVolume, output: &Path) -> Result<SuspendReport, RecoverError> {
    with_disk(path, &credential(&volume.secrets[0].1), |locked, opened| {
        suspend_to(locked, opened, &options(output, 0x5a), &AtomicBool::new(false), &Unobserved)
    })
}

/// Compares an overlay with what it must be: open to anyone, and otherwise the disk.
#[track_caller]
fn check(path: &Path, original: &Path, volume: &FormattedVolume, expected: &[u8]) {
    with_disk(path, &Credential::ClearKey, |locked, opened| {
        assert_eq!(locked.fve().good_copies(), 3);
        assert_eq!(locked.fve().distinct_metadata().len(), 1);
        assert_eq!(locked.fve().state(), VolumeState::Suspended);
        assert!(opened.authentication.is_some_and(|proof| proof.is_proof()));
        assert!(matches!(opened.proof, KeyProof::Data(_)));
        let plain = PlainVolume::new(locked, opened).unwrap();
        let mut bytes = vec![0; expected.len()];
        PlainSource::read(&plain, 0, &mut bytes, false).unwrap();
        assert!(bytes == expected);
        // The keys of before open it as before.
        assert!(open_volume(locked, &[credential(&volume.secrets[0].1)], &[], &[]).is_ok());
        // Nothing but the three regions is other than on the disk.
        let source = SourceDisk::open(original, &ParentSearch::default()).unwrap();
        let (mut new, mut old) = (vec![0; 4096], vec![0; 4096]);
        let regions = locked.fve().metadata().metadata_offsets.map(|at| locked.volume.offset_bytes + at);
        for at in (0..source.disk.size_bytes()).step_by(4096) {
            if regions.iter().any(|&region| (region..region + 65536).contains(&at)) {
                continue;
            }
            let length = (source.disk.size_bytes() - at).min(4096) as usize;
            locked.source.disk.read_exact_at(at, &mut new[..length]).unwrap();
            source.disk.read_exact_at(at, &mut old[..length]).unwrap();
            assert!(new == old, "{at}");
        }
    });
}

fn write(path: &Path, image: &SparseImage) {
    std::fs::write(path, image.to_bytes()).unwrap();
}

#[test]
fn an_overlay_opens_to_anyone_and_the_disk_stays_as_it_is() {
    let (volume, expected) = volume(31, VOLUME_BYTES);
    let (parts, size) = gpt_disk(&[&volume.image]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(&path("base.vhdx"), &dynamic_vhdx(&parts, size));
    write(&path("disk.avhdx"), &differencing_vhdx(&[], size, 1, "base.vhdx"));
    std::fs::write(path("disk.vhd"), fixed_vhd(flat((parts.clone(), size)))).unwrap();
    std::fs::write(path("disk.img"), flat((parts, size))).unwrap();
    std::fs::write(path("volume.img"), &volume.image).unwrap();
    for (name, output, has_parent) in [
        ("base.vhdx", "one.avhdx", true),
        ("disk.avhdx", "two.vhdx", true),
        ("disk.vhd", "three.vhdx", false),
        ("disk.vhd", "three.img", false),
        ("disk.img", "four.img", false),
        ("volume.img", "five.img", false),
    ] {
        let before = std::fs::read(path(name)).unwrap();
        let report = suspend(&path(name), &volume, &path(output)).unwrap();
        assert_eq!(report.parent, has_parent.then(|| path(name)), "{name}");
        check(&path(output), &path(name), &volume, &expected);
        assert!(std::fs::read(path(name)).unwrap() == before, "{name} changed");
        assert!(!partial_path(&path(output)).exists());
        if has_parent {
            assert!(path(output).metadata().unwrap().len() < 12 << 20, "{output} holds the regions alone");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(path(output).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(matches!(suspend(&path(name), &volume, &path(output)), Err(RecoverError::Exists { .. })));
    }
    // The overlay of an overlay would be none: it is suspended already.
    let error = with_disk(&path("one.avhdx"), &Credential::ClearKey, |locked, opened| {
        suspend_to(locked, opened, &options(&path("x.vhdx"), 1), &AtomicBool::new(false), &Unobserved)
    });
    assert!(matches!(error, Err(RecoverError::NotSuspendable { .. })), "{error:?}");
    assert!(matches!(
        suspend(&path("base.vhdx"), &volume, &path("raw.img")),
        Err(RecoverError::NotSuspendable { .. })
    ));
    std::fs::rename(path("base.vhdx"), path("y.vhdx.partial")).unwrap();
    let error = suspend(&path("y.vhdx.partial"), &volume, &path("y.vhdx"));
    assert!(matches!(error, Err(RecoverError::IsSource { .. })), "{error:?}");
    assert!(!path("y.vhdx").exists() && path("y.vhdx.partial").exists());
}

#[test]
fn a_copy_is_gone_on_with_and_damaged_copies_are_replaced() {
    let options_of = VolumeOptions {
        protectors: vec![ProtectorOptions::recovery_password()],
        damage: vec![Damage::Copy(0, CopyDamage::Zeroed), Damage::Copy(2, CopyDamage::FlippedByte(4000))],
        ..VolumeOptions::default()
    };
    let plain = lifeboat_fve::fixtures::ntfs_plaintext(50 << 20, 512, 5);
    let volume = options_of.format(plain.clone());
    let expected = volume.expected(plain);
    let folder = tempfile::tempdir().unwrap();
    let (disk, output) = (folder.path().join("volume.img"), folder.path().join("out.img"));
    std::fs::write(&disk, &volume.image).unwrap();
    let key = credential(&volume.secrets[0].1);
    let stopped = with_disk(&disk, &key, |locked, opened| {
        let cancel = AtomicBool::new(false);
        let stop = crate::fixture::StopAt::new(40 << 20, &cancel);
        suspend_to(locked, opened, &options(&output, 1), &cancel, &stop)
    });
    assert!(matches!(stopped, Err(RecoverError::Interrupted { .. })), "{stopped:?}");
    assert!(!output.exists());
    // With another clear key: the one of the run that ends it counts, in every copy.
    let report = suspend(&disk, &volume, &output).unwrap();
    assert!(report.copied.is_some_and(|copied| copied.resumed_bytes > 0));
    check(&output, &disk, &volume, &expected);
}

#[test]
fn metadata_that_the_disk_does_not_have_makes_no_overlay() {
    let plain = lifeboat_fve::fixtures::ntfs_plaintext(VOLUME_BYTES, 512, 6);
    let volume =
        VolumeOptions { damage: vec![Damage::BootSector], ..VolumeOptions::default() }.format(plain.clone());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume.img");
    std::fs::write(&path, &volume.image).unwrap();
    let source = SourceDisk::open(&path, &ParentSearch::default()).unwrap();
    let entry = &source.layout.volumes[0];
    let found = CapturedMetadata::search(&source, entry, |_| {});
    let locked = LockedVolume::open(&source, 0, entry, Some(&found)).unwrap();
    let opened = open_volume(&locked, &[credential(&volume.secrets[0].1)], &[], &[]).unwrap();
    let output = folder.path().join("out.img");
    let result = suspend_to(&locked, &opened, &options(&output, 1), &AtomicBool::new(false), &Unobserved);
    assert!(matches!(result, Err(RecoverError::NotSuspendable { .. })), "{result:?}");
    // Through captured metadata of another time there is no key for the protectors of today.
    let first = VolumeOptions::default().format(plain.clone());
    let second = first.next_generation(vec![ProtectorOptions::recovery_password()], 33, true);
    std::fs::write(&path, &second.image).unwrap();
    let source = SourceDisk::open(&path, &ParentSearch::default()).unwrap();
    let locked = LockedVolume::open(&source, 0, &source.layout.volumes[0], None).unwrap();
    let generations =
        CapturedMetadata { head: Vec::new(), regions: vec![first.metadata_region.clone().into()] }
            .generations();
    let opened = open_volume(&locked, &[credential(&first.secrets[0].1)], &[], &generations).unwrap();
    let result = suspend_to(&locked, &opened, &options(&output, 1), &AtomicBool::new(false), &Unobserved);
    assert_eq!(opened.vmk().is_none(), result.is_err(), "{result:?}");
    assert_eq!(opened.vmk().is_none(), !output.exists());
}
