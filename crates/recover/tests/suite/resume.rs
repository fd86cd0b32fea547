use std::path::{Path, PathBuf};

use lifeboat_disk::ParentSearch;
use lifeboat_disk::fixtures::{MemoryFiles, differencing_vhdx, dynamic_vhdx, flat, gpt_disk};
use lifeboat_fve::fixtures::FormattedVolume;
use lifeboat_recover::{
    LockedVolume, PlainDisk, PlainSource, PlainVolume, RecoverError, SourceDisk, open_volume, partial_path,
};

use crate::fixture::{self, content, credential, from_files, locked, run, source, volume};

/// Several segments.
const VOLUME_BYTES: usize = 50 << 20;

#[track_caller]
fn interrupt(source: &dyn PlainSource, output: &Path) {
    fixture::interrupt(source, output, (VOLUME_BYTES as u64) * 4 / 5);
}

/// Calls `work` with a volume that lies in a file.
fn with_file<T>(path: &Path, volume: &FormattedVolume, work: impl FnOnce(&dyn PlainSource) -> T) -> T {
    let source = SourceDisk::open(path, &ParentSearch::default()).unwrap();
    let entry = source.layout.bitlocker_volumes().next().unwrap();
    let locked = LockedVolume::open(&source, 0, entry, None).unwrap();
    let opened = open_volume(&locked, &[credential(&volume.secrets[0].1)], &[], &[]).unwrap();
    work(&PlainVolume::new(&locked, &opened).unwrap())
}

#[test]
fn a_source_is_never_taken_for_its_own_output() {
    let (volume, expected) = volume(1, 2 << 20);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let refused = |source: &str, output: &str| {
        with_file(&path(source), &volume, |plain| {
            let result = run(plain, &path(output));
            assert!(
                matches!(
                    result,
                    Err(RecoverError::IsSource { .. }
                        | RecoverError::OtherPartial { .. }
                        | RecoverError::Exists { .. })
                ),
                "{source} to {output}: {result:?}"
            );
            // Nothing was left that a second run could take for its own.
            assert!(run(plain, &path(output)).is_err(), "{source} to {output}");
        });
        assert!(std::fs::read(path(source)).unwrap() == volume.image, "{source} to {output}");
    };
    // The source has the name that the temporary file, or the journal, would have.
    for name in ["v.raw.partial", "v.vhdx.partial", "w.raw.partial.journal"] {
        std::fs::write(path(name), &volume.image).unwrap();
    }
    refused("v.raw.partial", "v.raw");
    refused("v.vhdx.partial", "v.vhdx");
    refused("w.raw.partial.journal", "w.raw");
    refused("v.raw.partial", "v.raw.partial");
    // It is reached by another name.
    std::fs::write(path("disk.img"), &volume.image).unwrap();
    std::fs::hard_link(path("disk.img"), path("hard.raw.partial")).unwrap();
    refused("disk.img", "hard.raw");
    #[cfg(unix)]
    for name in ["link.raw.partial", "other.raw.partial.journal"] {
        std::os::unix::fs::symlink("disk.img", path(name)).unwrap();
    }
    #[cfg(unix)]
    refused("disk.img", "link.raw");
    #[cfg(unix)]
    refused("disk.img", "other.raw");
    // A link to what is not there makes no file elsewhere.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("elsewhere", path("away.raw.partial")).unwrap();
        refused("disk.img", "away.raw");
        assert!(!path("elsewhere").exists());
    }
    // Another name is fine.
    with_file(&path("disk.img"), &volume, |plain| run(plain, &path("good.raw")).unwrap());
    assert!(content(&path("good.raw")) == expected);
}

#[test]
fn what_stands_under_the_temporary_name_stays() {
    let (volume, _) = volume(2, 2 << 20);
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("v.raw");
    std::fs::write(partial_path(&output), b"someone's work").unwrap();
    fixture::with_plain(&source(&volume.image), &volume, |plain| {
        for _ in 0..2 {
            let result = run(plain, &output);
            assert!(matches!(result, Err(RecoverError::OtherPartial { .. })), "{result:?}");
            assert_eq!(std::fs::read(partial_path(&output)).unwrap(), b"someone's work");
        }
    });
}

#[test]
fn a_partial_output_goes_on_from_the_same_state_of_the_disk_only() {
    let (volume, _) = volume(3, VOLUME_BYTES);
    let (parts, size) = gpt_disk(&[&volume.image]);
    // The child changes one page of the volume, far from its metadata.
    let change = ((1 << 20) + (40 << 20), vec![0x5a; 4096]);
    let files = MemoryFiles::default()
        .with("base.vhdx", dynamic_vhdx(&parts, size))
        .with("child.avhdx", differencing_vhdx(&[change], size, 1, "base.vhdx"));
    let folder = tempfile::tempdir().unwrap();
    for name in ["volume.raw", "disk.raw"] {
        let output = folder.path().join(name);
        for path in ["base.vhdx", "child.avhdx"] {
            let source = from_files(&files, path);
            let locked = locked(&source);
            let opened = fixture::opened(&locked, &volume);
            let one = || PlainVolume::new(&locked, &opened).unwrap();
            let disk = PlainDisk::new(&source, vec![one()]);
            let volume = one();
            let plain: &dyn PlainSource = if name == "disk.raw" { &disk } else { &volume };
            if path == "base.vhdx" {
                interrupt(plain, &output);
            } else {
                let result = run(plain, &output);
                assert!(matches!(result, Err(RecoverError::OtherPartial { .. })), "{name}: {result:?}");
            }
        }
    }
    // A raw image states nothing of itself: its file does.
    let image: PathBuf = folder.path().join("disk.img");
    std::fs::write(&image, flat((parts, size))).unwrap();
    let output = folder.path().join("plain.raw");
    with_file(&image, &volume, |plain| interrupt(plain, &output));
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    file.set_modified(before + std::time::Duration::from_secs(5)).unwrap();
    let result = with_file(&image, &volume, |plain| run(plain, &output));
    assert!(matches!(result, Err(RecoverError::OtherPartial { .. })), "{result:?}");
    file.set_modified(before).unwrap();
    with_file(&image, &volume, |plain| run(plain, &output)).unwrap();
}

#[test]
fn bytes_that_do_not_belong_there_do_not_stay() {
    let (volume, expected) = volume(4, VOLUME_BYTES);
    let source = source(&volume.image);
    let locked = locked(&source);
    let opened = fixture::opened(&locked, &volume);
    let plain = PlainVolume::new(&locked, &opened).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["plain.raw", "plain.vhdx"] {
        let output = folder.path().join(name);
        interrupt(&plain, &output);
        // Garbage on every page that reads as zeros, and behind the end.
        let partial = partial_path(&output);
        let mut bytes = std::fs::read(&partial).unwrap();
        for page in bytes.chunks_mut(4096).filter(|page| page.iter().all(|&byte| byte == 0)) {
            page.fill(0xee);
        }
        bytes.extend(vec![0xee; 9 << 20]);
        std::fs::write(&partial, &bytes).unwrap();
        run(&plain, &output).unwrap();
        let found = content(&output);
        let wrong = found.chunks(4096).zip(expected.chunks(4096)).position(|(found, wanted)| found != wanted);
        assert_eq!((wrong, found.len()), (None, expected.len()), "{name}");
    }
}
