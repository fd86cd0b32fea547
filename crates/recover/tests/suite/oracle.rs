//! dissect.hypervisor with dissect.fve on what we write; says so when they are not there. CI installs them.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use lifeboat_disk::ParentSearch;
use lifeboat_disk::fixtures::{differencing_vhdx, dynamic_vhdx, gpt_disk};
use lifeboat_fve::fixtures::VolumeOptions;
use lifeboat_fve::{Credential, EncryptionMethod, FileTime, Guid, Key256};
use lifeboat_recover::{LockedVolume, SourceDisk, SuspendOptions, Unobserved, open_volume, suspend_to};
use sha2::Digest as _;

use crate::fixture::credential;

const VOLUME_BYTES: usize = 2 << 20;

/// The digest of a suspended volume as they read it; `None` when they are not there.
fn dissect(path: &Path, offset: u64, size: u64) -> Option<String> {
    const PACKAGE_MISSING: i32 = 3;
    let Some(python) = std::env::var_os("LIFEBOAT_DISSECT_PYTHON") else {
        println!(
            "skipped: LIFEBOAT_DISSECT_PYTHON names no Python that has dissect.hypervisor and dissect.fve"
        );
        return None;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracles/overlay_dissect.py");
    let numbers = [offset, size].map(|number| number.to_string());
    let output = Command::new(python).arg(script).arg(path).args(numbers).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(PACKAGE_MISSING) {
        println!("skipped: {}", said.trim());
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// The differencing form of `--suspend-overlay`, over a disk and over a checkpoint: the clear key opens it, and every
/// byte is the guest's.
#[test]
fn dissect_opens_a_suspended_overlay_with_its_clear_key() {
    for (number, method) in [
        EncryptionMethod::AES_XTS_128,
        EncryptionMethod::AES_XTS_256,
        EncryptionMethod::AES_CBC_256,
        EncryptionMethod::AES_CBC_128_ELEPHANT,
    ]
    .into_iter()
    .enumerate()
    {
        let seed = 71 + number as u64;
        let plain = lifeboat_fve::fixtures::ntfs_plaintext(VOLUME_BYTES, 512, seed);
        let volume = VolumeOptions { seed, method, ..VolumeOptions::default() }.format(plain.clone());
        let expected = volume.expected(plain);
        let (parts, size) = gpt_disk(&[&volume.image]);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("base.vhdx"), dynamic_vhdx(&parts, size).to_bytes()).unwrap();
        let child = differencing_vhdx(&[], size, 1, "base.vhdx");
        std::fs::write(path("disk.avhdx"), child.to_bytes()).unwrap();
        for (disk, overlay) in [("base.vhdx", "one.avhdx"), ("disk.avhdx", "two.avhdx")] {
            let source = SourceDisk::open(&path(disk), &ParentSearch::default()).unwrap();
            let entry = source.layout.bitlocker_volumes().next().unwrap();
            let locked = LockedVolume::open(&source, 0, entry, None).unwrap();
            let key: Credential = credential(&volume.secrets[0].1);
            let opened = open_volume(&locked, &[key], &[], &[]).unwrap();
            let options = SuspendOptions {
                output: path(overlay),
                clear_key: Key256::new([0x5a; 32]),
                protector: Guid([0x5a; 16]),
                random_ids: [0x5a; 48],
                now: FileTime(132_300_000_000_000_000),
            };
            suspend_to(&locked, &opened, &options, &AtomicBool::new(false), &Unobserved).unwrap();
            let Some(found) = dissect(&path(overlay), entry.offset_bytes, VOLUME_BYTES as u64) else {
                return;
            };
            let digest: String =
                sha2::Sha256::digest(&expected).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, digest, "{overlay} with {}", method.name());
        }
    }
}
