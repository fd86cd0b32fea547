use std::sync::atomic::AtomicBool;

use lifeboat_disk::fixtures::{flat, gpt_disk};
use lifeboat_fve::fixtures::{VolumeOptions, ntfs_plaintext};
use lifeboat_recover::{
    DecryptOptions, LockedVolume, PlainSource, PlainVolume, Unobserved, decrypt_to, open_volume, plan,
};

use crate::fixture::{credential, options, real_ntfs, source};

#[test]
fn a_metadata_copy_with_any_byte_wrong_costs_nothing() {
    let volume = VolumeOptions::default().format(ntfs_plaintext(1 << 20, 512, 1));
    let expected = volume.expected(ntfs_plaintext(1 << 20, 512, 1));
    let first = volume.metadata_offsets[0] as usize;
    let header_and_some = (0..160).chain((160..700).step_by(7));
    for place in header_and_some {
        let mut image = volume.image.clone();
        image[first + place] ^= 0xff;
        let source = source(&image);
        let locked = LockedVolume::open(&source, 0, &source.layout.volumes[0], None).unwrap();
        let key = [lifeboat_fve::Credential::ExternalKey(lifeboat_fve::ExternalKey {
            id: lifeboat_fve::Guid([0; 16]),
            created: lifeboat_fve::FileTime(0),
            saved: lifeboat_fve::FileTime(0),
            volume_id: None,
            key: lifeboat_fve::Key256::new([0; 32]),
        })];
        assert!(open_volume(&locked, &key, &[], &[]).is_err());
        // The map alone, without the stretch of a password.
        let map = locked.fve().map(locked.fve().metadata()).unwrap();
        let key = lifeboat_fve::VolumeKey::new(volume.volume_key.method, volume.volume_key.expose().to_vec());
        let plain = lifeboat_fve::DecryptedVolume::new(locked.fve().reader(), map, Some(&key)).unwrap();
        let mut head = vec![0; 64 << 10];
        plain.read(0, &mut head).unwrap();
        assert!(head == expected[..64 << 10], "{place}");
    }
}

#[test]
fn sizes_that_lie_neither_allocate_nor_loop() {
    let volume = VolumeOptions::default().format(ntfs_plaintext(1 << 20, 512, 2));
    let disk = flat(gpt_disk(&[&volume.image]));
    let start = 1 << 20;
    let copies = volume.metadata_offsets.map(|offset| start + offset as usize);
    // Fields of the metadata header, the same lie in all copies, with checksums that fit.
    for (at, length) in [(8, 2), (10, 2), (12, 2), (14, 2), (16, 8), (24, 4), (28, 4), (32, 8), (56, 8)] {
        for value in [0, 1, u64::MAX, 1 << 62, (1 << 40) + 512] {
            let mut disk = disk.clone();
            for copy in copies {
                disk[copy + at..copy + at + length].copy_from_slice(&value.to_le_bytes()[..length]);
                let size = usize::from(u16::from_le_bytes([disk[copy + 8], disk[copy + 9]])) << 4;
                if size + 8 < 64 << 10 {
                    let crc = crc32(&disk[copy..copy + size]);
                    disk[copy + size + 4..copy + size + 8].copy_from_slice(&crc.to_le_bytes());
                }
            }
            let source = source(&disk);
            let Some(volume_entry) = source.layout.bitlocker_volumes().next() else { continue };
            let Ok(locked) = LockedVolume::open(&source, 0, volume_entry, None) else { continue };
            let _ = plan(std::slice::from_ref(&source), std::slice::from_ref(&locked), &[]);
            let Ok(opened) = open_volume(&locked, &[credential(&volume.secrets[0].1)], &[], &[]) else {
                continue;
            };
            let Ok(plain) = PlainVolume::new(&locked, &opened) else { continue };
            assert!(plain.size_bytes() <= 1 << 20);
            let folder = tempfile::tempdir().unwrap();
            let output = folder.path().join("plain");
            let options = DecryptOptions { skip_unallocated: true, ..options(&output) };
            decrypt_to(&plain, &options, &AtomicBool::new(false), &Unobserved).unwrap();
            assert!(output.metadata().unwrap().len() <= 1 << 20);
        }
    }
}

#[test]
fn a_file_system_with_bytes_wrong_ends_in_an_answer() {
    let original = real_ntfs();
    // Boot sector, master file table, indexes: whatever is hit, an answer or an error comes.
    let mft = u64::from_le_bytes(original[48..56].try_into().unwrap()) as usize * 4096;
    let places = (11..72).chain((mft..mft + (40 << 10)).step_by(97));
    std::panic::set_hook(Box::new(|_| {}));
    for place in places {
        let mut image = original.clone();
        image[place] ^= 0xff;
        lifeboat_recover::fuzzing::files(&image);
    }
    let _ = std::panic::take_hook();
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
