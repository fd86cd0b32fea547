use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use lifeboat_disk::fixtures::{MemoryFiles, differencing_vhdx, dynamic_vhdx, flat, gpt_disk};
use lifeboat_fve::fixtures::{ConversionOptions, VolumeOptions, ntfs_plaintext};
use lifeboat_fve::{EncryptionMethod, Reserved};
use lifeboat_recover::{
    DecryptOptions, PlainDisk, PlainSource, PlainVolume, RecoverError, Unobserved, decrypt_to, open_volume,
    partial_path,
};

use crate::fixture::{self, content, credential, from_files, locked, options, run, source, volume};

/// Several segments, so that cores share the work.
const VOLUME_BYTES: usize = 50 << 20;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn raw_and_vhdx_hold_the_plain_volume() {
    let (volume, expected) = volume(1, VOLUME_BYTES);
    let folder = tempfile::tempdir().unwrap();
    let source = source(&volume.image);
    let locked = locked(&source);
    let opened = fixture::opened(&locked, &volume);
    let plain = PlainVolume::new(&locked, &opened).unwrap();
    for name in ["plain.raw", "plain.vhdx"] {
        let output = folder.path().join(name);
        let report = run(&plain, &output).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.plain_bytes, VOLUME_BYTES as u64);
        assert!(content(&output) == expected, "{name}");
        assert!(matches!(run(&plain, &output), Err(RecoverError::Exists { .. })));
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
            let metadata = output.metadata().unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
            // Every fifth page of the fixture is zeros.
            assert!(metadata.blocks() * 512 < VOLUME_BYTES as u64 * 9 / 10, "{name} is sparse");
        }
    }
    assert_eq!(names(folder.path()), ["plain.raw", "plain.vhdx"]);
}

#[test]
fn an_interrupted_output_is_finished_later_and_proves_itself() {
    let (volume, expected) = volume(2, VOLUME_BYTES);
    let folder = tempfile::tempdir().unwrap();
    let source = source(&volume.image);
    let locked = locked(&source);
    let opened = fixture::opened(&locked, &volume);
    let plain = PlainVolume::new(&locked, &opened).unwrap();
    for name in ["plain.raw", "plain.vhdx"] {
        let output = folder.path().join(name);
        let interrupt = || fixture::interrupt(&plain, &output, 40 << 20);
        interrupt();
        // The journal outlived some of the bytes, and its own last line was cut.
        let partial = partial_path(&output);
        let mut bytes = std::fs::read(&partial).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle..middle + 4096].iter_mut().for_each(|byte| *byte ^= 0xff);
        std::fs::write(&partial, &bytes).unwrap();
        let journal = folder.path().join(format!("{name}.partial.journal"));
        let mut text = std::fs::read(&journal).unwrap();
        text.extend_from_slice(b"S 99");
        std::fs::write(&journal, &text).unwrap();
        // Interrupted once more, then finished.
        interrupt();
        let report = run(&plain, &output).unwrap();
        assert!(report.resumed_bytes > 0, "{report:?}");
        assert!(content(&output) == expected, "{name}");
    }
    assert_eq!(names(folder.path()), ["plain.raw", "plain.vhdx"]);
}

#[test]
fn another_volume_is_not_written_into_a_partial_output() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("plain.raw");
    let (first, _) = volume(3, VOLUME_BYTES);
    let (second, _) = volume(4, VOLUME_BYTES);
    for (volume, is_first) in [(&first, true), (&second, false)] {
        let source = source(&volume.image);
        let locked = locked(&source);
        let opened = fixture::opened(&locked, volume);
        let plain = PlainVolume::new(&locked, &opened).unwrap();
        let cancel = AtomicBool::new(is_first);
        let result = decrypt_to(&plain, &options(&output), &cancel, &Unobserved);
        match is_first {
            true => assert!(matches!(result, Err(RecoverError::Interrupted { .. })), "{result:?}"),
            false => assert!(matches!(result, Err(RecoverError::OtherPartial { .. })), "{result:?}"),
        }
    }
}

#[test]
fn a_whole_disk_comes_out_with_its_volumes_in_place() {
    let (volume, expected) = volume(5, VOLUME_BYTES);
    let other = ntfs_plaintext(3 << 20, 512, 6);
    let (parts, size) = gpt_disk(&[&other, &volume.image]);
    let mut whole = flat((parts.clone(), size));
    let start = whole.len() - (1 << 20) - VOLUME_BYTES;
    whole[start..start + VOLUME_BYTES].copy_from_slice(&expected);
    let change = ((1 << 20) + 8192, vec![9; 4096]);
    whole[change.0 as usize..][..4096].copy_from_slice(&change.1);
    let files = MemoryFiles::default()
        .with("base.vhdx", dynamic_vhdx(&parts, size))
        .with("disk.avhdx", differencing_vhdx(&[change], size, 1, "base.vhdx"));
    let source = from_files(&files, "disk.avhdx");
    let locked = locked(&source);
    assert_eq!(locked.place.number, 2);
    let opened = fixture::opened(&locked, &volume);
    let folder = tempfile::tempdir().unwrap();
    for name in ["disk.raw", "disk.vhdx"] {
        let plain = PlainDisk::new(&source, vec![PlainVolume::new(&locked, &opened).unwrap()]);
        let output = folder.path().join(name);
        assert!(run(&plain, &output).unwrap().is_whole());
        assert!(content(&output) == whole, "{name}");
    }
}

#[test]
fn what_is_missing_is_said() {
    let (volume, expected) = volume(7, VOLUME_BYTES);
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, source: &lifeboat_recover::SourceDisk<_>| {
        let output = folder.path().join(name);
        let report = fixture::with_plain(source, &volume, |plain| run(plain, &output).unwrap());
        (report, content(&output))
    };
    // A raw volume that ends early, in the middle of a page.
    let end = (33 << 20) + 512;
    let (report, bytes) = check("cut.raw", &source(&volume.image[..end]));
    assert_eq!((report.plain_bytes, report.missing_bytes), (end as u64, 0));
    assert_eq!(report.stated_bytes, VOLUME_BYTES as u64);
    assert!(!report.is_whole());
    assert!(bytes == expected[..end]);
    // A VHDX whose file ends early: the blocks behind are missing, wherever they belong.
    let (parts, size) = gpt_disk(&[&volume.image]);
    let whole = dynamic_vhdx(&parts, size).to_bytes();
    let cut = &whole[..whole.len() - (5 << 20)];
    let files = MemoryFiles::default().with_bytes("disk.vhdx", cut);
    let (report, bytes) = check("vhdx.raw", &from_files(&files, "disk.vhdx"));
    assert!(report.missing_bytes > 3 << 20 && report.missing_bytes <= 5 << 20, "{report:?}");
    assert!(report.first_failure.is_some());
    let mut known = expected.clone();
    for range in &report.missing {
        known[range.start as usize..range.end as usize].fill(0);
    }
    assert_eq!(report.missing.iter().map(|range| range.end - range.start).sum::<u64>(), report.missing_bytes);
    assert!(bytes == known);
}

#[test]
fn what_was_never_written_can_be_left_empty() {
    let (mut volume, _) = volume(8, VOLUME_BYTES);
    // 8 MiB that the guest never wrote: zeros on the disk, noise when decrypted.
    let hole = (20 << 20)..(28 << 20);
    assert!(volume.reserved.iter().all(|range| range.end <= hole.start || range.start >= hole.end));
    volume.image[hole.start as usize..hole.end as usize].fill(0);
    let (parts, size) = gpt_disk(&[&volume.image]);
    let files = MemoryFiles::default().with("disk.vhdx", dynamic_vhdx(&parts, size));
    let source = from_files(&files, "disk.vhdx");
    let locked = locked(&source);
    let opened = fixture::opened(&locked, &volume);
    let plain = PlainVolume::new(&locked, &opened).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [all, some] = [false, true].map(|skip_unallocated| {
        let output = folder.path().join(format!("{skip_unallocated}.raw"));
        let options = DecryptOptions { skip_unallocated, ..options(&output) };
        decrypt_to(&plain, &options, &AtomicBool::new(false), &Unobserved).unwrap();
        content(&output)
    });
    let (start, end) = (hole.start as usize, hole.end as usize);
    assert!(some[start..end].iter().all(|&byte| byte == 0));
    assert!(all[start..end].chunks(512).all(|sector| sector.iter().any(|&byte| byte != 0)));
    assert!(all[..start] == some[..start] && all[end..] == some[end..]);
    assert!(plain.copied_bytes(true) <= plain.copied_bytes(false) - (8 << 20));
}

#[test]
fn partly_converted_and_decrypted_volumes_come_out() {
    let bytes = 4 << 20;
    for (conversion, windows_7_datums) in
        [(ConversionOptions::Decrypted, false), (ConversionOptions::Finished, true)]
    {
        let plain = ntfs_plaintext(bytes, 512, 11);
        let method = EncryptionMethod::AES_CBC_128_ELEPHANT;
        let options = VolumeOptions { conversion, windows_7_datums, method, ..VolumeOptions::default() };
        let volume = options.format(plain.clone());
        let source = source(&volume.image);
        let locked = locked(&source);
        let keys: Vec<_> = volume.secrets.iter().map(|(_, secret)| credential(secret)).collect();
        let opened = open_volume(&locked, &keys, &[], &[]).unwrap();
        let plain_volume = PlainVolume::new(&locked, &opened).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let output: PathBuf = folder.path().join("plain");
        run(&plain_volume, &output).unwrap();
        assert!(content(&output) == volume.expected(plain));
        let map = plain_volume.decrypted().map();
        let zeros = map
            .extents(0..bytes as u64)
            .filter(|extent| matches!(extent.content, lifeboat_fve::Content::Zeros(Reserved::Metadata)));
        assert_eq!(zeros.count(), 3);
    }
}
